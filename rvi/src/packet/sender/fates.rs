//! What was proven of the packets of a leg: which arrived, which are lost, and how long they were.

/// What a step proved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Proofs {
    pub(super) arrived: u32,
    pub(super) lost: u32,
    /// Packets that arrived although their pieces were sent again.
    pub(super) spurious: u32,
    /// A packet with control of channels was lost, or is taken for lost.
    pub(super) is_control_lost: bool,
    /// Of those that arrived, and of those that are lost and longer than the base.
    pub(super) arrivals: Extent,
    pub(super) long_losses: Extent,
    pub(super) trial: Option<Trial>,
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
