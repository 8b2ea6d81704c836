//! One end of an association's packet legs: the session that proves and seals, around the transport that loses nothing.
//!
//! What happens to a packet here: [`PacketEndpoint::handle_packet`] has the session open it and gives what is inside to the
//! transport; [`PacketEndpoint::poll_transmit`] has the transport fill packets and the session seal them. A session that
//! takes the place of another between the same two processes carries on with what the earlier one had not proven: both
//! ends keep the numbers of their channels as long as the association lives.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use vlan_core::{Channel, Instant, ProcessId};

use super::receiver::{ChannelWindows, PooledBuf, ReceivedMessage};
use super::sender::{Full, Outgoing, PacketLegConfig, PacketLegStatus, TransportEvent, Unacked};
use super::session::{
    EntropyPool, HANDSHAKE_PACKET_LEN_MAX, Hint, Introduction, LegSet, OpenError, PacketSession, SECRET_LEN,
    SessionConfig, SessionCounters, SessionEvent, SessionKind,
};
use super::transport::{PacketTransport, Transmit, TransmitBuffer, TransportConfig};
use super::wire::{PACKET_HEADER_LEN, PacketError, PacketHeader, PacketKind, PacketLeg};
use crate::message::Part;

/// How long the end with the higher key waits for the other to begin before it does so itself.
pub const BEGIN_LATER: Duration = Duration::from_millis(100);
/// How long an end that was refused waits before it asks again.
pub const REFUSED_PAUSE: Duration = Duration::from_millis(500);

/// What an endpoint is made from.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// Who the two ends are, and the legs they have.
    pub session: SessionConfig,
    /// Bounds and choices of the transport; the peer's first credit is filled in from the handshake.
    pub transport: TransportConfig,
    /// For each leg of the session, octets of the longest packet that it carries.
    pub packet_len_max: [usize; PacketLeg::COUNT],
    /// Random octets, for this endpoint alone.
    pub seed: [u8; SECRET_LEN],
}

/// Something that happened to the packet legs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointEvent {
    /// A session began: the first, or one that carries on with what the one before had not proven.
    Established {
        /// The peer's life.
        process: ProcessId,
        /// The peer's number of the control session; 0 between nodes.
        control_session: u32,
    },
    /// The control node wants no session with us, for a reason of its own.
    Refused(u8),
    /// A leg carries packets from now on.
    LegUp(PacketLeg),
    /// The transport found something out about its legs.
    Transport(TransportEvent),
    /// Both ends have the leg and do not agree about its fabric: swapped cables, or platform files that differ.
    Mismatched(PacketLeg),
    /// The peer ended the session.
    Closed,
    /// The peer sent what cannot be, sealed with the right key: the session was ended.
    Broken(PacketError),
}

/// A message that a session which is over had not proven.
#[derive(Debug)]
struct Carried {
    channel: Channel,
    lane: u16,
    mseq: u32,
    octets: Vec<u8>,
}

/// The packet legs of one association.
#[derive(Debug)]
pub struct PacketEndpoint {
    session: PacketSession,
    /// What each session's transport is made from.
    transport_config: TransportConfig,
    packet_len_max: [usize; PacketLeg::COUNT],
    transport: PacketTransport,
    /// Legs of the transport.
    up: LegSet,
    /// Relay legs that a control node carries now.
    relays: LegSet,
    /// What an earlier session had not proven, until the present one has room for it.
    carried: VecDeque<Carried>,
    entropy: EntropyPool,
    /// When this end begins a handshake, if the peer does not.
    begins_at: Option<Instant>,
    /// No messages go either way: keys are not kept between the probes.
    rests: bool,
    events: VecDeque<EndpointEvent>,
}

impl PacketEndpoint {
    /// Makes an endpoint without a session. Of two nodes the end with the lower key begins a handshake at once, the other
    /// a little later unless it was asked meanwhile; towards a control node the node begins.
    #[must_use]
    pub fn new(now: Instant, config: EndpointConfig) -> Self {
        let EndpointConfig { session, transport, packet_len_max, seed } = config;
        let has_lower_key = session.own_key.public() < session.peer_key;
        let begins_at = match session.kind {
            SessionKind::Pair(_) if !has_lower_key => Some(now + BEGIN_LATER),
            SessionKind::Pair(_) | SessionKind::ToControlNode(_) => Some(now),
            SessionKind::ToNode(_) => None,
        };
        Self {
            session: PacketSession::new(session),
            transport: PacketTransport::new(&transport),
            transport_config: transport,
            packet_len_max,
            up: LegSet::default(),
            relays: LegSet::default(),
            carried: VecDeque::new(),
            entropy: EntropyPool::new(seed),
            begins_at,
            rests: false,
            events: VecDeque::new(),
        }
    }

