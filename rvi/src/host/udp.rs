//! UDP sockets: the packets of all legs through one fabric leave and arrive here, one packet to a datagram.
//!
//! Datagrams travel in *runs* where the kernel can cut and join them (GSO, GRO): equal datagrams to one address,
//! the last of which may be shorter, that cost one call and one walk through the stack. Nothing here waits: what
//! the kernel has no room for is dropped and counted, and the protocol above sends it again. Rules:
//! `spec/leg-udp.md`.

mod address;
pub(in crate::host) mod call;
mod receive;
mod route;
mod tally;

use core::cell::Cell;
use core::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};

pub use receive::ReceivePool;
pub use tally::UdpCounters;

use address::RawAddress;
use tally::Tally;

use crate::host::packets::{PacketSocket, SendResult, Taken};

/// Octets of the longest UDP payload: those of an IPv4 packet less the headers of IP and UDP.
pub const UDP_PAYLOAD_LEN_MAX: usize = 65_507;

/// Octets that arrive while the pump is elsewhere: 1.5 ms at 40 Gbit/s. The kernel gives what `rmem_max` allows.
const RECEIVE_BUFFER_LEN: usize = 8 << 20;
/// Octets that are on their way to a device.
const SEND_BUFFER_LEN: usize = 4 << 20;

/// A UDP socket could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BindError {
    /// There is no socket to be had.
    Socket(Errno),
    /// The address is not one of this host, or its port is taken.
    Address {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the kernel said.
        errno: Errno,
    },
    /// The kernel lacks something that a leg needs.
    Option {
        /// Its name in the kernel's interface.
        name: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(errno) => write!(f, "making a UDP socket: {errno}"),
            Self::Address { address, errno } => write!(f, "taking the UDP address {address}: {errno}"),
            Self::Option { name, errno } => write!(f, "setting {name} on a UDP socket: {errno}"),
        }
    }
}

impl core::error::Error for BindError {}

/// A socket for all legs through one fabric.
#[derive(Debug)]
pub struct UdpSocket {
    descriptor: OwnedFd,
    local: SocketAddr,
    /// Datagrams that a run may have; 1 where runs are not cut.
    segments_max: Cell<usize>,
    tally: Tally,
}

