//! What a node tells its operator.

use alloc::string::String;
use core::fmt;

use vlan_core::{LegNumber, NodeNumber, RviNumber, VifNumber};

use crate::node::PeerId;

/// Something the operator may want to know; the host logs it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeEvent {
    /// A control node has accepted this node.
    Attached {
        /// The control node.
        control_node: u8,
        /// The epoch of its configuration.
        epoch: u64,
    },
    /// The last leg to a control node has gone.
    Detached {
        /// The control node.
        control_node: u8,
    },
    /// A control node that is reached by packets has said that the session is over: it ends, or is done with this node.
    SessionClosed {
        /// The control node.
        control_node: u8,
    },
    /// A control node has refused this node.
    Refused {
        /// The control node.
        control_node: u8,
        /// Why.
        reason: String,
    },
    /// A direct RVI was granted.
    Granted {
        /// The RVI.
        rvi: RviNumber,
        /// The node at the other end.
        peer: NodeNumber,
    },
    /// A direct association has ended.
    DirectEnded {
        /// The node at the other end.
        peer: NodeNumber,
        /// True when the other process died.
        died: bool,
        /// Messages that went back to be relayed.
        returned: usize,
        /// Messages lost with the peer.
        lost: u64,
    },
    /// A leg is up.
    LegUp {
        /// The other end.
        peer: PeerId,
        /// The leg.
        leg: LegNumber,
    },
    /// A leg has gone.
    LegGone {
        /// The other end.
        peer: PeerId,
        /// The leg.
        leg: LegNumber,
    },
    /// A peer wrote what no peer may write; the leg is given up.
    LegBroken {
        /// The other end.
        peer: PeerId,
        /// The leg.
        leg: LegNumber,
        /// What was wrong.
        error: rvi::RingFault,
    },
    /// A packet leg is now good for this.
    PacketLeg {
        /// The other end.
        peer: PeerId,
        /// The leg.
        leg: LegNumber,
        /// What it is good for.
        state: rvi::packet::sender::PacketLegState,
    },
    /// No packet leg to a peer answers: what was accepted is kept, and nothing more is.
    PacketsSilent {
        /// The other end.
        peer: PeerId,
    },
    /// A packet leg to a peer answers again.
    PacketsHeard {
        /// The other end.
        peer: PeerId,
    },
    /// Both ends have a packet leg and do not agree about its fabric.
    PacketLegMismatched {
        /// The other end.
        peer: PeerId,
        /// The leg.
        leg: LegNumber,
    },
    /// An interface is promiscuous and may not listen: it gets its own frames only.
    MayNotListen {
        /// The interface.
        vif: VifNumber,
    },
    /// A peer has not answered heartbeats.
    Silent {
        /// The other end.
        peer: PeerId,
    },
    /// A control message did not parse or was not for this end; it was skipped.
    BadControlMessage {
        /// The other end.
        peer: PeerId,
    },
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ControlNode(index) => write!(f, "control node {index}"),
            Self::Node(node) => write!(f, "node {node}"),
        }
    }
}

impl fmt::Display for NodeEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attached { control_node, epoch } => {
                write!(f, "attached to control node {control_node}, configuration {epoch}")
            }
            Self::Detached { control_node } => write!(f, "control node {control_node} has gone"),
            Self::SessionClosed { control_node } => {
                write!(f, "control node {control_node} has closed the session")
            }
            Self::Refused { control_node, reason } => {
                write!(f, "refused by control node {control_node}: {reason}")
            }
            Self::Granted { rvi, peer } => write!(f, "direct RVI {rvi} to node {peer} granted"),
            Self::DirectEnded { peer, died, returned, lost } => {
                let how = if *died { "died" } else { "closed" };
                write!(f, "direct association with node {peer} {how}: {returned} returned, {lost} lost")
            }
            Self::LegUp { peer, leg } => write!(f, "leg {leg} to {peer} is up"),
            Self::LegGone { peer, leg } => write!(f, "leg {leg} to {peer} has gone"),
            Self::LegBroken { peer, leg, error } => write!(f, "leg {leg} to {peer} is broken: {error:?}"),
            Self::PacketLeg { peer, leg, state } => write!(f, "packet leg {leg} to {peer}: {state:?}"),
            Self::PacketsSilent { peer } => write!(f, "no packet leg to {peer} answers"),
            Self::PacketsHeard { peer } => write!(f, "{peer} answers again"),
            Self::PacketLegMismatched { peer, leg } => {
                write!(
                    f,
                    "packet leg {leg} to {peer} crosses another fabric there: check cables and platform files"
                )
            }
            Self::MayNotListen { vif } => {
                write!(f, "interface {vif} is promiscuous and may not listen: it gets its own frames only")
            }
            Self::Silent { peer } => write!(f, "{peer} does not answer heartbeats"),
            Self::BadControlMessage { peer } => write!(f, "a control message from {peer} was refused"),
        }
    }
}
