//! `weft-sim`: runs seeds and scenarios of the simulator.

use std::process::ExitCode;
use std::time::Instant;

use sim::coverage::Coverage;
use sim::runner::{self, FAULTS, Failure};
use sim::scenarios::{self, Scenario};
use sim::world::Outcome;

const USAGE: &str = "\
usage: weft-sim run [--seeds N] [--first-seed S] [--scenario NAME] [--steps FAULTS]
       weft-sim replay SEED [--scenario NAME] [--steps FAULTS] [--trace]
       weft-sim list
       weft-sim packet ...   (packet legs: weft-sim packet help)

run     runs N seeds (200), from S (0) on, with FAULTS faults each (24), and each scenario once, or one scenario
        with N seeds, and prints which faults met which states; every sixteenth seed is run twice and compared
replay  runs one seed again; --trace prints what happens
list    names the scenarios";

/// What the command line asks for.
#[derive(Debug, Default)]
struct Request {
    seeds: Option<u64>,
    first_seed: u64,
    scenario: Option<Scenario>,
    faults: Option<usize>,
    trace: bool,
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    if command == "packet" {
        return sim::packet::command::run(words);
    }
    let request = match parse(words) {
        Ok(request) => request,
        Err(what) => return usage(&what),
    };
    match (command.as_str(), request.seed) {
        ("run", None) => run(&request),
        ("replay", Some(seed)) => replay(&request, seed),
        ("list", None) => list(),
        ("help" | "--help" | "-h", _) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => usage("no such command, or a seed where none belongs"),
    }
}

fn usage(what: &str) -> ExitCode {
    eprintln!("error: {what}\nhint: {USAGE}");
    ExitCode::from(2)
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Request, String> {
    let mut request = Request::default();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--seeds" => request.seeds = Some(number(&value()?)?),
            "--first-seed" => request.first_seed = number(&value()?)?,
            "--steps" => request.faults = Some(number(&value()?)? as usize),
            "--scenario" => {
                let name = value()?;
                let found = scenarios::all().into_iter().find(|s| s.name == name);
                request.scenario = Some(found.ok_or(format!("no scenario {name}"))?);
            }
            "--trace" => request.trace = true,
            seed => request.seed = Some(number(seed)?),
        }
    }
    Ok(request)
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

fn list() -> ExitCode {
    for scenario in scenarios::all() {
        println!("{}", scenario.name);
    }
    ExitCode::SUCCESS
}

fn replay(request: &Request, seed: u64) -> ExitCode {
    match run_one(request, seed, request.trace, false) {
        Ok(outcome) => {
            println!("seed {seed}: {:?}\n{}", outcome.audit, drops(&outcome));
            println!(
                "journal {:016x}, {} records, until {}",
                outcome.digest.0, outcome.digest.1, outcome.ended
            );
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::from(1)
        }
    }
}

fn run_one(request: &Request, seed: u64, trace: bool, twice: bool) -> Result<Outcome, Box<Failure>> {
    let faults = request.faults.unwrap_or(FAULTS);
    match &request.scenario {
        Some(scenario) => runner::run_scenario(scenario, seed, trace),
        None if twice => runner::run_twice(seed, faults),
        None => runner::run_seed(seed, faults, trace),
    }
}

fn run(request: &Request) -> ExitCode {
    let seeds = request.seeds.unwrap_or(200);
    let started = Instant::now();
    let mut coverage = Coverage::default();
    let (mut frames, mut simulated, mut failures) = (0, 0, 0);
    for seed in request.first_seed..request.first_seed + seeds {
        match run_one(request, seed, false, seed % 16 == 0) {
            Ok(outcome) => {
                coverage.add(&outcome.coverage);
                frames += outcome.audit.accepted + outcome.audit.group_expected;
                simulated += outcome.ended.as_nanos();
            }
            Err(failure) => {
                failures += 1;
                println!("{failure}\n");
            }
        }
    }
    if request.scenario.is_none() {
        // Scenarios bring about what random faults hardly ever meet.
        for scenario in scenarios::all() {
            match runner::run_scenario(&scenario, request.first_seed, false) {
                Ok(outcome) => coverage.add(&outcome.coverage),
                Err(failure) => {
                    failures += 1;
                    println!("{failure}\n");
                }
            }
        }
    }
    println!("{coverage}\n");
    let gaps: Vec<_> =
        coverage.gaps().map(|(f, p, c)| format!("{} / {} / {}", f.name(), p.name(), c.name())).collect();
    println!(
        "{} of the cells above are zero and could be more (-: cannot be){}{}",
        gaps.len(),
        if gaps.is_empty() { "" } else { ": " },
        gaps.join(", ")
    );
    println!(
        "{seeds} seeds, {failures} failed; {frames} frames judged in {:.1} simulated seconds, {:.1} s of ours",
        simulated as f64 / 1e9,
        started.elapsed().as_secs_f64()
    );
    ExitCode::from(u8::from(failures > 0))
}

fn drops(outcome: &Outcome) -> String {
    let reasons: Vec<_> = outcome.drops.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
    format!("dropped: {}", reasons.join(", "))
}
