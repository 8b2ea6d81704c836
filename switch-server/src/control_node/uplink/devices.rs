//! The devices of uplinks as the machine knows them: what the host has found of each, and what waits for it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use lan_proxy::{MTU_MIN, Trunk};
use vlan_core::counters::DropCounters;
use vlan_core::wire::frame::Vnet;
use vlan_core::{DropReason, Instant};

use super::{Uplink, Uplinks};
use crate::control_node::ControlNode;

/// Frames that wait for a device at most.
const WAITING_FRAMES_MAX: usize = 4096;
/// Their octets.
const WAITING_OCTETS_MAX: usize = 4 << 20;

/// A device of a control node that leads outside, by its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceNumber(pub u16);

/// What the host has found of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceState {
    /// What proxies have to know of it.
    pub device: lan_proxy::Device,
    /// It is there and something is connected to it.
    pub has_carrier: bool,
}

/// A device and the LANs that go by it.
#[derive(Default)]
pub(super) struct Port {
    pub trunk: Trunk,
    /// None while its MTU is too small, or nobody has looked at it.
    pub state: Option<DeviceState>,
    waiting: Queue,
    /// Frames for which there was no room.
    pub drops: DropCounters,
}

/// Frames in the order in which they came, one behind the other in one piece of memory.
#[derive(Default)]
struct Queue {
    frames: VecDeque<Waiting>,
    octets: VecDeque<u8>,
}

struct Waiting {
    /// Place of the LAN whose uplink it goes by.
    lan: usize,
    vnet: Vnet,
    len: usize,
}

impl Port {
    pub fn has_carrier(&self) -> bool {
        self.state.is_some_and(|state| state.has_carrier)
    }

    //= spec/uplink.md#full-devices
    //# What a device does not take at once MUST wait in the order in which it came, up to 4 MiB and 4096 frames; what finds no room
    //# MUST be dropped as `egress-full`.
    pub fn push(&mut self, lan: usize, vnet: &Vnet, frame: &[u8]) {
        let Queue { frames, octets } = &mut self.waiting;
        if frames.len() == WAITING_FRAMES_MAX || octets.len() + frame.len() > WAITING_OCTETS_MAX {
            self.drops.add(DropReason::EgressFull);
            return;
        }
        frames.push_back(Waiting { lan, vnet: *vnet, len: frame.len() });
        octets.extend(frame);
    }

    /// Frames that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.frames.len()
    }

    fn first(&mut self) -> Option<(Vnet, &[u8])> {
        let &Waiting { vnet, len, .. } = self.waiting.frames.front()?;
        let octets = &mut self.waiting.octets;
        if octets.as_slices().0.len() < len {
            octets.make_contiguous();
        }
        Some((vnet, &octets.as_slices().0[..len]))
    }

    fn remove_first(&mut self) {
        if let Some(Waiting { len, .. }) = self.waiting.frames.pop_front() {
            self.waiting.octets.drain(..len);
        }
    }

    /// The way by which frames of a LAN were to go is another one: what waits states MAC addresses that may be hidden now, or has a tag
    /// that may be another LAN's.
    //= spec/uplink.md#frames-of-a-former-way
    //# When the uplink of a LAN goes, or has another mode, tag or device, what waits of the LAN MUST be dropped as `no-carrier`.
    pub fn drop_of(&mut self, lan: usize) {
        let Queue { frames, octets } = core::mem::take(&mut self.waiting);
        let mut octets = octets.into_iter();
        for frame in frames {
            let own = octets.by_ref().take(frame.len);
            if frame.lan == lan {
                own.for_each(drop);
                self.drops.add(DropReason::NoCarrier);
            } else {
                self.waiting.octets.extend(own);
                self.waiting.frames.push_back(frame);
            }
        }
    }

    /// Nobody uses it any more.
    pub fn close(&mut self) {
        self.clear();
        self.state = None;
    }

    fn clear(&mut self) {
        self.drops.add_many(DropReason::NoCarrier, self.waiting.frames.len() as u64);
        self.waiting = Queue::default();
    }
}

impl Uplinks {
    /// What is known of a device, whether an uplink goes by it yet or not.
    pub(super) fn port(&mut self, number: DeviceNumber) -> &mut Port {
        let place = usize::from(number.0);
        if self.ports.len() <= place {
            self.ports.resize_with(place + 1, Port::default);
        }
        &mut self.ports[place]
    }
}

impl ControlNode {
    /// The host has looked at a device: at the start, before a configuration is applied with which it comes, and whenever something
    /// of it has changed.
    //= spec/uplink.md#no-carrier
    //# What is for an uplink whose device is not there, or has no carrier, MUST be dropped as `no-carrier`.
    pub fn handle_device(&mut self, now: Instant, number: DeviceNumber, state: DeviceState) {
        let place = usize::from(number.0);
        let had_carrier = self.uplinks.port(number).has_carrier();
        let mut links = self.uplinks.links.iter_mut().filter(|link| link.device == place);
        let is_usable =
            state.device.mtu >= MTU_MIN && links.all(|link| link.proxy.set_device(state.device).is_ok());
        let port = self.uplinks.port(number);
        port.state = Some(state).filter(|_| is_usable);
        if !port.has_carrier() {
            port.clear();
            let links = self.uplinks.links.iter_mut().filter(|link| link.device == place);
            links.for_each(|link| link.announcements.stop());
        } else if !had_carrier {
            self.announce_all(now, place);
        }
        if had_carrier != self.uplinks.ports[place].has_carrier() {
            self.tell_carrier(now, place);
        }
    }

