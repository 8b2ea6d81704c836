//! Acks of messages, and credit.

use super::*;

#[test]
fn what_is_not_delivered_is_not_acknowledged() {
    //= spec/packet.md#delivered
    //= type=test
    //# A receiver MUST NOT acknowledge a message that is not delivered.
    let mut bench = Bench::new();
    let records = [message(0, 0, 9), message(2, 1, 9), message(4, 0, 9), piece(message(6, 0, 100), 0, 64)];
    bench.arrive(header(LEG, 0), &records).expect("good");
    assert_eq!(bench.receiver.message_acks_due(bench.now), AckDue::None);
    assert_eq!(bench.poll_all(), [0, 4]);
    assert_eq!(bench.reports(1000), [(Channel(1), 1, vec![(4, 1)])]);
}

#[test]
fn a_message_that_another_leg_delivers_first_is_acknowledged() {
    //= spec/packet.md#delivered-by-another-leg
    //= type=test
    //# A receiver MUST acknowledge a message of which it held anything when another leg delivered it.
    let whole = |mseq| message(mseq, 0, 100);
    for record in [whole(0), piece(whole(0), 0, 64)] {
        let mut bench = Bench::new();
        bench.arrive(header(LEG, 0), &[record]).expect("good");
        // One in shared memory, say: it is looked into before what packets have brought is handed out.
        bench.windows.deliver(Channel(1), 0);
        bench.receiver.handle_delivered(Channel(1), 0, &bench.windows);
        assert_eq!(bench.poll_all(), []);
        assert_eq!(bench.reports(1000), [(Channel(1), 1, vec![])], "{record:?}");
        assert_eq!(bench.receiver.octets_held(), 0);
        bench.windows.deliver(Channel(1), 1);
        bench.receiver.handle_delivered(Channel(1), 1, &bench.windows);
        assert_eq!(bench.reports(1000), [], "nothing of it has come by packets");
    }
}

#[test]
fn message_acks_are_due_in_time() {
    let mut bench = Bench::with(&ReceiverConfig { ack_every: 3, ..ReceiverConfig::default() });
    bench.now = at(100);
    bench.arrive(header(LEG, 0), &[message(0, 0, 9), message(1, 0, 9)]).expect("good");
    bench.poll_all();
    assert_eq!(bench.receiver.message_acks_due(at(100)), AckDue::At(at(300)));
    assert_eq!(bench.receiver.message_acks_due(at(300)), AckDue::Now);
    bench.arrive(header(LEG, 1), &[message(2, 0, 9)]).expect("good");
    bench.poll_all();
    assert_eq!(bench.receiver.message_acks_due(at(100)), AckDue::Now, "three are delivered");
    assert_eq!(bench.reports(1000), [(Channel(1), 3, vec![])]);
    bench.receiver.resend_message_acks(at(400), Channel(1));
    assert_eq!(bench.receiver.message_acks_due(at(400)), AckDue::At(at(600)));
    assert_eq!(bench.reports(1000), [(Channel(1), 3, vec![])]);
}

#[test]
fn message_acks_take_as_many_records_and_packets_as_they_need() {
    let mut bench = Bench::new();
    let odd: Vec<u32> = (0..100).map(|i| 2 * i + 1).collect();
    for (number, &mseq) in odd.iter().enumerate() {
        let other = RecordHeader { channel: Channel(200), ..message(mseq + 1, 0, 9) };
        bench.arrive(header(LEG, number as u64), &[message(mseq, 0, 9), other]).expect("good");
    }
    bench.poll_all();
    for room in [1400, 200, 64] {
        bench.receiver.resend_message_acks(bench.now, Channel(1));
        bench.receiver.resend_message_acks(bench.now, Channel(200));
        let reports = bench.reports(room);
        for channel in [1, 200] {
            let of_channel = reports.iter().filter(|(c, ..)| c.0 == channel);
            assert!(of_channel.clone().all(|&(_, cum, _)| cum == 0), "{room}");
            let told: Vec<_> = of_channel.flat_map(|(.., ranges)| ranges.clone()).collect();
            let wanted: Vec<_> = odd.iter().map(|mseq| (mseq + u32::from(channel == 200), 1)).collect();
            assert_eq!(told, wanted, "{room}");
        }
    }
}

