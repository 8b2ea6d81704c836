//! How much the stack behind an interface may send to groups: beyond that nothing leaves its node.

use vlan_core::security::Limits;
use vlan_core::security::rate::{Cost, Kind, Meters};
use vlan_core::wire::control::GroupLimits;
use vlan_core::wire::frame::Vnet;
use vlan_core::{DropReason, Instant, MacAddress};

/// What the stack has sent to groups, held against what its control node has said last.
#[derive(Debug, Default)]
pub(super) struct GroupMeters {
    limits: Limits,
    meters: Option<Meters>,
}

impl GroupMeters {
    /// Takes what a control node says. What was said before, if it is the same, is not begun anew.
    pub fn set(&mut self, limits: &GroupLimits) {
        let GroupLimits { broadcast, multicast, .. } = *limits;
        let limits = Limits { broadcast, multicast, ..Limits::default() };
        if self.limits != limits {
            *self = Self { limits, meters: Meters::new(&limits) };
        }
    }

    /// What was said last.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether a frame may go.
    ///
    /// # Errors
    /// When it is to a group, and beyond the limit.
    #[inline]
    pub fn admits(&self, now: Instant, frame: &[u8]) -> Result<(), DropReason> {
        match (&self.meters, kind_of(frame)) {
            (Some(meters), Some(kind)) => meters.admits(now, kind),
            _ => Ok(()),
        }
    }

    /// It has gone.
    #[inline]
    pub fn note(&mut self, now: Instant, vnet: &Vnet, frame: &[u8]) {
        if let (Some(meters), Some(kind)) = (&mut self.meters, kind_of(frame)) {
            meters.note(now, kind, Cost::of(vnet, frame.len()));
        }
    }
}

/// The kind of a frame to a group; none of another.
fn kind_of(frame: &[u8]) -> Option<Kind> {
    MacAddress::from_octets(frame).filter(|to| to.is_group()).map(Kind::of_group)
}
