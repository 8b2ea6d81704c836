//! What scripted scenarios do to a world, and what they expect of it.

use std::time::Duration;

use vlan_core::{DropReason, LegNumber};

use super::World;
use super::connections::Party;
use super::faults::Undo;
use crate::checker::Violation;
use crate::coverage::{Fault, PairState};
use crate::simulation::Simulation;

impl World {
    /// The control node dies now.
    pub fn kill_control(&mut self) {
        self.count_death(Fault::ControlCrash, Party::Control(0));
        let now = self.now();
        self.kill(now, Party::Control(0));
    }

    /// A control node dies in its next batch that takes something, and is never started again.
    pub fn lose_control_for_good(&mut self, control: usize) {
        self.count_death(Fault::ControlCrash, Party::Control(control));
        self.controls[control].is_lost_for_good = true;
        self.controls[control].undo_at_death = Some(Undo::Settling);
    }

    /// The control node dies after this many more calls into its machine.
    pub fn kill_control_after_calls(&mut self, calls: u32) {
        self.count_death(Fault::ControlCrash, Party::Control(0));
        self.schedule(Party::Control(0)).dies_after = Some(calls);
        self.wake(Party::Control(0));
    }

    /// The control node dies in its next batch that takes something: before it has published what it forwarded,
    /// or after that and before it has settled it with the senders.
    pub fn kill_control_in_next_batch(&mut self, before_publishing: bool) {
        self.count_death(Fault::ControlCrashInBatch, Party::Control(0));
        let undo = if before_publishing { Undo::Everything } else { Undo::Settling };
        self.controls[0].undo_at_death = Some(undo);
    }

    /// The control node's process is asked to end, and ends in order.
    pub fn stop_control(&mut self) {
        self.ask_control_to_end(0);
    }

    /// Every node must know that no control node serves it.
    ///
    /// # Errors
    /// When one does not.
    pub fn expect_detached(&self) -> Result<(), Violation> {
        let is_attached =
            |node: &usize| self.nodes[*node].machine.as_ref().is_some_and(|machine| machine.is_attached());
        match (0..self.nodes.len()).find(is_attached) {
            None => Ok(()),
            Some(node) => {
                let detail = format!("node {node} was not told that its control node has ended");
                Err(Violation { invariant: "the end of a control node", at: self.now(), detail })
            }
        }
    }

    /// The control node is started again, unless it lives.
    pub fn start_control_again(&mut self) {
        let now = self.now();
        self.start(now, Party::Control(0));
    }

    /// A node dies now.
    pub fn kill_node_at(&mut self, node: usize) {
        self.count_death(Fault::NodeCrash, Party::Node(node));
        let now = self.now();
        self.kill(now, Party::Node(node));
    }

    /// A node's process is asked to end, and leaves in order.
    pub fn stop_node_at(&mut self, node: usize) {
        self.ask_to_end(node);
    }

    /// True while a process serves the node.
    #[must_use]
    pub fn is_alive(&self, node: usize) -> bool {
        self.nodes[node].machine.is_some()
    }

    /// Everything that the stations of a node sent to stations that live must have arrived, or been refused by a device.
    ///
    /// # Errors
    /// When something has not.
    pub fn expect_all_arrived_from(&self, node: usize) -> Result<(), Violation> {
        let own = self.stations.iter().enumerate().filter(|(_, station)| station.node == node);
        let missing: usize =
            own.map(|(place, _)| self.checker.missing_from(crate::checker::StationIndex(place))).sum();
        if missing == 0 {
            return Ok(());
        }
        let detail = format!("{missing} frames of node {node}, which left in order, did not arrive");
        Err(Violation { invariant: "I-4 every frame ends once", at: self.now(), detail })
    }

    /// Packets of relay legs that the control node has passed on.
    #[must_use]
    pub fn relayed(&self) -> u64 {
        self.controls[0].machine.as_ref().map_or(0, |machine| machine.status().relay.packets)
    }

    /// The control node must have passed on at least so many packets of relay legs.
    ///
    /// # Errors
    /// When it has not.
    pub fn expect_relayed(&self, least: u64) -> Result<(), Violation> {
        if self.relayed() >= least {
            return Ok(());
        }
        let detail = format!("{} packets were carried, {least} are expected", self.relayed());
        Err(Violation { invariant: "amendment 25 relay legs serve", at: self.now(), detail })
    }

    /// The control node must have passed on no more than so many.
    ///
    /// # Errors
    /// When it has.
    pub fn expect_not_relayed(&self, most: u64) -> Result<(), Violation> {
        if self.relayed() <= most {
            return Ok(());
        }
        let detail = format!("{} packets were carried, {most} are enough", self.relayed());
        Err(Violation { invariant: "amendment 21 relay legs rest", at: self.now(), detail })
    }

    /// A node is started again, unless it lives.
    pub fn start_node_again(&mut self, node: usize) {
        let now = self.now();
        self.start(now, Party::Node(node));
    }

    /// The socket of one leg between two nodes hangs up although both live.
    pub fn hang_up_leg(&mut self, a: usize, b: usize, leg: u8) {
        let is_it = |c: &super::Connection| {
            let ends = (c.first.party, c.second.party);
            let pair = (Party::Node(a), Party::Node(b));
            (ends == pair || ends == (pair.1, pair.0)) && c.leg == LegNumber(leg) && c.is_whole()
        };
        let found = self.open_connections().find(|(_, c)| is_it(c)).map(|(index, _)| index);
        if let Some(index) = found {
            self.count_fault_of(Fault::PairHangUp, Party::Node(a));
            self.break_socket(index);
        }
    }

