//! What each machine on a frame's way costs, per frame, in one thread and warm caches.
//!
//! `cargo bench -p benches --bench machines`. These are parts, to see which one became dearer: rates of whole
//! paths between pinned processes come from `switch-bench`, as ratios to a peer measured in the same run.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use arp_server::build::{Operation, arp};
use arp_server::{ArpConfig, ArpServer, ArpVerdict, Owner};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lan_proxy::{Device, Holder, Inside, Inward, LanProxy, Mode, Outward, UplinkConfig};
use rvi::{Association, AssociationConfig, Part, Region, Scheduler, Scratch, ShmConfig, ShmLeg};
use vlan_core::driver::{Driver, Egress, PeerSlot};
use vlan_core::ethernet::EthernetHeader;
use vlan_core::group::listener::Listener;
use vlan_core::group::members::{GroupMembers, MulticastConfig};
use vlan_core::group::{Group, audience};
use vlan_core::limits::{BSEQ_WINDOW, MESSAGE_WINDOW};
use vlan_core::mac_table::MacTable;
use vlan_core::security::Limits;
use vlan_core::server::{LanServer, LanServerConfig, MemberSlot, PortSecurity, Verdict};
use vlan_core::window::Window;
use vlan_core::wire::control::{
    Grant, GroupCause, GroupNotice, GroupPolicy, InterfaceAddress, InterfaceConfig, JoinedGroup, MemberNotice,
};
use vlan_core::wire::{ControlMessage, FrameHeader, FrameKind, Vnet};
use vlan_core::{
    BootTag, Channel, Instant, LanId, LegNumber, MacAddress, NodeNumber, ProcessId, RviNumber, VifNumber,
};

const LAN: LanId = LanId(10);
const NOW: Instant = Instant::ZERO;
/// Messages that a pump handles between two publications.
const BATCH: u64 = 32;
const LEG: LegNumber = LegNumber(0);
const DIRECT: Channel = Channel(3);

fn mac(number: u16) -> MacAddress {
    let [high, low] = number.to_be_bytes();
    MacAddress([2, 0, 1, 0, high, low])
}

/// A UDP frame over IPv4 of `len` octets.
fn frame(destination: MacAddress, source: MacAddress, len: usize) -> Vec<u8> {
    let mut frame = vec![0; len];
    frame[..6].copy_from_slice(&destination.0);
    frame[6..12].copy_from_slice(&source.0);
    frame[12..15].copy_from_slice(&[8, 0, 0x45]);
    frame[23] = 17;
    frame
}

fn header(bseq: u32) -> FrameHeader {
    FrameHeader {
        kind: FrameKind::Relay,
        flags: 0,
        lan: LAN,
        origin: NodeNumber(1),
        origin_vif: VifNumber(1),
        destination_vif: VifNumber(1),
        vnet: Vnet::default(),
        boot: BootTag(100),
        bseq,
    }
}

/// The driver of node 1 with a peer at node 2 whose traffic goes direct.
fn driver() -> Driver {
    let config = InterfaceConfig {
        lan: LAN,
        vif: VifNumber(1),
        mac: mac(1),
        mtu: 1500,
        relay_channel: Channel(1),
        arp_channel: Channel(2),
        port_security: PortSecurity::Mac,
        may_listen: false,
        has_carrier: true,
        name: "red0".into(),
        lan_name: "red".into(),
        addresses: Vec::new(),
        gateways: Vec::new(),
        clusters: Vec::new(),
        cluster_addresses: Vec::new(),
    };
    let mut driver = Driver::new(NodeNumber(1), ProcessId(100), config, 64, 7);
    for node in 2..34 {
        assert!(driver.handle_member(&MemberNotice {
            lan: LAN,
            node: NodeNumber(node),
            vif: VifNumber(1),
            mac: mac(node),
            process: ProcessId(100),
            attached: true,
        }));
    }
    let grant = Grant {
        rvi: RviNumber(1),
        lan: LAN,
        peer: NodeNumber(2),
        peer_process: ProcessId(100),
        channel: DIRECT,
        own_vif: VifNumber(1),
        peer_vif: VifNumber(1),
        peer_mac: mac(2),
        association: Default::default(),
    };
    assert_eq!(driver.handle_grant(&grant), Some(PeerSlot(0)));
    driver.handle_direct_up(NOW, PeerSlot(0), true);
    driver.handle_barrier_echo(PeerSlot(0), 1);
    driver
}

