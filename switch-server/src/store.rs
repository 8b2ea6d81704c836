//! What a control node keeps on disk: its MAC counter, which interface has which MAC, and the configuration
//! that it applied last.
//!
//! One redb file in the state directory. A change is one durable transaction, so that a process killed at any
//! instant leaves either all of it or none.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use rustix::fs::{FlockOperation, flock};
use vlan_core::{ControlNodeSerial, LanId, MacAddress, NodeNumber};

/// Next counter value by serial.
const COUNTERS: TableDefinition<'_, u16, u32> = TableDefinition::new("mac-counter");
/// MAC as a 48-bit number by (node, LAN).
const ASSIGNMENTS: TableDefinition<'_, (u16, u16), u64> = TableDefinition::new("mac-assignment");
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

    /// The MAC of each interface in `interfaces`, allocating what is missing.
    ///
    /// An interface that has a MAC keeps it for ever. New ones come from the counter of `serial`, leaving out
    /// the MACs in `fixed`, which the configuration gives to interfaces itself.
    ///
    /// # Errors
    ///
    /// When the registry cannot be written, the counter has run out, or a MAC in `fixed` belongs to one of the
    /// `interfaces`. Then nothing has changed.
    //= spec/control-node.md#mac-counter
    //# The counter and the interface that a value is given to MUST be written in one durable transaction before
    //# the MAC is used, so that a MAC is never given twice.
    pub fn macs_for(
        &self,
        interfaces: &[(NodeNumber, LanId)],
        serial: ControlNodeSerial,
        fixed: &[MacAddress],
    ) -> Result<Vec<MacAddress>, StoreError> {
        let transaction = self.database.begin_write().map_err(refused("begin to write"))?;
        let mut macs = Vec::with_capacity(interfaces.len());
        let mut changed = false;
        {
            let mut assignments = transaction.open_table(ASSIGNMENTS).map_err(refused("read the MACs"))?;
            let mut counters = transaction.open_table(COUNTERS).map_err(refused("read the counter"))?;
            let stored = counters.get(serial.0).map_err(refused("read the counter"))?.map(|c| c.value());
            let mut counter = stored.unwrap_or(FIRST_COUNT);
            for &(node, lan) in interfaces {
                let key = (node.0, lan.0);
                let held = assignments.get(key).map_err(refused("read the MACs"))?.map(|m| m.value());
                let mac = match held.and_then(mac_from_bits) {
                    Some(mac) => refuse_fixed(mac, fixed, node, lan)?,
                    None => {
                        let mac = next_mac(serial, &mut counter, fixed)?;
                        assignments.insert(key, mac.to_bits()).map_err(refused("write a MAC"))?;
                        changed = true;
                        mac
                    }
                };
                macs.push(mac);
            }
            if changed {
                counters.insert(serial.0, counter).map_err(refused("write the counter"))?;
            }
        }
        if changed {
            // The default durability: the commit returns when the file is on disk.
            transaction.commit().map_err(refused("commit"))?;
        } else {
            transaction.abort().map_err(refused("end a transaction"))?;
        }
        Ok(macs)
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

    /// Remembers `text` as the configuration in use and gives its epoch: the stored one when the text is the
    /// stored text, else one more.
    ///
    /// # Errors
    ///
    /// When the registry cannot be read or written.
    pub fn apply_configuration(&self, text: &str) -> Result<u64, StoreError> {
        let doing = "write the configuration";
        let transaction = self.database.begin_write().map_err(refused("begin to write"))?;
        let epoch;
        {
            let mut texts = transaction.open_table(TEXTS).map_err(refused(doing))?;
            let mut epochs = transaction.open_table(EPOCHS).map_err(refused(doing))?;
            let last = epochs.get(APPLIED).map_err(refused(doing))?.map_or(0, |e| e.value());
            let same = texts.get(APPLIED).map_err(refused(doing))?.is_some_and(|t| t.value() == text);
            if same && last > 0 {
                return Ok(last);
            }
            epoch = last + 1;
            texts.insert(APPLIED, text).map_err(refused(doing))?;
            epochs.insert(APPLIED, epoch).map_err(refused(doing))?;
        }
        transaction.commit().map_err(refused("commit"))?;
        Ok(epoch)
    }
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
    transaction.open_table(TEXTS).map_err(refused("create a table"))?;
    transaction.open_table(EPOCHS).map_err(refused("create a table"))?;
    transaction.commit().map_err(refused("commit"))?;
    drop(database);
    fs::rename(&draft, path).map_err(opened)?;
    File::open(state_dir).and_then(|dir| dir.sync_all()).map_err(opened)
}

