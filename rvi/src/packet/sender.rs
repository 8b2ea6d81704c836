//! What is sent: messages kept until they are acknowledged, packets in flight, and the legs they go by.
//!
//! What happens to a message here: [`Sender::send`] copies it and queues it as one piece at the leg that the scheduler
//! chooses; [`pack`] cuts pieces to fit and puts them into packets; each packet answers for its pieces until an ack proves that it
//! arrived, or that it is lost, or nothing was proved for too long: then the pieces go again, by another leg. The
//! message is forgotten when the peer acknowledges it. Rules: `spec/packet-sender.md`.

mod black_hole;
mod channel;
mod congestion;
mod credit;
mod detector;
mod fates;
mod flight;
mod health;
mod lateness;
mod leg;
pub(super) mod pack;
mod path_search;
mod proof;
mod route;
mod rtt;
mod silence;
mod store;
mod timers;
mod types;

pub(super) use health::IDLE_PROBE;
pub use path_search::PACKET_LEN_BASE;
pub use rtt::WaitPolicy;
pub use types::{
    Full, Outgoing, PacketLegConfig, PacketLegState, PacketLegStatus, PacketScheduler, TransportEvent,
    Unacked,
};

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use vlan_core::limits::{CONTROL_MESSAGE_LEN_MAX, MESSAGE_LEN_MAX};
use vlan_core::random::Random;
use vlan_core::{Channel, Instant};

use super::wire::{Control, LANES, MESSAGE_OVERHEAD, PacketLeg};
use channel::Outbound;
use credit::Credit;
use lateness::Lateness;
use leg::Leg;
use route::{LegSet, Legs};
use silence::Silence;
use store::{Piece, Store};

/// Events that wait for the host at most; the oldest go first.
const EVENTS_MAX: usize = 64;
/// Credit that only the control channel may use: its longest message.
const CONTROL_CREDIT: u64 = (CONTROL_MESSAGE_LEN_MAX + MESSAGE_OVERHEAD) as u64;

/// Bounds and choices of a sender.
#[derive(Clone, Debug)]
pub(super) struct SenderConfig {
    pub(super) seed: u64,
    pub(super) scheduler: PacketScheduler,
    pub(super) wait: WaitPolicy,
    /// Octets of messages that are kept.
    pub(super) octets_max: usize,
    /// Octets in flight on each leg.
    pub(super) window_octets_max: usize,
    /// How long nothing is sent by a leg before it is probed.
    pub(super) idle_probe: Duration,
    /// Credit that the handshake told: messages on each channel, and KiB.
    pub(super) credit_messages: u32,
    pub(super) credit_kib: u32,
}

/// The sending half of a session's packet legs.
#[derive(Debug)]
pub(super) struct Sender {
    config: SenderConfig,
    random: Random,
    legs: Legs,
    /// The next packet number of each leg that was there and is not now.
    next_numbers: [u64; PacketLeg::COUNT],
    /// The legs that messages go by, as of the last change.
    usable: LegSet,
    store: Store,
    channels: Vec<Outbound>,
    /// Pieces that no leg was there for.
    orphans: VecDeque<Piece>,
    /// Messages given to a leg so far, for the schedulers that alternate.
    turn: usize,
    credit: Credit,
    direct_silence: Silence,
    relay_silence: Silence,
    is_stalled: bool,
    lateness: Lateness,
    /// A packet with control of channels was lost: they are to be told again.
    pub(super) is_control_lost: bool,
    /// Nothing was sent for as long as an idle leg waits for its probe.
    pub(super) is_idle: bool,
    events: VecDeque<TransportEvent>,
    /// Pieces on their way from a packet to a queue.
    scratch: Vec<Piece>,
}

