//! How long the packets of a leg may be: what its route takes is tried by packets of padding.
//!
//! In the manner of RFC 8899: a leg starts with a length that every path carries, tries the longest that its route takes
//! at once, and halves what lies between when that does not arrive. Data goes on meanwhile, by packets of the length that
//! is known to arrive. One packet at a time tries a length, and its loss says nothing of the leg.

use core::time::Duration;

use vlan_core::Instant;
use vlan_core::random::Random;

/// Octets of a packet that every path carries: IPv6's least MTU, 1,280, less its headers and UDP's, and 32 for a tunnel
/// (RFC 8899, 5.1.2; RFC 9000, 14).
pub const PACKET_LEN_BASE: usize = 1200;

/// Packets of one length that are lost before it counts as too long (RFC 8899, 5.1.2, `MAX_PROBES`).
const TRIES_MAX: u8 = 3;
/// Between a try that was lost and the next.
const TRY_PAUSE: Duration = Duration::from_millis(5);
/// A try whose fate is not known after this long is made again; one that found no token, too, and then after twice as long
/// each time.
const TRY_PATIENCE: Duration = Duration::from_millis(100);
/// Tries in a row without a token after which the wait does not double any more.
const DENIALS_MAX: u8 = 4;
/// A search that ended below what the route takes is begun again (RFC 8899, 5.1.1, `PMTU_RAISE_TIMER`).
const SEARCH_AGAIN: Duration = Duration::from_secs(600);
/// Lengths that are tried lie on this grid, so that pieces on the grid of fragments fill such packets.
const LEN_STEP: u16 = 64;
const BASE: u16 = PACKET_LEN_BASE as u16;

/// What the search waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The time of the next try.
    Pause,
    /// The packet being made.
    Due,
    /// The fate of the last packet that tried a length, until some time.
    Trial,
    /// The time of the next search.
    Rest,
    /// Nothing: all that the route takes arrives.
    Over,
}

/// The search of one leg. Lengths are octets of packets.
#[derive(Clone, Debug)]
pub(super) struct PathSearch {
    /// The longest that the host's route takes.
    ceiling: u16,
    /// The longest that arrives, as far as is known.
    passes: u16,
    /// The shortest that does not; beyond the ceiling while none is known.
    fails: u16,
    candidate: u16,
    /// Packets of the candidate's length that were lost.
    losses: u8,
    /// Tries in a row that found no token.
    denials: u8,
    has_tried: bool,
    step: Step,
    /// When the step is over.
    at: Instant,
    /// The last packet that tried a length.
    number: u64,
    /// Packets before this one crossed a path that may not be there any more.
    from: u64,
}

impl PathSearch {
    //= spec/packet-sender.md#base-length
    //# Until a longer packet was acknowledged, packets of a leg MUST NOT be longer than 1,200 octets.
    pub(super) fn new(now: Instant, ceiling: u16) -> Self {
        let passes = ceiling.min(BASE);
        let step = if passes < ceiling { Step::Pause } else { Step::Over };
        let (fails, candidate) = (ceiling + 1, ceiling);
        let (losses, denials, has_tried, number, from) = (0, 0, false, 0, 0);
        Self { ceiling, passes, fails, candidate, losses, denials, has_tried, step, at: now, number, from }
    }

    /// The longest for data.
    pub(super) fn packet_len(&self) -> usize {
        self.passes.into()
    }

    /// The route takes packets of `ceiling` octets and no longer ones: another interface or route than before.
    //= spec/packet-sender.md#search-again
    //# A search that ended below what the route takes MUST begin again after 10 minutes, and each search MUST when the
    //# route takes longer packets than before.
    pub(super) fn set_ceiling(&mut self, ceiling: u16) {
        if ceiling == self.ceiling {
            return;
        }
        self.ceiling = ceiling;
        self.passes = self.passes.max(BASE).min(ceiling);
        self.begin();
        (self.step, self.at) = (if self.passes < ceiling { Step::Pause } else { Step::Over }, Instant::ZERO);
    }

