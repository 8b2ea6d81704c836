//! A peer that writes anything anywhere in its own memory, at any time: no panic, nothing read outside the region
//! (debug assertions watch), and the leg ends with the reason.
#![cfg(not(loom))]

use std::time::Duration;

use proptest::prelude::*;
use rvi::ring::RingFault;
use rvi::ring::layout::{ASLEEP, CONTROL_HEAD, DATA_HEAD, DATA_TAIL, SLOTS, STATE};
use rvi::{
    Association, AssociationConfig, AssociationEvent, LegDownReason, Part, Region, Scratch, ShmConfig,
    ShmLeg, ShmLegError,
};
use vlan_core::random::Random;
use vlan_core::{Channel, Instant, LegNumber};

const CONFIG: ShmConfig = ShmConfig { slots_log2: 4, arena_len: 256 * 1024 };

/// An association on `legs` legs, and the memory of its peer.
fn victim(legs: u8) -> (Association, Vec<Region>) {
    let mut victim = Association::new(&AssociationConfig::default());
    victim.open_channel(Channel(1));
    let mut peers = Vec::new();
    for leg in 0..legs {
        let (own, peer) = (Region::heap(CONFIG.region_len()), Region::heap(CONFIG.region_len()));
        ShmLeg::format(&own, &CONFIG);
        ShmLeg::format(&peer, &CONFIG);
        let shm = ShmLeg::new(own, peer.clone()).expect("formatted");
        victim.handle_leg_up(Instant::ZERO, LegNumber(leg), shm);
        peers.push(peer);
    }
    while victim.poll_event().is_some() {}
    (victim, peers)
}

/// A valid slot 0 with one word or field replaced.
fn slot(len: u32, arena: u32, channel: u8, kind: u8) -> [u8; 64] {
    let mut slot = [0; 64];
    slot[0..4].copy_from_slice(&1_u32.to_le_bytes());
    slot[4..8].copy_from_slice(&len.to_le_bytes());
    slot[8..12].copy_from_slice(&arena.to_le_bytes());
    slot[20] = channel;
    slot[21] = kind;
    slot
}

/// Writes a message to the first slot, and announces it.
fn announce(peer: &Region, slot: &[u8; 64]) {
    peer.write(SLOTS, slot);
    peer.write(DATA_TAIL, &1_u32.to_le_bytes());
}

fn fault_of(slot: &[u8; 64]) -> Option<RingFault> {
    let (mut victim, peers) = victim(1);
    announce(&peers[0], slot);
    assert!(victim.receive(&mut Scratch::default()).is_none());
    match victim.poll_event() {
        Some(AssociationEvent::LegDown(LegNumber(0), LegDownReason::Protocol(fault))) => Some(fault),
        None => None,
        Some(other) => panic!("{other:?}"),
    }
}

const ARENA: u32 = 1 << 22;

//= spec/ring.md#checking-a-slot
//= type=test
//# A consumer MUST copy a slot to private memory once and MUST check the copy before it uses any field of it.
//= spec/ring.md#arena-bounds
//= type=test
//# Arena octets that a slot names MUST lie wholly inside the arena.
//= spec/ring.md#impossible-values
//= type=test
//# An impossible value in a peer's memory MUST end that leg as a value of the machine, never the process.
#[test]
fn each_impossible_field_of_a_slot_ends_the_leg_with_its_reason() {
    let granules = CONFIG.arena_len / 64;
    assert!(matches!(fault_of(&slot(40 | 1 << 31, 0, 1, 1)), Some(RingFault::Length { .. })));
    assert!(matches!(fault_of(&slot(0xf_ffff | ARENA, 0, 1, 1)), Some(RingFault::Length { .. })));
    assert!(matches!(fault_of(&slot(41, 0, 1, 1)), Some(RingFault::Length { .. })), "too few slots");
    assert!(
        matches!(fault_of(&slot(1500, 0, 1, 1)), Some(RingFault::Length { .. })),
        "long, not in the arena"
    );
    assert!(matches!(fault_of(&slot(1500 | ARENA, granules, 1, 1)), Some(RingFault::ArenaBounds { .. })));
    assert!(matches!(
        fault_of(&slot(1500 | ARENA, granules - 22, 1, 1)),
        Some(RingFault::ArenaBounds { .. })
    ));
    assert!(matches!(fault_of(&slot(1500 | ARENA, u32::MAX, 1, 1)), Some(RingFault::ArenaBounds { .. })));
    assert_eq!(fault_of(&slot(40, 0, 1, 9)), Some(RingFault::Kind(9)));
    assert_eq!(fault_of(&slot(40, 0, 0, 1)), Some(RingFault::Channel(0)), "control on the data ring");
    let mut other_lane = slot(40, 0, 1, 1);
    other_lane[17] = 4;
    assert!(matches!(fault_of(&other_lane), Some(RingFault::Lane { .. })));
    let mut other_session = slot(40, 0, 1, 1);
    other_session[22] = 7;
    assert_eq!(fault_of(&other_session), Some(RingFault::Session(7)));
}

