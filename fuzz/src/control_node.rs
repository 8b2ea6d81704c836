//! Three nodes that do as they like, against a control node: registrations and control messages of their
//! choice, frames right and wrong, legs that come and go at any time.
//!
//! Checked: no panic, the ledger of each LAN closes, what a node is sent is right and of its own LANs only, and
//! a pair is granted a direct RVI only on a LAN that both are on.

use rvi::{Association, AssociationConfig, Part, Region, Scheduler, Scratch, ShmConfig, ShmLeg};
use switch_server::control_node::{
    ArpMode, Command, ControlNode, ControlNodeConfig, FabricEntry, LanConfig, MemberConfig, NodeEntry,
    PortSecurity,
};
use vlan_core::wire::control::{
    Fault, FaultDirection, Grant, HeldAssociation, HeldDirect, HeldLeg, InterfaceAddress, LegAddress,
    LegKind, OfferedLeg, ReportItem, TLV_VERSION,
};
use vlan_core::wire::{ControlMessage, FrameHeader, FrameKind, RELAYED_HEADER_LEN, RelayedPacket, Vnet};
use vlan_core::{
    CabinetNumber, Channel, ControlNodeSerial, EtherAddress, EtherPort, Instant, LanId, LegNumber,
    MacAddress, NodeNumber, PairEpoch, ProcessId, PublicKey, RviNumber, SecretKey, VifNumber,
};

use crate::script::{Script, mac};

const CONFIG: ShmConfig = ShmConfig { slots_log2: 4, arena_len: 256 * 1024 };
/// On this LAN is every node with its interface 1.
const RED: LanId = LanId(10);
/// On this LAN are nodes 1 and 2 with their interface 2.
const BLUE: LanId = LanId(11);
/// Node 4 is known but a member of nothing.
const NODES: u8 = 4;
const LEGS: u8 = 2;
const OUTPUTS_MAX: usize = 10_000;

/// A node as the fuzzer plays it.
struct Player {
    number: NodeNumber,
    process: ProcessId,
    association: Association,
    /// Its number of the session, and the control node's from the first leg on.
    session: (u32, Option<u32>),
    bseq: u32,
    /// Of the grant that it was given last.
    epoch: PairEpoch,
}

struct Run {
    control_node: ControlNode,
    players: Vec<Player>,
    now: Instant,
}

/// Runs the operations in `data`.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let Some(options) = script.octet() else { return };
    let mut run = start(options);
    while let Some(()) = run.step(&mut script) {
        run.drain_outputs();
        run.check();
    }
    run.finish();
}

fn start(options: u8) -> Run {
    let port_security = if options & 1 == 0 { PortSecurity::Mac } else { PortSecurity::Off };
    let control_node = ControlNode::new(config(port_security));
    let players = (1..=NODES).map(|number| Player::new(NodeNumber(number.into()))).collect();
    let mut run = Run { control_node, players, now: Instant::from_nanos(1) };
    if options & 2 != 0 {
        for player in 0..usize::from(NODES) {
            run.leg_up(player, LegNumber(0));
            run.register(player);
        }
        run.control_node.pump(run.now, 100);
    }
    run
}

fn config(port_security: PortSecurity) -> ControlNodeConfig {
    let member = |node: u8, vif| MemberConfig {
        node: NodeNumber(node.into()),
        vif: VifNumber(vif),
        mac: mac(node + 16 * vif as u8),
        interface: "weft0".into(),
        addresses: Vec::new(),
        gateways: Vec::new(),
    };
    let lan = |id, members| LanConfig {
        id,
        name: "lan".into(),
        mtu: 1500,
        arp: ArpMode::Relay,
        port_security,
        multicast: Default::default(),
        members,
    };
    // All on one host but node 3; on the second fabric shared memory comes after packets.
    let entry = |number: u8| NodeEntry {
        number: NodeNumber(number.into()),
        name: "node".into(),
        public_key: PublicKey([number; 32]),
        host: (number == 3).then(|| "other".into()),
        legs: vec![vec![LegKind::Unix, LegKind::Udp], vec![LegKind::Udp, LegKind::Ether, LegKind::Unix]],
    };
    ControlNodeConfig {
        serial: ControlNodeSerial(1),
        cabinet: CabinetNumber(1),
        process: ProcessId(0xc0),
        epoch: 1,
        seed: 9,
        grant_key: SecretKey::new([7; 32]),
        fabrics: [5, 6].map(|key| FabricEntry { is_trusted: key == 6, key }).to_vec(),
        nodes: (1..=NODES).map(entry).collect(),
        lans: vec![
            lan(RED, (1..=3).map(|node| member(node, 1)).collect()),
            lan(BLUE, (1..=2).map(|node| member(node, 2)).collect()),
        ],
    }
}

