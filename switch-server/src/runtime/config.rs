//! From the platform file to what the machine is told.

mod clusters;

use std::collections::BTreeMap;
use std::net::IpAddr;

use lan_proxy::{Mode, Vid};
use platform::model::{Fabric, Lan};
use platform::{ControlNode as Entry, Member, Node, Platform, UplinkMode};
use rvi::host::{PublicKey, random_u64};
use vlan_core::group::members::MulticastConfig;
use vlan_core::server::MemberSlot;
use vlan_core::{LanId, MacAddress, NodeNumber, ProcessId, SecretKey};

use self::clusters::{cluster_addresses, cluster_entries, served_addresses};
use super::devices::{Devices, Modes};
use super::pump::now;
use super::refuse_store;
use crate::control_node::{
    AddedMember, ArpMode, Changes, ClusterEntry, ControlNodeConfig, FabricEntry, LanConfig, LanOptions,
    MemberConfig, MemberOptions, NodeEntry, SenderConfig, UplinkChange, UplinkConfig,
};
use crate::failure::Failure;
use crate::keys;
use crate::store::{Identity, Membership, Store, StoreError};

/// The configuration of the control node `entry` with these devices, with an identity for every membership, on disk already.
///
/// # Errors
///
/// When the store refuses.
pub fn control_node_config(
    platform: &Platform,
    entry: &Entry,
    store: &Store,
    process: ProcessId,
    keys: &PlatformKeys,
    devices: &Devices,
) -> Result<ControlNodeConfig, Failure> {
    let (epoch, identities) = take_into_use(platform, entry, store, devices).map_err(refuse_store)?;
    let clusters = |lan: &Lan| cluster_entries(lan, &identities, &keys.grant, epoch);
    Ok(ControlNodeConfig {
        started: now(),
        serial: entry.serial,
        cabinet: platform.cabinet,
        process,
        epoch,
        seed: random_u64(),
        grant_key: keys.grant.clone(),
        fabrics: platform.fabrics.iter().map(|fabric| fabric_entry(platform, fabric)).collect(),
        nodes: node_entries(platform, keys),
        lans: platform.lans.iter().map(|lan| lan_config(lan, &identities, devices, clusters(lan))).collect(),
        devices: devices.count(),
    })
}

/// What the machine is told so that it has these changes of `platform`, which is on disk then, the number of the configuration, and the
/// modes of the uplinks of each of `devices`, which are those of `platform`.
///
/// # Errors
///
/// When the store refuses; then nothing has changed.
pub fn apply_changes(
    platform: &Platform,
    entry: &Entry,
    store: &Store,
    changes: &platform::Changes,
    keys: &PlatformKeys,
    devices: &Devices,
) -> Result<(u64, Changes, Modes), StoreError> {
    let (epoch, identities) = take_into_use(platform, entry, store, devices)?;
    let member = |&(lan, member): &(usize, usize)| (&platform.lans[lan], &platform.lans[lan].members[member]);
    let added = |(lan, member): (&Lan, &Member)| AddedMember {
        lan: lan.id,
        config: member_config(lan, member, &identities.members),
        gets_every_group: member.every_group,
    };
    let clusters = |lan: &Lan| cluster_entries(lan, &identities, &keys.grant, epoch);
    let config = |lan: &Lan| lan_config(lan, &identities, devices, clusters(lan));
    let lans: Vec<_> = platform.lans.iter().map(config).collect();
    let added_lans = changes.added_lans.iter().map(|&lan| lans[lan].clone());
    let uplinks = changes
        .uplinks
        .iter()
        .map(|&lan| UplinkChange { lan: lans[lan].id, uplink: lans[lan].uplink.clone() });
    let changed = changes.clusters.iter().map(|&lan| &platform.lans[lan]);
    let members = changes.added_members.iter().map(member).map(added);
    let options = changes.members.iter().map(member).map(|(lan, member)| member_options(lan, member));
    let told = Changes {
        removed_lans: changes.removed_lans.clone(),
        removed_members: changes.removed_members.clone(),
        nodes: None,
        lans: changes.lans.iter().map(|&lan| lan_options(&platform.lans[lan])).collect(),
        uplinks: uplinks.collect(),
        added_lans: added_lans.collect(),
        added_members: members.collect(),
        clusters: changed.map(|lan| (lan.id, clusters(lan))).collect(),
        options: options.collect(),
    };
    Ok((epoch, told, devices.modes(lans.iter())))
}

