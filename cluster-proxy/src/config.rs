//! What a cluster is made of.

use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use core::time::Duration;

use vlan_core::NodeNumber;
pub use vlan_core::cluster::{Balance, Protocol, ServiceKey, Sticky};
use vlan_core::server::MemberSlot;

/// Addresses of one cluster: each packet is held against all of them.
pub const ADDRESSES_MAX: usize = 16;
/// Services of one cluster.
pub const SERVICES_MAX: usize = 64;
/// Real servers of one service: a choice among all of them takes microseconds.
pub const SERVERS_PER_SERVICE_MAX: usize = 256;
/// Real servers of one cluster: twelve bits of an entry in the table of flows have room for four times as many.
pub const SERVERS_MAX: usize = 1024;
/// The heaviest server: a share above so many times another's is no balance.
pub const WEIGHT_MAX: u16 = 256;
/// What routers go by where a service is named: no service has port 0.
pub const ROUTING: ServiceKey = ServiceKey { protocol: Protocol::Tcp, port: 0 };
/// Rows of a service: at least, and at most.
const ROWS: core::ops::RangeInclusive<u32> = 256..=65_536;

/// How often a server is checked, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckConfig {
    /// Between two checks.
    pub interval: Duration,
    /// Failures in a row that take a server out.
    pub fall: u16,
    /// Successes in a row that bring it back.
    pub rise: u16,
}

/// A real server of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// The member; verdicts name it.
    pub slot: MemberSlot,
    /// Its node, which all control nodes know by the same number.
    pub node: NodeNumber,
    /// Its share; 1 to 256.
    pub weight: u16,
}

/// One service of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceConfig {
    /// Its protocol and port.
    pub key: ServiceKey,
    /// How a server is chosen.
    pub balance: Balance,
    /// Does a client stay with its server?
    pub sticky: Sticky,
    /// The real servers; one at least.
    pub servers: Vec<ServerConfig>,
    /// How their health is checked, if it is.
    pub check: Option<CheckConfig>,
}

/// A cluster: the same on every control node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Its addresses; one at least.
    pub addresses: Vec<IpAddr>,
    /// What is served there.
    pub services: Vec<ServiceConfig>,
    /// Who gets what comes to it and is for others; none where it is no router.
    pub routers: Vec<ServerConfig>,
    /// Rows of each service's table, a power of two from 256 to 65,536: 4 octets each. 65,536 gives the fairest shares.
    pub rows: u32,
    /// Which version of the configuration this is; goes with each packet.
    pub epoch: u32,
}

/// Why a cluster cannot be as it was configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// It has no address, or too many.
    Addresses {
        /// How many it has.
        count: usize,
    },
    /// No station can have this address, or it stands there twice.
    Address {
        /// The address.
        address: IpAddr,
    },
    /// More services than a cluster can have.
    Services {
        /// How many it has.
        count: usize,
    },
    /// A service stands there twice.
    ServiceTwice {
        /// The service.
        service: ServiceKey,
    },
    /// A service has no port.
    NoPort,
    /// A service has no server, or too many.
    Servers {
        /// The service.
        service: ServiceKey,
        /// How many it has.
        count: usize,
    },
    /// All services together have too many servers.
    ServersInAll {
        /// How many they have.
        count: usize,
    },
    /// A service has a server twice.
    ServerTwice {
        /// The service.
        service: ServiceKey,
        /// The server's node.
        node: NodeNumber,
    },
    /// A weight that is 0 or too much.
    Weight {
        /// The service.
        service: ServiceKey,
        /// The weight.
        weight: u16,
    },
    /// A check that never comes to a result.
    Check {
        /// The service.
        service: ServiceKey,
    },
    /// Rows that are no power of two from 256 to 65,536.
    Rows {
        /// How many rows.
        rows: u32,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses { count } => {
                write!(f, "a cluster has 1 to {ADDRESSES_MAX} addresses, and this one has {count}")
            }
            Self::Address { address } => {
                write!(
                    f,
                    "{address} is not an address of a cluster: no station can have it, or it is there twice"
                )
            }
            Self::Services { count } => {
                write!(f, "a cluster has up to {SERVICES_MAX} services, and this one has {count}")
            }
            Self::ServiceTwice { service } => {
                write!(f, "the cluster serves {service} twice: give one service all its servers")
            }
            Self::NoPort => f.write_str("a service needs a port from 1 to 65535"),
            Self::Servers { service, count } => {
                let service = Name(*service);
                write!(f, "{service} has {count} servers, and 1 to {SERVERS_PER_SERVICE_MAX} are possible")
            }
            Self::ServersInAll { count } => {
                write!(f, "a cluster has up to {SERVERS_MAX} servers, and this one has {count}")
            }
            Self::ServerTwice { service, node } => {
                let service = Name(*service);
                write!(f, "{service} has node {node} twice: give it a weight instead")
            }
            Self::Weight { service, weight } => {
                let service = Name(*service);
                write!(f, "{service} has a server with weight {weight}, and 1 to {WEIGHT_MAX} are possible")
            }
            Self::Check { service } => {
                write!(f, "the check of {service} needs an interval, `fall` and `rise` above zero")
            }
            Self::Rows { rows } => {
                write!(f, "{rows} rows are no power of two from {} to {}", ROWS.start(), ROWS.end())
            }
        }
    }
}