fn mac_from_bits(bits: u64) -> Option<MacAddress> {
    MacAddress::from_octets(&bits.to_be_bytes()[2..])
}

fn refuse_fixed(
    mac: MacAddress,
    fixed: &[MacAddress],
    node: NodeNumber,
    lan: LanId,
) -> Result<MacAddress, StoreError> {
    if fixed.contains(&mac) { Err(StoreError::MacTaken { mac, node, lan }) } else { Ok(mac) }
}

/// Takes the counter's next value whose MAC is not in `fixed`.
fn next_mac(
    serial: ControlNodeSerial,
    counter: &mut u32,
    fixed: &[MacAddress],
) -> Result<MacAddress, StoreError> {
    loop {
        let mac =
            MacAddress::from_counter(serial, *counter).ok_or(StoreError::CounterExhausted { serial })?;
        *counter += 1;
        if !fixed.contains(&mac) {
            return Ok(mac);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERIAL: ControlNodeSerial = ControlNodeSerial(7);

    fn wanted(nodes: std::ops::Range<u16>) -> Vec<(NodeNumber, LanId)> {
        nodes.map(|n| (NodeNumber(n), LanId(10))).collect()
    }

    #[test]
    fn an_interface_keeps_its_mac_when_the_registry_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let first = Store::open(dir.path()).unwrap().macs_for(&wanted(1..4), SERIAL, &[]).unwrap();
        let again = Store::open(dir.path()).unwrap().macs_for(&wanted(1..5), SERIAL, &[]).unwrap();
        assert_eq!(first[..], again[..3]);
        assert!(!first.contains(&again[3]));
    }

    #[test]
    fn a_mac_that_the_configuration_gives_is_not_given_by_the_counter() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let fixed = MacAddress::from_counter(SERIAL, FIRST_COUNT).unwrap();
        let macs = store.macs_for(&wanted(1..3), SERIAL, &[fixed]).unwrap();
        assert!(!macs.contains(&fixed));
        let taken = store.macs_for(&wanted(1..3), SERIAL, &macs[1..]);
        assert!(matches!(taken, Err(StoreError::MacTaken { node: NodeNumber(2), .. })), "{taken:?}");
    }

    #[test]
    fn an_exhausted_counter_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let transaction = store.database.begin_write().unwrap();
        transaction.open_table(COUNTERS).unwrap().insert(SERIAL.0, (1 << 24) - 1).unwrap();
        transaction.commit().unwrap();
        let refused = store.macs_for(&wanted(1..3), SERIAL, &[]);
        assert!(matches!(refused, Err(StoreError::CounterExhausted { serial: SERIAL })));
        assert!(store.assignments().unwrap().is_empty());
        assert_eq!(store.macs_for(&wanted(1..2), SERIAL, &[]).unwrap().len(), 1);
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
        assert_eq!(store.apply_configuration("a").unwrap(), 1);
        assert_eq!(store.apply_configuration("a").unwrap(), 1);
        assert_eq!(store.apply_configuration("b").unwrap(), 2);
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
            store.apply_configuration(&text).unwrap();
            text
        };
        assert_eq!((start("a"), start("a")), ("a".into(), "a".into()));
        Store::open(dir.path()).unwrap().apply_configuration("b").unwrap();
        assert_eq!((start("a"), start("a")), ("b".into(), "b".into()));
        assert_eq!(start("c"), "c", "the file has changed");
        Store::open(dir.path()).unwrap().apply_configuration("d").unwrap();
        assert_eq!(start("d"), "d", "the file has been applied");
        assert_eq!(start("c"), "c", "and changed back");
    }
}
