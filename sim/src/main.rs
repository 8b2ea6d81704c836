//! `weft-sim`: runs seeds and scenarios of the simulator.

use std::process::ExitCode;

use sim::command::{Request, Tally, in_parallel, replayed, usage};
use sim::coverage::Coverage;
use sim::runner::{self, FAULTS, Failure, Hosts};
use sim::scenarios::{self, Scenario};
use sim::world::Outcome;

const USAGE: &str = "\
usage: weft-sim run [--seeds N] [--first-seed S] [--hosts one|several] [--scenario NAME] [--steps FAULTS] [--complete]
       weft-sim replay SEED [--hosts one|several] [--scenario NAME] [--steps FAULTS] [--trace]
       weft-sim list
       weft-sim packet ...   (one association over packet legs: weft-sim packet help)

run     runs N seeds (200), from S (0) on, with FAULTS faults each (24), with all nodes on one host and again with
        nodes on several hosts, and each scenario once, or one scenario with N seeds, and prints which faults met
        which states; every sixteenth seed is run twice and compared; with --complete a fault that did not meet a
        state which it can meet is a failure
replay  runs one seed again (hosts: one); --trace prints what happens
list    names the scenarios";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    if command == "packet" {
        return sim::packet::command::run(words);
    }
    let request = match Request::parse(words) {
        Ok(request) if request.help => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Ok(request) => request,
        Err(what) => return usage(&what, USAGE),
    };
    let scenario = match &request.name {
        None => None,
        Some(name) => match scenarios::all().into_iter().find(|scenario| scenario.name == name) {
            Some(scenario) => Some(scenario),
            None => return usage(&format!("no scenario {name}"), USAGE),
        },
    };
    match (command.as_str(), request.seed) {
        ("run", None) => match scenario {
            Some(scenario) => run_scenario(&request, &scenario),
            None => run(&request),
        },
        ("replay", Some(seed)) => replay(&request, seed, scenario),
        ("list", None) => {
            scenarios::all().iter().for_each(|scenario| println!("{}", scenario.name));
            ExitCode::SUCCESS
        }
        ("help" | "--help" | "-h", _) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => usage("no such command, or a seed where none belongs", USAGE),
    }
}

fn replay(request: &Request, seed: u64, scenario: Option<Scenario>) -> ExitCode {
    let hosts = request.hosts.unwrap_or(Hosts::One);
    let result = match scenario {
        Some(scenario) => runner::run_scenario(&scenario, seed, request.trace),
        None => runner::run_seed(seed, request.faults.unwrap_or(FAULTS), hosts, request.trace),
    };
    replayed(result, |outcome| {
        println!("seed {seed}: {:?}\n{}", outcome.audit, drops(outcome));
        println!("between hosts: {:?}", outcome.underlay);
        println!("journal {:016x}, {} records, until {}", outcome.digest.0, outcome.digest.1, outcome.ended);
    })
}

/// What many runs came to.
#[derive(Default)]
struct Sums {
    tally: Tally,
    coverage: Coverage,
    frames: u64,
}

impl Sums {
    fn count(&mut self, result: Result<Outcome, Box<Failure>>) {
        if let Some(outcome) = self.tally.count(result, |outcome| outcome.ended) {
            self.coverage.add(&outcome.coverage);
            self.frames += outcome.audit.accepted + outcome.audit.group_expected;
        }
    }

    fn finish(&self, complete: bool) -> ExitCode {
        let gaps: Vec<_> =
            self.coverage.gaps().map(|(fault, met)| format!("{} / {met}", fault.name())).collect();
        let code = self.tally.finish(&self.coverage, &gaps, complete);
        println!("{} frames judged", self.frames);
        code
    }
}

/// One run of many.
#[derive(Clone, Copy)]
enum Job {
    Seed(u64, usize, Hosts),
    Scenario(Scenario, u64),
}

impl Job {
    fn run(self) -> Result<Outcome, Box<Failure>> {
        match self {
            Self::Seed(seed, faults, hosts) if seed % 16 == 0 => runner::run_seed_twice(seed, faults, hosts),
            Self::Seed(seed, faults, hosts) => runner::run_seed(seed, faults, hosts, false),
            Self::Scenario(scenario, seed) => runner::run_scenario(&scenario, seed, false),
        }
    }
}

fn run_all(jobs: &[Job], complete: bool) -> ExitCode {
    let mut sums = Sums::default();
    in_parallel(jobs, |job| job.run(), |result| sums.count(result));
    sums.finish(complete)
}

fn run(request: &Request) -> ExitCode {
    let faults = request.faults.unwrap_or(FAULTS);
    let hosts = Hosts::ALL.into_iter().filter(|hosts| request.hosts.is_none_or(|only| only == *hosts));
    let seeds = hosts.flat_map(|hosts| request.seeds(200).map(move |seed| Job::Seed(seed, faults, hosts)));
    // Scenarios bring about what random faults hardly ever meet.
    let named = scenarios::all().into_iter().map(|scenario| Job::Scenario(scenario, request.first_seed));
    run_all(&seeds.chain(named).collect::<Vec<_>>(), request.complete)
}

fn run_scenario(request: &Request, scenario: &Scenario) -> ExitCode {
    let jobs: Vec<_> = request.seeds(200).map(|seed| Job::Scenario(*scenario, seed)).collect();
    run_all(&jobs, request.complete)
}

fn drops(outcome: &Outcome) -> String {
    let reasons: Vec<_> = outcome.drops.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
    format!("dropped: {}", reasons.join(", "))
}
