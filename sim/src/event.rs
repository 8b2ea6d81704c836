//! The simulated clock and the queue of what happens next.
//!
//! Two events of the same instant happen in the order in which they were put in: nothing here depends on
//! addresses, hash seeds or the host's clock, so a seed replays exactly (I-10).

use std::collections::BTreeMap;

use vlan_core::Instant;

/// What is to happen, ordered by time and then by the order of scheduling.
#[derive(Debug)]
pub struct EventQueue<E> {
    pending: BTreeMap<(Instant, u64), E>,
    now: Instant,
    scheduled: u64,
}

impl<E> EventQueue<E> {
    /// An empty queue at the start of the clock.
    #[must_use]
    pub fn new() -> Self {
        Self { pending: BTreeMap::new(), now: Instant::ZERO, scheduled: 0 }
    }

    /// The simulated time: that of the last event taken.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Schedules `event` for `at`; a time in the past means now.
    pub fn schedule(&mut self, at: Instant, event: E) {
        self.scheduled += 1;
        self.pending.insert((at.max(self.now), self.scheduled), event);
    }

    /// Takes the next event that is due at or before `until` and moves the clock to it. When there is none,
    /// moves the clock to `until`.
    pub fn take_next(&mut self, until: Instant) -> Option<E> {
        let due = self.pending.first_key_value().is_some_and(|((at, _), _)| *at <= until);
        if !due {
            self.now = self.now.max(until);
            return None;
        }
        let ((at, _), event) = self.pending.pop_first()?;
        self.now = at;
        Some(event)
    }

    /// Events that are waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// True when nothing is waiting.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

impl<E> Default for EventQueue<E> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_of_time_and_then_of_scheduling() {
        let mut queue = EventQueue::new();
        for (at, name) in [(5, "c"), (1, "a"), (5, "d"), (1, "b")] {
            queue.schedule(Instant::from_nanos(at), name);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.take_next(Instant::from_nanos(4))).collect();
        assert_eq!((order, queue.now()), (vec!["a", "b"], Instant::from_nanos(4)));
        queue.schedule(Instant::ZERO, "late");
        let order: Vec<_> = std::iter::from_fn(|| queue.take_next(Instant::from_nanos(9))).collect();
        assert_eq!(order, ["late", "c", "d"]);
    }
}
