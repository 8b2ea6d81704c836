use super::*;
use crate::address::RviNumber;
use crate::ethernet::ETHERTYPE_ARP;
use crate::security::{PortSecurity, Rate};
use crate::time::Instant;
use alloc::vec;
use core::time::Duration;

mod clusters;
mod runs;
mod stations;

const LAN: LanId = LanId(10);
const OWN: MacAddress = MacAddress([2, 0, 1, 0, 0, 1]);
const PEER: MacAddress = MacAddress([2, 0, 1, 0, 0, 2]);
const SLOT: PeerSlot = PeerSlot(0);

fn config() -> InterfaceConfig {
    InterfaceConfig {
        lan: LAN,
        vif: VifNumber(1),
        mac: OWN,
        mtu: 1500,
        relay_channel: Channel(1),
        arp_channel: Channel(2),
        port_security: PortSecurity::Mac,
        may_listen: false,
        has_carrier: true,
        name: "red0".into(),
        lan_name: "red".into(),
        addresses: vec![],
        gateways: vec![],
        clusters: vec![],
        cluster_addresses: vec![],
    }
}

fn notice(process: u64) -> MemberNotice {
    MemberNotice {
        lan: LAN,
        node: NodeNumber(2),
        vif: VifNumber(3),
        mac: PEER,
        process: ProcessId(process),
        attached: true,
    }
}

