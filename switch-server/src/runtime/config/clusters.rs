//! Clusters of the platform file, made ready for the machine.

use std::net::IpAddr;

use cluster_proxy::{
    CheckConfig, ClusterConfig, HashKey, Limits, ServerConfig, ServiceConfig, ServiceKey, Tables,
};
use platform::model::{Lan, Service};
use rvi::packet::session::cluster_key;
use tracing::error;
use vlan_core::{NodeNumber, SecretKey};

use super::Identities;
use crate::control_node::{ClusterEntry, server_name};
use crate::store::ClusterAddress;

/// Rows of each service: as many as give the fairest shares, in 256 KiB.
const ROWS: u32 = 65_536;

/// Every cluster address of a LAN.
pub(super) fn cluster_addresses(lan: &Lan) -> impl Iterator<Item = ClusterAddress> + '_ {
    let addresses = lan.clusters.iter().flat_map(|cluster| &cluster.addresses);
    addresses.map(|&address| ClusterAddress { lan: lan.id, address })
}

/// The addresses of the clusters that the member of a node serves: it may send from them.
//= spec/cluster.md#addresses-of-servers
//# A real server MUST be allowed to send from the addresses of its clusters as from its own.
pub(super) fn served_addresses(lan: &Lan, node: NodeNumber) -> impl Iterator<Item = IpAddr> + '_ {
    let served = lan.clusters.iter().filter(move |cluster| cluster.is_served_by(node));
    served.flat_map(|cluster| cluster.addresses.iter().copied())
}

/// The clusters of a LAN with their MACs and tables. It takes milliseconds for each service.
pub(super) fn cluster_entries(
    lan: &Lan,
    identities: &Identities,
    secret: &SecretKey,
    epoch: u64,
) -> Vec<ClusterEntry> {
    let entry = |cluster: &platform::Cluster| {
        let config = ClusterConfig {
            addresses: cluster.addresses.clone(),
            services: cluster.services.iter().map(service_config).collect(),
            routers: cluster.routers.iter().map(server_config).collect(),
            rows: ROWS,
            epoch: epoch as u32,
        };
        let first = cluster.addresses.first()?;
        let key = cluster_key(secret.octets(), lan.id.0, *first);
        // The platform file's check refuses what is refused here.
        let tables = Tables::new(&config, HashKey(key))
            .inspect_err(|error| error!(lan = lan.name, cluster = %first, %error, "cluster left out"));
        let mac = |&address: &IpAddr| (address, identities.clusters[&(lan.id, address)]);
        let checks =
            cluster.services.iter().filter_map(|s| Some((key_of(s), s.check.as_ref()?.kind.clone())));
        Some(ClusterEntry {
            addresses: cluster.addresses.iter().map(mac).collect(),
            tables: tables.ok()?,
            checks: checks.collect(),
            limits: Limits::default(),
        })
    };
    lan.clusters.iter().filter_map(entry).collect()
}

fn server_config(server: &platform::ClusterServer) -> ServerConfig {
    ServerConfig { slot: server_name(server.node), node: server.node, weight: server.weight }
}

fn service_config(service: &Service) -> ServiceConfig {
    ServiceConfig {
        key: key_of(service),
        balance: service.balance,
        sticky: service.sticky,
        servers: service.servers.iter().map(server_config).collect(),
        check: service.check.as_ref().map(|check| CheckConfig {
            interval: check.interval,
            fall: check.fall,
            rise: check.rise,
        }),
    }
}

fn key_of(service: &Service) -> ServiceKey {
    ServiceKey { protocol: service.protocol, port: service.port }
}
