//! Uplinks: what leaves a LAN, what comes in, and to whom.

mod capture;
mod changes;

use super::*;
use lan_proxy::{Device, Mode};

pub(super) const DEVICE: DeviceNumber = DeviceNumber(0);
const SYSTEM: MacAddress = MacAddress([2, 0, 1, 0, 0, 0x77]);
/// A station outside.
pub(super) const OUTSIDER: MacAddress = MacAddress([0x52, 0, 0, 0, 0, 9]);
pub(super) const OUTSIDE_IP: [u8; 4] = [10, 1, 0, 200];

fn bridged(mode: Mode) -> ControlNode {
    let mut config = config();
    config.devices = 1;
    config.lans[0].members[2].may_listen = true;
    config.lans[0].uplink =
        Some(UplinkConfig { mode, vid: None, device: DEVICE, default_router: None, link_dependency: false });
    let mut control = ControlNode::new(config);
    set_carrier(&mut control, true);
    control
}

pub(super) fn filtered() -> ControlNode {
    bridged(Mode::Filtered { system: SYSTEM })
}

fn set_carrier(control: &mut ControlNode, has_carrier: bool) {
    let device = Device { mtu: 1500, offloads: false };
    control.handle_device(NOW, DEVICE, DeviceState { device, has_carrier });
}

/// What has gone outside.
fn sent(control: &mut ControlNode) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((_, frame)) = control.poll_outside(DEVICE) {
        frames.push(frame.to_vec());
        control.outside_taken(DEVICE, true);
    }
    frames
}

fn comes_in(control: &mut ControlNode, frame: &[u8]) {
    control.handle_outside(NOW, DEVICE, &Vnet::default(), &mut frame.to_vec());
    control.pump(NOW, 1000);
}

pub(super) fn frame(to: MacAddress, from: MacAddress, ethertype: u16, body: &[u8]) -> Vec<u8> {
    [&to.0[..], &from.0, &ethertype.to_be_bytes(), body].concat()
}

fn ip_of(node: u16) -> [u8; 4] {
    [10, 1, 0, node as u8]
}

fn arp(operation: u8, sender: (MacAddress, [u8; 4]), target: (MacAddress, [u8; 4])) -> Vec<u8> {
    let fixed = [0, 1, 8, 0, 6, 4, 0, operation];
    [&fixed[..], &sender.0.0, &sender.1, &target.0.0, &target.1].concat()
}

/// An IPv4 packet with `len` octets behind its header, which may not be fragmented.
pub(super) fn packet(from: [u8; 4], to: [u8; 4], len: u16) -> Vec<u8> {
    let total = (20 + len).to_be_bytes();
    let mut header = [0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, 253, 0, 0];
    let sum = header.chunks(2).chain(from.chunks(2)).chain(to.chunks(2));
    let sum: u32 = sum.map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let check = !((sum & 0xffff) + (sum >> 16)) as u16;
    header[10..].copy_from_slice(&check.to_be_bytes());
    [&header[..], &from, &to, &vec![7; usize::from(len)]].concat()
}

/// Has a node say which address it has, as its stack does.
fn announce(control: &mut ControlNode, end: &mut End) {
    let own = (mac(end.node), ip_of(end.node));
    let body = arp(1, own, (MacAddress::NULL, own.1));
    end.send_frame(control, &frame(MacAddress::BROADCAST, own.0, 0x0806, &body));
}

/// Members whose addresses are known, and what all that sent outside taken away.
fn announced(control: &mut ControlNode, nodes: &[u16]) -> Vec<End> {
    let mut ends: Vec<End> = nodes.iter().map(|&node| member(control, node)).collect();
    ends.iter_mut().for_each(|end| announce(control, end));
    ends.iter_mut().for_each(|end| drop(end.arrived()));
    sent(control);
    ends
}

fn frames_of(end: &mut End) -> Vec<(FrameHeader, Vec<u8>)> {
    let frames = end.arrived().into_iter().filter(|(channel, _)| *channel != Channel::CONTROL);
    let parsed = frames.filter_map(|(_, octets)| {
        let header = FrameHeader::parse(&octets, octets.len()).ok()?;
        Some((header, octets[header.kind.header_len()..].to_vec()))
    });
    parsed.collect()
}

