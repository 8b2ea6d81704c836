//! Packet legs: which association a packet belongs to, who may have a handshake, and what goes out; and those of direct
//! associations.
//!
//! What happens to a packet here: [`Node::handle_packet`] finds its association by the number that the packet names, or,
//! for a handshake, by the processes that it names once the gate has let it in. What the association makes of it is
//! received like any message. [`Node::poll_transmit`] asks each association in turn for what is to go.

use alloc::vec::Vec;

use rvi::keys::PrivateKey;
use rvi::packet::port::{PacketBatch, PacketEnds, PacketMachine, PacketPort};
use rvi::packet::sender::PacketLegStatus;
use rvi::packet::session::{
    HANDSHAKE_PACKET_LEN_MAX, Hint, PairKey, Pattern, SECRET_LEN, SessionKind, SessionLeg,
};
use rvi::packet::transport::{Transmit, TransmitBuffer};
use rvi::packet::wire::{PacketKind, PacketLeg};
use rvi::{Association, AssociationEvent};
use vlan_core::wire::control::{ControlMessage, GrantedLeg, LegAddress};
use vlan_core::{Channel, Instant, LegNumber, NodeNumber, ProcessId, RviNumber};

use crate::node::capture::tap_sent;
use crate::node::direct::DirectLink;
use crate::node::event::NodeEvent;
use crate::node::relay_legs::relay_legs;
use crate::node::{Node, PeerId};

/// What a link to another node knows of its packet legs.
#[derive(Debug, Default)]
pub(super) struct LinkPackets {
    /// The number by which the peer names the association.
    pub cid: u32,
    /// A leg of any kind has been up.
    pub is_started: bool,
    /// The peer has been told that nothing more comes; so has this end.
    pub done_said: bool,
    pub done_heard: bool,
    /// A control node says that the other end is over: nothing will answer.
    pub is_other_over: bool,
    /// When an association that is given up ends whatever the peer does.
    pub closes_at: Option<Instant>,
}

/// What a node needs besides its associations to have packet legs.
pub(super) struct Packets {
    pub port: PacketPort,
    /// Where the round over the associations goes on.
    next: usize,
}

/// Whose packet it is, by the place of its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Control(usize),
    Direct(usize),
}

impl Node {
    /// Lets this node have packet legs: it proves itself with `key`. `seed` is random, and for this alone.
    pub fn enable_packets(&mut self, key: PrivateKey, seed: [u8; SECRET_LEN]) {
        self.packets = Some(Packets { port: PacketPort::new(key, seed), next: 0 });
    }

    /// Packets that came and are none, or belong to no association of this node.
    #[must_use]
    pub fn stray_packets(&self) -> u64 {
        self.packets.as_ref().map_or(0, |packets| packets.port.strays())
    }

