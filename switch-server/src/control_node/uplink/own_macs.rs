//! Every MAC of the platform, to know what comes back.

use vlan_core::MacAddress;
use vlan_core::mac_table::MacTable;

/// MACs of members, of every LAN, and of systems.
#[derive(Default)]
pub(super) struct OwnMacs {
    table: Option<MacTable<()>>,
    seed: u64,
}

impl OwnMacs {
    pub fn new(seed: u64) -> Self {
        Self { table: None, seed }
    }

    #[inline]
    pub fn contains(&self, mac: MacAddress) -> bool {
        self.table.as_ref().is_some_and(|table| table.lookup(mac).is_some())
    }

    /// These are all.
    pub fn set(&mut self, macs: &[MacAddress]) {
        let mut table = MacTable::new(macs.len().max(1), self.seed);
        for &mac in macs {
            // There is room for each of them.
            let _ = table.insert(mac, ());
        }
        self.table = Some(table);
    }
}
