//! A cluster of the first LAN: its configuration, which servers drain, have closed their ports or hang, and its weights. Calls: `calls.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use cluster_proxy::{
    CheckConfig, ClusterConfig, HashKey, Protocol, ServerConfig, ServiceConfig, ServiceKey, Sticky, Tables,
};
use switch_node::node::{AskedCheck, Node};
use switch_server::control_node::{Changes, ClusterEntry, ClusterRole, Command, server_name};
use vlan_core::cluster::{CheckKind, CheckResult};
use vlan_core::wire::control::Listening;
use vlan_core::{Instant, LanId, MacAddress, VifNumber};

use super::World;
use super::calls::Call;
use super::connections::Party;
use super::routed::Routed;
use crate::coverage::Fault;
use crate::plan::{ClusterPlan, Plan, SERIAL};
use crate::simulation::Simulation;

/// The service that balances as the plan says.
pub(super) const PLAIN_PORT: u16 = 80;
/// The one whose clients stay with their servers.
pub(super) const STICKY_PORT: u16 = 81;
/// Nobody serves this one.
pub(super) const UNKNOWN_PORT: u16 = 82;
/// The MACs of its addresses, of IPv4 and IPv6: of the control node's counter.
pub(super) const MACS: [MacAddress; 2] = [mac(1), mac(2)];
/// The first service's servers are checked.
const CHECK: CheckConfig = CheckConfig { interval: Duration::from_millis(20), fall: 2, rise: 1 };
/// A server that hangs is known to do so after this: the failures, the look before the first of them, and the way of the answers.
const KNOWN_TO_HANG: Duration = Duration::from_millis(100);
/// Rows of a service's table: few, as every control node that starts works them out.
const ROWS: u32 = 256;

const fn mac(number: u8) -> MacAddress {
    MacAddress([2, 0, SERIAL.0 as u8, 0x78, 0x78, number])
}

/// The cluster, and the calls to it.
pub(super) struct Cluster {
    plan: ClusterPlan,
    /// Its addresses, of IPv4 and IPv6.
    pub addresses: [IpAddr; 2],
    /// Nodes that drain, and since when.
    pub draining: BTreeMap<usize, Instant>,
    /// Nodes on which nothing listens.
    pub closed: BTreeSet<usize>,
    /// Nodes whose servers take connections and do nothing with them, and since when.
    pub hanging: BTreeMap<usize, Instant>,
    /// No fault keeps the control node from hearing of checks, and no server from being the only one.
    pub are_checks_judged: bool,
    /// Every call, by its number.
    pub calls: Vec<Call>,
    /// Every packet for others, by its number.
    pub routed: Vec<Routed>,
    /// Which calls are in the stacks of which nodes.
    pub connections: BTreeSet<(usize, usize)>,
}

impl Cluster {
    pub fn new(plan: ClusterPlan, lan: LanId) -> Self {
        let ipv4 = Ipv4Addr::new(10, lan.0 as u8, 0, 250);
        let ipv6 = Ipv6Addr::new(0xfd00, lan.0, 0, 0, 0, 0, 0, 250);
        Self {
            plan,
            addresses: [ipv4.into(), ipv6.into()],
            draining: BTreeMap::new(),
            closed: BTreeSet::new(),
            hanging: BTreeMap::new(),
            are_checks_judged: false,
            calls: Vec::new(),
            routed: Vec::new(),
            connections: BTreeSet::new(),
        }
    }

    /// True for a node that is a real server.
    pub fn serves(&self, node: usize) -> bool {
        self.plan.servers.iter().any(|(server, _)| *server == node)
    }

    /// True where its servers are routers too.
    pub fn routes(&self) -> bool {
        self.plan.routes
    }

    /// True for a node whose servers ought to be avoided by a call that begins then.
    pub fn is_known_to_hang(&self, node: usize, opened: Instant) -> bool {
        let since = self.hanging.get(&node).filter(|_| self.are_checks_judged);
        since.is_some_and(|since| opened > *since + KNOWN_TO_HANG)
    }

