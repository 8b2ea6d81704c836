//! Frames sent as fast as an interface takes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::Result;

use crate::raw::RawSocket;

/// A thread that sends the same frames again and again, as fast as it can.
pub struct Generator {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Generator {
    /// Starts it.
    #[must_use]
    pub fn start(socket: RawSocket, frames: Vec<Vec<u8>>) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ends, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            for frame in frames.iter().cycle() {
                // ORDERING: a flag that is polled; nothing is published with it.
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                // A full queue refuses; the next frame is the next try.
                if socket.send(frame).is_ok() {
                    // ORDERING: a plain count.
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { stop, sent, thread }
    }

    /// Frames that the interface has taken so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        // ORDERING: a plain count.
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it; gives how many frames the interface took.
    ///
    /// # Errors
    /// When the thread has panicked.
    pub fn finish(self) -> Result<u64> {
        // ORDERING: as in `start`.
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the generator panicked"))?;
        // ORDERING: the thread has ended.
        Ok(self.sent.load(Ordering::Relaxed))
    }
}