#[track_caller]
fn ledger_closes(control: &ControlNode) {
    let lan = control.status().lans.remove(0);
    assert!(lan.ledger.closes(lan.drops.total()), "{:?} {:?}", lan.ledger, lan.drops);
}

#[test]
fn what_nobody_of_a_lan_has_goes_outside_and_groups_do_too() {
    //= spec/uplink.md#outward
    //= type=test
    //# The server of a LAN with an uplink MUST give the uplink every group frame of a member and every unicast frame of one for whose
    //# destination it has no member, once, and nothing that came from outside.
    let mut control = filtered();
    let mut ends = announced(&mut control, &[1, 2]);
    let to_outside = frame(OUTSIDER, mac(1), 0x0800, &packet(ip_of(1), OUTSIDE_IP, 30));
    ends[0].send_frame(&mut control, &to_outside);
    let expected = frame(OUTSIDER, SYSTEM, 0x0800, &packet(ip_of(1), OUTSIDE_IP, 30));
    assert_eq!(sent(&mut control), [expected]);
    assert!(ends[1].frames().is_empty());
    // Between members nothing goes out.
    ends[0].send_frame(&mut control, &frame(mac(2), mac(1), 0x0800, &packet(ip_of(1), ip_of(2), 30)));
    assert_eq!((sent(&mut control).len(), ends[1].frames().len()), (0, 1));
    // A broadcast goes to both.
    let group = frame(MacAddress::BROADCAST, mac(1), 0x0800, &packet(ip_of(1), [255; 4], 30));
    ends[0].send_frame(&mut control, &group);
    assert_eq!((sent(&mut control).len(), ends[1].frames().len()), (1, 1));
    // So do requests of ARP, and answers for a station outside.
    let request = arp(1, (mac(1), ip_of(1)), (MacAddress::NULL, OUTSIDE_IP));
    ends[0].send_frame(&mut control, &frame(MacAddress::BROADCAST, mac(1), 0x0806, &request));
    let answer = arp(2, (mac(1), ip_of(1)), (OUTSIDER, OUTSIDE_IP));
    ends[0].send_frame(&mut control, &frame(OUTSIDER, mac(1), 0x0806, &answer));
    let out = sent(&mut control);
    assert_eq!((out.len(), ends[1].frames().len()), (2, 1));
    assert_eq!(out[1], frame(OUTSIDER, SYSTEM, 0x0806, &arp(2, (SYSTEM, ip_of(1)), (OUTSIDER, OUTSIDE_IP))));
    // What came from outside does not go out again.
    comes_in(
        &mut control,
        &frame(MacAddress::BROADCAST, OUTSIDER, 0x0800, &packet(OUTSIDE_IP, [255; 4], 30)),
    );
    assert!(sent(&mut control).is_empty());
    assert_eq!([0, 1].map(|place: usize| ends[place].frames().len()), [1, 1]);
    ledger_closes(&control);
    let (links, devices) = control.uplinks();
    assert_eq!((links[0].counters.outward.frames, links[0].counters.drops.total()), (6, 0));
    assert_eq!((links[0].stations.as_slice(), devices[0].waiting), (&[OUTSIDER][..], 0));
}

#[test]
fn what_a_node_sends_again_in_its_next_session_goes_outside_once() {
    //= spec/uplink.md#outward-once
    //= type=test
    //# A control node MUST give an uplink each numbered frame of a process of a member once, also when its session has ended in
    //# between and it sends the frame again.
    let mut control = filtered();
    let mut ends = announced(&mut control, &[1]);
    let out = frame(OUTSIDER, mac(1), 0x0800, &packet(ip_of(1), OUTSIDE_IP, 30));
    ends[0].send_frame(&mut control, &out);
    assert_eq!(sent(&mut control).len(), 1);
    let bseq = ends[0].bseq;
    control.handle_leg_gone(NOW, NodeNumber(1), process(1), LEG);
    control.pump(NOW, 1000);
    let mut again = member(&mut control, 1);
    again.bseq = bseq - 1;
    again.send_frame(&mut control, &out);
    assert!(sent(&mut control).is_empty());
    again.send_frame(&mut control, &out);
    assert_eq!(sent(&mut control).len(), 1);
    assert_eq!(control.uplinks().0[0].counters.drops.of(DropReason::Duplicate), 1);
    // Another process begins anew.
    let mut next = End::connect(&mut control, 1, ProcessId(900), &ShmConfig::default());
    next.tell(&mut control, &register(1, ProcessId(900)));
    let header = FrameHeader { boot: BootTag(900), bseq, ..next.header(OUTSIDER, 0, out.len()) };
    let octets = header.emit(out.len());
    next.association.send(NOW, RELAY, 0, 0, &[Part::Private(&octets), Part::Private(&out)]).expect("room");
    next.association.publish();
    control.pump(NOW, 1000);
    assert_eq!(sent(&mut control).len(), 1);
}

