//! What a control node keeps on disk: its MAC counter, which interface has which MAC, and the configuration
//! that it applied last.
//!
//! One redb file in the state directory. A change is one durable transaction, so that a process killed at any
//! instant leaves either all of it or none.

mod clusters;
mod memberships;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use rustix::fs::{FlockOperation, flock};
use vlan_core::{ControlNodeSerial, LanId, MacAddress, NodeNumber};

pub use self::clusters::ClusterAddress;
pub use self::memberships::{Identity, Membership};

/// Next counter value by serial.
const COUNTERS: TableDefinition<'_, u16, u32> = TableDefinition::new("mac-counter");
/// MAC as a 48-bit number by (node, LAN).
const ASSIGNMENTS: TableDefinition<'_, (u16, u16), u64> = TableDefinition::new("mac-assignment");
/// Number of the interface by (node, LAN).
const NUMBERS: TableDefinition<'_, (u16, u16), u16> = TableDefinition::new("interface-number");
/// The number that was given last, by node.
const LAST_NUMBERS: TableDefinition<'_, u16, u16> = TableDefinition::new("interface-number-last");
/// MAC as a 48-bit number by LAN and cluster address.
const CLUSTER_MACS: TableDefinition<'_, (u16, &str), u64> = TableDefinition::new("cluster-mac");
/// The configuration's text by a fixed key.
const TEXTS: TableDefinition<'_, &str, &str> = TableDefinition::new("configuration-text");
/// The configuration's epoch by a fixed key.
const EPOCHS: TableDefinition<'_, &str, u64> = TableDefinition::new("configuration-epoch");
/// The key of the configuration in use.
const APPLIED: &str = "applied";
/// The key of the platform file's text when it was last read.
const READ: &str = "read";
/// First value of a MAC counter: 0 is left out so that no virtual MAC ends in three zero octets.
const FIRST_COUNT: u32 = 1;

/// The state directory of one control node, opened by one process at a time.
pub struct Store {
    database: Database,
    /// Holds the lock of the directory for as long as the store is open.
    _lock: File,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// A configuration that is in use from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its number.
    pub epoch: u64,
    /// The identities of its memberships, in their order.
    pub identities: Vec<Identity>,
    /// The MACs of its cluster addresses, in their order.
    pub cluster_macs: Vec<MacAddress>,
}

/// Why the state directory could not be read or written.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// The directory or a file in it cannot be made or opened.
    Open {
        /// The path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another process has this state directory open.
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The database refused.
    Database {
        /// What was tried.
        doing: &'static str,
        /// What the database said.
        error: Box<redb::Error>,
    },
    /// The serial has given out all 16,777,215 of its MACs.
    CounterExhausted {
        /// The serial.
        serial: ControlNodeSerial,
    },
    /// The node has an interface of every number.
    NoInterfaceLeft {
        /// The node.
        node: NodeNumber,
    },
    /// The configuration names a MAC that the registry gave to a cluster address.
    ClusterMacTaken {
        /// The MAC.
        mac: MacAddress,
        /// The address.
        address: IpAddr,
    },
    /// The configuration names a MAC that the registry gave to another interface.
    MacTaken {
        /// The MAC.
        mac: MacAddress,
        /// The node whose interface has it.
        node: NodeNumber,
        /// The LAN of that interface.
        lan: LanId,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { path, error } => write!(f, "cannot open {}: {error}", path.display()),
            Self::InUse { path } => {
                write!(f, "the state directory {} is in use by another process", path.display())
            }
            Self::Database { doing, error } => write!(f, "registry: cannot {doing}: {error}"),
            Self::CounterExhausted { serial } => write!(f, "serial {serial} has no MAC left to give"),
            Self::NoInterfaceLeft { node } => write!(f, "node {node} has no interface number left"),
            Self::ClusterMacTaken { mac, address } => {
                write!(f, "the MAC {mac} already belongs to the cluster address {address}")
            }
            Self::MacTaken { mac, node: NodeNumber(0), lan } => {
                write!(f, "the MAC {mac} already belongs to the uplink of LAN {lan}")
            }
            Self::MacTaken { mac, node, lan } => {
                write!(f, "the MAC {mac} already belongs to node {node} on LAN {lan}")
            }
        }
    }
}

