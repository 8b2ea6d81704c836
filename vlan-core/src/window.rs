//! A duplicate filter over a sliding window of 32-bit serial numbers.

use alloc::boxed::Box;
use alloc::vec;

/// Numbers in a word of the map.
const WORD_BITS: u32 = 64;

/// What the window says of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowVerdict {
    /// Not seen before: take it. It is marked as seen now.
    New,
    /// Seen before: drop it.
    Duplicate,
    /// So far behind the newest that nobody can tell: drop it.
    TooOld,
}

/// Remembers which of the last `bits` serial numbers were seen (RFC 1982 arithmetic on 32 bits).
///
/// Its map is made when a number is first left out: as long as numbers come in order, what was seen is known without.
#[derive(Clone, Debug)]
pub struct Window {
    /// A bit for each of the last numbers; empty while all of them were seen.
    words: Box<[u64]>,
    bits: u32,
    /// One past the newest number seen.
    next: u32,
}

impl Window {
    /// Makes a window in which `first` is the number expected next.
    ///
    /// # Panics
    /// When `bits` is not a power of two of at least 64 and below 2^31.
    #[must_use]
    pub fn new(bits: u32, first: u32) -> Self {
        assert!(bits.is_power_of_two() && (64..1 << 31).contains(&bits), "a window of {bits} bits");
        Self { words: Box::default(), bits, next: first }
    }

    /// Makes a window for numbers of which `number` is the first to come: those before it may have been overtaken.
    ///
    /// # Panics
    /// As [`Window::new`].
    #[must_use]
    pub fn around(bits: u32, number: u32) -> Self {
        Self::new(bits, number.wrapping_sub(bits - 1))
    }

    /// Takes `number` if it is new. Numbers before the window's start count as seen.
    #[inline]
    pub fn insert(&mut self, number: u32) -> WindowVerdict {
        let ahead = number.wrapping_sub(self.next);
        if ahead == 0 {
            self.set(number);
            self.next = number.wrapping_add(1);
            return WindowVerdict::New;
        }
        if ahead < 1 << 31 {
            self.make_map();
            self.clear_from_next(ahead.min(self.bits));
            self.set(number);
            self.next = number.wrapping_add(1);
            return WindowVerdict::New;
        }
        if self.next.wrapping_sub(number) > self.bits {
            return WindowVerdict::TooOld;
        }
        if self.is_set(number) {
            return WindowVerdict::Duplicate;
        }
        self.set(number);
        WindowVerdict::New
    }

    /// One past the newest number seen.
    #[must_use]
    pub fn next(&self) -> u32 {
        self.next
    }

    /// True when `number` was seen, or lies so far behind the newest that it must have been.
    #[must_use]
    pub fn contains(&self, number: u32) -> bool {
        let behind = self.next.wrapping_sub(number);
        let is_ahead = behind == 0 || behind > 1 << 31;
        !is_ahead && (behind > self.bits || self.is_set(number))
    }

    /// Which of the 64 numbers from `first` on were seen, as [`Window::contains`] says it: bit i stands for `first` + i.
    #[must_use]
    pub fn seen_from(&self, first: u32) -> u64 {
        let behind = self.next.wrapping_sub(first);
        if behind == 0 || behind > self.bits {
            let bit = |i| u64::from(self.contains(first.wrapping_add(i))) << i;
            return (0..WORD_BITS).fold(0, |seen, i| seen | bit(i));
        }
        let (word, bit) = self.place(first);
        let seen = match self.words.get(word) {
            None => u64::MAX,
            Some(low) if bit == 0 => *low,
            Some(low) => {
                let high = self.words[(word + 1) % self.words.len()];
                low >> bit | high << (WORD_BITS - bit)
            }
        };
        // Numbers from the next one on are still to come.
        if behind < WORD_BITS { seen & ((1 << behind) - 1) } else { seen }
    }

    /// The first number from `from` on that was not seen.
    #[must_use]
    pub fn first_missing(&self, from: u32) -> u32 {
        let behind = self.next.wrapping_sub(from);
        let is_old = behind > self.bits && behind < 1 << 31;
        let mut number = if is_old { self.next.wrapping_sub(self.bits) } else { from };
        while number != self.next && self.contains(number) {
            number = number.wrapping_add(1);
        }
        number
    }

