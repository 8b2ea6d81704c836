//! The octets of the handshake: what CONNECT says in the clear, and what each end tells of itself under the Noise
//! keys.
//!
//! ```text
//! CONNECT  header | clear part 32 | cookie 16 | Noise message 1 (terms 72) | tag 16
//! ACCEPT   header | Noise message 2 (terms 72) | tag 16
//! CONFIRM  header | tag 16                                                    sealed with the session's keys
//! COOKIE   header | cookie 16 | tag 16
//! ```

use vlan_core::{NodeNumber, ProcessId};

use super::types::{LegSet, SessionConfig, SessionLeg, SessionOffer};
use crate::keys::KEY_LEN;
use crate::packet::wire::{PACKET_HEADER_LEN, PacketHeader, PacketKind, PacketLeg, TAG_LEN};

/// The version of the handshake.
pub(super) const HANDSHAKE_VERSION: u8 = 1;
/// Octets of the clear part of CONNECT.
pub(super) const CLEAR_LEN: usize = 32;
/// Octets of a cookie.
pub const COOKIE_LEN: usize = 16;
/// Octets of the terms of one end.
pub(super) const TERMS_LEN: usize = 72;
/// Octets of a Noise message in which the sender's key travels too; no other message is longer.
pub(super) const MESSAGE_LEN_MAX: usize = KEY_LEN + KEY_LEN + TAG_LEN + TERMS_LEN + TAG_LEN;
/// Octets of the longest handshake packet.
pub const HANDSHAKE_PACKET_LEN_MAX: usize =
    PACKET_HEADER_LEN + CLEAR_LEN + COOKIE_LEN + MESSAGE_LEN_MAX + TAG_LEN;
//= spec/packet-security.md#handshake-length
//# A packet of a handshake MUST NOT be longer than 1,200 octets.
const _: () = assert!(HANDSHAKE_PACKET_LEN_MAX <= crate::packet::sender::PACKET_LEN_BASE);

/// The handshake that a CONNECT begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Pattern {
    /// Between nodes: `KKpsk0`.
    Pair = 1,
    /// From a node to a control node: `IK`.
    ControlNode = 2,
}

/// What CONNECT says in the clear: enough to find the association. Nothing of it is proven before the session has
/// checked the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The handshake.
    pub pattern: Pattern,
    /// The index by which its sender wants the answer to name the association.
    pub initiator_cid: u32,
    /// Its sender.
    pub initiator: ProcessId,
    /// The process it is for; 0 towards a control node, whose process its sender does not know.
    pub responder: ProcessId,
    /// The sender's clock, in nanoseconds, when the handshake began; a later one is greater.
    pub time: u64,
}

impl Hint {
    /// Reads the clear part of a packet, if it is a CONNECT.
    #[must_use]
    pub fn of(packet: &[u8]) -> Option<Self> {
        let header = PacketHeader::parse_packet(packet).ok()?;
        let clear = packet[PACKET_HEADER_LEN..].first_chunk()?;
        (header.kind == PacketKind::Connect).then(|| Self::parse(clear)).flatten()
    }

    pub(super) fn parse(octets: &[u8; CLEAR_LEN]) -> Option<Self> {
        let pattern = match octets[0] {
            1 => Pattern::Pair,
            2 => Pattern::ControlNode,
            _ => return None,
        };
        let is_plain = octets[1] == HANDSHAKE_VERSION && octets[2..4] == [0; 2];
        is_plain.then_some(Self {
            pattern,
            initiator_cid: u32_at(octets, 4),
            initiator: ProcessId(u64_at(octets, 8)),
            responder: ProcessId(u64_at(octets, 16)),
            time: u64_at(octets, 24),
        })
    }

    pub(super) fn emit(&self) -> [u8; CLEAR_LEN] {
        let mut octets = [0; CLEAR_LEN];
        octets[0] = self.pattern as u8;
        octets[1] = HANDSHAKE_VERSION;
        octets[4..8].copy_from_slice(&self.initiator_cid.to_le_bytes());
        octets[8..16].copy_from_slice(&self.initiator.0.to_le_bytes());
        octets[16..24].copy_from_slice(&self.responder.0.to_le_bytes());
        octets[24..32].copy_from_slice(&self.time.to_le_bytes());
        octets
    }
}

/// The parts of a CONNECT whose form is right.
pub(super) struct ConnectParts<'a> {
    pub(super) clear: &'a [u8; CLEAR_LEN],
    pub(super) hint: Hint,
    pub(super) message: &'a [u8],
}

impl<'a> ConnectParts<'a> {
    /// Takes a CONNECT apart; `packet` has passed `PacketHeader::parse_packet`.
    pub(super) fn parse(packet: &'a [u8]) -> Option<Self> {
        let payload = packet.get(PACKET_HEADER_LEN..packet.len().checked_sub(TAG_LEN)?)?;
        let (clear, rest) = payload.split_first_chunk()?;
        let hint = Hint::parse(clear)?;
        let (_, message) = rest.split_first_chunk::<COOKIE_LEN>()?;
        let key = if hint.pattern == Pattern::ControlNode { KEY_LEN + TAG_LEN } else { 0 };
        let is_whole = message.len() == KEY_LEN + key + TERMS_LEN + TAG_LEN;
        is_whole.then_some(Self { clear, hint, message })
    }
}

