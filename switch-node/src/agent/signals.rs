//! Signals as a descriptor that a loop can wait for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// A set of signals, blocked in the thread that made it and in threads started by it later, and read from a
/// descriptor instead.
#[derive(Debug)]
pub struct Signals {
    descriptor: OwnedFd,
}

impl Signals {
    /// Blocks `signals` and opens the descriptor. To be called before other threads are started.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn block(signals: &[libc::c_int]) -> io::Result<Self> {
        let set = set_of(signals);
        // SAFETY: `set` is an initialised signal set; no old set is asked for.
        let result = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
        if result != 0 {
            return Err(io::Error::from_raw_os_error(result));
        }
        // SAFETY: -1 asks for a new descriptor; `set` is initialised.
        let raw = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above has just made this descriptor and nobody else owns it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Self { descriptor })
    }

    /// The next signal that has arrived, by number; `None` when there is none.
    pub fn next(&self) -> Option<libc::c_int> {
        let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
        let read = rustix::io::read(&self.descriptor, &mut info[..]).ok()?;
        // The number is the record's first field (signalfd(2)).
        let number = info.first_chunk::<4>().map(|octets| i32::from_ne_bytes(*octets));
        number.filter(|_| read == info.len())
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Takes every signal out of the calling thread's mask: a child inherits the mask over fork and exec. Safe to
/// call between the two.
pub fn unblock_all() {
    let set = set_of(&[]);
    // SAFETY: `set` is an initialised signal set; no old set is asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &set, std::ptr::null_mut()) };
}

fn set_of(signals: &[libc::c_int]) -> libc::sigset_t {
    // SAFETY: a signal set is plain integers, for which zeroes are a valid value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a valid place to write an empty set to.
    unsafe { libc::sigemptyset(&mut set) };
    for &signal in signals {
        // SAFETY: `set` was initialised above; a signal number that does not exist is refused, not written.
        unsafe { libc::sigaddset(&mut set, signal) };
    }
    set
}
