//! Which server gets a new flow: `spec/cluster.md`, choices, health and draining.

#[path = "cluster/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use cluster_proxy::*;
use vlan_core::server::MemberSlot;
use vlan_core::{DropReason, NodeNumber};
use world::*;

/// How many new flows each server gets of `count`, from the port `first` on.
fn shares(world: &mut World, service: ServiceKey, first: u16, count: u16) -> BTreeMap<u16, u32> {
    let mut shares = BTreeMap::new();
    for port in first..first + count {
        *shares.entry(world.syn(&flow(service, port))).or_insert(0) += 1;
    }
    shares
}

fn web(balance: Balance, weights: &[u16]) -> ClusterConfig {
    let mut config = config(vec![service(WEB, balance, weights.len() as u16)]);
    config.services[0].servers.iter_mut().zip(weights).for_each(|(server, weight)| server.weight = *weight);
    config
}

#[test]
fn new_flows_go_where_they_are_taken() {
    //= spec/cluster.md#new-flows
    //= type=test
    //# A real server MUST be chosen when a flow begins, by a SYN or by the first datagram, and only among the servers of its service that take new flows.
    for balance in [Balance::Hash, Balance::RoundRobin, Balance::LeastConnections, Balance::PerPacket] {
        let mut world = World::new(&config(vec![service(WEB, balance, 6), service(DNS, balance, 6)]));
        let servers =
            |world: &mut World, first| -> Vec<u16> { shares(world, WEB, first, 300).into_keys().collect() };
        assert_eq!(servers(&mut world, 1), [1, 2, 3, 4, 5, 6]);
        world.proxy.set_reachable(world.now, MemberSlot(1), false);
        world.proxy.drain(MemberSlot(2), None);
        world.proxy.set_listens(MemberSlot(3), WEB, false);
        assert_eq!(servers(&mut world, 1000), [4, 5, 6]);
        let datagrams: Vec<_> = shares(&mut world, DNS, 1000, 300).into_keys().collect();
        assert_eq!(datagrams, [3, 4, 5, 6], "it listens at the other port");
        // A half-open flow moves with them: nothing has been said in it.
        let half_open: Vec<_> = (1000..1100).map(|port| flow(WEB, port)).collect();
        world.proxy.drain(MemberSlot(4), None);
        assert!(half_open.iter().all(|flow| world.syn(flow) != 4));
        (5..=6).for_each(|server| world.proxy.set_listens(MemberSlot(server), WEB, false));
        assert_eq!(world.dropped(&segment(&flow(WEB, 9), SYN)), Some(DropReason::NoServer));
        world.proxy.undrain(MemberSlot(4));
        assert_eq!(world.syn(&flow(WEB, 9)), 4);
        // What is known of a port does not outlive the process.
        world.proxy.set_reachable(world.now, MemberSlot(5), false);
        world.proxy.set_reachable(world.now, MemberSlot(5), true);
        assert_eq!(servers(&mut world, 3000), [4, 5]);
        world.check_ledger();
    }
}

#[test]
fn control_nodes_choose_alike() {
    //= spec/cluster.md#hash
    //= type=test
    //# A service that balances by hash MUST choose the first server of the flow's row that takes new flows.
    let one = web(Balance::Hash, &[1, 2, 3, 4, 5]);
    let mut other = one.clone();
    other.services[0].servers.reverse();
    other.services[0].servers.iter_mut().for_each(|server| server.slot.0 += 100);
    let mut worlds = [World::new(&one), World::new(&other)];
    // They have learned of different flows, in different orders.
    shares(&mut worlds[1], WEB, 5000, 300);
    for port in 1..2000 {
        let flow = flow(WEB, port);
        let [one, other] = worlds.each_mut().map(|world| world.syn(&flow));
        assert_eq!(one + 100, other);
    }
    for (slot, world) in [(MemberSlot(5), 0), (MemberSlot(105), 1)] {
        worlds[world].proxy.drain(slot, None);
    }
    for port in 2000..4000 {
        let flow = flow(WEB, port);
        let [one, other] = worlds.each_mut().map(|world| world.syn(&flow));
        assert_eq!((one + 100, one == 5), (other, false));
    }
}

#[test]
fn servers_take_turns_by_weight() {
    //= spec/cluster.md#round-robin
    //= type=test
    //# A service that balances in turn MUST give each server as many new flows as its weight says, in turn, and choose by hash where the choice cannot be remembered.
    let mut world = World::new(&web(Balance::RoundRobin, &[1, 2, 5]));
    for round in 0..20 {
        let shares = shares(&mut world, WEB, 1 + round * 8, 8);
        assert_eq!(shares, BTreeMap::from([(1, 1), (2, 2), (3, 5)]));
    }
    world.proxy.set_listens(MemberSlot(2), WEB, false);
    assert_eq!(shares(&mut world, WEB, 300, 12), BTreeMap::from([(1, 2), (3, 10)]));
    world.proxy.set_listens(MemberSlot(2), WEB, true);
    assert_eq!(
        shares(&mut world, WEB, 400, 8),
        BTreeMap::from([(1, 1), (2, 2), (3, 5)]),
        "nothing was saved up"
    );
}

