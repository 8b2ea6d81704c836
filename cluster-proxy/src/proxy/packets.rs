//! The walk of a packet: it is read, its flow is hashed and looked up, else a server is chosen.

use core::time::Duration;

use vlan_core::server::MemberSlot;
use vlan_core::wire::Vnet;
use vlan_core::{DropReason, Instant};

use crate::config::{Balance, Protocol};
use crate::echo;
use crate::hash::{self, Flow};
use crate::lines::{Entry, Kind, Lines, Place};
use crate::packet::{self, Content, Plain, Read};
use crate::proxy::verdict::{Forward, Hops, Verdict};
use crate::proxy::{ClusterProxy, FRAGMENTS_TIME, HALF_OPEN_TIME, admits, is_fresh, short_tick};
use crate::servers::{Index, Servers, Worth, tick};

/// Packets of which the flows are looked for at once.
const BATCH: usize = 32;

/// Where a packet goes.
enum Way {
    Server(Index),
    Hops(Hops),
    Owners,
}

impl ClusterProxy {
    /// Says what becomes of the packet in `frame`, which is untagged and has the state `vnet`.
    pub fn handle(&mut self, now: Instant, vnet: &Vnet, frame: &[u8]) -> Verdict<'_> {
        let plain = packet::plain(&self.tables, frame);
        self.decide(now, vnet, frame, plain)
    }

    /// The same for a packet that a node had given another control node before: that may have done with it what this one would do.
    //= spec/cluster.md#syns-that-come-again
    //# While some server may not have told all its flows, a SYN that a node sends again since it lost its control node MUST be dropped as `not-owner`, unless its flow is claimed.
    pub fn handle_resent(&mut self, now: Instant, vnet: &Vnet, frame: &[u8]) -> Verdict<'_> {
        if self.is_telling(now)
            && let Ok(Read { content: Content::Flow { flow, begins: true }, .. }) =
                packet::read(&self.tables, vnet, frame)
            && flow.protocol == Protocol::Tcp
            && self.owner(now, hash::of_flow(&self.tables.key, &flow)).is_none()
        {
            self.counters.packets.add(frame.len());
            return self.dropped(DropReason::NotOwner);
        }
        self.handle(now, vnet, frame)
    }

    /// The same as [`Self::handle`] for several frames, in their order, with the verdict for each in `verdicts`. The flows of several packets are brought
    /// from memory together.
    pub fn handle_batch<'f>(
        &mut self,
        now: Instant,
        frames: &[(Vnet, &'f [u8])],
        mut verdicts: impl FnMut(&'f [u8], Verdict<'_>),
    ) {
        for frames in frames.chunks(BATCH) {
            let mut plains = [None; BATCH];
            for (plain, (_, frame)) in plains.iter_mut().zip(frames) {
                *plain = packet::plain(&self.tables, frame);
            }
            for plain in plains.iter().take(frames.len()).flatten() {
                self.flows.touch(plain.hash);
            }
            for (plain, (vnet, frame)) in plains.into_iter().zip(frames) {
                let verdict = self.decide(now, vnet, frame, plain);
                verdicts(frame, verdict);
            }
        }
    }

    /// `plain` is what was seen of it at a glance.
    #[inline]
    fn decide(&mut self, now: Instant, vnet: &Vnet, frame: &[u8], plain: Option<Plain>) -> Verdict<'_> {
        self.counters.packets.add(frame.len());
        if let Some(plain) = plain
            && let Some(owner) = self.owner(now, plain.hash)
        {
            let at = self.tables.find_bits(plain.service);
            return self.give(frame, at, owner);
        }
        self.decide_slowly(now, vnet, frame)
    }

    /// What is not of a claimed flow, or not plainly so.
    fn decide_slowly(&mut self, now: Instant, vnet: &Vnet, frame: &[u8]) -> Verdict<'_> {
        let read = match packet::read(&self.tables, vnet, frame) {
            Ok(Read { content: Content::Echo, packet }) => return self.answer(now, frame, &packet),
            Ok(read) => read,
            Err(reason) => return self.dropped(reason),
        };
        let at = read.place(&self.tables);
        match self.way(now, &read, at) {
            Ok(Way::Server(index)) => self.give(frame, at, index),
            Ok(Way::Hops(hops)) => {
                let is_fragment = read.packet.fragment.is_some();
                self.give_hops(now, frame, at, (hops, is_fragment))
            }
            Ok(Way::Owners) => {
                self.counters.asked.add(frame.len());
                self.count_asked(frame, at);
                Verdict::Owners
            }
            Err(reason) => {
                if let Some(at) = at.filter(|_| reason == DropReason::NoServer) {
                    self.services[at].counts.of_all.no_server += 1;
                }
                self.dropped(reason)
            }
        }
    }

    /// `at` is the place of its service, if there is one.
    fn way(&mut self, now: Instant, read: &Read, at: Option<usize>) -> Result<Way, DropReason> {
        match &read.content {
            Content::Flow { flow, begins } => {
                let hash = hash::of_flow(&self.tables.key, flow);
                let way = self.way_of_flow(now, at, (flow, hash), *begins)?;
                if read.packet.fragment.is_some() {
                    self.remember_fragments(now, read, &way);
                }
                Ok(way)
            }
            Content::Error(flow) => self.way_of_error(now, at, flow, hash::of_flow(&self.tables.key, flow)),
            Content::Routed => self.way_of_routed(at, read),
            Content::Later | Content::Echo => self.way_of_fragment(now, self.fragments_hash(read)),
        }
    }

    pub(super) fn fragments_hash(&self, read: &Read) -> u64 {
        let packet = &read.packet;
        let identification = packet.fragment.map_or(0, |fragment| fragment.identification);
        hash::of_fragments(&self.tables.key, packet.source, packet.destination, identification)
    }

    fn way_of_flow(
        &mut self,
        now: Instant,
        at: Option<usize>,
        (flow, hash): (&Flow, u64),
        begins: bool,
    ) -> Result<Way, DropReason> {
        if let Some(owner) = self.owner(now, hash) {
            return Ok(Way::Server(owner));
        }
        let at = at.ok_or(DropReason::UnknownService)?;
        let config = &self.tables.services[at].config;
        if config.balance == Balance::PerPacket {
            return self.choose(now, at, flow, hash).map(Way::Server);
        }
        match self.remembered(now, hash) {
            Some(server) if !begins || self.services[at].takes_at(server) => {
                if begins {
                    self.remember(now, flow, hash, server);
                }
                Ok(Way::Server(server))
            }
            _ if begins => {
                let server = self.choose(now, at, flow, hash)?;
                self.counters.chosen += 1;
                self.services[at].counts.choose(server);
                self.remember(now, flow, hash, server);
                Ok(Way::Server(server))
            }
            _ => self.way_of_unknown(now, at, flow, hash),
        }
    }

    /// The server that has claimed the flow. Its age begins anew.
    //= spec/cluster.md#claimed-flows
    //# A packet of a claimed flow MUST go to the real server that has claimed it for as long as that server can be reached, whatever has become of its weight, its health or the configuration.
    #[inline]
    pub(super) fn owner(&mut self, now: Instant, hash: u64) -> Option<Index> {
        let (place, entry) = self.flows.find(hash)?;
        if self.servers.worth(now, entry) != Worth::Alive {
            return None;
        }
        let tick = tick(now, entry.kind);
        if tick != entry.tick {
            self.flows.set(place, hash, Entry { tick, ..entry });
        }
        self.counters.of_claimed += 1;
        Some(entry.server)
    }

    /// A segment in the middle of a flow that nobody has claimed.
    //= spec/cluster.md#takeover
    //# For 250 ms after a control node has taken a cluster over, a segment of an unknown flow MUST go to every real server, to be taken by its owner alone, unless all have told their flows before; no more than 50,000 a second.
    fn way_of_unknown(&mut self, now: Instant, at: usize, flow: &Flow, hash: u64) -> Result<Way, DropReason> {
        let is_asking = self.is_telling(now) && self.asking_until.is_some_and(|until| now < until);
        if is_asking && admits(&mut self.asks, now) {
            return Ok(Way::Owners);
        }
        let hops = self.hops(at, flow, hash);
        if hops.as_slice().is_empty() {
            return Err(DropReason::NoServer);
        }
        Ok(Way::Hops(hops))
    }

    //= spec/cluster.md#icmp-errors
    //# An ICMP error that quotes a packet from a cluster address MUST go to the owner of the flow that the quoted packet answers, or by the rules for its unknown flows.
    fn way_of_error(
        &mut self,
        now: Instant,
        at: Option<usize>,
        flow: &Flow,
        hash: u64,
    ) -> Result<Way, DropReason> {
        if let Some(owner) = self.owner(now, hash) {
            return Ok(Way::Server(owner));
        }
        let at = at.ok_or(DropReason::UnknownService)?;
        if self.tables.services[at].config.balance == Balance::PerPacket {
            return self.choose(now, at, flow, hash).map(Way::Server);
        }
        if let Some(server) = self.remembered(now, hash) {
            return Ok(Way::Server(server));
        }
        if self.reachable().next().is_none() {
            return Err(DropReason::NoServer);
        }
        if admits(&mut self.errors, now) { Ok(Way::Owners) } else { Err(DropReason::LimitCluster) }
    }

    //= spec/cluster.md#routers
    //# A packet to the MAC of a cluster address that is for none of the cluster's addresses MUST go to the first router of its row that can be reached and does not drain, and be dropped as `unknown-destination` where the cluster has no routers.
    fn way_of_routed(&self, at: Option<usize>, read: &Read) -> Result<Way, DropReason> {
        let at = at.ok_or(DropReason::UnknownDestination)?;
        let hash = hash::of_route(&self.tables.key, read.packet.source, read.packet.destination);
        let row = self.tables.services[at].rows.row_of(hash);
        let router = self.candidates(at, row)[0].and_then(|place| self.services[at].index(place));
        router.map(Way::Server).ok_or(DropReason::NoServer)
    }

    //= spec/cluster.md#fragments
    //# A later fragment MUST go where the first one of its packet went within the last 2 s, and be dropped as `orphan-fragment` when none did.
    fn way_of_fragment(&mut self, now: Instant, hash: u64) -> Result<Way, DropReason> {
        let entry = self.fragments.find(hash).map(|(_, entry)| entry);
        let entry = entry.filter(|entry| is_fresh(now, &self.servers, *entry, FRAGMENTS_TIME));
        entry.map(|entry| Way::Server(entry.server)).ok_or(DropReason::OrphanFragment)
    }

    fn remember_fragments(&mut self, now: Instant, read: &Read, way: &Way) {
        let server = match way {
            Way::Server(server) => Some(*server),
            Way::Hops(hops) => hops.as_slice().first().and_then(|slot| self.servers.find(*slot)),
            Way::Owners => None,
        };
        let Some(server) = server else { return };
        let hash = self.fragments_hash(read);
        let place = place_for(&self.fragments, &self.servers, now, hash, FRAGMENTS_TIME);
        let place = place.unwrap_or_else(|| self.fragments.oldest(hash, short_tick(now)));
        let life = self.servers.server(server).map_or(0, |server| server.life);
        self.fragments.set(place, hash, Entry { kind: Kind::Fragments, server, life, tick: short_tick(now) });
        self.note_entries(now);
    }

    /// The server that was chosen for a half-open flow.
    #[inline]
    pub(super) fn remembered(&self, now: Instant, hash: u64) -> Option<Index> {
        let (_, entry) = self.half_open.find(hash)?;
        is_fresh(now, &self.servers, entry, HALF_OPEN_TIME).then_some(entry.server)
    }

    /// There is room for a half-open flow with this hash.
    pub(super) fn has_room(&self, now: Instant, hash: u64) -> bool {
        place_for(&self.half_open, &self.servers, now, hash, HALF_OPEN_TIME).is_some()
    }

    //= spec/cluster.md#half-open-flows
    //# The server chosen for a flow MUST be remembered for 3 s, or until the flow is claimed, where there is room; what is remembered MUST NOT be displaced by other flows before.
    fn remember(&mut self, now: Instant, flow: &Flow, hash: u64, server: Index) {
        let place = place_for(&self.half_open, &self.servers, now, hash, HALF_OPEN_TIME);
        let Some(place) = place else {
            self.counters.not_remembered += 1;
            return;
        };
        let life = self.servers.server(server).map_or(0, |server| server.life);
        let kind = kind_of(flow.protocol);
        self.half_open.set(place, hash, Entry { kind, server, life, tick: short_tick(now) });
        self.note_entries(now);
    }

    //= spec/cluster.md#echo
    //# An ICMP echo request for a cluster address MUST be answered while a service has a server that takes new flows, or there is a router to send packets to, no more than 1000 a second.
    fn answer(&mut self, now: Instant, frame: &[u8], packet: &vlan_core::ip::Packet) -> Verdict<'_> {
        if !self.is_serving {
            return self.dropped(DropReason::NoServer);
        }
        if !admits(&mut self.echoes, now) {
            return self.dropped(DropReason::LimitCluster);
        }
        if !echo::answer(frame, packet, &mut self.answer) {
            return self.dropped(DropReason::TooLong);
        }
        self.counters.answered.add(frame.len());
        Verdict::Answer(&self.answer)
    }

    /// The packet goes to one server.
    //= spec/cluster.md#counters
    //# The proxy MUST count, of each service, the packets and octets that it has given each server and the flows that it has chosen it for, the packets that several servers were asked about, the packets that found no server, and the claims that it refused.
    #[inline]
    fn give(&mut self, frame: &[u8], at: Option<usize>, server: Index) -> Verdict<'_> {
        if let Some(service) = at.and_then(|at| self.services.get_mut(at)) {
            service.counts.give(server, frame.len());
        }
        let slot = self.slot(server);
        self.forward(frame, Hops::one(slot), true)
    }

    /// The packet goes to the servers that may own its flow: in turn, or to all of these for the owner alone.
    fn give_hops(
        &mut self,
        now: Instant,
        frame: &[u8],
        at: Option<usize>,
        (hops, is_fragment): (Hops, bool),
    ) -> Verdict<'_> {
        let is_asked_of_many = hops.as_slice().len() > 1;
        let may_refuse = self.may_refuse(now) && !(is_fragment && is_asked_of_many);
        match at {
            Some(at) if may_refuse && !is_asked_of_many => self.count_given(frame, at, &hops),
            _ => self.count_asked(frame, at),
        }
        self.forward(frame, hops, may_refuse)
    }

    /// Counts a packet for the first of these.
    pub(super) fn count_given(&mut self, frame: &[u8], at: usize, hops: &Hops) {
        let first = hops.as_slice().first().and_then(|slot| self.servers.find(*slot));
        if let Some(first) = first {
            self.services[at].counts.give(first, frame.len());
        }
    }

    fn count_asked(&mut self, frame: &[u8], at: Option<usize>) {
        if let Some(at) = at {
            self.services[at].counts.of_all.asked.add(frame.len());
        }
    }

    fn forward(&mut self, frame: &[u8], hops: Hops, may_refuse: bool) -> Verdict<'_> {
        self.forward_at(frame, (hops, 0), may_refuse)
    }

    /// The server at a place of these is asked.
    pub(super) fn forward_at(
        &mut self,
        frame: &[u8],
        (hops, hop): (Hops, u8),
        may_refuse: bool,
    ) -> Verdict<'_> {
        self.counters.forwarded.add(frame.len());
        Verdict::Forward(Forward { hops, hop, may_refuse, epoch: self.tables.epoch })
    }

    /// A segment whose flow nobody owns may be refused.
    //= spec/cluster.md#refusals
    //# A server MUST be allowed to refuse such a segment only when every server has told all its flows that can be reached, or has not come since the takeover and may still.
    pub(super) fn may_refuse(&self, now: Instant) -> bool {
        !self.is_telling(now) && !self.stands_by
    }

    pub(super) fn dropped(&mut self, reason: DropReason) -> Verdict<'_> {
        self.counters.drops.add(reason);
        Verdict::Dropped(reason)
    }

    /// Some server may still have flows that it has not told.
    fn is_telling(&self, now: Instant) -> bool {
        self.telling_until.is_some_and(|until| now < until)
    }

    #[inline]
    pub(super) fn slot(&self, index: Index) -> MemberSlot {
        self.servers.server(index).map(|server| server.slot).unwrap_or_default()
    }
}

/// Where what is remembered of `hash` for `time` goes: where it is, or where there is room.
fn place_for(lines: &Lines, servers: &Servers, now: Instant, hash: u64, time: Duration) -> Option<Place> {
    let known = lines.find(hash).map(|(place, _)| place);
    let is_free = |entry| !is_fresh(now, servers, entry, time);
    known.or_else(|| lines.room(hash, is_free).map(|(place, _)| place))
}

pub(super) fn kind_of(protocol: Protocol) -> Kind {
    match protocol {
        Protocol::Tcp => Kind::Tcp,
        Protocol::Udp => Kind::Udp,
    }
}
