//! The association of two processes: legs, channels, numbers, lanes, parking.
//!
//! What happens to a frame here: [`Association::send`] picks the leg of its lane, gives it its number and
//! copies it into that leg's ring (or parks it for a while when the ring is full); at the other end
//! [`Association::receive`] takes it out of the ring, drops it if it came before, and hands it to the driver.
//! Rules: `spec/rvi.md`.

mod channel;
mod flush;
mod holds;
mod leg;
mod marks;
mod moving;
mod packets;
mod park;
mod receive;
mod route;
mod sleep;
mod timers;
mod types;
mod unproven;

pub use holds::Hold;
pub use marks::RingMark;
pub use types::{
    AssociationConfig, AssociationEvent, LegDownReason, LegEnd, LegState, LegStatus, Scheduler, SendError,
    Sent, SessionTag, Unsent, Waiting,
};

use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

use vlan_core::limits::{CONTROL_MESSAGE_LEN_MAX, FABRICS_MAX, MESSAGE_LEN_MAX, VIFS_PER_NODE_MAX};
use vlan_core::{Channel, Instant, LegNumber};

use crate::gather::Gather;
use crate::message::Part;
use crate::packet::endpoint::PacketEndpoint;
use crate::ring::slot::LANES;
use crate::ring::{PushError, SlotMeta};

use channel::Channels;
use holds::Holds;
use leg::Leg;
use moving::Source;
use park::ParkQueue;
use receive::Turn;
use route::Route;
use unproven::Unproven;

/// Legs of an association at the same time.
const LEGS: usize = FABRICS_MAX;
/// Events that there is always room for.
const EVENTS_KEPT: usize = 8;
/// Control messages that wait for room at most, and their octets: twice the largest answer that is known.
//= spec/server.md#room-for-the-answer
//# A control session MUST have room for the answer to the registration of a node with 127 interfaces, on LANs of 128
//# members each, however late the node takes it.
const CONTROL_QUEUE_MAX: usize = 16_384;
const CONTROL_QUEUE_OCTETS_MAX: usize = 4 << 20;
const _: () = assert!(CONTROL_QUEUE_MAX > VIFS_PER_NODE_MAX * (2 + 127));

/// The machine of one association; one life of it is a session.
///
/// Calls may come in any order. A host's round is: `receive` until it says `None` or the batch is full, `send`
/// what comes of it, `publish`, `release`, ring the doorbells that `poll_doorbell` names, drain `poll_event`.
#[derive(Debug)]
pub struct Association {
    scheduler: Scheduler,
    lane_seed: u32,
    session: u16,
    /// The latest time that anybody told.
    now: Instant,
    /// Boxed: most associations have one kind of legs, and those with packet legs alone need none of these.
    legs: [Option<Box<Leg>>; LEGS],
    route: Route,
    /// How often data has changed its leg.
    changes: u32,
    /// Nothing waits: a message can go straight into its ring.
    direct: bool,
    channels: Channels,
    parked: ParkQueue,
    control_queue: VecDeque<Vec<u8>>,
    control_octets: usize,
    /// Rings whose messages must be sent again, in this order.
    sources: VecDeque<Source>,
    /// Messages that a leg we had given up turned out to have delivered.
    taken: BTreeSet<(u8, u32)>,
    /// Some message was sent again that another leg may have delivered.
    is_uncertain: bool,
    /// Legs given up before their peer had left them.
    unproven: Unproven,
    /// How often a leg was given up because its peer took nothing.
    stalls: u64,
    /// Data messages refused because their channel is not open, since the host asked last.
    refused_messages: u64,
    turn: Turn,
    holds: Holds,
    /// A bit for each leg whose doorbell is to be rung.
    doorbells: u8,
    /// A message was refused for want of room since the last sleep.
    refused: bool,
    events: VecDeque<AssociationEvent>,
    /// The legs that leave the host, and the messages that went by them either way.
    packets: Option<Box<PacketEndpoint>>,
    packet_messages: u64,
    /// For messages that are sent again.
    spare: Vec<u8>,
    /// Messages that had gone either way at the last deadline, and whether memory was given back since.
    carried: u64,
    is_trimmed: bool,
}

