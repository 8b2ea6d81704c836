//! Sequences of notices, grants, barriers and frames into the driver of one interface.
//!
//! Checked: the ledger closes on both sides, a frame goes on a direct RVI only behind an echoed barrier, held
//! frames are released, and a numbered frame is delivered at most once.

use vlan_core::driver::{BARRIER_RETRY, CopyWay, Driver, Egress, InBand, Ingress, Path, PeerSlot};
use vlan_core::limits::LISTENERS_PER_LAN_MAX;
use vlan_core::location::Location;
use vlan_core::security::claims;
use vlan_core::wire::ControlMessage;
use vlan_core::wire::control::{Grant, InterfaceConfig, MemberNotice};
use vlan_core::wire::{FrameHeader, FrameKind, Vnet};
use vlan_core::{
    BootTag, Channel, DropReason, Instant, LanId, MacAddress, NodeNumber, ProcessId, RviNumber, VifNumber,
};

use crate::numbers::Numbers;
use crate::script::{Script, mac};

const LAN: LanId = LanId(10);
const OWN: NodeNumber = NodeNumber(1);
const OWN_VIF: VifNumber = VifNumber(1);
const PEERS_MAX: usize = 4;
/// How many pairs of node and interface the notices of a run can name.
const PEERS_NAMED: usize = 12;

/// What the run has seen, to hold the driver against.
#[derive(Default)]
struct Model {
    /// For each slot: the number of the barrier that waits for its echo; 0 for the peer's word.
    waiting: [Option<u32>; PEERS_MAX],
    /// Slots whose traffic may go direct.
    direct: [bool; PEERS_MAX],
    /// For each slot: it was direct and is closing.
    closing: [bool; PEERS_MAX],
    /// Slots with frames on hold.
    held: [u64; PEERS_MAX],
    /// For each slot: the life of the peer and which of its numbered frames were delivered in it.
    delivered: [(Option<BootTag>, Numbers); PEERS_MAX],
    offered: u64,
    copies: u64,
    arrived: u64,
    now: Instant,
}

/// Runs the operations in `data`.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let Some(seed) = script.octet() else { return };
    let mut driver = Driver::new(OWN, ProcessId(0x77), config(), PEERS_MAX, seed.into());
    let mut model = Model::default();
    while let Some(()) = step(&mut script, &mut driver, &mut model) {
        drain(&mut driver, &mut model);
        check_ledger(&driver, &model);
        assert!(driver.peers().len() <= PEERS_NAMED, "more peers than the notices named");
    }
}

fn config() -> InterfaceConfig {
    let octets = ControlMessage::Interface(InterfaceConfig {
        lan: LAN,
        vif: OWN_VIF,
        mac: mac(1),
        mtu: 1500,
        relay_channel: Channel(1),
        arp_channel: Channel(2),
        port_security: vlan_core::security::PortSecurity::Mac,
        may_listen: true,
        has_carrier: true,
        name: "red0".into(),
        lan_name: "red".into(),
        addresses: Vec::new(),
        gateways: Vec::new(),
        clusters: Vec::new(),
        cluster_addresses: Vec::new(),
    })
    .emit();
    match ControlMessage::parse(&octets) {
        Ok(ControlMessage::Interface(config)) => config,
        other => panic!("an interface configuration became {other:?}"),
    }
}

