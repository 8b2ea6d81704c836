//! The receiver's rules one by one; `model` compares it with a network and a list.

mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::vec;
use std::vec::Vec;

use super::*;
use crate::packet::wire::{
    AckBlock, Control, PacketError, PacketFlags, PacketHeader, PacketKind, Payload, RECORD_HEADER_LEN,
    RecordHeader, RecordKind,
};

/// What an association keeps of its channels, in the plainest form.
#[derive(Clone, Debug, Default)]
struct Windows {
    closed: BTreeSet<u8>,
    /// Of the closed ones, those that have not been open yet.
    unopened: BTreeSet<u8>,
    delivered: BTreeMap<u8, BTreeSet<u32>>,
    /// Lowest undelivered number of each channel.
    lowest: BTreeMap<u8, u32>,
}

impl Windows {
    fn deliver(&mut self, channel: Channel, mseq: u32) {
        let delivered = self.delivered.entry(channel.0).or_default();
        assert!(delivered.insert(mseq), "message {mseq} of channel {channel} is delivered twice");
        let lowest = self.lowest.entry(channel.0).or_default();
        while delivered.contains(lowest) {
            *lowest += 1;
        }
    }
}

impl ChannelWindows for Windows {
    fn is_open(&self, channel: Channel) -> bool {
        !self.closed.contains(&channel.0)
    }

    fn was_open(&self, channel: Channel) -> bool {
        !self.unopened.contains(&channel.0)
    }

    fn is_delivered(&self, channel: Channel, mseq: u32) -> bool {
        let lowest = self.lowest.get(&channel.0).copied().unwrap_or(0);
        mseq < lowest || self.delivered.get(&channel.0).is_some_and(|delivered| delivered.contains(&mseq))
    }

    fn window(&self, channel: Channel) -> (u32, u32) {
        let lowest = self.lowest.get(&channel.0).copied().unwrap_or(0);
        let end =
            self.delivered.get(&channel.0).and_then(|delivered| delivered.last()).map_or(0, |last| last + 1);
        (lowest, end.max(lowest))
    }
}

const LEG: PacketLeg = match PacketLeg::new(0) {
    Some(leg) => leg,
    None => panic!("leg 0"),
};
const OTHER: PacketLeg = match PacketLeg::new(14) {
    Some(leg) => leg,
    None => panic!("leg 14"),
};

fn at(micros: u64) -> Instant {
    Instant::from_nanos(micros * 1000)
}

fn header(leg: PacketLeg, number: u64) -> PacketHeader {
    PacketHeader {
        kind: PacketKind::Data,
        leg,
        flags: PacketFlags::default(),
        dst_cid: 0,
        session: 0,
        number,
        ts_us: number as u32 + 1000,
        payload_len: 0,
        fabric_key: 0,
    }
}

/// A whole message of channel 1.
fn message(mseq: u32, prev: u16, len: u32) -> RecordHeader {
    RecordHeader {
        kind: RecordKind::Data,
        mseq,
        prev,
        msg_len: len,
        ..RecordHeader::control(Channel(1), len.min(60_000) as u16)
    }
}

/// The piece `[offset, offset + len)` of the message.
fn piece(of: RecordHeader, offset: u32, len: u16) -> RecordHeader {
    RecordHeader { frag_off: offset, frag_len: len, ..of }
}

/// Octet `at` of a message.
fn octet(channel: Channel, mseq: u32, at: usize) -> u8 {
    (at as u32).wrapping_mul(31).wrapping_add(mseq.wrapping_mul(7)).wrapping_add(u32::from(channel.0)) as u8
}

fn body(record: &RecordHeader) -> Vec<u8> {
    let start = record.frag_off as usize;
    (start..start + usize::from(record.frag_len)).map(|at| octet(record.channel, record.mseq, at)).collect()
}

