//! The part of an ether leg that goes by AF_XDP while its device can be had so.
//!
//! The packet socket of the leg stays beside it: it hears what the program leaves to this host's stack, and carries the leg
//! alone while there are no XDP sockets. They are opened again on a thread of its own: whoever makes or closes them waits for the
//! kernel's lock of devices.

use core::cell::{Cell, RefCell};
use core::fmt;
use core::time::Duration;
use std::boxed::Box;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::{self, JoinHandle};

use rustix::event::epoll;
use rustix::io::Errno;
use vlan_core::{EtherAddress, EtherPort, Instant};

use crate::host::packet_socket::Device;
use crate::host::xdp_socket::{Frames, XdpError, XdpOpenError, XdpSockets};
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
    state: RefCell<State>,
    /// Why there are none, when there are none.
    why: Cell<Why>,
    /// The device for which they were opened last.
    tried: Cell<Option<Device>>,
    /// When a device is tried again that another program has.
    again_at: Cell<Option<Instant>>,
    /// What earlier sockets have dropped, as [`Self::drops`].
    dropped: Cell<[u64; 2]>,
}

#[derive(Debug)]
enum State {
    Open(Box<XdpSockets>),
    Opening(JoinHandle<Result<XdpSockets, Why>>),
    Closed,
}

impl ByXdp {
    /// Takes the frames of a port by AF_XDP, if that can be, beside a packet socket.
    pub fn new(packets: BorrowedFd<'_>, device: &Device, port: EtherPort) -> Result<Self, Errno> {
        let readable = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        watch(&readable, packets)?;
        let opened = Self {
            readable,
            state: RefCell::new(State::Closed),
            why: Cell::new(Why::Lost),
            tried: Cell::new(Some(*device)),
            again_at: Cell::new(None),
            dropped: Cell::new([0; 2]),
        };
        opened.settle(open(device, port, XdpSockets::open));
        Ok(opened)
    }

    /// How the frames come.
    pub fn way(&self) -> Way {
        match &*self.state.borrow() {
            State::Open(sockets) => Way::Xdp(sockets.way()),
            State::Opening(_) | State::Closed => Way::PacketSocket(self.why.get()),
        }
    }

    /// Has `f` use the sockets, if there are any, and closes them when they are of no use any more.
    pub fn with<T>(
        &self,
        f: impl FnOnce(&mut XdpSockets) -> Result<T, XdpError>,
    ) -> Option<Result<T, Errno>> {
        let done = match &mut *self.state.borrow_mut() {
            State::Open(sockets) => f(sockets),
            State::Opening(_) | State::Closed => return None,
        };
        Some(done.map_err(|error| {
            self.close();
            match error {
                XdpError::System(errno) => errno,
                XdpError::Fault(_) => Errno::IO,
            }
        }))
    }

    /// Ends the sockets, and what waits there with them: the packet socket carries the leg until the device is up.
    #[cold]
    pub fn close(&self) {
        if let Some(sockets) = self.take() {
            self.why.set(Why::Lost);
            self.tried.set(None);
            // Where there is no thread to be had they end here.
            let _ = thread::Builder::new().spawn(move || drop(sockets));
        }
    }

    /// Takes the sockets out of use.
    fn take(&self) -> Option<Box<XdpSockets>> {
        self.dropped.set(self.drops());
        match self.state.replace(State::Closed) {
            State::Open(sockets) => {
                // It fails only for a descriptor that is not watched.
                let _ = epoll::delete(&self.readable, &*sockets);
                Some(sockets)
            }
            other => {
                self.state.replace(other);
                None
            }
        }
    }

    /// Looks whether there have to be other sockets, and whether those that were being opened are there.
    //= spec/leg-ether.md#drivers
    //# An ether leg for which AF_XDP was asked MUST go by a packet socket while its device cannot be had by AF_XDP, say why, and
    //# try again when the device is another, has another MAC address or comes up, and every 10 s while another program has it.
    pub fn look(&self, now: Instant, device: &Device, port: EtherPort) {
        if !device.is_running && matches!(&*self.state.borrow(), State::Closed) {
            // It may come up as another one, or with fewer queues.
            self.tried.set(None);
        }
        if self.is_to_be_opened(now, device) {
            return self.begin(now, device, port);
        }
        let is_done = matches!(&*self.state.borrow(), State::Opening(thread) if thread.is_finished());
        if is_done && let State::Opening(thread) = self.state.replace(State::Closed) {
            // A thread that panicked has opened nothing.
            self.settle(thread.join().unwrap_or(Err(Why::Lost)));
        }
    }

    fn is_to_be_opened(&self, now: Instant, device: &Device) -> bool {
        let is_another = self.tried.get().is_none_or(|tried| tried != *device);
        let is_again = self.why.get() == Why::Refused(XdpOpenError::InUse)
            && self.again_at.get().is_none_or(|at| at <= now);
        match &*self.state.borrow() {
            State::Open(sockets) => {
                let is_same = |tried: Device| (tried.index, tried.mac) == (device.index, device.mac);
                !self.tried.get().is_some_and(is_same) || fits(sockets, device).is_err()
            }
            State::Opening(_) => false,
            State::Closed => device.is_running && (is_another || is_again),
        }
    }

    fn begin(&self, now: Instant, device: &Device, port: EtherPort) {
        let earlier = self.take();
        if earlier.is_some() {
            self.why.set(Why::Lost);
        }
        self.tried.set(Some(*device));
        self.again_at.set(Some(now + XDP_AGAIN));
        let device = *device;
        let opening = thread::Builder::new().spawn(move || {
            drop(earlier);
            open(&device, port, XdpSockets::open_after_others)
        });
        match opening {
            Ok(thread) => *self.state.borrow_mut() = State::Opening(thread),
            // As if another program had it: tried again in a while.
            Err(_) => self.why.set(Why::Refused(XdpOpenError::InUse)),
        }
    }

    fn settle(&self, opened: Result<XdpSockets, Why>) {
        let watched = opened.and_then(|sockets| {
            watch(&self.readable, sockets.as_fd())
                .map_err(|errno| Why::Refused(XdpOpenError::Step { name: "epoll", errno }))?;
            Ok(sockets)
        });
        match watched {
            Ok(sockets) => *self.state.borrow_mut() = State::Open(Box::new(sockets)),
            Err(why) => self.why.set(why),
        }
    }

    /// Frames that the kernel had no room for, and those that were longer than the room here.
    pub fn drops(&self) -> [u64; 2] {
        let [by_kernel, too_long] = self.dropped.get();
        match &*self.state.borrow() {
            State::Open(sockets) => [by_kernel + sockets.kernel_drops(), too_long + sockets.too_long()],
            State::Opening(_) | State::Closed => [by_kernel, too_long],
        }
    }
}

impl AsFd for ByXdp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }
}

fn watch(readable: &OwnedFd, source: BorrowedFd<'_>) -> Result<(), Errno> {
    epoll::add(readable, source, epoll::EventData::new_u64(0), epoll::EventFlags::IN)
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
