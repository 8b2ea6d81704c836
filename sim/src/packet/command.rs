//! `weft-sim packet`: families and seeds of packet legs, and the tables of `docs/`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::coverage::Coverage;
use super::families::{self, Family};
use super::ledger::Audit;
use super::runner::{run_family, run_twice};
use super::tables;
use crate::command::{Request, Tally, in_parallel, replayed, usage};

/// How it is used.
pub const USAGE: &str = "\
usage: weft-sim packet run [--seeds N] [--first-seed S] [--family NAME] [--complete]
       weft-sim packet replay SEED [--family NAME] [--trace]
       weft-sim packet list
       weft-sim packet tables [--out FOLDER] [--only NAME]

run     runs every family with N seeds (20), from S (0) on, or one of them; chaos gets ten times as many;
        prints which faults met which states; every sixteenth seed is run twice and compared; with --complete a
        cell of the table that is zero fails
replay  runs one seed of a family (chaos) again; --trace prints what happens
list    names the families
tables  measures the tables and plots of docs/packet-legs and writes them (docs/packet-legs)";

/// Runs what the words behind `packet` ask for.
pub fn run(mut words: impl Iterator<Item = String>) -> ExitCode {
    let command = words.next().unwrap_or_default();
    let request = match Request::parse(words) {
        Ok(request) if request.help => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Ok(request) => request,
        Err(what) => return usage(&what, USAGE),
    };
    let family = match &request.name {
        None => None,
        Some(name) => match families::find(name) {
            Some(family) => Some(family),
            None => return usage(&format!("no family {name}, or several"), USAGE),
        },
    };
    match (command.as_str(), request.seed) {
        ("run", None) => run_families(&request, family),
        ("replay", Some(seed)) => replay(&request, seed, family),
        ("list", None) => {
            families::all().iter().for_each(|family| println!("{}", family.name));
            ExitCode::SUCCESS
        }
        ("tables", None) => write_tables(&request),
        ("help" | "--help" | "-h", _) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => usage("no such command, or a seed where none belongs", USAGE),
    }
}

fn write_tables(request: &Request) -> ExitCode {
    let out = request.out.clone().unwrap_or_else(|| PathBuf::from("docs/packet-legs"));
    match tables::write_all(&out, request.only.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("error: {what}");
            ExitCode::FAILURE
        }
    }
}

fn replay(request: &Request, seed: u64, family: Option<Family>) -> ExitCode {
    let Some(family) = family.or_else(|| families::find("chaos")) else {
        return usage("no such family", USAGE);
    };
    replayed(run_family(&family, seed, request.trace), |outcome| {
        println!("{} seed {seed}: {:?}", family.name, outcome.audit);
        outcome.counts.iter().for_each(|counts| println!("{counts:?}"));
        for (leg, side, counts) in &outcome.links {
            println!("leg {leg} from {side:?}: {counts:?}");
        }
        println!("journal {:016x}, {} records, until {}", outcome.digest.0, outcome.digest.1, outcome.ended);
    })
}

fn run_families(request: &Request, family: Option<Family>) -> ExitCode {
    let mut tally = Tally::default();
    let mut coverage = Coverage::default();
    let mut audit = Audit::default();
    for family in family.map_or_else(families::all, |family| vec![family]) {
        let (failed_before, mut worst, begun) = (tally.failures, Duration::ZERO, Instant::now());
        let seeds = request.seeds(20);
        let count = (seeds.end - seeds.start) * if family.name == "chaos" { 10 } else { 1 };
        let jobs: Vec<u64> = (seeds.start..seeds.start + count).collect();
        let run = |seed| {
            if seed % 16 == 0 { run_twice(&family, seed) } else { run_family(&family, seed, false) }
        };
        in_parallel(&jobs, run, |result| {
            if let Some(outcome) = tally.count(result, |outcome| outcome.ended) {
                coverage.add(&outcome.coverage);
                audit.add(&outcome.audit);
                worst = worst.max(outcome.metrics.promised_worst);
            }
        });
        println!(
            "{:60} {count:>5} seeds {:>3} failed {:>8.2} ms at worst {:>6.1} s",
            family.name,
            tally.failures - failed_before,
            worst.as_secs_f64() * 1e3,
            begun.elapsed().as_secs_f64()
        );
    }
    println!("\n{audit:?}\n");
    let gaps: Vec<_> = coverage.gaps().map(|(f, s)| format!("{} / {}", f.name(), s.name())).collect();
    tally.finish(&coverage, &gaps, request.complete)
}