    /// True when a leg carries packets.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !self.up.is_empty()
    }

    /// Takes a packet that came by `leg`, in place. CONNECT must have passed the process's gate.
    ///
    /// # Errors
    /// Why it was dropped; the session has counted it.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        leg: PacketLeg,
        packet: &mut [u8],
        windows: &dyn ChannelWindows,
    ) -> Result<(), OpenError> {
        let kind = PacketHeader::parse_packet(packet).map_err(OpenError::from)?.kind;
        if !matches!(kind, PacketKind::Data | PacketKind::Probe) {
            let entropy = if kind == PacketKind::Connect { self.entropy.draw() } else { [0; SECRET_LEN] };
            let handled = self.session.handle_handshake(now, leg, packet, &entropy);
            self.drain_session(now);
            return handled;
        }
        let header = self.session.open(leg, packet)?;
        self.drain_session(now);
        let taken = self.transport.handle_packet(now, &header, payload_of(&header, packet), windows);
        if let Err(error) = taken {
            self.session.close();
            self.events.push_back(EndpointEvent::Broken(error));
            self.end_session();
        }
        self.drain_transport();
        self.trim_if_resting();
        Ok(())
    }

    /// Takes a node's CONNECT that a control node has opened: see [`PacketSession::handle_introduction`].
    ///
    /// # Errors
    /// Why it was dropped; the session has counted it.
    pub fn handle_introduction(
        &mut self,
        now: Instant,
        leg: PacketLeg,
        introduction: Introduction,
    ) -> Result<(), OpenError> {
        self.session.handle_introduction(now, leg, introduction)
    }

    /// True when a CONNECT with this clear part needs no introduction: see [`PacketSession::has_seen`].
    #[must_use]
    pub fn has_seen(&self, hint: &Hint) -> bool {
        self.session.has_seen(hint)
    }

    /// Says that no messages go either way, until some do: what can be made again is not kept. That is mostly keys, which
    /// are derived anew for each probe.
    pub fn rest(&mut self) {
        self.rests = true;
        self.trim_if_resting();
    }

    fn trim_if_resting(&mut self) {
        if self.rests {
            self.session.trim();
            self.carried.shrink_to_fit();
            self.events.shrink_to_fit();
        }
    }

    fn drain_session(&mut self, now: Instant) {
        while let Some(event) = self.session.poll_event() {
            match event {
                SessionEvent::Established { peer, .. } => {
                    self.end_session();
                    let offer = peer.offer;
                    let config = TransportConfig {
                        credit_messages: offer.credit_messages,
                        credit_kib: offer.credit_kib,
                        ..self.transport_config.clone()
                    };
                    self.transport = PacketTransport::new(&config);
                    self.begins_at = None;
                    let (process, control_session) = (peer.process, peer.control_session);
                    self.events.push_back(EndpointEvent::Established { process, control_session });
                    self.events.extend(peer.mismatched.iter().map(EndpointEvent::Mismatched));
                }
                SessionEvent::LegJoined(leg) => self.leg_up(now, leg),
                SessionEvent::Closed => {
                    self.end_session();
                    self.events.push_back(EndpointEvent::Closed);
                }
                SessionEvent::Forgotten => self.begins_at = Some(now),
                SessionEvent::Refused(reason) => {
                    self.begins_at = Some(now + REFUSED_PAUSE);
                    self.events.push_back(EndpointEvent::Refused(reason));
                }
            }
        }
        self.carry_on(now);
    }

    /// Says whether a control node carries packets of a relay leg now. One that it does not carry is down; it comes back with
    /// the packet numbers that it had, in the session that it joined.
    //= spec/leg-relay.md#carried-legs
    //# A relay leg MUST be used only while its control node has accepted the node, and the end of a control session MUST NOT end
    //# an association between nodes.
    pub fn set_relay(&mut self, now: Instant, leg: PacketLeg, is_carried: bool) {
        if is_carried {
            self.relays.insert(leg);
            if self.session.joined_legs().contains(leg) {
                self.leg_up(now, leg);
            }
        } else if self.relays.remove(leg) && self.up.remove(leg) {
            self.transport.leg_down(now, leg);
            self.drain_transport();
        }
    }

    fn leg_up(&mut self, now: Instant, leg: PacketLeg) {
        if can_send_by(self.relays, leg) && self.up.insert(leg) {
            let packet_len_max = self.packet_len_max[leg.index()];
            self.transport.leg_up(now, PacketLegConfig { leg, packet_len_max });
            self.events.push_back(EndpointEvent::LegUp(leg));
        }
    }

    /// The path of a leg carries packets of `len` octets, tag included, and no longer ones: a host whose kernel says so
    /// says it here. What was longer is cut again when it is sent again.
    pub fn set_packet_len_max(&mut self, leg: PacketLeg, len: usize) {
        self.packet_len_max[leg.index()] = len;
        self.transport.set_packet_len_max(leg, len);
    }

    /// What the session had not proven is for the next one.
    fn end_session(&mut self) {
        self.up = LegSet::default();
        let mut carried = VecDeque::new();
        self.transport.drain_unsent(&mut |Unacked { channel, lane, mseq, octets, .. }| {
            carried.push_back(Carried { channel, lane, mseq, octets: octets.into() });
        });
        carried.append(&mut self.carried);
        self.carried = carried;
    }

    /// Gives the transport what an earlier session left, as far as it takes it.
    fn carry_on(&mut self, now: Instant) {
        if self.up.is_empty() {
            return;
        }
        while let Some(Carried { channel, lane, mseq, octets }) = self.carried.front() {
            let parts = [Part::Private(octets)];
            let (channel, lane, mseq) = (*channel, *lane, *mseq);
            let again = Outgoing { channel, lane, mseq, is_resent: true, is_after_all: false, parts: &parts };
            if self.transport.send(now, again).is_err() {
                return;
            }
            self.carried.pop_front();
            self.rests = false;
        }
    }

    fn drain_transport(&mut self) {
        while let Some(event) = self.transport.poll_event() {
            self.events.push_back(EndpointEvent::Transport(event));
        }
    }

    /// True when a message of `len` octets would be accepted as the next one of `channel`.
    #[must_use]
    pub fn can_send(&self, channel: Channel, len: usize) -> bool {
        self.is_up() && self.carried.is_empty() && self.transport.can_send(channel, len)
    }

    /// Accepts a message, and keeps it until the peer acknowledges it.
    ///
    /// # Errors
    /// When no leg answers, or window, credit or memory are used up. Nothing of the message is kept then.
    ///
    /// # Panics
    /// When the message is longer than any, or its lane is 1024 or more.
    pub fn send(&mut self, now: Instant, message: Outgoing<'_>) -> Result<(), Full> {
        if self.up.is_empty() || !self.carried.is_empty() {
            return Err(Full);
        }
        self.rests = false;
        self.transport.send(now, message)
    }

    /// The next message whose turn it is. The caller marks it as delivered in `windows` before the next call, and gives its
    /// octets back by [`PacketEndpoint::recycle`].
    pub fn poll_message(&mut self, windows: &dyn ChannelWindows) -> Option<ReceivedMessage> {
        let message = self.transport.poll_message(windows);
        self.rests &= message.is_none();
        message
    }

    /// Takes a message's octets back: the peer gets credit for as many.
    pub fn recycle(&mut self, octets: PooledBuf) {
        self.transport.recycle(octets);
    }

    /// Makes the packets that are to go now, sealed, for one leg; see [`PacketTransport::poll_transmit`]. To be called
    /// until it says `None`, once the sockets of all legs were drained.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        windows: &dyn ChannelWindows,
        settle: bool,
        out: &mut TransmitBuffer,
    ) -> Option<Transmit> {
        if let Some(handshake) = self.poll_handshake(now, out) {
            return Some(handshake);
        }
        self.carry_on(now);
        let batch = self.transport.poll_transmit(now, windows, settle, out)?;
        self.drain_transport();
        for packet in out.octets_mut().chunks_mut(batch.segment_len) {
            // It fails only when a number comes twice or a leg is not the session's, neither of which the transport
            // does; a packet that is not sealed is dropped by the peer like one that was damaged.
            let sealed = self.session.seal(batch.leg, packet);
            debug_assert!(sealed.is_ok(), "{sealed:?}");
        }
        self.trim_if_resting();
        Some(batch)
    }

    fn poll_handshake(&mut self, now: Instant, out: &mut TransmitBuffer) -> Option<Transmit> {
        let legs = (0..PacketLeg::COUNT).filter_map(PacketLeg::at);
        for leg in legs {
            let room = out.room(0, HANDSHAKE_PACKET_LEN_MAX)?;
            let len = self.session.poll_handshake_packet(now, leg, room);
            // By a relay leg that nobody carries it is lost, as on a leg that is dead.
            if let Some(len) = len.filter(|_| can_send_by(self.relays, leg)) {
                out.set_len(len);
                return Some(Transmit { leg, segment_len: len, count: 1, len });
            }
        }
        None
    }

    /// When [`PacketEndpoint::handle_timeout`], and `poll_transmit` after it, are to be called at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let transport = if self.is_up() { self.transport.poll_timeout() } else { None };
        [self.begins_at, self.session.poll_timeout(), transport].into_iter().flatten().min()
    }

    /// Time has passed. Probes that nobody asked for are sent only as far as `probe_allowed` says so.
    pub fn handle_timeout(&mut self, now: Instant, probe_allowed: &mut dyn FnMut() -> bool) {
        if self.begins_at.is_some_and(|at| at <= now) {
            self.begins_at = None;
            let entropy = self.entropy.draw();
            self.session.begin(now, &entropy);
        }
        self.session.handle_timeout(now);
        self.drain_session(now);
        self.transport.handle_timeout(now, probe_allowed);
        self.drain_transport();
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<EndpointEvent> {
        self.events.pop_front()
    }

    /// Ends the session; the peer is told by every leg, by the next `poll_transmit`.
    pub fn close(&mut self) {
        self.begins_at = None;
        self.session.close();
        self.end_session();
    }

    /// The lowest number of `channel` that the peer has not acknowledged, of those sent here.
    #[must_use]
    pub fn lowest_unacked(&self, channel: Channel) -> Option<u32> {
        let carried = self.carried.iter().find(|carried| carried.channel == channel).map(|c| c.mseq);
        carried.or_else(|| self.transport.lowest_unacked(channel))
    }

    /// True while no leg answers.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.transport.is_stalled()
    }

    /// True when the peer has acknowledged every message.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.carried.is_empty() && self.transport.is_drained()
    }

    /// What each leg is good for, and what it did.
    pub fn leg_status(&self) -> impl Iterator<Item = PacketLegStatus> + '_ {
        self.transport.leg_status()
    }

    /// What the session counted.
    #[must_use]
    pub fn session_counters(&self) -> &SessionCounters {
        self.session.counters()
    }

    /// The receiving half's counters and its knowledge of what other legs brought.
    pub fn transport_mut(&mut self) -> &mut PacketTransport {
        &mut self.transport
    }

    /// Hands back every message that is not acknowledged, in the order of its channel, and forgets it.
    pub fn drain_unsent(&mut self, f: &mut dyn FnMut(Unacked<'_>)) {
        for Carried { channel, lane, mseq, octets } in core::mem::take(&mut self.carried) {
            f(Unacked { channel, lane, mseq, octets: &octets, maybe_taken: true });
        }
        self.transport.drain_unsent(f);
    }
}

/// True for a leg through a fabric, and for a relay leg among those that are carried.
fn can_send_by(carried: LegSet, leg: PacketLeg) -> bool {
    !leg.is_relay() || carried.contains(leg)
}

/// The payload of a packet whose header was parsed with its length.
fn payload_of<'p>(header: &PacketHeader, packet: &'p [u8]) -> &'p [u8] {
    packet.get(PACKET_HEADER_LEN..PACKET_HEADER_LEN + usize::from(header.payload_len)).unwrap_or_default()
}

impl fmt::Display for EndpointEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Established { process, .. } => write!(f, "a session with process {:016x}", process.0),
            Self::Refused(reason) => write!(f, "refused for reason {reason}"),
            Self::LegUp(leg) => write!(f, "leg {leg} is up"),
            Self::Transport(event) => write!(f, "{event:?}"),
            Self::Mismatched(leg) => write!(f, "leg {leg} crosses another fabric at the other end"),
            Self::Closed => f.write_str("the peer ended the session"),
            Self::Broken(error) => write!(f, "the session is broken: {error}"),
        }
    }
}