impl core::error::Error for ConfigError {}

/// A service as an error names it.
struct Name(ServiceKey);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == ROUTING { f.write_str("the router") } else { self.0.fmt(f) }
    }
}

impl ClusterConfig {
    /// Finds what is wrong with it.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let count = self.addresses.len();
        if !(1..=ADDRESSES_MAX).contains(&count) {
            return Err(ConfigError::Addresses { count });
        }
        for (at, &address) in self.addresses.iter().enumerate() {
            if !is_host(address) || self.addresses[..at].contains(&address) {
                return Err(ConfigError::Address { address });
            }
        }
        if !self.rows.is_power_of_two() || !ROWS.contains(&self.rows) {
            return Err(ConfigError::Rows { rows: self.rows });
        }
        let count = self.services.len();
        if count > SERVICES_MAX {
            return Err(ConfigError::Services { count });
        }
        for (at, service) in self.services.iter().enumerate() {
            if self.services[..at].iter().any(|other| other.key == service.key) {
                return Err(ConfigError::ServiceTwice { service: service.key });
            }
            service.check()?;
        }
        if !self.routers.is_empty() {
            check_servers(ROUTING, &self.routers)?;
        }
        let count = self.servers().len();
        if count > SERVERS_MAX {
            return Err(ConfigError::ServersInAll { count });
        }
        Ok(())
    }

    /// Every real server once, in the order of their slots, routers among them.
    pub(crate) fn servers(&self) -> Vec<MemberSlot> {
        let mut slots = self.owners();
        slots.extend(self.routers.iter().map(|router| router.slot));
        in_order(slots)
    }

    /// Those that may own flows.
    pub(crate) fn owners(&self) -> Vec<MemberSlot> {
        in_order(
            self.services.iter().flat_map(|service| &service.servers).map(|server| server.slot).collect(),
        )
    }

    /// Routers as the servers of a service that remembers nothing.
    pub(crate) fn routing(&self) -> Option<ServiceConfig> {
        let servers = self.routers.clone();
        let routing = |servers| ServiceConfig {
            key: ROUTING,
            balance: Balance::PerPacket,
            sticky: Sticky::None,
            servers,
            check: None,
        };
        (!servers.is_empty()).then(|| routing(servers))
    }
}

impl ServiceConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let service = self.key;
        if service.port == 0 {
            return Err(ConfigError::NoPort);
        }
        check_servers(service, &self.servers)?;
        if self.check.is_some_and(|check| check.interval.is_zero() || check.fall == 0 || check.rise == 0) {
            return Err(ConfigError::Check { service });
        }
        Ok(())
    }
}

fn in_order(mut slots: Vec<MemberSlot>) -> Vec<MemberSlot> {
    slots.sort_unstable();
    slots.dedup();
    slots
}

fn check_servers(service: ServiceKey, servers: &[ServerConfig]) -> Result<(), ConfigError> {
    let count = servers.len();
    if !(1..=SERVERS_PER_SERVICE_MAX).contains(&count) {
        return Err(ConfigError::Servers { service, count });
    }
    for (at, server) in servers.iter().enumerate() {
        let is_it = |other: &ServerConfig| other.node == server.node || other.slot == server.slot;
        if servers[..at].iter().any(is_it) {
            return Err(ConfigError::ServerTwice { service, node: server.node });
        }
        if !(1..=WEIGHT_MAX).contains(&server.weight) {
            return Err(ConfigError::Weight { service, weight: server.weight });
        }
    }
    Ok(())
}

