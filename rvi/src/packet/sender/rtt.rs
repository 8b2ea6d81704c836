//! Round-trip time of a leg, and the waits that follow from it (RFC 9002, section 5, cut for a data centre).

use core::time::Duration;

use vlan_core::Instant;

/// The base is the least of this long, at least, and of twice as long at most.
const BASE_WINDOW: Duration = Duration::from_secs(5);

/// A sample tells of the path for this many PTOs.
const SAMPLE_PTOS: u32 = 4;

/// How long a host lets packets and acks lie: the granularity of every wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitPolicy {
    /// A thread looks at the sockets all the time.
    Poll,
    /// The host sleeps until the kernel wakes it.
    #[default]
    Interrupt,
}

impl WaitPolicy {
    /// Shortest wait that means anything, in nanoseconds.
    const fn granularity_ns(self) -> u64 {
        match self {
            Self::Poll => 10_000,
            Self::Interrupt => 200_000,
        }
    }

    /// How long a peer keeps an ack back, in nanoseconds.
    const fn ack_delay_ns(self) -> u64 {
        match self {
            Self::Poll => 20_000,
            Self::Interrupt => 200_000,
        }
    }

    /// What a round trip is taken for before there is a sample, in nanoseconds.
    const fn initial_ns(self) -> u64 {
        match self {
            Self::Poll => 200_000,
            Self::Interrupt => 1_000_000,
        }
    }
}

/// Estimates of one leg, in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct Rtt {
    policy: WaitPolicy,
    latest: u64,
    smoothed: u64,
    variation: u64,
    /// How long the peer keeps acks back, and what that varies by.
    delay: u64,
    delay_variation: u64,
    /// Least sample of the present and of the last window.
    least: [u64; 2],
    window_end: Instant,
    has_sample: bool,
    sampled_at: Instant,
}

impl Rtt {
    pub(super) fn new(policy: WaitPolicy) -> Self {
        let initial = policy.initial_ns();
        Self {
            policy,
            latest: initial,
            smoothed: initial,
            variation: initial / 2,
            delay: 0,
            delay_variation: 0,
            least: [u64::MAX; 2],
            window_end: Instant::ZERO,
            has_sample: false,
            sampled_at: Instant::ZERO,
        }
    }

    /// Takes a sample: a packet sent at `sent_at` is known at `now` to have arrived, and the peer says that it kept
    /// the ack back for `ack_delay`.
    pub(super) fn sample(&mut self, now: Instant, sent_at: Instant, ack_delay: Duration) {
        let raw = now.as_nanos().saturating_sub(sent_at.as_nanos()).max(1);
        self.note_least(now, raw);
        // The delay is the time since arrival, however many acks were lost in it. One that would make the trip shorter
        // than any is not believed.
        let delay = ack_delay.as_nanos() as u64;
        let adjusted = if raw >= self.base().saturating_add(delay) { raw - delay } else { raw };
        (self.latest, self.sampled_at) = (adjusted, now);
        self.note_delay(raw - adjusted);
        if !self.has_sample {
            // Nothing is known yet that the delay could be measured by: this one stands as it is (RFC 9002, 5.3).
            self.has_sample = true;
            (self.smoothed, self.variation) = (adjusted, adjusted / 2);
            return;
        }
        let deviation = self.smoothed.abs_diff(adjusted);
        self.variation = (3 * self.variation + deviation) / 4;
        self.smoothed = (7 * self.smoothed + adjusted) / 8;
    }

    /// A peer may keep acks back for longer than our own policy would: a PTO that is shorter than that would send again
    /// for ever what is there.
    fn note_delay(&mut self, delay: u64) {
        let deviation = self.delay.abs_diff(delay);
        self.delay_variation = (3 * self.delay_variation + deviation) / 4;
        self.delay = (7 * self.delay + delay) / 8;
    }

    fn note_least(&mut self, now: Instant, raw: u64) {
        if now >= self.window_end {
            self.window_end = now + BASE_WINDOW;
            self.least = [raw, self.least[0]];
        }
        self.least[0] = self.least[0].min(raw);
    }

    /// The least round trip of late: what the path takes when nothing waits in it.
    pub(super) fn base(&self) -> u64 {
        self.least[0].min(self.least[1])
    }

    pub(super) fn smoothed(&self) -> u64 {
        self.smoothed
    }

