//! A reference to a group frame in a LAN's broadcast arena: what a member gets in place of the frame.

use crate::address::{LanId, VifNumber};
use crate::wire::tlv::{TlvError, TlvHeader};

/// Type of a reference; an unknown one is dropped and counted.
pub const REFERENCE: u16 = 0x8007;
/// Octets of a reference: it fits into one slot of a ring.
pub const REFERENCE_LEN: usize = 32;

/// Where in an arena a message lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Which life of a segment: segments are counted as they are begun, and used in turn.
    pub segment: u32,
    /// Octets from the segment's start.
    pub offset: u32,
    /// Octets of the message: a frame behind its header.
    pub len: u32,
}

/// Says where a member finds a group frame that is for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The LAN that the arena is of.
    pub lan: LanId,
    /// The receiver's interface: in the arena, the frame's header names none.
    pub destination_vif: VifNumber,
    /// Number of the arena.
    pub arena: u32,
    /// Where in it the message lies.
    pub place: Place,
    /// Which of the member's stays in the arena it belongs to. A stay ends when the member has fallen behind too far.
    pub stay: u16,
}

impl Reference {
    /// The whole message. Little-endian: the base header (8 octets), LAN u16, destination interface u16, arena u32, segment
    /// u32, offset u32, length u32, stay u16, two octets zero.
    //= spec/arena.md#references
    //# A reference MUST name the LAN, the destination interface, the arena, the life of its segment, the offset and the length
    //# of the message there, and the member's stay.
    #[inline]
    #[must_use]
    pub fn emit(&self) -> [u8; REFERENCE_LEN] {
        let Place { segment, offset, len } = self.place;
        let base = u64::from(REFERENCE) | (REFERENCE_LEN as u64 / 8) << 24;
        let whose =
            u64::from(self.lan.0) | u64::from(self.destination_vif.0) << 16 | u64::from(self.arena) << 32;
        let place = u64::from(segment) | u64::from(offset) << 32;
        // In registers until it is in a ring: octets that were written one by one cannot be read back together at once.
        let low = u128::from(base) | u128::from(whose) << 64;
        let high = u128::from(place) | u128::from(u64::from(len) | u64::from(self.stay) << 32) << 64;
        let mut o = [0; REFERENCE_LEN];
        let (halves, _) = o.as_chunks_mut::<16>();
        for (half, value) in halves.iter_mut().zip([low, high]) {
            *half = value.to_le_bytes();
        }
        o
    }

    /// Reads a message of `message_len` octets of which `head` holds the first; the two reserved octets are ignored.
    ///
    /// # Errors
    /// When it is no reference, or not one of this length.
    pub fn parse(head: &[u8], message_len: usize) -> Result<Self, TlvError> {
        let tlv = TlvHeader::parse(head, message_len)?;
        if tlv.kind != REFERENCE {
            return Err(TlvError::UnknownKind { kind: tlv.kind });
        }
        let truncated = TlvError::Truncated { needed: REFERENCE_LEN, len: head.len() };
        let o = head.first_chunk::<REFERENCE_LEN>().ok_or(truncated)?;
        if tlv.header_len != REFERENCE_LEN || message_len != REFERENCE_LEN {
            return Err(TlvError::LengthMismatch { needed: REFERENCE_LEN, len: message_len });
        }
        let u16_at = |i: usize| u16::from_le_bytes([o[i], o[i + 1]]);
        let u32_at = |i: usize| u32::from_le_bytes([o[i], o[i + 1], o[i + 2], o[i + 3]]);
        Ok(Self {
            lan: LanId(u16_at(8)),
            destination_vif: VifNumber(u16_at(10)),
            arena: u32_at(12),
            place: Place { segment: u32_at(16), offset: u32_at(20), len: u32_at(24) },
            stay: u16_at(28),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_round_trips_and_no_other_message_is_one() {
        //= spec/arena.md#references
        //= type=test
        //# A reference MUST name the LAN, the destination interface, the arena, the life of its segment, the offset and the
        //# length of the message there, and the member's stay.
        let reference = Reference {
            lan: LanId(0x0102),
            destination_vif: VifNumber(0x0304),
            arena: 0x0506_0708,
            place: Place { segment: 0x090a_0b0c, offset: 0x0d0e_0f10, len: 0x1112_1314 },
            stay: 0x1516,
        };
        let octets = reference.emit();
        assert_eq!(octets[..8], [7, 0x80, 0, 4, 0, 0, 0, 0]);
        assert_eq!(Reference::parse(&octets, 32), Ok(reference));
        for len in 0..32 {
            assert!(
                Reference::parse(&octets[..len], len).is_err()
                    && Reference::parse(&octets[..len], 32).is_err()
            );
        }
        assert!(Reference::parse(&[&octets[..], &[0; 8]].concat(), 40).is_err());
        let mut other = octets;
        other[0] = 2;
        assert_eq!(Reference::parse(&other, 32), Err(TlvError::UnknownKind { kind: 0x8002 }));
        other = octets;
        (other[3], other[4]) = (3, 8);
        assert!(Reference::parse(&other, 32).is_err(), "a header of 24 octets and a value of 8");
    }
}
