//! Numbered test frames: Ethernet, IPv4 or IPv6, UDP, then who sent the frame as which of its flow.
//!
//! A frame is a function of its addresses, flow, number and length, so a checker can make it again and compare
//! every octet and the vnet state (I-5) without keeping what is in flight.

use std::net::IpAddr;

use vlan_core::MacAddress;
use vlan_core::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use vlan_core::random::Random;
use vlan_core::wire::frame::Vnet;

/// Marks the payload of a numbered frame.
const MAGIC: u16 = 0x57f7;
/// Octets of the numbering at the start of the payload: magic u16, LAN u16, flow u32, number u32.
const NUMBERING_LEN: usize = 12;
/// Payload octets of each segment of a super-frame.
const SEGMENT_LEN: u16 = 1400;

/// Where a numbered frame comes from and goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addressing {
    /// The sender's MAC.
    pub source_mac: MacAddress,
    /// The receiver's MAC, or a group address.
    pub destination_mac: MacAddress,
    /// The sender's IP address.
    pub source: IpAddr,
    /// The receiver's IP address, of the same family.
    pub destination: IpAddr,
    /// UDP source port; with the destination port it makes the flow's lane.
    pub source_port: u16,
}

impl Addressing {
    /// Octets of Ethernet, IP and UDP header.
    #[must_use]
    pub fn headers_len(&self) -> usize {
        if self.source.is_ipv4() { 42 } else { 62 }
    }

    /// The length of the shortest numbered frame of this family, at least Ethernet's 60 octets.
    #[must_use]
    pub fn frame_len_min(&self) -> usize {
        (self.headers_len() + NUMBERING_LEN).max(60)
    }

    /// The length of the longest: an IP packet of 65,535 octets.
    #[must_use]
    pub fn frame_len_max(&self) -> usize {
        65_535 + 14
    }
}

/// What a numbered frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbering {
    /// The LAN it was sent on.
    pub lan: u16,
    /// Its flow.
    pub flow: u32,
    /// Its number in the flow.
    pub number: u32,
}

/// Makes frame `numbering` of `frame_len` octets.
///
/// # Panics
/// When `frame_len` is outside the bounds of [`Addressing`], or the two addresses are of different families.
#[must_use]
pub fn make(addressing: &Addressing, numbering: Numbering, frame_len: usize) -> Vec<u8> {
    assert!((addressing.frame_len_min()..=addressing.frame_len_max()).contains(&frame_len), "{frame_len}");
    let mut frame = Vec::with_capacity(frame_len);
    frame.extend_from_slice(&addressing.destination_mac.0);
    frame.extend_from_slice(&addressing.source_mac.0);
    let udp_len = push_ip_header(&mut frame, addressing, frame_len);
    frame.extend_from_slice(&addressing.source_port.to_be_bytes());
    frame.extend_from_slice(&7777_u16.to_be_bytes());
    frame.extend_from_slice(&udp_len.to_be_bytes());
    frame.extend_from_slice(&[0, 0]);
    frame.extend_from_slice(&MAGIC.to_be_bytes());
    frame.extend_from_slice(&numbering.lan.to_be_bytes());
    frame.extend_from_slice(&numbering.flow.to_be_bytes());
    frame.extend_from_slice(&numbering.number.to_be_bytes());
    push_filler(&mut frame, numbering, frame_len);
    frame
}

/// The vnet state that frame `number` of `frame_len` octets is sent with: a super-frame when it is longer than
/// the LAN's MTU allows, else one of the states a kernel gives plain frames.
#[must_use]
pub fn vnet_of(addressing: &Addressing, number: u32, frame_len: usize, mtu: u16) -> Vnet {
    let headers_len = addressing.headers_len() as u16;
    let to_be_summed =
        Vnet { flags: Vnet::NEEDS_CSUM, csum_start: headers_len - 8, csum_offset: 6, ..Vnet::default() };
    if frame_len > usize::from(mtu) + 14 {
        return Vnet { gso_type: 5, hdr_len: headers_len, gso_size: SEGMENT_LEN, ..to_be_summed };
    }
    match number % 3 {
        0 => Vnet::default(),
        1 => to_be_summed,
        _ => Vnet { flags: Vnet::DATA_VALID, ..Vnet::default() },
    }
}

