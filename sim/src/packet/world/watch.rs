//! The checks that run all the time: delays, memory, false verdicts, circles.
//!
//! I-2 and I-8 (nothing takes long while a leg is able), I-7 (bounded memory), I-12 (no false verdict), I-14 (see
//! [`super::evidence`]), I-16 (control is not blocked by data), I-18 (see [`super::holes`]), and I-4 as far as the sender's
//! view of acknowledgements goes.

use std::time::Duration;

use std::collections::BTreeMap;

use vlan_core::{Channel, Instant};

use super::super::coverage::{Fault, State};
use super::super::metrics::Health;
use super::super::side::Side;
use super::evidence::{Batch, Evidence};
use super::holes::Holes;
use super::{Event, PacketWorld, WATCH_INTERVAL};
use crate::checker::Violation;
use crate::simulation::Simulation;

/// A leg that delivered nine of ten packets for so long is innocent: what came before is judged by then.
const INNOCENT_AFTER: Duration = Duration::from_millis(40);

/// What a receiver may hold in any case: four of the longest messages, each with 256 octets of bookkeeping.
const HOLD_MIN: usize = 4 * (vlan_core::limits::MESSAGE_LEN_MAX + 256);

/// What the checks remember.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    /// Since when a direct leg is able and both ends run.
    pub(super) calm_since: Option<Instant>,
    /// Since when that holds and the receiver takes and settles what arrives; by receiving end.
    flowing_since: [Option<Instant>; 2],
    /// From when on a verdict against a leg that delivers nine of ten packets each way is false.
    innocent_from: BTreeMap<u8, Instant>,
    pub(super) holes: Holes,
    pub(super) evidence: Evidence,
}

impl PacketWorld {
    /// In a session that begins, nothing speaks against a leg that was worse before.
    pub(super) fn judge_from_the_start(&mut self) {
        let innocent = (0..2).filter(|leg| self.is_innocent(*leg));
        self.watch.innocent_from = innocent.map(|leg| (leg, self.now())).collect();
    }

    /// Something changed in the network or at an end: from now on other promises hold.
    pub(super) fn note_conditions(&mut self) {
        let now = self.now();
        let on_time = self.ends.iter().all(|end| end.runs() && end.timers_late.is_zero());
        let is_calm = self.has_session() && on_time && self.network.has_able_leg();
        let since = |old: Option<Instant>, holds: bool| holds.then(|| old.unwrap_or(now));
        self.watch.calm_since = since(self.watch.calm_since, is_calm);
        for leg in 0..2 {
            let innocent = self.is_innocent(leg);
            if !innocent {
                self.watch.innocent_from.remove(&leg);
            } else {
                self.watch.innocent_from.entry(leg).or_insert(now + INNOCENT_AFTER);
            }
        }
        for side in Side::BOTH {
            let end = &self.ends[side.index()];
            let flows = is_calm && end.settles && end.consumer.pause.is_none();
            let slot = &mut self.watch.flowing_since[side.index()];
            *slot = since(*slot, flows);
        }
    }

    /// From when on the promise of delivery holds for a message of `from` that was accepted at `accepted`.
    fn promised_since(&self, from: Side, channel: Channel, accepted: Instant) -> Option<Instant> {
        let since = match channel {
            //  I-16: whether data flows is not control's business.
            Channel::CONTROL => self.watch.calm_since,
            _ => self.watch.flowing_since[from.other().index()],
        };
        since.map(|since| since.max(accepted))
    }

    /// A message was delivered now: it must not have taken too long.
    pub(super) fn check_delay(
        &mut self,
        from: Side,
        channel: Channel,
        mseq: u32,
        accepted: Instant,
    ) -> Result<(), Violation> {
        let Some(since) = self.promised_since(from, channel, accepted) else { return Ok(()) };
        let took = self.now().since(since);
        self.metrics.promised_worst = self.metrics.promised_worst.max(took);
        if took <= self.plan.promise.delay_max {
            return Ok(());
        }
        let name = if channel == Channel::CONTROL { "I-16 control flows" } else { "I-2 no loss" };
        let detail = format!(
            "channel {} message {mseq} of {from:?}, accepted at {accepted}, takes {took:?} although a leg is able since {since}",
            channel.0
        );
        Err(self.violation(name, detail))
    }

    /// The regular look at what has not arrived, or has not even been accepted.
    pub(super) fn look(&mut self) {
        let now = self.now();
        for from in Side::BOTH {
            for channel in (0..self.plan.channels as u8).map(Channel) {
                let oldest = self.ledgers[from.index()].oldest_undelivered(channel);
                let waiting = oldest.map(|(mseq, record)| (mseq, record.accepted));
                if let Some((mseq, accepted)) = waiting {
                    let result = self.check_delay(from, channel, mseq, accepted);
                    self.demand(result);
                }
                if let Some(offered) = self.ends[from.index()].oldest_offer(usize::from(channel.0)) {
                    let number = self.ledgers[from.index()].next_number(channel);
                    let result = self.check_delay(from, channel, number, offered);
                    self.demand(result);
                }
            }
        }
        self.look_for_holes();
        self.queue.schedule(now + WATCH_INTERVAL, Event::Watch);
    }

