//! What the cluster proxy costs, per packet, in one thread: with as many flows as are claimed a lookup is one of memory.
//!
//! `cargo bench -p benches --bench cluster`. Packets are of random flows. 16 Mi flows take 256 MiB.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use cluster_proxy::{
    Balance, ClusterConfig, ClusterProxy, Flow, HashKey, Limits, Protocol, ServerConfig, ServiceConfig,
    ServiceKey, Sticky, Tables, Verdict,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vlan_core::random::Random;
use vlan_core::server::MemberSlot;
use vlan_core::wire::Vnet;
use vlan_core::{Instant, NodeNumber};

const NOW: Instant = Instant::ZERO;
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 100);
const SERVERS: u16 = 8;
const WEB: ServiceKey = ServiceKey { protocol: Protocol::Tcp, port: 80 };
/// Packets that a pump takes at once.
const BATCH: usize = 32;
const SYN: u8 = 2;
const ACK: u8 = 16;

fn config(balance: Balance) -> ClusterConfig {
    let server = |number| ServerConfig { slot: MemberSlot(number), node: NodeNumber(number), weight: 1 };
    let servers = (1..=SERVERS).map(server).collect();
    let service = ServiceConfig { key: WEB, balance, sticky: Sticky::None, servers, check: None };
    ClusterConfig {
        addresses: vec![ADDRESS.into()],
        services: vec![service],
        routers: Vec::new(),
        rows: 65_536,
        epoch: 1,
    }
}

/// A proxy that knows `flows` flows.
fn proxy(balance: Balance, flows: u32) -> ClusterProxy {
    let tables = Tables::new(&config(balance), HashKey([1, 2])).expect("a sound configuration");
    let limits = Limits { flows_max: flows as usize, ..Limits::default() };
    let mut proxy = ClusterProxy::new(NOW, tables, &limits);
    (1..=SERVERS).for_each(|server| proxy.set_reachable(NOW, MemberSlot(server), true));
    for number in 0..flows {
        // A few of them find no room.
        let _ = proxy.handle_claim(NOW, MemberSlot(1 + number as u16 % SERVERS), &flow(number));
    }
    (1..=SERVERS).for_each(|server| proxy.handle_told(NOW, MemberSlot(server)));
    proxy
}

fn client(number: u32) -> (Ipv4Addr, u16) {
    (Ipv4Addr::from_bits(0xac10_0000 + (number >> 8)), 1024 + (number & 0xff) as u16)
}

fn flow(number: u32) -> Flow {
    let (client, client_port) = client(number);
    Flow {
        protocol: Protocol::Tcp,
        client: IpAddr::V4(client),
        client_port,
        address: ADDRESS.into(),
        port: 80,
    }
}

/// A segment that becomes one of any flow by [`set_flow`].
fn segment(flags: u8) -> [u8; 64] {
    let mut frame = [0; 64];
    frame[..14].copy_from_slice(&[2, 0, 1, 0, 0, 100, 2, 0, 1, 0, 0, 1, 8, 0]);
    frame[14..24].copy_from_slice(&[0x45, 0, 0, 50, 0, 0, 0x40, 0, 64, 6]);
    frame[30..34].copy_from_slice(&ADDRESS.octets());
    frame[36..38].copy_from_slice(&80_u16.to_be_bytes());
    (frame[46], frame[47]) = (0x50, flags);
    frame
}

fn set_flow(frame: &mut [u8; 64], number: u32) {
    let (client, port) = client(number);
    frame[26..30].copy_from_slice(&client.octets());
    frame[34..36].copy_from_slice(&port.to_be_bytes());
}

fn bench_claimed(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cluster, claimed flows");
    for flows in [1 << 10, 1 << 20, 1 << 24] {
        let mut proxy = proxy(Balance::Hash, flows);
        let mut random = Random::new(7);
        let mut frames = [segment(ACK); BATCH];
        group.throughput(Throughput::Elements(BATCH as u64));
        group.bench_function(BenchmarkId::new("batches of 32", flows), |b| {
            b.iter(|| {
                frames.iter_mut().for_each(|frame| set_flow(frame, random.next_u64() as u32 & (flows - 1)));
                let batch = frames.each_ref().map(|frame| (Vnet::default(), &frame[..]));
                let mut forwarded = 0;
                proxy.handle_batch(NOW, black_box(&batch), |_, verdict| {
                    forwarded += u32::from(matches!(verdict, Verdict::Forward(_)));
                });
                assert_eq!(forwarded, BATCH as u32);
            });
        });
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("one by one", flows), |b| {
            b.iter(|| {
                set_flow(&mut frames[0], random.next_u64() as u32 & (flows - 1));
                let verdict = proxy.handle(NOW, &Vnet::default(), black_box(&frames[0]));
                assert!(matches!(verdict, Verdict::Forward(_)));
            });
        });
        group.bench_function(BenchmarkId::new("claims, known", flows), |b| {
            b.iter(|| {
                let number = random.next_u64() as u32 & (flows - 1);
                proxy.handle_claim(NOW, MemberSlot(1 + number as u16 % SERVERS), black_box(&flow(number)))
            });
        });
    }
    group.finish();
}

fn bench_new(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cluster, new flows");
    group.throughput(Throughput::Elements(1));
    for (name, balance) in [
        ("hash", Balance::Hash),
        ("round-robin", Balance::RoundRobin),
        ("least-connections", Balance::LeastConnections),
    ] {
        let mut proxy = proxy(balance, 1 << 10);
        let mut random = Random::new(9);
        let mut frame = segment(SYN);
        group.bench_function(BenchmarkId::new("flood of SYNs", name), |b| {
            b.iter(|| {
                set_flow(&mut frame, random.next_u64() as u32);
                let verdict = proxy.handle(NOW, &Vnet::default(), black_box(&frame));
                assert!(matches!(verdict, Verdict::Forward(_)));
            });
        });
    }
    group.finish();
}

fn bench_tables(criterion: &mut Criterion) {
    let config = config(Balance::Hash);
    criterion.bench_function("cluster, rows of 8 servers", |b| {
        b.iter(|| Tables::new(black_box(&config), HashKey([1, 2])));
    });
}

criterion_group!(benches, bench_claimed, bench_new, bench_tables);
criterion_main!(benches);
