//! The pump: one thread, one loop. It reads the clock once, feeds a bounded batch to the [`Node`], publishes, rings
//! each doorbell once, carries out what the node asks for, and sleeps until something is ready or due.

use std::io;
use std::time::Duration;

use rvi::host::packets::{NarrowRoute, PacketSockets};
use tracing::{debug, error, info, warn};
use vlan_core::Instant;

use crate::agent::batch::BatchLen;
use crate::agent::legs::Legs;
use crate::agent::netlink::AddressMonitor;
use crate::agent::poller::{Poller, Source};
use crate::agent::ports::Ports;
use crate::agent::ready::Readiness;
use crate::agent::signals::Signals;
use crate::agent::spin::{Did, Spin};
use crate::agent::{End, WaitPolicy, packets};
use crate::legs::log_ways;
use crate::node::{Node, NodeEvent, Output};

/// Messages out of the fabric that go into one batch.
const RECEIVE_BUDGET: usize = 256;
/// While frames flow, every this many rounds the kernel is asked about all descriptors; in between only rings and
/// TAPs are looked at.
const ROUNDS_PER_LOOK: u32 = 16;
/// With more interfaces than this, asking the kernel about all is cheaper than a look at each TAP.
const LOOKED_AT_MAX: usize = 2;
/// How long the pump stays awake for a frame that waits for room in a ring, and how long it sleeps after that: the
/// consumer rings no doorbell when it has made room.
const WAITING_SPIN: Duration = Duration::from_micros(200);
const WAITING_SLEEP: Duration = Duration::from_micros(100);

pub(super) struct Pump {
    pub node: Node,
    pub ports: Ports,
    pub legs: Legs,
    /// None without packet legs.
    pub packets: Option<PacketSockets>,
    pub poller: Poller,
    pub monitor: AddressMonitor,
    pub signals: Option<Signals>,
    pub readiness: Readiness,
    pub policy: WaitPolicy,
    pub state: PumpState,
}

/// What the pump remembers from round to round.
#[derive(Default)]
pub(super) struct PumpState {
    spin: Spin,
    batch: BatchLen,
    round: u32,
    /// Something happened that the next round must publish before the pump may sleep.
    is_unsettled: bool,
    waiting_since: Option<Instant>,
    is_ready: bool,
    /// A second signal has come: nothing is waited for any longer.
    is_over: bool,
}

impl Pump {
    /// Runs until the node is fenced, has left its legs as a signal asked, or the system refuses to wait.
    pub fn run(&mut self) -> io::Result<End> {
        loop {
            let now = clock();
            let is_leaving = self.node.is_leaving();
            let sent = if is_leaving { 0 } else { self.send_frames(now) };
            let packets = self.packets.as_mut().map_or(0, |packets| packets.receive(now, &mut self.node));
            let received = packets + self.node.receive(now, RECEIVE_BUDGET, &mut self.ports);
            self.handle_timeouts(now);
            self.ports.finish_checks(now, &mut self.node, &self.poller);
            self.node.publish(now);
            self.ring_doorbells();
            self.transmit(now);
            while let Some(output) = self.node.poll_output() {
                self.state.is_unsettled = true;
                if let Some(end) = self.handle_output(now, output) {
                    return Ok(end);
                }
            }
            self.announce_when_ready();
            let did = if sent > 0 { Did::Sent } else { Did::Delivered };
            self.wait(now, (sent + received > 0).then_some(did))?;
            if self.state.is_over {
                return Ok(End::Left);
            }
        }
    }

    fn send_frames(&mut self, now: Instant) -> usize {
        let most = self.state.batch.frames();
        let sent = self.ports.send_frames(now, &mut self.node, &self.poller, most);
        self.state.batch.handle_batch(sent);
        sent
    }

    fn ring_doorbells(&mut self) {
        while let Some((peer, process, leg)) = self.node.poll_doorbell() {
            self.legs.ring(peer, process, leg);
        }
    }

