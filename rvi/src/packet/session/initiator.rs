//! The end that speaks first: CONNECT until ACCEPT proves the peer.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use vlan_core::{Instant, ProcessId};

use super::hello::{CLEAR_LEN, COOKIE_LEN, Hint, MESSAGE_LEN_MAX, Pattern, TERMS_LEN, Terms};
use super::noise::{Knowledge, Noise};
use super::secret::{SECRET_LEN, Secret};
use super::traffic::Traffic;
use super::types::{LegSet, OpenError, SessionEvent, SessionKind, SessionLeg, SessionPeer};
use super::{Aead, PacketSession};
use crate::keys::PublicKey;
use crate::packet::wire::{PACKET_HEADER_LEN, PacketHeader, PacketKind, PacketLeg, TAG_LEN};

/// The first pause between two sendings of the same handshake packet.
pub const RETRY_MIN: Duration = Duration::from_millis(10);
/// Pauses double up to this one.
pub const RETRY_MAX: Duration = Duration::from_millis(250);
/// Why a handshake ended of which the control node did not say why.
const REFUSED_BY_TERMS: u8 = 0;

/// When a packet goes again, and by which legs it is still to go now.
pub(super) struct Retry {
    pub(super) at: Instant,
    pub(super) due: LegSet,
    pause: Duration,
}

impl Retry {
    pub(super) fn new(now: Instant, due: LegSet) -> Self {
        Self { at: now + RETRY_MIN, due, pause: RETRY_MIN }
    }

    /// Makes the packet due by `legs` when its time has come.
    pub(super) fn fire(&mut self, now: Instant, legs: LegSet) {
        if now >= self.at {
            self.due = legs;
            self.pause = (self.pause * 2).min(RETRY_MAX);
            self.at = now + self.pause;
        }
    }

    /// Sends nothing for the longest pause.
    fn suspend(&mut self, now: Instant) {
        self.due = LegSet::default();
        self.at = now + RETRY_MAX;
    }
}

/// A handshake that we began.
pub(super) struct Attempt {
    noise: Noise,
    pattern: Pattern,
    /// Entropy of the attempt that follows, if this one is suspended.
    next: Secret,
    clear: [u8; CLEAR_LEN],
    message: Vec<u8>,
    pub(super) retry: Retry,
    /// Waits for the peer's own handshake, which goes first; ours is not to be completed meanwhile.
    is_suspended: bool,
    /// What a busy peer wants to see, by leg: it depends on the address that we are seen with.
    cookies: [[u8; COOKIE_LEN]; PacketLeg::COUNT],
    /// The tags of the CONNECTs last sent, which a COOKIE refers to.
    tags: [[u8; TAG_LEN]; PacketLeg::COUNT],
}

impl Attempt {
    /// True when the peer may know of it.
    pub(super) const fn is_active(&self) -> bool {
        !self.is_suspended
    }

    /// Lets the peer's handshake go first.
    pub(super) fn suspend(&mut self, now: Instant) {
        self.is_suspended = true;
        self.retry.suspend(now);
    }
}

impl<A: Aead> PacketSession<A> {
    /// Begins a handshake on all legs, unless one is under way; a session in use lives on until the keys of the next are
    /// proven. `entropy` is for this handshake alone.
    pub fn begin(&mut self, now: Instant, entropy: &[u8; SECRET_LEN]) {
        let pattern = match self.config.kind {
            SessionKind::Pair(_) => Pattern::Pair,
            SessionKind::ToControlNode(_) => Pattern::ControlNode,
            SessionKind::ToNode(_) => return,
        };
        if self.attempt.is_some() {
            return;
        }
        self.start_attempt(now, pattern, &Secret::new(*entropy));
        // The peer has begun already and was answered: two sessions at once would lose what the first one carries.
        if self.pending.is_some()
            && let Some(attempt) = &mut self.attempt
        {
            attempt.suspend(now);
        }
    }

