//! Nodes on hosts of their own: control RVIs and direct RVIs by packets, over fabrics that lose and delay them.

use std::time::Duration;

use vlan_core::{DropReason, LegNumber};

use super::{Scenario, boot, boot_to_direct, ms};
use crate::checker::Violation;
use crate::packet::chance::Ppm;
use crate::packet::link::Overlay;
use crate::plan::Plan;
use crate::simulation::Simulation;
use crate::world::World;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_control_node_that_dies_with_frames_nobody_acknowledged_loses_none",
        plan: relay_only,
        script: dies_with_unacknowledged_frames,
    },
    Scenario {
        name: "a_control_node_that_is_asked_to_end_tells_its_nodes_and_loses_nothing",
        plan: relay_only,
        script: control_node_leaves,
    },
    Scenario {
        name: "a_control_node_that_is_asked_to_end_keeps_nothing_that_got_lost",
        plan: relay_only,
        script: control_node_leaves_under_loss,
    },
    Scenario {
        name: "what_opens_a_channel_is_overtaken_and_nothing_is_refused",
        plan: broadcasts,
        script: overtaken_configuration,
    },
    Scenario {
        name: "the_first_frames_of_a_member_overtake_the_word_of_its_coming",
        plan: relay_only,
        script: comes_for_the_first_time,
    },
    Scenario {
        name: "frames_of_a_process_that_has_ended_come_once",
        plan: mixed,
        script: sends_again_and_dies,
    },
    Scenario {
        name: "one_fabric_dies_between_hosts_and_nothing_is_lost",
        plan: apart,
        script: one_fabric_dies,
    },
    Scenario { name: "a_host_that_was_on_no_fabric_comes_back", plan: mixed, script: isolated_and_back },
    Scenario {
        name: "hosts_find_a_control_node_that_was_started_again_through_loss",
        plan: mixed,
        script: restarts_under_loss,
    },
    Scenario {
        name: "hosts_go_on_directly_while_the_control_node_is_dead",
        plan: apart,
        script: direct_without_control_node,
    },
    Scenario {
        name: "a_cut_and_a_heal_between_hosts_lose_nothing_under_loss",
        plan: apart,
        script: cut_and_heal_under_loss,
    },
    Scenario {
        name: "a_node_of_another_host_that_is_asked_to_end_costs_nobody_anything",
        plan: mixed,
        script: leaves_under_loss,
    },
    Scenario {
        name: "a_packet_leg_that_was_cut_is_back_with_the_shared_memory_in_its_place",
        plan: brisk,
        script: cut_packet_legs_behind_shared_memory,
    },
    Scenario {
        name: "a_packet_leg_that_was_cut_is_back_when_its_shared_memory_gets_lost",
        plan: brisk,
        script: heals_and_introduces_in_vain,
    },
];

/// Three nodes, each on a host of its own.
fn apart(seed: u64) -> Plan {
    Plan::calm(seed, 3).with_elsewhere(&[0, 1, 2])
}

/// Two nodes on the host of the control node, two elsewhere.
fn mixed(seed: u64) -> Plan {
    Plan::calm(seed, 4).with_elsewhere(&[1, 3])
}

/// Mostly group traffic.
fn relay_only(seed: u64) -> Plan {
    let mut plan = mixed(seed);
    plan.traffic.group_flows = 2;
    plan
}

fn broadcasts(seed: u64) -> Plan {
    let mut plan = mixed(seed);
    plan.traffic.group_flows = 2;
    plan.traffic.interval = Duration::from_micros(300);
    plan
}

/// Pairs that send more often than a leg to the control node is away for.
fn brisk(seed: u64) -> Plan {
    let mut plan = mixed(seed);
    plan.traffic.interval = Duration::from_micros(300);
    plan
}

fn cut_all(world: &mut World) {
    for a in 0..world.plan.nodes {
        for b in a + 1..world.plan.nodes {
            world.cut(Plan::number(a), Plan::number(b), None);
        }
    }
}