/// What one end tells of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) node: NodeNumber,
    pub(super) process: ProcessId,
    pub(super) cid: u32,
    pub(super) offer: SessionOffer,
    /// Why the control node wants nothing to do with the node; 0 when it does.
    pub(super) refusal: u8,
    /// When the last handshake that this end began, began: earlier ones are over.
    pub(super) time: u64,
    /// This end's number of the control session; 0 between nodes.
    pub(super) control_session: u32,
    /// By [`PacketLeg::index`].
    pub(super) legs: [Option<SessionLeg>; PacketLeg::COUNT],
}

impl Terms {
    //= spec/leg-setup.md#session-tags
    //# Each leg of a control RVI MUST carry the tag of its session: on shared memory the node's number of it in HELLO and
    //# the control node's in its SETUP, on packets the one in CONNECT and the other in ACCEPT.
    pub(super) fn of(config: &SessionConfig) -> Self {
        let mut legs = [None; PacketLeg::COUNT];
        config.legs.iter().for_each(|leg| legs[leg.leg.index()] = Some(*leg));
        let (node, process, cid, offer) = (config.node, config.own, config.own_cid, config.offer);
        let control_session = config.kind.control_session();
        Self { node, process, cid, offer, refusal: 0, time: 0, control_session, legs }
    }

    pub(super) fn emit(&self) -> [u8; TERMS_LEN] {
        let mut octets = [0; TERMS_LEN];
        octets[0] = HANDSHAKE_VERSION;
        octets[1] = self.offer.tlv_version;
        octets[2..4].copy_from_slice(&self.node.0.to_le_bytes());
        octets[4..8].copy_from_slice(&self.cid.to_le_bytes());
        octets[8..16].copy_from_slice(&self.process.0.to_le_bytes());
        octets[16..20].copy_from_slice(&self.offer.message_len_max.to_le_bytes());
        octets[20..24].copy_from_slice(&self.offer.credit_messages.to_le_bytes());
        octets[24..28].copy_from_slice(&self.offer.credit_kib.to_le_bytes());
        octets[28] = self.refusal;
        let legs = self.legs.iter().flatten();
        octets[29] = legs.clone().count() as u8;
        for (entry, leg) in octets[32..56].chunks_exact_mut(4).zip(legs) {
            entry[0] = leg.leg.number();
            entry[1] = u8::from(leg.is_trusted);
            entry[2..].copy_from_slice(&leg.fabric_key.to_le_bytes());
        }
        octets[56..64].copy_from_slice(&self.time.to_le_bytes());
        octets[64..68].copy_from_slice(&self.control_session.to_le_bytes());
        octets
    }

    /// Reads terms; `None` when a field has a value that no end writes.
    pub(super) fn parse(octets: &[u8; TERMS_LEN]) -> Option<Self> {
        let count = usize::from(octets[29]);
        let is_plain = octets[30..32] == [0; 2] && octets[68..] == [0; 4];
        if octets[0] != HANDSHAKE_VERSION || !is_plain || count > PacketLeg::COUNT {
            return None;
        }
        let (entries, rest) = octets[32..56].split_at(4 * count);
        let mut legs = [None; PacketLeg::COUNT];
        for entry in entries.chunks_exact(4) {
            let leg = PacketLeg::new(entry[0])?;
            let fabric_key = u16::from_le_bytes([entry[2], entry[3]]);
            let is_twice = legs[leg.index()].is_some();
            if entry[1] > 1 || is_twice {
                return None;
            }
            legs[leg.index()] = Some(SessionLeg { leg, fabric_key, is_trusted: entry[1] == 1 });
        }
        let offer = SessionOffer {
            message_len_max: u32_at(octets, 16),
            credit_messages: u32_at(octets, 20),
            credit_kib: u32_at(octets, 24),
            tlv_version: octets[1],
        };
        rest.iter().all(|octet| *octet == 0).then_some(Self {
            node: NodeNumber(u16::from_le_bytes([octets[2], octets[3]])),
            process: ProcessId(u64_at(octets, 8)),
            cid: u32_at(octets, 4),
            offer,
            refusal: octets[28],
            time: u64_at(octets, 56),
            control_session: u32_at(octets, 64),
            legs,
        })
    }

    /// The legs that both ends have: those they agree about, and those they do not.
    pub(super) fn shared_legs(&self, other: &Self) -> (LegSet, LegSet) {
        let (mut shared, mut mismatched) = (LegSet::default(), LegSet::default());
        for (own, theirs) in self.legs.iter().flatten().filter_map(|l| Some((l, other.legs[l.leg.index()]?)))
        {
            let set = if *own == theirs { &mut shared } else { &mut mismatched };
            set.insert(own.leg);
        }
        (shared, mismatched)
    }
}

fn u32_at(octets: &[u8], at: usize) -> u32 {
    octets[at..].first_chunk().map_or(0, |field| u32::from_le_bytes(*field))
}

fn u64_at(octets: &[u8], at: usize) -> u64 {
    octets[at..].first_chunk().map_or(0, |field| u64::from_le_bytes(*field))
}
