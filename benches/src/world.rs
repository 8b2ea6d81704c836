//! Nodes and a control node as they ship, joined by shared memory that outlives a fork.

use anyhow::Context;
use rvi::host::OwnMemory;
use rvi::{Region, ShmConfig, ShmLeg};
use switch_node::{Node, NodeConfig, Output};
use switch_server::control_node::{
    ArenaPolicy, ArpMode, Command, ControlNode, ControlNodeConfig, FabricEntry, LanConfig, MemberConfig,
    NodeEntry, Output as CnOutput, PortSecurity, UplinkConfig,
};
use vlan_core::address::ControlNodeSerial;
use vlan_core::group::members::MulticastConfig;
use vlan_core::wire::control::LegKind;
use vlan_core::{
    CabinetNumber, Instant, LanId, LegNumber, MacAddress, NodeNumber, ProcessId, PublicKey, SecretKey,
    VifNumber,
};

use crate::frames::{Sink, Source};

pub const VIF: VifNumber = VifNumber(1);
const CONTROL: ProcessId = ProcessId(199);
pub const BROADCAST: MacAddress = MacAddress([0xff; 6]);

pub fn mac(node: u8) -> MacAddress {
    MacAddress([2, 0, 1, 0, 0, node])
}

/// Both ends of a leg over two sealed memfds, as two processes would have it.
pub fn leg_pair() -> anyhow::Result<(ShmLeg, ShmLeg)> {
    let config = ShmConfig::default();
    let a = OwnMemory::new(&config)?.into_region();
    let b = OwnMemory::new(&config)?.into_region();
    let leg = |own: &Region, peer: &Region| {
        ShmLeg::new(own.clone(), peer.clone()).map_err(|error| anyhow::anyhow!("a leg: {error:?}"))
    };
    Ok((leg(&a, &b)?, leg(&b, &a)?))
}

pub struct World {
    pub control: ControlNode,
    pub nodes: Vec<Node>,
    legs: u8,
    /// A LAN may have an arena.
    has_arenas: bool,
    pub clock: u64,
}

impl World {
    /// Two attached members of one LAN.
    pub fn new(legs: u8) -> anyhow::Result<Self> {
        Self::of(2, legs, false)
    }

    /// Two attached members of a LAN that has an uplink by a device.
    pub fn bridged(legs: u8, uplink: UplinkConfig) -> anyhow::Result<Self> {
        Self::build(2, legs, false, Some(uplink))
    }

    /// So many attached members of one LAN.
    pub fn of(members: u8, legs: u8, has_arenas: bool) -> anyhow::Result<Self> {
        Self::build(members, legs, has_arenas, None)
    }

    fn build(members: u8, legs: u8, has_arenas: bool, uplink: Option<UplinkConfig>) -> anyhow::Result<Self> {
        let numbers: Vec<u8> = (1..=members).collect();
        let member = |n: u8| MemberConfig {
            node: NodeNumber(n.into()),
            vif: VIF,
            mac: mac(n),
            interface: "red0".into(),
            addresses: Vec::new(),
            gateways: Vec::new(),
            may_listen: false,
            sender: Default::default(),
        };
        let mut control = ControlNode::new(ControlNodeConfig {
            started: Instant::ZERO,
            serial: ControlNodeSerial(1),
            cabinet: CabinetNumber(1),
            process: CONTROL,
            epoch: 1,
            seed: 7,
            grant_key: SecretKey::default(),
            fabrics: (1..=legs.into()).map(|key| FabricEntry { is_trusted: false, key }).collect(),
            nodes: numbers
                .iter()
                .map(|&n| NodeEntry {
                    number: NodeNumber(n.into()),
                    name: format!("node{n}"),
                    public_key: PublicKey([n; 32]),
                    host: None,
                    legs: vec![vec![LegKind::Unix]; legs.into()],
                })
                .collect(),
            devices: usize::from(uplink.is_some()),
            lans: vec![LanConfig {
                id: LanId(10),
                name: "red".into(),
                mtu: vlan_core::limits::LAN_MTU,
                arp: ArpMode::Relay,
                port_security: PortSecurity::Mac,
                // Else drivers would put queries among the frames that are counted.
                multicast: MulticastConfig { floods: true, ..MulticastConfig::default() },
                uplink,
                clusters: Vec::new(),
                members: numbers.iter().map(|&n| member(n)).collect(),
            }],
        });
        // Short frames too: that they need not go in is one of the things to find out.
        control.set_arena_policy(ArenaPolicy { message_len_min: 0, ..ArenaPolicy::default() });
        let nodes = numbers.iter().map(|&n| {
            let mut node = Node::new(NodeConfig {
                number: NodeNumber(n.into()),
                process: ProcessId(n.into()),
                cabinet: CabinetNumber(1),
                control_node_legs: vec![(0..legs).map(LegNumber).collect()],
                seed: n.into(),
            });
            node.enable_arenas();
            node
        });
        let mut world = Self { control, nodes: nodes.collect(), legs, has_arenas, clock: 0 };
        let mut sinks = world.sinks();
        for _ in 0..100 {
            world.step(&mut sinks)?;
        }
        anyhow::ensure!(world.nodes.iter().all(Node::is_attached), "the nodes did not attach");
        Ok(world)
    }

