//! Packets on their way in: numbers noted, records sorted, messages copied once.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;

use vlan_core::limits::MESSAGE_WINDOW;
use vlan_core::{Channel, Instant};

use super::arrivals::{Arrivals, NumberVerdict};
use super::assembly::Piece;
use super::types::{Arrival, ChannelWindows, Key, MessageMeta, WholeMessage};
use super::{OVERHEAD, RESERVE, Receiver, is_closed};
use crate::packet::wire::{PacketError, PacketHeader, PacketKind, PacketLeg, Payload, Record, RecordKind};

/// Whether a record's message is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Held,
    None,
}

impl Receiver {
    /// Takes a packet that was opened: `payload` is all of it, checked. Acks and control in it are the sender's.
    ///
    /// # Errors
    /// When the packet contradicts the session. The session ends then: nothing more is delivered or acknowledged.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        header: &PacketHeader,
        payload: &Payload<'_>,
        windows: &dyn ChannelWindows,
    ) -> Result<Arrival, PacketError> {
        if self.is_broken {
            return Ok(Arrival::NoRoom);
        }
        self.now = now;
        //= spec/packet.md#packet-numbers
        //# A receiver MUST apply the records of a packet number of a leg at most once in a session.
        let verdict = self.arrivals(header.leg).verdict(header.number);
        match verdict {
            NumberVerdict::New => {}
            NumberVerdict::Duplicate => {
                self.counters.duplicate_packets += 1;
                return Ok(Arrival::Duplicate);
            }
            NumberVerdict::TooOld => {
                self.counters.old_packets += 1;
                return Ok(Arrival::TooOld);
            }
        }
        if header.wants_answer() {
            self.ack_now = true;
            self.asked |= 1 << header.leg.index();
        }
        let mut fits = true;
        let mut wants_ack = header.wants_answer();
        for record in payload.records() {
            wants_ack = true;
            if record.header.kind == RecordKind::Data {
                fits &= self.handle_data(header.leg, &record, windows)? == Room::Held;
            }
        }
        //= spec/packet.md#no-room
        //# A receiver MUST NOT acknowledge a packet with a message that it could not hold.
        if !fits {
            self.counters.no_room += 1;
            return Ok(Arrival::NoRoom);
        }
        self.note(header, wants_ack);
        Ok(Arrival::Taken)
    }

    #[inline]
    fn arrivals(&mut self, leg: PacketLeg) -> &mut Arrivals {
        self.legs[leg.index()].get_or_insert_with(|| Box::new(Arrivals::new(leg)))
    }

    /// Notes a packet's number, and when its ack is due.
    //= spec/packet.md#acks-at-once
    //# A receiver MUST acknowledge at once when a packet asks for it, when a packet shows that one before it is missing, and
    //# when as many packets wait for their ack as is configured.
    #[inline]
    fn note(&mut self, header: &PacketHeader, wants_ack: bool) {
        let now = self.now;
        self.counters.packets += 1;
        self.ack_now |= self.arrivals(header.leg).note(now, header);
        if header.kind == PacketKind::Probe {
            // A sender without credit has nothing to send but this.
            self.reports.mark(now, Channel::CONTROL);
        }
        if wants_ack {
            self.unacked += 1;
            //= spec/packet.md#acks-in-time
            //# A packet with records MUST NOT wait for its ack for longer than is configured.
            self.ack_at.get_or_insert(now + self.ack_delay);
        }
    }

    /// Takes one record with a message, or a piece of one.
    #[inline]
    fn handle_data(
        &mut self,
        leg: PacketLeg,
        record: &Record<'_>,
        windows: &dyn ChannelWindows,
    ) -> Result<Room, PacketError> {
        let header = &record.header;
        let key = Key { channel: header.channel, mseq: header.mseq };
        if windows.is_delivered(key.channel, key.mseq) || self.waiting.contains(key) {
            // The peer sends it again, so it was not told that it is here.
            self.counters.duplicates += 1;
            self.reports.mark(self.now, key.channel);
            return Ok(Room::Held);
        }
        if is_closed(key.channel, windows) {
            self.refuse(key, header.msg_len as usize);
            return Ok(Room::Held);
        }
        //= spec/packet.md#message-window
        //# When a message's number lies 16,384 or more above the lowest undelivered one of its channel, the session MUST end.
        let ahead = key.mseq.wrapping_sub(windows.window(key.channel).0);
        if ahead >= MESSAGE_WINDOW {
            return self.contradiction(PacketError::Window { mseq: key.mseq });
        }
        let (lane, prev, is_after_all) = (header.lane, header.prev, header.is_after_all);
        let meta = MessageMeta { key, lane, prev, is_after_all, leg };
        if header.is_whole() {
            return Ok(self.handle_whole(meta, record.body, ahead == 0));
        }
        self.handle_fragment(meta, record, ahead == 0)
    }

    /// Takes a message that came in one piece.
    #[inline]
    fn handle_whole(&mut self, meta: MessageMeta, body: &[u8], is_lowest: bool) -> Room {
        // Whole, it needs none of its pieces.
        self.give_up_pieces(meta.key);
        if !self.admit(body.len(), is_lowest) {
            return self.room_of_copy(meta.key);
        }
        let mut octets = self.pool.take(body.len());
        octets.put(0, body);
        self.ready.push_back(WholeMessage { meta, octets });
        Room::Held
    }

    /// Takes a piece of a message.
    #[inline]
    fn handle_fragment(
        &mut self,
        meta: MessageMeta,
        record: &Record<'_>,
        is_lowest: bool,
    ) -> Result<Room, PacketError> {
        if !self.assembly.contains(meta.key) {
            // All of its octets are reserved with the first piece, so that a message that is begun can be finished.
            let len = record.header.msg_len;
            if !self.admit(len as usize, is_lowest) {
                return Ok(self.room_of_copy(meta.key));
            }
            let octets = self.pool.take(len as usize);
            self.assembly.begin(meta, len, octets);
        }
        match self.assembly.add(meta.key, meta.leg, record) {
            Ok(Piece::Fresh) => {}
            Ok(Piece::Duplicate) => self.counters.duplicates += 1,
            Ok(Piece::Completed(message)) => self.ready.push_back(message),
            Err(error) => return self.contradiction(error),
        }
        Ok(Room::Held)
    }

    /// Counts a message of `len` octets as held, if there is room for it.
    //= spec/packet.md#hold
    //# A receiver MUST keep room for one longest message that only the lowest undelivered message of a channel may take.
    #[inline]
    fn admit(&mut self, len: usize, is_lowest: bool) -> bool {
        let reserve = if is_lowest { 0 } else { RESERVE };
        let needed = len + OVERHEAD + reserve;
        let fits = self.octets_held + needed <= self.octets_max || self.drop_copies(needed);
        if fits {
            self.octets_held += len + OVERHEAD;
        }
        fits
    }

    /// What finds no room needs none if it is ready already.
    #[cold]
    fn room_of_copy(&mut self, key: Key) -> Room {
        if self.ready.iter().any(|message| message.meta.key == key) {
            self.counters.duplicates += 1;
            return Room::Held;
        }
        Room::None
    }

    /// Drops copies, whole or in pieces, of messages that are ready: nobody had credit for those. True when `needed` octets
    /// fit then.
    #[cold]
    fn drop_copies(&mut self, needed: usize) -> bool {
        let mut seen = BTreeSet::new();
        for message in core::mem::take(&mut self.ready) {
            if seen.insert(message.meta.key) && !self.waiting.contains(message.meta.key) {
                self.give_up_pieces(message.meta.key);
                self.ready.push_back(message);
            } else {
                self.counters.duplicates += 1;
                self.drop_octets(message.octets);
            }
        }
        self.octets_held + needed <= self.octets_max
    }

    #[cold]
    fn contradiction(&mut self, error: PacketError) -> Result<Room, PacketError> {
        self.counters.contradictions += 1;
        self.is_broken = true;
        Err(error)
    }
}
