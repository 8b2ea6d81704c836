//! The core of Weft, a virtual Ethernet fabric: addresses, time, wire formats, drop reasons, the virtual
//! Ethernet driver that every node runs and the virtual LAN server that every control node runs.
//!
//! Nothing here does I/O, reads a clock or holds a lock; `now` is an argument and randomness is a seed given
//! at construction, so firmware, `switch-server`, the simulator and the fuzzers all run this same code.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod address;
pub mod capture;
pub mod checksum;
pub mod cluster;
pub mod counters;
pub mod driver;
pub mod drop_example;
pub mod drop_reason;
pub mod ethernet;
pub mod group;
pub mod ip;
pub mod key;
pub mod limits;
pub mod location;
pub mod mac_table;
pub mod random;
pub mod security;
pub mod server;
pub mod siphash;
pub mod super_frame;
pub mod time;
pub mod window;
pub mod wire;

pub use address::{
    BootTag, CabinetNumber, Channel, ControlNodeSerial, EtherAddress, EtherPort, FabricIndex, LanId,
    LegNumber, MacAddress, NodeNumber, PairEpoch, ProcessId, RviNumber, VifNumber,
};
pub use drop_reason::DropReason;
pub use key::{PublicKey, SecretKey};
pub use location::Location;
pub use time::Instant;