    /// Keeps the pair on the control node's relay.
    pub fn cut(&mut self) {
        let cut = Command::Cut { a: NodeNumber(1), b: NodeNumber(2), leg: None };
        self.control.handle_command(Instant::from_nanos(self.clock), cut);
    }

    /// Sends until the pair's direct RVI carries the frames.
    pub fn raise_direct(&mut self, size: usize) -> anyhow::Result<()> {
        let mut source = Source::new(size, mac(2), mac(1));
        let mut sinks = self.sinks();
        for _ in 0..2000 {
            let now = Instant::from_nanos(self.clock);
            let _ = self.nodes[0].send_frame(now, VIF, &Default::default(), source.next());
            self.step(&mut sinks)?;
            let direct = self.nodes[0].interfaces().any(|i| i.counters.sent_direct.frames > 0);
            if direct {
                // What is on its way arrives before the measurement begins.
                for _ in 0..100 {
                    self.step(&mut sinks)?;
                }
                return Ok(());
            }
        }
        anyhow::bail!("the direct RVI did not come up")
    }

    /// Sends broadcasts until the LAN has an arena that all of its members read.
    pub fn raise_arena(&mut self, size: usize) -> anyhow::Result<()> {
        // Members have just come: an arena waits for them to settle.
        self.clock += 1_000_000_000;
        let mut source = Source::new(size, BROADCAST, mac(1));
        let mut sinks = self.sinks();
        for _ in 0..200 {
            let now = Instant::from_nanos(self.clock);
            let _ = self.nodes[0].send_frame(now, VIF, &Default::default(), source.next());
            self.nodes[0].publish(now);
            self.step(&mut sinks)?;
        }
        // What is on its way arrives before the measurement begins.
        for _ in 0..10 {
            self.step(&mut sinks)?;
        }
        let (readers, all) = (self.control.status().lans[0].arena.members, self.nodes.len());
        // One receiver is given copies in any case.
        anyhow::ensure!(readers == all || !self.has_arenas || all == 2, "{readers} members read the arena");
        Ok(())
    }

    fn sinks(&self) -> Vec<Sink> {
        (1..=self.nodes.len() as u8).map(|n| Sink::new(mac(n))).collect()
    }

    /// Both nodes of a pair.
    pub fn pair(nodes: Vec<Node>) -> [Node; 2] {
        let Ok(pair) = nodes.try_into() else { unreachable!("a world of two nodes") };
        pair
    }

    /// One round of everybody's pump, 10 us later.
    pub fn step(&mut self, sinks: &mut [Sink]) -> anyhow::Result<()> {
        self.clock += 10_000;
        let now = Instant::from_nanos(self.clock);
        for (node, sink) in self.nodes.iter_mut().zip(sinks) {
            node.handle_timeout(now);
            node.receive(now, 256, sink);
            node.publish(now);
        }
        self.control.handle_timeout(now);
        self.control.pump(now, 256);
        self.outputs(now)
    }

    fn outputs(&mut self, now: Instant) -> anyhow::Result<()> {
        for index in 0..self.nodes.len() {
            while let Some(output) = self.nodes[index].poll_output() {
                if let Output::Connect { control_node, leg, session } = output {
                    let (ours, theirs) = leg_pair()?;
                    let number = NodeNumber(index as u16 + 1);
                    let process = ProcessId(index as u64 + 1);
                    let tag = self.control.session_tag(number, process, session);
                    let tag = tag.context("the session is over")?;
                    let node = &mut self.nodes[index];
                    anyhow::ensure!(self.control.handle_leg_up(now, number, process, leg, tag, theirs));
                    anyhow::ensure!(node.handle_control_leg_up(now, control_node, CONTROL, leg, tag, ours));
                }
            }
        }
        while let Some(output) = self.control.poll_output() {
            if let CnOutput::MakeArena { lan, config } = output
                && self.has_arenas
            {
                let memory = OwnMemory::of_len(config.region_len())?.into_region();
                for (node, ..) in self.control.handle_arena(lan, &config, memory.clone()) {
                    let node = &mut self.nodes[usize::from(node.0) - 1];
                    anyhow::ensure!(node.handle_arena(now, 0, CONTROL, lan, memory.clone()));
                }
            }
            if let CnOutput::Introduce { a, b, epoch, leg } = output
                && leg.0 < self.legs
            {
                let (one, other) = leg_pair()?;
                for (own, peer, shm) in [(a, b, one), (b, a, other)] {
                    let node = &mut self.nodes[usize::from(own.0.0) - 1];
                    anyhow::ensure!(node.handle_leg_up(now, peer.0, peer.1, epoch, leg, shm));
                }
            }
        }
        Ok(())
    }
}
