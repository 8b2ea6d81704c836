//! The host of a control node: its runtime's loop in simulated time.

use std::collections::BTreeSet;
use std::time::Duration;

use rvi::Region;
use switch_server::control_node::{
    ArpMode, Command, ControlNode, ControlNodeConfig, ControlNodeEvent, FabricEntry, LanConfig, NodeEntry,
    Output, PortSecurity,
};
use vlan_core::group::members::MulticastConfig;
use vlan_core::server::MemberSlot;
use vlan_core::wire::control::LegKind;
use vlan_core::{CabinetNumber, Instant, LegNumber, NodeNumber, ProcessId, PublicKey, SecretKey};

use super::arenas::POLICY;
use super::connections::Party;
use super::process::Schedule;
use super::underlay::Sockets;
use super::{Event, World};
use crate::checker::StationIndex;
use crate::plan::{Plan, SERIAL};
use crate::simulation::Simulation;

/// See the module.
#[derive(Default)]
pub(super) struct ControlHost {
    pub schedule: Schedule,
    /// The machine, while the process lives.
    pub machine: Option<ControlNode>,
    /// It dies in its next batch that takes something, with these of its writes undone.
    pub undo_at_death: Option<super::faults::Undo>,
    /// It is to end in order.
    pub is_asked_to_end: bool,
    /// When it has, it is started again.
    pub is_started_again: bool,
    /// It is not started again, also when everything is healed.
    pub is_lost_for_good: bool,
    has_left: bool,
    /// The nodes that it serves.
    attached: BTreeSet<usize>,
    /// The memory of the arenas that this life has made.
    pub arenas: Vec<Region>,
    /// What has arrived by the fabrics.
    pub sockets: Sockets,
}

impl World {
    /// Starts a control node's process.
    pub(super) fn start_control(&mut self, now: Instant, control: usize) {
        let process = ProcessId(self.random.next_u64());
        let seed = self.random.next_u64();
        let mut config = self.control_config(process, seed);
        if let Some(lan) = config.lans.first_mut().filter(|lan| lan.id == self.plan.lans[0].id) {
            lan.clusters = self.cluster_entries_of(control);
        }
        let host = &mut self.controls[control];
        host.schedule.reborn(process);
        host.schedule.timers_late = self.timers_late;
        host.undo_at_death = None;
        (host.is_asked_to_end, host.is_started_again, host.has_left) = (false, false, false);
        host.sockets = Sockets::default();
        host.arenas.clear();
        let mut machine = ControlNode::new(config);
        machine.set_arena_policy(POLICY);
        machine.handle_cluster_role(now, self.cluster_role(control));
        self.device_found(now, &mut machine);
        if !self.plan.elsewhere.is_empty() {
            let seed = std::array::from_fn(|_| self.random.next_u64() as u8);
            let legs: Vec<LegNumber> = (0..self.plan.fabrics).map(LegNumber).collect();
            machine.enable_packets(Plan::control_key(control), seed, &legs);
            for leg in legs {
                machine.set_packet_len_max(leg, self.plan.packet_len_max);
            }
        }
        self.controls[control].machine = Some(machine);
        self.journal.line(now, format_args!("control node {control} starts as {process}"));
        self.run_at(Party::Control(control), now);
        // What the administrator cut stays cut: the management tool asks again.
        for (a, b, leg) in self.cuts.clone() {
            self.command(now, Command::Cut { a, b, leg });
        }
        self.drain_again(now);
    }

    fn control_config(&self, process: ProcessId, seed: u64) -> ControlNodeConfig {
        let live = self.live_stations();
        let lans = (0..self.plan.lans.len()).map(|place| {
            let of_lan = live.iter().copied().filter(|station| self.stations[*station].lan == place);
            let of_lan: Vec<usize> = of_lan.collect();
            let members = of_lan.iter().map(|&station| self.member_config(station)).collect();
            let multicast = self.multicast_config(place, &of_lan);
            LanConfig { members, multicast, ..self.lan_config(place) }
        });
        // A LAN without members has been removed.
        let lans = lans.filter(|lan: &LanConfig| !lan.members.is_empty());
        ControlNodeConfig {
            started: self.now(),
            serial: SERIAL,
            cabinet: CabinetNumber(1),
            process,
            epoch: self.epoch,
            seed,
            grant_key: SecretKey::new([7; 32]),
            fabrics: (0..self.plan.fabrics)
                .map(|leg| FabricEntry { is_trusted: Plan::is_trusted(leg), key: Plan::fabric_key(leg) })
                .collect(),
            nodes: self.node_entries(),
            devices: usize::from(self.plan.outside.is_some()),
            lans: lans.collect(),
        }
    }

