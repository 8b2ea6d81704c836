//! Devices of uplinks: how frames get outside and in.
//!
//! | file | is |
//! |---|---|
//! | `nic/af_packet.rs` | a device by a packet socket |
//! | `nic/af_xdp.rs` | a device by AF_XDP |
//! | `nic/tap.rs` | a TAP device |
//! | `nic/looked.rs` | what is known of a device, and what it is to hear |

pub mod af_packet;
pub mod af_xdp;
mod error;
mod looked;
pub mod tap;

use core::fmt;
use std::boxed::Box;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use vlan_core::Instant;
use vlan_core::limits::FRAME_LEN_MAX;
use vlan_core::super_frame::FrameRoom;
use vlan_core::wire::Vnet;

use crate::edge::Device;
use crate::proxy::Mode;
use crate::tag::TAG_LEN;
use af_packet::AfPacket;
use af_xdp::AfXdp;
use looked::Looked;
use tap::TapDevice;

pub use error::NicError;

/// How a device is driven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// By what is best for it.
    #[default]
    Auto,
    /// By a packet socket.
    AfPacket,
    /// By AF_XDP.
    AfXdp,
    /// As a TAP device.
    Tap,
}

impl fmt::Display for Driver {
    /// The word of the platform file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::AfPacket => "af-packet",
            Self::AfXdp => "af-xdp",
            Self::Tap => "tap",
        })
    }
}

/// A device that belongs to uplinks; readable, by [`AsFd`], when frames are there.
#[derive(Debug)]
#[non_exhaustive]
pub enum Nic {
    /// By a packet socket.
    AfPacket(AfPacket),
    /// By AF_XDP.
    AfXdp(AfXdp),
    /// A TAP device.
    Tap(TapDevice),
}

impl Nic {
    /// Opens a device of this thread's network namespace for uplinks of these modes. It has no other use: give it no address.
    ///
    /// # Errors
    /// When there is no such Ethernet device, when its MTU is too small, or when it cannot be driven so.
    //= spec/uplink.md#drivers
    //# A device MUST be driven as the platform file says, and not be used when it cannot be.
    pub fn open(name: &str, driver: Driver, modes: &[Mode]) -> Result<Self, NicError> {
        match driver {
            Driver::Auto | Driver::AfPacket => AfPacket::open(name, modes).map(Self::AfPacket),
            Driver::AfXdp => AfXdp::open(name, modes).map(Self::AfXdp),
            Driver::Tap => TapDevice::open(name).map(Self::Tap),
        }
    }

    /// How it is driven.
    #[must_use]
    pub fn driver(&self) -> Driver {
        match self {
            Self::AfPacket(_) => Driver::AfPacket,
            Self::AfXdp(_) => Driver::AfXdp,
            Self::Tap(_) => Driver::Tap,
        }
    }

    /// Has the device hear what uplinks of these modes are to hear, and nothing more that earlier ones were to hear. A TAP hears all.
    ///
    /// # Errors
    /// What the kernel says; the device hears at least what it heard before then.
    pub fn set_modes(&mut self, modes: &[Mode]) -> Result<(), Errno> {
        match self {
            Self::AfPacket(nic) => nic.set_modes(modes),
            Self::AfXdp(nic) => nic.set_modes(modes),
            Self::Tap(_) => Ok(()),
        }
    }

    /// Has the device hear everything for as long as somebody inside listens, beside what its uplinks need. A TAP always does.
    ///
    /// # Errors
    /// What the kernel says; it is asked again by the next call.
    pub fn set_promiscuous(&mut self, is_promiscuous: bool) -> Result<(), Errno> {
        match self {
            Self::AfPacket(nic) => nic.set_promiscuous(is_promiscuous),
            Self::AfXdp(nic) => nic.set_promiscuous(is_promiscuous),
            Self::Tap(_) => Ok(()),
        }
    }

    /// Frames from outside that were dropped because they were longer than any room here.
    #[must_use]
    pub fn too_long(&self) -> u64 {
        match self {
            Self::AfXdp(nic) => nic.too_long(),
            Self::AfPacket(_) | Self::Tap(_) => 0,
        }
    }

