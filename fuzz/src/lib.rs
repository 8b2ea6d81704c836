//! The bodies of the fuzz targets, one module each, with their seeds.
//!
//! A body takes any octets, drives one parser or machine with them and panics when a rule is broken: a panic
//! is a finding, nothing else is. `cargo +nightly fuzz run TARGET --features fuzz` explores;
//! `tests/replay.rs` runs every seed and every file of `corpus/` through the same bodies on stable.

pub mod arena;
pub mod arp;
pub mod capture_filter;
pub mod cluster_proxy;
pub mod control_node;
pub mod driver;
pub mod ether_frame;
pub mod groups;
pub mod lan_proxy;
pub mod lan_server;
pub mod numbers;
pub mod packet_end;
pub mod packet_payload;
pub mod packet_transport;
pub mod platform_file;
pub mod registration;
pub mod ring;
pub mod script;
pub mod session;
pub mod super_frame;
pub mod tlv;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, also of its program and of its folder in `corpus/`.
    pub name: &'static str,
    /// Its body.
    pub run: fn(&[u8]),
    /// Inputs to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "tlv", run: tlv::run, seeds: tlv::seeds },
    Target { name: "registration", run: registration::run, seeds: registration::seeds },
    Target { name: "arp", run: arp::run, seeds: arp::seeds },
    Target { name: "driver", run: driver::run, seeds: driver::seeds },
    Target { name: "lan_server", run: lan_server::run, seeds: lan_server::seeds },
    Target { name: "platform_file", run: platform_file::run, seeds: platform_file::seeds },
    Target { name: "ring", run: ring::run, seeds: ring::seeds },
    Target { name: "control_node", run: control_node::run, seeds: control_node::seeds },
    Target { name: "session", run: session::run, seeds: session::seeds },
    Target { name: "packet_payload", run: packet_payload::run, seeds: packet_payload::seeds },
    Target { name: "ether_frame", run: ether_frame::run, seeds: ether_frame::seeds },
    Target { name: "capture_filter", run: capture_filter::run, seeds: capture_filter::seeds },
    Target { name: "groups", run: groups::run, seeds: groups::seeds },
    Target { name: "packet_transport", run: packet_transport::run, seeds: packet_transport::seeds },
    Target { name: "super_frame", run: super_frame::run, seeds: super_frame::seeds },
    Target { name: "arena", run: arena::run, seeds: arena::seeds },
    Target { name: "lan_proxy", run: lan_proxy::run, seeds: lan_proxy::seeds },
    Target { name: "cluster_proxy", run: cluster_proxy::run, seeds: cluster_proxy::seeds },
];
