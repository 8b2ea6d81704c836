//! I-14: a leg is blamed only for packets that an ack proves lost, never for silence.
//!
//! What acks prove is worked out here once more, from the packets themselves. An ack passes a packet by when it has one that
//! its leg sent later, or when it was written, by what it says of itself, after the packet was sent. Of those that were
//! passed by some are lost only when they are 9/8 of a round trip old: nothing may arrive any more by then, but it is soon.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use rvi::packet::sender::{PacketLegState, PacketLegStatus};
use rvi::packet::wire::{AckBlock, AckBlocks, PacketHeader, Payload};
use vlan_core::Instant;

use super::super::side::Side;

/// Evidence is averaged over bins of so long, which lie on a grid (`spec/packet-sender.md`, Evidence).
const BIN: Duration = Duration::from_micros(200);
/// What was passed by before an end fell silent is lost so long after the last packet and 9/8 of a trip: the granularity of
/// waits in interrupt mode, and a batch that was under way.
const BLAME_AFTER: Duration = Duration::from_micros(300);
/// A leg is down from this score on, in 1/1024 nat (`spec/packet-sender.md`, Legs' health).
const DOWN_SCORE: u32 = 35_840;

/// What there is to say of one leg, as one end sends by it.
#[derive(Clone, Debug, Default)]
struct LegEvidence {
    /// When each packet was sent, by number, as the end's clock has it.
    sent_at: Vec<Instant>,
    /// Packets that no ack had and none passed by.
    open: BTreeSet<u64>,
    /// Packets that were passed by and that no ack had so far, and how many were passed by in all.
    passed: BTreeSet<u64>,
    passed_count: u64,
    /// The latest trip, with all that the peer kept its ack back.
    trip: Duration,
    /// What the machine said of the leg behind its last batch.
    lost: u64,
    score: u32,
    is_down: bool,
    /// The bin of the latest losses, until its end.
    loss_bin: Option<u64>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    /// By sending end and leg.
    legs: [BTreeMap<u8, LegEvidence>; 2],
    /// When each end was last reached by a packet, as its clock has it.
    reached_at: [Option<Instant>; 2],
}

/// An end has run a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    pub(super) side: Side,
    /// What its clock shows.
    pub(super) local: Instant,
    /// Its timers are late, or were a moment ago: verdicts may be (amendment 27).
    pub(super) is_excused: bool,
}

impl Evidence {
    /// An end has a leg from now on: what it sent by one of this number before is not judged any more.
    pub(super) fn leg_up(&mut self, side: Side, leg: u8) {
        let of_leg = self.legs[side.index()].entry(leg).or_default();
        let sent_at = std::mem::take(&mut of_leg.sent_at);
        *of_leg = LegEvidence { sent_at, ..LegEvidence::default() };
    }

    /// An end sends its next packet by a leg; its clock shows `local`.
    pub(super) fn sent(&mut self, side: Side, leg: u8, local: Instant) {
        let of_leg = self.legs[side.index()].entry(leg).or_default();
        of_leg.open.insert(of_leg.sent_at.len() as u64);
        of_leg.sent_at.push(local);
    }

    /// A packet reaches an end, whose clock shows `local`.
    pub(super) fn arrived(&mut self, side: Side, local: Instant, header: &PacketHeader, payload: &[u8]) {
        self.reached_at[side.index()] = Some(local);
        let Ok(payload) = Payload::parse(header.flags.has_ack, payload) else { return };
        let legs = &mut self.legs[side.index()];
        let witness = witness(legs, payload.ack_blocks());
        for (leg, of_leg) in legs {
            let block = payload.ack_blocks().find(|block| block.leg.number() == *leg);
            of_leg.acknowledged(local, block.as_ref(), witness);
        }
    }

    /// The machine has run a batch. What it says that acks do not prove, if anything, and else the scores that changed: leg,
    /// before, and now.
    pub(super) fn judge(
        &mut self,
        batch: Batch,
        legs: impl Iterator<Item = PacketLegStatus>,
    ) -> Result<Vec<(u8, u32, u32)>, String> {
        let side = batch.side;
        let reached_at = self.reached_at[side.index()];
        let mut changed = Vec::new();
        for status in legs {
            let number = status.leg.number();
            let of_leg = self.legs[side.index()].entry(number).or_default();
            let before = of_leg.score;
            let judged = of_leg.judge(batch, reached_at, &status);
            judged.map_err(|what| format!("{side:?} {what} leg {number}"))?;
            if before != status.score {
                changed.push((number, before, status.score));
            }
        }
        Ok(changed)
    }
}

/// A moment before which, by what it says, an ack was not written.
fn witness(legs: &BTreeMap<u8, LegEvidence>, blocks: AckBlocks<'_>) -> Option<Instant> {
    let written_after = |block: AckBlock| {
        let sent_at = legs.get(&block.leg.number())?.sent_at.get(block.largest as usize)?;
        Some(*sent_at + Duration::from_micros(block.delay_us.into()))
    };
    blocks.filter_map(written_after).max()
}

