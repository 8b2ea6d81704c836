//! How many frames of an interface go into one batch: the first after a sleep is of one frame, so that the peer that it is
//! for, which most likely sleeps as well, wakes while the rest is read.

/// Frames of one interface that go into one batch.
const FRAMES_MAX: usize = 64;

/// The length of the next batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchLen(usize);

impl BatchLen {
    /// Frames of one interface that the next batch may have.
    pub fn frames(self) -> usize {
        self.0
    }

    /// A batch had `frames` of all interfaces: one that was full doubles the next.
    pub fn handle_batch(&mut self, frames: usize) {
        if frames >= self.0 {
            self.0 = (self.0 * 2).min(FRAMES_MAX);
        }
    }

    /// The pump has slept.
    pub fn handle_sleep(&mut self) {
        *self = Self::default();
    }
}

impl Default for BatchLen {
    fn default() -> Self {
        Self(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_batches_double_the_next_up_to_the_most_and_a_sleep_begins_with_one() {
        let mut len = BatchLen::default();
        let mut lens = Vec::new();
        for _ in 0..9 {
            lens.push(len.frames());
            len.handle_batch(len.frames());
            len.handle_batch(0);
        }
        assert_eq!(lens, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        len.handle_batch(63);
        assert_eq!(len.frames(), 64);
        len.handle_sleep();
        assert_eq!(len.frames(), 1);
        len.handle_batch(3);
        assert_eq!(len.frames(), 2, "of several interfaces");
    }
}
