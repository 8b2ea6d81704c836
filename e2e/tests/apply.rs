//! A changed platform file is applied while numbered datagrams flow: members and LANs are as the file says then, and what has not changed loses nothing.

use std::fs;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use e2e::traffic::Stream;
use e2e::{Lab, Tcpdump};

/// Three nodes on one LAN where addresses are checked.
pub(crate) fn platform() -> String {
    let mut text = "[platform]\nname = \"apl\"\n[[fabric]]\nname = \"a\"\n[[control-node]]\nname = \"cn-a\"\nserial = 1\n\
                    key-file = \"keys/cn-a\"\nstate-dir = \"state/cn-a\"\nmanagement = \"unix:run/cn-a.sock\"\n\
                    legs = { a = \"unix:run/cn-a-a.sock\" }\n"
        .to_owned();
    for n in 1..=3 {
        text += &format!(
            "[[node]]\nname = \"web{n}\"\nnumber = {n}\nkey-file = \"keys/web{n}\"\nlegs = {{ a = \"unix\" }}\n"
        );
    }
    text += "[[lan]]\nname = \"red\"\nid = 10\nport-security = \"address\"\n";
    text + &(1..=3).map(|n| member(1, n)).collect::<String>()
}

/// Applies the running file with these words replaced; what the command said.
fn apply(lab: &Lab, replaced: &[(&str, &str)], options: &[&str]) -> Result<e2e::Done> {
    let mut text = fs::read_to_string(lab.file())?;
    for (old, new) in replaced {
        ensure!(text.contains(old), "{old}");
        text = text.replace(old, new);
    }
    lab.apply(&text, options)
}

/// The addresses that are bound to a node's interface, link-local ones apart.
fn bound(lab: &Lab, node: &str) -> Result<Vec<String>> {
    let bindings = lab.json(&["bindings"])?;
    let bindings = bindings.as_array().context("no bindings")?;
    let of_node = bindings.iter().filter(|binding| binding["node"] == node);
    let addresses = of_node.filter_map(|binding| binding["address"].as_str()).map(str::to_owned);
    Ok(addresses.filter(|address| !address.starts_with("fe80")).collect())
}

pub(crate) fn ping(lab: &Lab, from: &str, to: &str) -> Result<bool> {
    Ok(lab.exec(from, 5, &["ping", "-q", "-c", "1", "-W", "1", to])?.code == Some(0))
}

