//! The pump: one loop that owns the machine, its legs and its clock.
//!
//! wait -> read the clock -> take a bounded batch -> carry out what the machine wants -> ring doorbells -> sleep
//! until a doorbell, an order or the earliest timeout.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use crossbeam_channel::TryRecvError;
use rustix::event::{Timespec, epoll};
use rustix::time::ClockId;
use rvi::host::packets::{NarrowRoute, PacketSockets};
use rvi::host::{
    ControlNodeLeg, Datagram, EstablishedLeg, LegListener, LegSocket, NodeHello, PeerEnd, PrivateKey,
    SetupProgress, random_octets,
};
use rvi::{ShmConfig, ShmLeg};
use switch_node::legs::log_ways;
use tracing::{debug, error, info, warn};
use vlan_core::wire::control::{Fault, FaultDirection};
use vlan_core::{Instant, LegNumber, PairEpoch};

use super::arenas;
use super::captures::Captures;
use super::devices::DeviceChanges;
use super::legs::{LegId, Legs, Source};
use super::link::{ApplyOrder, FaultOrder, NodeReport, Order, PumpEnd};
use super::outside::Outside;
use super::refusals::Refusals;
use super::traces::Traces;
use crate::control_node::{Command, ControlNode, ControlNodeConfig, ControlNodeEvent, Output};

/// Messages of one batch: enough that the loop's own cost vanishes, few enough that no node waits long.
const BATCH: usize = 256;
/// Batches between two looks at sockets while there is always work.
const BATCHES_PER_LOOK: u32 = 8;
/// Batches after which everything that a leg's ring can hold has been taken, whatever other nodes send: 4096 slots.
const BATCHES_OF_A_LEG: usize = 64;
/// Orders carried out between two batches.
const ORDERS_PER_LOOK: usize = 4;
/// Connections taken, and set-ups advanced, at one look: each costs up to half a millisecond of arithmetic,
/// which data must not wait for many times over.
const SETUPS_PER_LOOK: usize = 4;
/// Events of one look.
const EVENTS_MAX: usize = 64;
/// How long the pump looks for work before it sleeps under [`WaitPolicy::Interrupt`]: about the cost of waking
/// another process (environment measurements: 7 to 15 us for a doorbell's round trip).
const SPIN: Duration = Duration::from_micros(20);
/// How long a listener rests when the process has no descriptor for another socket.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a pump does when there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitPolicy {
    /// Looks again for a moment, then sleeps until a doorbell rings: idle costs nothing.
    #[default]
    Interrupt,
    /// Never sleeps: takes a whole core, and no doorbell is ever needed.
    Poll,
}

/// What a pump is made of.
pub struct PumpParts {
    /// What the machine is told.
    pub config: ControlNodeConfig,
    /// This control node's private key.
    pub key: PrivateKey,
    /// The sockets to listen on, each with the number of its legs.
    pub listeners: Vec<(LegNumber, LegListener)>,
    /// The sockets of its packet legs, if it has any.
    pub packets: Option<PacketSockets>,
    /// The devices that lead outside, by their numbers.
    pub devices: DeviceChanges,
    /// The way to the control thread.
    pub link: PumpEnd,
    /// What to do when there is nothing to do.
    pub wait: WaitPolicy,
}

struct Listener {
    leg: LegNumber,
    listener: LegListener,
    rests_until: Option<Instant>,
}

/// A control node's data worker.
pub struct Pump {
    machine: ControlNode,
    process: vlan_core::ProcessId,
    key: PrivateKey,
    listeners: Vec<Listener>,
    packets: Option<PacketSockets>,
    outside: Outside,
    legs: Legs,
    link: PumpEnd,
    wait: WaitPolicy,
    shm: ShmConfig,
    setups: usize,
    refusals: Refusals,
    captures: Captures,
    traces: Traces,
    /// The machine has ended in order.
    has_left: bool,
}

