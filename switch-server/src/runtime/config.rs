//! From the platform file to what the machine is told.

use std::collections::BTreeMap;

use platform::model::Lan;
use platform::{ControlNode as Entry, Member, Platform};
use rvi::host::{PublicKey, random_u64};
use vlan_core::{LanId, MacAddress, NodeNumber, ProcessId};

use super::refuse_store;
use crate::control_node::{ArpMode, ControlNodeConfig, LanConfig, MemberConfig, NodeEntry};
use crate::failure::Failure;
use crate::keys;
use crate::store::Store;

/// The configuration of the control node `entry`, with a MAC for every interface, on disk already.
///
/// # Errors
///
/// When the store refuses.
pub fn control_node_config(
    platform: &Platform,
    entry: &Entry,
    store: &Store,
    process: ProcessId,
) -> Result<ControlNodeConfig, Failure> {
    let epoch = store.apply_configuration(&platform.text).map_err(refuse_store)?;
    let macs = macs_of(platform, entry, store)?;
    Ok(ControlNodeConfig {
        serial: entry.serial,
        cabinet: platform.cabinet,
        process,
        epoch,
        seed: random_u64(),
        nodes: platform
            .nodes
            .iter()
            .map(|node| NodeEntry { number: node.number, name: node.name.clone() })
            .collect(),
        lans: platform.lans.iter().map(|lan| lan_config(lan, &macs)).collect(),
    })
}

/// Whose key is whose.
///
/// # Errors
///
/// When a public key is missing or two nodes have the same.
pub fn node_keys(platform: &Platform) -> Result<BTreeMap<PublicKey, NodeNumber>, Failure> {
    let mut keys = BTreeMap::new();
    for node in &platform.nodes {
        let path = node.public_key_file();
        if let Some(other) = keys.insert(keys::public(&path)?, node.number) {
            return Err(Failure::usage(format_args!("nodes {other} and {} have the same key", node.number))
                .hint(format_args!("remove {} and its private half, and make a new pair", path.display())));
        }
    }
    Ok(keys)
}

type Macs = BTreeMap<(NodeNumber, LanId), MacAddress>;

fn macs_of(platform: &Platform, entry: &Entry, store: &Store) -> Result<Macs, Failure> {
    let members = || platform.lans.iter().flat_map(|lan| lan.members.iter().map(move |member| (lan, member)));
    let mut macs: Macs =
        members().filter_map(|(lan, member)| Some(((member.node, lan.id), member.mac?))).collect();
    let fixed: Vec<MacAddress> = macs.values().copied().collect();
    let open: Vec<(NodeNumber, LanId)> = members()
        .filter(|(_, member)| member.mac.is_none())
        .map(|(lan, member)| (member.node, lan.id))
        .collect();
    let allocated = store.macs_for(&open, entry.serial, &fixed).map_err(refuse_store)?;
    macs.extend(open.into_iter().zip(allocated));
    Ok(macs)
}

fn lan_config(lan: &Lan, macs: &Macs) -> LanConfig {
    LanConfig {
        id: lan.id,
        name: lan.name.clone(),
        mtu: lan.mtu,
        arp: match lan.arp {
            platform::ArpMode::Relay => ArpMode::Relay,
            platform::ArpMode::Suppress => ArpMode::Suppress,
        },
        port_security: lan.port_security,
        members: lan.members.iter().map(|member| member_config(lan, member, macs)).collect(),
    }
}

fn member_config(lan: &Lan, member: &Member, macs: &Macs) -> MemberConfig {
    MemberConfig {
        node: member.node,
        vif: member.vif,
        mac: macs[&(member.node, lan.id)],
        interface: member.interface.clone(),
        addresses: member.addresses.clone(),
        gateways: member.gateways.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn configured(text: &str, store: &Store) -> ControlNodeConfig {
        let platform = Platform::parse(text, Path::new("/tmp/demo.toml")).unwrap();
        control_node_config(&platform, &platform.control_nodes[0], store, ProcessId(1)).unwrap()
    }

    #[test]
    fn every_interface_has_a_mac_of_its_own_that_outlives_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let first = configured(crate::demo::PLATFORM, &Store::open(dir.path()).unwrap());
        let macs: std::collections::BTreeSet<_> =
            first.lans[0].members.iter().map(|member| member.mac).collect();
        assert_eq!(macs.len(), 3);
        let again = configured(crate::demo::PLATFORM, &Store::open(dir.path()).unwrap());
        assert_eq!(again.lans, first.lans);
        assert_eq!(again.epoch, first.epoch);
    }

    #[test]
    fn a_mac_in_the_file_is_used_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let text = crate::demo::PLATFORM
            .replace("node = \"web2\"\naddress", "node = \"web2\"\nmac = \"02:00:01:00:00:01\"\naddress");
        let config = configured(&text, &store);
        let macs: Vec<_> = config.lans[0].members.iter().map(|member| member.mac.to_string()).collect();
        assert_eq!(macs, ["02:00:01:00:00:02", "02:00:01:00:00:01", "02:00:01:00:00:03"]);
    }
}
