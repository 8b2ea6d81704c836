//! Clusters as a person reads them.

use platform::management::{Cluster, ClusterServer, ClusterService, Drain, DrainAnswer};

use crate::show::Show;
use crate::table::Table;

impl Show for Vec<Cluster> {
    fn show(&self) -> String {
        if self.is_empty() {
            return "no clusters: a LAN has one when the platform file has a [[lan.cluster]] for it\n"
                .to_owned();
        }
        self.iter().map(one).collect::<Vec<_>>().join("\n")
    }
}

fn one(cluster: &Cluster) -> String {
    let addresses = cluster.addresses.iter().zip(&cluster.macs);
    let addresses: Vec<_> = addresses.map(|(address, mac)| format!("{address} at {mac}")).collect();
    let rates = match (cluster.packets_per_second, cluster.flows_per_second) {
        (Some(packets), Some(flows)) => format!("; a second: {packets} packets, {flows} new connections"),
        _ => String::new(),
    };
    let head = format!(
        "LAN {}: {}\n{} packets: {} to servers, {} asked about, {} answered, {} dropped; {} connections begun, {} claimed{rates}\n",
        cluster.lan,
        addresses.join(", "),
        cluster.packets,
        cluster.forwarded,
        cluster.asked,
        cluster.answered,
        cluster.dropped,
        cluster.chosen,
        cluster.claims,
    );
    let titles = [
        "SERVICE",
        "BALANCE",
        "STICKY",
        "SERVER",
        ">WEIGHT",
        "HEALTH",
        "CHECK",
        ">FLOWS",
        ">FRAMES",
        ">OCTETS",
        ">FRAMES/S",
    ];
    let mut table = Table::new(&titles);
    for service in &cluster.services {
        for (place, server) in service.servers.iter().enumerate() {
            table.row(row(service, server, place == 0));
        }
    }
    head + &table.text()
}

/// The service is named in the row of its first server.
fn row(service: &ClusterService, server: &ClusterServer, is_first: bool) -> [String; 11] {
    let named = |text: &str| if is_first { text.to_owned() } else { String::new() };
    [
        named(&format!("{}/{}", service.protocol, service.port)),
        named(&service.balance),
        named(&service.sticky),
        server.node.clone(),
        server.weight.to_string(),
        server.health.clone(),
        check(server),
        server.flows.to_string(),
        server.frames.to_string(),
        server.octets.to_string(),
        server.frames_per_second.map_or("-".to_owned(), |rate| rate.to_string()),
    ]
}

fn check(server: &ClusterServer) -> String {
    match (&server.check[..], &server.check_failure) {
        ("" | "none", _) => "-".to_owned(),
        (state, Some(why)) => format!("{state}: {why}"),
        (state, None) => state.to_owned(),
    }
}

/// What became of `switchctl drain` or `undrain`.
pub fn drained(order: &Drain, answer: &DrainAnswer) -> String {
    let DrainAnswer { services, flows } = answer;
    if order.drains {
        format!(
            "{} drains: no new connections for its {services} services; it has {flows} flows now\n",
            order.node
        )
    } else {
        format!("{} gets new connections for its {services} services again\n", order.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_shown_with_each_server_of_each_service() {
        let server = |node: &str, health: &str| ClusterServer {
            node: node.into(),
            weight: 2,
            health: health.into(),
            flows: 7,
            ..ClusterServer::default()
        };
        let cluster = Cluster {
            lan: "red".into(),
            addresses: vec!["10.1.0.100".into()],
            macs: vec!["02:00:01:00:00:09".into()],
            services: vec![ClusterService {
                protocol: "tcp".into(),
                port: 80,
                balance: "hash".into(),
                sticky: "none".into(),
                servers: vec![
                    server("web1", "up"),
                    server("web2", "draining"),
                    ClusterServer {
                        check: "fails".into(),
                        check_failure: Some("HTTP status 503".into()),
                        ..server("web3", "down")
                    },
                ],
            }],
            packets_per_second: Some(12),
            flows_per_second: Some(3),
            ..Cluster::default()
        };
        let shown = vec![cluster].show();
        for part in [
            "10.1.0.100 at 02:00:01:00:00:09",
            "tcp/80",
            "draining",
            "12 packets, 3 new connections",
            "fails: HTTP status 503",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(Vec::<Cluster>::new().show().contains("[[lan.cluster]]"));
    }

    #[test]
    fn a_drain_says_what_it_stops_and_what_it_leaves() {
        let order = |drains| Drain { node: "web1".into(), drains, within_ms: None };
        let answer = DrainAnswer { services: 2, flows: 5 };
        assert!(drained(&order(true), &answer).contains("5 flows"));
        assert!(drained(&order(false), &answer).contains("again"));
    }
}
