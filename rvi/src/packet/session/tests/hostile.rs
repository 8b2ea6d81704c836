//! What others can do: replay, reflect, change, move to another leg, make up.

use super::*;

#[test]
fn what_was_sent_before_changes_nothing_when_it_comes_again() {
    //= spec/packet-security.md#replayed-handshakes
    //= type=test
    //# A CONNECT that is not later than the one that made the session in use, or than one that was answered, MUST NOT
    //# change anything; the last one's answer may be sent again.
    let mut pair = Pair::new();
    (0..2).for_each(|end| pair.begin(end));
    pair.run();
    pair.pass(Duration::from_secs(3));
    pair.assert_works();
    let data = pair.data(0, leg(0), b"once");
    pair.open(&data).unwrap();
    let (state, events) = (pair.state(), pair.events.clone());
    for flight in pair.sent.clone() {
        assert!(pair.deliver(&flight).is_err(), "{:?}", kind_of(&flight));
        pair.pass(Duration::from_millis(300));
    }
    assert_eq!(pair.open(&data), Err(OpenError::Copy));
    assert_eq!((pair.state(), &pair.events), (state, &events));
    pair.assert_works();
}

#[test]
fn an_old_connect_does_not_take_the_place_of_a_later_one() {
    let mut pair = Pair::new();
    pair.begin(0);
    let old = pair.flights(0);
    pair.ends[0].forget();
    pair.now = pair.now + Duration::from_millis(1);
    pair.begin(0);
    let new = pair.flights(0);
    pair.deliver(&new[0]).unwrap();
    assert_eq!(pair.deliver(&old[0]), Err(OpenError::Stale));
    pair.run();
    pair.pass(Duration::from_secs(1));
    pair.assert_works();
    assert_eq!(pair.deliver(&old[1]), Err(OpenError::Stale));
}

#[test]
fn what_is_thrown_back_at_its_sender_changes_nothing() {
    let mut pair = Pair::established();
    let data = [pair.data(0, leg(0), b"there"), pair.data(1, leg(1), b"back")];
    let (state, events) = (pair.state(), pair.events.clone());
    for mut flight in pair.sent.clone() {
        flight.to = 1 - flight.to;
        assert!(pair.deliver(&flight).is_err(), "{:?}", kind_of(&flight));
    }
    for mut flight in data {
        flight.to = 1 - flight.to;
        assert_eq!(pair.open(&flight), Err(OpenError::Cid));
        // Even with the right association in it.
        let cid = pair.ends[flight.to].config.own_cid;
        flight.octets[4..8].copy_from_slice(&cid.to_le_bytes());
        assert_eq!(pair.open(&flight), Err(OpenError::Tag));
    }
    assert_eq!((pair.state(), &pair.events), (state, &events));
    pair.assert_works();
}

#[test]
fn a_packet_serves_on_its_own_leg_only() {
    let mut pair = Pair::established();
    let mut moved = pair.data(0, leg(0), b"a record");
    let genuine = moved.clone();
    moved.leg = leg(1);
    assert_eq!(pair.open(&moved), Err(OpenError::Leg));
    moved.octets[2] = 1;
    assert_eq!(pair.open(&moved), Err(OpenError::FabricKey));
    moved.octets[26] = 0xb;
    assert_eq!(pair.open(&moved), Err(OpenError::Tag));
    assert_eq!(pair.open(&genuine).unwrap(), b"a record");
    // The same with CONNECT: cables that were swapped are found.
    let mut pair = Pair::new();
    pair.begin(0);
    let mut connect = pair.flights(0).remove(0);
    connect.leg = leg(1);
    assert_eq!(pair.deliver(&connect), Err(OpenError::Leg));
    connect.octets[2] = 1;
    assert_eq!(pair.deliver(&connect), Err(OpenError::FabricKey));
}

#[test]
fn a_changed_bit_anywhere_changes_nothing() {
    //= spec/packet-security.md#silence
    //= type=test
    //# A packet that cannot be opened MUST be dropped and counted by its reason, and MUST NOT change anything else.
    //= spec/packet-security.md#authentication
    //= type=test
    //# The tag MUST cover every octet of the header and of the payload, on trusted fabrics too.
    //= spec/packet-security.md#opening
    //= type=test
    //# A receiver MUST NOT use anything of a packet of a session, but to find its key, before its tag was found right.
    let mut pair = Pair::new();
    pair.begin(0);
    for _ in 0..4 {
        let flights = [pair.flights(0), pair.flights(1)].concat();
        for flight in flights {
            check_flips(&mut pair, &flight, &mut |pair, flight| pair.deliver(flight));
            let _ = pair.deliver(&flight);
        }
    }
    pair.assert_works();
    for (end, number) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let data = pair.data(end, leg(number), b"sixteen octets..");
        check_flips(&mut pair, &data, &mut |pair, flight| pair.open(flight).map(drop));
        assert_eq!(pair.open(&data).unwrap(), b"sixteen octets..");
    }
}

fn check_flips(
    pair: &mut Pair,
    flight: &Flight,
    deliver: &mut dyn FnMut(&mut Pair, &Flight) -> Result<(), OpenError>,
) {
    let before = pair.ends[flight.to].counters().refused_in_all();
    let (state, events) = (pair.state(), pair.events.clone());
    let bits = 8 * flight.octets.len();
    for bit in 0..bits {
        let mut changed = flight.clone();
        changed.octets[bit / 8] ^= 1 << (bit % 8);
        let kind = PacketHeader::parse(&changed.octets).map(|header| header.kind);
        // A RESET proves nothing and does nothing.
        if deliver(pair, &changed).is_ok() {
            assert_eq!(kind, Ok(PacketKind::Reset), "bit {bit} of {:?}", kind_of(flight));
            pair.ends[flight.to].forgotten_at = None;
            pair.ends[flight.to].counters.count(OpenError::Kind);
        }
        assert_eq!((pair.state(), &pair.events), (state, &events), "bit {bit} of {:?}", kind_of(flight));
    }
    assert_eq!(pair.ends[flight.to].counters().refused_in_all() - before, bits as u64);
}

