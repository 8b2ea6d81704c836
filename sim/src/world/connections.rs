//! Sockets between processes and the legs behind them: connecting, introducing, hanging up.
//!
//! A connection stands for a seqpacket socket and the two regions that were exchanged over it. Its two ends are
//! told of each other's hang-up by notices that take time.

use std::time::Duration;

use rvi::ring::RingMemory;
use rvi::ring::layout::{STATE, STATE_CLOSED};
use rvi::{Region, SessionTag, ShmConfig, ShmLeg};
use switch_node::node::PeerId;
use switch_server::control_node::ControlNode;
use vlan_core::{Instant, LegNumber, NodeNumber, PairEpoch, ProcessId};

use super::{Event, World};
use crate::checker::Violation;
use crate::plan::Plan;
use crate::simulation::Simulation;

/// A process by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Party {
    Node(usize),
    Control(usize),
}

/// One of the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    First,
    Second,
}

impl Side {
    pub fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// A connection, by its place in the list of all there ever were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectionIndex(usize);

/// One end.
#[derive(Debug)]
pub(super) struct End {
    pub party: Party,
    pub life: u32,
    pub process: ProcessId,
    /// The leg, until the machine is told that it is up.
    shm: Option<ShmLeg>,
    /// The region that this end writes, while the process lives.
    pub region: Option<Region>,
    /// The machine knows of it.
    pub is_up: bool,
    /// The machine has been told that it is gone, or never was told of it and never will be.
    is_over: bool,
    /// This end has hung up.
    pub hung_up: bool,
}

impl End {
    /// The machine uses the leg, or could: an end that finds it hung up now takes it for one that died.
    fn owes_final_heads(&self) -> bool {
        let is_closed = |region: &Region| region.load_acquire(STATE) == STATE_CLOSED;
        self.is_up && !self.hung_up && self.region.as_ref().is_some_and(|region| !is_closed(region))
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Connection {
    pub leg: LegNumber,
    /// Of a leg between nodes: the association that it was made for.
    epoch: PairEpoch,
    /// Of a leg to a control node: the node's number of its session, and the tag that the control node answered.
    handshake: Option<Handshake>,
    /// The socket broke by itself: both ends find it hung up, whether or not they hang up.
    is_broken: bool,
    pub first: End,
    pub second: End,
}

/// What the ends of a leg to a control node tell each other of its session.
#[derive(Clone, Copy, Debug)]
struct Handshake {
    /// The node's number of the session that it wants the leg for.
    session: u32,
    /// What the control node answered.
    tag: Option<SessionTag>,
    /// How long the answer is under way.
    answer_takes: Duration,
}

impl Connection {
    pub fn end(&self, side: Side) -> &End {
        match side {
            Side::First => &self.first,
            Side::Second => &self.second,
        }
    }

    fn end_mut(&mut self, side: Side) -> &mut End {
        match side {
            Side::First => &mut self.first,
            Side::Second => &mut self.second,
        }
    }

    /// Both ends are told that it is up, and neither has hung up.
    pub fn is_whole(&self) -> bool {
        let is_open = |end: &End| end.is_up && !end.hung_up;
        is_open(&self.first) && is_open(&self.second) && !self.is_broken
    }

    /// One end at least still has it.
    pub fn is_open(&self) -> bool {
        !(self.first.is_over && self.second.is_over)
    }
}

/// The life and identity of a process that has just been started or is known to live.
#[derive(Clone, Copy, Debug)]
struct Identity {
    party: Party,
    life: u32,
    process: ProcessId,
}

impl World {
    // --- making connections ---------------------------------------------------------------------------------

    /// A node's machine wants a leg to a control node.
    pub(super) fn start_connecting(&mut self, node: usize, control: usize, leg: LegNumber, session: u32) {
        let life = self.nodes[node].schedule.life;
        let at = self.soon(Duration::from_micros(800));
        self.queue.schedule(at, Event::Connect { node, life, control, leg, session });
    }

    /// The handshake of a leg to a control node is over, one way or the other.
    pub(super) fn connect(
        &mut self,
        now: Instant,
        (node, life): (usize, u32),
        control: usize,
        leg: LegNumber,
        session: u32,
    ) {
        if self.nodes[node].machine.is_none() || self.nodes[node].schedule.life != life {
            return;
        }
        let fails = self.weather.connect_failure_percent;
        let fails = self.chance(fails);
        let key = self.public_key(node);
        let knows = |machine: &ControlNode| machine.node_of_key(&key) == Some(Plan::number(node));
        if fails || !self.controls[control].machine.as_ref().is_some_and(knows) {
            if fails {
                self.count_fault_of(crate::coverage::Fault::ConnectFailure, Party::Node(node));
            }
            self.connect_failed(now, node, control, leg);
            return;
        }
        let config = self.plan.control_rings;
        let (control_end, node_end) =
            (self.identity(Party::Control(control)), self.identity(Party::Node(node)));
        let connection = self.make_connection(leg, control_end, node_end, &config);
        let first = self.soon(Duration::from_micros(100));
        let answer_takes = Duration::from_nanos(self.random.below(200_000));
        let handshake = Handshake { session, tag: None, answer_takes };
        self.connections[connection.0].handshake = Some(handshake);
        self.queue.schedule(first, Event::LegUp { connection, side: Side::First });
    }

    fn connect_failed(&mut self, now: Instant, node: usize, control: usize, leg: LegNumber) {
        if let Some(machine) = &mut self.nodes[node].machine {
            machine.handle_connect_failed(now, control as u8, leg);
            self.wake(Party::Node(node));
        }
    }

    /// A control node's machine wants two nodes to have a leg to each other.
    pub(super) fn introduce(
        &mut self,
        a: (NodeNumber, ProcessId),
        b: (NodeNumber, ProcessId),
        epoch: PairEpoch,
        leg: LegNumber,
    ) {
        let (Some(first), Some(second)) = (self.living(a), self.living(b)) else { return };
        let config = self.plan.pair_rings;
        let connection = self.make_connection(leg, first, second, &config);
        self.connections[connection.0].epoch = epoch;
        let late = self.weather.late_introduction;
        let got = self.soon(Duration::from_micros(400));
        let gap = Duration::from_nanos(self.random.below(300_000)) + self.weather.introduction_gap;
        let (mut first_at, mut second_at) = (got, got + gap);
        if self.weather.introductions_get_lost {
            self.break_socket(connection);
            return;
        }
        if !late.is_zero() {
            self.count_fault_of(crate::coverage::Fault::LateIntroduction, first.party);
            if self.chance(25) {
                // The message with the descriptor is lost: that end closes, and nobody ever has the leg.
                self.break_socket(connection);
                return;
            }
            // The end that has its descriptor late has the other's memory at once; the other waits for its.
            let delay = Duration::from_nanos(self.random.below(late.as_nanos() as u64));
            let wait = Duration::from_nanos(self.random.below(late.as_nanos() as u64));
            (first_at, second_at) = (first_at + delay + wait, second_at + delay);
        }
        self.queue.schedule(first_at, Event::LegUp { connection, side: Side::First });
        self.queue.schedule(second_at, Event::LegUp { connection, side: Side::Second });
    }

    fn make_connection(
        &mut self,
        leg: LegNumber,
        first: Identity,
        second: Identity,
        config: &ShmConfig,
    ) -> ConnectionIndex {
        let regions = [Region::heap(config.region_len()), Region::heap(config.region_len())];
        for region in &regions {
            ShmLeg::format(region, config);
        }
        let [one, two] = regions;
        let end = |identity: Identity, own: &Region, peer: &Region| End {
            party: identity.party,
            life: identity.life,
            process: identity.process,
            shm: ShmLeg::new(own.clone(), peer.clone()).ok(),
            region: Some(own.clone()),
            is_up: false,
            is_over: false,
            hung_up: false,
        };
        self.connections.push(Connection {
            leg,
            epoch: PairEpoch::default(),
            handshake: None,
            is_broken: false,
            first: end(first, &one, &two),
            second: end(second, &two, &one),
        });
        ConnectionIndex(self.connections.len() - 1)
    }

    fn identity(&mut self, party: Party) -> Identity {
        let schedule = self.schedule(party);
        Identity { party, life: schedule.life, process: schedule.process }
    }

    /// The node with this number, if this very process of it lives.
    fn living(&mut self, (number, process): (NodeNumber, ProcessId)) -> Option<Identity> {
        let node = (0..self.nodes.len()).find(|&node| Plan::number(node) == number)?;
        let identity = self.identity(Party::Node(node));
        (self.nodes[node].machine.is_some() && identity.process == process).then_some(identity)
    }

    /// True while the process that had this end lives.
    fn lives(&self, end: &End) -> bool {
        match end.party {
            Party::Node(node) => {
                self.nodes[node].machine.is_some() && self.nodes[node].schedule.life == end.life
            }
            Party::Control(control) => {
                self.controls[control].machine.is_some() && self.controls[control].schedule.life == end.life
            }
        }
    }

    // --- what ends are told ---------------------------------------------------------------------------------

    pub(super) fn leg_up(&mut self, now: Instant, connection: ConnectionIndex, side: Side) {
        if !self.lives(self.connections[connection.0].end(side)) {
            return;
        }
        if self.is_paused(self.connections[connection.0].end(side).party, Event::LegUp { connection, side }) {
            return;
        }
        let entry = &mut self.connections[connection.0];
        let (leg, is_broken, peer_hung_up) = (entry.leg, entry.is_broken, entry.end(side.other()).hung_up);
        let (party, peer) = (entry.end(side).party, entry.end(side.other()).party);
        let end = entry.end_mut(side);
        if end.is_over || end.hung_up || is_broken {
            return;
        }
        let Some(shm) = end.shm.take() else { return };
        if !self.tell_leg_up(now, connection, side, shm) {
            self.connections[connection.0].end_mut(side).is_over = true;
            self.hang_up(connection, side);
            self.wake(party);
            return;
        }
        self.replace_older(connection, side);
        self.connections[connection.0].end_mut(side).is_up = true;
        self.journal.trace(now, format_args!("{party:?}: leg {leg} to {peer:?} is up"));
        self.journal.record(now, &[1, connection.0 as u64, side as u64]);
        self.wake(party);
        if peer_hung_up {
            self.queue.schedule(now, Event::HangUp { connection, side });
        }
    }

    /// Tells a machine that a leg is up; false when it does not want the leg.
    fn tell_leg_up(&mut self, now: Instant, connection: ConnectionIndex, side: Side, shm: ShmLeg) -> bool {
        let entry = &mut self.connections[connection.0];
        let (leg, party) = (entry.leg, entry.end(side).party);
        let (peer, process) = (entry.end(side.other()).party, entry.end(side.other()).process);
        match (party, peer) {
            (Party::Node(node), Party::Node(other)) => {
                let Some(machine) = &mut self.nodes[node].machine else { return false };
                machine.handle_leg_up(now, Plan::number(other), process, entry.epoch, leg, shm)
            }
            (Party::Node(node), Party::Control(control)) => {
                let tag = entry.handshake.and_then(|handshake| handshake.tag);
                let (Some(machine), Some(tag)) = (&mut self.nodes[node].machine, tag) else { return false };
                machine.handle_control_leg_up(now, control as u8, process, leg, tag, shm)
            }
            (Party::Control(control), Party::Node(node)) => {
                let machine = &mut self.controls[control].machine;
                let (Some(machine), Some(handshake)) = (machine, &mut entry.handshake) else { return false };
                handshake.tag = machine.session_tag(Plan::number(node), process, handshake.session);
                // One that is refused gets no answer, only the hang-up.
                let Some(tag) = handshake.tag else { return false };
                // The control node answers first; the node learns of it a little later.
                let answered = now + handshake.answer_takes;
                self.queue.schedule(answered, Event::LegUp { connection, side: side.other() });
                machine.handle_leg_up(now, Plan::number(node), process, leg, tag, shm)
            }
            (Party::Control(_), Party::Control(_)) => false,
        }
    }

    /// A process that does not run sees what happens at its sockets when it runs again, in the same order.
    pub(super) fn is_paused(&mut self, party: Party, event: Event) -> bool {
        let until = self.schedule(party).paused_until;
        let paused = until > self.now();
        if paused {
            self.queue.schedule(until, event);
        }
        paused
    }

    /// A new leg of the same name takes the place of an older one, whose socket the host closes.
    fn replace_older(&mut self, connection: ConnectionIndex, side: Side) {
        let entry = &self.connections[connection.0];
        let name = |c: &Connection, side: Side| {
            let (own, other) = (c.end(side), c.end(side.other()));
            (c.leg, own.party, own.life, other.party, other.process)
        };
        let wanted = name(entry, side);
        for index in 0..connection.0 {
            for side in [Side::First, Side::Second] {
                let older = &self.connections[index];
                if name(older, side) == wanted && older.end(side).is_up && !older.end(side).hung_up {
                    self.connections[index].end_mut(side).is_over = true;
                    self.hang_up(ConnectionIndex(index), side);
                }
            }
        }
    }

    /// The socket breaks although both processes live: both ends are told, and nobody left in order.
    pub(super) fn break_socket(&mut self, connection: ConnectionIndex) {
        if !std::mem::replace(&mut self.connections[connection.0].is_broken, true) {
            self.tell_hang_up(connection, Side::First);
            self.tell_hang_up(connection, Side::Second);
        }
    }

    /// The host of one end hangs up: the other is told after a while.
    fn hang_up(&mut self, connection: ConnectionIndex, side: Side) {
        let entry = &self.connections[connection.0];
        let (leg, end) = (entry.leg, entry.end(side));
        let is_hostile = self.plan.hostile.is_some_and(|node| end.party == Party::Node(node));
        if end.owes_final_heads() && !is_hostile {
            let detail = format!("{:?} hangs up leg {leg} before its machine has left it", end.party);
            let invariant = "final heads come before the hang-up";
            self.break_invariant(Violation { invariant, at: self.now(), detail });
        }
        self.shut_down(connection, side);
    }

    fn shut_down(&mut self, connection: ConnectionIndex, side: Side) {
        let entry = &mut self.connections[connection.0];
        if entry.end(side).hung_up {
            return;
        }
        entry.end_mut(side).hung_up = true;
        if !entry.is_broken {
            self.tell_hang_up(connection, side.other());
        }
    }

    /// This end finds after a while that the socket has hung up.
    fn tell_hang_up(&mut self, connection: ConnectionIndex, side: Side) {
        let late = self.weather.late_hang_up;
        if !late.is_zero() {
            let told = self.connections[connection.0].end(side).party;
            self.count_fault_of(crate::coverage::Fault::LateHangUp, told);
        }
        let at = self.soon(Duration::from_micros(50) + late);
        self.queue.schedule(at, Event::HangUp { connection, side });
    }

    /// The host of this end sees that the other end has hung up.
    pub(super) fn hang_up_noticed(&mut self, now: Instant, connection: ConnectionIndex, side: Side) {
        let entry = &self.connections[connection.0];
        let (leg, end, peer) = (entry.leg, entry.end(side), entry.end(side.other()));
        if end.is_over || !self.lives(end) {
            return;
        }
        let (party, life, was_up) = (end.party, end.life, end.is_up);
        let (peer, peer_process) = (peer.party, peer.process);
        if self.is_paused(party, Event::HangUp { connection, side }) {
            return;
        }
        let is_answered = self.connections[connection.0].handshake.is_some_and(|h| h.tag.is_some());
        if side == Side::Second && !was_up && is_answered {
            // The answer lies in the socket, in front of the hang-up: the leg comes first, and this is said again.
            return;
        }
        self.connections[connection.0].end_mut(side).is_over = true;
        self.journal.trace(now, format_args!("{party:?}: leg {leg} to {peer:?} has hung up"));
        self.journal.record(now, &[2, connection.0 as u64, side as u64]);
        match (party, peer) {
            (Party::Node(node), Party::Control(control)) if !was_up => {
                debug_assert_eq!(life, self.nodes[node].schedule.life);
                self.connect_failed(now, node, control, leg);
            }
            _ if !was_up => {}
            (Party::Node(node), _) => {
                if let Some(machine) = &mut self.nodes[node].machine {
                    machine.handle_leg_gone(now, peer_id(peer), peer_process, leg);
                }
            }
            (Party::Control(control), Party::Node(node)) => {
                if let Some(machine) = &mut self.controls[control].machine {
                    machine.handle_leg_gone(now, Plan::number(node), peer_process, leg);
                }
            }
            (Party::Control(_), Party::Control(_)) => {}
        }
        self.wake(party);
        if !was_up {
            self.hang_up(connection, side);
        }
    }

    /// A machine has left a leg, or knows that it is gone: its host shuts the socket down, and is done with it
    /// once the other end has hung up too.
    pub(super) fn close_leg(&mut self, party: Party, peer: Party, peer_process: ProcessId, leg: LegNumber) {
        let life = self.schedule(party).life;
        let found = (0..self.connections.len()).rev().find_map(|index| {
            let entry = &self.connections[index];
            [Side::First, Side::Second].into_iter().find_map(|side| {
                let (own, other) = (entry.end(side), entry.end(side.other()));
                let same = own.party == party && own.life == life && own.is_up && entry.leg == leg;
                (same && !own.hung_up && other.party == peer && other.process == peer_process)
                    .then_some((ConnectionIndex(index), side))
            })
        });
        match found {
            Some((connection, side)) => self.hang_up(connection, side),
            // Said twice: the machine has given the leg up without waiting for the other end any longer.
            None => self.forget_leg(party, peer, peer_process, leg),
        }
    }

    fn forget_leg(&mut self, party: Party, peer: Party, peer_process: ProcessId, leg: LegNumber) {
        let life = self.schedule(party).life;
        for entry in self.connections.iter_mut().rev() {
            for side in [Side::First, Side::Second] {
                let (own, other) = (entry.end(side), entry.end(side.other()));
                let same = own.party == party && own.life == life && own.is_up && entry.leg == leg;
                if same && other.party == peer && other.process == peer_process && !own.is_over {
                    entry.end_mut(side).is_over = true;
                    return;
                }
            }
        }
    }

    /// Every socket of a process that died hangs up, and nobody writes its regions any more.
    pub(super) fn hang_up_all(&mut self, party: Party) {
        for index in 0..self.connections.len() {
            for side in [Side::First, Side::Second] {
                let end = self.connections[index].end_mut(side);
                if end.party == party && !end.is_over {
                    end.is_over = true;
                    end.region = None;
                    end.shm = None;
                    self.hang_up(ConnectionIndex(index), side);
                }
            }
        }
    }

    // --- asking ---------------------------------------------------------------------------------------------

    /// Connections that one end at least still has.
    pub(super) fn open_connections(&self) -> impl Iterator<Item = (ConnectionIndex, &Connection)> {
        self.connections.iter().enumerate().filter(|(_, c)| c.is_open()).map(|(i, c)| (ConnectionIndex(i), c))
    }

    /// Rings the end of `party`'s leg to `peer`: it wakes if it lives.
    pub(super) fn ring(&mut self, party: Party, peer: Party, peer_process: ProcessId, leg: LegNumber) {
        let whole = self.connections.iter().rev().any(|c| {
            [Side::First, Side::Second].into_iter().any(|side| {
                let (own, other) = (c.end(side), c.end(side.other()));
                own.party == party && other.party == peer && other.process == peer_process && c.leg == leg
            })
        });
        let same = self.schedule(peer).process == peer_process;
        if whole && same {
            self.wake(peer);
        }
    }
}

/// What a node's machine calls a process.
pub(super) fn peer_id(party: Party) -> PeerId {
    match party {
        Party::Node(node) => PeerId::Node(Plan::number(node)),
        Party::Control(control) => PeerId::ControlNode(control as u8),
    }
}

/// Whom a node's machine means.
pub(super) fn party_of(peer: PeerId) -> Party {
    match peer {
        PeerId::Node(number) => Party::Node(usize::from(number.0).saturating_sub(1)),
        PeerId::ControlNode(control) => Party::Control(usize::from(control)),
    }
}
