//! Drills: cutting and healing pairs and legs of pairs, and faults on the packet legs of nodes.

use vlan_core::wire::control::{ControlMessage, Fault, RevokeReason};
use vlan_core::{Instant, LegNumber, NodeNumber};

use super::{PairKey, key};
use crate::control_node::ControlNode;
use crate::control_node::session::Session;

impl ControlNode {
    /// Ends the direct RVIs of a pair, or takes one leg away from it, until healed.
    pub(in crate::control_node) fn cut(
        &mut self,
        now: Instant,
        a: NodeNumber,
        b: NodeNumber,
        leg: Option<LegNumber>,
    ) {
        let (key, _) = key(a, b);
        self.pairs.cuts.insert((key, leg));
        let Some(leg) = leg else {
            self.revoke(now, key, RevokeReason::Cut, [false; 2]);
            return;
        };
        if let Some(pair) = self.pairs.pairs.get_mut(&key) {
            pair.legs.remove(&leg);
            self.send_to_node(now, key.0, &ControlMessage::LegCut { peer: key.1, leg: leg.0 });
            self.send_to_node(now, key.1, &ControlMessage::LegCut { peer: key.0, leg: leg.0 });
        }
    }

    /// Lets what was cut come back: a leg at once, a whole association with traffic.
    pub(in crate::control_node) fn heal(&mut self, a: NodeNumber, b: NodeNumber, leg: Option<LegNumber>) {
        let (key, _) = key(a, b);
        let is_healed = |of: &(PairKey, Option<LegNumber>)| of.0 == key && (leg.is_none() || of.1 == leg);
        self.pairs.cuts.retain(|of| !is_healed(of));
        self.pairs.stale.insert(key);
    }

    /// How many attached nodes have a packet leg `leg`, or any: `node` alone, or all.
    #[must_use]
    pub fn nodes_with_packet_legs(&self, node: Option<NodeNumber>, leg: Option<LegNumber>) -> u32 {
        let is_meant = |session: &&alloc::boxed::Box<Session>| {
            let legs = session.offered.iter().filter(|offered| leg.is_none_or(|leg| leg == offered.leg));
            session.is_registered() && node.is_none_or(|node| node == session.node) && legs.count() > 0
        };
        self.sessions.iter().flatten().filter(is_meant).count() as u32
    }

    /// Passes a fault on to one node, or to all that are attached.
    pub(in crate::control_node) fn fault(&mut self, now: Instant, node: Option<NodeNumber>, fault: Fault) {
        let message = ControlMessage::Fault(fault);
        for session in self.sessions.iter_mut().flatten().filter(|session| session.is_registered()) {
            if node.is_none_or(|node| node == session.node) {
                session.send_control(now, &message);
            }
        }
    }
}
