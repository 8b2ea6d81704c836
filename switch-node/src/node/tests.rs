//! A node against a control node and a peer that a test plays message by message.

use super::*;
use alloc::vec;
use rvi::{Part, Region, ShmConfig};
use vlan_core::limits::PARK_TTL;
use vlan_core::location::Location;
use vlan_core::wire::control::{
    ControlMessage, Fault, FaultDirection, Grant, GrantedAssociation, GrantedLeg, HeldAssociation, HeldLeg,
    LegAddress, LegKind, MemberNotice, OfferedLeg, RevokeReason, ServedCluster,
};
use vlan_core::wire::frame::{FrameHeader, FrameKind};
use vlan_core::{BootTag, Channel, LanId, MacAddress, PairEpoch, RviNumber};

const NOW: Instant = Instant::from_nanos(1_000_000);
const LEG: LegNumber = LegNumber(0);
const VIF: VifNumber = VifNumber(1);
const RELAY: Channel = Channel(1);
const ARP: Channel = Channel(2);
const DIRECT: Channel = Channel(5);
const OWN: MacAddress = MacAddress([2, 0, 1, 0, 0, 1]);
const PEER: MacAddress = MacAddress([2, 0, 1, 0, 0, 2]);

/// Nothing is delivered to a stack in these tests but frames that are counted.
#[derive(Default)]
struct Sink(usize);

impl FrameSink for Sink {
    fn deliver(&mut self, _: VifNumber, _: &Vnet, _: &[u8], _: SharedOctets<'_>) -> Delivery {
        self.0 += 1;
        Delivery::Taken
    }
}

/// The tag of a leg that the node has just asked for, in the control node's session `control_node`.
fn tag(node: &mut Node, control_node: u32) -> SessionTag {
    let session = core::iter::from_fn(|| node.poll_output()).find_map(|output| match output {
        Output::Connect { session, .. } => Some(session),
        _ => None,
    });
    SessionTag { node: session.expect("a leg is asked for"), control_node }
}

fn leg_pair() -> (ShmLeg, ShmLeg) {
    let config = ShmConfig::default();
    let regions = [0, 1].map(|_| {
        let region = Region::heap(config.region_len());
        ShmLeg::format(&region, &config);
        region
    });
    let leg = |own: usize| ShmLeg::new(regions[own].clone(), regions[1 - own].clone()).expect("a leg");
    (leg(0), leg(1))
}

/// The far end of one of the node's associations.
struct Far(Association);

impl Far {
    fn connect(node: &mut Node, peer: PeerId, process: u64, channels: &[Channel]) -> Self {
        let (near, far) = leg_pair();
        node.handle_timeout(NOW);
        match peer {
            PeerId::ControlNode(index) => {
                let tag = tag(node, process as u32);
                assert!(node.handle_control_leg_up(NOW, index, ProcessId(process), LEG, tag, near));
            }
            PeerId::Node(number) => {
                assert!(node.handle_leg_up(NOW, number, ProcessId(process), EPOCH, LEG, near));
            }
        }
        Self::on(far, channels)
    }

    fn on(far: ShmLeg, channels: &[Channel]) -> Self {
        let mut association = association(Scheduler::Lane, 3);
        association.handle_leg_up(NOW, LEG, far);
        for &channel in channels {
            association.open_channel(channel);
        }
        Self(association)
    }

    /// A control node that has accepted the node and told it about its interface and one other member.
    fn control(node: &mut Node, process: u64) -> Self {
        let mut far = Self::connect(node, PeerId::ControlNode(0), process, &[RELAY, ARP]);
        far.accept(node);
        far
    }

    fn accept(&mut self, node: &mut Node) {
        self.accept_with(node, vec![]);
    }

