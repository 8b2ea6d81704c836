//! What a control node is told when it is made: the platform, as far as the machine needs it.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::control_node::{ClusterEntry, SenderConfig, UplinkConfig};
use vlan_core::address::ControlNodeSerial;
use vlan_core::group::members::MulticastConfig;
use vlan_core::server::PortSecurity;
use vlan_core::wire::control::{InterfaceAddress, LegKind};
use vlan_core::{
    CabinetNumber, Instant, LanId, MacAddress, NodeNumber, ProcessId, PublicKey, SecretKey, VifNumber,
};

/// How ARP and ND are handled on a LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArpMode {
    /// Requests are relayed to the members, who answer.
    Relay,
    /// The control node answers for what members have registered.
    Suppress,
}

/// A node that may register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEntry {
    /// Its number.
    pub number: NodeNumber,
    /// Its name, for messages.
    pub name: String,
    /// Its public key, which its peers are told.
    pub public_key: PublicKey,
    /// The machine it runs on; none is the one on which all of the platform without a host runs.
    pub host: Option<String>,
    /// The kinds of leg that it has on each fabric, the preferred one first.
    pub legs: Vec<Vec<LegKind>>,
}

/// A switch fabric, as far as legs need it. Its place is the number of its legs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FabricEntry {
    /// Its packet legs are authenticated and not encrypted.
    pub is_trusted: bool,
    /// What packets on it carry, so that a swapped cable is noticed.
    pub key: u16,
}

/// A member of a LAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberConfig {
    /// Its node.
    pub node: NodeNumber,
    /// The interface's number in the node.
    pub vif: VifNumber,
    /// Its virtual MAC, on disk already.
    pub mac: MacAddress,
    /// The interface's name in the node.
    pub interface: String,
    /// Addresses to configure.
    pub addresses: Vec<InterfaceAddress>,
    /// Default gateways to configure.
    pub gateways: Vec<IpAddr>,
    /// It may listen promiscuously.
    pub may_listen: bool,
    /// What it may send.
    pub sender: SenderConfig,
}

/// A virtual LAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanConfig {
    /// Its number.
    pub id: LanId,
    /// Its name.
    pub name: String,
    /// Its MTU in octets.
    pub mtu: u16,
    /// How ARP and ND are handled.
    pub arp: ArpMode,
    /// Which sources are checked.
    pub port_security: PortSecurity,
    /// What it does with multicast.
    pub multicast: MulticastConfig,
    /// Its way outside.
    pub uplink: Option<UplinkConfig>,
    /// Its clusters.
    pub clusters: Vec<ClusterEntry>,
    /// Its members.
    pub members: Vec<MemberConfig>,
}

/// What a control node is told when it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlNodeConfig {
    /// When it starts: from then on nodes may come that know what was before it.
    pub started: Instant,
    /// Its serial number.
    pub serial: ControlNodeSerial,
    /// Its cabinet.
    pub cabinet: CabinetNumber,
    /// This life of it, drawn at random by the host.
    pub process: ProcessId,
    /// Epoch of the configuration.
    pub epoch: u64,
    /// Seed of tables.
    pub seed: u64,
    /// The platform's secret, from which the keys of pairs are derived.
    pub grant_key: SecretKey,
    /// The fabrics of the platform.
    pub fabrics: Vec<FabricEntry>,
    /// The nodes of the platform.
    pub nodes: Vec<NodeEntry>,
    /// The virtual LANs.
    pub lans: Vec<LanConfig>,
    /// How many devices of this control node lead outside.
    pub devices: usize,
}
