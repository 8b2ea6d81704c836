//! A record: a piece of a message, or control of a channel.

use vlan_core::Channel;
use vlan_core::limits::{MESSAGE_LEN_MAX, MESSAGE_WINDOW};

use super::{Control, Fields, LANES, PacketError};

/// Octets of a record in front of its body.
pub const RECORD_HEADER_LEN: usize = 16;
/// Messages are cut at multiples of this many octets (amendment 17).
pub const FRAGMENT_GRID: usize = 64;

/// What a message costs in credit, and where it is held, besides its octets.
pub const MESSAGE_OVERHEAD: usize = 256;

const LANE_MASK: u16 = LANES as u16 - 1;
const KIND_SHIFT: u32 = 10;
const KIND_MASK: u16 = 3;
const RESENT: u16 = 1 << 12;
const AFTER_ALL: u16 = 1 << 13;
const RESERVED: u16 = 3 << 14;
/// Bits of an offset in a message, and of a message's length.
const LEN_BITS: u32 = 20;
const LEN_MASK: u32 = (1 << LEN_BITS) - 1;

const _: () = assert!(MESSAGE_LEN_MAX <= LEN_MASK as usize, "20 bits of length");

/// Octets that a record's body of `len` octets takes.
#[inline]
#[must_use]
pub const fn padded(len: usize) -> usize {
    len.next_multiple_of(8)
}

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// A message or a fragment of one.
    Data = 0,
    /// A [`Control`] of the channel.
    Control = 1,
}

/// The fields of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// The message's number in its channel; 0 in control.
    pub mseq: u32,
    /// The message's lane; below 1024.
    pub lane: u16,
    /// What the body is.
    pub kind: RecordKind,
    /// True for a copy of what another packet may have brought.
    pub is_resent: bool,
    /// True for a message that must not be delivered before every message with a lower number.
    pub is_after_all: bool,
    /// How many numbers back the previous message of the lane is that may be undelivered; 0 = none.
    pub prev: u16,
    /// Octets of the body.
    pub frag_len: u16,
    /// Where in the message they start.
    pub frag_off: u32,
    /// Octets of the whole message.
    pub msg_len: u32,
    /// The channel.
    pub channel: Channel,
}

impl RecordHeader {
    /// The header of a control record with a body of `len` octets.
    #[inline]
    #[must_use]
    pub const fn control(channel: Channel, len: u16) -> Self {
        Self {
            mseq: 0,
            lane: 0,
            kind: RecordKind::Control,
            is_resent: false,
            is_after_all: false,
            prev: 0,
            frag_len: len,
            frag_off: 0,
            msg_len: len as u32,
            channel,
        }
    }

