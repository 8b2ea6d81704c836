//! Another file is applied while everything runs: options of LANs and of members change, and nothing that both files allow is lost.

use vlan_core::DropReason;

use super::{Scenario, boot_to_direct, ms};
use crate::checker::Violation;
use crate::plan::{LanPlan, Plan};
use crate::simulation::Simulation;
use crate::world::World;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_lan_that_begins_to_check_addresses_loses_nothing",
        plan: four,
        script: begins_and_ends_to_check,
    },
    Scenario {
        name: "a_lan_on_several_hosts_that_begins_to_check_addresses_loses_nothing",
        plan: apart,
        script: begins_and_ends_to_check,
    },
    Scenario {
        name: "a_node_that_was_away_when_addresses_began_to_be_checked_loses_nothing",
        plan: four,
        script: begins_to_check_unseen,
    },
    Scenario { name: "a_lan_with_another_mtu_keeps_its_direct_rvis", plan: apart, script: other_mtus },
    Scenario {
        name: "who_has_joined_gets_its_groups_while_they_are_sorted_or_not",
        plan: four,
        script: sorts_and_floods,
    },
    Scenario {
        name: "a_promiscuous_member_gets_copies_exactly_while_it_may",
        plan: apart,
        script: may_and_may_not_listen,
    },
    Scenario { name: "requests_are_answered_and_relayed_in_turn", plan: apart, script: answers_and_relays },
];

fn four(seed: u64) -> Plan {
    Plan::calm(seed, 4)
}

fn apart(seed: u64) -> Plan {
    Plan::calm(seed, 4).with_elsewhere(&[0, 3])
}

fn change(world: &mut World, change: impl FnOnce(&mut LanPlan)) {
    let now = world.now();
    world.change_lan(now, 0, change);
}

/// No frame was refused for its source, and none was lost.
fn expect_nothing_refused(world: &mut World) -> Result<(), Violation> {
    world.stop_traffic();
    world.run_for(ms(50))?;
    world.expect_none_of(&[DropReason::SourceAddress, DropReason::SourceMac])?;
    world.expect_nothing_lost()
}

fn begins_and_ends_to_check(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    for round in 0..8 {
        change(world, |lan| lan.checks_addresses = !lan.checks_addresses);
        world.run_for(ms([0, 1, 40, 60][round % 4]))?;
    }
    expect_nothing_refused(world)
}

fn begins_to_check_unseen(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    for _ in 0..4 {
        world.kill_control();
        world.run_for(ms(20))?;
        change(world, |lan| lan.checks_addresses = !lan.checks_addresses);
        world.run_for(ms(20))?;
        world.start_control_again();
        world.run_for(ms(800))?;
    }
    world.stop_traffic();
    world.run_for(ms(50))?;
    world.expect_none_of(&[DropReason::SourceAddress, DropReason::SourceMac])
}

fn other_mtus(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    for mtu in [1500, 9000, 1500, 16_896, 9000] {
        change(world, |lan| lan.mtu = mtu);
        world.run_for(ms(60))?;
    }
    let before = world.long_frames_refused();
    world.run_for(ms(100))?;
    if world.long_frames_refused() > before {
        return Err(world.stuck_after_apply("frames are still too long"));
    }
    Ok(())
}

fn sorts_and_floods(world: &mut World) -> Result<(), Violation> {
    world.add_streams(0);
    world.join(1);
    boot_to_direct(world)?;
    for round in 0..6 {
        change(world, |lan| lan.floods = !lan.floods);
        world.run_for(ms(40))?;
        let now = world.now();
        world.give_every_group(now, 2, round % 3 == 0);
        world.run_for(ms(40))?;
    }
    world.expect_streamed(150)?;
    world.stop_traffic();
    world.run_for(ms(50))?;
    world.expect_nothing_lost()
}

fn may_and_may_not_listen(world: &mut World) -> Result<(), Violation> {
    world.set_promiscuous(3, true);
    boot_to_direct(world)?;
    for may_listen in [true, false, true, false] {
        let now = world.now();
        world.permit(now, 3, may_listen);
        world.run_for(ms(40))?;
        let before = world.copied();
        world.run_for(ms(100))?;
        let copied = world.copied() - before;
        if may_listen && copied < 50 || !may_listen && copied > 0 {
            return Err(world.stuck_after_apply("it listens while it may not, or the other way round"));
        }
    }
    world.stop_traffic();
    world.run_for(ms(50))?;
    world.expect_nothing_lost()
}

fn answers_and_relays(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    for _ in 0..8 {
        change(world, |lan| lan.suppresses_arp = !lan.suppresses_arp);
        // Longer than a neighbour is remembered without a probe.
        world.run_for(ms(90))?;
    }
    world.stop_traffic();
    world.run_for(ms(50))?;
    world.expect_nothing_lost()
}

#[cfg(test)]
mod tests {
    use crate::scenarios::testing::passes_from;

    #[test]
    fn options_change_under_traffic_and_nothing_is_lost_that_both_files_allow() {
        //= spec/control-node.md#changed-options-of-a-lan
        //= type=test
        //# When the options of a LAN change, its control node MUST judge by them from then on and tell each node of it; what is
        //# bound, registered or joined MUST stay known, and direct RVIs MUST stay.
        for scenario in super::SCENARIOS {
            for seed in 1..4 {
                passes_from(scenario.name, seed);
            }
        }
    }
}
