//! The menu of faults: what each does, to whom, and the state that it met.

use std::time::Duration;

use rvi::Region;
use rvi::ring::layout;
use vlan_core::{Instant, LegNumber, NodeNumber};

use super::connections::{ConnectionIndex, Party, Side};
use super::{Event, World};
use crate::coverage::Fault;
use crate::plan::Plan;
use crate::simulation::Simulation;

/// `head` and `settled` of both rings: what a consumer writes into its own region.
const CONSUMER_WORDS: [usize; 2] = [layout::DATA_HEAD, layout::CONTROL_HEAD];

/// Which of a control node's writes never happened, because it died before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undo {
    /// It published what it forwarded, and died before it settled anything with the senders.
    Settling,
    /// It took messages and died before it published any.
    Everything,
}

/// The memory that a control node writes, as it was before a batch.
pub(super) struct MemoryBefore {
    undo: Undo,
    regions: Vec<(Region, Vec<u8>)>,
}

impl World {
    // --- injecting ------------------------------------------------------------------------------------------

    /// Spreads `faults` faults of the plan's menu over its duration.
    pub fn start_faults(&mut self) {
        self.faults_left = self.plan.faults;
        if self.faults_left > 0 && !self.plan.fault_menu.is_empty() {
            let at = self.soon(self.plan.duration / self.plan.faults as u32);
            self.queue.schedule(at, Event::Fault);
        }
    }

    pub(super) fn inject_next_fault(&mut self, now: Instant) {
        if self.faults_left == 0 {
            return;
        }
        self.faults_left -= 1;
        let place = self.random.below(self.plan.fault_menu.len() as u64) as usize;
        let fault = self.plan.fault_menu[place];
        let waits = self.plan.waiting_percent > 0 && self.chance(self.plan.waiting_percent);
        if !(waits && self.have_fault_wait(now, fault)) {
            self.inject(now, fault);
        }
        let mean = self.plan.duration.as_nanos() as u64 / self.plan.faults as u64;
        // Now and then two faults in one moment: that is where the rare states are.
        let pause =
            if self.chance(30) { self.random.below(300_000) } else { self.random.below(2 * mean + 1) };
        self.queue.schedule(now + Duration::from_nanos(pause), Event::Fault);
    }

    /// Injects one fault somewhere.
    pub fn inject(&mut self, now: Instant, fault: Fault) {
        let node = self.random.below(self.nodes.len() as u64) as usize;
        let control = self.random.below(self.controls.len() as u64) as usize;
        let any = if self.chance(25) { Party::Control(control) } else { Party::Node(node) };
        self.journal.line(now, format_args!("fault: {}", fault.name()));
        match fault {
            Fault::NodeCrash => self.crash(now, Party::Node(node), fault),
            Fault::ControlCrash => self.crash(now, Party::Control(control), fault),
            Fault::ControlCrashInBatch => {
                let undo = if self.chance(50) { Undo::Settling } else { Undo::Everything };
                self.crash_in_batch(control, undo);
            }
            Fault::Cut | Fault::CutLeg | Fault::Heal => self.drill(now, fault),
            Fault::PairHangUp | Fault::ControlHangUp => self.hang_up_somewhere(fault),
            Fault::Pause => self.pause(any, None),
            Fault::SmallBudget => {
                let budget = 1 + self.random.below(4) as usize;
                self.schedule(any).small_budget = Some(budget);
                self.lasting(fault, any);
            }
            Fault::LateTimers => {
                self.schedule(any).timers_late = Duration::from_millis(3);
                self.lasting(fault, any);
            }
            Fault::DeviceFull => {
                self.nodes[node].refuse_percent = 1 + self.random.below(60);
                self.lasting_uncounted(Party::Node(node));
            }
            Fault::LateHangUp => {
                self.weather.late_hang_up = Duration::from_micros(200 + self.random.below(30_000));
                self.lasting_uncounted(any);
            }
            Fault::ConnectFailure => {
                self.weather.connect_failure_percent = 30 + self.random.below(71);
                self.lasting_uncounted(any);
                if self.plan.waiting_percent > 0 {
                    // Somebody has to connect for it to be met.
                    self.hang_up_somewhere(Fault::ControlHangUp);
                }
            }
            Fault::LateIntroduction => {
                self.weather.late_introduction = Duration::from_millis(1 + self.random.below(60));
                self.lasting_uncounted(any);
            }
            Fault::Leave => {
                self.ask_to_end(node);
                self.nodes[node].is_started_again = true;
            }
            Fault::ControlLeave => {
                self.ask_control_to_end(control);
                self.controls[control].is_started_again = true;
            }
            Fault::Listening => self.turn_a_listener(),
            Fault::Joining => self.turn_a_member(),
            Fault::Apply => self.apply_something(now),
            Fault::Drain => self.turn_a_drain(now),
            Fault::Service => self.turn_a_service(),
            // These come with the plan: its rings, and its hostile node.
            Fault::Starved | Fault::Hostile => {}
            Fault::Loss
            | Fault::Bursts
            | Fault::Corruption
            | Fault::Duplication
            | Fault::Reordering
            | Fault::DelaySpike
            | Fault::OneWayDeath
            | Fault::PortDeath
            | Fault::Isolation => self.inject_into_fabrics(now, fault),
        }
    }

