//! The pump's part of traces: who waits for which node's answer.

use std::collections::BTreeMap;

use tokio::sync::oneshot;
use vlan_core::wire::control::Traced;
use vlan_core::{Instant, NodeNumber};

use super::link::TraceStart;
use crate::control_node::ControlNode;

/// Requests that wait for their answers at most.
const WAITING_MAX: usize = 64;

/// Who waits, by the number of the request.
#[derive(Debug, Default)]
pub(super) struct Traces {
    waiting: BTreeMap<u32, (NodeNumber, oneshot::Sender<Traced>)>,
}

impl Traces {
    /// Asks a node. One that is not attached is said so by the answer's sender being dropped.
    pub fn begin(&mut self, at: Instant, start: TraceStart, machine: &mut ControlNode) {
        self.waiting.retain(|_, (_, answer)| !answer.is_closed());
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.pop_first();
        }
        let (node, id) = (start.node, start.order.id);
        if machine.trace(at, node, start.order) {
            self.waiting.insert(id, (node, start.answer));
        }
    }

    /// A node has answered; only the one that was asked is listened to.
    pub fn answer(&mut self, node: NodeNumber, traced: Traced) {
        if self.waiting.get(&traced.id).is_some_and(|(asked, _)| *asked == node)
            && let Some((_, answer)) = self.waiting.remove(&traced.id)
        {
            // Whoever asked may have given up waiting.
            let _ = answer.send(traced);
        }
    }
}
