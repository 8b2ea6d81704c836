//! Messages from the fabric: step 7 of the walk. Frames are checked by their interface's driver and go to the
//! sink; control messages go to the part they are for.

mod direct_run;
mod passing;
mod relayed_run;

use rvi::{Message, Scratch, SharedOctets};
use vlan_core::driver::Ingress;
use vlan_core::ethernet::{EthernetHeader, is_neighbour_resolution};
use vlan_core::wire::control::ControlMessage;
use vlan_core::wire::frame::{FRAME_HEADER_LEN, FrameHeader, FrameKind};
use vlan_core::wire::reference::REFERENCE;
use vlan_core::wire::tlv::TlvError;
use vlan_core::{Channel, DropReason, Instant, VifNumber};

use crate::node::arenas::is_reference;
use crate::node::capture::{is_tapped, tap_received};
use crate::node::ingress::direct_run::DirectRun;
use crate::node::ingress::relayed_run::Origin;
use crate::node::{Delivery, FrameSink, GoneLeg, Node, Output, PeerId};
use vlan_core::driver::PeerSlot;

/// Messages taken from one association before the next has its turn.
const BATCH: usize = 32;

impl Node {
    /// Takes up to `budget` messages from the associations, in turns, and gives their frames to `sink`.
    /// Returns how many it took; less than `budget` means that nothing more was there.
    pub fn receive(&mut self, now: Instant, budget: usize, sink: &mut dyn FrameSink) -> usize {
        self.batch_at = now;
        self.set_capture_time(now);
        self.deliver_queries(sink);
        let mut scratch = core::mem::take(&mut self.scratch);
        let links = self.control.len() + self.direct.len();
        let (mut taken, mut quiet) = (0, 0);
        // Ends: every turn either takes a message or adds to the quiet links in a row.
        while taken < budget && quiet < links {
            self.next_link = if self.next_link < links { self.next_link } else { 0 };
            let batch = BATCH.min(budget - taken);
            let got = match self.next_link.checked_sub(self.control.len()) {
                None => self.receive_control(now, self.next_link, batch, &mut scratch, sink),
                Some(place) => self.receive_direct(now, place, batch, &mut scratch, sink),
            };
            taken += got;
            quiet = if got == 0 { quiet + 1 } else { 0 };
            self.next_link += 1;
        }
        scratch.release();
        self.scratch = scratch;
        if taken < budget && !self.gone.is_empty() {
            self.finish_gone_legs(now);
        }
        taken
    }

    fn finish_gone_legs(&mut self, now: Instant) {
        for gone in core::mem::take(&mut self.gone) {
            let GoneLeg { peer, process, leg } = gone;
            match peer {
                PeerId::ControlNode(index) => self.control_leg_gone(now, index, process, leg),
                PeerId::Node(node) => self.direct_leg_gone(now, node, process, leg),
            }
            self.outputs.push_back(Output::CloseLeg { peer, process, leg });
        }
    }

    // --- from a control node --------------------------------------------------------------------------------

    fn receive_control(
        &mut self,
        now: Instant,
        index: usize,
        batch: usize,
        scratch: &mut Scratch,
        sink: &mut dyn FrameSink,
    ) -> usize {
        let (mut taken, mut run, mut last) = (0, None, None);
        loop {
            let other = loop {
                if taken == batch {
                    break None;
                }
                let Some(message) = self.control[index].association.receive(scratch) else { break None };
                taken += 1;
                let is_delivered = match &mut run {
                    Some(run) => self.deliver_next(now, run, &message, sink),
                    None => false,
                };
                if !is_delivered {
                    break Some(message);
                }
            };
            self.end_run(run.take());
            let Some(message) = other else { break };
            let origin = self.take_from_control(now, index, &message, sink);
            if let Some((vif, _)) = origin.filter(|_| origin == last) {
                run = self.begin_run(index, vif, &message);
            }
            last = origin;
        }
        if taken > 0 {
            self.control[index].heard = now;
        }
        taken
    }

    /// Takes a message of a control node, of whatever kind it is. Gives the interface and the origin of a unicast frame that
    /// was delivered.
    fn take_from_control(
        &mut self,
        now: Instant,
        index: usize,
        message: &Message<'_>,
        sink: &mut dyn FrameSink,
    ) -> Option<(VifNumber, Origin)> {
        if !is_reference(message.head) {
            tap_received(&mut self.captures, PeerId::ControlNode(index as u8), message);
        }
        if message.channel == Channel::CONTROL {
            let message = ControlMessage::parse(&whole(message));
            self.handle_control(now, index, message);
            return None;
        }
        if message.channel == Channel::RELAYED_PACKETS {
            self.take_relayed(now, index, message);
            return None;
        }
        let Some(vif) = self.control[index].vif_of(message.channel) else {
            self.drops.add(DropReason::NoChannel);
            return None;
        };
        match FrameHeader::parse(message.head, message.len) {
            Ok(header) if self.is_to_be_given_back(vif, &header, message) => {
                self.return_segment(now, index, vif, message);
            }
            Ok(header) => {
                let is_taken = self.deliver_relayed(now, vif, &header, message, sink);
                return Origin::of(message.channel, &header).filter(|_| is_taken).map(|origin| (vif, origin));
            }
            Err(TlvError::UnknownKind { kind: REFERENCE }) => {
                self.take_reference(now, index, vif, message, sink);
            }
            Err(TlvError::UnknownKind { .. }) => {
                let message = ControlMessage::parse(&whole(message));
                self.handle_in_band_relay(vif, message);
            }
            Err(_) => self.count_drop(vif, DropReason::Malformed),
        }
        None
    }