/// The keys of a platform that a control node knows beside its own.
#[derive(Debug)]
pub struct PlatformKeys {
    /// The platform's secret.
    pub grant: SecretKey,
    /// Whose public key is whose.
    pub nodes: BTreeMap<PublicKey, NodeNumber>,
}

impl PlatformKeys {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// When one is missing or two nodes have the same.
    pub fn load(platform: &Platform) -> Result<Self, Failure> {
        let grant = keys::secret(&platform.grant_key_file)?;
        let mut nodes = BTreeMap::new();
        for node in &platform.nodes {
            let path = node.public_key_file();
            if let Some(other) = nodes.insert(keys::public(&path)?, node.number) {
                return Err(Failure::usage(format_args!(
                    "nodes {other} and {} have the same key",
                    node.number
                ))
                .hint(format_args!("remove {} and its private half, and make a new pair", path.display())));
            }
        }
        Ok(Self { grant, nodes })
    }

    fn of(&self, node: NodeNumber) -> Option<PublicKey> {
        self.nodes.iter().find(|(_, number)| **number == node).map(|(key, _)| *key)
    }
}

/// The nodes of the platform, as the machine knows them.
#[must_use]
pub fn node_entries(platform: &Platform, keys: &PlatformKeys) -> Vec<NodeEntry> {
    platform.nodes.iter().map(|node| node_entry(node, keys)).collect()
}

fn node_entry(node: &Node, keys: &PlatformKeys) -> NodeEntry {
    NodeEntry {
        number: node.number,
        name: node.name.clone(),
        public_key: keys.of(node.number).unwrap_or_default(),
        host: node.host.clone(),
        legs: node.leg_kinds(),
    }
}

fn fabric_entry(platform: &Platform, fabric: &Fabric) -> FabricEntry {
    FabricEntry { is_trusted: fabric.trusted, key: platform.fabric_key(fabric.index) }
}

type Members = BTreeMap<(NodeNumber, LanId), Identity>;

/// What the store has given to what the platform has.
#[derive(Debug)]
struct Identities {
    members: Members,
    clusters: BTreeMap<(LanId, IpAddr), MacAddress>,
}

/// Makes the platform the one in use, on disk.
fn take_into_use(
    platform: &Platform,
    entry: &Entry,
    store: &Store,
    devices: &Devices,
) -> Result<(u64, Identities), StoreError> {
    let members = platform.lans.iter().flat_map(|lan| lan.members.iter().map(move |member| (lan, member)));
    let members = members.map(|(lan, member)| Membership { node: member.node, lan: lan.id, mac: member.mac });
    let filtered = platform.lans.iter().filter(|lan| {
        let here = lan.uplink.as_ref().filter(|uplink| devices.are_of(uplink));
        here.is_some_and(|uplink| uplink.mode == UplinkMode::Filtered)
    });
    let systems = filtered.map(|lan| Membership::of_uplink(lan.id));
    let memberships: Vec<Membership> = members.chain(systems).collect();
    let clusters = platform.lans.iter().flat_map(cluster_addresses).collect::<Vec<_>>();
    let applied = store.apply(&platform.text, &memberships, &clusters, entry.serial)?;
    let of = memberships.iter().map(|membership| (membership.node, membership.lan));
    let of_clusters = clusters.iter().map(|cluster| (cluster.lan, cluster.address));
    let members = of.zip(applied.identities).collect();
    Ok((applied.epoch, Identities { members, clusters: of_clusters.zip(applied.cluster_macs).collect() }))
}

/// The uplink of a LAN, if it leaves by one of these devices.
fn uplink_config(lan: &Lan, identities: &Identities, devices: &Devices) -> Option<UplinkConfig> {
    let uplink = lan.uplink.as_ref()?;
    Some(UplinkConfig {
        device: devices.number_of(uplink)?,
        mode: match uplink.mode {
            UplinkMode::Filtered => {
                Mode::Filtered { system: identities.members[&(NodeNumber(0), lan.id)].mac }
            }
            UplinkMode::Unfiltered => Mode::Unfiltered,
        },
        vid: uplink.vid.and_then(Vid::new),
        default_router: uplink.default_router,
        link_dependency: uplink.link_dependency,
    })
}

