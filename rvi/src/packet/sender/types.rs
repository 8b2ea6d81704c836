//! What goes into and comes out of a sender.

use core::fmt;

use vlan_core::Channel;

use crate::message::Part;
use crate::packet::wire::PacketLeg;

pub use super::health::PacketLegState;

/// How messages are spread over the legs that are good (amendment 15).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PacketScheduler {
    /// Each lane keeps to one leg, and lanes alternate over the legs.
    #[default]
    Lane,
    /// Messages alternate over the legs.
    Alternate,
    /// Everything goes by the lowest-numbered leg.
    Failover,
    /// Each message goes by every leg; the receiver drops the copies.
    Both,
}

/// A leg that the session has proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketLegConfig {
    /// Which leg.
    pub leg: PacketLeg,
    /// Octets of the longest packet that the leg's route takes: header, payload and tag. Whether those arrive is searched for.
    pub packet_len_max: usize,
}

/// A message to send.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Its channel.
    pub channel: Channel,
    /// Its lane, below 1024: messages of a lane are delivered in the order in which they are sent.
    pub lane: u16,
    /// Its number in the channel.
    pub mseq: u32,
    /// Another leg may have delivered it.
    pub is_resent: bool,
    /// It is to be delivered only after every message with a lower number.
    pub is_after_all: bool,
    /// Its octets, one part behind the other.
    pub parts: &'a [Part<'a>],
}

impl Outgoing<'_> {
    /// Octets of the message.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(Part::len).sum()
    }

    /// True for a message without octets.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A message that the peer has not acknowledged, handed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unacked<'a> {
    /// Its channel.
    pub channel: Channel,
    /// Its lane.
    pub lane: u16,
    /// Its number in the channel.
    pub mseq: u32,
    /// The message.
    pub octets: &'a [u8],
    /// The peer may have it: all of it was sent.
    pub maybe_taken: bool,
}

/// A message was not accepted: no leg answers, or window, credit or memory are used up. Nothing of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no room for the message now")
    }
}

impl core::error::Error for Full {}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportEvent {
    /// A leg is now good for this.
    LegState(PacketLeg, PacketLegState),
    /// No leg answers: `send` says Full, and what was accepted is kept.
    Stalled,
    /// A leg answers again.
    Resumed,
}

/// What a packet leg did so far, and what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketLegStatus {
    /// Which leg.
    pub leg: PacketLeg,
    /// What it is good for.
    pub state: PacketLegState,
    /// How much speaks against it, in 1/1024 nat: suspect from 4,710 on, down at 35,840.
    pub score: u32,
    /// Octets of the longest packet that is sent: what is known to arrive.
    pub packet_len: usize,
    /// Smoothed round-trip time in nanoseconds.
    pub rtt_ns: u64,
    /// Octets that may be on their way at once.
    pub window: usize,
    /// Octets that may be on their way now.
    pub in_flight: usize,
    /// Packets sent.
    pub tx_packets: u64,
    /// Octets of them.
    pub tx_octets: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Octets of them.
    pub rx_octets: u64,
    /// Packets proven lost.
    pub lost: u64,
    /// Packets whose pieces were sent again for want of proof.
    pub rescued: u64,
    /// Packets that arrived although their pieces were sent again.
    pub spurious: u64,
    /// Pieces sent here that another packet may have brought.
    pub resent: u64,
    /// Probes sent without being asked to: while idle, starting, suspect or down, and to try a length.
    pub probes: u64,
    /// How often packets became shorter because longer ones were not believed to arrive any more.
    pub fallbacks: u64,
}
