//! What acks prove of packets in flight.

use super::*;
use crate::packet::sender::fates::Extent;

const FAR: Duration = Duration::from_secs(1);

fn at(us: u64) -> Instant {
    Instant::from_nanos(us * 1000)
}

fn piece(slot: u32) -> Piece {
    Piece { slot, serial: 1, start: 0, end: 64, is_again: false }
}

/// `count` packets of 100 octets with one piece each, 10 us apart.
fn flight(count: u32) -> Flight {
    let mut flight = Flight::default();
    for i in 0..count {
        flight.add_piece(piece(i));
        let sent_at = at(10 * u64::from(i));
        flight.depart(Departure {
            sent_at,
            len: 100,
            asks: true,
            has_control: false,
            wants_witness: false,
            is_trial: false,
        });
    }
    flight
}

//= spec/packet-sender.md#trials
//= type=test
//# A packet that tries a length MUST carry nothing, and its fate MUST NOT count for its leg, against it, or for the window.
#[test]
fn the_fate_of_a_trial_is_told_apart_and_nobody_waits_for_it() {
    let trial = Departure {
        sent_at: at(5),
        len: 1472,
        asks: false,
        has_control: false,
        wants_witness: false,
        is_trial: true,
    };
    let fate = |has_arrived| Some(Trial { number: 2, len: 1472, has_arrived });
    for has_arrived in [false, true] {
        let mut flight = flight(2);
        flight.depart(trial);
        assert_eq!((flight.octets(), flight.oldest_open()), (200, Some(at(0))));
        for number in 3..7 {
            flight.add_piece(piece(number));
            let sent_at = at(10 * u64::from(number));
            flight.depart(Departure { sent_at, asks: true, is_trial: false, len: 100, ..trial });
        }
        let told: &[_] = if has_arrived { &[(0, 6)] } else { &[(3, 6), (0, 1)] };
        let (lost, proofs) = ack(&mut flight, at(100), FAR, told);
        assert_eq!((lost.len(), proofs.arrived, proofs.lost, proofs.spurious), (0, 6, 0, 0));
        assert_eq!((proofs.trial, proofs.long_losses), (fate(has_arrived), Extent::default()));
        assert_eq!((proofs.arrivals.newest(), proofs.arrivals.longest), (Some(6), 100));
        let (_, proofs) = ack(&mut flight, at(100), FAR, &[(0, 6)]);
        let late = if has_arrived { None } else { fate(true) };
        assert_eq!((proofs.trial, proofs.arrived, proofs.spurious), (late, 0, 0));
        flight.forget(at(100), FAR);
        assert_eq!((flight.packets.len(), flight.lost), (0, 0));
    }
}

#[test]
fn the_longest_and_newest_of_what_arrived_and_of_long_losses_are_told() {
    let mut flight = Flight::default();
    for (len, number) in [(1472, 0), (100, 1), (1300, 2), (1200, 3), (200, 4), (300, 5), (100, 6)] {
        flight.depart(Departure {
            sent_at: at(number),
            len,
            asks: true,
            has_control: false,
            wants_witness: false,
            is_trial: false,
        });
    }
    let (_, proofs) = ack(&mut flight, at(100), FAR, &[(5, 6), (1, 1)]);
    assert_eq!((proofs.arrivals.newest(), proofs.arrivals.longest), (Some(6), 300));
    assert_eq!((proofs.long_losses.newest(), proofs.long_losses.longest), (Some(2), 1300));
}

fn ranges(ranges: &[(u64, u64)]) -> AckRanges {
    let mut all = AckRanges::default();
    for &(lowest, highest) in ranges {
        assert!(all.push(lowest, highest));
    }
    all
}

/// Applies an ack; the slots of the pieces that are lost, and the proofs.
fn ack(flight: &mut Flight, now: Instant, loss_delay: Duration, told: &[(u64, u64)]) -> (Vec<u32>, Proofs) {
    let (mut pieces, mut proofs, told) = (Vec::new(), Proofs::default(), ranges(told));
    flight.acknowledge(&told, &mut proofs);
    flight.detect(now, loss_delay, &told, &mut pieces, &mut proofs);
    assert!(pieces.iter().all(|piece| piece.is_again));
    (pieces.iter().map(|piece| piece.slot).collect(), proofs)
}

