//! What outside may expect of a frame, looked at from there: for tests, fuzzers and simulators, which have no kernel beside
//! them to complain.

use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use vlan_core::MacAddress;
use vlan_core::checksum::{is_same_sum, pseudo_header, sum, sum_from, word};
use vlan_core::ethernet::EthernetHeader;
use vlan_core::wire::Vnet;

use crate::tag::{Trunk, Vid, is_tag};
use crate::translate::stated;
use vlan_core::ip::{ICMP, ICMPV6, IP_AT, IPV6_LEN, Packet, TCP, UDP};

/// What is wrong with a frame outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It has no whole Ethernet header.
    TooShort,
    /// It has another tag than it should have, or more than one.
    Tag,
    /// Its packet is longer than the MTU, or than it says.
    Length {
        /// Octets of the packet.
        len: usize,
    },
    /// The sum of the IPv4 header is wrong.
    HeaderSum,
    /// The sum of TCP, UDP, ICMP or ICMPv6 is wrong.
    Sum {
        /// Which of them, by its number.
        protocol: u8,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl core::error::Error for Fault {}

/// The MACs that a frame outside states: its own two and those of ARP and ND, whatever its tag.
#[must_use]
pub fn stated_macs(frame: &[u8]) -> Vec<MacAddress> {
    let mut octets = frame.to_vec();
    if octets.len() >= 18 && is_tag(u16::from_be_bytes([octets[12], octets[13]])) {
        octets.drain(12..16);
    }
    let Some(header) = EthernetHeader::parse(&octets) else { return Vec::new() };
    let packet = Packet::read(&octets, header.ethertype, false).ok().flatten();
    let mut macs = Vec::from([header.destination, header.source]);
    macs.extend(stated(&octets, header.ethertype, packet.as_ref()));
    macs
}

/// Checks a frame that went outside by an uplink with the tag `vid` and a device with this MTU: its tag and length, and the sums of its
/// headers and of what an unfragmented packet carries.
///
/// # Errors
/// With the first thing that is wrong.
pub fn check(frame: &[u8], vid: Option<Vid>, mtu: u16) -> Result<(), Fault> {
    let untagged = check_form(frame, vid, mtu)?;
    let Some(header) = EthernetHeader::parse(&untagged) else { return Err(Fault::TooShort) };
    let len = untagged.len() - IP_AT;
    let packet = Packet::read(&untagged, header.ethertype, false).map_err(|_| Fault::Length { len })?;
    packet.map_or(Ok(()), |packet| check_sums(&untagged, &packet))
}

/// The same without its sums, for frames whose senders made them.
///
/// # Errors
/// With the first thing that is wrong.
pub fn check_form(frame: &[u8], vid: Option<Vid>, mtu: u16) -> Result<Vec<u8>, Fault> {
    let mut trunk = Trunk::default();
    let is_tagged = word(frame, 12).is_some_and(is_tag);
    trunk.add(vid, 0).map_err(|_| Fault::Tag)?;
    let mut octets = frame.to_vec();
    let (_, _, untagged) = trunk.untag(&Vnet::default(), &mut octets).map_err(|_| Fault::Tag)?;
    let len = untagged.len().checked_sub(IP_AT).ok_or(Fault::TooShort)?;
    if is_tagged != vid.is_some() {
        return Err(Fault::Tag);
    }
    if len > usize::from(mtu) {
        return Err(Fault::Length { len });
    }
    Ok(untagged.to_vec())
}

fn check_sums(frame: &[u8], packet: &Packet) -> Result<(), Fault> {
    let header_end = IP_AT + usize::from(frame[IP_AT] & 15) * 4;
    if packet.is_ipv4() && !is_same_sum(sum(&frame[IP_AT..header_end]), 0) {
        return Err(Fault::HeaderSum);
    }
    let Some(protocol) = packet.protocol.filter(|_| packet.fragment.is_none()) else { return Ok(()) };
    let message = &frame[packet.upper_at..packet.end];
    let addresses = match packet.source {
        IpAddr::V4(_) => &frame[IP_AT + 12..IP_AT + 20],
        IpAddr::V6(_) => &frame[IP_AT + 8..IP_AT + IPV6_LEN],
    };
    let start = match (protocol, packet.is_ipv4()) {
        // No sum at all (RFC 768).
        (UDP, true) if word(message, 6) == Some(0) => return Ok(()),
        (TCP | UDP, _) | (ICMPV6, false) => pseudo_header(addresses, protocol, message.len()),
        (ICMP, true) => 0,
        _ => return Ok(()),
    };
    let is_right = is_same_sum(sum_from(start, message), 0);
    if is_right { Ok(()) } else { Err(Fault::Sum { protocol }) }
}
