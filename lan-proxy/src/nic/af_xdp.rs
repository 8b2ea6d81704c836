//! A device by AF_XDP: frames past this host's stack, without anything that is left to the kernel or the device. Sums and segments are made
//! before, at the edge.

mod sums;

use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll;
use rustix::io::Errno;
use rvi::host::packet_socket::{self, OpenError};
use rvi::host::xdp_socket::{ChangingSockets, Frames, Queued, XdpError, XdpOpenError, XdpSockets};
use vlan_core::Instant;
use vlan_core::limits::ETHERNET_HEADER_LEN;
use vlan_core::wire::Vnet;

use crate::nic::looked::{Hearing, Looked};
use crate::nic::{FrameBuffer, NicError, Sent};
use crate::proxy::Mode;
use crate::tag::TAG_LEN;

/// Between two tries to have a device that could not be had.
const AGAIN: Duration = Duration::from_secs(10);

/// A device that belongs to uplinks, by a socket for each of its queues.
#[derive(Debug)]
pub struct AfXdp {
    /// None while there is no device that can be used.
    sockets: ChangingSockets<XdpOpenError>,
    /// The device of the sockets, or for which some were to be opened last.
    index: i32,
    /// Before then that device is not tried again.
    again_at: Option<Instant>,
    /// Readable when the sockets are; it stays the same when they are others.
    readable: OwnedFd,
    /// A packet socket that hears nothing itself.
    questions: OwnedFd,
    looked: Looked,
    hearing: Hearing,
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
        let sockets = open(&questions, name, found.index)
            .map_err(|error| NicError::Xdp { device: name.into(), error })?;
        let frame_len_max = sockets.frame_len_max();
        let mut opened = Self {
            sockets: ChangingSockets::new(&readable).map_err(OpenError::Socket)?,
            index: found.index,
            again_at: None,
            readable,
            questions,
            looked,
            hearing: Hearing::new(modes),
        };
        opened.use_sockets(sockets)?;
        if let Some(len) = frame_len_max {
            opened.looked.limit((len - ETHERNET_HEADER_LEN - TAG_LEN) as u16);
        }
        Ok(opened)
    }

    /// Uses sockets of the device, and has it hear what its uplinks are to hear.
    fn use_sockets(&mut self, sockets: XdpSockets) -> Result<(), OpenError> {
        self.sockets.set(sockets).map_err(OpenError::Socket)?;
        let joined = self.hearing.join(&self.questions, self.index);
        if joined.is_err() {
            self.sockets.close();
        }
        joined
    }

    /// How the frames come here, in words, for who reads the log.
    #[must_use]
    pub fn way(&self) -> &'static str {
        self.sockets.sockets().map_or("not at all", XdpSockets::way)
    }

    /// As [`super::Nic::too_long`].
    pub(super) fn too_long(&self) -> u64 {
        self.sockets.drops()[1]
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
    //= spec/uplink.md#devices-by-af_xdp-that-come-back
    //# A device by AF_XDP whose sockets have ended MUST be opened again when it is another one or comes up, and while it cannot be had
    //# every 10 s.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        if let Some(Ok(sockets)) = self.sockets.poll_opened() {
            // Without them it is tried again, as when there are none.
            let _ = self.use_sockets(sockets);
        }
        let Self { sockets, index, again_at, questions, looked, .. } = self;
        let attached = sockets.sockets().is_some().then_some(*index);
        let name = looked.name.clone();
        looked.look(questions, attached, |found| {
            if !found.is_running {
                // It may come up with fewer queues, or without the program that had it.
                *again_at = None;
            }
            let is_early = *index == found.index && again_at.is_some_and(|at| now < at);
            if found.is_running && !is_early && !sockets.is_opening() {
                (*index, *again_at) = (found.index, Some(now + AGAIN));
                let index = found.index;
                let questions = questions.try_clone();
                // Without a thread it is as if another program had the device.
                let _ = sockets.begin(move || {
                    let questions = questions.map_err(|_| XdpOpenError::InUse)?;
                    open(&questions, &name, index)
                });
            }
            false
        })
    }

    /// As [`super::Nic::is_opening`].
    pub(super) fn is_opening(&self) -> bool {
        self.sockets.is_opening()
    }

    pub(super) fn looked(&self) -> &Looked {
        &self.looked
    }

    /// As [`super::Nic::send`].
    pub(super) fn send(&mut self, vnet: &Vnet, frame: &[u8]) -> Sent {
        let Some(sockets) = self.sockets.sockets_mut() else { return Sent::Refused(Errno::NETDOWN) };
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
        match self.sockets.sockets_mut().map(XdpSockets::flush) {
            Some(Err(error)) => {
                self.close(error);
                true
            }
            Some(Ok(is_done)) => is_done,
            None => true,
        }
    }

    /// As [`super::Nic::receive`].
    pub(super) fn receive(&mut self, buffer: &mut FrameBuffer) -> Result<Option<(Vnet, usize)>, Errno> {
        let Some(sockets) = self.sockets.sockets_mut() else { return Ok(None) };
        let octets = buffer.room_at(0);
        match sockets.receive(octets) {
            Ok(Some(len)) => Ok(Some((sums::state_of(&octets[..len]), len))),
            Ok(None) => Ok(None),
            Err(error) => Err(self.close(error)),
        }
    }

    /// Ends what can no longer be used, and what waits there with it: a look begins anew, at once if the device was down.
    fn close(&mut self, error: XdpError) -> Errno {
        self.sockets.close();
        self.again_at = None;
        error.errno()
    }
}

impl AsFd for AfXdp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }
}

/// Takes a device's frames, and has it leave the tags where they are.
//= spec/uplink.md#tags-by-af_xdp
//# A device that is driven by AF_XDP MUST be told to leave tags in frames, and MUST be refused when it does not.
fn open(questions: &OwnedFd, name: &str, index: i32) -> Result<XdpSockets, XdpOpenError> {
    packet_socket::leave_tags(questions, name)
        .map_err(|errno| XdpOpenError::Step { name: "leaving tags in frames", errno })?;
    XdpSockets::open_after_others(index.cast_unsigned(), Frames::All)
}
