//! Frames that come behind one another, and are passed on in runs.

use super::*;

#[test]
fn frames_that_come_at_once_arrive_in_order_and_are_counted() {
    let mut control = control_node();
    let mut ends = [1, 2, 3].map(|node| member(&mut control, node));
    // To one member, then to another, then to the first again, with a group frame in between.
    let to = [vec![mac(2); 40], vec![mac(3); 3], vec![MacAddress::BROADCAST], vec![mac(2); 40]].concat();
    for to in &to {
        ends[0].queue(*to, 0, 60);
    }
    control.pump(NOW, 1000);
    let numbers = |end: &mut End| end.frames().iter().map(|header| header.bseq).collect::<Vec<_>>();
    assert_eq!(numbers(&mut ends[1]), (0..40).chain(43..84).collect::<Vec<_>>());
    assert_eq!(numbers(&mut ends[2]), [40, 41, 42, 43]);
    let lan = &control.status().lans[0];
    assert_eq!((lan.ledger.ingress, lan.ledger.egress), (84, 85));
    assert!(lan.ledger.closes(lan.drops.total()), "{:?}", lan.ledger);
}

#[test]
fn what_a_run_finds_no_room_for_waits_or_is_counted() {
    let (mut control, mut one, mut two) = turns::with_a_small_ring();
    // More than the ring and the queue behind it have room for: the others are dropped and counted.
    let count = 1500;
    for _ in 0..count {
        one.queue(mac(2), 0, 60);
    }
    while control.pump(NOW, 1000) > 0 {}
    let dropped = control.status().lans[0].drops.of(DropReason::EgressFull);
    assert!(dropped > 0);
    let mut taken = Vec::new();
    loop {
        let came = two.frames();
        if came.is_empty() {
            break;
        }
        taken.extend(came.iter().map(|header| header.bseq));
        control.pump(NOW, 1000);
    }
    assert!(taken.is_sorted() && taken.len() as u64 + dropped == count, "{} and {dropped}", taken.len());
    let lan = &control.status().lans[0];
    assert!(lan.ledger.closes(lan.drops.total()), "{:?}", lan.ledger);
}
