//! What a process needs beside its associations to have packet legs: its key, the gate before its handshakes, answers to
//! what belongs to no association, and one budget of probes.
//!
//! What happens to a packet here: the process's machine asks [`PacketPort::admits`] before a CONNECT may cost anything,
//! and has [`PacketPort::refuse`] count, and perhaps answer, a packet of nobody.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use vlan_core::limits::{FABRICS_MAX, MESSAGE_LEN_MAX, RELAYED_PACKET_LEN_MAX};
use vlan_core::wire::control::{LegAddress, TLV_VERSION};
use vlan_core::{Instant, LegNumber, NodeNumber, ProcessId};

use super::endpoint::EndpointConfig;
use super::probe_budget::ProbeBudget;
use super::sender::PACKET_LEN_BASE;
use super::session::{
    Admission, EntropyPool, Gate, HANDSHAKE_PACKET_LEN_MAX, SECRET_LEN, SessionConfig, SessionKind,
    SessionLeg, SessionOffer,
};
use super::transport::{TransmitBuffer, TransportConfig};
use super::wire::{PACKET_HEADER_LEN, PacketHeader, PacketLeg, TAG_LEN};
use crate::keys::{PrivateKey, PublicKey};

/// Answers outside of any association that wait to be sent; more are dropped, and asked for again.
const ANSWERS_MAX: usize = 64;
/// What a peer may send before it hears of more: messages on each channel ...
const FIRST_CREDIT_MESSAGES: u32 = 1024;
/// ... and KiB in all.
const FIRST_CREDIT_KIB: u32 = 1024;
/// An idle leg to a control node is probed this often, so that both ends know that the other is there (amendment 28).
const CONTROL_NODE_PROBE: Duration = Duration::from_millis(100);

/// Packets for one address, ready to be sent: what the buffer holds, cut every `segment_len` octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketBatch {
    /// The leg they go by: its number is that of its fabric.
    pub leg: LegNumber,
    /// Where they go.
    pub to: LegAddress,
    /// Octets of each packet but the last, which may be shorter.
    pub segment_len: usize,
}

/// A machine with packet legs: a node's or a control node's, as the sockets of its host see it.
pub trait PacketMachine {
    /// Takes a packet that came by a leg from an address, in place; what is wrong with it is counted where it is found.
    fn handle_packet(&mut self, now: Instant, leg: LegNumber, from: LegAddress, packet: &mut [u8]);

    /// Makes the packets that are to go now, for one address. To be called until it says `None`, once every socket was
    /// drained and what came of it was sent on.
    fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuffer) -> Option<PacketBatch>;

    /// Octets of the longest packet that goes by a leg, all headers below the packet's own left out: what the host's
    /// route carries.
    fn set_packet_len_max(&mut self, leg: LegNumber, octets: usize);
}

/// The two ends of an association's packet legs, as one of them knows them.
#[derive(Clone, Debug)]
pub struct PacketEnds {
    /// Who the two ends are to each other.
    pub kind: SessionKind,
    /// Our life.
    pub own: ProcessId,
    /// Our node number; 0 for a control node.
    pub node: NodeNumber,
    /// The peer's life; `None` only towards a control node.
    pub peer: Option<ProcessId>,
    /// The peer's key.
    pub peer_key: PublicKey,
    /// The index by which the peer is to name the association.
    pub own_cid: u32,
    /// The legs that we have, each once.
    pub legs: Vec<SessionLeg>,
}

/// The packet legs of a process, but for its associations.
#[derive(Debug)]
pub struct PacketPort {
    key: PrivateKey,
    gate: Gate,
    entropy: EntropyPool,
    packet_len_max: [usize; PacketLeg::COUNT],
    answers: VecDeque<(PacketBatch, Vec<u8>)>,
    probes: ProbeBudget,
    /// Packets that are none, or belong to no association.
    strays: u64,
}

impl PacketPort {
    /// Makes the port of a process that proves itself with `key`. `seed` is random, and for this alone.
    #[must_use]
    pub fn new(key: PrivateKey, seed: [u8; SECRET_LEN]) -> Self {
        let mut entropy = EntropyPool::new(seed);
        // Until the host has said what its routes take.
        let mut packet_len_max = [PACKET_LEN_BASE; PacketLeg::COUNT];
        packet_len_max[FABRICS_MAX..].fill(RELAYED_PACKET_LEN_MAX);
        Self {
            gate: Gate::new(&key.public(), entropy.draw()),
            key,
            entropy,
            packet_len_max,
            answers: VecDeque::new(),
            probes: ProbeBudget::default(),
            strays: 0,
        }
    }

