//! Two routers between two LANs share an address on each side: gateways that are balanced and failed over.

use std::process::Child;

use anyhow::{Context, Result, ensure};
use e2e::stock::tcp;
use e2e::{Lab, platform};
use serde_json::Value;

const ROUTERS: [&str; 2] = ["gw1", "gw2"];
const SETTINGS: [&str; 2] = ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"];
/// The station behind the routers, by both families, and its other addresses.
const FAR: [&str; 2] = ["10.2.0.3", "fd00:2::3"];
const ALIASES: std::ops::Range<u8> = 100..116;
/// Pings that go on while something happens, and how far apart, in seconds.
const PINGS: u32 = 500;
const APART: &str = "0.01";

/// `gw1` and `gw2` lead from `red` to `blue` and back, and serve nothing.
fn routed() -> String {
    let member = |lan: u8, node: u8| {
        format!("role = \"router\"\naddress = [\"10.{lan}.0.{node}/24\", \"fd00:{lan}::{node}/64\"]")
    };
    let end = |lan: u8, more: &str| {
        format!(
            "address = [\"10.{lan}.0.3/24\", \"fd00:{lan}::3/64\"]\ngateway = [\"10.{lan}.0.254\", \"fd00:{lan}::254\"]\n{more}"
        )
    };
    let aliases: Vec<_> = ALIASES.map(|tail| format!("\"10.2.0.{tail}\"")).collect();
    let aliases = format!("alias = [{}]", aliases.join(", "));
    let cluster = |lan: u8| {
        format!(
            "[[lan.cluster]]\naddress = [\"10.{lan}.0.254\", \"fd00:{lan}::254\"]\n\
             routers = [{{ node = \"gw1\" }}, {{ node = \"gw2\" }}]\n"
        )
    };
    let lan = |name: &str, lan: u8, node: &str, more: &str| {
        let (one, two, end) = (member(lan, 1), member(lan, 2), end(lan, more));
        let members = [("gw1", one.as_str()), ("gw2", &two), (node, &end)];
        platform::lan(name, u16::from(lan) * 10, "mtu = 1500", &members) + &cluster(lan)
    };
    platform::head(&["gw1", "gw2", "web1", "app1"])
        + &lan("red", 1, "web1", "")
        + &lan("blue", 2, "app1", &aliases)
}

/// The lab, once both routers are up in both LANs.
fn start(name: &str) -> Result<Lab> {
    let lab = Lab::start_text(&routed(), name)?;
    for router in ROUTERS {
        lab.exec(router, 5, &[&["sysctl", "-qw"], &SETTINGS[..]].concat())?.ok()?;
    }
    for tail in ALIASES {
        lab.exec("app1", 5, &["ip", "address", "replace", &format!("10.2.0.{tail}/32"), "dev", "lo"])?
            .ok()?;
    }
    are_up(&lab, ["up"; 2])?;
    for far in FAR {
        lab.wait_for(&format!("web1 to reach {far}"), || {
            Ok(lab.exec("web1", 5, &["ping", "-c", "1", "-W", "1", far])?.code == Some(0))
        })?;
    }
    Ok(lab)
}

/// What is known of the routers of each LAN.
fn routers(lab: &Lab) -> Result<Vec<Value>> {
    let clusters = lab.json(&["clusters"])?;
    let all = clusters.as_array().context("no clusters")?.iter().map(|cluster| {
        let service = &cluster["services"][0];
        ensure!(service["protocol"] == "route", "{service}");
        service["servers"].as_array().cloned().context("no routers")
    });
    Ok(all.collect::<Result<Vec<_>>>()?.concat())
}

fn are_up(lab: &Lab, wanted: [&str; 2]) -> Result<()> {
    lab.wait_for(&format!("the routers of both LANs to be {wanted:?}"), || {
        Ok(routers(lab)?
            .iter()
            .zip(wanted.iter().cycle())
            .all(|(router, wanted)| router["health"] == *wanted))
    })
}

fn packets(lab: &Lab) -> Result<Vec<u64>> {
    Ok(routers(lab)?.iter().filter_map(|router| router["packets"].as_u64()).collect())
}