/// An address that one station can have, as a client or as a cluster (RFC 1122, 3.2.1.3; RFC 4291, 2.4 to 2.7).
pub(crate) fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.octets()[0] != 0 && !a.is_loopback() && !a.is_multicast() && !a.is_broadcast(),
        IpAddr::V6(a) => !a.is_unspecified() && !a.is_loopback() && !a.is_multicast(),
    }
}

/// Packets from and to such an address are not kept to their link (RFC 3927, 7; RFC 4291, 2.5.6).
pub(crate) fn is_routable(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    is_host(address) && !is_link_local
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    fn server(number: u16) -> ServerConfig {
        ServerConfig { slot: MemberSlot(number), node: NodeNumber(number), weight: 1 }
    }

    fn service(port: u16, count: u16) -> ServiceConfig {
        ServiceConfig {
            key: ServiceKey { protocol: Protocol::Tcp, port },
            balance: Balance::Hash,
            sticky: Sticky::None,
            servers: (0..count).map(server).collect(),
            check: None,
        }
    }

    fn cluster(services: Vec<ServiceConfig>) -> ClusterConfig {
        ClusterConfig {
            addresses: vec![IpAddr::from([10, 1, 0, 100])],
            services,
            routers: Vec::new(),
            rows: 256,
            epoch: 1,
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_what_is_wrong() {
        assert_eq!(cluster(vec![service(80, 2)]).check(), Ok(()));
        let key = service(80, 1).key;
        let wrong = |change: &dyn Fn(&mut ClusterConfig)| {
            let mut config = cluster(vec![service(80, 2)]);
            change(&mut config);
            let error = config.check().unwrap_err();
            assert!(error.to_string().len() > 20);
            error
        };
        assert_eq!(wrong(&|c| c.addresses.clear()), ConfigError::Addresses { count: 0 });
        let group = IpAddr::from([224, 0, 0, 1]);
        assert_eq!(wrong(&|c| c.addresses.push(group)), ConfigError::Address { address: group });
        let twice = IpAddr::from([10, 1, 0, 100]);
        assert_eq!(wrong(&|c| c.addresses.push(twice)), ConfigError::Address { address: twice });
        assert_eq!(wrong(&|c| c.rows = 1000), ConfigError::Rows { rows: 1000 });
        assert_eq!(wrong(&|c| c.services.push(service(80, 1))), ConfigError::ServiceTwice { service: key });
        assert_eq!(wrong(&|c| c.services.push(service(0, 1))), ConfigError::NoPort);
        assert_eq!(
            wrong(&|c| c.services = (1..66).map(|port| service(port, 1)).collect()),
            ConfigError::Services { count: 65 }
        );
        assert_eq!(
            wrong(&|c| c.services[0].servers.clear()),
            ConfigError::Servers { service: key, count: 0 }
        );
        let twice = ConfigError::ServerTwice { service: key, node: NodeNumber(1) };
        assert_eq!(wrong(&|c| c.services[0].servers.push(server(1))), twice);
        assert_eq!(
            wrong(&|c| c.services[0].servers[0].weight = 257),
            ConfigError::Weight { service: key, weight: 257 }
        );
        let routers = ConfigError::ServerTwice { service: ROUTING, node: NodeNumber(3) };
        assert_eq!(wrong(&|c| c.routers = vec![server(3), server(4), server(3)]), routers);
        let check = CheckConfig { interval: Duration::ZERO, fall: 1, rise: 1 };
        assert_eq!(wrong(&|c| c.services[0].check = Some(check)), ConfigError::Check { service: key });
        let many = |c: &mut ClusterConfig| {
            c.services = (1..6).map(|port| service(port, 256)).collect();
            c.services.iter_mut().enumerate().for_each(|(n, service)| {
                service.servers.iter_mut().for_each(|server| server.slot.0 += 256 * n as u16);
            });
        };
        assert_eq!(wrong(&many), ConfigError::ServersInAll { count: 1280 });
    }
}
