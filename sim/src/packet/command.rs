//! `weft-sim packet`: families and seeds of packet legs, and the tables of `docs/`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::coverage::Coverage;
use super::families::{self, Family};
use super::ledger::Audit;
use super::runner::{run_family, run_twice};
use super::tables;

/// How it is used.
pub const USAGE: &str = "\
usage: weft-sim packet run [--seeds N] [--first-seed S] [--family NAME]
       weft-sim packet replay SEED [--family NAME] [--trace]
       weft-sim packet list
       weft-sim packet tables [--out FOLDER] [--only NAME]

run     runs every family with N seeds (20), from S (0) on, or one of them; chaos gets ten times as many;
        prints which faults met which states; every sixteenth seed is run twice and compared
replay  runs one seed of a family (chaos) again; --trace prints what happens
list    names the families
tables  measures the tables and plots of docs/packet-legs and writes them (docs/packet-legs)";

/// What the command line asks for.
#[derive(Debug)]
struct Request {
    seeds: u64,
    first_seed: u64,
    family: Option<Family>,
    trace: bool,
    seed: Option<u64>,
    out: PathBuf,
    only: Option<String>,
}

/// Runs what the words behind `packet` ask for.
pub fn run(mut words: impl Iterator<Item = String>) -> ExitCode {
    let command = words.next().unwrap_or_default();
    let request = match parse(words) {
        Ok(request) => request,
        Err(what) => return usage(&what),
    };
    match (command.as_str(), request.seed) {
        ("run", None) => run_families(&request),
        ("replay", Some(seed)) => replay(&request, seed),
        ("list", None) => {
            families::all().iter().for_each(|family| println!("{}", family.name));
            ExitCode::SUCCESS
        }
        ("tables", None) => match tables::write_all(&request.out, request.only.as_deref()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(what) => {
                eprintln!("error: {what}");
                ExitCode::FAILURE
            }
        },
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
    let mut request = Request {
        seeds: 20,
        first_seed: 0,
        family: None,
        trace: false,
        seed: None,
        out: PathBuf::from("docs/packet-legs"),
        only: None,
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--seeds" => request.seeds = number(&value()?)?,
            "--first-seed" => request.first_seed = number(&value()?)?,
            "--family" => {
                let name = value()?;
                request.family = Some(families::find(&name).ok_or(format!("no family {name}, or several"))?);
            }
            "--out" => request.out = PathBuf::from(value()?),
            "--only" => request.only = Some(value()?),
            "--trace" => request.trace = true,
            seed => request.seed = Some(number(seed)?),
        }
    }
    Ok(request)
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

fn replay(request: &Request, seed: u64) -> ExitCode {
    let Some(family) = request.family.or_else(|| families::find("chaos")) else {
        return usage("no such family");
    };
    match run_family(&family, seed, request.trace) {
        Ok(outcome) => {
            println!("{} seed {seed}: {:?}", family.name, outcome.audit);
            outcome.counts.iter().for_each(|counts| println!("{counts:?}"));
            for (leg, side, counts) in &outcome.links {
                println!("leg {leg} from {side:?}: {counts:?}");
            }
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

fn run_families(request: &Request) -> ExitCode {
    let started = Instant::now();
    let mut coverage = Coverage::default();
    let mut audit = Audit::default();
    let (mut runs, mut failures, mut simulated) = (0, 0, 0);
    let families = request.family.map_or_else(families::all, |family| vec![family]);
    for family in families {
        let (mut failed, mut worst, begun) = (0, Duration::ZERO, Instant::now());
        let seeds = if family.name == "chaos" { request.seeds * 10 } else { request.seeds };
        for seed in request.first_seed..request.first_seed + seeds {
            let result =
                if seed % 16 == 0 { run_twice(&family, seed) } else { run_family(&family, seed, false) };
            match result {
                Ok(outcome) => {
                    coverage.add(&outcome.coverage);
                    audit.add(&outcome.audit);
                    worst = worst.max(outcome.metrics.promised_worst);
                    simulated += outcome.ended.as_nanos();
                }
                Err(failure) => {
                    failed += 1;
                    println!("{failure}\n");
                }
            }
        }
        println!(
            "{:60} {seeds:>5} seeds {failed:>3} failed {:>8.2} ms at worst {:>6.1} s",
            family.name,
            worst.as_secs_f64() * 1e3,
            begun.elapsed().as_secs_f64()
        );
        runs += seeds;
        failures += failed;
    }
    println!("\n{coverage}\n");
    let gaps: Vec<_> = coverage.gaps().map(|(f, s)| format!("{} / {}", f.name(), s.name())).collect();
    println!(
        "{} of the cells above are zero{}{}",
        gaps.len(),
        if gaps.is_empty() { "" } else { ": " },
        gaps.join(", ")
    );
    println!("{audit:?}");
    println!(
        "{runs} runs, {failures} failed; {:.1} simulated seconds, {:.1} s of ours",
        simulated as f64 / 1e9,
        started.elapsed().as_secs_f64()
    );
    ExitCode::from(u8::from(failures > 0))
}
