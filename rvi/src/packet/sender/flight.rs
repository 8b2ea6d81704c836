//! Packets of one leg that were sent, until their fate is known.
//!
//! A packet is never sent again; its pieces go again in another packet. At any time exactly one place answers for a
//! piece: a queue, or one packet in flight.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use vlan_core::Instant;

use crate::packet::wire::AckRanges;

use super::fates::{Proofs, Trial};
use super::path_search::PACKET_LEN_BASE;
use super::store::Piece;

/// A packet with this many later ones proven to have arrived is lost (RFC 9002, `kPacketThreshold`).
const PACKET_THRESHOLD: u64 = 3;
/// Packets that one leg keeps in mind.
pub(super) const PACKETS_MAX: usize = 16_384;

/// What is known of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing: it answers for its pieces.
    Open,
    /// Nothing, but its pieces went again: it answers for nothing.
    Rescued,
    /// It arrived.
    Arrived,
    /// It is proven lost; its pieces went again.
    Lost,
}

#[derive(Clone, Copy, Debug)]
struct SentPacket {
    sent_at: Instant,
    /// Place of its first piece among the pieces, free-running.
    first_piece: u32,
    pieces: u16,
    len: u16,
    fate: Fate,
    /// An ack does not have it, though it has later ones.
    is_passed: bool,
    asks: bool,
    has_control: bool,
    wants_witness: bool,
    is_trial: bool,
}

/// What a packet that goes out is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Departure {
    pub(super) sent_at: Instant,
    /// Octets of the whole packet.
    pub(super) len: usize,
    /// It makes the peer send an ack: it has records, or asks.
    pub(super) asks: bool,
    /// It has control of channels.
    pub(super) has_control: bool,
    /// If no proof comes, a packet by another leg shall tell whether the peer or the leg is silent.
    pub(super) wants_witness: bool,
    /// It tries a length, and is nothing else: nobody waits for it, and its fate is evidence of nothing but that.
    pub(super) is_trial: bool,
}

#[derive(Debug, Default)]
pub(super) struct Flight {
    packets: VecDeque<SentPacket>,
    pieces: VecDeque<Piece>,
    /// Number of the packet at the front.
    base: u64,
    /// Free-running place of the piece at the front.
    pieces_base: u32,
    /// Packets before this one are not open.
    open_from: u64,
    /// Packets before this one have arrived or are lost.
    unproven_from: u64,
    /// Acks tell nothing any more of packets before this one.
    told_from: u64,
    /// Every packet that an ack passed by and nothing is proven of lies in here, and the first is one.
    passed: Range<u64>,
    /// Packets among those remembered that are lost.
    lost: usize,
    /// Octets of open packets.
    octets: usize,
}

impl Flight {
    /// A leg whose first packet has number `first`.
    pub(super) fn starting_at(first: u64) -> Self {
        Self { base: first, open_from: first, unproven_from: first, ..Self::default() }
    }

    /// The number of the next packet.
    pub(super) fn next_number(&self) -> u64 {
        self.base + self.packets.len() as u64
    }

    /// Octets that may still be on their way.
    pub(super) fn octets(&self) -> usize {
        self.octets
    }

    pub(super) fn is_full(&self) -> bool {
        self.packets.len() >= PACKETS_MAX
    }

    /// Adds a piece to the packet that is being made.
    pub(super) fn add_piece(&mut self, piece: Piece) {
        self.pieces.push_back(piece);
    }

    /// The packet with all pieces added since the last one goes out; its number is [`Flight::next_number`].
    pub(super) fn depart(&mut self, departure: Departure) {
        let known =
            self.packets.back().map_or(self.pieces_base, |p| p.first_piece.wrapping_add(u32::from(p.pieces)));
        let end = self.pieces_base.wrapping_add(self.pieces.len() as u32);
        if departure.asks {
            self.octets += departure.len;
        }
        self.packets.push_back(SentPacket {
            sent_at: departure.sent_at,
            first_piece: known,
            pieces: end.wrapping_sub(known) as u16,
            len: departure.len as u16,
            fate: Fate::Open,
            is_passed: false,
            asks: departure.asks,
            has_control: departure.has_control,
            wants_witness: departure.wants_witness,
            is_trial: departure.is_trial,
        });
    }

    /// When packet `number` was sent, if it is remembered.
    pub(super) fn sent_at(&self, number: u64) -> Option<Instant> {
        self.at(number).map(|packet| packet.sent_at)
    }

    /// True when packet `number` asked for an ack and nothing was known of its arrival so far.
    pub(super) fn is_question(&self, number: u64) -> bool {
        let is_unproven = |packet: &SentPacket| matches!(packet.fate, Fate::Open | Fate::Rescued);
        self.at(number).is_some_and(|packet| packet.asks && is_unproven(packet))
    }

    fn at(&self, number: u64) -> Option<&SentPacket> {
        let index = usize::try_from(number.checked_sub(self.base)?).ok()?;
        self.packets.get(index)
    }

