//! One or two control nodes and nodes of other hosts, joined by two fabrics in memory, the first of UDP, the second of Ethernet frames.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use rvi::SharedOctets;
use rvi::keys::PrivateKey;
use rvi::packet::transport::TransmitBuffer;
use switch_node::node::{self, Accept, Delivery, FrameSink, Node, NodeConfig};
use switch_server::control_node::{
    self, ArpMode, ControlNode, ControlNodeConfig, ControlNodeEvent, FabricEntry, LanConfig, MemberConfig,
    NodeEntry, PortSecurity,
};
use vlan_core::group::query::QUERIER_MAC;
use vlan_core::wire::Vnet;
use vlan_core::wire::control::{GrantedLeg, LegAddress, LegKind, OfferedLeg};
use vlan_core::{
    CabinetNumber, ControlNodeSerial, EtherAddress, EtherPort, Instant, LanId, LegNumber, MacAddress,
    NodeNumber, ProcessId, SecretKey, VifNumber,
};

pub const FABRICS: [LegNumber; 2] = [LegNumber(0), LegNumber(1)];
/// The numbers of the control nodes, beside those of nodes.
pub const CONTROL_NODES: [u16; 2] = [0, 100];
/// Between two looks at a machine: what a datagram takes.
const STEP: Duration = Duration::from_micros(100);

/// A datagram under way.
#[derive(Clone, Debug)]
pub struct Datagram {
    pub leg: LegNumber,
    pub from: LegAddress,
    pub to: LegAddress,
    pub octets: Vec<u8>,
}

/// The frames that a node's stack got, by their first octet behind the Ethernet header.
#[derive(Default)]
pub struct Stack(pub Vec<u8>);

impl FrameSink for Stack {
    fn deliver(&mut self, _: VifNumber, _: &Vnet, head: &[u8], _: SharedOctets<'_>) -> Delivery {
        // Queries of multicast groups are the driver's own.
        if head[6..12] != QUERIER_MAC.0 {
            self.0.push(head[14]);
        }
        Delivery::Taken
    }
}

/// A node and its host.
pub struct Hosted {
    pub node: Node,
    pub stack: Stack,
    pub log: Vec<node::NodeEvent>,
    /// It has left all its legs, or was fenced.
    pub is_over: bool,
}

/// All of it.
pub struct World {
    pub now: Instant,
    pub control: Option<ControlNode>,
    /// Another control node of the same platform, which only nodes of [`World::with_two`] know.
    pub second: Option<ControlNode>,
    pub nodes: Vec<Hosted>,
    pub log: Vec<ControlNodeEvent>,
    /// Fabrics that carry nothing.
    pub down: [bool; 2],
    /// No fabric carries anything between nodes.
    pub are_nodes_apart: bool,
    /// Every datagram that was sent.
    pub sent: Vec<Datagram>,
    air: Vec<Datagram>,
    buffer: TransmitBuffer,
    lives: u64,
    /// Control nodes that the nodes know.
    known: usize,
}

pub fn key(number: u16) -> PrivateKey {
    PrivateKey::from_octets([number as u8 + 1; 32])
}

pub fn mac(number: u16) -> MacAddress {
    MacAddress([2, 0, 1, 0, 0, number as u8])
}

/// Where the process of a number receives on a fabric; control nodes have those of [`CONTROL_NODES`].
pub fn address(number: u16, leg: LegNumber) -> LegAddress {
    if leg.0 == 1 {
        let own = EtherAddress { mac: MacAddress([2, 0, 0, 1, 0, number as u8]), port: port(number) };
        return LegAddress::Ether(own);
    }
    let ip = IpAddr::V4(Ipv4Addr::new(192, 0, 2 + leg.0, 1 + number as u8));
    LegAddress::Udp(SocketAddr::new(ip, 7401))
}

fn port(number: u16) -> EtherPort {
    match number {
        0 => EtherPort::of_control_node(ControlNodeSerial(1)),
        100 => EtherPort::of_control_node(ControlNodeSerial(2)),
        _ => EtherPort::of_node(NodeNumber(number)),
    }
}

/// Where the platform file says that the first control node receives on a fabric.
pub fn known_address(leg: LegNumber) -> LegAddress {
    known_address_of(0, leg)
}

fn known_address_of(control_node: usize, leg: LegNumber) -> LegAddress {
    match address(CONTROL_NODES[control_node], leg) {
        LegAddress::Ether(_) => LegAddress::Ether(EtherAddress::of_control_node(serial(control_node))),
        address @ LegAddress::Udp(_) => address,
    }
}

fn serial(control_node: usize) -> ControlNodeSerial {
    ControlNodeSerial(control_node as u16 + 1)
}

