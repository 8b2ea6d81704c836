//! The invariants of uplinks, whatever comes: I-40 to I-43 (`spec/uplink.md`).

#[path = "uplink/world.rs"]
mod world;

use core::net::Ipv4Addr;

use arp_server::build::{NdAddresses, Operation, arp, nd};
use lan_proxy::{Device, Inward, LanProxy, Mode, Trunk, UplinkConfig, Vid, audit};
use proptest::prelude::*;
use vlan_core::wire::Vnet;
use vlan_core::{DropReason, MacAddress};
use world::*;

/// MACs that ARP and ND of a tenant may name.
fn any_mac() -> impl Strategy<Value = MacAddress> {
    prop_oneof![
        (1..=MEMBERS).prop_map(mac),
        Just(other_lan()),
        Just(SYSTEM),
        Just(STRANGER),
        Just(MacAddress::BROADCAST),
        Just(MacAddress::NULL),
    ]
}

fn any_sum() -> impl Strategy<Value = Sum> {
    prop_oneof![Just(Sum::Complete), Just(Sum::Partial), (48..9000_u16).prop_map(Sum::Segments)]
}

/// A packet of an honest stack of a member.
fn any_spec() -> impl Strategy<Value = Spec> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let to = prop_oneof![Just(STRANGER), Just(MacAddress::BROADCAST)];
    (flags, any_sum(), 1..12_000_usize, to, 1..=MEMBERS).prop_map(
        |((is_v6, tcp, df), sum, len, to, member)| {
            let spec = Spec::new(is_v6, len);
            let source = if is_v6 { v6(member).into() } else { v4(member as u8).into() };
            // Kernels cut UDP into no more than 128.
            let sum = match sum {
                Sum::Segments(size) if !tcp => Sum::Segments(size.max(len as u16 / 100 + 1)),
                sum => sum,
            };
            Spec { tcp, df, sum, to, from: mac(member), source, ..spec }
        },
    )
}

fn arp_frame() -> impl Strategy<Value = Vec<u8>> {
    (any_mac(), any_mac(), any_mac(), any::<bool>(), 0..4_u8).prop_map(
        |(source, sender, target, is_reply, tail)| {
            let operation = if is_reply { Operation::Reply } else { Operation::Request };
            let mut frame = arp(operation, STRANGER, (source, v4(1)), Ipv4Addr::new(10, 1, 0, tail));
            // Mostly what stacks say, sometimes another sender.
            if tail == 0 {
                frame[22..28].copy_from_slice(&sender.0);
            }
            frame[32..38].copy_from_slice(&target.0);
            frame.to_vec()
        },
    )
}

fn nd_frame() -> impl Strategy<Value = Vec<u8>> {
    let option = (prop_oneof![Just(1_u8), Just(2), Just(5), Just(14)], any_mac());
    (133..=137_u8, any_mac(), prop::collection::vec(option, 0..4), any::<bool>()).prop_map(
        |(kind, source_mac, options, is_exotic)| {
            let fixed = [4, 12, 20, 20, 36][usize::from(kind) - 133];
            let mut body = vec![0; fixed];
            options.iter().for_each(|(option, mac)| body.extend([&[*option, 1][..], &mac.0].concat()));
            let addresses =
                NdAddresses { destination_mac: STRANGER, source_mac, source: v6(1), destination: v6(200) };
            let frame = nd(&addresses, kind, &body);
            if !is_exotic {
                return frame;
            }
            // Behind options for the destination.
            let mut hidden = [&frame[..54], &[58, 0, 1, 4, 0, 0, 0, 0], &frame[54..]].concat();
            hidden[20] = 60;
            hidden[19] += 8;
            hidden
        },
    )
}

/// Whatever a tenant may come up with: a frame of a kind that there is, with some octets changed.
fn any_frame() -> impl Strategy<Value = (Vnet, Vec<u8>)> {
    let plain = |frame| (Vnet::default(), frame);
    let sound = prop_oneof![
        any_spec().prop_map(|spec| spec.build()),
        arp_frame().prop_map(plain),
        nd_frame().prop_map(plain),
        prop::collection::vec(any::<u8>(), 0..100).prop_map(plain),
    ];
    let changes = prop::collection::vec((0..120_usize, any::<u8>()), 0..3);
    let state = prop::option::weighted(0.2, any::<[u8; 10]>());
    (sound, changes, state).prop_map(|((vnet, mut frame), changes, state)| {
        for (place, octet) in changes {
            if let Some(changed) = frame.get_mut(place) {
                *changed = octet;
            }
        }
        (state.map_or(vnet, |octets| Vnet::parse(&octets)), frame)
    })
}

fn any_mode() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Filtered { system: SYSTEM }), Just(Mode::Unfiltered)]
}

fn proxy_of(mode: Mode, vid: Option<u16>, mtu: u16, offloads: bool) -> LanProxy {
    LanProxy::new(&UplinkConfig { device: Device { mtu, offloads }, ..config(mode, vid) }).unwrap()
}

