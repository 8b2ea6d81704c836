//! A control node dies: at every step, again and again, with frames in every place.

use std::time::Duration;

use vlan_core::{DropReason, LegNumber};

use super::{Scenario, boot, boot_to_direct, ms};
use crate::checker::Violation;
use crate::coverage::PairState;
use crate::plan::Plan;
use crate::simulation::Simulation;
use crate::world::World;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_control_node_killed_between_consume_and_publish_loses_nothing_it_had_not_settled",
        plan: relay_only,
        script: killed_before_publishing,
    },
    Scenario {
        name: "a_control_node_killed_between_publish_and_settle_duplicates_nothing",
        plan: relay_only,
        script: killed_before_settling,
    },
    Scenario {
        name: "a_control_node_killed_with_24_members_between_consume_and_push",
        plan: many_members,
        script: killed_before_publishing,
    },
    Scenario {
        name: "a_control_node_killed_at_every_step_of_its_start",
        plan: |seed| Plan::calm(seed, 3),
        script: killed_at_every_step,
    },
    Scenario {
        name: "hang_ups_seen_at_different_times_join_no_two_sessions",
        plan: relay_only,
        script: late_control_hang_ups,
    },
    Scenario {
        name: "a_word_about_an_earlier_control_session_ends_no_barrier",
        plan: busy_pair,
        script: barrier_after_an_old_word,
    },
    Scenario {
        name: "a_leg_that_outlives_its_grant_takes_nothing",
        plan: busy_pair,
        script: leg_without_grant,
    },
    Scenario {
        name: "a_grant_opens_no_leg_of_an_earlier_session",
        plan: busy_pair,
        script: grant_after_a_pause,
    },
    Scenario {
        name: "direct_traffic_goes_on_while_the_control_node_is_dead",
        plan: |seed| Plan::calm(seed, 3),
        script: dead_for_long,
    },
    Scenario {
        name: "a_leg_lost_while_the_control_node_is_dead_comes_back_with_it",
        plan: |seed| Plan::calm(seed, 3),
        script: leg_lost_meanwhile,
    },
    Scenario {
        name: "a_barrier_whose_control_node_dies_keeps_order",
        plan: busy_pair,
        script: dies_around_barriers,
    },
];

/// Group traffic and relayed traffic alone: the pairs are cut, so no direct RVI takes anything away.
fn relay_only(seed: u64) -> Plan {
    let mut plan = Plan::calm(seed, 3);
    plan.traffic.group_flows = 2;
    plan
}

fn many_members(seed: u64) -> Plan {
    let mut plan = Plan::calm(seed, 24);
    plan.traffic.flows_per_pair = 0;
    plan.traffic.group_flows = 1;
    plan.traffic.large_percent = 0;
    plan.traffic.interval = ms(8);
    plan
}

fn busy_pair(seed: u64) -> Plan {
    let mut plan = Plan::calm(seed, 2);
    plan.traffic.interval = std::time::Duration::from_micros(100);
    plan.traffic.burst_max = 8;
    plan
}

fn cut_all(world: &mut World) {
    for a in 0..world.plan.nodes {
        for b in a + 1..world.plan.nodes {
            world.cut(Plan::number(a), Plan::number(b), None);
        }
    }
}

fn killed_before_publishing(world: &mut World) -> Result<(), Violation> {
    killed_in_batch(world, true)
}

fn killed_before_settling(world: &mut World) -> Result<(), Violation> {
    killed_in_batch(world, false)
}

fn killed_in_batch(world: &mut World, before_publishing: bool) -> Result<(), Violation> {
    boot(world)?;
    cut_all(world);
    world.start_traffic();
    for _ in 0..6 {
        world.run_for(ms(15))?;
        world.kill_control_in_next_batch(before_publishing);
        world.run_for(ms(10))?;
        world.start_control_again();
    }
    world.run_for(ms(30))
}

fn killed_at_every_step(world: &mut World) -> Result<(), Violation> {
    world.start_traffic();
    for calls in 0..60 {
        world.kill_control_after_calls(calls);
        world.run_for(ms(12))?;
        world.start_control_again();
        world.run_for(ms(3))?;
    }
    world.run_for(ms(30))
}

