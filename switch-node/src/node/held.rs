//! Frames that were accepted and have no way to go yet: at most 256 and 1 MiB an interface, 50 ms each.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use vlan_core::Instant;
use vlan_core::driver::PeerSlot;
use vlan_core::limits::{FRAME_LEN_MAX, PARK_TTL};
use vlan_core::wire::frame::Vnet;

/// Frames that an interface holds at most; a barrier takes tens of microseconds, in which a TAP gives no more.
const HELD_FRAMES_MAX: usize = 256;
/// Octets that an interface holds at most: sixteen super-frames.
const HELD_OCTETS_MAX: usize = 16 * (FRAME_LEN_MAX + 1);

/// Whom a held frame is for: frames with the same key keep their order.
pub(super) type HeldKey = Option<PeerSlot>;

/// A frame that waits.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub key: HeldKey,
    /// When it expires.
    pub deadline: Instant,
    pub vnet: Vnet,
    pub frame: Vec<u8>,
    /// It was sent and counted before, on a direct RVI that ended.
    pub returned: bool,
}

#[derive(Default)]
pub(super) struct HeldQueue {
    frames: VecDeque<Held>,
    octets: usize,
    retry: Option<Instant>,
}

impl HeldQueue {
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Octets of the frames that wait.
    pub fn octets(&self) -> usize {
        self.octets
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// True when a frame with this key would overtake one that waits.
    pub fn holds(&self, key: HeldKey) -> bool {
        self.frames.iter().any(|held| held.key == key)
    }

    /// Takes a frame, unless the queue is full.
    pub fn push(&mut self, now: Instant, key: HeldKey, vnet: &Vnet, frame: &[u8]) -> bool {
        if self.frames.len() >= HELD_FRAMES_MAX || self.octets + frame.len() > HELD_OCTETS_MAX {
            return false;
        }
        self.octets += frame.len();
        self.frames.push_back(Held {
            key,
            deadline: now + PARK_TTL,
            vnet: *vnet,
            frame: frame.to_vec(),
            returned: false,
        });
        true
    }

    /// Puts frames that came back from a direct RVI before everything that waits. They are bounded by the
    /// rings they come from.
    pub fn push_returned(&mut self, now: Instant, frames: Vec<(HeldKey, Vnet, Vec<u8>)>) {
        for (key, vnet, frame) in frames.into_iter().rev() {
            self.octets += frame.len();
            let deadline = now + PARK_TTL;
            self.frames.push_front(Held { key, deadline, vnet, frame, returned: true });
        }
    }

    /// Takes everything out, to be tried in order.
    pub fn take(&mut self) -> VecDeque<Held> {
        self.octets = 0;
        self.retry = None;
        core::mem::take(&mut self.frames)
    }

    /// Puts a frame back that could not go after all; to be tried again at `retry` if nothing happens before.
    pub fn put_back(&mut self, held: Held, retry: Instant) {
        self.octets += held.frame.len();
        self.frames.push_back(held);
        self.retry = Some(self.retry.map_or(retry, |at| at.min(retry)));
    }

    /// Removes what has waited too long; returns how many, and shows each.
    pub fn expire(&mut self, now: Instant, show: &mut dyn FnMut(&[u8])) -> u64 {
        let before = self.frames.len();
        let mut octets = 0;
        self.frames.retain(|held| {
            let keep = held.deadline > now;
            octets += if keep { held.frame.len() } else { 0 };
            if !keep {
                show(&held.frame);
            }
            keep
        });
        self.octets = octets;
        (before - self.frames.len()) as u64
    }

    /// Sorts what waits by who it is for now.
    pub fn rekey(&mut self, key_of: impl Fn(&Vnet, &[u8]) -> HeldKey) {
        for held in &mut self.frames {
            held.key = key_of(&held.vnet, &held.frame);
        }
    }

    /// Drops what waits for this receiver; returns how much that was.
    pub fn drop_of(&mut self, key: HeldKey) -> u64 {
        let before = self.frames.len();
        self.frames.retain(|held| held.key != key);
        self.octets = self.frames.iter().map(|held| held.frame.len()).sum();
        (before - self.frames.len()) as u64
    }

    /// The first deadline, or when to try again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.frames.iter().map(|held| held.deadline).min();
        deadline.into_iter().chain(self.retry.filter(|_| !self.frames.is_empty())).min()
    }
}
