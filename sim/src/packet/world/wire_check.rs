//! What every packet on the wire must be: numbered once, within its leg's length, within credit, well formed, true.
//!
//! Packet numbers are nonces: they rise by one on each leg and direction and never start again within a session.
//! An ack names only what arrived, a message ack only what was delivered and settled. I-17: credit never goes
//! back, and a sender never exceeds what has reached it.

use std::collections::BTreeMap;

use rvi::packet::receiver::ChannelWindows;
use rvi::packet::wire::{
    AckBlock, Control, MESSAGE_OVERHEAD, PACKET_HEADER_LEN, PacketHeader, Payload, RecordHeader, RecordKind,
    TAG_LEN,
};
use vlan_core::Channel;

use super::super::end::End;
use super::super::numbers::Numbers;
use super::super::side::Side;
use super::super::windows::is_before;

/// A broken rule: the invariant and what broke it.
type Broken = (&'static str, String);

/// What one end sent and got, and what it was allowed to send.
#[derive(Clone, Debug, Default)]
struct EndWire {
    /// The next number of each leg.
    next_number: BTreeMap<u8, u64>,
    /// Packets that arrived, by leg.
    arrived: BTreeMap<u8, Numbers>,
    /// The first number beyond the credit that reached the end, by channel.
    limit: BTreeMap<Channel, u32>,
    /// The octets that reached it as credit, in KiB.
    limit_kib: u32,
    /// Messages of which something was sent, by channel, and the octets of them all.
    begun: BTreeMap<Channel, Numbers>,
    octets_begun: u64,
    /// The first number beyond the credit that the end granted, by channel, and its octets.
    granted: BTreeMap<Channel, u32>,
    granted_kib: u32,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct WireCheck {
    ends: [EndWire; 2],
    /// The handshake's credit for each channel.
    first_messages: u32,
}

impl WireCheck {
    /// A new session begins, in which each end may send so many messages a channel and so many KiB.
    pub(super) fn begin(&mut self, messages: u32, kib: u32) {
        let end = EndWire { limit_kib: kib, granted_kib: kib, ..EndWire::default() };
        *self = Self { ends: [end.clone(), end], first_messages: messages };
    }

    /// Looks at a packet that `end` sends on `leg`, before it is sealed.
    pub(super) fn check(&mut self, len_max: usize, end: &End, leg: u8, packet: &[u8]) -> Result<(), Broken> {
        let header = PacketHeader::parse_packet(packet).map_err(|error| ("wire", error.to_string()))?;
        if packet.len() > len_max || header.leg.number() != leg {
            let detail = format!("{} octets, leg {:?} in the header", packet.len(), header.leg);
            return Err(("wire", detail));
        }
        let first_messages = self.first_messages;
        let wire = &mut self.ends[end.side.index()];
        let expected = wire.next_number.entry(leg).or_default();
        if header.number != *expected {
            return Err(("nonces", format!("packet {} instead of {expected}", header.number)));
        }
        *expected += 1;
        let payload = &packet[PACKET_HEADER_LEN..packet.len() - TAG_LEN];
        let payload =
            Payload::parse(header.flags.has_ack, payload).map_err(|error| ("wire", error.to_string()))?;
        payload.ack_blocks().try_for_each(|block| wire.check_ack(&block))?;
        payload.records().try_for_each(|record| {
            let channel = record.header.channel;
            match (record.header.kind, record.control()) {
                (RecordKind::Data, _) => wire.check_within_credit(&record.header, first_messages),
                (_, Some(Control::Credit { cum, messages, kib })) => {
                    wire.check_monotone(channel, cum.wrapping_add(messages), kib)
                }
                (_, Some(Control::MessageAck { cum, ranges })) => {
                    check_message_ack(end, channel, cum, ranges.into_iter())
                }
                _ => Ok(()),
            }
        })
    }

    /// A packet reached `side`: what it grants counts from now on.
    pub(super) fn arrived(&mut self, side: Side, leg: u8, header: &PacketHeader, payload: &[u8]) {
        let wire = &mut self.ends[side.index()];
        wire.arrived.entry(leg).or_default().insert(header.number);
        let Ok(payload) = Payload::parse(header.flags.has_ack, payload) else { return };
        for record in payload.records() {
            if let Some(Control::Credit { cum, messages, kib }) = record.control() {
                let limit = cum.wrapping_add(messages);
                let slot = wire.limit.entry(record.header.channel).or_insert(self.first_messages);
                if is_before(*slot, limit) {
                    *slot = limit;
                }
                if is_before(wire.limit_kib, kib) {
                    wire.limit_kib = kib;
                }
            }
        }
    }
}

impl EndWire {
    fn check_ack(&self, block: &AckBlock) -> Result<(), Broken> {
        let arrived = self.arrived.get(&block.leg.number());
        let is_true = |(lowest, highest)| arrived.is_some_and(|numbers| numbers.covers(lowest, highest));
        let count = arrived.map_or(0, Numbers::len);
        if block.ranges.iter().all(is_true) && u64::from(block.rx_count) <= count {
            return Ok(());
        }
        Err(("acks are true", format!("{block:?} of {count} packets that arrived: {arrived:?}")))
    }

    fn check_within_credit(&mut self, header: &RecordHeader, first_messages: u32) -> Result<(), Broken> {
        let (channel, mseq) = (header.channel, header.mseq);
        let limit = self.limit.get(&channel).copied().unwrap_or(first_messages);
        if !is_before(mseq, limit) {
            return Err((
                "I-17 credit",
                format!("channel {} message {mseq} with credit to {limit}", channel.0),
            ));
        }
        if self.begun.entry(channel).or_default().insert(u64::from(mseq)) {
            self.octets_begun += u64::from(header.msg_len) + MESSAGE_OVERHEAD as u64;
        }
        if self.octets_begun > u64::from(self.limit_kib) << 10 {
            let detail = format!("{} octets with a credit of {} KiB", self.octets_begun, self.limit_kib);
            return Err(("I-17 credit", detail));
        }
        Ok(())
    }

    fn check_monotone(&mut self, channel: Channel, limit: u32, kib: u32) -> Result<(), Broken> {
        let before = self.granted.insert(channel, limit);
        if before.is_some_and(|before| is_before(limit, before)) {
            return Err(("I-17 credit", format!("channel {}: {limit} after {before:?}", channel.0)));
        }
        let before = std::mem::replace(&mut self.granted_kib, kib);
        if is_before(kib, before) {
            return Err(("I-17 credit", format!("{kib} KiB after {before}")));
        }
        Ok(())
    }
}

fn check_message_ack(
    end: &End,
    channel: Channel,
    cum: u32,
    mut ranges: impl Iterator<Item = (u32, u32)>,
) -> Result<(), Broken> {
    let delivered = |mseq| end.windows.is_delivered(channel, mseq);
    let is_true = |(first, len): (u32, u32)| (0..len).all(|n| delivered(first.wrapping_add(n)));
    if !end.settles {
        return Err((
            "acks are true",
            format!("channel {} is acknowledged and nothing is settled", channel.0),
        ));
    }
    if is_before(end.windows.cum(channel), cum) || !ranges.all(is_true) {
        return Err(("acks are true", format!("channel {} acknowledged to {cum}, undelivered", channel.0)));
    }
    Ok(())
}
