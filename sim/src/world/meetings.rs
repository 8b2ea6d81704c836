//! Which fault met which state: what the table of coverage is made of.

use rvi::packet::sender::PacketLegState;
use vlan_core::driver::Path;

use super::World;
use super::connections::Party;
use crate::coverage::{ControlState, Fault, Met, PairState, Way};
use crate::plan::Plan;

impl World {
    /// Counts a fault of a process with the state of each pair that it is part of.
    pub(super) fn count_fault_of(&mut self, fault: Fault, party: Party) {
        if let Some(waiting) = &mut self.in_batch {
            waiting.push((fault, party));
            return;
        }
        let control = self.control_state();
        for (a, b) in self.pairs() {
            let way = self.way_between(a, b);
            let concerned = match party {
                Party::Node(node) => a == node || b == node,
                Party::Control(_) => true,
            };
            if concerned && (way == Way::Packets || !fault.is_of_fabrics()) {
                let pair = self.pair_state(a, b);
                self.coverage.count(fault, Met { way, pair, control });
                self.count_listened(fault, a, b, pair);
            }
        }
    }

    /// A machine is back in its place after a batch.
    pub(super) fn count_faults_of_batch(&mut self) {
        for (fault, party) in self.in_batch.take().unwrap_or_default() {
            self.count_fault_of(fault, party);
        }
    }

    pub(super) fn count_fault_between(&mut self, fault: Fault, a: usize, b: usize) {
        let (pair, control) = (self.pair_state(a, b), self.control_state());
        self.coverage.count(fault, Met { way: self.way_between(a, b), pair, control });
        self.count_listened(fault, a, b, pair);
    }

    fn count_listened(&mut self, fault: Fault, a: usize, b: usize, pair: PairState) {
        if self.listens(a) || self.listens(b) {
            self.coverage.count_listened(fault, pair);
        }
    }

    fn way_between(&self, a: usize, b: usize) -> Way {
        if self.plan.are_apart(a, b) { Way::Packets } else { Way::Memory }
    }

    /// Pairs of nodes that share a LAN.
    pub(super) fn pairs(&self) -> Vec<(usize, usize)> {
        let mut pairs = Vec::new();
        for a in 0..self.nodes.len() {
            for b in a + 1..self.nodes.len() {
                if self.plan.lans.iter().any(|lan| lan.members.contains(&a) && lan.members.contains(&b)) {
                    pairs.push((a, b));
                }
            }
        }
        pairs
    }

    /// The state of a pair, as its first node sees it.
    pub(super) fn pair_state(&self, a: usize, b: usize) -> PairState {
        let (Some(machine), Some(_)) = (&self.nodes[a].machine, &self.nodes[b].machine) else {
            return PairState::Dead;
        };
        let number = Plan::number(b);
        let path = machine
            .interfaces()
            .flat_map(|interface| interface.peers.iter())
            .filter(|peer| peer.node == number)
            .map(|peer| peer.path)
            .max_by_key(|path| !matches!(path, Path::Relay));
        match path {
            Some(Path::Barrier { .. }) => PairState::Barrier,
            Some(Path::Closing) => PairState::Leaving,
            Some(Path::Direct) if self.legs_between(a, b) > 1 => PairState::DirectTwoLegs,
            Some(Path::Direct) => PairState::DirectOneLeg,
            Some(Path::Relay) | None => PairState::Relay,
        }
    }

    /// Legs that serve a pair: whole sockets, or packet legs that its first node takes for good.
    pub(super) fn legs_between(&self, a: usize, b: usize) -> usize {
        if self.plan.are_apart(a, b) {
            let legs = self.nodes[a].machine.iter().flat_map(|node| node.packet_legs_to(Plan::number(b)));
            return legs.filter(|leg| leg.state == PacketLegState::Good).count();
        }
        let ends = (Party::Node(a), Party::Node(b));
        let between = |c: &super::Connection| {
            (c.first.party, c.second.party) == ends || (c.second.party, c.first.party) == ends
        };
        self.open_connections().filter(|(_, c)| c.is_whole() && between(c)).count()
    }

    pub(super) fn control_state(&self) -> ControlState {
        if self.controls.iter().all(|c| c.machine.is_none()) {
            return ControlState::Down;
        }
        let attached = |n: &super::NodeHost| n.machine.as_ref().is_none_or(|m| m.is_attached());
        if self.nodes.iter().all(attached) { ControlState::Up } else { ControlState::Restarting }
    }
}
