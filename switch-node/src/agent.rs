//! The agent: a host of [`Node`] on Linux. It gives each virtual interface a TAP in the tenant's namespace, connects
//! the legs, and drives everything from one thread.
//!
//! | file | is |
//! |---|---|
//! | `pump.rs` | the loop |
//! | `ports.rs`, `cut.rs`, `tap.rs` | the interfaces: frames in and out, what they are wanted to be |
//! | `checks.rs` | connections that check services of clusters |
//! | `devices.rs`, `closing.rs` | devices are made, changed, looked at and taken away, in threads of their own |
//! | `netlink.rs`, `namespace.rs` | the kernel's side of an interface; `netlink/links.rs` makes links for labs |
//! | `legs.rs` | sockets: set-up, doorbells, hang-up |
//! | `packets.rs` | the sockets of packet legs |
//! | `poller.rs`, `spin.rs`, `give_way.rs`, `pause.rs` | waiting, and letting others run |
//! | `ready.rs`, `signals.rs` | telling a supervisor, and being told to end |

mod batch;
mod checks;
mod closing;
pub mod cut;
mod devices;
mod give_way;
mod legs;
pub mod namespace;
pub mod netlink;
mod packets;
mod pause;
mod poller;
mod ports;
mod pump;
mod ready;
pub mod signals;
mod spin;
pub mod tap;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rvi::host::packets::{LegPlace, PacketSockets};
use rvi::host::{PrivateKey, random_octets, random_u64};
use tracing::warn;
use vlan_core::{CabinetNumber, LegNumber, NodeNumber, ProcessId};

use crate::node::{Node, NodeConfig};
use devices::Devices;
use legs::{Identity, Legs};
use namespace::Namespace;
use netlink::{AddressMonitor, Netlink, NetlinkError};
use poller::{Poller, Source};
use ports::Ports;
use pump::{Pump, PumpState};
use signals::Signals;

pub use legs::ControlNodeTarget;
pub use ready::Readiness;
pub use rvi::host::packets::PacketLegError;

/// What the pump does when there is no work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitPolicy {
    /// Spin briefly when frames flowed a moment ago, then sleep until a doorbell: idle costs nothing.
    #[default]
    Interrupt,
    /// Never sleep: the lowest latency for a core of its own.
    Poll,
}

/// What an agent is told when it starts.
#[derive(Debug)]
pub struct AgentConfig {
    /// The node's number.
    pub number: NodeNumber,
    /// Its cabinet.
    pub cabinet: CabinetNumber,
    /// Its key.
    pub key: PrivateKey,
    /// The control nodes, in the order of the platform file.
    pub control_nodes: Vec<ControlNodeTarget>,
    /// Where its packet legs end.
    pub packet_legs: Vec<(LegNumber, LegPlace)>,
    /// Where its interfaces go.
    pub namespace: Namespace,
    /// What it does when there is no work.
    pub wait: WaitPolicy,
    /// Who is told when it is ready.
    pub readiness: Readiness,
    /// Signals that ask it to end; without them it runs until it is fenced.
    pub signals: Option<Signals>,
}

/// How an agent ends that does not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A newer process serves this node: starting this one again cannot help.
    Fenced,
    /// It was asked to end, and has left its legs in order.
    Left,
}

/// The agent cannot go on.
#[derive(Debug)]
#[non_exhaustive]
pub enum AgentError {
    /// The namespace's interfaces cannot be configured.
    Netlink(NetlinkError),
    /// The system refuses to wait for descriptors.
    Wait(io::Error),
    /// A packet leg cannot be opened.
    PacketLeg(PacketLegError),
}

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Netlink(error) => error.fmt(f),
            Self::Wait(error) => write!(f, "cannot wait for descriptors: {error}"),
            Self::PacketLeg(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AgentError {}

/// A node agent, ready to run.
pub struct Agent {
    pump: Pump,
}

impl Agent {
    /// Opens everything that can be opened before a control node has been reached.
    ///
    /// # Errors
    /// When the system refuses it.
    ///
    /// # Panics
    /// When there are more control nodes than [`vlan_core::limits::CONTROL_NODES_MAX`].
    pub fn new(config: AgentConfig) -> Result<Self, AgentError> {
        let process = ProcessId(random_u64());
        let mut node = Node::new(NodeConfig {
            number: config.number,
            process,
            cabinet: config.cabinet,
            control_node_legs: leg_numbers(&config.control_nodes),
            seed: random_u64(),
        });
        node.enable_arenas();
        if !config.packet_legs.is_empty() {
            node.enable_packets(config.key.clone(), random_octets());
        }
        reach_by_packets(&mut node, &config.control_nodes);
        let monitor = AddressMonitor::open(&config.namespace).map_err(AgentError::Netlink)?;
        let mut netlink = Netlink::open(&config.namespace).map_err(AgentError::Netlink)?;
        // A namespace is born with loopback down; without it a tenant cannot even reach itself.
        if let Err(error) = netlink.index_of("lo").and_then(|lo| netlink.set_up(lo)) {
            warn!(%error, "loopback stays down");
        }
        let devices = Devices::start(config.namespace, netlink, monitor.hears_memberships());
        let ports = Ports::new(devices.map_err(AgentError::Wait)?);
        let poller = Poller::new().map_err(AgentError::Wait)?;
        poller.add(ports.as_fd(), Source::Devices).map_err(AgentError::Wait)?;
        // SAFETY: the monitor lives as long as the poller: both go into the pump.
        let watched = unsafe { BorrowedFd::borrow_raw(monitor.as_raw_fd()) };
        poller.add(watched, Source::Monitor).map_err(AgentError::Wait)?;
        if let Some(signals) = &config.signals {
            poller.add(signals.as_fd(), Source::Signals).map_err(AgentError::Wait)?;
        }
        let identity = Identity { number: config.number, process, key: config.key };
        let legs = Legs::new(identity, config.control_nodes);
        let (policy, readiness, signals) = (config.wait, config.readiness, config.signals);
        let state = PumpState::default();
        let mut packets = PacketSockets::open(&config.packet_legs).map_err(AgentError::PacketLeg)?;
        if let Some(packets) = &mut packets {
            packets::start(packets, pump::clock(), &mut node, &poller).map_err(AgentError::Wait)?;
        }
        Ok(Self {
            pump: Pump { node, ports, legs, packets, poller, monitor, signals, readiness, policy, state },
        })
    }

    /// Serves the node, until it is fenced or a signal asks it to end. A control node that is not there is waited for.
    ///
    /// # Errors
    /// When the system refuses to wait.
    pub fn run(&mut self) -> Result<End, AgentError> {
        self.pump.run().map_err(AgentError::Wait)
    }
}

/// Control nodes of other hosts have no sockets that could be connected.
fn reach_by_packets(node: &mut Node, control_nodes: &[ControlNodeTarget]) {
    for (index, target) in (0..).zip(control_nodes) {
        if !target.packet_legs.is_empty() {
            node.reach_by_packets(index, target.public_key, target.packet_legs.clone());
        }
    }
}

fn leg_numbers(control_nodes: &[ControlNodeTarget]) -> Vec<Vec<LegNumber>> {
    control_nodes.iter().map(|target| target.legs.iter().map(|(leg, _)| *leg).collect()).collect()
}
