//! Joining and cutting against each other, and against what must not be joined.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::sums::reopen;
use super::*;
use crate::checksum::{fold, set_word, sum, sum_ipv4_header, word};
use crate::wire::frame::Vnet;

/// What a datagram is made from.
#[derive(Clone, Debug)]
struct Datagram {
    family: Family,
    id: u16,
    is_df: bool,
    port: u16,
    payload: Vec<u8>,
}

fn datagram(family: Family, id: u16, payload: &[u8]) -> Datagram {
    Datagram { family, id, is_df: true, port: 4000, payload: payload.to_vec() }
}

/// The state of a datagram of `family` as a stack hands it over.
fn state(family: Family) -> Vnet {
    let csum_start = family.udp_at() as u16;
    Vnet { flags: Vnet::NEEDS_CSUM, csum_start, csum_offset: 6, ..Vnet::default() }
}

fn make(datagram: &Datagram) -> (Vnet, Vec<u8>) {
    let Datagram { family, id, is_df, port, payload } = datagram;
    let udp_len = (UDP_LEN + payload.len()) as u16;
    let mut frame = Vec::from([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    let (ip_len, addresses) = match family {
        Family::V4 => {
            frame.extend_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
            frame.extend_from_slice(&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 1, 10, 1, 0, 2]);
            set_word(&mut frame, 16, IPV4_LEN as u16 + udp_len);
            set_word(&mut frame, 18, *id);
            set_word(&mut frame, 20, if *is_df { 0x4000 } else { 0 });
            sum_ipv4_header(&mut frame, 14, IPV4_LEN);
            (IPV4_LEN, 8)
        }
        Family::V6 => {
            frame.extend_from_slice(&ETHERTYPE_IPV6.to_be_bytes());
            frame.extend_from_slice(&[0x60, 0, 0, 7, 0, 0, 17, 64]);
            set_word(&mut frame, 18, udp_len);
            frame.extend_from_slice(&[0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            frame.extend_from_slice(&[0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
            (IPV6_LEN, 32)
        }
    };
    let udp_at = 14 + ip_len;
    let pseudo = u32::from(sum(&frame[udp_at - addresses..udp_at])) + 17 + u32::from(udp_len);
    for word in [5000, *port, udp_len, fold(pseudo)] {
        frame.extend_from_slice(&word.to_be_bytes());
    }
    frame.extend_from_slice(payload);
    (state(*family), frame)
}

/// Joins as an agent does: what is not admitted begins anew.
fn join(frames: &[(Vnet, Vec<u8>)]) -> Vec<(Vnet, Vec<u8>)> {
    let mut joined = Vec::new();
    let mut rest = frames.iter().peekable();
    while let Some((vnet, frame)) = rest.next() {
        let mut octets = frame.clone();
        let Some(mut coalescer) = UdpCoalescer::begin(vnet, frame) else {
            joined.push((*vnet, octets));
            continue;
        };
        while let Some((vnet, frame)) = rest.peek() {
            let Some(payload) = coalescer.admit(&octets, vnet, frame) else { break };
            octets.extend_from_slice(payload);
            rest.next();
        }
        assert_eq!(coalescer.len(), octets.len());
        let vnet = coalescer.finish(&mut octets);
        assert!(vnet.is_valid_for(octets.len()));
        joined.push((vnet, octets));
    }
    joined
}

/// Cuts what is a super-frame.
fn cut(frames: &[(Vnet, Vec<u8>)]) -> Vec<(Vnet, Vec<u8>)> {
    let mut cut = Vec::new();
    for (vnet, frame) in frames {
        if vnet.gso_type == 0 {
            cut.push((*vnet, frame.clone()));
            continue;
        }
        let mut segments = Segments::of(vnet, frame).expect("a super-frame that was made here is sound");
        let mut segment = Vec::new();
        while let Some(vnet) = segments.next_into(&mut segment) {
            cut.push((vnet, segment.clone()));
        }
    }
    cut
}

/// Makes the identification that means nothing zero, and the sum that goes with it.
fn without_id((vnet, mut frame): (Vnet, Vec<u8>)) -> (Vnet, Vec<u8>) {
    if word(&frame, 12) == Some(ETHERTYPE_IPV4) && word(&frame, 20) == Some(0x4000) {
        assert_eq!(sum(&frame[14..34]), u16::MAX, "the sum of the IPv4 header is right");
        set_word(&mut frame, 18, 0);
        sum_ipv4_header(&mut frame, 14, IPV4_LEN);
    }
    let udp_at = if word(&frame, 12) == Some(ETHERTYPE_IPV4) { 34 } else { 54 };
    if word(&frame, udp_at + 6) == Some(u16::MAX) {
        set_word(&mut frame, udp_at + 6, 0);
    }
    (vnet, frame)
}

fn assert_cut_again(frames: &[(Vnet, Vec<u8>)], joined: &[(Vnet, Vec<u8>)]) {
    let cut: Vec<_> = cut(joined).into_iter().map(without_id).collect();
    let sent: Vec<_> = frames.iter().cloned().map(without_id).collect();
    assert_eq!(cut, sent);
}

/// How many frames become of two datagrams.
fn frames_of(a: &Datagram, b: &Datagram) -> usize {
    join(&[make(a), make(b)]).len()
}

#[test]
fn datagrams_of_a_flow_become_one_super_frame_and_are_cut_again() {
    //= spec/super-frames.md#cutting
    //= type=test
    //# A node whose stack takes no super-frames of UDP MUST cut them into the datagrams that they stand for, with the state of a frame
    //# whose sum is to be completed.
    for family in [Family::V4, Family::V6] {
        for last in [1, 7, 63, 64] {
            let lens = [64, 64, 64, 64, last];
            let frames: Vec<_> = (0..5)
                .map(|n: u16| make(&datagram(family, 100 + n, &[n as u8; 64][..lens[usize::from(n)]])))
                .collect();
            let joined = join(&frames);
            assert_eq!(joined.len(), 1);
            let (vnet, frame) = &joined[0];
            assert_eq!((vnet.gso_type, vnet.gso_size), (GSO_UDP, 64));
            assert_eq!(usize::from(vnet.hdr_len), family.udp_at() + UDP_LEN);
            assert_eq!(frame.len(), family.udp_at() + UDP_LEN + 4 * 64 + last);
            assert_cut_again(&frames, &joined);
        }
    }
}

#[test]
fn a_shorter_datagram_is_the_last_and_a_longer_one_begins_anew() {
    let lens = |lens: &[usize]| {
        let made = |(n, len): (usize, &usize)| make(&datagram(Family::V4, n as u16, &[9; 100][..*len]));
        let frames: Vec<_> = lens.iter().enumerate().map(made).collect();
        let joined = join(&frames);
        assert_cut_again(&frames, &joined);
        joined.iter().map(|(vnet, frame)| (vnet.gso_size, frame.len() - 42)).collect::<Vec<_>>()
    };
    assert_eq!(lens(&[50, 50, 20, 20, 20]), [(50, 120), (20, 40)]);
    assert_eq!(lens(&[20, 50, 50, 50]), [(0, 20), (50, 150)]);
    assert_eq!(lens(&[20, 19, 18]), [(20, 39), (0, 18)]);
}

#[test]
fn what_differs_in_more_than_cutting_restores_is_not_joined() {
    //= spec/super-frames.md#what-is-joined
    //= type=test
    //# A node MUST join only datagrams that are neighbours in their flow, equally long but for the last, whose headers differ in
    //# nothing but what cutting restores.
    for family in [Family::V4, Family::V6] {
        let one = datagram(family, 7, &[1; 64]);
        let next = Datagram { id: 8, ..one.clone() };
        assert_eq!(frames_of(&one, &next), 1);
        assert_eq!(frames_of(&one, &Datagram { port: 4001, ..next.clone() }), 2, "another port");
        let (vnet, frame) = make(&next);
        let first = make(&one);
        // Addresses, type of service or class, flow label, time to live, protocol; not lengths, sums and identification.
        let fixed: Vec<usize> = match family {
            Family::V4 => (0..16).chain(20..24).chain(26..38).collect(),
            Family::V6 => (0..18).chain(20..58).collect(),
        };
        for at in fixed {
            let mut other = frame.clone();
            other[at] ^= 1;
            if family == Family::V4 && at >= 14 {
                sum_ipv4_header(&mut other, 14, IPV4_LEN);
            }
            assert_eq!(join(&[first.clone(), (vnet, other)]).len(), 2, "octet {at}");
        }
        // Sums and lengths that are wrong stay wrong only in a frame of its own.
        let wrong: &[usize] = match family {
            Family::V4 => &[17, 25, 39, 41],
            Family::V6 => &[19, 59, 61],
        };
        for at in wrong {
            let mut other = frame.clone();
            other[*at] ^= 1;
            assert_eq!(join(&[first.clone(), (vnet, other.clone())]).len(), 2, "octet {at}");
            let long = [(vnet, other), make(&Datagram { id: 9, ..one.clone() })];
            assert_eq!(join(&long).len(), 2, "octet {at} of the first");
        }
        for other in [
            Vnet::default(),
            Vnet { flags: Vnet::DATA_VALID, ..vnet },
            Vnet { csum_offset: 16, ..vnet },
            Vnet { csum_start: 14, ..vnet },
            Vnet { gso_type: GSO_UDP, gso_size: 10, ..vnet },
        ] {
            assert_eq!(join(&[first.clone(), (other, frame.clone())]).len(), 2, "{other:?}");
            assert_eq!(join(&[(other, frame.clone()), (other, frame.clone())]).len(), 2, "{other:?}");
        }
    }
}

#[test]
fn identifications_are_counted_or_fixed_where_nothing_is_fragmented() {
    let made = |is_df, ids: &[u16]| {
        let frame = |id: &u16| make(&Datagram { is_df, ..datagram(Family::V4, *id, &[1; 64]) });
        join(&ids.iter().map(frame).collect::<Vec<_>>()).len()
    };
    assert_eq!(made(true, &[65_534, 65_535, 0, 1]), 1);
    assert_eq!(made(false, &[5, 6, 7]), 1);
    assert_eq!(made(true, &[0, 0, 0]), 1);
    assert_eq!(made(false, &[0, 0, 0]), 3, "they tell fragments of two datagrams apart");
    assert_eq!(made(true, &[5, 5, 7]), 2, "neither counted nor fixed");
    assert_eq!(made(true, &[5, 6, 5]), 2);
    assert_eq!(made(true, &[5, 7]), 2);
}

#[test]
fn fragments_options_and_empty_datagrams_go_by_themselves() {
    let (vnet, frame) = make(&datagram(Family::V4, 1, &[1; 64]));
    for (at, octet) in [(14, 0x46), (20, 0x20), (21, 1)] {
        let mut other = frame.clone();
        other[at] = octet;
        sum_ipv4_header(&mut other, 14, IPV4_LEN);
        assert!(UdpCoalescer::begin(&vnet, &other).is_none(), "octet {at}");
    }
    assert!(UdpCoalescer::begin(&vnet, &make(&datagram(Family::V4, 1, &[])).1).is_none());
    let mut padded = frame.clone();
    padded.push(0);
    assert!(UdpCoalescer::begin(&vnet, &padded).is_none());
    assert!(UdpCoalescer::begin(&vnet, &frame[..40]).is_none());
}

#[test]
fn a_super_frame_has_a_bounded_number_of_datagrams_and_octets() {
    let count = |len: usize, datagrams: u16| {
        let made = |n| make(&datagram(Family::V6, n, &alloc::vec![3; len]));
        join(&(0..datagrams).map(made).collect::<Vec<_>>()).len()
    };
    assert_eq!(count(1, 64), 1);
    assert_eq!(count(1, 65), 2);
    assert_eq!(count(16_000, 4), 1);
    assert_eq!(count(16_000, 5), 2, "65,535 octets of IP packet");
    let long = make(&datagram(Family::V6, 1, &alloc::vec![3; 40_000]));
    assert!(UdpCoalescer::begin(&long.0, &long.1).is_none(), "another never fits");
}

#[test]
fn a_super_frame_behind_a_tag_is_cut_too() {
    let frames: Vec<_> = (0..3).map(|n| make(&datagram(Family::V4, n, &[4; 10]))).collect();
    let (vnet, frame) = join(&frames).remove(0);
    let mut tagged = frame[..12].to_vec();
    tagged.extend_from_slice(&[0x81, 0, 0, 5]);
    tagged.extend_from_slice(&frame[12..]);
    let vnet = Vnet { csum_start: 38, hdr_len: 46, ..vnet };
    let mut segments = Segments::of(&vnet, &tagged).expect("it is sound");
    let mut segment = Vec::new();
    for (_, frame) in &frames {
        assert_eq!(segments.next_into(&mut segment).map(|vnet| vnet.csum_start), Some(38));
        assert_eq!((&segment[..12], &segment[16..]), (&frame[..12], &frame[12..]));
    }
    assert_eq!(segments.next_into(&mut segment), None);
}

#[test]
fn a_segment_that_is_longer_than_an_ip_packet_is_cut_without_harm() {
    let (vnet, mut frame) = make(&datagram(Family::V6, 1, &[1; 64]));
    frame.resize(crate::limits::FRAME_LEN_MAX, 0);
    let vnet = Vnet { gso_type: GSO_UDP, gso_size: u16::MAX, ..vnet };
    let mut segments = Segments::of(&vnet, &frame).expect("it is sound");
    let mut segment = Vec::new();
    assert!(segments.next_into(&mut segment).is_some() && segments.next_into(&mut segment).is_none());
    assert_eq!(segment.len(), frame.len());
}

fn any_datagram() -> impl Strategy<Value = Datagram> {
    // Few values of each, so that neighbours are often alike.
    let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
    (family, 0..4_u16, any::<bool>(), 0..2_u16, 0..3_usize).prop_map(|(family, id, is_df, port, len)| {
        Datagram { family, id, is_df, port, payload: alloc::vec![id as u8; [8, 30, 31][len]] }
    })
}

proptest! {
    #[test]
    fn whatever_is_joined_is_cut_into_what_was_sent(datagrams in prop::collection::vec(any_datagram(), 1..40)) {
        let counted = |(n, datagram): (usize, &Datagram)| {
            make(&Datagram { id: datagram.id / 3 * n as u16, ..datagram.clone() })
        };
        let frames: Vec<_> = datagrams.iter().enumerate().map(counted).collect();
        assert_cut_again(&frames, &join(&frames));
    }

    #[test]
    fn a_frame_of_a_peer_is_cut_into_no_more_than_it_has(
        mut frame in prop::collection::vec(any::<u8>(), 0..200),
        csum_start in 0..120_u16,
        gso_size in 0..100_u16,
        is_ip in any::<bool>(),
    ) {
        if is_ip && frame.len() > 14 {
            frame[12..14].copy_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
        }
        let vnet =
            Vnet { flags: 1, gso_type: GSO_UDP, gso_size, csum_start, csum_offset: 6, ..Vnet::default() };
        if let Some(mut segments) = Segments::of(&vnet, &frame) {
            let (mut segment, mut octets) = (Vec::new(), 0);
            while segments.next_into(&mut segment).is_some() {
                octets += segment.len() - usize::from(csum_start) - UDP_LEN;
            }
            prop_assert_eq!(octets, frame.len() - usize::from(csum_start) - UDP_LEN);
        }
        let _ = UdpCoalescer::begin(&vnet, &frame);
        let plain = Vnet { gso_type: 0, ..vnet };
        if let Some(mut coalescer) = UdpCoalescer::begin(&plain, &frame) {
            let _ = coalescer.admit(&frame, &plain, &frame);
        }
    }
}

/// The same datagram with its sum finished.
fn finished(frame: &[u8], udp_at: usize) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let check = match !sum(&frame[udp_at..]) {
        // Zero stands for no sum (RFC 768).
        0 => u16::MAX,
        check => check,
    };
    set_word(&mut frame, udp_at + 6, check);
    frame
}

proptest! {
    //= spec/super-frames.md#finished-sums
    //= type=test
    //# A datagram from outside whose sum is right and that is joined with others MUST go on as one whose sum is still to be completed,
    //# and any other as it came.
    #[test]
    fn of_a_right_sum_only_the_pseudo_headers_part_is_left(
        is_v4: bool,
        payload in prop::collection::vec(any::<u8>(), 1..100),
        wrong_at in 0_usize..100,
        flipped in 1_u8..,
    ) {
        let family = if is_v4 { Family::V4 } else { Family::V6 };
        let (state, frame) = make(&datagram(family, 7, &payload));
        let came = finished(&frame, family.udp_at());
        for known in [0, Vnet::DATA_VALID] {
            let mut octets = came.clone();
            let was = Vnet { flags: known, ..Vnet::default() };
            let (vnet, sum) = reopen(&was, &mut octets).expect("it is right");
            prop_assert_eq!((vnet, &octets), (state, &frame));
            prop_assert_eq!((sum.restore(&mut octets), &octets), (was, &came));
        }
        let mut wrong = came.clone();
        let at = family.udp_at() + wrong_at % (came.len() - family.udp_at());
        wrong[at] ^= flipped;
        let mut octets = wrong.clone();
        prop_assert!(reopen(&Vnet::default(), &mut octets).is_none());
        prop_assert_eq!(octets, wrong);
    }

    #[test]
    fn whatever_comes_stays_what_it_was_or_becomes_a_sound_datagram(
        mut frame in prop::collection::vec(any::<u8>(), 0..120),
        known in 0_u8..4,
        ethertype in prop::sample::select(alloc::vec![[8, 0], [0x86, 0xdd], [0x81, 0]]),
    ) {
        if let Some(octets) = frame.get_mut(12..14) {
            octets.copy_from_slice(&ethertype);
        }
        let came = frame.clone();
        let vnet = Vnet { flags: known, ..Vnet::default() };
        match reopen(&vnet, &mut frame) {
            None => prop_assert_eq!(frame, came),
            Some((state, _)) => prop_assert!(state.is_valid_for(frame.len())),
        }
    }
}

#[test]
fn a_datagram_without_a_sum_stays_without_one() {
    let (_, frame) = make(&datagram(Family::V4, 7, b"none"));
    let mut octets = frame.clone();
    set_word(&mut octets, 40, 0);
    let came = octets.clone();
    let vnet = Vnet { flags: Vnet::DATA_VALID, ..Vnet::default() };
    assert!(reopen(&vnet, &mut octets).is_none() && octets == came);
}
