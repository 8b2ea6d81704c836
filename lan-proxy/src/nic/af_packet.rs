//! A device by a packet socket with vnet headers (packet(7), `PACKET_VNET_HDR`): sums and segments that the kernel or the device can
//! do are left to it, both ways.
//!
//! The kernel takes the outer tag off a frame and gives it apart; it is put back here, so that [`crate::Trunk`] sees what was on the wire.

mod call;

use core::fmt;
use std::boxed::Box;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::string::String;
use std::vec::Vec;

use rustix::io::Errno;
use rvi::host::packet_socket::{self, Membership, OpenError, refused};
use vlan_core::ethernet::ETHERTYPE_VLAN;
use vlan_core::limits::FRAME_LEN_MAX;
use vlan_core::wire::Vnet;
use vlan_core::wire::frame::VNET_LEN;

use crate::edge::{Device, MTU_MIN};
use crate::nic::{NicError, Sent};
use crate::proxy::Mode;
use crate::tag::TAG_LEN;

/// Where the kernel gives frames of every type.
const ETH_P_ALL: u16 = libc::ETH_P_ALL as u16;
/// Octets that arrive while the pump is elsewhere: 1.5 ms at 40 Gbit/s. The kernel gives what `rmem_max` allows.
const RECEIVE_BUFFER_LEN: usize = 8 << 20;
/// Where a tag stands in a frame.
const TAG_AT: usize = 12;

/// A device that belongs to uplinks.
#[derive(Debug)]
pub struct AfPacket {
    descriptor: OwnedFd,
    name: String,
    /// Of its uplinks.
    modes: Vec<Mode>,
    index: i32,
    device: Device,
    has_carrier: bool,
    /// It is to hear everything for now.
    is_promiscuous: bool,
}

/// Room for one frame, used again for every frame.
pub struct FrameBuffer(Box<[u8]>);

impl Default for FrameBuffer {
    fn default() -> Self {
        // In front of a frame is room for its tag.
        Self(std::vec![0; TAG_LEN + FRAME_LEN_MAX].into_boxed_slice())
    }
}

impl fmt::Debug for FrameBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FrameBuffer")
    }
}

impl AfPacket {
    /// Opens a device of this thread's network namespace for an uplink. It has no other use: give it no address.
    ///
    /// # Errors
    /// When there is no such Ethernet device, when its MTU is too small, or when the process may not have such a socket.
    pub fn open(name: &str, modes: &[Mode]) -> Result<Self, NicError> {
        let (descriptor, found) = packet_socket::open_for(name)?;
        let device =
            device_of(&found).ok_or(NicError::MtuTooSmall { device: name.into(), mtu: found.mtu })?;
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
        let (name, index, has_carrier) = (name.into(), found.index, found.is_running);
        let opened = Self {
            descriptor,
            name,
            modes: modes.to_vec(),
            index,
            device,
            has_carrier,
            is_promiscuous: false,
        };
        opened.attach(index)?;
        Ok(opened)
    }

    /// Has the socket hear a device, and the device hear what an uplink is to hear.
    //= spec/uplink.md#what-a-device-hears
    //# The device of an uplink MUST be made to hear the uplink's system MAC and every group in filtered mode, and everything in
    //# unfiltered mode.
    fn attach(&self, index: i32) -> Result<(), OpenError> {
        let socket = self.descriptor.as_fd();
        packet_socket::bind(socket, ETH_P_ALL, index).map_err(refused("binding to the device"))?;
        let join = |membership, name| packet_socket::join(socket, index, membership).map_err(refused(name));
        join(Membership::AllGroups, "PACKET_MR_ALLMULTI")?;
        for mode in &self.modes {
            match *mode {
                Mode::Filtered { system } => join(Membership::Station(system), "PACKET_MR_UNICAST")?,
                Mode::Unfiltered => join(Membership::Promiscuous, "PACKET_MR_PROMISC")?,
            }
        }
        if self.is_promiscuous { join(Membership::Promiscuous, "PACKET_MR_PROMISC") } else { Ok(()) }
    }

