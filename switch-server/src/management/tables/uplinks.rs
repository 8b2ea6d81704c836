//! The LANs' ways outside.

use std::collections::BTreeMap;

use lan_proxy::Mode;
use lan_proxy::nic::{Driver, Nic};
use platform::management::{Counter, Uplink};
use vlan_core::Instant;
use vlan_core::cluster::DefaultRouter;
use vlan_core::counters::FrameCount;

use super::{counter, lan_name, node_name};
use crate::control_node::{self, DeviceNumber, UplinkStatus};

/// A device that is in use, and how.
#[derive(Clone, Debug)]
pub struct DeviceInUse {
    /// Its name.
    pub name: String,
    /// How it is driven.
    pub driver: Driver,
}

/// The devices that are in use, by their numbers.
pub type DevicesInUse = BTreeMap<DeviceNumber, DeviceInUse>;

impl DeviceInUse {
    /// The device that has been opened.
    #[must_use]
    pub fn of(nic: &Nic) -> Self {
        Self { name: nic.name().to_owned(), driver: nic.driver() }
    }
}

/// Every uplink; `devices` are their devices.
pub fn uplinks(status: &control_node::Status, devices: &DevicesInUse, now: Instant) -> Vec<Uplink> {
    status.uplinks.iter().map(|uplink| one(status, devices, now, uplink)).collect()
}

fn one(status: &control_node::Status, devices: &DevicesInUse, now: Instant, uplink: &UplinkStatus) -> Uplink {
    let (config, counters) = (&uplink.config, &uplink.counters);
    let used = devices.get(&config.device);
    let device = status.devices.iter().find(|device| device.number == config.device);
    let state = device.and_then(|device| device.state);
    let age_ms = |at| u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX);
    Uplink {
        lan: lan_name(status, uplink.lan),
        mode: match config.mode {
            Mode::Filtered { .. } => "filtered".to_owned(),
            Mode::Unfiltered => "unfiltered".to_owned(),
        },
        system_mac: config.mode.system().map_or_else(String::new, |mac| mac.to_string()),
        vid: config.vid.map_or(0, |vid| vid.number()),
        device: used.map_or_else(String::new, |used| used.name.clone()),
        driver: used.map_or_else(String::new, |used| used.driver.to_string()),
        carrier: state.is_some_and(|state| state.has_carrier),
        mtu: state.map_or(0, |state| state.device.mtu),
        default_router: config.default_router.map_or_else(String::new, |router| match router {
            DefaultRouter::Node(node) => node_name(status, node),
            DefaultRouter::Cluster(address) => address.to_string(),
        }),
        out_frames: counters.outward.frames,
        out_octets: counters.outward.octets,
        sent_frames: counters.sent.frames,
        sent_octets: counters.sent.octets,
        in_frames: counters.inward.frames,
        in_octets: counters.inward.octets,
        taken_frames: counters.taken.frames,
        taken_octets: counters.taken.octets,
        dropped: counters.drops.total() + device.map_or(0, |device| device.drops.total()),
        errors: counters.errors,
        stations: uplink.stations.iter().map(ToString::to_string).collect(),
        loop_age_ms: uplink.last_loop.map(age_ms),
    }
}

/// What the uplinks have counted.
pub(super) fn counters(status: &control_node::Status) -> impl Iterator<Item = Counter> + '_ {
    status.uplinks.iter().flat_map(|uplink| {
        let lan = lan_name(status, uplink.lan);
        let name = move |what: &str| format!("uplink.{lan}.{what}");
        let counted = &uplink.counters;
        let ways: [(&str, FrameCount); 4] = [
            ("out", counted.outward),
            ("sent", counted.sent),
            ("in", counted.inward),
            ("taken", counted.taken),
        ];
        let mut all = vec![counter(name("errors"), counted.errors)];
        for (way, count) in ways {
            all.push(counter(name(&format!("{way}.frames")), count.frames));
            all.push(counter(name(&format!("{way}.octets")), count.octets));
        }
        all.extend(counted.drops.iter().map(|(reason, n)| counter(name(&format!("drop.{reason}")), n)));
        all
    })
}
