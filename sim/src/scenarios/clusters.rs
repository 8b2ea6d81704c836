//! A cluster address that several members serve.

use vlan_core::cluster::Balance;

use super::{Scenario, boot, ms};
use crate::checker::Violation;
use crate::plan::{OutsidePlan, Plan};
use crate::simulation::Simulation;
use crate::world::World;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "calls_are_answered_and_stay_with_their_servers", plan: hashed, script: calls },
    Scenario { name: "calls_from_outside_are_answered", plan: filtered, script: calls },
    Scenario {
        name: "calls_from_outside_to_the_clusters_own_mac_are_answered",
        plan: unfiltered,
        script: calls,
    },
    Scenario { name: "calls_outlive_their_control_node", plan: in_turn, script: control_node_dies },
    Scenario {
        name: "calls_to_hosts_of_their_own_outlive_their_control_node",
        plan: |seed| in_turn(seed).with_elsewhere(&[0, 3]),
        script: control_node_dies,
    },
    Scenario {
        name: "a_server_that_drains_keeps_its_calls_and_gets_no_new_ones",
        plan: least,
        script: drains,
    },
    Scenario { name: "weights_change_under_calls", plan: filtered, script: weights_change },
    Scenario { name: "a_server_whose_port_closes_keeps_its_calls", plan: hashed, script: ports_close },
    Scenario {
        name: "a_server_that_hangs_gets_no_calls_until_it_answers",
        plan: in_turn,
        script: servers_hang,
    },
    Scenario {
        name: "routers_that_share_an_address_come_and_go",
        plan: |seed| hashed(seed).with_routers(),
        script: routers_come_and_go,
    },
    Scenario {
        name: "calls_by_hash_outlive_a_control_node_for_good",
        plan: |seed| hashed(seed).with_control_nodes(2),
        script: one_of_two_is_lost,
    },
    Scenario {
        name: "calls_by_least_connections_outlive_a_control_node_for_good",
        plan: |seed| least(seed).with_control_nodes(2),
        script: one_of_two_is_lost,
    },
    Scenario {
        name: "calls_in_turn_outlive_a_control_node_for_good",
        plan: |seed| in_turn(seed).with_control_nodes(2).with_elsewhere(&[0, 3]),
        script: one_of_two_is_lost,
    },
    Scenario {
        name: "calls_go_on_when_another_control_node_gets_their_cluster",
        plan: |seed| in_turn(seed).with_control_nodes(2),
        script: cluster_is_handed_over,
    },
    Scenario { name: "calls_go_on_beside_a_flood", plan: hashed, script: flood },
    Scenario {
        name: "a_segment_that_nobody_knows_is_at_four_servers_at_most",
        plan: of_six,
        script: few_asked,
    },
    Scenario { name: "a_server_that_dies_loses_its_calls_and_no_others", plan: least, script: server_dies },
    Scenario {
        name: "calls_that_found_no_room_outlive_changes_of_their_rows",
        plan: |seed| hashed(seed).with_tiny_limits(),
        script: rows_change,
    },
    Scenario {
        name: "calls_from_outside_that_found_no_room_outlive_changes_of_their_rows",
        plan: |seed| filtered(seed).with_tiny_limits().with_elsewhere(&[1]),
        script: rows_change,
    },
];

/// Three servers and two clients.
fn of(seed: u64, balance: Balance) -> Plan {
    let mut plan = Plan::calm(seed, 5).with_cluster(balance, &[0, 1, 2]);
    // Few other frames: calls are what is looked at.
    plan.traffic.interval = ms(8);
    plan
}

/// Six servers and a client.
fn of_six(seed: u64) -> Plan {
    let mut plan = Plan::calm(seed, 7).with_cluster(Balance::LeastConnections, &[0, 1, 2, 3, 4, 5]);
    plan.traffic.interval = ms(20);
    plan
}

fn hashed(seed: u64) -> Plan {
    of(seed, Balance::Hash)
}

fn in_turn(seed: u64) -> Plan {
    of(seed, Balance::RoundRobin)
}

fn least(seed: u64) -> Plan {
    of(seed, Balance::LeastConnections)
}

fn filtered(seed: u64) -> Plan {
    hashed(seed).with_outside(OutsidePlan::Filtered)
}

