//! A LAN's server, frame by frame.

use super::*;
use crate::address::BootTag;
use crate::group::message::tests::old_report;
use crate::group::testing::{datagram, group};
use crate::wire::control::{GroupCause, JoinedGroup};
use crate::wire::frame::Vnet;
use core::time::Duration;

mod runs;
mod stations;

const LAN: LanId = LanId(10);

fn mac(n: u8) -> MacAddress {
    MacAddress([2, 0, 1, 0, 0, n])
}

fn server(port_security: PortSecurity) -> LanServer {
    let members = (1..=3).map(|n| (NodeNumber(n.into()), VifNumber(1), mac(n))).collect();
    let mut server = LanServer::new(LanServerConfig {
        id: LAN,
        name: "red".into(),
        mtu: 1500,
        port_security,
        members,
        multicast: MulticastConfig::default(),
        seed: 5,
    });
    for slot in 0..3 {
        server.attach(MemberSlot(slot), ProcessId(100 + u64::from(slot)));
    }
    server
}

fn header(bseq: u32) -> FrameHeader {
    FrameHeader {
        kind: FrameKind::Relay,
        flags: 0,
        lan: LAN,
        origin: NodeNumber(1),
        origin_vif: VifNumber(1),
        destination_vif: VifNumber(0),
        vnet: Vnet::default(),
        boot: BootTag(100),
        bseq,
    }
}

fn frame(destination: MacAddress, source: MacAddress) -> [u8; 60] {
    let mut frame = [0; 60];
    frame[..6].copy_from_slice(&destination.0);
    frame[6..12].copy_from_slice(&source.0);
    frame[12] = 8;
    frame
}

fn verdict(server: &mut LanServer, header: &FrameHeader, frame: &[u8]) -> Verdict {
    server.handle_frame(Instant::ZERO, MemberSlot(0), header, frame, frame.len())
}

#[test]
fn a_member_reaches_a_member_and_a_group_reaches_all() {
    let mut server = server(PortSecurity::Mac);
    let to = Verdict::Unicast { to: MemberSlot(1), worth_direct: false };
    assert_eq!(verdict(&mut server, &header(0), &frame(mac(2), mac(1))), to);
    assert_eq!(verdict(&mut server, &header(1), &frame(MacAddress::BROADCAST, mac(1))), Verdict::Group);
}

#[test]
fn a_group_reaches_those_who_have_joined_it_and_reports_reach_routers() {
    //= spec/multicast.md#joined-members
    //= type=test
    //# The server MUST give a frame of a snooped group to the members that have joined it and to those that get every
    //# group, once to each and never to its sender, and to nobody else.
    //= spec/multicast.md#reports
    //= type=test
    //# The server MUST give reports of IGMP and MLD to the members that get every group, and to nobody else.
    let mut server = server(PortSecurity::Mac);
    let stream = datagram("239.1.1.1");
    let joined = JoinedGroup { group: "239.1.1.1".parse().unwrap(), cause: GroupCause::Own };
    let says = |joined: Vec<JoinedGroup>, every_group| GroupNotice {
        vif: VifNumber(1),
        more: false,
        every_group,
        joined,
        left: vec![],
    };
    server.handle_groups(Instant::ZERO, MemberSlot(0), &says(vec![], false));
    server.handle_groups(Instant::ZERO, MemberSlot(1), &says(vec![joined], false));
    let mut number = 0;
    let mut takers = |server: &mut LanServer, frame: &[u8]| {
        number += 1;
        match verdict(server, &header(number), frame) {
            Verdict::Joined(row) => [0, 1, 2].map(|slot| server.wants(row, MemberSlot(slot))),
            other => panic!("{other:?}"),
        }
    };
    let mut report = old_report(group("239.1.1.1"), false);
    report[6..12].copy_from_slice(&mac(1).0);
    assert_eq!(takers(&mut server, &stream), [false, true, true], "the third has said nothing yet");
    assert_eq!(takers(&mut server, &report), [false, false, true]);
    server.handle_groups(Instant::ZERO, MemberSlot(2), &says(vec![], false));
    assert_eq!(takers(&mut server, &stream), [false, true, false]);
    assert_eq!(takers(&mut server, &report), [false; 3]);
    server.attach(MemberSlot(1), ProcessId(101));
    server.handle_groups(Instant::ZERO, MemberSlot(1), &says(vec![], false));
    assert_eq!(takers(&mut server, &stream), [false; 3], "another session begins with nothing");
    server.config.multicast.floods = true;
    assert_eq!(verdict(&mut server, &header(99), &stream), Verdict::Group);
}

