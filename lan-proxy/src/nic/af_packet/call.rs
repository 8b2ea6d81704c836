//! The system call that rustix does not know: a frame with its vnet header and what the kernel says of it beside.

#![allow(unsafe_code, reason = "recvmsg with structures that rustix does not know")]

use core::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;
use vlan_core::wire::frame::VNET_LEN;

/// Octets for the kernel's control message: its header and a `tpacket_auxdata`.
const CONTROL_LEN: usize = 64;

/// A tag that the kernel has taken off a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tag {
    /// Its priority and VLAN id.
    pub control: u16,
    /// Its EtherType, if the kernel says.
    pub protocol: Option<u16>,
}

/// A frame that was received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived {
    pub len: usize,
    pub tag: Option<Tag>,
}

/// Where the kernel writes control messages, which begin with a `cmsghdr`.
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

/// Receives a frame and its vnet header without waiting; `None` for one that is longer than `octets` or has no header.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    header: &mut [u8; VNET_LEN],
    octets: &mut [u8],
) -> Result<Option<Arrived>, Errno> {
    let mut slices = [
        libc::iovec { iov_base: header.as_mut_ptr().cast(), iov_len: header.len() },
        libc::iovec { iov_base: octets.as_mut_ptr().cast(), iov_len: octets.len() },
    ];
    let mut control = Control([0; CONTROL_LEN]);
    // SAFETY: integers and pointers, for which zeroes are a valid value.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = slices.as_mut_ptr();
    message.msg_iovlen = slices.len() as _;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_LEN as _;
    // SAFETY: the message points at two slices and at control octets, all writable, that outlive the call, with their lengths.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let Ok(received) = usize::try_from(received) else {
        let raw = std::io::Error::last_os_error().raw_os_error();
        return Err(raw.map_or(Errno::IO, Errno::from_raw_os_error));
    };
    let is_whole = message.msg_flags & libc::MSG_TRUNC == 0;
    let len = received.checked_sub(VNET_LEN).filter(|_| is_whole);
    Ok(len.map(|len| Arrived { len, tag: tag_of(&message) }))
}

/// The tag that the kernel has written into the control octets of a message that it has filled in.
fn tag_of(message: &libc::msghdr) -> Option<Tag> {
    // SAFETY: the kernel has filled in the message, and its control octets are there.
    let first = unsafe { libc::CMSG_FIRSTHDR(message) };
    if first.is_null() {
        return None;
    }
    // SAFETY: CMSG_FIRSTHDR gives a header only where a whole one is.
    let head = unsafe { first.read_unaligned() };
    let is_auxdata = head.cmsg_level == libc::SOL_PACKET
        && head.cmsg_type == libc::PACKET_AUXDATA
        && head.cmsg_len as usize >= size_of::<libc::cmsghdr>() + size_of::<libc::tpacket_auxdata>();
    if !is_auxdata {
        return None;
    }
    // SAFETY: `first` points at a header, behind which the data begins.
    let data = unsafe { libc::CMSG_DATA(first) };
    // SAFETY: the header's length says that a whole structure is there, of integers.
    let auxdata = unsafe { data.cast::<libc::tpacket_auxdata>().read_unaligned() };
    let says = |flag: u32| auxdata.tp_status & flag != 0;
    says(libc::TP_STATUS_VLAN_VALID).then(|| Tag {
        control: auxdata.tp_vlan_tci,
        protocol: says(libc::TP_STATUS_VLAN_TPID_VALID).then_some(auxdata.tp_vlan_tpid),
    })
}
