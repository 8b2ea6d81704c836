//! What both simulators are to those who run them: a clock, events, the first rule that broke, and an end.

use std::time::Duration;

use vlan_core::Instant;

use crate::checker::Violation;
use crate::journal::Journal;

/// A world that runs until a rule breaks or its script is over.
pub trait Simulation {
    /// What a run that kept every rule comes to.
    type Outcome;

    /// The simulated time.
    fn now(&self) -> Instant;

    /// Handles the next event that is due until then; false when there is none, and the clock shows `until`.
    fn step(&mut self, until: Instant) -> bool;

    /// The first rule that broke, once.
    fn take_violation(&mut self) -> Option<Violation>;

    /// What happened.
    fn journal(&self) -> &Journal;

    /// What every machine knows, for a failure's report.
    fn describe(&self) -> Vec<String>;

    /// Heals everything and judges.
    ///
    /// # Errors
    /// When an invariant breaks.
    fn converge(&mut self) -> Result<Self::Outcome, Violation>;

    /// Runs until `until`.
    ///
    /// # Errors
    /// When an invariant breaks.
    fn run_until(&mut self, until: Instant) -> Result<(), Violation> {
        while self.step(until) {
            if let Some(violation) = self.take_violation() {
                return Err(violation);
            }
        }
        Ok(())
    }

    /// Runs for `duration`.
    ///
    /// # Errors
    /// When an invariant breaks.
    fn run_for(&mut self, duration: Duration) -> Result<(), Violation> {
        self.run_until(self.now() + duration)
    }
}
