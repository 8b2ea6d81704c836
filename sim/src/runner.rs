//! Runs seeds and scenarios, and says precisely what failed.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::checker::Violation;
use crate::plan::Plan;
use crate::scenarios::{self, Scenario};
use crate::world::{Outcome, World};

/// Faults of a seed's run unless told otherwise.
pub const FAULTS: usize = 24;

/// A run that broke an invariant, or in which a machine panicked.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The scenario; none for a seed's own plan.
    pub scenario: Option<&'static str>,
    /// The seed.
    pub seed: u64,
    /// Faults asked for.
    pub faults: usize,
    /// What went wrong.
    pub what: String,
    /// The last lines of the journal.
    pub last_lines: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.last_lines {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, "seed {}: {}", self.seed, self.what)?;
        write!(f, "replay: weft-sim replay {}", self.seed)?;
        if let Some(scenario) = self.scenario {
            write!(f, " --scenario {scenario}")?;
        } else if self.faults != FAULTS {
            write!(f, " --steps {}", self.faults)?;
        }
        f.write_str(" --trace")
    }
}

/// Runs the plan of `seed` with `faults` faults: boot, traffic and faults, heal, converge, account.
///
/// # Errors
/// When an invariant breaks or a machine panics.
pub fn run_seed(seed: u64, faults: usize, trace: bool) -> Result<Outcome, Box<Failure>> {
    let world = World::new(Plan::of_seed(seed, faults), trace);
    run(world, scenarios::random_faults)
        .map_err(|(what, last_lines)| Box::new(Failure { scenario: None, seed, faults, what, last_lines }))
}

/// Runs a named scenario with `seed`.
///
/// # Errors
/// When an invariant breaks or a machine panics.
pub fn run_scenario(scenario: &Scenario, seed: u64, trace: bool) -> Result<Outcome, Box<Failure>> {
    let world = World::new((scenario.plan)(seed), trace);
    run(world, scenario.script).map_err(|(what, last_lines)| {
        Box::new(Failure { scenario: Some(scenario.name), seed, faults: FAULTS, what, last_lines })
    })
}

thread_local! {
    /// Where the last panic of this thread was, and what it said.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
    /// A run is under way: its panics are part of the simulation.
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// Panics are caught and reported with their seed: the hook only remembers where they were.
fn remember_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANIC.set(info.to_string());
            if !RUNNING.get() {
                before(info);
            }
        }));
    });
}

/// Runs `simulation`; a panic in it is returned as what it said and where.
pub(crate) fn catch<T>(simulation: impl FnOnce() -> T) -> Result<T, String> {
    remember_panics();
    RUNNING.set(true);
    let result = catch_unwind(AssertUnwindSafe(simulation));
    RUNNING.set(false);
    result.map_err(|_| PANIC.take())
}

fn run(
    mut world: World,
    script: fn(&mut World) -> Result<(), Violation>,
) -> Result<Outcome, (String, Vec<String>)> {
    let outcome = catch(|| {
        script(&mut world)?;
        world.converge()
    });
    let what = match outcome {
        Ok(Ok(outcome)) => return Ok(outcome),
        Ok(Err(violation)) => violation.to_string(),
        Err(panic) => format!("at {}: {panic}", world.now()),
    };
    if world.journal.is_tracing() {
        for line in world.describe_machines() {
            eprintln!("{line}");
        }
    }
    Err((what, world.journal.last_lines().map(str::to_string).collect()))
}

/// Runs `seed` twice and compares the journals (I-10).
///
/// # Errors
/// When a run fails, or the two differ.
pub fn run_twice(seed: u64, faults: usize) -> Result<Outcome, Box<Failure>> {
    let first = run_seed(seed, faults, false)?;
    let second = run_seed(seed, faults, false)?;
    if first.digest == second.digest {
        return Ok(first);
    }
    let what = format!("I-10 determinism broken: {:x?} and then {:x?}", first.digest, second.digest);
    Err(Box::new(Failure { scenario: None, seed, faults, what, last_lines: Vec::new() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_seeds_keep_every_invariant() {
        for seed in 0..20 {
            if let Err(failure) = run_seed(seed, FAULTS, false) {
                panic!("{failure}");
            }
        }
    }

    #[test]
    fn a_seed_replays_exactly() {
        if let Err(failure) = run_twice(7, FAULTS) {
            panic!("{failure}");
        }
    }
}
