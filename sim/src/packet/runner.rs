//! Runs families with seeds.

use super::families::Family;
use super::world::{Outcome, PacketWorld};
use crate::runner::{self, Failure, Name};

fn name_of(family: &Family, seed: u64) -> Name {
    let replay = format!("packet replay {seed} --family {}", family.name);
    Name { title: format!("{} seed {seed}", family.name), replay }
}

/// Runs a family's script with a seed, then heals, converges and judges.
///
/// # Errors
/// When an invariant breaks or a machine panics.
pub fn run_family(family: &Family, seed: u64, trace: bool) -> Result<Outcome, Box<Failure>> {
    runner::run(name_of(family, seed), PacketWorld::new((family.plan)(seed), trace), family.script)
}

/// Runs a seed twice and compares the journals (I-10).
///
/// # Errors
/// When a run fails, or the two differ.
pub fn run_twice(family: &Family, seed: u64) -> Result<Outcome, Box<Failure>> {
    runner::run_twice(name_of(family, seed), || run_family(family, seed, false), |outcome| outcome.digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::families::find;

    //= spec/packet-sender.md#loss-in-time
    //= type=test
    //# A packet that an ack passed by MUST count as lost when it is 9/8 of a round trip old, whatever is not known of packets
    //# sent before it.
    //= spec/packet-sender.md#moved-deadlines
    //= type=test
    //# A call MUST count as late only by the deadline that stood after the host's round before, and by no more than the time
    //# since.
    //= spec/packet-sender.md#round-trips
    //= type=test
    //# A sender MUST measure a round trip only with a packet that asked for an ack, and only when the ack says for how long it
    //# was kept back.
    #[test]
    fn no_leg_is_blamed_long_after_the_last_packet() {
        let family = find("chaos").expect("it is a family");
        // In those from 402 on an ack without a question came soon after one that had taken long.
        let seeds = [1388, 2879, 4158, 5891, 10_021, 10_140, 402, 867, 2011, 2832, 3326, 3726, 10_956];
        for seed in seeds {
            if let Err(failure) = run_family(&family, seed, false) {
                panic!("{failure}");
            }
        }
    }

    #[test]
    fn a_seed_replays_exactly() {
        let family = find("chaos").expect("it is a family");
        if let Err(failure) = run_twice(&family, 7) {
            panic!("{failure}");
        }
    }
}
