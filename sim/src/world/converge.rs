//! The end of a run: heal everything, then all must be well within a bound (I-8), and every frame accounted for.

use std::collections::BTreeSet;
use std::time::Duration;

use rvi::packet::sender::PacketLegState;
use rvi::packet::wire::PacketLeg;
use switch_server::control_node::RviState;
use vlan_core::wire::control::LegKind;
use vlan_core::{DropReason, Instant, LegNumber, NodeNumber};

use super::World;
use super::connections::Party;
use super::inspect::PERMITTED;
use crate::checker::{Audit, Receivers, StationIndex, Violation};
use crate::coverage::Coverage;
use crate::packet::link::LinkCounts;
use crate::plan::Plan;
use crate::simulation::Simulation;

/// All member nodes are attached, with their addresses, this long after the last fault: the longest pause
/// between two attempts to connect is 625 ms, and a leg left by a node that went silent is given up after 1 s.
const ATTACH_MAX: Duration = Duration::from_secs(4);
/// All pairs have talked this long after that: neighbours are asked for again within 150 ms.
const TALK_MAX: Duration = Duration::from_secs(3);
/// A packet leg that came and went is good again at the latest this long after it answers: the longest hold-down, and a
/// probe.
const BACK_MAX: Duration = Duration::from_millis(10_500);
/// What was held or parked is gone after this.
const DRAIN: Duration = Duration::from_millis(300);
/// How long the idle platform is watched.
const IDLE: Duration = Duration::from_millis(200);
/// Batches that an idle process may run in that time: heartbeats and neighbour probes.
const IDLE_BATCHES_MAX: u64 = 150;
/// The same for the probes of packet legs: two rounds by two legs to the control node and to each node, with their answers.
const IDLE_PROBES_MAX: u64 = 40;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How the frames ended.
    pub audit: Audit,
    /// Drops that machines counted, by reason.
    pub drops: vlan_core::counters::DropCounters,
    /// Which faults met which states.
    pub coverage: Coverage,
    /// What became of the packets between hosts.
    pub underlay: LinkCounts,
    /// Hash of the journal and its length.
    pub digest: (u64, u64),
    /// Simulated time at the end.
    pub ended: Instant,
}

impl World {
    /// Heals everything and checks that the platform becomes well again, and that every frame is accounted for.
    ///
    /// # Errors
    /// The first invariant that breaks.
    pub(super) fn heal_and_judge(&mut self) -> Result<Outcome, Violation> {
        self.heal_everything();
        let attach_until = self.now() + ATTACH_MAX;
        let has_applied = |world: &Self| {
            world.expect_nothing_of_the_removed().and_then(|()| world.expect_options_everywhere())
        };
        while !self.everybody_is_attached() || has_applied(self).is_err() {
            if self.now() >= attach_until {
                has_applied(self)?;
                return Err(self.stuck(format!("not attached: {:?}", self.who_is_not_attached())));
            }
            self.run_for(Duration::from_millis(10))?;
        }
        self.everybody_talks()?;
        self.everybody_calls()?;
        self.everybody_is_routed()?;
        self.all_legs_come_back()?;
        self.run_for(DRAIN)?;
        self.watch_idle()?;
        for node in 0..self.nodes.len() {
            self.check_node(node);
        }
        for control in 0..self.controls.len() {
            self.check_control(control);
        }
        // Takes nothing but the violation that the checks may have left.
        self.run_for(Duration::ZERO)?;
        if let Some(violation) = self.violation.take() {
            return Err(violation);
        }
        self.account()
    }

    fn heal_everything(&mut self) {
        let now = self.now();
        self.stop_traffic();
        self.faults_left = 0;
        self.waiting_fault = None;
        self.timers_late = Duration::ZERO;
        self.underlay.heal();
        self.restore_uplink();
        self.restore_servers();
        self.plan.fault_menu.clear();
        self.journal.line(now, format_args!("everything is healed"));
        let controls = (0..self.controls.len()).filter(|control| !self.controls[*control].is_lost_for_good);
        let controls = controls.map(Party::Control);
        let parties: Vec<_> = controls.chain((0..self.nodes.len()).map(Party::Node)).collect();
        for party in parties {
            self.relieve(now, party);
            let schedule = self.schedule(party);
            schedule.dies_after = None;
            match party {
                Party::Control(control) => {
                    self.controls[control].undo_at_death = None;
                    self.controls[control].is_started_again = true;
                }
                Party::Node(node) => self.nodes[node].is_started_again = true,
            }
            self.start(now, party);
            self.run_at(party, now);
        }
        for (a, b) in self.cut_pairs() {
            self.heal(a, b);
        }
    }

    fn everybody_is_attached(&self) -> bool {
        self.who_is_not_attached().is_empty()
    }

