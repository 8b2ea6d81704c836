//! Calls: TCP connections of members, and of the station outside, to the first LAN's cluster.
//!
//! They check I-30 and I-35 (once its server has claimed it, no segment of a call is refused by another stack while its own has it),
//! I-31 (nothing for a port that is no service reaches a stack), I-32 (at the end, a client's calls to the sticky service go to one
//! server), I-36 (no call that began later reaches a server that drains), that the cluster is at its own MACs for everybody, and
//! at the end that new calls are answered and that old ones go on.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use vlan_core::{Instant, MacAddress};

use super::cluster::{Cluster, MACS, PLAIN_PORT, STICKY_PORT, UNKNOWN_PORT};
use super::connections::Party;
use super::outside::SYSTEM_MAC;
use super::routed::ROUTED_PORT;
use super::{Event, World};
use crate::checker::{StationIndex, Violation};
use crate::plan::TINY_LIMITS;
use crate::segment::{Segment, flags};
use crate::simulation::Simulation;

/// Calls that clients have open at a time.
const OPEN_MAX: usize = 12;
/// Between two SYNs of a call.
const SYN_INTERVAL: Duration = Duration::from_millis(15);
/// Between two looks of the clients at their calls.
const TICK: Duration = Duration::from_millis(2);
/// The port of the first call; each has one of its own.
const FIRST_PORT: u16 = 20_000;
/// How long the calls of the end may take: neighbours are asked for again within 150 ms.
const CALL_MAX: Duration = Duration::from_secs(3);
/// How long a server may take to tell its flows (`spec/cluster.md`, Time to tell).
const TELLING_TIME_MAX: Duration = Duration::from_secs(10);

/// How a call stands, as its client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody has answered its SYN.
    Opening,
    /// This node's stack has.
    Open { server: usize },
    /// It has ended, or has been refused.
    Over,
}

/// One call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    client: StationIndex,
    own: SocketAddr,
    service: SocketAddr,
    opened: Instant,
    state: State,
    next_syn: Instant,
    /// Its server has answered a segment of it, so it has claimed the call.
    is_claimed: bool,
    /// Its client has said that it ends, which may be under way for long.
    is_ending: bool,
    /// Its control node has lost its server since: nobody owned it for a while.
    is_excused: bool,
    /// Number of the last segment, and of the last that was answered: 15 bits.
    sent: u32,
    answered: u32,
}

impl Call {
    fn segment(&self, number: usize, flags: u8, value: u32) -> Segment {
        Segment { source: self.own, destination: self.service, flags, call: number as u32, value }
    }
}

/// What a segment says: which node its sender thinks that it talks to, and the segment's number.
const fn value_of(node: usize, number: u32) -> u32 {
    (node as u32) << 16 | (number & 0xffff)
}

impl World {
    // --- clients --------------------------------------------------------------------------------------------

    /// Clients call while there is traffic.
    pub(super) fn start_calls(&mut self) {
        if self.cluster.is_some() {
            let at = self.soon(TICK);
            self.queue.schedule(at, Event::Calls);
        }
    }

    /// Clients look at their calls.
    pub(super) fn call_around(&mut self, now: Instant) {
        if !self.traffic_on || self.cluster.is_none() {
            return;
        }
        self.send_far_away(now);
        self.check_balancers();
        self.go_on_flooding(now);
        self.go_on_with_calls(now, 30);
        if self.open_calls().len() < OPEN_MAX
            && self.chance(40)
            && let Some(client) = self.draw_client()
        {
            let port = [PLAIN_PORT, STICKY_PORT, UNKNOWN_PORT][(self.random.below(16) % 3) as usize];
            let (port, over_ipv4) = (port, self.chance(50));
            self.call(now, client, port, over_ipv4);
        }
        let at = self.soon(TICK) + TICK;
        self.queue.schedule(at, Event::Calls);
    }

    /// SYNs are sent again, and of 100 open calls so many have something to say; a few end.
    fn go_on_with_calls(&mut self, now: Instant, percent: u64) {
        let mut open = self.open_calls();
        if percent == 100 && !open.is_empty() {
            // A ring of eight slots has room for the first of them: not always for the same ones (seed 1701170, several hosts).
            let first = self.random.below(open.len() as u64) as usize;
            open.rotate_left(first);
        }
        for number in open {
            let Some(call) = self.calls().get(number).copied() else { continue };
            match call.state {
                State::Opening if call.next_syn <= now => self.send_syn(now, number),
                State::Open { server } if self.chance(percent) => {
                    let ends = percent < 100 && self.chance(15);
                    self.say(now, number, server, if ends { flags::FIN | flags::ACK } else { flags::ACK });
                }
                _ => {}
            }
        }
    }

