//! What a message to send is copied from: pieces of memory, or a frame behind its header.
//!
//! A ring copies straight from the pieces to where they belong, in steps of a length that the compiler knows: octets that were
//! gathered in private memory first would be read back before the processor has stored them.

#![allow(unsafe_code, reason = "copies into ring memory")]

use alloc::vec::Vec;

use vlan_core::wire::frame::FRAME_HEADER_LEN;

use crate::message::{Part, SharedOctets};
use crate::ring::RingMemory;
use crate::ring::slot::FIRST_LEN;

/// Up to this many octets are copied without a call.
const SHORT_COPY: usize = 63;

const _: () = assert!(FIRST_LEN >= FRAME_HEADER_LEN, "the first slot holds a whole header");

/// The octets of a message to send.
///
/// # Safety
/// The octets that `copy` reads must be as many as `len` says, and readable.
pub unsafe trait Gather: Copy {
    /// How many octets there are.
    fn len(&self) -> usize;

    /// True when there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies `len` octets from the one at `from` on to `offset` of a ring's memory.
    ///
    /// # Safety
    /// `from` is 0, with `len` no less than what fits into a message's first slot or all there is; or it lies behind that. The
    /// octets are there, and the target is free memory of the own ring.
    unsafe fn copy<M: RingMemory>(&self, from: usize, memory: &M, offset: usize, len: usize);

