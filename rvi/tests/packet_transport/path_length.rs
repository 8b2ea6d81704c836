//! Paths that carry less than the routes at their ends take, and say nothing.

use std::time::Duration;

use rvi::packet::sender::{PacketLegState, PacketScheduler};
use vlan_core::Instant;

use super::network::World;
use super::{SCHEDULERS, micros, millis, polling, settled};

/// A world whose legs' routes take `len` octets.
fn with_routes(scheduler: PacketScheduler, seed: u64, len: usize, legs: &[u8]) -> World {
    let mut world = World::new(&polling(scheduler), seed, &[]);
    world.packet_len_max = len;
    legs.iter().for_each(|leg| world.leg_up(*leg));
    world
}

fn sizes(world: &World, leg: u8) -> [usize; 2] {
    [0, 1].map(|end| world.ends[end].status(leg).packet_len)
}

/// Fails unless each end sends as long packets by `leg` as `limits` admit, to within one step.
#[track_caller]
fn expect_sizes(world: &World, leg: u8, limits: [usize; 2]) {
    for (size, limit) in sizes(world, leg).into_iter().zip(limits) {
        assert!(size <= limit && size + 64 > limit, "{size} of {limit}: {:?}", sizes(world, leg));
    }
}

#[test]
fn jumbo_packets_go_from_the_second_round_trip_on() {
    let mut world = with_routes(PacketScheduler::Lane, 1, 8968, &[0, 1]);
    assert_eq!(sizes(&world, 0), [1200; 2]);
    world.wish(0, 0, 5000);
    world.run_for(micros(45));
    assert_eq!([sizes(&world, 0), sizes(&world, 1)], [[8968; 2]; 2]);
    world.run_to_the_end(millis(1));
    world.run_for(Duration::from_secs(1000));
    assert_eq!(world.ends[0].status(0).fallbacks, 0);
}

//= spec/packet-sender.md#trials
//= type=test
//# A packet that tries a length MUST carry nothing, and its fate MUST NOT count for its leg, against it, or for the window.
#[test]
fn a_silent_limit_costs_no_message_and_no_leg_anything() {
    for (seed, limit) in [1200, 1208, 1300, 1372, 1472, 4000, 8960].into_iter().enumerate() {
        let mut world = with_routes(SCHEDULERS[seed % 4], seed as u64, 8968, &[0, 1]);
        world.each_link(|link| link.len_most = limit);
        world.stream(&[0, 1], micros(40), 3000, millis(200));
        let worst = world.ends.iter().flat_map(|end| &end.delays).map(|(_, delay)| *delay).max();
        assert!(worst.is_some_and(|worst| worst < micros(150)), "data does not wait: {worst:?}");
        for leg in [0, 1] {
            expect_sizes(&world, leg, [limit; 2]);
            for end in &world.ends {
                let status = end.status(leg);
                assert_eq!((status.lost, status.score, status.fallbacks), (0, 0, 0), "{status:?}");
                assert!(end.when(leg, PacketLegState::Suspect, Instant::ZERO).is_none());
            }
        }
        assert!(world.too_long < 4 * 30, "a search ends: {}", world.too_long);
        world.run_to_the_end(millis(10));
    }
}

#[test]
fn a_limit_in_one_direction_is_found_by_its_sender_alone() {
    let mut world = with_routes(PacketScheduler::Lane, 3, 8968, &[0, 1]);
    world.links[1][0].len_most = 1500;
    world.links[0][1].len_most = 5000;
    world.stream(&[0, 1], micros(50), 2000, millis(200));
    expect_sizes(&world, 0, [8968, 1500]);
    expect_sizes(&world, 1, [5000, 8968]);
    world.run_to_the_end(millis(10));
}

/// Messages of these lengths, in turn, each end one every `gap`.
fn mixture(world: &mut World, lens: &[usize], gap: Duration, time: Duration) {
    let until = world.now + time;
    for len in lens.iter().cycle() {
        if world.now >= until {
            return;
        }
        world.stream(&[0, 1], gap, *len, gap);
    }
}

