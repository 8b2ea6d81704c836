//! Everything at once, drawn from the seed: what no script would have thought of.

use super::{Family, run_with_faults};
use crate::packet::plan::PacketPlan;

/// Faults of a run.
const FAULTS: usize = 24;

pub(super) const FAMILIES: &[Family] =
    &[Family { name: "chaos", plan: |seed| PacketPlan::of_seed(seed, FAULTS), script: run_with_faults }];
