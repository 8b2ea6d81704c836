//! One test for each rule of `spec/rvi.md` and `spec/ring.md` that shows at the association's surface.
#![cfg(not(loom))]

use std::time::Duration;

use rvi::ring::layout::{DATA_HEAD, STATE};
use rvi::{
    Association, AssociationConfig, AssociationEvent, LegDownReason, LegEnd, LegState, Part, Region,
    Scheduler, Scratch, SendError, Sent, ShmConfig, ShmLeg, Unsent,
};
use vlan_core::{Channel, Instant, LegNumber};

const CHANNEL: Channel = Channel(1);
const LEG: [LegNumber; 2] = [LegNumber(0), LegNumber(1)];

struct Pair {
    ends: [Association; 2],
    /// Own regions of both ends, by leg.
    regions: Vec<[Region; 2]>,
}

impl Pair {
    fn new(legs: u8, config: &AssociationConfig) -> Self {
        let ends = [0, 1].map(|_| {
            let mut end = Association::new(config);
            end.open_channel(CHANNEL);
            end
        });
        let mut pair = Self { ends, regions: Vec::new() };
        for leg in 0..legs {
            pair.bring_up(LegNumber(leg));
        }
        pair
    }

    fn bring_up(&mut self, leg: LegNumber) {
        let config = ShmConfig { slots_log2: 4, arena_len: 256 * 1024 };
        let regions = [(); 2].map(|()| Region::heap(config.region_len()));
        for region in &regions {
            ShmLeg::format(region, &config);
        }
        for end in 0..2 {
            let shm = ShmLeg::new(regions[end].clone(), regions[1 - end].clone()).expect("formatted");
            self.ends[end].handle_leg_up(at(0), leg, shm);
        }
        self.regions.push(regions);
    }

    fn send(&mut self, now: u64, flow: u32, id: u8) -> Result<Sent, SendError> {
        self.ends[0].send(at(now), CHANNEL, flow, id.into(), &[Part::Private(&[id; 40])])
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut scratch = Scratch::default();
        std::iter::from_fn(|| self.ends[1].receive(&mut scratch).map(|m| m.head[0])).collect()
    }

    fn events(&mut self, end: usize) -> Vec<AssociationEvent> {
        std::iter::from_fn(|| self.ends[end].poll_event()).collect()
    }

    fn word(&self, leg: usize, end: usize, offset: usize) -> u32 {
        let mut word = [0; 4];
        self.regions[leg][end].read(offset, &mut word);
        u32::from_le_bytes(word)
    }
}

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

fn failover() -> AssociationConfig {
    AssociationConfig { scheduler: Scheduler::Failover, park_messages_max: 2, ..AssociationConfig::default() }
}

#[test]
fn what_is_not_published_is_not_received() {
    let mut pair = Pair::new(1, &failover());
    assert_eq!(pair.send(0, 0, 1), Ok(Sent::Ring));
    assert_eq!(pair.receive(), []);
    pair.ends[0].publish();
    assert_eq!(pair.receive(), [1]);
}

#[test]
fn an_end_writes_only_to_its_own_region() {
    //= spec/ring.md#single-writer
    //= type=test
    //# Each end MUST write only to its own region.
    let mut pair = Pair::new(1, &failover());
    let peer = pair.regions[0][1].clone();
    let mut before = vec![0; peer.len()];
    peer.read(0, &mut before);
    for id in 0..20 {
        let _ = pair.send(0, 0, id);
        let _ = pair.ends[0].send_control(at(0), &[1; 300]);
        pair.ends[0].publish();
        pair.ends[0].release();
        pair.ends[0].prepare_sleep();
        pair.ends[0].handle_timeout(at(u64::from(id)));
    }
    pair.ends[0].leave_leg(at(30), LEG[0]);
    let mut after = vec![0; peer.len()];
    peer.read(0, &mut after);
    assert!(before == after);
}

