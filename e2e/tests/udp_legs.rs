//! Nodes of two hosts, joined by UDP legs through two kernel networks.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::Lab;
use e2e::lab::examples;
use e2e::pair::{
    RATE, UDP, are_attached, expect_nothing_lost, flap_fabrics, flow, kill_control_node, streams,
    wait_for_udp_legs,
};

fn lab(name: &str, edit: impl Fn(String) -> String) -> Result<Lab> {
    Lab::start_text(&edit(fs::read_to_string(examples().join("two-hosts.toml"))?), name)
}

#[test]
fn fabrics_go_down_and_come_up_under_load_and_nothing_is_lost() -> Result<()> {
    let lab = lab("e2eudp", |text| text)?;
    let streams = streams(&lab, RATE)?;
    flow(&lab, &streams, 1000)?;
    wait_for_udp_legs(&lab)?;
    flap_fabrics(&lab, &streams, &UDP)?;
    expect_nothing_lost(streams)?;
    lab.stop()
}

#[test]
fn a_control_node_of_another_host_is_killed_under_load_and_found_again() -> Result<()> {
    let lab = lab("e2ecudp", |text| text)?;
    ensure!(are_attached(&lab)?);
    // Before any direct RVI: by relay, and a broadcast for the address.
    lab.exec("web2", 10, &["ping", "-q", "-c", "3", "-i", "0.2", "10.1.0.3"])?.ok()?;
    let streams = streams(&lab, RATE)?;
    flow(&lab, &streams, 1000)?;
    wait_for_udp_legs(&lab)?;
    kill_control_node(&lab, &streams, &UDP)?;
    expect_nothing_lost(streams)?;
    // What has no direct RVI goes by the control node that is there now.
    lab.exec("web3", 10, &["ping", "-q", "-c", "3", "-i", "0.2", "10.1.0.1"])?.ok()?;
    lab.stop()
}

#[test]
fn a_control_node_that_is_asked_to_end_tells_its_nodes_before_they_miss_it() -> Result<()> {
    //= spec/control-node.md#the-orderly-end-of-a-control-node
    //= type=test
    //# A control node that is asked to end MUST take nothing more from its nodes, wait at most 20 ms for what receivers have
    //# not acknowledged, and tell the nodes that it reaches by packets that their sessions are over.
    let text = fs::read_to_string(examples().join("two-hosts.toml"))?;
    let lab = Lab::start_text_with(&text, "e2eterm", &["--no-restart"])?;
    let streams = streams(&lab, RATE)?;
    flow(&lab, &streams, 1000)?;
    wait_for_udp_legs(&lab)?;
    let said = |what: &str| lab.log().lines().filter(|line| line.contains(what)).count();
    let asked = Instant::now();
    lab.terminate("cn-a")?;
    // A node that had missed its control node first would have no session left that could be closed.
    lab.wait_for("the nodes of the other host to be told", || {
        Ok(said("control node 0 has closed the session") == 2)
    })?;
    println!("told within {:?}", asked.elapsed());
    lab.wait_for("all nodes to be without a control node", || Ok(said("control node 0 has gone") == 3))?;
    flow(&lab, &streams, 2 * RATE)?;
    lab.switchctl(&["restart", "cn-a"])?.ok()?;
    lab.wait_for("all nodes to be attached again", || Ok(are_attached(&lab).unwrap_or(false)))?;
    flow(&lab, &streams, RATE / 2)?;
    expect_nothing_lost(streams)?;
    lab.stop()
}

#[test]
fn without_both_fabrics_a_node_of_another_host_is_away_until_one_is_back() -> Result<()> {
    let lab = lab("e2eaway", |text| text)?;
    let state = |name: &str| -> Result<bool> {
        let nodes = lab.json(&["nodes"])?;
        let node = nodes.as_array().into_iter().flatten().find(|node| node["name"] == name);
        Ok(node.context("no such node")?["attached"] == true)
    };
    for fabric in ["a", "b"] {
        lab.switchctl(&["fabric", fabric, "down"])?.ok()?;
    }
    lab.wait_for("web2 and web3 to be away", || Ok(!state("web2")? && !state("web3")?))?;
    // Shared memory needs no fabric.
    ensure!(state("web1")?);
    lab.switchctl(&["fabric", "b", "up"])?.ok()?;
    lab.wait_for("all nodes to be attached again", || are_attached(&lab))?;
    lab.exec("web2", 10, &["ping", "-q", "-c", "3", "-i", "0.2", "10.1.0.1"])?.ok()?;
    lab.stop()
}

#[test]
fn loss_and_corruption_on_both_legs_cost_no_datagram() -> Result<()> {
    let lab = lab("e2efault", |text| text)?;
    let streams = streams(&lab, RATE)?;
    flow(&lab, &streams, 1000)?;
    wait_for_udp_legs(&lab)?;
    lab.switchctl(&["fault", "all", "loss=5%,corrupt=1%"])?.ok()?;
    flow(&lab, &streams, 4 * RATE)?;
    lab.switchctl(&["fault", "all", "off"])?.ok()?;
    flow(&lab, &streams, RATE / 2)?;
    let lost = lab.counter(|name| name.contains(".leg.") && name.ends_with(".lost"))?;
    let changed = lab.counter(|name| name.ends_with(".session.refused.tag"))?;
    ensure!(lost > 100 && changed > 10, "{lost} packets lost, {changed} changed");
    expect_nothing_lost(streams)?;
    lab.stop()
}

#[test]
fn a_fault_that_cuts_a_node_off_ends_by_itself() -> Result<()> {
    let lab = lab("e2ecut2", |text| text)?;
    let streams = streams(&lab, RATE)?;
    flow(&lab, &streams, 1000)?;
    lab.switchctl(&["fault", "web2", "loss=100%"])?.ok()?;
    // No word of the control node can reach it.
    flow(&lab, &streams, 2 * RATE)?;
    for stream in streams {
        let tally = stream.finish()?;
        ensure!(tally.longest_gap > Duration::from_millis(500), "it was not cut off: {tally:?}");
    }
    ensure!(are_attached(&lab)?);
    lab.stop()
}
