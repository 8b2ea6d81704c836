//! The MAC of each cluster address.

use std::collections::BTreeSet;
use std::net::IpAddr;

use redb::{ReadableTable, WriteTransaction};
use vlan_core::{ControlNodeSerial, LanId, MacAddress};

use super::memberships::next_mac;
use super::{CLUSTER_MACS, COUNTERS, FIRST_COUNT, StoreError, mac_from_bits, refused};

/// A cluster address of a LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterAddress {
    /// The LAN.
    pub lan: LanId,
    /// The address.
    pub address: IpAddr,
}

/// The MAC of each of `wanted`, which are all there are; a new one gets what none had before it. `fixed`: MACs that the
/// configuration gives to interfaces.
//= spec/cluster.md#macs
//# Each cluster address MUST have a MAC from the control node's counter, and keep it for as long as it is one.
pub(super) fn identify(
    transaction: &WriteTransaction,
    wanted: &[ClusterAddress],
    fixed: &[MacAddress],
    serial: ControlNodeSerial,
) -> Result<Vec<MacAddress>, StoreError> {
    let reading = "read the MACs";
    let keys: Vec<(u16, String)> = wanted.iter().map(|of| (of.lan.0, of.address.to_string())).collect();
    let known: BTreeSet<(u16, &str)> = keys.iter().map(|(lan, text)| (*lan, text.as_str())).collect();
    let mut table = transaction.open_table(CLUSTER_MACS).map_err(refused(reading))?;
    table.retain(|key, _| known.contains(&key)).map_err(refused("forget MACs"))?;
    let mut counters = transaction.open_table(COUNTERS).map_err(refused("read the counter"))?;
    let stored = counters.get(serial.0).map_err(refused("read the counter"))?.map(|count| count.value());
    let mut counter = stored.unwrap_or(FIRST_COUNT);
    let mut macs = Vec::with_capacity(wanted.len());
    for (of, (lan, text)) in wanted.iter().zip(&keys) {
        let key = (*lan, text.as_str());
        let held = table.get(key).map_err(refused(reading))?.and_then(|bits| mac_from_bits(bits.value()));
        let mac = match held {
            Some(mac) if fixed.contains(&mac) => {
                return Err(StoreError::ClusterMacTaken { mac, address: of.address });
            }
            Some(mac) => mac,
            None => {
                let mac = next_mac(serial, &mut counter, fixed)?;
                table.insert(key, mac.to_bits()).map_err(refused("write a MAC"))?;
                mac
            }
        };
        macs.push(mac);
    }
    counters.insert(serial.0, counter).map_err(refused("write the counter"))?;
    Ok(macs)
}
