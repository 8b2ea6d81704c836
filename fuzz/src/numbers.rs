//! A model of the duplicate filter: which numbers of one origin were let through.

use std::collections::BTreeSet;

use vlan_core::limits::BSEQ_WINDOW;

/// The numbers let through that a receiver has to remember: those in the window behind the newest.
///
/// An origin that jumps ahead by more than half of the number space walks round it and may use a number again;
/// that harms nobody but itself.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    seen: BTreeSet<u32>,
    newest: Option<u32>,
}

impl Numbers {
    /// Notes that frame `number` was let through.
    ///
    /// # Panics
    /// When it was let through before and is still in the window.
    pub fn note(&mut self, number: u32) {
        assert!(self.seen.insert(number), "frame {number} was let through twice");
        let newest = *self.newest.get_or_insert(number);
        if number.wrapping_sub(newest) < 1 << 31 {
            self.newest = Some(number);
            self.seen.retain(|seen| number.wrapping_sub(*seen) < BSEQ_WINDOW);
        }
    }

    /// A new life of the origin: it numbers anew.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
