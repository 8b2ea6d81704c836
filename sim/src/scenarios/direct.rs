//! Direct RVIs: the barrier, cuts, legs that die, nodes that die.

use std::time::Duration;

use vlan_core::DropReason;

use super::{Scenario, boot, boot_to_direct, ms};
use crate::checker::Violation;
use crate::coverage::PairState;
use crate::plan::Plan;
use crate::simulation::Simulation;
use crate::world::World;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "a_barrier_at_full_rate_keeps_order", plan: full_rate, script: barrier_at_full_rate },
    Scenario {
        name: "a_cut_and_a_heal_lose_nothing",
        plan: |seed| Plan::calm(seed, 3),
        script: cut_and_heal,
    },
    Scenario {
        name: "one_leg_cut_and_healed_under_load_loses_nothing",
        plan: busy,
        script: cut_and_heal_a_leg,
    },
    Scenario { name: "one_leg_dies_with_and_without_relay", plan: full_rate, script: one_leg_dies },
    Scenario { name: "both_legs_flap", plan: full_rate, script: both_legs_flap },
    Scenario {
        name: "a_node_killed_under_load_comes_back",
        plan: |seed| Plan::calm(seed, 3),
        script: node_killed,
    },
    Scenario { name: "every_timer_3_ms_late", plan: |seed| Plan::calm(seed, 3), script: late_timers },
    Scenario {
        name: "one_end_gets_its_leg_much_later_or_never",
        plan: |seed| Plan::calm(seed, 3),
        script: late_introductions,
    },
    Scenario {
        name: "a_leg_that_gets_lost_alone_is_introduced_again",
        plan: |seed| Plan::calm(seed, 3),
        script: a_leg_gets_lost,
    },
    Scenario {
        name: "a_node_that_is_asked_to_end_costs_nobody_anything",
        plan: |seed| Plan::calm(seed, 3),
        script: node_leaves,
    },
    Scenario {
        name: "a_barrier_before_its_leg_is_echoed_when_the_leg_is_up",
        plan: busy,
        script: barrier_before_leg,
    },
    Scenario {
        name: "a_leg_is_not_hung_up_for_an_earlier_one_of_its_name",
        plan: busy,
        script: legs_while_stopped,
    },
];

/// Two nodes that send as much as they are let.
fn full_rate(seed: u64) -> Plan {
    let mut plan = Plan::calm(seed, 2);
    plan.traffic.flows_per_pair = 4;
    plan.traffic.interval = Duration::from_micros(200);
    plan.traffic.burst_max = 8;
    plan.traffic.large_percent = 1;
    plan
}

/// Two nodes with steady traffic that no ring is too small for.
fn busy(seed: u64) -> Plan {
    let mut plan = Plan::calm(seed, 2);
    plan.traffic.interval = Duration::from_micros(500);
    plan
}

fn barrier_at_full_rate(world: &mut World) -> Result<(), Violation> {
    boot(world)?;
    world.start_traffic();
    for _ in 0..5 {
        // A control node that runs now and then always has frames in its rings when the direct RVI comes up.
        for _ in 0..25 {
            world.run_for(Duration::from_micros(300))?;
            world.pause_control(Duration::from_micros(700));
        }
        world.run_for(ms(260))?;
        world.expect_direct(0, 1)?;
        world.cut(Plan::number(0), Plan::number(1), None);
        world.run_for(ms(3))?;
        world.heal(Plan::number(0), Plan::number(1));
    }
    Ok(())
}

fn cut_and_heal(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    world.expect_direct(0, 1)?;
    for _ in 0..5 {
        // What its peer has not taken when the cut comes goes by relay.
        world.pause_node(1, ms(4));
        world.run_for(ms(3))?;
        world.cut(Plan::number(0), Plan::number(1), None);
        world.run_for(ms(20))?;
        world.heal(Plan::number(0), Plan::number(1));
        world.run_for(ms(40))?;
    }
    world.expect_nothing_lost()
}

fn cut_and_heal_a_leg(world: &mut World) -> Result<(), Violation> {
    boot(world)?;
    world.start_traffic();
    world.run_for(ms(40))?;
    for round in 0..6 {
        let leg = vlan_core::LegNumber(round % 2);
        world.cut(Plan::number(0), Plan::number(1), Some(leg));
        world.run_for(ms(8))?;
        world.heal(Plan::number(0), Plan::number(1));
        world.run_for(ms(12))?;
    }
    world.expect_nothing_lost()
}

fn one_leg_dies(world: &mut World) -> Result<(), Violation> {
    boot(world)?;
    world.start_traffic();
    world.run_for(ms(40))?;
    world.expect_direct(0, 1)?;
    world.hang_up_leg(0, 1, 0);
    world.run_for(ms(20))?;
    world.kill_control();
    world.run_for(ms(10))?;
    world.hang_up_leg(0, 1, 1);
    world.run_for(ms(40))?;
    world.start_control_again();
    world.run_for(ms(60))
}

fn both_legs_flap(world: &mut World) -> Result<(), Violation> {
    boot(world)?;
    world.start_traffic();
    for round in 0..24 {
        world.run_for(Duration::from_micros(1_000 + 700 * (round % 7)))?;
        world.hang_up_leg(0, 1, (round % 2) as u8);
    }
    world.run_for(ms(40))
}

fn node_killed(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    for _ in 0..4 {
        world.kill_node_at(1);
        world.run_for(ms(30))?;
        world.start_node_again(1);
        world.run_for(ms(80))?;
    }
    Ok(())
}

