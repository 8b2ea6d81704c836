//! Messages that wait for room.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use vlan_core::limits::PARK_TTL;
use vlan_core::{Channel, Instant};

use crate::message::Part;

/// Buffers kept for the next message that must wait, so that waiting allocates nothing in the steady state.
const SPARES_MAX: usize = 64;
/// Larger buffers are given back.
const SPARE_LEN_MAX: usize = 2048;

/// A message without a number, waiting.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) channel: Channel,
    pub(super) lane: u16,
    pub(super) charge: u32,
    pub(super) deadline: Instant,
    pub(super) octets: Vec<u8>,
}

/// What waits on one account.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    charge: u32,
    messages: usize,
    octets: usize,
}

/// First in, first out; bounded by messages and octets, in all and for each account.
#[derive(Debug)]
pub(super) struct ParkQueue {
    queue: VecDeque<Parked>,
    /// Of each charge that has something here.
    shares: Vec<Share>,
    spares: Vec<Vec<u8>>,
    octets: usize,
    messages_max: usize,
    octets_max: usize,
}

impl ParkQueue {
    pub(super) fn new(messages_max: usize, octets_max: usize) -> Self {
        let (queue, shares, spares) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { queue, shares, spares, octets: 0, messages_max, octets_max }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Messages that wait, and their octets.
    pub(super) fn load(&self) -> (usize, usize) {
        (self.queue.len(), self.octets)
    }

    /// True when a message of `len` octets may wait on the account `charge`.
    //= spec/rvi.md#shares-of-the-waiting-room
    //# What waits on one account MUST NOT be more than what is free, in messages or in octets; messages without a
    //# charge are on no account.
    pub(super) fn has_room(&self, charge: u32, len: usize) -> bool {
        let free_messages = self.messages_max.saturating_sub(self.queue.len());
        let free_octets = self.octets_max.saturating_sub(self.octets);
        let own = self.shares.iter().find(|share| share.charge == charge).copied().unwrap_or_default();
        free_messages > own.messages && free_octets >= own.octets + len
    }

    /// The account `charge`; none for 0.
    fn share(&mut self, charge: u32) -> Option<&mut Share> {
        if charge == 0 {
            return None;
        }
        let place = self.shares.iter().position(|share| share.charge == charge).unwrap_or_else(|| {
            self.shares.push(Share { charge, ..Share::default() });
            self.shares.len() - 1
        });
        self.shares.get_mut(place)
    }

    /// Counts a message that waits.
    fn add(&mut self, charge: u32, len: usize) {
        self.octets += len;
        if let Some(share) = self.share(charge) {
            share.messages += 1;
            share.octets += len;
        }
    }

    /// Counts a message that waits no longer.
    fn remove(&mut self, charge: u32, len: usize) {
        self.octets -= len;
        if let Some(share) = self.share(charge) {
            share.messages -= 1;
            share.octets -= len;
            if share.messages == 0 {
                self.shares.retain(|share| share.messages > 0);
            }
        }
    }

    /// Takes a message; there must be room.
    pub(super) fn push(
        &mut self,
        now: Instant,
        channel: Channel,
        lane: u16,
        charge: u32,
        parts: &[Part<'_>],
    ) {
        let mut octets = self.spares.pop().unwrap_or_default();
        octets.clear();
        for part in parts {
            append(&mut octets, part);
        }
        self.add(charge, octets.len());
        self.queue.push_back(Parked { channel, lane, charge, deadline: now + PARK_TTL, octets });
    }

    pub(super) fn front(&self) -> Option<&Parked> {
        self.queue.front()
    }

    /// Takes the oldest message out; give its buffer back with `recycle`.
    pub(super) fn pop(&mut self) -> Option<Parked> {
        let parked = self.queue.pop_front()?;
        self.remove(parked.charge, parked.octets.len());
        Some(parked)
    }

    /// Puts the message that was taken out last back to the front.
    pub(super) fn unpop(&mut self, parked: Parked) {
        self.add(parked.charge, parked.octets.len());
        self.queue.push_front(parked);
    }

    /// Gives the memory of an idle queue back.
    pub(super) fn trim(&mut self) {
        if self.queue.is_empty() {
            *self = Self::new(self.messages_max, self.octets_max);
        }
    }

    pub(super) fn recycle(&mut self, octets: Vec<u8>) {
        if self.spares.len() < SPARES_MAX && octets.capacity() <= SPARE_LEN_MAX {
            self.spares.push(octets);
        }
    }
}

fn append(octets: &mut Vec<u8>, part: &Part<'_>) {
    match part {
        Part::Private(private) => octets.extend_from_slice(private),
        Part::Shared(shared) => {
            let start = octets.len();
            octets.resize(start + shared.len(), 0);
            shared.copy_to(&mut octets[start..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(queue: &mut ParkQueue, charge: u32, len: usize) -> bool {
        let room = queue.has_room(charge, len);
        if room {
            queue.push(Instant::ZERO, Channel(1), 0, charge, &[Part::Private(&[0; 4096][..len])]);
        }
        room
    }

    #[test]
    fn one_account_leaves_as_much_free_as_it_holds() {
        //= spec/rvi.md#shares-of-the-waiting-room
        //= type=test
        //# What waits on one account MUST NOT be more than what is free, in messages or in octets; messages without a
        //# charge are on no account.
        let mut queue = ParkQueue::new(64, 64 * 1024);
        assert_eq!((0..100).filter(|_| push(&mut queue, 7, 10)).count(), 32);
        assert_eq!((0..100).filter(|_| push(&mut queue, 8, 10)).count(), 16);
        assert!(push(&mut queue, 9, 10), "there is always room for another");
        assert!(!push(&mut queue, 7, 10));
        // What goes makes room for its own account.
        for _ in 0..32 {
            queue.pop().expect("something waits");
        }
        assert!(push(&mut queue, 7, 10));
        let mut queue = ParkQueue::new(64, 64 * 1024);
        assert_eq!((0..100).filter(|_| push(&mut queue, 7, 4096)).count(), 8, "half of the octets");
        let mut queue = ParkQueue::new(64, 64 * 1024);
        assert_eq!((0..100).filter(|_| push(&mut queue, 0, 10)).count(), 64);
    }

    #[test]
    fn accounts_are_forgotten_when_nothing_of_theirs_waits() {
        let mut queue = ParkQueue::new(64, 64 * 1024);
        for charge in 1..=20 {
            assert!(push(&mut queue, charge, 100));
        }
        let first = queue.pop().expect("something waits");
        queue.unpop(first);
        while queue.pop().is_some() {}
        assert!(queue.shares.is_empty());
        assert_eq!(queue.octets, 0);
    }
}