    /// The same, for an interface that serves these clusters.
    fn accept_with(&mut self, node: &mut Node, clusters: Vec<ServedCluster>) {
        let interface = InterfaceConfig {
            lan: LanId(10),
            vif: VIF,
            mac: OWN,
            mtu: 1500,
            relay_channel: RELAY,
            arp_channel: ARP,
            port_security: vlan_core::security::PortSecurity::Mac,
            may_listen: false,
            has_carrier: true,
            name: "red0".into(),
            lan_name: "red".into(),
            addresses: vec![],
            gateways: vec![],
            clusters,
            cluster_addresses: vec![],
        };
        let member = MemberNotice {
            lan: LanId(10),
            node: NodeNumber(2),
            vif: VIF,
            mac: PEER,
            process: ProcessId(22),
            attached: true,
        };
        for message in [
            ControlMessage::Registered { epoch: 1 },
            ControlMessage::Interface(interface),
            ControlMessage::Member(member),
            ControlMessage::ConfigurationEnd { epoch: 1 },
        ] {
            self.0.send_control(NOW, &message.emit()).expect("room");
        }
        self.0.publish();
        turn(node);
        assert!(node.is_attached());
    }

    fn send(&mut self, channel: Channel, octets: &[u8]) {
        self.0.send(NOW, channel, 0, 0, &[Part::Private(octets)]).expect("room");
        self.0.publish();
    }

    /// Takes up to `count` messages of data channels.
    fn take(&mut self, count: usize) -> Vec<(Channel, Vec<u8>)> {
        let (mut taken, mut scratch) = (Vec::new(), Scratch::default());
        while taken.len() < count
            && let Some(message) = self.0.receive(&mut scratch)
        {
            if message.channel != Channel::CONTROL {
                taken.push((message.channel, message.head.to_vec()));
            }
        }
        self.0.release();
        taken
    }

    /// Takes everything and gives the messages with relayed packets among it.
    fn relayed(&mut self) -> Vec<Vec<u8>> {
        let (mut relayed, mut scratch) = (Vec::new(), Scratch::default());
        while let Some(message) = self.0.receive(&mut scratch) {
            if message.channel == Channel::RELAYED_PACKETS {
                relayed.push(ingress::whole(&message));
            }
        }
        self.0.release();
        relayed
    }

    /// Takes everything and gives the control messages among it.
    fn told(&mut self) -> Vec<ControlMessage> {
        let (mut told, mut scratch) = (Vec::new(), Scratch::default());
        while let Some(message) = self.0.receive(&mut scratch) {
            if message.channel == Channel::CONTROL {
                let mut octets = message.head.to_vec();
                octets.resize(message.len, 0);
                message.rest.copy_to(&mut octets[message.head.len()..]);
                told.push(ControlMessage::parse(&octets).expect("a control message"));
            }
        }
        self.0.release();
        told
    }

    fn tell(&mut self, node: &mut Node, message: &ControlMessage) {
        self.0.send_control(NOW, &message.emit()).expect("room");
        self.0.publish();
        turn(node);
    }

    fn frames(&mut self) -> Vec<(FrameHeader, u8)> {
        let parse = |(_, octets): (Channel, Vec<u8>)| {
            let header = FrameHeader::parse(&octets, octets.len()).ok()?;
            Some((header, octets[header.kind.header_len() + 20]))
        };
        self.take(1000).into_iter().filter_map(parse).collect()
    }
}

fn node() -> Node {
    Node::new(NodeConfig {
        number: NodeNumber(1),
        process: ProcessId(11),
        cabinet: CabinetNumber(1),
        control_node_legs: vec![vec![LEG]],
        seed: 9,
    })
}

fn turn(node: &mut Node) {
    node.receive(NOW, 1000, &mut Sink::default());
    node.publish(NOW);
}

/// Sends a frame with `number` in it.
fn send(node: &mut Node, to: MacAddress, number: u8) -> Accept {
    let mut frame = [0; 60];
    frame[..6].copy_from_slice(&to.0);
    frame[6..12].copy_from_slice(&OWN.0);
    frame[12] = 8;
    frame[20] = number;
    let accept = node.send_frame(NOW, VIF, &Vnet::default(), &frame);
    node.publish(NOW);
    accept
}