    /// Sends what goes by packets; packets of relay legs may go to a control node on this host.
    fn transmit(&mut self, now: Instant) {
        let Some(packets) = &mut self.packets else { return };
        let transmitted = packets.transmit(now, &mut self.node);
        self.state.is_unsettled |= !transmitted.is_all;
        if let Some(NarrowRoute { leg, to, octets }) = transmitted.narrow {
            warn!(%leg, %to, octets, "the route takes shorter packets");
        }
        self.ring_doorbells();
    }

    fn handle_timeouts(&mut self, now: Instant) {
        if self.node.poll_timeout().is_some_and(|at| at <= now) {
            self.node.handle_timeout(now);
        }
        if self.legs.poll_timeout().is_some_and(|at| at <= now) {
            self.legs.handle_timeout(now, &mut self.node, &self.poller);
        }
        if self.ports.poll_timeout().is_some_and(|at| at <= now) {
            self.ports.proceed(now, &self.poller);
        }
        if let Some(packets) = &mut self.packets
            && packets.poll_timeout().is_some_and(|at| at <= now)
        {
            if packets.handle_timeout(now, &mut self.node) {
                packets::offer(packets, now, &mut self.node);
            }
            log_ways(packets, |leg, is_af_xdp| self.node.handle_leg_driver(leg, is_af_xdp));
        }
    }

    fn handle_output(&mut self, now: Instant, output: Output) -> Option<End> {
        match output {
            Output::Connect { control_node, leg, session } => {
                self.legs.connect(now, control_node, (leg, session), &mut self.node, &self.poller);
            }
            Output::CloseLeg { peer, process, leg } => self.legs.close(peer, process, leg, &self.poller),
            Output::Interface(config) => self.ports.handle_interface(now, config, &self.poller),
            Output::InterfaceRemoved { vif } => self.ports.handle_removed(now, vif, &self.poller),
            Output::Fault(fault) => match &mut self.packets {
                Some(packets) => packets::set_fault(packets, now.as_nanos(), &fault),
                None => warn!(spec = fault.spec(), "a fault is ignored: this node has no packet legs"),
            },
            Output::Check(asked) => self.ports.handle_check(now, asked, &self.poller),
            Output::WallClock => self.node.handle_wall_clock(now, wall_clock()),
            Output::Fenced => return Some(End::Fenced),
            Output::Left => return Some(End::Left),
            Output::Log(event) => log(&event, &self.legs),
        }
        None
    }

    /// Tells a supervisor when all interfaces are there. What the node was told of them is published by then: registered means that
    /// the control node can see it.
    fn announce_when_ready(&mut self) {
        if self.state.is_ready
            || self.state.is_unsettled
            || !self.node.is_attached()
            || !self.ports.are_ready()
        {
            return;
        }
        self.state.is_ready = true;
        info!(interfaces = self.ports.len(), "ready");
        if let Err(error) = self.readiness.announce() {
            warn!(%error, "the supervisor was not told");
        }
    }

    // --- waiting --------------------------------------------------------------------------------------------

    fn wait(&mut self, now: Instant, did: Option<Did>) -> io::Result<()> {
        let is_unsettled = std::mem::take(&mut self.state.is_unsettled);
        if let Some(did) = did {
            self.state.spin.handle_work(now, did);
        }
        if did.is_some() || is_unsettled {
            self.state.waiting_since = None;
            return self.look_while_busy(now);
        }
        let is_waiting = self.ports.is_any_waiting() && !self.node.is_leaving();
        if self.policy == WaitPolicy::Poll || self.stays_awake(now, is_waiting) {
            if is_waiting || self.policy == WaitPolicy::Interrupt {
                // Whoever is to answer, or to make room, may need this core.
                std::thread::yield_now();
            }
            return self.look(now);
        }
        if !self.node.prepare_sleep() {
            return Ok(());
        }
        let slept = self.sleep(now, is_waiting);
        self.node.wake();
        self.state.batch.handle_sleep();
        slept
    }

    fn stays_awake(&mut self, now: Instant, is_waiting: bool) -> bool {
        if is_waiting {
            let since = *self.state.waiting_since.get_or_insert(now);
            return now.since(since) < WAITING_SPIN;
        }
        self.state.spin.is_worthwhile(now)
    }

