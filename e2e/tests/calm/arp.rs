//! ARP and neighbour discovery on a LAN whose control node answers for its members.

use std::fs;

use anyhow::{Result, bail, ensure};
use e2e::lab::examples;
use e2e::{Lab, Tcpdump};

/// web1, web2 and web3 on red, where requests are answered from registrations.
fn lab() -> Result<Lab> {
    let text = fs::read_to_string(examples().join("two-lans.toml"))?;
    let red = "name = \"red\"";
    ensure!(text.matches(red).count() == 1, "not one LAN red");
    Lab::start_text(&text.replace(red, &format!("{red}\narp = \"suppress\"")), "e2earp")
}

/// A capture of what comes to a node's interface, that has begun.
fn watch(lab: &Lab, node: &str) -> Result<Tcpdump> {
    let options = ["--immediate-mode", "-Q", "in", "-l", "-i", "red", "arp or icmp or icmp6"];
    Tcpdump::start(lab, node, 60, &options)
}

/// Ends a capture when the line `last` has come, and gives those before it.
fn seen(mut capture: Tcpdump, last: &str) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    while let Some(line) = capture.line()? {
        if line.contains(last) {
            capture.end()?;
            return Ok(lines);
        }
        lines.push(line);
    }
    bail!("the capture ended before {last:?}: {lines:#?}")
}

fn answered(lab: &Lab) -> Result<u64> {
    lab.counter(|name| name == "lan.red.arp.answered")
}

fn ping(lab: &Lab, from: &str, to: &str) -> Result<bool> {
    Ok(lab.exec(from, 10, &["ping", "-q", "-c", "1", "-W", "2", to])?.code == Some(0))
}

#[test]
fn neighbours_are_found_without_a_question_to_anybody() -> Result<()> {
    let lab = lab()?;
    let before = answered(&lab)?;
    let (holder, other) = (watch(&lab, "web2")?, watch(&lab, "web3")?);
    for address in ["10.1.0.2", "fd00:1::2"] {
        ensure!(ping(&lab, "web1", address)?, "{address} does not answer");
    }
    ensure!(answered(&lab)? >= before + 2, "nothing was answered");
    // Nobody has this address: everybody is asked.
    ensure!(!ping(&lab, "web1", "10.1.0.99")?, "somebody has 10.1.0.99");
    for node in ["web2", "web3"] {
        let address = if node == "web2" { "10.1.0.2" } else { "10.1.0.3" };
        let from = if node == "web2" { "web3" } else { "web2" };
        ensure!(ping(&lab, from, address)?, "{address} does not answer {from}");
    }
    for (capture, last) in [
        (holder, "10.1.0.3 > 10.1.0.2: ICMP echo request"),
        (other, "10.1.0.2 > 10.1.0.3: ICMP echo request"),
    ] {
        let lines = seen(capture, last)?;
        let asked = |target: &str| lines.iter().filter(|line| line.contains(target)).count();
        ensure!(asked("who-has 10.1.0.99") > 0, "nobody was asked for 10.1.0.99: {lines:#?}");
        ensure!(asked("Request who-has 10.1.0.2 tell 10.1.0.1") == 0, "everybody was asked: {lines:#?}");
        ensure!(
            asked("> ff02::1:ff00:2: ICMP6, neighbor solicitation") == 0,
            "everybody was asked: {lines:#?}"
        );
    }
    // A trace says so, too.
    let said = lab.switchctl(&["trace", "--lan", "red", "--from", "web1", "arp", "10.1.0.2"])?.ok()?;
    ensure!(said.contains("spec/arp.md#suppression"), "{said}");
    lab.stop()
}
