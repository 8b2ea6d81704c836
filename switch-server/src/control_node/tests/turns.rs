//! Relayed frames: copies, turns, and the room that each sender has.

use super::*;

/// A control node with two members; the ring to the second one has 64 slots.
pub(super) fn with_a_small_ring() -> (ControlNode, End, End) {
    let small = ShmConfig { slots_log2: 6, ..ShmConfig::default() };
    let mut control = control_node();
    let one = member(&mut control, 1);
    let mut two = End::connect(&mut control, 2, process(2), &small);
    two.register(&mut control);
    (control, one, two)
}

#[test]
fn what_has_no_channel_and_what_a_replaced_process_sends_is_counted() {
    let mut control = control_node();
    let mut one = End::connect(&mut control, 1, process(1), &ShmConfig::default());
    one.register(&mut control);
    let unknown = Channel(77);
    one.association.open_channel(unknown);
    for _ in 0..2 {
        one.association.send(NOW, unknown, 0, 0, &[Part::Private(&[0; 60])]).expect("room");
    }
    one.association.publish();
    control.pump(NOW, 1000);
    assert_eq!(control.status().drops.of(DropReason::NoChannel), 2);
    let mut new = End::connect(&mut control, 1, ProcessId(999), &ShmConfig::default());
    new.tell(&mut control, &register(1, ProcessId(999)));
    one.send(&mut control, mac(2), 0);
    let status = control.status();
    assert_eq!(status.lans[0].drops.of(DropReason::StaleBoot), 1);
    assert!(status.lans[0].ledger.closes(status.lans[0].drops.total()));
}

#[test]
fn what_a_member_had_not_taken_when_it_left_in_order_is_not_attached_and_when_it_died_peer_gone() {
    //= spec/server.md#members-that-leave
    //= type=test
    //# A control node MUST count what a node that left in order had not taken as not-attached; only what a dead process
    //# had not taken is peer-gone.
    for in_order in [true, false] {
        let mut control = control_node();
        let (mut one, mut two) = (member(&mut control, 1), member(&mut control, 2));
        two.arrived();
        one.send(&mut control, mac(2), 0);
        if in_order {
            two.association.leave_leg(NOW, LEG);
        }
        control.handle_leg_gone(NOW, NodeNumber(2), process(2), LEG);
        control.pump(NOW, 1000);
        let lan = &control.status().lans[0];
        let counts = (lan.drops.of(DropReason::NotAttached), lan.drops.of(DropReason::PeerGone));
        assert_eq!(counts, if in_order { (1, 0) } else { (0, 1) });
        assert!(lan.ledger.closes(lan.drops.total()));
    }
}

#[test]
fn nodes_take_turns_by_octets() {
    //= spec/server.md#turns
    //= type=test
    //# A control node MUST take messages from its nodes in turns of as many octets each.
    let mut control = control_node();
    let mut ends = [1, 2, 3].map(|node| member(&mut control, node));
    ends[1].arrived();
    // Node 1 has ten super-frames of some 32 KiB, node 3 a hundred short frames.
    for _ in 0..10 {
        ends[0].queue(mac(2), 0, 32_000);
    }
    for _ in 0..100 {
        ends[2].queue(mac(2), 0, 60);
    }
    control.next_session = 0;
    control.pump(NOW, 80);
    let from: Vec<u16> = ends[1].frames().iter().map(|header| header.origin.0).collect();
    let of = |node| from.iter().filter(|origin| **origin == node).count();
    // Two turns of node 3 are 128 short frames: a super-frame of node 1 uses two turns up.
    assert_eq!((of(1) <= 2, of(3) >= 78), (true, true), "{} and {}", of(1), of(3));
    // All of it goes in the end.
    control.pump(NOW, 1000);
    let rest = ends[1].frames().len();
    assert_eq!(from.len() + rest, 110);
}

