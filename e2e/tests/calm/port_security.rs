//! A tenant who is root forges frames: each is dropped where its sender cannot reach, and its neighbours believe nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, ensure};
use e2e::Lab;
use e2e::forged::{self, ALL_NODES, BROADCAST, Mac};
use e2e::raw::RawSocket;

/// Three nodes on one LAN with this port security; more lines for the first and the third member.
fn platform(security: &str, first: &str, third: &str) -> String {
    let mut text = "[platform]\nname = \"sec\"\n[[fabric]]\nname = \"a\"\n[[control-node]]\nname = \"cn-a\"\nserial = 1\n\
                    key-file = \"keys/cn-a\"\nstate-dir = \"state/cn-a\"\nmanagement = \"unix:run/cn-a.sock\"\n\
                    legs = { a = \"unix:run/cn-a-a.sock\" }\n"
        .to_owned();
    for n in 1..=3 {
        text += &format!(
            "[[node]]\nname = \"web{n}\"\nnumber = {n}\nkey-file = \"keys/web{n}\"\nlegs = {{ a = \"unix\" }}\n"
        );
    }
    text += &format!("[[lan]]\nname = \"red\"\nid = 10\nmtu = 1500\nport-security = \"{security}\"\n");
    for (n, more) in [(1, first), (2, ""), (3, third)] {
        text += &format!(
            "[[lan.member]]\nnode = \"web{n}\"\naddress = [\"10.1.0.{n}/24\", \"fd00:1::{n}/64\"]\n{more}\n"
        );
    }
    text
}

fn ipv4(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 0, n)
}

fn ipv6(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, n)
}

/// The MACs of web1 to web3.
fn macs(lab: &Lab) -> Result<[Mac; 3]> {
    let lans = lab.json(&["lans"])?;
    let mut macs = [[0; 6]; 3];
    for (mac, member) in macs.iter_mut().zip(lans[0]["members"].as_array().context("no members")?) {
        let text = member["mac"].as_str().context("no MAC")?;
        for (octet, digits) in mac.iter_mut().zip(text.split(':')) {
            *octet = u8::from_str_radix(digits, 16)?;
        }
    }
    Ok(macs)
}

/// How many frames were dropped there for this reason.
fn dropped(lab: &Lab, place: &str, reason: &str) -> Result<u64> {
    let drops = lab.json(&["drops"])?;
    let found = drops.as_array().into_iter().flatten().find(|d| d["where"] == place && d["reason"] == reason);
    Ok(found.and_then(|drop| drop["frames"].as_u64()).unwrap_or(0))
}

/// web1 and web2 have a direct RVI; web1 and web3 have none and speak by the control node.
fn directly_and_by_relay(lab: &Lab) -> Result<()> {
    lab.switchctl(&["rvi", "cut", "web1", "web3"])?.ok()?;
    for to in ["10.1.0.2", "fd00:1::2", "10.1.0.3", "fd00:1::3"] {
        lab.exec("web1", 20, &["ping", "-q", "-c", "80", "-i", "0.01", to])?.ok()?;
    }
    lab.exec("web2", 20, &["ping", "-q", "-c", "3", "-i", "0.1", "10.1.0.3"])?.ok()?;
    lab.exec("web2", 20, &["ping", "-q", "-c", "3", "-i", "0.1", "fd00:1::3"])?.ok()?;
    lab.wait_for("the direct RVI to carry frames", || {
        lab.exec("web1", 20, &["ping", "-q", "-c", "2", "-i", "0.01", "10.1.0.2"])?.ok()?;
        Ok(lab.counter(|name| name == "node.web1.vif.1.tx.direct.frames")? > 0)
    })
}

/// What a station with the MAC `own` forges to web2 or web3 in the name of the other one of these.
struct Forgery {
    frame: Vec<u8>,
    reason: &'static str,
}

