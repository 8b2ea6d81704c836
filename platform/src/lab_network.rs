//! Lab networks: which address each process has in one. The platform file alone says it, so every process computes
//! the same, and so does the lab that configures it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use vlan_core::wire::control::InterfaceAddress;
use vlan_core::{EtherPort, FabricIndex};

use crate::model::{EtherDriver, Leg, Platform, Subnet};

/// The port of a control node's udp leg that the file gives no address: nodes find it there. Each process of a lab
/// has addresses of its own, so all control nodes can have the same.
pub const CONTROL_NODE_UDP_PORT: u16 = 7401;

impl Platform {
    /// The address that a process, a control node or node by name, has in the fabric's lab network; none when there
    /// is no such process, fabric or network.
    //= spec/platform-file.md#addresses-in-a-lab-network
    //# The control nodes in file order, and then the nodes by number, MUST have consecutive addresses of a lab network,
    //# beginning with the first that a station can have.
    #[must_use]
    pub fn lab_address(&self, process: &str, fabric: FabricIndex) -> Option<InterfaceAddress> {
        let network = self.fabrics.get(usize::from(fabric.0))?.lab_network?;
        let address = network.station(self.place_in_lab(process)?)?;
        Some(InterfaceAddress { address, prefix: network.prefix })
    }

    /// Where the udp leg of a process, a control node or node by name, is on a fabric: as written, else its address
    /// in the fabric's lab network; port 0 is any. None when it has no udp leg there.
    //= spec/platform-file.md#udp-legs-without-an-address
    //# A udp leg without an address MUST have the address of its process in the fabric's lab network, and a control
    //# node's MUST have port 7401.
    #[must_use]
    pub fn udp_address(&self, process: &str, fabric: FabricIndex) -> Option<SocketAddr> {
        let (legs, any_port) = match self.control_node(process) {
            Some(control_node) => (&control_node.legs, CONTROL_NODE_UDP_PORT),
            None => (&self.node(process)?.legs, 0),
        };
        let mut legs = legs.get(usize::from(fabric.0))?.iter();
        let (address, port) = legs.find_map(|leg| match leg {
            Leg::Udp { address, port } => Some((*address, *port)),
            Leg::Unix { .. } | Leg::Ether { .. } => None,
        })?;
        let address = address.or_else(|| Some(self.lab_address(process, fabric)?.address))?;
        Some(SocketAddr::new(address, port.unwrap_or(any_port)))
    }

    /// The device that the ether leg of a process, a control node or node by name, is on, and how it is driven: the device as
    /// written, else the one that a lab gives the process on this fabric. None when it has no ether leg there.
    //= spec/platform-file.md#ether-legs-without-a-device
    //# An ether leg without a device MUST be on the device of the fabric's name, which a lab network gives its process.
    #[must_use]
    pub fn ether_device(&self, process: &str, fabric: FabricIndex) -> Option<(&str, EtherDriver)> {
        let legs = match self.control_node(process) {
            Some(control_node) => &control_node.legs,
            None => &self.node(process)?.legs,
        };
        let mut legs = legs.get(usize::from(fabric.0))?.iter();
        let (device, driver) = legs.find_map(|leg| match leg {
            Leg::Ether { device, driver } => Some((device.as_deref(), *driver)),
            Leg::Unix { .. } | Leg::Udp { .. } => None,
        })?;
        let of_lab = || self.fabrics.get(usize::from(fabric.0)).map(|fabric| fabric.name.as_str());
        Some((device.or_else(of_lab)?, driver))
    }

    /// The port of a process, a control node or node by name, on all of its ether legs.
    #[must_use]
    pub fn ether_port(&self, process: &str) -> Option<EtherPort> {
        let control_node = self.control_node(process).map(|entry| EtherPort::of_control_node(entry.serial));
        control_node.or_else(|| Some(EtherPort::of_node(self.node(process)?.number)))
    }