    /// The state of an end after a batch.
    pub(super) fn check_end(&mut self, side: Side, local: Instant) -> Result<(), Violation> {
        self.check_acknowledged(side)?;
        self.check_memory(side)?;
        self.check_blame(side, local)
    }

    fn check_acknowledged(&self, side: Side) -> Result<(), Violation> {
        let Some(transport) = &self.end(side).transport else { return Ok(()) };
        for channel in (0..self.plan.channels as u8).map(Channel) {
            let lowest = transport.lowest_unacked(channel);
            self.ledgers[side.index()].acknowledged_below(self.now(), channel, lowest)?;
        }
        Ok(())
    }

    fn check_memory(&mut self, side: Side) -> Result<(), Violation> {
        let kept = self.ledgers[side.index()].octets_undelivered;
        let Some(transport) = &mut self.ends[side.index()].transport else { return Ok(()) };
        let held = transport.receiver_mut().octets_held();
        let no_room = transport.receiver_counters().no_room;
        if held > self.plan.hold_octets_max.max(HOLD_MIN) || kept > self.plan.send_octets_max {
            let detail = format!("{side:?} holds {held} octets and keeps {kept}");
            return Err(self.violation("I-7 bounded memory", detail));
        }
        // Whatever credit admits finds room: what does not looks like a loss, and its leg like a dying one.
        if no_room > 0 {
            let detail = format!("{side:?} had no room for {no_room} packets that its credit admits");
            return Err(self.violation("I-17 credit", detail));
        }
        Ok(())
    }

    /// Legs are blamed only for what acks prove.
    fn check_blame(&mut self, side: Side, local: Instant) -> Result<(), Violation> {
        let now = self.now();
        let Some(transport) = &self.ends[side.index()].transport else { return Ok(()) };
        let is_excused = now < self.ends[side.index()].excused_until;
        let judged = self.watch.evidence.judge(Batch { side, local, is_excused }, transport.leg_status());
        let changed = judged.map_err(|detail| Violation {
            invariant: "I-14 no blame without proof",
            at: now,
            detail,
        })?;
        for (leg, old, score) in changed {
            self.journal.trace(now, format_args!("{side:?} leg {leg} score {old} to {score}"));
        }
        Ok(())
    }

    /// A leg got a new verdict.
    pub(super) fn verdict_given(&mut self, side: Side, leg: u8, to: Health) {
        if to != Health::Down {
            return;
        }
        let from = self.watch.innocent_from.get(&leg).filter(|from| **from <= self.now());
        if let (true, Some(from)) = (self.plan.promise.no_false_down, from) {
            let detail = format!(
                "{side:?} calls leg {leg} DOWN, which delivers nine of ten packets, judged from {from}"
            );
            let violation = self.violation("I-12 no false verdict", detail);
            self.break_invariant(violation);
        }
    }

    /// True when both directions of a leg deliver 90 of 100 packets, bursts of at most 100 us aside.
    fn is_innocent(&self, leg: u8) -> bool {
        let links = || Side::BOTH.iter().filter_map(|side| self.network.link(leg, *side));
        !self.network.is_crossed
            && links().all(|link| {
                let c = link.conditions();
                !c.is_dead
                    && c.loss.or(c.corruption) <= super::super::chance::Ppm::percent(5)
                    && c.rate.is_none()
                    && c.packet_len_max >= self.plan.packet_len_max(leg)
            })
    }

    // --- which fault met which state --------------------------------------------------------------------------

    /// Counts a fault that concerns one end.
    pub(super) fn count_fault(&mut self, fault: Fault, side: Side) {
        let state = self.state(side);
        self.coverage.count(fault, state);
    }

    /// Counts a fault of the network.
    pub(super) fn count_fault_at_both(&mut self, fault: Fault) {
        Side::BOTH.iter().for_each(|side| self.count_fault(fault, *side));
    }

    /// What the association is like at `side`.
    #[must_use]
    pub fn state(&self, side: Side) -> State {
        let end = self.end(side);
        let Some(transport) = end.transport.as_ref().filter(|_| self.has_session()) else {
            return State::NoSession;
        };
        let direct: Vec<_> = transport
            .leg_status()
            .filter(|leg| !leg.leg.is_relay())
            .map(|leg| Health::of(leg.state))
            .collect();
        if end.is_stalled {
            State::Stalled
        } else if !direct.contains(&Health::Good) {
            State::NoneGood
        } else if end.is_full {
            State::Full
        } else if direct.contains(&Health::Down) {
            State::OneDown
        } else if direct.iter().any(|health| *health != Health::Good) {
            State::Suspect
        } else if transport.is_drained() {
            State::Drained
        } else {
            State::Good
        }
    }
}
