//! How do I run the fabric inside my own program?
//!
//! Two nodes and a control node in one process: a frame goes from one stack to the other, and a broadcast to
//! everybody but its sender. No socket, no thread, no system call.
//!
//!     cargo run -p examples --example two_nodes_in_memory

use examples::{Fabric, frame, mac_of};
use vlan_core::{MacAddress, NodeNumber};

fn main() {
    let mut fabric = Fabric::new(2);
    let (one, two) = (NodeNumber(1), NodeNumber(2));
    for hosted in &fabric.nodes {
        for interface in hosted.node.interfaces() {
            let config = interface.config;
            println!(
                "node {}: {} on LAN {}, {}",
                hosted.node.number(),
                config.name,
                config.lan_name,
                config.mac
            );
        }
    }

    let hello = frame(mac_of(two), mac_of(one), b"hello, node 2");
    fabric.send(one, &hello);
    assert_eq!(fabric.nodes[1].received.0.len(), 1);
    assert_eq!(fabric.nodes[1].received.0[0].1, hello);
    println!("node 2 received {:?}", String::from_utf8_lossy(&fabric.nodes[1].received.0[0].1[14..]));

    let everybody = frame(MacAddress::BROADCAST, mac_of(two), b"hello, everybody");
    fabric.send(two, &everybody);
    assert_eq!(fabric.nodes[0].received.0.last().map(|(_, f)| f), Some(&everybody));
    assert_eq!(fabric.nodes[1].received.0.len(), 1, "a broadcast does not come back to its sender");
    println!("node 1 received {:?}", String::from_utf8_lossy(&fabric.nodes[0].received.0[0].1[14..]));
}
