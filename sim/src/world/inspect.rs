//! Reading the machines' own counters and bounds: the ledger, the permitted losses, the queues.

use rvi::ShmConfig;
use rvi::ring::SLOT_LEN;
use switch_node::node::Node;
use switch_server::control_node::ControlNode;
use vlan_core::DropReason;
use vlan_core::counters::DropCounters;
use vlan_core::limits::MESSAGE_WINDOW;

use super::World;
use crate::checker::Violation;
use crate::simulation::Simulation;

/// Frames that an interface holds of its stack's, and their octets (spec/timers.md).
const HELD_FRAMES_MAX: usize = 256;
const HELD_OCTETS_MAX: usize = 1_048_864;
/// Messages that wait for room towards one node at a control node, and their octets (spec/timers.md).
const PARK_MESSAGES_MAX: usize = 1024;
const PARK_OCTETS_MAX: usize = 1 << 20;
/// The same of control messages.
const CONTROL_QUEUE_MAX: usize = 16_384;
const CONTROL_QUEUE_OCTETS_MAX: usize = 4 << 20;
/// Octets of messages that a transport keeps (spec/packet-sender.md), where none has come to an end yet.
const SEND_OCTETS_MAX: usize = 4 << 20;
/// The losses that an accepted frame may suffer (DESIGN.md, section 1).
pub(super) const PERMITTED: [DropReason; 4] =
    [DropReason::Expired, DropReason::EgressFull, DropReason::DeviceFull, DropReason::PeerGone];

/// Why copies for promiscuous listeners are lost.
pub(super) const LOST_COPIES: [DropReason; 3] =
    [DropReason::ListenerFull, DropReason::ListenerGone, DropReason::NotListening];

/// Drops counted by machines.
#[derive(Clone, Debug, Default)]
pub(super) struct Losses {
    pub drops: DropCounters,
    /// Of these, messages that control nodes which died had in packets: frames or copies.
    pub at_risk: u64,
}

impl Losses {
    fn add(&mut self, drops: &DropCounters) {
        for (reason, frames) in drops.iter() {
            self.drops.add_many(reason, frames);
        }
    }

    fn add_node(&mut self, machine: &Node) {
        self.add(machine.drops());
        self.add(&machine.former_counters().drops);
        for interface in machine.interfaces() {
            self.add(&interface.counters.drops);
        }
    }

    fn add_control(&mut self, machine: &ControlNode) {
        let status = machine.status();
        self.add(&status.drops);
        for lan in status.lans {
            self.add(&lan.drops);
        }
        status.uplinks.iter().for_each(|uplink| self.add(&uplink.counters.drops));
        status.devices.iter().for_each(|device| self.add(&device.drops));
    }
}

impl World {
    /// Keeps the counters of a node's process that is about to die, and checks them one last time.
    pub(super) fn bury_node(&mut self, node: usize) {
        self.check_node(node);
        if let Some(machine) = &self.nodes[node].machine {
            self.dead.add_node(machine);
        }
    }

    /// The same for a control node.
    pub(super) fn bury_control(&mut self, control: usize) {
        if let Some(machine) = &self.controls[control].machine {
            self.dead.add_control(machine);
            // Nobody is left to count these.
            self.dead.drops.add_many(DropReason::PeerGone, machine.at_risk() as u64);
            self.dead.at_risk += machine.at_risk() as u64;
        }
    }

    /// What all machines, living and dead, have counted as dropped.
    pub(super) fn losses(&self) -> Losses {
        let mut losses = self.dead.clone();
        for machine in self.nodes.iter().filter_map(|n| n.machine.as_ref()) {
            losses.add_node(machine);
        }
        for machine in self.controls.iter().filter_map(|c| c.machine.as_ref()) {
            losses.add_control(machine);
        }
        losses
    }

