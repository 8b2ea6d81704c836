//! One direction: what happens to one datagram after the other.

use core::time::Duration;
use std::vec::Vec;

use vlan_core::Instant;
use vlan_core::random::Random;

use super::faults::Faults;
use super::held::{Held, HeldBack};
use super::{FaultCounters, OVERTAKE_WAIT};

/// What is decided about a datagram by chance, each in its own sequence.
#[derive(Clone, Copy)]
enum Chance {
    State,
    Loss,
    Corrupt,
    Bit,
    Duplicate,
    Reorder,
    Jitter,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Line<A> {
    faults: Faults,
    seed: u64,
    /// In a burst of loss.
    is_bad: bool,
    /// Datagrams that went by and can have overtaken one that is held back.
    overtaking: u64,
    held: Held<A>,
    counters: FaultCounters,
}

impl<A: Copy> Line<A> {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            faults: Faults::NONE,
            seed,
            is_bad: false,
            overtaking: 0,
            held: Held::new(),
            counters: FaultCounters::default(),
        }
    }

    pub(super) fn set(&mut self, faults: Faults) {
        self.is_bad &= faults.burst.is_some();
        self.faults = faults;
    }

    pub(super) fn faults(&self) -> &Faults {
        &self.faults
    }

    pub(super) fn counters(&self) -> FaultCounters {
        self.counters
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.held.poll_timeout()
    }

    pub(super) fn apply(
        &mut self,
        now: Instant,
        address: A,
        datagram: &mut [u8],
        out: &mut impl FnMut(A, &mut [u8]),
    ) {
        self.counters.seen += 1;
        if self.is_lost() {
            self.counters.lost += 1;
            return;
        }
        // A copy is made before `out` may write to the datagram, and before a bit of that is turned over.
        let copy = self.faults.duplicate.is_hit(self.draw(Chance::Duplicate)).then(|| datagram.to_vec());
        self.corrupt(datagram);
        if self.is_overtaken() {
            self.hold_back(now, address, datagram);
        } else {
            self.pass(now, address, datagram, out);
            self.overtaking += 1;
        }
        if let Some(mut copy) = copy {
            self.counters.duplicated += 1;
            self.pass(now, address, &mut copy, out);
        }
        self.release(now, out);
    }

    pub(super) fn poll_due(&mut self, now: Instant, out: &mut impl FnMut(A, &mut [u8])) {
        self.release(now, out);
        while let Some((address, mut octets)) = self.held.pop_delayed(now) {
            self.counters.passed += 1;
            out(address, &mut octets);
        }
    }

    /// What chance says about the datagram that was seen last.
    //= spec/leg-udp.md#faults-by-seed
    //# Which datagrams a fault hits MUST follow from the seed, the number of the datagram and the fault alone.
    fn draw(&self, chance: Chance) -> u64 {
        let sequence = Random::new(self.seed ^ chance as u64).next_u64();
        Random::new(sequence.wrapping_add(self.counters.seen)).next_u64()
    }

    fn is_lost(&mut self) -> bool {
        let Some(burst) = self.faults.burst else {
            return self.faults.loss.is_hit(self.draw(Chance::Loss));
        };
        let change = if self.is_bad { burst.end } else { burst.start };
        self.is_bad ^= change.is_hit(self.draw(Chance::State));
        let loss = if self.is_bad { burst.loss } else { self.faults.loss };
        loss.is_hit(self.draw(Chance::Loss))
    }

    fn corrupt(&mut self, datagram: &mut [u8]) {
        if datagram.is_empty() || !self.faults.corrupt.is_hit(self.draw(Chance::Corrupt)) {
            return;
        }
        let bit = Random::new(self.draw(Chance::Bit)).below(8 * datagram.len() as u64);
        datagram[(bit / 8) as usize] ^= 1 << (bit % 8);
        self.counters.corrupted += 1;
    }

    fn is_overtaken(&self) -> bool {
        self.faults.reorder.is_some_and(|reorder| reorder.probability.is_hit(self.draw(Chance::Reorder)))
    }

    fn hold_back(&mut self, now: Instant, address: A, datagram: &[u8]) {
        let by = self.faults.reorder.map_or(1, |reorder| reorder.by).max(1);
        if let Some(octets) = self.copy_if_room(datagram) {
            self.counters.held_back += 1;
            let after = self.overtaking + u64::from(by);
            self.held.hold_back(HeldBack { after, due: now + OVERTAKE_WAIT, address, octets });
        }
    }

    /// Lets go of what has been overtaken, or has waited for that in vain.
    fn release(&mut self, now: Instant, out: &mut impl FnMut(A, &mut [u8])) {
        while let Some(mut held) = self.held.pop_held_back(now, self.overtaking) {
            self.pass(now, held.address, &mut held.octets, out);
        }
    }

    /// Hands a datagram on, now or after its delay.
    fn pass(&mut self, now: Instant, address: A, datagram: &mut [u8], out: &mut impl FnMut(A, &mut [u8])) {
        let delay = self.faults.delay + self.jitter();
        if delay.is_zero() {
            self.counters.passed += 1;
            out(address, datagram);
        } else if let Some(octets) = self.copy_if_room(datagram) {
            self.held.delay(now + delay, address, octets);
        }
    }

    fn jitter(&self) -> Duration {
        let jitter = u64::try_from(self.faults.jitter.as_nanos()).unwrap_or(u64::MAX);
        if jitter == 0 {
            return Duration::ZERO;
        }
        Duration::from_nanos(Random::new(self.draw(Chance::Jitter)).below(jitter.saturating_add(1)))
    }

    fn copy_if_room(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        if self.held.has_room(datagram.len()) {
            return Some(datagram.to_vec());
        }
        self.counters.overflowed += 1;
        None
    }
}