fn bench_driver(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("driver");
    group.throughput(Throughput::Elements(1));
    let mut own = driver();
    let out = frame(mac(2), mac(1), 64);
    let vnet = Vnet::default();
    group.bench_function("classify and header, direct", |b| {
        b.iter(|| match own.classify(&vnet, black_box(&out), out.len()) {
            Egress::Direct { peer, .. } => {
                own.sent_direct(out.len());
                own.direct_header(peer, &vnet, out.len())
            }
            other => panic!("not direct but {other:?}"),
        });
    });
    let relayed = frame(mac(3), mac(1), 64);
    group.bench_function("classify and header, relay", |b| {
        b.iter(|| {
            let egress = own.classify(&vnet, black_box(&relayed), relayed.len());
            let header = own.server_header(egress, &vnet).expect("relayed");
            own.sent(&header, relayed.len());
            header.emit(relayed.len())
        });
    });
    let incoming = frame(mac(1), mac(2), 64);
    let unicast = FrameHeader { kind: FrameKind::Unicast, origin: NodeNumber(2), ..header(0) };
    let message = [&unicast.emit(incoming.len())[..], &incoming].concat();
    group.bench_function("parse and admit, direct", |b| {
        b.iter(|| {
            let vnet =
                own.incoming_run(PeerSlot(0)).and_then(|run| run.admit(black_box(&message), message.len()));
            own.delivered(true, incoming.len(), vnet.is_some());
            vnet
        });
    });
    group.finish();
}

fn bench_lan_server(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lan server");
    group.throughput(Throughput::Elements(1));
    let mut server = LanServer::new(LanServerConfig {
        id: LAN,
        name: "red".into(),
        mtu: 1500,
        port_security: PortSecurity::Mac,
        members: (1..=32).map(|node| (NodeNumber(node), VifNumber(1), mac(node))).collect(),
        multicast: Default::default(),
        seed: 7,
    });
    for slot in 0..32 {
        server.attach(MemberSlot(slot), ProcessId(100));
    }
    let mut bseq = 0;
    let unicast = frame(mac(2), mac(1), 64);
    group.bench_function("verdict, unicast", |b| {
        b.iter(|| {
            bseq += 1;
            let verdict = server.handle_frame(NOW, MemberSlot(0), &header(bseq), black_box(&unicast), 64);
            debug_assert!(matches!(verdict, Verdict::Unicast { .. }));
            verdict
        });
    });
    let group_frame = frame(MacAddress::BROADCAST, mac(1), 64);
    group.bench_function("verdict, group", |b| {
        b.iter(|| {
            bseq += 1;
            server.handle_frame(NOW, MemberSlot(0), &header(bseq), black_box(&group_frame), 64)
        });
    });
    group.finish();
}

/// Groups in the table of a LAN: half of what it holds at most.
const GROUPS: u32 = 2048;

fn group_address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0xef01_0000 + number)
}

fn bench_groups(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("multicast groups");
    group.throughput(Throughput::Elements(1));
    let mut table = GroupMembers::new(32, &MulticastConfig::default(), 7);
    let groups: Vec<Group> = (0..GROUPS).filter_map(|n| Group::new(group_address(n).into())).collect();
    for slot in 0..32_u16 {
        let own = groups.iter().skip(slot.into()).step_by(32);
        let joined =
            own.map(|group| JoinedGroup { group: group.address(), cause: GroupCause::Own }).collect();
        let notice =
            GroupNotice { vif: VifNumber(1), more: false, every_group: false, joined, left: Vec::new() };
        table.handle_notice(NOW, MemberSlot(slot), &notice);
    }
    let mut next = 0;
    group.bench_function("lookup, 2048 groups", |b| {
        b.iter(|| {
            next = (next + 769) % groups.len();
            table.lookup(black_box(groups[next]))
        });
    });
    group.bench_function("lookup, and who of 32 members wants it", |b| {
        b.iter(|| {
            next = (next + 769) % groups.len();
            let row = table.lookup(black_box(groups[next]));
            (0..32).filter(|&slot| table.wants(row, MemberSlot(slot))).count()
        });
    });
    let datagram = multicast(group_address(769));
    group.bench_function("audience of a datagram", |b| {
        b.iter(|| EthernetHeader::parse(black_box(&datagram)).map(|header| audience(&header, &datagram)));
    });
    let mut listener = Listener::new(VifNumber(1));
    let policy = GroupPolicy { vif: VifNumber(1), snoops: true, querier: group_address(0).into() };
    listener.handle_policy(NOW, policy);
    listener.handle_own(NOW, &groups[..512].iter().map(|group| group.address()).collect::<Vec<_>>());
    let datagram = multicast(group_address(300));
    group.bench_function("a driver with 512 groups admits a datagram", |b| {
        b.iter(|| listener.admits(black_box(&datagram)));
    });
    group.bench_function("a driver hears a datagram that says nothing", |b| {
        b.iter(|| listener.handle_outgoing(NOW, black_box(&datagram)));
    });
    group.finish();
}

