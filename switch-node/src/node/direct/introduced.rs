//! Legs of shared memory that a control node has introduced both ends for: when one has been missing for a while, it is told.

use alloc::vec::Vec;
use core::time::Duration;

use vlan_core::{Instant, LegNumber};

/// So long a leg may be missing: a set-up has two seconds.
const MISSING_MAX: Duration = Duration::from_secs(3);
/// The longest time between two words about it.
const MISSING_LONGEST: Duration = Duration::from_secs(24);

/// One of them.
#[derive(Clone, Copy, Debug)]
struct Introduced {
    leg: LegNumber,
    /// When is looked whether it is there.
    look_at: Option<Instant>,
    /// How long it may be missing now.
    wait: Duration,
    up_since: Instant,
}

/// Those of one association.
#[derive(Clone, Debug, Default)]
pub(super) struct IntroducedLegs(Vec<Introduced>);

impl IntroducedLegs {
    /// The control node has introduced both ends for `leg`, perhaps once more.
    pub fn add(&mut self, now: Instant, leg: LegNumber) {
        match self.find(leg) {
            Some(known) => known.look_at = Some(now + known.wait),
            None => self.0.push(Introduced {
                leg,
                look_at: Some(now + MISSING_MAX),
                wait: MISSING_MAX,
                up_since: now,
            }),
        }
    }

    /// The leg is cut, or other legs are in its place.
    pub fn withdraw(&mut self, leg: LegNumber) {
        self.0.retain(|introduced| introduced.leg != leg);
    }

    /// It is there.
    pub fn handle_up(&mut self, now: Instant, leg: LegNumber) {
        if let Some(introduced) = self.find(leg) {
            (introduced.look_at, introduced.up_since) = (None, now);
        }
    }

    /// It is there no more.
    pub fn handle_gone(&mut self, now: Instant, leg: LegNumber) {
        if let Some(introduced) = self.find(leg) {
            if now.since(introduced.up_since) >= MISSING_LONGEST {
                introduced.wait = MISSING_MAX;
            }
            introduced.look_at = Some(now + introduced.wait);
        }
    }

    /// The next leg whose time has come and that `is_up` does not have; it is asked for again after twice the time.
    //= spec/driver.md#missing-legs
    //# A node MUST tell its control node of a leg of shared memory that was introduced and has been missing for three seconds, and
    //# again after twice the time, up to 24 s, while it stays so.
    pub fn next_missing(&mut self, now: Instant, is_up: impl Fn(LegNumber) -> bool) -> Option<LegNumber> {
        for introduced in self.0.iter_mut().filter(|one| one.look_at.is_some_and(|at| at <= now)) {
            if is_up(introduced.leg) {
                introduced.look_at = None;
                continue;
            }
            introduced.look_at = Some(now + introduced.wait);
            introduced.wait = (introduced.wait * 2).min(MISSING_LONGEST);
            return Some(introduced.leg);
        }
        None
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.0.iter().filter_map(|introduced| introduced.look_at).min()
    }

    fn find(&mut self, leg: LegNumber) -> Option<&mut Introduced> {
        self.0.iter_mut().find(|introduced| introduced.leg == leg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEG: LegNumber = LegNumber(1);

    /// When it is told of, in seconds, while the leg stays away.
    fn words(legs: &mut IntroducedLegs, seconds: core::ops::Range<u64>) -> Vec<u64> {
        seconds.filter(|&s| legs.next_missing(at(s), |_| false).is_some()).collect()
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    //= spec/driver.md#missing-legs
    //= type=test
    //# A node MUST tell its control node of a leg of shared memory that was introduced and has been missing for three seconds, and
    //# again after twice the time, up to 24 s, while it stays so.
    #[test]
    fn a_missing_leg_is_told_of_less_and_less_often() {
        let mut legs = IntroducedLegs::default();
        assert_eq!(legs.poll_timeout(), None);
        legs.add(at(0), LEG);
        assert_eq!(legs.poll_timeout(), Some(at(3)));
        assert_eq!(words(&mut legs, 0..100), [3, 6, 12, 24, 48, 72, 96]);
        // What was introduced again is waited for as long.
        legs.add(at(100), LEG);
        assert_eq!(words(&mut legs, 100..130), [124]);
    }

    #[test]
    fn one_that_is_there_is_not_told_of_and_one_that_is_there_for_a_moment_is_no_news() {
        let mut legs = IntroducedLegs::default();
        legs.add(at(0), LEG);
        assert_eq!(legs.next_missing(at(3), |leg| leg == LEG), None);
        assert_eq!(legs.poll_timeout(), None);
        legs.handle_gone(at(10), LEG);
        assert_eq!(words(&mut legs, 10..20), [13, 16]);
        legs.handle_up(at(20), LEG);
        assert_eq!(legs.poll_timeout(), None);
        legs.handle_gone(at(22), LEG);
        assert_eq!(words(&mut legs, 22..40), [34]);
        legs.handle_up(at(40), LEG);
        legs.handle_gone(at(64), LEG);
        assert_eq!(words(&mut legs, 64..70), [67], "it was there for long");
        legs.withdraw(LEG);
        assert_eq!(legs.poll_timeout(), None);
        legs.handle_gone(at(100), LEG);
        assert!(words(&mut legs, 100..200).is_empty(), "cut");
    }
}
