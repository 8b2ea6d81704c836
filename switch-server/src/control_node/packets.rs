//! Control RVIs by packets, of nodes on other hosts: whose a packet is, which handshake begins a session, and where packets
//! go.
//!
//! What happens to a packet here: [`ControlNode::handle_packet`] finds its session by the number that the packet names; a
//! CONNECT is opened once the gate has let it in, and begins a session that changes nothing before the node has proven
//! its keys. What a session makes of packets is received like any message. [`ControlNode::poll_transmit`] asks each
//! session in turn for what is to go.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use rvi::keys::PrivateKey;
use rvi::packet::port::{PacketBatch, PacketEnds, PacketMachine, PacketPort};
use rvi::packet::session::{
    HANDSHAKE_PACKET_LEN_MAX, Hint, Introduction, Pattern, SECRET_LEN, SessionKind, SessionLeg,
};
use rvi::packet::transport::TransmitBuffer;
use rvi::packet::wire::{PacketHeader, PacketKind, PacketLeg};
use rvi::{AssociationEvent, LegEnd, SessionTag};
use vlan_core::wire::control::LegAddress;
use vlan_core::{Instant, LegNumber, NodeNumber, ProcessId};

use crate::control_node::session::Session;
use crate::control_node::{ControlNode, ControlNodeEvent};

/// How long a session waits for the proof of its keys.
const UNPROVEN_TIME_MAX: Duration = Duration::from_secs(2);
/// Sessions of one node that wait for it: one, and some that old CONNECTs made.
const UNPROVEN_MAX: usize = 4;
/// How long nothing of a node may be opened before its session is over.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// Why a node is refused whose key is that of another number; as on shared-memory legs.
const REFUSED_NODE_NUMBER: u8 = 2;

/// What a control node needs besides its sessions to have packet legs.
pub(super) struct Packets {
    pub port: PacketPort,
    legs: Vec<SessionLeg>,
    /// Where the round over the sessions goes on.
    next: usize,
}

/// What a session knows of its packet legs.
pub(super) struct SessionPackets {
    /// The number by which the node names the association.
    cid: u32,
    /// The node has not proven its keys yet.
    is_unproven: bool,
    /// When the session is over unless something of the node is opened.
    over_at: Instant,
    /// By leg, where CONNECT came from last.
    asked_from: [Option<LegAddress>; PacketLeg::COUNT],
    /// By leg, where the last packet came from that was opened with the session's keys.
    heard_from: [Option<LegAddress>; PacketLeg::COUNT],
}

impl SessionPackets {
    fn new(cid: u32, over_at: Instant) -> Self {
        let (asked_from, heard_from) = ([None; PacketLeg::COUNT], [None; PacketLeg::COUNT]);
        Self { cid, is_unproven: true, over_at, asked_from, heard_from }
    }

    /// True until the node has proven that it holds the session's keys.
    pub fn is_unproven(&self) -> bool {
        self.is_unproven
    }

    pub fn poll_timeout(&self) -> Instant {
        self.over_at
    }

    /// Something of the node was opened, which came from there.
    fn note_opened(&mut self, now: Instant, leg: PacketLeg, from: LegAddress) {
        self.heard_from[leg.index()] = Some(from);
        self.over_at = now + SILENCE_MAX;
    }

    /// Where a packet goes that is to go by `leg`.
    //= spec/control-packets.md#addresses-of-nodes
    //# A control node MUST send packets of a session by a leg only to the address from which the last packet came that was
    //# opened with the session's keys by that leg.
    fn address(&self, leg: PacketLeg, packet: &[u8]) -> Option<LegAddress> {
        let is_accept = PacketHeader::parse(packet).is_ok_and(|header| header.kind == PacketKind::Accept);
        let addresses = if is_accept { &self.asked_from } else { &self.heard_from };
        addresses[leg.index()]
    }
}

