//! Fabrics on which long packets vanish, and nobody says so.

use std::fs;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use e2e::Lab;
use e2e::lab::examples;
use e2e::traffic::Stream;
use serde_json::Value;

/// Both directions between the hosts, IPv4 one way and IPv6 the other.
const PAIRS: [(&str, &str, &str, &str); 2] =
    [("web1", "10.1.0.1", "web2", "10.1.0.2"), ("web2", "fd00:1::2", "web1", "fd00:1::1")];
/// Datagrams a second of each stream, and octets of each: several packets, however long those are.
const RATE: u64 = 1_000;
const LEN: usize = 4_000;
/// Octets of the longest IP packet that a fabric carries, and those of the packets that fit, by IPv4 and by IPv6.
const LIMIT: usize = 1_400;
const FITTING: [usize; 2] = [LIMIT - 28, LIMIT - 48];

fn lab(name: &str) -> Result<Lab> {
    let lab = Lab::start_text(&fs::read_to_string(examples().join("two-hosts.toml"))?, name)?;
    // Runs are to be cut before they are counted: a rule sees what crosses the wire.
    for (process, fabric) in ends() {
        let words = ["ip", "link", "set", "dev", fabric, "gso_max_segs", "1"];
        lab.exec_in_underlay(process, 5, &words)?.ok()?;
    }
    Ok(lab)
}

/// Each end of each fabric.
fn ends() -> impl Iterator<Item = (&'static str, &'static str)> {
    ["cn-a", "web1", "web2", "web3"]
        .into_iter()
        .flat_map(|process| ["a", "b"].map(|fabric| (process, fabric)))
}

/// What comes by `fabric` and is longer than the limit is dropped, at everybody, and counted if it is of web1 or web2: other
/// legs search in their own time.
fn make_hole(lab: &Lab, fabric: &str) -> Result<()> {
    let of_pair = match fabric {
        "a" => "ip saddr 172.31.1.2-172.31.1.3",
        _ => "ip6 saddr fd31:2::2-fd31:2::3",
    };
    for (process, _) in ends().filter(|(_, other)| *other == fabric) {
        let chain = format!("chain inet hole {fabric} {{ type filter hook prerouting priority -300; }}");
        let rule = format!("rule inet hole {fabric} iifname {fabric} meta length > {LIMIT}");
        let script =
            format!("add table inet hole; add {chain}; add {rule} {of_pair} counter drop; add {rule} drop");
        lab.exec_in_underlay(process, 5, &["nft", &script])?.ok()?;
    }
    Ok(())
}

/// Packets between web1 and web2 that vanished so far.
fn vanished(lab: &Lab) -> Result<u64> {
    let mut sum = 0;
    for process in ["web1", "web2"] {
        let rules = lab.exec_in_underlay(process, 5, &["nft", "list", "table", "inet", "hole"])?.ok()?;
        let counts = rules.split("counter packets ").skip(1).filter_map(|rest| rest.split(' ').next());
        sum += counts.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    }
    Ok(sum)
}

fn streams(lab: &Lab) -> Result<Vec<Stream>> {
    let stream = |(from, source, to, target): &(&str, &str, &str, &str)| -> Result<Stream> {
        let (source, target): (IpAddr, IpAddr) = (source.parse()?, target.parse()?);
        Stream::start((&lab.namespace(from), source), (&lab.namespace(to), target), RATE, LEN)
    };
    PAIRS.iter().map(stream).collect()
}

/// Waits until each stream has received `more` datagrams more than now.
fn flow(lab: &Lab, streams: &[Stream], more: u64) -> Result<()> {
    let before: Vec<u64> = streams.iter().map(Stream::received).collect();
    lab.wait_for("datagrams to arrive", || {
        Ok(streams.iter().zip(&before).all(|(stream, before)| stream.received() >= before + more))
    })
}