/// The legs of a node hang up one shortly after the other, and each end sees each at a time of its own: either
/// may take the session for over while the other goes on with it.
fn late_control_hang_ups(world: &mut World) -> Result<(), Violation> {
    boot(world)?;
    cut_all(world);
    world.start_traffic();
    world.make_hang_ups_late(ms(6));
    for round in 0..60 {
        let node = round % 3;
        world.hang_up_control_leg(node, (round % 2) as u8);
        world.run_for(std::time::Duration::from_micros(200 * (round as u64 % 16)))?;
        world.hang_up_control_leg(node, 1 - (round % 2) as u8);
        world.run_for(ms(12))?;
    }
    world.run_for(ms(60))
}

/// One node has lost its control legs, said that it has drained what it had by relay, and has a control node again.
/// Then the other one loses its legs while it waits for a barrier: the old word must not let it go direct, for its
/// relayed frames are still under way.
fn barrier_after_an_old_word(world: &mut World) -> Result<(), Violation> {
    boot(world)?;
    world.start_traffic();
    for _ in 0..8 {
        world.run_until_pair((1, 0), PairState::DirectTwoLegs, ms(200))?;
        lose_control_legs(world, 0);
        world.run_for(ms(15))?;
        world.cut(Plan::number(0), Plan::number(1), None);
        world.run_for(ms(10))?;
        world.heal(Plan::number(0), Plan::number(1));
        world.make_introductions_apart(ms(4));
        world.run_until_pair((1, 0), PairState::Relay, ms(5))?;
        world.pause_node(0, ms(18));
        world.run_until_pair((1, 0), PairState::Barrier, ms(16))?;
        lose_control_legs(world, 1);
        world.run_for(ms(40))?;
    }
    world.run_for(ms(40))
}

/// The control node dies while one leg of a pair is up at one end only, and the pair's other leg hangs up: the end that has
/// no leg left ends its association, and then gets the second leg, by which the other end goes on. It refuses that, so that
/// the other end has back what it sent there.
fn leg_without_grant(world: &mut World) -> Result<(), Violation> {
    boot(world)?;
    world.start_traffic();
    let (a, b) = (Plan::number(0), Plan::number(1));
    for _ in 0..4 {
        world.run_until_pair((0, 1), PairState::DirectTwoLegs, ms(200))?;
        world.cut(a, b, Some(LegNumber(1)));
        world.run_for(ms(10))?;
        world.make_introductions_apart(ms(8));
        world.heal(a, b);
        world.run_for(ms(3))?;
        world.kill_control();
        world.run_for(ms(1))?;
        world.hang_up_leg(0, 1, 0);
        world.run_for(ms(20))?;
        world.make_introductions_apart(Duration::ZERO);
        world.start_control_again();
        world.run_for(ms(40))?;
    }
    Ok(())
}

/// A node stops while all its legs to a peer are cut and come back. The peer goes on with its session by those; the node has
/// lost its own when it runs again, and the next grant may be there before the hang-up of the legs. What the peer sent goes
/// by relay, but for what the node had taken before.
fn grant_after_a_pause(world: &mut World) -> Result<(), Violation> {
    boot(world)?;
    world.start_traffic();
    let (a, b) = (Plan::number(0), Plan::number(1));
    for _ in 0..4 {
        world.run_until_pair((0, 1), PairState::DirectTwoLegs, ms(200))?;
        world.pause_node(0, ms(45));
        world.run_for(ms(2))?;
        world.cut(a, b, Some(LegNumber(0)));
        world.run_for(ms(4))?;
        world.cut(a, b, Some(LegNumber(1)));
        world.run_for(ms(6))?;
        world.heal(a, b);
        world.run_for(ms(12))?;
        world.cut(a, b, None);
        world.run_for(ms(6))?;
        world.heal(a, b);
        world.run_for(ms(60))?;
    }
    world.expect_none_of(&[DropReason::PeerGone])
}

