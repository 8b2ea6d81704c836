//! A session between two processes: the handshake that agrees on its keys, and the seal of each packet.
//!
//! What happens to a packet here: [`PacketSession::seal`] says whom it is for, encrypts it and writes its tag;
//! [`PacketSession::open`] drops it, with a counter, or gives it back as its sender wrote it. CONNECT passes a [`Gate`]
//! before it may cost anything. Rules: `spec/packet-security.md`.
//!
//! ```text
//! initiator                       responder
//!   begin       --CONNECT-->        Gate::admit, handle_handshake     proves keys; retried on every leg
//!               <--ACCEPT---                                          initiator: session established
//!               --CONFIRM-->        session established, leg joined   retried on every leg until answered
//!               <--CONFIRM--        leg joined
//! ```
//!
//! The machine draws no randomness: each handshake takes 32 octets of entropy from the host, which must be used for nothing
//! else (see [`EntropyPool`]).

mod aead;
mod aes;
mod gate;
mod hello;
mod initiator;
mod noise;
mod replay;
mod responder;
mod secret;
#[cfg(test)]
mod tests;
mod traffic;
mod types;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::fmt;
use core::time::Duration;

use vlan_core::Instant;

pub use aead::{AEAD_KEY_LEN, AEAD_NONCE_LEN, Aead, BadTag};
#[cfg(feature = "std")]
pub use aes::FastAes256Gcm;
pub use aes::{Aes256Gcm, PortableAes256Gcm};
pub use gate::{Admission, Gate, GateCounters};
pub use hello::{COOKIE_LEN, HANDSHAKE_PACKET_LEN_MAX, Hint, Pattern};
pub use replay::REPLAY_WINDOW;
pub use responder::Introduction;
pub use secret::{EntropyPool, PairKey, SECRET_LEN, cluster_key};
pub use traffic::KEY_PHASE_LOG2;
pub use types::{
    LegSet, OpenError, SealError, SessionConfig, SessionCounters, SessionEvent, SessionKind, SessionLeg,
    SessionOffer, SessionPeer,
};

use super::wire::{PacketHeader, PacketKind, PacketLeg};
use crate::keys::PublicKey;
use hello::Terms;
use initiator::{Attempt, Retry};
use responder::Pending;
use secret::Secret;
use traffic::Traffic;

/// After the peer said that it does not know the session, something of it must be opened for this long, or the host
/// hears of it.
pub const FORGOTTEN_AFTER: Duration = Duration::from_millis(50);

/// One association's session with its peer.
pub struct PacketSession<A: Aead = Aes256Gcm> {
    config: SessionConfig,
    own_public: PublicKey,
    terms: Terms,
    /// The session in use.
    live: Option<Traffic<A>>,
    /// Legs of it that have joined.
    joined: LegSet,
    /// CONFIRM, until it was answered by every leg: the initiator's.
    confirm: Option<Retry>,
    /// Legs by which it was not.
    unconfirmed: LegSet,
    /// Legs by which a CONFIRM is to be answered.
    owed: LegSet,
    /// Legs by which CLOSE is to go.
    closing: LegSet,
    /// The session that we accepted and whose keys the peer has not proven yet.
    pending: Option<Box<Pending<A>>>,
    /// The handshake that we began.
    attempt: Option<Box<Attempt>>,
    /// When our last handshake began, by its own count.
    own_time: u64,
    /// The same of the peer's last handshake that became a session.
    peer_time: u64,
    /// When the peer has forgotten the session, unless something of it comes before.
    forgotten_at: Option<Instant>,
    events: VecDeque<SessionEvent>,
    counters: SessionCounters,
}

impl<A: Aead> PacketSession<A> {
    /// Makes an association's session; nothing is sent before [`PacketSession::begin`].
    #[must_use]
    pub fn new(config: SessionConfig) -> Self {
        Self {
            own_public: config.own_key.public(),
            terms: Terms::of(&config),
            config,
            live: None,
            joined: LegSet::default(),
            confirm: None,
            unconfirmed: LegSet::default(),
            owed: LegSet::default(),
            closing: LegSet::default(),
            pending: None,
            attempt: None,
            own_time: 0,
            peer_time: 0,
            forgotten_at: None,
            events: VecDeque::new(),
            counters: SessionCounters::default(),
        }
    }

