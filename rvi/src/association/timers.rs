//! Deadlines: what waited too long, and peers that take nothing.

use alloc::vec::Vec;

use vlan_core::Instant;

use super::{Association, EVENTS_KEPT, LEGS};
use crate::association::leg::Progress;
use crate::association::types::{AssociationEvent, LegState};

/// Why the association wants to be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deadline {
    /// A parked message expires.
    Expiry(Instant),
    /// It is time to look at a leg's heads.
    Watch(Instant),
}

impl Deadline {
    fn at(self) -> Instant {
        match self {
            Self::Expiry(at) | Self::Watch(at) => at,
        }
    }
}

impl Association {
    /// When [`Association::handle_timeout`] is to be called at the latest; `None`: no need.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let expiry = self.parked.front().map(|parked| Deadline::Expiry(parked.deadline));
        let watches =
            self.legs.iter().flatten().filter_map(|leg| leg.watch.map(|w| Deadline::Watch(w.deadline)));
        let packets = self.packets.as_ref().and_then(|packets| packets.poll_timeout());
        watches.chain(expiry).map(Deadline::at).chain(packets).min()
    }

    /// Time has passed. Probes of packet legs are sent without a limit: see [`Association::handle_timeout_with`].
    pub fn handle_timeout(&mut self, now: Instant) {
        self.handle_timeout_with(now, &mut || true);
    }

    /// Time has passed. Probes that nobody asked for are sent only as far as `probe_allowed` says so: a process has one
    /// budget for all of its associations.
    pub fn handle_timeout_with(&mut self, now: Instant, probe_allowed: &mut dyn FnMut() -> bool) {
        self.now = now;
        self.packets_timeout(now, probe_allowed);
        self.expire();
        for index in 0..LEGS {
            self.look(index);
        }
        self.flush();
        self.forget_taken();
        self.trim();
    }

    /// Gives memory back that only traffic needs, when there was none since the last look.
    //= spec/rvi.md#idle-associations
    //# An association whose messages are settled and that has carried none since the last deadline MUST hold at most
    //# 8 KiB beside the memory of its legs.
    fn trim(&mut self) {
        let by_rings: u64 = self.legs.iter().flatten().map(|leg| leg.tx_messages + leg.rx_messages).sum();
        let carried = by_rings + self.packet_messages;
        let was_idle = core::mem::replace(&mut self.carried, carried) == carried;
        if !was_idle || self.is_trimmed || !self.is_drained() {
            self.is_trimmed &= was_idle;
            return;
        }
        for index in 0..LEGS {
            self.refresh(index);
        }
        for leg in self.legs.iter_mut().flatten() {
            leg.trim();
        }
        if let Some(packets) = &mut self.packets {
            packets.rest();
        }
        self.channels.trim();
        self.parked.trim();
        self.spare = Vec::new();
        self.control_queue.shrink_to_fit();
        self.events.shrink_to(EVENTS_KEPT);
        self.sources.shrink_to_fit();
        self.is_trimmed = true;
    }

    //= spec/rvi.md#expiry
    //# A message that found no room for 50 ms MUST be dropped and told to the host, with its charge.
    fn expire(&mut self) {
        while self.parked.front().is_some_and(|parked| parked.deadline <= self.now) {
            let Some(parked) = self.parked.pop() else { return };
            self.tell_expired(parked);
        }
    }

    pub(super) fn tell_expired(&mut self, parked: super::park::Parked) {
        let (charge, channel, len) = (parked.charge, parked.channel, parked.octets.len());
        self.events.push_back(AssociationEvent::ParkedExpired { charge, channel, len });
        self.parked.recycle(parked.octets);
    }

    /// Looks whether the peer takes what is in a leg, if it is time to.
    fn look(&mut self, index: usize) {
        let Some(leg) = &mut self.legs[index] else { return };
        if leg.watch.is_none_or(|watch| watch.deadline > self.now) {
            return;
        }
        match leg.look() {
            Err(fault) => self.take_down(index, fault),
            Ok(Progress::Stuck) => self.handle_stuck(index),
            Ok(progress) => self.handle_progress(index, progress),
        }
    }

    fn handle_stuck(&mut self, index: usize) {
        let Some(leg) = &mut self.legs[index] else { return };
        leg.watch(self.now);
        let (was_stuck, state, number) = (leg.stuck, leg.state, leg.number);
        leg.stuck = true;
        if !was_stuck {
            self.events.push_back(AssociationEvent::Stalled(number));
        }
        if state == LegState::Up && self.has_better_than(index) {
            self.move_off(index);
        }
    }

    fn has_better_than(&self, index: usize) -> bool {
        (0..).zip(&self.legs).any(|(other, leg)| {
            other != index && leg.as_ref().is_some_and(|leg| leg.state == LegState::Up && !leg.stuck)
        }) || self.has_packets_up()
    }

    /// The peer takes messages. A stalled leg is used again when it has taken all of them.
    fn handle_progress(&mut self, index: usize, progress: Progress) {
        let Some(leg) = &mut self.legs[index] else { return };
        leg.stuck = false;
        if progress == Progress::Moving {
            leg.watch(self.now);
            return;
        }
        leg.watch = None;
        if leg.state == LegState::Stalled {
            let number = leg.number;
            self.recover(index);
            self.events.push_back(AssociationEvent::LegUp(number));
            self.spread();
        }
    }
}
