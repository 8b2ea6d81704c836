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
    /// A control node's process is asked to end, and tells its nodes.
    ControlLeave,
    /// A station begins to listen promiscuously, or ends.
    Listening,
    /// A station joins multicast groups, or leaves them.
    Joining,
    /// Another file is applied: a node, a member or a LAN goes or comes, or options change.
    Apply,
    /// The servers of a cluster on a node drain, or take new flows again.
    Drain,
    /// Their ports are closed, or open again.
    Service,
    /// Packets of a host are lost, independently of each other.
    Loss,
    /// Packets of a host are lost in bursts.
    Bursts,
    /// Bits of packets are turned over.
    Corruption,
    /// Packets come twice.
    Duplication,
    /// Packets are overtaken.
    Reordering,
    /// Packets take up to 10 ms longer.
    DelaySpike,
    /// One direction of a host's way to a fabric is dead.
    OneWayDeath,
    /// A host's way to a fabric is dead.
    PortDeath,
    /// A host is on no fabric.
    Isolation,
}

impl Fault {
    /// What can be done to processes and memory, in the order of the table.
    pub const ON_ONE_HOST: [Self; 24] = [
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
        Self::ControlLeave,
        Self::Listening,
        Self::Joining,
        Self::Apply,
        Self::Drain,
        Self::Service,
    ];

    /// Faults that not every plan has, drawn apart from the others.
    pub const DRAWN_APART: [Self; 5] =
        [Self::Listening, Self::Joining, Self::Apply, Self::Drain, Self::Service];

    /// What can be done to fabrics between hosts, in the order of the table.
    pub const OF_FABRICS: [Self; 9] = [
        Self::Loss,
        Self::Bursts,
        Self::Corruption,
        Self::Duplication,
        Self::Reordering,
        Self::DelaySpike,
        Self::OneWayDeath,
        Self::PortDeath,
        Self::Isolation,
    ];

    /// Every fault, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        Self::ON_ONE_HOST.into_iter().chain(Self::OF_FABRICS)
    }

    /// True when it concerns only those whose legs are packets.
    #[must_use]
    pub fn is_of_fabrics(self) -> bool {
        Self::OF_FABRICS.contains(&self)
    }

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
            Self::ControlLeave => "control orderly end",
            Self::Listening => "listening",
            Self::Joining => "joining",
            Self::Apply => "apply",
            Self::Drain => "drain",
            Self::Service => "service",
            Self::Loss => "loss",
            Self::Bursts => "bursts",
            Self::Corruption => "corruption",
            Self::Duplication => "duplication",
            Self::Reordering => "reordering",
            Self::DelaySpike => "delay spike",
            Self::OneWayDeath => "one-way death",
            Self::PortDeath => "port death",
            Self::Isolation => "isolation",
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

/// What the legs of a pair of nodes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Shared memory: both are on the host of the control nodes.
    Memory,
    /// Packets: one at least is on a host of its own.
    Packets,
}

impl Way {
    /// Both, in the order of the tables.
    pub const ALL: [Self; 2] = [Self::Memory, Self::Packets];

    /// The title of its table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "pairs of one host",
            Self::Packets => "pairs of two hosts",
        }
    }
}

/// The states of a pair and of the control node when a fault came, and what the pair's legs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Met {
    /// What the pair's legs are.
    pub way: Way,
    /// The pair.
    pub pair: PairState,
    /// The control node.
    pub control: ControlState,
}

impl Met {
    /// Every one, in the order of the tables.
    fn all() -> impl Iterator<Item = Self> {
        let pairs = |way| PairState::ALL.into_iter().map(move |pair| (way, pair));
        let pairs = Way::ALL.into_iter().flat_map(pairs);
        pairs.flat_map(|(way, pair)| {
            ControlState::ALL.into_iter().map(move |control| Self { way, pair, control })
        })
    }

    const fn place(self) -> usize {
        (self.way as usize * PairState::ALL.len() + self.pair as usize) * ControlState::ALL.len()
            + self.control as usize
    }
}

const STATES: usize = Way::ALL.len() * PairState::ALL.len() * ControlState::ALL.len();
const FAULTS: usize = Fault::ON_ONE_HOST.len() + Fault::OF_FABRICS.len();
const CELLS: usize = FAULTS * STATES;

/// Counts of fault, pair state and control node state met together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    cells: [u64; CELLS],
    /// By fault and pair state: meetings with pairs of which one node listened promiscuously.
    listened: [[u64; PairState::ALL.len()]; FAULTS],
}

impl Default for Coverage {
    fn default() -> Self {
        Self { cells: [0; CELLS], listened: [[0; PairState::ALL.len()]; FAULTS] }
    }
}

impl Coverage {
    /// Counts one meeting.
    pub fn count(&mut self, fault: Fault, met: Met) {
        self.cells[Self::cell(fault, met)] += 1;
    }

    /// Counts a meeting with a pair of which one node listens promiscuously.
    pub fn count_listened(&mut self, fault: Fault, pair: PairState) {
        self.listened[fault as usize][pair as usize] += 1;
    }

    /// How often a fault met a pair in this state of which one node listened.
    #[must_use]
    pub fn listened(&self, fault: Fault, pair: PairState) -> u64 {
        self.listened[fault as usize][pair as usize]
    }

