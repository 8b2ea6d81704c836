//! What the proxies of clusters have done with the packets of each service.

use cluster_proxy::ROUTING;

use super::Text;
use crate::control_node::{ClusterStatus, ServerStatus, ServiceStatus, Status};

/// The names of a cluster: of its LAN, and its first address.
struct Named<'a> {
    lan: &'a str,
    address: String,
    cluster: &'a ClusterStatus,
}

/// Adds the metrics of all clusters.
pub(super) fn render(text: &mut Text, status: &Status) {
    let named: Vec<_> = status.clusters.iter().map(|cluster| Named::new(status, cluster)).collect();
    let of_servers = |text: &mut Text, name, kind, help, value: fn(&ServerStatus) -> u64| {
        text.family(name, kind, help);
        named
            .iter()
            .for_each(|named| named.each_server(status, |labels, s| text.sample(name, labels, value(s))));
    };
    let help = "Packets of a service that a server was given.";
    of_servers(text, "weft_cluster_packets_total", "counter", help, |s| s.counters.given.frames);
    let help = "Octets of these packets.";
    of_servers(text, "weft_cluster_octets_total", "counter", help, |s| s.counters.given.octets);
    let help = "New flows of a service that a server was chosen for.";
    of_servers(text, "weft_cluster_new_flows_total", "counter", help, |s| s.counters.chosen);
    let help = "1 while a server gets new flows of a service.";
    of_servers(text, "weft_cluster_server_up", "gauge", help, |s| u64::from(s.takes_flows));
    let of_services = |text: &mut Text, name, help, value: fn(&ServiceStatus) -> u64| {
        text.family(name, "counter", help);
        named.iter().for_each(|named| named.each_service(|labels, s| text.sample(name, labels, value(s))));
    };
    let help = "Packets of a service for which there was no server.";
    of_services(text, "weft_cluster_no_server_total", help, |s| s.counters.no_server);
    let help = "Claims of flows of a service that were refused.";
    of_services(text, "weft_cluster_refused_claims_total", help, |s| s.counters.refused);
    flows(text, status, &named);
    drops(text, &named);
}

/// A server may be one of several services, and its flows are those of all.
fn flows(text: &mut Text, status: &Status, clusters: &[Named<'_>]) {
    text.family("weft_cluster_flows", "gauge", "Flows of a cluster that a server owns.");
    for Named { lan, address, cluster } in clusters {
        let mut servers: Vec<_> = cluster.services.iter().flat_map(|service| &service.servers).collect();
        servers.sort_by_key(|server| server.node);
        servers.dedup_by_key(|server| server.node);
        for server in servers {
            let labels = [("lan", *lan), ("address", address.as_str()), ("node", node(status, server))];
            text.sample("weft_cluster_flows", &labels, server.flows.into());
        }
    }
}

fn drops(text: &mut Text, clusters: &[Named<'_>]) {
    text.family("weft_cluster_drops_total", "counter", "Packets dropped by a cluster's proxy, by reason.");
    for Named { lan, address, cluster } in clusters {
        for (reason, packets) in cluster.counters.drops.iter() {
            let labels = [("lan", *lan), ("address", address.as_str()), ("reason", reason.name())];
            text.sample("weft_cluster_drops_total", &labels, packets);
        }
    }
}

impl<'a> Named<'a> {
    fn new(status: &'a Status, cluster: &'a ClusterStatus) -> Self {
        let lan = status.lans.iter().find(|lan| lan.id == cluster.lan).map_or("", |lan| lan.name.as_str());
        let address = cluster.addresses.first().map_or_else(String::new, |(address, _)| address.to_string());
        Self { lan, address, cluster }
    }

    fn each_service(&self, mut sample: impl FnMut(&[(&str, &str)], &ServiceStatus)) {
        for service in &self.cluster.services {
            let name = service_name(service);
            sample(&[("lan", self.lan), ("address", &self.address), ("service", &name)], service);
        }
    }

    fn each_server(&self, status: &Status, mut sample: impl FnMut(&[(&str, &str)], &ServerStatus)) {
        self.each_service(|labels, service| {
            for server in &service.servers {
                sample(&[labels, &[("node", node(status, server))]].concat(), server);
            }
        });
    }
}

/// As `tcp/80`, or `route`.
fn service_name(service: &ServiceStatus) -> String {
    if service.key == ROUTING {
        return "route".to_owned();
    }
    format!("{}/{}", service.key.protocol.to_string().to_lowercase(), service.key.port)
}

fn node<'a>(status: &'a Status, server: &ServerStatus) -> &'a str {
    let node = status.nodes.iter().find(|node| node.number == server.node);
    node.map_or("", |node| node.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster_proxy::{Balance, Protocol, ServerCounters, ServiceCounters, ServiceKey, Sticky};
    use vlan_core::counters::FrameCount;
    use vlan_core::{LanId, NodeNumber};

    #[test]
    fn each_server_of_each_service_has_its_samples_and_its_flows_once() {
        let server = |packets: u64| ServerStatus {
            node: NodeNumber(1),
            weight: 1,
            is_attached: true,
            drains: false,
            takes_flows: true,
            passes: None,
            failure: None,
            flows: 6,
            counters: ServerCounters { given: FrameCount { frames: packets, octets: 900 }, chosen: 4 },
            asked: 0,
        };
        let service = |port: u16| ServiceStatus {
            key: ServiceKey { protocol: Protocol::Tcp, port },
            balance: Balance::Hash,
            sticky: Sticky::None,
            counters: ServiceCounters { no_server: 2, refused: 1, ..ServiceCounters::default() },
            servers: vec![server(port.into())],
        };
        let cluster = ClusterStatus {
            lan: LanId(10),
            addresses: vec![("10.1.0.100".parse().unwrap(), vlan_core::MacAddress([2, 0, 1, 0, 0, 9]))],
            services: vec![service(80), service(81)],
            counters: cluster_proxy::ClusterCounters::default(),
            checks: crate::control_node::CheckCounters::default(),
            memory_octets: 0,
        };
        let mut text = Text::default();
        render(&mut text, &Status { clusters: vec![cluster], ..Status::default() });
        let cluster = "lan=\"\",address=\"10.1.0.100\"";
        for line in [
            format!("weft_cluster_packets_total{{{cluster},service=\"tcp/80\",node=\"\"}} 80"),
            format!("weft_cluster_packets_total{{{cluster},service=\"tcp/81\",node=\"\"}} 81"),
            format!("weft_cluster_octets_total{{{cluster},service=\"tcp/81\",node=\"\"}} 900"),
            format!("weft_cluster_new_flows_total{{{cluster},service=\"tcp/80\",node=\"\"}} 4"),
            format!("weft_cluster_server_up{{{cluster},service=\"tcp/80\",node=\"\"}} 1"),
            format!("weft_cluster_no_server_total{{{cluster},service=\"tcp/80\"}} 2"),
            format!("weft_cluster_refused_claims_total{{{cluster},service=\"tcp/80\"}} 1"),
        ] {
            assert!(text.0.lines().any(|had| had == line), "{line}: {}", text.0);
        }
        assert_eq!(text.0.matches("weft_cluster_flows{").count(), 1);
    }
}
