//! web1 and web2 of the example platforms: numbered datagrams between them, both ways, and the RVI that carries them.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::lab::Lab;
use crate::traffic::Stream;

/// From a node's address to another's: IPv4 one way and IPv6 the other.
pub const PAIRS: [(&str, &str, &str, &str); 2] =
    [("web1", "10.1.0.1", "web2", "10.1.0.2"), ("web2", "fd00:1::2", "web1", "fd00:1::1")];
/// Datagrams a second of each stream in the tests: far below what the slowest test machine carries.
pub const RATE: u64 = 5_000;
/// The legs of two hosts that have a UDP leg through each fabric.
pub const UDP: [[&str; 2]; 2] = [["a", "udp"], ["b", "udp"]];

/// Starts a stream of 200 octets each way, at `rate` datagrams a second, between stacks that know each other's addresses:
/// while one asks for its neighbour's, what it sends then may overtake what waits for the answer.
///
/// # Errors
/// When a socket cannot be had in a namespace, or nobody answers there.
pub fn streams(lab: &Lab, rate: u64) -> Result<Vec<Stream>> {
    // Before any of them: a stream may leave no room for a ping.
    for (from, source, _, target) in PAIRS {
        lab.exec(from, 10, &["ping", "-q", "-c", "2", "-i", "0.2", "-I", source, target])?.ok()?;
    }
    let stream = |(from, source, to, target): &(&str, &str, &str, &str)| -> Result<Stream> {
        let (source, target): (IpAddr, IpAddr) = (source.parse()?, target.parse()?);
        Stream::start((&lab.namespace(from), source), (&lab.namespace(to), target), rate, 200)
    };
    PAIRS.iter().map(stream).collect()
}

/// Waits until each stream has received `more` datagrams more than now.
///
/// # Errors
/// When they do not come.
pub fn flow(lab: &Lab, streams: &[Stream], more: u64) -> Result<()> {
    let before: Vec<u64> = streams.iter().map(Stream::received).collect();
    lab.wait_for("datagrams to arrive", || {
        Ok(streams.iter().zip(&before).all(|(stream, before)| stream.received() >= before + more))
    })
}

/// Ends the streams, of which nothing may be lost, doubled or reordered.
///
/// # Errors
/// When something is, with what was counted.
pub fn expect_nothing_lost(streams: Vec<Stream>) -> Result<()> {
    for stream in streams {
        let tally = stream.finish()?;
        ensure!(tally.lost() == 0 && tally.reordered == 0, "{tally:?}");
        ensure!(tally.sent > 1000, "hardly anything was sent: {tally:?}");
    }
    Ok(())
}

/// Waits until there is a direct RVI, by whatever legs.
///
/// # Errors
/// When it does not come.
pub fn wait_for_direct(lab: &Lab) -> Result<()> {
    lab.wait_for("a direct RVI of web1 and web2", || {
        Ok(direct_rvi(lab)?.is_some_and(|rvi| rvi["state"] == "up"))
    })
}

/// Waits until both legs of the direct RVI are up, and are UDP legs.
///
/// # Errors
/// When they do not come.
pub fn wait_for_udp_legs(lab: &Lab) -> Result<()> {
    wait_for_legs(lab, &UDP)
}

/// Waits until the direct RVI has these legs, fabric and kind of each, and all are up.
///
/// # Errors
/// When they do not come.
pub fn wait_for_legs(lab: &Lab, legs: &[[&str; 2]]) -> Result<()> {
    let up: Vec<[String; 3]> =
        legs.iter().map(|[fabric, kind]| [*fabric, *kind, "up"].map(str::to_owned)).collect();
    lab.wait_for("the legs between web1 and web2", || Ok(self::legs(lab)? == up))
}

/// The legs of the direct RVI through fabrics: fabric, kind and state of each.
///
/// # Errors
/// When the control node does not say.
pub fn legs(lab: &Lab) -> Result<Vec<[String; 3]>> {
    let rvi = direct_rvi(lab)?;
    let legs = rvi.as_ref().and_then(|rvi| rvi["legs"].as_array()).into_iter().flatten();
    let word = |leg: &Value, key: &str| leg[key].as_str().unwrap_or_default().to_owned();
    let direct = legs.filter(|leg| leg["kind"] != "relay");
    Ok(direct.map(|leg| ["fabric", "kind", "state"].map(|key| word(leg, key))).collect())
}