    /// Stations that do not have all their addresses yet, or whose process no control node knows: one that has lost its
    /// control node may not have noticed.
    fn who_is_not_attached(&self) -> Vec<usize> {
        let well = |station: &crate::plan::StationPlan| {
            let host = &self.nodes[station.node];
            let stack = host.stacks.get(&station.vif.0);
            host.machine.as_ref().is_some_and(|m| m.is_attached())
                && self.is_known(station.node)
                && stack.is_some_and(|s| s.has(station.ipv4.address) && s.has(station.ipv6.address))
        };
        let judged = |station: &crate::plan::StationPlan| Some(station.node) != self.plan.hostile;
        let unwell = |place: &usize| judged(&self.stations[*place]) && !well(&self.stations[*place]);
        self.live_stations().into_iter().filter(unwell).collect()
    }

    /// True when a control node has the process of a node attached.
    fn is_known(&self, node: usize) -> bool {
        let process = Some(self.nodes[node].schedule.process);
        let controls = self.controls.iter().filter_map(|control| control.machine.as_ref());
        controls.flat_map(|control| control.status().nodes).any(|entry| entry.process == process)
    }

    /// Packet legs between nodes are all good again: one that is on its way back is probed often, which is no idling.
    fn all_legs_come_back(&mut self) -> Result<(), Violation> {
        let until = self.now() + BACK_MAX;
        loop {
            let (away, missing) = (self.legs_away(), self.shared_legs_missing());
            if away.is_empty() && missing.is_empty() {
                return Ok(());
            }
            if self.now() >= until {
                return Err(self.stuck(format!("legs that do not come back: {away:?}, {missing:?}")));
            }
            self.run_for(Duration::from_millis(10))?;
        }
    }

    /// Packet legs that are not good, of which node to which other. A node that was removed keeps what it has, for nobody tells it.
    fn legs_away(&self) -> Vec<(usize, NodeNumber, PacketLeg, PacketLegState)> {
        let machine_of = |node: usize| self.nodes[node].machine.as_ref().filter(|m| m.is_attached());
        let judged = |node: &usize| self.plan.hostile != Some(*node) && machine_of(*node).is_some();
        let mut away = Vec::new();
        for node in (0..self.nodes.len()).filter(judged) {
            let Some(machine) = machine_of(node) else { continue };
            for peer in (0..self.nodes.len()).filter(judged).map(Plan::number) {
                let legs = machine.packet_legs_to(peer).filter(|leg| leg.state != PacketLegState::Good);
                away.extend(legs.map(|leg| (node, peer, leg.leg, leg.state)));
            }
        }
        away
    }

    /// Legs of shared memory that a control node has introduced, and that one end has not: of which node, to which other.
    fn shared_legs_missing(&self) -> BTreeSet<(NodeNumber, NodeNumber, LegNumber)> {
        let machine_of = |node: NodeNumber| {
            let index = (0..self.nodes.len()).find(|&index| Plan::number(index) == node)?;
            let is_judged = self.plan.hostile != Some(index);
            self.nodes[index].machine.as_ref().filter(|machine| is_judged && machine.is_attached())
        };
        let mut missing = BTreeSet::new();
        for rvi in
            self.controls.iter().filter_map(|control| control.machine.as_ref()).flat_map(|m| m.status().rvis)
        {
            let (Some(a), Some(b)) = (machine_of(rvi.a), machine_of(rvi.b)) else { continue };
            let shared =
                rvi.legs.iter().filter(|leg| rvi.state == RviState::Granted && leg.kind == LegKind::Unix);
            for leg in shared.map(|leg| leg.leg) {
                missing.extend((!a.has_shared_leg_to(rvi.b, leg)).then_some((rvi.a, rvi.b, leg)));
                missing.extend((!b.has_shared_leg_to(rvi.a, leg)).then_some((rvi.b, rvi.a, leg)));
            }
        }
        missing
    }

    /// Every pair of every LAN gets a datagram through both ways, over IPv4 and IPv6.
    fn everybody_talks(&mut self) -> Result<(), Violation> {
        let mut probes = Vec::new();
        let live = self.live_stations();
        for &from in &live {
            for &to in &live {
                let (a, b) = (self.stations[from], self.stations[to]);
                let judged = Some(a.node) != self.plan.hostile && Some(b.node) != self.plan.hostile;
                if from != to && a.lan == b.lan && judged {
                    probes.push(self.add_pair_source(from, to, true));
                    probes.push(self.add_pair_source(from, to, false));
                }
            }
        }
        let mut inward = Vec::new();
        for &member in &live {
            if let Some(outside) = self.outside_station().filter(|_| self.stations[member].lan == 0) {
                for over_ipv4 in [true, false] {
                    probes.push(self.add_pair_source(member, outside.0, over_ipv4));
                    inward.extend(self.add_inward_flow(member, over_ipv4));
                }
            }
        }
        let until = self.now() + TALK_MAX;
        while !probes.is_empty() || !inward.is_empty() {
            let now = self.now();
            if now >= until {
                let silent: Vec<_> = probes.iter().map(|&p| self.describe(p)).collect();
                return Err(self.stuck(format!("no word got through: {silent:?}, from outside {inward:?}")));
            }
            for &probe in &probes {
                self.send_one(now, probe);
            }
            inward.iter().for_each(|&flow| self.send_of_outside(now, flow));
            self.run_for(Duration::from_millis(60))?;
            inward.retain(|&flow| self.checker.progress(flow).1 == 0);
            probes.retain(|&probe| self.checker.progress(self.sources[probe].flow).1 == 0);
        }
        Ok(())
    }