    /// A client calls a service; returns the call's number.
    fn call(&mut self, now: Instant, client: usize, port: u16, over_ipv4: bool) -> usize {
        let station = self.stations[client];
        let own = if over_ipv4 { station.ipv4.address } else { station.ipv6.address };
        let Some(cluster) = &mut self.cluster else { return 0 };
        let number = cluster.calls.len();
        cluster.calls.push(Call {
            client: StationIndex(client),
            own: SocketAddr::new(own, FIRST_PORT + (number % 40_000) as u16),
            service: SocketAddr::new(cluster.addresses[usize::from(!over_ipv4)], port),
            opened: now,
            state: State::Opening,
            next_syn: now,
            is_claimed: false,
            is_ending: false,
            is_excused: false,
            sent: 0,
            answered: 0,
        });
        self.send_syn(now, number);
        number
    }

    fn send_syn(&mut self, now: Instant, number: usize) {
        let Some(call) = self.cluster.as_mut().and_then(|cluster| cluster.calls.get_mut(number)) else {
            return;
        };
        // Nobody answers at a port that is no service.
        let is_given_up = call.service.port() == UNKNOWN_PORT && now.since(call.opened) > 2 * SYN_INTERVAL;
        if is_given_up {
            call.state = State::Over;
            return;
        }
        call.next_syn = now + SYN_INTERVAL;
        let (client, segment) = (call.client, call.segment(number, flags::SYN, 0));
        self.send_segment(now, client, segment);
    }

    fn say(&mut self, now: Instant, number: usize, server: usize, said: u8) {
        let Some(call) = self.cluster.as_mut().and_then(|cluster| cluster.calls.get_mut(number)) else {
            return;
        };
        call.sent += 1;
        call.is_ending |= said & flags::FIN != 0;
        let (client, segment) = (call.client, call.segment(number, said, value_of(server, call.sent)));
        self.send_segment(now, client, segment);
    }

    pub(super) fn send_segment(&mut self, now: Instant, from: StationIndex, segment: Segment) {
        self.send_segment_by(now, from, segment, segment.destination.ip());
    }

    /// The same by way of a gateway.
    pub(super) fn send_segment_by(
        &mut self,
        now: Instant,
        from: StationIndex,
        segment: Segment,
        gateway: IpAddr,
    ) {
        let addresses = (segment.source.ip(), gateway);
        self.journal.trace(now, format_args!("station {} sends {segment:?}", from.0));
        self.send_frame_of_station(now, from, addresses, |source, destination| {
            segment.frame(source, destination)
        });
    }

    /// A station sends a frame that `make` makes of its MAC and the receiver's.
    pub(super) fn send_frame_of_station(
        &mut self,
        now: Instant,
        from: StationIndex,
        addresses: (IpAddr, IpAddr),
        make: impl FnOnce(MacAddress, MacAddress) -> Vec<u8>,
    ) {
        if self.is_outside(from) {
            return self.send_frame_of_outside(now, addresses, make);
        }
        let station = self.stations[from.0];
        if let Some(stack) = self.nodes[station.node].stacks.get_mut(&station.vif.0) {
            stack.send_frame(now, addresses, make);
            self.stack_changed(now, station.node);
            self.wake(Party::Node(station.node));
        }
    }

    fn calls(&self) -> &[Call] {
        self.cluster.as_ref().map_or(&[], |cluster| &cluster.calls)
    }

    fn open_calls(&self) -> Vec<usize> {
        let open = self.calls().iter().enumerate().filter(|(_, call)| call.state != State::Over);
        open.map(|(number, _)| number).collect()
    }

    /// Who calls: members that serve nothing, and the station outside.
    fn clients(&self) -> Vec<usize> {
        let outside =
            self.outside_station().filter(|_| self.cluster.is_some() && self.uplink_config().is_some());
        self.members_that_call().into_iter().chain(outside.map(|station| station.0)).collect()
    }

