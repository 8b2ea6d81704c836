//! Says what ARP requests from every interface of a lab of many LANs cost, relayed and suppressed. Needs root.

use anyhow::Result;
use clap::Parser;
use e2e::arp_load::{Crowd, Report};

/// Has every interface of eight nodes ask for its neighbours, in LANs whose control node relays the requests and in LANs where it
/// answers them, and measures what that costs
#[derive(Parser)]
struct Arguments {
    /// LANs with eight interfaces each
    #[arg(long, default_value_t = 125, value_parser = clap::value_parser!(u16).range(1..=127))]
    lans: u16,
    /// Requests a second of all interfaces together
    #[arg(long, default_value_t = 5_000)]
    rate: u32,
    /// Seconds of each load
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Loads of each kind
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Only this kind: "relay" or "suppress"
    #[arg(long)]
    only: Option<String>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    println!(
        "{:8} {:>10} {:>10} {:>11} {:>15} {:>9} {:>9} {:>9} {:>7}",
        "arp",
        "interfaces",
        "requests/s",
        "frames each",
        "control node us",
        "nodes us",
        "answer us",
        "longest",
        "dropped"
    );
    for arp in
        ["relay", "suppress"].into_iter().filter(|arp| arguments.only.as_deref().is_none_or(|o| o == *arp))
    {
        let crowd = Crowd::start(&arp[..5], arguments.lans, arp)?;
        for _ in 0..arguments.rounds {
            print(arp, &crowd.load(arguments.rate, arguments.seconds)?);
        }
        crowd.stop()?;
    }
    Ok(())
}

fn print(arp: &str, report: &Report) {
    let Report { interfaces, requests, delivered, control_node, nodes, answer, dropped } = report;
    let micros = |time: &std::time::Duration| time.as_secs_f64() * 1e6;
    println!(
        "{arp:8} {interfaces:>10} {requests:>10.0} {delivered:>11.2} {:>15.2} {:>9.2} {:>9.0} {:>9.0} {dropped:>7}",
        micros(control_node),
        micros(nodes),
        micros(&answer.0),
        micros(&answer.1)
    );
}
