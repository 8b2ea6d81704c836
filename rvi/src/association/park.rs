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

/// First in, first out; bounded by messages and octets.
#[derive(Debug)]
pub(super) struct ParkQueue {
    queue: VecDeque<Parked>,
    spares: Vec<Vec<u8>>,
    octets: usize,
    messages_max: usize,
    octets_max: usize,
}

impl ParkQueue {
    pub(super) fn new(messages_max: usize, octets_max: usize) -> Self {
        Self { queue: VecDeque::new(), spares: Vec::new(), octets: 0, messages_max, octets_max }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// True when a message of `len` octets may wait.
    pub(super) fn has_room(&self, len: usize) -> bool {
        self.queue.len() < self.messages_max && self.octets + len <= self.octets_max
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
        self.octets += octets.len();
        self.queue.push_back(Parked { channel, lane, charge, deadline: now + PARK_TTL, octets });
    }

    pub(super) fn front(&self) -> Option<&Parked> {
        self.queue.front()
    }

    /// Takes the oldest message out; give its buffer back with `recycle`.
    pub(super) fn pop(&mut self) -> Option<Parked> {
        let parked = self.queue.pop_front()?;
        self.octets -= parked.octets.len();
        Some(parked)
    }

    /// Puts the message that was taken out last back to the front.
    pub(super) fn unpop(&mut self, parked: Parked) {
        self.octets += parked.octets.len();
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