impl UdpSocket {
    /// Opens a socket on `address`; port 0 takes any that is free.
    ///
    /// # Errors
    ///
    /// The address is not to be had, or the kernel is older than 5.0.
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let descriptor = route::socket_for(address).map_err(BindError::Socket)?;
        forbid_fragments(&descriptor, address)?;
        enlarge_buffers(&descriptor)?;
        call::set_joining(descriptor.as_fd()).map_err(option("UDP_GRO"))?;
        let no_address = |errno| BindError::Address { address, errno };
        rustix::net::bind(&descriptor, &address).map_err(no_address)?;
        let local = rustix::net::getsockname(&descriptor).map_err(no_address)?;
        let local = SocketAddr::try_from(local).map_err(no_address)?;
        let segments_max = Cell::new(route::segments_cap());
        Ok(Self { descriptor, local, segments_max, tally: Tally::default() })
    }

    /// The address that the socket has, with the port that it took.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// Datagrams of `segment_len` octets that go out with one call: what the kernel cuts, and fits into one IP
    /// packet. At least 1; exactly 1 where runs are not cut.
    #[must_use]
    pub fn segments_max(&self, segment_len: usize) -> usize {
        self.segments_max.get().min(UDP_PAYLOAD_LEN_MAX / segment_len.max(1)).max(1)
    }

    /// Octets of the longest datagram that the kernel's route to `to` takes. Nothing is sent.
    ///
    /// # Errors
    ///
    /// There is no route, or no descriptor to ask with.
    pub fn payload_len_max(&self, to: SocketAddr) -> Result<usize, Errno> {
        route::payload_len_max(self.local.ip(), to)
    }

    /// What the socket has sent, refused and received.
    #[must_use]
    pub fn counters(&self) -> UdpCounters {
        self.tally.read()
    }

    /// Datagrams that reached the socket and were dropped by the kernel, because the socket's buffer was full or
    /// their sum was wrong; modulo 2^32.
    #[must_use]
    pub fn kernel_drops(&self) -> u32 {
        call::kernel_drops(self.descriptor.as_fd()).unwrap_or_default()
    }

    /// Sends `run` to `to` as datagrams of `segment_len` octets, the last of which may be shorter; never waits.
    ///
    /// # Panics
    ///
    /// When `segment_len` is zero.
    //= spec/leg-udp.md#full-sockets
    //# A packet that the kernel has no room for MUST be counted and dropped; sending MUST NOT wait for room.
    pub fn send(&self, to: SocketAddr, run: &[u8], segment_len: usize) -> SendResult {
        assert!(segment_len > 0, "a datagram has at least one octet");
        let address = RawAddress::from(to);
        let mut rest = run;
        while !rest.is_empty() {
            let segments = self.segments_max(segment_len);
            let sent = if rest.len() <= segment_len {
                self.send_one(to, rest)
            } else if segments == 1 {
                self.send_each(&address, rest, segment_len)
            } else {
                let run = &rest[..rest.len().min(segments * segment_len)];
                self.send_run(&address, run, segment_len)
            };
            match sent {
                Ok(octets) => rest = &rest[octets..],
                Err(errno) => return self.drop_rest(to, rest.len().div_ceil(segment_len) as u64, errno),
            }
        }
        SendResult::Sent
    }

    fn send_one(&self, to: SocketAddr, datagram: &[u8]) -> Result<usize, Errno> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        rustix::net::sendto(&self.descriptor, datagram, flags, &to)?;
        self.count_sent(1, datagram.len());
        Ok(datagram.len())
    }

    //= spec/leg-udp.md#refused-runs
    //# Packets of a run that the kernel refuses to cut MUST be sent one by one.
    fn send_run(&self, to: &RawAddress, run: &[u8], segment_len: usize) -> Result<usize, Errno> {
        let socket = self.descriptor.as_fd();
        let cut_at = u16::try_from(segment_len).map_err(|_| Errno::MSGSIZE)?;
        match call::send_run(socket, to, run, cut_at) {
            Ok(()) => {
                self.count_sent(run.len().div_ceil(segment_len) as u64, run.len());
                Ok(run.len())
            }
            // EIO: the device or the route cannot. EINVAL: more datagrams than this kernel cuts, or, with older
            // kernels, longer ones than the route takes, which then shows when they go one by one.
            Err(Errno::IO | Errno::INVAL) => {
                let sent = self.send_each(to, run, segment_len)?;
                self.tally.add(|c| c.cutting_refused += 1);
                self.segments_max.set(1);
                Ok(sent)
            }
            Err(errno) => Err(errno),
        }
    }

    /// Sends the first datagrams of `run`, each by itself; returns their octets.
    fn send_each(&self, to: &RawAddress, run: &[u8], segment_len: usize) -> Result<usize, Errno> {
        let datagrams = call::send_each(self.descriptor.as_fd(), to, run, segment_len)?;
        let octets = run.len().min(datagrams * segment_len);
        self.count_sent(datagrams as u64, octets);
        Ok(octets)
    }

    fn count_sent(&self, datagrams: u64, octets: usize) {
        self.tally.add(|c| {
            c.sent_calls += 1;
            c.sent_datagrams += datagrams;
            c.sent_octets += octets as u64;
        });
    }

    //= spec/leg-udp.md#too-long-packets
    //# A packet that is longer than the route takes MUST be reported to the sender of the leg, with the length that the
    //# kernel's route takes when it is known.
    #[cold]
    fn drop_rest(&self, to: SocketAddr, datagrams: u64, errno: Errno) -> SendResult {
        match errno {
            Errno::AGAIN | Errno::NOBUFS => {
                self.tally.add(|c| c.dropped_full += datagrams);
                SendResult::WouldBlock
            }
            Errno::MSGSIZE => {
                self.tally.add(|c| c.dropped_too_big += datagrams);
                SendResult::TooBig { payload_len_max: self.payload_len_max(to).ok() }
            }
            errno => {
                self.tally.add(|c| c.dropped_failed += datagrams);
                SendResult::Failed(errno)
            }
        }
    }

    /// Hands the datagrams that have arrived to `f`, with their source, as many as `pool` has room for; never
    /// waits. What `f` does to the octets is its own affair.
    ///
    /// Level-triggered: what is left makes the socket readable again.
    //= spec/leg-udp.md#turns
    //# A host MUST take a bounded number of runs from one socket before the others get their turn.
    pub fn for_each_datagram(
        &self,
        pool: &mut ReceivePool,
        mut f: impl FnMut(SocketAddr, &mut [u8]),
    ) -> Taken {
        let mut taken = Taken::default();
        let runs = match call::receive_runs(self.descriptor.as_fd(), &mut pool.octets, &mut pool.arrivals) {
            Ok(runs) => runs,
            Err(Errno::AGAIN | Errno::INTR) => return taken,
            Err(_) => {
                self.tally.add(|c| c.receive_failures += 1);
                return taken;
            }
        };
        let mut damaged = 0;
        for (arrival, run) in pool.runs(runs) {
            match arrival.from.decode() {
                Some(from) if !arrival.is_cut => {
                    receive::split_run(from, arrival.segment_len, run, &mut taken, &mut f);
                }
                _ => damaged += 1,
            }
        }
        taken.has_more = runs == call::RUNS_MAX;
        self.tally.add(|c| {
            c.received_calls += 1;
            c.received_datagrams += taken.datagrams as u64;
            c.received_octets += taken.octets as u64;
            c.received_damaged += damaged;
        });
        taken
    }
}

