//! Routers that share a cluster address: packets for others, each for itself (`spec/cluster.md`, Routers).

#[path = "cluster/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use cluster_proxy::*;
use proptest::prelude::*;
use vlan_core::DropReason;
use vlan_core::server::MemberSlot;
use world::*;

/// Routers have these numbers, servers others.
const FIRST: u16 = 11;

fn routers(weights: &[u16]) -> Vec<ServerConfig> {
    (FIRST..).zip(weights).map(|(number, weight)| server(number, *weight)).collect()
}

/// A cluster that routes and serves nothing.
fn routing(weights: &[u16]) -> World {
    World::new(&ClusterConfig { routers: routers(weights), ..config(Vec::new()) })
}

/// A station that only a router leads to.
fn remote(number: u16, is_v6: bool) -> IpAddr {
    let [a, b] = number.to_be_bytes();
    match is_v6 {
        false => Ipv4Addr::new(198, 18, a, b).into(),
        true => Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, number).into(),
    }
}

/// A datagram from a client to a remote station.
fn way(number: u16, is_v6: bool, port: u16) -> Vec<u8> {
    let ports =
        Flow { client_port: port, address: remote(number, is_v6), ..flow_of(client(1, is_v6), 0, DNS) };
    segment(&ports, 0)
}

#[test]
fn packets_for_others_go_to_routers_by_their_weights() {
    //= spec/cluster.md#routers
    //= type=test
    //# A packet to the MAC of a cluster address that is for none of the cluster's addresses MUST go to the first router of its row that can be reached and does not drain, and be dropped as `unknown-destination` where the cluster has no routers.
    let mut world = routing(&[1, 3]);
    for is_v6 in [false, true] {
        let mut shares = BTreeMap::new();
        for number in 0..4000 {
            *shares.entry(world.to(&way(number, is_v6, 1))).or_insert(0) += 1;
        }
        assert!((900..1100).contains(&shares[&FIRST]), "{shares:?}");
        assert_eq!(shares.len(), 2);
    }
    world.check_ledger();
    world.check_services_ledger();
    let mut without = World::new(&config(vec![service(WEB, Balance::Hash, 2)]));
    assert_eq!(without.dropped(&way(1, false, 1)), Some(DropReason::UnknownDestination));
}

#[test]
fn all_packets_between_two_stations_go_one_way() {
    let mut world = routing(&[1, 1, 1]);
    for (number, is_v6) in (0..200).map(|number| (number, number % 2 == 0)) {
        let to = world.to(&way(number, is_v6, 1));
        let (from, destination) = (client(1, is_v6), remote(number, is_v6));
        let flow = Flow { address: destination, ..flow_of(from, 5, DNS) };
        let same = [
            way(number, is_v6, 2),
            packet(from, destination, 6, &[7; 20]),
            packet(from, destination, 132, &[]),
            fragment(&flow, number, true),
            fragment(&flow, number, false),
            fragment(&flow, number + 1, false),
        ];
        assert!(same.iter().all(|frame| world.to(frame) == to));
    }
}

#[test]
fn a_router_that_goes_is_followed_at_once_and_nothing_else_moves() {
    let mut world = routing(&[1, 1, 1]);
    let before: Vec<_> = (0..500).map(|number| world.to(&way(number, true, 1))).collect();
    let check = |world: &mut World, gone: u16| {
        for (number, before) in (0..).zip(&before) {
            let now = world.to(&way(number, true, 1));
            assert!(now != gone, "{number} goes to {gone}");
            assert!(now == *before || *before == gone, "{number}: {before} to {now}");
        }
    };
    world.proxy.set_reachable(world.now, MemberSlot(FIRST + 1), false);
    check(&mut world, FIRST + 1);
    world.proxy.set_reachable(world.now, MemberSlot(FIRST + 1), true);
    world.proxy.drain(MemberSlot(FIRST), None);
    check(&mut world, FIRST);
    world.proxy.undrain(MemberSlot(FIRST));
    let after: Vec<_> = (0..500).map(|number| world.to(&way(number, true, 1))).collect();
    assert_eq!(before, after);
    for router in FIRST..FIRST + 3 {
        world.proxy.set_reachable(world.now, MemberSlot(router), false);
    }
    assert_eq!(world.dropped(&way(1, true, 1)), Some(DropReason::NoServer));
    assert_eq!(world.proxy.service_counters(ROUTING).no_server, 1);
}