    /// Gives a frame to the stack, if the driver lets it through. True when the stack has taken it.
    #[inline]
    pub(super) fn deliver_relayed(
        &mut self,
        now: Instant,
        vif: VifNumber,
        header: &FrameHeader,
        message: &Message<'_>,
        sink: &mut dyn FrameSink,
    ) -> bool {
        let Some(interface) = self.interface_mut(vif) else { return false };
        let header_len = header.kind.header_len();
        let (head, frame_len) = (&message.head[header_len..], message.len - header_len);
        let ingress = interface.driver.admit_relayed(header, head, frame_len);
        let Ingress::Deliver(vnet) = ingress else {
            self.note_refusal(vif, ingress, head, frame_len);
            return false;
        };
        //= spec/arp.md#learning-locations
        //# The driver MUST bind the sender's MAC of an ARP or ND message to the location in its header.
        if header.kind == FrameKind::Arp
            && let (Ok((source, _)), Some(ethernet)) =
                (FrameHeader::parse_locations(message.head), EthernetHeader::parse(head))
        {
            interface.handle_binding(ethernet.source, &source);
        }
        if header.flags & FrameHeader::OWNER_ONLY != 0 && !interface.may_have(head) {
            interface.driver.count_drop(DropReason::NotOwner, 1);
            self.note_refusal(vif, Ingress::Drop(DropReason::NotOwner), head, frame_len);
            return false;
        }
        if header.kind == FrameKind::Group {
            interface.listener.handle_incoming(now, head);
            if !interface.listener.admits(head) && !interface.driver.listens() {
                interface.driver.count_drop(DropReason::NotJoined, 1);
                self.note_refusal(vif, Ingress::Drop(DropReason::NotJoined), head, frame_len);
                return false;
            }
        }
        if let Some(served) = &mut interface.served {
            served.handle_incoming(now, head);
        }
        let taken = sink.deliver(vif, &vnet, head, message.rest) == Delivery::Taken;
        interface.driver.delivered(false, frame_len, taken);
        if header.kind == FrameKind::Promiscuous && taken {
            interface.driver.copy_delivered(frame_len);
        }
        self.note_delivery(vif, taken, head, message.rest);
        taken
    }

    fn handle_in_band_relay(&mut self, vif: VifNumber, message: Result<ControlMessage, TlvError>) {
        let Some(interface) = self.interface_mut(vif) else { return };
        match message {
            Ok(ControlMessage::Barrier { lan, origin, origin_vif, boot, id, .. })
                if lan == interface.driver.lan() =>
            {
                interface.driver.handle_barrier(origin, origin_vif, boot, id);
            }
            _ => interface.driver.count_drop(DropReason::Malformed, 1),
        }
    }

    // --- from another node ----------------------------------------------------------------------------------

    fn receive_direct(
        &mut self,
        now: Instant,
        place: usize,
        batch: usize,
        scratch: &mut Scratch,
        sink: &mut dyn FrameSink,
    ) -> usize {
        let mut taken = 0;
        while taken < batch {
            let Some(link) = self.direct[place].as_deref_mut() else { return taken };
            let mut run = DirectRun::new(now, &mut self.interfaces, &mut self.drop_examples);
            // Every message of a capture is looked at.
            let (captures, peer) = (self.captures.as_deref(), PeerId::Node(link.node));
            let is_captured = link.rvis().any(|rvi| is_tapped(captures, rvi.vif, peer));
            let other = loop {
                if taken == batch {
                    break None;
                }
                let Some(message) = link.association.receive(scratch) else { break None };
                taken += 1;
                if is_captured || !run.take(link, &message, sink) {
                    break Some(message);
                }
            };
            run.count(link);
            let Some(message) = other else { break };
            self.take_direct(now, place, &message, sink);
        }
        if taken > 0
            && let Some(link) = &mut self.direct[place]
        {
            link.heard = now;
        }
        taken
    }

