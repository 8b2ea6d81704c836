//! Stations behind peers, and behind the interface itself.

use super::*;
use crate::security::learned::{LEARNED_MAX, STAY};

fn station(n: u8) -> MacAddress {
    MacAddress([2, 7, 7, 7, 7, n])
}

fn learns(driver: &mut Driver, node: u16, learn: u16) {
    let (node, vif) = (NodeNumber(node), VifNumber(3));
    driver.handle_sender(&SenderNotice { lan: LAN, node, vif, learn, ..Default::default() });
}

/// A frame from the direct RVI of the peer at `slot`.
fn admit(driver: &mut Driver, now: Instant, slot: PeerSlot, source: MacAddress) -> Ingress {
    let mut frame = frame(OWN, source, 0x0800);
    frame[14] = 0x45;
    let header = FrameHeader { origin: NodeNumber(2 + slot.0), ..direct_header() };
    driver.admit_direct(now, slot, &header, &frame, frame.len())
}

fn bound(driver: &Driver, mac: MacAddress) -> Option<PeerSlot> {
    match classify(driver, &frame(mac, OWN, 0x0800)) {
        Egress::Relay { peer } => peer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_receiver_learns_the_stations_behind_a_peer_as_far_as_it_was_told() {
    //= spec/driver.md#direct-frames
    //= type=test
    //# The driver MUST discard a frame from a direct RVI whose LAN, origin or interface is not that of the grant,
    //# or whose source MAC is under port security neither the granted peer's nor that of a station learned behind it.
    let mut driver = driver();
    driver.handle_grant(&grant()).unwrap();
    let admit = |driver: &mut Driver, source| admit(driver, Instant::ZERO, SLOT, source);
    assert_eq!(admit(&mut driver, station(1)), Ingress::Drop(DropReason::SourceMac));
    learns(&mut driver, 2, 1);
    assert!(matches!(admit(&mut driver, station(1)), Ingress::Deliver(_)));
    assert_eq!(admit(&mut driver, station(2)), Ingress::Drop(DropReason::StationsFull));
    assert_eq!(admit(&mut driver, OWN), Ingress::Drop(DropReason::SourceMac), "its own");
    assert_eq!(admit(&mut driver, MacAddress([3; 6])), Ingress::Drop(DropReason::SourceMac), "a group's");
    assert!(matches!(admit(&mut driver, PEER), Ingress::Deliver(_)));
}

#[test]
fn a_station_on_a_direct_rvi_is_bound_to_its_peer_and_forgotten_when_it_is_silent() {
    //= spec/driver.md#stations-of-direct-rvis
    //= type=test
    //# The driver MUST bind a station that it hears on a direct RVI for the first time, or behind another peer than
    //# before, to that peer.
    let mut driver = driver();
    let third = PeerSlot(1);
    driver.handle_member(&MemberNotice {
        node: NodeNumber(3),
        mac: MacAddress([2, 0, 1, 0, 0, 3]),
        ..notice(9)
    });
    driver.handle_grant(&grant()).unwrap();
    driver.handle_grant(&Grant { peer: NodeNumber(3), channel: Channel(5), ..grant() }).unwrap();
    learns(&mut driver, 2, 1);
    learns(&mut driver, 3, 1);
    let (from, later) = (Instant::ZERO, Instant::ZERO + STAY);
    assert_eq!(bound(&driver, station(1)), None);
    assert!(matches!(admit(&mut driver, from, SLOT, station(1)), Ingress::Deliver(_)));
    assert_eq!(bound(&driver, station(1)), Some(SLOT));
    assert!(matches!(admit(&mut driver, later, third, station(1)), Ingress::Deliver(_)));
    assert_eq!(bound(&driver, station(1)), Some(third));
    let full = Ingress::Drop(DropReason::StationsFull);
    let after = |seconds| later + Duration::from_secs(seconds);
    assert_eq!(admit(&mut driver, after(299), third, station(2)), full);
    assert!(matches!(admit(&mut driver, after(300), third, station(2)), Ingress::Deliver(_)));
}

#[test]
fn a_station_behind_the_interface_itself_has_no_binding() {
    let mut driver = driver();
    let at =
        |node, vif| Location { node: NodeNumber(node), vif: VifNumber(vif), lan: LAN, ..Location::default() };
    driver.handle_binding(station(1), &at(2, 3));
    assert_eq!(bound(&driver, station(1)), Some(SLOT));
    driver.handle_binding(station(1), &at(7, 7));
    assert_eq!(bound(&driver, station(1)), Some(SLOT), "nobody's interface");
    driver.handle_binding(station(1), &at(1, 1));
    assert_eq!(bound(&driver, station(1)), None);
}

#[test]
fn bindings_of_stations_are_forgotten_when_there_are_too_many_and_take_no_members_place() {
    //= spec/driver.md#bindings-of-stations
    //= type=test
    //# The driver MUST forget all bindings of stations rather than keep more than 16384.
    let mut driver = Driver::new(NodeNumber(1), ProcessId(77), config(), 2, 1);
    assert!(driver.handle_member(&notice(9)));
    let at = Location { node: NodeNumber(2), vif: VifNumber(3), lan: LAN, ..Location::default() };
    let station = |n: usize| MacAddress([2, 7, 7, (n >> 16) as u8, (n >> 8) as u8, n as u8]);
    for n in 0..LEARNED_MAX {
        driver.handle_binding(station(n), &at);
    }
    for n in 0..LEARNED_MAX {
        assert_eq!(bound(&driver, station(n)), Some(SLOT), "{n}");
    }
    driver.handle_binding(station(LEARNED_MAX), &at);
    assert_eq!((bound(&driver, station(0)), bound(&driver, station(LEARNED_MAX))), (None, Some(SLOT)));
    assert!(driver.handle_member(&MemberNotice {
        node: NodeNumber(3),
        mac: MacAddress([2; 6]),
        ..notice(9)
    }));
}
