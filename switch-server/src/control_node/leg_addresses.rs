//! Where nodes say that their packet legs end.

use alloc::vec::Vec;

use vlan_core::NodeNumber;
use vlan_core::wire::control::OfferedLeg;

use crate::control_node::session::Session;
use crate::control_node::{ControlNode, ControlNodeEvent};

impl ControlNode {
    /// Takes what a node says of its packet legs in place of what it said before. `session` is out of its place.
    //= spec/server.md#leg-addresses
    //# A control node MUST take the address of a packet leg only from the node whose leg it is, only of a kind that the
    //# platform file lists for that node on that fabric, and only when it is the address of one station.
    pub(super) fn take_leg_addresses(&mut self, session: &mut Session, legs: &[OfferedLeg]) {
        let node = session.node;
        let mut taken: Vec<OfferedLeg> = Vec::new();
        for offered in legs {
            let (leg, address) = (offered.leg, offered.address);
            // One address of each kind on each fabric, which bounds the list.
            let is_second =
                taken.iter().any(|known| known.leg == leg && known.address.kind() == address.kind());
            if !is_second && address.is_usable() && self.is_listed(node, offered) {
                taken.push(*offered);
            } else {
                self.log(ControlNodeEvent::LegAddressRefused { node, leg, address });
            }
        }
        session.offered = taken;
        self.legs_changed(node);
    }

    fn is_listed(&self, node: NodeNumber, offered: &OfferedLeg) -> bool {
        let entry = self.entry_of_node(node);
        let kinds = entry.and_then(|entry| entry.legs.get(usize::from(offered.leg.0)));
        kinds.is_some_and(|kinds| kinds.contains(&offered.address.kind()))
    }
}
