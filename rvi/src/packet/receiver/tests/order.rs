//! In which order messages are delivered, and how pieces become one.

use super::*;

#[test]
fn messages_of_a_lane_keep_their_order() {
    //= spec/packet.md#lane-order
    //= type=test
    //# A message MUST NOT be delivered before the message that it names as the previous one of its lane.
    let mut bench = Bench::new();
    // One lane has 0, 2, 4, the other 1, 3. Of the first 2 comes last, of the second 1.
    for (number, record) in [message(4, 2, 9), message(3, 2, 9), message(0, 0, 9)].into_iter().enumerate() {
        bench.arrive(header(LEG, number as u64), &[record]).expect("good");
    }
    assert_eq!(bench.poll_all(), [0]);
    bench.arrive(header(LEG, 3), &[message(1, 0, 9)]).expect("good");
    assert_eq!(bench.poll_all(), [1, 3]);
    bench.arrive(header(LEG, 4), &[message(2, 2, 9)]).expect("good");
    assert_eq!(bench.poll_all(), [2, 4]);
    assert_eq!(bench.receiver.octets_held(), 0);
}

#[test]
fn a_message_after_all_waits_for_all() {
    //= spec/packet.md#after-all
    //= type=test
    //# A message that is marked AFTER_ALL MUST NOT be delivered before every message of its channel with a lower number.
    let mut bench = Bench::new();
    let barrier = RecordHeader { is_after_all: true, ..message(3, 0, 9) };
    bench.arrive(header(LEG, 0), &[barrier, message(1, 0, 9), message(4, 0, 9)]).expect("good");
    assert_eq!(bench.poll_all(), [1, 4]);
    bench.arrive(header(LEG, 1), &[message(2, 0, 9)]).expect("good");
    assert_eq!(bench.poll_all(), [2]);
    bench.arrive(header(LEG, 2), &[message(0, 0, 9)]).expect("good");
    assert_eq!(bench.poll_all(), [0, 3]);
    assert_eq!(bench.receiver.octets_held(), 0);
}

#[test]
fn what_waits_goes_on_when_another_leg_delivers() {
    let mut bench = Bench::new();
    let barrier = RecordHeader { is_after_all: true, ..message(2, 0, 9) };
    bench
        .arrive(header(LEG, 0), &[message(1, 1, 9), barrier, piece(message(0, 0, 100), 0, 64)])
        .expect("good");
    assert_eq!(bench.poll_all(), []);
    bench.windows.deliver(Channel(1), 0);
    bench.receiver.handle_delivered(Channel(1), 0, &bench.windows);
    assert_eq!(bench.poll_all(), [1, 2]);
    assert_eq!(bench.receiver.octets_held(), 0, "the piece of what came by the other leg is given up");
}

#[test]
fn a_message_that_comes_again_is_told_again_and_dropped() {
    let mut bench = Bench::new();
    bench.arrive(header(LEG, 0), &[message(0, 0, 9), message(2, 1, 9)]).expect("good");
    assert_eq!(bench.poll_all(), [0]);
    assert_eq!(bench.reports(1000), [(Channel(1), 1, vec![])]);
    assert_eq!(bench.receiver.message_acks_due(at(1_000_000)), AckDue::None);
    // Delivered, waiting, and twice ready.
    bench.arrive(header(LEG, 1), &[message(0, 0, 9), message(2, 1, 9)]).expect("good");
    assert_eq!(bench.receiver.counters().duplicates, 2);
    assert_eq!(bench.reports(1000), [(Channel(1), 1, vec![])], "its sender does not know it");
    bench.arrive(header(LEG, 2), &[message(5, 0, 9), message(5, 0, 9), message(1, 0, 9)]).expect("good");
    assert_eq!(bench.poll_all(), [5, 1, 2]);
    assert_eq!(bench.receiver.counters().duplicates, 3);
    assert_eq!(bench.receiver.octets_held(), 0);
}

#[test]
fn pieces_may_be_cut_again() {
    let mut bench = Bench::new();
    let whole = message(0, 0, 1000);
    for (number, (offset, len)) in
        [(0, 256), (192, 192), (704, 296), (0, 64), (384, 320)].into_iter().enumerate()
    {
        assert_eq!(bench.poll_all(), []);
        bench.arrive(header(LEG, number as u64), &[piece(whole, offset, len)]).expect("good");
    }
    assert_eq!(bench.poll_all(), [0]);
    assert_eq!(bench.receiver.counters().duplicates, 1);
}

#[test]
fn another_length_of_a_message_ends_the_session() {
    //= spec/packet.md#fragment-length
    //= type=test
    //# When a fragment tells another length of its message than those before it, the session MUST end, and nothing more
    //# of it MUST be delivered or acknowledged.
    let mut bench = Bench::new();
    bench.arrive(header(LEG, 0), &[piece(message(1, 0, 200), 0, 64)]).expect("good");
    let error = PacketError::MessageLenChanged { known: 200, told: 201 };
    let records = [message(0, 0, 9), piece(message(1, 0, 201), 64, 64)];
    assert_eq!(bench.arrive(header(LEG, 1), &records), Err(error));
    assert_eq!(bench.poll_all(), [], "not even the good record of the bad packet");
    assert_eq!(bench.receiver.ack_due(at(1_000_000)), AckDue::None);
    assert_eq!(bench.receiver.write_acks(at(1_000_000), &mut [0; 500]), 0);
    assert_eq!(bench.arrive(header(LEG, 2), &[message(0, 0, 9)]), Ok(Arrival::NoRoom));
    assert_eq!(bench.poll_all(), []);
    assert_eq!(bench.receiver.counters().contradictions, 1);
}

#[test]
fn a_number_beyond_the_window_ends_the_session() {
    //= spec/packet.md#message-window
    //= type=test
    //# When a message's number lies 16,384 or more above the lowest undelivered one of its channel, the session MUST end.
    let mut bench = Bench::new();
    bench.windows.lowest.insert(1, 50);
    assert_eq!(bench.arrive(header(LEG, 0), &[message(49, 0, 9)]), Ok(Arrival::Taken), "long delivered");
    assert_eq!(bench.arrive(header(LEG, 1), &[message(50 + 16_383, 0, 9)]), Ok(Arrival::Taken));
    let error = PacketError::Window { mseq: 50 + 16_384 };
    assert_eq!(bench.arrive(header(LEG, 2), &[message(50 + 16_384, 0, 9)]), Err(error));
}