    /// Makes CONNECT, later than all that went before.
    fn start_attempt(&mut self, now: Instant, pattern: Pattern, entropy: &Secret) {
        self.own_time = now.as_nanos().max(self.own_time + 1);
        self.terms.time = self.own_time;
        let clear = Hint {
            pattern,
            initiator_cid: self.config.own_cid,
            initiator: self.config.own,
            responder: self.config.peer.unwrap_or(ProcessId(0)),
            time: self.own_time,
        }
        .emit();
        let (ephemeral, next) =
            (entropy.derive(&[b"weft ephemeral"]), entropy.derive(&[b"weft next attempt"]));
        let mut noise = Noise::initiator(&self.config.own_key, self.knowledge(), &clear, ephemeral.octets());
        let mut message = vec![0; MESSAGE_LEN_MAX];
        let len = noise.write(&self.terms.emit(), &mut message);
        message.truncate(len);
        message.shrink_to_fit();
        self.attempt = Some(Box::new(Attempt {
            noise,
            pattern,
            next,
            clear,
            message,
            retry: Retry::new(now, self.own_legs()),
            is_suspended: false,
            cookies: Default::default(),
            tags: Default::default(),
        }));
    }

    /// What a handshake of ours starts from.
    pub(super) fn knowledge(&self) -> Knowledge<'_> {
        match &self.config.kind {
            SessionKind::Pair(key) => Knowledge::Pair(&self.config.peer_key, key),
            SessionKind::ToControlNode(_) => Knowledge::ControlNode(&self.config.peer_key),
            SessionKind::ToNode(_) => Knowledge::Nobody,
        }
    }

    /// The legs by which CONNECT goes. Who is there must be proven without the help of a control node.
    fn own_legs(&self) -> LegSet {
        self.terms.legs.iter().flatten().map(|leg| leg.leg).filter(|leg| !leg.is_relay()).collect()
    }

    /// Sends CONNECT again. What the peer's own handshake made of it meanwhile goes: only one of the two may be completed.
    /// Our answer to that said that a suspended attempt is over, so it is a later one that goes.
    pub(super) fn retry_attempt(&mut self, now: Instant) {
        let legs = self.own_legs();
        let Some(attempt) = self.attempt.as_mut().filter(|attempt| attempt.retry.at <= now) else { return };
        if attempt.is_active() {
            attempt.retry.fire(now, legs);
        } else {
            let (pattern, next) = (attempt.pattern, attempt.next.clone());
            self.pending = None;
            self.start_attempt(now, pattern, &next);
        }
    }

    pub(super) fn write_connect(&mut self, own: &SessionLeg, ts_us: u32, out: &mut [u8]) -> Option<usize> {
        if !self.attempt.as_mut()?.retry.due.remove(own.leg) {
            return None;
        }
        let key = self.greeting_key(&self.config.peer_key);
        let attempt = self.attempt.as_mut()?;
        let index = own.leg.index();
        let header = greeting_header(PacketKind::Connect, own, ts_us);
        let payload = [&attempt.clear[..], &attempt.cookies[index], &attempt.message];
        let (len, tag) = write_greeting(header, &payload, &key, out)?;
        attempt.tags[index] = tag;
        Some(len)
    }

    /// The peer's answer: it is there, with the key that we expect.
    //= spec/packet-security.md#sessions
    //# An end MUST use a session only after the peer has proven the keys of this handshake: the initiator by ACCEPT, the
    //# responder by the first packet that it opens with them.
    pub(super) fn handle_accept(
        &mut self,
        now: Instant,
        leg: PacketLeg,
        header: &PacketHeader,
        packet: &[u8],
    ) -> Result<(), OpenError> {
        self.check_greeting(leg, header)?;
        let key = self.greeting_key(&self.own_public);
        let attempt = self.attempt.as_mut().filter(|attempt| attempt.is_active()).ok_or(OpenError::Stale)?;
        if header.dst_cid != self.config.own_cid {
            return Err(OpenError::Cid);
        }
        let (covered, tag) = packet.split_last_chunk().ok_or(OpenError::Form)?;
        if !key.verify(&[covered], tag) {
            return Err(OpenError::Mac);
        }
        let message = &covered[PACKET_HEADER_LEN..];
        if message.len() != ACCEPT_MESSAGE_LEN {
            return Err(OpenError::Form);
        }
        let terms = attempt.noise.read::<TERMS_LEN>(message).ok_or(OpenError::Proof)?;
        // The answer was genuine: whatever it says, this handshake is over.
        let Some(attempt) = self.attempt.take() else { return Err(OpenError::Stale) };
        let agreed = self.agree(&terms);
        let (terms, peer) = agreed
            .inspect_err(|refusal| {
                self.events.push_back(SessionEvent::Refused(*refusal));
            })
            .map_err(|_| OpenError::Terms)?;
        let cids = [self.config.own_cid, terms.cid];
        let traffic = Traffic::new(attempt.noise.finish(), true, cids, peer.legs);
        // What the peer began before it answered us is over as well.
        self.peer_time = self.peer_time.max(terms.time);
        self.establish(traffic, peer);
        self.confirm = Some(Retry::new(now, peer.legs));
        self.unconfirmed = peer.legs;
        Ok(())
    }

    /// What the answer says, if we can live with it; else why not.
    fn agree(&self, terms: &[u8; TERMS_LEN]) -> Result<(Terms, SessionPeer), u8> {
        let terms = Terms::parse(terms).ok_or(REFUSED_BY_TERMS)?;
        if terms.refusal != 0 {
            return Err(terms.refusal);
        }
        if self.config.peer.is_some_and(|process| process != terms.process) {
            return Err(REFUSED_BY_TERMS);
        }
        let peer = self.peer_of(&terms);
        if peer.legs.is_empty() { Err(REFUSED_BY_TERMS) } else { Ok((terms, peer)) }
    }

    pub(super) fn peer_of(&self, terms: &Terms) -> SessionPeer {
        let (legs, mismatched) = self.terms.shared_legs(terms);
        SessionPeer {
            process: terms.process,
            node: terms.node,
            control_session: terms.control_session,
            offer: terms.offer,
            legs,
            mismatched,
        }
    }

    /// What a busy peer wants to see before it does anything for us.
    pub(super) fn handle_cookie(
        &mut self,
        leg: PacketLeg,
        header: &PacketHeader,
        packet: &[u8],
    ) -> Result<(), OpenError> {
        self.check_greeting(leg, header)?;
        let attempt = self.attempt.as_mut().ok_or(OpenError::Stale)?;
        let (covered, tag) = packet.split_last_chunk().ok_or(OpenError::Form)?;
        let cookie: [u8; COOKIE_LEN] =
            covered[PACKET_HEADER_LEN..].try_into().map_err(|_| OpenError::Form)?;
        let index = leg.index();
        if !cookie_key(&self.config.peer_key).verify(&[covered, &attempt.tags[index]], tag) {
            return Err(OpenError::Mac);
        }
        if attempt.cookies[index] != cookie {
            attempt.cookies[index] = cookie;
            attempt.retry.due.insert(leg);
        }
        Ok(())
    }

    /// The leg and fabric of a packet outside of a session.
    pub(super) fn check_greeting(
        &self,
        leg: PacketLeg,
        header: &PacketHeader,
    ) -> Result<SessionLeg, OpenError> {
        let own = self.terms.legs[leg.index()].filter(|_| header.leg == leg).ok_or(OpenError::Leg)?;
        if header.fabric_key == own.fabric_key { Ok(own) } else { Err(OpenError::FabricKey) }
    }
}