fn step(script: &mut Script<'_>, driver: &mut Driver, model: &mut Model) -> Option<()> {
    match script.below(16)? {
        0 => {
            let _ = driver.handle_member(&notice(script)?);
            while let Some(slot) = driver.poll_replaced() {
                begin_anew(driver, model, slot);
            }
        }
        1 => {
            let location =
                Location { node: node(script)?, vif: vif(script)?, lan: LAN, ..Location::default() };
            driver.handle_binding(mac(script.octet()?), &location);
        }
        2 => {
            let _ = driver.handle_grant(&grant(script)?);
        }
        3 => direct_up(script, driver, model)?,
        4 => {
            let slot = known_slot(script, driver)?;
            let was_direct = driver.peer(slot)?.path == Path::Direct;
            driver.handle_direct_closing(slot);
            stop_direct(model, slot);
            // Passed its barrier before: a leg that comes back resumes it without another.
            if let Some(closing) = model.closing.get_mut(usize::from(slot.0)) {
                *closing |= was_direct;
            }
        }
        5 => {
            let slot = known_slot(script, driver)?;
            driver.handle_direct_gone(slot);
            stop_direct(model, slot);
            if let Some(closing) = model.closing.get_mut(usize::from(slot.0)) {
                *closing = false;
            }
        }
        6 => {
            let (node, vif, boot) = (node(script)?, vif(script)?, BootTag(script.u16()?));
            driver.handle_barrier(node, vif, boot, script.u32()?);
        }
        7 => {
            let slot = known_slot(script, driver)?;
            let id = script.octet()?.into();
            driver.handle_barrier_echo(slot, id);
            let place = usize::from(slot.0);
            if place < PEERS_MAX && model.waiting[place] == Some(id) {
                model.waiting[place] = None;
                model.direct[place] = true;
            }
        }
        8 => {
            let slot = known_slot(script, driver)?;
            let place = usize::from(slot.0);
            if driver.handle_relay_drained(slot) && place < PEERS_MAX {
                assert!(model.waiting[place].take().is_some(), "a barrier ended that was not there");
                model.direct[place] = true;
            }
        }
        9 => {
            script.advance(&mut model.now)?;
            driver.handle_timeout(model.now);
            assert!(driver.poll_timeout().is_none_or(|at| at > model.now), "a timeout that does not end");
            for (place, peer) in driver.peers().iter().enumerate().take(PEERS_MAX) {
                if peer.path == Path::Relay {
                    model.waiting[place] = None;
                }
            }
            model.now = model.now + BARRIER_RETRY;
        }
        10 | 11 => send(script, driver, model)?,
        12 => receive_relayed(script, driver, model)?,
        14 => listeners(script, driver)?,
        15 => copy(script, driver)?,
        _ => receive_direct(script, driver, model)?,
    }
    Some(())
}

/// What control nodes say of listeners, and the device of this one.
fn listeners(script: &mut Script<'_>, driver: &mut Driver) -> Option<()> {
    let control_node = script.below(2)?;
    match script.below(6)? {
        0 => driver.end_vouching(control_node),
        1 => driver.forget_unvouched(),
        2 => {
            driver.set_promiscuous(script.flag()?);
        }
        3 => driver.review_listener(control_node, &notice(script)?),
        _ => {
            let (node, vif) = (node(script)?, vif(script)?);
            let generation = script.below(4)?.into();
            let at = Location { node, vif, lan: LAN, generation, ..Location::default() };
            driver.handle_listener(control_node, &at, script.flag()?);
        }
    }
    let listeners = (0..).map_while(|place| driver.listener(place));
    let listeners: Vec<PeerSlot> = listeners.collect();
    assert!(listeners.len() <= LISTENERS_PER_LAN_MAX);
    assert!(listeners.iter().all(|slot| driver.peer(*slot).is_some()), "a listener that is nobody");
    Some(())
}

/// A copy for each listener, as the node sends it.
fn copy(script: &mut Script<'_>, driver: &mut Driver) -> Option<()> {
    let destination = mac(script.octet()?);
    let mut place = 0;
    while let Some(slot) = driver.listener(place) {
        place += 1;
        let way = driver.copy_way(slot).expect("a listener has a way");
        let (header, node) = driver.listener_header(slot, &Vnet::default()).expect("a listener is known");
        check_header(&header, FrameKind::Promiscuous);
        let peer = driver.peer(slot).expect("a peer");
        assert_eq!((header.destination_vif, node), (peer.vif, peer.node));
        assert!(!matches!(way, CopyWay::Direct { .. }) || peer.direct.is_some());
        if !driver.is_destination(slot, destination) && way != CopyWay::Hold {
            driver.sent_copy(way, 60);
        }
    }
    Some(())
}

/// Another member has the place of a peer, and nothing of what that had.
fn begin_anew(driver: &Driver, model: &mut Model, slot: PeerSlot) {
    let peer = driver.peer(slot).expect("a peer has its place");
    assert_eq!((peer.direct, peer.path), (None, Path::Relay));
    stop_direct(model, slot);
    let place = usize::from(slot.0);
    if place < PEERS_MAX {
        model.closing[place] = false;
        model.delivered[place] = Default::default();
    }
}

fn stop_direct(model: &mut Model, slot: PeerSlot) {
    let place = usize::from(slot.0);
    if place < PEERS_MAX {
        model.direct[place] = false;
        model.waiting[place] = None;
    }
}

fn direct_up(script: &mut Script<'_>, driver: &mut Driver, model: &mut Model) -> Option<()> {
    let slot = known_slot(script, driver)?;
    let relay_up = script.flag()?;
    let waits_already = driver.peer(slot)?.direct.is_none();
    driver.handle_direct_up(model.now, slot, relay_up);
    let place = usize::from(slot.0);
    if place < PEERS_MAX && !waits_already && std::mem::take(&mut model.closing[place]) {
        model.direct[place] = true;
        return Some(());
    }
    if place < PEERS_MAX && !waits_already && !model.direct[place] {
        model.waiting[place] = Some(if relay_up { last_barrier(driver) } else { 0 });
    }
    Some(())
}

