//! Reads fuzz octets as a sequence of operations and their arguments.

use vlan_core::{Instant, MacAddress};

/// Fuzz input, taken from the front. Every method gives `None` at the end, which ends the run.
#[derive(Clone, Debug)]
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    /// Starts at the front of `data`.
    #[must_use]
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// The next octet.
    pub fn octet(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next octet, folded to a number below `bound`.
    pub fn below(&mut self, bound: u8) -> Option<u8> {
        Some(self.octet()? % bound)
    }

    /// The lowest bit of the next octet.
    pub fn flag(&mut self) -> Option<bool> {
        Some(self.octet()? & 1 != 0)
    }

    /// The next two octets, little-endian.
    pub fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes([self.octet()?, self.octet()?]))
    }

    /// The next four octets, little-endian.
    pub fn u32(&mut self) -> Option<u32> {
        Some(u32::from(self.u16()?) | u32::from(self.u16()?) << 16)
    }

    /// The next `len` octets.
    pub fn octets(&mut self, len: usize) -> Option<&'a [u8]> {
        if self.0.len() < len {
            return None;
        }
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(taken)
    }

    /// A length octet and that many octets.
    pub fn block(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(self.octet()?);
        self.octets(len)
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.0)
    }

    /// Moves `now` on by up to 65 ms in steps of a microsecond.
    pub fn advance(&mut self, now: &mut Instant) -> Option<()> {
        *now = *now + core::time::Duration::from_micros(u64::from(self.u16()?));
        Some(())
    }
}

/// The MAC of member `number` of the machines under test.
#[must_use]
pub fn mac(number: u8) -> MacAddress {
    MacAddress([2, 0, 1, 0, 0, number])
}
