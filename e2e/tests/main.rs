//! All end-to-end tests, as one program: they share what they link.
//!
//!     cargo test --release --workspace --test e2e -- --test-threads=1 [NAME]
//!
//! Most need the machine for themselves. Those in `calm/` do not: `cargo xtask test` runs several of them at a time.

mod apply;
mod apply_nodes;
mod arena;
mod calm;
mod capture;
mod cluster;
mod command_line;
mod ether_legs;
mod failure;
mod multicast;
mod path_length;
mod promiscuous;
mod relay_legs;
mod super_frames;
mod udp_legs;
mod udp_replay;
mod uplink;
