//! Legs given up before their peer had left them: what it took of them in the end it may have written down since.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Association, LEGS, Leg};
use crate::association::moving::SourceRing;

/// Legs whose final heads were not there when they were given up.
#[derive(Debug, Default)]
pub(super) struct Unproven {
    /// At most as many as an association has legs; the oldest first.
    legs: Vec<Arc<Leg>>,
    /// Of some messages nobody will say whether they were taken for good: there were more legs, or a peer held what it took.
    pub has_gap: bool,
}

impl Unproven {
    /// Keeps the memory of a leg, if there is anything in it that its peer has not settled.
    pub fn keep(&mut self, leg: &Arc<Leg>) {
        if leg.is_settled() {
            return;
        }
        if self.legs.len() == LEGS {
            self.legs.remove(0);
            self.has_gap = true;
        }
        self.legs.push(Arc::clone(leg));
    }
}

/// How far a peer that left a leg had come with our rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FinalHeads {
    /// Behind what it took of the control ring.
    pub control: u32,
    /// Behind what it took for good of the data ring.
    pub data: u32,
    /// Behind what it took of the data ring and held.
    pub held: u32,
}

impl Leg {
    /// The peer's final heads, where they are possible ones.
    fn ended_at(&self) -> Option<FinalHeads> {
        let (data, control) = self.shm.final_heads()?;
        let is_possible = self.shm.data_tx.may_end_at(data) && self.shm.control_tx.may_end_at(control);
        is_possible.then(|| FinalHeads { control, data, held: self.shm.data_tx.taken_to(data) })
    }
}

impl Association {
    /// Takes the final heads that peers have stored since their legs were given up. When all of them have, it is known of
    /// every message whether it was taken.
    //= spec/rvi.md#proof
    //# An end that hands messages back MUST first read the final heads that the peer has stored since in legs given up
    //# before.
    pub(super) fn settle_unproven(&mut self) {
        let Unproven { legs, has_gap } = core::mem::take(&mut self.unproven);
        let mut is_all = !has_gap;
        for leg in legs {
            let Some(heads) = leg.ended_at() else {
                is_all = false;
                continue;
            };
            is_all &= heads.held == heads.data;
            self.note_taken(&leg, true, leg.shm.control_tx.settled(), heads.control);
            self.note_taken(&leg, false, leg.shm.data_tx.settled(), heads.data);
            for source in &mut self.sources {
                if matches!(&source.ring, SourceRing::Lost(lost) if Arc::ptr_eq(lost, &leg)) {
                    source.end_at(&heads);
                }
            }
        }
        self.is_uncertain &= !is_all;
    }
}