impl std::error::Error for StoreError {}

fn refused<E: Into<redb::Error>>(doing: &'static str) -> impl FnOnce(E) -> StoreError {
    move |error| StoreError::Database { doing, error: Box::new(error.into()) }
}

impl Store {
    /// Opens the state directory, making it when it is missing.
    ///
    /// # Errors
    ///
    /// When it cannot be made or read, or when another process has it open.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |error| StoreError::Open { path, error }
        };
        fs::create_dir_all(state_dir).map_err(failed(state_dir))?;
        let lock_path = state_dir.join("lock");
        let lock = File::create(&lock_path).map_err(failed(&lock_path))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| StoreError::InUse { path: state_dir.to_path_buf() })?;
        let path = state_dir.join("registry.redb");
        if !path.exists() {
            create_whole(state_dir, &path)?;
        }
        let database = Database::open(&path).map_err(refused("open it"))?;
        Ok(Self { database, _lock: lock })
    }

    /// Makes `text` the configuration in use, with the memberships and cluster addresses that it has: all of it, or nothing.
    ///
    /// A membership that is in use keeps its identity for as long as it is. New ones get a MAC from the counter of `serial`,
    /// leaving out those that the configuration gives itself.
    ///
    /// # Errors
    ///
    /// When the registry cannot be written, there is no MAC or no interface left, or a MAC of the configuration belongs to
    /// another membership. Then nothing has changed.
    //= spec/control-node.md#mac-counter
    //# The counter and the interface that a value is given to MUST be written in one durable transaction before
    //# the MAC is used, so that a MAC is never given twice.
    pub fn apply(
        &self,
        text: &str,
        memberships: &[Membership],
        clusters: &[ClusterAddress],
        serial: ControlNodeSerial,
    ) -> Result<Applied, StoreError> {
        let transaction = self.database.begin_write().map_err(refused("begin to write"))?;
        let identities = memberships::identify(&transaction, memberships, serial)?;
        let fixed: Vec<MacAddress> = memberships.iter().filter_map(|membership| membership.mac).collect();
        let cluster_macs = clusters::identify(&transaction, clusters, &fixed, serial)?;
        let epoch = use_text(&transaction, text)?;
        // The default durability: the commit returns when the file is on disk.
        transaction.commit().map_err(refused("commit"))?;
        Ok(Applied { epoch, identities, cluster_macs })
    }

    /// Every interface in the registry with its MAC, by node and LAN.
    ///
    /// # Errors
    ///
    /// When the registry cannot be read.
    pub fn assignments(&self) -> Result<BTreeMap<(NodeNumber, LanId), MacAddress>, StoreError> {
        let transaction = self.database.begin_read().map_err(refused("begin to read"))?;
        let table = transaction.open_table(ASSIGNMENTS).map_err(refused("read the MACs"))?;
        let mut all = BTreeMap::new();
        for row in table.iter().map_err(refused("read the MACs"))? {
            let (key, mac) = row.map_err(refused("read the MACs"))?;
            let (node, lan) = key.value();
            if let Some(mac) = mac_from_bits(mac.value()) {
                all.insert((NodeNumber(node), LanId(lan)), mac);
            }
        }
        Ok(all)
    }

    /// The configuration to start with when the platform file says `file`.
    ///
    /// # Errors
    ///
    /// When the registry cannot be read or written.
    //= spec/control-node.md#the-configuration-at-the-start
    //# A control node MUST start with the configuration that it applied last, unless the platform file is another one than
    //# when it was last read.
    pub fn configuration_at_start(&self, file: &str) -> Result<String, StoreError> {
        let doing = "write the configuration";
        let transaction = self.database.begin_write().map_err(refused("begin to write"))?;
        {
            let mut texts = transaction.open_table(TEXTS).map_err(refused(doing))?;
            let is_known = texts.get(READ).map_err(refused(doing))?.is_some_and(|text| text.value() == file);
            let applied = texts.get(APPLIED).map_err(refused(doing))?.map(|text| text.value().to_owned());
            if let Some(applied) = applied.filter(|_| is_known) {
                return Ok(applied);
            }
            texts.insert(READ, file).map_err(refused(doing))?;
        }
        transaction.commit().map_err(refused("commit"))?;
        Ok(file.to_owned())
    }
}

