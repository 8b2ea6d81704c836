//! Sockets that come and go while their owner carries frames. Whoever opens or closes some waits for the kernel's lock of devices, and for
//! each queue anew until nobody uses it: threads of their own do.

use std::boxed::Box;
use std::io;
use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};

use rustix::event::epoll;
use rustix::io::Errno;

use super::XdpSockets;

/// The sockets of a device, if there are any now. When this is dropped they are closed as by [`Self::close`].
//= spec/xdp.md#sockets-that-come-and-go
//# Sockets MUST be opened and closed without a wait of whoever carries frames, but for the first ones at the start.
#[derive(Debug)]
pub struct ChangingSockets<E> {
    /// The owner's epoll.
    readable: OwnedFd,
    state: State<E>,
    /// What earlier sockets have dropped, as [`Self::drops`].
    dropped: [u64; 2],
}

#[derive(Debug)]
enum State<E> {
    Open(Box<XdpSockets>),
    Opening(JoinHandle<Result<XdpSockets, E>>),
    Closed,
}

impl<E> ChangingSockets<E> {
    /// None yet; `readable` is an epoll that watches those that come.
    ///
    /// # Errors
    /// When there is no descriptor to be had.
    pub fn new(readable: &OwnedFd) -> Result<Self, Errno> {
        let readable = rustix::io::fcntl_dupfd_cloexec(readable, 0)?;
        Ok(Self { readable, state: State::Closed, dropped: [0; 2] })
    }

    /// Those that are open.
    #[must_use]
    pub fn sockets(&self) -> Option<&XdpSockets> {
        match &self.state {
            State::Open(sockets) => Some(sockets),
            State::Opening(_) | State::Closed => None,
        }
    }

    /// Those that are open, to use them.
    pub fn sockets_mut(&mut self) -> Option<&mut XdpSockets> {
        match &mut self.state {
            State::Open(sockets) => Some(sockets),
            State::Opening(_) | State::Closed => None,
        }
    }

    /// True from [`Self::begin`] until [`Self::poll_opened`] has said what came of it.
    #[must_use]
    pub fn is_opening(&self) -> bool {
        matches!(self.state, State::Opening(_))
    }

    /// Uses sockets that are open from now on; the earlier ones have been closed.
    ///
    /// # Errors
    /// When they cannot be watched; then they are closed.
    pub fn set(&mut self, sockets: XdpSockets) -> Result<(), Errno> {
        epoll::add(&self.readable, &sockets, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        self.state = State::Open(Box::new(sockets));
        Ok(())
    }

    /// Ends the sockets, and what waits there with them. False when there are none.
    #[cold]
    pub fn close(&mut self) -> bool {
        let Some(sockets) = self.take() else { return false };
        // Where there is no thread to be had they end here.
        let _ = thread::Builder::new().spawn(move || drop(sockets));
        true
    }

    /// Takes the sockets out of use.
    fn take(&mut self) -> Option<Box<XdpSockets>> {
        self.dropped = self.drops();
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Open(sockets) => {
                // It fails only for a descriptor that is not watched.
                let _ = epoll::delete(&self.readable, &*sockets);
                Some(sockets)
            }
            other => {
                self.state = other;
                None
            }
        }
    }

    /// What came of opening others, once that is done; [`Self::set`] is to follow.
    pub fn poll_opened(&mut self) -> Option<Result<XdpSockets, E>> {
        match std::mem::replace(&mut self.state, State::Closed) {
            // A thread that panicked has opened nothing.
            State::Opening(thread) if thread.is_finished() => thread.join().ok(),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Frames that the kernel had no room for, and those that were longer than the room here, of all sockets that there were.
    #[must_use]
    pub fn drops(&self) -> [u64; 2] {
        let [by_kernel, too_long] = self.dropped;
        self.sockets().map_or(self.dropped, |sockets| {
            [by_kernel + sockets.kernel_drops(), too_long + sockets.too_long()]
        })
    }
}

impl<E: Send + 'static> ChangingSockets<E> {
    /// Has `open` open others, after those that are open have been closed. While some are being opened, nothing is begun.
    ///
    /// # Errors
    /// When there is no thread to be had; then there are no sockets any more.
    pub fn begin(&mut self, open: impl FnOnce() -> Result<XdpSockets, E> + Send + 'static) -> io::Result<()> {
        if self.is_opening() {
            return Ok(());
        }
        let earlier = self.take();
        self.state = State::Opening(thread::Builder::new().spawn(move || {
            drop(earlier);
            open()
        })?);
        Ok(())
    }
}

impl<E> Drop for ChangingSockets<E> {
    fn drop(&mut self) {
        self.close();
    }
}
