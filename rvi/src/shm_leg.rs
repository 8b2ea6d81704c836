//! A shared-memory leg: a data ring and a control ring each way, in two regions.

use core::fmt;

use vlan_core::limits::{CONTROL_MESSAGE_LEN_MAX, MESSAGE_LEN_MAX};

use crate::region::Region;
use crate::ring::layout::{CONTROL_ARENA_LEN, STATE, STATE_CLOSED, STATE_UP};
use crate::ring::{Bell, Consumer, HeaderError, Layout, Producer, RingMemory};

/// The least data arena of a leg: twice the longest message, so that one always fits (amendment 10).
pub const LEG_ARENA_LEN_MIN: u32 = (2 * MESSAGE_LEN_MAX as u32).next_power_of_two();
const _: () = assert!(CONTROL_ARENA_LEN as usize >= 2 * CONTROL_MESSAGE_LEN_MAX);

/// Size of the rings that one end writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShmConfig {
    /// Data slots, as a power of two: 2 to 15. 12 (4096 slots) by default (amendment 10).
    pub slots_log2: u8,
    /// Octets of the data arena: a power of two from 256 KiB to 2 MiB. 1 MiB by default (amendment 10).
    pub arena_len: u32,
}

impl Default for ShmConfig {
    fn default() -> Self {
        Self { slots_log2: 12, arena_len: 1 << 20 }
    }
}

impl ShmConfig {
    fn layout(&self) -> Layout {
        assert!(self.arena_len >= LEG_ARENA_LEN_MIN, "an arena of {} octets is too small", self.arena_len);
        Layout::new(self.slots_log2, self.arena_len).expect("sizes within the bounds of a ring")
    }

    /// Octets of a region for this configuration.
    ///
    /// # Panics
    /// When a size is out of its range.
    #[must_use]
    pub fn region_len(&self) -> usize {
        self.layout().region_len
    }
}

/// Why two regions do not make a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShmLegError {
    /// The own region was not formatted.
    Own(HeaderError),
    /// The peer's region has no valid header.
    Peer(HeaderError),
    /// The peer's arena cannot hold the longest message.
    PeerArenaTooSmall {
        /// Granules of 64 octets in the peer's arena.
        granules: u32,
    },
}

impl fmt::Display for ShmLegError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(error) => write!(f, "own region: {error:?}"),
            Self::Peer(error) => write!(f, "peer's region: {error:?}"),
            Self::PeerArenaTooSmall { granules } => write!(f, "peer's arena has only {granules} granules"),
        }
    }
}

impl core::error::Error for ShmLegError {}

/// Both ends that this process has on a leg: it writes `own`, and only reads `peer`.
//= spec/ring.md#single-writer
//# Each end MUST write only to its own region.
#[derive(Debug)]
pub struct ShmLeg {
    pub(crate) own: Region,
    pub(crate) peer: Region,
    pub(crate) data_tx: Producer<Region>,
    pub(crate) control_tx: Producer<Region>,
    pub(crate) data_rx: Consumer<Region>,
    pub(crate) control_rx: Consumer<Region>,
    pub(crate) bell: Bell<Region>,
}

impl ShmLeg {
    /// Writes the header page of a zeroed region, before the region is given to the peer.
    ///
    /// # Panics
    /// When the region is not `config.region_len()` octets long.
    pub fn format(own: &Region, config: &ShmConfig) {
        let layout = config.layout();
        assert_eq!(own.len(), layout.region_len, "a region has the length of its configuration");
        layout.write_header(own);
    }

    /// Joins the own region, formatted before, and the peer's.
    ///
    /// # Errors
    /// When a header is missing or does not fit its region. The peer's is checked, never trusted.
    pub fn new(own: Region, peer: Region) -> Result<Self, ShmLegError> {
        let ours = Layout::read_header(&own, own.len()).map_err(ShmLegError::Own)?;
        let theirs = Layout::read_header(&peer, peer.len()).map_err(ShmLegError::Peer)?;
        if theirs.data.arena_granules * 64 < LEG_ARENA_LEN_MIN {
            return Err(ShmLegError::PeerArenaTooSmall { granules: theirs.data.arena_granules });
        }
        own.store_release(STATE, STATE_UP);
        Ok(Self {
            data_tx: Producer::new(own.clone(), peer.clone(), ours.data),
            control_tx: Producer::new(own.clone(), peer.clone(), ours.control),
            data_rx: Consumer::new(own.clone(), peer.clone(), theirs.data),
            control_rx: Consumer::new(own.clone(), peer.clone(), theirs.control),
            bell: Bell::new(own.clone(), peer.clone()),
            own,
            peer,
        })
    }

    /// Leaves a leg that no association takes: its peer finds that nothing of it was taken. The host hangs up then.
    pub fn refuse(mut self) {
        self.close(false);
    }

    /// Marks the own region CLOSED with the final heads. Nothing may be received afterwards. With `hold`, data that was taken and is
    /// not settled is left to the peer.
    //= spec/ring.md#closing
    //# An end that leaves a ring MUST store its final heads before it stores the state CLOSED with release order,
    //# and MUST take nothing from the ring afterwards.
    pub(crate) fn close(&mut self, hold: bool) {
        //= spec/rvi.md#what-is-held-when-a-leg-is-left
        //# An end that leaves a leg while it holds what it has received MUST store what it has settled as the final head of the data
        //# ring, and MUST store what it has taken as its head.
        let data = if hold { self.data_rx.settled_of_taken() } else { self.data_rx.next() };
        self.own.store_relaxed(STATE + 4, data);
        self.own.store_relaxed(STATE + 8, self.control_rx.next());
        self.own.store_release(STATE, STATE_CLOSED);
    }

    /// The final heads of our data and control ring, if the peer left in order.
    pub(crate) fn final_heads(&self) -> Option<(u32, u32)> {
        if self.peer.load_acquire(STATE) != STATE_CLOSED {
            return None;
        }
        Some((self.peer.load_relaxed(STATE + 4), self.peer.load_relaxed(STATE + 8)))
    }
}
