//! Nodes of two hosts, joined by Ethernet frames through one kernel network or both.

use std::fs::{self, File};
use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};
use e2e::Lab;
use e2e::lab::examples;
use e2e::pair::{
    RATE, are_attached, expect_nothing_lost, flap_fabrics, flow, kill_control_node, streams, wait_for_legs,
};
use rvi::host::ether::{EtherDriver, EtherPlace, EtherSocket};
use rvi::host::packets::{PacketSocket, SendResult};
use serde_json::Value;
use vlan_core::{EtherAddress, EtherPort, MacAddress};

pub(crate) const MIXED: [[&str; 2]; 2] = [["a", "udp"], ["b", "ether"]];
const ETHER: [[&str; 2]; 2] = [["a", "ether"], ["b", "ether"]];
/// Frames of ether legs, as tcpdump calls them.
pub(crate) const FRAMES: &str = "ether proto 0x88b5";

fn lab(name: &str, edit: impl Fn(String) -> String) -> Result<Lab> {
    Lab::start_text(&edit(fs::read_to_string(examples().join("two-hosts-ether.toml"))?), name)
}

/// Ether legs on both fabrics.
fn ether_alone(text: String) -> String {
    text.replace("\"udp\"", "\"ether\"")
}

/// Ether legs by AF_XDP.
pub(crate) fn by_xdp(text: &str) -> String {
    text.replace(", \"ether\"]", ", \"ether::af-xdp\"]")
}

/// So many processes of a lab have said that they drive a device by AF_XDP.
fn expect_by_xdp(lab: &Lab, processes: usize) -> Result<()> {
    let log = lab.log();
    let said = log.lines().filter(|line| line.contains("the device of an ether leg"));
    let by_xdp = said.filter(|line| line.contains("driver=af-xdp asked=af-xdp")).count();
    ensure!(by_xdp == processes, "{by_xdp} devices are driven by AF_XDP: {log}");
    Ok(())
}

#[test]
fn a_fabric_of_either_kind_goes_down_and_comes_up_under_load_and_nothing_is_lost() -> Result<()> {
    flap(lab("e2eether", |text| text)?)
}

#[test]
fn a_fabric_by_af_xdp_goes_down_and_comes_up_under_load_and_nothing_is_lost() -> Result<()> {
    let lab = lab("e2exdp", |text| by_xdp(&text))?;
    expect_by_xdp(&lab, 4)?;
    let shown = |lab: &Lab| -> Result<bool> { Ok(lab.switchctl(&["rvis"])?.ok()?.contains("af-xdp")) };
    flap_and(lab, |lab| lab.wait_for("the driver to be shown", || shown(lab)))
}

fn flap(lab: Lab) -> Result<()> {
    flap_and(lab, |_| Ok(()))
}

/// Has fabrics flap under load; `look` looks at the lab when its legs are up.
fn flap_and(lab: Lab, look: impl Fn(&Lab) -> Result<()>) -> Result<()> {
    let streams = streams(&lab, RATE)?;
    flow(&lab, &streams, 1000)?;
    wait_for_legs(&lab, &MIXED)?;
    look(&lab)?;
    flap_fabrics(&lab, &streams, &MIXED)?;
    expect_nothing_lost(streams)?;
    lab.stop()
}

#[test]
fn without_any_udp_a_control_node_is_killed_under_load_and_found_again() -> Result<()> {
    let lab = lab("e2ecethr", ether_alone)?;
    ensure!(are_attached(&lab)?);
    let streams = streams(&lab, RATE)?;
    flow(&lab, &streams, 1000)?;
    wait_for_legs(&lab, &ETHER)?;
    kill_control_node(&lab, &streams, &ETHER)?;
    expect_nothing_lost(streams)?;
    lab.stop()
}

#[test]
fn loss_and_corruption_on_both_kinds_of_legs_cost_no_datagram() -> Result<()> {
    lose_and_corrupt(lab("e2eetflt", |text| text)?)
}

#[test]
fn loss_and_corruption_on_legs_by_af_xdp_cost_no_datagram() -> Result<()> {
    lose_and_corrupt(lab("e2exdflt", |text| by_xdp(&text))?)
}

#[test]
fn one_direction_of_a_leg_by_af_xdp_is_dead_and_nothing_is_lost() -> Result<()> {
    let lab = lab("e2exddir", |text| by_xdp(&text))?;
    let streams = streams(&lab, RATE)?;
    flow(&lab, &streams, 1000)?;
    wait_for_legs(&lab, &MIXED)?;
    lab.switchctl(&["fault", "web1", "--fabric", "b", "--direction", "out", "loss=100%"])?.ok()?;
    flow(&lab, &streams, 2 * RATE)?;
    lab.switchctl(&["fault", "all", "off"])?.ok()?;
    flow(&lab, &streams, RATE)?;
    expect_nothing_lost(streams)?;
    lab.stop()
}

