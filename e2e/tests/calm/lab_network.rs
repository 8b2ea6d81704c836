//! Fabrics with lab networks: each process has an underlay of its own, and a fabric can be taken down.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use e2e::Lab;
use e2e::lab::examples;
use serde_json::Value;

const PROCESSES: [&str; 4] = ["cn-a", "web1", "web2", "web3"];

/// The example of two hosts, on one: with legs of shared memory. What is asked here does not depend on the kind of leg.
fn platform() -> Result<String> {
    let text = fs::read_to_string(examples().join("two-hosts.toml"))?;
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("host = ")).collect();
    Ok(lines.join("\n"))
}

/// Where a process is on fabrics a and b.
fn addresses(process: &str) -> [String; 2] {
    let place = 1 + PROCESSES.iter().position(|name| *name == process).unwrap_or_default();
    [format!("172.31.1.{place}"), format!("fd31:2::{place}")]
}

/// The interfaces in a process's underlay, as `ip -j address` lists them.
fn interfaces(lab: &Lab, process: &str) -> Result<Vec<Value>> {
    let out = lab.exec_in_underlay(process, 5, &["ip", "-j", "address"])?.ok()?;
    let list: Value = serde_json::from_str(&out)?;
    Ok(list.as_array().context("no list")?.clone())
}

fn names(interfaces: &[Value]) -> Vec<&str> {
    interfaces.iter().filter_map(|interface| interface["ifname"].as_str()).collect()
}

fn has_flag(interfaces: &[Value], name: &str, flag: &str) -> bool {
    let found = interfaces.iter().find(|interface| interface["ifname"] == name);
    let flags = found.and_then(|interface| interface["flags"].as_array());
    flags.is_some_and(|flags| flags.iter().any(|f| f == flag))
}

fn has_address(interfaces: &[Value], name: &str, address: &str) -> bool {
    let found = interfaces.iter().find(|interface| interface["ifname"] == name);
    let list = found.and_then(|interface| interface["addr_info"].as_array());
    list.is_some_and(|list| list.iter().any(|own| own["local"] == address))
}

fn ping(lab: &Lab, from: &str, target: &str, count: &str) -> Result<bool> {
    let words = ["ping", "-q", "-i", "0.01", "-W", "1", "-c", count, target];
    let done = lab.exec_in_underlay(from, 10, &words)?;
    Ok(done.code == Some(0) && done.out.contains(&format!("{count} received")))
}

fn check_each_underlay(lab: &Lab) -> Result<()> {
    let mut underlays = BTreeSet::from([fs::read_link("/proc/self/ns/net")?.to_string_lossy().into_owned()]);
    for process in PROCESSES {
        ensure!(underlays.insert(lab.underlay(process)?), "{process} shares its underlay");
        let interfaces = interfaces(lab, process)?;
        let mut names = names(&interfaces);
        names.sort_unstable();
        ensure!(names == ["a", "b", "lo"], "{process} has {names:?}");
        for (name, own) in ["a", "b"].into_iter().zip(addresses(process)) {
            ensure!(has_address(&interfaces, name, &own), "{process} does not have {own}: {interfaces:?}");
            ensure!(has_flag(&interfaces, name, "LOWER_UP"), "{name} of {process} is down");
        }
        for target in PROCESSES.iter().filter(|other| **other != process).flat_map(|other| addresses(other)) {
            ensure!(ping(lab, process, &target, "3")?, "{process} does not reach {target}");
        }
    }
    Ok(())
}

#[test]
fn each_process_has_an_underlay_with_its_lab_networks_and_nothing_else() -> Result<()> {
    //= spec/lab.md#underlays
    //= type=test
    //# When a fabric has a lab network, each process of the lab MUST run in a network namespace of its own, which holds
    //# loopback, for each such fabric one interface of the fabric's name, with the fabric's MTU and the process's
    //# address, the devices of its uplinks, and nothing else.
    let lab = Lab::start_text(&platform()?, "e2eunder")?;
    check_each_underlay(&lab)?;
    // The tenant's namespace is as it always is, and shared memory joins processes of different underlays.
    let links: Value = serde_json::from_str(&lab.exec("web1", 5, &["ip", "-j", "link"])?.ok()?)?;
    let links = links.as_array().context("no list")?;
    ensure!(names(links) == ["lo", "red"], "{links:?}");
    lab.exec("web1", 10, &["ping", "-q", "-i", "0.01", "-c", "100", "10.1.0.3"])?.ok()?;
    // A process that is started again finds its underlay as it was.
    let (pid, underlay) = (lab.pid("web2")?, lab.underlay("web2")?);
    lab.kill("web2")?;
    lab.wait_for("web2 to be started again", || Ok(lab.pid("web2").is_ok_and(|now| now != pid)))?;
    lab.wait_for("web2 to be in its underlay", || Ok(lab.underlay("web2").is_ok_and(|now| now == underlay)))?;
    ensure!(ping(&lab, "web2", &addresses("cn-a")[0], "3")?);
    lab.stop()
}

