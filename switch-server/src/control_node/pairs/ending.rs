//! The end of pairs: revoked, lost, idle, or with one of their processes.

use core::time::Duration;

use vlan_core::wire::control::{ControlMessage, RevokeReason};
use vlan_core::{Instant, NodeNumber, ProcessId, RviNumber};

use super::{PairKey, PairLeg, PairState, key, order};
use crate::control_node::session::Session;
use crate::control_node::{ControlNode, ControlNodeEvent};

/// How long both ends have to say that a revoked or lost association is over, before the control node goes on
/// without (amendment 5 has the honest end do it within 10 ms).
pub(in crate::control_node) const END_WAIT: Duration = Duration::from_secs(2);

impl ControlNode {
    /// Revokes everything of a pair; the ends in `done` need not be told.
    pub(in crate::control_node) fn revoke(
        &mut self,
        now: Instant,
        key: PairKey,
        reason: RevokeReason,
        done: [bool; 2],
    ) {
        let Some(pair) = self.pairs.pairs.get_mut(&key) else { return };
        if matches!(pair.state, PairState::Ending { .. }) {
            return;
        }
        pair.state = PairState::Ending { done, until: now + END_WAIT };
        let rvi = pair.first_rvi();
        for (end, (node, peer)) in [(key.0, key.1), (key.1, key.0)].into_iter().enumerate() {
            if !done[end] {
                self.pairs.notices.push((node, ControlMessage::Revoke { rvi, peer, reason }));
            }
        }
        self.log(ControlNodeEvent::Revoked { a: key.0, b: key.1, reason });
    }

    /// A node has nothing to send on a direct RVI for 60 s (amendment 19).
    pub(in crate::control_node) fn direct_idle(&mut self, now: Instant, node: NodeNumber, rvi: RviNumber) {
        let found = self.pairs.pairs.iter().find(|(key, pair)| {
            (key.0 == node || key.1 == node) && pair.rvis.iter().any(|known| known.number == rvi)
        });
        if let Some((&key, _)) = found {
            self.revoke(now, key, RevokeReason::Idle, [false; 2]);
        }
    }

    /// A node says that its direct association with a process of `peer` is over. When both ends have, the pair
    /// may have another; an end that still believes in it, or waits for the other, is told.
    //= spec/server.md#one-end-that-is-over
    //# When one end of a direct association says that it is over, a control node MUST tell the other end, unless that has said
    //# so too.
    pub(in crate::control_node) fn direct_lost(
        &mut self,
        now: Instant,
        (node, process): (NodeNumber, ProcessId),
        (peer, peer_process): (NodeNumber, ProcessId),
    ) {
        let (key, end) = key(node, peer);
        // One that is not attached finds nothing to claim when it comes.
        let is_peer_away = self.registered_process(peer) != Some(peer_process);
        let Some(pair) = self.pairs.pairs.get_mut(&key) else { return };
        if pair.processes != order(end, process, peer_process) {
            return;
        }
        let (mut done, until) = match pair.state {
            PairState::Ending { done, until } => (done, until),
            _ => ([false; 2], now + END_WAIT),
        };
        let is_news = !core::mem::replace(&mut done[end], true);
        done[1 - end] |= is_peer_away;
        let rvi = pair.first_rvi();
        pair.state = PairState::Ending { done, until };
        if done == [true; 2] {
            self.pairs.pairs.remove(&key);
        } else if is_news {
            let reason = RevokeReason::Ended;
            self.pairs.notices.push((peer, ControlMessage::Revoke { rvi, peer: node, reason }));
        }
    }

    /// A session has ended; whether the process has, nobody knows. What the other end of a pair holds it keeps: the
    /// direct way may be the only one that is left.
    pub(in crate::control_node) fn pairs_of_ended(&mut self, node: NodeNumber, process: ProcessId) {
        for key in self.pairs.keys_of(node) {
            let (end, other) = if key.0 == node { (0, key.1) } else { (1, key.0) };
            let other_process = self.registered_process(other);
            let Some(pair) = self.pairs.pairs.get_mut(&key) else { continue };
            if pair.processes[end] != process {
                continue;
            }
            let is_other_here = other_process == Some(pair.processes[1 - end]);
            let is_held = match pair.state {
                PairState::Granted => is_other_here,
                PairState::Adopting { claimed } => is_other_here && claimed[1 - end],
                PairState::Ending { .. } => false,
            };
            if is_held {
                pair.state = PairState::Adopting { claimed: order(end, false, true) };
            } else {
                self.pairs.pairs.remove(&key);
            }
        }
    }

    /// A process has registered that is not the one of the node's pairs: those are over. Sockets say so to the other
    /// end of a shared-memory leg; of packet legs it hears nothing, so it is told.
    //= spec/server.md#another-process
    //# When another process of a node registers, a control node MUST revoke the direct RVIs with packet legs that peers
    //# have with the former one.
    pub(in crate::control_node) fn pairs_of_replaced(&mut self, now: Instant, session: &Session) {
        for key in self.pairs.keys_of(session.node) {
            let end = usize::from(key.1 == session.node);
            let Some(pair) = self.pairs.pairs.get(&key) else { continue };
            if pair.processes[end] == session.process {
                continue;
            }
            if pair.legs.values().any(|leg| *leg != PairLeg::Unix) {
                self.revoke(now, key, RevokeReason::Membership, order(end, true, false));
            } else {
                self.pairs.pairs.remove(&key);
            }
        }
    }

    pub(in crate::control_node) fn pair_timeouts(&mut self, now: Instant) {
        let is_over = |state: &PairState| matches!(state, PairState::Ending { until, .. } if *until <= now);
        self.pairs.pairs.retain(|_, pair| !is_over(&pair.state));
    }

    /// The process that serves `node` now.
    pub(super) fn registered_process(&self, node: NodeNumber) -> Option<ProcessId> {
        self.registered(node).and_then(|place| self.sessions[place].as_ref()).map(|session| session.process)
    }
}
