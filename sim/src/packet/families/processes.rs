//! Processes that stop, wake late, die, or have clocks of their own.

use vlan_core::Instant;

use super::{Family, ms, us, warm_up};
use crate::checker::Violation;
use crate::packet::link::Conditions;
use crate::packet::plan::PacketPlan;
use crate::packet::side::Side;
use crate::packet::world::PacketWorld;
use crate::simulation::Simulation;

pub(super) const FAMILIES: &[Family] = &[
    Family { name: "a_stopped_process_brings_no_leg_down", plan: PacketPlan::calm, script: pauses },
    Family { name: "late_timers_bring_no_leg_down", plan: lossy, script: late_timers },
    Family { name: "clocks_that_run_apart_change_nothing", plan: apart, script: clocks },
    Family { name: "a_process_that_comes_back_has_a_session_of_its_own", plan: lossy, script: crashes },
    Family {
        name: "a_leg_that_the_host_takes_away_loses_nothing",
        plan: PacketPlan::calm,
        script: leg_removed,
    },
];

fn lossy(seed: u64) -> PacketPlan {
    let mut plan = PacketPlan::calm(seed);
    plan.set_fabrics(Conditions::calm(us(10)).with_jitter(us(5)).with_loss(5));
    plan
}

fn apart(seed: u64) -> PacketPlan {
    let mut plan = lossy(seed);
    plan.ends[0].ppm = 500;
    plan.ends[1].ppm = -500;
    // The packets' clock has 32 bits of microseconds: one end wraps in the midst of the run.
    plan.ends[(seed % 2) as usize].clock_start = Instant::from_nanos((1_u64 << 32) * 1000 - 50_000_000);
    plan
}

/// Both ends stop now and then, sometimes together; the network is perfect, so nothing may be DOWN (I-14).
fn pauses(world: &mut PacketWorld) -> Result<(), Violation> {
    warm_up(world)?;
    for _ in 0..6 {
        let lasts = ms(1 + world.draw(200));
        let side = Side::BOTH[world.draw(2) as usize];
        world.pause(side, lasts);
        if world.draw(3) == 0 {
            let shift = us(world.draw(5_000));
            world.run_for(shift)?;
            world.pause(side.other(), lasts / 2 + us(1));
        }
        let go_on = lasts + us(world.draw(30_000));
        world.run_for(go_on)?;
    }
    Ok(())
}

fn late_timers(world: &mut PacketWorld) -> Result<(), Violation> {
    warm_up(world)?;
    for side in Side::BOTH {
        world.delay_timers(side, ms(300));
    }
    world.run_for(ms(350))
}

fn clocks(world: &mut PacketWorld) -> Result<(), Violation> {
    warm_up(world)?;
    for _ in 0..5 {
        world.run_for(ms(80))?;
        let side = Side::BOTH[world.draw(2) as usize];
        world.skew(side);
    }
    Ok(())
}

fn crashes(world: &mut PacketWorld) -> Result<(), Violation> {
    warm_up(world)?;
    for _ in 0..5 {
        let lives = us(world.draw(30_000));
        world.run_for(lives)?;
        let side = Side::BOTH[world.draw(2) as usize];
        let dead_for = us(100 + world.draw(60_000));
        world.crash(side, dead_for);
        if world.draw(4) == 0 {
            world.crash(side.other(), dead_for / 2);
        }
        world.run_for(dead_for)?;
    }
    world.run_for(ms(30))
}

fn leg_removed(world: &mut PacketWorld) -> Result<(), Violation> {
    warm_up(world)?;
    for _ in 0..4 {
        let side = Side::BOTH[world.draw(2) as usize];
        let leg = world.draw(2) as u8;
        let lasts = us(500 + world.draw(60_000));
        world.remove_leg(side, leg, lasts);
        world.run_for(lasts + ms(20))?;
    }
    world.run_for(ms(300))
}
