//! An uplink that comes, goes and changes by `switchctl apply` while datagrams flow.

use std::fs;
use std::net::IpAddr;

use anyhow::{Result, ensure};
use e2e::lab::examples;
use e2e::pair::{expect_nothing_lost, flow, streams};
use e2e::stock::is_answered;
use e2e::traffic::Stream;
use e2e::{Lab, Tcpdump};

use super::{HOSTS, MEMBERS, mac_of, macs_outside, reaches, system_mac};

/// Of the LAN that does not change, and leaves by a device of its own.
const BLUE: &str = r#"
[[lan]]
name = "blue"
id = 20
mtu = 1500
[[lan.member]]
node = "web1"
address = ["10.2.0.1/24", "fd00:2::1/64"]
[lan.uplink]
mode = "unfiltered"
ports = [{ control-node = "cn-a", device = "eth2" }]
[[lab.outside]]
name = "printer"
lan = "blue"
address = ["10.2.0.200/24", "fd00:2::200/64"]
"#;
const RATE: u64 = 2_000;
/// The first lab's: a running platform keeps it.
const NAME: &str = "e2eupa";

/// An uplink of `red` in a mode by a device, which is driven so.
fn by(mode: &str, device: &str, driver: &str) -> String {
    format!(
        "mode = \"{mode}\"\ndriver = \"{driver}\"\nports = [{{ control-node = \"cn-a\", device = \"{device}\" }}]\n"
    )
}

/// The example of an uplink with `blue`, as the platform `name`; `red` has this uplink, or none.
fn with_uplink(name: &str, red: Option<&str>) -> Result<String> {
    let example = fs::read_to_string(examples().join("uplink.toml"))?;
    let example = example.replacen("name = \"uplink\"", &format!("name = \"{name}\""), 1);
    let (head, hosts) = example.split_once("[lan.uplink]").unwrap_or((&example, ""));
    let hosts = hosts.find("[[lab.outside]]").map_or("", |at| &hosts[at..]);
    let uplink = red.map(|uplink| format!("[lan.uplink]\n{uplink}{hosts}"));
    Ok(head.to_owned() + &uplink.unwrap_or_default() + BLUE)
}

/// A stream each way between `printer` and `web1` on the LAN that does not change.
fn others(lab: &Lab) -> Result<Vec<Stream>> {
    let pairs =
        [("printer", "10.2.0.200", "web1", "10.2.0.1"), ("web1", "fd00:2::1", "printer", "fd00:2::200")];
    let stream = |(from, source, to, target): (&str, &str, &str, &str)| -> Result<Stream> {
        reaches(lab, from, &[], target)?;
        let (source, target): (IpAddr, IpAddr) = (source.parse()?, target.parse()?);
        Stream::start((&lab.namespace(from), source), (&lab.namespace(to), target), RATE, 200)
    };
    pairs.into_iter().map(stream).collect()
}

