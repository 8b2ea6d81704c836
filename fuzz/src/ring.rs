//! An association whose peer writes whatever it likes into its own region: right messages through an
//! association of its own, and words and slots of its choice beside them.
//!
//! Checked: no panic, every message received is whole, and one bad leg does not end the other. As long as the
//! peer tells no lie, each message arrives at most once and in the order of its lane, whatever legs come and go.

use std::collections::BTreeMap;

use rvi::ring::{SLOT_LEN, layout};
use rvi::{
    Association, AssociationConfig, AssociationEvent, LegDownReason, Part, Region, Scheduler, Scratch,
    ShmConfig, ShmLeg,
};
use vlan_core::limits::{MESSAGE_LEN_MAX, PRIVATE_HEAD_LEN};
use vlan_core::{Channel, Instant, LegNumber};

use crate::script::Script;

/// The smallest rings there are: their ends are met often.
const CONFIG: ShmConfig = ShmConfig { slots_log2: 2, arena_len: 256 * 1024 };
/// The leg whose peer lies.
const BAD: LegNumber = LegNumber(0);
/// The leg whose peer does not.
const GOOD: LegNumber = LegNumber(1);
const CHANNELS: u8 = 3;
/// More than all rings and duplicates of a batch can hold.
const BATCH_MAX: usize = 256;

/// Words of a region that mean something to its reader.
const WORDS: [usize; 14] = [
    0,
    4,
    8,
    12,
    layout::DATA_TAIL,
    layout::CONTROL_TAIL,
    layout::DATA_HEAD,
    layout::DATA_HEAD + 4,
    layout::CONTROL_HEAD,
    layout::CONTROL_HEAD + 4,
    layout::ASLEEP,
    layout::STATE,
    layout::STATE + 4,
    layout::STATE + 8,
];

struct Run {
    /// The end under test.
    own: Association,
    /// The peer's honest part.
    peer: Association,
    /// What the peer's honest part writes on the leg whose peer lies ...
    honest: Region,
    /// ... and what we are shown of it, with lies on top until the next sync.
    hostile: Region,
    /// A lie has been told.
    lied: bool,
    /// Messages that the peer has sent; each holds its number.
    sent: u32,
    /// The last number received, by channel and flow.
    received: BTreeMap<(Channel, u8), u32>,
    now: Instant,
    scratch: Scratch,
    buffer: Vec<u8>,
    /// Room to copy a region through.
    mirror: Vec<u8>,
}

/// Runs the operations in `data`.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let Some(options) = script.octet() else { return };
    // A lie in the header must be found before the leg is used.
    if options & 0x80 != 0 {
        let (own, hostile) = (region(), region());
        while let (Some(word), Some(value)) = (script.below(16), script.u32()) {
            hostile.write(usize::from(word) * 4, &value.to_le_bytes());
        }
        let _ = ShmLeg::new(own, hostile);
        return;
    }
    let mut run = start(options);
    while let Some(()) = run.step(&mut script) {
        run.poll_events();
    }
    run.finish();
}

fn region() -> Region {
    let region = Region::heap(CONFIG.region_len());
    ShmLeg::format(&region, &CONFIG);
    region
}

fn start(options: u8) -> Run {
    let scheduler = if options & 1 == 0 { Scheduler::Lane } else { Scheduler::Failover };
    let config = AssociationConfig {
        scheduler,
        seed: 5,
        park_messages_max: 8,
        park_octets_max: 4096,
        ..AssociationConfig::default()
    };
    let (mut own, mut peer) = (Association::new(&config), Association::new(&config));
    for end in [&mut own, &mut peer] {
        (1..CHANNELS).for_each(|channel| end.open_channel(Channel(channel)));
    }
    let (honest, hostile) = (region(), region());
    join(&mut own, &mut peer, BAD, region(), [hostile.clone(), honest.clone()]);
    if options & 2 != 0 {
        let theirs = region();
        join(&mut own, &mut peer, GOOD, region(), [theirs.clone(), theirs]);
    }
    Run {
        own,
        peer,
        honest,
        hostile,
        lied: false,
        sent: 0,
        received: BTreeMap::new(),
        now: Instant::ZERO,
        scratch: Scratch::default(),
        buffer: vec![0; MESSAGE_LEN_MAX],
        mirror: vec![0; CONFIG.region_len()],
    }
}

