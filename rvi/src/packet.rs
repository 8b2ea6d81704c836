//! Legs that leave the host: packets that can be lost, delayed, reordered, corrupted or forged.
//!
//! What happens to a message here: [`transport`] gives it room, splits it over packets and keeps it until the peer has
//! acknowledged it; [`session`] seals each packet; the peer's session opens it, and its [`receiver`] puts the pieces together, removes
//! what came before, and hands messages on in the order of their lanes. Rules: `spec/packet.md`.

pub mod endpoint;
pub mod ether_frame;
pub mod port;
pub mod probe_budget;
pub mod receiver;
pub mod sender;
pub mod session;
pub mod transport;
pub mod wire;
