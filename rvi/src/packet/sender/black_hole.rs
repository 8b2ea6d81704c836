//! A path on which packets above some length vanish while shorter ones arrive, and nobody says so.
//!
//! Loss alone does not tell: it meets long packets as it meets short ones, and a burst of it meets all. What tells is that a
//! long packet was lost and a shorter one that was sent later arrived, and this again and again, each time with a packet
//! that was sent after the last time was known, while none as long arrived in between.

use super::fates::Extent;

/// So often: at 5 % of loss one long packet in 160,000 that travels among short ones alone is taken for it.
const SIGNS_MAX: u8 = 4;

/// What speaks for a black hole on one leg.
#[derive(Clone, Debug, Default)]
pub(super) struct BlackHole {
    signs: u8,
    /// Of the signs, octets of the shortest loss: what is as long and arrives refutes them.
    len: u16,
    /// Losses that are no sign yet.
    lost: Extent,
    /// Only packets from here on count for the next sign.
    from: u64,
}

impl BlackHole {
    /// Takes fates that were proven together: of packets that arrived, and of those longer than the base that were lost.
    /// The leg's next packet is `next`. True when it is one.
    //= spec/packet-sender.md#black-holes
    //# When long packets were lost four times while shorter ones that were sent later arrived, each time one that was sent
    //# after the time before was known, a sender MUST go on with the base length and search again.
    pub(super) fn record(&mut self, arrived: Extent, lost: Extent, next: u64) -> bool {
        if arrived.longest >= self.len {
            (self.signs, self.len) = (0, u16::MAX);
        }
        if arrived.longest >= self.lost.longest {
            self.lost = Extent::default();
        }
        if let Some(newest) = lost.newest()
            && newest >= self.from
            && lost.longest > arrived.longest
        {
            self.lost.note(newest, lost.longest);
        }
        if let Some(number) = self.lost.newest()
            && arrived.newest().is_some_and(|newest| newest > number)
        {
            self.len = self.len.min(self.lost.longest);
            (self.signs, self.lost, self.from) = (self.signs + 1, Extent::default(), next);
        }
        let is_one = self.signs >= SIGNS_MAX;
        if is_one {
            *self = Self { from: next, ..Self::default() };
        }
        is_one
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vlan_core::random::Random;

    fn extent(numbers: &[u64], len: u16) -> Extent {
        let mut extent = Extent::default();
        numbers.iter().for_each(|number| extent.note(*number, len));
        extent
    }

    //= spec/packet-sender.md#black-holes
    //= type=test
    //# When long packets were lost four times while shorter ones that were sent later arrived, each time one that was sent
    //# after the time before was known, a sender MUST go on with the base length and search again.
    #[test]
    fn four_losses_of_long_packets_among_short_ones_that_arrive_are_a_black_hole() {
        let mut hole = BlackHole::default();
        assert!(!hole.record(extent(&[4], 100), extent(&[0, 1, 2, 3], 1472), 10));
        assert!(
            !hole.record(extent(&[12], 100), extent(&[5, 9], 1472), 20),
            "sent before the first was known"
        );
        assert!(!hole.record(Extent::default(), extent(&[20], 1472), 21), "nothing says that others arrive");
        assert!(!hole.record(extent(&[19], 100), Extent::default(), 22), "sent earlier");
        assert!(!hole.record(extent(&[22], 100), Extent::default(), 23));
        assert!(!hole.record(extent(&[24], 1300), extent(&[23], 8968), 30), "1,300 is shorter, too");
        assert!(hole.record(extent(&[32], 100), extent(&[31], 1472), 33));
        assert!(!hole.record(extent(&[34], 100), extent(&[33], 1472), 35), "then it begins anew");
    }

    #[test]
    fn a_packet_as_long_that_arrives_refutes_it() {
        let mut hole = BlackHole::default();
        for round in 0..100 {
            let n = round * 10;
            assert!(!hole.record(extent(&[n + 6], 100), extent(&[n + 5], 1472), n + 8));
            let refuted = if round % 2 == 0 { 1472 } else { 2000 };
            assert!(!hole.record(extent(&[n + 8], refuted), Extent::default(), n + 9));
        }
    }

    #[test]
    fn random_loss_is_seldom_taken_for_one() {
        let (mut random, mut holes) = (Random::new(1), 0);
        for share in [2, 20] {
            let mut hole = BlackHole::default();
            for number in 0..200_000 {
                let len = if random.below(share) == 0 { 1472 } else { 200 };
                let fate = extent(&[number], len);
                let is_lost = random.below(100) < 5;
                let (arrived, lost) =
                    if is_lost { (Extent::default(), fate) } else { (fate, Extent::default()) };
                holes += u32::from(hole.record(arrived, lost, number + 1));
            }
        }
        assert!(holes <= 5, "{holes} in 110,000 long packets");
    }
}
