//! A node whose peer is reached by packets.

use super::*;
use rvi::keys::PrivateKey;
use rvi::packet::endpoint::EndpointConfig;
use rvi::packet::session::{PairKey, SessionConfig, SessionKind, SessionLeg, SessionOffer};
use rvi::packet::transport::{TransmitBuffer, TransportConfig};
use rvi::packet::wire::{PACKET_HEADER_LEN, PacketLeg};
use vlan_core::SecretKey;
use vlan_core::limits::RELAYED_PACKET_LEN_MAX;
use vlan_core::wire::{RELAYED_HEADER_LEN, RelayedPacket};

const KEYS: [[u8; 32]; 2] = [[1; 32], [2; 32]];
const PAIR_KEY: [u8; 32] = [7; 32];
const MILLI: u64 = 1_000_000;
const PEER_OF_LEGS: PeerId = PeerId::Node(NodeNumber(2));

/// The association at the other end, and the clock of both.
pub(super) struct FarPackets {
    pub association: Association,
    buffer: TransmitBuffer,
    pub now: u64,
    pub received: Vec<(Channel, Vec<u8>)>,
    /// The longest packet that arrives.
    path_len: usize,
    /// The direct leg carries nothing.
    pub is_cut: bool,
    /// A control node that carries packets of leg 14.
    pub relay: Option<Far>,
    /// Every packet that the node has sent, by the direct leg and by way of the control node.
    pub sent: Vec<Vec<u8>>,
    /// How many of them by way of the control node.
    pub carried: usize,
}

impl FarPackets {
    /// Grants node 1 an association with packet leg 0, and brings it up.
    pub fn connect(node: &mut Node, control: &mut Far) -> Self {
        let keys = KEYS.map(PrivateKey::from_octets);
        node.enable_packets(keys[0].clone(), [3; 32]);
        let ControlMessage::Grant(mut granted) = grant(&[0]) else { panic!("a grant") };
        granted.association.pair_key = SecretKey::new(PAIR_KEY);
        granted.association.peer_key = keys[1].public();
        let mut association = association(Scheduler::Lane, 1);
        association.open_channel(DIRECT);
        let session = SessionConfig {
            kind: SessionKind::Pair(PairKey::from_octets(PAIR_KEY)),
            own_key: keys[1].clone(),
            peer_key: keys[0].public(),
            own: ProcessId(22),
            peer: Some(ProcessId(11)),
            node: NodeNumber(2),
            own_cid: 9,
            legs: [(0, 1), (14, 0)].map(|(l, fabric_key)| session_leg(l, fabric_key)).to_vec(),
            offer: SessionOffer {
                message_len_max: 66_000,
                credit_messages: 64,
                credit_kib: 64,
                tlv_version: 1,
            },
        };
        let transport = TransportConfig::default();
        let mut packet_len_max = [1400; PacketLeg::COUNT];
        packet_len_max[leg(14).index()] = RELAYED_PACKET_LEN_MAX;
        let config = EndpointConfig { session, transport, packet_len_max, seed: [4; 32] };
        association.set_packets(NOW, config);
        let buffer = TransmitBuffer::new(16, 65_000);
        let mut far = Self {
            association,
            buffer,
            now: NOW.as_nanos(),
            received: Vec::new(),
            path_len: 1400,
            is_cut: false,
            relay: None,
            sent: Vec::new(),
            carried: 0,
        };
        control.tell(node, &ControlMessage::Grant(granted));
        far.run(node, 5);
        let id = control.take(10).iter().find_map(|(_, octets)| match ControlMessage::parse(octets) {
            Ok(ControlMessage::Barrier { id, .. }) => Some(id),
            _ => None,
        });
        far.send(&ControlMessage::BarrierEcho { id: id.expect("a barrier") }.emit(), DIRECT);
        far.run(node, 5);
        far
    }

