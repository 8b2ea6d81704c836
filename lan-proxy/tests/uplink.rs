//! The rules of `spec/uplink.md`: whose frame goes where, and what outside sees of it. The others are in `uplink/`.

#[path = "uplink/edge.rs"]
mod edge;
#[path = "uplink/guards.rs"]
mod guards;
#[path = "uplink/world.rs"]
mod world;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use arp_server::build::{
    ALL_NODES, NdAddresses, Operation, arp, group_mac, nd, neighbour_advertisement, neighbour_solicitation,
    solicited_node,
};
use lan_proxy::{ConfigError, Device, Holder, Inward, LanProxy, Mode, UplinkConfig, Vid, audit};
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
fn an_uplink_that_cannot_be_is_refused_with_the_reason() {
    let device = Device { mtu: 1279, offloads: false };
    let error = LanProxy::new(&UplinkConfig { device, ..config(Mode::Unfiltered, None) }).err();
    assert_eq!(error, Some(ConfigError::MtuTooSmall { mtu: 1279 }));
    let error = LanProxy::new(&config(Mode::Filtered { system: MacAddress::BROADCAST }, None)).unwrap_err();
    assert_eq!(error.to_string(), "ff:ff:ff:ff:ff:ff is no MAC that a station can have");
}
