//! Nodes that come, go or change while frames flow.

use alloc::vec::Vec;

use vlan_core::wire::control::{ControlMessage, RevokeReason};
use vlan_core::{Instant, NodeNumber, PublicKey};

use super::session::Stage;
use super::{ControlNode, ControlNodeEvent, NodeEntry};

impl ControlNode {
    /// Whose key this is.
    #[must_use]
    pub fn node_of_key(&self, key: &PublicKey) -> Option<NodeNumber> {
        self.config.nodes.iter().find(|entry| entry.public_key == *key).map(|entry| entry.number)
    }

    pub(super) fn entry_of_node(&self, node: NodeNumber) -> Option<&NodeEntry> {
        self.config.nodes.iter().find(|entry| entry.number == node)
    }

    /// Has these nodes in place of those that it has.
    pub(super) fn change_nodes(&mut self, now: Instant, nodes: Vec<NodeEntry>) {
        for former in core::mem::replace(&mut self.config.nodes, nodes) {
            match self.entry_of_node(former.number) {
                Some(entry) if entry.is_as_trusted_as(&former) => {}
                Some(_) => self.refuse_node(
                    now,
                    &former,
                    "its key, host or legs are other ones now: start it again with the platform file as it is",
                ),
                None => self.refuse_node(now, &former, "it is no node of the platform any more"),
            }
        }
    }

    /// Ends what a node has by what is known of it no more, and tells it why.
    //= spec/control-node.md#nodes-that-change
    //# When an applied file has a node no more, or with another key, host or legs, a control node MUST refuse the process that is
    //# attached, take nothing more from it, and revoke its direct RVIs.
    fn refuse_node(&mut self, now: Instant, former: &NodeEntry, reason: &str) {
        let node = former.number;
        for key in self.pairs.keys_of(node) {
            self.revoke(now, key, RevokeReason::Membership, [false; 2]);
        }
        // Its own end hears of that too, while it is still heard of here.
        self.settle_pairs(now);
        for place in 0..self.sessions.len() {
            let Some(session) = &mut self.sessions[place] else { continue };
            if session.node != node || session.stage == Stage::Ended {
                continue;
            }
            if session.is_unproven() {
                self.sessions[place] = None;
                continue;
            }
            session.send_control(now, &ControlMessage::Refused { reason: reason.into() });
            (session.stage, session.was_refused) = (Stage::Ended, true);
            self.detach_all(now, place);
            let name = former.name.clone();
            self.log(ControlNodeEvent::Refused { node, name, reason: reason.into() });
        }
    }
}

impl NodeEntry {
    /// True when a process that was admitted as `former` may stay.
    fn is_as_trusted_as(&self, former: &Self) -> bool {
        (&self.public_key, &self.host, &self.legs) == (&former.public_key, &former.host, &former.legs)
    }
}
