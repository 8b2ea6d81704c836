//! What the command lines of both simulators have in common: options, replays, and the sums of many runs.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use crate::runner::{Failure, Hosts};

/// What a command line asks for.
#[derive(Debug, Default)]
pub struct Request {
    /// How many seeds.
    pub seeds: Option<u64>,
    /// The first of them.
    pub first_seed: u64,
    /// One scenario or family.
    pub name: Option<String>,
    /// Faults of each seed.
    pub faults: Option<usize>,
    /// Where the nodes are.
    pub hosts: Option<Hosts>,
    /// Print what happens.
    pub trace: bool,
    /// A fault that did not meet a state which it can meet is a failure.
    pub complete: bool,
    /// The seed to replay.
    pub seed: Option<u64>,
    /// Where figures go.
    pub out: Option<PathBuf>,
    /// One figure.
    pub only: Option<String>,
    /// Nothing but how the command is used.
    pub help: bool,
}

impl Request {
    /// Reads the words behind a command.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut request = Self::default();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--seeds" => request.seeds = Some(number(&value()?)?),
                "--first-seed" => request.first_seed = number(&value()?)?,
                "--steps" => request.faults = Some(number(&value()?)? as usize),
                "--scenario" | "--family" => request.name = Some(value()?),
                "--hosts" => {
                    let name = value()?;
                    let found = Hosts::ALL.into_iter().find(|hosts| hosts.name() == name);
                    request.hosts = Some(found.ok_or(format!("{name} hosts: one or several"))?);
                }
                "--out" => request.out = Some(PathBuf::from(value()?)),
                "--only" => request.only = Some(value()?),
                "--trace" => request.trace = true,
                "--complete" => request.complete = true,
                "--help" | "-h" => request.help = true,
                seed => request.seed = Some(number(seed)?),
            }
        }
        Ok(request)
    }

    /// The seeds of a run, of which there are `count` unless the command line says otherwise.
    #[must_use]
    pub fn seeds(&self, count: u64) -> std::ops::Range<u64> {
        self.first_seed..self.first_seed + self.seeds.unwrap_or(count)
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is no option, and not a number"))
}

/// Says what is wrong with a command line.
pub fn usage(what: &str, usage: &str) -> ExitCode {
    eprintln!("error: {what}\nhint: {usage}");
    ExitCode::from(2)
}

/// Prints what a replay came to.
pub fn replayed<T>(result: Result<T, Box<Failure>>, print: impl FnOnce(&T)) -> ExitCode {
    match result {
        Ok(outcome) => {
            print(&outcome);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::from(1)
        }
    }
}

/// Runs independent jobs on all processors, and takes what comes of them in the order of the jobs.
pub fn in_parallel<J: Copy + Sync, T: Send>(
    jobs: &[J],
    run: impl Fn(J) -> T + Sync,
    mut take: impl FnMut(T),
) {
    let next = AtomicUsize::new(0);
    let (results, done) = mpsc::channel();
    thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(1, NonZero::get).min(jobs.len());
        for results in vec![results; workers] {
            let (run, next) = (&run, &next);
            scope.spawn(move || {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(place) else { return };
                    let _ = results.send((place, run(*job)));
                }
            });
        }
        let mut early = BTreeMap::new();
        for place in 0..jobs.len() {
            while !early.contains_key(&place) {
                let Ok((place, result)) = done.recv() else { return };
                early.insert(place, result);
            }
            early.remove(&place).into_iter().for_each(&mut take);
        }
    });
}

/// The sums of many runs.
#[derive(Debug)]
pub struct Tally {
    started: Instant,
    /// Runs so far.
    pub runs: u64,
    /// Those that failed.
    pub failures: u64,
    /// Simulated nanoseconds.
    simulated: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self { started: Instant::now(), runs: 0, failures: 0, simulated: 0 }
    }
}

impl Tally {
    /// Counts a run and prints it if it failed; `ended` is the simulated time at its end.
    pub fn count<T>(
        &mut self,
        result: Result<T, Box<Failure>>,
        ended: impl FnOnce(&T) -> vlan_core::Instant,
    ) -> Option<T> {
        self.runs += 1;
        match result {
            Ok(outcome) => {
                self.simulated += ended(&outcome).as_nanos();
                Some(outcome)
            }
            Err(failure) => {
                self.failures += 1;
                println!("{failure}\n");
                None
            }
        }
    }

    /// Prints table, gaps and sums. With `complete` a gap is a failure, too.
    pub fn finish(&self, coverage: &dyn fmt::Display, gaps: &[String], complete: bool) -> ExitCode {
        println!("{coverage}\n");
        let colon = if gaps.is_empty() { "" } else { ": " };
        println!(
            "{} of the cells above are zero and could be more (-: cannot be){colon}{}",
            gaps.len(),
            gaps.join(", ")
        );
        println!(
            "{} runs, {} failed; {:.1} simulated seconds, {:.1} s of ours",
            self.runs,
            self.failures,
            self.simulated as f64 / 1e9,
            self.started.elapsed().as_secs_f64()
        );
        ExitCode::from(u8::from(self.failures > 0 || (complete && !gaps.is_empty())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        let jobs: Vec<u64> = (0..100).collect();
        let mut taken = Vec::new();
        in_parallel(&jobs, |job| job * 2, |result| taken.push(result));
        assert_eq!(taken, (0..100).map(|job| job * 2).collect::<Vec<_>>());
        in_parallel(&[], |job: u64| job, |_| panic!("there is none"));
    }
}