    /// Notes that the packets in `ranges` arrived.
    pub(super) fn acknowledge(&mut self, ranges: &AckRanges, proofs: &mut Proofs) {
        // Below the unproven ones only those matter that were wrongly taken for lost.
        let from = if self.lost == 0 { self.unproven_from.max(self.base) } else { self.base };
        for (lowest, highest) in ranges.iter() {
            let Some(end) = highest.checked_sub(self.base) else { break };
            let start = (lowest.max(from) - self.base) as usize;
            let end = (end as usize + 1).min(self.packets.len());
            for index in start..end {
                self.arrive(index, proofs);
            }
        }
        self.skip_proven();
    }

    fn arrive(&mut self, index: usize, proofs: &mut Proofs) {
        let number = self.base + index as u64;
        let packet = &mut self.packets[index];
        if packet.is_trial {
            self.prove_trial(index, true, proofs);
            return;
        }
        match packet.fate {
            Fate::Arrived => return,
            Fate::Open => {
                proofs.note_arrived(packet.sent_at);
                self.octets -= if packet.asks { usize::from(packet.len) } else { 0 };
            }
            Fate::Rescued => {
                proofs.note_arrived(packet.sent_at);
                proofs.spurious += 1;
            }
            Fate::Lost => {
                proofs.spurious += 1;
                self.lost -= 1;
            }
        }
        packet.fate = Fate::Arrived;
        proofs.arrivals.note(number, packet.len);
    }

    /// A packet that tried a length is proof of nothing else.
    //= spec/packet-sender.md#trials
    //# A packet that tries a length MUST carry nothing, and its fate MUST NOT count for its leg, against it, or for the window.
    #[cold]
    fn prove_trial(&mut self, index: usize, has_arrived: bool, proofs: &mut Proofs) {
        let number = self.base + index as u64;
        let packet = &mut self.packets[index];
        let fate = if has_arrived { Fate::Arrived } else { Fate::Lost };
        let before = core::mem::replace(&mut packet.fate, fate);
        if before != fate {
            proofs.trial = Some(Trial { number, len: packet.len, has_arrived });
            self.lost -= usize::from(before == Fate::Lost);
            self.lost += usize::from(fate == Fate::Lost);
        }
    }

    /// Finds packets that an ack with `ranges` passes by: lost when three later ones or more have arrived, or when they
    /// were sent `loss_delay` ago; their pieces go to `pieces`. What lies below all ranges is unknown.
    //= spec/packet-sender.md#loss
    //# A packet MUST count as lost only when an ack shows that it had not arrived although a packet had that was sent
    //# three packets later by its leg, or later by its leg and it is 9/8 of a round trip old, or by any leg and so much
    //# later that it should have arrived before.
    pub(super) fn detect(
        &mut self,
        now: Instant,
        loss_delay: Duration,
        ranges: &AckRanges,
        pieces: &mut Vec<Piece>,
        proofs: &mut Proofs,
    ) {
        let slice = ranges.as_slice();
        let (Some(&(_, largest)), Some(&(lowest, _))) = (slice.first(), slice.last()) else { return };
        self.told_from = self.told_from.max(lowest);
        for number in self.unproven_from.max(lowest).max(self.base)..largest.min(self.next_number()) {
            let index = (number - self.base) as usize;
            let packet = &mut self.packets[index];
            if matches!(packet.fate, Fate::Arrived | Fate::Lost) || ranges.contains(number) {
                continue;
            }
            packet.is_passed = true;
            self.passed = match self.passed.is_empty() {
                true => number..number + 1,
                false => self.passed.start.min(number)..self.passed.end.max(number + 1),
            };
            if number + PACKET_THRESHOLD <= largest || packet.sent_at + loss_delay <= now {
                self.lose(index, pieces, proofs);
            }
        }
        self.skip_proven();
    }

    /// Finds packets that an ack passed by and that are `loss_delay` old now. When the next one will be.
    pub(super) fn detect_passed(
        &mut self,
        now: Instant,
        loss_delay: Duration,
        pieces: &mut Vec<Piece>,
        proofs: &mut Proofs,
    ) {
        for number in self.passed.clone() {
            let index = (number - self.base) as usize;
            let packet = &self.packets[index];
            if packet.sent_at + loss_delay > now {
                break;
            }
            if packet.is_passed && matches!(packet.fate, Fate::Open | Fate::Rescued) {
                self.lose(index, pieces, proofs);
            }
        }
        self.skip_proven();
    }

    /// When the oldest packet that an ack passed by was sent.
    //= spec/packet-sender.md#loss-in-time
    //# A packet that an ack passed by MUST count as lost when it is 9/8 of a round trip old, whatever is not known of packets
    //# sent before it.
    pub(super) fn oldest_passed(&self) -> Option<Instant> {
        if self.passed.is_empty() { None } else { self.sent_at(self.passed.start) }
    }