    /// The process's key.
    #[must_use]
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Random octets for one handshake.
    #[must_use]
    pub fn draw_entropy(&mut self) -> [u8; SECRET_LEN] {
        self.entropy.draw()
    }

    /// Packets that came and are none, or belong to no association.
    #[must_use]
    pub fn strays(&self) -> u64 {
        self.strays
    }

    /// Octets of the longest packet that goes by a leg from now on, in associations that are yet to be made.
    pub fn set_packet_len_max(&mut self, leg: LegNumber, octets: usize) {
        if let Some(leg) = PacketLeg::new(leg.0) {
            self.packet_len_max[leg.index()] = octets;
        }
    }

    /// What an association needs to have packet legs; `seed` spreads its probes.
    #[must_use]
    pub fn endpoint(&mut self, ends: PacketEnds, seed: u64) -> EndpointConfig {
        let PacketEnds { kind, own, node, peer, peer_key, own_cid, legs } = ends;
        let offer = SessionOffer {
            message_len_max: MESSAGE_LEN_MAX as u32,
            credit_messages: FIRST_CREDIT_MESSAGES,
            credit_kib: FIRST_CREDIT_KIB,
            tlv_version: TLV_VERSION as u8,
        };
        let own_key = self.key.clone();
        let mut transport = TransportConfig::default();
        if matches!(kind, SessionKind::ToControlNode(_)) {
            transport.idle_probe = CONTROL_NODE_PROBE;
        }
        EndpointConfig {
            session: SessionConfig { kind, own_key, peer_key, own, peer, node, own_cid, legs, offer },
            transport: TransportConfig { seed, ..transport },
            packet_len_max: self.packet_len_max,
            seed: self.entropy.draw(),
        }
    }

    /// Reads a packet's header; one that is none is counted.
    pub fn parse(&mut self, packet: &[u8]) -> Option<PacketHeader> {
        let parsed = PacketHeader::parse_packet(packet).ok();
        self.strays += u64::from(parsed.is_none());
        parsed
    }

    /// True when a CONNECT may go on to its association; it is answered here when it must show a cookie first.
    //= spec/packet-security.md#cookies
    //# Under load an end MUST answer a CONNECT without a valid cookie with COOKIE, and MUST keep nothing about it.
    pub fn admits(&mut self, now: Instant, leg: LegNumber, from: LegAddress, packet: &[u8]) -> bool {
        let mut reply = [0; HANDSHAKE_PACKET_LEN_MAX];
        match self.gate.admit(now, &source(from), packet, false, &mut reply) {
            Admission::Admitted => true,
            Admission::Cookie(len) => {
                self.answer(leg, from, &reply[..len]);
                false
            }
            Admission::Refused => false,
        }
    }

    /// Counts a packet that belongs to no association, and tells its sender so now and then.
    #[cold]
    pub fn refuse(&mut self, now: Instant, leg: LegNumber, from: LegAddress, header: &PacketHeader) {
        self.strays += 1;
        let mut reset = [0; PACKET_HEADER_LEN + TAG_LEN];
        if let Some(len) = self.gate.write_reset(now, header, &mut reset) {
            self.answer(leg, from, &reset[..len]);
        }
    }

    /// Queues a packet that no association sends.
    pub fn answer(&mut self, leg: LegNumber, to: LegAddress, octets: &[u8]) {
        if self.answers.len() < ANSWERS_MAX {
            let batch = PacketBatch { leg, to, segment_len: octets.len() };
            self.answers.push_back((batch, octets.into()));
        }
    }

    /// The next packet that no association sends.
    pub fn poll_answer(&mut self, out: &mut TransmitBuffer) -> Option<PacketBatch> {
        let (batch, octets) = self.answers.pop_front()?;
        out.fill(&octets);
        Some(batch)
    }

    /// True when one more probe that nobody asked for may be sent.
    pub fn allows_probe(&mut self, now: Instant) -> bool {
        self.probes.take(now)
    }
}

/// The octets of an address, for the gate: another for each address of whatever kind.
fn source(from: LegAddress) -> [u8; 18] {
    let mut octets = [0; 18];
    match from {
        LegAddress::Udp(from) => {
            let ip = match from.ip() {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            octets[..16].copy_from_slice(&ip.octets());
            octets[16..].copy_from_slice(&from.port().to_le_bytes());
        }
        LegAddress::Ether(from) => {
            // No IP packet comes from a multicast address.
            octets[0] = 0xff;
            octets[8..14].copy_from_slice(&from.mac.0);
            octets[14..].copy_from_slice(&from.port.0.to_le_bytes());
        }
    }
    octets
}
