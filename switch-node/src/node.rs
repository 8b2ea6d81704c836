//! A node of the fabric as a machine: drivers, registration and associations in one, without I/O.
//!
//! The agent, the simulator and firmware are hosts of this same code. A host connects legs, feeds frames with
//! [`Node::send_frame`], takes frames with [`Node::receive`], ends each batch with [`Node::publish`], rings the
//! doorbells that [`Node::poll_doorbell`] names and carries out what [`Node::poll_output`] gives.

mod arenas;
mod capture;
mod changes;
mod clusters;
mod control;
mod control_packets;
mod direct;
mod egress;
mod epochs;
mod event;
mod group_meters;
mod groups;
mod held;
mod ingress;
mod interface;
mod leaving;
mod packets;
mod promiscuous;
mod registration;
mod relay_legs;
mod report;
mod trace;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use rvi::{Association, AssociationConfig, Scheduler, Scratch, SessionTag, SharedOctets, ShmLeg};
use vlan_core::counters::DropCounters;
use vlan_core::driver::DriverCounters;
use vlan_core::drop_example::DropExamples;
use vlan_core::limits::RECONNECT_MIN;
use vlan_core::random::Random;
use vlan_core::wire::control::{Fault, InterfaceAddress, InterfaceConfig, OfferedLeg};
use vlan_core::wire::frame::Vnet;
use vlan_core::{
    CabinetNumber, DropReason, Instant, LanId, LegNumber, NodeNumber, PairEpoch, ProcessId, VifNumber,
};

use capture::Captures;
use control::{ControlLink, LegState};
use direct::DirectLink;
use epochs::EndedEpochs;
use interface::Interface;
use leaving::Leaving;

pub use clusters::AskedCheck;
pub use egress::Batch;
pub use event::NodeEvent;
pub use interface::InterfaceState;
pub use relay_legs::RelayedCounters;
pub use rvi::packet::port::PacketBatch;

use packets::Packets;

/// The other end of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerId {
    /// A control node, by its place in the platform file.
    ControlNode(u8),
    /// Another node.
    Node(NodeNumber),
}

/// What a node is told when it is made.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Its number.
    pub number: NodeNumber,
    /// This life of it, drawn at random by the host.
    pub process: ProcessId,
    /// Its cabinet.
    pub cabinet: CabinetNumber,
    /// The legs to each control node.
    pub control_node_legs: Vec<Vec<LegNumber>>,
    /// Seed of jitter, lanes and tables.
    pub seed: u64,
}

/// Whether the interface's device took a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It did.
    Taken,
    /// It had no room or refused the frame: counted as `device-full`.
    DeviceFull,
}

/// Takes the frames that come out of the fabric.
pub trait FrameSink {
    /// Gives a frame to the stack behind `vif`: `head` first, then `rest`, which its sender may still change.
    fn deliver(&mut self, vif: VifNumber, vnet: &Vnet, head: &[u8], rest: SharedOctets<'_>) -> Delivery;
}

/// What became of a frame that a stack sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Taken: on its way, held for a moment, or dropped and counted.
    Taken,
    /// Dropped and counted: it was beyond a limit of its interface. There is no hurry to read more from a stack that sends
    /// nothing else.
    Limited,
    /// Not taken, because its way is full but moving: offer it again after the next batch, and take no more
    /// frames from that interface meanwhile.
    Busy,
}

