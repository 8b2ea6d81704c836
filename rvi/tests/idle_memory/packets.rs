//! Two associations joined by packet legs that lose nothing.

use std::collections::VecDeque;
use std::time::Duration;

use rvi::keys::PrivateKey;
use rvi::packet::endpoint::EndpointConfig;
use rvi::packet::session::{PairKey, SessionConfig, SessionKind, SessionLeg, SessionOffer};
use rvi::packet::transport::{TransmitBuffer, TransportConfig};
use rvi::packet::wire::PacketLeg;
use rvi::{Association, Part, Scratch};
use vlan_core::{Channel, Instant, NodeNumber, ProcessId};

/// How long a packet is under way, and what a round takes while some are.
const DELAY: Duration = Duration::from_micros(50);

fn config(end: usize) -> EndpointConfig {
    let keys = [1, 2].map(|octet| PrivateKey::from_octets([octet; 32]));
    let publics = keys.each_ref().map(PrivateKey::public);
    let legs = (0..2).filter_map(PacketLeg::new);
    let legs = legs.map(|leg| SessionLeg { leg, fabric_key: 1, is_trusted: false });
    let offer =
        SessionOffer { message_len_max: 66_000, credit_messages: 1024, credit_kib: 1024, tlv_version: 1 };
    EndpointConfig {
        session: SessionConfig {
            kind: SessionKind::Pair(PairKey::derive(&[7; 32], &publics[0], &publics[1], 1)),
            own_key: keys[end].clone(),
            peer_key: publics[1 - end],
            own: ProcessId(10 + end as u64),
            peer: Some(ProcessId(11 - end as u64)),
            node: NodeNumber(end as u16 + 1),
            own_cid: 5 + end as u32,
            legs: legs.collect(),
            offer,
        },
        transport: TransportConfig::default(),
        packet_len_max: [1472; PacketLeg::COUNT],
        seed: [end as u8; 32],
    }
}

/// Both ends, the packets between them, and the time.
pub struct Pair {
    pub ends: [Box<Association>; 2],
    flying: VecDeque<(usize, PacketLeg, Vec<u8>)>,
    buffer: TransmitBuffer,
    scratch: Scratch,
    pub now: Instant,
    received: usize,
}

impl Pair {
    /// Gives both associations two packet legs, and lets them come up.
    pub fn new(ends: [Box<Association>; 2]) -> Self {
        let mut pair = Self {
            ends,
            flying: VecDeque::new(),
            buffer: TransmitBuffer::new(64, 65_000),
            scratch: Scratch::default(),
            now: Instant::from_nanos(1_000_000),
            received: 0,
        };
        for (number, end) in pair.ends.iter_mut().enumerate() {
            end.set_packets(pair.now, config(number));
        }
        pair.run_for(Duration::from_millis(5));
        assert!(pair.ends.iter().all(|end| end.packet_legs().count() == 2));
        pair
    }

    /// Lets time pass: in small steps while something is under way, else to the next deadline.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            let deadline = self.ends.iter().filter_map(|end| end.poll_timeout()).min().unwrap_or(until);
            let is_quiet = self.flying.is_empty() && self.ends.iter().all(|end| end.is_drained());
            let next = if is_quiet { deadline } else { self.now + DELAY };
            self.now = next.clamp(self.now, until);
            self.round();
        }
    }

    fn round(&mut self) {
        for (to, leg, mut octets) in std::mem::take(&mut self.flying) {
            // The second of two handshake packets is refused.
            let _ = self.ends[to].handle_packet(self.now, leg, &mut octets);
        }
        for (number, end) in self.ends.iter_mut().enumerate() {
            while end.receive(&mut self.scratch).is_some() {
                self.received += 1;
            }
            end.release();
            if end.poll_timeout().is_some_and(|at| at <= self.now) {
                end.handle_timeout(self.now);
            }
            end.publish();
            while let Some(batch) = end.poll_transmit(self.now, &mut self.buffer) {
                let packets = self.buffer.octets().chunks(batch.segment_len);
                self.flying.extend(packets.map(|octets| (1 - number, batch.leg, octets.to_vec())));
            }
            while end.poll_event().is_some() {}
        }
    }

    /// Sends messages of all lanes both ways, and waits for them.
    pub fn exchange(&mut self, messages: u32) {
        let before = self.received;
        for flow in 0..messages {
            for end in &mut self.ends {
                let parts = [Part::Private(&[0; 1000])];
                end.send(self.now, Channel(1), flow, 0, &parts).expect("there is room");
            }
            if flow % 64 == 0 {
                self.run_for(Duration::from_millis(1));
            }
        }
        self.run_for(Duration::from_millis(20));
        assert_eq!(self.received - before, 2 * messages as usize);
        assert!(self.ends.iter().all(|end| end.is_drained()));
    }
}
