//! Nobody answers: first the relay legs serve, then the association stalls (amendment 25).

use core::time::Duration;

use vlan_core::Instant;

/// Silence is no shorter than this.
const SILENCE_SHORTEST: Duration = Duration::from_millis(2);

/// Silence of the direct, or of the relay legs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Silence {
    /// Since then a packet that wants an answer is out, and nothing has answered.
    asked_since: Option<Instant>,
    is_silent: bool,
}

impl Silence {
    pub(super) fn is_silent(&self) -> bool {
        self.is_silent
    }

    /// A packet that wants an answer was sent.
    pub(super) fn note_asked(&mut self, now: Instant) {
        self.asked_since.get_or_insert(now);
    }

    /// Something that was sent arrived; with `is_waiting` other packets are still out. True when silence ends.
    pub(super) fn note_answer(&mut self, now: Instant, is_waiting: bool) -> bool {
        self.asked_since = is_waiting.then_some(now);
        core::mem::take(&mut self.is_silent)
    }

    /// When it counts as silence: three PTOs, and 2 ms at least.
    //= spec/packet-sender.md#silence
    //# When nothing that was sent by a direct leg was answered for three PTOs, and for 2 ms at least, a sender MUST send
    //# the oldest messages by each relay leg, and MUST say that it is stalled when those do not answer either.
    pub(super) fn deadline(&self, pto: Duration) -> Option<Instant> {
        let since = if self.is_silent { None } else { self.asked_since };
        since.map(|at| at + (3 * pto).max(SILENCE_SHORTEST))
    }

    pub(super) fn begin(&mut self) {
        self.is_silent = true;
    }

    /// There is no leg that could be silent.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
