//! Whether a leg is good for data, and when it is probed.

use core::time::Duration;

use vlan_core::Instant;
use vlan_core::random::Random;

use super::detector::{Detector, Opinion};
use super::fates::Proofs;

/// A leg that was down stays out this long after its first answer ...
const HOLD_DOWN: Duration = Duration::from_millis(110);
/// ... and twice as long each time that it goes down again within this time, ...
const FLAP: Duration = Duration::from_secs(60);
/// ... up to this.
const HOLD_DOWN_LONGEST: Duration = Duration::from_secs(10);
/// A direct leg on which nothing was sent for this long, less or more a quarter, is probed.
pub(in crate::packet) const IDLE_PROBE: Duration = Duration::from_secs(1);
/// ... or less often, down to this, while the process has no tokens for it.
const IDLE_PROBE_LONGEST: Duration = Duration::from_secs(16);
/// A suspect leg is probed once per bin of its detector.
const SUSPECT_PROBE: Duration = Duration::from_micros(200);
/// A leg that is down or starting is probed at this interval ...
const DOWN_PROBE: Duration = Duration::from_millis(2);
/// ... for this long, then at twice the last interval, ...
const DOWN_PROBE_FAST: Duration = Duration::from_millis(20);
/// ... up to this.
const DOWN_PROBE_SLOWEST: Duration = Duration::from_millis(250);
/// A leg that is not good but answered this recently is better than one that did not.
const RECENT_ANSWER: Duration = Duration::from_millis(10);
/// After a loss nobody is sure of a leg for this long.
const DOUBT: Duration = Duration::from_millis(20);

/// What a packet leg is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketLegState {
    /// Nothing that was sent by it has been acknowledged yet.
    Starting,
    /// It carries messages.
    Good,
    /// It loses more than it may: other legs are preferred.
    Suspect,
    /// It loses most of what it is given, or everything; it is probed.
    Down,
}

#[derive(Clone, Debug)]
pub(super) struct Health {
    state: PacketLegState,
    detector: Detector,
    is_relay: bool,
    hold_down: Duration,
    down_at: Option<Instant>,
    /// When a leg that is down may be good again; it has answered.
    back_at: Option<Instant>,
    last_answer: Option<Instant>,
    last_loss: Option<Instant>,
    /// The last packet that wants an answer was sent then.
    last_asked: Instant,
    /// How long nothing is sent before the leg is probed, less or more a quarter.
    idle_probe: Duration,
    /// From here on a starting or dead leg is probed often.
    fast_from: Instant,
    probe_gap: Duration,
    probe_at: Instant,
    /// Between the probes of an idle leg, before jitter.
    idle_gap: Duration,
    /// No leg answers: even a good one is probed often.
    is_silent: bool,
}

impl Health {
    pub(super) fn new(now: Instant, is_relay: bool, idle_probe: Duration) -> Self {
        Self {
            state: PacketLegState::Starting,
            detector: Detector::new(),
            is_relay,
            hold_down: HOLD_DOWN,
            down_at: None,
            back_at: None,
            last_answer: None,
            last_loss: None,
            last_asked: now,
            idle_probe,
            fast_from: now,
            probe_gap: DOWN_PROBE,
            probe_at: now,
            idle_gap: idle_probe,
            is_silent: false,
        }
    }

    pub(super) fn state(&self) -> PacketLegState {
        self.state
    }

    pub(super) fn score(&self) -> u32 {
        self.detector.score()
    }

    /// True when nothing at all speaks against the leg, and has not for a while.
    pub(super) fn is_clear(&self, now: Instant) -> bool {
        let has_lost = self.last_loss.is_some_and(|at| now.since(at) < DOUBT);
        self.state == PacketLegState::Good && self.detector.opinion() == Opinion::Clear && !has_lost
    }

    /// True unless most of what is sent by the leg is lost.
    pub(super) fn is_alive(&self) -> bool {
        self.state != PacketLegState::Down
    }

    /// True when something that was sent by the leg was acknowledged within the last 10 ms.
    pub(super) fn has_answered(&self, now: Instant) -> bool {
        self.last_answer.is_some_and(|at| now.since(at) <= RECENT_ANSWER)
    }