#[test]
fn the_first_word_of_a_further_slot_is_its_position() {
    //= spec/ring.md#lap-mark
    //= type=test
    //# The first word of a further slot MUST be that slot's own position.
    let mut pair = Pair::new(1, &failover());
    pair.ends[0].send(at(0), CHANNEL, 0, 0, &[Part::Private(&[9; 220])]).expect("room");
    pair.ends[0].publish();
    let words = [0, 1, 2, 3].map(|i| pair.word(0, 0, rvi::ring::layout::SLOTS + i * 64));
    assert_eq!(words, [1, 1, 2, 3]);
}

#[test]
fn the_rest_of_a_long_message_is_only_ever_copied() {
    //= spec/ring.md#shared-octets
    //= type=test
    //# Nothing MUST hold a Rust reference to octets that a peer may still write.
    let mut pair = Pair::new(1, &failover());
    let octets: Vec<u8> = (0..60_000_u32).map(|i| i as u8).collect();
    pair.ends[0].send(at(0), CHANNEL, 0, 0, &[Part::Private(&octets)]).expect("room");
    pair.ends[0].publish();
    let mut scratch = Scratch::default();
    let message = pair.ends[1].receive(&mut scratch).expect("a message");
    assert_eq!(message.head, &octets[..256]);
    let rest = message.rest;
    // The peer writes while we still hold it: what is copied is what is there, nothing else happens.
    pair.regions[0][0].write(pair.regions[0][0].len() - 256 * 1024, &[0xee; 60_000]);
    let mut copy = vec![0; rest.len()];
    rest.copy_to(&mut copy);
    assert_eq!(copy.len(), 60_000 - 256);
    assert!(copy[..1000].iter().all(|o| *o == 0xee));
}

#[test]
fn messages_for_a_channel_that_is_not_open_are_counted_once() {
    let mut pair = Pair::new(1, &failover());
    pair.ends[1].close_channel(CHANNEL);
    pair.send(0, 0, 1).expect("room");
    pair.send(0, 0, 2).expect("room");
    pair.ends[0].publish();
    assert_eq!(pair.receive(), []);
    assert_eq!(pair.ends[1].take_refused(), 2);
    assert_eq!(pair.ends[1].take_refused(), 0);
    pair.ends[1].open_channel(CHANNEL);
    pair.send(0, 0, 3).expect("room");
    pair.ends[0].publish();
    assert_eq!((pair.receive(), pair.ends[1].take_refused()), (vec![3], 0));
}

#[test]
fn nothing_is_settled_while_it_is_held() {
    //= spec/ring.md#settled
    //= type=test
    //# A consumer MUST NOT store a `settled` beyond what it has finished reading and has published to its outputs.
    let mut pair = Pair::new(1, &failover());
    pair.send(0, 0, 1).expect("room");
    pair.ends[0].publish();
    let hold = pair.ends[1].hold();
    assert_eq!(pair.receive(), [1]);
    assert_eq!(pair.word(0, 1, DATA_HEAD), 0, "not released");
    pair.ends[1].release();
    assert_eq!((pair.word(0, 1, DATA_HEAD), pair.word(0, 1, DATA_HEAD + 4)), (1, 0));
    assert!(!pair.ends[0].is_drained());
    pair.ends[1].unhold(Instant::ZERO, hold);
    assert_eq!(pair.word(0, 1, DATA_HEAD + 4), 1);
    assert!(pair.ends[0].is_drained());
}