#[test]
fn a_changed_file_is_applied_whole_or_not_at_all_and_the_traffic_of_others_goes_on() -> Result<()> {
    let lab = Lab::start_text(&platform(), "e2eapl")?;
    let address = |n: u8| IpAddr::from([10, 1, 0, n]);
    let (web1, web2) = (lab.namespace("web1"), lab.namespace("web2"));
    let streams = [
        Stream::start((&web1, address(1)), (&web2, address(2)), 2000, 200)?,
        Stream::start((&web2, address(2)), (&web1, address(1)), 2000, 200)?,
    ];
    lab.wait_for("the traffic to flow", || Ok(streams.iter().all(|stream| stream.received() > 1000)))?;

    // Nothing of a file is applied of which a part cannot be.
    let moved = (
        "[\"10.1.0.3/24\", \"fd00:1::3/64\"]",
        "[\"10.1.0.33/24\", \"fd00:1::33/64\"]\nalias = \"10.1.0.77\"",
    );
    let refused = apply(&lab, &[moved, ("name = \"red\"", "name = \"rot\"")], &[])?;
    ensure!(refused.code == Some(1) && refused.err.contains("the name of the LAN red"), "{refused:?}");
    let mistaken = apply(&lab, &[moved, ("id = 10", "id = 10\nmtoo = 1500")], &[])?;
    ensure!(mistaken.code == Some(2) && mistaken.err.contains("unknown key `mtoo`"), "{mistaken:?}");
    let dry = apply(&lab, &[moved], &["--dry-run"])?.ok()?;
    ensure!(dry.contains("10.1.0.33/24") && dry.contains("a dry run"), "{dry}");
    ensure!(bound(&lab, "web3")? == ["10.1.0.3", "fd00:1::3"], "{}", lab.json(&["bindings"])?);

    let applied = apply(&lab, &[moved], &[])?.ok()?;
    ensure!(applied.contains("configuration 2 is in use"), "{applied}");
    let is_moved = || Ok(bound(&lab, "web3")? == ["10.1.0.33", "fd00:1::33"]);
    lab.wait_for("the addresses to be registered", is_moved)?;
    for to in ["10.1.0.33", "fd00:1::33"] {
        lab.wait_for(&format!("{to} to answer"), || ping(&lab, "web1", to))?;
    }
    let shown = lab.exec("web3", 5, &["ip", "-o", "addr", "show", "dev", "red"])?.ok()?;
    ensure!(!shown.contains("10.1.0.3/") && !shown.contains("fd00:1::3/"), "{shown}");
    // What it may claim beside them has changed, too.
    lab.exec("web3", 5, &["ip", "addr", "add", "10.1.0.77/24", "dev", "red"])?.ok()?;
    lab.wait_for("the alias to answer", || ping(&lab, "web1", "10.1.0.77"))?;

    // The platform's own file is the former one: what was applied holds for a control node that starts again.
    ensure!(lab.json(&["status"])?["config_differs"] == true);
    let before = lab.pid("cn-a")?;
    lab.kill("cn-a")?;
    lab.wait_for("another control node", || {
        Ok(lab.pid("cn-a")? != before && lab.switchctl(&["status"])?.code == Some(0))
    })?;
    lab.wait_for("the addresses to be registered again", || {
        Ok(bound(&lab, "web3")? == ["10.1.0.33", "10.1.0.77", "fd00:1::33"])
    })?;
    ensure!(ping(&lab, "web1", "10.1.0.33")?);
    let same = apply(&lab, &[moved], &[])?.ok()?;
    ensure!(same.contains("no changes") && same.contains("configuration 2 is in use"), "{same}");

    // A changed file of the platform's own is read at SIGHUP.
    let text = fs::read_to_string(lab.file())?;
    fs::write(lab.file(), text.replace("10.1.0.3/24", "10.1.0.34/24"))?;
    lab.hang_up("cn-a")?;
    lab.wait_for("the file's address to be registered", || {
        Ok(bound(&lab, "web3")?.contains(&"10.1.0.34".into()))
    })?;
    lab.wait_for("it to answer", || ping(&lab, "web1", "10.1.0.34"))?;
    ensure!(lab.json(&["status"])?["config_differs"] == false);

    for stream in streams {
        let tally = stream.finish()?;
        ensure!((tally.lost(), tally.reordered) == (0, 0), "{tally:?}");
    }
    lab.stop()
}

/// A member of a LAN as the file has it.
pub(crate) fn member(lan: u8, n: u8) -> String {
    format!("[[lan.member]]\nnode = \"web{n}\"\naddress = [\"10.{lan}.0.{n}/24\", \"fd00:{lan}::{n}/64\"]\n")
}

/// A second LAN, with all three nodes.
fn blue() -> String {
    let members: String = (1..=3).map(|n| member(2, n)).collect();
    format!("[[lan]]\nname = \"blue\"\nid = 20\n{members}")
}

/// Applies this text, and takes nothing but success for an answer.
pub(crate) fn apply_text(lab: &Lab, text: &str) -> Result<String> {
    let path = lab.file().with_file_name("changed.toml");
    fs::write(&path, text)?;
    lab.switchctl(&["apply", &path.to_string_lossy()])?.ok()
}