impl Pump {
    /// Makes a pump whose listeners are watched from its first look on.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn new(parts: PumpParts) -> io::Result<Self> {
        let process = parts.config.process;
        let legs = Legs::new()?;
        legs.watch(parts.link.wake.as_fd(), Source::Wake)?;
        for (place, (_, listener)) in parts.listeners.iter().enumerate() {
            legs.watch(listener.as_fd(), Source::Listener(place))?;
        }
        let mut machine = ControlNode::new(parts.config);
        let mut packets = parts.packets;
        if let Some(packets) = &mut packets {
            let numbers = watch_packets(packets, &legs)?;
            log_ways(packets, |_, _| {});
            machine.enable_packets(parts.key.clone(), random_octets(), &numbers);
            packets.start(&mut machine);
        }
        let mut outside = Outside::default();
        outside.open(now(), parts.devices.opened, &legs, &mut machine)?;
        outside.set_modes(now(), parts.devices.modes, &mut machine);
        let listener = |(leg, listener)| Listener { leg, listener, rests_until: None };
        Ok(Self {
            process,
            machine,
            key: parts.key,
            listeners: parts.listeners.into_iter().map(listener).collect(),
            packets,
            outside,
            legs,
            link: parts.link,
            wait: parts.wait,
            shm: ShmConfig::default(),
            setups: 0,
            refusals: Refusals::default(),
            captures: Captures::default(),
            traces: Traces::default(),
            has_left: false,
        })
    }

    /// Runs until the control thread has let go of its end of the link, and the nodes have been told.
    pub fn run(mut self) {
        let mut busy_until = now() + SPIN;
        let mut batches = 0;
        loop {
            let at = now();
            let received = self.receive_packets(at) + self.outside.receive(at, &mut self.machine);
            let taken = self.machine.pump(at, BATCH) + received;
            self.carry_out(at);
            // A device that has no room is tried again in a moment, and nobody waits for it.
            self.outside.send(&mut self.machine);
            let is_all_sent = self.transmit_packets(at);
            if self.has_left && is_all_sent {
                return;
            }
            if taken > 0 || !is_all_sent {
                busy_until = at + SPIN;
            }
            batches += 1;
            let idle = taken == 0 && is_all_sent && self.wait == WaitPolicy::Interrupt && at >= busy_until;
            if idle || batches >= BATCHES_PER_LOOK {
                batches = 0;
                let timeout = if idle { self.sleep_time(at) } else { Some(Duration::ZERO) };
                self.look(timeout);
                if idle {
                    // Whatever woke it, there may be more in a moment.
                    busy_until = now() + SPIN;
                }
            }
            self.handle_timeouts(now());
        }
    }

    // --- waiting --------------------------------------------------------------------------------------------

    /// How long nothing is due: none when nothing ever is.
    fn sleep_time(&self, at: Instant) -> Option<Duration> {
        let rests = self.listeners.iter().filter_map(|listener| listener.rests_until);
        let packets = self.packets.as_ref().and_then(PacketSockets::poll_timeout);
        let due = self
            .machine
            .poll_timeout()
            .into_iter()
            .chain(self.legs.poll_timeout())
            .chain(packets)
            .chain(self.outside.poll_timeout(at))
            .chain(rests)
            .min();
        due.map(|due| due.since(at))
    }

    /// Looks at sockets and orders, waiting for them up to `timeout` if the machine may sleep.
    fn look(&mut self, timeout: Option<Duration>) {
        let sleeps = timeout != Some(Duration::ZERO) && self.machine.prepare_sleep();
        let timeout = if sleeps { timeout } else { Some(Duration::ZERO) };
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let mut events =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
                EVENTS_MAX];
        let count = epoll::wait(self.legs.epoll(), &mut events[..], timeout.as_ref());
        if sleeps {
            self.machine.wake();
        }
        let at = now();
        self.setups = 0;
        for event in &events[..count.unwrap_or(0)] {
            match Source::from_data(event.data.u64()) {
                Source::Wake => self.handle_orders(at),
                Source::Listener(place) => self.handle_connections(at, place),
                Source::Leg(place) => self.handle_leg_event(at, place),
                Source::Device(place) => self.outside.handle_ready(place),
                Source::Packets(leg) => {
                    if let Some(packets) = &mut self.packets {
                        packets.handle_ready(leg);
                    }
                }
            }
        }
    }

    fn handle_timeouts(&mut self, at: Instant) {
        if self.machine.poll_timeout().is_some_and(|due| due <= at) {
            self.machine.handle_timeout(at);
            self.carry_out(at);
        }
        if let Some(packets) = &mut self.packets
            && packets.poll_timeout().is_some_and(|due| due <= at)
        {
            // Where its legs end is of no account: nodes find a control node by its group.
            packets.handle_timeout(at, &mut self.machine);
            log_ways(packets, |_, _| {});
        }
        self.outside.handle_timeout(at, &mut self.machine);
        if self.legs.poll_timeout().is_some_and(|due| due <= at) {
            let dropped = self.legs.drop_late_pending(at);
            if dropped > 0 {
                warn!(dropped, "connections did not prove who they are in time");
            }
            while let Some(id) = self.legs.close_late_leaving(at) {
                self.leg_gone(at, id);
            }
        }
        for (place, listener) in self.listeners.iter_mut().enumerate() {
            if listener.rests_until.is_some_and(|until| until <= at) {
                listener.rests_until = None;
                self.legs.set_watched(listener.listener.as_fd(), Source::Listener(place), true);
            }
        }
    }

    // --- packets --------------------------------------------------------------------------------------------

    /// Takes what has come by packets; says how many datagrams.
    fn receive_packets(&mut self, at: Instant) -> usize {
        let Some(packets) = &mut self.packets else { return 0 };
        let received = packets.receive(at, &mut self.machine);
        if received > 0 {
            // Where some were there are more in a moment; the kernel is not asked which socket has them.
            packets.assume_readable();
        }
        received
    }

    /// Sends what goes by packets. False when there is more.
    fn transmit_packets(&mut self, at: Instant) -> bool {
        let Some(packets) = &mut self.packets else { return true };
        let transmitted = packets.transmit(at, &mut self.machine);
        if let Some(NarrowRoute { leg, to, octets }) = transmitted.narrow {
            warn!(%leg, %to, octets, "the route takes shorter packets");
        }
        transmitted.is_all
    }

    // --- orders ---------------------------------------------------------------------------------------------

    fn handle_orders(&mut self, at: Instant) {
        self.link.clear_wake();
        for _ in 0..ORDERS_PER_LOOK {
            match self.link.orders.try_recv() {
                Ok(Order::Command(command)) => {
                    self.machine.handle_command(at, command);
                    self.carry_out(at);
                }
                Ok(Order::Apply(order)) => self.apply(at, *order),
                Ok(Order::Status(answer)) => {
                    // Whoever asked may have given up waiting.
                    let _ = answer.send(self.machine.status());
                }
                Ok(Order::Groups(answer)) => {
                    let _ = answer.send(self.machine.groups(at));
                }
                Ok(Order::Fault(order)) => self.handle_fault(at, order),
                Ok(Order::Trace(start)) => {
                    self.traces.begin(at, start, &mut self.machine);
                    self.carry_out(at);
                }
                Ok(Order::Judge(order)) => {
                    let judgement = self.machine.judge(at, order.node, order.vif, &order.message);
                    // Whoever asked may have given up waiting.
                    let _ = order.answer.send(judgement);
                }
                Ok(Order::Capture(start)) => {
                    self.captures.begin(at, start, &mut self.machine);
                    self.carry_out(at);
                }
                Err(TryRecvError::Disconnected) => {
                    self.machine.leave(at);
                    return;
                }
                Err(TryRecvError::Empty) => return,
            }
        }
        // There may be more: they have their turn at the next look.
        self.link.set_wake();
    }

    /// Puts another configuration into use.
    fn apply(&mut self, at: Instant, order: ApplyOrder) {
        let ApplyOrder { epoch, changes, devices } = order;
        if changes.nodes.is_some() {
            // Who has proven a key that is no node's any more begins again.
            self.legs.drop_pending();
        }
        // By the file that was in use until now.
        self.outside.send(&mut self.machine);
        self.outside.close(&devices.closed);
        if let Err(error) = self.outside.open(at, devices.opened, &self.legs, &mut self.machine) {
            error!(%error, "cannot watch a device for uplinks; start the control node again");
        }
        self.machine.handle_command(at, Command::Apply { epoch, changes });
        self.outside.set_modes(at, devices.modes, &mut self.machine);
        self.carry_out(at);
    }

    /// Passes a drill on to the nodes that have packet legs.
    fn handle_fault(&mut self, at: Instant, order: FaultOrder) {
        let direction = match order.direction {
            platform::management::FaultDirection::In => FaultDirection::In,
            platform::management::FaultDirection::Out => FaultDirection::Out,
            platform::management::FaultDirection::Both => FaultDirection::Both,
        };
        let mut told = 0;
        if let Some(fault) = Fault::new(order.leg, direction, &order.spec) {
            told = self.machine.nodes_with_packet_legs(order.node, order.leg);
            self.machine.handle_command(at, Command::Fault { node: order.node, fault });
            self.carry_out(at);
        }
        // Whoever asked may have given up waiting.
        let _ = order.told.send(told);
    }

    // --- legs coming ----------------------------------------------------------------------------------------

    fn handle_connections(&mut self, at: Instant, place: usize) {
        while self.setups < SETUPS_PER_LOOK {
            let listener = &mut self.listeners[place];
            match listener.listener.accept() {
                Ok(None) => return,
                Ok(Some(socket)) => {
                    self.setups += 1;
                    let leg = listener.leg;
                    let setup = ControlNodeLeg::new(socket, self.process, &self.shm);
                    if let Err(error) = self.legs.add_pending(at, setup, leg) {
                        warn!(%error, "cannot watch a new connection");
                    }
                }
                Err(errno) => {
                    error!(%errno, "cannot take connections; trying again in a moment");
                    listener.rests_until = Some(at + ACCEPT_PAUSE);
                    self.legs.set_watched(listener.listener.as_fd(), Source::Listener(place), false);
                    return;
                }
            }
        }
    }

    fn handle_leg_event(&mut self, at: Instant, place: usize) {
        if self.legs.pending(place).is_some() {
            self.advance_setup(at, place);
        } else {
            self.receive_from(at, place);
        }
    }

    fn advance_setup(&mut self, at: Instant, place: usize) {
        if self.setups >= SETUPS_PER_LOOK {
            // Its socket stays readable: its turn comes at the next look.
            return;
        }
        self.setups += 1;
        let Some(pending) = self.legs.pending(place) else { return };
        let fabric_leg = pending.fabric_leg;
        let machine = &self.machine;
        let mut session = |hello: &NodeHello| {
            let tag = machine.session_tag(hello.node, hello.process, hello.session)?;
            Some(tag.control_node)
        };
        match pending.setup.advance(&self.key, &mut |key| machine.node_of_key(key), &mut session) {
            Ok(SetupProgress::Pending) => {}
            Ok(SetupProgress::Up { leg, .. }) if leg.leg != fabric_leg => {
                warn!(node = %leg.peer, leg = %leg.leg, "refused: the leg belongs to another fabric's socket");
                self.legs.close(place);
            }
            Ok(SetupProgress::Up { leg, shm }) => {
                self.make_way(at, &LegId { node: leg.peer, process: leg.peer_process, leg: leg.leg });
                self.leg_up(at, place, leg, shm);
            }
            Err(error) => {
                self.legs.close(place);
                self.refusals.log(at, &error, fabric_leg);
            }
        }
    }

    /// Before a leg comes up that replaces none, a node that has too many loses another.
    fn make_way(&mut self, at: Instant, id: &LegId) {
        if self.legs.find(id).is_none()
            && let Some(excess) = self.legs.excess_of(id.node)
        {
            self.leg_gone(at, excess);
            self.legs.close_id(&excess);
        }
    }

    fn leg_up(&mut self, at: Instant, place: usize, socket: EstablishedLeg, shm: ShmLeg) {
        let (node, process, leg, tag) = (socket.peer, socket.peer_process, socket.leg, socket.tag);
        let life = format!("{:016x}", process.0);
        // First: a leg of the same name is closed only when the machine has left it.
        if self.machine.handle_leg_up(at, node, process, leg, tag, shm) {
            debug!(%node, %leg, process = life, %tag, "leg up");
            self.legs.establish(place, socket);
        } else {
            debug!(%node, %leg, process = life, %tag, "the leg's session is over");
            self.legs.close(place);
        }
        self.carry_out(at);
    }

    // --- legs that are up -----------------------------------------------------------------------------------

    fn receive_from(&mut self, at: Instant, place: usize) {
        let Some(up) = self.legs.up(place) else { return };
        let id = up.id;
        match up.socket.receive() {
            // What a doorbell announces is taken by the next batch.
            Datagram::Nothing | Datagram::Doorbell => {}
            Datagram::Closed => self.hung_up(at, place),
            Datagram::Violation(violation) => {
                warn!(node = %id.node, leg = %id.leg, %violation, "leg closed");
                self.hung_up(at, place);
            }
            Datagram::PeerEnd(..) | Datagram::Arena(..) => {
                warn!(node = %id.node, leg = %id.leg, "leg closed: a node introduces nobody and has no arenas");
                self.hung_up(at, place);
            }
        }
    }

    fn hung_up(&mut self, at: Instant, place: usize) {
        if let Some(id) = self.legs.hung_up(at, place) {
            self.leg_gone(at, id);
        }
    }

    fn leg_gone(&mut self, at: Instant, id: LegId) {
        debug!(node = %id.node, leg = %id.leg, process = %format_args!("{:016x}", id.process.0), "leg gone");
        self.machine.handle_leg_gone(at, id.node, id.process, id.leg);
        // What the other end had published is taken before the leg is given up, and a leg of the same name may
        // be about to come up.
        for _ in 0..BATCHES_OF_A_LEG {
            if self.machine.pump(at, BATCH) < BATCH {
                break;
            }
        }
        self.carry_out(at);
    }

    // --- what the machine wants -----------------------------------------------------------------------------

    fn carry_out(&mut self, at: Instant) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Introduce { a, b, epoch, leg } => {
                    let id = |(node, process)| LegId { node, process, leg };
                    self.introduce(at, id(a), id(b), epoch);
                }
                Output::MakeArena { lan, config } => {
                    arenas::make(lan, &config, &self.legs, &mut self.machine);
                }
                Output::CloseLeg { node, process, leg } => self.legs.leave(at, &LegId { node, process, leg }),
                Output::Report { node, id, items, drops } => {
                    // Nobody waits any longer for what does not fit.
                    let _ = self.link.reports.try_send(NodeReport { node, id, items, drops });
                }
                Output::Captured { id, octets } => self.captures.give(at, id, octets, &mut self.machine),
                Output::Traced { node, traced } => self.traces.answer(node, traced),
                Output::CaptureOver { id, is_refused } => self.captures.end(id, is_refused),
                Output::Left => self.has_left = true,
                Output::Log(event @ ControlNodeEvent::UnknownKey { .. }) => {
                    self.refusals.log_text(at, &event.to_string());
                }
                Output::Log(event) => log_event(&event),
            }
        }
        while let Some((node, process, leg)) = self.machine.poll_doorbell() {
            if let Some(up) = self.legs.find(&LegId { node, process, leg }) {
                // A leg that is gone says so by its readiness.
                let _ = up.socket.ring_doorbell();
            }
        }
    }

    /// Gives each of two processes an end of a new socketpair.
    fn introduce(&mut self, at: Instant, a: LegId, b: LegId, epoch: PairEpoch) {
        let (end_a, end_b) = match LegSocket::pair() {
            Ok(pair) => pair,
            Err(errno) => {
                error!(%errno, "cannot make a socket for two nodes");
                return;
            }
        };
        for (to, peer, socket) in [(a, b, end_a), (b, a, end_b)] {
            let end = PeerEnd { peer: peer.node, peer_process: peer.process, leg: peer.leg, epoch };
            let Some(up) = self.legs.find(&to) else {
                // The other node sees its end hang up.
                debug!(node = %to.node, leg = %to.leg, "no leg to introduce a peer over");
                return;
            };
            if let Err(error) = up.socket.send_peer_end(&end, &socket) {
                warn!(node = %to.node, leg = %to.leg, ?error, "leg closed: the node does not take introductions");
                self.legs.close_id(&to);
                self.machine.handle_leg_gone(at, to.node, to.process, to.leg);
                return;
            }
        }
    }
}

