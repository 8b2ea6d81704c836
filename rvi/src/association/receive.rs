//! Taking messages out of the legs' rings.
//!
//! What happens to a frame here: control first, then data, leg by leg in turn; a copy of what came before is
//! dropped; an impossible slot ends its leg.

use vlan_core::{Channel, LegNumber};

use super::{Association, LEGS};
use crate::association::types::LegState;
use crate::message::{Message, Scratch};
use crate::region::Region;
use crate::ring::{Polled, Received, RingFault};

/// Data messages taken from one leg before control and the other legs have their turn.
const BURST: u8 = 32;
/// Messages dropped in one call before the host gets a word in.
const DROPS_MAX: u32 = 256;

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Indices of the legs that are received from.
    order: [u8; LEGS],
    count: u8,
    at: u8,
    /// Messages left in the burst; 0 = look at control first.
    pub(super) left: u8,
}

/// A message that was taken out of its ring, or came in packets, and is to be delivered. Its head is in the scratch memory.
#[derive(Clone, Copy)]
pub(super) struct Fresh {
    /// The place of the leg whose memory has the rest; [`PACKETS`]: the scratch memory has it.
    pub index: usize,
    pub leg: LegNumber,
    pub channel: Channel,
    pub len: usize,
    /// Offset and length of what follows its private head.
    pub rest: (usize, usize),
}

/// What one look at a ring gave.
enum Taken {
    Empty,
    Dropped,
    Message(Fresh),
    Down,
}

