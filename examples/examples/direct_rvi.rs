//! When does traffic stop passing the control node?
//!
//! The first frames of a pair are relayed. When the pair has traffic worth it, the control node grants a direct
//! RVI; a barrier moves the traffic over without reordering it.
//!
//!     cargo run -p examples --example direct_rvi

use std::time::Duration;

use examples::{Fabric, frame, mac_of};
use vlan_core::NodeNumber;
use vlan_core::limits::GRANT_AFTER_FRAMES;

fn main() {
    let mut fabric = Fabric::new(2);
    let (one, two) = (NodeNumber(1), NodeNumber(2));
    let count = 2 * GRANT_AFTER_FRAMES;
    for number in 0..count {
        fabric.send(one, &frame(mac_of(two), mac_of(one), &number.to_be_bytes()));
        fabric.run(Duration::from_micros(100));
    }

    let received: Vec<_> = fabric.nodes[1].received.0.iter().map(|(_, f)| f[14..18].to_vec()).collect();
    let sent: Vec<_> = (0..count).map(|n| n.to_be_bytes().to_vec()).collect();
    assert_eq!(received, sent, "every frame once and in order, while its way changed");

    let interface = fabric.nodes[0].node.interfaces().next().expect("node 1 is a member of a LAN");
    let (relayed, direct) = (interface.counters.sent_relay.frames, interface.counters.sent_direct.frames);
    assert_eq!(relayed + direct, u64::from(count));
    assert!(relayed > 0 && direct > 0, "{relayed} relayed, {direct} direct");
    println!("{count} frames arrived in order: {relayed} by the control node, then {direct} direct");
    for line in &fabric.log {
        println!("   {line}");
    }
}
