//! Direct RVIs: how they are granted and why they end.

use alloc::vec::Vec;

use super::fields::{Field, Reader, Writer, record};
use super::leg::GrantedLeg;
use crate::address::{Channel, LanId, MacAddress, NodeNumber, PairEpoch, ProcessId, RviNumber, VifNumber};
use crate::key::{PublicKey, SecretKey};
use crate::wire::tlv::TlvError;

/// Where the key of the pair stands in the value of a GRANT: behind RVI, LAN, peer and its process, channel, both
/// interfaces, the peer's MAC and the epoch.
pub(super) const PAIR_KEY_AT: usize = 4 + 2 + 2 + 8 + 1 + 2 + 2 + 6 + 4;

/// One end's part of a granted direct RVI.
///
/// The same RVI granted again in the same epoch says that the legs of its association have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The RVI.
    pub rvi: RviNumber,
    /// The LAN.
    pub lan: LanId,
    /// The node at the other end.
    pub peer: NodeNumber,
    /// The process at the other end.
    pub peer_process: ProcessId,
    /// The channel of the RVI in the pair's association.
    pub channel: Channel,
    /// The receiving node's interface.
    pub own_vif: VifNumber,
    /// The other end's interface.
    pub peer_vif: VifNumber,
    /// The other end's address: what source frames on this channel must carry.
    pub peer_mac: MacAddress,
    /// The association that carries it, with the other RVIs of the pair.
    pub association: GrantedAssociation,
}

record!(Grant {
    rvi: RviNumber,
    lan: LanId,
    peer: NodeNumber,
    peer_process: ProcessId,
    channel: Channel,
    own_vif: VifNumber,
    peer_vif: VifNumber,
    peer_mac: MacAddress,
    association: GrantedAssociation,
});

/// One end's part of the association of a pair: what it proves itself with, and its packet legs. Shared-memory
/// legs are not granted but introduced, by sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrantedAssociation {
    /// Which life of the association; another epoch is another association, with another key.
    pub epoch: PairEpoch,
    /// What both ends and nobody else have from their control node.
    pub pair_key: SecretKey,
    /// The public key of the other end.
    pub peer_key: PublicKey,
    /// The packet legs, all of them: one that is not named is no longer granted.
    pub legs: Vec<GrantedLeg>,
}

record!(GrantedAssociation {
    epoch: PairEpoch,
    pair_key: SecretKey,
    peer_key: PublicKey,
    legs: Vec<GrantedLeg>,
});

/// Why a grant ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RevokeReason {
    /// Idle for 60 s.
    Idle = 1,
    /// Cut by the administrator.
    Cut = 2,
    /// A member was removed or replaced.
    Membership = 3,
    /// The two ends and the control node do not agree on it.
    Mismatch = 4,
    /// The other end is over: nothing of it is to be waited for.
    Ended = 5,
}

impl Field for RevokeReason {
    const LEN_MIN: usize = 1;

    fn emit(&self, w: &mut Writer) {
        w.put(&(*self as u8));
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, TlvError> {
        match r.take::<u8>()? {
            1 => Ok(Self::Idle),
            2 => Ok(Self::Cut),
            3 => Ok(Self::Membership),
            4 => Ok(Self::Mismatch),
            5 => Ok(Self::Ended),
            _ => Err(TlvError::BadField { field: "reason" }),
        }
    }
}
