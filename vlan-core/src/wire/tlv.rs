//! The base header of every TLV, and what to do with a type that nobody knows.

use core::fmt;

/// Octets of the base header.
pub const TLV_HEADER_LEN: usize = 8;

/// The base header: type u16, flags u8, header length u8 in units of 8 octets, value length u32, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlvHeader {
    /// What the message is; its top two bits say what to do when the type is unknown.
    pub kind: u16,
    /// Flags of the type.
    pub flags: u8,
    /// Octets of the whole header, this one included; a multiple of 8.
    pub header_len: usize,
    /// Octets behind the header.
    pub value_len: usize,
}

/// What a receiver does with a type it does not know: the top two bits of the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownAction {
    /// 00: skip the message silently.
    Ignore,
    /// 01: skip it and tell the sender.
    IgnoreAndNotify,
    /// 10: drop the message, counted.
    Drop,
    /// 11: drop it, counted, and tell the sender.
    DropAndNotify,
}

/// Why octets are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlvError {
    /// Fewer octets than the header needs.
    Truncated {
        /// Octets needed.
        needed: usize,
        /// Octets there.
        len: usize,
    },
    /// A header length below the least for this type.
    HeaderTooShort {
        /// The header length in the message.
        header_len: usize,
    },
    /// The value length does not match the message.
    LengthMismatch {
        /// Octets that header and value need together.
        needed: usize,
        /// Octets of the message.
        len: usize,
    },
    /// A type that this reader does not know.
    UnknownKind {
        /// The type in the message.
        kind: u16,
    },
    /// A field holds a value that its type does not allow.
    BadField {
        /// The field's name in `spec/tlv.md`.
        field: &'static str,
    },
}

impl fmt::Display for TlvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed, len } => write!(f, "{len} octets where {needed} are needed"),
            Self::HeaderTooShort { header_len } => write!(f, "a header of {header_len} octets is too short"),
            Self::LengthMismatch { needed, len } => write!(f, "lengths say {needed} octets, there are {len}"),
            Self::UnknownKind { kind } => write!(f, "unknown message type {kind:#06x}"),
            Self::BadField { field } => write!(f, "a bad value in the field {field}"),
        }
    }
}

impl core::error::Error for TlvError {}

impl TlvHeader {
    /// Reads the base header of a message of `message_len` octets that starts with `head`.
    ///
    /// # Errors
    /// When the head is too short or the lengths do not add up to the message.
    //= spec/tlv.md#base-header
    //# A receiver MUST refuse a message whose header and value lengths do not add up to the message's length.
    #[inline]
    pub fn parse(head: &[u8], message_len: usize) -> Result<Self, TlvError> {
        let Some(o) = head.first_chunk::<TLV_HEADER_LEN>() else {
            return Err(TlvError::Truncated { needed: TLV_HEADER_LEN, len: head.len() });
        };
        let header = Self {
            kind: u16::from_le_bytes([o[0], o[1]]),
            flags: o[2],
            header_len: usize::from(o[3]) * 8,
            value_len: u32::from_le_bytes([o[4], o[5], o[6], o[7]]) as usize,
        };
        if header.header_len < TLV_HEADER_LEN {
            return Err(TlvError::HeaderTooShort { header_len: header.header_len });
        }
        let needed = header.header_len.saturating_add(header.value_len);
        if needed != message_len {
            return Err(TlvError::LengthMismatch { needed, len: message_len });
        }
        Ok(header)
    }

    /// Writes the base header into the first eight octets of `out`.
    ///
    /// # Panics
    /// When `out` is shorter, or a length does not fit its field: our own bug.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) {
        debug_assert!(
            self.header_len.is_multiple_of(8) && self.header_len <= 2040,
            "header length {}",
            self.header_len
        );
        out[0..2].copy_from_slice(&self.kind.to_le_bytes());
        out[2] = self.flags;
        out[3] = (self.header_len / 8) as u8;
        out[4..8].copy_from_slice(&(self.value_len as u32).to_le_bytes());
    }

    /// What to do with this message when its type is unknown.
    //= spec/tlv.md#unknown-types
    //# A receiver MUST treat a message of an unknown type as the top two bits of the type say: 00 ignore, 01
    //# ignore and notify, 10 drop and count, 11 drop, count and notify.
    #[must_use]
    pub const fn unknown_action(&self) -> UnknownAction {
        match self.kind >> 14 {
            0 => UnknownAction::Ignore,
            1 => UnknownAction::IgnoreAndNotify,
            2 => UnknownAction::Drop,
            _ => UnknownAction::DropAndNotify,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_header_round_trips_and_lengths_must_add_up() {
        //= spec/tlv.md#base-header
        //= type=test
        //# A receiver MUST refuse a message whose header and value lengths do not add up to the message's length.
        let header = TlvHeader { kind: 0x8001, flags: 3, header_len: 32, value_len: 60 };
        let mut o = [0; 8];
        header.emit(&mut o);
        assert_eq!(TlvHeader::parse(&o, 92), Ok(header));
        for len in [91, 93] {
            assert_eq!(TlvHeader::parse(&o, len), Err(TlvError::LengthMismatch { needed: 92, len }));
        }
        assert_eq!(TlvHeader::parse(&o[..7], 92), Err(TlvError::Truncated { needed: 8, len: 7 }));
        o[3] = 0;
        assert_eq!(TlvHeader::parse(&o, 60), Err(TlvError::HeaderTooShort { header_len: 0 }));
    }

    #[test]
    fn the_top_bits_of_an_unknown_type_say_what_to_do() {
        //= spec/tlv.md#unknown-types
        //= type=test
        //# A receiver MUST treat a message of an unknown type as the top two bits of the type say: 00 ignore, 01
        //# ignore and notify, 10 drop and count, 11 drop, count and notify.
        let action = |kind| TlvHeader { kind, flags: 0, header_len: 8, value_len: 0 }.unknown_action();
        assert_eq!(action(0x3fff), UnknownAction::Ignore);
        assert_eq!(action(0x4000), UnknownAction::IgnoreAndNotify);
        assert_eq!(action(0xbfff), UnknownAction::Drop);
        assert_eq!(action(0xffff), UnknownAction::DropAndNotify);
    }
}