#[test]
fn frames_that_do_not_match_their_channel_are_dropped() {
    //= spec/server.md#admission
    //= type=test
    //# The server MUST discard a frame whose LAN, origin node, origin interface or process is not that of the
    //# member whose channel it came by.
    let mut server = server(PortSecurity::Mac);
    let good = frame(mac(2), mac(1));
    for (wrong, reason) in [
        (FrameHeader { lan: LanId(11), ..header(0) }, DropReason::WrongGrant),
        (FrameHeader { origin: NodeNumber(2), ..header(0) }, DropReason::WrongGrant),
        (FrameHeader { origin_vif: VifNumber(2), ..header(0) }, DropReason::WrongGrant),
        (FrameHeader { boot: BootTag(7), ..header(0) }, DropReason::StaleBoot),
        (FrameHeader { kind: FrameKind::Unicast, ..header(0) }, DropReason::Malformed),
    ] {
        assert_eq!(verdict(&mut server, &wrong, &good), Verdict::Drop(reason));
        assert_eq!(server.drops().of(reason), server.drops().of(reason).max(1));
    }
    server.detach(MemberSlot(0));
    assert_eq!(verdict(&mut server, &header(0), &good), Verdict::Drop(DropReason::NotMember));
}

#[test]
fn a_foreign_source_mac_is_dropped_under_port_security() {
    //= spec/server.md#port-security
    //= type=test
    //# Under port security the server MUST discard a frame whose source MAC is neither the sending interface's own nor
    //# that of a station learned behind it.
    let forged = frame(mac(2), mac(3));
    let mut checked = server(PortSecurity::Mac);
    assert_eq!(verdict(&mut checked, &header(0), &forged), Verdict::Drop(DropReason::SourceMac));
    let mut open = server(PortSecurity::Off);
    assert!(matches!(verdict(&mut open, &header(0), &forged), Verdict::Unicast { .. }));
    let group_source = frame(mac(2), MacAddress([3, 0, 0, 0, 0, 1]));
    assert_eq!(verdict(&mut open, &header(1), &group_source), Verdict::Drop(DropReason::BadSource));
}

#[test]
fn a_numbered_frame_is_taken_once_and_a_new_process_numbers_anew() {
    //= spec/server.md#numbered-frames
    //= type=test
    //# The server MUST take each numbered frame of an origin at most once.
    let mut server = server(PortSecurity::Mac);
    let good = frame(mac(2), mac(1));
    assert!(matches!(verdict(&mut server, &header(7), &good), Verdict::Unicast { .. }));
    assert_eq!(verdict(&mut server, &header(7), &good), Verdict::Drop(DropReason::Duplicate));
    // The first to come had overtaken another.
    assert!(matches!(verdict(&mut server, &header(6), &good), Verdict::Unicast { .. }));
    assert_eq!(verdict(&mut server, &header(6), &good), Verdict::Drop(DropReason::Duplicate));
    server.attach(MemberSlot(0), ProcessId(200));
    let header = FrameHeader { boot: BootTag(200), ..header(7) };
    assert!(matches!(verdict(&mut server, &header, &good), Verdict::Unicast { .. }));
}

