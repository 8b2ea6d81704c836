//! Numbers of a channel that are not acknowledged, its credit, and the last message of each of its lanes.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use vlan_core::limits::MESSAGE_WINDOW;

use super::store::Store;
use crate::packet::wire::LANES;

/// In place of a slot: the number is acknowledged, or went another way.
const NONE: u32 = u32::MAX;

/// One channel, towards the peer.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    /// The lowest number that is not acknowledged; where `slots` begins.
    base: u32,
    /// Where the message of each number is kept.
    slots: VecDeque<u32>,
    /// Numbers before this one are within the credit.
    credit_end: u32,
    /// The last message of each lane; looked at only together with that message.
    lanes: Option<Box<[u32; LANES as usize]>>,
    is_started: bool,
}

impl Outbound {
    /// The lowest number that is not acknowledged.
    pub(super) fn lowest(&self) -> Option<u32> {
        (!self.slots.is_empty()).then_some(self.base)
    }

    /// One past the highest number sent.
    pub(super) fn next(&self) -> u32 {
        self.base.wrapping_add(self.slots.len() as u32)
    }

    pub(super) fn is_started(&self) -> bool {
        self.is_started
    }

    /// The first message has number `first`, and there is credit for `messages` from there on.
    pub(super) fn start(&mut self, first: u32, messages: u32) {
        if !self.is_started {
            self.is_started = true;
            (self.base, self.credit_end) = (first, first.wrapping_add(messages));
        }
    }

    /// True when `mseq` is within credit and window.
    //= spec/packet-sender.md#window
    //# A sender MUST NOT send a message whose number the peer's credit does not cover, or lies 16,384 or more above the
    //# lowest that is not acknowledged.
    pub(super) fn admits(&self, mseq: u32) -> bool {
        let is_covered = self.credit_end.wrapping_sub(mseq).wrapping_sub(1) < 1 << 31;
        let ahead = mseq.wrapping_sub(self.base);
        let behind = self.next().wrapping_sub(mseq);
        is_covered && (self.slots.is_empty() || ahead < MESSAGE_WINDOW || behind <= MESSAGE_WINDOW)
    }

    /// The slot of message `mseq`, if it is kept.
    fn slot(&self, mseq: u32) -> Option<u32> {
        let index = mseq.wrapping_sub(self.base) as usize;
        self.slots.get(index).copied().filter(|slot| *slot != NONE)
    }

    pub(super) fn holds(&self, mseq: u32) -> bool {
        self.slot(mseq).is_some()
    }

    /// How many numbers back the last message of `lane` is that is not acknowledged; 0 = none.
    //= spec/packet-sender.md#previous-message
    //# A message MUST name the last message of its lane before it that is not acknowledged, and every packet with a piece
    //# of it MUST name the same.
    pub(super) fn previous(&self, mseq: u32, lane: u16, store: &Store) -> u16 {
        let Some(lanes) = &self.lanes else { return 0 };
        let last = lanes[usize::from(lane)];
        let distance = mseq.wrapping_sub(last);
        let is_last = self.slot(last).is_some_and(|slot| store.at(slot).lane == lane);
        if is_last && (1..MESSAGE_WINDOW).contains(&distance) { distance as u16 } else { 0 }
    }

    /// Notes that message `mseq` of `lane` is kept in `slot`. The number must be admitted.
    pub(super) fn insert(&mut self, mseq: u32, lane: u16, slot: u32) {
        if self.slots.is_empty() {
            self.base = mseq;
        }
        let ahead = mseq.wrapping_sub(self.base);
        if ahead < MESSAGE_WINDOW {
            let index = ahead as usize;
            while self.slots.len() <= index {
                self.slots.push_back(NONE);
            }
            self.slots[index] = slot;
        } else {
            while self.base != mseq {
                self.base = self.base.wrapping_sub(1);
                self.slots.push_front(NONE);
            }
            self.slots[0] = slot;
        }
        let lanes = self.lanes.get_or_insert_with(|| Box::new([0; LANES as usize]));
        lanes[usize::from(lane)] = mseq;
    }

    /// The peer grants numbers before `end`; an older grant changes nothing.
    pub(super) fn grant(&mut self, end: u32) {
        if self.is_started && end.wrapping_sub(self.credit_end) < 1 << 31 {
            self.credit_end = end;
        }
    }

    /// The peer has every message before `cum`.
    pub(super) fn acknowledge(&mut self, cum: u32, store: &mut Store) {
        while self.base != cum && cum.wrapping_sub(self.base) < 1 << 31 {
            let Some(slot) = self.slots.pop_front() else { return };
            self.base = self.base.wrapping_add(1);
            if slot != NONE {
                store.remove(slot);
            }
        }
        self.skip();
    }

    /// The peer has the `len` messages from `first` on.
    pub(super) fn acknowledge_range(&mut self, first: u32, len: u32, store: &mut Store) {
        for mseq in (0..len.min(MESSAGE_WINDOW)).map(|i| first.wrapping_add(i)) {
            let index = mseq.wrapping_sub(self.base) as usize;
            let Some(slot) = self.slots.get_mut(index) else { continue };
            if *slot != NONE {
                store.remove(*slot);
                *slot = NONE;
            }
        }
        self.skip();
    }

