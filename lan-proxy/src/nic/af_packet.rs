//! A device by a packet socket with vnet headers (packet(7), `PACKET_VNET_HDR`): sums and segments that the kernel or the device can
//! do are left to it, both ways.
//!
//! The kernel takes the outer tag off a frame and gives it apart; it is put back here, so that [`crate::Trunk`] sees what was on the wire.

mod call;

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rvi::host::packet_socket::{self, OpenError, refused};
use vlan_core::ethernet::ETHERTYPE_VLAN;
use vlan_core::wire::Vnet;
use vlan_core::wire::frame::VNET_LEN;

use crate::nic::looked::{Hearing, Looked};
use crate::nic::{FrameBuffer, NicError, Sent};
use crate::proxy::Mode;
use crate::tag::TAG_LEN;

/// Where the kernel gives frames of every type.
const ETH_P_ALL: u16 = libc::ETH_P_ALL as u16;
/// Octets that arrive while the pump is elsewhere: 1.5 ms at 40 Gbit/s. The kernel gives what `rmem_max` allows.
const RECEIVE_BUFFER_LEN: usize = 8 << 20;
/// Where a tag stands in a frame.
const TAG_AT: usize = 12;

/// A device that belongs to uplinks, by a packet socket.
#[derive(Debug)]
pub struct AfPacket {
    descriptor: OwnedFd,
    looked: Looked,
    hearing: Hearing,
}

impl AfPacket {
    /// Opens a device of this thread's network namespace for uplinks of these modes. It has no other use: give it no address.
    ///
    /// # Errors
    /// When there is no such Ethernet device, when its MTU is too small, or when the process may not have such a socket.
    pub fn open(name: &str, modes: &[Mode]) -> Result<Self, NicError> {
        let (descriptor, found) = packet_socket::open_for(name)?;
        let looked = Looked::new(name, &found, true)?;
        let socket = descriptor.as_fd();
        // Before it hears anything.
        //= spec/uplink.md#frames-of-this-host
        //# What this host sends by the device MUST NOT be taken for a frame from outside.
        for (number, option) in [
            (libc::PACKET_VNET_HDR, "PACKET_VNET_HDR"),
            (libc::PACKET_AUXDATA, "PACKET_AUXDATA"),
            (PACKET_IGNORE_OUTGOING, "PACKET_IGNORE_OUTGOING"),
        ] {
            packet_socket::set_number(socket, number, 1).map_err(refused(option))?;
        }
        // As much as it gets: where the kernel refuses, its default is there.
        if rustix::net::sockopt::set_socket_recv_buffer_size_force(socket, RECEIVE_BUFFER_LEN).is_err() {
            let _ = rustix::net::sockopt::set_socket_recv_buffer_size(socket, RECEIVE_BUFFER_LEN);
        }
        let mut opened = Self { descriptor, looked, hearing: Hearing::new(modes) };
        attach(&opened.descriptor, &mut opened.hearing, found.index)?;
        Ok(opened)
    }

    /// As [`super::Nic::set_modes`].
    pub(super) fn set_modes(&mut self, modes: &[Mode]) -> Result<(), Errno> {
        self.hearing.set_modes(&self.descriptor, modes)
    }

    /// As [`super::Nic::set_promiscuous`].
    pub(super) fn set_promiscuous(&mut self, is_promiscuous: bool) -> Result<(), Errno> {
        self.hearing.set_promiscuous(&self.descriptor, is_promiscuous)
    }

    /// As [`super::Nic::look`].
    pub(super) fn look(&mut self) -> bool {
        let Self { descriptor, looked, hearing } = self;
        let attached = Some(looked.index);
        looked.look(descriptor, attached, |found| {
            let is_attached = attach(descriptor, hearing, found.index).is_ok();
            if is_attached {
                // That the earlier device went would be told at the next call.
                let _ = rustix::net::sockopt::socket_error(&*descriptor);
            }
            is_attached
        })
    }

    pub(super) fn looked(&self) -> &Looked {
        &self.looked
    }

    /// As [`super::Nic::send`].
    pub(super) fn send(&self, vnet: &Vnet, frame: &[u8]) -> Sent {
        let header = native(*vnet).emit();
        match rustix::io::writev(&self.descriptor, &[IoSlice::new(&header), IoSlice::new(frame)]) {
            Ok(_) => Sent::Taken,
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => Sent::Full,
            Err(errno) => Sent::Refused(errno),
        }
    }

    /// As [`super::Nic::receive`].
    //= spec/uplink.md#tags-that-the-kernel-takes-off
    //# A tag that the kernel has taken off a frame MUST be put back before the frame is given to its LAN.
    pub(super) fn receive(&self, buffer: &mut FrameBuffer) -> Result<Option<(Vnet, usize)>, Errno> {
        let mut header = [0; VNET_LEN];
        let arrived = match call::receive(self.descriptor.as_fd(), &mut header, buffer.room_at(TAG_LEN)) {
            Ok(Some(arrived)) => arrived,
            Ok(None) | Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let vnet = native(Vnet::parse(&header));
        let Some(tag) = arrived.tag.filter(|_| arrived.len >= TAG_AT) else {
            return Ok(Some((vnet, arrived.len)));
        };
        let octets = buffer.room_at(0);
        octets.copy_within(TAG_LEN..TAG_LEN + TAG_AT, 0);
        let protocol = tag.protocol.unwrap_or(ETHERTYPE_VLAN).to_be_bytes();
        octets[TAG_AT..TAG_AT + 2].copy_from_slice(&protocol);
        octets[TAG_AT + 2..TAG_AT + TAG_LEN].copy_from_slice(&tag.control.to_be_bytes());
        Ok(Some((crate::tag::behind_a_tag(vnet), TAG_LEN + arrived.len)))
    }
}

impl AsFd for AfPacket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// `PACKET_IGNORE_OUTGOING` of `linux/if_packet.h`, since Linux 4.20.
const PACKET_IGNORE_OUTGOING: i32 = 23;

/// Packet sockets have the header in the order of the machine, [`Vnet`] reads and writes it as it is on the wire.
fn native(vnet: Vnet) -> Vnet {
    Vnet {
        hdr_len: vnet.hdr_len.to_le(),
        gso_size: vnet.gso_size.to_le(),
        csum_start: vnet.csum_start.to_le(),
        csum_offset: vnet.csum_offset.to_le(),
        ..vnet
    }
}

/// Has the socket hear a device, and the device hear what its uplinks are to hear.
fn attach(socket: &OwnedFd, hearing: &mut Hearing, index: i32) -> Result<(), OpenError> {
    packet_socket::bind(socket.as_fd(), ETH_P_ALL, index).map_err(refused("binding to the device"))?;
    hearing.join(socket, index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_no_uplinks_is_refused_with_what_to_do() {
        let error = AfPacket::open("no-such-dev", &[Mode::Unfiltered]).unwrap_err();
        assert_eq!(error, NicError::Socket(OpenError::NoDevice("no-such-dev".into())));
        assert!(error.hint().contains("platform file"));
        assert_eq!(
            AfPacket::open("lo", &[Mode::Unfiltered]).unwrap_err(),
            NicError::Socket(OpenError::NotEthernet("lo".into()))
        );
    }
}
