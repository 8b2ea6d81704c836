//! Uplinks with stock programs at both ends: members of a LAN, and hosts on the network outside of it.

mod capture;
mod changes;
mod hearing;
mod odd;
mod trunk;

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use e2e::groups::{Listener, PORT};
use e2e::hostile::Hostile;
use e2e::lab::examples;
use e2e::pair::{RATE, expect_nothing_lost, flow, streams, wait_for_direct};
use e2e::raw::RawSocket;
use e2e::stock::{is_answered, tcp};
use e2e::traffic::{Stream, socket_in};
use e2e::{Lab, Tcpdump, forged, platform, run};

const MEMBERS: [(&str, [&str; 2]); 3] = [
    ("web1", ["10.1.0.1", "fd00:1::1"]),
    ("web2", ["10.1.0.2", "fd00:1::2"]),
    ("web3", ["10.1.0.3", "fd00:1::3"]),
];
const HOSTS: [(&str, [&str; 2]); 2] =
    [("client", ["10.1.0.200", "fd00:1::200"]), ("server", ["10.1.0.201", "fd00:1::201"])];
/// Octets of the files that are fetched, lines of eight.
const FILE_LEN: usize = 1 << 20;
/// Groups of the site, which members get if they have joined them.
const GROUPS: [&str; 2] = ["239.1.1.1", "ff05::7"];

/// The example of an uplink in another mode.
fn in_mode(mode: &str, name: &str) -> Result<Lab> {
    let text = fs::read_to_string(examples().join("uplink.toml"))?;
    let other = format!("mode = \"{mode}\"");
    Lab::start_text(&text.replacen("mode = \"filtered\"", &other, 1), name)
}

/// The example with a device that is driven so.
fn by_driver(driver: &str, name: &str) -> Result<Lab> {
    let text = fs::read_to_string(examples().join("uplink.toml"))?;
    Lab::start_text(&text.replacen("[lan.uplink]", &format!("[lan.uplink]\ndriver = \"{driver}\""), 1), name)
}

fn mac_of(lab: &Lab, station: &str, interface: &str) -> Result<String> {
    let path = format!("/sys/class/net/{interface}/address");
    Ok(lab.exec(station, 5, &["cat", &path])?.ok()?.trim().to_owned())
}

/// Pings with these options until three in a row are answered. The first that are too long are not, but tell how long they may
/// be; nor is the last one for certain where the machine is busy, since ping waits no longer for it than its interval.
fn reaches(lab: &Lab, from: &str, options: &[&str], to: &str) -> Result<()> {
    let words = [&["ping", "-q", "-c", "3", "-i", "0.02", "-W", "1"], options, &[to]].concat();
    lab.wait_for(&format!("{from} {options:?} to reach {to}"), || {
        Ok(lab.exec(from, 10, &words)?.out.contains(" 3 received"))
    })
}

/// Pings of all sizes, both ways, between each member and each host outside.
fn check_pings(lab: &Lab) -> Result<()> {
    for (member, inside) in MEMBERS {
        for (host, outside) in HOSTS {
            for (from, to) in [(member, outside), (host, inside)] {
                for target in to {
                    reaches(lab, from, &[], target)?;
                }
            }
        }
    }
    for target in HOSTS[0].1 {
        reaches(lab, "web1", &["-s", "9000"], target)?;
    }
    for target in MEMBERS[0].1 {
        reaches(lab, "client", &["-s", "9000"], target)?;
    }
    Ok(())
}

/// TCP both ways, and a file that is fetched from outside as it was.
fn check_tcp(lab: &Lab) -> Result<()> {
    for family in [0, 1] {
        tcp(lab, "web1", "client", HOSTS[0].1[family])?;
        tcp(lab, "client", "web2", MEMBERS[1].1[family])?;
        fetch(lab, ("web3", MEMBERS[2].1[family]), "server")?;
        fetch(lab, ("server", HOSTS[1].1[family]), "web3")?;
    }
    Ok(())
}

