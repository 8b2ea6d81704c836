//! `[[lan.member]]`: a node's membership in a LAN, which is one virtual interface.

use std::net::IpAddr;

use vlan_core::limits::{ADDRESSES_PER_VIF_MAX, VIFS_PER_NODE_MAX};
use vlan_core::security::learned::LEARNED_MAX;
use vlan_core::security::{Limits, Rate, Roles};
use vlan_core::wire::control::InterfaceAddress;
use vlan_core::{MacAddress, NodeNumber};

use crate::model::{Attach, Lan, LanMulticast, Member};
use crate::reader::{Reader, Table, Value};
use crate::registry::Kind;
use crate::sections::{Known, unknown};
use crate::value;

/// Stations behind one member.
const LEARN_MAX: u16 = 4096;
/// TOML integers end at the largest i64.
const LIMIT: std::ops::RangeInclusive<u64> = 1..=i64::MAX as u64;

/// Reads one `[[lan.member]]`; `scope` is the LAN's place in the file.
pub(super) fn read_member(
    reader: &mut Reader<'_>,
    mut table: Table<'_>,
    known: &mut Known,
    lan: &Lan,
    scope: usize,
) -> Member {
    let node = table.required(reader, "node", "\"web1\"").and_then(|value| {
        let node = read_node_reference(reader, value, known)?;
        let name = value.string(reader)?;
        reader.claim(Kind::Member, scope, name, value.offset);
        Some(node)
    });
    let node = node.filter(|node| *node != NodeNumber::default());
    if let Some(node) = node {
        count_interface(reader, table.offset, node, known);
    }
    let node = node.unwrap_or_default();
    let interface = read_interface(reader, &mut table, node, lan);
    let mac = table.optional("mac").and_then(|v| read_mac(reader, v));
    let addresses = read_addresses(reader, table.optional("address"), scope);
    let gateways = read_gateways(reader, table.optional("gateway"), &addresses);
    let promiscuous = table.optional("promiscuous").and_then(|value| value.boolean(reader));
    let roles = read_roles(reader, table.optional("role"));
    let aliases = read_aliases(reader, table.optional("alias"), addresses.len(), scope);
    let learn = read_learn(reader, table.optional("learn"), lan);
    let attach = table.optional("attach").and_then(|v| read_attach(reader, v)).unwrap_or_default();
    let every_group = read_multicast(reader, table.optional("multicast"), lan);
    let limits = table.optional("limits").and_then(|v| read_limits(reader, v)).unwrap_or_default();
    table.finish(reader);
    Member {
        node,
        interface,
        mac,
        addresses,
        gateways,
        aliases,
        promiscuous: promiscuous.unwrap_or(false),
        roles,
        learn,
        attach,
        every_group,
        limits,
    }
}

//= spec/platform-file.md#stations-behind-members
//# The stations that may be learned behind the members of a LAN MUST be 16384 at most together, and 4096 behind one
//# member.
fn read_learn(reader: &mut Reader<'_>, value: Option<Value<'_>>, lan: &Lan) -> u16 {
    let Some(value) = value else { return 0 };
    let learn = value.integer16(reader, 0..=LEARN_MAX).unwrap_or(0);
    let others = lan.members.iter().map(|member| usize::from(member.learn)).sum::<usize>();
    if others + usize::from(learn) > LEARNED_MAX {
        reader.mistake(
            value.offset,
            format!("{learn} stations behind this member and {others} behind others of the LAN"),
            format!("a LAN learns {LEARNED_MAX} at most: lower `learn` here or before"),
        );
        return 0;
    }
    learn
}

/// The node of that name; notes a mistake when there is none.
pub(super) fn read_node_reference(
    reader: &mut Reader<'_>,
    value: Value<'_>,
    known: &Known,
) -> Option<NodeNumber> {
    let name = value.string(reader)?;
    let node = known.nodes.get(name).copied();
    if node.is_none() {
        unknown(reader, value.offset, "node", name, known.nodes.keys().map(String::as_str));
    }
    node
}

//= spec/platform-file.md#interfaces-of-a-node
//# A node MUST have 127 interfaces at most.
fn count_interface(reader: &mut Reader<'_>, offset: usize, node: NodeNumber, known: &mut Known) {
    let count = known.interfaces.entry(node).or_default();
    *count += 1;
    // Said once for each node: at the first interface too many.
    if *count == VIFS_PER_NODE_MAX + 1 {
        reader.mistake(
            offset,
            format!("node {node} has more than {VIFS_PER_NODE_MAX} interfaces"),
            format!("a node is a member of at most {VIFS_PER_NODE_MAX} LANs: remove memberships"),
        );
    }
}