/// The header of a frame from the other member to the node's interface.
fn header(kind: FrameKind, bseq: u32) -> FrameHeader {
    FrameHeader {
        kind,
        flags: 0,
        lan: LanId(10),
        origin: NodeNumber(2),
        origin_vif: VIF,
        destination_vif: VIF,
        vnet: Vnet::default(),
        boot: BootTag(22),
        bseq,
    }
}

/// A relayed frame of `len` octets from the other member to the node's interface.
fn relayed(bseq: u32, len: usize) -> Vec<u8> {
    let mut frame = vec![9; len];
    frame[..6].copy_from_slice(&OWN.0);
    frame[6..12].copy_from_slice(&PEER.0);
    frame[12..14].copy_from_slice(&[8, 0]);
    [&header(FrameKind::Relay, bseq).emit(len)[..], &frame].concat()
}

fn drops(node: &Node, reason: DropReason) -> u64 {
    node.interfaces().map(|interface| interface.counters.drops.of(reason)).sum()
}

fn lose_control(node: &mut Node, process: u64) {
    node.handle_leg_gone(NOW, PeerId::ControlNode(0), ProcessId(process), LEG);
    turn(node);
    assert!(!node.is_attached());
}

#[test]
fn the_sender_of_an_arp_message_is_bound_to_its_location() {
    //= spec/arp.md#learning-locations
    //= type=test
    //# The driver MUST bind the sender's MAC of an ARP or ND message to the location in its header.
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let stranger = MacAddress([2, 9, 9, 9, 9, 9]);
    assert_eq!(send(&mut node, stranger, 0), Accept::Taken);
    assert_eq!(control.frames()[0].0.flags, FrameHeader::UNBOUND);
    let mut frame = [0; 42];
    frame[..6].copy_from_slice(&[0xff; 6]);
    frame[6..12].copy_from_slice(&stranger.0);
    frame[12..14].copy_from_slice(&[8, 6]);
    let header = header(FrameKind::Arp, 0);
    let source = Location { node: NodeNumber(2), vif: VIF, lan: LanId(10), ..Location::default() };
    let octets = header.emit_arp(&source, &Location::default(), frame.len());
    control.send(ARP, &[&octets[..], &frame].concat());
    turn(&mut node);
    assert_eq!(send(&mut node, stranger, 0), Accept::Taken);
    assert_eq!(control.frames()[0].0.flags, 0);
}

#[test]
fn a_leg_joins_only_the_session_that_it_was_set_up_for() {
    //= spec/leg-setup.md#session-tags
    //= type=test
    //# An end MUST take a leg only into the session whose tag it has: the tag of a later session ends the one that is
    //# there first, and a leg with the tag of an earlier one MUST be closed.
    let second = LegNumber(1);
    let mut node = Node::new(NodeConfig { control_node_legs: vec![vec![LEG, second]], ..node().config });
    let control = Far::control(&mut node, 5);
    let process = ProcessId(5);
    let up = |node: &mut Node, tag| node.handle_control_leg_up(NOW, 0, process, second, tag, leg_pair().0);
    let tag = SessionTag { node: 1, control_node: 5 };
    assert!(!up(&mut node, SessionTag { node: 0, ..tag }), "a session of this node that is over");
    assert!(!up(&mut node, SessionTag { control_node: 4, ..tag }), "one of the control node that is over");
    assert!(node.is_attached() && up(&mut node, tag));
    send(&mut node, PEER, 7);

    // The control node has given the session up, which this node learns by a leg that was on its way.
    assert!(!up(&mut node, SessionTag { control_node: 6, ..tag }));
    assert!(!node.is_attached());
    node.handle_timeout(NOW);
    let outputs: Vec<Output> = core::iter::from_fn(|| node.poll_output()).collect();
    let peer = PeerId::ControlNode(0);
    for leg in [LEG, second] {
        assert!(outputs.contains(&Output::CloseLeg { peer, process, leg }), "{outputs:?}");
        assert!(outputs.contains(&Output::Connect { control_node: 0, leg, session: 2 }), "{outputs:?}");
    }
    // What the given-up session had not settled goes by the next one, and its late hang-up ends nothing.
    drop(control);
    let (near, far) = leg_pair();
    let next = SessionTag { node: 2, control_node: 6 };
    assert!(node.handle_control_leg_up(NOW, 0, process, LEG, next, near));
    node.handle_leg_gone(NOW, peer, process, second);
    let mut control = Far::on(far, &[RELAY, ARP]);
    control.accept(&mut node);
    assert_eq!(control.frames().iter().map(|(_, number)| *number).collect::<Vec<_>>(), [7]);
}