/// Octets of the longest packets by the leg through `fabric` between web1 and web2, as its ends say.
fn sizes(lab: &Lab, fabric: &str) -> Result<Vec<u64>> {
    let rvis = lab.json(&["rvis"])?;
    let of_pair = |rvi: &&Value| {
        let ends = [rvi["a"]["node"].as_str(), rvi["b"]["node"].as_str()];
        ends.contains(&Some("web1")) && ends.contains(&Some("web2"))
    };
    let rvi = rvis.as_array().context("no list")?.iter().find(of_pair);
    let legs = rvi.and_then(|rvi| rvi["legs"].as_array()).into_iter().flatten();
    let legs = legs.filter(|leg| leg["fabric"] == fabric && leg["state"] == "up");
    Ok(legs.flat_map(|leg| ["a", "b"].map(|end| leg[end]["packet_octets"].as_u64().unwrap_or(0))).collect())
}

/// Waits until both ends use packets by `fabric` that are as long as `most`, to within one step.
fn wait_for_sizes(lab: &Lab, fabric: &str, most: usize) -> Result<()> {
    let fits = (most as u64 - 63)..=most as u64;
    lab.wait_for(&format!("packets of {most} octets by {fabric}"), || {
        let sizes = sizes(lab, fabric)?;
        Ok(sizes.len() == 2 && sizes.iter().all(|size| fits.contains(size)))
    })
}

fn expect_nothing_lost(streams: Vec<Stream>) -> Result<()> {
    for stream in streams {
        let tally = stream.finish()?;
        ensure!(tally.lost() == 0 && tally.reordered == 0, "{tally:?}");
        ensure!(tally.sent > 1000, "hardly anything was sent: {tally:?}");
    }
    Ok(())
}

#[test]
fn long_packets_that_begin_to_vanish_cost_no_datagram() -> Result<()> {
    let lab = lab("e2ehole")?;
    let streams = streams(&lab)?;
    flow(&lab, &streams, RATE / 2)?;
    wait_for_sizes(&lab, "a", 1472)?;
    wait_for_sizes(&lab, "b", 1452)?;
    make_hole(&lab, "a")?;
    flow(&lab, &streams, 2 * RATE)?;
    wait_for_sizes(&lab, "a", FITTING[0])?;
    wait_for_sizes(&lab, "b", 1452)?;
    make_hole(&lab, "b")?;
    flow(&lab, &streams, 2 * RATE)?;
    wait_for_sizes(&lab, "a", FITTING[0])?;
    wait_for_sizes(&lab, "b", FITTING[1])?;
    let before = vanished(&lab)?;
    ensure!(before > 10, "{before} packets vanished");
    flow(&lab, &streams, 2 * RATE)?;
    let after = vanished(&lab)?;
    ensure!(after - before < 10, "{} more packets vanished", after - before);
    // The size is what people see, too.
    let shown = lab.switchctl(&["rvis"])?.ok()?;
    ensure!(shown.contains("SIZE"), "{shown}");
    expect_nothing_lost(streams)?;
    lab.stop()
}

#[test]
fn where_long_packets_never_arrived_legs_come_up_and_carry_long_datagrams() -> Result<()> {
    let lab = lab("e2ethin")?;
    ["a", "b"].into_iter().try_for_each(|fabric| make_hole(&lab, fabric))?;
    let streams = streams(&lab)?;
    flow(&lab, &streams, RATE)?;
    wait_for_sizes(&lab, "a", FITTING[0])?;
    wait_for_sizes(&lab, "b", FITTING[1])?;
    for fabric in ["a", "b"] {
        lab.switchctl(&["fabric", fabric, "down"])?.ok()?;
        flow(&lab, &streams, RATE)?;
        lab.switchctl(&["fabric", fabric, "up"])?.ok()?;
        wait_for_sizes(&lab, "a", FITTING[0])?;
        wait_for_sizes(&lab, "b", FITTING[1])?;
    }
    expect_nothing_lost(streams)?;
    lab.stop()
}
