//! Who listens, by which way copies go, and which copies an interface takes.

use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::address::{BootTag, CabinetNumber, LanId, RviNumber, VifNumber};
use crate::driver::InBand;
use crate::time::Instant;
use crate::wire::control::{ControlMessage, Grant, InterfaceConfig};

const LAN: LanId = LanId(10);
const OWN: MacAddress = MacAddress([2, 0, 1, 0, 0, 1]);
const PEER: MacAddress = MacAddress([2, 0, 1, 0, 0, 2]);
const SLOT: PeerSlot = PeerSlot(0);

fn driver(may_listen: bool) -> Driver {
    let config = InterfaceConfig {
        lan: LAN,
        vif: VifNumber(1),
        mac: OWN,
        mtu: 1500,
        relay_channel: Channel(1),
        arp_channel: Channel(2),
        port_security: crate::security::PortSecurity::Mac,
        may_listen,
        has_carrier: true,
        name: "red0".into(),
        lan_name: "red".into(),
        addresses: vec![],
        gateways: vec![],
        clusters: vec![],
        cluster_addresses: vec![],
    };
    let mut driver = Driver::new(NodeNumber(1), ProcessId(77), config, 16, 1);
    assert!(driver.handle_member(&notice(2, 9)));
    driver
}

fn notice(node: u16, process: u64) -> MemberNotice {
    MemberNotice {
        lan: LAN,
        node: NodeNumber(node),
        vif: VifNumber(3),
        mac: MacAddress([2, 0, 1, 0, 0, node as u8]),
        process: ProcessId(process),
        attached: true,
    }
}

fn at(node: u16, process: u64) -> Location {
    Location {
        cabinet: CabinetNumber(1),
        node: NodeNumber(node),
        vif: VifNumber(3),
        lan: LAN,
        generation: process,
        ..Location::default()
    }
}

fn grant() -> Grant {
    Grant {
        rvi: RviNumber(5),
        lan: LAN,
        peer: NodeNumber(2),
        peer_process: ProcessId(9),
        channel: Channel(4),
        own_vif: VifNumber(1),
        peer_vif: VifNumber(3),
        peer_mac: PEER,
        association: Default::default(),
    }
}

/// Brings the direct RVI to the listener up, with its barrier.
fn raise(driver: &mut Driver) {
    driver.handle_grant(&grant()).unwrap();
    driver.handle_direct_up(Instant::ZERO, SLOT, true);
    let Some(InBand::Relay(ControlMessage::Barrier { id, .. })) = driver.poll_in_band() else {
        panic!("no barrier")
    };
    assert_eq!(driver.copy_way(SLOT), Some(CopyWay::Hold));
    driver.handle_barrier_echo(SLOT, id);
}

/// A driver that was told of one listener.
fn told() -> Driver {
    let mut driver = driver(false);
    assert!(driver.handle_listener(0, &at(2, 9), true));
    assert!(driver.has_listeners());
    driver
}

#[test]
fn a_listener_stays_while_somebody_vouches_for_it() {
    //= spec/promiscuous.md#known-listeners
    //= type=test
    //# The driver MUST keep each listener of its LAN that a control node names, at most 8, until a control node says that
    //# it listens no more, another process serves it, or neither a control node nor a direct RVI vouches for it.
    let gone = MemberNotice { attached: false, ..notice(2, 9) };
    let mut driver = told();
    assert!(driver.handle_listener(0, &at(2, 9), false));
    assert!(!driver.has_listeners(), "it was said");

    driver = told();
    driver.handle_member(&notice(2, 10));
    driver.review_listener(0, &notice(2, 10));
    assert!(!driver.has_listeners(), "another process");

    driver = told();
    driver.review_listener(0, &notice(2, 9));
    assert!(driver.has_listeners(), "the same process");
    driver.review_listener(0, &gone);
    assert!(!driver.has_listeners(), "it has gone");

    driver = told();
    driver.handle_listener(1, &at(2, 9), true);
    driver.review_listener(0, &gone);
    assert!(driver.has_listeners(), "the other control node has it");
    driver.end_vouching(1);
    assert!(driver.has_listeners(), "the next session will tell");
    driver.forget_unvouched();
    assert!(!driver.has_listeners(), "it has told");

    driver = told();
    raise(&mut driver);
    driver.review_listener(0, &gone);
    assert!(driver.has_listeners(), "the direct RVI is there");
    driver.handle_direct_closing(SLOT);
    driver.forget_unvouched();
    assert!(driver.has_listeners());
    driver.handle_direct_gone(SLOT);
    assert!(!driver.has_listeners(), "it is not");
}