    /// Hands the octets on as pieces, for the ways that are not a ring's.
    fn with_parts<R>(&self, then: impl FnOnce(&[Part<'_>]) -> R) -> R;
}

/// A frame behind its header, which exists in registers alone until it is in the ring.
#[derive(Clone, Copy, Debug)]
pub struct Framed<B> {
    /// The header.
    pub header: [u8; FRAME_HEADER_LEN],
    /// The frame.
    pub frame: B,
}

// SAFETY: the length is that of the header and the frame, which are readable.
unsafe impl<B: Gather> Gather for Framed<B> {
    #[inline(always)]
    fn len(&self) -> usize {
        FRAME_HEADER_LEN + self.frame.len()
    }

    #[inline(always)]
    unsafe fn copy<M: RingMemory>(&self, from: usize, memory: &M, offset: usize, len: usize) {
        if from > 0 {
            // SAFETY: the caller's word; the header went before.
            return unsafe { self.frame.copy(from - FRAME_HEADER_LEN, memory, offset, len) };
        }
        // SAFETY: the target is free, by the caller's word.
        unsafe { memory.copy_in(offset, self.header.as_ptr(), FRAME_HEADER_LEN) }
        // SAFETY: as above.
        unsafe { self.frame.copy(0, memory, offset + FRAME_HEADER_LEN, len - FRAME_HEADER_LEN) }
    }

    #[inline]
    fn with_parts<R>(&self, then: impl FnOnce(&[Part<'_>]) -> R) -> R {
        self.frame.with_parts(|parts| match parts {
            [] => then(&[Part::Private(&self.header)]),
            [one] => then(&[Part::Private(&self.header), *one]),
            [one, two] => then(&[Part::Private(&self.header), *one, *two]),
            more => {
                let mut all = Vec::with_capacity(1 + more.len());
                all.push(Part::Private(&self.header));
                all.extend_from_slice(more);
                then(&all)
            }
        })
    }
}

// SAFETY: an array is readable for its length.
unsafe impl<const N: usize> Gather for [u8; N] {
    #[inline(always)]
    fn len(&self) -> usize {
        const { assert!(N <= FIRST_LEN, "it goes into a first slot, in one step") };
        N
    }

    #[inline(always)]
    unsafe fn copy<M: RingMemory>(&self, _from: usize, memory: &M, offset: usize, _len: usize) {
        // SAFETY: the caller's word; all of it goes at once.
        unsafe { memory.copy_in(offset, self.as_ptr(), N) }
    }

    #[inline]
    fn with_parts<R>(&self, then: impl FnOnce(&[Part<'_>]) -> R) -> R {
        then(&[Part::Private(self)])
    }
}

// SAFETY: a slice is readable for its length.
unsafe impl Gather for &[u8] {
    #[inline(always)]
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }

    #[inline(always)]
    unsafe fn copy<M: RingMemory>(&self, from: usize, memory: &M, offset: usize, len: usize) {
        // SAFETY: the caller's word.
        unsafe { copy_settled(memory, offset, self.as_ptr().wrapping_add(from), len) }
    }

    #[inline]
    fn with_parts<R>(&self, then: impl FnOnce(&[Part<'_>]) -> R) -> R {
        then(&[Part::Private(self)])
    }
}

/// What was received and is sent on: its private head, and the rest in a peer's memory.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    /// The start.
    pub head: &'a [u8],
    /// What follows the start.
    pub rest: SharedOctets<'a>,
}

// SAFETY: the length is that of both, which are readable.
unsafe impl Gather for Body<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.head.len() + self.rest.len()
    }

    #[inline(always)]
    unsafe fn copy<M: RingMemory>(&self, from: usize, memory: &M, offset: usize, len: usize) {
        let in_head = self.head.len().saturating_sub(from).min(len);
        // SAFETY: inside `head`; the target is free, by the caller's word.
        unsafe { copy(memory, offset, self.head.as_ptr().wrapping_add(from), in_head) }
        if in_head < len {
            let start = self.rest.as_ptr().wrapping_add(from + in_head - self.head.len());
            // SAFETY: inside `rest`, as there are `len` octets by the caller's word; the target is free.
            unsafe { copy(memory, offset + in_head, start, len - in_head) }
        }
    }

    #[inline]
    fn with_parts<R>(&self, then: impl FnOnce(&[Part<'_>]) -> R) -> R {
        then(&[Part::Private(self.head), Part::Shared(self.rest)])
    }
}

// SAFETY: the length is the sum of the parts', which are readable.
unsafe impl Gather for &[Part<'_>] {
    #[inline]
    fn len(&self) -> usize {
        self.iter().map(Part::len).sum()
    }

    #[inline]
    unsafe fn copy<M: RingMemory>(&self, from: usize, memory: &M, mut offset: usize, mut len: usize) {
        let mut before = from;
        for part in *self {
            if before >= part.len() {
                before -= part.len();
                continue;
            }
            let now = len.min(part.len() - before);
            // SAFETY: inside the part; the target is free, by the caller's word.
            unsafe { copy(memory, offset, part.as_ptr().wrapping_add(before), now) }
            (before, offset, len) = (0, offset + now, len - now);
            if len == 0 {
                return;
            }
        }
        debug_assert!(len == 0, "parts shorter than their length");
    }

    #[inline]
    fn with_parts<R>(&self, then: impl FnOnce(&[Part<'_>]) -> R) -> R {
        then(self)
    }
}

// SAFETY: as for the slice.
unsafe impl<const N: usize> Gather for &[Part<'_>; N] {
    #[inline]
    fn len(&self) -> usize {
        Gather::len(&self.as_slice())
    }

    #[inline]
    unsafe fn copy<M: RingMemory>(&self, from: usize, memory: &M, offset: usize, len: usize) {
        // SAFETY: the caller's word.
        unsafe { self.as_slice().copy(from, memory, offset, len) }
    }

    #[inline]
    fn with_parts<R>(&self, then: impl FnOnce(&[Part<'_>]) -> R) -> R {
        then(self.as_slice())
    }
}

/// Copies `len` octets from `from` to `offset`; few of them without a call, as two steps that may overlap: for octets that were
/// written long enough ago to be in the cache.
///
/// # Safety
/// As [`RingMemory::copy_in`].
#[inline(always)]
unsafe fn copy_settled<M: RingMemory>(memory: &M, offset: usize, from: *const u8, len: usize) {
    macro_rules! two_of {
        ($($count:literal)*) => {$(
            if ($count..2 * $count).contains(&len) {
                // SAFETY: the caller's word; the first octets, and the last.
                unsafe { memory.copy_in(offset, from, $count) }
                // SAFETY: as above.
                return unsafe { memory.copy_in(offset + len - $count, from.wrapping_add(len - $count), $count) };
            }
        )*};
    }
    two_of!(32 8 16 4);
    // SAFETY: the caller's word.
    unsafe { copy(memory, offset, from, len) }
}

/// Copies `len` octets from `from` to `offset`; few of them without a call, in steps that do not overlap: a step that reads what
/// was stored by two others waits for both.
///
/// # Safety
/// As [`RingMemory::copy_in`].
#[inline(always)]
unsafe fn copy<M: RingMemory>(memory: &M, offset: usize, from: *const u8, len: usize) {
    if len > SHORT_COPY {
        // SAFETY: the caller's word.
        return unsafe { memory.copy_in(offset, from, len) };
    }
    let mut at = 0;
    macro_rules! step {
        ($($count:literal)*) => {$(
            if len & $count != 0 {
                // SAFETY: the caller's word; the steps together are `len`.
                unsafe { memory.copy_in(offset + at, from.wrapping_add(at), $count) }
                at += $count;
            }
        )*};
    }
    step!(32 16 8 4 2 1);
    debug_assert_eq!(at, len);
}
