//! A control node against ends that a test plays message by message.

mod adoption;
mod capture;
mod groups;
mod leaving;
mod legs;
mod relay_legs;

use super::*;
use alloc::vec;
use rvi::{Association, AssociationConfig, Part, Region, Scheduler, ShmConfig};
use vlan_core::limits::GRANT_AFTER_FRAMES;
use vlan_core::wire::control::{
    Grant, HeldAssociation, HeldDirect, HeldLeg, LegAddress, OfferedLeg, RevokeReason, TLV_VERSION,
};
use vlan_core::wire::frame::{FrameHeader, FrameKind, Vnet};
use vlan_core::{BootTag, DropReason, Location, PairEpoch, RviNumber};

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

pub(super) fn config() -> ControlNodeConfig {
    let member = |node: u16| MemberConfig {
        node: NodeNumber(node),
        vif: VifNumber(1),
        mac: mac(node),
        interface: "red0".into(),
        addresses: vec![],
        gateways: vec![],
    };
    let entry = |node: u16| NodeEntry {
        number: NodeNumber(node),
        name: alloc::format!("n{node}"),
        public_key: PublicKey([node as u8; 32]),
        host: None,
        legs: vec![vec![LegKind::Unix]; 2],
    };
    ControlNodeConfig {
        serial: ControlNodeSerial(1),
        cabinet: CabinetNumber(1),
        process: ProcessId(1),
        epoch: 3,
        seed: 5,
        grant_key: SecretKey::new([7; 32]),
        fabrics: [0x11, 0x22].map(|key| FabricEntry { is_trusted: key == 0x22, key }).to_vec(),
        nodes: (1..=4).map(entry).collect(),
        lans: vec![LanConfig {
            id: LAN,
            name: "red".into(),
            mtu: 1500,
            arp: ArpMode::Relay,
            port_security: PortSecurity::Mac,
            multicast: MulticastConfig::default(),
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
        self.association.send_control(NOW, &message.emit()).expect("room");
        self.association.publish();
        control.pump(NOW, 1000);
        self.told()
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
        frame[12] = 8;
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

#[test]
fn a_registration_must_match_its_proof_its_version_and_a_membership() {
    //= spec/server.md#registration
    //= type=test
    //# A control node MUST accept a registration only for the node and the process that the handshake proved, in the
    //# same version of the TLV layer, and only from a node that is a member of a virtual LAN.
    for (node, claim) in [
        (1, register(2, process(1))),
        (1, register(1, process(2))),
        (4, register(4, process(4))),
        (1, version(register(1, process(1)), TLV_VERSION + 1)),
    ] {
        let mut control = control_node();
        let mut end = End::connect(&mut control, node, process(node), &ShmConfig::default());
        let told = end.tell(&mut control, &claim);
        assert!(matches!(told[..], [ControlMessage::Refused { .. }]), "{claim:?}: {told:?}");
        assert!(control.status().nodes.iter().all(|node| node.process.is_none()));
        assert!(end.register(&mut control).is_empty(), "a refused session goes on");
    }
    let mut control = control_node();
    member(&mut control, 1);
}

#[test]
fn an_older_process_is_fenced_and_heard_no_more() {
    //= spec/server.md#fencing
    //= type=test
    //# When a newer process of a node registers, the control node MUST tell the older one that it is fenced and take
    //# nothing more from it.
    let mut control = control_node();
    let mut old = member(&mut control, 1);
    let mut other = member(&mut control, 2);
    let mut new = End::connect(&mut control, 1, ProcessId(999), &ShmConfig::default());
    new.tell(&mut control, &register(1, ProcessId(999)));
    assert!(old.told().contains(&ControlMessage::Fenced));
    other.arrived();
    old.send(&mut control, mac(2), 0);
    assert!(other.frames().is_empty());
}

#[test]
fn a_leg_joins_only_the_session_that_it_was_set_up_for() {
    //= spec/leg-setup.md#session-tags
    //= type=test
    //# An end MUST take a leg only into the session whose tag it has: the tag of a later session ends the one that is
    //# there first, and a leg with the tag of an earlier one MUST be closed.
    let (number, process, other) = (NodeNumber(1), process(1), LegNumber(1));
    let mut control = control_node();
    let _one = member(&mut control, 1);
    let tag = tag_of(&control, 1);
    assert_eq!(control.session_tag(number, process, tag.node), Some(tag));
    assert_eq!(control.session_tag(number, process, tag.node - 1), None);
    for wrong in
        [SessionTag { node: tag.node - 1, ..tag }, SessionTag { control_node: tag.control_node + 9, ..tag }]
    {
        assert!(!control.handle_leg_up(NOW, number, process, other, wrong, lone_leg()));
    }
    assert!(control.handle_leg_up(NOW, number, process, other, tag, lone_leg()));
    assert_eq!(control.status().nodes[0].legs, [LEG, other]);
    while control.poll_output().is_some() {}

    let later = control.session_tag(number, process, tag.node + 1).expect("a later session");
    assert!(later.control_node > tag.control_node);
    assert!(control.handle_leg_up(NOW, number, process, other, later, lone_leg()));
    assert_eq!(control.status().nodes[0].process, None, "the later session has not registered");
    let closed: Vec<_> = core::iter::from_fn(|| control.poll_output())
        .filter_map(|output| match output {
            Output::CloseLeg { leg, .. } => Some(leg),
            _ => None,
        })
        .collect();
    assert_eq!(closed, [LEG], "the leg of the same name is the later session's");
    // The earlier session's hang-up is seen only now.
    control.handle_leg_gone(NOW, number, process, LEG);
    control.pump(NOW, 1000);
    assert_eq!(tag_of(&control, 1), later);
    // A tag that was given out before another session took its number.
    let stale = control.session_tag(number, process, later.node + 1).expect("a later session");
    let _two = member(&mut control, 2);
    assert!(!control.handle_leg_up(NOW, number, process, other, stale, lone_leg()));
}

#[test]
fn what_has_no_channel_and_what_a_replaced_process_sends_is_counted() {
    let mut control = control_node();
    let mut one = End::connect(&mut control, 1, process(1), &ShmConfig::default());
    one.register(&mut control);
    let unknown = Channel(77);
    one.association.open_channel(unknown);
    for _ in 0..2 {
        one.association.send(NOW, unknown, 0, 0, &[Part::Private(&[0; 60])]).expect("room");
    }
    one.association.publish();
    control.pump(NOW, 1000);
    assert_eq!(control.status().drops.of(DropReason::NoChannel), 2);
    let mut new = End::connect(&mut control, 1, ProcessId(999), &ShmConfig::default());
    new.tell(&mut control, &register(1, ProcessId(999)));
    one.send(&mut control, mac(2), 0);
    let status = control.status();
    assert_eq!(status.lans[0].drops.of(DropReason::StaleBoot), 1);
    assert!(status.lans[0].ledger.closes(status.lans[0].drops.total()));
}

#[test]
fn what_a_member_had_not_taken_when_it_left_in_order_is_not_attached_and_when_it_died_peer_gone() {
    //= spec/server.md#members-that-leave
    //= type=test
    //# A control node MUST count what a node that left in order had not taken as not-attached; only what a dead process
    //# had not taken is peer-gone.
    for in_order in [true, false] {
        let mut control = control_node();
        let (mut one, mut two) = (member(&mut control, 1), member(&mut control, 2));
        two.arrived();
        one.send(&mut control, mac(2), 0);
        if in_order {
            two.association.leave_leg(NOW, LEG);
        }
        control.handle_leg_gone(NOW, NodeNumber(2), process(2), LEG);
        control.pump(NOW, 1000);
        let lan = &control.status().lans[0];
        let counts = (lan.drops.of(DropReason::NotAttached), lan.drops.of(DropReason::PeerGone));
        assert_eq!(counts, if in_order { (1, 0) } else { (0, 1) });
        assert!(lan.ledger.closes(lan.drops.total()));
    }
}

#[test]
fn nodes_take_turns_by_octets() {
    //= spec/server.md#turns
    //= type=test
    //# A control node MUST take messages from its nodes in turns of as many octets each.
    let mut control = control_node();
    let mut ends = [1, 2, 3].map(|node| member(&mut control, node));
    ends[1].arrived();
    // Node 1 has ten super-frames of some 32 KiB, node 3 a hundred short frames.
    for _ in 0..10 {
        ends[0].queue(mac(2), 0, 32_000);
    }
    for _ in 0..100 {
        ends[2].queue(mac(2), 0, 60);
    }
    control.next_session = 0;
    control.pump(NOW, 80);
    let from: Vec<u16> = ends[1].frames().iter().map(|header| header.origin.0).collect();
    let of = |node| from.iter().filter(|origin| **origin == node).count();
    // Two turns of node 3 are 128 short frames: a super-frame of node 1 uses two turns up.
    assert_eq!((of(1) <= 2, of(3) >= 78), (true, true), "{} and {}", of(1), of(3));
    // All of it goes in the end.
    control.pump(NOW, 1000);
    let rest = ends[1].frames().len();
    assert_eq!(from.len() + rest, 110);
}

#[test]
fn a_flooding_source_leaves_room_for_a_quiet_one() {
    let small = ShmConfig { slots_log2: 6, ..ShmConfig::default() };
    let mut control = control_node();
    let mut one = member(&mut control, 1);
    let mut two = End::connect(&mut control, 2, process(2), &small);
    two.register(&mut control);
    let mut three = member(&mut control, 3);
    for _ in 0..1500 {
        one.send(&mut control, mac(2), 0);
    }
    let full = |control: &ControlNode| control.status().lans[0].drops.of(DropReason::EgressFull);
    let before = full(&control);
    assert!(before > 500, "{before}");
    for _ in 0..200 {
        three.send(&mut control, mac(2), 0);
    }
    assert_eq!(full(&control), before, "nothing of the quiet source is dropped");
    let mut origins = Vec::new();
    for _ in 0..200 {
        origins.extend(two.frames().iter().map(|header| header.origin.0));
        control.handle_timeout(NOW);
    }
    assert_eq!(origins.iter().filter(|origin| **origin == 3).count(), 200);
}

#[test]
fn a_group_frame_reaches_every_other_member_once() {
    //= spec/server.md#group-frames
    //= type=test
    //# The server MUST give a group frame that is for everybody once to every attached member of the LAN but its sender.
    let mut control = control_node();
    let mut ends = [1, 2, 3].map(|node| member(&mut control, node));
    for end in &mut ends {
        end.arrived();
    }
    ends[0].send(&mut control, MacAddress::BROADCAST, 0);
    assert_eq!(ends.map(|mut end| end.frames().len()), [0, 1, 1]);
}

#[test]
fn a_pair_with_traffic_gets_one_direct_rvi_and_a_cut_pair_none() {
    //= spec/server.md#grants
    //= type=test
    //# A control node MUST grant a direct RVI only to two attached members of one LAN on different nodes whose pair is
    //# not cut, within its bounds for each node and each pair.
    let mut control = control_node();
    let (mut one, mut two) = (member(&mut control, 1), member(&mut control, 2));
    control.handle_command(NOW, Command::Cut { a: NodeNumber(2), b: NodeNumber(1), leg: None });
    burst(&mut control, &mut one, 2);
    assert!(grants(&one.told()).is_empty() && grants(&two.told()).is_empty());
    control.handle_command(NOW, Command::Heal { a: NodeNumber(1), b: NodeNumber(2), leg: None });
    burst(&mut control, &mut one, 2);
    let (ours, theirs) = (grants(&one.told()), grants(&two.told()));
    assert_eq!((ours.len(), theirs.len()), (1, 1));
    assert_eq!((ours[0].rvi, ours[0].channel), (theirs[0].rvi, theirs[0].channel));
    assert_eq!((ours[0].peer, theirs[0].peer), (NodeNumber(2), NodeNumber(1)));
    assert_eq!(introduced(&mut control), [LEG], "one leg that both have");
}

#[test]
fn a_sender_without_a_binding_is_told_where_its_destination_is() {
    //= spec/server.md#binding-notices
    //= type=test
    //# A control node MUST answer a relayed frame whose sender has no binding for its destination with a binding
    //# notice.
    let mut control = control_node();
    let mut ends = [1, 2].map(|node| member(&mut control, node));
    ends[0].send(&mut control, mac(2), FrameHeader::UNBOUND);
    let told = ends[0].told();
    let binding = told.iter().find_map(|message| match message {
        ControlMessage::Binding { mac, location } => Some((*mac, location.node, location.generation)),
        _ => None,
    });
    assert_eq!(binding, Some((mac(2), NodeNumber(2), process(2).0)));
}

#[test]
fn the_first_holder_of_an_address_keeps_it() {
    //= spec/server.md#address-registration
    //= type=test
    //# A control node MUST bind an address that a node registers to the interface that it was registered for, unless
    //# another interface of the LAN holds it: the first holder keeps it.
    let mut control = control_node();
    let mut ends = [1, 2].map(|node| member(&mut control, node));
    let address = InterfaceAddress { address: "10.1.0.1".parse().expect("an address"), prefix: 24 };
    let bind = ControlMessage::Bind { vif: VifNumber(1), address };
    for end in &mut ends {
        end.tell(&mut control, &bind);
    }
    let bindings = control.status().bindings;
    assert_eq!((bindings.len(), bindings[0].node), (1, NodeNumber(1)));
    let conflict = core::iter::from_fn(|| control.poll_output())
        .any(|output| matches!(output, Output::Log(ControlNodeEvent::AddressConflict { .. })));
    assert!(conflict);
}

#[test]
fn a_sender_gets_its_room_back_only_when_its_frames_have_gone() {
    //= spec/server.md#settling
    //= type=test
    //# A control node MUST publish what it sent for a batch of frames before it settles them with their senders.
    let small = ShmConfig { slots_log2: 6, ..ShmConfig::default() };
    let mut control = control_node();
    let mut one = member(&mut control, 1);
    let mut two = End::connect(&mut control, 2, process(2), &small);
    two.register(&mut control);
    two.arrived();
    // More than the receiver's ring holds: what waits in the control node is not settled.
    for _ in 0..60 {
        one.send(&mut control, mac(2), 0);
    }
    one.association.publish();
    assert!(!one.association.is_drained(), "settled while frames wait");
    let mut got = 0;
    for _ in 0..1000 {
        if one.association.is_drained() {
            break;
        }
        got += two.frames().len();
        control.pump(NOW, 100);
        control.handle_timeout(NOW);
        one.association.publish();
    }
    assert!(one.association.is_drained(), "never settled");
    got += two.frames().len();
    assert_eq!(got, 60);
}

#[test]
fn a_receiver_that_takes_nothing_costs_bounded_memory_and_nobody_else() {
    //= spec/server.md#full-outputs
    //= type=test
    //# When a receiver's queue is full the server MUST drop the frame as egress-full and go on.
    let small = ShmConfig { slots_log2: 6, ..ShmConfig::default() };
    let mut control = control_node();
    let mut one = member(&mut control, 1);
    let mut two = End::connect(&mut control, 2, process(2), &small);
    two.register(&mut control);
    let mut three = member(&mut control, 3);
    three.arrived();
    for _ in 0..1500 {
        one.send(&mut control, mac(2), 0);
    }
    one.send(&mut control, mac(3), 0);
    assert_eq!(three.frames().len(), 1);
    let drops = control.status().lans[0].drops.clone();
    assert!(drops.of(DropReason::EgressFull) > 0, "{drops:?}");
    let ledger = control.status().lans[0].ledger;
    assert!(ledger.closes(drops.total()), "{ledger:?} {drops:?}");
}

#[test]
fn an_arp_message_is_passed_on_with_the_location_that_the_control_node_knows() {
    //= spec/arp.md#locations
    //= type=test
    //# The control node MUST write the sender's location, as it knows it, into the header of every ARP and ND message
    //# that it passes on.
    let mut control = control_node();
    let mut ends = [1, 2].map(|node| member(&mut control, node));
    ends[1].arrived();
    let mut frame = vec![0; 42];
    frame[..6].copy_from_slice(&[0xff; 6]);
    frame[6..12].copy_from_slice(&mac(1).0);
    frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&mac(1).0);
    frame[28..32].copy_from_slice(&[10, 1, 0, 1]);
    frame[38..42].copy_from_slice(&[10, 1, 0, 2]);
    let forged = Location { node: NodeNumber(77), ..Location::default() };
    let header = FrameHeader {
        kind: FrameKind::Arp,
        flags: 0,
        lan: LAN,
        origin: NodeNumber(1),
        origin_vif: VifNumber(1),
        destination_vif: VifNumber(0),
        vnet: Vnet::default(),
        boot: BootTag(process(1).0 as u16),
        bseq: 0,
    };
    let octets = header.emit_arp(&forged, &forged, frame.len());
    let parts = [Part::Private(&octets), Part::Private(&frame)];
    ends[0].association.send(NOW, ARP, 0, 0, &parts).expect("room");
    ends[0].association.publish();
    control.pump(NOW, 100);
    let arrived = ends[1].arrived();
    let (channel, octets) = arrived.first().expect("the request");
    assert_eq!(*channel, ARP);
    let (source, target) = FrameHeader::parse_locations(octets).expect("locations");
    assert_eq!((source.node, source.generation, target.node), (NodeNumber(1), process(1).0, NodeNumber(2)));
}
