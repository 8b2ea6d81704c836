//! Promiscuous listeners: what is told to control nodes, and the copies that a node makes and takes.

use super::*;

const STRANGER: MacAddress = MacAddress([2, 9, 9, 9, 9, 9]);

fn listener(process: u64, listens: bool) -> ControlMessage {
    let at = Location {
        cabinet: CabinetNumber(1),
        node: NodeNumber(2),
        vif: VIF,
        lan: LanId(10),
        generation: process,
        ..Location::default()
    };
    ControlMessage::Promiscuous { listener: at, listens }
}

/// Takes everything; gives the numbers in data frames and in copies.
fn numbers(far: &mut Far) -> (Vec<u8>, Vec<u8>) {
    let (copies, frames): (Vec<_>, Vec<_>) =
        far.frames().into_iter().partition(|(header, _)| header.kind == FrameKind::Promiscuous);
    let numbers = |frames: Vec<(FrameHeader, u8)>| frames.into_iter().map(|(_, number)| number).collect();
    (numbers(frames), numbers(copies))
}

fn said(far: &mut Far) -> Vec<bool> {
    let said = far.told().into_iter().filter_map(|message| match message {
        ControlMessage::Promiscuous { listener, listens } => {
            assert_eq!((listener.node, listener.vif, listener.generation), (NodeNumber(1), VIF, 11));
            Some(listens)
        }
        _ => None,
    });
    said.collect()
}

#[test]
fn a_control_node_is_told_which_interfaces_are_promiscuous_and_every_change() {
    //= spec/promiscuous.md#entering-and-leaving
    //= type=test
    //# A node MUST tell each control node that accepts it which of its interfaces are promiscuous, and every change after
    //# that.
    let mut node = node();
    let mut far = Far::control(&mut node, 7);
    assert!(said(&mut far).is_empty());
    for is_promiscuous in [true, true, false, true] {
        node.handle_promiscuity(NOW, VIF, is_promiscuous);
    }
    node.publish(NOW);
    assert_eq!(said(&mut far), [true, false, true]);
    let refusals = outputs(&mut node)
        .into_iter()
        .filter(|output| matches!(output, Output::Log(NodeEvent::MayNotListen { .. })));
    assert_eq!(refusals.count(), 1, "said once");
    drop(far);
    lose_control(&mut node, 7);
    let mut far = Far::control(&mut node, 8);
    assert!(said(&mut far).iter().all(|listens| *listens));
    node.handle_promiscuity(NOW, VIF, false);
    drop(far);
    lose_control(&mut node, 8);
    // It may remember a listener that has ended meanwhile.
    assert!(said(&mut Far::control(&mut node, 9)).contains(&false));
}

#[test]
fn an_interface_that_is_promiscuous_listens_as_soon_as_it_may() {
    //= spec/promiscuous.md#changed-permission
    //= type=test
    //# When a member loses its permission to listen, its control node MUST end it as a listener at once; when it gets one, its
    //# node MUST say at once that its interface is promiscuous, if it is.
    let mut node = node();
    let mut far = Far::control(&mut node, 7);
    let mut config = node.interfaces().next().expect("an interface").config.clone();
    let mut told = |node: &mut Node, may_listen| {
        config.may_listen = may_listen;
        far.tell(node, &ControlMessage::Interface(config.clone()));
        node.publish(NOW);
        said(&mut far)
    };
    assert!(told(&mut node, true).is_empty(), "it is not promiscuous");
    node.handle_promiscuity(NOW, VIF, true);
    assert_eq!(told(&mut node, false), [true], "what it has said before");
    assert_eq!(told(&mut node, true), [true]);
    assert!(told(&mut node, false).is_empty());
}

