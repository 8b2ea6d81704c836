//! Direct RVIs: what the machine says of a pair, and what both ends report of their legs.

use platform::management::{LegEnd, Rvi, RviEnd, RviLeg};
use rvi::packet::sender::PacketLegState;
use vlan_core::NodeNumber;
use vlan_core::wire::control::LegKind;

use super::{count, lan_name, node_name};
use crate::control_node::{self, RviState, RviStatus};
use crate::management::view::Reports;

/// The numbers of the legs that go by control nodes.
const RELAY_LEGS: [u8; 2] = [14, 15];

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
    let is_ether = given.is_some_and(|given| given.kind == LegKind::Ether);
    let driver = |node| if is_ether { driver_of(reports, node, leg).to_owned() } else { String::new() };
    RviLeg {
        fabric: fabric.to_owned(),
        state: state.to_owned(),
        kind: given.map_or_else(String::new, |given| given.kind.to_string()),
        a: LegEnd { address: a_address, driver: driver(rvi.a), ..leg_end(reports, rvi.a, rvi.b, leg) },
        b: LegEnd { address: b_address, driver: driver(rvi.b), ..leg_end(reports, rvi.b, rvi.a, leg) },
    }
}

/// How a node drives the device of its ether leg.
fn driver_of(reports: &Reports, node: NodeNumber, leg: u8) -> &'static str {
    match item(reports, node, &format!("leg.{leg}.af-xdp")) {
        Some(0) => "af-packet",
        Some(_) => "af-xdp",
        None => "",
    }
}

/// What `node` reports of its end of a leg to `peer`.
fn leg_end(reports: &Reports, node: NodeNumber, peer: NodeNumber, leg: u8) -> LegEnd {
    let item = |what: &str| leg_item(reports, node, peer, leg, what);
    LegEnd {
        address: String::new(),
        driver: String::new(),
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