#[test]
fn what_comes_in_has_nobody_for_its_origin() {
    //= spec/uplink.md#frames-of-no-member
    //= type=test
    //# A control node MUST give members what comes from outside, or is made by an uplink, with node 0 as its origin and, in ARP and
    //# ND, with the location of nobody.
    let mut control = filtered();
    let mut ends = announced(&mut control, &[1, 2]);
    let body = packet(OUTSIDE_IP, ip_of(2), 40);
    comes_in(&mut control, &frame(SYSTEM, OUTSIDER, 0x0800, &body));
    let got = frames_of(&mut ends[1]);
    assert_eq!(got.len(), 1);
    let (header, octets) = &got[0];
    assert_eq!(
        (header.kind, header.origin, header.destination_vif),
        (FrameKind::Relay, NodeNumber(0), VifNumber(1))
    );
    assert_eq!(*octets, frame(mac(2), OUTSIDER, 0x0800, &body));
    assert!(ends[0].frames().is_empty());
    // An answer of ARP goes to the one who has asked, a request to all.
    let answer = |to| arp(2, (OUTSIDER, OUTSIDE_IP), (to, ip_of(1)));
    comes_in(&mut control, &frame(SYSTEM, OUTSIDER, 0x0806, &answer(SYSTEM)));
    let request = arp(1, (OUTSIDER, OUTSIDE_IP), (MacAddress::NULL, ip_of(1)));
    comes_in(&mut control, &frame(MacAddress::BROADCAST, OUTSIDER, 0x0806, &request));
    let messages = |end: &mut End| {
        let arrived = end.arrived().into_iter().filter(|(channel, _)| *channel == ARP);
        let read = arrived.map(|(_, octets)| {
            let header = FrameHeader::parse(&octets, octets.len()).expect("a frame");
            let (source, _) = FrameHeader::parse_locations(&octets).expect("locations");
            assert_eq!((header.flags, header.origin, source), (0, NodeNumber(0), Location::default()));
            octets[header.kind.header_len()..].to_vec()
        });
        read.collect::<Vec<_>>()
    };
    let flooded = frame(MacAddress::BROADCAST, OUTSIDER, 0x0806, &request);
    assert_eq!(messages(&mut ends[0]), [frame(mac(1), OUTSIDER, 0x0806, &answer(mac(1))), flooded.clone()]);
    assert_eq!(messages(&mut ends[1]), [flooded]);
    let outsider = core::net::IpAddr::from(OUTSIDE_IP);
    assert!(control.status().bindings.iter().all(|binding| binding.address != outsider), "nobody's here");
    ledger_closes(&control);
}

