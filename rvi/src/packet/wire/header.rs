//! The packet header: 32 octets in the clear, all of them authenticated.

use core::fmt;

use vlan_core::limits::FABRICS_MAX;

use super::{Fields, PacketError};

/// Octets of a packet header.
pub const PACKET_HEADER_LEN: usize = 32;
/// Octets of the tag that ends a packet.
pub const TAG_LEN: usize = 16;

/// Version 1, eight words of header.
const VERSION_AND_LEN: u8 = 1 << 4 | (PACKET_HEADER_LEN / 4) as u8;
const ACK_NOW: u8 = 1;
const HAS_ACK: u8 = 2;

/// A leg of packets: 0 to 3 cross the fabric of that number, 14 and 15 go by a control node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketLeg(u8);

impl PacketLeg {
    /// How many packet legs an association can have: one for each fabric, one for each control node.
    pub const COUNT: usize = FABRICS_MAX + 2;
    /// The first leg that goes by a control node.
    const RELAY: u8 = 14;

    /// The leg of this number, if packets can have it.
    #[inline]
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number < FABRICS_MAX as u8 || number == Self::RELAY || number == Self::RELAY + 1 {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The leg at this place of a table of [`PacketLeg::COUNT`] legs; the inverse of [`PacketLeg::index`].
    #[inline]
    #[must_use]
    pub const fn at(index: usize) -> Option<Self> {
        if index < FABRICS_MAX {
            Some(Self(index as u8))
        } else if index < Self::COUNT {
            Some(Self(Self::RELAY + (index - FABRICS_MAX) as u8))
        } else {
            None
        }
    }

    /// The leg by the control node at this place of the platform file.
    #[must_use]
    pub const fn relay(control_node: usize) -> Option<Self> {
        if control_node < Self::COUNT - FABRICS_MAX { Self::at(FABRICS_MAX + control_node) } else { None }
    }

    /// The place of the control node that a relay leg goes by; none for other legs.
    #[must_use]
    pub const fn control_node(self) -> Option<usize> {
        self.index().checked_sub(FABRICS_MAX)
    }

    /// The number on the wire.
    #[inline]
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The leg's place in a table of [`PacketLeg::COUNT`] legs.
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        if self.0 < Self::RELAY { self.0 as usize } else { FABRICS_MAX + (self.0 - Self::RELAY) as usize }
    }

    /// True for a leg that goes by a control node.
    #[inline]
    #[must_use]
    pub const fn is_relay(self) -> bool {
        self.0 >= Self::RELAY
    }
}

impl fmt::Display for PacketLeg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PacketKind {
    /// Acks and records.
    Data = 1,
    /// The same, and an answer is wanted at once.
    Probe = 3,
    /// The first packet of a handshake.
    Connect = 4,
    /// The second.
    Accept = 5,
    /// The third.
    Confirm = 6,
    /// A hint that the session is not known.
    Reset = 7,
    /// The session ends.
    Close = 8,
    /// What a busy end wants to see before it answers CONNECT.
    Cookie = 9,
}

impl PacketKind {
    #[inline]
    const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Data,
            3 => Self::Probe,
            4 => Self::Connect,
            5 => Self::Accept,
            6 => Self::Confirm,
            7 => Self::Reset,
            8 => Self::Close,
            9 => Self::Cookie,
            _ => return None,
        })
    }
}

/// The flags of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketFlags {
    /// The receiver is to send its acks at once.
    pub ack_now: bool,
    /// An ack section comes first in the payload.
    pub has_ack: bool,
}

impl PacketFlags {
    #[inline]
    const fn octet(self) -> u8 {
        (self.ack_now as u8 * ACK_NOW) | (self.has_ack as u8 * HAS_ACK)
    }
}

/// The fields of a packet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketHeader {
    /// What the packet is.
    pub kind: PacketKind,
    /// The leg it goes by.
    pub leg: PacketLeg,
    /// Its flags.
    pub flags: PacketFlags,
    /// The association, by an index that its receiver chose: 24 bits of slot, 8 of salt. 0 in CONNECT.
    pub dst_cid: u32,
    /// The session's id; 0 in CONNECT.
    pub session: u64,
    /// The packet's number on this leg in this direction: from 0, never used again in the session.
    pub number: u64,
    /// The sender's clock in microseconds, low 32 bits.
    pub ts_us: u32,
    /// Octets between header and tag.
    pub payload_len: u16,
    /// The key of the fabric: tells when cables are swapped.
    pub fabric_key: u16,
}

