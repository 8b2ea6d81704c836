//! The system calls of an ether leg's packet socket (packet(7)) that rustix does not know: its filter, and several frames at once.

#![allow(unsafe_code, reason = "sendmmsg and recvmmsg with structures that rustix does not know")]

use core::ptr;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;
use vlan_core::EtherPort;

use crate::host::packet_socket::set_option;
use crate::host::udp::call::{count, no_message, slice_of};
use crate::packet::ether_frame::{HEADER_LEN, TO_PORT_AT};

/// Frames that one call sends or takes.
pub(super) const FRAMES_MAX: usize = 64;

/// A frame that was received.
#[derive(Clone, Copy, Default)]
pub(super) struct Arrival {
    /// Its octets that are there.
    pub len: usize,
    /// It had more.
    pub is_cut: bool,
}

/// Has frames go to the device at once, not through a queue that others fill too.
pub(super) fn pass_by_queues(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    set_option(socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1_i32)
}

/// Has the kernel drop, before it copies them, frames for others: stations, processes of this one, groups unless
/// `hears_group`.
pub(super) fn filter(socket: BorrowedFd<'_>, port: EtherPort, hears_group: bool) -> Result<(), Errno> {
    /// Where a filter reads how the device took a frame: to this host, to a group, to another.
    const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
    let code = |kind: u32, jt, jf, k| libc::sock_filter { code: kind as u16, jt, jf, k };
    let equals = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let group = if hears_group { libc::PACKET_MULTICAST } else { libc::PACKET_HOST };
    let mut program = [
        code(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, PACKET_TYPE),
        code(equals, 1, 0, libc::PACKET_HOST.into()),
        code(equals, 0, 3, group.into()),
        code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, TO_PORT_AT as u32),
        code(equals, 0, 1, port.0),
        code(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
        code(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// Sends packets of `segment_len` octets out of `run`, at most [`FRAMES_MAX`], each behind `header`, the last behind
/// `last_header` when it ends the run. Returns how many were sent: fewer when one was refused, and the next call then
/// says why.
pub(super) fn send_frames(
    socket: BorrowedFd<'_>,
    run: &[u8],
    segment_len: usize,
    [header, last_header]: &[[u8; HEADER_LEN]; 2],
) -> Result<usize, Errno> {
    let mut slices = [[slice_of(&[]); 2]; FRAMES_MAX];
    let mut messages = [libc::mmsghdr { msg_hdr: no_message(), msg_len: 0 }; FRAMES_MAX];
    let mut frames = 0;
    for (packet, (slices, message)) in run.chunks(segment_len).zip(slices.iter_mut().zip(&mut messages)) {
        let header = if packet.len() == segment_len { header } else { last_header };
        *slices = [slice_of(header), slice_of(packet)];
        message.msg_hdr.msg_iov = slices.as_mut_ptr();
        message.msg_hdr.msg_iovlen = slices.len() as _;
        frames += 1;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: `frames` messages are filled in, and what they point at outlives the call, which reads it and writes the
    // messages' lengths.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), frames, flags as _) };
    count(sent.into())
}

/// Receives a frame into each `room_len` octets of `octets`, at most as many as there are `arrivals`, and says what came,
/// without waiting.
pub(super) fn receive_frames(
    socket: BorrowedFd<'_>,
    octets: &mut [u8],
    room_len: usize,
    arrivals: &mut [Arrival; FRAMES_MAX],
) -> Result<usize, Errno> {
    let mut slices = [slice_of(&[]); FRAMES_MAX];
    let mut messages = [libc::mmsghdr { msg_hdr: no_message(), msg_len: 0 }; FRAMES_MAX];
    let mut rooms = 0;
    for (room, (slice, message)) in
        octets.chunks_exact_mut(room_len).zip(slices.iter_mut().zip(&mut messages))
    {
        slice.iov_base = room.as_mut_ptr().cast();
        slice.iov_len = room.len();
        message.msg_hdr.msg_iov = ptr::from_mut(slice);
        message.msg_hdr.msg_iovlen = 1;
        rooms += 1;
    }
    let (flags, no_timeout) = (libc::MSG_DONTWAIT, ptr::null_mut());
    // SAFETY: `rooms` messages are filled in, each with octets of its own, writable, that outlive the call; the lengths
    // given with them are theirs.
    let received =
        unsafe { libc::recvmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), rooms, flags as _, no_timeout) };
    let received = count(received.into())?;
    for (arrival, message) in arrivals.iter_mut().zip(&messages).take(received) {
        arrival.len = message.msg_len as usize;
        arrival.is_cut = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
    }
    Ok(received)
}
