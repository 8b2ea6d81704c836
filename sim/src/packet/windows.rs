//! The association's knowledge of what was delivered, as plainly as it can be written: one set a channel.

use std::collections::BTreeSet;

use rvi::packet::receiver::ChannelWindows;
use vlan_core::Channel;

/// What one channel delivered.
#[derive(Clone, Debug, Default)]
struct Delivered {
    is_open: bool,
    /// Everything below was delivered.
    cum: u32,
    /// What was delivered at or above, as distances from the first number.
    above: BTreeSet<u32>,
}

/// Which messages of each channel one end has delivered.
#[derive(Clone, Debug)]
pub struct ModelWindows {
    channels: Vec<Delivered>,
}

impl ModelWindows {
    /// Windows of `channels` channels from 0 on, all open; the first number of each is `first`.
    #[must_use]
    pub fn new(channels: usize, first: u32) -> Self {
        let one = Delivered { is_open: true, cum: first, above: BTreeSet::new() };
        Self { channels: vec![one; channels] }
    }

    /// Notes that a message was delivered; false when it had been.
    pub fn deliver(&mut self, channel: Channel, mseq: u32) -> bool {
        if self.is_delivered(channel, mseq) {
            return false;
        }
        let state = &mut self.channels[usize::from(channel.0)];
        state.above.insert(mseq);
        while state.above.remove(&state.cum) {
            state.cum = state.cum.wrapping_add(1);
        }
        true
    }

    /// The lowest number of a channel that was not delivered.
    #[must_use]
    pub fn cum(&self, channel: Channel) -> u32 {
        self.channels[usize::from(channel.0)].cum
    }
}

impl ChannelWindows for ModelWindows {
    fn is_open(&self, channel: Channel) -> bool {
        self.channels.get(usize::from(channel.0)).is_some_and(|state| state.is_open)
    }

    fn is_delivered(&self, channel: Channel, mseq: u32) -> bool {
        let Some(state) = self.channels.get(usize::from(channel.0)) else { return false };
        is_before(mseq, state.cum) || state.above.contains(&mseq)
    }

    fn window(&self, channel: Channel) -> (u32, u32) {
        let Some(state) = self.channels.get(usize::from(channel.0)) else { return (0, 0) };
        let distance = |mseq: &u32| mseq.wrapping_sub(state.cum);
        let highest = state.above.iter().map(distance).max().map_or(0, |d| d + 1);
        (state.cum, state.cum.wrapping_add(highest))
    }
}

/// Order of free-running numbers.
#[must_use]
pub const fn is_before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_moves_over_what_was_delivered_and_over_the_end_of_the_numbers() {
        let mut windows = ModelWindows::new(1, u32::MAX - 1);
        let channel = Channel(0);
        assert!(windows.deliver(channel, 0));
        assert_eq!(windows.window(channel), (u32::MAX - 1, 1));
        assert!(windows.deliver(channel, u32::MAX - 1) && windows.deliver(channel, u32::MAX));
        assert_eq!(windows.window(channel), (1, 1));
        assert!(!windows.deliver(channel, u32::MAX) && !windows.deliver(channel, 0));
        assert!(!windows.is_delivered(channel, 1));
    }
}
