//! `[[lan]]`: a virtual LAN and its uplink.

use std::net::IpAddr;

use vlan_core::LanId;
use vlan_core::limits::LAN_MTU;
use vlan_core::server::PortSecurity;

use crate::model::{
    ArpMode, Cluster, DefaultRouter, Driver, Lan, LanMulticast, Platform, Uplink, UplinkMode, UplinkPort,
};
use crate::reader::{Reader, Table, Value};
use crate::registry::Kind;
use crate::sections::member::{read_member, read_node_reference, require_member};
use crate::sections::{Known, claim_name, cluster, unknown};
use crate::value;

/// The smallest MTU of an IPv4 link (RFC 791, 3.2).
const MTU_MIN: u16 = 68;
/// The smallest MTU of an IPv6 link (RFC 8200, 5).
const MTU_MIN_IPV6: u16 = 1280;

/// Reads one `[[lan]]`.
pub(super) fn read_lan(
    reader: &mut Reader<'_>,
    mut table: Table<'_>,
    platform: &mut Platform,
    known: &mut Known,
) {
    let scope = platform.lans.len();
    let name = table.required(reader, "name", "\"red\"").map(|v| claim_name(reader, v, Kind::LanName));
    let id = table.required(reader, "id", "10").and_then(|value| {
        let id = value.integer16(reader, 1..=u16::MAX)?;
        reader.claim(Kind::LanId, 0, id.to_string(), value.offset);
        Some(LanId(id))
    });
    let mtu_value = table.optional("mtu");
    let mut lan = Lan {
        name: name.unwrap_or_default(),
        id: id.unwrap_or_default(),
        mtu: mtu_value.and_then(|v| v.integer16(reader, MTU_MIN..=LAN_MTU)).unwrap_or(LAN_MTU),
        arp: read_arp(reader, table.optional("arp")),
        port_security: read_port_security(reader, table.optional("port-security")),
        multicast: read_multicast(reader, table.optional("multicast")),
        members: Vec::new(),
        uplink: None,
        clusters: Vec::new(),
    };
    read_members(reader, &mut table, known, &mut lan, scope);
    check_mtu(reader, mtu_value, &lan);
    for table in table.optional("cluster").map(|v| v.tables(reader, "[[lan.cluster]]")).unwrap_or_default() {
        let cluster = cluster::read_cluster(reader, table, &lan, known, scope);
        lan.clusters.push(cluster);
    }
    if let Some(value) = table.optional("uplink") {
        lan.uplink =
            value.table(reader, "[lan.uplink]").map(|t| read_uplink(reader, t, platform, &lan, known));
    }
    table.finish(reader);
    platform.lans.push(lan);
}

fn read_arp(reader: &mut Reader<'_>, value: Option<Value<'_>>) -> ArpMode {
    let words = [("relay", ArpMode::Relay), ("suppress", ArpMode::Suppress)];
    value.and_then(|value| value.choice(reader, &words)).unwrap_or_default()
}

fn read_port_security(reader: &mut Reader<'_>, value: Option<Value<'_>>) -> PortSecurity {
    let words = [("mac", PortSecurity::Mac), ("address", PortSecurity::Address), ("off", PortSecurity::Off)];
    value.and_then(|v| v.choice(reader, &words)).unwrap_or_default()
}

fn read_multicast(reader: &mut Reader<'_>, value: Option<Value<'_>>) -> LanMulticast {
    let words = [("snoop", LanMulticast::Snoop), ("flood", LanMulticast::Flood)];
    value.and_then(|v| v.choice(reader, &words)).unwrap_or_default()
}

//= spec/platform-file.md#mtu
//# The MTU of a LAN MUST lie between 68 and 16896 octets, and be at least 1280 when a member has an IPv6 address.
fn check_mtu(reader: &mut Reader<'_>, value: Option<Value<'_>>, lan: &Lan) {
    let has_ipv6 = lan.members.iter().flat_map(|m| &m.addresses).any(|a| a.address.is_ipv6());
    let Some(value) = value.filter(|_| has_ipv6 && lan.mtu < MTU_MIN_IPV6) else { return };
    reader.mistake(
        value.offset,
        format!("`mtu` is {} on a LAN with IPv6 addresses", lan.mtu),
        "IPv6 needs at least 1280: raise `mtu`, or remove the IPv6 addresses",
    );
}

//= spec/platform-file.md#members
//# A LAN MUST have a member, and a node MUST be a member of a LAN once at most.
fn read_members(
    reader: &mut Reader<'_>,
    table: &mut Table<'_>,
    known: &mut Known,
    lan: &mut Lan,
    scope: usize,
) {
    let value = table.optional("member");
    let offset = value.map_or(table.offset, |v| v.offset);
    let members = value.map(|v| v.tables(reader, "[[lan.member]]")).unwrap_or_default();
    let is_list = value.is_none_or(|v| v.is_list());
    if members.is_empty() && is_list {
        reader.mistake(
            offset,
            format!("LAN {:?} has no member", lan.name),
            "add a section [[lan.member]] with node = \"NAME\", or remove the LAN",
        );
    }
    for table in members {
        let member = read_member(reader, table, known, lan, scope);
        lan.members.push(member);
    }
}

