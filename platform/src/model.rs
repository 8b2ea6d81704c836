//! What a checked platform file says. Plain values: every name that refers to something has been resolved, every
//! path is joined to the file's folder, every address is one that an interface can have.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use vlan_core::cluster::{Balance, CheckKind, DefaultRouter, Protocol, Sticky};
use vlan_core::security::{Limits, PortSecurity, Roles};
use vlan_core::wire::control::{InterfaceAddress, LegKind};
use vlan_core::{CabinetNumber, ControlNodeSerial, FabricIndex, LanId, MacAddress, NodeNumber};

use crate::error::{NotBuilt, PlatformError};
use crate::sections;
use crate::text;

/// A whole platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// The file it was read from.
    pub path: PathBuf,
    /// The text it was read from.
    pub text: String,
    /// Its name; at most 8 characters, the prefix of a lab's namespaces.
    pub name: String,
    /// The cabinet of all its nodes.
    pub cabinet: CabinetNumber,
    /// The platform's grant key, read by control nodes only.
    pub grant_key_file: PathBuf,
    /// The switch fabrics, in file order; one at least.
    pub fabrics: Vec<Fabric>,
    /// The control nodes, in file order; one at least.
    pub control_nodes: Vec<ControlNode>,
    /// The nodes, in file order.
    pub nodes: Vec<Node>,
    /// The virtual LANs, in file order.
    pub lans: Vec<Lan>,
    /// Hosts that a lab makes on the networks outside the LANs' uplinks.
    pub outside: Vec<OutsideHost>,
    pub(crate) not_built: Vec<NotBuilt>,
}

impl Platform {
    /// Reads and checks the platform file at `path`.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is longer than 4 MiB, is not UTF-8 or TOML, or says anything wrong.
    pub fn load(path: &Path) -> Result<Self, PlatformError> {
        let text = text::load(path)?;
        Self::parse(&text, path)
    }

    /// Reads and checks the platform in `text`; `path` is where it came from, for messages and relative paths.
    /// The same text always gives the same answer, and no text makes it panic.
    ///
    /// # Errors
    ///
    /// The first mistake of syntax, or else every mistake of meaning, by position.
    pub fn parse(text: &str, path: &Path) -> Result<Self, PlatformError> {
        sections::read(text, path)
    }

    /// What the file asks for that is not built yet, by position. `run` and `lab` refuse a file with any.
    //= spec/platform-file.md#not-built-yet
    //# A key or value whose part is not built yet MUST be accepted by `check` and refused, by name and place, by `run` and
    //# `lab`.
    #[must_use]
    pub fn not_built_yet(&self) -> &[NotBuilt] {
        &self.not_built
    }

    /// The file's folder, which relative paths are joined to.
    #[must_use]
    pub fn folder(&self) -> &Path {
        folder_of(&self.path)
    }

    /// Where a lab of this platform describes itself ([`crate::management::LabFile`]).
    #[must_use]
    pub fn lab_file(&self) -> PathBuf {
        self.folder().join("run/lab.json")
    }

    /// Where the supervisor of a lab of this platform listens ([`crate::management::LabRequest`]).
    #[must_use]
    pub fn lab_socket(&self) -> PathBuf {
        self.folder().join("run/lab.sock")
    }

    /// The fabric of that name.
    #[must_use]
    pub fn fabric(&self, name: &str) -> Option<&Fabric> {
        self.fabrics.iter().find(|f| f.name == name)
    }

    /// The key of a fabric: what packets on it carry, so that a packet that came by another is noticed. It keeps
    /// cables apart, not enemies.
    ///
    /// FNV-1a over the platform's name, a zero octet and the fabric's name, folded to 16 bits; one up while it is 0
    /// or that of a fabric before it in the file.
    //= spec/server.md#fabric-keys
    //# The fabrics of a platform MUST have different keys, none of them 0, which follow from the names of the platform and
    //# its fabrics alone.
    #[must_use]
    pub fn fabric_key(&self, fabric: FabricIndex) -> u16 {
        let mut keys: Vec<u16> = Vec::new();
        for entry in self.fabrics.iter().take(usize::from(fabric.0) + 1) {
            let octets = self.name.bytes().chain([0]).chain(entry.name.bytes());
            let mut key = fold(fnv_1a(octets));
            while key == 0 || keys.contains(&key) {
                key = key.wrapping_add(1);
            }
            keys.push(key);
        }
        keys.last().copied().unwrap_or(0)
    }

    /// The control node of that name.
    #[must_use]
    pub fn control_node(&self, name: &str) -> Option<&ControlNode> {
        self.control_nodes.iter().find(|c| c.name == name)
    }

