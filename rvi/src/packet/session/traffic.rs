//! The keys of one session: what seals the packets of each leg, opens those of the peer, and knows the numbers used.
//!
//! Each leg, direction and key phase has a key of its own, derived when it is first needed. The phase is the packet
//! number's bits from 22 up, so a leg that was down for long still finds its key.

use alloc::boxed::Box;

use super::aead::{AEAD_NONCE_LEN, Aead};
use super::replay::{REPLAY_WINDOW, Replay, ReplayWindow};
use super::secret::Secret;
use super::types::{LegSet, OpenError, SealError, SessionLeg};
use crate::packet::wire::{PACKET_HEADER_LEN, PacketHeader, PacketKind, PacketLeg, TAG_LEN};

/// A key is for this many packet numbers, as a power of two: 4,194,304.
pub const KEY_PHASE_LOG2: u32 = 22;
/// Sent from the end that spoke first.
const FROM_INITIATOR: u8 = 0;
/// Sent from the other.
const FROM_RESPONDER: u8 = 1;

/// What a key is for.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Class {
    /// Packets with an encrypted payload.
    Encrypted = 0,
    /// Packets of a trusted fabric.
    Trusted = 1,
    /// CONFIRM and CLOSE, which have numbers of their own.
    Control = 2,
}

/// A key and its phase.
struct PhaseKey<A> {
    phase: u64,
    aead: A,
}

/// One leg of a session.
struct LegKeys<A> {
    leg: SessionLeg,
    /// The key that seals. Keys are boxed, because an idle leg has none.
    sealing: Option<Box<PhaseKey<A>>>,
    /// The lowest number that was not sealed and has none sealed above it.
    next_number: u64,
    /// The key of the highest number that was opened.
    opening: Option<Box<PhaseKey<A>>>,
    /// That of a neighbouring phase, around its change.
    neighbour: Option<Box<PhaseKey<A>>>,
    window: ReplayWindow,
    next_control: u64,
    next_control_opened: u64,
}

/// The keys of one session.
pub(super) struct Traffic<A> {
    secret: Secret,
    id: u64,
    is_initiator: bool,
    own_cid: u32,
    peer_cid: u32,
    /// The legs that both ends have.
    shared: LegSet,
    /// Made when a leg is first used: an association that uses one leg pays for one.
    legs: [Option<Box<LegKeys<A>>>; PacketLeg::COUNT],
}

impl<A: Aead> Traffic<A> {
    pub(super) fn new(secret: Secret, is_initiator: bool, cids: [u32; 2], shared: LegSet) -> Self {
        let [own_cid, peer_cid] = cids;
        // 0 means "no session" on the wire.
        let id = secret.derive_u64(&[b"weft session id"]).max(1);
        Self { secret, id, is_initiator, own_cid, peer_cid, shared, legs: Default::default() }
    }

    pub(super) const fn id(&self) -> u64 {
        self.id
    }

    pub(super) const fn is_initiator(&self) -> bool {
        self.is_initiator
    }

    /// Octets that each leg takes, and each key in use.
    #[cfg(test)]
    pub(super) const LEG_OCTETS: [usize; 2] = [size_of::<LegKeys<A>>(), size_of::<PhaseKey<A>>()];

    /// The highest number that was opened on a leg.
    #[cfg(test)]
    pub(super) fn highest_opened(&self, leg: PacketLeg) -> Option<u64> {
        self.legs[leg.index()].as_ref()?.window.next().checked_sub(1)
    }

    /// Forgets the keys that can be derived again.
    pub(super) fn release_keys(&mut self) {
        for leg in self.legs.iter_mut().flatten() {
            (leg.sealing, leg.opening, leg.neighbour) = (None, None, None);
        }
    }

    /// Seals a packet of DATA or PROBE: fills in whom it is for, encrypts it unless the leg is trusted, and writes its
    /// tag.
    //= spec/packet-security.md#nonces
    //# An end MUST NOT seal two packets with the same key and number.
    pub(super) fn seal(&mut self, leg: &SessionLeg, packet: &mut [u8]) -> Result<(), SealError> {
        let mut header = PacketHeader::parse_packet(packet).map_err(|_| SealError::Form)?;
        if !is_data(header.kind) || header.leg != leg.leg {
            return Err(SealError::Form);
        }
        if !self.shared.contains(leg.leg) {
            return Err(SealError::Leg(leg.leg));
        }
        let number = header.number;
        let (direction, secret) = (self.own_direction(), &self.secret);
        (header.dst_cid, header.session, header.fabric_key) = (self.peer_cid, self.id, leg.fabric_key);
        let keys = leg_keys(&mut self.legs, leg);
        if number < keys.next_number || number == u64::MAX {
            return Err(SealError::Number(number));
        }
        keys.next_number = number + 1;
        let phase = number >> KEY_PHASE_LOG2;
        if keys.sealing.as_ref().is_none_or(|key| key.phase != phase) {
            keys.sealing = Some(Box::new(derive(secret, direction, leg, data_class(leg), phase)));
        }
        let Some(key) = &keys.sealing else { return Err(SealError::NoSession) };
        write_sealed(&key.aead, &header, leg.is_trusted, packet);
        Ok(())
    }