    /// True while packets wait somewhere on the path: the latest trip took more than twice the base. What was true when a
    /// leg last answered says nothing of it now: a dead leg is not congested.
    pub(super) fn is_delayed(&self, now: Instant) -> bool {
        self.has_sample
            && self.latest / 2 > self.base()
            && now.since(self.sampled_at) <= SAMPLE_PTOS * self.pto()
    }

    /// After this long without proof a packet's pieces go again.
    pub(super) fn pto(&self) -> Duration {
        let margin = (4 * self.variation).max(self.policy.granularity_ns());
        let delay = (self.delay + 2 * self.delay_variation).max(self.policy.ack_delay_ns());
        Duration::from_nanos(self.smoothed + margin + delay)
    }

    /// A packet is lost when it was sent this long before now, and a later one of its leg has arrived.
    pub(super) fn loss_delay(&self) -> Duration {
        let trip = self.smoothed.max(self.latest);
        Duration::from_nanos((trip + trip / 8).max(self.policy.granularity_ns()))
    }

    /// A packet has arrived, if at all, this long after it was sent: trip and what trips vary by.
    pub(super) fn arrival_max(&self) -> Duration {
        let margin = (4 * self.variation).max(self.smoothed / 4).max(self.policy.granularity_ns());
        Duration::from_nanos(self.smoothed + margin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(us: u64) -> Instant {
        Instant::from_nanos(us * 1000)
    }

    #[test]
    fn steady_samples_become_the_estimate_and_the_waits_follow() {
        let mut rtt = Rtt::new(WaitPolicy::Poll);
        assert_eq!(rtt.pto(), Duration::from_micros(200 + 400 + 20));
        for i in 0..100 {
            rtt.sample(micros(1000 * i + 60), micros(1000 * i), Duration::from_micros(20));
        }
        assert_eq!(rtt.smoothed() / 1000, 40 + 20, "a delay that no sample leaves room for is not believed");
        assert_eq!(rtt.base(), 60_000);
        assert!(rtt.pto() < Duration::from_micros(60 + 20 + 20));
        assert!(rtt.pto() >= Duration::from_micros(60 + 10 + 20));
    }

    #[test]
    fn the_first_sample_stands_as_it_is_and_the_base_corrects_it() {
        let mut rtt = Rtt::new(WaitPolicy::Interrupt);
        rtt.sample(micros(240), micros(0), Duration::from_micros(200));
        assert_eq!((rtt.smoothed(), rtt.base()), (240_000, 240_000));
        rtt.sample(micros(1040), micros(1000), Duration::ZERO);
        for i in 2..100 {
            rtt.sample(micros(1000 * i + 240), micros(1000 * i), Duration::from_micros(200));
        }
        assert_eq!((rtt.smoothed() / 1000, rtt.base()), (40, 40_000));
    }

    #[test]
    fn an_ack_kept_back_is_not_taken_for_a_longer_path() {
        let mut rtt = Rtt::new(WaitPolicy::Poll);
        rtt.sample(micros(40), micros(0), Duration::ZERO);
        for i in 1..100 {
            rtt.sample(micros(1000 * i + 60), micros(1000 * i), Duration::from_micros(20));
        }
        assert_eq!(rtt.smoothed(), 40_000);
    }

    #[test]
    fn a_peer_that_keeps_acks_back_for_longer_is_waited_for() {
        let mut rtt = Rtt::new(WaitPolicy::Poll);
        rtt.sample(micros(40), micros(0), Duration::ZERO);
        for i in 1..100 {
            rtt.sample(micros(1000 * i + 240), micros(1000 * i), Duration::from_micros(200));
        }
        assert_eq!(rtt.smoothed(), 40_000);
        assert!((240..300).contains(&rtt.pto().as_micros()), "{:?}", rtt.pto());
    }

    #[test]
    fn the_base_forgets_a_path_that_has_become_longer() {
        let mut rtt = Rtt::new(WaitPolicy::Poll);
        rtt.sample(micros(10), micros(0), Duration::ZERO);
        let late = |s: u64| micros(s * 1_000_000);
        rtt.sample(late(1) + Duration::from_micros(50), late(1), Duration::ZERO);
        assert_eq!(rtt.base(), 10_000);
        assert!(rtt.is_delayed(late(1) + Duration::from_micros(51)));
        assert!(!rtt.is_delayed(late(2)), "a leg that has not answered for long is not congested");
        for s in [6, 12] {
            rtt.sample(late(s) + Duration::from_micros(50), late(s), Duration::ZERO);
        }
        assert_eq!(rtt.base(), 50_000);
        assert!(!rtt.is_delayed(late(12) + Duration::from_micros(51)));
    }
}
