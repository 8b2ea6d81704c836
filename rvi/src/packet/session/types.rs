//! What a session is made from, what it tells, and why a packet is refused.

use alloc::vec::Vec;
use core::fmt;

use vlan_core::{NodeNumber, ProcessId};

use super::secret::PairKey;
use crate::association::SessionTag;
use crate::keys::{PrivateKey, PublicKey};
use crate::packet::wire::{PacketError, PacketLeg};

/// A leg that an end offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLeg {
    /// The leg.
    pub leg: PacketLeg,
    /// The key of the fabric that it crosses; both ends must have the same.
    pub fabric_key: u16,
    /// The fabric is trusted: packets are authenticated, not encrypted. Both ends must say the same.
    pub is_trusted: bool,
}

/// Who the two ends are to each other.
#[derive(Clone, Debug)]
pub enum SessionKind {
    /// Two nodes with a grant.
    Pair(PairKey),
    /// The node's end of a session with a control node, for its control session of this number.
    ToControlNode(u32),
    /// The control node's end of a session with a node, for the control session of this tag. It never begins one.
    ToNode(SessionTag),
}

impl SessionKind {
    /// Our own number of the control session; 0 between nodes.
    pub(super) const fn control_session(&self) -> u32 {
        match self {
            Self::Pair(_) => 0,
            Self::ToControlNode(number) => *number,
            Self::ToNode(tag) => tag.control_node,
        }
    }
}

/// What a session is made from.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Who the two ends are to each other.
    pub kind: SessionKind,
    /// Our key.
    pub own_key: PrivateKey,
    /// The peer's key.
    pub peer_key: PublicKey,
    /// Our life.
    pub own: ProcessId,
    /// The peer's life; `None` only towards a control node, which says it in its answer.
    pub peer: Option<ProcessId>,
    /// Our node number; 0 for a control node.
    pub node: NodeNumber,
    /// The index by which the peer is to name this association.
    pub own_cid: u32,
    /// The legs that we have, each once.
    pub legs: Vec<SessionLeg>,
    /// What we say of ourselves to the peer.
    pub offer: SessionOffer,
}

/// What each end says of itself in the handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionOffer {
    /// The longest message that this end takes, in octets.
    pub message_len_max: u32,
    /// Messages that the peer may send on a channel before it hears of more.
    pub credit_messages: u32,
    /// KiB that the peer may send before it hears of more.
    pub credit_kib: u32,
    /// The version of the TLV layer that this end speaks.
    pub tlv_version: u8,
}

/// A set of packet legs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LegSet(u8);

impl LegSet {
    /// Adds a leg; true when it was not in the set.
    pub const fn insert(&mut self, leg: PacketLeg) -> bool {
        let before = self.0;
        self.0 |= 1 << leg.index();
        self.0 != before
    }

    /// Removes a leg; true when it was in the set.
    pub const fn remove(&mut self, leg: PacketLeg) -> bool {
        let before = self.0;
        self.0 &= !(1 << leg.index());
        self.0 != before
    }

    /// True when the leg is in the set.
    #[must_use]
    pub const fn contains(self, leg: PacketLeg) -> bool {
        self.0 & 1 << leg.index() != 0
    }

    /// True when no leg is in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The legs, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = PacketLeg> {
        (0..PacketLeg::COUNT).filter_map(PacketLeg::at).filter(move |leg| self.contains(*leg))
    }
}

impl FromIterator<PacketLeg> for LegSet {
    fn from_iter<I: IntoIterator<Item = PacketLeg>>(legs: I) -> Self {
        legs.into_iter().fold(Self::default(), |mut set, leg| {
            set.insert(leg);
            set
        })
    }
}

/// What the handshake proved of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionPeer {
    /// Its life.
    pub process: ProcessId,
    /// Its node number; 0 for a control node.
    pub node: NodeNumber,
    /// Its number of the control session; 0 between nodes.
    pub control_session: u32,
    /// What it says of itself.
    pub offer: SessionOffer,
    /// The legs that both ends have with the same fabric key and the same trust.
    pub legs: LegSet,
    /// The legs that both ends have and do not agree about: swapped cables or different platform files.
    pub mismatched: LegSet,
}

