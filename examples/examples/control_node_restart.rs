//! What happens while no control node is there?
//!
//! Pairs that have a direct RVI go on as before. When the control node is back, its nodes find it by themselves,
//! and what they hold is adopted as it is.
//!
//!     cargo run -p examples --example control_node_restart

use std::time::Duration;

use examples::{Fabric, frame, mac_of};
use vlan_core::NodeNumber;
use vlan_core::limits::GRANT_AFTER_FRAMES;

fn main() {
    let mut fabric = Fabric::new(2);
    let mut sent = 0u32;
    let mut talk = |fabric: &mut Fabric, frames: u32| {
        for _ in 0..frames {
            fabric.send(
                NodeNumber(1),
                &frame(mac_of(NodeNumber(2)), mac_of(NodeNumber(1)), &sent.to_be_bytes()),
            );
            fabric.run(Duration::from_micros(100));
            sent += 1;
        }
        let received = fabric.nodes[1].received.0.iter().map(|(_, f)| f[14..18].to_vec());
        assert!(received.eq((0..sent).map(|n| n.to_be_bytes().to_vec())), "each frame once and in order");
        println!("{sent} frames have arrived in order");
    };

    talk(&mut fabric, 2 * GRANT_AFTER_FRAMES);
    fabric.kill_control_node();
    assert!(fabric.nodes.iter().all(|n| !n.node.is_attached()));
    println!("the control node is dead");
    talk(&mut fabric, 1000);
    fabric.start_control_node();
    assert!(fabric.nodes.iter().all(|n| n.node.is_attached()));
    println!("it is back, and both nodes are attached");
    talk(&mut fabric, 1000);
    for line in &fabric.log {
        println!("   {line}");
    }
}
