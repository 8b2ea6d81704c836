//! The frame that a trace is asked about: hexadecimal digits, or a short description, filled in from what is known of the LAN.

use std::net::{IpAddr, SocketAddr};

use vlan_core::MacAddress;

use crate::control_node::{LanStatus, MemberStatus, Status};

/// TTL and hop limit of the frames that are made here, as RFC 1700 has them.
const HOPS: u8 = 64;
/// Source port of the datagrams and segments that are made here: the first of the dynamic ones (RFC 6335).
const SOURCE_PORT: u16 = 49_152;

/// Reads `text` as a frame of `member`.
pub fn frame_of(
    text: &str,
    status: &Status,
    lan: &LanStatus,
    member: &MemberStatus,
) -> Result<Vec<u8>, String> {
    let (word, rest) = text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
    let rest = rest.trim();
    let known = Known { status, lan, member };
    let address = || rest.parse::<IpAddr>().map_err(|_| format!("{rest:?} is no IP address"));
    let socket = || rest.parse::<SocketAddr>().map_err(|_| format!("{rest:?} is no IP address with a port"));
    match word {
        "arp" => known.arp(address()?),
        "icmp" => known.icmp(address()?),
        "udp" => socket().and_then(|to| known.packet(to.ip(), 17, &segment(to.port(), &[0, 8, 0, 0]))),
        "tcp" => {
            // A SYN: sequence and acknowledgement numbers 0, five words of header.
            let rest = [0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0];
            socket().and_then(|to| known.packet(to.ip(), 6, &segment(to.port(), &rest)))
        }
        _ => octets(text),
    }
}

fn segment(port: u16, rest: &[u8]) -> Vec<u8> {
    [&SOURCE_PORT.to_be_bytes(), &port.to_be_bytes(), rest].concat()
}

fn octets(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| !c.is_whitespace() && *c != ':')
        .map(|c| c.to_digit(16).ok_or_else(|| format!("{c:?} is no hexadecimal digit")))
        .collect::<Result<_, _>>()?;
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return Err("a frame has two digits for each octet".to_owned());
    }
    Ok(digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect())
}

struct Known<'a> {
    status: &'a Status,
    lan: &'a LanStatus,
    member: &'a MemberStatus,
}

impl Known<'_> {
    /// The member's own address of the family of `to`.
    fn source(&self, to: IpAddr) -> Result<IpAddr, String> {
        let own = self.status.bindings.iter().filter(|binding| {
            (binding.lan, binding.node, binding.vif) == (self.lan.id, self.member.node, self.member.vif)
        });
        let mut own = own.map(|binding| binding.address).filter(|own| own.is_ipv4() == to.is_ipv4());
        own.next().ok_or_else(|| format!("the sender has no address of the family of {to}"))
    }

    /// The station that a packet to `to` goes to.
    fn station(&self, to: IpAddr) -> Result<MacAddress, String> {
        match to {
            IpAddr::V4(group) if group.is_broadcast() => return Ok(MacAddress([0xff; 6])),
            // RFC 1112, 6.4.
            IpAddr::V4(group) if group.is_multicast() => {
                let [_, b, c, d] = group.octets();
                return Ok(MacAddress([1, 0, 0x5e, b & 0x7f, c, d]));
            }
            // RFC 2464, 7.
            IpAddr::V6(group) if group.is_multicast() => {
                let [.., a, b, c, d] = group.octets();
                return Ok(MacAddress([0x33, 0x33, a, b, c, d]));
            }
            _ => {}
        }
        let bindings = self.status.bindings.iter().filter(|binding| binding.lan == self.lan.id);
        let found = bindings.filter(|binding| binding.address == to).map(|binding| binding.mac).next();
        found.ok_or_else(|| format!("nobody on {} has {to}: its stack would ask by ARP or ND", self.lan.name))
    }

    fn frame(&self, to: MacAddress, ethertype: u16, packet: &[u8]) -> Vec<u8> {
        [&to.0, &self.member.mac.0, &ethertype.to_be_bytes()[..], packet].concat()
    }

    fn arp(&self, to: IpAddr) -> Result<Vec<u8>, String> {
        let (IpAddr::V4(own), IpAddr::V4(asked)) = (self.source(to)?, to) else {
            return Err("ARP is for IPv4".to_owned());
        };
        let mac = self.member.mac.0;
        let parts: [&[u8]; 6] =
            [&[0, 1, 8, 0, 6, 4, 0, 1], &mac, &own.octets(), &[0; 6], &asked.octets(), &[]];
        Ok(self.frame(MacAddress([0xff; 6]), 0x0806, &parts.concat()))
    }

    fn icmp(&self, to: IpAddr) -> Result<Vec<u8>, String> {
        match to {
            IpAddr::V4(_) => self.packet(to, 1, &[8, 0, 0, 0, 0, 1, 0, 1]),
            IpAddr::V6(_) => self.packet(to, 58, &[128, 0, 0, 0, 0, 1, 0, 1]),
        }
    }

    /// An IP packet without checksums, which nothing in the fabric looks at.
    fn packet(&self, to: IpAddr, protocol: u8, payload: &[u8]) -> Result<Vec<u8>, String> {
        let (own, station) = (self.source(to)?, self.station(to)?);
        Ok(match (own, to) {
            (IpAddr::V4(own), IpAddr::V4(to)) => {
                let len = (20 + payload.len() as u16).to_be_bytes();
                let head: [u8; 12] = [0x45, 0, len[0], len[1], 0, 0, 0x40, 0, HOPS, protocol, 0, 0];
                let packet = [&head[..], &own.octets(), &to.octets(), payload].concat();
                self.frame(station, 0x0800, &packet)
            }
            (IpAddr::V6(own), IpAddr::V6(to)) => {
                let len = (payload.len() as u16).to_be_bytes();
                let head: [u8; 8] = [0x60, 0, 0, 0, len[0], len[1], protocol, HOPS];
                let packet = [&head[..], &own.octets(), &to.octets(), payload].concat();
                self.frame(station, 0x86dd, &packet)
            }
            _ => return Err("source and destination are of different families".to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_with_spaces_and_colons_or_without() {
        assert_eq!(octets("0a:0b 0C0d"), Ok(vec![10, 11, 12, 13]));
        for wrong in ["", "0a0", "0a0g", "tcp"] {
            assert!(octets(wrong).is_err(), "{wrong}");
        }
    }
}
