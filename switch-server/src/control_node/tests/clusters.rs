//! Clusters: who gets what is for their addresses, and who speaks for them.

use core::time::Duration;

use cluster_proxy::{
    Balance, CheckConfig, Flow, HashKey, Limits, Protocol, ServerConfig, ServiceConfig, ServiceKey, Sticky,
    Tables,
};
use lan_proxy::{Device, Mode};
use vlan_core::cluster::{CheckKind, CheckResult, DefaultRouter};
use vlan_core::wire::control::{CheckOrder, Checked, FlowNotice, Listening, ListeningNotice};

use super::*;

const ADDRESS: [u8; 4] = [10, 1, 0, 100];
const CLUSTER_MAC: MacAddress = MacAddress([2, 0, 1, 0, 1, 0]);
const SYSTEM: MacAddress = MacAddress([2, 0, 1, 0, 0, 0x77]);
const OUTSIDER: MacAddress = MacAddress([0x52, 0, 0, 0, 0, 9]);
const OUTSIDE_IP: [u8; 4] = [10, 1, 0, 200];
const DEVICE: DeviceNumber = DeviceNumber(0);
const SYN: u8 = 2;
const ACK: u8 = 16;
const PORT_80: ServiceKey = ServiceKey { protocol: Protocol::Tcp, port: 80 };
const BY_TCP: CheckKind = CheckKind::Tcp;

/// One service, TCP port 80, of these nodes.
fn cluster(nodes: &[u16]) -> ClusterEntry {
    cluster_with(nodes, None)
}

fn server(&n: &u16) -> ServerConfig {
    ServerConfig { slot: server_name(NodeNumber(n)), node: NodeNumber(n), weight: 1 }
}

fn cluster_with(nodes: &[u16], check: Option<CheckConfig>) -> ClusterEntry {
    let config = cluster_proxy::ClusterConfig {
        addresses: vec![ADDRESS.into()],
        services: vec![ServiceConfig {
            key: PORT_80,
            balance: Balance::RoundRobin,
            sticky: Sticky::None,
            servers: nodes.iter().map(server).collect(),
            check,
        }],
        routers: Vec::new(),
        rows: 256,
        epoch: 1,
    };
    let tables = Tables::new(&config, HashKey([1, 2])).expect("a sound cluster");
    ClusterEntry {
        addresses: vec![(ADDRESS.into(), CLUSTER_MAC)],
        tables,
        checks: vec![(PORT_80, BY_TCP)],
        limits: Limits::default(),
    }
}

fn clustered(nodes: &[u16], has_uplink: bool) -> ControlNode {
    clustered_from(Instant::ZERO, nodes, has_uplink)
}

/// The same of a control node that starts then.
fn clustered_from(started: Instant, nodes: &[u16], has_uplink: bool) -> ControlNode {
    let mut config = ControlNodeConfig { started, ..config() };
    config.lans[0].clusters = vec![cluster(nodes)];
    for member in &mut config.lans[0].members {
        let address = ip_of(member.node.0).into();
        member.addresses = vec![InterfaceAddress { address, prefix: 24 }];
    }
    if has_uplink {
        config.devices = 1;
        let mode = Mode::Filtered { system: SYSTEM };
        // A router once the cluster has some.
        let default_router = Some(DefaultRouter::Cluster(ADDRESS.into()));
        let (vid, link_dependency) = (None, false);
        config.lans[0].uplink =
            Some(UplinkConfig { mode, vid, device: DEVICE, default_router, link_dependency });
    }
    let mut control = ControlNode::new(config);
    if has_uplink {
        let device = Device { mtu: 1500, offloads: false };
        control.handle_device(NOW, DEVICE, DeviceState { device, has_carrier: true });
    }
    control
}

fn ip_of(node: u16) -> [u8; 4] {
    [10, 1, 0, node as u8]
}

/// A TCP segment for the cluster.
fn segment(to: MacAddress, from: (MacAddress, [u8; 4]), port: u16, flags: u8) -> Vec<u8> {
    let mut frame = [&to.0[..], &from.0.0, &[8, 0]].concat();
    frame.extend([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0]);
    frame.extend(from.1.iter().chain(&ADDRESS));
    frame.extend(port.to_be_bytes().iter().chain(&[0, 80]));
    frame.extend([0; 16]);
    frame[14 + 20 + 13] = flags;
    frame
}

fn arp(
    to: MacAddress,
    operation: u8,
    sender: (MacAddress, [u8; 4]),
    target: (MacAddress, [u8; 4]),
) -> Vec<u8> {
    let head = [&to.0[..], &sender.0.0, &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation]].concat();
    [&head[..], &sender.0.0, &sender.1, &target.0.0, &target.1].concat()
}

fn frames_of(end: &mut End) -> Vec<(FrameHeader, Vec<u8>)> {
    let frames = end.arrived().into_iter().filter(|(channel, _)| *channel != Channel::CONTROL);
    let parsed = frames.filter_map(|(_, octets)| {
        let header = FrameHeader::parse(&octets, octets.len()).ok()?;
        Some((header, octets[header.kind.header_len()..].to_vec()))
    });
    parsed.collect()
}

/// Members, and all that they were told taken away.
fn members<const N: usize>(control: &mut ControlNode, nodes: [u16; N]) -> [End; N] {
    let mut ends = nodes.map(|node| member(control, node));
    ends.iter_mut().for_each(|end| drop(end.arrived()));
    ends
}

