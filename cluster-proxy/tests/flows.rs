//! Flows stay where they are: `spec/cluster.md`, claims and what is not claimed yet.

#[path = "cluster/world.rs"]
mod world;

use std::time::Duration;

use cluster_proxy::*;
use vlan_core::server::MemberSlot;
use vlan_core::wire::Vnet;
use vlan_core::{DropReason, Instant};
use world::*;

fn web(balance: Balance, servers: u16) -> World {
    World::new(&config(vec![service(WEB, balance, servers)]))
}

/// The order in which an unknown flow's segments go to servers, in a world that knows nothing.
fn row(flow: &Flow, servers: u16) -> Vec<u16> {
    web(Balance::Hash, servers).hops(&segment(flow, ACK))
}

/// A server that no segment of an unknown flow goes to.
fn stranger(flow: &Flow, servers: u16) -> u16 {
    let row = row(flow, servers);
    (1..=servers).find(|server| !row.contains(server)).expect("more servers than hops")
}

#[test]
fn a_claimed_flow_stays_while_its_server_is_there() {
    //= spec/cluster.md#claimed-flows
    //= type=test
    //# A packet of a claimed flow MUST go to the real server that has claimed it for as long as that server can be reached, whatever has become of its weight, its health or the configuration.
    for balance in [Balance::Hash, Balance::RoundRobin, Balance::LeastConnections] {
        let mut world = web(balance, 4);
        let flows: Vec<_> = (1..200).map(|port| flow(WEB, port)).collect();
        let owners: Vec<_> = flows.iter().map(|flow| world.establish(flow)).collect();
        let stay = |world: &mut World| {
            let all = |world: &mut World, flags| -> Vec<_> {
                flows.iter().map(|flow| world.hops(&segment(flow, flags))).collect()
            };
            let expected: Vec<_> = owners.iter().map(|owner| vec![*owner]).collect();
            assert!(all(world, ACK) == expected && all(world, SYN) == expected);
        };
        world.proxy.drain(MemberSlot(1), None);
        world.proxy.set_listens(MemberSlot(2), WEB, false);
        stay(&mut world);
        // Other weights and servers; then other services; then no service at all.
        let mut changed = config(vec![service(WEB, balance, 9)]);
        changed.services[0].servers[2].weight = 100;
        world.proxy.apply(world.now, Box::new(tables(&changed)));
        stay(&mut world);
        let others = config(vec![service(DNS, Balance::Hash, 2)]);
        world.proxy.apply(world.now, Box::new(tables(&others)));
        stay(&mut world);
        world.proxy.apply(world.now, Box::new(tables(&config(vec![]))));
        stay(&mut world);
        assert_eq!(world.dropped(&segment(&flow(WEB, 999), SYN)), Some(DropReason::UnknownService));
        world.check_ledger();
    }
}

#[test]
fn a_half_open_flow_is_remembered_for_three_seconds() {
    //= spec/cluster.md#half-open-flows
    //= type=test
    //# The server chosen for a flow MUST be remembered for 3 s, or until the flow is claimed, where there is room; what is remembered MUST NOT be displaced by other flows before.
    let mut world = web(Balance::RoundRobin, 8);
    let flows: Vec<_> = (1..40).map(|port| flow(WEB, port)).collect();
    let chosen: Vec<_> = flows.iter().map(|flow| world.syn(flow)).collect();
    // A flood that would fill the table many times over.
    for number in 0..20_000 {
        world.syn(&flow_of(client(number, true), 7, WEB));
    }
    assert!(world.proxy.counters().not_remembered > 10_000);
    world.wait(Duration::from_millis(2900));
    let again: Vec<_> = flows.iter().map(|flow| world.hops(&segment(flow, ACK))).collect();
    assert_eq!(again, chosen.iter().map(|server| vec![*server]).collect::<Vec<_>>());
    assert_eq!(world.syn(&flows[0]), chosen[0], "a SYN that is sent again");
    world.wait(Duration::from_millis(2900));
    assert_eq!(world.ack(&flows[0]), chosen[0], "remembered anew");
    let forgotten = flows[1..].iter().filter(|flow| world.hops(&segment(flow, ACK)).len() > 1).count();
    assert_eq!(forgotten, flows.len() - 1);
}

