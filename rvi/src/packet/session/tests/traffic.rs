//! Sealing and opening: numbers, phases, trust, memory.

use super::*;
use crate::packet::session::traffic::KEY_PHASE_LOG2;

const PHASE: u64 = 1 << KEY_PHASE_LOG2;

fn payload(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

#[test]
fn a_number_is_sealed_once_and_upwards_only() {
    let mut pair = Pair::established();
    pair.data_of(0, leg(0), 5, b"x").unwrap();
    for number in [5, 4, 0, u64::MAX] {
        assert_eq!(pair.data_of(0, leg(0), number, b"x").unwrap_err(), SealError::Number(number));
    }
    pair.data_of(0, leg(1), 5, b"x").unwrap();
    pair.data_of(1, leg(0), 5, b"x").unwrap();
    pair.data_of(0, leg(0), 6, b"x").unwrap();
    pair.ends[0].release_keys();
    assert_eq!(pair.data_of(0, leg(0), 6, b"x").unwrap_err(), SealError::Number(6));
}

#[test]
fn only_data_is_sealed_and_only_in_a_session() {
    let mut pair = Pair::new();
    assert_eq!(pair.data_of(0, leg(0), 0, b"x").unwrap_err(), SealError::NoSession);
    let mut pair = Pair::established();
    let mut packet = plain(leg(0), 0, b"x");
    assert_eq!(pair.ends[0].seal(leg(1), &mut packet), Err(SealError::Form));
    packet[1] = PacketKind::Close as u8;
    assert_eq!(pair.ends[0].seal(leg(0), &mut packet), Err(SealError::Form));
    packet.pop();
    assert_eq!(pair.ends[0].seal(leg(0), &mut packet), Err(SealError::Form));
    assert_eq!(pair.ends[0].seal(leg(3), &mut packet), Err(SealError::Leg(leg(3))));
}

#[test]
fn a_payload_is_hidden_unless_its_fabric_is_trusted() {
    let mut pair = Pair::established();
    let secret = b"not for the fabric";
    for (number, is_readable) in [(0, false), (1, true)] {
        let data = pair.data(0, leg(number), secret);
        assert_eq!(data.octets[PACKET_HEADER_LEN..].starts_with(secret), is_readable);
        assert_eq!(pair.open(&data).unwrap(), secret);
    }
}

#[test]
fn keys_differ_by_direction_leg_class_and_phase() {
    //= spec/packet-security.md#traffic-keys
    //= type=test
    //# Each direction, leg and key phase of a session MUST have a key of its own, and CONFIRM and CLOSE MUST have keys that
    //# seal nothing else.
    let mut pair = Pair::established();
    pair.pass(Duration::from_secs(1));
    let used =
        || SEALED.with_borrow(|sealed| sealed.iter().map(|(key, _)| *key).collect::<BTreeSet<_>>().len());
    let control = used();
    assert_eq!(control, 4, "CONFIRM of two ends on two legs");
    for phase in 0..3 {
        for end in 0..2 {
            for number in 0..2 {
                let data = pair.data_of(end, leg(number), phase * PHASE + 7, b"x").unwrap();
                pair.open(&data).unwrap();
            }
        }
    }
    assert_eq!(used(), control + 3 * 2 * 2);
}

#[test]
fn packets_around_a_change_of_phase_are_opened_in_any_order() {
    //= spec/packet-security.md#key-phases
    //= type=test
    //# A receiver MUST open packets of the key phase of the highest number it opened, of the one before and of the one
    //# after, and of no other.
    let mut pair = Pair::established();
    for leg_number in 0..2 {
        for phase in 0..3 {
            let first = (phase + 1) * PHASE - 1500;
            let mut flights: Vec<_> = (first..first + 3000)
                .map(|number| pair.data_of(0, leg(leg_number), number, &payload(number)).unwrap())
                .collect();
            // Blocks of 500 backwards, and each second packet of a block first.
            flights.chunks_mut(500).for_each(<[_]>::reverse);
            let (even, odd): (Vec<_>, Vec<_>) = flights.iter().enumerate().partition(|(at, _)| at % 2 == 0);
            for (_, flight) in even.into_iter().chain(odd) {
                let number = PacketHeader::parse(&flight.octets).unwrap().number;
                let expected = if number + 2048 <= window_top(&pair, leg_number) {
                    Err(OpenError::Old)
                } else {
                    Ok(payload(number).to_vec())
                };
                assert_eq!(pair.open(flight), expected, "{number}");
            }
        }
    }
}

/// The highest number that the second end has opened on a leg.
fn window_top(pair: &Pair, leg_number: u8) -> u64 {
    let live = pair.ends[1].live.as_ref().unwrap();
    live.highest_opened(leg(leg_number)).unwrap_or(0)
}

#[test]
fn no_phase_but_three_is_opened() {
    let mut pair = Pair::established();
    let far = pair.data_of(0, leg(0), 2 * PHASE, b"far").unwrap();
    assert_eq!(pair.open(&far), Err(OpenError::Phase));
    let next = pair.data_of(1, leg(0), PHASE, b"next").unwrap();
    assert_eq!(pair.open(&next).unwrap(), b"next");
    // A number of the phase before lies below the window, but its key is there.
    let mut pair = Pair::established();
    let early = pair.data_of(0, leg(0), PHASE - 3000, b"early").unwrap();
    for number in [PHASE, 2 * PHASE, 3 * PHASE] {
        let data = pair.data_of(0, leg(0), number, b"x").unwrap();
        pair.open(&data).unwrap();
        let expected = if number == PHASE { OpenError::Old } else { OpenError::Phase };
        assert_eq!(pair.open(&early), Err(expected));
    }
}

#[test]
fn a_leg_that_was_down_for_long_still_finds_its_key() {
    let mut pair = Pair::established();
    for number in [PHASE - 1, PHASE, 2 * PHASE, 3 * PHASE - 1, 3 * PHASE, 4 * PHASE] {
        let data = pair.data_of(0, leg(0), number, b"leg 0").unwrap();
        assert_eq!(pair.open(&data).unwrap(), b"leg 0");
    }
    let data = pair.data_of(0, leg(1), 0, b"leg 1").unwrap();
    pair.ends.iter_mut().for_each(PacketSession::release_keys);
    assert_eq!(pair.open(&data).unwrap(), b"leg 1");
    let data = pair.data_of(0, leg(0), 4 * PHASE + 1, b"leg 0").unwrap();
    assert_eq!(pair.open(&data).unwrap(), b"leg 0");
}

#[test]
fn forged_packets_of_other_phases_do_no_harm_to_the_present_one() {
    let mut pair = Pair::established();
    let data = pair.data_of(0, leg(0), PHASE + 5, b"one").unwrap();
    assert_eq!(pair.open(&data).unwrap(), b"one");
    for number in [0, PHASE - 1, 2 * PHASE, 3 * PHASE, u64::MAX] {
        let mut forged = data.clone();
        let header = PacketHeader { number, ..PacketHeader::parse(&data.octets).unwrap() };
        header.emit(forged.octets.first_chunk_mut().unwrap());
        assert!(matches!(pair.open(&forged), Err(OpenError::Tag | OpenError::Phase)), "{number}");
    }
    assert_eq!(pair.open(&data), Err(OpenError::Copy));
    let data = pair.data_of(0, leg(0), PHASE + 6, b"two").unwrap();
    assert_eq!(pair.open(&data).unwrap(), b"two");
}

#[test]
fn an_idle_session_with_two_legs_takes_at_most_2_kib_and_one_in_use_4() {
    type Session = PacketSession<Aes256Gcm>;
    let [leg, key] = Traffic::<Aes256Gcm>::LEG_OCTETS;
    let idle = size_of::<Session>() + 2 * size_of::<SessionLeg>() + 4 * size_of::<SessionEvent>() + 2 * leg;
    assert!(idle <= 2 * 1024, "{idle} octets, {leg} of them for each leg");
    assert!(idle + 4 * key <= 4 * 1024, "{idle} octets, and {key} for each key");
}
