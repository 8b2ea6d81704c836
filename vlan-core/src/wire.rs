//! The TLV layer: what every message of the fabric starts with (`spec/tlv.md`).
//!
//! A frame travels behind a [`frame::FrameHeader`], a packet of a relay leg behind a [`relay::RelayedPacket`], captured
//! copies behind a [`captured::CapturedHeader`], a frame in an arena is told of by a [`reference::Reference`]; everything else is a [`control::ControlMessage`].

pub mod captured;
pub mod control;
pub mod frame;
pub mod reference;
pub mod relay;
pub mod tlv;

pub use captured::{CAPTURED_HEADER_LEN, CapturedHeader, CapturedRecord};
pub use control::ControlMessage;
pub use frame::{FrameHeader, FrameKind, Vnet};
pub use reference::{REFERENCE, REFERENCE_LEN, Reference};
pub use relay::{RELAYED_HEADER_LEN, RelayedPacket};
pub use tlv::{TlvError, TlvHeader, UnknownAction};
