//! Uplinks that come, go and change while frames flow.

use alloc::vec::Vec;

use lan_proxy::{Device, LanProxy, MTU_MIN, Mode, Vid};
use vlan_core::{Instant, LanId};

use super::{Announcements, DeviceNumber, Uplink, UplinkConfig, Uplinks};
use crate::control_node::{ControlNode, Lan};

/// A device that no host has looked at yet: nothing goes by it.
const UNKNOWN_DEVICE: Device = Device { mtu: MTU_MIN, offloads: false };

/// The uplink that a LAN has from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UplinkChange {
    /// Which it is.
    pub lan: LanId,
    /// Its uplink; none when it is to have none.
    pub uplink: Option<UplinkConfig>,
}

/// What those outside and those inside may notice of an uplink.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    outside: Option<(Mode, Option<Vid>, DeviceNumber)>,
    has_carrier: bool,
}

impl Uplinks {
    /// Has the uplink of the LAN at `place` be as the LAN's configuration says. [`Self::find_places`] is to follow.
    pub(super) fn configure(&mut self, place: usize, lan: &Lan) {
        let link = self.links.iter().position(|link| link.lan == place);
        let Some(config) = lan.config.uplink.clone() else {
            if let Some(link) = link {
                let link = self.links.remove(link);
                self.ports[link.device].drop_of(place);
            }
            return;
        };
        let found = self.port(config.device).state.map_or(UNKNOWN_DEVICE, |state| state.device);
        match link {
            Some(link) => {
                let link = &mut self.links[link];
                let former = link.device;
                if link.change(config, found) {
                    self.ports[former].drop_of(place);
                }
            }
            None => self.links.extend(Uplink::new(place, config, (found, lan.config.mtu), self.seed)),
        }
    }

    /// Says anew which tags of which devices lead to which uplinks. One that another one leaves no tag for is left out.
    pub(super) fn find_places(&mut self, lans: &mut [Lan]) {
        for lan in lans.iter_mut() {
            lan.uplink = None;
            lan.server.set_uplink(false);
        }
        self.ports.iter_mut().for_each(|port| port.trunk.clear());
        for link in core::mem::take(&mut self.links) {
            let trunk = &mut self.ports[link.device].trunk;
            if trunk.add(link.config.vid, self.links.len() as u16).is_ok() {
                let lan = &mut lans[link.lan];
                lan.uplink = Some(self.links.len());
                lan.server.set_uplink(true);
                self.links.push(link);
            }
        }
    }

    /// Ends what waits for devices by which no uplink goes any more. To follow when all uplinks have their places: a device that comes
    /// with a configuration has been looked at before.
    pub(in crate::control_node) fn close_unused(&mut self) {
        for (place, port) in self.ports.iter_mut().enumerate() {
            if self.links.iter().all(|link| link.device != place) {
                port.close();
            }
        }
    }

    fn seen(&self, lan: &Lan) -> Option<(Mode, Option<Vid>, DeviceNumber)> {
        let config = &self.links[lan.uplink?].config;
        Some((config.mode, config.vid, config.device))
    }
}

impl Uplink {
    fn new(lan: usize, config: UplinkConfig, (device, lan_mtu): (Device, u16), seed: u64) -> Option<Self> {
        let proxy = LanProxy::new(&lan_proxy::UplinkConfig {
            mode: config.mode,
            vid: config.vid,
            device,
            lan_mtu,
            limits: Default::default(),
            seed,
        });
        let device = usize::from(config.device.0);
        Some(Self { lan, device, config, proxy: proxy.ok()?, announcements: Announcements::default() })
    }

    /// Has another configuration. What it has counted stays, and what is known of the network outside as long as it is the same one. True
    /// when frames go another way from now on.
    fn change(&mut self, config: UplinkConfig, device: Device) -> bool {
        let of = |config: &UplinkConfig| (config.mode, config.vid, config.device);
        let is_another = of(&config) != of(&self.config);
        if is_another {
            // The platform file's check refuses what a proxy refuses, and devices that are too small have no carrier.
            let _ = self.proxy.change(config.mode, config.vid);
            let _ = self.proxy.set_device(device);
            self.announcements.stop();
        }
        self.device = usize::from(config.device.0);
        self.config = config;
        is_another
    }
}

impl ControlNode {
    /// Gives LANs that stay other uplinks, or none.
    //= spec/control-node.md#changed-uplinks
    //# When an applied file gives a LAN an uplink, takes it away or changes it, a control node MUST carry the LAN's frames as the file
    //# says from then on, tell outside who is where, and lose no frame of another LAN or between members.
    pub(in crate::control_node) fn change_uplinks(&mut self, now: Instant, changes: Vec<UplinkChange>) {
        let known =
            changes.into_iter().filter_map(|change| Some((self.lan_place(change.lan)?, change.uplink)));
        let known: Vec<_> = known.collect();
        let places: Vec<usize> = known.iter().map(|(lan, _)| *lan).collect();
        let before: Vec<Seen> = places.iter().map(|&lan| self.seen_of(lan)).collect();
        // All of them before any has its place, since one may have the tag that another had.
        for (lan, uplink) in known {
            self.lans[lan].config.uplink = uplink;
            self.uplinks.configure(lan, &self.lans[lan]);
        }
        self.uplinks.find_places(&mut self.lans);
        for (lan, before) in places.into_iter().zip(before) {
            self.tell_change(now, lan, before);
        }
    }

    /// A LAN has come, or goes: so does its uplink, if it has one.
    pub(in crate::control_node) fn lan_changed(&mut self, now: Instant, lan: usize) {
        self.uplinks.configure(lan, &self.lans[lan]);
        self.uplinks.find_places(&mut self.lans);
        self.tell_change(now, lan, Seen { outside: None, has_carrier: self.has_carrier(lan) });
    }

    fn seen_of(&self, lan: usize) -> Seen {
        Seen { outside: self.uplinks.seen(&self.lans[lan]), has_carrier: self.has_carrier(lan) }
    }

    /// Tells whoever notices that a LAN's uplink is another one than before.
    fn tell_change(&mut self, now: Instant, lan: usize, before: Seen) {
        let after = self.seen_of(lan);
        if after.outside != before.outside {
            self.announce_lan(now, lan);
        }
        if after.has_carrier != before.has_carrier {
            for slot in self.lans[lan].slots() {
                self.tell_interface(now, lan, slot);
            }
        }
    }
}
