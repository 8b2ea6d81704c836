//! Which packets count, which are acknowledged, and when.

use super::*;

#[test]
fn a_packet_number_counts_once() {
    //= spec/packet.md#packet-numbers
    //= type=test
    //# A receiver MUST apply the records of a packet number of a leg at most once in a session.
    let mut bench = Bench::new();
    assert_eq!(bench.arrive(header(LEG, 3), &[message(0, 0, 10)]), Ok(Arrival::Taken));
    // The number counts, not the content: another message under the same number is not looked at.
    assert_eq!(bench.arrive(header(LEG, 3), &[message(1, 0, 10)]), Ok(Arrival::Duplicate));
    assert_eq!(bench.arrive(header(OTHER, 3), &[message(2, 0, 10)]), Ok(Arrival::Taken), "another leg");
    assert_eq!(bench.poll_all(), [0, 2]);
    assert_eq!(bench.receiver.counters().duplicate_packets, 1);
}

#[test]
fn numbers_below_what_is_remembered_are_lost() {
    let mut bench = Bench::new();
    for number in 0..100 {
        assert_eq!(bench.arrive(header(LEG, 2 * number + 1), &[]), Ok(Arrival::Taken));
    }
    // 64 ranges are kept: the lowest is 2 * 36 + 1.
    assert_eq!(bench.arrive(header(LEG, 71), &[]), Ok(Arrival::TooOld));
    assert_eq!(bench.arrive(header(LEG, 72), &[]), Ok(Arrival::Taken));
    assert_eq!(bench.arrive(header(LEG, 73), &[]), Ok(Arrival::Duplicate));
    assert_eq!(bench.arrive(header(LEG, 74), &[]), Ok(Arrival::Taken));
    assert_eq!((bench.receiver.counters().packets, bench.receiver.counters().old_packets), (102, 1));
    let block = bench.acks()[0];
    assert_eq!((block.largest, block.rx_count, block.ranges.as_slice().len()), (199, 102, 8));
}

#[test]
fn an_ack_has_every_leg_by_which_something_came() {
    //= spec/packet.md#all-legs
    //= type=test
    //# An ack section MUST have a block for each leg by which something was received in the session.
    let mut bench = Bench::new();
    assert_eq!(bench.acks(), []);
    bench.arrive(header(LEG, 0), &[message(0, 0, 10)]).expect("good");
    bench.acks();
    bench.now = at(31);
    bench.arrive(header(OTHER, 5), &[message(1, 0, 10)]).expect("good");
    bench.now = at(40);
    let acks = bench.acks();
    let told: Vec<_> = acks.iter().map(|a| (a.leg, a.largest, a.delay_us, a.ts_echo, a.rx_count)).collect();
    assert_eq!(told, [(LEG, 0, 39, 1000, 1), (OTHER, 5, 9, 1005, 1)]);
    bench.now = at(1_000_000);
    assert_eq!(bench.acks()[1].delay_us, u16::MAX);
    // Without room for all legs nothing is written, and the ack stays due.
    bench.arrive(PacketHeader { kind: PacketKind::Probe, ..header(LEG, 1) }, &[]).expect("good");
    assert_eq!(bench.receiver.write_acks(bench.now, &mut [0; 8 + 32]), 0);
    assert_eq!(bench.receiver.ack_due(bench.now), AckDue::Now);
}

#[test]
fn acks_are_due_at_once_when_asked_when_something_is_missing_and_when_many_wait() {
    //= spec/packet.md#acks-at-once
    //= type=test
    //# A receiver MUST acknowledge at once when a packet asks for it, when a packet shows that one before it is missing, and
    //# when as many packets wait for their ack as is configured.
    let mut bench = Bench::with(&ReceiverConfig { ack_every: 4, ..ReceiverConfig::default() });
    let due = |bench: &Bench| bench.receiver.ack_due(bench.now) == AckDue::Now;
    let mut number = 0_u64;
    let mut next = |bench: &mut Bench, kind, ack_now, skip: u64| {
        let flags = PacketFlags { ack_now, has_ack: false };
        let header = PacketHeader { kind, flags, ..header(LEG, number + skip) };
        number += 1 + skip;
        bench.arrive(header, &[message(header.number as u32, 0, 1)]).expect("good");
    };
    next(&mut bench, PacketKind::Data, false, 0);
    assert!(!due(&bench), "an ordinary packet");
    next(&mut bench, PacketKind::Data, true, 0);
    assert!(due(&bench), "ACK_NOW");
    bench.acks();
    assert!(!due(&bench), "told");
    next(&mut bench, PacketKind::Probe, false, 0);
    assert!(due(&bench), "PROBE");
    bench.acks();
    next(&mut bench, PacketKind::Data, false, 1);
    assert!(due(&bench), "one is missing");
    bench.acks();
    for count in 1..=4 {
        assert!(!due(&bench), "{count}");
        next(&mut bench, PacketKind::Data, false, 0);
    }
    assert!(due(&bench), "four wait");
}

#[test]
fn a_gap_is_told_at_once_only_when_it_appears() {
    let mut bench = Bench::new();
    for (number, at_once) in
        [(0, false), (2, true), (3, false), (1, false), (4, false), (9, true), (7, false)]
    {
        bench.arrive(header(LEG, number), &[message(number as u32, 0, 1)]).expect("good");
        assert_eq!(bench.receiver.ack_due(bench.now) == AckDue::Now, at_once, "{number}");
        bench.acks();
    }
}

#[test]
fn an_ack_waits_for_no_longer_than_configured() {
    //= spec/packet.md#acks-in-time
    //= type=test
    //# A packet with records MUST NOT wait for its ack for longer than is configured.
    let mut bench = Bench::new();
    bench.now = at(1000);
    bench.arrive(header(LEG, 0), &[]).expect("good");
    assert_eq!(bench.receiver.ack_due(bench.now), AckDue::None, "acks of acks");
    bench.arrive(header(LEG, 1), &[message(0, 0, 1)]).expect("good");
    bench.now = at(1100);
    bench.arrive(header(LEG, 2), &[message(1, 0, 1)]).expect("good");
    assert_eq!(bench.receiver.ack_due(bench.now), AckDue::At(at(1200)), "the first counts");
    assert_eq!(bench.receiver.ack_due(at(1200)), AckDue::Now);
    bench.acks();
    assert_eq!(bench.receiver.ack_due(bench.now), AckDue::None);
}

#[test]
fn answers_go_by_the_legs_that_asked() {
    let mut bench = Bench::new();
    bench.arrive(PacketHeader { kind: PacketKind::Probe, ..header(OTHER, 0) }, &[]).expect("good");
    let flags = PacketFlags { ack_now: true, has_ack: false };
    bench.arrive(PacketHeader { flags, ..header(LEG, 0) }, &[]).expect("good");
    assert_eq!([(); 3].map(|()| bench.receiver.poll_answer_leg()), [Some(LEG), Some(OTHER), None]);
}
