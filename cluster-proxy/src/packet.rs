//! What is read of a packet for a cluster address, before anything is decided on it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vlan_core::DropReason;
use vlan_core::checksum::word;
use vlan_core::ethernet::EthernetHeader;
use vlan_core::ip::{ICMP, ICMPV6, IPV4_LEN, IPV6_LEN, OFFSET, Packet, TCP, UDP, upper_layer};
use vlan_core::wire::Vnet;

use crate::config::{Protocol, is_host};
use crate::hash::Flow;
use crate::tables::Tables;

/// Octets of a TCP header up to its flags.
const TCP_FLAGS_END: usize = 14;
/// Octets of a UDP header.
const UDP_LEN: usize = 8;
/// Octets of an ICMP header.
pub(crate) const ICMP_LEN: usize = 8;
const SYN: u8 = 2;
const ACK: u8 = 16;
const RST: u8 = 4;

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A TCP segment or the first part of a UDP datagram.
    Flow {
        /// Its flow.
        flow: Flow,
        /// It may begin one.
        begins: bool,
    },
    /// A fragment behind the first.
    Later,
    /// An ICMP error about a packet of this flow's server.
    Error(Flow),
    /// An ICMP echo request.
    Echo,
}

/// What was read of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub content: Content,
    pub packet: Packet,
}

/// Reads a frame for the cluster.
///
/// # Errors
/// Why it goes nowhere.
//= spec/cluster.md#unsound-packets
//# A packet that contradicts itself, or whose source no client can have, MUST be dropped.
#[inline]
pub(crate) fn read(tables: &Tables, vnet: &Vnet, frame: &[u8]) -> Result<Read, DropReason> {
    let header = EthernetHeader::parse(frame).ok_or(DropReason::TooShort)?;
    let packet = Packet::read(frame, header.ethertype, vnet.gso_type != 0)?;
    let packet = packet.ok_or(DropReason::UnknownDestination)?;
    if !tables.has_address(packet.destination) {
        return Err(DropReason::UnknownDestination);
    }
    if !is_host(packet.source) || tables.has_address(packet.source) {
        return Err(DropReason::BadSource);
    }
    let content = content(tables, frame, &packet)?;
    Ok(Read { content, packet })
}

//= spec/cluster.md#known-services
//# A packet for a cluster address MUST be dropped as `unknown-service` unless its port is a service's or its flow is claimed.
fn content(tables: &Tables, frame: &[u8], packet: &Packet) -> Result<Content, DropReason> {
    let Some(protocol) = packet.protocol else { return Ok(Content::Later) };
    let upper = frame.get(packet.upper_at..packet.end).ok_or(DropReason::Malformed)?;
    match (protocol, packet.is_ipv4()) {
        (TCP, _) => {
            let o = upper.first_chunk::<TCP_FLAGS_END>().ok_or(DropReason::Malformed)?;
            let begins = o[13] & (SYN | ACK | RST) == SYN;
            Ok(Content::Flow { flow: flow(Protocol::Tcp, packet, o), begins })
        }
        (UDP, _) => {
            let o = upper.first_chunk::<UDP_LEN>().ok_or(DropReason::Malformed)?;
            Ok(Content::Flow { flow: flow(Protocol::Udp, packet, o), begins: true })
        }
        (ICMP, true) | (ICMPV6, false) if packet.fragment.is_none() => icmp(tables, upper, packet.is_ipv4()),
        (ICMP, true) | (ICMPV6, false) => Err(DropReason::OrphanFragment),
        _ => Err(DropReason::UnknownService),
    }
}

#[inline]
fn flow(protocol: Protocol, packet: &Packet, ports: &[u8]) -> Flow {
    Flow {
        protocol,
        client: packet.source,
        client_port: word(ports, 0).unwrap_or(0),
        address: packet.destination,
        port: word(ports, 2).unwrap_or(0),
    }
}

/// RFC 792, RFC 4443: echo requests, and the errors.
fn icmp(tables: &Tables, message: &[u8], is_ipv4: bool) -> Result<Content, DropReason> {
    let (header, quoted) = message.split_first_chunk::<ICMP_LEN>().ok_or(DropReason::Malformed)?;
    match (header[0], is_ipv4) {
        (8, true) | (128, false) => Ok(Content::Echo),
        (3 | 11 | 12, true) => quoted_ipv4(tables, quoted).map(Content::Error),
        (1..=4, false) => quoted_ipv6(tables, quoted).map(Content::Error),
        _ => Err(DropReason::UnknownService),
    }
}

/// The flow that a quoted packet answers. The quotation is cut short, so its lengths say nothing.
//= spec/cluster.md#icmp-errors
//# An ICMP error that quotes a packet from a cluster address MUST go to the owner of the flow that the quoted packet answers, or by the rules for its unknown flows.
fn quoted_ipv4(tables: &Tables, quoted: &[u8]) -> Result<Flow, DropReason> {
    let o: &[u8; IPV4_LEN] = quoted.first_chunk().ok_or(DropReason::Malformed)?;
    let header_len = usize::from(o[0] & 15) * 4;
    if o[0] >> 4 != 4 || header_len < IPV4_LEN || u16::from_be_bytes([o[6], o[7]]) & OFFSET != 0 {
        return Err(DropReason::Malformed);
    }
    let from = Ipv4Addr::new(o[12], o[13], o[14], o[15]).into();
    let to = Ipv4Addr::new(o[16], o[17], o[18], o[19]).into();
    answered(tables, (from, to), o[9], quoted.get(header_len..))
}

fn quoted_ipv6(tables: &Tables, quoted: &[u8]) -> Result<Flow, DropReason> {
    let o: &[u8; IPV6_LEN] = quoted.first_chunk().ok_or(DropReason::Malformed)?;
    if o[0] >> 4 != 6 {
        return Err(DropReason::Malformed);
    }
    let upper = upper_layer(quoted, o[6])?;
    let protocol = upper.protocol.ok_or(DropReason::Malformed)?;
    let address = |at: usize| {
        let octets = o.get(at..).and_then(<[u8]>::first_chunk::<16>);
        IpAddr::from(octets.map_or(Ipv6Addr::UNSPECIFIED, |octets| Ipv6Addr::from(*octets)))
    };
    answered(tables, (address(8), address(24)), protocol, quoted.get(upper.at..))
}

fn answered(
    tables: &Tables,
    (from, to): (IpAddr, IpAddr),
    protocol: u8,
    upper: Option<&[u8]>,
) -> Result<Flow, DropReason> {
    let protocol = match protocol {
        TCP => Protocol::Tcp,
        UDP => Protocol::Udp,
        _ => return Err(DropReason::UnknownService),
    };
    let ports = upper.and_then(<[u8]>::first_chunk::<4>).ok_or(DropReason::Malformed)?;
    if !tables.has_address(from) || !is_host(to) {
        return Err(DropReason::UnknownDestination);
    }
    let [port, client_port] = [[ports[0], ports[1]], [ports[2], ports[3]]].map(u16::from_be_bytes);
    Ok(Flow { protocol, client: to, client_port, address: from, port })
}