#[test]
fn listeners_get_copies_of_what_comes_in_for_others() {
    //= spec/uplink.md#copies-for-listeners
    //= type=test
    //# A control node MUST give each promiscuous listener of a LAN a copy of every unicast frame from outside that goes to another
    //# member.
    let mut control = filtered();
    let mut ends = announced(&mut control, &[1, 2, 3]);
    let listener = Location { node: NodeNumber(3), lan: LAN, vif: VifNumber(1), ..Location::default() };
    ends[2].tell(&mut control, &ControlMessage::Promiscuous { listener, listens: true });
    ends.iter_mut().for_each(|end| drop(end.arrived()));
    let body = packet(OUTSIDE_IP, ip_of(2), 900);
    comes_in(&mut control, &frame(SYSTEM, OUTSIDER, 0x0800, &body));
    assert_eq!([0, 1].map(|place: usize| ends[place].frames().len()), [0, 1]);
    let copies = frames_of(&mut ends[2]);
    assert_eq!((copies.len(), copies[0].0.kind), (1, FrameKind::Promiscuous));
    assert_eq!(copies[0].1, frame(mac(2), OUTSIDER, 0x0800, &body));
    //= spec/uplink.md#promiscuous-devices
    //= type=test
    //# While a LAN has a promiscuous listener, the device of its uplink MUST be promiscuous, and each listener MUST get a copy of a
    //# unicast frame from outside that is for nobody of the LAN.
    assert!(control.wants_promiscuous(DEVICE));
    let strangers = frame(MacAddress([0x52, 0, 0, 0, 0, 8]), OUTSIDER, 0x0800, &body);
    comes_in(&mut control, &strangers);
    let copies = frames_of(&mut ends[2]);
    assert_eq!((copies.len(), copies[0].0.kind, &copies[0].1), (1, FrameKind::Promiscuous, &strangers));
    // What is for the listener itself comes once.
    comes_in(&mut control, &frame(SYSTEM, OUTSIDER, 0x0800, &packet(OUTSIDE_IP, ip_of(3), 20)));
    let own: Vec<_> = ends[2].frames().iter().map(|header| header.kind).collect();
    assert_eq!(own, [FrameKind::Relay]);
    ends[2].tell(&mut control, &ControlMessage::Promiscuous { listener, listens: false });
    comes_in(&mut control, &strangers);
    assert_eq!((control.wants_promiscuous(DEVICE), ends[2].frames().len()), (false, 0));
    ledger_closes(&control);
}

/// Lets time go on from `at` to `until`, and gives the addresses that are announced meanwhile with their times in milliseconds.
fn announced_until(control: &mut ControlNode, until: Instant) -> Vec<(u64, [u8; 4])> {
    let mut announced = Vec::new();
    while let Some(due) = control.poll_timeout().filter(|due| *due <= until) {
        control.handle_timeout(due);
        for octets in sent(control) {
            // A gratuitous request: both addresses are the same, the MAC is what outside is to see.
            assert_eq!((&octets[..6], &octets[22..28]), (&[0xff; 6][..], &SYSTEM.0[..]));
            assert_eq!(octets[28..32], octets[38..42]);
            let ip = octets[28..32].try_into().expect("an address");
            announced.push((due.since(NOW).as_millis() as u64, ip));
        }
    }
    announced
}

#[test]
fn holders_are_announced_when_they_come_and_again_after_a_while() {
    //= spec/uplink.md#announcements
    //= type=test
    //# A control node MUST announce the holder of each address to outside, as the holder itself would unasked, when the address is
    //# registered or has another holder, when the uplink begins or is changed, when its device gets a carrier, and every 300 s, in the
    //# first cases three times with a second between.
    let mut control = filtered();
    let mut end = End::connect(&mut control, 1, process(1), &ShmConfig::default());
    end.register(&mut control);
    let address = InterfaceAddress { address: ip_of(1).into(), prefix: 24 };
    end.tell(&mut control, &ControlMessage::Bind { vif: VifNumber(1), address });
    let seconds = |s: u64| NOW + core::time::Duration::from_secs(s);
    let of_one = |times: &[u64]| times.iter().map(|ms| (*ms, ip_of(1))).collect::<Vec<_>>();
    assert_eq!(announced_until(&mut control, seconds(2)), of_one(&[0, 1000, 2000]));
    // The session is silent, but that is of no account: it is registered.
    assert_eq!(announced_until(&mut control, seconds(599)), of_one(&[300_000]));
    set_carrier(&mut control, false);
    assert_eq!(announced_until(&mut control, seconds(1000)), []);
    let device = Device { mtu: 1500, offloads: false };
    control.handle_device(seconds(1000), DEVICE, DeviceState { device, has_carrier: true });
    assert_eq!(announced_until(&mut control, seconds(1100)), of_one(&[1_000_000, 1_001_000, 1_002_000]));
}