/// Who passes on what goes to the far station.
fn first_hop(lab: &Lab) -> Result<String> {
    let shown = lab.exec("web1", 20, &["traceroute", "-n", "-q", "1", "-w", "2", "-m", "5", FAR[0]])?.ok()?;
    let hops: Vec<_> = shown.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
    let router = match hops[..] {
        ["10.1.0.1", far] if far == FAR[0] => ROUTERS[0],
        ["10.1.0.2", far] if far == FAR[0] => ROUTERS[1],
        _ => anyhow::bail!("{shown}"),
    };
    Ok(router.to_owned())
}

/// Pings that have begun to be answered.
fn pings(lab: &Lab) -> Result<Child> {
    let count = PINGS.to_string();
    let from = packets(lab)?;
    let pings = lab.spawn("web1", 30, &["ping", "-q", "-c", &count, "-i", APART, "-W", "1", FAR[0]])?;
    go_on(lab, &from)?;
    Ok(pings)
}

/// A part of the pings has gone since the counters were as they are `from`.
fn go_on(lab: &Lab, from: &[u64]) -> Result<()> {
    let sum = |packets: &[u64]| packets.iter().sum::<u64>();
    lab.wait_for("packets", || Ok(sum(&packets(lab)?) > sum(from) + 50))
}

/// How many of them were not answered.
fn lost(pings: Child) -> Result<u32> {
    let out = String::from_utf8(pings.wait_with_output()?.stdout)?;
    let received = out.split(", ").find_map(|part| part.strip_suffix(" received")).context(out.clone())?;
    ensure!(!out.contains("duplicates"), "{out}");
    Ok(PINGS - received.parse::<u32>()?)
}

#[test]
fn two_routers_share_a_gateway_and_each_gets_a_part() -> Result<()> {
    let lab = start("e2ertr")?;
    for far in FAR {
        tcp(&lab, "web1", "app1", far)?;
    }
    first_hop(&lab)?;
    // Each pair of addresses has its router, whatever goes between them.
    let before = packets(&lab)?;
    for tail in ALIASES {
        let far = format!("10.2.0.{tail}");
        lab.exec("web1", 10, &["ping", "-q", "-c", "2", "-i", "0.02", "-s", "4000", "-W", "1", &far])?
            .ok()?;
    }
    let got: Vec<_> = packets(&lab)?.iter().zip(before).map(|(after, before)| after - before).collect();
    // Two pings of three fragments each, there and back.
    let each_way = 6 * ALIASES.len() as u64;
    ensure!([got[0] + got[1], got[2] + got[3]] == [each_way; 2], "{got:?}");
    ensure!(got.iter().all(|packets| *packets > 0 && packets % 6 == 0), "{got:?}");
    // The address itself answers while there is a way.
    lab.exec("web1", 5, &["ping", "-c", "1", "-W", "1", "10.1.0.254"])?.ok()?;
    lab.stop()
}

#[test]
fn a_router_that_drains_loses_nothing_and_one_that_is_killed_is_followed() -> Result<()> {
    let lab = start("e2ertf")?;
    let (first, going) = (first_hop(&lab)?, pings(&lab)?);
    let draining = if first == ROUTERS[0] { ["draining", "up"] } else { ["up", "draining"] };
    lab.switchctl(&["drain", &first])?.ok()?;
    are_up(&lab, draining)?;
    go_on(&lab, &packets(&lab)?)?;
    lab.switchctl(&["undrain", &first])?.ok()?;
    go_on(&lab, &packets(&lab)?)?;
    let missing = lost(going)?;
    ensure!(missing == 0, "{missing} pings of {PINGS} were lost");
    let going = pings(&lab)?;
    lab.kill(&first)?;
    go_on(&lab, &packets(&lab)?)?;
    let missing = lost(going)?;
    println!("a router is killed: {missing} pings of {PINGS} were lost, {APART} s apart");
    ensure!(missing < PINGS / 4, "{missing} pings of {PINGS} were lost");
    are_up(&lab, ["up"; 2])?;
    tcp(&lab, "web1", "app1", FAR[1])?;
    lab.stop()
}
