//! The writing end of an arena: its control node's.
//!
//! What happens to a frame here: it is copied in behind its header, behind the frames before it. When a segment is full, the
//! oldest one gives way.

#![allow(unsafe_code, reason = "copies into shared memory")]

use alloc::vec::Vec;

use vlan_core::wire::reference::Place;

use super::layout::{ArenaConfig, ArenaLayout, GRANULE, SEGMENTS};
use crate::gather::Gather;
use crate::ring::RingMemory;

/// The writing end.
///
/// Lives of segments are counted from [`SEGMENTS`] on, so that no life has the number of memory that nobody has written.
#[derive(Debug)]
pub struct ArenaWriter<M> {
    memory: M,
    layout: ArenaLayout,
    /// The life that is being filled, and the oldest one that has not been written over.
    life: u32,
    oldest: u32,
    /// Octets in use of the present life of each segment.
    used: [u32; SEGMENTS as usize],
    /// Octets of each message in it: what is kept after a lap is room for the next.
    lens: [Vec<u32>; SEGMENTS as usize],
}

impl<M: RingMemory> ArenaWriter<M> {
    /// Formats memory of `config.region_len()` zero octets as an arena without messages.
    ///
    /// # Panics
    /// When the size is none that an arena can have.
    pub fn new(memory: M, config: &ArenaConfig) -> Self {
        let layout = ArenaLayout::new(config.segment_len).expect("a size that an arena can have");
        layout.write_header(&memory, config.number);
        let (used, lens) = Default::default();
        let writer = Self { memory, layout, life: SEGMENTS, oldest: SEGMENTS, used, lens };
        writer.announce();
        writer
    }

    /// The life of the segment that is being filled.
    #[inline]
    #[must_use]
    pub fn life(&self) -> u32 {
        self.life
    }

    /// The oldest life that has not been written over.
    #[must_use]
    pub fn oldest(&self) -> u32 {
        self.oldest
    }

    /// The life that [`Self::begin_segment`] writes over; none in the first lap.
    #[must_use]
    pub fn next_victim(&self) -> Option<u32> {
        (self.life.wrapping_sub(self.oldest) == SEGMENTS - 1).then_some(self.oldest)
    }

    /// Octets in use, and octets that there are.
    #[must_use]
    pub fn load(&self) -> (u32, u32) {
        (self.used.iter().sum(), SEGMENTS * self.layout.segment_len())
    }

    /// Octets in the longest message that goes in: a whole segment.
    #[inline]
    #[must_use]
    pub fn len_max(&self) -> usize {
        self.layout.segment_len() as usize
    }

    /// True when the present segment has room for a message of `len` octets.
    #[inline]
    #[must_use]
    pub fn has_room(&self, len: usize) -> bool {
        len <= (self.layout.segment_len() - self.used_now()) as usize
    }

    /// Copies a message in; `None` when the present segment has no room for it. It may be told of when this has returned.
    #[inline]
    pub fn put(&mut self, message: impl Gather) -> Option<Place> {
        let len = message.len();
        if len == 0 || !self.has_room(len) {
            return None;
        }
        let place = Place { segment: self.life, offset: self.used_now(), len: len as u32 };
        let start = self.layout.segment(self.life) + place.offset as usize;
        // SAFETY: behind what the present life of the segment holds, and inside it, as `has_room` says. Members that may still
        // read an earlier life there have been told by its sequence, and hold no references to it.
        unsafe { message.copy(0, &self.memory, start, len) }
        let index = (self.life % SEGMENTS) as usize;
        self.used[index] += room_for(place.len);
        self.lens[index].push(place.len);
        self.prefetch(place.len);
        Some(place)
    }

    /// Asks for the lines of the message after this one, if it is as long: the members have them, and asking now hides the way
    /// there behind the references.
    #[inline]
    fn prefetch(&self, len: u32) {
        let from = self.layout.segment(self.life) + self.used_now() as usize;
        let left = self.layout.segment_len() - self.used_now();
        for granule in 0..(room_for(len).min(left) as usize / GRANULE).min(PREFETCH_GRANULES) {
            self.memory.prefetch_write(from + granule * GRANULE);
        }
    }

    /// Goes on with the segment that was filled longest ago. Whoever may still have a reference to it finds it gone.
    //= spec/arena.md#lives
    //# The sequence of a segment MUST name its present life before anything of that life is written, behind a fence.
    pub fn begin_segment(&mut self) {
        if let Some(victim) = self.next_victim() {
            self.oldest = victim.wrapping_add(1);
        }
        self.life = self.life.wrapping_add(1);
        let index = (self.life % SEGMENTS) as usize;
        self.used[index] = 0;
        self.lens[index].clear();
        self.announce();
    }

    /// The messages of the life `life`, which has not been written over, in order.
    pub fn messages(&self, life: u32) -> impl Iterator<Item = Place> + '_ {
        let lens = self.lens[(life % SEGMENTS) as usize].iter();
        lens.scan(0, move |next, &len| {
            let offset = *next;
            *next += room_for(len);
            Some(Place { segment: life, offset, len })
        })
    }

    /// The octets of a message that this end has put in and that has not been written over.
    ///
    /// # Panics
    /// When there is none there.
    pub fn read_back(&self, place: &Place, octets: &mut Vec<u8>) {
        let used = self.used[(place.segment % SEGMENTS) as usize];
        assert!(place.offset + place.len <= used, "a message of the arena");
        octets.resize(place.len as usize, 0);
        self.memory.copy_out(self.layout.segment(place.segment) + place.offset as usize, octets);
    }

    #[inline]
    fn used_now(&self) -> u32 {
        self.used[(self.life % SEGMENTS) as usize]
    }

    fn announce(&self) {
        self.memory.store_relaxed(self.layout.sequence(self.life), self.life);
        // ORDERING: pairs with the fence between copy and second look of `ArenaReader::read`: who has copied an octet of this
        // life sees its number then.
        self.memory.fence();
    }
}

/// Granules that are asked for at a time: a frame of 1500 octets and its header.
const PREFETCH_GRANULES: usize = 24;

/// Octets of a segment that a message of `len` octets takes.
#[inline]
const fn room_for(len: u32) -> u32 {
    len.next_multiple_of(GRANULE as u32)
}