/// Remembers `text` as the configuration in use and gives its epoch: the stored one when the text is the stored text, else one
/// more.
fn use_text(transaction: &WriteTransaction, text: &str) -> Result<u64, StoreError> {
    let doing = "write the configuration";
    let mut texts = transaction.open_table(TEXTS).map_err(refused(doing))?;
    let mut epochs = transaction.open_table(EPOCHS).map_err(refused(doing))?;
    let last = epochs.get(APPLIED).map_err(refused(doing))?.map_or(0, |e| e.value());
    let same = texts.get(APPLIED).map_err(refused(doing))?.is_some_and(|t| t.value() == text);
    if same && last > 0 {
        return Ok(last);
    }
    texts.insert(APPLIED, text).map_err(refused(doing))?;
    epochs.insert(APPLIED, last + 1).map_err(refused(doing))?;
    Ok(last + 1)
}

/// Makes the database under another name and then gives it its own, so that a process killed meanwhile leaves
/// no half-made registry behind.
fn create_whole(state_dir: &Path, path: &Path) -> Result<(), StoreError> {
    let opened = |error| StoreError::Open { path: path.to_path_buf(), error };
    let draft = state_dir.join("registry.redb.new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(opened(error)),
        _ => {}
    }
    let database = Database::create(&draft).map_err(refused("create it"))?;
    let transaction = database.begin_write().map_err(refused("begin to write"))?;
    transaction.open_table(COUNTERS).map_err(refused("create a table"))?;
    transaction.open_table(ASSIGNMENTS).map_err(refused("create a table"))?;
    transaction.open_table(CLUSTER_MACS).map_err(refused("create a table"))?;
    transaction.open_table(TEXTS).map_err(refused("create a table"))?;
    transaction.open_table(EPOCHS).map_err(refused("create a table"))?;
    transaction.open_table(NUMBERS).map_err(refused("create a table"))?;
    transaction.open_table(LAST_NUMBERS).map_err(refused("create a table"))?;
    transaction.commit().map_err(refused("commit"))?;
    drop(database);
    fs::rename(&draft, path).map_err(opened)?;
    File::open(state_dir).and_then(|dir| dir.sync_all()).map_err(opened)
}