    /// Gives the map back if every number in it was seen: it says no more than that.
    pub fn compact(&mut self) {
        if self.words.iter().all(|word| *word == u64::MAX) {
            self.words = Box::default();
        }
    }

    #[cold]
    fn make_map(&mut self) {
        if self.words.is_empty() {
            self.words = vec![u64::MAX; (self.bits / WORD_BITS) as usize].into_boxed_slice();
        }
    }

    fn clear_from_next(&mut self, count: u32) {
        for i in 0..count {
            let number = self.next.wrapping_add(i);
            let (word, bit) = self.place(number);
            self.words[word] &= !(1 << bit);
        }
    }

    fn place(&self, number: u32) -> (usize, u32) {
        (((number & (self.bits - 1)) / WORD_BITS) as usize, number % WORD_BITS)
    }

    #[inline]
    fn set(&mut self, number: u32) {
        let (word, bit) = self.place(number);
        if let Some(word) = self.words.get_mut(word) {
            *word |= 1 << bit;
        }
    }

    fn is_set(&self, number: u32) -> bool {
        let (word, bit) = self.place(number);
        self.words.get(word).is_none_or(|word| word & (1 << bit) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_new_once_in_any_order_within_the_window() {
        let mut window = Window::new(64, u32::MAX - 3);
        for number in [0, u32::MAX - 3, 2, 1, u32::MAX - 1] {
            assert_eq!(window.insert(number), WindowVerdict::New, "{number}");
            assert_eq!(window.insert(number), WindowVerdict::Duplicate, "{number}");
        }
        assert_eq!(window.insert(u32::MAX - 2), WindowVerdict::New);
    }

    #[test]
    fn numbers_before_the_start_and_far_behind_are_refused() {
        let mut window = Window::new(64, 100);
        assert_eq!(window.insert(99), WindowVerdict::Duplicate);
        assert_eq!(window.insert(300), WindowVerdict::New);
        assert_eq!(window.insert(236), WindowVerdict::TooOld);
        assert_eq!(window.insert(237), WindowVerdict::New);
    }

    #[test]
    fn many_numbers_at_once_are_told_as_one_by_one() {
        for bits in [64, 256] {
            let mut window = Window::new(bits, u32::MAX - 90);
            for step in 0..700_u32 {
                // Holes of many lengths, some of which are filled later.
                let number = (u32::MAX - 90).wrapping_add(step * step % 97 + step / 3);
                window.insert(number);
                for back in 0..bits + 70 {
                    let first = window.next().wrapping_add(3).wrapping_sub(back);
                    let one_by_one = (0..64)
                        .fold(0, |seen, i| seen | u64::from(window.contains(first.wrapping_add(i))) << i);
                    assert_eq!(window.seen_from(first), one_by_one, "{back} back, {bits} bits, step {step}");
                }
            }
        }
    }

    #[test]
    fn there_is_a_map_only_while_a_number_is_missing() {
        let mut window = Window::new(64, 0);
        (0..100).for_each(|number| assert_eq!(window.insert(number), WindowVerdict::New));
        assert!(window.words.is_empty());
        assert_eq!(window.insert(36), WindowVerdict::Duplicate);
        window.insert(101);
        window.compact();
        assert!(!window.words.is_empty(), "100 is missing");
        assert_eq!(window.insert(100), WindowVerdict::New);
        window.compact();
        assert!(window.words.is_empty());
        assert_eq!(window.insert(100), WindowVerdict::Duplicate);
    }

    #[test]
    fn the_window_agrees_with_a_set() {
        let mut window = Window::new(128, 7);
        let mut compact = window.clone();
        let mut seen = alloc::collections::BTreeSet::new();
        let mut random = crate::random::Random::new(1);
        let mut newest = 7;
        for _ in 0..10_000 {
            let number = newest + 40 - random.below(100).min(newest + 40);
            newest = newest.max(number);
            let verdict = window.insert(number as u32);
            assert_eq!(compact.insert(number as u32), verdict, "the map is made and given back");
            compact.compact();
            if number >= 7 && newest - number < 128 {
                let expected =
                    if seen.insert(number) { WindowVerdict::New } else { WindowVerdict::Duplicate };
                assert_eq!(verdict, expected, "{number} of {newest}");
            } else {
                assert_ne!(verdict, WindowVerdict::New, "{number} of {newest}");
            }
        }
    }
}
