//! Packet legs of direct associations: which association a packet belongs to, who may have a handshake, and what goes
//! out.
//!
//! What happens to a packet here: [`Node::handle_packet`] finds its association by the number that the packet names, or,
//! for a handshake, by the processes that it names once the gate has let it in. What the association makes of it is
//! received like any message. [`Node::poll_transmit`] asks each association in turn for what is to go.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use rvi::AssociationEvent;
use rvi::keys::PrivateKey;
use rvi::packet::endpoint::EndpointConfig;
use rvi::packet::probe_budget::ProbeBudget;
use rvi::packet::session::{
    Admission, EntropyPool, Gate, HANDSHAKE_PACKET_LEN_MAX, Hint, PairKey, Pattern, SECRET_LEN,
    SessionConfig, SessionKind, SessionLeg, SessionOffer,
};
use rvi::packet::transport::{TransmitBuffer, TransportConfig};
use rvi::packet::wire::{PACKET_HEADER_LEN, PacketHeader, PacketKind, PacketLeg, TAG_LEN};
use vlan_core::limits::MESSAGE_LEN_MAX;
use vlan_core::wire::control::{ControlMessage, GrantedLeg, LegAddress, TLV_VERSION};
use vlan_core::{Instant, LegNumber, NodeNumber};

use crate::node::direct::DirectLink;
use crate::node::event::NodeEvent;
use crate::node::{Node, PeerId};

/// Answers outside of any association that wait to be sent; more are dropped, and asked for again.
const ANSWERS_MAX: usize = 64;
/// Octets of the longest packet until the host has said what its routes carry: IPv6's least MTU less its headers.
const PACKET_LEN_DEFAULT: usize = 1232;
/// What a peer may send before it hears of more: messages on each channel ...
const FIRST_CREDIT_MESSAGES: u32 = 1024;
/// ... and KiB in all.
const FIRST_CREDIT_KIB: u32 = 1024;

/// Packets for one address, ready to be sent: what the buffer holds, cut every `segment_len` octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketBatch {
    /// The leg they go by: its number is that of its fabric.
    pub leg: LegNumber,
    /// Where they go.
    pub to: SocketAddr,
    /// Octets of each packet but the last, which may be shorter.
    pub segment_len: usize,
}

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
    /// When an association that is given up ends whatever the peer does.
    pub closes_at: Option<Instant>,
}

/// What a node needs besides its associations to have packet legs.
pub(super) struct Packets {
    key: PrivateKey,
    gate: Gate,
    entropy: EntropyPool,
    packet_len_max: [usize; PacketLeg::COUNT],
    answers: VecDeque<(PacketBatch, Vec<u8>)>,
    /// Where the round over the associations goes on.
    next: usize,
    probes: ProbeBudget,
    /// Packets that are none, or belong to no association.
    strays: u64,
}

impl Packets {
    fn new(key: PrivateKey, seed: [u8; SECRET_LEN]) -> Self {
        let mut entropy = EntropyPool::new(seed);
        Self {
            gate: Gate::new(&key.public(), entropy.draw()),
            key,
            entropy,
            packet_len_max: [PACKET_LEN_DEFAULT; PacketLeg::COUNT],
            answers: VecDeque::new(),
            next: 0,
            probes: ProbeBudget::default(),
            strays: 0,
        }
    }

    fn answer(&mut self, leg: LegNumber, to: SocketAddr, octets: &[u8]) {
        if self.answers.len() < ANSWERS_MAX {
            let batch = PacketBatch { leg, to, segment_len: octets.len() };
            self.answers.push_back((batch, octets.into()));
        }
    }
}

impl Node {
    /// Lets this node have packet legs: it proves itself with `key`. `seed` is random, and for this alone.
    pub fn enable_packets(&mut self, key: PrivateKey, seed: [u8; SECRET_LEN]) {
        self.packets = Some(Packets::new(key, seed));
    }

    /// Packets that came and are none, or belong to no association of this node.
    #[must_use]
    pub fn stray_packets(&self) -> u64 {
        self.packets.as_ref().map_or(0, |packets| packets.strays)
    }

    /// Octets of the longest packet that goes by a leg, all headers below the packet's own left out: what the host's
    /// route carries.
    pub fn set_packet_len_max(&mut self, leg: LegNumber, octets: usize) {
        if let (Some(leg), Some(packets)) = (PacketLeg::new(leg.0), &mut self.packets) {
            packets.packet_len_max[leg.index()] = octets;
        }
    }

