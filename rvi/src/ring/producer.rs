//! The writing end of a ring, in the own region.
//!
//! What happens to a frame here: it is copied, part by part, into the next free slots (and the arena when it is
//! long), and becomes visible to the peer with the rest of its batch at `publish`.

#![allow(unsafe_code, reason = "copies into ring memory")]

use alloc::boxed::Box;
use alloc::vec;

use crate::message::Part;
use crate::ring::layout::GRANULE;
use crate::ring::slot::{
    FIRST_LEN, INLINE_LEN_MAX, MORE_LEN, SLOT_BODY, SLOT_LEN, SlotFields, SlotMeta, granules_for, slots_for,
};
use crate::ring::{RingFault, RingLayout, RingMemory};

/// Why a message is not in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// No free slot, or not enough of the arena in one piece.
    Full,
    /// The peer's words are impossible.
    Fault(RingFault),
}

/// The writing end.
///
/// Positions run freely over 32 bits; `position & mask` is the slot. `settled <= head <= published <= tail`.
#[derive(Debug)]
pub struct Producer<M> {
    own: M,
    peer: M,
    ring: RingLayout,
    /// Behind the last message pushed.
    tail: u32,
    /// Behind the last message published.
    published: u32,
    /// The peer's `settled`, as last read and found possible.
    settled: u32,
    /// The peer's `head`, likewise.
    head: u32,
    /// Granules ever taken from the arena, skipped ones included.
    arena_tail: u32,
    /// Granules ever given back.
    arena_head: u32,
    /// What is known of the slots in use.
    notes: Notes,
    /// Slots ever pushed: `tail` that never wraps.
    pushed: u64,
}

/// Slots that there are notes for at first: more than a conversation has unsettled at a time.
const NOTES_MIN: u32 = 32;

/// Notes of our own on each slot between `settled` and `tail`, by position. There are as many as are needed at a time,
/// a power of two: few slots of a large ring are in use unless its peer is slow.
#[derive(Debug)]
struct Notes {
    mask: u32,
    slots: Box<[Note]>,
}

/// What is known of one slot.
#[derive(Clone, Copy, Debug, Default)]
struct Note {
    /// The low half of `arena_tail` behind its message.
    arena_end: u16,
    /// How many slots its message takes; 0 for a further slot.
    span: u16,
}

impl Notes {
    fn new(count: u32) -> Self {
        Self { mask: count - 1, slots: vec![Note::default(); count as usize].into_boxed_slice() }
    }

    #[inline]
    fn count(&self) -> u32 {
        self.mask + 1
    }

    #[inline]
    fn of(&self, position: u32) -> Note {
        self.slots[(position & self.mask) as usize]
    }

    #[inline]
    fn set(&mut self, position: u32, note: Note) {
        self.slots[(position & self.mask) as usize] = note;
    }

    /// Makes room for `count` notes, and keeps those of the positions from `settled` to `tail`.
    #[cold]
    fn grow(&mut self, count: u32, settled: u32, tail: u32) {
        let mut notes = Self::new(count.next_power_of_two());
        let mut position = settled;
        while position != tail {
            notes.set(position, self.of(position));
            position = position.wrapping_add(1);
        }
        *self = notes;
    }
}

impl<M: RingMemory> Producer<M> {
    /// Makes the end of a ring that nothing was written to yet.
    pub fn new(own: M, peer: M, ring: RingLayout) -> Self {
        let notes = Notes::new(ring.slot_count().min(NOTES_MIN));
        Self {
            own,
            peer,
            ring,
            tail: 0,
            published: 0,
            settled: 0,
            head: 0,
            arena_tail: 0,
            arena_head: 0,
            notes,
            pushed: 0,
        }
    }

