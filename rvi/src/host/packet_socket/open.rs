//! Opening a packet socket for the device of a name, and why that may fail.

use core::fmt;
use std::os::fd::OwnedFd;
use std::string::String;

use rustix::io::Errno;

use super::{Device, device, open};

/// A packet socket could not be opened for a device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// This process may not have such sockets.
    Refused,
    /// There is no socket to be had.
    Socket(Errno),
    /// There is no device of this name.
    NoDevice(String),
    /// The device has no Ethernet address.
    NotEthernet(String),
    /// The kernel lacks something that is needed.
    Option {
        /// Its name in the kernel's interface.
        name: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
}

impl OpenError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Refused => "run this as root or give it CAP_NET_RAW in its network namespace",
            Self::NoDevice(_) => {
                "correct the device's name in the platform file, or make the device first: `ip link` lists those of this host"
            }
            Self::NotEthernet(_) => {
                "name a device with a MAC address, such as a network card, a veth or a macvlan: `ip link` lists them"
            }
            Self::Socket(_) | Self::Option { .. } => {
                "look at the limits of this system and the kernel's version"
            }
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("this process may not send and receive Ethernet frames"),
            Self::Socket(errno) => write!(f, "making an Ethernet socket: {errno}"),
            Self::NoDevice(device) => write!(f, "there is no network device {device:?}"),
            Self::NotEthernet(device) => write!(f, "the network device {device:?} is no Ethernet device"),
            Self::Option { name, errno } => write!(f, "{name} on an Ethernet socket: {errno}"),
        }
    }
}

impl core::error::Error for OpenError {}

/// Says that the kernel refused something by this name.
pub fn refused(name: &'static str) -> impl FnOnce(Errno) -> OpenError {
    move |errno| OpenError::Option { name, errno }
}

/// Makes a socket for the device `name` of this thread's network namespace, which hears nothing yet.
///
/// # Errors
/// When there is no such Ethernet device, or the process may not have such a socket.
pub fn open_for(name: &str) -> Result<(OwnedFd, Device), OpenError> {
    let descriptor = open().map_err(|errno| match errno {
        Errno::PERM | Errno::ACCESS => OpenError::Refused,
        errno => OpenError::Socket(errno),
    })?;
    match device(&descriptor, name) {
        Ok(Some(device)) => Ok((descriptor, device)),
        Ok(None) => Err(OpenError::NotEthernet(name.into())),
        Err(Errno::NODEV) => Err(OpenError::NoDevice(name.into())),
        Err(errno) => Err(OpenError::Socket(errno)),
    }
}