    /// A device has dropped so many frames that came in, because they were longer than any room for them.
    //= spec/xdp.md#frames-in-several-chunks
    //# A frame that arrives in several chunks MUST be given as one, and one that is longer than the room for it MUST be
    //# dropped and counted.
    pub fn handle_too_long(&mut self, number: DeviceNumber, frames: u64) {
        if let Some(port) = self.uplinks.ports.get_mut(usize::from(number.0)) {
            port.drops.add_many(DropReason::TooLong, frames);
        }
    }

    /// Tells the members whose carrier depends on a device that it has one, or none.
    //= spec/uplink.md#link-dependency
    //# While an uplink with a link dependency has no carrier, a control node MUST tell the nodes of its LAN to take the carrier from
    //# their interfaces, and give it back afterwards.
    fn tell_carrier(&mut self, now: Instant, place: usize) {
        let of_device = |link: &&Uplink| link.device == place && link.config.link_dependency;
        let lans: Vec<usize> = self.uplinks.links.iter().filter(of_device).map(|link| link.lan).collect();
        for lan in lans {
            for slot in self.lans[lan].slots() {
                self.tell_interface(now, lan, slot);
            }
        }
    }

    /// False while the interfaces of a LAN are to have no carrier.
    pub(in crate::control_node) fn has_carrier(&self, lan: usize) -> bool {
        let link = self.lans[lan].uplink.map(|link| &self.uplinks.links[link]);
        link.is_none_or(|link| !link.config.link_dependency || self.uplinks.ports[link.device].has_carrier())
    }

    /// True while the device is to hear every frame: a LAN that goes by it has a promiscuous listener.
    //= spec/uplink.md#promiscuous-devices
    //# While a LAN has a promiscuous listener, the device of its uplink MUST be promiscuous, and each listener MUST get a copy of a
    //# unicast frame from outside that is for nobody of the LAN.
    #[must_use]
    pub fn wants_promiscuous(&self, number: DeviceNumber) -> bool {
        let mut links = self.uplinks.links.iter().filter(|link| link.device == usize::from(number.0));
        links.any(|link| self.lans[link.lan].server.has_listeners())
    }

    /// The frame that is to go by a device next, as it is to be on the wire, and the state that the device has to finish. It stays there
    /// until [`Self::outside_taken`].
    pub fn poll_outside(&mut self, number: DeviceNumber) -> Option<(Vnet, &[u8])> {
        self.uplinks.ports.get_mut(usize::from(number.0))?.first()
    }

    /// The device has taken the frame that [`Self::poll_outside`] gave last, or refused it for good.
    pub fn outside_taken(&mut self, number: DeviceNumber, is_taken: bool) {
        let Some(port) = self.uplinks.ports.get_mut(usize::from(number.0)) else { return };
        if !is_taken {
            port.drops.add(DropReason::DeviceFull);
        }
        port.remove_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_does_not_take_waits_in_order_and_within_bounds() {
        //= spec/uplink.md#full-devices
        //= type=test
        //# What a device does not take at once MUST wait in the order in which it came, up to 4 MiB and 4096 frames; what finds no room
        //# MUST be dropped as `egress-full`.
        let mut port = Port::default();
        let long = vec![7; 60_000];
        for _ in 0..WAITING_FRAMES_MAX + 3 {
            port.push(0, &Vnet::default(), &[1, 2, 3]);
        }
        assert_eq!((port.waiting(), port.drops.of(DropReason::EgressFull)), (WAITING_FRAMES_MAX, 3));
        while port.first().is_some() {
            port.remove_first();
        }
        for number in 0..80_u8 {
            port.push(0, &Vnet { gso_size: number.into(), ..Vnet::default() }, &long);
        }
        assert_eq!(port.waiting(), WAITING_OCTETS_MAX / 60_000);
        for number in 0..5_u8 {
            let first = port.first().map(|(vnet, frame)| (vnet.gso_size, frame.len()));
            assert_eq!(first, Some((number.into(), 60_000)));
            port.remove_first();
            // So that what lies in memory in two pieces is met too.
            port.push(0, &Vnet { gso_size: 80 + u16::from(number), ..Vnet::default() }, &long);
        }
        assert_eq!(port.first().map(|(vnet, _)| vnet.gso_size), Some(5));
        port.clear();
        assert_eq!((port.waiting(), port.first()), (0, None));
    }

    #[test]
    fn what_waits_of_one_lan_is_dropped_and_the_others_stays_in_order() {
        //= spec/uplink.md#frames-of-a-former-way
        //= type=test
        //# When the uplink of a LAN goes, or has another mode, tag or device, what waits of the LAN MUST be dropped as `no-carrier`.
        let mut port = Port::default();
        for number in 0..30_u8 {
            port.push(usize::from(number % 3), &Vnet::default(), &vec![number; usize::from(number)]);
        }
        port.drop_of(1);
        assert_eq!((port.waiting(), port.drops.of(DropReason::NoCarrier)), (20, 10));
        for number in (0..30_u8).filter(|number| number % 3 != 1) {
            assert_eq!(
                port.first().map(|(_, frame)| frame.to_vec()),
                Some(vec![number; usize::from(number)])
            );
            port.remove_first();
        }
        assert_eq!(port.waiting(), 0);
    }
}
