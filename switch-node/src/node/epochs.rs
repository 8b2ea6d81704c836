//! Which association a leg or a grant between nodes is for: that of its epoch, while this end has not ended it.
//!
//! The two ends see hang-ups at different times. One that was stopped can lose its last leg, and its session with it, while
//! the other goes on by a leg that came back. As an epoch has one session at each end, what is of an ended one is refused.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use vlan_core::{Instant, NodeNumber, PairEpoch, ProcessId};

use crate::node::Node;
use crate::node::direct::DirectLink;

/// Ended epochs that a node remembers (spec/timers.md).
const ENDED_EPOCHS_MAX: usize = 1024;

/// The epochs of associations that have ended at this node, the latest last.
#[derive(Debug, Default)]
pub(super) struct EndedEpochs(VecDeque<(NodeNumber, PairEpoch)>);

impl EndedEpochs {
    pub fn add(&mut self, peer: NodeNumber, epoch: PairEpoch) {
        if self.0.len() == ENDED_EPOCHS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((peer, epoch));
    }

    fn has(&self, peer: NodeNumber, epoch: PairEpoch) -> bool {
        self.0.contains(&(peer, epoch))
    }
}

impl Node {
    /// The place of the link to a process of `node` in this epoch, made if there is none; a link of another epoch ends.
    /// None: the association is over at this end, or on its way out.
    //= spec/rvi.md#epochs-of-a-pair
    //# A leg between two nodes MUST carry the epoch of the association that it was made for, and an end MUST take a leg or a
    //# grant only into the association of that epoch: it ends one of another epoch first.
    pub(super) fn direct_for(
        &mut self,
        now: Instant,
        node: NodeNumber,
        process: ProcessId,
        epoch: PairEpoch,
    ) -> Option<usize> {
        //= spec/rvi.md#ended-epochs
        //# An end MUST refuse a leg or a grant of an epoch whose association has ended there or is being left.
        if self.ended.has(node, epoch) {
            return None;
        }
        if let Some(place) = self.direct_to(node)
            && let Some(link) = &self.direct[place]
        {
            if (link.process, link.epoch()) == (process, epoch) {
                return (!link.is_closing()).then_some(place);
            }
            let died = link.process != process;
            self.end_former_epoch(now, place, died);
        }
        Some(self.make_link(now, node, process, epoch))
    }

    fn make_link(&mut self, now: Instant, node: NodeNumber, process: ProcessId, epoch: PairEpoch) -> usize {
        let seed = self.random.next_u64();
        let link = Box::new(DirectLink::new(now, (node, process), epoch, seed));
        let place = match self.direct.iter().position(Option::is_none) {
            Some(place) => {
                self.direct[place] = Some(link);
                place
            }
            None => {
                self.direct.push(Some(link));
                self.direct.len() - 1
            }
        };
        let number = usize::from(node.0);
        if self.direct_places.len() <= number {
            self.direct_places.resize(number + 1, u16::MAX);
        }
        self.direct_places[number] = place as u16;
        place
    }

    /// The control node has gone on to another epoch of the pair, so it knows that this one is over.
    fn end_former_epoch(&mut self, now: Instant, place: usize, died: bool) {
        self.give_back(now, place, died);
        self.flush_held(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_ended_epochs_are_remembered() {
        let mut ended = EndedEpochs::default();
        let (peer, other) = (NodeNumber(1), NodeNumber(2));
        for epoch in 0..=ENDED_EPOCHS_MAX as u32 {
            ended.add(peer, PairEpoch(epoch));
        }
        let known = [0, 1, ENDED_EPOCHS_MAX as u32].map(|epoch| ended.has(peer, PairEpoch(epoch)));
        assert_eq!(known, [false, true, true]);
        assert!(!ended.has(other, PairEpoch(1)));
    }
}
