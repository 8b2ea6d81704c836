//! The handshake between nodes, whatever the network does to it.

use super::*;

#[test]
fn a_handshake_gives_both_ends_one_session_with_every_leg() {
    //= spec/packet-security.md#sessions
    //= type=test
    //# An end MUST use a session only after the peer has proven the keys of this handshake: the initiator by ACCEPT, the
    //# responder by the first packet that it opens with them.
    for first in 0..2 {
        let mut pair = Pair::new();
        pair.begin(first);
        let connects = pair.flights(first);
        assert_eq!(connects.len(), 2, "one by each leg");
        assert!(connects.iter().all(|flight| pair.deliver(flight).is_ok()));
        assert!(!pair.ends[1 - first].is_established(), "CONNECT may be an old one");
        let accepts = pair.flights(1 - first);
        assert_eq!(accepts.len(), 2);
        assert_eq!(pair.deliver(&accepts[0]), Ok(()));
        assert_eq!(pair.deliver(&accepts[1]), Err(OpenError::Stale), "the first answer wins");
        assert!(pair.ends[first].is_established() && !pair.ends[1 - first].is_established());
        pair.run();
        pair.assert_works();
        for end in 0..2 {
            let SessionEvent::Established { is_initiator, peer, .. } = pair.events[end][0] else { panic!() };
            assert_eq!(is_initiator, end == first);
            assert_eq!(peer.process, ProcessId(101 - end as u64));
            assert_eq!(peer.node, NodeNumber(11 - end as u16));
            assert_eq!(peer.offer, config(1 - end).offer);
            assert_eq!(peer.legs.iter().collect::<Vec<_>>(), [leg(0), leg(1)]);
            assert!(peer.mismatched.is_empty());
            assert_eq!(pair.sessions(end).len(), 1);
        }
        assert!(pair.ends.iter().all(|end| end.poll_timeout().is_none()), "nothing is left to do");
    }
}

#[test]
fn the_first_data_is_as_good_a_proof_as_confirm() {
    let mut pair = Pair::new();
    pair.begin(0);
    pair.run_with(&mut |flight| kind_of(flight) != PacketKind::Confirm);
    assert!(!pair.ends[1].is_established());
    let data = pair.data(0, leg(0), b"first");
    assert_eq!(pair.open(&data).unwrap(), b"first");
    assert!(matches!(pair.events[1][0], SessionEvent::Established { is_initiator: false, .. }));
    assert_eq!(pair.events[1][1], SessionEvent::LegJoined(leg(0)));
    pair.pass(Duration::from_secs(1));
    pair.assert_works();
}

#[test]
fn a_leg_joins_by_what_was_opened_from_it() {
    //= spec/packet-security.md#joining
    //= type=test
    //# A leg MUST join a session only by a packet that came by it and was opened with the session's key.
    let mut pair = Pair::new();
    pair.begin(0);
    let mut only_0 = |flight: &Flight| flight.leg == leg(0) || kind_of(flight) == PacketKind::Connect;
    pair.run_with(&mut only_0);
    for end in &pair.ends {
        assert_eq!(end.joined_legs().iter().collect::<Vec<_>>(), [leg(0)]);
    }
    let mut forged = pair.data(1, leg(1), b"x");
    forged.octets[33] ^= 1;
    assert_eq!(pair.open(&forged), Err(OpenError::Tag));
    assert!(!pair.ends[0].joined_legs().contains(leg(1)));
    pair.pass_with(Duration::from_millis(100), &mut only_0);
    assert!(!pair.ends[0].joined_legs().contains(leg(1)));
    pair.pass(Duration::from_secs(1));
    pair.assert_works();
    assert_eq!(pair.sessions(0).len(), 1);
}

#[test]
fn data_of_the_responder_is_no_answer_to_confirm() {
    let mut pair = Pair::new();
    pair.begin(0);
    pair.run_with(&mut |flight| kind_of(flight) != PacketKind::Confirm || flight.leg == leg(0));
    let data = pair.data(1, leg(1), b"there is a way back");
    pair.open(&data).unwrap();
    assert!(pair.ends[0].joined_legs().contains(leg(1)) && !pair.ends[1].joined_legs().contains(leg(1)));
    pair.pass(Duration::from_millis(10));
    pair.assert_works();
    assert_eq!(pair.ends[0].poll_timeout(), None);
}

