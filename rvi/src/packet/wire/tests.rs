//! Everything written is read back; nothing that is read makes a parser panic.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use vlan_core::Channel;
use vlan_core::limits::{MESSAGE_LEN_MAX, MESSAGE_WINDOW};

use super::*;

fn leg() -> impl Strategy<Value = PacketLeg> {
    (0..PacketLeg::COUNT).prop_map(|index| PacketLeg::at(index).expect("a leg"))
}

prop_compose! {
    fn header()(
        kind in prop::sample::select(vec![
            PacketKind::Data, PacketKind::Probe, PacketKind::Connect, PacketKind::Accept, PacketKind::Confirm,
            PacketKind::Reset, PacketKind::Close, PacketKind::Cookie,
        ]),
        leg in leg(),
        ack_now: bool,
        has_ack: bool,
        dst_cid: u32,
        session: u64,
        number: u64,
        ts_us: u32,
        payload_len: u16,
        fabric_key: u16,
    ) -> PacketHeader {
        let flags = PacketFlags { ack_now, has_ack };
        PacketHeader { kind, leg, flags, dst_cid, session, number, ts_us, payload_len, fabric_key }
    }
}

prop_compose! {
    fn ack_block()(
        leg in leg(),
        delay_us: u16,
        rx_count: u32,
        largest in prop_oneof![0..2_000_u64, u64::MAX - 500_000..=u64::MAX],
        ts_echo: u32,
        cuts in prop::collection::vec((1..70_000_u64, 2..70_000_u64), 1..10),
    ) -> AckBlock {
        let mut ranges = AckRanges::default();
        let mut highest = Some(largest);
        for (len, gap) in cuts {
            let Some(top) = highest else { break };
            let lowest = top.saturating_sub(len - 1);
            if !ranges.push(lowest, top) {
                break;
            }
            highest = ranges.as_slice().last().and_then(|&(lowest, _)| lowest.checked_sub(gap));
        }
        AckBlock { leg, delay_us, rx_count, largest, ts_echo, ranges }
    }
}

prop_compose! {
    fn data_record()(
        mseq: u32,
        lane in 0..1024_u16,
        is_resent: bool,
        is_after_all: bool,
        prev in 0..MESSAGE_WINDOW as u16,
        msg_len in 0..=MESSAGE_LEN_MAX as u32,
        place in 0..1100_u32,
        pieces in 1..24_u32,
        channel: u8,
    ) -> (RecordHeader, Vec<u8>) {
        let grid = FRAGMENT_GRID as u32;
        let frag_off = place.min(msg_len.saturating_sub(1) / grid) * grid;
        let frag_len = (pieces * grid).min(msg_len - frag_off) as u16;
        let channel = Channel(channel);
        let kind = RecordKind::Data;
        let header =
            RecordHeader { mseq, lane, kind, is_resent, is_after_all, prev, frag_len, frag_off, msg_len, channel };
        (header, (0..frag_len).map(|i| i as u8 ^ mseq as u8).collect())
    }
}

/// The record as octets.
fn encode(header: &RecordHeader, body: &[u8]) -> Vec<u8> {
    let mut octets = vec![0; header.record_len()];
    header.emit((&mut octets[..RECORD_HEADER_LEN]).try_into().expect("its length"));
    octets[RECORD_HEADER_LEN..RECORD_HEADER_LEN + body.len()].copy_from_slice(body);
    octets
}

fn section(blocks: &[AckBlock]) -> Vec<u8> {
    let mut octets = vec![0xee; ACK_SECTION_LEN_MAX];
    let mut writer = AckSectionWriter::new(&mut octets);
    assert!(blocks.iter().all(|block| writer.push(block)), "room for all legs");
    let len = writer.finish();
    assert_eq!(len, ack_section_len(blocks.iter().map(|block| block.ranges.as_slice().len())));
    octets.truncate(len);
    octets
}

fn plain() -> RecordHeader {
    RecordHeader { kind: RecordKind::Data, mseq: 7, lane: 3, ..RecordHeader::control(Channel(9), 5) }
}

