//! Which legs a message may go by.

use vlan_core::Instant;

use crate::packet::wire::PacketLeg;

use super::leg::Leg;
use super::types::{PacketLegState, PacketScheduler};

pub(super) type Legs = [Option<alloc::boxed::Box<Leg>>; PacketLeg::COUNT];

/// A set of legs, by their index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LegSet(u8);

impl LegSet {
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn has(self, index: usize) -> bool {
        self.0 & 1 << index != 0
    }

    pub(super) fn without(self, index: usize) -> Self {
        Self(self.0 & !(1 << index))
    }

    fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The lowest leg.
    fn lowest(self) -> Self {
        Self(self.0 & self.0.wrapping_neg())
    }

    /// The two lowest legs.
    pub(super) fn pair(self) -> Self {
        let rest = Self(self.0 & !self.lowest().0);
        Self(self.lowest().0 | rest.lowest().0)
    }

    /// The leg at place `n` of the set, counted around.
    fn nth(self, n: usize) -> Self {
        let mut rest = self;
        for _ in 0..n % self.len().max(1) {
            rest = Self(rest.0 & !rest.lowest().0);
        }
        rest.lowest()
    }

    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        (0..PacketLeg::COUNT).filter(move |index| self.has(*index))
    }
}

fn set_of(legs: &Legs, mut wanted: impl FnMut(&Leg) -> bool) -> LegSet {
    let bit = |(index, leg): (usize, &Option<_>)| u8::from(leg.as_deref().is_some_and(&mut wanted)) << index;
    LegSet(legs.iter().enumerate().map(bit).fold(0, |set, bit| set | bit))
}

/// The legs that messages may go by. With `is_silent` no direct leg answers, and relay legs serve.
//= spec/packet-sender.md#choice-of-legs
//# With no good leg a sender MUST use the best of those that answered within the last 10 ms, and all when none did.
pub(super) fn usable(legs: &Legs, now: Instant, is_silent: bool) -> LegSet {
    let direct = set_of(legs, |leg| !leg.leg.is_relay());
    let relays = set_of(legs, |leg| leg.leg.is_relay());
    let relayed = direct.is_empty() || (is_silent && !relays.is_empty());
    let among = |leg: &Leg| leg.leg.is_relay() == relayed;
    let good = set_of(legs, |leg| among(leg) && leg.health.state() == PacketLegState::Good);
    if !good.is_empty() {
        return good;
    }
    let answered = set_of(legs, |leg| among(leg) && leg.health.has_answered(now));
    best(legs, answered, |leg| (u64::from(leg.health.score()), leg.rtt.smoothed())).unwrap_or(if relayed {
        relays
    } else {
        direct
    })
}

/// The leg of `set` with the least of something.
fn best<K: Ord>(legs: &Legs, set: LegSet, key: impl Fn(&Leg) -> K) -> Option<LegSet> {
    let of = |index: &usize| legs[*index].as_deref().map(&key);
    set.iter().min_by_key(of).map(|index| LegSet(1 << index))
}

/// The leg of `set` with the shortest round trip.
pub(super) fn fastest(legs: &Legs, set: LegSet) -> Option<usize> {
    best(legs, set, |leg| leg.rtt.smoothed()).and_then(|one| one.iter().next())
}

impl PacketScheduler {
    /// The legs of `good` that a message of `lane` goes by; `turn` counts messages.
    //= spec/packet-sender.md#schedulers
    //# With the scheduler `lane` all messages of a lane MUST go by one leg while the set of good legs stays the same.
    pub(super) fn choose(self, good: LegSet, lane: u16, turn: usize) -> LegSet {
        match self {
            Self::Lane => good.nth(usize::from(lane)),
            Self::Alternate => good.nth(turn),
            Self::Failover => good.lowest(),
            Self::Both => good,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //= spec/packet-sender.md#schedulers
    //= type=test
    //# With the scheduler `lane` all messages of a lane MUST go by one leg while the set of good legs stays the same.
    #[test]
    fn each_scheduler_spreads_in_its_own_way() {
        let good = LegSet(0b1011);
        for turn in 0..6 {
            assert_eq!(PacketScheduler::Lane.choose(good, 4, turn), LegSet(0b0010));
            assert_eq!(PacketScheduler::Failover.choose(good, 4, turn), LegSet(0b0001));
            assert_eq!(PacketScheduler::Both.choose(good, 4, turn), good);
            let expected = [0b0001, 0b0010, 0b1000][turn % 3];
            assert_eq!(PacketScheduler::Alternate.choose(good, 4, turn), LegSet(expected));
        }
        let lanes = |lane| PacketScheduler::Lane.choose(good, lane, 0);
        assert_eq!([lanes(0), lanes(1), lanes(2), lanes(3)].map(|l| l.0), [1, 2, 8, 1]);
    }

    #[test]
    fn a_set_of_no_legs_chooses_none() {
        assert_eq!(PacketScheduler::Lane.choose(LegSet(0), 4, 1), LegSet(0));
        assert_eq!(LegSet(0b1110).pair(), LegSet(0b0110));
        assert!(LegSet(0b10).without(1).is_empty());
    }
}