fn forge(own: Mac, to: u8, macs: &[Mac; 3], unicast: bool) -> Vec<Forgery> {
    let other = 5 - to;
    let victim = macs[usize::from(other) - 1];
    let target = if unicast { macs[usize::from(to) - 1] } else { BROADCAST };
    let link = if unicast { target } else { ALL_NODES };
    let nodes = if unicast { ipv6(to.into()) } else { Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1) };
    let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xbad);
    let v4 =
        |from: Ipv4Addr| (IpAddr::V4(from), IpAddr::V4(if unicast { ipv4(to) } else { Ipv4Addr::BROADCAST }));
    let v6 = |from: Ipv6Addr| (IpAddr::V6(from), IpAddr::V6(nodes));
    let reply = |station, from| forged::arp_reply(target, from, station, ipv4(other), ipv4(to));
    let stolen = forged::advertisement(link, own, own, ipv6(other.into()), nodes);
    let advertised = forged::router_advertisement(link, own, router, nodes);
    [
        ("source-mac", forged::datagram(target, victim, v4(ipv4(1)), (5000, 7), b"x")),
        ("source-mac", reply(victim, own)),
        ("source-address", forged::datagram(target, own, v4(ipv4(other)), (5000, 7), b"x")),
        ("source-address", forged::datagram(link, own, v6(ipv6(other.into())), (5000, 7), b"x")),
        ("source-address", reply(own, own)),
        ("source-address", forged::tagged(&reply(own, own))),
        ("source-address", stolen.clone()),
        ("source-address", forged::tagged(&stolen)),
        ("source-address", forged::behind_options(&stolen)),
        ("dhcp-guard", forged::datagram(target, own, v4(ipv4(1)), (67, 68), &[2; 240])),
        ("dhcp-guard", forged::datagram(target, own, v4(ipv4(1)), (1067, 68), &[2; 240])),
        ("dhcp-guard", forged::datagram(link, own, v6(ipv6(1)), (547, 546), &[2; 40])),
        ("ra-guard", advertised.clone()),
        ("ra-guard", forged::behind_options(&advertised)),
    ]
    .map(|(reason, frame)| Forgery { frame, reason })
    .into()
}

/// What `node` believes: the stations of its neighbours, and its routers.
fn beliefs(lab: &Lab, node: &str) -> Result<String> {
    let neighbours = lab.exec(node, 5, &["ip", "neigh", "show", "dev", "red"])?.ok()?;
    let routes = lab.exec(node, 5, &["ip", "-6", "route", "show", "default"])?.ok()?;
    Ok(neighbours + &routes)
}

/// True when `node` believes that another one's addresses are web1's, or that there is a router.
fn is_deceived(lab: &Lab, node: &str, liar: Mac) -> Result<bool> {
    let liar = liar.map(|octet| format!("{octet:02x}")).join(":");
    let beliefs = beliefs(lab, node)?;
    // Its own, an alias among them.
    let own = ["10.1.0.1 ", "10.1.0.101 ", "fd00:1::1 ", "fe80::"];
    let is_lie = |line: &str| line.contains(&liar) && !own.iter().any(|own| line.starts_with(own));
    Ok(beliefs.lines().any(|line| is_lie(line) || line.starts_with("default")))
}

#[test]
fn forged_frames_are_dropped_where_their_sender_cannot_reach_and_nobody_believes_them() -> Result<()> {
    let lab = Lab::start_text(&platform("address", "", ""), "e2esec")?;
    directly_and_by_relay(&lab)?;
    // What honest stacks do on their way up is refused by nobody.
    let drops = lab.json(&["drops"])?;
    let refusals = ["source-mac", "source-address", "dhcp-guard", "ra-guard", "unreadable-headers"];
    let is_refusal = |drop: &&serde_json::Value| refusals.iter().any(|reason| drop["reason"] == *reason);
    ensure!(drops.as_array().into_iter().flatten().find(is_refusal).is_none(), "{drops}");
    let (macs, raw) = (macs(&lab)?, RawSocket::open(&lab.namespace("web1"), "red")?);
    for (to, unicast, place) in [(2, true, "web2/red"), (3, true, "cn-a"), (2, false, "cn-a")] {
        for Forgery { frame, reason } in forge(macs[0], to, &macs, unicast) {
            let before = dropped(&lab, place, reason)?;
            raw.send(&frame)?;
            let what = format!("{reason} at {place} to count {frame:02x?}");
            lab.wait_for(&what, || Ok(dropped(&lab, place, reason)? > before))?;
            ensure!(dropped(&lab, place, reason)? == before + 1, "{what}");
        }
    }
    for node in ["web2", "web3"] {
        ensure!(!is_deceived(&lab, node, macs[0])?, "{node}: {}", beliefs(&lab, node)?);
    }
    let shown = lab.switchctl(&["drops"])?.ok()?;
    for reason in ["source-mac", "source-address", "dhcp-guard", "ra-guard"] {
        let places = shown.lines().filter(|line| line.contains(reason));
        ensure!(places.count() == 2, "{shown}");
    }
    // What is true goes through.
    for to in ["10.1.0.2", "fd00:1::2", "10.1.0.3", "fd00:1::3"] {
        lab.exec("web1", 20, &["ping", "-q", "-c", "3", "-i", "0.1", to])?.ok()?;
    }
    let hears = RawSocket::open(&lab.namespace("web3"), "red")?;
    let discover = forged::datagram(
        BROADCAST,
        macs[0],
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into()),
        (68, 67),
        &[1; 240],
    );
    raw.send(&discover)?;
    hears.wait_for("a DHCP client's question", |frame| frame == discover)?;
    lab.stop()
}

