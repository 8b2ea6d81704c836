//! What is known of a device, as of the last look at it.

use std::os::fd::AsFd;
use std::string::String;
use std::vec::Vec;

use rustix::io::Errno;
use rvi::host::packet_socket::{self, Membership, OpenError, refused};

use crate::edge::{Device, MTU_MIN};
use crate::nic::NicError;
use crate::proxy::Mode;

/// A device under its name.
#[derive(Debug)]
pub(super) struct Looked {
    pub name: String,
    pub index: i32,
    pub device: Device,
    pub has_carrier: bool,
    /// Octets of the longest packet that its driver carries, whatever the device's MTU.
    mtu_max: u16,
}

impl Looked {
    /// A device that was found, by a driver that can leave sums and segments to it or not.
    pub fn new(name: &str, found: &packet_socket::Device, offloads: bool) -> Result<Self, NicError> {
        let mtu_max = u16::MAX;
        let device = device_of(found, offloads, mtu_max)
            .ok_or(NicError::MtuTooSmall { device: name.into(), mtu: found.mtu })?;
        Ok(Self { name: name.into(), index: found.index, device, has_carrier: found.is_running, mtu_max })
    }

    /// Its driver carries packets of `mtu_max` octets at most.
    pub fn limit(&mut self, mtu_max: u16) {
        self.mtu_max = mtu_max;
        self.device.mtu = self.device.mtu.min(mtu_max);
    }

    /// Looks again; true when anything has changed. `attach` is called with the device of the name where the driver is attached to another
    /// one, by its index, or to none, and says whether it can be used now.
    //= spec/uplink.md#devices-that-change
    //# A look at a device MUST find its MTU, whether it has a carrier, and another device that has taken its place under its name,
    //# which the uplink then uses; frames MUST be judged by that MTU from then on.
    pub fn look(
        &mut self,
        socket: &impl AsFd,
        attached: Option<i32>,
        attach: impl FnOnce(&packet_socket::Device) -> bool,
    ) -> bool {
        let before = (self.index, self.device, self.has_carrier);
        // One that has gone may come back.
        let found = packet_socket::device(socket, &self.name).ok().flatten();
        let usable =
            found.and_then(|found| Some((found, device_of(&found, self.device.offloads, self.mtu_max)?)));
        self.has_carrier = usable.is_some_and(|(found, _)| found.is_running);
        if let Some((found, device)) = usable {
            if attached != Some(found.index) && !attach(&found) {
                // Tried again at the next look.
                self.has_carrier = false;
                return before.2;
            }
            (self.index, self.device) = (found.index, device);
        }
        before != (self.index, self.device, self.has_carrier)
    }
}

fn membership_of(mode: Mode) -> Membership {
    match mode {
        Mode::Filtered { system } => Membership::Station(system),
        Mode::Unfiltered => Membership::Promiscuous,
    }
}

/// `None` when it takes less than an uplink needs.
fn device_of(found: &packet_socket::Device, offloads: bool, mtu_max: u16) -> Option<Device> {
    let mtu = u16::try_from(found.mtu).unwrap_or(u16::MAX).min(mtu_max);
    (mtu >= MTU_MIN).then_some(Device { mtu, offloads })
}

/// What a device is to hear, by a packet socket, for as long as that is open.
#[derive(Debug)]
pub(super) struct Hearing {
    /// Of the device's uplinks.
    modes: Vec<Mode>,
    /// It is to hear everything for now.
    is_promiscuous: bool,
    /// The device that hears what `joined` says.
    index: i32,
    /// What the kernel was asked for, each once: it counts how often.
    joined: Vec<Membership>,
    /// It hears neither less nor more than it is to hear.
    is_settled: bool,
}

impl Hearing {
    pub fn new(modes: &[Mode]) -> Self {
        let modes = modes.to_vec();
        Self { modes, is_promiscuous: false, index: 0, joined: Vec::new(), is_settled: true }
    }

    /// Has a device hear what its uplinks are to hear, and the one that did so before nothing more.
    //= spec/uplink.md#what-a-device-hears
    //# The device of an uplink MUST be made to hear the uplink's system MAC and every group in filtered mode, and everything in
    //# unfiltered mode.
    pub fn join(&mut self, socket: &impl AsFd, index: i32) -> Result<(), OpenError> {
        for membership in self.joined.drain(..) {
            // It is gone with the device where that is not there any more.
            let _ = packet_socket::leave(socket.as_fd(), self.index, membership);
        }
        self.index = index;
        self.settle(socket).map_err(refused("PACKET_ADD_MEMBERSHIP"))
    }

    /// Has the device hear what these uplinks are to hear in place of what others were.
    pub fn set_modes(&mut self, socket: &impl AsFd, modes: &[Mode]) -> Result<(), Errno> {
        if self.modes != modes {
            self.modes = modes.to_vec();
            self.is_settled = false;
        }
        if self.is_settled { Ok(()) } else { self.settle(socket) }
    }

    /// Has the device hear everything for as long as somebody inside listens, beside what its uplinks need.
    pub fn set_promiscuous(&mut self, socket: &impl AsFd, is_promiscuous: bool) -> Result<(), Errno> {
        if self.is_promiscuous != is_promiscuous {
            self.is_promiscuous = is_promiscuous;
            self.is_settled = false;
        }
        if self.is_settled { Ok(()) } else { self.settle(socket) }
    }

    /// Asks for what is missing before it takes back what is too much, so that nothing is missed in between.
    fn settle(&mut self, socket: &impl AsFd) -> Result<(), Errno> {
        self.is_settled = false;
        let promiscuous = self.is_promiscuous.then_some(Membership::Promiscuous);
        let modes = self.modes.iter().copied().map(membership_of);
        let wanted: Vec<_> =
            core::iter::once(Membership::AllGroups).chain(modes).chain(promiscuous).collect();
        for membership in &wanted {
            if !self.joined.contains(membership) {
                packet_socket::join(socket.as_fd(), self.index, *membership)?;
                self.joined.push(*membership);
            }
        }
        for membership in self.joined.extract_if(.., |membership| !wanted.contains(membership)) {
            let _ = packet_socket::leave(socket.as_fd(), self.index, membership);
        }
        self.is_settled = true;
        Ok(())
    }
}