/// Nothing gets to one node for a while that is shorter than frames live; then the control node dies with all that it had
/// for that node.
fn dies_with_unacknowledged_frames(world: &mut World) -> Result<(), Violation> {
    boot(world)?;
    cut_all(world);
    world.start_traffic();
    for _ in 0..5 {
        world.run_for(ms(30))?;
        world.lay_towards(1, Overlay::Dead, ms(25));
        world.run_for(ms(15))?;
        world.kill_control();
        world.run_for(ms(20))?;
        world.start_control_again();
        world.run_for(ms(300))?;
    }
    Ok(())
}

/// The control node ends and is started again, as when its program is replaced, while everything goes by it.
fn control_node_leaves(world: &mut World) -> Result<(), Violation> {
    boot(world)?;
    cut_all(world);
    world.start_traffic();
    for _ in 0..6 {
        world.run_for(ms(40))?;
        world.stop_control();
        // Far less than the second of silence after which nodes take a session for over.
        world.run_for(ms(4))?;
        world.expect_detached()?;
        world.start_control_again();
        world.run_for(ms(60))?;
    }
    world.expect_nothing_lost()
}

/// The same while one node hears nothing, and then while all packets get lost now and then.
fn control_node_leaves_under_loss(world: &mut World) -> Result<(), Violation> {
    boot(world)?;
    cut_all(world);
    world.start_traffic();
    for round in 0..8 {
        world.run_for(ms(40))?;
        if round < 4 {
            world.lay_towards(1, Overlay::Dead, ms(15));
            world.run_for(ms(3))?;
        } else {
            world.lay_everywhere(Overlay::Loss(Ppm::percent(10)));
        }
        world.stop_control();
        world.run_for(ms(30))?;
        world.start_control_again();
        world.run_for(ms(300))?;
    }
    Ok(())
}

/// Nodes come and go while everybody broadcasts, and packets overtake each other: frames reach a node before its
/// configuration does.
fn overtaken_configuration(world: &mut World) -> Result<(), Violation> {
    boot(world)?;
    cut_all(world);
    world.start_traffic();
    world.lay_everywhere(Overlay::Loss(Ppm::percent(10)));
    world.lay_everywhere(Overlay::Reordering(Ppm::percent(30), Duration::from_micros(500)));
    for round in 0..12 {
        let node = 1 + 2 * (round % 2);
        world.kill_node_at(node);
        world.run_for(ms(5))?;
        world.start_node_again(node);
        world.run_for(ms(40))?;
    }
    Ok(())
}

/// A node that has just started, and was told of its LAN by a control node that has just started, hears a member before it
/// hears of it.
fn comes_for_the_first_time(world: &mut World) -> Result<(), Violation> {
    boot(world)?;
    cut_all(world);
    world.start_traffic();
    world.lay_everywhere(Overlay::Loss(Ppm::percent(20)));
    world.lay_everywhere(Overlay::Reordering(Ppm::percent(50), Duration::from_micros(500)));
    for round in 0..8 {
        let (hears, comes) = if round % 2 == 0 { (3, 1) } else { (1, 3) };
        world.kill_control();
        world.kill_node_at(hears);
        world.kill_node_at(comes);
        world.run_for(ms(5))?;
        world.start_control_again();
        world.start_node_again(hears);
        world.run_for(ms(60))?;
        world.start_node_again(comes);
        world.run_for(ms(60))?;
    }
    world.expect_none_of(&[DropReason::NotMember])
}

/// A control node delivers and dies; the sender sends again by the next one and dies; the receiver sleeps meanwhile.
fn sends_again_and_dies(world: &mut World) -> Result<(), Violation> {
    boot(world)?;
    cut_all(world);
    world.start_traffic();
    for _ in 0..6 {
        world.run_for(ms(30))?;
        world.kill_control_in_next_batch(false);
        world.run_for(ms(10))?;
        world.start_control_again();
        world.pause_node(3, ms(150));
        world.run_for(ms(100))?;
        world.kill_node_at(1);
        world.run_for(ms(5))?;
        world.start_node_again(1);
        world.run_for(ms(200))?;
    }
    Ok(())
}