/// Numbered datagrams between web1 and web2, over IPv4 one way and over IPv6 the other.
pub(crate) fn streams(lab: &Lab, lan: u8, rate: u64) -> Result<[Stream; 2]> {
    let (web1, web2) = (lab.namespace("web1"), lab.namespace("web2"));
    let v4 = |n: u8| IpAddr::from([10, lan, 0, n]);
    let v6 = |n: u16| IpAddr::from([0xfd00, lan.into(), 0, 0, 0, 0, 0, n]);
    let streams = [
        Stream::start((&web1, v4(1)), (&web2, v4(2)), rate, 200)?,
        Stream::start((&web2, v6(2)), (&web1, v6(1)), rate, 200)?,
    ];
    lab.wait_for("the traffic to flow", || Ok(streams.iter().all(|stream| stream.received() > rate / 2)))?;
    Ok(streams)
}

pub(crate) fn expect_nothing_lost(streams: [Stream; 2]) -> Result<()> {
    for stream in streams {
        let tally = stream.finish()?;
        ensure!((tally.lost(), tally.reordered) == (0, 0), "{tally:?}");
    }
    Ok(())
}

pub(crate) fn has_interface(lab: &Lab, node: &str, name: &str) -> Result<bool> {
    Ok(lab.exec(node, 5, &["ip", "link", "show", "dev", name])?.code == Some(0))
}

pub(crate) fn mac_of(lab: &Lab, node: &str, name: &str) -> Result<String> {
    let shown = lab.exec(node, 5, &["cat", &format!("/sys/class/net/{name}/address")])?.ok()?;
    Ok(shown.trim().to_owned())
}

#[test]
fn members_and_lans_come_and_go_while_the_traffic_of_others_goes_on() -> Result<()> {
    let lab = Lab::start_text(&platform(), "e2eaplm")?;
    let base = fs::read_to_string(lab.file())?;
    let red = streams(&lab, 1, 2000)?;

    let former = mac_of(&lab, "web3", "red")?;
    let without = base.replace(&member(1, 3), "");
    ensure!(without != base);
    let told = apply_text(&lab, &without)?;
    ensure!(told.contains("web3") && told.contains("configuration 2 is in use"), "{told}");
    lab.wait_for("the interface to be gone", || Ok(!has_interface(&lab, "web3", "red")?))?;
    ensure!(bound(&lab, "web3")?.is_empty() && !ping(&lab, "web1", "10.1.0.3")?);

    // It comes again, with a LAN of its own beside it.
    let more = base.clone() + &blue();
    let told = apply_text(&lab, &more)?;
    ensure!(told.contains("blue"), "{told}");
    for (name, to) in [("red", "10.1.0.3"), ("red", "fd00:1::3"), ("blue", "10.2.0.3"), ("blue", "fd00:2::3")]
    {
        lab.wait_for(&format!("{to} on {name} to answer"), || ping(&lab, "web1", to))?;
    }
    ensure!(mac_of(&lab, "web3", "red")? != former, "a MAC was given twice");

    // A LAN goes on which the same pair has a direct RVI: what it has on the other one goes by relay for a while.
    for stream in streams(&lab, 2, 2000)? {
        stream.finish()?;
    }
    let has_direct = || Ok(lab.json(&["rvis"])?.to_string().contains("blue"));
    lab.wait_for("a direct RVI on the LAN", has_direct)?;
    apply_text(&lab, &base)?;
    for node in ["web1", "web2", "web3"] {
        lab.wait_for("the LAN to be gone", || Ok(!has_interface(&lab, node, "blue")?))?;
    }
    // What was applied holds for a control node that starts again, with the same numbers and MACs.
    apply_text(&lab, &more)?;
    lab.wait_for("the LAN to be there again", || ping(&lab, "web1", "10.2.0.3"))?;
    let (macs, before) = ([mac_of(&lab, "web3", "red")?, mac_of(&lab, "web3", "blue")?], lab.pid("cn-a")?);
    lab.kill("cn-a")?;
    lab.wait_for("another control node", || {
        Ok(lab.pid("cn-a")? != before && lab.switchctl(&["status"])?.code == Some(0))
    })?;
    lab.wait_for("the addresses to be registered again", || Ok(bound(&lab, "web3")?.len() == 4))?;
    ensure!([mac_of(&lab, "web3", "red")?, mac_of(&lab, "web3", "blue")?] == macs);
    // The nodes come back one by one.
    lab.wait_for("the LAN to be there for IPv6 too", || ping(&lab, "web1", "fd00:2::3"))?;
    expect_nothing_lost(red)?;
    lab.stop()
}

