//! Two sessions, a network in the hands of an enemy, and a control node's introductions and gate under raw octets.
//!
//! Checked: no panic; what was changed on its way, or made up, is never opened and changes nothing; nothing is opened
//! twice; what is opened was sealed in the session that it is opened in.

use std::collections::BTreeSet;

use rvi::SessionTag;
use rvi::keys::PrivateKey;
use rvi::packet::session::{
    EntropyPool, Gate, HANDSHAKE_PACKET_LEN_MAX, Hint, Introduction, LegSet, PacketSession, PairKey,
    SealError, SessionConfig, SessionEvent, SessionKind, SessionLeg, SessionOffer,
};
use rvi::packet::wire::{PACKET_HEADER_LEN, PacketFlags, PacketHeader, PacketKind, PacketLeg, TAG_LEN};
use vlan_core::{Instant, NodeNumber, ProcessId};

use crate::script::Script;

/// Packets that are under way at most.
const AIR_MAX: usize = 64;

/// A packet under way.
#[derive(Clone)]
struct Flight {
    to: usize,
    leg: PacketLeg,
    octets: Vec<u8>,
    sent: Vec<u8>,
}

struct Run {
    ends: [PacketSession; 2],
    /// The next packet number of each end and leg, in the session that the end uses.
    numbers: [[u64; 2]; 2],
    gate: Gate,
    air: Vec<Flight>,
    opened: BTreeSet<Vec<u8>>,
    serial: u64,
    entropy: EntropyPool,
    now: Instant,
}

/// Runs the operations in `data`.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let Some(options) = script.octet() else { return };
    let mut run = start(options & 1 != 0);
    while run.step(&mut script).is_some() {
        run.poll_events();
    }
}

fn leg(number: u8) -> PacketLeg {
    PacketLeg::new(number).expect("a leg of a fabric")
}

fn key(end: usize) -> PrivateKey {
    PrivateKey::from_octets([end as u8 + 1; 32])
}

fn config(end: usize, is_pair: bool) -> SessionConfig {
    let pair = SessionKind::Pair(PairKey::from_octets([7; 32]));
    let kind = match (is_pair, end) {
        (true, _) => pair,
        (false, 0) => SessionKind::ToControlNode(1),
        (false, _) => SessionKind::ToNode(SessionTag { node: 1, control_node: 1 }),
    };
    let peer = Some(ProcessId(101 - end as u64));
    SessionConfig {
        peer: peer.filter(|_| !matches!(kind, SessionKind::ToControlNode(_))),
        kind,
        own_key: key(end),
        peer_key: key(1 - end).public(),
        own: ProcessId(100 + end as u64),
        node: NodeNumber(end as u16),
        own_cid: end as u32 + 1,
        legs: vec![
            SessionLeg { leg: leg(0), fabric_key: 10, is_trusted: false },
            SessionLeg { leg: leg(1), fabric_key: 11, is_trusted: true },
        ],
        offer: SessionOffer { message_len_max: 66_560, credit_messages: 16, credit_kib: 64, tlv_version: 1 },
    }
}

fn start(is_pair: bool) -> Run {
    Run {
        ends: [0, 1].map(|end| PacketSession::new(config(end, is_pair))),
        numbers: [[0; 2]; 2],
        gate: Gate::new(&key(1).public(), [9; 32]),
        air: Vec::new(),
        opened: BTreeSet::new(),
        serial: 0,
        entropy: EntropyPool::new([3; 32]),
        now: Instant::from_nanos(1_000_000_000),
    }
}

impl Run {
    fn step(&mut self, script: &mut Script<'_>) -> Option<()> {
        match script.below(14)? {
            0 => {
                let end = usize::from(script.below(2)?);
                let entropy = self.entropy.draw();
                self.ends[end].begin(self.now, &entropy);
            }
            1 => self.poll(0),
            2 => self.poll(1),
            3..6 => self.deliver(script, false)?,
            6 => self.deliver(script, true)?,
            7 => self.send(script)?,
            8 => {
                let place = usize::from(script.octet()?);
                let bit = usize::from(script.u16()?);
                let len = self.air.len().max(1);
                if let Some(flight) = self.air.get_mut(place % len) {
                    let bit = bit % (8 * flight.octets.len());
                    flight.octets[bit / 8] ^= 1 << (bit % 8);
                }
            }
            9 => {
                script.advance(&mut self.now)?;
                self.ends.iter_mut().for_each(|end| end.handle_timeout(self.now));
            }
            10 => {
                let octets = script.block()?.to_vec();
                let flight = Flight { to: 0, leg: leg(0), octets, sent: Vec::new() };
                self.raw(&flight);
                self.arrive(&flight);
                self.arrive(&Flight { to: 1, leg: leg(1), ..flight });
            }
            11 => self.forge(script)?,
            12 => self.ends[usize::from(script.below(2)?)].close(),
            _ => {
                let end = usize::from(script.below(2)?);
                if script.flag()? {
                    self.ends[end].forget();
                } else {
                    self.ends[end].release_keys();
                }
            }
        }
        Some(())
    }

