//! Stations behind members' interfaces.

use super::*;
use crate::security::learned::AGEING;

fn station(n: u8) -> MacAddress {
    MacAddress([2, 7, 7, 7, 7, n])
}

/// A frame of the first member's interface.
fn give(server: &mut LanServer, bseq: u32, to: MacAddress, source: MacAddress) -> Verdict {
    verdict(server, &header(bseq), &frame(to, source))
}

#[test]
fn stations_behind_an_interface_are_learned_and_reached_and_no_member_is_one() {
    //= spec/port-security.md#no-members-station
    //= type=test
    //# The MAC of a member MUST NOT be learned as a station behind an interface.
    let mut server = server(PortSecurity::Mac);
    let refused = Verdict::Drop(DropReason::SourceMac);
    assert_eq!(give(&mut server, 0, mac(2), station(1)), refused, "no room for any");
    server.set_room(MemberSlot(0), 2);
    for n in 1..=2 {
        assert!(matches!(give(&mut server, n.into(), mac(2), station(n)), Verdict::Unicast { .. }));
    }
    assert_eq!(give(&mut server, 3, mac(2), station(3)), Verdict::Drop(DropReason::StationsFull));
    assert_eq!(give(&mut server, 4, mac(2), mac(3)), refused, "a member's");
    assert_eq!(give(&mut server, 5, mac(2), MacAddress::BROADCAST), refused);
    assert_eq!(server.stations().count(), 2);
    assert_eq!(server.slot_of(station(2)), Some(MemberSlot(0)));
    assert_eq!(give(&mut server, 6, station(2), station(1)), Verdict::Drop(DropReason::Hairpin));
    let other = FrameHeader { origin: NodeNumber(2), boot: BootTag(101), ..header(0) };
    let back = server.handle_frame(Instant::ZERO, MemberSlot(1), &other, &frame(station(1), mac(2)), 60);
    assert_eq!(back, Verdict::Unicast { to: MemberSlot(0), worth_direct: false });
}

#[test]
fn a_station_moves_ages_and_leaves_with_its_member() {
    //= spec/port-security.md#learned-stations
    //= type=test
    //# Behind an interface with `learn = N` up to N further stations MUST be learned from the frames that come from it; a
    //# station that has been silent for 300 s MUST be forgotten, and one that is heard behind another interface with room
    //# MUST be there from then on.
    let mut server = server(PortSecurity::Mac);
    server.set_room(MemberSlot(0), 2);
    server.set_room(MemberSlot(1), 1);
    give(&mut server, 1, mac(3), station(1));
    give(&mut server, 2, mac(3), station(2));
    assert_eq!(server.take_moved(), None);
    let (second, later) = (MemberSlot(1), Instant::ZERO + Duration::from_secs(2));
    let moved = FrameHeader { origin: NodeNumber(2), boot: BootTag(101), ..header(0) };
    server.handle_frame(later, second, &moved, &frame(mac(3), station(1)), 60);
    assert_eq!((server.take_moved(), server.take_moved()), (Some((station(1), second)), None));
    let due = Instant::ZERO + AGEING;
    assert_eq!(server.poll_timeout(), Some(due));
    assert_eq!(server.forget_silent(due), [station(2)]);
    assert_eq!((server.slot_of(station(2)), server.slot_of(station(1))), (None, Some(second)));
    server.detach(second);
    assert_eq!(server.slot_of(station(1)), None);
}

#[test]
fn without_port_security_who_finds_no_room_is_let_through_and_not_learned() {
    let mut server = server(PortSecurity::Off);
    server.set_room(MemberSlot(0), 1);
    for n in 1..=2 {
        assert!(matches!(give(&mut server, n.into(), mac(2), station(n)), Verdict::Unicast { .. }));
    }
    assert_eq!(server.stations().collect::<Vec<_>>(), [(station(1), MemberSlot(0))]);
}
