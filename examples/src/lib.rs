//! The smallest host of the machines: one control node and its nodes in one program, over memory on the heap.
//!
//! A host does what a machine must not: it keeps the clock, makes the memory of legs, carries out what
//! `poll_output` asks for and takes frames to and from stacks. [`Fabric`] is all of that without a socket, a
//! thread or a system call. The agent of `switch-node` and the runtime of `switch-server` are the same loop
//! around real sockets.

use std::time::Duration;

use rvi::{Region, SharedOctets, ShmConfig, ShmLeg};
use switch_node::node::{self, Delivery, FrameSink, Node, NodeConfig, PeerId};
use switch_server::control_node::{
    self, ArpMode, ControlNode, ControlNodeConfig, FabricEntry, LanConfig, MemberConfig, NodeEntry,
    PortSecurity,
};
use vlan_core::limits::{LAN_MTU, RECONNECT_MAX};
use vlan_core::wire::Vnet;
use vlan_core::wire::control::LegKind;
use vlan_core::{
    CabinetNumber, ControlNodeSerial, Instant, LanId, LegNumber, MacAddress, NodeNumber, ProcessId,
    PublicKey, SecretKey, VifNumber,
};

/// The leg between a node and the control node: there is one fabric.
const LEG: LegNumber = LegNumber(0);
/// Turns in one call of [`Fabric::run`], far more than a few frames and a few seconds need.
const TURNS_MAX: usize = 100_000;
/// Messages that a machine takes in one turn.
const BUDGET: usize = 256;
/// The type of every frame here, which is for local experiments (IEEE 802, 9.2.4).
const ETHER_TYPE: [u8; 2] = [0x88, 0xb5];

/// A node with what its stack has received.
pub struct HostedNode {
    /// The machine.
    pub node: Node,
    /// Its process.
    pub process: ProcessId,
    /// The frames that came out of the fabric, oldest first, with the interface they came out of.
    pub received: Received,
}

/// The frames of [`frame`] that came out of the fabric. Others are for the stack that a real host has: a driver asks it for
/// its multicast groups, as a querier does.
#[derive(Default)]
pub struct Received(pub Vec<(VifNumber, Vec<u8>)>);

impl FrameSink for Received {
    fn deliver(&mut self, vif: VifNumber, _vnet: &Vnet, head: &[u8], rest: SharedOctets<'_>) -> Delivery {
        // The head is a private copy that has been checked; the rest is copied out of shared memory now.
        let mut frame = head.to_vec();
        frame.resize(head.len() + rest.len(), 0);
        rest.copy_to(&mut frame[head.len()..]);
        if frame.get(12..14) == Some(&ETHER_TYPE[..]) {
            self.0.push((vif, frame));
        }
        Delivery::Taken
    }
}

/// One control node, some nodes, and the clock.
pub struct Fabric {
    /// The time that the machines are told.
    pub now: Instant,
    /// The control node, while it lives.
    pub control_node: Option<ControlNode>,
    /// Its process: each start is another one. A real host draws it at random.
    control_process: ProcessId,
    /// The nodes; the node with number n is at n - 1.
    pub nodes: Vec<HostedNode>,
    /// What the machines had to say to an operator.
    pub log: Vec<String>,
}

impl Fabric {
    /// Makes `count` nodes that are all members of one LAN, and runs until each is attached.
    ///
    /// # Panics
    /// When a node does not attach: a mistake in the machines.
    #[must_use]
    pub fn new(count: u16) -> Self {
        let numbers: Vec<_> = (1..=count).map(NodeNumber).collect();
        let mut fabric = Self {
            now: Instant::ZERO,
            control_node: None,
            control_process: ProcessId(0xc0),
            nodes: numbers.iter().map(|number| hosted(*number)).collect(),
            log: Vec::new(),
        };
        fabric.start_control_node();
        assert!(fabric.nodes.iter().all(|n| n.node.is_attached()), "not attached: {:#?}", fabric.log);
        fabric
    }

