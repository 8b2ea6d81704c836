//! Uplinks: what leaves a LAN goes through its proxy to a device of this host, and what comes in by a device to the members of its LAN.
//!
//! On the walk outward: the LAN's server says that nobody of it has the destination, or that everybody is to have the frame; it is copied
//! whole, the proxy makes of it what outside is to see, and that waits for the device. Inward: the device's trunk says whose a frame is, the
//! proxy to whom it goes, and from there it goes the way of relayed frames.

mod announcements;
mod capture;
mod changes;
mod devices;
mod inward;
mod once;
mod own_macs;
mod status;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::IpAddr;

use lan_proxy::{Holder, Inside, LanProxy, Mode, Outward, Vid};
use vlan_core::address::ControlNodeSerial;
use vlan_core::cluster::DefaultRouter;
use vlan_core::server::{CLUSTER, MemberSlot};
use vlan_core::wire::frame::Vnet;
use vlan_core::{DropReason, Instant, MacAddress};

use crate::control_node::relay::Inbound;
use crate::control_node::session::Account;
use crate::control_node::{ControlNode, Lan};

use announcements::Announcements;
use capture::Taps;
pub use changes::UplinkChange;
use devices::Port;
pub use devices::{DeviceNumber, DeviceState};
pub(super) use once::Once;
use own_macs::OwnMacs;
pub use status::{DeviceStatus, UplinkStatus};

/// The place of outside among a LAN's members: no member has it.
pub(super) const OUTSIDE: MemberSlot = MemberSlot(u16::MAX);

/// How a LAN is bridged to a network outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UplinkConfig {
    /// What outside is to see.
    pub mode: Mode,
    /// The tag of its frames there.
    pub vid: Option<Vid>,
    /// The device that they go by.
    pub device: DeviceNumber,
    /// Who gets what no member is found for, in filtered mode.
    pub default_router: Option<DefaultRouter>,
    /// The members' interfaces have a carrier only while the device has one.
    pub link_dependency: bool,
}

/// The uplink of one LAN.
struct Uplink {
    /// Place of the LAN.
    lan: usize,
    /// Place of the device.
    device: usize,
    config: UplinkConfig,
    proxy: LanProxy,
    announcements: Announcements,
}

/// All uplinks of a control node and their devices.
#[derive(Default)]
pub(super) struct Uplinks {
    ports: Vec<Port>,
    links: Vec<Uplink>,
    own: OwnMacs,
    seed: u64,
    taps: Taps,
    /// The frame that goes outside just now.
    frame: Vec<u8>,
}

/// What a proxy may ask about the LAN at `lan`.
struct InsideOf<'c> {
    lans: &'c [Lan],
    lan: usize,
    own: &'c OwnMacs,
    serial: ControlNodeSerial,
}

impl Inside for InsideOf<'_> {
    fn owner_of(&self, mac: MacAddress) -> Option<MemberSlot> {
        let server = &self.lans[self.lan].server;
        server.cluster_of(mac).map(|_| CLUSTER).or_else(|| server.slot_of(mac))
    }

    fn holder_of(&self, address: IpAddr) -> Option<Holder> {
        if let Some(mac) = self.lans[self.lan].cluster_mac(address) {
            return Some(Holder { slot: CLUSTER, mac });
        }
        let binding = self.lans[self.lan].arp.lookup(address)?;
        Some(Holder { slot: MemberSlot(binding.owner.0), mac: binding.mac })
    }

    fn is_own(&self, mac: MacAddress) -> bool {
        mac.is_from_counter(self.serial)
            || self.own.contains(mac)
            || self.lans.iter().any(|lan| lan.has_station(mac))
    }
}

impl Uplinks {
    /// The uplinks of `lans`, by `devices`. One whose configuration contradicts itself, or the other uplinks of its device, is left out:
    /// the platform file's check refuses those.
    pub(super) fn new(devices: usize, lans: &mut [Lan], seed: u64) -> Self {
        let mut new = Self {
            ports: (0..devices).map(|_| Port::default()).collect(),
            own: OwnMacs::new(seed),
            seed,
            ..Self::default()
        };
        for (place, lan) in lans.iter().enumerate() {
            new.configure(place, lan);
        }
        new.find_places(lans);
        new
    }

    /// Members have come or gone, or LANs have other options.
    pub(super) fn members_changed(&mut self, lans: &[Lan]) {
        if self.links.is_empty() {
            return;
        }
        let systems = self.links.iter().filter_map(|link| link.config.mode.system());
        let members = lans.iter().flat_map(|lan| lan.server.members().map(|(_, member)| member.mac));
        self.own.set(&systems.chain(members).collect::<Vec<_>>());
        for link in &mut self.links {
            let lan = &lans[link.lan];
            let holder = link.config.default_router.and_then(|router| lan.holder_of_router(router));
            link.proxy.set_default_router(holder);
            link.proxy.set_lan_mtu(lan.config.mtu);
        }
    }

