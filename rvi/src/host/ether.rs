//! Ethernet sockets: the packets of all ether legs through one fabric leave and arrive here, one packet to a frame, by a packet
//! socket or, where that was asked for and can be, by AF_XDP.
//!
//! What happens to a packet here: a run of packets goes to the device as frames, up to 64 with one call; frames that
//! arrive lose their header and their padding, and what is not for this process is dropped and counted. Nothing here
//! waits. Rules: `spec/leg-ether.md`.

mod by_xdp;
mod call;
mod tally;

use core::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::string::String;

use rustix::io::Errno;
use rustix::net::sockopt;
use vlan_core::{EtherAddress, EtherPort, Instant};

pub use crate::host::packet_socket::OpenError;
pub use by_xdp::{EtherDriver, Way, Why};
pub use tally::EtherCounters;

use by_xdp::ByXdp;
use call::{Arrival, FRAMES_MAX};
use tally::Tally;

use crate::host::packet_socket::{self, Device, Membership, refused};
use crate::host::packets::{PacketSocket, SendResult, Taken};
use crate::host::udp::ReceivePool;
use crate::host::udp::call::kernel_drops;
use crate::host::xdp_socket::{Queued, XdpError, XdpSockets};
use crate::packet::ether_frame::{self as frame, ETHER_TYPE, HEADER_LEN, HEADER_LEN_IN_MTU};

/// Octets that arrive while the pump is elsewhere: 1.5 ms at 40 Gbit/s. The kernel gives what `rmem_max` allows.
const RECEIVE_BUFFER_LEN: usize = 8 << 20;
/// Octets that are on their way to a device.
const SEND_BUFFER_LEN: usize = 4 << 20;
/// Octets of the least room for a frame.
const ROOM_LEN_MIN: usize = 2048;

/// Where a process has an ether leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtherPlace {
    /// The device.
    pub device: String,
    /// The process's port.
    pub port: EtherPort,
    /// How the device is to be driven.
    pub driver: EtherDriver,
}

/// What has changed about a socket's device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceChange {
    /// The socket has another address.
    pub address: bool,
    /// It takes packets of another length.
    pub len: bool,
}

/// A socket for all ether legs through one fabric.
#[derive(Debug)]
pub struct EtherSocket {
    /// The packet socket.
    descriptor: OwnedFd,
    place: EtherPlace,
    device: Cell<Device>,
    tally: Tally,
    /// None where AF_XDP was not asked for.
    xdp: Option<ByXdp>,
}

impl EtherSocket {
    /// Opens a socket on a device. A control node's hears its group too.
    ///
    /// # Errors
    ///
    /// When there is no such Ethernet device, or the process may not have such a socket.
    //= spec/leg-ether.md#who-is-heard
    //# A process MUST take only frames of our type for its device's MAC address and its port, a control node besides those
    //# for the group of control nodes and its port; it MUST drop others and never send to the broadcast address.
    pub fn open(place: EtherPlace) -> Result<Self, OpenError> {
        let (descriptor, device) = packet_socket::open_for(&place.device)?;
        let socket = descriptor.as_fd();
        // Before it hears anything.
        call::filter(socket, place.port, place.port.is_of_control_node())
            .map_err(refused("SO_ATTACH_FILTER"))?;
        call::pass_by_queues(socket).map_err(refused("PACKET_QDISC_BYPASS"))?;
        enlarge_buffers(socket)?;
        let (device_cell, tally) = (Cell::new(device), Tally::default());
        let mut opened = Self { descriptor, place, device: device_cell, tally, xdp: None };
        opened.attach(device).map_err(refused("binding to the device"))?;
        if opened.place.driver == EtherDriver::AfXdp {
            let xdp = ByXdp::new(opened.descriptor.as_fd(), &device, opened.place.port);
            opened.xdp = Some(xdp.map_err(OpenError::Socket)?);
        }
        Ok(opened)
    }

    /// How the device is driven, and why.
    //= spec/leg-ether.md#auto
    //# `auto` MUST be a packet socket.
    #[must_use]
    pub fn way(&self) -> Way {
        match (&self.xdp, self.place.driver) {
            (Some(xdp), _) => xdp.way(),
            (None, EtherDriver::Auto) => Way::PacketSocket(Why::Auto),
            (None, _) => Way::PacketSocket(Why::Asked),
        }
    }

