//! Devices of uplinks: how frames get outside and in.

pub mod af_packet;

use core::fmt;
use std::string::String;

use rustix::io::Errno;

/// A device could not be opened for an uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NicError {
    /// This process may not have such sockets.
    Refused,
    /// There is no socket to be had.
    Socket(Errno),
    /// There is no device of this name.
    NoDevice(String),
    /// The device has no Ethernet address.
    NotEthernet(String),
    /// Its MTU is smaller than [`crate::MTU_MIN`].
    MtuTooSmall {
        /// The device.
        device: String,
        /// Its MTU.
        mtu: usize,
    },
    /// The kernel lacks something that an uplink needs.
    Option {
        /// Its name in the kernel's interface.
        name: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
}

impl NicError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Refused => "run this as root or give it CAP_NET_RAW in its network namespace",
            Self::NoDevice(_) => {
                "correct the `device` of the uplink's port in the platform file, or make the device first: `ip link` lists those of this host"
            }
            Self::NotEthernet(_) => {
                "name a device with a MAC address, such as a network card, a veth or a macvlan: `ip link` lists them"
            }
            Self::MtuTooSmall { .. } => "give the device a larger MTU: `ip link set DEVICE mtu 1500`",
            Self::Socket(_) | Self::Option { .. } => {
                "look at the limits of this system and the kernel's version"
            }
        }
    }
}

impl fmt::Display for NicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("this process may not send and receive Ethernet frames"),
            Self::Socket(errno) => write!(f, "making an Ethernet socket: {errno}"),
            Self::NoDevice(device) => write!(f, "there is no network device {device:?}"),
            Self::NotEthernet(device) => write!(f, "the network device {device:?} is no Ethernet device"),
            Self::MtuTooSmall { device, mtu } => {
                write!(
                    f,
                    "the network device {device:?} has an MTU of {mtu}, and an uplink needs {}",
                    crate::MTU_MIN
                )
            }
            Self::Option { name, errno } => write!(f, "{name} on an Ethernet socket: {errno}"),
        }
    }
}

impl core::error::Error for NicError {}

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
