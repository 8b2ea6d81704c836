//! Cookies and limits.

use super::*;

const HERE: &[u8] = &[10, 0, 0, 1, 0x1f, 0x90];
const THERE: &[u8] = &[10, 0, 0, 2, 0x1f, 0x90];

fn gate() -> Gate {
    Gate::new(&config(1).own_key.public(), [4; 32])
}

/// A pair whose first end has asked, and what it asked.
fn asked() -> (Pair, Flight) {
    let mut pair = Pair::new();
    pair.begin(0);
    let connect = pair.flights(0).remove(0);
    (pair, connect)
}

fn answer(gate: &mut Gate, pair: &Pair, source: &[u8], connect: &Flight) -> Flight {
    let mut reply = [0; 64];
    let admission = gate.admit(pair.now, source, &connect.octets, true, &mut reply);
    assert_eq!(admission, Admission::Cookie(64));
    Flight { to: 0, leg: connect.leg, octets: reply.to_vec() }
}

#[test]
fn under_load_a_connect_needs_the_cookie_of_its_address() {
    //= spec/packet-security.md#cookies
    //= type=test
    //# Under load an end MUST answer a CONNECT without a valid cookie with COOKIE, and MUST keep nothing about it.
    let (mut pair, connect) = asked();
    let mut gate = gate();
    assert_eq!(gate.admit(pair.now, HERE, &connect.octets, false, &mut [0; 64]), Admission::Admitted);
    let cookie = answer(&mut gate, &pair, HERE, &connect);
    assert!(cookie.octets.len() < connect.octets.len());
    pair.deliver(&cookie).unwrap();
    let again = pair.flights(0);
    assert_eq!(again.len(), 1, "at once, by the leg that was asked");
    let admit = |gate: &mut Gate, now, source| gate.admit(now, source, &again[0].octets, true, &mut [0; 64]);
    assert_eq!(admit(&mut gate, pair.now, HERE), Admission::Admitted);
    assert_eq!(admit(&mut gate, pair.now, THERE), Admission::Cookie(64), "another address");
    let later = pair.now + Duration::from_secs(120);
    assert_eq!(admit(&mut gate, later, HERE), Admission::Admitted);
    let later = later + Duration::from_secs(120);
    assert_eq!(admit(&mut gate, later, HERE), Admission::Cookie(64), "too old");
    // With the cookie it is a CONNECT like any other.
    pair.deliver(&again[0]).unwrap();
    pair.run();
    pair.pass(Duration::from_secs(1));
    pair.assert_works();
}

#[test]
fn a_cookie_is_believed_only_for_the_connect_that_it_answers() {
    let (mut pair, connect) = asked();
    let mut gate = gate();
    let cookie = answer(&mut gate, &pair, HERE, &connect);
    for bit in 0..8 * cookie.octets.len() {
        let mut forged = cookie.clone();
        forged.octets[bit / 8] ^= 1 << (bit % 8);
        assert!(pair.deliver(&forged).is_err(), "bit {bit}");
    }
    let mut other = connect;
    *other.octets.last_mut().unwrap() ^= 1;
    let made_up = answer(&mut gate, &pair, HERE, &other);
    assert_eq!(pair.deliver(&made_up), Err(OpenError::Mac));
    assert!(pair.flights(0).is_empty());
    pair.deliver(&cookie).unwrap();
    pair.flights(0);
    // The same cookie again has nothing sent again.
    assert!(pair.deliver(&cookie).is_err(), "it answers the CONNECT before the last one");
    assert!(pair.flights(0).is_empty());
}

#[test]
fn handshakes_are_limited_by_source_and_in_all() {
    //= spec/packet-security.md#limits
    //= type=test
    //# Handshakes MUST be limited per source and in all.
    let (pair, connect) = asked();
    let mut gate = gate();
    let mut admit =
        |source: u32| gate.admit(pair.now, &source.to_le_bytes(), &connect.octets, false, &mut [0; 64]);
    let admitted = (0..60).filter(|_| admit(1) == Admission::Admitted).count();
    assert_eq!(admitted, 50);
    let all: Vec<_> = (2..5000).map(&mut admit).collect();
    let admitted = all.iter().filter(|admission| **admission == Admission::Admitted).count();
    // Half of the rest goes to those who have shown a cookie.
    assert_eq!(admitted, 250 + 1 - 50);
    assert!(all.iter().any(|admission| matches!(admission, Admission::Cookie(_))));
    assert_eq!(gate.counters().source_limited, 10);
}

#[test]
fn forged_addresses_do_not_use_up_what_others_are_granted() {
    let (mut pair, connect) = asked();
    let mut gate = gate();
    for source in 0..10_000u32 {
        gate.admit(pair.now, &source.to_le_bytes(), &connect.octets, false, &mut [0; 64]);
    }
    let cookie = answer(&mut gate, &pair, HERE, &connect);
    pair.deliver(&cookie).unwrap();
    let again = pair.flights(0).remove(0);
    assert_eq!(gate.admit(pair.now, HERE, &again.octets, false, &mut [0; 64]), Admission::Admitted);
}

#[test]
fn with_all_handshakes_spent_even_cookies_wait() {
    let (mut pair, connect) = asked();
    let mut gate = gate();
    let mut admitted = 0;
    for source in 0..600u32 {
        let source = source.to_le_bytes();
        let cookie = answer(&mut gate, &pair, &source, &connect);
        let (mut fresh, _) = asked();
        fresh.now = pair.now;
        fresh.deliver(&cookie).unwrap();
        let again = fresh.flights(0).remove(0);
        admitted +=
            usize::from(gate.admit(pair.now, &source, &again.octets, true, &mut []) == Admission::Admitted);
    }
    assert!(admitted <= 500 && gate.counters().limited + gate.counters().source_limited >= 100);
    pair.now = pair.now + Duration::from_secs(1);
    let admission = gate.admit(pair.now, HERE, &connect.octets, false, &mut []);
    assert_eq!(admission, Admission::Admitted);
}

#[test]
fn what_is_no_connect_is_refused() {
    let (mut pair, connect) = asked();
    let mut gate = gate();
    let mut other = connect.octets.clone();
    other[1] = PacketKind::Accept as u8;
    for octets in [&other[..], &connect.octets[..100], &[]] {
        assert_eq!(gate.admit(pair.now, HERE, octets, true, &mut [0; 64]), Admission::Refused);
    }
    assert_eq!(gate.counters().malformed, 3);
    pair.run();
}

#[test]
fn resets_are_few_and_answer_sealed_packets_only() {
    let mut pair = Pair::established();
    let mut gate = gate();
    let data = pair.data(0, leg(0), b"x");
    let header = PacketHeader::parse(&data.octets).unwrap();
    let mut out = [0; 48];
    let sent = (0..50).filter(|_| gate.write_reset(pair.now, &header, &mut out).is_some()).count();
    assert_eq!(sent, 10);
    pair.now = pair.now + Duration::from_secs(1);
    for kind in
        [PacketKind::Connect, PacketKind::Accept, PacketKind::Reset, PacketKind::Close, PacketKind::Cookie]
    {
        assert_eq!(gate.write_reset(pair.now, &PacketHeader { kind, ..header }, &mut out), None);
    }
    assert!(gate.write_reset(pair.now, &header, &mut out).is_some());
    assert_eq!(PacketHeader::parse_packet(&out).unwrap().session, header.session);
}
