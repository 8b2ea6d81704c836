//! `legs` of control nodes and nodes: one list for each fabric.

use std::mem::discriminant;
use std::net::SocketAddr;

use crate::model::{Fabric, Leg, Node, Platform};
use crate::reader::{Reader, Table};
use crate::registry::Kind;
use crate::sections::unknown;
use crate::value;

/// Whose legs are read: a control node listens, so its legs say where.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// A control node.
    ControlNode,
    /// A node.
    Node,
}

/// Reads `legs`, a table of fabric names; gives a list for each fabric, and where it stands.
pub(super) fn read_legs(
    reader: &mut Reader<'_>,
    table: &mut Table<'_>,
    platform: &Platform,
    owner: Owner,
) -> (Vec<Vec<Leg>>, usize) {
    let mut legs = vec![Vec::new(); platform.fabrics.len()];
    let example = match owner {
        Owner::ControlNode => "{ a = \"unix:run/cn-a-a.sock\" }",
        Owner::Node => "{ a = \"unix\" }",
    };
    let Some(value) = table.required(reader, "legs", example) else { return (legs, table.offset) };
    let Some(entries) = value.table(reader, "legs") else { return (legs, value.offset) };
    let mut count = 0;
    for (name, key_offset, value) in entries.entries() {
        count += 1;
        let Some(fabric) = platform.fabric(name) else {
            let names = platform.fabrics.iter().map(|f| f.name.as_str());
            unknown(reader, key_offset, "fabric", name, names);
            continue;
        };
        let list = &mut legs[usize::from(fabric.index.0)];
        let texts = value.strings(reader);
        if texts.is_empty() && value.is_list() {
            reader.mistake(
                value.offset,
                format!("no leg on fabric {name:?}"),
                "name a leg, or leave the fabric out",
            );
        }
        for (text, offset) in texts {
            let Some(leg) = reader.accept(offset, value::leg(text)) else { continue };
            list.extend(check_leg(reader, offset, leg, list, fabric, owner));
        }
    }
    if count == 0 {
        let title = table.title;
        reader.mistake(
            value.offset,
            format!("this {title} has no legs"),
            format!("add one: legs = {example}"),
        );
    }
    (legs, value.offset)
}

/// Checks a leg against its owner and its fabric, and joins its path to the file's folder.
//= spec/platform-file.md#legs-of-control-nodes-and-nodes
//# A control node's unix leg MUST have a path and its udp leg with an address MUST have a port; a node's unix leg MUST
//# NOT have a path; a udp leg without an address and an ether leg without a device MUST cross a fabric with a lab
//# network.
fn check_leg(
    reader: &mut Reader<'_>,
    offset: usize,
    leg: Leg,
    others: &[Leg],
    fabric: &Fabric,
    owner: Owner,
) -> Option<Leg> {
    let same_kind = |other: &Leg| discriminant(other) == discriminant(&leg);
    if others.iter().any(same_kind) {
        reader.mistake(
            offset,
            format!("a second leg of the same kind on fabric {:?}", fabric.name),
            "a process has at most one leg of each kind on a fabric: remove one",
        );
        return None;
    }
    let checked = match (leg, owner) {
        (Leg::Unix { path: None }, Owner::ControlNode) => value::wrong(
            "a control node's unix leg needs a path",
            "write \"unix:PATH\": the control node listens there",
        ),
        (Leg::Unix { path: Some(_) }, Owner::Node) => value::wrong(
            "a node's unix leg has no path",
            "write \"unix\": the node goes to the control node's path",
        ),
        (Leg::Unix { path: Some(path) }, Owner::ControlNode) => {
            let path = reader.folder.join(path);
            reader.claim(Kind::Socket, 0, path.to_string_lossy(), offset);
            Ok(Leg::Unix { path: Some(path) })
        }
        (Leg::Udp { address: Some(_), port: None }, Owner::ControlNode) => value::wrong(
            "a control node's udp leg needs a port",
            "write \"udp:ADDRESS:PORT\": nodes find the control node there",
        ),
        (Leg::Udp { address: None, .. }, _) if fabric.lab_network.is_none() => value::wrong(
            format!("fabric {:?} has no lab network that gives a udp leg its address", fabric.name),
            "write \"udp:ADDRESS\", or give the fabric a lab-network",
        ),
        (Leg::Ether { device: None, .. }, _) if fabric.lab_network.is_none() => value::wrong(
            format!("fabric {:?} has no lab network that gives an ether leg its device", fabric.name),
            "write \"ether:DEVICE\", or give the fabric a lab-network",
        ),
        (Leg::Udp { address: Some(address), port: Some(port) }, _) => {
            reader.claim(Kind::UdpAddress, 0, SocketAddr::new(address, port).to_string(), offset);
            Ok(Leg::Udp { address: Some(address), port: Some(port) })
        }
        (leg, _) => Ok(leg),
    };
    reader.accept(offset, checked)
}

/// A node that shares no leg with a control node could never register there.
//= spec/platform-file.md#reach
//# A node MUST have a leg in common with each control node: of one kind, on one fabric, and on one host when it is unix.
pub(super) fn check_reach(reader: &mut Reader<'_>, offset: usize, node: &Node, platform: &Platform) {
    if node.legs.iter().all(Vec::is_empty) {
        return;
    }
    for control_node in &platform.control_nodes {
        let meets = |(own, other): (&Leg, &Leg)| match (own, other) {
            (Leg::Unix { .. }, Leg::Unix { .. }) => node.host == control_node.host,
            (Leg::Udp { .. }, Leg::Udp { .. }) | (Leg::Ether { .. }, Leg::Ether { .. }) => true,
            _ => false,
        };
        let mut fabrics = node.legs.iter().zip(&control_node.legs);
        let reached = fabrics.any(|(own, others)| own.iter().any(|o| others.iter().any(|p| meets((o, p)))));
        if !reached && !control_node.legs.iter().all(Vec::is_empty) {
            reader.mistake(
                offset,
                format!(
                    "node {:?} has no leg in common with control node {:?}",
                    node.name, control_node.name
                ),
                "give both a leg of one kind on one fabric; unix legs join processes of one host only",
            );
        }
    }
}