    /// Counts the death of a process that lives.
    pub(super) fn count_death(&mut self, fault: Fault, party: Party) {
        let lives = match party {
            Party::Node(node) => self.nodes[node].machine.is_some(),
            Party::Control(control) => self.controls[control].machine.is_some(),
        };
        if lives {
            self.count_fault_of(fault, party);
        }
    }

    /// A process dies, now or within its next batch, and is started again after a while.
    fn crash(&mut self, now: Instant, party: Party, fault: Fault) {
        self.count_death(fault, party);
        if self.chance(50) {
            let calls = self.random.below(20) as u32;
            self.schedule(party).dies_after = Some(calls);
            self.wake(party);
        } else {
            self.kill(now, party);
        }
        let pause = if self.chance(30) { 1_000_000 } else { 100_000_000 };
        let at = self.soon(Duration::from_nanos(pause));
        self.queue.schedule(at, Event::Start { party });
    }

    /// A node's process is asked to end.
    pub(super) fn ask_to_end(&mut self, node: usize) {
        if self.nodes[node].machine.is_some() {
            self.count_fault_of(Fault::Leave, Party::Node(node));
            self.nodes[node].is_asked_to_end = true;
            self.wake(Party::Node(node));
        }
    }

    /// A control node's process is asked to end.
    pub(super) fn ask_control_to_end(&mut self, control: usize) {
        let party = Party::Control(control);
        if self.controls[control].machine.is_some() {
            self.count_fault_of(Fault::ControlLeave, party);
            self.controls[control].is_asked_to_end = true;
            self.wake(party);
        }
    }

    /// A control node dies in its next batch that takes something.
    pub(super) fn crash_in_batch(&mut self, control: usize, undo: Undo) {
        self.count_death(Fault::ControlCrashInBatch, Party::Control(control));
        self.controls[control].undo_at_death = Some(undo);
        let at = self.soon(Duration::from_millis(60));
        self.queue.schedule(at, Event::Start { party: Party::Control(control) });
    }

    /// A process dies now.
    pub(super) fn kill(&mut self, now: Instant, party: Party) {
        match party {
            Party::Node(node) => self.end_node(now, node),
            Party::Control(control) => self.end_control(now, control),
        }
    }

    /// Starts a process unless it lives.
    pub(super) fn start(&mut self, now: Instant, party: Party) {
        match party {
            Party::Node(node) if self.nodes[node].machine.is_none() => self.start_node(now, node),
            Party::Control(control) if self.controls[control].machine.is_none() => {
                self.start_control(now, control);
            }
            _ => {}
        }
    }

    fn drill(&mut self, now: Instant, fault: Fault) {
        if fault == Fault::Heal {
            if let Some(&(a, b, _)) = self.cuts.first() {
                self.count_fault_between(fault, usize::from(a.0) - 1, usize::from(b.0) - 1);
                self.heal(a, b);
            } else if self.plan.waiting_percent > 0 {
                self.heal_a_leg_somewhere();
            }
            return;
        }
        let pairs = self.pairs();
        if pairs.is_empty() {
            return;
        }
        let (a, b) = pairs[self.random.below(pairs.len() as u64) as usize];
        let leg = LegNumber(self.random.below(u64::from(self.plan.fabrics)) as u8);
        self.count_fault_between(fault, a, b);
        let (a, b) = (Plan::number(a), Plan::number(b));
        self.cut(a, b, (fault == Fault::CutLeg).then_some(leg));
        let until = now + Duration::from_nanos(self.random.below(80_000_000));
        self.queue.schedule(until, Event::Heal { a, b });
    }

