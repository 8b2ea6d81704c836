//! What can be wrong with a packet.

use core::fmt;

/// Why a packet is not one of ours. Nothing of it is applied.
///
/// A packet whose tag is good and that fails nevertheless was made so by the peer: the session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PacketError {
    /// The packet, or its payload, ends before its fields do, or goes on behind them.
    Length {
        /// Octets there are.
        len: usize,
        /// Octets there must be, at least.
        wanted: usize,
    },
    /// Another version.
    Version(u8),
    /// Another header length, in words of 4 octets.
    HeaderLen(u8),
    /// No kind of packet.
    Kind(u8),
    /// No leg that packets can have.
    Leg(u8),
    /// Flags that version 1 does not have.
    Flags(u8),
    /// An ack section without blocks, or with more than there are legs.
    AckBlocks(u8),
    /// Two blocks of an ack section for the same leg.
    AckLegTwice(u8),
    /// An ack block with no ranges, or an ack block or a message ack with too many.
    AckRanges(u8),
    /// A range that is empty, reaches below number 0, or does not lie below the one before it.
    AckRange {
        /// How far its highest number lies below the lowest of the one before.
        gap: u16,
        /// Packets in it.
        len: u16,
    },
    /// A record with bits set that version 1 does not have, or of no known kind.
    RecordBits(u16),
    /// A record's previous message lies outside the window.
    Prev(u16),
    /// A message longer than any.
    MessageLen(u32),
    /// A fragment that does not lie on the grid, or not inside its message.
    Fragment {
        /// Where it starts in the message, in octets.
        offset: u32,
        /// Its octets.
        len: u16,
        /// Octets of the message.
        msg_len: u32,
    },
    /// A control record of a kind that version 1 does not have.
    Control(u8),
    /// Message ranges that are empty, out of order or outside the window.
    MessageRange {
        /// The first number.
        first: u32,
        /// How many numbers.
        len: u32,
    },
    /// A fragment says another length of its message than the fragments before it.
    MessageLenChanged {
        /// What the first fragment said.
        known: u32,
        /// What this one says.
        told: u32,
    },
    /// A message whose number lies beyond the window that the receiver granted.
    Window {
        /// The message.
        mseq: u32,
    },
    /// An ack of a packet, or of a message, that was never sent.
    NeverSent(u64),
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Length { len, wanted } => write!(f, "{len} octets where {wanted} are needed"),
            Self::Version(version) => write!(f, "version {version}"),
            Self::HeaderLen(words) => write!(f, "a header of {words} words"),
            Self::Kind(kind) => write!(f, "packet kind {kind}"),
            Self::Leg(leg) => write!(f, "leg {leg}"),
            Self::Flags(flags) => write!(f, "flags {flags:#04x}"),
            Self::AckBlocks(count) => write!(f, "{count} ack blocks"),
            Self::AckLegTwice(leg) => write!(f, "two ack blocks for leg {leg}"),
            Self::AckRanges(count) => write!(f, "{count} ranges in an ack"),
            Self::AckRange { gap, len } => write!(f, "an ack range of {len} packets, {gap} below"),
            Self::RecordBits(bits) => write!(f, "record bits {bits:#06x}"),
            Self::Prev(prev) => write!(f, "a previous message {prev} back"),
            Self::MessageLen(len) => write!(f, "a message of {len} octets"),
            Self::Fragment { offset, len, msg_len } => {
                write!(f, "a fragment of {len} octets at {offset} of {msg_len}")
            }
            Self::Control(kind) => write!(f, "control record {kind}"),
            Self::MessageRange { first, len } => write!(f, "a range of {len} messages from {first}"),
            Self::MessageLenChanged { known, told } => {
                write!(f, "a fragment of a message of {told} octets, which was {known}")
            }
            Self::Window { mseq } => write!(f, "message {mseq} lies beyond the window"),
            Self::NeverSent(number) => write!(f, "an ack of {number}, which was never sent"),
        }
    }
}

impl core::error::Error for PacketError {}
