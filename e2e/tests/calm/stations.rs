//! Containers behind bridges behind nodes: as many as may be there are reached, and one that moves is found again.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, ensure};
use e2e::forged::{self, Mac};
use e2e::raw::RawSocket;
use e2e::{Lab, run};

/// Three nodes on one LAN with port security `mac`; the first two are bridges and may have two stations each.
fn bridges() -> String {
    let mut text = "[platform]\nname = \"lrn\"\n[[fabric]]\nname = \"a\"\n[[control-node]]\nname = \"cn-a\"\nserial = 1\n\
                    key-file = \"keys/cn-a\"\nstate-dir = \"state/cn-a\"\nmanagement = \"unix:run/cn-a.sock\"\n\
                    legs = { a = \"unix:run/cn-a-a.sock\" }\n"
        .to_owned();
    for n in 1..=3 {
        text += &format!(
            "[[node]]\nname = \"web{n}\"\nnumber = {n}\nkey-file = \"keys/web{n}\"\nlegs = {{ a = \"unix\" }}\n"
        );
    }
    text += "[[lan]]\nname = \"red\"\nid = 10\nmtu = 1500\nport-security = \"mac\"\n\
             [[lan.member]]\nnode = \"web1\"\nlearn = 2\n[[lan.member]]\nnode = \"web2\"\nlearn = 2\n\
             [[lan.member]]\nnode = \"web3\"\naddress = [\"10.1.0.3/24\", \"fd00:1::3/64\"]\n";
    text
}

/// The MAC of a container.
fn mac(n: u8) -> Mac {
    [2, 7, 7, 7, 7, n]
}

/// Runs `ip` and expects it to work.
fn ip(line: &str) -> Result<()> {
    let words: Vec<_> = ["ip"].into_iter().chain(line.split(' ')).collect();
    run(10, &words)?.ok().with_context(|| line.to_owned())?;
    Ok(())
}

/// Makes a bridge of a node's interface that says nothing itself.
fn make_bridge(lab: &Lab, node: &str) -> Result<()> {
    let namespace = lab.namespace(node);
    ip(&format!("-n {namespace} link add br0 type bridge mcast_snooping 0"))?;
    ip(&format!("-n {namespace} link set br0 addrgenmode none"))?;
    ip(&format!("-n {namespace} link set red master br0"))?;
    ip(&format!("-n {namespace} link set br0 up"))
}

/// A container: a namespace with one interface, whose other end is in a node's bridge.
struct Container {
    namespace: String,
    n: u8,
}

impl Container {
    /// The container `n` has the addresses 10.1.0.1n and fd00:1::1n.
    fn start(lab: &Lab, node: &str, n: u8) -> Result<Self> {
        let namespace = format!("e2elrnc{n}-{}", std::process::id());
        ip(&format!("netns add {namespace}"))?;
        let container = Self { namespace, n };
        let Self { namespace, .. } = &container;
        let address = mac(n).map(|octet| format!("{octet:02x}")).join(":");
        let end = format!("name eth0 address {address} netns {namespace}");
        let node = lab.namespace(node);
        ip(&format!("-n {node} link add c{n} type veth peer {end}"))?;
        ip(&format!("-n {node} link set c{n} addrgenmode none"))?;
        ip(&format!("-n {namespace} addr add 10.1.0.1{n}/24 dev eth0"))?;
        ip(&format!("-n {namespace} addr add fd00:1::1{n}/64 dev eth0 nodad"))?;
        ip(&format!("-n {namespace} link set eth0 up"))?;
        container.plug_in(&node)?;
        Ok(container)
    }

    fn plug_in(&self, bridge: &str) -> Result<()> {
        ip(&format!("-n {bridge} link set c{} master br0 up", self.n))
    }

    fn move_to(&self, lab: &Lab, from: &str, to: &str) -> Result<()> {
        let (from, to) = (lab.namespace(from), lab.namespace(to));
        ip(&format!("-n {from} link set c{} netns {to}", self.n))?;
        ip(&format!("-n {to} link set c{} addrgenmode none", self.n))?;
        self.plug_in(&to)
    }

    /// True when an address answers it.
    fn reaches(&self, to: &str) -> Result<bool> {
        let ping = ["ip", "netns", "exec", &self.namespace, "ping", "-q", "-c", "1", "-W", "1", to];
        Ok(run(5, &ping)?.code == Some(0))
    }

    fn addresses(&self) -> [String; 2] {
        [format!("10.1.0.1{}", self.n), format!("fd00:1::1{}", self.n)]
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = ip(&format!("netns del {}", self.namespace));
    }
}

/// How many stations are shown behind a node's interface.
fn stations(lab: &Lab, node: &str) -> Result<usize> {
    let lans = lab.json(&["lans"])?;
    let members = lans[0]["members"].as_array().context("no members")?;
    let member = members.iter().find(|member| member["node"] == node).context("no such member")?;
    Ok(member["stations"].as_array().map_or(0, Vec::len))
}

