//! The reading end of a ring, in the peer's region.
//!
//! What happens to a frame here: its slot is copied to private memory once and checked there, its first 256
//! octets are copied too, and what follows is handed on as shared octets.

use vlan_core::limits::PRIVATE_HEAD_LEN;

use crate::ring::layout::GRANULE;
use crate::ring::slot::{FIRST_LEN, MORE_LEN, SLOT_BODY, SLOT_LEN, SLOTS_MAX, SlotFields};
use crate::ring::{RingFault, RingLayout, RingMemory};

/// Octets of private memory that a message's slot and head are copied to.
pub const PRIVATE_LEN: usize = SLOT_BODY + PRIVATE_HEAD_LEN + SLOT_LEN;
/// Arena octets that are copied with the head.
const HEAD_IN_ARENA: usize = PRIVATE_HEAD_LEN - FIRST_LEN;

/// How many slots ahead the consumer asks for lines that were announced.
const PREFETCH_SLOTS: u32 = 12;

/// A message taken from the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The checked fields of its slot.
    pub fields: SlotFields,
    /// Offset in the peer's region and length of what follows the first 256 octets.
    pub rest: (usize, usize),
}

/// What is next in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// Nothing yet.
    Empty,
    /// A message; its head is in private memory.
    Message(Received),
    /// Something impossible. The ring must not be read any more.
    Fault(RingFault),
}

/// The reading end.
#[derive(Debug)]
pub struct Consumer<M> {
    own: M,
    peer: M,
    ring: RingLayout,
    /// Behind the last message taken.
    next: u32,
    /// What `head` says.
    released: u32,
    /// What `settled` says.
    settled: u32,
    /// What was released when the mark was set.
    marked: u32,
    /// The peer's `tail` as last read: how far it has published, by its own word.
    announced: u32,
}

impl<M: RingMemory> Consumer<M> {
    /// Makes the end of a ring that nothing was taken from yet; `ring` is the layout of the peer's region.
    pub fn new(own: M, peer: M, ring: RingLayout) -> Self {
        Self { own, peer, ring, next: 0, released: 0, settled: 0, marked: 0, announced: 0 }
    }

    /// Takes the next message that was announced; its slot and head go to `private`.
    #[inline(always)]
    pub fn poll(&mut self, session: u16, private: &mut [u8; PRIVATE_LEN]) -> Polled {
        //= spec/ring.md#looking
        //# A consumer MUST NOT look at a slot before `tail` has moved from its own position.
        if self.announced == self.next {
            self.announced = self.peer.load_acquire(self.ring.tail);
            if self.announced == self.next {
                return Polled::Empty;
            }
            self.prefetch_first();
        }
        let slot = self.ring.slot(self.next);
        if self.peer.load_acquire(slot) != self.next.wrapping_add(1) {
            self.announced = self.next;
            return Polled::Empty;
        }
        let Some(copy) = private.first_chunk_mut::<SLOT_LEN>() else { return Polled::Empty };
        self.peer.copy_slot(slot, copy);
        let fields = match SlotFields::parse(copy, &self.ring, session) {
            Ok(fields) => fields,
            Err(fault) => return Polled::Fault(fault),
        };
        let mut rest = (0, 0);
        if fields.in_arena {
            rest = self.copy_arena_head(&fields, private);
        } else {
            self.copy_more(fields.slots, private);
        }
        self.next = self.next.wrapping_add(fields.slots);
        if self.announced.wrapping_sub(self.next) > PREFETCH_SLOTS + 1 {
            self.peer.prefetch_read(self.ring.slot(self.next.wrapping_add(PREFETCH_SLOTS)));
            self.peer.prefetch_read(self.ring.slot(self.next.wrapping_add(PREFETCH_SLOTS + 1)));
        }
        Polled::Message(Received { fields, rest })
    }

    /// Asks for the first lines of what was just announced, all at once: the later ones are asked for on the way.
    #[inline]
    fn prefetch_first(&self) {
        for ahead in 1..PREFETCH_SLOTS.min(self.announced.wrapping_sub(self.next)) {
            self.peer.prefetch_read(self.ring.slot(self.next.wrapping_add(ahead)));
        }
    }

    /// True when a message can be taken.
    #[inline]
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.peer.load_acquire(self.ring.tail) != self.next
            && self.peer.load_acquire(self.ring.slot(self.next)) == self.next.wrapping_add(1)
    }

    /// Copies what lies in the slots behind the first: mostly one.
    #[inline(always)]
    fn copy_more(&self, slots: u32, private: &mut [u8; PRIVATE_LEN]) {
        let (chunks, _) = private[SLOT_LEN..].as_chunks_mut::<MORE_LEN>();
        for (i, out) in (1..SLOTS_MAX).zip(chunks) {
            if i >= slots {
                break;
            }
            self.peer.copy_out(self.ring.slot(self.next.wrapping_add(i)) + 4, out);
        }
    }

    #[inline]
    fn copy_arena_head(&self, fields: &SlotFields, private: &mut [u8; PRIVATE_LEN]) -> (usize, usize) {
        let start = self.ring.arena + fields.arena as usize * GRANULE;
        let len = fields.len as usize - FIRST_LEN;
        if len <= HEAD_IN_ARENA {
            self.peer.copy_out(start, &mut private[SLOT_LEN..SLOT_LEN + len]);
            return (0, 0);
        }
        self.peer.copy_out(start, &mut private[SLOT_LEN..SLOT_LEN + HEAD_IN_ARENA]);
        (start + HEAD_IN_ARENA, len - HEAD_IN_ARENA)
    }

    /// Tells the peer that everything taken so far is ours, and done with unless `hold`. True when that is news.
    //= spec/ring.md#settled
    //# A consumer MUST NOT store a `settled` beyond what it has finished reading and has published to its outputs.
    #[inline]
    pub fn release(&mut self, hold: bool) -> bool {
        let moved = self.released != self.next;
        if moved {
            self.released = self.next;
            self.own.store_release(self.ring.head, self.next);
        }
        if !hold && self.settled != self.released {
            self.settled = self.released;
            self.own.store_release(self.ring.head + 4, self.settled);
            return true;
        }
        moved
    }

    /// Tells the peer what was taken, and gives how far of it is settled.
    pub fn settled_of_taken(&mut self) -> u32 {
        self.release(true);
        self.settled
    }

    /// What was released so far is settled by the next [`Self::settle`].
    pub fn mark(&mut self) {
        self.marked = self.released;
    }

    /// Settles what was released before the mark, or all that was. True when that is news.
    pub fn settle(&mut self, all: bool) -> bool {
        let settled = if all { self.released } else { self.marked };
        // What was released without a hold may be settled beyond an old mark.
        if settled.wrapping_sub(self.settled) as i32 <= 0 {
            return false;
        }
        self.settled = settled;
        self.own.store_release(self.ring.head + 4, self.settled);
        true
    }

    /// Behind the last message taken.
    #[must_use]
    pub fn next(&self) -> u32 {
        self.next
    }

    /// True when something was taken that is not settled.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.settled != self.next
    }
}
