//! What a node has captured, on its way to the control node that asked: a header and the copies behind it.

use alloc::vec::Vec;

use crate::wire::tlv::{TlvError, TlvHeader};

/// Octets of a [`CapturedHeader`].
pub const CAPTURED_HEADER_LEN: usize = 40;
/// Octets in front of each copy.
pub const CAPTURED_RECORD_LEN: usize = 24;
/// Its type on the wire.
pub const CAPTURED: u16 = 0x8005;

/// The header of captured copies.
///
/// Little-endian: the base header (8 octets), capture u32, 0 u32, seen u64, matched u64, lost u64. The value is the copies,
/// see [`CapturedRecord`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapturedHeader {
    /// Number of the capture.
    pub id: u32,
    /// Nothing more follows: the node has ended the capture.
    pub is_last: bool,
    /// The node cannot capture there: no such interface, too many captures, or no filter.
    pub is_refused: bool,
    /// Frames or messages that have passed the tap since the capture began.
    pub seen: u64,
    /// Those of them that the filter keeps.
    pub matched: u64,
    /// Those of these that there was no room for.
    pub lost: u64,
}

/// What a message costs at least.
const MESSAGE_COST_LEAST: u32 = 4096;
/// Flag of a [`CapturedHeader`].
const LAST: u8 = 1;
/// Flag of a [`CapturedHeader`].
const REFUSED: u8 = 2;

impl CapturedHeader {
    /// Reads the header of a message of `message_len` octets that starts with `head`.
    ///
    /// # Errors
    /// When the message holds no captured copies.
    //= spec/capture.md#copies
    //# A control node MUST refuse captured copies whose header is not of 40 octets, whose flags or reserved field are not
    //# known, or whose copies do not fill the value.
    pub fn parse(head: &[u8], message_len: usize) -> Result<Self, TlvError> {
        let header = TlvHeader::parse(head, message_len)?;
        if header.kind != CAPTURED {
            return Err(TlvError::UnknownKind { kind: header.kind });
        }
        let Some(o) = head.first_chunk::<CAPTURED_HEADER_LEN>() else {
            return Err(TlvError::Truncated { needed: CAPTURED_HEADER_LEN, len: head.len() });
        };
        if header.header_len != CAPTURED_HEADER_LEN {
            return Err(TlvError::BadField { field: "header length" });
        }
        if header.flags & !(LAST | REFUSED) != 0 || o[12..16] != [0; 4] {
            return Err(TlvError::BadField { field: "reserved" });
        }
        Ok(Self {
            id: u32_at(o, 8),
            is_last: header.flags & LAST != 0,
            is_refused: header.flags & REFUSED != 0,
            seen: u64_at(o, 16),
            matched: u64_at(o, 24),
            lost: u64_at(o, 32),
        })
    }

    /// What a message with `records_len` octets of copies takes from the credit of its capture: short messages cost as
    /// much work as longer ones.
    //= spec/capture.md#credit
    //# A node MUST NOT have more octets of copies under way than it has credit for, each message counted as 4,096 octets at
    //# least.
    #[must_use]
    pub fn cost(records_len: usize) -> u32 {
        u32::try_from(records_len + CAPTURED_HEADER_LEN).unwrap_or(u32::MAX).max(MESSAGE_COST_LEAST)
    }

    /// Writes the header in front of `records_len` octets of copies.
    #[must_use]
    pub fn emit(&self, records_len: usize) -> [u8; CAPTURED_HEADER_LEN] {
        let mut o = [0; CAPTURED_HEADER_LEN];
        let flags = (u8::from(self.is_last) * LAST) | (u8::from(self.is_refused) * REFUSED);
        TlvHeader { kind: CAPTURED, flags, header_len: CAPTURED_HEADER_LEN, value_len: records_len }
            .emit(&mut o);
        o[8..12].copy_from_slice(&self.id.to_le_bytes());
        o[16..24].copy_from_slice(&self.seen.to_le_bytes());
        o[24..32].copy_from_slice(&self.matched.to_le_bytes());
        o[32..40].copy_from_slice(&self.lost.to_le_bytes());
        o
    }
}