/// The name of the interface: the LAN's name when the member gives none.
fn read_interface(reader: &mut Reader<'_>, table: &mut Table<'_>, node: NodeNumber, lan: &Lan) -> String {
    let (text, offset) = match table.optional("interface") {
        Some(value) => match value.string(reader) {
            Some(text) => (text, value.offset),
            None => return String::new(),
        },
        // A LAN name with a mistake has been reported already.
        None if value::name(&lan.name).is_err() => return String::new(),
        None => (lan.name.as_str(), table.offset),
    };
    let accepted = reader.accept(offset, value::interface_name(text)).is_some();
    if accepted && node != NodeNumber::default() {
        reader.claim(Kind::Interface, usize::from(node.0), text, offset);
    }
    text.to_owned()
}

//= spec/platform-file.md#mac-addresses
//# A MAC address in the file MUST be the unicast address of one station.
fn read_mac(reader: &mut Reader<'_>, value: Value<'_>) -> Option<MacAddress> {
    let text = value.string(reader)?;
    let Ok(mac) = text.parse::<MacAddress>() else {
        reader.mistake(
            value.offset,
            format!("{text:?} is not a MAC address"),
            "write six pairs of hexadecimal digits joined by colons, such as 52:54:00:00:00:2a",
        );
        return None;
    };
    if !mac.is_station() {
        let kind = if mac.is_group() { "a group address" } else { "the null address" };
        reader.mistake(
            value.offset,
            format!("{mac} is {kind}"),
            "an interface has a unicast MAC: the first octet is even, and not all are zero",
        );
        return None;
    }
    reader.claim(Kind::Mac, 0, mac.to_string(), value.offset);
    Some(mac)
}

fn read_addresses(reader: &mut Reader<'_>, value: Option<Value<'_>>, scope: usize) -> Vec<InterfaceAddress> {
    let mut addresses = Vec::new();
    let Some(value) = value else { return addresses };
    for (text, offset) in value.strings(reader) {
        if addresses.len() == ADDRESSES_PER_VIF_MAX {
            reader.mistake(
                offset,
                "too many addresses",
                format!("an interface has at most {ADDRESSES_PER_VIF_MAX} addresses"),
            );
            break;
        }
        let Some(address) = reader.accept(offset, value::interface_address(text)) else { continue };
        reader.claim(Kind::Address, scope, address.address.to_string(), offset);
        addresses.push(address);
    }
    addresses
}

//= spec/platform-file.md#aliases
//# An alias MUST be the address of a station without a prefix length, and an interface MUST have 64 addresses and aliases
//# at most.
fn read_aliases(
    reader: &mut Reader<'_>,
    value: Option<Value<'_>>,
    addresses: usize,
    scope: usize,
) -> Vec<IpAddr> {
    let mut aliases = Vec::new();
    let Some(value) = value else { return aliases };
    for (text, offset) in value.strings(reader) {
        let Some(alias) = reader.accept(offset, value::station_address(text)) else { continue };
        if addresses + aliases.len() == ADDRESSES_PER_VIF_MAX {
            reader.mistake(
                offset,
                "too many aliases",
                format!("an interface has at most {ADDRESSES_PER_VIF_MAX} addresses and aliases"),
            );
            break;
        }
        reader.claim(Kind::Address, scope, alias.to_string(), offset);
        aliases.push(alias);
    }
    aliases
}

/// One role or a list of them: a router is often the DHCP server too.
fn read_roles(reader: &mut Reader<'_>, value: Option<Value<'_>>) -> Roles {
    let words = [
        ("dhcp-server", Roles { dhcp_server: true, router: false }),
        ("router", Roles { dhcp_server: false, router: true }),
    ];
    let roles = value.map(|v| v.choices(reader, &words)).unwrap_or_default();
    roles.into_iter().fold(Roles::default(), |all, role| Roles {
        dhcp_server: all.dhcp_server || role.dhcp_server,
        router: all.router || role.router,
    })
}

