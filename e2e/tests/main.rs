//! All end-to-end tests, as one program: they share what they link.
//!
//!     cargo test --release --workspace --test e2e -- --test-threads=1 [NAME]

mod apply;
mod apply_nodes;
mod arena;
mod arp;
mod capture;
mod command_line;
mod dissector;
mod drops;
mod ether_legs;
mod failure;
mod lab_network;
mod lan;
mod multicast;
mod path_length;
mod port_security;
mod promiscuous;
mod relay_legs;
mod stations;
mod stock_programs;
mod super_frames;
mod trace;
mod udp_legs;
mod udp_replay;
mod uplink;