fn payload_of(records: &[RecordHeader]) -> Vec<u8> {
    let mut payload = Vec::new();
    for record in records {
        let start = payload.len();
        payload.resize(start + record.record_len(), 0);
        record.emit((&mut payload[start..start + RECORD_HEADER_LEN]).try_into().expect("its length"));
        let body = body(record);
        payload[start + RECORD_HEADER_LEN..start + RECORD_HEADER_LEN + body.len()].copy_from_slice(&body);
    }
    payload
}

/// A message ack: channel, lowest number that is not acknowledged, and ranges above it.
type Report = (Channel, u32, Vec<(u32, u32)>);

/// A receiver and the association around it.
struct Bench {
    receiver: Receiver,
    windows: Windows,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self::with(&ReceiverConfig::default())
    }

    fn with(config: &ReceiverConfig) -> Self {
        Self { receiver: Receiver::new(config), windows: Windows::default(), now: at(1) }
    }

    fn arrive(&mut self, header: PacketHeader, records: &[RecordHeader]) -> Result<Arrival, PacketError> {
        let payload = payload_of(records);
        let payload = Payload::parse(false, &payload).expect("a good payload");
        self.receiver.handle_packet(self.now, &header, &payload, &self.windows)
    }

    /// The numbers of the messages of channel 1 that are handed out.
    fn poll_all(&mut self) -> Vec<u32> {
        let mut numbers = Vec::new();
        while let Some(message) = self.receiver.poll_message(&self.windows) {
            self.windows.deliver(message.channel, message.mseq);
            let good =
                message.octets.iter().enumerate().all(|(i, &o)| o == octet(message.channel, message.mseq, i));
            assert!(good, "the octets of message {}", message.mseq);
            numbers.push(message.mseq);
            self.receiver.recycle(message.octets);
        }
        numbers
    }

    fn acks(&mut self) -> Vec<AckBlock> {
        let mut octets = [0; 512];
        let wanted = self.receiver.acks_len();
        let len = self.receiver.write_acks(self.now, &mut octets);
        assert_eq!(len, wanted);
        let Ok(payload) = Payload::parse(len > 0, &octets[..len]) else { panic!("a good ack section") };
        payload.ack_blocks().collect()
    }

    /// Control records that the receiver writes into packets with `room` octets, until nothing is due.
    fn reports(&mut self, room: usize) -> Vec<Report> {
        let mut reports = Vec::new();
        let mut octets = vec![0; room];
        loop {
            let len = self.receiver.write_message_acks(&self.windows, &mut octets);
            let payload = Payload::parse(false, &octets[..len]).expect("good control");
            for record in payload.records() {
                if let Some(Control::MessageAck { cum, ranges }) = record.control() {
                    reports.push((record.header.channel, cum, ranges.collect()));
                }
            }
            if self.receiver.message_acks_due(self.now) == AckDue::None {
                return reports;
            }
            assert!(len > 0, "a packet with {room} octets has room for some of it");
        }
    }
}

#[test]
fn a_packet_number_counts_once() {
    //= spec/packet.md#packet-numbers
    //= type=test
    //# A receiver MUST apply the records of a packet number of a leg at most once in a session.
    let mut bench = Bench::new();
    assert_eq!(bench.arrive(header(LEG, 3), &[message(0, 0, 10)]), Ok(Arrival::Taken));
    // The number counts, not the content: another message under the same number is not looked at.
    assert_eq!(bench.arrive(header(LEG, 3), &[message(1, 0, 10)]), Ok(Arrival::Duplicate));
    assert_eq!(bench.arrive(header(OTHER, 3), &[message(2, 0, 10)]), Ok(Arrival::Taken), "another leg");
    assert_eq!(bench.poll_all(), [0, 2]);
    assert_eq!(bench.receiver.counters().duplicate_packets, 1);
}