    /// The nodes that the platform has now.
    pub(super) fn node_entries(&self) -> Vec<NodeEntry> {
        let has_packets = !self.plan.elsewhere.is_empty();
        let kinds = if has_packets { vec![LegKind::Unix, LegKind::Udp] } else { vec![LegKind::Unix] };
        let there = (0..self.plan.nodes).filter(|node| !self.removed_nodes.contains(node));
        let entries = there.map(|node| NodeEntry {
            number: Plan::number(node),
            name: format!("node{node}"),
            public_key: self.public_key(node),
            host: self.plan.elsewhere.contains(&node).then(|| format!("host{node}")),
            legs: vec![kinds.clone(); usize::from(self.plan.fabrics)],
        });
        entries.collect()
    }

    pub(super) fn public_key(&self, node: usize) -> PublicKey {
        if self.plan.elsewhere.is_empty() { PublicKey([node as u8; 32]) } else { Plan::key(node).public() }
    }

    /// A LAN without its members.
    pub(super) fn lan_config(&self, place: usize) -> LanConfig {
        let lan = &self.plan.lans[place];
        LanConfig {
            id: lan.id,
            name: format!("lan{}", lan.id),
            mtu: lan.mtu,
            arp: if lan.suppresses_arp { ArpMode::Suppress } else { ArpMode::Relay },
            port_security: if lan.checks_addresses { PortSecurity::Address } else { PortSecurity::Mac },
            multicast: Default::default(),
            uplink: self.uplink_config().filter(|_| place == 0),
            clusters: self.cluster_entries(place),
            members: Vec::new(),
        }
    }

    /// What a LAN of these stations does with multicast.
    pub(super) fn multicast_config(&self, lan: usize, stations: &[usize]) -> MulticastConfig {
        let slots = (0..).map(MemberSlot).zip(stations);
        let every_group = slots.filter(|(_, station)| self.gets_every_group[**station]).map(|(slot, _)| slot);
        MulticastConfig { floods: self.plan.lans[lan].floods, every_group: every_group.collect() }
    }

    /// One batch of a control node. Between any two calls into the machine the process may die.
    pub(super) fn run_control(&mut self, now: Instant, control: usize) {
        let Some(mut machine) = self.controls[control].machine.take() else { return };
        self.in_batch = Some(Vec::new());
        let over = self.control_batch(now, control, &mut machine);
        self.controls[control].machine = Some(machine);
        self.count_faults_of_batch();
        match over {
            Some(_) if self.controls[control].has_left => {
                let again = self.controls[control].is_started_again;
                self.end_control(now, control);
                if again {
                    let at = self.soon(Duration::from_millis(100));
                    self.queue.schedule(at, Event::Start { party: Party::Control(control) });
                }
            }
            Some((messages, more)) => {
                self.check_queues(control);
                let deadline = self.controls[control].machine.as_ref().and_then(ControlNode::poll_timeout);
                self.batch_over(now, Party::Control(control), messages, deadline, more);
            }
            None => self.end_control(now, control),
        }
    }

    fn control_batch(
        &mut self,
        now: Instant,
        control: usize,
        machine: &mut ControlNode,
    ) -> Option<(usize, bool)> {
        machine.wake();
        if self.controls[control].is_asked_to_end {
            machine.leave(now);
        }
        let packets = self.take_packets(now, Party::Control(control));
        let arrived = packets.len();
        for (leg, from, mut octets) in packets {
            machine.handle_packet(now, leg, from, &mut octets);
        }
        if machine.poll_timeout().is_some_and(|at| at <= now)
            && self.controls[control].schedule.timer_fired(now)
        {
            machine.handle_timeout(now);
        }
        self.control_step(control)?;
        let budget = self.controls[control].schedule.budget();
        let before = self.memory_before_death(control);
        let taken = machine.pump(now, budget);
        if let Some(before) = before
            && taken + arrived > 0
        {
            self.undo_writes(control, &before);
            return None;
        }
        self.control_step(control)?;
        while let Some((node, process, leg)) = machine.poll_doorbell() {
            let peer = Party::Node(usize::from(node.0) - 1);
            self.ring(Party::Control(control), peer, process, leg);
        }
        self.take_outside(now, machine);
        self.control_step(control)?;
        let sent = self.transmit_of_control(now, control, machine)?;
        while let Some(output) = machine.poll_output() {
            self.control_output(now, control, machine, output);
            self.control_step(control)?;
        }
        let handled = taken + arrived + sent;
        if taken == budget || self.has_packets(Party::Control(control)) {
            return Some((handled, true));
        }
        Some((handled, !machine.prepare_sleep()))
    }

