//! Streams to multicast groups reach those who have joined and nobody else, with stock programs at the ends.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use e2e::groups::{Listener, PORT};
use e2e::traffic::socket_in;
use e2e::{Lab, Tcpdump};

/// The groups of the streams: each with the sender's address.
pub(crate) const STREAMS: [(&str, &str); 2] = [("239.1.1.1", "10.1.0.1"), ("ff05::7", "fd00:1::1")];
/// Groups of the link, which nobody need join at a switch: those of mDNS.
const MDNS: [(&str, &str); 2] = [("224.0.0.251", "10.1.0.1"), ("ff02::fb", "fd00:1::1")];
/// Datagrams a second: a video of 2 Mbit/s has about as many.
const RATE: u64 = 500;
/// Octets of each.
const LINE_LEN: usize = 8;

/// A LAN of ten members. The interface of the last one may be a bridge's: it has no address then.
pub(crate) fn ten_members(is_last_bridged: bool) -> String {
    let mut text = "[platform]\nname = \"ten\"\n[[fabric]]\nname = \"a\"\n[[control-node]]\nname = \"cn-a\"\nserial = 1\n\
                    key-file = \"keys/cn-a\"\nstate-dir = \"state/cn-a\"\nmanagement = \"unix:run/cn-a.sock\"\n\
                    legs = { a = \"unix:run/cn-a-a.sock\" }\n"
        .to_owned();
    for n in 1..=10 {
        let _ = writeln!(
            text,
            "[[node]]\nname = \"web{n}\"\nnumber = {n}\nkey-file = \"keys/web{n}\"\nlegs = {{ a = \"unix\" }}"
        );
    }
    text.push_str("[[lan]]\nname = \"red\"\nid = 10\nmtu = 1500\nport-security = \"off\"\n");
    for n in 1..=10 {
        let _ = writeln!(text, "[[lan.member]]\nnode = \"web{n}\"");
        if n < 10 || !is_last_bridged {
            let _ = writeln!(text, "address = [\"10.1.0.{n}/24\", \"fd00:1::{n}/64\"]");
        }
    }
    text
}

/// The members of a group as the control node has them, with the source of each.
pub(crate) fn members(lab: &Lab, group: &str) -> Result<Vec<(String, String)>> {
    let groups = lab.json(&["groups"])?;
    let found = groups.as_array().into_iter().flatten().find(|entry| entry["group"] == group);
    let members = found.and_then(|entry| entry["members"].as_array()).into_iter().flatten();
    let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let mut members: Vec<_> =
        members.map(|member| (word(&member["node"]), word(&member["source"]))).collect();
    members.sort();
    Ok(members)
}

pub(crate) fn wait_for_members(lab: &Lab, group: &str, nodes: &[&str]) -> Result<()> {
    lab.wait_for(&format!("{nodes:?} to be members of {group}"), || {
        Ok(members(lab, group)?.iter().map(|(node, _)| node.as_str()).eq(nodes.iter().copied()))
    })
}

/// Sends lines with the numbers `from..to` to a group, at [`RATE`], and gives them.
pub(crate) fn send(
    lab: &Lab,
    (group, source): (&str, &str),
    numbers: std::ops::Range<u64>,
) -> Result<Vec<String>> {
    let socket = socket_in(&lab.namespace("web1"), source.parse()?)?;
    let target = SocketAddr::new(group.parse::<IpAddr>()?, PORT);
    let (start, first) = (Instant::now(), numbers.start);
    let mut lines = Vec::new();
    for number in numbers {
        let due = Duration::from_micros((number - first) * 1_000_000 / RATE);
        while let Some(early) = due.checked_sub(start.elapsed()).filter(|early| !early.is_zero()) {
            std::thread::park_timeout(early);
        }
        let line = format!("{number:07}");
        socket.send_to(format!("{line}\n").as_bytes(), target)?;
        lines.push(line);
    }
    Ok(lines)
}

/// A capture of what comes to [`PORT`] at a node's interface, that has begun.
fn watch(lab: &Lab, node: &str) -> Result<Tcpdump> {
    let filter = format!("udp port {PORT}");
    Tcpdump::start(lab, node, 120, &["--immediate-mode", "-Q", "in", "-l", "-i", "red", &filter])
}

/// How many datagrams a line of a capture is: those that were ready together came as one super-frame.
fn datagrams(line: &str) -> Result<usize> {
    let octets = line.rsplit_once("length ").and_then(|(_, octets)| octets.trim().parse::<usize>().ok());
    Ok(octets.with_context(|| format!("no length: {line}"))? / LINE_LEN)
}

