//! How fast each leg goes: two answers of the control node, some time apart.

use std::time::Duration;

use platform::management::{Cluster, ClusterServer, ClusterService, Drop, LegEnd, Rvi};
use serde::Serialize;

use crate::show::Show;
use crate::table::Table;

/// Between the two answers.
pub const APART: Duration = Duration::from_secs(1);

/// What one end of a leg of a direct RVI carries a second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LegRate {
    /// Number of the RVI.
    rvi: u32,
    /// Name of the fabric, or of what else the leg goes through.
    fabric: String,
    /// `unix`, `udp`, `ether` or `relay`.
    kind: String,
    /// Name of the node at this end.
    node: String,
    /// Packets sent a second; messages, by shared memory.
    tx_packets: u64,
    /// Bits sent a second.
    tx_bits: u64,
    /// Packets received a second.
    rx_packets: u64,
    /// Bits received a second.
    rx_bits: u64,
    /// Packets sent and proven lost a second.
    lost: u64,
    /// Pieces of messages sent again a second.
    resends: u64,
}

/// Says of each kind of drop in the later answer how many frames a second it met since the earlier one.
pub fn add_drop_rates(before: &[Drop], after: &mut [Drop], elapsed: Duration) {
    for drop in after {
        let was = before.iter().find(|was| (&was.place, &was.reason) == (&drop.place, &drop.reason));
        let was = was.map_or(0, |was| was.frames);
        drop.per_second = Some(per_second(was, drop.frames, elapsed));
    }
}

/// Says of each cluster and server in the later answer what it got a second since the earlier one.
pub fn add_cluster_rates(before: &[Cluster], after: &mut [Cluster], elapsed: Duration) {
    for cluster in after {
        let was = before.iter().find(|was| was.lan == cluster.lan && was.addresses == cluster.addresses);
        let rate = |is: u64, of: fn(&Cluster) -> u64| per_second(was.map_or(is, of), is, elapsed);
        cluster.packets_per_second = Some(rate(cluster.packets, |was| was.packets));
        cluster.octets_per_second = Some(rate(cluster.octets, |was| was.octets));
        cluster.flows_per_second = Some(rate(cluster.chosen, |was| was.chosen));
        for service in &mut cluster.services {
            let of =
                |other: &&ClusterService| (&other.protocol, other.port) == (&service.protocol, service.port);
            let known = was.and_then(|was| was.services.iter().find(of));
            for server in &mut service.servers {
                let known = known.and_then(|known| known.servers.iter().find(|s| s.node == server.node));
                let rate =
                    |is: u64, of: fn(&ClusterServer) -> u64| per_second(known.map_or(is, of), is, elapsed);
                let packets = rate(server.packets, |was| was.packets);
                let octets = rate(server.octets, |was| was.octets);
                let flows = rate(server.chosen, |was| was.chosen);
                server.packets_per_second = Some(packets);
                server.octets_per_second = Some(octets);
                server.flows_per_second = Some(flows);
            }
        }
    }
}

/// How fast a counter goes; one that went back belongs to another life.
fn per_second(was: u64, is: u64, elapsed: Duration) -> u64 {
    let more = u128::from(is.saturating_sub(was)) * 1_000_000;
    u64::try_from(more / elapsed.as_micros().max(1)).unwrap_or(u64::MAX)
}

/// The rates of every leg that is in both answers.
pub fn rates(before: &[Rvi], after: &[Rvi], elapsed: Duration) -> Vec<LegRate> {
    let mut rates = Vec::new();
    for rvi in after {
        let Some(earlier) = before.iter().find(|earlier| earlier.rvi == rvi.rvi) else { continue };
        for leg in rvi.legs.iter().filter(|leg| !leg.kind.is_empty()) {
            let Some(was) = earlier.legs.iter().find(|was| was.fabric == leg.fabric && was.kind == leg.kind)
            else {
                continue;
            };
            for (node, was, is) in [(&rvi.a.node, &was.a, &leg.a), (&rvi.b.node, &was.b, &leg.b)] {
                let (fabric, kind, node) = (leg.fabric.clone(), leg.kind.clone(), node.clone());
                rates.push(LegRate { rvi: rvi.rvi, fabric, kind, node, ..rate(was, is, elapsed) });
            }
        }
    }
    rates
}

