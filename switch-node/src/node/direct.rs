//! The direct associations to other nodes: grants, legs, and giving back what was not delivered.

mod barriers;
mod control_loss;
mod introduced;
mod link;

use alloc::vec::Vec;

use rvi::{LegEnd, ShmLeg, Unsent};
use vlan_core::limits::DIRECT_IDLE;
use vlan_core::wire::control::{ControlMessage, Grant};
use vlan_core::wire::frame::{FrameHeader, FrameKind};
use vlan_core::wire::tlv::TlvError;
use vlan_core::{Channel, DropReason, Instant, LegNumber, NodeNumber, PairEpoch, ProcessId};

use crate::node::capture::tap_sent;
use crate::node::{LEAVE_WAIT, Node, NodeEvent, Output, PeerId};

pub(super) use link::{DirectLink, DirectRvi};

impl Node {
    // --- grants and legs ------------------------------------------------------------------------------------

    pub(super) fn handle_grant(&mut self, now: Instant, grant: &Grant) {
        if self.is_leaving() {
            return;
        }
        let is_known = self.interface(grant.own_vif).is_some_and(|interface| {
            let mut peers = interface.driver.peers().iter();
            interface.driver.lan() == grant.lan
                && peers.any(|peer| peer.node == grant.peer && peer.vif == grant.peer_vif)
        });
        if !is_known {
            return;
        }
        // First: an association with an earlier process or of an earlier epoch ends here, and its grants with it.
        let (peer, process, epoch) = (grant.peer, grant.peer_process, grant.association.epoch);
        let Some(place) = self.direct_for(now, peer, process, epoch) else { return };
        let Some(link) = &mut self.direct[place] else { return };
        link.take_granted(&grant.association);
        if link.rvi_of(grant.channel).is_some_and(|rvi| rvi.number == grant.rvi) {
            // Granted before: its legs have changed, its way has not.
            return;
        }
        let driver = self.interface_mut(grant.own_vif).map(|interface| &mut interface.driver);
        let Some(slot) = driver.and_then(|driver| driver.handle_grant(grant)) else { return };
        let Some(link) = &mut self.direct[place] else { return };
        link.add(DirectRvi {
            number: grant.rvi,
            lan: grant.lan,
            channel: grant.channel,
            vif: grant.own_vif,
            peer_vif: grant.peer_vif,
            slot,
        });
        let up = link.association.is_up() && !link.closing;
        self.set_packet_legs(now, place);
        self.log(NodeEvent::Granted { rvi: grant.rvi, peer: grant.peer });
        if up {
            self.start_barrier(now, grant.own_vif, slot);
        }
    }

    pub(super) fn direct_leg_up(
        &mut self,
        now: Instant,
        (node, process): (NodeNumber, ProcessId),
        epoch: PairEpoch,
        leg: LegNumber,
        shm: ShmLeg,
    ) -> bool {
        let place = if self.is_leaving() { None } else { self.direct_for(now, node, process, epoch) };
        let Some(link) = place.and_then(|place| self.direct[place].as_mut()) else {
            //= spec/rvi.md#refused-legs
            //# An end that refuses a leg MUST mark its own region CLOSED with nothing taken before it hangs up.
            shm.refuse();
            return false;
        };
        link.note_leg(now, leg);
        let was_up = link.association.is_up();
        link.packets.is_started = true;
        link.association.handle_leg_up(now, leg, shm);
        link.heard = now;
        let rvis = link.rvis.clone();
        self.forget_earlier_leg(PeerId::Node(node), process, leg);
        self.log(NodeEvent::LegUp { peer: PeerId::Node(node), leg });
        if !was_up {
            for rvi in rvis {
                self.start_barrier(now, rvi.vif, rvi.slot);
            }
        }
        true
    }