    /// Looks at the device again: whether it has a carrier, its MTU, and whether another one has its name now. True when any of that has
    /// changed; what it is says [`Self::device`], which goes to [`crate::LanProxy::set_device`], and [`Self::has_carrier`]. `now` never goes
    /// back.
    pub fn look(&mut self, now: Instant) -> bool {
        match self {
            Self::AfPacket(nic) => nic.look(),
            Self::AfXdp(nic) => nic.look(now),
            Self::Tap(nic) => nic.look(),
        }
    }

    /// It is being opened again and has no carrier until a look finds that done: worth a look in a moment.
    #[must_use]
    pub fn is_opening(&self) -> bool {
        match self {
            Self::AfXdp(nic) => nic.is_opening(),
            Self::AfPacket(_) | Self::Tap(_) => false,
        }
    }

    fn looked(&self) -> &Looked {
        match self {
            Self::AfPacket(nic) => nic.looked(),
            Self::AfXdp(nic) => nic.looked(),
            Self::Tap(nic) => nic.looked(),
        }
    }

    /// The device was up and had a carrier when it was looked at last (E24).
    #[must_use]
    pub fn has_carrier(&self) -> bool {
        self.looked().has_carrier
    }

    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.looked().name
    }

    /// What the proxy has to know of it, as of the last look.
    #[must_use]
    pub fn device(&self) -> Device {
        self.looked().device
    }

    /// Sends a frame, tagged as it is to be on the wire, with what is still to be done to it: nothing, where the device does nothing
    /// ([`Device::offloads`]). What has been taken goes at the next [`Self::flush`] at the latest.
    #[inline]
    pub fn send(&mut self, vnet: &Vnet, frame: &[u8]) -> Sent {
        match self {
            Self::AfPacket(nic) => nic.send(vnet, frame),
            Self::AfXdp(nic) => nic.send(vnet, frame),
            Self::Tap(nic) => nic.send(vnet, frame),
        }
    }

    /// Has all that was taken go; false when some of it has to wait for the device, and this is to be called again.
    pub fn flush(&mut self) -> bool {
        match self {
            Self::AfXdp(nic) => nic.flush(),
            Self::AfPacket(_) | Self::Tap(_) => true,
        }
    }

    /// Takes the next frame from outside, tagged as it was on the wire, and says its state and length; none when there is none now.
    ///
    /// # Errors
    /// What the kernel says, such as `ENETDOWN` when the device went down; [`Self::look`] says what has become of it.
    #[inline]
    pub fn receive(&mut self, buffer: &mut FrameBuffer) -> Result<Option<(Vnet, usize)>, Errno> {
        match self {
            Self::AfPacket(nic) => nic.receive(buffer),
            Self::AfXdp(nic) => nic.receive(buffer),
            Self::Tap(nic) => nic.receive(buffer),
        }
    }
}

impl AsFd for Nic {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::AfPacket(nic) => nic.as_fd(),
            Self::AfXdp(nic) => nic.as_fd(),
            Self::Tap(nic) => nic.as_fd(),
        }
    }
}

/// Room for one frame from outside, used again for every frame.
pub struct FrameBuffer {
    /// In front of a frame is room for a tag that is put back.
    octets: Box<[u8]>,
    /// Where the frame begins.
    start: usize,
}

impl FrameBuffer {
    /// Octets that are free from `start` on, where the next frame is to begin.
    fn room_at(&mut self, start: usize) -> &mut [u8] {
        self.start = start;
        &mut self.octets[start..]
    }
}

impl Default for FrameBuffer {
    fn default() -> Self {
        Self { octets: std::vec![0; TAG_LEN + FRAME_LEN_MAX].into_boxed_slice(), start: 0 }
    }
}

impl fmt::Debug for FrameBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FrameBuffer")
    }
}

impl FrameRoom for FrameBuffer {
    #[inline]
    fn octets(&self, len: usize) -> &[u8] {
        &self.octets[self.start..self.start + len]
    }

    #[inline]
    fn octets_mut(&mut self, len: usize) -> &mut [u8] {
        &mut self.octets[self.start..self.start + len]
    }

    #[inline]
    fn put(&mut self, at: usize, octets: &[u8]) {
        let at = self.start + at;
        self.octets[at..at + octets.len()].copy_from_slice(octets);
    }
}

/// What became of a frame for outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The device took it.
    Taken,
    /// The device has no room for it now.
    Full,
    /// The device refused it: it is down, or the frame is longer than it takes.
    Refused(Errno),
}
