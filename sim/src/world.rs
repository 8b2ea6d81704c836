//! The simulated platform: processes, the sockets between them, stacks, traffic, faults, and the run loop.
//!
//! A [`World`] is one more host of the machines: it does for `Node` and `ControlNode` what the agent and the
//! control node's runtime do, in simulated time. What a batch costs, how long a notice takes and what goes wrong
//! are drawn from the plan's seed.

mod applies;
mod arenas;
mod balancers;
mod beliefs;
mod calls;
mod cluster;
mod connections;
mod control_host;
mod converge;
mod fabric_faults;
mod faults;
mod groups;
mod hostile;
mod inspect;
mod listeners;
mod meetings;
mod node_host;
mod options;
mod outside;
mod process;
mod routed;
mod script;
mod sink;
mod traffic;
mod underlay;
mod waiting_fault;

use std::collections::BTreeSet;
use std::time::Duration;

use rvi::packet::transport::TransmitBuffer;
use vlan_core::random::Random;
use vlan_core::wire::control::LegAddress;
use vlan_core::{Instant, LegNumber, NodeNumber};

use crate::checker::{Checker, StationIndex, Violation};
use crate::coverage::Coverage;
use crate::event::EventQueue;
use crate::journal::Journal;
use crate::packet::link::OverlayId;
use crate::plan::{Plan, StationPlan};
use crate::simulation::Simulation;

pub use converge::Outcome;

use balancers::Balancers;
use cluster::Cluster;
use connections::{Connection, ConnectionIndex, Party, Side};
use control_host::ControlHost;
use node_host::NodeHost;
use outside::Outside;
use traffic::Source;
use underlay::Underlay;
use waiting_fault::WaitingFault;

/// Something that happens at a moment.
#[derive(Debug)]
enum Event {
    /// A process runs a batch, unless a later event has taken this one's place.
    Run { party: Party, ticket: u64 },
    /// A node's attempt to connect a leg to a control node succeeds or fails.
    Connect { node: usize, life: u32, control: usize, leg: LegNumber, session: u32 },
    /// A node gets the memory of an arena.
    Arena { offer: Box<arenas::Offer> },
    /// An end of a connection is told that it is up.
    LegUp { connection: ConnectionIndex, side: Side },
    /// An end of a connection is told that the other has hung up.
    HangUp { connection: ConnectionIndex, side: Side },
    /// A packet reaches the socket of a process.
    Arrive { to: Party, leg: LegNumber, from: LegAddress, octets: Vec<u8> },
    /// A fault of the fabrics ends.
    Lift { id: OverlayId },
    /// A traffic source sends.
    Traffic { source: usize },
    /// The station outside has something to send.
    Outside,
    /// It sends some datagrams.
    OutsideTraffic,
    /// Clients of the cluster look at their calls.
    Calls,
    /// A stack's timers.
    Stack { node: usize, life: u32 },
    /// A dead process is started again.
    Start { party: Party },
    /// A fault of the menu.
    Fault,
    /// A lasting fault ends.
    Relief { party: Party },
    /// A pair that was cut is healed.
    Heal { a: NodeNumber, b: NodeNumber },
    /// A node becomes a member of a LAN again.
    Return { node: usize, lan: usize },
    /// The hostile node does something.
    Hostile,
}

/// What goes wrong with the fabric as a whole for a while.
#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    /// Notices of hang-ups take up to this long.
    late_hang_up: Duration,
    /// Of 100 attempts to connect to a control node, how many fail.
    connect_failure_percent: u64,
    /// One end of a new pair leg gets it up to this much later; one in four never.
    late_introduction: Duration,
    /// What a control node gives two nodes to make a leg of reaches neither.
    introductions_get_lost: bool,
    /// The second end of a new pair leg gets it this much later.
    introduction_gap: Duration,
}

/// Packets of one transmission: what one call into a kernel takes.
const SEGMENTS_MAX: usize = 64;
/// Octets of one: the longest UDP payload.
const TRANSMIT_OCTETS_MAX: usize = 65_507;

/// See the module.
pub struct World {
    /// What the run consists of.
    pub plan: Plan,
    /// What happened.
    pub journal: Journal,
    /// What every frame should become.
    pub checker: Checker,
    /// Which faults met which states.
    pub coverage: Coverage,
    random: Random,
    queue: EventQueue<Event>,
    stations: Vec<StationPlan>,
    nodes: Vec<NodeHost>,
    controls: Vec<ControlHost>,
    connections: Vec<Connection>,
    underlay: Underlay,
    /// What is at the other end of the first LAN's uplink, if it has one.
    outside: Option<Outside>,
    /// The first LAN's cluster, if it has one.
    cluster: Option<Cluster>,
    /// The control node that has the clusters; the others stand by.
    has_clusters: usize,
    balancers: Balancers,
    buffer: TransmitBuffer,
    sources: Vec<Source>,
    weather: Weather,
    /// Timers of processes that start come up to this much late.
    timers_late: Duration,
    /// Pairs cut by the administrator.
    cuts: Vec<(NodeNumber, NodeNumber, Option<LegNumber>)>,
    faults_left: usize,
    waiting_fault: Option<WaitingFault>,
    /// Faults that came within a batch, while its machine was in use: they are counted behind it.
    in_batch: Option<Vec<(crate::coverage::Fault, Party)>>,
    traffic_on: bool,
    violation: Option<Violation>,
    /// Which stations are no members any more.
    removed: Vec<bool>,
    /// Nodes that the platform has no more.
    removed_nodes: BTreeSet<usize>,
    /// Which have a limit.
    limited: Vec<bool>,
    /// Which get every group.
    gets_every_group: Vec<bool>,
    /// Number of the configuration.
    epoch: u64,
    /// Which stations' stacks are members of the streams' groups.
    joined: Vec<bool>,
    /// Which stations' devices are promiscuous.
    promiscuous: Vec<bool>,
    /// Counters of processes that have died.
    dead: inspect::Losses,
    /// What had been dropped when the platform was up.
    at_boot: inspect::Losses,
}