fn one_fabric_dies(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    for leg in [0, 1, 0] {
        let leg = vlan_core::LegNumber(leg);
        for node in 0..3 {
            world.isolate(node, Some(leg), ms(60));
        }
        world.isolate_control(Some(leg), ms(60));
        world.run_for(ms(40))?;
        world.expect_direct(0, 1)?;
        world.run_for(ms(500))?;
    }
    world.expect_nothing_lost()
}

fn isolated_and_back(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    for lasts in [30, 300, 1400] {
        world.isolate(1, None, ms(lasts));
        world.run_for(ms(lasts + 100))?;
        world.isolate_control(None, ms(lasts));
        world.run_for(ms(lasts + 600))?;
    }
    Ok(())
}

fn restarts_under_loss(world: &mut World) -> Result<(), Violation> {
    world.lay_everywhere(Overlay::Loss(Ppm::percent(20)));
    boot(world)?;
    world.start_traffic();
    for calls in 0..12 {
        world.run_for(ms(60))?;
        world.kill_control_after_calls(3 * calls);
        world.run_for(ms(10))?;
        world.start_control_again();
    }
    world.run_for(ms(300))
}

fn direct_without_control_node(world: &mut World) -> Result<(), Violation> {
    world.lay_everywhere(Overlay::Loss(Ppm::percent(3)));
    boot_to_direct(world)?;
    world.expect_both_legs(0, 1)?;
    world.kill_control();
    // Long enough for the session to be over: the direct RVIs must not be.
    world.run_for(ms(1500))?;
    for (a, b) in [(0, 1), (1, 2), (0, 2)] {
        world.expect_direct(a, b)?;
    }
    world.start_control_again();
    world.run_for(ms(900))?;
    world.expect_direct(0, 1)
}

fn cut_and_heal_under_loss(world: &mut World) -> Result<(), Violation> {
    world.lay_everywhere(Overlay::Loss(Ppm::percent(10)));
    boot_to_direct(world)?;
    for _ in 0..5 {
        world.cut(Plan::number(0), Plan::number(1), None);
        world.run_for(ms(40))?;
        world.heal(Plan::number(0), Plan::number(1));
        world.run_for(ms(80))?;
    }
    world.expect_nothing_lost()
}

fn leaves_under_loss(world: &mut World) -> Result<(), Violation> {
    world.lay_everywhere(Overlay::Loss(Ppm::percent(10)));
    boot_to_direct(world)?;
    for round in 0..4 {
        let node = 1 + 2 * (round % 2);
        world.stop_node_at(node);
        world.run_for(ms(1100))?;
        if world.is_alive(node) {
            return Err(world.still_there(node));
        }
        world.expect_all_arrived_from(node)?;
        world.start_node_again(node);
        world.run_for(ms(200))?;
    }
    Ok(())
}

/// A pair of one host is granted its direct RVI while a leg of one end to the control node is away: packets there, and then
/// shared memory in their place. That leg is cut and healed; whether all legs are back is judged last.
fn cut_packet_legs_behind_shared_memory(world: &mut World) -> Result<(), Violation> {
    cut_and_heal_behind_shared_memory(world, false)
}

/// The same, and the memory that the nodes are given at the heal does not reach them.
fn heals_and_introduces_in_vain(world: &mut World) -> Result<(), Violation> {
    cut_and_heal_behind_shared_memory(world, true)
}

fn cut_and_heal_behind_shared_memory(world: &mut World, gets_lost: bool) -> Result<(), Violation> {
    let (a, b) = (Plan::number(0), Plan::number(2));
    boot_to_direct(world)?;
    world.cut(a, b, None);
    world.run_for(ms(100))?;
    world.hang_up_control_leg(0, 0);
    world.run_for(Duration::from_micros(100))?;
    world.heal(a, b);
    world.run_for(ms(100))?;
    world.cut(a, b, Some(LegNumber(0)));
    world.run_for(ms(50))?;
    world.lose_introductions(gets_lost);
    world.heal(a, b);
    // Legs on which nothing is sent are probed once a second.
    world.run_for(ms(1500))
}

