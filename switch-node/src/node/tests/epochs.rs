//! Legs and grants of associations that are over, and of others than the one that is there.

use super::*;

const PEER_NODE: NodeNumber = NodeNumber(2);
const PEER_PROCESS: ProcessId = ProcessId(22);
const NEXT: PairEpoch = PairEpoch(EPOCH.0 + 1);

/// The grant of [`grant`], without packet legs, in another epoch.
fn grant_in(epoch: PairEpoch) -> ControlMessage {
    let ControlMessage::Grant(mut granted) = grant(&[]) else { panic!("a grant") };
    granted.association.epoch = epoch;
    ControlMessage::Grant(granted)
}

/// Offers the node a leg of `epoch`; what it said of it, and the peer's end.
fn offer(node: &mut Node, epoch: PairEpoch) -> (bool, Far) {
    let (near, far) = leg_pair();
    let is_up = node.handle_leg_up(NOW, PEER_NODE, PEER_PROCESS, epoch, LEG, near);
    (is_up, Far::on(far, &[DIRECT]))
}

/// A frame of the peer's interface to the node's.
fn frame_to_node() -> Vec<u8> {
    let header = FrameHeader {
        kind: FrameKind::Unicast,
        flags: 0,
        lan: LanId(10),
        origin: PEER_NODE,
        origin_vif: VIF,
        destination_vif: VIF,
        vnet: Vnet::default(),
        boot: BootTag(0),
        bseq: 0,
    };
    let frame = [&OWN.0[..], &PEER.0, &[0; 48]].concat();
    [&header.emit(frame.len())[..], &frame].concat()
}

/// How many frames the stack gets of what is there now.
fn delivered(node: &mut Node) -> usize {
    let mut sink = Sink::default();
    node.receive(NOW, 1000, &mut sink);
    node.publish(NOW);
    sink.0
}

/// What the peer gets back once its leg has hung up: each of it certainly not taken.
fn returned(far: &mut Far) -> usize {
    assert_eq!(far.0.handle_leg_gone(NOW, LEG), rvi::LegEnd::Closed);
    let mut count = 0;
    far.0.drain_unsent(&mut |_, _, unsent| {
        assert_eq!(unsent, rvi::Unsent::Ring { maybe_taken: false });
        count += 1;
    });
    count
}

fn epoch(node: &Node) -> Option<PairEpoch> {
    let place = node.direct_to(PEER_NODE)?;
    node.direct[place].as_ref().map(|link| link.epoch())
}

#[test]
fn a_grant_opens_no_leg_of_another_epoch() {
    //= spec/rvi.md#epochs-of-a-pair
    //= type=test
    //# A leg between two nodes MUST carry the epoch of the association that it was made for, and an end MUST take a leg or a
    //# grant only into the association of that epoch: it ends one of another epoch first.
    //= spec/rvi.md#before-the-first-channel
    //= type=test
    //# An end MUST NOT take data from a leg before a channel of an interface has been open in the session.
    for granted in [EPOCH, NEXT] {
        let mut node = node();
        let mut control = Far::control(&mut node, 1);
        // The peer goes on with its session by a leg that this node gets before any grant.
        let (is_up, mut far) = offer(&mut node, EPOCH);
        assert!(is_up);
        far.send(DIRECT, &frame_to_node());
        assert_eq!(delivered(&mut node), 0);
        control.0.send_control(NOW, &grant_in(granted).emit()).expect("room");
        control.0.publish();
        let is_same = granted == EPOCH;
        assert_eq!(delivered(&mut node), usize::from(is_same));
        assert_eq!(epoch(&node), Some(granted));
        assert_eq!(closes(&outputs(&mut node), PeerId::Node(PEER_NODE)), !is_same);
        assert_eq!(drops(&node, DropReason::NoChannel), 0);
        node.close_direct(NOW, PEER_NODE);
        assert_eq!(returned(&mut far), usize::from(!is_same), "what was not taken goes another way");
    }
}

/// A node whose association was ended by a leg of the next one, with two frames that its peer had not taken, and its control
/// node.
fn superseded() -> (Node, Far) {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let mut peer = direct(&mut node, &mut control);
    // The peer has ended the association, and this node has not heard of it.
    peer.0.leave_leg(NOW, LEG);
    let (is_up, _next) = offer(&mut node, NEXT);
    assert!(is_up);
    turn(&mut node);
    assert_eq!(epoch(&node), Some(NEXT));
    (node, control)
}

#[test]
fn a_leg_of_another_epoch_ends_the_association_that_is_there() {
    let (node, mut control) = superseded();
    let numbers: Vec<u8> = control.frames().iter().map(|(_, number)| *number).collect();
    assert_eq!((numbers, drops(&node, DropReason::PeerGone)), (vec![1, 2], 0));
}

#[test]
fn a_control_node_that_has_gone_on_to_another_epoch_is_not_told_of_the_former() {
    let (_, mut control) = superseded();
    let told = control.told();
    let lost = |message: &ControlMessage| matches!(message, ControlMessage::DirectLost { .. });
    assert!(!told.iter().any(lost), "it would be taken for the loss of the next one: {told:?}");
}