#[test]
fn numbers_below_what_is_remembered_are_lost() {
    let mut bench = Bench::new();
    for number in 0..100 {
        assert_eq!(bench.arrive(header(LEG, 2 * number + 1), &[]), Ok(Arrival::Taken));
    }
    // 64 ranges are kept: the lowest is 2 * 36 + 1.
    assert_eq!(bench.arrive(header(LEG, 71), &[]), Ok(Arrival::TooOld));
    assert_eq!(bench.arrive(header(LEG, 72), &[]), Ok(Arrival::Taken));
    assert_eq!(bench.arrive(header(LEG, 73), &[]), Ok(Arrival::Duplicate));
    assert_eq!(bench.arrive(header(LEG, 74), &[]), Ok(Arrival::Taken));
    assert_eq!((bench.receiver.counters().packets, bench.receiver.counters().old_packets), (102, 1));
    let block = bench.acks()[0];
    assert_eq!((block.largest, block.rx_count, block.ranges.as_slice().len()), (199, 102, 8));
}

#[test]
fn an_ack_has_every_leg_by_which_something_came() {
    //= spec/packet.md#all-legs
    //= type=test
    //# An ack section MUST have a block for each leg by which something was received in the session.
    let mut bench = Bench::new();
    assert_eq!(bench.acks(), []);
    bench.arrive(header(LEG, 0), &[message(0, 0, 10)]).expect("good");
    bench.acks();
    bench.now = at(31);
    bench.arrive(header(OTHER, 5), &[message(1, 0, 10)]).expect("good");
    bench.now = at(40);
    let acks = bench.acks();
    let told: Vec<_> = acks.iter().map(|a| (a.leg, a.largest, a.delay_us, a.ts_echo, a.rx_count)).collect();
    assert_eq!(told, [(LEG, 0, 39, 1000, 1), (OTHER, 5, 9, 1005, 1)]);
    bench.now = at(1_000_000);
    assert_eq!(bench.acks()[1].delay_us, u16::MAX);
    // Without room for all legs nothing is written, and the ack stays due.
    bench.arrive(PacketHeader { kind: PacketKind::Probe, ..header(LEG, 1) }, &[]).expect("good");
    assert_eq!(bench.receiver.write_acks(bench.now, &mut [0; 8 + 32]), 0);
    assert_eq!(bench.receiver.ack_due(bench.now), AckDue::Now);
}

#[test]
fn acks_are_due_at_once_when_asked_when_something_is_missing_and_when_many_wait() {
    //= spec/packet.md#acks-at-once
    //= type=test
    //# A receiver MUST acknowledge at once when a packet asks for it, when a packet shows that one before it is missing, and
    //# when as many packets wait for their ack as is configured.
    let mut bench = Bench::with(&ReceiverConfig { ack_every: 4, ..ReceiverConfig::default() });
    let due = |bench: &Bench| bench.receiver.ack_due(bench.now) == AckDue::Now;
    let mut number = 0_u64;
    let mut next = |bench: &mut Bench, kind, ack_now, skip: u64| {
        let flags = PacketFlags { ack_now, has_ack: false };
        let header = PacketHeader { kind, flags, ..header(LEG, number + skip) };
        number += 1 + skip;
        bench.arrive(header, &[message(header.number as u32, 0, 1)]).expect("good");
    };
    next(&mut bench, PacketKind::Data, false, 0);
    assert!(!due(&bench), "an ordinary packet");
    next(&mut bench, PacketKind::Data, true, 0);
    assert!(due(&bench), "ACK_NOW");
    bench.acks();
    assert!(!due(&bench), "told");
    next(&mut bench, PacketKind::Probe, false, 0);
    assert!(due(&bench), "PROBE");
    bench.acks();
    next(&mut bench, PacketKind::Data, false, 1);
    assert!(due(&bench), "one is missing");
    bench.acks();
    for count in 1..=4 {
        assert!(!due(&bench), "{count}");
        next(&mut bench, PacketKind::Data, false, 0);
    }
    assert!(due(&bench), "four wait");
}

#[test]
fn a_gap_is_told_at_once_only_when_it_appears() {
    let mut bench = Bench::new();
    for (number, at_once) in
        [(0, false), (2, true), (3, false), (1, false), (4, false), (9, true), (7, false)]
    {
        bench.arrive(header(LEG, number), &[message(number as u32, 0, 1)]).expect("good");
        assert_eq!(bench.receiver.ack_due(bench.now) == AckDue::Now, at_once, "{number}");
        bench.acks();
    }
}