proptest! {
    #[test]
    fn headers_round_trip(header in header()) {
        let mut octets = [0; PACKET_HEADER_LEN];
        header.emit(&mut octets);
        prop_assert_eq!(PacketHeader::parse(&octets), Ok(header));
        let mut packet = octets.to_vec();
        packet.resize(header.packet_len(), 0);
        prop_assert_eq!(PacketHeader::parse_packet(&packet), Ok(header));
    }

    #[test]
    fn payloads_round_trip(
        blocks in prop::collection::vec(ack_block(), 0..6),
        records in prop::collection::vec(data_record(), 0..8),
    ) {
        let mut blocks = blocks;
        blocks.sort_by_key(|block| block.leg);
        blocks.dedup_by_key(|block| block.leg);
        let has_ack = !blocks.is_empty();
        let mut octets = if has_ack { section(&blocks) } else { Vec::new() };
        records.iter().for_each(|(header, body)| octets.extend(encode(header, body)));
        let payload = Payload::parse(has_ack, &octets).expect("a good payload");
        prop_assert_eq!(&payload.ack_blocks().collect::<Vec<_>>(), &blocks);
        let read: Vec<_> = payload.records().map(|record| (record.header, record.body.to_vec())).collect();
        prop_assert_eq!(read, records);
        // A payload that is cut at a record's end is a good one; cut elsewhere it is refused.
        for cut in 0..octets.len().min(400) {
            if let Ok(payload) = Payload::parse(has_ack, &octets[..cut]) {
                let left: usize = payload.records().map(|record| record.header.record_len()).sum();
                let acks = if has_ack { section(&blocks).len() } else { 0 };
                prop_assert_eq!(acks + left, cut);
            }
        }
    }

    #[test]
    fn garbage_never_panics(has_ack: bool, octets in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = PacketHeader::parse(&octets);
        let _ = PacketHeader::parse_packet(&octets);
        let _ = Control::parse(&octets);
        if let Ok(payload) = Payload::parse(has_ack, &octets) {
            payload.ack_blocks().for_each(drop);
            payload.records().for_each(|record| assert!(record.control().is_none_or(|control| control != Control::Pad || record.body[0] == 0)));
        }
    }

    #[test]
    fn good_payloads_with_some_octets_changed_never_panic(
        block in ack_block(),
        records in prop::collection::vec(data_record(), 0..4),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut octets = section(&[block]);
        records.iter().for_each(|(header, body)| octets.extend(encode(header, body)));
        for (place, octet) in changes {
            let place = place.index(octets.len());
            octets[place] = octet;
        }
        if let Ok(payload) = Payload::parse(true, &octets) {
            for record in payload.records() {
                prop_assert_eq!(record.body.len(), usize::from(record.header.frag_len));
                prop_assert!(record.header.frag_off + u32::from(record.header.frag_len) <= record.header.msg_len);
            }
            for block in payload.ack_blocks() {
                prop_assert!(block.ranges.iter().all(|(lowest, highest)| lowest <= highest));
            }
        }
    }

    #[test]
    fn control_round_trips(channel: u8, cum: u32, kib: u32, cuts in prop::collection::vec((1..200_u32, 1..200_u32), 0..33)) {
        let mut octets = vec![0xee; 400];
        let len = emit_credit(Channel(channel), cum, 77, kib, &mut octets);
        prop_assert_eq!(len, CREDIT_RECORD_LEN);
        let mut next = cum.wrapping_add(1);
        let mut ranges = Vec::new();
        for &(gap, count) in cuts.iter().take(MESSAGE_RANGES_MAX) {
            ranges.push((next, count));
            next = next.wrapping_add(count + gap);
        }
        let more = emit_message_ack(Channel(channel), cum, &ranges, &mut octets[len..]);
        prop_assert_eq!(more, message_ack_record_len(ranges.len()));
        let len = len + more;
        prop_assert_eq!(emit_settled(kib, &mut octets[len..]), SETTLED_RECORD_LEN);
        let len = len + SETTLED_RECORD_LEN;
        octets.truncate(len + 40);
        prop_assert_eq!(emit_pad(&mut octets[len..]), 40);
        let payload = Payload::parse(false, &octets).expect("good control");
        let read: Vec<_> = payload.records().filter_map(|record| record.control()).collect();
        prop_assert_eq!(read[0], Control::Credit { cum, messages: 77, kib });
        let Control::MessageAck { cum: told, ranges: read_ranges } = read[1] else { panic!("an MSACK") };
        prop_assert_eq!((told, read_ranges.collect::<Vec<_>>()), (cum, ranges));
        prop_assert_eq!(read[2], Control::Settled { kib });
        prop_assert_eq!(read[3], Control::Pad);
        prop_assert!(payload.records().all(|record| record.header.channel == Channel(channel) || record.header.channel == Channel::CONTROL));
    }
}

