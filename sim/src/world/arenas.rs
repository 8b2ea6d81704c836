//! Broadcast arenas: their memory, and how nodes get it, or do not.

use std::time::Duration;

use rvi::{ArenaConfig, Region};
use switch_server::control_node::{ArenaPolicy, ControlNode};
use vlan_core::{Instant, LanId, ProcessId};

use super::connections::Party;
use super::{Event, World};

/// Arenas of 32 KiB: frames lap them all the time.
const SEGMENT_LEN: u32 = 4096;
/// A few frames are worth an arena, and short ones go in too.
pub(super) const POLICY: ArenaPolicy =
    ArenaPolicy { worth_frames: 4, rest: Duration::from_millis(1), message_len_min: 0 };
/// Of 100 times, how often there is no memory for an arena, or a node does not get it.
const FAILURE_PERCENT: u64 = 10;

/// An arena on its way to a node.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    node: usize,
    life: u32,
    control: usize,
    process: ProcessId,
    lan: LanId,
    memory: Region,
}

impl World {
    /// A control node's machine wants an arena for a LAN.
    pub(super) fn make_arena(
        &mut self,
        control: usize,
        machine: &mut ControlNode,
        lan: LanId,
        config: &ArenaConfig,
    ) {
        if self.chance(FAILURE_PERCENT) {
            return;
        }
        let config = ArenaConfig { segment_len: SEGMENT_LEN, ..*config };
        let memory = Region::heap(config.region_len());
        self.controls[control].arenas.push(memory.clone());
        let process = self.controls[control].schedule.process;
        for (number, of, _) in machine.handle_arena(lan, &config, memory.clone()) {
            let node = usize::from(number.0) - 1;
            let schedule = &self.nodes[node].schedule;
            let (life, is_it) = (schedule.life, schedule.process == of);
            if !is_it || self.chance(FAILURE_PERCENT) {
                continue;
            }
            let at = self.soon(Duration::from_micros(400));
            let offer = Offer { node, life, control, process, lan, memory: memory.clone() };
            self.queue.schedule(at, Event::Arena { offer: Box::new(offer) });
        }
    }

    /// A node gets the memory of an arena.
    pub(super) fn arena_comes(&mut self, now: Instant, offer: Box<Offer>) {
        let party = Party::Node(offer.node);
        if self.is_paused(party, Event::Arena { offer: offer.clone() }) {
            return;
        }
        let Offer { node, life, control, process, lan, memory } = *offer;
        let host = &mut self.nodes[node];
        let Some(machine) = host.machine.as_mut().filter(|_| host.schedule.life == life) else { return };
        let is_taken = machine.handle_arena(now, control as u8, process, lan, memory);
        self.journal.trace(now, format_args!("node {node} gets the arena of LAN {lan}: {is_taken}"));
        self.wake(party);
    }
}