/// Reads the numbering of a numbered frame; `None` for any other frame.
#[must_use]
pub fn parse(frame: &[u8]) -> Option<Numbering> {
    let ethertype = u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]);
    let at = match ethertype {
        ETHERTYPE_IPV4 if *frame.get(23)? == 17 => 42,
        ETHERTYPE_IPV6 if *frame.get(20)? == 17 => 62,
        _ => return None,
    };
    let o: &[u8; NUMBERING_LEN] = frame.get(at..at + NUMBERING_LEN)?.first_chunk()?;
    if u16::from_be_bytes([o[0], o[1]]) != MAGIC {
        return None;
    }
    Some(Numbering {
        lan: u16::from_be_bytes([o[2], o[3]]),
        flow: u32::from_be_bytes([o[4], o[5], o[6], o[7]]),
        number: u32::from_be_bytes([o[8], o[9], o[10], o[11]]),
    })
}

/// Appends EtherType and IP header; returns the UDP length.
fn push_ip_header(frame: &mut Vec<u8>, addressing: &Addressing, frame_len: usize) -> u16 {
    match (addressing.source, addressing.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            // RFC 894: a frame is padded to 60 octets, the IP length is that of the packet. Ours fill it.
            let total = (frame_len - 14) as u16;
            frame.extend_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
            let start = frame.len();
            frame.extend_from_slice(&[0x45, 0]);
            frame.extend_from_slice(&total.to_be_bytes());
            frame.extend_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0]);
            frame.extend_from_slice(&source.octets());
            frame.extend_from_slice(&destination.octets());
            let sum = internet_checksum(0, &frame[start..]);
            frame[start + 10..start + 12].copy_from_slice(&sum.to_be_bytes());
            total - 20
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            // A packet of 65,535 octets has a payload of 65,495: it fits the length field.
            let payload = (frame_len - 54) as u16;
            frame.extend_from_slice(&ETHERTYPE_IPV6.to_be_bytes());
            frame.extend_from_slice(&[0x60, 0, 0, 0]);
            frame.extend_from_slice(&payload.to_be_bytes());
            frame.extend_from_slice(&[17, 64]);
            frame.extend_from_slice(&source.octets());
            frame.extend_from_slice(&destination.octets());
            payload
        }
        mixed => panic!("addresses of two families: {mixed:?}"),
    }
}

fn push_filler(frame: &mut Vec<u8>, numbering: Numbering, frame_len: usize) {
    let mut random = Random::new(u64::from(numbering.flow) << 32 | u64::from(numbering.number));
    while frame.len() < frame_len {
        let word = random.next_u64().to_le_bytes();
        let left = frame_len - frame.len();
        frame.extend_from_slice(&word[..left.min(8)]);
    }
}

/// The checksum of RFC 1071 over `octets`, starting from the unfolded sum `start`.
#[must_use]
pub fn internet_checksum(start: u32, octets: &[u8]) -> u16 {
    let mut sum = start;
    for pair in octets.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addressing(family: u8) -> Addressing {
        let (source, destination) = match family {
            4 => ("10.1.0.1".parse().unwrap(), "10.1.0.2".parse().unwrap()),
            _ => ("fd00:1::1".parse().unwrap(), "fd00:1::2".parse().unwrap()),
        };
        Addressing {
            source_mac: MacAddress([2, 0, 1, 0, 0, 1]),
            destination_mac: MacAddress([2, 0, 1, 0, 0, 2]),
            source,
            destination,
            source_port: 9,
        }
    }

    #[test]
    fn frames_of_every_length_say_who_they_are() {
        let numbering = Numbering { lan: 10, flow: 3, number: 70_000 };
        for family in [4, 6] {
            let a = addressing(family);
            for len in [a.frame_len_min(), 255, 256, 257, 1514, 16_910, a.frame_len_max()] {
                let frame = make(&a, numbering, len);
                assert_eq!((frame.len(), parse(&frame)), (len, Some(numbering)));
                assert!(vnet_of(&a, 1, len, 16_896).is_valid_for(len), "{family} {len}");
                assert_eq!(vnet_of(&a, 1, len, 16_896).gso_type != 0, len > 16_910);
            }
        }
    }

    #[test]
    fn the_ip_header_sums_to_zero() {
        let frame = make(&addressing(4), Numbering { lan: 1, flow: 2, number: 3 }, 100);
        assert_eq!(internet_checksum(0, &frame[14..34]), 0);
    }
}
