//! A process as its host sees it: when it runs next, how much it takes in a batch, and what holds it up.

use std::time::Duration;

use vlan_core::{Instant, ProcessId};

use super::Event;
use super::World;
use super::connections::Party;
use crate::simulation::Simulation;

/// What a batch costs besides its messages: a wake-up and the system calls around it.
const BATCH_COST: Duration = Duration::from_micros(3);
/// What a message costs.
const MESSAGE_COST: Duration = Duration::from_nanos(150);
/// Messages of a batch, as the agent takes them.
const BUDGET: usize = 64;
/// Batches in a row with a timer that is due and does not go away: more is a busy loop (I-9).
const DUE_IN_A_ROW_MAX: u32 = 100;

/// The host's side of one process.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// Which life of it this is, from 1.
    pub life: u32,
    /// This life's identity.
    pub process: ProcessId,
    /// The batch that is scheduled.
    next: Option<Instant>,
    ticket: u64,
    /// It does nothing before.
    pub busy_until: Instant,
    /// Held up by a fault until then.
    pub paused_until: Instant,
    /// Messages of a batch while a fault makes it slow.
    pub small_budget: Option<usize>,
    /// Timers come up to this much late.
    pub timers_late: Duration,
    /// The deadline that the machine gave last, and when its timer fires.
    timer: Option<(Instant, Instant)>,
    due_in_a_row: u32,
    /// Batches since the process started.
    pub batches: u64,
    /// The process dies before this many more calls into its machine.
    pub dies_after: Option<u32>,
}

impl Schedule {
    /// Messages that it takes in a batch now.
    pub fn budget(&self) -> usize {
        self.small_budget.unwrap_or(BUDGET)
    }

    /// True when the timer for the machine's deadline has fired.
    pub fn timer_fired(&self, now: Instant) -> bool {
        self.timer.is_some_and(|(_, fires)| fires <= now)
    }

    /// One more call into the machine; true when the process dies instead.
    pub fn dies_now(&mut self) -> bool {
        match &mut self.dies_after {
            Some(0) => true,
            Some(calls) => {
                *calls -= 1;
                false
            }
            None => false,
        }
    }

    /// Forgets what belonged to the former life.
    pub fn reborn(&mut self, process: ProcessId) {
        *self = Self { life: self.life + 1, process, ticket: self.ticket, ..Self::default() };
    }
}

impl World {
    /// The schedule of a process.
    pub(super) fn schedule(&mut self, party: Party) -> &mut Schedule {
        match party {
            Party::Node(node) => &mut self.nodes[node].schedule,
            Party::Control(control) => &mut self.controls[control].schedule,
        }
    }

    /// Lets a process run at `at`, or earlier if it was going to.
    pub(super) fn run_at(&mut self, party: Party, at: Instant) {
        let now = self.now();
        let schedule = self.schedule(party);
        let at = at.max(schedule.busy_until).max(schedule.paused_until).max(now);
        if schedule.next.is_some_and(|next| next <= at) {
            return;
        }
        schedule.next = Some(at);
        schedule.ticket += 1;
        let ticket = schedule.ticket;
        self.queue.schedule(at, Event::Run { party, ticket });
    }

    /// Wakes a process: somebody rang, or its stack has something.
    pub(super) fn wake(&mut self, party: Party) {
        let at = self.soon(Duration::from_micros(20));
        self.run_at(party, at);
    }

    pub(super) fn run_party(&mut self, now: Instant, party: Party, ticket: u64) {
        let schedule = self.schedule(party);
        if schedule.ticket != ticket {
            return;
        }
        schedule.next = None;
        let held_until = schedule.paused_until.max(schedule.busy_until);
        if held_until > now {
            self.run_at(party, held_until);
            return;
        }
        schedule.batches += 1;
        match party {
            Party::Node(node) => self.run_node(now, node),
            Party::Control(control) => self.run_control(now, control),
        }
    }

    /// The end of a batch that took `messages`: what it cost, and when the next one is due.
    ///
    /// `deadline` is the machine's, `more` says that it must not sleep.
    pub(super) fn batch_over(
        &mut self,
        now: Instant,
        party: Party,
        messages: usize,
        deadline: Option<Instant>,
        more: bool,
    ) {
        let lateness = self.schedule(party).timers_late;
        let late = if lateness.is_zero() {
            Duration::ZERO
        } else {
            Duration::from_nanos(self.random.below(lateness.as_nanos() as u64 + 1))
        };
        let schedule = self.schedule(party);
        schedule.busy_until = now + BATCH_COST + MESSAGE_COST * messages as u32;
        if schedule.timer.map(|(of, _)| of) != deadline {
            schedule.timer = deadline.map(|at| (at, at.max(now) + late));
        }
        let fires = schedule.timer.map(|(_, fires)| fires);
        let due = deadline.is_some_and(|at| at <= now);
        schedule.due_in_a_row = if due && messages == 0 { schedule.due_in_a_row + 1 } else { 0 };
        if schedule.due_in_a_row > DUE_IN_A_ROW_MAX {
            let detail = format!("{party:?}: a deadline of {deadline:?} stays due");
            self.break_invariant(crate::checker::Violation { invariant: "I-9 timers", at: now, detail });
            return;
        }
        if more {
            self.run_at(party, now);
        } else if let Some(fires) = fires {
            self.run_at(party, fires);
        }
    }
}
