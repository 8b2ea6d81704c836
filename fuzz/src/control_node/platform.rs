//! The platform that the control node serves.

use switch_server::control_node::{
    ArpMode, ControlNodeConfig, FabricEntry, LanConfig, MemberConfig, NodeEntry, PortSecurity,
};
use vlan_core::wire::control::LegKind;
use vlan_core::{
    CabinetNumber, ControlNodeSerial, LanId, MacAddress, NodeNumber, ProcessId, PublicKey, SecretKey,
    VifNumber,
};

use super::{BLUE, NODES, RED};
use crate::script::mac;

pub(super) fn config(port_security: PortSecurity, has_uplinks: bool) -> ControlNodeConfig {
    let member = |node: u8, vif| MemberConfig {
        node: NodeNumber(node.into()),
        vif: VifNumber(vif),
        mac: mac(node + 16 * vif as u8),
        interface: "weft0".into(),
        addresses: Vec::new(),
        gateways: Vec::new(),
        may_listen: node != 2,
        sender: Default::default(),
    };
    let lan = |id, members| LanConfig {
        id,
        name: "lan".into(),
        mtu: 1500,
        arp: ArpMode::Relay,
        port_security,
        multicast: Default::default(),
        uplink: has_uplinks.then(|| super::outside::uplink(id == RED)),
        clusters: Vec::new(),
        members,
    };
    // All on one host but node 3; on the second fabric shared memory comes after packets.
    let entry = |number: u8| NodeEntry {
        number: NodeNumber(number.into()),
        name: "node".into(),
        public_key: PublicKey([number; 32]),
        host: (number == 3).then(|| "other".into()),
        legs: vec![vec![LegKind::Unix, LegKind::Udp], vec![LegKind::Udp, LegKind::Ether, LegKind::Unix]],
    };
    ControlNodeConfig {
        serial: ControlNodeSerial(1),
        cabinet: CabinetNumber(1),
        process: ProcessId(0xc0),
        epoch: 1,
        seed: 9,
        grant_key: SecretKey::new([7; 32]),
        fabrics: [5, 6].map(|key| FabricEntry { is_trusted: key == 6, key }).to_vec(),
        nodes: (1..=NODES).map(entry).collect(),
        devices: usize::from(has_uplinks),
        lans: vec![
            lan(RED, (1..=3).map(|node| member(node, 1)).collect()),
            lan(BLUE, (1..=2).map(|node| member(node, 2)).collect()),
        ],
    }
}

/// The LAN of an interface, and its MAC.
pub(super) fn interface(node: NodeNumber, vif: u8) -> (LanId, MacAddress) {
    (if vif == 1 { RED } else { BLUE }, mac(node.0 as u8 + 16 * vif))
}

pub(super) fn is_member(node: NodeNumber, lan: LanId) -> bool {
    lan == RED && (1..=3).contains(&node.0) || lan == BLUE && (1..=2).contains(&node.0)
}
