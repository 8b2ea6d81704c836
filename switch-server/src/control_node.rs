//! The control node as a machine: virtual LAN servers, ARP servers, registration, grants and relay in one,
//! without I/O.
//!
//! On the walk: a frame arrives on a node's control RVI ([`relay`]), its LAN's server gives the verdict, and it is
//! copied once into the ring of each receiver. Everything else here decides who is on which LAN and which pairs
//! of nodes have a direct RVI.

mod apply;
mod arena;
mod capture;
mod clusters;
mod config;
mod event;
mod groups;
mod host;
mod leaving;
mod leg_addresses;
mod listeners;
mod membership;
mod moved;
mod nodes;
mod packets;
mod pairs;
mod registration;
mod relay;
mod senders;
mod session;
mod stations;
mod status;
mod trace;
mod uplink;
mod waits;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use arp_server::{ArpConfig, ArpServer};
use rvi::{LegEnd, Scratch, SessionTag, ShmLeg};
use vlan_core::counters::DropCounters;
use vlan_core::drop_example::DropExamples;
use vlan_core::limits::ADDRESSES_PER_VIF_MAX;
use vlan_core::random::Random;
use vlan_core::server::{LanServer, LanServerConfig, MemberSlot};
use vlan_core::wire::control::ControlMessage;
use vlan_core::{Channel, Instant, LegNumber, MacAddress, NodeNumber, ProcessId, VifNumber};

pub use apply::{Changes, LanOptions, MemberOptions};
pub use arena::{ArenaPolicy, ArenaStatus};
pub use clusters::{
    CheckCounters, CheckFailure, ClusterEntry, ClusterRole, ClusterStatus, ServerStatus, ServiceStatus,
    server_name,
};
pub use config::{ArpMode, ControlNodeConfig, FabricEntry, LanConfig, MemberConfig, NodeEntry};
pub use event::ControlNodeEvent;
pub use groups::{GroupMemberStatus, GroupSource, GroupStatus};
pub use host::{Command, Output};
pub use listeners::ListenRefusal;
pub use membership::AddedMember;
pub use pairs::RelayCounters;
pub use senders::SenderConfig;
pub use status::{
    BindingStatus, LanStatus, MemberStatus, NodeStatus, RviLegStatus, RviState, RviStatus, Status,
};
pub use trace::{Judgement, Receiver as TraceReceiver};
pub use uplink::{DeviceNumber, DeviceState, DeviceStatus, UplinkChange, UplinkConfig, UplinkStatus};
pub use vlan_core::server::PortSecurity;

use arena::LanArena;
use capture::Capture;
use clusters::Cluster;
use leaving::Leaving;
use moved::Moves;
use packets::Packets;
use pairs::Pairs;
use session::Session;
use uplink::{Once, Uplinks};

/// Where a member's frames go.
#[derive(Clone, Copy, Debug)]
struct Route {
    /// Place of the session that serves the member.
    session: Option<usize>,
    node: NodeNumber,
    vif: VifNumber,
    relay: Channel,
    arp: Channel,
}

/// One virtual LAN: its server, its ARP server, and the way to each member.
struct Lan {
    config: LanConfig,
    server: LanServer,
    arp: ArpServer,
    /// By member slot.
    routes: Vec<Route>,
    /// How often each member, by slot, wanted to listen and may not.
    refused_listeners: Vec<u64>,
    /// Whose nodes, by slot, have said in this session whether they listen.
    has_said_listening: Vec<bool>,
    arena: LanArena,
    /// Place of its uplink.
    uplink: Option<usize>,
    /// Which frames have gone outside, by this uplink or an earlier one.
    been_outside: Once,
    /// By their numbers in its server.
    clusters: Vec<Cluster>,
    /// The number of the cluster that has an address, and the MAC of that.
    cluster_addresses: BTreeMap<IpAddr, (u16, MacAddress)>,
    moves: Moves,
}

/// Octets taken from one node before the next has its turn (amendment 23): about ten full-sized frames. A longer
/// message is paid for with the next turns.
const TURN_OCTETS: i32 = 16 * 1024;
/// What a message counts for at least: a short frame costs as much work as this many octets.
const MESSAGE_OCTETS_MIN: usize = 256;

