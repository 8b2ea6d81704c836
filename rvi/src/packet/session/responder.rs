//! The end that answers: CONNECT is checked from the cheapest test to the dearest, and its session waits for proof.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use vlan_core::{Instant, NodeNumber, ProcessId};

use super::hello::{ConnectParts, Hint, Pattern, TERMS_LEN, Terms};
use super::initiator::{ACCEPT_MESSAGE_LEN, greeting_header, write_greeting};
use super::noise::{Knowledge, Noise};
use super::secret::SECRET_LEN;
use super::traffic::Traffic;
use super::types::{LegSet, OpenError, SessionKind, SessionLeg, SessionOffer, SessionPeer};
use super::{Aead, PacketSession, greeting_key};
use crate::keys::{PrivateKey, PublicKey};
use crate::packet::wire::{PacketHeader, PacketKind, PacketLeg, TAG_LEN};

/// How long an answered handshake waits for the proof of its keys.
pub const PENDING_MAX: Duration = Duration::from_secs(2);

/// A session that we accepted and whose keys the peer has not proven yet.
pub(super) struct Pending<A> {
    pub(super) traffic: Traffic<A>,
    pub(super) until: Instant,
    hint: Hint,
    peer: SessionPeer,
    /// The Noise message of ACCEPT.
    message: Vec<u8>,
    /// Legs by which ACCEPT is to go.
    due: LegSet,
}

/// A CONNECT from a node whose proof is good as far as it goes: it may be an old one, sent again.
pub struct Introduction {
    noise: Noise,
    key: PublicKey,
    hint: Hint,
    terms: Terms,
}

impl Introduction {
    /// Opens a CONNECT for a control node that has no session with its sender yet. It must have passed a
    /// [`Gate`](super::Gate): this costs two multiplications on the curve, the answer two more.
    ///
    /// # Errors
    ///
    /// It is none, or it does not prove a key; to be counted by the caller.
    pub fn open(own_key: &PrivateKey, packet: &[u8], entropy: &[u8; SECRET_LEN]) -> Result<Self, OpenError> {
        let header = PacketHeader::parse_packet(packet)?;
        let parts = ConnectParts::parse(packet).ok_or(OpenError::Form)?;
        if header.kind != PacketKind::Connect || parts.hint.pattern != Pattern::ControlNode {
            return Err(OpenError::Kind);
        }
        let (covered, tag) = packet.split_last_chunk().ok_or(OpenError::Form)?;
        if !greeting_key(None, &own_key.public()).verify(&[covered], tag) {
            return Err(OpenError::Mac);
        }
        Self::read(own_key, Knowledge::Nobody, &parts, entropy)
    }

    fn read(
        own_key: &PrivateKey,
        knows: Knowledge<'_>,
        parts: &ConnectParts<'_>,
        entropy: &[u8; SECRET_LEN],
    ) -> Result<Self, OpenError> {
        let mut noise = Noise::responder(own_key, knows, parts.clear, entropy);
        let terms = noise.read::<TERMS_LEN>(parts.message).ok_or(OpenError::Proof)?;
        let key = noise.peer().ok_or(OpenError::Proof)?;
        let terms = Terms::parse(&terms).ok_or(OpenError::Terms)?;
        let hint = parts.hint;
        let is_consistent = terms.process == hint.initiator && terms.cid == hint.initiator_cid;
        if is_consistent && terms.refusal == 0 {
            Ok(Self { noise, key, hint, terms })
        } else {
            Err(OpenError::Terms)
        }
    }

    /// The key that was proven.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The node that the sender says it is: to be compared with the one whose key it proved.
    #[must_use]
    pub const fn node(&self) -> NodeNumber {
        self.terms.node
    }

    /// The sender's life.
    #[must_use]
    pub const fn process(&self) -> ProcessId {
        self.terms.process
    }

    /// The sender's number of the control session that it wants.
    #[must_use]
    pub const fn control_session(&self) -> u32 {
        self.terms.control_session
    }