#[test]
fn a_packet_cut_short_or_made_longer_is_dropped() {
    let mut pair = Pair::established();
    let data = pair.data(0, leg(0), b"some octets");
    for len in 0..data.octets.len() {
        let cut = Flight { octets: data.octets[..len].to_vec(), ..data.clone() };
        assert_eq!(pair.open(&cut), Err(OpenError::Form));
        assert_eq!(pair.deliver(&cut), Err(OpenError::Form));
    }
    let mut longer = data.clone();
    longer.octets.push(0);
    assert_eq!(pair.open(&longer), Err(OpenError::Form));
    assert_eq!(pair.open(&data).unwrap(), b"some octets");
}

#[test]
fn an_end_with_another_pair_key_is_not_answered() {
    //= spec/packet-security.md#greeting-tags
    //= type=test
    //# An end MUST drop a CONNECT or ACCEPT whose tag is not right before it does any arithmetic on curves.
    let mut stranger = config(0);
    stranger.kind = SessionKind::Pair(PairKey::from_octets([8; 32]));
    let mut pair = Pair::of([stranger, config(1)]);
    pair.begin(0);
    pair.run();
    assert_eq!(pair.sent.len(), 2, "no answer");
    assert_eq!(pair.ends[1].counters().refused(OpenError::Mac), 2);
    assert_eq!(pair.ends[1].counters().refused(OpenError::Proof), 0);
}

#[test]
fn an_end_without_the_private_key_is_not_answered() {
    // It has the pair key, but not the key that the grant says.
    let mut stranger = config(0);
    stranger.own_key = key(9);
    let mut pair = Pair::of([stranger, config(1)]);
    pair.begin(0);
    pair.run();
    assert_eq!(pair.sent.len(), 2, "no answer");
    assert_eq!(pair.ends[1].counters().refused(OpenError::Proof), 2);
    assert!(pair.ends[1].pending.is_none());
    // And an answer of the wrong one is not believed: here the initiator expects another.
    let mut expecting = config(0);
    expecting.peer_key = key(9).public();
    let mut pair = Pair::of([expecting, config(1)]);
    pair.begin(0);
    pair.run();
    assert!(!pair.ends[0].is_established() && !pair.ends[1].is_established());
}

#[test]
fn a_connect_that_names_other_processes_is_dropped() {
    //= spec/packet-security.md#process-ids
    //= type=test
    //# CONNECT MUST name both processes of the grant, or it is dropped.
    for (own, peer) in [(ProcessId(1), ProcessId(101)), (ProcessId(100), ProcessId(1))] {
        let mut other = config(0);
        (other.own, other.peer) = (own, Some(peer));
        let mut pair = Pair::of([other, config(1)]);
        pair.begin(0);
        pair.run();
        assert_eq!(pair.sent.len(), 2, "no answer");
        assert_eq!(pair.ends[1].counters().refused(OpenError::Process), 2);
    }
}

#[test]
fn reset_is_a_hint_and_no_more() {
    //= spec/packet-security.md#reset
    //= type=test
    //# RESET MUST NOT change a session; it may only make its receiver begin another handshake when nothing of the peer is
    //# opened within 50 ms.
    let mut pair = Pair::established();
    let mut gate = Gate::new(&config(1).own_key.public(), [1; 32]);
    let sealed = pair.data(0, leg(0), b"x");
    let mut reset = Flight { to: 0, leg: leg(0), octets: vec![0; 48] };
    let header = PacketHeader::parse(&sealed.octets).unwrap();
    assert_eq!(gate.write_reset(pair.now, &header, &mut reset.octets), Some(48));
    let (state, events) = (pair.state(), pair.events.clone());
    pair.deliver(&reset).unwrap();
    // The peer is heard of in time.
    let answer = pair.data(1, leg(1), b"here");
    pair.open(&answer).unwrap();
    pair.pass(Duration::from_secs(1));
    assert_eq!(pair.events, events);
    pair.deliver(&reset).unwrap();
    pair.pass(FORGOTTEN_AFTER);
    assert_eq!(pair.events[0].last(), Some(&SessionEvent::Forgotten));
    assert_eq!(pair.state()[1], state[1]);
    pair.assert_works();
    // Who cannot name the session cannot even hint.
    reset.octets[8] ^= 1;
    assert_eq!(pair.deliver(&reset), Err(OpenError::Session));
}

#[test]
fn a_resumed_process_seals_nothing_with_its_old_keys() {
    //= spec/packet-security.md#snapshots
    //= type=test
    //# A process that was resumed from a snapshot MUST NOT seal anything with the keys that were in it.
    let mut pair = Pair::established();
    let old = pair.ends[1].id();
    pair.begin(0);
    pair.ends[0].forget();
    assert!(pair.flights(0).is_empty() && !pair.ends[0].is_established());
    assert_eq!(pair.data_of(0, leg(0), 9, b"x").unwrap_err(), SealError::NoSession);
    pair.entropy.stir(b"resumed");
    pair.numbers = Default::default();
    pair.begin(0);
    pair.run();
    pair.assert_works();
    assert!(pair.ends[0].id() != old);
}