impl Association {
    /// The next message of any leg and channel, control first; its first 256 octets are copied to `scratch`.
    /// `None`: nothing now.
    #[inline(always)]
    pub fn receive<'s>(&mut self, scratch: &'s mut Scratch) -> Option<Message<'s>> {
        // One kind of message from here on: what this call gives stays in registers where it is inlined.
        let fresh = match self.take_in_turn(scratch) {
            Some(fresh) => fresh,
            None => self.take_other(scratch)?,
        };
        let Fresh { index, leg, channel, len, rest } = fresh;
        let region = if rest.1 == 0 { None } else { self.region(index) };
        let (head, rest) = scratch.split(region, rest, len);
        Some(Message { channel, leg, len, head, rest })
    }

    /// The memory that the peer writes on the leg at `index`.
    fn region(&self, index: usize) -> Option<&Region> {
        self.legs.get(index)?.as_deref().map(|leg| &leg.shm.peer)
    }

    #[inline(never)]
    fn take_other(&mut self, scratch: &mut Scratch) -> Option<Fresh> {
        self.take_next(scratch).or_else(|| self.take_packet(scratch))
    }

    /// The next data message of the leg whose burst it is: what nearly every call finds. `None` says nothing.
    #[inline(always)]
    fn take_in_turn(&mut self, scratch: &mut Scratch) -> Option<Fresh> {
        if self.turn.left == 0 || !self.takes_data() {
            return None;
        }
        let index = usize::from(self.turn.order[usize::from(self.turn.at)]);
        let Taken::Message(fresh) = self.take_data(index, scratch) else { return None };
        self.turn.left -= 1;
        Some(fresh)
    }

    fn take_next(&mut self, scratch: &mut Scratch) -> Option<Fresh> {
        let mut drops = 0;
        if self.turn.left == 0 {
            if let Some(fresh) = self.take_control(scratch, &mut drops) {
                return Some(fresh);
            }
            self.turn.left = BURST;
            self.next_leg();
        }
        let mut tries = if self.takes_data() { self.turn.count } else { 0 };
        while tries > 0 && drops < DROPS_MAX {
            let index = usize::from(self.turn.order[usize::from(self.turn.at)]);
            match self.take_data(index, scratch) {
                Taken::Message(fresh) => {
                    self.turn.left = self.turn.left.saturating_sub(1);
                    return Some(fresh);
                }
                Taken::Dropped => drops += 1,
                Taken::Empty => {
                    tries -= 1;
                    self.next_leg();
                }
                Taken::Down => tries = self.turn.count,
            }
        }
        self.turn.left = 0;
        self.take_control(scratch, &mut drops)
    }

    /// True once there is somebody to take data for. A peer that has not seen yet that an earlier session ended here goes
    /// on with it by a leg of this one: what lies in that leg's ring when it is left goes another way.
    //= spec/rvi.md#before-the-first-channel
    //# An end MUST NOT take data from a leg before a channel of an interface has been open in the session.
    #[inline]
    pub(super) fn takes_data(&self) -> bool {
        self.channels.has_data()
    }

    #[inline]
    fn next_leg(&mut self) {
        self.turn.at += 1;
        if self.turn.at >= self.turn.count {
            self.turn.at = 0;
        }
    }

    #[inline(never)]
    fn take_control(&mut self, scratch: &mut Scratch, drops: &mut u32) -> Option<Fresh> {
        let mut at = 0;
        while at < self.turn.count && *drops < DROPS_MAX {
            let index = usize::from(self.turn.order[usize::from(at)]);
            let Some(leg) = &mut self.legs[index] else { break };
            let polled = leg.shm.control_rx.poll(self.session, &mut scratch.octets);
            match self.judge(index, polled, true) {
                Taken::Message(fresh) => return Some(fresh),
                Taken::Dropped => *drops += 1,
                Taken::Empty => at += 1,
                Taken::Down => at = 0,
            }
        }
        None
    }

    #[inline(always)]
    fn take_data(&mut self, index: usize, scratch: &mut Scratch) -> Taken {
        let Some(leg) = &mut self.legs[index] else { return Taken::Empty };
        let polled = leg.shm.data_rx.poll(self.session, &mut scratch.octets);
        self.judge(index, polled, false)
    }

    /// Counts what came, and says whether it is delivered.
    #[inline(always)]
    fn judge(&mut self, index: usize, polled: Polled, control: bool) -> Taken {
        let Received { fields, rest } = match polled {
            Polled::Empty => return Taken::Empty,
            Polled::Message(message) => message,
            Polled::Fault(fault) => {
                self.take_down(index, fault);
                return Taken::Down;
            }
        };
        let meta = fields.meta;
        if (meta.channel == Channel::CONTROL) != control {
            self.take_down(index, RingFault::Channel(meta.channel.0));
            return Taken::Down;
        }
        let Some(leg) = &mut self.legs[index] else { return Taken::Empty };
        leg.rx_messages += 1;
        leg.rx_octets += u64::from(fields.len);
        let Some(state) = self.channels.of_mut(meta.channel) else {
            leg.refused += 1;
            self.refused_messages += 1;
            return Taken::Dropped;
        };
        if !state.is_new(meta.mseq) {
            leg.duplicates += 1;
            return Taken::Dropped;
        }
        if !state.open {
            leg.refused += 1;
            self.refused_messages += 1;
            return Taken::Dropped;
        }
        let (leg, channel) = (leg.number, meta.channel);
        if self.packets.is_some() {
            self.note_delivered(channel, meta.mseq);
        }
        Taken::Message(Fresh { index, leg, channel, len: fields.len as usize, rest })
    }

    /// Lists the legs that are received from.
    pub(super) fn list_turns(&mut self) {
        let mut turn = Turn::default();
        for (index, leg) in self.legs.iter().enumerate() {
            if leg.as_ref().is_some_and(|leg| leg.state != LegState::Leaving) {
                turn.order[usize::from(turn.count)] = index as u8;
                turn.count += 1;
            }
        }
        self.turn = turn;
    }

    #[inline]
    pub(super) fn ring_for_room(&mut self, index: usize) {
        let Some(leg) = &mut self.legs[index] else { return };
        leg.shm.bell.fence();
        if leg.shm.bell.must_ring_for_room() {
            self.doorbells |= 1 << index;
        }
    }
}