    /// What the sender says of itself.
    #[must_use]
    pub const fn offer(&self) -> &SessionOffer {
        &self.terms.offer
    }

    /// Writes an ACCEPT that says no, for a reason other than 0; gives its length. `leg` is the one that CONNECT came by,
    /// `process` the control node's life.
    pub fn refuse(
        mut self,
        leg: &SessionLeg,
        process: ProcessId,
        reason: u8,
        out: &mut [u8],
    ) -> Option<usize> {
        let legs = [None; PacketLeg::COUNT];
        let (node, offer) = (NodeNumber(0), SessionOffer::default());
        let (cid, time, control_session) = (0, 0, 0);
        let terms = Terms { node, process, cid, offer, refusal: reason, time, control_session, legs };
        let mut message = [0; ACCEPT_MESSAGE_LEN];
        let len = self.noise.write(&terms.emit(), &mut message);
        let header =
            PacketHeader { dst_cid: self.hint.initiator_cid, ..greeting_header(PacketKind::Accept, leg, 0) };
        let key = greeting_key(None, &self.key);
        write_greeting(header, &[&message[..len]], &key, out).map(|(len, _)| len)
    }
}

impl fmt::Debug for Introduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Introduction(of {} as node {})", self.key, self.terms.node)
    }
}

impl<A: Aead> PacketSession<A> {
    /// CONNECT: nothing of it costs more than what it has proven so far is worth.
    pub(super) fn handle_connect(
        &mut self,
        now: Instant,
        leg: PacketLeg,
        header: &PacketHeader,
        packet: &[u8],
        entropy: &[u8; SECRET_LEN],
    ) -> Result<(), OpenError> {
        self.check_greeting(leg, header)?;
        let parts = ConnectParts::parse(packet).ok_or(OpenError::Form)?;
        let (covered, tag) = packet.split_last_chunk::<TAG_LEN>().ok_or(OpenError::Form)?;
        let expected = match self.config.kind {
            SessionKind::Pair(_) => (Pattern::Pair, self.config.own),
            SessionKind::ToNode(_) => (Pattern::ControlNode, ProcessId(0)),
            SessionKind::ToControlNode(_) => return Err(OpenError::Kind),
        };
        if parts.hint.pattern != expected.0 {
            return Err(OpenError::Kind);
        }
        //= spec/packet-security.md#greeting-tags
        //# An end MUST drop a CONNECT or ACCEPT whose tag is not right before it does any arithmetic on curves.
        if !self.greeting_key(&self.own_public).verify(&[covered], tag) {
            return Err(OpenError::Mac);
        }
        //= spec/packet-security.md#process-ids
        //# CONNECT MUST name both processes of the grant, or it is dropped.
        if self.config.peer != Some(parts.hint.initiator) || parts.hint.responder != expected.1 {
            return Err(OpenError::Process);
        }
        if self.is_repeated(leg, &parts.hint)? {
            return Ok(());
        }
        self.yield_or_stay()?;
        let introduction = Introduction::read(&self.config.own_key, self.knowledge(), &parts, entropy)?;
        self.accept(now, leg, introduction)
    }

    /// Takes a CONNECT that [`Introduction::open`] has opened, as the first of this session.
    ///
    /// # Errors
    ///
    /// It is not from the peer that this session is for, or not later than one that was answered; counted.
    pub fn handle_introduction(
        &mut self,
        now: Instant,
        leg: PacketLeg,
        introduction: Introduction,
    ) -> Result<(), OpenError> {
        let accepted = self.check_introduction(leg, &introduction);
        let accepted = accepted.and_then(|is_repeated| match is_repeated {
            true => Ok(()),
            false => self.accept(now, leg, introduction),
        });
        self.count(accepted)
    }

    fn check_introduction(&mut self, leg: PacketLeg, introduction: &Introduction) -> Result<bool, OpenError> {
        if !matches!(self.config.kind, SessionKind::ToNode(_)) {
            return Err(OpenError::Kind);
        }
        if self.config.peer != Some(introduction.process()) {
            return Err(OpenError::Process);
        }
        self.is_repeated(leg, &introduction.hint)
    }

