//! What the kernel and its routes can do: how long a datagram may be, how many datagrams a run may have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::UDP_PAYLOAD_LEN_MAX;
use super::address::RawAddress;
use super::call;

/// IPv4 header without options, and UDP header.
const V4_HEADERS_LEN: usize = 28;
/// IPv6 header without extensions, and UDP header.
const V6_HEADERS_LEN: usize = 48;
/// What kernels cut a run into at most: 128 datagrams, older ones 64 (`UDP_MAX_SEGMENTS` in Linux's
/// `include/linux/udp.h`).
const CAPS: [usize; 2] = [128, 64];

/// Makes a socket for addresses like `address`.
pub(super) fn socket_for(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(family, SocketType::DGRAM, flags, None)
}

/// The longest payload that the kernel's route from `local` to `to` takes. Nothing is sent.
pub(super) fn payload_len_max(local: IpAddr, to: SocketAddr) -> Result<usize, Errno> {
    let socket = socket_for(to)?;
    if local.is_ipv4() == to.is_ipv4() {
        // Routes may depend on the source.
        rustix::net::bind(&socket, &SocketAddr::new(local, 0))?;
    }
    rustix::net::connect(&socket, &to)?;
    let (mtu, headers) = match to {
        SocketAddr::V4(_) => (sockopt::ip_mtu(&socket)?, V4_HEADERS_LEN),
        SocketAddr::V6(_) => (sockopt::ipv6_mtu(&socket)?, V6_HEADERS_LEN),
    };
    Ok((mtu as usize).saturating_sub(headers).min(UDP_PAYLOAD_LEN_MAX))
}

/// The most datagrams that this kernel cuts a run into; 1 when it does not cut.
///
/// Asked by sending runs of one-octet datagrams over loopback to oneself. Where loopback is down, what every
/// kernel that cuts can do.
pub(super) fn segments_cap() -> usize {
    let loopbacks = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    for address in loopbacks.map(|ip| SocketAddr::new(ip, 0)) {
        if let Ok(cap) = cap_over(address) {
            return cap;
        }
    }
    let can_cut = loopbacks
        .iter()
        .any(|ip| socket_for(SocketAddr::new(*ip, 0)).is_ok_and(|socket| call::can_cut(socket.as_fd())));
    if can_cut { CAPS[1] } else { 1 }
}

fn cap_over(address: SocketAddr) -> Result<usize, Errno> {
    let socket = socket_for(address)?;
    rustix::net::bind(&socket, &address)?;
    let own = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
    if !call::can_cut(socket.as_fd()) {
        return Ok(1);
    }
    for cap in CAPS {
        match call::send_run(socket.as_fd(), &RawAddress::from(own), &[0; CAPS[0]][..cap], 1) {
            Ok(()) => return Ok(cap),
            Err(Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(1)
}
