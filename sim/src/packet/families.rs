//! The named families: each sets one kind of situation up, in as many variants as there are seeds, and says what
//! must hold there beyond what is checked everywhere.

use std::time::Duration;

use super::plan::PacketPlan;
use super::world::PacketWorld;
use crate::checker::Violation;
use crate::simulation::Simulation;

mod chaos;
mod death;
mod flow;
mod loss;
mod processes;

/// A named kind of situation.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// A sentence with underscores: what must hold.
    pub name: &'static str,
    /// What it starts from.
    pub plan: fn(u64) -> PacketPlan,
    /// What happens, before everything is healed and judged.
    pub script: fn(&mut PacketWorld) -> Result<(), Violation>,
}

/// Every family.
#[must_use]
pub fn all() -> Vec<Family> {
    [chaos::FAMILIES, loss::FAMILIES, death::FAMILIES, processes::FAMILIES, flow::FAMILIES].concat()
}

/// The family of a name, or the only one whose name contains it.
#[must_use]
pub fn find(name: &str) -> Option<Family> {
    let all = all();
    if let Some(exact) = all.iter().find(|family| family.name == name) {
        return Some(*exact);
    }
    let mut containing = all.into_iter().filter(|family| family.name.contains(name));
    containing.next().filter(|_| containing.next().is_none())
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn us(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

/// Sources run for the plan's duration.
fn run_sources(world: &mut PacketWorld) -> Result<(), Violation> {
    world.start_sources();
    world.run_for(world.plan.duration)
}

/// Sources and random faults run for the plan's duration.
fn run_with_faults(world: &mut PacketWorld) -> Result<(), Violation> {
    world.start_sources();
    world.start_faults();
    world.run_for(world.plan.duration)
}

/// Long enough for every leg to prove itself and for smoothed round trips to settle.
fn warm_up(world: &mut PacketWorld) -> Result<(), Violation> {
    world.start_sources();
    let more = us(world.draw(3_000));
    world.run_for(ms(20) + more)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::runner::run_family;

    #[test]
    fn every_family_keeps_every_invariant() {
        for family in all() {
            for seed in 0..2 {
                if let Err(failure) = run_family(&family, seed, false) {
                    panic!("{failure}");
                }
            }
        }
    }

    #[test]
    fn a_part_of_a_name_is_enough_when_it_is_one_familys() {
        assert!(find("grey_leg").is_some());
        assert!(find("leg").is_none() && find("nothing like it").is_none());
    }
}
