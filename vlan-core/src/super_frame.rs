//! Super-frames. UDP datagrams that a stack sends one by one are joined before they cross the fabric, and cut again
//! where the far stack takes no super-frames of UDP. Those of TCP are cut only where they leave the fabric.
//!
//! A super-frame has the headers of its first datagram, the payloads of all of them one behind the other, and the length
//! of one payload in its state ([`crate::wire::frame::Vnet`], segmentation type 5). Kernels make and take them since Linux 6.2 (`TUN_F_USO4`).
//! Rules: `spec/super-frames.md`.

mod coalesce;
mod intake;
mod segment;
mod sums;

pub use coalesce::UdpCoalescer;
pub use intake::{FrameRoom, Intake};
pub use segment::Segments;

use crate::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::limits::ETHERNET_HEADER_LEN;

/// Datagrams of one super-frame at most: what every kernel that knows them takes from one sender (`UDP_MAX_SEGMENTS`).
pub const DATAGRAMS_MAX: usize = 64;
/// The segmentation type of UDP in [`crate::wire::frame::Vnet::gso_type`] (virtio 1.2, 5.1.6).
pub const GSO_UDP: u8 = 5;
/// The same of TCP, by IPv4 and by IPv6.
pub const GSO_TCPV4: u8 = 1;
/// See [`GSO_TCPV4`].
pub const GSO_TCPV6: u8 = 4;
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

    /// Where the two addresses begin in an untagged frame: they are the last of the IP header.
    const fn addresses_at(self) -> usize {
        match self {
            Self::V4 => 26,
            Self::V6 => 22,
        }
    }

    /// Where UDP begins in an untagged frame whose IP header has nothing behind it.
    const fn udp_at(self) -> usize {
        ETHERNET_HEADER_LEN + self.header_len()
    }
}

#[cfg(test)]
mod tests;
