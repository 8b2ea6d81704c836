//! Rings of 64-octet slots in shared memory: one writer, one reader, nobody trusts the other.
//!
//! The algorithm is generic over its memory ([`RingMemory`]), so that the model checker runs the code that
//! ships. The layout and the arguments for it stand in `spec/ring.md`.

pub mod bell;
pub mod consumer;
pub mod layout;
pub mod producer;
pub mod slot;

pub use bell::Bell;
pub use consumer::{Consumer, Polled, Received};
pub use layout::{HeaderError, Layout, RingLayout};
pub use producer::{Producer, PushError};
pub use slot::{SLOT_BODY, SLOT_LEN, SlotMeta};

/// Memory that a ring end works on: the own region (read and written) or the peer's (only read).
///
/// Words are reached atomically, everything else by copying. Two implementations exist: [`crate::Region`], and
/// the model that the loom tests bring.
pub trait RingMemory {
    /// Reads the word at `offset` with no order.
    fn load_relaxed(&self, offset: usize) -> u32;
    /// Reads the word at `offset`; what its writer wrote before the value is visible afterwards.
    fn load_acquire(&self, offset: usize) -> u32;
    /// Writes the word at `offset` with no order.
    fn store_relaxed(&self, offset: usize, value: u32);
    /// Writes the word at `offset` behind everything written before.
    fn store_release(&self, offset: usize, value: u32);
    /// A sequentially consistent fence.
    fn fence(&self);
    /// A fence behind what was read.
    fn fence_acquire(&self);
    /// Copies `len` octets from `from` to `offset`.
    ///
    /// # Safety
    /// `from` must be readable for `len` octets, and the target must lie in the memory.
    #[allow(unsafe_code, reason = "the caller answers for the pointer")]
    unsafe fn copy_in(&self, offset: usize, from: *const u8, len: usize);
    /// Copies octets from `offset` to `out`; the source must lie in the memory.
    fn copy_out(&self, offset: usize, out: &mut [u8]);
    /// Says that the line at `offset` will be written soon. A hint: nothing need happen.
    fn prefetch_write(&self, _offset: usize) {}
    /// Says that the line at `offset` will be read soon. A hint: nothing need happen.
    fn prefetch_read(&self, _offset: usize) {}
    /// Copies the slot at `offset`, whose first word may be copied as anything.
    fn copy_slot(&self, offset: usize, out: &mut [u8; SLOT_LEN]);
}

/// Why a ring was given up: the peer broke the rules of its memory.
//= spec/ring.md#impossible-values
//# An impossible value in a peer's memory MUST end that leg as a value of the machine, never the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingFault {
    /// A length or its number of slots that no message has.
    Length {
        /// The length word of the slot.
        word: u32,
    },
    /// Arena octets that lie outside the arena.
    ArenaBounds {
        /// Offset in the arena in octets.
        offset: u32,
        /// Length of the message.
        len: u32,
    },
    /// A kind that is not known.
    Kind(u8),
    /// The `prev` field is not zero, or the lane is out of range.
    Lane {
        /// The lane and `prev` fields.
        word: u32,
    },
    /// Another session's low 16 bits.
    Session(u16),
    /// The channel does not belong on this ring.
    Channel(u8),
    /// The peer's `head` or `settled` moved by more than there was.
    Distance {
        /// The value in the peer's memory.
        value: u32,
        /// The last value that was possible.
        last: u32,
        /// The newest value that is possible.
        newest: u32,
    },
}