impl PacketSocket for UdpSocket {
    type Address = SocketAddr;

    fn local_address(&self) -> SocketAddr {
        Self::local_address(self)
    }

    fn segments_max(&self, segment_len: usize) -> usize {
        Self::segments_max(self, segment_len)
    }

    fn kernel_drops(&self) -> u32 {
        Self::kernel_drops(self)
    }

    #[inline]
    fn send(&self, to: SocketAddr, run: &[u8], segment_len: usize) -> SendResult {
        Self::send(self, to, run, segment_len)
    }

    #[inline]
    fn for_each_datagram(&self, pool: &mut ReceivePool, f: impl FnMut(SocketAddr, &mut [u8])) -> Taken {
        Self::for_each_datagram(self, pool, f)
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

fn option(name: &'static str) -> impl FnOnce(Errno) -> BindError {
    move |errno| BindError::Option { name, errno }
}

//= spec/leg-udp.md#fragments
//# A packet MUST be sent with DF set, or over IPv6 unfragmented, and what routers say about the path's MTU MUST NOT
//# change what is sent.
fn forbid_fragments(socket: &OwnedFd, address: SocketAddr) -> Result<(), BindError> {
    if address.is_ipv4() {
        return sockopt::set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::PROBE)
            .map_err(option("IP_MTU_DISCOVER"));
    }
    sockopt::set_ipv6_v6only(socket, true).map_err(option("IPV6_V6ONLY"))?;
    sockopt::set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::PROBE).map_err(option("IPV6_MTU_DISCOVER"))
}

/// Asks for large buffers: beyond the system's limit where this process may, else up to it.
fn enlarge_buffers(socket: &OwnedFd) -> Result<(), BindError> {
    if sockopt::set_socket_recv_buffer_size_force(socket, RECEIVE_BUFFER_LEN).is_err() {
        sockopt::set_socket_recv_buffer_size(socket, RECEIVE_BUFFER_LEN).map_err(option("SO_RCVBUF"))?;
    }
    if sockopt::set_socket_send_buffer_size_force(socket, SEND_BUFFER_LEN).is_err() {
        sockopt::set_socket_send_buffer_size(socket, SEND_BUFFER_LEN).map_err(option("SO_SNDBUF"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
