//! Legs that come and go, and what becomes of the messages in them.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use vlan_core::{Channel, Instant, LegNumber};

use super::{Association, LEGS, Leg};
use crate::association::route::{CONTROL_GROUP, PACKETS};
use crate::association::types::{AssociationEvent, LegDownReason, LegEnd, LegState, Unsent};
use crate::association::unproven::{FinalHeads, Unproven};
use crate::region::Region;
use crate::ring::{Producer, RingFault};
use crate::shm_leg::ShmLeg;

/// Whose ring is sent again.
#[derive(Clone, Debug)]
pub(super) enum SourceRing {
    /// A leg that is gone; its memory is kept until all is sent.
    Lost(Arc<Leg>),
    /// A leg that stalled and is still there, by index.
    Stalled(usize),
}

/// A leg's rings from which messages are sent again.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) ring: SourceRing,
    /// Index of the leg that its last message was sent by.
    pub(super) target: usize,
    control: Cursor,
    data: Cursor,
}

/// From where to where; free-running positions.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    next: u32,
    end: u32,
    /// The peer may have taken what lies before this position.
    doubtful: u32,
}

impl Cursor {
    /// What `ring` has behind what is settled and what other legs answer for. A peer whose end is uncertain may have taken all that
    /// it saw, another one only what it held.
    fn new(ring: &Producer<Region>, copied: u32, is_uncertain: bool) -> Self {
        let doubtful = if is_uncertain { ring.published() } else { ring.head() };
        Self { next: later(ring.settled(), copied), end: ring.tail(), doubtful }
    }
}

impl Source {
    fn new(leg: &Leg, is_uncertain: bool, ring: SourceRing) -> Self {
        let (control, data) = (&leg.shm.control_tx, &leg.shm.data_tx);
        Self {
            ring,
            target: LEGS,
            control: Cursor::new(control, leg.copied.1, is_uncertain),
            data: Cursor::new(data, leg.copied.0, is_uncertain),
        }
    }

    /// The peer has said what it took.
    pub(super) fn end_at(&mut self, heads: &FinalHeads) {
        let FinalHeads { control, data, held } = *heads;
        for (cursor, head, doubtful) in [(&mut self.control, control, control), (&mut self.data, data, held)]
        {
            cursor.next = earlier(later(cursor.next, head), cursor.end);
            cursor.doubtful = doubtful;
        }
    }

    /// True when the peer may have taken the next message of a ring.
    pub(super) fn is_doubtful(&self, control: bool) -> bool {
        let cursor = if control { &self.control } else { &self.data };
        is_before(cursor.next, cursor.doubtful)
    }

    /// Goes behind what `leg` has settled, whose slots it may have used again.
    pub(super) fn skip_settled(&mut self, leg: &Leg) {
        let (control, data) = (&leg.shm.control_tx, &leg.shm.data_tx);
        for (cursor, settled) in [(&mut self.control, control.settled()), (&mut self.data, data.settled())] {
            cursor.next = earlier(later(cursor.next, settled), cursor.end);
        }
    }

    /// The next message: whether it is in the control ring, and its position.
    pub(super) fn next(&self) -> Option<(bool, u32)> {
        if self.control.next != self.control.end {
            return Some((true, self.control.next));
        }
        (self.data.next != self.data.end).then_some((false, self.data.next))
    }

    /// Leaves out the rest of a ring.
    //= spec/rvi.md#what-does-not-read-back
    //# An end MUST leave out a message that does not read back from its own ring as it was written, and everything behind it
    //# in that ring.
    pub(super) fn give_up(&mut self, control: bool) {
        let cursor = if control { &mut self.control } else { &mut self.data };
        cursor.next = cursor.end;
    }

    /// Goes behind a message of `slots` slots.
    pub(super) fn skip(&mut self, control: bool, slots: u32) {
        let cursor = if control { &mut self.control } else { &mut self.data };
        cursor.next = cursor.next.wrapping_add(slots);
    }
}

fn is_before(a: u32, b: u32) -> bool {
    b.wrapping_sub(a).wrapping_sub(1) < 1 << 31
}

/// The later of two positions on the free-running circle.
fn later(a: u32, b: u32) -> u32 {
    if b.wrapping_sub(a) < 1 << 31 { b } else { a }
}

fn earlier(a: u32, b: u32) -> u32 {
    if b.wrapping_sub(a) < 1 << 31 { a } else { b }
}

