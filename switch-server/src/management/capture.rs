//! Captures: from the copies that nodes send to pcapng, for as long as somebody reads it.
//!
//! One task for each capture. It gives credit for copies when their blocks have been passed on, so that a slow reader makes
//! nodes lose copies and nothing else.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use axum::body::{Bytes, HttpBody};
use http_body::Frame;
use tokio::sync::{Notify, mpsc};
use vlan_core::wire::control::{CaptureOrder, CapturePoint};
use vlan_core::wire::{CAPTURED_HEADER_LEN, CapturedHeader, CapturedRecord};

use super::capture_points::Place;
use super::pcapng::{self, Statistics};
use super::view::View;
use crate::control_node::Command;
use crate::runtime::{CaptureEvent, Order};

/// Octets of one tap that may be under way: less than an eighth of what a control RVI's rings hold, and room for a whole
/// super-frame.
pub(super) const WINDOW_OCTETS: u32 = 128 * 1024;
/// Messages that go into that: each costs 4,096 octets at least; and two last words.
pub(super) const EVENTS_OF_A_TAP: usize = 34;
/// Pieces of pcapng that wait for their reader.
const PIECES_AHEAD: usize = 4;
/// How long nodes have for their last copies.
const END_TIME: Duration = Duration::from_secs(2);
/// How soon an order is given again that the pump had no room for.
const ORDER_RETRY: Duration = Duration::from_millis(1);

/// One interface of the pcapng section: a tap of a node, or of an uplink.
#[derive(Debug)]
pub(super) struct Tap {
    pub place: Place,
    pub order: CaptureOrder,
    pub name: String,
    pub description: String,
    /// What is known of it.
    pub state: TapState,
}

/// What has come of a tap.
#[derive(Debug, Default)]
pub(super) struct TapState {
    /// What lives of the node have seen that are over.
    former: CapturedHeader,
    now: CapturedHeader,
    written: u64,
    is_over: bool,
    is_refused: bool,
    /// Messages that were none.
    malformed: u64,
}

/// A capture that runs.
pub(super) struct Running {
    pub view: Arc<View>,
    pub taps: Vec<Tap>,
    /// Places of the taps by their numbers.
    pub places: BTreeMap<u32, usize>,
    pub filter: String,
    pub events: mpsc::Receiver<CaptureEvent>,
    pub end: Arc<Notify>,
}

/// The pieces of a pcapng section as the body of an answer.
pub struct Section(mpsc::Receiver<Bytes>);

impl HttpBody for Section {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

impl Running {
    /// Runs the capture in a task of its own; the result is what it writes.
    pub fn start(self) -> Section {
        let (pieces, section) = mpsc::channel(PIECES_AHEAD);
        tokio::spawn(self.run(pieces));
        Section(section)
    }

