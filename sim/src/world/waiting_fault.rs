//! Faults that wait for a rare state: a barrier on its way, or a pair that leaves, while the control node is there or not.
//!
//! Those states last for a few hundred microseconds, so that a fault at a random time hardly ever meets them. A fault that
//! waits has a pair of two hosts come to its state, by a cut and a heal, and comes when the pair is there.

use std::time::Duration;

use vlan_core::{Instant, LegNumber};

use super::connections::Party;
use super::{Event, World};
use crate::coverage::{ControlState, Fault, PairState};
use crate::plan::Plan;
use crate::simulation::Simulation;

/// For so long a fault waits.
const PATIENCE: Duration = Duration::from_millis(80);

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitingFault {
    fault: Fault,
    pair: (usize, usize),
    state: PairState,
    control: ControlState,
    until: Instant,
}

impl World {
    /// Has `fault` wait for a rare state of some pair of two hosts. False when there is no such pair, or one waits already.
    pub(super) fn have_fault_wait(&mut self, now: Instant, fault: Fault) -> bool {
        let mut pairs = self.pairs();
        pairs.retain(|(a, b)| self.plan.are_apart(*a, *b));
        if self.waiting_fault.is_some() || pairs.is_empty() {
            return false;
        }
        let pair = pairs[self.random.below(pairs.len() as u64) as usize];
        let state = [PairState::Barrier, PairState::Leaving][self.random.below(2) as usize];
        let control = ControlState::ALL[self.random.below(3) as usize];
        let (a, b) = (Plan::number(pair.0), Plan::number(pair.1));
        self.count_fault_between(Fault::Cut, pair.0, pair.1);
        self.cut(a, b, None);
        let healed = self.soon(Duration::from_millis(20));
        self.queue.schedule(healed, Event::Heal { a, b });
        self.waiting_fault = Some(WaitingFault { fault, pair, state, control, until: now + PATIENCE });
        true
    }

    /// Lets the fault that waits come, if its pair is where it waits for it.
    pub(super) fn look_for_state(&mut self) {
        let Some(waiting) = self.waiting_fault else { return };
        let now = self.now();
        let is_there = self.pair_state(waiting.pair.0, waiting.pair.1) == waiting.state;
        if is_there || now >= waiting.until {
            self.waiting_fault = None;
        }
        if !is_there {
            return;
        }
        self.prepare(waiting);
        let control = Party::Control(0);
        if waiting.control != ControlState::Up {
            self.count_death(Fault::ControlCrash, control);
            self.kill(now, control);
        }
        match waiting.control {
            ControlState::Up => {}
            ControlState::Down => {
                let at = self.soon(Duration::from_millis(60));
                self.queue.schedule(at, Event::Start { party: control });
            }
            ControlState::Restarting => self.start(now, control),
        }
        match waiting.fault {
            Fault::Heal => self.heal_a_leg(waiting.pair),
            // Set before the control node died, so that its hang-ups are late, too.
            Fault::LateHangUp | Fault::ConnectFailure => self.hang_up_somewhere(Fault::ControlHangUp),
            fault => self.inject(now, fault),
        }
    }

    /// What changes the weather is there before anything else happens, and the pair stays where it is until it bites.
    fn prepare(&mut self, waiting: WaitingFault) {
        if matches!(waiting.fault, Fault::LateHangUp | Fault::ConnectFailure) {
            self.pause(Party::Node(waiting.pair.1), Some(Duration::from_millis(15)));
            self.inject(self.now(), waiting.fault);
        }
    }

    /// A leg of the pair is cut and healed at once.
    fn heal_a_leg(&mut self, (a, b): (usize, usize)) {
        self.cut(Plan::number(a), Plan::number(b), Some(LegNumber(0)));
        self.count_fault_between(Fault::Heal, a, b);
        self.heal(Plan::number(a), Plan::number(b));
    }
}