#[test]
fn a_message_without_room_waits_in_order_and_beyond_the_bounds_is_refused() {
    //= spec/rvi.md#parking
    //= type=test
    //# A message that finds no room MUST wait without a number, in order, within bounds of messages and octets;
    //# beyond them `send` MUST refuse it.
    //= spec/rvi.md#numbers-at-first-transmission
    //= type=test
    //# A message MUST get its number when it is first put into a ring, and MUST keep it when it is sent again.
    let mut pair = Pair::new(1, &failover());
    let sent: Vec<_> = (0..20).map(|id| pair.send(0, 0, id)).collect();
    assert_eq!(sent[15], Ok(Sent::Ring));
    assert_eq!(sent[16..19], [Ok(Sent::Parked), Ok(Sent::Parked), Err(SendError::Full)]);
    pair.ends[0].publish();
    assert_eq!(pair.receive(), (0..16).collect::<Vec<u8>>());
    pair.ends[1].release();
    pair.ends[0].publish();
    assert_eq!(pair.receive(), [16, 17]);
    let sent = pair.events(0);
    let parked = |charge| AssociationEvent::ParkedSent { charge, channel: CHANNEL, number: charge };
    assert!(sent.ends_with(&[16, 17].map(parked)), "{sent:?}");
    assert_eq!(pair.send(0, 0, 21), Ok(Sent::Ring));
}

#[test]
fn a_message_that_waited_for_50_ms_expires_and_leaves_no_gap() {
    //= spec/rvi.md#expiry
    //= type=test
    //# A message that found no room for 50 ms MUST be dropped and told to the host, with its charge.
    let mut pair = Pair::new(1, &failover());
    for id in 0..17 {
        pair.send(0, 0, id).expect("room or parked");
    }
    pair.events(0);
    assert!(pair.ends[0].poll_timeout().is_some_and(|timeout| timeout <= at(50)));
    pair.ends[0].handle_timeout(at(49));
    assert_eq!(pair.events(0), []);
    pair.ends[0].handle_timeout(at(50));
    let expired = AssociationEvent::ParkedExpired { charge: 16, channel: CHANNEL, len: 40 };
    assert_eq!(pair.events(0), [expired]);
    pair.ends[0].publish();
    assert_eq!(pair.receive().len(), 16);
    pair.ends[1].release();
    assert_eq!(pair.send(51, 0, 99), Ok(Sent::Ring));
    pair.ends[0].publish();
    assert_eq!(pair.receive(), [99]);
}

#[test]
fn a_leg_left_in_order_loses_and_doubles_nothing() {
    //= spec/rvi.md#leaving-a-leg
    //= type=test
    //# An end that leaves a leg MUST stop consuming, MUST store its final heads and CLOSED, and only then hang up.
    //= spec/rvi.md#leaving-a-leg
    //= type=test
    //# An end MUST read the peer's final heads only after the leg's socket has hung up.
    //= spec/ring.md#closing
    //= type=test
    //# An end that leaves a ring MUST store its final heads before it stores the state CLOSED with release order,
    //# and MUST take nothing from the ring afterwards.
    //= spec/rvi.md#proof
    //= type=test
    //# After a leg was left in order everything before the final heads MUST count as taken; after any other end only
    //# what was settled.
    let mut pair = Pair::new(1, &failover());
    for id in 0..4 {
        pair.send(0, 0, id).expect("room");
    }
    pair.ends[0].publish();
    let mut scratch = Scratch::default();
    assert_eq!(pair.ends[1].receive(&mut scratch).map(|m| m.head[0]), Some(0));
    pair.ends[1].leave_leg(at(1), LEG[0]);
    assert_eq!([4, 0].map(|i| pair.word(0, 1, STATE + i)), [1, 2], "final head, then CLOSED");
    assert_eq!(pair.receive(), [], "nothing more is taken");
    assert!(!pair.ends[1].is_up());
    assert_eq!(pair.send(1, 0, 4), Ok(Sent::Ring), "the sender has not seen it yet");
    assert_eq!(pair.ends[0].handle_leg_gone(at(2), LEG[0]), LegEnd::Closed);
    assert_eq!(pair.ends[1].handle_leg_gone(at(2), LEG[0]), LegEnd::Closed);
    let mut unsent = Vec::new();
    pair.ends[0].drain_unsent(&mut |channel, octets, unsent_as| unsent.push((channel, octets[0], unsent_as)));
    assert_eq!(unsent, [1, 2, 3, 4].map(|id| (CHANNEL, id, Unsent::Ring { maybe_taken: false })));
    assert_eq!(pair.send(3, 0, 5), Err(SendError::NoLeg));
}

