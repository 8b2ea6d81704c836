//! Sums, segments and fragments: what is completed and cut before it goes outside, and what is too big for that.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arp_server::build::ALL_NODES;
use lan_proxy::{Device, LanProxy, Mode, UplinkConfig, Vid, audit};
use vlan_core::wire::Vnet;
use vlan_core::{DropReason, MacAddress};

use super::drops;
use crate::world::*;

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