#[test]
fn what_is_said_of_one_member_between_two_sessions_ends_no_other_listener() {
    //= spec/promiscuous.md#known-listeners
    //= type=test
    //# The driver MUST keep each listener of its LAN that a control node names, at most 8, until a control node says that
    //# it listens no more, another process serves it, or neither a control node nor a direct RVI vouches for it.
    let mut driver = told();
    assert!(driver.handle_member(&notice(5, 1)));
    driver.end_vouching(0);
    // The next session names its members one by one, those that are away too, and then its listeners.
    driver.review_listener(0, &MemberNotice { attached: false, ..notice(5, 1) });
    assert!(driver.has_listeners(), "nothing was said of it yet");
    driver.handle_direct_gone(PeerSlot(1));
    assert!(driver.has_listeners(), "it was not its direct RVI");
    driver.forget_unvouched();
    assert!(!driver.has_listeners());
}

#[test]
fn so_many_listeners_are_kept_and_none_that_is_nobody() {
    let mut driver = driver(false);
    for node in 2..12 {
        driver.handle_member(&notice(node, 9));
    }
    let taken: Vec<bool> = (2..12).map(|node| driver.handle_listener(0, &at(node, 9), true)).collect();
    assert_eq!(taken.iter().filter(|taken| **taken).count(), LISTENERS_PER_LAN_MAX);
    assert!(driver.handle_listener(0, &at(2, 9), true), "known");
    assert!(!driver.handle_listener(0, &at(99, 9), true), "no member");
    let elsewhere = Location { lan: LanId(11), ..at(3, 9) };
    assert!(!driver.handle_listener(0, &elsewhere, true), "of another LAN");
}

#[test]
fn a_copy_takes_the_way_that_frames_to_its_listener_take() {
    //= spec/promiscuous.md#the-way-of-copies
    //= type=test
    //# A copy MUST go by the direct RVI to its listener where frames to that member do, else by the control node, and wait
    //# while their way changes.
    assert_eq!(driver(false).copy_way(SLOT), None, "it does not listen");
    let mut driver = told();
    assert_eq!(driver.copy_way(SLOT), Some(CopyWay::Relay));
    let (header, node) = driver.listener_header(SLOT, &Vnet::default()).unwrap();
    assert_eq!((header.kind, header.destination_vif), (FrameKind::Promiscuous, VifNumber(3)));
    assert_eq!(node, NodeNumber(2));
    driver.sent_copy(CopyWay::Relay, 60);
    let (next, _) = driver.listener_header(SLOT, &Vnet::default()).unwrap();
    assert_eq!(next.bseq, header.bseq.wrapping_add(1), "relayed copies are numbered");
    raise(&mut driver);
    let direct = CopyWay::Direct { node: NodeNumber(2), channel: Channel(4) };
    assert_eq!(driver.copy_way(SLOT), Some(direct));
    driver.sent_copy(direct, 60);
    assert_eq!(driver.listener_header(SLOT, &Vnet::default()).unwrap().0.bseq, next.bseq);
    assert_eq!(driver.counters().sent_copies.frames, 2);
    driver.handle_direct_closing(SLOT);
    assert_eq!(driver.copy_way(SLOT), Some(CopyWay::Hold));
}