    /// Sends the packets that are to go; returns how many transmissions. The process may die between any two.
    fn transmit_of_control(
        &mut self,
        now: Instant,
        control: usize,
        machine: &mut ControlNode,
    ) -> Option<usize> {
        let mut count = 0;
        while let Some(batch) = machine.poll_transmit(now, &mut self.buffer) {
            let octets = self.buffer.octets().to_vec();
            self.send_packets(
                now,
                Party::Control(control),
                (batch.leg, batch.to, batch.segment_len),
                &octets,
            );
            count += 1;
            self.control_step(control)?;
        }
        Some(count)
    }

    fn control_step(&mut self, control: usize) -> Option<()> {
        (!self.controls[control].schedule.dies_now()).then_some(())
    }

    fn control_output(&mut self, now: Instant, control: usize, machine: &mut ControlNode, output: Output) {
        match output {
            Output::MakeArena { lan, config } => self.make_arena(control, machine, lan, &config),
            Output::Introduce { a, b, epoch, leg } => self.introduce(a, b, epoch, leg),
            Output::CloseLeg { node, process, leg } => {
                let peer = Party::Node(usize::from(node.0) - 1);
                self.close_leg(Party::Control(control), peer, process, leg);
            }
            Output::Report { node, id, items, .. } => {
                self.journal.line(now, format_args!("report {id} of node {node}: {} items", items.len()));
            }
            Output::Captured { id, octets } => {
                self.journal.line(now, format_args!("capture {id}: {} octets", octets.len()));
            }
            Output::Traced { node, traced } => {
                self.journal.line(now, format_args!("node {node}: {traced:?}"));
            }
            Output::CaptureOver { id, .. } => self.journal.line(now, format_args!("capture {id} is over")),
            Output::Left => self.controls[control].has_left = true,
            Output::Log(event) => {
                self.note_attachment(now, control, &event);
                self.journal.line(now, format_args!("control node {control}: {event}"));
            }
        }
    }

    fn note_attachment(&mut self, now: Instant, control: usize, event: &ControlNodeEvent) {
        let (number, attached) = match event {
            ControlNodeEvent::Attached { node, .. } => (*node, true),
            ControlNodeEvent::Detached { node, .. } => (*node, false),
            _ => return,
        };
        let node = usize::from(number.0) - 1;
        if attached {
            self.controls[control].attached.insert(node);
        } else {
            self.controls[control].attached.remove(&node);
            self.excuse_calls_of(node);
        }
        self.judge_attachment(now);
    }

    /// Tells the checker whom some control node serves.
    fn judge_attachment(&mut self, now: Instant) {
        for (place, station) in self.stations.iter().enumerate() {
            let attached = self.controls.iter().any(|control| control.attached.contains(&station.node));
            self.checker.attach(now, StationIndex(place), attached);
        }
    }

    /// The administrator asks every living control node for something.
    pub(super) fn command(&mut self, now: Instant, command: Command) {
        for control in 0..self.controls.len() {
            if let Some(machine) = &mut self.controls[control].machine {
                machine.handle_command(now, command.clone());
                self.run_at(Party::Control(control), now);
            }
        }
    }

    /// Cuts the direct RVIs of two nodes, or one leg, until [`Self::heal`].
    pub fn cut(&mut self, a: NodeNumber, b: NodeNumber, leg: Option<LegNumber>) {
        self.cuts.push((a, b, leg));
        let now = self.now();
        self.journal.line(now, format_args!("cut {a} {b} {leg:?}"));
        self.command(now, Command::Cut { a, b, leg });
    }

    /// Heals whatever was cut between two nodes.
    pub fn heal(&mut self, a: NodeNumber, b: NodeNumber) {
        self.cuts.retain(|(of, and, _)| (*of, *and) != (a, b));
        let now = self.now();
        self.journal.line(now, format_args!("heal {a} {b}"));
        self.command(now, Command::Heal { a, b, leg: None });
    }

    /// The process dies: its sockets go with it.
    pub(super) fn end_control(&mut self, now: Instant, control: usize) {
        if self.controls[control].machine.is_none() {
            return;
        }
        self.bury_control(control);
        self.journal.line(now, format_args!("control node {control} dies"));
        self.controls[control].machine = None;
        self.device_lost(now);
        self.controls[control].attached.clear();
        self.judge_attachment(now);
        self.hang_up_all(Party::Control(control));
    }
}
