//! Captures of a LAN with a way outside.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use e2e::capture::{Capture, fields};

use super::{HOSTS, MEMBERS, in_mode, mac_of, reaches, system_mac};

#[test]
fn a_capture_of_a_lan_has_each_frame_to_and_from_outside_once() -> Result<()> {
    //= spec/capture.md#uplinks
    //= type=test
    //# A capture of a LAN MUST tap its uplink, too, and by default keep what comes in by it, each frame once, as it is inside.
    let lab = in_mode("filtered", "e2eupc")?;
    reaches(&lab, "client", &[], MEMBERS[0].1[0])?;
    reaches(&lab, "web1", &[], HOSTS[0].1[1])?;
    let file = lab.file().with_file_name("red.pcapng");
    let capture = Capture::start(&lab, &["--lan", "red", "-w", &file.to_string_lossy()], Stdio::null())?;
    // Its head is there before it has begun everywhere: what goes to all says when it has.
    let begin = ["ping", "-q", "-b", "-c", "1", "-W", "0.1", "-p", "be", "10.1.0.255"];
    lab.wait_for("the capture to have begun", || {
        lab.exec("client", 5, &begin)?;
        lab.exec("web1", 5, &begin)?;
        let seen =
            fields(&file, "icmp && frame contains be:be:be:be:be:be:be:be", &["ip.src"]).unwrap_or_default();
        Ok(["10.1.0.200", "10.1.0.1"].iter().all(|source| seen.iter().any(|of| of[0] == *source)))
    })?;
    let ping = ["ping", "-q", "-c", "5", "-i", "0.05", "-W", "1", "-p", "a7"];
    for (from, to) in [("client", MEMBERS[0].1[0]), ("client", "10.1.0.255"), ("web1", HOSTS[0].1[1])] {
        let options: &[&str] = if to.ends_with(".255") { &["-b"] } else { &[] };
        lab.exec(from, 10, &[&ping[..], options, &[to]].concat())?;
    }
    capture.interrupt()?;
    let (_, said) = capture.finish()?;
    let count = |filter: &str| -> Result<usize> {
        let filter = format!("frame contains a7:a7:a7:a7:a7:a7:a7:a7 && {filter}");
        Ok(fields(&file, &filter, &["frame.number"])?.len())
    };
    let system = system_mac(&lab, "red")?;
    let inside = mac_of(&lab, "web1", "red")?;
    for (what, filter, expected) in [
        ("requests from outside", "icmp.type == 8 && ip.dst == 10.1.0.1".to_owned(), 5),
        ("their answers", "icmp.type == 0 && ip.src == 10.1.0.1 && ip.dst == 10.1.0.200".to_owned(), 5),
        ("requests from outside to all", "icmp.type == 8 && ip.dst == 10.1.0.255".to_owned(), 5),
        ("requests to outside", "icmpv6.type == 128".to_owned(), 5),
        ("answers from outside, readdressed", format!("icmpv6.type == 129 && eth.dst == {inside}"), 5),
        ("the system MAC", format!("eth.addr == {system}"), 0),
    ] {
        let seen = count(&filter)?;
        ensure!(seen == expected, "{what}: {seen}, not {expected}; {said}");
    }
    let names = fields(&file, "icmpv6.type == 129", &["frame.interface_name"])?;
    let name = names.first().context("no answer from outside")?;
    ensure!(name[0] == "cn-a/red", "{name:?}");
    lab.stop()
}
