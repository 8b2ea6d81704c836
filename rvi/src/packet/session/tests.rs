//! Two sessions joined by a network that the test is. Every seal of every test is audited: no key ever meets the same
//! nonce twice.

mod chaos;
mod control_node;
mod gate;
mod handshake;
mod hostile;
mod traffic;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

use vlan_core::{Instant, NodeNumber, ProcessId};

use super::*;
use crate::keys::PrivateKey;
use crate::packet::wire::{PACKET_HEADER_LEN, PacketFlags, TAG_LEN};
use core::time::Duration;

type SealedPair = ([u8; AEAD_KEY_LEN], [u8; AEAD_NONCE_LEN]);

std::thread_local! {
    static SEALED: RefCell<BTreeSet<SealedPair>> = const { RefCell::new(BTreeSet::new()) };
}

/// The cipher, under audit.
struct Audited(Aes256Gcm, [u8; AEAD_KEY_LEN]);

impl Aead for Audited {
    fn new(key: &[u8; AEAD_KEY_LEN]) -> Self {
        Self(Aes256Gcm::new(key), *key)
    }

    //= spec/packet-security.md#nonces
    //= type=test
    //# An end MUST NOT seal two packets with the same key and number.
    fn seal(&self, nonce: &[u8; AEAD_NONCE_LEN], clear: &[u8], body: &mut [u8]) -> [u8; TAG_LEN] {
        self.audit(nonce);
        self.0.seal(nonce, clear, body)
    }

    fn tag(&self, nonce: &[u8; AEAD_NONCE_LEN], clear: &[u8], body: &[u8]) -> [u8; TAG_LEN] {
        self.audit(nonce);
        self.0.tag(nonce, clear, body)
    }

    fn check(
        &self,
        nonce: &[u8; AEAD_NONCE_LEN],
        clear: &[u8],
        body: &[u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), BadTag> {
        self.0.check(nonce, clear, body, tag)
    }

    fn open(
        &self,
        nonce: &[u8; AEAD_NONCE_LEN],
        clear: &[u8],
        body: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), BadTag> {
        self.0.open(nonce, clear, body, tag)
    }
}

impl Audited {
    fn audit(&self, nonce: &[u8; AEAD_NONCE_LEN]) {
        let is_fresh = SEALED.with_borrow_mut(|sealed| sealed.insert((self.1, *nonce)));
        assert!(is_fresh, "a key and a nonce were used twice");
    }
}

fn leg(number: u8) -> PacketLeg {
    PacketLeg::new(number).unwrap()
}

fn legs() -> Vec<SessionLeg> {
    vec![
        SessionLeg { leg: leg(0), fabric_key: 0xa, is_trusted: false },
        SessionLeg { leg: leg(1), fabric_key: 0xb, is_trusted: true },
    ]
}

fn key(number: u8) -> PrivateKey {
    PrivateKey::from_octets([number; 32])
}

/// Private keys of two ends, the one with the lower public key first.
fn ordered_keys() -> [PrivateKey; 2] {
    let (one, other) = (key(1), key(2));
    if one.public() < other.public() { [one, other] } else { [other, one] }
}

fn config(end: usize) -> SessionConfig {
    let keys = ordered_keys();
    SessionConfig {
        kind: SessionKind::Pair(PairKey::from_octets([7; 32])),
        own_key: keys[end].clone(),
        peer_key: keys[1 - end].public(),
        own: ProcessId(100 + end as u64),
        peer: Some(ProcessId(101 - end as u64)),
        node: NodeNumber(10 + end as u16),
        own_cid: 0x0100_0000 + end as u32,
        legs: legs(),
        offer: SessionOffer {
            message_len_max: 66_560,
            credit_messages: 16 + end as u32,
            credit_kib: 4096,
            tlv_version: 1,
        },
    }
}

/// A packet under way.
#[derive(Clone, Debug)]
struct Flight {
    to: usize,
    leg: PacketLeg,
    octets: Vec<u8>,
}

/// Two ends and what is between them.
struct Pair {
    ends: [PacketSession<Audited>; 2],
    numbers: [[u64; PacketLeg::COUNT]; 2],
    events: [Vec<SessionEvent>; 2],
    /// Every packet that was sent, in order.
    sent: Vec<Flight>,
    entropy: EntropyPool,
    now: Instant,
}

impl Pair {
    fn new() -> Self {
        Self::of([config(0), config(1)])
    }

    fn of(configs: [SessionConfig; 2]) -> Self {
        SEALED.with_borrow_mut(BTreeSet::clear);
        Self {
            ends: configs.map(PacketSession::new),
            numbers: Default::default(),
            events: Default::default(),
            sent: Vec::new(),
            entropy: EntropyPool::new([3; 32]),
            now: Instant::from_nanos(1_000_000_000),
        }
    }

    fn established() -> Self {
        let mut pair = Self::new();
        pair.begin(0);
        pair.run();
        pair
    }

    fn begin(&mut self, end: usize) {
        let entropy = self.entropy.draw();
        self.ends[end].begin(self.now, &entropy);
    }

