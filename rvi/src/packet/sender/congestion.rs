//! How much may be on its way by one leg.
//!
//! A first version: loss alone says nothing on a fabric that may lose 5 %; loss *and* waiting together do
//! (amendment 18).

/// Packets that may always be on their way.
const PACKETS_LEAST: usize = 16;

#[derive(Clone, Debug)]
pub(super) struct CongestionWindow {
    octets: usize,
    octets_max: usize,
    packet_len: usize,
    /// The round is over when a packet from here on is acknowledged.
    round_end: u64,
    arrived: u32,
    lost: u32,
}

impl CongestionWindow {
    /// Starts open: `octets_max`.
    pub(super) fn new(octets_max: usize, packet_len: usize) -> Self {
        let octets_max = octets_max.max(PACKETS_LEAST * packet_len);
        Self { octets: octets_max, octets_max, packet_len, round_end: 0, arrived: 0, lost: 0 }
    }

    /// Octets that may be on their way.
    pub(super) fn octets(&self) -> usize {
        self.octets
    }

    /// Takes proven fates; `largest` is acknowledged, `next` is the number of the next packet, and with `is_delayed` packets
    /// take more than twice as long as they could.
    //= spec/packet-sender.md#congestion
    //# When more than a tenth of a round trip's packets are lost while packets take more than twice the least time, the
    //# leg's window MUST shrink to 0.7 of itself.
    pub(super) fn record(&mut self, arrived: u32, lost: u32, largest: u64, next: u64, is_delayed: bool) {
        self.arrived = self.arrived.saturating_add(arrived);
        self.lost = self.lost.saturating_add(lost);
        if largest < self.round_end {
            return;
        }
        let lost = u64::from(self.lost) * 10 > u64::from(self.lost) + u64::from(self.arrived);
        if lost && is_delayed {
            self.octets = (self.octets / 10 * 7).max(PACKETS_LEAST * self.packet_len);
        } else {
            self.octets = (self.octets + self.packet_len).min(self.octets_max);
        }
        (self.round_end, self.arrived, self.lost) = (next, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //= spec/packet-sender.md#congestion
    //= type=test
    //# When more than a tenth of a round trip's packets are lost while packets take more than twice the least time, the
    //# leg's window MUST shrink to 0.7 of itself.
    #[test]
    fn loss_and_delay_together_shrink_the_window_and_nothing_else_does() {
        let mut window = CongestionWindow::new(1_000_000, 1000);
        window.record(50, 50, 99, 100, false);
        window.record(95, 5, 199, 200, true);
        assert_eq!(window.octets(), 1_000_000);
        window.record(85, 15, 299, 300, true);
        assert_eq!(window.octets(), 700_000);
        window.record(0, 50, 299, 400, true);
        assert_eq!(window.octets(), 700_000, "once in a round");
        window.record(100, 0, 400, 500, false);
        window.record(100, 0, 500, 600, false);
        assert_eq!(window.octets(), 702_000);
        for round in 7..100 {
            window.record(0, 100, round * 100, round * 100, true);
        }
        assert_eq!(window.octets(), 16_000);
    }
}