#[test]
fn an_ack_waits_for_no_longer_than_configured() {
    //= spec/packet.md#acks-in-time
    //= type=test
    //# A packet with records MUST NOT wait for its ack for longer than is configured.
    let mut bench = Bench::new();
    bench.now = at(1000);
    bench.arrive(header(LEG, 0), &[]).expect("good");
    assert_eq!(bench.receiver.ack_due(bench.now), AckDue::None, "acks of acks");
    bench.arrive(header(LEG, 1), &[message(0, 0, 1)]).expect("good");
    bench.now = at(1100);
    bench.arrive(header(LEG, 2), &[message(1, 0, 1)]).expect("good");
    assert_eq!(bench.receiver.ack_due(bench.now), AckDue::At(at(1200)), "the first counts");
    assert_eq!(bench.receiver.ack_due(at(1200)), AckDue::Now);
    bench.acks();
    assert_eq!(bench.receiver.ack_due(bench.now), AckDue::None);
}

#[test]
fn answers_go_by_the_legs_that_asked() {
    let mut bench = Bench::new();
    bench.arrive(PacketHeader { kind: PacketKind::Probe, ..header(OTHER, 0) }, &[]).expect("good");
    let flags = PacketFlags { ack_now: true, has_ack: false };
    bench.arrive(PacketHeader { flags, ..header(LEG, 0) }, &[]).expect("good");
    assert_eq!([(); 3].map(|()| bench.receiver.poll_answer_leg()), [Some(LEG), Some(OTHER), None]);
}

#[test]
fn messages_of_a_lane_keep_their_order() {
    //= spec/packet.md#lane-order
    //= type=test
    //# A message MUST NOT be delivered before the message that it names as the previous one of its lane.
    let mut bench = Bench::new();
    // One lane has 0, 2, 4, the other 1, 3. Of the first 2 comes last, of the second 1.
    for (number, record) in [message(4, 2, 9), message(3, 2, 9), message(0, 0, 9)].into_iter().enumerate() {
        bench.arrive(header(LEG, number as u64), &[record]).expect("good");
    }
    assert_eq!(bench.poll_all(), [0]);
    bench.arrive(header(LEG, 3), &[message(1, 0, 9)]).expect("good");
    assert_eq!(bench.poll_all(), [1, 3]);
    bench.arrive(header(LEG, 4), &[message(2, 2, 9)]).expect("good");
    assert_eq!(bench.poll_all(), [2, 4]);
    assert_eq!(bench.receiver.octets_held(), 0);
}

#[test]
fn a_message_after_all_waits_for_all() {
    //= spec/packet.md#after-all
    //= type=test
    //# A message that is marked AFTER_ALL MUST NOT be delivered before every message of its channel with a lower number.
    let mut bench = Bench::new();
    let barrier = RecordHeader { is_after_all: true, ..message(3, 0, 9) };
    bench.arrive(header(LEG, 0), &[barrier, message(1, 0, 9), message(4, 0, 9)]).expect("good");
    assert_eq!(bench.poll_all(), [1, 4]);
    bench.arrive(header(LEG, 1), &[message(2, 0, 9)]).expect("good");
    assert_eq!(bench.poll_all(), [2]);
    bench.arrive(header(LEG, 2), &[message(0, 0, 9)]).expect("good");
    assert_eq!(bench.poll_all(), [0, 3]);
    assert_eq!(bench.receiver.octets_held(), 0);
}

#[test]
fn what_waits_goes_on_when_another_leg_delivers() {
    let mut bench = Bench::new();
    let barrier = RecordHeader { is_after_all: true, ..message(2, 0, 9) };
    bench
        .arrive(header(LEG, 0), &[message(1, 1, 9), barrier, piece(message(0, 0, 100), 0, 64)])
        .expect("good");
    assert_eq!(bench.poll_all(), []);
    bench.windows.deliver(Channel(1), 0);
    bench.receiver.handle_delivered(Channel(1), 0, &bench.windows);
    assert_eq!(bench.poll_all(), [1, 2]);
    assert_eq!(bench.receiver.octets_held(), 0, "the piece of what came by the other leg is given up");
}