impl Sender {
    pub(super) fn new(config: SenderConfig) -> Self {
        let credit_kib = config.credit_kib;
        Self {
            random: Random::new(config.seed),
            config,
            legs: [const { None }; PacketLeg::COUNT],
            next_numbers: [0; PacketLeg::COUNT],
            usable: LegSet::default(),
            store: Store::default(),
            channels: Vec::new(),
            orphans: VecDeque::new(),
            turn: 0,
            credit: Credit::new(credit_kib),
            direct_silence: Silence::default(),
            relay_silence: Silence::default(),
            is_stalled: false,
            lateness: Lateness::default(),
            is_control_lost: false,
            is_idle: false,
            events: VecDeque::new(),
            scratch: Vec::new(),
        }
    }

    /// A leg is proved. One that still had this number is gone first; packet numbers go on.
    pub(super) fn leg_up(&mut self, now: Instant, config: PacketLegConfig) {
        self.note_call(now);
        self.leg_down(now, config.leg);
        let index = config.leg.index();
        let first = self.next_numbers[index];
        let (wait, window) = (self.config.wait, (self.config.window_octets_max, self.config.idle_probe));
        let leg = Leg::new(now, config, wait, window, first);
        self.legs[index] = Some(Box::new(leg));
        self.spread(now);
        if config.leg.is_relay() && self.direct_silence.is_silent() {
            self.ask_relays(now);
        }
    }

    /// A leg is gone. What was sent by it and is not proven goes by another.
    pub(super) fn leg_down(&mut self, now: Instant, leg: PacketLeg) {
        self.note_call(now);
        let Some(mut leg) = self.legs[leg.index()].take() else { return };
        self.next_numbers[leg.leg.index()] = leg.flight.next_number();
        let rescue = leg.flight.rescue(usize::MAX, now, &mut self.scratch);
        self.is_control_lost |= rescue.is_control_lost;
        self.orphans.extend(self.scratch.drain(..));
        self.orphans.extend(leg.first.drain(..));
        self.orphans.extend(leg.fresh.drain(..));
        if !self.legs.iter().flatten().any(|other| other.leg.is_relay() == leg.leg.is_relay()) {
            self.silence_of(leg.leg).clear();
            if leg.leg.is_relay() && self.direct_silence.is_silent() {
                self.stall();
            }
        }
        self.spread(now);
    }

    /// The route of a leg has become narrower or wider.
    pub(super) fn set_packet_len_max(&mut self, leg: PacketLeg, len: usize) {
        if let Some(leg) = &mut self.legs[leg.index()] {
            leg.set_packet_len_max(len);
        }
    }

    /// True when a message of `len` octets on `channel` would be accepted as its next one.
    pub(super) fn can_send(&self, channel: Channel, len: usize) -> bool {
        let admits = match self.channels.get(usize::from(channel.0)) {
            Some(outbound) if outbound.is_started() => outbound.admits(outbound.next()),
            _ => self.config.credit_messages > 0,
        };
        admits && self.has_room(channel, len)
    }

    //= spec/packet-sender.md#full
    //# A sender MUST refuse a message while no leg answers, and when it does not fit into its memory or the peer's credit.
    fn has_room(&self, channel: Channel, len: usize) -> bool {
        let reserve = if channel == Channel::CONTROL { 0 } else { CONTROL_CREDIT };
        !self.is_stalled
            && self.legs.iter().any(Option::is_some)
            && self.store.octets() + len <= self.config.octets_max
            && self.credit.admits((len + MESSAGE_OVERHEAD) as u64 + reserve)
    }

    /// Accepts a message and queues it; copies it once. One that is here already is not taken twice.
    ///
    /// # Panics
    /// When the message is longer than any, or its lane is none.
    pub(super) fn send(&mut self, now: Instant, message: &Outgoing<'_>) -> Result<(), Full> {
        let len = message.len();
        assert!(len <= MESSAGE_LEN_MAX, "a message of {len} octets");
        assert!(u32::from(message.lane) < LANES, "lane {}", message.lane);
        if !self.has_room(message.channel, len) {
            return Err(Full);
        }
        let index = usize::from(message.channel.0);
        while self.channels.len() <= index {
            self.channels.push(Outbound::default());
        }
        let outbound = &mut self.channels[index];
        outbound.start(message.mseq, self.config.credit_messages);
        if outbound.holds(message.mseq) {
            return Ok(());
        }
        if !outbound.admits(message.mseq) {
            return Err(Full);
        }
        let prev = outbound.previous(message.mseq, message.lane, &self.store);
        let piece = self.store.insert(message, len, prev);
        outbound.insert(message.mseq, message.lane, piece.slot);
        self.credit.charge((len + MESSAGE_OVERHEAD) as u64);
        self.enqueue(now, piece, message.channel, message.lane);
        Ok(())
    }

