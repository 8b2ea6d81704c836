//! What arrives: packets are noted and acknowledged, messages put together, put in order, and handed on.
//!
//! What happens to a message here: [`Receiver::handle_packet`] drops what came before and copies the rest once, whole
//! messages straight to the queue of those that are ready, pieces to where their message is put together.
//! [`Receiver::poll_message`] hands out what is ready, and lets wait what would overtake its lane. Nothing that
//! came is given up for want of room: a packet that does not fit is not acknowledged, and comes again.
//! Rules: `spec/packet.md`.

mod arrivals;
mod assembly;
mod intake;
mod order;
mod pool;
mod reports;
mod types;

#[cfg(test)]
mod tests;

pub use pool::PooledBuf;
pub use types::{AckDue, Arrival, ChannelWindows, ReceivedMessage, ReceiverConfig, ReceiverCounters};

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::time::Duration;

use vlan_core::limits::MESSAGE_LEN_MAX;
use vlan_core::{Channel, Instant};

use super::wire::{AckSectionWriter, MESSAGE_OVERHEAD as OVERHEAD, PacketLeg, ack_section_len};
use arrivals::Arrivals;
use assembly::Assembly;
use order::Waiting;
use pool::Pool;
use reports::Reports;
use types::{Key, WholeMessage};

/// Room that only the lowest undelivered message of a channel may take.
const RESERVE: usize = MESSAGE_LEN_MAX + OVERHEAD;
/// True for a channel that was open and is not any more: what still comes for it is for nobody.
#[inline]
fn is_closed(channel: Channel, windows: &dyn ChannelWindows) -> bool {
    !windows.is_open(channel) && windows.was_open(channel)
}

/// Numbers of refused messages that are remembered for the association.
const REFUSED_MAX: usize = 256;

/// The receiving half of a session's packet legs.
#[derive(Debug)]
pub struct Receiver {
    octets_max: usize,
    octets_held: usize,
    ack_every: u32,
    ack_delay: Duration,
    /// The latest time that anybody told.
    now: Instant,
    legs: [Option<Box<Arrivals>>; PacketLeg::COUNT],
    /// Packets that want an ack since the last one.
    unacked: u32,
    /// The ack is due at this time ...
    ack_at: Option<Instant>,
    /// ... or at once.
    ack_now: bool,
    /// A bit for each leg whose peer asked for an answer.
    asked: u8,
    assembly: Assembly,
    /// Whole messages in the order in which they became whole.
    ready: VecDeque<WholeMessage>,
    waiting: Waiting,
    /// What was handed out last: delivered by now.
    latest: Option<Key>,
    refused: VecDeque<Key>,
    reports: Reports,
    pool: Pool,
    counters: ReceiverCounters,
    /// The peer contradicted itself: nothing more is delivered or acknowledged.
    is_broken: bool,
}

impl Receiver {
    /// Makes a receiver for a session in which nothing came yet.
    #[must_use]
    pub fn new(config: &ReceiverConfig) -> Self {
        let octets_max = config.octets_max.max(4 * RESERVE);
        Self {
            octets_max,
            octets_held: 0,
            ack_every: config.ack_every.max(1),
            ack_delay: config.ack_delay,
            now: Instant::ZERO,
            legs: [const { None }; PacketLeg::COUNT],
            unacked: 0,
            ack_at: None,
            ack_now: false,
            asked: 0,
            assembly: Assembly::default(),
            ready: VecDeque::new(),
            waiting: Waiting::default(),
            latest: None,
            refused: VecDeque::new(),
            reports: Reports::new(config.ack_every.max(1), config.ack_delay, octets_max - RESERVE),
            pool: Pool::default(),
            counters: ReceiverCounters::default(),
            is_broken: false,
        }
    }

    /// Drops a message of a channel that is not open. Its octets are done with, and its number is for the association.
    #[cold]
    fn refuse(&mut self, key: Key, len: usize) {
        self.counters.refused += 1;
        if self.refused.contains(&key) {
            return;
        }
        if self.refused.len() >= REFUSED_MAX {
            self.refused.pop_front();
        }
        self.refused.push_back(key);
        self.reports.grant(self.now, len + OVERHEAD);
    }

    /// The next message that was dropped because its channel is not open: channel and number, which is used up as if the
    /// message had been delivered, and the peer is told so. The newest 256 are kept.
    //= spec/packet.md#closed-channels
    //# The number of a message that was dropped because its channel is closed MUST be acknowledged.
    pub fn poll_refused(&mut self) -> Option<(Channel, u32)> {
        let Key { channel, mseq } = self.refused.pop_front()?;
        self.tell_delivered(channel);
        Some((channel, mseq))
    }

