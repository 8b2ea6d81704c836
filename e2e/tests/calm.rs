//! Tests that mostly wait: none measures a time or a rate, or counts losses under load, so several of them run at a time.

mod arp;
mod dissector;
mod drops;
mod lab_network;
mod lan;
mod link_dependency;
mod port_security;
mod privacy;
mod snooping;
mod stations;
mod stock_programs;
mod trace;
