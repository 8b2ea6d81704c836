//! What is kept out: loops, addresses of inside, floods of resolution and frames that are not sound.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;

use arp_server::build::{
    ALL_NODES, Operation, arp, group_mac, neighbour_advertisement, neighbour_solicitation, solicited_node,
};
use lan_proxy::{Inward, LanProxy, Mode, UplinkConfig};
use vlan_core::security::{Limits, Rate};
use vlan_core::server::MemberSlot;
use vlan_core::wire::Vnet;
use vlan_core::{DropReason, MacAddress};

use super::{drops, from_outside, nd_addresses};
use crate::world::*;

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
