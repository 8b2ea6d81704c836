//! Direct RVIs: how they are granted and why they end.

use super::fields::{Field, Reader, Writer, record};
use crate::address::{Channel, LanId, MacAddress, NodeNumber, ProcessId, RviNumber, VifNumber};
use crate::wire::tlv::TlvError;

/// One end's part of a granted direct RVI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
            _ => Err(TlvError::BadField { field: "reason" }),
        }
    }
}