    /// Starts the control node, with the configuration that it always has, and lets the nodes find it.
    pub fn start_control_node(&mut self) {
        let numbers: Vec<_> = self.nodes.iter().map(|n| n.node.number()).collect();
        self.control_process = ProcessId(self.control_process.0 + 1);
        self.control_node = Some(ControlNode::new(configuration(&numbers, self.control_process)));
        self.run(2 * RECONNECT_MAX);
    }

    /// Ends the control node as a crash would: its nodes see their sockets hang up.
    pub fn kill_control_node(&mut self) {
        self.control_node = None;
        for hosted in &mut self.nodes {
            hosted.node.handle_leg_gone(self.now, PeerId::ControlNode(0), self.control_process, LEG);
        }
        self.run(Duration::from_millis(1));
    }

    /// Gives `frame` to the fabric as the stack of node `from` would, and runs until it has arrived.
    ///
    /// # Panics
    /// When the machine is busy, which one frame at a time cannot make it.
    pub fn send(&mut self, from: NodeNumber, frame: &[u8]) {
        let node = &mut self.nodes[usize::from(from.0) - 1].node;
        let accept = node.send_frame(self.now, VifNumber(1), &Vnet::default(), frame);
        assert_eq!(accept, node::Accept::Taken);
        node.publish(self.now);
        self.run(Duration::from_micros(10));
    }

    /// Lets `span` pass, and runs every machine whenever it has something to do.
    ///
    /// # Panics
    /// When the machines keep one another busy without end: a mistake in them.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        for turn in 0.. {
            assert!(turn < TURNS_MAX, "no rest before {end}: {:#?}", self.log);
            if self.step() > 0 {
                continue;
            }
            let timeouts = self.nodes.iter().filter_map(|n| n.node.poll_timeout());
            let control_node = self.control_node.as_ref().and_then(ControlNode::poll_timeout);
            let next = timeouts.chain(control_node).min();
            match next {
                Some(at) if at <= end => self.now = self.now.max(at),
                _ => break,
            }
            for hosted in &mut self.nodes {
                hosted.node.handle_timeout(self.now);
                hosted.node.publish(self.now);
            }
            if let Some(control_node) = &mut self.control_node {
                control_node.handle_timeout(self.now);
            }
        }
        self.now = end;
    }

    /// One turn of every machine; returns how much there was to do.
    fn step(&mut self) -> usize {
        let mut done = 0;
        for hosted in &mut self.nodes {
            done += hosted.node.receive(self.now, BUDGET, &mut hosted.received);
            hosted.node.publish(self.now);
        }
        if let Some(control_node) = &mut self.control_node {
            done += control_node.pump(self.now, BUDGET);
        }
        for i in 0..self.nodes.len() {
            while let Some(output) = self.nodes[i].node.poll_output() {
                self.carry_out(i, output);
                done += 1;
            }
        }
        while let Some(output) = self.control_node.as_mut().and_then(ControlNode::poll_output) {
            self.carry_out_for_control_node(output);
            done += 1;
        }
        done
    }

    fn carry_out(&mut self, i: usize, output: node::Output) {
        let (number, process) = (self.nodes[i].node.number(), self.nodes[i].process);
        match output {
            node::Output::Connect { control_node: index, leg, session } => match &mut self.control_node {
                Some(control_node) => {
                    let (own, other) = leg_ends();
                    let tag = control_node.session_tag(number, process, session).expect("the latest session");
                    let node = &mut self.nodes[i].node;
                    assert!(control_node.handle_leg_up(self.now, number, process, leg, tag, other));
                    let control_process = self.control_process;
                    assert!(node.handle_control_leg_up(self.now, index, control_process, leg, tag, own));
                }
                None => self.nodes[i].node.handle_connect_failed(self.now, index, leg),
            },
            node::Output::CloseLeg { peer: PeerId::ControlNode(_), leg, .. } => {
                if let Some(control_node) = &mut self.control_node {
                    control_node.handle_leg_gone(self.now, number, process, leg);
                }
            }
            node::Output::CloseLeg { peer: PeerId::Node(peer), leg, .. } => {
                let other = &mut self.nodes[usize::from(peer.0) - 1].node;
                other.handle_leg_gone(self.now, PeerId::Node(number), process, leg);
            }
            other => self.log.push(format!("node {number}: {other:?}")),
        }
    }

    fn carry_out_for_control_node(&mut self, output: control_node::Output) {
        match output {
            control_node::Output::Introduce { a, b, epoch, leg } => {
                let (a_end, b_end) = leg_ends();
                let ups = [(a, b, a_end), (b, a, b_end)].map(|(own, other, end)| {
                    let node = &mut self.nodes[usize::from(own.0.0) - 1].node;
                    (own, other, node.handle_leg_up(self.now, other.0, other.1, epoch, leg, end))
                });
                // The peer of a node that does not want the leg sees it hang up.
                for (own, other, _) in ups.into_iter().filter(|(.., is_up)| !is_up) {
                    let peer = &mut self.nodes[usize::from(other.0.0) - 1].node;
                    peer.handle_leg_gone(self.now, PeerId::Node(own.0), own.1, leg);
                }
            }
            control_node::Output::CloseLeg { node, leg, .. } => {
                let node = &mut self.nodes[usize::from(node.0) - 1].node;
                node.handle_leg_gone(self.now, PeerId::ControlNode(0), self.control_process, leg);
            }
            other => self.log.push(format!("control node: {other:?}")),
        }
    }
}

