//! Another configuration while everything runs: nodes, members and LANs that go and come again. Options that change: `options.rs`.
//!
//! A membership that comes again is another station: its interface has another number and another MAC, as a control node's
//! registry gives them, and its flows are its own.

use std::time::Duration;

use switch_server::control_node::{
    AddedMember, Changes, Command, LanConfig, MemberConfig, NodeEntry, SenderConfig,
};
use vlan_core::security::{Limits, Rate};
use vlan_core::{Instant, MacAddress, VifNumber};

use super::connections::Party;
use super::outside::NOWHERE;
use super::{Event, World};
use crate::checker::{Receivers, StationIndex, Violation};
use crate::coverage::Fault;
use crate::plan::{Plan, SERIAL, StationPlan};
use crate::simulation::Simulation;

/// A limit that no traffic of a run comes to: with it a member's frames are judged in another way.
const FRAMES_MAX: u64 = 1 << 40;

impl World {
    /// The administrator applies another file.
    pub(super) fn apply_something(&mut self, now: Instant) {
        let live = self.live_stations();
        let gone = self.gone_memberships();
        match self.random.below(8) {
            _ if self.outside_station().is_some() && self.chance(20) => self.change_uplink_at_random(),
            _ if self.cluster.is_some() && self.chance(20) => self.change_weights(now),
            0 if !gone.is_empty() => {
                let (node, lan) = gone[self.random.below(gone.len() as u64) as usize];
                let _ = self.add_membership(now, node, lan);
            }
            1 if !live.is_empty() => {
                let station = live[self.random.below(live.len() as u64) as usize];
                self.remove_lan(now, self.stations[station].lan);
            }
            2 if !live.is_empty() => {
                let station = live[self.random.below(live.len() as u64) as usize];
                self.change_member_at_random(now, station);
            }
            3 | 4 if !live.is_empty() => {
                let station = live[self.random.below(live.len() as u64) as usize];
                self.change_lan_at_random(now, self.stations[station].lan);
            }
            _ if !live.is_empty() => {
                let station = live[self.random.below(live.len() as u64) as usize];
                self.remove_membership(now, station);
            }
            _ => {}
        }
    }

    /// A member is removed; mostly it comes again, often at once.
    pub fn remove_membership(&mut self, now: Instant, station: usize) {
        let StationPlan { node, lan, .. } = self.stations[station];
        let others = self.live_stations().into_iter().filter(|of| self.stations[*of].lan == lan);
        if others.count() == 1 {
            // A LAN has a member.
            return self.remove_lan(now, lan);
        }
        self.count_fault_of(Fault::Apply, Party::Node(node));
        self.journal.line(now, format_args!("apply: station {station} is removed"));
        self.retire(now, station);
        let removed_members = vec![(self.plan.lans[lan].id, Plan::number(node))];
        let is_last = !self.live_stations().iter().any(|of| self.stations[*of].node == node);
        let nodes = (is_last && self.chance(50)).then(|| self.without_node(now, node));
        self.apply(now, Changes { removed_members, nodes, ..Changes::default() });
        self.schedule_return(now, node, lan);
    }

    /// The nodes of a file that has this one no more.
    fn without_node(&mut self, now: Instant, node: usize) -> Vec<NodeEntry> {
        self.journal.line(now, format_args!("apply: node {node} is removed"));
        self.removed_nodes.insert(node);
        self.node_entries()
    }

    /// A node ends with its last membership, and comes again with the next.
    pub fn remove_node(&mut self, now: Instant, node: usize) {
        self.count_fault_of(Fault::Apply, Party::Node(node));
        let of_node = |s: &usize| self.stations[*s].node == node;
        let stations: Vec<usize> = self.live_stations().into_iter().filter(of_node).collect();
        let memberships = stations.iter().map(|s| self.plan.lans[self.stations[*s].lan].id);
        let removed_members = memberships.map(|lan| (lan, Plan::number(node))).collect();
        for station in stations {
            self.retire(now, station);
        }
        let nodes = Some(self.without_node(now, node));
        self.apply(now, Changes { removed_members, nodes, ..Changes::default() });
    }

    /// What a node had under way that is none of the platform any more has ended, as if its process had: nobody may tell it anything.
    pub(super) fn end_removed_nodes(&mut self) {
        let now = self.now();
        for (place, station) in self.stations.iter().enumerate() {
            if self.removed_nodes.contains(&station.node) {
                self.checker.station_down(now, StationIndex(place));
            }
        }
    }

