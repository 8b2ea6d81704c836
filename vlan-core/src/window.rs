//! A duplicate filter over a sliding window of 32-bit serial numbers.

use alloc::boxed::Box;
use alloc::vec;

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
#[derive(Clone, Debug)]
pub struct Window {
    words: Box<[u64]>,
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
        Self { words: vec![u64::MAX; bits as usize / 64].into_boxed_slice(), next: first }
    }

    /// Takes `number` if it is new. Numbers before the window's start count as seen.
    #[inline]
    pub fn insert(&mut self, number: u32) -> WindowVerdict {
        let bits = self.words.len() as u32 * 64;
        let ahead = number.wrapping_sub(self.next);
        if ahead == 0 {
            self.set(number);
            self.next = number.wrapping_add(1);
            return WindowVerdict::New;
        }
        if ahead < 1 << 31 {
            self.clear_from_next(ahead.min(bits));
            self.set(number);
            self.next = number.wrapping_add(1);
            return WindowVerdict::New;
        }
        if self.next.wrapping_sub(number) > bits {
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
        !is_ahead && (behind > self.words.len() as u32 * 64 || self.is_set(number))
    }

    /// The first number from `from` on that was not seen.
    #[must_use]
    pub fn first_missing(&self, from: u32) -> u32 {
        let bits = self.words.len() as u32 * 64;
        let behind = self.next.wrapping_sub(from);
        let mut number = if behind > bits && behind < 1 << 31 { self.next.wrapping_sub(bits) } else { from };
        while number != self.next && self.contains(number) {
            number = number.wrapping_add(1);
        }
        number
    }

    fn clear_from_next(&mut self, count: u32) {
        for i in 0..count {
            let number = self.next.wrapping_add(i);
            let (word, bit) = self.place(number);
            self.words[word] &= !(1 << bit);
        }
    }

    fn place(&self, number: u32) -> (usize, u32) {
        ((number as usize / 64) & (self.words.len() - 1), number % 64)
    }

    fn set(&mut self, number: u32) {
        let (word, bit) = self.place(number);
        self.words[word] |= 1 << bit;
    }

    fn is_set(&self, number: u32) -> bool {
        let (word, bit) = self.place(number);
        self.words[word] & (1 << bit) != 0
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
    fn the_window_agrees_with_a_set() {
        let mut window = Window::new(128, 7);
        let mut seen = alloc::collections::BTreeSet::new();
        let mut random = crate::random::Random::new(1);
        let mut newest = 7;
        for _ in 0..10_000 {
            let number = newest + 40 - random.below(100).min(newest + 40);
            newest = newest.max(number);
            let verdict = window.insert(number as u32);
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
