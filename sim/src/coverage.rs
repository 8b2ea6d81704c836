//! How often each fault met each state: a cell that stays zero over all seeds is a gap in the simulation.

use std::fmt;

/// What can be done to a fabric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A node's process dies.
    NodeCrash,
    /// A control node's process dies between two of its batches.
    ControlCrash,
    /// A control node's process dies within a batch, after some of its steps.
    ControlCrashInBatch,
    /// The administrator cuts all legs of a pair.
    Cut,
    /// The administrator cuts one leg of a pair.
    CutLeg,
    /// The administrator heals a pair.
    Heal,
    /// The socket of one leg between two nodes hangs up.
    PairHangUp,
    /// The socket of one leg to a control node hangs up.
    ControlHangUp,
    /// A process does not run for 1 to 200 ms.
    Pause,
    /// A process takes one to four messages in a batch.
    SmallBudget,
    /// A process's timers come up to 3 ms late.
    LateTimers,
    /// Notices of a hang-up come late.
    LateHangUp,
    /// Attempts to connect to a control node fail.
    ConnectFailure,
    /// One end of a new leg between nodes gets it much later than the other, or never.
    LateIntroduction,
    /// A device refuses frames.
    DeviceFull,
    /// Rings and arena are so small that they are full.
    Starved,
    /// A node writes what it likes into its legs.
    Hostile,
    /// A node's process is asked to end, and leaves in order.
    Leave,
}

impl Fault {
    /// Every fault, in the order of the table.
    pub const ALL: [Self; 18] = [
        Self::NodeCrash,
        Self::ControlCrash,
        Self::ControlCrashInBatch,
        Self::Cut,
        Self::CutLeg,
        Self::Heal,
        Self::PairHangUp,
        Self::ControlHangUp,
        Self::Pause,
        Self::SmallBudget,
        Self::LateTimers,
        Self::LateHangUp,
        Self::ConnectFailure,
        Self::LateIntroduction,
        Self::DeviceFull,
        Self::Starved,
        Self::Hostile,
        Self::Leave,
    ];

    /// The name in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NodeCrash => "node crash",
            Self::ControlCrash => "control crash",
            Self::ControlCrashInBatch => "control crash in batch",
            Self::Cut => "cut",
            Self::CutLeg => "cut leg",
            Self::Heal => "heal",
            Self::PairHangUp => "pair leg hang-up",
            Self::ControlHangUp => "control leg hang-up",
            Self::Pause => "pause",
            Self::SmallBudget => "small budget",
            Self::LateTimers => "late timers",
            Self::LateHangUp => "late hang-up",
            Self::ConnectFailure => "connect failure",
            Self::LateIntroduction => "late introduction",
            Self::DeviceFull => "device full",
            Self::Starved => "starved rings",
            Self::Hostile => "hostile node",
            Self::Leave => "orderly end",
        }
    }
}

/// The state of a pair of nodes when a fault came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PairState {
    /// No association: frames go by relay, or nowhere.
    Relay,
    /// A barrier is on its way.
    Barrier,
    /// Direct, over one leg.
    DirectOneLeg,
    /// Direct, over two legs.
    DirectTwoLegs,
    /// The direct RVI is closing.
    Leaving,
    /// One of the two does not live.
    Dead,
}

impl PairState {
    /// Every state, in the order of the table.
    pub const ALL: [Self; 6] =
        [Self::Relay, Self::Barrier, Self::DirectOneLeg, Self::DirectTwoLegs, Self::Leaving, Self::Dead];

    /// The name in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Barrier => "barrier",
            Self::DirectOneLeg => "one leg",
            Self::DirectTwoLegs => "two legs",
            Self::Leaving => "leaving",
            Self::Dead => "dead",
        }
    }
}

/// The state of the control node when a fault came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ControlState {
    /// It lives and every living node is attached.
    Up,
    /// It does not live.
    Down,
    /// It lives and not every living node is attached yet.
    Restarting,
}

impl ControlState {
    /// Every state, in the order of the table.
    pub const ALL: [Self; 3] = [Self::Up, Self::Down, Self::Restarting];