/// A control node.
pub struct ControlNode {
    config: ControlNodeConfig,
    random: Random,
    lans: Vec<Lan>,
    uplinks: Uplinks,
    /// Boxed, so that the one that is worked on can be taken out while others are sent to.
    sessions: Vec<Option<Box<Session>>>,
    pairs: Pairs,
    /// What packet legs need; none where there are none.
    packets: Option<Packets>,
    next_session: usize,
    /// Number of the next session, in its tag and for charges (0 is nobody).
    next_number: u32,
    /// Number of the next arena, and when there is one.
    next_arena: u32,
    arena_policy: ArenaPolicy,
    /// Addresses that have got another MAC, with the places of their LANs.
    moved: Vec<(usize, IpAddr)>,
    outputs: VecDeque<Output>,
    scratch: Scratch,
    /// Messages that were for none of the LANs.
    drops: DropCounters,
    relay: RelayCounters,
    captures: Vec<Capture>,
    cluster_role: ClusterRole,
    /// The packet for a cluster that is looked at just now.
    cluster_frame: Vec<u8>,
    /// Nodes that drain, and until when at most.
    drains: BTreeMap<NodeNumber, Option<Instant>>,
    drop_examples: DropExamples,
    /// Set when this control node ends in order.
    leaving: Option<Leaving>,
}

impl ControlNode {
    /// Makes a control node to which nobody is attached.
    #[must_use]
    pub fn new(config: ControlNodeConfig) -> Self {
        let mut random = Random::new(config.seed);
        let mut lans: Vec<Lan> =
            config.lans.iter().map(|lan| Lan::new(config.started, lan, random.next_u64())).collect();
        let mut uplinks = Uplinks::new(config.devices, &mut lans, random.next_u64());
        uplinks.members_changed(&lans);
        let first_epoch = Random::new(!config.seed).next_u64() as u32;
        Self {
            config,
            random,
            lans,
            uplinks,
            sessions: Vec::new(),
            pairs: Pairs::new(first_epoch),
            packets: None,
            next_session: 0,
            next_number: 1,
            next_arena: 1,
            arena_policy: ArenaPolicy::default(),
            moved: Vec::new(),
            outputs: VecDeque::new(),
            scratch: Scratch::default(),
            drops: DropCounters::default(),
            relay: RelayCounters::default(),
            captures: Vec::new(),
            cluster_role: ClusterRole::Has,
            cluster_frame: Vec::new(),
            drains: BTreeMap::new(),
            drop_examples: DropExamples::default(),
            leaving: None,
        }
    }

    // --- legs -----------------------------------------------------------------------------------------------

    /// The session that a leg of a node's process joins, or begins, when the process has set it up for its own
    /// session `number`. None: a later one of that process is there, or this control node ends. The host asks before it
    /// answers the set-up.
    #[must_use]
    pub fn session_tag(&self, node: NodeNumber, process: ProcessId, number: u32) -> Option<SessionTag> {
        if self.leaving.is_some() {
            return None;
        }
        let known = self.session_of(node, process).and_then(|place| self.sessions[place].as_ref());
        match known.map(|session| session.tag) {
            Some(tag) if tag.node == number => Some(tag),
            Some(tag) if tag.node > number => None,
            _ => Some(SessionTag { node: number, control_node: self.next_number }),
        }
    }

    /// A leg to a node's process is up: the host has proved who is there and exchanged memory, and told the node
    /// `tag`, which [`Self::session_tag`] gave. A leg of the same name takes the place of the one there was.
    ///
    /// False: its session is over. The host closes its socket and says nothing more of it.
    //= spec/leg-setup.md#session-tags
    //# An end MUST take a leg only into the session whose tag it has: the tag of a later session ends the one that is
    //# there first, and a leg with the tag of an earlier one MUST be closed.
    #[must_use]
    pub fn handle_leg_up(
        &mut self,
        now: Instant,
        node: NodeNumber,
        process: ProcessId,
        leg: LegNumber,
        tag: SessionTag,
        shm: ShmLeg,
    ) -> bool {
        if self.session_tag(node, process, tag.node) != Some(tag) {
            return false;
        }
        let mut known = self.session_of(node, process);
        if let Some(place) =
            known.filter(|&place| self.sessions[place].as_ref().is_some_and(|s| s.tag != tag))
        {
            // The node has given it up; its hang-ups have not been seen here yet. The leg of this name is replaced,
            // the others are closed.
            if let Some(session) = &mut self.sessions[place] {
                let _ = session.association.handle_leg_gone(now, leg);
            }
            self.session_over(now, place, LegEnd::Died);
            known = None;
        }
        let place = known.unwrap_or_else(|| self.open_session(now, node, process, tag.node));
        let earlier = (node, process, leg);
        //= spec/rvi.md#legs-of-the-same-name
        //# When a leg takes the place of another of its name, a machine MUST take back what it wanted done to the earlier one.
        self.outputs.retain(|output| match *output {
            Output::CloseLeg { node, process, leg } => (node, process, leg) != earlier,
            _ => true,
        });
        if let Some(session) = &mut self.sessions[place] {
            session.handle_leg_up(now, leg, shm);
        }
        self.legs_changed(node);
        self.settle_pairs(now);
        true
    }

