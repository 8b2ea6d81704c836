//! Registration: what a node already has when it comes.

use super::fields::{Field, Reader, Writer, record};
use crate::address::{Channel, LanId, MacAddress, NodeNumber, RviNumber, VifNumber};
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
