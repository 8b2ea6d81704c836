//! Copies that one tap has made, on their way to whoever asked: as many together as a message takes, and no more of them than there is
//! credit for.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::limits::MESSAGE_LEN_MAX;
use crate::wire::captured::{CAPTURED_HEADER_LEN, CAPTURED_RECORD_LEN, CapturedHeader, CapturedRecord};
use crate::wire::control::CaptureOrder;

/// Copies go together into messages of so many octets, unless one alone is longer: as many as a control node takes in one
/// turn.
const MESSAGE_OCTETS: usize = 16 * 1024;

/// The copies of one tap, and what it has counted.
#[derive(Clone, Debug)]
pub struct Copies {
    told: CapturedHeader,
    messages: VecDeque<Vec<u8>>,
    /// Octets of each frame that are wanted.
    snap_octets: usize,
    /// Octets that may still be sent, and those that may be under way.
    credit: u32,
    window_octets: u32,
}

/// What is copied.
#[derive(Clone, Copy, Debug)]
pub struct Original {
    /// Its octets.
    pub len: usize,
    /// When it passed: nanoseconds since 1970-01-01.
    pub unix_ns: u64,
    /// It went out.
    pub is_out: bool,
    /// The channel of a message.
    pub channel: u8,
}

impl Copies {
    /// Nothing has passed, and there is credit for all that `order` lets be under way.
    #[must_use]
    pub fn new(order: &CaptureOrder) -> Self {
        Self {
            told: CapturedHeader { id: order.id, ..CapturedHeader::default() },
            messages: VecDeque::new(),
            snap_octets: usize::try_from(order.snap_octets).unwrap_or(usize::MAX),
            credit: order.window_octets,
            window_octets: order.window_octets,
        }
    }

    /// Something has passed the tap.
    pub fn note_seen(&mut self) {
        self.told.seen += 1;
    }

    /// Takes a copy of what the filter keeps, if `room` octets are enough for it: `copy` writes the first octets of the original. Returns
    /// the octets that it takes.
    //= spec/capture.md#bounds
    //# A copy for which there is no room MUST be counted as lost; it MUST NOT delay or displace a frame.
    pub fn keep(&mut self, room: usize, original: &Original, copy: impl FnOnce(&mut [u8])) -> usize {
        self.told.matched += 1;
        let len_max = MESSAGE_LEN_MAX - CAPTURED_HEADER_LEN - CAPTURED_RECORD_LEN;
        let len = original.len.min(self.snap_octets).min(len_max);
        let octets = CAPTURED_RECORD_LEN + len;
        if octets > room {
            self.told.lost += 1;
            return 0;
        }
        let Original { unix_ns, is_out, channel, .. } = *original;
        let original_len = u32::try_from(original.len).unwrap_or(u32::MAX);
        let message = self.message_for(octets);
        CapturedRecord { original_len, unix_ns, is_out, channel, octets: &[] }.emit_head(len, message);
        let at = message.len();
        message.resize(at + len, 0);
        copy(&mut message[at..]);
        octets
    }

    /// The message that the next copy, of `octets` with what stands in front of it, goes into.
    fn message_for(&mut self, octets: usize) -> &mut Vec<u8> {
        let has_room = self.messages.back().is_some_and(|last| last.len() + octets <= MESSAGE_OCTETS);
        if !has_room {
            self.messages.push_back(Vec::with_capacity(octets));
        }
        let last = self.messages.len() - 1;
        &mut self.messages[last]
    }

    /// Octets of the copies that wait.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.messages.iter().map(Vec::len).sum()
    }

    /// As many octets as these have been got rid of: as many more may be sent.
    pub fn give_credit(&mut self, octets: u32) {
        self.credit = self.credit.saturating_add(octets).min(self.window_octets);
    }

    /// Nobody wants what waits.
    pub fn discard(&mut self) {
        self.messages.clear();
    }

    /// The next message that there is credit for: its header and its copies. It waits until [`Self::sent`].
    //= spec/capture.md#credit
    //# A node MUST NOT have more octets of copies under way than it has credit for, each message counted as 4,096 octets at
    //# least.
    #[must_use]
    pub fn next(&self) -> Option<(CapturedHeader, &[u8])> {
        let message = self.messages.front()?;
        (CapturedHeader::cost(message.len()) <= self.credit).then_some((self.told, message))
    }

    /// The message that [`Self::next`] gave has been sent; returns the octets of its copies.
    pub fn sent(&mut self) -> usize {
        let Some(message) = self.messages.pop_front() else { return 0 };
        self.credit = self.credit.saturating_sub(CapturedHeader::cost(message.len()));
        message.len()
    }

    /// The header of the last word, once no copies wait.
    #[must_use]
    pub fn last(&self) -> Option<CapturedHeader> {
        self.messages.is_empty().then_some(CapturedHeader { is_last: true, ..self.told })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VifNumber;
    use crate::wire::control::{CaptureDirections, CapturePoint};

    fn copies(snap_octets: u32, window_octets: u32) -> Copies {
        Copies::new(&CaptureOrder {
            id: 7,
            point: CapturePoint::Interface(VifNumber(1)),
            directions: CaptureDirections::Both,
            snap_octets,
            window_octets,
            filter: Vec::new(),
        })
    }

    fn keep(copies: &mut Copies, room: usize, len: usize) -> usize {
        copies.note_seen();
        let original = Original { len, unix_ns: 5, is_out: true, channel: 0 };
        copies.keep(room, &original, |octets| octets.fill(9))
    }

    #[test]
    fn copies_go_together_on_credit_and_what_finds_no_room_is_lost() {
        //= spec/capture.md#bounds
        //= type=test
        //# A copy for which there is no room MUST be counted as lost; it MUST NOT delay or displace a frame.
        //= spec/capture.md#credit
        //= type=test
        //# A node MUST NOT have more octets of copies under way than it has credit for, each message counted as 4,096 octets at
        //# least.
        let mut copies = copies(100, 5000);
        assert_eq!((keep(&mut copies, 1000, 60), keep(&mut copies, 1000, 5000)), (84, 124));
        assert_eq!(keep(&mut copies, 123, 5000), 0);
        assert_eq!((copies.octets(), copies.last()), (208, None));
        let (header, octets) = copies.next().expect("credit");
        assert_eq!((header.seen, header.matched, header.lost, octets.len()), (3, 3, 1, 208));
        let mut rest = octets;
        let lens = [(); 2].map(|()| {
            let record = CapturedRecord::take(&mut rest).expect("a record");
            (record.original_len, record.octets.len())
        });
        assert_eq!((lens, rest.len()), ([(60, 60), (5000, 100)], 0));
        assert_eq!(copies.sent(), 208);
        assert!(copies.last().is_some_and(|last| last.is_last && last.seen == 3));
        // A short message has cost 4,096 octets of 5,000.
        keep(&mut copies, 1000, 60);
        assert!(copies.next().is_none());
        copies.give_credit(4096);
        assert!(copies.next().is_some());
        copies.discard();
        assert_eq!((copies.octets(), copies.next()), (0, None));
    }
}