    /// The socket of one leg of a node to its control node hangs up although both live.
    pub fn hang_up_control_leg(&mut self, node: usize, leg: u8) {
        let is_it = |c: &super::Connection| {
            (c.first.party, c.second.party) == (Party::Control(0), Party::Node(node))
                && c.leg == LegNumber(leg)
                && c.is_whole()
        };
        let found = self.open_connections().find(|(_, c)| is_it(c)).map(|(index, _)| index);
        if let Some(index) = found {
            self.count_fault_of(Fault::ControlHangUp, Party::Node(node));
            self.break_socket(index);
        }
    }

    /// The two ends of a hang-up see it up to `late` late, each at its own time, until everything is healed.
    pub fn make_hang_ups_late(&mut self, late: Duration) {
        self.weather.late_hang_up = late;
    }

    /// The complaint that a node should have ended by now.
    #[must_use]
    pub fn still_there(&self, node: usize) -> Violation {
        self.stuck(format!("node {node} was asked to end and has not"))
    }

    /// Runs until the pair is in `state` as its first node sees it, at most for `patience`; true when it is.
    ///
    /// # Errors
    /// When an invariant breaks meanwhile.
    pub fn run_until_pair(
        &mut self,
        (a, b): (usize, usize),
        state: PairState,
        patience: Duration,
    ) -> Result<bool, Violation> {
        let until = self.now() + patience;
        while self.pair_state(a, b) != state && self.now() < until {
            self.run_for(Duration::from_micros(20))?;
        }
        Ok(self.pair_state(a, b) == state)
    }

    /// A node does not run for `span`.
    pub fn pause_node(&mut self, node: usize, span: Duration) {
        self.pause(Party::Node(node), Some(span));
    }

    /// The control node does not run for `span`.
    pub fn pause_control(&mut self, span: Duration) {
        self.pause(Party::Control(0), Some(span));
    }

    /// Every timer of every process that lives comes up to `late` late, until everything is healed. Call it
    /// before the processes start, too: it holds for those that start later.
    pub fn make_timers_late(&mut self, late: Duration) {
        self.timers_late = late;
        let nodes = (0..self.nodes.len()).map(Party::Node);
        for party in nodes.chain([Party::Control(0)]).collect::<Vec<_>>() {
            self.schedule(party).timers_late = late;
        }
    }

    /// One end of a leg between nodes gets it up to `late` late, or never, until everything is healed.
    pub fn make_introductions_late(&mut self, late: Duration) {
        self.weather.late_introduction = late;
    }

    /// What nodes are given to make legs of gets lost, or no more.
    pub(crate) fn lose_introductions(&mut self, lose: bool) {
        self.weather.introductions_get_lost = lose;
    }

    /// The second end of each leg between nodes gets it `gap` after the first, until everything is healed.
    pub fn make_introductions_apart(&mut self, gap: Duration) {
        self.weather.introduction_gap = gap;
    }

    /// Of 100 frames, the devices of a node refuse `percent`.
    pub fn make_device_refuse(&mut self, node: usize, percent: u64) {
        self.nodes[node].refuse_percent = percent;
    }

    /// Two nodes must talk directly now.
    ///
    /// # Errors
    /// When they do not.
    pub fn expect_direct(&self, a: usize, b: usize) -> Result<(), Violation> {
        match self.pair_state(a, b) {
            PairState::DirectOneLeg | PairState::DirectTwoLegs => Ok(()),
            other => {
                Err(self.stuck(format!("nodes {a} and {b} should talk directly, they are at {other:?}")))
            }
        }
    }

    /// Two nodes must have both of their direct legs now.
    ///
    /// # Errors
    /// When they have not.
    pub fn expect_both_legs(&self, a: usize, b: usize) -> Result<(), Violation> {
        match self.pair_state(a, b) {
            PairState::DirectTwoLegs => Ok(()),
            other => {
                Err(self.stuck(format!("nodes {a} and {b} should have two legs, they are at {other:?}")))
            }
        }
    }

    /// The platform is up. A process that starts may have frames before its devices are made: what was dropped until now is
    /// nobody's loss.
    pub fn note_boot(&mut self) {
        self.at_boot = self.losses();
    }

    /// No machine may have counted a permitted loss since the platform is up.
    ///
    /// # Errors
    /// When one has.
    pub fn expect_nothing_lost(&self) -> Result<(), Violation> {
        self.expect_none_of(&super::inspect::PERMITTED)
    }

    /// No machine may have counted a frame dropped for any of these reasons since the platform is up.
    ///
    /// # Errors
    /// When one has.
    pub fn expect_none_of(&self, reasons: &[DropReason]) -> Result<(), Violation> {
        let (drops, before) = (self.losses().drops, &self.at_boot.drops);
        let counted = |reason: DropReason| drops.of(reason) - before.of(reason);
        let lost = reasons.iter().find(|&&reason| counted(reason) > 0);
        match lost {
            None => Ok(()),
            Some(reason) => {
                let detail = format!("{} frames {reason} where nothing need be lost", counted(*reason));
                Err(Violation { invariant: "I-4 every frame ends once", at: self.now(), detail })
            }
        }
    }
}
