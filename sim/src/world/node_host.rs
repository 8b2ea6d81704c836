//! The host of a node: the agent's loop in simulated time.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use switch_node::node::{Accept, Node, NodeConfig, Output};
use vlan_core::wire::control::{GrantedLeg, InterfaceConfig, OfferedLeg};
use vlan_core::{CabinetNumber, Instant, LegNumber, ProcessId, VifNumber};

use super::connections::{Party, party_of};
use super::listeners::dropped_at_once;
use super::process::Schedule;
use super::sink::Devices;
use super::underlay::{Sockets, address};
use super::{Event, World};
use crate::checker::{FlowIndex, StationIndex};
use crate::coverage::Fault;
use crate::plan::Plan;
use crate::stack::{Outgoing, PLAIN, Stack};

/// See the module.
#[derive(Default)]
pub(super) struct NodeHost {
    pub schedule: Schedule,
    /// The machine, while the process lives.
    pub machine: Option<Node>,
    /// The stacks above its interfaces, by interface number.
    pub stacks: BTreeMap<u16, Stack>,
    /// When the stacks' timers are due next.
    stack_timer: Option<Instant>,
    /// Of 100 frames, how many its devices refuse.
    pub refuse_percent: u64,
    /// Frames that its devices refused in this life.
    pub refused: u64,
    /// Frames that its devices got in this life.
    pub delivered: u64,
    /// Frames that the machine took from its stacks in this life.
    pub taken: u64,
    /// A newer process serves this node.
    pub fenced: bool,
    /// It has been asked to end.
    pub is_asked_to_end: bool,
    /// Another process is started when it has ended.
    pub is_started_again: bool,
    /// It has left all its legs and ends with this batch.
    has_left: bool,
    /// What has arrived by the fabrics.
    pub sockets: Sockets,
}

impl World {
    /// Starts a node's process.
    pub(super) fn start_node(&mut self, now: Instant, node: usize) {
        let process = ProcessId(self.random.next_u64());
        let seed = self.random.next_u64();
        let legs: Vec<LegNumber> = (0..self.plan.fabrics).map(LegNumber).collect();
        let host = &mut self.nodes[node];
        host.schedule.reborn(process);
        host.schedule.timers_late = self.timers_late;
        host.refuse_percent = 0;
        (host.refused, host.delivered, host.taken) = (0, 0, 0);
        host.stack_timer = None;
        (host.is_asked_to_end, host.is_started_again, host.has_left) = (false, false, false);
        host.sockets = Sockets::default();
        let is_elsewhere = self.plan.elsewhere.contains(&node);
        let control_legs = if is_elsewhere { Vec::new() } else { legs };
        let mut machine = Node::new(NodeConfig {
            number: Plan::number(node),
            process,
            cabinet: CabinetNumber(1),
            control_node_legs: vec![control_legs; self.plan.control_nodes],
            seed,
        });
        machine.enable_arenas();
        if !self.plan.elsewhere.is_empty() {
            self.give_packets(now, node, &mut machine);
        }
        self.nodes[node].machine = Some(machine);
        self.journal.line(now, format_args!("node {node} starts as {process}"));
        self.run_at(Party::Node(node), now);
    }

    /// What the agent tells its machine of sockets and platform file before the first batch.
    fn give_packets(&mut self, now: Instant, node: usize, machine: &mut Node) {
        let seed = std::array::from_fn(|_| self.random.next_u64() as u8);
        machine.enable_packets(Plan::key(node), seed);
        let legs: Vec<LegNumber> = (0..self.plan.fabrics).map(LegNumber).collect();
        for &leg in &legs {
            machine.set_packet_len_max(leg, self.plan.packet_len_max);
        }
        if self.plan.elsewhere.contains(&node) {
            for control in 0..self.plan.control_nodes {
                let granted = legs.iter().map(|&leg| GrantedLeg {
                    leg,
                    address: address(Party::Control(control), leg),
                    is_trusted: Plan::is_trusted(leg.0),
                    fabric_key: Plan::fabric_key(leg.0),
                });
                machine.reach_by_packets(
                    control as u8,
                    Plan::control_key(control).public(),
                    granted.collect(),
                );
            }
        }
        let offered = legs.iter().map(|&leg| {
            let own = address(Party::Node(node), leg);
            OfferedLeg { leg, address: own }
        });
        machine.handle_leg_addresses(now, &offered.collect::<Vec<_>>());
    }