impl Association {
    /// A leg is there: both ends have each other's memory. A leg that still had this number is gone first.
    ///
    /// # Panics
    /// When there are four legs already.
    pub fn handle_leg_up(&mut self, now: Instant, leg: LegNumber, shm: ShmLeg) {
        self.now = now;
        if self.index_of(leg).is_some() {
            self.handle_leg_gone(now, leg);
        }
        let index = self.legs.iter().position(Option::is_none).expect("an association has at most four legs");
        self.legs[index] = Some(Box::new(Leg::new(leg, shm)));
        for (_, state) in self.channels.iter_mut() {
            state.leg_up(index);
        }
        self.events.push_back(AssociationEvent::LegUp(leg));
        self.spread();
        self.flush();
    }

    /// The leg's socket hung up. What the peer did not prove to have taken is sent again by another leg, now or
    /// as soon as there is room; with no other leg it is kept for [`Association::drain_unsent`].
    ///
    /// Says `Closed` if the peer's memory holds its final heads. A leg that is not known counts as died.
    ///
    /// The host closes its own end of the socket *after* this call, so that the peer finds our final heads.
    //= spec/rvi.md#leaving-a-leg
    //# An end MUST read the peer's final heads only after the leg's socket has hung up.
    pub fn handle_leg_gone(&mut self, now: Instant, leg: LegNumber) -> LegEnd {
        self.now = now;
        let Some(index) = self.index_of(leg) else { return LegEnd::Died };
        let end = self.lose(index);
        let reason = match end {
            LegEnd::Closed => LegDownReason::Closed,
            LegEnd::Died => LegDownReason::Died,
        };
        self.events.push_back(AssociationEvent::LegDown(leg, reason));
        self.flush();
        end
    }

    /// Leaves a leg in order: nothing is received from it any more, and nothing new sent. The host shuts its
    /// socket down for writing, waits for the peer to hang up, and calls [`Association::handle_leg_gone`].
    //= spec/rvi.md#leaving-a-leg
    //# An end that leaves a leg MUST stop consuming, MUST store its final heads and CLOSED, and only then hang up.
    pub fn leave_leg(&mut self, now: Instant, leg: LegNumber) {
        self.now = now;
        let Some(index) = self.index_of(leg) else { return };
        let Some(leg) = &mut self.legs[index] else { return };
        if leg.state == LegState::Leaving {
            return;
        }
        leg.publish(now);
        leg.shm.close(self.holds.is_any());
        leg.state = LegState::Leaving;
        leg.watch = None;
        self.spread();
        self.flush();
    }

    /// The peer broke the rules of its memory: the leg is given up at once.
    pub(super) fn take_down(&mut self, index: usize, fault: RingFault) {
        let Some(number) = self.legs[index].as_ref().map(|leg| leg.number) else { return };
        self.lose(index);
        self.direct = false;
        self.events.push_back(AssociationEvent::LegDown(number, LegDownReason::Protocol(fault)));
    }

    fn index_of(&self, number: LegNumber) -> Option<usize> {
        self.legs.iter().position(|leg| leg.as_ref().is_some_and(|leg| leg.number == number))
    }

    /// Takes a leg out; what it did not prove waits to be sent again.
    fn lose(&mut self, index: usize) -> LegEnd {
        let Some(mut leg) = self.legs[index].take() else { return LegEnd::Died };
        self.doorbells &= !(1 << index);
        if leg.state != LegState::Leaving {
            leg.shm.close(self.holds.is_any());
        }
        let end = self.settle_end(&mut leg);
        let is_uncertain = end == LegEnd::Died;
        self.is_uncertain |= is_uncertain;
        self.route.forget(index);
        self.keep_source(index, leg, is_uncertain);
        self.spread();
        end
    }

    /// Works out what the peer took in the end.
    //= spec/rvi.md#proof
    //# After a leg was left in order everything before the final heads MUST count as taken; after any other end only
    //# what was settled.
    //= spec/rvi.md#what-is-held-when-a-leg-is-left
    //# What lies between the final head and the head of a leg that was left MUST be sent again, or handed back marked as what the
    //# peer may have taken.
    fn settle_end(&mut self, leg: &mut Leg) -> LegEnd {
        let refreshed = leg.refresh().is_ok();
        let from = (leg.shm.data_tx.settled(), leg.shm.control_tx.settled());
        let heads = leg.shm.final_heads().filter(|_| refreshed);
        let closed = heads.is_some_and(|(data, control)| {
            leg.shm.control_tx.close_at(control).is_ok() && leg.shm.data_tx.close_at(data).is_ok()
        });
        self.note_originals(leg, |ring, position| is_before(position, ring.settled()));
        if !closed {
            return LegEnd::Died;
        }
        if self.is_uncertain {
            self.note_taken(leg, false, from.0, leg.shm.data_tx.settled());
            self.note_taken(leg, true, from.1, leg.shm.control_tx.settled());
        }
        if leg.shm.data_tx.head() != leg.shm.data_tx.settled() {
            self.is_uncertain = true;
            self.unproven.has_gap = true;
        }
        LegEnd::Closed
    }

