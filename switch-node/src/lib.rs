//! A node of Weft, a virtual Ethernet fabric.
//!
//! [`node`] is the machine, usable without `std`: the agent, the simulator and firmware host the same code. With
//! the feature `std`, the rest is the agent: TAP interfaces in any network namespace, legs to control nodes
//! and other nodes, and the pump that drives it all.

#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

#[cfg(feature = "std")]
pub mod agent;
#[cfg(feature = "std")]
pub mod cli;
#[cfg(feature = "std")]
pub mod legs;
pub mod node;

pub use node::{
    Accept, Batch, Delivery, FrameSink, InterfaceState, Node, NodeConfig, NodeEvent, Output, PeerId,
};
