//! The association's configuration, answers and events.

use core::fmt;

use vlan_core::{Channel, LegNumber, ProcessId};

use crate::packet::sender::PacketLegState;
use crate::ring::RingFault;

/// How lanes are spread over the legs that are up (amendment 15).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheduler {
    /// Each lane is pinned to a leg, and lanes alternate over the legs.
    #[default]
    Lane,
    /// Everything goes by the lowest-numbered leg that is up.
    Failover,
}

/// Which session of a control RVI a leg belongs to: each end counts the sessions that it begins, from 1.
///
/// Both numbers grow, so of two legs that do not agree it is known which belongs to the later session. Legs between
/// nodes have no tag: their grants name the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionTag {
    /// The node's number of the session, among those of its process with this control node.
    pub node: u32,
    /// The control node's number of the session, among all that its process has begun.
    pub control_node: u32,
}

impl fmt::Display for SessionTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.control_node)
    }
}

/// Bounds and choices of an association.
#[derive(Clone, Debug)]
pub struct AssociationConfig {
    /// How lanes are spread over legs.
    pub scheduler: Scheduler,
    /// Spreads lanes over legs differently in each association.
    pub seed: u64,
    /// Messages that wait for room in a ring at the same time; 0 = none waits, `send` says `Full` at once.
    pub park_messages_max: usize,
    /// Octets that wait for room in a ring at the same time.
    pub park_octets_max: usize,
    /// Low 16 bits of the session; **both ends must be given the same value**.
    pub session: u16,
}

impl Default for AssociationConfig {
    fn default() -> Self {
        Self {
            scheduler: Scheduler::Lane,
            seed: 0,
            park_messages_max: 256,
            park_octets_max: 1 << 20,
            session: 0,
        }
    }
}

/// Where a message that was accepted is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// In a leg's ring, with a number; visible at the next `publish`.
    Ring,
    /// Waiting for room; an event will tell what became of it.
    Parked,
}

/// Why a message was not accepted. It is nowhere: the caller still has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// No room in the ring of its leg, nor among the waiting.
    Full,
    /// No leg is up.
    NoLeg,
    /// The message can never go.
    TooLong {
        /// Its length in octets.
        len: usize,
        /// The greatest length in octets.
        limit: usize,
    },
    /// The channel is not open.
    NoChannel,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("no room for the message now"),
            Self::NoLeg => f.write_str("no leg is up"),
            Self::TooLong { len, limit } => write!(f, "a message of {len} octets; the limit is {limit}"),
            Self::NoChannel => f.write_str("the channel is not open"),
        }
    }
}

impl core::error::Error for SendError {}

/// How a leg ended, as its memory tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegEnd {
    /// The peer left in order: what it took is known exactly.
    Closed,
    /// It hung up without saying so: what it took last is not known.
    Died,
}

/// Why a leg is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LegDownReason {
    /// The peer left it in order.
    Closed,
    /// The peer hung up without leaving.
    Died,
    /// The peer's memory held something impossible; the host closes the leg's socket.
    Protocol(RingFault),
}

/// Something that happened to the association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AssociationEvent {
    /// The leg carries messages from now on.
    LegUp(LegNumber),
    /// The leg carries nothing any more.
    LegDown(LegNumber, LegDownReason),
    /// The peer took nothing from the leg for 10 ms although something is there.
    Stalled(LegNumber),
    /// What was in that stalled leg goes by another one, under the same numbers.
    Moving(LegNumber),
    /// A message that waited is in a ring now; only for messages with a charge.
    ParkedSent {
        /// The charge given to `send`.
        charge: u32,
        /// Its channel.
        channel: Channel,
        /// The number that it got.
        number: u32,
    },
    /// A message waited for 50 ms in vain, and is dropped: to be counted as `expired`.
    ParkedExpired {
        /// The charge given to `send`; 0 = none.
        charge: u32,
        /// Its channel.
        channel: Channel,
        /// Its length in octets.
        len: usize,
    },
    /// A packet leg is now good for this.
    PacketLeg(LegNumber, PacketLegState),
    /// The packet legs have a session: the first, or one that carries on with what the one before had not proven.
    PacketsEstablished {
        /// The peer's life.
        process: ProcessId,
        /// The peer's number of the control session; 0 between nodes.
        control_session: u32,
    },
    /// The control node wants no session with us, for a reason of its own; it is asked again after a while.
    PacketsRefused(u8),
    /// No packet leg answers: what was accepted is kept, and nothing more is.
    PacketsSilent,
    /// A packet leg answers again.
    PacketsHeard,
    /// Both ends have the leg and do not agree about its fabric: swapped cables, or platform files that differ.
    PacketLegMismatched(LegNumber),
    /// The packet legs are over: the peer ended their session, or broke its rules, sealed with the right key.
    PacketsOver {
        /// It broke the rules.
        broken: bool,
    },
}

/// What waits in an association for room, besides what its rings hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Data messages.
    pub messages: usize,
    /// Octets of them.
    pub octets: usize,
    /// Control messages.
    pub control_messages: usize,
    /// Octets of them.
    pub control_octets: usize,
}

/// What a leg is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegState {
    /// Carries messages both ways.
    Up,
    /// The peer takes nothing from it: nothing new is sent there while another leg is up.
    Stalled,
    /// We have left it: nothing is received from it, nothing new sent.
    Leaving,
}

/// What a leg did so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegStatus {
    /// Which leg.
    pub number: LegNumber,
    /// What it is good for.
    pub state: LegState,
    /// Messages put into its rings, resends included.
    pub tx_messages: u64,
    /// Octets of them.
    pub tx_octets: u64,
    /// Messages taken from its rings, duplicates included.
    pub rx_messages: u64,
    /// Octets of them.
    pub rx_octets: u64,
    /// Messages sent here again because another leg did not prove them.
    pub resends: u64,
    /// Messages taken from here that had come before.
    pub duplicates: u64,
    /// Messages taken from here for a channel that is not open, and dropped.
    pub refused: u64,
}

/// Why a message is handed back by `drain_unsent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// It was in a ring and the peer did not prove that it took it.
    Ring {
        /// True when the peer may have taken it all the same.
        maybe_taken: bool,
    },
    /// It still waited for room.
    Parked {
        /// The charge given to `send`; 0 = none.
        charge: u32,
    },
}
