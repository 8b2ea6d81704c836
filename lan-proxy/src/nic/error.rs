//! Why a device could not be opened, and what to do.

use core::fmt;
use std::string::{String, ToString};

use rvi::host::packet_socket::OpenError;
use rvi::host::tap::TapError;
use rvi::host::xdp_socket::XdpOpenError;

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
    /// It cannot be driven by AF_XDP.
    Xdp {
        /// The device.
        device: String,
        /// Why.
        error: XdpOpenError,
    },
    /// It cannot be had as a TAP device.
    Tap {
        /// Why, with its name.
        error: String,
        /// What to do about it.
        hint: &'static str,
    },
}

impl NicError {
    pub(super) fn of_tap(error: TapError) -> Self {
        let hint = match &error {
            TapError::Create { source, .. } if source.kind() == std::io::ErrorKind::InvalidInput => {
                "another kind of device has this name: leave `driver` out, or name a device that is a TAP or not there"
            }
            TapError::Create { source, .. } if source.kind() == std::io::ErrorKind::ResourceBusy => {
                "another program has the device: end that one, or name another device"
            }
            error => error.hint(),
        };
        Self::Tap { error: error.to_string(), hint }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Socket(error) => error.hint(),
            Self::MtuTooSmall { .. } => "give the device a larger MTU: `ip link set DEVICE mtu 1500`",
            Self::Xdp { error: XdpOpenError::Step { .. }, .. } => {
                "leave `driver` out of [lan.uplink], which works with every device; AF_XDP needs Linux 5.9 or later, and tags that stay in frames (`ethtool -K DEVICE rxvlan off`)"
            }
            Self::Xdp { error, .. } => error.hint(),
            Self::Tap { hint, .. } => hint,
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
            Self::Xdp { device, error } => write!(f, "the network device {device:?} by AF_XDP: {error}"),
            Self::Tap { error, .. } => f.write_str(error),
        }
    }
}

impl core::error::Error for NicError {}

impl From<OpenError> for NicError {
    fn from(error: OpenError) -> Self {
        Self::Socket(error)
    }
}
