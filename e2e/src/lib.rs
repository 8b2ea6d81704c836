//! What the end-to-end tests stand on: a lab of real processes, commands inside its namespaces, and numbered
//! traffic between real IP stacks.
//!
//! The tests are one program, `tests/main.rs`, which names the command to run it. They need root (named namespaces) and the
//! programs that `cargo xtask test --install` installs. They send traffic only inside namespaces that the lab made.

pub mod agent;
pub mod arp_load;
pub mod capture;
pub mod command;
pub mod cpio;
pub mod drill;
pub mod forged;
pub mod generator;
pub mod groups;
pub mod guest;
pub mod hostile;
pub mod lab;
pub mod pair;
pub mod pcap;
pub mod platform;
pub mod raw;
pub mod stock;
pub mod storm;
pub mod tcpdump;
pub mod traffic;

pub use command::{Done, run};
pub use lab::{Lab, program};
pub use tcpdump::Tcpdump;