impl ControlNode {
    /// Lets this control node have packet legs, on the fabrics of these numbers: it proves itself with `key`. `seed` is
    /// random, and for this alone.
    pub fn enable_packets(&mut self, key: PrivateKey, seed: [u8; SECRET_LEN], legs: &[LegNumber]) {
        let leg = |number: &LegNumber| {
            let fabric = self.config.fabrics.get(usize::from(number.0))?;
            let leg = PacketLeg::new(number.0)?;
            Some(SessionLeg { leg, fabric_key: fabric.key, is_trusted: fabric.is_trusted })
        };
        let legs = legs.iter().filter_map(leg).collect();
        self.packets = Some(Packets { port: PacketPort::new(key, seed), legs, next: 0 });
    }

    /// Packets that came and are none, or belong to no session.
    #[must_use]
    pub fn stray_packets(&self) -> u64 {
        self.packets.as_ref().map_or(0, |packets| packets.port.strays())
    }

    /// Octets of the longest packet that goes by a leg, all headers below the packet's own left out: what the host's
    /// route carries.
    pub fn set_packet_len_max(&mut self, leg: LegNumber, octets: usize) {
        let (Some(packets), Some(packet_leg)) = (&mut self.packets, PacketLeg::new(leg.0)) else { return };
        packets.port.set_packet_len_max(leg, octets);
        for session in self.sessions.iter_mut().flatten() {
            session.association.set_packet_len_max(packet_leg, octets);
        }
    }

    /// Takes a packet that came by a leg from an address, in place; what is wrong with it is counted where it is found.
    pub fn handle_packet(&mut self, now: Instant, leg: LegNumber, from: LegAddress, packet: &mut [u8]) {
        let (Some(packet_leg), Some(packets)) = (PacketLeg::new(leg.0), &mut self.packets) else { return };
        let Some(header) = packets.port.parse(packet) else { return };
        match header.kind {
            PacketKind::Connect => {
                if self.leaving.is_none() && packets.port.admits(now, leg, from, packet) {
                    self.handle_connect(now, packet_leg, from, packet);
                }
            }
            // A control node begins no handshake: a node that does not know its session begins another.
            PacketKind::Reset => {}
            _ => {
                if let Some(place) = session_by_cid(&self.sessions, header.dst_cid) {
                    self.handle_sealed(now, place, packet_leg, from, packet);
                } else {
                    packets.port.refuse(now, leg, from, &header);
                }
            }
        }
    }

    fn handle_sealed(
        &mut self,
        now: Instant,
        place: usize,
        leg: PacketLeg,
        from: LegAddress,
        packet: &mut [u8],
    ) {
        let Some(session) = &mut self.sessions[place] else { return };
        // What it was refused for is counted by its session.
        let is_genuine = session.association.handle_packet(now, leg, packet).is_ok();
        if let (true, Some(packets)) = (is_genuine, &mut session.packets) {
            packets.note_opened(now, leg, from);
        }
        self.drain_session_events(now, place);
        self.collect_acknowledged(now, place);
    }

    // --- handshakes -----------------------------------------------------------------------------------------

    /// A CONNECT that the gate has let in.
    fn handle_connect(&mut self, now: Instant, leg: PacketLeg, from: LegAddress, packet: &mut [u8]) {
        let Some(hint) = Hint::of(packet).filter(|hint| hint.pattern == Pattern::ControlNode) else { return };
        let has_seen = |session: &Session| session.association.has_seen_connect(&hint);
        let known = self.sessions.iter_mut().flatten().find(|session| has_seen(session));
        if let Some(session) = known {
            let handled = session.association.handle_packet(now, leg, packet);
            session.note_asked(leg, from, handled.is_ok());
            return;
        }
        let Some(packets) = &mut self.packets else { return };
        let entropy = packets.port.draw_entropy();
        // One that proves nothing has got all the work that it gets.
        let Ok(introduction) = Introduction::open(packets.port.key(), packet, &entropy) else { return };
        self.handle_introduction(now, leg, from, introduction);
    }