/// The LAN of an interface, and its MAC.
fn interface(node: NodeNumber, vif: u8) -> (LanId, MacAddress) {
    (if vif == 1 { RED } else { BLUE }, mac(node.0 as u8 + 16 * vif))
}

fn is_member(node: NodeNumber, lan: LanId) -> bool {
    lan == RED && (1..=3).contains(&node.0) || lan == BLUE && (1..=2).contains(&node.0)
}

impl Player {
    fn new(number: NodeNumber) -> Self {
        let mut player = Self {
            number,
            process: ProcessId(0),
            association: control_association(),
            session: (1, None),
            bseq: 0,
            epoch: PairEpoch(0),
        };
        player.restart(u64::from(number.0));
        player
    }

    /// Another process takes the node's place.
    fn restart(&mut self, process: u64) {
        self.process = ProcessId(process);
        self.association = control_association();
        self.session = (1, None);
        self.bseq = 0;
    }

    fn begin_session(&mut self) {
        self.association = control_association();
        self.session = (self.session.0 + 1, None);
    }

    fn control(&mut self, now: Instant, message: &ControlMessage) {
        let _ = self.association.send_control(now, &message.emit());
    }
}

fn control_association() -> Association {
    let config =
        AssociationConfig { scheduler: Scheduler::Failover, seed: 4, ..AssociationConfig::default() };
    let mut association = Association::new(&config);
    (1..=4).for_each(|channel| association.open_channel(Channel(channel)));
    association.open_channel(Channel::RELAYED_PACKETS);
    association
}

impl Run {
    fn step(&mut self, script: &mut Script<'_>) -> Option<()> {
        let operation = script.below(20)?;
        let player = usize::from(script.below(NODES)?);
        match operation {
            0 => self.leg_up(player, LegNumber(script.below(LEGS)?)),
            1 => self.register(player),
            2 => self.leave(script, player)?,
            3 => self.restart(script, player)?,
            4 | 5 => {
                self.control_node.pump(self.now, usize::from(script.octet()?));
            }
            6 | 7 => self.take(player),
            8 | 9 => self.frame(script, player)?,
            10 => self.arp(script, player)?,
            11 => {
                let message = control_message(script, self.players[player].number)?;
                self.players[player].control(self.now, &message);
            }
            12 => {
                let octets = script.block()?;
                let _ = self.players[player].association.send_control(self.now, octets);
            }
            13 => {
                let channel = Channel(script.below(5)?);
                let octets = script.block()?;
                let part = [Part::Private(octets)];
                let association = &mut self.players[player].association;
                if channel != Channel::CONTROL {
                    let _ = association.send(self.now, channel, 0, 0, &part);
                } else if self.relay(&mut Script::new(octets), player).is_none() {
                    // Too short to say what packet it is to be: it is one itself.
                    let association = &mut self.players[player].association;
                    association.offer(self.now, Channel::RELAYED_PACKETS, 0, &part);
                }
            }
            14 => self.barrier(script, player)?,
            15 => self.command(script)?,
            16 => {
                script.advance(&mut self.now)?;
                self.control_node.handle_timeout(self.now);
            }
            17 => {
                // Long enough for heartbeats and for revocations to time out.
                self.now = self.now + core::time::Duration::from_millis(u64::from(script.octet()?) * 40);
                self.control_node.handle_timeout(self.now);
                self.players[player].association.handle_timeout(self.now);
            }
            18 => {
                if self.control_node.prepare_sleep() {
                    self.control_node.wake();
                }
                while self.control_node.poll_doorbell().is_some() {}
            }
            _ => {
                self.players[player].association.publish();
                while self.players[player].association.poll_doorbell().is_some() {}
            }
        }
        Some(())
    }

