//! Closing descriptors of unknown kind.
//!
//! A descriptor from a peer may be anything. Closing one calls the file's own flush, and a file on a FUSE or
//! network mount that the peer runs can hold that call for ever. So what turned out not to be a memfd is closed
//! on a thread of its own; a bounded number of such threads may be stuck, and while they all are, no leg that
//! would receive a descriptor is served.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// How many closes may be under way at once: each is one misbehaving peer's last act, because its leg is gone.
const CLOSERS_MAX: usize = 16;
/// Stack of a closing thread: it makes one system call.
const CLOSER_STACK_LEN: usize = 64 * 1024;

static CLOSERS: AtomicUsize = AtomicUsize::new(0);

/// True when one more descriptor may be received from a peer.
pub(super) fn may_receive() -> bool {
    // ORDERING: Relaxed; a bound, not a synchronisation: being off by a few does no harm.
    CLOSERS.load(Ordering::Relaxed) < CLOSERS_MAX
}

/// Closes `descriptor` without making the caller wait for it.
//= spec/leg-setup.md#foreign-descriptors
//# A descriptor from a peer that is not a memfd MUST be closed without blocking the thread that serves legs.
pub(super) fn discard(descriptor: OwnedFd) {
    // ORDERING: Relaxed; see `may_receive`.
    CLOSERS.fetch_add(1, Ordering::Relaxed);
    let closer = thread::Builder::new().name("fd-close".into()).stack_size(CLOSER_STACK_LEN);
    let spawned = closer.spawn(move || {
        drop(descriptor);
        // ORDERING: Relaxed; see `may_receive`.
        CLOSERS.fetch_sub(1, Ordering::Relaxed);
    });
    if spawned.is_err() {
        // No thread to be had: the closure, and the descriptor in it, was dropped here.
        // ORDERING: Relaxed; see `may_receive`.
        CLOSERS.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_foreign_descriptor_is_closed_elsewhere() {
        //= spec/leg-setup.md#foreign-descriptors
        //= type=test
        //# A descriptor from a peer that is not a memfd MUST be closed without blocking the thread that serves legs.
        let (mut reader, writer) = std::io::pipe().unwrap();
        discard(writer.into());
        // The end of file comes only when the last descriptor of the writing end is closed.
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        assert!(may_receive());
    }
}
