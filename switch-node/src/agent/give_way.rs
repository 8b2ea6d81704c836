//! When the pump gives its core up between super-frames of UDP that it writes to a stack: whoever is to receive the
//! datagrams may be waiting for this core, and a socket has little room.

use std::time::Duration;

use vlan_core::Instant;
use vlan_core::super_frame::DATAGRAMS_MAX;

/// A program that had 64 datagrams to receive is done in less. Whoever kept the core for longer was another.
const PAUSE_MAX: Duration = Duration::from_millis(2);
/// After so many longer ones in a row, that other would take as much for each super-frame.
const LONG_PAUSES: u32 = 4;
/// Pauses that are left out then.
const SKIPPED: u32 = 64;

/// Counts the datagrams written to a stack.
#[derive(Clone, Debug, Default)]
pub(super) struct GiveWay {
    datagrams: usize,
    /// Pauses to be left out.
    skips: u32,
    /// Longer ones in a row.
    long: u32,
}

impl GiveWay {
    /// So many datagrams were written together: true when the core is to be given up now.
    //= spec/super-frames.md#giving-way
    //# A node MUST give up its core for a moment after it has written 64 datagrams of super-frames to a stack, unless others than their
    //# receivers keep it.
    #[inline]
    pub fn is_due(&mut self, datagrams: usize) -> bool {
        self.datagrams += datagrams;
        if self.datagrams < DATAGRAMS_MAX {
            return false;
        }
        self.datagrams = 0;
        let is_due = self.skips == 0;
        self.skips = self.skips.saturating_sub(1);
        is_due
    }

    /// The core was given up at `from`, and had again at `to`.
    #[inline]
    pub fn handle_return(&mut self, from: Instant, to: Instant) {
        self.long = if to.since(from) > PAUSE_MAX { self.long + 1 } else { 0 };
        if self.long == LONG_PAUSES {
            (self.long, self.skips) = (0, SKIPPED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //= spec/super-frames.md#giving-way
    //= type=test
    //# A node MUST give up its core for a moment after it has written 64 datagrams of super-frames to a stack, unless others than their
    //# receivers keep it.
    #[test]
    fn it_is_due_after_as_many_datagrams_as_a_socket_takes() {
        let mut way = GiveWay::default();
        let due: Vec<bool> = [40, 23, 1, 64, 2, 61, 1].map(|datagrams| way.is_due(datagrams)).to_vec();
        assert_eq!(due, [false, false, true, true, false, false, true]);
    }

    #[test]
    fn a_core_that_others_keep_again_and_again_is_not_given_up_for_a_while() {
        let at = |micros: u64| Instant::from_nanos(micros * 1000);
        let mut way = GiveWay::default();
        for pauses in [[3000, 3000, 3000, 2000], [3000, 3000, 3000, 3000]] {
            for pause in pauses {
                assert!(way.is_due(64));
                way.handle_return(at(0), at(pause));
            }
        }
        for _ in 0..SKIPPED {
            assert!(!way.is_due(64));
        }
        assert!(way.is_due(64));
    }
}
