//! The clock of one end: it runs a little fast or slow against the true time of the simulation.

use std::time::Duration;

use vlan_core::Instant;

/// A monotonic clock with a rate error; the error may change while it runs.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    ppm: i32,
    true_base: Instant,
    local_base: Instant,
}

impl Clock {
    /// A clock that shows `shows` at the start of the simulation and gains `ppm` microseconds a second.
    #[must_use]
    pub const fn new(shows: Instant, ppm: i32) -> Self {
        Self { ppm, true_base: Instant::ZERO, local_base: shows }
    }

    /// What it shows at the true time `at`.
    #[must_use]
    pub fn local(&self, at: Instant) -> Instant {
        let elapsed = at.since(self.true_base).as_nanos() as i128;
        let gained = (elapsed * i128::from(self.ppm)).div_euclid(1_000_000);
        self.local_base + Duration::from_nanos((elapsed + gained) as u64)
    }

    /// The first true time at which it shows `local` or more.
    #[must_use]
    pub fn true_time(&self, local: Instant) -> Instant {
        let wanted = local.since(self.local_base).as_nanos() as i128;
        let elapsed = wanted * 1_000_000 / (1_000_000 + i128::from(self.ppm));
        let mut at = self.true_base + Duration::from_nanos(elapsed as u64);
        while self.local(at) < local {
            at = at + Duration::from_nanos(1);
        }
        at
    }

    /// From the true time `at` on it gains `ppm`; it does not jump.
    pub fn set_rate(&mut self, at: Instant, ppm: i32) {
        *self = Self { ppm, true_base: at, local_base: self.local(at) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_gains_and_its_deadlines_come_early_in_true_time() {
        let clock = Clock::new(Instant::from_nanos(1 << 40), 500);
        let second = Instant::from_nanos(1_000_000_000);
        assert_eq!(clock.local(second).as_nanos() - (1 << 40), 1_000_500_000);
        let due = Instant::from_nanos((1 << 40) + 1_000_000_000);
        assert!(clock.true_time(due) < second);
    }

    #[test]
    fn a_deadline_is_due_at_its_true_time_and_not_a_nanosecond_before() {
        for ppm in [-500, -1, 0, 3, 500] {
            let mut clock = Clock::new(Instant::from_nanos(77), ppm);
            clock.set_rate(Instant::from_nanos(123_456), -ppm / 2);
            for local in [123_999, 1_000_000, 987_654_321] {
                let local = Instant::from_nanos(local);
                let at = clock.true_time(local);
                assert!(clock.local(at) >= local);
                assert!(clock.local(Instant::from_nanos(at.as_nanos() - 1)) < local, "{ppm}");
            }
        }
    }
}