    /// Copies a message of `len` octets, the sum of its parts, into the ring, not yet visible.
    ///
    /// # Errors
    /// `Full` when there is no room now; nothing has changed then.
    #[inline]
    pub fn push(&mut self, meta: SlotMeta, len: usize, parts: &[Part<'_>]) -> Result<(), PushError> {
        debug_assert_eq!(len, parts.iter().map(Part::len).sum::<usize>(), "the length is that of the parts");
        let slots = slots_for(len);
        let granules = granules_for(len);
        if !self.has_room(slots, granules) {
            self.refresh().map_err(PushError::Fault)?;
            if !self.has_room(slots, granules) {
                return Err(PushError::Full);
            }
        }
        let arena = if granules == 0 { 0 } else { self.take_granules(granules) };
        let fields = SlotFields { len: len as u32, slots, in_arena: granules != 0, arena, meta };
        if granules != 0 {
            self.put_in_arena(&fields, parts);
        } else if slots <= 2 {
            self.put_inline::<{ FIRST_LEN + MORE_LEN }>(&fields, parts);
        } else {
            self.put_inline::<INLINE_LEN_MAX>(&fields, parts);
        }
        self.note(slots);
        self.tail = self.tail.wrapping_add(slots);
        self.pushed += u64::from(slots);
        // The consumer has these lines; asking for them now hides the way there.
        self.own.prefetch_write(self.ring.slot(self.tail.wrapping_add(PREFETCH_SLOTS)));
        if slots > 1 {
            self.own.prefetch_write(self.ring.slot(self.tail.wrapping_add(PREFETCH_SLOTS + 1)));
        }
        Ok(())
    }

    /// Writes a message that fits into its slots: gathered once in private memory, then whole lines of a length
    /// that the compiler knows. It is no longer than `LEN`.
    #[inline]
    fn put_inline<const LEN: usize>(&self, fields: &SlotFields, parts: &[Part<'_>]) {
        let mut message = [0_u8; LEN];
        let mut at = 0;
        for part in parts {
            // SAFETY: the part is readable for its length, and the parts together are no longer than the
            // message, which is no longer than `LEN`.
            unsafe { copy_small(part.as_ptr(), &mut message[at..at + part.len()]) }
            at += part.len();
        }
        let mut line = [0_u8; MORE_LEN];
        line[..SLOT_BODY - 4].copy_from_slice(&fields.emit());
        line[SLOT_BODY - 4..].copy_from_slice(&message[..FIRST_LEN]);
        // SAFETY: a slot of the own ring that the peer has settled; 60 octets behind its first word.
        unsafe { self.own.copy_in(self.ring.slot(self.tail) + 4, line.as_ptr(), MORE_LEN) }
        let (chunks, _) = message[FIRST_LEN..].as_chunks::<MORE_LEN>();
        for (i, chunk) in (1..fields.slots).zip(chunks) {
            let position = self.tail.wrapping_add(i);
            let slot = self.ring.slot(position);
            //= spec/ring.md#lap-mark
            //# The first word of a further slot MUST be that slot's own position.
            self.own.store_relaxed(slot, position);
            // SAFETY: as above.
            unsafe { self.own.copy_in(slot + 4, chunk.as_ptr(), MORE_LEN) }
        }
    }

    /// Writes a message whose octets from the 40th on go to the arena.
    #[inline]
    fn put_in_arena(&self, fields: &SlotFields, parts: &[Part<'_>]) {
        let mut gather = Gather { parts, taken: 0 };
        let slot = self.ring.slot(self.tail);
        let head = fields.emit();
        // SAFETY: a slot of the own ring that the peer has settled; 20 octets behind its first word.
        unsafe { self.own.copy_in(slot + 4, head.as_ptr(), SLOT_BODY - 4) }
        gather.copy(&self.own, slot + SLOT_BODY, FIRST_LEN);
        let rest = fields.len as usize - FIRST_LEN;
        gather.copy(&self.own, self.ring.arena + fields.arena as usize * GRANULE, rest);
    }

    /// Makes everything pushed so far visible. True when there was something.
    //= spec/ring.md#publication
    //# The first word of a message's first slot MUST be stored with release order, as its position plus one, after
    //# every other octet of the message.
    #[inline]
    pub fn publish(&mut self) -> bool {
        if self.published == self.tail {
            return false;
        }
        let mut position = self.published;
        while position != self.tail {
            self.own.store_release(self.ring.slot(position), position.wrapping_add(1));
            position = position.wrapping_add(self.span(position));
        }
        self.published = self.tail;
        self.own.store_release(self.ring.tail, self.tail);
        true
    }

    /// Reads the peer's `head` and `settled` again.
    ///
    /// # Errors
    /// When they went back, beyond the published, or passed each other. The last possible values stay.
    //= spec/ring.md#distances
    //# A producer MUST refuse a `settled` or `head` that is not between the last one it accepted and what it has
    //# published.
    #[inline]
    pub fn refresh(&mut self) -> Result<(), RingFault> {
        let settled = self.peer.load_acquire(self.ring.head + 4);
        let head = self.peer.load_acquire(self.ring.head);
        self.settled_to(settled)?;
        if distance(self.settled, self.head) > distance(self.settled, self.published) {
            self.head = self.settled;
        }
        self.head = self.within(head, self.head, self.published)?;
        Ok(())
    }

    fn settled_to(&mut self, value: u32) -> Result<(), RingFault> {
        let value = self.within(value, self.settled, self.published)?;
        if value == self.settled {
            return Ok(());
        }
        if !self.is_boundary(value) {
            return Err(RingFault::Distance { value, last: self.settled, newest: self.published });
        }
        let end = self.notes.of(value.wrapping_sub(1)).arena_end;
        let freed = end.wrapping_sub(self.arena_head as u16);
        self.arena_head = self.arena_head.wrapping_add(freed.into());
        self.settled = value;
        Ok(())
    }

    fn within(&self, value: u32, last: u32, newest: u32) -> Result<u32, RingFault> {
        if distance(last, value) > distance(last, newest) {
            return Err(RingFault::Distance { value, last, newest });
        }
        Ok(value)
    }

    /// True for a position between two messages that are not settled, or at either end of them.
    fn is_boundary(&self, value: u32) -> bool {
        value == self.tail || self.notes.of(value).span != 0
    }

    /// True when the peer may have stopped taking at `value`, by the words read last.
    #[must_use]
    pub fn may_end_at(&self, value: u32) -> bool {
        self.within(value, self.settled, self.published).is_ok() && self.is_boundary(value)
    }

    /// Reads the peer's words and takes `value` as what it took in the end, if that is possible.
    ///
    /// # Errors
    /// As `refresh`.
    pub fn close_at(&mut self, value: u32) -> Result<(), RingFault> {
        self.refresh()?;
        let value = self.within(value, self.settled, self.published)?;
        self.settled_to(value)?;
        self.head = value;
        Ok(())
    }

    /// True when a message of this size fits by the words read last.
    //= spec/ring.md#reuse
    //# A producer MUST NOT write to a slot or to arena octets before the peer's `settled` has passed them.
    #[inline]
    fn has_room(&self, slots: u32, granules: u32) -> bool {
        if distance(self.settled, self.tail) + slots > self.ring.slot_count() {
            return false;
        }
        granules == 0
            || distance(self.arena_head, self.arena_tail) + self.skipped(granules) + granules
                <= self.ring.arena_granules
    }

    /// Granules left out so that the next `granules` do not wrap.
    #[inline]
    fn skipped(&self, granules: u32) -> u32 {
        let left = self.ring.arena_granules - (self.arena_tail & (self.ring.arena_granules - 1));
        if granules > left { left } else { 0 }
    }

    #[inline]
    fn take_granules(&mut self, granules: u32) -> u32 {
        let start = self.arena_tail.wrapping_add(self.skipped(granules));
        self.arena_tail = start.wrapping_add(granules);
        start & (self.ring.arena_granules - 1)
    }

    /// Remembers how many slots the message at `tail` takes, and where its arena octets end.
    #[inline]
    fn note(&mut self, slots: u32) {
        let arena_end = self.arena_tail as u16;
        let used = distance(self.settled, self.tail) + slots;
        if used > self.notes.count() {
            self.notes.grow(used, self.settled, self.tail);
        }
        self.notes.set(self.tail, Note { arena_end, span: slots as u16 });
        for i in 1..slots {
            self.notes.set(self.tail.wrapping_add(i), Note { arena_end, span: 0 });
        }
    }

    /// Gives memory back that only slots in use need, if none is.
    pub fn trim(&mut self) {
        let least = self.ring.slot_count().min(NOTES_MIN);
        if self.settled == self.tail && self.notes.count() > least {
            self.notes = Notes::new(least);
        }
    }

    /// Slots of the message whose first slot is at `position`; at least 1.
    #[inline]
    #[must_use]
    pub fn span(&self, position: u32) -> u32 {
        u32::from(self.notes.of(position).span).max(1)
    }

    /// Reads a message of the own ring back, for sending it by another way. `octets` gets its octets.
    ///
    /// `position` must be that of a first slot between `settled` and `tail`. Returns its fields.
    ///
    /// # Panics
    /// When our own slot does not read back as it was written.
    pub fn read_back(&self, position: u32, session: u16, octets: &mut alloc::vec::Vec<u8>) -> SlotFields {
        let mut slot = [0; SLOT_LEN];
        self.own.copy_slot(self.ring.slot(position), &mut slot);
        let fields = SlotFields::parse(&slot, &self.ring, session).expect("our own slot is valid");
        let len = fields.len as usize;
        octets.clear();
        octets.resize(len, 0);
        let first = len.min(FIRST_LEN);
        octets[..first].copy_from_slice(&slot[SLOT_BODY..SLOT_BODY + first]);
        if fields.in_arena {
            self.own.copy_out(self.ring.arena + fields.arena as usize * GRANULE, &mut octets[FIRST_LEN..]);
            return fields;
        }
        for (i, out) in octets[first..].chunks_mut(MORE_LEN).enumerate() {
            self.own.copy_out(self.ring.slot(position.wrapping_add(1 + i as u32)) + 4, out);
        }
        fields
    }

    /// Behind the last message pushed.
    #[inline]
    #[must_use]
    pub fn tail(&self) -> u32 {
        self.tail
    }

    /// Slots ever pushed: `tail` that never wraps.
    #[inline]
    #[must_use]
    pub fn pushed(&self) -> u64 {
        self.pushed
    }

    /// How much of `pushed` the peer had settled when its words were read last.
    #[must_use]
    pub fn pushed_settled(&self) -> u64 {
        self.pushed - u64::from(distance(self.settled, self.tail))
    }

    /// How much of `pushed` the peer had taken when its words were read last.
    #[must_use]
    pub fn pushed_taken(&self) -> u64 {
        self.pushed - u64::from(distance(self.head, self.tail))
    }

    /// Behind the last message published.
    #[must_use]
    pub fn published(&self) -> u32 {
        self.published
    }

    /// True when the peer has settled everything that was pushed.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.settled == self.tail || self.peer.load_acquire(self.ring.head + 4) == self.tail
    }

    /// The peer's `settled` as last read: everything before it is taken and done with.
    #[inline]
    #[must_use]
    pub fn settled(&self) -> u32 {
        self.settled
    }

    /// The peer's `head` as last read: everything before it was taken.
    #[inline]
    #[must_use]
    pub fn head(&self) -> u32 {
        self.head
    }

    /// True when the peer's words differ from those read last: there may be more room.
    #[must_use]
    pub fn has_moved(&self) -> bool {
        self.peer.load_acquire(self.ring.head + 4) != self.settled
            || self.peer.load_acquire(self.ring.head) != self.head
    }

    /// Octets in the longest message that this ring can ever take.
    #[must_use]
    pub fn len_max(&self) -> usize {
        let half = self.ring.arena_granules as usize / 2 * GRANULE;
        (FIRST_LEN + half).max(INLINE_LEN_MAX)
    }
}

/// Octets or slots from `from` to `to` on the free-running circle.
#[inline]
fn distance(from: u32, to: u32) -> u32 {
    to.wrapping_sub(from)
}

/// How many slots ahead the producer asks for lines: some 200 ns at full rate, a line's way between cores.
const PREFETCH_SLOTS: u32 = 16;

/// Octets that are copied at once.
const CHUNK: usize = 32;

/// Copies as many octets as `out` has, which are few, without a call.
///
/// # Safety
/// `from` must be readable for the length of `out`.
#[inline]
unsafe fn copy_small(from: *const u8, out: &mut [u8]) {
    let Some(last) = out.len().checked_sub(CHUNK) else {
        // SAFETY: the caller's word; `out` is private.
        return unsafe { core::ptr::copy_nonoverlapping(from, out.as_mut_ptr(), out.len()) };
    };
    let to = out.as_mut_ptr();
    let mut at = 0;
    while at < last {
        // SAFETY: as above; `at` lies before the last chunk.
        unsafe { core::ptr::copy_nonoverlapping(from.wrapping_add(at), to.wrapping_add(at), CHUNK) }
        at += CHUNK;
    }
    // SAFETY: as above. The last chunk may overlap the one before it, with the same octets.
    unsafe { core::ptr::copy_nonoverlapping(from.wrapping_add(last), to.wrapping_add(last), CHUNK) }
}

/// Copies parts one behind the other, however the targets are cut.
struct Gather<'a> {
    parts: &'a [Part<'a>],
    /// Octets of the first part already copied.
    taken: usize,
}

impl Gather<'_> {
    /// Copies the next `len` octets to `offset`. The parts have at least as many left.
    #[inline]
    fn copy<M: RingMemory>(&mut self, memory: &M, mut offset: usize, mut len: usize) {
        while len > 0 {
            let Some((part, others)) = self.parts.split_first() else {
                debug_assert!(false, "parts shorter than their length");
                return;
            };
            let now = len.min(part.len() - self.taken);
            let from = part.as_ptr().wrapping_add(self.taken);
            // SAFETY: `now` octets from `from` lie in the part; the target is free memory of the own ring.
            unsafe { memory.copy_in(offset, from, now) }
            self.taken += now;
            if self.taken == part.len() {
                self.parts = others;
                self.taken = 0;
            }
            offset += now;
            len -= now;
        }
    }
}