    /// Takes a packet that came by a leg from an address, in place; what is wrong with it is counted where it is found.
    //= spec/packet-security.md#cookies
    //# Under load an end MUST answer a CONNECT without a valid cookie with COOKIE, and MUST keep nothing about it.
    pub fn handle_packet(&mut self, now: Instant, leg: LegNumber, from: SocketAddr, packet: &mut [u8]) {
        let (Some(packet_leg), Some(packets)) = (PacketLeg::new(leg.0), &mut self.packets) else { return };
        let Ok(header) = PacketHeader::parse_packet(packet) else {
            packets.strays += 1;
            return;
        };
        let place = match header.kind {
            PacketKind::Connect => self.admit(now, leg, from, packet),
            // Its sender does not know our number for the association.
            PacketKind::Reset => self.direct_at(leg, from),
            _ => self.direct_by_cid(header.dst_cid),
        };
        let Some(place) = place else {
            self.refuse_packet(now, leg, from, &header);
            return;
        };
        let Some(link) = &mut self.direct[place] else { return };
        // What it was refused for is counted by its session.
        let _ = link.association.handle_packet(now, packet_leg, packet);
        self.drain_direct_events(now, place);
        self.end_packets(now, place);
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
    fn admit(&mut self, now: Instant, leg: LegNumber, from: SocketAddr, packet: &[u8]) -> Option<usize> {
        let packets = self.packets.as_mut()?;
        let mut reply = [0; HANDSHAKE_PACKET_LEN_MAX];
        match packets.gate.admit(now, &source(from), packet, false, &mut reply) {
            Admission::Admitted => {}
            Admission::Cookie(len) => {
                packets.answer(leg, from, &reply[..len]);
                return None;
            }
            Admission::Refused => return None,
        }
        let hint = Hint::of(packet).filter(|hint| hint.pattern == Pattern::Pair)?;
        let is_meant = |link: &DirectLink| link.process == hint.initiator && link.association.has_packets();
        self.direct.iter().position(|link| link.as_ref().is_some_and(|link| is_meant(link)))
    }

    fn direct_by_cid(&self, cid: u32) -> Option<usize> {
        let place = cid as usize & 0x00ff_ffff;
        self.direct.get(place)?.as_ref().filter(|link| link.packets.cid == cid).map(|_| place)
    }

    fn direct_at(&self, leg: LegNumber, from: SocketAddr) -> Option<usize> {
        self.direct
            .iter()
            .position(|link| link.as_ref().is_some_and(|link| address_of(link, leg) == Some(from)))
    }

    #[cold]
    fn refuse_packet(&mut self, now: Instant, leg: LegNumber, from: SocketAddr, header: &PacketHeader) {
        let Some(packets) = &mut self.packets else { return };
        packets.strays += 1;
        let mut reset = [0; PACKET_HEADER_LEN + TAG_LEN];
        if let Some(len) = packets.gate.write_reset(now, header, &mut reset) {
            packets.answer(leg, from, &reset[..len]);
        }
    }

    /// Makes the packets that are to go now, for one address. To be called until it says `None`, once every socket was
    /// drained and what came of it was sent on.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuffer) -> Option<PacketBatch> {
        let packets = self.packets.as_mut()?;
        if let Some((batch, octets)) = packets.answers.pop_front() {
            out.fill(&octets);
            return Some(batch);
        }
        for _ in 0..self.direct.len() {
            let place = packets.next % self.direct.len();
            if let Some(link) = &mut self.direct[place]
                && let Some(batch) = link.association.poll_transmit(now, out)
            {
                let leg = LegNumber(batch.leg.number());
                if let Some(to) = address_of(link, leg) {
                    return Some(PacketBatch { leg, to, segment_len: batch.segment_len });
                }
                // A leg that is no longer granted: lost, as on a leg that is dead.
                continue;
            }
            packets.next = place + 1;
        }
        None
    }

