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
                proofs.arrived += 1;
                self.octets -= if packet.asks { usize::from(packet.len) } else { 0 };
            }
            Fate::Rescued => {
                proofs.arrived += 1;
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
        self.lost += 1;
        proofs.lost += 1;
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
mod tests {
    use super::*;
    use crate::packet::sender::fates::Extent;

    const FAR: Duration = Duration::from_secs(1);

    fn at(us: u64) -> Instant {
        Instant::from_nanos(us * 1000)
    }

    fn piece(slot: u32) -> Piece {
        Piece { slot, serial: 1, start: 0, end: 64, is_again: false }
    }

    /// `count` packets of 100 octets with one piece each, 10 us apart.
    fn flight(count: u32) -> Flight {
        let mut flight = Flight::default();
        for i in 0..count {
            flight.add_piece(piece(i));
            let sent_at = at(10 * u64::from(i));
            flight.depart(Departure {
                sent_at,
                len: 100,
                asks: true,
                has_control: false,
                wants_witness: false,
                is_trial: false,
            });
        }
        flight
    }

    //= spec/packet-sender.md#trials
    //= type=test
    //# A packet that tries a length MUST carry nothing, and its fate MUST NOT count for its leg, against it, or for the window.
    #[test]
    fn the_fate_of_a_trial_is_told_apart_and_nobody_waits_for_it() {
        let trial = Departure {
            sent_at: at(5),
            len: 1472,
            asks: false,
            has_control: false,
            wants_witness: false,
            is_trial: true,
        };
        let fate = |has_arrived| Some(Trial { number: 2, len: 1472, has_arrived });
        for has_arrived in [false, true] {
            let mut flight = flight(2);
            flight.depart(trial);
            assert_eq!((flight.octets(), flight.oldest_open()), (200, Some(at(0))));
            for number in 3..7 {
                flight.add_piece(piece(number));
                let sent_at = at(10 * u64::from(number));
                flight.depart(Departure { sent_at, asks: true, is_trial: false, len: 100, ..trial });
            }
            let told: &[_] = if has_arrived { &[(0, 6)] } else { &[(3, 6), (0, 1)] };
            let (lost, proofs) = ack(&mut flight, at(100), FAR, told);
            assert_eq!((lost.len(), proofs.arrived, proofs.lost, proofs.spurious), (0, 6, 0, 0));
            assert_eq!((proofs.trial, proofs.long_losses), (fate(has_arrived), Extent::default()));
            assert_eq!((proofs.arrivals.newest(), proofs.arrivals.longest), (Some(6), 100));
            let (_, proofs) = ack(&mut flight, at(100), FAR, &[(0, 6)]);
            let late = if has_arrived { None } else { fate(true) };
            assert_eq!((proofs.trial, proofs.arrived, proofs.spurious), (late, 0, 0));
            flight.forget(at(100), FAR);
            assert_eq!((flight.packets.len(), flight.lost), (0, 0));
        }
    }

    #[test]
    fn the_longest_and_newest_of_what_arrived_and_of_long_losses_are_told() {
        let mut flight = Flight::default();
        for (len, number) in [(1472, 0), (100, 1), (1300, 2), (1200, 3), (200, 4), (300, 5), (100, 6)] {
            flight.depart(Departure {
                sent_at: at(number),
                len,
                asks: true,
                has_control: false,
                wants_witness: false,
                is_trial: false,
            });
        }
        let (_, proofs) = ack(&mut flight, at(100), FAR, &[(5, 6), (1, 1)]);
        assert_eq!((proofs.arrivals.newest(), proofs.arrivals.longest), (Some(6), 300));
        assert_eq!((proofs.long_losses.newest(), proofs.long_losses.longest), (Some(2), 1300));
    }

    fn ranges(ranges: &[(u64, u64)]) -> AckRanges {
        let mut all = AckRanges::default();
        for &(lowest, highest) in ranges {
            assert!(all.push(lowest, highest));
        }
        all
    }

    /// Applies an ack; the slots of the pieces that are lost, and the proofs.
    fn ack(
        flight: &mut Flight,
        now: Instant,
        loss_delay: Duration,
        told: &[(u64, u64)],
    ) -> (Vec<u32>, Proofs) {
        let (mut pieces, mut proofs, told) = (Vec::new(), Proofs::default(), ranges(told));
        flight.acknowledge(&told, &mut proofs);
        flight.detect(now, loss_delay, &told, &mut pieces, &mut proofs);
        assert!(pieces.iter().all(|piece| piece.is_again));
        (pieces.iter().map(|piece| piece.slot).collect(), proofs)
    }

    //= spec/packet-sender.md#loss
    //= type=test
    //# A packet MUST count as lost only when an ack shows that it had not arrived although a packet had that was sent
    //# three packets later by its leg, or later by its leg and it is 9/8 of a round trip old, or by any leg and so much
    //# later that it should have arrived before.
    #[test]
    fn three_later_packets_or_time_prove_a_loss_and_nothing_else_does() {
        let mut flight = flight(10);
        let (lost, proofs) = ack(&mut flight, at(100), FAR, &[(2, 4), (0, 0)]);
        assert_eq!((lost, proofs.arrived, proofs.lost), (std::vec![1], 4, 1), "1 is three below 4");
        assert_eq!(flight.octets(), 500);
        let (lost, _) = ack(&mut flight, at(100), FAR, &[(7, 7), (2, 4)]);
        assert!(lost.is_empty(), "5 and 6 are only passed by");
        assert_eq!(flight.oldest_passed(), Some(at(50)));
        let mut proofs = Proofs::default();
        let mut pieces = Vec::new();
        flight.detect_passed(at(100), Duration::from_micros(45), &mut pieces, &mut proofs);
        assert_eq!(pieces.len(), 1, "5 is 50 us old, 6 is 40");
        assert_eq!((proofs.lost, flight.oldest_passed()), (1, Some(at(60))));
        let (lost, _) = ack(&mut flight, at(100), FAR, &[(8, 9)]);
        assert!(lost.is_empty(), "6 and 7 lie below the ranges: unknown, or known already");
    }

    //= spec/packet-sender.md#loss-in-time
    //= type=test
    //# A packet that an ack passed by MUST count as lost when it is 9/8 of a round trip old, whatever is not known of packets
    //# sent before it.
    #[test]
    fn a_packet_that_was_passed_by_is_found_behind_any_number_that_was_not() {
        let mut flight = flight(200);
        let (lost, _) = ack(&mut flight, at(2000), FAR, &[(150, 150), (148, 148)]);
        assert!(lost.is_empty(), "149 is only passed by, and nothing is told of those before 148");
        assert_eq!(flight.oldest_passed(), Some(at(1490)));
        // A late ack tells of older ones.
        ack(&mut flight, at(2000), FAR, &[(102, 102), (100, 100)]);
        assert_eq!(flight.oldest_passed(), Some(at(1010)));
        let (mut pieces, mut proofs) = (Vec::new(), Proofs::default());
        flight.detect_passed(at(1055), Duration::from_micros(45), &mut pieces, &mut proofs);
        assert_eq!((proofs.lost, flight.oldest_passed()), (1, Some(at(1490))));
        flight.detect_passed(at(1535), Duration::from_micros(45), &mut pieces, &mut proofs);
        assert_eq!((proofs.lost, flight.oldest_passed()), (2, None));
    }

    #[test]
    fn an_ack_written_after_a_packet_of_another_leg_proves_what_it_does_not_have() {
        let mut flight = flight(10);
        let mut across = |witness, told: &[(u64, u64)]| {
            let (mut pieces, mut proofs) = (Vec::new(), Proofs::default());
            flight.detect_across(
                at(witness),
                Duration::from_micros(40),
                &ranges(told),
                &mut pieces,
                &mut proofs,
            );
            pieces.iter().map(|piece| piece.slot).collect::<Vec<_>>()
        };
        assert!(across(39, &[]).is_empty(), "0 may have been on its way");
        assert_eq!(across(55, &[]), [0, 1]);
        assert_eq!(across(85, &[(3, 3)]), [4], "2 lies below what the ack tells, 3 is there, 4 should be");
    }

    #[test]
    fn rescued_packets_answer_for_nothing_and_their_fate_still_counts() {
        let mut flight = flight(5);
        let mut pieces = Vec::new();
        let rescue = flight.rescue(2, at(1000), &mut pieces);
        assert_eq!((rescue.packets, pieces.len(), flight.octets()), (2, 2, 300));
        assert_eq!(flight.oldest_open(), Some(at(20)));
        assert_eq!(flight.rescue(5, at(20), &mut pieces).packets, 1, "3 and 4 are not old enough");
        let (lost, proofs) = ack(&mut flight, at(100), FAR, &[(3, 4), (1, 1)]);
        assert!(lost.is_empty(), "0 and 2 were rescued, their pieces went already: {lost:?}");
        assert_eq!((proofs.arrived, proofs.spurious, proofs.lost), (3, 1, 0));
        let (lost, proofs) = ack(&mut flight, at(100), FAR, &[(3, 4), (0, 1)]);
        assert!(lost.is_empty());
        assert_eq!((proofs.arrived, proofs.spurious), (1, 1));
    }

    #[test]
    fn a_packet_that_was_taken_for_lost_and_arrives_is_counted() {
        let mut flight = flight(5);
        assert_eq!(ack(&mut flight, at(100), FAR, &[(1, 4)]).1.lost, 0, "0 lies below all ranges");
        let mut flight = self::flight(6);
        let (_, proofs) = ack(&mut flight, at(100), FAR, &[(2, 5), (0, 0)]);
        assert_eq!((proofs.lost, proofs.spurious), (1, 0));
        let (_, proofs) = ack(&mut flight, at(100), FAR, &[(0, 5)]);
        assert_eq!((proofs.arrived, proofs.lost, proofs.spurious), (0, 0, 1));
    }

    #[test]
    fn what_is_known_is_forgotten_from_the_front_and_numbers_go_on() {
        let mut flight = flight(6);
        ack(&mut flight, at(100), FAR, &[(3, 5), (0, 1)]);
        flight.forget(at(100), Duration::from_micros(90));
        assert_eq!((flight.next_number(), flight.sent_at(1), flight.sent_at(2)), (6, None, Some(at(20))));
        flight.forget(at(200), Duration::from_micros(90));
        assert_eq!((flight.next_number(), flight.sent_at(2)), (6, None), "an open packet is never forgotten");
        let mut flight = self::flight(2);
        flight.forget(at(1_000_000), Duration::ZERO);
        assert_eq!(flight.oldest_open(), Some(at(0)));
        assert_eq!(Flight::starting_at(77).next_number(), 77);
    }

    #[test]
    fn packets_that_acks_tell_nothing_of_go_again_together() {
        let mut flight = flight(20);
        ack(&mut flight, at(200), FAR, &[(15, 15)]);
        let mut pieces = Vec::new();
        assert_eq!(flight.rescue(2, at(100), &mut pieces).packets, 11, "as many as are old enough");
        assert_eq!(flight.rescue(2, at(500), &mut pieces).packets, 4, "and the rest below 15");
        assert_eq!(flight.rescue(2, at(500), &mut pieces).packets, 2, "then two by two");
    }

    /// Any order of acks, rescues and time: each piece leaves its packet at most once, and octets in flight add up.
    #[test]
    fn every_piece_is_handed_over_at_most_once() {
        let mut random = vlan_core::random::Random::new(5);
        for _ in 0..300 {
            let mut flight = flight(40);
            let mut handed = std::collections::BTreeSet::new();
            let mut pieces = Vec::new();
            for step in 0..30 {
                let (mut proofs, now) = (Proofs::default(), at(400 + step));
                let highest = random.below(40);
                let lowest = highest - random.below(highest + 1);
                let told = ranges(&[(lowest, highest)]);
                match random.below(5) {
                    0 => drop(flight.rescue(random.below(3) as usize, now, &mut pieces)),
                    1 => flight.detect_across(
                        at(random.below(450)),
                        Duration::ZERO,
                        &told,
                        &mut pieces,
                        &mut proofs,
                    ),
                    2 => flight.forget(now, Duration::from_micros(random.below(500))),
                    3 => flight.detect_passed(now, Duration::ZERO, &mut pieces, &mut proofs),
                    _ => {
                        flight.acknowledge(&told, &mut proofs);
                        flight.detect(now, FAR, &told, &mut pieces, &mut proofs);
                    }
                }
                for piece in pieces.drain(..) {
                    assert!(handed.insert(piece.slot), "piece {} went twice", piece.slot);
                }
            }
            flight.acknowledge(&ranges(&[(0, 39)]), &mut Proofs::default());
            assert_eq!(flight.octets(), 0);
            flight.forget(at(0), FAR);
            assert_eq!((flight.packets.len(), flight.pieces.len(), flight.lost), (0, 0, 0));
        }
    }
}