#[track_caller]
fn ledger_closes(control: &ControlNode) {
    let lan = control.status().lans.remove(0);
    assert!(lan.ledger.closes(lan.drops.total()), "{:?} {:?}", lan.ledger, lan.drops);
}

fn sent_outside(control: &mut ControlNode) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((_, frame)) = control.poll_outside(DEVICE) {
        frames.push(frame.to_vec());
        control.outside_taken(DEVICE, true);
    }
    frames
}

fn claim(control: &mut ControlNode, end: &mut End, port: u16) {
    let flow = Flow {
        protocol: Protocol::Tcp,
        client: ip_of(3).into(),
        client_port: port,
        address: ADDRESS.into(),
        port: 80,
    };
    end.tell(control, &ControlMessage::Claims(FlowNotice { vif: VifNumber(1), flows: vec![flow] }));
}

#[test]
fn a_packet_for_a_cluster_goes_to_one_server_as_it_is_with_its_mac() {
    //= spec/cluster.md#frames-for-a-cluster
    //= type=test
    //# The server of a LAN MUST give every unicast frame of a member to the MAC of a cluster address to the proxy of that cluster, and to nobody else.
    //= spec/cluster.md#frames-for-servers
    //= type=test
    //# A control node MUST give a real server the packets of its flows as they are, with the MAC of its interface as their destination and their sender as their origin.
    let mut control = clustered(&[1, 2], false);
    let [mut one, mut two, mut client] = members(&mut control, [1, 2, 3]);
    for port in [1000, 1001] {
        client.send_frame(&mut control, &segment(CLUSTER_MAC, (mac(3), ip_of(3)), port, SYN));
    }
    let got = [frames_of(&mut one), frames_of(&mut two)];
    for (node, frames) in (1..).zip(&got) {
        let [(header, frame)] = &frames[..] else { panic!("{frames:?}") };
        assert_eq!((header.origin, header.kind), (NodeNumber(3), FrameKind::Relay));
        let port = u16::from_be_bytes([frame[34], frame[35]]);
        assert_eq!(*frame, segment(mac(node), (mac(3), ip_of(3)), port, SYN));
    }
    assert!(frames_of(&mut client).is_empty());
    // An unknown port, and the cluster's MAC with another address.
    let mut unknown = segment(CLUSTER_MAC, (mac(3), ip_of(3)), 1002, SYN);
    unknown[37] = 81;
    client.send_frame(&mut control, &unknown);
    let lan = control.status().lans.remove(0);
    assert_eq!(lan.drops.of(DropReason::UnknownService), 1);
    ledger_closes(&control);
}

/// These nodes route, and serve nothing.
fn routed_by(nodes: &[u16]) -> Changes {
    let config = cluster_proxy::ClusterConfig {
        addresses: vec![ADDRESS.into()],
        services: Vec::new(),
        routers: nodes.iter().map(server).collect(),
        rows: 256,
        epoch: 1,
    };
    let tables = Tables::new(&config, HashKey([1, 2])).expect("a sound cluster");
    let addresses = vec![(ADDRESS.into(), CLUSTER_MAC)];
    let entry = ClusterEntry { addresses, tables, checks: Vec::new(), limits: Default::default() };
    Changes { clusters: vec![(LAN, vec![entry])], ..Changes::default() }
}

#[test]
fn packets_for_others_go_to_a_router_that_is_attached_and_does_not_drain() {
    //= spec/cluster.md#routers
    //= type=test
    //# A packet to the MAC of a cluster address that is for none of the cluster's addresses MUST go to the first router of its row that can be reached and does not drain, and be dropped as `unknown-destination` where the cluster has no routers.
    let mut control = clustered(&[1, 2], false);
    let [mut one, mut two, mut client] = members(&mut control, [1, 2, 3]);
    let send = |control: &mut ControlNode, client: &mut End| {
        for far in 0..32 {
            let mut frame = segment(CLUSTER_MAC, (mac(3), ip_of(3)), 7, ACK);
            frame[30..34].copy_from_slice(&[198, 18, 0, far]);
            client.send_frame(control, &frame);
        }
    };
    send(&mut control, &mut client);
    assert_eq!(control.status().lans[0].drops.of(DropReason::UnknownDestination), 32, "nobody routes");
    let changes = alloc::boxed::Box::new(routed_by(&[1, 2]));
    control.handle_command(NOW, Command::Apply { epoch: 4, changes });
    send(&mut control, &mut client);
    let got = [frames_of(&mut one), frames_of(&mut two)];
    assert!(got.iter().all(|frames| frames.len() > 4) && got.concat().len() == 32);
    for (node, (header, frame)) in (1..).zip(&got).flat_map(|(node, got)| got.iter().map(move |f| (node, f)))
    {
        assert_eq!((header.origin, &frame[..6]), (NodeNumber(3), &mac(node).0[..]));
        assert_eq!((frame[22], &frame[30..33]), (64, &[198, 18, 0][..]), "as it was sent");
    }
    control.handle_command(NOW, Command::Drain { node: NodeNumber(1), within: None });
    send(&mut control, &mut client);
    assert_eq!([&mut one, &mut two].map(|end| frames_of(end).len()), [0, 32]);
    control.handle_command(NOW, Command::Undrain { node: NodeNumber(1) });
    drop(two);
    control.handle_command(NOW, Command::Drain { node: NodeNumber(2), within: None });
    send(&mut control, &mut client);
    assert_eq!(frames_of(&mut one).len(), 32);
    let routing = &control.clusters()[0].services[0];
    let given: u64 = routing.servers.iter().map(|server| server.counters.given.frames).sum();
    assert_eq!((routing.key, given), (cluster_proxy::ROUTING, 96));
    ledger_closes(&control);
}