#[test]
fn what_is_said_between_two_legs_is_heard_by_the_second() {
    //= spec/rvi.md#control-messages
    //= type=test
    //# A control message that finds no room or no leg MUST wait, in order, as long as its association lives.
    let mut pair = Pair::new(1, &failover());
    assert_eq!(pair.ends[0].send_control(at(0), &[1]), Ok(Sent::Ring));
    pair.ends[0].publish();
    for end in &mut pair.ends {
        let _: LegEnd = end.handle_leg_gone(at(1), LEG[0]);
    }
    for message in [2, 3] {
        assert_eq!(pair.ends[0].send_control(at(2), &[message]), Ok(Sent::Parked));
    }
    assert!(pair.ends[0].prepare_sleep(), "there is nothing to be done");
    pair.bring_up(LEG[1]);
    pair.ends[0].handle_timeout(at(3));
    pair.ends[0].publish();
    assert_eq!(pair.receive(), [1, 2, 3]);
}

#[test]
fn what_is_held_when_a_leg_is_left_stays_with_its_sender() {
    //= spec/rvi.md#what-is-held-when-a-leg-is-left
    //= type=test
    //# An end that leaves a leg while it holds what it has received MUST store what it has settled as the final head of the data
    //# ring, and MUST store what it has taken as its head.
    //= spec/rvi.md#what-is-held-when-a-leg-is-left
    //= type=test
    //# What lies between the final head and the head of a leg that was left MUST be sent again, or handed back marked as what the
    //# peer may have taken.
    for legs in [1, 2] {
        let mut pair = Pair::new(legs, &failover());
        (0..4).for_each(|id| assert_eq!(pair.send(0, 0, id), Ok(Sent::Ring)));
        pair.ends[0].publish();
        let mut scratch = Scratch::default();
        assert_eq!(pair.ends[1].receive(&mut scratch).map(|m| m.head[0]), Some(0));
        pair.ends[1].release();
        assert_eq!(pair.ends[1].receive(&mut scratch).map(|m| m.head[0]), Some(1));
        let hold = pair.ends[1].hold();
        pair.ends[1].release();
        assert_eq!(pair.ends[1].receive(&mut scratch).map(|m| m.head[0]), Some(2));
        pair.ends[1].leave_leg(at(1), LEG[0]);
        assert_eq!([4, 0].map(|i| pair.word(0, 1, STATE + i)), [1, 2], "final head, then CLOSED");
        // Too late: what the sender was told stands.
        pair.ends[1].unhold(at(1), hold);
        pair.ends[1].release();
        assert_eq!(pair.ends[0].handle_leg_gone(at(2), LEG[0]), LegEnd::Closed);
        if legs == 2 {
            pair.ends[1].handle_leg_gone(at(2), LEG[0]);
            pair.ends[0].publish();
            assert_eq!(pair.receive(), [3], "each comes once");
            continue;
        }
        let mut unsent = Vec::new();
        pair.ends[0].drain_unsent(&mut |_, octets, unsent_as| unsent.push((octets[0], unsent_as)));
        let ring = |id, maybe_taken| (id, Unsent::Ring { maybe_taken });
        assert_eq!(unsent, [ring(1, true), ring(2, true), ring(3, false)]);
    }
}

