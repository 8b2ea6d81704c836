//! The broadcast arena of a LAN: memory that its control node writes and its members only read, where a group frame lies once
//! for all of them.
//!
//! What happens to a frame here: [`ArenaWriter::put`] copies it in behind its header; each member gets a
//! [`vlan_core::wire::Reference`] in its ring, and [`ArenaReader::read`] copies the frame out to private memory, where it is
//! checked and delivered. Rules: `spec/arena.md`.

pub mod layout;
mod reader;
mod writer;

pub use layout::{ArenaConfig, ArenaLayout};
pub use reader::{ArenaFault, ArenaReader};
pub use writer::ArenaWriter;
