//! What is received and must not be settled yet, because its outputs do not have it for good.
//!
//! Holds are counted in two generations. What came before a mark is settled when all holds that were made before the mark
//! are taken back, whatever was held since: with one count an output that always waits for something would keep
//! everything from being settled for ever.

use vlan_core::Instant;

use super::{Association, LEGS, Leg};
use crate::association::types::LegState;

/// Names the generation of a hold; [`Association::unhold`] wants it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Hold {
    is_odd: bool,
}

/// The holds of an association.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// Those made before the mark.
    earlier: u32,
    /// Those made since, and whether their generation is an odd one.
    later: u32,
    is_odd: bool,
}

impl Holds {
    /// True when something may not be settled.
    #[inline]
    pub(super) fn is_any(&self) -> bool {
        self.earlier + self.later > 0
    }

    fn add(&mut self) -> Hold {
        self.later += 1;
        Hold { is_odd: self.is_odd }
    }

    /// Takes a hold back; true when it was the last one of its generation.
    fn remove(&mut self, hold: Hold) -> bool {
        let count = if hold.is_odd == self.is_odd { &mut self.later } else { &mut self.earlier };
        assert!(*count > 0, "unhold without hold");
        *count -= 1;
        *count == 0
    }

    /// Everything held so far is of the earlier generation from now on, unless there still is one. True when it turned.
    fn turn(&mut self) -> bool {
        let turns = self.earlier == 0 && self.later > 0;
        if turns {
            (self.earlier, self.later, self.is_odd) = (self.later, 0, !self.is_odd);
        }
        turns
    }
}

impl Association {
    /// Keeps what was received from being settled, until `unhold` takes this back: an output that it went to does not have
    /// it for good yet. To be called while the message is handled.
    pub fn hold(&mut self) -> Hold {
        self.holds.add()
    }

    /// Takes a `hold` back; what nothing holds any more is settled.
    ///
    /// # Panics
    /// When nothing is held.
    pub fn unhold(&mut self, now: Instant, hold: Hold) {
        self.now = now;
        if self.holds.remove(hold) && self.holds.earlier == 0 {
            self.settle();
        }
    }

    /// Tells the peers that everything received so far is taken, and, as far as nothing holds it, done with: they may
    /// reuse its room. Call once per batch, after what came of the batch is published.
    #[inline]
    pub fn release(&mut self) {
        let hold = self.holds.is_any();
        self.turn.left = 0;
        for index in 0..LEGS {
            let Some(leg) = self.leg_taken_from(index) else { continue };
            let data = leg.shm.data_rx.release(hold);
            if leg.shm.control_rx.release(false) || data {
                self.ring_for_room(index);
            }
        }
        if !hold && self.packets.is_some() {
            self.channels.iter_mut().for_each(|(_, state)| state.settle_received());
        } else if hold && self.holds.turn() {
            self.mark_received();
        }
    }

    /// What was received so far is what the earlier generation holds.
    #[cold]
    fn mark_received(&mut self) {
        for leg in self.legs.iter_mut().flatten() {
            leg.shm.data_rx.mark();
        }
        for (_, state) in self.channels.iter_mut() {
            state.mark_received();
        }
    }

    /// A leg whose heads are not final yet.
    fn leg_taken_from(&mut self, index: usize) -> Option<&mut Leg> {
        self.legs[index].as_deref_mut().filter(|leg| leg.state != LegState::Leaving)
    }

    /// Settles what came before the mark, or everything if nothing is held.
    fn settle(&mut self) {
        let is_all = !self.holds.is_any();
        for index in 0..LEGS {
            let Some(leg) = self.leg_taken_from(index) else { continue };
            if leg.shm.data_rx.settle(is_all) {
                self.ring_for_room(index);
            }
        }
        let Some(packets) = &mut self.packets else { return };
        for (channel, state) in self.channels.iter_mut() {
            if state.settle(is_all) {
                packets.transport_mut().receiver_mut().resend_message_acks(self.now, channel);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_generation_ends_although_something_is_always_held() {
        let mut holds = Holds::default();
        let first = holds.add();
        assert!(holds.turn() && !holds.turn());
        let second = holds.add();
        assert!(holds.remove(first) && holds.is_any());
        assert!(holds.turn());
        let third = holds.add();
        assert!(holds.remove(second) && holds.earlier == 0);
        assert!(holds.remove(third) && !holds.is_any());
    }
}
