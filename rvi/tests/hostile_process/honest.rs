//! The honest process: the end towards the hostile peer, and a pair that keeps working beside it.

use super::*;

/// What the honest process saw of the hostile peer.
#[derive(Debug, Default)]
pub struct Seen {
    pub messages: u64,
    pub octets: u64,
    pub faults: [u64; 7],
    pub ended_alive: u64,
    pub episodes_up: u64,
    pub violations: u64,
    pub refused_setups: u64,
}

impl Seen {
    /// It has seen messages, and memory found impossible.
    pub fn has_everything(&self) -> bool {
        self.messages > 0 && self.faults.iter().sum::<u64>() > 0
    }

    pub fn count(&mut self, event: &AssociationEvent) {
        if let AssociationEvent::LegDown(_, LegDownReason::Protocol(fault)) = event {
            use rvi::RingFault as F;
            let kind = match fault {
                F::Length { .. } => 0,
                F::ArenaBounds { .. } => 1,
                F::Kind(_) => 2,
                F::Lane { .. } => 3,
                F::Session(_) => 4,
                F::Channel(_) => 5,
                _ => 6,
            };
            self.faults[kind] += 1;
        }
    }
}

/// The honest end towards the hostile peer.
pub struct Victim {
    pub association: Association,
    pub scratch: Scratch,
    pub room: Vec<u8>,
    pub now: Instant,
}

impl Victim {
    pub fn new() -> Self {
        let room = vec![0; MESSAGE_LEN_MAX];
        Self { association: association(), scratch: Scratch::default(), room, now: Instant::from_nanos(1) }
    }

    /// One round of a pump. True when something was received.
    pub fn step(&mut self, random: &mut Random, seen: &mut Seen) -> bool {
        self.now = self.now + std::time::Duration::from_micros(50);
        let mut received = 0;
        while received < 64 {
            let Some(message) = self.association.receive(&mut self.scratch) else { break };
            assert!(message.len <= MESSAGE_LEN_MAX, "{} octets", message.len);
            assert_eq!(message.head.len(), message.len.min(256));
            assert_eq!(message.rest.len(), message.len - message.head.len());
            message.rest.copy_to(&mut self.room);
            received += 1;
            seen.messages += 1;
            seen.octets += message.len as u64;
        }
        let octets = &self.room[..random.below(400)];
        // Whether there is room is the hostile peer's choice.
        let _ = self.association.send(self.now, DATA, random.next() as u32, 1, &[Part::Private(octets)]);
        let _ = self.association.send_control(self.now, &octets[..octets.len() / 2]);
        self.association.publish();
        self.association.release();
        if random.one_in(4) {
            let _ = self.association.prepare_sleep();
            self.association.wake();
            self.association.handle_timeout(self.now);
        }
        while self.association.poll_doorbell().is_some() {}
        while let Some(event) = self.association.poll_event() {
            seen.count(&event);
        }
        received > 0
    }

    /// Ends the leg's life, by ourselves or as if the peer had hung up.
    pub fn end(&mut self, random: &mut Random, seen: &mut Seen) {
        if self.association.is_up() {
            seen.ended_alive += 1;
        }
        if random.one_in(2) {
            self.association.leave_leg(self.now, LEG);
        }
        let _ = self.association.handle_leg_gone(self.now, LEG);
        let mut unsent = 0_usize;
        self.association.drain_unsent(&mut |_, octets, _| {
            assert!(octets.len() <= MESSAGE_LEN_MAX);
            unsent += 1;
        });
        assert!(unsent <= UNSENT_MAX, "what is handed back is bounded by our own ring and queues: {unsent}");
        assert!(!self.association.is_up());
    }
}

/// Two honest processes that keep exchanging numbered messages.
pub struct Honest {
    pub ends: [Association; 2],
    pub scratch: Scratch,
    pub sent: [u64; 2],
    pub received: [u64; 2],
    pub now: Instant,
}

impl Honest {
    pub fn new() -> Self {
        let (a, b) = LegSocket::pair().unwrap();
        let mut one = PairLeg::new(a, END, &shm_config()).unwrap();
        let mut other = PairLeg::new(b, END, &shm_config()).unwrap();
        let legs = [one.advance(), other.advance()].map(|progress| match progress {
            Ok(SetupProgress::Up { shm, .. }) => shm,
            other => panic!("an honest leg comes up: {other:?}"),
        });
        let now = Instant::from_nanos(1);
        let ends = legs.map(|shm| {
            let mut end = association();
            end.handle_leg_up(now, LEG, shm);
            end
        });
        Self { ends, scratch: Scratch::default(), sent: [0; 2], received: [0; 2], now }
    }

    pub fn step(&mut self, random: &mut Random) {
        self.now = self.now + std::time::Duration::from_micros(50);
        for from in 0..2 {
            let mut octets = [0x5a; 700];
            octets[..8].copy_from_slice(&self.sent[from].to_le_bytes());
            let len = 8 + random.below(octets.len() - 8);
            if self.ends[from].send(self.now, DATA, 0, 0, &[Part::Private(&octets[..len])]).is_ok() {
                self.sent[from] += 1;
            }
            self.ends[from].publish();
        }
        for to in 0..2 {
            while let Some(message) = self.ends[to].receive(&mut self.scratch) {
                assert_eq!(
                    message.head[..8],
                    self.received[to].to_le_bytes(),
                    "in order, none twice, none missing"
                );
                self.received[to] += 1;
            }
            self.ends[to].release();
            while self.ends[to].poll_doorbell().is_some() {}
        }
    }

    pub fn finish(mut self, random: &mut Random) {
        let sent = [self.sent[1], self.sent[0]];
        self.step(random);
        self.step(random);
        assert!(self.received[0] >= sent[0] && self.received[1] >= sent[1], "everything sent came");
        assert!(sent[0] > 1000, "the honest pair did work");
    }
}