/// Joins both ends by a leg; `theirs` is the peer's region as we see it and as it writes it.
fn join(own: &mut Association, peer: &mut Association, leg: LegNumber, ours: Region, theirs: [Region; 2]) {
    let [seen, written] = theirs;
    let near = ShmLeg::new(ours.clone(), seen).expect("two formatted regions");
    let far = ShmLeg::new(written, ours).expect("two formatted regions");
    own.handle_leg_up(Instant::ZERO, leg, near);
    peer.handle_leg_up(Instant::ZERO, leg, far);
}

impl Run {
    fn step(&mut self, script: &mut Script<'_>) -> Option<()> {
        match script.below(16)? {
            0..3 => self.send(script, true)?,
            3 => self.send(script, false)?,
            4 => {
                self.peer.publish();
                self.sync();
            }
            5 => {
                self.own.publish();
                while self.own.poll_doorbell().is_some() {}
            }
            6 | 7 => self.receive(),
            8 => {
                let mut scratch = Scratch::default();
                while self.peer.receive(&mut scratch).is_some() {}
                self.peer.release();
                self.peer.publish();
                self.sync();
            }
            9 => {
                let word = WORDS[usize::from(script.octet()?) % WORDS.len()];
                self.lie(word, &script.u32()?.to_le_bytes());
            }
            10 => {
                let word = WORDS[usize::from(script.octet()?) % WORDS.len()];
                self.nudge(word, script.octet()?);
            }
            11 => {
                let slot = layout::SLOTS + usize::from(script.below(4)?) * SLOT_LEN;
                let at = slot + usize::from(script.below(16)?) * 4;
                self.nudge(at, script.octet()?);
            }
            12 => {
                let slot = layout::SLOTS + usize::from(script.below(4)?) * SLOT_LEN;
                self.lie(slot, script.octets(SLOT_LEN)?);
            }
            13 => {
                script.advance(&mut self.now)?;
                self.own.handle_timeout(self.now);
                self.peer.handle_timeout(self.now);
                self.sync();
            }
            14 => self.leave(script)?,
            _ => {
                if script.flag()? {
                    let hold = self.own.hold();
                    self.receive();
                    self.own.unhold(self.now, hold);
                }
                if self.own.prepare_sleep() {
                    self.own.wake();
                }
            }
        }
        Some(())
    }

    /// Adds a small difference to a word of the hostile region.
    fn nudge(&mut self, offset: usize, by: u8) {
        let mut word = [0; 4];
        self.hostile.read(offset, &mut word);
        let value = u32::from_le_bytes(word).wrapping_add_signed(i32::from(by.cast_signed()));
        self.lie(offset, &value.to_le_bytes());
    }

    fn lie(&mut self, offset: usize, octets: &[u8]) {
        self.hostile.write(offset, octets);
        self.lied = true;
    }

    /// Shows us what the honest part has written; lies told before are gone.
    fn sync(&mut self) {
        self.honest.read(0, &mut self.mirror);
        self.hostile.write(0, &self.mirror);
    }

    fn send(&mut self, script: &mut Script<'_>, by_peer: bool) -> Option<()> {
        let channel = Channel(script.below(CHANNELS)?);
        let flow = script.octet()?;
        let len = match script.octet()? {
            len @ 0..250 => usize::from(len),
            _ => usize::from(script.u16()?),
        };
        let body = self.body(flow, len);
        let end = if by_peer { &mut self.peer } else { &mut self.own };
        let charge = u32::from(script.below(2)?);
        let sent = if channel == Channel::CONTROL {
            end.send_control(self.now, &body[..body.len().min(4096)])
        } else {
            end.send(self.now, channel, flow.into(), charge, &[Part::Private(&body)])
        };
        // A refusal is as good as any other answer here.
        let _ = sent;
        if by_peer && !self.lied {
            self.sync();
        }
        Some(())
    }

    /// A message that says its number and flow.
    fn body(&mut self, flow: u8, len: usize) -> Vec<u8> {
        let mut body = vec![flow; len.max(5)];
        self.sent += 1;
        body[..4].copy_from_slice(&self.sent.to_le_bytes());
        body
    }

