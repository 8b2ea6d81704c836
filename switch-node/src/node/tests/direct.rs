//! A node's direct RVI: its legs, and what they had not delivered when they go.

use super::*;

#[test]
fn what_a_closed_direct_rvi_did_not_deliver_is_relayed_and_what_a_dead_peer_held_is_counted() {
    //= spec/driver.md#after-the-end-of-a-direct-rvi
    //= type=test
    //# When a direct RVI ends in order, the driver MUST send what the peer did not take by relay, in order and before
    //# anything new to that peer; when the peer's process died, it MUST count what the peer had not taken as peer-gone.
    for closed in [true, false] {
        let mut node = node();
        let mut control = Far::control(&mut node, 1);
        let mut peer = direct(&mut node, &mut control);
        if closed {
            peer.0.leave_leg(NOW, LEG);
        }
        drop(peer);
        node.handle_leg_gone(NOW, PeerId::Node(NodeNumber(2)), ProcessId(22), LEG);
        turn(&mut node);
        send(&mut node, PEER, 3);
        let numbers: Vec<u8> = control.frames().iter().map(|(_, number)| *number).collect();
        let lost = drops(&node, DropReason::PeerGone);
        if closed {
            assert_eq!((numbers, lost), (vec![1, 2, 3], 0));
        } else {
            assert_eq!((numbers, lost), (vec![3], 2));
        }
    }
}

#[test]
fn a_leg_is_not_hung_up_for_an_earlier_one_of_its_name() {
    //= spec/rvi.md#legs-of-the-same-name
    //= type=test
    //# When a leg takes the place of another of its name, a machine MUST take back what it wanted done to the earlier one.
    let closed = |node: &mut Node| {
        let outputs = core::iter::from_fn(|| node.poll_output());
        outputs.filter(|output| matches!(output, Output::CloseLeg { .. })).count()
    };
    for is_closed_before in [true, false] {
        let mut node = node();
        let mut control = Far::control(&mut node, 1);
        let earlier = direct(&mut node, &mut control);
        closed(&mut node);
        node.leave_direct_leg(NOW, NodeNumber(2), LEG);
        if is_closed_before {
            assert_eq!(closed(&mut node), 1);
        }
        // The node was stopped: the hang-up of the earlier leg and the next leg are there at once.
        drop(earlier);
        node.handle_leg_gone(NOW, PeerId::Node(NodeNumber(2)), ProcessId(22), LEG);
        let next = Far::connect(&mut node, PeerId::Node(NodeNumber(2)), 22, &[DIRECT]);
        turn(&mut node);
        assert_eq!(closed(&mut node), 0);
        assert!(node.direct_to(NodeNumber(2)).is_some() && next.0.is_up());
    }
}

#[test]
fn a_control_node_is_told_of_a_leg_that_was_introduced_and_is_missing() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let peer = direct(&mut node, &mut control);
    let (of, leg) = (NodeNumber(2), LEG.0 + 1);
    let mut missing_after = |node: &mut Node, seconds| {
        node.handle_timeout(NOW + Duration::from_secs(seconds));
        node.publish(NOW + Duration::from_secs(seconds));
        let told = control.told();
        told.contains(&ControlMessage::LegMissing { peer: of, process: ProcessId(22), leg })
    };
    node.handle_introduced_leg(NOW, of, LEG);
    node.handle_introduced_leg(NOW, of, LegNumber(leg));
    assert!(node.poll_timeout().is_some_and(|at| at <= NOW + Duration::from_secs(3)));
    assert!(!missing_after(&mut node, 2));
    assert!(missing_after(&mut node, 3));
    assert!(!missing_after(&mut node, 5));
    assert!(missing_after(&mut node, 6));
    node.cut_direct_leg(NOW, of, LegNumber(leg));
    assert!(!missing_after(&mut node, 90));
    drop(peer);
}

#[test]
fn an_rvi_that_is_granted_again_has_other_legs_and_keeps_its_way() {
    //= spec/driver.md#packet-legs-behind-shared-memory
    //= type=test
    //# A node MUST go on sending by a packet leg in whose place its association was granted shared memory.
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let mut peer = direct(&mut node, &mut control);
    peer.take(10);
    assert!(packet_legs(&node).is_empty());
    control.tell(&mut node, &grant(&[0, 2]));
    assert_eq!(packet_legs(&node), [0, 2]);
    assert_eq!(send(&mut node, PEER, 9), Accept::Taken);
    assert_eq!(peer.frames().iter().map(|(_, number)| *number).collect::<Vec<_>>(), [9]);
    assert!(control.take(10).is_empty(), "a barrier, or a frame by relay");
    control.tell(&mut node, &ControlMessage::LegCut { peer: NodeNumber(2), leg: 2 });
    assert_eq!(packet_legs(&node), [0]);
    // The place of the other is shared memory's now: what it has still goes by it.
    control.tell(&mut node, &grant(&[]));
    assert_eq!(packet_legs(&node), [0]);
    control.tell(&mut node, &ControlMessage::LegCut { peer: NodeNumber(2), leg: 0 });
    assert!(packet_legs(&node).is_empty());
}

