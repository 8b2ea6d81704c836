//! Nodes that know two control nodes, both of which carry packets for a pair that no fabric joins.

use switch_node::node::NodeEvent;
use switch_server::control_node::ControlNode;
use vlan_core::DropReason;

use crate::world::{World, mac};
use crate::{both_ways, go_direct};

/// Nodes 1 and 2 with a direct RVI that the first control node has granted and the second has adopted.
fn adopted() -> World {
    let mut world = World::with_two(2);
    world.run(50);
    go_direct(&mut world);
    world.start_second();
    world.run(600);
    // The legs have measured their round trips.
    both_ways(&mut world, 0..100);
    world.run(20);
    assert_eq!([world.take(1), world.take(2)], [0, 1].map(|_| (0..100).collect::<Vec<u8>>()));
    let rvis = |control: &Option<ControlNode>| control.as_ref().expect("a control node").status().rvis.len();
    assert_eq!([rvis(&world.control), rvis(&world.second)], [1, 1], "{:?}", world.log);
    let log = &world.nodes[0].log;
    let is_attached = |place| {
        log.iter()
            .any(|event| matches!(event, NodeEvent::Attached { control_node, .. } if *control_node == place))
    };
    assert!(is_attached(0) && is_attached(1), "{log:?}");
    world
}

/// Packets of relay legs that each control node has carried.
fn carried(world: &World) -> [u64; 2] {
    let of = |control: &Option<ControlNode>| control.as_ref().map_or(0, |c| c.status().relay.packets);
    [of(&world.control), of(&world.second)]
}

fn expired(world: &World) -> u64 {
    let interfaces = world.nodes.iter().flat_map(|hosted| hosted.node.interfaces());
    interfaces.map(|interface| interface.counters.drops.of(DropReason::Expired)).sum()
}

/// One of two control nodes goes, as `go` has it, while both ends send by relay legs alone.
fn one_goes(go: fn(&mut World)) {
    let mut world = adopted();
    world.are_nodes_apart = true;
    both_ways(&mut world, 0..100);
    let before = carried(&world);
    assert!(before.iter().sum::<u64>() > 100, "{before:?} packets");
    go(&mut world);
    both_ways(&mut world, 100..250);
    world.run(50);
    let all: Vec<u8> = (0..250).collect();
    assert_eq!([world.take(1), world.take(2)], [all.clone(), all], "{:?}", carried(&world));
    assert_eq!(expired(&world), 0);
    // It takes its part again when it is back, and adopts what there is.
    world.start_control();
    world.run(1500);
    assert_eq!(world.control.as_ref().map(|control| control.status().rvis.len()), Some(1));
    let back = carried(&world);
    both_ways(&mut world, 0..100);
    let after = carried(&world);
    assert!(after.iter().sum::<u64>() > back.iter().sum::<u64>() + 100, "{back:?} {after:?}");
    // The other one alone.
    world.second = None;
    both_ways(&mut world, 100..200);
    world.run(50);
    assert!(carried(&world)[0] > after[0] + 100, "{after:?} {:?}", carried(&world));
    assert_eq!([world.take(1), world.take(2)], [0, 1].map(|_| (0..200).collect::<Vec<u8>>()));
    assert_eq!(expired(&world), 0);
    let is_over = |event: &NodeEvent| matches!(event, NodeEvent::DirectEnded { .. });
    assert!(!world.nodes[0].log.iter().any(is_over), "the association has ended");
}

#[test]
fn one_of_two_control_nodes_dies_while_both_carry_and_nothing_is_lost() {
    //= spec/leg-relay.md#carried-legs
    //= type=test
    //# A relay leg MUST be used only while its control node has accepted the node, and the end of a control session MUST NOT end
    //# an association between nodes.
    one_goes(|world| world.control = None);
}

#[test]
fn one_of_two_control_nodes_ends_in_order_while_both_carry_and_nothing_is_lost() {
    one_goes(|world| {
        let now = world.now;
        world.control.as_mut().expect("a control node").leave(now);
    });
}

#[test]
fn legs_that_carry_hardly_more_than_acks_do_not_look_slow() {
    //= spec/packet-sender.md#round-trips
    //= type=test
    //# A sender MUST measure a round trip only with a packet that asked for an ack, and only when the ack says for how long it
    //# was kept back.
    let mut world = adopted();
    for pause in [30, 300, 2000] {
        world.run(pause);
        both_ways(&mut world, 0..10);
    }
    for (hosted, peer) in world.nodes.iter().zip([2, 1]) {
        for leg in hosted.node.packet_legs_to(vlan_core::NodeNumber(peer)) {
            assert!(leg.rtt_ns < 1_000_000, "{leg:?}");
        }
    }
}

#[test]
fn broadcasts_go_on_by_the_second_control_node() {
    let mut world = adopted();
    let group = vlan_core::MacAddress([0xff; 6]);
    world.send(1, group, 1);
    world.run(5);
    let now = world.now;
    world.control.as_mut().expect("a control node").leave(now);
    for number in 2..60 {
        world.send(1, group, number);
        world.step();
    }
    world.run(20);
    assert_eq!(world.take(2), (1..60).collect::<Vec<u8>>());
    world.send(2, mac(1), 9);
    world.run(5);
    assert_eq!((world.take(1), expired(&world)), (vec![9], 0));
}
