//! The TLV layer: what every message of the fabric starts with (`spec/tlv.md`).
//!
//! A frame travels behind a [`frame::FrameHeader`]; everything else is a [`control::ControlMessage`].

pub mod control;
pub mod frame;
pub mod tlv;

pub use control::ControlMessage;
pub use frame::{FrameHeader, FrameKind, Vnet};
pub use tlv::{TlvError, TlvHeader, UnknownAction};