    /// Has the device hear everything for as long as somebody inside listens, beside what its uplinks need.
    ///
    /// # Errors
    /// What the kernel says; then nothing has changed.
    pub fn set_promiscuous(&mut self, is_promiscuous: bool) -> Result<(), Errno> {
        if is_promiscuous == self.is_promiscuous {
            return Ok(());
        }
        let change = if is_promiscuous { packet_socket::join } else { packet_socket::leave };
        change(self.descriptor.as_fd(), self.index, Membership::Promiscuous)?;
        self.is_promiscuous = is_promiscuous;
        Ok(())
    }

    /// Looks at the device again: whether it has a carrier, its MTU, and whether another one has its name now. True when any of that has
    /// changed; what it is says [`Self::device`], which goes to [`crate::LanProxy::set_device`], and [`Self::has_carrier`].
    //= spec/uplink.md#devices-that-change
    //# A look at a device MUST find its MTU, whether it has a carrier, and another device that has taken its place under its name,
    //# which the uplink then uses; frames MUST be judged by that MTU from then on.
    pub fn look(&mut self) -> bool {
        let before = (self.index, self.device, self.has_carrier);
        // One that has gone may come back.
        let found = packet_socket::device(&self.descriptor, &self.name).ok().flatten();
        let usable = found.and_then(|found| Some((found, device_of(&found)?)));
        self.has_carrier = usable.is_some_and(|(found, _)| found.is_running);
        if let Some((found, device)) = usable {
            if found.index != self.index {
                if self.attach(found.index).is_err() {
                    // Tried again at the next look.
                    self.has_carrier = false;
                    return before.2;
                }
                // That the earlier device went would be told at the next call.
                let _ = rustix::net::sockopt::socket_error(&self.descriptor);
            }
            (self.index, self.device) = (found.index, device);
        }
        before != (self.index, self.device, self.has_carrier)
    }

    /// The device was up and had a carrier when it was looked at last (E24).
    #[must_use]
    pub fn has_carrier(&self) -> bool {
        self.has_carrier
    }

    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the proxy has to know of it, as of the last look.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device
    }

    /// Sends a frame, tagged as it is to be on the wire, with what is still to be done to it.
    pub fn send(&self, vnet: &Vnet, frame: &[u8]) -> Sent {
        let header = native(*vnet).emit();
        match rustix::io::writev(&self.descriptor, &[IoSlice::new(&header), IoSlice::new(frame)]) {
            Ok(_) => Sent::Taken,
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => Sent::Full,
            Err(errno) => Sent::Refused(errno),
        }
    }

    /// Takes the next frame from outside, tagged as it was on the wire, with its state; none when there is none now.
    ///
    /// # Errors
    /// What the kernel says; `ENETDOWN` once when the device went down.
    //= spec/uplink.md#tags-that-the-kernel-takes-off
    //# A tag that the kernel has taken off a frame MUST be put back before the frame is given to its LAN.
    pub fn receive<'b>(&self, buffer: &'b mut FrameBuffer) -> Result<Option<(Vnet, &'b mut [u8])>, Errno> {
        let mut header = [0; VNET_LEN];
        let arrived = match call::receive(self.descriptor.as_fd(), &mut header, &mut buffer.0[TAG_LEN..]) {
            Ok(Some(arrived)) => arrived,
            Ok(None) | Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let vnet = native(Vnet::parse(&header));
        let end = TAG_LEN + arrived.len;
        let Some(tag) = arrived.tag.filter(|_| arrived.len >= TAG_AT) else {
            return Ok(Some((vnet, &mut buffer.0[TAG_LEN..end])));
        };
        buffer.0.copy_within(TAG_LEN..TAG_LEN + TAG_AT, 0);
        let protocol = tag.protocol.unwrap_or(ETHERTYPE_VLAN).to_be_bytes();
        buffer.0[TAG_AT..TAG_AT + 2].copy_from_slice(&protocol);
        buffer.0[TAG_AT + 2..TAG_AT + TAG_LEN].copy_from_slice(&tag.control.to_be_bytes());
        Ok(Some((crate::tag::behind_a_tag(vnet), &mut buffer.0[..end])))
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

/// `None` when it takes less than an uplink needs.
fn device_of(found: &packet_socket::Device) -> Option<Device> {
    let mtu = u16::try_from(found.mtu).unwrap_or(u16::MAX);
    (mtu >= MTU_MIN).then_some(Device { mtu, offloads: true })
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
