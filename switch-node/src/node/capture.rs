//! Captures: copies of what passes an interface or an RVI of this node, for a control node that asked.
//!
//! What happens to a frame here: nothing. A tap looks at it behind everything else, and if its filter keeps it, a copy goes
//! into a bounded queue, or is counted as lost. The copies go to the control node in messages that take only room that
//! nobody waits for. Without a capture there is nothing here but one branch for each frame. Rules: `spec/capture.md`.

mod sent;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use rvi::{Association, Message, Part, SharedOctets};
use vlan_core::capture::{Copies, Filter, Headers, Original};
use vlan_core::wire::captured::CAPTURED;
use vlan_core::wire::control::{CaptureOrder, CapturePoint, ControlMessage};
use vlan_core::wire::{CapturedHeader, FrameHeader, FrameKind};
use vlan_core::{Channel, Instant, VifNumber};

use crate::node::{Accept, Node, NodeEvent, Output, PeerId};

/// Captures of one node at a time.
pub(super) const TAPS_MAX: usize = 16;
/// Octets of copies that wait in one node, of all captures.
pub(super) const COPIES_OCTETS_MAX: usize = 4 << 20;
/// How soon a message that found no room is tried again.
const COPIES_RETRY: Duration = Duration::from_millis(1);

/// What a frame or message consists of: octets of our own, and what its sender may still change.
#[derive(Clone, Copy)]
pub(super) struct Passing<'a> {
    /// A TLV header, or nothing.
    pub header: &'a [u8],
    /// What follows it.
    pub head: &'a [u8],
    pub rest: SharedOctets<'a>,
}

/// The captures of a node.
pub(super) struct Captures {
    taps: Vec<Tap>,
    /// Octets of copies that wait.
    waiting: usize,
    /// The time of the batch.
    now: Instant,
    /// Nanoseconds from 1970 to the time zero of `now`, once the host has said it.
    epoch_ns: Option<u64>,
    retry_at: Option<Instant>,
}

struct Tap {
    /// The control node that asked.
    control: usize,
    order: CaptureOrder,
    filter: Filter,
    copies: Copies,
    is_ending: bool,
    /// The last word has been said.
    is_over: bool,
}

impl Node {
    /// Says what time it is, as [`Output::WallClock`] asks: captures stamp their copies with it, and begin with it.
    pub fn handle_wall_clock(&mut self, now: Instant, unix_ns: u64) {
        if let Some(captures) = &mut self.captures {
            captures.epoch_ns = Some(unix_ns.saturating_sub(now.as_nanos()));
        }
    }

    // --- what the control node asks for ---------------------------------------------------------------------

    pub(super) fn handle_capture(&mut self, now: Instant, index: usize, message: ControlMessage) {
        match message {
            ControlMessage::Capture(order) => self.begin_capture(now, index, order),
            ControlMessage::CaptureCredit { id, octets } => {
                if let Some(tap) = self.tap_mut(index, id) {
                    tap.copies.give_credit(octets);
                }
            }
            ControlMessage::CaptureEnd { id, discard } => self.end_capture(index, id, discard),
            _ => self.log(NodeEvent::BadControlMessage { peer: PeerId::ControlNode(index as u8) }),
        }
    }

    fn tap_mut(&mut self, index: usize, id: u32) -> Option<&mut Tap> {
        let mut taps = self.captures.as_mut()?.taps.iter_mut();
        taps.find(|tap| tap.control == index && tap.order.id == id)
    }

    fn begin_capture(&mut self, now: Instant, index: usize, order: CaptureOrder) {
        let is_there = match order.point {
            CapturePoint::Interface(vif) => self.interface(vif).is_some(),
            CapturePoint::Node(_) | CapturePoint::ControlNode => true,
        };
        let filter = Filter::parse(&order.filter).ok().filter(|_| is_there);
        let captures = self.captures.get_or_insert_with(|| Box::new(Captures::new(now)));
        captures.forget(|tap| tap.control == index && tap.order.id == order.id);
        let has_room = captures.taps.len() < TAPS_MAX;
        let Some(filter) = filter.filter(|_| has_room) else {
            let refusal =
                CapturedHeader { id: order.id, is_last: true, is_refused: true, ..CapturedHeader::default() };
            let link = &mut self.control[index];
            let octets = refusal.emit(0);
            let parts = [Part::Private(&octets)];
            // One that is lost with its session is as good as said.
            let _ = link.association.send_parts(now, Channel::RELAYED_PACKETS, 0, 0, &parts);
            self.end_captures();
            return;
        };
        captures.taps.push(Tap {
            control: index,
            filter,
            copies: Copies::new(&order),
            is_ending: false,
            is_over: false,
            order,
        });
        self.outputs.push_back(Output::WallClock);
    }

    fn end_capture(&mut self, index: usize, id: u32, discard: bool) {
        let Some(captures) = &mut self.captures else { return };
        for tap in captures.taps.iter_mut().filter(|tap| tap.control == index && tap.order.id == id) {
            tap.is_ending = true;
            if discard {
                captures.waiting -= tap.copies.octets();
                tap.copies.discard();
            }
        }
    }