    pub(super) fn members_that_call(&self) -> Vec<usize> {
        let Some(cluster) = &self.cluster else { return Vec::new() };
        let calls = |station: &usize| {
            let station = self.stations[*station];
            station.lan == 0 && !cluster.serves(station.node)
        };
        self.live_stations().into_iter().filter(calls).collect()
    }

    fn draw_client(&mut self) -> Option<usize> {
        let clients = self.clients();
        (!clients.is_empty()).then(|| clients[self.random.below(clients.len() as u64) as usize])
    }

    // --- what arrives ---------------------------------------------------------------------------------------

    /// A stack gets a segment.
    pub(super) fn segment_arrives(&mut self, now: Instant, station: usize, segment: Segment) {
        self.journal.record(now, &[8, station as u64, u64::from(segment.call), u64::from(segment.flags)]);
        self.journal.trace(now, format_args!("station {station} gets {segment:?}"));
        if segment.destination.port() == ROUTED_PORT {
            return self.routed_arrives(now, station, &segment);
        }
        let Some(cluster) = &mut self.cluster else { return };
        let number = segment.call as usize;
        let is_for_cluster = cluster.addresses.contains(&segment.destination.ip());
        let of_flood = cluster.flood_arrives(segment);
        let answer = match cluster.calls.get(number) {
            _ if of_flood.is_some() => of_flood.unwrap_or(Ok(None)),
            Some(call) if is_for_cluster && call.own == segment.source => {
                cluster.server_gets(self.stations[station].node, segment)
            }
            Some(call) if call.own == segment.destination => {
                let is_its = call.client == StationIndex(station);
                Ok(cluster.client_gets(segment, is_its))
            }
            _ => Err(("nothing reaches a non-member", format!("{segment:?} is not for station {station}"))),
        };
        match answer {
            Ok(None) => {}
            Ok(Some(answer)) => self.send_segment(now, StationIndex(station), answer),
            Err((invariant, detail)) => self.break_invariant(Violation { invariant, at: now, detail }),
        }
    }

    // --- what becomes of calls ------------------------------------------------------------------------------

    /// The stack of a station has gone, with its calls.
    pub(super) fn calls_end(&mut self, station: StationIndex) {
        let node = self.stations[station.0].node;
        let is_of_cluster = self.stations[station.0].lan == 0;
        let Some(cluster) = self.cluster.as_mut().filter(|_| is_of_cluster) else { return };
        cluster.connections.retain(|(at, _)| *at != node);
        cluster.forget_taken(node);
        for call in cluster.calls.iter_mut().filter(|call| call.client == station) {
            call.state = State::Over;
        }
    }

    /// The control node has lost a node, or it is no member any more: the flows of its servers have no owner until it is back.
    pub(super) fn excuse_calls_of(&mut self, node: usize) {
        for call in self.cluster.iter_mut().flat_map(|cluster| &mut cluster.calls) {
            call.is_excused |= call.state == State::Open { server: node };
        }
    }

    /// Nobody believes that the cluster is anywhere but at its own MACs: of those outside, where they can see them.
    pub(super) fn check_cluster_beliefs(&mut self, node: usize) {
        let Some(cluster) = &self.cluster else { return };
        let stacks = self.nodes[node].stacks.values().map(|stack| (stack, false));
        let outside = self.outside_stack().filter(|_| node == 0).map(|stack| (stack, true));
        let believed = stacks.chain(outside).flat_map(|(stack, is_outside)| {
            stack.neighbours().map(move |(address, mac)| (address, mac, is_outside))
        });
        let wrong = believed.into_iter().find(|&(address, mac, is_outside)| {
            let own = cluster.addresses.iter().position(|own| *own == address);
            own.is_some_and(|own| mac != MACS[own] && !(is_outside && mac == SYSTEM_MAC))
        });
        if let Some((address, mac, _)) = wrong {
            let detail = format!("{address} is believed to be at {mac} by node {node} or outside");
            let invariant = "nobody speaks for a cluster address";
            self.break_invariant(Violation { invariant, at: self.now(), detail });
        }
    }

    // --- the end --------------------------------------------------------------------------------------------