    /// Somebody has proven a key.
    //= spec/leg-setup.md#identity
    //# A control node MUST tell nothing to a peer that has not proven the key of a node it knows.
    fn handle_introduction(
        &mut self,
        now: Instant,
        leg: PacketLeg,
        from: LegAddress,
        introduction: Introduction,
    ) {
        let key = *introduction.key();
        let Some(node) = self.node_of_key(&key) else {
            self.log(ControlNodeEvent::UnknownKey { key, from });
            return;
        };
        if node != introduction.node() {
            self.refuse(leg, from, introduction);
            return;
        }
        let (process, number) = (introduction.process(), introduction.control_session());
        // An earlier session than the one that is there is over.
        let Some(tag) = self.session_tag(node, process, number) else { return };
        let place = self.answering(node, process, tag);
        let place = place.unwrap_or_else(|| self.open_unproven(now, node, process, number));
        let Some(session) = &mut self.sessions[place] else { return };
        let handled = session.association.handle_introduction(now, leg, introduction);
        session.note_asked(leg, from, handled.is_ok());
        if session.packets.as_ref().is_some_and(|packets| packets.asked_from.iter().all(Option::is_none)) {
            // It was made for this one, which names no leg that both have.
            self.sessions[place] = None;
        }
    }

    /// Tells a node that it is not who it says.
    fn refuse(&mut self, leg: PacketLeg, from: LegAddress, introduction: Introduction) {
        let (node, process) = (introduction.node(), self.config.process);
        let name = self.node_name(node);
        let reason = alloc::format!("its key is not that of node {node}");
        self.log(ControlNodeEvent::Refused { node, name, reason });
        let Some(packets) = &mut self.packets else { return };
        let mut out = [0; HANDSHAKE_PACKET_LEN_MAX];
        let own = packets.legs.iter().find(|own| own.leg == leg);
        if let Some(len) =
            own.and_then(|own| introduction.refuse(own, process, REFUSED_NODE_NUMBER, &mut out))
        {
            packets.port.answer(LegNumber(leg.number()), from, &out[..len]);
        }
    }

    /// The place of the packet session that answers a node's process for its session of this tag, proven or not.
    fn answering(&self, node: NodeNumber, process: ProcessId, tag: SessionTag) -> Option<usize> {
        let is_it = |session: &Session| {
            let is_same = session.node == node && session.process == process;
            is_same && session.tag.node == tag.node && session.packets.is_some()
        };
        self.sessions.iter().position(|session| session.as_ref().is_some_and(|session| is_it(session)))
    }

    /// Begins a session that is nothing to anybody until the node has proven its keys.
    //= spec/control-packets.md#unproven-sessions
    //# A control node MUST hold at most four packet sessions of one node whose peers have not proven the keys of the handshake,
    //# each for at most 2 seconds, and none of them MUST change anything else.
    fn open_unproven(&mut self, now: Instant, node: NodeNumber, process: ProcessId, number: u32) -> usize {
        let is_unproven = |session: &Session| {
            session.node == node && session.packets.as_ref().is_some_and(|p| p.is_unproven())
        };
        let unproven = self.sessions.iter().flatten().filter(|session| is_unproven(session));
        let mut unproven: Vec<(u32, usize)> = unproven.map(|s| (s.tag.control_node, s.place)).collect();
        unproven.sort_unstable();
        if unproven.len() >= UNPROVEN_MAX {
            self.sessions[unproven[0].1] = None;
        }
        let place = self.open_session(now, node, process, number);
        let cid = place as u32 & 0x00ff_ffff | (self.random.next_u64() as u32) << 24;
        let peer_key = self.entry_of_node(node).map(|entry| entry.public_key);
        let seed = self.random.next_u64();
        let (Some(packets), Some(session)) = (&mut self.packets, &mut self.sessions[place]) else {
            return place;
        };
        let ends = PacketEnds {
            kind: SessionKind::ToNode(session.tag),
            own: self.config.process,
            node: NodeNumber(0),
            peer: Some(process),
            peer_key: peer_key.unwrap_or_default(),
            own_cid: cid,
            legs: packets.legs.clone(),
        };
        session.packets = Some(SessionPackets::new(cid, now + UNPROVEN_TIME_MAX));
        session.association.set_packets(now, packets.port.endpoint(ends, seed));
        place
    }

    // --- sessions -------------------------------------------------------------------------------------------