//= spec/packet-sender.md#loss
//= type=test
//# A packet MUST count as lost only when an ack shows that it had not arrived although a packet had that was sent
//# three packets later by its leg, or later by its leg and it is 9/8 of a round trip old, or by any leg and so much
//# later that it should have arrived before.
#[test]
fn three_later_packets_or_time_prove_a_loss_and_nothing_else_does() {
    let mut flight = flight(10);
    let (lost, proofs) = ack(&mut flight, at(100), FAR, &[(2, 4), (0, 0)]);
    assert_eq!((lost, proofs.arrived, proofs.lost), (std::vec![1], 4, 1), "1 is three below 4");
    assert_eq!(flight.octets(), 500);
    let (lost, _) = ack(&mut flight, at(100), FAR, &[(7, 7), (2, 4)]);
    assert!(lost.is_empty(), "5 and 6 are only passed by");
    assert_eq!(flight.oldest_passed(), Some(at(50)));
    let mut proofs = Proofs::default();
    let mut pieces = Vec::new();
    flight.detect_passed(at(100), Duration::from_micros(45), &mut pieces, &mut proofs);
    assert_eq!(pieces.len(), 1, "5 is 50 us old, 6 is 40");
    assert_eq!((proofs.lost, flight.oldest_passed()), (1, Some(at(60))));
    let (lost, _) = ack(&mut flight, at(100), FAR, &[(8, 9)]);
    assert!(lost.is_empty(), "6 and 7 lie below the ranges: unknown, or known already");
}

//= spec/packet-sender.md#loss-in-time
//= type=test
//# A packet that an ack passed by MUST count as lost when it is 9/8 of a round trip old, whatever is not known of packets
//# sent before it.
#[test]
fn a_packet_that_was_passed_by_is_found_behind_any_number_that_was_not() {
    let mut flight = flight(200);
    let (lost, _) = ack(&mut flight, at(2000), FAR, &[(150, 150), (148, 148)]);
    assert!(lost.is_empty(), "149 is only passed by, and nothing is told of those before 148");
    assert_eq!(flight.oldest_passed(), Some(at(1490)));
    // A late ack tells of older ones.
    ack(&mut flight, at(2000), FAR, &[(102, 102), (100, 100)]);
    assert_eq!(flight.oldest_passed(), Some(at(1010)));
    let (mut pieces, mut proofs) = (Vec::new(), Proofs::default());
    flight.detect_passed(at(1055), Duration::from_micros(45), &mut pieces, &mut proofs);
    assert_eq!((proofs.lost, flight.oldest_passed()), (1, Some(at(1490))));
    flight.detect_passed(at(1535), Duration::from_micros(45), &mut pieces, &mut proofs);
    assert_eq!((proofs.lost, flight.oldest_passed()), (2, None));
}

#[test]
fn an_ack_written_after_a_packet_of_another_leg_proves_what_it_does_not_have() {
    let mut flight = flight(10);
    let mut across = |witness, told: &[(u64, u64)]| {
        let (mut pieces, mut proofs) = (Vec::new(), Proofs::default());
        flight.detect_across(at(witness), Duration::from_micros(40), &ranges(told), &mut pieces, &mut proofs);
        pieces.iter().map(|piece| piece.slot).collect::<Vec<_>>()
    };
    assert!(across(39, &[]).is_empty(), "0 may have been on its way");
    assert_eq!(across(55, &[]), [0, 1]);
    assert_eq!(across(85, &[(3, 3)]), [4], "2 lies below what the ack tells, 3 is there, 4 should be");
}

#[test]
fn rescued_packets_answer_for_nothing_and_their_fate_still_counts() {
    let mut flight = flight(5);
    let mut pieces = Vec::new();
    let rescue = flight.rescue(2, at(1000), &mut pieces);
    assert_eq!((rescue.packets, pieces.len(), flight.octets()), (2, 2, 300));
    assert_eq!(flight.oldest_open(), Some(at(20)));
    assert_eq!(flight.rescue(5, at(20), &mut pieces).packets, 1, "3 and 4 are not old enough");
    let (lost, proofs) = ack(&mut flight, at(100), FAR, &[(3, 4), (1, 1)]);
    assert!(lost.is_empty(), "0 and 2 were rescued, their pieces went already: {lost:?}");
    assert_eq!((proofs.arrived, proofs.spurious, proofs.lost), (3, 1, 0));
    let (lost, proofs) = ack(&mut flight, at(100), FAR, &[(3, 4), (0, 1)]);
    assert!(lost.is_empty());
    assert_eq!((proofs.arrived, proofs.spurious), (1, 1));
}