fn control_config(control_node: usize, nodes: u16, process: ProcessId) -> ControlNodeConfig {
    let member = |node: u16| MemberConfig {
        node: NodeNumber(node),
        vif: VifNumber(1),
        mac: mac(node),
        interface: "red0".to_owned(),
        addresses: Vec::new(),
        gateways: Vec::new(),
        may_listen: false,
        sender: Default::default(),
    };
    let entry = |node: u16| NodeEntry {
        number: NodeNumber(node),
        name: format!("n{node}"),
        public_key: key(node).public(),
        host: Some(format!("h{node}")),
        legs: vec![vec![LegKind::Udp], vec![LegKind::Ether]],
    };
    ControlNodeConfig {
        started: Instant::ZERO,
        serial: serial(control_node),
        cabinet: CabinetNumber(1),
        process,
        epoch: 3,
        seed: process.0,
        grant_key: SecretKey::new([7; 32]),
        fabrics: [0x11, 0x22].map(|key| FabricEntry { is_trusted: key == 0x22, key }).to_vec(),
        nodes: (1..=nodes).map(entry).collect(),
        devices: 0,
        lans: vec![LanConfig {
            id: LanId(10),
            name: "red".to_owned(),
            mtu: 1500,
            arp: ArpMode::Relay,
            port_security: PortSecurity::Mac,
            multicast: Default::default(),
            uplink: None,
            clusters: Vec::new(),
            members: (1..=nodes).map(member).collect(),
        }],
    }
}

/// A node that has not been heard of, with the key of node `keyed`.
pub fn node(number: u16, keyed: u16, process: u64) -> Node {
    node_of(1, number, keyed, process)
}

fn node_of(control_nodes: usize, number: u16, keyed: u16, process: u64) -> Node {
    let mut node = Node::new(NodeConfig {
        number: NodeNumber(number),
        process: ProcessId(process),
        cabinet: CabinetNumber(1),
        control_node_legs: vec![Vec::new(); control_nodes],
        seed: process,
    });
    node.enable_packets(key(keyed), [process as u8; 32]);
    for (place, own) in CONTROL_NODES.into_iter().enumerate().take(control_nodes) {
        let legs = FABRICS.map(|leg| GrantedLeg {
            leg,
            address: known_address_of(place, leg),
            is_trusted: leg.0 == 1,
            fabric_key: [0x11, 0x22][usize::from(leg.0)],
        });
        node.reach_by_packets(place as u8, key(own).public(), legs.to_vec());
    }
    let offered = FABRICS.map(|leg| OfferedLeg { leg, address: address(number, leg) });
    node.handle_leg_addresses(Instant::ZERO, &offered);
    node
}

fn hosted(node: Node) -> Hosted {
    Hosted { node, stack: Stack::default(), log: Vec::new(), is_over: false }
}

impl World {
    /// Nodes 1 to `count` and their control node, of which nothing has been said yet.
    pub fn new(count: u16) -> Self {
        Self::knowing(1, count)
    }

    /// The same, of nodes that know two control nodes, of which the first is there.
    pub fn with_two(count: u16) -> Self {
        Self::knowing(2, count)
    }

    fn knowing(known: usize, count: u16) -> Self {
        let hosted = |number: u16| hosted(node_of(known, number, number, 100 + u64::from(number)));
        let mut world = Self {
            now: Instant::from_nanos(1_000_000_000),
            control: None,
            second: None,
            nodes: (1..=count).map(hosted).collect(),
            log: Vec::new(),
            down: [false; 2],
            are_nodes_apart: false,
            sent: Vec::new(),
            air: Vec::new(),
            buffer: TransmitBuffer::new(16, 65_000),
            lives: 0,
            known,
        };
        world.start_control();
        world
    }

    /// The same, with all nodes attached.
    pub fn attached(count: u16) -> Self {
        let mut world = Self::new(count);
        world.run(50);
        assert!(world.are_attached(), "{:?} {:?}", world.log, world.nodes[0].log);
        world
    }

    /// Starts the control node, as another process than before.
    pub fn start_control(&mut self) {
        self.control = Some(self.started(0));
    }

    /// Starts the second control node.
    pub fn start_second(&mut self) {
        self.second = Some(self.started(1));
    }

    fn started(&mut self, place: usize) -> ControlNode {
        self.lives += 1;
        let config = control_config(place, self.nodes.len() as u16, ProcessId(0xc0 + self.lives));
        let mut control = ControlNode::new(config);
        control.enable_packets(key(CONTROL_NODES[place]), [self.lives as u8; 32], &FABRICS);
        control
    }

    /// Another process takes the place of a node's.
    pub fn replace(&mut self, number: u16, process: u64) {
        self.nodes[usize::from(number) - 1] = hosted(node_of(self.known, number, number, process));
    }

