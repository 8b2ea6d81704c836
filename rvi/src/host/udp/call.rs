//! The system calls of a UDP socket that need a control message or take several messages at once.
//!
//! A run of equal datagrams leaves with one `sendmsg` and its segment length beside it (`UDP_SEGMENT`); runs
//! arrive by `recvmmsg`, each with the segment length that the kernel joined it by (`UDP_GRO`).

#![allow(unsafe_code, reason = "sendmsg, sendmmsg, recvmmsg, socket options that rustix does not know")]

use core::mem::{offset_of, size_of, size_of_val};
use core::ptr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::address::RawAddress;

/// Octets of room for one run: more than the longest UDP payload, so that none is ever cut short.
pub(super) const RUN_LEN_MAX: usize = 65_536;
/// Runs that one call may take.
pub(super) const RUNS_MAX: usize = 8;
/// Datagrams that are handed to the kernel in one call when it does not cut runs itself.
pub(super) const DATAGRAMS_MAX: usize = 64;

/// The socket option that tells a socket's memory (Linux, `include/uapi/asm-generic/socket.h`).
const SO_MEMINFO: libc::c_int = 55;

/// A control message that carries an integer: two octets for `UDP_SEGMENT`, four for `UDP_GRO`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    value: [u8; 4],
}

const _: () = {
    // SAFETY: these two compute lengths and touch no memory.
    assert!(offset_of!(Control, value) == unsafe { libc::CMSG_LEN(0) } as usize);
    // SAFETY: as above.
    assert!(size_of::<Control>() == unsafe { libc::CMSG_SPACE(4) } as usize);
    // SAFETY: as above.
    assert!(size_of::<Control>() == unsafe { libc::CMSG_SPACE(2) } as usize);
};

impl Control {
    /// Nothing, with the room of one.
    const EMPTY: Self = {
        // SAFETY: integers and octets, for which zeroes are a valid value.
        unsafe { core::mem::zeroed() }
    };

    /// The request that the kernel cut a run into datagrams of `segment_len` octets.
    fn segment(segment_len: u16) -> Self {
        let mut control = Self::EMPTY;
        control.header.cmsg_level = libc::SOL_UDP;
        control.header.cmsg_type = libc::UDP_SEGMENT;
        // SAFETY: computes a length and touches no memory.
        control.header.cmsg_len = unsafe { libc::CMSG_LEN(2) } as _;
        control.value[..2].copy_from_slice(&segment_len.to_ne_bytes());
        control
    }

    /// The segment length that the kernel says it joined a run by; `None` for anything else.
    fn joined_by(&self, len: usize) -> Option<usize> {
        // SAFETY: computes a length and touches no memory.
        let needed = unsafe { libc::CMSG_LEN(4) } as usize;
        let is_ours = self.header.cmsg_level == libc::SOL_UDP && self.header.cmsg_type == libc::UDP_GRO;
        if len < needed || !is_ours {
            return None;
        }
        usize::try_from(i32::from_ne_bytes(self.value)).ok()
    }
}

/// One run that was received, beside its octets.
#[derive(Clone, Copy, Default)]
pub(super) struct Arrival {
    /// Where it came from.
    pub(super) from: RawAddress,
    /// Octets of the whole run.
    pub(super) len: usize,
    /// Octets of each of its datagrams but the last, which may be shorter.
    pub(super) segment_len: Option<usize>,
    /// True when there was not room for all of it.
    pub(super) is_cut: bool,
}

/// A message header that points at nothing.
pub(in crate::host) fn no_message() -> libc::msghdr {
    // SAFETY: integers and pointers, for which zeroes are a valid value: no address, no octets, no control data.
    unsafe { core::mem::zeroed() }
}

/// The kernel's way to say "these octets", which `sendmsg` only reads.
pub(in crate::host) fn slice_of(octets: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() }
}

/// Sends `run`, which the kernel cuts into datagrams of `segment_len` octets, the last of which may be shorter.
pub(super) fn send_run(
    socket: BorrowedFd<'_>,
    to: &RawAddress,
    run: &[u8],
    segment_len: u16,
) -> Result<(), Errno> {
    let control = Control::segment(segment_len);
    let mut slice = slice_of(run);
    let mut message = no_message();
    message.msg_name = to.as_ptr().cast_mut().cast();
    message.msg_namelen = to.len();
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    message.msg_control = (&raw const control).cast_mut().cast();
    message.msg_controllen = size_of::<Control>() as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the address, the octets and the control message outlive the call, which only reads them, and the
    // lengths given with them are theirs.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) };
    count(sent as i64).map(|_| ())
}