    //= spec/capture.md#the-end-of-a-capture
    //# A capture MUST end with the session of the control node that asked for it.
    pub(super) fn end_captures_of(&mut self, index: usize) {
        if let Some(captures) = &mut self.captures {
            captures.forget(|tap| tap.control == index);
            self.end_captures();
        }
    }

    /// Without taps nothing is left of captures.
    fn end_captures(&mut self) {
        if self.captures.as_ref().is_some_and(|captures| captures.taps.is_empty()) {
            self.captures = None;
        }
    }

    // --- what passes ----------------------------------------------------------------------------------------

    /// A frame that the stack behind `vif` has sent.
    #[cold]
    pub(super) fn tap_sent_frame(&mut self, now: Instant, vif: VifNumber, frame: &[u8], accept: Accept) {
        // One that was not taken is offered again.
        if accept != Accept::Busy
            && let Some(captures) = &mut self.captures
        {
            captures.now = now;
            let passing = Passing { header: &[], head: frame, rest: SharedOctets::empty() };
            captures.take(|tap| tap.order.point == CapturePoint::Interface(vif), true, 0, &passing);
        }
    }

    /// A frame that the stack behind `vif` was given.
    #[cold]
    pub(super) fn tap_delivered(&mut self, vif: VifNumber, head: &[u8], rest: SharedOctets<'_>) {
        if let Some(captures) = &mut self.captures {
            let passing = Passing { header: &[], head, rest };
            captures.take(|tap| tap.order.point == CapturePoint::Interface(vif), false, 0, &passing);
        }
    }

    /// Batches have one time.
    #[inline]
    pub(super) fn set_capture_time(&mut self, now: Instant) {
        if let Some(captures) = &mut self.captures {
            captures.now = now;
        }
    }

    // --- copies on their way --------------------------------------------------------------------------------

    /// Sends copies as far as there is credit, and room that nobody else waits for.
    pub(super) fn send_copies(&mut self, now: Instant) {
        let Some(captures) = &mut self.captures else { return };
        captures.retry_at = None;
        for tap in &mut captures.taps {
            let association = &mut self.control[tap.control].association;
            if !tap.send(now, association, &mut captures.waiting) {
                captures.retry_at = Some(now + COPIES_RETRY);
            }
        }
        captures.taps.retain(|tap| !tap.is_over);
        self.end_captures();
    }

    pub(super) fn copies_timeout(&self) -> Option<Instant> {
        self.captures.as_ref().and_then(|captures| captures.retry_at)
    }
}

/// True when a capture may want frames that pass between the interface `vif` and `peer`: then each is looked at by itself.
//= spec/capture.md#what-is-not-captured
//# A capture of one interface or RVI MUST NOT have a node treat the frames of others one by one.
#[inline]
pub(super) fn is_tapped(captures: Option<&Captures>, vif: VifNumber, peer: PeerId) -> bool {
    captures.is_some_and(|captures| captures.concerns(vif, peer))
}

/// Taps a message on its way to, or (`is_out` false) from, `peer`. Free of the node, so that an association of it can be
/// borrowed beside.
#[inline]
pub(super) fn tap_message(
    captures: &mut Option<Box<Captures>>,
    peer: PeerId,
    is_out: bool,
    channel: Channel,
    passing: &Passing<'_>,
) {
    if let Some(captures) = captures {
        captures.take_message(peer, is_out, channel, passing);
    }
}

/// Taps a message that has come from `peer`.
#[inline]
pub(super) fn tap_received(captures: &mut Option<Box<Captures>>, peer: PeerId, message: &Message<'_>) {
    if let Some(captures) = captures {
        captures.take_received(peer, *message);
    }
}

/// Taps a message of our own octets that was sent.
#[inline]
pub(super) fn tap_sent(
    captures: &mut Option<Box<Captures>>,
    peer: PeerId,
    channel: Channel,
    [header, head]: [&[u8]; 2],
) {
    tap_message(captures, peer, true, channel, &Passing { header, head, rest: SharedOctets::empty() });
}

impl Captures {
    fn new(now: Instant) -> Self {
        Self { taps: Vec::new(), waiting: 0, now, epoch_ns: None, retry_at: None }
    }

    /// Octets of copies that wait.
    #[cfg(test)]
    pub(super) const fn waiting(&self) -> usize {
        self.waiting
    }

    fn forget(&mut self, is_it: impl Fn(&Tap) -> bool) {
        for tap in self.taps.extract_if(.., |tap| is_it(tap)) {
            self.waiting -= tap.copies.octets();
        }
    }

    #[cold]
    fn take_received(&mut self, peer: PeerId, message: Message<'_>) {
        let passing = Passing { header: &[], head: message.head, rest: message.rest };
        self.take_message(peer, false, message.channel, &passing);
    }

    #[cold]
    fn concerns(&self, vif: VifNumber, peer: PeerId) -> bool {
        self.taps.iter().any(|tap| tap.order.point == CapturePoint::Interface(vif) || tap.is_of(peer))
    }