    /// Writes a CONFIRM or CLOSE.
    pub(super) fn write_control(
        &mut self,
        leg: &SessionLeg,
        kind: PacketKind,
        ts_us: u32,
        out: &mut [u8],
    ) -> Option<usize> {
        let packet = out.get_mut(..PACKET_HEADER_LEN + TAG_LEN)?;
        let (direction, secret) = (self.own_direction(), &self.secret);
        let keys = leg_keys(&mut self.legs, leg);
        let header = PacketHeader {
            kind,
            leg: leg.leg,
            flags: Default::default(),
            dst_cid: self.peer_cid,
            session: self.id,
            number: keys.next_control,
            ts_us,
            payload_len: 0,
            fabric_key: leg.fabric_key,
        };
        keys.next_control += 1;
        let key: PhaseKey<A> = derive(secret, direction, leg, Class::Control, 0);
        write_sealed(&key.aead, &header, true, packet);
        Some(packet.len())
    }

    /// Opens a packet of DATA or PROBE, or checks CONFIRM or CLOSE. `header` is the packet's own.
    //= spec/packet-security.md#opening
    //# A receiver MUST NOT use anything of a packet of a session, but to find its key, before its tag was found right.
    pub(super) fn open(
        &mut self,
        header: &PacketHeader,
        leg: &SessionLeg,
        packet: &mut [u8],
    ) -> Result<(), OpenError> {
        if header.dst_cid != self.own_cid {
            return Err(OpenError::Cid);
        }
        if header.leg != leg.leg || !self.shared.contains(leg.leg) {
            return Err(OpenError::Leg);
        }
        if header.fabric_key != leg.fabric_key {
            return Err(OpenError::FabricKey);
        }
        match header.kind {
            PacketKind::Data | PacketKind::Probe => self.open_data(header, leg, packet),
            PacketKind::Confirm | PacketKind::Close => self.open_control(header, leg, packet),
            _ => Err(OpenError::Kind),
        }
    }

    fn open_data(
        &mut self,
        header: &PacketHeader,
        leg: &SessionLeg,
        packet: &mut [u8],
    ) -> Result<(), OpenError> {
        let (number, direction) = (header.number, self.peer_direction());
        let phase = number >> KEY_PHASE_LOG2;
        let secret = &self.secret;
        let keys = leg_keys(&mut self.legs, leg);
        let present = keys.present_phase();
        if phase.abs_diff(present) > 1 || number == u64::MAX {
            return Err(OpenError::Phase);
        }
        let key = keys.opening_key(phase, present, || derive(secret, direction, leg, data_class(leg), phase));
        read_sealed(&key.aead, header, leg.is_trusted, packet)?;
        keys.window.take(number).map_err(|replay| match replay {
            Replay::Copy => OpenError::Copy,
            Replay::Old => OpenError::Old,
        })?;
        keys.turn_phase(phase, present);
        Ok(())
    }

    fn open_control(
        &mut self,
        header: &PacketHeader,
        leg: &SessionLeg,
        packet: &mut [u8],
    ) -> Result<(), OpenError> {
        let direction = self.peer_direction();
        let key: PhaseKey<A> = derive(&self.secret, direction, leg, Class::Control, 0);
        read_sealed(&key.aead, header, true, packet)?;
        let keys = leg_keys(&mut self.legs, leg);
        if header.number < keys.next_control_opened || header.number == u64::MAX {
            return Err(OpenError::Copy);
        }
        keys.next_control_opened = header.number + 1;
        Ok(())
    }

    const fn own_direction(&self) -> u8 {
        if self.is_initiator { FROM_INITIATOR } else { FROM_RESPONDER }
    }

    const fn peer_direction(&self) -> u8 {
        if self.is_initiator { FROM_RESPONDER } else { FROM_INITIATOR }
    }
}

impl<A: Aead> LegKeys<A> {
    fn new(leg: SessionLeg) -> Self {
        Self {
            leg,
            sealing: None,
            next_number: 0,
            opening: None,
            neighbour: None,
            window: ReplayWindow::new(),
            next_control: 0,
            next_control_opened: 0,
        }
    }

