//! The rules of `spec/uplink.md`, one after the other.

#[path = "uplink/world.rs"]
mod world;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use arp_server::build::{
    ALL_NODES, NdAddresses, Operation, arp, group_mac, nd, neighbour_advertisement, neighbour_solicitation,
    solicited_node,
};
use lan_proxy::{ConfigError, Device, Holder, Inward, LanProxy, Mode, UplinkConfig, Vid, audit};
use vlan_core::security::{Limits, Rate};
use vlan_core::server::MemberSlot;
use vlan_core::wire::Vnet;
use vlan_core::{DropReason, MacAddress};
use world::*;

fn drops(proxy: &LanProxy, reason: DropReason) -> u64 {
    proxy.counters().drops.of(reason)
}

/// A UDP frame from a station outside.
fn from_outside(to: MacAddress, destination: IpAddr) -> Vec<u8> {
    let is_v6 = destination.is_ipv6();
    let source = Spec::new(is_v6, 0).destination;
    Spec { to, from: STRANGER, source, destination, ..Spec::new(is_v6, 40) }.build().1
}

fn nd_addresses(source: (MacAddress, Ipv6Addr), destination: (MacAddress, Ipv6Addr)) -> NdAddresses {
    NdAddresses {
        destination_mac: destination.0,
        source_mac: source.0,
        source: source.1,
        destination: destination.1,
    }
}