    /// Remembers which messages of a leg that stalled were taken there after all.
    fn note_originals(&mut self, leg: &mut Leg, is_taken: impl Fn(&Producer<Region>, u32) -> bool) {
        let Leg { originals, shm, .. } = leg;
        originals.retain(|(control, position, key)| {
            let taken = is_taken(if *control { &shm.control_tx } else { &shm.data_tx }, *position);
            if taken {
                self.taken.insert(*key);
            }
            !taken
        });
    }

    /// Remembers messages taken by this leg of which another one has copies.
    pub(super) fn note_taken(&mut self, leg: &Leg, control: bool, from: u32, to: u32) {
        let ring = if control { &leg.shm.control_tx } else { &leg.shm.data_tx };
        let mut octets = Vec::new();
        let mut position = from;
        while position != to {
            let Ok(fields) = ring.read_back(position, self.session, &mut octets) else { return };
            self.taken.insert((fields.meta.channel.0, fields.meta.mseq));
            position = position.wrapping_add(fields.slots);
        }
    }

    /// Queues the rings of a lost leg in front of those that are queued: theirs were sent before.
    fn keep_source(&mut self, index: usize, leg: Box<Leg>, is_uncertain: bool) {
        let leg: Arc<Leg> = leg.into();
        if is_uncertain {
            self.unproven.keep(&leg);
        }
        // More than one when it stalled again while what it had was still being sent: none may be left to the next leg at this
        // index.
        let of_leg = |source: &&mut Source| matches!(source.ring, SourceRing::Stalled(i) if i == index);
        for source in self.sources.iter_mut().filter(of_leg) {
            source.skip_settled(&leg);
            source.ring = SourceRing::Lost(Arc::clone(&leg));
        }
        if leg.state != LegState::Stalled && !leg.is_moved {
            let source = Source::new(&leg, is_uncertain, SourceRing::Lost(Arc::clone(&leg)));
            if source.next().is_some() {
                self.sources.push_front(source);
            }
        }
    }

    /// Sends what a stalled leg holds by another one.
    //= spec/rvi.md#stall
    //# When a peer has taken nothing for 10 ms from a leg on which something is pending, and another leg is up, the
    //# messages of that leg MUST be sent again by the other one under their numbers.
    pub(super) fn move_off(&mut self, index: usize) {
        let Some(leg) = &mut self.legs[index] else { return };
        // What lay unpublished would be in neither leg's heads.
        leg.publish(self.now);
        leg.state = LegState::Stalled;
        leg.is_moved = true;
        self.stalls += 1;
        leg.stalled_order = self.stalls;
        let source = Source::new(leg, true, SourceRing::Stalled(index));
        leg.list_originals(source.clone(), self.session);
        let number = leg.number;
        self.route.forget(index);
        self.sources.push_front(source);
        self.events.push_back(AssociationEvent::Moving(number));
        self.spread();
    }

    /// Spreads lanes over the legs that are up, or over the stalled ones if there are no others.
    pub(super) fn spread(&mut self) {
        self.direct = false;
        let mut up = self.in_state(LegState::Up);
        //= spec/rvi.md#packet-legs
        //# Packet legs MUST carry messages only while no shared-memory leg is up.
        if up.is_empty() && self.has_packets_up() {
            up.push(PACKETS as u8);
        }
        if up.is_empty() {
            self.take_back_stalled();
            up = self.in_state(LegState::Up);
        }
        let former = self.route.leg(0);
        let (legs, packets_drained) = (&self.legs, self.packets.as_ref().is_none_or(|p| p.is_drained()));
        self.route.spread(self.scheduler, &up, |index, group| {
            if index == PACKETS {
                return (!packets_drained).then_some(u64::MAX);
            }
            let leg = legs[index].as_ref().filter(|leg| !leg.is_moved)?;
            let ring = if group == CONTROL_GROUP { &leg.shm.control_tx } else { &leg.shm.data_tx };
            (ring.pushed_taken() != ring.pushed()).then_some(ring.pushed())
        });
        if self.route.leg(0) != former {
            self.changes = self.changes.wrapping_add(1);
        }
        self.list_turns();
    }

