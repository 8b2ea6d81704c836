//! TCP segments of the calls to clusters: Ethernet, IPv4 or IPv6, TCP, and which call the segment is of.
//!
//! The sequence number says which call it is, the acknowledgement number is free for the two ends.

use std::net::{IpAddr, SocketAddr};

use vlan_core::MacAddress;
use vlan_core::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader};
use vlan_core::ip::TCP;

use crate::frame::internet_checksum;

/// The flags of TCP's header (RFC 9293, 3.1).
pub mod flags {
    /// Nothing more comes.
    pub const FIN: u8 = 1;
    /// A connection begins.
    pub const SYN: u8 = 2;
    /// There is no such connection.
    pub const RST: u8 = 4;
    /// Of a connection that is there.
    pub const ACK: u8 = 16;
}

/// Octets of a TCP header without options.
const HEADER_LEN: usize = 20;
/// Where the IP header ends.
const IPV4_END: usize = 34;
const IPV6_END: usize = 54;

/// One segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Who sends it.
    pub source: SocketAddr,
    /// Whom it is for; an address of the same family.
    pub destination: SocketAddr,
    /// See [`flags`].
    pub flags: u8,
    /// Which call it is of: the sequence number.
    pub call: u32,
    /// What the ends tell each other: the acknowledgement number.
    pub value: u32,
}

impl Segment {
    /// The same from the other end, with other flags.
    #[must_use]
    pub const fn answer(&self, flags: u8, value: u32) -> Self {
        Self { source: self.destination, destination: self.source, flags, call: self.call, value }
    }

    /// Makes the frame.
    #[must_use]
    pub fn frame(&self, source: MacAddress, destination: MacAddress) -> Vec<u8> {
        let mut frame = [destination.0, source.0].concat();
        let addresses = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
                let mut header = [&[0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, TCP, 0, 0][..]].concat();
                header.extend(source.octets().into_iter().chain(destination.octets()));
                let sum = internet_checksum(0, &header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                frame.extend_from_slice(&header);
                IPV4_END - 8..IPV4_END
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend_from_slice(&ETHERTYPE_IPV6.to_be_bytes());
                frame.extend_from_slice(&[0x60, 0, 0, 0, 0, HEADER_LEN as u8, TCP, 64]);
                frame.extend(source.octets().into_iter().chain(destination.octets()));
                IPV6_END - 32..IPV6_END
            }
            mixed => panic!("addresses of two families: {mixed:?}"),
        };
        let start = frame.len();
        for port in [self.source.port(), self.destination.port()] {
            frame.extend_from_slice(&port.to_be_bytes());
        }
        for number in [self.call, self.value] {
            frame.extend_from_slice(&number.to_be_bytes());
        }
        frame.extend_from_slice(&[5 << 4, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        // RFC 9293, 3.1: the pseudo-header is both addresses, the protocol and the length.
        let pseudo = u32::from(!internet_checksum(0, &frame[addresses])) + u32::from(TCP) + HEADER_LEN as u32;
        let sum = internet_checksum(pseudo, &frame[start..]);
        frame[start + 16..start + 18].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    /// Reads a frame; `None` unless it holds a segment without options.
    #[must_use]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let (source, destination, at): (IpAddr, IpAddr, _) = match EthernetHeader::parse(frame)?.ethertype {
            ETHERTYPE_IPV4 if *frame.get(23)? == TCP => {
                let [source, destination] = [26, 30].map(|at| frame.get(at..)?.first_chunk::<4>().copied());
                (source?.into(), destination?.into(), IPV4_END)
            }
            ETHERTYPE_IPV6 if *frame.get(20)? == TCP => {
                let [source, destination] = [22, 38].map(|at| frame.get(at..)?.first_chunk::<16>().copied());
                (source?.into(), destination?.into(), IPV6_END)
            }
            _ => return None,
        };
        let o = frame.get(at..)?.first_chunk::<HEADER_LEN>()?;
        Some(Self {
            source: SocketAddr::new(source, u16::from_be_bytes([o[0], o[1]])),
            destination: SocketAddr::new(destination, u16::from_be_bytes([o[2], o[3]])),
            flags: o[13],
            call: u32::from_be_bytes([o[4], o[5], o[6], o[7]]),
            value: u32::from_be_bytes([o[8], o[9], o[10], o[11]]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_read_as_they_were_made_and_sum_to_zero() {
        for (source, destination) in
            [("10.1.0.1:4000", "10.1.0.250:80"), ("[fd00:1::1]:4000", "[fd00:1::fa]:80")]
        {
            let segment = Segment {
                source: source.parse().unwrap(),
                destination: destination.parse().unwrap(),
                flags: flags::SYN,
                call: 70_000,
                value: 3,
            };
            let frame = segment.frame(MacAddress([2; 6]), MacAddress([4; 6]));
            assert_eq!(Segment::parse(&frame), Some(segment));
            assert_eq!(lan_proxy::audit::check(&frame, None, 1500), Ok(()));
            assert_eq!(Segment::parse(&frame[..frame.len() - 1]), None);
        }
    }
}