    /// What each packet leg to another node is good for, and what it did; nothing without a direct association by packets.
    pub fn packet_legs_to(&self, node: NodeNumber) -> impl Iterator<Item = PacketLegStatus> + '_ {
        let link = self.direct_to(node).and_then(|place| self.direct[place].as_ref());
        link.into_iter().flat_map(|link| link.association.packet_legs())
    }

    /// True when the direct association to `node` has shared memory as its leg `leg`.
    #[must_use]
    pub fn has_shared_leg_to(&self, node: NodeNumber, leg: LegNumber) -> bool {
        let link = self.direct_to(node).and_then(|place| self.direct[place].as_ref());
        link.is_some_and(|link| link.association.legs().any(|status| status.number == leg))
    }

    /// Octets of the longest packet that goes by a leg, all headers below the packet's own left out: what the host's
    /// route carries. Associations that are there are told too: a route may become narrower under them.
    pub fn set_packet_len_max(&mut self, leg: LegNumber, octets: usize) {
        let (Some(packets), Some(packet_leg)) = (&mut self.packets, PacketLeg::new(leg.0)) else { return };
        packets.port.set_packet_len_max(leg, octets);
        let direct = self.direct.iter_mut().flatten().map(|link| &mut link.association);
        for association in self.control.iter_mut().map(|link| &mut link.association).chain(direct) {
            association.set_packet_len_max(packet_leg, octets);
        }
    }

    /// Takes a packet that came by a leg from an address, in place; what is wrong with it is counted where it is found.
    pub fn handle_packet(&mut self, now: Instant, leg: LegNumber, from: LegAddress, packet: &mut [u8]) {
        let (Some(packet_leg), Some(packets)) = (PacketLeg::new(leg.0), &mut self.packets) else { return };
        let Some(header) = packets.port.parse(packet) else { return };
        let owner = match header.kind {
            PacketKind::Connect => self.admit(now, leg, from, packet),
            // Its sender does not know our number for the association.
            PacketKind::Reset => self.owner_at(leg, from),
            _ => self.owner_of(header.dst_cid),
        };
        // What a packet was refused for is counted by its session.
        match owner {
            Some(Owner::Control(index)) => {
                let link = &mut self.control[index];
                let handled = link.association.handle_packet(now, packet_leg, packet);
                if handled.is_ok() && header.kind != PacketKind::Reset {
                    link.note_opened(now, packet_leg, from);
                }
                self.drain_control_events(now, index);
            }
            Some(Owner::Direct(place)) => {
                let Some(link) = &mut self.direct[place] else { return };
                let _ = link.association.handle_packet(now, packet_leg, packet);
                self.drain_direct_events(now, place);
                self.end_packets(now, place);
            }
            None => {
                if let Some(packets) = &mut self.packets {
                    packets.port.refuse(now, leg, from, &header);
                }
            }
        }
    }

    /// What the association has to tell of its packet legs.
    pub(super) fn packet_event(&mut self, now: Instant, node: NodeNumber, event: AssociationEvent) {
        let peer = PeerId::Node(node);
        match event {
            AssociationEvent::LegUp(leg) => self.packet_leg_up(now, node, leg),
            AssociationEvent::PacketLeg(leg, state) => self.log(NodeEvent::PacketLeg { peer, leg, state }),
            AssociationEvent::PacketsSilent => self.log(NodeEvent::PacketsSilent { peer }),
            AssociationEvent::PacketsHeard => self.log(NodeEvent::PacketsHeard { peer }),
            AssociationEvent::PacketLegMismatched(leg) => {
                self.log(NodeEvent::PacketLegMismatched { peer, leg });
            }
            AssociationEvent::PacketsOver { broken } => {
                if broken {
                    self.log(NodeEvent::BadControlMessage { peer });
                }
                if let Some(place) = self.direct_to(node) {
                    self.end_direct(now, place, false);
                }
            }
            _ => {}
        }
    }

    /// A handshake goes on only for a pair that a control node granted, and not too often.
    fn admit(&mut self, now: Instant, leg: LegNumber, from: LegAddress, packet: &[u8]) -> Option<Owner> {
        let packets = self.packets.as_mut()?;
        if !packets.port.admits(now, leg, from, packet) {
            return None;
        }
        let hint = Hint::of(packet).filter(|hint| hint.pattern == Pattern::Pair)?;
        let is_meant = |link: &DirectLink| link.process == hint.initiator && link.association.has_packets();
        let place = self.direct.iter().position(|link| link.as_ref().is_some_and(|link| is_meant(link)));
        place.map(Owner::Direct)
    }

    fn owner_of(&self, cid: u32) -> Option<Owner> {
        if let Some(index) = self.control.iter().position(|link| link.packet_cid() == Some(cid)) {
            return Some(Owner::Control(index));
        }
        let place = cid as usize & 0x00ff_ffff;
        let link = self.direct.get(place)?.as_ref();
        link.filter(|link| link.packets.cid == cid).map(|_| Owner::Direct(place))
    }

    fn owner_at(&self, leg: LegNumber, from: LegAddress) -> Option<Owner> {
        let is_there = |link: &DirectLink| address_of(link.packet_legs(), leg) == Some(from);
        let direct = self.direct.iter().position(|link| link.as_ref().is_some_and(|link| is_there(link)));
        let control = || self.control.iter().position(|link| link.packet_address(leg) == Some(from));
        direct.map(Owner::Direct).or_else(|| control().map(Owner::Control))
    }

    /// Makes the packets that are to go now, for one address. To be called until it says `None`, once every socket was
    /// drained and what came of it was sent on.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuffer) -> Option<PacketBatch> {
        let packets = self.packets.as_mut()?;
        if let Some(batch) = packets.port.poll_answer(out) {
            return Some(batch);
        }
        let links = self.control.len() + self.direct.len();
        let first = packets.next;
        let mut gained = true;
        while core::mem::take(&mut gained) {
            for turn in (first..first + links).map(|turn| turn % links) {
                // Packets of a leg that is no longer granted have no address: lost, as on a leg that is dead.
                while let Some((transmit, to)) = self.transmit_of(now, turn, out) {
                    if let Some(packets) = &mut self.packets {
                        packets.next = turn;
                    }
                    if let (true, Some(place)) =
                        (transmit.leg.is_relay(), turn.checked_sub(self.control.len()))
                    {
                        // The association with a control node has more to send now; its turn may have been before.
                        self.send_relayed(now, place, &transmit, out);
                        gained = true;
                    }
                    let leg = LegNumber(transmit.leg.number());
                    if let Some(to) = to {
                        return Some(PacketBatch { leg, to, segment_len: transmit.segment_len });
                    }
                }
            }
        }
        None
    }

    /// What the association at `turn` has to send, control nodes first, and where it goes.
    fn transmit_of(
        &mut self,
        now: Instant,
        turn: usize,
        out: &mut TransmitBuffer,
    ) -> Option<(Transmit, Option<LegAddress>)> {
        let number = |transmit: &Transmit| LegNumber(transmit.leg.number());
        let Some(place) = turn.checked_sub(self.control.len()) else {
            let link = &mut self.control[turn];
            let transmit = link.association.poll_transmit(now, out)?;
            return Some((transmit, link.packet_address(number(&transmit))));
        };
        let link = self.direct[place].as_mut()?;
        let transmit = link.association.poll_transmit(now, out)?;
        Some((transmit, address_of(link.packet_legs(), number(&transmit))))
    }

    /// Gives an association the packet legs that its grant names, unless it has them.
    pub(super) fn set_packet_legs(&mut self, now: Instant, place: usize) {
        let (own, node) = (self.config.process, self.config.number);
        let (Some(packets), Some(link)) = (&mut self.packets, &mut self.direct[place]) else { return };
        let mut legs = session_legs(link.packet_legs());
        if legs.is_empty() || link.association.has_packets() {
            return;
        }
        legs.extend(relay_legs(self.control.len()));
        link.packets.cid = place as u32 & 0x00ff_ffff | (self.random.next_u64() as u32) << 24;
        let ends = PacketEnds {
            kind: SessionKind::Pair(PairKey::from_octets(*link.granted().pair_key.octets())),
            own,
            node,
            peer: Some(link.process),
            peer_key: link.granted().peer_key,
            own_cid: link.packets.cid,
            legs,
        };
        let config = packets.port.endpoint(ends, self.random.next_u64());
        link.association.set_packets(now, config);
        self.start_relays(now, place);
    }

    /// A packet leg came up: with the first leg of all, the pair's interfaces change over from the relay.
    fn packet_leg_up(&mut self, now: Instant, node: NodeNumber, leg: LegNumber) {
        let link = self.direct_to(node).and_then(|place| self.direct[place].as_mut());
        let Some(link) = link.filter(|link| link.association.legs().all(|shm| shm.number != leg)) else {
            return;
        };
        link.heard = now;
        let is_first = !core::mem::replace(&mut link.packets.is_started, true) && !link.is_closing();
        let rvis: Vec<_> = link.rvis().copied().collect();
        self.log(NodeEvent::LegUp { peer: PeerId::Node(node), leg });
        if is_first {
            for rvi in rvis {
                self.start_barrier(now, rvi.vif, rvi.slot);
            }
        }
    }

    /// `process` serves a node now. Sockets say when another has died that had it before, packets do not.
    //= spec/driver.md#former-processes
    //# A node MUST end a direct association with packet legs when a control node says that another process serves the peer.
    pub(super) fn end_former(&mut self, now: Instant, node: NodeNumber, process: ProcessId) {
        let Some(place) = self.direct_to(node) else { return };
        let is_former = |link: &DirectLink| link.process != process && link.association.has_packets();
        if self.direct[place].as_ref().is_some_and(|link| is_former(link)) {
            self.end_direct(now, place, true);
        }
    }

    // --- the end --------------------------------------------------------------------------------------------

    /// Each end of an association that is given up says that it has nothing more to deliver, and goes when the other has
    /// said so too, or after a second.
    //= spec/driver.md#the-end-of-packet-legs
    //# An end of an association that is given up MUST keep its packet legs until everything sent by them is
    //# acknowledged and the peer has said the same, or a control node says that the other end is over, or a second has passed.
    pub(super) fn end_packets(&mut self, now: Instant, place: usize) {
        let Some(link) = &mut self.direct[place] else { return };
        if !link.is_closing() || !link.association.has_packets() || link.is_leaving_a_leg() {
            return;
        }
        let is_other_over = link.packets.is_other_over;
        if link.association.is_drained() && !link.packets.done_said && !is_other_over {
            link.packets.done_said = true;
            let done = ControlMessage::DirectDone.emit();
            let _ = link.association.send_control(now, &done);
            tap_sent(&mut self.captures, PeerId::Node(link.node), Channel::CONTROL, [&done[..], &[]]);
            return;
        }
        let is_agreed = link.packets.done_said && link.packets.done_heard && link.association.is_drained();
        let is_done = is_agreed || is_other_over;
        let is_late = link.packets.closes_at.is_some_and(|at| at <= now);
        if is_done || is_late {
            self.close_packets(now, place);
            self.end_direct(now, place, is_late && !is_done);
        }
    }

    /// A control node says that the other end of the association with the RVI `rvi` is over. Its CLOSE may have been lost by
    /// every leg, and nobody would send it again.
    pub(super) fn note_other_end_over(&mut self, node: NodeNumber, rvi: RviNumber) {
        let Some(place) = self.direct_to(node) else { return };
        if let Some(link) =
            self.direct[place].as_mut().filter(|link| link.rvis().any(|own| own.number == rvi))
        {
            link.packets.is_other_over = true;
        }
    }

    /// Tells the peer, by every leg, that the session is over.
    fn close_packets(&mut self, now: Instant, place: usize) {
        let (Some(packets), Some(link)) = (&mut self.packets, &mut self.direct[place]) else { return };
        let legs = link.packet_legs().to_vec();
        close_session(now, &mut link.association, &legs, &mut packets.port);
    }

    pub(super) fn direct_handle_timeout(&mut self, now: Instant, place: usize) {
        let Some(link) = &mut self.direct[place] else { return };
        handle_timeout(now, &mut link.association, self.packets.as_mut());
    }
}