    /// Goes behind what is acknowledged.
    fn skip(&mut self) {
        while self.slots.front() == Some(&NONE) {
            self.slots.pop_front();
            self.base = self.base.wrapping_add(1);
        }
    }

    /// The slots of all messages, in the order of their numbers.
    pub(super) fn kept(&self) -> impl Iterator<Item = u32> + '_ {
        self.slots.iter().copied().filter(|slot| *slot != NONE)
    }

    /// Everything was taken away: nothing is outstanding.
    pub(super) fn clear(&mut self) {
        self.base = self.next();
        self.slots.clear();
    }

    /// Gives memory back when nothing is outstanding.
    pub(super) fn shrink(&mut self) {
        if self.slots.is_empty() {
            self.slots = VecDeque::new();
            self.lanes = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Part;
    use crate::packet::sender::types::Outgoing;
    use vlan_core::Channel;

    fn send(outbound: &mut Outbound, store: &mut Store, mseq: u32, lane: u16) -> u16 {
        assert!(outbound.admits(mseq), "{mseq}");
        let prev = outbound.previous(mseq, lane, store);
        let parts = [Part::Private(b"frame")];
        let message = Outgoing {
            channel: Channel(1),
            lane,
            mseq,
            is_resent: false,
            is_after_all: false,
            parts: &parts,
        };
        let piece = store.insert(&message, 5, prev);
        outbound.insert(mseq, lane, piece.slot);
        prev
    }

    //= spec/packet-sender.md#previous-message
    //= type=test
    //# A message MUST name the last message of its lane before it that is not acknowledged, and every packet with a piece
    //# of it MUST name the same.
    #[test]
    fn a_message_names_the_one_before_it_in_its_lane_while_that_is_outstanding() {
        let (mut outbound, mut store) = (Outbound::default(), Store::default());
        outbound.start(u32::MAX - 1, 100);
        let number = |i: u32| (u32::MAX - 1).wrapping_add(i);
        assert_eq!(send(&mut outbound, &mut store, number(0), 7), 0);
        assert_eq!(send(&mut outbound, &mut store, number(1), 8), 0);
        assert_eq!(send(&mut outbound, &mut store, number(2), 7), 2);
        assert_eq!(send(&mut outbound, &mut store, number(3), 7), 1);
        outbound.acknowledge_range(number(3), 1, &mut store);
        assert_eq!(send(&mut outbound, &mut store, number(4), 7), 0, "what is acknowledged was delivered");
        outbound.acknowledge(number(4), &mut store);
        assert_eq!((outbound.lowest(), outbound.next()), (Some(number(4)), number(5)));
        assert_eq!(send(&mut outbound, &mut store, number(5), 8), 0);
        assert_eq!(send(&mut outbound, &mut store, number(6), 7), 2);
    }

    //= spec/packet-sender.md#window
    //= type=test
    //# A sender MUST NOT send a message whose number the peer's credit does not cover, or lies 16,384 or more above the
    //# lowest that is not acknowledged.
    #[test]
    fn numbers_beyond_credit_or_window_are_not_admitted() {
        let (mut outbound, mut store) = (Outbound::default(), Store::default());
        outbound.start(10, 3);
        assert!(outbound.admits(12) && !outbound.admits(13));
        for mseq in 10..13 {
            send(&mut outbound, &mut store, mseq, 0);
        }
        outbound.grant(10 + 2 * MESSAGE_WINDOW);
        outbound.grant(11);
        assert!(outbound.admits(10 + MESSAGE_WINDOW - 1));
        assert!(!outbound.admits(10 + MESSAGE_WINDOW), "16,384 above the lowest");
        outbound.acknowledge(11, &mut store);
        assert!(outbound.admits(10 + MESSAGE_WINDOW));
    }

    #[test]
    fn acks_of_what_was_never_sent_or_twice_change_nothing() {
        let (mut outbound, mut store) = (Outbound::default(), Store::default());
        outbound.start(0, 100);
        for mseq in 0..4 {
            send(&mut outbound, &mut store, mseq, 0);
        }
        outbound.acknowledge(2, &mut store);
        outbound.acknowledge(1, &mut store);
        outbound.acknowledge_range(50, 16_000, &mut store);
        outbound.acknowledge_range(1, 2, &mut store);
        assert_eq!(outbound.kept().count(), 1);
        outbound.acknowledge(77, &mut store);
        assert_eq!((outbound.lowest(), outbound.next()), (None, 4));
        assert!(store.is_empty() && store.octets() == 0);
    }

    #[test]
    fn numbers_that_went_another_way_leave_gaps() {
        let (mut outbound, mut store) = (Outbound::default(), Store::default());
        outbound.start(100, 1000);
        for mseq in [100, 105, 103, 98] {
            send(&mut outbound, &mut store, mseq, 0);
        }
        assert_eq!((outbound.lowest(), outbound.next()), (Some(98), 106));
        assert!(outbound.holds(103) && !outbound.holds(104));
        outbound.acknowledge(101, &mut store);
        assert_eq!(outbound.lowest(), Some(103));
        assert_eq!(outbound.kept().count(), 2);
    }
}
