//! A device's frames by AF_XDP: all that arrive, or those of a leg, come here past this host's stack, and what is sent goes to the
//! device past its queueing.
//!
//! ```text
//! device -> program (`program.rs`, which `redirect.rs` attaches) -> the socket of the frame's queue (`queue.rs`) -> rings (`ring.rs`) -> `receive`
//! ```
//!
//! The rules stand in `spec/xdp.md`. A frame has the tag that it had on the wire where the device leaves it there, and nothing is said
//! of its checksums; there are no super-frames. The kernel's interface is described in its `Documentation/networking/af_xdp.rst`.

mod changing;
mod program;
mod queue;
mod redirect;
mod ring;

use core::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};
use std::vec::Vec;

use rustix::event::epoll;
use rustix::io::Errno;
use vlan_core::EtherAddress;

pub use changing::ChangingSockets;

use queue::{CHUNK_LEN, HEADROOM_LEN, Queue};
use redirect::{Program, Redirect};

/// Queues of a device that can be had: each takes 10 MiB.
pub const QUEUES_MAX: u32 = 32;
/// Frames of one queue before the next has its turn.
const FRAMES_PER_TURN: u32 = 64;

/// How long the sockets of a process that has ended may hold a device.
const TAKEN_DOWN_MAX: Duration = Duration::from_millis(500);
/// Between two looks whether they still do.
const TAKEN_DOWN_PAUSE: Duration = Duration::from_millis(5);

/// Which of a device's frames the sockets take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frames {
    /// All of them: this host's own stack hears nothing.
    All,
    /// Those of ether legs for this process: its stack hears the others.
    OfLeg(EtherAddress),
}

/// Where the program sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attached {
    /// In the device's driver: frames come here before the kernel makes anything of them.
    Native,
    /// Behind a driver that knows no programs: the kernel has made a packet of each frame first, and may have joined several.
    Generic,
}

/// The kernel's side of a ring is not sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingFault {
    /// An index that cannot be.
    Index,
    /// An address outside of what was lent.
    Address,
}

/// Frames can no longer be had or sent by the sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum XdpError {
    /// What the kernel says: `ENETDOWN` while the device is down, `ENXIO` once it has gone.
    System(Errno),
    /// The sockets are not to be used any more.
    Fault(RingFault),
}

impl XdpError {
    /// As what the kernel says.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::System(errno) => *errno,
            Self::Fault(_) => Errno::IO,
        }
    }
}

impl fmt::Display for XdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(errno) => errno.fmt(f),
            Self::Fault(RingFault::Index) => f.write_str("a ring of AF_XDP has an impossible index"),
            Self::Fault(RingFault::Address) => f.write_str("a ring of AF_XDP has an impossible address"),
        }
    }
}

impl core::error::Error for XdpError {}

impl From<Errno> for XdpError {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl From<RingFault> for XdpError {
    fn from(fault: RingFault) -> Self {
        Self::Fault(fault)
    }
}

/// A device's frames could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum XdpOpenError {
    /// This process may not load such programs.
    Refused,
    /// Another program has the device, or one of its queues.
    InUse,
    /// The device has more queues than [`QUEUES_MAX`].
    TooManyQueues,
    /// The kernel lacks something that is needed.
    Step {
        /// What was to be done.
        name: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
}

impl XdpOpenError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Refused => {
                "run this as root, or give it CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW on this host: a user namespace of its own is not enough"
            }
            Self::InUse => {
                "end the program that has the device, or take its XDP program off: `ip link set DEVICE xdp off`"
            }
            Self::TooManyQueues => "give the device fewer queues: `ethtool -L DEVICE combined 8`",
            Self::Step { .. } => "AF_XDP needs Linux 5.9 or later with CONFIG_XDP_SOCKETS",
        }
    }

    fn of(name: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| match errno {
            Errno::PERM | Errno::ACCESS => Self::Refused,
            Errno::BUSY | Errno::EXIST => Self::InUse,
            errno => Self::Step { name, errno },
        }
    }
}

impl fmt::Display for XdpOpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("this process may not load the program that AF_XDP needs"),
            Self::InUse => f.write_str("another program has the device by XDP"),
            Self::TooManyQueues => write!(f, "the device has more than {QUEUES_MAX} queues"),
            Self::Step { name, errno } => write!(f, "AF_XDP, {name}: {errno}"),
        }
    }
}

impl core::error::Error for XdpOpenError {}

/// What became of a frame that is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// It goes at the next [`XdpSockets::flush`] at the latest.
    Taken,
    /// There is no room now.
    Full,
    /// It is empty, or longer than can be sent.
    TooLong,
}

/// The sockets of all queues of a device; readable, by [`AsFd`], when a frame is there.
#[derive(Debug)]
pub struct XdpSockets {
    /// Dropped first, so that no frame comes to a socket that is being closed.
    redirect: Redirect,
    queues: Vec<Queue>,
    /// The queue that is asked next, and how many frames it has given in this turn.
    turn: usize,
    given: u32,
    readable: OwnedFd,
    has_frags: bool,
    /// The device has not had room for all that was to go.
    is_full: bool,
}