    pub(super) fn direct_leg_gone(
        &mut self,
        now: Instant,
        node: NodeNumber,
        process: ProcessId,
        leg: LegNumber,
    ) {
        let Some(place) = self.direct_to(node) else { return };
        let Some(link) = &mut self.direct[place] else { return };
        // It may be one of an earlier process or epoch, given up here already.
        if link.process != process || !link.has_had(leg) {
            return;
        }
        let end = link.association.handle_leg_gone(now, leg);
        link.introduced.handle_gone(now, leg);
        let left = link.leaving.iter().position(|&(left, _)| left == leg);
        if let Some(left) = left {
            link.leaving.remove(left);
        }
        let over = !link.association.is_up() && !link.association.has_packets() && link.leaving.is_empty();
        self.log(NodeEvent::LegGone { peer: PeerId::Node(node), leg });
        if over {
            self.end_direct(now, place, end == LegEnd::Died && left.is_none());
        } else {
            // Packet legs wait for those of shared memory.
            self.end_packets(now, place);
        }
    }

    // --- leaving --------------------------------------------------------------------------------------------

    /// Leaves every leg of the association with `node`.
    pub(super) fn close_direct(&mut self, now: Instant, node: NodeNumber) {
        let Some(place) = self.direct_to(node) else { return };
        let Some(link) = &mut self.direct[place] else { return };
        link.closing = true;
        link.packets.closes_at.get_or_insert(now + LEAVE_WAIT);
        let has_packets = link.association.has_packets();
        let legs: Vec<LegNumber> = link.association.legs().map(|leg| leg.number).collect();
        let rvis = link.rvis.clone();
        for rvi in rvis {
            if let Some(interface) = self.interface_mut(rvi.vif) {
                interface.driver.handle_direct_closing(rvi.slot);
            }
        }
        if legs.is_empty() && !has_packets {
            self.end_direct(now, place, false);
            return;
        }
        for leg in legs {
            self.leave_direct_leg(now, node, leg);
        }
        self.end_packets(now, place);
    }

    /// The administrator cuts a leg: that of shared memory is left, and by packets nothing goes.
    pub(super) fn cut_direct_leg(&mut self, now: Instant, node: NodeNumber, leg: LegNumber) {
        if let Some(link) = self.direct_to(node).and_then(|place| self.direct[place].as_mut()) {
            link.cut_leg(leg);
        }
        self.leave_direct_leg(now, node, leg);
    }

    /// Both ends have been introduced for a leg, perhaps because the administrator has healed it: it may be missed from now on, and
    /// one that was cut is used again.
    pub(super) fn handle_introduced_leg(&mut self, now: Instant, node: NodeNumber, leg: LegNumber) {
        if let Some(link) = self.direct_to(node).and_then(|place| self.direct[place].as_mut()) {
            link.handle_introduced_leg(now, leg);
        }
    }

    /// Leaves one leg of shared memory: stops taking from it, marks it closed and tells the host to hang up. The other end does
    /// the same, and what it had not taken goes over another leg or by relay.
    pub(super) fn leave_direct_leg(&mut self, now: Instant, node: NodeNumber, leg: LegNumber) {
        let Some(place) = self.direct_to(node) else { return };
        let Some(link) = &mut self.direct[place] else { return };
        let known = link.association.legs().any(|status| status.number == leg);
        if !known || link.leaving.iter().any(|&(left, _)| left == leg) {
            return;
        }
        link.association.leave_leg(now, leg);
        link.leaving.push((leg, now + LEAVE_WAIT));
        let process = link.process;
        let last = !link.association.is_up();
        let rvis = if last { link.rvis.clone() } else { Vec::new() };
        self.outputs.push_back(Output::CloseLeg { peer: PeerId::Node(node), process, leg });
        for rvi in rvis {
            if let Some(interface) = self.interface_mut(rvi.vif) {
                interface.driver.handle_direct_closing(rvi.slot);
            }
        }
    }