#[test]
fn a_pair_is_worth_a_direct_rvi_by_frames_or_by_time() {
    //= spec/server.md#direct-rvis
    //= type=test
    //# The server MUST report a pair as worth a direct RVI after 64 relayed frames, or when a frame comes 10 ms or
    //# more after the pair's first.
    let worth = |v| matches!(v, Verdict::Unicast { worth_direct: true, .. });
    let mut server = server(PortSecurity::Mac);
    let good = frame(mac(2), mac(1));
    for bseq in 0..63 {
        assert!(!worth(verdict(&mut server, &header(bseq), &good)), "frame {bseq}");
    }
    assert!(worth(verdict(&mut server, &header(63), &good)));
    let other = frame(mac(3), mac(1));
    let first = Instant::from_nanos(1);
    assert!(!worth(server.handle_frame(first, MemberSlot(0), &header(64), &other, 60)));
    let later = first + Duration::from_millis(10);
    assert!(worth(server.handle_frame(later, MemberSlot(0), &header(65), &other, 60)));
}

#[test]
fn lengths_beyond_the_mtu_need_segmentation_state() {
    let mut server = server(PortSecurity::Mac);
    let good = frame(mac(2), mac(1));
    let long = server.handle_frame(Instant::ZERO, MemberSlot(0), &header(0), &good, 1519);
    assert_eq!(long, Verdict::Drop(DropReason::TooLong));
    let vnet = Vnet {
        flags: Vnet::NEEDS_CSUM,
        gso_type: 1,
        hdr_len: 54,
        gso_size: 1446,
        csum_start: 34,
        csum_offset: 16,
    };
    let header = FrameHeader { vnet: Vnet { csum_start: 58, ..vnet }, ..header(1) };
    let whole = server.handle_frame(Instant::ZERO, MemberSlot(0), &header, &good, 65_000);
    assert!(matches!(whole, Verdict::Unicast { .. }));
    let arp = FrameHeader { kind: FrameKind::Arp, vnet: Vnet::default(), bseq: 9, ..header };
    assert_eq!(verdict(&mut server, &arp, &good), Verdict::Drop(DropReason::BadArp), "no ARP inside");
    let unknown = verdict(&mut server, &FrameHeader { bseq: 2, ..header }, &frame(mac(9), mac(1)));
    assert_eq!(unknown, Verdict::Drop(DropReason::Malformed), "sums beyond a short frame");
}

#[test]
fn frames_to_nobody_to_oneself_and_to_the_absent_are_counted_apart() {
    let mut server = server(PortSecurity::Mac);
    let drop = |v, reason| assert_eq!(v, Verdict::Drop(reason));
    drop(verdict(&mut server, &header(0), &frame(mac(9), mac(1))), DropReason::UnknownDestination);
    drop(verdict(&mut server, &header(1), &frame(mac(1), mac(1))), DropReason::Hairpin);
    server.detach(MemberSlot(1));
    drop(verdict(&mut server, &header(2), &frame(mac(2), mac(1))), DropReason::NotAttached);
    assert!(server.ledger().closes(server.drops().total()));
}

#[test]
fn a_copy_goes_to_the_listener_that_it_names_and_to_nobody_else() {
    //= spec/promiscuous.md#relayed-copies
    //= type=test
    //# The server MUST give a copy to the listener that its header names and to nobody else, and drop it when that member
    //# does not listen.
    let mut server = server(PortSecurity::Mac);
    let copy =
        |bseq| FrameHeader { kind: FrameKind::Promiscuous, destination_vif: VifNumber(1), ..header(bseq) };
    let mut arp = frame(mac(2), mac(1));
    arp[12..14].copy_from_slice(&crate::ethernet::ETHERTYPE_ARP.to_be_bytes());
    assert_eq!(verdict(&mut server, &copy(0), &arp), Verdict::Copy, "whatever it is a copy of");
    let forged = frame(mac(2), mac(3));
    assert_eq!(verdict(&mut server, &copy(1), &forged), Verdict::Drop(DropReason::SourceMac));
    let decide = |server: &mut LanServer, from, node| {
        server.decide_copy(Instant::ZERO, MemberSlot(from), (NodeNumber(node), VifNumber(1)))
    };
    let refused = Verdict::Drop(DropReason::NotListening);
    assert_eq!(decide(&mut server, 0, 3), refused);
    assert!(server.set_listens(MemberSlot(2), true));
    assert_eq!(decide(&mut server, 0, 3), Verdict::Unicast { to: MemberSlot(2), worth_direct: false });
    assert_eq!(decide(&mut server, 0, 2), refused, "another member");
    assert_eq!(decide(&mut server, 2, 3), Verdict::Drop(DropReason::Hairpin));
    server.attach(MemberSlot(2), ProcessId(102));
    assert_eq!(decide(&mut server, 0, 3), refused, "another session says so anew");
}