    pub fn at(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    pub fn send(&mut self, octets: &[u8], channel: Channel) {
        let now = self.at();
        if channel == Channel::CONTROL {
            self.association.send_control(now, octets).expect("room");
        } else {
            self.association.send(now, channel, 0, 0, &[Part::Private(octets)]).expect("room");
        }
    }

    /// Lets both ends run for so many milliseconds.
    pub fn run(&mut self, node: &mut Node, millis: u64) {
        let until = self.now + millis * MILLI;
        while self.now < until {
            self.now += MILLI / 10;
            let now = self.at();
            while let Some(batch) = node.poll_transmit(now, &mut self.buffer) {
                let octets = self.buffer.octets().to_vec();
                for packet in octets.chunks(batch.segment_len) {
                    self.sent.push(packet.to_vec());
                    if packet.len() <= self.path_len && !self.is_cut {
                        let _ = self.association.handle_packet(now, leg(0), &mut packet.to_vec());
                    }
                }
            }
            self.take_carried(now);
            let mut scratch = Scratch::default();
            while let Some(message) = self.association.receive(&mut scratch) {
                let mut octets = message.head.to_vec();
                octets.resize(message.len, 0);
                message.rest.copy_to(&mut octets[message.head.len()..]);
                self.received.push((message.channel, octets));
            }
            self.association.release();
            self.association.handle_timeout(now);
            self.association.publish();
            while let Some(batch) = self.association.poll_transmit(now, &mut self.buffer) {
                for packet in self.buffer.octets().to_vec().chunks(batch.segment_len) {
                    if batch.leg == leg(14) {
                        self.carry(packet);
                    } else if !self.is_cut {
                        node.handle_packet(now, LEG, udp(0), &mut packet.to_vec());
                    }
                }
            }
            node.receive(now, 1000, &mut Sink::default());
            if node.poll_timeout().is_some_and(|at| at <= now) {
                node.handle_timeout(now);
            }
            node.publish(now);
        }
    }

    /// The control node brings a packet of node 2.
    fn carry(&mut self, packet: &[u8]) {
        let header = RelayedPacket { node: NodeNumber(2), epoch: EPOCH }.emit(packet.len());
        if let Some(control) = &mut self.relay {
            control.send(Channel::RELAYED_PACKETS, &[&header[..], packet].concat());
        }
    }

    /// Takes what the node has given to the control node.
    fn take_carried(&mut self, now: Instant) {
        for octets in self.relay.iter_mut().flat_map(Far::relayed) {
            let header = RelayedPacket::parse(&octets, octets.len()).expect("a relayed packet");
            assert_eq!(header, RelayedPacket { node: NodeNumber(2), epoch: EPOCH });
            let packet = &octets[RELAYED_HEADER_LEN..];
            self.sent.push(packet.to_vec());
            self.carried += 1;
            let _ = self.association.handle_packet(now, leg(14), &mut packet.to_vec());
        }
    }

    pub fn frames(&self) -> usize {
        self.received.iter().filter(|(channel, _)| *channel == DIRECT).count()
    }
}

fn session_leg(number: u8, fabric_key: u16) -> SessionLeg {
    SessionLeg { leg: leg(number), fabric_key, is_trusted: false }
}

pub(super) fn leg(number: u8) -> PacketLeg {
    PacketLeg::new(number).expect("a packet leg")
}

pub(super) fn has_link(node: &Node) -> bool {
    node.direct_to(NodeNumber(2)).is_some()
}

#[test]
fn frames_go_by_packets_once_the_barrier_is_past() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let mut far = FarPackets::connect(&mut node, &mut control);
    for number in 0..20 {
        assert_eq!(send(&mut node, PEER, number), Accept::Taken);
    }
    far.run(&mut node, 5);
    assert_eq!((far.frames(), control.frames().len()), (20, 0));
}

