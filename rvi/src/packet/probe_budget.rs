//! How many probes a process sends that nobody asked for, over all of its associations.

use core::time::Duration;

use vlan_core::Instant;

/// Probes a second, in all (amendment 28).
pub const PROBES_PER_SECOND: u32 = 2000;
/// What may be saved up, in time of filling: 20 probes.
const SAVED_LONGEST: Duration = Duration::from_millis(10);

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
    //# All associations of a process together MUST NOT send more than 2,000 probes a second that nobody asked for.
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
    //# All associations of a process together MUST NOT send more than 2,000 probes a second that nobody asked for.
    #[test]
    fn probes_are_limited_over_any_second() {
        let mut budget = ProbeBudget::default();
        let mut passed = 0;
        for micros in 0..1_000_000 {
            passed += u32::from(budget.take(Instant::from_nanos(micros * 1000)));
        }
        assert!((PROBES_PER_SECOND - 1..=PROBES_PER_SECOND + 20).contains(&passed), "{passed}");
    }
}