fn lan_options(lan: &Lan) -> LanOptions {
    LanOptions {
        lan: lan.id,
        mtu: lan.mtu,
        arp: match lan.arp {
            platform::ArpMode::Relay => ArpMode::Relay,
            platform::ArpMode::Suppress => ArpMode::Suppress,
        },
        port_security: lan.port_security,
        floods: lan.multicast == platform::LanMulticast::Flood,
    }
}

fn lan_config(
    lan: &Lan,
    identities: &Identities,
    devices: &Devices,
    clusters: Vec<ClusterEntry>,
) -> LanConfig {
    let LanOptions { mtu, arp, port_security, floods, .. } = lan_options(lan);
    LanConfig {
        uplink: uplink_config(lan, identities, devices),
        id: lan.id,
        name: lan.name.clone(),
        mtu,
        arp,
        port_security,
        multicast: MulticastConfig { floods, every_group: every_group(lan) },
        clusters,
        members: lan.members.iter().map(|member| member_config(lan, member, &identities.members)).collect(),
    }
}

fn every_group(lan: &Lan) -> Vec<MemberSlot> {
    let slots = (0..).map(MemberSlot).zip(&lan.members);
    slots.filter(|(_, member)| member.every_group).map(|(slot, _)| slot).collect()
}

fn member_config(lan: &Lan, member: &Member, identities: &Members) -> MemberConfig {
    let Identity { vif, mac } = identities[&(member.node, lan.id)];
    MemberConfig {
        node: member.node,
        vif,
        mac,
        interface: member.interface.clone(),
        addresses: member.addresses.clone(),
        gateways: member.gateways.clone(),
        may_listen: member.promiscuous,
        sender: sender_config(lan, member),
    }
}

fn sender_config(lan: &Lan, member: &Member) -> SenderConfig {
    SenderConfig {
        roles: member.roles,
        aliases: member.aliases.iter().copied().chain(served_addresses(lan, member.node)).collect(),
        learn: member.learn,
        limits: member.limits,
    }
}