#[test]
fn a_session_is_not_over_while_a_leg_of_it_is_being_set_up() {
    //= spec/leg-setup.md#legs-being-set-up
    //= type=test
    //# A node that a control node has accepted MUST NOT take its session for over while a leg of it is being set up.
    let second = LegNumber(1);
    let (peer, process) = (PeerId::ControlNode(0), ProcessId(5));
    for is_answered in [true, false] {
        let mut node = Node::new(NodeConfig { control_node_legs: vec![vec![LEG, second]], ..node().config });
        let mut control = Far::control(&mut node, 5);
        assert_eq!(connects(&mut node), [(second, 1)]);
        // The control node has the second leg first, and sends by it when the first one breaks.
        let (near, far) = leg_pair();
        control.0.handle_leg_up(NOW, second, far);
        control.0.handle_leg_gone(NOW, LEG);
        control.send(RELAY, &relayed(1, 60));
        drop(control);
        node.handle_leg_gone(NOW, peer, process, LEG);
        turn(&mut node);
        node.handle_timeout(NOW);
        assert!(node.is_attached(), "the second leg is being set up");
        assert_eq!(connects(&mut node), [], "and no other one meanwhile");
        let mut sink = Sink::default();
        if is_answered {
            let tag = SessionTag { node: 1, control_node: 5 };
            assert!(node.handle_control_leg_up(NOW, 0, process, second, tag, near));
            node.handle_leg_gone(NOW, peer, process, second);
            node.receive(NOW, 1000, &mut sink);
        } else {
            node.handle_connect_failed(NOW, 0, second);
        }
        assert_eq!((node.is_attached(), sink.0), (false, usize::from(is_answered)));
        node.handle_timeout(NOW);
        assert_eq!(connects(&mut node)[0], (LEG, 2), "the next session begins");
    }
}

/// The legs that the node asks for, and for which session.
fn connects(node: &mut Node) -> Vec<(LegNumber, u32)> {
    let outputs = core::iter::from_fn(|| node.poll_output());
    let legs = outputs.filter_map(|output| match output {
        Output::Connect { leg, session, .. } => Some((leg, session)),
        _ => None,
    });
    legs.collect()
}

#[test]
fn nothing_of_a_peer_that_has_gone_is_kept_mapped() {
    let config = ShmConfig::default();
    let regions = [0, 1].map(|_| Region::heap(config.region_len()));
    regions.iter().for_each(|region| ShmLeg::format(region, &config));
    let leg = |own: usize| ShmLeg::new(regions[own].clone(), regions[1 - own].clone()).expect("a leg");
    let mut node = node();
    node.handle_timeout(NOW);
    let tag = tag(&mut node, 1);
    assert!(node.handle_control_leg_up(NOW, 0, ProcessId(1), LEG, tag, leg(0)));
    let mut control = Far::on(leg(1), &[RELAY, ARP]);
    control.accept(&mut node);
    // Long enough for a rest in the peer's memory.
    control.send(RELAY, &[0; 1000]);
    turn(&mut node);
    drop(control);
    lose_control(&mut node, 1);
    assert_eq!(regions.map(|region| region.clones()), [1, 1]);
}

