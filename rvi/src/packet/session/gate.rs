//! What stands before the handshakes of a process: nobody gets work out of it for nothing, and none of it is done on the
//! data path.
//!
//! Under load a CONNECT must show that its sender receives at the address it sends from: it carries a cookie that was sent
//! there. Handshakes are limited per source and in all, so are RESETs.

use alloc::boxed::Box;
use core::time::Duration;

use vlan_core::Instant;

use super::hello::{CLEAR_LEN, COOKIE_LEN, ConnectParts};
use super::initiator::cookie_key;
use super::secret::{SECRET_LEN, Secret};
use crate::keys::PublicKey;
use crate::packet::wire::{PACKET_HEADER_LEN, PacketHeader, PacketKind, TAG_LEN};

/// How long a cookie's secret is in use; cookies of the one before are still taken.
pub const COOKIE_SLOT: Duration = Duration::from_secs(120);
/// Handshakes a second, in all.
pub const HANDSHAKES_MAX: u32 = 500;
/// Handshakes a second from one source.
pub const HANDSHAKES_PER_SOURCE_MAX: u32 = 50;
/// RESETs a second.
pub const RESETS_MAX: u32 = 10;
/// Buckets of sources; a source has the one that a keyed hash of its address names.
const SOURCE_BUCKETS: usize = 256;

/// Whether a CONNECT may go on to its association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Admitted,
    /// It must show a cookie first: the packet of this length, in the reply's room, goes back the way it came.
    Cookie(usize),
    /// It is dropped; counted.
    Refused,
}

/// What a gate has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GateCounters {
    /// CONNECTs that went on.
    pub admitted: u64,
    /// Cookies sent.
    pub cookies: u64,
    /// Packets that are no CONNECT.
    pub malformed: u64,
    /// CONNECTs above the limit of their source.
    pub source_limited: u64,
    /// CONNECTs above the limit of all.
    pub limited: u64,
    /// RESETs sent.
    pub resets: u64,
}

/// Admits handshakes to a process. One for each process; its memory does not grow.
#[derive(Debug)]
pub struct Gate {
    secret: Secret,
    cookie_tag: Secret,
    all: Bucket,
    sources: Box<[Bucket; SOURCE_BUCKETS]>,
    resets: Bucket,
    counters: GateCounters,
}

impl Gate {
    /// Makes the gate of the process that has the key `own`; `seed` is random and for this gate alone.
    #[must_use]
    pub fn new(own: &PublicKey, seed: [u8; SECRET_LEN]) -> Self {
        Self {
            secret: Secret::new(seed),
            cookie_tag: cookie_key(own),
            all: Bucket::new(HANDSHAKES_MAX),
            sources: Box::new([Bucket::new(HANDSHAKES_PER_SOURCE_MAX); SOURCE_BUCKETS]),
            resets: Bucket::new(RESETS_MAX),
            counters: GateCounters::default(),
        }
    }

    /// What was counted.
    #[must_use]
    pub const fn counters(&self) -> &GateCounters {
        &self.counters
    }

    /// Decides about a CONNECT from `source`, the octets of its address. `under_load` says that the process has no time to
    /// waste; when half of the handshakes of a second are spent the gate takes it as said. `reply` has room for a cookie
    /// packet of 64 octets.
    //= spec/packet-security.md#cookies
    //# Under load an end MUST answer a CONNECT without a valid cookie with COOKIE, and MUST keep nothing about it.
    //= spec/packet-security.md#limits
    //# Handshakes MUST be limited per source and in all.
    pub fn admit(
        &mut self,
        now: Instant,
        source: &[u8],
        packet: &[u8],
        under_load: bool,
        reply: &mut [u8],
    ) -> Admission {
        let Some((header, cookie)) = connect_cookie(packet) else {
            self.counters.malformed += 1;
            return Admission::Refused;
        };
        let is_busy = under_load || self.all.is_half_spent(now);
        if is_busy && !self.is_valid(now, source, &cookie) {
            return self.ask(now, source, &header, packet, reply);
        }
        let place = self.secret.derive_u64(&[b"weft source", source]) as usize % SOURCE_BUCKETS;
        if !self.sources[place].take(now) {
            self.counters.source_limited += 1;
            return Admission::Refused;
        }
        if !self.all.take(now) {
            self.counters.limited += 1;
            return Admission::Refused;
        }
        self.counters.admitted += 1;
        Admission::Admitted
    }