    /// True when the body is the whole message.
    #[inline]
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.frag_len as u32 == self.msg_len
    }

    /// Octets of the record: header, body, padding.
    #[inline]
    #[must_use]
    pub const fn record_len(&self) -> usize {
        RECORD_HEADER_LEN + padded(self.frag_len as usize)
    }

    /// Writes the header.
    #[inline]
    pub fn emit(&self, out: &mut [u8; RECORD_HEADER_LEN]) {
        debug_assert!(self.lane & !LANE_MASK == 0 && self.frag_off <= LEN_MASK && self.msg_len <= LEN_MASK);
        let bits = self.lane & LANE_MASK
            | (self.kind as u16) << KIND_SHIFT
            | if self.is_resent { RESENT } else { 0 }
            | if self.is_after_all { AFTER_ALL } else { 0 };
        let packed = u64::from(self.frag_len)
            | u64::from(self.frag_off & LEN_MASK) << 16
            | u64::from(self.msg_len & LEN_MASK) << 36
            | u64::from(self.channel.0) << 56;
        out[0..4].copy_from_slice(&self.mseq.to_le_bytes());
        out[4..6].copy_from_slice(&bits.to_le_bytes());
        out[6..8].copy_from_slice(&self.prev.to_le_bytes());
        out[8..16].copy_from_slice(&packed.to_le_bytes());
    }

    /// Reads and checks a header.
    #[inline]
    fn parse(octets: &[u8; RECORD_HEADER_LEN]) -> Result<Self, PacketError> {
        let short = PacketError::Length { len: 0, wanted: RECORD_HEADER_LEN };
        let mut fields = Fields(octets);
        let mut read = || Some((fields.u32()?, fields.u16()?, fields.u16()?, fields.u64()?));
        let (mseq, bits, prev, packed) = read().ok_or(short)?;
        let kind = match bits >> KIND_SHIFT & KIND_MASK {
            0 => RecordKind::Data,
            1 => RecordKind::Control,
            _ => return Err(PacketError::RecordBits(bits)),
        };
        let header = Self {
            mseq,
            lane: bits & LANE_MASK,
            kind,
            is_resent: bits & RESENT != 0,
            is_after_all: bits & AFTER_ALL != 0,
            prev,
            frag_len: packed as u16,
            frag_off: (packed >> 16) as u32 & LEN_MASK,
            msg_len: (packed >> 36) as u32 & LEN_MASK,
            channel: Channel((packed >> 56) as u8),
        };
        if bits & RESERVED != 0 || (kind == RecordKind::Control && bits != 1 << KIND_SHIFT) {
            return Err(PacketError::RecordBits(bits));
        }
        header.check()?;
        Ok(header)
    }

    /// What every fragment has, whatever its message.
    #[inline]
    fn check(&self) -> Result<(), PacketError> {
        if self.msg_len as usize > MESSAGE_LEN_MAX {
            return Err(PacketError::MessageLen(self.msg_len));
        }
        if u32::from(self.prev) >= MESSAGE_WINDOW {
            return Err(PacketError::Prev(self.prev));
        }
        let good = match self.kind {
            RecordKind::Data => self.is_on_grid(),
            RecordKind::Control => self.frag_off == 0 && self.is_whole(),
        };
        let (offset, len, msg_len) = (self.frag_off, self.frag_len, self.msg_len);
        if good { Ok(()) } else { Err(PacketError::Fragment { offset, len, msg_len }) }
    }

    /// True for a fragment that starts on the grid, and ends on it or with its message.
    //= spec/packet.md#fragments
    //# A fragment MUST start at a multiple of 64 octets of its message and MUST end at one or with the message.
    #[inline]
    const fn is_on_grid(&self) -> bool {
        let end = self.frag_off + self.frag_len as u32;
        let grid = FRAGMENT_GRID as u32;
        self.frag_off.is_multiple_of(grid)
            && (end == self.msg_len || (end < self.msg_len && end.is_multiple_of(grid)))
            && (self.frag_len > 0 || self.msg_len == 0)
    }
}

/// A record of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its header.
    pub header: RecordHeader,
    /// Its body: `frag_len` octets.
    pub body: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads the record at the front of `fields`.
    #[inline]
    pub(super) fn parse(fields: &mut Fields<'a>) -> Result<Self, PacketError> {
        let len = fields.0.len();
        let head = fields.take().ok_or(PacketError::Length { len, wanted: RECORD_HEADER_LEN })?;
        let header = RecordHeader::parse(head)?;
        let wanted = header.record_len();
        //= spec/packet.md#records
        //# A receiver MUST refuse a packet with a record that does not lie wholly in the payload.
        let (body, rest) = (fields.0)
            .split_at_checked(wanted - RECORD_HEADER_LEN)
            .ok_or(PacketError::Length { len, wanted })?;
        fields.0 = rest;
        Ok(Self { header, body: &body[..usize::from(header.frag_len)] })
    }

    /// The control in the body, if it is one.
    #[must_use]
    pub fn control(&self) -> Option<Control<'a>> {
        match self.header.kind {
            RecordKind::Data => None,
            RecordKind::Control => Control::parse(self.body).ok(),
        }
    }
}