#[test]
fn after_a_death_what_was_visible_may_have_been_taken() {
    let mut pair = Pair::new(1, &failover());
    for id in 0..3 {
        pair.send(0, 0, id).expect("room");
        if id < 2 {
            pair.ends[0].publish();
        }
        if id == 0 {
            assert_eq!(pair.receive(), [0]);
            pair.ends[1].release();
        }
    }
    assert_eq!(pair.ends[0].handle_leg_gone(at(1), LEG[0]), LegEnd::Died);
    assert!(pair.events(0).contains(&AssociationEvent::LegDown(LEG[0], LegDownReason::Died)));
    let mut unsent = Vec::new();
    pair.ends[0].drain_unsent(&mut |_, octets, unsent_as| unsent.push((octets[0], unsent_as)));
    let (maybe, not) = (Unsent::Ring { maybe_taken: true }, Unsent::Ring { maybe_taken: false });
    assert_eq!(unsent, [(1, maybe), (2, not)]);
}

#[test]
fn what_does_not_read_back_is_left_out() {
    //= spec/rvi.md#what-does-not-read-back
    //= type=test
    //# An end MUST leave out a message that does not read back from its own ring as it was written, and everything behind it
    //# in that ring.
    for legs in [1, 2] {
        let mut pair = Pair::new(legs, &failover());
        (0..5).for_each(|id| assert_eq!(pair.send(0, 0, id), Ok(Sent::Ring)));
        pair.ends[0].publish();
        // The kind of the third message.
        pair.regions[0][0].write(rvi::ring::layout::SLOTS + 2 * 64 + 21, &[0x41]);
        pair.ends[0].handle_leg_gone(at(1), LEG[0]);
        let mut rest = Vec::new();
        if legs == 2 {
            assert_eq!(pair.send(1, 0, 9), Ok(Sent::Ring));
            pair.ends[0].publish();
            pair.ends[1].leave_leg(at(1), LEG[0]);
            pair.ends[1].handle_leg_gone(at(1), LEG[0]);
            rest = pair.receive();
        } else {
            pair.ends[0].drain_unsent(&mut |_, octets, _| rest.push(octets[0]));
        }
        assert_eq!(rest, if legs == 2 { vec![0, 1, 9] } else { vec![0, 1] }, "{legs} legs");
    }
}

#[test]
fn what_a_peer_took_of_a_leg_given_up_is_known_once_it_has_left_it() {
    //= spec/rvi.md#proof
    //= type=test
    //# An end that hands messages back MUST first read the final heads that the peer has stored since in legs given up
    //# before.
    for is_left in [false, true] {
        let mut pair = Pair::new(1, &failover());
        for id in 0..4 {
            pair.send(0, 0, id).expect("room");
        }
        pair.ends[0].publish();
        let mut scratch = Scratch::default();
        assert_eq!(pair.ends[1].receive(&mut scratch).map(|m| m.head[0]), Some(0));
        // The leg comes back at one end before the other has left it, with a fifth message.
        let config = ShmConfig { slots_log2: 4, arena_len: 256 * 1024 };
        let regions = [(); 2].map(|()| Region::heap(config.region_len()));
        regions.iter().for_each(|region| ShmLeg::format(region, &config));
        let leg =
            |own: usize| ShmLeg::new(regions[own].clone(), regions[1 - own].clone()).expect("formatted");
        pair.ends[0].handle_leg_up(at(1), LEG[0], leg(0));
        pair.send(1, 0, 4).expect("room");
        pair.ends[0].publish();
        if is_left {
            pair.ends[1].leave_leg(at(2), LEG[0]);
        }
        leg(1).refuse();
        assert_eq!(pair.ends[0].handle_leg_gone(at(2), LEG[0]), LegEnd::Closed);
        let mut unsent = Vec::new();
        pair.ends[0].drain_unsent(&mut |_, octets, unsent_as| unsent.push((octets[0], unsent_as)));
        let ring = |id, maybe_taken| (id, Unsent::Ring { maybe_taken });
        let expected = match is_left {
            true => vec![ring(1, false), ring(2, false), ring(3, false), ring(4, false)],
            false => vec![ring(0, true), ring(1, true), ring(2, true), ring(3, true), ring(4, false)],
        };
        assert_eq!(unsent, expected);
    }
}

