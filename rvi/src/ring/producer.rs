//! The writing end of a ring, in the own region.
//!
//! What happens to a frame here: it is copied, part by part, into the next free slots (and the arena when it is
//! long), and the peer is told of it with the rest of its batch at `publish`.

#![allow(unsafe_code, reason = "copies into ring memory")]

use alloc::collections::VecDeque;

use crate::gather::Gather;
use crate::ring::layout::GRANULE;
use crate::ring::slot::{
    FIRST_LEN, INLINE_LEN_MAX, MORE_LEN, SLOT_BODY, SLOT_LEN, SLOTS_MAX, SlotFields, SlotMeta, granules_for,
    slots_for,
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
    /// Where the arena octets of each message between `settled` and `tail` end: the position behind it, and `arena_tail` there.
    /// Most messages have none there, and none of these.
    arena_ends: VecDeque<(u32, u32)>,
    /// Slots ever pushed: `tail` that never wraps.
    pushed: u64,
}

impl<M: RingMemory> Producer<M> {
    /// Makes the end of a ring that nothing was written to yet.
    pub fn new(own: M, peer: M, ring: RingLayout) -> Self {
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
            arena_ends: VecDeque::new(),
            pushed: 0,
        }
    }

    /// Copies a message into the ring; the peer looks at it after the next [`Self::publish`].
    ///
    /// # Errors
    /// `Full` when there is no room now; nothing has changed then.
    #[inline(always)]
    pub fn push(&mut self, meta: SlotMeta, message: impl Gather) -> Result<(), PushError> {
        let len = message.len();
        let slots = slots_for(len);
        let granules = granules_for(len);
        if !self.has_room(slots, granules) {
            self.make_room(slots, granules)?;
        }
        let tail = self.tail;
        let next = tail.wrapping_add(slots);
        let arena = if granules == 0 { 0 } else { self.take_granules(granules, next) };
        let fields = SlotFields { len: len as u32, slots, in_arena: granules != 0, arena, meta };
        self.put(tail, &fields, message);
        self.tail = next;
        self.pushed += u64::from(slots);
        self.prefetch(next, slots);
        if granules != 0 {
            self.prefetch_arena(granules);
        }
        Ok(())
    }

    /// Asks for the lines that the messages after the next few will be written to, if they are like the one before `tail`: the
    /// consumer has them, and asking now hides the way there.
    #[inline(always)]
    fn prefetch(&self, tail: u32, slots: u32) {
        let ring = self.ring;
        self.own.prefetch_write(ring.slot(tail.wrapping_add(PREFETCH_SLOTS)));
        if slots > 1 {
            self.own.prefetch_write(ring.slot(tail.wrapping_add(PREFETCH_SLOTS + 1)));
        }
    }

    /// The same for the arena.
    #[inline]
    fn prefetch_arena(&self, granules: u32) {
        let ahead = self.arena_tail.wrapping_add(granules);
        for granule in 0..granules.min(PREFETCH_GRANULES) {
            let at = ahead.wrapping_add(granule) & (self.ring.arena_granules - 1);
            self.own.prefetch_write(self.ring.arena + at as usize * GRANULE);
        }
    }

    /// Looks how far the peer is. `Full` when there is no room still.
    #[cold]
    fn make_room(&mut self, slots: u32, granules: u32) -> Result<(), PushError> {
        self.refresh().map_err(PushError::Fault)?;
        if self.has_room(slots, granules) { Ok(()) } else { Err(PushError::Full) }
    }

    /// Writes a message to the slots from `tail` on, and to the arena what has its place there.
    //= spec/ring.md#publication
    //# The first word of a message's first slot MUST be stored with release order, as its position plus one, after
    //# every other octet of the message.
    #[inline(always)]
    fn put(&self, tail: u32, fields: &SlotFields, message: impl Gather) {
        let ring = self.ring;
        let slot = ring.slot(tail);
        let len = fields.len as usize;
        let head = fields.emit();
        // SAFETY: a slot of the own ring that the peer has settled; 20 octets behind its first word.
        unsafe { self.own.copy_in(slot + 4, head.as_ptr(), SLOT_BODY - 4) }
        // SAFETY: as above, from the body to the slot's end; the message starts there.
        unsafe { message.copy(0, &self.own, slot + SLOT_BODY, len.min(FIRST_LEN)) }
        if fields.in_arena {
            let arena = ring.arena + fields.arena as usize * GRANULE;
            // SAFETY: arena octets that the peer has settled, as many as the rest of the message needs.
            unsafe { message.copy(FIRST_LEN, &self.own, arena, len - FIRST_LEN) }
        } else {
            self.put_more(tail, len, message);
        }
        self.own.store_release(slot, tail.wrapping_add(1));
    }

    /// Writes what follows the first slot to the slots behind it: mostly one.
    #[inline(always)]
    fn put_more(&self, tail: u32, len: usize, message: impl Gather) {
        if len > FIRST_LEN {
            self.put_one(tail.wrapping_add(1), FIRST_LEN, len, message);
        }
        let mut from = FIRST_LEN + MORE_LEN;
        for i in 2..SLOTS_MAX {
            if len <= from {
                break;
            }
            self.put_one(tail.wrapping_add(i), from, len, message);
            from += MORE_LEN;
        }
    }

    /// Writes the octets from `from` on of a message of `len` octets to a slot behind its first.
    #[inline(always)]
    fn put_one(&self, position: u32, from: usize, len: usize, message: impl Gather) {
        let slot = self.ring.slot(position);
        //= spec/ring.md#lap-mark
        //# The first word of a further slot MUST be that slot's own position.
        self.own.store_relaxed(slot, position);
        // SAFETY: a slot of the own ring that the peer has settled, from behind its first word to its end.
        unsafe { message.copy(from, &self.own, slot + 4, MORE_LEN.min(len - from)) }
    }

    /// Makes everything pushed so far visible. True when there was something.
    //= spec/ring.md#announcement
    //# A producer MUST store its position as `tail`, with release order, after the first words of what it publishes.
    #[inline]
    pub fn publish(&mut self) -> bool {
        if self.published == self.tail {
            return false;
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
        while let Some(&(behind, end)) = self.arena_ends.front()
            && distance(self.settled, behind) <= distance(self.settled, value)
        {
            self.arena_head = end;
            self.arena_ends.pop_front();
        }
        self.settled = value;
        Ok(())
    }

    fn within(&self, value: u32, last: u32, newest: u32) -> Result<u32, RingFault> {
        if distance(last, value) > distance(last, newest) {
            return Err(RingFault::Distance { value, last, newest });
        }
        Ok(value)
    }

    /// True for a position between two messages that are not settled, or at either end of them, as our own first words say: the
    /// peer cannot write them.
    fn is_boundary(&self, value: u32) -> bool {
        value == self.tail || self.own.load_relaxed(self.ring.slot(value)) == value.wrapping_add(1)
    }

    /// True when the peer may have stopped taking at `value`, by the words read last.
    #[must_use]
    pub fn may_end_at(&self, value: u32) -> bool {
        self.within(value, self.settled, self.published).is_ok() && self.is_boundary(value)
    }

    /// Reads the peer's words and takes `value` as what it took for good in the end, if that is possible. What lies between it
    /// and the head the peer took and held.
    ///
    /// # Errors
    /// As `refresh`.
    pub fn close_at(&mut self, value: u32) -> Result<(), RingFault> {
        self.refresh()?;
        let value = self.within(value, self.settled, self.published)?;
        self.settled_to(value)?;
        self.head = self.behind_both(value, self.head);
        Ok(())
    }

    /// How far the peer took messages by its present word, where it ended at `value`: as [`Self::close_at`] and [`Self::head`].
    #[must_use]
    pub fn taken_to(&self, value: u32) -> u32 {
        let head = self.peer.load_acquire(self.ring.head);
        self.within(head, self.settled, self.published).map_or(value, |head| self.behind_both(value, head))
    }

    /// The later of two positions that are not before what is settled.
    fn behind_both(&self, a: u32, b: u32) -> u32 {
        if distance(self.settled, a) > distance(self.settled, b) { a } else { b }
    }

    /// True when a message of this size fits by the words read last.
    //= spec/ring.md#reuse
    //# A producer MUST NOT write to a slot or to arena octets before the peer's `settled` has passed them.
    #[inline(always)]
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

    /// Takes room in the arena for the message that ends before the slot `behind`.
    #[inline(never)]
    fn take_granules(&mut self, granules: u32, behind: u32) -> u32 {
        let start = self.arena_tail.wrapping_add(self.skipped(granules));
        self.arena_tail = start.wrapping_add(granules);
        self.arena_ends.push_back((behind, self.arena_tail));
        start & (self.ring.arena_granules - 1)
    }

    /// Gives memory back that only slots in use need, if none is.
    pub fn trim(&mut self) {
        if self.arena_ends.is_empty() {
            self.arena_ends = VecDeque::new();
        }
    }

    /// Reads a message of the own ring back, for sending it by another way. `octets` gets its octets.
    ///
    /// `position` must be that of a first slot between `settled` and `tail`. Returns its fields.
    ///
    /// # Errors
    /// When the slot does not read back as it was written: the host has lent its region to somebody who writes to it.
    pub fn read_back(
        &self,
        position: u32,
        session: u16,
        octets: &mut alloc::vec::Vec<u8>,
    ) -> Result<SlotFields, RingFault> {
        let mut slot = [0; SLOT_LEN];
        self.own.copy_slot(self.ring.slot(position), &mut slot);
        let fields = SlotFields::parse(&slot, &self.ring, session)?;
        let left = distance(position, self.tail);
        if fields.slots > left {
            return Err(RingFault::Distance {
                value: position.wrapping_add(fields.slots),
                last: position,
                newest: self.tail,
            });
        }
        let len = fields.len as usize;
        octets.clear();
        octets.resize(len, 0);
        let first = len.min(FIRST_LEN);
        octets[..first].copy_from_slice(&slot[SLOT_BODY..SLOT_BODY + first]);
        if fields.in_arena {
            self.own.copy_out(self.ring.arena + fields.arena as usize * GRANULE, &mut octets[FIRST_LEN..]);
            return Ok(fields);
        }
        for (i, out) in octets[first..].chunks_mut(MORE_LEN).enumerate() {
            self.own.copy_out(self.ring.slot(position.wrapping_add(1 + i as u32)) + 4, out);
        }
        Ok(fields)
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

/// Granules of the arena that are asked for at a time: a frame of 1500 octets.
const PREFETCH_GRANULES: u32 = 24;
