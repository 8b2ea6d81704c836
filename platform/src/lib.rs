//! The platform file: everything of a platform in one declarative TOML file, its model, its parser and its checks.
//!
//! [`Platform::load`] reads a file, [`Platform::parse`] a text. Both give either a [`Platform`] in which every
//! reference, range and address has been checked, or a [`PlatformError`] with **all** the mistakes, each with line,
//! column and what to do (E20). The rules stand in `spec/platform-file.md`.
//!
//! | file | is |
//! |---|---|
//! | `model.rs` | what a checked file says |
//! | `text.rs`, `reader.rs` | positions, and typed reading of TOML tables that remembers them |
//! | `lab_network.rs` | which address each process has in a fabric's lab network |
//! | `sections.rs` | `[platform]`, `[[control-node]]`, `[[node]]`, `[[lab.outside]]` |
//! | `sections/fabric.rs` | `[[fabric]]` |
//! | `sections/legs.rs` | `legs` of control nodes and nodes |
//! | `sections/lan.rs`, `member.rs`, `cluster.rs` | `[[lan]]` and what lies in it |
//! | `registry.rs` | what may stand only once: names, numbers, addresses, paths |
//! | `changes.rs` | what differs between two files |
//! | `value.rs` | the small languages inside strings: legs, addresses, durations |
//! | `management.rs` | the types of the management interface and of a running lab |
//! | `failure.rs` | how the programs fail: `error:`, `hint:` and the exit code |
//!
//! [`Platform::load`]: model::Platform::load
//! [`Platform::parse`]: model::Platform::parse

#![forbid(unsafe_code)]

mod changes;
pub mod error;
pub mod failure;
mod lab_network;
pub mod management;
pub mod model;
mod reader;
mod registry;
mod sections;
mod text;
mod value;

pub use changes::Changes;
pub use error::{Mistake, NotBuilt, PlatformError, Position};
pub use lab_network::CONTROL_NODE_UDP_PORT;
pub use model::{
    ArpMode, Attach, Balance, Check, CheckKind, Cluster, ClusterServer, ControlNode, DefaultRouter, Driver,
    EtherDriver, Fabric, LanMulticast, Leg, Management, Member, Node, OutsideHost, Platform, Protocol,
    Service, Sticky, Subnet, Uplink, UplinkMode, UplinkPort,
};
pub use vlan_core::security::{Limits, PortSecurity, Rate, Roles};
pub use vlan_core::wire::control::InterfaceAddress;
