//! What goes into a receiver and comes out of it.

use core::time::Duration;

use vlan_core::{Channel, Instant};

use super::pool::PooledBuf;
use crate::packet::wire::PacketLeg;

/// What of each channel was delivered, whichever leg brought it; kept by the association.
pub trait ChannelWindows {
    /// True when messages of `channel` pass.
    fn is_open(&self, channel: Channel) -> bool;

    /// True when messages of `channel` have passed before, so that the end knows what it closed. One that it does not know
    /// yet may be on its way to be opened.
    fn was_open(&self, channel: Channel) -> bool {
        let _ = channel;
        true
    }

    /// True when message `mseq` of `channel` was delivered, or lies so far back that it must have been.
    fn is_delivered(&self, channel: Channel, mseq: u32) -> bool;

    /// The lowest number of `channel` that is not delivered, and one past the highest that is.
    fn window(&self, channel: Channel) -> (u32, u32);

    /// Which of the 64 messages from `first` on are delivered: bit i stands for `first` + i.
    fn delivered_from(&self, channel: Channel, first: u32) -> u64 {
        (0..64).fold(0, |word, i| word | u64::from(self.is_delivered(channel, first.wrapping_add(i))) << i)
    }
}

/// Bounds and choices of a receiver.
#[derive(Clone, Copy, Debug)]
pub struct ReceiverConfig {
    /// Octets of messages that are held at the same time, each with 256 for its bookkeeping: being put together,
    /// waiting for their turn, or lent to the host. At least four of the longest messages fit, whatever is said here.
    pub octets_max: usize,
    /// Packets that wait for their ack at most.
    pub ack_every: u32,
    /// How long a packet waits for its ack at most: 20 us where the host polls, 200 us where it sleeps.
    pub ack_delay: Duration,
}

impl Default for ReceiverConfig {
    fn default() -> Self {
        Self { octets_max: 4 << 20, ack_every: 32, ack_delay: Duration::from_micros(200) }
    }
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Its number is noted, it will be acknowledged, and its messages are held.
    Taken,
    /// It came before.
    Duplicate,
    /// It is so old that nobody can tell whether it came before; as if it had been lost.
    TooOld,
    /// There is no room for one of its messages; as if it had been lost.
    NoRoom,
}

/// When something is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckDue {
    /// Nothing is to be told.
    None,
    /// With whatever is sent until then; then by itself.
    At(Instant),
    /// At once.
    Now,
}

/// A whole message whose turn it is.
#[derive(Debug)]
pub struct ReceivedMessage {
    /// The channel it came on.
    pub channel: Channel,
    /// Its number in the channel.
    pub mseq: u32,
    /// Its lane.
    pub lane: u16,
    /// The leg that brought it, or its last piece.
    pub leg: PacketLeg,
    /// The message; goes back by [`super::Receiver::recycle`].
    pub octets: PooledBuf,
}

/// What a receiver counts, from the session's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiverCounters {
    /// Packets taken.
    pub packets: u64,
    /// Packets that came before.
    pub duplicate_packets: u64,
    /// Packets that are too old to tell.
    pub old_packets: u64,
    /// Packets with a message for which there was no room.
    pub no_room: u64,
    /// Messages handed out.
    pub messages: u64,
    /// Octets of messages handed out.
    pub octets: u64,
    /// Messages, or pieces of them, that came before.
    pub duplicates: u64,
    /// Messages, or pieces of them, for a channel that is not open.
    pub refused: u64,
    /// Packets that contradict what came before: the first ends the session.
    pub contradictions: u64,
}

/// A channel and a number in it, as a key of maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub channel: Channel,
    pub mseq: u32,
}

/// What a message's records say of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct MessageMeta {
    pub key: Key,
    pub lane: u16,
    pub prev: u16,
    pub is_after_all: bool,
    /// The leg that brought it, or its latest piece.
    pub leg: PacketLeg,
}

impl MessageMeta {
    /// The message that this one must not overtake.
    pub fn predecessor(&self) -> Option<Key> {
        let mseq = self.key.mseq.wrapping_sub(u32::from(self.prev));
        (self.prev != 0).then_some(Key { channel: self.key.channel, mseq })
    }
}

/// A message of which every octet is there.
#[derive(Debug)]
pub(super) struct WholeMessage {
    pub meta: MessageMeta,
    pub octets: PooledBuf,
}
