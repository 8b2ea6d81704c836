//! Limits of what an interface may send: how many frames and bits a second, of each kind and in all (E13).
//!
//! A bucket is kept as the time at which it will be full again (the virtual scheduling of ITU-T I.371, annex A): a frame
//! passes while that lies no further ahead than a burst lasts, and puts it off by what the frame costs.

use core::time::Duration;

use crate::address::MacAddress;
use crate::drop_reason::DropReason;
use crate::limits::ETHERNET_HEADER_LEN;
use crate::time::Instant;
use crate::wire::frame::Vnet;

/// How much may come at once: what comes in this time at the rate. An interface that is read in batches sends so.
pub const BURST: Duration = Duration::from_millis(100);

/// How many frames and bits a second; none is any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Frames a second.
    pub frames: Option<u64>,
    /// Bits a second.
    pub bits: Option<u64>,
}

/// The limits of one interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Of broadcast frames.
    pub broadcast: Rate,
    /// Of frames to other groups.
    pub multicast: Rate,
    /// Of frames to addresses that no member has.
    pub unknown: Rate,
    /// Of all frames.
    pub total: Rate,
}

/// What a frame counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    frames: u64,
    bits: u64,
}

impl Cost {
    /// A super-frame counts for the frames that it will be cut into, each with its headers.
    #[inline]
    #[must_use]
    pub fn of(vnet: &Vnet, frame_len: usize) -> Self {
        let headers = usize::from(vnet.hdr_len).max(ETHERNET_HEADER_LEN);
        let payload = frame_len.saturating_sub(headers);
        let frames = match usize::from(vnet.gso_size) {
            size if vnet.gso_type != 0 && size > 0 => payload.div_ceil(size).max(1),
            _ => 1,
        };
        Self { frames: frames as u64, bits: (frame_len + (frames - 1) * headers) as u64 * 8 }
    }
}

/// A token bucket.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Units a second.
    rate: u64,
    /// When it is full again.
    full_at: Instant,
}

impl Bucket {
    fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), full_at: Instant::ZERO }
    }

    fn has_room(&self, now: Instant) -> bool {
        self.full_at <= now + BURST
    }

    /// Also when there is no room: the caller has asked.
    fn take(&mut self, now: Instant, units: u64) {
        let nanos = u128::from(units) * 1_000_000_000 / u128::from(self.rate);
        // A frame of 64 KiB at one bit a second takes six days.
        let wait = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX >> 2).min(u64::MAX >> 2));
        self.full_at = self.full_at.max(now) + wait;
    }
}

/// The buckets of a rate.
#[derive(Clone, Copy, Debug, Default)]
struct Meter {
    frames: Option<Bucket>,
    bits: Option<Bucket>,
}

impl Meter {
    fn new(rate: Rate) -> Self {
        Self { frames: rate.frames.map(Bucket::new), bits: rate.bits.map(Bucket::new) }
    }

    fn has_room(&self, now: Instant) -> bool {
        self.frames.is_none_or(|bucket| bucket.has_room(now))
            && self.bits.is_none_or(|bucket| bucket.has_room(now))
    }

    fn take(&mut self, now: Instant, cost: Cost) {
        if let Some(bucket) = &mut self.frames {
            bucket.take(now, cost.frames);
        }
        if let Some(bucket) = &mut self.bits {
            bucket.take(now, cost.bits);
        }
    }
}

/// Where a frame goes, for the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To everybody.
    Broadcast,
    /// To another group.
    Multicast,
    /// To a station that no member is.
    Unknown,
    /// To a member.
    Unicast,
}

impl Kind {
    /// The kind of a frame to a group.
    #[must_use]
    pub fn of_group(destination: MacAddress) -> Self {
        if destination == MacAddress::BROADCAST { Self::Broadcast } else { Self::Multicast }
    }
}

/// What an interface has sent, held against its limits.
#[derive(Clone, Debug)]
pub struct Meters {
    broadcast: Meter,
    multicast: Meter,
    unknown: Meter,
    total: Meter,
}

impl Meters {
    /// Full buckets; none where nothing is limited.
    #[must_use]
    pub fn new(limits: &Limits) -> Option<Self> {
        let meters = Self {
            broadcast: Meter::new(limits.broadcast),
            multicast: Meter::new(limits.multicast),
            unknown: Meter::new(limits.unknown),
            total: Meter::new(limits.total),
        };
        (*limits != Limits::default()).then_some(meters)
    }

    /// Takes a frame off the buckets of its kind and of all frames.
    ///
    /// # Errors
    /// When one of them is empty; then it is taken off none.
    //= spec/port-security.md#limits
    //# A frame beyond a limit of its sender MUST be discarded: the limits of broadcast, multicast and unknown unicast frames
    //# and of all frames hold each by itself, in frames and in bits a second.
    pub fn take(&mut self, now: Instant, kind: Kind, cost: Cost) -> Result<(), DropReason> {
        self.admits(now, kind)?;
        self.note(now, kind, cost);
        Ok(())
    }

    /// Whether a frame of this kind may pass, and takes it off nothing yet.
    ///
    /// # Errors
    /// When the bucket of its kind, or of all frames, is empty.
    pub fn admits(&self, now: Instant, kind: Kind) -> Result<(), DropReason> {
        let (meter, reason) = match kind {
            Kind::Broadcast => (Some(&self.broadcast), DropReason::LimitBroadcast),
            Kind::Multicast => (Some(&self.multicast), DropReason::LimitMulticast),
            Kind::Unknown => (Some(&self.unknown), DropReason::LimitUnknown),
            Kind::Unicast => (None, DropReason::LimitTotal),
        };
        if meter.is_some_and(|meter| !meter.has_room(now)) {
            return Err(reason);
        }
        if !self.total.has_room(now) {
            return Err(DropReason::LimitTotal);
        }
        Ok(())
    }

