//! `switch-bench`: rates of whole paths between two pinned processes, each beside a raw limit measured in the same
//! run: a memory ring, or a stream of datagrams.
//!
//! The producer writes every octet of each frame; the consumer checks the header and copies the frame out.

mod broadcast;
mod direct;
mod endpoints;
mod ends;
mod frames;
mod handshake;
mod heap;
mod idle;
mod packet_end;
mod process;
mod raw_ring;
mod raw_udp;
mod relay;
mod report;
mod ring;
mod udp;
mod uplink;
mod world;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use rvi::host::ether::EtherSocket;
use rvi::host::udp::{UDP_PAYLOAD_LEN_MAX, UdpSocket};

/// Measures frames per second along a path of the fabric.
///
/// The figure to quote is the ratio to the raw limit: absolute rates differ between machines and hours.
#[derive(Parser)]
#[command(name = "switch-bench", version)]
struct Arguments {
    /// The path.
    mode: Mode,
    /// Octets of a frame, Ethernet header included (60 to 65,536); with `udp` of a message, with `udp-raw` of a datagram.
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
    /// With `udp` and `udp-raw`: the addresses of sender and receiver, with `@NAME` for one in a network namespace; with
    /// two legs perhaps two more, for the second.
    #[arg(long, default_value = "127.0.0.1,127.0.0.1")]
    ends: String,
    /// With `udp` and `ether`: packets are authenticated and not encrypted.
    #[arg(long)]
    trusted: bool,
    /// With `udp` and `ether`: so many packets of 100 are lost on arrival, both ways.
    #[arg(long, default_value_t = 0, value_name = "PERCENT")]
    loss: u32,
    /// With `udp` and `ether`: octets of the longest packet. 1,472 fill an IPv4 packet of 1,500 octets, 1,488 such a frame.
    #[arg(long, default_value_t = 1472)]
    packet_len: usize,
    /// With `idle`: how many associations each of two processes has.
    #[arg(long, default_value_t = 10_000)]
    associations: u32,
    /// With `uplink`: a veth device of this network namespace and its peer here, both up and used for nothing else. With `frames`:
    /// the device that frames go into, and the one where they arrive.
    #[arg(long, default_value = "up0,up1")]
    devices: String,
    /// With `uplink` and `frames`: how the first of them is driven, `auto`, `af-packet` or `af-xdp`.
    #[arg(long, default_value = "auto", value_parser = uplink::driver)]
    driver: lan_proxy::nic::Driver,
    /// With `frames`: the MAC address that they go to.
    #[arg(long, default_value = "52:00:00:00:00:01")]
    to: String,
    /// With `broadcast`: how many members get each frame, one after the other.
    #[arg(long, default_value = "1,8,24,64", value_delimiter = ',')]
    members: Vec<u8>,
    /// One line of JSON instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// An association alone, over shared memory
    Ring,
    /// Node to node, through both drivers
    Direct,
    /// Node to control node to node: one core runs both nodes, the other the control node
    Relay,
    /// From inside to outside, through an uplink: one core runs the node, the other the control node
    Uplink,
    /// By a packet socket into one device and counted at another, whatever forwards frames between them
    Frames,
    /// Broadcast: one core runs all members, the other the control node, which copies each frame or writes it once
    Broadcast,
    /// An association alone, over UDP
    Udp,
    /// An association alone, over Ethernet frames; `--ends` names two devices
    Ether,
    /// UDP alone, the limit of all that goes by UDP
    UdpRaw,
    /// Handshakes of packet legs, and CONNECTs refused by cookie
    Handshake,
    /// Memory and packets of idle associations with packet legs
    Idle,
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
    anyhow::ensure!((60..=65_536).contains(&arguments.size), "--size must lie between 60 and 65,536");
    anyhow::ensure!((1..=2).contains(&arguments.legs), "--legs must be 1 or 2");
    let cores = process::cores(&arguments.cores)?;
    let run = process::Run { cores, seconds: arguments.seconds, size: arguments.size, legs: arguments.legs };
    match arguments.mode {
        Mode::Ring => beside_ring("ring", ring::measure, &run, arguments),
        Mode::Direct => beside_ring("direct", direct::measure, &run, arguments),
        Mode::Relay => beside_ring("relay", relay::measure, &run, arguments),
        Mode::Uplink => {
            beside_ring("uplink", |run| uplink::measure(run, &devices(arguments)?), &run, arguments)
        }
        Mode::Frames => beside_ring(
            "frames",
            |run| uplink::measure_frames(run, &devices(arguments)?, arguments.to.parse()?),
            &run,
            arguments,
        ),
        Mode::Broadcast => {
            let is_possible = |&members: &u8| (1..=120).contains(&members);
            anyhow::ensure!(
                arguments.members.iter().all(is_possible),
                "--members must lie between 1 and 120"
            );
            arguments.members.iter().try_for_each(|&members| {
                let findings = broadcast::measure(&run, members)?;
                report::print_broadcast(&run, members, &findings, arguments.json)
            })
        }
        Mode::Udp => {
            let settings = packet_settings(arguments, "udp")?;
            let findings = udp::measure::<UdpSocket>(&run, &settings)?;
            report::print_udp(&run, &settings, &findings, arguments.json)
        }
        Mode::Ether => {
            let settings = packet_settings(arguments, "ether")?;
            let findings = udp::measure::<EtherSocket>(&run, &settings)?;
            report::print_udp(&run, &settings, &findings, arguments.json)
        }
        Mode::UdpRaw => {
            let ends = &ends::pairs(&arguments.ends, 1)?[0];
            report::print_raw("udp-raw", &run, raw_udp::measure::<UdpSocket>(&run, ends)?, arguments.json)
        }
        Mode::Handshake => report::print_handshake(&run, &handshake::measure(&run)?, arguments.json),
        Mode::Idle => {
            let count = arguments.associations;
            anyhow::ensure!(
                (1..=1_000_000).contains(&count),
                "--associations must lie between 1 and 1,000,000"
            );
            report::print_idle(&run, count, &idle::measure(&run, count)?, arguments.json)
        }
    }
}

fn devices(arguments: &Arguments) -> anyhow::Result<uplink::Devices<'_>> {
    let names = arguments.devices.split_once(',');
    let (uplink, peer) = names.context("--devices takes two names, as in up0,up1")?;
    Ok(uplink::Devices { uplink, peer, driver: arguments.driver })
}

/// Measures a path, and the raw ring in the same run.
fn beside_ring(
    name: &str,
    measure: impl FnOnce(&process::Run) -> anyhow::Result<process::Figure>,
    run: &process::Run,
    arguments: &Arguments,
) -> anyhow::Result<()> {
    let raw = raw_ring::measure(run)?;
    report::print(name, run, measure(run)?, raw, arguments.json)
}

fn packet_settings(arguments: &Arguments, kind: &'static str) -> anyhow::Result<udp::Settings> {
    anyhow::ensure!(arguments.loss <= 50, "--loss must be at most 50");
    anyhow::ensure!(
        (256..=UDP_PAYLOAD_LEN_MAX).contains(&arguments.packet_len),
        "--packet-len must lie between 256 and {UDP_PAYLOAD_LEN_MAX}"
    );
    Ok(udp::Settings {
        ends: ends::pairs(&arguments.ends, arguments.legs.into())?,
        kind,
        is_trusted: arguments.trusted,
        packet_len_max: arguments.packet_len,
        loss_percent: arguments.loss,
    })
}
