//! Reports: a node's counters.

use alloc::string::String;

use super::fields::{Field, Reader, Writer, record};
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