/// The number of the barrier that the driver has just asked to send.
fn last_barrier(driver: &mut Driver) -> u32 {
    let mut last = 0;
    while let Some(message) = driver.poll_in_band() {
        if let InBand::Relay(ControlMessage::Barrier { id, .. }) = message {
            last = id;
        }
    }
    last
}

fn drain(driver: &mut Driver, model: &mut Model) {
    while let Some(message) = driver.poll_in_band() {
        match message {
            InBand::Relay(ControlMessage::Barrier { lan, origin, .. }) => {
                assert_eq!((lan, origin), (LAN, OWN))
            }
            InBand::Direct(_, _, ControlMessage::BarrierEcho { .. }) => {}
            other => panic!("an unexpected message in band: {other:?}"),
        }
    }
    while let Some(slot) = driver.poll_released() {
        let place = usize::from(slot.0);
        if place < PEERS_MAX {
            // Released frames are classified again; here they are given up and counted.
            driver.count_drop(DropReason::Expired, core::mem::take(&mut model.held[place]));
        }
    }
    while let Some(slot) = driver.poll_barrier_retry(model.now) {
        assert!(driver.peer(slot).is_some_and(|peer| peer.direct.is_some()));
    }
}

fn check_ledger(driver: &Driver, model: &Model) {
    let counters = driver.counters();
    let out = counters.sent_direct.frames + counters.sent_relay.frames;
    let up = counters.received_direct.frames + counters.received_relay.frames;
    let held: u64 = model.held.iter().sum();
    assert_eq!(model.offered + model.arrived, out + up + held + counters.drops.total());
}

fn send(script: &mut Script<'_>, driver: &mut Driver, model: &mut Model) -> Option<()> {
    let vnet = vnet(script)?;
    let destination = if script.flag()? { mac(script.octet()?) } else { MacAddress::BROADCAST };
    let head = frame(script, destination, mac(1))?;
    let frame_len = head.len() + usize::from(script.u16()?);
    model.offered += 1;
    check_run(driver, &vnet, &head);
    let egress = driver.classify(&vnet, &head, frame_len);
    let header = driver.server_header(egress, &vnet);
    match egress {
        Egress::Direct { peer, node, copy_to_server, .. } => {
            assert_eq!(driver.peer(peer).map(|p| p.node), Some(node));
            let place = usize::from(peer.0);
            assert!(place >= PEERS_MAX || model.direct[place], "direct before the barrier");
            let header = driver.direct_header(peer, &vnet, frame_len).expect("a peer");
            let header = FrameHeader::parse(&header, header.len() + frame_len).expect("a header of our own");
            check_header(&header, FrameKind::Unicast);
            driver.sent_direct(frame_len);
            if copy_to_server {
                let copy = driver.copy_header(&vnet);
                driver.sent(&copy, frame_len);
                model.copies += 1;
            }
        }
        Egress::Relay { .. } | Egress::Group | Egress::Arp => {
            let header = header.expect("a header for the control node");
            let kind = match egress {
                Egress::Arp => FrameKind::Arp,
                _ if destination.is_group() => FrameKind::Group,
                _ => FrameKind::Relay,
            };
            check_header(&header, kind);
            driver.sent(&header, frame_len);
        }
        Egress::Hold { peer } => {
            let place = usize::from(peer.0);
            if place < PEERS_MAX {
                model.held[place] += 1;
            } else {
                driver.count_drop(DropReason::Expired, 1);
            }
        }
        Egress::Drop(reason) => driver.count_drop(reason, 1),
    }
    Some(())
}

/// A run gives a frame the header that it would get alone.
fn check_run(driver: &Driver, vnet: &Vnet, frame: &[u8]) {
    let egress = driver.classify(vnet, frame, frame.len());
    let alone = match egress {
        Egress::Direct { peer, copy_to_server: false, .. } => driver.direct_header(peer, vnet, frame.len()),
        Egress::Relay { peer: Some(_) } => {
            driver.server_header(egress, vnet).map(|header| header.emit(frame.len()))
        }
        _ => None,
    };
    assert_eq!(driver.outgoing_run(vnet, frame).and_then(|run| run.header(vnet, frame)), alone);
}

