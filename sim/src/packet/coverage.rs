//! How often each fault met each state of the association: a cell that stays zero over all seeds is a gap.

use std::fmt;

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Independent loss of 5 to 50 %.
    Loss,
    /// Loss in bursts.
    Bursts,
    /// Bits turned over.
    Corruption,
    /// Packets twice.
    Duplication,
    /// Packets overtaken.
    Reordering,
    /// Every packet takes up to 10 ms longer.
    DelaySpike,
    /// One direction of a leg dies.
    OneWayDeath,
    /// A leg dies.
    LegDeath,
    /// All direct legs die.
    AllLegsDeath,
    /// Every leg dies, the relay too.
    Partition,
    /// A leg comes and goes.
    Flapping,
    /// The cables of the two fabrics are exchanged.
    CrossedFabrics,
    /// The relay dies.
    RelayDeath,
    /// A leg carries next to nothing any more: not even packets of the base length.
    ShrunkPath,
    /// Packets above some length, which the base is not, vanish: one way or both.
    BlackHole,
    /// The host takes a leg away and gives it back.
    LegRemoved,
    /// A clock runs at another rate.
    ClockSkew,
    /// Timers come up to 3 ms late.
    LateTimers,
    /// A process does not run for 1 to 200 ms.
    Pause,
    /// A process dies and comes back.
    Crash,
    /// A receiver keeps what it got.
    SlowConsumer,
    /// A receiver settles nothing.
    Withheld,
}

impl Fault {
    /// Every fault, in the order of the table.
    pub const ALL: [Self; 22] = [
        Self::Loss,
        Self::Bursts,
        Self::Corruption,
        Self::Duplication,
        Self::Reordering,
        Self::DelaySpike,
        Self::OneWayDeath,
        Self::LegDeath,
        Self::AllLegsDeath,
        Self::Partition,
        Self::Flapping,
        Self::CrossedFabrics,
        Self::RelayDeath,
        Self::ShrunkPath,
        Self::BlackHole,
        Self::LegRemoved,
        Self::ClockSkew,
        Self::LateTimers,
        Self::Pause,
        Self::Crash,
        Self::SlowConsumer,
        Self::Withheld,
    ];

    /// The name in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Bursts => "bursts",
            Self::Corruption => "corruption",
            Self::Duplication => "duplication",
            Self::Reordering => "reordering",
            Self::DelaySpike => "delay spike",
            Self::OneWayDeath => "one-way death",
            Self::LegDeath => "leg death",
            Self::AllLegsDeath => "all direct legs die",
            Self::Partition => "partition",
            Self::Flapping => "flapping",
            Self::CrossedFabrics => "crossed fabrics",
            Self::RelayDeath => "relay death",
            Self::ShrunkPath => "shrunk path",
            Self::BlackHole => "black hole",
            Self::LegRemoved => "leg removed",
            Self::ClockSkew => "clock skew",
            Self::LateTimers => "late timers",
            Self::Pause => "pause",
            Self::Crash => "crash",
            Self::SlowConsumer => "slow consumer",
            Self::Withheld => "settling withheld",
        }
    }
}

/// What the association was like at one end when a fault came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Everything that was sent is acknowledged.
    Drained,
    /// Every direct leg is GOOD.
    Good,
    /// A leg is SUSPECT, another GOOD.
    Suspect,
    /// A leg is DOWN, another GOOD.
    OneDown,
    /// No direct leg is GOOD.
    NoneGood,
    /// Nothing answers, not even the relay.
    Stalled,
    /// The other end's credit, or room to keep messages, is used up.
    Full,
    /// No session: one of the two has died.
    NoSession,
}

impl State {
    /// Every state, in the order of the table.
    pub const ALL: [Self; 8] = [
        Self::Drained,
        Self::Good,
        Self::Suspect,
        Self::OneDown,
        Self::NoneGood,
        Self::Stalled,
        Self::Full,
        Self::NoSession,
    ];

    /// The name in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::Good => "good",
            Self::Suspect => "suspect",
            Self::OneDown => "one down",
            Self::NoneGood => "none good",
            Self::Stalled => "stalled",
            Self::Full => "full",
            Self::NoSession => "no session",
        }
    }
}

const CELLS: usize = Fault::ALL.len() * State::ALL.len();

/// Counts for every pair of fault and state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage([u64; CELLS]);

impl Default for Coverage {
    fn default() -> Self {
        Self([0; CELLS])
    }
}

impl Coverage {
    /// Counts a meeting.
    pub fn count(&mut self, fault: Fault, state: State) {
        self.0[Self::cell(fault, state)] += 1;
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine += theirs;
        }
    }

    /// How often this fault met this state.
    #[must_use]
    pub fn of(&self, fault: Fault, state: State) -> u64 {
        self.0[Self::cell(fault, state)]
    }

    /// The cells that are zero.
    pub fn gaps(&self) -> impl Iterator<Item = (Fault, State)> + '_ {
        let cells = Fault::ALL.into_iter().flat_map(|f| State::ALL.map(|s| (f, s)));
        cells.filter(|(fault, state)| self.of(*fault, *state) == 0)
    }

    const fn cell(fault: Fault, state: State) -> usize {
        fault as usize * State::ALL.len() + state as usize
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:20}", "fault \\ state")?;
        for state in State::ALL {
            write!(f, " {:>10}", state.name())?;
        }
        for fault in Fault::ALL {
            write!(f, "\n{:20}", fault.name())?;
            for state in State::ALL {
                write!(f, " {:>10}", self.of(fault, state))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meeting_is_counted_in_its_own_cell_and_the_rest_are_gaps() {
        let mut coverage = Coverage::default();
        coverage.count(Fault::Withheld, State::NoSession);
        assert_eq!(coverage.gaps().count(), CELLS - 1);
        let mut sum = coverage.clone();
        sum.add(&coverage);
        assert_eq!(sum.of(Fault::Withheld, State::NoSession), 2);
        assert_eq!(sum.to_string().lines().count(), 1 + Fault::ALL.len());
    }
}