#[test]
fn a_message_that_comes_again_is_told_again_and_dropped() {
    let mut bench = Bench::new();
    bench.arrive(header(LEG, 0), &[message(0, 0, 9), message(2, 1, 9)]).expect("good");
    assert_eq!(bench.poll_all(), [0]);
    assert_eq!(bench.reports(1000), [(Channel(1), 1, vec![])]);
    assert_eq!(bench.receiver.message_acks_due(at(1_000_000)), AckDue::None);
    // Delivered, waiting, and twice ready.
    bench.arrive(header(LEG, 1), &[message(0, 0, 9), message(2, 1, 9)]).expect("good");
    assert_eq!(bench.receiver.counters().duplicates, 2);
    assert_eq!(bench.reports(1000), [(Channel(1), 1, vec![])], "its sender does not know it");
    bench.arrive(header(LEG, 2), &[message(5, 0, 9), message(5, 0, 9), message(1, 0, 9)]).expect("good");
    assert_eq!(bench.poll_all(), [5, 1, 2]);
    assert_eq!(bench.receiver.counters().duplicates, 3);
    assert_eq!(bench.receiver.octets_held(), 0);
}

#[test]
fn pieces_may_be_cut_again() {
    let mut bench = Bench::new();
    let whole = message(0, 0, 1000);
    for (number, (offset, len)) in
        [(0, 256), (192, 192), (704, 296), (0, 64), (384, 320)].into_iter().enumerate()
    {
        assert_eq!(bench.poll_all(), []);
        bench.arrive(header(LEG, number as u64), &[piece(whole, offset, len)]).expect("good");
    }
    assert_eq!(bench.poll_all(), [0]);
    assert_eq!(bench.receiver.counters().duplicates, 1);
}

#[test]
fn another_length_of_a_message_ends_the_session() {
    //= spec/packet.md#fragment-length
    //= type=test
    //# When a fragment tells another length of its message than those before it, the session MUST end, and nothing more
    //# of it MUST be delivered or acknowledged.
    let mut bench = Bench::new();
    bench.arrive(header(LEG, 0), &[piece(message(1, 0, 200), 0, 64)]).expect("good");
    let error = PacketError::MessageLenChanged { known: 200, told: 201 };
    let records = [message(0, 0, 9), piece(message(1, 0, 201), 64, 64)];
    assert_eq!(bench.arrive(header(LEG, 1), &records), Err(error));
    assert_eq!(bench.poll_all(), [], "not even the good record of the bad packet");
    assert_eq!(bench.receiver.ack_due(at(1_000_000)), AckDue::None);
    assert_eq!(bench.receiver.write_acks(at(1_000_000), &mut [0; 500]), 0);
    assert_eq!(bench.arrive(header(LEG, 2), &[message(0, 0, 9)]), Ok(Arrival::NoRoom));
    assert_eq!(bench.poll_all(), []);
    assert_eq!(bench.receiver.counters().contradictions, 1);
}

#[test]
fn a_number_beyond_the_window_ends_the_session() {
    //= spec/packet.md#message-window
    //= type=test
    //# When a message's number lies 16,384 or more above the lowest undelivered one of its channel, the session MUST end.
    let mut bench = Bench::new();
    bench.windows.lowest.insert(1, 50);
    assert_eq!(bench.arrive(header(LEG, 0), &[message(49, 0, 9)]), Ok(Arrival::Taken), "long delivered");
    assert_eq!(bench.arrive(header(LEG, 1), &[message(50 + 16_383, 0, 9)]), Ok(Arrival::Taken));
    let error = PacketError::Window { mseq: 50 + 16_384 };
    assert_eq!(bench.arrive(header(LEG, 2), &[message(50 + 16_384, 0, 9)]), Err(error));
}

/// A receiver with the least room there is.
fn small() -> (Bench, usize) {
    (Bench::with(&ReceiverConfig { octets_max: 0, ..ReceiverConfig::default() }), 4 * RESERVE)
}

