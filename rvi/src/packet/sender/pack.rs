//! Packets are made here: pieces of messages are cut to fit, one behind the other, behind acks and control.
//!
//! A batch goes out in one call of the kernel, which cuts it into packets of one length (UDP segmentation offload): so all packets
//! of a batch but the last are made equally long.

use vlan_core::{Channel, Instant};

use crate::packet::receiver::{AckDue, ChannelWindows, Receiver};
use crate::packet::transport::{Transmit, TransmitBuffer};
use crate::packet::wire::{
    FRAGMENT_GRID, PACKET_HEADER_LEN, PacketFlags, PacketHeader, PacketKind, PacketLeg, RECORD_HEADER_LEN,
    RecordHeader, RecordKind, TAG_LEN, emit_pad, emit_settled, padded,
};

use super::Sender;
use super::flight::Departure;
use super::leg::Leg;
use super::path_search::PACKET_LEN_BASE;
use super::store::{Kept, Piece, Store};

/// Octets of the shortest padding.
const PAD_LEN_LEAST: usize = RECORD_HEADER_LEN + 8;
/// A message that fits into a packet is cut only if more than this part of the present packet would stay empty.
const WASTE: usize = 8;

/// What the receiving half wants to tell the peer.
pub(in crate::packet) struct Reports<'a> {
    pub(in crate::packet) receiver: &'a mut Receiver,
    pub(in crate::packet) windows: &'a dyn ChannelWindows,
    /// Messages may be acknowledged.
    pub(in crate::packet) settles: bool,
    /// KiB of the own messages that were acknowledged, if the peer is to hear of it.
    pub(in crate::packet) settled: Option<u32>,
}

impl Reports<'_> {
    /// Acks may go with what is sent.
    pub(in crate::packet) fn has_acks(&self, now: Instant) -> bool {
        self.receiver.ack_due(now) != AckDue::None
    }

    /// Acks must be sent.
    pub(in crate::packet) fn must_ack(&self, now: Instant) -> bool {
        self.receiver.ack_due(now) == AckDue::Now
    }

    fn has_control(&self, now: Instant) -> bool {
        self.settles && self.receiver.message_acks_due(now) != AckDue::None
    }

    fn must_tell_control(&self, now: Instant) -> bool {
        self.settles && self.receiver.message_acks_due(now) == AckDue::Now
    }
}

/// A packet that is being made.
struct Open<'a> {
    /// Room for the whole packet.
    octets: &'a mut [u8],
    /// Octets of header and payload so far.
    len: usize,
    asks: bool,
    wants_witness: bool,
    has_ack: bool,
    has_control: bool,
    has_records: bool,
}

impl<'a> Open<'a> {
    fn new(octets: &'a mut [u8]) -> Self {
        Self {
            octets,
            len: PACKET_HEADER_LEN,
            asks: false,
            wants_witness: false,
            has_ack: false,
            has_control: false,
            has_records: false,
        }
    }

    /// Room that is left for payload.
    fn room(&mut self) -> &mut [u8] {
        let end = self.octets.len() - TAG_LEN;
        &mut self.octets[self.len..end]
    }

    fn is_empty(&self) -> bool {
        self.len == PACKET_HEADER_LEN && !self.asks
    }

    /// Makes the packet as long as it can be. False when padding that short cannot be written.
    fn pad(&mut self) -> bool {
        let room = self.room();
        if room.len() >= PAD_LEN_LEAST {
            self.len += emit_pad(room);
        }
        self.room().is_empty()
    }

    /// Adds a record with as much of `piece` as fits; gives the octets taken.
    fn add_piece(&mut self, piece: &Piece, kept: &Kept) -> Option<usize> {
        let capacity = self.octets.len() - PACKET_HEADER_LEN - TAG_LEN;
        let room = self.room();
        let take = cut((piece.end - piece.start) as usize, room.len(), capacity)?;
        let (head, body) = room.split_first_chunk_mut()?;
        let header = RecordHeader {
            mseq: kept.mseq,
            lane: kept.lane,
            kind: RecordKind::Data,
            is_resent: kept.is_resent || piece.is_again,
            is_after_all: kept.is_after_all,
            prev: kept.prev,
            frag_len: take as u16,
            frag_off: piece.start,
            msg_len: kept.octets.len() as u32,
            channel: kept.channel,
        };
        header.emit(head);
        let start = piece.start as usize;
        let (body, padding) = body[..padded(take)].split_at_mut(take);
        body.copy_from_slice(&kept.octets[start..start + take]);
        padding.fill(0);
        self.len += header.record_len();
        self.has_records = true;
        Some(take)
    }