    fn leg_up(&mut self, player: usize, leg: LegNumber) {
        let who = &mut self.players[player];
        let regions = [Region::heap(CONFIG.region_len()), Region::heap(CONFIG.region_len())];
        regions.iter().for_each(|region| ShmLeg::format(region, &CONFIG));
        let [near, far] = regions;
        // A host sees the old leg of this number hang up first.
        if who.association.legs().any(|status| status.number == leg) {
            let _ = who.association.handle_leg_gone(self.now, leg);
            self.control_node.handle_leg_gone(self.now, who.number, who.process, leg);
            self.control_node.pump(self.now, usize::MAX);
        }
        let ends = (ShmLeg::new(near.clone(), far.clone()), ShmLeg::new(far, near));
        if let (Ok(ours), Ok(theirs)) = ends {
            let ask = |who: &Player| self.control_node.session_tag(who.number, who.process, who.session.0);
            let mut tag = ask(who);
            if tag.is_none_or(|tag| who.session.1.is_some_and(|joined| joined != tag.control_node)) {
                // The control node has given the session up.
                who.begin_session();
                tag = ask(who);
            }
            let tag = tag.expect("the player's latest session");
            who.session.1 = Some(tag.control_node);
            assert!(self.control_node.handle_leg_up(self.now, who.number, who.process, leg, tag, theirs));
            who.association.handle_leg_up(self.now, leg, ours);
        }
    }

    /// A leg goes, in order or not.
    fn leave(&mut self, script: &mut Script<'_>, player: usize) -> Option<()> {
        let leg = LegNumber(script.below(LEGS)?);
        let in_order = script.flag()?;
        let who = &mut self.players[player];
        if in_order {
            who.association.leave_leg(self.now, leg);
        }
        let _ = who.association.handle_leg_gone(self.now, leg);
        self.control_node.handle_leg_gone(self.now, who.number, who.process, leg);
        Some(())
    }

    /// Another process takes the node's place; the old one's legs hang up, or are left as they are.
    fn restart(&mut self, script: &mut Script<'_>, player: usize) -> Option<()> {
        let process = u64::from(script.octet()?) << 8 | player as u64;
        if script.flag()? {
            self.hang_up(player);
        }
        self.players[player].restart(process);
        Some(())
    }

    fn command(&mut self, script: &mut Script<'_>) -> Option<()> {
        let (a, b) = (NodeNumber(script.below(5)?.into()), NodeNumber(script.below(5)?.into()));
        let leg = script.flag()?.then_some(LegNumber(0));
        let command = match script.below(4)? {
            0 => Command::Cut { a, b, leg },
            1 => Command::Heal { a, b, leg },
            3 => {
                let fault = Fault::new(leg, FaultDirection::In, "loss=5%").expect("a short text");
                Command::Fault { node: (b.0 != 0).then_some(a), fault }
            }
            _ => Command::RequestReports { id: 1 },
        };
        self.control_node.handle_command(self.now, command);
        Some(())
    }

    fn hang_up(&mut self, player: usize) {
        let who = &mut self.players[player];
        for leg in (0..LEGS).map(LegNumber) {
            let _ = who.association.handle_leg_gone(self.now, leg);
            self.control_node.handle_leg_gone(self.now, who.number, who.process, leg);
        }
    }

    fn register(&mut self, player: usize) {
        let who = &mut self.players[player];
        let register = ControlMessage::Register {
            version: TLV_VERSION,
            node: who.number,
            process: who.process,
            interfaces: Vec::new(),
            direct: Vec::new(),
            associations: Vec::new(),
            legs: vec![offered(who.number.0 as u8, 0)],
        };
        who.control(self.now, &register);
        who.association.publish();
    }