    /// True when a CONNECT with this clear part is an old one, or one that was answered already: to find that out
    /// takes no arithmetic on curves.
    #[must_use]
    pub fn has_seen(&self, hint: &Hint) -> bool {
        let answered = self.pending.as_ref().map_or(self.peer_time, |pending| pending.hint.time);
        self.config.peer == Some(hint.initiator) && hint.time <= answered.max(self.peer_time)
    }

    /// True when this CONNECT was answered already and the answer goes again.
    //= spec/packet-security.md#replayed-handshakes
    //# A CONNECT that is not later than the one that made the session in use, or than one that was answered, MUST NOT
    //# change anything; the last one's answer may be sent again.
    fn is_repeated(&mut self, leg: PacketLeg, hint: &Hint) -> Result<bool, OpenError> {
        if hint.time <= self.peer_time {
            return Err(OpenError::Stale);
        }
        let Some(pending) = &mut self.pending else { return Ok(false) };
        if hint.time < pending.hint.time {
            return Err(OpenError::Stale);
        }
        let is_repeated = hint.time == pending.hint.time;
        if is_repeated {
            pending.due.insert(leg);
        }
        Ok(is_repeated)
    }

    /// Both ends spoke first: the one with the lower key goes on.
    //= spec/packet-security.md#simultaneous-connect
    //# When both ends have sent CONNECT, the one with the lower public key MUST stay the initiator and the other MUST
    //# answer it.
    fn yield_or_stay(&self) -> Result<(), OpenError> {
        let is_asking = self.attempt.as_ref().is_some_and(|attempt| attempt.is_active());
        if is_asking && self.own_public < self.config.peer_key {
            return Err(OpenError::Simultaneous);
        }
        Ok(())
    }

    /// Answers: the session waits for the peer's proof that it is there now and did not replay an old CONNECT.
    fn accept(&mut self, now: Instant, leg: PacketLeg, introduction: Introduction) -> Result<(), OpenError> {
        let Introduction { mut noise, key, hint, terms } = introduction;
        if key != self.config.peer_key {
            return Err(OpenError::Proof);
        }
        if let SessionKind::ToNode(tag) = self.config.kind
            && tag.node != terms.control_session
        {
            return Err(OpenError::Terms);
        }
        let peer = self.peer_of(&terms);
        if !peer.legs.contains(leg) {
            return Err(OpenError::Leg);
        }
        let mut message = vec![0; ACCEPT_MESSAGE_LEN];
        let len = noise.write(&self.terms.emit(), &mut message);
        debug_assert_eq!(len, ACCEPT_MESSAGE_LEN);
        let traffic = Traffic::new(noise.finish(), false, [self.config.own_cid, terms.cid], peer.legs);
        if let Some(attempt) = &mut self.attempt {
            attempt.suspend(now);
        }
        let due = [leg].into_iter().collect();
        let until = now + PENDING_MAX;
        self.pending = Some(Box::new(Pending { traffic, until, hint, peer, message, due }));
        Ok(())
    }

    pub(super) fn write_accept(&mut self, own: &SessionLeg, ts_us: u32, out: &mut [u8]) -> Option<usize> {
        if !self.pending.as_mut()?.due.remove(own.leg) {
            return None;
        }
        let pending = self.pending.as_ref()?;
        let header = PacketHeader {
            dst_cid: pending.hint.initiator_cid,
            session: pending.traffic.id(),
            ..greeting_header(PacketKind::Accept, own, ts_us)
        };
        let key = self.greeting_key(&self.config.peer_key);
        write_greeting(header, &[&pending.message], &key, out).map(|(len, _)| len)
    }

    /// The peer has proven the keys of the session that we accepted.
    pub(super) fn establish_pending(&mut self) {
        let Some(pending) = self.pending.take() else { return };
        self.peer_time = pending.hint.time;
        self.establish(pending.traffic, pending.peer);
    }
}
