//! Reliable virtual interfaces (RVI): an *association* of two processes owns *legs* through independent
//! fabrics, and carries *channels* of messages over them, exactly once and in order per *lane*.
//!
//! [`Association`] is a machine: it does no I/O, reads no clock and draws no randomness. A shared-memory leg
//! ([`ShmLeg`]) is memory that the machine reads and writes itself; making, passing and mapping that memory,
//! sockets, doorbells and the handshake are the host's work (feature `std`, module `host`).
//!
//! What happens to a frame here: `send` copies it into a ring of the own region, `publish` makes it visible,
//! the peer's `receive` gives it to the driver. The rules stand in `spec/rvi.md` and `spec/ring.md`.

#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

pub mod arena;
pub mod association;
pub mod gather;
#[cfg(feature = "std")]
pub mod host;
pub mod keys;
pub mod message;
pub mod packet;
pub mod region;
pub mod ring;
pub mod shm_leg;

pub use arena::{ArenaConfig, ArenaFault, ArenaReader, ArenaWriter};
pub use association::{
    Association, AssociationConfig, AssociationEvent, Hold, LegDownReason, LegEnd, LegState, LegStatus,
    RingMark, Scheduler, SendError, Sent, SessionTag, Unsent, Waiting,
};
pub use gather::{Body, Framed, Gather};
pub use message::{Message, Part, Scratch, SharedOctets};
pub use region::Region;
pub use ring::RingFault;
pub use shm_leg::{ShmConfig, ShmLeg, ShmLegError};
