//! The part of an ether leg that goes by AF_XDP while its device can be had so.
//!
//! The packet socket of the leg stays beside it: it hears what the program leaves to this host's stack, and carries the leg
//! alone while there are no XDP sockets.

use core::cell::{Cell, RefCell};
use core::fmt;
use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll;
use rustix::io::Errno;
use vlan_core::{EtherAddress, EtherPort, Instant};

use crate::host::packet_socket::Device;
use crate::host::xdp_socket::{ChangingSockets, Frames, XdpError, XdpOpenError, XdpSockets};
use crate::packet::ether_frame::{HEADER_LEN, HEADER_LEN_IN_MTU};

/// Between two tries to have a device that another program has.
const XDP_AGAIN: Duration = Duration::from_secs(10);

/// How the device of an ether leg is to be driven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EtherDriver {
    /// By what was measured to be faster.
    #[default]
    Auto,
    /// By a packet socket.
    AfPacket,
    /// By AF_XDP where the device can be had so, else by a packet socket.
    AfXdp,
}

impl fmt::Display for EtherDriver {
    /// The word of the platform file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::AfPacket => "af-packet",
            Self::AfXdp => "af-xdp",
        })
    }
}

/// How the frames of an ether leg come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a packet socket alone, and why.
    PacketSocket(Why),
    /// By AF_XDP; in words, where the frames are taken.
    Xdp(&'static str),
}

impl Way {
    /// The driver that this is.
    #[must_use]
    pub const fn driver(&self) -> EtherDriver {
        match self {
            Self::PacketSocket(_) => EtherDriver::AfPacket,
            Self::Xdp(_) => EtherDriver::AfXdp,
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PacketSocket(why) => why.fmt(f),
            Self::Xdp(way) => f.write_str(way),
        }
    }
}

/// Why a leg has no XDP sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// None were asked for.
    Asked,
    /// `auto` decided so.
    Auto,
    /// They could not be had.
    Refused(XdpOpenError),
    /// Here they take no frames as long as the device's MTU allows.
    Short {
        /// Octets of the longest frame that they take.
        frame_len_max: usize,
    },
    /// The device has gone, was down or is another one.
    Lost,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("the platform file says so"),
            Self::Auto => {
                f.write_str("`auto`: TCP was measured faster so than by AF_XDP where that has to copy")
            }
            Self::Refused(error) => write!(f, "{error}: {}", error.hint()),
            Self::Short { frame_len_max } => {
                write!(f, "AF_XDP takes frames of {frame_len_max} octets here: set a smaller MTU")
            }
            Self::Lost => f.write_str("the device went away or down; AF_XDP again once it is up"),
        }
    }
}

/// XDP sockets, as long as they can be had.
#[derive(Debug)]
pub(super) struct ByXdp {
    /// Readable when the packet socket or the XDP sockets are.
    readable: OwnedFd,
    sockets: RefCell<ChangingSockets<Why>>,
    /// Why there are none, when there are none.
    why: Cell<Why>,
    /// The device for which they were opened last.
    tried: Cell<Option<Device>>,
    /// When a device is tried again that another program has.
    again_at: Cell<Option<Instant>>,
}

impl ByXdp {
    /// Takes the frames of a port by AF_XDP, if that can be, beside a packet socket.
    pub fn new(packets: BorrowedFd<'_>, device: &Device, port: EtherPort) -> Result<Self, Errno> {
        let readable = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&readable, packets, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        let opened = Self {
            sockets: RefCell::new(ChangingSockets::new(&readable)?),
            readable,
            why: Cell::new(Why::Lost),
            tried: Cell::new(Some(*device)),
            again_at: Cell::new(None),
        };
        opened.settle(open(device, port, XdpSockets::open));
        Ok(opened)
    }

    /// How the frames come.
    pub fn way(&self) -> Way {
        let way = self.sockets.borrow().sockets().map(XdpSockets::way);
        way.map_or_else(|| Way::PacketSocket(self.why.get()), Way::Xdp)
    }

