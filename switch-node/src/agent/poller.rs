//! Waiting: one level-triggered epoll over TAPs, leg sockets and the address monitor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use vlan_core::VifNumber;

/// Events taken from the kernel in one call.
const EVENTS_MAX: usize = 64;
/// The kernel's `sigset_t` has eight octets on every Linux but MIPS; no set is passed, so its size is not read.
const SIGSET_LEN: usize = 8;

/// What a descriptor that became ready belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The TAP of an interface.
    Tap(VifNumber),
    /// A leg's socket, by its number in the table of legs.
    Leg(u32),
    /// The address monitor.
    Monitor,
    /// Signals that ask the process to end.
    Signals,
}

impl Source {
    const fn token(self) -> u64 {
        match self {
            Self::Tap(vif) => 1 << 32 | vif.0 as u64,
            Self::Leg(id) => 2 << 32 | id as u64,
            Self::Monitor => 3 << 32,
            Self::Signals => 4 << 32,
        }
    }

    const fn from_token(token: u64) -> Option<Self> {
        match token >> 32 {
            1 => Some(Self::Tap(VifNumber(token as u16))),
            2 => Some(Self::Leg(token as u32)),
            3 => Some(Self::Monitor),
            4 => Some(Self::Signals),
            _ => None,
        }
    }
}

/// One descriptor that became ready.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    pub source: Source,
    /// The other end has hung up, or the descriptor is broken.
    pub has_ended: bool,
}

pub(super) struct Poller {
    descriptor: OwnedFd,
    events: Vec<epoll::Event>,
    has_precise_wait: bool,
}

impl Poller {
    pub fn new() -> io::Result<Self> {
        let descriptor = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { descriptor, events: Vec::with_capacity(EVENTS_MAX), has_precise_wait: true })
    }

    pub fn add(&self, descriptor: BorrowedFd<'_>, source: Source) -> io::Result<()> {
        let data = EventData::new_u64(source.token());
        Ok(epoll::add(&self.descriptor, descriptor, data, EventFlags::IN | EventFlags::RDHUP)?)
    }

    /// Listens for input on a descriptor, or (`false`) only for its end.
    pub fn listen(&self, descriptor: BorrowedFd<'_>, source: Source, listen: bool) -> io::Result<()> {
        let flags = if listen { EventFlags::IN | EventFlags::RDHUP } else { EventFlags::empty() };
        Ok(epoll::modify(&self.descriptor, descriptor, EventData::new_u64(source.token()), flags)?)
    }

    /// Stops watching a descriptor. To be called before it is closed: a copy of it that another process holds
    /// would keep reporting.
    pub fn remove(&self, descriptor: BorrowedFd<'_>) {
        // It fails only for a descriptor that is not watched.
        let _ = epoll::delete(&self.descriptor, descriptor);
    }

    /// Waits until something is ready, at most for `timeout` (`None`: for ever). [`Self::ready`] has the
    /// result.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.events.clear();
        match self.wait_once(timeout) {
            Ok(()) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The event `index` of the last wait.
    pub fn ready(&self, index: usize) -> Option<Ready> {
        let event = self.events.get(index)?;
        let flags = event.flags;
        let has_ended = flags.intersects(EventFlags::HUP | EventFlags::RDHUP | EventFlags::ERR);
        Source::from_token(event.data.u64()).map(|source| Ready { source, has_ended })
    }

    /// The number of events of the last wait.
    pub fn ready_len(&self) -> usize {
        self.events.len()
    }

    fn wait_once(&mut self, timeout: Option<Duration>) -> Result<(), Errno> {
        let timespec = timeout.map(|timeout| rustix::event::Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        let is_fraction = timeout.is_some_and(|timeout| timeout.subsec_nanos() % 1_000_000 != 0);
        if is_fraction
            && self.has_precise_wait
            && let Some(timespec) = &timespec
        {
            match self.wait_precisely(timespec) {
                Err(Errno::NOSYS | Errno::PERM) => self.has_precise_wait = false,
                result => return result,
            }
        }
        epoll::wait(&self.descriptor, spare_capacity(&mut self.events), timespec.as_ref()).map(|_| ())
    }

    /// `epoll_pwait2` (Linux 5.11): the call that `epoll::wait` makes rounds up to whole milliseconds.
    fn wait_precisely(&mut self, timeout: &rustix::event::Timespec) -> Result<(), Errno> {
        // SAFETY: the events are written to spare capacity of the right layout (rustix's event is the kernel's
        // `epoll_event`), at most as many as fit; the timeout is a 64-bit timespec; no signal set is passed.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.descriptor.as_fd().as_raw_fd(),
                self.events.as_mut_ptr(),
                EVENTS_MAX as libc::c_int,
                std::ptr::from_ref(timeout),
                std::ptr::null::<libc::sigset_t>(),
                SIGSET_LEN,
            )
        };
        let Ok(count) = usize::try_from(count) else {
            return Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO));
        };
        // SAFETY: the kernel wrote that many events, and there is capacity for EVENTS_MAX.
        unsafe { self.events.set_len(count.min(EVENTS_MAX)) };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_survives_its_token() {
        for source in
            [Source::Tap(VifNumber(0xffff)), Source::Leg(u32::MAX), Source::Monitor, Source::Signals]
        {
            assert_eq!(Source::from_token(source.token()), Some(source));
        }
        assert_eq!(Source::from_token(7), None);
    }

    #[test]
    fn readiness_and_the_end_of_a_descriptor_are_reported_until_it_is_removed() {
        let mut poller = Poller::new().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        poller.add(reader.as_fd(), Source::Leg(5)).unwrap();
        poller.wait(Some(Duration::from_micros(100))).unwrap();
        assert_eq!(poller.ready_len(), 0);
        rustix::io::write(&writer, b"x").unwrap();
        poller.wait(Some(Duration::from_micros(1_000_100))).unwrap();
        let ready = poller.ready(0).unwrap();
        assert_eq!((ready.source, ready.has_ended), (Source::Leg(5), false));
        drop(writer);
        poller.wait(None).unwrap();
        assert!(poller.ready(0).unwrap().has_ended);
        poller.remove(reader.as_fd());
        poller.wait(Some(Duration::ZERO)).unwrap();
        assert_eq!(poller.ready_len(), 0);
    }
}
