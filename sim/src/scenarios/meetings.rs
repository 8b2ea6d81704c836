//! Faults in states that last for a few milliseconds only: random faults hardly ever meet them.

use std::time::Duration;

use vlan_core::LegNumber;

use super::{Scenario, boot, ms};
use crate::checker::Violation;
use crate::coverage::{Fault, PairState};
use crate::plan::Plan;
use crate::simulation::Simulation;
use crate::world::World;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "every_fault_meets_a_barrier_while_the_control_node_is_dead_or_starts",
        plan: pair,
        script: |world| meet(world, PairState::Barrier),
    },
    Scenario {
        name: "every_fault_meets_a_leaving_pair_while_the_control_node_is_dead_or_starts",
        plan: pair,
        script: |world| meet(world, PairState::Leaving),
    },
];

/// Faults that are injected at a moment. The others come with the plan, or with the weather.
const FAULTS: [Fault; 12] = [
    Fault::NodeCrash,
    Fault::Cut,
    Fault::CutLeg,
    Fault::Heal,
    Fault::PairHangUp,
    Fault::ControlHangUp,
    Fault::Pause,
    Fault::SmallBudget,
    Fault::LateTimers,
    Fault::DeviceFull,
    Fault::ConnectFailure,
    Fault::Leave,
];

/// What the control node is when the fault comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Control {
    Up,
    Down,
    Restarting,
}

fn pair(seed: u64) -> Plan {
    let mut plan = Plan::calm(seed, 2);
    plan.traffic.interval = Duration::from_micros(500);
    plan
}

fn meet(world: &mut World, state: PairState) -> Result<(), Violation> {
    boot(world)?;
    world.start_traffic();
    for fault in FAULTS {
        for control in [Control::Up, Control::Down, Control::Restarting] {
            come_to(world, state)?;
            if control != Control::Up {
                world.kill_control();
                // Long enough for the nodes to see it.
                world.run_for(Duration::from_micros(150))?;
            }
            if control == Control::Restarting {
                world.start_control_again();
            }
            if fault == Fault::Heal {
                world.cut(Plan::number(0), Plan::number(1), Some(LegNumber(1)));
            }
            let now = world.now();
            world.inject(now, fault);
            world.run_for(ms(25))?;
            world.start_control_again();
            world.run_for(ms(60))?;
        }
    }
    Ok(())
}

/// Brings the pair into a state that lasts: the second end gets its legs late, or does not run when it is to leave.
fn come_to(world: &mut World, state: PairState) -> Result<(), Violation> {
    for node in 0..2 {
        world.start_node_again(node);
    }
    let (a, b) = (Plan::number(0), Plan::number(1));
    world.heal(a, b);
    for _ in 0..8 {
        if state == PairState::Barrier {
            world.cut(a, b, None);
            world.run_for(ms(30))?;
            world.heal(a, b);
            world.make_introductions_apart(ms(15));
            if world.run_until_pair((0, 1), state, ms(60))? {
                return Ok(());
            }
        } else if world.run_until_pair((0, 1), PairState::DirectTwoLegs, ms(200))? {
            world.pause_node(1, ms(20));
            world.cut(a, b, None);
            if world.run_until_pair((0, 1), state, ms(20))? {
                return Ok(());
            }
            world.heal(a, b);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::{ControlState, Met, Way};
    use crate::scenarios::testing::passes;

    /// Faults that end something; both states outlast them.
    const ENDINGS: [Fault; 4] = [Fault::NodeCrash, Fault::Cut, Fault::CutLeg, Fault::Leave];

    fn check(name: &str, state: PairState, expected: &[Fault]) {
        let coverage = passes(name).coverage;
        let down = Met { way: Way::Memory, pair: state, control: ControlState::Down };
        let met = |fault: &&Fault| coverage.of(**fault, down) > 0;
        let missed: Vec<_> = expected.iter().filter(|fault| !met(fault)).collect();
        assert!(missed.is_empty(), "{missed:?} did not meet {state:?}");
    }

    #[test]
    fn every_fault_meets_a_barrier_while_the_control_node_is_dead_or_starts() {
        let name = "every_fault_meets_a_barrier_while_the_control_node_is_dead_or_starts";
        check(name, PairState::Barrier, &ENDINGS);
    }

    #[test]
    fn every_fault_meets_a_leaving_pair_while_the_control_node_is_dead_or_starts() {
        let name = "every_fault_meets_a_leaving_pair_while_the_control_node_is_dead_or_starts";
        check(name, PairState::Leaving, &[&ENDINGS[..], &[Fault::Pause, Fault::SmallBudget]].concat());
    }
}