#[test]
fn what_packets_had_not_proven_is_not_carried_on_in_another_epoch() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let far = super::packets::FarPackets::connect(&mut node, &mut control);
    for number in 0..3 {
        assert_eq!(send(&mut node, PEER, number), Accept::Taken);
    }
    control.tell(&mut node, &grant_in(NEXT));
    assert_eq!(epoch(&node), Some(NEXT));
    let link = node.direct_to(PEER_NODE).and_then(|place| node.direct[place].as_ref()).expect("a link");
    assert!(link.association.is_drained() && !link.association.has_packets());
    let numbers: Vec<u8> = control.frames().iter().map(|(_, number)| *number).collect();
    assert_eq!((numbers, far.frames()), (vec![0, 1, 2], 0));
}

#[test]
fn what_is_of_an_ended_association_is_refused() {
    //= spec/rvi.md#ended-epochs
    //= type=test
    //# An end MUST refuse a leg or a grant of an epoch whose association has ended there or is being left.
    //= spec/rvi.md#refused-legs
    //= type=test
    //# An end that refuses a leg MUST mark its own region CLOSED with nothing taken before it hangs up.
    for is_over in [false, true] {
        let mut node = node();
        let mut control = Far::control(&mut node, 1);
        let mut peer = direct(&mut node, &mut control);
        let (rvi, peer_node, reason) = (RviNumber(7), PEER_NODE, RevokeReason::Cut);
        control.tell(&mut node, &ControlMessage::Revoke { rvi, peer: peer_node, reason });
        if is_over {
            peer.0.leave_leg(NOW, LEG);
            node.handle_leg_gone(NOW, PeerId::Node(PEER_NODE), PEER_PROCESS, LEG);
            turn(&mut node);
        }
        outputs(&mut node);
        let (is_up, mut far) = offer(&mut node, EPOCH);
        assert!(!is_up);
        far.send(DIRECT, &frame_to_node());
        control.tell(&mut node, &grant_in(EPOCH));
        assert_eq!((delivered(&mut node), epoch(&node)), (0, (!is_over).then_some(EPOCH)));
        assert!(outputs(&mut node).iter().all(|output| matches!(output, Output::Log(_))));
        assert_eq!(returned(&mut far), 1);
        // The next one has nothing to do with it.
        control.tell(&mut node, &grant_in(NEXT));
        assert_eq!(epoch(&node), Some(NEXT));
        assert!(offer(&mut node, NEXT).0);
    }
}

#[test]
fn a_node_that_ends_refuses_the_legs_that_come_late() {
    let mut node = node();
    let _control = Far::control(&mut node, 1);
    node.leave(NOW);
    let (is_up, mut far) = offer(&mut node, EPOCH);
    assert!(!is_up);
    far.send(DIRECT, &frame_to_node());
    assert_eq!(returned(&mut far), 1);
}

#[test]
fn the_hang_up_of_an_earlier_associations_leg_ends_nothing() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let _peer = direct(&mut node, &mut control);
    control.tell(&mut node, &grant_in(NEXT));
    node.handle_leg_gone(NOW, PeerId::Node(PEER_NODE), PEER_PROCESS, LEG);
    turn(&mut node);
    assert_eq!(epoch(&node), Some(NEXT));
}

#[test]
fn a_leg_that_comes_back_is_not_waited_for_as_one_that_was_left() {
    //= spec/rvi.md#legs-of-the-same-name
    //= type=test
    //# When a leg takes the place of another of its name, a machine MUST take back what it wanted done to the earlier one.
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let _peer = direct(&mut node, &mut control);
    let cut = ControlMessage::LegCut { peer: PEER_NODE, leg: LEG.0 };
    control.tell(&mut node, &cut);
    let (_, far) = offer(&mut node, EPOCH);
    node.handle_timeout(NOW + LEAVE_WAIT);
    turn(&mut node);
    assert_eq!(epoch(&node), Some(EPOCH));
    assert!(far.0.is_up() && !closes(&outputs(&mut node), PeerId::Node(PEER_NODE)));
    control.tell(&mut node, &cut);
    assert!(closes(&outputs(&mut node), PeerId::Node(PEER_NODE)), "it can be cut in turn");
}

#[test]
fn a_control_node_hears_of_an_association_that_ends_during_the_registration() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let mut peer = direct(&mut node, &mut control);
    peer.take(10);
    lose_control(&mut node, 1);
    let mut control = Far::connect(&mut node, PeerId::ControlNode(0), 2, &[]);
    peer.0.leave_leg(NOW, LEG);
    node.handle_leg_gone(NOW, PeerId::Node(PEER_NODE), PEER_PROCESS, LEG);
    turn(&mut node);
    let told = control.told();
    let lost = ControlMessage::DirectLost { peer: PEER_NODE, process: PEER_PROCESS };
    assert!(
        matches!(told.first(), Some(ControlMessage::Register { .. })) && told.contains(&lost),
        "{told:?}"
    );
}