    /// The node of that name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|n| n.name == name)
    }

    /// The node of that number.
    #[must_use]
    pub fn node_by_number(&self, number: NodeNumber) -> Option<&Node> {
        self.nodes.iter().find(|n| n.number == number)
    }

    /// The LAN of that name.
    #[must_use]
    pub fn lan(&self, name: &str) -> Option<&Lan> {
        self.lans.iter().find(|l| l.name == name)
    }

    /// The interfaces of a node: its memberships in file order, which is the order of their numbers.
    pub fn memberships(&self, node: NodeNumber) -> impl Iterator<Item = (&Lan, &Member)> {
        self.lans
            .iter()
            .flat_map(|lan| lan.members.iter().map(move |member| (lan, member)))
            .filter(move |(_, member)| member.node == node)
    }
}

/// Fowler, Noll and Vo's hash in its 64-bit variant 1a (RFC 9923).
fn fnv_1a(octets: impl Iterator<Item = u8>) -> u64 {
    octets.fold(0xcbf2_9ce4_8422_2325, |hash, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// All of a hash in 16 bits.
fn fold(hash: u64) -> u16 {
    let half = hash ^ (hash >> 32);
    (half ^ (half >> 16)) as u16
}

pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// One of the platform's independent switch fabrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fabric {
    /// Its place in the file, from 0; also the number of its legs.
    pub index: FabricIndex,
    /// Its name.
    pub name: String,
    /// True when its udp and ether legs are authenticated but not encrypted.
    pub trusted: bool,
    /// Longest IP packet that crosses it, in octets; 1280 to 65,535.
    pub mtu: u16,
    /// The subnet in which a lab gives each process an address on this fabric ([`Platform::lab_address`]).
    pub lab_network: Option<Subnet>,
}

/// An IP subnet: the address has no bits beyond the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// First address.
    pub address: IpAddr,
    /// Prefix length in bits.
    pub prefix: u8,
}

/// One leg that a process offers on a fabric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leg {
    /// Shared memory between processes of one host. A control node listens on the path; a node has none.
    Unix {
        /// The control node's listening socket.
        path: Option<PathBuf>,
    },
    /// Datagrams over UDP.
    Udp {
        /// Own address; absent: the fabric's lab network gives it.
        address: Option<IpAddr>,
        /// Own port; absent: any.
        port: Option<u16>,
    },
    /// Ethernet frames on a device.
    Ether {
        /// The device's name; absent: the fabric's lab network gives it.
        device: Option<String>,
        /// How the device is driven.
        driver: EtherDriver,
    },
}

/// How the device of an ether leg is driven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EtherDriver {
    /// By what was measured to be faster.
    #[default]
    Auto,
    /// AF_XDP where the device can be had so, else AF_PACKET.
    AfXdp,
    /// AF_PACKET.
    AfPacket,
}

impl EtherDriver {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::AfXdp, Self::AfPacket];

    /// The word of the platform file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::AfXdp => "af-xdp",
            Self::AfPacket => "af-packet",
        }
    }
}

impl fmt::Display for Leg {
    /// As the platform file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { path: None } => f.write_str("unix"),
            Self::Unix { path: Some(path) } => write!(f, "unix:{}", path.display()),
            Self::Udp { address: None, .. } => f.write_str("udp"),
            Self::Udp { address: Some(address), port: None } if address.is_ipv6() => {
                write!(f, "udp:[{address}]")
            }
            Self::Udp { address: Some(address), port: None } => write!(f, "udp:{address}"),
            Self::Udp { address: Some(address), port: Some(port) } => {
                write!(f, "udp:{}", SocketAddr::new(*address, *port))
            }
            Self::Ether { device: None, driver: EtherDriver::Auto } => f.write_str("ether"),
            Self::Ether { device: Some(device), driver: EtherDriver::Auto } => write!(f, "ether:{device}"),
            Self::Ether { device, driver } => {
                write!(f, "ether:{}:{}", device.as_deref().unwrap_or_default(), driver.word())
            }
        }
    }
}

impl Leg {
    /// How it is carried.
    #[must_use]
    pub const fn kind(&self) -> LegKind {
        match self {
            Self::Unix { .. } => LegKind::Unix,
            Self::Udp { .. } => LegKind::Udp,
            Self::Ether { .. } => LegKind::Ether,
        }
    }
}

/// Where a control node serves its management interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Management {
    /// On a unix stream socket.
    Unix(PathBuf),
    /// Over TCP, with a token and TLS.
    Tcp(SocketAddr),
}