    /// The socket of a leg hangs up at one end although both processes live.
    fn hang_up_somewhere(&mut self, fault: Fault) {
        let is_control = |c: &super::Connection| matches!(c.first.party, Party::Control(_));
        let wanted = fault == Fault::ControlHangUp;
        let open: Vec<_> = self
            .open_connections()
            .filter(|(_, c)| c.is_whole() && is_control(c) == wanted)
            .map(|(index, _)| index)
            .collect();
        if !open.is_empty() {
            let index = open[self.random.below(open.len() as u64) as usize];
            self.break_leg(fault, index);
        }
    }

    /// The socket of this leg hangs up, and the fault is counted.
    pub(super) fn break_leg(&mut self, fault: Fault, index: ConnectionIndex) {
        let Some((_, connection)) = self.open_connections().find(|(open, _)| *open == index) else { return };
        match (connection.first.party, connection.second.party) {
            (Party::Node(a), Party::Node(b)) => self.count_fault_between(fault, a, b),
            (_, second) => self.count_fault_of(fault, second),
        }
        // Nobody left it in order: both hosts see the same.
        self.break_socket(index);
    }

    /// A process does not run for `span`, or for 1 to 200 ms.
    pub(super) fn pause(&mut self, party: Party, span: Option<Duration>) {
        let drawn = if self.chance(50) { 1 + self.random.below(15) } else { 1 + self.random.below(200) };
        let until = self.now() + span.unwrap_or(Duration::from_millis(drawn));
        self.count_fault_of(Fault::Pause, party);
        self.schedule(party).paused_until = until;
        self.run_at(party, until);
    }

    fn lasting(&mut self, fault: Fault, party: Party) {
        self.count_fault_of(fault, party);
        self.lasting_uncounted(party);
    }

    /// A fault that ends after 5 to 100 ms; it is counted whenever it bites.
    fn lasting_uncounted(&mut self, party: Party) {
        let at = self.now() + Duration::from_nanos(5_000_000 + self.random.below(95_000_000));
        self.queue.schedule(at, Event::Relief { party });
    }

    /// The lasting faults of a process, and the weather, are over.
    pub(super) fn relieve(&mut self, _now: Instant, party: Party) {
        self.weather = super::Weather::default();
        let schedule = self.schedule(party);
        schedule.small_budget = None;
        schedule.timers_late = Duration::ZERO;
        if let Party::Node(node) = party {
            self.nodes[node].refuse_percent = 0;
        }
    }

    /// Pairs that are cut now.
    pub(super) fn cut_pairs(&self) -> Vec<(NodeNumber, NodeNumber)> {
        self.cuts.iter().map(|&(a, b, _)| (a, b)).collect()
    }

    // --- death within a batch -------------------------------------------------------------------------------

    /// Copies what a control node may write in the batch that it is to die in.
    pub(super) fn memory_before_death(&mut self, control: usize) -> Option<MemoryBefore> {
        let undo = self.controls[control].undo_at_death?;
        let life = self.controls[control].schedule.life;
        let own = self.open_connections().filter_map(|(_, c)| {
            let end = c.end(Side::First);
            (end.party == Party::Control(control) && end.life == life).then(|| end.region.clone()).flatten()
        });
        let arenas = self.controls[control].arenas.iter().cloned();
        let regions = own.chain(arenas).map(|region| {
            let mut octets = vec![0; region.len()];
            region.read(0, &mut octets);
            (region, octets)
        });
        Some(MemoryBefore { undo, regions: regions.collect() })
    }

    /// Takes back the writes that a control node did not live to do.
    pub(super) fn undo_writes(&mut self, control: usize, before: &MemoryBefore) {
        self.controls[control].undo_at_death = None;
        for (region, octets) in &before.regions {
            match before.undo {
                Undo::Everything => region.write(0, octets),
                // An arena has none of a consumer's words.
                Undo::Settling if self.controls[control].arenas.iter().any(|arena| arena.is_same(region)) => {
                }
                Undo::Settling => {
                    for words in CONSUMER_WORDS {
                        region.write(words, &octets[words..words + 8]);
                    }
                }
            }
        }
    }
}
