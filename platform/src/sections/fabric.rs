//! `[[fabric]]`: the independent switch fabrics, and the lab networks that stand for them on one machine.

use vlan_core::FabricIndex;
use vlan_core::limits::FABRICS_MAX;

use crate::model::{Fabric, Platform, Subnet};
use crate::reader::{Reader, Table, Value};
use crate::registry::Kind;
use crate::sections::claim_name;
use crate::value;

/// The MTU of a fabric that states none: Ethernet's (IEEE 802.3).
const MTU: u16 = 1500;
/// The least: every link that carries IPv6 has it (RFC 8200, 5).
const MTU_LEAST: u16 = 1280;

/// A lab network, and where it stands in the text.
pub(super) struct LabNetwork {
    offset: usize,
    subnet: Subnet,
}

/// Reads the fabrics; gives their lab networks for [`check_room`].
//= spec/platform-file.md#fabric-mtu
//# The MTU of a fabric MUST lie between 1280 and 65535 octets.
pub(super) fn read_fabrics(
    reader: &mut Reader<'_>,
    value: Value<'_>,
    platform: &mut Platform,
) -> Vec<LabNetwork> {
    let mut lab_networks = Vec::new();
    for (index, mut table) in value.tables(reader, "[[fabric]]").into_iter().enumerate() {
        if index >= FABRICS_MAX {
            reader.mistake(table.offset, "too many fabrics", format!("a platform has at most {FABRICS_MAX}"));
            break;
        }
        let name_value = table.required(reader, "name", "\"a\"");
        let name = name_value.map(|v| claim_name(reader, v, Kind::Fabric)).unwrap_or_default();
        let trusted = table.optional("trusted").and_then(|v| v.boolean(reader)).unwrap_or(false);
        let mtu = table.optional("mtu").and_then(|v| v.integer16(reader, MTU_LEAST..=u16::MAX));
        let lab_network = read_lab_network(reader, &mut table, platform);
        if let (Some(_), Some(name_value)) = (&lab_network, name_value) {
            check_interface_name(reader, &name, name_value.offset);
        }
        table.finish(reader);
        platform.fabrics.push(Fabric {
            index: FabricIndex(u8::try_from(index).unwrap_or(u8::MAX)),
            name,
            trusted,
            mtu: mtu.unwrap_or(MTU),
            lab_network: lab_network.as_ref().map(|network| network.subnet),
        });
        lab_networks.extend(lab_network);
    }
    lab_networks
}

//= spec/platform-file.md#lab-networks
//# A lab network MUST have an address for each control node and node and MUST NOT overlap another fabric's, and its
//# fabric MUST have a name that an interface can have.
fn read_lab_network(
    reader: &mut Reader<'_>,
    table: &mut Table<'_>,
    platform: &Platform,
) -> Option<LabNetwork> {
    let value = table.optional("lab-network")?;
    let text = value.string(reader)?;
    let subnet = reader.accept(value.offset, value::subnet(text))?;
    let overlaps = |fabric: &&Fabric| fabric.lab_network.is_some_and(|other| other.overlaps(&subnet));
    if let Some(other) = platform.fabrics.iter().find(overlaps) {
        reader.mistake(
            value.offset,
            format!("the lab network {subnet} overlaps that of fabric {:?}", other.name),
            "give each fabric a subnet of its own: a process has an address in each",
        );
    }
    Some(LabNetwork { offset: value.offset, subnet })
}

/// Every process of a lab has an interface of the fabric's name. An empty name has been reported already.
fn check_interface_name(reader: &mut Reader<'_>, name: &str, offset: usize) {
    if !name.is_empty() && value::interface_name(name).is_err() {
        reader.mistake(
            offset,
            format!("the fabric's name {name:?} cannot be the name of an interface"),
            "with a lab-network each process of a lab has an interface of that name: at most 15 characters, and not \
             \"lo\", \"all\" or \"default\"",
        );
    }
}

/// Notes each lab network that is too small for the platform's processes.
pub(super) fn check_room(reader: &mut Reader<'_>, lab_networks: &[LabNetwork], platform: &Platform) {
    let processes = platform.control_nodes.len() + platform.nodes.len();
    for LabNetwork { offset, subnet } in lab_networks {
        if subnet.stations() < processes as u128 {
            reader.mistake(
                *offset,
                format!(
                    "the lab network {subnet} has {} addresses for {processes} processes",
                    subnet.stations()
                ),
                "give it a shorter prefix: each control node and node has an address in it",
            );
        }
    }
}