#[test]
fn what_stays_on_its_link_goes_to_no_router() {
    //= spec/cluster.md#what-is-not-routed
    //= type=test
    //# A packet whose source or destination is a group's, nobody's, of the loopback or link-local, or that broadcasts, MUST NOT go to a router.
    let mut world = routing(&[1]);
    let ends = [(client(1, false), remote(1, false)), (client(1, true), remote(1, true))];
    for text in [
        "224.0.0.5",
        "255.255.255.255",
        "127.0.0.1",
        "0.0.0.0",
        "0.1.2.3",
        "169.254.1.1",
        "ff02::1",
        "ff0e::1",
        "::",
        "::1",
        "fe80::1",
    ] {
        let odd: IpAddr = text.parse().expect("an address");
        let (from, to) = ends[usize::from(odd.is_ipv6())];
        let dropped =
            [packet(from, odd, 17, &[7; 20]), packet(odd, to, 17, &[7; 20])].map(|f| world.dropped(&f));
        let expected = [DropReason::UnknownDestination, DropReason::BadSource].map(Some);
        assert_eq!(dropped, expected, "{text}");
    }
    // Nor what comes in the cluster's own name, or is no packet.
    let own = packet(cluster_v4(), remote(1, false), 17, &[7; 20]);
    assert_eq!(world.dropped(&own), Some(DropReason::BadSource));
    let mut other = way(1, false, 1);
    other[12..14].copy_from_slice(&[0x88, 0xcc]);
    assert_eq!(world.dropped(&other), Some(DropReason::UnknownDestination));
}

#[test]
fn routers_serve_nothing_at_the_clusters_own_addresses() {
    let services = vec![service(WEB, Balance::Hash, 2)];
    let mut world = World::new(&ClusterConfig { routers: routers(&[1]), ..config(services) });
    assert!(world.syn(&flow(WEB, 1)) < FIRST);
    let port_0 = flow(ServiceKey { protocol: Protocol::Tcp, port: 0 }, 1);
    assert_eq!(world.dropped(&segment(&port_0, SYN)), Some(DropReason::UnknownService));
    assert_eq!(world.dropped(&error(&port_0, client(9, false))), Some(DropReason::UnknownService));
    assert_eq!(world.claim(FIRST, &port_0), Err(Refusal::NoService));
    assert_eq!(world.claim(FIRST, &flow(WEB, 2)), Err(Refusal::NotAServer));
    assert!(
        matches!(
            routing(&[1]).verdict(&packet(client(1, false), cluster_v4(), 1, &[8, 0, 0, 0, 0, 0, 0, 0])),
            Verdict::Answer(_)
        ),
        "an echo request says whether there is a way"
    );
}

#[test]
fn nobody_waits_for_the_flows_of_a_router() {
    let services = vec![service(WEB, Balance::Hash, 2)];
    let mut world = World::new(&ClusterConfig { routers: routers(&[1, 1]), ..config(services) });
    world.proxy.handle_takeover(world.now);
    (1..=2).for_each(|server| world.proxy.handle_told(world.now, MemberSlot(server)));
    let Verdict::Forward(forward) = world.verdict(&segment(&flow(WEB, 1), ACK)) else {
        panic!("all is told")
    };
    assert!(forward.may_refuse);
    assert_eq!(world.proxy.reachable().collect::<Vec<_>>(), [1, 2].map(MemberSlot));
    assert_eq!(world.proxy.poll_timeout(), None, "nothing is remembered of routers");
}

proptest! {
    /// Against the plain rule: of the routers that may be used, who would come first of them alone.
    #[test]
    fn a_packet_goes_where_it_would_if_there_were_only_usable_routers(
        weights in prop::collection::vec(1..=8_u16, 1..9),
        states in prop::collection::vec((any::<bool>(), any::<bool>()), 9),
        numbers in prop::collection::vec((any::<u16>(), any::<bool>()), 1..60),
    ) {
        //= spec/cluster.md#routers
        //= type=test
        //# A packet to the MAC of a cluster address that is for none of the cluster's addresses MUST go to the first router of its row that can be reached and does not drain, and be dropped as `unknown-destination` where the cluster has no routers.
        let mut world = routing(&weights);
        let mut usable = routers(&weights);
        for (router, (is_up, drains)) in routers(&weights).into_iter().zip(states) {
            world.proxy.set_reachable(world.now, router.slot, is_up);
            if drains {
                world.proxy.drain(router.slot, None);
            }
            usable.retain(|other| other.slot != router.slot || is_up && !drains);
        }
        world.wait(Duration::from_secs(1));
        let only = (!usable.is_empty()).then(|| ClusterConfig { routers: usable, ..config(Vec::new()) });
        let mut only = only.map(|config| World::new(&config));
        for (number, is_v6) in numbers {
            let frame = way(number, is_v6, 1);
            match &mut only {
                Some(only) => prop_assert_eq!(world.to(&frame), only.to(&frame)),
                None => prop_assert_eq!(world.dropped(&frame), Some(DropReason::NoServer)),
            }
        }
        world.check_ledger();
        world.check_services_ledger();
    }
}
