//! Full rings, slow and stopped consumers, refusing devices, and those who do not belong.

use std::time::Duration;

use rvi::ShmConfig;
use vlan_core::LanId;

use super::{Scenario, boot, boot_to_direct, ms};
use crate::checker::Violation;
use crate::coverage::Fault;
use crate::plan::{LanPlan, Plan};
use crate::simulation::Simulation;
use crate::world::World;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "two_relays_full_both_ways_do_not_lock", plan: full_relay, script: full_both_ways },
    Scenario { name: "expiry_under_a_full_window", plan: tiny_rings, script: expiry },
    Scenario { name: "resend_behind_a_full_ring", plan: tiny_rings, script: resend_behind_full },
    Scenario {
        name: "a_consumer_that_stops_stops_nobody_else",
        plan: |seed| Plan::calm(seed, 4),
        script: stopped_consumer,
    },
    Scenario { name: "a_device_that_refuses_is_counted", plan: |seed| Plan::calm(seed, 2), script: refusing },
    Scenario { name: "a_non_member_gets_nothing", plan: two_lans, script: boot_to_direct },
    Scenario { name: "a_hostile_node_harms_nobody_else", plan: with_hostile, script: boot_to_direct_and_on },
    Scenario {
        name: "nobody_believes_a_hostile_node_where_addresses_are_checked",
        plan: with_checked_hostile,
        script: forging,
    },
];

fn tiny_rings(seed: u64) -> Plan {
    let mut plan = Plan::calm(seed, 2);
    let tiny = ShmConfig { slots_log2: 3, arena_len: 1 << 18 };
    (plan.control_rings, plan.pair_rings) = (tiny, tiny);
    plan.traffic.interval = Duration::from_micros(400);
    plan.traffic.burst_max = 8;
    plan.traffic.large_percent = 20;
    plan
}

fn full_relay(seed: u64) -> Plan {
    let mut plan = tiny_rings(seed);
    plan.traffic.group_flows = 2;
    plan
}

/// Three nodes in one LAN, two of them and a fourth in another; frames between the LANs are tried.
fn two_lans(seed: u64) -> Plan {
    let mut plan = Plan::calm(seed, 5);
    plan.lans[0].members = vec![0, 1, 2];
    let lan = LanPlan::calm(LanId(20), 1500, vec![1, 2, 3]);
    plan.lans.push(LanPlan { checks_addresses: true, ..lan });
    plan.traffic.misdirected_flows = 8;
    plan
}

fn with_hostile(seed: u64) -> Plan {
    let mut plan = Plan::calm(seed, 4);
    plan.hostile = Some(2);
    plan.fault_menu = vec![Fault::Hostile];
    plan
}

fn with_checked_hostile(seed: u64) -> Plan {
    let mut plan = with_hostile(seed);
    plan.lans[0].checks_addresses = true;
    plan
}

fn forging(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    world.run_for(ms(300))?;
    world.expect_refused_sources(20)
}

fn boot_to_direct_and_on(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    world.run_for(ms(300))
}

fn full_both_ways(world: &mut World) -> Result<(), Violation> {
    boot(world)?;
    world.cut(Plan::number(0), Plan::number(1), None);
    world.start_traffic();
    for _ in 0..4 {
        world.pause_node(0, ms(25));
        world.pause_node(1, ms(25));
        world.run_for(ms(40))?;
        world.pause_control(ms(25));
        world.run_for(ms(40))?;
    }
    Ok(())
}

fn expiry(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    for _ in 0..3 {
        world.pause_node(1, ms(150));
        world.run_for(ms(220))?;
    }
    Ok(())
}

fn resend_behind_full(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    for round in 0..6 {
        world.pause_node(1, ms(12));
        world.run_for(ms(6))?;
        world.hang_up_leg(0, 1, round % 2);
        world.run_for(ms(30))?;
    }
    Ok(())
}

fn stopped_consumer(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    world.pause_node(3, ms(400));
    world.run_for(ms(400))?;
    world.expect_direct(0, 1)
}

fn refusing(world: &mut World) -> Result<(), Violation> {
    boot(world)?;
    world.make_device_refuse(1, 30);
    world.start_traffic();
    world.run_for(ms(100))
}

#[cfg(test)]
mod tests {
    use crate::scenarios::testing::passes;

    #[test]
    fn two_relays_full_both_ways_do_not_lock() {
        passes("two_relays_full_both_ways_do_not_lock");
    }

    #[test]
    fn expiry_under_a_full_window() {
        let outcome = passes("expiry_under_a_full_window");
        assert!(outcome.drops.of(vlan_core::DropReason::Expired) > 0, "nothing expired: {:?}", outcome.drops);
    }

    #[test]
    fn resend_behind_a_full_ring() {
        passes("resend_behind_a_full_ring");
    }

    #[test]
    fn a_consumer_that_stops_stops_nobody_else() {
        passes("a_consumer_that_stops_stops_nobody_else");
    }

    #[test]
    fn a_device_that_refuses_is_counted() {
        let outcome = passes("a_device_that_refuses_is_counted");
        assert!(outcome.audit.device_full > 0, "{:?}", outcome.audit);
    }

    #[test]
    fn a_non_member_gets_nothing() {
        passes("a_non_member_gets_nothing");
    }

    #[test]
    fn a_hostile_node_harms_nobody_else() {
        passes("a_hostile_node_harms_nobody_else");
    }

    #[test]
    fn nobody_believes_a_hostile_node_where_addresses_are_checked() {
        passes("nobody_believes_a_hostile_node_where_addresses_are_checked");
    }
}