    fn launch(&mut self, to: usize, leg: PacketLeg, octets: Vec<u8>) {
        if self.air.len() == AIR_MAX {
            self.air.remove(0);
        }
        self.air.push(Flight { to, leg, sent: octets.clone(), octets });
    }

    fn poll(&mut self, end: usize) {
        let mut out = [0; HANDSHAKE_PACKET_LEN_MAX];
        for leg in [leg(0), leg(1)] {
            for sent in 0.. {
                assert!(sent < 4, "more than one handshake packet of each kind is due");
                let Some(len) = self.ends[end].poll_handshake_packet(self.now, leg, &mut out) else { break };
                self.launch(1 - end, leg, out[..len].to_vec());
            }
        }
    }

    fn send(&mut self, script: &mut Script<'_>) -> Option<()> {
        let end = usize::from(script.below(2)?);
        let number = script.below(2)?;
        // Sometimes a jump ahead, into the next key phase too.
        let jump = 1u64 << script.below(23)?;
        let next = &mut self.numbers[end][usize::from(number)];
        let header = PacketHeader {
            kind: if script.flag()? { PacketKind::Probe } else { PacketKind::Data },
            leg: leg(number),
            flags: PacketFlags::default(),
            dst_cid: 0,
            session: 0,
            number: *next,
            ts_us: 0,
            payload_len: 16,
            fabric_key: 0,
        };
        *next += jump;
        self.serial += 1;
        let mut packet = vec![0; header.packet_len()];
        header.emit(packet.first_chunk_mut().expect("room for a header"));
        packet[PACKET_HEADER_LEN..][..8].copy_from_slice(&self.serial.to_le_bytes());
        let id = self.ends[end].id();
        packet[PACKET_HEADER_LEN + 8..][..8].copy_from_slice(&id.unwrap_or(0).to_le_bytes());
        match self.ends[end].seal(header.leg, &mut packet) {
            Ok(()) => {
                assert_eq!(
                    self.ends[end].seal(header.leg, &mut packet),
                    Err(SealError::Number(header.number))
                );
                self.launch(1 - end, header.leg, packet);
            }
            Err(error) => assert_eq!((error, id), (SealError::NoSession, None)),
        }
        Some(())
    }

    fn deliver(&mut self, script: &mut Script<'_>, again: bool) -> Option<()> {
        let place = usize::from(script.octet()?);
        if !self.air.is_empty() {
            let place = place % self.air.len();
            let flight = if again { self.air[place].clone() } else { self.air.remove(place) };
            self.arrive(&flight);
        }
        Some(())
    }

    /// A packet with a header that leads far into the checks.
    fn forge(&mut self, script: &mut Script<'_>) -> Option<()> {
        const KINDS: [PacketKind; 8] = [
            PacketKind::Data,
            PacketKind::Probe,
            PacketKind::Connect,
            PacketKind::Accept,
            PacketKind::Confirm,
            PacketKind::Close,
            PacketKind::Cookie,
            PacketKind::Data,
        ];
        let to = usize::from(script.below(2)?);
        let number = script.below(2)?;
        let kind = KINDS[usize::from(script.below(8)?)];
        let payload = script.block()?;
        let header = PacketHeader {
            kind,
            leg: leg(number),
            flags: PacketFlags::default(),
            dst_cid: if kind == PacketKind::Connect { 0 } else { to as u32 + 1 },
            session: self.ends[to].id().unwrap_or(0),
            number: u64::from(script.u32()?) << script.below(33)?,
            ts_us: 0,
            payload_len: payload.len() as u16,
            fabric_key: 10 + u16::from(number),
        };
        let mut octets = vec![0; header.packet_len()];
        header.emit(octets.first_chunk_mut()?);
        octets[PACKET_HEADER_LEN..][..payload.len()].copy_from_slice(payload);
        let flight = Flight { to, leg: leg(number), octets, sent: Vec::new() };
        self.raw(&flight);
        self.arrive(&flight);
        Some(())
    }