fn mac_from_bits(bits: u64) -> Option<MacAddress> {
    MacAddress::from_octets(&bits.to_be_bytes()[2..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use vlan_core::VifNumber;

    const SERIAL: ControlNodeSerial = ControlNodeSerial(7);

    fn wanted(nodes: std::ops::Range<u16>) -> Vec<Membership> {
        nodes.map(|n| Membership { node: NodeNumber(n), lan: LanId(10), mac: None }).collect()
    }

    fn macs(store: &Store, wanted: &[Membership]) -> Result<Vec<MacAddress>, StoreError> {
        let applied = store.apply("a", wanted, &[], SERIAL)?;
        Ok(applied.identities.into_iter().map(|identity| identity.mac).collect())
    }

    #[test]
    fn each_cluster_address_has_a_mac_of_its_own_for_as_long_as_it_is_one() {
        //= spec/cluster.md#macs
        //= type=test
        //# Each cluster address MUST have a MAC from the control node's counter, and keep it for as long as it is one.
        let dir = tempfile::tempdir().unwrap();
        let address = |lan, tail| ClusterAddress { lan: LanId(lan), address: IpAddr::from([10, 1, 0, tail]) };
        let members = wanted(1..3);
        let apply = |clusters: &[ClusterAddress]| {
            let store = Store::open(dir.path()).unwrap();
            let applied = store.apply("a", &members, clusters, SERIAL).unwrap();
            let members: Vec<_> = applied.identities.iter().map(|identity| identity.mac).collect();
            (members, applied.cluster_macs)
        };
        let (of_members, first) = apply(&[address(10, 100), address(10, 101), address(11, 100)]);
        let all: BTreeSet<_> = of_members.iter().chain(&first).collect();
        assert_eq!(all.len(), 5);
        assert!(first.iter().all(|mac| mac.is_from_counter(SERIAL)));
        assert_eq!(apply(&[address(11, 100), address(10, 100)]).1, [first[2], first[0]]);
        let again = apply(&[address(10, 101)]).1;
        assert!(!all.contains(&again[0]), "it was none in between");
    }

    #[test]
    fn a_mac_of_a_cluster_address_is_given_to_no_interface() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let cluster = [ClusterAddress { lan: LanId(10), address: IpAddr::from([10, 1, 0, 100]) }];
        let mac = store.apply("a", &[], &cluster, SERIAL).unwrap().cluster_macs[0];
        let member = Membership { node: NodeNumber(1), lan: LanId(10), mac: Some(mac) };
        let error = store.apply("b", &[member], &cluster, SERIAL).unwrap_err();
        assert!(error.to_string().contains("10.1.0.100"), "{error}");
    }

    #[test]
    fn an_uplink_has_a_mac_of_the_counter_and_no_interface() {
        //= spec/uplink.md#the-system-mac-of-an-uplink
        //= type=test
        //# The system MAC of a LAN MUST come from the control node's counter, and stay the LAN's for as long as it has an uplink in
        //# filtered mode.
        let dir = tempfile::tempdir().unwrap();
        let member = Membership { node: NodeNumber(1), lan: LanId(10), mac: None };
        let uplinks = [10, 11].map(|lan| Membership::of_uplink(LanId(lan)));
        let apply = |wanted: &[Membership]| {
            Store::open(dir.path()).unwrap().apply("a", wanted, &[], SERIAL).unwrap().identities
        };
        let first = apply(&[member, uplinks[0], uplinks[1]]);
        let macs: BTreeSet<_> = first.iter().map(|identity| identity.mac).collect();
        assert_eq!((macs.len(), first[1].vif, first[2].vif), (3, VifNumber(0), VifNumber(0)));
        assert!(first.iter().all(|identity| identity.mac.0[..4] == first[0].mac.0[..4]));
        assert_eq!(apply(&[uplinks[1], member]), [first[2], first[0]], "also after a restart");
        let again = apply(&[uplinks[0], uplinks[1], member]);
        assert!(!macs.contains(&again[0].mac), "what was taken away is given to nobody");
    }

    #[test]
    fn a_membership_keeps_its_identity_when_the_registry_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let apply = |nodes| {
            Store::open(dir.path()).unwrap().apply("a", &wanted(nodes), &[], SERIAL).unwrap().identities
        };
        let (first, again) = (apply(1..4), apply(1..5));
        assert_eq!(first[..], again[..3]);
        assert!(!first.iter().any(|identity| identity.mac == again[3].mac));
    }

    #[test]
    fn a_membership_that_comes_again_is_another_one() {
        //= spec/control-node.md#memberships
        //= type=test
        //# A member that is added to a LAN, also one that has been a member of it before, MUST get a MAC that was never given and
        //# the number of an interface that its node has none of and has not had for the longest time.
        let dir = tempfile::tempdir().unwrap();
        let mut given = std::collections::BTreeSet::new();
        let stays = Membership { node: NodeNumber(1), lan: LanId(20), mac: None };
        let mut numbers = Vec::new();
        for _ in 0..200 {
            // Also across a restart of the control node.
            let store = Store::open(dir.path()).unwrap();
            let both = [stays, Membership { lan: LanId(10), ..stays }];
            let identities = store.apply("a", &both, &[], SERIAL).unwrap().identities;
            assert_eq!(identities[0].vif, VifNumber(1));
            assert!(given.insert(identities[1].mac), "{} was given before", identities[1].mac);
            assert_eq!(store.apply("a", &both, &[], SERIAL).unwrap().identities, identities);
            numbers.push(identities[1].vif.0);
            store.apply("b", &both[..1], &[], SERIAL).unwrap();
        }
        // All in turn: 1 is the one that is in use.
        assert_eq!(numbers[..126], (2..=127).collect::<Vec<u16>>()[..]);
        assert_eq!(numbers[126..200], (2..=75).collect::<Vec<u16>>()[..]);
    }

    #[test]
    fn a_mac_that_the_configuration_gives_is_not_given_by_the_counter() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let fixed = |mac| Membership { node: NodeNumber(9), lan: LanId(10), mac: Some(mac) };
        let first = MacAddress::from_counter(SERIAL, FIRST_COUNT).unwrap();
        let with = |mac| [wanted(1..3), vec![fixed(mac)]].concat();
        let given = macs(&store, &with(first)).unwrap();
        assert!(!given[..2].contains(&first));
        let taken = macs(&store, &with(given[1]));
        assert!(matches!(taken, Err(StoreError::MacTaken { node: NodeNumber(2), .. })), "{taken:?}");
    }

    #[test]
    fn an_exhausted_counter_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let transaction = store.database.begin_write().unwrap();
        transaction.open_table(COUNTERS).unwrap().insert(SERIAL.0, (1 << 24) - 1).unwrap();
        transaction.commit().unwrap();
        let refused = macs(&store, &wanted(1..3));
        assert!(matches!(refused, Err(StoreError::CounterExhausted { serial: SERIAL })));
        assert!(store.assignments().unwrap().is_empty());
        assert_eq!(macs(&store, &wanted(1..2)).unwrap().len(), 1);
    }

    #[test]
    fn a_node_has_as_many_interfaces_as_there_are_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let lans =
            |count| (1..=count).map(|lan| Membership { node: NodeNumber(1), lan: LanId(lan), mac: None });
        assert_eq!(macs(&store, &lans(127).collect::<Vec<_>>()).unwrap().len(), 127);
        let refused = macs(&store, &lans(128).collect::<Vec<_>>());
        assert!(matches!(refused, Err(StoreError::NoInterfaceLeft { node: NodeNumber(1) })), "{refused:?}");
    }

    #[test]
    fn a_second_process_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Store::open(dir.path()).unwrap();
        assert!(matches!(Store::open(dir.path()), Err(StoreError::InUse { .. })));
    }

    #[test]
    fn the_same_configuration_keeps_its_epoch_and_another_gets_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.apply("a", &[], &[], SERIAL).unwrap().epoch, 1);
        assert_eq!(store.apply("a", &[], &[], SERIAL).unwrap().epoch, 1);
        assert_eq!(store.apply("b", &[], &[], SERIAL).unwrap().epoch, 2);
    }

    #[test]
    fn what_was_applied_last_is_started_with_until_the_file_changes() {
        //= spec/control-node.md#the-configuration-at-the-start
        //= type=test
        //# A control node MUST start with the configuration that it applied last, unless the platform file is another one than
        //# when it was last read.
        let dir = tempfile::tempdir().unwrap();
        let start = |file: &str| {
            let store = Store::open(dir.path()).unwrap();
            let text = store.configuration_at_start(file).unwrap();
            store.apply(&text, &[], &[], SERIAL).unwrap();
            text
        };
        assert_eq!((start("a"), start("a")), ("a".into(), "a".into()));
        Store::open(dir.path()).unwrap().apply("b", &[], &[], SERIAL).unwrap();
        assert_eq!((start("a"), start("a")), ("b".into(), "b".into()));
        assert_eq!(start("c"), "c", "the file has changed");
        Store::open(dir.path()).unwrap().apply("d", &[], &[], SERIAL).unwrap();
        assert_eq!(start("d"), "d", "the file has been applied");
        assert_eq!(start("c"), "c", "and changed back");
    }
}