#[test]
fn a_leg_whose_head_stands_still_is_given_up_for_another_one() {
    //= spec/rvi.md#stall
    //= type=test
    //# When a peer has taken nothing for 10 ms from a leg on which something is pending, and another leg is up, the
    //# messages of that leg MUST be sent again by the other one under their numbers.
    let mut pair = Pair::new(2, &failover());
    pair.send(0, 0, 1).expect("room");
    pair.ends[0].publish();
    pair.events(0);
    assert_eq!(pair.ends[0].poll_timeout(), Some(at(10)));
    pair.ends[0].handle_timeout(at(9));
    assert_eq!(pair.events(0), []);
    pair.ends[0].handle_timeout(at(10));
    assert_eq!(pair.events(0), [AssociationEvent::Stalled(LEG[0]), AssociationEvent::Moving(LEG[0])]);
    pair.ends[0].publish();
    let status: Vec<_> = pair.ends[0].legs().collect();
    assert_eq!((status[0].state, status[1].resends), (LegState::Stalled, 1));
    assert!(!pair.ends[0].is_stalled(), "the other leg is not stuck");
    assert_eq!(pair.receive(), [1], "once");
    pair.ends[1].release();
    pair.ends[0].handle_timeout(at(20));
    assert_eq!(pair.events(0), [AssociationEvent::LegUp(LEG[0])]);
    assert!(pair.ends[0].is_drained());
}

#[test]
fn with_its_only_leg_stuck_the_association_is_stalled_and_goes_on_with_it() {
    let mut pair = Pair::new(1, &failover());
    pair.send(0, 0, 1).expect("room");
    pair.ends[0].publish();
    pair.ends[0].handle_timeout(at(10));
    assert!(pair.ends[0].is_stalled());
    assert!(pair.ends[0].is_up());
    assert_eq!(pair.receive(), [1]);
    pair.ends[1].release();
    pair.ends[0].handle_timeout(at(20));
    assert!(!pair.ends[0].is_stalled());
}

/// What a peer takes between two stands still, and after the second one.
struct Taken {
    first: usize,
    second: usize,
}

/// Both legs stand still, the peer takes a few messages, and both stand still again while these and what was parked are still
/// on their way by other legs than at first.
fn stall_twice(scheduler: Scheduler, taken: &Taken) {
    let config = AssociationConfig { scheduler, park_messages_max: 64, ..AssociationConfig::default() };
    let mut pair = Pair::new(2, &config);
    let (mut accepted, mut received, mut told) = (Vec::new(), Vec::new(), Vec::new());
    let mut send = |pair: &mut Pair, now: u64, ids: std::ops::Range<u8>| {
        for id in ids {
            pair.send(now, u32::from(id % 4), id).expect("room");
            accepted.push(id);
        }
    };
    let mut run = |pair: &mut Pair, millis: std::ops::RangeInclusive<u64>| {
        for now in millis {
            pair.ends[0].handle_timeout(at(now));
            pair.ends[0].publish();
            told.extend(pair.events(0));
        }
    };
    let mut scratch = Scratch::default();
    let mut take = |pair: &mut Pair, count: usize| {
        let messages = std::iter::from_fn(|| pair.ends[1].receive(&mut scratch).map(|m| m.head[0]));
        received.extend(messages.take(count));
        pair.ends[1].release();
    };
    // More than both rings hold.
    send(&mut pair, 0, 0..40);
    run(&mut pair, 0..=20);
    assert!(pair.ends[0].is_stalled() && pair.ends[0].is_up());
    take(&mut pair, taken.first);
    send(&mut pair, 21, 40..50);
    run(&mut pair, 21..=44);
    take(&mut pair, taken.second);
    run(&mut pair, 45..=46);
    while !pair.ends[0].is_drained() {
        take(&mut pair, usize::MAX);
        // Within 50 ms, so that nothing that was parked expires.
        run(&mut pair, 47..=47);
    }
    run(&mut pair, 57..=57);
    assert!(!pair.ends[0].is_stalled());
    for flow in 0..4 {
        let of_flow = |ids: &[u8]| ids.iter().copied().filter(|id| id % 4 == flow).collect::<Vec<_>>();
        assert_eq!(of_flow(&received), of_flow(&accepted));
    }
    // Each leg stood still at first, and for a second time only where something was taken in between. No leg went.
    let count = |event| told.iter().filter(|e| **e == event).count();
    let stalls = LEG.map(|leg| count(AssociationEvent::Stalled(leg)));
    assert!(stalls.iter().all(|n| (1..=2).contains(n)), "{told:?}");
    assert_eq!(stalls.contains(&2), taken.first > 0, "{told:?}");
    let is_bad = |event: &AssociationEvent| {
        matches!(event, AssociationEvent::LegDown(..) | AssociationEvent::ParkedExpired { .. })
    };
    assert!(!told.iter().any(is_bad), "{told:?}");
    assert!(pair.ends[0].legs().all(|leg| leg.state == LegState::Up));
}