    /// Makes the packet as long as the others of its batch; the first one sets their length. False when it must be the
    /// last.
    //= spec/packet-sender.md#filling
    //# A packet that is followed by others of its batch MUST be as long as they are.
    fn make_equal(&mut self, batch: &mut Transmit) -> bool {
        let is_full = self.pad();
        if batch.count == 0 {
            batch.segment_len = self.len + TAG_LEN;
        }
        is_full || batch.count == 0
    }

    fn emit_header(self, now: Instant, leg: PacketLeg, number: u64) {
        let header = PacketHeader {
            kind: if self.asks { PacketKind::Probe } else { PacketKind::Data },
            leg,
            flags: PacketFlags { ack_now: self.asks, has_ack: self.has_ack },
            dst_cid: 0,
            session: 0,
            number,
            ts_us: (now.as_nanos() / 1000) as u32,
            payload_len: (self.len - PACKET_HEADER_LEN) as u16,
            fabric_key: 0,
        };
        if let Some(head) = self.octets.first_chunk_mut() {
            header.emit(head);
        }
        let tag = self.len..self.len + TAG_LEN;
        self.octets[tag].fill(0);
    }
}

/// How many of the `left` octets of a message go into a packet with `room` octets left of `capacity`.
fn cut(left: usize, room: usize, capacity: usize) -> Option<usize> {
    let body = room.checked_sub(RECORD_HEADER_LEN)?;
    if padded(left) <= body {
        return Some(left);
    }
    let fits_the_next = RECORD_HEADER_LEN + padded(left) <= capacity;
    let mut take = body & !(FRAGMENT_GRID - 1);
    if (1..PAD_LEN_LEAST).contains(&(body - take)) && take > FRAGMENT_GRID {
        // The rest could not be filled up.
        take -= FRAGMENT_GRID;
    }
    (take > 0 && !(fits_the_next && room < capacity / WASTE)).then_some(take)
}

impl Sender {
    /// The leg that acks and control prefer.
    pub(in crate::packet) fn preferred(&self, now: Instant) -> Option<usize> {
        super::route::fastest(&self.legs, self.usable_now(now))
    }

    /// Acks go out now: by the preferred leg, and by every leg that still answers while nobody is sure of one of them.
    //= spec/packet-sender.md#where-acks-go
    //# Acks MUST go by the good leg with the shortest round trip, and by all legs that are not down while any of them is
    //# not wholly good.
    pub(in crate::packet) fn owe_acks(&mut self, now: Instant, preferred: Option<usize>) {
        let Some(is_relay) = preferred.and_then(|i| self.legs[i].as_deref()).map(|leg| leg.leg.is_relay())
        else {
            return;
        };
        let mut alike = self.legs.iter().flatten().filter(|leg| leg.leg.is_relay() == is_relay);
        let is_any_doubtful = alike.any(|leg| !leg.health.is_clear(now));
        for (index, leg) in self.legs.iter_mut().enumerate() {
            let Some(leg) = leg else { continue };
            let is_alive = leg.leg.is_relay() == is_relay && leg.health.is_alive();
            leg.owes_acks |= preferred == Some(index) || (is_any_doubtful && is_alive);
        }
    }

    /// The peer wants an answer by this leg.
    pub(in crate::packet) fn owe_answer(&mut self, leg: PacketLeg) {
        if let Some(leg) = &mut self.legs[leg.index()] {
            leg.owes_acks = true;
        }
    }

    /// True when pieces wait at a leg and may go.
    pub(in crate::packet) fn has_pieces(&mut self, index: usize) -> bool {
        self.has_pieces_beyond(index, 0)
    }

