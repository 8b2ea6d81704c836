//! Which packet numbers of a leg and direction have been opened already.

/// Numbers back from the highest that are remembered.
pub const REPLAY_WINDOW: u64 = 2048;
/// One word more than the window needs, because it seldom starts at a word's first bit.
const WORDS: usize = (REPLAY_WINDOW / 64) as usize + 1;

/// A number cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replay {
    /// It was taken before.
    Copy,
    /// It lies so far back that nobody knows.
    Old,
}

/// The last [`REPLAY_WINDOW`] numbers.
#[derive(Clone, Debug)]
pub(super) struct ReplayWindow {
    /// One above the highest number taken.
    next: u64,
    /// A ring of words: number n is bit n % 64 of word n / 64.
    words: [u64; WORDS],
}

impl ReplayWindow {
    pub(super) const fn new() -> Self {
        Self { next: 0, words: [0; WORDS] }
    }

    /// One above the highest number taken, 0 before the first.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Takes `number`, which belongs to a packet that was proven genuine.
    //= spec/packet-security.md#replay
    //# A receiver MUST take a packet number of a leg and direction at most once, and MUST NOT take one that lies more
    //# than 2,047 below the highest.
    pub(super) fn take(&mut self, number: u64) -> Result<(), Replay> {
        if self.next > REPLAY_WINDOW && number < self.next - REPLAY_WINDOW {
            return Err(Replay::Old);
        }
        if number >= self.next {
            self.advance(number);
        }
        let word = &mut self.words[Self::place(number)];
        let bit = 1 << (number % 64);
        if *word & bit != 0 {
            return Err(Replay::Copy);
        }
        *word |= bit;
        Ok(())
    }

    /// Makes `number` the highest: words that come into use start empty.
    fn advance(&mut self, number: u64) {
        if let Some(highest) = self.next.checked_sub(1) {
            let fresh = (number / 64 - highest / 64).min(WORDS as u64);
            for back in 0..fresh {
                self.words[Self::place(number - back * 64)] = 0;
            }
        }
        self.next = number.saturating_add(1);
    }

    const fn place(number: u64) -> usize {
        (number / 64 % WORDS as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    #[test]
    fn a_number_is_taken_once_and_not_after_the_window_has_passed_it() {
        //= spec/packet-security.md#replay
        //= type=test
        //# A receiver MUST take a packet number of a leg and direction at most once, and MUST NOT take one that lies more
        //# than 2,047 below the highest.
        let mut window = ReplayWindow::new();
        assert_eq!(window.take(5), Ok(()));
        assert_eq!(window.take(5), Err(Replay::Copy));
        assert_eq!(window.take(0), Ok(()));
        assert_eq!(window.take(5 + 2047), Ok(()));
        assert_eq!(window.take(5), Err(Replay::Copy));
        assert_eq!(window.take(4), Err(Replay::Old));
        assert_eq!(window.take(6), Ok(()));
        assert_eq!(window.take(1 << 40), Ok(()));
        assert_eq!(window.take((1 << 40) - 2047), Ok(()));
        assert_eq!(window.take((1 << 40) - 2048), Err(Replay::Old));
        assert_eq!(window.take(5 + 2047), Err(Replay::Old));
    }

    proptest! {
        #[test]
        fn the_window_says_what_a_set_of_numbers_says(
            steps in proptest::collection::vec((0..4u8, 0..5000u64), 1..400)
        ) {
            let (mut window, mut set, mut highest) = (ReplayWindow::new(), BTreeSet::new(), 0u64);
            let mut seen = Vec::new();
            for (how, by) in steps {
                let number = match how {
                    0 => highest + by % 3,
                    1 => highest + by,
                    2 => highest.saturating_sub(by % 2100),
                    _ => seen.get(by as usize % seen.len().max(1)).copied().unwrap_or(by),
                };
                let expected = if !set.is_empty() && number + REPLAY_WINDOW <= highest {
                    Err(Replay::Old)
                } else if set.contains(&number) {
                    Err(Replay::Copy)
                } else {
                    Ok(())
                };
                prop_assert_eq!(window.take(number), expected, "{} after {}", number, highest);
                if expected.is_ok() {
                    set.insert(number);
                    seen.push(number);
                    highest = highest.max(number);
                }
            }
        }
    }
}