#[test]
fn a_packet_that_does_not_fit_is_not_acknowledged() {
    //= spec/packet.md#no-room
    //= type=test
    //# A receiver MUST NOT acknowledge a packet with a message that it could not hold.
    let (mut bench, octets_max) = small();
    let long = MESSAGE_LEN_MAX as u32;
    let mut number = 0;
    for mseq in 1..4 {
        let arrived = bench.arrive(header(LEG, number), &[piece(message(mseq, 0, long), 0, 64)]);
        assert_eq!(arrived, Ok(Arrival::Taken), "{mseq}");
        number += 1;
    }
    assert_eq!(
        bench.arrive(header(LEG, number), &[message(4, 0, 0)]),
        Ok(Arrival::NoRoom),
        "not even a short one"
    );
    assert_eq!(bench.receiver.counters().no_room, 1);
    let block = bench.acks()[0];
    assert_eq!((block.largest, block.rx_count), (2, 3));
    assert!(bench.receiver.octets_held() <= octets_max);
    // The same packet is welcome when there is room.
    bench.receiver.close_channel(Channel(1));
    assert_eq!(bench.arrive(header(LEG, number), &[message(4, 0, 0)]), Ok(Arrival::Taken));
    assert_eq!(bench.acks()[0].largest, 3);
}

#[test]
fn there_is_always_room_for_the_message_that_all_wait_for() {
    //= spec/packet.md#hold
    //= type=test
    //# A receiver MUST keep room for one longest message that only the lowest undelivered message of a channel may take.
    let (mut bench, octets_max) = small();
    let mut number = 0;
    let mut mseq = 1;
    // Everything waits for message 0.
    while bench.arrive(header(LEG, number), &[message(mseq, 1, 1000)]) == Ok(Arrival::Taken) {
        assert_eq!(bench.poll_all(), []);
        (number, mseq) = (number + 1, mseq + 1);
    }
    assert!(bench.receiver.octets_held() + RESERVE <= octets_max);
    let lowest = message(0, 0, MESSAGE_LEN_MAX as u32);
    let first = piece(lowest, 0, 60_032);
    let second = piece(lowest, 60_032, (MESSAGE_LEN_MAX - 60_032) as u16);
    assert_eq!(bench.arrive(header(LEG, number), &[first]), Ok(Arrival::Taken));
    assert!(bench.receiver.octets_held() <= octets_max);
    assert_eq!(bench.arrive(header(LEG, number + 1), &[second]), Ok(Arrival::Taken));
    assert_eq!(bench.poll_all(), (0..mseq).collect::<Vec<_>>());
    assert_eq!(bench.receiver.octets_held(), 0);
}

#[test]
fn what_is_not_delivered_is_not_acknowledged() {
    //= spec/packet.md#delivered
    //= type=test
    //# A receiver MUST NOT acknowledge a message that is not delivered.
    let mut bench = Bench::new();
    let records = [message(0, 0, 9), message(2, 1, 9), message(4, 0, 9), piece(message(6, 0, 100), 0, 64)];
    bench.arrive(header(LEG, 0), &records).expect("good");
    assert_eq!(bench.receiver.message_acks_due(bench.now), AckDue::None);
    assert_eq!(bench.poll_all(), [0, 4]);
    assert_eq!(bench.reports(1000), [(Channel(1), 1, vec![(4, 1)])]);
}

#[test]
fn message_acks_are_due_in_time() {
    let mut bench = Bench::with(&ReceiverConfig { ack_every: 3, ..ReceiverConfig::default() });
    bench.now = at(100);
    bench.arrive(header(LEG, 0), &[message(0, 0, 9), message(1, 0, 9)]).expect("good");
    bench.poll_all();
    assert_eq!(bench.receiver.message_acks_due(at(100)), AckDue::At(at(300)));
    assert_eq!(bench.receiver.message_acks_due(at(300)), AckDue::Now);
    bench.arrive(header(LEG, 1), &[message(2, 0, 9)]).expect("good");
    bench.poll_all();
    assert_eq!(bench.receiver.message_acks_due(at(100)), AckDue::Now, "three are delivered");
    assert_eq!(bench.reports(1000), [(Channel(1), 3, vec![])]);
    bench.receiver.resend_message_acks(at(400), Channel(1));
    assert_eq!(bench.receiver.message_acks_due(at(400)), AckDue::At(at(600)));
    assert_eq!(bench.reports(1000), [(Channel(1), 3, vec![])]);
}

