//! Octets that the peer takes: what it granted, what was sent, and whether it owes credit.
//!
//! The peer grants again what it has handed out and got back. It does not know of a message that went by packets but
//! came by shared memory, or in an earlier session, and whose packets it dropped or never had. So the sender, who knows
//! what each message cost, says how many octets were acknowledged when that and the grants do not fit together.

/// The peer is told when what it misses to grant is more than its first credit divided by this.
const SHORTAGE: u64 = 2;
/// ... and again when so much of its first credit more was acknowledged.
const AGAIN: u64 = 4;

/// Octets of a session's messages, each with those for its bookkeeping.
#[derive(Debug)]
pub(super) struct Credit {
    /// What the handshake granted.
    first: u64,
    granted: u64,
    granted_kib: u32,
    sent: u64,
    /// Of what was sent, what the peer acknowledged.
    settled: u64,
    told: u64,
    is_due: bool,
}

impl Credit {
    /// The handshake granted so many KiB.
    pub(super) fn new(first_kib: u32) -> Self {
        let first = u64::from(first_kib) << 10;
        Self { first, granted: first, granted_kib: first_kib, sent: 0, settled: 0, told: 0, is_due: false }
    }

    /// True when `octets` more may be sent.
    pub(super) fn admits(&self, octets: u64) -> bool {
        self.sent + octets <= self.granted
    }

    /// A message of `octets` is sent.
    pub(super) fn charge(&mut self, octets: u64) {
        self.sent += octets;
    }

    /// The peer granted `kib` since the session began, free-running. An older grant changes nothing.
    pub(super) fn grant(&mut self, kib: u32) {
        let more = kib.wrapping_sub(self.granted_kib);
        if more < 1 << 31 {
            self.granted += u64::from(more) << 10;
            self.granted_kib = kib;
        }
    }

    /// Messages were acknowledged; those that were not cost `kept` octets.
    pub(super) fn note_kept(&mut self, kept: u64) {
        self.settled = self.sent - kept;
        let is_news =
            self.settled >= self.told + self.first / AGAIN || (kept == 0 && self.settled > self.told);
        self.is_due |= is_news && self.is_short();
    }

    /// True when the peer has not granted what was acknowledged, and it is much.
    fn is_short(&self) -> bool {
        (self.first + self.settled).saturating_sub(self.granted) > self.first / SHORTAGE
    }

    /// KiB that were acknowledged, when the peer is to be told.
    //= spec/packet-sender.md#octets-settled
    //# A sender MUST tell how many octets of its messages were acknowledged when the peer has granted fewer than those and half
    //# of its first credit.
    pub(super) fn poll_settled(&self) -> Option<u32> {
        (self.is_due && self.is_short()).then_some((self.settled >> 10) as u32)
    }

    /// The peer is told.
    pub(super) fn note_told(&mut self) {
        (self.is_due, self.told) = (false, self.settled);
    }

    /// The peer may not have got what it was told.
    pub(super) fn tell_again(&mut self) {
        self.is_due |= self.told > 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of 4 KiB is sent and acknowledged, and the peer grants nothing for it.
    fn lose(credit: &mut Credit) {
        assert!(credit.admits(4096));
        credit.charge(4096);
        credit.note_kept(0);
    }

    //= spec/packet-sender.md#octets-settled
    //= type=test
    //# A sender MUST tell how many octets of its messages were acknowledged when the peer has granted fewer than those and half
    //# of its first credit.
    #[test]
    fn credit_that_does_not_come_back_is_asked_for() {
        let mut credit = Credit::new(64);
        for _ in 0..8 {
            lose(&mut credit);
            assert_eq!(credit.poll_settled(), None, "half of the credit is left");
        }
        lose(&mut credit);
        assert_eq!(credit.poll_settled(), Some(36));
        credit.note_told();
        assert_eq!(credit.poll_settled(), None, "once");
        credit.tell_again();
        assert_eq!(credit.poll_settled(), Some(36), "it was lost");
        credit.grant(64 + 36);
        assert_eq!(credit.poll_settled(), None, "there is nothing to ask for");
        credit.charge(8192);
        credit.note_kept(4096);
        assert_eq!(credit.poll_settled(), None);
        assert!(credit.admits(64 * 1024 - 8192) && !credit.admits(64 * 1024 - 8191));
    }

    #[test]
    fn a_peer_that_holds_what_it_got_is_told_now_and_then() {
        let mut credit = Credit::new(64);
        credit.charge(48 << 10);
        let mut told = 0;
        for kept in (0..48).rev() {
            credit.note_kept(kept << 10);
            if credit.poll_settled().is_some() {
                credit.note_told();
                told += 1;
            }
        }
        assert_eq!(told, 2, "after half, and at the end");
        credit.grant(20);
        assert!(credit.admits(16 << 10), "an older grant takes nothing back");
    }
}
