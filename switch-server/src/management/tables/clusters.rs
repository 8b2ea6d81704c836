//! The LANs' clusters.

use cluster_proxy::{Balance, ROUTING, Sticky};
use platform::management::{Cluster, ClusterServer, ClusterService, Counter};

use super::{counter, lan_name, node_name};
use crate::control_node::{self, ClusterStatus, ServerStatus, ServiceStatus};

/// Every cluster.
pub fn clusters(status: &control_node::Status) -> Vec<Cluster> {
    status.clusters.iter().map(|cluster| one(status, cluster)).collect()
}

fn one(status: &control_node::Status, cluster: &ClusterStatus) -> Cluster {
    let counters = &cluster.counters;
    Cluster {
        lan: lan_name(status, cluster.lan),
        addresses: cluster.addresses.iter().map(|(address, _)| address.to_string()).collect(),
        macs: cluster.addresses.iter().map(|(_, mac)| mac.to_string()).collect(),
        services: cluster.services.iter().map(|service| service_of(status, service)).collect(),
        packets: counters.packets.frames,
        octets: counters.packets.octets,
        forwarded: counters.forwarded.frames,
        asked: counters.asked.frames,
        answered: counters.answered.frames,
        dropped: counters.drops.total(),
        chosen: counters.chosen,
        claims: counters.claims,
        conflicts: counters.conflicts,
        refused: counters.refused,
        packets_per_second: None,
        octets_per_second: None,
        flows_per_second: None,
    }
}

fn service_of(status: &control_node::Status, service: &ServiceStatus) -> ClusterService {
    let balance = match service.balance {
        Balance::Hash => "hash",
        Balance::RoundRobin => "round-robin",
        Balance::LeastConnections => "least-connections",
        Balance::PerPacket => "per-packet",
    };
    let sticky = if service.sticky == Sticky::Client { "client" } else { "none" };
    let counted = &service.counters;
    let protocol = service.key.protocol.to_string().to_lowercase();
    ClusterService {
        protocol: if service.key == ROUTING { "route".to_owned() } else { protocol },
        port: service.key.port,
        balance: balance.to_owned(),
        sticky: sticky.to_owned(),
        packets: counted.given.given.frames,
        octets: counted.given.given.octets,
        chosen: counted.given.chosen,
        asked: counted.asked.frames,
        no_server: counted.no_server,
        refused: counted.refused,
        servers: service.servers.iter().map(|server| server_of(status, server)).collect(),
    }
}

fn server_of(status: &control_node::Status, server: &ServerStatus) -> ClusterServer {
    let health = match server {
        ServerStatus { is_attached: false, .. } => "away",
        ServerStatus { drains: true, .. } => "draining",
        ServerStatus { takes_flows: true, .. } => "up",
        _ => "down",
    };
    let check = match server.passes {
        None => "none",
        Some(true) => "passes",
        Some(false) => "fails",
    };
    ClusterServer {
        node: node_name(status, server.node),
        weight: server.weight,
        health: health.to_owned(),
        check: check.to_owned(),
        check_failure: server.failure.filter(|_| server.passes == Some(false)).map(|why| why.to_string()),
        flows: server.flows,
        packets: server.counters.given.frames,
        octets: server.counters.given.octets,
        chosen: server.counters.chosen,
        packets_per_second: None,
        octets_per_second: None,
        flows_per_second: None,
    }
}

/// What the clusters have counted.
pub(super) fn counters(status: &control_node::Status) -> impl Iterator<Item = Counter> + '_ {
    status.clusters.iter().flat_map(|cluster| {
        let first = cluster.addresses.first().map_or_else(String::new, |(address, _)| address.to_string());
        let lan = lan_name(status, cluster.lan);
        let name = |what: &str| format!("lan.{lan}.cluster.{first}.{what}");
        let counted = &cluster.counters;
        let mut all = vec![
            counter(name("packets"), counted.packets.frames),
            counter(name("octets"), counted.packets.octets),
            counter(name("forwarded"), counted.forwarded.frames),
            counter(name("forwarded.claimed"), counted.of_claimed),
            counter(name("asked"), counted.asked.frames),
            counter(name("given-back"), counted.given_back.frames),
            counter(name("answered"), counted.answered.frames),
            counter(name("chosen"), counted.chosen),
            counter(name("not-remembered"), counted.not_remembered),
            counter(name("claims"), counted.claims),
            counter(name("claims.conflicts"), counted.conflicts),
            counter(name("claims.refused"), counted.refused),
            counter(name("checks.asked"), cluster.checks.asked),
            counter(name("checks.passed"), cluster.checks.passed),
            counter(name("checks.failed"), cluster.checks.failed),
            counter(name("checks.strays"), cluster.checks.strays),
        ];
        all.extend(counted.drops.iter().map(|(reason, n)| counter(name(&format!("drop.{reason}")), n)));
        all
    })
}
