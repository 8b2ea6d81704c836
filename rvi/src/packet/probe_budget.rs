//! How many probes a process sends that nobody asked for, over all of its associations.

use core::time::Duration;

use vlan_core::Instant;

/// Probes a second, in all (amendment 28).
pub const PROBES_PER_SECOND: u32 = 2000;
/// What may be saved up, in time of filling: 64 probes.
const SAVED_LONGEST: Duration = Duration::from_millis(32);

/// A process's budget, a bucket of tokens: one for all of its associations.
#[derive(Clone, Debug, Default)]
pub struct ProbeBudget {
    /// In time of filling.
    saved: Duration,
    at: Instant,
}

impl ProbeBudget {
    /// Takes a token, if there is one: true when a probe may go.
    //= spec/packet-sender.md#probe-budget
    //# All associations of a process together MUST NOT send more than 2,000 probes a second that nobody asked for, and no
    //# more than 64 at once.
    pub fn take(&mut self, now: Instant) -> bool {
        self.saved = (self.saved + now.since(self.at)).min(SAVED_LONGEST);
        self.at = self.at.max(now);
        let price = Duration::from_secs(1) / PROBES_PER_SECOND;
        let passes = self.saved >= price;
        if passes {
            self.saved -= price;
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //= spec/packet-sender.md#probe-budget
    //= type=test
    //# All associations of a process together MUST NOT send more than 2,000 probes a second that nobody asked for, and no
    //# more than 64 at once.
    #[test]
    fn probes_are_limited_at_once_and_over_a_second() {
        let mut budget = ProbeBudget::default();
        let mut passed = |from_ms: u64, to_ms: u64| {
            let asked =
                (from_ms * 10..=to_ms * 10).flat_map(|tick| [Instant::from_nanos(tick * 100_000); 100]);
            asked.filter(|now| budget.take(*now)).count()
        };
        assert_eq!(passed(5000, 5000), 64);
        assert_eq!(passed(5000, 6000), PROBES_PER_SECOND as usize);
        assert_eq!(passed(9000, 9000), 64, "more is not saved up");
    }
}