    pub fn are_attached(&self) -> bool {
        self.nodes.iter().all(|hosted| hosted.node.is_attached())
    }

    /// Legs by which each node is attached, as the control node knows them.
    pub fn legs(&self) -> Vec<Vec<u8>> {
        let status = self.control.as_ref().expect("a control node").status();
        status.nodes.iter().map(|node| node.legs.iter().map(|leg| leg.0).collect()).collect()
    }

    /// Sends a frame with a number in it; the stack waits while the node is busy.
    pub fn send(&mut self, from: u16, to: MacAddress, number: u8) {
        let mut frame = [0; 60];
        frame[..6].copy_from_slice(&to.0);
        frame[6..12].copy_from_slice(&mac(from).0);
        (frame[12], frame[14]) = (8, number);
        loop {
            let node = &mut self.nodes[usize::from(from) - 1].node;
            if node.send_frame(self.now, VifNumber(1), &Vnet::default(), &frame) == Accept::Taken {
                return;
            }
            self.step();
        }
    }

    /// What the stack of a node got since the last call.
    pub fn take(&mut self, number: u16) -> Vec<u8> {
        core::mem::take(&mut self.nodes[usize::from(number) - 1].stack.0)
    }

    /// Lets so many milliseconds pass.
    pub fn run(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        while self.now < until {
            self.step();
        }
    }

    /// Delivers what is under way, and gives every machine its turn.
    pub fn step(&mut self) {
        self.now = self.now + STEP;
        for datagram in core::mem::take(&mut self.air) {
            let is_of_control = CONTROL_NODES
                .iter()
                .any(|number| [datagram.from, datagram.to].contains(&address(*number, datagram.leg)));
            if !self.down[usize::from(datagram.leg.0)] && (is_of_control || !self.are_nodes_apart) {
                self.deliver(&datagram);
            }
        }
        for place in 0..self.nodes.len() {
            self.turn_of_node(place);
        }
        for place in 0..CONTROL_NODES.len() {
            self.turn_of_control(place);
        }
    }

    /// A datagram arrives where it is for.
    pub fn deliver(&mut self, datagram: &Datagram) {
        let Datagram { leg, from, to, ref octets } = *datagram;
        let mut octets = octets.clone();
        for (place, control) in [&mut self.control, &mut self.second].into_iter().enumerate() {
            let is_its = [address(CONTROL_NODES[place], leg), known_address_of(place, leg)].contains(&to);
            if let Some(control) = control.as_mut().filter(|_| is_its) {
                control.handle_packet(self.now, leg, from, &mut octets);
            }
        }
        for (number, hosted) in (1..).zip(&mut self.nodes).filter(|(_, hosted)| !hosted.is_over) {
            if to == address(number, leg) {
                hosted.node.handle_packet(self.now, leg, from, &mut octets);
            }
        }
    }

    fn turn_of_node(&mut self, place: usize) {
        let (now, number) = (self.now, place as u16 + 1);
        let Hosted { node, stack, log, is_over } = &mut self.nodes[place];
        if *is_over {
            return;
        }
        node.receive(now, 1000, stack);
        if node.poll_timeout().is_some_and(|at| at <= now) {
            node.handle_timeout(now);
        }
        node.publish(now);
        while let Some(batch) = node.poll_transmit(now, &mut self.buffer) {
            let from = address(number, batch.leg);
            for octets in self.buffer.octets().chunks(batch.segment_len) {
                let datagram = Datagram { leg: batch.leg, from, to: batch.to, octets: octets.to_vec() };
                self.air.push(datagram.clone());
                self.sent.push(datagram);
            }
        }
        while let Some(output) = node.poll_output() {
            match output {
                node::Output::Log(event) => log.push(event),
                node::Output::Left | node::Output::Fenced => *is_over = true,
                _ => {}
            }
        }
    }

    fn turn_of_control(&mut self, place: usize) {
        let now = self.now;
        let slot = if place == 0 { &mut self.control } else { &mut self.second };
        let Some(control) = slot else { return };
        let mut has_left = false;
        control.pump(now, 1000);
        if control.poll_timeout().is_some_and(|at| at <= now) {
            control.handle_timeout(now);
        }
        while let Some(batch) = control.poll_transmit(now, &mut self.buffer) {
            let from = address(CONTROL_NODES[place], batch.leg);
            for octets in self.buffer.octets().chunks(batch.segment_len) {
                let datagram = Datagram { leg: batch.leg, from, to: batch.to, octets: octets.to_vec() };
                self.air.push(datagram.clone());
                self.sent.push(datagram);
            }
        }
        while let Some(output) = control.poll_output() {
            match output {
                control_node::Output::Log(event) => self.log.push(event),
                control_node::Output::Left => has_left = true,
                _ => {}
            }
        }
        if has_left {
            *slot = None;
        }
    }
}