#[test]
fn message_acks_take_as_many_records_and_packets_as_they_need() {
    let mut bench = Bench::new();
    let odd: Vec<u32> = (0..100).map(|i| 2 * i + 1).collect();
    for (number, &mseq) in odd.iter().enumerate() {
        let other = RecordHeader { channel: Channel(200), ..message(mseq + 1, 0, 9) };
        bench.arrive(header(LEG, number as u64), &[message(mseq, 0, 9), other]).expect("good");
    }
    bench.poll_all();
    for room in [1400, 200, 64] {
        bench.receiver.resend_message_acks(bench.now, Channel(1));
        bench.receiver.resend_message_acks(bench.now, Channel(200));
        let reports = bench.reports(room);
        for channel in [1, 200] {
            let of_channel = reports.iter().filter(|(c, ..)| c.0 == channel);
            assert!(of_channel.clone().all(|&(_, cum, _)| cum == 0), "{room}");
            let told: Vec<_> = of_channel.flat_map(|(.., ranges)| ranges.clone()).collect();
            let wanted: Vec<_> = odd.iter().map(|mseq| (mseq + u32::from(channel == 200), 1)).collect();
            assert_eq!(told, wanted, "{room}");
        }
    }
}

#[test]
fn credit_follows_what_the_host_gives_back() {
    //= spec/packet.md#octet-credit
    //= type=test
    //# A receiver MUST NOT grant more octets in a session than it can hold and those of the messages that it is done with.
    let mut bench = Bench::new();
    let cost = 10_240 + OVERHEAD;
    let kib = |done: usize| (((4 << 20) - RESERVE + done * cost) >> 10) as u32;
    assert_eq!(bench.receiver.granted_kib(), kib(0), "what may be held beside the reserve");
    let mut lent = Vec::new();
    for mseq in 0..98 {
        bench.arrive(header(LEG, u64::from(mseq)), &[message(mseq, 0, 10_240)]).expect("good");
        let message = bench.receiver.poll_message(&bench.windows).expect("its turn");
        bench.windows.deliver(message.channel, message.mseq);
        lent.push(message.octets);
        assert_eq!(bench.receiver.granted_kib(), kib(0), "held, delivered, but not given back");
    }
    assert_eq!(bench.receiver.octets_held(), 98 * cost);
    bench.reports(1000);
    // A quarter of what may be held is 98.3 such messages.
    for (count, octets) in lent.into_iter().enumerate() {
        bench.receiver.recycle(octets);
        assert_eq!(bench.receiver.granted_kib(), kib(count + 1));
    }
    assert_eq!(bench.receiver.message_acks_due(bench.now), AckDue::None);
    for mseq in 98..101 {
        bench.arrive(header(LEG, u64::from(mseq)), &[message(mseq, 0, 10_240)]).expect("good");
        bench.poll_all();
    }
    assert_eq!(bench.receiver.message_acks_due(bench.now), AckDue::Now, "a quarter is free again");
    let mut octets = [0; 500];
    let len = bench.receiver.write_message_acks(&bench.windows, &mut octets);
    let payload = Payload::parse(false, &octets[..len]).expect("good control");
    let credit = payload.records().find_map(|record| match record.control() {
        Some(Control::Credit { messages, kib, .. }) => Some((messages, kib)),
        _ => None,
    });
    assert_eq!(credit, Some((16_383, kib(101))));
}