#[test]
fn the_same_frames_deceive_where_nothing_is_checked() -> Result<()> {
    let lab = Lab::start_text(&platform("off", "", ""), "e2esecof")?;
    directly_and_by_relay(&lab)?;
    let (macs, raw) = (macs(&lab)?, RawSocket::open(&lab.namespace("web1"), "red")?);
    for (to, node) in [(2, "web2"), (3, "web3")] {
        lab.wait_for(&format!("{node} to be deceived"), || {
            for forgery in forge(macs[0], to, &macs, true) {
                raw.send(&forgery.frame)?;
            }
            is_deceived(&lab, node, macs[0])
        })?;
    }
    lab.stop()
}

#[test]
fn a_server_of_addresses_and_a_router_are_heard_by_their_role() -> Result<()> {
    let role = "role = [\"dhcp-server\", \"router\"]";
    let lab = Lab::start_text(&platform("mac", role, ""), "e2esecro")?;
    directly_and_by_relay(&lab)?;
    let macs = macs(&lab)?;
    let (raw, other) =
        (RawSocket::open(&lab.namespace("web1"), "red")?, RawSocket::open(&lab.namespace("web3"), "red")?);
    let hears = RawSocket::open(&lab.namespace("web2"), "red")?;
    for unicast in [true, false] {
        let forged = forge(macs[0], 2, &macs, unicast).into_iter().zip(forge(macs[2], 2, &macs, unicast));
        for (Forgery { frame, reason }, Forgery { frame: without_role, .. }) in forged {
            if matches!(reason, "dhcp-guard" | "ra-guard") {
                raw.send(&frame)?;
                hears.wait_for(reason, |heard| heard == frame)?;
                let before = dropped(&lab, "cn-a", reason)? + dropped(&lab, "web2/red", reason)?;
                other.send(&without_role)?;
                lab.wait_for("the other one's to be dropped", || {
                    Ok(dropped(&lab, "cn-a", reason)? + dropped(&lab, "web2/red", reason)? > before)
                })?;
            }
        }
    }
    lab.wait_for("the router to be believed", || {
        Ok(beliefs(&lab, "web2")?.contains("default via fe80::bad"))
    })?;
    lab.stop()
}

#[test]
fn a_flood_is_cut_to_the_limits_of_its_sender_where_it_begins_at_the_control_node_and_at_each_receiver()
-> Result<()> {
    let limits = "limits = { broadcast = 50, multicast = { frames = 50 }, frames = 400 }";
    let lab = Lab::start_text(&platform("mac", limits, ""), "e2eseclm")?;
    directly_and_by_relay(&lab)?;
    let (macs, raw) = (macs(&lab)?, RawSocket::open(&lab.namespace("web1"), "red")?);
    let addresses = (IpAddr::V4(ipv4(1)), IpAddr::V4(ipv4(2)));
    let multicast = [1, 0, 0x5e, 0, 0, 99];
    for (to, place, reason) in [
        (BROADCAST, "web1/red", "limit-broadcast"),
        (multicast, "web1/red", "limit-multicast"),
        (macs[1], "web2/red", "limit-total"),
        (macs[2], "cn-a", "limit-total"),
    ] {
        // Ports and lengths differ, so that no agent joins them to one super-frame.
        for n in 0..1000_u16 {
            let payload = vec![0; usize::from(n % 97)];
            raw.send(&forged::datagram(to, macs[0], addresses, (5000 + n, 9), &payload))?;
        }
        let what = format!("the rest to be dropped as {reason} at {place}");
        lab.wait_for(&what, || Ok(dropped(&lab, place, reason)? >= 500))?;
        ensure!(dropped(&lab, place, reason)? <= 1000, "{what}");
    }
    // What keeps to the limit goes through.
    for to in ["10.1.0.2", "10.1.0.3"] {
        lab.exec("web1", 20, &["ping", "-q", "-c", "20", "-i", "0.05", to])?.ok()?;
    }
    lab.stop()
}

