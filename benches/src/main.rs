//! `switch-bench`: rates of whole paths between two pinned processes, each beside a raw memory ring measured in
//! the same run.
//!
//! The producer writes every octet of each frame; the consumer checks the header and copies the frame out.

mod direct;
mod frames;
mod process;
mod raw_ring;
mod relay;
mod report;
mod ring;
mod world;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

/// Measures frames per second along a path of the fabric.
///
/// The figure to quote is the ratio to the raw ring: absolute rates differ between machines and hours.
#[derive(Parser)]
#[command(name = "switch-bench", version)]
struct Arguments {
    /// The path: `ring` an association alone; `direct` node to node through both drivers; `relay` node to
    /// control node to node, where one core runs both nodes and the other the control node.
    mode: Mode,
    /// Octets of a frame, Ethernet header included (60 to 65,000).
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Seconds of measuring, after a quarter of a second of warming up.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Legs of the association (1 or 2).
    #[arg(long, default_value_t = 1)]
    legs: u8,
    /// The two cores.
    #[arg(long, default_value = "0,1")]
    cores: String,
    /// One line of JSON instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Ring,
    Direct,
    Relay,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            eprintln!("hint: `switch-bench --help` shows the modes and their limits");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    anyhow::ensure!((60..=65_000).contains(&arguments.size), "--size must lie between 60 and 65,000");
    anyhow::ensure!((1..=2).contains(&arguments.legs), "--legs must be 1 or 2");
    let cores = process::cores(&arguments.cores)?;
    let run = process::Run { cores, seconds: arguments.seconds, size: arguments.size, legs: arguments.legs };
    let raw = raw_ring::measure(&run)?;
    let (name, figure) = match arguments.mode {
        Mode::Ring => ("ring", ring::measure(&run)?),
        Mode::Direct => ("direct", direct::measure(&run)?),
        Mode::Relay => ("relay", relay::measure(&run)?),
    };
    report::print(name, &run, figure, raw, arguments.json)
}
