//! Faults that wait for a rare state: a barrier on its way, or a pair that leaves, while the control node is there or not.
//!
//! Those states last for a few hundred microseconds, so that a fault at a random time hardly ever meets them. A fault that
//! waits has a pair of two hosts come to its state, by a cut and a heal, and comes when the pair is there.

use std::time::Duration;

use vlan_core::{Instant, LegNumber};

use super::connections::{Connection, ConnectionIndex, Party};
use super::{Event, World};
use crate::coverage::{ControlState, Fault, PairState};
use crate::plan::Plan;
use crate::simulation::Simulation;

/// For so long a fault waits.
const PATIENCE: Duration = Duration::from_millis(80);
/// For so long the second node of the pair does not run, so that the state lasts until nodes have seen the control node die.
const STATE_LASTS: Duration = Duration::from_millis(40);

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitingFault {
    fault: Fault,
    pair: (usize, usize),
    state: PairState,
    control: ControlState,
    /// The pair has come to its state; what is missing is the control node's.
    is_ready: bool,
    until: Instant,
}

impl World {
    /// Has `fault` wait for a rare state of some pair of two hosts. False when there is no such pair, or one waits already.
    pub(super) fn have_fault_wait(&mut self, now: Instant, fault: Fault) -> bool {
        let Some(pair) = self.draw_pair_apart().filter(|_| self.waiting_fault.is_none()) else {
            return false;
        };
        let state = [PairState::Barrier, PairState::Leaving][self.random.below(2) as usize];
        let control = ControlState::ALL[self.random.below(3) as usize];
        let (a, b) = (Plan::number(pair.0), Plan::number(pair.1));
        self.count_fault_between(Fault::Cut, pair.0, pair.1);
        self.cut(a, b, None);
        let healed = self.soon(Duration::from_millis(20));
        self.queue.schedule(healed, Event::Heal { a, b });
        let until = now + PATIENCE;
        self.waiting_fault = Some(WaitingFault { fault, pair, state, control, is_ready: false, until });
        true
    }

    fn draw_pair_apart(&mut self) -> Option<(usize, usize)> {
        let mut pairs = self.pairs();
        pairs.retain(|(a, b)| self.plan.are_apart(*a, *b));
        if pairs.is_empty() { None } else { Some(pairs[self.random.below(pairs.len() as u64) as usize]) }
    }

    /// Lets the fault that waits come, if its pair and the control node are where it waits for them.
    pub(super) fn look_for_state(&mut self) {
        let Some(waiting) = self.waiting_fault else { return };
        let now = self.now();
        let is_there = self.pair_state(waiting.pair.0, waiting.pair.1) == waiting.state;
        if now >= waiting.until {
            self.waiting_fault = None;
        } else if is_there && !waiting.is_ready {
            self.waiting_fault = Some(WaitingFault { is_ready: true, ..waiting });
            self.make_ready(now, waiting);
        } else if is_there && self.control_state() == waiting.control {
            match waiting.fault {
                Fault::Heal => self.heal_a_leg(waiting.pair),
                Fault::ControlHangUp => {
                    let Some(leg) = self.control_leg_of(waiting.pair) else { return };
                    self.break_leg(Fault::ControlHangUp, leg);
                }
                fault => self.inject(now, fault),
            }
            self.waiting_fault = None;
        }
    }

    /// A leg in shared memory of a node of the pair to a control node. One that starts has none for a while.
    fn control_leg_of(&self, (a, b): (usize, usize)) -> Option<ConnectionIndex> {
        let nodes = [Party::Node(a), Party::Node(b)];
        let is_it = |c: &Connection| {
            c.is_whole() && matches!(c.first.party, Party::Control(_)) && nodes.contains(&c.second.party)
        };
        self.open_connections().find(|(_, c)| is_it(c)).map(|(index, _)| index)
    }

    /// The state is to last, and the control node to come to its own.
    fn make_ready(&mut self, now: Instant, waiting: WaitingFault) {
        self.pause(Party::Node(waiting.pair.1), Some(STATE_LASTS));
        let control = Party::Control(0);
        if waiting.control != ControlState::Up {
            self.count_death(Fault::ControlCrash, control);
            self.kill(now, control);
            let again = if waiting.control == ControlState::Down { 60 } else { 0 };
            let at = self.soon(Duration::from_millis(again));
            self.queue.schedule(at, Event::Start { party: control });
        }
    }

    /// A leg of a pair of two hosts is cut and healed at once.
    pub(super) fn heal_a_leg_somewhere(&mut self) {
        if let Some(pair) = self.draw_pair_apart() {
            self.heal_a_leg(pair);
        }
    }

    fn heal_a_leg(&mut self, (a, b): (usize, usize)) {
        self.cut(Plan::number(a), Plan::number(b), Some(LegNumber(0)));
        self.count_fault_between(Fault::Heal, a, b);
        self.heal(Plan::number(a), Plan::number(b));
    }
}
