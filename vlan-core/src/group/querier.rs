//! Who asks: the driver itself, unless somebody else does (RFC 2236, 3; RFC 3376, 6.6.2; RFC 3810, 7.6.2).

use core::net::IpAddr;
use core::time::Duration;

use crate::group::query::{QUERY_INTERVAL, ROBUSTNESS};
use crate::time::Instant;

/// How long a querier that is not heard any more is waited for: two of its queries and half the time for answers
/// (RFC 3376, 8.5; RFC 3810, 9.5).
pub const OTHER_QUERIER_PRESENT: Duration = Duration::from_secs(255);
/// Pause between the first queries of an interface (RFC 3376, 8.6; RFC 3810, 9.6).
pub const STARTUP_INTERVAL: Duration = Duration::from_millis(31_250);
/// The first query comes so long after the interface: its device is being made.
pub const FIRST_QUERY: Duration = Duration::from_secs(1);

/// The querier of one family at one interface.
#[derive(Clone, Copy, Debug)]
pub(super) struct Querier {
    /// The address that its queries come from.
    pub source: IpAddr,
    /// Until when another one is taken to be there.
    other_until: Option<Instant>,
    next: Instant,
    /// Queries of the start that are still to come.
    startup_left: u8,
}

impl Querier {
    /// Begins to ask.
    pub fn new(now: Instant, source: IpAddr) -> Self {
        Self { source, other_until: None, next: now + FIRST_QUERY, startup_left: ROBUSTNESS }
    }

    //= spec/multicast.md#querier
    //# The driver MUST send general queries of IGMP and MLD to its interface every 125 s, unless it has heard a querier
    //# with a lower address within 255 s.
    /// A query from `source` was heard. One without an address takes no part in the election (RFC 4541, 2.1.1).
    pub fn hear(&mut self, now: Instant, source: IpAddr) {
        if !source.is_unspecified() && source < self.source {
            self.other_until = Some(now + OTHER_QUERIER_PRESENT);
        }
    }

    /// True when a general query is to go now.
    pub fn is_due(&mut self, now: Instant) -> bool {
        if self.poll_timeout() > now {
            return false;
        }
        self.other_until = None;
        self.startup_left = self.startup_left.saturating_sub(1);
        self.next = now + if self.startup_left > 0 { STARTUP_INTERVAL } else { QUERY_INTERVAL };
        true
    }

    /// When [`Self::is_due`] is wanted next.
    pub fn poll_timeout(&self) -> Instant {
        self.other_until.unwrap_or(self.next)
    }
}
