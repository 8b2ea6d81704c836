//! Runs seeds, scenarios and families, and says precisely what failed.

use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::checker::Violation;
use crate::plan::Plan;
use crate::scenarios::{self, Scenario};
use crate::simulation::Simulation;
use crate::world::{Outcome, World};

/// Faults of a seed's run unless told otherwise.
pub const FAULTS: usize = 24;

/// Where the nodes of a seed's run are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// All on the host of the control nodes.
    One,
    /// Some or all of them on hosts of their own.
    Several,
}

impl Hosts {
    /// Both.
    pub const ALL: [Self; 2] = [Self::One, Self::Several];

    /// How the command line says it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Several => "several",
        }
    }
}

/// What is run: how a failure names it, and the words that replay it.
#[derive(Clone, Debug)]
pub struct Name {
    /// For people.
    pub title: String,
    /// Behind `weft-sim`.
    pub replay: String,
}

/// A run that broke an invariant, or in which a machine panicked.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which run.
    pub name: Name,
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
        writeln!(f, "{}: {}", self.name.title, self.what)?;
        write!(f, "replay: weft-sim {} --trace", self.name.replay)
    }
}

/// Runs the plan of `seed` with `faults` faults: boot, traffic and faults, heal, converge, account.
///
/// # Errors
/// When an invariant breaks or a machine panics.
pub fn run_seed(seed: u64, faults: usize, hosts: Hosts, trace: bool) -> Result<Outcome, Box<Failure>> {
    let plan = match hosts {
        Hosts::One => Plan::of_seed(seed, faults),
        Hosts::Several => Plan::of_hosts(seed, faults),
    };
    run(name_of(seed, faults, hosts), World::new(plan, trace), scenarios::random_faults)
}

fn name_of(seed: u64, faults: usize, hosts: Hosts) -> Name {
    let mut replay = format!("replay {seed} --hosts {}", hosts.name());
    if faults != FAULTS {
        replay += &format!(" --steps {faults}");
    }
    Name { title: format!("seed {seed}, hosts: {}", hosts.name()), replay }
}

/// Runs a named scenario with `seed`.
///
/// # Errors
/// When an invariant breaks or a machine panics.
pub fn run_scenario(scenario: &Scenario, seed: u64, trace: bool) -> Result<Outcome, Box<Failure>> {
    let replay = format!("replay {seed} --scenario {}", scenario.name);
    let name = Name { title: format!("{} seed {seed}", scenario.name), replay };
    run(name, World::new((scenario.plan)(seed), trace), scenario.script)
}

/// Runs `seed` twice and compares the journals (I-10).
///
/// # Errors
/// When a run fails, or the two differ.
pub fn run_seed_twice(seed: u64, faults: usize, hosts: Hosts) -> Result<Outcome, Box<Failure>> {
    let once = || run_seed(seed, faults, hosts, false);
    run_twice(name_of(seed, faults, hosts), once, |outcome| outcome.digest)
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
            // Empty unless RUST_BACKTRACE asks for it.
            PANIC.set(format!("{info}\n{}", Backtrace::capture()));
            if !RUNNING.get() {
                before(info);
            }
        }));
    });
}

/// Runs `simulation`; a panic in it is returned as what it said and where.
fn catch<T>(simulation: impl FnOnce() -> T) -> Result<T, String> {
    remember_panics();
    RUNNING.set(true);
    let result = catch_unwind(AssertUnwindSafe(simulation));
    RUNNING.set(false);
    result.map_err(|_| PANIC.take())
}

/// Runs a script in a world, then heals, converges and judges.
///
/// # Errors
/// When an invariant breaks or a machine panics.
pub(crate) fn run<S: Simulation>(
    name: Name,
    mut world: S,
    script: fn(&mut S) -> Result<(), Violation>,
) -> Result<S::Outcome, Box<Failure>> {
    let outcome = catch(|| {
        script(&mut world)?;
        world.converge()
    });
    let what = match outcome {
        Ok(Ok(outcome)) => return Ok(outcome),
        Ok(Err(violation)) => violation.to_string(),
        Err(panic) => format!("at {}: {panic}", world.now()),
    };
    if world.journal().is_tracing() {
        world.describe().iter().for_each(|line| eprintln!("{line}"));
    }
    let last_lines = world.journal().last_lines().map(str::to_string).collect();
    Err(Box::new(Failure { name, what, last_lines }))
}

/// Runs the same twice and compares the journals (I-10).
///
/// # Errors
/// When a run fails, or the two differ.
pub(crate) fn run_twice<T>(
    name: Name,
    once: impl Fn() -> Result<T, Box<Failure>>,
    digest: impl Fn(&T) -> (u64, u64),
) -> Result<T, Box<Failure>> {
    let (first, second) = (once()?, once()?);
    if digest(&first) == digest(&second) {
        return Ok(first);
    }
    let what = format!("I-10 determinism broken: {:x?} and then {:x?}", digest(&first), digest(&second));
    Err(Box::new(Failure { name, what, last_lines: Vec::new() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ten_seeds_from(first: u64, hosts: Hosts) {
        for seed in first..first + 10 {
            if let Err(failure) = run_seed(seed, FAULTS, hosts, false) {
                panic!("{failure}");
            }
        }
    }

    #[test]
    fn twenty_seeds_of_one_host_keep_every_invariant() {
        ten_seeds_from(0, Hosts::One);
        ten_seeds_from(10, Hosts::One);
    }

    #[test]
    fn ten_seeds_of_several_hosts_keep_every_invariant() {
        ten_seeds_from(0, Hosts::Several);
    }

    #[test]
    fn a_seed_replays_exactly() {
        for hosts in Hosts::ALL {
            if let Err(failure) = run_seed_twice(7, FAULTS, hosts) {
                panic!("{failure}");
            }
        }
    }
}