    fn receive(&mut self) {
        for received in 0.. {
            assert!(received < BATCH_MAX, "a batch without end");
            let Some(message) = self.own.receive(&mut self.scratch) else { break };
            assert!(message.len <= MESSAGE_LEN_MAX && message.channel.0 < CHANNELS);
            assert_eq!(message.head.len(), message.len.min(PRIVATE_HEAD_LEN));
            assert_eq!(message.rest.len(), message.len - message.head.len());
            message.rest.copy_to(&mut self.buffer);
            if !self.lied {
                check_order(&mut self.received, message.channel, message.head);
                let rest = &self.buffer[..message.rest.len()];
                assert!(
                    rest.iter().all(|octet| *octet == message.head[4]),
                    "a message was mixed with another"
                );
            }
        }
        self.own.release();
    }

    fn leave(&mut self, script: &mut Script<'_>) -> Option<()> {
        let leg = if script.flag()? { BAD } else { GOOD };
        if script.flag()? {
            self.peer.leave_leg(self.now, leg);
        }
        if script.flag()? {
            self.own.leave_leg(self.now, leg);
        }
        self.sync();
        let _ = self.own.handle_leg_gone(self.now, leg);
        let _ = self.peer.handle_leg_gone(self.now, leg);
        self.sync();
        if !self.own.is_up() {
            self.own.drain_unsent(&mut |_, message, _| assert!(message.len() <= MESSAGE_LEN_MAX));
            assert!(self.own.is_drained(), "something is left after a drain");
        }
        Some(())
    }

    fn poll_events(&mut self) {
        while let Some(event) = self.own.poll_event() {
            if let AssociationEvent::LegDown(leg, LegDownReason::Protocol(_)) = event {
                assert_eq!(leg, BAD, "an honest leg was taken down for a lie");
                // As a host does: the socket is closed, and its end seen.
                let _ = self.own.handle_leg_gone(self.now, leg);
                let _ = self.peer.handle_leg_gone(self.now, leg);
            }
        }
        while self.peer.poll_event().is_some() {}
    }

    /// Every leg goes; what was not taken comes back, once.
    fn finish(mut self) {
        for leg in [BAD, GOOD] {
            let _ = self.own.handle_leg_gone(self.now, leg);
        }
        self.own.drain_unsent(&mut |_, message, _| assert!(message.len() <= MESSAGE_LEN_MAX));
        assert!(self.own.is_drained() && !self.own.is_up());
    }
}

/// A message of an honest peer comes once, and after those that went before it in its lane; all control
/// messages are of one lane.
fn check_order(received: &mut BTreeMap<(Channel, u8), u32>, channel: Channel, head: &[u8]) {
    let number = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    let flow = if channel == Channel::CONTROL { 0 } else { head[4] };
    let last = received.insert((channel, flow), number);
    assert!(last.is_none_or(|last| last < number), "{number} after {last:?} on {channel:?}, flow {flow}");
}

/// Honest traffic on one leg and on two, a lie about a head, a lie in a slot, and a leg that ends.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    // By the peer: channel 1, flow, length, no charge.
    let small: &[u8] = &[0, 1, 7, 60, 0];
    let long: &[u8] = &[0, 1, 8, 255, 0xdc, 5, 0];
    let control: &[u8] = &[0, 0, 0, 90, 0];
    let own: &[u8] = &[3, 1, 7, 60, 1];
    let take: &[u8] = &[4, 6];
    let answer: &[u8] = &[5, 8];
    let honest = [&[0][..], small, long, control, take, own, own, answer, small, take, &[13, 0, 0x40, 15, 0]];
    let two = [&[2][..], small, long, small, take, own, own, own, own, answer, &[14, 1, 1, 0], take, own];
    let head = [&[0][..], own, &[5, 10, 6, 9], own, &[5], take, small, take];
    let slot = [&[2][..], small, &[4, 11, 0, 1, 5], &[6], small, long, take];
    let header = [&[0x80][..], &[1, 3, 0, 0, 0, 2, 0, 0, 4, 0]];
    vec![honest.concat(), two.concat(), head.concat(), slot.concat(), header.concat()]
}
