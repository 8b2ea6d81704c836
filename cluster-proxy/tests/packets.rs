//! What packets are, and what becomes of those that are no plain segments: `spec/cluster.md`.

#[path = "cluster/world.rs"]
mod world;

use std::net::IpAddr;
use std::time::Duration;

use cluster_proxy::*;
use vlan_core::DropReason;
use vlan_core::checksum::{is_same_sum, pseudo_header, sum, sum_from};
use vlan_core::server::MemberSlot;
use vlan_core::wire::Vnet;
use world::*;

fn world() -> World {
    World::new(&config(vec![service(WEB, Balance::RoundRobin, 5), service(DNS, Balance::RoundRobin, 5)]))
}

fn flows() -> [Flow; 4] {
    let [v4, v6] = [false, true].map(|is_v6| client(1, is_v6));
    [flow_of(v4, 1000, WEB), flow_of(v4, 1000, DNS), flow_of(v6, 1000, WEB), flow_of(v6, 1000, DNS)]
}

#[test]
fn only_known_ports_pass() {
    //= spec/cluster.md#known-services
    //= type=test
    //# A packet for a cluster address MUST be dropped as `unknown-service` unless its port is a service's or its flow is claimed.
    let mut world = world();
    for is_v6 in [false, true] {
        let client = client(1, is_v6);
        for port in (0..=u16::MAX).step_by(7) {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let service = ServiceKey { protocol, port };
                let frame = segment(&flow_of(client, 9, service), SYN);
                let expected = (service != WEB && service != DNS).then_some(DropReason::UnknownService);
                assert_eq!(world.dropped(&frame), expected, "{service}");
            }
        }
        let to = flow_of(client, 9, WEB).address;
        for protocol in [2, 47, 50, 132, 255] {
            let frame = packet(client, to, protocol, &[0; 40]);
            assert_eq!(world.dropped(&frame), Some(DropReason::UnknownService), "{protocol}");
        }
        let about_unknown = error(&flow_of(client, 9, ServiceKey { port: 81, ..WEB }), client);
        assert_eq!(world.dropped(&about_unknown), Some(DropReason::UnknownService));
    }
    world.check_ledger();
}