    /// Queues a message that was not sent before.
    fn enqueue(&mut self, now: Instant, piece: Piece, channel: Channel, lane: u16) {
        self.turn = self.turn.wrapping_add(1);
        let targets = self.targets(now, channel, lane);
        if targets.is_empty() {
            self.orphans.push_back(piece);
        }
        for index in targets.iter() {
            let Some(leg) = &mut self.legs[index] else { continue };
            //= spec/packet-sender.md#control-channel
            //# A message of the control channel MUST go by two legs if there are two, and before data.
            let queue = if channel == Channel::CONTROL { &mut leg.first } else { &mut leg.fresh };
            queue.push_back(piece);
        }
    }

    /// The legs for a message: one for most.
    fn targets(&self, now: Instant, channel: Channel, lane: u16) -> LegSet {
        let usable = self.usable_now(now);
        if channel == Channel::CONTROL || !self.is_any_good(usable) {
            // While no leg is known to be good, all that may be are used.
            return usable.pair();
        }
        self.config.scheduler.choose(usable, lane, self.turn)
    }

    /// The legs that messages may go by. While none is good this changes with time.
    fn usable_now(&self, now: Instant) -> LegSet {
        if self.is_any_good(self.usable) {
            self.usable
        } else {
            route::usable(&self.legs, now, self.direct_silence.is_silent())
        }
    }

    fn is_any_good(&self, set: LegSet) -> bool {
        let is_good = |leg: &Leg| leg.health.state() == PacketLegState::Good;
        set.iter().any(|index| self.legs[index].as_deref().is_some_and(is_good))
    }

    /// Queues pieces in `scratch` again: by another leg than `from`, if there is one.
    //= spec/packet-sender.md#recovery
    //# Pieces of a lost packet MUST go again at once, before anything new, by another leg when one is usable.
    fn requeue(&mut self, now: Instant, from: Option<usize>) -> Option<usize> {
        let target = self.other_than(now, from);
        let mut pieces = core::mem::take(&mut self.scratch);
        let room = match target.and_then(|index| self.legs[index].as_deref_mut()) {
            Some(leg) => &mut leg.first,
            None => &mut self.orphans,
        };
        room.extend(pieces.drain(..).filter(|piece| self.store.message_of(piece).is_some()));
        self.scratch = pieces;
        target
    }

    /// The best usable leg other than `from`; `from` itself when there is no other.
    fn other_than(&self, now: Instant, from: Option<usize>) -> Option<usize> {
        let usable = self.usable_now(now);
        let others = from.map_or(usable, |from| usable.without(from));
        route::fastest(&self.legs, others).or_else(|| usable.iter().next())
    }

    /// The set of legs, or what they are good for, changed: what waits at a leg that is not to be used any more goes by
    /// others.
    fn spread(&mut self, now: Instant) {
        self.usable = route::usable(&self.legs, now, self.direct_silence.is_silent());
        for index in 0..PacketLeg::COUNT {
            let Some(leg) = &mut self.legs[index] else { continue };
            if !self.usable.has(index) {
                self.orphans.extend(leg.first.drain(..));
                self.orphans.extend(leg.fresh.drain(..));
            }
        }
        if self.usable.is_empty() {
            return;
        }
        for piece in core::mem::take(&mut self.orphans) {
            let Some(kept) = self.store.message_of(&piece) else { continue };
            let (channel, lane) = (kept.channel, kept.lane);
            if piece.is_again {
                self.scratch.push(piece);
            } else {
                self.enqueue(now, piece, channel, lane);
            }
        }
        self.requeue(now, None);
    }

