//! What a node and its peers say to each other when a control node is lost, so that barriers end that it would have
//! ended.

use rvi::Part;
use vlan_core::driver::{Path, PeerSlot};
use vlan_core::ethernet::flow_hash;
use vlan_core::wire::control::ControlMessage;
use vlan_core::wire::frame::{FRAME_HEADER_LEN, FrameHeader, FrameKind};
use vlan_core::{Instant, MacAddress, VifNumber};

use crate::node::capture::tap_sent;
use crate::node::{Node, PeerId};

impl Node {
    /// Everything that the lost control node had published for this node has been taken: peers that wait for
    /// a barrier may go on (amendment 20). Those that this node waits for are asked for the same word: what they
    /// said before is worth nothing, for they may have had another control node since.
    pub(in crate::node) fn tell_peers_relay_drained(&mut self, now: Instant) {
        for place in 0..self.direct.len() {
            let Some(link) = &self.direct[place] else { continue };
            for rvi in link.rvis.clone() {
                let peer = self.interface(rvi.vif).and_then(|interface| interface.driver.peer(rvi.slot));
                let waiting = peer.is_some_and(|peer| matches!(peer.path, Path::Barrier { .. }));
                self.tell_relay_drained(now, rvi.vif, rvi.slot, waiting);
            }
        }
    }

    pub(super) fn tell_relay_drained(&mut self, now: Instant, vif: VifNumber, slot: PeerSlot, waiting: bool) {
        let Some(peer) = self.interface(vif).and_then(|interface| interface.driver.peer(slot)) else {
            return;
        };
        let (node, Some(direct)) = (peer.node, peer.direct) else { return };
        if let Some(link) = self.direct_to(node).and_then(|place| self.direct[place].as_mut()) {
            let octets = ControlMessage::RelayDrained { waiting }.emit();
            let _ = link.association.send_parts(now, direct.channel, 0, 0, &[Part::Private(&octets)]);
            tap_sent(&mut self.captures, PeerId::Node(node), direct.channel, [&octets[..], &[]]);
        }
    }

    /// The peer at `slot` has drained its lost control node.
    //= spec/driver.md#words-about-a-lost-relay
    //# A node that is attached MUST ignore a RELAY_DRAINED, and ask for it when its own control node is lost.
    pub(in crate::node) fn handle_relay_drained(
        &mut self,
        now: Instant,
        vif: VifNumber,
        slot: PeerSlot,
        waiting: bool,
    ) {
        if self.attached().is_some() {
            // What this node has sent by relay may still be under way. The peer is asked when this node's own
            // session ends.
            return;
        }
        // An answer is never answered.
        if waiting {
            self.tell_relay_drained(now, vif, slot, false);
        }
        self.take_relay_drained(now, vif, slot);
    }

    /// What this node's own control node had not settled for the peer goes over the direct RVI, under its
    /// relayed numbers, and then everything else.
    fn take_relay_drained(&mut self, now: Instant, vif: VifNumber, slot: PeerSlot) {
        let Some(interface) = self.interface_mut(vif) else { return };
        let Some(peer) = interface.driver.peer(slot) else { return };
        let waits = matches!(peer.path, Path::Barrier { .. });
        let (node, mac, direct) = (peer.node, peer.mac, peer.direct);
        let (true, Some(direct)) = (waits, direct) else { return };
        let Some(place) = self.direct_to(node) else { return };
        let seed = self.config.seed;
        for control in &mut self.control {
            let Some(link) = &mut self.direct[place] else { return };
            let mut full = false;
            control.resend.retain(|octets| {
                let ours = is_relayed_to(octets, vif, mac);
                // The lane that the flow's next frames take.
                let flow = octets.get(FRAME_HEADER_LEN..).map_or(0, |frame| flow_hash(seed, frame));
                // Once one finds no room the later ones wait as well, or they would overtake it.
                full |= ours
                    && (full
                        || link
                            .association
                            .send(now, direct.channel, flow, 0, &[Part::Private(octets)])
                            .is_err());
                !ours || full
            });
            if full {
                return;
            }
        }
        if let Some(interface) = self.interface_mut(vif) {
            interface.driver.handle_relay_drained(slot);
        }
        self.flush_held(now);
    }
}

/// True for a relayed frame of the interface `vif` to the member with address `mac`.
fn is_relayed_to(octets: &[u8], vif: VifNumber, mac: MacAddress) -> bool {
    FrameHeader::parse(octets, octets.len()).is_ok_and(|header| {
        header.kind == FrameKind::Relay
            && header.origin_vif == vif
            && octets.get(header.kind.header_len()..).is_some_and(|frame| frame.starts_with(&mac.0))
    })
}
