//! The memory of broadcast arenas: made here, and given to the nodes that are to read it.

use rvi::ArenaConfig;
use rvi::host::{ArenaOffer, OwnMemory};
use tracing::{debug, warn};
use vlan_core::LanId;

use super::legs::{LegId, Legs};
use crate::control_node::ControlNode;

/// Makes the arena that the machine wants, and gives it to those whom the machine names. The descriptor is closed then: who comes
/// later is given another arena.
pub(super) fn make(lan: LanId, config: &ArenaConfig, legs: &Legs, machine: &mut ControlNode) {
    let memory = match OwnMemory::of_len(config.region_len()) {
        Ok(memory) => memory,
        Err(error) => {
            warn!(%lan, %error, "no memory for a broadcast arena: its members get copies");
            return;
        }
    };
    let offer = ArenaOffer { lan, len: config.region_len() as u32 };
    for (node, process, leg) in machine.handle_arena(lan, config, memory.region().clone()) {
        let Some(up) = legs.find(&LegId { node, process, leg }) else { continue };
        if let Err(error) = up.socket.send_arena(&offer, memory.descriptor()) {
            // It gets copies.
            debug!(%node, %lan, ?error, "the node does not take an arena");
        }
    }
}