/// A control node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlNode {
    /// Its name.
    pub name: String,
    /// Part of every virtual MAC that it allocates; 1 to 65,535.
    pub serial: ControlNodeSerial,
    /// The machine it runs on; absent: the one on which all of the platform without a host runs.
    pub host: Option<String>,
    /// Its private key.
    pub key_file: PathBuf,
    /// Its MAC counter, registry and stored configuration.
    pub state_dir: PathBuf,
    /// Where it serves its management interface.
    pub management: Management,
    /// Where it serves metrics.
    pub metrics: Option<SocketAddr>,
    /// Its data workers.
    pub workers: u16,
    /// The legs it offers, by fabric index; as many lists as there are fabrics, some may be empty.
    pub legs: Vec<Vec<Leg>>,
}

impl ControlNode {
    /// Its public key, which nodes read.
    #[must_use]
    pub fn public_key_file(&self) -> PathBuf {
        public_half(&self.key_file)
    }

    /// The unix socket on which it listens for this fabric's legs.
    #[must_use]
    pub fn unix_leg(&self, fabric: FabricIndex) -> Option<&Path> {
        self.legs.get(usize::from(fabric.0))?.iter().find_map(|leg| match leg {
            Leg::Unix { path } => path.as_deref(),
            Leg::Udp { .. } | Leg::Ether { .. } => None,
        })
    }
}

/// A processing node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its number; 1 to 65,535.
    pub number: NodeNumber,
    /// The machine it runs on; absent: the one on which all of the platform without a host runs.
    pub host: Option<String>,
    /// Its private key.
    pub key_file: PathBuf,
    /// The legs it offers, by fabric index; as many lists as there are fabrics, some may be empty.
    pub legs: Vec<Vec<Leg>>,
}

impl Node {
    /// Its public key, which control nodes read.
    #[must_use]
    pub fn public_key_file(&self) -> PathBuf {
        public_half(&self.key_file)
    }

    /// The kinds of leg that it offers, by fabric index, in the order of the file.
    #[must_use]
    pub fn leg_kinds(&self) -> Vec<Vec<LegKind>> {
        self.legs.iter().map(|legs| legs.iter().map(Leg::kind).collect()).collect()
    }

    /// True when it offers a shared-memory leg on this fabric.
    #[must_use]
    pub fn has_unix_leg(&self, fabric: FabricIndex) -> bool {
        self.legs
            .get(usize::from(fabric.0))
            .is_some_and(|legs| legs.iter().any(|leg| matches!(leg, Leg::Unix { .. })))
    }
}

fn public_half(key_file: &Path) -> PathBuf {
    let mut name = key_file.as_os_str().to_owned();
    name.push(".pub");
    PathBuf::from(name)
}

/// How a LAN treats ARP and neighbour discovery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArpMode {
    /// Requests go to the member that has the address; it answers.
    #[default]
    Relay,
    /// The control node answers from its bindings.
    Suppress,
}

/// A virtual LAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lan {
    /// Its name.
    pub name: String,
    /// Its number; 1 to 65,535.
    pub id: LanId,
    /// Its MTU in octets; 68 to 16,896.
    pub mtu: u16,
    /// How it treats ARP and neighbour discovery.
    pub arp: ArpMode,
    /// Which source addresses are checked.
    pub port_security: PortSecurity,
    /// Who gets the frames of multicast groups.
    pub multicast: LanMulticast,
    /// Its members, in file order; one at least.
    pub members: Vec<Member>,
    /// Its way to a network outside.
    pub uplink: Option<Uplink>,
    /// Its cluster addresses.
    pub clusters: Vec<Cluster>,
}

/// A node's membership in a LAN: one virtual interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The node.
    pub node: NodeNumber,
    /// Name of the interface in the node; at most 15 octets.
    pub interface: String,
    /// Its MAC, when the file sets one; else the control node allocates it.
    pub mac: Option<MacAddress>,
    /// Addresses to configure, and what it may claim under port security `address`.
    pub addresses: Vec<InterfaceAddress>,
    /// Default gateways, one for each family at most.
    pub gateways: Vec<IpAddr>,
    /// Addresses that it may claim and that are not configured.
    pub aliases: Vec<IpAddr>,
    /// May it listen promiscuously?
    pub promiscuous: bool,
    /// What it may be on the LAN, beside a plain member.
    pub roles: Roles,
    /// How many further MACs behind it are learnt.
    pub learn: u16,
    /// How the interface meets its user.
    pub attach: Attach,
    /// It gets every multicast group, joined or not.
    pub every_group: bool,
    /// Rate limits.
    pub limits: Limits,
}

/// Who gets the frames of multicast groups on a LAN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LanMulticast {
    /// Those who have joined.
    #[default]
    Snoop,
    /// Every member.
    Flood,
}

/// How an interface meets its user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Attach {
    /// A TAP device in the node's namespace.
    #[default]
    Tap,
    /// A virtual machine over a vhost-user socket.
    VhostUser(PathBuf),
}

/// How the LAN appears on the network outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UplinkMode {
    /// Members share the control node's MAC.
    Filtered,
    /// Members show their own MACs.
    Unfiltered,
}

