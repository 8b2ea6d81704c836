//! Interfaces: what a node configures, and who else is on the LAN.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::cluster::ServedCluster;
use super::fields::{Field, Reader, Writer, record};
use crate::address::{Channel, LanId, MacAddress, NodeNumber, ProcessId, VifNumber};
use crate::security::PortSecurity;
use crate::wire::tlv::TlvError;

/// An IP address with the length of its subnet's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceAddress {
    /// The address.
    pub address: IpAddr,
    /// Prefix length in bits.
    pub prefix: u8,
}

record!(InterfaceAddress { address: IpAddr, prefix: u8 });

/// Everything a node needs to bring one of its interfaces up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceConfig {
    /// The LAN.
    pub lan: LanId,
    /// The interface's number in the node.
    pub vif: VifNumber,
    /// Its virtual MAC.
    pub mac: MacAddress,
    /// MTU of the LAN in octets.
    pub mtu: u16,
    /// Channel for relayed, group and external frames.
    pub relay_channel: Channel,
    /// Channel for ARP and ND.
    pub arp_channel: Channel,
    /// Which sources of frames on a direct RVI are checked.
    pub port_security: PortSecurity,
    /// The interface may listen promiscuously.
    pub may_listen: bool,
    /// Its link is up; down it is while the LAN's uplink is and the interface's carrier depends on that.
    pub has_carrier: bool,
    /// Interface name in the node, at most 15 octets.
    pub name: String,
    /// Name of the LAN.
    pub lan_name: String,
    /// Addresses to configure.
    pub addresses: Vec<InterfaceAddress>,
    /// Default gateways to configure, one for each family at most.
    pub gateways: Vec<IpAddr>,
    /// The clusters that it serves.
    pub clusters: Vec<ServedCluster>,
    /// The addresses of all clusters of the LAN: no member speaks for them.
    pub cluster_addresses: Vec<IpAddr>,
}

record!(InterfaceConfig {
    lan: LanId,
    vif: VifNumber,
    mac: MacAddress,
    mtu: u16,
    relay_channel: Channel,
    arp_channel: Channel,
    port_security: PortSecurity,
    may_listen: bool,
    has_carrier: bool,
    name: String,
    lan_name: String,
    addresses: Vec<InterfaceAddress>,
    gateways: Vec<IpAddr>,
    clusters: Vec<ServedCluster>,
    cluster_addresses: Vec<IpAddr>,
});

/// Another member of a LAN: a connectivity notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberNotice {
    /// The LAN.
    pub lan: LanId,
    /// The member's node.
    pub node: NodeNumber,
    /// The member's interface.
    pub vif: VifNumber,
    /// The member's address.
    pub mac: MacAddress,
    /// The process that serves the member now.
    pub process: ProcessId,
    /// True when the member's node is attached; false when it has gone.
    pub attached: bool,
}

record!(MemberNotice {
    lan: LanId,
    node: NodeNumber,
    vif: VifNumber,
    mac: MacAddress,
    process: ProcessId,
    attached: bool,
});
