//! Two nodes that no fabric joins, and a control node on a third host that both still reach.

use std::fs;
use std::net::IpAddr;
use std::ops::Range;

use anyhow::{Context, Result, ensure};
use e2e::Lab;
use e2e::lab::examples;
use e2e::pair::{are_attached, expect_nothing_lost, flow};
use e2e::traffic::Stream;
use serde_json::Value;

/// Both ways over IPv4 and over IPv6.
const PAIRS: [(&str, &str, &str, &str); 4] = [
    ("web1", "10.1.0.1", "web2", "10.1.0.2"),
    ("web2", "10.1.0.2", "web1", "10.1.0.1"),
    ("web1", "fd00:1::1", "web2", "fd00:1::2"),
    ("web2", "fd00:1::2", "web1", "fd00:1::1"),
];
/// Datagrams a second of each stream: 3,000 each way, each of which crosses by itself.
const RATE: u64 = 1_500;
/// Their octets. Each is longer than the one before, so that it crosses, and is counted, by itself: hardly two in `SIZES` are
/// joined, where the lengths begin again.
const SIZES: Range<usize> = 200..1224;
/// Where web1 and web2 receive: on fabric a, and on fabric b.
const ADDRESSES: [[&str; 2]; 2] = [["172.31.1.2", "fd31:2::2"], ["172.31.1.3", "fd31:2::3"]];

/// The example of two hosts, with its control node on a third.
fn lab(name: &str) -> Result<Lab> {
    let text = fs::read_to_string(examples().join("two-hosts.toml"))?;
    Lab::start_text(&text.replacen("host = \"h1\"", "host = \"h3\"", 1), name)
}

fn streams(lab: &Lab) -> Result<Vec<Stream>> {
    let stream = |(from, source, to, target): &(&str, &str, &str, &str)| -> Result<Stream> {
        let (source, target): (IpAddr, IpAddr) = (source.parse()?, target.parse()?);
        Stream::start_growing((&lab.namespace(from), source), (&lab.namespace(to), target), RATE, SIZES)
    };
    PAIRS.iter().map(stream).collect()
}

/// Has each of the two hosts drop all datagrams of the other, on both fabrics.
fn part(lab: &Lab) -> Result<()> {
    for (node, [a, b]) in [("web1", ADDRESSES[1]), ("web2", ADDRESSES[0])] {
        let rules = format!(
            "table inet apart {{ chain in {{ type filter hook input priority 0; \
             ip saddr {a} meta l4proto udp drop; ip6 saddr {b} meta l4proto udp drop; }}; }}"
        );
        lab.exec_in_underlay(node, 10, &["nft", &rules])?.ok()?;
    }
    Ok(())
}

fn join(lab: &Lab) -> Result<()> {
    for node in ["web1", "web2"] {
        lab.exec_in_underlay(node, 10, &["nft", "delete table inet apart"])?.ok()?;
    }
    Ok(())
}

/// The legs of the RVI between web1 and web2.
fn legs(lab: &Lab) -> Result<Vec<Value>> {
    let rvis = lab.json(&["rvis"])?;
    let of_pair = |rvi: &&Value| {
        let ends = [rvi["a"]["node"].as_str(), rvi["b"]["node"].as_str()];
        ends.contains(&Some("web1")) && ends.contains(&Some("web2"))
    };
    let rvi = rvis.as_array().context("no list")?.iter().find(of_pair);
    Ok(rvi.and_then(|rvi| rvi["legs"].as_array()).cloned().unwrap_or_default())
}

fn wait_for_legs(lab: &Lab, kind: &str, state: &str, count: usize) -> Result<()> {
    lab.wait_for(&format!("{count} {kind} legs that are {state}"), || {
        let is_it = |leg: &&Value| leg["kind"] == kind && leg["state"] == state;
        Ok(legs(lab)?.iter().filter(is_it).count() == count)
    })
}

fn carried(lab: &Lab) -> Result<u64> {
    lab.counter(|name| name == "relay.packets")
}

#[test]
fn a_control_node_carries_the_packets_of_two_hosts_that_no_fabric_joins() -> Result<()> {
    let lab = lab("e2erelay")?;
    let streams = streams(&lab)?;
    flow(&lab, &streams, 500)?;
    wait_for_legs(&lab, "udp", "up", 2)?;
    for _ in 0..2 {
        let before = carried(&lab)?;
        part(&lab)?;
        flow(&lab, &streams, 2 * RATE)?;
        wait_for_legs(&lab, "udp", "down", 2)?;
        wait_for_legs(&lab, "relay", "up", 1)?;
        let during = carried(&lab)?;
        ensure!(during > before + RATE, "{} packets carried", during - before);
        join(&lab)?;
        wait_for_legs(&lab, "udp", "up", 2)?;
        let after = carried(&lab)?;
        flow(&lab, &streams, RATE)?;
        let more = carried(&lab)? - after;
        ensure!(more < 50, "{more} packets are still carried");
    }
    expect_nothing_lost(streams)?;
    lab.stop()
}

#[test]
fn when_the_control_node_that_carries_is_killed_what_is_lost_is_counted() -> Result<()> {
    let lab = lab("e2ecarry")?;
    let streams = streams(&lab)?;
    flow(&lab, &streams, 500)?;
    wait_for_legs(&lab, "udp", "up", 2)?;
    part(&lab)?;
    flow(&lab, &streams, RATE)?;
    let killed = lab.pid("cn-a")?;
    lab.kill("cn-a")?;
    lab.wait_for("all nodes to be attached again", || {
        Ok(lab.pid("cn-a").is_ok_and(|pid| pid != killed) && are_attached(&lab).unwrap_or(false))
    })?;
    flow(&lab, &streams, RATE)?;
    wait_for_legs(&lab, "relay", "up", 1)?;
    join(&lab)?;
    wait_for_legs(&lab, "udp", "up", 2)?;
    flow(&lab, &streams, RATE)?;
    let (mut lost, mut reordered, joins) = (0, 0, streams.len() as u64);
    for stream in streams {
        let tally = stream.finish()?;
        lost += tally.lost();
        reordered += tally.reordered;
    }
    // The permitted losses, and a frame that a control node had for a member that was not back yet.
    let mut counted = Vec::new();
    for reason in ["expired", "egress-full", "device-full", "peer-gone", "not-attached"] {
        counted.push((reason, lab.counter(|name| name.ends_with(&format!(".drop.{reason}")))?));
    }
    let dropped: u64 = counted.iter().map(|(_, frames)| frames).sum();
    // Datagrams that were joined are one frame: one in 64 is more than are where the lengths begin again, and each stream may do so
    // just then.
    ensure!(
        reordered == 0 && lost <= dropped + lost / 64 + joins,
        "{lost} lost, {reordered} reordered, counted: {counted:?}"
    );
    ensure!(lost > 0, "the control node was not needed");
    lab.stop()
}
