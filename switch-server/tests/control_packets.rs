//! Nodes whose control node is on another host: everything goes by packets.

#![cfg(feature = "std")]

#[path = "control_packets/two.rs"]
mod two;
#[path = "control_packets/world.rs"]
mod world;

use rvi::packet::wire::{PacketHeader, PacketKind};
use switch_node::node::NodeEvent;
use switch_server::control_node::ControlNodeEvent;
use vlan_core::{MacAddress, ProcessId};
use world::{Datagram, FABRICS, World, address, known_address, mac};

fn kind(datagram: &Datagram) -> PacketKind {
    PacketHeader::parse_packet(&datagram.octets).expect("a packet").kind
}

fn of_kind(world: &World, wanted: PacketKind) -> Vec<Datagram> {
    world.sent.iter().filter(|datagram| kind(datagram) == wanted).cloned().collect()
}

fn detached(world: &World) -> usize {
    world.log.iter().filter(|event| matches!(event, ControlNodeEvent::Detached { .. })).count()
}

fn is_direct(event: &NodeEvent) -> bool {
    matches!(event, NodeEvent::Granted { .. })
}

/// Node 1 sends to node 2 until both go by their direct RVI.
fn go_direct(world: &mut World) {
    for _ in 0..100 {
        world.send(1, mac(2), 0);
        world.step();
    }
    world.run(20);
    assert!(world.nodes[0].log.iter().any(is_direct), "no direct RVI");
    assert_eq!(world.take(2).len(), 100);
}

#[test]
fn a_node_attaches_by_packets_alone_and_relays() {
    let mut world = World::attached(3);
    assert_eq!(world.legs(), [[0, 1]; 3]);
    world.send(1, MacAddress([0xff; 6]), 7);
    world.run(5);
    assert_eq!([world.take(2), world.take(3)], [[7], [7]]);
    world.send(2, mac(3), 8);
    world.run(5);
    assert_eq!([world.take(1), world.take(2), world.take(3)], [vec![], vec![], vec![8]]);
    go_direct(&mut world);
}

#[test]
fn the_group_of_control_nodes_is_asked_until_one_was_heard() {
    //= spec/leg-ether.md#stations-of-control-nodes
    //= type=test
    //# A node MUST send packets to the group of control nodes only until it has opened a packet of its control node by that
    //# leg in this session, and then to the station that it came from.
    let ether = FABRICS[1];
    let mut world = World::attached(2);
    for _ in 0..2 {
        let is_asked = |world: &World| world.sent.iter().any(|datagram| datagram.to == known_address(ether));
        assert!(is_asked(&world));
        world.sent.clear();
        world.run(500);
        assert!(!is_asked(&world));
        let is_told = |number| {
            let own = |datagram: &&Datagram| datagram.from == address(number, ether);
            world.sent.iter().filter(own).any(|datagram| datagram.to == address(0, ether))
        };
        assert!(is_told(1) && is_told(2));
        world.start_control();
        world.run(3000);
        assert!(world.are_attached());
        assert_eq!(world.legs(), [[0, 1]; 2]);
    }
}

#[test]
fn one_fabric_is_enough_and_a_control_session_is_over_a_second_after_the_last() {
    //= spec/control-packets.md#silent-sessions
    //= type=test
    //# An end of a control RVI with packet legs MUST take its session for over when it has opened nothing of its peer for a
    //# second.
    let mut world = World::attached(2);
    world.down = [true, false];
    world.run(3000);
    assert!(world.are_attached());
    assert_eq!(detached(&world), 0);
    world.send(1, mac(2), 1);
    world.run(50);
    assert_eq!(world.take(2), [1]);
    world.down = [true, true];
    world.run(900);
    assert!(world.are_attached());
    world.run(200);
    assert!(!world.are_attached());
    assert_eq!(detached(&world), 2);
    world.down = [false, true];
    world.run(600);
    assert!(world.are_attached());
    world.send(1, mac(2), 2);
    world.run(5);
    assert_eq!(world.take(2), [2]);
}

#[test]
fn nodes_find_a_control_node_that_was_started_again_and_direct_traffic_does_not_miss_it() {
    let mut world = World::attached(2);
    go_direct(&mut world);
    world.control = None;
    for number in 0..200 {
        world.send(1, mac(2), number);
        world.run(1);
    }
    world.start_control();
    for number in 0..200 {
        world.send(1, mac(2), number);
        world.run(1);
    }
    assert!(world.are_attached(), "{:?}", world.nodes[0].log);
    let expected: Vec<u8> = (0..200).chain(0..200).collect();
    assert_eq!(world.take(2), expected);
    assert!(!world.log.iter().any(|event| matches!(event, ControlNodeEvent::Fenced { .. })));
    // It hears of the direct RVI that there is, and lets it be.
    assert!(!world.log.iter().any(|event| matches!(event, ControlNodeEvent::Revoked { .. })));
    let status = world.control.as_ref().expect("a control node").status();
    assert_eq!(status.rvis.len(), 1, "{:?}\n{:?}\n{:?}", world.log, world.nodes[0].log, world.nodes[1].log);
}

