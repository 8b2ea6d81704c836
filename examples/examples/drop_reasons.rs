//! Why was my frame dropped?
//!
//! Every discarded frame is one counted reason, at the place that discarded it. This gives a driver frames that
//! it must refuse and prints what it counted, then every reason there is.
//!
//!     cargo run -p examples --example drop_reasons

use examples::{frame, mac_of};
use vlan_core::driver::{Driver, Egress, Ingress};
use vlan_core::limits::LAN_MTU;
use vlan_core::wire::control::InterfaceConfig;
use vlan_core::wire::{FrameHeader, FrameKind, Vnet};
use vlan_core::{BootTag, Channel, DropReason, LanId, NodeNumber, ProcessId, VifNumber};

fn main() {
    let mut driver = driver();
    let own = mac_of(NodeNumber(1));

    // From the stack: a frame that is cut short, one beyond the MTU, one whose checksum lies outside of it.
    let good = frame(mac_of(NodeNumber(2)), own, &[0; 46]);
    let long = frame(mac_of(NodeNumber(2)), own, &vec![0; usize::from(LAN_MTU) + 100]);
    let outside = Vnet { flags: Vnet::NEEDS_CSUM, csum_start: 60, csum_offset: 16, ..Vnet::default() };
    for (vnet, octets) in [(Vnet::default(), &good[..10]), (Vnet::default(), &long), (outside, &good)] {
        if let Egress::Drop(reason) = driver.classify(&vnet, octets, octets.len()) {
            driver.count_drop(reason, 1);
        }
    }

    // From the fabric: a frame of another LAN, and one of an origin that is no member of this one.
    for (lan, origin) in [(LanId(11), NodeNumber(2)), (LanId(10), NodeNumber(9))] {
        let verdict = driver.admit_relayed(&header(lan, origin), &good, good.len());
        assert!(matches!(verdict, Ingress::Drop(_)));
    }

    println!("this driver dropped");
    for (reason, frames) in driver.counters().drops.iter() {
        println!("   {frames} x {reason}");
    }
    assert_eq!(driver.counters().drops.total(), 5);
    println!("reasons there are");
    for reason in DropReason::ALL {
        println!("   {reason}");
    }
}

/// A header as a control node sends it with a relayed frame.
fn header(lan: LanId, origin: NodeNumber) -> FrameHeader {
    FrameHeader {
        kind: FrameKind::Relay,
        flags: 0,
        lan,
        origin,
        origin_vif: VifNumber(1),
        destination_vif: VifNumber(1),
        vnet: Vnet::default(),
        boot: BootTag(0),
        bseq: 0,
    }
}

/// The driver of node 1's interface on LAN 10.
fn driver() -> Driver {
    let config = InterfaceConfig {
        lan: LanId(10),
        vif: VifNumber(1),
        mac: mac_of(NodeNumber(1)),
        mtu: LAN_MTU,
        relay_channel: Channel(1),
        arp_channel: Channel(2),
        port_security: vlan_core::security::PortSecurity::Mac,
        may_listen: false,
        has_carrier: true,
        name: "red0".into(),
        lan_name: "red".into(),
        addresses: Vec::new(),
        gateways: Vec::new(),
        clusters: Vec::new(),
        cluster_addresses: Vec::new(),
    };
    Driver::new(NodeNumber(1), ProcessId(1), config, 64, 1)
}
