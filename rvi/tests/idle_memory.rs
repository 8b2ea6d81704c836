//! How much memory an idle association holds, counted at the allocator.

#[path = "idle_memory/packets.rs"]
mod packets;
#[path = "heap/tally.rs"]
mod tally;

use std::time::Duration;

use rvi::{Association, AssociationConfig, Part, Region, Scheduler, Scratch, ShmConfig, ShmLeg};
use tally::held;
use vlan_core::{Channel, Instant, LegNumber};

/// Octets that an idle association may hold beside its legs' regions (DESIGN.md, section 7).
const IDLE_MAX: isize = 8 * 1024;

fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

/// The regions of `legs` legs of the default size, both ends.
fn regions(legs: u8) -> Vec<[Region; 2]> {
    let config = ShmConfig::default();
    let region = || {
        let region = Region::heap(config.region_len());
        ShmLeg::format(&region, &config);
        region
    };
    (0..legs).map(|_| [region(), region()]).collect()
}

/// One end, as a node makes it, with `channels` channels besides control.
fn end(regions: &[[Region; 2]], own: usize, channels: u8) -> Association {
    let config = AssociationConfig {
        scheduler: Scheduler::Lane,
        park_messages_max: 256,
        ..AssociationConfig::default()
    };
    let mut end = Association::new(&config);
    (1..=channels).for_each(|channel| end.open_channel(Channel(channel)));
    // As every control RVI has it.
    end.open_channel(Channel::RELAYED_PACKETS);
    for (leg, pair) in (0..).zip(regions) {
        let shm = ShmLeg::new(pair[own].clone(), pair[1 - own].clone()).expect("formatted");
        end.handle_leg_up(at(0), LegNumber(leg), shm);
    }
    while end.poll_event().is_some() {}
    end
}

/// As much as fits, on every channel and lane, both legs, until `to` has taken it all.
fn burst(from: &mut Association, to: &mut Association, channels: u8) -> usize {
    let mut scratch = Scratch::default();
    let mut taken = 0;
    let mut round = 0_u32;
    while round < 20 || !from.is_drained() {
        for i in 0..if round < 20 { 3000_u32 } else { 0 } {
            let channel = Channel(1 + (i % u32::from(channels)) as u8);
            let octets = [Part::Private(&[0; 300])];
            if from.send(at(1), channel, round * 7919 + i, 0, &octets).is_err() {
                break;
            }
        }
        from.publish();
        while to.receive(&mut scratch).is_some() {
            taken += 1;
        }
        to.release();
        from.handle_timeout(at(1));
        while from.poll_event().is_some() {}
        round += 1;
        assert!(round < 100, "it does not drain");
    }
    taken
}

#[test]
fn an_idle_association_holds_at_most_8_kib_beside_its_legs_before_and_after_traffic() {
    //= spec/rvi.md#idle-associations
    //= type=test
    //# An association whose messages are settled and that has carried none since the last deadline MUST hold at most
    //# 8 KiB beside the memory of its legs.
    for (legs, channels) in [(1, 1), (2, 1), (2, 14)] {
        let regions = regions(legs);
        let mut other = end(&regions, 1, channels);
        let before = held();
        let mut own = Box::new(end(&regions, 0, channels));
        let fresh = held() - before;
        assert!(fresh <= IDLE_MAX, "{fresh} octets with {legs} legs and {channels} channels");

        assert!(burst(&mut own, &mut other, channels) > 4000);
        assert!(burst(&mut other, &mut own, channels) > 4000);
        let busy = held() - before;
        assert!(busy > fresh, "the traffic needed nothing: {busy}");
        for millis in [20, 40, 60] {
            // What the other end took since the start counts as well.
            for end in [&mut *own, &mut other] {
                end.handle_timeout(at(millis));
                while end.poll_event().is_some() {}
            }
        }
        let idle = held() - before;
        assert!(idle <= IDLE_MAX, "{idle} octets after traffic with {legs} legs and {channels} channels");
        // And it still works.
        assert!(burst(&mut own, &mut other, channels) > 4000);
    }
}

#[test]
fn an_idle_association_with_packet_legs_holds_no_more_whatever_other_legs_it_has() {
    //= spec/rvi.md#idle-associations
    //= type=test
    //# An association whose messages are settled and that has carried none since the last deadline MUST hold at most
    //# 8 KiB beside the memory of its legs.
    for legs in [0, 2] {
        let regions = regions(legs);
        let ends = [0, 1].map(|own| Box::new(end(&[], own, 1)));
        let mut pair = packets::Pair::new(ends);
        pair.exchange(2000);
        for (number, shared) in (2..).zip(&regions) {
            for (own, end) in pair.ends.iter_mut().enumerate() {
                let shm = ShmLeg::new(shared[own].clone(), shared[1 - own].clone()).expect("formatted");
                end.handle_leg_up(pair.now, LegNumber(number), shm);
            }
        }
        pair.exchange(2000);
        pair.run_for(Duration::from_secs(5));
        let probes = |end: &Association| end.packet_legs().map(|leg| leg.probes).sum::<u64>();
        assert!(pair.ends.iter().all(|end| probes(end) > 4), "they were probed meanwhile");
        let before = held();
        let [own, other] = pair.ends;
        drop(own);
        let idle = before - held();
        assert!(idle <= IDLE_MAX, "{idle} octets with {legs} legs in shared memory");
        drop(other);
    }
}