#[test]
fn a_long_silence_spoils_nothing_that_comes_after_it() {
    let mut world =
        World::new(&config(vec![service(WEB, Balance::RoundRobin, 8), service(DNS, Balance::Hash, 2)]));
    for _ in 0..3 {
        world.wait(Duration::from_secs(1000));
        assert_eq!(world.proxy.poll_timeout(), None, "there is nothing to forget");
        let flows: Vec<_> = (1..40).map(|port| flow(WEB, port)).collect();
        let chosen: Vec<_> = flows.iter().map(|flow| vec![world.syn(flow)]).collect();
        let datagrams = flow(DNS, 1);
        let owner = world.establish(&datagrams);
        world.wait(Duration::from_secs(1));
        let again: Vec<_> = flows.iter().map(|flow| world.hops(&segment(flow, ACK))).collect();
        assert_eq!((again, world.claim(owner, &datagrams)), (chosen, Ok(Claimed::Known)));
        // The host has other things to do for longer than short ages last: what lived for seconds is gone.
        world.now = world.now + Duration::from_secs(128);
        world.proxy.handle_timeout(world.now);
        assert!(flows.iter().all(|flow| world.hops(&segment(flow, ACK)).len() == 2));
        assert_eq!(world.proxy.flows_of(MemberSlot(owner)), 0);
    }
}

#[test]
fn a_flood_takes_nothing_from_anybody() {
    //= spec/cluster.md#round-robin
    //= type=test
    //# A service that balances in turn MUST give each server as many new flows as its weight says, in turn, and choose by hash where the choice cannot be remembered.
    let mut world = web(Balance::RoundRobin, 8);
    for number in 0..20_000 {
        world.syn(&flow_of(client(number, true), 7, WEB));
    }
    // In the flood a flow is chosen by hash, so its server is found again, and may claim it.
    for port in 1..100 {
        let flow = flow(WEB, port);
        let server = world.syn(&flow);
        assert_eq!(world.ack(&flow), server);
        assert_eq!(world.claim(server, &flow), Ok(Claimed::New));
    }
}

#[test]
fn an_unknown_flow_is_looked_for_in_its_row() {
    //= spec/cluster.md#segments-of-unknown-flows
    //= type=test
    //# A TCP segment of a flow that is neither claimed nor remembered, and begins none, MUST go to the servers of its row in turn, until one owns it; there MUST NOT be more than 4.
    for port in 1..300 {
        let flow = flow(WEB, port);
        let mut world = web(Balance::Hash, 6);
        let before = world.hops(&segment(&flow, ACK));
        assert_eq!(before.len(), 2);
        assert_eq!(world.syn(&flow), before[0]);
        world.wait(Duration::from_secs(4));
        // Whoever had it before is among the hops when servers drain.
        before.iter().for_each(|server| world.proxy.drain(MemberSlot(*server), None));
        let hops = world.hops(&segment(&flow, ACK));
        assert_eq!(hops.len(), 4);
        assert_eq!(hops[1..3], before);
        // One that is gone is not asked.
        world.proxy.set_reachable(world.now, MemberSlot(before[0]), false);
        let hops = world.hops(&segment(&flow, ACK));
        assert!(hops.len() == 3 && !hops.contains(&before[0]));
        (1..=6).for_each(|server| world.proxy.set_reachable(world.now, MemberSlot(server), false));
        assert_eq!(world.dropped(&segment(&flow, ACK)), Some(DropReason::NoServer));
    }
}