#[test]
fn a_listener_is_told_from_the_destination_and_from_what_is_behind_it() {
    let mut driver = told();
    assert!(driver.is_destination(SLOT, PEER) && !driver.is_destination(SLOT, OWN));
    let behind = MacAddress([2, 9, 9, 9, 9, 9]);
    assert!(!driver.is_destination(SLOT, behind));
    driver.handle_binding(behind, &at(2, 9));
    assert!(driver.is_destination(SLOT, behind), "a station behind the listener");
}

/// A copy of a frame from the peer to somebody else.
fn copy(flags: u8) -> (FrameHeader, [u8; 60]) {
    let mut frame = [0; 60];
    frame[..6].copy_from_slice(&[2, 0, 1, 0, 0, 3]);
    frame[6..12].copy_from_slice(&PEER.0);
    let header = FrameHeader {
        kind: FrameKind::Promiscuous,
        flags,
        lan: LAN,
        origin: NodeNumber(2),
        origin_vif: VifNumber(3),
        destination_vif: VifNumber(1),
        vnet: Vnet::default(),
        boot: BootTag(9),
        bseq: 40,
    };
    (header, frame)
}

#[test]
fn copies_are_for_an_interface_that_listens_and_may() {
    //= spec/promiscuous.md#receiving
    //= type=test
    //# The driver MUST discard a copy for another interface, and every copy while its own interface does not listen
    //# promiscuously or may not.
    let (header, frame) = copy(0);
    for (may_listen, is_promiscuous) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut driver = driver(may_listen);
        driver.handle_grant(&grant()).unwrap();
        assert_eq!(driver.set_promiscuous(is_promiscuous), is_promiscuous);
        let expected = match may_listen && is_promiscuous {
            true => Ingress::Deliver(Vnet::default()),
            false => Ingress::Drop(DropReason::NotListening),
        };
        assert_eq!(driver.admit_relayed(&header, &frame, 60), expected);
        assert_eq!(driver.admit_direct(Instant::ZERO, SLOT, &header, &frame, 60), expected);
        let elsewhere = FrameHeader { destination_vif: VifNumber(2), bseq: 41, ..header };
        let refused = Ingress::Drop(DropReason::WrongGrant);
        assert_eq!(driver.admit_direct(Instant::ZERO, SLOT, &elsewhere, &frame, 60), refused);
        assert_eq!(driver.admit_relayed(&elsewhere, &frame, 60), refused);
    }
}

#[test]
fn a_relayed_copy_that_is_sent_again_is_given_once() {
    let ((first, frame), (again, _)) = (copy(0), copy(FrameHeader::RESENT));
    let mut driver = driver(true);
    driver.set_promiscuous(true);
    driver.handle_grant(&grant()).unwrap();
    let duplicate = Ingress::Drop(DropReason::Duplicate);
    assert!(matches!(driver.admit_relayed(&first, &frame, 60), Ingress::Deliver(_)));
    assert_eq!(driver.admit_direct(Instant::ZERO, SLOT, &again, &frame, 60), duplicate);
    assert_eq!(driver.admit_relayed(&again, &frame, 60), duplicate);
    for _ in 0..2 {
        let of_direct = FrameHeader { bseq: 0, ..first };
        let ingress = driver.admit_direct(Instant::ZERO, SLOT, &of_direct, &frame, 60);
        assert!(matches!(ingress, Ingress::Deliver(_)), "it has no number: {ingress:?}");
    }
    let late = FrameHeader { bseq: 39, ..again };
    assert_eq!(
        driver.admit_direct(Instant::ZERO, SLOT, &late, &frame, 60),
        duplicate,
        "dropped at the lost control node"
    );
    let stale = FrameHeader { boot: BootTag(8), bseq: 41, ..again };
    assert_eq!(
        driver.admit_direct(Instant::ZERO, SLOT, &stale, &frame, 60),
        Ingress::Drop(DropReason::StaleBoot)
    );
}
