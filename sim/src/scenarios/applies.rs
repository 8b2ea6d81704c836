//! Another file is applied while everything runs: a membership that ends and begins again is another one, for everybody.

use super::{Scenario, boot_to_direct, ms};
use crate::checker::Violation;
use crate::plan::Plan;
use crate::simulation::Simulation;
use crate::world::World;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_member_that_comes_again_at_once_talks_to_all",
        plan: |seed| Plan::calm(seed, 4),
        script: goes_and_comes,
    },
    Scenario {
        name: "a_member_on_another_host_that_comes_again_at_once_talks_to_all",
        plan: |seed| Plan::calm(seed, 4).with_elsewhere(&[0, 2]),
        script: goes_and_comes,
    },
    Scenario {
        name: "a_listener_that_comes_again_gets_no_copy_of_the_former_one",
        plan: |seed| Plan::calm(seed, 4).with_listeners(&[0]),
        script: listener_comes_again,
    },
    Scenario {
        name: "a_member_that_comes_again_while_there_is_no_control_node_talks_to_all",
        plan: |seed| Plan::calm(seed, 4),
        script: comes_again_unseen,
    },
    Scenario {
        name: "a_member_that_is_removed_while_there_is_no_control_node_gets_nothing",
        plan: |seed| Plan::calm(seed, 4),
        script: goes_unseen,
    },
    Scenario {
        name: "a_node_whose_last_membership_ends_has_no_interface_and_may_come_again",
        plan: two_lans,
        script: goes_for_good,
    },
    Scenario {
        name: "a_node_that_is_removed_has_nothing_and_may_come_again",
        plan: |seed| Plan::calm(seed, 4),
        script: node_goes_and_comes,
    },
    Scenario {
        name: "a_node_on_another_host_that_is_removed_has_nothing_and_may_come_again",
        plan: |seed| Plan::calm(seed, 4).with_elsewhere(&[0, 3]),
        script: node_goes_and_comes,
    },
    Scenario {
        name: "a_node_that_was_refused_beside_its_dead_process_is_a_member_at_once",
        plan: |seed| Plan::calm(seed, 4).with_elsewhere(&[0, 3]),
        script: refused_beside_a_dead_process,
    },
];

/// The last node is a member of the second LAN alone.
fn two_lans(seed: u64) -> Plan {
    let mut plan = Plan::calm(seed, 4);
    plan.lans[0].members.pop();
    let mut blue = plan.lans[0].clone();
    (blue.id, blue.members) = (vlan_core::LanId(20), vec![0, 3]);
    plan.lans.push(blue);
    plan
}

/// The first member goes, and comes again before anybody can have heard of it; then again when all have.
fn goes_and_comes(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    let mut station = 0;
    for pause in [0, 1, 40] {
        station = replace(world, station, pause)?;
        world.run_for(ms(200))?;
    }
    Ok(())
}

/// Removes a station of the first node, and adds another in its place `pause` later, in milliseconds. Returns that.
fn replace(world: &mut World, station: usize, pause: u64) -> Result<usize, Violation> {
    let now = world.now();
    world.remove_membership(now, station);
    world.run_for(ms(pause))?;
    let now = world.now();
    Ok(world.add_membership(now, 0, 0))
}

fn listener_comes_again(world: &mut World) -> Result<(), Violation> {
    world.set_promiscuous(0, true);
    goes_and_comes(world)
}

/// The nodes hear of it only from the next control node; until then they have direct RVIs to the former member.
fn comes_again_unseen(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    world.kill_control();
    world.run_for(ms(20))?;
    replace(world, 0, 1)?;
    world.run_for(ms(20))?;
    world.start_control_again();
    world.run_for(ms(300))
}

fn goes_unseen(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    world.kill_control();
    world.run_for(ms(20))?;
    let now = world.now();
    world.remove_membership(now, 0);
    world.run_for(ms(20))?;
    world.start_control_again();
    world.run_for(ms(300))
}

/// The node is attached without an interface, loses its control node, is refused by the next one, and is a member again.
fn goes_for_good(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    let now = world.now();
    let last = world.last_station_of(3);
    world.remove_membership(now, last);
    world.kill_control();
    world.run_for(ms(20))?;
    world.start_control_again();
    world.run_for(ms(300))?;
    let now = world.now();
    world.add_membership(now, 3, 1);
    world.run_for(ms(300))
}

/// A node goes whole, and comes again: as the process that was refused, and, once more, as another one that was started meanwhile.
fn node_goes_and_comes(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    for is_started_again in [false, true] {
        let now = world.now();
        world.remove_node(now, 3);
        world.run_for(ms(60))?;
        if is_started_again {
            world.kill_node_at(3);
            world.run_for(ms(5))?;
            world.start_node_again(3);
            world.run_for(ms(60))?;
        }
        let now = world.now();
        world.add_membership(now, 3, 0);
        world.run_for(ms(400))?;
    }
    Ok(())
}

/// The process that was a member dies unseen, the next one is refused, and both are known when the node is a member again.
fn refused_beside_a_dead_process(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    let now = world.now();
    let last = world.last_station_of(3);
    world.remove_membership(now, last);
    world.run_for(ms(20))?;
    world.kill_node_at(3);
    world.run_for(ms(5))?;
    world.start_node_again(3);
    world.run_for(ms(60))?;
    let now = world.now();
    world.add_membership(now, 3, 0);
    world.run_for(ms(300))
}

#[cfg(test)]
mod tests {
    use crate::scenarios::testing::passes_from;

    #[test]
    fn a_membership_that_comes_again_is_another_one() {
        //= spec/control-node.md#removed-members
        //= type=test
        //# When a member is removed, a control node MUST tell its node to take the interface away, tell the others that it has
        //# gone, revoke its direct RVIs, drop its bindings, and count every later frame for it as dropped.
        for scenario in super::SCENARIOS {
            for seed in 1..4 {
                passes_from(scenario.name, seed);
            }
        }
    }
}
