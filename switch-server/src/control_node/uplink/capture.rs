//! Captures of uplinks: what comes in from outside, and what goes out, as it is inside.
//!
//! A tap here is one of this control node's own; its copies go to the host as those of nodes do, on credit. Rules: `spec/capture.md`.

use alloc::vec::Vec;

use vlan_core::capture::{Copies, Filter, Headers, Original};
use vlan_core::wire::CapturedHeader;
use vlan_core::wire::control::CaptureOrder;
use vlan_core::{Instant, LanId};

use crate::control_node::{ControlNode, Output};

/// Taps of uplinks at one time.
const UPLINK_TAPS_MAX: usize = 64;
/// Octets of copies that wait, of all of them.
const UPLINK_COPIES_OCTETS_MAX: usize = 4 << 20;

/// The taps of uplinks.
#[derive(Default)]
pub(super) struct Taps {
    taps: Vec<Tap>,
    /// Octets of copies that wait.
    waiting: usize,
}

struct Tap {
    lan: LanId,
    order: CaptureOrder,
    filter: Filter,
    copies: Copies,
    /// Nanoseconds from 1970 to the time zero of the machine's clock.
    epoch_ns: u64,
    is_ending: bool,
}

impl Taps {
    /// Looks at a frame of a LAN that goes outside, or has come in.
    #[inline]
    pub fn take(&mut self, now: Instant, lan: LanId, is_out: bool, frame: &[u8]) {
        if !self.taps.is_empty() {
            self.take_slowly(now, lan, is_out, frame);
        }
    }

    //= spec/capture.md#uplinks
    //# A capture of a LAN MUST tap its uplink, too, and by default keep what comes in by it, each frame once, as it is inside.
    #[cold]
    fn take_slowly(&mut self, now: Instant, lan: LanId, is_out: bool, frame: &[u8]) {
        for tap in self.taps.iter_mut().filter(|tap| tap.lan == lan && !tap.is_ending) {
            let wants = tap.order.directions;
            if !(if is_out { wants.has_out() } else { wants.has_in() }) {
                continue;
            }
            tap.copies.note_seen();
            if tap.filter.is_empty() || tap.filter.keeps(Headers::parse(frame, frame.len()).as_ref()) {
                let unix_ns = tap.epoch_ns.saturating_add(now.as_nanos());
                let original = Original { len: frame.len(), unix_ns, is_out, channel: 0 };
                let room = UPLINK_COPIES_OCTETS_MAX - self.waiting;
                let copy = |octets: &mut [u8]| octets.copy_from_slice(&frame[..octets.len()]);
                self.waiting += tap.copies.keep(room, &original, copy);
            }
        }
    }

    fn tap_mut(&mut self, id: u32) -> Option<&mut Tap> {
        self.taps.iter_mut().find(|tap| tap.order.id == id)
    }
}

impl ControlNode {
    /// Begins to copy what passes the uplink of a LAN; its time is `unix_ns` now.
    pub(in crate::control_node) fn begin_uplink_capture(
        &mut self,
        now: Instant,
        lan: LanId,
        unix_ns: u64,
        order: CaptureOrder,
    ) {
        let taps = &mut self.uplinks.taps;
        let has_room = taps.taps.len() < UPLINK_TAPS_MAX && taps.tap_mut(order.id).is_none();
        let Some(filter) = Filter::parse(&order.filter).ok().filter(|_| has_room) else {
            return self.outputs.push_back(Output::CaptureOver { id: order.id, is_refused: true });
        };
        let (copies, epoch_ns) = (Copies::new(&order), unix_ns.saturating_sub(now.as_nanos()));
        taps.taps.push(Tap { lan, order, filter, copies, epoch_ns, is_ending: false });
    }

    /// Copies of a tap here have been got rid of. False when there is no such tap.
    pub(in crate::control_node) fn credit_uplink_capture(&mut self, id: u32, octets: u32) -> bool {
        let Some(tap) = self.uplinks.taps.tap_mut(id) else { return false };
        tap.copies.give_credit(octets);
        self.give_uplink_copies();
        true
    }

    /// A tap here ends. False when there is no such tap.
    pub(in crate::control_node) fn end_uplink_capture(&mut self, id: u32, discard: bool) -> bool {
        let taps = &mut self.uplinks.taps;
        let Some(tap) = taps.taps.iter_mut().find(|tap| tap.order.id == id) else { return false };
        tap.is_ending = true;
        if discard {
            taps.waiting -= tap.copies.octets();
            tap.copies.discard();
        }
        self.give_uplink_copies();
        true
    }

    /// Gives the host copies as far as there is credit.
    pub(in crate::control_node) fn give_uplink_copies(&mut self) {
        let taps = &mut self.uplinks.taps;
        let mut give = |id: u32, header: CapturedHeader, copies: &[u8]| {
            let octets = [&header.emit(copies.len())[..], copies].concat();
            self.outputs.push_back(Output::Captured { id, octets });
        };
        for tap in &mut taps.taps {
            let id = tap.order.id;
            while let Some((header, copies)) = tap.copies.next() {
                give(id, header, copies);
                taps.waiting -= tap.copies.sent();
            }
            if let Some(last) = tap.copies.last().filter(|_| tap.is_ending) {
                give(id, last, &[]);
            }
        }
        for tap in taps.taps.extract_if(.., |tap| tap.is_ending && tap.copies.octets() == 0) {
            self.outputs.push_back(Output::CaptureOver { id: tap.order.id, is_refused: false });
        }
    }
}