    /// A frame on a relay channel, right but for what the script changes.
    fn frame(&mut self, script: &mut Script<'_>, player: usize) -> Option<()> {
        let vif = script.below(2)? + 1;
        let destination = match script.below(6)? {
            0 => MacAddress::BROADCAST,
            node => interface(NodeNumber(node.into()), vif).1,
        };
        let kind = if destination.is_group() { FrameKind::Group } else { FrameKind::Relay };
        let len = 60 + usize::from(script.below(3)?) * 400;
        let mut frame = vec![0; len];
        frame[..6].copy_from_slice(&destination.0);
        frame[12..14].copy_from_slice(&[8, 0]);
        self.send_frame(script, player, vif, kind, Channel(2 * vif - 1), frame)
    }

    fn arp(&mut self, script: &mut Script<'_>, player: usize) -> Option<()> {
        let vif = script.below(2)? + 1;
        let own = interface(self.players[player].number, vif).1;
        let (kind, sender, target) = (script.below(3)?, script.octet()?, script.octet()?);
        let operation = if kind == 1 {
            arp_server::build::Operation::Reply
        } else {
            arp_server::build::Operation::Request
        };
        let destination = if kind == 0 {
            MacAddress::BROADCAST
        } else {
            interface(NodeNumber(u16::from(target % 4) + 1), vif).1
        };
        let address = |tail| std::net::Ipv4Addr::new(10, 1, 0, tail);
        let frame = arp_server::build::arp(operation, destination, (own, address(sender)), address(target));
        self.send_frame(script, player, vif, FrameKind::Arp, Channel(2 * vif), frame.into())
    }

    fn send_frame(
        &mut self,
        script: &mut Script<'_>,
        player: usize,
        vif: u8,
        kind: FrameKind,
        channel: Channel,
        mut frame: Vec<u8>,
    ) -> Option<()> {
        let who = &mut self.players[player];
        let (lan, own) = interface(who.number, vif);
        frame[6..12].copy_from_slice(&own.0);
        let mut header = FrameHeader {
            kind,
            flags: 0,
            lan,
            origin: who.number,
            origin_vif: VifNumber(vif.into()),
            destination_vif: VifNumber(0),
            vnet: Vnet::default(),
            boot: who.process.boot_tag(),
            bseq: who.bseq,
        };
        match script.below(16)? {
            0 => header.flags = script.octet()?,
            1 => header.lan = LanId(script.octet()?.into()),
            2 => header.origin = NodeNumber(script.octet()?.into()),
            3 => header.bseq = script.u32()?,
            4 => frame[usize::from(script.below(60)?) % 42] = script.octet()?,
            5 => frame.truncate(script.octet()?.into()),
            6 => header.vnet = script.octets(10)?.first_chunk().map(Vnet::parse)?,
            _ => who.bseq = who.bseq.wrapping_add(1),
        }
        let octets = match kind {
            FrameKind::Arp => header.emit_arp(&Default::default(), &Default::default(), frame.len()).to_vec(),
            _ => header.emit(frame.len()).to_vec(),
        };
        let parts = [Part::Private(&octets), Part::Private(&frame)];
        let _ = who.association.send(self.now, channel, 0, 0, &parts);
        who.association.publish();
        Some(())
    }

    fn barrier(&mut self, script: &mut Script<'_>, player: usize) -> Option<()> {
        let vif = script.below(2)? + 1;
        let who = &mut self.players[player];
        let message = ControlMessage::Barrier {
            lan: interface(who.number, vif).0,
            origin: who.number,
            origin_vif: VifNumber(vif.into()),
            destination: NodeNumber(script.below(5)?.into()),
            destination_vif: VifNumber(script.below(3)?.into()),
            boot: who.process.boot_tag(),
            id: 1,
        };
        let octets = message.emit();
        let _ = who.association.send(self.now, Channel(2 * vif - 1), 0, 0, &[Part::Private(&octets)]);
        Some(())
    }