/// What the host is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Connect this leg to a control node; answer with `handle_control_leg_up` or `handle_connect_failed`.
    Connect {
        /// The control node, by its place in the platform file.
        control_node: u8,
        /// The leg.
        leg: LegNumber,
        /// This node's number of the session that the leg is for.
        session: u32,
    },
    /// This end has left the leg: shut the sending side of its socket down. When the other end has hung up too
    /// (at once, if it has already), call `handle_leg_gone` unless that was done, and close the socket. When a leg of the
    /// same name comes up first, the machine takes this back, and the host closes the earlier socket by itself.
    CloseLeg {
        /// The other end.
        peer: PeerId,
        /// Its process.
        process: ProcessId,
        /// The leg.
        leg: LegNumber,
    },
    /// Make this interface, or change it to this.
    Interface(InterfaceConfig),
    /// Take this interface away.
    InterfaceRemoved {
        /// The interface.
        vif: VifNumber,
    },
    /// Put this fault on packet legs, or take it off (a drill; it ends with the control session).
    Fault(Fault),
    /// Check a service; answer with [`Node::handle_checked`]. A host that makes no checks leaves them unanswered.
    Check(AskedCheck),
    /// A capture begins: say what time it is with [`Node::handle_wall_clock`].
    WallClock,
    /// A newer process serves this node: stop, and do not start again.
    Fenced,
    /// This node has left all its legs, after [`Node::leave`]: the process may end.
    Left,
    /// Something the operator may want to know.
    Log(NodeEvent),
}

/// A leg whose socket has hung up; what its peer published before is taken first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct GoneLeg {
    peer: PeerId,
    process: ProcessId,
    leg: LegNumber,
}

/// How long an end that has left a leg waits for the other's hang-up before it goes on without.
const LEAVE_WAIT: Duration = Duration::from_secs(1);
/// How soon a frame that is held because a ring is full is tried again: nobody rings when room comes back.
const HELD_RETRY: Duration = Duration::from_micros(500);

/// A node.
pub struct Node {
    config: NodeConfig,
    random: Random,
    control: Vec<ControlLink>,
    /// Boxed, so that one can be taken out while it is worked on.
    direct: Vec<Option<Box<DirectLink>>>,
    /// Place in `direct` by node number; `u16::MAX` is none. At most 128 KiB.
    direct_places: Vec<u16>,
    /// Of direct associations.
    ended: EndedEpochs,
    /// The packet legs that this node is ready for.
    offered: Vec<OfferedLeg>,
    /// What packet legs need; none where there are none.
    packets: Option<Packets>,
    /// By vif number.
    interfaces: Vec<Option<Interface>>,
    gone: Vec<GoneLeg>,
    /// A driver has a query of multicast groups for its interface.
    queries_wait: bool,
    /// An interface that serves a cluster may have something to tell of its flows.
    has_flow_news: bool,
    /// Where the round over the associations goes on.
    next_link: usize,
    outputs: VecDeque<Output>,
    scratch: Scratch,
    /// Messages that were for none of the interfaces.
    drops: DropCounters,
    /// Of interfaces that were taken away.
    former: DriverCounters,
    relayed: RelayedCounters,
    /// The ether legs, and whether their frames come by AF_XDP, for reports.
    ether_legs: BTreeMap<LegNumber, bool>,
    /// Set when this node ends in order.
    leaving: Option<Leaving>,
    /// Its host can map arenas.
    takes_arenas: bool,
    /// When it gives back the arenas of LANs that it has left, the earliest first.
    unmaps: Vec<(LanId, Instant)>,
    /// It was asked to spoil its packets, and not to stop since.
    is_spoiled: bool,
    /// None while nothing is captured, which is nearly always.
    captures: Option<Box<Captures>>,
    drop_examples: DropExamples,
    /// The time of the batch that is being received.
    batch_at: Instant,
}

impl Node {
    /// Makes a node that knows nothing but its number and where the control nodes are.
    ///
    /// # Panics
    /// When there are more control nodes than [`vlan_core::limits::CONTROL_NODES_MAX`].
    #[must_use]
    pub fn new(config: NodeConfig) -> Self {
        assert!(config.control_node_legs.len() <= vlan_core::limits::CONTROL_NODES_MAX);
        let mut random = Random::new(config.seed);
        let control = config
            .control_node_legs
            .iter()
            .map(|legs| ControlLink::new(legs, association(Scheduler::Failover, random.next_u64())))
            .collect();
        Self {
            config,
            random,
            control,
            direct: Vec::new(),
            direct_places: Vec::new(),
            ended: EndedEpochs::default(),
            offered: Vec::new(),
            packets: None,
            interfaces: Vec::new(),
            gone: Vec::new(),
            queries_wait: false,
            has_flow_news: false,
            next_link: 0,
            outputs: VecDeque::new(),
            scratch: Scratch::default(),
            drops: DropCounters::default(),
            former: DriverCounters::default(),
            relayed: RelayedCounters::default(),
            ether_legs: BTreeMap::new(),
            leaving: None,
            takes_arenas: false,
            unmaps: Vec::new(),
            is_spoiled: false,
            captures: None,
            drop_examples: DropExamples::default(),
            batch_at: Instant::ZERO,
        }
    }

