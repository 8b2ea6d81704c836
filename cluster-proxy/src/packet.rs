//! What is read of a packet for a cluster address, before anything is decided on it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vlan_core::DropReason;
use vlan_core::checksum::word;
use vlan_core::ethernet::EthernetHeader;
use vlan_core::ip::{ICMP, ICMPV6, IP_AT, IPV4_LEN, IPV6_LEN, MF, OFFSET, Packet, TCP, UDP, upper_layer};
use vlan_core::wire::Vnet;

use crate::config::{Protocol, is_host, is_routable};
use crate::hash::{self, Flow};
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
    /// A packet for others, which a router gets.
    Routed,
}

/// What was read of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub content: Content,
    pub packet: Packet,
}

impl Read {
    /// The place of its service, if it says which one it is of.
    pub fn place(&self, tables: &Tables) -> Option<usize> {
        match &self.content {
            // Port 0 is no service's, and stands for routers.
            Content::Flow { flow, .. } | Content::Error(flow) if flow.port != 0 => {
                tables.find(flow.service())
            }
            Content::Routed => tables.routing,
            Content::Flow { .. } | Content::Error(_) | Content::Later | Content::Echo => None,
        }
    }
}

/// Octets of a frame that [`plain`] looks at: IPv4 without options, and TCP up to its options.
const PLAIN_IPV4: usize = 54;
/// The same of IPv6, and TCP up to its flags.
const PLAIN_IPV6: usize = 68;
/// Octets of a whole packet that there are at least, behind the IP header: TCP up to its flags.
const PLAIN_UPPER: usize = TCP_FLAGS_END;

/// What can be seen of a packet at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    /// The hash of its flow.
    pub hash: u64,
    /// The number of the key of the service that it would be of.
    pub service: u32,
}

impl Plain {
    #[inline]
    fn new(hash: u64, protocol: u8, ports: u32) -> Self {
        Self { hash, service: u32::from(protocol) << 16 | ports & 0xffff }
    }
}

/// The flow of a packet, where that can be seen at a glance: a whole one of TCP or UDP without options or extension
/// headers, from an ordinary address. `None` says nothing: [`read`] tells.
#[inline]
pub(crate) fn plain(tables: &Tables, frame: &[u8]) -> Option<Plain> {
    let o = frame.first_chunk::<PLAIN_IPV4>()?;
    match [o[12], o[13], o[14] & 0xf0] {
        [8, 0, 0x40] => plain_ipv4(tables, o, frame.len()),
        [0x86, 0xdd, 0x60] => plain_ipv6(tables, frame.first_chunk()?, frame.len()),
        _ => None,
    }
}

#[inline]
fn plain_ipv4(tables: &Tables, o: &[u8; PLAIN_IPV4], frame_len: usize) -> Option<Plain> {
    let len = usize::from(u16::from_be_bytes([o[16], o[17]]));
    let is_whole = len >= IPV4_LEN + PLAIN_UPPER && IP_AT + len <= frame_len;
    let flags = u16::from_be_bytes([o[20], o[21]]);
    let is_plain = o[14] == 0x45 && flags & (MF | OFFSET) == 0 && matches!(o[23], TCP | UDP);
    let is_ordinary = matches!(o[26], 1..=126 | 128..=223);
    let from = u32::from_be_bytes([o[26], o[27], o[28], o[29]]);
    let to = u32::from_be_bytes([o[30], o[31], o[32], o[33]]);
    let is_for_us = tables.has_ipv4(to) && !tables.has_ipv4(from);
    let ports = u32::from_be_bytes([o[34], o[35], o[36], o[37]]);
    (is_whole && is_plain && is_ordinary && is_for_us).then(|| {
        let hash = hash::of_ipv4(&tables.key, from, to, hash::of_ports(o[23], ports));
        Plain::new(hash, o[23], ports)
    })
}

#[inline]
fn plain_ipv6(tables: &Tables, o: &[u8; PLAIN_IPV6], frame_len: usize) -> Option<Plain> {
    let len = usize::from(u16::from_be_bytes([o[18], o[19]]));
    let is_whole = len >= PLAIN_UPPER && IP_AT + IPV6_LEN + len <= frame_len;
    let address = |at: usize| o[at..].first_chunk().map(|octets| u128::from_be_bytes(*octets));
    let (from, to) = (address(22)?, address(38)?);
    let is_ordinary = o[22] != 0 && o[22] != 0xff;
    let is_for_us = tables.has_ipv6(to) && !tables.has_ipv6(from);
    let ports = u32::from_be_bytes([o[54], o[55], o[56], o[57]]);
    (is_whole && matches!(o[20], TCP | UDP) && is_ordinary && is_for_us).then(|| {
        let hash = hash::of_ipv6(&tables.key, from, to, hash::of_ports(o[20], ports));
        Plain::new(hash, o[20], ports)
    })
}