    fn describe(&self, source: usize) -> String {
        let flow = self.checker.flow(self.sources[source].flow);
        let to = match flow.to {
            Receivers::One(StationIndex(to)) => to.to_string(),
            other => format!("{other:?}"),
        };
        let family = if flow.addressing.source.is_ipv4() { "IPv4" } else { "IPv6" };
        let accepted = self.checker.progress(self.sources[source].flow).0;
        format!("{} to {to} by {family}, {accepted} accepted", flow.from.0)
    }

    /// An idle process hardly runs (I-9). One that writes anything into its own rings may wait for ever for what its peers
    /// do not take.
    fn watch_idle(&mut self) -> Result<(), Violation> {
        let batches = |world: &Self| -> Vec<(u32, u64)> {
            let honest = world.nodes.iter().enumerate().filter(|(node, _)| world.plan.hostile != Some(*node));
            let schedules = honest.map(|(_, n)| &n.schedule);
            let all = schedules.chain(world.controls.iter().map(|c| &c.schedule));
            all.map(|schedule| (schedule.life, schedule.batches)).collect()
        };
        let before = batches(self);
        self.run_for(IDLE)?;
        let ran: Vec<u64> = batches(self)
            .into_iter()
            .zip(before)
            .filter_map(|(after, before)| ran_since(before, after))
            .collect();
        // Every neighbour may be probed: three probes and three answers, each a batch or two.
        let probed =
            if self.plan.elsewhere.is_empty() { 0 } else { IDLE_PROBES_MAX * self.nodes.len() as u64 };
        let most = IDLE_BATCHES_MAX + 24 * self.stations.len() as u64 + probed;
        match ran.iter().find(|&&ran| ran > most) {
            Some(_) => {
                let detail = format!("batches of idle processes in {IDLE:?}: {ran:?}");
                Err(Violation { invariant: "I-9 timers", at: self.now(), detail })
            }
            None => Ok(()),
        }
    }

    /// Every accepted frame ended once: delivered, or counted as a permitted loss (I-4).
    fn account(&mut self) -> Result<Outcome, Violation> {
        self.end_removed_nodes();
        let audit = self.checker.audit();
        let losses = self.losses();
        self.account_copies(&audit, &losses)?;
        let drops = losses.drops;
        let permitted: u64 = PERMITTED.iter().map(|&reason| drops.of(reason)).sum();
        // Beside these, what was on its way when the MTU became smaller, or came before its receiver heard of a larger one.
        let too_long = drops.of(DropReason::TooLong);
        let permitted = permitted - drops.of(DropReason::DeviceFull) + too_long.min(audit.long_lost);
        let too_long_apart = too_long.saturating_sub(audit.long_lost).min(audit.long_detached);
        let lost = audit.lost + audit.group_drops;
        // Unicast for a member that is not attached is a refusal with its own counter; so is what its node takes for a member
        // that it is no more.
        let refused = drops.of(DropReason::NotAttached) + drops.of(DropReason::NotMember) + too_long_apart;
        let unaccounted = lost > permitted || lost + audit.detached > permitted + refused;
        if unaccounted {
            let first: Vec<_> = self
                .checker
                .lost()
                .take(8)
                .map(|(f, n, at)| format!("flow {} number {n} of {at}", f.0))
                .collect();
            let counted: Vec<_> = drops.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
            let detail = format!("{lost} lost, {permitted} counted; {first:?}; {counted:?}; {audit:?}");
            return Err(Violation { invariant: "I-4 every frame ends once", at: self.now(), detail });
        }
        let coverage = self.coverage.clone();
        let underlay = self.underlay.counts();
        Ok(Outcome { audit, drops, coverage, underlay, digest: self.journal.digest(), ended: self.now() })
    }

    /// The invariant of a platform that does not come on.
    pub(super) fn stuck(&self, detail: String) -> Violation {
        Violation { invariant: "I-8 progress", at: self.now(), detail }
    }
}

/// Batches of a process between two looks at its life and its batches so far. None of one that started in between: it
/// counts from 0 again, and was not idle.
fn ran_since(before: (u32, u64), after: (u32, u64)) -> Option<u64> {
    (before.0 == after.0).then(|| after.1 - before.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_starts_again_is_not_judged_as_an_idle_one() {
        assert_eq!(ran_since((1, 100), (1, 130)), Some(30));
        // One that was asked to end before all was healed, and took its second for it.
        assert_eq!(ran_since((1, 100), (2, 30)), None);
    }
}
