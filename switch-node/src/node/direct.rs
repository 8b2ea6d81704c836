//! The direct associations to other nodes: grants, legs, barriers, and giving back what was not delivered.

use alloc::vec::Vec;

use rvi::{Association, LegEnd, Part, Scheduler, SendError, Sent, ShmLeg, Unsent};
use vlan_core::counters::FrameCount;
use vlan_core::driver::{InBand, Path, PeerSlot};
use vlan_core::ethernet::flow_hash;
use vlan_core::limits::DIRECT_IDLE;
use vlan_core::wire::control::{ControlMessage, Grant, GrantedAssociation, GrantedLeg};
use vlan_core::wire::frame::{FRAME_HEADER_LEN, FrameHeader, FrameKind};
use vlan_core::wire::tlv::TlvError;
use vlan_core::{
    Channel, DropReason, Instant, LanId, LegNumber, MacAddress, NodeNumber, PairEpoch, ProcessId, RviNumber,
    VifNumber,
};

use crate::node::control::Heartbeat;
use crate::node::packets::LinkPackets;
use crate::node::{LEAVE_WAIT, Node, NodeEvent, Output, PeerId, association};

/// A direct RVI of an association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DirectRvi {
    pub number: RviNumber,
    pub lan: LanId,
    pub channel: Channel,
    pub vif: VifNumber,
    pub peer_vif: VifNumber,
    /// The peer in the interface's driver.
    pub slot: PeerSlot,
}

/// The association with another node.
pub(super) struct DirectLink {
    pub node: NodeNumber,
    pub process: ProcessId,
    pub association: Association,
    /// What the control node granted to it last; nothing but the epoch while only sockets have come.
    granted: GrantedAssociation,
    /// Legs of shared memory that it has or had. A hang-up of another is one of an earlier association's.
    legs_had: Vec<LegNumber>,
    rvis: Vec<DirectRvi>,
    /// Place in `rvis` by channel; 255 is none.
    by_channel: [u8; 256],
    /// Legs that this end has left, with when it stops waiting for the other's hang-up.
    leaving: Vec<(LegNumber, Instant)>,
    /// Set when the whole association is being left.
    closing: bool,
    pub heard: Instant,
    heartbeat: Heartbeat,
    /// Frames sent to the peer, and taken from it.
    pub sent: FrameCount,
    pub received: FrameCount,
    /// How many frames there were either way when that last changed, and when.
    idle: (u64, Instant),
    idle_told: bool,
    pub packets: LinkPackets,
}

impl DirectLink {
    pub fn new(now: Instant, (node, process): (NodeNumber, ProcessId), epoch: PairEpoch, seed: u64) -> Self {
        let mut heartbeat = Heartbeat::default();
        heartbeat.start(now);
        Self {
            node,
            process,
            association: association(Scheduler::Lane, seed),
            granted: GrantedAssociation { epoch, ..GrantedAssociation::default() },
            legs_had: Vec::new(),
            rvis: Vec::new(),
            by_channel: [u8::MAX; 256],
            leaving: Vec::new(),
            closing: false,
            heard: now,
            heartbeat,
            sent: FrameCount::default(),
            received: FrameCount::default(),
            idle: (0, now),
            idle_told: false,
            packets: LinkPackets::default(),
        }
    }

    /// The RVI on a channel.
    #[inline]
    pub fn rvi_of(&self, channel: Channel) -> Option<DirectRvi> {
        self.rvis.get(usize::from(self.by_channel[usize::from(channel.0)])).copied()
    }

    /// Takes what the control node grants in place of what it granted before.
    //= spec/driver.md#packet-legs-behind-shared-memory
    //# A node MUST go on sending by a packet leg in whose place its association was granted shared memory.
    fn take_granted(&mut self, association: &GrantedAssociation) {
        let mut former = core::mem::replace(&mut self.granted, association.clone());
        let is_named = |leg: &GrantedLeg| association.legs.iter().any(|named| named.leg == leg.leg);
        former.legs.retain(|leg| !is_named(leg));
        self.granted.legs.append(&mut former.legs);
    }

    /// A leg comes up, in the place of any earlier one of its name: what was still to be waited for of that one is not any
    /// more.
    fn note_leg(&mut self, leg: LegNumber) {
        self.leaving.retain(|&(left, _)| left != leg);
        if !self.has_had(leg) {
            self.legs_had.push(leg);
        }
    }

    fn has_had(&self, leg: LegNumber) -> bool {
        self.legs_had.contains(&leg)
    }

