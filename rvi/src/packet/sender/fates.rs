//! What was proven of the packets of a leg: which arrived, which are lost, how long they were, and when they were sent.

use vlan_core::Instant;

/// What a step proved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Proofs {
    pub(super) arrived: u32,
    pub(super) lost: u32,
    /// When those were sent; `None` for none.
    pub(super) sent: Option<SentSpan>,
    /// Packets that arrived although their pieces were sent again.
    pub(super) spurious: u32,
    /// A packet with control of channels was lost, or is taken for lost.
    pub(super) is_control_lost: bool,
    /// Of those that arrived, and of those that are lost and longer than the base.
    pub(super) arrivals: Extent,
    pub(super) long_losses: Extent,
    pub(super) trial: Option<Trial>,
}

impl Proofs {
    /// A packet of which nothing was known arrived.
    pub(super) fn note_arrived(&mut self, sent_at: Instant) {
        self.arrived += 1;
        self.note_sent(sent_at);
    }

    /// A packet of which nothing was known is lost.
    pub(super) fn note_lost(&mut self, sent_at: Instant) {
        self.lost += 1;
        self.note_sent(sent_at);
    }

    fn note_sent(&mut self, at: Instant) {
        let span = SentSpan { first: at, last: at };
        self.sent = Some(self.sent.map_or(span, |sent| sent.and(span)));
    }
}

#[cfg(test)]
impl Proofs {
    /// The proof of one packet's fate.
    pub(super) fn of_one(sent_at: Instant, has_arrived: bool) -> Self {
        let mut proofs = Self::default();
        match has_arrived {
            true => proofs.note_arrived(sent_at),
            false => proofs.note_lost(sent_at),
        }
        proofs
    }
}

/// From when to when packets were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SentSpan {
    pub(super) first: Instant,
    pub(super) last: Instant,
}

impl SentSpan {
    /// What reaches over both.
    pub(super) fn and(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }
}

/// How far packets of one fate reach, in number and in length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    /// Behind the highest number; 0 for none.
    end: u64,
    /// Octets of the longest; 0 for none.
    pub(super) longest: u16,
}

impl Extent {
    pub(super) fn note(&mut self, number: u64, len: u16) {
        self.end = self.end.max(number + 1);
        self.longest = self.longest.max(len);
    }

    /// The highest number.
    pub(super) fn newest(self) -> Option<u64> {
        self.end.checked_sub(1)
    }
}

/// What became of a packet that tried a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trial {
    pub(super) number: u64,
    pub(super) len: u16,
    pub(super) has_arrived: bool,
}