#[test]
fn a_session_carries_on_when_its_keys_change() {
    let mut world = World::attached(2);
    // A hint that the control node has forgotten the session, which it has not, while it cannot be heard.
    let data = world
        .sent
        .iter()
        .rfind(|datagram| {
            kind(datagram) == PacketKind::Data
                && datagram.from == address(0, FABRICS[0])
                && datagram.to == address(1, FABRICS[0])
        })
        .cloned()
        .expect("data");
    let mut reset = PacketHeader::parse_packet(&data.octets).expect("a packet");
    (reset.kind, reset.dst_cid, reset.payload_len) = (PacketKind::Reset, 0, 0);
    let mut octets = vec![0; reset.packet_len()];
    reset.emit(octets.first_chunk_mut().expect("room"));
    let before = of_kind(&world, PacketKind::Connect).len();
    world.deliver(&Datagram { octets, ..data });
    world.down = [true; 2];
    world.run(60);
    world.down = [false; 2];
    world.run(100);
    assert!(of_kind(&world, PacketKind::Connect).len() > before, "nothing was done");
    assert!(world.are_attached());
    assert_eq!(detached(&world), 0);
    world.send(1, mac(2), 1);
    world.run(5);
    assert_eq!(world.take(2), [1]);
}

#[test]
fn a_node_that_ends_leaves_in_order() {
    let mut world = World::attached(2);
    world.send(1, mac(2), 1);
    let now = world.now;
    world.nodes[0].node.leave(now);
    world.run(20);
    assert!(world.nodes[0].is_over);
    assert_eq!(detached(&world), 1);
    assert_eq!(world.take(2), [1]);
    assert!(world.nodes[1].node.is_attached());
}

#[test]
fn a_control_node_that_ends_tells_its_nodes_which_go_on_directly() {
    //= spec/control-node.md#the-orderly-end-of-a-control-node
    //= type=test
    //# A control node that is asked to end MUST take nothing more from its nodes, wait at most 20 ms for what receivers have
    //# not acknowledged, and tell the nodes that it reaches by packets that their sessions are over.
    let mut world = World::attached(3);
    go_direct(&mut world);
    let now = world.now;
    world.control.as_mut().expect("a control node").leave(now);
    world.run(1);
    assert!(world.control.is_none(), "it waits for nothing");
    for hosted in &world.nodes {
        assert!(!hosted.node.is_attached(), "{:?}", hosted.log);
        assert!(hosted.log.contains(&NodeEvent::SessionClosed { control_node: 0 }), "{:?}", hosted.log);
    }
    assert!(of_kind(&world, PacketKind::Close).len() >= 6, "by each leg of three nodes");
    both_ways(&mut world, 0..100);
    world.run(20);
    assert_eq!([world.take(1), world.take(2)], [0, 1].map(|_| (0..100).collect::<Vec<u8>>()));
    // Another takes its place, and is found within the longest pause of a handshake.
    world.start_control();
    world.run(400);
    assert!(world.are_attached());
}

#[test]
fn a_control_node_that_ends_waits_for_acknowledgements_and_settles_nothing_without() {
    //= spec/server.md#acknowledged-frames
    //= type=test
    //# A control node MUST NOT settle a frame that it relays in packets with its sender before the receiver has acknowledged
    //# it, or has not done so for 50 ms.
    let mut world = World::attached(2);
    let leave = |world: &mut World| {
        let now = world.now;
        world.control.as_mut().expect("a control node").leave(now);
    };
    world.nodes[1].is_over = true;
    for number in 0..10 {
        world.send(1, mac(2), number);
    }
    world.run(2);
    leave(&mut world);
    // Nothing that comes now is taken.
    for number in 10..20 {
        world.send(1, mac(2), number);
    }
    world.run(15);
    assert!(world.control.is_some() && world.nodes[0].node.is_attached(), "it has not waited");
    world.run(10);
    assert!(world.control.is_none() && !world.nodes[0].node.is_attached());
    assert_eq!(world.nodes[0].node.unsettled().0, 20, "frames that their sender does not keep");
    // The receiver is there first: what comes for one that is not attached is refused.
    for (is_over, millis) in [([true, false], 1200), ([false; 2], 800)] {
        world.nodes.iter_mut().zip(is_over).for_each(|(hosted, is_over)| hosted.is_over = is_over);
        if world.control.is_none() {
            world.start_control();
        }
        world.run(millis);
    }
    assert!(world.are_attached());
    assert_eq!(world.take(2), (0..20).collect::<Vec<u8>>());
    // With acknowledgements it is over as soon as they have come.
    world.send(1, mac(2), 20);
    world.step();
    world.step();
    leave(&mut world);
    world.run(1);
    assert!(world.control.is_none());
    assert_eq!((world.take(2), world.nodes[0].node.unsettled().0), (vec![20], 0));
}

