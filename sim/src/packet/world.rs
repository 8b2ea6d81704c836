//! The simulated association: two ends, the network between them, sources, faults, and the run loop.
//!
//! A [`PacketWorld`] is a host of two `PacketTransport`s. It does for them what the pump of a process does, in
//! simulated time: sockets, timers, sealing, numbering of messages, settling. After every batch of an end the
//! checks of [`watch`] and of the ledgers run.

mod batch;
mod converge;
mod evidence;
mod faults;
mod holes;
mod inspect;
mod session;
mod watch;
mod wire_check;

use std::time::Duration;

use rvi::packet::transport::TransmitBuffer;
use vlan_core::random::Random;
use vlan_core::{Channel, Instant};

use crate::checker::Violation;
use crate::event::EventQueue;
use crate::journal::Journal;
use crate::simulation::Simulation;

use super::coverage::Coverage;
use super::end::{End, Offer};
use super::ledger::{Audit, Ledger};
use super::link::OverlayId;
use super::metrics::Metrics;
use super::network::Network;
use super::plan::PacketPlan;
use super::side::Side;

pub use converge::Outcome;

use faults::Relief;
use session::Session;
use watch::Watch;
use wire_check::WireCheck;

/// Something that happens at a moment of true time.
#[derive(Debug)]
enum Event {
    /// An end runs a batch, unless a later event has taken this one's place.
    Run { side: Side, ticket: u64 },
    /// A packet reaches a socket.
    Arrive { side: Side, leg: u8, packet: Vec<u8> },
    /// A source offers its next messages.
    Offer { source: usize },
    /// A consumer is done with a message.
    Consumed { side: Side },
    /// A paused process goes on.
    Resume { side: Side, until: Instant },
    /// A fault of the menu.
    Fault,
    /// A lasting fault ends.
    Relief(Relief),
    /// A flapping leg changes its state: dead or alive.
    Flap { leg: u8, laid: Option<OverlayId>, until: Instant },
    /// A process that died is there again, and the handshake is done.
    SessionUp { number: u64 },
    /// The regular look at what has not arrived.
    Watch,
}

/// Messages that wait at an end before its sources stop.
const OUTBOX_MAX: usize = 64;
/// Packets of one transmission: what one call into a kernel takes.
const SEGMENTS_MAX: usize = 64;
/// Octets of one: the longest UDP payload.
const BATCH_OCTETS_MAX: usize = 65_507;
/// How often the regular look comes.
const WATCH_INTERVAL: Duration = Duration::from_millis(5);

/// See the module.
pub struct PacketWorld {
    /// What the run consists of.
    pub plan: PacketPlan,
    /// What happened.
    pub journal: Journal,
    /// Which faults met which states.
    pub coverage: Coverage,
    /// What was measured.
    pub metrics: Metrics,
    /// The network, for scripts.
    pub network: Network,
    /// Both ends.
    pub ends: [End; 2],
    /// What each end sent in this session.
    pub ledgers: [Ledger; 2],
    queue: EventQueue<Event>,
    random: Random,
    session: Session,
    wire: WireCheck,
    watch: Watch,
    /// The sums of the sessions before.
    past: Audit,
    faults_left: usize,
    sources_on: bool,
    /// Legs that hosts have taken away.
    removed: Vec<(Side, u8)>,
    /// Batches planned so far.
    tickets: u64,
    buffer: TransmitBuffer,
    violation: Option<Violation>,
}

impl Simulation for PacketWorld {
    type Outcome = Outcome;

    fn now(&self) -> Instant {
        self.queue.now()
    }

    fn step(&mut self, until: Instant) -> bool {
        let event = self.queue.take_next(until);
        let is_one = event.is_some();
        if let Some(event) = event {
            self.handle(event);
        }
        is_one
    }

    fn take_violation(&mut self) -> Option<Violation> {
        self.violation.take()
    }

    fn journal(&self) -> &Journal {
        &self.journal
    }

    fn describe(&self) -> Vec<String> {
        self.describe_machines()
    }

    fn converge(&mut self) -> Result<Outcome, Violation> {
        self.heal_and_judge()
    }
}

