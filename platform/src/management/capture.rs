//! Captures, as `switchctl capture` asks for them.

use serde::{Deserialize, Serialize};

/// The header of the answer to a [`CaptureRequest`] that has its number, for a [`CaptureEnd`].
pub const CAPTURE_HEADER: &str = "weft-capture";

/// What to capture: body of `POST /v1/capture`. The answer is pcapng, block by block as frames pass, until a
/// [`CaptureEnd`] names it or the connection closes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureRequest {
    /// Frames of this LAN: at every member's interface, or at those of `node`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lan: Option<String>,
    /// Frames at the interfaces of this node, on all its LANs or on `lan`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Messages between these two, nodes or one the control node, as the first node sees them; in place of `lan` and
    /// `node`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rvi: Option<[String; 2]>,
    /// Which way; by default what goes for a whole LAN, so that each frame is there once, and both for the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<CaptureDirection>,
    /// An expression that says what is kept; empty keeps everything.
    #[serde(default)]
    pub filter: String,
    /// Octets of each frame that are wanted; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snap: Option<u32>,
}

/// Which way what is captured goes, seen from the interface or the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaptureDirection {
    /// What comes.
    In,
    /// What goes.
    Out,
    /// Either.
    Both,
}

/// Ends a capture: body of `POST /v1/capture/end`, and its answer. What has been copied is still sent, then how many frames
/// were seen and lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureEnd {
    /// Its number.
    pub capture: u32,
}