    /// Takes proven fates. True when the state changed.
    pub(super) fn record(&mut self, now: Instant, proofs: &Proofs, is_delayed: bool) -> bool {
        if proofs.arrived > 0 {
            self.note_answer(now);
        }
        if proofs.lost > 0 {
            self.last_loss = Some(now);
        }
        self.detector.record(now, proofs, is_delayed);
        self.judge(now)
    }

    fn note_answer(&mut self, now: Instant) {
        self.last_answer = Some(now);
        match self.state {
            PacketLegState::Down => {
                self.back_at.get_or_insert(now + self.hold_down);
                self.probe_often(now);
            }
            PacketLegState::Suspect => {
                self.probe_gap = SUSPECT_PROBE;
                self.probe_at = self.probe_at.min(now + SUSPECT_PROBE);
            }
            PacketLegState::Starting | PacketLegState::Good => {}
        }
    }

    fn probe_often(&mut self, now: Instant) {
        (self.fast_from, self.probe_gap) = (now, DOWN_PROBE);
        self.probe_at = self.probe_at.min(now + DOWN_PROBE);
    }

    /// Time has passed. True when the state changed.
    pub(super) fn roll(&mut self, now: Instant) -> bool {
        self.detector.roll(now) && self.judge(now)
    }

    //= spec/packet-sender.md#legs-health
    //# A leg MUST count as suspect from a score of 4.6 nat on, as down at 35 nat, and as good again only when its score
    //# is back at 0.
    fn judge(&mut self, now: Instant) -> bool {
        let next = match (self.state, self.detector.opinion()) {
            (PacketLegState::Starting, _) if self.last_answer.is_some() => PacketLegState::Good,
            (PacketLegState::Starting | PacketLegState::Good | PacketLegState::Suspect, Opinion::Down) => {
                PacketLegState::Down
            }
            (PacketLegState::Good, Opinion::Suspect) => PacketLegState::Suspect,
            (PacketLegState::Suspect, Opinion::Clear) => PacketLegState::Good,
            (PacketLegState::Down, Opinion::Clear) if self.back_at.is_some_and(|at| at <= now) => {
                PacketLegState::Good
            }
            (state, _) => state,
        };
        if next == self.state {
            return false;
        }
        self.enter(now, next);
        true
    }

    fn enter(&mut self, now: Instant, state: PacketLegState) {
        self.state = state;
        self.probe_at = now;
        match state {
            PacketLegState::Down => self.enter_down(now),
            PacketLegState::Suspect => (self.fast_from, self.probe_gap) = (now, SUSPECT_PROBE),
            PacketLegState::Starting | PacketLegState::Good => self.probe_gap = self.idle_probe,
        }
    }

    /// A leg that comes and goes stays out longer each time.
    fn enter_down(&mut self, now: Instant) {
        let is_flap = self.down_at.is_some_and(|at| now.since(at) < FLAP);
        self.hold_down = if is_flap { (self.hold_down * 2).min(HOLD_DOWN_LONGEST) } else { HOLD_DOWN };
        (self.down_at, self.back_at) = (Some(now), None);
        (self.fast_from, self.probe_gap) = (now, DOWN_PROBE);
    }

    /// A packet that wants an answer was sent by the leg.
    pub(super) fn note_asked(&mut self, now: Instant) {
        self.last_asked = now;
    }

    /// When a packet that wants an answer was sent last.
    pub(super) fn last_asked(&self) -> Instant {
        self.last_asked
    }

    /// No leg answers, or one does again.
    pub(super) fn set_silent(&mut self, now: Instant, is_silent: bool) {
        let is_alive = matches!(self.state, PacketLegState::Good | PacketLegState::Suspect);
        if is_silent && !self.is_silent && is_alive {
            (self.fast_from, self.probe_gap, self.probe_at) = (now, DOWN_PROBE, now);
        }
        if !is_silent && self.is_silent {
            match self.state {
                PacketLegState::Good => self.probe_gap = self.idle_probe,
                PacketLegState::Suspect => (self.fast_from, self.probe_gap) = (now, SUSPECT_PROBE),
                PacketLegState::Starting | PacketLegState::Down => {}
            }
        }
        self.is_silent = is_silent;
    }

