//! Counters that close the ledger: in + clones = delivered + drops by reason + held (STYLE.md section 6).

use crate::drop_reason::DropReason;

/// Frames and octets, counted together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCount {
    /// Frames.
    pub frames: u64,
    /// Octets of these frames, Ethernet header included.
    pub octets: u64,
}

impl FrameCount {
    /// Counts one frame of `octets`.
    #[inline]
    pub fn add(&mut self, octets: usize) {
        self.frames += 1;
        self.octets += octets as u64;
    }

    /// Counts the frames that were counted elsewhere.
    #[inline]
    pub fn add_all(&mut self, others: Self) {
        self.frames += others.frames;
        self.octets += others.octets;
    }
}

/// One counter for each [`DropReason`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropCounters([u64; DropReason::ALL.len()]);

impl Default for DropCounters {
    fn default() -> Self {
        Self([0; DropReason::ALL.len()])
    }
}

impl DropCounters {
    /// Counts one frame dropped for `reason`.
    #[inline]
    pub fn add(&mut self, reason: DropReason) {
        self.add_many(reason, 1);
    }

    /// Counts `frames` dropped for `reason`.
    #[inline]
    pub fn add_many(&mut self, reason: DropReason, frames: u64) {
        self.0[reason as usize] += frames;
    }

    /// Counts what another has counted.
    pub fn add_all(&mut self, others: &Self) {
        for (reason, frames) in others.iter() {
            self.add_many(reason, frames);
        }
    }

    /// Frames dropped for `reason` so far.
    #[must_use]
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// Frames dropped so far for any reason.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Each reason that was met at least once, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|&r| (r, self.of(r))).filter(|&(_, n)| n > 0)
    }
}