//= spec/platform-file.md#gateways
//# A gateway MUST be another address of a subnet in which the member has one, and there MUST be at most one for each
//# of IPv4 and IPv6.
fn read_gateways(
    reader: &mut Reader<'_>,
    value: Option<Value<'_>>,
    addresses: &[InterfaceAddress],
) -> Vec<IpAddr> {
    let mut gateways: Vec<IpAddr> = Vec::new();
    let Some(value) = value else { return gateways };
    for (text, offset) in value.strings(reader) {
        let Some(gateway) = reader.accept(offset, value::station_address(text)) else { continue };
        if addresses.iter().any(|a| a.address == gateway) {
            reader.mistake(
                offset,
                format!("the gateway {gateway} is the member's own address"),
                "name another station of the LAN",
            );
        } else if !addresses.iter().any(|a| value::in_subnet(a, gateway)) {
            reader.mistake(
                offset,
                format!("the gateway {gateway} is in none of the member's subnets"),
                "give the member an address in the gateway's subnet, or correct the gateway",
            );
        } else if gateways.iter().any(|g| g.is_ipv4() == gateway.is_ipv4()) {
            reader.mistake(
                offset,
                format!("a second gateway for IPv{}", if gateway.is_ipv4() { 4 } else { 6 }),
                "name one gateway for each of IPv4 and IPv6 at most",
            );
        }
        gateways.push(gateway);
    }
    gateways
}

fn read_attach(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Attach> {
    let text = value.string(reader)?;
    if text == "tap" {
        return Some(Attach::Tap);
    }
    let Some(path) = text.strip_prefix("vhost-user:") else {
        reader.mistake(
            value.offset,
            format!("{text:?} is not a way to attach"),
            "write \"tap\" or \"vhost-user:PATH\"",
        );
        return None;
    };
    reader.not_built(value.offset, "a vhost-user attachment");
    let path = reader.accept(value.offset, value::file_path(path))?;
    let path = reader.folder.join(path);
    reader.claim(Kind::Socket, 0, path.to_string_lossy(), value.offset);
    Some(Attach::VhostUser(path))
}

//= spec/platform-file.md#multicast
//# A member MUST NOT ask for every group of a LAN that gives every group to every member.
fn read_multicast(reader: &mut Reader<'_>, value: Option<Value<'_>>, lan: &Lan) -> bool {
    let choice = value.and_then(|v| Some((v, v.choice(reader, &[("joined", false), ("all", true)])?)));
    let Some((value, every_group)) = choice else { return false };
    if every_group && lan.multicast == LanMulticast::Flood {
        reader.mistake(
            value.offset,
            format!("LAN {:?} gives every multicast group to every member", lan.name),
            "remove `multicast` here, or `multicast = \"flood\"` from the LAN",
        );
    }
    every_group
}

//= spec/platform-file.md#limits
//# A limit of broadcast, multicast or unknown unicast frames MUST be a number of frames a second or a table of `frames` and
//# `bits`, and each number at least 1.
fn read_limits(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Limits> {
    let mut table = value.table(reader, "limits")?;
    let mut kind = |key| table.optional(key).map(|v| read_rate(reader, v)).unwrap_or_default();
    let (broadcast, multicast, unknown) = (kind("broadcast"), kind("multicast"), kind("unknown"));
    let total = read_total(reader, &mut table);
    table.finish(reader);
    Some(Limits { broadcast, multicast, unknown, total })
}

/// Frames a second, or a table of frames and bits.
fn read_rate(reader: &mut Reader<'_>, value: Value<'_>) -> Rate {
    if !value.is_table() {
        return Rate { frames: value.integer(reader, LIMIT), bits: None };
    }
    let Some(mut table) = value.table(reader, "a limit") else { return Rate::default() };
    let rate = read_total(reader, &mut table);
    table.finish(reader);
    rate
}

fn read_total(reader: &mut Reader<'_>, table: &mut Table<'_>) -> Rate {
    let mut limit = |key| table.optional(key).and_then(|v| v.integer(reader, LIMIT));
    Rate { frames: limit("frames"), bits: limit("bits") }
}

/// Notes a mistake when the node is not a member of the LAN.
pub(super) fn require_member(reader: &mut Reader<'_>, value: Value<'_>, node: NodeNumber, lan: &Lan) {
    if !lan.members.iter().any(|m| m.node == node) {
        let name = value.string(reader).unwrap_or_default();
        reader.mistake(
            value.offset,
            format!("node {name:?} is not a member of LAN {:?}", lan.name),
            "name a member, or make the node one",
        );
    }
}
