//! Clusters as a person reads them.

use platform::management::{Cluster, ClusterServer, ClusterService, Drain, DrainAnswer};

use crate::show::Show;
use crate::table::Table;

/// The last columns, which are there where two answers were compared.
const RATES: usize = 3;

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
    let rates = match (cluster.packets_per_second, cluster.octets_per_second, cluster.flows_per_second) {
        (Some(packets), Some(octets), Some(flows)) => {
            format!("; a second: {packets} packets, {octets} octets, {flows} new connections")
        }
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
    let has_rates = cluster.packets_per_second.is_some();
    let titles = [
        "SERVICE",
        "BALANCE",
        "STICKY",
        "SERVER",
        ">WEIGHT",
        "HEALTH",
        "CHECK",
        ">FLOWS",
        ">PACKETS",
        ">OCTETS",
        ">BEGUN",
        ">PACKETS/s",
        ">OCTETS/s",
        ">BEGUN/s",
    ];
    let mut table = Table::new(&titles[..if has_rates { titles.len() } else { titles.len() - RATES }]);
    for service in &cluster.services {
        for (place, server) in service.servers.iter().enumerate() {
            table.row(row(service, server, place == 0));
        }
    }
    let lost: String = cluster.services.iter().filter_map(lost).collect();
    head + &table.text() + &lost
}

/// What went to no server of a service, or to several, and which claims were refused; none where there is nothing of that.
fn lost(service: &ClusterService) -> Option<String> {
    let ClusterService { asked, no_server, refused, .. } = service;
    let is_news = asked + no_server + refused > 0;
    is_news.then(|| {
        let service = named(service);
        format!(
            "{service}: {no_server} packets found no server, several servers were asked about {asked}, {refused} claims were refused\n"
        )
    })
}

/// As `tcp/80`, or `route`: what goes to routers has no port.
fn named(service: &ClusterService) -> String {
    match service.port {
        0 => service.protocol.clone(),
        port => format!("{}/{port}", service.protocol),
    }
}

/// The service is named in the row of its first server.
fn row(service: &ClusterService, server: &ClusterServer, is_first: bool) -> [String; 14] {
    let once = |text: &str| if is_first { text.to_owned() } else { String::new() };
    let rate = |rate: Option<u64>| rate.map_or_else(String::new, |rate| rate.to_string());
    [
        once(&named(service)),
        once(&service.balance),
        once(&service.sticky),
        server.node.clone(),
        server.weight.to_string(),
        server.health.clone(),
        check(server),
        server.flows.to_string(),
        server.packets.to_string(),
        server.octets.to_string(),
        server.chosen.to_string(),
        rate(server.packets_per_second),
        rate(server.octets_per_second),
        rate(server.flows_per_second),
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
            packets: 41,
            octets: 4100,
            chosen: 8,
            packets_per_second: Some(13),
            octets_per_second: Some(1301),
            flows_per_second: Some(2),
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
                no_server: 5,
                servers: vec![
                    server("web1", "up"),
                    server("web2", "draining"),
                    ClusterServer {
                        check: "fails".into(),
                        check_failure: Some("HTTP status 503".into()),
                        ..server("web3", "down")
                    },
                ],
                ..ClusterService::default()
            }],
            packets_per_second: Some(12),
            octets_per_second: Some(1200),
            flows_per_second: Some(3),
            ..Cluster::default()
        };
        let mut clusters = vec![cluster];
        let shown = clusters.show();
        for part in [
            "10.1.0.100 at 02:00:01:00:00:09",
            "tcp/80",
            "draining",
            "12 packets, 1200 octets, 3 new connections",
            "7       41    4100      8         13      1301        2\n",
            "tcp/80: 5 packets found no server",
            "fails: HTTP status 503",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        (clusters[0].packets_per_second, clusters[0].services[0].no_server) = (None, 0);
        let shown = clusters.show();
        clusters[0].services[0] =
            ClusterService { protocol: "route".into(), no_server: 1, ..ClusterService::default() };
        assert!(clusters.show().contains("route: 1 packets"));
        assert!(shown.contains("BEGUN\n") && !shown.contains("found no server"), "{shown}");
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
