//! Traces: what a node would do with a frame, decision by decision.

use alloc::string::String;
use alloc::vec::Vec;

use super::fields::{Field, Reader, Writer, record};
use crate::address::{NodeNumber, VifNumber};
use crate::wire::tlv::TlvError;

/// How a traced frame comes to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TraceWay {
    /// Its stack has sent the frame.
    FromStack = 1,
    /// A message has come from another node, directly.
    Direct = 2,
    /// A message has come from the control node.
    Relay = 3,
}

/// What a node is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceOrder {
    /// Number of the request.
    pub id: u32,
    /// How the frame comes.
    pub way: TraceWay,
    /// To which interface.
    pub vif: VifNumber,
    /// From which node, when it comes directly.
    pub peer: NodeNumber,
    /// The frame from the stack, or the message.
    pub octets: Vec<u8>,
}

record!(TraceOrder { id: u32, way: TraceWay, vif: VifNumber, peer: NodeNumber, octets: Vec<u8> });

/// What becomes of a traced frame at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TraceEnd {
    /// It is dropped.
    Dropped = 1,
    /// It is held for a moment.
    Held = 2,
    /// It goes directly to another node.
    Direct = 3,
    /// It goes to the control node, on the relay channel.
    Relay = 4,
    /// The stack is given it.
    Delivered = 5,
}

/// A decision, and the rule that it follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceStep {
    /// What was decided, and by what.
    pub what: String,
    /// Where the rule stands, such as `spec/driver.md#barrier`; empty when none says it.
    pub rule: String,
}

record!(TraceStep { what: String, rule: String });

/// What a node would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// Number of the request.
    pub id: u32,
    /// Its decisions, in their order.
    pub steps: Vec<TraceStep>,
    /// What they come to.
    pub end: TraceEnd,
    /// The node that it goes to directly.
    pub peer: NodeNumber,
    /// The interface there.
    pub peer_vif: VifNumber,
    /// The message that it goes on in.
    pub message: Vec<u8>,
}

record!(Traced {
    id: u32,
    steps: Vec<TraceStep>,
    end: TraceEnd,
    peer: NodeNumber,
    peer_vif: VifNumber,
    message: Vec<u8>,
});

impl Field for TraceWay {
    const LEN_MIN: usize = 1;

    fn emit(&self, w: &mut Writer) {
        w.put(&(*self as u8));
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, TlvError> {
        match r.take::<u8>()? {
            1 => Ok(Self::FromStack),
            2 => Ok(Self::Direct),
            3 => Ok(Self::Relay),
            _ => Err(TlvError::BadField { field: "way" }),
        }
    }
}

impl Field for TraceEnd {
    const LEN_MIN: usize = 1;

    fn emit(&self, w: &mut Writer) {
        w.put(&(*self as u8));
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, TlvError> {
        match r.take::<u8>()? {
            1 => Ok(Self::Dropped),
            2 => Ok(Self::Held),
            3 => Ok(Self::Direct),
            4 => Ok(Self::Relay),
            5 => Ok(Self::Delivered),
            _ => Err(TlvError::BadField { field: "end" }),
        }
    }
}
