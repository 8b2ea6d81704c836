//! The control node of Weft, a virtual Ethernet fabric: virtual LAN servers, registration, grants, relay.
//!
//! [`control_node`] is the sans-IO machine, usable without `std`. With the feature `std` the rest runs it:
//! [`runtime`] on sockets and shared memory, [`store`] on disk, [`lab`] a whole platform as processes of one
//! machine, [`demo`] the main job on built-in settings, and [`cli`] the command line of it all.

#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

pub mod control_node;

#[cfg(feature = "std")]
pub mod cli;
#[cfg(feature = "std")]
pub mod demo;
#[cfg(feature = "std")]
pub mod keys;
#[cfg(feature = "std")]
pub mod lab;
#[cfg(feature = "std")]
pub mod management;
#[cfg(feature = "std")]
pub mod runtime;
#[cfg(feature = "std")]
pub mod socket_path;
#[cfg(feature = "std")]
pub mod store;

#[cfg(feature = "std")]
pub use platform::failure;
#[cfg(feature = "std")]
pub use switch_node::agent::signals;