    /// The next message whose turn it is. The caller marks it as delivered in `windows` before the next call.
    pub fn poll_message(&mut self, windows: &dyn ChannelWindows) -> Option<ReceivedMessage> {
        if self.is_broken {
            return None;
        }
        if let Some(latest) = self.latest.take() {
            self.handle_delivered(latest.channel, latest.mseq, windows);
        }
        self.waiting.release_opened(windows, &mut self.ready);
        while let Some(message) = self.ready.pop_front() {
            let key = message.meta.key;
            if windows.is_delivered(key.channel, key.mseq) || self.waiting.contains(key) {
                self.counters.duplicates += 1;
                self.drop_octets(message.octets);
                self.tell_delivered(key.channel);
            } else if is_closed(key.channel, windows) {
                self.refuse(key, message.octets.len());
                self.drop_octets(message.octets);
            } else if let Some(message) = self.turn_of(message, windows) {
                return Some(self.hand_out(message));
            }
        }
        None
    }

    /// Gives the message back if it is its turn, and lets it wait otherwise.
    //= spec/packet.md#lane-order
    //# A message MUST NOT be delivered before the message that it names as the previous one of its lane.
    //= spec/packet.md#after-all
    //# A message that is marked AFTER_ALL MUST NOT be delivered before every message of its channel with a lower number.
    //= spec/packet.md#channels-yet-to-open
    //# A receiver MUST hold a message of a channel that has not been open in the association until it is.
    #[inline]
    fn turn_of(&mut self, message: WholeMessage, windows: &dyn ChannelWindows) -> Option<WholeMessage> {
        let key = message.meta.key;
        if !windows.is_open(key.channel) {
            self.waiting.wait_for_channel(message);
            return None;
        }
        if message.meta.is_after_all && windows.window(key.channel).0 != key.mseq {
            self.give_up_pieces(key);
            self.waiting.wait_for_all(message);
            return None;
        }
        match message.meta.predecessor() {
            Some(one) if !windows.is_delivered(one.channel, one.mseq) => {
                // Pieces that another leg brought behind the whole would be held as long as it waits.
                self.give_up_pieces(key);
                self.waiting.wait_for(one, message);
                None
            }
            _ => Some(message),
        }
    }

    #[inline]
    fn hand_out(&mut self, message: WholeMessage) -> ReceivedMessage {
        let WholeMessage { meta, octets } = message;
        let key = meta.key;
        self.latest = Some(key);
        self.counters.messages += 1;
        self.counters.octets += octets.len() as u64;
        self.reports.mark(self.now, key.channel);
        self.reports.count_delivered();
        ReceivedMessage { channel: key.channel, mseq: key.mseq, lane: meta.lane, leg: meta.leg, octets }
    }

    /// Learns that a message is delivered: what waited for it is next. Only for messages that another leg brought, such
    /// as one in shared memory; for its own the receiver knows.
    pub fn handle_delivered(&mut self, channel: Channel, mseq: u32, windows: &dyn ChannelWindows) {
        let key = Key { channel, mseq };
        if !self.waiting.is_empty() {
            self.waiting.release(key, windows.window(channel).0, &mut self.ready);
        }
        if self.give_up_pieces(key) {
            self.tell_delivered(channel);
        }
    }

    /// The packets of a message that another leg has brought are acknowledged, so it is not sent again: a message ack alone
    /// tells the peer that it is delivered.
    //= spec/packet.md#delivered-by-another-leg
    //# A receiver MUST acknowledge a message of which it held anything when another leg delivered it.
    fn tell_delivered(&mut self, channel: Channel) {
        self.reports.mark(self.now, channel);
    }

    /// Forgets the pieces of a message that is there as a whole; true when there were any.
    #[inline]
    fn give_up_pieces(&mut self, key: Key) -> bool {
        if self.assembly.is_empty() {
            return false;
        }
        let given_up = self.assembly.give_up(key, &mut self.pool);
        self.octets_held -= given_up.map_or(0, |len| len + OVERHEAD);
        given_up.is_some()
    }

    /// Takes the octets of a message back: their room is free, and the peer gets credit for as many.
    #[inline]
    pub fn recycle(&mut self, octets: PooledBuf) {
        self.reports.grant(self.now, octets.len() + OVERHEAD);
        self.drop_octets(octets);
    }

