//! Relay legs between nodes on hosts of their own: the control node carries packets of a pair that no fabric joins.

use super::{Scenario, boot_to_direct, ms};
use crate::checker::Violation;
use crate::packet::chance::Ppm;
use crate::packet::link::Overlay;
use crate::plan::Plan;
use crate::simulation::Simulation;
use crate::world::World;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_control_node_carries_packets_of_hosts_that_no_fabric_joins",
        plan: apart,
        script: no_fabric_joins,
    },
    Scenario {
        name: "one_leg_dies_with_a_relay_and_without_and_nothing_is_lost",
        plan: apart,
        script: one_leg_dies,
    },
    Scenario {
        name: "a_control_node_that_carries_dies_and_the_next_one_carries_on",
        plan: apart,
        script: carrier_dies,
    },
    Scenario {
        name: "two_that_relay_to_each_other_by_ways_that_lose_much_do_not_lock",
        plan: busy,
        script: full_both_ways,
    },
    Scenario {
        name: "a_pair_that_is_cut_while_its_packets_are_carried_goes_by_bare_relay",
        plan: apart,
        script: cut_while_carried,
    },
];

/// Two nodes, each on a host of its own.
fn apart(seed: u64) -> Plan {
    Plan::calm(seed, 2).with_elsewhere(&[0, 1])
}

/// The same, with as much to say as they can.
fn busy(seed: u64) -> Plan {
    let mut plan = apart(seed);
    plan.traffic.interval = std::time::Duration::from_micros(200);
    plan
}

fn no_fabric_joins(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    for lasts in [20, 150, 400] {
        let before = world.relayed();
        world.part(0, 1, None, ms(lasts));
        world.run_for(ms(lasts))?;
        world.expect_relayed(before + lasts / 4)?;
        world.run_for(ms(500))?;
        let back = world.relayed();
        world.run_for(ms(100))?;
        world.expect_not_relayed(back + 5)?;
        world.expect_direct(0, 1)?;
    }
    world.expect_nothing_lost()
}

fn one_leg_dies(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    for leg in [0, 1] {
        world.part(0, 1, Some(vlan_core::LegNumber(leg)), ms(100));
        world.run_for(ms(600))?;
    }
    world.expect_nothing_lost()?;
    // Now without: broadcasts have nowhere to go, and what is direct misses nobody.
    world.kill_control();
    for leg in [1, 0] {
        world.part(0, 1, Some(vlan_core::LegNumber(leg)), ms(100));
        world.run_for(ms(600))?;
    }
    world.start_control_again();
    world.expect_direct(0, 1)
}

/// Frames that nobody carries for 50 ms expire, and are counted; nothing is lost otherwise, or doubled, or out of order.
fn carrier_dies(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    for calls in 0..4 {
        world.part(0, 1, None, ms(900));
        world.run_for(ms(60))?;
        world.kill_control_after_calls(5 * calls);
        world.run_for(ms(20 + 60 * u64::from(calls)))?;
        world.start_control_again();
        world.run_for(ms(400))?;
        let before = world.relayed();
        world.run_for(ms(100))?;
        world.expect_relayed(before + 20)?;
        world.run_for(ms(900))?;
        world.expect_direct(0, 1)?;
    }
    Ok(())
}

fn full_both_ways(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    world.part(0, 1, None, ms(600));
    for node in [0, 1] {
        world.lay_towards(node, Overlay::Loss(Ppm::percent(50)), ms(300));
    }
    world.run_for(ms(300))?;
    let before = world.relayed();
    world.run_for(ms(100))?;
    world.expect_relayed(before + 50)?;
    world.run_for(ms(700))
}

fn cut_while_carried(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    world.part(0, 1, None, ms(2_000));
    world.run_for(ms(60))?;
    world.cut(Plan::number(0), Plan::number(1), None);
    // Nothing of the pair is carried from here on.
    world.run_for(ms(10))?;
    let carried = world.relayed();
    world.run_for(ms(1_500))?;
    world.expect_not_relayed(carried)?;
    world.heal(Plan::number(0), Plan::number(1));
    world.run_for(ms(1_500))
}

#[cfg(test)]
mod tests {
    use crate::scenarios::testing::passes;

    #[test]
    fn a_control_node_carries_packets_of_hosts_that_no_fabric_joins() {
        passes("a_control_node_carries_packets_of_hosts_that_no_fabric_joins");
    }

    #[test]
    fn one_leg_dies_with_a_relay_and_without_and_nothing_is_lost() {
        passes("one_leg_dies_with_a_relay_and_without_and_nothing_is_lost");
    }

    #[test]
    fn a_control_node_that_carries_dies_and_the_next_one_carries_on() {
        passes("a_control_node_that_carries_dies_and_the_next_one_carries_on");
    }

    #[test]
    fn two_that_relay_to_each_other_by_ways_that_lose_much_do_not_lock() {
        passes("two_that_relay_to_each_other_by_ways_that_lose_much_do_not_lock");
    }

    #[test]
    fn a_pair_that_is_cut_while_its_packets_are_carried_goes_by_bare_relay() {
        passes("a_pair_that_is_cut_while_its_packets_are_carried_goes_by_bare_relay");
    }
}
