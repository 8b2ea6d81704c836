//! What the peer is told of delivered messages: credit and message acks of the channels that changed.

use core::time::Duration;

use vlan_core::limits::MESSAGE_WINDOW;
use vlan_core::{Channel, Instant};

use super::types::{AckDue, ChannelWindows};
use crate::packet::wire::{
    CREDIT_RECORD_LEN, MESSAGE_RANGES_MAX, emit_credit, emit_message_ack, message_ack_record_len,
};

/// Numbers of a channel that the peer may use from the lowest that is not delivered on (`spec/rvi.md`, Numbers).
const WINDOW: u32 = MESSAGE_WINDOW - 1;
/// Octets of credit are told in units of this many.
const KIB: u64 = 1024;

/// Which channels have something to tell, and since when.
#[derive(Debug)]
pub(super) struct Reports {
    every: u32,
    delay: Duration,
    /// A bit for each channel with something to tell.
    changed: [u64; 4],
    /// Where to go on with the channel whose ranges did not all fit into the last packet.
    resume: Option<(Channel, u32)>,
    /// Messages delivered since the last report.
    fresh: u32,
    /// The first change since the last report.
    since: Option<Instant>,
    /// Octets taken back from the host, and those the receiver has room for.
    granted: u64,
    /// The credit that the peer was told last.
    told: u64,
    octets_max: u64,
}

impl Reports {
    pub fn new(every: u32, delay: Duration, octets_max: usize) -> Self {
        let granted = octets_max as u64;
        Self {
            every,
            delay,
            changed: [0; 4],
            resume: None,
            fresh: 0,
            since: None,
            granted,
            told: granted,
            octets_max: granted,
        }
    }

    /// Credit in KiB, as it goes on the wire.
    pub fn granted_kib(&self) -> u32 {
        (self.granted / KIB) as u32
    }

    /// A message of `channel` is delivered, or came again because the peer does not know that it is.
    #[inline]
    pub fn mark(&mut self, now: Instant, channel: Channel) {
        self.changed[usize::from(channel.0) / 64] |= 1 << (channel.0 % 64);
        self.since.get_or_insert(now);
        if self.resume.is_some_and(|(resumed, _)| resumed == channel) {
            self.resume = None;
        }
    }

    /// A message was handed out.
    #[inline]
    pub fn count_delivered(&mut self) {
        self.fresh += 1;
    }

    /// Grants as many octets as came back.
    //= spec/packet.md#octet-credit
    //# A receiver MUST NOT grant more octets in a session than it can hold and those of the messages that it is done with.
    #[inline]
    pub fn grant(&mut self, now: Instant, octets: usize) {
        self.granted += octets as u64;
        if self.is_credit_late() {
            // The peer may have to wait for it, whatever channel it would send on.
            self.mark(now, Channel::CONTROL);
        }
    }

    /// Grants what the peer misses: it has been told that `settled_kib` of what it sent are delivered, and all of that but
    /// what is still held is done with.
    //= spec/packet.md#octets-settled
    //# A receiver that is told how many octets were acknowledged MUST have granted them and what it can hold, less what it
    //# holds.
    pub fn settle(&mut self, now: Instant, settled_kib: u32, octets_held: usize) {
        // Free-running: it is no more than what was granted, so it is that far behind.
        let behind = u64::from(self.granted_kib().wrapping_sub(settled_kib));
        let settled = (self.granted / KIB).saturating_sub(behind) * KIB;
        let due = (settled + self.octets_max).saturating_sub(octets_held as u64);
        if due > self.granted {
            self.grant(now, (due - self.granted) as usize);
            self.mark(now, Channel::CONTROL);
        }
    }

    /// True when the peer may have used up a quarter of its credit since it was told.
    fn is_credit_late(&self) -> bool {
        self.granted - self.told >= self.octets_max / 4
    }

    /// When a report is to be sent.
    pub fn due(&self, now: Instant) -> AckDue {
        let Some(since) = self.since else { return AckDue::None };
        let at = since + self.delay;
        if self.fresh >= self.every || self.is_credit_late() || now >= at {
            AckDue::Now
        } else {
            AckDue::At(at)
        }
    }

    /// Writes the reports that fit into `out` and gives their octets; the others stay due.
    pub fn write(&mut self, windows: &dyn ChannelWindows, out: &mut [u8]) -> usize {
        let mut len = 0;
        while let Some(channel) = self.next_channel() {
            let (written, rest) = self.write_channel(channel, windows, &mut out[len..]);
            len += written;
            self.resume = rest.map(|next| (channel, next));
            if rest.is_some() {
                return len;
            }
            self.changed[usize::from(channel.0) / 64] &= !(1 << (channel.0 % 64));
        }
        (self.fresh, self.since) = (0, None);
        len
    }

    /// The channel to go on with.
    fn next_channel(&self) -> Option<Channel> {
        let first = || {
            let word = self.changed.iter().position(|&word| word != 0)?;
            Some(Channel((word as u32 * 64 + self.changed[word].trailing_zeros()) as u8))
        };
        self.resume.map(|(channel, _)| channel).or_else(first)
    }

    /// Writes credit and message acks of one channel. Gives octets, and where to go on if not everything fits.
    fn write_channel(
        &mut self,
        channel: Channel,
        windows: &dyn ChannelWindows,
        out: &mut [u8],
    ) -> (usize, Option<u32>) {
        let (cum, end) = windows.window(channel);
        let end = later(cum, end);
        let mut next = self.resume.map_or(cum, |(_, next)| later(cum, next));
        if out.len() < CREDIT_RECORD_LEN + message_ack_record_len(usize::from(next != end)) {
            return (0, Some(next));
        }
        let mut len = emit_credit(channel, cum, WINDOW, self.granted_kib(), out);
        self.told = self.granted;
        loop {
            let mut ranges = [(0, 0); MESSAGE_RANGES_MAX];
            let room = (out.len() - len).saturating_sub(message_ack_record_len(0)) / 8;
            let (count, at) =
                collect(channel, next, end, windows, &mut ranges[..room.min(MESSAGE_RANGES_MAX)]);
            len += emit_message_ack(channel, cum, &ranges[..count], &mut out[len..]);
            next = at;
            if next == end {
                return (len, None);
            }
            if out.len() - len < message_ack_record_len(1) {
                return (len, Some(next));
            }
        }
    }
}

/// The later of two numbers of a channel.
fn later(a: u32, b: u32) -> u32 {
    if (b.wrapping_sub(a) as i32) > 0 { b } else { a }
}

/// Finds ranges of delivered messages from `next` to before `end`. Gives how many, and where it stopped.
//= spec/packet.md#delivered
//# A receiver MUST NOT acknowledge a message that is not delivered.
fn collect(
    channel: Channel,
    mut next: u32,
    end: u32,
    windows: &dyn ChannelWindows,
    ranges: &mut [(u32, u32)],
) -> (usize, u32) {
    let mut count = 0;
    while next != end {
        let word = windows.delivered_from(channel, next);
        let left = end.wrapping_sub(next);
        let step = if word & 1 == 0 { word.trailing_zeros() } else { word.trailing_ones() }.min(left);
        if word & 1 != 0 {
            let is_full = count == ranges.len();
            match ranges[..count].last_mut() {
                Some((first, len)) if first.wrapping_add(*len) == next => *len += step,
                _ if is_full => break,
                _ => {
                    ranges[count] = (next, step);
                    count += 1;
                }
            }
        }
        next = next.wrapping_add(step);
    }
    (count, next)
}