fn lose_control_legs(world: &mut World, node: usize) {
    world.hang_up_control_leg(node, 0);
    world.hang_up_control_leg(node, 1);
}

fn dead_for_long(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    world.kill_control();
    world.run_for(ms(1500))?;
    world.start_control_again();
    world.run_for(ms(100))
}

fn leg_lost_meanwhile(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    world.expect_both_legs(0, 1)?;
    for leg in [0, 1, 0] {
        world.kill_control();
        world.run_for(ms(5))?;
        world.hang_up_leg(0, 1, leg);
        world.run_for(ms(20))?;
        world.expect_direct(0, 1)?;
        world.start_control_again();
        world.run_for(ms(40))?;
        world.expect_both_legs(0, 1)?;
    }
    Ok(())
}

fn dies_around_barriers(world: &mut World) -> Result<(), Violation> {
    boot(world)?;
    world.start_traffic();
    for round in 0..20 {
        world.run_for(std::time::Duration::from_micros(2_000 + 300 * round))?;
        world.kill_control();
        world.run_for(ms(8))?;
        world.start_control_again();
        world.run_for(ms(15))?;
        world.cut(Plan::number(0), Plan::number(1), None);
        world.run_for(ms(5))?;
        world.heal(Plan::number(0), Plan::number(1));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::scenarios::testing::passes;

    #[test]
    fn a_control_node_killed_between_consume_and_publish_loses_nothing_it_had_not_settled() {
        passes("a_control_node_killed_between_consume_and_publish_loses_nothing_it_had_not_settled");
    }

    #[test]
    fn a_control_node_killed_between_publish_and_settle_duplicates_nothing() {
        passes("a_control_node_killed_between_publish_and_settle_duplicates_nothing");
    }

    #[test]
    fn a_control_node_killed_with_24_members_between_consume_and_push() {
        passes("a_control_node_killed_with_24_members_between_consume_and_push");
    }

    #[test]
    fn a_control_node_killed_at_every_step_of_its_start() {
        passes("a_control_node_killed_at_every_step_of_its_start");
    }

    #[test]
    fn hang_ups_seen_at_different_times_join_no_two_sessions() {
        let outcome = passes("hang_ups_seen_at_different_times_join_no_two_sessions");
        assert_eq!(outcome.drops.of(vlan_core::DropReason::NoChannel), 0, "{:?}", outcome.drops);
    }

    #[test]
    fn a_word_about_an_earlier_control_session_ends_no_barrier() {
        //= spec/driver.md#words-about-a-lost-relay
        //= type=test
        //# A node that is attached MUST ignore a RELAY_DRAINED, and ask for it when its own control node is lost.
        passes("a_word_about_an_earlier_control_session_ends_no_barrier");
    }

    #[test]
    fn a_leg_that_outlives_its_grant_takes_nothing() {
        //= spec/rvi.md#ended-epochs
        //= type=test
        //# An end MUST refuse a leg or a grant of an epoch whose association has ended there or is being left.
        let outcome = passes("a_leg_that_outlives_its_grant_takes_nothing");
        assert_eq!(outcome.drops.of(vlan_core::DropReason::NoChannel), 0, "{:?}", outcome.drops);
    }

    #[test]
    fn a_grant_opens_no_leg_of_an_earlier_session() {
        //= spec/rvi.md#epochs-of-a-pair
        //= type=test
        //# A leg between two nodes MUST carry the epoch of the association that it was made for, and an end MUST take a leg
        //# or a grant only into the association of that epoch: it ends one of another epoch first.
        passes("a_grant_opens_no_leg_of_an_earlier_session");
    }

    #[test]
    fn direct_traffic_goes_on_while_the_control_node_is_dead() {
        passes("direct_traffic_goes_on_while_the_control_node_is_dead");
    }

    #[test]
    fn a_leg_lost_while_the_control_node_is_dead_comes_back_with_it() {
        passes("a_leg_lost_while_the_control_node_is_dead_comes_back_with_it");
    }

    #[test]
    fn a_barrier_whose_control_node_dies_keeps_order() {
        passes("a_barrier_whose_control_node_dies_keeps_order");
    }
}