    /// While frames flow, most rounds look at the rings and the TAPs only.
    fn look_while_busy(&mut self, now: Instant) -> io::Result<()> {
        self.state.round = self.state.round.wrapping_add(1);
        if !self.state.round.is_multiple_of(ROUNDS_PER_LOOK) && self.ports.len() <= LOOKED_AT_MAX {
            self.ports.assume_readable();
            if let Some(packets) = &mut self.packets {
                packets.assume_readable();
            }
            return Ok(());
        }
        self.look(now)
    }

    fn sleep(&mut self, now: Instant, is_waiting: bool) -> io::Result<()> {
        let packets = self.packets.as_ref().and_then(PacketSockets::poll_timeout);
        let legs = self.legs.poll_timeout();
        let timeouts = [self.node.poll_timeout(), legs, self.ports.poll_timeout(), packets];
        let mut deadline = timeouts.into_iter().flatten().min();
        if is_waiting {
            let soon = now + WAITING_SLEEP;
            deadline = Some(deadline.map_or(soon, |deadline| deadline.min(soon)));
            self.ports.listen(&self.poller, false);
        }
        let waited = self.poller.wait(deadline);
        self.handle_ready(clock());
        if is_waiting {
            self.ports.listen(&self.poller, true);
        }
        waited
    }

    /// Takes what is ready now.
    fn look(&mut self, now: Instant) -> io::Result<()> {
        self.poller.look()?;
        self.handle_ready(now);
        Ok(())
    }

    fn handle_ready(&mut self, now: Instant) {
        for index in 0..self.poller.ready_len() {
            let Some(ready) = self.poller.ready(index) else { continue };
            match ready.source {
                Source::Tap(vif) => self.ports.handle_ready(now, vif, ready.has_ended, &self.poller),
                Source::Leg(id) => {
                    self.legs.handle_ready(now, id, &mut self.node, &self.poller);
                    self.state.is_unsettled = true;
                }
                Source::Monitor => {
                    if self.monitor.has_changed() {
                        self.ports.look(now, &self.poller);
                    }
                }
                Source::Devices => {
                    self.ports.handle_done(now, &mut self.node, &self.poller);
                    self.state.is_unsettled = true;
                }
                Source::Signals => self.handle_signals(now),
                Source::Check(number) => {
                    self.ports.handle_check_ready(number, &self.poller);
                    self.state.is_unsettled = true;
                }
                Source::Packets(leg) => {
                    if let Some(packets) = &mut self.packets {
                        packets.handle_ready(leg);
                    }
                    self.state.is_unsettled = true;
                }
            }
        }
    }
}

impl Pump {
    /// The first signal lets the node leave its legs, another one ends the process as it is.
    fn handle_signals(&mut self, now: Instant) {
        while let Some(signal) = self.signals.as_ref().and_then(Signals::next) {
            info!(signal, "asked to end");
            self.state.is_over |= self.node.is_leaving();
            self.node.leave(now);
            self.ports.rest(&self.poller);
            self.state.is_unsettled = true;
        }
    }
}

pub(super) fn clock() -> Instant {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // The monotonic clock starts at zero and fits in 64 bits of nanoseconds for 584 years.
    Instant::from_nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Nanoseconds since 1970 by the system's clock, which may be set anew at any time.
fn wall_clock() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + time.tv_nsec as u64
}

fn log(event: &NodeEvent, legs: &Legs) {
    match event {
        NodeEvent::Attached { control_node, epoch } => {
            let name = legs.name_of(crate::node::PeerId::ControlNode(*control_node));
            info!(control_node = name, epoch, "attached");
        }
        NodeEvent::Refused { control_node, reason } => {
            let name = legs.name_of(crate::node::PeerId::ControlNode(*control_node));
            error!(control_node = name, reason, "refused");
        }
        NodeEvent::Detached { .. }
        | NodeEvent::SessionClosed { .. }
        | NodeEvent::LegBroken { .. }
        | NodeEvent::Silent { .. }
        | NodeEvent::BadControlMessage { .. } => warn!("{event}"),
        NodeEvent::LegUp { .. } | NodeEvent::LegGone { .. } => debug!("{event}"),
        _ => info!("{event}"),
    }
}