/// A UDP datagram to a group.
fn multicast(group: Ipv4Addr) -> Vec<u8> {
    let [_, b, c, d] = group.octets();
    let mut datagram = frame(MacAddress([1, 0, 0x5e, b & 0x7f, c, d]), mac(1), 64);
    datagram[14] = 0x45;
    datagram[30..34].copy_from_slice(&group.octets());
    datagram
}

fn bench_arp(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("arp server");
    group.throughput(Throughput::Elements(1));
    let mut server = ArpServer::new(&ArpConfig { capacity: 4096, suppress: false });
    for node in 1..=32_u16 {
        let address = Ipv4Addr::from(0x0a01_0000 + u32::from(node));
        server.bind(address.into(), mac(node), Owner(node)).unwrap();
    }
    let (own, other) = (Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 1, 0, 2));
    let request = arp(Operation::Request, MacAddress::BROADCAST, (mac(1), own), other);
    group.bench_function("request of a bound sender", |b| {
        b.iter(|| {
            let verdict = server.handle_frame(black_box(&request), Owner(1), mac(1));
            debug_assert!(matches!(verdict, ArpVerdict::Flood { .. }));
            verdict
        });
    });
    group.finish();
}

fn bench_tlv(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tlv");
    group.throughput(Throughput::Elements(1));
    let header = header(7);
    let octets = header.emit(64);
    group.bench_function("frame header, emit", |b| b.iter(|| black_box(&header).emit(64)));
    group.bench_function("frame header, parse", |b| b.iter(|| FrameHeader::parse(black_box(&octets), 96)));
    let address = InterfaceAddress { address: Ipv4Addr::new(10, 1, 0, 1).into(), prefix: 24 };
    let bind = ControlMessage::Bind { vif: VifNumber(1), address };
    let octets = bind.emit();
    group.bench_function("control message, emit", |b| b.iter(|| black_box(&bind).emit()));
    group.bench_function("control message, parse", |b| b.iter(|| ControlMessage::parse(black_box(&octets))));
    group.finish();
}

/// Two associations joined by one leg over heap regions.
fn pair() -> (Association, Association) {
    let config = ShmConfig::default();
    let regions = [Region::heap(config.region_len()), Region::heap(config.region_len())];
    for region in &regions {
        ShmLeg::format(region, &config);
    }
    let mut ends = [(0, 1), (1, 0)].map(|(own, peer)| {
        let leg = ShmLeg::new(regions[own].clone(), regions[peer].clone()).expect("two formatted regions");
        let config = AssociationConfig { scheduler: Scheduler::Lane, ..AssociationConfig::default() };
        let mut end = Association::new(&config);
        end.handle_leg_up(NOW, LEG, leg);
        end.open_channel(DIRECT);
        end
    });
    for end in &mut ends {
        while end.poll_event().is_some() {}
    }
    let [a, b] = ends;
    (a, b)
}

