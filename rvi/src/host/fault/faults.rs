//! Which faults, and how often.

use core::time::Duration;

/// The longest delay, and the longest jitter, that can be asked for.
pub const DELAY_MAX: Duration = Duration::from_secs(10);
/// The most datagrams that can be asked to overtake another.
pub const REORDER_BY_MAX: u16 = 1024;

/// How often something happens, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Probability(u32);

impl Probability {
    /// Millionths in the whole.
    const WHOLE: u32 = 1_000_000;
    /// Never.
    pub const NEVER: Self = Self(0);
    /// Each time.
    pub const ALWAYS: Self = Self(Self::WHOLE);

    /// So many out of a million times; more than a million is each time.
    #[must_use]
    pub const fn from_millionths(millionths: u32) -> Self {
        Self(if millionths > Self::WHOLE { Self::WHOLE } else { millionths })
    }

    /// How many out of a million times, 0 to 1,000,000.
    #[must_use]
    pub const fn millionths(self) -> u32 {
        self.0
    }

    /// True as often as this says, when `drawn` is uniform over all of its values.
    pub(super) const fn is_hit(self, drawn: u64) -> bool {
        let among_a_million = ((drawn >> 32) * Self::WHOLE as u64) >> 32;
        among_a_million < self.0 as u64
    }
}

/// Loss in bursts: a channel of two states, good and bad (Gilbert 1960, Elliott 1963).
///
/// In the good state [`Faults::loss`] holds, in the bad one the loss given here. The state may change with each
/// datagram: the mean burst has 1/`end` of them, and `start` / (`start` + `end`) of all are in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// A datagram in the good state begins the bad one.
    pub start: Probability,
    /// A datagram in the bad state ends it.
    pub end: Probability,
    /// A datagram in the bad state is lost.
    pub loss: Probability,
}

/// Datagrams that others overtake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reorder {
    /// A datagram is held back.
    pub probability: Probability,
    /// So many go ahead of it; 1 to [`REORDER_BY_MAX`].
    pub by: u16,
}

/// The faults of one direction. [`Faults::NONE`] has none.
///
/// The text form is a list such as `loss=5%,corrupt=1%,delay=2ms`:
///
/// | fault | says |
/// |---|---|
/// | `loss=5%` | so many datagrams are lost |
/// | `burst=0.1%/10%/90%` | so many begin a burst, so many in a burst end it, so many in a burst are lost (100 % when left out) |
/// | `corrupt=1%` | so many have one bit turned over |
/// | `duplicate=1%` | so many come twice |
/// | `reorder=2%/3` | so many are overtaken by three others (by 3 when left out) |
/// | `delay=2ms` | each comes so much later, in order |
/// | `jitter=500us` | each comes up to so much later than that, in any order |
/// | `off` | none of all this |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A datagram is lost.
    pub loss: Probability,
    /// Datagrams are lost in bursts.
    pub burst: Option<Burst>,
    /// One bit of a datagram is turned over.
    pub corrupt: Probability,
    /// A datagram comes twice.
    pub duplicate: Probability,
    /// Datagrams are overtaken.
    pub reorder: Option<Reorder>,
    /// Each datagram comes so much later; at most [`DELAY_MAX`].
    pub delay: Duration,
    /// And up to so much later than that; at most [`DELAY_MAX`].
    pub jitter: Duration,
}

impl Faults {
    /// No fault.
    pub const NONE: Self = Self {
        loss: Probability::NEVER,
        burst: None,
        corrupt: Probability::NEVER,
        duplicate: Probability::NEVER,
        reorder: None,
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
    };

    /// True when there is no fault.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}