#[test]
fn unsound_packets_go_nowhere() {
    //= spec/cluster.md#unsound-packets
    //= type=test
    //# A packet that contradicts itself, or whose source no client can have, MUST be dropped.
    let mut world = world();
    for flow in flows() {
        let frame = segment(&flow, SYN);
        // Cut short anywhere, it is no packet any more.
        assert!((0..frame.len()).all(|len| world.dropped(&frame[..len]).is_some()));
        // Cut short in front of what is needed, with the right lengths.
        let needed = if flow.protocol == Protocol::Tcp { 14 } else { 8 };
        for len in 0..needed {
            let upper = &upper(&flow, SYN)[..len];
            let short = packet(flow.client, flow.address, flow.protocol as u8, upper);
            assert_eq!(world.dropped(&short), Some(DropReason::Malformed), "{len} octets");
        }
        let sources: &[IpAddr] = if flow.client.is_ipv4() {
            &["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "10.1.0.100"]
                .map(|a| a.parse().unwrap())
        } else {
            &["::", "::1", "ff02::1", "fd00:1::64"].map(|a| a.parse().unwrap())
        };
        for source in sources {
            let frame = packet(*source, flow.address, flow.protocol as u8, &upper(&flow, SYN));
            assert_eq!(world.dropped(&frame), Some(DropReason::BadSource), "{source}");
        }
        let elsewhere = packet(flow.client, flow.client, flow.protocol as u8, &upper(&flow, SYN));
        assert_eq!(world.dropped(&elsewhere), Some(DropReason::UnknownDestination));
    }
    let arp = [&[2; 12][..], &[8, 6], &[0; 28]].concat();
    assert_eq!(world.dropped(&arp), Some(DropReason::UnknownDestination));
    assert_eq!(world.proxy.counters().forwarded.frames, 0);
    world.check_ledger();
}

#[test]
fn a_super_frame_is_read_by_its_own_length() {
    let mut world = world();
    let mut frame = segment(&flow(WEB, 1), SYN);
    frame.extend([7; 3000]);
    frame[16..18].copy_from_slice(&[0, 0]);
    assert_eq!(world.dropped(&frame), Some(DropReason::Malformed));
    let vnet = Vnet { flags: 1, gso_type: 1, hdr_len: 54, gso_size: 1000, csum_start: 34, csum_offset: 16 };
    assert!(matches!(world.proxy.handle(world.now, &vnet, &frame), Verdict::Forward(_)));
}

#[test]
fn fragments_follow_the_first_one() {
    //= spec/cluster.md#fragments
    //= type=test
    //# A later fragment MUST go where the first one of its packet went within the last 2 s, and be dropped as `orphan-fragment` when none did.
    let mut world = world();
    for flow in flows() {
        for number in 1..40 {
            let flow = Flow { client_port: number, ..flow };
            let [first, later] = [true, false].map(|is_first| fragment(&flow, number, is_first));
            assert_eq!(world.dropped(&later), Some(DropReason::OrphanFragment));
            let server = world.to(&first);
            assert_eq!([world.to(&later), world.to(&later)], [server; 2]);
            let another = fragment(&flow, number + 1000, false);
            assert_eq!(world.dropped(&another), Some(DropReason::OrphanFragment));
        }
        // IPv4 numbers the packets of each protocol for itself.
        if flow.client.is_ipv4() {
            let protocol = if flow.protocol == Protocol::Tcp { Protocol::Udp } else { Protocol::Tcp };
            let of_another = fragment(&Flow { protocol, ..flow }, 2000, false);
            world.to(&fragment(&flow, 2000, true));
            assert_eq!(world.dropped(&of_another), Some(DropReason::OrphanFragment));
        }
        let later = fragment(&flow, 39, false);
        world.wait(Duration::from_secs(2));
        world.to(&later);
        world.wait(Duration::from_secs(1));
        assert_eq!(world.dropped(&later), Some(DropReason::OrphanFragment));
    }
    // Room for new ones is made by the oldest; a server that is gone gets none.
    let datagram = flow(DNS, 5);
    for number in 0..5000 {
        let server = world.to(&fragment(&datagram, number, true));
        assert_eq!(world.to(&fragment(&datagram, number, false)), server);
    }
    let server = world.to(&fragment(&datagram, 6000, true));
    world.proxy.set_reachable(world.now, MemberSlot(server), false);
    assert_eq!(world.dropped(&fragment(&datagram, 6000, false)), Some(DropReason::OrphanFragment));
    world.check_ledger();
}

#[test]
fn errors_go_to_the_owner_of_the_flow() {
    //= spec/cluster.md#icmp-errors
    //= type=test
    //# An ICMP error that quotes a packet from a cluster address MUST go to the owner of the flow that the quoted packet answers, or by the rules for its unknown flows.
    let mut world = world();
    for flow in flows() {
        let router = client(77, flow.client.is_ipv6());
        let error = error(&flow, router);
        assert_eq!(world.verdict(&error), Verdict::Owners, "nobody knows whose it is");
        let server = world.syn(&flow);
        assert_eq!(world.hops(&error), [server], "half open");
        assert_eq!(world.claim(server, &flow), Ok(Claimed::New));
        world.wait(Duration::from_secs(9));
        assert_eq!(world.hops(&error), [server]);
        // What it quotes must be from the cluster, to a host, and be there.
        let quoted_at = if flow.client.is_ipv4() { 42 } else { 62 };
        for len in 1..error.len() - quoted_at {
            let payload = &error[quoted_at - 8..error.len() - len];
            let (kind, to) = if flow.client.is_ipv4() { (1, cluster_v4()) } else { (58, cluster_v6()) };
            let dropped = world.dropped(&packet(router, to, kind, payload));
            assert_eq!(dropped.is_none(), len <= 4, "{len} octets less");
        }
        let mut forged = error.clone();
        forged[quoted_at + if flow.client.is_ipv4() { 15 } else { 23 }] ^= 1;
        assert_eq!(world.dropped(&forged), Some(DropReason::UnknownDestination));
    }
    let errors = (1..3000).map(|port| error(&flow(WEB, port), client(1, false)));
    let asked = errors.filter(|error| world.verdict(error) == Verdict::Owners).count();
    assert!((90..=110).contains(&asked), "{asked} at once, as many as in 100 ms");
    assert_eq!(world.proxy.counters().drops.of(DropReason::LimitCluster), 2999 - 1 - asked as u64);
    (1..=5).for_each(|server| world.proxy.set_reachable(world.now, MemberSlot(server), false));
    let dropped = world.dropped(&error(&flow(WEB, 5000), client(1, false)));
    assert_eq!(dropped, Some(DropReason::NoServer));
    world.check_ledger();
}

/// An echo request with so many octets of data.
fn echo(is_v6: bool, len: usize) -> Vec<u8> {
    let from = client(1, is_v6);
    let (kind, protocol, to) = if is_v6 { (128, 58, cluster_v6()) } else { (8, 1, cluster_v4()) };
    let mut frame = packet(from, to, protocol, &[&[kind, 0, 0, 0, 1, 2, 0, 3][..], &vec![9; len]].concat());
    let at = if is_v6 { 54 } else { 34 };
    let check = !sum_from(icmp_start(&frame, at), &frame[at..]);
    frame[at + 2..at + 4].copy_from_slice(&check.to_be_bytes());
    frame
}

fn icmp_start(frame: &[u8], at: usize) -> u32 {
    if at == 34 { 0 } else { pseudo_header(&frame[22..54], 58, frame.len() - at) }
}

#[test]
fn the_cluster_answers_echo_requests_itself() {
    //= spec/cluster.md#echo
    //= type=test
    //# An ICMP echo request for a cluster address MUST be answered while a service has a server that takes new flows, or there is a router to send packets to, no more than 1000 a second.
    let mut world = world();
    for is_v6 in [false, true] {
        let at = if is_v6 { 54 } else { 34 };
        for len in [0, 1, 56, 1472, 9000] {
            let request = echo(is_v6, len);
            let Verdict::Answer(answer) = world.verdict(&request) else { panic!("{len}: no answer") };
            assert_eq!((&answer[..6], &answer[6..12]), (&request[6..12], &request[..6]));
            let (from, to) = if is_v6 { (22..38, 38..54) } else { (26..30, 30..34) };
            assert_eq!((&answer[from.clone()], &answer[to.clone()]), (&request[to], &request[from]));
            assert_eq!((answer[at], &answer[at + 4..]), (if is_v6 { 129 } else { 0 }, &request[at + 4..]));
            assert!(is_same_sum(sum_from(icmp_start(answer, at), &answer[at..]), 0xffff));
            assert!(is_v6 || is_same_sum(sum(&answer[14..34]), 0xffff));
        }
        assert_eq!(world.dropped(&echo(is_v6, 20_000)), Some(DropReason::TooLong));
    }
    // A copy, as a trace has one, answers too.
    let mut copy = world.proxy.clone();
    let verdict = copy.handle(world.now, &Vnet::default(), &echo(false, 9000));
    assert!(matches!(verdict, Verdict::Answer(_)));
    let mut spoiled = echo(false, 56);
    spoiled[60] ^= 4;
    let Verdict::Answer(answer) = world.verdict(&spoiled) else { panic!("no answer") };
    assert!(!is_same_sum(sum(&answer[34..]), 0xffff), "its sender sees that it was spoiled");
    world.wait(Duration::from_secs(1));
    let answered = (0..5000).filter(|_| matches!(world.verdict(&echo(false, 0)), Verdict::Answer(_))).count();
    assert!((95..=105).contains(&answered), "{answered} at once, as many as in 100 ms");
    world.wait(Duration::from_secs(1));
    (1..=5).for_each(|server| world.proxy.drain(MemberSlot(server), None));
    assert_eq!(world.dropped(&echo(false, 0)), Some(DropReason::NoServer));
    world.check_ledger();
}

#[test]
fn a_batch_is_its_packets_one_by_one() {
    let frames: Vec<_> = (1..200_u16)
        .map(|port| match port % 5 {
            0 => fragment(&flow(DNS, port), port, port % 2 == 0),
            1 => echo(port % 2 == 0, 8),
            2 => vec![0; usize::from(port)],
            _ => segment(&flow(WEB, port / 3), SYN),
        })
        .collect();
    let batch: Vec<_> = frames.iter().map(|frame| (Vnet::default(), &frame[..])).collect();
    let (mut one, mut other) = (world(), world());
    let mut together = Vec::new();
    one.proxy.handle_batch(one.now, &batch, |_, verdict| together.push(format!("{verdict:?}")));
    let alone: Vec<_> = frames.iter().map(|frame| format!("{:?}", other.verdict(frame))).collect();
    assert_eq!(together, alone);
    assert_eq!(one.proxy.counters(), other.proxy.counters());
}