/// Has `client` fetch a file of [`FILE_LEN`] octets from a station.
fn fetch(lab: &Lab, (station, address): (&str, &str), client: &str) -> Result<()> {
    let file = |name: &str| lab.file().with_file_name(format!("{station}-{client}-{name}"));
    let text: String = (0..FILE_LEN / 8).map(|number| format!("{number:07}\n")).collect();
    fs::write(file("own"), &text)?;
    let _ = fs::remove_file(file("got"));
    let (version, host) = match address.contains(':') {
        true => ("TCP6", format!("[{address}]")),
        false => ("TCP4", address.to_owned()),
    };
    let listen = format!("{version}-LISTEN:8080,reuseaddr");
    let mut server =
        lab.spawn(station, 20, &["socat", "-u", &format!("OPEN:{}", file("own").display()), &listen])?;
    lab.wait_for("socat to listen", || {
        Ok(lab.exec(station, 5, &["ss", "-Htln", "sport = :8080"])?.ok()?.contains("8080"))
    })?;
    let to = format!("OPEN:{},creat", file("got").display());
    lab.exec(client, 20, &["socat", "-u", &format!("{version}:{host}:8080"), &to])?.ok()?;
    server.wait()?;
    ensure!(fs::read_to_string(file("got"))? == text, "{client} got something else from {station}");
    Ok(())
}

/// A ping to everybody is answered by everybody, on either side.
fn check_broadcast(lab: &Lab) -> Result<()> {
    let stations: Vec<_> =
        MEMBERS.iter().map(|of| (of, "red")).chain(HOSTS.iter().map(|of| (of, "eth0"))).collect();
    for ((station, _), _) in &stations {
        // The kernel's default is silence to broadcast pings.
        lab.exec(station, 5, &["sysctl", "-qw", "net.ipv4.icmp_echo_ignore_broadcasts=0"])?.ok()?;
    }
    for (asker, interface) in [("web1", "red"), ("client", "eth0")] {
        let others = stations.iter().filter(|((station, _), _)| *station != asker);
        let others: Vec<_> = others.collect();
        let v4: BTreeSet<_> = others.iter().map(|((_, own), _)| own[0].to_owned()).collect();
        let mut v6 = BTreeSet::new();
        for ((station, _), interface) in &others {
            v6.insert(link_local(lab, station, interface)?);
        }
        for (words, expected) in [(&["-b", "10.1.0.255"][..], v4), (&["-I", interface, "ff02::1"], v6)] {
            let ping = [&["ping", "-i", "0.05", "-c", "4"], words].concat();
            let out = lab.exec(asker, 10, &ping)?.out;
            // Of the second: ping ends with the first answer to its last request.
            let lines = out.lines().filter(|line| line.contains("icmp_seq=2 "));
            let senders: Vec<_> = lines.filter_map(sender).collect();
            let all: BTreeSet<_> = senders.iter().cloned().collect();
            ensure!(expected.is_subset(&all), "{asker} {words:?}: {expected:?} of {out}");
            ensure!(senders.len() == all.len(), "somebody answered {asker} twice: {out}");
        }
    }
    Ok(())
}

/// The sender that a line of ping's names.
fn sender(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("from ")?;
    let word = rest.split(' ').next()?.trim_end_matches(':');
    Some(word.split('%').next()?.to_owned())
}

fn link_local(lab: &Lab, station: &str, interface: &str) -> Result<String> {
    let words = ["ip", "-6", "-br", "addr", "show", "dev", interface, "scope", "link"];
    let shown = lab.exec(station, 5, &words)?.ok()?;
    let own = shown.split_whitespace().find(|word| word.starts_with("fe80"));
    Ok(own.and_then(|own| own.split('/').next()).with_context(|| shown.clone())?.to_owned())
}

/// What is sent to a group on one side comes to who has joined it on the other, once.
fn check_groups(lab: &Lab) -> Result<()> {
    for (family, group) in GROUPS.iter().enumerate() {
        for (from, source, to, interface) in
            [("web2", MEMBERS[1].1, "client", "eth0"), ("server", HOSTS[1].1, "web1", "red")]
        {
            let listener = Listener::join(lab, to, interface, group)?;
            lab.wait_for("socat to listen", || {
                Ok(lab.exec(to, 5, &["ss", "-Huln", &format!("sport = :{PORT}")])?.ok()?.contains("5004"))
            })?;
            if to == "web1" {
                lab.wait_for("web1 to be a member", || {
                    let groups = lab.json(&["groups"])?;
                    Ok(groups.as_array().into_iter().flatten().any(|entry| entry["group"] == *group))
                })?;
            }
            let socket = socket_in(&lab.namespace(from), source[family].parse()?)?;
            let target = SocketAddr::new(group.parse()?, PORT);
            let lines: Vec<String> = (0..50).map(|number| format!("{number:07}")).collect();
            for line in &lines {
                socket.send_to(format!("{line}\n").as_bytes(), target)?;
            }
            lab.wait_for("the group's datagrams", || Ok(listener.lines().len() >= lines.len()))?;
            ensure!(listener.leave()? == lines, "{to} got something else from {from} by {group}");
        }
    }
    Ok(())
}

