//! Acks: what they prove of packets in flight, and of the legs that those went by.

use core::time::Duration;

use vlan_core::Instant;

use crate::packet::wire::{AckBlock, AckBlocks, AckRanges, PacketError, PacketLeg};

use super::Sender;
use super::fates::Proofs;
use super::types::{PacketLegState, TransportEvent};

impl Sender {
    /// Applies the acks of one packet.
    ///
    /// # Errors
    /// When a packet is acknowledged that was never sent. Nothing is applied then.
    pub(in crate::packet) fn handle_acks(
        &mut self,
        now: Instant,
        blocks: AckBlocks<'_>,
    ) -> Result<(), PacketError> {
        self.note_call(now);
        self.check_acks(blocks)?;
        let witness = self.witness(blocks);
        let mut ranges = [AckRanges::default(); PacketLeg::COUNT];
        let mut proofs = [Proofs::default(); PacketLeg::COUNT];
        for block in blocks {
            let index = block.leg.index();
            ranges[index] = block.ranges;
            self.acknowledge(now, &block, &mut proofs[index]);
        }
        for (index, ranges) in ranges.iter().enumerate() {
            self.detect(now, index, ranges, witness, &mut proofs[index]);
        }
        for (index, proofs) in proofs.iter().enumerate() {
            self.conclude(now, index, ranges[index].as_slice().first().map(|range| range.1), proofs);
        }
        Ok(())
    }

    //= spec/packet-sender.md#acks-of-nothing
    //# An ack of a packet that was never sent MUST end the session, and nothing of it may be applied.
    fn check_acks(&self, mut blocks: AckBlocks<'_>) -> Result<(), PacketError> {
        let next = |leg: PacketLeg| match &self.legs[leg.index()] {
            Some(leg) => leg.flight.next_number(),
            None => self.next_numbers[leg.index()],
        };
        match blocks.find(|block| block.largest >= next(block.leg)) {
            Some(block) => Err(PacketError::NeverSent(block.largest)),
            None => Ok(()),
        }
    }

    /// A moment before which, to our knowledge, the ack was not written: the latest packet that it has was sent then, and it
    /// says how long it was kept back since.
    fn witness(&self, blocks: AckBlocks<'_>) -> Option<Instant> {
        let written_after = |block: AckBlock| {
            let sent_at = self.legs[block.leg.index()].as_deref()?.flight.sent_at(block.largest)?;
            Some(sent_at + Duration::from_micros(block.delay_us.into()))
        };
        blocks.filter_map(written_after).max()
    }

    //= spec/packet-sender.md#round-trips
    //# A sender MUST measure a round trip only with a packet that asked for an ack, and only when the ack says for how long it
    //# was kept back.
    fn acknowledge(&mut self, now: Instant, block: &AckBlock, proofs: &mut Proofs) {
        let Some(leg) = &mut self.legs[block.leg.index()] else { return };
        if leg.flight.is_question(block.largest)
            && block.delay_us < u16::MAX
            && let Some(sent_at) = leg.flight.sent_at(block.largest)
        {
            leg.rtt.sample(now, sent_at, Duration::from_micros(block.delay_us.into()));
        }
        leg.flight.acknowledge(&block.ranges, proofs);
    }

    fn detect(
        &mut self,
        now: Instant,
        index: usize,
        ranges: &AckRanges,
        witness: Option<Instant>,
        proofs: &mut Proofs,
    ) {
        let Some(leg) = &mut self.legs[index] else { return };
        leg.flight.detect(now, leg.rtt.loss_delay(), ranges, &mut self.scratch, proofs);
        if let Some(witness) = witness {
            leg.flight.detect_across(witness, leg.rtt.arrival_max(), ranges, &mut self.scratch, proofs);
        }
        if !self.scratch.is_empty() {
            self.requeue(now, Some(index));
        }
    }

    /// Draws the conclusions: for the leg's health, its window, and whether anybody answers.
    pub(super) fn conclude(&mut self, now: Instant, index: usize, largest: Option<u64>, proofs: &Proofs) {
        if *proofs == Proofs::default() {
            return;
        }
        self.is_control_lost |= proofs.is_control_lost;
        let Some(leg) = &mut self.legs[index] else { return };
        leg.counters.lost += u64::from(proofs.lost);
        leg.counters.spurious += u64::from(proofs.spurious);
        let is_delayed = leg.rtt.is_delayed(now);
        let (next, largest) = (leg.flight.next_number(), largest.unwrap_or(0));
        leg.window.record(proofs.arrived, proofs.lost, largest, next, is_delayed);
        let is_changed = leg.health.record(now, proofs, is_delayed);
        leg.judge_lengths(now, proofs);
        leg.forget(now);
        if proofs.arrived > 0 {
            let leg = leg.leg;
            self.handle_answer(now, leg);
        }
        if is_changed {
            self.handle_change(now, index);
        }
    }

    /// Something that was sent by `leg` arrived: it is not silent.
    fn handle_answer(&mut self, now: Instant, leg: PacketLeg) {
        let is_open = |other: &super::Leg| {
            other.leg.is_relay() == leg.is_relay() && other.flight.oldest_open().is_some()
        };
        let is_waiting = self.legs.iter().flatten().any(|other| is_open(other));
        // The peer is there: what waits at other legs need not wait longer than one PTO.
        self.legs.iter_mut().flatten().for_each(|leg| leg.note_answer());
        let was_silent = self.silence_of(leg).note_answer(now, is_waiting);
        if was_silent && !leg.is_relay() {
            self.relay_silence.clear();
            self.set_silent(now, false);
        }
        if core::mem::take(&mut self.is_stalled) {
            self.tell(TransportEvent::Resumed);
        }
    }

    /// A leg is good for something else than before.
    pub(super) fn handle_change(&mut self, now: Instant, index: usize) {
        let Some(leg) = &mut self.legs[index] else { return };
        let (number, state) = (leg.leg, leg.health.state());
        //= spec/packet-sender.md#dead-legs
        //# When a leg goes down, everything sent by it that is not proven MUST go again by another leg.
        if state == PacketLegState::Down {
            leg.fall_back(now);
            let rescue = leg.flight.rescue(usize::MAX, now, &mut self.scratch);
            leg.counters.rescued += rescue.packets as u64;
            self.is_control_lost |= rescue.is_control_lost;
        }
        self.tell(TransportEvent::LegState(number, state));
        self.spread(now);
        if !self.scratch.is_empty() {
            self.requeue(now, Some(index));
        }
    }
}