    /// A packet for another node, which says whose it is; right but for what the script changes.
    fn relay(&mut self, script: &mut Script<'_>, player: usize) -> Option<()> {
        let who = &mut self.players[player];
        let node = NodeNumber(script.below(NODES + 1)?.into());
        let epoch = PairEpoch(who.epoch.0.wrapping_add(script.below(2)?.into()));
        let packet = vec![who.number.0 as u8; usize::from(script.octet()?) * 5];
        let mut octets = RelayedPacket { node, epoch }.emit(packet.len());
        if let Some(octet) = octets.get_mut(usize::from(script.octet()?)) {
            *octet ^= script.octet()?;
        }
        let parts = [Part::Private(octets.as_slice()), Part::Private(&packet)];
        who.association.offer(self.now, Channel::RELAYED_PACKETS, 0, &parts);
        Some(())
    }

    /// Takes all that a node was sent, and checks it.
    fn take(&mut self, player: usize) {
        let who = &mut self.players[player];
        let mut scratch = Scratch::default();
        while let Some(message) = who.association.receive(&mut scratch) {
            let mut octets = message.head.to_vec();
            octets.resize(message.len, 0);
            message.rest.copy_to(&mut octets[message.head.len()..]);
            if message.channel == Channel::CONTROL {
                let message = ControlMessage::parse(&octets).expect("a control message");
                check_control(who.number, &message);
                if let ControlMessage::Grant(grant) = message {
                    who.epoch = grant.association.epoch;
                }
            } else if message.channel == Channel::RELAYED_PACKETS {
                let header = RelayedPacket::parse(&octets, octets.len()).expect("a relayed packet");
                let is_true = octets[RELAYED_HEADER_LEN..].iter().all(|o| u16::from(*o) == header.node.0);
                assert!(is_true && header.node != who.number, "a packet of somebody else");
            } else if let Ok(header) = FrameHeader::parse(&octets, octets.len()) {
                let vif = message.channel.0.div_ceil(2);
                assert_eq!(header.lan, interface(who.number, vif).0, "a frame of another LAN");
                assert!(is_member(who.number, header.lan), "a frame to a non-member");
                assert!(is_member(header.origin, header.lan), "a frame from a non-member");
            } else {
                let barrier = ControlMessage::parse(&octets).expect("a frame or a message in band");
                assert!(barrier.is_in_band());
            }
        }
        who.association.release();
        who.association.publish();
        while who.association.poll_event().is_some() {}
    }

    fn drain_outputs(&mut self) {
        for count in 0.. {
            assert!(count < OUTPUTS_MAX, "outputs without end");
            if self.control_node.poll_output().is_none() {
                break;
            }
        }
    }

    fn check(&self) {
        for lan in self.control_node.status().lans {
            assert!(lan.ledger.closes(lan.drops.total()), "LAN {}: {:?} {:?}", lan.id, lan.ledger, lan.drops);
        }
    }

    /// Every leg hangs up: nobody is attached any more, and nothing is bound.
    fn finish(mut self) {
        for player in 0..self.players.len() {
            self.hang_up(player);
        }
        self.control_node.pump(self.now, usize::MAX);
        self.check();
        let status = self.control_node.status();
        for player in &self.players {
            let attached = status.nodes.iter().find(|n| n.number == player.number).and_then(|n| n.process);
            assert_ne!(attached, Some(player.process), "attached without a leg");
        }
    }
}