#[test]
fn a_flooding_source_leaves_room_for_a_quiet_one() {
    let (mut control, mut one, mut two) = with_a_small_ring();
    let mut three = member(&mut control, 3);
    for _ in 0..1500 {
        one.send(&mut control, mac(2), 0);
    }
    let full = |control: &ControlNode| control.status().lans[0].drops.of(DropReason::EgressFull);
    let before = full(&control);
    assert!(before > 500, "{before}");
    for _ in 0..200 {
        three.send(&mut control, mac(2), 0);
    }
    assert_eq!(full(&control), before, "nothing of the quiet source is dropped");
    let mut origins = Vec::new();
    for _ in 0..200 {
        origins.extend(two.frames().iter().map(|header| header.origin.0));
        control.handle_timeout(NOW);
    }
    assert_eq!(origins.iter().filter(|origin| **origin == 3).count(), 200);
}

#[test]
fn a_group_frame_reaches_every_other_member_once() {
    //= spec/server.md#group-frames
    //= type=test
    //# The server MUST give a group frame that is for everybody once to every attached member of the LAN but its sender.
    let mut control = control_node();
    let mut ends = [1, 2, 3].map(|node| member(&mut control, node));
    for end in &mut ends {
        end.arrived();
    }
    ends[0].send(&mut control, MacAddress::BROADCAST, 0);
    assert_eq!(ends.map(|mut end| end.frames().len()), [0, 1, 1]);
}

#[test]
fn a_sender_gets_its_room_back_only_when_its_frames_have_gone() {
    //= spec/server.md#settling
    //= type=test
    //# A control node MUST publish what it sent for a batch of frames before it settles them with their senders.
    let (mut control, mut one, mut two) = with_a_small_ring();
    two.arrived();
    // More than the receiver's ring holds: what waits in the control node is not settled.
    for _ in 0..60 {
        one.send(&mut control, mac(2), 0);
    }
    one.association.publish();
    assert!(!one.association.is_drained(), "settled while frames wait");
    let mut got = 0;
    for _ in 0..1000 {
        if one.association.is_drained() {
            break;
        }
        got += two.frames().len();
        control.pump(NOW, 100);
        control.handle_timeout(NOW);
        one.association.publish();
    }
    assert!(one.association.is_drained(), "never settled");
    got += two.frames().len();
    assert_eq!(got, 60);
}

#[test]
fn a_receiver_that_takes_nothing_costs_bounded_memory_and_nobody_else() {
    //= spec/server.md#full-outputs
    //= type=test
    //# When a receiver's queue is full the server MUST drop the frame as egress-full and go on.
    let (mut control, mut one, _two) = with_a_small_ring();
    let mut three = member(&mut control, 3);
    three.arrived();
    for _ in 0..1500 {
        one.send(&mut control, mac(2), 0);
    }
    one.send(&mut control, mac(3), 0);
    assert_eq!(three.frames().len(), 1);
    let drops = control.status().lans[0].drops.clone();
    assert!(drops.of(DropReason::EgressFull) > 0, "{drops:?}");
    let ledger = control.status().lans[0].ledger;
    assert!(ledger.closes(drops.total()), "{ledger:?} {drops:?}");
}

#[test]
fn a_barrier_that_waits_too_long_for_room_is_no_frame_that_was_lost() {
    let (mut control, mut one, _two) = with_a_small_ring();
    // Every slot is taken, and what comes now waits: the last frame, and barriers.
    while control.waiting().all(|(_, waiting)| waiting.messages == 0) {
        one.send(&mut control, mac(2), 0);
    }
    let barrier = ControlMessage::Barrier {
        lan: LAN,
        origin: NodeNumber(1),
        origin_vif: VifNumber(1),
        destination: NodeNumber(2),
        destination_vif: VifNumber(1),
        boot: BootTag(process(1).0 as u16),
        id: 7,
    };
    for _ in 0..3 {
        one.association.send(NOW, RELAY, 0, 0, &[Part::Private(&barrier.emit())]).expect("room");
    }
    one.association.publish();
    control.pump(NOW, 100);
    let before = control.status().lans[0].clone();
    let later = NOW + core::time::Duration::from_millis(60);
    control.handle_timeout(later);
    let lan = &control.status().lans[0];
    let lost = lan.drops.total() - before.drops.total();
    assert_eq!(before.ledger.egress - lan.ledger.egress, lost, "{:?}", lan.drops);
    assert_eq!(lan.drops.of(DropReason::Expired), 1, "{:?}", lan.drops);
    assert!(lan.ledger.closes(lan.drops.total()));
}