#[test]
fn a_header_is_refused_for_what_version_1_does_not_have() {
    //= spec/packet.md#packet-header
    //= type=test
    //# A receiver MUST refuse a packet whose version is not 1, whose header is not of eight words, or that has a kind,
    //# a leg or a flag that version 1 does not name.
    let mut good = [0; PACKET_HEADER_LEN];
    good[..3].copy_from_slice(&[0x18, 1, 2]);
    assert!(PacketHeader::parse(&good).is_ok());
    let wrong = [
        (0, 0x28, PacketError::Version(2)),
        (0, 0x19, PacketError::HeaderLen(9)),
        (1, 0, PacketError::Kind(0)),
        (1, 2, PacketError::Kind(2)),
        (1, 10, PacketError::Kind(10)),
        (2, 4, PacketError::Leg(4)),
        (2, 13, PacketError::Leg(13)),
        (2, 16, PacketError::Leg(16)),
        (3, 4, PacketError::Flags(4)),
        (3, 0x83, PacketError::Flags(0x83)),
    ];
    for (place, octet, error) in wrong {
        let mut octets = good;
        octets[place] = octet;
        assert_eq!(PacketHeader::parse(&octets), Err(error));
    }
    assert_eq!(PacketHeader::parse(&good[..31]), Err(PacketError::Length { len: 31, wanted: 32 }));
}

#[test]
fn a_packet_is_as_long_as_its_header_says() {
    //= spec/packet.md#packet-length
    //= type=test
    //# A receiver MUST refuse a packet whose length is not the sum of its header, its payload and its tag.
    let mut packet = [0; PACKET_HEADER_LEN + 24 + TAG_LEN + 1];
    packet[..3].copy_from_slice(&[0x18, 1, 2]);
    packet[24] = 24;
    let len = packet.len();
    assert!(PacketHeader::parse_packet(&packet[..len - 1]).is_ok());
    for wrong in [len, len - 2, PACKET_HEADER_LEN] {
        let error = PacketError::Length { len: wrong, wanted: len - 1 };
        assert_eq!(PacketHeader::parse_packet(&packet[..wrong]), Err(error));
    }
}

#[test]
fn ack_ranges_that_cannot_be_are_refused() {
    //= spec/packet.md#ack-ranges
    //= type=test
    //# An ack block MUST have one to eight ranges, from the highest number downwards, none of them empty, reaching below
    //# number 0 or into the one before.
    // Largest 10; the ranges that are put in are (gap, len).
    let block = |count: u8, ranges: [(u16, u16); 2]| {
        let mut octets = vec![0; 8 + 24 + 8];
        (octets[0], octets[8 + 1], octets[8 + 8]) = (1, count, 10);
        for (place, (gap, len)) in ranges.into_iter().enumerate() {
            octets[32 + 4 * place..34 + 4 * place].copy_from_slice(&gap.to_le_bytes());
            octets[34 + 4 * place..36 + 4 * place].copy_from_slice(&len.to_le_bytes());
        }
        Payload::parse(true, &octets).map(|payload| payload.ack_blocks().next().expect("a block").ranges)
    };
    let good = block(2, [(0, 3), (2, 7)]).expect("two ranges");
    assert_eq!(good.as_slice(), [(8, 10), (0, 6)]);
    assert!(good.contains(6) && !good.contains(7) && good.contains(8));
    for (count, ranges, error) in [
        (0, [(0, 3), (0, 0)], PacketError::AckRanges(0)),
        (9, [(0, 3), (0, 0)], PacketError::AckRanges(9)),
        (1, [(1, 3), (0, 0)], PacketError::AckRange { gap: 1, len: 3 }),
        (1, [(0, 0), (0, 0)], PacketError::AckRange { gap: 0, len: 0 }),
        (1, [(0, 12), (0, 0)], PacketError::AckRange { gap: 0, len: 12 }),
        (2, [(0, 3), (0, 2)], PacketError::AckRange { gap: 0, len: 2 }),
        (2, [(0, 3), (2, 8)], PacketError::AckRange { gap: 2, len: 8 }),
        (2, [(0, 3), (9, 1)], PacketError::AckRange { gap: 9, len: 1 }),
        (2, [(0, 3), (2, 0)], PacketError::AckRange { gap: 2, len: 0 }),
    ] {
        assert_eq!(block(count, ranges), Err(error));
    }
}

