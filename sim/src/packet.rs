//! The simulator of packet legs: one association over two fabrics and a relay, with everything that networks do.
//!
//! Two `PacketTransport`s as they ship, each with a clock of its own, a socket and a consumer; a [`network`] that
//! loses, delays, doubles, reorders and corrupts; [`ledger`] and [`world`] judge every packet, delivery and verdict.
//! [`families`] are the named situations, [`tables`] the figures of `docs/`.

pub mod chance;
pub mod clock;
pub mod command;
pub mod coverage;
pub mod end;
pub mod families;
pub mod ledger;
pub mod link;
pub mod metrics;
pub mod network;
pub mod numbers;
pub mod plan;
pub mod runner;
pub mod seal;
pub mod side;
pub mod tables;
pub mod windows;
pub mod world;

/// A leg's id, as the transport knows it.
fn packet_leg(id: u8) -> rvi::packet::wire::PacketLeg {
    rvi::packet::wire::PacketLeg::new(id).expect("plans name legs that exist")
}