    /// The association is over: what it did not deliver goes back to be relayed, or is lost with the peer.
    //= spec/driver.md#after-the-end-of-a-direct-rvi
    //# When a direct RVI ends in order, the driver MUST send what the peer did not take by relay, in order and before
    //# anything new to that peer; when the peer's process died, it MUST count what the peer had not taken as peer-gone.
    pub(super) fn end_direct(&mut self, now: Instant, place: usize, died: bool) {
        let Some((peer, process)) = self.give_back(now, place, died) else { return };
        // Also where this node registers just now: it has said there that it holds what is over.
        for index in 0..self.control.len() {
            if self.control[index].has_registered() {
                self.send_control(now, index, &ControlMessage::DirectLost { peer, process });
            }
        }
        self.flush_held(now);
    }

    /// Takes a link out, and gives its interfaces what the peer did not take. Says whose it was.
    pub(super) fn give_back(
        &mut self,
        now: Instant,
        place: usize,
        died: bool,
    ) -> Option<(NodeNumber, ProcessId)> {
        let mut link = self.direct[place].take()?;
        self.direct_places[usize::from(link.node.0)] = u16::MAX;
        self.ended.add(link.node, link.epoch());
        let (peer, process) = (PeerId::Node(link.node), link.process);
        let legs = link.association.legs();
        self.outputs.extend(legs.map(|leg| Output::CloseLeg { peer, process, leg: leg.number }));
        let rvis = core::mem::take(&mut link.rvis);
        let by_channel = link.by_channel;
        self.drops.add_many(DropReason::NoChannel, link.association.take_refused());
        let (mut returned, mut copies, mut lost) = (Vec::new(), Vec::new(), 0);
        let mut numbered = Vec::new();
        link.association.drain_unsent(&mut |channel, octets, unsent| {
            let Some(rvi) = rvis.get(usize::from(by_channel[usize::from(channel.0)])) else { return };
            let Ok(header) = FrameHeader::parse(octets, octets.len()) else { return };
            let taken_maybe = matches!(unsent, Unsent::Ring { maybe_taken: true });
            let is_lost = taken_maybe || died && matches!(unsent, Unsent::Ring { .. });
            lost += u64::from(is_lost);
            if !is_lost && header.flags & FrameHeader::RESENT != 0 {
                numbered.push((*rvi, header.bseq, octets.to_vec()));
                return;
            }
            let frame = (!is_lost).then(|| (header.vnet, octets[header.kind.header_len()..].to_vec()));
            if header.kind == FrameKind::Promiscuous {
                copies.push((*rvi, frame));
            } else {
                returned.push((*rvi, frame));
            }
        });
        let count = numbered.len() + returned.iter().filter(|(_, frame)| frame.is_some()).count();
        self.take_back_numbered(numbered);
        self.take_back_copies(now, copies);
        for rvi in &rvis {
            let own = returned.iter_mut().filter(|(of, _)| of == rvi);
            let (mut frames, mut gone) = (Vec::new(), 0);
            for (_, frame) in own {
                match frame.take() {
                    Some((vnet, frame)) => frames.push((rvi.slot, vnet, frame)),
                    None => gone += 1,
                }
            }
            self.hold_returned(now, rvi.vif, frames);
            if let Some(interface) = self.interface_mut(rvi.vif) {
                interface.driver.count_drop(DropReason::PeerGone, gone);
                interface.driver.handle_direct_gone(rvi.slot);
            }
        }
        self.log(NodeEvent::DirectEnded { peer: link.node, died, returned: count, lost });
        Some((link.node, process))
    }

    /// Frames that a lost control node had not settled went on over a direct RVI, which has ended before the peer took them:
    /// they go to the next control node, before everything else.
    //= spec/driver.md#numbers-of-frames-that-come-back
    //# A frame that was sent again on a direct RVI and comes back from it MUST keep its number.
    fn take_back_numbered(&mut self, numbered: Vec<(DirectRvi, u32, Vec<u8>)>) {
        for (rvi, bseq, message) in numbered.into_iter().rev() {
            if let Some(interface) = self.interface_mut(rvi.vif) {
                interface.driver.relay_goes_on_from(rvi.slot, bseq);
            }
            if let Some(control) = self.control.first_mut() {
                control.resend.push_front(message);
            }
        }
    }