/// Everybody outside and everybody inside reach each other.
fn check_reached(lab: &Lab) -> Result<()> {
    for (host, outside) in HOSTS {
        for (member, inside) in MEMBERS {
            for family in [0, 1] {
                reaches(lab, host, &[], inside[family])?;
                reaches(lab, member, &[], outside[family])?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_lan_loses_gets_and_changes_its_way_outside_and_nobody_else_loses_anything() -> Result<()> {
    //= spec/control-node.md#changed-uplinks
    //= type=test
    //# When an applied file gives a LAN an uplink, takes it away or changes it, a control node MUST carry the LAN's frames as the file
    //# says from then on, tell outside who is where, and lose no frame of another LAN or between members.
    let lab = Lab::start_text(&with_uplink(NAME, Some(&by("filtered", "eth1", "auto")))?, NAME)?;
    check_reached(&lab)?;
    let mut kept = streams(&lab, RATE)?;
    kept.extend(others(&lab)?);
    flow(&lab, &kept, 500)?;

    lab.apply(&with_uplink(NAME, None)?, &[])?.ok()?;
    ensure!(lab.json(&["uplinks"])?.as_array().map(Vec::len) == Some(1), "{}", lab.json(&["uplinks"])?);
    for address in MEMBERS[0].1 {
        ensure!(!is_answered(&lab, "client", address)?, "{address} answers without an uplink");
    }
    flow(&lab, &kept, 500)?;

    //= spec/control-node.md#devices-of-an-applied-file
    //= type=test
    //# A control node MUST open the devices that come with a file before anything of it is in use, and refuse the file when one
    //# cannot be opened.
    let refused = lab.apply(&with_uplink(NAME, Some(&by("filtered", "eth9", "auto")))?, &[])?;
    ensure!(refused.code == Some(1) && refused.err.contains("eth9"), "{refused:?}");

    // Nobody inside says anything: outside is told who is where all the same.
    let options = ["-l", "--immediate-mode", "-e", "-i", "eth0", "-c", "1", "arp and arp[14:4] = arp[24:4]"];
    for (mode, device) in [("unfiltered", "eth1"), ("filtered", "eth1")] {
        let mut told = Tcpdump::start(&lab, "client", 30, &options)?;
        let applied = lab.apply(&with_uplink(NAME, Some(&by(mode, device, "auto")))?, &[])?.ok()?;
        ensure!(applied.contains(mode), "{applied}");
        ensure!(told.line()?.is_some_and(|line| line.contains("10.1.0.")), "nothing is announced");
        check_reached(&lab)?;
        let hears = lab.exec_in_underlay("cn-a", 5, &["ip", "-d", "link", "show", "dev", device])?.ok()?;
        // For an address beside its own a veth interface has to hear everything, too; nothing is left of the other mode.
        ensure!(hears.contains("promiscuity 1 "), "asked more than once in {mode} mode: {hears}");
        for (member, mac) in macs_outside(&lab)? {
            let expected =
                if mode == "filtered" { system_mac(&lab, "red")? } else { mac_of(&lab, member, "red")? };
            ensure!(mac == expected, "{member} has {mac} outside, not {expected}");
        }
    }
    flow(&lab, &kept, 500)?;
    expect_nothing_lost(kept)?;
    lab.stop()
}

/// Makes two more devices in the control node's underlay that lead where `eth1` does, by a bridge: `up2`, an end of a veth pair, and `tap1`.
fn add_devices(lab: &Lab) -> Result<()> {
    let steps = [
        "sysctl -qw net.ipv6.conf.default.disable_ipv6=1",
        "ip link add br1 type bridge",
        "ip link add up2 type veth peer name port2",
        "ip tuntap add tap1 mode tap",
        "ip link set eth1 master br1",
        "ip link set port2 master br1",
        "ip link set tap1 master br1",
        "ip link set port2 up",
        "ip link set up2 up",
        "ip link set tap1 up",
        "ip link set br1 up",
    ];
    for step in steps {
        let words: Vec<&str> = step.split(' ').collect();
        lab.exec_in_underlay("cn-a", 5, &words)?.ok()?;
    }
    Ok(())
}

/// A stream that leaves the LAN which changes, from `web1` to `client`.
fn outward(lab: &Lab) -> Result<Stream> {
    let [from, to] = [MEMBERS[0].1[0], HOSTS[0].1[0]].map(str::parse::<IpAddr>);
    Stream::start((&lab.namespace("web1"), from?), (&lab.namespace("client"), to?), RATE, 200)
}

/// How often a member's interface has got or lost its carrier.
fn carrier_changes(lab: &Lab) -> Result<String> {
    lab.exec("web1", 5, &["cat", "/sys/class/net/red/carrier_changes"])?.ok()
}

#[test]
fn a_lan_moves_between_devices_and_drivers_and_nobody_else_loses_anything() -> Result<()> {
    let name = "e2eupd";
    let dependent = |(device, driver)| by("filtered", device, driver) + "link-dependency = true\n";
    let ways = [
        ("eth1", "af-packet"),
        ("eth1", "af-xdp"),
        ("up2", "af-xdp"),
        ("tap1", "tap"),
        ("up2", "af-packet"),
        ("up2", "af-xdp"),
        ("tap1", "tap"),
        ("eth1", "af-packet"),
    ];
    let lab = Lab::start_text(&with_uplink(name, Some(&dependent(ways[0])))?, name)?;
    add_devices(&lab)?;
    check_reached(&lab)?;
    let mut kept = streams(&lab, RATE)?;
    kept.extend(others(&lab)?);
    let changed = [outward(&lab)?];
    for way in &ways[1..] {
        let before = carrier_changes(&lab)?;
        lab.apply(&with_uplink(name, Some(&dependent(*way)))?, &[])?.ok()?;
        let shown = lab.json(&["uplinks"])?;
        ensure!(shown[0]["device"] == way.0 && shown[0]["driver"] == way.1, "{way:?}: {shown}");
        for (inside, outside) in MEMBERS[1].1.into_iter().zip(HOSTS[0].1) {
            reaches(&lab, "client", &[], inside)?;
            reaches(&lab, "web2", &[], outside)?;
        }
        flow(&lab, &changed, 200)?;
        //= spec/control-node.md#state-of-the-devices-of-an-applied-file
        //= type=test
        //# The state of a device that comes with a file MUST be known before the file is in use, and members MUST be told of the carrier
        //# only where that is another one then.
        let after = carrier_changes(&lab)?;
        ensure!(before == after, "{way:?}: {before} changes of the carrier, now {after}");
    }
    check_reached(&lab)?;
    flow(&lab, &kept, 500)?;
    expect_nothing_lost(kept)?;
    for stream in changed {
        let tally = stream.finish()?;
        ensure!(tally.received > tally.lost(), "the LAN has lost more than the changes took: {tally:?}");
    }
    lab.stop()
}
