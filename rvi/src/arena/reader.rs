//! The reading end of an arena: a member's.
//!
//! What happens to a frame here: it is copied to private memory, and is good only if it was not written over meanwhile.

use alloc::vec::Vec;

use vlan_core::limits::MESSAGE_LEN_MAX;
use vlan_core::wire::reference::Place;

use super::layout::{ArenaLayout, GRANULE};
use crate::ring::{HeaderError, RingMemory};

/// Why a message is not taken from an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArenaFault {
    /// It does not lie inside a segment, or where no message starts.
    Bounds(Place),
    /// It has been written over, or is being so.
    Lapped,
}

/// The reading end. Whatever its memory holds, it reads nothing outside of it.
#[derive(Debug)]
pub struct ArenaReader<M> {
    memory: M,
    layout: ArenaLayout,
    number: u32,
}

impl<M: RingMemory> ArenaReader<M> {
    /// The end of an arena in `memory`, which is `len` octets long and which somebody else writes.
    ///
    /// # Errors
    /// When there is no arena in it, or not one of this length.
    pub fn new(memory: M, len: usize) -> Result<Self, HeaderError> {
        let (layout, number) = ArenaLayout::read_header(&memory, len)?;
        Ok(Self { memory, layout, number })
    }

    /// The arena's number.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Copies a message to the start of `private`, which grows when it is too short, and gives it.
    ///
    /// # Errors
    /// When the place is none, or the message is not there any more. What `private` holds then is of no use.
    #[inline]
    pub fn read<'p>(&self, place: &Place, private: &'p mut Vec<u8>) -> Result<&'p mut [u8], ArenaFault> {
        let Place { segment, offset, len } = *place;
        //= spec/arena.md#bounds
        //# A member MUST refuse a reference to octets that do not lie wholly inside one segment.
        let limit = self.layout.segment_len();
        let is_inside =
            offset <= limit && len <= limit - offset && (1..=MESSAGE_LEN_MAX as u32).contains(&len);
        if !is_inside || !offset.is_multiple_of(GRANULE as u32) {
            return Err(ArenaFault::Bounds(*place));
        }
        let len = len as usize;
        if private.len() < len {
            private.resize(len, 0);
        }
        let private = &mut private[..len];
        //= spec/arena.md#reading
        //# A member MUST copy a message out, and MUST then find the segment's sequence still to name the life in its reference,
        //# before it looks at what it has copied.
        let sequence = self.layout.sequence(segment);
        if self.memory.load_acquire(sequence) != segment {
            return Err(ArenaFault::Lapped);
        }
        self.memory.copy_out(self.layout.segment(segment) + offset as usize, private);
        // ORDERING: pairs with the fence of `ArenaWriter::begin_segment`.
        self.memory.fence_acquire();
        if self.memory.load_relaxed(sequence) == segment { Ok(private) } else { Err(ArenaFault::Lapped) }
    }
}
