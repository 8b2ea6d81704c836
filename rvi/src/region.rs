//! A block of memory that two processes, or two parts of one program, share, and octets in it.

#![allow(unsafe_code, reason = "memory that is shared with another process")]

use alloc::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use alloc::sync::Arc;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering, fence};

use crate::ring::{RingMemory, SLOT_LEN};

/// Alignment of every region: that of a page, so of every control word and slot in it.
pub const REGION_ALIGN: usize = 4096;

/// What gives the memory back when the last clone of a region goes.
pub type ReleaseMemory = fn(NonNull<u8>, usize);

/// A reference-counted block of shared memory: on the heap (simulator, tests, benches, firmware) or a mapping.
///
/// Octets of it are only ever copied in and out; nobody makes a Rust reference to them, because the other end
/// may write at any time (`spec/ring.md`, Safety).
#[derive(Clone)]
pub struct Region {
    start: NonNull<u8>,
    len: usize,
    owner: Arc<Owner>,
}

struct Owner {
    start: NonNull<u8>,
    len: usize,
    release: ReleaseMemory,
}

impl Drop for Owner {
    fn drop(&mut self) {
        (self.release)(self.start, self.len);
    }
}

// SAFETY: the memory lives until the last clone goes, is reached through raw pointers and atomics only, and
// holds no Rust values, so it does not matter which thread reads or writes it.
unsafe impl Send for Region {}
// SAFETY: as above; `&Region` allows the same copies as `Region`.
unsafe impl Sync for Region {}
// SAFETY: the owner only gives the memory back, which any thread may do.
unsafe impl Send for Owner {}
// SAFETY: nothing can be done with `&Owner`.
unsafe impl Sync for Owner {}

impl Region {
    /// Allocates `len` zero octets on the heap, aligned to [`REGION_ALIGN`].
    ///
    /// # Panics
    /// When `len` is zero or more than the address space holds.
    #[must_use]
    pub fn heap(len: usize) -> Self {
        let layout = heap_layout(len);
        // SAFETY: `heap_layout` refuses a length of zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self::owned(start, len, release_heap)
    }

    /// Makes a region of memory that something else provides, such as a mapping; `release` gets it back once.
    ///
    /// # Safety
    /// `start` must be aligned to [`REGION_ALIGN`]; `len` octets from it must stay readable until `release` is
    /// called, and writable too if the region is used as the own one of a leg. Nothing else in this process
    /// may make references to them.
    ///
    /// # Panics
    /// When `start` is not aligned.
    #[must_use]
    pub unsafe fn from_raw(start: NonNull<u8>, len: usize, release: ReleaseMemory) -> Self {
        assert!(start.as_ptr().addr().is_multiple_of(REGION_ALIGN), "a region starts on a page");
        Self::owned(start, len, release)
    }

    fn owned(start: NonNull<u8>, len: usize, release: ReleaseMemory) -> Self {
        Self { start, len, owner: Arc::new(Owner { start, len, release }) }
    }

    /// Octets in the region.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for a region without octets.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the region starts in this process, for the system calls of a host.
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    /// True when both are clones of one region.
    #[inline]
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.owner, &other.owner)
    }

    /// How many clones of this region there are, this one included.
    #[must_use]
    pub fn clones(&self) -> usize {
        Arc::strong_count(&self.owner)
    }

    /// Copies `octets` to `offset`, as a peer could at any time: for tests, and for hosts that corrupt on purpose.
    ///
    /// # Panics
    /// When that is not wholly inside the region.
    pub fn write(&self, offset: usize, octets: &[u8]) {
        assert!(offset <= self.len && octets.len() <= self.len - offset, "a write outside the region");
        // SAFETY: checked above to lie in the region; `octets` is readable for its length.
        unsafe { self.copy_in(offset, octets.as_ptr(), octets.len()) }
    }

    /// Copies octets from `offset` to `out`.
    ///
    /// # Panics
    /// When that is not wholly inside the region.
    pub fn read(&self, offset: usize, out: &mut [u8]) {
        assert!(offset <= self.len && out.len() <= self.len - offset, "a read outside the region");
        self.copy_out(offset, out);
    }

    /// The octets `[offset, offset + len)`, which somebody may still write.
    ///
    /// The region must outlive their use: see [`crate::Scratch`], which keeps it.
    pub(crate) fn octets(&self, offset: usize, len: usize) -> SharedOctets<'_> {
        debug_assert!(offset <= self.len && len <= self.len - offset, "octets outside the region");
        let start = self.at(offset);
        // SAFETY: inside the region, which the result borrows.
        unsafe { SharedOctets::from_raw(start, len) }
    }

    #[inline]
    fn at(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset <= self.len, "offset {offset} of {}", self.len);
        // SAFETY: offsets come from layouts checked against the region's length, or from slots whose copy was
        // checked against the layout; both lie in the one allocation.
        unsafe { self.start.as_ptr().add(offset) }
    }

    #[inline]
    fn word(&self, offset: usize) -> &AtomicU32 {
        debug_assert!(offset.is_multiple_of(4) && offset + 4 <= self.len, "word {offset} of {}", self.len);
        let word = self.at(offset).cast();
        // SAFETY: inside the region and aligned (the start is, and `offset` is a multiple of 4); every access
        // to a word at these offsets by this process is atomic.
        unsafe { AtomicU32::from_ptr(word) }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region").field("len", &self.len).finish_non_exhaustive()
    }
}

impl RingMemory for Region {
    #[inline]
    fn load_relaxed(&self, offset: usize) -> u32 {
        // ORDERING: a hint, or ordered by the sequentially consistent fence in front of it (spec/ring.md#wake-up).
        self.word(offset).load(Ordering::Relaxed)
    }

