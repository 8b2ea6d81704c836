//! Builds ARP and ND frames: for answers from registrations, for simulators, tests and benches.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use vlan_core::MacAddress;
use vlan_core::checksum::{pseudo_header, set_word, sum_from};
use vlan_core::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV6};

use crate::message::{NA_ROUTER, NA_SOLICITED, ND_HOP_LIMIT};

/// Octets of an ARP message for IPv4 behind its Ethernet header.
pub const ARP_FRAME_LEN: usize = 42;

/// `ff02::1`, every node of the link (RFC 4291, 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// `ff02::2`, every router of the link (RFC 4291, 2.7.1).
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// An ARP operation (RFC 826).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Operation {
    /// 1.
    Request = 1,
    /// 2.
    Reply = 2,
}

/// An ARP frame for IPv4 from `sender` (MAC and address) about or for `target`.
///
/// The Ethernet source is the sender's MAC, the target's hardware address is `destination` in a reply and
/// null in a request. A probe has the unspecified sender address; in an announcement both addresses are equal.
#[must_use]
pub fn arp(
    operation: Operation,
    destination: MacAddress,
    sender: (MacAddress, Ipv4Addr),
    target: Ipv4Addr,
) -> [u8; ARP_FRAME_LEN] {
    let target_mac = if operation == Operation::Reply { destination } else { MacAddress::NULL };
    let mut o = [0; ARP_FRAME_LEN];
    o[0..6].copy_from_slice(&destination.0);
    o[6..12].copy_from_slice(&sender.0.0);
    o[12..14].copy_from_slice(&ETHERTYPE_ARP.to_be_bytes());
    o[14..20].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
    o[20..22].copy_from_slice(&(operation as u16).to_be_bytes());
    o[22..28].copy_from_slice(&sender.0.0);
    o[28..32].copy_from_slice(&sender.1.octets());
    o[32..38].copy_from_slice(&target_mac.0);
    o[38..42].copy_from_slice(&target.octets());
    o
}

/// The solicited-node multicast address of `address` (RFC 4291, 2.7.1).
#[must_use]
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let s = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (s[6] & 0xff), s[7])
}

/// The Ethernet group address of an IPv6 multicast address (RFC 2464, 7).
#[must_use]
pub fn group_mac(address: Ipv6Addr) -> MacAddress {
    let o = address.octets();
    MacAddress([0x33, 0x33, o[12], o[13], o[14], o[15]])
}

/// The two MACs and two addresses of an ND message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NdAddresses {
    /// Ethernet destination.
    pub destination_mac: MacAddress,
    /// Ethernet source, also stated in the link-layer address option.
    pub source_mac: MacAddress,
    /// IPv6 source.
    pub source: Ipv6Addr,
    /// IPv6 destination.
    pub destination: Ipv6Addr,
}

/// A neighbour solicitation for `target`; its source link-layer address option is left out when the source
/// is unspecified, as duplicate address detection does.
#[must_use]
pub fn neighbour_solicitation(addresses: &NdAddresses, target: Ipv6Addr) -> Vec<u8> {
    let mut body = Vec::from([0; 4]);
    body.extend_from_slice(&target.octets());
    if !addresses.source.is_unspecified() {
        push_link_layer_option(&mut body, 1, addresses.source_mac);
    }
    nd(addresses, 135, &body)
}

/// A neighbour advertisement that `target` is at the source MAC, with the Override flag.
#[must_use]
pub fn neighbour_advertisement(addresses: &NdAddresses, target: Ipv6Addr, solicited: bool) -> Vec<u8> {
    advertisement(addresses, target, if solicited { NA_SOLICITED } else { 0 })
}

/// What a node says unasked of an address of its own: an unsolicited neighbour advertisement to every node, with the Override flag
/// (RFC 4861, 7.2.6).
#[must_use]
pub fn unsolicited_advertisement(mac: MacAddress, address: Ipv6Addr, is_router: bool) -> Vec<u8> {
    let destination_mac = group_mac(ALL_NODES);
    let addresses = NdAddresses { destination_mac, source_mac: mac, source: address, destination: ALL_NODES };
    advertisement(&addresses, address, if is_router { NA_ROUTER } else { 0 })
}

fn advertisement(addresses: &NdAddresses, target: Ipv6Addr, flags: u8) -> Vec<u8> {
    let mut body = Vec::from([0x20 | flags, 0, 0, 0]);
    body.extend_from_slice(&target.octets());
    push_link_layer_option(&mut body, 2, addresses.source_mac);
    nd(addresses, 136, &body)
}

/// An ICMPv6 message of `kind` with hop limit 255, summed; `body` follows the checksum.
#[must_use]
pub fn nd(addresses: &NdAddresses, kind: u8, body: &[u8]) -> Vec<u8> {
    let payload_len = (4 + body.len()) as u16;
    let mut o = Vec::with_capacity(58 + body.len());
    o.extend_from_slice(&addresses.destination_mac.0);
    o.extend_from_slice(&addresses.source_mac.0);
    o.extend_from_slice(&ETHERTYPE_IPV6.to_be_bytes());
    o.extend_from_slice(&[0x60, 0, 0, 0]);
    o.extend_from_slice(&payload_len.to_be_bytes());
    o.extend_from_slice(&[58, ND_HOP_LIMIT]);
    o.extend_from_slice(&addresses.source.octets());
    o.extend_from_slice(&addresses.destination.octets());
    o.extend_from_slice(&[kind, 0, 0, 0]);
    o.extend_from_slice(body);
    // RFC 4443, 2.3.
    let check = !sum_from(pseudo_header(&o[22..54], 58, o.len() - 54), &o[54..]);
    set_word(&mut o, 56, check);
    o
}

fn push_link_layer_option(body: &mut Vec<u8>, kind: u8, mac: MacAddress) {
    body.extend_from_slice(&[kind, 1]);
    body.extend_from_slice(&mac.0);
}
