//! Reports: a node's counters, and the last frames that it dropped.

use alloc::string::String;
use alloc::vec::Vec;

use super::fields::{Field, Reader, Writer, record};
use crate::address::VifNumber;
use crate::wire::tlv::TlvError;

/// One value of a node's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportItem {
    /// A dotted name such as `vif.1.tx.frames`, `vif.1.drop.expired` or `rvi.7.rx.octets`; at most 64 octets.
    pub name: String,
    /// The value.
    pub value: u64,
}

record!(ReportItem { name: String, value: u64 });

/// A frame that a node dropped: the last one for its interface and reason, without what its headers carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedDrop {
    /// The interface.
    pub vif: VifNumber,
    /// The reason's name.
    pub reason: String,
    /// How long ago, in milliseconds.
    pub age_ms: u64,
    /// Octets of the frame.
    pub frame_octets: u32,
    /// Its headers.
    pub headers: Vec<u8>,
}

record!(ReportedDrop { vif: VifNumber, reason: String, age_ms: u64, frame_octets: u32, headers: Vec<u8> });
