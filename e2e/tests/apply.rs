//! A changed platform file is applied while numbered datagrams flow: the changed member has what the file says, the others lose nothing.

use std::fs;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use e2e::Lab;
use e2e::traffic::Stream;

/// Three nodes on one LAN where addresses are checked.
fn platform() -> String {
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
    for n in 1..=3 {
        text += &format!(
            "[[lan.member]]\nnode = \"web{n}\"\naddress = [\"10.1.0.{n}/24\", \"fd00:1::{n}/64\"]\n"
        );
    }
    text
}

/// Applies the running file with these words replaced; what the command said.
fn apply(lab: &Lab, replaced: &[(&str, &str)], options: &[&str]) -> Result<e2e::Done> {
    let mut text = fs::read_to_string(lab.file())?;
    for (old, new) in replaced {
        ensure!(text.contains(old), "{old}");
        text = text.replace(old, new);
    }
    let path = lab.file().with_file_name("changed.toml");
    fs::write(&path, text)?;
    lab.switchctl(&[&["apply", &path.to_string_lossy()], options].concat())
}

/// The addresses that are bound to a node's interface, link-local ones apart.
fn bound(lab: &Lab, node: &str) -> Result<Vec<String>> {
    let bindings = lab.json(&["bindings"])?;
    let bindings = bindings.as_array().context("no bindings")?;
    let of_node = bindings.iter().filter(|binding| binding["node"] == node);
    let addresses = of_node.filter_map(|binding| binding["address"].as_str()).map(str::to_owned);
    Ok(addresses.filter(|address| !address.starts_with("fe80")).collect())
}

fn ping(lab: &Lab, from: &str, to: &str) -> Result<bool> {
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
    let refused = apply(&lab, &[moved, ("id = 10", "id = 10\nmtu = 1500")], &[])?;
    ensure!(refused.code == Some(1) && refused.err.contains("`mtu` of the LAN red"), "{refused:?}");
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
