//! Two LANs on one device, and outside a machine with a kernel that knows tags.

use anyhow::{Result, ensure};
use e2e::guest::Guest;
use e2e::{Lab, Tcpdump, platform};

use super::{count_frames, mac_of, reaches, system_mac};

/// A LAN as the guest sees it: its tag, its members, and the beginnings of its addresses. What is pinged there has one pattern, which no
/// other LAN's has.
struct Side {
    lan: &'static str,
    vid: u16,
    members: [&'static str; 2],
    v4: &'static str,
    v6: &'static str,
    pattern: &'static str,
}

const RED: Side =
    Side { lan: "red", vid: 10, members: ["web1", "web2"], v4: "10.1.0.", v6: "fd00:1::", pattern: "a1" };
const BLUE: Side =
    Side { lan: "blue", vid: 20, members: ["app1", "app2"], v4: "10.2.0.", v6: "fd00:2::", pattern: "b2" };
/// What has another tag, or none, has this one.
const STRAY: &str = "c3";
/// The last part of the guest's addresses.
const GUEST: u8 = 200;

/// `red` is filtered, `blue` is not; `plain` is there for a host outside, whose network has no tag.
fn two_by_tags() -> String {
    let uplink = |mode: &str, vid: u16| {
        let vid = if vid == 0 { String::new() } else { format!("vid = {vid}\n") };
        format!(
            "[lan.uplink]\nmode = \"{mode}\"\n{vid}ports = [{{ control-node = \"cn-a\", device = \"eth1\" }}]\n"
        )
    };
    let lan = |side: &Side, mode| {
        let addresses = [1, 2].map(|n| format!("address = [\"{}{n}/24\", \"{}{n}/64\"]", side.v4, side.v6));
        let members = [(side.members[0], &*addresses[0]), (side.members[1], &*addresses[1])];
        platform::lan(side.lan, side.vid, "mtu = 1500", &members) + &uplink(mode, side.vid)
    };
    platform::head(&["web1", "web2", "app1", "app2"])
        + &lan(&RED, "filtered")
        + &lan(&BLUE, "unfiltered")
        + &platform::lan("plain", 30, "mtu = 1500", &[("web1", "address = \"10.3.0.1/24\"")])
        + &uplink("unfiltered", 0)
        + "[[lab.outside]]\nname = \"trunk\"\nlan = \"plain\"\naddress = \"10.3.0.200/24\"\n"
}

/// Gives the guest an interface with a tag, or with a tag behind that of another one, and perhaps addresses.
fn add_interface(guest: &mut Guest, (below, vid): (&str, u16), addresses: &[String]) -> Result<String> {
    let name = format!("{below}.{vid}");
    guest.exec(&format!("ip link add link {below} name {name} type vlan id {vid}"))?.ok()?;
    for address in addresses {
        guest.exec(&format!("ip addr add {address} dev {name}"))?.ok()?;
    }
    guest.exec(&format!("ip link set {name} up"))?.ok()?;
    Ok(name)
}

/// Pings of the guest until three in a row are answered.
fn guest_reaches(lab: &Lab, guest: &mut Guest, pattern: &str, to: &str) -> Result<()> {
    let guest = std::cell::RefCell::new(guest);
    lab.wait_for(&format!("the guest to reach {to}"), || {
        let done = guest.borrow_mut().exec(&format!("ping -q -c 3 -W 1 -p {pattern} {to}"))?;
        Ok(done.out.contains(" 3 packets received"))
    })
}

/// Unicast both ways, by both families, and TCP, whose sums and segments are left to the devices.
fn check_talk(lab: &Lab, guest: &mut Guest, side: &Side) -> Result<()> {
    let pattern = ["-p", side.pattern];
    for (n, member) in (1..).zip(side.members) {
        for net in [side.v4, side.v6] {
            guest_reaches(lab, guest, side.pattern, &format!("{net}{n}"))?;
            reaches(lab, member, &pattern, &format!("{net}{GUEST}"))?;
        }
        let megabyte = "head -c 1000000 /dev/zero";
        let script = format!(
            "{megabyte} | socat -u - TCP-LISTEN:8080,reuseaddr & socat -u TCP-LISTEN:8081,reuseaddr - | wc -c; wait"
        );
        let served = lab.spawn(member, 30, &["sh", "-c", &script])?;
        lab.wait_for("socat to listen", || {
            let shown = lab.exec(member, 5, &["ss", "-Htln"])?.ok()?;
            Ok(shown.contains(":8080 ") && shown.contains(":8081 "))
        })?;
        let down = guest.exec(&format!("nc {}{n} 8080 </dev/null | wc -c", side.v4))?;
        ensure!(down.out.trim() == "1000000", "{down:?}");
        guest.exec(&format!("{megabyte} | nc {}{n} 8081", side.v4))?;
        let up = served.wait_with_output()?;
        ensure!(String::from_utf8_lossy(&up.stdout).trim() == "1000000", "{up:?}");
    }
    Ok(())
}

/// What is for everybody of a LAN, both ways, and what no LAN is to have.
fn send_to_groups(lab: &Lab, guest: &mut Guest, side: &Side) -> Result<()> {
    let Side { vid, v4, pattern, .. } = side;
    for to in [format!("-I eth0.{vid} {v4}255"), format!("-I eth0.{vid} ff02::1")] {
        guest.exec(&format!("ping -q -c 2 -W 1 -p {pattern} {to}"))?;
    }
    let member = side.members[0];
    let ping = ["ping", "-q", "-c", "2", "-i", "0.1", "-W", "1", "-p", pattern];
    for to in [&["-b", &format!("{v4}255")][..], &["-I", side.lan, "ff02::1"]] {
        lab.exec(member, 5, &[&ping[..], to].concat())?;
    }
    Ok(())
}

/// How many frames were dropped for their tags.
fn wrong_tags(lab: &Lab) -> Result<u64> {
    let drops = lab.json(&["drops"])?;
    let drops = drops.as_array().into_iter().flatten().filter(|drop| drop["reason"] == "wrong-tag");
    Ok(drops.filter_map(|drop| drop["frames"].as_u64()).sum())
}

#[test]
fn nothing_crosses_between_two_lans_on_one_device_with_a_kernel_that_knows_tags_outside() -> Result<()> {
    //= spec/uplink.md#tags
    //= type=test
    //# A frame that goes outside MUST have the 802.1Q tag of its LAN's uplink and no other, or none where the uplink has none.
    //= spec/uplink.md#which-lan
    //= type=test
    //# A frame from outside MUST go to the LAN whose uplink has its tag, without that tag; it MUST be dropped when no LAN has
    //# it or when there is another tag behind it.
    let lab = Lab::start_text(&two_by_tags(), "e2euptr")?;
    let mut guest = Guest::start(&lab, "trunk")?;
    let file = |name: &str| lab.file().with_file_name(format!("{name}.pcap")).to_string_lossy().into_owned();
    let mut captures = Vec::new();
    let places = [&RED, &BLUE].into_iter().flat_map(|side| side.members.map(|member| (member, side.lan)));
    for (place, interface) in places.chain([("trunk", "tap0")]) {
        captures.push(Tcpdump::start(
            &lab,
            place,
            60,
            &["-i", interface, "-B", "32768", "-w", &file(place)],
        )?);
    }
    let before = wrong_tags(&lab)?;
    for Side { vid, v4, v6, .. } in [&RED, &BLUE] {
        let own = [format!("{v4}{GUEST}/24 brd +"), format!("{v6}{GUEST}/64")];
        add_interface(&mut guest, ("eth0", *vid), &own)?;
    }
    for side in [&RED, &BLUE] {
        check_talk(&lab, &mut guest, side)?;
        send_to_groups(&lab, &mut guest, side)?;
    }
    // A tag that no LAN has, and one behind another.
    for below in [("eth0", 30), ("eth0.10", 20)] {
        let name = add_interface(&mut guest, below, &["10.9.0.200/24 brd +".into()])?;
        guest.exec(&format!("ping -q -c 3 -W 1 -p {STRAY} -I {name} 10.9.0.255"))?;
        guest.exec(&format!("ip link del {name}"))?.ok()?;
    }
    ensure!(wrong_tags(&lab)? >= before + 6, "{} wrong tags", wrong_tags(&lab)?);

    // Whom the guest knows by which MAC: a filtered LAN by one, the other by those of its members.
    let known = guest.exec("ip neigh")?.ok()?;
    let mac_at = |address: &str| {
        known.lines().find(|line| line.starts_with(&format!("{address} "))).map(str::to_owned)
    };
    let system = system_mac(&lab, "red")?;
    for (address, mac) in
        [("10.1.0.1", &system), ("10.1.0.2", &system), ("10.2.0.1", &mac_of(&lab, "app1", "blue")?)]
    {
        ensure!(mac_at(address).is_some_and(|line| line.contains(&**mac)), "{address} is not {mac}: {known}");
    }

    captures.into_iter().try_for_each(|capture| capture.end().map(drop))?;
    check_captures(file)?;
    drop(guest);
    lab.stop()
}

/// Each member has its own LAN's frames, of both families, and none of another's; on the trunk each LAN's have its tag alone.
fn check_captures(file: impl Fn(&str) -> String) -> Result<()> {
    let has = |pattern: &str| format!("(frame contains {})", [pattern; 12].join(":"));
    for (own, other) in [(&RED, &BLUE), (&BLUE, &RED)] {
        let of = |side: &Side| {
            let (v4, v6) = (format!("{}0/24", side.v4), format!("{}/64", side.v6));
            format!(
                "({} || ip.addr == {v4} || ipv6.addr == {v6} || arp.src.proto_ipv4 == {v4} || arp.dst.proto_ipv4 == {v4})",
                has(side.pattern)
            )
        };
        for member in own.members {
            let file = file(member);
            for family in ["icmp", "icmpv6"] {
                let seen = count_frames(&file, &format!("{family} && {}", has(own.pattern)))?;
                ensure!(seen >= 8, "{member} has {seen} {family} of its own");
            }
            ensure!(count_frames(&file, &of(other))? == 0, "{member} has frames of {}", other.lan);
            ensure!(count_frames(&file, &has(STRAY))? == 0, "{member} has frames of no LAN");
            ensure!(count_frames(&file, "vlan")? == 0, "{member} has a tag");
        }
        let trunk = file("trunk");
        let vid = own.vid;
        ensure!(
            count_frames(&trunk, &format!("{} && vlan.id == {vid}", of(own)))? > 50,
            "{} is not seen",
            own.lan
        );
        ensure!(
            count_frames(&trunk, &format!("{} && !(vlan.id == {vid})", of(own)))? == 0,
            "{} has another tag",
            own.lan
        );
    }
    Ok(())
}