    /// Takes a message of a direct association, of whatever kind it is.
    fn take_direct(&mut self, now: Instant, place: usize, message: &Message<'_>, sink: &mut dyn FrameSink) {
        let Some(link) = self.direct[place].as_deref_mut() else { return };
        tap_received(&mut self.captures, PeerId::Node(link.node), message);
        if message.channel == Channel::CONTROL {
            let message = ControlMessage::parse(&whole(message));
            self.handle_peer_control(now, place, message);
            return;
        }
        let Some(rvi) = link.rvi_of(message.channel) else {
            self.drops.add(DropReason::NoChannel);
            return;
        };
        link.received.add(message.len.saturating_sub(FRAME_HEADER_LEN));
        match FrameHeader::parse(message.head, message.len) {
            Ok(header) => self.deliver_direct(rvi.vif, rvi.slot, &header, message, sink),
            Err(TlvError::UnknownKind { .. }) => {
                let message = ControlMessage::parse(&whole(message));
                self.handle_in_band_direct(now, rvi.vif, rvi.slot, message);
            }
            Err(_) => self.count_drop(rvi.vif, DropReason::Malformed),
        }
    }

    #[inline]
    fn deliver_direct(
        &mut self,
        vif: VifNumber,
        slot: PeerSlot,
        header: &FrameHeader,
        message: &Message<'_>,
        sink: &mut dyn FrameSink,
    ) {
        let now = self.batch_at;
        let Some(interface) = self.interface_mut(vif) else {
            // It was taken away, and its direct RVI ends.
            self.drops.add(DropReason::NoChannel);
            return;
        };
        let header_len = header.kind.header_len();
        let (mut head, frame_len) = (&message.head[header_len..], message.len - header_len);
        let (mut rest, octets) = (message.rest, whole_resolution(message));
        if let Some(octets) = &octets {
            (head, rest) = (&octets[header_len..], SharedOctets::empty());
        }
        let driver = &mut interface.driver;
        let ingress = match driver.admit_by_address(slot, message.head, message.len) {
            Some(vnet) => Ingress::Deliver(vnet),
            None => driver.admit_direct(now, slot, header, head, frame_len),
        };
        if let Ingress::Deliver(vnet) = ingress {
            let taken = sink.deliver(vif, &vnet, head, rest) == Delivery::Taken;
            interface.driver.delivered(true, frame_len, taken);
            if header.kind == FrameKind::Promiscuous && taken {
                interface.driver.copy_delivered(frame_len);
            }
            self.note_delivery(vif, taken, head, rest);
        } else {
            self.note_refusal(vif, ingress, head, frame_len);
        }
    }

    /// What is remembered of a frame that the stack was given, or its device refused.
    #[inline]
    pub(super) fn note_delivery(&mut self, vif: VifNumber, taken: bool, head: &[u8], rest: SharedOctets<'_>) {
        if self.captures.is_some() {
            self.tap_delivered(vif, head, rest);
        }
        if !taken {
            let frame_len = head.len() + rest.len();
            self.drop_examples.note(self.batch_at, vif.0, DropReason::DeviceFull, head, frame_len);
        }
    }

    /// What is remembered of a frame that the driver has not let through.
    #[cold]
    fn note_refusal(&mut self, vif: VifNumber, ingress: Ingress, head: &[u8], frame_len: usize) {
        if let Ingress::Drop(reason) = ingress {
            self.drop_examples.note(self.batch_at, vif.0, reason, head, frame_len);
        }
    }

    fn handle_in_band_direct(
        &mut self,
        now: Instant,
        vif: VifNumber,
        slot: PeerSlot,
        message: Result<ControlMessage, TlvError>,
    ) {
        match message {
            Ok(ControlMessage::BarrierEcho { id }) => {
                if let Some(interface) = self.interface_mut(vif) {
                    interface.driver.handle_barrier_echo(slot, id);
                }
            }
            Ok(ControlMessage::RelayDrained { waiting }) => {
                self.handle_relay_drained(now, vif, slot, waiting);
            }
            _ => self.count_drop(vif, DropReason::Malformed),
        }
    }
}

/// A copy of an ARP or ND message of which a part may still be written: every octet of it is looked at, and what was
/// checked is what is delivered (amendment 8).
fn whole_resolution(message: &Message<'_>) -> Option<alloc::vec::Vec<u8>> {
    let frame = message.head.get(FRAME_HEADER_LEN..)?;
    let ethertype = EthernetHeader::parse(frame)?.ethertype;
    let is_cut = !message.rest.is_empty() && is_neighbour_resolution(ethertype, frame);
    is_cut.then(|| whole(message))
}

/// A whole private copy of a message.
pub(super) fn whole(message: &Message<'_>) -> alloc::vec::Vec<u8> {
    let mut octets = alloc::vec![0; message.head.len() + message.rest.len()];
    octets[..message.head.len()].copy_from_slice(message.head);
    message.rest.copy_to(&mut octets[message.head.len()..]);
    octets
}