#[test]
fn the_last_arena_octets_are_inside() {
    let granules = CONFIG.arena_len / 64;
    let (mut victim, peers) = victim(1);
    announce(&peers[0], &slot(1500 | ARENA, granules - 23, 1, 1));
    let mut scratch = Scratch::default();
    let message = victim.receive(&mut scratch).expect("a message");
    let mut rest = vec![1; message.rest.len()];
    message.rest.copy_to(&mut rest);
    assert_eq!((message.len, message.head.len(), rest), (1500, 256, vec![0; 1244]));
}

//= spec/ring.md#looking
//= type=test
//# A consumer MUST NOT look at a slot before `tail` has moved from its own position.
#[test]
fn what_is_not_announced_is_no_message() {
    let (mut victim, peers) = victim(1);
    let mut scratch = Scratch::default();
    peers[0].write(SLOTS, &slot(40, 0, 1, 1));
    assert!(victim.receive(&mut scratch).is_none());
    assert!(victim.prepare_sleep(), "nothing to stay awake for");
    victim.wake();
    announce(&peers[0], &slot(40, 0, 1, 1));
    assert!(victim.receive(&mut scratch).is_some());
    // Announced, and not there: a second slot was never written.
    peers[0].write(DATA_TAIL, &9_u32.to_le_bytes());
    assert!(victim.receive(&mut scratch).is_none() && victim.poll_event().is_none());
    assert!(victim.prepare_sleep(), "nothing to stay awake for");
}

#[test]
fn a_message_of_a_channel_that_is_not_open_is_dropped_and_counted() {
    //= spec/rvi.md#channels
    //= type=test
    //# An end MUST NOT send on, or deliver from, a channel that is not open.
    assert_eq!(fault_of(&slot(40, 0, 99, 1)), None);
    let (mut victim, peers) = victim(1);
    announce(&peers[0], &slot(40, 0, 1, 1));
    victim.close_channel(Channel(1));
    assert!(victim.send(Instant::ZERO, Channel(1), 0, 0, &[]).is_err());
    assert!(victim.receive(&mut Scratch::default()).is_none());
    assert_eq!(victim.legs().next().map(|leg| leg.refused), Some(1));
}

//= spec/ring.md#distances
//= type=test
//# A producer MUST refuse a `settled` or `head` that is not between the last one it accepted and what it has
//# published.
#[test]
fn a_head_or_settled_that_cannot_be_ends_the_leg() {
    // Four messages of two slots each lie in the data ring of leg 0, and nothing in its control ring.
    let fault = |value, last, newest| Some(RingFault::Distance { value, last, newest });
    assert_eq!(fault_of_words(DATA_HEAD, 9, 0), fault(9, 0, 8));
    assert_eq!(fault_of_words(DATA_HEAD, 0, u32::MAX), fault(u32::MAX, 0, 8));
    assert_eq!(fault_of_words(CONTROL_HEAD, 1, 0), fault(1, 0, 0));
    assert_eq!(fault_of_words(DATA_HEAD, 2, 4), fault(2, 4, 8), "settled, and not taken");
    assert_eq!(fault_of_words(DATA_HEAD, 8, 3), fault(3, 0, 8), "settled inside a message");
    assert_eq!(fault_of_words(DATA_HEAD, 4, 2), None);
    assert_eq!(fault_of_words(DATA_HEAD, 8, 8), None);
}