#[test]
fn both_legs_stall_again_before_the_first_stall_is_made_up_for_and_nothing_is_lost_or_doubled() {
    //= spec/rvi.md#sending-again
    //= type=test
    //# When a leg is lost or stalled and another one is up, every message that is not proven taken MUST be sent
    //# again there under its number, in the order of the lost ring, before anything new of its lane.
    for scheduler in [Scheduler::Failover, Scheduler::Lane] {
        for first in 0..20 {
            for second in [0, 1, 3, 8, 17, 30, usize::MAX] {
                stall_twice(scheduler, &Taken { first, second });
            }
        }
    }
}

#[test]
fn no_number_is_given_out_16384_ahead_of_one_that_is_outstanding() {
    //= spec/rvi.md#numbers
    //= type=test
    //# A sender MUST NOT have a message outstanding whose number is 16,384 or more behind the next number of its
    //# channel.
    let config = AssociationConfig { park_messages_max: 0, ..AssociationConfig::default() };
    let mut pair = Pair::new(2, &config);
    // Find a flow for each leg: the one on leg 0 gets stuck, the other one runs.
    let stuck = (0..4)
        .find(|flow| {
            let before = pair.ends[0].legs().next().map(|leg| leg.tx_messages);
            pair.send(0, *flow, 0).expect("room");
            pair.ends[0].legs().next().map(|leg| leg.tx_messages) != before
        })
        .expect("some flow goes by leg 0");
    let running = stuck ^ 1;
    pair.ends[0].publish();
    let mut sent = 0;
    // The peer takes from leg 1 only, as if leg 0 were stuck there: its own view of leg 0 is cut off.
    pair.ends[1].leave_leg(at(0), LEG[0]);
    for _ in 0..20_000 {
        if pair.send(0, running, 1).is_ok() {
            sent += 1;
        }
        pair.ends[0].publish();
        pair.receive();
        pair.ends[1].release();
    }
    assert!((8_000..16_384).contains(&sent), "{sent} beyond one that is outstanding");
}

#[test]
fn a_sleeping_peer_is_rung_for_once_a_sleep() {
    let mut pair = Pair::new(1, &failover());
    assert!(pair.ends[1].prepare_sleep(), "nothing to receive");
    for id in 0..2 {
        pair.send(0, 0, id).expect("room");
        pair.ends[0].publish();
        assert_eq!(pair.ends[0].poll_doorbell(), (id == 0).then_some(LEG[0]));
    }
    assert!(!pair.ends[1].prepare_sleep(), "there is something to receive");
    assert_eq!(pair.receive().len(), 2);
    pair.ends[1].release();
    pair.send(0, 0, 2).expect("room");
    pair.ends[0].publish();
    assert_eq!(pair.ends[0].poll_doorbell(), None, "the peer is awake");
}

