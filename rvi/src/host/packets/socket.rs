//! What a socket of packet legs can do, of whichever kind: send runs of packets to an address, and hand on what came.

use std::os::fd::AsFd;

use rustix::io::Errno;

use crate::host::udp::ReceivePool;

/// What became of a run. What was not sent is lost, as it could be on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum SendResult {
    /// The kernel took all of it.
    Sent,
    /// The socket's buffer or the device's queue is full; the rest is dropped.
    WouldBlock,
    /// Its packets are longer than the route or the device takes; they are dropped.
    TooBig {
        /// Octets of the longest packet that the kernel sends to that address, if it says so.
        payload_len_max: Option<usize>,
    },
    /// The kernel refused for another reason, such as no route; the rest is dropped.
    Failed(Errno),
}

/// What one call took from a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Packets that were handed on.
    pub datagrams: usize,
    /// Their octets.
    pub octets: usize,
    /// True when the socket may have more: every room of the pool was used.
    pub has_more: bool,
}

impl Taken {
    /// Counts a packet of so many octets that was handed on, if one was.
    pub(in crate::host) fn add(&mut self, packet_len: Option<usize>) {
        self.datagrams += usize::from(packet_len.is_some());
        self.octets += packet_len.unwrap_or(0);
    }
}

/// A socket for all legs of one kind through one fabric.
pub trait PacketSocket: AsFd {
    /// Where such packets come from and go to.
    type Address: Copy;

    /// Where the socket is.
    fn local_address(&self) -> Self::Address;

    /// Packets of `segment_len` octets that go out with one call; at least 1.
    fn segments_max(&self, segment_len: usize) -> usize;

    /// Packets that the kernel dropped because the socket's buffer was full, or damaged; modulo 2^32.
    fn kernel_drops(&self) -> u32;

    /// Sends `run` to `to` as packets of `segment_len` octets, the last of which may be shorter; never waits.
    ///
    /// # Panics
    ///
    /// When `segment_len` is zero.
    fn send(&self, to: Self::Address, run: &[u8], segment_len: usize) -> SendResult;

    /// Hands the packets that have arrived to `f`, with their source, as many as `pool` has room for; never waits.
    fn for_each_datagram(&self, pool: &mut ReceivePool, f: impl FnMut(Self::Address, &mut [u8])) -> Taken;
}