fn lose_and_corrupt(lab: Lab) -> Result<()> {
    let streams = streams(&lab, RATE)?;
    flow(&lab, &streams, 1000)?;
    wait_for_legs(&lab, &MIXED)?;
    lab.switchctl(&["fault", "all", "loss=5%,corrupt=1%"])?.ok()?;
    flow(&lab, &streams, 4 * RATE)?;
    lab.switchctl(&["fault", "all", "off"])?.ok()?;
    flow(&lab, &streams, RATE / 2)?;
    for leg in ["0", "1"] {
        let lost = lab.counter(|name| name.ends_with(&format!(".leg.{leg}.lost")))?;
        ensure!(lost > 50, "{lost} packets lost by leg {leg}");
    }
    expect_nothing_lost(streams)?;
    lab.stop()
}

/// Where web2 receives by ether legs on fabric b.
fn address_of_web2(lab: &Lab) -> Result<EtherAddress> {
    let rvis = lab.json(&["rvis"])?;
    let legs = rvis.as_array().into_iter().flatten().flat_map(|rvi| {
        let end = if rvi["a"]["node"] == "web2" { "a" } else { "b" };
        rvi["legs"].as_array().into_iter().flatten().map(move |leg| &leg[end]["address"])
    });
    let texts = legs.filter_map(Value::as_str).filter_map(|text| text.split_once('/'));
    let mut parsed =
        texts.filter_map(|(mac, port)| Some((mac.parse::<MacAddress>().ok()?, port.parse().ok()?)));
    let (mac, port) = parsed.find(|(_, port)| *port == 2).context("web2 has no ether leg")?;
    Ok(EtherAddress { mac, port: EtherPort(port) })
}

#[test]
fn a_device_that_gets_another_address_is_found_again_under_load() -> Result<()> {
    //= spec/leg-ether.md#devices-that-change
    //= type=test
    //# A socket MUST follow its device's name to another device, MTU or MAC address within a second, and a node MUST then
    //# offer the address again.
    let lab = lab("e2eetmac", |text| text)?;
    let streams = streams(&lab, RATE)?;
    flow(&lab, &streams, 1000)?;
    wait_for_legs(&lab, &MIXED)?;
    let moved = MacAddress([2, 0, 0, 0, 0, 0x77]);
    let change = ["ip", "link", "set", "dev", "b", "address", &moved.to_string()];
    lab.exec_in_underlay("web2", 10, &change)?.ok()?;
    lab.wait_for("the address to be told", || Ok(address_of_web2(&lab)?.mac == moved))?;
    wait_for_legs(&lab, &MIXED)?;
    // By that leg alone, and for web2 also to its control node.
    lab.switchctl(&["fabric", "a", "down"])?.ok()?;
    flow(&lab, &streams, 2 * RATE)?;
    ensure!(are_attached(&lab)?);
    lab.switchctl(&["fabric", "a", "up"])?.ok()?;
    wait_for_legs(&lab, &MIXED)?;
    expect_nothing_lost(streams)?;
    lab.stop()
}

/// A socket on fabric b where a process of the lab runs, of a process that nobody knows.
fn stranger(lab: &Lab, beside: &str) -> Result<EtherSocket> {
    let path = format!("/proc/{}/ns/net", lab.pid(beside)?);
    let open = move || -> Result<EtherSocket> {
        let underlay = File::open(&path).with_context(|| path.clone())?;
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(underlay.as_fd(), kind)?;
        Ok(EtherSocket::open(EtherPlace {
            device: "b".to_owned(),
            port: EtherPort(999),
            driver: EtherDriver::AfPacket,
        })?)
    };
    std::thread::spawn(open).join().map_err(|_| anyhow::anyhow!("the opening thread panicked"))?
}

#[test]
fn strangers_frames_change_counters_alone() -> Result<()> {
    let lab = lab("e2eetgar", |text| text)?;
    let streams = streams(&lab, RATE)?;
    flow(&lab, &streams, 1000)?;
    wait_for_legs(&lab, &MIXED)?;
    let (to, stranger) = (address_of_web2(&lab)?, stranger(&lab, "web1")?);
    let strays = || lab.counter(|name| name == "node.strays" || name.ends_with(".node.strays"));
    let before = strays()?;
    let mut state = 1_u64;
    let mut sent = 0;
    for round in 0..20_000_usize {
        let packet: Vec<u8> = (0..1 + round % 1400)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect();
        sent += u64::from(stranger.send(to, &packet, packet.len()) == SendResult::Sent);
    }
    flow(&lab, &streams, RATE)?;
    wait_for_legs(&lab, &MIXED)?;
    lab.wait_for("the strangers' frames to be counted", || Ok(strays()? > before + sent / 4))?;
    expect_nothing_lost(streams)?;
    lab.stop()
}