#[test]
fn a_sender_that_sleeps_for_room_is_rung_when_there_is_some() {
    let mut pair = Pair::new(1, &failover());
    for id in 0..17 {
        pair.send(0, 0, id).expect("room or parked");
    }
    pair.ends[0].publish();
    assert!(pair.ends[0].prepare_sleep());
    assert_eq!(pair.receive().len(), 16);
    assert_eq!(pair.ends[1].poll_doorbell(), None);
    pair.ends[1].release();
    assert_eq!(pair.ends[1].poll_doorbell(), Some(LEG[0]));
    pair.ends[0].wake();
    pair.ends[0].publish();
    assert_eq!(pair.receive(), [16]);
}

#[test]
fn control_comes_before_data_and_in_order_over_a_full_ring() {
    let mut pair = Pair::new(1, &failover());
    pair.send(0, 0, 1).expect("room");
    for id in 0..100 {
        let sent = pair.ends[0].send_control(at(0), &[id; 1000]).expect("room or queued");
        assert_eq!(sent == Sent::Ring, id < 64, "{id}");
    }
    pair.ends[0].publish();
    let mut got = Vec::new();
    for _ in 0..3 {
        got.extend(pair.receive());
        pair.ends[1].release();
        pair.ends[0].publish();
    }
    assert_eq!(got[..65], [(0..64).collect::<Vec<u8>>(), vec![1]].concat());
    assert_eq!(got[65..], (64..100).collect::<Vec<u8>>());
}

#[test]
fn a_message_beyond_the_limit_is_refused() {
    let mut pair = Pair::new(1, &failover());
    let limit = vlan_core::limits::MESSAGE_LEN_MAX;
    let octets = vec![0; limit + 1];
    let refused = pair.ends[0].send(at(0), CHANNEL, 0, 0, &[Part::Private(&octets)]);
    assert_eq!(refused, Err(SendError::TooLong { len: limit + 1, limit }));
    assert_eq!(pair.ends[0].send(at(0), CHANNEL, 0, 0, &[Part::Private(&octets[1..])]), Ok(Sent::Ring));
}

#[test]
fn a_mark_is_settled_when_all_before_it_is_and_after_a_change_of_leg_when_everything_is() {
    let mut pair = Pair::new(2, &failover());
    let receive = |pair: &mut Pair| {
        pair.ends[0].publish();
        let taken = pair.receive();
        pair.ends[1].release();
        taken
    };
    let empty = pair.ends[0].ring_mark().expect("a leg is up");
    assert!(pair.ends[0].is_settled_to(empty));
    pair.send(0, 0, 1).expect("room");
    let first = pair.ends[0].ring_mark().expect("a leg is up");
    assert!(!pair.ends[0].is_settled_to(first));
    assert_eq!(receive(&mut pair), [1]);
    pair.send(0, 0, 2).expect("room");
    let second = pair.ends[0].ring_mark().expect("a leg is up");
    assert!(pair.ends[0].is_settled_to(first) && !pair.ends[0].is_settled_to(second));
    // What the leg had goes by the other one.
    pair.ends[0].leave_leg(at(1), LEG[0]);
    pair.ends[1].handle_leg_gone(at(1), LEG[0]);
    pair.ends[0].handle_leg_gone(at(1), LEG[0]);
    pair.send(1, 0, 3).expect("room");
    let third = pair.ends[0].ring_mark().expect("a leg is up");
    assert!(!pair.ends[0].is_settled_to(second) && !pair.ends[0].is_settled_to(third));
    receive(&mut pair);
    assert!(pair.ends[0].is_settled_to(second) && pair.ends[0].is_settled_to(third));
    assert_eq!(Association::new(&failover()).ring_mark(), None);
}
