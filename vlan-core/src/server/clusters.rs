//! Cluster addresses of a LAN: frames to their MACs go to their proxies.

use alloc::boxed::Box;

use super::LanServer;
use crate::address::MacAddress;
use crate::mac_table::MacTable;

impl LanServer {
    /// These MACs are those of cluster addresses from now on, each with the number of its cluster, and no others.
    //= spec/cluster.md#frames-for-a-cluster
    //# The server of a LAN MUST give every unicast frame of a member to the MAC of a cluster address to the proxy of that cluster, and to nobody else.
    pub fn set_clusters(&mut self, macs: &[(MacAddress, u16)]) {
        let mut table = MacTable::new(macs.len().max(1), self.config.seed);
        for &(mac, cluster) in macs {
            // There is room for each of them.
            let _ = table.insert(mac, cluster);
        }
        self.clusters = (!macs.is_empty()).then(|| Box::new(table));
    }

    /// The number of the cluster one of whose addresses has this MAC.
    #[must_use]
    pub fn cluster_of(&self, mac: MacAddress) -> Option<u16> {
        self.clusters.as_ref()?.lookup(mac)
    }

    /// Counts a frame from outside that its uplink has let in for a cluster.
    pub fn from_outside_for_cluster(&mut self) {
        self.ledger.ingress += 1;
    }

    /// Counts a frame that a real server has given back.
    pub fn from_server(&mut self) {
        self.ledger.ingress += 1;
    }
}
