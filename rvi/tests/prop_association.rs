//! Two associations joined by legs that come and go, against a model: exactly once, in order per lane, nothing
//! lost while a leg lives, and what is handed back when none does is exactly what was not delivered.

#![cfg(not(loom))]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use rvi::{
    Association, AssociationConfig, AssociationEvent, Part, Region, Scheduler, Scratch, SendError, ShmConfig,
    ShmLeg, Unsent,
};
use vlan_core::random::Random;
use vlan_core::{Channel, Instant, LegNumber};

const CHANNELS: u64 = 3;
const FLOWS: u64 = 7;

/// One direction's model.
#[derive(Default)]
struct Model {
    /// Accepted, not yet delivered or expired: id and (channel, flow).
    open: BTreeMap<u32, (u8, u32)>,
    /// The newest id delivered of a channel and flow.
    newest: BTreeMap<(u8, u32), u32>,
    delivered: BTreeSet<u32>,
    controls_sent: u32,
    controls_seen: u32,
}

impl Model {
    fn deliver(&mut self, id: u32, channel: u8, flow: u32) {
        assert!(self.delivered.insert(id), "message {id} came twice");
        assert_eq!(self.open.remove(&id), Some((channel, flow)), "message {id} was not outstanding");
        let newest = self.newest.entry((channel, flow)).or_default();
        assert!(*newest < id, "message {id} came behind {newest} of its flow");
        *newest = id;
    }
}

struct World {
    random: Random,
    now: Instant,
    ends: [Association; 2],
    /// Direction i: from end i.
    models: [Model; 2],
    held: [Option<rvi::Hold>; 2],
    next_id: u32,
    config: ShmConfig,
    /// For each leg number, which ends still have it.
    legs: Vec<[bool; 2]>,
}

impl World {
    fn new(seed: u64, scheduler: Scheduler, legs: usize, slots_log2: u8) -> Self {
        let random = Random::new(seed);
        let ends = [0, 1].map(|i| {
            let mut association = Association::new(&AssociationConfig {
                scheduler,
                seed: seed ^ i,
                park_messages_max: 20,
                ..AssociationConfig::default()
            });
            for channel in 1..=CHANNELS {
                association.open_channel(Channel(channel as u8));
            }
            association
        });
        let config = ShmConfig { slots_log2, arena_len: 256 * 1024 };
        let mut world = Self {
            random,
            now: Instant::from_nanos(1),
            ends,
            models: Default::default(),
            held: [None; 2],
            next_id: 1,
            config,
            legs: vec![[false; 2]; legs],
        };
        for leg in 0..legs {
            world.bring_up(leg);
        }
        world
    }

    fn bring_up(&mut self, leg: usize) {
        let regions = [(); 2].map(|()| Region::heap(self.config.region_len()));
        for region in &regions {
            ShmLeg::format(region, &self.config);
        }
        for end in 0..2 {
            let shm = ShmLeg::new(regions[end].clone(), regions[1 - end].clone()).expect("formatted");
            self.ends[end].handle_leg_up(self.now, LegNumber(leg as u8), shm);
        }
        self.legs[leg] = [true; 2];
    }

    fn hang_up(&mut self, leg: usize, end: usize) {
        if std::mem::take(&mut self.legs[leg][end]) {
            self.ends[end].handle_leg_gone(self.now, LegNumber(leg as u8));
        }
    }

