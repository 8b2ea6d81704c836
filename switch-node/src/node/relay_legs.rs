//! Relay legs: packets of an association with another node that a control node carries while the association's own legs
//! are silent.
//!
//! What happens to a packet here: [`Node::send_relayed`] puts each packet that an association sends by a relay leg, sealed
//! as it is, into the control RVI, or drops it; [`Node::take_relayed`] gives one that a control node brings to the
//! association that it names, which opens it like any other. Rules: `spec/leg-relay.md`.

use rvi::Message;
use rvi::packet::session::SessionLeg;
use rvi::packet::transport::{Transmit, TransmitBuffer};
use rvi::packet::wire::{PacketHeader, PacketKind, PacketLeg};
use rvi::{Association, Part};
use vlan_core::wire::{RELAYED_HEADER_LEN, RelayedPacket};
use vlan_core::{Channel, Instant};

use crate::node::capture::tap_sent;
use crate::node::direct::DirectLink;
use crate::node::ingress::whole;
use crate::node::{Node, PeerId};

/// Packets of relay legs, as one node counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayedCounters {
    /// Packets given to a control node.
    pub sent: u64,
    /// Packets of a control node that their association opened.
    pub received: u64,
    /// Packets dropped because there was no room for them, or no control node.
    pub full: u64,
    /// Messages of a control node that were no relayed packets, or whose packets belong to no association here, or that
    /// it did not open.
    pub refused: u64,
}

/// The relay legs of an association: one by each control node. They cross no fabric of this platform's numbering, and
/// are encrypted: a control node has no business with what it carries.
pub(super) fn relay_legs(control_nodes: usize) -> impl Iterator<Item = SessionLeg> {
    let legs = (0..control_nodes).filter_map(PacketLeg::relay);
    legs.map(|leg| SessionLeg { leg, fabric_key: 0, is_trusted: false })
}

/// True for the kinds of packets that a control node carries.
const fn is_carried(kind: PacketKind) -> bool {
    matches!(kind, PacketKind::Data | PacketKind::Probe | PacketKind::Confirm | PacketKind::Close)
}

impl Node {
    /// Packets of relay legs.
    #[must_use]
    pub fn relayed(&self) -> &RelayedCounters {
        &self.relayed
    }

    /// A control node carries packets of relay legs from now on, or does not any more.
    pub(super) fn set_relay(&mut self, now: Instant, index: usize, is_carried: bool) {
        let Some(leg) = PacketLeg::relay(index) else { return };
        for place in 0..self.direct.len() {
            if let Some(link) = &mut self.direct[place] {
                link.association.set_relay(now, leg, is_carried);
            }
            self.drain_direct_events(now, place);
        }
    }

    /// An association has been given packet legs: those by control nodes that carry packets serve as well.
    pub(super) fn start_relays(&mut self, now: Instant, place: usize) {
        let Some(link) = &mut self.direct[place] else { return };
        for (index, control) in self.control.iter().enumerate() {
            if let Some(leg) = PacketLeg::relay(index).filter(|_| control.is_attached()) {
                link.association.set_relay(now, leg, true);
            }
        }
    }

    /// Gives the packets of a batch, of the association at `place`, to the control node whose leg they go by.
    pub(super) fn send_relayed(
        &mut self,
        now: Instant,
        place: usize,
        batch: &Transmit,
        out: &TransmitBuffer,
    ) {
        let Some(link) = &self.direct[place] else { return };
        let header = RelayedPacket { node: link.node, epoch: link.epoch() };
        let control = batch.leg.control_node().and_then(|index| self.control.get_mut(index));
        let mut association = control.filter(|link| link.is_attached()).map(|link| &mut link.association);
        for packet in out.octets().chunks(batch.segment_len) {
            if !PacketHeader::parse(packet).is_ok_and(|header| is_carried(header.kind)) {
                continue;
            }
            let association = association.as_deref_mut();
            let is_sent = association.is_some_and(|association| offer(now, association, header, packet));
            if is_sent && let Some(index) = batch.leg.control_node() {
                let octets = header.emit(packet.len());
                let peer = PeerId::ControlNode(index as u8);
                tap_sent(&mut self.captures, peer, Channel::RELAYED_PACKETS, [&octets, packet]);
            }
            *(if is_sent { &mut self.relayed.sent } else { &mut self.relayed.full }) += 1;
        }
        // On shared memory nothing else would make them visible before the next batch.
        if let Some(association) = association {
            association.publish();
        }
    }

    /// Takes a message of a control node on the channel of relayed packets.
    pub(super) fn take_relayed(&mut self, now: Instant, index: usize, message: &Message<'_>) {
        let opened = self.open_relayed(now, index, message);
        *(if opened.is_some() { &mut self.relayed.received } else { &mut self.relayed.refused }) += 1;
    }

    /// Has the association that a relayed packet names open it.
    //= spec/leg-relay.md#receiver
    //# A node MUST take a relayed packet only for the association with the node and in the epoch that its header names, only
    //# from the control node whose relay leg the packet is of, and only when it is DATA, PROBE, CONFIRM or CLOSE.
    fn open_relayed(&mut self, now: Instant, index: usize, message: &Message<'_>) -> Option<()> {
        let header = RelayedPacket::parse(message.head, message.len).ok()?;
        let leg = PacketLeg::relay(index)?;
        // Both headers lie in what was copied already: the rest is copied for an association that wants it.
        let outer = PacketHeader::parse(message.head.get(RELAYED_HEADER_LEN..)?).ok()?;
        if !is_carried(outer.kind) || outer.packet_len() + RELAYED_HEADER_LEN != message.len {
            return None;
        }
        let place = self.direct_to(header.node)?;
        let is_meant = |link: &&mut alloc::boxed::Box<DirectLink>| {
            link.epoch() == header.epoch && link.packets.cid == outer.dst_cid
        };
        let link = self.direct[place].as_mut().filter(is_meant)?;
        let mut octets = whole(message);
        // The leg that the packet says it is of is compared with this one when it is opened.
        let opened = link.association.handle_packet(now, leg, octets.get_mut(RELAYED_HEADER_LEN..)?);
        self.drain_direct_events(now, place);
        self.end_packets(now, place);
        opened.ok()
    }
}

/// Puts a packet into the control RVI if there is room at once. All packets to one node stay in one lane: one that
/// overtook another would look like a loss to its association.
fn offer(now: Instant, association: &mut Association, header: RelayedPacket, packet: &[u8]) -> bool {
    let octets = header.emit(packet.len());
    let parts = [Part::Private(&octets), Part::Private(packet)];
    association.offer(now, Channel::RELAYED_PACKETS, u32::from(header.node.0), &parts)
}
