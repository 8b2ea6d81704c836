//! Which leg a lane goes by, and when a lane may change.

use super::LEGS;
use crate::association::types::Scheduler;

/// Lanes fall into this many groups, which are spread over the legs.
pub(super) const GROUPS: usize = 4;
/// The group of the control channel.
pub(super) const CONTROL_GROUP: usize = GROUPS;
/// The index that stands for all packet legs: the transport behind them chooses among its own.
pub(super) const PACKETS: usize = LEGS;
/// No leg.
pub(super) const NONE: u8 = u8::MAX;

/// A group's messages must not be sent by its new leg before the old one's were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    /// Index of the old leg.
    pub(super) leg: usize,
    /// How much of what was pushed there must have been taken.
    pub(super) pushed: u64,
}

/// The legs of all groups.
#[derive(Debug)]
pub(super) struct Route {
    legs: [u8; GROUPS + 1],
    pub(super) waits: [Option<Wait>; GROUPS + 1],
}

impl Route {
    pub(super) fn new() -> Self {
        Self { legs: [NONE; GROUPS + 1], waits: [None; GROUPS + 1] }
    }

    /// Index of the leg that `lane` goes by: [`PACKETS`] when it goes by packets, more when there is none.
    #[inline]
    pub(super) fn leg(&self, lane: u16) -> usize {
        self.legs[Self::group(lane)].into()
    }

    /// Index of the leg that control messages go by.
    pub(super) fn control_leg(&self) -> usize {
        self.legs[CONTROL_GROUP].into()
    }

    #[inline]
    pub(super) fn group(lane: u16) -> usize {
        usize::from(lane) % GROUPS
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waits.iter().any(Option::is_some)
    }

    pub(super) fn has_leg(&self) -> bool {
        self.legs[0] != NONE
    }

    /// Spreads the groups over the legs in `up` (indices in the order of leg numbers). `pending(leg, group)` says
    /// up to where messages of that group are still to be taken from a leg that it leaves.
    //= spec/rvi.md#lanes
    //# A lane MUST change its leg only when everything of it that was sent by the old leg was taken there, or is
    //# sent again by the new leg before anything new.
    pub(super) fn spread(
        &mut self,
        scheduler: Scheduler,
        up: &[u8],
        pending: impl Fn(usize, usize) -> Option<u64>,
    ) {
        for group in 0..=GROUPS {
            let old = self.legs[group];
            let new = Self::choose(scheduler, up, group, old);
            self.legs[group] = new;
            if old == new || old == NONE || self.waits[group].is_some() {
                continue;
            }
            let leg = usize::from(old);
            self.waits[group] = pending(leg, group).map(|pushed| Wait { leg, pushed });
        }
    }

    fn choose(scheduler: Scheduler, up: &[u8], group: usize, old: u8) -> u8 {
        match (up, scheduler) {
            ([], _) => NONE,
            (_, _) if group == CONTROL_GROUP => {
                if up.contains(&old) {
                    old
                } else {
                    up[0]
                }
            }
            (_, Scheduler::Failover) => up[0],
            (_, Scheduler::Lane) => up[group % up.len()],
        }
    }

    /// Forgets that anything waits for `leg`: what it had is sent again.
    pub(super) fn forget(&mut self, leg: usize) {
        debug_assert!(leg <= PACKETS);
        for wait in &mut self.waits {
            if wait.is_some_and(|w| w.leg == leg) {
                *wait = None;
            }
        }
    }
}
