//! What a control node tells its operator.

use alloc::string::String;
use core::fmt;
use core::net::IpAddr;

use vlan_core::wire::control::{LegAddress, RevokeReason};
use vlan_core::{LanId, LegNumber, MacAddress, NodeNumber, ProcessId, PublicKey, RviNumber};

use crate::control_node::ListenRefusal;

/// Something the operator may want to know; the host logs it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ControlNodeEvent {
    /// A node has registered.
    Attached {
        /// The node.
        node: NodeNumber,
        /// Its name.
        name: String,
        /// How many interfaces it was given.
        interfaces: usize,
    },
    /// A node's last leg has gone.
    Detached {
        /// The node.
        node: NodeNumber,
        /// Its name.
        name: String,
    },
    /// A node was refused.
    Refused {
        /// The node.
        node: NodeNumber,
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// An older process of a node was told to end.
    Fenced {
        /// The node.
        node: NodeNumber,
        /// The older process.
        process: ProcessId,
    },
    /// An end of a direct association lacks a leg of shared memory: both are introduced again.
    LegMissing {
        /// Which end.
        node: NodeNumber,
        /// The other one.
        peer: NodeNumber,
        /// The leg.
        leg: LegNumber,
    },
    /// A direct RVI was granted to a pair that had none.
    Granted {
        /// One node.
        a: NodeNumber,
        /// The other.
        b: NodeNumber,
        /// The RVI.
        rvi: RviNumber,
    },
    /// The direct RVIs of a pair were revoked.
    Revoked {
        /// One node.
        a: NodeNumber,
        /// The other.
        b: NodeNumber,
        /// Why.
        reason: RevokeReason,
    },
    /// A node wants an address that another holds.
    AddressConflict {
        /// The LAN.
        lan: LanId,
        /// The address.
        address: IpAddr,
        /// Who holds it.
        holder: MacAddress,
        /// Who wants it.
        node: NodeNumber,
    },
    /// An address was refused: no station can have it, or the interface has as many as it may.
    AddressRefused {
        /// The LAN.
        lan: LanId,
        /// The address.
        address: IpAddr,
        /// Who wants it.
        node: NodeNumber,
    },
    /// A member listens promiscuously, and is not told to anybody: said once for each member.
    ListenerRefused {
        /// The LAN.
        lan: LanId,
        /// The node.
        node: NodeNumber,
        /// Why.
        why: ListenRefusal,
    },
    /// A node says that a packet leg of it ends where none can, or of a kind that it does not have there.
    LegAddressRefused {
        /// The node.
        node: NodeNumber,
        /// The leg.
        leg: LegNumber,
        /// The address.
        address: LegAddress,
    },
    /// Somebody has proven a key that no node has.
    UnknownKey {
        /// The key.
        key: PublicKey,
        /// Where it came from.
        from: LegAddress,
    },
    /// A node and this control node both have a packet leg and do not agree about its fabric.
    LegMismatched {
        /// The node.
        node: NodeNumber,
        /// The leg.
        leg: LegNumber,
    },
    /// A node has not been heard of for three heartbeats.
    Silent {
        /// The node.
        node: NodeNumber,
    },
    /// A node wrote what no node may write into its ring; the leg is given up.
    LegBroken {
        /// The node.
        node: NodeNumber,
        /// The leg.
        leg: LegNumber,
        /// What was wrong.
        error: rvi::RingFault,
    },
    /// A control message did not parse or may not be sent by a node in its state; it was skipped.
    BadControlMessage {
        /// The node.
        node: NodeNumber,
    },
}

impl fmt::Display for ControlNodeEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attached { name, node, interfaces } => {
                write!(f, "{name} (node {node}) attached with {interfaces} interfaces")
            }
            Self::Detached { name, node } => write!(f, "{name} (node {node}) has gone"),
            Self::Refused { name, node, reason } => write!(f, "{name} (node {node}) refused: {reason}"),
            Self::Fenced { node, process } => {
                write!(f, "process {:016x} of node {node} fenced: a newer one serves the node", process.0)
            }
            Self::LegMissing { node, peer, leg } => {
                write!(f, "node {node} lacks leg {leg} to node {peer}: both are introduced again")
            }
            Self::Granted { a, b, rvi } => write!(f, "direct RVI {rvi} granted to nodes {a} and {b}"),
            Self::Revoked { a, b, reason } => {
                let why = match reason {
                    RevokeReason::Idle => "idle",
                    RevokeReason::Cut => "cut by the administrator",
                    RevokeReason::Membership => "membership changed",
                    RevokeReason::Mismatch => "the ends do not agree on it",
                    RevokeReason::Ended => "over at one end",
                };
                write!(f, "direct RVIs of nodes {a} and {b} revoked: {why}")
            }
            Self::AddressConflict { lan, address, holder, node } => {
                write!(
                    f,
                    "node {node} wants {address} on LAN {lan}, which {holder} holds: the first keeps it"
                )
            }
            Self::AddressRefused { lan, address, node } => {
                write!(f, "address {address} of node {node} on LAN {lan} refused")
            }
            Self::ListenerRefused { lan, node, why: ListenRefusal::NotPermitted } => {
                write!(
                    f,
                    "node {node} listens promiscuously on LAN {lan} and may not: see `promiscuous` of [[lan.member]]"
                )
            }
            Self::ListenerRefused { lan, node, why: ListenRefusal::NoRoom } => {
                write!(
                    f,
                    "node {node} listens promiscuously on LAN {lan}, which has as many listeners as it may"
                )
            }
            Self::LegAddressRefused { node, leg, address } => {
                write!(f, "{} address {address} of leg {leg} of node {node} refused", address.kind())
            }
            Self::UnknownKey { key, from } => write!(f, "no node has the public key {key}, of {from}"),
            Self::LegMismatched { node, leg } => {
                write!(
                    f,
                    "leg {leg} crosses another fabric at node {node}: swapped cables or another platform file"
                )
            }
            Self::Silent { node } => write!(f, "node {node} has not been heard of for three heartbeats"),
            Self::LegBroken { node, leg, error } => {
                write!(f, "leg {leg} of node {node} is broken: {error:?}")
            }
            Self::BadControlMessage { node } => write!(f, "a control message from node {node} was refused"),
        }
    }
}
