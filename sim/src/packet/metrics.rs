//! What a run measures, for the tables and for the bounds of single families.

use std::time::Duration;

use rvi::packet::sender::PacketLegState;
use vlan_core::{Channel, Instant};

use super::side::Side;

/// How long one message took.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// Who sent it.
    pub from: Side,
    /// Its channel.
    pub channel: Channel,
    /// When `send` took it.
    pub accepted: Instant,
    /// The time until it was delivered.
    pub took: Duration,
}

/// A leg's verdict, as packet families judge it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// It has not proven itself yet.
    Starting,
    /// It carries messages.
    Good,
    /// It carries none while another can.
    Suspect,
    /// It is probed only.
    Down,
}

impl Health {
    /// As the transport says it.
    #[must_use]
    pub const fn of(state: PacketLegState) -> Self {
        match state {
            PacketLegState::Starting => Self::Starting,
            PacketLegState::Good => Self::Good,
            PacketLegState::Suspect => Self::Suspect,
            PacketLegState::Down => Self::Down,
        }
    }
}

/// A change of a leg's health at its sender.
#[derive(Clone, Copy, Debug)]
pub struct Transition {
    /// When.
    pub at: Instant,
    /// Who judged.
    pub side: Side,
    /// The leg.
    pub leg: u8,
    /// What it is now.
    pub to: Health,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Each delivery, in order.
    pub latencies: Vec<Latency>,
    /// The longest time that a message took or waited while a promise about it held.
    pub promised_worst: Duration,
    /// Each change of a leg's health, in order.
    pub transitions: Vec<Transition>,
}

impl Metrics {
    /// The first time from `from` on that `side` found `leg` in the state `to`.
    #[must_use]
    pub fn first(&self, side: Side, leg: u8, to: Health, from: Instant) -> Option<Instant> {
        let found = |t: &&Transition| t.side == side && t.leg == leg && t.to == to && t.at >= from;
        self.transitions.iter().find(found).map(|t| t.at)
    }

    /// How often `side` found any leg in the state `to`.
    #[must_use]
    pub fn count(&self, to: Health) -> usize {
        self.transitions.iter().filter(|t| t.to == to).count()
    }

    /// The latencies of data messages accepted within a span, sorted.
    #[must_use]
    pub fn data_between(&self, from: Instant, until: Instant) -> Vec<Duration> {
        let within = |l: &&Latency| l.channel != Channel::CONTROL && l.accepted >= from && l.accepted < until;
        let mut all: Vec<_> = self.latencies.iter().filter(within).map(|l| l.took).collect();
        all.sort_unstable();
        all
    }
}

/// The value that so many of 1,000 sorted ones do not exceed.
#[must_use]
pub fn per_mille(sorted: &[Duration], share: usize) -> Duration {
    let place = (sorted.len() * share).div_ceil(1000).saturating_sub(1);
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let sorted: Vec<_> = (1..=1000).map(Duration::from_micros).collect();
        let us = |share| per_mille(&sorted, share).as_micros();
        assert_eq!((us(500), us(990), us(999), us(1000)), (500, 990, 999, 1000));
        assert_eq!(per_mille(&[], 500), Duration::ZERO);
    }
}