    /// One batch of a node, as the agent does it. Between any two calls into the machine the process may die.
    pub(super) fn run_node(&mut self, now: Instant, node: usize) {
        let Some(mut machine) = self.nodes[node].machine.take() else { return };
        self.in_batch = Some(Vec::new());
        let over = if self.plan.hostile == Some(node) {
            // It spoils its own memory: where that makes its own process fail, it has killed itself.
            catch_unwind(AssertUnwindSafe(|| self.node_batch(now, node, &mut machine))).unwrap_or(None)
        } else {
            self.node_batch(now, node, &mut machine)
        };
        self.nodes[node].machine = Some(machine);
        self.count_faults_of_batch();
        match over {
            Some(_) if self.nodes[node].has_left => {
                let again = self.nodes[node].is_started_again;
                self.end_node(now, node);
                if again {
                    let at = self.soon(std::time::Duration::from_millis(100));
                    self.queue.schedule(at, Event::Start { party: Party::Node(node) });
                }
            }
            Some((messages, more)) => {
                let deadline = self.nodes[node].machine.as_ref().and_then(Node::poll_timeout);
                self.check_node(node);
                self.check_beliefs(node);
                self.check_cluster_beliefs(node);
                self.batch_over(now, Party::Node(node), messages, deadline, more);
                self.stack_changed(now, node);
            }
            None => {
                self.end_node(now, node);
                let at = self.soon(std::time::Duration::from_millis(50));
                self.queue.schedule(at, Event::Start { party: Party::Node(node) });
            }
        }
    }

    /// Returns the messages handled and whether to go on at once; `None`: the process dies here.
    fn node_batch(&mut self, now: Instant, node: usize, machine: &mut Node) -> Option<(usize, bool)> {
        machine.wake();
        if self.nodes[node].is_asked_to_end {
            machine.leave(now);
        }
        let packets = self.take_packets(now, Party::Node(node));
        let arrived = packets.len();
        for (leg, from, mut octets) in packets {
            machine.handle_packet(now, leg, from, &mut octets);
        }
        if machine.poll_timeout().is_some_and(|at| at <= now) && self.nodes[node].schedule.timer_fired(now) {
            machine.handle_timeout(now);
        }
        self.step(node)?;
        let budget = self.nodes[node].schedule.budget();
        let received = self.receive(now, node, machine, budget);
        self.step(node)?;
        let (sent, busy) = self.send_frames(now, node, machine, budget)?;
        machine.publish(now);
        self.step(node)?;
        while let Some((peer, process, leg)) = machine.poll_doorbell() {
            self.ring(Party::Node(node), party_of(peer), process, leg);
        }
        self.step(node)?;
        let sent_packets = self.transmit_of_node(now, node, machine)?;
        while let Some(output) = machine.poll_output() {
            self.node_output(now, node, machine, output);
            self.step(node)?;
        }
        let handled = received + sent + arrived + sent_packets;
        if received == budget || sent == budget || self.has_packets(Party::Node(node)) {
            return Some((handled, true));
        }
        let quiet = machine.prepare_sleep();
        // One that is on its way out takes nothing more from its stacks.
        if busy && quiet && !machine.is_leaving() {
            // Nobody rings when room comes back: the agent tries again soon.
            let at = now + std::time::Duration::from_micros(200);
            self.nodes[node].schedule.busy_until = now;
            self.run_at(Party::Node(node), at);
        }
        Some((handled, !quiet))
    }

    /// Sends the packets that are to go; returns how many transmissions. The process may die between any two.
    fn transmit_of_node(&mut self, now: Instant, node: usize, machine: &mut Node) -> Option<usize> {
        let mut count = 0;
        while let Some(batch) = machine.poll_transmit(now, &mut self.buffer) {
            let octets = self.buffer.octets().to_vec();
            self.send_packets(now, Party::Node(node), (batch.leg, batch.to, batch.segment_len), &octets);
            count += 1;
            self.step(node)?;
        }
        Some(count)
    }

