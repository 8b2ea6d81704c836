//! What finds room, and what is given back.

use super::*;

/// A receiver with the least room there is.
fn small() -> (Bench, usize) {
    (Bench::with(&ReceiverConfig { octets_max: 0, ..ReceiverConfig::default() }), 4 * RESERVE)
}

#[test]
fn a_packet_that_does_not_fit_is_not_acknowledged() {
    //= spec/packet.md#no-room
    //= type=test
    //# A receiver MUST NOT acknowledge a packet with a message that it could not hold.
    let (mut bench, octets_max) = small();
    let long = MESSAGE_LEN_MAX as u32;
    let mut number = 0;
    for mseq in 1..4 {
        let arrived = bench.arrive(header(LEG, number), &[piece(message(mseq, 0, long), 0, 64)]);
        assert_eq!(arrived, Ok(Arrival::Taken), "{mseq}");
        number += 1;
    }
    assert_eq!(
        bench.arrive(header(LEG, number), &[message(4, 0, 0)]),
        Ok(Arrival::NoRoom),
        "not even a short one"
    );
    assert_eq!(bench.receiver.counters().no_room, 1);
    let block = bench.acks()[0];
    assert_eq!((block.largest, block.rx_count), (2, 3));
    assert!(bench.receiver.octets_held() <= octets_max);
    // The same packet is welcome when there is room.
    bench.receiver.close_channel(Channel(1));
    assert_eq!(bench.arrive(header(LEG, number), &[message(4, 0, 0)]), Ok(Arrival::Taken));
    assert_eq!(bench.acks()[0].largest, 3);
}

#[test]
fn there_is_always_room_for_the_message_that_all_wait_for() {
    //= spec/packet.md#hold
    //= type=test
    //# A receiver MUST keep room for one longest message that only the lowest undelivered message of a channel may take.
    let (mut bench, octets_max) = small();
    let mut number = 0;
    let mut mseq = 1;
    // Everything waits for message 0.
    while bench.arrive(header(LEG, number), &[message(mseq, 1, 1000)]) == Ok(Arrival::Taken) {
        assert_eq!(bench.poll_all(), []);
        (number, mseq) = (number + 1, mseq + 1);
    }
    assert!(bench.receiver.octets_held() + RESERVE <= octets_max);
    let lowest = message(0, 0, MESSAGE_LEN_MAX as u32);
    let first = piece(lowest, 0, 60_032);
    let second = piece(lowest, 60_032, (MESSAGE_LEN_MAX - 60_032) as u16);
    assert_eq!(bench.arrive(header(LEG, number), &[first]), Ok(Arrival::Taken));
    assert!(bench.receiver.octets_held() <= octets_max);
    assert_eq!(bench.arrive(header(LEG, number + 1), &[second]), Ok(Arrival::Taken));
    assert_eq!(bench.poll_all(), (0..mseq).collect::<Vec<_>>());
    assert_eq!(bench.receiver.octets_held(), 0);
}

#[test]
fn an_idle_receiver_is_small() {
    let mut bench = Bench::new();
    for leg in [LEG, OTHER] {
        for number in 0..1000 {
            let mseq = 2 * number + leg.index().min(1) as u32;
            bench.arrive(header(leg, u64::from(number)), &[message(mseq, 0, 5000)]).expect("good");
            bench.poll_all();
        }
    }
    assert!(bench.receiver.pool.spare_octets() > 0);
    bench.receiver.trim();
    assert_eq!(bench.receiver.pool.spare_octets(), 0);
    let legs: usize = bench.receiver.legs.iter().flatten().map(|leg| leg.memory()).sum();
    let octets = size_of::<Receiver>() + legs;
    assert!(octets < 2048, "{octets} octets");
}