#[test]
fn what_comes_from_outside_for_nobody_goes_to_the_routers_of_a_cluster() {
    //= spec/uplink.md#the-default-router
    //= type=test
    //# In filtered mode a unicast frame from outside for which no member is found, other than ARP and ND, MUST go to the default
    //# router, or be dropped when there is none.
    let mut control = clustered(&[1, 2], true);
    let [mut one, mut two] = members(&mut control, [1, 2]);
    let come = |control: &mut ControlNode| {
        for far in 0..32 {
            let mut frame = segment(SYSTEM, (OUTSIDER, OUTSIDE_IP), 7, ACK);
            frame[30..34].copy_from_slice(&[198, 18, 0, far]);
            control.handle_outside(NOW, DEVICE, &Vnet::default(), &mut frame);
        }
        control.pump(NOW, 1000);
    };
    come(&mut control);
    assert!([&mut one, &mut two].iter_mut().all(|end| frames_of(end).is_empty()), "it serves only");
    let changes = alloc::boxed::Box::new(routed_by(&[1, 2]));
    control.handle_command(NOW, Command::Apply { epoch: 4, changes });
    come(&mut control);
    let got = [frames_of(&mut one), frames_of(&mut two)];
    assert!(got.iter().all(|frames| frames.len() > 4) && got.concat().len() == 32);
    for (node, frames) in (1..).zip(&got) {
        assert!(
            frames.iter().all(|(header, frame)| header.origin == NodeNumber(0) && frame[..6] == mac(node).0)
        );
    }
    ledger_closes(&control);
}

#[test]
fn a_server_that_is_not_attached_or_has_no_listener_gets_nothing() {
    //= spec/cluster.md#reachable-servers
    //= type=test
    //# A real server MUST count as reachable while its node is attached to the control node as a member of the LAN, and as another life of it when its process is another.
    let mut control = clustered(&[1, 2], false);
    let [mut one, mut client] = members(&mut control, [1, 3]);
    let begin = |control: &mut ControlNode, client: &mut End, ports: core::ops::Range<u16>| {
        for port in ports {
            client.send_frame(control, &segment(CLUSTER_MAC, (mac(3), ip_of(3)), port, SYN));
        }
    };
    begin(&mut control, &mut client, 1..5);
    assert_eq!(frames_of(&mut one).len(), 4);
    let [mut two] = members(&mut control, [2]);
    begin(&mut control, &mut client, 5..9);
    assert_eq!([frames_of(&mut one).len(), frames_of(&mut two).len()], [2, 2]);
    let listening = Listening { address: ADDRESS.into(), protocol: Protocol::Tcp, port: 80, listens: false };
    let notice = ListeningNotice { vif: VifNumber(1), services: vec![listening] };
    one.tell(&mut control, &ControlMessage::Listening(notice));
    begin(&mut control, &mut client, 9..13);
    assert_eq!([frames_of(&mut one).len(), frames_of(&mut two).len()], [0, 4]);
    let servers = &control.clusters()[0].services[0].servers;
    assert_eq!(
        servers.iter().map(|s| (s.is_attached, s.takes_flows)).collect::<Vec<_>>(),
        [(true, false), (true, true)]
    );
    ledger_closes(&control);
}

#[test]
fn a_claimed_flow_stays_while_its_server_drains_and_the_cluster_changes() {
    //= spec/cluster.md#changed-clusters
    //= type=test
    //# When a cluster changes, its control node MUST keep the flows that are claimed and what it knows of servers that stay.
    let mut control = clustered(&[1], false);
    let [mut one, mut two, mut client] = members(&mut control, [1, 2, 3]);
    let send = |control: &mut ControlNode, client: &mut End, port, flags| {
        client.send_frame(control, &segment(CLUSTER_MAC, (mac(3), ip_of(3)), port, flags));
    };
    send(&mut control, &mut client, 7, SYN);
    assert_eq!(frames_of(&mut one).len(), 1);
    claim(&mut control, &mut one, 7);
    control.handle_command(NOW, Command::Drain { node: NodeNumber(1), within: None });
    send(&mut control, &mut client, 7, ACK);
    send(&mut control, &mut client, 8, SYN);
    assert_eq!(frames_of(&mut one).len(), 1, "the old one and no new one");
    let changes = Changes { clusters: vec![(LAN, vec![cluster(&[1, 2])])], ..Changes::default() };
    control.handle_command(NOW, Command::Apply { epoch: 4, changes: alloc::boxed::Box::new(changes) });
    send(&mut control, &mut client, 7, ACK);
    send(&mut control, &mut client, 9, SYN);
    assert_eq!([frames_of(&mut one).len(), frames_of(&mut two).len()], [1, 1]);
    control.handle_command(NOW, Command::Undrain { node: NodeNumber(1) });
    (10..14).for_each(|port| send(&mut control, &mut client, port, SYN));
    assert_eq!([frames_of(&mut one).len(), frames_of(&mut two).len()], [2, 2]);
    assert_eq!(control.clusters()[0].services[0].servers[0].flows, 1);
    // Without a cluster its address is nobody's.
    let changes = Changes { clusters: vec![(LAN, vec![])], ..Changes::default() };
    control.handle_command(NOW, Command::Apply { epoch: 5, changes: alloc::boxed::Box::new(changes) });
    send(&mut control, &mut client, 7, ACK);
    assert!(frames_of(&mut one).is_empty() && frames_of(&mut two).is_empty());
    ledger_closes(&control);
}