impl PacketHeader {
    /// Reads the header that `octets` begin with.
    ///
    /// # Errors
    /// Says what no header has.
    #[inline]
    pub fn parse(octets: &[u8]) -> Result<Self, PacketError> {
        let short = PacketError::Length { len: octets.len(), wanted: PACKET_HEADER_LEN };
        let octets = octets.first_chunk::<PACKET_HEADER_LEN>().ok_or(short)?;
        Self::check(octets)?;
        let kind = PacketKind::from_code(octets[1]).ok_or(PacketError::Kind(octets[1]))?;
        let leg = PacketLeg::new(octets[2]).ok_or(PacketError::Leg(octets[2]))?;
        let flags = PacketFlags { ack_now: octets[3] & ACK_NOW != 0, has_ack: octets[3] & HAS_ACK != 0 };
        let mut fields = Fields(&octets[4..]);
        let mut read = || {
            let (dst_cid, session, low, ts_us) = (fields.u32()?, fields.u64()?, fields.u32()?, fields.u32()?);
            let (payload_len, fabric_key, high) = (fields.u16()?, fields.u16()?, fields.u32()?);
            let number = u64::from(high) << 32 | u64::from(low);
            Some(Self { kind, leg, flags, dst_cid, session, number, ts_us, payload_len, fabric_key })
        };
        read().ok_or(short)
    }

    /// Version, length and flags.
    //= spec/packet.md#packet-header
    //# A receiver MUST refuse a packet whose version is not 1, whose header is not of eight words, or that has a kind,
    //# a leg or a flag that version 1 does not name.
    #[inline]
    fn check(octets: &[u8; PACKET_HEADER_LEN]) -> Result<(), PacketError> {
        if octets[0] >> 4 != VERSION_AND_LEN >> 4 {
            return Err(PacketError::Version(octets[0] >> 4));
        }
        if octets[0] != VERSION_AND_LEN {
            return Err(PacketError::HeaderLen(octets[0] & 0xf));
        }
        if octets[3] & !(ACK_NOW | HAS_ACK) != 0 {
            return Err(PacketError::Flags(octets[3]));
        }
        Ok(())
    }

    /// Reads the header of a whole packet: header, payload, tag.
    ///
    /// # Errors
    /// As [`PacketHeader::parse`], and when header and length disagree.
    //= spec/packet.md#packet-length
    //# A receiver MUST refuse a packet whose length is not the sum of its header, its payload and its tag.
    #[inline]
    pub fn parse_packet(packet: &[u8]) -> Result<Self, PacketError> {
        let header = Self::parse(packet)?;
        let wanted = header.packet_len();
        if packet.len() == wanted {
            Ok(header)
        } else {
            Err(PacketError::Length { len: packet.len(), wanted })
        }
    }

    /// Octets of the whole packet: header, payload and tag.
    #[inline]
    #[must_use]
    pub const fn packet_len(&self) -> usize {
        PACKET_HEADER_LEN + self.payload_len as usize + TAG_LEN
    }

    /// Writes the header.
    #[inline]
    pub fn emit(&self, out: &mut [u8; PACKET_HEADER_LEN]) {
        out[0] = VERSION_AND_LEN;
        out[1] = self.kind as u8;
        out[2] = self.leg.number();
        out[3] = self.flags.octet();
        out[4..8].copy_from_slice(&self.dst_cid.to_le_bytes());
        out[8..16].copy_from_slice(&self.session.to_le_bytes());
        out[16..20].copy_from_slice(&(self.number as u32).to_le_bytes());
        out[20..24].copy_from_slice(&self.ts_us.to_le_bytes());
        out[24..26].copy_from_slice(&self.payload_len.to_le_bytes());
        out[26..28].copy_from_slice(&self.fabric_key.to_le_bytes());
        out[28..32].copy_from_slice(&((self.number >> 32) as u32).to_le_bytes());
    }

    /// True when the sender wants acks at once.
    #[inline]
    #[must_use]
    pub const fn wants_answer(&self) -> bool {
        self.flags.ack_now || matches!(self.kind, PacketKind::Probe)
    }
}
