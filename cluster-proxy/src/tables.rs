//! A cluster ready for lookups. Making it takes milliseconds, so that is done where nothing waits for it.

use alloc::vec::Vec;
use core::net::IpAddr;

use vlan_core::server::MemberSlot;

use crate::config::{ClusterConfig, ConfigError, ServiceConfig, ServiceKey};
use crate::hash::HashKey;
use crate::rows::Rows;

/// A checked configuration with the rows of its services. It does not change: a new configuration has new ones.
#[derive(Clone, Debug)]
pub struct Tables {
    pub(crate) key: HashKey,
    pub(crate) epoch: u32,
    pub(crate) addresses: Vec<IpAddr>,
    /// Sorted by their keys.
    pub(crate) services: Vec<ServiceTable>,
    pub(crate) servers: Vec<MemberSlot>,
}

/// A service with its rows.
#[derive(Clone, Debug)]
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
        let mut services: Vec<_> = config.services.iter().map(table).collect();
        services.sort_by_key(|service| service.config.key);
        Ok(Self {
            key,
            epoch: config.epoch,
            addresses: config.addresses.clone(),
            services,
            servers: config.servers(),
        })
    }

    /// The place of a service.
    #[inline]
    pub(crate) fn find(&self, key: ServiceKey) -> Option<usize> {
        self.services.binary_search_by_key(&key, |service| service.config.key).ok()
    }

    /// True for an address of the cluster.
    #[inline]
    pub(crate) fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }
}
