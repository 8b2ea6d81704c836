//! From what the machine and the nodes say to what the management interface says.

mod clusters;
mod rvis;
mod uplinks;

use std::collections::BTreeSet;

use platform::management::{
    Binding, Counter, Drop, DropExample, Group, GroupMember, Interface, Lan, LanMember, Node, Status,
};
use vlan_core::group::members::EveryGroup;
use vlan_core::wire::control::{GroupCause, ReportItem, ReportedDrop};
use vlan_core::{DropReason, Instant, LanId, MacAddress, NodeNumber};

use super::frame_text::frame_text;
use super::view::{Examples, Reports};
use crate::control_node::{self, GroupSource, GroupStatus, LanStatus, NodeStatus, RviState};

pub use clusters::clusters;
pub use rvis::{rvis, rvis_of_pair};
pub use uplinks::{DeviceInUse, DevicesInUse, uplinks};

/// The machine at a glance; what only the host knows is left at its default.
pub fn status(name: &str, status: &control_node::Status) -> Status {
    Status {
        name: name.to_owned(),
        epoch: status.epoch,
        nodes_attached: count(status.nodes.iter().filter(|node| node.process.is_some())),
        nodes_total: count(&status.nodes),
        lans: count(&status.lans),
        rvis_direct: count(status.rvis.iter().filter(|rvi| rvi.state != RviState::Cut)),
        bindings: count(&status.bindings),
        ..Status::default()
    }
}

fn count<T>(things: impl IntoIterator<Item = T>) -> u32 {
    u32::try_from(things.into_iter().count()).unwrap_or(u32::MAX)
}

/// Every node with its interfaces.
pub fn nodes(status: &control_node::Status) -> Vec<Node> {
    let node = |node: &NodeStatus| {
        let mut interfaces: Vec<Interface> =
            status.lans.iter().flat_map(|lan| interfaces(status, lan, node.number)).collect();
        interfaces.sort_by_key(|interface| interface.vif);
        Node {
            name: node.name.clone(),
            number: node.number.0,
            attached: node.process.is_some(),
            process: node.process.map_or_else(String::new, |process| format!("{:016x}", process.0)),
            interfaces,
        }
    };
    status.nodes.iter().map(node).collect()
}

fn interfaces(status: &control_node::Status, lan: &LanStatus, node: NodeNumber) -> Vec<Interface> {
    let members = lan.members.iter().filter(|member| member.node == node);
    let interface = |member: &control_node::MemberStatus| Interface {
        lan: lan.name.clone(),
        vif: member.vif.0,
        mac: member.mac.to_string(),
        name: member.interface.clone(),
        addresses: status
            .bindings
            .iter()
            .filter(|binding| (binding.node, binding.vif, binding.lan) == (node, member.vif, lan.id))
            .map(|binding| binding.address.to_string())
            .collect(),
    };
    members.map(interface).collect()
}

/// Every LAN with its members.
pub fn lans(status: &control_node::Status) -> Vec<Lan> {
    let lan = |lan: &LanStatus| Lan {
        name: lan.name.clone(),
        id: lan.id.0,
        mtu: lan.mtu,
        members: lan
            .members
            .iter()
            .map(|member| LanMember {
                node: node_name(status, member.node),
                vif: member.vif.0,
                mac: member.mac.to_string(),
                attached: member.attached,
                promiscuous: promiscuous(member).to_owned(),
                refused: member.refused_listens,
                learn: member.learn,
                stations: member.stations.iter().map(ToString::to_string).collect(),
            })
            .collect(),
    };
    status.lans.iter().map(lan).collect()
}

/// Whether a member listens promiscuously.
fn promiscuous(member: &control_node::MemberStatus) -> &'static str {
    match (member.listens, member.may_listen) {
        (true, _) => "listens",
        (false, true) => "may",
        (false, false) => "no",
    }
}