    /// Where the leg is, as it was opened.
    #[must_use]
    pub fn place(&self) -> &EtherPlace {
        &self.place
    }

    /// Looks whether the device can be had by AF_XDP, where that was asked for. To be called once a second.
    pub fn look_at_driver(&self, now: Instant) {
        if let Some(xdp) = &self.xdp {
            // That the device was down would be told at the next call of the packet socket, and end new XDP sockets.
            let _ = sockopt::socket_error(&self.descriptor);
            xdp.look(now, &self.device.get(), self.place.port);
        }
    }

    /// Has the socket hear a device, and a control node's that device's part of its group.
    fn attach(&self, device: Device) -> Result<(), Errno> {
        packet_socket::bind(self.descriptor.as_fd(), ETHER_TYPE, device.index)?;
        if self.place.port.is_of_control_node() {
            let group = Membership::Group(EtherAddress::CONTROL_NODES);
            packet_socket::join(self.descriptor.as_fd(), device.index, group)?;
        }
        Ok(())
    }

    /// Octets of the longest packet that the device takes, as of the last look.
    //= spec/leg-ether.md#length
    //# A packet MUST NOT be longer than the device's MTU less 12 octets; the MTU MUST be read again when the device refuses a
    //# frame as too long, and once a second.
    #[must_use]
    pub fn payload_len_max(&self) -> usize {
        self.device.get().mtu.saturating_sub(HEADER_LEN_IN_MTU).min(usize::from(u16::MAX))
    }