/// Sends and receives one batch; returns how many messages arrived.
fn exchange(from: &mut Association, to: &mut Association, parts: &[Part<'_>], scratch: &mut Scratch) -> u64 {
    for flow in 0..BATCH as u32 {
        black_box(from.send(NOW, DIRECT, flow, 0, parts)).expect("an empty ring has room for a batch");
    }
    from.publish();
    while from.poll_doorbell().is_some() {}
    let mut received = 0;
    while let Some(message) = to.receive(scratch) {
        black_box(message.head);
        received += 1;
    }
    to.release();
    to.publish();
    received
}

fn bench_association(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("association");
    group.throughput(Throughput::Elements(BATCH));
    for len in [64, 1500] {
        let (mut from, mut to) = pair();
        let header = FrameHeader { kind: FrameKind::Unicast, ..header(0) }.emit(len);
        let body = frame(mac(2), mac(1), len);
        let parts = [Part::Private(&header), Part::Private(&body)];
        let mut scratch = Scratch::default();
        assert_eq!(exchange(&mut from, &mut to, &parts, &mut scratch), BATCH);
        group.bench_function(format!("send and receive a batch of {BATCH}, {len} octets"), |b| {
            b.iter(|| exchange(&mut from, &mut to, &parts, &mut scratch));
        });
    }
    group.finish();
}

fn bench_tables(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tables");
    group.throughput(Throughput::Elements(1));
    for bits in [BSEQ_WINDOW, MESSAGE_WINDOW] {
        let mut window = Window::new(bits, 0);
        let mut number = 0_u32;
        group.bench_function(format!("window of {bits}, insert in order"), |b| {
            b.iter(|| {
                number = number.wrapping_add(1);
                window.insert(black_box(number))
            });
        });
    }
    for members in [32, 4096] {
        let mut table = MacTable::new(usize::from(members), 7);
        for number in 0..members {
            table.insert(mac(number), number).expect("room for every member");
        }
        let mut number = 0;
        group.bench_function(format!("address table of {members}, lookup"), |b| {
            b.iter(|| {
                number = (number + 1) % members;
                table.lookup(black_box(mac(number)))
            });
        });
    }
    group.finish();
}

/// One member, 1, with the address 10.1.0.1.
struct OneMember;

impl Inside for OneMember {
    fn owner_of(&self, address: MacAddress) -> Option<MemberSlot> {
        (address == mac(1)).then_some(MemberSlot(1))
    }

    fn holder_of(&self, address: IpAddr) -> Option<Holder> {
        (address == Ipv4Addr::new(10, 1, 0, 1)).then_some(Holder { slot: MemberSlot(1), mac: mac(1) })
    }

    fn is_own(&self, address: MacAddress) -> bool {
        address == mac(1)
    }
}

/// A TCP packet between 10.1.0.1 and 10.1.0.200 with a sum that is to be completed, to be cut where it is longer than 1,460 octets.
fn tcp_frame(is_outward: bool, len: usize) -> (Vnet, Vec<u8>) {
    let (destination, source) = if is_outward { (mac(200), mac(1)) } else { (mac(99), mac(200)) };
    let mut frame = frame(destination, source, len);
    let [high, low] = ((len - 14) as u16).to_be_bytes();
    frame[16..24].copy_from_slice(&[high, low, 0, 1, 0x40, 0, 64, 6]);
    let (own, far) = ([10, 1, 0, 1], [10, 1, 0, 200]);
    let (from, to) = if is_outward { (own, far) } else { (far, own) };
    frame[26..34].copy_from_slice(&[from, to].concat());
    frame[46] = 0x50;
    let is_super = len > 1514;
    let vnet = Vnet {
        flags: Vnet::NEEDS_CSUM,
        gso_type: u8::from(is_super),
        gso_size: if is_super { 1460 } else { 0 },
        hdr_len: if is_super { 54 } else { 0 },
        csum_start: 34,
        csum_offset: 16,
    };
    (vnet, frame)
}

fn bench_uplink(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("uplink");
    let config = UplinkConfig {
        mode: Mode::Filtered { system: mac(99) },
        vid: None,
        device: Device { mtu: 1500, offloads: false },
        lan_mtu: 16_896,
        limits: Limits::default(),
        seed: 7,
    };
    let mut proxy = LanProxy::new(&config).unwrap();
    for (name, len) in
        [("64 octets outward", 64), ("1514 octets outward", 1514), ("44 segments outward", 64_294)]
    {
        let (vnet, frame) = tcp_frame(true, len);
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let verdict = proxy.outward(NOW, &vnet, black_box(&frame), &OneMember, |vnet, octets| {
                    black_box((vnet, octets));
                });
                debug_assert_eq!(verdict, Outward::Sent);
            });
        });
    }
    let (vnet, original) = tcp_frame(false, 1514);
    let mut frame = original.clone();
    // It is not copied, so its length does not matter.
    group.throughput(Throughput::Elements(1));
    group.bench_function("1514 octets inward", |b| {
        b.iter(|| {
            frame[..6].copy_from_slice(&original[..6]);
            let verdict = proxy.inward(NOW, &vnet, black_box(&mut frame), &OneMember);
            debug_assert_eq!(verdict, Inward::Member(MemberSlot(1)));
            verdict
        });
    });
    group.finish();
}

criterion_group!(
    machines,
    bench_driver,
    bench_lan_server,
    bench_groups,
    bench_arp,
    bench_uplink,
    bench_tlv,
    bench_association,
    bench_tables
);
criterion_main!(machines);
