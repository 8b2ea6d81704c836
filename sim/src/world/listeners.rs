//! Stations that listen promiscuously: who does, and whether every copy came or was counted (I-44).

use switch_node::node::Node;
use vlan_core::{DropReason, VifNumber};

use super::World;
use super::connections::Party;
use super::inspect::{LOST_COPIES, Losses};
use crate::checker::{Audit, StationIndex, Violation};
use crate::coverage::Fault;
use crate::plan::Plan;
use crate::simulation::Simulation;

/// Frames of an interface that had no place to wait: they have not been sent, so nobody gets a copy.
pub(super) fn dropped_at_once(machine: &Node, vif: VifNumber) -> u64 {
    let interface = machine.interfaces().find(|interface| interface.config.vif == vif);
    interface.map_or(0, |interface| interface.counters.drops.of(DropReason::EgressFull))
}

impl World {
    /// A station's device hears everything from now on, in this life and those to come, or its own frames only.
    pub fn set_promiscuous(&mut self, station: usize, is_promiscuous: bool) {
        self.promiscuous[station] = is_promiscuous;
        let now = self.now();
        let (node, vif) = (self.stations[station].node, self.stations[station].vif);
        let Some(mut machine) = self.nodes[node].machine.take() else { return };
        self.tell_promiscuity(station, &mut machine, vif);
        self.nodes[node].machine = Some(machine);
        self.run_at(Party::Node(node), now);
    }

    /// Tells a node whether the device of a station hears everything, if there is one.
    pub(super) fn tell_promiscuity(&mut self, station: usize, machine: &mut Node, vif: VifNumber) {
        let (now, node) = (self.now(), self.stations[station].node);
        if !self.nodes[node].stacks.contains_key(&vif.0) {
            return;
        }
        let is_promiscuous = self.promiscuous[station];
        machine.handle_promiscuity(now, vif, is_promiscuous);
        // As its node has been told: the administrator may have said otherwise by now.
        let may_listen = self.nodes[node].stacks[&vif.0].config.may_listen;
        self.checker.set_listens(now, StationIndex(station), is_promiscuous && may_listen);
    }

    /// A station that may listen begins to, or ends.
    pub(super) fn turn_a_listener(&mut self) {
        if self.plan.listeners.is_empty() {
            return;
        }
        let place = self.random.below(self.plan.listeners.len() as u64) as usize;
        let station = self.plan.listeners[place];
        self.count_fault_of(Fault::Listening, Party::Node(self.stations[station].node));
        self.set_promiscuous(station, !self.promiscuous[station]);
    }

    /// True when a station of the node listens.
    pub(super) fn listens(&self, node: usize) -> bool {
        let mut stations = self.stations.iter().enumerate();
        stations.any(|(at, station)| {
            station.node == node && self.promiscuous[at] && self.plan.listeners.contains(&at)
        })
    }

    /// The stations that a node copies the frames of an interface to.
    pub(super) fn listeners_of(&self, machine: &Node, vif: VifNumber) -> Vec<StationIndex> {
        let station_of = |(node, vif)| {
            let is_it = |s: &crate::plan::StationPlan| (Plan::number(s.node), s.vif) == (node, vif);
            self.stations.iter().position(is_it).map(StationIndex)
        };
        machine.listeners(vif).filter_map(station_of).collect()
    }

    /// Every copy came, or is counted as lost.
    pub(super) fn account_copies(&self, audit: &Audit, losses: &Losses) -> Result<(), Violation> {
        let too_long = losses.drops.of(DropReason::TooLong).min(audit.copies_long_lost);
        let counted = LOST_COPIES.iter().map(|&reason| losses.drops.of(reason)).sum::<u64>()
            + losses.at_risk
            + too_long;
        if audit.copies_lost <= counted {
            return Ok(());
        }
        let reasons: Vec<_> = losses.drops.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
        let first: Vec<_> = self
            .checker
            .lost_copies()
            .take(8)
            .map(|(f, n, at, to)| format!("flow {} number {n} of {at} for station {}", f.0, to.0))
            .collect();
        let lost = audit.copies_lost;
        let detail = format!("{lost} copies lost, {counted} counted; {first:?}; {reasons:?}; {audit:?}");
        Err(Violation { invariant: "I-44 each copy once", at: self.now(), detail })
    }

    /// At least so many copies must have come, and of 1,000 one at most be missing, counted because there was no room for it:
    /// a few long frames fill an arena.
    ///
    /// # Errors
    /// When it is otherwise.
    pub fn expect_copied(&self, least: u64) -> Result<(), Violation> {
        let (audit, losses) = (self.checker.audit(), self.losses());
        self.account_copies(&audit, &losses)?;
        if audit.copies_delivered >= least && audit.copies_lost * 1000 <= audit.copies_expected {
            return Ok(());
        }
        let detail = format!("{least} copies are expected and hardly any lost: {audit:?}");
        Err(Violation { invariant: "I-44 each copy once", at: self.now(), detail })
    }

    /// The complaint that hardly any copies have come.
    #[must_use]
    pub fn no_copies(&self) -> Violation {
        self.stuck("hardly any copies come to who listens".to_owned())
    }

    /// Copies that have come so far.
    #[must_use]
    pub fn copied(&self) -> u64 {
        self.checker.audit().copies_delivered
    }
}