#[test]
fn a_node_claims_for_itself_alone() {
    //= spec/cluster.md#who-may-claim
    //= type=test
    //# A control node MUST take what a node says of flows and services for the members of that node alone.
    let mut control = clustered(&[1, 2], false);
    let [mut one, mut two, mut client] = members(&mut control, [1, 2, 3]);
    for end in [&mut one, &mut two] {
        end.tell(&mut control, &ControlMessage::FlowsTold { vif: VifNumber(1) });
    }
    client.send_frame(&mut control, &segment(CLUSTER_MAC, (mac(3), ip_of(3)), 7, SYN));
    let is_one = frames_of(&mut one).len() == 1;
    // The client serves nothing, and the other server was not given its flow.
    claim(&mut control, &mut client, 7);
    claim(&mut control, if is_one { &mut two } else { &mut one }, 7);
    claim(&mut control, if is_one { &mut one } else { &mut two }, 7);
    let counters = &control.clusters()[0].counters;
    assert_eq!(counters.claims, 1, "{counters:?}");
    assert!(counters.refused >= 1);
}

#[test]
fn requests_for_the_address_are_answered_with_its_mac_and_those_of_servers_ask_in_their_own_name() {
    //= spec/cluster.md#who-speaks-for-the-address
    //= type=test
    //# A control node MUST answer every ARP and ND request for a cluster address itself, inside with the MAC of that address, and let nobody else speak for it.
    //= spec/cluster.md#requests-of-servers
    //= type=test
    //# A control node MUST pass an ARP request that a real server sends in the name of a cluster address on in the name of the server's own address, or of none if it has none.
    let mut control = clustered(&[1], true);
    let [mut one, mut client] = members(&mut control, [1, 3]);
    sent_outside(&mut control);
    let everybody = MacAddress::BROADCAST;
    client.send_frame(&mut control, &arp(everybody, 1, (mac(3), ip_of(3)), (MacAddress::NULL, ADDRESS)));
    let answered = frames_of(&mut client);
    assert_eq!(answered[0].1, arp(mac(3), 2, (CLUSTER_MAC, ADDRESS), (mac(3), ip_of(3))));
    assert!(frames_of(&mut one).is_empty());
    assert!(sent_outside(&mut control).is_empty());
    // A server's kernel asks for its client.
    one.send_frame(&mut control, &arp(everybody, 1, (mac(1), ADDRESS), (MacAddress::NULL, ip_of(3))));
    let asked = arp(everybody, 1, (mac(1), ip_of(1)), (MacAddress::NULL, ip_of(3)));
    assert_eq!(frames_of(&mut client)[0].1, asked);
    let asked_outside = arp(everybody, 1, (SYSTEM, ip_of(1)), (MacAddress::NULL, ip_of(3)));
    assert_eq!(sent_outside(&mut control), [asked_outside]);
    // Whatever else speaks for the address is dropped.
    for frame in [
        arp(everybody, 1, (mac(1), ADDRESS), (MacAddress::NULL, ADDRESS)),
        arp(mac(3), 2, (mac(1), ADDRESS), (mac(3), ip_of(3))),
    ] {
        one.send_frame(&mut control, &frame);
    }
    client.send_frame(&mut control, &arp(everybody, 1, (mac(3), ADDRESS), (MacAddress::NULL, ip_of(1))));
    assert!(frames_of(&mut client).is_empty() && frames_of(&mut one).is_empty());
    let lan = control.status().lans.remove(0);
    assert_eq!(lan.drops.of(DropReason::ClusterAddress), 3);
    ledger_closes(&control);
}

#[test]
fn outside_reaches_the_cluster_by_its_address() {
    let mut control = clustered(&[1], true);
    let [mut one] = members(&mut control, [1]);
    sent_outside(&mut control);
    let come_in = |control: &mut ControlNode, frame: Vec<u8>| {
        control.handle_outside(NOW, DEVICE, &Vnet::default(), &mut frame.clone());
        control.pump(NOW, 1000);
    };
    for to in [MacAddress::BROADCAST, SYSTEM] {
        come_in(&mut control, arp(to, 1, (OUTSIDER, OUTSIDE_IP), (MacAddress::NULL, ADDRESS)));
        let answer = arp(OUTSIDER, 2, (SYSTEM, ADDRESS), (OUTSIDER, OUTSIDE_IP));
        assert_eq!(sent_outside(&mut control), [answer]);
    }
    assert!(frames_of(&mut one).is_empty());
    come_in(&mut control, segment(SYSTEM, (OUTSIDER, OUTSIDE_IP), 7, SYN));
    let [(header, frame)] = &frames_of(&mut one)[..] else { panic!("one frame") };
    assert_eq!(header.origin, NodeNumber(0));
    assert_eq!(*frame, segment(mac(1), (OUTSIDER, OUTSIDE_IP), 7, SYN));
    // Who says outside that he is the cluster is not heard.
    come_in(&mut control, segment(SYSTEM, (OUTSIDER, ADDRESS), 7, SYN));
    assert!(frames_of(&mut one).is_empty());
    ledger_closes(&control);
}

