//! Faults that a node is to put on its packet legs: drills and tests.

use alloc::string::String;

use super::fields::{Field, Reader, TEXT_LEN_MAX, Writer};
use crate::address::LegNumber;
use crate::wire::tlv::TlvError;

/// What stands on the wire for every leg.
const ALL_LEGS: u8 = u8::MAX;

/// What stands in place of faults to take them off.
pub const FAULT_OFF: &str = "off";

/// Packets that a fault meets, seen from the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FaultDirection {
    /// Those that arrive.
    In = 1,
    /// Those that leave.
    Out = 2,
    /// All.
    Both = 3,
}

/// A fault, or its end: the text says which, and is the host's to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    leg: Option<LegNumber>,
    direction: FaultDirection,
    spec: String,
}

impl Fault {
    /// A fault of the packet leg `leg`, or of all; none when the text is longer than 255 octets or there can be no
    /// such leg.
    #[must_use]
    pub fn new(leg: Option<LegNumber>, direction: FaultDirection, spec: &str) -> Option<Self> {
        let fits = spec.len() <= TEXT_LEN_MAX && leg != Some(LegNumber(ALL_LEGS));
        fits.then(|| Self { leg, direction, spec: String::from(spec) })
    }

    /// The end of all faults.
    #[must_use]
    pub fn end() -> Self {
        Self { leg: None, direction: FaultDirection::Both, spec: String::from(FAULT_OFF) }
    }

    /// True when this takes faults off.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.spec == FAULT_OFF
    }

    /// The packet leg that is meant; all when none.
    #[must_use]
    pub const fn leg(&self) -> Option<LegNumber> {
        self.leg
    }

    /// The packets that are meant.
    #[must_use]
    pub const fn direction(&self) -> FaultDirection {
        self.direction
    }

    /// What is to happen to them, such as `loss=5%,delay=2ms`, or [`FAULT_OFF`].
    #[must_use]
    pub fn spec(&self) -> &str {
        &self.spec
    }
}

impl Field for Fault {
    const LEN_MIN: usize = 3;

    fn emit(&self, w: &mut Writer) {
        w.put(&self.leg.map_or(ALL_LEGS, |leg| leg.0)).put(&(self.direction as u8)).put(&self.spec);
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, TlvError> {
        let leg = Some(r.take::<u8>()?).filter(|leg| *leg != ALL_LEGS).map(LegNumber);
        let direction = match r.take::<u8>()? {
            1 => FaultDirection::In,
            2 => FaultDirection::Out,
            3 => FaultDirection::Both,
            _ => return Err(TlvError::BadField { field: "direction" }),
        };
        Ok(Self { leg, direction, spec: r.take()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_never_shortened() {
        let longest = "x".repeat(TEXT_LEN_MAX);
        assert_eq!(Fault::new(None, FaultDirection::In, &longest).unwrap().spec(), longest);
        assert_eq!(Fault::new(None, FaultDirection::In, &(longest + "x")), None);
        assert_eq!(Fault::new(Some(LegNumber(ALL_LEGS)), FaultDirection::In, FAULT_OFF), None);
    }
}