/// The platform's file with other options of its LAN and of web3, where neither has any.
fn with_options(base: &str, lan: &str, web3: &str) -> String {
    let plain = "port-security = \"address\"\n";
    base.replace(plain, &format!("{lan}\n")).replace(&member(1, 3), &format!("{}{web3}\n", member(1, 3)))
}

/// Whether tcpdump at web3, of an interface that it makes promiscuous or not, sees a packet like this while web1 sends one.
fn sees(lab: &Lab, options: &[&str], sends: &[&str]) -> Result<bool> {
    let plain = ["-l", "--immediate-mode", "-i", "red"];
    let tcpdump = Tcpdump::start(lab, "web3", 20, &[&plain[..], options].concat())?;
    lab.exec("web1", 5, sends)?;
    let seen = tcpdump.end()?;
    Ok(!seen.out.trim().is_empty())
}

/// What `ip` says of the MTU of each node's interface.
fn has_mtu(lab: &Lab, mtu: u16) -> Result<bool> {
    for node in ["web1", "web2", "web3"] {
        let shown = lab.exec(node, 5, &["ip", "-o", "link", "show", "dev", "red"])?.ok()?;
        if !shown.contains(&format!(" mtu {mtu} ")) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn change_mtu(lab: &Lab, base: &str) -> Result<()> {
    let fits = |octets: &str| {
        let ping = ["ping", "-q", "-c", "1", "-W", "1", "-M", "do", "-s", octets, "10.1.0.3"];
        Ok(lab.exec("web1", 5, &ping)?.code == Some(0))
    };
    for (mtu, short, long) in [(1400, "1372", "1373"), (9000, "8972", "8973")] {
        apply_text(lab, &with_options(base, &format!("mtu = {mtu}"), ""))?;
        lab.wait_for("every interface to have the MTU", || has_mtu(lab, mtu))?;
        lab.wait_for("a packet of the whole MTU to be answered", || fits(short))?;
        ensure!(!fits(long)?, "{long} octets went through an MTU of {mtu}");
    }
    Ok(())
}

fn change_arp(lab: &Lab, base: &str) -> Result<()> {
    let answered = || lab.counter(|name| name.ends_with("arp.answered"));
    for (arp, is_answered) in [("suppress", true), ("relay", false)] {
        apply_text(lab, &with_options(base, &format!("arp = \"{arp}\""), ""))?;
        let before = answered()?;
        lab.exec("web1", 5, &["ip", "neigh", "flush", "to", "10.1.0.3", "dev", "red"])?.ok()?;
        ensure!(ping(lab, "web1", "10.1.0.3")?);
        ensure!((answered()? > before) == is_answered, "{arp}: {before} and {}", answered()?);
    }
    Ok(())
}

fn change_multicast(lab: &Lab, base: &str) -> Result<()> {
    let group = ["-p", "dst", "host", "239.1.1.9"];
    let sends = ["ping", "-q", "-c", "3", "-i", "0.05", "-W", "1", "-I", "red", "239.1.1.9"];
    for (lan, web3, comes) in [
        ("", "", false),
        ("multicast = \"flood\"", "", true),
        ("", "", false),
        ("", "multicast = \"all\"", true),
        ("", "", false),
    ] {
        apply_text(lab, &with_options(base, lan, web3))?;
        ensure!(sees(lab, &group, &sends)? == comes, "{lan} {web3}");
    }
    Ok(())
}

fn change_promiscuous(lab: &Lab, base: &str) -> Result<()> {
    let others = ["-c", "20", "udp and host 10.1.0.1 and host 10.1.0.2"];
    // It is there before it may listen.
    let mut tcpdump = Tcpdump::start(
        lab,
        "web3",
        20,
        &[&["-l", "--immediate-mode", "-i", "red"][..], &others[..]].concat(),
    )?;
    apply_text(lab, &with_options(base, "", "promiscuous = true"))?;
    for _ in 0..20 {
        ensure!(tcpdump.line()?.is_some(), "tcpdump ended without what it was to see");
    }
    apply_text(lab, &with_options(base, "", ""))?;
    let wait = ["sleep", "0.3"];
    lab.wait_for("the listener to hear nothing any more", || Ok(!sees(lab, &others[2..], &wait)?))
}

fn change_port_security(lab: &Lab, base: &str) -> Result<()> {
    lab.exec("web3", 5, &["ip", "addr", "add", "10.1.0.88/24", "dev", "red"])?.ok()?;
    let refused = || lab.counter(|name| name.contains("source-address"));
    for (lan, is_answered) in
        [("mac", true), ("address", false), ("off", true), ("address", false), ("mac", true)]
    {
        apply_text(lab, &with_options(base, &format!("port-security = \"{lan}\""), ""))?;
        lab.exec("web1", 5, &["ip", "neigh", "flush", "to", "10.1.0.88", "dev", "red"])?.ok()?;
        let before = refused()?;
        ensure!(ping(lab, "web1", "10.1.0.88")? == is_answered, "{lan}");
        ensure!((refused()? > before) != is_answered, "{lan}");
        ensure!(ping(lab, "web1", "10.1.0.3")? && ping(lab, "web1", "fd00:1::3")?, "{lan}");
    }
    Ok(())
}

#[test]
fn options_of_a_lan_and_of_a_member_change_while_traffic_flows_and_nothing_is_lost() -> Result<()> {
    let lab = Lab::start_text(&platform(), "e2eaplo")?;
    let base = fs::read_to_string(lab.file())?;
    let numbered = streams(&lab, 1, 2000)?;
    for change in [change_arp, change_promiscuous, change_multicast, change_port_security, change_mtu] {
        change(&lab, &base)?;
    }
    expect_nothing_lost(numbered)?;
    lab.stop()
}

/// Octets of memory that a process of the lab has to itself.
fn memory(lab: &Lab, process: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{}/status", lab.pid(process)?))?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
    let kib = line.trim().trim_end_matches(" kB").parse::<u64>()?;
    Ok(kib << 10)
}

/// Applied files in the long run; the first tenth of them fills what grows once.
const APPLIES: usize = 1000;
/// What memory may differ by from one moment to the next: what tables and queues happen to hold.
const MEMORY_SLACK: u64 = 1 << 20;

#[test]
fn a_thousand_applied_files_under_load_lose_no_datagram_and_cost_no_memory() -> Result<()> {
    let lab = Lab::start_text(&platform(), "e2eaplr")?;
    let base = fs::read_to_string(lab.file())?;
    let limited = base.replace(&member(1, 3), &(member(1, 3) + "limits = { frames = 1000000 }\n"));
    let files = [base.replace(&member(1, 3), ""), base.clone() + &blue(), limited, base.clone()];
    let red = streams(&lab, 1, 1000)?;
    let processes = ["cn-a", "web1", "web3"];
    let mut before = [0; 3];
    for round in 0..APPLIES {
        apply_text(&lab, &files[round % files.len()])?;
        if round == APPLIES / 10 {
            for (octets, process) in before.iter_mut().zip(processes) {
                *octets = memory(&lab, process)?;
            }
        }
    }
    lab.wait_for("the last file to be in use everywhere", || {
        Ok(!has_interface(&lab, "web1", "blue")? && bound(&lab, "web3")?.len() == 2)
    })?;
    for to in ["10.1.0.3", "fd00:1::3"] {
        lab.wait_for(&format!("{to} to answer"), || ping(&lab, "web1", to))?;
    }
    for (before, process) in before.into_iter().zip(processes) {
        let after = memory(&lab, process)?;
        ensure!(after <= before + MEMORY_SLACK, "{process} has grown from {before} to {after} octets");
        println!("{process}: {before} octets after {} files, {after} after {APPLIES}", APPLIES / 10);
    }
    expect_nothing_lost(red)?;
    lab.stop()
}
