//! Control of a channel: credit, message acks, and octets settled. Unnumbered; the latest state counts.

use vlan_core::Channel;
use vlan_core::limits::MESSAGE_WINDOW;

use super::record::padded;
use super::{Fields, PacketError, RECORD_HEADER_LEN, RecordHeader};

/// Ranges in one message ack.
pub const MESSAGE_RANGES_MAX: usize = 32;

const PAD: u8 = 0;
const CREDIT: u8 = 1;
const MESSAGE_ACK: u8 = 2;
const SETTLED: u8 = 3;
const CREDIT_LEN: usize = 16;
const MESSAGE_ACK_LEN: usize = 8;
const SETTLED_LEN: usize = 8;
const RANGE_LEN: usize = 8;

/// Octets of a record with credit.
pub const CREDIT_RECORD_LEN: usize = RECORD_HEADER_LEN + CREDIT_LEN;

/// Octets of a record that says how many octets are settled.
pub const SETTLED_RECORD_LEN: usize = RECORD_HEADER_LEN + SETTLED_LEN;

/// Octets of a record with a message ack of `ranges` ranges.
#[must_use]
pub const fn message_ack_record_len(ranges: usize) -> usize {
    RECORD_HEADER_LEN + padded(MESSAGE_ACK_LEN + ranges * RANGE_LEN)
}

/// What a control record says of its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control<'a> {
    /// Nothing: octets that make a packet as long as a probe of the path's size wants it.
    Pad,
    /// How far the peer may send.
    Credit {
        /// Every message before this one is delivered.
        cum: u32,
        /// Messages may have numbers below `cum` plus this.
        messages: u32,
        /// Octets granted to the association since the session began, in KiB, free-running.
        kib: u32,
    },
    /// Which messages are delivered.
    MessageAck {
        /// Every message before this one.
        cum: u32,
        /// And these above it.
        ranges: MessageRanges<'a>,
    },
    /// How much of the peer's credit went to messages that it has acknowledged.
    Settled {
        /// Octets of them since the session began, in KiB, free-running.
        kib: u32,
    },
}

impl<'a> Control<'a> {
    /// Reads the body of a control record.
    ///
    /// # Errors
    /// Says what no control has.
    pub fn parse(body: &'a [u8]) -> Result<Self, PacketError> {
        let kind = *body.first().ok_or(PacketError::Length { len: 0, wanted: 1 })?;
        match kind {
            PAD => Ok(Self::Pad),
            CREDIT => Self::parse_credit(body),
            MESSAGE_ACK => Self::parse_message_ack(body),
            SETTLED => Self::parse_settled(body),
            _ => Err(PacketError::Control(kind)),
        }
    }

    fn parse_credit(body: &[u8]) -> Result<Self, PacketError> {
        let wrong = PacketError::Length { len: body.len(), wanted: CREDIT_LEN };
        let body: &[u8; CREDIT_LEN] = body.try_into().map_err(|_| wrong)?;
        let mut fields = Fields(&body[4..]);
        let mut read = || Some((fields.u32()?, fields.u32()?, fields.u32()?));
        let (cum, messages, kib) = read().ok_or(wrong)?;
        if messages > MESSAGE_WINDOW {
            return Err(PacketError::MessageRange { first: cum, len: messages });
        }
        Ok(Self::Credit { cum, messages, kib })
    }

    fn parse_settled(body: &[u8]) -> Result<Self, PacketError> {
        let wrong = PacketError::Length { len: body.len(), wanted: SETTLED_LEN };
        let body: &[u8; SETTLED_LEN] = body.try_into().map_err(|_| wrong)?;
        let kib = Fields(&body[4..]).u32().ok_or(wrong)?;
        Ok(Self::Settled { kib })
    }

    fn parse_message_ack(body: &'a [u8]) -> Result<Self, PacketError> {
        let short = PacketError::Length { len: body.len(), wanted: MESSAGE_ACK_LEN };
        let (head, octets) = body.split_first_chunk::<MESSAGE_ACK_LEN>().ok_or(short)?;
        let count = usize::from(head[1]);
        let wanted = MESSAGE_ACK_LEN + count * RANGE_LEN;
        if count > MESSAGE_RANGES_MAX {
            return Err(PacketError::AckRanges(head[1]));
        }
        if body.len() != wanted {
            return Err(PacketError::Length { len: body.len(), wanted });
        }
        let cum = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let ranges = MessageRanges { octets };
        check_ranges(cum, ranges)?;
        Ok(Self::MessageAck { cum, ranges })
    }
}