#[test]
fn a_segment_of_an_unknown_flow_is_for_its_owner_alone_until_all_have_told_their_flows() {
    //= spec/cluster.md#asked-servers
    //= type=test
    //# While some server may not have told all its flows, a control node MUST give a segment of an unknown flow to every server of its row that the proxy names, for the flow's owner alone.
    let mut control = clustered(&[1, 2], false);
    let [mut one, mut two, mut client] = members(&mut control, [1, 2, 3]);
    let ack = segment(CLUSTER_MAC, (mac(3), ip_of(3)), 7, ACK);
    // Past the window in which every server is asked.
    let later = NOW + core::time::Duration::from_secs(1);
    client.queue_frame(CLUSTER_MAC, 0, &ack);
    control.pump(later, 1000);
    for end in [&mut one, &mut two] {
        let [(header, _)] = &frames_of(end)[..] else { panic!("one frame for each") };
        assert_eq!(header.flags, FrameHeader::OWNER_ONLY);
    }
    for end in [&mut one, &mut two] {
        end.tell(&mut control, &ControlMessage::FlowsTold { vif: VifNumber(1) });
    }
    client.queue_frame(CLUSTER_MAC, 0, &ack);
    control.pump(later, 1000);
    let got = [frames_of(&mut one), frames_of(&mut two)].concat();
    let hops: Vec<_> = got.iter().map(|(header, _)| header.hop()).collect();
    assert_eq!(hops, [Some(0)], "one after the other");
    ledger_closes(&control);
}

/// Servers 1 to 3 and a client, 4, that have all told their flows, past the window in which every server is asked.
fn told_cluster() -> (ControlNode, [End; 3], End, Instant) {
    let mut config = config();
    config.lans[0].clusters = vec![cluster(&[1, 2, 3])];
    let first = config.lans[0].members[0].clone();
    config.lans[0].members.push(MemberConfig { node: NodeNumber(4), mac: mac(4), ..first });
    let mut control = ControlNode::new(config);
    let [one, two, three, client] = members(&mut control, [1, 2, 3, 4]);
    let mut servers = [one, two, three];
    for end in &mut servers {
        end.tell(&mut control, &ControlMessage::FlowsTold { vif: VifNumber(1) });
    }
    (control, servers, client, NOW + Duration::from_secs(1))
}

/// The one frame that one of these has got, with its place among them.
fn got(ends: &mut [End]) -> Option<(usize, FrameHeader, Vec<u8>)> {
    let frames = ends.iter_mut().enumerate().flat_map(|(place, end)| {
        frames_of(end).into_iter().map(move |(header, frame)| (place, header, frame))
    });
    let frames: Vec<_> = frames.collect();
    assert!(frames.len() <= 1, "{frames:?}");
    frames.into_iter().next()
}

fn give_back(control: &mut ControlNode, now: Instant, end: &mut End, header: &FrameHeader, frame: &[u8]) {
    let octets = header.emit(frame.len());
    let parts = [Part::Private(&octets), Part::Private(frame)];
    end.association.send(now, RELAY, 0, 0, &parts).expect("room");
    end.association.publish();
    control.pump(now, 1000);
}

#[test]
fn a_segment_that_servers_give_back_goes_around_as_it_came_and_to_the_first_for_good() {
    let (mut control, mut servers, mut client, now) = told_cluster();
    let mut ack = segment(CLUSTER_MAC, (mac(4), ip_of(4)), 7, ACK);
    // As long as they come, with what its sender has left to others to fill in.
    ack.resize(60_000, 5);
    ack[16..18].copy_from_slice(&(60_000_u16 - 14).to_be_bytes());
    let sent = client.header(CLUSTER_MAC, 0, ack.len());
    assert_eq!(sent.vnet, SUPER_FRAME);
    give_back(&mut control, now, &mut client, &sent, &ack);
    let (mut asked, mut hop) = (Vec::new(), 0);
    let (first, last) = loop {
        let (place, header, frame) = got(&mut servers).expect("one server has it");
        let expected = FrameHeader { flags: header.flags, destination_vif: header.destination_vif, ..sent };
        assert_eq!(header, expected, "with its number and its state");
        assert!(frame[6..] == ack[6..] && frame[..6] == mac(1 + place as u16).0);
        let Some(at) = header.hop() else { break (asked[0], place) };
        assert_eq!((at, asked.contains(&place)), (hop, false));
        asked.push(place);
        hop += 1;
        give_back(&mut control, now, &mut servers[place], &header, &frame);
    };
    assert_eq!((asked.len(), last), (3, first), "the first one's stack may refuse it");
    let counters = &control.clusters()[0].counters;
    assert_eq!((counters.given_back.frames, counters.forwarded.frames), (3, 4));
    ledger_closes(&control);
}