    /// What every machine knows, for a failure's report.
    pub(super) fn describe_machines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (place, host) in self.nodes.iter().enumerate() {
            let Some(machine) = &host.machine else { continue };
            lines.push(format!("node {place}: attached {}", machine.is_attached()));
            for interface in machine.interfaces() {
                let counters = interface.counters;
                lines.push(format!(
                    "  vif {}: direct {} out {} in, relay {} out {} in, {} held, drops {:?}",
                    interface.config.vif,
                    counters.sent_direct.frames,
                    counters.received_direct.frames,
                    counters.sent_relay.frames,
                    counters.received_relay.frames,
                    interface.held,
                    counters.drops.iter().collect::<Vec<_>>()
                ));
                let peers = interface.peers.iter();
                lines.extend(peers.map(|p| {
                    format!("    to node {} {:?} {:?}, process {}", p.node, p.path, p.direct, p.process)
                }));
            }
        }
        let nodes = self.nodes.iter().map(|n| &n.schedule);
        lines.extend(nodes.chain(self.controls.iter().map(|c| &c.schedule)).map(|s| format!("{s:?}")));
        for machine in self.controls.iter().filter_map(|c| c.machine.as_ref()) {
            let status = machine.status();
            for lan in status.lans {
                let drops: Vec<_> = lan.drops.iter().collect();
                lines.push(format!("LAN {}: {:?}, drops {drops:?}", lan.id, lan.ledger));
            }
            lines.extend(status.rvis.iter().map(|rvi| format!("{rvi:?}")));
        }
        lines
    }

    /// What a node may hold besides its rings: frames and octets. Frames that come back from direct RVIs and from lost
    /// control nodes were in rings or transports before; each is there once.
    fn held_max(&self, node: usize, interfaces: usize) -> (usize, usize) {
        let legs = usize::from(self.plan.fabrics);
        let slots = |rings: &ShmConfig| legs << rings.slots_log2;
        let octets = |rings: &ShmConfig| legs * (rings.arena_len as usize + (SLOT_LEN << rings.slots_log2));
        let apart =
            (0..self.plan.nodes).filter(|peer| *peer != node && self.plan.are_apart(node, *peer)).count();
        let peers = self.plan.nodes - 1 - apart;
        (
            interfaces * HELD_FRAMES_MAX
                + peers * slots(&self.plan.pair_rings)
                + apart * interfaces * MESSAGE_WINDOW as usize,
            interfaces * HELD_OCTETS_MAX + peers * octets(&self.plan.pair_rings) + apart * SEND_OCTETS_MAX,
        )
    }

    /// The same for what a lost control node had not settled.
    fn unsettled_max(&self, node: usize, interfaces: usize) -> (usize, usize) {
        if self.plan.elsewhere.contains(&node) {
            return (2 * interfaces * MESSAGE_WINDOW as usize, SEND_OCTETS_MAX);
        }
        let (legs, rings) = (usize::from(self.plan.fabrics), &self.plan.control_rings);
        let octets = rings.arena_len as usize + (SLOT_LEN << rings.slots_log2);
        (legs << rings.slots_log2, legs * octets)
    }

    /// Checks a node's ledger and bounds (I-7, "the ledger closes").
    pub(super) fn check_node(&mut self, node: usize) {
        let host = &self.nodes[node];
        let Some(machine) = &host.machine else { return };
        if self.plan.hostile == Some(node) {
            // What it counts is its own affair; it may even die between delivering a frame and counting it.
            return;
        }
        let (mut sent, mut received, mut dropped, mut held, mut refused) = (0, 0, 0, 0, 0);
        let (mut held_octets, mut interfaces, mut copies) = (0, 0, 0);
        let counters = machine.interfaces().map(|interface| interface.counters);
        for counters in counters.chain([machine.former_counters()]) {
            sent += counters.sent_direct.frames + counters.sent_relay.frames;
            received += counters.received_direct.frames + counters.received_relay.frames;
            dropped +=
                counters.drops.total() - LOST_COPIES.iter().map(|&r| counters.drops.of(r)).sum::<u64>();
            refused += counters.drops.of(DropReason::DeviceFull);
        }
        for interface in machine.interfaces() {
            copies += interface.copies;
            held += interface.held;
            held_octets += interface.held_octets;
            interfaces += 1;
        }
        let (held_max, unsettled, unsettled_max) =
            (self.held_max(node, interfaces), machine.unsettled(), self.unsettled_max(node, interfaces));
        let fault = if held > held_max.0 || held_octets > held_max.1 {
            Some(("I-7 bounds", format!("{held} frames of {held_octets} octets held, at most {held_max:?}")))
        } else if copies > held_max.0 {
            Some(("I-7 bounds", format!("{copies} copies held, at most {}", held_max.0)))
        } else if unsettled.0 > unsettled_max.0 || unsettled.1 > unsettled_max.1 {
            Some(("I-7 bounds", format!("{unsettled:?} unsettled, at most {unsettled_max:?}")))
        } else if host.taken > sent + dropped + held as u64 {
            let taken = host.taken;
            Some(("the ledger closes", format!("{taken} taken, {sent} sent, {dropped} dropped, {held} held")))
        } else if received != host.delivered {
            let delivered = host.delivered;
            Some(("the ledger closes", format!("{delivered} delivered, {received} counted")))
        } else if refused != host.refused {
            let by_device = host.refused;
            Some(("the ledger closes", format!("{by_device} refused by devices, {refused} counted")))
        } else {
            None
        };
        if let Some((invariant, what)) = fault {
            let detail = format!("node {node}: {what}");
            self.break_invariant(Violation { invariant, at: self.now(), detail });
        }
    }

    /// Checks what a control node holds for its nodes (I-7).
    pub(super) fn check_queues(&mut self, control: usize) {
        let Some(machine) = &self.controls[control].machine else { return };
        let is_over = |w: &rvi::Waiting| {
            w.messages > PARK_MESSAGES_MAX
                || w.octets > PARK_OCTETS_MAX
                || w.control_messages > CONTROL_QUEUE_MAX
                || w.control_octets > CONTROL_QUEUE_OCTETS_MAX
        };
        let over = machine.waiting().find(|(_, waiting)| is_over(waiting));
        if let Some((node, waiting)) = over {
            let detail = format!("control node {control} holds {waiting:?} for node {node}");
            self.break_invariant(Violation { invariant: "I-7 bounds", at: self.now(), detail });
        }
    }

    /// Checks a control node's ledger.
    pub(super) fn check_control(&mut self, control: usize) {
        let Some(machine) = &self.controls[control].machine else { return };
        let open = machine.status().lans.into_iter().find(|lan| !lan.ledger.closes(lan.drops.total()));
        if let Some(lan) = open {
            let detail = format!(
                "control node {control}, LAN {}: {:?} with {} drops",
                lan.id,
                lan.ledger,
                lan.drops.total()
            );
            self.break_invariant(Violation { invariant: "the ledger closes", at: self.now(), detail });
        }
    }
}
