//! What operators are shown of a platform that a test makes up.

use super::*;
use crate::control_node::{
    DeviceNumber, DeviceState, DeviceStatus, MemberStatus, RelayCounters, RviLegStatus, RviStatus,
    UplinkConfig, UplinkStatus,
};
use lan_proxy::nic::Driver;
use lan_proxy::{Mode, UplinkCounters, Vid};
use platform::management::{LegEnd, RviLeg, Uplink};
use rvi::packet::sender::PacketLegState;
use vlan_core::cluster::DefaultRouter;
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
        may_listen: node == 1,
        listens: false,
        refused_listens: 0,
        learn: 2,
        stations: Vec::new(),
        ingress: Default::default(),
        egress: Default::default(),
    }
}

fn udp(address: &str) -> LegAddress {
    LegAddress::Udp(address.parse().unwrap())
}

fn uplink() -> UplinkStatus {
    let mut counters = UplinkCounters::default();
    counters.outward.add(60);
    counters.drops.add(DropReason::TooBigOutside);
    UplinkStatus {
        lan: LanId(10),
        config: UplinkConfig {
            mode: Mode::Filtered { system: MacAddress([2, 0, 1, 0, 0, 9]) },
            vid: Vid::new(100),
            device: DeviceNumber(1),
            default_router: Some(DefaultRouter::Node(NodeNumber(2))),
            link_dependency: false,
        },
        counters,
        stations: vec![MacAddress([0x52, 0, 0, 0, 0, 1])],
        last_loop: None,
    }
}

fn machine() -> control_node::Status {
    let mut drops = DropCounters::default();
    drops.add(DropReason::Expired);
    control_node::Status {
        epoch: 3,
        clusters: Vec::new(),
        nodes: vec![node(1, Some(0xabc)), node(2, None)],
        lans: vec![LanStatus {
            id: LanId(10),
            name: "red".into(),
            mtu: 1500,
            members: vec![member(1), member(2)],
            drops,
            ledger: Default::default(),
            arp_answered: 0,
            arena: Default::default(),
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
        uplinks: vec![uplink()],
        devices: vec![DeviceStatus {
            number: DeviceNumber(1),
            state: Some(DeviceState {
                device: lan_proxy::Device { mtu: 1500, offloads: true },
                has_carrier: true,
            }),
            waiting: 0,
            drops: Default::default(),
        }],
    }
}

fn report(items: &[(&str, u64)]) -> Vec<ReportItem> {
    items.iter().map(|&(name, value)| ReportItem { name: name.into(), value }).collect()
}

#[test]
fn stations_behind_interfaces_are_among_the_bindings() {
    let mut machine = machine();
    machine.lans[0].members[1].stations = vec![station(1), station(2)];
    let binding = machine.bindings[0].clone();
    machine.bindings.push(control_node::BindingStatus {
        address: "10.1.0.9".parse().unwrap(),
        mac: station(2),
        node: NodeNumber(2),
        ..binding
    });
    let shown = bindings(&machine);
    let shown: Vec<_> =
        shown.iter().map(|b| (b.address.as_str(), b.mac.as_str(), b.node.as_str(), b.station)).collect();
    assert_eq!(
        shown,
        [
            ("10.1.0.1", "02:00:01:00:00:01", "web1", false),
            ("10.1.0.9", "02:07:07:07:07:02", "web2", true),
            ("", "02:07:07:07:07:01", "web2", true),
        ]
    );
}

fn station(n: u8) -> MacAddress {
    MacAddress([2, 7, 7, 7, 7, n])
}

#[test]
fn a_direct_rvi_is_up_when_both_ends_report_a_leg_that_is_not_cut() {
    let fabrics = ["a".to_owned(), "b".to_owned()];
    let mut reports = Reports::new();
    reports.insert(
        NodeNumber(1),
        report(&[("node.2.tx.frames", 6), ("node.2.leg.0.tx.messages", 5), ("node.2.leg.1.tx.messages", 1)]),
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
fn a_node_says_how_it_drives_the_device_of_an_ether_leg() {
    let mut machine = machine();
    let given = &mut machine.rvis[0].legs;
    given.iter_mut().filter(|leg| leg.leg.0 == 2).for_each(|leg| leg.kind = LegKind::Ether);
    let mut reports = Reports::new();
    reports.insert(NodeNumber(1), report(&[("leg.2.af-xdp", 1), ("leg.0.af-xdp", 1)]));
    reports.insert(NodeNumber(2), report(&[("leg.2.af-xdp", 0)]));
    let legs = rvis(&machine, &reports, &["a", "b", "c"].map(str::to_owned)).remove(0).legs;
    let said: Vec<_> = legs.iter().map(|leg| [&leg.a.driver, &leg.b.driver].map(String::as_str)).collect();
    assert_eq!(said, [["", ""], ["", ""], ["af-xdp", "af-packet"]]);
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
    let items = [("vif.1.drop.device-full", 4), ("vif.1.tx.direct.frames", 9), ("node.drop.no-channel", 2)];
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
        ("cn-a", "too-big-outside", 1),
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

#[test]
fn an_uplink_says_what_outside_sees_and_what_it_dropped() {
    let devices = (0..).map(DeviceNumber).zip([("eth0", Driver::AfPacket), ("eth1", Driver::AfXdp)]);
    let devices = devices.map(|(number, (name, driver))| (number, DeviceInUse { name: name.into(), driver }));
    let shown = uplinks(&machine(), &devices.collect(), Instant::ZERO);
    let expected = Uplink {
        lan: "red".into(),
        mode: "filtered".into(),
        system_mac: "02:00:01:00:00:09".into(),
        vid: 100,
        device: "eth1".into(),
        driver: "af-xdp".into(),
        carrier: true,
        mtu: 1500,
        default_router: "web2".into(),
        out_frames: 1,
        out_octets: 60,
        dropped: 1,
        stations: vec!["52:00:00:00:00:01".into()],
        ..Uplink::default()
    };
    assert_eq!(shown, [expected]);
    let counted = counters(&machine(), &Reports::default());
    assert!(counted.iter().any(|counter| counter.name == "uplink.red.out.frames" && counter.value == 1));
}