    fn step(&mut self, node: usize) -> Option<()> {
        (!self.nodes[node].schedule.dies_now()).then_some(())
    }

    fn receive(&mut self, now: Instant, node: usize, machine: &mut Node, budget: usize) -> usize {
        let host = &mut self.nodes[node];
        let mut devices = Devices {
            now,
            node,
            plan: &self.plan,
            stations: &self.stations,
            promiscuous: &self.promiscuous,
            stacks: &mut host.stacks,
            checker: &mut self.checker,
            journal: &mut self.journal,
            random: &mut self.random,
            refuse_percent: host.refuse_percent,
            violation: &mut self.violation,
            is_hostile: self.plan.hostile == Some(node),
            refused: 0,
            delivered: 0,
            segments: Vec::new(),
        };
        let received = machine.receive(now, budget, &mut devices);
        let (refused, delivered) = (devices.refused, devices.delivered);
        let segments = std::mem::take(&mut devices.segments);
        host.refused += refused;
        host.delivered += delivered;
        if refused > 0 {
            self.count_fault_of(Fault::DeviceFull, Party::Node(node));
        }
        for (station, segment) in segments {
            self.segment_arrives(now, station, segment);
        }
        received
    }

    /// Offers what the stacks have; returns how many frames were taken, and whether the way of one was full.
    fn send_frames(
        &mut self,
        now: Instant,
        node: usize,
        machine: &mut Node,
        budget: usize,
    ) -> Option<(usize, bool)> {
        let (mut sent, mut busy) = (0, false);
        let vifs: Vec<u16> = self.nodes[node].stacks.keys().copied().collect();
        for vif in vifs {
            while sent < budget
                && let Some(outgoing) = self.nodes[node].stacks.get(&vif).and_then(|s| s.peek().cloned())
            {
                if self.offer(now, machine, (node, VifNumber(vif)), &outgoing) == Accept::Busy {
                    busy = true;
                    self.count_fault_of(Fault::Starved, Party::Node(node));
                    break;
                }
                sent += 1;
                self.nodes[node].taken += 1;
                if let Some(stack) = self.nodes[node].stacks.get_mut(&vif) {
                    stack.pop();
                }
                if self.nodes[node].schedule.dies_after.is_some() {
                    self.step(node)?;
                }
            }
        }
        Some((sent, busy))
    }

    fn offer(
        &mut self,
        now: Instant,
        machine: &mut Node,
        (node, vif): (usize, VifNumber),
        outgoing: &Outgoing,
    ) -> Accept {
        match outgoing {
            Outgoing::Frame(frame) => {
                let before = self.relayed_before_answer(machine, vif, frame);
                let accept = machine.send_frame(now, vif, &PLAIN, frame);
                if let Some(before) = before {
                    self.judge_answer(machine, vif, before);
                }
                accept
            }
            Outgoing::Datagram(datagram, _) => {
                let flow = FlowIndex(datagram.flow as usize);
                let mtu = self.nodes[node].stacks[&vif.0].config.mtu;
                let (vnet, frame) = self.checker.next_frame(flow, datagram.frame_len, mtu);
                let before = dropped_at_once(machine, vif);
                let accept = machine.send_frame(now, vif, &vnet, &frame);
                if accept != Accept::Busy {
                    self.journal.record(now, &[5, u64::from(datagram.flow), frame.len() as u64]);
                    self.journal.trace(
                        now,
                        format_args!("flow {} number {} accepted", flow.0, self.checker.progress(flow).0),
                    );
                    let is_sent = dropped_at_once(machine, vif) == before;
                    let listeners = if is_sent { self.listeners_of(machine, vif) } else { Vec::new() };
                    self.checker.frame_accepted(now, flow, (datagram.frame_len, mtu), &listeners);
                }
                accept
            }
        }
    }