#[test]
fn a_path_that_becomes_narrower_gets_shorter_packets() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let mut far = FarPackets::connect(&mut node, &mut control);
    far.path_len = 700;
    node.set_packet_len_max(LEG, far.path_len);
    let frame = [&PEER.0[..], &OWN.0, &[0x88, 0xb5], &[7; 1300]].concat();
    assert_eq!(node.send_frame(NOW, VIF, &Vnet::default(), &frame), Accept::Taken);
    far.run(&mut node, 5);
    assert_eq!(far.frames(), 1);
}

#[test]
fn an_association_that_ends_keeps_its_packet_legs_until_both_ends_are_done() {
    //= spec/driver.md#the-end-of-packet-legs
    //= type=test
    //# An end of an association that is given up MUST keep its packet legs until everything sent by them is
    //# acknowledged and the peer has said the same, or a control node says that the other end is over, or a second has passed.
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let mut far = FarPackets::connect(&mut node, &mut control);
    for number in 0..5 {
        send(&mut node, PEER, number);
    }
    let revoke =
        ControlMessage::Revoke { rvi: RviNumber(7), peer: NodeNumber(2), reason: RevokeReason::Idle };
    control.tell(&mut node, &revoke);
    far.run(&mut node, 20);
    let done = ControlMessage::DirectDone.emit();
    assert!(far.received.iter().any(|(channel, octets)| *channel == Channel::CONTROL && *octets == done));
    assert_eq!(far.frames(), 5);
    assert!(has_link(&node), "the peer may have something to send");
    far.send(&done, Channel::CONTROL);
    far.run(&mut node, 20);
    assert!(!has_link(&node) && !far.association.has_packets_up());
    assert_eq!(drops(&node, DropReason::PeerGone), 0);
}

#[test]
fn a_packet_leg_behind_shared_memory_serves_until_its_association_ends() {
    //= spec/driver.md#the-end-of-packet-legs
    //= type=test
    //# An end of an association that is given up MUST keep its packet legs until everything sent by them is
    //# acknowledged and the peer has said the same, or a control node says that the other end is over, or a second has passed.
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let mut far = FarPackets::connect(&mut node, &mut control);
    let _shared = Far::connect(&mut node, PEER_OF_LEGS, 22, &[DIRECT]);
    let (rvi, peer, reason) = (RviNumber(7), NodeNumber(2), RevokeReason::Idle);
    control.tell(&mut node, &ControlMessage::Revoke { rvi, peer, reason });
    far.run(&mut node, 5);
    node.handle_leg_gone(far.at(), PEER_OF_LEGS, ProcessId(22), LEG);
    far.run(&mut node, 5);
    let done = ControlMessage::DirectDone.emit();
    assert!(far.received.iter().any(|(channel, octets)| *channel == Channel::CONTROL && *octets == done));
    far.send(&done, Channel::CONTROL);
    far.run(&mut node, 20);
    assert!(!has_link(&node) && !far.association.has_packets_up());
}

#[test]
fn a_packet_leg_that_was_cut_is_back_when_it_is_healed_whether_or_not_shared_memory_comes() {
    //= spec/driver.md#cut-packet-legs
    //= type=test
    //# A node MUST go on sending by a packet leg that was cut when it is granted again or a control node says that both ends were
    //# introduced for it.
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let mut far = FarPackets::connect(&mut node, &mut control);
    let shared = Far::connect(&mut node, PEER_OF_LEGS, 22, &[DIRECT]);
    let cut = ControlMessage::LegCut { peer: NodeNumber(2), leg: LEG.0 };
    let healed = ControlMessage::LegIntroduced { peer: NodeNumber(2), leg: LEG.0 };
    control.tell(&mut node, &cut);
    drop(shared);
    node.handle_leg_gone(NOW, PEER_OF_LEGS, ProcessId(22), LEG);
    far.sent.clear();
    far.run(&mut node, 1000);
    assert!(far.sent.is_empty(), "a cut leg carries nothing");
    control.tell(&mut node, &healed);
    far.run(&mut node, 1000);
    assert!(!far.sent.is_empty() && !far.association.is_stalled());
    // Cut again, it is granted other addresses: those that it had are of no use any more.
    control.tell(&mut node, &cut);
    control.tell(&mut node, &grant(&[0]));
    assert_eq!(packet_legs(&node), [0]);
    control.tell(&mut node, &healed);
    assert_eq!(packet_legs(&node), [0], "each leg once");
}