impl PacketWorld {
    /// Builds the world of `plan`; the session is up at once.
    #[must_use]
    pub fn new(plan: PacketPlan, trace: bool) -> Self {
        let end = |side: Side| End::new(side, &plan.ends[side.index()], plan.channels);
        let ledger = |side: Side| Ledger::new(plan.channels, 0, plan.seed ^ side.index() as u64);
        let mut world = Self {
            journal: Journal::new(trace),
            coverage: Coverage::default(),
            metrics: Metrics::default(),
            network: Network::new(&plan.legs, plan.seed),
            ends: Side::BOTH.map(end),
            ledgers: Side::BOTH.map(ledger),
            queue: EventQueue::new(),
            random: Random::new(plan.seed),
            session: Session::default(),
            wire: WireCheck::default(),
            watch: Watch::default(),
            past: Audit::default(),
            faults_left: 0,
            sources_on: false,
            removed: Vec::new(),
            tickets: 0,
            buffer: TransmitBuffer::new(SEGMENTS_MAX, BATCH_OCTETS_MAX),
            violation: None,
            plan,
        };
        world.begin_session();
        world.queue.schedule(Instant::ZERO + WATCH_INTERVAL, Event::Watch);
        world
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Run { side, ticket } => self.run_end(side, ticket),
            Event::Arrive { side, leg, packet } => self.arrive(side, leg, packet),
            Event::Offer { source } => self.offer(source),
            Event::Consumed { side } => self.consumed(side),
            Event::Resume { side, until } => self.resume(side, until),
            Event::Fault => self.inject_next_fault(),
            Event::Relief(relief) => self.relieve(relief),
            Event::Flap { leg, laid, until } => self.flap(leg, laid, until),
            Event::SessionUp { number } => self.session_up(number),
            Event::Watch => self.look(),
        }
    }

    /// Records the first broken invariant; the run ends after this event.
    fn break_invariant(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    /// Records what broke, if anything did.
    fn demand(&mut self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.break_invariant(violation);
        }
    }

    /// A violation now.
    #[must_use]
    pub fn violation(&self, invariant: &'static str, detail: String) -> Violation {
        Violation { invariant, at: self.now(), detail }
    }

    /// An end of the association.
    #[must_use]
    pub const fn end(&self, side: Side) -> &End {
        &self.ends[side.index()]
    }

    // --- sources --------------------------------------------------------------------------------------------

    /// Lets the sources send from now on.
    pub fn start_sources(&mut self) {
        self.sources_on = true;
        for source in 0..self.plan.sources.len() {
            let within = self.plan.sources[source].interval.as_nanos() as u64;
            let at = self.now() + Duration::from_nanos(self.random.below(within + 1));
            self.queue.schedule(at, Event::Offer { source });
        }
    }

    /// Silences the sources; what they had offered is still sent.
    pub fn stop_sources(&mut self) {
        self.sources_on = false;
    }

    fn offer(&mut self, source: usize) {
        if !self.sources_on {
            return;
        }
        let plan = self.plan.sources[source];
        let at = self.now();
        let count = 1 + self.random.below(plan.burst_max);
        for _ in 0..count {
            let lane = self.random.below(u64::from(plan.lanes)) as u16;
            let len = plan.sizes.draw(&mut self.random);
            let is_after_all = plan.after_all.happens(&mut self.random);
            let end = &mut self.ends[plan.side.index()];
            let queue = &mut end.outbox[usize::from(plan.channel.0)];
            if !end.is_alive || queue.len() >= OUTBOX_MAX {
                end.counts.refused += 1;
            } else {
                queue.push_back(Offer { at, lane, len, is_after_all });
            }
        }
        self.wake(plan.side, at);
        let interval = plan.interval.as_nanos() as u64;
        let pause = if plan.is_regular { interval } else { interval / 2 + self.random.below(interval + 1) };
        self.queue.schedule(at + Duration::from_nanos(pause), Event::Offer { source });
    }

    /// Offers one message by hand.
    pub fn offer_one(&mut self, side: Side, channel: Channel, lane: u16, len: usize) {
        let at = self.now();
        let offer = Offer { at, lane, len, is_after_all: false };
        self.ends[side.index()].outbox[usize::from(channel.0)].push_back(offer);
        self.wake(side, at);
    }

    // --- when ends run --------------------------------------------------------------------------------------

    /// The end runs a batch at `at`, or before if it would anyhow.
    fn wake(&mut self, side: Side, at: Instant) {
        let now = self.now();
        let end = &mut self.ends[side.index()];
        if !end.runs() {
            return;
        }
        let at = at.max(end.busy_until).max(now);
        if end.next_run.is_some_and(|(planned, _)| planned <= at) {
            return;
        }
        self.tickets += 1;
        let ticket = self.tickets;
        end.next_run = Some((at, ticket));
        self.queue.schedule(at, Event::Run { side, ticket });
    }

    fn arrive(&mut self, side: Side, leg: u8, packet: Vec<u8>) {
        if self.ends[side.index()].arrive(leg, packet) {
            let (low, high) = self.plan.wait.wake_us();
            let latency = low * 1000 + self.random.below((high - low) * 1000);
            self.wake(side, self.now() + Duration::from_nanos(latency));
        }
    }

    fn resume(&mut self, side: Side, until: Instant) {
        let end = &mut self.ends[side.index()];
        if end.paused_until == Some(until) {
            end.paused_until = None;
            let now = self.now();
            self.note_conditions();
            self.wake(side, now);
        }
    }

    fn consumed(&mut self, side: Side) {
        let end = &mut self.ends[side.index()];
        end.consumer.is_busy = false;
        if let (Some(buffer), Some(transport)) = (end.consumer.kept.pop_front(), &mut end.transport) {
            transport.recycle(buffer);
        }
        self.consume_next(side);
        self.wake(side, self.now());
    }

    /// Gives the consumer its next message, if it is free.
    fn consume_next(&mut self, side: Side) {
        let now = self.now();
        let consumer = &mut self.ends[side.index()].consumer;
        let Some(pause) = consumer.pause else { return };
        if !consumer.is_busy && !consumer.kept.is_empty() {
            consumer.is_busy = true;
            self.queue.schedule(now + pause, Event::Consumed { side });
        }
    }
}