    /// True when pieces wait at a leg and may go after a packet of `len` octets.
    fn has_pieces_beyond(&mut self, index: usize, len: usize) -> bool {
        let Some(leg) = &mut self.legs[index] else { return false };
        for queue in [&mut leg.first, &mut leg.fresh] {
            while queue.front().is_some_and(|piece| self.store.message_of(piece).is_none()) {
                queue.pop_front();
            }
        }
        leg.has_pieces_beyond(len)
    }

    /// Makes packets for one leg, as many as there are and `out` has room for.
    pub(in crate::packet) fn fill(
        &mut self,
        now: Instant,
        index: usize,
        is_preferred: bool,
        reports: &mut Reports<'_>,
        out: &mut TransmitBuffer,
    ) -> Option<Transmit> {
        if let Some(len) = self.legs[index].as_deref()?.search.due()
            && let Some(trial) = self.fill_trial(now, index, len, out)
        {
            return Some(trial);
        }
        let mut has_pieces = self.has_pieces(index);
        let control_len = self.control_packet_len(index);
        let leg = self.legs[index].as_deref()?;
        let tells_control = is_preferred && (reports.must_tell_control(now) || reports.settled.is_some());
        let must_tell = leg.asks || leg.owes_acks || tells_control;
        if !must_tell && !has_pieces {
            return None;
        }
        let segment_len = control_len.unwrap_or(leg.packet_len());
        let mut batch = Transmit { leg: leg.leg, segment_len, count: 0, len: 0 };
        loop {
            let leg = self.legs[index].as_deref_mut()?;
            let has_room =
                batch.count + 1 < out.segments_max() && out.has_room(batch.len + 2 * batch.segment_len);
            let Some(octets) = out.room(batch.len, batch.segment_len) else { break };
            let mut packet = Open::new(octets);
            if batch.count == 0 {
                begin(now, leg, is_preferred, reports, &mut packet);
            }
            if has_pieces {
                add_pieces(leg, &mut self.store, &mut packet);
            }
            if packet.is_empty() {
                break;
            }
            // What was put into this packet counts in the window before the next is begun.
            let len = packet.len + TAG_LEN;
            has_pieces = has_room
                && self.has_pieces_beyond(index, len)
                && (control_len.is_none() || self.control_packet_len(index).is_some());
            let goes_on = has_pieces && packet.make_equal(&mut batch);
            self.depart(now, index, packet, &mut batch);
            if !goes_on {
                break;
            }
        }
        if batch.count == 1 {
            batch.segment_len = batch.len;
        }
        out.set_len(batch.len);
        (batch.count > 0).then_some(batch)
    }

    /// Makes a packet of `len` octets that has nothing but padding, and has a question follow it.
    #[cold]
    fn fill_trial(
        &mut self,
        now: Instant,
        index: usize,
        len: usize,
        out: &mut TransmitBuffer,
    ) -> Option<Transmit> {
        let leg = self.legs[index].as_deref_mut()?;
        let Some(octets) = out.room(0, len) else {
            leg.search.note_sent(now, None);
            return None;
        };
        let mut packet = Open::new(octets);
        packet.asks = true;
        packet.pad();
        let number = leg.depart(Departure {
            sent_at: now,
            len,
            asks: false,
            has_control: false,
            wants_witness: false,
            is_trial: true,
        });
        packet.emit_header(now, leg.leg, number);
        leg.search.note_sent(now, Some(number));
        // Only a later packet that arrives proves that this one did not.
        leg.asks = true;
        out.set_len(len);
        Some(Transmit { leg: leg.leg, segment_len: len, count: 1, len })
    }

    /// How long packets are while a message of the control channel is next.
    //= spec/packet-sender.md#control-fits
    //# A packet with a piece of a message of the control channel MUST NOT be longer than 1,200 octets.
    fn control_packet_len(&mut self, index: usize) -> Option<usize> {
        let leg = self.legs[index].as_deref()?;
        let first = self.store.message_of(leg.first.front()?)?;
        (first.channel == Channel::CONTROL).then(|| leg.control_packet_len())
    }