#[test]
fn a_newer_process_of_a_node_takes_the_place_of_the_older_one() {
    let mut world = World::attached(2);
    world.replace(1, 900);
    world.run(50);
    assert!(world.are_attached());
    let status = world.control.as_ref().expect("a control node").status();
    assert_eq!(status.nodes[0].process, Some(ProcessId(900)));
    assert!(world.log.iter().any(|event| matches!(event, ControlNodeEvent::Fenced { .. })));
    // Of the older one nothing is heard any more, and its session goes.
    world.run(1100);
    let sessions = world.control.as_ref().expect("a control node").waiting().count();
    assert_eq!((sessions, detached(&world)), (2, 0));
}

#[test]
fn a_control_node_tells_nothing_to_strangers() {
    //= spec/leg-setup.md#identity
    //= type=test
    //# A control node MUST tell nothing to a peer that has not proven the key of a node it knows.
    let mut world = World::new(1);
    world.nodes[0].node = world::node(1, 9, 900);
    world.run(50);
    assert!(world.log.iter().any(|event| matches!(event, ControlNodeEvent::UnknownKey { .. })));
    assert!(world.sent.iter().all(|datagram| datagram.to == known_address(datagram.leg)));
    assert!(!world.are_attached());
}

#[test]
fn a_node_with_the_key_of_another_is_refused_and_asks_again_only_after_a_while() {
    //= spec/leg-setup.md#identity
    //= type=test
    //# The node number in HELLO MUST be that of the node whose key was proven, or the node is refused.
    let mut world = World::new(2);
    world.nodes[0].node = world::node(1, 2, 900);
    world.nodes[1].is_over = true;
    world.run(400);
    assert!(world.nodes[0].log.iter().any(|event| matches!(event, NodeEvent::Refused { .. })));
    assert_eq!(of_kind(&world, PacketKind::Connect).len(), 2, "one by each leg");
    assert!(!world.nodes[0].node.is_attached());
}

/// CONNECTs of lives of node 1 that have passed: anybody may have kept them.
fn old_connects(count: u64) -> Vec<Datagram> {
    let connects = (0..count).map(|life| {
        let mut world = World::new(1);
        world.replace(1, 500 + life);
        world.control = None;
        world.step();
        of_kind(&world, PacketKind::Connect).remove(0)
    });
    connects.collect()
}

#[test]
fn connects_that_are_sent_again_change_nothing_and_cost_little() {
    //= spec/control-packets.md#unproven-sessions
    //= type=test
    //# A control node MUST hold at most four packet sessions of one node whose peers have not proven the keys of the handshake,
    //# each for at most 2 seconds, and none of them MUST change anything else.
    let mut world = World::attached(2);
    let before = world.control.as_ref().expect("a control node").waiting().count();
    for connect in old_connects(10) {
        world.deliver(&connect);
    }
    let sessions = |world: &World| world.control.as_ref().expect("a control node").waiting().count();
    assert_eq!(sessions(&world), before + 4);
    world.run(100);
    assert!(world.are_attached());
    world.send(1, mac(2), 1);
    world.run(5);
    assert_eq!(world.take(2), [1]);
    world.run(2000);
    assert_eq!(sessions(&world), before);
    assert_eq!(detached(&world), 0);
}