#[test]
fn credit_follows_what_the_host_gives_back() {
    //= spec/packet.md#octet-credit
    //= type=test
    //# A receiver MUST NOT grant more octets in a session than it can hold and those of the messages that it is done with.
    let mut bench = Bench::new();
    let cost = 10_240 + OVERHEAD;
    let kib = |done: usize| (((4 << 20) - RESERVE + done * cost) >> 10) as u32;
    assert_eq!(bench.receiver.granted_kib(), kib(0), "what may be held beside the reserve");
    let mut lent = Vec::new();
    for mseq in 0..98 {
        bench.arrive(header(LEG, u64::from(mseq)), &[message(mseq, 0, 10_240)]).expect("good");
        let message = bench.receiver.poll_message(&bench.windows).expect("its turn");
        bench.windows.deliver(message.channel, message.mseq);
        lent.push(message.octets);
        assert_eq!(bench.receiver.granted_kib(), kib(0), "held, delivered, but not given back");
    }
    assert_eq!(bench.receiver.octets_held(), 98 * cost);
    bench.reports(1000);
    // A quarter of what may be held is 98.3 such messages.
    for (count, octets) in lent.into_iter().enumerate() {
        bench.receiver.recycle(octets);
        assert_eq!(bench.receiver.granted_kib(), kib(count + 1));
    }
    assert_eq!(bench.receiver.message_acks_due(bench.now), AckDue::None);
    for mseq in 98..101 {
        bench.arrive(header(LEG, u64::from(mseq)), &[message(mseq, 0, 10_240)]).expect("good");
        bench.poll_all();
    }
    assert_eq!(bench.receiver.message_acks_due(bench.now), AckDue::Now, "a quarter is free again");
    let mut octets = [0; 500];
    let len = bench.receiver.write_message_acks(&bench.windows, &mut octets);
    let payload = Payload::parse(false, &octets[..len]).expect("good control");
    let credit = payload.records().find_map(|record| match record.control() {
        Some(Control::Credit { messages, kib, .. }) => Some((messages, kib)),
        _ => None,
    });
    assert_eq!(credit, Some((16_383, kib(101))));
}

#[test]
fn a_peer_that_misses_credit_gets_it() {
    //= spec/packet.md#octets-settled
    //= type=test
    //# A receiver that is told how many octets were acknowledged MUST have granted them and what it can hold, less what it
    //# holds.
    let mut bench = Bench::new();
    let first = bench.receiver.granted_kib();
    // 1,000 KiB were delivered by another leg, and one message is lent to the host.
    bench.arrive(header(LEG, 0), &[message(0, 0, 10_240 - OVERHEAD as u32)]).expect("good");
    let lent = bench.receiver.poll_message(&bench.windows).expect("its turn");
    bench.windows.deliver(lent.channel, lent.mseq);
    bench.receiver.handle_settled(bench.now, 1010);
    assert_eq!(bench.receiver.granted_kib(), first + 1000);
    let told: Vec<_> = bench.reports(1000).iter().map(|report| report.0).collect();
    assert_eq!(told, [Channel::CONTROL, Channel(1)], "it is told so");
    bench.receiver.recycle(lent.octets);
    assert_eq!(bench.receiver.granted_kib(), first + 1010);
    for kib in [1010, 1000, 0, first + 1011, u32::MAX] {
        bench.receiver.handle_settled(bench.now, kib);
        assert_eq!(bench.receiver.granted_kib(), first + 1010, "{kib} KiB are old, or were not granted");
    }
}
