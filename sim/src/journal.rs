//! The journal of a run: a hash over everything that happened, and the lines themselves when asked for.

use std::fmt;

use vlan_core::Instant;

/// How many of the last lines are kept for a failure's report.
const LINES_KEPT: usize = 40;

/// Records what happens, in order; two runs of one seed must end with the same hash (I-10).
#[derive(Debug)]
pub struct Journal {
    hash: u64,
    records: u64,
    trace: bool,
    last: std::collections::VecDeque<String>,
}

impl Journal {
    /// An empty journal; with `trace` each line is also printed to standard error as it is written.
    #[must_use]
    pub fn new(trace: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, records: 0, trace, last: std::collections::VecDeque::new() }
    }

    /// Records a happening as numbers: cheap enough for each frame.
    pub fn record(&mut self, now: Instant, words: &[u64]) {
        self.records += 1;
        self.fold(now.as_nanos());
        for word in words {
            self.fold(*word);
        }
    }

    /// Records a line of text.
    pub fn line(&mut self, now: Instant, text: fmt::Arguments<'_>) {
        let text = format!("{now} {text}");
        self.records += 1;
        for chunk in text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fold(u64::from_le_bytes(word));
        }
        if self.trace {
            eprintln!("{text}");
        }
        if self.last.len() == LINES_KEPT {
            self.last.pop_front();
        }
        self.last.push_back(text);
    }

    /// True when lines are printed: the caller may then spend time on finer ones.
    #[must_use]
    pub fn is_tracing(&self) -> bool {
        self.trace
    }

    /// Prints a line that is not part of the record, when tracing.
    pub fn trace(&self, now: Instant, text: fmt::Arguments<'_>) {
        if self.trace {
            eprintln!("{now} {text}");
        }
    }

    /// The hash of everything recorded so far, and how many records it covers.
    #[must_use]
    pub fn digest(&self) -> (u64, u64) {
        (self.hash, self.records)
    }

    /// The last lines, oldest first.
    pub fn last_lines(&self) -> impl Iterator<Item = &str> {
        self.last.iter().map(String::as_str)
    }

    fn fold(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.hash ^= self.hash >> 32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_depends_on_every_word_and_on_the_order() {
        let digest = |words: &[&[u64]]| {
            let mut journal = Journal::new(false);
            for w in words {
                journal.record(Instant::ZERO, w);
            }
            journal.digest()
        };
        assert_eq!(digest(&[&[1], &[2]]), digest(&[&[1], &[2]]));
        assert_ne!(digest(&[&[1], &[2]]), digest(&[&[2], &[1]]));
        assert_ne!(digest(&[&[1], &[2]]), digest(&[&[1], &[3]]));
    }
}