#[test]
fn what_a_device_drops_for_its_length_is_among_its_drops() {
    //= spec/xdp.md#frames-in-several-chunks
    //= type=test
    //# A frame that arrives in several chunks MUST be given as one, and one that is longer than the room for it MUST be
    //# dropped and counted.
    let mut control = filtered();
    control.handle_too_long(DEVICE, 3);
    control.handle_too_long(DeviceNumber(7), 1);
    let (_, devices) = control.uplinks();
    assert_eq!((devices[0].drops.of(DropReason::TooLong), devices[0].drops.total()), (3, 3));
}

#[test]
fn without_a_carrier_nothing_goes_out_and_what_waited_is_dropped() {
    //= spec/uplink.md#no-carrier
    //= type=test
    //# What is for an uplink whose device is not there, or has no carrier, MUST be dropped as `no-carrier`.
    let mut control = filtered();
    let mut ends = announced(&mut control, &[1, 2]);
    let out = frame(OUTSIDER, mac(1), 0x0800, &packet(ip_of(1), OUTSIDE_IP, 30));
    ends[0].send_frame(&mut control, &out);
    set_carrier(&mut control, false);
    ends[0].send_frame(&mut control, &out);
    assert!(sent(&mut control).is_empty());
    set_carrier(&mut control, true);
    assert!(sent(&mut control).is_empty(), "what waited was old");
    ends[0].send_frame(&mut control, &out);
    assert_eq!(sent(&mut control).len(), 1);
    let (links, devices) = control.uplinks();
    let dropped = |drops: &DropCounters| drops.of(DropReason::NoCarrier);
    assert_eq!((dropped(&links[0].counters.drops), dropped(&devices[0].drops)), (1, 1));
    ledger_closes(&control);
}

#[test]
fn members_that_depend_on_the_uplink_lose_their_carrier_with_it_and_nobody_else() {
    //= spec/uplink.md#link-dependency
    //= type=test
    //# While an uplink with a link dependency has no carrier, a control node MUST tell the nodes of its LAN to take the carrier from
    //# their interfaces, and give it back afterwards.
    let carriers = |end: &mut End| {
        let of = |message: &ControlMessage| match message {
            ControlMessage::Interface(interface) => Some(interface.has_carrier),
            _ => None,
        };
        end.told().iter().filter_map(of).collect::<Vec<_>>()
    };
    for link_dependency in [true, false] {
        let mut config = config();
        config.devices = 1;
        let mode = Mode::Unfiltered;
        config.lans[0].uplink =
            Some(UplinkConfig { mode, vid: None, device: DEVICE, default_router: None, link_dependency });
        let mut control = ControlNode::new(config);
        set_carrier(&mut control, true);
        let mut one = member(&mut control, 1);
        one.arrived();
        for has_carrier in [false, false, true, true] {
            set_carrier(&mut control, has_carrier);
        }
        control.pump(NOW, 10);
        let told: &[bool] = if link_dependency { &[false, true] } else { &[] };
        assert_eq!(carriers(&mut one), told);
        // One that comes while it is down has none from the start.
        set_carrier(&mut control, false);
        let mut two = End::connect(&mut control, 2, process(2), &ShmConfig::default());
        let first = two.register(&mut control).into_iter().find_map(|message| match message {
            ControlMessage::Interface(interface) => Some(interface.has_carrier),
            _ => None,
        });
        assert_eq!(first, Some(!link_dependency));
    }
}

#[test]
fn a_flood_from_outside_leaves_members_their_room() {
    //= spec/uplink.md#room-for-what-comes-in
    //= type=test
    //# Frames from outside that wait for room towards a node MUST wait on one account, which is no member's.
    let mut control = filtered();
    let mut ends = announced(&mut control, &[1]);
    let small = ShmConfig { slots_log2: 6, ..ShmConfig::default() };
    let mut slow = End::connect(&mut control, 2, process(2), &small);
    slow.register(&mut control);
    announce(&mut control, &mut slow);
    slow.arrived();
    let flood = frame(SYSTEM, OUTSIDER, 0x0800, &packet(OUTSIDE_IP, ip_of(2), 100));
    for _ in 0..3000 {
        comes_in(&mut control, &flood);
    }
    let full = |control: &ControlNode| control.status().lans[0].drops.of(DropReason::EgressFull);
    let dropped = full(&control);
    assert!(dropped > 1000, "{dropped}");
    ends[0].send_frame(&mut control, &frame(mac(2), mac(1), 0x0800, &packet(ip_of(1), ip_of(2), 100)));
    assert_eq!(full(&control), dropped, "the member's frame waits");
    // What waits too long is counted, whoever sent it.
    control.handle_timeout(NOW + core::time::Duration::from_millis(60));
    assert!(control.status().lans[0].drops.of(DropReason::Expired) > 400);
    ledger_closes(&control);
}

