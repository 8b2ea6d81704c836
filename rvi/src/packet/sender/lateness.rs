//! When the host calls late, no leg is judged for what the host did not do (amendment 27).

use core::time::Duration;

use vlan_core::Instant;

/// A call this much behind its deadline is late: the host was not running, and packets may lie unread.
const LATE: Duration = Duration::from_millis(1);
/// Verdicts are shifted by this much at most ...
const SHIFT_LONGEST: Duration = Duration::from_millis(20);
/// ... in this time.
const SHIFT_PERIOD: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Default)]
pub(super) struct Lateness {
    /// No verdict from time alone before this.
    verdicts_from: Instant,
    period_end: Instant,
    shifted: Duration,
    /// When the host called last, and when it did before that.
    called_at: Instant,
    called_before: Instant,
    /// When the present round was due, before anything that it brings; until that was looked at.
    due: Option<Instant>,
}

impl Lateness {
    /// True for the first call of a round of the host: its calls of one round come at one time.
    pub(super) fn is_round(&self, now: Instant) -> bool {
        now > self.called_at
    }

    /// A round begins, for whatever the host has; the next verdict was `due`.
    pub(super) fn begin_round(&mut self, now: Instant, due: Option<Instant>) {
        (self.called_before, self.called_at, self.due) = (self.called_at, now, due);
    }

    /// Verdicts may be given now, in the present round.
    //= spec/packet-sender.md#late-calls
    //# A late call MUST shift only verdicts, by no more than it is late and by no more than 20 ms in a second.
    pub(super) fn judge_round(&mut self) {
        //= spec/packet-sender.md#moved-deadlines
        //# A call MUST count as late only by the deadline that stood after the host's round before, and by no more than the time
        //# since.
        let (now, Some(deadline)) = (self.called_at, self.due.take()) else { return };
        let overrun = now.since(deadline.max(self.called_before));
        if overrun < LATE {
            return;
        }
        if now >= self.period_end {
            (self.period_end, self.shifted) = (now + SHIFT_PERIOD, Duration::ZERO);
        }
        let shift = overrun.min(SHIFT_LONGEST - self.shifted);
        self.shifted += shift;
        self.verdicts_from = self.verdicts_from.max(now + shift);
    }

    /// `deadline`, or the end of the shift.
    pub(super) fn shift(&self, deadline: Instant) -> Instant {
        deadline.max(self.verdicts_from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    /// A round at `now`, before which the deadline stood at `due`.
    fn round(lateness: &mut Lateness, now: Instant, due: Instant) {
        assert!(lateness.is_round(now));
        lateness.begin_round(now, Some(due));
        assert!(!lateness.is_round(now));
        lateness.judge_round();
    }

    //= spec/packet-sender.md#late-calls
    //= type=test
    //# A late call MUST shift only verdicts, by no more than it is late and by no more than 20 ms in a second.
    #[test]
    fn verdicts_wait_as_long_as_the_call_was_late() {
        let mut lateness = Lateness::default();
        round(&mut lateness, at(100), at(100));
        assert_eq!(lateness.shift(at(90)), at(90));
        round(&mut lateness, at(105), at(100));
        assert_eq!(lateness.shift(at(90)), at(110));
        round(&mut lateness, at(300), at(200));
        assert_eq!(lateness.shift(at(300)), at(315), "5 + 15 ms");
        round(&mut lateness, at(400), at(390));
        assert_eq!(lateness.shift(at(400)), at(400), "nothing is left of the second");
        round(&mut lateness, at(1200), at(1190));
        assert_eq!(lateness.shift(at(1200)), at(1210));
    }

    //= spec/packet-sender.md#moved-deadlines
    //= type=test
    //# A call MUST count as late only by the deadline that stood after the host's round before, and by no more than the time
    //# since.
    #[test]
    fn a_deadline_that_has_moved_into_the_past_is_no_late_call() {
        let mut lateness = Lateness::default();
        round(&mut lateness, at(99), at(150));
        round(&mut lateness, at(101), at(60));
        assert_eq!(lateness.shift(at(101)), at(103), "the host had called 2 ms before");
        round(&mut lateness, at(101) + LATE / 2, at(60));
        assert_eq!(lateness.shift(at(101)), at(103), "and just now");
        lateness.judge_round();
        assert_eq!(lateness.shift(at(101)), at(103), "a round is late once");
    }
}
