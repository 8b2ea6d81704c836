//! Devices of uplinks: how frames get outside and in.

pub mod af_packet;

use core::fmt;
use std::string::String;

use rustix::io::Errno;
use rvi::host::packet_socket::OpenError;

/// A device could not be opened for an uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NicError {
    /// There is no socket for it.
    Socket(OpenError),
    /// Its MTU is smaller than [`crate::MTU_MIN`].
    MtuTooSmall {
        /// The device.
        device: String,
        /// Its MTU.
        mtu: usize,
    },
}

impl NicError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Socket(error) => error.hint(),
            Self::MtuTooSmall { .. } => "give the device a larger MTU: `ip link set DEVICE mtu 1500`",
        }
    }
}

impl fmt::Display for NicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(error) => error.fmt(f),
            Self::MtuTooSmall { device, mtu } => {
                let least = crate::MTU_MIN;
                write!(f, "the network device {device:?} has an MTU of {mtu}, and an uplink needs {least}")
            }
        }
    }
}

impl core::error::Error for NicError {}

impl From<OpenError> for NicError {
    fn from(error: OpenError) -> Self {
        Self::Socket(error)
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
