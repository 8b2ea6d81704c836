//! Between the control thread and the pump: bounded queues, and an eventfd that wakes a sleeping pump.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use platform::management::FaultDirection;
use rustix::event::EventfdFlags;
use tokio::sync::{mpsc, oneshot};
use vlan_core::wire::control::{CaptureOrder, ReportItem, ReportedDrop, TraceOrder, Traced};
use vlan_core::{LanId, LegNumber, NodeNumber, VifNumber};

use super::devices::DeviceChanges;
use crate::control_node::{Changes, Command, GroupStatus, Judgement, Status};

/// Orders that may wait for the pump, which looks between batches.
const ORDERS_MAX: usize = 64;
/// Reports that may wait for the control thread: several of each of the most nodes that one machine is meant for.
const REPORTS_MAX: usize = 1024;

/// What the control thread asks of the pump.
#[derive(Debug)]
pub enum Order {
    /// Do what an administrator asks, other than [`Order::Apply`].
    Command(Command),
    /// Put another configuration into use.
    Apply(Box<ApplyOrder>),
    /// Read everything back.
    Status(oneshot::Sender<Status>),
    /// Say who gets which multicast groups.
    Groups(oneshot::Sender<Vec<GroupStatus>>),
    /// Have nodes spoil what crosses their packet legs.
    Fault(FaultOrder),
    /// Have nodes copy what passes.
    Capture(CaptureStart),
    /// Ask a node what it would do with a frame.
    Trace(TraceStart),
    /// Say what this control node would do with a message.
    Judge(JudgeOrder),
}

/// Another configuration, which is on disk already.
#[derive(Debug)]
pub struct ApplyOrder {
    /// Its number.
    pub epoch: u64,
    /// What the machine is to change.
    pub changes: Box<Changes>,
    /// What becomes of the devices that lead outside.
    pub devices: DeviceChanges,
}

/// A drill of packet legs.
#[derive(Debug)]
pub struct FaultOrder {
    /// The node; every attached one when absent.
    pub node: Option<NodeNumber>,
    /// The leg; all packet legs when absent.
    pub leg: Option<LegNumber>,
    /// Which packets, as the node sees them.
    pub direction: FaultDirection,
    /// What is done to them, or [`FAULT_OFF`](platform::management::FAULT_OFF).
    pub spec: String,
    /// How many nodes were told.
    pub told: oneshot::Sender<u32>,
}

/// A capture that begins.
#[derive(Debug)]
pub struct CaptureStart {
    /// What each node is to copy. Each has a number of its own.
    pub points: Vec<(NodeNumber, CaptureOrder)>,
    /// What is to be copied at the uplinks of LANs. Each has a number of its own, too.
    pub uplinks: Vec<(LanId, CaptureOrder)>,
    /// Where the copies go; it has room for all that may be under way. Without a receiver the capture ends.
    pub sink: mpsc::Sender<CaptureEvent>,
}

/// A question to a node about a frame.
#[derive(Debug)]
pub struct TraceStart {
    /// The node.
    pub node: NodeNumber,
    /// The question.
    pub order: TraceOrder,
    /// Its answer; dropped when the node is not attached.
    pub answer: oneshot::Sender<Traced>,
}

/// A question about a message of a member.
#[derive(Debug)]
pub struct JudgeOrder {
    /// The member's node.
    pub node: NodeNumber,
    /// Its interface.
    pub vif: VifNumber,
    /// The message.
    pub message: Vec<u8>,
    /// The answer.
    pub answer: oneshot::Sender<Judgement>,
}

/// What has become of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaptureEvent {
    /// A message with copies, as its node made it. It is to be paid for with [`Command::CaptureCredit`].
    Copies {
        /// Number of the capture.
        id: u32,
        /// The message.
        octets: Vec<u8>,
    },
    /// Nothing more comes.
    Over {
        /// Number of the capture.
        id: u32,
        /// The node cannot capture that.
        is_refused: bool,
    },
}

/// A node's counters, on their way to whoever asked.
#[derive(Clone, Debug)]
pub struct NodeReport {
    /// The node.
    pub node: NodeNumber,
    /// Number of the request.
    pub id: u32,
    /// The counters.
    pub items: Vec<ReportItem>,
    /// The last frames that it dropped.
    pub drops: Vec<ReportedDrop>,
}

/// The control thread's end. Dropping it has the pump end in order.
#[derive(Debug)]
pub struct PumpLink {
    orders: Option<Sender<Order>>,
    wake: Arc<OwnedFd>,
    /// Reports of nodes; ends when the pump does.
    pub reports: mpsc::Receiver<NodeReport>,
}

/// The pump's end.
#[derive(Debug)]
pub struct PumpEnd {
    /// Orders; disconnected when the pump is to end.
    pub orders: Receiver<Order>,
    /// Readable when an order has come.
    pub wake: Arc<OwnedFd>,
    /// Where reports go.
    pub reports: mpsc::Sender<NodeReport>,
}

/// The pump has ended or does not keep up with orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PumpGone;

impl fmt::Display for PumpGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the data worker takes no orders")
    }
}

impl std::error::Error for PumpGone {}

/// A pair of ends.
///
/// # Errors
///
/// When the system has no eventfd to give.
pub fn pump_link() -> io::Result<(PumpLink, PumpEnd)> {
    let (order_sender, order_receiver) = crossbeam_channel::bounded(ORDERS_MAX);
    let (report_sender, report_receiver) = mpsc::channel(REPORTS_MAX);
    let wake = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let link = PumpLink { orders: Some(order_sender), wake: Arc::clone(&wake), reports: report_receiver };
    Ok((link, PumpEnd { orders: order_receiver, wake, reports: report_sender }))
}

impl PumpLink {
    /// Gives the pump an order and wakes it.
    ///
    /// # Errors
    ///
    /// When it has ended, or too many orders wait.
    pub fn order(&self, order: Order) -> Result<(), PumpGone> {
        let orders = self.orders.as_ref().ok_or(PumpGone)?;
        orders.try_send(order).map_err(|_| PumpGone)?;
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        set(&self.wake);
    }
}

fn set(wake: &OwnedFd) {
    // Fails only when the count is at its end: then the pump has been woken already.
    let _ = rustix::io::write(wake, &1_u64.to_ne_bytes());
}

impl Drop for PumpLink {
    fn drop(&mut self) {
        self.orders = None;
        self.wake();
    }
}

impl PumpEnd {
    /// Makes the eventfd readable: there is more to do than was done.
    pub fn set_wake(&self) {
        set(&self.wake);
    }

    /// Makes the eventfd unreadable again.
    pub fn clear_wake(&self) {
        let mut count = [0; 8];
        // Nothing to read means that it is clear.
        let _ = rustix::io::read(&self.wake, &mut count[..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_bounded_and_the_end_of_the_link_is_seen() {
        let (link, end) = pump_link().unwrap();
        let order = || Order::Command(Command::RequestReports { id: 1 });
        for _ in 0..ORDERS_MAX {
            link.order(order()).unwrap();
        }
        assert_eq!(link.order(order()), Err(PumpGone));
        drop(link);
        assert_eq!(end.orders.try_iter().count(), ORDERS_MAX);
        assert!(matches!(end.orders.try_recv(), Err(crossbeam_channel::TryRecvError::Disconnected)));
    }
}