    #[inline]
    fn drop_octets(&mut self, octets: PooledBuf) {
        self.octets_held = self.octets_held.saturating_sub(octets.len() + OVERHEAD);
        self.pool.give_back(octets);
    }

    /// Drops everything that is held of a channel, because it is closed.
    pub fn close_channel(&mut self, channel: Channel) {
        while let Some(key) = self.assembly.any_of(channel) {
            if let Some(len) = self.assembly.give_up(key, &mut self.pool) {
                self.octets_held -= len + OVERHEAD;
                self.refuse(key, len);
            }
        }
        while let Some(message) = self.waiting.take_any_of(channel) {
            self.refuse(message.meta.key, message.octets.len());
            self.drop_octets(message.octets);
        }
    }

    /// When acks of packets are to be sent.
    #[must_use]
    pub fn ack_due(&self, now: Instant) -> AckDue {
        if self.is_broken {
            return AckDue::None;
        }
        match self.ack_at {
            _ if self.ack_now || self.unacked >= self.ack_every => AckDue::Now,
            Some(at) if now >= at => AckDue::Now,
            Some(at) => AckDue::At(at),
            None => AckDue::None,
        }
    }

    /// The next leg whose peer asked for an answer: one goes by it, whatever leg acks prefer (amendment 16).
    pub fn poll_answer_leg(&mut self) -> Option<PacketLeg> {
        let index = self.asked.trailing_zeros() as usize;
        let leg = PacketLeg::at(index)?;
        self.asked &= !(1 << index);
        Some(leg)
    }

    /// Octets of the ack section that [`Receiver::write_acks`] would write; 0 when nothing came yet.
    #[must_use]
    pub fn acks_len(&self) -> usize {
        let counts = self.legs.iter().flatten().map(|leg| leg.ack_ranges().as_slice().len());
        let mut counts = counts.filter(|&count| count > 0).peekable();
        if counts.peek().is_none() { 0 } else { ack_section_len(counts) }
    }

    /// Writes the ack section, with all legs by which something came, and gives its octets. 0 when there is nothing to
    /// acknowledge or no room; the ack stays due then.
    //= spec/packet.md#all-legs
    //# An ack section MUST have a block for each leg by which something was received in the session.
    pub fn write_acks(&mut self, now: Instant, out: &mut [u8]) -> usize {
        self.now = now;
        if self.is_broken {
            return 0;
        }
        let mut section = AckSectionWriter::new(out);
        for block in self.legs.iter().flatten().filter_map(|leg| leg.ack_block(now)) {
            if !section.push(&block) {
                return 0;
            }
        }
        let len = section.finish();
        if len > 0 {
            (self.unacked, self.ack_at, self.ack_now) = (0, None, false);
        }
        len
    }

    /// When credit and message acks are to be sent.
    #[must_use]
    pub fn message_acks_due(&self, now: Instant) -> AckDue {
        if self.is_broken { AckDue::None } else { self.reports.due(now) }
    }

    /// Writes records with credit and message acks of the channels that changed, as many as `out` has room for, and gives
    /// their octets. What finds no room stays due.
    ///
    /// Not to be called while the association holds: acknowledged means done with.
    pub fn write_message_acks(&mut self, windows: &dyn ChannelWindows, out: &mut [u8]) -> usize {
        if self.is_broken { 0 } else { self.reports.write(windows, out) }
    }

    /// Credit and message acks of `channel` are to be sent again: the packet with the last ones was lost.
    pub fn resend_message_acks(&mut self, now: Instant, channel: Channel) {
        self.now = now;
        self.reports.mark(now, channel);
    }

    /// The peer says how many octets of its messages were acknowledged in the session, in KiB, free-running: it misses credit
    /// for messages that came by no packet, or only by packets that were not needed.
    pub fn handle_settled(&mut self, now: Instant, kib: u32) {
        self.now = now;
        self.reports.settle(now, kib, self.octets_held);
    }

    /// Octets granted to the peer since the session began, in KiB; what the handshake tells is the first value.
    #[must_use]
    pub fn granted_kib(&self) -> u32 {
        self.reports.granted_kib()
    }

    /// Octets held, each message with 256 for its bookkeeping; messages lent to the host are among them.
    #[must_use]
    pub fn octets_held(&self) -> usize {
        self.octets_held
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> ReceiverCounters {
        self.counters
    }

    /// Gives memory back that only traffic needs: for an association that has become idle.
    pub fn trim(&mut self) {
        self.pool.trim();
        self.assembly.trim();
        self.ready.shrink_to_fit();
        self.refused.shrink_to_fit();
    }
}