#[test]
fn a_path_that_shrinks_under_load_is_searched_again_and_nothing_is_lost() {
    // Whole packets alone, super-frames, long among short, long among nearly as long; often, and seldom.
    let traffic: [(&[usize], u64); 6] = [
        (&[8800], 100),
        (&[60_000], 700),
        (&[100, 100, 100, 5000], 50),
        (&[1250, 8000], 50),
        (&[1380], 3000),
        (&[4000], 10_000),
    ];
    for (seed, (lens, gap)) in traffic.into_iter().enumerate() {
        for legs in [&[0_u8][..], &[0, 1], &[0, 14]] {
            let mut world = with_routes(SCHEDULERS[seed % 3], seed as u64, 8968, legs);
            mixture(&mut world, lens, micros(gap), millis(30));
            world.links[0][0].len_most = 1400;
            let before = world.ends[1].delays.len();
            mixture(&mut world, lens, micros(gap), millis(300));
            assert_eq!(sizes(&world, 0)[1], 8968, "the other direction carries what it did");
            expect_sizes(&world, 0, [1400, 8968]);
            let worst = world.ends[1].delays[before..].iter().map(|(_, delay)| *delay).max();
            assert!(worst.is_some_and(|worst| worst < millis(60)), "{lens:?} by {legs:?}: {worst:?}");
            let lost = world.ends[0].status(0).lost;
            mixture(&mut world, lens, micros(gap), millis(50));
            assert_eq!(world.ends[0].status(0).lost, lost, "nothing is lost any more");
            assert_eq!(world.ends[0].state(0), PacketLegState::Good);
            world.run_to_the_end(millis(20));
        }
    }
}

#[test]
fn a_leg_that_is_given_long_packets_alone_does_not_stay_silent() {
    for seed in 0..4 {
        let mut world = with_routes(PacketScheduler::Failover, seed, 8968, &[0]);
        world.stream(&[0], micros(100), 8800, millis(20));
        world.links[0][0].len_most = 1400;
        // Every answer, too, has what waits behind it.
        world.stream(&[0], micros(100), 8800, millis(100));
        assert!(sizes(&world, 0)[0] <= 1400, "{:?}", world.ends[0].status(0));
        world.run_to_the_end(millis(50));
    }
}

#[test]
fn both_legs_may_shrink_at_once_and_both_ways() {
    for seed in 0..8 {
        let mut world = settled(SCHEDULERS[seed as usize % 4], seed);
        world.stream(&[0, 1], micros(40), 1400, millis(5));
        expect_sizes(&world, 0, [1472; 2]);
        world.each_link(|link| link.len_most = 1300);
        world.stream(&[0, 1], micros(40), 1400, millis(150));
        for leg in [0, 1] {
            expect_sizes(&world, leg, [1300; 2]);
            assert_eq!(world.ends[0].state(leg), PacketLegState::Good);
        }
        world.run_to_the_end(millis(20));
    }
}

#[test]
fn a_path_that_has_become_wider_is_used_after_ten_minutes() {
    let mut world = with_routes(PacketScheduler::Lane, 3, 8968, &[0, 1]);
    world.each_link(|link| link.len_most = 1472);
    world.stream(&[0, 1], micros(50), 500, millis(200));
    expect_sizes(&world, 0, [1472; 2]);
    world.each_link(|link| link.len_most = usize::MAX);
    world.run_for(Duration::from_secs(599));
    expect_sizes(&world, 0, [1472; 2]);
    world.run_for(Duration::from_secs(2));
    assert_eq!([sizes(&world, 0), sizes(&world, 1)], [[8968; 2]; 2]);
}

#[test]
fn at_five_percent_of_loss_the_whole_route_is_used_nearly_always() {
    let (mut whole, mut fallbacks) = (0, 0);
    for seed in 0..25 {
        let mut world = with_routes(SCHEDULERS[seed as usize % 4], seed, 8968, &[0, 1]);
        world.each_link(|link| link.loss_percent = 5);
        world.stream(&[0, 1], micros(60), 4000, millis(300));
        for leg in [0, 1] {
            whole += sizes(&world, leg).into_iter().filter(|size| *size == 8968).count();
            fallbacks += world.ends.iter().map(|end| end.status(leg).fallbacks).sum::<u64>();
        }
    }
    assert!(whole >= 96 && fallbacks <= 10, "{whole} of 100 legs, {fallbacks} times fallen back");
}
