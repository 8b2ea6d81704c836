//! What a socket counts.

use core::cell::Cell;

/// What a socket has sent, refused and received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpCounters {
    /// Datagrams that the kernel took.
    pub sent_datagrams: u64,
    /// Their octets.
    pub sent_octets: u64,
    /// Calls that sent them.
    pub sent_calls: u64,
    /// Datagrams that were dropped because the socket's buffer or the device's queue was full.
    pub dropped_full: u64,
    /// Datagrams that were dropped because they are longer than the route to their destination takes.
    pub dropped_too_big: u64,
    /// Datagrams that were dropped because the kernel refused them for another reason, such as no route.
    pub dropped_failed: u64,
    /// Runs that a route refused to cut and that went out one by one.
    pub cutting_refused: u64,
    /// Datagrams that were received.
    pub received_datagrams: u64,
    /// Their octets.
    pub received_octets: u64,
    /// Calls that received them.
    pub received_calls: u64,
    /// Runs that were received in part or from no address, and dropped.
    pub received_damaged: u64,
    /// Calls to receive that failed for another reason than that nothing was there.
    pub receive_failures: u64,
}

/// The counters of a socket that is used through shared references.
#[derive(Debug, Default)]
pub(super) struct Tally(Cell<UdpCounters>);

impl Tally {
    pub(super) fn read(&self) -> UdpCounters {
        self.0.get()
    }

    #[inline]
    pub(super) fn add(&self, change: impl FnOnce(&mut UdpCounters)) {
        let mut counters = self.0.get();
        change(&mut counters);
        self.0.set(counters);
    }
}