#[test]
fn the_less_loaded_of_two_is_chosen() {
    //= spec/cluster.md#least-connections
    //= type=test
    //# A service that balances by least connections MUST choose, of the first two servers of the flow's row that take new flows, the one with fewer claimed flows for its weight.
    let mut world = World::new(&web(Balance::LeastConnections, &[1, 1, 2, 4]));
    for port in 1..2000 {
        world.establish(&flow(WEB, port));
    }
    let load = |world: &World, server: u16, weight: u32| world.proxy.flows_of(MemberSlot(server)) / weight;
    let loads = [(1, 1), (2, 1), (3, 2), (4, 4)].map(|(server, weight)| load(&world, server, weight));
    assert!(loads.iter().all(|load| (220..280).contains(load)), "{loads:?} of 250 each");
    // A newcomer catches up.
    let mut more = web(Balance::LeastConnections, &[1, 1, 2, 4]);
    more.services[0].servers.push(server(5, 8));
    world.proxy.apply(world.now, Box::new(tables(&more)));
    world.proxy.set_reachable(world.now, MemberSlot(5), true);
    let new = shares(&mut world, WEB, 3000, 300);
    assert!(new[&5] > 150, "{new:?}");
}

#[test]
fn a_sticky_client_has_one_server_for_everything() {
    //= spec/cluster.md#sticky-clients
    //= type=test
    //# A sticky service MUST choose by the client's address alone, of IPv6 its first 64 bits, for any way of balancing.
    for balance in [Balance::Hash, Balance::RoundRobin, Balance::LeastConnections] {
        let tls = ServiceKey { port: 443, ..WEB };
        let mut config = config(vec![service(WEB, balance, 8), service(tls, balance, 8)]);
        config.services.iter_mut().for_each(|service| service.sticky = Sticky::Client);
        let mut worlds = [World::new(&config), World::new(&config)];
        let mut used = BTreeMap::new();
        for number in 1..300 {
            let of = |world: &mut World, client, service| -> Vec<u16> {
                (1..5).map(|port| world.establish(&flow_of(client, port, service))).collect()
            };
            for is_v6 in [false, true] {
                let client = client(number, is_v6);
                let server = of(&mut worlds[0], client, WEB)[0];
                assert_eq!(of(&mut worlds[1], client, WEB), [server; 4]);
                assert_eq!(of(&mut worlds[0], client, tls), [server; 4]);
                *used.entry(server).or_insert(0) += 1;
            }
        }
        assert!(used.len() == 8 && used.values().all(|count| *count > 30), "{used:?}");
        let neighbour = |tail: u16| core::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 9999, 0, 0, 0, tail).into();
        let servers = [1, 2, 3].map(|tail| worlds[0].syn(&flow_of(neighbour(tail), tail, WEB)));
        assert_eq!(servers, [servers[0]; 3], "a host with many addresses");
    }
}

#[test]
fn packets_for_themselves_leave_no_trace() {
    //= spec/cluster.md#packets-for-themselves
    //= type=test
    //# A service that balances per packet MUST choose by hash for each packet, and remember no flow.
    let mut world =
        World::new(&config(vec![service(DNS, Balance::PerPacket, 4), service(WEB, Balance::PerPacket, 4)]));
    for port in 1..300 {
        let flows = [flow(DNS, port), flow(WEB, port)];
        let before = flows.map(|flow| world.ack(&flow));
        assert_eq!(flows.map(|flow| world.syn(&flow)), before);
        world.proxy.drain(MemberSlot(before[0]), None);
        let other = world.ack(&flows[0]);
        assert_ne!(other, before[0]);
        world.proxy.undrain(MemberSlot(before[0]));
        assert_eq!(world.ack(&flows[0]), before[0]);
    }
    assert_eq!((world.proxy.counters().chosen, world.proxy.counters().of_claimed), (0, 0));
    assert_eq!(world.proxy.poll_timeout(), None, "there is nothing to forget");
}

const CHECK: CheckConfig = CheckConfig { interval: Duration::from_secs(1), fall: 3, rise: 2 };

fn checked(servers: u16) -> World {
    let mut config = config(vec![service(WEB, Balance::Hash, servers)]);
    config.services[0].check = Some(CHECK);
    World::new(&config)
}

/// Goes on for one interval, in which the servers in `well` pass their checks and the others fail or, `silent`, do not answer.
fn interval(world: &mut World, well: &[u16], silent: bool) -> usize {
    let until = world.now + CHECK.interval;
    let mut asked = 0;
    while world.now < until {
        let next = world.proxy.poll_timeout().map_or(until, |due| due.min(until));
        world.wait(next.since(world.now));
        world.proxy.handle_timeout(world.now);
        while let Some(request) = world.proxy.poll_check() {
            asked += 1;
            let is_well = well.contains(&request.server.0);
            if is_well || !silent {
                world.proxy.handle_checked(&request, is_well);
            }
        }
    }
    asked
}

