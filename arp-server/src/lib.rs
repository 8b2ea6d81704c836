//! The ARP server of one virtual LAN: which member holds which IP address, and who gets an ARP or neighbour
//! discovery (ND) message.
//!
//! On the walk a frame of neighbour resolution comes here after the virtual LAN server has admitted it: the
//! message is checked, its sender is recorded, and the verdict says to whom the unchanged frame goes. The
//! caller adds the locations (S104) from [`ArpServer::lookup`] and copies the octets.
//!
//! The rules stand in `spec/arp.md`. Nothing here does I/O or knows the time: a binding lasts until it is
//! taken back or its member leaves.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod answer;
mod bindings;
pub mod build;
mod message;
mod server;

pub use bindings::{BindError, Binding, Owner};
pub use message::ArpKind;
pub use server::{ArpConfig, ArpMessage, ArpServer, ArpVerdict};