    /// How many processes come before this one in every lab network.
    fn place_in_lab(&self, process: &str) -> Option<usize> {
        if let Some(place) = self.control_nodes.iter().position(|c| c.name == process) {
            return Some(place);
        }
        let number = self.node(process)?.number;
        let lower = self.nodes.iter().filter(|node| node.number < number).count();
        Some(self.control_nodes.len() + lower)
    }
}

impl Subnet {
    /// How many stations it has addresses for.
    #[must_use]
    pub fn stations(&self) -> u128 {
        let (first, last) = self.station_bounds();
        last - first + 1
    }

    /// The address of a station, counted from 0; none when there are fewer.
    #[must_use]
    pub fn station(&self, place: usize) -> Option<IpAddr> {
        let (first, last) = self.station_bounds();
        let offset = first.checked_add(place as u128).filter(|offset| *offset <= last)?;
        Some(match self.address {
            IpAddr::V4(v4) => {
                Ipv4Addr::from_bits(v4.to_bits().checked_add(u32::try_from(offset).ok()?)?).into()
            }
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits().checked_add(offset)?).into(),
        })
    }

    /// True when some address lies in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let prefix = u32::from(self.prefix.min(other.prefix));
        match (self.address, other.address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= prefix,
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= prefix,
            _ => false,
        }
    }

    /// The first and last address that a station can have, counted from the subnet's own.
    fn station_bounds(&self) -> (u128, u128) {
        let host_bits = match self.address {
            IpAddr::V4(_) => 32 - self.prefix.min(32),
            IpAddr::V6(_) => 128 - self.prefix.min(128),
        };
        let last = u128::MAX.checked_shr(128 - u32::from(host_bits)).unwrap_or(0);
        match self.address {
            // A subnet of one or two has addresses of stations only (RFC 3021, RFC 6164).
            _ if host_bits < 2 => (0, last),
            IpAddr::V4(_) => (1, last - 1),
            // The first is every router's (RFC 4291, 2.6.1); there is no broadcast address.
            IpAddr::V6(_) => (1, last),
        }
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const PLATFORM: &str = r#"
        [platform]
        name = "lab"
        [[fabric]]
        name = "a"
        lab-network = "172.31.1.0/24"
        [[fabric]]
        name = "b"
        lab-network = "fd31:2::/64"
        [[fabric]]
        name = "c"
        [[control-node]]
        name = "cn-a"
        serial = 1
        legs = { a = "udp", b = "udp:[fd31:2::1]:9", c = "unix:run/c.sock" }
        [[node]]
        name = "late"
        number = 700
        legs = { a = ["udp", "ether"], b = "udp" }
        [[node]]
        name = "early"
        number = 7
        legs = { a = ["udp:172.31.1.2:80", "ether:eth1"], b = ["unix", "udp"] }
    "#;

    const A: FabricIndex = FabricIndex(0);
    const B: FabricIndex = FabricIndex(1);
    const C: FabricIndex = FabricIndex(2);

    fn platform() -> Platform {
        Platform::parse(PLATFORM, Path::new("p.toml")).unwrap_or_else(|error| panic!("{}", error.report()))
    }

    fn subnet(text: &str) -> Subnet {
        let (address, prefix) = text.split_once('/').unwrap();
        Subnet { address: address.parse().unwrap(), prefix: prefix.parse().unwrap() }
    }

    #[test]
    fn control_nodes_come_first_and_nodes_by_number() {
        //= spec/platform-file.md#addresses-in-a-lab-network
        //= type=test
        //# The control nodes in file order, and then the nodes by number, MUST have consecutive addresses of a lab network,
        //# beginning with the first that a station can have.
        let platform = platform();
        let at = |name, fabric| {
            platform.lab_address(name, fabric).map(|own| format!("{}/{}", own.address, own.prefix))
        };
        assert_eq!(at("cn-a", A).unwrap(), "172.31.1.1/24");
        assert_eq!(at("early", A).unwrap(), "172.31.1.2/24");
        assert_eq!(at("late", A).unwrap(), "172.31.1.3/24");
        assert_eq!(at("late", B).unwrap(), "fd31:2::3/64");
        assert_eq!([at("late", C), at("nobody", A), at("late", FabricIndex(9))], [None, None, None]);
    }

    #[test]
    fn a_udp_leg_is_where_it_says_or_in_the_lab_network() {
        //= spec/platform-file.md#udp-legs-without-an-address
        //= type=test
        //# A udp leg without an address MUST have the address of its process in the fabric's lab network, and a control
        //# node's MUST have port 7401.
        let platform = platform();
        let at = |name, fabric| platform.udp_address(name, fabric).map(|address| address.to_string());
        assert_eq!(at("cn-a", A).unwrap(), "172.31.1.1:7401");
        assert_eq!(at("cn-a", B).unwrap(), "[fd31:2::1]:9");
        assert_eq!(at("late", A).unwrap(), "172.31.1.3:0");
        assert_eq!(at("early", A).unwrap(), "172.31.1.2:80");
        assert_eq!(at("early", B).unwrap(), "[fd31:2::2]:0");
        assert_eq!([at("cn-a", C), at("late", C), at("nobody", A)], [None, None, None]);
    }

    #[test]
    fn an_ether_leg_is_on_the_device_it_names_or_on_the_labs() {
        //= spec/platform-file.md#ether-legs-without-a-device
        //= type=test
        //# An ether leg without a device MUST be on the device of the fabric's name, which a lab network gives its process.
        let platform = platform();
        assert_eq!(platform.ether_device("late", A), Some(("a", EtherDriver::Auto)));
        assert_eq!(platform.ether_device("early", A), Some(("eth1", EtherDriver::Auto)));
        assert_eq!(
            [("late", B), ("cn-a", A), ("nobody", A)].map(|(n, f)| platform.ether_device(n, f)),
            [None; 3]
        );
        let ports = ["late", "cn-a", "nobody"].map(|name| platform.ether_port(name).map(|port| port.0));
        assert_eq!(ports, [Some(700), Some(65_537), None]);
    }

    #[test]
    fn a_subnet_has_the_addresses_that_stations_can_have() {
        for (text, stations, first, last) in [
            ("10.0.0.0/30", 2, "10.0.0.1", "10.0.0.2"),
            ("10.0.0.2/31", 2, "10.0.0.2", "10.0.0.3"),
            ("10.0.0.7/32", 1, "10.0.0.7", "10.0.0.7"),
            ("172.31.1.0/24", 254, "172.31.1.1", "172.31.1.254"),
            ("fd00::/126", 3, "fd00::1", "fd00::3"),
            ("fd00::2/127", 2, "fd00::2", "fd00::3"),
            ("fd00::9/128", 1, "fd00::9", "fd00::9"),
        ] {
            let subnet = subnet(text);
            assert_eq!(subnet.stations(), stations, "{text}");
            assert_eq!(subnet.station(0), Some(first.parse().unwrap()), "{text}");
            assert_eq!(subnet.station(stations as usize - 1), Some(last.parse().unwrap()), "{text}");
            assert_eq!(subnet.station(stations as usize), None, "{text}");
            assert_eq!(subnet.to_string(), text);
        }
        assert_eq!(subnet("::/1").stations(), (1 << 127) - 1);
        assert_eq!(subnet("128.0.0.0/1").stations(), (1 << 31) - 2);
        assert_eq!(subnet("10.0.0.0/24").station(usize::MAX), None);
    }

    #[test]
    fn subnets_overlap_when_one_lies_in_the_other() {
        let overlap = |a, b| subnet(a).overlaps(&subnet(b)) && subnet(b).overlaps(&subnet(a));
        assert!(overlap("10.0.0.0/8", "10.1.0.0/24"));
        assert!(overlap("10.1.0.0/24", "10.1.0.0/24"));
        assert!(overlap("fd00::/16", "fd00:1::/64"));
        assert!(!overlap("10.1.0.0/24", "10.1.1.0/24"));
        assert!(!overlap("0.0.0.0/1", "::/1"));
    }
}
