//! Credit, memory and silence: receivers that are slow, senders that are full, associations with nothing to do.

use vlan_core::Channel;

use super::{Family, ms, run_sources, us, warm_up};
use crate::checker::Violation;
use crate::packet::link::Conditions;
use crate::packet::plan::{PacketPlan, Sizes, SourcePlan};
use crate::packet::side::Side;
use crate::packet::world::PacketWorld;
use crate::simulation::Simulation;

pub(super) const FAMILIES: &[Family] = &[
    Family { name: "a_slow_consumer_stops_data_and_not_control", plan: heavy, script: slow_consumer },
    Family { name: "an_end_that_settles_nothing_stops_data_and_not_control", plan: heavy, script: withheld },
    Family { name: "small_memories_are_never_exceeded", plan: small, script: run_sources },
    Family { name: "an_idle_association_is_silent", plan: silent, script: idles },
    Family { name: "a_full_window_moves_on", plan: window, script: window_fills },
];

fn heavy(seed: u64) -> PacketPlan {
    let mut plan = PacketPlan::calm(seed);
    let source =
        |side| SourcePlan { burst_max: 16, sizes: Sizes::Mixed, ..PacketPlan::steady(side, us(300), 0) };
    plan.set_sources(&Side::BOTH.map(source));
    plan.hold_octets_max = [1 << 17, 1 << 18, 1 << 20][(seed % 3) as usize];
    plan.send_octets_max = [1 << 18, 1 << 20][(seed % 2) as usize];
    if seed % 4 == 3 {
        plan.set_fabrics(Conditions::calm(us(10)).with_loss(5));
    }
    plan
}

fn small(seed: u64) -> PacketPlan {
    let mut plan = heavy(seed);
    plan.set_fabrics(Conditions::calm(us(10)).with_jitter(us(10)).with_loss(5));
    plan.hold_octets_max = 1 << 17;
    plan.send_octets_max = 1 << 17;
    plan
}

fn silent(seed: u64) -> PacketPlan {
    let mut plan = PacketPlan::calm(seed);
    plan.sources.clear();
    plan
}

fn window(seed: u64) -> PacketPlan {
    let mut plan = PacketPlan::calm(seed);
    let source = |side| SourcePlan { burst_max: 64, ..PacketPlan::steady(side, us(20), 40) };
    plan.set_sources(&[source(Side::A)]);
    plan.hold_octets_max = 8 << 20;
    plan.send_octets_max = 8 << 20;
    plan
}

/// Control must flow all the time (I-16 is checked with each delay), data when the consumer is quick again.
fn slow_consumer(world: &mut PacketWorld) -> Result<(), Violation> {
    warm_up(world)?;
    let side = Side::BOTH[world.draw(2) as usize];
    let slowness = us(50 + world.draw(20_000));
    world.slow_consumer(side, slowness, ms(150));
    world.run_for(ms(200))
}

fn withheld(world: &mut PacketWorld) -> Result<(), Violation> {
    warm_up(world)?;
    let side = Side::BOTH[world.draw(2) as usize];
    world.withhold(side, ms(40));
    world.run_for(ms(120))
}

/// Nothing but a message now and then; the end of every run looks at the silence that follows.
fn idles(world: &mut PacketWorld) -> Result<(), Violation> {
    for n in 0..3 {
        world.offer_one(Side::BOTH[n % 2], Channel(1), 0, 100);
        world.run_for(ms(700))?;
    }
    Ok(())
}

/// Nothing is settled while more than a window is offered: the sender stops at the window, then goes on.
fn window_fills(world: &mut PacketWorld) -> Result<(), Violation> {
    warm_up(world)?;
    world.withhold(Side::B, ms(25));
    world.run_for(ms(60))
}
