//! Sets of packet numbers, kept as runs.

use std::collections::BTreeMap;

/// A set of numbers that mostly follow each other.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// First and last of each run; no two touch.
    runs: BTreeMap<u64, u64>,
    len: u64,
}

impl Numbers {
    /// Adds a number; false when it was there.
    pub fn insert(&mut self, number: u64) -> bool {
        if self.covers(number, number) {
            return false;
        }
        let first = match self.runs.range(..number).next_back() {
            Some((first, last)) if last + 1 == number => *first,
            _ => number,
        };
        let last = self.runs.remove(&(number + 1)).unwrap_or(number);
        self.runs.insert(first, last);
        self.len += 1;
        true
    }

    /// True when every number from `lowest` to `highest` is there.
    #[must_use]
    pub fn covers(&self, lowest: u64, highest: u64) -> bool {
        self.runs.range(..=lowest).next_back().is_some_and(|(_, last)| *last >= highest)
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// True when there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_grow_join_and_say_what_they_cover() {
        let mut numbers = Numbers::default();
        for number in [5, 3, 4, 9, 0] {
            assert!(numbers.insert(number));
        }
        assert!(!numbers.insert(4));
        assert!(numbers.covers(3, 5) && numbers.covers(0, 0) && numbers.covers(9, 9));
        assert!(!numbers.covers(2, 5) && !numbers.covers(3, 6) && !numbers.covers(0, 9));
        assert_eq!((numbers.len(), numbers.runs.len()), (5, 3));
    }
}
