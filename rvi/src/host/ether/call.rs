//! The system calls of a packet socket (packet(7)) that rustix does not know: binding, its filter and group, several
//! frames at once, and what a device is.

#![allow(
    unsafe_code,
    reason = "bind, setsockopt, ioctl, sendmmsg and recvmmsg with structures that rustix does not know"
)]

use core::mem::size_of;
use core::ptr;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use vlan_core::{EtherPort, MacAddress};

use crate::host::udp::call::{count, no_message, slice_of};
use crate::packet::ether_frame::{ETHER_TYPE, HEADER_LEN, TO_PORT_AT};

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

/// Makes a socket that hears nothing yet.
pub(super) fn socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)
}

/// Has the socket hear frames of our type on a device, and send there.
pub(super) fn bind(socket: BorrowedFd<'_>, index: i32) -> Result<(), Errno> {
    // SAFETY: integers, for which zeroes are a valid value.
    let mut address: libc::sockaddr_ll = unsafe { core::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ETHER_TYPE.to_be();
    address.sll_ifindex = index;
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address outlives the call, which reads as many octets as it has.
    let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
    count(done.into()).map(|_| ())
}

/// Has the device hear frames for a group, for as long as the socket is open.
pub(super) fn join(socket: BorrowedFd<'_>, index: i32, group: MacAddress) -> Result<(), Errno> {
    // SAFETY: integers, for which zeroes are a valid value.
    let mut request: libc::packet_mreq = unsafe { core::mem::zeroed() };
    request.mr_ifindex = index;
    request.mr_type = libc::PACKET_MR_MULTICAST as u16;
    request.mr_alen = 6;
    request.mr_address[..6].copy_from_slice(&group.0);
    set_option(socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
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

fn set_option<T>(socket: BorrowedFd<'_>, level: i32, option: i32, value: &T) -> Result<(), Errno> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value, and for a filter the program it points at, outlive the call, which reads as many octets as
    // they have.
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, ptr::from_ref(value).cast(), len) };
    count(done.into()).map(|_| ())
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

/// A device as the kernel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub index: i32,
    pub mac: MacAddress,
    pub mtu: usize,
}

/// Asks what the device of this name is; none when it is no Ethernet device.
pub(super) fn device(socket: &impl AsFd, name: &str) -> Result<Option<Device>, Errno> {
    let socket = socket.as_fd();
    let index = ask(socket, name, libc::SIOCGIFINDEX)?;
    let address = ask(socket, name, libc::SIOCGIFHWADDR)?;
    let mtu = ask(socket, name, libc::SIOCGIFMTU)?;
    // SAFETY: the kernel wrote this member of the request.
    let index = unsafe { index.ifr_ifru.ifru_ifindex };
    // SAFETY: as above.
    let address = unsafe { address.ifr_ifru.ifru_hwaddr };
    // SAFETY: as above.
    let mtu = unsafe { mtu.ifr_ifru.ifru_mtu };
    let mac = MacAddress(core::array::from_fn(|i| address.sa_data[i] as u8));
    let is_ethernet = address.sa_family == libc::ARPHRD_ETHER && mac.is_station();
    Ok(is_ethernet.then_some(Device { index, mac, mtu: usize::try_from(mtu).unwrap_or(0) }))
}

fn ask(socket: BorrowedFd<'_>, name: &str, request: libc::Ioctl) -> Result<libc::ifreq, Errno> {
    // SAFETY: integers and octets, for which zeroes are a valid value.
    let mut question: libc::ifreq = unsafe { core::mem::zeroed() };
    let name = CString::new(name).map_err(|_| Errno::NODEV)?;
    let octets = name.as_bytes_with_nul();
    if octets.len() > question.ifr_name.len() {
        return Err(Errno::NODEV);
    }
    for (to, from) in question.ifr_name.iter_mut().zip(octets) {
        *to = *from as libc::c_char;
    }
    // SAFETY: each of the requests reads the name in an ifreq, which `question` is, and writes no more than that.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), request, &raw mut question) };
    count(done.into()).map(|_| question)
}
