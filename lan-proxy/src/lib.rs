//! The LAN proxy: the uplink of a virtual LAN, which bridges it to one network outside.
//!
//! On the walk a frame that leaves its LAN comes here after the virtual LAN server has admitted it: it gets the MAC and the
//! tag that outside is to see, its checksum is completed and it is cut into what the device takes. A frame from outside is
//! judged here before it may go inside, and the verdict says to whom.
//!
//! | file | is |
//! |---|---|
//! | `proxy.rs` | [`LanProxy`], the uplink of one LAN; `proxy/outward.rs`, `proxy/inward.rs` its two ways |
//! | `tag.rs` | 802.1Q tags, and which LAN of a device a frame is for |
//! | `translate.rs` | MACs in frames, ARP and ND |
//! | `edge.rs` | sums, segments, fragments and tags of what goes outside; `edge/fragments.rs` |
//! | `too_big.rs` | the errors for what is too long for outside |
//! | `sources.rs` | who has sent outside just now |
//! | `audit.rs` | what outside may expect of a frame, for tests, fuzzers and simulators |
//!
//! The rules stand in `spec/uplink.md`. Nothing of the machine does I/O or reads a clock; with the feature `std` there is also `nic`, the
//! devices of uplinks on Linux.

#![no_std]
#![cfg_attr(not(feature = "std"), forbid(unsafe_code))]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

pub mod audit;
mod edge;
#[cfg(feature = "std")]
pub mod nic;
mod proxy;
mod sources;
mod tag;
mod too_big;
mod translate;

pub use edge::{Device, MTU_MIN};
pub use proxy::{ConfigError, Holder, Inside, Inward, LanProxy, Mode, Outward, UplinkConfig, UplinkCounters};
pub use tag::{Trunk, TrunkError, Vid};
