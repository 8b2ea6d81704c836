//! Datagrams that a stage holds: those that wait for their time, and those that wait to be overtaken.

use core::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::vec::Vec;

use vlan_core::Instant;

use super::{HELD_DATAGRAMS_MAX, HELD_OCTETS_MAX};

/// A datagram that goes on at `due`.
#[derive(Debug)]
struct Delayed<A> {
    due: Instant,
    /// Keeps those of one time in the order in which they came.
    order: u64,
    address: A,
    octets: Vec<u8>,
}

impl<A> Delayed<A> {
    fn key(&self) -> (Instant, u64) {
        (self.due, self.order)
    }
}

impl<A> PartialEq for Delayed<A> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<A> Eq for Delayed<A> {}

impl<A> PartialOrd for Delayed<A> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<A> Ord for Delayed<A> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// A datagram that goes on when so many others have passed, or at `due`.
#[derive(Debug)]
pub(super) struct HeldBack<A> {
    pub(super) after: u64,
    pub(super) due: Instant,
    pub(super) address: A,
    pub(super) octets: Vec<u8>,
}

/// What is held of one direction.
#[derive(Debug)]
pub(super) struct Held<A> {
    delayed: BinaryHeap<Reverse<Delayed<A>>>,
    held_back: VecDeque<HeldBack<A>>,
    order: u64,
    octets: usize,
}

impl<A> Held<A> {
    pub(super) fn new() -> Self {
        Self { delayed: BinaryHeap::new(), held_back: VecDeque::new(), order: 0, octets: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.delayed.is_empty() && self.held_back.is_empty()
    }

    /// True when one more datagram of `len` octets may be held.
    //= spec/leg-udp.md#held-datagrams
    //# A fault stage MUST hold a bounded number of datagrams and octets, and MUST drop and count what comes beyond.
    pub(super) fn has_room(&self, len: usize) -> bool {
        self.delayed.len() + self.held_back.len() < HELD_DATAGRAMS_MAX && self.octets + len <= HELD_OCTETS_MAX
    }

    /// Holds a datagram until `due`; there must be room.
    pub(super) fn delay(&mut self, due: Instant, address: A, octets: Vec<u8>) {
        self.octets += octets.len();
        self.order += 1;
        self.delayed.push(Reverse(Delayed { due, order: self.order, address, octets }));
    }

    /// Holds a datagram until others have passed; there must be room.
    pub(super) fn hold_back(&mut self, held: HeldBack<A>) {
        self.octets += held.octets.len();
        self.held_back.push_back(held);
    }

    /// The first datagram whose time has come.
    pub(super) fn pop_delayed(&mut self, now: Instant) -> Option<(A, Vec<u8>)> {
        if self.delayed.peek()?.0.due > now {
            return None;
        }
        let Reverse(delayed) = self.delayed.pop()?;
        self.octets -= delayed.octets.len();
        Some((delayed.address, delayed.octets))
    }

    /// The datagram that was held back first, if `passed` others or the time have released it.
    pub(super) fn pop_held_back(&mut self, now: Instant, passed: u64) -> Option<HeldBack<A>> {
        let is_released = |held: &HeldBack<A>| held.after <= passed || held.due <= now;
        let at = self.held_back.iter().position(is_released)?;
        let held = self.held_back.remove(at)?;
        self.octets -= held.octets.len();
        Some(held)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let delayed = self.delayed.peek().map(|first| first.0.due);
        // One after the other was held back for the same time, so the first is due first.
        let held_back = self.held_back.front().map(|first| first.due);
        [delayed, held_back].into_iter().flatten().min()
    }
}