fn unfiltered(seed: u64) -> Plan {
    in_turn(seed).with_outside(OutsidePlan::Unfiltered).with_listeners(&[4])
}

fn begin(world: &mut World) -> Result<(), Violation> {
    boot(world)?;
    world.start_traffic();
    world.run_for(ms(150))
}

fn calls(world: &mut World) -> Result<(), Violation> {
    begin(world)?;
    world.run_for(ms(300))?;
    world.expect_calls(10)
}

fn control_node_dies(world: &mut World) -> Result<(), Violation> {
    begin(world)?;
    for _ in 0..4 {
        world.kill_control_in_next_batch(false);
        world.run_for(ms(20))?;
        world.start_control_again();
        world.run_for(ms(100))?;
    }
    world.expect_calls(10)
}

fn drains(world: &mut World) -> Result<(), Violation> {
    begin(world)?;
    for node in [0, 1, 0, 2] {
        let now = world.now();
        world.drain(now, node, true);
        world.run_for(ms(60))?;
        // Also at a control node that starts while it drains.
        world.kill_control();
        world.start_control_again();
        world.run_for(ms(60))?;
        let now = world.now();
        world.drain(now, node, false);
        world.run_for(ms(40))?;
    }
    world.expect_calls(10)
}

fn weights_change(world: &mut World) -> Result<(), Violation> {
    begin(world)?;
    for _ in 0..6 {
        let now = world.now();
        world.change_weights(now);
        world.run_for(ms(50))?;
    }
    world.expect_calls(10)
}

fn ports_close(world: &mut World) -> Result<(), Violation> {
    begin(world)?;
    for node in [0, 1, 2, 0] {
        world.open_service(node, false);
        world.run_for(ms(60))?;
        world.open_service(node, true);
        world.run_for(ms(30))?;
    }
    world.expect_calls(10)
}

fn servers_hang(world: &mut World) -> Result<(), Violation> {
    begin(world)?;
    world.judge_checks();
    for node in [0, 2, 0] {
        world.hang(node, true);
        world.run_for(ms(250))?;
        world.hang(node, false);
        world.run_for(ms(60))?;
    }
    world.expect_calls(10)
}

fn routers_come_and_go(world: &mut World) -> Result<(), Violation> {
    begin(world)?;
    for node in [0, 1, 2] {
        let now = world.now();
        world.drain(now, node, true);
        world.run_for(ms(60))?;
        world.kill_control();
        world.start_control_again();
        world.run_for(ms(60))?;
        let now = world.now();
        world.drain(now, node, false);
        world.kill_node_at(node);
        world.run_for(ms(60))?;
        world.start_node_again(node);
        world.run_for(ms(60))?;
    }
    world.expect_routed(15)
}

/// Nodes are attached to two control nodes, of which the one with the cluster dies and never comes back.
fn one_of_two_is_lost(world: &mut World) -> Result<(), Violation> {
    begin(world)?;
    let before = world.answered_calls();
    world.lose_control_for_good(0);
    world.run_for(ms(3))?;
    world.give_clusters_to(1);
    // Who has it by packets alone gives it up after a second.
    world.run_for(ms(1300))?;
    world.expect_calls(before + 1)
}

fn cluster_is_handed_over(world: &mut World) -> Result<(), Violation> {
    begin(world)?;
    for control in [1, 0, 1] {
        let before = world.answered_calls();
        world.give_clusters_to(control);
        world.run_for(ms(150))?;
        world.expect_calls(before + 1)?;
    }
    Ok(())
}

fn flood(world: &mut World) -> Result<(), Violation> {
    begin(world)?;
    world.flood_from(4);
    world.run_for(ms(300))?;
    world.expect_calls(10)
}

/// One of six servers is waited for when the control node has started, two drain, and the time in which all are asked is over.
fn few_asked(world: &mut World) -> Result<(), Violation> {
    begin(world)?;
    world.fall_silent();
    for node in [0, 1] {
        let now = world.now();
        world.drain(now, node, true);
    }
    world.kill_node_at(5);
    world.kill_control();
    world.start_control_again();
    world.run_for(ms(1000))?;
    world.expect_few_asked(6, 60)
}

