//! Multicast groups: each frame once to each who has joined, and none to anybody else, whatever happens meanwhile.

use super::{Scenario, boot_to_direct, ms};
use crate::checker::Violation;
use crate::plan::Plan;
use crate::simulation::Simulation;
use crate::world::World;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "who_has_joined_gets_each_frame_of_a_group_and_nobody_else_any",
        plan: four,
        script: joins_and_leaves,
    },
    Scenario {
        name: "who_has_joined_over_a_network_gets_each_frame_of_a_group",
        plan: apart,
        script: joins_and_leaves,
    },
    Scenario { name: "memberships_outlive_their_control_node", plan: four, script: control_node_restarts },
    Scenario {
        name: "a_join_that_its_control_node_did_not_live_to_hear_is_told_to_the_next",
        plan: four,
        script: joins_are_lost,
    },
    Scenario { name: "a_node_that_starts_again_joins_again", plan: four, script: node_restarts },
];

fn four(seed: u64) -> Plan {
    Plan::calm(seed, 4)
}

/// Some of them on hosts of their own.
fn apart(seed: u64) -> Plan {
    Plan::calm(seed, 4).with_elsewhere(&[1, 3])
}

fn stream_to_one(world: &mut World) -> Result<(), Violation> {
    world.add_streams(0);
    world.join(1);
    boot_to_direct(world)?;
    world.run_for(ms(100))?;
    world.expect_streamed(50)
}

fn joins_and_leaves(world: &mut World) -> Result<(), Violation> {
    stream_to_one(world)?;
    for _ in 0..3 {
        for station in [2, 3, 0] {
            world.join(station);
            world.run_for(ms(60))?;
        }
        let before = world.streamed();
        world.run_for(ms(100))?;
        // Three times as many as one member gets; the sender's own are its stack's affair.
        world.expect_streamed(before + 150)?;
        for station in [3, 2, 0] {
            world.leave_groups(station);
            world.run_for(ms(30))?;
        }
    }
    world.expect_nothing_lost()
}

fn control_node_restarts(world: &mut World) -> Result<(), Violation> {
    stream_to_one(world)?;
    world.join(2);
    for before_publishing in [true, false, true] {
        world.run_for(ms(100))?;
        world.kill_control_in_next_batch(before_publishing);
        world.run_for(ms(20))?;
        world.start_control_again();
        world.run_for(ms(800))?;
        let before = world.streamed();
        world.run_for(ms(100))?;
        world.expect_streamed(before + 100)?;
    }
    Ok(())
}

fn joins_are_lost(world: &mut World) -> Result<(), Violation> {
    stream_to_one(world)?;
    for calls in 0..8 {
        world.kill_control_after_calls(calls);
        world.join(2);
        world.leave_groups(1);
        world.run_for(ms(10 + 10 * u64::from(calls)))?;
        world.join(3);
        world.start_control_again();
        world.run_for(ms(900))?;
        let before = world.streamed();
        world.run_for(ms(100))?;
        world.expect_streamed(before + 100)?;
        for station in [2, 3] {
            world.leave_groups(station);
        }
        world.join(1);
        world.run_for(ms(100))?;
    }
    Ok(())
}

fn node_restarts(world: &mut World) -> Result<(), Violation> {
    stream_to_one(world)?;
    world.join(2);
    for node in [1, 2, 0, 3, 1] {
        world.kill_node_at(node);
        world.run_for(ms(50))?;
        world.start_node_again(node);
        world.run_for(ms(800))?;
        let before = world.streamed();
        world.run_for(ms(100))?;
        world.expect_streamed(before + 100)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::scenarios::testing::passes;

    #[test]
    fn who_has_joined_gets_each_frame_of_a_group_and_nobody_else_any() {
        passes("who_has_joined_gets_each_frame_of_a_group_and_nobody_else_any");
    }

    #[test]
    fn who_has_joined_over_a_network_gets_each_frame_of_a_group() {
        passes("who_has_joined_over_a_network_gets_each_frame_of_a_group");
    }

    #[test]
    fn memberships_outlive_their_control_node() {
        passes("memberships_outlive_their_control_node");
    }

    #[test]
    fn a_join_that_its_control_node_did_not_live_to_hear_is_told_to_the_next() {
        passes("a_join_that_its_control_node_did_not_live_to_hear_is_told_to_the_next");
    }

    #[test]
    fn a_node_that_starts_again_joins_again() {
        passes("a_node_that_starts_again_joins_again");
    }
}
