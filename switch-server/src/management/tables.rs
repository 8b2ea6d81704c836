//! From what the machine and the nodes say to what the management interface says.

use platform::management::{
    Binding, Counter, Drop, DropExample, Group, GroupMember, Interface, Lan, LanMember, LegEnd, Node, Rvi,
    RviEnd, RviLeg, Status,
};
use rvi::packet::sender::PacketLegState;
use vlan_core::group::members::EveryGroup;
use vlan_core::wire::control::{GroupCause, ReportItem, ReportedDrop};
use vlan_core::{DropReason, Instant, LanId, NodeNumber};

use super::frame_text::frame_text;
use super::view::{Examples, Reports};
use crate::control_node::{self, GroupSource, GroupStatus, LanStatus, NodeStatus, RviState, RviStatus};

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
            })
            .collect(),
    };
    status.lans.iter().map(lan).collect()
}

/// Every binding.
pub fn bindings(status: &control_node::Status) -> Vec<Binding> {
    let binding = |binding: &control_node::BindingStatus| Binding {
        address: binding.address.to_string(),
        mac: binding.mac.to_string(),
        node: node_name(status, binding.node),
        lan: lan_name(status, binding.lan),
        vif: binding.vif.0,
    };
    status.bindings.iter().map(binding).collect()
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

/// The numbers of the legs that go by control nodes.
const RELAY_LEGS: [u8; 2] = [14, 15];

// --- direct RVIs --------------------------------------------------------------------------------------------

/// How many direct RVIs a pair has.
pub fn rvis_of_pair(status: &control_node::Status, a: NodeNumber, b: NodeNumber) -> u32 {
    let pair = (a.min(b), a.max(b));
    let is_pair =
        |rvi: &&RviStatus| (rvi.a.min(rvi.b), rvi.a.max(rvi.b)) == pair && rvi.state != RviState::Cut;
    count(status.rvis.iter().filter(is_pair))
}

/// Every direct RVI; `fabrics` are the names of the fabrics by leg number.
pub fn rvis(status: &control_node::Status, reports: &Reports, fabrics: &[String]) -> Vec<Rvi> {
    let rvi = |rvi: &RviStatus| {
        let mut legs: Vec<RviLeg> =
            (0_u8..).zip(fabrics).map(|(leg, name)| rvi_leg(rvi, reports, leg, name)).collect();
        legs.extend(RELAY_LEGS.iter().filter_map(|&leg| relay_leg(rvi, reports, leg)));
        let is_up = legs.iter().any(|leg| leg.state == "up");
        Rvi {
            rvi: rvi.rvi.0,
            lan: lan_name(status, rvi.lan),
            a: rvi_end(status, reports, rvi, rvi.a, rvi.b),
            b: rvi_end(status, reports, rvi, rvi.b, rvi.a),
            state: match rvi.state {
                RviState::Granted if is_up => "up",
                RviState::Granted | RviState::Adopting => "granted",
                RviState::Ending => "ending",
                RviState::Cut => "cut",
            }
            .to_owned(),
            legs,
        }
    };
    status.rvis.iter().map(rvi).collect()
}

/// A leg by a control node, if an end has it.
fn relay_leg(rvi: &RviStatus, reports: &Reports, leg: u8) -> Option<RviLeg> {
    let has_leg =
        |node: NodeNumber, peer: NodeNumber| leg_item(reports, node, peer, leg, "tx.packets").is_some();
    let is_there = has_leg(rvi.a, rvi.b) || has_leg(rvi.b, rvi.a);
    let name = format!("control node {}", leg - RELAY_LEGS[0]);
    is_there.then(|| RviLeg { kind: "relay".to_owned(), ..rvi_leg(rvi, reports, leg, &name) })
}

fn rvi_leg(rvi: &RviStatus, reports: &Reports, leg: u8, fabric: &str) -> RviLeg {
    let has_leg =
        |node: NodeNumber, peer: NodeNumber| leg_item(reports, node, peer, leg, "tx.messages").is_some();
    let is_cut = rvi.state == RviState::Cut || rvi.legs_cut.iter().any(|cut| cut.0 == leg);
    let state = match is_cut {
        true => "cut",
        false if has_leg(rvi.a, rvi.b) && has_leg(rvi.b, rvi.a) => "up",
        false => packet_leg_state(rvi, reports, leg),
    };
    let given = rvi.legs.iter().find(|given| given.leg.0 == leg);
    let addresses = given.and_then(|given| given.addresses);
    let [a_address, b_address] =
        addresses.map_or_else(Default::default, |ends| ends.map(|address| address.to_string()));
    RviLeg {
        fabric: fabric.to_owned(),
        state: state.to_owned(),
        kind: given.map_or_else(String::new, |given| given.kind.to_string()),
        a: LegEnd { address: a_address, ..leg_end(reports, rvi.a, rvi.b, leg) },
        b: LegEnd { address: b_address, ..leg_end(reports, rvi.b, rvi.a, leg) },
    }
}

/// What `node` reports of its end of a leg to `peer`.
fn leg_end(reports: &Reports, node: NodeNumber, peer: NodeNumber, leg: u8) -> LegEnd {
    let item = |what: &str| leg_item(reports, node, peer, leg, what);
    LegEnd {
        address: String::new(),
        score: item("score").unwrap_or(0),
        rtt_ns: item("rtt.ns").unwrap_or(0),
        packet_octets: item("packet.octets").unwrap_or(0),
        tx_packets: item("tx.packets").or_else(|| item("tx.messages")).unwrap_or(0),
        tx_octets: item("tx.octets").unwrap_or(0),
        rx_packets: item("rx.packets").or_else(|| item("rx.messages")).unwrap_or(0),
        rx_octets: item("rx.octets").unwrap_or(0),
        lost: item("lost").unwrap_or(0),
        resends: item("resends").unwrap_or(0),
        spurious: item("spurious").unwrap_or(0),
        duplicates: item("duplicates").unwrap_or(0),
    }
}

/// What a packet leg is good for, as the end says that thinks worse of it.
fn packet_leg_state(rvi: &RviStatus, reports: &Reports, leg: u8) -> &'static str {
    let state = |node, peer| leg_item(reports, node, peer, leg, "state");
    let (Some(a), Some(b)) = (state(rvi.a, rvi.b), state(rvi.b, rvi.a)) else { return "down" };
    let is = |state: PacketLegState| a.max(b) == state as u64;
    if is(PacketLegState::Good) {
        "up"
    } else if is(PacketLegState::Suspect) {
        "suspect"
    } else if is(PacketLegState::Starting) {
        "starting"
    } else {
        "down"
    }
}

