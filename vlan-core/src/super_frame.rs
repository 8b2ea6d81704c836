//! Super-frames of UDP datagrams: what a stack sends one by one is joined before it crosses the fabric, and cut again
//! where the far stack takes no super-frames.
//!
//! A super-frame has the headers of its first datagram, the payloads of all of them one behind the other, and the length
//! of one payload in its state ([`crate::wire::frame::Vnet`], segmentation type 5). Kernels make and take them since Linux 6.2 (`TUN_F_USO4`).
//! Rules: `spec/super-frames.md`.

mod coalesce;
mod segment;

pub use coalesce::UdpCoalescer;
pub use segment::UdpSegments;

use crate::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::limits::ETHERNET_HEADER_LEN;

/// Datagrams of one super-frame at most: what every kernel that knows them takes from one sender (`UDP_MAX_SEGMENTS`).
pub const DATAGRAMS_MAX: usize = 64;
/// The segmentation type of UDP in [`crate::wire::frame::Vnet::gso_type`] (virtio 1.2, 5.1.6).
pub const GSO_UDP: u8 = 5;
/// Where a UDP header has its sum.
const CSUM_OFFSET: u16 = 6;
/// Octets of a UDP header.
const UDP_LEN: usize = 8;
/// Octets of an IPv4 header without options, and of an IPv6 header.
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;

/// Which header lies in front of UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn of_ethertype(ethertype: u16) -> Option<Self> {
        match ethertype {
            ETHERTYPE_IPV4 => Some(Self::V4),
            ETHERTYPE_IPV6 => Some(Self::V6),
            _ => None,
        }
    }

    const fn header_len(self) -> usize {
        match self {
            Self::V4 => IPV4_LEN,
            Self::V6 => IPV6_LEN,
        }
    }

    /// Where UDP begins in an untagged frame whose IP header has nothing behind it.
    const fn udp_at(self) -> usize {
        ETHERNET_HEADER_LEN + self.header_len()
    }
}

/// The two octets at `at`, as IP has them.
#[inline]
fn word(octets: &[u8], at: usize) -> Option<u16> {
    octets.get(at..at + 2).map(|o| u16::from_be_bytes([o[0], o[1]]))
}

#[inline]
fn set_word(octets: &mut [u8], at: usize, value: u16) {
    if let Some(o) = octets.get_mut(at..at + 2) {
        o.copy_from_slice(&value.to_be_bytes());
    }
}

/// The ones' complement sum of `octets` (RFC 1071).
#[inline]
fn sum(octets: &[u8]) -> u16 {
    let pairs = octets.chunks(2).map(|o| u32::from(o[0]) << 8 | o.get(1).map_or(0, |o| u32::from(*o)));
    fold(pairs.sum())
}

#[inline]
const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}

/// A sum after one of its words has changed (RFC 1624).
#[inline]
const fn changed(sum: u16, from: u16, to: u16) -> u16 {
    fold(sum as u32 + !from as u32 + to as u32)
}

/// Sums that stand for the same number: zero has two forms in ones' complement.
#[inline]
const fn is_same_sum(a: u16, b: u16) -> bool {
    a == b || (a == 0 || a == u16::MAX) && (b == 0 || b == u16::MAX)
}

/// Writes the sum of the IPv4 header at `at`, of `len` octets.
fn sum_ipv4(frame: &mut [u8], at: usize, len: usize) {
    set_word(frame, at + 10, 0);
    let sum = frame.get(at..at + len).map_or(0, sum);
    set_word(frame, at + 10, !sum);
}

#[cfg(test)]
mod tests;