    /// True while packets wait here that the device had no room for: they go with the next ones, or by [`Self::flush`].
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.xdp.as_ref().is_some_and(ByXdp::is_full)
    }

    /// Has packets go that wait for room at the device.
    pub fn flush(&self) {
        // An error has ended the sockets: what waited there is lost, and the packet socket goes on.
        let _ = self.xdp.as_ref().and_then(|xdp| xdp.with(XdpSockets::flush));
    }

    /// What the socket has sent, refused and received.
    #[must_use]
    pub fn counters(&self) -> EtherCounters {
        let mut counters = self.tally.read();
        counters.received_cut += self.xdp.as_ref().map_or(0, |xdp| xdp.drops()[1]);
        counters
    }

    //= spec/leg-ether.md#devices-that-change
    //# A socket MUST follow its device's name to another device, MTU or MAC address within a second, and a node MUST then
    //# offer the address again.
    /// Looks at the device again: its MTU or its address may be another, or the device itself, of the same name.
    pub fn look(&self) -> DeviceChange {
        let before = self.device.get();
        // One that has gone may come back.
        let Ok(Some(device)) = packet_socket::device(&self.descriptor, &self.place.device) else {
            return DeviceChange::default();
        };
        if device.index != before.index {
            if self.attach(device).is_err() {
                // Tried again at the next look.
                return DeviceChange::default();
            }
            // That the earlier device went would be told at the next call.
            let _ = sockopt::socket_error(&self.descriptor);
        }
        self.device.set(device);
        DeviceChange { address: device.mac != before.mac, len: device.mtu != before.mtu }
    }

    /// Sends the first packets of `run`; returns their octets.
    fn send_some(&self, to: EtherAddress, run: &[u8], segment_len: usize) -> Result<usize, Errno> {
        let last_len = match run.len() % segment_len {
            0 => segment_len,
            len => len,
        };
        let own = self.local_address();
        let header = |len: usize| {
            let len = u16::try_from(len).map_err(|_| Errno::MSGSIZE)?;
            Ok::<_, Errno>(frame::write_header(to, own, len))
        };
        let headers = [header(segment_len.min(run.len()))?, header(last_len)?];
        let frames = call::send_frames(self.descriptor.as_fd(), run, segment_len, &headers)?;
        let octets = run.len().min(frames * segment_len);
        self.count_sent(frames, octets);
        Ok(octets)
    }

    fn count_sent(&self, frames: usize, octets: usize) {
        self.tally.add(|c| {
            c.sent_calls += 1;
            c.sent_frames += frames as u64;
            c.sent_octets += octets as u64;
        });
    }

    /// Sends `run` by AF_XDP, if that can be now.
    fn send_by_xdp(&self, to: EtherAddress, run: &[u8], segment_len: usize) -> Option<SendResult> {
        let xdp = self.xdp.as_ref()?;
        let (mut frames, mut octets) = (0, 0);
        let done = xdp.with(|sockets| {
            let mut refused = None;
            for packet in run.chunks(segment_len) {
                refused = self.queue(sockets, to, packet)?;
                if refused.is_some() {
                    break;
                }
                (frames, octets) = (frames + 1, octets + packet.len());
            }
            // What the device has no room for goes later, and not twice.
            sockets.flush()?;
            Ok(refused)
        })?;
        if done.is_err() {
            // What waited in the sockets has ended with them.
            (frames, octets) = (0, 0);
        }
        self.count_sent(frames, octets);
        let left = (run.len().div_ceil(segment_len) - frames) as u64;
        Some(match done {
            Ok(None) => SendResult::Sent,
            Ok(Some(errno)) | Err(errno) => self.drop_rest(left, errno),
        })
    }

    /// Has a packet wait in the XDP sockets for the next flush; says why it cannot.
    fn queue(
        &self,
        sockets: &mut XdpSockets,
        to: EtherAddress,
        packet: &[u8],
    ) -> Result<Option<Errno>, XdpError> {
        if packet.len() > self.payload_len_max() {
            return Ok(Some(Errno::MSGSIZE));
        }
        let header = frame::write_header(to, self.local_address(), packet.len() as u16);
        Ok(match sockets.send_behind(&header, packet)? {
            Queued::Taken => None,
            Queued::Full => Some(Errno::NOBUFS),
            Queued::TooLong => Some(Errno::MSGSIZE),
        })
    }

    //= spec/leg-ether.md#dropped-packets
    //# A packet that the kernel or the device refuses MUST be counted and dropped; sending MUST NOT wait for room.
    #[cold]
    fn drop_rest(&self, packets: u64, errno: Errno) -> SendResult {
        match errno {
            Errno::AGAIN | Errno::NOBUFS => {
                self.tally.add(|c| c.dropped_full += packets);
                SendResult::WouldBlock
            }
            Errno::MSGSIZE => {
                self.tally.add(|c| c.dropped_too_big += packets);
                self.look();
                SendResult::TooBig { payload_len_max: Some(self.payload_len_max()) }
            }
            errno => {
                self.tally.add(|c| c.dropped_failed += packets);
                SendResult::Failed(errno)
            }
        }
    }

    /// Octets of the room for a frame, so that none that the device hears is cut.
    fn room_len(&self, pool_len: usize) -> usize {
        let longest = self.device.get().mtu + HEADER_LEN - HEADER_LEN_IN_MTU;
        longest.max(ROOM_LEN_MIN).next_power_of_two().min(pool_len)
    }

    /// Hands the packet of a frame to `f` if it is for this process; says how many octets it has.
    fn take_frame(&self, octets: &mut [u8], f: &mut impl FnMut(EtherAddress, &mut [u8])) -> Option<usize> {
        let own = self.local_address();
        let is_meant = |to: EtherAddress| {
            let is_group = to.mac == EtherAddress::CONTROL_NODES && own.port.is_of_control_node();
            to.port == own.port && (to.mac == own.mac || is_group)
        };
        match frame::parse(octets) {
            Ok(frame) if is_meant(frame.to) => {
                let len = frame.packet.len();
                f(frame.from, frame.packet);
                return Some(len);
            }
            Ok(_) => self.tally.add(|c| c.received_elsewhere += 1),
            Err(_) => self.tally.add(|c| c.received_damaged += 1),
        }
        None
    }
}

impl PacketSocket for EtherSocket {
    type Address = EtherAddress;

    /// The device's MAC address, as of the last look, and the process's port.
    fn local_address(&self) -> EtherAddress {
        EtherAddress { mac: self.device.get().mac, port: self.place.port }
    }

    fn segments_max(&self, _: usize) -> usize {
        FRAMES_MAX
    }

    fn kernel_drops(&self) -> u32 {
        let by_xdp = self.xdp.as_ref().map_or(0, |xdp| xdp.drops()[0]);
        kernel_drops(self.descriptor.as_fd()).unwrap_or_default().wrapping_add(by_xdp as u32)
    }

