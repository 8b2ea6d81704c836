//! Captures: what a node is asked to copy, and for how long.

use alloc::vec::Vec;

use super::fields::{Field, Reader, Writer, record};
use crate::address::{NodeNumber, VifNumber};
use crate::wire::tlv::TlvError;

/// Where a node taps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CapturePoint {
    /// A virtual interface: the frames between it and its stack.
    Interface(VifNumber),
    /// The association with another node: the messages that cross it.
    Node(NodeNumber),
    /// The control RVI towards the control node that asks.
    ControlNode,
}

/// Which way what is captured goes, seen from the interface or the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CaptureDirections {
    /// What comes: frames that the stack is given, messages that arrive.
    In = 1,
    /// What goes: frames that the stack sent, messages that leave.
    Out = 2,
    /// All of it.
    Both = 3,
}

impl CaptureDirections {
    /// True when what comes is wanted.
    #[must_use]
    pub const fn has_in(self) -> bool {
        self as u8 & 1 != 0
    }

    /// True when what goes is wanted.
    #[must_use]
    pub const fn has_out(self) -> bool {
        self as u8 & 2 != 0
    }
}

/// What a node is to capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureOrder {
    /// Number of the capture at the control node that asks.
    pub id: u32,
    /// Where.
    pub point: CapturePoint,
    /// Which way.
    pub directions: CaptureDirections,
    /// Octets of each frame that are wanted.
    pub snap_octets: u32,
    /// Octets that may be under way before more are asked for.
    pub window_octets: u32,
    /// The filter, a program of [`crate::capture::Filter`]; empty keeps everything.
    pub filter: Vec<u8>,
}

record!(CaptureOrder {
    id: u32,
    point: CapturePoint,
    directions: CaptureDirections,
    snap_octets: u32,
    window_octets: u32,
    filter: Vec<u8>,
});

impl Field for CapturePoint {
    const LEN_MIN: usize = 3;

    fn emit(&self, w: &mut Writer) {
        let (kind, number) = match *self {
            Self::Interface(vif) => (1_u8, vif.0),
            Self::Node(node) => (2, node.0),
            Self::ControlNode => (3, 0),
        };
        w.put(&kind).put(&number);
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, TlvError> {
        match (r.take::<u8>()?, r.take::<u16>()?) {
            (1, number) => Ok(Self::Interface(VifNumber(number))),
            (2, number) => Ok(Self::Node(NodeNumber(number))),
            (3, 0) => Ok(Self::ControlNode),
            _ => Err(TlvError::BadField { field: "capture point" }),
        }
    }
}

impl Field for CaptureDirections {
    const LEN_MIN: usize = 1;

    fn emit(&self, w: &mut Writer) {
        w.put(&(*self as u8));
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, TlvError> {
        match r.take::<u8>()? {
            1 => Ok(Self::In),
            2 => Ok(Self::Out),
            3 => Ok(Self::Both),
            _ => Err(TlvError::BadField { field: "directions" }),
        }
    }
}