#[test]
fn a_peer_that_does_not_answer_is_waited_for_a_second_and_what_it_may_have_is_counted() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let mut far = FarPackets::connect(&mut node, &mut control);
    far.association = association(Scheduler::Lane, 1);
    for number in 0..5 {
        send(&mut node, PEER, number);
    }
    let revoke = ControlMessage::Revoke { rvi: RviNumber(7), peer: NodeNumber(2), reason: RevokeReason::Cut };
    control.tell(&mut node, &revoke);
    far.run(&mut node, 900);
    assert!(has_link(&node));
    far.run(&mut node, 200);
    assert!(!has_link(&node));
    assert_eq!(drops(&node, DropReason::PeerGone), 5);
}

#[test]
fn an_end_whose_peer_is_over_waits_for_nothing() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let mut far = FarPackets::connect(&mut node, &mut control);
    let revoke = |rvi, reason| ControlMessage::Revoke { rvi: RviNumber(rvi), peer: NodeNumber(2), reason };
    far.is_cut = true;
    control.tell(&mut node, &revoke(7, RevokeReason::Cut));
    far.run(&mut node, 5);
    // The other end says that it is done, and of what else it says, its acks and its CLOSE, nothing arrives.
    far.send(&ControlMessage::DirectDone.emit(), Channel::CONTROL);
    let mut buffer = TransmitBuffer::new(16, 65_000);
    while let Some(batch) = far.association.poll_transmit(far.at(), &mut buffer) {
        for packet in buffer.octets().to_vec().chunks(batch.segment_len) {
            node.handle_packet(far.at(), LEG, udp(0), &mut packet.to_vec());
        }
    }
    assert_eq!(send(&mut node, PEER, 1), Accept::Taken);
    far.run(&mut node, 20);
    control.tell(&mut node, &revoke(6, RevokeReason::Ended));
    assert!(has_link(&node), "an earlier one's end says nothing of this one");
    control.tell(&mut node, &revoke(7, RevokeReason::Ended));
    assert!(!has_link(&node));
    assert_eq!(control.frames().len(), 1, "what was held goes by relay");
    assert_eq!((drops(&node, DropReason::Expired), drops(&node, DropReason::PeerGone)), (0, 0));
}

#[test]
fn packets_of_nobody_are_counted_and_change_nothing() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let mut far = FarPackets::connect(&mut node, &mut control);
    let before = node.stray_packets();
    for len in 0..PACKET_HEADER_LEN {
        node.handle_packet(NOW, LEG, udp(9), &mut vec![0xff; len]);
    }
    assert_eq!(node.stray_packets() - before, PACKET_HEADER_LEN as u64);
    send(&mut node, PEER, 1);
    far.run(&mut node, 5);
    assert_eq!(far.frames(), 1);
}

#[test]
fn an_association_by_packets_ends_when_another_process_serves_the_peer() {
    //= spec/driver.md#former-processes
    //= type=test
    //# A node MUST end a direct association with packet legs when a control node says that another process serves the peer.
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let mut far = FarPackets::connect(&mut node, &mut control);
    let notice = |process| {
        ControlMessage::Member(MemberNotice {
            lan: LanId(10),
            node: NodeNumber(2),
            vif: VIF,
            mac: PEER,
            process: ProcessId(process),
            attached: true,
        })
    };
    control.tell(&mut node, &notice(22));
    far.run(&mut node, 5);
    assert!(has_link(&node));
    control.tell(&mut node, &notice(23));
    assert!(!has_link(&node));
}