fn check_control(node: NodeNumber, message: &ControlMessage) {
    match message {
        ControlMessage::Grant(Grant { lan, peer, association, .. }) => {
            assert!(is_member(node, *lan) && is_member(*peer, *lan) && node != *peer, "{message:?}");
            assert_ne!(association.epoch, PairEpoch(0), "{message:?}");
            assert_eq!(association.peer_key, PublicKey([peer.0 as u8; 32]), "{message:?}");
            for leg in &association.legs {
                // The address that the peer itself said, of a kind that both list there.
                let is_trusted = leg.leg == LegNumber(1);
                assert_eq!((leg.is_trusted, leg.fabric_key), (is_trusted, 5 + u16::from(is_trusted)));
                assert!(leg.address.is_usable(), "{message:?}");
                let LegAddress::Udp(address) = leg.address else { continue };
                assert_eq!(address.port(), 7000 + peer.0, "{message:?}");
            }
        }
        ControlMessage::Member(notice) => {
            assert!(is_member(node, notice.lan) && is_member(notice.node, notice.lan), "{message:?}");
        }
        ControlMessage::Interface(config) => assert!(is_member(node, config.lan), "{message:?}"),
        ControlMessage::Binding { location, .. } => assert!(is_member(node, location.lan), "{message:?}"),
        _ => {}
    }
}

/// An address of a packet leg of `node`, good or bad.
fn offered(node: u8, choice: u8) -> OfferedLeg {
    let udp = |ip: [u8; 4]| LegAddress::Udp((std::net::Ipv4Addr::from(ip), 7000 + u16::from(node)).into());
    let port = EtherPort(u32::from(node));
    let ether = |mac| LegAddress::Ether(EtherAddress { mac, port });
    let address = match choice / 4 {
        0 => udp([192, 0, 2, node]),
        1 => udp([192, 0, 2, node + 100]),
        2 => udp([224, 0, 0, 1]),
        3 => LegAddress::Udp((std::net::Ipv4Addr::LOCALHOST, 0).into()),
        4 => ether(mac(node)),
        _ => ether(MacAddress::BROADCAST),
    };
    OfferedLeg { leg: LegNumber(choice % 4), address }
}

fn legs(script: &mut Script<'_>, node: NodeNumber) -> Option<Vec<OfferedLeg>> {
    let count = script.below(4)?;
    (0..count).map(|_| Some(offered(node.0 as u8, script.below(24)?))).collect()
}

/// What a node says that it holds of its association with `peer`.
fn association(script: &mut Script<'_>, peer: NodeNumber) -> Option<HeldAssociation> {
    const KINDS: [LegKind; 3] = [LegKind::Unix, LegKind::Udp, LegKind::Ether];
    let legs = script.below(3)?;
    let leg = |leg| Some(HeldLeg { leg: LegNumber(leg), kind: KINDS[usize::from(script.below(3)?)] });
    let legs = (0..legs).map(leg).collect::<Option<Vec<_>>>()?;
    let process = ProcessId(u64::from(peer.0) + u64::from(script.below(2)?));
    Some(HeldAssociation { peer, process, epoch: PairEpoch(script.below(3)?.into()), legs })
}

/// A control message that only a node sends, with fields of the script's choice.
fn control_message(script: &mut Script<'_>, node: NodeNumber) -> Option<ControlMessage> {
    let vif = VifNumber(script.below(4)?.into());
    let rvi = RviNumber(script.below(8)?.into());
    let peer = NodeNumber(script.below(5)?.into());
    let address = std::net::Ipv4Addr::new(10, 1, 0, script.octet()?).into();
    Some(match script.below(11)? {
        0 => ControlMessage::Heartbeat { number: 1 },
        1 | 2 => ControlMessage::Bind { vif, address: InterfaceAddress { address, prefix: 24 } },
        3 => ControlMessage::Unbind { vif, address },
        4 => ControlMessage::DirectIdle { rvi },
        5 => ControlMessage::DirectLost { peer, process: ProcessId(u64::from(peer.0)) },
        6 => ControlMessage::Revoked { rvi },
        7 => ControlMessage::Report {
            id: 1,
            last: script.flag()?,
            items: vec![ReportItem { name: "x".into(), value: 1 }; 40],
        },
        8 => ControlMessage::LegAddresses { legs: legs(script, node)? },
        9 => ControlMessage::Fault(Fault::new(None, FaultDirection::Out, "off")?),
        _ => {
            let held = HeldDirect {
                rvi,
                lan: if script.flag()? { RED } else { BLUE },
                peer,
                channel: Channel(script.below(4)?),
                own_vif: vif,
                peer_vif: VifNumber(script.below(3)?.into()),
            };
            ControlMessage::Register {
                version: u16::from(script.below(3)?),
                node: if script.octet()? == 0 { peer } else { node },
                process: ProcessId(script.octet()?.into()),
                interfaces: Vec::new(),
                direct: vec![held; usize::from(script.below(3)?)],
                associations: vec![association(script, peer)?; usize::from(script.below(3)?)],
                legs: legs(script, node)?,
            }
        }
    })
}