/// Reads a frame for the cluster.
///
/// # Errors
/// Why it goes nowhere.
//= spec/cluster.md#unsound-packets
//# A packet that contradicts itself, or whose source no client can have, MUST be dropped.
pub(crate) fn read(tables: &Tables, vnet: &Vnet, frame: &[u8]) -> Result<Read, DropReason> {
    let header = EthernetHeader::parse(frame).ok_or(DropReason::TooShort)?;
    let packet = Packet::read(frame, header.ethertype, vnet.gso_type != 0)?;
    let packet = packet.ok_or(DropReason::UnknownDestination)?;
    let is_for_us = tables.has_address(packet.destination);
    if !is_for_us && (tables.routing.is_none() || !is_routable(packet.destination)) {
        return Err(DropReason::UnknownDestination);
    }
    if !is_host(packet.source) || tables.has_address(packet.source) {
        return Err(DropReason::BadSource);
    }
    let content = if is_for_us { content(tables, frame, &packet)? } else { routed(&packet)? };
    Ok(Read { content, packet })
}

//= spec/cluster.md#what-is-not-routed
//# A packet whose source or destination is a group's, nobody's, of the loopback or link-local, or that broadcasts, MUST NOT go to a router.
fn routed(packet: &Packet) -> Result<Content, DropReason> {
    if is_routable(packet.source) { Ok(Content::Routed) } else { Err(DropReason::BadSource) }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ClusterConfig;
    use crate::hash::HashKey;
    use alloc::vec::Vec;
    use vlan_core::random::Random;

    const CLUSTER: [IpAddr; 2] =
        [IpAddr::V4(Ipv4Addr::new(10, 1, 0, 100)), IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 100))];

    fn tables() -> Tables {
        let config = ClusterConfig {
            addresses: CLUSTER.into(),
            services: Vec::new(),
            routers: Vec::new(),
            rows: 256,
            epoch: 1,
        };
        Tables::new(&config, HashKey([5, 6])).unwrap()
    }

    /// A segment or datagram of 80 octets.
    fn frame(is_v6: bool, protocol: u8) -> [u8; 80] {
        let mut frame = [7; 80];
        if is_v6 {
            frame[12..22].copy_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 26, protocol, 64]);
            frame[22..24].copy_from_slice(&[0x20, 1]);
            frame[38..54].copy_from_slice(&[0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100]);
        } else {
            frame[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 66, 0, 0, 0x40, 0, 64, protocol]);
            frame[30..34].copy_from_slice(&[10, 1, 0, 100]);
        }
        frame
    }

    fn plainly_read(tables: &Tables, frame: &[u8]) -> Option<Plain> {
        match read(tables, &Vnet::default(), frame).ok()?.content {
            Content::Flow { flow, .. } => {
                let hash = hash::of_flow(&tables.key, &flow);
                Some(Plain::new(hash, flow.protocol as u8, u32::from(flow.port)))
            }
            _ => None,
        }
    }

    #[test]
    fn what_is_seen_at_a_glance_is_what_is_read() {
        let tables = tables();
        let mut random = Random::new(3);
        let mut seen = 0;
        for round in 0..200_000 {
            let mut frame = frame(round & 1 == 0, [TCP, UDP][round >> 1 & 1]);
            let len = if random.below(4) == 0 { random.below(81) as usize } else { 80 };
            for _ in 0..random.below(4) {
                let at = 12 + random.below(46) as usize;
                frame[at] = [random.next_u64() as u8, 0, 127, 255][random.below(4) as usize];
            }
            if random.below(50) == 0 {
                let (from, to) = if round & 1 == 0 { (22, 38..54) } else { (26, 30..34) };
                frame.copy_within(to, from);
            }
            if let Some(plain) = plain(&tables, &frame[..len]) {
                seen += 1;
                assert_eq!(plainly_read(&tables, &frame[..len]), Some(plain), "{frame:?}");
            }
        }
        assert!(seen > 20_000, "{seen}");
        for (is_v6, protocol) in [(false, TCP), (false, UDP), (true, TCP), (true, UDP)] {
            assert!(plain(&tables, &frame(is_v6, protocol)).is_some());
        }
    }
}
