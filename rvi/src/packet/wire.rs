//! The octets of a packet: header, acks, records.
//!
//! A packet is a [`PacketHeader`] of 32 octets, a payload and a tag of 16. The payload of DATA and PROBE is an ack
//! section, if the header says so, and records: pieces of messages, and control of channels. [`Payload::parse`]
//! checks all of it before anything of it is used. Everything is little-endian. Rules: `spec/packet.md`.

mod ack;
mod channel_control;
mod error;
mod header;
mod payload;
mod record;
#[cfg(test)]
mod tests;

pub use ack::{
    ACK_BLOCKS_MAX, ACK_RANGES_MAX, ACK_SECTION_LEN_MAX, AckBlock, AckRanges, AckSectionWriter,
    ack_section_len,
};
pub use channel_control::{
    CREDIT_RECORD_LEN, Control, MESSAGE_RANGES_MAX, MessageRanges, SETTLED_RECORD_LEN, emit_credit,
    emit_message_ack, emit_pad, emit_settled, message_ack_record_len,
};
pub use error::PacketError;
pub use header::{PACKET_HEADER_LEN, PacketFlags, PacketHeader, PacketKind, PacketLeg, TAG_LEN};
pub use payload::{AckBlocks, Payload, Records};
pub use record::{
    FRAGMENT_GRID, MESSAGE_OVERHEAD, RECORD_HEADER_LEN, Record, RecordHeader, RecordKind, padded,
};

/// Lanes of a channel: what ten bits of a record can name.
pub use crate::ring::slot::LANES;

/// Reads little-endian fields off the front of a slice; `None` when it is too short.
#[derive(Clone, Copy, Debug)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    #[inline]
    fn take<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(field)
    }

    #[inline]
    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|o| o[0])
    }

    #[inline]
    fn u16(&mut self) -> Option<u16> {
        self.take().map(|o| u16::from_le_bytes(*o))
    }

    #[inline]
    fn u32(&mut self) -> Option<u32> {
        self.take().map(|o| u32::from_le_bytes(*o))
    }

    #[inline]
    fn u64(&mut self) -> Option<u64> {
        self.take().map(|o| u64::from_le_bytes(*o))
    }
}
