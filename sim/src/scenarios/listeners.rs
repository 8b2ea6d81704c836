//! Promiscuous listeners: a copy of each unicast frame once and in order, whichever way it goes and whatever happens.

use vlan_core::DropReason;

use super::{Scenario, boot, boot_to_direct, ms};
use crate::checker::Violation;
use crate::plan::Plan;
use crate::simulation::Simulation;
use crate::world::World;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_listener_gets_each_unicast_frame_once_and_in_order",
        plan: four,
        script: ways_change,
    },
    Scenario {
        name: "a_listener_over_a_network_gets_each_unicast_frame_once_and_in_order",
        plan: apart,
        script: ways_change,
    },
    Scenario { name: "a_listener_outlives_its_control_node", plan: four, script: control_node_restarts },
    Scenario { name: "listeners_come_and_go_and_die", plan: two_listeners, script: listeners_change },
    Scenario { name: "a_listener_whose_device_is_full_harms_nobody", plan: four, script: device_full },
    Scenario { name: "who_may_not_listen_gets_nothing", plan: nobody, script: not_permitted },
    Scenario { name: "who_ends_listening_between_two_legs_is_heard", plan: four, script: ends_between_legs },
];

/// The last one may listen, and does.
fn four(seed: u64) -> Plan {
    Plan::calm(seed, 4).with_listeners(&[3])
}

/// The listener and another one are on hosts of their own.
fn apart(seed: u64) -> Plan {
    four(seed).with_elsewhere(&[1, 3])
}

fn two_listeners(seed: u64) -> Plan {
    Plan::calm(seed, 4).with_listeners(&[0, 3])
}

fn nobody(seed: u64) -> Plan {
    Plan::calm(seed, 4)
}

/// No copy was lost with its listener.
fn expect_no_copy_lost(world: &World) -> Result<(), Violation> {
    world.expect_none_of(&[DropReason::ListenerGone])
}

/// The listener has lost its legs and is about to get another one when it says, once, that it listens no more.
fn ends_between_legs(world: &mut World) -> Result<(), Violation> {
    boot(world)?;
    world.start_traffic();
    world.run_for(ms(100))?;
    world.pause_control(ms(60));
    for leg in [0, 1] {
        world.hang_up_control_leg(3, leg);
        world.run_for(ms(5))?;
    }
    world.set_promiscuous(3, false);
    world.run_for(ms(200))
}

/// The way to the listener goes from relay to direct and back, and its legs come and go.
fn ways_change(world: &mut World) -> Result<(), Violation> {
    boot(world)?;
    world.start_traffic();
    world.run_for(ms(300))?;
    for leg in [0, 1, 0] {
        world.hang_up_leg(0, 3, leg);
        world.run_for(ms(30))?;
    }
    for other in [0, 1, 2] {
        world.cut(Plan::number(other), Plan::number(3), None);
        world.run_for(ms(120))?;
        world.heal(Plan::number(other), Plan::number(3));
        world.run_for(ms(250))?;
    }
    world.stop_traffic();
    world.run_for(ms(50))?;
    world.expect_copied(500)?;
    expect_no_copy_lost(world)?;
    world.expect_nothing_lost()
}

fn control_node_restarts(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    for before_publishing in [true, false, true] {
        world.run_for(ms(50))?;
        world.kill_control_in_next_batch(before_publishing);
        world.run_for(ms(20))?;
        let before = world.copied();
        world.run_for(ms(100))?;
        if world.copied() < before + 50 {
            return Err(world.no_copies());
        }
        world.start_control_again();
        world.run_for(ms(800))?;
        let before = world.copied();
        world.run_for(ms(100))?;
        if world.copied() < before + 50 {
            return Err(world.no_copies());
        }
    }
    Ok(())
}

fn listeners_change(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    for round in 0..4 {
        world.set_promiscuous(3, false);
        world.run_for(ms(20))?;
        world.set_promiscuous(0, round % 2 == 0);
        world.run_for(ms(40))?;
        world.set_promiscuous(3, true);
        world.run_for(ms(40))?;
        world.kill_node_at(3);
        world.run_for(ms(30))?;
        world.start_node_again(3);
        world.run_for(ms(300))?;
        let before = world.copied();
        world.run_for(ms(100))?;
        if world.copied() < before + 50 {
            return Err(world.no_copies());
        }
    }
    Ok(())
}

fn device_full(world: &mut World) -> Result<(), Violation> {
    boot_to_direct(world)?;
    world.make_device_refuse(3, 100);
    world.run_for(ms(100))?;
    world.expect_none_of(&[DropReason::Expired, DropReason::EgressFull, DropReason::PeerGone])?;
    world.make_device_refuse(3, 0);
    world.run_for(ms(100))
}

fn not_permitted(world: &mut World) -> Result<(), Violation> {
    world.set_promiscuous(3, true);
    boot_to_direct(world)?;
    world.run_for(ms(100))?;
    // Nobody has made a copy that had to be refused.
    world.expect_none_of(&[DropReason::NotListening, DropReason::ListenerFull])?;
    world.expect_nothing_lost()
}

#[cfg(test)]
mod tests {
    use crate::scenarios::testing::passes;

    #[test]
    fn a_listener_gets_each_unicast_frame_once_and_in_order() {
        passes("a_listener_gets_each_unicast_frame_once_and_in_order");
    }

    #[test]
    fn a_listener_over_a_network_gets_each_unicast_frame_once_and_in_order() {
        passes("a_listener_over_a_network_gets_each_unicast_frame_once_and_in_order");
    }

    #[test]
    fn a_listener_outlives_its_control_node() {
        passes("a_listener_outlives_its_control_node");
    }

    #[test]
    fn listeners_come_and_go_and_die() {
        passes("listeners_come_and_go_and_die");
    }

    #[test]
    fn a_listener_whose_device_is_full_harms_nobody() {
        passes("a_listener_whose_device_is_full_harms_nobody");
    }

    #[test]
    fn who_may_not_listen_gets_nothing() {
        let outcome = passes("who_may_not_listen_gets_nothing");
        assert_eq!((outcome.audit.copies_expected, outcome.audit.copies_delivered), (0, 0));
    }
}
