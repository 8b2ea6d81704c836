//! A device by AF_XDP: frames past this host's stack, without anything that is left to the kernel or the device. Sums and segments are made
//! before, at the edge.

mod sums;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll;
use rustix::io::Errno;
use rvi::host::packet_socket::{self, OpenError};
use rvi::host::xdp_socket::{Frames, Queued, XdpError, XdpOpenError, XdpSockets};
use vlan_core::limits::ETHERNET_HEADER_LEN;
use vlan_core::wire::Vnet;

use crate::nic::looked::{Hearing, Looked};
use crate::nic::{FrameBuffer, NicError, Sent};
use crate::proxy::Mode;
use crate::tag::TAG_LEN;

/// A device that belongs to uplinks, by a socket for each of its queues.
#[derive(Debug)]
pub struct AfXdp {
    /// None while there is no device that can be used.
    sockets: Option<XdpSockets>,
    /// Readable when the sockets are; it stays the same when they are others.
    readable: OwnedFd,
    /// A packet socket that hears nothing itself.
    questions: OwnedFd,
    looked: Looked,
    hearing: Hearing,
    /// What sockets that were closed had counted, as [`XdpSockets::too_long`].
    too_long: u64,
}

impl AfXdp {
    /// Opens a device of this thread's network namespace for uplinks of these modes: nobody else on this host hears what arrives there.
    ///
    /// # Errors
    /// When there is no such Ethernet device, when its MTU is too small, or when it cannot be had by AF_XDP.
    pub fn open(name: &str, modes: &[Mode]) -> Result<Self, NicError> {
        let (questions, found) = packet_socket::open_for(name)?;
        let looked = Looked::new(name, &found, false)?;
        let readable = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(OpenError::Socket)?;
        let mut opened =
            Self { sockets: None, readable, questions, looked, hearing: Hearing::new(modes), too_long: 0 };
        let Self { readable, questions, hearing, .. } = &mut opened;
        let sockets = attach(readable, questions, hearing, name, found.index, XdpSockets::open_after_others)?;
        if let Some(len) = sockets.frame_len_max() {
            opened.looked.limit((len - ETHERNET_HEADER_LEN - TAG_LEN) as u16);
        }
        opened.sockets = Some(sockets);
        Ok(opened)
    }

    /// How the frames come here, in words, for who reads the log.
    #[must_use]
    pub fn way(&self) -> &'static str {
        self.sockets.as_ref().map_or("not at all", XdpSockets::way)
    }

    /// As [`super::Nic::too_long`].
    pub(super) fn too_long(&self) -> u64 {
        self.too_long + self.sockets.as_ref().map_or(0, XdpSockets::too_long)
    }

    /// As [`super::Nic::set_modes`].
    pub(super) fn set_modes(&mut self, modes: &[Mode]) -> Result<(), Errno> {
        self.hearing.set_modes(&self.questions, modes)
    }

    /// As [`super::Nic::set_promiscuous`].
    pub(super) fn set_promiscuous(&mut self, is_promiscuous: bool) -> Result<(), Errno> {
        self.hearing.set_promiscuous(&self.questions, is_promiscuous)
    }

    /// As [`super::Nic::look`].
    pub(super) fn look(&mut self) -> bool {
        let Self { sockets, readable, questions, looked, hearing, too_long } = self;
        let name = looked.name.clone();
        looked.look(questions, sockets.is_some(), |index| {
            // The kernel gives a queue to one socket at a time.
            *too_long += sockets.take().map_or(0, |sockets| sockets.too_long());
            *sockets = attach(readable, questions, hearing, &name, index, XdpSockets::open).ok();
            sockets.is_some()
        })
    }

    pub(super) fn looked(&self) -> &Looked {
        &self.looked
    }

    /// As [`super::Nic::send`].
    pub(super) fn send(&mut self, vnet: &Vnet, frame: &[u8]) -> Sent {
        let Some(sockets) = &mut self.sockets else { return Sent::Refused(Errno::NETDOWN) };
        if frame.len() > usize::from(self.looked.device.mtu) + ETHERNET_HEADER_LEN + TAG_LEN {
            return Sent::Refused(Errno::MSGSIZE);
        }
        if vnet.flags & Vnet::NEEDS_CSUM != 0 || vnet.gso_type != 0 {
            // The device does not do what is left to it.
            return Sent::Refused(Errno::INVAL);
        }
        match sockets.send(frame) {
            Ok(Queued::Taken) => Sent::Taken,
            Ok(Queued::Full) => Sent::Full,
            Ok(Queued::TooLong) => Sent::Refused(Errno::MSGSIZE),
            Err(error) => Sent::Refused(self.close(error)),
        }
    }

    /// As [`super::Nic::flush`].
    pub(super) fn flush(&mut self) -> bool {
        match self.sockets.as_mut().map(XdpSockets::flush) {
            Some(Err(error)) => {
                self.close(error);
                true
            }
            Some(Ok(is_done)) => is_done,
            None => true,
        }
    }

    /// As [`super::Nic::receive`].
    pub(super) fn receive<'b>(
        &mut self,
        buffer: &'b mut FrameBuffer,
    ) -> Result<Option<(Vnet, &'b mut [u8])>, Errno> {
        let Some(sockets) = &mut self.sockets else { return Ok(None) };
        match sockets.receive(&mut buffer.0) {
            Ok(Some(len)) => {
                let frame = &mut buffer.0[..len];
                Ok(Some((sums::state_of(frame), frame)))
            }
            Ok(None) => Ok(None),
            Err(error) => Err(self.close(error)),
        }
    }

    /// Ends what can no longer be used, and what waits there with it: the next look begins anew.
    fn close(&mut self, error: XdpError) -> Errno {
        self.too_long += self.sockets.take().map_or(0, |sockets| sockets.too_long());
        match error {
            XdpError::System(errno) => errno,
            _ => Errno::IO,
        }
    }
}

impl AsFd for AfXdp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }
}

/// Takes a device's frames, has it hear what its uplinks are to hear, and leave the tags where they are.
//= spec/uplink.md#tags-by-af_xdp
//# A device that is driven by AF_XDP MUST be told to leave tags in frames, and MUST be refused when it does not.
fn attach(
    readable: &OwnedFd,
    questions: &OwnedFd,
    hearing: &mut Hearing,
    name: &str,
    index: i32,
    open: fn(u32, Frames) -> Result<XdpSockets, XdpOpenError>,
) -> Result<XdpSockets, NicError> {
    let refused = |error| NicError::Xdp { device: name.into(), error };
    packet_socket::leave_tags(questions, name)
        .map_err(|errno| refused(XdpOpenError::Step { name: "leaving tags in frames", errno }))?;
    let sockets = open(index.cast_unsigned(), Frames::All).map_err(refused)?;
    hearing.join(questions, index)?;
    epoll::add(readable, &sockets, epoll::EventData::new_u64(0), epoll::EventFlags::IN)
        .map_err(OpenError::Socket)?;
    Ok(sockets)
}
