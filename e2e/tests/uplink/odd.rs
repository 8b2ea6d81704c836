//! Frames that no sound station sends, replayed and made up by stock programs while good traffic flows.

use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use e2e::forged::{self, BROADCAST, Mac};
use e2e::pair::{expect_nothing_lost, flow};
use e2e::{Lab, pcap};

use super::{MEMBERS, good_streams, in_mode, is_running, mac_of, reaches, system_mac, tagged};

/// A MAC of the control node's counter that nobody has: what comes from it has come back by a loop. One that somebody has would draw the
/// good traffic to whoever forges it, at the switches outside.
const LOOPED: Mac = [0x02, 0, 1, 0xff, 0xff, 0xfe];
const OWN: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 200);
const MEMBER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 3);
/// How often all of them are replayed, and how many in a second.
const ROUNDS: &str = "--loop=100";
const PACE: &str = "--pps=4000";
/// Frames that scapy makes up.
const FUZZED: u32 = 2_000;

/// A copy of a frame with other octets at a place.
fn with(frame: &[u8], at: usize, octets: &[u8]) -> Vec<u8> {
    let mut changed = frame.to_vec();
    changed[at..at + octets.len()].copy_from_slice(octets);
    changed
}

/// Runts, giants, lengths that lie, wrong sums, wrong tags and what a loop brings back.
fn odd_frames(to: Mac, own: Mac) -> Vec<Vec<u8>> {
    let sound = |from, len| forged::datagram(to, from, (OWN.into(), MEMBER.into()), (9, 9), &vec![7; len]);
    let (small, whole) = (sound(own, 100), sound(own, 1472));
    let six =
        |address: &str| address.parse::<std::net::Ipv6Addr>().unwrap_or(std::net::Ipv6Addr::LOCALHOST).into();
    let v6 = forged::datagram(to, own, (six("fd00:1::200"), six("fd00:1::3")), (9, 9), &[7; 100]);
    let arp = forged::arp_request(own, OWN, MEMBER);
    let runts = [14, 15, 20, 33, 34, 41].map(|len| small[..len].to_vec());
    let cut_arps = [15, 20, 41].map(|len| arp[..len].to_vec());
    let giant = [&whole[..], &[7; 4]].concat();
    let odd = [
        with(&giant, 16, &1504_u16.to_be_bytes()),
        giant,
        // Total length of IPv4 behind the frame's end, in its header, and 0; IPv6's; UDP's.
        with(&small, 16, &[0xff, 0xff]),
        with(&small, 16, &[0, 10]),
        with(&small, 16, &[0, 0]),
        with(&v6, 18, &[0xff, 0xff]),
        with(&small, 38, &[0xff, 0xff]),
        // A header of IPv4 longer than the packet, and one that is too short; sums of IPv4 and UDP; sizes of ARP's addresses.
        with(&small, 14, &[0x4f]),
        with(&small, 14, &[0x41]),
        with(&small, 24, &[0xde, 0xad]),
        with(&small, 40, &[0xde, 0xad]),
        with(&v6, 60, &[0xde, 0xad]),
        with(&arp, 18, &[16, 4]),
        with(&arp, 18, &[6, 16]),
        // Another LAN's tag, the one that is reserved, one behind that for priorities, and a provider's.
        tagged(&small, 100),
        tagged(&small, 4095),
        tagged(&tagged(&small, 100), 0),
        with(&tagged(&small, 100), 12, &[0x88, 0xa8]),
        // From a group, from nobody, and what comes back.
        with(&small, 6, &BROADCAST),
        with(&small, 6, &[0; 6]),
        sound(LOOPED, 100),
        with(&arp, 6, &LOOPED),
    ];
    runts.into_iter().chain(cut_arps).chain(odd).collect()
}

/// A script that sends frames which scapy makes up, each with sound Ethernet addresses.
fn fuzzer(to: &str, own: &str) -> String {
    format!(
        "import random\nfrom scapy.all import *\nrandom.seed(7)\nout = conf.L2socket(iface='eth0')\n\
         kinds = [ARP(), IP()/UDP(), IP()/TCP(), IP()/ICMP(), IPv6()/ICMPv6ND_NS(), IPv6()/ICMPv6ND_NA(), IPv6()/UDP(), \
         Dot1Q()/IP()/UDP(), IP(dst='{MEMBER}')/UDP()/DNS()]\n\
         for n in range({FUZZED}):\n    out.send(Ether(dst='{to}', src='{own}')/fuzz(kinds[n % len(kinds)].copy()))\n"
    )
}

#[test]
fn odd_captures_and_fuzzed_frames_cost_the_good_traffic_nothing() -> Result<()> {
    let lab = in_mode("filtered", "e2eupo")?;
    let pids = ["cn-a", "web1", "web2", "web3"].map(|name| lab.pid(name).map(|pid| (name, pid)));
    let pids = pids.into_iter().collect::<Result<Vec<_>>>()?;
    let (system, own) = (system_mac(&lab, "red")?, mac_of(&lab, "client", "eth0")?);
    // So that its own stack lets the giants pass.
    lab.exec("client", 5, &["ip", "link", "set", "eth0", "mtu", "1504"])?.ok()?;
    let (odd, script) = (lab.file().with_file_name("odd.pcap"), lab.file().with_file_name("fuzz.py"));
    let frames = odd_frames(forged::mac(&system)?, forged::mac(&own)?);
    fs::write(&odd, pcap::file_of(&frames))?;
    fs::write(&script, fuzzer(&system, &own))?;

    let good = good_streams(&lab)?;
    flow(&lab, &good, 1000)?;
    let replay = ["tcpreplay", "-q", "-i", "eth0", PACE, ROUNDS, &odd.to_string_lossy()];
    let replayed = lab.exec("client", 30, &replay)?.ok()?;
    ensure!(replayed.contains(&format!("{} packets", 100 * frames.len())), "{replayed}");
    lab.exec("client", 60, &["/usr/bin/python3", &script.to_string_lossy()])?.ok()?;
    flow(&lab, &good, 1000)?;
    expect_nothing_lost(good)?;

    ensure!(is_running(&lab, &pids)?, "a process ended: {}", lab.log());
    for reason in ["wrong-tag", "malformed", "uplink-loop", "bad-arp"] {
        ensure!(is_dropped(&lab, reason)?, "nothing was dropped as {reason}: {}", lab.json(&["drops"])?);
    }
    for address in MEMBERS.iter().flat_map(|(_, addresses)| addresses) {
        reaches(&lab, "server", &[], address)?;
    }
    lab.stop()
}

fn is_dropped(lab: &Lab, reason: &str) -> Result<bool> {
    let drops = lab.json(&["drops"])?;
    Ok(drops.as_array().into_iter().flatten().any(|drop| drop["reason"] == reason))
}