    /// What control nodes make of it.
    fn entry(&self, epoch: u64, is_reversed: bool) -> ClusterEntry {
        let server = |&(node, weight): &(usize, u16)| {
            let node = Plan::number(node);
            ServerConfig { slot: server_name(node), node, weight }
        };
        let service = |port, sticky, check| ServiceConfig {
            key: ServiceKey { protocol: Protocol::Tcp, port },
            balance: self.plan.balance,
            sticky,
            servers: in_order(self.plan.servers.iter().map(server).collect(), is_reversed),
            check,
        };
        let config = ClusterConfig {
            addresses: self.addresses.to_vec(),
            services: vec![
                service(PLAIN_PORT, Sticky::None, Some(CHECK)),
                service(STICKY_PORT, Sticky::Client, None),
            ],
            routers: self.plan.servers.iter().map(server).filter(|_| self.plan.routes).collect(),
            rows: ROWS,
            epoch: epoch as u32,
        };
        let tables = Tables::new(&config, HashKey([5, 6])).expect("a sound cluster");
        let checks = vec![(ServiceKey { protocol: Protocol::Tcp, port: PLAIN_PORT }, CheckKind::Tcp)];
        ClusterEntry {
            addresses: self.addresses.into_iter().zip(MACS).collect(),
            tables,
            checks,
            limits: self.plan.limits,
        }
    }
}

impl World {
    /// The clusters of a LAN.
    pub(super) fn cluster_entries(&self, lan: usize) -> Vec<ClusterEntry> {
        let cluster = self.cluster.as_ref().filter(|_| lan == 0);
        cluster.map(|cluster| cluster.entry(self.epoch, false)).into_iter().collect()
    }

    /// The clusters of the first LAN as a control node has them that starts: each second one has their servers in another order.
    pub(super) fn cluster_entries_of(&self, control: usize) -> Vec<ClusterEntry> {
        let is_reversed = control % 2 == 1;
        self.cluster.as_ref().map(|cluster| cluster.entry(self.epoch, is_reversed)).into_iter().collect()
    }

    /// What a control node does for the clusters.
    pub(super) fn cluster_role(&self, control: usize) -> ClusterRole {
        if self.has_clusters == control { ClusterRole::Has } else { ClusterRole::StandsBy }
    }

    /// This control node has the clusters from now on, and the others stand by.
    pub fn give_clusters_to(&mut self, control: usize) {
        let now = self.now();
        self.has_clusters = control;
        self.journal.line(now, format_args!("control node {control} has the clusters"));
        // Who had them gives them up before another takes them.
        let mut order: Vec<usize> = (0..self.controls.len()).collect();
        order.sort_by_key(|of| *of == control);
        for control in order {
            let role = self.cluster_role(control);
            if let Some(machine) = &mut self.controls[control].machine {
                machine.handle_cluster_role(now, role);
                self.run_at(Party::Control(control), now);
            }
        }
    }

    /// The cluster addresses that a station may send from.
    pub(super) fn served_addresses(&self, station: usize) -> Vec<IpAddr> {
        let station = self.stations[station];
        let served = self.cluster.iter().filter(|cluster| station.lan == 0 && cluster.serves(station.node));
        served.flat_map(|cluster| cluster.addresses).collect()
    }

    /// A server drains, or takes new flows again.
    pub(super) fn turn_a_drain(&mut self, now: Instant) {
        let Some(node) = self.draw_server() else { return };
        let drains = self.cluster.as_ref().is_some_and(|cluster| cluster.draining.contains_key(&node));
        self.count_fault_of(Fault::Drain, Party::Node(node));
        self.drain(now, node, !drains);
    }

    /// A node's servers get no new flows from now on, or they do.
    pub fn drain(&mut self, now: Instant, node: usize, drains: bool) {
        let Some(cluster) = &mut self.cluster else { return };
        self.journal.line(now, format_args!("node {node} drains: {drains}"));
        match drains {
            true => _ = cluster.draining.insert(node, now),
            false => _ = cluster.draining.remove(&node),
        }
        let node = Plan::number(node);
        let command = if drains { Command::Drain { node, within: None } } else { Command::Undrain { node } };
        self.command(now, command);
    }

    /// What the administrator drained still drains: the management tool says it again.
    pub(super) fn drain_again(&mut self, now: Instant) {
        let draining = self.cluster.iter().flat_map(|cluster| cluster.draining.keys().copied());
        for node in draining.collect::<Vec<_>>() {
            self.command(now, Command::Drain { node: Plan::number(node), within: None });
        }
    }

    /// A server's ports are closed, or it hangs, or that is over.
    pub(super) fn turn_a_service(&mut self) {
        let Some(node) = self.draw_server() else { return };
        let Some(cluster) = &self.cluster else { return };
        let (is_closed, hangs) = (cluster.closed.contains(&node), cluster.hanging.contains_key(&node));
        self.count_fault_of(Fault::Service, Party::Node(node));
        match self.chance(50) {
            true => self.open_service(node, is_closed),
            false => self.hang(node, !hangs),
        }
    }