/// Nodes that attach, talk, are granted a direct RVI, restart and go.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    // Operation, node, interface, destination, length, no change.
    let to_2: &[u8] = &[8, 0, 0, 2, 0, 9];
    let to_all: &[u8] = &[8, 1, 0, 0, 0, 9];
    let blue: &[u8] = &[8, 0, 1, 2, 1, 9];
    let ask: &[u8] = &[10, 0, 0, 0, 1, 2, 9];
    let answer: &[u8] = &[10, 1, 0, 1, 2, 0, 9];
    let bind: &[u8] = &[11, 0, 1, 0, 0, 1, 1];
    let pump: &[u8] = &[4, 0, 100];
    let take: &[u8] = &[6, 0, 6, 1, 6, 2];
    let later: &[u8] = &[16, 0, 0xff, 0x7f];
    let talk = [&[2][..], to_2, to_all, blue, ask, answer, bind, pump, take, later, to_2, pump, take];
    let granted = [&[2][..], to_2, pump, later, to_2, pump, take, &[11, 0, 1, 1, 2, 0, 5], pump, take];
    let restart = [&[2][..], to_2, pump, &[3, 0, 9, 1, 0, 0, 0, 1, 0], pump, take, to_2, pump, take];
    let two_legs = [&[0][..], &[0, 0, 0, 1, 0, 0, 0, 1, 4, 0, 9, 2, 0, 0, 1, 4, 0, 9], to_2, pump, take];
    let cut =
        [&[3][..], to_2, pump, later, to_2, pump, &[15, 0, 1, 2, 0, 0], take, &[17, 0, 255], pump, take];
    // To a node of another host, by packets; then from another address.
    let to_3: &[u8] = &[8, 0, 0, 3, 0, 9];
    let moved: &[u8] = &[11, 0, 0, 0, 0, 0, 8, 2, 4, 1, 19, 0];
    let leg_cut: &[u8] = &[15, 0, 1, 3, 1, 0];
    let packets = [
        &[2][..],
        to_3,
        pump,
        later,
        to_3,
        pump,
        take,
        moved,
        pump,
        take,
        leg_cut,
        pump,
        take,
        moved,
        pump,
        take,
    ];
    // Nodes 1 and 3 claim what they have from an earlier control node: interface, RVI, peer; registration; LAN, channel,
    // interface; version, node, process; one RVI; one udp leg, process, epoch, once; one address.
    let claim = |node: u8, peer: u8| {
        [11, node - 1, 1, 1, peer, 0, 10, 1, 1, 1, 1, 1, node, 1, 1, 1, 0, 1, 1, 1, 0, 19, node - 1]
    };
    let up: &[u8] = &[0, 0, 0, 0, 2, 0];
    // Octets, to node, epoch, length, no change; also in another epoch, to a node without a grant, and one with a change.
    let to = |octets: &[u8]| [&[13, 0, 0, octets.len() as u8][..], octets].concat();
    let relays =
        [to(&[3, 0, 20, 99]), to(&[3, 1, 20, 99]), to(&[2, 0, 20, 99]), to(&[3, 0, 20, 0, 1])].concat();
    let relayed = [&[2][..], to_3, pump, later, to_3, pump, take, &relays, &[19, 0], pump, take];
    let claims = [&[0][..], up, &claim(1, 3), pump, &claim(3, 1), pump, take, pump];
    vec![
        talk.concat(),
        granted.concat(),
        restart.concat(),
        two_legs.concat(),
        cut.concat(),
        packets.concat(),
        claims.concat(),
        relayed.concat(),
    ]
}
