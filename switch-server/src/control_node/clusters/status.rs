//! What `switchctl` shows of clusters.

use alloc::vec::Vec;
use core::net::IpAddr;

use cluster_proxy::{Balance, ClusterCounters, ServerCounters, ServiceCounters, ServiceKey, Sticky, Tables};
use vlan_core::{LanId, MacAddress, NodeNumber};

use super::{CheckCounters, CheckFailure, server_name};
use crate::control_node::ControlNode;

/// A real server of a service.
#[derive(Clone, Debug)]
pub struct ServerStatus {
    /// Its node.
    pub node: NodeNumber,
    /// Its share.
    pub weight: u16,
    /// Its node is attached.
    pub is_attached: bool,
    /// It drains.
    pub drains: bool,
    /// It gets new flows of this service.
    pub takes_flows: bool,
    /// Whether it passes its check; none when it is not checked.
    pub passes: Option<bool>,
    /// Why it failed its check last.
    pub failure: Option<CheckFailure>,
    /// The flows of the cluster that it has claimed.
    pub flows: u32,
    /// What of the service it was given.
    pub counters: ServerCounters,
    /// Packets of the cluster that it was asked about, since their flow may be its.
    pub asked: u64,
}

/// A service of a cluster, or its routers.
#[derive(Clone, Debug)]
pub struct ServiceStatus {
    /// Its protocol and port; [`cluster_proxy::ROUTING`] for the cluster's routers.
    pub key: ServiceKey,
    /// How a server is chosen.
    pub balance: Balance,
    /// Whether clients stay.
    pub sticky: Sticky,
    /// What became of its packets and of the claims of its flows.
    pub counters: ServiceCounters,
    /// Its servers.
    pub servers: Vec<ServerStatus>,
}

/// A cluster.
#[derive(Clone, Debug)]
pub struct ClusterStatus {
    /// Its LAN.
    pub lan: LanId,
    /// Its addresses with their MACs.
    pub addresses: Vec<(IpAddr, MacAddress)>,
    /// What it serves, its routers last.
    pub services: Vec<ServiceStatus>,
    /// What its proxy has done.
    pub counters: ClusterCounters,
    /// What its checks have come to.
    pub checks: CheckCounters,
    /// Octets of memory that its proxy has taken.
    pub memory_octets: usize,
}

impl ControlNode {
    /// The clusters of all LANs.
    #[must_use]
    pub fn clusters(&self) -> Vec<ClusterStatus> {
        let lans = self.lans.iter();
        lans.flat_map(|lan| lan.clusters.iter().map(|cluster| self.cluster_status(lan, cluster))).collect()
    }

    /// The tables by which the clusters of all LANs choose.
    pub fn cluster_tables(&self) -> impl Iterator<Item = &Tables> {
        self.lans.iter().flat_map(|lan| &lan.clusters).map(|cluster| cluster.proxy.tables())
    }

    fn cluster_status(&self, lan: &super::Lan, cluster: &super::Cluster) -> ClusterStatus {
        let server = |key: ServiceKey, config: &cluster_proxy::ServerConfig| {
            let name = server_name(config.node);
            let known = cluster.server(name);
            let slot = known.and_then(|server| server.slot);
            ServerStatus {
                node: config.node,
                weight: config.weight,
                is_attached: slot.is_some_and(|slot| lan.routes[usize::from(slot.0)].session.is_some()),
                drains: self.drains.contains_key(&config.node),
                takes_flows: cluster.proxy.takes_flows(name, key),
                passes: cluster.proxy.passes(name, key),
                failure: cluster.checks.failure(key, name),
                flows: cluster.proxy.flows_of(name),
                counters: cluster.proxy.server_counters(name, key),
                asked: known.map_or(0, |server| server.asked),
            }
        };
        let tables = cluster.proxy.tables();
        let services = tables.services().chain(tables.routing()).map(|service| ServiceStatus {
            key: service.key,
            balance: service.balance,
            sticky: service.sticky,
            counters: cluster.proxy.service_counters(service.key),
            servers: service.servers.iter().map(|config| server(service.key, config)).collect(),
        });
        ClusterStatus {
            lan: lan.config.id,
            addresses: cluster.addresses.clone(),
            services: services.collect(),
            counters: cluster.proxy.counters().clone(),
            checks: cluster.checks.counters(),
            memory_octets: cluster.proxy.memory_len(),
        }
    }
}
