//! Whether the pump looks for work before it sleeps: only when what it did last has been answered soon the last times,
//! so that an answer that is on its way is met awake, and an idle node costs nothing.

use std::time::Duration;

use vlan_core::Instant;

/// The longest spin: a peer on another core is woken, works and answers within this on the machines measured (a wake-up
/// across cores takes 6 to 30 us there). Beyond it a spin costs more than it can save.
const SPIN_MAX: Duration = Duration::from_micros(60);
/// A spin is tried when at least this many of the last answers, less the late ones, came in time.
const CONFIDENT: u8 = 2;
/// Answers remembered at most: as many late ones end the spinning.
const CONFIDENCE_MAX: u8 = 4;

/// What the pump did last. What follows it comes from different places, after different times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Did {
    /// Sent frames into the fabric: a peer may answer.
    #[default]
    Sent,
    /// Gave frames to a stack: an application may answer, and needs a core for it.
    Delivered,
}

/// Decides between spinning and sleeping by how soon work came again the last times.
#[derive(Clone, Debug, Default)]
pub(super) struct Spin {
    last: Did,
    idle_since: Option<Instant>,
    confidence: [u8; 2],
}

impl Spin {
    /// There was work at `now`: the pause, if there was one, is over.
    pub fn handle_work(&mut self, now: Instant, did: Did) {
        if let Some(since) = self.idle_since.take() {
            let confidence = &mut self.confidence[self.last as usize];
            *confidence = if now.since(since) <= SPIN_MAX {
                (*confidence + 1).min(CONFIDENCE_MAX)
            } else {
                confidence.saturating_sub(1)
            };
        }
        self.last = did;
    }

    /// There is no work at `now`: true to look again at once, false to sleep.
    pub fn is_worthwhile(&mut self, now: Instant) -> bool {
        let since = *self.idle_since.get_or_insert(now);
        self.confidence[self.last as usize] >= CONFIDENT && now.since(since) < SPIN_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Instant {
        Instant::from_nanos(micros * 1000)
    }

    /// Does something at `from`, is idle, and has work again at `to`.
    fn pause(spin: &mut Spin, did: Did, from: u64, to: u64) {
        spin.handle_work(at(from), did);
        spin.is_worthwhile(at(from));
        spin.handle_work(at(to), did);
    }

    #[test]
    fn it_spins_once_answers_have_come_soon_and_not_before() {
        let mut spin = Spin::default();
        spin.handle_work(at(0), Did::Sent);
        assert!(!spin.is_worthwhile(at(0)));
        pause(&mut spin, Did::Sent, 0, 40);
        pause(&mut spin, Did::Sent, 100, 140);
        assert!(spin.is_worthwhile(at(200)));
        assert!(spin.is_worthwhile(at(259)));
        assert!(!spin.is_worthwhile(at(260)));
    }

    #[test]
    fn late_answers_end_it() {
        let mut spin = Spin::default();
        for n in 0..10 {
            pause(&mut spin, Did::Sent, n * 100, n * 100 + 40);
        }
        for n in 0..3 {
            pause(&mut spin, Did::Sent, 10_000 * (n + 1), 10_000 * (n + 1) + 2_000);
        }
        assert!(!spin.is_worthwhile(at(90_000)));
    }

    #[test]
    fn what_follows_a_delivery_says_nothing_about_what_follows_a_send() {
        let mut spin = Spin::default();
        let mut now = 0;
        for _ in 0..8 {
            // A request is answered after 40 us; the application's next one comes 2 ms after that.
            spin.handle_work(at(now), Did::Sent);
            spin.is_worthwhile(at(now));
            spin.handle_work(at(now + 40), Did::Delivered);
            spin.is_worthwhile(at(now + 40));
            now += 2_040;
        }
        assert!(!spin.is_worthwhile(at(now)));
        spin.handle_work(at(now), Did::Sent);
        assert!(spin.is_worthwhile(at(now)));
    }
}