#[test]
fn a_fabric_goes_down_and_comes_back_alone() -> Result<()> {
    //= spec/lab.md#fabrics-down-and-up
    //= type=test
    //# A fabric of a lab that is taken down MUST carry no packet until it is taken up again, and each interface on it MUST
    //# lose its carrier and keep its addresses.
    let lab = Lab::start_text(&platform()?, "e2efab")?;
    let is_up = |fabric: &str| -> Result<bool> {
        let text = fs::read_to_string(lab.file().with_file_name("run").join("lab.json"))?;
        let file: Value = serde_json::from_str(&text)?;
        let fabrics = file["fabrics"].as_array().context("no fabrics")?;
        Ok(fabrics.iter().any(|entry| entry["name"] == fabric && entry["up"] == true))
    };
    for (fabric, other) in [("a", "b"), ("b", "a")] {
        let of = |name: &str, process| addresses(process)[usize::from(name == "b")].clone();
        let out = lab.switchctl(&["fabric", fabric, "down"])?.ok()?;
        ensure!(out.contains("is down, with 4 processes"), "{out}");
        lab.wait_for("lab.json to say so", || Ok(!is_up(fabric)? && is_up(other)?))?;
        for process in PROCESSES {
            let interfaces = interfaces(&lab, process)?;
            ensure!(has_flag(&interfaces, fabric, "NO-CARRIER"), "{process} has a carrier: {interfaces:?}");
            ensure!(has_address(&interfaces, fabric, &of(fabric, process)), "{process} has lost its address");
            ensure!(has_flag(&interfaces, other, "LOWER_UP"), "{process} has lost the other fabric too");
        }
        ensure!(!ping(&lab, "web1", &of(fabric, "web2"), "1")?, "a ping crossed the fabric that is down");
        ensure!(ping(&lab, "web1", &of(other, "web2"), "3")?, "no ping crossed the other fabric");
        lab.exec("web1", 10, &["ping", "-q", "-i", "0.01", "-c", "10", "10.1.0.2"])?.ok()?;
        lab.switchctl(&["fabric", fabric, "up"])?.ok()?;
        lab.wait_for("pings to cross the fabric again", || ping(&lab, "web1", &of(fabric, "web2"), "1"))?;
        lab.wait_for("lab.json to say so", || is_up(fabric))?;
    }
    let refused = lab.switchctl(&["fabric", "c", "down"])?;
    ensure!(refused.code == Some(1) && refused.err.contains("its fabrics are a, b"), "{refused:?}");
    check_each_underlay(&lab)?;
    lab.stop()
}

#[test]
fn a_fabric_without_a_lab_network_cannot_be_taken_down() -> Result<()> {
    let lab = Lab::start("two-lans.toml", "e2enonet", &[])?;
    let refused = lab.switchctl(&["fabric", "a", "down"])?;
    ensure!(refused.code == Some(1) && refused.err.contains("no lab network"), "{refused:?}");
    ensure!(refused.err.contains("\nhint: "), "{refused:?}");
    lab.stop()
}

/// Waits until nobody holds any of these namespaces: no process is in one or has it open, and none is mounted.
fn wait_until_gone(underlays: &[String]) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let holders = holders(underlays)?;
        if holders.is_empty() {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("still held: {holders:?}");
        }
        std::thread::yield_now();
    }
}

fn holders(underlays: &[String]) -> Result<Vec<String>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mut holders: Vec<String> = underlays.iter().filter(|name| mounts.contains(*name)).cloned().collect();
    for process in fs::read_dir("/proc")?.filter_map(Result::ok) {
        if !process.file_name().to_string_lossy().bytes().all(|octet| octet.is_ascii_digit()) {
            continue;
        }
        // A process that has ended meanwhile holds nothing.
        let open = fs::read_dir(process.path().join("fd")).into_iter().flatten().filter_map(Result::ok);
        let paths = open.map(|entry| entry.path()).chain([process.path().join("ns/net")]);
        let held = |link: String| underlays.contains(&link).then_some(link);
        let names = paths.filter_map(|path| held(fs::read_link(path).ok()?.to_string_lossy().into_owned()));
        holders.extend(names.map(|name| format!("{name} by {}", process.path().display())));
    }
    Ok(holders)
}

fn underlays_of(lab: &Lab) -> Result<Vec<String>> {
    PROCESSES.iter().map(|process| lab.underlay(process)).collect()
}

#[test]
fn nothing_is_left_after_the_end_of_a_lab_and_after_the_death_of_its_supervisor() -> Result<()> {
    //= spec/lab.md#underlays-have-no-names
    //= type=test
    //# Underlays, bridges and what joins them MUST be held by descriptors of the lab's processes alone.
    let before = e2e::run(5, &["ip", "-br", "link"])?.ok()?;
    let lab = Lab::start_text(&platform()?, "e2eleft")?;
    let underlays = underlays_of(&lab)?;
    ensure!(!holders(&underlays)?.is_empty(), "this test does not find who holds a namespace");
    ensure!(
        e2e::run(5, &["ip", "-br", "link"])?.ok()? == before,
        "something was made outside of the underlays"
    );
    lab.stop()?;
    wait_until_gone(&underlays)?;

    let lab = Lab::start_text(&platform()?, "e2eleft")?;
    let underlays = underlays_of(&lab)?;
    lab.kill_supervisor()?;
    wait_until_gone(&underlays)?;
    // What has names, the tenants' namespaces, is removed by the next lab of this name.
    Lab::start_text(&platform()?, "e2eleft")?.stop()
}

#[test]
fn underlays_need_no_root() -> Result<()> {
    let lab = Lab::start_text_without_root(&platform()?, "e2eplain")?;
    check_each_underlay(&lab)?;
    let underlays = underlays_of(&lab)?;
    lab.switchctl_without_root(&["fabric", "a", "down"])?.ok()?;
    ensure!(!ping(&lab, "web1", &addresses("web2")[0], "1")?, "a ping crossed the fabric that is down");
    lab.switchctl_without_root(&["fabric", "a", "up"])?.ok()?;
    lab.wait_for("pings to cross the fabric again", || ping(&lab, "web1", &addresses("web2")[0], "1"))?;
    lab.switchctl_without_root(&["exec", "web1", "--", "ping", "-q", "-i", "0.01", "-c", "10", "10.1.0.2"])?
        .ok()?;
    lab.kill_supervisor()?;
    wait_until_gone(&underlays)
}
