//! Frames that wait: for room towards a node, and for the node's acknowledgement. Their senders keep them meanwhile.
//!
//! On shared memory a frame is the receiver's as soon as it is published: the memory outlives this control node. What goes
//! in packets is not, so its sender's room is held until the receiver has acknowledged it; if this control node dies
//! before, the sender sends it again by the next one.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use rvi::{Association, Hold};
use vlan_core::limits::PARK_TTL;
use vlan_core::{Channel, Instant};

/// A hold on what a session's node sent: the session's place and charge.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub place: usize,
    pub charge: u32,
    pub hold: Hold,
    /// A member's frame, which counts where it is lost; else a message of the fabric's own, such as a barrier.
    pub is_frame: bool,
}

/// A frame that a node has not acknowledged.
#[derive(Debug)]
struct Unacknowledged {
    number: u32,
    /// None when its sender was let go.
    held: Option<Held>,
    until: Instant,
}

/// What waits for one node, with whose room it holds.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// For room, in order.
    parked: VecDeque<Held>,
    /// For its acknowledgement, by channel, in the order of their numbers.
    sent: BTreeMap<Channel, VecDeque<Unacknowledged>>,
}

impl Waits {
    /// A frame waits for room.
    pub fn park(&mut self, held: Held) {
        self.parked.push_back(held);
    }

    /// The oldest frame of a charge waits for room no longer.
    pub fn unpark(&mut self, charge: u32) -> Option<Held> {
        let place = self.parked.iter().position(|held| held.charge == charge)?;
        self.parked.remove(place)
    }

    /// A frame went out in packets under a number of its channel.
    pub fn send(&mut self, now: Instant, channel: Channel, number: u32, held: Held) {
        let frame = Unacknowledged { number, held: Some(held), until: now + PARK_TTL };
        self.sent.entry(channel).or_default().push_back(frame);
    }

    /// Takes what the node has acknowledged, and lets the senders of those go that have waited for too long.
    //= spec/server.md#acknowledged-frames
    //# A control node MUST NOT settle a frame that it relays in packets with its sender before the receiver has acknowledged
    //# it, or has not done so for 50 ms.
    pub fn collect(&mut self, now: Instant, association: &Association) -> Vec<Held> {
        let mut free = Vec::new();
        for (channel, frames) in &mut self.sent {
            let is_done = |frame: &Unacknowledged| association.is_acknowledged(*channel, frame.number);
            while frames.front().is_some_and(is_done) {
                free.extend(frames.pop_front().and_then(|frame| frame.held));
            }
            let is_late = |frame: &&mut Unacknowledged| frame.until <= now;
            free.extend(frames.iter_mut().take_while(is_late).filter_map(|frame| frame.held.take()));
        }
        free
    }

    /// True while a sender keeps a frame for the node's acknowledgement.
    pub fn is_any_unacknowledged(&self) -> bool {
        self.sent.values().flatten().any(|frame| frame.held.is_some())
    }

    /// Everything is over: nothing waits for the node any more.
    pub fn drain(&mut self) -> Vec<Held> {
        let sent = core::mem::take(&mut self.sent).into_values().flatten().filter_map(|frame| frame.held);
        self.parked.drain(..).chain(sent).collect()
    }

    /// When a sender has waited for too long.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let first = |frames: &VecDeque<Unacknowledged>| {
            frames.iter().find(|frame| frame.held.is_some()).map(|frame| frame.until)
        };
        self.sent.values().filter_map(first).min()
    }

    /// Frames that no sender keeps any more although the node has not acknowledged them.
    pub fn at_risk(&self) -> usize {
        self.sent.values().flatten().filter(|frame| frame.held.is_none()).count()
    }
}