#[test]
fn an_ack_section_has_each_leg_once() {
    let mut octets = vec![0; 8 + 2 * 32];
    octets[0] = 2;
    for block in [8, 40] {
        (octets[block + 1], octets[block + 8], octets[block + 26]) = (1, 3, 1);
    }
    assert_eq!(Payload::parse(true, &octets).map(drop), Err(PacketError::AckLegTwice(0)));
    octets[8] = 14;
    assert_eq!(Payload::parse(true, &octets).expect("two legs").ack_blocks().count(), 2);
    for blocks in [0, 7] {
        octets[0] = blocks;
        assert_eq!(Payload::parse(true, &octets).map(drop), Err(PacketError::AckBlocks(blocks)));
    }
}

#[test]
fn a_range_that_is_too_long_or_too_far_is_cut_never_wrong() {
    let mut ranges = AckRanges::default();
    assert!(ranges.push(100_000, 300_000), "the newest 65,535 of it");
    assert_eq!(ranges.as_slice(), [(300_000 - 65_534, 300_000)]);
    assert!(!ranges.push(0, 100_000), "more than 16 bits below");
    assert!(ranges.push(0, 300_000 - 65_534 - 65_535));
}

#[test]
fn a_record_lies_in_its_payload() {
    //= spec/packet.md#records
    //= type=test
    //# A receiver MUST refuse a packet with a record that does not lie wholly in the payload.
    let octets = encode(&plain(), &[1, 2, 3, 4, 5]);
    assert_eq!(octets.len(), 24);
    let payload = Payload::parse(false, &octets).expect("one record");
    assert_eq!(payload.records().next(), Some(Record { header: plain(), body: &[1, 2, 3, 4, 5] }));
    for cut in 1..octets.len() {
        let wanted = if cut < RECORD_HEADER_LEN { RECORD_HEADER_LEN } else { 24 };
        let error = PacketError::Length { len: cut, wanted };
        assert_eq!(Payload::parse(false, &octets[..cut]).map(drop), Err(error));
    }
}

#[test]
fn a_bad_record_behind_good_ones_spoils_the_packet() {
    //= spec/packet.md#check-first
    //= type=test
    //# A receiver MUST check the whole payload of a packet before it applies anything of it.
    let mut octets = encode(&plain(), &[1, 2, 3, 4, 5]);
    let bad = RecordHeader { msg_len: 4, ..plain() };
    octets.extend(encode(&bad, &[1, 2, 3, 4, 5]));
    let error = PacketError::Fragment { offset: 0, len: 5, msg_len: 4 };
    assert_eq!(Payload::parse(false, &octets).map(drop), Err(error));
}