#[test]
fn a_closed_channel_takes_nothing_and_keeps_nothing() {
    let mut bench = Bench::new();
    let records = [message(0, 0, 9), message(2, 1, 9), piece(message(3, 0, 100), 0, 64), message(4, 0, 9)];
    bench.arrive(header(LEG, 0), &records).expect("good");
    assert_eq!(bench.receiver.poll_message(&bench.windows).map(|m| m.mseq), Some(0));
    bench.windows.deliver(Channel(1), 0);
    assert_eq!(bench.receiver.poll_message(&bench.windows).map(|m| m.mseq), Some(4));
    bench.windows.deliver(Channel(1), 4);
    bench.arrive(header(LEG, 1), &[message(5, 0, 9)]).expect("good");
    bench.windows.closed.insert(1);
    bench.receiver.close_channel(Channel(1));
    assert!(bench.receiver.poll_message(&bench.windows).is_none());
    assert_eq!(bench.arrive(header(LEG, 2), &[message(6, 0, 9)]), Ok(Arrival::Taken));
    let refused: Vec<_> =
        core::iter::from_fn(|| bench.receiver.poll_refused()).map(|(_, mseq)| mseq).collect();
    assert_eq!(refused, [3, 2, 5, 6]);
    assert_eq!(bench.receiver.counters().refused, 4);
    // The two that were handed out were not given back.
    assert_eq!(bench.receiver.octets_held(), 2 * (9 + OVERHEAD));
}

#[test]
fn a_channel_that_is_yet_to_open_keeps_what_comes_for_it() {
    //= spec/packet.md#channels-yet-to-open
    //= type=test
    //# A receiver MUST hold a message of a channel that has not been open in the association until it is.
    let mut bench = Bench::new();
    bench.windows.closed.insert(1);
    bench.windows.unopened.insert(1);
    let records = [message(1, 1, 9), message(0, 0, 9), piece(message(2, 1, 100), 0, 64)];
    assert_eq!(bench.arrive(header(LEG, 0), &records), Ok(Arrival::Taken));
    assert!(bench.receiver.poll_message(&bench.windows).is_none());
    // A copy is none again, and the rest of a message finds its place.
    bench.arrive(header(LEG, 1), &[message(0, 0, 9), piece(message(2, 1, 100), 64, 36)]).expect("good");
    assert!(bench.receiver.poll_message(&bench.windows).is_none());
    assert_eq!(bench.receiver.counters().refused, 0);
    bench.windows.closed.clear();
    bench.windows.unopened.clear();
    for expected in 0..3 {
        assert_eq!(bench.receiver.poll_message(&bench.windows).map(|m| m.mseq), Some(expected));
        bench.windows.deliver(Channel(1), expected);
    }
    assert!(bench.receiver.poll_message(&bench.windows).is_none());
}

#[test]
fn refused_numbers_are_bounded() {
    let mut bench = Bench::new();
    bench.windows.closed.insert(1);
    for mseq in 0..300 {
        let records = [message(mseq, 0, 9), message(mseq, 0, 9)];
        assert_eq!(bench.arrive(header(LEG, u64::from(mseq)), &records), Ok(Arrival::Taken));
    }
    let refused: Vec<_> =
        core::iter::from_fn(|| bench.receiver.poll_refused()).map(|(_, mseq)| mseq).collect();
    assert_eq!(refused, (44..300).collect::<Vec<_>>());
    assert_eq!(bench.receiver.counters().refused, 600);
}

#[test]
fn an_idle_receiver_is_small() {
    let mut bench = Bench::new();
    for leg in [LEG, OTHER] {
        for number in 0..1000 {
            let mseq = 2 * number + leg.index().min(1) as u32;
            bench.arrive(header(leg, u64::from(number)), &[message(mseq, 0, 5000)]).expect("good");
            bench.poll_all();
        }
    }
    assert!(bench.receiver.pool.spare_octets() > 0);
    bench.receiver.trim();
    assert_eq!(bench.receiver.pool.spare_octets(), 0);
    let legs: usize = bench.receiver.legs.iter().flatten().map(|leg| leg.memory()).sum();
    let octets = size_of::<Receiver>() + legs;
    assert!(octets < 2048, "{octets} octets");
}