fn server_dies(world: &mut World) -> Result<(), Violation> {
    begin(world)?;
    for node in [0, 2, 1] {
        world.kill_node_at(node);
        world.run_for(ms(80))?;
        world.start_node_again(node);
        world.run_for(ms(80))?;
    }
    world.expect_calls(10)
}

fn rows_change(world: &mut World) -> Result<(), Violation> {
    begin(world)?;
    for node in [0, 1, 2, 0] {
        let now = world.now();
        world.drain(now, node, true);
        world.run_for(ms(60))?;
        let now = world.now();
        world.change_weights(now);
        world.drain(now, node, false);
        world.run_for(ms(60))?;
    }
    world.expect_calls(10)?;
    world.expect_given_back(20)
}

#[cfg(test)]
mod tests {
    use crate::scenarios::testing::passes;

    #[test]
    fn calls_are_answered_and_stay_with_their_servers() {
        passes("calls_are_answered_and_stay_with_their_servers");
    }

    #[test]
    fn calls_from_outside_are_answered() {
        passes("calls_from_outside_are_answered");
    }

    #[test]
    fn calls_from_outside_to_the_clusters_own_mac_are_answered() {
        passes("calls_from_outside_to_the_clusters_own_mac_are_answered");
    }

    #[test]
    fn calls_outlive_their_control_node() {
        passes("calls_outlive_their_control_node");
    }

    #[test]
    fn calls_to_hosts_of_their_own_outlive_their_control_node() {
        passes("calls_to_hosts_of_their_own_outlive_their_control_node");
    }

    #[test]
    fn a_server_that_drains_keeps_its_calls_and_gets_no_new_ones() {
        passes("a_server_that_drains_keeps_its_calls_and_gets_no_new_ones");
    }

    #[test]
    fn weights_change_under_calls() {
        passes("weights_change_under_calls");
    }

    #[test]
    fn a_server_whose_port_closes_keeps_its_calls() {
        passes("a_server_whose_port_closes_keeps_its_calls");
    }

    #[test]
    fn a_server_that_hangs_gets_no_calls_until_it_answers() {
        //= spec/cluster.md#health
        //= type=test
        //# A server MUST fail its check after as many failures in a row as configured, and pass it again after as many successes; an answer that has not come when the next check is due is a failure.
        passes("a_server_that_hangs_gets_no_calls_until_it_answers");
    }

    #[test]
    fn routers_that_share_an_address_come_and_go() {
        //= spec/cluster.md#routers
        //= type=test
        //# A packet to the MAC of a cluster address that is for none of the cluster's addresses MUST go to the first router of its row that can be reached and does not drain, and be dropped as `unknown-destination` where the cluster has no routers.
        passes("routers_that_share_an_address_come_and_go");
    }

    #[test]
    fn calls_by_hash_outlive_a_control_node_for_good() {
        passes("calls_by_hash_outlive_a_control_node_for_good");
    }

    #[test]
    fn calls_by_least_connections_outlive_a_control_node_for_good() {
        passes("calls_by_least_connections_outlive_a_control_node_for_good");
    }

    #[test]
    fn calls_in_turn_outlive_a_control_node_for_good() {
        passes("calls_in_turn_outlive_a_control_node_for_good");
    }

    #[test]
    fn calls_go_on_when_another_control_node_gets_their_cluster() {
        passes("calls_go_on_when_another_control_node_gets_their_cluster");
    }

    #[test]
    fn calls_go_on_beside_a_flood() {
        passes("calls_go_on_beside_a_flood");
    }

    #[test]
    fn a_segment_that_nobody_knows_is_at_four_servers_at_most() {
        passes("a_segment_that_nobody_knows_is_at_four_servers_at_most");
    }

    #[test]
    fn a_server_that_dies_loses_its_calls_and_no_others() {
        passes("a_server_that_dies_loses_its_calls_and_no_others");
    }

    #[test]
    fn calls_that_found_no_room_outlive_changes_of_their_rows() {
        passes("calls_that_found_no_room_outlive_changes_of_their_rows");
    }

    #[test]
    fn calls_from_outside_that_found_no_room_outlive_changes_of_their_rows() {
        passes("calls_from_outside_that_found_no_room_outlive_changes_of_their_rows");
    }
}