    /// Has `f` use the sockets, if there are any, and closes them when they are of no use any more.
    pub fn with<T>(
        &self,
        f: impl FnOnce(&mut XdpSockets) -> Result<T, XdpError>,
    ) -> Option<Result<T, Errno>> {
        let done = f(self.sockets.borrow_mut().sockets_mut()?);
        Some(done.map_err(|error| {
            self.close();
            error.errno()
        }))
    }

    /// True while packets wait in the sockets that the device had no room for.
    pub fn is_full(&self) -> bool {
        self.sockets.borrow().sockets().is_some_and(XdpSockets::is_full)
    }

    /// Ends the sockets, and what waits there with them: the packet socket carries the leg until the device is up.
    #[cold]
    pub fn close(&self) {
        if self.sockets.borrow_mut().close() {
            self.why.set(Why::Lost);
            self.tried.set(None);
        }
    }

    /// Looks whether there have to be other sockets, and whether those that were being opened are there.
    //= spec/leg-ether.md#drivers
    //# An ether leg for which AF_XDP was asked MUST go by a packet socket while its device cannot be had by AF_XDP, say why, and
    //# try again when the device is another, has another MAC address or comes up, and every 10 s while another program has it.
    pub fn look(&self, now: Instant, device: &Device, port: EtherPort) {
        if !device.is_running && self.is_closed() {
            // It may come up as another one, or with fewer queues.
            self.tried.set(None);
        }
        if self.is_to_be_opened(now, device) {
            return self.begin(now, device, port);
        }
        let opened = self.sockets.borrow_mut().poll_opened();
        opened.into_iter().for_each(|opened| self.settle(opened));
    }

    fn is_closed(&self) -> bool {
        let sockets = self.sockets.borrow();
        sockets.sockets().is_none() && !sockets.is_opening()
    }

    fn is_to_be_opened(&self, now: Instant, device: &Device) -> bool {
        if let Some(sockets) = self.sockets.borrow().sockets() {
            let is_same = |tried: Device| (tried.index, tried.mac) == (device.index, device.mac);
            return !self.tried.get().is_some_and(is_same) || fits(sockets, device).is_err();
        }
        let is_another = self.tried.get().is_none_or(|tried| tried != *device);
        let is_again = self.why.get() == Why::Refused(XdpOpenError::InUse)
            && self.again_at.get().is_none_or(|at| at <= now);
        self.is_closed() && device.is_running && (is_another || is_again)
    }

    fn begin(&self, now: Instant, device: &Device, port: EtherPort) {
        let mut sockets = self.sockets.borrow_mut();
        if sockets.sockets().is_some() {
            self.why.set(Why::Lost);
        }
        self.tried.set(Some(*device));
        self.again_at.set(Some(now + XDP_AGAIN));
        let device = *device;
        if sockets.begin(move || open(&device, port, XdpSockets::open_after_others)).is_err() {
            // As if another program had it: tried again in a while.
            self.why.set(Why::Refused(XdpOpenError::InUse));
        }
    }

    fn settle(&self, opened: Result<XdpSockets, Why>) {
        let set = |sockets| {
            let refused = |errno| Why::Refused(XdpOpenError::Step { name: "epoll", errno });
            self.sockets.borrow_mut().set(sockets).map_err(refused)
        };
        if let Err(why) = opened.and_then(set) {
            self.why.set(why);
        }
    }

    /// As [`ChangingSockets::drops`].
    pub fn drops(&self) -> [u64; 2] {
        self.sockets.borrow().drops()
    }
}

impl AsFd for ByXdp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }
}

type Open = fn(u32, Frames) -> Result<XdpSockets, XdpOpenError>;

fn open(device: &Device, port: EtherPort, open: Open) -> Result<XdpSockets, Why> {
    let own = EtherAddress { mac: device.mac, port };
    let sockets = open(device.index.cast_unsigned(), Frames::OfLeg(own)).map_err(Why::Refused)?;
    fits(&sockets, device)?;
    Ok(sockets)
}

/// Whether sockets take frames as long as the device does.
fn fits(sockets: &XdpSockets, device: &Device) -> Result<(), Why> {
    match sockets.frame_len_max() {
        Some(frame_len_max) if frame_len_max < device.mtu + HEADER_LEN - HEADER_LEN_IN_MTU => {
            Err(Why::Short { frame_len_max })
        }
        _ => Ok(()),
    }
}
