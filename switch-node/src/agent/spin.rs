//! How long the pump looks for work before it sleeps: long enough that an answer that is on its way is met awake,
//! short enough that an idle node costs nothing.

use std::time::Duration;

use vlan_core::Instant;

/// The longest spin. Sleeping and being woken costs the pair 6 to 14 us on the machines measured, so beyond this a
/// spin costs more than it can save.
const SPIN_MAX: Duration = Duration::from_micros(20);
/// The shortest spin worth while: a few looks at the rings.
const SPIN_MIN: Duration = Duration::from_micros(2);
/// After a pause of this length one full spin is affordable: it is at most 2 % of it.
const PAUSE: Duration = Duration::from_millis(1);

/// Decides between spinning and sleeping by how long the last pauses in the work were.
#[derive(Clone, Debug)]
pub(super) struct Spin {
    budget: Duration,
    idle_since: Option<Instant>,
}

impl Default for Spin {
    fn default() -> Self {
        Self { budget: SPIN_MAX, idle_since: None }
    }
}

impl Spin {
    /// There was work at `now`: the pause, if there was one, is over.
    pub fn handle_work(&mut self, now: Instant) {
        let Some(since) = self.idle_since.take() else { return };
        let pause = now.since(since);
        self.budget = if pause <= SPIN_MAX {
            (self.budget * 2).clamp(SPIN_MIN, SPIN_MAX)
        } else if pause >= PAUSE {
            SPIN_MAX
        } else if self.budget > SPIN_MIN {
            // Work comes, but too late for a spin: others can use this core better.
            self.budget / 2
        } else {
            Duration::ZERO
        };
    }

    /// There is no work at `now`: true to look again at once, false to sleep.
    pub fn is_worthwhile(&mut self, now: Instant) -> bool {
        let since = *self.idle_since.get_or_insert(now);
        now.since(since) < self.budget
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn after_work_it_spins_and_then_sleeps() {
        let mut spin = Spin::default();
        spin.handle_work(at(0));
        assert!(spin.is_worthwhile(at(0)));
        assert!(spin.is_worthwhile(at(19_000)));
        assert!(!spin.is_worthwhile(at(20_000)));
    }

    #[test]
    fn pauses_just_too_long_for_a_spin_end_spinning_and_short_ones_bring_it_back() {
        let mut spin = Spin::default();
        let mut now = 0;
        for _ in 0..6 {
            spin.is_worthwhile(at(now));
            now += 100_000;
            spin.handle_work(at(now));
        }
        assert!(!spin.is_worthwhile(at(now)));
        now += 5_000;
        spin.handle_work(at(now));
        assert!(spin.is_worthwhile(at(now)));
    }

    #[test]
    fn after_a_long_pause_one_full_spin_is_affordable() {
        let mut spin = Spin { budget: Duration::ZERO, idle_since: None };
        assert!(!spin.is_worthwhile(at(0)));
        spin.handle_work(at(2_000_000));
        assert!(spin.is_worthwhile(at(2_000_000)));
        assert!(spin.is_worthwhile(at(2_019_999)));
    }
}