    /// The node's number.
    #[must_use]
    pub fn number(&self) -> NodeNumber {
        self.config.number
    }

    /// True when a control node has accepted this node and told it its whole configuration.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.attached().is_some()
    }

    /// The interfaces this node has now, with their state.
    pub fn interfaces(&self) -> impl Iterator<Item = InterfaceState<'_>> {
        self.interfaces.iter().flatten().map(Interface::state)
    }

    /// Messages dropped that were for none of the interfaces, by reason.
    #[must_use]
    pub fn drops(&self) -> &DropCounters {
        &self.drops
    }

    // --- legs -----------------------------------------------------------------------------------------------

    /// A leg to a control node is up: the host has proved who is there and exchanged memory. `tag` names the
    /// session that it is for. A leg of the same name takes the place of the one there was.
    ///
    /// False: it is for a session that is over. The host closes its socket and says nothing more of it.
    #[must_use]
    pub fn handle_control_leg_up(
        &mut self,
        now: Instant,
        control_node: u8,
        process: ProcessId,
        leg: LegNumber,
        tag: SessionTag,
        shm: ShmLeg,
    ) -> bool {
        self.control_leg_up(now, control_node, process, leg, tag, shm)
    }

    /// A leg to another node is up: a control node has introduced it for the association of this epoch, and memory is
    /// exchanged. A leg of the same name takes the place of the one there was, and what that held is sent again by its
    /// sender.
    ///
    /// False: that association is over here. The host closes the leg's socket and says nothing more of it; the peer finds
    /// that nothing of it was taken.
    #[must_use]
    pub fn handle_leg_up(
        &mut self,
        now: Instant,
        node: NodeNumber,
        process: ProcessId,
        epoch: PairEpoch,
        leg: LegNumber,
        shm: ShmLeg,
    ) -> bool {
        self.direct_leg_up(now, (node, process), epoch, leg, shm)
    }

    /// A leg takes the place of the one of the same name, which the host closes then: what was still to be done about
    /// that one would be done to this one.
    //= spec/rvi.md#legs-of-the-same-name
    //# When a leg takes the place of another of its name, a machine MUST take back what it wanted done to the earlier one.
    fn forget_earlier_leg(&mut self, peer: PeerId, process: ProcessId, leg: LegNumber) {
        let earlier = GoneLeg { peer, process, leg };
        self.gone.retain(|gone| *gone != earlier);
        self.outputs.retain(|output| match *output {
            Output::CloseLeg { peer, process, leg } => GoneLeg { peer, process, leg } != earlier,
            _ => true,
        });
    }

    /// The other end of a leg has hung up. What it published before is still taken, by the next
    /// [`Self::receive`], before the leg is given up.
    pub fn handle_leg_gone(&mut self, _now: Instant, peer: PeerId, peer_process: ProcessId, leg: LegNumber) {
        let gone = GoneLeg { peer, process: peer_process, leg };
        if !self.gone.contains(&gone) {
            self.gone.push(gone);
        }
    }

    /// Connecting a leg to a control node did not work; it is tried again later.
    pub fn handle_connect_failed(&mut self, now: Instant, control_node: u8, leg: LegNumber) {
        if let Some(link) = self.control.get_mut(usize::from(control_node)) {
            link.connect_failed(now, leg, &mut self.random);
            self.end_session_without_legs(now, usize::from(control_node));
        }
    }

    // --- the end of a batch ---------------------------------------------------------------------------------

    /// Ends a batch: held frames whose way is free go, everything sent becomes visible to its receivers, and
    /// the room of everything received goes back to its senders.
    pub fn publish(&mut self, now: Instant) {
        self.flush_held(now);
        self.tell_flows(now);
        self.go_on_leaving(now);
        self.send_copies(now);
        for link in &mut self.control {
            link.association.publish();
            link.association.release();
        }
        for link in self.direct.iter_mut().flatten() {
            link.association.publish();
            link.association.release();
        }
        self.drain_association_events(now);
    }

    /// The next leg whose other end sleeps and has something to take.
    pub fn poll_doorbell(&mut self) -> Option<(PeerId, ProcessId, LegNumber)> {
        for (index, link) in self.control.iter_mut().enumerate() {
            if let (Some(leg), Some(process)) = (link.association.poll_doorbell(), link.process) {
                return Some((PeerId::ControlNode(index as u8), process, leg));
            }
        }
        for link in self.direct.iter_mut().flatten() {
            if let Some(leg) = link.association.poll_doorbell() {
                return Some((PeerId::Node(link.node), link.process, leg));
            }
        }
        None
    }

    /// Announces to every peer that this node is about to sleep. False: something has arrived meanwhile, and
    /// the node is awake.
    pub fn prepare_sleep(&mut self) -> bool {
        if !self.gone.is_empty() {
            return false;
        }
        let control = self.control.iter_mut().map(|link| &mut link.association);
        let direct = self.direct.iter_mut().flatten().map(|link| &mut link.association);
        let mut quiet = true;
        for association in control.chain(direct) {
            quiet &= association.prepare_sleep();
        }
        if !quiet {
            self.wake();
        }
        quiet
    }

    /// Takes back what [`Self::prepare_sleep`] announced.
    pub fn wake(&mut self) {
        for link in &mut self.control {
            link.association.wake();
        }
        for link in self.direct.iter_mut().flatten() {
            link.association.wake();
        }
    }

    // --- time -----------------------------------------------------------------------------------------------

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.control_timeouts(now);
        self.direct_timeouts(now);
        self.barrier_timeouts(now);
        self.group_timeouts(now);
        self.flow_timeouts(now);
        self.unmap_arenas(now);
        self.expire_held(now);
        self.expire_copies(now);
        self.flush_held(now);
        self.send_copies(now);
        self.go_on_leaving(now);
        self.drain_association_events(now);
    }

    /// When [`Self::handle_timeout`] is wanted next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.gone.is_empty() || self.queries_wait {
            return Some(Instant::ZERO);
        }
        let control = self.control.iter().filter_map(ControlLink::poll_timeout);
        let direct = self.direct.iter().flatten().filter_map(|link| link.poll_timeout());
        let interfaces = self.interfaces.iter().flatten().filter_map(Interface::poll_timeout);
        let leaving = self.leaving.as_ref().and_then(Leaving::poll_timeout);
        let arenas = self.unmaps.first().map(|(_, at)| *at);
        control
            .chain(direct)
            .chain(interfaces)
            .chain(leaving)
            .chain(self.copies_timeout())
            .chain(arenas)
            .min()
    }

    /// The next thing for the host to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    // --- shared by the parts --------------------------------------------------------------------------------

    fn log(&mut self, event: NodeEvent) {
        self.outputs.push_back(Output::Log(event));
    }

    fn interface(&self, vif: VifNumber) -> Option<&Interface> {
        self.interfaces.get(usize::from(vif.0))?.as_ref()
    }

    fn interface_mut(&mut self, vif: VifNumber) -> Option<&mut Interface> {
        self.interfaces.get_mut(usize::from(vif.0))?.as_mut()
    }

    /// The control node that frames go to, but for those of clusters: the first that has accepted this node.
    fn attached(&self) -> Option<usize> {
        self.control.iter().position(ControlLink::is_attached)
    }

    /// The place of the direct link to `node`.
    #[inline]
    fn direct_to(&self, node: NodeNumber) -> Option<usize> {
        direct_place(&self.direct_places, node)
    }

    /// Takes what the associations report of themselves: broken legs and frames that waited too long.
    fn drain_association_events(&mut self, now: Instant) {
        let control = self.control.iter_mut().map(|link| &mut link.association);
        for association in control.chain(self.direct.iter_mut().flatten().map(|link| &mut link.association)) {
            self.drops.add_many(DropReason::NoChannel, association.take_refused());
        }
        for index in 0..self.control.len() {
            self.drain_control_events(now, index);
        }
        for index in 0..self.direct.len() {
            self.drain_direct_events(now, index);
        }
    }

    fn drain_control_events(&mut self, now: Instant, index: usize) {
        while let Some(event) = self.control[index].association.poll_event() {
            let process = self.control[index].process.unwrap_or_default();
            self.association_event(now, PeerId::ControlNode(index as u8), process, event);
        }
    }

    fn drain_direct_events(&mut self, now: Instant, place: usize) {
        while let Some(link) = &mut self.direct[place] {
            let (node, process) = (link.node, link.process);
            let Some(event) = link.association.poll_event() else { break };
            self.association_event(now, PeerId::Node(node), process, event);
        }
    }

    fn association_event(
        &mut self,
        now: Instant,
        peer: PeerId,
        process: ProcessId,
        event: rvi::AssociationEvent,
    ) {
        match event {
            rvi::AssociationEvent::LegDown(leg, rvi::LegDownReason::Protocol(error)) => {
                // The peer wrote nonsense: this leg is given up, others go on.
                self.log(NodeEvent::LegBroken { peer, leg, error });
                self.outputs.push_back(Output::CloseLeg { peer, process, leg });
                self.handle_leg_gone(now, peer, process, leg);
            }
            rvi::AssociationEvent::ParkedExpired { channel, .. } => {
                let vif = match peer {
                    PeerId::ControlNode(index) => self.control[usize::from(index)].vif_of(channel),
                    PeerId::Node(node) => {
                        let link = self.direct_to(node).and_then(|place| self.direct[place].as_ref());
                        link.and_then(|link| link.rvi_of(channel)).map(|rvi| rvi.vif)
                    }
                };
                if let Some(interface) = vif.and_then(|vif| self.interface_mut(vif)) {
                    interface.driver.count_drop(DropReason::Expired, 1);
                }
            }
            event => match peer {
                PeerId::ControlNode(index) => self.control_packet_event(now, index.into(), event),
                PeerId::Node(node) => self.packet_event(now, node, event),
            },
        }
    }
}

