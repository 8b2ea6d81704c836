//! Runs families with seeds, and says precisely what failed.

use std::fmt;

use super::families::Family;
use super::world::{Outcome, PacketWorld};
use crate::runner::catch;

/// A run that broke an invariant, or in which a machine panicked.
#[derive(Clone, Debug)]
pub struct PacketFailure {
    /// The family.
    pub family: &'static str,
    /// The seed.
    pub seed: u64,
    /// What went wrong.
    pub what: String,
    /// The last lines of the journal.
    pub last_lines: Vec<String>,
}

impl fmt::Display for PacketFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.last_lines {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, "{} seed {}: {}", self.family, self.seed, self.what)?;
        write!(f, "replay: weft-sim packet replay {} --family {} --trace", self.seed, self.family)
    }
}

/// Runs a family's script with a seed, then heals, converges and judges.
///
/// # Errors
/// When an invariant breaks or a machine panics.
pub fn run_family(family: &Family, seed: u64, trace: bool) -> Result<Outcome, Box<PacketFailure>> {
    let mut world = PacketWorld::new((family.plan)(seed), trace);
    let outcome = catch(|| {
        (family.script)(&mut world)?;
        world.converge()
    });
    let what = match outcome {
        Ok(Ok(outcome)) => return Ok(outcome),
        Ok(Err(violation)) => violation.to_string(),
        Err(panic) => format!("at {}: {panic}", world.now()),
    };
    if world.journal.is_tracing() {
        world.describe().iter().for_each(|line| eprintln!("{line}"));
    }
    let last_lines = world.journal.last_lines().map(str::to_string).collect();
    Err(Box::new(PacketFailure { family: family.name, seed, what, last_lines }))
}

/// Runs a seed twice and compares the journals (I-10).
///
/// # Errors
/// When a run fails, or the two differ.
pub fn run_twice(family: &Family, seed: u64) -> Result<Outcome, Box<PacketFailure>> {
    let first = run_family(family, seed, false)?;
    let second = run_family(family, seed, false)?;
    if first.digest == second.digest {
        return Ok(first);
    }
    let what = format!("I-10 determinism broken: {:x?} and then {:x?}", first.digest, second.digest);
    Err(Box::new(PacketFailure { family: family.name, seed, what, last_lines: Vec::new() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::families::find;

    #[test]
    fn a_seed_replays_exactly() {
        let family = find("chaos").expect("it is a family");
        if let Err(failure) = run_twice(&family, 7) {
            panic!("{failure}");
        }
    }
}