/// The MACs that a host outside has found for the members.
fn macs_outside(lab: &Lab) -> Result<Vec<(&'static str, String)>> {
    let shown = lab.exec("client", 5, &["ip", "neigh", "show", "dev", "eth0"])?.ok()?;
    let mut macs = Vec::new();
    for (member, addresses) in MEMBERS {
        for address in addresses {
            let line = shown.lines().find(|line| line.starts_with(&format!("{address} ")));
            let mac = line.and_then(|line| line.split_once("lladdr ")?.1.split(' ').next());
            macs.push((member, mac.with_context(|| format!("no {address} in {shown}"))?.to_owned()));
        }
    }
    Ok(macs)
}

#[test]
fn outside_sees_one_mac_of_a_filtered_lan_and_everything_else_of_its_members() -> Result<()> {
    let lab = in_mode("filtered", "e2eupf")?;
    check_pings(&lab)?;
    let system = system_mac(&lab, "red")?;
    for (member, mac) in macs_outside(&lab)? {
        ensure!(mac == system, "{member} has {mac} outside, not {system}");
        ensure!(mac_of(&lab, member, "red")? != system, "the system MAC is {member}'s");
    }
    check_tcp(&lab)?;
    check_broadcast(&lab)?;
    check_groups(&lab)?;
    lab.stop()
}

#[test]
fn outside_sees_the_macs_of_an_unfiltered_lan() -> Result<()> {
    let lab = in_mode("unfiltered", "e2eupu")?;
    check_pings(&lab)?;
    for (member, mac) in macs_outside(&lab)? {
        ensure!(mac == mac_of(&lab, member, "red")?, "{member} has {mac} outside");
    }
    check_tcp(&lab)?;
    check_broadcast(&lab)?;
    check_groups(&lab)?;
    lab.stop()
}

#[test]
fn the_device_may_be_driven_by_af_xdp_or_be_a_tap() -> Result<()> {
    for (driver, name) in [("af-xdp", "e2eupx"), ("tap", "e2eupt")] {
        let lab = by_driver(driver, name)?;
        let shown = lab.json(&["uplinks"])?;
        ensure!(shown[0]["driver"] == driver && shown[0]["device"] == "eth1", "{shown}");
        check_pings(&lab)?;
        check_tcp(&lab)?;
        check_groups(&lab)?;
        let pid = lab.pid("cn-a")?;
        lab.kill("cn-a")?;
        lab.wait_for("the control node to be there again", || {
            Ok(lab.pid("cn-a").is_ok_and(|now| now != pid))
        })?;
        for address in MEMBERS[0].1 {
            reaches(&lab, "client", &[], address)?;
        }
        lab.stop()?;
    }
    Ok(())
}

/// The number of frames of a capture that are as `filter` says, every checksum looked at.
fn count_frames(capture: &str, filter: &str) -> Result<usize> {
    let checks = ["ip", "tcp", "udp"].map(|protocol| format!("{protocol}.check_checksum:TRUE"));
    let mut words = vec!["tshark", "-r", capture, "-Y", filter, "-T", "fields", "-e", "frame.number"];
    words.extend(checks.iter().flat_map(|check| ["-o", check]));
    Ok(run(30, &words)?.ok()?.lines().count())
}