    fn node_output(&mut self, now: Instant, node: usize, machine: &mut Node, output: Output) {
        match output {
            Output::Connect { control_node, leg, session } => {
                self.start_connecting(node, usize::from(control_node), leg, session);
            }
            Output::CloseLeg { peer, process, leg } => {
                self.close_leg(Party::Node(node), party_of(peer), process, leg);
            }
            Output::Interface(config) => self.interface_up(now, node, machine, config),
            Output::InterfaceRemoved { vif } => self.interface_down(node, vif),
            Output::WallClock => machine.handle_wall_clock(now, now.as_nanos()),
            Output::Fenced => self.nodes[node].fenced = true,
            Output::Left => self.nodes[node].has_left = true,
            Output::Fault(fault) => self.journal.line(now, format_args!("node {node}: {fault:?}")),
            Output::Check(asked) => self.check_service(now, node, machine, &asked),
            Output::Log(event) => self.journal.line(now, format_args!("node {node}: {event}")),
        }
    }

    fn interface_up(&mut self, now: Instant, node: usize, machine: &mut Node, config: InterfaceConfig) {
        let vif = config.vif;
        let Some(station) = self.station_at(node, vif) else {
            let detail = format!("node {node} got an interface {vif} that the platform does not have");
            let invariant = "nothing reaches a non-member";
            self.break_invariant(crate::checker::Violation { invariant, at: now, detail });
            return;
        };
        let times = self.plan.stack_times;
        match self.nodes[node].stacks.get_mut(&vif.0) {
            Some(stack) => stack.reconfigure(now, config),
            None => {
                self.journal.line(now, format_args!("node {node}: interface {vif} is station {}", station.0));
                self.checker.station_up(station);
                self.nodes[node].stacks.insert(vif.0, Stack::new(now, config, times));
            }
        }
        if let Some(stack) = self.nodes[node].stacks.get(&vif.0) {
            machine.handle_addresses(now, vif, stack.addresses());
        }
        self.tell_memberships(station.0, machine, vif);
        self.tell_promiscuity(station.0, machine, vif);
        self.tell_listening(now, node, machine, vif);
        self.run_at(Party::Node(node), now);
    }

    fn interface_down(&mut self, node: usize, vif: VifNumber) {
        if self.nodes[node].stacks.remove(&vif.0).is_some()
            && let Some(StationIndex(station)) = self.station_at(node, vif)
        {
            self.checker.station_down(self.queue.now(), StationIndex(station));
            self.calls_end(StationIndex(station));
        }
    }

    /// Arms the stacks' timer for what they want next.
    pub(super) fn stack_changed(&mut self, _now: Instant, node: usize) {
        let host = &mut self.nodes[node];
        let next = host.stacks.values().filter_map(Stack::poll_timeout).min();
        if let Some(at) = next
            && host.stack_timer.is_none_or(|armed| armed > at)
        {
            host.stack_timer = Some(at);
            let life = host.schedule.life;
            self.queue.schedule(at, Event::Stack { node, life });
        }
    }

    pub(super) fn stack_timers(&mut self, now: Instant, node: usize, life: u32) {
        let host = &mut self.nodes[node];
        if host.schedule.life != life {
            return;
        }
        host.stack_timer = None;
        for (&vif, stack) in &mut host.stacks {
            if stack.handle_timeout(now)
                && let Some(machine) = &mut host.machine
            {
                machine.handle_addresses(now, VifNumber(vif), stack.addresses());
            }
        }
        self.stack_changed(now, node);
        self.wake(Party::Node(node));
    }

    /// The process dies: its devices and sockets go with it.
    pub(super) fn end_node(&mut self, now: Instant, node: usize) {
        if self.nodes[node].machine.is_none() {
            return;
        }
        self.bury_node(node);
        self.journal.line(now, format_args!("node {node} dies"));
        let vifs: Vec<u16> = self.nodes[node].stacks.keys().copied().collect();
        for vif in vifs {
            self.interface_down(node, VifNumber(vif));
        }
        self.nodes[node].machine = None;
        self.hang_up_all(Party::Node(node));
    }
}
