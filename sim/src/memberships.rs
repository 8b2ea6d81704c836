//! Which station was a member of which multicast group when.

use std::net::IpAddr;
use std::time::Duration;

use vlan_core::Instant;

use crate::checker::StationIndex;

/// How long after a join a frame may be accepted that has not to come: the word is on its way to the control node.
const SETTLE: Duration = Duration::from_millis(20);

/// One membership, from its join to its leave.
#[derive(Clone, Copy, Debug)]
struct Membership {
    station: StationIndex,
    group: IpAddr,
    from: Instant,
    until: Option<Instant>,
}

/// Every membership of a run.
#[derive(Debug, Default)]
pub struct Memberships(Vec<Membership>);

impl Memberships {
    /// A station's stack joins a group, unless it has.
    pub fn join(&mut self, now: Instant, station: StationIndex, group: IpAddr) {
        if !self.is_member(station, group) {
            self.0.push(Membership { station, group, from: now, until: None });
        }
    }

    /// A station's stack leaves a group.
    pub fn leave(&mut self, now: Instant, station: StationIndex, group: IpAddr) {
        self.end(now, |membership| (membership.station, membership.group) == (station, group));
    }

    /// A station's stack is gone, and its memberships with it.
    pub fn end_life(&mut self, now: Instant, station: StationIndex) {
        self.end(now, |membership| membership.station == station);
    }

    fn end(&mut self, now: Instant, is_it: impl Fn(&Membership) -> bool) {
        for membership in self.0.iter_mut().filter(|m| m.until.is_none() && is_it(m)) {
            membership.until = Some(now);
        }
    }

    /// True while the station is a member: only then may a frame come to it.
    #[must_use]
    pub fn is_member(&self, station: StationIndex, group: IpAddr) -> bool {
        self.0.iter().any(|m| (m.station, m.group, m.until) == (station, group, None))
    }

    /// True when a frame accepted at `accepted`, and under way for `dwell` at most, must come to the station.
    #[must_use]
    pub fn must_get(&self, station: StationIndex, group: IpAddr, accepted: Instant, dwell: Duration) -> bool {
        let of_both = self.0.iter().filter(|m| (m.station, m.group) == (station, group));
        let covers = |m: &Membership| {
            m.from + SETTLE <= accepted && m.until.is_none_or(|until| until > accepted + dwell)
        };
        of_both.into_iter().any(covers)
    }
}

/// What goes on now, or has ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spell {
    is_on: bool,
    ended: Option<Instant>,
}

impl Spell {
    /// It goes on from now on, or no more.
    pub fn set(&mut self, now: Instant, is_on: bool) {
        if self.is_on && !is_on {
            self.ended = Some(now);
        }
        self.is_on = is_on;
    }

    /// True when a frame of that moment may still have met it.
    #[must_use]
    pub fn has_met(&self, accepted: Instant) -> bool {
        self.is_on || self.ended.is_some_and(|ended| accepted <= ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_must_come_to_who_was_a_member_all_the_while() {
        let at = |millis: u64| Instant::from_nanos(millis * 1_000_000);
        let (one, group) = (StationIndex(1), "239.1.1.1".parse().unwrap());
        let mut memberships = Memberships::default();
        memberships.join(at(100), one, group);
        memberships.join(at(110), one, group);
        let must = |m: &Memberships, millis| m.must_get(one, group, at(millis), Duration::from_millis(50));
        assert!(memberships.is_member(one, group));
        assert_eq!([119, 120, 500].map(|millis| must(&memberships, millis)), [false, true, true]);
        memberships.leave(at(200), StationIndex(2), group);
        memberships.end_life(at(200), one);
        assert!(!memberships.is_member(one, group));
        assert_eq!([120, 149, 150].map(|millis| must(&memberships, millis)), [true, true, false]);
    }
}