/// Every binding, and the stations behind interfaces of which no address is known.
pub fn bindings(status: &control_node::Status) -> Vec<Binding> {
    let stations = stations(status);
    let learned: BTreeSet<_> = stations.iter().map(|(lan, mac, _)| (*lan, *mac)).collect();
    let bound: BTreeSet<_> = status.bindings.iter().map(|binding| (binding.lan, binding.mac)).collect();
    let binding = |binding: &control_node::BindingStatus| Binding {
        address: binding.address.to_string(),
        mac: binding.mac.to_string(),
        node: node_name(status, binding.node),
        lan: lan_name(status, binding.lan),
        vif: binding.vif.0,
        station: learned.contains(&(binding.lan, binding.mac)),
    };
    let station = |&(lan, mac, member): &(LanId, MacAddress, &control_node::MemberStatus)| Binding {
        address: String::new(),
        mac: mac.to_string(),
        node: node_name(status, member.node),
        lan: lan_name(status, lan),
        vif: member.vif.0,
        station: true,
    };
    let without_address = stations.iter().filter(|(lan, mac, _)| !bound.contains(&(*lan, *mac)));
    status.bindings.iter().map(binding).chain(without_address.map(station)).collect()
}

/// The stations of all LANs, each with the member that it is behind.
fn stations(status: &control_node::Status) -> Vec<(LanId, MacAddress, &control_node::MemberStatus)> {
    let mut stations = Vec::new();
    for lan in &status.lans {
        for member in &lan.members {
            stations.extend(member.stations.iter().map(|mac| (lan.id, *mac, member)));
        }
    }
    stations
}

/// Every multicast group; `status` knows the names.
pub fn groups(status: &control_node::Status, groups: &[GroupStatus]) -> Vec<Group> {
    let member = |member: &control_node::GroupMemberStatus| GroupMember {
        node: node_name(status, member.node),
        vif: member.vif.0,
        source: group_source(member.source).to_owned(),
        age_s: member.age.map_or(0, |age| age.as_secs()),
    };
    let group = |group: &GroupStatus| Group {
        lan: lan_name(status, group.lan),
        group: group.group.map_or_else(|| "*".to_owned(), |address| address.to_string()),
        members: group.members.iter().map(member).collect(),
    };
    groups.iter().map(group).collect()
}

fn group_source(source: GroupSource) -> &'static str {
    match source {
        GroupSource::Joined(GroupCause::Own) => "own",
        GroupSource::Joined(GroupCause::Reported) => "report",
        GroupSource::Joined(GroupCause::Both) => "own+report",
        GroupSource::Every(EveryGroup::Configured) => "configured",
        GroupSource::Every(EveryGroup::Unsaid) => "unsaid",
        GroupSource::Every(EveryGroup::Asked) => "asked",
        GroupSource::Every(EveryGroup::NoRoom) => "no-room",
        GroupSource::Every(EveryGroup::Listens) => "listens",
    }
}

fn node_name(status: &control_node::Status, node: NodeNumber) -> String {
    let found = status.nodes.iter().find(|entry| entry.number == node);
    found.map_or_else(|| format!("node {node}"), |entry| entry.name.clone())
}

fn lan_name(status: &control_node::Status, lan: LanId) -> String {
    let found = status.lans.iter().find(|entry| entry.id == lan);
    found.map_or_else(String::new, |entry| entry.name.clone())
}

/// Every reason that was met, at this control node and at every interface that reported.
pub fn drops(
    control_node: &str,
    status: &control_node::Status,
    reports: &Reports,
    examples: &Examples,
    now: Instant,
) -> Vec<Drop> {
    let mut own = status.drops.clone();
    status.lans.iter().for_each(|lan| own.add_all(&lan.drops));
    status.uplinks.iter().for_each(|uplink| own.add_all(&uplink.counters.drops));
    status.devices.iter().for_each(|device| own.add_all(&device.drops));
    let own = own.iter().map(|(reason, frames)| Drop {
        place: control_node.to_owned(),
        reason: reason.name().to_owned(),
        frames,
        example: last_example(status, reason, now),
        per_second: None,
    });
    let relayed = status.relay.drops().map(|(reason, frames)| Drop {
        place: control_node.to_owned(),
        reason: reason.to_owned(),
        frames,
        ..Drop::default()
    });
    let of_nodes = reports
        .iter()
        .flat_map(|(&node, items)| items.iter().map(move |item| (node, item)))
        .filter_map(|(node, item)| drop_of_node(status, node, item, examples.get(&node)));
    own.chain(relayed).chain(of_nodes).collect()
}