/// Of a run comes what comes alone: the frame that begins it, the next ones, and one of them again.
fn check_relayed_run(driver: &Driver, header: &FrameHeader, frame: &[u8]) {
    let mut alone = driver.clone();
    if header.kind != FrameKind::Relay
        || !matches!(alone.admit_relayed(header, frame, frame.len()), Ingress::Deliver(_))
    {
        return;
    }
    let mut together = alone.clone();
    let Some(run) = together.relayed_run(header) else { return };
    for ahead in [0, 1, 2, 2, 40, 39, 41] {
        let next = FrameHeader { bseq: header.bseq.wrapping_add(ahead), ..*header };
        let message = [&next.emit(frame.len())[..], frame].concat();
        let expected = alone.admit_relayed(&next, frame, frame.len());
        match together.take(&run, &message, message.len()) {
            Some(vnet) => assert_eq!(Ingress::Deliver(vnet), expected),
            None => assert_eq!(together.admit_relayed(&next, frame, frame.len()), expected),
        }
    }
    assert_eq!(together.counters(), alone.counters());
}

fn check_header(header: &FrameHeader, kind: FrameKind) {
    assert_eq!((header.kind, header.lan, header.origin, header.origin_vif), (kind, LAN, OWN, OWN_VIF));
}

fn receive_relayed(script: &mut Script<'_>, driver: &mut Driver, model: &mut Model) -> Option<()> {
    let header = header(script)?;
    let head = frame(script, mac(1), mac(2))?;
    let frame_len = head.len();
    model.arrived += 1;
    check_relayed_run(driver, &header, &head);
    if let Ingress::Deliver(vnet) = driver.admit_relayed(&header, &head, frame_len) {
        assert!(vnet.is_valid_for(frame_len) && header.lan == LAN);
        note_delivered(driver, model, &header);
        let is_copy = header.kind == FrameKind::Promiscuous;
        assert!(!is_copy || driver.listens() && header.destination_vif == OWN_VIF);
        driver.delivered(false, frame_len, script.flag().unwrap_or(true));
    }
    Some(())
}

fn receive_direct(script: &mut Script<'_>, driver: &mut Driver, model: &mut Model) -> Option<()> {
    let slot = PeerSlot(script.below(PEERS_MAX as u8 + 1)?.into());
    let header = header(script)?;
    let source = mac(script.below(6)?);
    let head = frame(script, mac(1), source)?;
    let frame_len = head.len();
    model.arrived += 1;
    let quick = (header.kind != FrameKind::Arp).then(|| {
        let message = [&header.emit(frame_len)[..], &head].concat();
        driver.incoming_run(slot).and_then(|run| run.admit(&message, message.len()))
    });
    let ingress = driver.admit_direct(Instant::ZERO, slot, &header, &head, frame_len);
    let is_plain = header.kind == FrameKind::Unicast && header.flags == 0 && claims::is_plain(&head);
    if let Some(quick) = quick {
        assert_eq!(
            quick.map(Ingress::Deliver),
            Some(ingress).filter(|i| is_plain && matches!(i, Ingress::Deliver(_)))
        );
    }
    if let Ingress::Deliver(vnet) = ingress {
        let peer = driver.peer(slot).expect("a frame was delivered from a peer that is not known");
        assert!(peer.direct.is_some() && vnet.is_valid_for(frame_len));
        assert_eq!(
            (header.lan, header.origin, header.origin_vif, source),
            (LAN, peer.node, peer.vif, peer.mac)
        );
        // A copy that goes direct at once has no number.
        let is_plain_copy = header.kind == FrameKind::Promiscuous && header.flags & FrameHeader::RESENT == 0;
        if header.kind != FrameKind::Unicast && !is_plain_copy {
            note_delivered(driver, model, &header);
        }
        driver.delivered(true, frame_len, script.flag().unwrap_or(true));
    }
    Some(())
}

/// A numbered frame is delivered once in one life of its origin.
fn note_delivered(driver: &Driver, model: &mut Model, header: &FrameHeader) {
    // What a control node makes itself is not numbered.
    if header.origin == NodeNumber(0) {
        return;
    }
    let Some(slot) = driver.find_peer(header.origin, header.origin_vif) else { return };
    let place = usize::from(slot.0);
    if place >= PEERS_MAX {
        return;
    }
    let (life, numbers) = &mut model.delivered[place];
    if *life != Some(header.boot) {
        *life = Some(header.boot);
        numbers.clear();
    }
    numbers.note(header.bseq);
}

fn node(script: &mut Script<'_>) -> Option<NodeNumber> {
    Some(NodeNumber(script.below(6)?.into()))
}

fn vif(script: &mut Script<'_>) -> Option<VifNumber> {
    Some(VifNumber(u16::from(script.below(8)? == 0) + 1))
}