/// How an uplink's device is driven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// The fastest that works here.
    #[default]
    Auto,
    /// AF_XDP.
    AfXdp,
    /// AF_PACKET.
    AfPacket,
    /// A TAP device.
    Tap,
}

/// A LAN's way to a network outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// How the LAN appears there.
    pub mode: UplinkMode,
    /// 802.1Q tag, 1 to 4094.
    pub vid: Option<u16>,
    /// Who gets packets with no valid destination (S126).
    pub default_router: Option<DefaultRouter>,
    /// How the devices are driven.
    pub driver: Driver,
    /// The members' interfaces have a carrier only while the uplink has one (E24).
    pub link_dependency: bool,
    /// Where it leaves the platform.
    pub ports: Vec<UplinkPort>,
}

/// A device of a control node that leads outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UplinkPort {
    /// The control node, by its place in the file.
    pub control_node: usize,
    /// The device's name there.
    pub device: String,
}

/// Addresses that several members serve together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The cluster's addresses.
    pub addresses: Vec<IpAddr>,
    /// What is served there.
    pub services: Vec<Service>,
    /// Who gets the packets that come to it and are for others; none where it is no router.
    pub routers: Vec<ClusterServer>,
}

impl Cluster {
    /// True when the member of this node is a real server of one of the services; routers have the addresses nowhere.
    #[must_use]
    pub fn is_served_by(&self, node: NodeNumber) -> bool {
        self.services.iter().any(|service| service.servers.iter().any(|server| server.node == node))
    }
}

/// One service of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its transport protocol.
    pub protocol: Protocol,
    /// Its port; 1 to 65,535.
    pub port: u16,
    /// How a server is chosen.
    pub balance: Balance,
    /// Does a client stay with its server?
    pub sticky: Sticky,
    /// The real servers; one at least.
    pub servers: Vec<ClusterServer>,
    /// How their health is checked.
    pub check: Option<Check>,
}

/// A real server of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterServer {
    /// Its node, a member of the LAN.
    pub node: NodeNumber,
    /// Its share; 1 to 256.
    pub weight: u16,
}

/// A health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// How it asks.
    pub kind: CheckKind,
    /// How often.
    pub interval: Duration,
    /// Failures in a row that take a server out.
    pub fall: u16,
    /// Successes in a row that bring it back.
    pub rise: u16,
}

/// A host that a lab makes on the network outside a LAN's uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutsideHost {
    /// Its name.
    pub name: String,
    /// The LAN whose uplink leads to its network.
    pub lan: LanId,
    /// Its addresses.
    pub addresses: Vec<InterfaceAddress>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(platform: &str, fabrics: &[&str]) -> Vec<u16> {
        let fabrics = fabrics.iter().map(|name| format!("[[fabric]]\nname = \"{name}\"\n"));
        let text = format!(
            "[platform]\nname = \"{platform}\"\ncabinet = 1\n{}\
             [[control-node]]\nname = \"cn\"\nserial = 1\nlegs = {{ a = \"unix:run/cn-a.sock\" }}\n\
             [[node]]\nname = \"n\"\nnumber = 1\nlegs = {{ a = \"unix\" }}\n\
             [[lan]]\nname = \"l\"\nid = 1\n[[lan.member]]\nnode = \"n\"\naddress = \"10.0.0.1/24\"\n",
            fabrics.collect::<String>()
        );
        let platform = Platform::parse(&text, Path::new("/p.toml")).unwrap_or_else(|e| panic!("{e}\n{text}"));
        platform.fabrics.iter().map(|fabric| platform.fabric_key(fabric.index)).collect()
    }

    #[test]
    fn fabrics_have_keys_of_their_own_that_follow_from_the_names() {
        //= spec/server.md#fabric-keys
        //= type=test
        //# The fabrics of a platform MUST have different keys, none of them 0, which follow from the names of the platform
        //# and its fabrics alone.
        let four = keys("lab", &["a", "b", "c", "d"]);
        assert_eq!(four, keys("lab", &["a", "b", "c", "d"]));
        assert_eq!(four[..2], keys("lab", &["a", "b"]));
        let different: std::collections::BTreeSet<_> = four.iter().collect();
        assert_eq!(different.len(), 4);
        assert!(!four.contains(&0));
        assert_ne!(four[0], keys("other", &["a"])[0]);
        // Computed in Python, step by step.
        assert_eq!(four[0], 0xb229);
    }

    #[test]
    fn a_fabric_whose_hash_is_taken_has_the_next_key() {
        // Names whose hashes fold to the same 16 bits.
        let keys = keys("lab", &["a", "f106922"]);
        assert_eq!(keys[1], keys[0].wrapping_add(1));
    }
}