fn rate(was: &LegEnd, is: &LegEnd, elapsed: Duration) -> LegRate {
    let per_second = |was: u64, is: u64| per_second(was, is, elapsed);
    LegRate {
        tx_packets: per_second(was.tx_packets, is.tx_packets),
        tx_bits: per_second(was.tx_octets, is.tx_octets).saturating_mul(8),
        rx_packets: per_second(was.rx_packets, is.rx_packets),
        rx_bits: per_second(was.rx_octets, is.rx_octets).saturating_mul(8),
        lost: per_second(was.lost, is.lost),
        resends: per_second(was.resends, is.resends),
        ..LegRate::default()
    }
}

impl Show for Vec<LegRate> {
    fn show(&self) -> String {
        if self.is_empty() {
            return "no legs of direct RVIs\n".to_owned();
        }
        let titles = [
            ">RVI",
            "LEG",
            "KIND",
            "END",
            ">TX PACKETS/s",
            ">TX Mbit/s",
            ">RX PACKETS/s",
            ">RX Mbit/s",
            ">LOST/s",
            ">RESENDS/s",
        ];
        let mut table = Table::new(&titles);
        for rate in self {
            table.row([
                rate.rvi.to_string(),
                rate.fabric.clone(),
                rate.kind.clone(),
                rate.node.clone(),
                rate.tx_packets.to_string(),
                mbit(rate.tx_bits),
                rate.rx_packets.to_string(),
                mbit(rate.rx_bits),
                rate.lost.to_string(),
                rate.resends.to_string(),
            ]);
        }
        table.text()
    }
}

fn mbit(bits: u64) -> String {
    format!("{}.{}", bits / 1_000_000, bits % 1_000_000 / 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::management::{RviEnd, RviLeg};

    fn rvi(tx_packets: u64, tx_octets: u64) -> Rvi {
        let end = |node: &str| RviEnd { node: node.into(), ..RviEnd::default() };
        let a = LegEnd { tx_packets, tx_octets, ..LegEnd::default() };
        let leg = RviLeg { fabric: "a".into(), kind: "udp".into(), a, ..RviLeg::default() };
        let given_none = RviLeg { fabric: "b".into(), ..RviLeg::default() };
        Rvi { rvi: 7, a: end("web1"), b: end("web2"), legs: vec![leg, given_none], ..Rvi::default() }
    }

    #[test]
    fn a_rate_is_what_came_to_a_counter_by_the_time_between() {
        let rates = rates(&[rvi(100, 1_000)], &[rvi(600, 251_000)], Duration::from_millis(500));
        let expected = "\
RVI  LEG  KIND  END   TX PACKETS/s  TX Mbit/s  RX PACKETS/s  RX Mbit/s  LOST/s  RESENDS/s
  7  a    udp   web1          1000        4.0             0        0.0       0          0
  7  a    udp   web2             0        0.0             0        0.0       0          0
";
        assert_eq!(rates.show(), expected);
    }

    #[test]
    fn each_server_of_each_service_of_a_cluster_has_its_rates() {
        let cluster = |packets: u64, ports: &[u16]| {
            let server = ClusterServer {
                node: "web1".into(),
                packets,
                octets: packets * 100,
                chosen: packets / 10,
                ..ClusterServer::default()
            };
            let service = |port: &u16| ClusterService {
                port: *port,
                servers: vec![server.clone()],
                ..Default::default()
            };
            let services = ports.iter().map(service).collect();
            Cluster { packets, octets: packets * 100, services, ..Cluster::default() }
        };
        let mut after = vec![cluster(700, &[80, 81])];
        add_cluster_rates(&[cluster(200, &[80])], &mut after, Duration::from_millis(500));
        let rates = |server: &ClusterServer| {
            [server.packets_per_second, server.octets_per_second, server.flows_per_second]
        };
        let [known, new] = [0, 1].map(|at| rates(&after[0].services[at].servers[0]));
        assert_eq!(known, [Some(1000), Some(100_000), Some(100)]);
        assert_eq!(new, [Some(0); 3], "what was not there before has no rate");
        assert_eq!(after[0].octets_per_second, Some(100_000));
    }

    #[test]
    fn a_counter_that_went_back_and_a_leg_that_was_not_there_give_no_rate() {
        let again = rates(&[rvi(600, 9_000)], &[rvi(5, 500)], Duration::from_secs(1));
        assert!(again.iter().all(|rate| rate.tx_packets == 0 && rate.tx_bits == 0));
        assert_eq!(rates(&[], &[rvi(5, 500)], Duration::from_secs(1)), []);
        assert_eq!(Vec::<LegRate>::new().show(), "no legs of direct RVIs\n");
    }
}