    /// What `end` has to send now.
    fn flights(&mut self, end: usize) -> Vec<Flight> {
        let mut flights = Vec::new();
        let mut out = [0; HANDSHAKE_PACKET_LEN_MAX];
        for leg in (0..PacketLeg::COUNT).filter_map(PacketLeg::at) {
            while let Some(len) = self.ends[end].poll_handshake_packet(self.now, leg, &mut out) {
                flights.push(Flight { to: 1 - end, leg, octets: out[..len].to_vec() });
            }
        }
        self.sent.extend(flights.iter().cloned());
        flights
    }

    /// Delivers a handshake packet.
    fn deliver(&mut self, flight: &Flight) -> Result<(), OpenError> {
        let entropy = self.entropy.draw();
        let mut octets = flight.octets.clone();
        let handled = self.ends[flight.to].handle_handshake(self.now, flight.leg, &mut octets, &entropy);
        self.collect();
        handled
    }

    fn collect(&mut self) {
        for (end, events) in self.ends.iter_mut().zip(&mut self.events) {
            events.extend(core::iter::from_fn(|| end.poll_event()));
        }
    }

    /// Lets packets fly until nobody has anything to send; `passes` says which get through, by their count.
    fn run_with(&mut self, passes: &mut dyn FnMut(&Flight) -> bool) {
        for _ in 0..100 {
            let mut flights = self.flights(0);
            flights.extend(self.flights(1));
            if flights.is_empty() {
                return;
            }
            for flight in flights {
                if passes(&flight) {
                    let _ = self.deliver(&flight);
                }
            }
        }
        panic!("the handshake has no end");
    }

    fn run(&mut self) {
        self.run_with(&mut |_| true);
    }

    /// Lets `time` pass, timeout by timeout.
    fn pass_with(&mut self, time: Duration, passes: &mut dyn FnMut(&Flight) -> bool) {
        let end = self.now + time;
        for _ in 0..1000 {
            let next = self.ends.iter().filter_map(PacketSession::poll_timeout).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            self.ends.iter_mut().for_each(|session| session.handle_timeout(next));
            self.collect();
            self.run_with(passes);
        }
        self.now = end;
    }

    fn pass(&mut self, time: Duration) {
        self.pass_with(time, &mut |_| true);
    }

    /// A packet of DATA that `end` has sealed, with its next number on the leg.
    fn data(&mut self, end: usize, leg: PacketLeg, payload: &[u8]) -> Flight {
        let number = self.numbers[end][leg.index()];
        self.numbers[end][leg.index()] = number + 1;
        self.data_of(end, leg, number, payload).unwrap()
    }

    fn data_of(
        &mut self,
        end: usize,
        leg: PacketLeg,
        number: u64,
        payload: &[u8],
    ) -> Result<Flight, SealError> {
        let mut octets = plain(leg, number, payload);
        self.ends[end].seal(leg, &mut octets)?;
        Ok(Flight { to: 1 - end, leg, octets })
    }

    /// Delivers a packet of DATA; gives its payload.
    fn open(&mut self, flight: &Flight) -> Result<Vec<u8>, OpenError> {
        let mut octets = flight.octets.clone();
        let header = self.ends[flight.to].open(flight.leg, &mut octets);
        self.collect();
        let header = header?;
        assert_eq!(header, PacketHeader::parse(&flight.octets).unwrap());
        Ok(octets[PACKET_HEADER_LEN..octets.len() - TAG_LEN].to_vec())
    }

    /// Both ends use the same session, all legs have joined, and data goes through each of them, both ways.
    fn assert_works(&mut self) {
        self.collect();
        assert!(self.ends[0].is_established(), "no session");
        assert_eq!(self.ends[0].id(), self.ends[1].id());
        for end in 0..2 {
            assert!(
                self.ends[end].joined_legs().contains(leg(0))
                    && self.ends[end].joined_legs().contains(leg(1))
            );
            for number in 0..2 {
                let flight = self.data(end, leg(number), b"a record or two.");
                assert_eq!(self.open(&flight).unwrap(), b"a record or two.");
            }
        }
    }

    /// What nobody from outside may change.
    fn state(&self) -> [(Option<u64>, LegSet, u64, bool, bool); 2] {
        self.ends.each_ref().map(|end| {
            let (pending, attempt) = (end.pending.is_some(), end.attempt.is_some());
            (end.id(), end.joined_legs(), end.counters().opened, pending, attempt)
        })
    }

    /// Sessions that an end was told of.
    fn sessions(&self, end: usize) -> Vec<(u64, bool)> {
        let sessions = self.events[end].iter().filter_map(|event| match event {
            SessionEvent::Established { session, is_initiator, .. } => Some((*session, *is_initiator)),
            _ => None,
        });
        sessions.collect()
    }
}

/// A packet of DATA as the transport writes it.
fn plain(leg: PacketLeg, number: u64, payload: &[u8]) -> Vec<u8> {
    let header = PacketHeader {
        kind: PacketKind::Data,
        leg,
        flags: PacketFlags::default(),
        dst_cid: 0,
        session: 0,
        number,
        ts_us: 5,
        payload_len: payload.len() as u16,
        fabric_key: 0,
    };
    let mut packet = vec![0; header.packet_len()];
    header.emit(packet.first_chunk_mut().unwrap());
    packet[PACKET_HEADER_LEN..][..payload.len()].copy_from_slice(payload);
    packet
}

fn kind_of(flight: &Flight) -> PacketKind {
    PacketHeader::parse(&flight.octets).unwrap().kind
}