    /// The packet legs that the control node has granted and not cut.
    pub fn packet_legs(&self) -> &[GrantedLeg] {
        &self.granted.legs
    }

    /// What the control node granted.
    pub fn granted(&self) -> &GrantedAssociation {
        &self.granted
    }

    /// True while this end waits for the hang-up of a leg that it has left.
    pub fn is_leaving_a_leg(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Which life of the association it is, as the control node counts them.
    pub fn epoch(&self) -> PairEpoch {
        self.granted.epoch
    }

    /// True when the whole association is being left.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    pub fn rvis(&self) -> impl Iterator<Item = &DirectRvi> {
        self.rvis.iter()
    }

    fn add(&mut self, rvi: DirectRvi) {
        match self.rvis.iter().position(|known| known.channel == rvi.channel) {
            Some(place) => self.rvis[place] = rvi,
            // 255 channels at most, so the place fits and 255 stays free to mean none.
            None if self.rvis.len() < 255 => {
                self.by_channel[usize::from(rvi.channel.0)] = self.rvis.len() as u8;
                self.rvis.push(rvi);
            }
            None => {}
        }
        self.association.open_channel(rvi.channel);
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let leaving = self.leaving.iter().map(|&(_, until)| until);
        let idle = (!self.idle_told).then(|| self.idle.1 + DIRECT_IDLE);
        let closes = self.packets.closes_at.filter(|_| self.closing);
        let timers = leaving.chain(self.association.poll_timeout()).chain(idle).chain(closes);
        timers.chain(self.heartbeat.poll_timeout()).min()
    }
}

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
        link.note_leg(leg);
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

    pub(super) fn start_barrier(&mut self, now: Instant, vif: VifNumber, slot: PeerSlot) {
        let relay_up = self.attached().is_some();
        if let Some(interface) = self.interface_mut(vif) {
            interface.driver.handle_direct_up(now, slot, relay_up);
        }
        if !relay_up {
            self.tell_relay_drained(now, vif, slot, true);
        }
        self.send_in_band(now);
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
        let left = link.leaving.iter().position(|&(left, _)| left == leg);
        if let Some(left) = left {
            link.leaving.remove(left);
        }
        let over = !link.association.is_up() && !link.association.has_packets() && link.leaving.is_empty();
        self.log(NodeEvent::LegGone { peer: PeerId::Node(node), leg });
        if over {
            self.end_direct(now, place, end == LegEnd::Died && left.is_none());
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

    /// Leaves one leg: stops taking from it, marks it closed and tells the host to hang up. The other end does
    /// the same, and what it had not taken goes over another leg or by relay.
    pub(super) fn leave_direct_leg(&mut self, now: Instant, node: NodeNumber, leg: LegNumber) {
        let Some(place) = self.direct_to(node) else { return };
        let Some(link) = &mut self.direct[place] else { return };
        link.granted.legs.retain(|granted| granted.leg != leg);
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
        let (mut returned, mut lost) = (Vec::new(), 0);
        link.association.drain_unsent(&mut |channel, octets, unsent| {
            let Some(rvi) = rvis.get(usize::from(by_channel[usize::from(channel.0)])) else { return };
            let Ok(header) = FrameHeader::parse(octets, octets.len()) else { return };
            let taken_maybe = matches!(unsent, Unsent::Ring { maybe_taken: true });
            if taken_maybe || died && matches!(unsent, Unsent::Ring { .. }) {
                lost += 1;
                returned.push((*rvi, None));
            } else {
                let frame = octets[header.kind.header_len()..].to_vec();
                returned.push((*rvi, Some((header.vnet, frame))));
            }
        });
        let count = returned.iter().filter(|(_, frame)| frame.is_some()).count();
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

    // --- time -----------------------------------------------------------------------------------------------

    pub(super) fn direct_timeouts(&mut self, now: Instant) {
        for place in 0..self.direct.len() {
            self.direct_handle_timeout(now, place);
            self.end_packets(now, place);
            let Some(link) = &mut self.direct[place] else { continue };
            let (node, process) = (link.node, link.process);
            if let Some((heartbeat, silent)) = link.heartbeat.due(now, link.heard) {
                let _ = link.association.send_control(now, &heartbeat.emit());
                if silent {
                    self.log(NodeEvent::Silent { peer: PeerId::Node(node) });
                }
            }
            self.report_idle(now, place);
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

    // --- barriers -------------------------------------------------------------------------------------------

    pub(super) fn barrier_timeouts(&mut self, now: Instant) {
        for place in 0..self.interfaces.len() {
            let Some(interface) = &mut self.interfaces[place] else { continue };
            interface.driver.handle_timeout(now);
            let mut retries = Vec::new();
            while let Some(slot) = interface.driver.poll_barrier_retry(now) {
                retries.push(slot);
            }
            for slot in retries {
                if self.direct_is_up(place, slot) {
                    self.start_barrier(now, VifNumber(place as u16), slot);
                }
            }
        }
        self.send_in_band(now);
    }

    fn direct_is_up(&self, interface: usize, slot: PeerSlot) -> bool {
        let peer = self.interfaces[interface].as_ref().and_then(|i| i.driver.peer(slot));
        let place = peer.and_then(|peer| self.direct_to(peer.node));
        place.and_then(|place| self.direct[place].as_ref()).is_some_and(|link| link.association.is_up())
    }

    fn send_direct_in_band(
        &mut self,
        now: Instant,
        node: NodeNumber,
        channel: Channel,
        message: &ControlMessage,
    ) -> Result<Sent, SendError> {
        let link = self.direct_to(node).and_then(|place| self.direct[place].as_mut());
        let link = link.ok_or(SendError::NoLeg)?;
        link.association.send(now, channel, 0, 0, &[Part::Private(&message.emit())])
    }

    /// Sends the barriers and echoes that drivers want sent. One that finds no room is lost: the barrier is
    /// given up and tried again. An echo that finds no leg goes when there is one.
    pub(super) fn send_in_band(&mut self, now: Instant) {
        let attached = self.attached();
        for place in 0..self.interfaces.len() {
            while let Some(interface) = &mut self.interfaces[place] {
                let relay = interface.driver.config().relay_channel;
                let Some(in_band) = interface.driver.poll_in_band() else { break };
                match in_band {
                    InBand::Relay(message) => {
                        if let Some(index) = attached {
                            let octets = message.emit();
                            let association = &mut self.control[index].association;
                            let _ = association.send(now, relay, 0, 0, &[Part::Private(&octets)]);
                        }
                    }
                    InBand::Direct(node, channel, message) => {
                        let sent = self.send_direct_in_band(now, node, channel, &message);
                        if let (Err(SendError::NoLeg), ControlMessage::BarrierEcho { id }) = (sent, message)
                            && let Some(interface) = &mut self.interfaces[place]
                        {
                            interface.driver.handle_echo_unsent(node, channel, id);
                        }
                    }
                }
            }
        }
    }

    // --- the loss of a control node -------------------------------------------------------------------------

    /// Everything that the lost control node had published for this node has been taken: peers that wait for
    /// a barrier may go on (amendment 20). Those that this node waits for are asked for the same word: what they
    /// said before is worth nothing, for they may have had another control node since.
    pub(super) fn tell_peers_relay_drained(&mut self, now: Instant) {
        for place in 0..self.direct.len() {
            let Some(link) = &self.direct[place] else { continue };
            for rvi in link.rvis.clone() {
                let peer = self.interface(rvi.vif).and_then(|interface| interface.driver.peer(rvi.slot));
                let waiting = peer.is_some_and(|peer| matches!(peer.path, Path::Barrier { .. }));
                self.tell_relay_drained(now, rvi.vif, rvi.slot, waiting);
            }
        }
    }

    fn tell_relay_drained(&mut self, now: Instant, vif: VifNumber, slot: PeerSlot, waiting: bool) {
        let Some(peer) = self.interface(vif).and_then(|interface| interface.driver.peer(slot)) else {
            return;
        };
        let (node, Some(direct)) = (peer.node, peer.direct) else { return };
        if let Some(link) = self.direct_to(node).and_then(|place| self.direct[place].as_mut()) {
            let octets = ControlMessage::RelayDrained { waiting }.emit();
            let _ = link.association.send(now, direct.channel, 0, 0, &[Part::Private(&octets)]);
        }
    }

    /// The peer at `slot` has drained its lost control node.
    //= spec/driver.md#words-about-a-lost-relay
    //# A node that is attached MUST ignore a RELAY_DRAINED, and ask for it when its own control node is lost.
    pub(super) fn handle_relay_drained(
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

/// True for a relayed frame of the interface `vif` to the member with address `mac`.
fn is_relayed_to(octets: &[u8], vif: VifNumber, mac: MacAddress) -> bool {
    FrameHeader::parse(octets, octets.len()).is_ok_and(|header| {
        header.kind == FrameKind::Relay
            && header.origin_vif == vif
            && octets.get(header.kind.header_len()..).is_some_and(|frame| frame.starts_with(&mac.0))
    })
}