impl XdpSockets {
    /// Takes frames of the device with this number in the thread's network namespace. Where sockets have it already, it waits for
    /// half a second: the kernel takes those of a process down some time after its end, and this one may be the next.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_after_others(device: u32, frames: Frames) -> Result<Self, XdpOpenError> {
        let began = Instant::now();
        loop {
            match Self::open(device, frames) {
                Err(XdpOpenError::InUse) if began.elapsed() < TAKEN_DOWN_MAX => {
                    thread::sleep(TAKEN_DOWN_PAUSE)
                }
                opened => return opened,
            }
        }
    }

    /// Takes frames of the device with this number in the thread's network namespace.
    ///
    /// # Errors
    /// When the process may not, when somebody else has them, or what the kernel lacks.
    pub fn open(device: u32, frames: Frames) -> Result<Self, XdpOpenError> {
        let program = Program::load(QUEUES_MAX, frames).map_err(XdpOpenError::of("loading the program"))?;
        let (queues, has_frags) = open_queues(device, program.has_frags)?;
        let readable = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(XdpOpenError::of("epoll"))?;
        let redirect = program.attach(device).map_err(XdpOpenError::of("attaching the program"))?;
        for (number, queue) in (0..).zip(&queues) {
            redirect.set(number, queue.as_fd()).map_err(XdpOpenError::of("giving the program a socket"))?;
            let data = epoll::EventData::new_u64(u64::from(number));
            epoll::add(&readable, queue, data, epoll::EventFlags::IN).map_err(XdpOpenError::of("epoll"))?;
        }
        Ok(Self { redirect, queues, turn: 0, given: 0, readable, has_frags, is_full: false })
    }

    /// How the frames come here, in words, for who reads the log.
    #[must_use]
    pub fn way(&self) -> &'static str {
        // Whether the device reads and writes the sockets' memory itself.
        let is_zero_copy = self.queues.iter().all(Queue::is_zero_copy);
        match (self.redirect.attached, is_zero_copy) {
            (Attached::Native, true) => "in the driver, without copies",
            (Attached::Native, false) => "in the driver, with a copy",
            (Attached::Generic, _) => "behind the driver, with a copy",
        }
    }

    /// Octets of the longest frame that can arrive, if that is less than any.
    #[must_use]
    pub fn frame_len_max(&self) -> Option<usize> {
        (!self.has_frags).then_some(CHUNK_LEN - HEADROOM_LEN)
    }

    /// Copies the next frame to `out` and says how long it is; `None` when there is none now.
    ///
    /// # Errors
    /// When the sockets are not to be used any more.
    //= spec/xdp.md#turns
    //# After 64 frames of one queue the next one that has any MUST have its turn.
    pub fn receive(&mut self, out: &mut [u8]) -> Result<Option<usize>, XdpError> {
        if self.given == FRAMES_PER_TURN {
            self.pass_turn();
        }
        for _ in 0..self.queues.len() {
            let received = self.queues[self.turn].receive(out)?;
            if received.is_some() {
                self.given += 1;
                return Ok(received);
            }
            self.pass_turn();
        }
        Ok(None)
    }

    fn pass_turn(&mut self) {
        (self.turn, self.given) = ((self.turn + 1) % self.queues.len(), 0);
    }

    /// Takes a frame that is to go.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub fn send(&mut self, frame: &[u8]) -> Result<Queued, XdpError> {
        self.send_behind(&[], frame)
    }

    /// Takes a frame that is to go, of a header and what follows it. The header is shorter than a chunk.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub fn send_behind(&mut self, header: &[u8], rest: &[u8]) -> Result<Queued, XdpError> {
        // By one queue, so that all go in order.
        self.queues[0].send(header, rest)
    }

    /// Has what was taken go; false when the device has no room for all of it now.
    ///
    /// # Errors
    /// When the device is down or has gone, or the sockets are not to be used any more.
    pub fn flush(&mut self) -> Result<bool, XdpError> {
        self.is_full = !self.queues[0].flush()?;
        Ok(!self.is_full)
    }

    /// True while some of what was taken waits for room at the device: [`Self::flush`] is to be called again in a moment, since nobody says
    /// that there is some.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Frames that the kernel had no room for in the sockets.
    #[must_use]
    pub fn kernel_drops(&self) -> u64 {
        self.queues.iter().map(Queue::kernel_drops).sum()
    }

    /// Frames that were longer than the room that [`Self::receive`] had for them.
    #[must_use]
    pub fn too_long(&self) -> u64 {
        self.queues.iter().map(|queue| queue.too_long).sum()
    }
}

impl AsFd for XdpSockets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }
}

/// Makes a socket for each queue, and says whether they take frames in several chunks.
fn open_queues(device: u32, may_have_frags: bool) -> Result<(Vec<Queue>, bool), XdpOpenError> {
    let binding = "binding a socket to the device";
    let (first, has_frags) = match Queue::open(device, 0, may_have_frags) {
        // Before Linux 6.6 sockets take none.
        Err(Errno::INVAL) if may_have_frags => (Queue::open(device, 0, false), false),
        opened => (opened, may_have_frags),
    };
    let mut queues = std::vec![first.map_err(XdpOpenError::of(binding))?];
    for number in 1..=QUEUES_MAX {
        match Queue::open(device, number, has_frags) {
            // The kernel's word for a queue that is not there: the same was right for the one before it.
            Err(Errno::INVAL) => return Ok((queues, has_frags)),
            _ if number == QUEUES_MAX => break,
            opened => queues.push(opened.map_err(XdpOpenError::of(binding))?),
        }
    }
    Err(XdpOpenError::TooManyQueues)
}