/// An association that parks nothing itself: this node holds frames at their interface, where they can still
/// take another way.
fn association(scheduler: Scheduler, seed: u64) -> Association {
    Association::new(&AssociationConfig {
        scheduler,
        seed,
        park_messages_max: 0,
        park_octets_max: 0,
        session: 0,
    })
}

/// The first pause before a leg is tried again, spread by up to a quarter so that nodes do not come together.
fn backoff(previous: Option<Duration>, random: &mut Random) -> Duration {
    let base = previous.map_or(RECONNECT_MIN, |d| (d * 2).min(vlan_core::limits::RECONNECT_MAX));
    base + Duration::from_nanos(random.below(base.as_nanos() as u64 / 4 + 1))
}

impl LegState {
    fn due(&self) -> Option<Instant> {
        match self {
            Self::Waiting { until, .. } => Some(*until),
            Self::Connecting { .. } | Self::Up => None,
        }
    }
}

impl Node {
    /// Takes the complete list of addresses that the stack has on `vif` now; changes are told to the control
    /// nodes (S29, S93, S86).
    pub fn handle_addresses(&mut self, now: Instant, vif: VifNumber, addresses: &[InterfaceAddress]) {
        let Some(interface) = self.interface_mut(vif) else { return };
        let messages = interface.change_addresses(addresses);
        for message in &messages {
            self.tell_all_attached(now, message);
        }
    }
}

/// The place of the direct link to `node`, by the table of all of them.
#[inline]
fn direct_place(places: &[u16], node: NodeNumber) -> Option<usize> {
    let place = usize::from(*places.get(usize::from(node.0))?);
    (place != usize::from(u16::MAX)).then_some(place)
}

#[cfg(test)]
mod tests;
