//! Packets are lost, overtaken, doubled, turned over or too long, on legs that live.

use super::{Family, ms, run_sources, us};
use crate::checker::Violation;
use crate::packet::chance::Ppm;
use crate::packet::link::{Bursts, Conditions, Overlay};
use crate::packet::plan::{PacketPlan, Sizes, SourcePlan, Wait};
use crate::packet::side::Side;
use crate::packet::world::PacketWorld;
use crate::simulation::Simulation;
use rvi::packet::sender::PacketScheduler;

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "at_five_percent_loss_all_arrives_and_no_leg_is_down",
        plan: five_percent,
        script: run_sources,
    },
    Family {
        name: "bursts_of_a_tenth_of_a_millisecond_bring_no_leg_down",
        plan: bursts,
        script: run_sources,
    },
    Family { name: "overtaken_and_doubled_packets_change_nothing", plan: overtaken, script: run_sources },
    Family { name: "turned_bits_are_losses", plan: corruption, script: run_sources },
    Family { name: "unequal_legs_resend_next_to_nothing", plan: unequal, script: resends_little },
    Family { name: "narrow_links_with_short_queues_carry_what_fits", plan: narrow, script: run_sources },
    Family { name: "super_frames_arrive_at_five_percent_loss", plan: super_frames, script: run_sources },
    Family { name: "barrier_messages_stay_behind_what_was_before", plan: barriers, script: run_sources },
    Family { name: "a_path_that_shrinks_is_left_or_searched", plan: PacketPlan::calm, script: shrinks },
];

/// How fast messages come, by seed: 2,000 to 50,000 a second and direction.
fn rates(plan: &mut PacketPlan) {
    let interval = [us(500), us(100), us(20)][(plan.seed % 3) as usize];
    plan.set_sources(&Side::BOTH.map(|side| PacketPlan::steady(side, interval, 200)));
    plan.wait = [Wait::Poll, Wait::Interrupt][(plan.seed / 3 % 2) as usize];
    plan.scheduler = [PacketScheduler::Lane, PacketScheduler::Alternate, PacketScheduler::Both]
        [(plan.seed / 6 % 3) as usize];
}

fn five_percent(seed: u64) -> PacketPlan {
    let mut plan = PacketPlan::calm(seed);
    rates(&mut plan);
    plan.set_fabrics(Conditions::calm(us(10)).with_jitter(us(2)).with_loss(5));
    plan.duration = ms(400);
    plan
}

fn bursts(seed: u64) -> PacketPlan {
    let mut plan = PacketPlan::calm(seed);
    rates(&mut plan);
    let mut way = Conditions::calm(us(10));
    way.bursts = Some(Bursts { good: us(1900), bad: us(100), loss: Ppm::ALL });
    plan.set_fabrics(way);
    plan.duration = ms(400);
    plan
}

fn overtaken(seed: u64) -> PacketPlan {
    let mut plan = PacketPlan::calm(seed);
    rates(&mut plan);
    let mut way = Conditions::calm(us(10)).with_jitter(us(20));
    way.reordering = (Ppm::percent(10), us(5 + seed % 7 * 20));
    way.duplication = Ppm::percent(10);
    plan.set_fabrics(way);
    plan
}

fn corruption(seed: u64) -> PacketPlan {
    let mut plan = PacketPlan::calm(seed);
    rates(&mut plan);
    let mut way = Conditions::calm(us(10));
    way.corruption = Ppm::percent(5);
    plan.set_fabrics(way);
    plan
}

fn unequal(seed: u64) -> PacketPlan {
    let mut plan = PacketPlan::calm(seed);
    rates(&mut plan);
    plan.scheduler = [PacketScheduler::Lane, PacketScheduler::Alternate][(seed % 2) as usize];
    plan.legs[1].ways = [Conditions::calm(us(60)).with_jitter(us(2)); 2];
    plan
}

/// At zero loss hardly anything is sent twice: an ack that takes the other leg must not look like a loss.
fn resends_little(world: &mut PacketWorld) -> Result<(), Violation> {
    run_sources(world)?;
    for side in Side::BOTH {
        let (resent, sent) = world.resends(side);
        if resent * 100 > sent {
            let detail = format!("{side:?} resent {resent} of {sent} messages at zero loss");
            return Err(world.violation("spurious resends", detail));
        }
    }
    Ok(())
}

fn narrow(seed: u64) -> PacketPlan {
    let mut plan = PacketPlan::calm(seed);
    let mut way = Conditions::calm(us(20));
    // A gigabit port each, a queue of 43 packets, and bursts of half of what the two can take.
    way.rate = Some((125_000_000, 1 << 16));
    plan.set_fabrics(way);
    let source = |side| SourcePlan {
        burst_max: 32,
        sizes: Sizes::Fixed(1400 + seed as usize % 5 * 1000),
        ..PacketPlan::steady(side, us(600), 0)
    };
    plan.set_sources(&Side::BOTH.map(source));
    plan.promise.no_false_down = false;
    plan.promise.delay_max = ms(100);
    plan
}

fn super_frames(seed: u64) -> PacketPlan {
    let mut plan = PacketPlan::calm(seed);
    plan.set_fabrics(Conditions::calm(us(10)).with_loss(5));
    for leg in &mut plan.legs {
        leg.packet_len_max = [1472, 8972][(seed % 2) as usize];
    }
    plan.set_sources(&Side::BOTH.map(|side| PacketPlan::steady(side, us(500), 65_809)));
    plan.hold_octets_max = [1 << 18, 4 << 20][(seed / 2 % 2) as usize];
    plan.send_octets_max = 4 << 20;
    plan
}

fn barriers(seed: u64) -> PacketPlan {
    let mut plan = PacketPlan::calm(seed);
    rates(&mut plan);
    plan.scheduler = PacketScheduler::Alternate;
    plan.set_fabrics(Conditions::calm(us(10)).with_jitter(us(5)).with_loss(5));
    let source = |side| SourcePlan {
        after_all: Ppm::percent(10),
        lanes: 1024,
        burst_max: 8,
        ..PacketPlan::steady(side, us(200), 300)
    };
    plan.set_sources(&Side::BOTH.map(source));
    plan
}

/// One leg takes no packet above 600 octets any more; messages of several packets go on arriving.
fn shrinks(world: &mut PacketWorld) -> Result<(), Violation> {
    world.plan.sources.push(PacketPlan::steady(Side::A, us(400), 6000));
    super::warm_up(world)?;
    let id = world.lay(0, None, Overlay::LenMax(600));
    // In every other run the kernel says so, after a while.
    if world.draw(2) == 0 {
        let later = us(world.draw(20_000));
        world.run_for(later)?;
        Side::BOTH.iter().for_each(|side| world.tell_packet_len(*side, 0, 600));
    }
    world.run_for(ms(150))?;
    world.lift(id);
    Side::BOTH.iter().for_each(|side| world.tell_packet_len(*side, 0, world.plan.packet_len_max(0)));
    world.run_for(ms(50))
}
