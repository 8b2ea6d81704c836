//! What a filter can ask about a frame, read once from its first octets: addresses, types, protocol and ports.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::MacAddress;
use crate::ethernet::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN, EthernetHeader,
};
use crate::limits::ETHERNET_HEADER_LEN;

/// 802.1Q tags that are looked behind.
const TAGS_LOOKED_BEHIND: usize = 2;
/// IPv6 extension headers that are looked behind: each kind of RFC 8200 once, and one more.
const EXTENSIONS_LOOKED_BEHIND: usize = 6;

/// The headers of a frame, as far as they are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Octets of the whole frame.
    pub frame_len: usize,
    /// The Ethernet addresses.
    pub ethernet: EthernetHeader,
    /// The EtherType behind 802.1Q tags.
    pub ethertype: u16,
    /// Source and destination of an IP packet; sender and target of an ARP message.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// The protocol of an IP packet, behind IPv6's extension headers.
    pub protocol: Option<u8>,
    /// Octets up to what the headers carry: behind TCP, UDP and SCTP, behind the first eight octets of ICMP, behind an ARP
    /// message.
    pub headers_len: usize,
    /// Source and destination port of TCP, UDP and SCTP; none in fragments but the first.
    pub ports: Option<(u16, u16)>,
}

impl Headers {
    /// Reads the headers of a frame of `frame_len` octets that starts with `head`; none when that is shorter than an
    /// Ethernet header.
    #[must_use]
    pub fn parse(head: &[u8], frame_len: usize) -> Option<Self> {
        let ethernet = EthernetHeader::parse(head)?;
        let (ethertype, rest) = behind_tags(ethernet.ethertype, &head[ETHERNET_HEADER_LEN..]);
        let mut headers = Self {
            frame_len,
            ethernet,
            ethertype,
            addresses: None,
            protocol: None,
            headers_len: head.len() - rest.len(),
            ports: None,
        };
        match ethertype {
            ETHERTYPE_IPV4 => headers.read_ipv4(rest),
            ETHERTYPE_IPV6 => headers.read_ipv6(rest),
            ETHERTYPE_ARP => headers.read_arp(rest),
            _ => None,
        };
        headers.headers_len = headers.headers_len.min(head.len());
        Some(headers)
    }

    /// True when either address is `mac`, as far as `side` asks.
    pub(super) fn has_mac(&self, source: bool, destination: bool, mac: MacAddress) -> bool {
        (source && self.ethernet.source == mac) || (destination && self.ethernet.destination == mac)
    }

    fn read_arp(&mut self, arp: &[u8]) -> Option<()> {
        // Ethernet and IPv4 (RFC 826): hardware type 1, protocol type 0x0800, lengths 6 and 4.
        if arp.get(..6)? != [0, 1, 8, 0, 6, 4] {
            return None;
        }
        self.addresses = Some((ipv4_at(arp, 14)?, ipv4_at(arp, 24)?));
        self.headers_len += 28;
        Some(())
    }

    fn read_ipv4(&mut self, packet: &[u8]) -> Option<()> {
        let header_len = usize::from(packet.first()? & 15) * 4;
        self.addresses = Some((ipv4_at(packet, 12)?, ipv4_at(packet, 16)?));
        self.protocol = Some(*packet.get(9)?);
        let is_first = u16_at(packet, 6)? & 0x1fff == 0;
        self.headers_len += header_len.max(20);
        self.read_ports(packet.get(header_len.max(20)..)?, is_first)
    }

    fn read_ipv6(&mut self, packet: &[u8]) -> Option<()> {
        self.addresses = Some((ipv6_at(packet, 8)?, ipv6_at(packet, 24)?));
        let (mut next, mut rest, mut is_first) = (*packet.get(6)?, packet.get(40..)?, true);
        for _ in 0..EXTENSIONS_LOOKED_BEHIND {
            let len = match next {
                // Hop-by-hop, routing, destination options: the length counts units of 8 octets behind the first.
                0 | 43 | 60 => (usize::from(*rest.get(1)?) + 1) * 8,
                // Fragment: the offset is in its upper 13 bits.
                44 => {
                    is_first = u16_at(rest, 2)? & 0xfff8 == 0;
                    8
                }
                // Authentication: units of 4 octets behind the first two (RFC 4302).
                51 => (usize::from(*rest.get(1)?) + 2) * 4,
                _ => break,
            };
            (next, rest) = (*rest.first()?, rest.get(len..)?);
            if !is_first {
                break;
            }
        }
        self.protocol = Some(next);
        self.headers_len += packet.len() - rest.len();
        self.read_ports(rest, is_first)
    }

