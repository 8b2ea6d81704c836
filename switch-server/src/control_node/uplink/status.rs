//! What `switchctl` shows of uplinks.

use alloc::vec::Vec;

use lan_proxy::UplinkCounters;
use vlan_core::counters::DropCounters;
use vlan_core::{Instant, LanId, MacAddress};

use super::{DeviceNumber, DeviceState, UplinkConfig, Uplinks};
use crate::control_node::ControlNode;

/// The uplink of a LAN.
#[derive(Clone, Debug)]
pub struct UplinkStatus {
    /// The LAN.
    pub lan: LanId,
    /// How it is set up.
    pub config: UplinkConfig,
    /// What it has carried.
    pub counters: UplinkCounters,
    /// Stations outside that were heard within 300 s.
    pub stations: Vec<MacAddress>,
    /// When a frame of the platform's own last came back.
    pub last_loop: Option<Instant>,
}

/// A device that leads outside.
#[derive(Clone, Debug)]
pub struct DeviceStatus {
    /// The device.
    pub number: DeviceNumber,
    /// What it is like; none when it cannot be used.
    pub state: Option<DeviceState>,
    /// Frames that wait for it.
    pub waiting: usize,
    /// Frames that no uplink is to have, or for which there was no room.
    pub drops: DropCounters,
}

impl ControlNode {
    /// The uplinks and their devices.
    #[must_use]
    pub fn uplinks(&self) -> (Vec<UplinkStatus>, Vec<DeviceStatus>) {
        let Uplinks { ports, links, .. } = &self.uplinks;
        let links = links.iter().map(|link| UplinkStatus {
            lan: self.lans[link.lan].config.id,
            config: link.config.clone(),
            counters: link.proxy.counters().clone(),
            stations: link.proxy.stations().collect(),
            last_loop: link.proxy.last_loop(),
        });
        let devices = (0..).map(DeviceNumber).zip(ports).map(|(number, port)| {
            let mut drops = port.drops.clone();
            drops.add_all(port.trunk.drops());
            DeviceStatus { number, state: port.state, waiting: port.waiting(), drops }
        });
        (links.collect(), devices.collect())
    }
}