    async fn run(mut self, pieces: mpsc::Sender<Bytes>) {
        let mut deadline = None;
        let mut is_read = pieces.send(self.head()).await.is_ok();
        while is_read && !self.taps.iter().all(|tap| tap.state.is_over) {
            let ends_at = deadline.unwrap_or_else(|| tokio::time::Instant::now() + END_TIME);
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(CaptureEvent::Copies { id, octets }) => is_read = self.pass_on(id, &octets, &pieces).await,
                    Some(CaptureEvent::Over { id, is_refused }) => self.over(id, is_refused),
                    None => break,
                },
                () = pieces.closed() => is_read = false,
                () = self.end.notified(), if deadline.is_none() => {
                    deadline = Some(tokio::time::Instant::now() + END_TIME);
                    self.end_taps(false).await;
                }
                () = tokio::time::sleep_until(ends_at), if deadline.is_some() => break,
            }
        }
        // Nobody minds whether the reader is still there.
        let _ = pieces.send(self.tail()).await;
        self.end_taps(true).await;
    }

    /// Gives the pcapng of a message with copies to the reader; false when there is none any more.
    async fn pass_on(&mut self, id: u32, octets: &[u8], pieces: &mpsc::Sender<Bytes>) -> bool {
        let Some(&place) = self.places.get(&id) else { return true };
        let piece = self.packets(place, octets);
        let is_read = piece.is_empty() || pieces.send(piece.into()).await.is_ok();
        let records_len = octets.len().saturating_sub(CAPTURED_HEADER_LEN);
        self.order(Command::CaptureCredit { id, octets: CapturedHeader::cost(records_len) }).await;
        is_read
    }

    /// The pump's queue of orders may be full for a moment.
    async fn order(&self, command: Command) {
        while self.view.order(Order::Command(command.clone())).is_err() {
            if self.events.is_closed() {
                return;
            }
            // SLEEP: orders wait for the pump only, which has a look at them after each few batches.
            tokio::time::sleep(ORDER_RETRY).await;
        }
    }

    async fn end_taps(&self, discard: bool) {
        for tap in self.taps.iter().filter(|tap| !tap.state.is_over) {
            self.order(Command::CaptureEnd { id: tap.order.id, discard }).await;
        }
    }

    fn over(&mut self, id: u32, is_refused: bool) {
        if let Some(&place) = self.places.get(&id) {
            let state = &mut self.taps[place].state;
            (state.is_over, state.is_refused) = (true, is_refused);
        }
    }

    // --- pcapng ---------------------------------------------------------------------------------------------

    fn head(&self) -> Bytes {
        let mut out = Vec::new();
        pcapng::section(&mut out);
        for tap in &self.taps {
            let link_type = match tap.order.point {
                CapturePoint::Interface(_) => pcapng::LINKTYPE_ETHERNET,
                CapturePoint::Node(_) | CapturePoint::ControlNode => pcapng::LINKTYPE_MESSAGES,
            };
            let Tap { name, description, order, .. } = tap;
            let (filter, snap) = (&self.filter, order.snap_octets);
            pcapng::interface(&mut out, &pcapng::Interface { link_type, name, description, filter, snap });
        }
        out.into()
    }

    fn packets(&mut self, place: usize, octets: &[u8]) -> Vec<u8> {
        let tap = &mut self.taps[place];
        let mut out = Vec::new();
        let Ok(header) = CapturedHeader::parse(octets, octets.len()) else {
            tap.state.malformed += 1;
            return out;
        };
        tap.state.count(&header);
        let mut rest = &octets[CAPTURED_HEADER_LEN..];
        while !rest.is_empty() {
            let Ok(record) = CapturedRecord::take(&mut rest) else {
                tap.state.malformed += 1;
                return out;
            };
            tap.state.written += 1;
            let peer = match tap.order.point {
                CapturePoint::Node(node) => Some(node.0),
                CapturePoint::Interface(_) | CapturePoint::ControlNode => None,
            };
            let node = match tap.place {
                Place::Node(node) => node.0,
                Place::Uplink(_) => 0,
            };
            let message = pcapng::message_header(record.channel, record.is_out, peer, node);
            let is_frame = matches!(tap.order.point, CapturePoint::Interface(_));
            pcapng::packet(
                &mut out,
                &pcapng::Packet {
                    interface: place as u32,
                    unix_ns: record.unix_ns,
                    original_len: record.original_len,
                    is_out: record.is_out,
                    header: if is_frame { &[] } else { &message },
                    octets: record.octets,
                },
            );
        }
        out
    }

    /// What every tap has seen and lost.
    //= spec/capture.md#statistics
    //# A capture that is ended in order MUST say for each tap how many frames passed, how many the filter kept and how many
    //# of these were lost.
    fn tail(&self) -> Bytes {
        let unix_ns = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let unix_ns = unix_ns.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        let mut out = Vec::new();
        for (place, tap) in self.taps.iter().enumerate() {
            pcapng::statistics(&mut out, place as u32, unix_ns, &tap.state.statistics(), tap.state.comment());
        }
        out.into()
    }
}

impl TapState {
    /// A process that took another's place counts from zero.
    fn count(&mut self, header: &CapturedHeader) {
        if header.seen < self.now.seen {
            self.former.seen += self.now.seen;
            self.former.matched += self.now.matched;
            self.former.lost += self.now.lost;
        }
        self.now = *header;
    }

    fn statistics(&self) -> Statistics {
        let matched = self.former.matched + self.now.matched;
        Statistics {
            seen: self.former.seen + self.now.seen,
            matched,
            // What was under way when a node died or the time was over has not come either.
            lost: (self.former.lost + self.now.lost).max(matched.saturating_sub(self.written)),
            written: self.written,
        }
    }

    fn comment(&self) -> &'static str {
        if self.is_refused {
            "the node refused: it has no such interface, or too many captures"
        } else if self.malformed > 0 {
            "some copies could not be read"
        } else if !self.is_over {
            "the node did not end the capture in time"
        } else {
            ""
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_counts_over_the_lives_of_its_node() {
        let mut state = TapState::default();
        let header =
            |seen, matched, lost| CapturedHeader { seen, matched, lost, ..CapturedHeader::default() };
        state.count(&header(10, 5, 1));
        state.count(&header(20, 9, 2));
        state.written = 7;
        assert_eq!(state.statistics(), Statistics { seen: 20, matched: 9, lost: 2, written: 7 });
        state.count(&header(3, 2, 0));
        assert_eq!(state.statistics(), Statistics { seen: 23, matched: 11, lost: 4, written: 7 });
    }
}
