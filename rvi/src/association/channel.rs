//! Numbers of a channel: those given out, and those seen.

use alloc::vec::Vec;

use vlan_core::Channel;
use vlan_core::limits::MESSAGE_WINDOW;
use vlan_core::window::{Window, WindowVerdict};

use super::LEGS;

/// How often the oldest number that may be unsettled is worked out again, in messages.
const MARK_INTERVAL: u32 = 1024;

/// The channels of an association that have been opened, and those with lower numbers.
///
/// The highest number, which every control RVI has ([`Channel::RELAYED_PACKETS`]), stands before the lowest: a table up to the
/// channel in use with the highest number but that is short.
#[derive(Debug, Default)]
pub(super) struct Channels(Vec<ChannelState>);

impl Channels {
    #[inline]
    fn place(channel: Channel) -> usize {
        channel.0.wrapping_add(1).into()
    }

    #[inline]
    pub(super) fn of(&self, channel: Channel) -> Option<&ChannelState> {
        self.0.get(Self::place(channel))
    }

    #[inline]
    pub(super) fn of_mut(&mut self, channel: Channel) -> Option<&mut ChannelState> {
        self.0.get_mut(Self::place(channel))
    }

    /// The state of `channel`, made if it was not there.
    pub(super) fn make(&mut self, channel: Channel) -> &mut ChannelState {
        let place = Self::place(channel);
        if place >= self.0.len() {
            self.0.resize_with(place + 1, ChannelState::new);
        }
        &mut self.0[place]
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Channel, &mut ChannelState)> {
        (0_u8..=u8::MAX).map(|place| Channel(place.wrapping_sub(1))).zip(&mut self.0)
    }

    /// True once there was a channel between the control channel and the highest number.
    #[inline]
    pub(super) fn has_data(&self) -> bool {
        self.0.len() > Self::place(Channel::CONTROL) + 1
    }

    /// Gives back what idle channels do not need.
    pub(super) fn trim(&mut self) {
        self.0.iter_mut().for_each(ChannelState::trim);
        self.0.shrink_to_fit();
    }
}

/// One channel of the association, in both directions.
///
/// Numbers run on when a channel is closed and opened again: they belong to the session.
#[derive(Debug)]
pub(super) struct ChannelState {
    pub(super) open: bool,
    /// It has been open in this session.
    pub(super) was_open: bool,
    /// The number of the next message.
    pub(super) next: u32,
    /// Every message before this one is settled.
    oldest: u32,
    /// Every message before this one is settled once each leg has settled `mark_pushed`.
    mark: u32,
    mark_pushed: [u64; LEGS],
    seen: Window,
    /// Every message before this one has come; kept up only where packets bring some.
    lowest: u32,
    /// Every message before this one had come when what is held was marked, and before that one is settled.
    marked: u32,
    settled: u32,
}

impl ChannelState {
    pub(super) fn new() -> Self {
        let seen = Window::new(MESSAGE_WINDOW, 0);
        Self {
            open: false,
            was_open: false,
            next: 0,
            oldest: 0,
            mark: 0,
            mark_pushed: [0; LEGS],
            seen,
            lowest: 0,
            marked: 0,
            settled: 0,
        }
    }

    /// True when one more number may be given out.
    //= spec/rvi.md#numbers
    //# A sender MUST NOT have a message outstanding whose number is 16,384 or more behind the next number of its
    //# channel.
    #[inline]
    pub(super) fn has_number(&self) -> bool {
        self.next.wrapping_sub(self.oldest) < MESSAGE_WINDOW - 1
    }

    /// Counts a number given out. True when it is time for `mark`.
    #[inline]
    pub(super) fn advance(&mut self) -> bool {
        self.next = self.next.wrapping_add(1);
        self.next.is_multiple_of(MARK_INTERVAL)
    }

    /// Moves `oldest` up if the marked point is settled, and marks the present one.
    pub(super) fn mark(&mut self, settled: &[u64; LEGS], pushed: &[u64; LEGS]) {
        if settled.iter().zip(&self.mark_pushed).all(|(settled, marked)| settled >= marked) {
            self.oldest = self.mark;
            self.mark = self.next;
            self.mark_pushed = *pushed;
        }
    }

    /// A leg begins at `index`: nothing is outstanding on it.
    pub(super) fn leg_up(&mut self, index: usize) {
        self.mark_pushed[index] = 0;
    }

    /// Marked messages were sent again: they are settled only when `pushed` is.
    pub(super) fn remark(&mut self, pushed: &[u64; LEGS]) {
        self.mark_pushed = *pushed;
    }

    /// Gives back what an idle channel does not need.
    pub(super) fn trim(&mut self) {
        self.seen.compact();
    }

    /// True for a number that was not seen before.
    //= spec/rvi.md#duplicates
    //# A receiver MUST deliver a message number of a channel at most once in a session.
    #[inline]
    pub(super) fn is_new(&mut self, mseq: u32) -> bool {
        self.seen.insert(mseq) == WindowVerdict::New
    }

    /// The same for a number that came in packets: their peer is told the lowest missing one.
    pub(super) fn is_new_in_packets(&mut self, mseq: u32) -> bool {
        let is_new = self.is_new(mseq);
        self.find_lowest();
        is_new
    }

    /// True for a number that was seen before.
    pub(super) fn has_seen(&self, mseq: u32) -> bool {
        self.seen.contains(mseq)
    }

    /// Which of the 64 numbers from `first` on were seen before: bit i stands for `first` + i.
    pub(super) fn seen_from(&self, first: u32) -> u64 {
        self.seen.seen_from(first)
    }

    /// Brings the lowest missing number up to date, after messages have come.
    pub(super) fn find_lowest(&mut self) {
        self.lowest = self.seen.first_missing(self.lowest);
    }

    /// What came so far is what the holds of now hold.
    pub(super) fn mark_received(&mut self) {
        self.marked = self.lowest;
    }

    /// Settles what came before the mark, or all that did. True when that is news.
    pub(super) fn settle(&mut self, all: bool) -> bool {
        let settled = if all { self.lowest } else { self.marked };
        let is_news = settled.wrapping_sub(self.settled) as i32 > 0;
        if is_news {
            self.settled = settled;
        }
        is_news
    }

    /// What came so far is settled: nothing is held.
    pub(super) fn settle_received(&mut self) {
        self.settled = self.lowest;
    }

    /// Every message before this one is settled.
    pub(super) fn settled(&self) -> u32 {
        self.settled
    }

    /// The lowest number that has not come, and one past the highest that has.
    pub(super) fn window(&self) -> (u32, u32) {
        (self.lowest, self.seen.next())
    }
}