/// The virtual MAC of a node's interface in [`Fabric`].
///
/// # Panics
/// Never: a node's number fits the counter.
#[must_use]
pub fn mac_of(node: NodeNumber) -> MacAddress {
    MacAddress::from_counter(ControlNodeSerial(1), u32::from(node.0)).expect("16 bits fit in 24")
}

/// An Ethernet frame as a program without an IP stack sends it.
#[must_use]
pub fn frame(destination: MacAddress, source: MacAddress, payload: &[u8]) -> Vec<u8> {
    [&destination.0[..], &source.0, &ETHER_TYPE, payload].concat()
}

/// Both ends of a leg: each end writes its own region and reads the other's.
fn leg_ends() -> (ShmLeg, ShmLeg) {
    let config = ShmConfig::default();
    let (a, b) = (Region::heap(config.region_len()), Region::heap(config.region_len()));
    ShmLeg::format(&a, &config);
    ShmLeg::format(&b, &config);
    let end =
        |own: &Region, peer: &Region| ShmLeg::new(own.clone(), peer.clone()).expect("both are formatted");
    (end(&a, &b), end(&b, &a))
}

fn hosted(number: NodeNumber) -> HostedNode {
    let process = ProcessId(0x1000 + u64::from(number.0));
    let node = Node::new(NodeConfig {
        number,
        process,
        cabinet: CabinetNumber(1),
        // One control node, one leg to it.
        control_node_legs: vec![vec![LEG]],
        seed: u64::from(number.0),
    });
    HostedNode { node, process, received: Received::default() }
}

/// A node of this process, which is one host.
fn node_entry(number: &NodeNumber) -> NodeEntry {
    NodeEntry {
        number: *number,
        name: format!("node{number}"),
        public_key: PublicKey::default(),
        host: None,
        legs: vec![vec![LegKind::Unix]],
    }
}

fn configuration(numbers: &[NodeNumber], process: ProcessId) -> ControlNodeConfig {
    let member = |number: &NodeNumber| MemberConfig {
        node: *number,
        vif: VifNumber(1),
        mac: mac_of(*number),
        interface: "red0".into(),
        addresses: Vec::new(),
        gateways: Vec::new(),
        may_listen: false,
        sender: Default::default(),
    };
    ControlNodeConfig {
        started: Instant::ZERO,
        serial: ControlNodeSerial(1),
        cabinet: CabinetNumber(1),
        process,
        epoch: 1,
        seed: 1,
        grant_key: SecretKey::default(),
        fabrics: vec![FabricEntry { is_trusted: false, key: 1 }],
        nodes: numbers.iter().map(node_entry).collect(),
        devices: 0,
        lans: vec![LanConfig {
            id: LanId(10),
            name: "red".into(),
            mtu: LAN_MTU,
            arp: ArpMode::Relay,
            port_security: PortSecurity::Mac,
            multicast: Default::default(),
            uplink: None,
            clusters: Vec::new(),
            members: numbers.iter().map(member).collect(),
        }],
    }
}