/// Sends up to [`DATAGRAMS_MAX`] datagrams of `segment_len` octets out of `run`, each as a message of its own.
///
/// Returns how many were sent: fewer than there are when a later one was refused, and then the next call says
/// why.
pub(super) fn send_each(
    socket: BorrowedFd<'_>,
    to: &RawAddress,
    run: &[u8],
    segment_len: usize,
) -> Result<usize, Errno> {
    let mut slices = [slice_of(&[]); DATAGRAMS_MAX];
    let mut messages = [libc::mmsghdr { msg_hdr: no_message(), msg_len: 0 }; DATAGRAMS_MAX];
    let mut datagrams = 0;
    for (datagram, (slice, message)) in run.chunks(segment_len).zip(slices.iter_mut().zip(&mut messages)) {
        *slice = slice_of(datagram);
        message.msg_hdr.msg_name = to.as_ptr().cast_mut().cast();
        message.msg_hdr.msg_namelen = to.len();
        message.msg_hdr.msg_iov = ptr::from_mut(slice);
        message.msg_hdr.msg_iovlen = 1;
        datagrams += 1;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: `datagrams` messages are filled in, and what they point at outlives the call, which reads it and
    // writes the messages' lengths.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), datagrams, flags as _) };
    count(sent.into())
}

/// Receives one run into each [`RUN_LEN_MAX`] octets of `octets`, and says in `arrivals` what came; at most
/// [`RUNS_MAX`]. Returns how many came, without waiting.
pub(super) fn receive_runs(
    socket: BorrowedFd<'_>,
    octets: &mut [u8],
    arrivals: &mut [Arrival],
) -> Result<usize, Errno> {
    let mut slices = [slice_of(&[]); RUNS_MAX];
    let mut controls = [Control::EMPTY; RUNS_MAX];
    let mut messages = [libc::mmsghdr { msg_hdr: no_message(), msg_len: 0 }; RUNS_MAX];
    let mut runs = 0;
    let rooms = octets.chunks_exact_mut(RUN_LEN_MAX).zip(arrivals.iter_mut());
    for ((room, arrival), ((slice, control), message)) in
        rooms.zip(slices.iter_mut().zip(&mut controls).zip(&mut messages))
    {
        slice.iov_base = room.as_mut_ptr().cast();
        slice.iov_len = room.len();
        message.msg_hdr.msg_name = arrival.from.as_mut_ptr().cast();
        message.msg_hdr.msg_namelen = RawAddress::LEN_MAX;
        message.msg_hdr.msg_iov = ptr::from_mut(slice);
        message.msg_hdr.msg_iovlen = 1;
        message.msg_hdr.msg_control = ptr::from_mut(control).cast();
        message.msg_hdr.msg_controllen = size_of::<Control>() as _;
        runs += 1;
    }
    let (flags, no_timeout) = (libc::MSG_DONTWAIT, ptr::null_mut());
    // SAFETY: `runs` messages are filled in. Each points at an address, octets and a control message of its own,
    // writable, that outlive the call; the lengths given with them are theirs.
    let received =
        unsafe { libc::recvmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), runs, flags as _, no_timeout) };
    let received = count(received.into())?;
    for (arrival, (message, control)) in
        arrivals.iter_mut().zip(messages.iter().zip(&controls)).take(received)
    {
        arrival.len = message.msg_len as usize;
        #[allow(clippy::unnecessary_cast, reason = "another integer with other C libraries")]
        let control_len = message.msg_hdr.msg_controllen as usize;
        arrival.segment_len = control.joined_by(control_len);
        arrival.is_cut = message.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0;
    }
    Ok(received)
}

/// Has the kernel join what arrives into runs (`UDP_GRO`).
pub(super) fn set_joining(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    set_udp_option(socket, libc::UDP_GRO, 1)
}

/// True when the kernel knows how to cut runs (`UDP_SEGMENT`, Linux 4.18).
pub(super) fn can_cut(socket: BorrowedFd<'_>) -> bool {
    set_udp_option(socket, libc::UDP_SEGMENT, 0).is_ok()
}

fn set_udp_option(socket: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> Result<(), Errno> {
    let len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the option is an integer, which is given with its length and outlives the call.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, option, (&raw const value).cast(), len)
    };
    count(done.into()).map(|_| ())
}

/// Datagrams that arrived at the socket and were dropped, because its buffer was full or their sum was wrong.
pub(in crate::host) fn kernel_drops(socket: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut words = [0_u32; libc::SK_MEMINFO_DROPS as usize + 1];
    let mut len = size_of_val(&words) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` octets, which is what the array has.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            words.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    count(done.into()).map(|_| words[libc::SK_MEMINFO_DROPS as usize])
}

/// What a call returned, or the error that it left behind.
pub(in crate::host) fn count(returned: i64) -> Result<usize, Errno> {
    usize::try_from(returned).map_err(|_| {
        let raw = io::Error::last_os_error().raw_os_error();
        raw.map_or(Errno::IO, Errno::from_raw_os_error)
    })
}