#[test]
fn large_frames_inside_meet_1500_octets_outside() -> Result<()> {
    let lab = in_mode("filtered", "e2eupl")?;
    ensure!(lab.exec("web1", 5, &["cat", "/sys/class/net/red/mtu"])?.ok()?.trim() == "16896");
    // What is captured outside is to be whole: nothing is left to devices that are none.
    let off = ["tx", "off", "rx", "off", "sg", "off", "tso", "off", "gso", "off", "gro", "off"];
    lab.exec("client", 5, &[&["ethtool", "-K", "eth0"], &off[..]].concat())?.ok()?;
    lab.exec_in_underlay("cn-a", 5, &[&["ethtool", "-K", "eth1"], &off[..]].concat())?.ok()?;
    let file = lab.file().with_file_name("outside.pcap").to_string_lossy().into_owned();
    let capture = Tcpdump::start(&lab, "client", 60, &["-B", "32768", "-i", "eth0", "-w", &file])?;
    for family in [0, 1] {
        fetch(&lab, ("web1", MEMBERS[0].1[family]), "client")?;
        fetch(&lab, ("client", HOSTS[0].1[family]), "web1")?;
    }
    capture.end()?;
    let segments = count_frames(&file, "tcp.len > 1000")?;
    ensure!(
        segments > 4 * FILE_LEN / 1500,
        "{segments} segments of {FILE_LEN} octets four times are not all"
    );
    ensure!(count_frames(&file, "frame.len > 1514")? == 0, "frames longer than the network's");
    let bad = "tcp.checksum.status == 0 || ip.checksum.status == 0 || udp.checksum.status == 0 || \
               icmp.checksum.status == 0 || icmpv6.checksum.status == 0";
    ensure!(count_frames(&file, bad)? == 0, "bad sums");
    for target in HOSTS[0].1 {
        let words = ["ping", "-c", "3", "-i", "0.05", "-W", "1", "-M", "do", "-s", "4000", target];
        let said = lab.exec("web2", 10, &words)?;
        let said = said.out + &said.err;
        let is_told = ["mtu = 1500", "mtu=1500", "mtu: 1500"].iter().any(|told| said.contains(told));
        ensure!(is_told, "{said}");
    }
    lab.stop()
}

/// `gw` is a router from `blue`, a LAN without a way outside, to `red`, which has one.
fn routed() -> String {
    let red = [
        ("gw", "role = \"router\"\naddress = [\"10.1.0.1/24\", \"fd00:1::1/64\"]"),
        ("web1", "address = [\"10.1.0.2/24\", \"fd00:1::2/64\"]"),
    ];
    let blue = [
        ("gw", "role = \"router\"\naddress = [\"10.2.0.1/24\", \"fd00:2::1/64\"]"),
        ("app1", "address = [\"10.2.0.2/24\", \"fd00:2::2/64\"]\ngateway = [\"10.2.0.1\", \"fd00:2::1\"]"),
    ];
    platform::head(&["gw", "web1", "app1"])
        + &platform::lan("red", 10, "", &red)
        + "[lan.uplink]\nmode = \"filtered\"\ndefault-router = \"gw\"\n\
           ports = [{ control-node = \"cn-a\", device = \"eth1\" }]\n"
        + &platform::lan("blue", 20, "mtu = 1500", &blue)
        + "[[lab.outside]]\nname = \"client\"\nlan = \"red\"\naddress = [\"10.1.0.200/24\", \"fd00:1::200/64\"]\n"
}

#[test]
fn a_router_node_leads_outside_with_and_without_translation_of_addresses() -> Result<()> {
    let lab = Lab::start_text(&routed(), "e2euprt")?;
    let settings = ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"];
    lab.exec("gw", 5, &[&["sysctl", "-qw"], &settings[..]].concat())?.ok()?;
    ensure!(!is_answered(&lab, "app1", HOSTS[0].1[0])?, "the host outside knows no way back");
    let nat = "add table inet t; add chain inet t c { type nat hook postrouting priority 100; }; \
               add rule inet t c oifname red masquerade";
    lab.exec("gw", 5, &["nft", nat])?.ok()?;
    for address in HOSTS[0].1 {
        reaches(&lab, "app1", &[], address)?;
        tcp(&lab, "app1", "client", address)?;
    }
    // Without it: what outside sends to the LAN behind the router is for no member, and goes to the default router.
    lab.exec("gw", 5, &["nft", "delete table inet t"])?.ok()?;
    for (net, router, address) in
        [("10.2.0.0/24", "10.1.0.2", "10.2.0.2"), ("fd00:2::/64", "fd00:1::2", "fd00:2::2")]
    {
        lab.exec("client", 5, &["ip", "route", "add", net, "via", router])?.ok()?;
        reaches(&lab, "client", &[], address)?;
        tcp(&lab, "client", "app1", address)?;
    }
    for (from, to, hops) in [
        ("client", "10.2.0.2", ["10.1.0.1", "10.2.0.2"]),
        ("client", "fd00:2::2", ["fd00:1::1", "fd00:2::2"]),
        ("app1", HOSTS[0].1[0], ["10.2.0.1", HOSTS[0].1[0]]),
        ("app1", HOSTS[0].1[1], ["fd00:2::1", HOSTS[0].1[1]]),
    ] {
        check_way(&lab, from, to, &hops)?;
    }
    lab.stop()
}