    /// Nothing is known any more of what does not arrive.
    fn begin(&mut self) {
        (self.fails, self.candidate, self.losses) = (self.ceiling + 1, self.ceiling, 0);
    }

    /// When [`PathSearch::handle_timeout`] is due. Lengths are tried while the leg `is_good`, and once before it is known.
    pub(super) fn deadline(&self, is_good: bool, is_starting: bool) -> Option<Instant> {
        let waits = match self.step {
            Step::Pause | Step::Rest => is_good || (is_starting && !self.has_tried),
            Step::Trial => true,
            Step::Due | Step::Over => false,
        };
        waits.then_some(self.at)
    }

    /// Time has passed. True when a packet is to be made now, for which `probe_allowed` had tokens: one for it, and one for
    /// the question behind it, whose answer tells what became of it.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        random: &mut Random,
        probe_allowed: &mut dyn FnMut() -> bool,
    ) -> bool {
        match self.step {
            Step::Rest => self.begin(),
            Step::Pause => {}
            Step::Trial => {
                (self.step, self.at) = (Step::Pause, now);
                return false;
            }
            Step::Due | Step::Over => return false,
        }
        let is_allowed = probe_allowed() && probe_allowed();
        if is_allowed {
            (self.step, self.denials) = (Step::Due, 0);
        } else {
            (self.step, self.at) = (Step::Pause, now + self.draw_token_pause(random));
        }
        is_allowed
    }

    /// The legs of a process that starts ask for more tokens than there are: not all at once again.
    fn draw_token_pause(&mut self, random: &mut Random) -> Duration {
        let pause = TRY_PATIENCE * (1 << self.denials);
        self.denials = (self.denials + 1).min(DENIALS_MAX);
        pause / 2 + Duration::from_nanos(random.below(pause.as_nanos() as u64))
    }

    /// The length of the packet that is to be made now.
    #[inline]
    pub(super) fn due(&self) -> Option<usize> {
        (self.step == Step::Due).then_some(self.candidate.into())
    }

    /// The packet that is due went out, as `number`; or could not be made.
    pub(super) fn note_sent(&mut self, now: Instant, number: Option<u64>) {
        self.has_tried = true;
        self.at = now + TRY_PATIENCE;
        self.step = if number.is_some() { Step::Trial } else { Step::Pause };
        self.number = number.unwrap_or(self.number);
    }

    /// A packet of `len` octets arrived that tried this length.
    pub(super) fn handle_arrival(&mut self, now: Instant, number: u64, len: u16) {
        if number < self.from || len <= self.passes || len > self.ceiling {
            return;
        }
        self.passes = len;
        if self.fails <= len {
            self.fails = self.ceiling + 1;
        }
        self.go_on(now);
    }

    /// The packet `number` is lost. It counts while nothing else speaks against the leg.
    pub(super) fn handle_loss(&mut self, now: Instant, number: u64, counts: bool) {
        if self.step != Step::Trial || number != self.number {
            return;
        }
        self.losses += u8::from(counts);
        if self.losses < TRIES_MAX {
            (self.step, self.at) = (Step::Pause, now + TRY_PAUSE);
        } else {
            self.fails = self.candidate;
            self.go_on(now);
        }
    }

    /// Packets of this length are not believed to arrive any more: the search begins again, with the length that did. The
    /// next packet of the leg is `next`. True when packets are shorter from now on.
    pub(super) fn fall_back(&mut self, now: Instant, next: u64) -> bool {
        let base = self.ceiling.min(BASE);
        if self.passes <= base {
            return false;
        }
        (self.candidate, self.passes) = (self.passes, base);
        (self.losses, self.from) = (0, next);
        (self.step, self.at) = (Step::Pause, now);
        true
    }

    /// Chooses the next length to be tried, if there is one between what passes and what does not.
    //= spec/packet-sender.md#length-search
    //# A sender MUST try what its route takes first, and then what lies in the middle between the longest packet that arrived
    //# and the shortest that was lost three times, until they are 64 octets apart.
    fn go_on(&mut self, now: Instant) {
        self.losses = 0;
        (self.step, self.at) = match self.between() {
            Some(candidate) => {
                self.candidate = candidate;
                (Step::Pause, now)
            }
            None if self.passes < self.ceiling => (Step::Rest, now + SEARCH_AGAIN),
            None => (Step::Over, now),
        };
    }

    fn between(&self) -> Option<u16> {
        if self.fails > self.ceiling {
            return (self.passes < self.ceiling).then_some(self.ceiling);
        }
        let middle = self.passes.midpoint(self.fails) / LEN_STEP * LEN_STEP;
        let candidate = if middle > self.passes { middle } else { middle + LEN_STEP };
        (candidate < self.fails).then_some(candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    /// Lets the search run on a path that carries `limit` octets; the lengths that were tried, and when it was over.
    fn run(search: &mut PathSearch, limit: u16, from_ms: u64) -> (std::vec::Vec<u16>, Instant) {
        let (mut now, mut tried) = (at(from_ms), std::vec::Vec::new());
        while !matches!(search.step, Step::Rest | Step::Over) {
            now = search.deadline(true, false).expect("something is due").max(now);
            assert!(search.handle_timeout(now, &mut Random::new(1), &mut || true));
            let len = search.due().expect("a packet is due") as u16;
            let number = tried.len() as u64 + search.from;
            search.note_sent(now, Some(number));
            tried.push(len);
            assert!(tried.len() < 60, "a search ends: {tried:?}");
            if len <= limit {
                search.handle_arrival(now, number, len);
            } else {
                search.handle_loss(now, number, true);
            }
        }
        (tried, now)
    }

    //= spec/packet-sender.md#base-length
    //= type=test
    //# Until a longer packet was acknowledged, packets of a leg MUST NOT be longer than 1,200 octets.
    #[test]
    fn a_leg_starts_with_the_base_and_what_its_route_takes_is_tried_first() {
        for ceiling in [1472, 8968, 65_496_u16] {
            let mut search = PathSearch::new(at(0), ceiling);
            assert_eq!(search.packet_len(), 1200);
            assert_eq!(run(&mut search, 65_535, 0), (std::vec![ceiling], at(0)));
            assert_eq!((search.packet_len(), search.deadline(true, false)), (ceiling.into(), None));
        }
        for ceiling in [600, 1200_u16] {
            let search = PathSearch::new(at(0), ceiling);
            assert_eq!((search.packet_len(), search.deadline(true, true)), (ceiling.into(), None));
        }
    }

    //= spec/packet-sender.md#length-search
    //= type=test
    //# A sender MUST try what its route takes first, and then what lies in the middle between the longest packet that arrived
    //# and the shortest that was lost three times, until they are 64 octets apart.
    #[test]
    fn a_silent_limit_is_found_to_within_one_step_and_the_search_ends() {
        let mut search = PathSearch::new(at(0), 1472);
        let (tried, end) = run(&mut search, 1372, 0);
        assert_eq!(tried, [1472, 1472, 1472, 1280, 1344, 1408, 1408, 1408]);
        assert_eq!((search.packet_len(), end), (1344, at(20)));
        for limit in (1200..8968).step_by(8) {
            let mut search = PathSearch::new(at(0), 8968);
            run(&mut search, limit, 0);
            let found = search.passes;
            assert!(found <= limit && found + 64 > limit, "{found} of {limit}");
        }
    }

    //= spec/packet-sender.md#search-again
    //= type=test
    //# A search that ended below what the route takes MUST begin again after 10 minutes, and each search MUST when the
    //# route takes longer packets than before.
    #[test]
    fn a_search_is_begun_again_after_ten_minutes_and_when_the_route_takes_more() {
        let mut search = PathSearch::new(at(0), 1472);
        let (_, end) = run(&mut search, 1300, 0);
        let again = search.deadline(true, false).expect("it is begun again");
        assert_eq!(again.since(end), Duration::from_secs(600));
        assert_eq!(search.deadline(false, false), None, "not while the leg is bad");
        assert!(search.handle_timeout(again, &mut Random::new(1), &mut || true));
        assert_eq!(search.due(), Some(1472));
        search.note_sent(again, Some(99));
        search.handle_arrival(again, 99, 1472);
        assert_eq!((search.packet_len(), search.deadline(true, false)), (1472, None));
        search.set_ceiling(8968);
        assert_eq!(search.packet_len(), 1472, "data does not wait");
        run(&mut search, 8968, 700_000);
        assert_eq!(search.packet_len(), 8968);
        search.set_ceiling(1000);
        assert_eq!(
            (search.packet_len(), search.deadline(true, false)),
            (1000, None),
            "what the kernel says holds"
        );
        search.set_ceiling(1472);
        assert_eq!(search.packet_len(), 1200);
        assert_eq!(run(&mut search, 1472, 800_000).0, [1472]);
    }

    #[test]
    fn without_tokens_or_answers_a_length_is_tried_again_and_nothing_is_concluded() {
        let mut search = PathSearch::new(at(0), 1472);
        let (mut tokens, mut random, mut now) = (1, Random::new(1), at(0));
        for wait in [100, 200, 400, 800, 1600, 1600] {
            let mut allowed = || core::mem::replace(&mut tokens, 0) > 0;
            assert!(!search.handle_timeout(now, &mut random, &mut allowed), "the question needs one, too");
            assert_eq!(search.due(), None);
            let next = search.deadline(true, false).expect("it is tried again");
            assert!((wait / 2..wait * 3 / 2).contains(&(next.since(now).as_millis() as u64)));
            now = next;
        }
        for number in 0..20 {
            let now = search.deadline(true, false).expect("again");
            assert!(search.handle_timeout(now, &mut Random::new(1), &mut || true));
            search.note_sent(now, Some(number));
            let until = search.deadline(false, false).expect("it is waited for");
            assert_eq!(until.since(now), TRY_PATIENCE);
            assert!(!search.handle_timeout(until, &mut Random::new(1), &mut || true));
        }
        search.handle_loss(at(9000), 19, true);
        search.handle_arrival(at(9000), 3, 1472);
        assert_eq!(search.packet_len(), 1472, "late is not lost");
    }

    #[test]
    fn losses_count_only_while_nothing_else_speaks_against_the_leg() {
        let mut search = PathSearch::new(at(0), 1472);
        for number in 0..10 {
            let now = search.deadline(true, false).expect("it is tried again");
            assert!(search.handle_timeout(now, &mut Random::new(1), &mut || true));
            assert_eq!(search.due(), Some(1472));
            search.note_sent(now, Some(number));
            search.handle_loss(now, number, false);
        }
    }

    #[test]
    fn before_a_leg_is_known_a_length_is_tried_once() {
        let mut search = PathSearch::new(at(0), 1472);
        assert_eq!(search.deadline(false, true), Some(at(0)));
        assert!(search.handle_timeout(at(0), &mut Random::new(1), &mut || true));
        search.note_sent(at(0), Some(0));
        assert!(!search.handle_timeout(at(100), &mut Random::new(1), &mut || true));
        assert_eq!((search.deadline(false, true), search.deadline(true, false)), (None, Some(at(100))));
    }

    #[test]
    fn what_a_path_carried_that_is_gone_is_not_believed() {
        let mut search = PathSearch::new(at(0), 8968);
        run(&mut search, 8968, 0);
        assert!(search.fall_back(at(1), 50));
        assert!(!search.fall_back(at(1), 50), "shorter than the base is nothing");
        search.handle_arrival(at(2), 49, 8968);
        assert_eq!(search.packet_len(), 1200);
        let (tried, _) = run(&mut search, 4000, 2);
        assert_eq!(tried[..4], [8968, 8968, 8968, 5056]);
        assert!((3937..=4000).contains(&search.packet_len()));
        assert!(search.fall_back(at(9000), 90));
        assert_eq!(run(&mut search, 8968, 9000).0, [3968], "what carried before is tried first");
    }
}
