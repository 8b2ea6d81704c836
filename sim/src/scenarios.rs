//! The named scenarios: each sets one situation up and lets the checkers judge it.

use std::time::Duration;

use crate::checker::Violation;
use crate::plan::Plan;
use crate::simulation::Simulation;
use crate::world::World;

mod applies;
mod clusters;
mod control_loss;
mod direct;
mod groups;
mod hosts;
mod listeners;
mod meetings;
mod options;
mod pressure;
mod relayed;
mod uplinks;

/// A named situation.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// A sentence with underscores: what must hold.
    pub name: &'static str,
    /// The platform that it starts from.
    pub plan: fn(u64) -> Plan,
    /// What happens, before everything is healed and judged.
    pub script: fn(&mut World) -> Result<(), Violation>,
}

/// Every scenario.
#[must_use]
pub fn all() -> Vec<Scenario> {
    [
        applies::SCENARIOS,
        clusters::SCENARIOS,
        control_loss::SCENARIOS,
        direct::SCENARIOS,
        groups::SCENARIOS,
        hosts::SCENARIOS,
        listeners::SCENARIOS,
        meetings::SCENARIOS,
        options::SCENARIOS,
        pressure::SCENARIOS,
        relayed::SCENARIOS,
        uplinks::SCENARIOS,
    ]
    .concat()
}

/// What a seed's run does: the platform comes up, then traffic and faults for the plan's duration.
///
/// # Errors
/// When an invariant breaks.
pub fn random_faults(world: &mut World) -> Result<(), Violation> {
    boot(world)?;
    world.start_traffic();
    world.start_faults();
    world.run_for(world.plan.duration)
}

/// Long enough for every node to register and for duplicate address detection.
fn boot(world: &mut World) -> Result<(), Violation> {
    world.run_for(Duration::from_millis(40))?;
    world.note_boot();
    Ok(())
}

/// The platform comes up and all pairs have traffic for long enough to be direct.
fn boot_to_direct(world: &mut World) -> Result<(), Violation> {
    boot(world)?;
    world.start_traffic();
    // A barrier that found its echoer without a leg is tried again after 100 ms.
    world.run_for(Duration::from_millis(220))
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[cfg(test)]
pub(crate) mod testing {
    use super::all;
    use crate::runner::run_scenario;
    use crate::world::Outcome;

    /// Runs a scenario; panics with the failure when it fails.
    pub(crate) fn passes(name: &str) -> Outcome {
        passes_from(name, 1)
    }

    /// The same with a seed of its own.
    pub(crate) fn passes_from(name: &str, seed: u64) -> Outcome {
        let scenario =
            all().into_iter().find(|s| s.name == name).unwrap_or_else(|| panic!("no scenario {name}"));
        match run_scenario(&scenario, seed, false) {
            Ok(outcome) => outcome,
            Err(failure) => panic!("{failure}"),
        }
    }
}