impl Association {
    /// Makes an association without legs, with the control channel open.
    #[must_use]
    pub fn new(config: &AssociationConfig) -> Self {
        let mut association = Self {
            scheduler: config.scheduler,
            lane_seed: (config.seed ^ config.seed >> 32) as u32,
            session: config.session,
            now: Instant::ZERO,
            legs: [const { None }; LEGS],
            route: Route::new(),
            changes: 0,
            direct: false,
            channels: Channels::default(),
            parked: ParkQueue::new(config.park_messages_max, config.park_octets_max),
            control_queue: VecDeque::new(),
            control_octets: 0,
            sources: VecDeque::new(),
            taken: BTreeSet::new(),
            is_uncertain: false,
            unproven: Unproven::default(),
            stalls: 0,
            refused_messages: 0,
            turn: Turn::default(),
            holds: Holds::default(),
            doorbells: 0,
            refused: false,
            events: VecDeque::with_capacity(EVENTS_KEPT),
            packets: None,
            packet_messages: 0,
            spare: Vec::new(),
            carried: 0,
            is_trimmed: false,
        };
        association.open_channel(Channel::CONTROL);
        association
    }

    /// True when a leg carries messages, or at least holds them until its peer goes on.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.legs.iter().flatten().any(|leg| leg.state != LegState::Leaving) || self.has_packets_up()
    }

    /// The legs in use.
    pub fn legs(&self) -> impl Iterator<Item = LegStatus> + '_ {
        self.legs.iter().flatten().map(|leg| leg.status())
    }

    /// Lets messages of `channel` in and out. Its numbers go on where they were in this session.
    pub fn open_channel(&mut self, channel: Channel) {
        let state = self.channels.make(channel);
        state.open = true;
        state.was_open = true;
    }

    /// Refuses messages of `channel` from now on, in and out. The control channel stays open.
    pub fn close_channel(&mut self, channel: Channel) {
        if channel == Channel::CONTROL {
            return;
        }
        if let Some(state) = self.channels.of_mut(channel) {
            state.open = false;
        }
    }

    /// True when messages of `channel` pass.
    #[must_use]
    pub fn is_open(&self, channel: Channel) -> bool {
        self.channels.of(channel).is_some_and(|state| state.open)
    }

    /// Sends one message, the concatenation of `parts`, on a data channel. The flow hash `flow` says in which
    /// lane it stays in order. A `charge` other than 0 comes back in the event if the message has to wait.
    ///
    /// # Errors
    /// When it was not accepted; nothing of it is kept then.
    // Into its caller: else a frame's header goes by way of memory, where it is read before it has been written.
    #[inline(always)]
    pub fn send(
        &mut self,
        now: Instant,
        channel: Channel,
        flow: u32,
        charge: u32,
        message: impl Gather,
    ) -> Result<Sent, SendError> {
        self.now = now;
        let len = message.len();
        if len > MESSAGE_LEN_MAX {
            return Err(SendError::TooLong { len, limit: MESSAGE_LEN_MAX });
        }
        //= spec/rvi.md#channels
        //# An end MUST NOT send on, or deliver from, a channel that is not open.
        if channel == Channel::CONTROL || !self.is_open(channel) {
            return Err(SendError::NoChannel);
        }
        let lane = ((flow ^ self.lane_seed) & (LANES - 1)) as u16;
        if self.direct && self.push_data(channel, lane, message) {
            return Ok(Sent::Ring);
        }
        self.send_or_park(channel, lane, charge, message)
    }

    /// The same for a message in parts, which is in no hurry.
    ///
    /// # Errors
    /// As [`Association::send`].
    #[inline(never)]
    pub fn send_parts(
        &mut self,
        now: Instant,
        channel: Channel,
        flow: u32,
        charge: u32,
        parts: &[Part<'_>],
    ) -> Result<Sent, SendError> {
        self.send(now, channel, flow, charge, parts)
    }

    /// Sends one message as [`Association::send`] does if there is room at once, and behind nothing that waits. False: it was
    /// not accepted.
    //= spec/leg-relay.md#no-room
    //# A relayed packet for which there is no room at once MUST be dropped and counted: it MUST NOT wait, and it MUST NOT go
    //# before what waits.
    #[inline(always)]
    pub fn offer(&mut self, now: Instant, channel: Channel, flow: u32, message: impl Gather) -> bool {
        self.now = now;
        if message.len() > MESSAGE_LEN_MAX || channel == Channel::CONTROL || !self.is_open(channel) {
            return false;
        }
        let lane = ((flow ^ self.lane_seed) & (LANES - 1)) as u16;
        self.direct && self.push_data(channel, lane, message) || self.offer_again(channel, lane, message)
    }

    #[inline(never)]
    fn offer_again(&mut self, channel: Channel, lane: u16, message: impl Gather) -> bool {
        if !self.direct {
            self.flush();
        }
        if !self.route.has_leg() || !(self.direct || self.may_pass(lane)) {
            return false;
        }
        // The first try may have found no number because nobody had looked how many are settled.
        self.push_data(channel, lane, message) || self.push_data(channel, lane, message)
    }

    /// The way of a message when something waits, or its ring is full.
    #[cold]
    #[inline(never)]
    fn send_or_park(
        &mut self,
        channel: Channel,
        lane: u16,
        charge: u32,
        message: impl Gather,
    ) -> Result<Sent, SendError> {
        if !self.route.has_leg() {
            return Err(SendError::NoLeg);
        }
        if !self.direct {
            self.flush();
            if self.may_pass(lane) && self.push_data(channel, lane, message) {
                return Ok(Sent::Ring);
            }
        }
        //= spec/rvi.md#parking
        //# A message that finds no room MUST wait without a number, in order, within bounds of messages and octets;
        //# beyond them `send` MUST refuse it.
        if !self.route.has_leg() {
            return Err(SendError::NoLeg);
        }
        if !self.parked.has_room(charge, message.len()) {
            self.refused = true;
            return Err(SendError::Full);
        }
        message.with_parts(|parts| self.parked.push(self.now, channel, lane, charge, parts));
        self.direct = false;
        Ok(Sent::Parked)
    }

    /// The number of the message of `channel` that was sent last.
    #[must_use]
    pub fn last_number(&self, channel: Channel) -> u32 {
        self.channels.of(channel).map_or(0, |state| state.next).wrapping_sub(1)
    }

    /// Puts a message into the ring of its lane. False when it does not go in now.
    #[inline(always)]
    fn push_data(&mut self, channel: Channel, lane: u16, message: impl Gather) -> bool {
        let index = self.route.leg(lane);
        let Some(Some(leg)) = self.legs.get_mut(index) else {
            return self.push_packet_of(index, channel, lane, message);
        };
        let Some(state) = self.channels.of_mut(channel) else { return false };
        if !state.has_number() {
            self.mark(channel);
            return false;
        }
        //= spec/rvi.md#numbers-at-first-transmission
        //# A message MUST get its number when it is first put into a ring, and MUST keep it when it is sent again.
        let meta = SlotMeta { mseq: state.next, lane, channel, session: self.session, resent: false };
        match leg.shm.data_tx.push(meta, message) {
            Ok(()) => {
                leg.tx_messages += 1;
                leg.tx_octets += message.len() as u64;
                if state.advance() {
                    self.mark(channel);
                }
                true
            }
            Err(PushError::Full) => false,
            Err(PushError::Fault(fault)) => {
                self.take_down(index, fault);
                false
            }
        }
    }

    /// The same for a message that goes by packets. Apart: else the ring's way would have the message in memory for it.
    #[inline(never)]
    fn push_packet_of(&mut self, index: usize, channel: Channel, lane: u16, message: impl Gather) -> bool {
        message.with_parts(|parts| self.push_packet(index, channel, lane, parts))
    }

    /// Sends a control message, in order behind those before it; it never expires, and waits while no leg is up.
    ///
    /// # Errors
    /// When it was not accepted; nothing of it is kept then.
    pub fn send_control(&mut self, now: Instant, message: &[u8]) -> Result<Sent, SendError> {
        self.now = now;
        if message.len() > CONTROL_MESSAGE_LEN_MAX {
            return Err(SendError::TooLong { len: message.len(), limit: CONTROL_MESSAGE_LEN_MAX });
        }
        //= spec/rvi.md#control-messages
        //# A control message that finds no room or no leg MUST wait, in order, as long as its association lives.
        if self.route.has_leg() {
            if !self.direct {
                self.flush();
            }
            if self.control_may_pass() && self.push_control(message) {
                return Ok(Sent::Ring);
            }
        }
        if self.control_queue.len() >= CONTROL_QUEUE_MAX
            || self.control_octets + message.len() > CONTROL_QUEUE_OCTETS_MAX
        {
            self.refused = true;
            return Err(SendError::Full);
        }
        self.control_octets += message.len();
        self.control_queue.push_back(message.into());
        self.direct = false;
        Ok(Sent::Parked)
    }

    /// Puts a control message into the ring of the control leg. False when it does not go in now.
    fn push_control(&mut self, message: &[u8]) -> bool {
        let index = self.route.control_leg();
        let Some(Some(leg)) = self.legs.get_mut(index) else {
            return self.push_packet(index, Channel::CONTROL, 0, &[Part::Private(message)]);
        };
        let Some(state) = self.channels.of_mut(Channel::CONTROL) else { return false };
        if !state.has_number() {
            self.mark(Channel::CONTROL);
            return false;
        }
        let meta = SlotMeta {
            mseq: state.next,
            lane: 0,
            channel: Channel::CONTROL,
            session: self.session,
            resent: false,
        };
        match leg.shm.control_tx.push(meta, &[Part::Private(message)]) {
            Ok(()) => {
                leg.tx_messages += 1;
                leg.tx_octets += message.len() as u64;
                if state.advance() {
                    self.mark(Channel::CONTROL);
                }
                true
            }
            Err(PushError::Full) => false,
            Err(PushError::Fault(fault)) => {
                self.take_down(index, fault);
                false
            }
        }
    }

    /// Works out again which numbers of `channel` may be unsettled.
    #[cold]
    fn mark(&mut self, channel: Channel) {
        for index in 0..LEGS {
            self.refresh(index);
        }
        if !self.sources.is_empty() {
            return;
        }
        let (settled, pushed) = self.progress(channel == Channel::CONTROL);
        if let Some(state) = self.channels.of_mut(channel) {
            state.mark(&settled, &pushed);
        }
    }

    /// For each leg, how much is settled of what was pushed to its data or control ring.
    fn progress(&self, control: bool) -> ([u64; LEGS], [u64; LEGS]) {
        let (mut settled, mut pushed) = ([u64::MAX; LEGS], [0; LEGS]);
        for (index, leg) in self.legs.iter().enumerate() {
            let Some(leg) = leg else { continue };
            let ring = if control { &leg.shm.control_tx } else { &leg.shm.data_tx };
            settled[index] = ring.pushed_settled();
            pushed[index] = ring.pushed();
        }
        (settled, pushed)
    }

    /// Reads the heads of a leg's peer again.
    fn refresh(&mut self, index: usize) {
        let Some(Some(leg)) = self.legs.get_mut(index) else { return };
        if let Err(fault) = leg.refresh() {
            self.take_down(index, fault);
        }
    }

    /// Makes everything sent since the last call visible to the peer, and finds which doorbells to ring.
    #[inline]
    pub fn publish(&mut self) {
        if !self.direct {
            self.flush();
        }
        let now = self.now;
        let mut any = false;
        for leg in self.legs.iter_mut().flatten() {
            any |= leg.publish(now);
        }
        if any {
            self.find_doorbells();
        }
    }

    fn find_doorbells(&mut self) {
        let mut fenced = false;
        for (index, leg) in self.legs.iter_mut().enumerate() {
            let Some(leg) = leg else { continue };
            if core::mem::take(&mut leg.fresh) {
                if !fenced {
                    leg.shm.bell.fence();
                    fenced = true;
                }
                if leg.shm.bell.must_ring_for_data() {
                    self.doorbells |= 1 << index;
                }
            }
        }
    }

    /// The next leg whose doorbell is to be rung: an empty wake-up of the peer's process.
    pub fn poll_doorbell(&mut self) -> Option<LegNumber> {
        while self.doorbells != 0 {
            let index = self.doorbells.trailing_zeros() as usize;
            self.doorbells &= self.doorbells - 1;
            if let Some(leg) = &self.legs[index] {
                return Some(leg.number);
            }
        }
        None
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<AssociationEvent> {
        self.events.pop_front()
    }

    /// Messages that came for a channel that is not open, since the last call: dropped here, for the host to count
    /// as `no-channel`.
    pub fn take_refused(&mut self) -> u64 {
        core::mem::take(&mut self.refused_messages)
    }

    /// What waits for room now. Its bounds are those of the configuration, and 16,384 control messages of 4 MiB.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        let (messages, octets) = self.parked.load();
        Waiting {
            messages,
            octets,
            control_messages: self.control_queue.len(),
            control_octets: self.control_octets,
        }
    }

    /// True when the peer has settled everything that was accepted.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.parked.is_empty()
            && self.control_queue.is_empty()
            && self.sources.is_empty()
            && self.legs.iter().flatten().all(|leg| leg.is_settled())
            && self.packets.as_ref().is_none_or(|packets| packets.is_drained())
    }

    /// True when messages are pending and no leg's peer has taken any for 10 ms, or no packet leg answers.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        let mut legs = self.legs.iter().flatten().filter(|leg| leg.state != LegState::Leaving).peekable();
        match legs.peek() {
            Some(_) => legs.all(|leg| leg.stuck),
            None => self.packets.as_ref().is_some_and(|packets| packets.is_stalled()),
        }
    }
}
