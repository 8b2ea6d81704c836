//! One leg, as its sender sees it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use vlan_core::Instant;

use crate::packet::wire::{PACKET_HEADER_LEN, PacketLeg, TAG_LEN};

use super::black_hole::BlackHole;
use super::congestion::CongestionWindow;
use super::fates::Proofs;
use super::flight::{Departure, Flight, PACKETS_MAX, Rescue};
use super::health::Health;
use super::path_search::{PACKET_LEN_BASE, PathSearch};
use super::rtt::{Rtt, WaitPolicy};
use super::store::Piece;
use super::types::{PacketLegConfig, PacketLegState, PacketLegStatus};

/// Longest wait for proof while another leg lives ...
const PTO_LONGEST: Duration = Duration::from_millis(2);
/// ... and while none does.
const PTO_LONGEST_ALONE: Duration = Duration::from_millis(100);
/// Expiries without an answer before the wait doubles.
const PTO_STEADY: u32 = 2;
/// A packet whose fate is unknown is kept in mind this many PTOs.
const KEEP_PTOS: u32 = 16;
/// Each so many packets with nothing but acks, one asks for an answer: so a leg that carries only acks is judged, too.
const ACKS_PER_QUESTION: u32 = 8;
/// The shortest packet length that is worth a leg: the longest ack section and a fragment.
pub(super) const PACKET_LEN_LEAST: usize = 576;
/// The longest payload that a fragment's length can tell, and header and tag.
const PACKET_LEN_MAX: usize = PACKET_HEADER_LEN + (u16::MAX as usize & !63) + TAG_LEN;

/// The longest packet that fits into `len` octets and whose payload is a multiple of 8 octets long.
fn usable_len(len: usize) -> usize {
    len.clamp(PACKET_LEN_LEAST, PACKET_LEN_MAX) & !7
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub(super) tx_packets: u64,
    pub(super) tx_octets: u64,
    pub(super) rx_packets: u64,
    pub(super) rx_octets: u64,
    pub(super) lost: u64,
    pub(super) rescued: u64,
    pub(super) spurious: u64,
    pub(super) resent: u64,
    pub(super) probes: u64,
    pub(super) fallbacks: u64,
}

#[derive(Debug)]
pub(super) struct Leg {
    pub(super) leg: PacketLeg,
    pub(super) search: PathSearch,
    black_hole: BlackHole,
    pub(super) flight: Flight,
    pub(super) rtt: Rtt,
    pub(super) health: Health,
    pub(super) window: CongestionWindow,
    /// What goes before anything else: resends, and messages of the control channel.
    pub(super) first: VecDeque<Piece>,
    pub(super) fresh: VecDeque<Piece>,
    /// The next packet asks for an answer.
    pub(super) asks: bool,
    /// ... and without one, another leg is asked.
    pub(super) wants_witness: bool,
    /// Acks are to go by this leg.
    pub(super) owes_acks: bool,
    /// Packets with nothing but acks since the last that asked.
    bare_acks: u32,
    pto_from: Instant,
    pto_count: u32,
    pub(super) counters: Counters,
}

impl Leg {
    pub(super) fn new(
        now: Instant,
        config: PacketLegConfig,
        policy: WaitPolicy,
        (window_octets_max, idle_probe): (usize, Duration),
        first_number: u64,
    ) -> Self {
        let packet_len_max = usable_len(config.packet_len_max);
        let search = PathSearch::new(now, packet_len_max as u16);
        Self {
            leg: config.leg,
            search,
            black_hole: BlackHole::default(),
            flight: Flight::starting_at(first_number),
            rtt: Rtt::new(policy),
            health: Health::new(now, config.leg.is_relay(), idle_probe),
            window: CongestionWindow::new(window_octets_max, packet_len_max),
            first: VecDeque::new(),
            fresh: VecDeque::new(),
            asks: true,
            wants_witness: false,
            owes_acks: false,
            bare_acks: 0,
            pto_from: now,
            pto_count: 0,
            counters: Counters::default(),
        }
    }

    /// The route takes packets of `len` octets and no longer ones. Pieces that go again are cut to fit.
    pub(super) fn set_packet_len_max(&mut self, len: usize) {
        self.search.set_ceiling(usable_len(len) as u16);
    }

    /// Octets of the longest packet that is sent now.
    pub(super) fn packet_len(&self) -> usize {
        self.search.packet_len()
    }

    /// When the search for the longest packet has something to do.
    pub(super) fn search_deadline(&self) -> Option<Instant> {
        let state = self.health.state();
        self.search.deadline(!self.health.is_urgent(), state == PacketLegState::Starting)
    }

