//! I-18: a leg that carries the base length carries data. No end goes on sending packets that vanish for their length.
//!
//! What tries a length is meant to vanish now and then; what counts is that an end takes a length for good that the leg does
//! not carry, and goes on losing packets of it while shorter ones would arrive.

use std::collections::BTreeMap;
use std::time::Duration;

use vlan_core::Instant;

use super::super::side::Side;
use super::PacketWorld;
use crate::simulation::Simulation;

/// An end that goes on losing packets for so long has not seen why.
const HOLE_TIME_MAX: Duration = Duration::from_millis(250);
/// ... and with so many of them, more than a batch has.
const HOLE_PACKETS_MAX: u64 = 100;

/// A direction of a leg in which packets vanish for their length.
#[derive(Clone, Copy, Debug, Default)]
struct Hole {
    /// Packets that were too long, at the last look.
    too_long: u64,
    /// The first that was too long since the end uses a length that the leg does not carry: when, and the count before.
    since: Option<(Instant, u64)>,
}

/// Every direction of every direct leg.
#[derive(Clone, Debug, Default)]
pub(super) struct Holes(BTreeMap<(u8, usize), Hole>);

impl PacketWorld {
    /// The regular look at packets that are too long for their leg.
    pub(super) fn look_for_holes(&mut self) {
        for side in Side::BOTH {
            for status in self.legs(side).into_iter().filter(|status| !status.leg.is_relay()) {
                self.look_for_hole(side, status.leg.number(), status.packet_len);
            }
        }
    }

    fn look_for_hole(&mut self, side: Side, leg: u8, used: usize) {
        let now = self.now();
        let Some(link) = self.network.link(leg, side) else { return };
        let (limit, too_long) = (link.conditions().packet_len_max, link.counts.too_long);
        let is_hole = used > limit && self.network.is_able(leg) && self.watch.calm_since.is_some();
        let hole = self.watch.holes.0.entry((leg, side.index())).or_default();
        let before = std::mem::replace(&mut hole.too_long, too_long);
        if !is_hole {
            hole.since = None;
        } else if too_long > before {
            hole.since.get_or_insert((now, before));
        }
        if let Some((since, before)) = hole.since
            && now.since(since) > HOLE_TIME_MAX
            && too_long - before > HOLE_PACKETS_MAX
        {
            let detail = format!(
                "{side:?} sends packets of {used} octets by leg {leg}, which carries {limit}: {} vanished since {since}",
                too_long - before
            );
            let violation = self.violation("I-18 no black hole", detail);
            self.break_invariant(violation);
        }
    }
}