#[test]
fn packets_go_to_where_the_last_genuine_one_came_from() {
    //= spec/control-packets.md#addresses-of-nodes
    //= type=test
    //# A control node MUST send packets of a session by a leg only to the address from which the last packet came that was
    //# opened with the session's keys by that leg.
    let mut world = World::attached(2);
    let elsewhere = address(77, FABRICS[0]);
    // Everything that node 1 has sent, again and from elsewhere, and each with a bit changed.
    let own = world.sent.iter().filter(|datagram| datagram.from == address(1, datagram.leg));
    for mut datagram in own.cloned().collect::<Vec<_>>() {
        datagram.from = elsewhere;
        world.deliver(&datagram);
        *datagram.octets.last_mut().expect("octets") ^= 1;
        world.deliver(&datagram);
    }
    world.sent.clear();
    for number in 0..20 {
        world.send(2, mac(1), number);
        world.run(1);
    }
    assert_eq!(world.take(1).len(), 20);
    let is_session = |datagram: &&Datagram| kind(datagram) != PacketKind::Accept;
    assert!(world.sent.iter().filter(is_session).all(|datagram| datagram.to != elsewhere));
    // A node whose address has changed is followed from its first packet on.
    world.down = [true; 2];
    world.sent.clear();
    world.run(150);
    let is_own = |datagram: &&Datagram| datagram.from == address(1, FABRICS[0]);
    let probe = world.sent.iter().find(is_own).cloned().expect("an idle leg is probed");
    world.deliver(&Datagram { from: elsewhere, ..probe });
    world.sent.clear();
    world.step();
    let answers = world.sent.iter().filter(|datagram| datagram.from == address(0, FABRICS[0]));
    assert!(answers.clone().any(|datagram| datagram.to == elsewhere));
    assert!(answers.clone().all(|datagram| datagram.to != address(1, FABRICS[0])));
}

/// Both ends send frames of these numbers, one in half a millisecond.
fn both_ways(world: &mut World, numbers: std::ops::Range<u8>) {
    for number in numbers {
        world.send(1, mac(2), number);
        world.send(2, mac(1), number);
        for _ in 0..5 {
            world.step();
        }
    }
}

fn relayed(world: &World) -> u64 {
    world.control.as_ref().expect("a control node").status().relay.packets
}

#[test]
fn a_control_node_carries_packets_of_two_nodes_that_no_fabric_joins() {
    let mut world = World::attached(3);
    go_direct(&mut world);
    both_ways(&mut world, 0..100);
    world.run(20);
    assert_eq!([world.take(1), world.take(2)], [0, 1].map(|_| (0..100).collect::<Vec<u8>>()));
    let joining = relayed(&world);
    assert!((1..50).contains(&joining), "{joining} packets to join");
    let frames = |world: &World| {
        let status = world.control.as_ref().expect("a control node").status();
        status.lans[0].ledger.ingress
    };
    let by_relay = frames(&world);
    for _ in 0..3 {
        world.are_nodes_apart = true;
        both_ways(&mut world, 0..250);
        world.run(50);
        let all: Vec<u8> = (0..250).collect();
        assert_eq!([world.take(1), world.take(2)], [all.clone(), all]);
        world.are_nodes_apart = false;
        world.run(300);
    }
    let carried = relayed(&world);
    assert!(carried > joining + 500, "{carried} packets");
    both_ways(&mut world, 0..250);
    world.run(20);
    assert!(relayed(&world) < carried + 10, "the direct legs serve again");
    assert_eq!(world.take(1).len() + world.take(2).len(), 500);
    assert_eq!(frames(&world), by_relay, "a frame went as a bare one");
    let status = world.control.as_ref().expect("a control node").status();
    assert_eq!(status.relay.drops().count(), 0, "{:?}", status.relay);
    assert_eq!(status.rvis.len(), 1);
}

#[test]
fn two_nodes_that_nothing_joins_count_what_expires_and_find_each_other_again() {
    let mut world = World::attached(2);
    go_direct(&mut world);
    world.are_nodes_apart = true;
    both_ways(&mut world, 0..50);
    world.control = None;
    for number in 50..200 {
        // The stack may wait: what it still holds is nobody's yet.
        world.send(1, mac(2), number);
        for _ in 0..5 {
            world.step();
        }
    }
    world.run(200);
    let drops = |world: &World| -> u64 {
        world.nodes[0].node.interfaces().map(|interface| interface.counters.drops.total()).sum()
    };
    let expired = drops(&world);
    assert!((50..150).contains(&expired), "{expired} expired");
    assert!(!world.nodes[0].log.iter().any(|event| matches!(event, NodeEvent::DirectEnded { .. })));
    // The control node comes back, and carries what was kept and what comes.
    world.start_control();
    world.run(700);
    assert!(world.are_attached());
    both_ways(&mut world, 200..250);
    world.run(100);
    let got = world.take(2);
    assert_eq!(got.len() as u64, 250 - expired, "{got:?}");
    assert!(got.windows(2).all(|pair| pair[0] < pair[1]), "{got:?}");
    assert!(got.ends_with(&(200..250).collect::<Vec<u8>>()), "{got:?}");
    assert!(relayed(&world) > 50);
    world.are_nodes_apart = false;
    world.run(300);
    let carried = relayed(&world);
    both_ways(&mut world, 0..100);
    world.run(20);
    assert_eq!(world.take(2).len(), 100);
    assert!(relayed(&world) < carried + 10);
}