#[test]
fn what_a_member_was_not_given_to_pass_on_goes_nowhere() {
    let (mut control, mut servers, mut client, now) = told_cluster();
    let ack = segment(CLUSTER_MAC, (mac(4), ip_of(4)), 7, ACK);
    let sent = client.header(CLUSTER_MAC, 0, ack.len());
    give_back(&mut control, now, &mut client, &sent, &ack);
    let (place, header, frame) = got(&mut servers).expect("one server has it");
    let other = (place + 1) % 3;
    // Another server, the client, other octets, and an address of no cluster.
    give_back(&mut control, now, &mut servers[other], &header, &frame);
    give_back(&mut control, now, &mut client, &header, &frame);
    for at in [20, 33] {
        let mut forged = frame.clone();
        forged[at] ^= 1;
        give_back(&mut control, now, &mut servers[place], &header, &forged);
    }
    give_back(&mut control, now, &mut servers[place], &header, &[]);
    assert_eq!(got(&mut servers), None);
    give_back(&mut control, now, &mut servers[place], &header, &frame);
    assert!(got(&mut servers).is_some());
    give_back(&mut control, now, &mut servers[place], &header, &frame);
    assert_eq!(got(&mut servers), None, "once");
    let lan = control.status().lans.remove(0);
    assert_eq!(lan.drops.of(DropReason::NotGiven), 6);
    ledger_closes(&control);
}

#[test]
fn segments_that_go_around_keep_their_order() {
    let (mut control, mut servers, mut client, now) = told_cluster();
    let ack = |number: u8| {
        let mut ack = segment(CLUSTER_MAC, (mac(4), ip_of(4)), 7, ACK);
        ack[41] = number;
        ack
    };
    for number in 0..20 {
        client.queue_frame(CLUSTER_MAC, 0, &ack(number));
    }
    control.pump(now, 1000);
    for hops in 0..4 {
        let mut all: Vec<_> = servers.iter_mut().map(frames_of).enumerate().collect();
        all.retain(|(_, frames)| !frames.is_empty());
        let [(place, frames)] = &all[..] else { panic!("at one server after {hops} hops") };
        let numbers: Vec<u8> = frames.iter().map(|(_, frame)| frame[41]).collect();
        assert_eq!(numbers, (0..20).collect::<Vec<_>>());
        for (header, frame) in frames.iter().filter(|(header, _)| header.hop().is_some()) {
            give_back(&mut control, now, &mut servers[*place], header, frame);
        }
    }
    ledger_closes(&control);
}

#[test]
fn a_control_node_that_has_started_waits_for_servers_that_have_yet_to_come() {
    //= spec/cluster.md#refusals
    //= type=test
    //# A server MUST be allowed to refuse such a segment only when every server has told all its flows that can be reached, or has not come since the takeover and may still.
    // Clocks count from the start of a host, not from that of a process.
    let started = Instant::ZERO + core::time::Duration::from_secs(1000);
    let mut control = clustered_from(started, &[1, 2], false);
    let [mut one, mut client] = members(&mut control, [1, 3]);
    one.tell(&mut control, &ControlMessage::FlowsTold { vif: VifNumber(1) });
    let mut flags_at = |seconds, flags| {
        client.queue_frame(CLUSTER_MAC, 0, &segment(CLUSTER_MAC, (mac(3), ip_of(3)), 7, flags));
        control.pump(started + core::time::Duration::from_secs(seconds), 1000);
        frames_of(&mut one).iter().map(|(header, _)| header.flags).collect::<Vec<_>>()
    };
    assert_eq!(flags_at(0, ACK), [FrameHeader::OWNER_ONLY], "every server is asked");
    assert_eq!(flags_at(9, ACK), [FrameHeader::OWNER_ONLY], "the only one in its row");
    assert_eq!(flags_at(10, ACK), [0]);
    assert_eq!(flags_at(10, SYN), [0], "a new flow has no owner yet");
    ledger_closes(&control);
}

/// Flows of another client with so many ports.
fn flows(ports: core::ops::Range<u16>) -> Vec<Flow> {
    let flow = |client_port| Flow {
        protocol: Protocol::Tcp,
        client: ip_of(3).into(),
        client_port,
        address: ADDRESS.into(),
        port: 80,
    };
    ports.map(flow).collect()
}

fn claims(ports: core::ops::Range<u16>) -> ControlMessage {
    ControlMessage::Claims(FlowNotice { vif: VifNumber(1), flows: flows(ports) })
}

#[test]
fn a_control_node_that_starts_late_believes_its_servers_for_ten_seconds() {
    // The machine has been up for long.
    let late = NOW + core::time::Duration::from_secs(3600);
    let mut control = clustered_from(late, &[1, 2], false);
    let say = |control: &mut ControlNode, end: &mut End, at, message: &ControlMessage| {
        end.association.send_control(at, &message.emit()).expect("room");
        end.association.publish();
        control.pump(at, 1000);
    };
    let ends = [1, 2, 3].map(|node| {
        let mut end = End::connect(&mut control, node, process(node), &ShmConfig::default());
        say(&mut control, &mut end, late, &register(node, process(node)));
        end.arrived();
        end
    });
    let [mut one, mut two, mut client] = ends;
    // Half of these are not its own by their rows.
    say(&mut control, &mut one, late, &claims(1..100));
    say(&mut control, &mut one, late, &ControlMessage::FlowsTold { vif: VifNumber(1) });
    assert_eq!(control.clusters()[0].counters.claims, 99);
    client.queue_frame(CLUSTER_MAC, 0, &segment(CLUSTER_MAC, (mac(3), ip_of(3)), 1000, ACK));
    control.pump(late, 1000);
    let asked = control.clusters()[0].counters.asked.frames;
    assert_eq!((asked, frames_of(&mut one).len(), frames_of(&mut two).len()), (1, 1, 1));
    // Whose time to tell is not over claims what it likes for ten seconds, and no longer.
    let later = late + core::time::Duration::from_secs(10);
    say(&mut control, &mut two, later, &claims(2000..2100));
    let counters = control.clusters().remove(0).counters;
    assert!(counters.refused > 20, "{counters:?}");
    ledger_closes(&control);
}

