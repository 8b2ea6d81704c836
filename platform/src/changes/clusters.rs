//! What differs between the clusters of a LAN in two platform files.

use vlan_core::NodeNumber;
use vlan_core::cluster::{Balance, Sticky};

use super::{change, list};
use crate::management::Change;
use crate::model::{Check, CheckKind, Cluster, ClusterServer, Lan, Platform, Service};

/// The clusters that the member of a node serves.
pub(super) fn of(lan: &Lan, node: NodeNumber) -> Vec<&Cluster> {
    lan.clusters.iter().filter(|cluster| cluster.is_served_by(node)).collect()
}

/// Each cluster that comes, goes or has changed; a cluster is known by its first address.
pub(super) fn changes((before, old): (&Platform, &Lan), (after, new): (&Platform, &Lan)) -> Vec<Change> {
    let name = |cluster: &Cluster| cluster.addresses.first().copied();
    let find = |lan: &Lan, wanted: &Cluster| lan.clusters.iter().position(|c| name(c) == name(wanted));
    let key = |cluster: &Cluster| format!("cluster {}", list(name(cluster)));
    let of_lan = |key: String, values| change((&new.name, ""), &key, values);
    let gone = old.clusters.iter().filter(|cluster| find(new, cluster).is_none());
    let gone = gone.map(|cluster| of_lan(key(cluster), (words(before, cluster), String::new())));
    let others = new.clusters.iter().filter_map(|cluster| {
        let former = find(old, cluster).map(|place| &old.clusters[place]);
        if former == Some(cluster) {
            return None;
        }
        let from = former.map_or_else(String::new, |former| words(before, former));
        Some(of_lan(key(cluster), (from, words(after, cluster))))
    });
    gone.chain(others).collect()
}

fn words(platform: &Platform, cluster: &Cluster) -> String {
    let services = list(cluster.services.iter().map(|service| service_words(platform, service)));
    let routers = match &cluster.routers[..] {
        [] => String::new(),
        routers => format!("routed by {}", servers_words(platform, routers)),
    };
    let parts = [services, routers].into_iter().filter(|part| !part.is_empty());
    format!("{}: {}", list(&cluster.addresses), parts.collect::<Vec<_>>().join("; "))
}

fn servers_words(platform: &Platform, servers: &[ClusterServer]) -> String {
    list(servers.iter().map(|s| format!("{} {}", platform.node_name(s.node), s.weight)))
}

fn service_words(platform: &Platform, service: &Service) -> String {
    let balance = match service.balance {
        Balance::Hash => "hash",
        Balance::RoundRobin => "round-robin",
        Balance::LeastConnections => "least-connections",
        Balance::PerPacket => "per-packet",
    };
    let sticky = if service.sticky == Sticky::Client { " sticky" } else { "" };
    let servers = servers_words(platform, &service.servers);
    let check = service.check.as_ref().map_or_else(String::new, check_words);
    format!("{} port {} {balance}{sticky}{check} to {servers}", service.protocol, service.port)
}

fn check_words(check: &Check) -> String {
    let Check { kind, interval, fall, rise } = check;
    let what = match kind {
        CheckKind::Tcp => "tcp",
        CheckKind::Http { path } => path,
    };
    format!(" checked by {what} every {interval:?} ({fall} down, {rise} up)")
}
