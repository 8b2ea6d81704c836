//! What a control node and its host say to each other: an administrator's commands in, work for the host out.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use rvi::ArenaConfig;
use vlan_core::wire::control::{CaptureOrder, Fault, ReportItem, ReportedDrop, Traced};
use vlan_core::{LanId, LegNumber, NodeNumber, PairEpoch, ProcessId};

use super::{Changes, ControlNodeEvent};

/// What an administrator may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Cut the direct RVIs of two nodes, or one leg of their association, until healed (a drill).
    Cut {
        /// One node.
        a: NodeNumber,
        /// The other.
        b: NodeNumber,
        /// The leg; all when none.
        leg: Option<LegNumber>,
    },
    /// Let what was cut come back.
    Heal {
        /// One node.
        a: NodeNumber,
        /// The other.
        b: NodeNumber,
        /// The leg; everything when none.
        leg: Option<LegNumber>,
    },
    /// Pass a fault on to the packet legs of a node (a drill); one that is not attached does not hear of it.
    Fault {
        /// The node; all when none.
        node: Option<NodeNumber>,
        /// The fault, or its end.
        fault: Fault,
    },
    /// Have a node copy what passes an interface or an RVI of it: [`Output::Captured`] brings the copies, and
    /// [`Output::CaptureOver`] ends it. A node that is not attached begins when it is.
    Capture {
        /// The node.
        node: NodeNumber,
        /// What it is to copy; its `id` is no other capture's.
        order: CaptureOrder,
    },
    /// Copy what passes the uplink of a LAN, as it is inside: [`Output::Captured`] brings the copies, and [`Output::CaptureOver`] ends it.
    CaptureUplink {
        /// The LAN.
        lan: LanId,
        /// What time it is now: nanoseconds since 1970-01-01.
        unix_ns: u64,
        /// What is to be copied; its `id` is no other capture's, and its `point` means nothing.
        order: CaptureOrder,
    },
    /// Copies have been got rid of: as many more may come.
    CaptureCredit {
        /// Number of the capture.
        id: u32,
        /// What the messages cost ([`vlan_core::wire::CapturedHeader::cost`]).
        octets: u32,
    },
    /// End a capture.
    CaptureEnd {
        /// Number of the capture.
        id: u32,
        /// Nobody wants what has been copied.
        discard: bool,
    },
    /// Give the servers of clusters on a node no new flows.
    Drain {
        /// The node.
        node: NodeNumber,
        /// After this time they lose the flows that they have; never when none.
        within: Option<Duration>,
    },
    /// Give them new flows again.
    Undrain {
        /// The node.
        node: NodeNumber,
    },
    /// Put a configuration into use that differs from the former one in LANs, members and options of members.
    Apply {
        /// Its number.
        epoch: u64,
        /// What differs.
        changes: Box<Changes>,
    },
    /// Ask every attached node for its counters; each answers with [`Output::Report`].
    RequestReports {
        /// Number of the request.
        id: u32,
    },
}

/// What the host is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Make a socketpair and give an end to each of these processes, over their control leg of this number.
    Introduce {
        /// One node and its process.
        a: (NodeNumber, ProcessId),
        /// The other.
        b: (NodeNumber, ProcessId),
        /// The epoch of their association, which each end is told with its socket.
        epoch: PairEpoch,
        /// The leg of their association.
        leg: LegNumber,
    },
    /// Make memory of `config.region_len()` zero octets that this process writes and others can map for reading alone, and
    /// answer with [`super::ControlNode::handle_arena`], which gives those who are to have it.
    MakeArena {
        /// The LAN that it is for.
        lan: LanId,
        /// What it is to be.
        config: ArenaConfig,
    },
    /// This end has left the leg: shut the sending side of its socket down; when the other end has hung up too,
    /// call `handle_leg_gone` unless that was done, and close the socket. When a leg of the same name comes up first, the
    /// machine takes this back, and the host closes the earlier socket by itself.
    CloseLeg {
        /// The node.
        node: NodeNumber,
        /// Its process.
        process: ProcessId,
        /// The leg.
        leg: LegNumber,
    },
    /// A node's report is complete.
    Report {
        /// The node.
        node: NodeNumber,
        /// Number of the request.
        id: u32,
        /// The counters.
        items: Vec<ReportItem>,
        /// The last frames that it dropped.
        drops: Vec<ReportedDrop>,
    },
    /// Copies of a capture: a message that begins with a [`vlan_core::wire::CapturedHeader`].
    Captured {
        /// Number of the capture.
        id: u32,
        /// The message.
        octets: Vec<u8>,
    },
    /// Nothing more comes of a capture.
    CaptureOver {
        /// Number of the capture.
        id: u32,
        /// Its node cannot capture that.
        is_refused: bool,
    },
    /// What a node would do with a frame, as [`super::ControlNode::trace`] asked.
    Traced {
        /// The node.
        node: NodeNumber,
        /// What it would do.
        traced: Traced,
    },
    /// The nodes have been told, after [`super::ControlNode::leave`]: once the packets that are there have been sent, the process
    /// may end.
    Left,
    /// Something the operator may want to know.
    Log(ControlNodeEvent),
}