/// The node that an address is shown to be behind, as a station's.
fn holder(lab: &Lab, address: &str) -> Result<Option<String>> {
    let bindings = lab.json(&["bindings"])?;
    let of = |b: &&serde_json::Value| b["address"] == address && b["station"] == true;
    let found = bindings.as_array().into_iter().flatten().find(of);
    Ok(found.and_then(|binding| binding["node"].as_str()).map(str::to_owned))
}

/// How many frames were dropped there because there was no room for a station.
fn full(lab: &Lab, place: &str) -> Result<u64> {
    let drops = lab.json(&["drops"])?;
    let of = |d: &&serde_json::Value| d["where"] == place && d["reason"] == "stations-full";
    Ok(drops.as_array().into_iter().flatten().find(of).and_then(|drop| drop["frames"].as_u64()).unwrap_or(0))
}

/// Both ask the other one, by both kinds of addresses.
fn reach_each_other(lab: &Lab, container: &Container) -> Result<()> {
    for to in ["10.1.0.3", "fd00:1::3"] {
        lab.wait_for(&format!("the container {} to reach {to}", container.n), || container.reaches(to))?;
    }
    for address in container.addresses() {
        lab.exec("web3", 20, &["ping", "-q", "-c", "80", "-i", "0.01", &address])?.ok()?;
    }
    Ok(())
}

/// What web3 has sent on its direct RVIs, and what it has got there.
fn direct(lab: &Lab) -> Result<[u64; 2]> {
    let of = |way: &str| lab.counter(|name| name == format!("node.web3.vif.1.{way}.direct.frames"));
    Ok([of("tx")?, of("rx")?])
}

#[test]
fn containers_behind_a_node_are_reached_directly_one_too_many_is_not_and_one_that_moves_is_found()
-> Result<()> {
    let lab = Lab::start_text(&bridges(), "e2elrn")?;
    for node in ["web1", "web2"] {
        make_bridge(&lab, node)?;
    }
    let first = Container::start(&lab, "web1", 1)?;
    let second = Container::start(&lab, "web1", 2)?;
    for container in [&first, &second] {
        reach_each_other(&lab, container)?;
    }
    ensure!(stations(&lab, "web1")? == 2 && full(&lab, "cn-a")? == 0, "{}", lab.json(&["drops"])?);
    for address in first.addresses() {
        ensure!(holder(&lab, &address)?.as_deref() == Some("web1"), "{}", lab.json(&["bindings"])?);
    }

    // Their frames go direct, both ways: no more than ARP and ND by the control node.
    let before = direct(&lab)?;
    lab.exec("web3", 20, &["ping", "-q", "-c", "100", "-i", "0.01", "10.1.0.12"])?.ok()?;
    let after = direct(&lab)?;
    ensure!(after[0] >= before[0] + 100 && after[1] >= before[1] + 100, "{before:?}, {after:?}");

    // There is no room for a third one: not at the control node, and not where its frames come directly.
    let third = Container::start(&lab, "web1", 3)?;
    ensure!(!third.reaches("10.1.0.3")?, "the third container is reached");
    lab.wait_for("the third container's frames to be dropped", || Ok(full(&lab, "cn-a")? > 0))?;
    let raw = RawSocket::open(&lab.namespace("web1"), "red")?;
    let lans = lab.json(&["lans"])?;
    let text = lans[0]["members"][2]["mac"].as_str().context("no MAC")?;
    let mut to = [0; 6];
    for (octet, digits) in to.iter_mut().zip(text.split(':')) {
        *octet = u8::from_str_radix(digits, 16)?;
    }
    let [from, web3] = [13, 3].map(|n| IpAddr::V4(Ipv4Addr::new(10, 1, 0, n)));
    raw.send(&forged::datagram(to, mac(3), (from, web3), (5000, 9), b"x"))?;
    lab.wait_for("the receiver to drop it, too", || Ok(full(&lab, "web3/red")? == 1))?;
    let shown = lab.switchctl(&["drops"])?.ok()?;
    ensure!(shown.lines().filter(|line| line.contains("stations-full")).count() == 2, "{shown}");
    let shown = lab.switchctl(&["lans"])?.ok()?;
    ensure!(shown.contains("2 of 2"), "{shown}");

    // One that moves leaves its place to the third.
    first.move_to(&lab, "web1", "web2")?;
    reach_each_other(&lab, &first)?;
    for address in first.addresses() {
        ensure!(holder(&lab, &address)?.as_deref() == Some("web2"), "{}", lab.json(&["bindings"])?);
    }
    reach_each_other(&lab, &third)?;
    ensure!((stations(&lab, "web1")?, stations(&lab, "web2")?) == (2, 1), "{}", lab.json(&["lans"])?);
    drop((first, second, third));
    lab.stop()
}