    /// The name in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Restarting => "restarting",
        }
    }
}

const CELLS: usize = Fault::ALL.len() * PairState::ALL.len() * ControlState::ALL.len();

/// Counts of fault, pair state and control node state met together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage([u64; CELLS]);

impl Default for Coverage {
    fn default() -> Self {
        Self([0; CELLS])
    }
}

impl Coverage {
    /// Counts one meeting.
    pub fn count(&mut self, fault: Fault, pair: PairState, control: ControlState) {
        self.0[Self::cell(fault, pair, control)] += 1;
    }

    /// How often these met.
    #[must_use]
    pub fn of(&self, fault: Fault, pair: PairState, control: ControlState) -> u64 {
        self.0[Self::cell(fault, pair, control)]
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        for (cell, more) in self.0.iter_mut().zip(other.0) {
            *cell += more;
        }
    }

    /// Why a fault cannot meet these states; none when it can.
    #[must_use]
    pub const fn impossible(fault: Fault, pair: PairState, control: ControlState) -> Option<&'static str> {
        match (fault, pair, control) {
            (Fault::ControlCrash | Fault::ControlCrashInBatch, _, ControlState::Down) => {
                Some("a dead process does not die")
            }
            (Fault::ControlHangUp, _, ControlState::Down) => Some("a dead control node has no legs"),
            (Fault::LateIntroduction, _, ControlState::Down) => Some("a dead control node introduces nobody"),
            (Fault::PairHangUp, PairState::Dead, _) => Some("a dead node has no legs"),
            (Fault::PairHangUp, PairState::Leaving, _) => Some("every leg of a leaving pair has been left"),
            _ => None,
        }
    }

    /// The meetings that never happened and could have.
    pub fn gaps(&self) -> impl Iterator<Item = (Fault, PairState, ControlState)> + '_ {
        Fault::ALL
            .into_iter()
            .flat_map(|f| PairState::ALL.into_iter().map(move |p| (f, p)))
            .flat_map(|(f, p)| ControlState::ALL.into_iter().map(move |c| (f, p, c)))
            .filter(|&(f, p, c)| self.of(f, p, c) == 0 && Self::impossible(f, p, c).is_none())
    }

    /// The count, or a dash where there can be none.
    fn cell_text(&self, fault: Fault, pair: PairState, control: ControlState) -> String {
        match (self.of(fault, pair, control), Self::impossible(fault, pair, control)) {
            (0, Some(_)) => "-".to_string(),
            (count, _) => count.to_string(),
        }
    }

    fn cell(fault: Fault, pair: PairState, control: ControlState) -> usize {
        (fault as usize * PairState::ALL.len() + pair as usize) * ControlState::ALL.len() + control as usize
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:23}", "fault \\ pair, control")?;
        for pair in PairState::ALL {
            write!(f, "| {:^20} ", pair.name())?;
        }
        write!(f, "\n{:23}", "")?;
        for _ in PairState::ALL {
            write!(f, "| {:>6} {:>6} {:>6} ", "up", "down", "rest.")?;
        }
        for fault in Fault::ALL {
            write!(f, "\n{:23}", fault.name())?;
            for pair in PairState::ALL {
                let [up, down, restarting] = ControlState::ALL.map(|c| self.cell_text(fault, pair, c));
                write!(f, "| {up:>6} {down:>6} {restarting:>6} ")?;
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
        coverage.count(Fault::Hostile, PairState::Dead, ControlState::Restarting);
        // Six pair states of four faults without a control node, and the legs of the dead and of those who leave.
        let impossible = 6 * 4 + 2 * 3;
        assert_eq!(coverage.gaps().count(), CELLS - impossible - 1);
        assert!(coverage.to_string().contains(" - "));
        let mut sum = coverage.clone();
        sum.add(&coverage);
        assert_eq!(sum.of(Fault::Hostile, PairState::Dead, ControlState::Restarting), 2);
        assert_eq!(sum.to_string().lines().count(), 2 + Fault::ALL.len());
    }
}