    /// Answers with a cookie. The answer is shorter than what it answers, so nobody gains by a forged address.
    fn ask(
        &mut self,
        now: Instant,
        source: &[u8],
        connect: &PacketHeader,
        packet: &[u8],
        reply: &mut [u8],
    ) -> Admission {
        let refused = Admission::Refused;
        let (Some(tag), Some(parts)) = (packet.last_chunk::<TAG_LEN>(), ConnectParts::parse(packet)) else {
            return refused;
        };
        let header = PacketHeader {
            kind: PacketKind::Cookie,
            dst_cid: parts.hint.initiator_cid,
            payload_len: COOKIE_LEN as u16,
            ..*connect
        };
        let Some(reply) = reply.get_mut(..header.packet_len()) else { return refused };
        let (covered, room) = reply.split_at_mut(PACKET_HEADER_LEN + COOKIE_LEN);
        let Some(head) = covered.first_chunk_mut() else { return refused };
        header.emit(head);
        covered[PACKET_HEADER_LEN..].copy_from_slice(&self.cookie(slot(now), source));
        room.copy_from_slice(&self.cookie_tag.tag(&[covered, tag]));
        self.counters.cookies += 1;
        Admission::Cookie(header.packet_len())
    }

    fn cookie(&self, slot: u64, source: &[u8]) -> [u8; COOKIE_LEN] {
        self.secret.derive(&[b"weft cookie secret", &slot.to_le_bytes()]).tag(&[source])
    }

    fn is_valid(&self, now: Instant, source: &[u8], cookie: &[u8; COOKIE_LEN]) -> bool {
        let verify = |slot: u64| {
            let secret = self.secret.derive(&[b"weft cookie secret", &slot.to_le_bytes()]);
            secret.verify(&[source], cookie)
        };
        let slot = slot(now);
        verify(slot) || slot.checked_sub(1).is_some_and(verify)
    }

    /// Answers a packet for a session that nobody here knows, by the leg it came by: writes a RESET of 48 octets to `out`
    /// and gives its length, unless too many went out of late. It names the session as the packet did, and no
    /// association: its receiver finds that by the address it comes from.
    pub fn write_reset(&mut self, now: Instant, unknown: &PacketHeader, out: &mut [u8]) -> Option<usize> {
        let is_sealed = matches!(unknown.kind, PacketKind::Data | PacketKind::Probe | PacketKind::Confirm);
        let out = out.get_mut(..PACKET_HEADER_LEN + TAG_LEN)?;
        if !is_sealed || !self.resets.take(now) {
            return None;
        }
        let header = PacketHeader {
            kind: PacketKind::Reset,
            flags: Default::default(),
            dst_cid: 0,
            number: 0,
            payload_len: 0,
            ..*unknown
        };
        header.emit(out.first_chunk_mut()?);
        out[PACKET_HEADER_LEN..].fill(0);
        self.counters.resets += 1;
        Some(out.len())
    }
}

/// The header and the cookie of a CONNECT whose form is right.
fn connect_cookie(packet: &[u8]) -> Option<(PacketHeader, [u8; COOKIE_LEN])> {
    let header = PacketHeader::parse_packet(packet).ok()?;
    ConnectParts::parse(packet).filter(|_| header.kind == PacketKind::Connect)?;
    let cookie = packet.get(PACKET_HEADER_LEN + CLEAR_LEN..)?.first_chunk()?;
    Some((header, *cookie))
}

fn slot(now: Instant) -> u64 {
    now.as_nanos() / COOKIE_SLOT.as_nanos() as u64
}

/// Lets a number of things a second pass, and as many at once after a quiet second.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    per_second: u32,
    /// What the bucket is worth, in nanoseconds of filling; a second when full.
    filled: u64,
    at: Instant,
}

const SECOND: u64 = 1_000_000_000;

impl Bucket {
    const fn new(per_second: u32) -> Self {
        Self { per_second, filled: SECOND, at: Instant::ZERO }
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.since(self.at).as_nanos().min(u128::from(SECOND)) as u64;
        self.filled = (self.filled + passed).min(SECOND);
        self.at = self.at.max(now);
    }

    fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        let price = SECOND / u64::from(self.per_second);
        let passes = self.filled >= price;
        if passes {
            self.filled -= price;
        }
        passes
    }

    fn is_half_spent(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.filled < SECOND / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_its_rate_pass_and_no_more() {
        let mut bucket = Bucket::new(10);
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        assert_eq!((0..100).filter(|_| bucket.take(at(5))).count(), 10);
        assert!(!bucket.take(at(50)));
        assert!(bucket.take(at(105)));
        assert_eq!((1000..11_000).filter(|ms| bucket.take(at(*ms))).count(), (10_999 - 105) / 100);
        assert!(!bucket.take(at(0)), "a clock that went back fills nothing");
    }
}