#[test]
fn a_packet_too_long_for_outside_comes_back_as_an_error() {
    let mut config = config();
    config.lans[0].mtu = 9000;
    config.devices = 1;
    let mode = Mode::Unfiltered;
    config.lans[0].uplink =
        Some(UplinkConfig { mode, vid: None, device: DEVICE, default_router: None, link_dependency: false });
    let mut control = ControlNode::new(config);
    set_carrier(&mut control, true);
    let mut ends = announced(&mut control, &[1, 2]);
    let long = frame(OUTSIDER, mac(1), 0x0800, &packet(ip_of(1), OUTSIDE_IP, 3000));
    let header = FrameHeader { vnet: Vnet::default(), ..ends[0].header(OUTSIDER, 0, long.len()) };
    ends[0].bseq += 1;
    let octets = header.emit(long.len());
    let parts = [Part::Private(&octets), Part::Private(&long)];
    ends[0].association.send(NOW, RELAY, 0, 0, &parts).expect("room");
    ends[0].association.publish();
    control.pump(NOW, 1000);
    assert!(sent(&mut control).is_empty());
    let got = frames_of(&mut ends[0]);
    assert_eq!((got.len(), got[0].0.origin), (1, NodeNumber(0)));
    // ICMP, fragmentation needed, in the name of the one it was for (RFC 792, RFC 1191).
    let error = &got[0].1;
    assert_eq!((error[14 + 9], &error[26..30], error[34], error[35]), (1, &OUTSIDE_IP[..], 3, 4));
    assert_eq!(u16::from_be_bytes([error[40], error[41]]), 1500);
    assert!(ends[1].frames().is_empty());
    ledger_closes(&control);
}

#[test]
fn what_a_removed_member_had_is_nobodys_and_its_mac_goes_nowhere() {
    let mut control = bridged(Mode::Unfiltered);
    let mut ends = announced(&mut control, &[1, 2]);
    let to_two = frame(mac(2), OUTSIDER, 0x0800, &packet(OUTSIDE_IP, ip_of(2), 30));
    comes_in(&mut control, &to_two);
    assert_eq!(ends[1].frames().len(), 1);
    let from_two = frame(MacAddress::BROADCAST, mac(2), 0x0800, &packet(OUTSIDE_IP, [255; 4], 30));
    comes_in(&mut control, &from_two);
    assert_eq!(control.uplinks().0[0].counters.drops.of(DropReason::UplinkLoop), 1);
    let changes = Changes { removed_members: vec![(LAN, NodeNumber(2))], ..Changes::default() };
    control.handle_command(NOW, Command::Apply { epoch: 4, changes: Box::new(changes) });
    drop(ends[0].arrived());
    comes_in(&mut control, &to_two);
    comes_in(&mut control, &from_two);
    let drops = control.uplinks().0.remove(0).counters.drops;
    assert_eq!((drops.of(DropReason::UnknownDestination), drops.of(DropReason::UplinkLoop)), (1, 2));
    // Nor does a frame to it leave: nobody outside can have a MAC of the counter.
    sent(&mut control);
    ends[0].send_frame(&mut control, &frame(mac(2), mac(1), 0x0800, &packet(ip_of(1), ip_of(2), 30)));
    assert!(sent(&mut control).is_empty());
    assert_eq!(control.uplinks().0[0].counters.drops.of(DropReason::Hairpin), 1);
    assert!(ends[0].frames().is_empty());
    ledger_closes(&control);
}
