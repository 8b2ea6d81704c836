//! Associations over packet legs, sealed and all: what `spec/rvi.md` promises holds whatever a network does to packets,
//! and a message finds its way from shared memory to packets and back.
#![cfg(not(loom))]

use std::collections::VecDeque;
use std::time::Duration;

use rvi::keys::PrivateKey;
use rvi::packet::endpoint::EndpointConfig;
use rvi::packet::session::{PairKey, SessionConfig, SessionKind, SessionLeg, SessionOffer};
use rvi::packet::transport::{TransmitBuffer, TransportConfig};
use rvi::packet::wire::PacketLeg;
use rvi::{
    Association, AssociationConfig, AssociationEvent, Part, Region, Scratch, SendError, ShmConfig, ShmLeg,
};
use vlan_core::random::Random;
use vlan_core::{Channel, Instant, LegNumber, NodeNumber, ProcessId};

const CHANNEL: Channel = Channel(1);
const LEGS: u8 = 2;
const STEP: u64 = 20_000;

/// What the network does to each packet.
#[derive(Clone, Copy, Default)]
struct Faults {
    loss_percent: u64,
    flip_percent: u64,
    double_percent: u64,
    /// Legs that carry nothing.
    dead: [bool; LEGS as usize],
}

struct Flying {
    to: usize,
    leg: PacketLeg,
    at: u64,
    octets: Vec<u8>,
}

struct World {
    now: u64,
    ends: [Association; 2],
    network: VecDeque<Flying>,
    faults: Faults,
    random: Random,
    buffer: TransmitBuffer,
    received: [Vec<(u16, u32, usize)>; 2],
    events: Vec<(usize, AssociationEvent)>,
}