    /// What a session's association has to tell of its packet legs.
    pub(super) fn packet_event(&mut self, now: Instant, place: usize, event: AssociationEvent) {
        let Some(session) = &mut self.sessions[place] else { return };
        let node = session.node;
        if session.packets.is_none() {
            return;
        }
        match event {
            AssociationEvent::PacketsEstablished { .. } => self.session_proven(now, place),
            AssociationEvent::PacketLegMismatched(leg) => {
                self.log(ControlNodeEvent::LegMismatched { node, leg });
            }
            AssociationEvent::PacketsOver { broken } => {
                if broken {
                    self.log(ControlNodeEvent::BadControlMessage { node });
                }
                self.session_over(now, place, if broken { LegEnd::Died } else { LegEnd::Closed });
            }
            _ => {}
        }
    }

    /// The node has proven the keys of a session: an earlier one of its process is over.
    fn session_proven(&mut self, now: Instant, place: usize) {
        let Some(session) = &mut self.sessions[place] else { return };
        if !session.is_unproven() {
            // Other keys for the session that is there.
            return;
        }
        let (node, process, number) = (session.node, session.process, session.tag.node);
        if let Some(known) = self.session_of(node, process) {
            let known_number = self.sessions[known].as_ref().map(|known| known.tag.node);
            if known_number.is_some_and(|known| known >= number) {
                self.sessions[place] = None;
                return;
            }
            self.session_over(now, known, LegEnd::Died);
        }
        if let Some(Session { packets: Some(packets), heard, .. }) = self.sessions[place].as_deref_mut() {
            (packets.is_unproven, *heard) = (false, now);
        }
        self.legs_changed(node);
    }

    /// Gives up sessions whose keys nobody proves, and those that have been silent for too long.
    //= spec/control-packets.md#silent-sessions
    //# An end of a control RVI with packet legs MUST take its session for over when it has opened nothing of its peer for a
    //# second.
    pub(super) fn packet_timeouts(&mut self, now: Instant, place: usize) {
        let Some(packets) = self.sessions[place].as_ref().and_then(|session| session.packets.as_ref()) else {
            return;
        };
        if packets.over_at > now {
            return;
        }
        if packets.is_unproven {
            self.sessions[place] = None;
        } else {
            self.session_over(now, place, LegEnd::Died);
        }
    }

    /// Makes the packets that are to go now, for one address. To be called until it says `None`, once every socket was
    /// drained and what came of it was moved on.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuffer) -> Option<PacketBatch> {
        let batch = self.next_batch(now, out);
        if batch.is_none() && self.tell_nodes(now) { self.next_batch(now, out) } else { batch }
    }

    fn next_batch(&mut self, now: Instant, out: &mut TransmitBuffer) -> Option<PacketBatch> {
        let packets = self.packets.as_mut()?;
        if let Some(batch) = packets.port.poll_answer(out) {
            return Some(batch);
        }
        let (first, count) = (packets.next, self.sessions.len());
        for place in (first..first + count).map(|place| place % count) {
            let Some(session) = &mut self.sessions[place] else { continue };
            let Some(addresses) = &session.packets else { continue };
            // What has no address yet is lost, as on a leg that is dead.
            while let Some(transmit) = session.association.poll_transmit(now, out) {
                packets.next = place;
                if let Some(to) = addresses.address(transmit.leg, out.octets()) {
                    let (leg, segment_len) = (LegNumber(transmit.leg.number()), transmit.segment_len);
                    return Some(PacketBatch { leg, to, segment_len });
                }
            }
        }
        None
    }
}

/// The place of the session that packets name by `cid`.
fn session_by_cid(sessions: &[Option<Box<Session>>], cid: u32) -> Option<usize> {
    let place = cid as usize & 0x00ff_ffff;
    let session = sessions.get(place)?.as_ref()?;
    session.packets.as_ref().filter(|packets| packets.cid == cid).map(|_| place)
}

impl Session {
    /// A CONNECT came from there; `is_good` when it is to be answered.
    fn note_asked(&mut self, leg: PacketLeg, from: LegAddress, is_good: bool) {
        if let (true, Some(packets)) = (is_good, &mut self.packets) {
            packets.asked_from[leg.index()] = Some(from);
        }
    }
}

impl PacketMachine for ControlNode {
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