#[test]
fn a_word_about_a_relay_that_is_not_lost_ends_no_barrier() {
    //= spec/driver.md#words-about-a-lost-relay
    //= type=test
    //# A node that is attached MUST ignore a RELAY_DRAINED, and ask for it when its own control node is lost.
    for waiting in [false, true] {
        let mut node = node();
        let mut control = Far::control(&mut node, 1);
        control.tell(&mut node, &grant(&[]));
        let mut peer = Far::connect(&mut node, PeerId::Node(NodeNumber(2)), 22, &[DIRECT]);
        turn(&mut node);
        assert_eq!(control.take(10).len(), 1, "the barrier");
        peer.send(DIRECT, &ControlMessage::RelayDrained { waiting }.emit());
        turn(&mut node);
        assert_eq!(send(&mut node, PEER, 1), Accept::Taken, "held");
        assert!(peer.take(10).is_empty(), "a frame before the barrier came back, or an answer");
    }
}

#[test]
fn what_was_relayed_before_an_echoed_barrier_is_never_sent_again() {
    //= spec/driver.md#before-an-echoed-barrier
    //= type=test
    //# A node MUST NOT send a relayed frame or a copy again behind which a barrier to the same peer has ended.
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    // One of its receivers keeps the control node from settling anything.
    let _hold = control.0.hold();
    send(&mut node, PEER, 10);
    send(&mut node, MacAddress::BROADCAST, 11);
    assert_eq!(control.frames().len(), 2);
    let mut peer = direct(&mut node, &mut control);
    send(&mut node, MacAddress::BROADCAST, 12);
    peer.0.leave_leg(NOW, LEG);
    drop(peer);
    node.handle_leg_gone(NOW, PeerId::Node(NodeNumber(2)), ProcessId(22), LEG);
    turn(&mut node);
    let numbers = |far: &mut Far| far.frames().iter().map(|(_, number)| *number).collect::<Vec<_>>();
    assert_eq!(numbers(&mut control), [12, 1, 2], "the direct RVI's own have come back");
    lose_control(&mut node, 1);
    let mut control = Far::control(&mut node, 2);
    turn(&mut node);
    assert_eq!(numbers(&mut control), [11, 12, 1, 2]);
}

#[test]
fn what_comes_back_from_a_direct_rvi_keeps_the_number_that_it_was_relayed_with() {
    //= spec/driver.md#numbers-of-frames-that-come-back
    //= type=test
    //# A frame that was sent again on a direct RVI and comes back from it MUST keep its number.
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let _hold = control.0.hold();
    for number in [10, 11] {
        send(&mut node, PEER, number);
    }
    let first: Vec<u32> = control.frames().iter().map(|(header, _)| header.bseq).collect();
    control.tell(&mut node, &grant(&[]));
    let mut peer = Far::connect(&mut node, PeerId::Node(NodeNumber(2)), 22, &[DIRECT]);
    turn(&mut node);
    lose_control(&mut node, 1);
    // The peer has drained what the control node left it: what was not settled goes over the direct RVI.
    peer.send(DIRECT, &ControlMessage::RelayDrained { waiting: false }.emit());
    turn(&mut node);
    send(&mut node, PEER, 12);
    peer.0.leave_leg(NOW, LEG);
    drop(peer);
    node.handle_leg_gone(NOW, PeerId::Node(NodeNumber(2)), ProcessId(22), LEG);
    turn(&mut node);
    for process in [2, 3] {
        let mut control = Far::control(&mut node, process);
        let _hold = control.0.hold();
        turn(&mut node);
        let came: Vec<_> =
            control.frames().iter().map(|(h, number)| (h.bseq, h.flags & 1, *number)).collect();
        let third = first[1].wrapping_add(1);
        let is_new = u8::from(process == 3);
        assert_eq!(came[..2], [(first[0], 1, 10), (first[1], 1, 11)], "control node {process}");
        assert_eq!((came[2].1, came[2].2, came.len()), (is_new, 12, 3));
        assert!(came[2].0.wrapping_sub(third) < 10, "{came:?}");
        lose_control(&mut node, process);
    }
}