    /// The phase of the highest number that was opened.
    const fn present_phase(&self) -> u64 {
        self.window.next().saturating_sub(1) >> KEY_PHASE_LOG2
    }

    /// The key of `phase`, which is `present` or next to it.
    fn opening_key(&mut self, phase: u64, present: u64, make: impl FnOnce() -> PhaseKey<A>) -> &PhaseKey<A> {
        if phase == present {
            if self.opening.as_ref().is_some_and(|key| key.phase != phase) {
                self.opening = None;
            }
            return self.opening.get_or_insert_with(|| Box::new(make()));
        }
        if self.neighbour.as_ref().is_some_and(|key| key.phase != phase) {
            self.neighbour = None;
        }
        self.neighbour.get_or_insert_with(|| Box::new(make()))
    }

    /// After a packet of `phase` was opened: the next phase becomes the present one, and the previous one's key goes when
    /// no number of it can be taken any more.
    //= spec/packet-security.md#key-phases
    //# A receiver MUST open packets of the key phase of the highest number it opened, of the one before and of the one
    //# after, and of no other.
    fn turn_phase(&mut self, phase: u64, present: u64) {
        if phase > present {
            core::mem::swap(&mut self.opening, &mut self.neighbour);
        } else if let Some(neighbour) = &self.neighbour
            && neighbour.phase < present
            && self.window.next() - (present << KEY_PHASE_LOG2) > REPLAY_WINDOW
        {
            self.neighbour = None;
        }
    }
}

const fn is_data(kind: PacketKind) -> bool {
    matches!(kind, PacketKind::Data | PacketKind::Probe)
}

const fn data_class(leg: &SessionLeg) -> Class {
    if leg.is_trusted { Class::Trusted } else { Class::Encrypted }
}

fn leg_keys<'a, A: Aead>(
    legs: &'a mut [Option<Box<LegKeys<A>>>; PacketLeg::COUNT],
    leg: &SessionLeg,
) -> &'a mut LegKeys<A> {
    let keys = legs[leg.leg.index()].get_or_insert_with(|| Box::new(LegKeys::new(*leg)));
    debug_assert_eq!(keys.leg, *leg, "a leg keeps its fabric for a session");
    keys
}

/// The key for one direction of one leg in one phase.
//= spec/packet-security.md#traffic-keys
//# Each direction, leg and key phase of a session MUST have a key of its own, and CONFIRM and CLOSE MUST have keys that
//# seal nothing else.
fn derive<A: Aead>(
    secret: &Secret,
    direction: u8,
    leg: &SessionLeg,
    class: Class,
    phase: u64,
) -> PhaseKey<A> {
    let purpose = [direction, leg.leg.number(), class as u8];
    let key = secret.derive(&[b"weft traffic key", &purpose, &phase.to_le_bytes()]);
    PhaseKey { phase, aead: A::new(key.octets()) }
}

/// 32 zero bits, then the packet number.
fn nonce(number: u64) -> [u8; AEAD_NONCE_LEN] {
    let mut nonce = [0; AEAD_NONCE_LEN];
    nonce[4..].copy_from_slice(&number.to_le_bytes());
    nonce
}

/// Writes header and tag; encrypts what lies between them unless it is to stay readable.
//= spec/packet-security.md#authentication
//# The tag MUST cover every octet of the header and of the payload, on trusted fabrics too.
fn write_sealed<A: Aead>(aead: &A, header: &PacketHeader, is_readable: bool, packet: &mut [u8]) {
    let Some((head, _)) = packet.split_first_chunk_mut() else { return };
    header.emit(head);
    let (covered, tag_room) = packet.split_at_mut(header.packet_len() - TAG_LEN);
    let (clear, body) = covered.split_at_mut(PACKET_HEADER_LEN);
    let nonce = nonce(header.number);
    let tag = if is_readable { aead.tag(&nonce, clear, body) } else { aead.seal(&nonce, clear, body) };
    tag_room.copy_from_slice(&tag);
}

/// Checks the tag and decrypts in place.
fn read_sealed<A: Aead>(
    aead: &A,
    header: &PacketHeader,
    is_readable: bool,
    packet: &mut [u8],
) -> Result<(), OpenError> {
    let (covered, tag) = packet.split_last_chunk_mut::<TAG_LEN>().ok_or(OpenError::Form)?;
    let (clear, body) = covered.split_at_mut_checked(PACKET_HEADER_LEN).ok_or(OpenError::Form)?;
    let nonce = nonce(header.number);
    let checked =
        if is_readable { aead.check(&nonce, clear, body, tag) } else { aead.open(&nonce, clear, body, tag) };
    checked.map_err(|_| OpenError::Tag)
}
