//! How far the peer has come with what was sent to it by rings: for those who keep something until the peer is done with it.

use super::Association;

/// A point in what was sent by the rings of an association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingMark {
    /// How often data had changed its leg.
    changes: u32,
    /// How much had been pushed to the leg that it went by.
    pushed: u64,
}

impl Association {
    /// Behind the last data message that was sent. Only for an association whose messages go by one leg at a time, and no further
    /// than its rings: what waits for room is behind the mark. `None` while no shared-memory leg is up.
    #[must_use]
    pub fn ring_mark(&self) -> Option<RingMark> {
        let leg = self.legs.get(self.route.leg(0))?.as_ref()?;
        Some(RingMark { changes: self.changes, pushed: leg.shm.data_tx.pushed() })
    }

    /// True when the peer has settled all that had been sent at `mark`. When messages have changed their leg since, only once
    /// nothing is under way at all: they may be sent again.
    pub fn is_settled_to(&mut self, mark: RingMark) -> bool {
        if mark.changes != self.changes {
            return self.is_drained();
        }
        let index = self.route.leg(0);
        if self.settled_of(index).is_some_and(|settled| settled >= mark.pushed) {
            return true;
        }
        self.refresh(index);
        mark.changes == self.changes && self.settled_of(index).is_some_and(|settled| settled >= mark.pushed)
    }

    fn settled_of(&self, index: usize) -> Option<u64> {
        Some(self.legs.get(index)?.as_ref()?.shm.data_tx.pushed_settled())
    }
}