impl LegEvidence {
    fn acknowledged(&mut self, local: Instant, block: Option<&AckBlock>, witness: Option<Instant>) {
        let is_news = |number: u64| self.open.contains(&number) || self.passed.contains(&number);
        if let Some(block) = block.filter(|block| is_news(block.largest)) {
            let trip = local.since(self.sent_at[block.largest as usize]);
            self.trip = Duration::from_nanos(trip.as_nanos() as u64);
        }
        let ranges = block.map(|block| block.ranges).unwrap_or_default();
        for (lowest, highest) in ranges.iter() {
            take(&mut self.open, lowest..highest + 1);
            take(&mut self.passed, lowest..highest + 1);
        }
        // Of what lies below its ranges an ack says nothing.
        let lowest = ranges.as_slice().last().map_or(0, |range| range.0);
        let largest = block.map_or(0, |block| block.largest);
        let early = witness.map_or(0, |witness| self.sent_at.partition_point(|at| *at <= witness));
        let passed = take(&mut self.open, lowest..largest.max(early as u64));
        self.passed_count += passed.len() as u64;
        self.passed.extend(passed);
    }

    /// Compares what the machine says of the leg with what is proven; a packet last reached its end at `reached_at`.
    fn judge(
        &mut self,
        batch: Batch,
        reached_at: Option<Instant>,
        status: &PacketLegStatus,
    ) -> Result<(), String> {
        if status.lost > self.passed_count {
            let (lost, passed) = (status.lost, self.passed_count);
            return Err(format!("counts {lost} packets lost where acks pass {passed} by, on"));
        }
        let trip = Duration::from_nanos(status.rtt_ns).max(self.trip);
        let silence = reached_at.map(|at| batch.local.since(at));
        let is_late = silence.is_none_or(|silence| silence > trip * 9 / 8 + BLAME_AFTER);
        if status.lost > self.lost && is_late && !batch.is_excused {
            return Err(format!("finds losses after {silence:?} of silence, with a trip of {trip:?}, on"));
        }
        self.judge_score(batch.local.as_nanos() / BIN.as_nanos() as u64, status)
    }

    /// A score rises by losses of the bin before, and makes the verdict.
    fn judge_score(&mut self, bin: u64, status: &PacketLegStatus) -> Result<(), String> {
        // The first batch behind a bin's end closes it.
        if status.score > self.score && self.loss_bin.is_none_or(|of_loss| of_loss >= bin) {
            return Err(format!(
                "raises the score from {} to {} without a loss, of",
                self.score, status.score
            ));
        }
        let is_down = status.state == PacketLegState::Down;
        if is_down && !self.is_down && status.score < DOWN_SCORE {
            return Err(format!("calls DOWN with a score of {}", status.score));
        }
        if status.lost > self.lost {
            self.loss_bin = Some(bin);
        } else if self.loss_bin.is_some_and(|of_loss| of_loss < bin) {
            self.loss_bin = None;
        }
        (self.lost, self.score, self.is_down) = (status.lost, status.score, is_down);
        Ok(())
    }
}

/// Takes the members in a range out of a set.
fn take(set: &mut BTreeSet<u64>, numbers: Range<u64>) -> Vec<u64> {
    if numbers.is_empty() {
        return Vec::new();
    }
    let taken: Vec<u64> = set.range(numbers).copied().collect();
    taken.iter().for_each(|number| {
        set.remove(number);
    });
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use rvi::packet::wire::{AckRanges, PacketLeg};

    fn at(us: u64) -> Instant {
        Instant::from_nanos(us * 1000)
    }

    /// Packets 0 to 9, one each microsecond.
    fn ten_sent() -> LegEvidence {
        let mut evidence = Evidence::default();
        (0..10).for_each(|us| evidence.sent(Side::A, 0, at(us)));
        evidence.legs[0].remove(&0).expect("packets were sent by it")
    }

    fn block(ranges: &[(u64, u64)]) -> AckBlock {
        let mut told = AckRanges::default();
        ranges.iter().for_each(|(lowest, highest)| assert!(told.push(*lowest, *highest)));
        let leg = PacketLeg::new(0).expect("it is a leg");
        AckBlock { leg, delay_us: 0, rx_count: 0, largest: ranges[0].1, ts_echo: 0, ranges: told }
    }

    #[test]
    fn an_ack_passes_by_what_it_does_not_have_above_its_lowest_range() {
        let mut leg = ten_sent();
        leg.acknowledged(at(20), Some(&block(&[(6, 7), (2, 3)])), None);
        assert_eq!((leg.passed_count, &leg.open), (2, &BTreeSet::from([0, 1, 8, 9])), "4 and 5");
        assert_eq!(leg.trip, Duration::from_micros(13));
        leg.acknowledged(at(30), Some(&block(&[(6, 7), (2, 4)])), None);
        assert_eq!((leg.passed_count, &leg.passed), (2, &BTreeSet::from([5])), "once");
        assert_eq!(leg.trip, Duration::from_micros(13), "what is told again says nothing of it");
        leg.acknowledged(at(30), None, Some(at(8)));
        assert_eq!((leg.passed_count, leg.open), (5, BTreeSet::from([9])), "0, 1 and 8 were sent before it");
    }
}
