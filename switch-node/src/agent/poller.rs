//! Waiting: one level-triggered epoll over TAPs, leg sockets, the address monitor, the devices' thread and a timer.
//!
//! The timer is set only when something is due *earlier* than it stands at: deadlines mostly move on with every frame,
//! and to set a clock for each sleep costs a virtual machine more than the sleep. It then fires early now and then, and is
//! set again.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};
use vlan_core::{Instant, LegNumber, VifNumber};

/// Events taken from the kernel in one call.
const EVENTS_MAX: usize = 64;
/// What stands for the timer among the tokens of sources.
const TIMER_TOKEN: u64 = u64::MAX;

/// What a descriptor that became ready belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The TAP of an interface.
    Tap(VifNumber),
    /// A leg's socket, by its number in the table of legs.
    Leg(u32),
    /// The address monitor.
    Monitor,
    /// The thread that makes devices.
    Devices,
    /// Signals that ask the process to end.
    Signals,
    /// The socket of a fabric's packet legs.
    Packets(LegNumber),
    /// The connection of a check, by its number.
    Check(u32),
}

impl Source {
    const fn token(self) -> u64 {
        match self {
            Self::Tap(vif) => 1 << 32 | vif.0 as u64,
            Self::Leg(id) => 2 << 32 | id as u64,
            Self::Monitor => 3 << 32,
            Self::Signals => 4 << 32,
            Self::Packets(leg) => 5 << 32 | leg.0 as u64,
            Self::Devices => 6 << 32,
            Self::Check(number) => 7 << 32 | number as u64,
        }
    }

    const fn from_token(token: u64) -> Option<Self> {
        match token >> 32 {
            1 => Some(Self::Tap(VifNumber(token as u16))),
            2 => Some(Self::Leg(token as u32)),
            3 => Some(Self::Monitor),
            4 => Some(Self::Signals),
            5 => Some(Self::Packets(LegNumber(token as u8))),
            6 => Some(Self::Devices),
            7 => Some(Self::Check(token as u32)),
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
    timer: OwnedFd,
    /// When the timer fires, if it is set.
    fires_at: Option<Instant>,
}

impl Poller {
    pub fn new() -> io::Result<Self> {
        let descriptor = epoll::create(CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        epoll::add(&descriptor, &timer, EventData::new_u64(TIMER_TOKEN), EventFlags::IN)?;
        Ok(Self { descriptor, events: Vec::with_capacity(EVENTS_MAX), timer, fires_at: None })
    }

    pub fn add(&self, descriptor: BorrowedFd<'_>, source: Source) -> io::Result<()> {
        let data = EventData::new_u64(source.token());
        Ok(epoll::add(&self.descriptor, descriptor, data, EventFlags::IN | EventFlags::RDHUP)?)
    }

    /// Watches a descriptor until something can be written to it.
    pub fn add_for_room(&self, descriptor: BorrowedFd<'_>, source: Source) -> io::Result<()> {
        Ok(epoll::add(&self.descriptor, descriptor, EventData::new_u64(source.token()), EventFlags::OUT)?)
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

    /// Asks what is ready now. [`Self::ready`] has the result.
    pub fn look(&mut self) -> io::Result<()> {
        self.collect(Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))
    }

    /// Waits until something is ready, at most until `deadline` of the monotonic clock (`None`: for ever); may end
    /// early with nothing. [`Self::ready`] has the result.
    pub fn wait(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        if let Some(deadline) = deadline
            && self.fires_at.is_none_or(|at| at > deadline)
        {
            self.set_timer(deadline)?;
        }
        self.collect(None)
    }

    fn set_timer(&mut self, at: Instant) -> io::Result<()> {
        // A timer set to zero would be off.
        let nanos = at.as_nanos().max(1);
        let value =
            Timespec { tv_sec: (nanos / 1_000_000_000) as i64, tv_nsec: (nanos % 1_000_000_000) as i64 };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once)?;
        self.fires_at = Some(at);
        Ok(())
    }

    fn collect(&mut self, timeout: Option<&Timespec>) -> io::Result<()> {
        self.events.clear();
        match epoll::wait(&self.descriptor, spare_capacity(&mut self.events), timeout) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if self.events.iter().any(|event| event.data.u64() == TIMER_TOKEN) {
            self.events.retain(|event| event.data.u64() != TIMER_TOKEN);
            self.fires_at = None;
            // What is read is how often it fired: nothing that anybody needs, but it stays ready until then.
            let _ = rustix::io::read(&self.timer, &mut [0; 8]);
        }
        Ok(())
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
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_source_survives_its_token() {
        for source in [
            Source::Tap(VifNumber(0xffff)),
            Source::Leg(u32::MAX),
            Source::Monitor,
            Source::Devices,
            Source::Signals,
            Source::Packets(LegNumber(3)),
            Source::Check(u32::MAX),
        ] {
            assert_eq!(Source::from_token(source.token()), Some(source));
        }
        assert_eq!(Source::from_token(7), None);
    }

    #[test]
    fn readiness_and_the_end_of_a_descriptor_are_reported_until_it_is_removed() {
        let mut poller = Poller::new().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        poller.add(reader.as_fd(), Source::Leg(5)).unwrap();
        poller.wait(Some(Instant::from_nanos(1))).unwrap();
        assert_eq!(poller.ready_len(), 0);
        rustix::io::write(&writer, b"x").unwrap();
        poller.wait(None).unwrap();
        let ready = poller.ready(0).unwrap();
        assert_eq!((ready.source, ready.has_ended), (Source::Leg(5), false));
        drop(writer);
        poller.wait(None).unwrap();
        assert!(poller.ready(0).unwrap().has_ended);
        poller.remove(reader.as_fd());
        poller.look().unwrap();
        assert_eq!(poller.ready_len(), 0);
    }

    #[test]
    fn the_timer_stands_where_the_earliest_deadline_was() {
        let mut poller = Poller::new().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        poller.add(reader.as_fd(), Source::Leg(5)).unwrap();
        rustix::io::write(&writer, b"x").unwrap();
        let far = |nanos| Some(Instant::from_nanos(u64::MAX / 4 + nanos));
        poller.wait(far(5)).unwrap();
        poller.wait(far(9)).unwrap();
        assert_eq!(poller.fires_at, far(5));
        poller.wait(far(2)).unwrap();
        assert_eq!(poller.fires_at, far(2));
    }
}