    fn remove_lan(&mut self, now: Instant, lan: usize) {
        self.journal.line(now, format_args!("apply: LAN {} is removed", self.plan.lans[lan].id));
        let members = self.live_stations().into_iter().filter(|of| self.stations[*of].lan == lan);
        for station in members.collect::<Vec<_>>() {
            let node = self.stations[station].node;
            self.count_fault_of(Fault::Apply, Party::Node(node));
            self.retire(now, station);
            self.schedule_return(now, node, lan);
        }
        let removed_lans = vec![self.plan.lans[lan].id];
        self.apply(now, Changes { removed_lans, ..Changes::default() });
    }

    fn schedule_return(&mut self, now: Instant, node: usize, lan: usize) {
        if self.chance(70) {
            let pause = if self.chance(30) { 0 } else { self.random.below(60_000_000) };
            self.queue.schedule(now + Duration::from_nanos(pause), Event::Return { node, lan });
        }
    }

    /// A node becomes a member of a LAN, unless it is one. Returns which station that is.
    pub fn add_membership(&mut self, now: Instant, node: usize, lan: usize) -> usize {
        let is_member = |s: &usize| (self.stations[*s].node, self.stations[*s].lan) == (node, lan);
        if let Some(station) = self.live_stations().into_iter().find(is_member) {
            return station;
        }
        self.count_fault_of(Fault::Apply, Party::Node(node));
        let is_lan_there = self.live_stations().iter().any(|s| self.stations[*s].lan == lan);
        let station = self.make_station(now, node, lan);
        self.journal.line(now, format_args!("apply: node {node} is a member as station {}", station));
        let lan_config = self.lan_config(lan);
        let config = self.member_config(station);
        let nodes = self.removed_nodes.remove(&node).then(|| self.node_entries());
        let changes = match is_lan_there {
            true => {
                let gets_every_group = self.gets_every_group[station];
                let added = AddedMember { lan: lan_config.id, config, gets_every_group };
                Changes { added_members: vec![added], nodes, ..Changes::default() }
            }
            false => {
                let multicast = self.multicast_config(lan, &[station]);
                let added = LanConfig { members: vec![config], multicast, ..lan_config };
                Changes { added_lans: vec![added], nodes, ..Changes::default() }
            }
        };
        self.apply(now, changes);
        self.add_flows_of(station);
        station
    }

    /// The next station of a node on a LAN, in the place of one that has been removed.
    fn make_station(&mut self, now: Instant, node: usize, lan: usize) -> usize {
        let station = self.stations.len();
        let is_former = |s: &StationPlan| (s.node, s.lan) == (node, lan);
        let former = self.stations.iter().rposition(is_former).unwrap_or(0);
        // In turn: no run has so many that a number would come again.
        let vif = 1 + self.stations.iter().filter(|s| s.node == node).count() as u16;
        let mac = MacAddress::from_counter(SERIAL, station as u32 + 1).unwrap_or(MacAddress::NULL);
        self.stations.push(StationPlan { vif: VifNumber(vif), mac, ..self.stations[former] });
        let place = self.checker.add_station(self.plan.lans[lan].id);
        if self.plan.hostile == Some(node) {
            self.checker.mark_hostile(place);
        }
        self.removed.push(false);
        self.joined.push(self.joined[former]);
        self.promiscuous.push(self.promiscuous[former]);
        self.limited.push(false);
        self.gets_every_group.push(false);
        if self.plan.listeners.contains(&former) {
            self.plan.listeners.push(station);
        }
        let number = Plan::number(node);
        let served =
            self.controls.iter().filter_map(|control| control.machine.as_ref()).any(|machine| {
                machine.status().nodes.iter().any(|n| n.number == number && n.process.is_some())
            });
        self.checker.attach(now, place, served);
        station
    }

    /// Traffic to and from a station that has come, like that of the others.
    fn add_flows_of(&mut self, station: usize) {
        let first = self.sources.len();
        for other in self.live_stations() {
            if other != station && self.stations[other].lan == self.stations[station].lan {
                for flow in 0..self.plan.traffic.flows_per_pair {
                    self.add_pair_source(station, other, flow % 2 == 0);
                    self.add_pair_source(other, station, flow % 2 == 1);
                }
            }
        }
        for flow in 0..self.plan.traffic.group_flows {
            self.add_group_source(station, flow % 2 == 0);
        }
        self.add_outside_sources(station);
        self.let_send(first);
    }

