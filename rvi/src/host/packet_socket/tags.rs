//! Whether a device leaves 802.1Q tags in the frames that arrive (ethtool's `rxvlan`).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::request_about;
use crate::host::udp::call::count;

// Numbers of `linux/ethtool.h`.
const GET_FLAGS: u32 = 0x25;
const SET_FLAGS: u32 = 0x26;
const TAKES_TAGS_OFF: u32 = 1 << 8;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Has the device of this name leave tags in the frames that arrive, for who would not be told of those that it takes off. That stays
/// so.
///
/// # Errors
/// What the kernel says; `EOPNOTSUPP` when the device always takes them off.
pub fn leave_tags(socket: &impl AsFd, name: &str) -> Result<(), Errno> {
    let socket = socket.as_fd();
    let flags = match ask(socket, name, GET_FLAGS, 0) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        flags => flags?,
    };
    if flags & TAKES_TAGS_OFF == 0 {
        return Ok(());
    }
    ask(socket, name, SET_FLAGS, flags & !TAKES_TAGS_OFF)?;
    match ask(socket, name, GET_FLAGS, 0)? & TAKES_TAGS_OFF {
        0 => Ok(()),
        _ => Err(Errno::OPNOTSUPP),
    }
}

fn ask(socket: BorrowedFd<'_>, name: &str, command: u32, data: u32) -> Result<u32, Errno> {
    let mut value = Value { command, data };
    let mut request = request_about(name)?;
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request reads the name in an ifreq, which `request` is, and reads or writes the value that it points at; both outlive
    // the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as libc::Ioctl, &raw mut request) };
    count(done.into()).map(|_| value.data)
}
