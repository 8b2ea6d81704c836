//! Faults on purpose: datagrams of a leg are lost, corrupted, doubled, overtaken and delayed as a drill or a test
//! asks for.
//!
//! A machine between a socket and what uses it: it reads no clock and draws no randomness but its seed's. Whoever
//! wants no faults has no stage at all. Rules: `spec/leg-udp.md`.

mod faults;
mod held;
mod line;
mod text;

use core::time::Duration;

use vlan_core::Instant;

pub use faults::{Burst, DELAY_MAX, Faults, Probability, REORDER_BY_MAX, Reorder};
pub use text::FaultsError;

use line::Line;

/// Datagrams of one direction that are held at a time, delayed or overtaken ones; what comes beyond is lost.
const HELD_DATAGRAMS_MAX: usize = 4096;
/// Octets of the same.
const HELD_OCTETS_MAX: usize = 16 << 20;
/// How long a datagram waits for others to overtake it: with nothing behind it, it goes on after that.
const OVERTAKE_WAIT: Duration = Duration::from_millis(5);

/// Which way a datagram goes, seen from this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Out to a peer.
    Egress,
    /// In from a peer.
    Ingress,
}

/// What became of the datagrams of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounters {
    /// Datagrams that came to the stage.
    pub seen: u64,
    /// Datagrams that left it, copies included.
    pub passed: u64,
    /// Datagrams that were lost as asked.
    pub lost: u64,
    /// Datagrams in which one bit was turned over.
    pub corrupted: u64,
    /// Copies that were made.
    pub duplicated: u64,
    /// Datagrams that were held back so that others overtake them.
    pub held_back: u64,
    /// Datagrams and copies that were lost because too many are held already.
    pub overflowed: u64,
}

/// The faults of one fabric's socket, each direction by itself. `A` is what a datagram needs besides its octets
/// to go on: the address of its peer.
#[derive(Debug)]
pub struct FaultStage<A> {
    egress: Line<A>,
    ingress: Line<A>,
}

impl<A: Copy> FaultStage<A> {
    /// Makes a stage that lets everything through.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { egress: Line::new(seed), ingress: Line::new(!seed) }
    }

    /// Lays down the faults of one direction from now on. What is held already goes on at its own time.
    pub fn set(&mut self, direction: Direction, faults: Faults) {
        self.line_mut(direction).set(faults);
    }

    /// The faults of one direction.
    #[must_use]
    pub fn faults(&self, direction: Direction) -> &Faults {
        self.line(direction).faults()
    }

    /// What became of the datagrams of one direction.
    #[must_use]
    pub fn counters(&self, direction: Direction) -> FaultCounters {
        self.line(direction).counters()
    }

    /// True when neither direction has a fault and nothing is held: the stage can be taken out.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        [&self.egress, &self.ingress].iter().all(|line| line.faults().is_none() && line.is_empty())
    }

    /// Takes one datagram from or to `address` and hands on what leaves now: nothing, the datagram, copies of it,
    /// others that were held for it.
    pub fn apply(
        &mut self,
        now: Instant,
        direction: Direction,
        address: A,
        datagram: &mut [u8],
        mut out: impl FnMut(A, &mut [u8]),
    ) {
        self.line_mut(direction).apply(now, address, datagram, &mut out);
    }

    /// Hands on what was held and is due, each direction in the order of its times.
    pub fn poll_due(&mut self, now: Instant, mut out: impl FnMut(Direction, A, &mut [u8])) {
        self.egress.poll_due(now, &mut |address, octets| out(Direction::Egress, address, octets));
        self.ingress.poll_due(now, &mut |address, octets| out(Direction::Ingress, address, octets));
    }

    /// When [`Self::poll_due`] has something to hand on, if nothing else comes.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.egress.poll_timeout(), self.ingress.poll_timeout()].into_iter().flatten().min()
    }

    fn line(&self, direction: Direction) -> &Line<A> {
        match direction {
            Direction::Egress => &self.egress,
            Direction::Ingress => &self.ingress,
        }
    }

    fn line_mut(&mut self, direction: Direction) -> &mut Line<A> {
        match direction {
            Direction::Egress => &mut self.egress,
            Direction::Ingress => &mut self.ingress,
        }
    }
}

#[cfg(test)]
mod tests;
