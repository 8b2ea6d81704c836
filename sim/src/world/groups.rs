//! Stations that join and leave multicast groups, and the streams to these.

use std::net::IpAddr;

use vlan_core::group::Group;
use vlan_core::{Instant, VifNumber};

use super::World;
use super::connections::Party;
use crate::checker::{Receivers, StationIndex, Violation};
use crate::coverage::Fault;
use crate::simulation::Simulation;

/// The groups that streams go to: one of each family.
const GROUPS: [&str; 2] = ["239.1.1.1", "ff05::7"];

/// The groups themselves.
fn groups() -> [Group; 2] {
    GROUPS.map(|text| {
        let address = text.parse().ok().and_then(Group::new);
        address.expect("a group that is sorted")
    })
}

impl World {
    /// A station will send to both groups while there is traffic.
    pub fn add_streams(&mut self, from: usize) {
        for group in groups() {
            let own = self.stations[from];
            let source = if group.is_ipv4() { own.ipv4.address } else { own.ipv6.address };
            let mac = group.mac();
            self.add_source(from, Receivers::Joined, (source, group.address()), mac, Some(mac));
        }
    }

    /// A station's stack joins both groups, in this life and those to come.
    pub fn join(&mut self, station: usize) {
        self.joined[station] = true;
        self.memberships_changed(station);
    }

    /// A station's stack leaves both groups.
    pub fn leave_groups(&mut self, station: usize) {
        self.joined[station] = false;
        self.memberships_changed(station);
    }

    /// A station joins both groups, or leaves them.
    pub(super) fn turn_a_member(&mut self) {
        let live = self.live_stations();
        if live.is_empty() {
            return;
        }
        let station = live[self.random.below(live.len() as u64) as usize];
        self.count_fault_of(Fault::Joining, Party::Node(self.stations[station].node));
        match self.joined[station] {
            true => self.leave_groups(station),
            false => self.join(station),
        }
    }

    fn memberships_changed(&mut self, station: usize) {
        let now = self.now();
        let (node, vif) = (self.stations[station].node, self.stations[station].vif);
        let Some(mut machine) = self.nodes[node].machine.take() else { return };
        self.tell_memberships(station, &mut machine, vif);
        self.nodes[node].machine = Some(machine);
        self.run_at(Party::Node(node), now);
    }

    /// Tells a node what the stack of a station has joined, if there is one.
    pub(super) fn tell_memberships(
        &mut self,
        station: usize,
        machine: &mut switch_node::node::Node,
        vif: VifNumber,
    ) {
        let (now, node) = (self.now(), self.stations[station].node);
        if !self.nodes[node].stacks.contains_key(&vif.0) {
            return;
        }
        let is_joined = self.joined[station];
        let own: Vec<IpAddr> = groups().iter().filter(|_| is_joined).map(|group| group.address()).collect();
        machine.handle_memberships(now, vif, &own);
        let told_at = self.told_at(now, node);
        for group in groups() {
            let memberships = &mut self.checker.memberships;
            match is_joined {
                true => memberships.join(told_at, StationIndex(station), group.address()),
                false => memberships.leave(now, StationIndex(station), group.address()),
            }
        }
    }

    /// When the word of a node starts to be under way: not before the node, and whom it speaks to, run again.
    fn told_at(&self, now: Instant, node: usize) -> Instant {
        let controls = self.controls.iter().map(|control| control.schedule.paused_until);
        controls.chain([self.nodes[node].schedule.paused_until, now]).max().unwrap_or(now)
    }

    /// Frames of streams that members have got so far.
    #[must_use]
    pub fn streamed(&self) -> usize {
        self.checker.streamed()
    }

    /// Members must have got at least so many frames of streams.
    ///
    /// # Errors
    /// When they have not.
    pub fn expect_streamed(&self, least: usize) -> Result<(), Violation> {
        if self.streamed() >= least {
            return Ok(());
        }
        let detail = format!("{} frames of streams came, {least} are expected", self.streamed());
        Err(Violation { invariant: "members get their groups", at: self.now(), detail })
    }
}