#[test]
fn a_message_about_many_services_and_a_server_that_comes_are_judged_once() {
    let mut control = clustered(&[1, 2], false);
    let [mut one] = members(&mut control, [1]);
    let judged = |control: &ControlNode| control.clusters()[0].counters.judgements;
    let before = judged(&control);
    let listening =
        |listens| Listening { address: ADDRESS.into(), protocol: Protocol::Tcp, port: 80, listens };
    let services = (0..600).map(|n| listening(n % 2 == 0)).collect();
    one.tell(&mut control, &ControlMessage::Listening(ListeningNotice { vif: VifNumber(1), services }));
    assert_eq!(judged(&control), before + 1);
    let [_two] = members(&mut control, [2]);
    assert_eq!(judged(&control), before + 2);
    let _client = members(&mut control, [3]);
    assert_eq!(judged(&control), before + 2, "it serves nothing");
}

#[test]
fn a_node_pays_for_each_flow_that_it_claims() {
    //= spec/server.md#turns
    //= type=test
    //# A control node MUST take messages from its nodes in turns of as many octets each.
    let mut control = clustered(&[1], false);
    let [mut one, mut client] = members(&mut control, [1, 3]);
    for message in 0..8 {
        one.association.send_control(NOW, &claims(message * 256..message * 256 + 256).emit()).expect("room");
    }
    one.association.publish();
    for _ in 0..100 {
        client.queue(mac(1), 0, 60);
    }
    control.next_session = 0;
    control.pump(NOW, 100);
    let claimed = control.clusters()[0].counters.claims;
    assert!((256..=512).contains(&claimed), "{claimed} beside 100 frames");
    control.pump(NOW, 1000);
    assert_eq!(control.clusters()[0].counters.claims, 8 * 256);
}

#[test]
fn every_member_knows_which_addresses_are_clusters() {
    //= spec/cluster.md#who-is-not-heard
    //= type=test
    //# A control node MUST tell every member of a LAN the addresses of its clusters, and again when they change.
    let mut control = clustered(&[1], false);
    let known = |told: Vec<ControlMessage>| -> Vec<_> {
        let interface = |message| match message {
            ControlMessage::Interface(config) => Some(config.cluster_addresses),
            _ => None,
        };
        told.into_iter().filter_map(interface).collect()
    };
    let mut client = End::connect(&mut control, 3, process(3), &ShmConfig::default());
    let told = client.register(&mut control);
    assert_eq!(known(told), [vec![core::net::IpAddr::from(ADDRESS)]]);
    let mut apply = |clusters| {
        let changes = Changes { clusters: vec![(LAN, clusters)], ..Changes::default() };
        control.handle_command(NOW, Command::Apply { epoch: 4, changes: alloc::boxed::Box::new(changes) });
        control.pump(NOW, 1000);
        known(client.told())
    };
    assert!(apply(vec![cluster(&[1, 2])]).is_empty(), "the addresses are the same");
    assert_eq!(apply(vec![]), [Vec::<core::net::IpAddr>::new()]);
}

/// A cluster of nodes 1 and 2 that is checked every second, and its members.
fn checked_cluster() -> (ControlNode, [End; 2]) {
    let mut config = config();
    let check = CheckConfig { interval: Duration::from_secs(1), fall: 2, rise: 1 };
    config.lans[0].clusters = vec![cluster_with(&[1, 2], Some(check))];
    let mut control = ControlNode::new(config);
    let ends = members(&mut control, [1, 2]);
    (control, ends)
}

/// What a node was asked to check.
fn orders(end: &mut End) -> Vec<CheckOrder> {
    let orders = end.told().into_iter();
    orders
        .filter_map(|told| if let ControlMessage::Check(order) = told { Some(order) } else { None })
        .collect()
}

fn answer(control: &mut ControlNode, end: &mut End, id: u32, result: CheckResult) {
    let checked = Checked { vif: VifNumber(1), id, address: ADDRESS.into(), port: 80, result };
    end.tell(control, &ControlMessage::Checked(checked));
}