    #[inline]
    fn load_acquire(&self, offset: usize) -> u32 {
        // ORDERING: pairs with `store_release` of the same word by its one writer.
        self.word(offset).load(Ordering::Acquire)
    }

    #[inline]
    fn store_relaxed(&self, offset: usize, value: u32) {
        // ORDERING: nothing is published by it, or a fence follows.
        self.word(offset).store(value, Ordering::Relaxed);
    }

    #[inline]
    fn store_release(&self, offset: usize, value: u32) {
        // ORDERING: pairs with `load_acquire` of the same word by the peer.
        self.word(offset).store(value, Ordering::Release);
    }

    #[inline]
    fn fence(&self) {
        // ORDERING: the one fence of the sleep and wake handshake (spec/ring.md#wake-up).
        fence(Ordering::SeqCst);
    }

    #[inline]
    fn fence_acquire(&self) {
        // ORDERING: pairs with the fence of an arena's writer (spec/arena.md#lives).
        fence(Ordering::Acquire);
    }

    #[inline]
    unsafe fn copy_in(&self, offset: usize, from: *const u8, len: usize) {
        debug_assert!(offset <= self.len && len <= self.len - offset, "a write outside the region");
        let to = self.at(offset);
        // SAFETY: the caller upholds that `from` is readable and the target inside the region; the two do not
        // overlap: a message is never sent from the part of the own ring that is free.
        unsafe { core::ptr::copy_nonoverlapping(from, to, len) }
    }

    #[inline]
    fn copy_out(&self, offset: usize, out: &mut [u8]) {
        debug_assert!(offset <= self.len && out.len() <= self.len - offset, "a read outside the region");
        let from = self.at(offset);
        // SAFETY: inside the region (callers check slots before they use offsets from them); `out` is private.
        unsafe { core::ptr::copy_nonoverlapping(from, out.as_mut_ptr(), out.len()) }
    }

    #[inline]
    #[cfg(target_arch = "x86_64")]
    fn prefetch_write(&self, offset: usize) {
        let line = self.at(offset);
        // Not `_mm_prefetch` with its hint for writing: where the processor is not known to have `prefetchw` that compiles to a
        // prefetch for reading, and the line is fetched a second time when it is written. Processors that know no `prefetchw`
        // take it for nothing.
        // SAFETY: a hint about an address inside the region; it reads and writes nothing.
        unsafe {
            core::arch::asm!("prefetchw [{}]", in(reg) line, options(nostack, preserves_flags, readonly))
        }
    }

    #[inline]
    #[cfg(target_arch = "x86_64")]
    fn prefetch_read(&self, offset: usize) {
        let line = self.at(offset);
        // SAFETY: a hint about an address inside the region; it changes nothing.
        unsafe { core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(line.cast()) }
    }

    #[inline]
    fn copy_slot(&self, offset: usize, out: &mut [u8; SLOT_LEN]) {
        debug_assert!(offset + SLOT_LEN <= self.len, "a slot outside the region");
        let from = self.at(offset);
        // SAFETY: slots lie inside the region by the layout; `out` is private.
        unsafe { core::ptr::copy_nonoverlapping(from, out.as_mut_ptr(), SLOT_LEN) }
    }
}

/// Octets in memory that a peer may still write: they can be copied, never referred to.
//= spec/ring.md#shared-octets
//# Nothing MUST hold a Rust reference to octets that a peer may still write.
#[derive(Clone, Copy)]
pub struct SharedOctets<'a> {
    start: *const u8,
    len: usize,
    _memory: PhantomData<&'a Region>,
}

impl<'a> SharedOctets<'a> {
    /// Octets that nobody else can write, where octets of a peer could stand as well.
    #[must_use]
    pub const fn private(octets: &'a [u8]) -> Self {
        Self { start: octets.as_ptr(), len: octets.len(), _memory: PhantomData }
    }

    /// No octets.
    #[must_use]
    pub const fn empty() -> Self {
        Self { start: core::ptr::null(), len: 0, _memory: PhantomData }
    }

    /// Octets at `start`.
    ///
    /// # Safety
    /// `len` octets from `start` must stay readable for the lifetime of the result.
    #[must_use]
    pub const unsafe fn from_raw(start: *const u8, len: usize) -> Self {
        Self { start, len, _memory: PhantomData }
    }

    /// How many octets there are.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True when there are none.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first `len` of them, or all there are.
    #[must_use]
    pub const fn first(self, len: usize) -> Self {
        Self { len: if len < self.len { len } else { self.len }, ..self }
    }

    /// Copies them to the start of `out`.
    ///
    /// # Panics
    /// When `out` is shorter.
    #[inline]
    pub fn copy_to(&self, out: &mut [u8]) {
        assert!(out.len() >= self.len, "{} octets do not fit in {}", self.len, out.len());
        if self.len > 0 {
            // SAFETY: readable by `from_raw`'s contract; `out` is private and long enough.
            unsafe { core::ptr::copy_nonoverlapping(self.start, out.as_mut_ptr(), self.len) }
        }
    }

    /// Where they are, for a system call that copies them (`writev`); null when there are none.
    #[inline]
    #[must_use]
    pub const fn as_ptr(&self) -> *const u8 {
        self.start
    }
}

impl fmt::Debug for SharedOctets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedOctets({})", self.len)
    }
}

fn heap_layout(len: usize) -> Layout {
    assert!(len > 0, "a region has at least one octet");
    Layout::from_size_align(len, REGION_ALIGN).expect("a region fits in the address space")
}

fn release_heap(start: NonNull<u8>, len: usize) {
    // SAFETY: allocated by `Region::heap` with this layout, and the last clone has gone.
    unsafe { dealloc(start.as_ptr(), heap_layout(len)) }
}