mod senders {
    use super::*;
    use crate::security::claims::tests::{arp, na, ns, ra, udp4};
    use crate::security::{OwnAddresses, Roles, Sender};
    use core::net::IpAddr;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Members 0 to 2 have 10.1.0.1 to 10.1.0.3.
    fn checked() -> LanServer {
        let mut server = server(PortSecurity::Address);
        for n in 0..3_u8 {
            let own = OwnAddresses::new(alloc::vec![IpAddr::from([10, 1, 0, n + 1])]);
            server.set_sender(MemberSlot(n.into()), Sender { own, ..Sender::default() });
        }
        server
    }

    fn judged(server: &mut LanServer, bseq: u32, frame: &[u8]) -> Verdict {
        let header = FrameHeader { kind: FrameKind::Group, ..header(bseq) };
        server.handle_frame(Instant::ZERO, MemberSlot(0), &header, frame, frame.len())
    }

    #[test]
    fn group_and_relayed_frames_are_judged_by_their_sender() {
        let mut server = checked();
        assert_eq!(judged(&mut server, 0, &udp4("10.1.0.1", 5000, 7)), Verdict::Group);
        let spoofed = judged(&mut server, 1, &udp4("10.1.0.2", 5000, 7));
        assert_eq!(spoofed, Verdict::Drop(DropReason::SourceAddress));
        let offer = judged(&mut server, 2, &udp4("10.1.0.1", 67, 68));
        assert_eq!(offer, Verdict::Drop(DropReason::DhcpGuard));
        // ARP and ND are judged whole.
        assert_eq!(judged(&mut server, 3, &arp(2, "10.1.0.2", "10.1.0.3")), Verdict::Arp);
        let reply = server.check_resolution(MemberSlot(0), &arp(2, "10.1.0.2", "10.1.0.3"));
        assert_eq!(reply, Err(DropReason::SourceAddress));
        assert_eq!(server.check_resolution(MemberSlot(0), &ra("fe80::1")), Err(DropReason::RaGuard));
        let roles = Roles { dhcp_server: true, router: true };
        server.set_sender(MemberSlot(0), Sender { roles, ..server.sender(MemberSlot(0)).clone() });
        assert_eq!(judged(&mut server, 4, &udp4("10.1.0.1", 67, 68)), Verdict::Group);
    }

    #[test]
    fn a_tag_hides_no_arp() {
        let mut server = checked();
        let reply = arp(2, "10.1.0.2", "10.1.0.3");
        let tagged = [&reply[..12], &[0x81, 0, 0, 0], &reply[12..]].concat();
        assert_eq!(judged(&mut server, 0, &tagged), Verdict::Drop(DropReason::SourceAddress));
    }

    #[test]
    fn a_probe_asks_for_no_address_of_another_member() {
        //= spec/port-security.md#probes
        //= type=test
        //# Under port security `address` a probe MUST be discarded that asks for an address of another member.
        let mut server = checked();
        let mut probe = |from: u16, frame: &[u8]| server.check_resolution(MemberSlot(from), frame);
        assert_eq!(probe(0, &arp(1, "0.0.0.0", "10.1.0.1")), Ok(()));
        assert_eq!(probe(0, &arp(1, "0.0.0.0", "10.1.0.99")), Ok(()));
        assert_eq!(probe(0, &arp(1, "0.0.0.0", "10.1.0.2")), Err(DropReason::SourceAddress));
        assert_eq!(probe(0, &ns("::", "fe80::1")), Ok(()));
        assert_eq!(probe(1, &ns("::", "fe80::1")), Err(DropReason::SourceAddress));
    }