/// One end: its interface on the LAN and what its association with the peer has carried.
fn rvi_end(
    status: &control_node::Status,
    reports: &Reports,
    rvi: &RviStatus,
    node: NodeNumber,
    peer: NodeNumber,
) -> RviEnd {
    let members = status.lans.iter().filter(|lan| lan.id == rvi.lan).flat_map(|lan| &lan.members);
    let vif = members.filter(|member| member.node == node).map(|member| member.vif.0).next();
    let figure = |what: &str| item(reports, node, &format!("node.{peer}.{what}")).unwrap_or(0);
    RviEnd {
        node: node_name(status, node),
        vif: vif.unwrap_or(0),
        tx_frames: figure("tx.frames"),
        tx_octets: figure("tx.octets"),
        rx_frames: figure("rx.frames"),
        rx_octets: figure("rx.octets"),
    }
}

/// A figure that `node` reports of a leg to `peer`.
fn leg_item(reports: &Reports, node: NodeNumber, peer: NodeNumber, leg: u8, what: &str) -> Option<u64> {
    item(reports, node, &format!("node.{peer}.leg.{leg}.{what}"))
}

fn item(reports: &Reports, node: NodeNumber, name: &str) -> Option<u64> {
    let items = reports.get(&node)?;
    items.iter().find(|item| item.name == name).map(|item| item.value)
}

// --- counters -----------------------------------------------------------------------------------------------