/// One copy.
///
/// Little-endian: octets here u32, octets of the whole u32, time u64, direction u8 (1 in, 2 out), channel u8, 0 u16, 0 u32,
/// then the octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapturedRecord<'a> {
    /// Octets that the frame or message had.
    pub original_len: u32,
    /// When it passed: nanoseconds since 1970-01-01 by the node's clock.
    pub unix_ns: u64,
    /// It went out: by the interface from its stack, or to the other end of the RVI.
    pub is_out: bool,
    /// The channel of a message.
    pub channel: u8,
    /// As many of its octets as were wanted.
    pub octets: &'a [u8],
}

impl<'a> CapturedRecord<'a> {
    /// Appends what stands in front of the octets of a copy of `len` octets.
    pub fn emit_head(&self, len: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&(len as u32).to_le_bytes());
        out.extend_from_slice(&self.original_len.to_le_bytes());
        out.extend_from_slice(&self.unix_ns.to_le_bytes());
        out.extend_from_slice(&[if self.is_out { 2 } else { 1 }, self.channel, 0, 0, 0, 0, 0, 0]);
    }

    /// Takes a copy from the front of `octets`.
    ///
    /// # Errors
    /// When there is none.
    pub fn take(octets: &mut &'a [u8]) -> Result<Self, TlvError> {
        let all = *octets;
        let truncated = |needed| TlvError::Truncated { needed, len: all.len() };
        let Some((o, rest)) = all.split_first_chunk::<CAPTURED_RECORD_LEN>() else {
            return Err(truncated(CAPTURED_RECORD_LEN));
        };
        let len = u32_at(o, 0) as usize;
        let (copy, rest) = rest.split_at_checked(len).ok_or(truncated(len))?;
        let is_out = match o[16] {
            1 => false,
            2 => true,
            _ => return Err(TlvError::BadField { field: "direction" }),
        };
        *octets = rest;
        let (original_len, unix_ns) = (u32_at(o, 4), u64_at(o, 8));
        Ok(Self { original_len, unix_ns, is_out, channel: o[17], octets: copy })
    }
}

fn u32_at(o: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([o[at], o[at + 1], o[at + 2], o[at + 3]])
}

fn u64_at(o: &[u8], at: usize) -> u64 {
    u64::from(u32_at(o, at)) | u64::from(u32_at(o, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_read_back_and_must_fill_the_value() {
        //= spec/capture.md#copies
        //= type=test
        //# A control node MUST refuse captured copies whose header is not of 40 octets, whose flags or reserved field are not
        //# known, or whose copies do not fill the value.
        let octets = [7; 5];
        let record = CapturedRecord {
            original_len: 900,
            unix_ns: 1_800_000_000_000_000_001,
            is_out: true,
            channel: 9,
            octets: &octets,
        };
        let header = CapturedHeader { id: 4, is_last: true, is_refused: false, seen: 9, matched: 3, lost: 1 };
        let mut records = Vec::new();
        for _ in 0..2 {
            record.emit_head(octets.len(), &mut records);
            records.extend(octets);
        }
        let message = [&header.emit(records.len())[..], &records].concat();
        assert_eq!(CapturedHeader::parse(&message, message.len()), Ok(header));
        let mut rest = &message[CAPTURED_HEADER_LEN..];
        for _ in 0..2 {
            assert_eq!(CapturedRecord::take(&mut rest), Ok(record));
        }
        assert!(rest.is_empty() && CapturedRecord::take(&mut rest).is_err());
        for cut in [1, 5, 6, 28] {
            assert!(CapturedRecord::take(&mut &records[..records.len() / 2 - cut]).is_err(), "{cut}");
        }
        for (at, value) in [(0, 4), (2, 4), (3, 6), (12, 1), (15, 1), (4, 1)] {
            let mut changed = message.clone();
            changed[at] = value;
            assert!(CapturedHeader::parse(&changed, message.len()).is_err(), "octet {at}");
        }
        records[16] = 3;
        assert_eq!(CapturedRecord::take(&mut &*records), Err(TlvError::BadField { field: "direction" }));
    }
}