    /// What a process does with octets from nobody it knows.
    fn raw(&mut self, flight: &Flight) {
        let octets = &flight.octets;
        let mut reply = [0; HANDSHAKE_PACKET_LEN_MAX];
        let _ = Hint::of(octets);
        let _ = self.gate.admit(self.now, &[1, 2, 3], octets, octets.len().is_multiple_of(2), &mut reply);
        let opened = Introduction::open(&key(1), octets, &self.entropy.draw());
        assert!(opened.is_err(), "made-up octets prove a key");
    }

    fn arrive(&mut self, flight: &Flight) {
        self.poll_events();
        let is_genuine = flight.octets == flight.sent;
        let kind = PacketHeader::parse(&flight.octets).map(|header| header.kind);
        let mut octets = flight.octets.clone();
        let before = self.state(flight.to);
        let taken = if matches!(kind, Ok(PacketKind::Data | PacketKind::Probe)) {
            let header = self.ends[flight.to].open(flight.leg, &mut octets);
            if header.is_ok() {
                let payload = octets[PACKET_HEADER_LEN..octets.len() - TAG_LEN].to_vec();
                let id = self.ends[flight.to].id().expect("a packet is opened in a session");
                assert_eq!(payload[8..], id.to_le_bytes(), "opened in another session than it was sealed in");
                assert!(self.opened.insert(payload), "opened twice");
            }
            header.is_ok()
        } else {
            let entropy = self.entropy.draw();
            let end = &mut self.ends[flight.to];
            end.handle_handshake(self.now, flight.leg, &mut octets, &entropy).is_ok()
        };
        if !is_genuine {
            assert!(!taken || kind == Ok(PacketKind::Reset), "a packet that nobody sent was taken");
            assert_eq!(self.state(flight.to), before, "a packet that nobody sent changed something");
        }
        self.poll_events();
    }

    fn state(&self, end: usize) -> (Option<u64>, LegSet, u64) {
        let end = &self.ends[end];
        (end.id(), end.joined_legs(), end.counters().opened)
    }

    fn poll_events(&mut self) {
        for (end, numbers) in self.ends.iter_mut().zip(&mut self.numbers) {
            while let Some(event) = end.poll_event() {
                if let SessionEvent::Established { session, peer, .. } = event {
                    assert!(session != 0 && !peer.legs.is_empty() && peer.mismatched.is_empty());
                    *numbers = [0; 2];
                }
            }
        }
    }
}

/// Handshakes of both kinds with data, both ends at once, replays, a changed bit, forged packets, an end that forgets.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let shake: &[u8] = &[0, 0, 1, 3, 0, 3, 0, 2, 3, 0, 3, 0, 1, 3, 0, 3, 0, 2, 3, 0, 3, 0];
    let data: &[u8] = &[7, 0, 0, 0, 0, 7, 1, 1, 3, 0, 7, 0, 1, 22, 1, 6, 0, 3, 0, 3, 0, 3, 0];
    let both: &[u8] = &[0, 0, 0, 1, 1, 2, 3, 0, 3, 0, 3, 0, 3, 0, 1, 2, 3, 0, 3, 0, 1, 3, 0, 3, 0];
    let replay: &[u8] = &[0, 0, 1, 6, 0, 6, 1, 2, 6, 2, 1, 6, 3, 6, 0, 6, 1, 6, 2, 9, 0, 64];
    let flip: &[u8] = &[0, 0, 1, 8, 0, 200, 0, 3, 0, 3, 0];
    let forged: &[u8] =
        &[11, 0, 0, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 5, 0, 0, 0, 22];
    let forget: &[u8] = &[13, 0, 1, 12, 1, 2, 3, 0];
    vec![
        [&[1][..], shake, data, data].concat(),
        [&[0][..], shake, data].concat(),
        [&[1][..], both, data].concat(),
        [&[1][..], replay, shake, data].concat(),
        [&[1][..], flip, shake, forged, data].concat(),
        [&[1][..], shake, forget, shake, data, &[10, 5, 1, 2, 3, 4, 5]].concat(),
    ]
}