    /// A packet is done.
    fn depart(&mut self, now: Instant, index: usize, packet: Open<'_>, batch: &mut Transmit) {
        let Some(leg) = self.legs[index].as_deref_mut() else { return };
        let departure = Departure {
            sent_at: now,
            len: packet.len + TAG_LEN,
            asks: packet.asks || packet.has_records || packet.has_control,
            has_control: packet.has_control,
            wants_witness: packet.wants_witness,
            is_trial: false,
        };
        let number = leg.depart(departure);
        packet.emit_header(now, leg.leg, number);
        batch.count += 1;
        batch.len += departure.len;
        let (leg, is_alive) = (leg.leg, leg.health.is_alive());
        // While others are good, a dead leg that does not answer is no news.
        if departure.asks && (is_alive || !self.is_any_good(self.usable)) {
            self.silence_of(leg).note_asked(now);
        }
    }
}

/// What only the first packet of a batch has: acks, control, a question.
fn begin(now: Instant, leg: &mut Leg, is_preferred: bool, reports: &mut Reports<'_>, packet: &mut Open<'_>) {
    packet.asks = core::mem::take(&mut leg.asks);
    packet.wants_witness = core::mem::take(&mut leg.wants_witness);
    if core::mem::take(&mut leg.owes_acks) || (is_preferred && reports.has_acks(now)) {
        let len = reports.receiver.write_acks(now, packet.room());
        packet.len += len;
        packet.has_ack = len > 0;
    }
    if is_preferred && reports.has_control(now) {
        let len = reports.receiver.write_message_acks(reports.windows, packet.room());
        packet.len += len;
        packet.has_control = len > 0;
    }
    if is_preferred && let Some(kib) = reports.settled {
        let len = emit_settled(kib, packet.room());
        packet.len += len;
        packet.has_control |= len > 0;
        reports.settled = reports.settled.filter(|_| len == 0);
    }
    let is_bare = packet.has_ack && !packet.has_control && leg.first.is_empty() && leg.fresh.is_empty();
    if is_bare && !packet.asks {
        packet.asks = leg.must_ask_for_acks();
    }
}

/// Puts pieces into a packet until it is full or there are none.
fn add_pieces(leg: &mut Leg, store: &mut Store, packet: &mut Open<'_>) {
    let is_long = packet.octets.len() > PACKET_LEN_BASE;
    for queue in [&mut leg.first, &mut leg.fresh] {
        while let Some(piece) = queue.front_mut() {
            let Some(kept) = store.message_of(piece) else {
                queue.pop_front();
                continue;
            };
            if is_long && kept.channel == Channel::CONTROL {
                return;
            }
            let Some(take) = packet.add_piece(piece, kept) else { return };
            let end = piece.start + take as u32;
            leg.flight.add_piece(Piece { end, ..*piece });
            leg.counters.resent += u64::from(piece.is_again);
            if end < piece.end {
                piece.start = end;
                return;
            }
            kept.was_sent |= end as usize == kept.octets.len();
            queue.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //= spec/packet-sender.md#filling
    //= type=test
    //# A packet that is followed by others of its batch MUST be as long as they are.
    #[test]
    fn packets_are_filled_to_the_grid() {
        assert_eq!(cut(2000, 1424, 1424), Some(1408));
        assert_eq!(cut(100, 1424, 1424), Some(100));
        assert_eq!(cut(100, 120, 1424), Some(100), "104 octets with their padding");
        assert_eq!(cut(100, 119, 1424), None, "it fits into the next");
        assert_eq!(cut(1400, 119, 1424), None);
        assert_eq!(cut(1500, 119, 1424), Some(64), "it has to be cut anyway");
        assert_eq!(cut(1400, 200, 1424), Some(128), "too much would stay empty");
        assert_eq!(cut(1500, 79, 1424), None);
        assert_eq!(cut(1500, 16 + 1280 + 16, 1424), Some(1216), "16 octets cannot be filled up, 80 can");
        assert_eq!(cut(1500, 16 + 1280 + 24, 1424), Some(1280));
        assert_eq!(cut(0, 16, 1424), Some(0));
        assert_eq!(cut(0, 15, 1424), None);
    }
}