#[test]
fn each_unicast_frame_is_copied_once_to_who_listens_and_is_not_its_destination() {
    //= spec/promiscuous.md#copies
    //= type=test
    //# The driver MUST send one copy of each unicast frame that it accepts from its stack to each listener of the LAN but
    //# the frame's destination, under a header of its own of type promiscuous that names the listener's interface.
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    send(&mut node, STRANGER, 1);
    assert_eq!(numbers(&mut control), (vec![1], vec![]), "nobody listens");
    control.tell(&mut node, &listener(22, true));
    send(&mut node, STRANGER, 2);
    let taken = control.take(10);
    let headers: Vec<_> =
        taken.iter().map(|(_, octets)| FrameHeader::parse(octets, octets.len()).unwrap()).collect();
    assert_eq!([headers[0].kind, headers[1].kind], [FrameKind::Relay, FrameKind::Promiscuous]);
    assert_eq!(headers[1].bseq, headers[0].bseq.wrapping_add(1));
    assert_eq!(FrameHeader::parse_listener(&taken[1].1), Ok(NodeNumber(2)));
    assert_eq!(taken[0].1[32..], taken[1].1[40..], "the frame as it is");
    send(&mut node, PEER, 3);
    send(&mut node, MacAddress::BROADCAST, 4);
    assert_eq!(numbers(&mut control), (vec![3, 4], vec![]), "to itself, and to all");
    control.tell(&mut node, &listener(22, false));
    send(&mut node, STRANGER, 5);
    assert_eq!(numbers(&mut control), (vec![5], vec![]));
}

#[test]
fn copies_follow_the_way_of_their_listeners_frames_in_order() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    control.tell(&mut node, &listener(22, true));
    control.tell(&mut node, &grant(&[]));
    send(&mut node, STRANGER, 1);
    let mut peer = Far::connect(&mut node, PeerId::Node(NodeNumber(2)), 22, &[DIRECT]);
    turn(&mut node);
    send(&mut node, STRANGER, 2);
    let id = control.take(10).iter().find_map(|(_, octets)| match ControlMessage::parse(octets) {
        Ok(ControlMessage::Barrier { id, .. }) => Some(id),
        _ => None,
    });
    assert!(peer.frames().is_empty(), "it waits for the barrier");
    peer.send(DIRECT, &ControlMessage::BarrierEcho { id: id.expect("a barrier") }.emit());
    // The next frame comes before what waits has been looked at.
    node.receive(NOW, 1000, &mut Sink::default());
    send(&mut node, STRANGER, 3);
    assert_eq!(numbers(&mut peer), (vec![], vec![2, 3]));
    assert!(numbers(&mut control).1.is_empty());
}

#[test]
fn copies_that_their_listener_has_not_taken_come_back_or_are_lost_with_it() {
    //= spec/promiscuous.md#lost-listeners
    //= type=test
    //# A copy that its listener's process had not taken when it died MUST be counted as listener-gone.
    for is_closed in [true, false] {
        let mut node = node();
        let mut control = Far::control(&mut node, 1);
        control.tell(&mut node, &listener(22, true));
        let mut peer = direct(&mut node, &mut control);
        for number in [4, 5] {
            send(&mut node, STRANGER, number);
        }
        if is_closed {
            peer.0.leave_leg(NOW, LEG);
        }
        drop(peer);
        control.take(10);
        node.handle_leg_gone(NOW, PeerId::Node(NodeNumber(2)), ProcessId(22), LEG);
        turn(&mut node);
        send(&mut node, STRANGER, 6);
        let lost = [DropReason::ListenerGone, DropReason::PeerGone].map(|reason| drops(&node, reason));
        match is_closed {
            true => assert_eq!((numbers(&mut control), lost), ((vec![1, 2, 6], vec![4, 5, 6]), [0, 0])),
            false => assert_eq!((numbers(&mut control), lost), ((vec![6], vec![6]), [2, 2])),
        }
    }
}