    /// How often these met.
    #[must_use]
    pub fn of(&self, fault: Fault, met: Met) -> u64 {
        self.cells[Self::cell(fault, met)]
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        for (cell, more) in self.cells.iter_mut().zip(other.cells) {
            *cell += more;
        }
        for (cell, more) in self.listened.iter_mut().flatten().zip(other.listened.iter().flatten()) {
            *cell += more;
        }
    }

    /// Why a fault cannot meet these states; none when it can.
    #[must_use]
    pub fn impossible(fault: Fault, met: Met) -> Option<&'static str> {
        match (fault, met.way, met.pair, met.control) {
            (fault, Way::Memory, ..) if fault.is_of_fabrics() => Some("no fabric is between them"),
            (Fault::PairHangUp | Fault::LateIntroduction, Way::Packets, ..) => {
                Some("packet legs have no sockets")
            }
            (
                Fault::ControlCrash | Fault::ControlCrashInBatch | Fault::ControlLeave,
                _,
                _,
                ControlState::Down,
            ) => Some("a dead process does not end"),
            (Fault::ControlHangUp, _, _, ControlState::Down) => Some("a dead control node has no legs"),
            (Fault::LateIntroduction, _, _, ControlState::Down) => {
                Some("a dead control node introduces nobody")
            }
            (Fault::PairHangUp, _, PairState::Dead, _) => Some("a dead node has no legs"),
            (Fault::PairHangUp, _, PairState::Leaving, _) => {
                Some("every leg of a leaving pair has been left")
            }
            _ => None,
        }
    }

    /// The meetings that never happened and could have.
    pub fn gaps(&self) -> impl Iterator<Item = (Fault, Met)> + '_ {
        Fault::all()
            .flat_map(|fault| Met::all().map(move |met| (fault, met)))
            .filter(|&(fault, met)| self.of(fault, met) == 0 && Self::impossible(fault, met).is_none())
    }

    /// The count, or a dash where there can be none.
    fn cell_text(&self, fault: Fault, met: Met) -> String {
        match (self.of(fault, met), Self::impossible(fault, met)) {
            (0, Some(_)) => "-".to_string(),
            (count, _) => count.to_string(),
        }
    }

    fn cell(fault: Fault, met: Met) -> usize {
        fault as usize * STATES + met.place()
    }

    fn write_table(&self, f: &mut fmt::Formatter<'_>, way: Way) -> fmt::Result {
        write!(f, "{:23}", way.name())?;
        for pair in PairState::ALL {
            write!(f, "| {:^20} ", pair.name())?;
        }
        write!(f, "\n{:23}", "fault \\ pair, control")?;
        for _ in PairState::ALL {
            write!(f, "| {:>6} {:>6} {:>6} ", "up", "down", "rest.")?;
        }
        for fault in Fault::all().filter(|fault| way == Way::Packets || !fault.is_of_fabrics()) {
            write!(f, "\n{:23}", fault.name())?;
            for pair in PairState::ALL {
                let text = |control| self.cell_text(fault, Met { way, pair, control });
                let [up, down, restarting] = ControlState::ALL.map(text);
                write!(f, "| {up:>6} {down:>6} {restarting:>6} ")?;
            }
        }
        Ok(())
    }
}

impl Coverage {
    fn write_listened(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:23}", "pairs with a listener")?;
        for pair in PairState::ALL {
            write!(f, "| {:>9} ", pair.name())?;
        }
        for fault in Fault::all() {
            write!(f, "\n{:23}", fault.name())?;
            for pair in PairState::ALL {
                write!(f, "| {:>9} ", self.listened(fault, pair))?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_table(f, Way::Memory)?;
        f.write_str("\n\n")?;
        self.write_table(f, Way::Packets)?;
        f.write_str("\n\n")?;
        self.write_listened(f)
    }
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} / {} / {}", self.way.name(), self.pair.name(), self.control.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meeting_is_counted_in_its_own_cell_and_the_rest_are_gaps() {
        let mut coverage = Coverage::default();
        let met = Met { way: Way::Packets, pair: PairState::Dead, control: ControlState::Restarting };
        coverage.count(Fault::Hostile, met);
        let all = coverage.gaps().count();
        assert!(!coverage.gaps().any(|gap| gap == (Fault::Hostile, met)));
        // Six pair states of five faults without a control node, and the legs of the dead and of those who leave.
        let of_memory = 6 * 5 + 2 * 3 + 9 * 18;
        // Six pair states of four faults without a control node, and two faults of sockets.
        let of_packets = 6 * 4 + 2 * 18;
        assert_eq!(all, CELLS - of_memory - of_packets - 1);
        assert!(coverage.to_string().contains(" - "));
        let mut sum = coverage.clone();
        sum.add(&coverage);
        assert_eq!(sum.of(Fault::Hostile, met), 2);
        assert_eq!(sum.to_string().lines().count(), 2 + 24 + 1 + 2 + 33 + 1 + 1 + 33);
        coverage.count_listened(Fault::Cut, PairState::Barrier);
        sum.add(&coverage);
        let of = |pair| sum.listened(Fault::Cut, pair);
        assert_eq!((of(PairState::Barrier), of(PairState::Relay)), (1, 0));
    }
}