#[test]
fn checks_take_servers_out_and_bring_them_back() {
    //= spec/cluster.md#health
    //= type=test
    //# A server MUST fail its check after as many failures in a row as configured, and pass it again after as many successes; an answer that has not come when the next check is due is a failure.
    for silent in [false, true] {
        let mut world = checked(4);
        let takes = |world: &World| (1..=4).filter(|s| world.proxy.takes_flows(MemberSlot(*s), WEB)).count();
        assert!((4..=8).contains(&interval(&mut world, &[1, 2, 3, 4], silent)), "each about once");
        // Two failures and a success, over and over, are none.
        for _ in 0..3 {
            interval(&mut world, &[1, 2, 3], silent);
            interval(&mut world, &[1, 2, 3], silent);
            interval(&mut world, &[1, 2, 3, 4], silent);
            assert_eq!(takes(&world), 4);
        }
        for _ in 0..=CHECK.fall {
            interval(&mut world, &[1, 2, 3], silent);
        }
        assert!(takes(&world) == 3 && !world.proxy.takes_flows(MemberSlot(4), WEB));
        interval(&mut world, &[1, 2, 3, 4], silent);
        assert_eq!(takes(&world), 3, "one success is not enough");
        for _ in 0..CHECK.rise {
            interval(&mut world, &[1, 2, 3, 4], silent);
        }
        assert_eq!(takes(&world), 4);
        // Results that nobody asked for, and of servers that there are not.
        for server in [4, 99] {
            let request = CheckRequest { service: WEB, server: MemberSlot(server) };
            (0..9).for_each(|_| world.proxy.handle_checked(&request, false));
        }
        assert_eq!(takes(&world), 4);
        world.proxy.set_reachable(world.now, MemberSlot(1), false);
        assert_eq!(interval(&mut world, &[], true), 3, "who cannot be reached is not checked");
    }
}

#[test]
fn a_check_that_changes_is_due_by_its_new_interval() {
    let mut config = config(vec![service(WEB, Balance::Hash, 3)]);
    let with = |config: &mut ClusterConfig, check| config.services[0].check = check;
    with(&mut config, Some(CheckConfig { interval: Duration::from_secs(3600), ..CHECK }));
    let mut world = World::new(&config);
    with(&mut config, Some(CHECK));
    world.proxy.apply(world.now, Box::new(tables(&config)));
    assert!((3..=6).contains(&(interval(&mut world, &[1, 2], false) + interval(&mut world, &[1, 2], false))));
    for _ in 0..CHECK.fall {
        interval(&mut world, &[1, 2], false);
    }
    assert!(!world.proxy.takes_flows(MemberSlot(3), WEB));
    // Without one, and with one again: nobody has failed it.
    for check in [None, Some(CHECK)] {
        with(&mut config, check);
        world.proxy.apply(world.now, Box::new(tables(&config)));
        assert!(world.proxy.takes_flows(MemberSlot(3), WEB));
    }
}

#[test]
fn when_hardly_any_is_well_checks_do_not_count() {
    //= spec/cluster.md#the-panic-rule
    //= type=test
    //# When fewer than 30 % of a service's servers that do not drain would take new flows, checks MUST NOT count for it.
    let mut world = checked(10);
    let takes = |world: &World| -> Vec<u16> {
        (1..=10).filter(|server| world.proxy.takes_flows(MemberSlot(*server), WEB)).collect()
    };
    for _ in 0..4 {
        interval(&mut world, &[1, 2, 3], false);
    }
    assert_eq!(takes(&world), [1, 2, 3]);
    for _ in 0..4 {
        interval(&mut world, &[1, 2], false);
    }
    assert_eq!(takes(&world), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    world.proxy.set_listens(MemberSlot(7), WEB, false);
    world.proxy.set_reachable(world.now, MemberSlot(8), false);
    assert_eq!(takes(&world), [1, 2, 3, 4, 5, 6, 9, 10], "who listens and can be reached");
    // Of the six that do not drain two are more than 30 %.
    [9, 10, 3, 4].into_iter().for_each(|server| world.proxy.drain(MemberSlot(server), None));
    assert_eq!(takes(&world), [1, 2]);
}

#[test]
fn tables_know_their_nodes_by_number_whatever_their_slots() {
    let mut config = web(Balance::Hash, &[1, 1]);
    config.services[0].servers[1] = ServerConfig { slot: MemberSlot(9), node: NodeNumber(1), weight: 1 };
    let error = Tables::new(&config, KEY).unwrap_err();
    assert_eq!(error, ConfigError::ServerTwice { service: WEB, node: NodeNumber(1) });
}