/// Every reason that was met, at this control node and at every interface that reported.
pub fn drops(
    control_node: &str,
    status: &control_node::Status,
    reports: &Reports,
    examples: &Examples,
    now: Instant,
) -> Vec<Drop> {
    let mut own = status.drops.clone();
    for (reason, frames) in status.lans.iter().flat_map(|lan| lan.drops.iter()) {
        own.add_many(reason, frames);
    }
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
        .chain(status.lans.iter().flat_map(|lan| lan_counters(status, lan)));
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
        counter(name("no-receiver.frames"), ledger.no_receiver),
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
mod tests {
    use super::*;
    use crate::control_node::{MemberStatus, RelayCounters, RviLegStatus};
    use vlan_core::counters::DropCounters;
    use vlan_core::wire::control::{LegAddress, LegKind};
    use vlan_core::{Channel, DropReason, LegNumber, MacAddress, ProcessId, RviNumber, VifNumber};

    fn node(number: u16, process: Option<u64>) -> NodeStatus {
        NodeStatus {
            number: NodeNumber(number),
            name: format!("web{number}"),
            process: process.map(ProcessId),
            legs: vec![LegNumber(0)],
        }
    }

    fn member(node: u16) -> MemberStatus {
        MemberStatus {
            node: NodeNumber(node),
            vif: VifNumber(1),
            mac: MacAddress([2, 0, 1, 0, 0, node as u8]),
            interface: "red".into(),
            attached: true,
            ingress: Default::default(),
            egress: Default::default(),
        }
    }

    fn udp(address: &str) -> LegAddress {
        LegAddress::Udp(address.parse().unwrap())
    }

    fn machine() -> control_node::Status {
        let mut drops = DropCounters::default();
        drops.add(DropReason::Expired);
        control_node::Status {
            epoch: 3,
            nodes: vec![node(1, Some(0xabc)), node(2, None)],
            lans: vec![LanStatus {
                id: LanId(10),
                name: "red".into(),
                mtu: 1500,
                members: vec![member(1), member(2)],
                drops,
                ledger: Default::default(),
            }],
            bindings: vec![control_node::BindingStatus {
                lan: LanId(10),
                address: "10.1.0.1".parse().unwrap(),
                mac: MacAddress([2, 0, 1, 0, 0, 1]),
                node: NodeNumber(1),
                vif: VifNumber(1),
            }],
            rvis: vec![RviStatus {
                rvi: RviNumber(7),
                lan: LanId(10),
                a: NodeNumber(1),
                b: NodeNumber(2),
                channel: Channel(8),
                state: RviState::Granted,
                legs: vec![
                    RviLegStatus { leg: LegNumber(0), kind: LegKind::Unix, addresses: None },
                    RviLegStatus {
                        leg: LegNumber(2),
                        kind: LegKind::Udp,
                        addresses: Some([udp("192.0.2.1:7401"), udp("[fd00::2]:7402")]),
                    },
                ],
                legs_cut: vec![LegNumber(1)],
            }],
            drops: DropCounters::default(),
            drop_examples: Vec::new(),
            relay: RelayCounters::default(),
        }
    }

    fn report(items: &[(&str, u64)]) -> Vec<ReportItem> {
        items.iter().map(|&(name, value)| ReportItem { name: name.into(), value }).collect()
    }

    #[test]
    fn a_direct_rvi_is_up_when_both_ends_report_a_leg_that_is_not_cut() {
        let fabrics = ["a".to_owned(), "b".to_owned()];
        let mut reports = Reports::new();
        reports.insert(
            NodeNumber(1),
            report(&[
                ("node.2.tx.frames", 6),
                ("node.2.leg.0.tx.messages", 5),
                ("node.2.leg.1.tx.messages", 1),
            ]),
        );
        let half = rvis(&machine(), &reports, &fabrics).remove(0);
        assert_eq!((half.state.as_str(), half.a.tx_frames, half.a.vif), ("granted", 6, 1));
        reports.insert(NodeNumber(2), report(&[("node.1.leg.0.tx.messages", 0)]));
        let whole = rvis(&machine(), &reports, &fabrics).remove(0);
        let states: Vec<_> = whole.legs.iter().map(|leg| leg.state.as_str()).collect();
        assert_eq!((whole.state.as_str(), states), ("up", vec!["up", "cut"]));
        assert_eq!(rvis_of_pair(&machine(), NodeNumber(2), NodeNumber(1)), 1);
    }

    #[test]
    fn a_leg_says_of_which_kind_it_is_and_where_it_ends() {
        let fabrics = ["a", "b", "c"].map(str::to_owned);
        let legs = rvis(&machine(), &Reports::new(), &fabrics).remove(0).legs;
        let said: Vec<_> =
            legs.iter().map(|leg| [&leg.kind, &leg.a.address, &leg.b.address].map(String::as_str)).collect();
        assert_eq!(said, [["unix", "", ""], ["", "", ""], ["udp", "192.0.2.1:7401", "[fd00::2]:7402"]]);
    }

    #[test]
    fn both_ends_of_a_leg_say_how_it_does() {
        let fabrics = ["a", "b", "c"].map(str::to_owned);
        let mut reports = Reports::new();
        let of_packets = [
            ("node.2.leg.2.tx.packets", 9),
            ("node.2.leg.2.rtt.ns", 80_000),
            ("node.2.leg.2.packet.octets", 1472),
            ("node.2.leg.2.lost", 3),
        ];
        reports.insert(NodeNumber(1), report(&of_packets));
        reports.insert(NodeNumber(2), report(&[("node.1.leg.0.tx.messages", 7)]));
        let legs = rvis(&machine(), &reports, &fabrics).remove(0).legs;
        let expected =
            LegEnd { tx_packets: 9, rtt_ns: 80_000, packet_octets: 1472, lost: 3, ..legs[2].a.clone() };
        assert_eq!((&legs[2].a, legs[2].b.tx_packets, legs[0].b.tx_packets), (&expected, 0, 7));
    }

    #[test]
    fn a_leg_by_a_control_node_is_shown_where_an_end_has_it() {
        let mut reports = Reports::new();
        let of_packets = |peer: u16, state: u64| {
            let name = |what: &str| format!("node.{peer}.leg.14.{what}");
            let item = |what: &str, value| ReportItem { name: name(what), value };
            vec![item("state", state), item("tx.packets", 7)]
        };
        reports.insert(NodeNumber(1), of_packets(2, PacketLegState::Good as u64));
        let legs = |reports: &Reports| rvis(&machine(), reports, &["a".to_owned()]).remove(0).legs;
        let shown = |legs: &[RviLeg]| legs[1..].iter().map(|l| (l.kind.clone(), l.state.clone())).collect();
        let half: Vec<_> = shown(&legs(&reports));
        assert_eq!(half, [("relay".to_owned(), "down".to_owned())]);
        reports.insert(NodeNumber(2), of_packets(1, PacketLegState::Good as u64));
        let whole: Vec<_> = shown(&legs(&reports));
        assert_eq!(whole, [("relay".to_owned(), "up".to_owned())]);
        assert_eq!(legs(&reports)[1].b.tx_packets, 7);
    }

    #[test]
    fn a_group_names_its_members_and_how_they_are_known() {
        let member = |node, source, age| control_node::GroupMemberStatus {
            node: NodeNumber(node),
            vif: VifNumber(1),
            source,
            age,
        };
        let age = Some(std::time::Duration::from_millis(7_900));
        let reported = GroupSource::Joined(GroupCause::Reported);
        let said = [
            GroupStatus {
                lan: LanId(10),
                group: None,
                members: vec![member(1, GroupSource::Every(EveryGroup::Asked), None)],
            },
            GroupStatus {
                lan: LanId(10),
                group: Some("ff05::7".parse().unwrap()),
                members: vec![member(2, reported, age)],
            },
        ];
        let told: Vec<_> = groups(&machine(), &said)
            .into_iter()
            .map(|group| (group.lan, group.group, group.members[0].clone()))
            .collect();
        let told_member = |node: &str, source: &str, age_s| GroupMember {
            node: node.into(),
            vif: 1,
            source: source.into(),
            age_s,
        };
        let expected = [
            ("red".into(), "*".into(), told_member("web1", "asked", 0)),
            ("red".into(), "ff05::7".into(), told_member("web2", "report", 7)),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn drops_say_where_they_happened() {
        let mut reports = Reports::new();
        let items =
            [("vif.1.drop.device-full", 4), ("vif.1.tx.direct.frames", 9), ("node.drop.no-channel", 2)];
        reports.insert(NodeNumber(2), report(&items));
        let mut status = machine();
        status.drops.add(DropReason::NoChannel);
        status.relay.full = 3;
        let (examples, now) = (Examples::new(), Instant::ZERO);
        let drops = drops("cn-a", &status, &reports, &examples, now);
        let told: Vec<_> = drops.iter().map(|d| (d.place.as_str(), d.reason.as_str(), d.frames)).collect();
        let expected = [
            ("cn-a", "expired", 1),
            ("cn-a", "no-channel", 1),
            ("cn-a", "relay-full", 3),
            ("web2/red", "device-full", 4),
            ("web2", "no-channel", 2),
        ];
        assert_eq!(told, expected);
        assert!(drops.iter().all(|drop| drop.example.is_none()));
    }

    #[test]
    fn a_drop_has_the_last_frame_of_its_place_and_reason() {
        let mut status = machine();
        let frame = [[0xff; 6], [2; 6]].concat();
        let frame = [&frame[..], &[0x88, 0xb6]].concat();
        for (at, place) in [(1, 10), (3, 11), (2, 12)] {
            let (reason, frame_len) = (DropReason::Expired, usize::from(place));
            let at = Instant::from_nanos(at * 1_000_000_000);
            let headers = frame.clone();
            status.drop_examples.push(vlan_core::drop_example::DropExample {
                place,
                reason,
                at,
                frame_len,
                headers,
            });
        }
        let mut reports = Reports::new();
        reports.insert(NodeNumber(2), report(&[("vif.1.drop.device-full", 4), ("vif.1.drop.too-long", 1)]));
        let known = |vif: u16, reason: &str| ReportedDrop {
            vif: VifNumber(vif),
            reason: reason.into(),
            age_ms: 70,
            frame_octets: 60,
            headers: frame.clone(),
        };
        let mut examples = Examples::new();
        examples.insert(NodeNumber(2), vec![known(2, "too-long"), known(1, "device-full")]);
        let now = Instant::from_nanos(5_000_000_000);
        let drops = drops("cn-a", &status, &reports, &examples, now);
        let said = |place: &str, reason: &str| {
            let drop = drops.iter().find(|drop| drop.place == place && drop.reason == reason).unwrap();
            drop.example.as_ref().map(|example| (example.age_ms, example.octets))
        };
        assert_eq!(said("cn-a", "expired"), Some((2000, 11)));
        assert_eq!(said("web2/red", "device-full"), Some((70, 60)));
        assert_eq!(said("web2/red", "too-long"), None);
    }

    #[test]
    fn nodes_have_their_interfaces_and_bound_addresses() {
        let nodes = nodes(&machine());
        assert_eq!(nodes[0].process, "0000000000000abc");
        assert_eq!(nodes[0].interfaces[0].addresses, ["10.1.0.1"]);
        assert!(!nodes[1].attached && nodes[1].process.is_empty());
        let status = status("cn-a", &machine());
        assert_eq!((status.nodes_attached, status.nodes_total, status.rvis_direct), (1, 2, 1));
    }

    #[test]
    fn counters_of_nodes_begin_with_their_name() {
        let mut reports = Reports::new();
        reports.insert(NodeNumber(1), report(&[("vif.1.tx.direct.frames", 9)]));
        let counters = counters(&machine(), &reports);
        assert!(counters.iter().any(|c| c.name == "node.web1.vif.1.tx.direct.frames" && c.value == 9));
        assert!(counters.iter().any(|c| c.name == "lan.red.drop.expired" && c.value == 1));
    }
}