    /// Gives an association the packet legs that its grant names, unless it has them.
    pub(super) fn set_packet_legs(&mut self, now: Instant, place: usize) {
        let (own, node) = (self.config.process, self.config.number);
        let (Some(packets), Some(link)) = (&mut self.packets, &mut self.direct[place]) else { return };
        let udp = |leg: &&GrantedLeg| matches!(leg.address, LegAddress::Udp(_));
        let legs = link.packet_legs().iter().filter(udp).filter_map(|granted| {
            let leg = PacketLeg::new(granted.leg.0)?;
            Some(SessionLeg { leg, fabric_key: granted.fabric_key, is_trusted: granted.is_trusted })
        });
        let legs: Vec<SessionLeg> = legs.collect();
        if legs.is_empty() || link.association.has_packets() {
            return;
        }
        link.packets.cid = place as u32 & 0x00ff_ffff | (self.random.next_u64() as u32) << 24;
        let session = SessionConfig {
            kind: SessionKind::Pair(PairKey::from_octets(*link.granted().pair_key.octets())),
            own_key: packets.key.clone(),
            peer_key: link.granted().peer_key,
            own,
            peer: Some(link.process),
            node,
            own_cid: link.packets.cid,
            legs,
            offer: SessionOffer {
                message_len_max: MESSAGE_LEN_MAX as u32,
                credit_messages: FIRST_CREDIT_MESSAGES,
                credit_kib: FIRST_CREDIT_KIB,
                tlv_version: TLV_VERSION as u8,
            },
        };
        let transport = TransportConfig { seed: self.random.next_u64(), ..TransportConfig::default() };
        let (packet_len_max, seed) = (packets.packet_len_max, packets.entropy.draw());
        let config = EndpointConfig { session, transport, packet_len_max, seed };
        link.association.set_packets(now, config);
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

    // --- the end --------------------------------------------------------------------------------------------

    /// Each end of an association that is given up says that it has nothing more to deliver, and goes when the other has
    /// said so too, or after a second.
    //= spec/driver.md#the-end-of-packet-legs
    //# An end of an association that is given up MUST keep its packet legs until everything sent by them is
    //# acknowledged and the peer has said the same, or a second has passed.
    pub(super) fn end_packets(&mut self, now: Instant, place: usize) {
        let Some(link) = &mut self.direct[place] else { return };
        if !link.is_closing() || !link.association.has_packets() || link.is_leaving_a_leg() {
            return;
        }
        if link.association.is_drained() && !link.packets.done_said {
            link.packets.done_said = true;
            let _ = link.association.send_control(now, &ControlMessage::DirectDone.emit());
            return;
        }
        let is_done = link.packets.done_said && link.packets.done_heard && link.association.is_drained();
        let is_late = link.packets.closes_at.is_some_and(|at| at <= now);
        if is_done || is_late {
            self.close_packets(now, place);
            self.end_direct(now, place, is_late && !is_done);
        }
    }

    /// Tells the peer, by every leg, that the session is over.
    fn close_packets(&mut self, now: Instant, place: usize) {
        let (Some(packets), Some(link)) = (&mut self.packets, &mut self.direct[place]) else { return };
        link.association.close_packets(now);
        let mut out = TransmitBuffer::new(1, HANDSHAKE_PACKET_LEN_MAX);
        while let Some(batch) = link.association.poll_transmit(now, &mut out) {
            let leg = LegNumber(batch.leg.number());
            if let Some(to) = address_of(link, leg) {
                packets.answer(leg, to, out.octets());
            }
        }
    }

    pub(super) fn direct_handle_timeout(&mut self, now: Instant, place: usize) {
        let Some(link) = &mut self.direct[place] else { return };
        let probes = self.packets.as_mut().map(|packets| &mut packets.probes);
        match probes {
            Some(probes) => link.association.handle_timeout_with(now, &mut || probes.take(now)),
            None => link.association.handle_timeout(now),
        }
    }
}

/// Where the peer of a link receives packets by a leg, as its grant says.
fn address_of(link: &DirectLink, leg: LegNumber) -> Option<SocketAddr> {
    link.packet_legs().iter().find(|granted| granted.leg == leg).and_then(|granted| match granted.address {
        LegAddress::Udp(address) => Some(address),
        LegAddress::Ether(_) => None,
    })
}

/// The octets of an address, for the gate.
fn source(from: SocketAddr) -> [u8; 18] {
    let ip = match from.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut octets = [0; 18];
    octets[..16].copy_from_slice(&ip.octets());
    octets[16..].copy_from_slice(&from.port().to_le_bytes());
    octets
}