    /// True while the leg is probed more often than an idle one.
    pub(super) fn is_urgent(&self) -> bool {
        self.is_silent || self.state != PacketLegState::Good
    }

    /// When the leg is to be probed.
    //= spec/packet-sender.md#probes
    //# An end MUST probe a direct leg that is idle once a second, a node's leg to a control node every 100 ms, each with a
    //# quarter of jitter, and a leg that is down every 2 ms for 20 ms, then at intervals that double up to 250 ms.
    //= spec/packet-sender.md#probes-into-silence
    //# While no leg answers, an end MUST probe every leg as one that is down.
    pub(super) fn probe_deadline(&self) -> Option<Instant> {
        if self.is_urgent() {
            Some(self.probe_at)
        } else if self.is_relay {
            None
        } else {
            Some(self.last_asked + self.probe_gap)
        }
    }

    /// False when the leg is suspect and has not answered for so long that nothing is proven of it any more: with long round
    /// trips it takes long until that is known as silence.
    //= spec/packet-sender.md#probes-in-vain
    //# A suspect leg that has not answered for 20 ms MUST be probed at intervals that double up to 250 ms.
    fn may_answer(&self, now: Instant) -> bool {
        let since = self.last_answer.map_or(self.fast_from, |at| at.max(self.fast_from));
        now.since(since) < DOWN_PROBE_FAST
    }

    /// Draws the time of the next probe; the present one is sent, or was refused a token.
    pub(super) fn next_probe(&mut self, now: Instant, is_sent: bool, random: &mut Random) {
        match self.state {
            PacketLegState::Good if !self.is_silent => {
                self.last_asked = now;
                self.adapt_idle_gap(is_sent);
                self.draw_idle_gap(random);
            }
            PacketLegState::Suspect if !self.is_silent && self.may_answer(now) => {
                self.probe_at = now + SUSPECT_PROBE;
            }
            _ => {
                self.probe_at = now + self.probe_gap;
                if now.since(self.fast_from) >= DOWN_PROBE_FAST {
                    self.probe_gap = (self.probe_gap * 2).min(DOWN_PROBE_SLOWEST);
                }
            }
        }
    }

    //= spec/packet-sender.md#crowded-budget
    //# An idle leg whose probe finds no token MUST wait twice as long for its next one, up to 16 s, and half as long, down to
    //# what it waits for by itself, after one that was sent.
    fn adapt_idle_gap(&mut self, is_sent: bool) {
        self.idle_gap = if is_sent {
            (self.idle_gap / 2).max(self.idle_probe)
        } else {
            (self.idle_gap * 2).min(IDLE_PROBE_LONGEST)
        };
    }

    /// A quarter less to a quarter more, so that the probes of many associations spread.
    fn draw_idle_gap(&mut self, random: &mut Random) {
        let quarter = self.idle_gap / 4;
        let jitter = Duration::from_nanos(random.below(2 * quarter.as_nanos() as u64));
        self.probe_gap = self.idle_gap - quarter + jitter;
    }