/// What is said of a peer of leg 0 that stores `head` and `settled`; the other leg goes on.
fn fault_of_words(offset: usize, head: u32, settled: u32) -> Option<RingFault> {
    let (mut victim, peers) = victim(2);
    for _ in 0..4 {
        let octets = [Part::Private(&[0; 100])];
        victim.send(Instant::ZERO, Channel(1), 0, 0, &octets).expect("room");
    }
    victim.publish();
    peers[0].write(offset, &head.to_le_bytes());
    peers[0].write(offset + 4, &settled.to_le_bytes());
    victim.handle_timeout(Instant::ZERO + Duration::from_millis(11));
    assert!(victim.is_up());
    std::iter::from_fn(|| victim.poll_event()).find_map(|event| match event {
        AssociationEvent::LegDown(LegNumber(0), LegDownReason::Protocol(fault)) => Some(fault),
        _ => None,
    })
}

#[test]
fn regions_with_wrong_headers_are_refused() {
    //= spec/ring.md#header-page
    //= type=test
    //# An end MUST take the layout of a peer's region from a header that it read once, checked against the
    //# region's length, and never reads again.
    let own = Region::heap(CONFIG.region_len());
    ShmLeg::format(&own, &CONFIG);
    let refused = |change: &dyn Fn(&Region), len: usize| {
        let peer = Region::heap(len);
        if len == CONFIG.region_len() {
            ShmLeg::format(&peer, &CONFIG);
        }
        change(&peer);
        matches!(ShmLeg::new(own.clone(), peer), Err(ShmLegError::Peer(_)))
    };
    let len = CONFIG.region_len();
    assert!(!refused(&|_| {}, len));
    assert!(refused(&|_| {}, 4096));
    assert!(refused(&|_| {}, len + 4096));
    for word in 0..4 {
        assert!(refused(&|peer| peer.write(word * 4, &[0xff; 4]), len), "word {word}");
    }
    assert!(refused(&|peer| peer.write(4, &[15]), len), "a longer layout than the region");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn garbage_anywhere_never_panics(seed: u64) {
        let mut random = Random::new(seed);
        let (mut victim, peers) = victim(2);
        let mut scratch = Scratch::default();
        let mut now = Instant::ZERO;
        for _ in 0..400 {
            let peer = &peers[random.below(2) as usize];
            match random.below(12) {
                0..4 => scribble(&mut random, peer),
                4..7 => {
                    let octets = vec![3; random.below(3000) as usize];
                    let flow = random.next_u64() as u32;
                    let _ = victim.send(now, Channel(1), flow, 1, &[Part::Private(&octets)]);
                }
                7 => {
                    let _ = victim.send_control(now, &[1; 300]);
                }
                8 => victim.publish(),
                9 => {
                    for _ in 0..64 {
                        let Some(message) = victim.receive(&mut scratch) else { break };
                        let mut rest = vec![0; message.rest.len()];
                        message.rest.copy_to(&mut rest);
                    }
                    victim.release();
                }
                10 => {
                    let _ = victim.prepare_sleep();
                    victim.wake();
                }
                _ => {
                    now = now + Duration::from_millis(random.below(12));
                    victim.handle_timeout(now);
                    if random.below(4) == 0 {
                        victim.handle_leg_gone(now, LegNumber(random.below(2) as u8));
                    }
                }
            }
            while victim.poll_event().is_some() {}
        }
        victim.drain_unsent(&mut |_, _, _| {});
    }
}

/// Writes something that may be believed: a slot with few wrong bits, a head, a state, or plain noise.
fn scribble(random: &mut Random, peer: &Region) {
    let position = random.below(16) as u32;
    let word = (random.next_u64() >> random.below(64)) as u32;
    match random.below(6) {
        0..3 => {
            let arena = random.below(5000) as u32;
            let len = match random.below(3) {
                0 => random.below(41) as u32,
                1 => (41 + random.below(60) as u32) | (1 << 20),
                _ => (221 + random.below(66_000) as u32) | ARENA,
            };
            let mut slot = slot(len, if len & ARENA == 0 { 0 } else { arena }, 1, 1);
            slot[0..4].copy_from_slice(&(position + 1).to_le_bytes());
            slot[12..16].copy_from_slice(&word.to_le_bytes());
            peer.write(SLOTS + position as usize * 64, &slot);
            peer.write(DATA_TAIL, &word.to_le_bytes());
        }
        3 => peer.write(
            [DATA_HEAD, DATA_HEAD + 4, CONTROL_HEAD, ASLEEP][random.below(4) as usize],
            &word.to_le_bytes(),
        ),
        4 => peer.write(STATE + 4 * random.below(3) as usize, &(word & 3).to_le_bytes()),
        _ => {
            let offset = random.below(peer.len() as u64 - 8) as usize;
            peer.write(offset, &random.next_u64().to_le_bytes());
        }
    }
}
