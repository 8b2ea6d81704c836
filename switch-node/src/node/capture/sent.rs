//! Taps behind the sending of frames. Headers are made once more here: while nothing is captured they exist in registers alone.

use vlan_core::driver::PeerSlot;
use vlan_core::wire::frame::{FrameHeader, FrameKind, Vnet};
use vlan_core::{Channel, Location, VifNumber};

use super::tap_sent;
use crate::node::{Node, PeerId};

impl Node {
    /// A frame that has gone by the direct RVI with `slot`.
    #[cold]
    pub(in crate::node) fn tap_sent_direct(
        &mut self,
        vif: VifNumber,
        slot: PeerSlot,
        vnet: &Vnet,
        frame: &[u8],
    ) {
        let Some(interface) = self.interface(vif) else { return };
        let header = interface.driver.direct_header(slot, vnet, frame.len());
        let direct = interface.driver.peer(slot).and_then(|peer| Some((peer.node, peer.direct?.channel)));
        if let (Some(header), Some((node, channel))) = (header, direct) {
            tap_sent(&mut self.captures, PeerId::Node(node), channel, [&header, frame]);
        }
    }

    /// A frame that has gone to the control node at `index`, by one of the channels for frames and for ARP and ND.
    #[cold]
    pub(in crate::node) fn tap_sent_relay(
        &mut self,
        index: usize,
        channels: (Channel, Channel),
        header: &FrameHeader,
        frame: &[u8],
    ) {
        let peer = PeerId::ControlNode(index as u8);
        if header.kind == FrameKind::Arp {
            let nowhere = Location::default();
            let octets = header.emit_arp(&nowhere, &nowhere, frame.len());
            tap_sent(&mut self.captures, peer, channels.1, [&octets, frame]);
        } else {
            tap_sent(&mut self.captures, peer, channels.0, [&header.emit(frame.len()), frame]);
        }
    }
}