#[test]
fn a_message_for_no_channel_is_counted() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    control.0.open_channel(Channel(9));
    control.send(Channel(9), &[0; 40]);
    turn(&mut node);
    assert_eq!(node.drops().of(DropReason::NoChannel), 1);
    assert!(node.report().iter().any(|item| item.name == "node.drop.no-channel" && item.value == 1));
}

fn outputs(node: &mut Node) -> Vec<Output> {
    core::iter::from_fn(|| node.poll_output()).collect()
}

fn closes(outputs: &[Output], of: PeerId) -> bool {
    outputs.iter().any(|output| matches!(output, Output::CloseLeg { peer, .. } if *peer == of))
}

#[test]
fn a_node_that_ends_leaves_its_direct_legs_then_relays_then_leaves_its_control_legs() {
    //= spec/driver.md#the-orderly-end-of-a-node
    //= type=test
    //# A node that is asked to end MUST take no more frames from its stacks, leave its direct legs, send what its peers
    //# did not take by relay, and leave its control legs only then.
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let mut peer = direct(&mut node, &mut control);
    let (peer_id, control_id) = (PeerId::Node(NodeNumber(2)), PeerId::ControlNode(0));
    outputs(&mut node);
    node.leave(NOW);
    turn(&mut node);
    assert_eq!(send(&mut node, PEER, 9), Accept::Busy);
    let told = outputs(&mut node);
    assert!(closes(&told, peer_id) && !closes(&told, control_id), "{told:?}");
    // The peer took one of three frames and leaves in turn.
    peer.0.leave_leg(NOW, LEG);
    node.handle_leg_gone(NOW, peer_id, ProcessId(22), LEG);
    turn(&mut node);
    turn(&mut node);
    let told = outputs(&mut node);
    assert!(closes(&told, control_id) && !told.contains(&Output::Left), "{told:?}");
    let numbers: Vec<u8> = control.frames().iter().map(|(_, number)| *number).collect();
    assert_eq!((numbers, drops(&node, DropReason::PeerGone)), (vec![1, 2], 0));
    assert_eq!(control.0.handle_leg_gone(NOW, LEG), rvi::LegEnd::Closed);
    node.handle_leg_gone(NOW, control_id, ProcessId(1), LEG);
    turn(&mut node);
    node.publish(NOW);
    assert!(outputs(&mut node).contains(&Output::Left));
    assert_eq!(node.poll_timeout(), None);
}

#[test]
fn a_node_ends_within_a_second_of_peers_that_do_not_answer() {
    //= spec/driver.md#the-orderly-end-of-a-node
    //= type=test
    //# It MUST end within a second, whatever its peers do.
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let _peer = direct(&mut node, &mut control);
    node.leave(NOW);
    turn(&mut node);
    node.handle_timeout(NOW + (LEAVE_WAIT - Duration::from_nanos(1)));
    assert!(!outputs(&mut node).contains(&Output::Left));
    node.handle_timeout(NOW + LEAVE_WAIT);
    let told = outputs(&mut node);
    assert!(closes(&told, PeerId::ControlNode(0)) && told.contains(&Output::Left), "{told:?}");
    assert_eq!(control.0.handle_leg_gone(NOW, LEG), rvi::LegEnd::Closed, "left in order all the same");
}

