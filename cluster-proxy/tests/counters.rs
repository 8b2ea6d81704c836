//! What is counted of each service and of each of its servers (`spec/cluster.md`, Counters).

#[path = "cluster/world.rs"]
mod world;

use cluster_proxy::*;
use vlan_core::counters::FrameCount;
use vlan_core::server::MemberSlot;
use world::*;

/// What a server was given of a service: packets and flows.
fn given(world: &World, server: u16, service: ServiceKey) -> (u64, u64) {
    let counted = world.proxy.server_counters(MemberSlot(server), service);
    (counted.given.frames, counted.chosen)
}

#[test]
fn a_server_has_a_count_for_each_of_its_services() {
    //= spec/cluster.md#counters
    //= type=test
    //# The proxy MUST count, of each service, the packets and octets that it has given each server and the flows that it has chosen it for, the packets that several servers were asked about, the packets that found no server, and the claims that it refused.
    let services = vec![service(WEB, Balance::RoundRobin, 2), service(DNS, Balance::Hash, 2)];
    let mut world = World::new(&config(services));
    let (web, dns) = (flow(WEB, 1000), flow_of(client(2, true), 1001, DNS));
    let (to, name_server) = (world.establish(&web), world.establish(&dns));
    // Of a claimed flow, plain and not; of none that anybody knows; and an error about one.
    let later = flow(WEB, 1002);
    assert_eq!(world.ack(&web), to);
    world.ack(&later);
    assert_eq!(world.to(&error(&web, client(9, false))), to);
    assert_eq!(given(&world, to, WEB), (3, 1));
    assert_eq!(world.proxy.service_counters(WEB).asked.frames, 1, "servers are asked in turn");
    assert_eq!(given(&world, name_server, DNS), (1, 1));
    assert_eq!(given(&world, 3 - name_server, DNS), (0, 0));
    let octets = segment(&dns, SYN).len() as u64;
    let counted = world.proxy.server_counters(MemberSlot(name_server), DNS);
    assert_eq!(counted.given, FrameCount { frames: 1, octets });
    world.check_ledger();
    world.check_services_ledger();
}

#[test]
fn what_finds_no_server_counts_for_its_service() {
    let services = vec![service(WEB, Balance::Hash, 2), service(DNS, Balance::PerPacket, 2)];
    let mut world = World::new(&config(services));
    for server in 1..=2 {
        world.proxy.set_listens(MemberSlot(server), WEB, false);
    }
    for port in 1..4 {
        world.dropped(&segment(&flow(WEB, port), SYN)).expect("nobody listens");
    }
    world.to(&segment(&flow(DNS, 5), 0));
    let unknown = ServiceKey { protocol: Protocol::Tcp, port: 53 };
    world.dropped(&segment(&flow(unknown, 6), SYN)).expect("nobody serves it");
    let no_server = |service| world.proxy.service_counters(service).no_server;
    assert_eq!([WEB, DNS, unknown].map(no_server), [3, 0, 0]);
    let datagrams: u64 = (1..=2).map(|server| given(&world, server, DNS).0).sum();
    assert_eq!(datagrams, 1, "who balances per packet counts too");
    world.check_ledger();
}

#[test]
fn what_servers_are_asked_about_and_refused_claims_count_for_the_service() {
    let mut world = World::new(&config(vec![service(WEB, Balance::Hash, 3)]));
    let taken = flow(WEB, 1);
    let owner = world.establish(&taken);
    let other = owner % 3 + 1;
    world.claim(other, &taken).expect_err("another owns it");
    world.claim(9, &flow(WEB, 2)).expect_err("no server at all");
    world.proxy.handle_takeover(world.now);
    assert!(matches!(world.verdict(&segment(&flow(WEB, 3), ACK)), Verdict::Owners));
    let counted = world.proxy.service_counters(WEB);
    assert_eq!((counted.asked.frames, counted.refused), (1, 2));
    world.check_services_ledger();
}

#[test]
fn counters_stay_with_their_server_through_other_configurations() {
    let all = config(vec![service(WEB, Balance::RoundRobin, 3)]);
    let mut world = World::new(&all);
    for port in 1..=9 {
        world.establish(&flow(WEB, port));
    }
    assert_eq!(given(&world, 2, WEB), (3, 3));
    let mut without = all.clone();
    without.services[0].servers.retain(|server| server.slot.0 != 2);
    world.proxy.apply(world.now, Box::new(tables(&without)));
    // Its flows are still its own.
    (1..=9).for_each(|port| _ = world.ack(&flow(WEB, port)));
    world.proxy.apply(world.now, Box::new(tables(&all)));
    assert_eq!(given(&world, 2, WEB), (6, 3));
    world.check_services_ledger();
}

#[test]
fn a_server_in_anothers_place_begins_with_nothing() {
    let all = config(vec![service(WEB, Balance::RoundRobin, 2)]);
    let mut world = World::new(&all);
    for port in 1..=4 {
        world.syn(&flow(WEB, port));
    }
    let mut others = all.clone();
    others.services[0].servers[1] = server(7, 1);
    world.proxy.apply(world.now, Box::new(tables(&others)));
    assert_eq!(given(&world, 1, WEB), (2, 2));
    assert_eq!(given(&world, 7, WEB), (0, 0));
    assert_eq!(given(&world, 2, WEB), (0, 0), "who is forgotten has no counters");
    world.check_services_ledger();
}
