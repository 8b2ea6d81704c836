//! Members of a LAN reach each other, and nobody else does.

use anyhow::{Context, Result, ensure};
use e2e::{Lab, Tcpdump};

const MEMBERS: [(&str, &str, &str); 3] =
    [("web1", "10.1.0.1", "fd00:1::1"), ("web2", "10.1.0.2", "fd00:1::2"), ("web3", "10.1.0.3", "fd00:1::3")];

fn two_lans(name: &str) -> Result<Lab> {
    Lab::start("two-lans.toml", name, &[])
}

/// What follows `marker` in `text` up to the next space or comma.
fn word_after<'a>(text: &'a str, marker: &str) -> Result<&'a str> {
    let at = text.find(marker).with_context(|| format!("no {marker:?} in {text}"))?;
    let rest = &text[at + marker.len()..];
    Ok(rest.split([' ', ',']).next().unwrap_or(rest))
}

#[test]
fn all_pairs_ping_over_both_families_with_no_loss() -> Result<()> {
    let lab = two_lans("e2eping")?;
    for (from, own4, _) in MEMBERS {
        for (_, v4, v6) in MEMBERS.iter().filter(|(_, v4, _)| *v4 != own4) {
            for target in [v4, v6] {
                let out = lab.exec(from, 20, &["ping", "-q", "-i", "0.01", "-c", "100", target])?.ok()?;
                ensure!(out.contains("100 received"), "{from} to {target}: {out}");
                ensure!(!out.contains("duplicates"), "{from} to {target}: {out}");
            }
        }
    }
    lab.stop()
}

#[test]
fn frames_of_the_full_mtu_pass_whole_and_larger_ones_do_not() -> Result<()> {
    let lab = two_lans("e2emtu")?;
    let ping = |size: &str, target: &str| {
        lab.exec("web1", 20, &["ping", "-q", "-M", "do", "-s", size, "-i", "0.05", "-c", "10", target])
    };
    ensure!(ping("16868", "10.1.0.2")?.ok()?.contains("10 received"));
    ensure!(ping("16848", "fd00:1::2")?.ok()?.contains("10 received"));
    ensure!(ping("16869", "10.1.0.2")?.code != Some(0), "a packet beyond the MTU passed");
    // The other LAN has the MTU that its file says.
    ensure!(ping("1472", "10.2.0.2")?.ok()?.contains("10 received"));
    ensure!(ping("1473", "10.2.0.2")?.code != Some(0), "a packet beyond the MTU passed");
    lab.stop()
}

#[test]
fn iperf3_runs_in_both_directions_with_one_and_eight_streams() -> Result<()> {
    let lab = two_lans("e2eperf")?;
    for (target, options) in [
        ("10.1.0.2", vec!["-P", "1"]),
        ("10.1.0.2", vec!["-P", "8"]),
        ("10.1.0.2", vec!["-P", "8", "-R"]),
        ("fd00:1::2", vec!["-P", "1", "-R"]),
        ("fd00:1::2", vec!["-P", "8"]),
        ("10.1.0.2", vec!["-u", "-b", "200M"]),
        ("fd00:1::2", vec!["-u", "-b", "200M"]),
    ] {
        let mut server = lab.spawn("web2", 30, &["iperf3", "-s", "-1"])?;
        lab.wait_for("iperf3 to listen", || {
            Ok(lab.exec("web2", 5, &["ss", "-Htln", "sport = :5201"])?.ok()?.contains("5201"))
        })?;
        let words = [&["iperf3", "-c", target, "-t", "1", "-J"], &*options].concat();
        let report: serde_json::Value = serde_json::from_str(&lab.exec("web1", 30, &words)?.ok()?)?;
        server.wait()?;
        let end = &report["end"];
        let sum = if end["sum_received"].is_null() { &end["sum"] } else { &end["sum_received"] };
        ensure!(sum["bytes"].as_f64().unwrap_or(0.0) > 1e6, "{options:?} to {target}: {report}");
    }
    lab.stop()
}