#[test]
fn when_both_connect_the_lower_key_is_the_initiator() {
    //= spec/packet-security.md#simultaneous-connect
    //= type=test
    //# When both ends have sent CONNECT, the one with the lower public key MUST stay the initiator and the other MUST
    //# answer it.
    let mut pair = Pair::new();
    (0..2).for_each(|end| pair.begin(end));
    pair.run();
    pair.pass(Duration::from_secs(3));
    pair.assert_works();
    assert!(matches!(pair.sessions(0)[..], [(_, true)]), "{:?}", pair.events[0]);
    assert!(matches!(pair.sessions(1)[..], [(_, false)]), "{:?}", pair.events[1]);
    assert_eq!(pair.ends[0].counters().refused(OpenError::Simultaneous), 2);
}

#[test]
fn an_end_that_answered_does_not_begin_a_session_of_its_own() {
    let mut pair = Pair::new();
    pair.begin(1);
    let connects = pair.flights(1);
    pair.deliver(&connects[0]).unwrap();
    // The one with the lower key is asked to begin while its answer is under way.
    pair.begin(0);
    pair.run();
    pair.pass(Duration::from_secs(3));
    pair.assert_works();
    assert!(matches!(pair.sessions(0)[..], [(_, false)]));
}

#[test]
fn an_attempt_that_waited_is_later_than_what_the_answer_said() {
    let mut pair = Pair::new();
    pair.begin(1);
    let connects = pair.flights(1);
    pair.deliver(&connects[0]).unwrap();
    pair.begin(0);
    // The answer comes when the one that gave it has begun on its own: the peer has a session that nobody shares.
    let accepts = pair.flights(0);
    pair.now = pair.now + Duration::from_millis(250);
    let now = pair.now;
    pair.ends[0].handle_timeout(now);
    assert!(pair.ends[0].pending.is_none());
    pair.deliver(&accepts[0]).unwrap();
    pair.run();
    pair.pass(Duration::from_secs(1));
    pair.assert_works();
}

#[test]
fn whatever_is_lost_of_the_first_packets_the_handshake_ends_well() {
    for both_begin in [false, true] {
        for lost in 0..1u32 << 8 {
            let mut pair = Pair::new();
            pair.begin(1);
            if both_begin {
                pair.begin(0);
            }
            let mut count = 0;
            let mut passes = |_: &Flight| {
                count += 1;
                count > 8 || lost & 1 << (count - 1) == 0
            };
            pair.run_with(&mut passes);
            pair.pass_with(Duration::from_secs(5), &mut passes);
            pair.assert_works();
        }
    }
}

#[test]
fn a_connect_goes_again_after_10_ms_and_then_ever_more_seldom() {
    let mut pair = Pair::new();
    pair.begin(0);
    pair.run_with(&mut |_| false);
    let mut times = Vec::new();
    for _ in 0..8 {
        let next = pair.ends[0].poll_timeout().unwrap();
        times.push((next - pair.now).as_millis());
        pair.now = next;
        pair.ends[0].handle_timeout(next);
        assert_eq!(pair.flights(0).len(), 2);
    }
    assert_eq!(times, [10, 20, 40, 80, 160, 250, 250, 250]);
}

#[test]
fn the_old_session_lives_until_the_keys_of_the_next_are_proven() {
    let mut pair = Pair::established();
    let old = pair.ends[0].id();
    pair.begin(0);
    let connects = pair.flights(0);
    pair.deliver(&connects[0]).unwrap();
    let accepts = pair.flights(1);
    for (end, number) in [(0, 0), (1, 1)] {
        let data = pair.data(end, leg(number), b"old");
        assert_eq!(pair.open(&data).unwrap(), b"old");
    }
    let (late, sealed_by_old) = (pair.data(0, leg(0), b"late"), pair.data(1, leg(0), b"old"));
    pair.deliver(&accepts[0]).unwrap();
    let new = pair.ends[0].id();
    assert!(new != old && pair.ends[1].id() == old);
    assert_eq!(pair.open(&sealed_by_old), Err(OpenError::Session));
    assert_eq!(pair.open(&late).unwrap(), b"late", "the responder has no proof yet");
    pair.numbers = Default::default();
    let data = pair.data(0, leg(0), b"new");
    assert_eq!(pair.open(&data).unwrap(), b"new");
    assert_eq!(pair.ends[1].id(), new);
    pair.run();
    pair.assert_works();
    assert_eq!(pair.sessions(1).len(), 2);
}