/// Something that the association must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// A session began. The one before it, if there was one, is over: numbers, acks and credit start again. Packets that
    /// are opened from here on belong to it.
    Established {
        /// Its id.
        session: u64,
        /// We spoke first.
        is_initiator: bool,
        /// Who is there.
        peer: SessionPeer,
    },
    /// A leg joined: a packet that came by it was opened with the session's key.
    LegJoined(PacketLeg),
    /// The peer ended the session.
    Closed,
    /// The peer may not know the session any more, and nothing of it came since: time to begin another.
    Forgotten,
    /// The control node refused us, for a reason of its own (`host::RefusalReason`).
    Refused(u8),
}

/// Why a packet was dropped; each has its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u8)]
pub enum OpenError {
    /// Its header is none, or does not fit its length.
    Form,
    /// It is of a kind that does not belong here.
    Kind,
    /// It names another association.
    Cid,
    /// It names a session that is not ours, or there is none.
    Session,
    /// It came by another leg than it says, or by one that we do not share.
    Leg,
    /// It came through another fabric than it was sent to.
    FabricKey,
    /// Its number lies in none of the three key phases that can be opened.
    Phase,
    /// It was not sealed with the key it should be, or was changed.
    Tag,
    /// Its number was opened before.
    Copy,
    /// Its number lies below the replay window.
    Old,
    /// CONNECT, ACCEPT or COOKIE is not from an end that may send it.
    Mac,
    /// CONNECT is not later than one that was answered, or an answer is to nothing we asked.
    Stale,
    /// CONNECT is for, or from, another process than the grant says.
    Process,
    /// The proof of the handshake failed.
    Proof,
    /// What the peer says of itself is not well formed or cannot be.
    Terms,
    /// Both ends spoke first, and we stay the initiator.
    Simultaneous,
}

impl OpenError {
    /// Every reason, in the order of its counters.
    pub const ALL: [Self; 16] = [
        Self::Form,
        Self::Kind,
        Self::Cid,
        Self::Session,
        Self::Leg,
        Self::FabricKey,
        Self::Phase,
        Self::Tag,
        Self::Copy,
        Self::Old,
        Self::Mac,
        Self::Stale,
        Self::Process,
        Self::Proof,
        Self::Terms,
        Self::Simultaneous,
    ];

    /// A word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Kind => "kind",
            Self::Cid => "cid",
            Self::Session => "session",
            Self::Leg => "leg",
            Self::FabricKey => "fabric-key",
            Self::Phase => "phase",
            Self::Tag => "tag",
            Self::Copy => "copy",
            Self::Old => "old",
            Self::Mac => "mac",
            Self::Stale => "stale",
            Self::Process => "process",
            Self::Proof => "proof",
            Self::Terms => "terms",
            Self::Simultaneous => "simultaneous",
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for OpenError {}

impl From<PacketError> for OpenError {
    fn from(_: PacketError) -> Self {
        Self::Form
    }
}

/// A packet cannot be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SealError {
    /// There is no session.
    NoSession,
    /// Its header is none, does not fit its length, or is of a kind that is not sealed here.
    Form,
    /// The session does not have this leg.
    Leg(PacketLeg),
    /// The number, or one above it, was sealed before on this leg. To seal it again would give both packets away.
    Number(u64),
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSession => f.write_str("there is no session"),
            Self::Form => f.write_str("not a packet that can be sealed"),
            Self::Leg(leg) => write!(f, "the session does not have leg {leg}"),
            Self::Number(number) => write!(f, "packet number {number} comes after a higher one"),
        }
    }
}

impl core::error::Error for SealError {}

/// What a session has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounters {
    /// Packets sealed.
    pub sealed: u64,
    /// Packets opened.
    pub opened: u64,
    refused: [u32; OpenError::ALL.len()],
}

impl SessionCounters {
    /// Packets dropped for this reason.
    #[must_use]
    pub const fn refused(&self, reason: OpenError) -> u32 {
        self.refused[reason as usize]
    }

    /// Packets dropped, in all.
    #[must_use]
    pub fn refused_in_all(&self) -> u64 {
        self.refused.iter().map(|count| u64::from(*count)).sum()
    }

    pub(super) const fn count(&mut self, reason: OpenError) {
        let count = &mut self.refused[reason as usize];
        *count = count.saturating_add(1);
    }
}
