//! The judge of a leg: a likelihood test between "loses 5 %" and "loses half", fed once per bin.
//!
//! Only packets whose fate the peer has proved count. Evidence is averaged over bins of time, so that the speed of a
//! verdict and the rate of false ones depend on time, neither on how many packets the leg carries nor on how seldom the
//! peer acknowledges them.

use core::time::Duration;

use vlan_core::Instant;

use super::fates::{Proofs, SentSpan};

/// How long evidence is gathered before it counts.
const BIN: Duration = Duration::from_micros(200);
/// How often the evidence of one bin counts at most, whatever time its packets come from.
const SENT_BINS_MAX: u64 = 2;
/// What a proven loss says for "loses half": ln(0.5 / 0.05), in 1/1024 nat.
const LOSS: i64 = 2358;
/// What a proven arrival says against it: -ln(0.5 / 0.95), in 1/1024 nat.
const ARRIVAL: i64 = 657;
/// Two bins of nothing but loss, 4.6 nat: no data here while another leg is good.
const SUSPECT: u32 = 4710;
/// Sixteen bins of nothing but loss, 35 nat: the leg is down.
const DOWN: u32 = 35_840;

/// What the score says of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opinion {
    /// Nothing speaks against it.
    Clear,
    /// Losses, not enough for a verdict.
    Doubt,
    /// Losses that 5 % does not explain.
    Suspect,
    /// It loses far more than it may.
    Down,
}

#[derive(Clone, Debug)]
pub(super) struct Detector {
    /// 1/1024 nat, from 0 to [`DOWN`].
    score: u32,
    /// Evidence of the open bin, and how many packets it comes from.
    sum: i64,
    count: u32,
    bin_end: Instant,
    /// When the packets of the open bin's evidence were sent.
    sent: Option<SentSpan>,
    /// Packets up to the bin with this number have counted, by when they were sent.
    counted_to: u64,
}

impl Detector {
    pub(super) fn new() -> Self {
        Self { score: 0, sum: 0, count: 0, bin_end: Instant::ZERO, sent: None, counted_to: 0 }
    }

    /// The score in 1/1024 nat.
    pub(super) fn score(&self) -> u32 {
        self.score
    }

    /// Takes the fates of packets that were proved now. With `is_delayed` the path is congested, and a loss says half
    /// as much.
    //= spec/packet-sender.md#evidence
    //# A leg MUST be judged only by packets that an ack proves to have arrived or to be lost.
    pub(super) fn record(&mut self, now: Instant, proofs: &Proofs, is_delayed: bool) {
        let Some(sent) = proofs.sent else { return };
        self.roll(now);
        if self.count == 0 {
            self.bin_end = end_of_bin(now);
        }
        self.sent = Some(self.sent.map_or(sent, |others| others.and(sent)));
        let (arrived, lost) = (proofs.arrived, proofs.lost);
        let loss = if is_delayed { LOSS / 2 } else { LOSS };
        self.sum += i64::from(lost) * loss - i64::from(arrived) * ARRIVAL;
        self.count += arrived + lost;
    }

    /// Closes the bin if its time is over. True when it had evidence.
    pub(super) fn roll(&mut self, now: Instant) -> bool {
        if self.count == 0 || now < self.bin_end {
            return false;
        }
        let mean = self.sum / i64::from(self.count);
        let evidence = mean * self.sent_bins() as i64;
        self.score = (i64::from(self.score) + evidence).clamp(0, i64::from(DOWN)) as u32;
        (self.sum, self.count, self.sent) = (0, 0, None);
        true
    }

    /// How often the open bin counts: once for each bin in which its packets were sent, if no evidence of that has counted yet.
    //= spec/packet-sender.md#evidence-of-several-bins
    //# Evidence that comes in one bin of packets that were sent in several MUST count once for each of those, at most twice.
    fn sent_bins(&mut self) -> u64 {
        let Some(sent) = self.sent else { return 1 };
        let (first, last) = (bin_of(sent.first), bin_of(sent.last));
        let fresh = last.saturating_sub(self.counted_to.max(first.saturating_sub(1)));
        self.counted_to = self.counted_to.max(last);
        fresh.min(self.count.into()).clamp(1, SENT_BINS_MAX)
    }

    /// When [`Detector::roll`] is due because the open bin may change the opinion.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (self.count > 0 && (self.sum > 0 || self.score > 0)).then_some(self.bin_end)
    }

    pub(super) fn opinion(&self) -> Opinion {
        match self.score {
            0 => Opinion::Clear,
            1..SUSPECT => Opinion::Doubt,
            SUSPECT..DOWN => Opinion::Suspect,
            _ => Opinion::Down,
        }
    }
}

/// Bins lie on a grid, so that one piece of evidence in each 200 us is one in each bin.
fn end_of_bin(now: Instant) -> Instant {
    Instant::from_nanos((bin_of(now) + 1).saturating_mul(BIN.as_nanos() as u64))
}

