//! The cluster proxy: which real server gets a packet for a cluster address, and that a flow stays where it is; and which router gets what comes to it for others.
//!
//! On the walk an IP packet for a cluster address comes here after the virtual LAN server has admitted it, or an uplink has
//! taken it in. It is read, its flow is looked up, else a server is chosen, and the verdict says who gets the unchanged frame; the answer
//! goes out without the proxy.
//!
//! | file | is |
//! |---|---|
//! | `config.rs` | what a cluster is made of, and its checks |
//! | `tables.rs` | the same, ready for lookups: made where it may take time; `rows.rs`, the order of servers in each row |
//! | `hash.rs` | the keyed hash of flows |
//! | `packet.rs` | what is read of a packet |
//! | `lines.rs` | tables of cache lines: claimed flows, half-open flows, fragments |
//! | `servers.rs` | the real servers, and whether their flows are alive |
//! | `service.rs` | the state of a service: health, turns; `service/checks.rs` |
//! | `proxy.rs` | [`ClusterProxy`]; `proxy/packets.rs` the walk of a packet, `proxy/choice.rs` the choice of a server, `proxy/claims.rs` what servers tell |
//! | `echo.rs` | the answer to an echo request |
//!
//! | the control node | does |
//! |---|---|
//! | has packets for one of the cluster's addresses | [`ClusterProxy::handle_batch`]; each goes to its hops, to all of [`ClusterProxy::reachable`], back to its sender, or nowhere |
//! | is asked what would become of a packet | [`ClusterProxy::for_one`] |
//! | gives such a packet to servers | [`ClusterProxy::manner`]; what a server gives back goes to [`ClusterProxy::handle_given_back`] |
//! | hears from a node | [`ClusterProxy::handle_claim`], [`ClusterProxy::handle_gone`], [`ClusterProxy::handle_told`], [`ClusterProxy::set_listens`] |
//! | gains or loses the session of a node | [`ClusterProxy::set_reachable`] |
//! | is told by the administrator | [`ClusterProxy::drain`], [`ClusterProxy::undrain`]; [`Tables::new`] beside the data path, then [`ClusterProxy::apply`] |
//! | takes the cluster over, or gives it away | [`ClusterProxy::handle_takeover`], with a question to all nodes for their flows; [`ClusterProxy::stand_by`] |
//! | sleeps until | [`ClusterProxy::poll_timeout`]; then [`ClusterProxy::handle_timeout`], and the checks that [`ClusterProxy::poll_check`] asks for |
//!
//! The rules stand in `spec/cluster.md`. Nothing here does I/O or reads a clock.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
mod echo;
mod hash;
mod lines;
mod packet;
mod proxy;
mod rows;
mod servers;
mod service;
mod tables;

pub use config::{
    Balance, CheckConfig, ClusterConfig, ConfigError, Protocol, ROUTING, ServerConfig, ServiceConfig,
    ServiceKey, Sticky,
};
pub use hash::{Flow, HashKey};
pub use proxy::{
    Claimed, ClusterCounters, ClusterProxy, Forward, HOPS_MAX, Hops, Limits, Manner, Refusal, Verdict,
};
pub use service::{CheckRequest, ServerCounters, ServiceCounters};
pub use tables::Tables;