proptest! {
    #[test]
    fn no_mac_of_the_platform_leaves_a_filtered_lan(
        frames in prop::collection::vec(any_frame(), 1..20),
        vid in prop::option::of(1..4095_u16),
        offloads in any::<bool>(),
    ) {
        let mut proxy = proxy_of(Mode::Filtered { system: SYSTEM }, vid, MTU, offloads);
        let own = [mac(1), mac(2), mac(3), other_lan()];
        for (vnet, frame) in &frames {
            for (_, sent) in out(&mut proxy, vnet, frame).1 {
                let macs = audit::stated_macs(&sent);
                prop_assert_eq!(macs[1], SYSTEM);
                prop_assert!(!macs.iter().any(|mac| own.contains(mac)), "{:02x?} became {:02x?}", frame, sent);
            }
        }
    }

    #[test]
    fn no_frame_crosses_a_lan_or_a_tag(
        frames in prop::collection::vec((any_frame(), 0..3_usize), 1..20),
        mode in any_mode(),
    ) {
        // Three LANs on one device: what each sends comes back with its own tag, and so to its own uplink.
        let vids = [None, Some(100), Some(200)];
        let mut trunk = Trunk::default();
        let mut proxies = vids.map(|vid| proxy_of(mode, vid, MTU, false));
        for (place, vid) in vids.iter().enumerate() {
            trunk.add(vid.and_then(Vid::new), place as u16).unwrap();
        }
        for ((vnet, frame), place) in &frames {
            for (state, mut sent) in out(&mut proxies[*place], vnet, frame).1 {
                prop_assert!(audit::check_form(&sent, vids[*place].and_then(Vid::new), MTU).is_ok());
                let back = trunk.untag(&state, &mut sent).map(|(uplink, _, _)| usize::from(uplink));
                prop_assert_eq!(back, Ok(*place));
            }
        }
    }

    #[test]
    fn outside_every_sum_is_right_and_no_frame_is_too_long(
        spec in any_spec(),
        mode in any_mode(),
        vid in prop::option::of(1..4095_u16),
        mtu in 1280..9001_u16,
    ) {
        let (vnet, frame) = spec.build();
        let mut proxy = proxy_of(mode, vid, mtu, false);
        let (verdict, sent) = out(&mut proxy, &vnet, &frame);
        for (state, frame) in &sent {
            prop_assert_eq!(*state, Vnet::default());
            prop_assert_eq!(audit::check(frame, vid.and_then(Vid::new), mtu), Ok(()), "{:?}", spec.sum);
        }
        match verdict {
            Ok(()) => prop_assert!(!sent.is_empty()),
            Err(error) => {
                // Only for what is too long, and with a sound error unless it went to a group.
                prop_assert!(sent.is_empty() && (spec.df || !spec.source.is_ipv4()));
                prop_assert_eq!(error.is_some(), spec.to == STRANGER);
                if let Some(error) = error {
                    prop_assert_eq!(audit::check(&error, None, 1280), Ok(()));
                }
            }
        }
        let counters = proxy.counters();
        let dropped = counters.drops.of(DropReason::TooBigOutside);
        prop_assert_eq!((counters.drops.total(), counters.sent.frames), (dropped, sent.len() as u64));
    }

    #[test]
    fn segments_and_fragments_carry_what_was_sent(spec in any_spec(), mtu in 1280..9001_u16) {
        let (vnet, frame) = spec.build();
        let (verdict, sent) = out(&mut proxy_of(Mode::Unfiltered, None, mtu, false), &vnet, &frame);
        prop_assume!(verdict.is_ok());
        let headers_len = frame.len() - spec.payload.len();
        let mut payload = Vec::new();
        for (_, piece) in &sent {
            let is_later = spec.source.is_ipv4() && (piece[20] & 0x1f, piece[21]) != (0, 0);
            payload.extend_from_slice(&piece[if is_later { 34 } else { headers_len }..]);
        }
        prop_assert!(payload == spec.payload, "{} octets of {}", payload.len(), spec.payload.len());
    }

    #[test]
    fn nothing_that_was_sent_comes_in_again(
        frames in prop::collection::vec(any_frame(), 1..20),
        mode in any_mode(),
        other_mode in any_mode(),
    ) {
        let mut proxy = proxy_of(mode, None, MTU, false);
        let mut other = proxy_of(other_mode, None, MTU, false);
        for (vnet, frame) in &frames {
            let source = frame.get(6..12).and_then(MacAddress::from_octets);
            let is_known = source.is_some_and(|mac| lan_proxy::Inside::is_own(&Lan, mac));
            for (state, sent) in out(&mut proxy, vnet, frame).1 {
                let back = proxy.inward(at(3000), &state, &mut sent.clone(), &Lan);
                prop_assert!(matches!(back, Inward::Dropped(_)), "{:?}", back);
                // By another uplink, too, when the source is one that the platform gave out.
                if is_known || mode != Mode::Unfiltered {
                    let back = other.inward(at(3000), &state, &mut sent.clone(), &Lan);
                    prop_assert!(matches!(back, Inward::Dropped(_)), "{:?}", back);
                }
            }
        }
    }

    #[test]
    fn whatever_comes_from_outside_is_taken_or_counted(
        frames in prop::collection::vec(any_frame(), 1..20),
        mode in any_mode(),
    ) {
        let mut proxy = proxy_of(mode, None, MTU, false);
        for (vnet, frame) in &frames {
            let mut octets = frame.clone();
            let verdict = proxy.inward(at(0), vnet, &mut octets, &Lan);
            if let Inward::Member(slot) = verdict {
                prop_assert_eq!(&octets[..6], &mac(slot.0).0[..]);
            }
        }
        let counters = proxy.counters();
        prop_assert_eq!(counters.inward.frames, counters.taken.frames + counters.drops.total());
        prop_assert_eq!(counters.inward.frames, frames.len() as u64);
    }
}