fn known_slot(script: &mut Script<'_>, driver: &Driver) -> Option<PeerSlot> {
    let slot = script.octet()?;
    let peers = driver.peers().len();
    // No peer yet: the step is skipped by ending the run, which costs a fuzzer nothing.
    (peers > 0).then(|| PeerSlot(u16::from(slot) % peers as u16))
}

fn notice(script: &mut Script<'_>) -> Option<MemberNotice> {
    let node = node(script)?;
    Some(MemberNotice {
        lan: LAN,
        node,
        vif: vif(script)?,
        mac: mac(script.below(8)?),
        process: ProcessId(script.octet()?.into()),
        attached: script.flag()?,
    })
}

fn grant(script: &mut Script<'_>) -> Option<Grant> {
    let peer = node(script)?;
    Some(Grant {
        rvi: RviNumber(script.octet()?.into()),
        lan: LAN,
        peer,
        peer_process: ProcessId(script.octet()?.into()),
        channel: Channel(script.octet()?),
        own_vif: OWN_VIF,
        peer_vif: vif(script)?,
        peer_mac: mac(script.below(8)?),
        association: Default::default(),
    })
}

fn header(script: &mut Script<'_>) -> Option<FrameHeader> {
    const KINDS: [FrameKind; 5] =
        [FrameKind::Unicast, FrameKind::Group, FrameKind::Relay, FrameKind::Arp, FrameKind::Promiscuous];
    Some(FrameHeader {
        kind: KINDS[usize::from(script.below(5)?)],
        flags: script.octet()?,
        lan: if script.octet()? == 0 { LanId(11) } else { LAN },
        origin: node(script)?,
        origin_vif: vif(script)?,
        destination_vif: vif(script)?,
        vnet: vnet(script)?,
        boot: BootTag(u16::from(script.below(3)?)),
        bseq: if script.flag()? { script.u32()? } else { script.octet()?.into() },
    })
}

/// Mostly the plain state; else ten octets of anything.
fn vnet(script: &mut Script<'_>) -> Option<Vnet> {
    if script.octet()? & 7 != 0 {
        return Some(Vnet::default());
    }
    let octets = script.octets(10)?;
    octets.first_chunk().map(Vnet::parse)
}

/// A head with these addresses: IPv4, ARP, ND, or what the script says; sometimes too short.
fn frame(script: &mut Script<'_>, destination: MacAddress, source: MacAddress) -> Option<Vec<u8>> {
    let mut head = vec![0; 60];
    head[..6].copy_from_slice(&destination.0);
    head[6..12].copy_from_slice(&source.0);
    match script.below(6)? {
        0 => head[12..14].copy_from_slice(&[8, 6]),
        1 => {
            head[12..14].copy_from_slice(&[0x86, 0xdd]);
            (head[20], head[54]) = (58, 135);
        }
        2 => head.truncate(script.octet()?.into()),
        3 => head[12..].copy_from_slice(script.octets(48)?),
        _ => head[12..14].copy_from_slice(&[8, 0]),
    }
    Some(head)
}

/// A member that comes, is granted a direct RVI, is sent to on it, and goes.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let member: &[u8] = &[0, 2, 1, 2, 9, 1];
    let send: &[u8] = &[10, 1, 1, 2, 4, 0, 0];
    let arp: &[u8] = &[10, 1, 1, 2, 0, 0, 0];
    let grant: &[u8] = &[2, 2, 7, 9, 3, 1, 2];
    let up: &[u8] = &[3, 0, 1];
    let echo: &[u8] = &[7, 0, 1];
    let relayed: &[u8] = &[12, 2, 0, 1, 2, 1, 1, 1, 1, 0, 5, 4, 1];
    let direct: &[u8] = &[13, 0, 0, 0, 1, 2, 1, 1, 1, 1, 0, 5, 2, 4, 1];
    let life = [&[1], member, send, grant, up, send, echo, send, arp, direct, &[4, 0], send, &[5, 0], send];
    let alone = [&[2], member, grant, &[3, 0, 0], send, &[8, 0], send, relayed, relayed];
    let late = [&[3], member, grant, up, send, &[9, 0xff, 0xff], &[9, 0xff, 0xff], send];
    let listens: &[u8] = &[14, 0, 4, 2, 1, 1, 1];
    let own: &[u8] = &[14, 0, 2, 1];
    let copied: &[u8] = &[12, 4, 0, 1, 2, 1, 1, 1, 1, 0, 5, 4, 1];
    let copies =
        [&[4], member, listens, &[15, 7], grant, up, echo, &[15, 7], own, copied, copied, &[5, 0], &[15, 7]];
    vec![life.concat(), alone.concat(), late.concat(), copies.concat()]
}
