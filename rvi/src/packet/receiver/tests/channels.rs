//! Channels that are closed, or yet to open.

use super::*;

#[test]
fn a_closed_channel_takes_nothing_and_keeps_nothing() {
    let mut bench = Bench::new();
    let records = [message(0, 0, 9), message(2, 1, 9), piece(message(3, 0, 100), 0, 64), message(4, 0, 9)];
    bench.arrive(header(LEG, 0), &records).expect("good");
    assert_eq!(bench.receiver.poll_message(&bench.windows).map(|m| m.mseq), Some(0));
    bench.windows.deliver(Channel(1), 0);
    assert_eq!(bench.receiver.poll_message(&bench.windows).map(|m| m.mseq), Some(4));
    bench.windows.deliver(Channel(1), 4);
    bench.arrive(header(LEG, 1), &[message(5, 0, 9)]).expect("good");
    assert_eq!(bench.reports(1000).len(), 1);
    bench.windows.closed.insert(1);
    bench.receiver.close_channel(Channel(1));
    assert!(bench.receiver.poll_message(&bench.windows).is_none());
    assert_eq!(bench.arrive(header(LEG, 2), &[message(6, 0, 9)]), Ok(Arrival::Taken));
    let refused: Vec<_> =
        core::iter::from_fn(|| bench.receiver.poll_refused()).map(|(_, mseq)| mseq).collect();
    assert_eq!(refused, [3, 2, 5, 6]);
    assert_eq!(bench.receiver.counters().refused, 4);
    //= spec/packet.md#closed-channels
    //= type=test
    //# The number of a message that was dropped because its channel is closed MUST be acknowledged.
    refused.into_iter().for_each(|mseq| bench.windows.deliver(Channel(1), mseq));
    assert_eq!(bench.reports(1000), [(Channel(1), 1, vec![(2, 5)])]);
    let granted = bench.receiver.granted_kib();
    for number in 3..13 {
        bench.arrive(header(LEG, number), &[message(6, 0, 60_000), message(5, 0, 60_000)]).expect("good");
    }
    assert_eq!(bench.receiver.poll_refused(), None);
    assert_eq!(bench.receiver.granted_kib(), granted, "they were done with before");
    assert_eq!(bench.reports(1000).len(), 1, "and the peer is told again");
    // The two that were handed out were not given back.
    assert_eq!(bench.receiver.octets_held(), 2 * (9 + OVERHEAD));
}

#[test]
fn a_channel_that_is_yet_to_open_keeps_what_comes_for_it() {
    //= spec/packet.md#channels-yet-to-open
    //= type=test
    //# A receiver MUST hold a message of a channel that has not been open in the association until it is.
    let mut bench = Bench::new();
    bench.windows.closed.insert(1);
    bench.windows.unopened.insert(1);
    let records = [message(1, 1, 9), message(0, 0, 9), piece(message(2, 1, 100), 0, 64)];
    assert_eq!(bench.arrive(header(LEG, 0), &records), Ok(Arrival::Taken));
    assert!(bench.receiver.poll_message(&bench.windows).is_none());
    // A copy is none again, and the rest of a message finds its place.
    bench.arrive(header(LEG, 1), &[message(0, 0, 9), piece(message(2, 1, 100), 64, 36)]).expect("good");
    assert!(bench.receiver.poll_message(&bench.windows).is_none());
    assert_eq!(bench.receiver.counters().refused, 0);
    bench.windows.closed.clear();
    bench.windows.unopened.clear();
    for expected in 0..3 {
        assert_eq!(bench.receiver.poll_message(&bench.windows).map(|m| m.mseq), Some(expected));
        bench.windows.deliver(Channel(1), expected);
    }
    assert!(bench.receiver.poll_message(&bench.windows).is_none());
}

#[test]
fn refused_numbers_are_bounded() {
    let mut bench = Bench::new();
    bench.windows.closed.insert(1);
    for mseq in 0..300 {
        let records = [message(mseq, 0, 9), message(mseq, 0, 9)];
        assert_eq!(bench.arrive(header(LEG, u64::from(mseq)), &records), Ok(Arrival::Taken));
    }
    let refused: Vec<_> =
        core::iter::from_fn(|| bench.receiver.poll_refused()).map(|(_, mseq)| mseq).collect();
    assert_eq!(refused, (44..300).collect::<Vec<_>>());
    assert_eq!(bench.receiver.counters().refused, 600);
}