#[test]
fn copies_wait_apart_from_frames_and_for_so_long() {
    //= spec/promiscuous.md#no-room
    //= type=test
    //# A copy for which there is no room at once MUST be dropped and counted as listener-full: it MUST NOT delay or displace
    //# a frame of the interface.
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    control.tell(&mut node, &listener(22, true));
    control.tell(&mut node, &grant(&[]));
    let mut peer = Far::connect(&mut node, PeerId::Node(NodeNumber(2)), 22, &[DIRECT]);
    turn(&mut node);
    for number in 0..=255 {
        assert_eq!(send(&mut node, STRANGER, number), Accept::Taken);
    }
    assert_eq!(drops(&node, DropReason::ListenerFull), 0);
    assert_eq!(send(&mut node, STRANGER, 0), Accept::Taken);
    assert_eq!(drops(&node, DropReason::ListenerFull), 1);
    assert_eq!(numbers(&mut control).0.len(), 257, "no frame waits");
    let state = |node: &Node| node.interfaces().map(|i| (i.held, i.copies)).next().unwrap();
    assert_eq!(state(&node), (0, 256));
    // The barrier is not echoed: what waits goes by relay with its retry, in order.
    node.handle_timeout(NOW + vlan_core::driver::BARRIER_WAIT);
    node.publish(NOW);
    assert_eq!(numbers(&mut control).1, (0..=255).collect::<Vec<u8>>());
    // While no control node is there, for 50 ms.
    lose_control(&mut node, 1);
    assert!(numbers(&mut peer).1.is_empty());
    send(&mut node, STRANGER, 1);
    assert_eq!(state(&node), (1, 1));
    node.handle_timeout(NOW + PARK_TTL);
    assert_eq!((state(&node), drops(&node, DropReason::ListenerFull)), ((0, 0), 2));
}

#[test]
fn relayed_copies_of_a_lost_session_go_again() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    control.tell(&mut node, &listener(22, true));
    send(&mut node, STRANGER, 1);
    drop(control);
    lose_control(&mut node, 1);
    let mut control = Far::control(&mut node, 2);
    turn(&mut node);
    let frames = control.frames();
    let kinds: Vec<_> = frames.iter().map(|(header, number)| (header.kind, header.flags, *number)).collect();
    let resent = FrameHeader::RESENT;
    assert_eq!(
        kinds,
        [(FrameKind::Relay, resent | FrameHeader::UNBOUND, 1), (FrameKind::Promiscuous, resent, 1)]
    );
}

#[test]
fn copies_and_groups_come_to_an_interface_that_listens() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let policy =
        vlan_core::wire::control::GroupPolicy { vif: VIF, snoops: true, querier: [10, 1, 0, 254].into() };
    control.tell(&mut node, &ControlMessage::GroupPolicy(policy));
    let mut frame = [0; 60];
    frame[6..12].copy_from_slice(&PEER.0);
    frame[12..15].copy_from_slice(&[8, 0, 0x45]);
    frame[23] = 17;
    frame[30..34].copy_from_slice(&[239, 1, 1, 1]);
    let mut bseq = 0;
    let mut come = |node: &mut Node, control: &mut Far| {
        bseq += 2;
        frame[..6].copy_from_slice(&STRANGER.0);
        let copy = header(FrameKind::Promiscuous, bseq).emit_promiscuous(NodeNumber(1), frame.len());
        control.send(RELAY, &[&copy[..], &frame].concat());
        frame[..6].copy_from_slice(&[1, 0, 0x5e, 1, 1, 1]);
        control.send(RELAY, &[&header(FrameKind::Group, bseq + 1).emit(60)[..], &frame].concat());
        let mut sink = Sink::default();
        node.receive(NOW, 1000, &mut sink);
        sink.0
    };
    node.handle_promiscuity(NOW, VIF, true);
    assert_eq!(come(&mut node, &mut control), 0, "it may not");
    let mut config = node.interfaces().next().unwrap().config.clone();
    config.may_listen = true;
    control.tell(&mut node, &ControlMessage::Interface(config));
    assert_eq!(come(&mut node, &mut control), 2);
    node.handle_promiscuity(NOW, VIF, false);
    assert_eq!(come(&mut node, &mut control), 0, "it does no more");
    let counters = node.interfaces().next().unwrap().counters;
    assert_eq!((counters.received_copies.frames, counters.received_relay.frames), (1, 2));
    assert_eq!((drops(&node, DropReason::NotListening), drops(&node, DropReason::NotJoined)), (2, 2));
}