    /// Sends one message; false when it was refused.
    fn send(&mut self, end: usize) -> bool {
        let id = self.next_id;
        let channel = 1 + self.random.below(CHANNELS) as u8;
        let flow = self.random.below(FLOWS) as u32;
        let len = match self.random.below(20) {
            0 => 40_000,
            1..5 => 300 + self.random.below(2000) as usize,
            _ => 12 + self.random.below(220) as usize,
        };
        let mut octets = vec![id as u8; len];
        octets[0..4].copy_from_slice(&id.to_le_bytes());
        octets[4..8].copy_from_slice(&flow.to_le_bytes());
        let (head, rest) = octets.split_at(self.random.below(len as u64) as usize);
        let parts = [Part::Private(head), Part::Private(rest)];
        match self.ends[end].send(self.now, Channel(channel), flow, id, &parts) {
            Ok(_) => {
                self.next_id += 1;
                self.models[end].open.insert(id, (channel, flow));
                true
            }
            Err(SendError::Full | SendError::NoLeg) => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn send_control(&mut self, end: usize) {
        let model = &mut self.models[end];
        let mut message = vec![7; 4 + self.random.below(1000) as usize];
        message[..4].copy_from_slice(&model.controls_sent.to_le_bytes());
        if self.ends[end].send_control(self.now, &message).is_ok() {
            model.controls_sent += 1;
        }
    }

    fn receive(&mut self, end: usize, budget: u64) -> u64 {
        let mut scratch = Scratch::default();
        for count in 0..budget {
            let Some(message) = self.ends[end].receive(&mut scratch) else { return count };
            let mut octets = message.head.to_vec();
            let mut rest = vec![0; message.rest.len()];
            message.rest.copy_to(&mut rest);
            octets.extend(rest);
            assert_eq!(octets.len(), message.len);
            let number = u32::from_le_bytes(octets[..4].try_into().expect("four octets"));
            let model = &mut self.models[1 - end];
            if message.channel == Channel::CONTROL {
                assert_eq!(number, model.controls_seen, "control messages come once and in order");
                model.controls_seen += 1;
                continue;
            }
            let flow = u32::from_le_bytes(octets[4..8].try_into().expect("four octets"));
            assert!(octets[8..].iter().all(|o| *o == number as u8), "the octets are those sent");
            model.deliver(number, message.channel.0, flow);
        }
        budget
    }

    fn drain_events(&mut self, end: usize) {
        while self.ends[end].poll_doorbell().is_some() {}
        while let Some(event) = self.ends[end].poll_event() {
            if let AssociationEvent::ParkedExpired { charge, .. } = event {
                assert!(self.models[end].open.remove(&charge).is_some(), "{charge} expired twice");
            }
            assert!(!format!("{event:?}").contains("Protocol"), "{event:?}");
        }
    }

    fn toggle_hold(&mut self, end: usize) {
        match self.held[end].take() {
            Some(hold) => self.ends[end].unhold(self.now, hold),
            None => self.held[end] = Some(self.ends[end].hold()),
        }
    }

    fn step(&mut self) {
        let end = self.random.below(2) as usize;
        match self.random.below(24) {
            0..8 => {
                for _ in 0..1 + self.random.below(24) {
                    self.send(end);
                }
            }
            8..11 => self.ends[end].publish(),
            11..17 => {
                let budget = 1 + self.random.below(40);
                self.receive(end, budget);
            }
            17..19 => self.ends[end].release(),
            19 => self.send_control(end),
            20 => self.toggle_hold(end),
            21 => {
                let nanos = [10_000, 1_000_000, 11_000_000, 60_000_000][self.random.below(4) as usize];
                self.now = self.now + Duration::from_nanos(nanos);
                for association in &mut self.ends {
                    if association.poll_timeout().is_some_and(|at| at <= self.now) {
                        association.handle_timeout(self.now);
                    }
                }
            }
            _ => self.disturb(),
        }
        self.drain_events(end);
    }

    /// A leg is left in order, hangs up at one end, or comes back; the last one always stays.
    fn disturb(&mut self) {
        let leg = self.random.below(self.legs.len() as u64) as usize;
        let end = self.random.below(2) as usize;
        match self.legs[leg] {
            [false, false] => self.bring_up(leg),
            [true, true] => {
                let others =
                    self.legs.iter().enumerate().filter(|(i, ends)| *i != leg && **ends == [true; 2]);
                if others.count() == 0 {
                    return;
                }
                if self.random.below(2) == 0 {
                    self.ends[end].leave_leg(self.now, LegNumber(leg as u8));
                    self.legs[leg][end] = true;
                    self.hang_up(leg, 1 - end);
                } else {
                    self.hang_up(leg, end);
                }
            }
            [a, _] => self.hang_up(leg, usize::from(!a)),
        }
    }

    /// Ends half-done hang-ups, then pumps until nothing is outstanding.
    fn heal(&mut self) {
        for leg in 0..self.legs.len() {
            if self.legs[leg] != [true; 2] {
                self.hang_up(leg, 0);
                self.hang_up(leg, 1);
                self.bring_up(leg);
            }
        }
        for round in 0.. {
            assert!(round < 10_000, "it never comes to rest");
            for end in 0..2 {
                self.ends[end].publish();
                self.receive(end, u64::MAX);
                self.ends[end].publish();
                self.ends[end].release();
                if self.held[end].is_some() {
                    self.toggle_hold(end);
                }
                self.drain_events(end);
            }
            if self.ends.iter().all(Association::is_drained) {
                break;
            }
        }
        for model in &self.models {
            assert!(model.open.is_empty(), "lost: {:?}", model.open);
            assert_eq!(model.controls_sent, model.controls_seen);
        }
    }

    /// Both ends leave every leg in order; what one end gets back is what the other did not receive.
    fn part(&mut self) {
        for leg in 0..self.legs.len() {
            let number = LegNumber(leg as u8);
            if self.legs[leg] == [true; 2] {
                self.ends[0].leave_leg(self.now, number);
                if self.random.below(2) == 0 {
                    self.receive(1, 5);
                }
            }
            self.hang_up(leg, 1);
            self.hang_up(leg, 0);
        }
        for end in 0..2 {
            self.drain_events(end);
            let model = &mut self.models[end];
            self.ends[end].drain_unsent(&mut |channel, octets, unsent| {
                if channel == Channel::CONTROL {
                    return;
                }
                let id = u32::from_le_bytes(octets[..4].try_into().expect("four octets"));
                let flow = u32::from_le_bytes(octets[4..8].try_into().expect("four octets"));
                if model.delivered.contains(&id) {
                    assert_eq!(unsent, Unsent::Ring { maybe_taken: true }, "{id} was delivered");
                    return;
                }
                model.deliver(id, channel.0, flow);
            });
            assert!(model.open.is_empty(), "lost: {:?}", model.open);
            assert!(self.ends[end].is_drained());
        }
    }
}

fn run(seed: u64, scheduler: Scheduler, legs: usize, slots_log2: u8, steps: usize, part: bool) {
    let mut world = World::new(seed, scheduler, legs, slots_log2);
    for _ in 0..steps {
        world.step();
    }
    if part {
        world.part();
    } else {
        world.heal();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    //= spec/rvi.md#duplicates
    //= type=test
    //# A receiver MUST deliver a message number of a channel at most once in a session.
    //= spec/rvi.md#lanes
    //= type=test
    //# A lane MUST change its leg only when everything of it that was sent by the old leg was taken there, or is
    //# sent again by the new leg before anything new.
    //= spec/rvi.md#sending-again
    //= type=test
    //# When a leg is lost or stalled and another one is up, every message that is not proven taken MUST be sent
    //# again there under its number, in the order of the lost ring, before anything new of its lane.
    #[test]
    fn each_message_comes_once_and_in_order_while_a_leg_lives(
        seed: u64, failover: bool, legs in 1_usize..=3, slots_log2 in 3_u8..=7,
    ) {
        let scheduler = if failover { Scheduler::Failover } else { Scheduler::Lane };
        run(seed, scheduler, legs, slots_log2, 600, false);
    }

    //= spec/rvi.md#unsent-messages
    //= type=test
    //# When no leg is left, every message that is not proven taken MUST be handed back once, in order per lane, marked
    //# when the peer may have taken it.
    #[test]
    fn when_the_last_leg_goes_what_was_not_delivered_is_handed_back(
        seed: u64, failover: bool, legs in 1_usize..=3, slots_log2 in 3_u8..=7,
    ) {
        let scheduler = if failover { Scheduler::Failover } else { Scheduler::Lane };
        run(seed, scheduler, legs, slots_log2, 300, true);
    }
}