    /// Every client's calls to each service are answered, two of one client to the sticky service by one server, and what was claimed
    /// goes on.
    pub(super) fn everybody_calls(&mut self) -> Result<(), Violation> {
        if self.cluster.is_none() || !self.has_live_server() {
            return Ok(());
        }
        let kept: Vec<(usize, u32)> = self
            .open_calls()
            .into_iter()
            .filter(|n| self.is_kept(*n))
            .map(|n| (n, self.calls()[n].sent))
            .collect();
        let mut wanted = Vec::new();
        for client in self.clients() {
            for over_ipv4 in [true, false] {
                for port in [PLAIN_PORT, STICKY_PORT, STICKY_PORT] {
                    let now = self.now();
                    wanted.push((self.call(now, client, port, over_ipv4), over_ipv4));
                }
            }
        }
        // What the proxy has no room to remember has to wait until all servers have told their flows.
        let has_no_room = self.plan.cluster.as_ref().is_some_and(|cluster| cluster.limits == TINY_LIMITS);
        let until = self.now() + CALL_MAX + if has_no_room { TELLING_TIME_MAX } else { Duration::ZERO };
        loop {
            self.run_for(Duration::from_millis(20))?;
            let now = self.now();
            // A server that had closed its port may still be chosen while its word is under way.
            for (number, over_ipv4) in &mut wanted {
                let call = self.calls()[*number];
                if call.state == State::Over {
                    *number = self.call(now, call.client.0, call.service.port(), *over_ipv4);
                }
            }
            let silent = |number: &usize| self.calls()[*number].answered == 0;
            let silent: Vec<_> = wanted.iter().map(|(number, _)| *number).filter(silent).collect();
            let ended: Vec<_> = kept.iter().filter(|(n, sent)| self.calls()[*n].answered <= *sent).collect();
            if silent.is_empty() && ended.is_empty() {
                break;
            }
            if now >= until {
                let silent: Vec<_> = silent.into_iter().map(|number| self.calls()[number]).collect();
                let ended: Vec<_> = ended.into_iter().map(|(number, _)| self.calls()[*number]).collect();
                return Err(
                    self.stuck(format!("calls not answered: {silent:?}; that do not go on: {ended:?}"))
                );
            }
            self.go_on_with_calls(now, 100);
        }
        let wanted: Vec<usize> = wanted.into_iter().map(|(number, _)| number).collect();
        self.judge_sticky(&wanted)
    }

    pub(super) fn has_live_server(&self) -> bool {
        let serves = |station: &usize| {
            let station = self.stations[*station];
            station.lan == 0 && self.cluster.as_ref().is_some_and(|cluster| cluster.serves(station.node))
        };
        self.live_stations().iter().any(serves)
    }

    /// The call is claimed, its server has it, and its client is there: one that has been removed may not know it.
    fn is_kept(&self, number: usize) -> bool {
        let call = self.calls()[number];
        let State::Open { server } = call.state else { return false };
        let cluster = self.cluster.as_ref();
        let has_it = cluster.is_some_and(|cluster| cluster.connections.contains(&(server, number)));
        let is_there = self.is_outside(call.client) || !self.removed[call.client.0];
        call.is_claimed && !call.is_ending && !call.is_excused && has_it && is_there
    }

    fn judge_sticky(&self, calls: &[usize]) -> Result<(), Violation> {
        let sticky = calls.iter().map(|number| self.calls()[*number]);
        let sticky: Vec<Call> = sticky.filter(|call| call.service.port() == STICKY_PORT).collect();
        for call in &sticky {
            let is_clients = |other: &&Call| other.own.ip() == call.own.ip();
            if let Some(other) = sticky.iter().filter(is_clients).find(|other| other.state != call.state) {
                let detail = format!("{call:?} and {other:?}");
                return Err(Violation { invariant: "I-32 sticky clients", at: self.now(), detail });
            }
        }
        Ok(())
    }

    /// Calls that were answered so far.
    #[must_use]
    pub fn answered_calls(&self) -> usize {
        self.calls().iter().filter(|call| call.is_claimed).count()
    }

    /// Calls that have been claimed and are still open.
    #[must_use]
    pub fn kept_calls(&self) -> usize {
        self.open_calls().into_iter().filter(|number| self.is_kept(*number)).count()
    }