fn bin_of(at: Instant) -> u64 {
    at.as_nanos() / BIN.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use vlan_core::random::Random;

    /// Plays `packets_per_s` with a loss of `loss` percent for `time`. When the leg was down, and how much of the time it
    /// was suspect, in 1/10,000.
    fn play(seed: u64, packets_per_s: u64, loss: u64, time: Duration) -> (Option<Duration>, u64) {
        let (mut detector, mut random) = (Detector::new(), Random::new(seed));
        let gap = 1_000_000_000 / packets_per_s;
        let (mut suspect, mut is_suspect) = (0_u64, false);
        let (mut now, mut last) = (0, 0);
        while now < time.as_nanos() as u64 {
            // A suspect leg is probed once per bin.
            now += if is_suspect { gap.min(BIN.as_nanos() as u64) } else { gap };
            let is_lost = random.below(100) < loss;
            let at = Instant::from_nanos(now);
            detector.record(at, &Proofs::of_one(at, !is_lost), false);
            match detector.opinion() {
                Opinion::Down => return (Some(Duration::from_nanos(now)), 0),
                Opinion::Suspect => is_suspect = true,
                Opinion::Clear => is_suspect = false,
                Opinion::Doubt => {}
            }
            suspect += u64::from(is_suspect) * (now - last);
            last = now;
        }
        (None, suspect * 10_000 / now)
    }

    #[test]
    fn five_percent_of_loss_is_never_a_dead_leg() {
        for (rate, share_max) in [(2_000, 150), (20_000, 20), (200_000, 5)] {
            let time = Duration::from_secs(4_000_000 / rate);
            let (down, share) = play(7, rate, 5, time);
            assert_eq!(down, None, "at {rate} packets/s");
            assert!(share <= share_max, "suspect for {share} of 10,000 at {rate} packets/s");
        }
    }

    #[test]
    fn a_dead_leg_is_down_in_six_milliseconds() {
        for rate in [5_000, 20_000, 200_000, 1_000_000] {
            let (down, _) = play(1, rate, 100, Duration::from_secs(1));
            assert!(down.is_some_and(|t| t <= Duration::from_millis(6)), "{down:?} at {rate} packets/s");
        }
    }

    #[test]
    fn half_of_the_packets_lost_is_down_within_25_milliseconds() {
        let mut late = 0;
        for seed in 0..1000 {
            let (down, _) = play(seed, 20_000, 50, Duration::from_secs(1));
            late += u32::from(down.is_none_or(|t| t > Duration::from_millis(25)));
        }
        assert!(late <= 10, "{late} of 1000 took longer");
    }

    #[test]
    fn what_comes_at_once_counts_as_one_bin() {
        let mut detector = Detector::new();
        detector.record(Instant::ZERO, &lost_at(1000, Instant::ZERO, Instant::ZERO), false);
        assert_eq!(detector.opinion(), Opinion::Clear, "the bin is open");
        assert!(detector.roll(Instant::ZERO + BIN));
        assert_eq!(detector.opinion(), Opinion::Doubt);
        assert_eq!(detector.score(), 2358);
        let later = Instant::ZERO + BIN / 2 * 3;
        detector.record(later, &Proofs::of_one(later, false), true);
        detector.roll(Instant::ZERO + BIN * 2);
        assert_eq!(detector.score(), 2358 + 1179, "a loss on a congested path counts half");
    }

    fn lost_at(count: u32, first: Instant, last: Instant) -> Proofs {
        Proofs { lost: count, sent: Some(SentSpan { first, last }), ..Proofs::default() }
    }

    //= spec/packet-sender.md#evidence-of-several-bins
    //= type=test
    //# Evidence that comes in one bin of packets that were sent in several MUST count once for each of those, at most twice.
    #[test]
    fn what_was_sent_in_several_bins_counts_for_each_of_them_once() {
        let bin = |n: u32| Instant::ZERO + BIN * n;
        let score_after = |acks: &[(u32, u32, u32)]| {
            let mut detector = Detector::new();
            for (ack, (count, first, last)) in (100..).step_by(10).zip(acks) {
                detector.record(bin(ack), &lost_at(*count, bin(*first), bin(*last)), false);
                detector.roll(bin(ack + 1));
            }
            detector.score() / 2358
        };
        assert_eq!(score_after(&[(2, 21, 22)]), 2);
        assert_eq!(score_after(&[(1, 21, 21), (1, 23, 23)]), 2, "of the bin between nothing is known");
        assert_eq!(score_after(&[(5, 21, 22), (5, 21, 23)]), 2 + 1, "two had counted");
        assert_eq!(score_after(&[(5, 21, 22), (1, 21, 21)]), 2 + 1, "late news is news");
        assert_eq!(score_after(&[(1000, 21, 90)]), 2, "a long silence is no verdict");
    }
}