/// Whether traceroute finds these stations on the way.
fn check_way(lab: &Lab, from: &str, to: &str, hops: &[&str]) -> Result<()> {
    lab.wait_for(&format!("traceroute from {from} to {to} to find {hops:?}"), || {
        let shown = lab.exec(from, 20, &["traceroute", "-n", "-q", "1", "-w", "2", "-m", "5", to])?.out;
        let found = shown.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1));
        Ok(found.eq(hops.iter().copied()))
    })
}

/// `red` is untagged on `eth1`, `blue` has a tag there. The host outside is one of red's; what it says with a tag, it says by
/// itself.
const TAGGED: &str = r#"
[lan.uplink]
mode = "filtered"
ports = [{ control-node = "cn-a", device = "eth1" }]
[[lab.outside]]
name = "client"
lan = "red"
address = "10.1.0.200/24"
[[lan]]
name = "blue"
id = 20
[[lan.member]]
node = "app1"
address = "10.2.0.1/24"
[lan.uplink]
mode = "unfiltered"
vid = 100
ports = [{ control-node = "cn-a", device = "eth1" }]
"#;

#[test]
fn lans_share_a_device_by_their_tags() -> Result<()> {
    let red = [("web1", "address = \"10.1.0.1/24\"")];
    let text = platform::head(&["web1", "app1"]) + &platform::lan("red", 10, "mtu = 1500", &red) + TAGGED;
    let lab = Lab::start_text(&text, "e2euptag")?;
    let own = forged::mac(&mac_of(&lab, "client", "eth0")?)?;
    let socket = RawSocket::open(&lab.namespace("client"), "eth0")?;
    let options =
        ["-l", "--immediate-mode", "-e", "-Q", "in", "-i", "eth0", "arp[6:2] = 2 or (vlan and arp[6:2] = 2)"];
    let mut capture = Tcpdump::start(&lab, "client", 30, &options)?;
    let ask = |target: [u8; 4]| forged::arp_request(own, Ipv4Addr::new(10, target[1], 0, 200), target.into());
    // Each address is asked for in both LANs, first where it is not.
    for (target, tag, answer) in
        [([10, 2, 0, 1], 100, mac_of(&lab, "app1", "blue")?), ([10, 1, 0, 1], 0, system_mac(&lab, "red")?)]
    {
        let (plain, with_tag) = (ask(target), tagged(&ask(target), 100));
        for frame in if tag == 0 { [with_tag, plain] } else { [plain, with_tag] } {
            socket.send(&frame)?;
        }
        let line = capture.line()?.context("tcpdump ended")?;
        ensure!(line.contains(&format!("is-at {answer}")), "{line}");
        ensure!(line.contains("vlan 100") == (tag == 100), "{line}");
    }
    lab.stop()
}

/// The system MAC of a LAN.
fn system_mac(lab: &Lab, lan: &str) -> Result<String> {
    let uplinks = lab.json(&["uplinks"])?;
    let uplink = uplinks.as_array().into_iter().flatten().find(|uplink| uplink["lan"] == lan);
    Ok(uplink
        .and_then(|uplink| uplink["system_mac"].as_str())
        .with_context(|| uplinks.to_string())?
        .to_owned())
}

fn tagged(frame: &[u8], vid: u16) -> Vec<u8> {
    [&frame[..12], &[0x81, 0], &vid.to_be_bytes(), &frame[12..]].concat()
}

/// Streams of numbered datagrams between `server` and two members, one each way, at 2,000 datagrams a second.
fn good_streams(lab: &Lab) -> Result<Vec<Stream>> {
    let pairs = [("server", HOSTS[1].1[0], MEMBERS[0]), ("web2", MEMBERS[1].1[1], HOSTS[1])];
    let stream = |(from, source, (to, targets)): &(&str, &str, (&str, [&str; 2]))| -> Result<Stream> {
        let target = targets[usize::from(source.contains(':'))];
        reaches(lab, from, &[], target)?;
        let (source, target): (IpAddr, IpAddr) = (source.parse()?, target.parse()?);
        Stream::start((&lab.namespace(from), source), (&lab.namespace(to), target), 2_000, 200)
    };
    pairs.iter().map(stream).collect()
}

