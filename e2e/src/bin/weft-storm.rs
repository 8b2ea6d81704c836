//! Says what a broadcast storm of one node costs what others carry. Needs root, iperf3 and socat.

use anyhow::{Result, ensure};
use clap::Parser;
use e2e::storm::{Figures, Site, Target};

/// Measures what a broadcast storm of one node leaves of the TCP throughput of two others, beside what the same generator leaves
/// of it when it sends into a TAP that is on no LAN
#[derive(Parser)]
struct Arguments {
    /// Seconds of each measurement, behind a second that does not count
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Measurements of each kind, in turn; medians count
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Broadcast frames a second that the storming member may send; default: any number
    #[arg(long)]
    broadcast: Option<u32>,
    /// The two others have no direct RVI: the control node relays what they carry
    #[arg(long)]
    relay: bool,
    /// Fail when less than this is left, in percent
    #[arg(long, default_value_t = 0.0)]
    at_least: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let limits = arguments.broadcast.map(|frames| format!("limits = {{ broadcast = {frames} }}"));
    let site = Site::start("storm", &limits.unwrap_or_default(), !arguments.relay)?;
    println!("{:9} {:>8} {:>12} {:>12} {:>12}", "frames to", "Gbit/s", "sent/s", "delivered/s", "dropped/s");
    let targets = [Target::Nowhere, Target::IdleTap, Target::Lan];
    let mut measured = targets.map(|_| Vec::new());
    for _ in 0..arguments.rounds.max(1) {
        for (target, measured) in targets.iter().zip(&mut measured) {
            let figures = site.measure(*target, arguments.seconds)?;
            print(&format!("{target:?}"), &figures);
            measured.push(figures.gigabits);
        }
    }
    site.stop()?;
    let [nowhere, tap, lan] = measured.map(median);
    let left = 100.0 * lan / tap;
    println!(
        "medians: {nowhere:.2} Gbit/s without a storm, {tap:.2} beside the TAP, {lan:.2} beside the LAN: {left:.0} % are left"
    );
    ensure!(left >= arguments.at_least, "less than {} % are left", arguments.at_least);
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn print(name: &str, figures: &Figures) {
    let Figures { gigabits, sent, delivered, dropped } = figures;
    println!("{name:9} {gigabits:>8.2} {sent:>12.0} {delivered:>12.0} {dropped:>12.0}");
}
