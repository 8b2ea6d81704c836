//! Captures that an administrator asked for: which node taps what, and the copies that come back.
//!
//! A capture outlives the sessions of its node: the node is asked again when it registers again. The copies go to the host
//! as they come; it gives credit for more when it has got rid of them. Rules: `spec/capture.md`.

use alloc::vec::Vec;

use rvi::Message;
use vlan_core::wire::CapturedHeader;
use vlan_core::wire::control::{CaptureOrder, ControlMessage};
use vlan_core::{DropReason, Instant, NodeNumber};

use crate::control_node::relay::whole;
use crate::control_node::session::Session;
use crate::control_node::{ControlNode, Output};

/// Captures at one time, each of one interface or RVI.
pub(super) const CAPTURES_MAX: usize = 1024;

/// A capture.
pub(super) struct Capture {
    node: NodeNumber,
    order: CaptureOrder,
    /// Octets that are under way, or wait for their credit.
    under_way: u32,
    is_ending: bool,
    /// What still comes is for nobody.
    is_discarded: bool,
}

impl ControlNode {
    pub(super) fn begin_capture(&mut self, now: Instant, node: NodeNumber, order: CaptureOrder) {
        let id = order.id;
        if self.captures.len() >= CAPTURES_MAX || self.captures.iter().any(|known| known.order.id == id) {
            self.outputs.push_back(Output::CaptureOver { id, is_refused: true });
            return;
        }
        self.send_to_node(now, node, &ControlMessage::Capture(order.clone()));
        let capture = Capture { node, order, under_way: 0, is_ending: false, is_discarded: false };
        self.captures.push(capture);
    }

    /// The host has got rid of copies.
    pub(super) fn credit_capture(&mut self, now: Instant, id: u32, octets: u32) {
        if self.credit_uplink_capture(id, octets) {
            return;
        }
        let Some(capture) = self.captures.iter_mut().find(|capture| capture.order.id == id) else { return };
        let octets = octets.min(capture.under_way);
        capture.under_way -= octets;
        let node = capture.node;
        self.send_to_node(now, node, &ControlMessage::CaptureCredit { id, octets });
    }

    pub(super) fn end_capture(&mut self, now: Instant, id: u32, discard: bool) {
        if self.end_uplink_capture(id, discard) {
            return;
        }
        let Some(capture) = self.captures.iter_mut().find(|capture| capture.order.id == id) else { return };
        (capture.is_ending, capture.is_discarded) = (true, discard);
        let node = capture.node;
        if !self.send_to_node(now, node, &ControlMessage::CaptureEnd { id, discard }) {
            self.capture_over(id, false);
        }
    }

    fn capture_over(&mut self, id: u32, is_refused: bool) {
        self.captures.retain(|capture| capture.order.id != id);
        self.outputs.push_back(Output::CaptureOver { id, is_refused });
    }

    /// A node has registered: it is asked for what is wanted of it.
    pub(super) fn resume_captures(&mut self, now: Instant, session: &mut Session) {
        let node = session.node;
        for capture in self.captures.iter_mut().filter(|capture| capture.node == node) {
            capture.under_way = 0;
            session.send_control(now, &ControlMessage::Capture(capture.order.clone()));
            if capture.is_ending {
                // Its former process was told, and may have been replaced before it had answered.
                let (id, discard) = (capture.order.id, capture.is_discarded);
                session.send_control(now, &ControlMessage::CaptureEnd { id, discard });
            }
        }
    }

    /// The node of a session has gone: what was to end has ended.
    pub(super) fn pause_captures(&mut self, node: NodeNumber) {
        let ending: Vec<u32> = self
            .captures
            .iter()
            .filter(|capture| capture.node == node && capture.is_ending)
            .map(|capture| capture.order.id)
            .collect();
        for id in ending {
            self.capture_over(id, false);
        }
    }

    /// Takes copies that a node sends.
    //= spec/capture.md#whose-copies
    //# A control node MUST take copies only of a capture that it asked that node for, and only as far as it gave credit; it
    //# drops others and counts them as malformed.
    pub(super) fn take_captured(&mut self, session: &Session, message: &Message<'_>) {
        let header = CapturedHeader::parse(message.head, message.len);
        let Ok(header) = header else { return self.drops.add(DropReason::Malformed) };
        let is_it = |c: &&mut Capture| c.order.id == header.id && c.node == session.node;
        let Some(capture) = self.captures.iter_mut().find(is_it) else {
            return self.drops.add(DropReason::Malformed);
        };
        let records_len = message.len - vlan_core::wire::CAPTURED_HEADER_LEN;
        // The last word comes without credit when it brings no copies.
        if records_len > 0 || !header.is_last {
            let under_way = capture.under_way.saturating_add(CapturedHeader::cost(records_len));
            if under_way > capture.order.window_octets {
                return self.drops.add(DropReason::Malformed);
            }
            capture.under_way = under_way;
        }
        if !capture.is_discarded {
            self.outputs.push_back(Output::Captured { id: header.id, octets: whole(message) });
        }
        if header.is_last {
            self.capture_over(header.id, header.is_refused);
        }
    }
}
