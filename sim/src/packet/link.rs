//! One direction of one leg: what the network does to a packet on its way.
//!
//! A packet waits behind those before it (a bounded queue at a given rate), travels for the base delay and a
//! jitter that keeps order, and may be lost (independently or in bursts), corrupted, doubled, or held back so
//! that later ones overtake it. Faults lie over the base conditions and are taken away again.

use std::time::Duration;

use vlan_core::Instant;
use vlan_core::random::Random;

use super::chance::{Ppm, exponential};

/// Outages that come and go by themselves: the model of Gilbert and Elliott in continuous time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bursts {
    /// Mean time between two outages.
    pub good: Duration,
    /// Mean length of an outage.
    pub bad: Duration,
    /// Loss within an outage.
    pub loss: Ppm,
}

impl Bursts {
    /// True when all outages together take at most a twentieth of the time, a tenth of a millisecond each.
    #[must_use]
    pub fn is_short(self) -> bool {
        self.good >= self.bad * 19 && self.bad <= Duration::from_micros(100)
    }
}

/// What a direction of a leg is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// The time that each packet takes.
    pub delay: Duration,
    /// Up to so much more, at random; order is kept.
    pub jitter: Duration,
    /// Octets a second, and octets that wait for room at most; none for a link that is never full.
    pub rate: Option<(u64, u64)>,
    /// Independent loss.
    pub loss: Ppm,
    /// Loss in bursts.
    pub bursts: Option<Bursts>,
    /// Bits turned over.
    pub corruption: Ppm,
    /// Packets that arrive twice, the copy up to ten delays later.
    pub duplication: Ppm,
    /// Packets that are held back, and for how long: later ones overtake them.
    pub reordering: (Ppm, Duration),
    /// Octets of the longest packet that passes.
    pub packet_len_max: usize,
    /// Nothing passes.
    pub is_dead: bool,
}

impl Conditions {
    /// A short way without faults.
    #[must_use]
    pub const fn calm(delay: Duration) -> Self {
        Self {
            delay,
            jitter: Duration::ZERO,
            rate: None,
            loss: Ppm(0),
            bursts: None,
            corruption: Ppm(0),
            duplication: Ppm(0),
            reordering: (Ppm(0), Duration::ZERO),
            packet_len_max: usize::MAX,
            is_dead: false,
        }
    }

    /// The same with independent loss of so many percent.
    #[must_use]
    pub const fn with_loss(mut self, percent: u32) -> Self {
        self.loss = Ppm::percent(percent);
        self
    }

    /// The same with jitter.
    #[must_use]
    pub const fn with_jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// True when at least 95 of 100 packets of up to `len` octets pass soon: what the promise of delivery asks.
    #[must_use]
    pub fn is_able(&self, len: usize) -> bool {
        !self.is_dead
            && self.bursts.is_none_or(Bursts::is_short)
            && self.loss.or(self.corruption) <= Ppm::percent(5)
            && self.packet_len_max >= len
            && self.delay <= Duration::from_millis(1)
    }
}

/// A fault that lies over a link's base conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlay {
    /// More independent loss.
    Loss(Ppm),
    /// Loss in bursts.
    Bursts(Bursts),
    /// More corruption.
    Corruption(Ppm),
    /// More duplication.
    Duplication(Ppm),
    /// Packets overtaken by later ones.
    Reordering(Ppm, Duration),
    /// Each packet takes longer.
    Delay(Duration),
    /// Order is kept, the distance between packets is not.
    Jitter(Duration),
    /// Nothing passes.
    Dead,
    /// Longer packets do not pass.
    LenMax(usize),
}

impl Overlay {
    fn apply(self, on: &mut Conditions) {
        match self {
            Self::Loss(ppm) => on.loss = on.loss.or(ppm),
            Self::Bursts(bursts) => on.bursts = Some(bursts),
            Self::Corruption(ppm) => on.corruption = on.corruption.or(ppm),
            Self::Duplication(ppm) => on.duplication = on.duplication.or(ppm),
            Self::Reordering(ppm, by) => on.reordering = (on.reordering.0.or(ppm), on.reordering.1.max(by)),
            Self::Delay(more) => on.delay += more,
            Self::Jitter(more) => on.jitter += more,
            Self::Dead => on.is_dead = true,
            Self::LenMax(len) => on.packet_len_max = on.packet_len_max.min(len),
        }
    }
}