#[cfg(test)]
mod tests {
    use super::DropReason;
    use crate::scenarios::testing::{passes, passes_from};

    #[test]
    fn a_control_node_that_dies_with_frames_nobody_acknowledged_loses_none() {
        //= spec/server.md#acknowledged-frames
        //= type=test
        //# A control node MUST NOT settle a frame that it relays in packets with its sender before the receiver has acknowledged
        //# it, or has not done so for 50 ms.
        passes("a_control_node_that_dies_with_frames_nobody_acknowledged_loses_none");
    }

    #[test]
    fn a_control_node_that_is_asked_to_end_tells_its_nodes_and_loses_nothing() {
        passes("a_control_node_that_is_asked_to_end_tells_its_nodes_and_loses_nothing");
    }

    #[test]
    fn a_control_node_that_is_asked_to_end_keeps_nothing_that_got_lost() {
        passes("a_control_node_that_is_asked_to_end_keeps_nothing_that_got_lost");
    }

    #[test]
    fn what_opens_a_channel_is_overtaken_and_nothing_is_refused() {
        let outcome = passes("what_opens_a_channel_is_overtaken_and_nothing_is_refused");
        assert_eq!(outcome.drops.of(DropReason::NoChannel), 0, "{:?}", outcome.drops);
    }

    #[test]
    fn the_first_frames_of_a_member_overtake_the_word_of_its_coming() {
        //= spec/server.md#members-that-are-named
        //= type=test
        //# A control node MUST name every other member of its LANs to a node that it accepts, also those that are not attached.
        //= spec/driver.md#frames-before-the-configuration
        //= type=test
        //# A node MUST take no frame from a control node in a session before it has heard the end of its configuration.
        passes_from("the_first_frames_of_a_member_overtake_the_word_of_its_coming", 1);
    }

    #[test]
    fn frames_of_a_process_that_has_ended_come_once() {
        //= spec/driver.md#frames-of-former-processes
        //= type=test
        //# The driver MUST judge a numbered frame by the numbers of the process that sent it, also when another process serves the
        //# member by now.
        passes_from("frames_of_a_process_that_has_ended_come_once", 1);
    }

    #[test]
    fn one_fabric_dies_between_hosts_and_nothing_is_lost() {
        passes("one_fabric_dies_between_hosts_and_nothing_is_lost");
    }

    #[test]
    fn a_host_that_was_on_no_fabric_comes_back() {
        passes("a_host_that_was_on_no_fabric_comes_back");
    }

    #[test]
    fn hosts_find_a_control_node_that_was_started_again_through_loss() {
        passes("hosts_find_a_control_node_that_was_started_again_through_loss");
    }

    #[test]
    fn hosts_go_on_directly_while_the_control_node_is_dead() {
        passes("hosts_go_on_directly_while_the_control_node_is_dead");
    }

    #[test]
    fn a_cut_and_a_heal_between_hosts_lose_nothing_under_loss() {
        passes("a_cut_and_a_heal_between_hosts_lose_nothing_under_loss");
        // Here the last word of one end is lost by both legs.
        passes_from("a_cut_and_a_heal_between_hosts_lose_nothing_under_loss", 22);
    }

    #[test]
    fn a_node_of_another_host_that_is_asked_to_end_costs_nobody_anything() {
        passes("a_node_of_another_host_that_is_asked_to_end_costs_nobody_anything");
    }

    #[test]
    fn a_packet_leg_that_was_cut_is_back_with_the_shared_memory_in_its_place() {
        // Here the direct RVI is granted while the leg is away.
        passes_from("a_packet_leg_that_was_cut_is_back_with_the_shared_memory_in_its_place", 2);
    }

    #[test]
    fn a_packet_leg_that_was_cut_is_back_when_its_shared_memory_gets_lost() {
        passes_from("a_packet_leg_that_was_cut_is_back_when_its_shared_memory_gets_lost", 2);
    }
}