    /// When something is due next: stations outside are forgotten, addresses announced.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let due = |link: &Uplink| [link.proxy.poll_timeout(), link.announcements.poll_timeout()];
        self.links.iter().flat_map(due).flatten().min()
    }
}

impl Lan {
    /// Who is the default router now, if anybody is.
    fn holder_of_router(&self, router: DefaultRouter) -> Option<Holder> {
        match router {
            DefaultRouter::Node(node) => {
                let slot = self.slot_of_node(node)?;
                Some(Holder { slot, mac: self.member_config(slot).mac })
            }
            DefaultRouter::Cluster(address) => {
                self.cluster_mac(address).map(|mac| Holder { slot: CLUSTER, mac })
            }
        }
    }

    /// True when a station with `mac` was learned behind a member, on a LAN that has an uplink.
    fn has_station(&self, mac: MacAddress) -> bool {
        self.uplink.is_some() && self.server.slot_of(mac).is_some()
    }
}

impl ControlNode {
    /// Gives a frame of a member to the uplink of its LAN.
    #[inline(never)]
    pub(super) fn send_outside(&mut self, now: Instant, account: &mut Account<'_>, inbound: &Inbound<'_>) {
        let lan = inbound.lan;
        self.lans[lan].server.given_outside();
        let Some(link) = self.lans[lan].uplink else { return };
        let Uplinks { ports, links, own, frame, taps, .. } = &mut self.uplinks;
        let link = &mut links[link];
        let port = &mut ports[link.device];
        if !self.lans[lan].been_outside.take(inbound.from, &inbound.header) {
            link.proxy.refused(inbound.frame_len(), DropReason::Duplicate);
            return;
        }
        frame.clear();
        frame.extend_from_slice(inbound.head());
        let head_len = frame.len();
        frame.resize(inbound.frame_len(), 0);
        inbound.message.rest.copy_to(&mut frame[head_len..]);
        if !port.has_carrier() {
            link.proxy.refused(frame.len(), DropReason::NoCarrier);
            return self.note_drop(now, inbound, DropReason::NoCarrier);
        }
        let inside = InsideOf { lans: &self.lans, lan, own, serial: self.config.serial };
        let outward = link.proxy.outward(now, &inbound.header.vnet, frame, &inside, |vnet, octets| {
            port.push(lan, vnet, octets);
        });
        match outward {
            Outward::Sent => taps.take(now, self.lans[lan].config.id, true, frame),
            Outward::Dropped(reason) => self.note_drop(now, inbound, reason),
            Outward::TooBig(error) => {
                let error = Box::<[u8]>::from(error);
                self.note_drop(now, inbound, DropReason::TooBigOutside);
                self.give_member(now, account, lan, inbound.from, &Default::default(), &error);
            }
        }
    }

    /// Sends a frame outside that a cluster's proxy or the ARP server has made, in the place of one that came from there.
    pub(super) fn answer_outside(&mut self, now: Instant, lan: usize, answer: &[u8]) {
        self.lans[lan].server.given_outside();
        let Uplinks { ports, links, own, .. } = &mut self.uplinks;
        let Some(link) = self.lans[lan].uplink.and_then(|link| links.get_mut(link)) else { return };
        let port = &mut ports[link.device];
        let inside = InsideOf { lans: &self.lans, lan, own, serial: self.config.serial };
        // What becomes of it is counted by the uplink alone.
        let mut push = |vnet: &Vnet, octets: &[u8]| port.push(lan, vnet, octets);
        link.proxy.outward(now, &Vnet::default(), answer, &inside, &mut push);
    }

    /// Does for uplinks what is due.
    pub(super) fn uplink_timeouts(&mut self, now: Instant) {
        for link in &mut self.uplinks.links {
            link.proxy.handle_timeout(now);
        }
        self.go_on_announcing(now);
    }

    /// What the uplink of the LAN at `lan` would make of a frame: how many frames outside, or why none. Nothing is changed.
    pub(super) fn outside_of(
        &self,
        now: Instant,
        lan: usize,
        vnet: &Vnet,
        frame: &[u8],
    ) -> Option<Result<usize, DropReason>> {
        let Uplinks { ports, links, own, .. } = &self.uplinks;
        let link = &links[self.lans[lan].uplink?];
        if !ports[link.device].has_carrier() {
            return Some(Err(DropReason::NoCarrier));
        }
        let (mut frames, mut proxy) = (0, link.proxy.clone());
        let inside = InsideOf { lans: &self.lans, lan, own, serial: self.config.serial };
        Some(match proxy.outward(now, vnet, frame, &inside, |_, _| frames += 1) {
            Outward::Sent => Ok(frames),
            Outward::Dropped(reason) => Err(reason),
            Outward::TooBig(_) => Err(DropReason::TooBigOutside),
        })
    }
}
