//! The platform that the control node serves.

use std::time::Duration;

use cluster_proxy::{
    Balance, CheckConfig, ClusterConfig, HashKey, Limits, Protocol, ServerConfig, ServiceConfig, ServiceKey,
    Sticky, Tables,
};
use switch_server::control_node::{
    ArpMode, ClusterEntry, ControlNodeConfig, FabricEntry, LanConfig, MemberConfig, NodeEntry, PortSecurity,
    server_name,
};
use vlan_core::cluster::CheckKind;
use vlan_core::wire::control::LegKind;
use vlan_core::{
    CabinetNumber, ControlNodeSerial, Instant, LanId, MacAddress, NodeNumber, ProcessId, PublicKey,
    SecretKey, VifNumber,
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
        clusters: if id == RED { vec![cluster()] } else { Vec::new() },
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
        started: Instant::ZERO,
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

/// The address of the cluster on the red LAN; its MAC is that of an interface of a node that there is not.
pub(super) const CLUSTER: [u8; 4] = [10, 1, 0, 100];

/// One service of two of the three members, and two of them are routers.
fn cluster() -> ClusterEntry {
    let server = |node: u16| ServerConfig {
        slot: server_name(NodeNumber(node)),
        node: NodeNumber(node),
        weight: node,
    };
    let config = ClusterConfig {
        addresses: vec![CLUSTER.into()],
        services: vec![ServiceConfig {
            key: ServiceKey { protocol: Protocol::Tcp, port: 80 },
            balance: Balance::RoundRobin,
            sticky: Sticky::None,
            servers: [1, 2].map(server).into(),
            check: Some(CheckConfig { interval: Duration::from_secs(1), fall: 2, rise: 1 }),
        }],
        routers: [2, 3].map(server).into(),
        rows: 256,
        epoch: 1,
    };
    let tables = Tables::new(&config, HashKey([1, 2])).expect("a sound cluster");
    let checks = vec![(ServiceKey { protocol: Protocol::Tcp, port: 80 }, CheckKind::Tcp)];
    ClusterEntry {
        addresses: vec![(CLUSTER.into(), interface(NodeNumber(5), 1).1)],
        tables,
        checks,
        limits: Limits::default(),
    }
}

/// The LAN of an interface, and its MAC.
pub(super) fn interface(node: NodeNumber, vif: u8) -> (LanId, MacAddress) {
    (if vif == 1 { RED } else { BLUE }, mac(node.0 as u8 + 16 * vif))
}

pub(super) fn is_member(node: NodeNumber, lan: LanId) -> bool {
    lan == RED && (1..=3).contains(&node.0) || lan == BLUE && (1..=2).contains(&node.0)
}