#[test]
fn a_packet_that_was_taken_for_lost_and_arrives_is_counted() {
    let mut flight = flight(5);
    assert_eq!(ack(&mut flight, at(100), FAR, &[(1, 4)]).1.lost, 0, "0 lies below all ranges");
    let mut flight = self::flight(6);
    let (_, proofs) = ack(&mut flight, at(100), FAR, &[(2, 5), (0, 0)]);
    assert_eq!((proofs.lost, proofs.spurious), (1, 0));
    let (_, proofs) = ack(&mut flight, at(100), FAR, &[(0, 5)]);
    assert_eq!((proofs.arrived, proofs.lost, proofs.spurious), (0, 0, 1));
}

#[test]
fn what_is_known_is_forgotten_from_the_front_and_numbers_go_on() {
    let mut flight = flight(6);
    ack(&mut flight, at(100), FAR, &[(3, 5), (0, 1)]);
    flight.forget(at(100), Duration::from_micros(90));
    assert_eq!((flight.next_number(), flight.sent_at(1), flight.sent_at(2)), (6, None, Some(at(20))));
    flight.forget(at(200), Duration::from_micros(90));
    assert_eq!((flight.next_number(), flight.sent_at(2)), (6, None), "an open packet is never forgotten");
    let mut flight = self::flight(2);
    flight.forget(at(1_000_000), Duration::ZERO);
    assert_eq!(flight.oldest_open(), Some(at(0)));
    assert_eq!(Flight::starting_at(77).next_number(), 77);
}

#[test]
fn packets_that_acks_tell_nothing_of_go_again_together() {
    let mut flight = flight(20);
    ack(&mut flight, at(200), FAR, &[(15, 15)]);
    let mut pieces = Vec::new();
    assert_eq!(flight.rescue(2, at(100), &mut pieces).packets, 11, "as many as are old enough");
    assert_eq!(flight.rescue(2, at(500), &mut pieces).packets, 4, "and the rest below 15");
    assert_eq!(flight.rescue(2, at(500), &mut pieces).packets, 2, "then two by two");
}

/// Any order of acks, rescues and time: each piece leaves its packet at most once, and octets in flight add up.
#[test]
fn every_piece_is_handed_over_at_most_once() {
    let mut random = vlan_core::random::Random::new(5);
    for _ in 0..300 {
        let mut flight = flight(40);
        let mut handed = std::collections::BTreeSet::new();
        let mut pieces = Vec::new();
        for step in 0..30 {
            let (mut proofs, now) = (Proofs::default(), at(400 + step));
            let highest = random.below(40);
            let lowest = highest - random.below(highest + 1);
            let told = ranges(&[(lowest, highest)]);
            match random.below(5) {
                0 => drop(flight.rescue(random.below(3) as usize, now, &mut pieces)),
                1 => flight.detect_across(
                    at(random.below(450)),
                    Duration::ZERO,
                    &told,
                    &mut pieces,
                    &mut proofs,
                ),
                2 => flight.forget(now, Duration::from_micros(random.below(500))),
                3 => flight.detect_passed(now, Duration::ZERO, &mut pieces, &mut proofs),
                _ => {
                    flight.acknowledge(&told, &mut proofs);
                    flight.detect(now, FAR, &told, &mut pieces, &mut proofs);
                }
            }
            for piece in pieces.drain(..) {
                assert!(handed.insert(piece.slot), "piece {} went twice", piece.slot);
            }
        }
        flight.acknowledge(&ranges(&[(0, 39)]), &mut Proofs::default());
        assert_eq!(flight.octets(), 0);
        flight.forget(at(0), FAR);
        assert_eq!((flight.packets.len(), flight.pieces.len(), flight.lost), (0, 0, 0));
    }
}
