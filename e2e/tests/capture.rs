//! `switchctl capture` on a running lab, read by tshark.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use e2e::Lab;
use e2e::capture::{Capture, fields, tshark};
use e2e::lab::program;

fn lab(name: &str) -> Result<Lab> {
    Lab::start("two-lans.toml", name, &[])
}

/// A file in the lab's folder.
fn file(lab: &Lab, name: &str) -> PathBuf {
    lab.file().with_file_name(name)
}

/// Pings from web1 to web2 until the capture has ended by itself.
fn ping_until_ended(lab: &Lab, capture: &mut Capture) -> Result<()> {
    let mut pings = 0;
    while !capture.has_ended()? {
        pings += 1;
        ensure!(pings < 30, "the capture did not end");
        lab.exec("web1", 20, &["ping", "-q", "-i", "0.02", "-c", "30", "10.1.0.2"])?.ok()?;
    }
    Ok(())
}

#[test]
fn a_capture_of_a_lan_has_each_frame_once_from_its_sender() -> Result<()> {
    let lab = lab("e2ecapl")?;
    let file = file(&lab, "lan.pcapng");
    let name = file.to_string_lossy().into_owned();
    let words = ["--lan", "red", "-w", &name, "--count", "40", "icmp and not member web3"];
    let mut capture = Capture::start(&lab, &words, Stdio::null())?;
    ping_until_ended(&lab, &mut capture)?;
    let (_, said) = capture.finish()?;
    ensure!(said.starts_with("40 frames captured") && said.contains(" 0 lost"), "{said}");

    let names = ["frame.interface_name", "ip.src", "icmp.type", "icmp.ident", "icmp.seq"];
    let mut frames = fields(&file, "icmp", &names)?;
    ensure!(frames.len() == 40, "{frames:?}");
    for frame in &frames {
        let (place, source, kind) = (frame[0].as_str(), frame[1].as_str(), frame[2].as_str());
        ensure!(
            [("web1/red", "10.1.0.1", "8"), ("web2/red", "10.1.0.2", "0")].contains(&(place, source, kind)),
            "{frame:?}"
        );
    }
    frames.sort();
    frames.dedup();
    ensure!(frames.len() == 40, "a frame twice: {frames:?}");
    lab.stop()
}

#[test]
fn a_capture_of_a_node_goes_live_through_a_pipe_and_ends_with_its_reader() -> Result<()> {
    let lab = lab("e2ecapn")?;
    let mut switchctl = Command::new("timeout");
    switchctl.args(["--foreground", "60"]).arg(program("switchctl")?).arg("-f").arg(lab.file());
    switchctl.args(["capture", "--node", "web1", "ip and src host 10.1.0.2"]).stdin(Stdio::null());
    let mut switchctl = switchctl.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let pipe = switchctl.stdout.take().context("no pipe")?;
    let tshark = Command::new("timeout")
        .args(["60", "tshark", "-n", "-l", "-r", "-", "-c", "3", "-T", "fields"])
        .args(["-e", "ip.src", "-e", "frame.packet_flags_direction"])
        .stdin(pipe)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut pings = 0;
    while switchctl.try_wait()?.is_none() {
        pings += 1;
        ensure!(pings < 30, "the capture goes on without a reader");
        lab.exec("web1", 20, &["ping", "-q", "-i", "0.02", "-c", "30", "10.1.0.2"])?.ok()?;
    }
    ensure!(switchctl.wait()?.success());
    let out = tshark.wait_with_output()?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    // Bits 0 and 1 of the flags: 1 is inbound, as the interface sees what comes from web2.
    ensure!(text.lines().count() == 3, "{text}{}", String::from_utf8_lossy(&out.stderr));
    ensure!(
        text.lines().all(|line| line.starts_with("10.1.0.2\t0x00000001") || line == "10.1.0.2\t1"),
        "{text}"
    );
    lab.stop()
}

#[test]
fn messages_of_rvis_are_captured_with_their_headers_and_read_by_the_dissector() -> Result<()> {
    let lab = lab("e2ecapr")?;
    let direct = file(&lab, "direct.pcapng");
    let name = direct.to_string_lossy().into_owned();
    let words = ["--rvi", "web1", "web2", "-w", &name, "--count", "20", "icmp"];
    let mut capture = Capture::start(&lab, &words, Stdio::null())?;
    ping_until_ended(&lab, &mut capture)?;
    capture.finish()?;
    let names = ["weft.name", "weft.lan", "weft.origin", "weft.tap.direction", "ip.src"];
    let frames = fields(&direct, "weft && !weft.bad", &names)?;
    ensure!(frames.len() == 20, "{frames:?}");
    for frame in frames {
        let words: Vec<&str> = frame.iter().map(String::as_str).collect();
        let is_known = [["unicast", "10", "1", "2", "10.1.0.1"], ["unicast", "10", "2", "1", "10.1.0.2"]]
            .contains(words.first_chunk().context("fields")?);
        ensure!(is_known, "{words:?}");
    }

    let control = file(&lab, "control.pcapng");
    let name = control.to_string_lossy().into_owned();
    let words = ["--rvi", "cn-a", "web1", "-w", &name, "--count", "4", "control"];
    let mut capture = Capture::start(&lab, &words, Stdio::null())?;
    while !capture.has_ended()? {
        lab.switchctl(&["counters"])?.ok()?;
    }
    capture.finish()?;
    let messages = fields(&control, "weft && !weft.bad && !weft.unknown", &["weft.name"])?;
    let reports = messages.iter().filter(|name| name[0].starts_with("REPORT")).count();
    ensure!(messages.len() == 4 && reports >= 3, "{messages:?}");
    lab.stop()
}