    fn send(&self, to: EtherAddress, run: &[u8], segment_len: usize) -> SendResult {
        assert!(segment_len > 0, "a packet has at least one octet");
        if let Some(sent) = self.send_by_xdp(to, run, segment_len) {
            return sent;
        }
        let mut rest = run;
        while !rest.is_empty() {
            match self.send_some(to, rest, segment_len) {
                Ok(octets) => rest = &rest[octets..],
                Err(errno) => return self.drop_rest(rest.len().div_ceil(segment_len) as u64, errno),
            }
        }
        SendResult::Sent
    }

    /// Level-triggered: what is left makes the socket readable again.
    //= spec/leg-ether.md#turns
    //# A host MUST take a bounded number of frames from one socket before the others get their turn.
    fn for_each_datagram(&self, pool: &mut ReceivePool, mut f: impl FnMut(EtherAddress, &mut [u8])) -> Taken {
        let mut taken = self.take_by_xdp(pool, &mut f);
        if !taken.has_more {
            taken = self.take_from_packet_socket(pool, &mut f);
        }
        self.tally.add(|c| {
            c.received_packets += taken.datagrams as u64;
            c.received_octets += taken.octets as u64;
        });
        taken
    }
}

impl EtherSocket {
    /// Takes what has come by AF_XDP. The packet socket has its turn when there was nothing.
    fn take_by_xdp(&self, pool: &mut ReceivePool, f: &mut impl FnMut(EtherAddress, &mut [u8])) -> Taken {
        let mut taken = Taken::default();
        let Some(xdp) = &self.xdp else { return taken };
        let done = xdp.with(|sockets| {
            sockets.flush()?;
            for _ in 0..FRAMES_MAX {
                let Some(len) = sockets.receive(&mut pool.octets)? else { break };
                taken.has_more = true;
                taken.add(self.take_frame(&mut pool.octets[..len], f));
            }
            Ok(())
        });
        match done {
            Some(Err(_)) => self.tally.add(|c| c.receive_failures += 1),
            Some(Ok(())) if taken.has_more => self.tally.add(|c| c.received_calls += 1),
            _ => {}
        }
        taken
    }

    fn take_from_packet_socket(
        &self,
        pool: &mut ReceivePool,
        f: &mut impl FnMut(EtherAddress, &mut [u8]),
    ) -> Taken {
        let mut taken = Taken::default();
        let mut arrivals = [Arrival::default(); FRAMES_MAX];
        let room_len = self.room_len(pool.octets.len());
        let socket = self.descriptor.as_fd();
        let frames = match call::receive_frames(socket, &mut pool.octets, room_len, &mut arrivals) {
            Ok(frames) => frames,
            Err(Errno::AGAIN | Errno::INTR) => return taken,
            Err(_) => {
                // The device went down or away.
                self.xdp.iter().for_each(ByXdp::close);
                self.tally.add(|c| c.receive_failures += 1);
                return taken;
            }
        };
        for (arrival, room) in arrivals.iter().zip(pool.octets.chunks_exact_mut(room_len)).take(frames) {
            if arrival.is_cut {
                self.tally.add(|c| c.received_cut += 1);
            } else {
                taken.add(self.take_frame(&mut room[..arrival.len.min(room_len)], f));
            }
        }
        taken.has_more = frames == FRAMES_MAX.min(pool.octets.len() / room_len);
        self.tally.add(|c| c.received_calls += 1);
        taken
    }
}

impl AsFd for EtherSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.xdp.as_ref().map_or_else(|| self.descriptor.as_fd(), ByXdp::as_fd)
    }
}

/// Asks for large buffers: beyond the system's limit where this process may, else up to it.
fn enlarge_buffers(socket: BorrowedFd<'_>) -> Result<(), OpenError> {
    if sockopt::set_socket_recv_buffer_size_force(socket, RECEIVE_BUFFER_LEN).is_err() {
        sockopt::set_socket_recv_buffer_size(socket, RECEIVE_BUFFER_LEN).map_err(refused("SO_RCVBUF"))?;
    }
    if sockopt::set_socket_send_buffer_size_force(socket, SEND_BUFFER_LEN).is_err() {
        sockopt::set_socket_send_buffer_size(socket, SEND_BUFFER_LEN).map_err(refused("SO_SNDBUF"))?;
    }
    Ok(())
}
