//! One end as its host sees it: the transport that ships, its socket, its clock, and who eats what it delivers.

use std::collections::VecDeque;
use std::time::Duration;

use rvi::packet::probe_budget::ProbeBudget;
use rvi::packet::receiver::PooledBuf;
use rvi::packet::transport::PacketTransport;
use vlan_core::Instant;

use super::clock::Clock;
use super::plan::EndPlan;
use super::side::Side;
use super::windows::ModelWindows;

/// A message that a source would like to send.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// When it was offered.
    pub at: Instant,
    /// Its lane.
    pub lane: u16,
    /// Its octets.
    pub len: usize,
    /// It is a barrier.
    pub is_after_all: bool,
}

/// What an end's host dropped before its transport saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndCounts {
    /// No room in the socket.
    pub socket_full: u64,
    /// Not a packet, or its tag is wrong.
    pub corrupted: u64,
    /// Of another session.
    pub stale: u64,
    /// Of another fabric.
    pub wrong_fabric: u64,
    /// Packets that its transport took.
    pub received: u64,
    /// Packets that it sent.
    pub sent: u64,
    /// Octets that it sent.
    pub octets_sent: u64,
    /// Batches that it ran.
    pub batches: u64,
    /// Offers that found the queue of a source full.
    pub refused: u64,
}

/// What becomes of delivered messages.
#[derive(Debug, Default)]
pub struct Consumer {
    /// Messages in hand; their memory is not given back yet.
    pub kept: VecDeque<PooledBuf>,
    /// How long one takes; at once without.
    pub pause: Option<Duration>,
    /// It is at work on the first of them.
    pub is_busy: bool,
}

/// See the module.
pub struct End {
    /// Which end it is.
    pub side: Side,
    /// Its clock.
    pub clock: Clock,
    /// The machine; none while the process is dead or has no session.
    pub transport: Option<PacketTransport>,
    /// The process lives.
    pub is_alive: bool,
    /// What it delivered in this session.
    pub windows: ModelWindows,
    /// What its sources wait to send, by channel.
    pub outbox: Vec<VecDeque<Offer>>,
    /// Who takes what arrives.
    pub consumer: Consumer,
    /// Its budget of probes.
    pub probes: ProbeBudget,
    /// It does not run before this.
    pub paused_until: Option<Instant>,
    /// Until then its timers are late, or were a moment ago, or it is stopped: what it finds lost may come later.
    pub excused_until: Instant,
    /// Its timers come up to so much late.
    pub timers_late: Duration,
    /// What it delivers counts as settled at once.
    pub settles: bool,
    /// What happened.
    pub counts: EndCounts,
    /// Its next batch: when, and the ticket of the event that runs it.
    pub next_run: Option<(Instant, u64)>,
    /// It is at work until then.
    pub busy_until: Instant,
    /// It said that nothing answers.
    pub is_stalled: bool,
    /// A message found no room in the last batch.
    pub is_full: bool,
    /// Batches in a row that ended with a deadline that was already due.
    pub overdue: u32,
    socket: VecDeque<(u8, Vec<u8>)>,
    socket_octets: usize,
    socket_octets_max: usize,
}

impl End {
    /// An end without a session.
    #[must_use]
    pub fn new(side: Side, plan: &EndPlan, channels: usize) -> Self {
        Self {
            side,
            clock: Clock::new(plan.clock_start, plan.ppm),
            transport: None,
            is_alive: true,
            windows: ModelWindows::new(channels, 0),
            outbox: vec![VecDeque::new(); channels],
            consumer: Consumer::default(),
            probes: ProbeBudget::default(),
            paused_until: None,
            excused_until: Instant::ZERO,
            timers_late: Duration::ZERO,
            settles: true,
            counts: EndCounts::default(),
            next_run: None,
            busy_until: Instant::ZERO,
            is_stalled: false,
            is_full: false,
            overdue: 0,
            socket: VecDeque::new(),
            socket_octets: 0,
            socket_octets_max: plan.socket_octets_max,
        }
    }

    /// A packet reaches the socket of a leg; true when it found room.
    pub fn arrive(&mut self, leg: u8, packet: Vec<u8>) -> bool {
        if !self.is_alive {
            return false;
        }
        if self.socket_octets + packet.len() > self.socket_octets_max {
            self.counts.socket_full += 1;
            return false;
        }
        self.socket_octets += packet.len();
        self.socket.push_back((leg, packet));
        true
    }

    /// The next packet of the socket, and the leg that it came by.
    pub fn take_packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let (leg, packet) = self.socket.pop_front()?;
        self.socket_octets -= packet.len();
        Some((leg, packet))
    }

    /// A new session begins: nothing is left of the one before.
    pub fn begin(&mut self, transport: PacketTransport, channels: usize) {
        self.transport = Some(transport);
        self.is_alive = true;
        self.windows = ModelWindows::new(channels, 0);
        self.consumer.kept.clear();
        self.is_stalled = false;
        self.overdue = 0;
    }

    /// The process dies.
    pub fn die(&mut self) {
        self.transport = None;
        self.is_alive = false;
        self.consumer = Consumer::default();
        self.outbox.iter_mut().for_each(VecDeque::clear);
        self.paused_until = None;
        self.next_run = None;
        self.socket.clear();
        self.socket_octets = 0;
    }

    /// True when nothing keeps the process from running.
    #[must_use]
    pub const fn runs(&self) -> bool {
        self.is_alive && self.paused_until.is_none()
    }

    /// The channel's oldest offer that was not accepted.
    #[must_use]
    pub fn oldest_offer(&self, channel: usize) -> Option<Instant> {
        self.outbox[channel].front().map(|offer| offer.at)
    }
}