    /// Applies what the peer says of a channel.
    pub(super) fn handle_control(&mut self, channel: Channel, control: &Control<'_>) {
        match *control {
            // What the peer's messages cost is the receiver's business.
            Control::Pad | Control::Settled { .. } => {}
            Control::Credit { cum, messages, kib } => self.handle_credit(channel, cum, messages, kib),
            Control::MessageAck { cum, ranges } => {
                let Some(outbound) = self.channels.get_mut(usize::from(channel.0)) else { return };
                outbound.acknowledge(cum, &mut self.store);
                for (first, len) in ranges {
                    outbound.acknowledge_range(first, len, &mut self.store);
                }
                self.credit.note_kept(self.store.cost());
            }
        }
    }

    /// Credit only grows: what comes late tells less.
    fn handle_credit(&mut self, channel: Channel, cum: u32, messages: u32, kib: u32) {
        self.credit.grant(kib);
        if let Some(outbound) = self.channels.get_mut(usize::from(channel.0)) {
            outbound.grant(cum.wrapping_add(messages));
        }
    }

    /// KiB of messages that were acknowledged, when the peer is to hear of it.
    pub(super) fn poll_settled(&self) -> Option<u32> {
        self.credit.poll_settled()
    }

    /// A packet tells what [`Sender::poll_settled`] said.
    pub(super) fn note_settled_told(&mut self) {
        self.credit.note_told();
    }

    /// The packet that told it may be lost.
    pub(super) fn tell_settled_again(&mut self) {
        self.credit.tell_again();
    }

    /// The silence of legs like `leg`.
    fn silence_of(&mut self, leg: PacketLeg) -> &mut Silence {
        if leg.is_relay() { &mut self.relay_silence } else { &mut self.direct_silence }
    }

    fn tell(&mut self, event: TransportEvent) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    pub(super) fn poll_event(&mut self) -> Option<TransportEvent> {
        self.events.pop_front()
    }

    /// The lowest number of `channel` that is not acknowledged.
    pub(super) fn lowest_unacked(&self, channel: Channel) -> Option<u32> {
        self.channels.get(usize::from(channel.0)).and_then(Outbound::lowest)
    }

    /// True while no leg answers.
    pub(super) fn is_stalled(&self) -> bool {
        self.is_stalled
    }

    /// True when the peer has acknowledged everything.
    pub(super) fn is_drained(&self) -> bool {
        self.store.is_empty()
    }

    pub(super) fn leg_status(&self) -> impl Iterator<Item = PacketLegStatus> + '_ {
        self.legs.iter().flatten().map(|leg| leg.status())
    }

    /// A packet came by a leg.
    pub(super) fn count_received(&mut self, leg: PacketLeg, octets: usize) {
        if let Some(leg) = &mut self.legs[leg.index()] {
            leg.counters.rx_packets += 1;
            leg.counters.rx_octets += octets as u64;
        }
    }

    /// Hands back every message that is not acknowledged, in order in each channel, and forgets it.
    pub(super) fn drain_unsent(&mut self, f: &mut dyn FnMut(Unacked<'_>)) {
        for outbound in &mut self.channels {
            let slots: Vec<_> = outbound.kept().collect();
            for slot in slots {
                let kept = self.store.at(slot);
                f(Unacked {
                    channel: kept.channel,
                    lane: kept.lane,
                    mseq: kept.mseq,
                    octets: &kept.octets,
                    maybe_taken: kept.was_sent || kept.is_resent,
                });
                self.store.remove(slot);
            }
            outbound.clear();
        }
        self.orphans.clear();
        for leg in self.legs.iter_mut().flatten() {
            leg.first.clear();
            leg.fresh.clear();
        }
    }
}