    /// Takes proven fates for what they tell of packets' lengths.
    pub(super) fn judge_lengths(&mut self, now: Instant, proofs: &Proofs) {
        if let Some(trial) = proofs.trial {
            if trial.has_arrived {
                self.search.handle_arrival(now, trial.number, trial.len);
            } else {
                let counts = self.health.state() == PacketLegState::Good;
                self.search.handle_loss(now, trial.number, counts);
            }
        }
        if self.black_hole.record(proofs.arrivals, proofs.long_losses, self.flight.next_number()) {
            self.fall_back(now);
        }
    }

    /// Long packets are not believed to arrive any more.
    pub(super) fn fall_back(&mut self, now: Instant) {
        if self.search.fall_back(now, self.flight.next_number()) {
            self.counters.fallbacks += 1;
        }
    }

    /// Octets of the longest packet that may have a message of the control channel in it.
    pub(super) fn control_packet_len(&self) -> usize {
        self.packet_len().min(PACKET_LEN_BASE)
    }

    /// True when pieces wait, and may go after a packet of `len` octets. A question may always go.
    pub(super) fn has_pieces_beyond(&self, len: usize) -> bool {
        let waits = !self.first.is_empty() || !self.fresh.is_empty();
        let octets = self.flight.octets() + len + self.packet_len();
        waits && (self.asks || (octets <= self.window.octets() && !self.flight.is_full()))
    }

    /// True for the packet with nothing but acks that is to ask for an answer.
    pub(super) fn must_ask_for_acks(&mut self) -> bool {
        self.bare_acks += 1;
        self.bare_acks >= ACKS_PER_QUESTION
    }

    /// A packet goes out; gives its number.
    pub(super) fn depart(&mut self, departure: Departure) -> u64 {
        let number = self.flight.next_number();
        self.flight.depart(departure);
        if departure.asks {
            self.bare_acks = 0;
            self.health.note_asked(departure.sent_at);
        }
        self.counters.tx_packets += 1;
        self.counters.tx_octets += departure.len as u64;
        number
    }

    /// When the oldest packet has waited long enough for proof.
    pub(super) fn pto_deadline(&self, is_alone: bool) -> Option<Instant> {
        let oldest = self.flight.oldest_open()?;
        Some(oldest.max(self.pto_from) + self.pto(is_alone))
    }

    fn pto(&self, is_alone: bool) -> Duration {
        let pto = self.rtt.pto();
        let longest = if is_alone { PTO_LONGEST_ALONE } else { PTO_LONGEST };
        let doublings = self.pto_count.saturating_sub(PTO_STEADY).min(16);
        (pto * (1 << doublings)).min(longest.max(pto))
    }

    /// Takes the pieces of the `count` oldest packets that nothing was proved of for one PTO.
    pub(super) fn rescue_late(&mut self, now: Instant, count: usize, pieces: &mut Vec<Piece>) -> Rescue {
        let until = now.as_nanos().saturating_sub(self.rtt.pto().as_nanos() as u64);
        self.flight.rescue(count, Instant::from_nanos(until), pieces)
    }

    pub(super) fn note_pto(&mut self, now: Instant) {
        self.pto_from = now;
        self.pto_count += 1;
    }

    /// The peer answers, by whatever leg.
    pub(super) fn note_answer(&mut self) {
        self.pto_count = 0;
    }

    /// When the loss of packets that an ack passed by becomes certain.
    pub(super) fn loss_deadline(&self) -> Option<Instant> {
        self.flight.oldest_passed().map(|sent_at| sent_at + self.rtt.loss_delay())
    }

    /// Forgets packets of old.
    pub(super) fn forget(&mut self, now: Instant) {
        self.flight.forget(now, self.rtt.pto() * KEEP_PTOS);
    }

    /// Gives memory back that was needed in busier times.
    pub(super) fn shrink(&mut self) {
        self.flight.shrink();
        self.first.shrink_to(0);
        self.fresh.shrink_to(0);
    }

    pub(super) fn status(&self) -> PacketLegStatus {
        let Counters {
            tx_packets,
            tx_octets,
            rx_packets,
            rx_octets,
            lost,
            rescued,
            spurious,
            resent,
            probes,
            fallbacks,
        } = self.counters;
        PacketLegStatus {
            leg: self.leg,
            state: self.health.state(),
            score: self.health.score(),
            packet_len: self.packet_len(),
            rtt_ns: self.rtt.smoothed(),
            window: self.window.octets(),
            in_flight: self.flight.octets(),
            tx_packets,
            tx_octets,
            rx_packets,
            rx_octets,
            lost,
            rescued,
            spurious,
            resent,
            probes,
            fallbacks,
        }
    }
}

const _: () = assert!(PACKET_LEN_MAX < u16::MAX as usize, "and one more");
const _: () = assert!(PACKETS_MAX > 4096, "a window of small packets fits");