/// The link-local address of a node's interface.
fn link_local(lab: &Lab, node: &str) -> Result<String> {
    let shown =
        lab.exec(node, 5, &["ip", "-o", "-6", "addr", "show", "dev", "red", "scope", "link"])?.ok()?;
    let address = shown.split_whitespace().find(|word| word.starts_with("fe80::")).context("no address")?;
    Ok(address.split('/').next().unwrap_or_default().to_owned())
}

#[test]
fn what_a_node_has_in_truth_goes_through_also_when_the_control_node_has_started_again() -> Result<()> {
    let lab = Lab::start_text(&platform("address", "alias = \"10.1.0.101\"", ""), "e2esectr")?;
    directly_and_by_relay(&lab)?;
    let neighbours = [link_local(&lab, "web2")?, link_local(&lab, "web3")?];
    let hears = |source: &str, to: &str| -> Result<bool> {
        let done =
            lab.exec("web1", 20, &["ping", "-q", "-c", "2", "-i", "0.1", "-W", "1", "-I", source, to])?;
        Ok(done.code == Some(0))
    };
    let all_is_heard = || -> Result<()> {
        for to in &neighbours {
            ensure!(hears("red", to)?, "{to} by its link-local address");
        }
        for to in ["10.1.0.2", "fd00:1::2", "10.1.0.3", "fd00:1::3"] {
            ensure!(hears("red", to)?, "{to}");
        }
        for to in ["10.1.0.2", "10.1.0.3"] {
            ensure!(hears("10.1.0.101", to)?, "{to} from the alias");
        }
        Ok(())
    };
    for alias in ["10.1.0.101/32", "10.1.0.77/32"] {
        lab.exec("web1", 5, &["ip", "addr", "add", alias, "dev", "red"])?.ok()?;
    }
    let is_bound = |address: &str| -> Result<bool> {
        let bindings = lab.json(&["bindings"])?;
        Ok(bindings.as_array().into_iter().flatten().any(|binding| binding["address"] == address))
    };
    lab.wait_for("the alias to be bound", || is_bound("10.1.0.101"))?;
    all_is_heard()?;
    ensure!(!hears("10.1.0.77", "10.1.0.2")? && !hears("10.1.0.77", "10.1.0.3")? && !is_bound("10.1.0.77")?);
    lab.kill("cn-a")?;
    lab.wait_for("the control node to know the nodes again", || {
        let nodes = lab.json(&["nodes"]).unwrap_or_default();
        let nodes = nodes.as_array().cloned().unwrap_or_default();
        Ok(nodes.len() == 3 && nodes.iter().all(|node| node["attached"] == true))
    })?;
    lab.wait_for("the alias to be bound again", || Ok(is_bound("10.1.0.101").unwrap_or(false)))?;
    all_is_heard()?;
    ensure!(!hears("10.1.0.77", "10.1.0.2")? && !hears("10.1.0.77", "10.1.0.3")?);
    let macs = macs(&lab)?;
    let raw = RawSocket::open(&lab.namespace("web1"), "red")?;
    let before = dropped(&lab, "web2/red", "source-address")?;
    let forged = forge(macs[0], 2, &macs, true);
    let of_addresses = forged.iter().filter(|forgery| forgery.reason == "source-address");
    for forgery in of_addresses.clone() {
        raw.send(&forgery.frame)?;
    }
    let expected = before + of_addresses.count() as u64;
    lab.wait_for("them to be dropped", || Ok(dropped(&lab, "web2/red", "source-address")? >= expected))?;
    ensure!(!is_deceived(&lab, "web2", macs[0])?);
    lab.stop()
}