fn endpoint_config(end: usize, legs: u8) -> EndpointConfig {
    let keys = [PrivateKey::from_octets([1; 32]), PrivateKey::from_octets([2; 32])];
    let publics = [keys[0].public(), keys[1].public()];
    let legs = (0..legs).map(|leg| SessionLeg {
        leg: PacketLeg::new(leg).expect("a packet leg"),
        fabric_key: 100 + u16::from(leg),
        is_trusted: leg == 1,
    });
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
            offer: SessionOffer {
                message_len_max: 66_000,
                credit_messages: 1024,
                credit_kib: 1024,
                tlv_version: 1,
            },
        },
        transport: TransportConfig::default(),
        packet_len_max: [1472; PacketLeg::COUNT],
        seed: [end as u8; 32],
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let ends = [0, 1].map(|_| {
            let mut end = Association::new(&AssociationConfig::default());
            end.open_channel(CHANNEL);
            end
        });
        Self {
            now: 1,
            ends,
            network: VecDeque::new(),
            faults: Faults::default(),
            random: Random::new(seed),
            buffer: TransmitBuffer::new(64, 65_000),
            received: Default::default(),
            events: Vec::new(),
        }
    }

    fn with_packets(seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.set_packets();
        world
    }

    fn set_packets(&mut self) {
        let now = self.instant();
        for (index, end) in self.ends.iter_mut().enumerate() {
            end.set_packets(now, endpoint_config(index, LEGS));
        }
    }

    fn instant(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.random.below(100) < percent
    }

    fn transmit(&mut self, end: usize) {
        let now = self.instant();
        while let Some(batch) = self.ends[end].poll_transmit(now, &mut self.buffer) {
            let packets: Vec<Vec<u8>> =
                self.buffer.octets().chunks(batch.segment_len).map(<[u8]>::to_vec).collect();
            assert_eq!(packets.len(), batch.count);
            for mut octets in packets {
                if self.faults.dead[usize::from(batch.leg.number())] || self.chance(self.faults.loss_percent)
                {
                    continue;
                }
                if self.chance(self.faults.flip_percent) {
                    let at = self.random.below(octets.len() as u64) as usize;
                    octets[at] ^= 1 << self.random.below(8);
                }
                let copies = 1 + usize::from(self.chance(self.faults.double_percent));
                for _ in 0..copies {
                    let at = self.now + 10_000 + self.random.below(50_000);
                    self.network.push_back(Flying {
                        to: 1 - end,
                        leg: batch.leg,
                        at,
                        octets: octets.clone(),
                    });
                }
            }
        }
    }

    /// Packets come to the ends, which do not look at what they brought yet.
    fn arrive(&mut self) {
        let now = self.instant();
        let due: Vec<usize> =
            (0..self.network.len()).rev().filter(|&i| self.network[i].at <= self.now).collect();
        for place in due {
            let Some(mut flying) = self.network.remove(place) else { continue };
            // Refused packets are counted; the test sees what comes of them.
            let _ = self.ends[flying.to].handle_packet(now, flying.leg, &mut flying.octets);
        }
    }

    /// One round of both hosts.
    fn step(&mut self) {
        self.now += STEP;
        self.arrive();
        let now = self.instant();
        let mut scratch = Scratch::default();
        for end in 0..2 {
            while let Some(message) = self.ends[end].receive(&mut scratch) {
                let (lane, id) =
                    (u16::from_le_bytes([message.head[0], message.head[1]]), &message.head[2..6]);
                let id = u32::from_le_bytes(id.try_into().expect("four octets"));
                let mut rest = vec![0; message.rest.len()];
                message.rest.copy_to(&mut rest);
                assert!(message.head[6..].iter().chain(&rest).all(|octet| *octet == id as u8));
                self.received[end].push((lane, id, message.len));
            }
            self.ends[end].release();
            if self.ends[end].poll_timeout().is_some_and(|at| at <= now) {
                self.ends[end].handle_timeout(now);
            }
            self.ends[end].publish();
            self.transmit(end);
            while let Some(event) = self.ends[end].poll_event() {
                self.events.push((end, event));
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time.as_nanos() as u64;
        while self.now < until {
            self.step();
        }
    }

    fn send(&mut self, end: usize, lane: u16, id: u32, len: usize) -> Result<(), SendError> {
        let mut octets = vec![id as u8; len.max(6)];
        octets[..2].copy_from_slice(&lane.to_le_bytes());
        octets[2..6].copy_from_slice(&id.to_le_bytes());
        let now = self.instant();
        self.ends[end].send(now, CHANNEL, lane.into(), 0, &[Part::Private(&octets)]).map(|_| ())
    }

    /// Sends `count` messages each way in a few lanes, at the pace at which they are taken, and waits for all.
    fn exchange(&mut self, count: u32) {
        let start = self.received.each_ref().map(Vec::len);
        let mut sent = [0; 2];
        for _ in 0..200_000 {
            for (end, sent) in sent.iter_mut().enumerate() {
                for _ in 0..8 {
                    let id = *sent;
                    let len = if id % 50 == 7 { 60_000 } else { 40 + (id as usize * 97) % 1500 };
                    if id < count && self.send(end, (id % 5) as u16, id, len).is_ok() {
                        *sent += 1;
                    }
                }
            }
            self.step();
            let is_all = (0..2).all(|end| self.received[end].len() - start[end] == count as usize);
            if is_all && sent == [count; 2] {
                break;
            }
        }
        for (end, start) in start.into_iter().enumerate() {
            let got = &self.received[end][start..];
            let legs: Vec<_> = self.ends.iter().map(|e| e.packet_legs().collect::<Vec<_>>()).collect();
            let last = &self.events[self.events.len().saturating_sub(8)..];
            assert_eq!(
                got.len(),
                count as usize,
                "end {end} at {} ms: {legs:#?} {last:?}",
                self.now / 1_000_000
            );
            for lane in 0..5 {
                let ids: Vec<u32> = got.iter().filter(|(of, ..)| *of == lane).map(|(_, id, _)| *id).collect();
                let expected: Vec<u32> = (0..count).filter(|id| id % 5 == u32::from(lane)).collect();
                assert_eq!(ids, expected, "lane {lane} at end {end}");
            }
        }
    }
}

#[test]
fn a_session_comes_up_by_itself_and_carries_messages_of_all_lengths() {
    let mut world = World::with_packets(1);
    world.run(Duration::from_millis(5));
    assert!(world.ends.iter().all(Association::has_packets_up));
    world.exchange(500);
}

#[test]
fn nothing_is_lost_doubled_or_out_of_order_while_packets_are() {
    let mut world = World::with_packets(2);
    world.faults = Faults { loss_percent: 5, flip_percent: 1, double_percent: 3, ..Faults::default() };
    world.run(Duration::from_millis(300));
    world.exchange(3000);
}

#[test]
fn a_leg_that_dies_loses_nothing() {
    let mut world = World::with_packets(3);
    world.run(Duration::from_millis(5));
    for round in 0..6 {
        world.faults.dead = [round % 3 == 1, round % 3 == 2];
        world.exchange(300);
    }
}

#[test]
fn what_follows_a_message_of_a_closed_channel_comes_once_it_is_open_again() {
    //= spec/packet.md#closed-channels
    //= type=test
    //# The number of a message that was dropped because its channel is closed MUST be acknowledged.
    let mut world = World::with_packets(8);
    world.run(Duration::from_millis(5));
    world.exchange(10);
    world.ends[1].close_channel(CHANNEL);
    for id in [100, 101] {
        // The channel opens between the two, before the host looks again.
        world.send(0, 0, id, 40).expect("room");
        world.ends[0].publish();
        world.transmit(0);
        world.now += 1_000_000;
        world.arrive();
        world.ends[1].open_channel(CHANNEL);
    }
    world.run(Duration::from_millis(5));
    assert_eq!(world.received[1][10..], [(0, 101, 40)]);
    assert_eq!(world.ends[1].take_refused(), 1);
    world.exchange(10);
}

#[test]
fn what_comes_for_a_channel_that_is_yet_to_open_is_not_refused() {
    //= spec/packet.md#channels-yet-to-open
    //= type=test
    //# A receiver MUST hold a message of a channel that has not been open in the association until it is.
    let mut world = World::new(9);
    world.ends[1] = Association::new(&AssociationConfig::default());
    world.ends[1].open_channel(Channel(CHANNEL.0 + 1));
    world.set_packets();
    world.run(Duration::from_millis(5));
    for id in 0..3 {
        world.send(0, 0, id, 40).expect("room");
    }
    world.run(Duration::from_millis(5));
    assert_eq!((world.received[1].len(), world.ends[1].take_refused()), (0, 0));
    world.ends[1].open_channel(CHANNEL);
    world.run(Duration::from_millis(5));
    assert_eq!(world.received[1], [(0, 0, 40), (0, 1, 40), (0, 2, 40)]);
    world.exchange(10);
}

#[test]
fn messages_outlast_the_silence_of_all_legs() {
    let mut world = World::with_packets(4);
    world.run(Duration::from_millis(5));
    for id in 0..20 {
        world.send(0, 0, id, 100).expect("room");
    }
    world.faults.dead = [true; 2];
    world.run(Duration::from_millis(700));
    assert!(world.events.contains(&(0, AssociationEvent::PacketsSilent)));
    assert!(world.received[1].is_empty());
    world.faults.dead = [false; 2];
    world.run(Duration::from_millis(400));
    let ids: Vec<u32> = world.received[1].iter().map(|(_, id, _)| *id).collect();
    assert_eq!(ids, (0..20).collect::<Vec<_>>());
}

//= spec/rvi.md#packet-legs
//= type=test
//# Packet legs MUST carry messages only while no shared-memory leg is up.
#[test]
fn shared_memory_comes_first_and_packets_take_over_what_it_did_not_prove() {
    let mut world = World::with_packets(5);
    world.run(Duration::from_millis(5));
    let config = ShmConfig { slots_log2: 6, arena_len: 256 * 1024 };
    let regions = [(); 2].map(|()| Region::heap(config.region_len()));
    for region in &regions {
        ShmLeg::format(region, &config);
    }
    let now = world.instant();
    for end in 0..2 {
        let shm = ShmLeg::new(regions[end].clone(), regions[1 - end].clone()).expect("formatted");
        world.ends[end].handle_leg_up(now, LegNumber(1), shm);
    }
    let carried = |world: &World| world.ends[0].legs().map(|leg| leg.tx_messages).sum::<u64>();
    world.exchange(200);
    assert!(carried(&world) >= 200, "{}", carried(&world));

    for id in 0..30 {
        world.send(0, 0, 1000 + id, 100).expect("room");
    }
    world.ends[0].publish();
    let now = world.instant();
    for end in 0..2 {
        world.ends[end].handle_leg_gone(now, LegNumber(1));
    }
    world.run(Duration::from_millis(20));
    let got: Vec<u32> = world.received[1].iter().map(|(_, id, _)| *id).filter(|id| *id >= 1000).collect();
    assert_eq!(got, (1000..1030).collect::<Vec<_>>());
    world.exchange(200);
}
