//! `switch-bench`: rates of whole paths between two pinned processes, each beside a raw memory ring measured in
//! the same run.
//!
//! The producer writes every octet of each frame; the consumer checks the header and copies the frame out.

mod direct;
mod frames;
mod process;
mod raw_ring;
mod raw_udp;
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
    /// control node to node, where one core runs both nodes and the other the control node; `udp-raw` UDP alone, the
    /// limit of all that goes by UDP.
    mode: Mode,
    /// Octets of a frame, Ethernet header included (60 to 65,000); with `udp-raw` of a datagram.
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
    /// With `udp-raw`: the addresses of sender and receiver, with `@NAME` for one in a network namespace.
    #[arg(long, default_value = "127.0.0.1,127.0.0.1")]
    ends: String,
    /// One line of JSON instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Ring,
    Direct,
    Relay,
    UdpRaw,
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
    let (name, measure): (_, fn(&process::Run) -> anyhow::Result<process::Figure>) = match arguments.mode {
        Mode::Ring => ("ring", ring::measure),
        Mode::Direct => ("direct", direct::measure),
        Mode::Relay => ("relay", relay::measure),
        Mode::UdpRaw => {
            let figure = raw_udp::measure(&run, &raw_udp::ends(&arguments.ends)?)?;
            return report::print_raw("udp-raw", &run, figure, arguments.json);
        }
    };
    let raw = raw_ring::measure(&run)?;
    let figure = measure(&run)?;
    report::print(name, &run, figure, raw, arguments.json)
}
