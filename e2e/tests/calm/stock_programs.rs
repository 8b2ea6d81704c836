//! Stock Linux programs find a LAN as they find an Ethernet: DHCP, autoconfiguration, routers, mDNS.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use e2e::stock::{Avahi, autoconfigured, dnsmasq, is_answered, lease, tcp};
use e2e::{Lab, platform};

/// What serves a LAN: DHCP server and router, with the first addresses of the LAN's subnets.
const SERVER: &str = "role = [\"dhcp-server\", \"router\"]\naddress = [\"10.1.0.1/24\", \"fd00:1::1/64\"]";
/// A member that has to ask for its addresses.
const ASKS: &str = "";
/// The address that the server keeps for one client.
const KEPT: &str = "--dhcp-host=52:54:00:00:00:11,10.1.0.50";

fn options(security: &str) -> String {
    format!("mtu = 1500\nport-security = \"{security}\"")
}

/// How many frames were dropped for this reason, wherever.
fn dropped(lab: &Lab, reason: &str) -> Result<u64> {
    let drops = lab.json(&["drops"])?;
    let drops = drops.as_array().into_iter().flatten().filter(|drop| drop["reason"] == reason);
    Ok(drops.filter_map(|drop| drop["frames"].as_u64()).sum())
}

fn is_bound(lab: &Lab, address: IpAddr) -> Result<bool> {
    let bindings = lab.json(&["bindings"])?;
    Ok(bindings.as_array().into_iter().flatten().any(|binding| binding["address"] == address.to_string()))
}

/// Makes a node a router between its interfaces.
fn forward(lab: &Lab, node: &str) -> Result<()> {
    let settings = ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"];
    lab.exec(node, 5, &[&["sysctl", "-qw"], &settings[..]].concat())?.ok().map(drop)
}

#[test]
fn members_get_addresses_and_routers_from_who_has_the_role_and_from_nobody_else() -> Result<()> {
    let members = [("gw", SERVER), ("rogue", "address = \"10.1.0.9/24\""), ("web1", ASKS), ("web2", ASKS)];
    let nodes = members.map(|(node, _)| node);
    let lab = platform::head(&nodes) + &platform::lan("red", 10, &options("mac"), &members);
    let lab = Lab::start_text(&lab, "e2edhcp")?;
    forward(&lab, "gw")?;
    let rogue = dnsmasq(&lab, "rogue", "10.1.0", "fd00:bad::", &["--dhcp-option=3,10.1.0.9"])?;
    lab.exec("rogue", 5, &["ip", "addr", "add", "fd00:bad::1/64", "dev", "red", "nodad"])?.ok()?;
    ensure!(lease(&lab, "web1", "red")?.is_none(), "a lease of a server without the role");
    ensure!(dropped(&lab, "dhcp-guard")? >= 2, "{}", lab.json(&["drops"])?);
    lab.wait_for("the other's advertisement to be dropped", || Ok(dropped(&lab, "ra-guard")? > 0))?;
    let _server = dnsmasq(&lab, "gw", "10.1.0", "fd00:1::", &[])?;
    for node in ["web1", "web2"] {
        let own4 = lease(&lab, node, "red")?.context("no lease")?;
        let own6 = autoconfigured(&lab, node, "red", "fd00:1::")?;
        for own in [own4, own6] {
            lab.wait_for(&format!("{own} of {node} to be bound"), || is_bound(&lab, own))?;
            ensure!(is_answered(&lab, "gw", &own.to_string())?, "{own} of {node} does not answer");
        }
        let routes = lab.exec(node, 5, &["ip", "route"])?.ok()?;
        ensure!(routes.contains("default via 10.1.0.1 "), "{routes}");
        let routes = lab.exec(node, 5, &["ip", "-6", "route"])?.ok()?;
        ensure!(routes.contains("default via fe80::") && !routes.contains("bad"), "{routes}");
    }
    drop(rogue);
    lab.stop()
}

#[test]
fn addresses_from_servers_may_be_used_where_the_platform_file_knows_them() -> Result<()> {
    // An address made from the MAC and the prefix (RFC 4291, appendix A).
    let known = "mac = \"52:54:00:00:00:11\"\nalias = [\"10.1.0.50\", \"fd00:1::5054:ff:fe00:11\"]";
    let members = [("gw", SERVER), ("web1", known), ("web2", ASKS)];
    let nodes = members.map(|(node, _)| node);
    let lab = platform::head(&nodes) + &platform::lan("red", 10, &options("address"), &members);
    let lab = Lab::start_text(&lab, "e2edhad")?;
    forward(&lab, "gw")?;
    let _server = dnsmasq(&lab, "gw", "10.1.0", "fd00:1::", &[KEPT])?;
    for (node, is_known) in [("web1", true), ("web2", false)] {
        let own4 = lease(&lab, node, "red")?.context("no lease")?;
        let own6 = autoconfigured(&lab, node, "red", "fd00:1::")?;
        if is_known {
            ensure!(dropped(&lab, "source-address")? == 0, "{}", lab.json(&["drops"])?);
            lab.wait_for("both to be bound", || Ok(is_bound(&lab, own4)? && is_bound(&lab, own6)?))?;
        }
        for (own, router) in [(own4, "10.1.0.1"), (own6, "fd00:1::1")] {
            let before = dropped(&lab, "source-address")?;
            ensure!(is_answered(&lab, node, router)? == is_known, "{node} with {own}");
            ensure!((dropped(&lab, "source-address")? > before) != is_known, "{}", lab.json(&["drops"])?);
            ensure!(is_bound(&lab, own)? == is_known, "{own}: {}", lab.json(&["bindings"])?);
        }
    }
    lab.stop()
}

