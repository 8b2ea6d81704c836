//! Floods of segments that nobody means, from outside, while downloads go on.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use e2e::forged;
use e2e::generator::Generator;
use e2e::raw::RawSocket;

use super::{ADDRESSES, CLIENTS, Cluster, SERVERS};

const SYN: u8 = 2;
const ACK: u8 = 16;
/// Segments of a flood, at least; twice as many flows as the proxy remembers half open.
const FRAMES: u64 = 400_000;
const FLOWS: u32 = 131_072;
/// What a process may grow by, in KiB: tables whose room it has had from the start are touched for the first time.
const GROWTH_MAX: u64 = 16 * 1024;

/// Segments from some fifty addresses outside that nobody has, each of another flow.
fn segments(cluster: &Cluster, flags: u8) -> Result<Vec<Vec<u8>>> {
    let known = cluster.lab.json(&["uplinks"])?;
    let to = forged::mac(known[0]["system_mac"].as_str().context("no MAC")?)?;
    let shown = cluster.lab.exec("client", 5, &["cat", "/sys/class/net/eth0/address"])?.ok()?;
    let (from, address): (_, Ipv4Addr) = (forged::mac(&shown)?, ADDRESSES[0].parse()?);
    let segment = |flow: u32| {
        let source = Ipv4Addr::new(10, 1, 0, 202 + (flow % 50) as u8);
        forged::segment(to, from, (source, address), (1024 + (flow / 50) as u16, 81), flags)
    };
    Ok((0..FLOWS).map(segment).collect())
}

/// KiB of memory of the agents and of the control node.
fn resident(cluster: &Cluster) -> Result<Vec<u64>> {
    let of = |process: &str| {
        let status = fs::read_to_string(format!("/proc/{}/status", cluster.lab.pid(process)?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    SERVERS.into_iter().chain(["cn-a"]).map(of).collect()
}

fn expect_downloads_to_survive(name: &str, flags: u8) -> Result<()> {
    let cluster = Cluster::start(name, |text| text)?;
    let frames = segments(&cluster, flags)?;
    let downloads = CLIENTS.map(|client| cluster.download(client, ADDRESSES[0], 81));
    CLIENTS.into_iter().try_for_each(|client| cluster.has_begun(client))?;
    let (before, packets) = (resident(&cluster)?, "lan.red.cluster.10.1.0.100.packets");
    let counted = cluster.counter(packets)?;
    let from = Instant::now();
    let flood = Generator::start(RawSocket::open(&cluster.lab.namespace("client"), "eth0")?, frames);
    cluster.lab.wait_for("the flood", || Ok(flood.sent() >= FRAMES))?;
    let sent = flood.finish()?;
    let took = from.elapsed().as_secs_f64();
    let taken = cluster.counter(packets)? - counted;
    println!(
        "{:.0} segments a second sent, {:.0} came to the proxy",
        sent as f64 / took,
        taken as f64 / took
    );
    for (client, download) in CLIENTS.into_iter().zip(downloads) {
        cluster.ends_whole(client, download?)?;
    }
    let after = resident(&cluster)?;
    println!("KiB of web1, web2, web3 and cn-a: {before:?}, then {after:?}");
    ensure!(
        before.iter().zip(&after).all(|(before, after)| *after < before + GROWTH_MAX),
        "{before:?} {after:?}"
    );
    ensure!(cluster.ask("desk", ADDRESSES[0], 81)?.is_some(), "it serves no more");
    cluster.lab.stop()
}

#[test]
fn a_flood_of_syns_breaks_no_connection_and_takes_no_memory() -> Result<()> {
    expect_downloads_to_survive("e2esyn", SYN)
}

#[test]
fn a_flood_of_acks_breaks_no_connection_and_takes_no_memory() -> Result<()> {
    expect_downloads_to_survive("e2eack", ACK)
}