    #[cold]
    fn take_message(&mut self, peer: PeerId, is_out: bool, channel: Channel, passing: &Passing<'_>) {
        if is_about_captures(channel, passing) {
            return;
        }
        self.take(|tap| tap.is_of(peer), is_out, channel.0, passing);
    }

    fn take(&mut self, is_it: impl Fn(&Tap) -> bool, is_out: bool, channel: u8, passing: &Passing<'_>) {
        let Some(epoch_ns) = self.epoch_ns else { return };
        let unix_ns = epoch_ns.saturating_add(self.now.as_nanos());
        for tap in self.taps.iter_mut().filter(|tap| !tap.is_ending && is_it(tap)) {
            let wants = tap.order.directions;
            if if is_out { wants.has_out() } else { wants.has_in() } {
                tap.take(&mut self.waiting, is_out, channel, unix_ns, passing);
            }
        }
    }
}

/// A capture of what captures send would feed itself.
//= spec/capture.md#captures-of-captures
//# A node MUST NOT capture the messages that carry copies, nor those that steer captures.
fn is_about_captures(channel: Channel, passing: &Passing<'_>) -> bool {
    let first = if passing.header.is_empty() { passing.head } else { passing.header };
    let Some(kind) = first.first_chunk::<2>().map(|kind| u16::from_le_bytes(*kind)) else { return false };
    match channel {
        Channel::CONTROL => ControlMessage::is_about_captures(kind),
        Channel::RELAYED_PACKETS => kind == CAPTURED,
        _ => false,
    }
}

impl Tap {
    /// True when it is of the association with `peer`.
    fn is_of(&self, peer: PeerId) -> bool {
        match (self.order.point, peer) {
            (CapturePoint::Node(wanted), PeerId::Node(node)) => wanted == node,
            (CapturePoint::ControlNode, PeerId::ControlNode(index)) => self.control == usize::from(index),
            _ => false,
        }
    }

    /// Looks at what passes, and copies it if it is wanted.
    fn take(&mut self, waiting: &mut usize, is_out: bool, channel: u8, unix_ns: u64, passing: &Passing<'_>) {
        self.copies.note_seen();
        if !self.filter.is_empty() && !self.keeps(passing) {
            return;
        }
        let is_message = !matches!(self.order.point, CapturePoint::Interface(_));
        let original = Original { len: passing.len(), unix_ns, is_out, channel };
        *waiting += self.copies.keep(COPIES_OCTETS_MAX - *waiting, &original, |octets| {
            passing.copy_to(octets);
            if is_message && channel == Channel::CONTROL.0 {
                ControlMessage::conceal_keys(octets);
            }
        });
    }

    /// True when the filter keeps the frame, or the frame in the message.
    fn keeps(&self, passing: &Passing<'_>) -> bool {
        let total = passing.len();
        if matches!(self.order.point, CapturePoint::Interface(_)) {
            return self.filter.keeps(Headers::parse(passing.head, total).as_ref());
        }
        let (frame, header_len) = match passing.header.len() {
            0 => {
                let kind = passing.head.first_chunk::<2>().map(|kind| u16::from_le_bytes(*kind));
                let header_len = kind.and_then(FrameKind::from_kind).map(FrameKind::header_len);
                let Some(header_len) = header_len else { return self.filter.keeps(None) };
                (passing.head.get(header_len..).unwrap_or_default(), header_len)
            }
            len => (passing.head, len),
        };
        let is_frame = FrameHeader::parse(passing.first(), total).is_ok();
        let headers = Headers::parse(frame, total.saturating_sub(header_len)).filter(|_| is_frame);
        self.filter.keeps(headers.as_ref())
    }

    /// Sends what there is; false when it found no room.
    fn send(&mut self, now: Instant, association: &mut Association, waiting: &mut usize) -> bool {
        while let Some((told, message)) = self.copies.next() {
            if !offer(now, association, &told, message) {
                return false;
            }
            *waiting -= self.copies.sent();
        }
        if let Some(last) = self.copies.last().filter(|_| self.is_ending) {
            self.is_over = offer(now, association, &last, &[]);
            return self.is_over;
        }
        true
    }
}

fn offer(now: Instant, association: &mut Association, told: &CapturedHeader, records: &[u8]) -> bool {
    let header = told.emit(records.len());
    association.offer(now, Channel::RELAYED_PACKETS, 0, &[Part::Private(&header), Part::Private(records)])
}

impl Passing<'_> {
    fn len(&self) -> usize {
        self.header.len() + self.head.len() + self.rest.len()
    }

    /// The octets that it begins with.
    fn first(&self) -> &[u8] {
        if self.header.is_empty() { self.head } else { self.header }
    }

    /// Copies its first octets.
    fn copy_to(&self, mut out: &mut [u8]) {
        for octets in [self.header, self.head] {
            let len = octets.len().min(out.len());
            let (here, behind) = out.split_at_mut(len);
            here.copy_from_slice(&octets[..len]);
            out = behind;
        }
        if !out.is_empty() {
            self.rest.first(out.len()).copy_to(out);
        }
    }
}