#[test]
fn a_server_that_fails_its_check_gets_no_new_flow_until_it_passes_it_and_no_other_result_counts() {
    //= spec/cluster.md#checks
    //= type=test
    //# A control node MUST have a due check made by the real server's node, under a number of its own, and take no result but that node's for the last number.
    let (mut control, [mut one, mut two]) = checked_cluster();
    let mut now = NOW;
    // Both nodes are asked once in each interval; node 2 passes.
    let mut round = |control: &mut ControlNode, one: &mut End, two: &mut End| {
        now = now + Duration::from_secs(1);
        control.handle_timeout(now);
        let [[of_one], [of_two]] =
            [orders(one), orders(two)].map(|orders| <[_; 1]>::try_from(orders).expect("one"));
        answer(control, two, of_two.id, CheckResult::Passed);
        assert_eq!(
            (of_one.address, of_one.port, of_one.within_ms, of_one.kind),
            (ADDRESS.into(), 80, 750, CheckKind::Tcp)
        );
        of_one.id
    };
    let state = |control: &ControlNode| {
        let server = control.clusters()[0].services[0].servers[0].clone();
        (server.passes, server.takes_flows, server.failure)
    };
    let first = round(&mut control, &mut one, &mut two);
    answer(&mut control, &mut one, first, CheckResult::Refused);
    // The other node's word, an earlier number and a second result mean nothing.
    let second = round(&mut control, &mut one, &mut two);
    assert_ne!(first, second);
    answer(&mut control, &mut two, second, CheckResult::Refused);
    answer(&mut control, &mut one, first, CheckResult::Refused);
    let refused = Some(CheckFailure::Found(CheckResult::Refused));
    assert_eq!(state(&control), (Some(true), true, refused));
    answer(&mut control, &mut one, second, CheckResult::Passed);
    answer(&mut control, &mut one, second, CheckResult::Refused);
    assert_eq!(control.clusters()[0].checks.strays, 3);
    // Nothing at all is a failure, too: two of them in a row.
    for _ in 0..2 {
        round(&mut control, &mut one, &mut two);
        assert_eq!(state(&control).0, Some(true));
    }
    let last = round(&mut control, &mut one, &mut two);
    assert_eq!(state(&control), (Some(false), false, Some(CheckFailure::Unanswered)));
    answer(&mut control, &mut one, last, CheckResult::Passed);
    assert_eq!((state(&control).0, state(&control).1), (Some(true), true));
    let counted = control.clusters()[0].checks;
    assert_eq!((counted.asked, counted.passed, counted.failed), (10, 7, 3));
}

fn role_told(end: &mut End) -> Vec<bool> {
    let role = |told| if let ControlMessage::ClusterRole { has } = told { Some(has) } else { None };
    end.told().into_iter().filter_map(role).collect()
}

#[test]
fn a_control_node_that_stands_by_hears_of_flows_gives_nobody_anything_and_answers_for_no_address() {
    //= spec/cluster.md#standing-by
    //= type=test
    //# A control node that stands by MUST give no server a packet for a cluster address, answer no ARP or ND request for one, and not announce it; what it is given it MUST drop as `stands-by`.
    let mut control = clustered(&[1, 2], true);
    control.handle_cluster_role(NOW, ClusterRole::StandsBy);
    sent_outside(&mut control);
    let [mut one, mut two, mut client] = members(&mut control, [1, 2, 3]);
    claim(&mut control, &mut two, 7);
    let from = (mac(3), ip_of(3));
    let question = arp(MacAddress::BROADCAST, 1, from, (MacAddress::NULL, ADDRESS));
    let ask = |control: &mut ControlNode, client: &mut End| {
        client.send_frame(control, &segment(CLUSTER_MAC, from, 7, ACK));
        client.send_frame(control, &question);
        frames_of(client)
    };
    assert_eq!(ask(&mut control, &mut client), []);
    assert_eq!((frames_of(&mut one).len(), frames_of(&mut two).len()), (0, 0));
    let drops = control.status().lans.remove(0).drops;
    assert_eq!(drops.of(DropReason::StandsBy), 2);
    let outsider = arp(MacAddress::BROADCAST, 1, (OUTSIDER, OUTSIDE_IP), (MacAddress::NULL, ADDRESS));
    control.handle_outside(NOW, DEVICE, &Vnet::default(), &mut outsider.clone());
    control.pump(NOW, 1000);
    let names_it = |frame: &Vec<u8>| frame.get(28..32) == Some(&ADDRESS);
    assert!(!sent_outside(&mut control).iter().any(names_it));
    // The question itself everybody hears, as another one's.
    frames_of(&mut client);
    frames_of(&mut two);
    // What it has heard is worth something when it takes over.
    control.handle_cluster_role(NOW, ClusterRole::Has);
    let answers = ask(&mut control, &mut client);
    assert_eq!(answers.len(), 1, "the answer about its MAC: {answers:?}");
    let got = frames_of(&mut two);
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].0.flags & FrameHeader::OWNER_ONLY, 0, "its owner is known");
    ledger_closes(&control);
}

#[test]
fn nodes_are_told_who_stands_by_and_when_that_changes() {
    //= spec/cluster.md#told-roles
    //= type=test
    //# A control node that stands by MUST say so to each node that it accepts, before the end of its configuration, and every control node MUST say when that changes.
    let mut control = clustered(&[1], false);
    let mut one = member(&mut control, 1);
    assert!(role_told(&mut one).is_empty());
    for role in [ClusterRole::StandsBy, ClusterRole::StandsBy, ClusterRole::Has] {
        control.handle_cluster_role(NOW, role);
    }
    assert_eq!(role_told(&mut one), [false, true]);
    control.handle_cluster_role(NOW, ClusterRole::StandsBy);
    let mut two = End::connect(&mut control, 2, process(2), &ShmConfig::default());
    let told = two.register(&mut control);
    let place = |wanted: &ControlMessage| told.iter().position(|told| told == wanted);
    let said = place(&ControlMessage::ClusterRole { has: false });
    assert!(said.is_some() && said < place(&ControlMessage::ConfigurationEnd { epoch: 3 }), "{told:?}");
}