fn may_refuse(world: &mut World, flow: &Flow) -> bool {
    match world.verdict(&segment(flow, ACK)) {
        Verdict::Forward(forward) => forward.may_refuse,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nobody_refuses_before_all_have_told() {
    //= spec/cluster.md#refusals
    //= type=test
    //# A server MUST be allowed to refuse such a segment only when every server has told all its flows that can be reached, or has not come since the takeover and may still.
    let mut world = web(Balance::Hash, 3);
    let flow = flow(WEB, 1);
    assert!(may_refuse(&mut world, &flow));
    world.proxy.set_reachable(world.now, MemberSlot(3), false);
    assert!(may_refuse(&mut world, &flow), "who is gone owns nothing");
    world.proxy.set_reachable(world.now, MemberSlot(3), true);
    assert!(!may_refuse(&mut world, &flow));
    world.proxy.handle_told(world.now, MemberSlot(3));
    assert!(may_refuse(&mut world, &flow));
    world.proxy.handle_takeover(world.now);
    world.wait(Duration::from_millis(9999));
    assert!(!may_refuse(&mut world, &flow));
    world.wait(Duration::from_millis(1));
    assert!(may_refuse(&mut world, &flow), "10 s are enough");
    // Servers come to a control node that has just started one after the other.
    world.proxy.set_reachable(world.now, MemberSlot(3), false);
    world.proxy.handle_takeover(world.now);
    [1, 2].into_iter().for_each(|server| world.proxy.handle_told(world.now, MemberSlot(server)));
    world.wait(Duration::from_millis(300));
    assert!(!may_refuse(&mut world, &flow), "one has yet to come");
    world.proxy.set_reachable(world.now, MemberSlot(3), true);
    assert!(!may_refuse(&mut world, &flow), "and to tell");
    world.proxy.handle_told(world.now, MemberSlot(3));
    assert!(may_refuse(&mut world, &flow));
    world.proxy.set_reachable(world.now, MemberSlot(3), false);
    assert!(may_refuse(&mut world, &flow), "it has come, and is gone");
    world.proxy.stand_by();
    assert!(!may_refuse(&mut world, &flow), "another control node knows");
}

#[test]
fn after_a_takeover_all_are_asked_for_a_while() {
    //= spec/cluster.md#takeover
    //= type=test
    //# For 250 ms after a control node has taken a cluster over, a segment of an unknown flow MUST go to every real server, to be taken by its owner alone, unless all have told their flows before; no more than 50,000 a second.
    let mut world = web(Balance::LeastConnections, 4);
    let owned = flow(WEB, 1);
    let owner = world.establish(&owned);
    world.proxy.handle_takeover(world.now);
    let unknown = segment(&flow(WEB, 2), ACK);
    assert_eq!(world.verdict(&unknown), Verdict::Owners);
    assert_eq!(world.proxy.reachable().count(), 4);
    assert_eq!(world.ack(&owned), owner, "what is claimed is known");
    assert_eq!(world.hops(&segment(&flow(WEB, 3), SYN)).len(), 1, "a new flow is chosen as ever");
    let asked = (0..20_000).filter(|_| world.verdict(&unknown) == Verdict::Owners).count();
    assert!((4900..5100).contains(&asked), "{asked} at once, as many as in 100 ms");
    assert!(!may_refuse(&mut world, &flow(WEB, 2)));
    world.wait(Duration::from_millis(249));
    assert_eq!(world.verdict(&unknown), Verdict::Owners);
    world.wait(Duration::from_millis(1));
    assert_eq!(world.hops(&unknown).len(), 4);
    world.proxy.handle_takeover(world.now);
    (1..=4).for_each(|server| world.proxy.handle_told(world.now, MemberSlot(server)));
    assert_eq!(world.hops(&unknown).len(), 4, "all have told");
    world.check_ledger();
}

#[test]
fn a_claim_needs_a_reason() {
    //= spec/cluster.md#claims
    //= type=test
    //# A claim MUST be accepted only from a real server of the flow's service, for a flow that has no other owner, and that it owned when it was lost, or that this proxy has given it, would give it now or would have given it before it drained; or while this proxy stands by, or the server tells its flows within 10 s of a takeover.
    let services = vec![service(WEB, Balance::RoundRobin, 8), service(DNS, Balance::PerPacket, 9)];
    let mut world = World::new(&config(services));
    let first = flow(WEB, 1);
    let (row, stranger) = (row(&first, 8), stranger(&first, 8));
    assert_eq!(world.claim(stranger, &first), Err(Refusal::NotChosen));
    assert_eq!(world.claim(9, &first), Err(Refusal::NotAServer), "a server of another service");
    assert_eq!(world.claim(10, &first), Err(Refusal::NotAServer));
    assert_eq!(world.claim(row[0], &flow(DNS, 1)), Err(Refusal::NoService), "nobody owns such flows");
    let nowhere = ServiceKey { port: 81, ..WEB };
    assert_eq!(world.claim(row[0], &flow(nowhere, 1)), Err(Refusal::NoService));
    let elsewhere = Flow { address: client(3, false), ..first };
    assert_eq!(world.claim(row[0], &elsewhere), Err(Refusal::NoService));
    assert_eq!(world.claim(row[1], &first), Err(Refusal::NotChosen), "while the first is there");
    assert_eq!(world.claim(row[0], &first), Ok(Claimed::New), "by its row");
    assert_eq!(world.claim(row[0], &first), Ok(Claimed::Known));
    let conflict = Err(Refusal::Conflict { owner: MemberSlot(row[0]) });
    assert_eq!(world.claim(row[1], &first), conflict);
    // What is remembered counts more than the row.
    let second = (2..).map(|port| flow(WEB, port)).find(|flow| {
        let chosen = world.syn(flow);
        !row_of_eight(flow).contains(&chosen)
    });
    let second = second.expect("a flow whose turn is not its row");
    let chosen = world.syn(&second);
    assert_eq!(world.claim(row_of_eight(&second)[0], &second), Err(Refusal::NotChosen));
    assert_eq!(world.claim(chosen, &second), Ok(Claimed::New));
    // Least connections may have taken the second of the row, too; one that drains may have had it before.
    let mut other = web(Balance::LeastConnections, 8);
    assert_eq!(other.claim(row[1], &first), Ok(Claimed::New));
    let mut other = web(Balance::Hash, 8);
    other.proxy.drain(MemberSlot(row[0]), None);
    assert_eq!(other.claim(row[0], &first), Ok(Claimed::New));
    // A proxy that stands by has chosen nobody.
    let mut other = web(Balance::RoundRobin, 8);
    other.proxy.stand_by();
    assert_eq!(other.claim(stranger, &first), Ok(Claimed::New));
    assert_eq!(other.claim(row[0], &first), Err(Refusal::Conflict { owner: MemberSlot(stranger) }));
    // A server that has come back, or all after a takeover, tell what they have; nobody else's.
    let third = flow(WEB, 20_000);
    let stranger = (1..=8).find(|server| !row_of_eight(&third).contains(server)).expect("one");
    world.proxy.handle_takeover(world.now);
    assert_eq!(world.claim(stranger, &first), conflict);
    assert_eq!(world.claim(stranger, &third), Ok(Claimed::New));
    let counters = world.proxy.counters();
    assert_eq!((counters.claims, counters.conflicts, counters.refused), (3, 2, 8));
}

/// A server is lost and can be reached again.
fn flap(world: &mut World, server: u16, pause: Duration) {
    world.proxy.set_reachable(world.now, MemberSlot(server), false);
    world.wait(pause);
    world.proxy.set_reachable(world.now, MemberSlot(server), true);
}

#[test]
fn a_server_that_comes_back_claims_what_it_had_and_nothing_else() {
    let mut world = web(Balance::RoundRobin, 8);
    let flows: Vec<_> = (1..200).map(|port| flow(WEB, port)).collect();
    let owners: Vec<_> = flows.iter().map(|flow| world.establish(flow)).collect();
    let of = |server| flows.iter().zip(&owners).filter(move |(_, owner)| **owner == server);
    world.wait(Duration::from_secs(20));
    // Gone for longer than a look at the whole table takes; then once more before it has told anything, and by another process that
    // has told already that it knows of nothing.
    flap(&mut world, 1, Duration::from_secs(120));
    flap(&mut world, 1, Duration::from_secs(1));
    world.proxy.handle_told(world.now, MemberSlot(1));
    for (flow, _) in of(1) {
        assert_eq!(world.claim(1, flow), Ok(Claimed::New));
    }
    // What is nobody's, and what another had that is away.
    let mine = |port: &u16| row_of_eight(&flow(WEB, *port)).contains(&1);
    let strange = (1000..).find(|port| !mine(port)).expect("a flow of others");
    flap(&mut world, 1, Duration::from_secs(1));
    assert_eq!(world.claim(1, &flow(WEB, strange)), Err(Refusal::NotChosen));
    world.proxy.set_reachable(world.now, MemberSlot(2), false);
    let (of_another, _) = of(2).find(|(flow, _)| !row_of_eight(flow).contains(&1)).expect("one");
    assert_eq!(world.claim(1, of_another), Err(Refusal::NotChosen));
    // What has got another owner meanwhile is lost.
    let (taken, other) =
        of(1).map(|(flow, _)| (flow, row_of_eight(flow)[0])).find(|(_, row)| *row > 2).expect("one");
    assert_eq!(world.claim(other, taken), Ok(Claimed::New));
    assert_eq!(world.claim(1, taken), Err(Refusal::Conflict { owner: MemberSlot(other) }));
}

#[test]
fn a_server_that_takes_the_place_of_another_has_nothing_of_it() {
    let mut world = web(Balance::RoundRobin, 4);
    let flows: Vec<_> = (1..100).map(|port| flow(WEB, port)).collect();
    let of_four: Vec<_> = flows.iter().filter(|flow| world.establish(flow) == 4).collect();
    world.wait(Duration::from_secs(20));
    world.proxy.set_reachable(world.now, MemberSlot(4), false);
    let mut changed = config(vec![service(WEB, Balance::RoundRobin, 3)]);
    world.proxy.apply(world.now, Box::new(tables(&changed)));
    changed.services[0].servers.push(server(77, 1));
    world.proxy.apply(world.now, Box::new(tables(&changed)));
    flap(&mut world, 77, Duration::from_secs(1));
    let accepted = of_four.iter().filter(|flow| world.claim(77, flow).is_ok()).count();
    assert!((1..of_four.len()).contains(&accepted), "{accepted} of {}: by their rows", of_four.len());
}

#[test]
fn a_server_that_comes_and_goes_does_not_keep_others_from_refusing() {
    //= spec/cluster.md#time-to-tell
    //= type=test
    //# A server MUST NOT have more than 10 s to tell its flows, in all of its lives since the takeover together.
    let mut world = web(Balance::Hash, 8);
    let unknown = flow(WEB, 1);
    let stranger = stranger(&unknown, 8);
    world.wait(Duration::from_secs(60));
    flap(&mut world, stranger, Duration::from_secs(1));
    world.wait(Duration::from_secs(6));
    assert!(!may_refuse(&mut world, &unknown));
    // One that tells uses as much as it needs; this one has used six seconds.
    world.proxy.handle_told(world.now, MemberSlot(stranger));
    flap(&mut world, stranger, Duration::from_secs(100));
    world.wait(Duration::from_millis(3999));
    assert!(!may_refuse(&mut world, &unknown));
    world.wait(Duration::from_millis(1));
    assert!(may_refuse(&mut world, &unknown));
    flap(&mut world, stranger, Duration::from_secs(1));
    assert!(may_refuse(&mut world, &unknown), "its time is over");
    world.proxy.handle_takeover(world.now);
    world.wait(Duration::from_secs(1));
    assert!(!may_refuse(&mut world, &unknown), "until somebody else has the cluster");
}

fn row_of_eight(flow: &Flow) -> Vec<u16> {
    row(flow, 8)
}

#[test]
fn a_flow_loses_its_owner_for_few_reasons() {
    //= spec/cluster.md#owners
    //= type=test
    //# A claimed flow MUST lose its owner only when the owner gives it up, can no longer be reached, has drained past its deadline, or the flow has been idle: TCP for 2 h 4 min, UDP for 30 s.
    let services = vec![service(WEB, Balance::Hash, 4), service(DNS, Balance::Hash, 4)];
    let mut world = World::new(&config(services));
    let now = world.now;
    let (tcp, udp) = (flow(WEB, 1), flow(DNS, 1));
    let owners = [world.establish(&tcp), world.establish(&udp)];
    let of_claimed = |world: &mut World, flow: &Flow| {
        let before = world.proxy.counters().of_claimed;
        world.ack(flow);
        world.proxy.counters().of_claimed > before
    };
    assert!(!world.proxy.handle_gone(now, MemberSlot(owners[0] % 4 + 1), &tcp), "another server's");
    for _ in 0..20 {
        world.wait(Duration::from_secs(29));
        assert!(of_claimed(&mut world, &udp));
    }
    world.wait(Duration::from_secs(33));
    assert!(!of_claimed(&mut world, &udp));
    assert!(of_claimed(&mut world, &tcp));
    for _ in 0..2 {
        world.wait(Duration::from_secs(7439));
        assert!(of_claimed(&mut world, &tcp));
    }
    world.wait(Duration::from_secs(7440 + 2 * 64));
    assert!(!of_claimed(&mut world, &tcp));
    assert!((1..=4).all(|server| world.proxy.flows_of(MemberSlot(server)) == 0));
    let other = flow(WEB, 2);
    let owner = MemberSlot(world.establish(&other));
    assert!(world.proxy.handle_gone(world.now, owner, &other) && !of_claimed(&mut world, &other));
    assert_eq!(world.proxy.flows_of(owner), 0);
    assert!(!world.proxy.handle_gone(world.now, owner, &other));
}

#[test]
fn a_server_that_is_gone_owns_nothing() {
    //= spec/cluster.md#servers-that-come-and-go
    //= type=test
    //# When a real server can no longer be reached, its flows MUST have no owner at once.
    let mut world = web(Balance::Hash, 3);
    let flow = flow(WEB, 1);
    let owner = world.establish(&flow);
    // Many lives: their numbers come round, and nothing of an early one is alive again.
    for _ in 0..600 {
        world.proxy.set_reachable(world.now, MemberSlot(owner), false);
        assert_eq!(world.proxy.flows_of(MemberSlot(owner)), 0);
        assert!(!world.hops(&segment(&flow, ACK)).contains(&owner));
        assert_eq!(world.claim(owner, &flow), Err(Refusal::NotAServer));
        world.proxy.set_reachable(world.now, MemberSlot(owner), true);
        assert_eq!(world.hops(&segment(&flow, ACK)).len(), 3, "nobody owns it yet");
    }
    assert_eq!(world.claim(owner, &flow), Ok(Claimed::New), "it still has the flow, and says so");
    assert_eq!(world.hops(&segment(&flow, ACK)), [owner]);
}

#[test]
fn a_server_owns_twice_its_share_at_most() {
    //= spec/cluster.md#shares
    //= type=test
    //# A real server MUST NOT own more than twice its equal share of the table of flows, and half of that of flows of UDP.
    let mut world = web(Balance::Hash, 8);
    world.proxy.handle_takeover(world.now);
    let share = (2 * LIMITS.flows_max / 8) as u32;
    let claims = (0..5000).map(|number| world.claim(1, &flow_of(client(number, true), 9, WEB)));
    let refused = claims.filter(|claim| *claim == Err(Refusal::ShareFull { share })).count();
    assert_eq!((world.proxy.flows_of(MemberSlot(1)), refused), (share, 5000 - share as usize));
    let others = (0..LIMITS.flows_max as u16 / 4 * 3)
        .filter(|number| world.claim(2 + number % 7, &flow_of(client(*number, false), 9, WEB)).is_ok());
    assert!(others.count() > LIMITS.flows_max / 4 * 3 - 8, "the others have their room");
}

#[test]
fn datagrams_leave_half_of_a_share_to_connections() {
    let mut world = World::new(&config(vec![service(WEB, Balance::Hash, 8), service(DNS, Balance::Hash, 8)]));
    world.proxy.handle_takeover(world.now);
    let share = (2 * LIMITS.flows_max / 8) as u32;
    let mut of = |service, clients: core::ops::Range<u16>| {
        clients.filter(|number| world.claim(1, &flow_of(client(*number, true), 9, service)).is_ok()).count()
            as u32
    };
    assert_eq!(of(DNS, 0..2000), share / 2);
    assert_eq!(of(WEB, 0..2000), share / 2);
    // One that ends makes room for one of its kind.
    assert!(world.proxy.handle_gone(world.now, MemberSlot(1), &flow_of(client(0, true), 9, DNS)));
    assert_eq!(world.claim(1, &flow_of(client(3000, true), 9, DNS)), Ok(Claimed::New));
}

#[test]
fn a_draining_server_keeps_what_it_has_until_its_deadline() {
    //= spec/cluster.md#draining
    //= type=test
    //# A draining server MUST get no new flow, and keep the flows that it has claimed until its deadline.
    let mut world = web(Balance::Hash, 4);
    let flows: Vec<_> = (1..400).map(|port| flow(WEB, port)).collect();
    let owners: Vec<_> = flows.iter().map(|flow| world.establish(flow)).collect();
    let deadline: Instant = world.now + Duration::from_secs(5);
    // All but one at once.
    (1..=3).for_each(|server| world.proxy.drain(MemberSlot(server), Some(deadline)));
    assert!((1000..1400).all(|port| world.syn(&flow(WEB, port)) == 4));
    world.wait(Duration::from_millis(4999));
    assert!(flows.iter().zip(&owners).all(|(flow, owner)| world.hops(&segment(flow, ACK)) == [*owner]));
    world.wait(Duration::from_millis(1));
    for (flow, owner) in flows.iter().zip(&owners) {
        assert_eq!(world.hops(&segment(flow, ACK)) == [4], *owner == 4);
    }
    assert_eq!(world.proxy.flows_of(MemberSlot(1)), 0);
    let late = flow_of(client(9, true), 1, WEB);
    assert_eq!(world.claim(1, &late), Err(Refusal::Drained));
    world.proxy.undrain(MemberSlot(1));
    assert!((2000..2100).any(|port| world.syn(&flow(WEB, port)) == 1));
}

#[test]
fn a_deadline_that_is_past_is_past_also_when_it_is_said_again() {
    let mut world = web(Balance::Hash, 4);
    let deadline = world.now + Duration::from_secs(5);
    world.proxy.drain(MemberSlot(1), Some(deadline));
    // Until nothing is looked for any more.
    world.wait(Duration::from_secs(200));
    let judged = world.proxy.counters().judgements;
    world.proxy.drain(MemberSlot(1), Some(deadline));
    assert_eq!(world.proxy.poll_timeout(), None, "its flows are not taken once more");
    (2..=4).for_each(|server| world.proxy.undrain(MemberSlot(server)));
    assert_eq!(world.proxy.counters().judgements, judged, "nothing is new");
    // Another deadline is another one.
    let later = world.now + Duration::from_secs(60);
    world.proxy.drain(MemberSlot(1), Some(later));
    assert_eq!(world.proxy.poll_timeout(), Some(later));
}

#[test]
fn what_follows_from_changes_that_are_made_together_is_worked_out_once() {
    let mut world = web(Balance::Hash, 8);
    let judged = world.proxy.counters().judgements;
    world.proxy.together(|proxy| {
        (1..=7).for_each(|server| proxy.set_listens(MemberSlot(server), WEB, false));
        proxy.drain(MemberSlot(7), None);
    });
    assert_eq!(world.proxy.counters().judgements, judged + 1);
    assert!((1..100).all(|port| world.syn(&flow(WEB, port)) == 8));
    world.proxy.together(|proxy| proxy.set_listens(MemberSlot(1), WEB, false));
    assert_eq!(world.proxy.counters().judgements, judged + 1);
}

#[test]
fn a_server_that_leaves_the_configuration_drains() {
    let mut world = web(Balance::Hash, 4);
    let flow = flow(WEB, 1);
    let owner = world.establish(&flow);
    world.proxy.set_listens(MemberSlot(owner % 4 + 1), WEB, false);
    let mut without = config(vec![service(WEB, Balance::Hash, 4)]);
    without.services[0].servers.retain(|server| server.slot.0 != owner);
    world.proxy.apply(world.now, Box::new(tables(&without)));
    assert!((2..300).all(|port| world.syn(&world::flow(WEB, port)) != owner));
    assert_eq!(world.hops(&segment(&flow, ACK)), [owner]);
    assert!(world.proxy.reachable().any(|slot| slot.0 == owner));
    assert!(world.proxy.handle_gone(world.now, MemberSlot(owner), &flow));
    assert!(!world.proxy.reachable().any(|slot| slot.0 == owner));
    // Others take its place, and nothing of what was known of it.
    let mut with_another = without.clone();
    with_another.services[0].servers.retain(|server| server.slot.0 != owner % 4 + 1);
    with_another.services[0].servers.extend([server(77, 1), server(78, 1)]);
    world.proxy.apply(world.now, Box::new(tables(&with_another)));
    assert!(!world.hops(&segment(&flow, ACK)).contains(&77), "it is not there yet");
    for new in [77, 78] {
        world.proxy.set_reachable(world.now, MemberSlot(new), true);
        assert!((2000..2300).any(|port| world.syn(&world::flow(WEB, port + new)) == new));
    }
}

#[test]
fn a_syn_that_comes_again_begins_nothing_while_servers_tell_their_flows() {
    //= spec/cluster.md#syns-that-come-again
    //= type=test
    //# While some server may not have told all its flows, a SYN that a node sends again since it lost its control node MUST be dropped as `not-owner`, unless its flow is claimed.
    let services = vec![service(WEB, Balance::RoundRobin, 3), service(DNS, Balance::Hash, 3)];
    let mut world = World::new(&config(services));
    let (old, new) = (flow(WEB, 1), flow(WEB, 2));
    world.proxy.handle_takeover(world.now);
    assert_eq!(world.claim(2, &old), Ok(Claimed::New));
    let resent = |world: &mut World, flow: &Flow, flags| match world.proxy.handle_resent(
        world.now,
        &Vnet::default(),
        &segment(flow, flags),
    ) {
        Verdict::Forward(forward) => Ok(forward.hops.as_slice()[0].0),
        Verdict::Dropped(reason) => Err(reason),
        other => panic!("{other:?}"),
    };
    assert_eq!(resent(&mut world, &old, SYN), Ok(2), "its owner judges it");
    assert_eq!(resent(&mut world, &new, SYN), Err(DropReason::NotOwner));
    assert!(resent(&mut world, &flow(DNS, 3), 0).is_ok(), "a datagram harms nobody");
    let chosen = world.syn(&new);
    assert_eq!(resent(&mut world, &new, ACK), Ok(chosen), "one that its client sent himself");
    (1..=4).for_each(|server| world.proxy.handle_told(world.now, MemberSlot(server)));
    assert!(resent(&mut world, &flow(WEB, 4), SYN).is_ok());
    world.check_ledger();
}
