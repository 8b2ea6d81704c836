//! A LAN that is bridged to a network outside.

use super::{Scenario, boot, boot_to_direct, ms};
use crate::checker::Violation;
use crate::plan::{OutsidePlan, Plan};
use crate::simulation::Simulation;
use crate::world::World;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "members_and_outside_talk_and_outside_sees_one_mac", plan: filtered, script: talks },
    Scenario {
        name: "members_and_outside_talk_and_outside_sees_the_virtual_macs",
        plan: unfiltered,
        script: talks,
    },
    Scenario {
        name: "a_control_node_with_an_uplink_dies_and_comes_back",
        plan: filtered,
        script: control_node_dies,
    },
    Scenario { name: "members_behind_an_uplink_come_and_go", plan: unfiltered, script: members_come_and_go },
    Scenario { name: "an_uplink_comes_goes_and_changes", plan: filtered, script: uplink_changes },
    Scenario { name: "a_device_loses_its_carrier_and_gets_it_back", plan: filtered, script: carrier_goes },
    Scenario {
        name: "hosts_of_their_own_reach_outside_by_packets",
        plan: |seed| filtered(seed).with_elsewhere(&[0, 2]),
        script: control_node_dies,
    },
];

fn filtered(seed: u64) -> Plan {
    Plan::calm(seed, 3).with_outside(OutsidePlan::Filtered)
}

fn unfiltered(seed: u64) -> Plan {
    Plan::calm(seed, 3).with_outside(OutsidePlan::Unfiltered).with_listeners(&[2])
}

fn talks(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    world.run_for(ms(200))
}

fn control_node_dies(world: &mut World) -> Result<(), Violation> {
    boot(world)?;
    world.start_traffic();
    for _ in 0..4 {
        world.run_for(ms(60))?;
        world.kill_control_in_next_batch(false);
        world.run_for(ms(20))?;
        world.start_control_again();
        world.run_for(ms(80))?;
    }
    Ok(())
}

fn members_come_and_go(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    for _ in 0..4 {
        let (now, last) = (world.now(), world.last_station_of(1));
        world.remove_membership(now, last);
        world.run_for(ms(40))?;
        let now = world.now();
        world.add_membership(now, 1, 0);
        world.run_for(ms(80))?;
    }
    Ok(())
}

fn uplink_changes(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    let plans = [None, Some(OutsidePlan::Unfiltered), Some(OutsidePlan::Filtered)];
    for plan in plans.into_iter().cycle().take(7) {
        world.change_uplink(plan);
        world.run_for(ms(60))?;
    }
    Ok(())
}

fn carrier_goes(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    for _ in 0..3 {
        world.set_carrier(false);
        world.run_for(ms(40))?;
        world.set_carrier(true);
        world.run_for(ms(60))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::scenarios::testing::{passes, passes_from};

    #[test]
    fn members_and_outside_talk_and_outside_sees_one_mac() {
        passes("members_and_outside_talk_and_outside_sees_one_mac");
    }

    #[test]
    fn members_and_outside_talk_and_outside_sees_the_virtual_macs() {
        passes("members_and_outside_talk_and_outside_sees_the_virtual_macs");
    }

    #[test]
    fn a_control_node_with_an_uplink_dies_and_comes_back() {
        //= spec/arena.md#frames-without-numbers
        //= type=test
        //# A control node MUST NOT put a frame into an arena that comes from outside.
        // Here a frame from outside would come twice if it lay in an arena.
        passes_from("a_control_node_with_an_uplink_dies_and_comes_back", 54);
    }

    #[test]
    fn members_behind_an_uplink_come_and_go() {
        passes("members_behind_an_uplink_come_and_go");
    }

    #[test]
    fn an_uplink_comes_goes_and_changes() {
        //= spec/control-node.md#changed-uplinks
        //= type=test
        //# When an applied file gives a LAN an uplink, takes it away or changes it, a control node MUST carry the LAN's frames as the
        //# file says from then on, tell outside who is where, and lose no frame of another LAN or between members.
        passes("an_uplink_comes_goes_and_changes");
    }

    #[test]
    fn a_device_loses_its_carrier_and_gets_it_back() {
        passes("a_device_loses_its_carrier_and_gets_it_back");
    }

    #[test]
    fn hosts_of_their_own_reach_outside_by_packets() {
        passes("hosts_of_their_own_reach_outside_by_packets");
    }
}