    // --- time -----------------------------------------------------------------------------------------------

    pub(super) fn direct_timeouts(&mut self, now: Instant) {
        for place in 0..self.direct.len() {
            self.direct_handle_timeout(now, place);
            self.end_packets(now, place);
            let Some(link) = &mut self.direct[place] else { continue };
            let (node, process) = (link.node, link.process);
            if let Some((heartbeat, silent)) = link.heartbeat.due(now, link.heard) {
                let heartbeat = heartbeat.emit();
                let _ = link.association.send_control(now, &heartbeat);
                tap_sent(&mut self.captures, PeerId::Node(node), Channel::CONTROL, [&heartbeat[..], &[]]);
                if silent {
                    self.log(NodeEvent::Silent { peer: PeerId::Node(node) });
                }
            }
            self.report_idle(now, place);
            self.report_missing(now, place);
            let Some(link) = &self.direct[place] else { continue };
            let overdue = link.leaving.iter().filter(|&&(_, until)| until <= now).map(|&(leg, _)| leg);
            for leg in overdue.collect::<Vec<_>>() {
                self.handle_leg_gone(now, PeerId::Node(node), process, leg);
            }
        }
    }

    /// Tells the control node about an association that has carried nothing for 60 s (amendment 19).
    fn report_idle(&mut self, now: Instant, place: usize) {
        let attached = self.attached();
        let Some(link) = &mut self.direct[place] else { return };
        let frames = link.sent.frames + link.received.frames;
        if link.idle.0 != frames {
            link.idle = (frames, now);
            link.idle_told = false;
        }
        let due = now.since(link.idle.1) >= DIRECT_IDLE && !link.idle_told;
        if let (true, Some(index), Some(rvi)) = (due, attached, link.rvis.first()) {
            let idle = ControlMessage::DirectIdle { rvi: rvi.number };
            link.idle_told = true;
            self.send_control(now, index, &idle);
        } else if due {
            // No control node: ask again when as much time has passed.
            link.idle.1 = now;
        }
    }

    /// Tells the control node about legs that were introduced and are not there.
    fn report_missing(&mut self, now: Instant, place: usize) {
        let attached = self.attached();
        let Some(link) = self.direct[place].as_mut().filter(|link| !link.closing) else { return };
        let (peer, process) = (link.node, link.process);
        while let Some(leg) = self.direct[place].as_mut().and_then(|link| link.next_missing(now)) {
            if let Some(index) = attached {
                self.send_control(now, index, &ControlMessage::LegMissing { peer, process, leg: leg.0 });
            }
        }
    }

    // --- control messages from the peer ---------------------------------------------------------------------

    pub(super) fn handle_peer_control(
        &mut self,
        now: Instant,
        place: usize,
        message: Result<ControlMessage, TlvError>,
    ) {
        let Some(link) = &mut self.direct[place] else { return };
        match message {
            Ok(ControlMessage::Heartbeat { number }) => {
                let reply = ControlMessage::HeartbeatReply { number }.emit();
                let _ = link.association.send_control(now, &reply);
                tap_sent(&mut self.captures, PeerId::Node(link.node), Channel::CONTROL, [&reply[..], &[]]);
            }
            Ok(ControlMessage::HeartbeatReply { .. }) => link.heartbeat.answered(),
            Ok(ControlMessage::DirectDone) => {
                link.packets.done_heard = true;
                let (node, closing) = (link.node, link.closing);
                if !closing {
                    // The peer leaves: nothing more may be sent to it here.
                    self.close_direct(now, node);
                }
                self.end_packets(now, place);
            }
            // A node may say nothing else to a node: every path is the control node's to make (S16).
            _ => {
                let peer = PeerId::Node(link.node);
                self.log(NodeEvent::BadControlMessage { peer });
            }
        }
    }
}
