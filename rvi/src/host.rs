//! What a Linux host does around the machine: memory shared between processes, leg sockets, keys, the Noise
//! handshake and the set-up of a leg.
//!
//! Nothing here blocks, and nothing a peer does on its socket can make it block, leak a descriptor, panic or
//! grow memory: every call is non-blocking, every datagram has a fixed room, and a datagram of any other form
//! ends the leg. The rules stand in `spec/leg-setup.md`. The pump that owns the sockets calls `advance` while
//! a leg is being set up and [`EstablishedLeg::receive`] afterwards, each time the socket is readable
//! (level-triggered: one call need not take all that waits). It bounds what is left to it: how long a set-up
//! may take ([`SETUP_TIME_MAX`]), how many are under way, and how many legs one node may have.
//!
//! ```text
//! NodeControlLeg  --HELLO-->  ControlNodeLeg     Noise IK: who are you, which life, which leg
//!                 <-ANSWER--
//!                 --SETUP+memfd-->               sealed with the handshake's keys
//!                 <-SETUP+memfd--
//! PairLeg         <-SETUP+memfd-> PairLeg        on a socketpair that the control node made
//! ```

mod descriptor;
mod established;
pub mod ether;
pub mod fault;
mod handshake;
mod keys;
mod leg_socket;
mod mapping;
mod memfd;
pub mod packet_socket;
pub mod packets;
mod setup;
mod socket_path;
pub mod tap;
pub mod udp;
mod wire;
pub mod xdp_socket;

pub use crate::keys::{KEY_LEN, PrivateKey, PublicKey};
pub use established::{Datagram, EstablishedLeg};
pub use handshake::{HandshakeError, Initiator, Responder, Seal};
pub use keys::{KeyError, load_public, load_secret, random_octets, random_u64};
pub use leg_socket::{LegSocket, LegViolation, ReceiveError, Received, Room, SendError};
pub use memfd::{AcceptError, CreateError, OwnMemory, accept_peer_memory};
pub use setup::{ControlNodeLeg, NodeControlLeg, PairLeg, SETUP_TIME_MAX, SetupError, SetupProgress};
pub use socket_path::{LegListener, ListenError};
pub use wire::{ArenaOffer, DATAGRAM_LEN_MAX, DatagramBuf, NodeHello, PeerEnd, RefusalReason, VERSION};