#[test]
fn outside_sees_one_mac_of_a_filtered_lan() {
    //= spec/uplink.md#the-system-mac
    //= type=test
    //# In filtered mode a frame that goes outside MUST have the system MAC as its source, and in ARP and ND wherever it states
    //# its sender's MAC or one of the platform's.
    let mut proxy = filtered();
    let all = group_mac(ALL_NODES);
    let group = (all, ALL_NODES);
    let asked = solicited_node(v6(200));
    let own = (mac(1), v6(1));
    let option = |kind: u8, mac: MacAddress| [&[kind, 1][..], &mac.0].concat();
    let advertisement = [&[64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &option(1, mac(1))].concat();
    let redirect =
        [&[0; 4][..], &v6(2).octets(), &v6(200).octets(), &option(14, mac(3)), &option(2, mac(2))].concat();
    let mut gratuitous = arp(Operation::Reply, MacAddress::BROADCAST, (mac(1), v4(1)), v4(1));
    gratuitous[32..38].copy_from_slice(&mac(1).0);
    let mut names_another = arp(Operation::Reply, STRANGER, (mac(1), v4(1)), v4(200));
    names_another[32..38].copy_from_slice(&other_lan().0);
    let frames = [
        Spec::new(false, 100).build().1,
        Spec::new(true, 100).build().1,
        arp(Operation::Request, MacAddress::BROADCAST, (mac(1), v4(1)), v4(200)).to_vec(),
        arp(Operation::Reply, STRANGER, (mac(1), v4(1)), v4(200)).to_vec(),
        gratuitous.to_vec(),
        names_another.to_vec(),
        neighbour_solicitation(&nd_addresses(own, (group_mac(asked), asked)), v6(200)),
        neighbour_advertisement(&nd_addresses(own, (STRANGER, v6(200))), v6(1), true),
        neighbour_advertisement(&nd_addresses(own, group), v6(1), false),
        nd(&nd_addresses(own, group), 133, &[&[0; 4][..], &option(1, mac(1))].concat()),
        nd(&nd_addresses(own, group), 134, &advertisement),
        nd(&nd_addresses(own, (STRANGER, v6(200))), 137, &redirect),
    ];
    for frame in frames {
        let sent = sent(&mut proxy, &frame);
        assert_eq!(sent[6..12], SYSTEM.0);
        assert_eq!(sent[..6], frame[..6]);
        for hidden in [mac(1), mac(2), other_lan()] {
            assert!(!contains(&sent, hidden), "{hidden} in {sent:02x?}");
        }
        assert_eq!(audit::check(&sent, None, MTU), Ok(()));
        // And nothing else has changed but the sum of ND.
        let changed = frame.iter().zip(&sent).filter(|(a, b)| a != b).count();
        assert!(changed <= 20 && frame.len() == sent.len(), "{changed} octets");
    }
    // The answer of a node is the same to all.
    let answer =
        |to: MacAddress, target: Ipv4Addr| arp(Operation::Reply, to, (mac(2), v4(2)), target).to_vec();
    let another = MacAddress([0x52, 0x54, 0, 9, 9, 9]);
    assert_eq!(
        sent_sender(&mut proxy, &answer(STRANGER, v4(200))),
        sent_sender(&mut proxy, &answer(another, v4(201)))
    );
    // An ARP message's padding could hold anything.
    let padded = [&answer(STRANGER, v4(200))[..], &mac(3).0, &[0; 12]].concat();
    assert_eq!(sent(&mut proxy, &padded).len(), 42);
}

/// Hardware and protocol address of the sender in what goes outside.
fn sent_sender(proxy: &mut LanProxy, frame: &[u8]) -> Vec<u8> {
    sent(proxy, frame)[22..32].to_vec()
}

#[test]
fn an_unfiltered_lan_shows_its_macs() {
    let mut proxy = unfiltered();
    for frame in [
        Spec::new(false, 100).build().1,
        arp(Operation::Request, MacAddress::BROADCAST, (mac(1), v4(1)), v4(200)).to_vec(),
        neighbour_advertisement(&nd_addresses((mac(1), v6(1)), (STRANGER, v6(200))), v6(1), true),
    ] {
        assert_eq!(sent(&mut proxy, &frame), frame);
    }
}

#[test]
fn what_cannot_be_hidden_stays_inside() {
    //= spec/uplink.md#what-cannot-be-hidden
    //= type=test
    //# In filtered mode a frame MUST NOT go outside whose MACs the proxy does not replace: a message to a DHCP server, RARP, or ND
    //# that it cannot read whole.
    let mut rarp = arp(Operation::Request, MacAddress::BROADCAST, (mac(1), v4(1)), v4(1)).to_vec();
    rarp[12..14].copy_from_slice(&[0x80, 0x35]);
    let to_server = |is_v6: bool, port: u16| {
        let (_, mut frame) = Spec::new(is_v6, 300).build();
        let at = if is_v6 { 54 } else { 34 };
        frame[at + 2..at + 4].copy_from_slice(&port.to_be_bytes());
        frame
    };
    let solicitation = neighbour_solicitation(&nd_addresses((mac(1), v6(1)), (STRANGER, v6(200))), v6(200));
    let fragment = fragment_of(&solicitation);
    let mut cut_short = arp(Operation::Request, MacAddress::BROADCAST, (mac(1), v4(1)), v4(200)).to_vec();
    cut_short.truncate(40);
    let mut bad_option = solicitation;
    bad_option[79] = 0;
    for (frame, reason) in [
        (rarp, DropReason::HiddenMac),
        (to_server(false, 67), DropReason::HiddenMac),
        (to_server(true, 547), DropReason::HiddenMac),
        (fragment, DropReason::UnreadableHeaders),
        (cut_short, DropReason::BadArp),
        (bad_option, DropReason::BadArp),
    ] {
        let mut proxy = filtered();
        assert_eq!(out(&mut proxy, &Vnet::default(), &frame), (Err(None), Vec::new()), "{reason}");
        assert_eq!(drops(&proxy, reason), 1, "{reason}: {:?}", proxy.counters().drops);
        assert_eq!(sent(&mut unfiltered(), &frame), frame);
    }
}

/// The same packet as a first fragment with nothing behind it.
fn fragment_of(frame: &[u8]) -> Vec<u8> {
    let mut fragment = frame[..54].to_vec();
    fragment.extend_from_slice(&[frame[20], 0, 0, 1, 0, 0, 0, 9]);
    fragment.extend_from_slice(&frame[54..]);
    fragment[20] = 44;
    fragment[19] += 8;
    fragment
}

#[test]
fn a_frame_to_the_system_mac_goes_to_the_holder_of_its_address() {
    //= spec/uplink.md#inward-by-address
    //= type=test
    //# In filtered mode a unicast frame from outside MUST go to the member that holds its destination IP address, or in ARP its
    //# target address, with that member's MAC in the place of the system MAC.
    let mut proxy = filtered();
    let station = (STRANGER, v6(200));
    let frames = [
        (from_outside(SYSTEM, v4(2).into()), 2),
        (from_outside(SYSTEM, v6(3).into()), 3),
        (arp(Operation::Reply, SYSTEM, (STRANGER, v4(200)), v4(1)).to_vec(), 1),
        (arp(Operation::Request, SYSTEM, (STRANGER, v4(200)), v4(3)).to_vec(), 3),
        (neighbour_advertisement(&nd_addresses(station, (SYSTEM, v6(2))), v6(200), true), 2),
        (neighbour_solicitation(&nd_addresses(station, (SYSTEM, v6(3))), v6(3)), 3),
    ];
    for (frame, member) in frames {
        let (verdict, inside) = take(&mut proxy, &frame);
        assert_eq!(verdict, Inward::Member(MemberSlot(member)));
        assert_eq!(inside[..6], mac(member).0);
        assert!(!contains(&inside, SYSTEM) && inside[6..12] == STRANGER.0);
        assert_eq!(audit::check(&inside, None, LAN_MTU), Ok(()));
    }
    let redirect = [&[0; 4][..], &v6(2).octets(), &v6(2).octets(), &[2, 1], &SYSTEM.0].concat();
    let (_, inside) = take(&mut proxy, &nd(&nd_addresses(station, (SYSTEM, v6(2))), 137, &redirect));
    assert!(!contains(&inside, SYSTEM) && icmpv6_is_right(&inside));
    assert_eq!(
        take(&mut proxy, &from_outside(mac(1), v4(1).into())).0,
        Inward::Dropped(DropReason::UnknownDestination)
    );
}

#[test]
fn what_no_member_holds_goes_to_the_default_router() {
    //= spec/uplink.md#the-default-router
    //= type=test
    //# In filtered mode a unicast frame from outside for which no member is found, other than ARP and ND, MUST go to the default
    //# router, or be dropped when there is none.
    let mut proxy = filtered();
    let unknown = Inward::Dropped(DropReason::UnknownDestination);
    let far = from_outside(SYSTEM, Ipv4Addr::new(192, 0, 2, 1).into());
    let not_ip = [&SYSTEM.0[..], &STRANGER.0, &[0x88, 0xb5, 1, 2, 3]].concat();
    let asks = arp(Operation::Request, SYSTEM, (STRANGER, v4(200)), v4(77)).to_vec();
    let solicits = neighbour_solicitation(&nd_addresses((STRANGER, v6(200)), (SYSTEM, v6(77))), v6(77));
    for frame in [&far, &not_ip, &asks, &solicits] {
        assert_eq!(take(&mut proxy, frame).0, unknown);
    }
    proxy.set_default_router(Some(Holder { slot: MemberSlot(3), mac: mac(3) }));
    for frame in [&far, &not_ip] {
        let (verdict, inside) = take(&mut proxy, frame);
        assert_eq!(
            (verdict, &inside[..6], &inside[6..]),
            (Inward::Member(MemberSlot(3)), &mac(3).0[..], &frame[6..])
        );
    }
    for frame in [&asks, &solicits] {
        assert_eq!(take(&mut proxy, frame).0, unknown);
    }
    assert_eq!(take(&mut proxy, &from_outside(SYSTEM, v4(1).into())).0, Inward::Member(MemberSlot(1)));
}

#[test]
fn an_unfiltered_frame_goes_to_the_owner_of_its_mac() {
    //= spec/uplink.md#inward-by-mac
    //= type=test
    //# In unfiltered mode a unicast frame from outside MUST go to the member that has its destination MAC, and be dropped when none
    //# has it.
    let mut proxy = unfiltered();
    // By the MAC of the header, whatever the address says.
    let frames = [
        from_outside(mac(2), v4(3).into()),
        arp(Operation::Reply, mac(2), (STRANGER, v4(200)), v4(1)).to_vec(),
    ];
    for frame in frames {
        assert_eq!(take(&mut proxy, &frame), (Inward::Member(MemberSlot(2)), frame));
    }
    let nobody = from_outside(MacAddress([2, 0, 1, 0, 0, 99]), v4(1).into());
    assert_eq!(take(&mut proxy, &nobody).0, Inward::Dropped(DropReason::UnknownDestination));
}

#[test]
fn groups_go_to_everybody_as_they_are() {
    //= spec/uplink.md#groups
    //= type=test
    //# A frame from outside to a group MUST go inside once, whole and unchanged, for all members.
    let asked = solicited_node(v6(1));
    let station = (STRANGER, v6(200));
    let frames = [
        arp(Operation::Request, MacAddress::BROADCAST, (STRANGER, v4(200)), v4(1)).to_vec(),
        neighbour_solicitation(&nd_addresses(station, (group_mac(asked), asked)), v6(1)),
        from_outside(MacAddress::BROADCAST, Ipv4Addr::new(10, 1, 0, 255).into()),
        from_outside(MacAddress([1, 0, 0x5e, 1, 1, 1]), Ipv4Addr::new(239, 1, 1, 1).into()),
    ];
    for mut proxy in [filtered(), unfiltered()] {
        for frame in &frames {
            assert_eq!(take(&mut proxy, frame), (Inward::Group, frame.clone()));
        }
    }
}

#[test]
fn groups_of_bridges_stay_on_their_side() {
    //= spec/uplink.md#groups-of-bridges
    //= type=test
    //# A frame to a group that bridges keep to themselves MUST NOT cross an uplink in either direction.
    let to = |last: u8, from: MacAddress| {
        [&[1, 0x80, 0xc2, 0, 0, last][..], &from.0, &[0x88, 0xcc, 0, 0]].concat()
    };
    for mut proxy in [filtered(), unfiltered()] {
        for last in [0, 2, 14, 15] {
            let reserved = Inward::Dropped(DropReason::ReservedGroup);
            assert_eq!(take(&mut proxy, &to(last, STRANGER)).0, reserved);
            assert_eq!(out(&mut proxy, &Vnet::default(), &to(last, mac(1))), (Err(None), Vec::new()));
        }
        assert_eq!(drops(&proxy, DropReason::ReservedGroup), 8);
        assert_eq!(take(&mut proxy, &to(16, STRANGER)).0, Inward::Group);
        sent(&mut proxy, &to(16, mac(1)));
    }
}

#[test]
fn stations_outside_are_remembered_until_they_are_silent() {
    //= spec/uplink.md#outside-stations
    //= type=test
    //# The proxy MUST remember the source of a frame from outside as a station outside, and forget it when it has been
    //# silent for 300 s.
    let mut proxy = unfiltered();
    assert!(!proxy.is_outside(STRANGER) && proxy.poll_timeout().is_none());
    take(&mut proxy, &from_outside(mac(1), v4(1).into()));
    assert!(proxy.is_outside(STRANGER));
    let due = proxy.poll_timeout().expect("it is forgotten some day");
    assert_eq!(due, at(0) + Duration::from_secs(300));
    proxy.handle_timeout(due);
    assert!(!proxy.is_outside(STRANGER) && proxy.poll_timeout().is_none());
    // However many there are, the table is bounded, and their frames pass.
    for number in 0..10_000_u32 {
        let [a, b, c, d] = number.to_be_bytes();
        let mut frame = from_outside(mac(1), v4(1).into());
        frame[6..12].copy_from_slice(&[0x52, 0, a, b, c, d]);
        assert_eq!(take(&mut proxy, &frame).0, Inward::Member(MemberSlot(1)));
    }
    assert_eq!(proxy.stations().count(), 4096);
}

#[test]
fn a_member_has_no_tags_outside() {
    //= spec/uplink.md#tags-of-members
    //= type=test
    //# A frame from inside that has an 802.1Q tag MUST be dropped.
    let (_, frame) = Spec::new(false, 100).build();
    for vid in [None, Some(100)] {
        for mode in [Mode::Unfiltered, Mode::Filtered { system: SYSTEM }] {
            let mut proxy = LanProxy::new(&config(mode, vid)).unwrap();
            for tag in [[0x81, 0, 0, 200], [0x81, 0, 0, 0], [0x88, 0xa8, 0, 200]] {
                let tagged = [&frame[..12], &tag, &frame[12..]].concat();
                assert_eq!(out(&mut proxy, &Vnet::default(), &tagged), (Err(None), Vec::new()));
            }
            assert_eq!(drops(&proxy, DropReason::WrongTag), 3);
            let sent = sent(&mut proxy, &frame);
            assert_eq!(audit::check(&sent, vid.and_then(Vid::new), MTU), Ok(()));
        }
    }
}

#[test]
fn sums_are_complete_and_right_outside() {
    //= spec/uplink.md#checksums
    //= type=test
    //# A checksum that is still to be completed MUST be completed, and right, in what goes outside, unless the device
    //# completes it.
    for (is_v6, tcp) in [(false, false), (false, true), (true, false), (true, true)] {
        let (vnet, frame) = Spec { tcp, sum: Sum::Partial, ..Spec::new(is_v6, 777) }.build();
        let (_, complete) = Spec { tcp, ..Spec::new(is_v6, 777) }.build();
        let (verdict, sent) = out(&mut unfiltered(), &vnet, &frame);
        assert_eq!((verdict, sent), (Ok(()), vec![(Vnet::default(), complete)]));
        // A device that completes sums gets the state.
        let device = Device { mtu: MTU, offloads: true };
        let mut proxy = LanProxy::new(&UplinkConfig { device, ..config(Mode::Unfiltered, Some(9)) }).unwrap();
        let (_, sent) = out(&mut proxy, &vnet, &frame);
        let tagged = [&frame[..12], &[0x81, 0, 0, 9], &frame[12..]].concat();
        let moved = Vnet { csum_start: vnet.csum_start + 4, ..vnet };
        assert_eq!(sent, vec![(moved, tagged)]);
        // A sum that would go into a header, or behind the packet, is no stack's.
        for csum_start in [0, 6, vnet.csum_start - 1, frame.len() as u16 - 7, u16::MAX] {
            let mut proxy = filtered();
            let forged = Vnet { csum_start, ..vnet };
            let is_inside = csum_start >= vnet.csum_start && csum_start < frame.len() as u16 - 17;
            assert_eq!(
                out(&mut proxy, &forged, &frame).0.is_ok(),
                is_inside || (!tcp && csum_start == frame.len() as u16 - 8)
            );
            assert!(drops(&proxy, DropReason::Malformed) == 1 || is_inside);
        }
    }
    // A sum of zero is written in the form that means a sum.
    let mut spec = Spec { sum: Sum::Partial, ..Spec::new(false, 2) };
    let (_, complete) = Spec { sum: Sum::Complete, ..spec.clone() }.build();
    let rest = u16::from_be_bytes([complete[40], complete[41]]);
    let word = u16::from_be_bytes([spec.payload[0], spec.payload[1]]);
    let (sum, carry) = word.overflowing_add(rest);
    spec.payload = (sum + u16::from(carry)).to_be_bytes().to_vec();
    let (vnet, frame) = spec.build();
    let (_, sent) = out(&mut unfiltered(), &vnet, &frame);
    assert_eq!(sent[0].1[40..42], [0xff, 0xff]);
}

#[test]
fn super_frames_are_cut_for_outside() {
    //= spec/uplink.md#segments
    //= type=test
    //# A super-frame MUST go outside as the segments that it stands for, none longer than the device's MTU, unless the
    //# device cuts it.
    for (is_v6, tcp) in [(false, false), (false, true), (true, false), (true, true)] {
        let size = 1400;
        let (vnet, frame) =
            Spec { tcp, sum: Sum::Segments(size), ..Spec::new(is_v6, 3 * 1400 + 100) }.build();
        let (verdict, sent) = out(&mut filtered(), &vnet, &frame);
        assert_eq!((verdict, sent.len()), (Ok(()), 4));
        let headers_len = usize::from(vnet.hdr_len);
        let payload: Vec<u8> = sent.iter().flat_map(|(_, frame)| &frame[headers_len..]).copied().collect();
        assert_eq!(payload, frame[headers_len..]);
        for (number, (vnet, segment)) in sent.iter().enumerate() {
            assert_eq!((*vnet, audit::check(segment, None, MTU)), (Vnet::default(), Ok(())));
            if tcp {
                let at = headers_len - 32;
                let sequence = u32::from_be_bytes(segment[at + 4..at + 8].try_into().unwrap());
                assert_eq!(sequence, 0xffff_ff00_u32.wrapping_add(number as u32 * 1400));
                let flags = [0x90, 0x10, 0x10, 0x19][number];
                assert_eq!(segment[at + 13], flags, "segment {number}");
            }
        }
        let device = Device { mtu: MTU, offloads: true };
        let config = UplinkConfig { device, ..config(Mode::Unfiltered, None) };
        let (_, whole) = out(&mut LanProxy::new(&config).unwrap(), &vnet, &frame);
        assert_eq!(whole, vec![(vnet, frame.clone())]);
        for forged in [
            Vnet { gso_type: 3, ..vnet },
            Vnet { gso_type: if tcp { 5 } else { 1 }, ..vnet },
            Vnet { gso_size: 1, ..vnet },
            Vnet { csum_start: vnet.csum_start + 1, ..vnet },
            Vnet { csum_offset: 4, ..vnet },
            Vnet { flags: 0, ..vnet },
        ] {
            let mut proxy = filtered();
            assert_eq!(out(&mut proxy, &forged, &frame), (Err(None), Vec::new()), "{forged:?}");
            assert_eq!(drops(&proxy, DropReason::Malformed), 1);
        }
    }
}

#[test]
fn long_packets_that_may_be_cut_are_cut() {
    for (sum, tcp) in [(Sum::Partial, false), (Sum::Complete, true), (Sum::Segments(4000), true)] {
        let (vnet, frame) = Spec { df: false, sum, tcp, ..Spec::new(false, 7000) }.build();
        for vid in [None, Some(7)] {
            let mut proxy = LanProxy::new(&config(Mode::Filtered { system: SYSTEM }, vid)).unwrap();
            let (verdict, sent) = out(&mut proxy, &vnet, &frame);
            assert!(verdict.is_ok() && sent.len() >= 5, "{} frames", sent.len());
            for (_, piece) in &sent {
                assert_eq!(audit::check(piece, vid.and_then(Vid::new), MTU), Ok(()));
                assert_eq!(piece[6..12], SYSTEM.0);
            }
        }
    }
}

#[test]
fn who_sends_too_much_at_once_is_told_how_much_fits() {
    //= spec/uplink.md#too-big
    //= type=test
    //# When a packet that may not be fragmented is longer than the device's MTU, its sender MUST get an ICMP fragmentation needed or
    //# ICMPv6 packet too big with that MTU, whose source is the refused packet's destination.
    for mut proxy in [filtered(), unfiltered()] {
        for (is_v6, sum) in [
            (false, Sum::Complete),
            (true, Sum::Partial),
            (false, Sum::Segments(3000)),
            (true, Sum::Segments(3000)),
        ] {
            let (vnet, frame) = Spec { sum, tcp: sum != Sum::Complete, ..Spec::new(is_v6, 8000) }.build();
            let (verdict, sent) = out(&mut proxy, &vnet, &frame);
            let error = verdict.unwrap_err().expect("an error for the sender");
            assert!(sent.is_empty());
            assert_eq!((&error[..6], &error[6..12]), (&mac(1).0[..], &STRANGER.0[..]));
            if is_v6 {
                assert_eq!(error[22..54], [v6(200).octets(), v6(1).octets()].concat());
                assert_eq!((error[54], error[55], &error[58..62]), (2, 0, &[0, 0, 5, 220][..]));
                assert!(icmpv6_is_right(&error) && error.len() == 14 + 1280);
                assert_eq!(error[62..], frame[14..14 + 1232]);
            } else {
                assert_eq!(error[26..34], [v4(200).octets(), v4(1).octets()].concat());
                assert_eq!((error[34], error[35], &error[38..42]), (3, 4, &[0, 0, 5, 220][..]));
                assert!(icmp_is_right(&error) && error.len() == 14 + 576);
                assert_eq!(error[42..], frame[14..14 + 548]);
            }
        }
        assert_eq!((proxy.counters().errors, drops(&proxy, DropReason::TooBigOutside)), (4, 4));
        // The longest that fits.
        for is_v6 in [false, true] {
            let headers_len = if is_v6 { 48 } else { 28 };
            sent(&mut proxy, &Spec::new(is_v6, 1500 - headers_len).build().1);
            let (verdict, _) =
                out(&mut proxy, &Vnet::default(), &Spec::new(is_v6, 1501 - headers_len).build().1);
            assert!(matches!(verdict, Err(Some(_))));
        }
    }
}

#[test]
fn some_packets_get_no_error() {
    let icmp = |kind: u8, protocol: u8, is_v6: bool| {
        let (_, mut frame) = Spec::new(is_v6, 3000).build();
        let (protocol_at, at) = if is_v6 { (20, 54) } else { (23, 34) };
        frame[protocol_at] = protocol;
        frame[at] = kind;
        frame
    };
    let source = |source: IpAddr| Spec { source, ..Spec::new(source.is_ipv6(), 3000) }.build().1;
    let destination =
        |destination: IpAddr| Spec { destination, ..Spec::new(destination.is_ipv6(), 3000) }.build().1;
    let mut late = Spec::new(false, 3000).build().1;
    late[20..22].copy_from_slice(&[0x40, 9]);
    let frames = [
        icmp(3, 1, false),
        icmp(11, 1, false),
        icmp(1, 58, true),
        icmp(137, 58, true),
        source(Ipv4Addr::UNSPECIFIED.into()),
        source(Ipv6Addr::UNSPECIFIED.into()),
        source(Ipv4Addr::new(239, 1, 1, 1).into()),
        destination(Ipv4Addr::new(239, 1, 1, 1).into()),
        destination(ALL_NODES.into()),
        Spec { to: MacAddress::BROADCAST, ..Spec::new(false, 3000) }.build().1,
        late,
        [&STRANGER.0[..], &mac(1).0, &[0x88, 0xb5], &[0; 2000]].concat(),
    ];
    for frame in frames {
        let mut proxy = unfiltered();
        assert_eq!(out(&mut proxy, &Vnet::default(), &frame), (Err(None), Vec::new()));
        assert_eq!((drops(&proxy, DropReason::TooBigOutside), proxy.counters().errors), (1, 0));
    }
    let echo = icmp(8, 1, false);
    assert!(matches!(out(&mut unfiltered(), &Vnet::default(), &echo), (Err(Some(_)), _)));
}

#[test]
fn a_frame_that_comes_back_is_in_a_loop() {
    //= spec/uplink.md#loops
    //= type=test
    //# A frame from outside MUST be dropped as `uplink-loop` when its source is a MAC of the platform, or one from which the
    //# uplink has sent in the last 4 s.
    let is_loop = Inward::Dropped(DropReason::UplinkLoop);
    let announcement = arp(Operation::Request, MacAddress::BROADCAST, (mac(1), v4(1)), v4(1));
    for mut proxy in [filtered(), unfiltered()] {
        assert_eq!(proxy.last_loop(), None);
        let sent = sent(&mut proxy, &announcement);
        assert_eq!(take(&mut proxy, &sent).0, is_loop);
        assert_eq!(proxy.last_loop(), Some(at(0)));
        let other = arp(Operation::Request, MacAddress::BROADCAST, (other_lan(), v4(99)), v4(99));
        assert_eq!(take(&mut proxy, &other).0, is_loop, "from another LAN's uplink");
        assert_eq!(drops(&proxy, DropReason::UplinkLoop), 2);
        // Nobody is cut off.
        assert_eq!(
            take(&mut proxy, &arp(Operation::Request, MacAddress::BROADCAST, (STRANGER, v4(200)), v4(1))).0,
            Inward::Group
        );
    }
    // A source that the platform does not know, as without port security.
    let mut proxy = unfiltered();
    let strange = MacAddress([2, 5, 5, 5, 5, 5]);
    let frame = arp(Operation::Request, MacAddress::BROADCAST, (strange, v4(50)), v4(200)).to_vec();
    for millis in [0, 5000] {
        assert_eq!(out_at(&mut proxy, at(millis), &Vnet::default(), &frame).0, Ok(()));
    }
    let mut back = |millis| proxy.inward(at(millis), &Vnet::default(), &mut frame.clone(), &Lan);
    assert_eq!((back(5001), back(9000), back(9001)), (is_loop, is_loop, Inward::Group));
}

#[test]
fn nobody_outside_has_an_inside_address() {
    //= spec/uplink.md#inside-addresses-from-outside
    //= type=test
    //# A frame from outside MUST be dropped as `inside-source` when its IP source, its ARP sender or its advertised neighbour
    //# is an address that a member holds.
    let forged = |source: IpAddr| {
        let destination = if source.is_ipv4() { v4(2).into() } else { v6(2).into() };
        Spec { to: SYSTEM, from: STRANGER, source, destination, ..Spec::new(source.is_ipv6(), 9) }.build().1
    };
    let group = (group_mac(ALL_NODES), ALL_NODES);
    let frames = [
        forged(v4(1).into()),
        forged(v6(1).into()),
        arp(Operation::Reply, SYSTEM, (STRANGER, v4(1)), v4(2)).to_vec(),
        arp(Operation::Request, MacAddress::BROADCAST, (STRANGER, v4(1)), v4(1)).to_vec(),
        neighbour_advertisement(&nd_addresses((STRANGER, v6(200)), group), v6(1), false),
    ];
    for mut proxy in [filtered(), unfiltered()] {
        for frame in &frames {
            assert_eq!(take(&mut proxy, frame).0, Inward::Dropped(DropReason::InsideSource));
        }
    }
}

#[test]
fn stations_outside_may_speak_for_each_other() {
    // Routers that share an address answer for it with its MAC, from their own.
    let shared = MacAddress([0, 0, 0x5e, 0, 1, 7]);
    let mut answer = arp(Operation::Reply, SYSTEM, (STRANGER, v4(254)), v4(1)).to_vec();
    answer[22..28].copy_from_slice(&shared.0);
    let (verdict, inside) = take(&mut filtered(), &answer);
    assert_eq!(
        (verdict, &inside[6..12], &inside[22..28]),
        (Inward::Member(MemberSlot(1)), &STRANGER.0[..], &shared.0[..])
    );
    answer[28..32].copy_from_slice(&v4(2).octets());
    assert_eq!(take(&mut filtered(), &answer).0, Inward::Dropped(DropReason::InsideSource));
    answer[17] = 1;
    assert_eq!(take(&mut filtered(), &answer).0, Inward::Dropped(DropReason::BadArp));
}

#[test]
fn resolution_from_outside_is_bounded_and_other_traffic_is_not() {
    //= spec/uplink.md#resolution-from-outside
    //= type=test
    //# ARP and ND messages from outside beyond 1000 a second MUST be dropped as `limit-resolution`.
    let ask = arp(Operation::Request, MacAddress::BROADCAST, (STRANGER, v4(200)), v4(1)).to_vec();
    let asked = solicited_node(v6(1));
    let solicit =
        neighbour_solicitation(&nd_addresses((STRANGER, v6(200)), (group_mac(asked), asked)), v6(1));
    for frame in [ask, solicit] {
        let mut proxy = unfiltered();
        let take_at = |proxy: &mut LanProxy, tenths: u64, frame: &[u8]| {
            let now = at(0) + Duration::from_micros(100 * tenths);
            proxy.inward(now, &Vnet::default(), &mut frame.to_vec(), &Lan)
        };
        // Ten thousand a second for two seconds.
        let passed = (0..20_000).filter(|n| take_at(&mut proxy, *n, &frame) == Inward::Group).count();
        assert!((2000..=2101).contains(&passed), "{passed}");
        assert_eq!(drops(&proxy, DropReason::LimitResolution), 20_000 - passed as u64);
        let data = from_outside(mac(1), v4(1).into());
        let passed =
            (0..20_000).filter(|n| take_at(&mut proxy, 20_000 + n, &data) == Inward::Member(MemberSlot(1)));
        assert_eq!(passed.count(), 20_000);
    }
    let broadcast = Rate { frames: Some(10), bits: None };
    let limits = Limits { broadcast, ..Limits::default() };
    let mut proxy = LanProxy::new(&UplinkConfig { limits, ..config(Mode::Unfiltered, None) }).unwrap();
    let frame = from_outside(MacAddress::BROADCAST, Ipv4Addr::new(10, 1, 0, 255).into());
    let verdicts: Vec<_> = (0..4).map(|_| take(&mut proxy, &frame).0).collect();
    assert_eq!(verdicts[0], Inward::Group);
    assert_eq!(verdicts[3], Inward::Dropped(DropReason::LimitBroadcast));
}

#[test]
fn what_contradicts_itself_does_not_cross() {
    //= spec/uplink.md#unsound-frames
    //= type=test
    //# A frame MUST NOT cross an uplink whose IP header contradicts its length, or whose source no station can have.
    let change = |is_v6: bool, place: usize, octet: u8| {
        let (_, mut frame) = Spec::new(is_v6, 30).build();
        frame[place] = octet;
        frame
    };
    let unsound = [
        change(false, 14, 0x65),
        change(false, 14, 0x44),
        change(false, 14, 0x4f),
        change(false, 16, 1),
        change(false, 17, 19),
        change(true, 14, 0x45),
        change(true, 18, 1),
        // Beyond 65,535 octets once it is put together.
        [&change(false, 20, 0x1f)[..21], &[0xff], &change(false, 20, 0)[22..]].concat(),
    ];
    for frame in unsound {
        for mut proxy in [filtered(), unfiltered()] {
            let mut from_there = frame.clone();
            from_there[6..12].copy_from_slice(&STRANGER.0);
            let to = if proxy.is_outside(STRANGER) { SYSTEM } else { MacAddress::BROADCAST };
            from_there[..6].copy_from_slice(&to.0);
            let is_drop = matches!(
                take(&mut proxy, &from_there).0,
                Inward::Dropped(DropReason::Malformed | DropReason::InsideSource)
            );
            assert!(is_drop, "{from_there:02x?}");
            let mut frame = frame.clone();
            frame[..6].copy_from_slice(&[0x52, 0, 0, 0, 0, 1]);
            assert_eq!(out(&mut proxy, &Vnet::default(), &frame), (Err(None), Vec::new()), "{frame:02x?}");
            assert!(drops(&proxy, DropReason::Malformed) >= 1);
        }
    }
    for source in [MacAddress::BROADCAST, MacAddress::NULL, MacAddress([1, 0, 0x5e, 0, 0, 1])] {
        let mut proxy = unfiltered();
        let mut frame = from_outside(mac(1), v4(1).into());
        frame[6..12].copy_from_slice(&source.0);
        assert_eq!(take(&mut proxy, &frame).0, Inward::Dropped(DropReason::BadSource));
        frame[..6].copy_from_slice(&STRANGER.0);
        assert_eq!(out(&mut proxy, &Vnet::default(), &frame).0, Err(None));
        assert_eq!(drops(&proxy, DropReason::BadSource), 2);
    }
}

#[test]
fn what_is_for_inside_does_not_go_outside() {
    for mut proxy in [filtered(), unfiltered()] {
        let frame = Spec { to: mac(2), ..Spec::new(false, 9) }.build().1;
        assert_eq!(out(&mut proxy, &Vnet::default(), &frame), (Err(None), Vec::new()));
        assert_eq!(drops(&proxy, DropReason::Hairpin), 1);
    }
    let mut proxy = filtered();
    let frame = Spec { to: SYSTEM, ..Spec::new(false, 9) }.build().1;
    assert_eq!(out(&mut proxy, &Vnet::default(), &frame), (Err(None), Vec::new()));
}

#[test]
fn an_uplink_that_cannot_be_is_refused_with_the_reason() {
    let device = Device { mtu: 1279, offloads: false };
    let error = LanProxy::new(&UplinkConfig { device, ..config(Mode::Unfiltered, None) }).err();
    assert_eq!(error, Some(ConfigError::MtuTooSmall { mtu: 1279 }));
    let error = LanProxy::new(&config(Mode::Filtered { system: MacAddress::BROADCAST }, None)).unwrap_err();
    assert_eq!(error.to_string(), "ff:ff:ff:ff:ff:ff is no MAC that a station can have");
}