impl Simulation for World {
    type Outcome = Outcome;

    fn now(&self) -> Instant {
        self.queue.now()
    }

    fn step(&mut self, until: Instant) -> bool {
        let event = self.queue.take_next(until);
        let is_one = event.is_some();
        if let Some(event) = event {
            self.handle(event);
        }
        is_one
    }

    fn take_violation(&mut self) -> Option<Violation> {
        self.violation.take()
    }

    fn journal(&self) -> &Journal {
        &self.journal
    }

    fn describe(&self) -> Vec<String> {
        self.describe_machines()
    }

    fn converge(&mut self) -> Result<Outcome, Violation> {
        self.heal_and_judge()
    }
}

impl World {
    /// Builds the platform of `plan`; every process starts within the first milliseconds.
    #[must_use]
    pub fn new(plan: Plan, trace: bool) -> Self {
        let mut stations = plan.stations();
        let members = stations.len();
        stations.extend(plan.outside.map(|_| outside::station(plan.lans[0].id)));
        let mut checker = Checker::default();
        plan.lans.iter().for_each(|lan| checker.note_mtu(lan.id, lan.mtu));
        for station in &stations {
            let place = checker.add_station(plan.lans[station.lan].id);
            if plan.hostile == Some(station.node) {
                checker.mark_hostile(place);
            }
        }
        let beyond = stations.get(members).map(|station| {
            Outside::new(StationIndex(members), station, plan.lans[0].id, plan.lans[0].mtu, &plan)
        });
        let random = Random::new(plan.seed);
        let parties: Vec<Party> =
            (0..plan.control_nodes).map(Party::Control).chain((0..plan.nodes).map(Party::Node)).collect();
        let fabrics = vec![plan.way; if plan.elsewhere.is_empty() { 0 } else { usize::from(plan.fabrics) }];
        let mut world = Self {
            journal: Journal::new(trace),
            checker,
            coverage: Coverage::default(),
            random,
            queue: EventQueue::new(),
            nodes: (0..plan.nodes).map(|_| NodeHost::default()).collect(),
            controls: (0..plan.control_nodes).map(|_| ControlHost::default()).collect(),
            connections: Vec::new(),
            underlay: Underlay::new(&fabrics, &parties, plan.seed),
            outside: beyond,
            cluster: plan.cluster.clone().map(|cluster| Cluster::new(cluster, plan.lans[0].id)),
            has_clusters: 0,
            balancers: Balancers::default(),
            buffer: TransmitBuffer::new(SEGMENTS_MAX, TRANSMIT_OCTETS_MAX),
            sources: Vec::new(),
            weather: Weather::default(),
            timers_late: Duration::ZERO,
            cuts: Vec::new(),
            faults_left: 0,
            waiting_fault: None,
            in_batch: None,
            traffic_on: false,
            violation: None,
            // The station outside is nobody's member.
            removed_nodes: BTreeSet::new(),
            removed: (0..stations.len()).map(|station| station >= members).collect(),
            limited: vec![false; stations.len()],
            gets_every_group: vec![false; stations.len()],
            epoch: 1,
            joined: (0..stations.len()).map(|station| plan.joined.contains(&station)).collect(),
            promiscuous: (0..stations.len()).map(|station| plan.listeners.contains(&station)).collect(),
            dead: inspect::Losses::default(),
            at_boot: inspect::Losses::default(),
            stations,
            plan,
        };
        for party in parties {
            let at = world.soon(Duration::from_millis(3));
            world.queue.schedule(at, Event::Start { party });
        }
        world.add_sources();
        if world.plan.hostile.is_some() {
            world.queue.schedule(Instant::from_nanos(5_000_000), Event::Hostile);
        }
        world
    }

    fn handle(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Run { party, ticket } => self.run_party(now, party, ticket),
            Event::Connect { node, life, control, leg, session } => {
                self.connect(now, (node, life), control, leg, session);
            }
            Event::Arena { offer } => self.arena_comes(now, offer),
            Event::LegUp { connection, side } => self.leg_up(now, connection, side),
            Event::HangUp { connection, side } => self.hang_up_noticed(now, connection, side),
            Event::Arrive { to, leg, from, octets } => self.packet_arrives(to, leg, from, octets),
            Event::Lift { id } => self.underlay.lift(id),
            Event::Traffic { source } => self.source_sends(now, source),
            Event::Outside => self.outside_acts(now),
            Event::OutsideTraffic => self.outside_traffic(now),
            Event::Calls => self.call_around(now),
            Event::Stack { node, life } => self.stack_timers(now, node, life),
            Event::Start { party } => self.start(now, party),
            Event::Fault => self.inject_next_fault(now),
            Event::Relief { party } => self.relieve(now, party),
            Event::Heal { a, b } => self.heal(a, b),
            Event::Return { node, lan } => _ = self.add_membership(now, node, lan),
            Event::Hostile => self.hostile_acts(now),
        }
        self.look_for_state();
    }

    /// Records the first broken invariant; the run ends after this event.
    fn break_invariant(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    /// A moment within the next `span`, at random.
    fn soon(&mut self, span: Duration) -> Instant {
        self.now() + Duration::from_nanos(self.random.below(span.as_nanos() as u64 + 1))
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.random.below(100) < percent
    }

    fn station_at(&self, node: usize, vif: vlan_core::VifNumber) -> Option<StationIndex> {
        self.stations.iter().position(|s| s.node == node && s.vif == vif).map(StationIndex)
    }
}