#[test]
fn an_answer_that_nobody_proves_is_forgotten() {
    let mut pair = Pair::new();
    pair.begin(0);
    let connects = pair.flights(0);
    pair.deliver(&connects[0]).unwrap();
    let accept = pair.flights(1).remove(0);
    pair.now = pair.ends[1].poll_timeout().unwrap();
    pair.ends[1].handle_timeout(pair.now);
    assert!(pair.ends[1].pending.is_none());
    // The initiator believes in it, in vain, until it hears that nobody knows it.
    pair.deliver(&accept).unwrap();
    let data = pair.data(0, leg(0), b"lost");
    assert_eq!(pair.open(&data), Err(OpenError::Session));
    let mut gate = Gate::new(&config(1).own_key.public(), [1; 32]);
    let mut out = [0; 48];
    let header = PacketHeader::parse(&data.octets).unwrap();
    assert_eq!(gate.write_reset(pair.now, &header, &mut out), Some(48));
    pair.deliver(&Flight { to: 0, leg: leg(0), octets: out.to_vec() }).unwrap();
    pair.pass(FORGOTTEN_AFTER);
    assert!(pair.events[0].contains(&SessionEvent::Forgotten));
    pair.numbers = Default::default();
    pair.begin(0);
    pair.run();
    pair.assert_works();
}

#[test]
fn close_ends_the_session_at_both_ends() {
    //= spec/packet-security.md#close
    //= type=test
    //# CLOSE MUST be sealed with the session's keys.
    let mut pair = Pair::established();
    pair.ends[0].close();
    let closes = pair.flights(0);
    assert_eq!(closes.len(), 2);
    let mut forged = closes[0].clone();
    *forged.octets.last_mut().unwrap() ^= 1;
    assert_eq!(pair.deliver(&forged), Err(OpenError::Tag));
    assert!(pair.ends[1].is_established() && !pair.ends[0].is_established());
    pair.deliver(&closes[1]).unwrap();
    assert!(!pair.ends[1].is_established());
    assert_eq!(pair.events[1].last(), Some(&SessionEvent::Closed));
    assert_eq!(pair.deliver(&closes[0]), Err(OpenError::Session));
}

#[test]
fn legs_that_the_ends_do_not_agree_about_belong_to_no_session() {
    let mut swapped = config(1);
    swapped.legs[1].is_trusted = false;
    swapped.legs.push(SessionLeg { leg: leg(14), fabric_key: 0, is_trusted: false });
    let mut pair = Pair::of([config(0), swapped]);
    pair.begin(0);
    pair.run();
    for end in 0..2 {
        let SessionEvent::Established { peer, .. } = pair.events[end][0] else { panic!() };
        assert_eq!(peer.legs.iter().collect::<Vec<_>>(), [leg(0)]);
        assert_eq!(peer.mismatched.iter().collect::<Vec<_>>(), [leg(1)]);
    }
    assert_eq!(pair.data_of(0, leg(1), 0, b"x").unwrap_err(), SealError::Leg(leg(1)));
    assert_eq!(pair.data_of(0, leg(14), 0, b"x").unwrap_err(), SealError::Leg(leg(14)));
}

//= spec/packet-security.md#handshake-length
//= type=test
//# A packet of a handshake MUST NOT be longer than 1,200 octets.
#[test]
fn every_packet_of_a_handshake_fits_where_every_packet_does() {
    let pair = Pair::established();
    let longest = pair.sent.iter().map(|flight| flight.octets.len()).max().expect("packets");
    assert!((200..=1200).contains(&longest), "{longest}");
    assert!(longest <= HANDSHAKE_PACKET_LEN_MAX);
}