    /// The other end of a leg has hung up. What it published before is still taken, by the next
    /// [`Self::pump`], before the leg is given up.
    pub fn handle_leg_gone(&mut self, _now: Instant, node: NodeNumber, process: ProcessId, leg: LegNumber) {
        if let Some(place) = self.session_of(node, process)
            && let Some(session) = &mut self.sessions[place]
            && session.association.legs().any(|status| status.number == leg)
            && !session.gone.contains(&leg)
        {
            session.gone.push(leg);
        }
    }

    // --- the pump -------------------------------------------------------------------------------------------

    /// Takes up to `budget` messages from the nodes, in turns, and moves them on; then makes everything sent
    /// visible, and after that gives the room of what was taken back to its senders. Returns how many it took;
    /// less than `budget` means that nothing more was there.
    pub fn pump(&mut self, now: Instant, budget: usize) -> usize {
        let budget = if self.leaving.is_some() { 0 } else { budget };
        let mut scratch = core::mem::take(&mut self.scratch);
        let (mut taken, mut quiet) = (0, 0);
        while taken < budget && quiet < self.sessions.len() {
            self.next_session = if self.next_session < self.sessions.len() { self.next_session } else { 0 };
            let (got, is_empty) = self.pump_session(now, self.next_session, budget - taken, &mut scratch);
            taken += got;
            // Ends: a node that has something is paid up after a few turns.
            quiet = if is_empty && got == 0 { quiet + 1 } else { 0 };
            self.next_session += 1;
        }
        scratch.release();
        self.scratch = scratch;
        self.publish(now);
        self.give_uplink_copies();
        if taken < budget || self.leaving.is_some() {
            self.finish_gone_legs(now);
        }
        self.go_on_leaving(now);
        taken
    }

    //= spec/server.md#settling
    //# A control node MUST publish what it sent for a batch of frames before it settles them with their senders.
    fn publish(&mut self, now: Instant) {
        self.tell_moved(now);
        self.settle_pairs(now);
        for session in self.sessions.iter_mut().flatten() {
            session.association.publish();
        }
        self.drain_association_events(now);
        for session in self.sessions.iter_mut().flatten() {
            session.association.release();
        }
    }

    /// The next leg whose other end sleeps and has something to take.
    pub fn poll_doorbell(&mut self) -> Option<(NodeNumber, ProcessId, LegNumber)> {
        self.sessions.iter_mut().flatten().find_map(|session| {
            session.association.poll_doorbell().map(|leg| (session.node, session.process, leg))
        })
    }

    /// Announces to every node that this control node is about to sleep. False: something has arrived
    /// meanwhile, and it is awake.
    pub fn prepare_sleep(&mut self) -> bool {
        let mut quiet = true;
        for session in self.sessions.iter_mut().flatten() {
            // What lies in the rings is taken no more.
            let is_taken = self.leaving.is_none();
            quiet &= session.gone.is_empty() && (session.association.prepare_sleep() || !is_taken);
        }
        if !quiet {
            self.wake();
        }
        quiet
    }

    /// Takes back what [`Self::prepare_sleep`] announced.
    pub fn wake(&mut self) {
        for session in self.sessions.iter_mut().flatten() {
            session.association.wake();
        }
    }