    /// When [`Health::roll`] is due.
    pub(super) fn roll_deadline(&self) -> Option<Instant> {
        self.detector.deadline()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::probe_budget::ProbeBudget;

    fn at(us: u64) -> Instant {
        Instant::from_nanos(us * 1000)
    }

    fn good() -> Health {
        let mut health = Health::new(Instant::ZERO, false, IDLE_PROBE);
        assert!(health.record(Instant::ZERO, &Proofs::of_one(Instant::ZERO, true), false));
        health
    }

    /// One proven fate in each bin, from `from_us` on, until the state changes; says when.
    fn feed(health: &mut Health, from_us: u64, has_arrived: bool) -> u64 {
        for bin in 0..100_000 {
            let now = from_us + bin * 200;
            if health.record(at(now), &Proofs::of_one(at(now), has_arrived), false) {
                return now - from_us;
            }
        }
        panic!("no change");
    }

    //= spec/packet-sender.md#legs-health
    //= type=test
    //# A leg MUST count as suspect from a score of 4.6 nat on, as down at 35 nat, and as good again only when its score
    //# is back at 0.
    #[test]
    fn a_leg_is_suspect_then_down_and_good_when_its_score_is_gone() {
        let mut health = good();
        assert_eq!(feed(&mut health, 1_000, false), 400, "two bins of nothing but loss");
        assert_eq!(health.state(), PacketLegState::Suspect);
        let score = health.score();
        assert!((4710..4710 + 2358).contains(&score), "{score}");
        feed(&mut health, 2_000, true);
        assert_eq!((health.state(), health.score()), (PacketLegState::Good, 0));
        feed(&mut health, 10_000, false);
        let down_after = feed(&mut health, 11_000, false);
        assert_eq!(health.state(), PacketLegState::Down);
        assert!(down_after <= 14 * 200, "{down_after} us");
        assert!(health.score() >= 35_840);
        feed(&mut health, 20_000, true);
        assert_eq!((health.state(), health.score()), (PacketLegState::Good, 0));
    }

    #[test]
    fn a_leg_that_was_down_is_held_down_longer_each_time() {
        let mut health = good();
        let mut now = 1_000;
        let mut times = std::vec::Vec::new();
        for _ in 0..9 {
            while health.state() != PacketLegState::Down {
                now += 1_000 + feed(&mut health, now, false);
            }
            let out = feed(&mut health, now, true);
            times.push(out / 1000);
            now += out + 1_000;
        }
        assert_eq!(times, [110, 220, 440, 880, 1760, 3520, 7040, 10_000, 10_000]);
        now += 60_000_000;
        while health.state() != PacketLegState::Down {
            now += 1_000 + feed(&mut health, now, false);
        }
        assert_eq!(feed(&mut health, now, true) / 1000, 110, "an hour of peace is forgiven");
    }

    //= spec/packet-sender.md#probes
    //= type=test
    //# An end MUST probe a direct leg that is idle once a second, a node's leg to a control node every 100 ms, each with a
    //# quarter of jitter, and a leg that is down every 2 ms for 20 ms, then at intervals that double up to 250 ms.
    #[test]
    fn probes_are_rare_on_idle_legs_and_slow_down_on_dead_ones() {
        let mut random = Random::new(3);
        let mut health = good();
        let mut last = Instant::ZERO;
        let mut gaps = std::collections::BTreeSet::new();
        for _ in 0..100 {
            health.next_probe(last, true, &mut random);
            let next = health.probe_deadline().expect("idle legs are probed");
            assert!((750..1250).contains(&next.since(last).as_millis()));
            gaps.insert(next.since(last));
            last = next;
        }
        assert!(gaps.len() > 90, "no two associations probe in step");
        let mut to_control_node = Health::new(last, false, IDLE_PROBE / 10);
        assert!(to_control_node.record(last, &Proofs::of_one(last, true), false));
        to_control_node.next_probe(last, true, &mut random);
        let next = to_control_node.probe_deadline().expect("idle legs are probed");
        assert!((75..125).contains(&next.since(last).as_millis()));

        let mut now = last.as_nanos() / 1000;
        while health.state() != PacketLegState::Down {
            now += 1_000 + feed(&mut health, now, false);
        }
        let mut gaps = std::vec::Vec::new();
        let mut probe = health.probe_deadline().expect("dead legs are probed");
        for _ in 0..22 {
            health.next_probe(probe, true, &mut random);
            let next = health.probe_deadline().expect("dead legs are probed");
            gaps.push(next.since(probe).as_millis());
            probe = next;
        }
        assert!(gaps[..10].iter().all(|gap| *gap == 2), "{gaps:?}");
        assert_eq!(gaps[14..], [32, 64, 128, 250, 250, 250, 250, 250][..], "{gaps:?}");
    }

    //= spec/packet-sender.md#probes-into-silence
    //= type=test
    //# While no leg answers, an end MUST probe every leg as one that is down.
    #[test]
    fn a_suspect_leg_is_probed_less_and_less_while_nothing_answers() {
        let (mut random, mut health) = (Random::new(3), good());
        let begun = 1_000 + feed(&mut health, 1_000, false);
        assert_eq!(health.state(), PacketLegState::Suspect);
        health.set_silent(at(begun), true);
        let mut probe = health.probe_deadline().expect("suspect legs are probed");
        for _ in 0..22 {
            health.next_probe(probe, true, &mut random);
            probe = health.probe_deadline().expect("suspect legs are probed");
        }
        assert!(probe > at(begun + 1_000_000), "{probe}");
        health.set_silent(probe, false);
        health.next_probe(probe, true, &mut random);
        assert_eq!(health.probe_deadline(), Some(probe + SUSPECT_PROBE));
    }

    //= spec/packet-sender.md#probes-in-vain
    //= type=test
    //# A suspect leg that has not answered for 20 ms MUST be probed at intervals that double up to 250 ms.
    #[test]
    fn a_suspect_leg_that_does_not_answer_is_probed_less_and_less_until_it_does() {
        let (mut random, mut health) = (Random::new(3), good());
        let begun = at(1_000 + feed(&mut health, 1_000, false));
        let mut probe = begun;
        let mut gaps = std::vec::Vec::new();
        for _ in 0..130 {
            health.next_probe(probe, true, &mut random);
            let next = health.probe_deadline().expect("suspect legs are probed");
            gaps.push(next.since(probe).as_micros());
            probe = next;
        }
        assert!(gaps[..100].iter().all(|gap| *gap == 200), "once a bin for 20 ms: {gaps:?}");
        assert_eq!(gaps[100..104], [200, 400, 800, 1600]);
        assert_eq!(gaps[120..], [250_000; 10]);
        health.record(probe, &Proofs::of_one(probe, true), false);
        health.next_probe(probe, true, &mut random);
        assert_eq!(health.probe_deadline(), Some(probe + SUSPECT_PROBE));
    }

    //= spec/packet-sender.md#crowded-budget
    //= type=test
    //# An idle leg whose probe finds no token MUST wait twice as long for its next one, up to 16 s, and half as long, down to
    //# what it waits for by itself, after one that was sent.
    #[test]
    fn an_idle_leg_asks_less_often_while_it_is_refused() {
        let (mut random, mut health) = (Random::new(3), good());
        let mut now = Instant::ZERO;
        let fates = [false, false, false, false, false, true, true, true, true, true];
        for (is_sent, seconds) in fates.into_iter().zip([2, 4, 8, 16, 16, 8, 4, 2, 1, 1]) {
            health.next_probe(now, is_sent, &mut random);
            let next = health.probe_deadline().expect("idle legs are probed");
            let (gap, quarter) = (next.since(now).as_millis(), seconds * 250);
            assert!((3 * quarter..5 * quarter).contains(&gap), "{gap} ms, not {seconds} s");
            now = next;
        }
    }

    #[test]
    fn twenty_thousand_idle_legs_use_the_budget_and_ask_for_little_more() {
        let (mut random, mut budget) = (Random::new(5), ProbeBudget::default());
        let mut legs: std::vec::Vec<Health> = (0..20_000).map(|_| good()).collect();
        let mut asking = std::collections::BinaryHeap::new();
        for (index, leg) in legs.iter_mut().enumerate() {
            leg.next_probe(Instant::ZERO, true, &mut random);
            asking.push(core::cmp::Reverse((leg.probe_deadline().expect("idle"), index)));
        }
        let (mut asked, mut sent) = (0, 0);
        let (from, to) = (at(60_000_000), at(90_000_000));
        while let Some(core::cmp::Reverse((now, index))) = asking.pop().filter(|next| next.0.0 < to) {
            let is_sent = budget.take(now);
            (asked, sent) = (asked + u32::from(now >= from), sent + u32::from(is_sent && now >= from));
            legs[index].next_probe(now, is_sent, &mut random);
            asking.push(core::cmp::Reverse((legs[index].probe_deadline().expect("idle"), index)));
        }
        assert!((58_000..=60_064).contains(&sent), "{sent} probes in 30 s");
        assert!(asked < 3 * sent, "{asked} wishes for {sent} probes");
    }

    #[test]
    fn an_idle_relay_leg_is_not_probed() {
        let mut health = Health::new(Instant::ZERO, true, IDLE_PROBE);
        assert_eq!(health.probe_deadline(), Some(Instant::ZERO));
        health.record(Instant::ZERO, &Proofs::of_one(Instant::ZERO, true), false);
        assert_eq!(health.probe_deadline(), None);
    }
}