/// Time has passed for an association, which probes as far as the node may.
pub(super) fn handle_timeout(now: Instant, association: &mut Association, packets: Option<&mut Packets>) {
    match packets {
        Some(packets) => association.handle_timeout_with(now, &mut || packets.port.allows_probe(now)),
        None => association.handle_timeout(now),
    }
}

/// Ends the session behind an association's packet legs: the peer is told by every leg.
pub(super) fn close_session(
    now: Instant,
    association: &mut Association,
    legs: &[GrantedLeg],
    port: &mut PacketPort,
) {
    association.close_packets(now);
    let mut out = TransmitBuffer::new(1, HANDSHAKE_PACKET_LEN_MAX);
    while let Some(batch) = association.poll_transmit(now, &mut out) {
        let leg = LegNumber(batch.leg.number());
        if let Some(to) = address_of(legs, leg) {
            port.answer(leg, to, out.octets());
        }
    }
}

/// The legs that were granted, as a handshake offers them.
pub(super) fn session_legs(granted: &[GrantedLeg]) -> Vec<SessionLeg> {
    let leg = |granted: &GrantedLeg| {
        let leg = PacketLeg::new(granted.leg.0)?;
        Some(SessionLeg { leg, fabric_key: granted.fabric_key, is_trusted: granted.is_trusted })
    };
    granted.iter().filter_map(leg).collect()
}

/// Where the other end receives packets by a leg.
pub(super) fn address_of(legs: &[GrantedLeg], leg: LegNumber) -> Option<LegAddress> {
    legs.iter().find(|granted| granted.leg == leg).map(|granted| granted.address)
}

impl PacketMachine for Node {
    fn handle_packet(&mut self, now: Instant, leg: LegNumber, from: LegAddress, packet: &mut [u8]) {
        Self::handle_packet(self, now, leg, from, packet);
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuffer) -> Option<PacketBatch> {
        Self::poll_transmit(self, now, out)
    }

    fn set_packet_len_max(&mut self, leg: LegNumber, octets: usize) {
        Self::set_packet_len_max(self, leg, octets);
    }
}
