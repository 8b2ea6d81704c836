//! A control node against ends that a test plays message by message.

mod adoption;
mod apply;
mod arena;
mod bindings;
mod capture;
mod clusters;
mod grants;
mod groups;
mod leaving;
mod legs;
mod listeners;
mod membership;
mod nodes;
mod registration;
mod relay_legs;
mod runs;
mod senders;
mod stations;
mod turns;
mod uplink;

use super::*;
use alloc::vec;
use rvi::{Association, AssociationConfig, Part, Region, Scheduler, ShmConfig};
use vlan_core::address::ControlNodeSerial;
use vlan_core::group::members::MulticastConfig;
use vlan_core::limits::GRANT_AFTER_FRAMES;
use vlan_core::wire::control::{
    Grant, HeldAssociation, HeldDirect, HeldLeg, InterfaceAddress, LegAddress, LegKind, OfferedLeg,
    RevokeReason, TLV_VERSION,
};
use vlan_core::wire::frame::{FrameHeader, FrameKind, Vnet};
use vlan_core::{
    BootTag, CabinetNumber, DropReason, LanId, Location, MacAddress, PairEpoch, PublicKey, RviNumber,
    SecretKey,
};

const NOW: Instant = Instant::from_nanos(1_000_000);
const LAN: LanId = LanId(10);
const LEG: LegNumber = LegNumber(0);
const RELAY: Channel = Channel(1);
const ARP: Channel = Channel(2);
/// The offload state of a long TCP frame.
const SUPER_FRAME: Vnet = Vnet {
    flags: Vnet::NEEDS_CSUM,
    gso_type: 1,
    hdr_len: 54,
    gso_size: 1446,
    csum_start: 34,
    csum_offset: 16,
};

fn mac(node: u16) -> MacAddress {
    MacAddress([2, 0, 1, 0, 0, node as u8])
}

fn process(node: u16) -> ProcessId {
    ProcessId(100 + u64::from(node))
}

/// Three members of one LAN, and node 4, which is a member of none; all on one host.
fn control_node() -> ControlNode {
    ControlNode::new(config())
}

pub(crate) fn config() -> ControlNodeConfig {
    let member = |node: u16| MemberConfig {
        node: NodeNumber(node),
        vif: VifNumber(1),
        mac: mac(node),
        interface: "red0".into(),
        addresses: vec![],
        gateways: vec![],
        may_listen: false,
        sender: Default::default(),
    };
    let entry = |node: u16| NodeEntry {
        number: NodeNumber(node),
        name: alloc::format!("n{node}"),
        public_key: PublicKey([node as u8; 32]),
        host: None,
        legs: vec![vec![LegKind::Unix]; 2],
    };
    ControlNodeConfig {
        started: Instant::ZERO,
        serial: ControlNodeSerial(1),
        cabinet: CabinetNumber(1),
        process: ProcessId(1),
        epoch: 3,
        seed: 5,
        grant_key: SecretKey::new([7; 32]),
        fabrics: [0x11, 0x22].map(|key| FabricEntry { is_trusted: key == 0x22, key }).to_vec(),
        nodes: (1..=4).map(entry).collect(),
        devices: 0,
        lans: vec![LanConfig {
            id: LAN,
            name: "red".into(),
            mtu: 1500,
            arp: ArpMode::Relay,
            port_security: PortSecurity::Mac,
            multicast: MulticastConfig::default(),
            uplink: None,
            clusters: Vec::new(),
            members: (1..=3).map(member).collect(),
        }],
    }
}

/// The node's end of a control RVI.
struct End {
    node: u16,
    association: Association,
    bseq: u32,
}

impl End {
    fn connect(control: &mut ControlNode, node: u16, process: ProcessId, config: &ShmConfig) -> Self {
        let regions = [0, 1].map(|_| {
            let region = Region::heap(config.region_len());
            ShmLeg::format(&region, config);
            region
        });
        let leg = |own: usize| ShmLeg::new(regions[own].clone(), regions[1 - own].clone()).expect("a leg");
        let mut association = Association::new(&AssociationConfig {
            scheduler: Scheduler::Failover,
            ..AssociationConfig::default()
        });
        association.handle_leg_up(NOW, LEG, leg(0));
        // A session that neither end has begun before.
        let number = control.next_number;
        let tag = control.session_tag(NodeNumber(node), process, number).expect("a later session");
        association.open_channel(RELAY);
        association.open_channel(ARP);
        assert!(control.handle_leg_up(NOW, NodeNumber(node), process, LEG, tag, leg(1)));
        Self { node, association, bseq: 0 }
    }

    fn tell(&mut self, control: &mut ControlNode, message: &ControlMessage) -> Vec<ControlMessage> {
        self.say(message);
        control.pump(NOW, 1000);
        self.told()
    }

    /// Says it, and the control node has not looked yet.
    fn say(&mut self, message: &ControlMessage) {
        self.association.send_control(NOW, &message.emit()).expect("room");
        self.association.publish();
    }

    fn register(&mut self, control: &mut ControlNode) -> Vec<ControlMessage> {
        self.tell(control, &register(self.node, process(self.node)))
    }

    /// Every message that has arrived, with its channel.
    fn arrived(&mut self) -> Vec<(Channel, Vec<u8>)> {
        let (mut messages, mut scratch) = (Vec::new(), Scratch::default());
        while let Some(message) = self.association.receive(&mut scratch) {
            messages.push((message.channel, relay::whole(&message)));
        }
        self.association.release();
        messages
    }

