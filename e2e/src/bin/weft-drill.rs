//! Breaks the legs of a lab of two hosts under load and counts what is lost. Needs root.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use e2e::drill::{Breakage, Hosts, Report};

/// Breaks the legs between two hosts of a lab on purpose, while numbered datagrams flow both ways at half the rate that
/// the lab carries without faults, and counts what the fabric lost, doubled or reordered
#[derive(Parser)]
struct Arguments {
    /// Datagrams each way in each drill
    #[arg(long, default_value_t = 1_000_000)]
    datagrams: u64,
    /// Datagrams a second each way; default: half of what arrives without faults
    #[arg(long)]
    rate: Option<u64>,
    /// What the processes do when there is nothing to do
    #[arg(long, value_enum, default_value_t = Wait::Interrupt)]
    wait: Wait,
    /// Also cut both fabrics at once, for 20 ms, 200 ms and 5 s: what is parked too long is lost then, and counted
    #[arg(long)]
    outages: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Wait {
    Interrupt,
    Poll,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let wait = match arguments.wait {
        Wait::Interrupt => "interrupt",
        Wait::Poll => "poll",
    };
    let hosts = Hosts::start("drill", &["--wait", wait])?;
    let without_faults = hosts.rate_without_faults()?;
    let rate = arguments.rate.unwrap_or(without_faults / 2).max(1);
    println!("{without_faults} datagrams/s each way without faults; drills at {rate}/s, wait policy {wait}");
    println!(
        "{:28} {:>9} {:>9} {:>8} {:>8} {:>9} {:>10}",
        "drill", "sent", "received", "stacks", "lost", "reordered", "gap ms"
    );
    let mut bad = 0;
    for breakage in [Breakage::Nothing, Breakage::Flaps, Breakage::LossAndCorruption, Breakage::OneDirection]
    {
        let report = hosts.drill(breakage, arguments.datagrams, rate)?;
        print(&format!("{breakage:?}"), &report);
        bad += report.lost() + report.reordered();
    }
    if arguments.outages {
        for millis in [20, 200, 5_000] {
            let report = hosts.drill(Breakage::Outage(Duration::from_millis(millis)), rate * 10, rate)?;
            print(&format!("Outage of {millis} ms"), &report);
            bad += report.reordered();
        }
    }
    hosts.stop()?;
    ensure!(bad == 0, "the fabric lost, doubled or reordered {bad} datagrams");
    Ok(())
}

fn print(name: &str, report: &Report) {
    let sent: u64 = report.tallies.iter().map(|tally| tally.sent).sum();
    let received: u64 = report.tallies.iter().map(|tally| tally.received).sum();
    println!(
        "{name:28} {sent:>9} {received:>9} {:>8} {:>8} {:>9} {:>10.1}",
        report.dropped_by_stacks,
        report.lost(),
        report.reordered(),
        report.longest_gap().as_secs_f64() * 1e3
    );
}