    /// So many calls must have been answered.
    ///
    /// # Errors
    /// When they have not.
    pub fn expect_calls(&self, least: usize) -> Result<(), Violation> {
        if self.answered_calls() >= least {
            return Ok(());
        }
        let detail = format!("{} calls were answered, {least} are expected", self.answered_calls());
        Err(Violation { invariant: "calls are answered", at: self.now(), detail })
    }
}

impl World {
    /// So many segments must have come back from servers that do not own their flows.
    ///
    /// # Errors
    /// When they have not.
    pub fn expect_given_back(&self, least: u64) -> Result<(), Violation> {
        let clusters =
            self.controls.iter().filter_map(|host| host.machine.as_ref()).flat_map(|m| m.clusters());
        let given_back: u64 = clusters.map(|cluster| cluster.counters.given_back.frames).sum();
        if given_back >= least {
            return Ok(());
        }
        let detail = format!("{given_back} segments were given back, {least} are expected");
        Err(Violation { invariant: "servers are asked in turn", at: self.now(), detail })
    }
}

/// True for a segment to the service whose servers are checked.
const fn call_is_checked(segment: &Segment) -> bool {
    segment.destination.port() == PLAIN_PORT
}

type Broken = (&'static str, String);

impl Cluster {
    /// The stack of a real server gets a segment; returns what it answers.
    fn server_gets(&mut self, node: usize, segment: Segment) -> Result<Option<Segment>, Broken> {
        let number = segment.call as usize;
        let call = &self.calls[number];
        if segment.destination.port() == UNKNOWN_PORT || !self.serves(node) {
            return Err(("I-31 known services", format!("{segment:?} reached node {node}")));
        }
        if segment.flags == flags::SYN {
            return self.syn_arrives(node, segment).map(Some);
        }
        if segment.flags & flags::RST != 0 {
            self.connections.remove(&(node, number));
            return Ok(None);
        }
        let is_known = self.connections.contains(&(node, number));
        if is_known && segment.value >> 16 == node as u32 {
            if segment.flags & flags::FIN != 0 {
                self.connections.remove(&(node, number));
            }
            return Ok(Some(segment.answer(segment.flags, segment.value)));
        }
        let has_owner = |server: usize| server != node && self.connections.contains(&(server, number));
        if let State::Open { server } = call.state
            && call.is_claimed
            && !call.is_excused
            && has_owner(server)
        {
            let detail = format!("node {node} refuses {segment:?}, which is node {server}'s: {call:?}");
            return Err(("I-30, I-35 claimed flows reach their owner", detail));
        }
        Ok(Some(segment.answer(flags::RST, segment.value)))
    }

    fn syn_arrives(&mut self, node: usize, segment: Segment) -> Result<Segment, Broken> {
        let number = segment.call as usize;
        let opened = self.calls[number].opened;
        if self.draining.get(&node).is_some_and(|since| opened > *since) {
            return Err(("I-36 no new flows while draining", format!("node {node} gets {segment:?}")));
        }
        if call_is_checked(&segment) && self.is_known_to_hang(node, opened) {
            return Err(("E8 failed checks", format!("node {node}, which hangs, gets {segment:?}")));
        }
        if self.closed.contains(&node) {
            return Ok(segment.answer(flags::RST, 0));
        }
        self.connections.insert((node, number));
        Ok(segment.answer(flags::SYN | flags::ACK, value_of(node, 0)))
    }

    /// The stack of a client gets an answer; returns what it says to one of a call that it does not have.
    fn client_gets(&mut self, segment: Segment, is_its: bool) -> Option<Segment> {
        let call = &mut self.calls[segment.call as usize];
        let from = (segment.value >> 16) as usize;
        if !is_its || call.state == State::Over {
            let is_refusal = segment.flags & flags::RST != 0;
            return (!is_refusal).then(|| segment.answer(flags::RST, segment.value));
        }
        match (segment.flags, call.state) {
            (flags, _) if flags & flags::RST != 0 => call.state = State::Over,
            (flags, State::Opening) if flags & flags::SYN != 0 => call.state = State::Open { server: from },
            (flags, State::Open { server }) if flags & flags::FIN != 0 && server == from => {
                call.state = State::Over;
            }
            (flags::ACK, State::Open { server }) if server == from => {
                call.is_claimed = true;
                call.answered = call.answered.max(segment.value & 0xffff);
            }
            _ => {}
        }
        None
    }
}
