//! Legs as the control plane speaks of them: of which kind, and where a packet leg ends.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::fields::{Field, Reader, Writer, record};
use crate::address::{EtherAddress, EtherPort, LegNumber, MacAddress};
use crate::wire::tlv::TlvError;

/// How a leg is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LegKind {
    /// Shared memory between processes of one host, set up over a unix socket.
    Unix = 0,
    /// UDP datagrams.
    Udp = 1,
    /// Ethernet frames.
    Ether = 2,
}

impl LegKind {
    /// Its word in the platform file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unix => "unix",
            Self::Udp => "udp",
            Self::Ether => "ether",
        }
    }
}

impl fmt::Display for LegKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Field for LegKind {
    const LEN_MIN: usize = 1;

    fn emit(&self, w: &mut Writer) {
        w.put(&(*self as u8));
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, TlvError> {
        match r.take::<u8>()? {
            0 => Ok(Self::Unix),
            1 => Ok(Self::Udp),
            2 => Ok(Self::Ether),
            _ => Err(TlvError::BadField { field: "leg kind" }),
        }
    }
}

/// Where one end of a packet leg is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegAddress {
    /// An IP address and a UDP port; flow label and scope of an IPv6 address are not carried.
    Udp(SocketAddr),
    /// A station on the fabric, and a process there.
    Ether(EtherAddress),
}

impl LegAddress {
    /// The kind of leg that ends at such an address.
    #[must_use]
    pub const fn kind(self) -> LegKind {
        match self {
            Self::Udp(_) => LegKind::Udp,
            Self::Ether(_) => LegKind::Ether,
        }
    }

    /// True when a packet can be sent there: one station's address, and a port.
    #[must_use]
    pub fn is_usable(self) -> bool {
        match self {
            Self::Udp(address) => {
                let ip = address.ip();
                let is_broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
                address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast
            }
            Self::Ether(address) => address.mac.is_station(),
        }
    }
}

impl fmt::Display for LegAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address) => fmt::Display::fmt(address, f),
            Self::Ether(address) => fmt::Display::fmt(address, f),
        }
    }
}

record!(EtherAddress { mac: MacAddress, port: EtherPort });

/// The kind, then an address and a port.
impl Field for LegAddress {
    const LEN_MIN: usize = 8;

    fn emit(&self, w: &mut Writer) {
        w.put(&self.kind());
        match self {
            Self::Udp(address) => w.put(&address.ip()).put(&address.port()),
            Self::Ether(address) => w.put(address),
        };
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, TlvError> {
        match r.take::<LegKind>()? {
            LegKind::Udp => Ok(Self::Udp(SocketAddr::new(r.take()?, r.take()?))),
            LegKind::Ether => Ok(Self::Ether(r.take()?)),
            LegKind::Unix => Err(TlvError::BadField { field: "leg kind" }),
        }
    }
}

/// A packet leg that a node is ready for on a fabric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferedLeg {
    /// The fabric's leg.
    pub leg: LegNumber,
    /// Where the node receives.
    pub address: LegAddress,
}

record!(OfferedLeg { leg: LegNumber, address: LegAddress });

/// A packet leg of a granted association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantedLeg {
    /// Its number in the association, that of its fabric.
    pub leg: LegNumber,
    /// Where the other end receives.
    pub address: LegAddress,
    /// The fabric is trusted: packets are authenticated and not encrypted.
    pub is_trusted: bool,
    /// What packets on this fabric carry, so that a swapped cable is noticed.
    pub fabric_key: u16,
}

record!(GrantedLeg { leg: LegNumber, address: LegAddress, is_trusted: bool, fabric_key: u16 });

/// A leg of an association that a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldLeg {
    /// Its number.
    pub leg: LegNumber,
    /// How it is carried.
    pub kind: LegKind,
}

record!(HeldLeg { leg: LegNumber, kind: LegKind });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_address_of_one_station_is_usable() {
        let udp = |text: &str| LegAddress::Udp(text.parse().unwrap());
        for good in ["192.0.2.1:7", "127.0.0.1:65535", "[fd00::1]:1", "[fe80::1]:9"] {
            assert!(udp(good).is_usable(), "{good}");
        }
        for bad in ["192.0.2.1:0", "0.0.0.0:7", "224.0.0.1:7", "255.255.255.255:7", "[::]:7", "[ff02::1]:7"] {
            assert!(!udp(bad).is_usable(), "{bad}");
        }
        let ether = |mac| LegAddress::Ether(EtherAddress { mac, port: EtherPort(1) });
        assert!(ether(MacAddress([2; 6])).is_usable());
        for bad in [MacAddress::BROADCAST, MacAddress::NULL, EtherAddress::CONTROL_NODES] {
            assert!(!ether(bad).is_usable(), "{bad}");
        }
    }
}
