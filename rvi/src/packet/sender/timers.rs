//! Deadlines: packets without proof, silence, and probes.

use core::time::Duration;

use vlan_core::Instant;

use crate::packet::wire::PacketLeg;

use super::fates::Proofs;
use super::types::{PacketLegState, TransportEvent};
use super::{Sender, route};

/// Packets whose pieces go again when the oldest has waited too long: enough for an answer to prove the fate of the rest.
const RESCUE_PACKETS: usize = 2;
/// A good leg is asked beside a suspect one if it was not asked for this long: its answer proves what the other lost.
const WITNESS_INTERVAL: Duration = Duration::from_micros(200);

impl Sender {
    /// When [`Sender::handle_timeout`] is due.
    pub(in crate::packet) fn poll_timeout(&self) -> Option<Instant> {
        let searches = self.legs.iter().flatten().filter_map(|leg| leg.search_deadline());
        self.verdict_deadline().into_iter().chain(searches).min()
    }

    /// When a call is due that may come to a verdict.
    fn verdict_deadline(&self) -> Option<Instant> {
        let of_legs = (0..PacketLeg::COUNT).filter_map(|index| self.leg_deadline(index));
        of_legs.chain(self.silence_deadline()).min()
    }

    fn leg_deadline(&self, index: usize) -> Option<Instant> {
        let leg = self.legs[index].as_deref()?;
        let deadlines = [
            leg.pto_deadline(self.is_alone(index)),
            leg.loss_deadline().map(|at| self.lateness.shift(at)),
            leg.health.roll_deadline(),
            leg.health.probe_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// True when no other leg is known to live.
    fn is_alone(&self, index: usize) -> bool {
        self.usable.without(index).is_empty() || self.direct_silence.is_silent()
    }

    fn silence_deadline(&self) -> Option<Instant> {
        let silence = if self.direct_silence.is_silent() || !self.has_leg(false) {
            if self.is_stalled { None } else { self.relay_silence.deadline(self.pto_longest(true)) }
        } else {
            self.direct_silence.deadline(self.pto_longest(false))
        };
        silence.map(|at| self.lateness.shift(at))
    }

    fn has_leg(&self, is_relay: bool) -> bool {
        self.legs.iter().flatten().any(|leg| leg.leg.is_relay() == is_relay)
    }

    /// The longest PTO of relay or direct legs.
    fn pto_longest(&self, is_relay: bool) -> Duration {
        let legs = self.legs.iter().flatten().filter(|leg| leg.leg.is_relay() == is_relay);
        legs.map(|leg| leg.rtt.pto()).max().unwrap_or_default()
    }

    /// The host is running: from here on its next call counts as late.
    pub(in crate::packet) fn note_call(&mut self, now: Instant) {
        if self.lateness.is_round(now) {
            let due = self.verdict_deadline();
            self.lateness.begin_round(now, due);
        }
    }

    /// Time has passed. A probe that nobody asked for is sent only if `probe_allowed` says so.
    pub(in crate::packet) fn handle_timeout(
        &mut self,
        now: Instant,
        probe_allowed: &mut dyn FnMut() -> bool,
    ) {
        self.note_call(now);
        self.lateness.judge_round();
        for index in 0..PacketLeg::COUNT {
            self.find_lost(now, index);
            self.find_unproven(now, index);
            self.probe(now, index, probe_allowed);
            self.try_length(now, index, probe_allowed);
        }
        if self.silence_deadline().is_some_and(|at| at <= now) {
            self.handle_silence(now);
        }
    }

    /// Packets that an ack passed by and that are late enough by now, and the end of a bin.
    fn find_lost(&mut self, now: Instant, index: usize) {
        let Some(leg) = &mut self.legs[index] else { return };
        if leg.health.roll(now) {
            self.handle_change(now, index);
        }
        let Some(leg) = &mut self.legs[index] else { return };
        if leg.loss_deadline().is_none_or(|at| self.lateness.shift(at) > now) {
            return;
        }
        let mut proofs = Proofs::default();
        leg.flight.detect_passed(now, leg.rtt.loss_delay(), &mut self.scratch, &mut proofs);
        if !self.scratch.is_empty() {
            self.requeue(now, Some(index));
        }
        self.conclude(now, index, None, &proofs);
    }

    /// Packets that nothing was proved of for too long: the oldest pieces go again, with a question.
    //= spec/packet-sender.md#probe-timeout
    //# When a packet was not proven to have arrived or to be lost for one PTO, its pieces MUST go again, by another leg when
    //# one is usable, in a packet that asks for an answer; that is no evidence against its leg.
    fn find_unproven(&mut self, now: Instant, index: usize) {
        let is_alone = self.is_alone(index);
        let Some(leg) = &mut self.legs[index] else { return };
        if leg.pto_deadline(is_alone).is_none_or(|at| at > now) {
            return;
        }
        leg.note_pto(now);
        let is_judged = matches!(leg.health.state(), PacketLegState::Good | PacketLegState::Suspect);
        let rescue = leg.rescue_late(now, RESCUE_PACKETS, &mut self.scratch);
        leg.counters.rescued += rescue.packets as u64;
        leg.forget(now);
        self.is_control_lost |= rescue.is_control_lost;
        let has_pieces = !self.scratch.is_empty() || rescue.is_control_lost;
        let Some(target) = self.requeue(now, Some(index)) else { return };
        let is_witness = rescue.wants_witness && is_judged && target != index;
        if (has_pieces || is_witness)
            && let Some(leg) = &mut self.legs[target]
        {
            leg.asks = true;
        }
    }

    /// Asks a leg that is idle or in doubt for an answer.
    fn probe(&mut self, now: Instant, index: usize, probe_allowed: &mut dyn FnMut() -> bool) {
        let Some(leg) = &mut self.legs[index] else { return };
        if leg.health.probe_deadline().is_none_or(|at| at > now) {
            return;
        }
        if leg.health.state() == PacketLegState::Good && !leg.health.is_urgent() {
            leg.shrink();
            self.shrink();
            self.is_idle = true;
        }
        let Some(leg) = &mut self.legs[index] else { return };
        let is_sent = probe_allowed();
        leg.health.next_probe(now, is_sent, &mut self.random);
        if !is_sent {
            return;
        }
        (leg.asks, leg.wants_witness) = (true, true);
        leg.counters.probes += 1;
        if leg.health.state() == PacketLegState::Suspect {
            self.ask_witness(now, index, probe_allowed);
        }
    }

    /// Has a packet made that tries a length, if it is time.
    fn try_length(&mut self, now: Instant, index: usize, probe_allowed: &mut dyn FnMut() -> bool) {
        let Some(leg) = &mut self.legs[index] else { return };
        if leg.search_deadline().is_some_and(|at| at <= now)
            && leg.search.handle_timeout(now, &mut self.random, probe_allowed)
        {
            leg.counters.probes += 1;
        }
    }

    /// Asks a leg beside a suspect one, unless it is busy anyway.
    fn ask_witness(&mut self, now: Instant, suspect: usize, probe_allowed: &mut dyn FnMut() -> bool) {
        let others = self.usable_now(now).without(suspect);
        let Some(leg) = route::fastest(&self.legs, others).and_then(|index| self.legs[index].as_deref_mut())
        else {
            return;
        };
        if now.since(leg.health.last_asked()) >= WITNESS_INTERVAL && probe_allowed() {
            leg.asks = true;
            leg.counters.probes += 1;
        }
    }

    /// Nobody answers: relay legs get the oldest pieces, and if they are silent too, everything waits.
    fn handle_silence(&mut self, now: Instant) {
        let was_direct = self.has_leg(false) && !self.direct_silence.is_silent();
        //= spec/packet-sender.md#silent-black-holes
        //# A leg that goes down or falls silent MUST go on with the base length.
        for leg in self.legs.iter_mut().flatten().filter(|leg| leg.leg.is_relay() != was_direct) {
            leg.fall_back(now);
        }
        if was_direct {
            self.direct_silence.begin();
            self.set_silent(now, true);
            if self.has_leg(true) {
                self.ask_relays(now);
                return;
            }
        }
        self.relay_silence.begin();
        self.stall();
    }

    /// No leg is left that could answer.
    pub(super) fn stall(&mut self) {
        if !core::mem::replace(&mut self.is_stalled, true) {
            self.tell(TransportEvent::Stalled);
        }
    }

    /// Puts the oldest pieces of the direct legs on each relay leg.
    pub(super) fn ask_relays(&mut self, now: Instant) {
        for leg in self.legs.iter_mut().flatten().filter(|leg| !leg.leg.is_relay()) {
            let rescue = leg.flight.rescue(RESCUE_PACKETS, now, &mut self.scratch);
            leg.counters.rescued += rescue.packets as u64;
            self.is_control_lost |= rescue.is_control_lost;
        }
        let pieces = core::mem::take(&mut self.scratch);
        for leg in self.legs.iter_mut().flatten().filter(|leg| leg.leg.is_relay()) {
            leg.first.extend(pieces.iter().copied());
            leg.asks = true;
        }
        self.scratch = pieces;
        self.scratch.clear();
        // They were not needed before: what they did not answer then is no silence.
        self.relay_silence.clear();
        self.relay_silence.note_asked(now);
    }

    /// The direct legs have fallen silent, or answer again.
    pub(super) fn set_silent(&mut self, now: Instant, is_silent: bool) {
        for leg in self.legs.iter_mut().flatten() {
            leg.health.set_silent(now, is_silent);
        }
        self.spread(now);
    }

    /// Gives memory back that was needed in busier times.
    fn shrink(&mut self) {
        if self.is_drained() {
            self.store.shrink();
            self.channels.iter_mut().for_each(super::Outbound::shrink);
            self.scratch = alloc::vec::Vec::new();
            self.orphans = alloc::collections::VecDeque::new();
            self.events.shrink_to_fit();
        }
    }
}
