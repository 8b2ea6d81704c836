//! A cluster ready for lookups. Making it takes milliseconds, so that is done where nothing waits for it.

use alloc::vec::Vec;
use core::net::IpAddr;

use vlan_core::NodeNumber;
use vlan_core::server::MemberSlot;

use crate::config::{ClusterConfig, ConfigError, ROUTING, ServiceConfig, ServiceKey};
use crate::hash::HashKey;
use crate::rows::{Place, Rows};

/// A checked configuration with the rows of its services. It does not change: a new configuration has new ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    pub(crate) key: HashKey,
    pub(crate) epoch: u32,
    pub(crate) addresses: Vec<IpAddr>,
    /// The same as numbers, each family apart.
    ipv4: Vec<u32>,
    ipv6: Vec<u128>,
    /// Sorted by the numbers of their keys.
    pub(crate) services: Vec<ServiceTable>,
    /// These numbers, so close together that a search among them costs a cache line or two.
    keys: Vec<u32>,
    /// Every real server, routers among them, and those that may own flows.
    pub(crate) servers: Vec<MemberSlot>,
    pub(crate) owners: Vec<MemberSlot>,
    /// The place of the routers among the services.
    pub(crate) routing: Option<usize>,
}

/// A service with its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceTable {
    pub config: ServiceConfig,
    pub rows: Rows,
}

impl Tables {
    /// Works out the tables of `config`: about 10 ns for each row and server. `key` is the secret of the cluster, the same on all control nodes.
    ///
    /// # Errors
    /// When `config` contradicts itself.
    pub fn new(config: &ClusterConfig, key: HashKey) -> Result<Self, ConfigError> {
        config.check()?;
        let rows = |service: &ServiceConfig| Rows::new(&key, config.rows, &service.servers);
        let table = |service: &ServiceConfig| ServiceTable { config: service.clone(), rows: rows(service) };
        let mut services: Vec<_> = config.services.iter().chain(&config.routing()).map(table).collect();
        services.sort_by_key(|service| bits(service.config.key));
        Ok(Self {
            key,
            epoch: config.epoch,
            ipv4: config.addresses.iter().filter_map(ipv4_bits).collect(),
            ipv6: config.addresses.iter().filter_map(ipv6_bits).collect(),
            addresses: config.addresses.clone(),
            routing: services.iter().position(|service| service.config.key == ROUTING),
            owners: config.owners(),
            keys: services.iter().map(|service| bits(service.config.key)).collect(),
            services,
            servers: config.servers(),
        })
    }

    /// The cluster's addresses.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Its services.
    pub fn services(&self) -> impl Iterator<Item = &ServiceConfig> {
        self.services.iter().map(|service| &service.config).filter(|config| config.key != ROUTING)
    }

    /// Its routers, as the servers of a service with the key [`ROUTING`].
    #[must_use]
    pub fn routing(&self) -> Option<&ServiceConfig> {
        self.routing.map(|at| &self.services[at].config)
    }

    /// The first two servers of each row of a service, in the order of the rows; nothing where there is no such service.
    //= spec/cluster.md#rows
    //# The rows of a service MUST follow from the key, the rows' number, the servers' node numbers and their weights alone, whatever the servers' order.
    pub fn rows(&self, key: ServiceKey) -> impl Iterator<Item = [NodeNumber; 2]> {
        let table = self.find(key).and_then(|at| self.services.get(at));
        let node = |table: &ServiceTable, place: Place| {
            table.config.servers.get(usize::from(place)).map_or(NodeNumber(0), |server| server.node)
        };
        table.into_iter().flat_map(move |table| {
            table.rows.iter().map(move |places| places.map(|place| node(table, place)))
        })
    }

    /// Every real server once, routers among them.
    #[must_use]
    pub fn servers(&self) -> &[MemberSlot] {
        &self.servers
    }

    /// The place of a service.
    #[inline]
    pub(crate) fn find(&self, key: ServiceKey) -> Option<usize> {
        self.find_bits(bits(key))
    }

    /// The place of a service by the number of its key: the protocol's, and the port in the lower half.
    #[inline]
    pub(crate) fn find_bits(&self, key: u32) -> Option<usize> {
        self.keys.binary_search(&key).ok()
    }

    /// True for an address of the cluster.
    #[inline]
    pub(crate) fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    /// True for an address of IPv4 of the cluster.
    #[inline]
    pub(crate) fn has_ipv4(&self, address: u32) -> bool {
        self.ipv4.contains(&address)
    }

    /// True for an address of IPv6 of the cluster.
    #[inline]
    pub(crate) fn has_ipv6(&self, address: u128) -> bool {
        self.ipv6.contains(&address)
    }
}

fn bits(key: ServiceKey) -> u32 {
    (key.protocol as u32) << 16 | u32::from(key.port)
}

fn ipv4_bits(address: &IpAddr) -> Option<u32> {
    match address {
        IpAddr::V4(address) => Some(address.to_bits()),
        IpAddr::V6(_) => None,
    }
}

fn ipv6_bits(address: &IpAddr) -> Option<u128> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(address.to_bits()),
    }
}