/// Names an overlay, to take it away again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OverlayId(pub u64);

/// What became of the packets of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounts {
    /// Handed to the link.
    pub sent: u64,
    /// Lost, for whatever reason.
    pub lost: u64,
    /// Of the lost: no room in the queue.
    pub overflow: u64,
    /// Of the lost: too long.
    pub too_long: u64,
    /// Arrived with bits turned over.
    pub corrupted: u64,
    /// Arrived a second time.
    pub duplicated: u64,
    /// Held back.
    pub reordered: u64,
}

impl LinkCounts {
    /// Adds what happened on another link.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.lost += other.lost;
        self.overflow += other.overflow;
        self.too_long += other.too_long;
        self.corrupted += other.corrupted;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
    }
}

/// When a packet arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The true time.
    pub at: Instant,
    /// Bits of it are turned over.
    pub is_corrupt: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Link {
    base: Conditions,
    overlays: Vec<(OverlayId, Overlay)>,
    effective: Conditions,
    random: Random,
    /// Within an outage, and until when this state lasts. It starts at the end of one.
    outage: (bool, Instant),
    /// When the queue is empty.
    free_at: Instant,
    /// No packet that keeps order arrives before this.
    last_arrival: Instant,
    /// What happened so far.
    pub counts: LinkCounts,
}

impl Link {
    /// A link whose fate is drawn from `seed` alone.
    #[must_use]
    pub fn new(base: Conditions, seed: u64) -> Self {
        Self {
            base,
            overlays: Vec::new(),
            effective: base,
            random: Random::new(seed),
            outage: (true, Instant::ZERO),
            free_at: Instant::ZERO,
            last_arrival: Instant::ZERO,
            counts: LinkCounts::default(),
        }
    }

    /// What it is like now, with all faults.
    #[must_use]
    pub const fn conditions(&self) -> &Conditions {
        &self.effective
    }

    /// A fault begins.
    pub fn lay(&mut self, id: OverlayId, overlay: Overlay) {
        self.overlays.push((id, overlay));
        self.recompute();
    }

    /// A fault ends.
    pub fn lift(&mut self, id: OverlayId) {
        self.overlays.retain(|(other, _)| *other != id);
        self.recompute();
    }

    /// All faults end.
    pub fn heal(&mut self) {
        self.overlays.clear();
        self.recompute();
    }

    fn recompute(&mut self) {
        self.effective = self.base;
        for (_, overlay) in &self.overlays {
            overlay.apply(&mut self.effective);
        }
    }

    /// Takes a packet of `len` octets at `now` and says when it arrives, and when its copy does.
    pub fn carry(&mut self, now: Instant, len: usize) -> (Option<Arrival>, Option<Arrival>) {
        self.counts.sent += 1;
        let Some(left) = self.leave(now, len) else {
            self.counts.lost += 1;
            return (None, None);
        };
        if self.is_lost(now) {
            self.counts.lost += 1;
            return (None, None);
        }
        let is_corrupt = self.effective.corruption.happens(&mut self.random);
        self.counts.corrupted += u64::from(is_corrupt);
        let first = Arrival { at: self.arrival(left), is_corrupt };
        (Some(first), self.copy_of(first))
    }

    /// When the packet has left the queue; nothing when it does not get into it.
    fn leave(&mut self, now: Instant, len: usize) -> Option<Instant> {
        if len > self.effective.packet_len_max {
            self.counts.too_long += 1;
            return None;
        }
        let Some((rate, queue)) = self.effective.rate else { return Some(now) };
        let waiting = self.free_at.since(now).as_nanos() * u128::from(rate) / 1_000_000_000;
        if waiting + len as u128 > u128::from(queue) {
            self.counts.overflow += 1;
            return None;
        }
        let sending = Duration::from_nanos(len as u64 * 1_000_000_000 / rate);
        self.free_at = self.free_at.max(now) + sending;
        Some(self.free_at)
    }

    fn is_lost(&mut self, now: Instant) -> bool {
        let burst = self.effective.bursts.is_some_and(|bursts| {
            self.advance_outage(now, bursts);
            self.outage.0 && bursts.loss.happens(&mut self.random)
        });
        // Drawn in any case, so that a fault on one packet changes nothing for the next.
        let single = self.effective.loss.happens(&mut self.random);
        self.effective.is_dead || burst || single
    }

