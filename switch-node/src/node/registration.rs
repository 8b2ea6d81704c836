//! What a node says of itself to its control nodes: what it has already when it registers, and where its packet legs
//! end.

use alloc::vec::Vec;

use vlan_core::wire::control::{
    ControlMessage, HeldAssociation, HeldDirect, HeldInterface, HeldLeg, LegKind, OfferedLeg, TLV_VERSION,
};
use vlan_core::{Instant, LegNumber};

use crate::node::Node;
use crate::node::direct::DirectLink;

impl Node {
    /// Frames of an ether leg come by AF_XDP from now on, or by a packet socket: reports say so.
    pub fn handle_leg_driver(&mut self, leg: LegNumber, is_af_xdp: bool) {
        self.ether_legs.insert(leg, is_af_xdp);
    }

    /// The packet legs that this node is ready for, all of them, have changed: every control node that it has
    /// registered with is told, and any other when it registers.
    pub fn handle_leg_addresses(&mut self, now: Instant, legs: &[OfferedLeg]) {
        if self.offered == legs {
            return;
        }
        self.offered = legs.to_vec();
        let message = ControlMessage::LegAddresses { legs: self.offered.clone() };
        for index in 0..self.control.len() {
            if self.control[index].has_registered() {
                self.send_control(now, index, &message);
            }
        }
    }

    pub(super) fn register_message(&self) -> ControlMessage {
        let interfaces = self.interfaces.iter().flatten().map(|interface| {
            let config = interface.driver.config();
            HeldInterface { lan: config.lan, vif: config.vif, mac: config.mac }
        });
        // What is being left is not held any more.
        let links: Vec<&DirectLink> =
            self.direct.iter().flatten().map(|link| &**link).filter(|link| !link.is_closing()).collect();
        let direct = links.iter().flat_map(|link| {
            link.rvis().map(|rvi| HeldDirect {
                rvi: rvi.number,
                lan: rvi.lan,
                peer: link.node,
                channel: rvi.channel,
                own_vif: rvi.vif,
                peer_vif: rvi.peer_vif,
            })
        });
        ControlMessage::Register {
            version: TLV_VERSION,
            node: self.config.number,
            process: self.config.process,
            interfaces: interfaces.collect(),
            direct: direct.collect(),
            associations: links.iter().map(|link| held(link)).collect(),
            legs: self.offered.clone(),
        }
    }
}

fn held(link: &DirectLink) -> HeldAssociation {
    let shared = link.association.legs().map(|leg| HeldLeg { leg: leg.number, kind: LegKind::Unix });
    // Shared memory has the place of a packet leg of its number.
    let is_shared = |leg: LegNumber| link.association.legs().any(|shared| shared.number == leg);
    let packet = link.packet_legs().iter().filter(|leg| !is_shared(leg.leg));
    let packet = packet.map(|leg| HeldLeg { leg: leg.leg, kind: leg.address.kind() });
    HeldAssociation {
        peer: link.node,
        process: link.process,
        epoch: link.epoch(),
        legs: shared.chain(packet).collect(),
    }
}