    pub(super) fn apply(&mut self, now: Instant, changes: Changes) {
        self.epoch += 1;
        self.look_at_devices(now);
        self.command(now, Command::Apply { epoch: self.epoch, changes: Box::new(changes) });
    }

    fn retire(&mut self, now: Instant, station: usize) {
        self.removed[station] = true;
        self.checker.retire(now, StationIndex(station));
        if self.stations[station].lan == 0 {
            self.excuse_calls_of(self.stations[station].node);
        }
    }

    /// The stations that are members now.
    pub(super) fn live_stations(&self) -> Vec<usize> {
        (0..self.stations.len()).filter(|station| !self.removed[*station]).collect()
    }

    /// The latest station of a node.
    #[must_use]
    pub fn last_station_of(&self, node: usize) -> usize {
        self.stations.iter().rposition(|station| station.node == node).unwrap_or(0)
    }

    /// Memberships of the plan that are none now.
    fn gone_memberships(&self) -> Vec<(usize, usize)> {
        let live: Vec<_> = self.live_stations().into_iter().map(|s| &self.stations[s]).collect();
        let is_gone = |of: &(usize, usize)| !live.iter().any(|s| (s.node, s.lan) == *of);
        self.plan.stations().iter().map(|s| (s.node, s.lan)).filter(is_gone).collect()
    }

    // --- what a control node is told ------------------------------------------------------------------------

    pub(super) fn member_config(&self, station: usize) -> MemberConfig {
        let plan = &self.stations[station];
        MemberConfig {
            node: Plan::number(plan.node),
            vif: plan.vif,
            mac: plan.mac,
            interface: format!("lan{}", self.plan.lans[plan.lan].id),
            addresses: vec![plan.ipv4, plan.ipv6],
            gateways: Vec::new(),
            may_listen: self.plan.listeners.contains(&station),
            sender: SenderConfig {
                limits: self.limits_of(station),
                aliases: self.served_addresses(station),
                ..SenderConfig::default()
            },
        }
    }

    /// How much a member may send.
    pub(super) fn limits_of(&self, station: usize) -> Limits {
        let rate = Rate { frames: self.limited[station].then_some(FRAMES_MAX), bits: None };
        Limits { broadcast: rate, multicast: rate, total: rate, ..Limits::default() }
    }

    // --- I-45 -----------------------------------------------------------------------------------------------

    /// Nothing is left of the members that were removed: no interface at their nodes, no direct RVI at the others. A node that is
    /// removed itself may not hear of it, and is alone with its interface.
    ///
    /// # Errors
    /// When something is.
    pub(super) fn expect_nothing_of_the_removed(&self) -> Result<(), Violation> {
        for (place, station) in
            self.stations.iter().enumerate().filter(|(at, s)| self.removed[*at] && s.node != NOWHERE)
        {
            let is_own = !self.is_of_platform(station.node);
            let (node, vif) = (Plan::number(station.node), station.vif);
            let has_interface = !is_own && self.nodes[station.node].stacks.contains_key(&vif.0);
            let machines = self.nodes.iter().enumerate().filter(|(at, _)| self.is_of_platform(*at));
            let mut interfaces = machines
                .filter_map(|(_, host)| host.machine.as_ref())
                .flat_map(switch_node::node::Node::interfaces);
            let has_direct = interfaces.any(|interface| {
                let mut peers = interface.peers.iter();
                peers.any(|peer| (peer.node, peer.vif) == (node, vif) && peer.direct.is_some())
            });
            if has_interface || has_direct {
                let detail = format!(
                    "station {place} was removed: interface {has_interface}, direct RVI {has_direct}"
                );
                return Err(Violation { invariant: "I-45 removed members", at: self.now(), detail });
            }
        }
        Ok(())
    }

    /// True for a node that does what it is told.
    fn is_of_platform(&self, node: usize) -> bool {
        Some(node) != self.plan.hostile && !self.removed_nodes.contains(&node)
    }

    /// True for a source of which an end is no member any more.
    pub(super) fn is_of_removed(&self, source: usize) -> bool {
        let flow = self.checker.flow(self.sources[source].flow);
        let to = match flow.to {
            Receivers::One(to) => self.removed[to.0] && !self.is_outside(to),
            _ => false,
        };
        to || self.removed[flow.from.0]
    }
}
