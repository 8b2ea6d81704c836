//! What somebody on a fabric can do who sees each datagram, and sends what he likes in the name of a host.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use e2e::Lab;
use e2e::pair::{RATE, expect_nothing_lost, flow, streams, wait_for_udp_legs};
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto};

const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
/// Datagrams that are taken down and played again.
const CAPTURED: usize = 300;

/// IPv4 packets of UDP that web1 sends to web2 on fabric a.
fn capture(lab: &Lab) -> Result<Vec<Vec<u8>>> {
    let count = CAPTURED.to_string();
    let listen = ["timeout", "10", "tcpdump", "-i", "a", "-n", "-x", "-c", &count];
    // Single datagrams: the kernel shows runs of them before it cuts them.
    let filter = "udp and ip and src host 172.31.1.2 and dst host 172.31.1.3 and less 1400";
    let text = lab.exec_in_underlay("web1", 15, &[&listen[..], &[filter]].concat())?.ok()?;
    let mut packets: Vec<Vec<u8>> = Vec::new();
    for line in text.lines() {
        let Some((offset, words)) = line.trim().strip_prefix("0x").and_then(|line| line.split_once(':'))
        else {
            continue;
        };
        if offset == "0000" {
            packets.push(Vec::new());
        }
        let packet = packets.last_mut().context("octets of no packet")?;
        for word in words.split_whitespace() {
            for pair in word.as_bytes().chunks(2) {
                packet.push(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?);
            }
        }
    }
    ensure!(packets.len() >= CAPTURED, "only {} packets in: {text}", packets.len());
    Ok(packets)
}

/// A socket that sends whole IPv4 packets from where a process of the lab runs.
fn forger(lab: &Lab, beside: &str) -> Result<OwnedFd> {
    let path = format!("/proc/{}/ns/net", lab.pid(beside)?);
    let open = move || -> Result<OwnedFd> {
        let underlay = File::open(&path).with_context(|| path.clone())?;
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(underlay.as_fd(), kind)?;
        Ok(rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW))?)
    };
    std::thread::spawn(open).join().map_err(|_| anyhow::anyhow!("the opening thread panicked"))?
}

/// Sends a packet with right lengths and no UDP checksum (RFC 768: zero), so that the kernel lets it through.
fn send(socket: &OwnedFd, mut packet: Vec<u8>) -> Result<()> {
    let (ip_len, udp_len) = (packet.len() as u16, (packet.len() - IP_HEADER) as u16);
    packet[2..4].copy_from_slice(&ip_len.to_be_bytes());
    packet[IP_HEADER + 4..IP_HEADER + 6].copy_from_slice(&udp_len.to_be_bytes());
    packet[IP_HEADER + 6..IP_HEADER + 8].fill(0);
    let to = SocketAddrV4::new(Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19]), 0);
    rustix::net::sendto(socket, &packet, SendFlags::empty(), &SocketAddr::V4(to))?;
    Ok(())
}

/// Whether a counter is of packets that no session took.
fn is_refusal(name: &str) -> bool {
    name.contains(".session.refused.")
}

#[test]
fn replayed_cut_flipped_and_forged_datagrams_change_nothing_but_counters() -> Result<()> {
    let lab = Lab::start("two-hosts.toml", "e2erepl", &[])?;
    let streams = streams(&lab, RATE)?;
    flow(&lab, &streams, 1000)?;
    wait_for_udp_legs(&lab)?;
    // All by fabric a for as long as it is listened to.
    lab.switchctl(&["fabric", "b", "down"])?.ok()?;
    let packets = capture(&lab)?;
    lab.switchctl(&["fabric", "b", "up"])?.ok()?;
    wait_for_udp_legs(&lab)?;
    let copies =
        || lab.counter(|name| is_refusal(name) && (name.ends_with(".copy") || name.ends_with(".old")));
    let refused = || lab.counter(|name| is_refusal(name) || name.ends_with("node.strays"));
    let before = (copies()?, refused()?);

    let socket = forger(&lab, "web1")?;
    let payload = IP_HEADER + UDP_HEADER;
    for (number, packet) in packets.iter().enumerate() {
        send(&socket, packet.clone())?;
        let octets = packet.len() - payload;
        send(&socket, packet[..payload + number % octets].to_vec())?;
        let mut flipped = packet.clone();
        flipped[payload + number * 7 % octets] ^= 1 << (number % 8);
        send(&socket, flipped)?;
        let mut forged = packet.clone();
        for (at, octet) in forged[payload..].iter_mut().enumerate().skip(8) {
            *octet = (number * 31 + at * 17) as u8;
        }
        send(&socket, forged)?;
    }
    let sent = packets.len() as u64;
    lab.wait_for("the datagrams to be counted", || {
        Ok(copies()? >= before.0 + sent * 9 / 10 && refused()? >= before.1 + 4 * sent * 9 / 10)
    })?;
    flow(&lab, &streams, RATE)?;
    wait_for_udp_legs(&lab)?;
    expect_nothing_lost(streams)?;
    lab.stop()
}