fn is_running(lab: &Lab, pids: &[(&'static str, u32)]) -> Result<bool> {
    Ok(pids
        .iter()
        .map(|(name, pid)| Ok(lab.pid(name)? == *pid))
        .collect::<Result<Vec<_>>>()?
        .iter()
        .all(|is| *is))
}

#[test]
fn odd_frames_from_outside_cost_nobody_else_a_frame() -> Result<()> {
    let lab = in_mode("filtered", "e2euph")?;
    let pids = ["cn-a", "web1", "web2", "web3"].map(|name| lab.pid(name).map(|pid| (name, pid)));
    let pids = pids.into_iter().collect::<Result<Vec<_>>>()?;
    let system = forged::mac(&system_mac(&lab, "red")?)?;
    let own = forged::mac(&mac_of(&lab, "client", "eth0")?)?;
    let member = (Ipv4Addr::new(10, 1, 0, 3), forged::mac(&mac_of(&lab, "web3", "red")?)?);
    let socket = RawSocket::open(&lab.namespace("client"), "eth0")?;
    let mut hostile = Hostile::new(socket, (Ipv4Addr::new(10, 1, 0, 200), own), system, member, 0x5eed);
    let good = good_streams(&lab)?;
    flow(&lab, &good, 2000)?;
    hostile.send(20_000)?;
    flow(&lab, &good, 1000)?;
    expect_nothing_lost(good)?;
    hostile.send_looped(2_000)?;
    ensure!(is_running(&lab, &pids)?, "a process ended: {}", lab.log());
    let drops = lab.json(&["drops"])?;
    for reason in ["inside-source", "uplink-loop", "limit-resolution", "wrong-tag", "malformed"] {
        let is_there = drops.as_array().into_iter().flatten().any(|drop| drop["reason"] == reason);
        ensure!(is_there, "nothing was dropped as {reason}: {drops}");
    }
    for address in MEMBERS.iter().flat_map(|(_, addresses)| addresses) {
        reaches(&lab, "server", &[], address)?;
    }
    lab.stop()
}

#[test]
fn the_way_outside_comes_back_with_the_control_node() -> Result<()> {
    let lab = in_mode("filtered", "e2eupre")?;
    let system = system_mac(&lab, "red")?;
    let warm = streams(&lab, RATE)?;
    flow(&lab, &warm, 1000)?;
    wait_for_direct(&lab)?;
    expect_nothing_lost(warm)?;
    let direct = streams(&lab, RATE)?;
    flow(&lab, &direct, 1000)?;
    let pid = lab.pid("cn-a")?;
    lab.kill("cn-a")?;
    lab.wait_for("the control node to be started again", || Ok(lab.pid("cn-a").is_ok_and(|now| now != pid)))?;
    for address in MEMBERS.iter().flat_map(|(_, addresses)| addresses) {
        reaches(&lab, "client", &[], address)?;
    }
    ensure!(system_mac(&lab, "red")? == system, "the system MAC is another one");
    expect_nothing_lost(direct)?;
    lab.stop()
}

#[test]
fn networks_outside_need_no_root_and_leave_nothing() -> Result<()> {
    let before = run(5, &["ip", "-br", "link"])?.ok()?;
    let text = fs::read_to_string(examples().join("uplink.toml"))?;
    let lab = Lab::start_text_without_root(&text, "e2euppl")?;
    ensure!(run(5, &["ip", "-br", "link"])?.ok()? == before, "something was made outside of the lab");
    for (from, to) in [("client", "10.1.0.1"), ("client", "fd00:1::201"), ("web1", "fd00:1::200")] {
        let words = ["exec", from, "--", "ping", "-q", "-i", "0.02", "-c", "3", to];
        lab.wait_for(&format!("{from} to reach {to}"), || {
            Ok(lab.switchctl_without_root(&words)?.code == Some(0))
        })?;
    }
    let refused = lab.switchctl_without_root(&["exec", "printer", "--", "true"])?;
    ensure!(refused.err.contains("it has web1, web2, web3, client, server"), "{refused:?}");
    lab.stop()
}
