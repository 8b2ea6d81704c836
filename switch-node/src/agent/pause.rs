//! When a stack is left alone for a moment: all that it has sent lately was beyond a limit. The kernel drops what finds no room in
//! the queue of its TAP, for less than it costs to read it.

use std::time::Duration;

use vlan_core::Instant;

/// So many frames in a row beyond a limit, and nothing else: a storm.
const LIMITED_MAX: usize = 64;
/// A stack that sends nothing else is read this often.
const PAUSE: Duration = Duration::from_millis(4);

/// Counts frames beyond a limit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pause {
    /// In a row.
    limited: usize,
    until: Option<Instant>,
}

impl Pause {
    /// So many frames were taken from the stack.
    //= spec/port-security.md#pauses
    //# A host MUST leave a stack alone for 4 ms of whose frames the last 64 were all beyond a limit.
    #[inline]
    pub fn note(&mut self, frames: usize, is_limited: bool) {
        self.limited = if is_limited { self.limited + frames } else { 0 };
    }

    /// The stack is to be left alone now.
    #[inline]
    pub fn is_due(&self) -> bool {
        self.limited >= LIMITED_MAX
    }

    /// It is.
    pub fn begin(&mut self, now: Instant) {
        *self = Self { limited: 0, until: Some(now + PAUSE) };
    }

    /// Until when.
    #[inline]
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// It is read again; false when it has been all the while.
    #[inline]
    pub fn end(&mut self) -> bool {
        self.until.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //= spec/port-security.md#pauses
    //= type=test
    //# A host MUST leave a stack alone for 4 ms of whose frames the last 64 were all beyond a limit.
    #[test]
    fn a_stack_that_sends_nothing_else_is_left_alone() {
        let at = |millis: u64| Instant::from_nanos(millis * 1_000_000);
        let mut pause = Pause::default();
        for (frames, is_limited, is_due) in
            [(63, true, false), (1, false, false), (40, true, false), (23, true, false), (1, true, true)]
        {
            pause.note(frames, is_limited);
            assert_eq!((pause.is_due(), pause.until()), (is_due, None));
        }
        pause.begin(at(10));
        assert_eq!((pause.is_due(), pause.until()), (false, Some(at(14))));
        assert_eq!([pause.end(), pause.end()], [true, false]);
    }
}