    /// True when there are keys: packets can be sealed.
    #[must_use]
    pub const fn is_established(&self) -> bool {
        self.live.is_some()
    }

    /// The id of the session in use.
    #[must_use]
    pub fn id(&self) -> Option<u64> {
        self.live.as_ref().map(Traffic::id)
    }

    /// The legs by which a packet of the session in use has been opened.
    #[must_use]
    pub const fn joined_legs(&self) -> LegSet {
        self.joined
    }

    /// What was counted.
    #[must_use]
    pub const fn counters(&self) -> &SessionCounters {
        &self.counters
    }

    /// What the association must know next. To be called before a packet that was just opened is used: it may be the
    /// first of another session.
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front()
    }

    /// Seals a packet of DATA or PROBE in place: header, payload, 16 octets of room for the tag. Kind, leg, flags,
    /// number, time and payload length must be in the header; the rest is filled in.
    ///
    /// # Errors
    ///
    /// There is no session, it does not have the leg, or the number is not above those sealed before; nothing is
    /// changed.
    pub fn seal(&mut self, leg: PacketLeg, packet: &mut [u8]) -> Result<(), SealError> {
        let own = self.terms.legs[leg.index()].ok_or(SealError::Leg(leg))?;
        self.live.as_mut().ok_or(SealError::NoSession)?.seal(&own, packet)?;
        self.counters.sealed += 1;
        Ok(())
    }

    /// Opens a packet of DATA or PROBE that came by `leg`, in place. After an error its octets are of no use.
    ///
    /// # Errors
    ///
    /// Why it must be dropped; counted.
    //= spec/packet-security.md#silence
    //# A packet that cannot be opened MUST be dropped and counted by its reason, and MUST NOT change anything else.
    pub fn open(&mut self, leg: PacketLeg, packet: &mut [u8]) -> Result<PacketHeader, OpenError> {
        let opened = self.open_data(leg, packet);
        self.count(opened)
    }

    fn open_data(&mut self, leg: PacketLeg, packet: &mut [u8]) -> Result<PacketHeader, OpenError> {
        let header = PacketHeader::parse_packet(packet)?;
        if !matches!(header.kind, PacketKind::Data | PacketKind::Probe) {
            return Err(OpenError::Kind);
        }
        self.open_sealed(leg, &header, packet)?;
        self.counters.opened += 1;
        Ok(header)
    }

    /// Takes a packet of any other kind that came by `leg`. CONNECT must have passed a [`Gate`]; `entropy` answers it.
    ///
    /// # Errors
    ///
    /// Why it was dropped; counted.
    pub fn handle_handshake(
        &mut self,
        now: Instant,
        leg: PacketLeg,
        packet: &mut [u8],
        entropy: &[u8; SECRET_LEN],
    ) -> Result<(), OpenError> {
        let handled = self.handle_kind(now, leg, packet, entropy);
        self.count(handled)
    }

    fn handle_kind(
        &mut self,
        now: Instant,
        leg: PacketLeg,
        packet: &mut [u8],
        entropy: &[u8; SECRET_LEN],
    ) -> Result<(), OpenError> {
        let header = PacketHeader::parse_packet(packet)?;
        match header.kind {
            PacketKind::Connect => self.handle_connect(now, leg, &header, packet, entropy),
            PacketKind::Accept => self.handle_accept(now, leg, &header, packet),
            PacketKind::Cookie => self.handle_cookie(leg, &header, packet),
            PacketKind::Confirm => self.handle_confirm(leg, &header, packet),
            PacketKind::Close => self.handle_close(leg, &header, packet),
            PacketKind::Reset => self.handle_reset(now, &header),
            PacketKind::Data | PacketKind::Probe => Err(OpenError::Kind),
        }
    }

    fn count<T>(&mut self, result: Result<T, OpenError>) -> Result<T, OpenError> {
        result.inspect_err(|reason| self.counters.count(*reason))
    }

    /// Opens a packet with the keys of the session in use, or with those of the one that waits for its proof.
    fn open_sealed(
        &mut self,
        leg: PacketLeg,
        header: &PacketHeader,
        packet: &mut [u8],
    ) -> Result<(), OpenError> {
        let own = self.terms.legs[leg.index()].ok_or(OpenError::Leg)?;
        let live = self.live.as_mut().filter(|live| live.id() == header.session);
        if let Some(live) = live {
            live.open(header, &own, packet)?;
        } else {
            let pending = self.pending.as_mut().filter(|pending| pending.traffic.id() == header.session);
            pending.ok_or(OpenError::Session)?.traffic.open(header, &own, packet)?;
            self.establish_pending();
        }
        self.handle_opened(leg);
        Ok(())
    }

    /// Something of the peer was opened: it is there, and the leg serves.
    //= spec/packet-security.md#joining
    //# A leg MUST join a session only by a packet that came by it and was opened with the session's key.
    fn handle_opened(&mut self, leg: PacketLeg) {
        self.forgotten_at = None;
        if self.joined.insert(leg) {
            self.events.push_back(SessionEvent::LegJoined(leg));
        }
    }

    fn handle_confirm(
        &mut self,
        leg: PacketLeg,
        header: &PacketHeader,
        packet: &mut [u8],
    ) -> Result<(), OpenError> {
        self.open_sealed(leg, header, packet)?;
        // Only one of the two answers, so that CONFIRMs end. Data of the peer would not do as an answer: it says nothing of
        // the way there.
        if self.live.as_ref().is_some_and(Traffic::is_initiator) {
            self.unconfirmed.remove(leg);
            self.confirm.take_if(|_| self.unconfirmed.is_empty());
        } else {
            self.owed.insert(leg);
        }
        Ok(())
    }

    //= spec/packet-security.md#close
    //# CLOSE MUST be sealed with the session's keys.
    fn handle_close(
        &mut self,
        leg: PacketLeg,
        header: &PacketHeader,
        packet: &mut [u8],
    ) -> Result<(), OpenError> {
        self.open_sealed(leg, header, packet)?;
        self.end_session();
        self.events.push_back(SessionEvent::Closed);
        Ok(())
    }

    /// RESET is not authenticated: whoever sees the session's id can send it.
    //= spec/packet-security.md#reset
    //# RESET MUST NOT change a session; it may only make its receiver begin another handshake when nothing of the peer is
    //# opened within 50 ms.
    fn handle_reset(&mut self, now: Instant, header: &PacketHeader) -> Result<(), OpenError> {
        // Its sender does not know our cid: the host finds us by the address that it came from.
        if self.live.as_ref().is_none_or(|live| live.id() != header.session) {
            return Err(OpenError::Session);
        }
        self.forgotten_at.get_or_insert(now + FORGOTTEN_AFTER);
        Ok(())
    }

    /// Ends the session: CLOSE goes by every leg that joined, and what is being agreed is given up.
    pub fn close(&mut self) {
        (self.attempt, self.pending, self.confirm) = (None, None, None);
        self.closing = self.joined;
        if self.closing.is_empty() {
            self.end_session();
        }
    }

    /// Forgets all keys at once, because this process may exist twice: it was resumed from a snapshot. The host then
    /// begins again, with entropy that the other copy does not have.
    //= spec/packet-security.md#snapshots
    //# A process that was resumed from a snapshot MUST NOT seal anything with the keys that were in it.
    pub fn forget(&mut self) {
        (self.attempt, self.pending) = (None, None);
        self.end_session();
        self.events.clear();
    }

    /// Gives back all memory that is made again when it is needed.
    pub fn trim(&mut self) {
        self.release_keys();
        self.events.shrink_to_fit();
    }

    /// Forgets the keys that can be derived again, to save memory while nothing is sent.
    pub fn release_keys(&mut self) {
        if let Some(live) = &mut self.live {
            live.release_keys();
        }
    }

    fn end_session(&mut self) {
        (self.live, self.confirm, self.forgotten_at) = (None, None, None);
        (self.joined, self.owed, self.closing) = Default::default();
    }

    /// Puts `traffic` in the place of what was before.
    fn establish(&mut self, traffic: Traffic<A>, peer: SessionPeer) {
        let (session, is_initiator) = (traffic.id(), traffic.is_initiator());
        (self.attempt, self.pending) = (None, None);
        self.end_session();
        self.live = Some(traffic);
        // Whatever is said of the session before is of no account now.
        self.events.clear();
        self.events.push_back(SessionEvent::Established { session, is_initiator, peer });
    }

    /// The next handshake packet to send by `leg`, written to `out`, which has room for [`HANDSHAKE_PACKET_LEN_MAX`]
    /// octets; gives its length. To be called for each leg that can be sent by, after every input.
    pub fn poll_handshake_packet(&mut self, now: Instant, leg: PacketLeg, out: &mut [u8]) -> Option<usize> {
        let own = self.terms.legs[leg.index()]?;
        let ts_us = (now.as_nanos() / 1000) as u32;
        self.write_accept(&own, ts_us, out)
            .or_else(|| self.write_confirm(&own, ts_us, out))
            .or_else(|| self.write_connect(&own, ts_us, out))
            .or_else(|| self.write_close(&own, ts_us, out))
    }

    fn write_confirm(&mut self, own: &SessionLeg, ts_us: u32, out: &mut [u8]) -> Option<usize> {
        let is_due = self.confirm.as_mut().is_some_and(|confirm| confirm.due.remove(own.leg));
        let is_owed = self.owed.remove(own.leg);
        let live = self.live.as_mut().filter(|_| is_due || is_owed)?;
        live.write_control(own, PacketKind::Confirm, ts_us, out)
    }

    fn write_close(&mut self, own: &SessionLeg, ts_us: u32, out: &mut [u8]) -> Option<usize> {
        if !self.closing.remove(own.leg) {
            return None;
        }
        let written = self.live.as_mut()?.write_control(own, PacketKind::Close, ts_us, out);
        if self.closing.is_empty() {
            self.end_session();
        }
        written
    }

    /// When [`PacketSession::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let attempt = self.attempt.as_ref().map(|attempt| attempt.retry.at);
        let confirm = self.confirm.as_ref().map(|confirm| confirm.at);
        let pending = self.pending.as_ref().map(|pending| pending.until);
        [attempt, confirm, pending, self.forgotten_at].into_iter().flatten().min()
    }

    /// Sends again what was not answered, and gives up what nobody proved.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.forgotten_at.is_some_and(|at| at <= now) {
            self.forgotten_at = None;
            self.events.push_back(SessionEvent::Forgotten);
        }
        if self.pending.as_ref().is_some_and(|pending| pending.until <= now) {
            self.pending = None;
        }
        self.retry_attempt(now);
        if let Some(confirm) = &mut self.confirm {
            confirm.fire(now, self.unconfirmed);
        }
    }

    /// The key of the tags of CONNECT and ACCEPT to `receiver`: only ends that hold the pair key can write them, or, where
    /// a control node takes part, that know whom they write to.
    fn greeting_key(&self, receiver: &PublicKey) -> Secret {
        match &self.config.kind {
            SessionKind::Pair(key) => greeting_key(Some(key), receiver),
            SessionKind::ToControlNode(_) | SessionKind::ToNode(_) => greeting_key(None, receiver),
        }
    }
}

fn greeting_key(pair_key: Option<&PairKey>, receiver: &PublicKey) -> Secret {
    let public = Secret::new([0; SECRET_LEN]);
    pair_key.map_or(&public, PairKey::secret).derive(&[b"weft greeting", &receiver.0])
}

impl<A: Aead> fmt::Debug for PacketSession<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketSession")
            .field("own", &self.config.own)
            .field("peer", &self.config.peer)
            .field("id", &self.id())
            .field("joined", &self.joined)
            .finish_non_exhaustive()
    }
}