    /// The servers of a node hang from now on, or they do what they are asked.
    pub fn hang(&mut self, node: usize, hangs: bool) {
        let now = self.now();
        let Some(cluster) = &mut self.cluster else { return };
        self.journal.line(now, format_args!("node {node} hangs: {hangs}"));
        match hangs {
            true => _ = cluster.hanging.insert(node, now),
            false => _ = cluster.hanging.remove(&node),
        }
    }

    /// From now on calls are judged by what checks must have found.
    pub fn judge_checks(&mut self) {
        self.cluster.iter_mut().for_each(|cluster| cluster.are_checks_judged = true);
    }

    /// A node's host makes a check. Of one that hangs nothing comes; of one that has closed its port its kernel knows at once.
    pub(super) fn check_service(
        &mut self,
        now: Instant,
        node: usize,
        machine: &mut Node,
        asked: &AskedCheck,
    ) {
        let Some(cluster) = &self.cluster else { return };
        if cluster.hanging.contains_key(&node) {
            return;
        }
        let is_closed = cluster.closed.contains(&node);
        let result = if is_closed { CheckResult::Refused } else { CheckResult::Passed };
        machine.handle_checked(now, asked, result);
        self.run_at(Party::Node(node), now);
    }

    /// Something listens on a node from now on, or nothing does.
    pub fn open_service(&mut self, node: usize, is_open: bool) {
        let now = self.now();
        let Some(cluster) = &mut self.cluster else { return };
        self.journal.line(now, format_args!("node {node} listens: {is_open}"));
        match is_open {
            true => _ = cluster.closed.remove(&node),
            false => _ = cluster.closed.insert(node),
        }
        let Some(mut machine) = self.nodes[node].machine.take() else { return };
        for vif in self.nodes[node].stacks.keys().copied().collect::<Vec<_>>() {
            self.tell_listening(now, node, &mut machine, VifNumber(vif));
        }
        self.nodes[node].machine = Some(machine);
        self.run_at(Party::Node(node), now);
    }

    /// Tells a node whether something listens at what an interface of it serves.
    pub(super) fn tell_listening(&self, now: Instant, node: usize, machine: &mut Node, vif: VifNumber) {
        let Some(stack) = self.nodes[node].stacks.get(&vif.0) else { return };
        let Some(cluster) = &self.cluster else { return };
        let listens = !cluster.closed.contains(&node);
        let of = |cluster: &vlan_core::wire::control::ServedCluster| {
            let address = cluster.addresses.first().copied();
            let services = cluster.services.clone().into_iter();
            services.filter_map(move |s| {
                Some(Listening { address: address?, protocol: s.protocol, port: s.port, listens })
            })
        };
        let services: Vec<_> = stack.config.clusters.iter().flat_map(of).collect();
        machine.handle_listening(now, vif, &services);
    }

    /// The servers have other weights.
    pub fn change_weights(&mut self, now: Instant) {
        let Some(mut cluster) = self.cluster.take() else { return };
        for (node, weight) in &mut cluster.plan.servers {
            *weight = 1 + self.random.below(4) as u16;
            self.count_fault_of(Fault::Apply, Party::Node(*node));
        }
        self.journal.line(now, format_args!("apply: weights {:?}", cluster.plan.servers));
        self.cluster = Some(cluster);
        let clusters = vec![(self.plan.lans[0].id, self.cluster_entries(0))];
        self.apply(now, Changes { clusters, ..Changes::default() });
    }

    /// Every server listens and takes new flows.
    pub(super) fn restore_servers(&mut self) {
        let now = self.now();
        let Some(cluster) = &self.cluster else { return };
        let (draining, closed) = (cluster.draining.clone(), cluster.closed.clone());
        let hanging = cluster.hanging.clone();
        draining.into_keys().for_each(|node| self.drain(now, node, false));
        closed.into_iter().for_each(|node| self.open_service(node, true));
        hanging.into_keys().for_each(|node| self.hang(node, false));
    }

    fn draw_server(&mut self) -> Option<usize> {
        let servers = self.cluster.as_ref()?.plan.servers.clone();
        Some(servers[self.random.below(servers.len() as u64) as usize].0)
    }
}

fn in_order(mut servers: Vec<ServerConfig>, is_reversed: bool) -> Vec<ServerConfig> {
    if is_reversed {
        servers.reverse();
    }
    servers
}
