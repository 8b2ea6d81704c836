//! The packet legs of an agent: where they end, and the faults that drills lay on them. Their sockets are
//! [`PacketSockets`]: steps 5 and 6 of the walk where a leg leaves the host.

use rvi::host::fault::{Direction, Faults};
use rvi::host::packets::PacketSockets;
use tracing::{info, warn};
use vlan_core::Instant;
use vlan_core::wire::control::{Fault, FaultDirection, OfferedLeg};

use crate::agent::poller::{Poller, Source};
use crate::legs::log_ways;
use crate::node::Node;

/// Has every socket watched, and tells the node where its legs end and how long their packets may be.
pub(super) fn start(
    sockets: &mut PacketSockets,
    now: Instant,
    node: &mut Node,
    poller: &Poller,
) -> std::io::Result<()> {
    for (leg, socket, address) in sockets.legs() {
        poller.add(socket, Source::Packets(leg))?;
        info!(%leg, kind = %address.kind(), %address, "packet leg open");
    }
    log_ways(sockets, |leg, is_af_xdp| node.handle_leg_driver(leg, is_af_xdp));
    sockets.start(node);
    offer(sockets, now, node);
    Ok(())
}

/// Tells the node where its legs end.
pub(super) fn offer(sockets: &PacketSockets, now: Instant, node: &mut Node) {
    let offered: Vec<_> = sockets.legs().map(|(leg, _, address)| OfferedLeg { leg, address }).collect();
    node.handle_leg_addresses(now, &offered);
}

/// Lays a fault on packets, or takes it off: a drill.
pub(super) fn set_fault(sockets: &mut PacketSockets, seed: u64, fault: &Fault) {
    let faults = match fault.spec().parse::<Faults>() {
        Ok(faults) => faults,
        Err(error) => {
            warn!(spec = fault.spec(), %error, "a fault that cannot be read is ignored");
            return;
        }
    };
    let directions: &[Direction] = match fault.direction() {
        FaultDirection::In => &[Direction::Ingress],
        FaultDirection::Out => &[Direction::Egress],
        FaultDirection::Both => &[Direction::Ingress, Direction::Egress],
    };
    for leg in sockets.set_faults(seed, fault.leg(), directions, faults) {
        info!(%leg, %faults, "faults on a packet leg");
    }
}
