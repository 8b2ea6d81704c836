//! I-14: a leg is blamed only for packets that an ack proves lost, never for silence.
//!
//! What acks prove is worked out here once more, from the packets themselves. An ack passes a packet by when it has one that
//! its leg sent later, or when it was written, by what it says of itself, after the packet was sent. Of those that were
//! passed by some are lost only when they are 9/8 of a round trip old: nothing may arrive any more by then, but it is soon.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use rvi::packet::sender::{PacketLegState, PacketLegStatus};
use rvi::packet::wire::{AckBlock, AckBlocks, Control, PACKET_HEADER_LEN, PacketHeader, Payload, TAG_LEN};
use vlan_core::Instant;

use super::super::side::Side;

/// Evidence is averaged over bins of so long, which lie on a grid (`spec/packet-sender.md`, Evidence).
const BIN: Duration = Duration::from_micros(200);
/// What was passed by before an end fell silent is lost so long after the last packet and 9/8 of a trip: the granularity of
/// waits in interrupt mode, and a batch that was under way.
const BLAME_AFTER: Duration = Duration::from_micros(300);
/// A leg is down from this score on, in 1/1024 nat (`spec/packet-sender.md`, Legs' health).
const DOWN_SCORE: u32 = 35_840;

/// Whether a packet measures a round trip when an ack has it: only one that asked for the ack does
/// (`spec/packet-sender.md`, Round trips).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    Always,
    /// It has nothing but padding: it may have tried a length, which measures nothing else.
    Maybe,
    Never,
}

/// A packet that was sent.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// When, as the end's clock has it.
    at: Instant,
    measures: Measure,
}

/// What there is to say of one leg, as one end sends by it.
#[derive(Clone, Debug, Default)]
struct LegEvidence {
    /// Each packet, by number.
    sent: Vec<Sent>,
    /// Packets that no ack had and none passed by.
    open: BTreeSet<u64>,
    /// Packets that were passed by and that no ack had so far, and how many were passed by in all.
    passed: BTreeSet<u64>,
    passed_count: u64,
    /// The latest trip that was measured, with all that the peer kept its ack back.
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
        let sent = std::mem::take(&mut of_leg.sent);
        *of_leg = LegEvidence { sent, ..LegEvidence::default() };
    }

    /// An end sends its next packet by a leg; its clock shows `local`.
    pub(super) fn sent(&mut self, side: Side, leg: u8, local: Instant, packet: &[u8]) {
        let of_leg = self.legs[side.index()].entry(leg).or_default();
        of_leg.depart(Sent { at: local, measures: measure(packet) });
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
        let sent = legs.get(&block.leg.number())?.sent.get(block.largest as usize)?;
        Some(sent.at + Duration::from_micros(block.delay_us.into()))
    };
    blocks.filter_map(written_after).max()
}

/// What a packet is to the sender's round trips.
fn measure(packet: &[u8]) -> Measure {
    let Ok(header) = PacketHeader::parse_packet(packet) else { return Measure::Never };
    let payload = &packet[PACKET_HEADER_LEN..packet.len() - TAG_LEN];
    let Ok(payload) = Payload::parse(header.flags.has_ack, payload) else { return Measure::Never };
    let mut records = payload.records().peekable();
    if records.peek().is_none() {
        return if header.wants_answer() { Measure::Always } else { Measure::Never };
    }
    let is_padding = records.all(|record| record.control() == Some(Control::Pad));
    if is_padding { Measure::Maybe } else { Measure::Always }
}

impl LegEvidence {
    fn depart(&mut self, sent: Sent) {
        self.open.insert(self.sent.len() as u64);
        self.sent.push(sent);
    }

    /// Takes the trip that an ack measures, if it does.
    fn note_trip(&mut self, local: Instant, block: &AckBlock) {
        let sent = self.sent[block.largest as usize];
        let trip = Duration::from_nanos(local.since(sent.at).as_nanos() as u64);
        // What was passed by may have been taken for lost: then it measures nothing any more.
        let is_sure = sent.measures == Measure::Always && self.open.contains(&block.largest);
        let is_possible =
            is_sure || self.passed.contains(&block.largest) || self.open.contains(&block.largest);
        if is_sure && block.delay_us < u16::MAX {
            self.trip = trip;
        } else if is_possible && sent.measures != Measure::Never {
            self.trip = self.trip.max(trip);
        }
    }

    fn acknowledged(&mut self, local: Instant, block: Option<&AckBlock>, witness: Option<Instant>) {
        if let Some(block) = block {
            self.note_trip(local, block);
        }
        let ranges = block.map(|block| block.ranges).unwrap_or_default();
        for (lowest, highest) in ranges.iter() {
            take(&mut self.open, lowest..highest + 1);
            take(&mut self.passed, lowest..highest + 1);
        }
        // Of what lies below its ranges an ack says nothing.
        let lowest = ranges.as_slice().last().map_or(0, |range| range.0);
        let largest = block.map_or(0, |block| block.largest);
        let early = witness.map_or(0, |witness| self.sent.partition_point(|sent| sent.at <= witness));
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
        let mut leg = LegEvidence::default();
        (0..10).for_each(|us| leg.depart(Sent { at: at(us), measures: Measure::Always }));
        leg
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

    //= spec/packet-sender.md#round-trips
    //= type=test
    //# A sender MUST measure a round trip only with a packet that asked for an ack, and only when the ack says for how long it
    //# was kept back.
    #[test]
    fn a_trip_is_measured_with_questions_alone() {
        use Measure::{Always, Maybe, Never};
        let mut leg = LegEvidence::default();
        let later = [Never, Maybe, Always, Always].map(|measures| (6_000, measures));
        for (us, measures) in [(0, Always)].into_iter().chain(later).chain([(6_500, Always)]) {
            leg.depart(Sent { at: at(us), measures });
        }
        let trip_after = |leg: &mut LegEvidence, us, number: u64, delay_us| {
            leg.acknowledged(at(us), Some(&AckBlock { delay_us, ..block(&[(number, number)]) }), None);
            leg.trip.as_micros()
        };
        assert_eq!(trip_after(&mut leg, 5_000, 0, 0), 5_000);
        assert_eq!(trip_after(&mut leg, 6_100, 1, 0), 5_000, "its ack came by chance");
        assert_eq!(trip_after(&mut leg, 6_200, 2, 0), 5_000, "it may have tried a length");
        assert_eq!(trip_after(&mut leg, 6_300, 3, u16::MAX), 5_000, "nobody knows how long it was kept back");
        leg.acknowledged(at(6_350), None, Some(at(6_000)));
        assert_eq!(trip_after(&mut leg, 6_400, 4, 0), 5_000, "it was passed by, and may have been given up");
        assert_eq!(trip_after(&mut leg, 6_600, 5, 0), 100);
    }
}