#[test]
fn fragments_lie_on_the_grid() {
    //= spec/packet.md#fragments
    //= type=test
    //# A fragment MUST start at a multiple of 64 octets of its message and MUST end at one or with the message.
    let parse = |frag_off, frag_len: u16, msg_len| {
        let header = RecordHeader { frag_off, frag_len, msg_len, ..plain() };
        Payload::parse(false, &encode(&header, &vec![0; usize::from(frag_len)])).map(drop)
    };
    for (offset, len, msg_len) in [(0, 0, 0), (0, 64, 65), (64, 1, 65), (0, 128, 200), (128, 72, 200)] {
        assert_eq!(parse(offset, len, msg_len), Ok(()));
    }
    for (offset, len, msg_len) in
        [(1, 64, 65), (0, 63, 65), (64, 2, 65), (0, 0, 64), (64, 0, 64), (192, 9, 200), (32, 64, 200)]
    {
        assert_eq!(parse(offset, len, msg_len), Err(PacketError::Fragment { offset, len, msg_len }));
    }
    let limit = MESSAGE_LEN_MAX as u32;
    assert_eq!(parse(0, 64, limit), Ok(()));
    assert_eq!(parse(0, 64, limit + 1), Err(PacketError::MessageLen(limit + 1)));
}

#[test]
fn reserved_bits_of_a_record_are_refused() {
    let good = encode(&plain(), &[0; 5]);
    for bits in [1 << 14, 1 << 15, 2 << 10, 3 << 10, 1 << 10 | 1 << 12, 1 << 10 | 5] {
        let mut octets = good.clone();
        octets[4..6].copy_from_slice(&u16::to_le_bytes(bits));
        assert_eq!(Payload::parse(false, &octets).map(drop), Err(PacketError::RecordBits(bits)));
    }
    let mut octets = good;
    octets[6..8].copy_from_slice(&16_384_u16.to_le_bytes());
    assert_eq!(Payload::parse(false, &octets).map(drop), Err(PacketError::Prev(16_384)));
}

#[test]
fn message_acks_that_cannot_be_are_refused() {
    //= spec/packet.md#message-acks
    //= type=test
    //# The ranges of a message ack MUST lie above its cumulative number, within the window, apart from each other and in
    //# rising order.
    let parse = |ranges: &[(u32, u32)]| {
        let mut octets = [0; 100];
        let len = emit_message_ack(Channel(1), u32::MAX, ranges, &mut octets);
        Payload::parse(false, &octets[..len]).map(drop)
    };
    for good in [&[][..], &[(0, 16_383)], &[(0, 1), (2, 16_381)], &[(16_382, 1)]] {
        assert_eq!(parse(good), Ok(()));
    }
    for bad in [
        &[(u32::MAX, 1)][..],
        &[(u32::MAX - 1, 1)],
        &[(0, 0)],
        &[(0, 16_384)],
        &[(16_383, 1)],
        &[(0, u32::MAX)],
        &[(0, 2), (2, 1)],
        &[(0, 2), (1, 1)],
        &[(5, 1), (0, 1)],
    ] {
        let &(first, len) = bad.last().expect("a range");
        assert_eq!(parse(bad), Err(PacketError::MessageRange { first, len }), "{bad:?}");
    }
}

#[test]
fn control_of_another_shape_is_refused() {
    assert_eq!(Control::parse(&[]), Err(PacketError::Length { len: 0, wanted: 1 }));
    assert_eq!(Control::parse(&[3, 0, 0, 0]), Err(PacketError::Length { len: 4, wanted: 8 }));
    assert_eq!(Control::parse(&[4, 0, 0, 0]), Err(PacketError::Control(4)));
    assert_eq!(Control::parse(&[1; 15]), Err(PacketError::Length { len: 15, wanted: 16 }));
    assert_eq!(Control::parse(&[2, 1, 0, 0, 0, 0, 0, 0]), Err(PacketError::Length { len: 8, wanted: 16 }));
    let many = [&[2, 33, 0, 0, 0, 0, 0, 0][..], &[0; 33 * 8]].concat();
    assert_eq!(Control::parse(&many), Err(PacketError::AckRanges(33)));
    let mut credit = [0; 16];
    (credit[0], credit[9]) = (1, 0x40);
    assert_eq!(Control::parse(&credit), Ok(Control::Credit { cum: 0, messages: 16_384, kib: 0 }));
    credit[8] = 1;
    assert_eq!(Control::parse(&credit), Err(PacketError::MessageRange { first: 0, len: 16_385 }));
}