    /// Finds packets that an ack does not have although it was written after `witness`, when they should have arrived:
    /// they were sent `arrival_max` before it. `ranges` are what it has of this leg.
    pub(super) fn detect_across(
        &mut self,
        witness: Instant,
        arrival_max: Duration,
        ranges: &AckRanges,
        pieces: &mut Vec<Piece>,
        proofs: &mut Proofs,
    ) {
        let lowest = ranges.as_slice().last().map_or(0, |&(lowest, _)| lowest);
        let start = self.unproven_from.max(self.base).max(lowest);
        for number in start..self.next_number() {
            let index = (number - self.base) as usize;
            let packet = &self.packets[index];
            if packet.sent_at + arrival_max > witness {
                break;
            }
            if matches!(packet.fate, Fate::Open | Fate::Rescued) && !ranges.contains(number) {
                self.lose(index, pieces, proofs);
            }
        }
        self.skip_proven();
    }

    fn lose(&mut self, index: usize, pieces: &mut Vec<Piece>, proofs: &mut Proofs) {
        if self.packets[index].is_trial {
            self.prove_trial(index, false, proofs);
            return;
        }
        if self.packets[index].fate == Fate::Open {
            self.hand_over(index, pieces, &mut proofs.is_control_lost);
        }
        let number = self.base + index as u64;
        let packet = &mut self.packets[index];
        packet.fate = Fate::Lost;
        if usize::from(packet.len) > PACKET_LEN_BASE {
            proofs.long_losses.note(number, packet.len);
        }
        proofs.note_lost(packet.sent_at);
        self.lost += 1;
    }

    /// Takes the pieces off an open packet.
    fn hand_over(&mut self, index: usize, pieces: &mut Vec<Piece>, is_control_lost: &mut bool) {
        let packet = &self.packets[index];
        let first = packet.first_piece.wrapping_sub(self.pieces_base) as usize;
        pieces
            .extend(self.pieces.range(first..first + usize::from(packet.pieces)).map(|piece| piece.again()));
        *is_control_lost |= packet.has_control;
        self.octets -= if packet.asks { usize::from(packet.len) } else { 0 };
    }

    /// When the oldest open packet was sent that wants an answer.
    pub(super) fn oldest_open(&self) -> Option<Instant> {
        self.sent_at(self.open_from)
    }

    /// Takes the pieces of the oldest packets that are open, want an answer, and were sent at `until` at the latest: of
    /// `count` packets, and of all that no ack will tell of.
    pub(super) fn rescue(&mut self, count: usize, until: Instant, pieces: &mut Vec<Piece>) -> Rescue {
        let mut rescue = Rescue::default();
        while (rescue.packets < count || self.open_from < self.told_from)
            && let Some(packet) = self.at(self.open_from)
            && packet.sent_at <= until
        {
            let index = (self.open_from - self.base) as usize;
            rescue.wants_witness |= packet.wants_witness;
            self.hand_over(index, pieces, &mut rescue.is_control_lost);
            self.packets[index].fate = Fate::Rescued;
            rescue.packets += 1;
            self.skip_proven();
        }
        rescue
    }

    /// Moves the marks behind what they need not look at any more.
    fn skip_proven(&mut self) {
        self.open_from = self.open_from.max(self.base);
        while let Some(packet) = self.at(self.open_from) {
            if packet.fate == Fate::Open && packet.asks {
                break;
            }
            self.open_from += 1;
        }
        self.unproven_from = self.unproven_from.max(self.base);
        while let Some(packet) = self.at(self.unproven_from) {
            if matches!(packet.fate, Fate::Open | Fate::Rescued) {
                break;
            }
            self.unproven_from += 1;
        }
        self.passed.start = self.passed.start.max(self.base);
        while !self.passed.is_empty() && !self.is_passed(self.passed.start) {
            self.passed.start += 1;
        }
    }

    fn is_passed(&self, number: u64) -> bool {
        let is_unproven = |packet: &SentPacket| matches!(packet.fate, Fate::Open | Fate::Rescued);
        self.at(number).is_some_and(|packet| packet.is_passed && is_unproven(packet))
    }

    /// Forgets packets at the front that have arrived, or whose fate has not become known for `keep`.
    pub(super) fn forget(&mut self, now: Instant, keep: Duration) {
        while let Some(packet) = self.packets.front() {
            let is_over = match packet.fate {
                Fate::Arrived => true,
                Fate::Open if packet.asks => false,
                Fate::Open | Fate::Rescued | Fate::Lost => {
                    packet.sent_at + keep <= now || self.packets.len() >= PACKETS_MAX
                }
            };
            if !is_over {
                break;
            }
            self.lost -= usize::from(packet.fate == Fate::Lost);
            self.pieces.drain(..usize::from(packet.pieces));
            self.pieces_base = self.pieces_base.wrapping_add(u32::from(packet.pieces));
            self.packets.pop_front();
            self.base += 1;
        }
        self.skip_proven();
    }

    /// Gives memory back that was needed in busier times.
    pub(super) fn shrink(&mut self) {
        self.packets.shrink_to(4);
        self.pieces.shrink_to(4);
    }
}

/// What was taken off packets without proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rescue {
    pub(super) packets: usize,
    pub(super) is_control_lost: bool,
    pub(super) wants_witness: bool,
}

#[cfg(test)]
mod tests;