    fn read_ports(&mut self, segment: &[u8], is_first: bool) -> Option<()> {
        if !is_first {
            return None;
        }
        if matches!(self.protocol, Some(6 | 17 | 132)) {
            self.ports = Some((u16_at(segment, 0)?, u16_at(segment, 2)?));
        }
        self.headers_len += match self.protocol? {
            6 => (usize::from(segment.get(12)? >> 4) * 4).max(20),
            17 | 1 | 58 => 8,
            132 => 12,
            _ => 0,
        };
        Some(())
    }
}

fn behind_tags(mut ethertype: u16, mut rest: &[u8]) -> (u16, &[u8]) {
    for _ in 0..TAGS_LOOKED_BEHIND {
        if !matches!(ethertype, ETHERTYPE_VLAN | ETHERTYPE_SERVICE_VLAN) || rest.len() < 4 {
            break;
        }
        ethertype = u16::from_be_bytes([rest[2], rest[3]]);
        rest = &rest[4..];
    }
    (ethertype, rest)
}

fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    octets.get(at..)?.first_chunk::<2>().map(|o| u16::from_be_bytes(*o))
}

fn ipv4_at(octets: &[u8], at: usize) -> Option<IpAddr> {
    octets.get(at..)?.first_chunk::<4>().map(|o| IpAddr::V4(Ipv4Addr::from(*o)))
}

fn ipv6_at(octets: &[u8], at: usize) -> Option<IpAddr> {
    octets.get(at..)?.first_chunk::<16>().map(|o| IpAddr::V6(Ipv6Addr::from(*o)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn frame(ethertypes: &[u16], packet: &[u8]) -> Vec<u8> {
        let mut frame = [[2; 6], [4; 6]].concat();
        for (place, ethertype) in ethertypes.iter().enumerate() {
            if place > 0 {
                frame.extend([0, 7]);
            }
            frame.extend(ethertype.to_be_bytes());
        }
        frame.extend(packet);
        frame
    }

    fn ipv6(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = [0; 40].to_vec();
        (packet[0], packet[6], packet[23], packet[39]) = (0x60, next, 1, 2);
        packet.extend(rest);
        packet
    }

    #[test]
    fn addresses_protocol_and_ports_are_found_behind_two_tags() {
        let mut packet = [0; 24];
        (packet[0], packet[9]) = (0x45, 17);
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        packet[20..24].copy_from_slice(&[0, 53, 1, 0]);
        let headers = Headers::parse(&frame(&[0x88a8, 0x8100, 0x0800], &packet), 99).unwrap();
        assert_eq!((headers.ethertype, headers.frame_len, headers.protocol), (0x0800, 99, Some(17)));
        assert_eq!(headers.addresses, Some(([10, 0, 0, 1].into(), [10, 0, 0, 2].into())));
        assert_eq!(headers.ports, Some((53, 256)));
        // A later fragment has no ports, and three tags are one too many.
        packet[7] = 1;
        assert_eq!(Headers::parse(&frame(&[0x0800], &packet), 99).unwrap().ports, None);
        let three = frame(&[0x8100, 0x8100, 0x8100, 0x0800], &packet);
        assert_eq!(Headers::parse(&three, 99).unwrap().ethertype, 0x8100);
    }

    #[test]
    fn what_stands_behind_extension_headers_of_ipv6_is_found() {
        // Destination options of 16 octets, then the first fragment, then UDP.
        let mut rest = [0; 28];
        (rest[0], rest[1], rest[16]) = (44, 1, 17);
        rest[24..28].copy_from_slice(&[0, 53, 1, 0]);
        let headers = Headers::parse(&frame(&[0x86dd], &ipv6(60, &rest)), 99).unwrap();
        assert_eq!((headers.protocol, headers.ports), (Some(17), Some((53, 256))));
        rest[19] = 8;
        let later = Headers::parse(&frame(&[0x86dd], &ipv6(60, &rest)), 99).unwrap();
        assert_eq!((later.protocol, later.ports), (Some(17), None));
    }

    #[test]
    fn an_arp_message_has_the_addresses_that_it_speaks_of() {
        let mut arp = [0; 28];
        arp[..6].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
        (arp[14], arp[17], arp[24], arp[27]) = (10, 1, 10, 2);
        let headers = Headers::parse(&frame(&[0x0806], &arp), 60).unwrap();
        assert_eq!(headers.addresses, Some(([10, 0, 0, 1].into(), [10, 0, 0, 2].into())));
    }

    #[test]
    fn octets_that_end_early_give_what_there_is() {
        let whole = frame(&[0x86dd], &ipv6(0, &[6, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]));
        assert_eq!(Headers::parse(&whole, 99).unwrap().ports, Some((258, 772)));
        for len in 0..whole.len() {
            let headers = Headers::parse(&whole[..len], 99);
            assert_eq!(headers.is_some(), len >= 14);
            assert_eq!(headers.and_then(|headers| headers.ports), None, "{len} octets");
        }
    }
}