    fn advance_outage(&mut self, now: Instant, bursts: Bursts) {
        while self.outage.1 <= now {
            let is_bad = !self.outage.0;
            let mean = if is_bad { bursts.bad } else { bursts.good };
            // A link that had no bursts for long does not catch up with all that it missed.
            let from =
                if now.since(self.outage.1) > (bursts.good + bursts.bad) * 64 { now } else { self.outage.1 };
            let length = exponential(&mut self.random, mean).max(Duration::from_nanos(1));
            self.outage = (is_bad, from + length);
        }
    }

    fn arrival(&mut self, left: Instant) -> Instant {
        let jitter = self.effective.jitter.as_nanos() as u64;
        let jitter = if jitter == 0 { 0 } else { self.random.below(jitter + 1) };
        let at = left + self.effective.delay + Duration::from_nanos(jitter);
        let (ppm, by) = self.effective.reordering;
        if ppm.happens(&mut self.random) {
            self.counts.reordered += 1;
            return at.max(self.last_arrival) + by;
        }
        self.last_arrival = self.last_arrival.max(at);
        self.last_arrival
    }

    fn copy_of(&mut self, first: Arrival) -> Option<Arrival> {
        if !self.effective.duplication.happens(&mut self.random) {
            return None;
        }
        self.counts.duplicated += 1;
        let later = self.random.below(10 * self.effective.delay.as_nanos() as u64 + 1);
        Some(Arrival { at: first.at + Duration::from_nanos(later), is_corrupt: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    fn send(link: &mut Link, count: u64) -> Vec<Option<Instant>> {
        (0..count).map(|n| link.carry(Instant::from_nanos(n * 10_000), 1000).0.map(|a| a.at)).collect()
    }

    #[test]
    fn a_calm_link_delays_and_keeps_order_with_jitter() {
        let mut link = Link::new(Conditions::calm(US * 10).with_jitter(US * 50), 1);
        let arrivals: Vec<_> = send(&mut link, 1000).into_iter().map(|a| a.unwrap()).collect();
        assert!(arrivals.is_sorted() && arrivals[0] >= Instant::from_nanos(10_000));
    }

    #[test]
    fn losses_have_their_rate_and_death_is_certain_until_it_is_lifted() {
        let mut link = Link::new(Conditions::calm(US).with_loss(5), 2);
        let lost = send(&mut link, 100_000).iter().filter(|a| a.is_none()).count();
        assert!((4_700..5_300).contains(&lost), "{lost}");
        link.lay(OverlayId(1), Overlay::Dead);
        assert!(send(&mut link, 100).iter().all(Option::is_none));
        link.lift(OverlayId(1));
        assert!(send(&mut link, 100).iter().any(Option::is_some));
    }

    #[test]
    fn bursts_take_their_share_and_come_in_runs() {
        let mut calm = Conditions::calm(US);
        calm.bursts = Some(Bursts { good: US * 1900, bad: US * 100, loss: Ppm::ALL });
        let mut link = Link::new(calm, 3);
        let lost: Vec<bool> = send(&mut link, 200_000).iter().map(Option::is_none).collect();
        let share = lost.iter().filter(|l| **l).count();
        assert!((8_000..12_000).contains(&share), "{share}");
        let runs = lost.windows(2).filter(|w| !w[0] && w[1]).count();
        assert!(share / runs > 6, "about ten packets to an outage: {share} in {runs}");
    }

    #[test]
    fn a_full_queue_drops_and_a_rate_spaces_packets() {
        let mut calm = Conditions::calm(US);
        calm.rate = Some((1_000_000_000, 3000));
        let mut link = Link::new(calm, 4);
        let now = Instant::from_nanos(0);
        let arrivals: Vec<_> = (0..5).map(|_| link.carry(now, 1000).0.map(|a| a.at.as_nanos())).collect();
        assert_eq!(arrivals, [Some(2000), Some(3000), Some(4000), None, None]);
        assert_eq!((link.counts.overflow, link.counts.lost), (2, 2));
    }

    #[test]
    fn held_back_packets_are_overtaken_and_copies_come_later() {
        let mut calm = Conditions::calm(US * 10);
        calm.reordering = (Ppm::percent(10), US * 100);
        calm.duplication = Ppm::percent(10);
        let mut link = Link::new(calm, 5);
        let arrivals = send(&mut link, 1000);
        assert!(!arrivals.is_sorted());
        assert!(link.counts.reordered > 50 && link.counts.duplicated > 50);
    }
}
