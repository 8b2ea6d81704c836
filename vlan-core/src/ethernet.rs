//! What the fabric itself looks at in a frame: the Ethernet header, and the flow that a lane is chosen by.

use crate::address::MacAddress;
use crate::limits::ETHERNET_HEADER_LEN;

/// EtherType of IPv4 (RFC 894).
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP (RFC 826).
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of IPv6 (RFC 2464).
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// EtherType of an 802.1Q customer tag (IEEE 802.1Q-2018, 9.4).
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// EtherType of an 802.1Q service tag, that of a provider (IEEE 802.1Q-2018, 9.5).
pub const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;

/// The Ethernet header of a frame, read once from private memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EthernetHeader {
    /// Destination address.
    pub destination: MacAddress,
    /// Source address.
    pub source: MacAddress,
    /// EtherType or length, outermost.
    pub ethertype: u16,
}

impl EthernetHeader {
    /// Reads the header; `None` when `frame` is shorter than one.
    #[inline]
    #[must_use]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let o = frame.first_chunk::<ETHERNET_HEADER_LEN>()?;
        Some(Self {
            destination: MacAddress([o[0], o[1], o[2], o[3], o[4], o[5]]),
            source: MacAddress([o[6], o[7], o[8], o[9], o[10], o[11]]),
            ethertype: u16::from_be_bytes([o[12], o[13]]),
        })
    }
}

/// The destination of a frame with a whole Ethernet header, as one word, which is compared at once.
#[inline(always)]
pub(crate) fn destination_word(frame: &[u8]) -> Option<u64> {
    let octets = frame.first_chunk::<ETHERNET_HEADER_LEN>()?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*octets) << 16)
}

/// The same of its source.
#[inline(always)]
pub(crate) fn source_word(frame: &[u8]) -> Option<u64> {
    let octets = frame.get(6..14).and_then(<[u8]>::first_chunk::<8>)?;
    Some(u64::from_le_bytes(*octets) << 16)
}

/// The word of an address as they give it.
pub(crate) fn word_of(MacAddress([a, b, c, d, e, f]): MacAddress) -> u64 {
    u64::from_le_bytes([0, 0, a, b, c, d, e, f])
}

/// True for frames of neighbour resolution: ARP, and the five ND messages of ICMPv6 (RFC 4861, 4).
///
/// `frame` is the private head of a frame; what lies beyond it does not matter here.
#[inline]
#[must_use]
pub fn is_neighbour_resolution(ethertype: u16, frame: &[u8]) -> bool {
    match ethertype {
        ETHERTYPE_ARP => true,
        // Next header ICMPv6 (58) directly behind the fixed header, types 133 to 137.
        ETHERTYPE_IPV6 => {
            frame.get(20) == Some(&58) && frame.get(54).is_some_and(|kind| (133..=137).contains(kind))
        }
        _ => false,
    }
}

/// Hashes the flow of a frame: the IP addresses, protocol and ports; the MAC pair for what is not IP; the
/// addresses alone for fragments, so that all fragments of a packet share a lane (study 2.7).
///
/// A folded multiplication keyed by `seed`: the same cost as the CRC-32C of amendment 32 without machine
/// instructions that a crate without `unsafe` cannot reach.
#[inline]
#[must_use]
pub fn flow_hash(seed: u64, frame: &[u8]) -> u32 {
    let Some(start) = frame.first_chunk::<ETHERNET_HEADER_LEN>() else { return 0 };
    let word =
        |at: usize| frame.get(at..at + 8).map_or(0, |o| u64::from_le_bytes(o.try_into().unwrap_or([0; 8])));
    match u16::from_be_bytes([start[12], start[13]]) {
        ETHERTYPE_IPV4 if frame.len() >= 38 => {
            let fragment = u16::from_be_bytes([frame[20], frame[21]]) & 0x3fff != 0;
            let ports_at = 14 + usize::from(frame[14] & 15) * 4;
            let ports =
                if fragment || !matches!(frame[23], 6 | 17) { 0 } else { word(ports_at) & 0xffff_ffff };
            fold(fold(seed, word(26)), ports << 8 | u64::from(frame[23]))
        }
        ETHERTYPE_IPV6 if frame.len() >= 58 => {
            let addresses = fold(fold(fold(fold(seed, word(22)), word(30)), word(38)), word(46));
            let ports = if matches!(frame[20], 6 | 17) { word(54) & 0xffff_ffff } else { 0 };
            fold(addresses, ports << 8 | u64::from(frame[20]))
        }
        _ => addresses_hash(seed, frame),
    }
    .wrapping_shr(16) as u32
}

/// The hash of a frame that is not IP: of its MAC pair.
#[cold]
fn addresses_hash(seed: u64, frame: &[u8]) -> u64 {
    let Some(header) = EthernetHeader::parse(frame) else { return 0 };
    fold(fold(seed, header.destination.to_bits()), header.source.to_bits())
}

fn fold(state: u64, word: u64) -> u64 {
    let product = u128::from(state ^ word) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
    (product as u64) ^ ((product >> 64) as u64) ^ 0x2d35_8dcc_aa6c_78a5
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp4(source_port: u16, fragment: u16) -> [u8; 64] {
        let mut frame = [0; 64];
        frame[12..14].copy_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
        frame[14] = 0x45;
        frame[20..22].copy_from_slice(&fragment.to_be_bytes());
        frame[23] = 17;
        frame[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        frame[34..36].copy_from_slice(&source_port.to_be_bytes());
        frame
    }

    #[test]
    fn flows_differ_by_port_but_fragments_do_not() {
        assert_ne!(flow_hash(1, &udp4(1, 0)), flow_hash(1, &udp4(2, 0)));
        assert_eq!(flow_hash(1, &udp4(1, 0x2000)), flow_hash(1, &udp4(2, 185)));
    }

    #[test]
    fn lanes_of_many_flows_spread() {
        let mut even = 0;
        for port in 0..1000 {
            even += flow_hash(99, &udp4(port, 0)) & 1;
        }
        assert!((400..600).contains(&even), "{even} of 1000 flows on one of two legs");
    }
}
