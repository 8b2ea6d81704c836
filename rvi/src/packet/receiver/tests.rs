//! The receiver's rules one by one, on a bench of a receiver and plain windows; `model` compares it with a network and a list.

mod acks;
mod channels;
mod message_acks;
mod model;
mod order;
mod room;

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
