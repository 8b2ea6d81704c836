//! Room for packets that go out together.

use alloc::vec;
use alloc::vec::Vec;

use crate::packet::wire::PacketLeg;

/// Packets that lie one behind the other in a [`TransmitBuffer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The leg that they go by.
    pub leg: PacketLeg,
    /// Octets of each packet but the last, which may be shorter.
    pub segment_len: usize,
    /// How many packets.
    pub count: usize,
    /// Octets of all of them.
    pub len: usize,
}

/// Memory for one batch of packets, used again and again.
#[derive(Debug)]
pub struct TransmitBuffer {
    octets: Vec<u8>,
    segments_max: usize,
    len: usize,
}

impl TransmitBuffer {
    /// Makes room for `segments_max` packets with `octets_max` octets in all; at least one packet fits only if `octets_max` is
    /// no less than the longest packet of a leg.
    #[must_use]
    pub fn new(segments_max: usize, octets_max: usize) -> Self {
        Self { octets: vec![0; octets_max], segments_max: segments_max.max(1), len: 0 }
    }

    /// The packets of the last batch, one behind the other.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.octets[..self.len]
    }

    /// The same, to be sealed in place.
    pub fn octets_mut(&mut self) -> &mut [u8] {
        &mut self.octets[..self.len]
    }

    /// Packets of a batch at most.
    #[must_use]
    pub fn segments_max(&self) -> usize {
        self.segments_max
    }

    /// Room for `len` octets from `start` on.
    pub(in crate::packet) fn room(&mut self, start: usize, len: usize) -> Option<&mut [u8]> {
        self.octets.get_mut(start..start + len)
    }

    /// True when `len` octets fit.
    pub(in crate::packet) fn has_room(&self, len: usize) -> bool {
        len <= self.octets.len()
    }

    /// The batch has `len` octets.
    pub(in crate::packet) fn set_len(&mut self, len: usize) {
        self.len = len;
    }
}