    #[test]
    fn a_link_local_address_is_of_who_asked_first_unless_another_registers_it() {
        //= spec/port-security.md#link-local-addresses
        //= type=test
        //# Under port security `address` a link-local address MUST count as an interface's own when its node has registered
        //# it, or when its probe was the first for it; no address MUST be the own one of two interfaces.
        let mut server = checked();
        let (first, second) = (MemberSlot(0), MemberSlot(1));
        let speaks = |server: &mut LanServer, slot| server.check_resolution(slot, &na("fe80::1", "fe80::1"));
        assert_eq!(speaks(&mut server, first), Err(DropReason::SourceAddress));
        assert_eq!(server.check_resolution(first, &ns("::", "fe80::1")), Ok(()));
        assert_eq!(speaks(&mut server, first), Ok(()));
        assert_eq!(server.take_changed_senders(), [first]);
        server.bound(second, ip("fe80::1"));
        assert_eq!(speaks(&mut server, second), Ok(()));
        assert_eq!(speaks(&mut server, first), Err(DropReason::SourceAddress));
        assert_eq!(server.take_changed_senders(), [first, second]);
        server.bound(second, ip("fe80::1"));
        assert_eq!(server.take_changed_senders(), []);
        server.attach(second, ProcessId(101));
        assert_eq!(speaks(&mut server, second), Ok(()), "the same process");
        server.attach(second, ProcessId(999));
        assert_eq!(speaks(&mut server, second), Err(DropReason::SourceAddress));
        server.bound(second, ip("fe80::1"));
        server.unbound(second, ip("fe80::1"));
        assert_eq!(speaks(&mut server, second), Err(DropReason::SourceAddress));
    }

    #[test]
    fn a_node_registers_its_own_addresses_and_link_local_ones_alone() {
        let may = |server: &LanServer, address| server.may_bind(MemberSlot(0), ip(address));
        let checked = checked();
        assert!(may(&checked, "10.1.0.1") && may(&checked, "fe80::7") && may(&checked, "169.254.1.1"));
        assert!(!may(&checked, "10.1.0.2") && !may(&checked, "10.1.0.99") && !may(&checked, "fd00::7"));
        assert!(may(&server(PortSecurity::Mac), "10.1.0.99"));
    }

    #[test]
    fn limits_hold_by_the_kind_of_destination() {
        use crate::security::{Limits, Rate};
        let rate = |frames| Rate { frames: Some(frames), bits: None };
        let (broadcast, multicast) = (rate(1), rate(1));
        let limits = Limits { broadcast, multicast, unknown: rate(1), total: rate(1000) };
        let mut server = server(PortSecurity::Mac);
        server.set_limits(MemberSlot(0), &limits);
        let stranger = MacAddress([2, 9, 9, 9, 9, 9]);
        let multicast = MacAddress([0x33, 0x33, 0, 0, 0, 1]);
        let mut bseq = 0;
        let mut give = |to: MacAddress| {
            bseq += 1;
            verdict(&mut server, &header(bseq), &frame(to, mac(1)))
        };
        assert_eq!(give(MacAddress::BROADCAST), Verdict::Group);
        assert_eq!(give(MacAddress::BROADCAST), Verdict::Drop(DropReason::LimitBroadcast));
        assert_eq!(give(multicast), Verdict::Group);
        assert_eq!(give(multicast), Verdict::Drop(DropReason::LimitMulticast));
        assert_eq!(give(stranger), Verdict::Drop(DropReason::UnknownDestination));
        assert_eq!(give(stranger), Verdict::Drop(DropReason::LimitUnknown));
        for _ in 0..98 {
            assert!(matches!(give(mac(2)), Verdict::Unicast { .. }));
        }
        assert_eq!(give(mac(2)), Verdict::Drop(DropReason::LimitTotal));
        assert!(server.ledger().closes(server.drops().total() + 101 - 3 + 2), "{:?}", server.ledger());
    }
}