#[test]
fn super_frames_are_captured_whole_and_a_reader_that_stands_still_costs_nobody_a_frame() -> Result<()> {
    let lab = lab("e2ecaps")?;
    let iperf = |seconds: &str| -> Result<serde_json::Value> {
        let mut server = lab.spawn("web2", 30, &["iperf3", "-s", "-1"])?;
        lab.wait_for("iperf3 to listen", || {
            Ok(lab.exec("web2", 5, &["ss", "-Htln", "sport = :5201"])?.ok()?.contains("5201"))
        })?;
        let out = lab.exec("web1", 30, &["iperf3", "-c", "10.1.0.2", "-t", seconds, "-J"])?.ok()?;
        server.wait()?;
        Ok(serde_json::from_str(&out)?)
    };
    let whole = file(&lab, "super.pcapng");
    let name = whole.to_string_lossy().into_owned();
    let words = ["--node", "web1", "--lan", "red", "-w", &name, "--count", "3", "greater 30000"];
    let mut capture = Capture::start(&lab, &words, Stdio::null())?;
    let mut runs = 0;
    while !capture.has_ended()? {
        runs += 1;
        ensure!(runs < 10, "no super-frame came");
        iperf("1")?;
    }
    capture.finish()?;
    let lens = fields(&whole, "tcp", &["frame.len", "frame.cap_len"])?;
    ensure!(lens.len() == 3 && lens.iter().all(|lens| lens[0] == lens[1]), "{lens:?}");

    // Nobody reads the pipe while some hundred megabytes pass.
    let capture = Capture::start(&lab, &["--node", "web1"], Stdio::piped())?;
    let report = iperf("2")?;
    ensure!(report["end"]["sum_received"]["bytes"].as_f64().unwrap_or(0.0) > 5e7, "{report}");
    capture.interrupt()?;
    let (pcapng, said) = capture.finish()?;
    let lost = said.split(' ').rev().nth(5).and_then(|word| word.parse::<u64>().ok());
    ensure!(lost.is_some_and(|lost| lost > 0), "{said}");
    let partly = file(&lab, "partly.pcapng");
    std::fs::write(&partly, pcapng)?;
    let text = tshark(&partly, &["-T", "fields", "-e", "frame.number"])?.ok()?;
    let captured = said.split(' ').next().and_then(|word| word.parse::<usize>().ok());
    ensure!(captured == Some(text.lines().count()), "{said}: {}", text.lines().count());
    //= spec/capture.md#statistics
    //= type=test
    //# A capture that is ended in order MUST say for each tap how many frames passed, how many the filter kept and how many
    //# of these were lost.
    // Neither the frames nor the control session have noticed.
    let drops = lab.json(&["drops"])?;
    let is_lost = |drop: &serde_json::Value| {
        drop["reason"] == "egress-full" || drop["reason"] == "expired" || drop["reason"] == "malformed"
    };
    ensure!(!drops.as_array().context("no list")?.iter().any(is_lost), "{drops}");
    ensure!(!lab.log().contains("has gone"), "{}", lab.log());
    lab.stop()
}

#[test]
fn what_cannot_be_captured_is_said() -> Result<()> {
    let lab = lab("e2ecape")?;
    let output = file(&lab, "none.pcapng");
    let output = output.to_string_lossy().into_owned();
    for (words, code, said) in [
        (&["--lan", "red", "tcp prt 80"][..], 2, "there is no test \"prt\""),
        (&["--lan", "mauve"], 1, "no such LAN: mauve"),
        (&["--node", "web9"], 1, "no such node: web9"),
        (&["--lan", "red", "member web9"], 1, "no member \"web9\""),
        (&["--rvi", "web1", "web1"], 1, "a node has no RVI to itself"),
        (&["--node", "guest", "--lan", "red"], 1, "no such interface"),
        (&[], 2, "--lan"),
    ] {
        let done = lab.switchctl(&[&["capture", "-w", &output], words].concat())?;
        ensure!(done.code == Some(code) && done.err.contains(said), "{words:?}: {done:?}");
    }
    let mut nothing = Vec::new();
    std::fs::File::open(&output)?.read_to_end(&mut nothing)?;
    ensure!(nothing.is_empty());
    lab.stop()
}