fn late_timers(world: &mut World) -> Result<(), Violation> {
    world.make_timers_late(ms(3));
    boot_to_direct(world)?;
    world.cut(Plan::number(0), Plan::number(1), None);
    world.run_for(ms(30))?;
    world.heal(Plan::number(0), Plan::number(1));
    world.kill_control();
    world.run_for(ms(30))?;
    world.start_control_again();
    world.run_for(ms(80))
}

fn late_introductions(world: &mut World) -> Result<(), Violation> {
    world.make_introductions_late(ms(30));
    boot_to_direct(world)?;
    for _ in 0..4 {
        world.cut(Plan::number(0), Plan::number(1), None);
        world.run_for(ms(15))?;
        world.heal(Plan::number(0), Plan::number(1));
        world.run_for(ms(50))?;
    }
    Ok(())
}

/// One leg of two hangs up, as when its peer breaks a rule or memory is short. Whether it comes back is judged last.
fn a_leg_gets_lost(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    world.hang_up_leg(0, 1, 1);
    world.run_for(ms(50))
}

fn node_leaves(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    for round in 0..4 {
        // What a peer has not taken comes back and goes by relay.
        world.pause_node(round % 2 * 2, ms(3));
        world.run_for(ms(1))?;
        world.stop_node_at(1);
        world.run_for(ms(30))?;
        if world.is_alive(1) {
            return Err(world.still_there(1));
        }
        world.expect_all_arrived_from(1)?;
        world.start_node_again(1);
        world.run_for(ms(120))?;
    }
    // A process that starts may have frames before its devices are made.
    world.expect_none_of(&[DropReason::PeerGone, DropReason::Expired, DropReason::EgressFull])
}

/// The first end's barrier is at the second end long before the second end's legs are.
fn barrier_before_leg(world: &mut World) -> Result<(), Violation> {
    boot(world)?;
    world.make_introductions_apart(ms(8));
    world.start_traffic();
    for _ in 0..5 {
        // A conversation is granted its RVI after 10 ms; a barrier that was lost would be tried again after 120 ms.
        world.run_for(ms(40))?;
        world.expect_direct(0, 1)?;
        world.expect_direct(1, 0)?;
        world.cut(Plan::number(0), Plan::number(1), None);
        world.run_for(ms(10))?;
        world.heal(Plan::number(0), Plan::number(1));
    }
    world.expect_nothing_lost()
}

/// A node has left its legs to a peer, and is stopped until the peer has hung up and the next legs are up: it finds both at
/// once, and gives the earlier ones up while it takes the next ones of their names.
fn legs_while_stopped(world: &mut World) -> Result<(), Violation> {
    boot(world)?;
    world.start_traffic();
    let (a, b) = (Plan::number(0), Plan::number(1));
    for _ in 0..6 {
        world.run_until_pair((0, 1), PairState::DirectTwoLegs, ms(200))?;
        world.pause_node(1, ms(5));
        world.cut(a, b, None);
        if !world.run_until_pair((0, 1), PairState::Leaving, ms(5))? {
            continue;
        }
        world.pause_node(0, ms(40));
        world.run_for(ms(8))?;
        world.heal(a, b);
        world.run_for(ms(60))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::scenarios::testing::{passes, passes_from};

    #[test]
    fn a_barrier_at_full_rate_keeps_order() {
        passes("a_barrier_at_full_rate_keeps_order");
    }

    #[test]
    fn a_cut_and_a_heal_lose_nothing() {
        passes("a_cut_and_a_heal_lose_nothing");
    }

    //= spec/driver.md#missing-legs
    //= type=test
    //# A node MUST tell its control node of a leg of shared memory that was introduced and has been missing for three seconds, and
    //# again after twice the time, up to 24 s, while it stays so.
    #[test]
    fn a_leg_that_gets_lost_alone_is_introduced_again() {
        passes("a_leg_that_gets_lost_alone_is_introduced_again");
    }

    /// A node has frames of another's stack before it has made its own device.
    #[test]
    fn what_comes_before_there_is_a_device_is_nobodys_loss() {
        passes_from("a_cut_and_a_heal_lose_nothing", 416);
    }

    #[test]
    fn one_leg_cut_and_healed_under_load_loses_nothing() {
        passes("one_leg_cut_and_healed_under_load_loses_nothing");
    }

    #[test]
    fn one_leg_dies_with_and_without_relay() {
        passes("one_leg_dies_with_and_without_relay");
    }

    #[test]
    fn both_legs_flap() {
        passes("both_legs_flap");
    }

    #[test]
    fn a_node_killed_under_load_comes_back() {
        passes("a_node_killed_under_load_comes_back");
    }

    #[test]
    fn every_timer_3_ms_late() {
        passes("every_timer_3_ms_late");
    }

    #[test]
    fn a_node_that_is_asked_to_end_costs_nobody_anything() {
        passes("a_node_that_is_asked_to_end_costs_nobody_anything");
    }

    #[test]
    fn a_barrier_before_its_leg_is_echoed_when_the_leg_is_up() {
        passes("a_barrier_before_its_leg_is_echoed_when_the_leg_is_up");
    }

    #[test]
    fn one_end_gets_its_leg_much_later_or_never() {
        passes("one_end_gets_its_leg_much_later_or_never");
    }

    #[test]
    fn a_leg_is_not_hung_up_for_an_earlier_one_of_its_name() {
        //= spec/rvi.md#legs-of-the-same-name
        //= type=test
        //# When a leg takes the place of another of its name, a machine MUST take back what it wanted done to the earlier one.
        passes("a_leg_is_not_hung_up_for_an_earlier_one_of_its_name");
    }
}
