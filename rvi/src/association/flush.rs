//! Sending what waits: messages of lost legs first, then what was parked.

use alloc::vec::Vec;

use vlan_core::Channel;

use super::Association;
use crate::association::moving::{Source, SourceRing};
use crate::association::route::{CONTROL_GROUP, PACKETS, Route};
use crate::association::types::AssociationEvent;
use crate::message::Part;
use crate::ring::{PushError, SlotMeta};

impl Association {
    /// Sends as much of what waits as there is room for, and finds whether anything still waits.
    pub(super) fn flush(&mut self) {
        self.direct = false;
        if self.route.has_leg() {
            self.end_waits();
            self.resend();
            self.flush_control();
            self.flush_parked();
        }
        self.direct = self.route.has_leg()
            && self.sources.is_empty()
            && self.parked.is_empty()
            && self.control_queue.is_empty()
            && !self.route.is_waiting();
    }

    /// True when a data message of `lane` may go into its ring although something waits.
    pub(super) fn may_pass(&self, lane: u16) -> bool {
        self.sources.is_empty() && self.parked.is_empty() && self.route.waits[Route::group(lane)].is_none()
    }

    /// The same for a control message.
    pub(super) fn control_may_pass(&self) -> bool {
        self.sources.is_empty() && self.control_queue.is_empty() && self.route.waits[CONTROL_GROUP].is_none()
    }

    /// Ends the waits of groups whose old leg's peer has taken what it had.
    fn end_waits(&mut self) {
        for group in 0..=CONTROL_GROUP {
            let Some(wait) = self.route.waits[group] else { continue };
            if wait.leg == PACKETS {
                if self.packets.as_ref().is_none_or(|packets| packets.is_drained()) {
                    self.route.waits[group] = None;
                }
                continue;
            }
            self.refresh(wait.leg);
            let Some(leg) = &self.legs[wait.leg] else { continue };
            let ring = if group == CONTROL_GROUP { &leg.shm.control_tx } else { &leg.shm.data_tx };
            if ring.pushed_taken() >= wait.pushed {
                self.route.waits[group] = None;
            }
        }
    }

    fn flush_control(&mut self) {
        while self.sources.is_empty() && self.route.waits[CONTROL_GROUP].is_none() {
            let Some(message) = self.control_queue.pop_front() else { return };
            if !self.push_control(&message) {
                self.control_queue.push_front(message);
                return;
            }
            self.control_octets -= message.len();
        }
    }

    fn flush_parked(&mut self) {
        while self.sources.is_empty() {
            let Some(front) = self.parked.front() else { return };
            if self.route.waits[Route::group(front.lane)].is_some() {
                return;
            }
            let Some(parked) = self.parked.pop() else { return };
            if !self.is_open(parked.channel) {
                self.tell_expired(parked);
                continue;
            }
            let parts = [Part::Private(&parked.octets)];
            if !self.push_data(parked.channel, parked.lane, &parts) {
                self.parked.unpop(parked);
                return;
            }
            if parked.charge != 0 {
                let (charge, channel) = (parked.charge, parked.channel);
                let number = self.last_number(channel);
                self.events.push_back(AssociationEvent::ParkedSent { charge, channel, number });
            }
            self.parked.recycle(parked.octets);
        }
    }

    /// Sends messages of lost legs again, oldest first, while there is room.
    //= spec/rvi.md#sending-again
    //# When a leg is lost or stalled and another one is up, every message that is not proven taken MUST be sent
    //# again there under its number, in the order of the lost ring, before anything new of its lane.
    fn resend(&mut self) {
        if self.sources.is_empty() {
            return;
        }
        let mut octets = core::mem::take(&mut self.spare);
        while let Some(mut source) = self.sources.pop_front() {
            match self.resend_source(&mut source, &mut octets) {
                Ok(()) => {}
                Err(PushError::Full) => {
                    self.sources.push_front(source);
                    break;
                }
                Err(PushError::Fault(fault)) => {
                    let index = source.target;
                    self.sources.push_front(source);
                    // What this leg has of the source goes in front of the source's remainder.
                    self.take_down(index, fault);
                    break;
                }
            }
        }
        octets.clear();
        octets.shrink_to(4096);
        self.spare = octets;
        if self.sources.is_empty() {
            self.remark();
        }
    }

    fn resend_source(&mut self, source: &mut Source, octets: &mut Vec<u8>) -> Result<(), PushError> {
        while let Some((control, position)) = self.next_of(source) {
            let leg = match &source.ring {
                SourceRing::Lost(leg) => &**leg,
                SourceRing::Stalled(index) => self.legs[*index].as_ref().ok_or(PushError::Full)?,
            };
            let ring = if control { &leg.shm.control_tx } else { &leg.shm.data_tx };
            let Ok(fields) = ring.read_back(position, self.session, octets) else {
                source.give_up(control);
                continue;
            };
            let meta = SlotMeta { resent: fields.meta.resent || source.is_doubtful(control), ..fields.meta };
            if !self.taken.contains(&(meta.channel.0, meta.mseq)) {
                let group = if control { CONTROL_GROUP } else { Route::group(meta.lane) };
                if self.route.waits[group].is_some() {
                    return Err(PushError::Full);
                }
                source.target = if control { self.route.control_leg() } else { self.route.leg(meta.lane) };
                self.push_again(source.target, control, meta, octets)?;
            }
            source.skip(control, fields.slots);
        }
        Ok(())
    }

    fn next_of(&self, source: &mut Source) -> Option<(bool, u32)> {
        if let SourceRing::Stalled(index) = source.ring {
            source.skip_settled(self.legs[index].as_ref()?);
        }
        source.next()
    }

    /// Puts a numbered message into the ring of another leg.
    fn push_again(
        &mut self,
        index: usize,
        control: bool,
        meta: SlotMeta,
        octets: &[u8],
    ) -> Result<(), PushError> {
        if index == PACKETS {
            return self.push_packet_again(&meta, octets);
        }
        let leg = self.legs.get_mut(index).and_then(Option::as_mut).ok_or(PushError::Full)?;
        let ring = if control { &mut leg.shm.control_tx } else { &mut leg.shm.data_tx };
        ring.push(meta, &[Part::Private(octets)])?;
        leg.tx_messages += 1;
        leg.tx_octets += octets.len() as u64;
        leg.resends += 1;
        Ok(())
    }

    /// Numbers sent again are outstanding on the legs that they went by.
    fn remark(&mut self) {
        let (_, data) = self.progress(false);
        let (_, control) = self.progress(true);
        for (channel, state) in self.channels.iter_mut() {
            let pushed = if channel == Channel::CONTROL { &control } else { &data };
            state.remark(pushed);
        }
    }
}