#[test]
fn a_frame_without_a_way_is_held_for_50_ms_and_a_bounded_number_of_them() {
    //= spec/driver.md#held-frames
    //= type=test
    //# The driver MUST hold an accepted frame that has no way to go for at most 50 ms, in a bounded queue, and then
    //# count it as expired.
    let mut node = node();
    let _control = Far::control(&mut node, 1);
    lose_control(&mut node, 1);
    for number in 0..=255 {
        assert_eq!(send(&mut node, PEER, number), Accept::Taken);
    }
    assert_eq!((drops(&node, DropReason::Expired), drops(&node, DropReason::EgressFull)), (0, 0));
    assert_eq!(send(&mut node, PEER, 0), Accept::Taken);
    assert_eq!(drops(&node, DropReason::EgressFull), 1);
    node.handle_timeout(NOW + PARK_TTL);
    assert_eq!(drops(&node, DropReason::Expired), 256);
}

#[test]
fn what_a_lost_control_node_had_not_settled_goes_first_to_the_next() {
    //= spec/driver.md#after-the-loss-of-a-control-node
    //= type=test
    //# A node MUST send the relayed and group frames that a lost control node had not settled again, in order and
    //# before anything new, to the next control node that accepts it.
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    for number in 0..3 {
        send(&mut node, PEER, number);
    }
    let first = control.take(1);
    send(&mut node, MacAddress::BROADCAST, 3);
    lose_control(&mut node, 1);
    send(&mut node, PEER, 4);
    let mut control = Far::control(&mut node, 2);
    turn(&mut node);
    let frames = control.frames();
    assert_eq!(first.len(), 1);
    assert_eq!(frames.iter().map(|(_, number)| *number).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let resent = frames.iter().map(|(header, _)| header.flags & FrameHeader::RESENT != 0);
    assert_eq!(resent.collect::<Vec<_>>(), [true, true, true, false]);
    let numbers: Vec<u32> = frames.iter().map(|(header, _)| header.bseq).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{numbers:?}");
}

const EPOCH: PairEpoch = PairEpoch(5);

fn udp(host: u8) -> LegAddress {
    LegAddress::Udp(([192, 0, 2, host], 7401).into())
}

/// The grant of a direct RVI to the other member, with packet legs of these numbers.
fn grant(legs: &[u8]) -> ControlMessage {
    let leg = |&leg: &u8| GrantedLeg {
        leg: LegNumber(leg),
        address: udp(leg),
        is_trusted: false,
        fabric_key: u16::from(leg) + 1,
    };
    ControlMessage::Grant(Grant {
        rvi: RviNumber(7),
        lan: LanId(10),
        peer: NodeNumber(2),
        peer_process: ProcessId(22),
        channel: DIRECT,
        own_vif: VIF,
        peer_vif: VIF,
        peer_mac: PEER,
        association: GrantedAssociation {
            epoch: EPOCH,
            legs: legs.iter().map(leg).collect(),
            ..GrantedAssociation::default()
        },
    })
}

fn packet_legs(node: &Node) -> Vec<u8> {
    let place = node.direct_to(NodeNumber(2)).expect("a link");
    let link = node.direct[place].as_ref().expect("a link");
    link.packet_legs().iter().map(|leg| leg.leg.0).collect()
}

/// A direct RVI past its barrier, with three frames sent of which the peer has taken one.
fn direct(node: &mut Node, control: &mut Far) -> Far {
    control.tell(node, &grant(&[]));
    let mut peer = Far::connect(node, PeerId::Node(NodeNumber(2)), 22, &[DIRECT]);
    turn(node);
    let barriers = control.take(10);
    let Ok(ControlMessage::Barrier { id, .. }) = ControlMessage::parse(&barriers[0].1) else {
        panic!("no barrier but {barriers:?}")
    };
    peer.send(DIRECT, &ControlMessage::BarrierEcho { id }.emit());
    turn(node);
    for number in 0..3 {
        send(node, PEER, number);
    }
    let taken = peer.take(1);
    assert_eq!(taken[0].0, DIRECT);
    peer
}

mod arenas;
mod batches;
mod capture;
mod changes;
mod clusters;
mod direct;
mod epochs;
mod faults;
mod groups;
mod packets;
mod promiscuous;
mod registration;
mod relay_legs;
mod trace;
