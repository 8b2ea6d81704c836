//! Which packets of a leg have arrived: what acks are made of.

use alloc::vec::Vec;

use vlan_core::Instant;

use crate::packet::wire::{AckBlock, AckRanges, PacketHeader, PacketLeg};

/// Ranges of packet numbers that are remembered of a leg: the newest.
const RANGES_MAX: usize = 64;

/// What the numbers of a leg say of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberVerdict {
    /// It did not come before.
    New,
    /// It came before.
    Duplicate,
    /// It lies below what is remembered.
    TooOld,
}

/// The packet numbers that arrived by one leg.
#[derive(Debug)]
pub(super) struct Arrivals {
    leg: PacketLeg,
    /// Ranges (lowest, highest), rising, apart from each other.
    ranges: Vec<(u64, u64)>,
    /// Numbers below this are forgotten.
    floor: u64,
    rx_count: u32,
    largest_at: Instant,
    largest_ts_us: u32,
}

impl Arrivals {
    /// A leg by which nothing came yet.
    pub fn new(leg: PacketLeg) -> Self {
        let (floor, rx_count, largest_at, largest_ts_us) = (0, 0, Instant::ZERO, 0);
        Self { leg, ranges: Vec::new(), floor, rx_count, largest_at, largest_ts_us }
    }

    /// The highest number that arrived.
    #[inline]
    pub fn largest(&self) -> Option<u64> {
        self.ranges.last().map(|&(_, highest)| highest)
    }

    /// What is known of a number.
    #[inline]
    pub fn verdict(&self, number: u64) -> NumberVerdict {
        let Some(largest) = self.largest() else { return NumberVerdict::New };
        if number > largest {
            return NumberVerdict::New;
        }
        if number < self.floor {
            return NumberVerdict::TooOld;
        }
        let known = self.ranges.iter().rev().find(|&&(lowest, _)| lowest <= number);
        if known.is_some_and(|&(_, highest)| number <= highest) {
            NumberVerdict::Duplicate
        } else {
            NumberVerdict::New
        }
    }

    /// Notes a packet whose number is new. True when it is the first to show that one before it is missing.
    #[inline]
    pub fn note(&mut self, now: Instant, header: &PacketHeader) -> bool {
        let number = header.number;
        self.rx_count = self.rx_count.wrapping_add(1);
        let expected = self.largest().map_or(0, |largest| largest + 1);
        if number < expected {
            self.insert_below(number);
            return false;
        }
        self.largest_at = now;
        self.largest_ts_us = header.ts_us;
        match self.ranges.last_mut() {
            Some((_, highest)) if number == expected => *highest = number,
            _ => {
                self.make_room();
                self.ranges.push((number, number));
            }
        }
        number > expected
    }

    /// Puts a number below the highest into the ranges.
    #[cold]
    fn insert_below(&mut self, number: u64) {
        // The first range that lies above the number; there is one, and its lowest is above the number.
        let above = self.ranges.partition_point(|&(lowest, _)| lowest <= number);
        let joins_above = self.ranges.get(above).is_some_and(|&(lowest, _)| lowest == number + 1);
        let joins_below = above > 0 && self.ranges[above - 1].1 + 1 == number;
        match (joins_below, joins_above) {
            (true, true) => {
                let (_, highest) = self.ranges.remove(above);
                self.ranges[above - 1].1 = highest;
            }
            (true, false) => self.ranges[above - 1].1 = number,
            (false, true) => self.ranges[above].0 = number,
            (false, false) => {
                if self.ranges.len() < RANGES_MAX {
                    self.ranges.insert(above, (number, number));
                } else if above > 0 {
                    self.make_room();
                    self.ranges.insert(above - 1, (number, number));
                } else {
                    self.floor = number + 1;
                }
            }
        }
    }

    /// Forgets the lowest range when there are too many.
    fn make_room(&mut self) {
        if self.ranges.len() >= RANGES_MAX {
            let (_, highest) = self.ranges.remove(0);
            self.floor = highest + 1;
        }
    }

    /// The newest ranges that fit into an ack.
    pub fn ack_ranges(&self) -> AckRanges {
        let mut ranges = AckRanges::default();
        for &(lowest, highest) in self.ranges.iter().rev() {
            if !ranges.push(lowest, highest) {
                break;
            }
        }
        ranges
    }

    /// The leg's block of an ack at `now`; `None` when nothing came by it.
    pub fn ack_block(&self, now: Instant) -> Option<AckBlock> {
        let largest = self.largest()?;
        let delay_us = u16::try_from(now.since(self.largest_at).as_micros()).unwrap_or(u16::MAX);
        let (leg, rx_count, ts_echo) = (self.leg, self.rx_count, self.largest_ts_us);
        Some(AckBlock { leg, delay_us, rx_count, largest, ts_echo, ranges: self.ack_ranges() })
    }

    /// Octets of memory that the leg takes.
    #[cfg(test)]
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.ranges.capacity() * size_of::<(u64, u64)>()
    }
}
