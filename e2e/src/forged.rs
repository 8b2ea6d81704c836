//! Frames that claim to come from somebody else, sound enough for a kernel to believe them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// The address of everybody.
pub const BROADCAST: Mac = [0xff; 6];
/// The MAC of all nodes of a link, ff02::1.
pub const ALL_NODES: Mac = [0x33, 0x33, 0, 0, 0, 1];

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// Reads six pairs of hexadecimal digits.
///
/// # Errors
/// When the text is something else.
pub fn mac(text: &str) -> Result<Mac> {
    let octets: Vec<u8> =
        text.trim().split(':').map(|digits| u8::from_str_radix(digits, 16)).collect::<Result<_, _>>()?;
    octets.try_into().map_err(|_| anyhow::anyhow!("no MAC: {text}"))
}

/// An ARP reply to `to` that says `address` is at `station`.
#[must_use]
pub fn arp_reply(to: Mac, from: Mac, station: Mac, address: Ipv4Addr, asker: Ipv4Addr) -> Vec<u8> {
    let body = [&[0, 1, 8, 0, 6, 4, 0, 2][..], &station, &address.octets(), &to, &asker.octets()];
    ethernet(to, from, 0x0806, &body.concat())
}

/// An ARP request of a station for the MAC of `target`, to everybody.
#[must_use]
pub fn arp_request(own: Mac, address: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let body = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &own, &address.octets(), &[0; 6], &target.octets()];
    ethernet(BROADCAST, own, 0x0806, &body.concat())
}

/// A UDP datagram of either family.
#[must_use]
pub fn datagram(
    to: Mac,
    from: Mac,
    addresses: (IpAddr, IpAddr),
    ports: (u16, u16),
    payload: &[u8],
) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
    let mut udp = [ports.0.to_be_bytes(), ports.1.to_be_bytes(), len.to_be_bytes(), [0; 2]].concat();
    udp.extend_from_slice(payload);
    match addresses {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            // No sum: IPv4 allows that of UDP.
            ethernet(to, from, 0x0800, &ipv4(source, destination, UDP, &udp))
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            set_sum(&mut udp, 6, source, destination, UDP);
            ethernet(to, from, 0x86dd, &ipv6(source, destination, UDP, 64, &udp))
        }
        _ => Vec::new(),
    }
}

/// A TCP segment without options or data, sequence and acknowledgement numbers 1.
#[must_use]
pub fn segment(to: Mac, from: Mac, addresses: (Ipv4Addr, Ipv4Addr), ports: (u16, u16), flags: u8) -> Vec<u8> {
    let mut tcp = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    tcp.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    let pseudo = words(&addresses.0.octets()) + words(&addresses.1.octets());
    set_sum_of(&mut tcp, 16, pseudo, TCP);
    ethernet(to, from, 0x0800, &ipv4(addresses.0, addresses.1, TCP, &tcp))
}

/// An unsolicited neighbour advertisement, to override: `address` is at `station`.
#[must_use]
pub fn advertisement(to: Mac, from: Mac, station: Mac, address: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend_from_slice(&address.octets());
    message.extend_from_slice(&[2, 1]);
    message.extend_from_slice(&station);
    nd(to, from, address, destination, message)
}

/// A router advertisement: a default route by `router` for half an hour.
#[must_use]
pub fn router_advertisement(to: Mac, from: Mac, router: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&[1, 1]);
    message.extend_from_slice(&from);
    nd(to, from, router, destination, message)
}

/// The same frame behind a destination options header, which hosts look behind.
#[must_use]
pub fn behind_options(frame: &[u8]) -> Vec<u8> {
    let mut hidden = [&frame[..54], &[frame[20], 0, 1, 4, 0, 0, 0, 0], &frame[54..]].concat();
    hidden[20] = 60;
    let len = u16::from_be_bytes([frame[18], frame[19]]) + 8;
    hidden[18..20].copy_from_slice(&len.to_be_bytes());
    hidden
}

/// The same frame with the tag of priorities, which hosts take off.
#[must_use]
pub fn tagged(frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &[0x81, 0, 0, 0], &frame[12..]].concat()
}

fn nd(to: Mac, from: Mac, source: Ipv6Addr, destination: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    set_sum(&mut message, 2, source, destination, ICMPV6);
    ethernet(to, from, 0x86dd, &ipv6(source, destination, ICMPV6, 255, &message))
}

fn ethernet(to: Mac, from: Mac, ethertype: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = [&to[..], &from, &ethertype.to_be_bytes(), body].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(20 + payload.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut packet = vec![0x45, 0, len[0], len[1], 0, 0, 0, 0, 64, protocol, 0, 0];
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&destination.octets());
    let sum = folded(words(&packet)).to_be_bytes();
    packet[10..12].copy_from_slice(&sum);
    packet.extend_from_slice(payload);
    packet
}

fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, next: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes();
    let head = [0x60, 0, 0, 0, len[0], len[1], next, hops];
    [&head[..], &source.octets(), &destination.octets(), payload].concat()
}

/// Writes the sum of a message with its pseudo-header (RFC 8200, 8.1).
fn set_sum(message: &mut [u8], at: usize, source: Ipv6Addr, destination: Ipv6Addr, protocol: u8) {
    set_sum_of(message, at, words(&source.octets()) + words(&destination.octets()), protocol);
}

/// The same, with the sum of both addresses: their length makes no difference.
fn set_sum_of(message: &mut [u8], at: usize, pseudo: u32, protocol: u8) {
    let sum = folded(pseudo + message.len() as u32 + u32::from(protocol) + words(message)).to_be_bytes();
    message[at..at + 2].copy_from_slice(&sum);
}

fn words(octets: &[u8]) -> u32 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
    octets.chunks(2).map(word).sum()
}

fn folded(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