#[test]
fn a_router_node_joins_two_lans_for_both_families() -> Result<()> {
    let router = |n: u8| format!("role = \"router\"\naddress = [\"10.{n}.0.1/24\", \"fd00:{n}::1/64\"]");
    let host = |n: u8, h: u8| {
        format!(
            "address = [\"10.{n}.0.{h}/24\", \"fd00:{n}::{h}/64\"]\ngateway = [\"10.{n}.0.1\", \"fd00:{n}::1\"]"
        )
    };
    let red = [("gw", &*router(1)), ("web1", &*host(1, 2)), ("web2", &*host(1, 3))];
    let blue = [("gw", &*router(2)), ("app1", &*host(2, 2)), ("app2", &*host(2, 3))];
    let lab = platform::head(&["gw", "web1", "web2", "app1", "app2"])
        + &platform::lan("red", 10, "mtu = 9000\nport-security = \"address\"", &red)
        + &platform::lan("blue", 20, &options("address"), &blue);
    let lab = Lab::start_text(&lab, "e2ertr")?;
    ensure!(!is_answered(&lab, "web1", "10.2.0.2")?, "nobody joins them yet");
    forward(&lab, "gw")?;
    for (from, own, to, other) in [("web1", 1, "app1", 2), ("app2", 2, "web2", 1)] {
        let h = if to == "app1" { 2 } else { 3 };
        for target in [format!("10.{other}.0.{h}"), format!("fd00:{other}::{h}")] {
            lab.wait_for(&format!("{to} to answer"), || is_answered(&lab, from, &target))?;
            tcp(&lab, from, to, &target)?;
            let words = ["ping", "-c", "1", "-W", "2", "-t", "1", &target];
            let seen = lab.exec(from, 5, &words)?.out;
            let [v4, v6] = [format!("From 10.{own}.0.1 "), format!("From fd00:{own}::1 ")];
            ensure!(seen.contains(&v4) || seen.contains(&v6), "no router on the way to {target}: {seen}");
        }
    }
    // The router says that the other LAN takes no longer packets, and the sender learns it.
    for target in ["10.2.0.2", "fd00:2::2"] {
        let words = ["ping", "-c", "3", "-i", "0.05", "-W", "1", "-M", "do", "-s", "4000", target];
        let said = lab.exec("web1", 10, &words)?;
        let said = said.out + &said.err;
        ensure!(
            said.contains("mtu = 1500") || said.contains("mtu=1500") || said.contains("mtu: 1500"),
            "{said}"
        );
    }
    let drops = lab.json(&["drops"])?;
    let is_refusal = |drop: &&serde_json::Value| {
        ["source-mac", "source-address", "ra-guard", "unreadable-headers"]
            .iter()
            .any(|r| drop["reason"] == *r)
    };
    ensure!(drops.as_array().into_iter().flatten().find(is_refusal).is_none(), "{drops}");
    lab.stop()
}

#[test]
fn a_service_is_found_by_mdns_over_both_families() -> Result<()> {
    let address = |h: u8| format!("address = [\"10.1.0.{h}/24\", \"fd00:1::{h}/64\"]");
    let (one, other) = (address(1), address(2));
    let members = [("printer", &*one), ("web1", &*other)];
    let lab = platform::head(&["printer", "web1"]) + &platform::lan("red", 10, &options("address"), &members);
    let lab = Lab::start_text(&lab, "e2eavahi")?;
    let _printer = Avahi::start(&lab, "printer", Some(("the printer", "_ipp._tcp", 631)))?;
    let browser = Avahi::start(&lab, "web1", None)?;
    lab.wait_for("the printer to be found by both families", || {
        let found = browser.browse(&lab, "web1", "_ipp._tcp")?;
        Ok([("IPv4", "10.1.0.1"), ("IPv6", "fd00:1::1")].iter().all(|(family, address)| {
            let line =
                format!("=;red;{family};the\\032printer;Internet Printer;local;printer.local;{address};631;");
            found.iter().any(|found| found.starts_with(&line))
        }))
    })?;
    lab.stop()
}