/// Reads a capture until `expected` datagrams to the group have come and then another, which is sent now; ends it, and gives
/// how many to the group came. The other one is of another sender, and may overtake the group's.
fn seen(lab: &Lab, node: &str, mut capture: Tcpdump, group: &str, expected: usize) -> Result<usize> {
    let (from, number) = if node == "web2" { ("web3", 3) } else { ("web2", 2) };
    let socket = socket_in(&lab.namespace(from), IpAddr::from([10, 1, 0, number]))?;
    let to: u8 = node.trim_start_matches("web").parse()?;
    socket.send_to(b"the last", SocketAddr::new(IpAddr::from([10, 1, 0, to]), PORT))?;
    let (mut seen, mut is_last_seen) = (0, false);
    while let Some(line) = capture.line()? {
        if line.contains(&format!("> {group}.{PORT}")) {
            seen += datagrams(&line)?;
        }
        is_last_seen |= line.contains(&format!("> 10.1.0.{to}.{PORT}"));
        if is_last_seen && seen >= expected {
            capture.end()?;
            return Ok(seen);
        }
    }
    bail!("the capture at {node} ended after {seen} datagrams to {group}, of {expected}")
}

#[test]
fn three_of_ten_members_join_a_stream_and_the_other_seven_see_nothing() -> Result<()> {
    let lab = Lab::start_text(&ten_members(false), "e2emc")?;
    let (joined, others) =
        (["web2", "web5", "web9"], ["web1", "web3", "web4", "web6", "web7", "web8", "web10"]);
    for stream in STREAMS {
        let listeners = joined
            .map(|node| Listener::join(&lab, node, "red", stream.0))
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        wait_for_members(&lab, stream.0, &joined)?;
        let captures = others.map(|node| watch(&lab, node)).into_iter().collect::<Result<Vec<_>>>()?;
        let sent = send(&lab, stream, 0..1000)?;
        lab.wait_for("the stream to arrive", || Ok(listeners.iter().all(|l| l.lines().len() >= sent.len())))?;
        for (node, capture) in others.iter().zip(captures) {
            ensure!(seen(&lab, node, capture, stream.0, 0)? == 0, "{node} saw the stream to {}", stream.0);
        }
        for listener in listeners {
            ensure!(listener.leave()? == sent, "not every datagram once");
        }
        wait_for_members(&lab, stream.0, &[])?;
    }
    lab.stop()
}

#[test]
fn groups_of_the_link_reach_everybody_without_a_join() -> Result<()> {
    let lab = Lab::start_text(&ten_members(false), "e2emdns")?;
    for stream in MDNS {
        let capture = watch(&lab, "web7")?;
        let listener = Listener::join(&lab, "web4", "red", stream.0)?;
        let listens = || Ok(lab.exec("web4", 5, &["ss", "-Hulna"])?.ok()?.contains("5004"));
        lab.wait_for("socat to listen", listens)?;
        let sent = send(&lab, stream, 0..50)?;
        lab.wait_for("them to arrive", || Ok(listener.lines().len() >= sent.len()))?;
        ensure!(members(&lab, stream.0)?.is_empty());
        ensure!(listener.leave()? == sent);
        let seen = seen(&lab, "web7", capture, stream.0, 50)?;
        ensure!(seen == 50, "one that has not joined is to see {}: {seen} of 50", stream.0);
    }
    // Neighbour discovery, to a station that nobody has spoken to.
    lab.exec("web3", 20, &["ping", "-q", "-c", "3", "-i", "0.2", "fd00:1::8"])?.ok()?;
    lab.stop()
}

#[test]
fn a_stream_goes_on_when_the_control_node_starts_again() -> Result<()> {
    let lab = Lab::start_text(&ten_members(false), "e2emre")?;
    for stream in STREAMS {
        let listeners = ["web2", "web3"].map(|node| Listener::join(&lab, node, "red", stream.0));
        let listeners = listeners.into_iter().collect::<Result<Vec<_>>>()?;
        wait_for_members(&lab, stream.0, &["web2", "web3"])?;
        let capture = watch(&lab, "web4")?;
        let sent = std::thread::scope(|scope| -> Result<Vec<String>> {
            let sender = scope.spawn(|| send(&lab, stream, 0..3000));
            lab.wait_for("the stream to begin", || Ok(listeners.iter().all(|l| l.lines().len() > 100)))?;
            lab.kill("cn-a")?;
            sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?
        })?;
        let has_last = |l: &Listener| l.lines().last() == sent.last();
        lab.wait_for("the end of the stream", || Ok(listeners.iter().all(has_last)))?;
        wait_for_members(&lab, stream.0, &["web2", "web3"])?;
        ensure!(seen(&lab, "web4", capture, stream.0, 0)? == 0, "web4 saw the stream to {}", stream.0);
        for listener in listeners {
            let lines = listener.leave()?;
            ensure!(lines.windows(2).all(|pair| pair[0] < pair[1]), "twice, or out of order: {lines:?}");
            // 50 ms for any way to go, and some hundred for the control node to start: a fifth of the stream's time.
            ensure!(lines.len() >= sent.len() * 4 / 5, "{} of {}", lines.len(), sent.len());
        }
        wait_for_members(&lab, stream.0, &[])?;
    }
    lab.stop()
}