fn read_uplink(
    reader: &mut Reader<'_>,
    mut table: Table<'_>,
    platform: &Platform,
    lan: &Lan,
    known: &Known,
) -> Uplink {
    let modes = [("filtered", UplinkMode::Filtered), ("unfiltered", UplinkMode::Unfiltered)];
    let mode = table.required(reader, "mode", "\"filtered\"").and_then(|v| v.choice(reader, &modes));
    let vid = table.optional("vid").and_then(|v| v.integer16(reader, 1..=4094));
    let default_router =
        table.optional("default-router").and_then(|v| read_default_router(reader, v, lan, known));
    let driver = read_driver(reader, table.optional("driver"));
    let link_dependency = table.optional("link-dependency").and_then(|v| v.boolean(reader)).unwrap_or(false);
    let mut ports = Vec::new();
    if let Some(value) = table.required(reader, "ports", "[{ control-node = \"cn-a\", device = \"eth1\" }]") {
        let tables = value.tables(reader, "ports");
        if tables.is_empty() && value.is_list() {
            reader.mistake(
                value.offset,
                "the uplink has no port",
                "add one: { control-node = \"cn-a\", device = \"eth1\" }",
            );
        }
        for table in tables {
            ports.extend(read_port(reader, table, platform, vid, driver));
        }
    }
    table.finish(reader);
    Uplink { mode: mode.unwrap_or(UplinkMode::Filtered), vid, default_router, driver, link_dependency, ports }
}

//= spec/platform-file.md#routers-of-clusters
//# The default router of an uplink MUST be a member of its LAN, or an address of a cluster of it that has routers.
fn read_default_router(
    reader: &mut Reader<'_>,
    value: Value<'_>,
    lan: &Lan,
    known: &Known,
) -> Option<DefaultRouter> {
    let Ok(address) = value.string(reader)?.parse::<IpAddr>() else {
        let node = read_node_reference(reader, value, known)?;
        require_member(reader, value, node, lan);
        return Some(DefaultRouter::Node(node));
    };
    let routes = |cluster: &Cluster| cluster.addresses.contains(&address) && !cluster.routers.is_empty();
    if !lan.clusters.iter().any(routes) {
        reader.mistake(
            value.offset,
            format!("{address} is no address of a cluster with routers of LAN {:?}", lan.name),
            "name a member, or give a [[lan.cluster]] with this address `routers`",
        );
    }
    Some(DefaultRouter::Cluster(address))
}

fn read_driver(reader: &mut Reader<'_>, value: Option<Value<'_>>) -> Driver {
    let words = [
        ("auto", Driver::Auto),
        ("af-xdp", Driver::AfXdp),
        ("af-packet", Driver::AfPacket),
        ("tap", Driver::Tap),
    ];
    value.and_then(|value| value.choice(reader, &words)).unwrap_or_default()
}

fn read_port(
    reader: &mut Reader<'_>,
    mut table: Table<'_>,
    platform: &Platform,
    vid: Option<u16>,
    driver: Driver,
) -> Option<UplinkPort> {
    let offset = table.offset;
    let control_node = table.required(reader, "control-node", "\"cn-a\"").and_then(|value| {
        let name = value.string(reader)?;
        let index = platform.control_nodes.iter().position(|c| c.name == name);
        if index.is_none() {
            let names = platform.control_nodes.iter().map(|c| c.name.as_str());
            unknown(reader, value.offset, "control node", name, names);
        }
        index
    });
    let device = table.required(reader, "device", "\"eth1\"").and_then(|value| {
        let text = value.string(reader)?;
        reader.accept(value.offset, value::interface_name(text)).map(str::to_owned)
    });
    table.finish(reader);
    let port = UplinkPort { control_node: control_node?, device: device? };
    check_driver(reader, platform, &port, driver, offset);
    let tag = vid.map_or("untagged".to_owned(), |vid| format!("tag {vid}"));
    reader.claim(Kind::Outside, port.control_node, format!("{tag} on {}", port.device), offset);
    Some(port)
}

//= spec/uplink.md#one-driver
//# The uplinks that leave by one device MUST name one driver.
fn check_driver(
    reader: &mut Reader<'_>,
    platform: &Platform,
    port: &UplinkPort,
    driver: Driver,
    offset: usize,
) {
    let other = platform.lans.iter().find(|lan| {
        lan.uplink.as_ref().is_some_and(|other| other.driver != driver && other.ports.contains(port))
    });
    if let Some(other) = other {
        reader.mistake(
            offset,
            format!("the uplink of LAN {:?} has another `driver` for {}", other.name, port.device),
            "give the uplinks that share a device one `driver`",
        );
    }
}
