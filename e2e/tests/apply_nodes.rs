//! Nodes come, get other keys and go by an applied platform file, while numbered datagrams flow between others.

use std::fs;

use anyhow::{Result, ensure};
use e2e::agent::Agent;
use e2e::{Lab, program, run};

use crate::apply::{apply_text, expect_nothing_lost, has_interface, mac_of, member, ping, platform, streams};

const WEB4: &str =
    "[[node]]\nname = \"web4\"\nnumber = 4\nkey-file = \"keys/web4\"\nlegs = { a = \"unix\" }\n";

/// Makes the keys that the changed file names and nobody has.
fn make_keys(file: &str) -> Result<()> {
    run(10, &[&program("switch-server")?.to_string_lossy(), "keys", file])?.ok().map(drop)
}

fn is_reached(lab: &Lab) -> Result<bool> {
    Ok(ping(lab, "web1", "10.1.0.4")? && ping(lab, "web4", "fd00:1::2")?)
}

#[test]
fn nodes_come_and_go_and_change_their_keys_while_the_traffic_of_others_goes_on() -> Result<()> {
    let lab = Lab::start_text(&platform(), "e2eapn")?;
    let base = fs::read_to_string(lab.file())?;
    let others = streams(&lab, 1, 2000)?;
    let changed = lab.file().with_file_name("changed.toml");
    let file = &*changed.to_string_lossy();

    // A node that nobody has keys for cannot be one.
    let more = base.replacen("[[lan]]", &format!("{WEB4}[[lan]]"), 1) + &member(1, 4);
    fs::write(&changed, &more)?;
    let refused = lab.switchctl(&["apply", file])?;
    ensure!(refused.code == Some(1) && refused.err.contains("web4.pub"), "{refused:?}");
    make_keys(file)?;
    let told = apply_text(&lab, &more)?;
    ensure!(told.contains("web4"), "{told}");
    let first = Agent::start(&lab, file, "web4")?;
    lab.wait_for("the new node to be reached", || is_reached(&lab))?;
    let mac = mac_of(&lab, "web4", "red")?;

    // Its keys are changed: who has the former ones is refused at once, and again when it comes back.
    for half in ["web4", "web4.pub"] {
        fs::remove_file(lab.file().with_file_name("keys").join(half))?;
    }
    make_keys(file)?;
    let told = apply_text(&lab, &more)?;
    ensure!(told.contains("web4") && told.contains("key"), "{told}");
    lab.wait_for("the refusal to be told", || Ok(first.log()?.contains("start it again")))?;
    ensure!(!ping(&lab, "web1", "10.1.0.4")?);
    drop(first);
    let second = Agent::start(&lab, file, "web4")?;
    lab.wait_for("the node with its new key to be reached", || is_reached(&lab))?;
    ensure!(mac_of(&lab, "web4", "red")? == mac, "its membership is the same");

    // It is removed, and does not come in any more.
    apply_text(&lab, &base)?;
    lab.wait_for("the interface to be gone", || Ok(!has_interface(&lab, "web4", "red")?))?;
    lab.wait_for("the refusal to be told", || Ok(second.log()?.contains("no node of the platform")))?;
    drop(second);
    fs::write(&changed, &more)?;
    let third = Agent::start(&lab, file, "web4")?;
    lab.wait_for("the refusal of its key", || Ok(lab.log().contains("refused: no node has the public key")))?;
    ensure!(!third.log()?.contains("attached"));
    // The agent that waits is let in as soon as its node is one again.
    apply_text(&lab, &more)?;
    lab.wait_for("the node to be reached again", || is_reached(&lab))?;
    drop(third);
    expect_nothing_lost(others)?;
    lab.stop()
}
