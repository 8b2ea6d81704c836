//! What an Ethernet socket counts.

use core::cell::Cell;

/// What a socket has sent, refused and received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EtherCounters {
    /// Frames that the kernel took.
    pub sent_frames: u64,
    /// Octets of their packets.
    pub sent_octets: u64,
    /// Calls that sent them.
    pub sent_calls: u64,
    /// Packets that were dropped because the socket's buffer or the device's queue was full, or the device has no carrier.
    pub dropped_full: u64,
    /// Packets that were dropped because they are longer than the device takes.
    pub dropped_too_big: u64,
    /// Packets that were dropped because the kernel refused them for another reason, such as a device that is down.
    pub dropped_failed: u64,
    /// Packets that were received.
    pub received_packets: u64,
    /// Their octets.
    pub received_octets: u64,
    /// Calls that received them.
    pub received_calls: u64,
    /// Frames that were cut short because they are longer than the device's MTU says, and dropped.
    pub received_cut: u64,
    /// Frames of our type that hold no packet of ours, and were dropped.
    pub received_damaged: u64,
    /// Frames for another station or process, and were dropped; the kernel's filter drops most of them uncounted.
    pub received_elsewhere: u64,
    /// Calls to receive that failed for another reason than that nothing was there.
    pub receive_failures: u64,
}

/// The counters of a socket that is used through shared references.
#[derive(Debug, Default)]
pub(super) struct Tally(Cell<EtherCounters>);

impl Tally {
    pub(super) fn read(&self) -> EtherCounters {
        self.0.get()
    }

    #[inline]
    pub(super) fn add(&self, change: impl FnOnce(&mut EtherCounters)) {
        let mut counters = self.0.get();
        change(&mut counters);
        self.0.set(counters);
    }
}
