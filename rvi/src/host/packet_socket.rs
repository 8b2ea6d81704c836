//! Packet sockets (packet(7)): how one is made and bound to a device, whom the device hears for it, and what a device is.
//!
//! Ether legs and the uplinks of LANs have such sockets.

#![allow(unsafe_code, reason = "bind, setsockopt and ioctl with structures that rustix does not know")]

mod open;
mod tags;

use core::mem::size_of;
use core::ptr;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use vlan_core::MacAddress;

use crate::host::udp::call::count;

pub use open::{OpenError, open_for, refused};
pub use tags::leave_tags;

/// Makes a socket that hears nothing yet.
///
/// # Errors
/// What the kernel says; `EPERM` without CAP_NET_RAW.
pub fn open() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)
}

/// Has the socket hear frames of the EtherType `protocol` on a device, or of every type (`ETH_P_ALL`), and send there.
///
/// # Errors
/// What the kernel says.
pub fn bind(socket: BorrowedFd<'_>, protocol: u16, index: i32) -> Result<(), Errno> {
    // SAFETY: integers, for which zeroes are a valid value.
    let mut address: libc::sockaddr_ll = unsafe { core::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = index;
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address outlives the call, which reads as many octets as it has.
    let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
    count(done.into()).map(|_| ())
}

/// What a device is to hear beside its own address, for as long as the socket is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// A group.
    Group(MacAddress),
    /// Another station address.
    Station(MacAddress),
    /// Every group.
    AllGroups,
    /// Everything.
    Promiscuous,
}

/// Has a device hear more.
///
/// # Errors
/// What the kernel says.
pub fn join(socket: BorrowedFd<'_>, index: i32, membership: Membership) -> Result<(), Errno> {
    set_membership(socket, libc::PACKET_ADD_MEMBERSHIP, index, membership)
}

/// Takes back what [`join`] asked for.
///
/// # Errors
/// What the kernel says.
pub fn leave(socket: BorrowedFd<'_>, index: i32, membership: Membership) -> Result<(), Errno> {
    set_membership(socket, libc::PACKET_DROP_MEMBERSHIP, index, membership)
}

fn set_membership(
    socket: BorrowedFd<'_>,
    option: i32,
    index: i32,
    membership: Membership,
) -> Result<(), Errno> {
    let (kind, address) = match membership {
        Membership::Group(mac) => (libc::PACKET_MR_MULTICAST, mac),
        Membership::Station(mac) => (libc::PACKET_MR_UNICAST, mac),
        Membership::AllGroups => (libc::PACKET_MR_ALLMULTI, MacAddress::NULL),
        Membership::Promiscuous => (libc::PACKET_MR_PROMISC, MacAddress::NULL),
    };
    // SAFETY: integers, for which zeroes are a valid value.
    let mut request: libc::packet_mreq = unsafe { core::mem::zeroed() };
    request.mr_ifindex = index;
    request.mr_type = kind as u16;
    request.mr_alen = 6;
    request.mr_address[..6].copy_from_slice(&address.0);
    set_option(socket, libc::SOL_PACKET, option, &request)
}

/// Sets a socket option of packet sockets that is a number, such as `PACKET_VNET_HDR`.
///
/// # Errors
/// What the kernel says; `ENOPROTOOPT` when it does not know the option.
pub fn set_number(socket: BorrowedFd<'_>, option: i32, value: i32) -> Result<(), Errno> {
    set_option(socket, libc::SOL_PACKET, option, &value)
}

pub(in crate::host) fn set_option<T>(
    socket: BorrowedFd<'_>,
    level: i32,
    option: i32,
    value: &T,
) -> Result<(), Errno> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value, and for a filter the program it points at, outlive the call, which reads as many octets as
    // they have.
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, ptr::from_ref(value).cast(), len) };
    count(done.into()).map(|_| ())
}

/// A device as the kernel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number in its namespace.
    pub index: i32,
    /// Its address.
    pub mac: MacAddress,
    /// Octets of the longest packet in a frame.
    pub mtu: usize,
    /// It is up and has a carrier.
    pub is_running: bool,
}

/// Asks what the device of this name is; none when it is no Ethernet device.
///
/// # Errors
/// What the kernel says; `ENODEV` when there is none.
pub fn device(socket: &impl AsFd, name: &str) -> Result<Option<Device>, Errno> {
    let socket = socket.as_fd();
    let index = ask(socket, name, libc::SIOCGIFINDEX)?;
    let address = ask(socket, name, libc::SIOCGIFHWADDR)?;
    let mtu = ask(socket, name, libc::SIOCGIFMTU)?;
    let flags = ask(socket, name, libc::SIOCGIFFLAGS)?;
    // SAFETY: the kernel wrote this member of the request.
    let index = unsafe { index.ifr_ifru.ifru_ifindex };
    // SAFETY: as above.
    let address = unsafe { address.ifr_ifru.ifru_hwaddr };
    // SAFETY: as above.
    let mtu = unsafe { mtu.ifr_ifru.ifru_mtu };
    // SAFETY: as above.
    let flags = libc::c_int::from(unsafe { flags.ifr_ifru.ifru_flags });
    let mac = MacAddress(core::array::from_fn(|i| address.sa_data[i] as u8));
    let is_ethernet = address.sa_family == libc::ARPHRD_ETHER && mac.is_station();
    let is_running = flags & libc::IFF_UP != 0 && flags & libc::IFF_RUNNING != 0;
    Ok(is_ethernet.then_some(Device { index, mac, mtu: usize::try_from(mtu).unwrap_or(0), is_running }))
}

/// Sets the device of this name up, if it is not.
///
/// # Errors
/// What the kernel says; `ENODEV` when there is none, `EPERM` without CAP_NET_ADMIN.
pub fn set_up(socket: &impl AsFd, name: &str) -> Result<(), Errno> {
    let mut request = ask(socket.as_fd(), name, libc::SIOCGIFFLAGS)?;
    // SAFETY: the kernel wrote this member of the request.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    if flags & libc::IFF_UP as libc::c_short != 0 {
        // Who may not change it may still use it.
        return Ok(());
    }
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    // SAFETY: the request reads the name and the flags in an ifreq, which `request` is.
    let done = unsafe {
        libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCSIFFLAGS as libc::Ioctl, &raw const request)
    };
    count(done.into()).map(|_| ())
}

fn ask(socket: BorrowedFd<'_>, name: &str, request: libc::Ioctl) -> Result<libc::ifreq, Errno> {
    let mut question = request_about(name)?;
    // SAFETY: each of the requests reads the name in an ifreq, which `question` is, and writes no more than that.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), request, &raw mut question) };
    count(done.into()).map(|_| question)
}

/// A request that names a device.
fn request_about(name: &str) -> Result<libc::ifreq, Errno> {
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
    Ok(question)
}