/// True when the three nodes of the example platforms are attached, those of another host by packets alone.
///
/// # Errors
/// When the control node does not say.
pub fn are_attached(lab: &Lab) -> Result<bool> {
    let nodes = lab.json(&["nodes"])?;
    let nodes = nodes.as_array().context("no list")?;
    Ok(nodes.len() == 3 && nodes.iter().all(|node| node["attached"] == true))
}

/// Takes fabrics a and b down and up again, twice each, while the streams flow; between `legs` come back.
///
/// # Errors
/// When datagrams stop, or a leg stays away.
pub fn flap_fabrics(lab: &Lab, streams: &[Stream], legs: &[[&str; 2]]) -> Result<()> {
    for fabric in ["a", "b", "a", "b"] {
        lab.switchctl(&["fabric", fabric, "down"])?.ok()?;
        flow(lab, streams, RATE / 2)?;
        lab.switchctl(&["fabric", fabric, "up"])?.ok()?;
        wait_for_legs(lab, legs)?;
        flow(lab, streams, RATE / 10)?;
    }
    Ok(())
}

/// Kills the control node while the streams flow: with both fabrics, without fabric a, and without fabric b.
///
/// # Errors
/// When datagrams stop, or a node does not find the next one.
pub fn kill_control_node(lab: &Lab, streams: &[Stream], legs: &[[&str; 2]]) -> Result<()> {
    for down in [None, Some("a"), Some("b")] {
        if let Some(fabric) = down {
            lab.switchctl(&["fabric", fabric, "down"])?.ok()?;
        }
        let killed = lab.pid("cn-a")?;
        lab.kill("cn-a")?;
        lab.wait_for("all nodes to be attached again", || {
            Ok(lab.pid("cn-a").is_ok_and(|pid| pid != killed) && are_attached(lab).unwrap_or(false))
        })?;
        flow(lab, streams, RATE / 2)?;
        if let Some(fabric) = down {
            lab.switchctl(&["fabric", fabric, "up"])?.ok()?;
            wait_for_legs(lab, legs)?;
        }
    }
    Ok(())
}

/// Whether what web1 pings web2 with can be read on a fabric, which alone carries it: in 60 packets of `kind`, as tcpdump
/// calls them.
///
/// # Errors
/// When the legs do not come, pings are lost or nothing can be captured.
pub fn is_readable(lab: &Lab, fabric: &str, legs: &[[&str; 2]], kind: &str) -> Result<bool> {
    // WEFT, as the pattern that ping fills its packets with.
    let ping = ["ping", "-q", "-i", "0.01", "-c", "800", "-s", "400", "-p", "57454654", "10.1.0.2"];
    let mut pinging = lab.spawn("web1", 20, &ping)?;
    wait_for_legs(lab, legs)?;
    // Else the lane of the ping may go by the other fabric.
    lab.switchctl(&["fabric", if fabric == "a" { "b" } else { "a" }, "down"])?.ok()?;
    let filter = format!("{kind} and greater 300");
    let capture = ["timeout", "10", "tcpdump", "-i", fabric, "-n", "-c", "60", "-A", &filter];
    let captured = lab.exec_in_underlay("web2", 15, &capture)?.ok()?;
    ensure!(pinging.wait()?.success(), "pings were lost");
    Ok(captured.contains("WEFTWEFTWEFT"))
}

fn direct_rvi(lab: &Lab) -> Result<Option<Value>> {
    let rvis = lab.json(&["rvis"])?;
    let of_pair = |rvi: &&Value| {
        let ends = [rvi["a"]["node"].as_str(), rvi["b"]["node"].as_str()];
        ends.contains(&Some("web1")) && ends.contains(&Some("web2"))
    };
    Ok(rvis.as_array().context("no list")?.iter().find(of_pair).cloned())
}