/// Has the sockets of packet legs watched; gives their numbers.
fn watch_packets(packets: &PacketSockets, legs: &Legs) -> io::Result<Vec<LegNumber>> {
    let mut numbers = Vec::new();
    for (leg, socket, address) in packets.legs() {
        legs.watch(socket, Source::Packets(leg))?;
        info!(%leg, kind = %address.kind(), %address, "packet leg open");
        numbers.push(leg);
    }
    // A fabric may have a leg of each kind.
    numbers.dedup();
    Ok(numbers)
}

/// The time of the pump's clock.
pub(crate) fn now() -> Instant {
    let time = rustix::time::clock_gettime(ClockId::Monotonic);
    let nanos =
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0);
    Instant::from_nanos(nanos)
}

fn log_event(event: &ControlNodeEvent) {
    match event {
        ControlNodeEvent::Refused { .. }
        | ControlNodeEvent::Fenced { .. }
        | ControlNodeEvent::AddressConflict { .. }
        | ControlNodeEvent::AddressRefused { .. }
        | ControlNodeEvent::LegAddressRefused { .. }
        | ControlNodeEvent::Silent { .. }
        | ControlNodeEvent::LegBroken { .. }
        | ControlNodeEvent::LegMismatched { .. }
        | ControlNodeEvent::BadControlMessage { .. } => warn!("{event}"),
        _ => info!("{event}"),
    }
}