/// What a member of the LAN is to have that has other options now.
fn member_options(lan: &Lan, member: &Member) -> MemberOptions {
    MemberOptions {
        lan: lan.id,
        node: member.node,
        addresses: member.addresses.clone(),
        gateways: member.gateways.clone(),
        may_listen: member.promiscuous,
        gets_every_group: member.every_group,
        sender: sender_config(lan, member),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_node::DeviceNumber;
    use std::path::Path;
    use vlan_core::wire::control::LegKind;

    fn configured(text: &str, store: &Store) -> ControlNodeConfig {
        let platform = Platform::parse(text, Path::new("/tmp/demo.toml")).unwrap();
        let nodes = platform.nodes.iter().map(|node| (PublicKey([node.number.0 as u8; 32]), node.number));
        let keys = PlatformKeys { grant: SecretKey::new([9; 32]), nodes: nodes.collect() };
        let entry = &platform.control_nodes[0];
        let devices = Devices::of(&platform, entry);
        control_node_config(&platform, entry, store, ProcessId(1), &keys, &devices).unwrap()
    }

    #[test]
    fn nodes_come_with_their_keys_hosts_and_kinds_of_legs() {
        let dir = tempfile::tempdir().unwrap();
        let config = configured(crate::demo::PLATFORM, &Store::open(dir.path()).unwrap());
        assert_eq!(config.grant_key, SecretKey::new([9; 32]));
        assert_eq!(config.fabrics.len(), 2);
        assert_ne!(config.fabrics[0].key, config.fabrics[1].key);
        for node in &config.nodes {
            assert_eq!(node.public_key, vlan_core::PublicKey([node.number.0 as u8; 32]));
            assert_eq!(node.legs, [[LegKind::Unix], [LegKind::Unix]]);
            assert_eq!(node.host, None);
        }
    }

    #[test]
    fn the_file_says_which_lans_flood_and_which_members_get_every_group() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let sorted = configured(crate::demo::PLATFORM, &store).lans.remove(0).multicast;
        assert_eq!(sorted, MulticastConfig::default());
        let changed = |from: &str, to: &str| {
            configured(&crate::demo::PLATFORM.replace(from, to), &store).lans.remove(0).multicast
        };
        let flooded = changed("[[lan]]\n", "[[lan]]\nmulticast = \"flood\"\n");
        assert_eq!(flooded, MulticastConfig { floods: true, every_group: vec![] });
        let web2 = "node = \"web2\"\naddress";
        let all = changed(web2, "node = \"web2\"\nmulticast = \"all\"\naddress");
        assert_eq!(all, MulticastConfig { floods: false, every_group: vec![MemberSlot(1)] });
    }

    #[test]
    fn lans_leave_by_the_devices_of_this_control_node() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let uplink = |mode: &str, device: &str, vid: &str| {
            format!(
                "[lan.uplink]\nmode = \"{mode}\"\n{vid}ports = [ {{ control-node = \"cn-a\", device = \"{device}\" }} ]\n"
            )
        };
        let lan = |name: &str, id: u16, uplink: &str| {
            format!("[[lan]]\nname = \"{name}\"\nid = {id}\n[[lan.member]]\nnode = \"web1\"\n{uplink}")
        };
        let text = [
            crate::demo::PLATFORM.to_owned(),
            lan("up1", 101, &uplink("filtered", "eth1", "vid = 7\n")),
            lan("up2", 102, &uplink("unfiltered", "eth2", "")),
            lan("up3", 103, &uplink("unfiltered", "eth1", "")),
        ];
        let config = configured(&text.join("\n"), &store);
        let of =
            |id: u16| config.lans.iter().find(|lan| lan.id == LanId(id)).unwrap().uplink.clone().unwrap();
        assert_eq!((config.devices, of(101).vid, of(101).device), (2, Vid::new(7), DeviceNumber(0)));
        assert_eq!((of(102).mode, of(102).device), (Mode::Unfiltered, DeviceNumber(1)));
        assert_eq!((of(103).vid, of(103).device), (None, DeviceNumber(0)));
        let system = of(101).mode.system().unwrap();
        assert!(config.lans.iter().flat_map(|lan| &lan.members).all(|member| member.mac != system));
        let again = configured(&text.join("\n"), &store);
        assert_eq!(again.lans, config.lans);
    }

    #[test]
    fn clusters_come_with_their_macs_and_tables_and_their_servers_may_send_from_them() {
        //= spec/cluster.md#addresses-of-servers
        //= type=test
        //# A real server MUST be allowed to send from the addresses of its clusters as from its own.
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/cluster.toml");
        let text = std::fs::read_to_string(path).unwrap();
        let lan = configured(&text, &store).lans.remove(0);
        let [cluster] = &lan.clusters[..] else { panic!("one cluster: {:?}", lan.clusters) };
        let addresses: Vec<IpAddr> = cluster.addresses.iter().map(|(address, _)| *address).collect();
        assert_eq!(addresses, cluster.tables.addresses());
        assert_eq!(cluster.tables.services().count(), 4);
        assert_eq!(cluster.tables.servers(), [1, 2, 3].map(MemberSlot));
        let macs = cluster.addresses.iter().map(|(_, mac)| *mac);
        assert!(lan.members.iter().all(|member| macs.clone().all(|mac| mac != member.mac)));
        for (member, serves) in lan.members.iter().zip([true, true, true, false]) {
            let has = |address| member.sender.aliases.contains(address);
            assert_eq!(addresses.iter().all(has), serves);
        }
        assert_eq!(configured(&text, &store).lans[0].clusters[0].addresses, cluster.addresses);
    }

    #[test]
    fn two_nodes_with_one_key_are_a_mistake() {
        let dir = tempfile::tempdir().unwrap();
        let platform = Platform::parse(crate::demo::PLATFORM, &dir.path().join("demo.toml")).unwrap();
        keys::make_missing(&platform).unwrap();
        assert_eq!(PlatformKeys::load(&platform).unwrap().nodes.len(), platform.nodes.len());
        let [one, two] = [0, 1].map(|node: usize| platform.nodes[node].public_key_file());
        std::fs::copy(one, two).unwrap();
        assert!(PlatformKeys::load(&platform).is_err());
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
