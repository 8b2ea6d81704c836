//! Registration: what a node already has when it comes.

use alloc::vec::Vec;

use super::fields::{Field, Reader, Writer, record};
use super::leg::HeldLeg;
use crate::address::{Channel, LanId, MacAddress, NodeNumber, PairEpoch, ProcessId, RviNumber, VifNumber};
use crate::wire::tlv::TlvError;

/// An interface that a node already has when it registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldInterface {
    /// Its LAN.
    pub lan: LanId,
    /// Its number in the node.
    pub vif: VifNumber,
    /// Its address.
    pub mac: MacAddress,
}

record!(HeldInterface { lan: LanId, vif: VifNumber, mac: MacAddress });

/// A direct RVI that a node already has when it registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldDirect {
    /// The RVI's number.
    pub rvi: RviNumber,
    /// The LAN it serves.
    pub lan: LanId,
    /// The node at the other end.
    pub peer: NodeNumber,
    /// Its channel in the association.
    pub channel: Channel,
    /// The node's own interface.
    pub own_vif: VifNumber,
    /// The peer's interface.
    pub peer_vif: VifNumber,
}

record!(HeldDirect {
    rvi: RviNumber,
    lan: LanId,
    peer: NodeNumber,
    channel: Channel,
    own_vif: VifNumber,
    peer_vif: VifNumber,
});

/// The association that carries the direct RVIs to one peer, as a node has it when it registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldAssociation {
    /// The node at the other end.
    pub peer: NodeNumber,
    /// The process at the other end.
    pub process: ProcessId,
    /// Which life of the association.
    pub epoch: PairEpoch,
    /// Its legs.
    pub legs: Vec<HeldLeg>,
}

record!(HeldAssociation { peer: NodeNumber, process: ProcessId, epoch: PairEpoch, legs: Vec<HeldLeg> });
