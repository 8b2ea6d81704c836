//! The pump's part of captures: whose the copies are that the machine brings.

use std::collections::BTreeMap;
use std::time::SystemTime;

use tokio::sync::mpsc;
use vlan_core::Instant;

use super::link::{CaptureEvent, CaptureStart};
use crate::control_node::{Command, ControlNode};

/// Where the copies of each capture go.
#[derive(Debug, Default)]
pub(super) struct Captures {
    sinks: BTreeMap<u32, mpsc::Sender<CaptureEvent>>,
}

impl Captures {
    pub fn begin(&mut self, at: Instant, start: CaptureStart, machine: &mut ControlNode) {
        for (node, order) in start.points {
            self.sinks.insert(order.id, start.sink.clone());
            machine.handle_command(at, Command::Capture { node, order });
        }
        let unix_ns = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let unix_ns = unix_ns.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        for (lan, order) in start.uplinks {
            self.sinks.insert(order.id, start.sink.clone());
            machine.handle_command(at, Command::CaptureUplink { lan, unix_ns, order });
        }
    }

    /// Gives copies to whoever asked. Credit keeps them within the room that there is; without a receiver the capture ends.
    pub fn give(&mut self, at: Instant, id: u32, octets: Vec<u8>, machine: &mut ControlNode) {
        let Some(sink) = self.sinks.get(&id) else { return };
        if sink.try_send(CaptureEvent::Copies { id, octets }).is_err() {
            self.sinks.remove(&id);
            machine.handle_command(at, Command::CaptureEnd { id, discard: true });
        }
    }

    pub fn end(&mut self, id: u32, is_refused: bool) {
        if let Some(sink) = self.sinks.remove(&id) {
            // Whoever asked may have gone.
            let _ = sink.try_send(CaptureEvent::Over { id, is_refused });
        }
    }
}
