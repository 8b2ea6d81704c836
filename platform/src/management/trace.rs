//! Traces, as `switchctl trace` asks for them.

use serde::{Deserialize, Serialize};

/// A frame whose way is asked about: body of `POST /v1/trace`. Nothing is sent; the machines that would carry it say what they
/// would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceRequest {
    /// Name of the LAN.
    pub lan: String,
    /// Name of the node whose stack sends it.
    pub from: String,
    /// The frame in hexadecimal digits, spaces and colons between them or not; or `arp ADDRESS`, `icmp ADDRESS`,
    /// `udp ADDRESS:PORT` or `tcp ADDRESS:PORT`.
    pub frame: String,
}

/// What would become of the frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TraceAnswer {
    /// The frame: who sends what to whom.
    pub frame: String,
    /// Every decision, in their order.
    pub steps: Vec<TraceStep>,
    /// Whose stacks would be given it, as `NODE/LAN`.
    pub delivered: Vec<String>,
}

/// A decision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TraceStep {
    /// Where: `NODE/LAN`, or the control node's name.
    #[serde(rename = "where")]
    pub place: String,
    /// What is decided.
    pub what: String,
    /// Where the rule stands, such as `spec/driver.md#barrier`; empty when no rule says it.
    pub rule: String,
}