#[test]
fn a_broadcast_reaches_every_other_member_once() -> Result<()> {
    let lab = two_lans("e2ecast")?;
    for node in ["web2", "web3"] {
        // The kernel's default is silence to broadcast pings; the test's own namespaces may change that.
        lab.exec(node, 5, &["sysctl", "-qw", "net.ipv4.icmp_echo_ignore_broadcasts=0"])?.ok()?;
    }
    for words in [["-b", "10.1.0.255"], ["-I", "red"]] {
        let words = if words[0] == "-I" { vec!["-I", "red", "ff02::1"] } else { words.to_vec() };
        let ping = [vec!["ping", "-i", "0.05", "-c", "10"], words].concat();
        let out = lab.exec("web1", 20, &ping)?.out;
        // Replies name their sender; the sender's own answer to ff02::1 is not of the LAN.
        // ping ends with the first answer to its last request, so that one is not counted.
        for number in 1..=9 {
            let lines = out.lines().filter(|line| line.contains(&format!("icmp_seq={number} ")));
            let mut senders: Vec<&str> = lines.filter_map(|line| word_after(line, "from ").ok()).collect();
            let own = lab.exec("web1", 5, &["ip", "-6", "-br", "addr", "show", "dev", "red"])?.ok()?;
            senders.retain(|sender| !own.contains(sender.trim_end_matches(':').trim_end_matches("%red")));
            senders.sort_unstable();
            let all = senders.len();
            senders.dedup();
            ensure!(all == senders.len(), "somebody answered twice: {out}");
            ensure!(all == 2, "{all} answers to number {number}: {out}");
        }
    }
    lab.stop()
}

#[test]
fn a_non_member_sees_nothing_of_the_lan() -> Result<()> {
    let lab = two_lans("e2enon")?;
    let capture = Tcpdump::start(&lab, "guest", 60, &["-l", "-i", "any", "not net 10.2.0.0/24"])?;
    lab.exec("web1", 20, &["ping", "-q", "-i", "0.01", "-c", "50", "10.1.0.2"])?.ok()?;
    lab.exec("web1", 20, &["ping", "-q", "-b", "-i", "0.05", "-c", "10", "10.1.0.255"])?;
    lab.exec("web1", 20, &["ping", "-q", "-I", "red", "-i", "0.05", "-c", "10", "ff02::1"])?;
    // The guest reaches its own LAN, so its silence about the other is no deafness.
    lab.exec("guest", 20, &["ping", "-q", "-c", "2", "-i", "0.2", "10.2.0.1"])?.ok()?;
    ensure!(
        lab.exec("guest", 10, &["ping", "-q", "-c", "2", "-W", "1", "-i", "0.2", "10.1.0.1"])?.code
            != Some(0)
    );
    let seen = capture.end()?.out;
    for foreign in ["10.1.0.", "fd00:1:"] {
        ensure!(!seen.contains(foreign), "the guest saw {foreign}: {seen}");
    }
    lab.stop()
}

#[test]
fn a_node_with_a_wrong_key_is_refused() -> Result<()> {
    // The public half that the control node reads is another key's than the private half that the node has.
    let lab = Lab::start("two-lans.toml", "e2ekey", &["--no-restart"])?;
    let other = lab.file().with_file_name("keys").join("web2");
    let own = lab.file().with_file_name("keys").join("guest");
    lab.kill("guest")?;
    std::fs::copy(other, own)?;
    lab.wait_for("the supervisor to miss the process and start another", || {
        Ok(lab.switchctl(&["restart", "guest"])?.code == Some(0))
    })?;
    lab.wait_for("the refusal in the log", || Ok(lab.log().contains("refused")))?;
    let nodes = lab.json(&["nodes"])?;
    let guest = nodes.as_array().into_iter().flatten().find(|node| node["name"] == "guest");
    ensure!(guest.is_some_and(|guest| guest["attached"] == false), "{nodes}");
    lab.exec("web1", 20, &["ping", "-q", "-c", "3", "-i", "0.1", "10.1.0.2"])?.ok()?;
    Ok(())
}