    // --- time -----------------------------------------------------------------------------------------------

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        for session in self.sessions.iter_mut().flatten() {
            match &mut self.packets {
                Some(packets) => {
                    session.association.handle_timeout_with(now, &mut || packets.port.allows_probe(now));
                }
                None => session.association.handle_timeout(now),
            }
        }
        self.session_timeouts(now);
        self.pair_timeouts(now);
        self.forget_stations(now);
        self.uplink_timeouts(now);
        self.cluster_timeouts(now);
        self.publish(now);
        self.go_on_leaving(now);
    }

    /// When [`Self::handle_timeout`] is wanted next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sessions = self.sessions.iter().flatten().filter_map(|session| session.poll_timeout());
        let leaving = self.leaving.as_ref().map(Leaving::poll_timeout);
        let stations = self.lans.iter().filter_map(|lan| lan.server.poll_timeout());
        let uplinks = self.uplinks.poll_timeout();
        let clusters = self.clusters_timeout();
        let machines = stations.chain(uplinks).chain(clusters);
        sessions.chain(self.pairs.poll_timeout()).chain(leaving).chain(machines).min()
    }

    /// Frames that are lost if this control node dies now: their senders were let go, and their receivers, which have not
    /// answered for 50 ms, have not acknowledged them.
    #[must_use]
    pub fn at_risk(&self) -> usize {
        self.sessions.iter().flatten().map(|session| session.waits.at_risk()).sum()
    }

    /// The next thing for the host to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Does what an administrator asks.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Cut { a, b, leg } => self.cut(now, a, b, leg),
            Command::Heal { a, b, leg } => self.heal(a, b, leg),
            Command::Fault { node, fault } => self.fault(now, node, fault),
            Command::Capture { node, order } => self.begin_capture(now, node, order),
            Command::CaptureUplink { lan, unix_ns, order } => {
                self.begin_uplink_capture(now, lan, unix_ns, order)
            }
            Command::CaptureCredit { id, octets } => self.credit_capture(now, id, octets),
            Command::Apply { epoch, changes } => self.apply(now, epoch, *changes),
            Command::Drain { node, within } => {
                self.drain_node(node, Some(within.map(|within| now + within)));
            }
            Command::Undrain { node } => self.drain_node(node, None),
            Command::CaptureEnd { id, discard } => self.end_capture(now, id, discard),
            Command::RequestReports { id } => {
                for session in self.sessions.iter_mut().flatten().filter(|s| s.is_registered()) {
                    session.report.clear();
                    session.reported_drops.clear();
                    session.send_control(now, &ControlMessage::ReportRequest { id });
                }
            }
        }
        self.publish(now);
    }

    // --- shared by the parts --------------------------------------------------------------------------------

    fn log(&mut self, event: ControlNodeEvent) {
        self.outputs.push_back(Output::Log(event));
    }

    /// The place of the session with a node's process; one that waits for the proof of its keys is none yet.
    fn session_of(&self, node: NodeNumber, process: ProcessId) -> Option<usize> {
        let is_it = |s: &Session| s.node == node && s.process == process && !s.is_unproven();
        self.sessions.iter().position(|session| session.as_ref().is_some_and(|session| is_it(session)))
    }

    /// The place of the session that serves `node` now.
    fn registered(&self, node: NodeNumber) -> Option<usize> {
        self.sessions.iter().position(|s| s.as_ref().is_some_and(|s| s.node == node && s.is_registered()))
    }

    fn send_to_node(&mut self, now: Instant, node: NodeNumber, message: &ControlMessage) -> bool {
        let Some(place) = self.registered(node) else { return false };
        if let Some(session) = &mut self.sessions[place] {
            session.send_control(now, message);
        }
        true
    }

    fn node_name(&self, node: NodeNumber) -> String {
        self.entry_of_node(node).map_or_else(|| alloc::format!("node {node}"), |entry| entry.name.clone())
    }
}

impl Lan {
    fn new(now: Instant, lan: &LanConfig, seed: u64) -> Self {
        let members = lan.members.iter().map(|member| (member.node, member.vif, member.mac)).collect();
        let server = LanServer::new(LanServerConfig {
            id: lan.id,
            name: lan.name.clone(),
            mtu: lan.mtu,
            port_security: lan.port_security,
            members,
            multicast: lan.multicast.clone(),
            seed,
        });
        let mut new = Self {
            server,
            arp: ArpServer::new(&ArpConfig {
                capacity: lan.members.len().max(1) * ADDRESSES_PER_VIF_MAX,
                suppress: lan.arp == ArpMode::Suppress,
            }),
            routes: lan.members.iter().map(Route::to).collect(),
            refused_listeners: alloc::vec![0; lan.members.len()],
            has_said_listening: alloc::vec![false; lan.members.len()],
            arena: LanArena::default(),
            uplink: None,
            been_outside: Once::default(),
            cluster_addresses: BTreeMap::new(),
            clusters: lan.clusters.iter().cloned().map(|c| Cluster::new(now, c, ClusterRole::Has)).collect(),
            moves: Moves::default(),
            config: LanConfig { clusters: Vec::new(), ..lan.clone() },
        };
        new.name_clusters();
        for (slot, member) in (0..).map(MemberSlot).zip(&lan.members) {
            new.set_judgement(slot, member);
        }
        new
    }

    fn member_config(&self, slot: MemberSlot) -> &MemberConfig {
        &self.config.members[usize::from(slot.0)]
    }
}

#[cfg(test)]
pub(crate) mod tests;