    fn told(&mut self) -> Vec<ControlMessage> {
        let control = self.arrived().into_iter().filter(|(channel, _)| *channel == Channel::CONTROL);
        control.map(|(_, octets)| ControlMessage::parse(&octets).expect("a control message")).collect()
    }

    fn frames(&mut self) -> Vec<FrameHeader> {
        let frames = self.arrived().into_iter().filter(|(channel, _)| *channel != Channel::CONTROL);
        frames.filter_map(|(_, octets)| FrameHeader::parse(&octets, octets.len()).ok()).collect()
    }

    fn send(&mut self, control: &mut ControlNode, to: MacAddress, flags: u8) {
        self.queue(to, flags, 60);
        control.pump(NOW, 1000);
    }

    /// Sends a frame of `len` octets, a super-frame when it is longer than the MTU, that nobody has been told about.
    fn queue(&mut self, to: MacAddress, flags: u8, len: usize) {
        let mut frame = vec![0; len];
        frame[..6].copy_from_slice(&to.0);
        frame[6..12].copy_from_slice(&mac(self.node).0);
        // An IP packet without options: frames of other kinds are looked at one by one.
        (frame[12], frame[14]) = (8, 0x45);
        self.queue_frame(to, flags, &frame);
    }

    fn send_frame(&mut self, control: &mut ControlNode, frame: &[u8]) {
        self.queue_frame(MacAddress::from_octets(frame).expect("an address"), 0, frame);
        control.pump(NOW, 1000);
    }

    fn queue_frame(&mut self, to: MacAddress, flags: u8, frame: &[u8]) {
        let octets = self.header(to, flags, frame.len()).emit(frame.len());
        self.bseq += 1;
        let parts = [Part::Private(&octets), Part::Private(frame)];
        self.association.send(NOW, RELAY, 0, 0, &parts).expect("room");
        self.association.publish();
    }

    /// The header of the next frame, of `len` octets.
    fn header(&self, to: MacAddress, flags: u8, len: usize) -> FrameHeader {
        FrameHeader {
            kind: if to.is_group() { FrameKind::Group } else { FrameKind::Relay },
            flags,
            lan: LAN,
            origin: NodeNumber(self.node),
            origin_vif: VifNumber(1),
            destination_vif: VifNumber(0),
            vnet: if len > 1500 { SUPER_FRAME } else { Vnet::default() },
            boot: BootTag(process(self.node).0 as u16),
            bseq: self.bseq,
        }
    }
}

fn register(node: u16, process: ProcessId) -> ControlMessage {
    register_with(node, process, vec![], vec![], vec![])
}

fn register_with(
    node: u16,
    process: ProcessId,
    direct: Vec<HeldDirect>,
    associations: Vec<HeldAssociation>,
    legs: Vec<OfferedLeg>,
) -> ControlMessage {
    let (version, node, interfaces) = (TLV_VERSION, NodeNumber(node), vec![]);
    ControlMessage::Register { version, node, process, interfaces, direct, associations, legs }
}

fn version(mut register: ControlMessage, other: u16) -> ControlMessage {
    if let ControlMessage::Register { version, .. } = &mut register {
        *version = other;
    }
    register
}

fn member(control: &mut ControlNode, node: u16) -> End {
    let mut end = End::connect(control, node, process(node), &ShmConfig::default());
    let told = end.register(control);
    assert!(matches!(told.last(), Some(ControlMessage::ConfigurationEnd { epoch: 3 })), "{told:?}");
    end
}

/// The tag of a node's present session.
fn tag_of(control: &ControlNode, node: u16) -> SessionTag {
    let place = control.session_of(NodeNumber(node), process(node)).expect("a session");
    control.sessions[place].as_ref().expect("not taken out").tag
}

/// A leg whose other end is the test's to forget.
fn lone_leg() -> ShmLeg {
    let config = ShmConfig::default();
    let regions = [0, 1].map(|_| Region::heap(config.region_len()));
    regions.iter().for_each(|region| ShmLeg::format(region, &config));
    let [own, peer] = regions;
    ShmLeg::new(own, peer).expect("a leg")
}

/// Traffic from `end` to a node that is worth a direct RVI.
fn burst(control: &mut ControlNode, end: &mut End, to: u16) {
    for _ in 0..3 * GRANT_AFTER_FRAMES {
        end.send(control, mac(to), 0);
    }
}

fn outputs(control: &mut ControlNode) -> Vec<Output> {
    core::iter::from_fn(|| control.poll_output()).collect()
}

/// The legs on which two nodes were introduced to each other since the last look.
fn introduced(control: &mut ControlNode) -> Vec<LegNumber> {
    let introduced = outputs(control).into_iter().filter_map(|output| match output {
        Output::Introduce { leg, .. } => Some(leg),
        _ => None,
    });
    introduced.collect()
}

fn revoked(told: &[ControlMessage]) -> Vec<RevokeReason> {
    let revoked = told.iter().filter_map(|message| match message {
        ControlMessage::Revoke { reason, .. } => Some(*reason),
        _ => None,
    });
    revoked.collect()
}

fn grants(told: &[ControlMessage]) -> Vec<Grant> {
    let grants = told.iter().filter_map(|message| match message {
        ControlMessage::Grant(grant) => Some(grant.clone()),
        _ => None,
    });
    grants.collect()
}
