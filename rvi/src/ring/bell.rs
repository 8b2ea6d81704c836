//! When to ring a peer's doorbell: the sleep and wake handshake (`spec/ring.md`, Wake-up).

use crate::ring::RingMemory;
use crate::ring::layout::ASLEEP;

/// Bit of the `asleep` word: the owner sleeps; publishing to it needs a doorbell.
const SLEEPS: u32 = 1;
/// Bit of the `asleep` word: it also waits for room; settling needs a doorbell.
const WANTS_ROOM: u32 = 2;
/// What each sleep adds, so that every sleep has its own value.
const STEP: u32 = 4;

/// One end's half of the handshake on a leg.
#[derive(Debug)]
pub struct Bell<M> {
    own: M,
    peer: M,
    sleeps: u32,
    /// The peer's sleep that it was already woken from.
    rung: u32,
}

impl<M: RingMemory> Bell<M> {
    /// Makes the half of an end that is awake.
    pub fn new(own: M, peer: M) -> Self {
        Self { own, peer, sleeps: 0, rung: 0 }
    }

    /// Says that this end sleeps. The caller must look at its rings once more before it does.
    //= spec/ring.md#wake-up
    //# An end MUST store its `asleep` word, then pass a sequentially consistent fence, then look at its rings once
    //# more before it sleeps.
    pub fn fall_asleep(&mut self, wants_room: bool) {
        self.sleeps = self.sleeps.wrapping_add(STEP);
        let flags = if wants_room { SLEEPS | WANTS_ROOM } else { SLEEPS };
        self.own.store_relaxed(ASLEEP, self.sleeps | flags);
        self.own.fence();
    }

    /// Says that this end is awake.
    pub fn wake(&mut self) {
        self.own.store_relaxed(ASLEEP, self.sleeps);
    }

    /// After publishing and a fence: true when the peer sleeps and was not rung for it yet.
    //= spec/ring.md#ringing
    //# An end that published, or settled what a peer waits for, MUST pass a sequentially consistent fence and then
    //# ring the doorbell if the peer's `asleep` word says that it sleeps.
    #[inline]
    pub fn must_ring_for_data(&mut self) -> bool {
        self.must_ring(SLEEPS)
    }

    /// After settling and a fence: true when the peer sleeps, waits for room, and was not rung for it yet.
    #[inline]
    pub fn must_ring_for_room(&mut self) -> bool {
        self.must_ring(SLEEPS | WANTS_ROOM)
    }

    #[inline]
    fn must_ring(&mut self, flags: u32) -> bool {
        let asleep = self.peer.load_relaxed(ASLEEP);
        if asleep & flags != flags || asleep == self.rung {
            return false;
        }
        self.rung = asleep;
        true
    }

    /// The memory whose fence goes between publishing and ringing.
    #[inline]
    pub fn fence(&self) {
        self.own.fence();
    }
}