fn driver() -> Driver {
    let mut driver = Driver::new(NodeNumber(1), ProcessId(77), config(), 16, 1);
    assert!(driver.handle_member(&notice(9)));
    driver
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

/// The header of a unicast frame from the peer.
fn direct_header() -> FrameHeader {
    FrameHeader {
        kind: FrameKind::Unicast,
        flags: 0,
        lan: LAN,
        origin: NodeNumber(2),
        origin_vif: VifNumber(3),
        destination_vif: VifNumber(1),
        vnet: Vnet::default(),
        boot: BootTag(9),
        bseq: 0,
    }
}

fn frame(destination: MacAddress, source: MacAddress, ethertype: u16) -> [u8; 60] {
    let mut frame = [0; 60];
    frame[..6].copy_from_slice(&destination.0);
    frame[6..12].copy_from_slice(&source.0);
    frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
    frame
}

fn classify(driver: &Driver, frame: &[u8]) -> Egress {
    driver.classify(&Vnet::default(), frame, frame.len())
}

/// Brings the direct RVI up as far as its barrier; returns the barrier's number.
fn raise(driver: &mut Driver, now: Instant) -> u32 {
    driver.handle_grant(&grant()).unwrap();
    driver.handle_direct_up(now, SLOT, true);
    match driver.poll_in_band() {
        Some(InBand::Relay(ControlMessage::Barrier { id, destination, .. })) => {
            assert_eq!(destination, NodeNumber(2));
            id
        }
        other => panic!("no barrier but {other:?}"),
    }
}

#[test]
fn unicast_without_a_binding_goes_to_the_control_node() {
    //= spec/driver.md#unbound-destinations
    //= type=test
    //# The driver MUST send a unicast frame whose destination has no binding to the control node.
    let driver = driver();
    let stranger = MacAddress([2, 9, 9, 9, 9, 9]);
    let egress = classify(&driver, &frame(stranger, OWN, 0x0800));
    assert_eq!(egress, Egress::Relay { peer: None });
    let header = driver.server_header(egress, &Vnet::default()).expect("a header");
    assert_eq!((header.kind, header.lan, header.origin), (FrameKind::Relay, LAN, NodeNumber(1)));
    assert_eq!(header.flags, FrameHeader::UNBOUND);
    assert_eq!(classify(&driver, &frame(PEER, OWN, 0x0800)), Egress::Relay { peer: Some(SLOT) });
    let group = classify(&driver, &frame(MacAddress::BROADCAST, OWN, 0x0800));
    assert_eq!(group, Egress::Group);
    assert_eq!(
        driver.server_header(group, &Vnet::default()).map(|header| header.kind),
        Some(FrameKind::Group)
    );
    assert_eq!(classify(&driver, &frame(MacAddress::BROADCAST, OWN, ETHERTYPE_ARP)), Egress::Arp);
}

#[test]
fn nothing_goes_direct_before_the_barrier_has_come_back() {
    //= spec/driver.md#barrier
    //= type=test
    //# The driver MUST NOT send a frame on a direct RVI before the peer has echoed a barrier that was sent by relay
    //# behind every earlier frame to that peer.
    let mut driver = driver();
    let to_peer = frame(PEER, OWN, 0x0800);
    let id = raise(&mut driver, Instant::ZERO);
    assert_eq!(classify(&driver, &to_peer), Egress::Hold { peer: SLOT });
    driver.handle_barrier_echo(SLOT, id.wrapping_add(1));
    assert_eq!(classify(&driver, &to_peer), Egress::Hold { peer: SLOT });
    driver.handle_barrier_echo(SLOT, id);
    assert_eq!(driver.poll_released(), Some(SLOT));
    let Egress::Direct { peer, node, channel, copy_to_server } = classify(&driver, &to_peer) else {
        panic!("not direct")
    };
    let header = driver.direct_header(peer, &Vnet::default(), 60).expect("a header");
    let header = FrameHeader::parse(&header, header.len() + 60).expect("a header");
    assert_eq!((node, channel, copy_to_server), (NodeNumber(2), Channel(4), false));
    assert_eq!((header.kind, header.destination_vif), (FrameKind::Unicast, VifNumber(3)));
}

#[test]
fn an_echo_for_another_interface_ends_no_barrier() {
    //= spec/driver.md#numbers-of-barriers
    //= type=test
    //# A barrier MUST have a number that no other interface of the node gives to any.
    let mut drivers = [1, 2].map(|vif| {
        let config = InterfaceConfig { vif: VifNumber(vif), ..config() };
        let mut driver = Driver::new(NodeNumber(1), ProcessId(77), config, 16, 1);
        driver.handle_member(&notice(9));
        driver
    });
    let ids = drivers.each_mut().map(|driver| raise(driver, Instant::ZERO));
    for (driver, other) in drivers.iter_mut().zip([ids[1], ids[0]]) {
        driver.handle_barrier_echo(SLOT, other);
        assert!(matches!(driver.peer(SLOT).unwrap().path, Path::Barrier { .. }));
    }
}

#[test]
fn a_barrier_that_is_not_echoed_is_given_up_and_tried_again() {
    let mut driver = driver();
    raise(&mut driver, Instant::ZERO);
    let until = driver.poll_timeout().unwrap();
    assert_eq!(until, Instant::ZERO + BARRIER_WAIT);
    driver.handle_timeout(until);
    assert_eq!(driver.poll_released(), Some(SLOT));
    assert!(matches!(classify(&driver, &frame(PEER, OWN, 0x0800)), Egress::Relay { .. }));
    assert_eq!(driver.poll_barrier_retry(until), None);
    assert_eq!(driver.poll_barrier_retry(until + BARRIER_RETRY), Some(SLOT));
    assert_eq!(driver.poll_barrier_retry(until + BARRIER_RETRY), None);
}

#[test]
fn a_barrier_from_a_peer_is_echoed_on_its_direct_rvi_only() {
    let mut driver = driver();
    barrier(&mut driver, 8);
    assert_eq!(driver.poll_in_band(), None, "there is no direct RVI to echo on");
    driver.handle_grant(&grant()).unwrap();
    barrier(&mut driver, 9);
    assert_eq!(driver.poll_in_band(), Some(echo(9)));
    assert_eq!(driver.poll_in_band(), None);
    driver.handle_barrier(NodeNumber(2), VifNumber(3), ProcessId(8).boot_tag(), 10);
    assert_eq!(driver.poll_in_band(), None, "of another life of the peer");
}

#[test]
fn an_echo_that_found_no_leg_goes_when_there_is_one_and_not_to_another_life() {
    //= spec/driver.md#late-echoes
    //= type=test
    //# An echo that finds no leg to go by MUST be sent when one is up.
    for (grant_first, new_life) in [(true, false), (false, false), (true, true)] {
        let mut driver = driver();
        if grant_first {
            driver.handle_grant(&grant()).unwrap();
        }
        barrier(&mut driver, 7);
        barrier(&mut driver, 8);
        while let Some(InBand::Direct(node, channel, ControlMessage::BarrierEcho { id })) =
            driver.poll_in_band()
        {
            driver.handle_echo_unsent(node, channel, id);
        }
        driver.handle_grant(&grant()).unwrap();
        if new_life {
            driver.handle_member(&notice(10));
        }
        driver.handle_direct_up(Instant::ZERO, SLOT, true);
        let sent: Vec<InBand> = core::iter::from_fn(|| driver.poll_in_band()).collect();
        assert_eq!(sent.contains(&echo(8)), !new_life, "{sent:?}");
        assert_eq!(sent.len(), if new_life { 1 } else { 2 }, "the latest echo and a barrier: {sent:?}");
    }
}

fn barrier(driver: &mut Driver, id: u32) {
    driver.handle_barrier(NodeNumber(2), VifNumber(3), ProcessId(9).boot_tag(), id);
}

fn echo(id: u32) -> InBand {
    InBand::Direct(NodeNumber(2), Channel(4), ControlMessage::BarrierEcho { id })
}

#[test]
fn a_unicast_neighbour_probe_goes_direct_with_a_copy() {
    //= spec/driver.md#neighbour-probes-of-bound-neighbours
    //= type=test
    //# The driver MUST send unicast ARP and ND for a neighbour with a direct RVI over that RVI, with a copy
    //# to the control node.
    let mut driver = driver();
    let probe = frame(PEER, OWN, ETHERTYPE_ARP);
    assert!(matches!(classify(&driver, &probe), Egress::Arp));
    let id = raise(&mut driver, Instant::ZERO);
    driver.handle_barrier_echo(SLOT, id);
    assert!(matches!(classify(&driver, &probe), Egress::Direct { copy_to_server: true, .. }));
}

fn numbered(bseq: u32, flags: u8) -> FrameHeader {
    FrameHeader {
        kind: FrameKind::Relay,
        flags,
        lan: LAN,
        origin: NodeNumber(2),
        origin_vif: VifNumber(3),
        destination_vif: VifNumber(1),
        vnet: Vnet::default(),
        boot: BootTag(9),
        bseq,
    }
}

#[test]
fn flows_that_are_sent_again_on_a_direct_rvi_may_overtake_each_other() {
    //= spec/driver.md#late-frames
    //= type=test
    //# The driver MUST discard a frame sent again that is older than the newest of its kind from the same origin that a
    //# control node has passed on.
    let mut driver = driver();
    driver.handle_grant(&grant()).unwrap();
    let incoming = frame(OWN, PEER, 0x0800);
    assert!(matches!(driver.admit_relayed(&numbered(40, 0), &incoming, 60), Ingress::Deliver(_)));
    let mut again =
        |bseq| driver.admit_direct(Instant::ZERO, SLOT, &numbered(bseq, FrameHeader::RESENT), &incoming, 60);
    for bseq in [50, 45, 41, 51] {
        assert!(matches!(again(bseq), Ingress::Deliver(_)), "{bseq}");
        assert_eq!(again(bseq), Ingress::Drop(DropReason::Duplicate), "{bseq}");
    }
    assert_eq!(again(39), Ingress::Drop(DropReason::Duplicate), "what was relayed is newer");
}

#[test]
fn a_numbered_frame_is_delivered_once_whichever_way_it_comes() {
    //= spec/driver.md#numbered-frames
    //= type=test
    //# The driver MUST deliver each numbered frame of an origin at most once, whichever way it comes.
    let mut driver = driver();
    driver.handle_grant(&grant()).unwrap();
    let header = numbered(40, 0);
    let incoming = frame(OWN, PEER, 0x0800);
    assert!(matches!(driver.admit_relayed(&header, &incoming, 60), Ingress::Deliver(_)));
    assert_eq!(driver.admit_relayed(&header, &incoming, 60), Ingress::Drop(DropReason::Duplicate));
    assert_eq!(
        driver.admit_direct(Instant::ZERO, SLOT, &header, &incoming, 60),
        Ingress::Drop(DropReason::Duplicate)
    );
    // It was the first of its origin to come, which another has overtaken.
    let overtaken = FrameHeader { bseq: 39, ..header };
    assert!(matches!(driver.admit_relayed(&overtaken, &incoming, 60), Ingress::Deliver(_)));
    assert_eq!(driver.admit_relayed(&overtaken, &incoming, 60), Ingress::Drop(DropReason::Duplicate));
    let next_life = FrameHeader { boot: BootTag(10), ..header };
    assert!(matches!(driver.admit_relayed(&next_life, &incoming, 60), Ingress::Deliver(_)));
    let stranger = FrameHeader { origin: NodeNumber(99), ..header };
    assert_eq!(driver.admit_relayed(&stranger, &incoming, 60), Ingress::Drop(DropReason::NotMember));
}

#[test]
fn frames_of_a_process_that_has_ended_come_once_and_not_behind_those_of_the_next() {
    //= spec/driver.md#frames-of-former-processes
    //= type=test
    //# The driver MUST judge a numbered frame by the numbers of the process that sent it, also when another process serves the
    //# member by now.
    //= spec/driver.md#frames-of-former-processes
    //= type=test
    //# The driver MUST discard a frame of a process that has ended when a control node has passed on a frame of its kind of a
    //# process that has not.
    let (former, next) = (numbered(0, 0).boot, ProcessId(10).boot_tag());
    let mut driver = driver();
    let incoming = frame(OWN, PEER, 0x0800);
    let relay = |driver: &mut Driver, boot, kind, bseq| {
        let header = FrameHeader { boot, kind, ..numbered(bseq, 0) };
        driver.admit_relayed(&header, &incoming, 60)
    };
    let delivered = |ingress| matches!(ingress, Ingress::Deliver(_));
    assert!(delivered(relay(&mut driver, former, FrameKind::Relay, 40)));
    driver.handle_member(&notice(10));
    // The first word of the next process overtakes frames of the former one.
    assert!(delivered(relay(&mut driver, next, FrameKind::Arp, 7)));
    assert_eq!(relay(&mut driver, former, FrameKind::Relay, 40), Ingress::Drop(DropReason::Duplicate));
    assert!(delivered(relay(&mut driver, former, FrameKind::Relay, 41)));
    assert!(delivered(relay(&mut driver, next, FrameKind::Relay, 8)));
    assert_eq!(relay(&mut driver, former, FrameKind::Relay, 42), Ingress::Drop(DropReason::StaleBoot));
    assert!(delivered(relay(&mut driver, former, FrameKind::Group, 43)), "no group frame has come since");
    for bseq in [7, 8] {
        assert_eq!(relay(&mut driver, next, FrameKind::Relay, bseq), Ingress::Drop(DropReason::Duplicate));
    }
    // Many lives later the tag comes again, of another process.
    for process in 11..20 {
        driver.handle_member(&notice(process));
        let boot = ProcessId(process).boot_tag();
        assert!(delivered(relay(&mut driver, boot, FrameKind::Relay, 8)), "{process}");
    }
    driver.handle_member(&notice(10));
    assert!(delivered(relay(&mut driver, next, FrameKind::Relay, 8)));
}

#[test]
fn a_direct_frame_must_match_its_grant() {
    //= spec/driver.md#direct-frames
    //= type=test
    //# The driver MUST discard a frame from a direct RVI whose LAN, origin or interface is not that of the grant,
    //# or whose source MAC is under port security neither the granted peer's nor that of a station learned behind it.
    let mut driver = driver();
    let header = direct_header();
    let mut good = frame(OWN, PEER, 0x0800);
    good[14] = 0x45;
    let admit = |driver: &mut Driver, header: &FrameHeader, frame: &[u8]| {
        driver.admit_direct(Instant::ZERO, SLOT, header, frame, frame.len())
    };
    let quick = |driver: &Driver, header: &FrameHeader, frame: &[u8]| {
        let message = [&header.emit(frame.len())[..], frame].concat();
        driver.incoming_run(SLOT).and_then(|run| run.admit(&message, message.len()))
    };
    assert_eq!(admit(&mut driver, &header, &good), Ingress::Drop(DropReason::NoChannel), "no grant yet");
    assert_eq!(quick(&driver, &header, &good), None);
    driver.handle_grant(&grant()).unwrap();
    assert_eq!(admit(&mut driver, &header, &good), Ingress::Deliver(Vnet::default()));
    assert_eq!(quick(&driver, &header, &good), Some(Vnet::default()));
    for (wrong, reason) in [
        (FrameHeader { lan: LanId(11), ..header }, DropReason::WrongGrant),
        (FrameHeader { origin: NodeNumber(7), ..header }, DropReason::WrongGrant),
        (FrameHeader { origin_vif: VifNumber(1), ..header }, DropReason::WrongGrant),
        (FrameHeader { destination_vif: VifNumber(2), ..header }, DropReason::WrongGrant),
        (FrameHeader { kind: FrameKind::Group, ..header }, DropReason::WrongGrant),
    ] {
        assert_eq!(admit(&mut driver, &wrong, &good), Ingress::Drop(reason), "{wrong:?}");
        assert_eq!(quick(&driver, &wrong, &good), None, "{wrong:?}");
    }
    let forged = frame(OWN, MacAddress([2, 0, 1, 0, 0, 3]), 0x0800);
    assert_eq!(admit(&mut driver, &header, &forged), Ingress::Drop(DropReason::SourceMac));
    assert_eq!(quick(&driver, &header, &forged), None);
    assert_eq!(admit(&mut driver, &header, &good[..10]), Ingress::Drop(DropReason::TooShort));
    assert_eq!(quick(&driver, &header, &good[..10]), None);
    let torn = Vnet { flags: Vnet::NEEDS_CSUM, csum_start: 60, ..Vnet::default() };
    assert_eq!(quick(&driver, &FrameHeader { vnet: torn, ..header }, &good), None);
    driver.handle_direct_gone(SLOT);
    assert_eq!(quick(&driver, &header, &good), None, "the grant is gone");
}

#[test]
fn a_closing_direct_rvi_holds_frames_until_it_has_gone() {
    let mut driver = driver();
    let to_peer = frame(PEER, OWN, 0x0800);
    let id = raise(&mut driver, Instant::ZERO);
    driver.handle_barrier_echo(SLOT, id);
    driver.handle_direct_closing(SLOT);
    assert_eq!(classify(&driver, &to_peer), Egress::Hold { peer: SLOT });
    driver.handle_direct_gone(SLOT);
    assert!(matches!(classify(&driver, &to_peer), Egress::Relay { peer: Some(SLOT) }));
}

#[test]
fn numbers_are_used_up_by_frames_that_have_gone_only() {
    let mut driver = driver();
    let to_peer = frame(PEER, OWN, 0x0800);
    let header_of = |driver: &Driver| {
        driver.server_header(classify(driver, &to_peer), &Vnet::default()).expect("relayed")
    };
    let first = header_of(&driver);
    assert_eq!(header_of(&driver), first);
    driver.sent(&first, 60);
    assert_eq!(header_of(&driver).bseq, first.bseq.wrapping_add(1));
    assert_eq!(driver.counters().sent_relay, FrameCount { frames: 1, octets: 60 });
}

#[test]
fn a_moved_member_is_found_at_its_new_address_only() {
    let mut driver = driver();
    let moved = MacAddress([2, 0, 1, 0, 0, 9]);
    assert!(driver.handle_member(&MemberNotice { mac: moved, ..notice(10) }));
    assert!(matches!(classify(&driver, &frame(moved, OWN, 0x0800)), Egress::Relay { peer: Some(_) }));
    assert!(matches!(classify(&driver, &frame(PEER, OWN, 0x0800)), Egress::Relay { peer: None }));
}

#[test]
fn while_no_control_node_is_up_the_peers_word_replaces_the_barrier() {
    let mut driver = driver();
    driver.handle_grant(&grant()).unwrap();
    driver.handle_direct_up(Instant::ZERO + Duration::from_secs(1), SLOT, false);
    assert_eq!(driver.poll_in_band(), None);
    assert_eq!(classify(&driver, &frame(PEER, OWN, 0x0800)), Egress::Hold { peer: SLOT });
    assert!(driver.handle_relay_drained(SLOT));
    assert!(matches!(classify(&driver, &frame(PEER, OWN, 0x0800)), Egress::Direct { .. }));
    assert!(!driver.handle_relay_drained(SLOT));
}

#[test]
fn what_was_relayed_behind_a_barrier_has_not_ended_with_it() {
    let mut driver = driver();
    let to_peer = frame(PEER, OWN, 0x0800);
    let relay = |driver: &mut Driver| {
        let header = driver.server_header(classify(driver, &to_peer), &Vnet::default()).expect("relayed");
        driver.sent(&header, 60);
        header
    };
    let before = relay(&mut driver);
    let id = raise(&mut driver, Instant::ZERO);
    let ended = |driver: &Driver, header: FrameHeader| {
        driver.has_ended(&[&header.emit(to_peer.len())[..], &to_peer].concat())
    };
    assert!(!ended(&driver, before), "the barrier is on its way");
    driver.handle_barrier_echo(SLOT, id);
    driver.handle_direct_gone(SLOT);
    let behind = relay(&mut driver);
    assert!(ended(&driver, before) && !ended(&driver, behind));
    assert!(!ended(&driver, FrameHeader { kind: FrameKind::Group, ..before }));
    // A copy is its listener's, whoever the frame is for.
    let copy = |header: FrameHeader, node| {
        let header = FrameHeader { kind: FrameKind::Promiscuous, destination_vif: VifNumber(3), ..header };
        [&header.emit_promiscuous(NodeNumber(node), to_peer.len())[..], &to_peer].concat()
    };
    assert!(driver.has_ended(&copy(before, 2)) && !driver.has_ended(&copy(behind, 2)));
    assert!(!driver.has_ended(&copy(before, 99)), "nobody");
}

#[test]
fn a_direct_frame_is_judged_by_what_is_known_of_its_sender() {
    //= spec/port-security.md#direct-frames
    //= type=test
    //# The driver MUST judge a frame of a direct RVI by what its control node has said of the sender; under port security, or
    //# of a sender with a limit, it MUST discard one with a group destination.
    use crate::security::claims::tests::{arp, na, ns, ra, udp4};
    let mut config = config();
    config.port_security = PortSecurity::Address;
    let mut driver = Driver::new(NodeNumber(1), ProcessId(77), config, 16, 1);
    assert!(driver.handle_member(&notice(9)));
    driver.handle_grant(&grant()).unwrap();
    let header = direct_header();
    let admit = |driver: &mut Driver, frame: &[u8]| {
        let mut frame = frame.to_vec();
        frame[..6].copy_from_slice(&OWN.0);
        for octet in 0..frame.len() - 5 {
            if frame[octet..].starts_with(&[2, 0, 1, 0, 0, 1]) && octet > 0 {
                frame[octet + 5] = 2;
            }
        }
        let message = [&header.emit(frame.len())[..], &frame].concat();
        let is_quick = driver.admit_by_address(SLOT, &message, message.len()).is_some();
        assert_eq!(driver.incoming_run(SLOT).and_then(|run| run.admit(&message, message.len())), None);
        let verdict = driver.admit_direct(Instant::ZERO, SLOT, &header, &frame, frame.len());
        assert!(!is_quick || matches!(verdict, Ingress::Deliver(_)), "{verdict:?}");
        match verdict {
            Ingress::Deliver(_) => None,
            Ingress::Drop(reason) => Some(reason),
        }
    };
    let datagram = udp4("10.1.0.2", 5000, 7);
    assert_eq!(admit(&mut driver, &datagram), Some(DropReason::SourceAddress), "nothing is known of it");
    let known = SenderNotice {
        lan: LAN,
        node: NodeNumber(2),
        vif: VifNumber(3),
        addresses: vec!["10.1.0.2".parse().unwrap(), "fe80::2".parse().unwrap()],
        ..SenderNotice::default()
    };
    driver.handle_sender(&known);
    for good in [&datagram, &arp(2, "10.1.0.2", "10.1.0.1"), &na("fe80::2", "fe80::2"), &ns("::", "fe80::2")]
    {
        assert_eq!(admit(&mut driver, good), None, "{good:02x?}");
    }
    for spoofed in [udp4("10.1.0.1", 5000, 7), arp(2, "10.1.0.3", "10.1.0.1"), na("fe80::1", "fe80::2")] {
        assert_eq!(admit(&mut driver, &spoofed), Some(DropReason::SourceAddress), "{spoofed:02x?}");
    }
    assert_eq!(admit(&mut driver, &ns("::", "fe80::1")), Some(DropReason::SourceAddress));
    assert_eq!(admit(&mut driver, &udp4("10.1.0.2", 67, 68)), Some(DropReason::DhcpGuard));
    assert_eq!(admit(&mut driver, &ra("fe80::2")), Some(DropReason::RaGuard));
    driver.handle_sender(&SenderNotice { router: true, dhcp_server: true, ..known });
    assert_eq!(admit(&mut driver, &udp4("10.1.0.2", 67, 68)), None);
    assert_eq!(admit(&mut driver, &ra("fe80::2")), None);
    assert_eq!(admit(&mut driver, &udp4("192.0.2.1", 5000, 7)), None, "a router");
    let group = frame(MacAddress::BROADCAST, PEER, 0x88cc);
    assert_eq!(
        driver.admit_direct(Instant::ZERO, SLOT, &header, &group, 60),
        Ingress::Drop(DropReason::WrongGrant)
    );
}

#[test]
fn a_receiver_holds_direct_frames_against_their_senders_limits() {
    let mut driver = driver();
    driver.handle_grant(&grant()).unwrap();
    let (header, mut good) = (direct_header(), frame(OWN, PEER, 0x0800));
    good[14] = 0x45;
    let message = [&header.emit(good.len())[..], &good].concat();
    let limited = SenderNotice {
        lan: LAN,
        node: NodeNumber(2),
        vif: VifNumber(3),
        total: Rate { frames: Some(100), bits: None },
        ..Default::default()
    };
    driver.handle_sender(&limited);
    assert_eq!(
        driver.incoming_run(SLOT).and_then(|run| run.admit(&message, message.len())),
        None,
        "not without a look at the time"
    );
    let start = Instant::ZERO + Duration::from_secs(1);
    let mut admit = |millis: u64| {
        let now = start + Duration::from_millis(millis);
        driver.admit_direct(now, SLOT, &header, &good, good.len())
    };
    // A tenth of a second's at once, and the one that finds the last room.
    for _ in 0..11 {
        assert_eq!(admit(0), Ingress::Deliver(Vnet::default()));
    }
    assert_eq!(admit(0), Ingress::Drop(DropReason::LimitTotal));
    assert_eq!(admit(10), Ingress::Deliver(Vnet::default()));
    assert_eq!(admit(10), Ingress::Drop(DropReason::LimitTotal));
    driver.handle_sender(&SenderNotice { total: Rate::default(), ..limited });
    assert_eq!(
        driver.incoming_run(SLOT).and_then(|run| run.admit(&message, message.len())),
        Some(Vnet::default())
    );
}

#[test]
fn a_member_that_comes_again_has_nothing_of_the_former_one() {
    //= spec/driver.md#members-that-come-again
    //= type=test
    //# The driver MUST begin anew with a member that has another interface or another MAC than its node had on this LAN
    //# before: nothing that it knew of the former one holds for it.
    for (vif, last) in [(4, 2), (3, 9), (4, 9)] {
        let mut driver = driver();
        driver.handle_grant(&grant());
        let former = MemberNotice { attached: false, ..notice(9) };
        let next = MemberNotice { vif: VifNumber(vif), mac: MacAddress([2, 0, 1, 0, 0, last]), ..notice(9) };
        assert!(driver.handle_member(&next));
        let [peer] = driver.peers() else { panic!("{:?}", driver.peers()) };
        assert_eq!((peer.vif, peer.mac, peer.direct, peer.path), (next.vif, next.mac, None, Path::Relay));
        assert_eq!(driver.bound(next.mac), Some(SLOT));
        assert_eq!(driver.bound(PEER).is_some(), next.mac == PEER);
        // A word about the former one that comes late changes nothing.
        if next.vif != former.vif {
            assert!(driver.handle_member(&former));
            assert_eq!((driver.peers()[0].vif, driver.peers()[0].attached), (next.vif, true));
        }
    }
    // Another member's MAC is another's, even when it was this one's before.
    let mut driver = driver();
    let other = MemberNotice { node: NodeNumber(5), ..notice(9) };
    assert!(driver.handle_member(&other));
    assert!(driver.handle_member(&MemberNotice { vif: VifNumber(4), mac: OWN, ..notice(9) }));
    assert_eq!(driver.bound(PEER), Some(PeerSlot(1)));
}