    /// Takes a frame that has passed off the buckets.
    pub fn note(&mut self, now: Instant, kind: Kind, cost: Cost) {
        match kind {
            Kind::Broadcast => self.broadcast.take(now, cost),
            Kind::Multicast => self.multicast.take(now, cost),
            Kind::Unknown => self.unknown.take(now, cost),
            Kind::Unicast => {}
        }
        self.total.take(now, cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second() -> Instant {
        Instant::ZERO + Duration::from_secs(100)
    }

    /// Offers a frame each `every` for two seconds, and says how many pass.
    fn passed(meters: &mut Meters, kind: Kind, every: Duration, cost: Cost) -> usize {
        let steps = Duration::from_secs(2).as_nanos() / every.as_nanos();
        let at = |step| second() + every * step as u32;
        (0..steps).filter(|&step| meters.take(at(step), kind, cost).is_ok()).count()
    }

    fn plain(len: usize) -> Cost {
        Cost::of(&Vnet::default(), len)
    }

    #[test]
    fn each_limit_holds_by_itself() {
        //= spec/port-security.md#limits
        //= type=test
        //# A frame beyond a limit of its sender MUST be discarded: the limits of broadcast, multicast and unknown unicast frames
        //# and of all frames hold each by itself, in frames and in bits a second.
        let frames = |frames| Rate { frames: Some(frames), bits: None };
        let bits = |bits| Rate { frames: None, bits: Some(bits) };
        let one = |limits: Limits| Meters::new(&limits).unwrap();
        let fast = Duration::from_micros(50);
        // Two seconds and a tenth at once, and the one that has found the last room.
        let expected = 210..=211;
        for (limits, kind) in [
            (Limits { broadcast: frames(100), ..Limits::default() }, Kind::Broadcast),
            (Limits { multicast: frames(100), ..Limits::default() }, Kind::Multicast),
            (Limits { unknown: frames(100), ..Limits::default() }, Kind::Unknown),
            (Limits { total: frames(100), ..Limits::default() }, Kind::Unicast),
            (Limits { total: bits(100 * 8000), ..Limits::default() }, Kind::Unicast),
            (Limits { broadcast: bits(100 * 8000), ..Limits::default() }, Kind::Broadcast),
        ] {
            let passed_all = passed(&mut one(limits), kind, fast, plain(1000));
            assert!(expected.contains(&passed_all), "{limits:?}: {passed_all}");
            let slow = passed(&mut one(limits), kind, Duration::from_millis(10), plain(1000));
            assert_eq!(slow, 200, "{limits:?}: as many as the limit pass");
        }
        let broadcast = Limits { broadcast: frames(100), ..Limits::default() };
        assert_eq!(passed(&mut one(broadcast), Kind::Unicast, fast, plain(1000)), 40_000);
        assert_eq!(passed(&mut one(broadcast), Kind::Multicast, fast, plain(1000)), 40_000);
        assert!(Meters::new(&Limits::default()).is_none());
    }

    #[test]
    fn a_drop_says_which_limit() {
        let rate = Rate { frames: Some(1), bits: None };
        let limits = Limits { broadcast: rate, multicast: rate, unknown: rate, total: Rate::default() };
        for (kind, reason) in [
            (Kind::Broadcast, DropReason::LimitBroadcast),
            (Kind::Multicast, DropReason::LimitMulticast),
            (Kind::Unknown, DropReason::LimitUnknown),
        ] {
            let mut meters = Meters::new(&limits).unwrap();
            assert_eq!(meters.take(second(), kind, plain(60)), Ok(()));
            assert_eq!(meters.take(second(), kind, plain(60)), Err(reason));
        }
        let mut meters = Meters::new(&Limits { total: rate, ..Limits::default() }).unwrap();
        assert_eq!(meters.take(second(), Kind::Broadcast, plain(60)), Ok(()));
        assert_eq!(meters.take(second(), Kind::Broadcast, plain(60)), Err(DropReason::LimitTotal));
    }

    #[test]
    fn a_super_frame_counts_for_the_frames_that_it_is_cut_into() {
        let vnet = Vnet { gso_type: 1, gso_size: 1400, hdr_len: 54, ..Vnet::default() };
        assert_eq!(Cost::of(&vnet, 54 + 14_000), Cost { frames: 10, bits: (10 * 54 + 14_000) * 8 });
        assert_eq!(Cost::of(&vnet, 54 + 14_001).frames, 11);
        assert_eq!(plain(60), Cost { frames: 1, bits: 480 });
        let hostile = Vnet { gso_size: 1, hdr_len: 0, ..vnet };
        assert_eq!(Cost::of(&hostile, 65_000).frames, 64_986);
    }

    #[test]
    fn no_rate_and_no_length_overflow() {
        for rate in [1, u64::MAX] {
            let rate = Rate { frames: Some(rate), bits: Some(rate) };
            let mut meters = Meters::new(&Limits { total: rate, ..Limits::default() }).unwrap();
            for _ in 0..100 {
                let _ = meters.take(second(), Kind::Unicast, plain(65_553));
            }
        }
    }
}