/// Reads an item of the form `vif.V.drop.REASON` or `node.drop.REASON`.
fn drop_of_node(
    status: &control_node::Status,
    node: NodeNumber,
    item: &ReportItem,
    examples: Option<&Vec<ReportedDrop>>,
) -> Option<Drop> {
    if let Some(reason) = item.name.strip_prefix("node.drop.") {
        let place = node_name(status, node).to_owned();
        return Some(Drop { place, reason: reason.to_owned(), frames: item.value, ..Drop::default() });
    }
    let (vif, reason) = item.name.strip_prefix("vif.")?.split_once(".drop.")?;
    let vif: u16 = vif.parse().ok()?;
    let is_here =
        |lan: &&LanStatus| lan.members.iter().any(|member| member.node == node && member.vif.0 == vif);
    let lan = status.lans.iter().find(is_here).map_or("?", |lan| lan.name.as_str());
    let place = format!("{}/{lan}", node_name(status, node));
    let example = examples.into_iter().flatten().find(|known| known.vif.0 == vif && known.reason == reason);
    let example = example.map(|known| example_of(known.age_ms, known.frame_octets, &known.headers));
    Some(Drop { place, reason: reason.to_owned(), frames: item.value, example, per_second: None })
}

/// The last frame that any LAN's server has dropped for this reason.
fn last_example(status: &control_node::Status, reason: DropReason, now: Instant) -> Option<DropExample> {
    let examples = status.drop_examples.iter().filter(|example| example.reason == reason);
    let last = examples.max_by_key(|example| example.at)?;
    let age_ms = u64::try_from(now.since(last.at).as_millis()).unwrap_or(u64::MAX);
    Some(example_of(age_ms, u32::try_from(last.frame_len).unwrap_or(u32::MAX), &last.headers))
}

fn example_of(age_ms: u64, octets: u32, headers: &[u8]) -> DropExample {
    let digits = headers.iter().map(|octet| format!("{octet:02x}")).collect();
    DropExample { age_ms, octets, text: frame_text(headers, octets as usize), headers: digits }
}

/// Every counter of this control node, then those of the nodes.
pub fn counters(status: &control_node::Status, reports: &Reports) -> Vec<Counter> {
    let unplaced = status.drops.iter().map(|(reason, n)| counter(format!("drop.{reason}"), n));
    let relay = [("relay.packets", status.relay.packets), ("relay.octets", status.relay.octets)];
    let relay = relay.into_iter().map(|(name, n)| counter(name.to_owned(), n));
    let relay_drops = status.relay.drops().map(|(reason, n)| counter(format!("drop.{reason}"), n));
    let own = unplaced
        .chain(relay)
        .chain(relay_drops)
        .chain(status.lans.iter().flat_map(|lan| lan_counters(status, lan)))
        .chain(uplinks::counters(status))
        .chain(clusters::counters(status));
    let of_nodes = reports.iter().flat_map(|(&node, items)| {
        let name = node_name(status, node);
        items.iter().map(move |item| counter(format!("node.{name}.{}", item.name), item.value))
    });
    own.chain(of_nodes).collect()
}

fn lan_counters(status: &control_node::Status, lan: &LanStatus) -> Vec<Counter> {
    let name = |what: &str| format!("lan.{}.{what}", lan.name);
    let ledger = lan.ledger;
    let mut all = vec![
        counter(name("ingress.frames"), ledger.ingress),
        counter(name("clones.frames"), ledger.clones),
        counter(name("egress.frames"), ledger.egress),
        counter(name("outside.frames"), ledger.outside),
        counter(name("no-receiver.frames"), ledger.no_receiver),
        counter(name("arp.answered"), lan.arp_answered),
        counter(name("arena.octets"), lan.arena.octets.into()),
        counter(name("arena.used"), lan.arena.used.into()),
        counter(name("arena.members"), lan.arena.members as u64),
        counter(name("arena.references"), lan.arena.references),
        counter(name("arena.evictions"), lan.arena.evictions),
    ];
    for member in &lan.members {
        let name = |what: &str| format!("lan.{}.{}.{what}", lan.name, node_name(status, member.node));
        all.push(counter(name("ingress.frames"), member.ingress.frames));
        all.push(counter(name("ingress.octets"), member.ingress.octets));
        all.push(counter(name("egress.frames"), member.egress.frames));
        all.push(counter(name("egress.octets"), member.egress.octets));
    }
    all.extend(lan.drops.iter().map(|(reason, frames)| counter(name(&format!("drop.{reason}")), frames)));
    all
}

fn counter(name: String, value: u64) -> Counter {
    Counter { name, value }
}

#[cfg(test)]
mod tests;