/// Octets of the Noise message in ACCEPT.
pub(super) const ACCEPT_MESSAGE_LEN: usize = crate::keys::KEY_LEN + TERMS_LEN + TAG_LEN;

/// What ties a COOKIE to the CONNECT that it answers: only who saw that CONNECT can write it.
pub(super) fn cookie_key(responder: &PublicKey) -> Secret {
    Secret::new([0; SECRET_LEN]).derive(&[b"weft cookie", &responder.0])
}

/// The header of a packet outside of a session.
pub(super) fn greeting_header(kind: PacketKind, own: &SessionLeg, ts_us: u32) -> PacketHeader {
    PacketHeader {
        kind,
        leg: own.leg,
        flags: Default::default(),
        dst_cid: 0,
        session: 0,
        number: 0,
        ts_us,
        payload_len: 0,
        fabric_key: own.fabric_key,
    }
}

/// Writes a packet outside of a session: header, `payload`, and a tag under `key`. Gives its length and tag.
pub(super) fn write_greeting(
    mut header: PacketHeader,
    payload: &[&[u8]],
    key: &Secret,
    out: &mut [u8],
) -> Option<(usize, [u8; TAG_LEN])> {
    header.payload_len = payload.iter().map(|part| part.len() as u16).sum();
    let packet = out.get_mut(..header.packet_len())?;
    header.emit(packet.first_chunk_mut()?);
    let mut at = PACKET_HEADER_LEN;
    for part in payload {
        packet[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    let (covered, room) = packet.split_at_mut(at);
    let tag = key.tag(&[covered]);
    room.copy_from_slice(&tag);
    Some((header.packet_len(), tag))
}