    /// Indices of the legs in `state`, in the order of their numbers.
    fn in_state(&self, state: LegState) -> Vec<u8> {
        let mut found: Vec<(LegNumber, u8)> = (0..)
            .zip(&self.legs)
            .filter_map(|(index, leg)| leg.as_ref().filter(|l| l.state == state).map(|l| (l.number, index)))
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, index)| index).collect()
    }

    /// With no leg up, a stalled one is better than none. Only the one that stalled last: its ring has all that is
    /// not proven of those that stalled before, or their sources have it.
    fn take_back_stalled(&mut self) {
        let is_stalled = |leg: &Leg| leg.state == LegState::Stalled;
        let latest = (0..LEGS)
            .filter(|index| self.legs[*index].as_ref().is_some_and(|leg| is_stalled(leg)))
            .max_by_key(|index| self.legs[*index].as_ref().map(|leg| leg.stalled_order));
        if let Some(index) = latest {
            self.take_back(index);
        }
    }

    /// Uses a stalled leg again. What it has is still sent again behind it, which costs copies but loses the order
    /// of nothing.
    fn take_back(&mut self, index: usize) {
        let Some(leg) = &mut self.legs[index] else { return };
        leg.state = LegState::Up;
        leg.is_moved = false;
        leg.copied = (leg.shm.data_tx.tail(), leg.shm.control_tx.tail());
    }

    /// Uses a stalled leg again whose peer has taken all it had.
    pub(super) fn recover(&mut self, index: usize) {
        let Some(mut leg) = self.legs[index].take() else { return };
        leg.state = LegState::Up;
        leg.is_moved = false;
        self.note_originals(&mut leg, |ring, position| is_before(position, ring.head()));
        self.legs[index] = Some(leg);
        self.sources.retain(|source| !matches!(source.ring, SourceRing::Stalled(i) if i == index));
    }

    /// Forgets what was taken by legs given up, once nothing is outstanding that could be a copy of it.
    pub(super) fn forget_taken(&mut self) {
        if (self.is_uncertain || !self.taken.is_empty()) && self.is_drained() {
            self.taken.clear();
            self.is_uncertain = false;
            self.unproven = Unproven::default();
        }
    }

    /// Hands back what was accepted and not proven taken, control first, then data in order per lane, then what
    /// was parked; forgets it all. To be called when every leg has gone; one that has not is lost by it.
    //= spec/rvi.md#unsent-messages
    //# When no leg is left, every message that is not proven taken MUST be handed back once, in order per lane, marked
    //# when the peer may have taken it.
    pub fn drain_unsent(&mut self, f: &mut dyn FnMut(Channel, &[u8], Unsent)) {
        for index in 0..LEGS {
            self.lose(index);
        }
        self.settle_unproven();
        let mut seen = core::mem::take(&mut self.taken);
        for control in [true, false] {
            let mut sources = core::mem::take(&mut self.sources);
            for source in &mut sources {
                self.drain_source(source, control, &mut seen, f);
            }
            self.sources = sources;
        }
        self.sources.clear();
        self.drain_packets(f);
        for message in core::mem::take(&mut self.control_queue) {
            f(Channel::CONTROL, &message, Unsent::Parked { charge: 0 });
        }
        self.control_octets = 0;
        while let Some(parked) = self.parked.pop() {
            f(parked.channel, &parked.octets, Unsent::Parked { charge: parked.charge });
            self.parked.recycle(parked.octets);
        }
        self.is_uncertain = false;
    }

    fn drain_source(
        &self,
        source: &mut Source,
        control: bool,
        seen: &mut BTreeSet<(u8, u32)>,
        f: &mut dyn FnMut(Channel, &[u8], Unsent),
    ) {
        let SourceRing::Lost(leg) = &source.ring else { return };
        let leg = Arc::clone(leg);
        let ring = if control { &leg.shm.control_tx } else { &leg.shm.data_tx };
        let mut octets = Vec::new();
        while let Some((of_control, position)) = source.next()
            && of_control == control
        {
            let Ok(fields) = ring.read_back(position, self.session, &mut octets) else {
                return source.give_up(control);
            };
            let maybe_taken = fields.meta.resent && self.is_uncertain || source.is_doubtful(control);
            if seen.insert((fields.meta.channel.0, fields.meta.mseq)) {
                f(fields.meta.channel, &octets, Unsent::Ring { maybe_taken });
            }
            source.skip(control, fields.slots);
        }
    }
}