/// Ranges go upwards from above `cum`, apart from each other, and end within the window.
//= spec/packet.md#message-acks
//# The ranges of a message ack MUST lie above its cumulative number, within the window, apart from each other and in
//# rising order.
fn check_ranges(cum: u32, ranges: MessageRanges<'_>) -> Result<(), PacketError> {
    let mut next = 1;
    for (first, len) in ranges {
        let ahead = first.wrapping_sub(cum);
        if len == 0 || ahead < next || ahead >= MESSAGE_WINDOW || len > MESSAGE_WINDOW - ahead {
            return Err(PacketError::MessageRange { first, len });
        }
        next = ahead + len + 1;
    }
    Ok(())
}

/// The ranges of a message ack: (first number, how many), rising. An iterator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageRanges<'a> {
    octets: &'a [u8],
}

impl Iterator for MessageRanges<'_> {
    type Item = (u32, u32);

    fn next(&mut self) -> Option<(u32, u32)> {
        let mut fields = Fields(self.octets);
        let range = (fields.u32()?, fields.u32()?);
        self.octets = fields.0;
        Some(range)
    }
}

/// Writes a record with the credit of `channel` and gives its octets, [`CREDIT_RECORD_LEN`]; 0 when there is no room.
pub fn emit_credit(channel: Channel, cum: u32, messages: u32, kib: u32, out: &mut [u8]) -> usize {
    let Some(out) = out.first_chunk_mut::<CREDIT_RECORD_LEN>() else { return 0 };
    emit_header(channel, CREDIT_LEN, out);
    out[16..20].copy_from_slice(&[CREDIT, 0, 0, 0]);
    out[20..24].copy_from_slice(&cum.to_le_bytes());
    out[24..28].copy_from_slice(&messages.to_le_bytes());
    out[28..32].copy_from_slice(&kib.to_le_bytes());
    CREDIT_RECORD_LEN
}

/// Writes a record with a message ack of `channel` and gives its octets; 0 when there is no room.
///
/// # Panics
/// When there are more than [`MESSAGE_RANGES_MAX`] ranges.
pub fn emit_message_ack(channel: Channel, cum: u32, ranges: &[(u32, u32)], out: &mut [u8]) -> usize {
    assert!(ranges.len() <= MESSAGE_RANGES_MAX, "{} ranges in a message ack", ranges.len());
    let len = message_ack_record_len(ranges.len());
    let Some(out) = out.get_mut(..len) else { return 0 };
    emit_header(channel, len - RECORD_HEADER_LEN, out);
    out[16..20].copy_from_slice(&[MESSAGE_ACK, ranges.len() as u8, 0, 0]);
    out[20..24].copy_from_slice(&cum.to_le_bytes());
    for ((first, len), room) in ranges.iter().zip(out[24..].chunks_exact_mut(RANGE_LEN)) {
        room[..4].copy_from_slice(&first.to_le_bytes());
        room[4..].copy_from_slice(&len.to_le_bytes());
    }
    len
}

/// Writes a record with the octets that are settled, in KiB, and gives its octets, [`SETTLED_RECORD_LEN`]; 0 when there is no
/// room.
pub fn emit_settled(kib: u32, out: &mut [u8]) -> usize {
    let Some(out) = out.first_chunk_mut::<SETTLED_RECORD_LEN>() else { return 0 };
    emit_header(Channel::CONTROL, SETTLED_LEN, out);
    out[16..20].copy_from_slice(&[SETTLED, 0, 0, 0]);
    out[20..24].copy_from_slice(&kib.to_le_bytes());
    SETTLED_RECORD_LEN
}

/// Fills `out` with one padding record and gives its octets; 0 when `out` is too short for one.
pub fn emit_pad(out: &mut [u8]) -> usize {
    let len = out.len() & !7;
    let body = len.saturating_sub(RECORD_HEADER_LEN);
    if body == 0 || body > usize::from(u16::MAX) {
        return 0;
    }
    out[..len].fill(0);
    emit_header(Channel::CONTROL, body, &mut out[..len]);
    len
}

fn emit_header(channel: Channel, body_len: usize, out: &mut [u8]) {
    if let Some(head) = out.first_chunk_mut() {
        RecordHeader::control(channel, body_len as u16).emit(head);
    }
}
