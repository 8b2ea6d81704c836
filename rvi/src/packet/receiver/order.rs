//! Whole messages whose turn it is not yet, found again when what they wait for is delivered or their channel is open.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};

use vlan_core::Channel;

use super::types::{ChannelWindows, Key, WholeMessage};

/// The lowest and highest keys there are.
const FIRST: Key = Key { channel: Channel(0), mseq: 0 };
const LAST: Key = Key { channel: Channel(u8::MAX), mseq: u32::MAX };

/// Messages that wait: for one message before them in their lane, for all before them in their channel, or for the channel
/// itself.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    held: BTreeMap<Key, WholeMessage>,
    /// (what is waited for, who waits).
    after_one: BTreeSet<(Key, Key)>,
    after_all: BTreeSet<Key>,
    /// Messages of channels that are yet to open.
    unopened: BTreeSet<Key>,
}

impl Waiting {
    /// True when nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// True when the message waits.
    #[inline]
    pub fn contains(&self, key: Key) -> bool {
        !self.held.is_empty() && self.held.contains_key(&key)
    }

    /// Lets a message wait for `predecessor`.
    pub fn wait_for(&mut self, predecessor: Key, message: WholeMessage) {
        self.after_one.insert((predecessor, message.meta.key));
        self.held.insert(message.meta.key, message);
    }

    /// Lets a message wait for all before it.
    pub fn wait_for_all(&mut self, message: WholeMessage) {
        self.after_all.insert(message.meta.key);
        self.held.insert(message.meta.key, message);
    }

    /// Lets a message wait until its channel is open.
    pub fn wait_for_channel(&mut self, message: WholeMessage) {
        self.unopened.insert(message.meta.key);
        self.held.insert(message.meta.key, message);
    }

    /// Moves what waited for channels that are open now to the front of `ready`, in the order of its numbers.
    #[inline]
    pub fn release_opened(&mut self, windows: &dyn ChannelWindows, ready: &mut VecDeque<WholeMessage>) {
        if self.unopened.is_empty() {
            return;
        }
        let (opened, rest) = self.unopened.iter().partition(|key| windows.is_open(key.channel));
        self.unopened = rest;
        let opened: BTreeSet<Key> = opened;
        for message in opened.iter().rev().filter_map(|key| self.held.remove(key)) {
            ready.push_front(message);
        }
    }

    /// `delivered` is delivered, and `lowest` is the lowest of its channel that is not: moves what waited for that to
    /// the front of `ready`.
    pub fn release(&mut self, delivered: Key, lowest: u32, ready: &mut VecDeque<WholeMessage>) {
        while let Some(&(one, key)) = self.after_one.range((delivered, FIRST)..=(delivered, LAST)).next() {
            self.after_one.remove(&(one, key));
            if let Some(message) = self.held.remove(&key) {
                ready.push_front(message);
            }
        }
        let barrier = Key { channel: delivered.channel, mseq: lowest };
        if self.after_all.remove(&barrier)
            && let Some(message) = self.held.remove(&barrier)
        {
            ready.push_front(message);
        }
    }

    /// Takes any message of `channel` out.
    pub fn take_any_of(&mut self, channel: Channel) -> Option<WholeMessage> {
        let (&key, _) = self.held.range(Key { channel, mseq: 0 }..=Key { channel, mseq: u32::MAX }).next()?;
        let message = self.held.remove(&key)?;
        if let Some(predecessor) = message.meta.predecessor() {
            self.after_one.remove(&(predecessor, key));
        }
        self.after_all.remove(&key);
        self.unopened.remove(&key);
        Some(message)
    }
}
