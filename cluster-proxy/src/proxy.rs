//! The proxy of one cluster: what it knows, and what happens to it beside packets.

mod choice;
mod claims;
mod one;
mod packets;
mod passing;
mod verdict;

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use vlan_core::Instant;
use vlan_core::counters::{DropCounters, FrameCount};
use vlan_core::security::rate::{Cost, Kind as Rated, Meters};
use vlan_core::security::{Limits as RateLimits, Rate};
use vlan_core::server::MemberSlot;
use vlan_core::wire::Vnet;

use crate::config::ServiceKey;
use crate::echo;
use crate::lines::{Entry, Kind, Lines};
use crate::servers::{Drain, Index, Server, Servers, TELLING_TIME_MAX, Worth};
use crate::service::{CheckRequest, ServerCounters, Service, ServiceCounters};
use crate::tables::Tables;

pub use claims::{Claimed, Refusal};
use passing::Given;
pub use verdict::{Forward, HOPS_MAX, Hops, Manner, Verdict};

/// How long segments of unknown flows go to every server after a takeover (study 4.4): a million claims take 60 ms.
pub(crate) const ASKING_TIME: Duration = Duration::from_millis(250);
/// How many of them in a second.
const ASKED_PER_SECOND_MAX: u64 = 50_000;
/// Segments in a second that servers are given to pass on.
const PASSED_PER_SECOND_MAX: u64 = 50_000;
/// Bits of them in a second.
const PASSED_BITS_PER_SECOND_MAX: u64 = PASSED_PER_SECOND_MAX * 1500 * 8;
/// ICMP errors about unknown flows in a second, which go to every server.
const ERRORS_PER_SECOND_MAX: u64 = 1000;
/// Echo requests that are answered in a second.
const ECHOES_PER_SECOND_MAX: u64 = 1000;
/// How long the server of a half-open flow is remembered: so long that the first SYN that is sent again finds it.
pub(crate) const HALF_OPEN_TIME: Duration = Duration::from_secs(3);
/// How long the fragments of a packet are told apart.
pub(crate) const FRAGMENTS_TIME: Duration = Duration::from_secs(2);
/// What these two are counted in.
const SHORT_TICK: Duration = Duration::from_millis(500);
/// Between two looks for what is too old, each at one of [`SWEEP_PARTS`] of the tables: all of them within the 64 s in which ages in eight bits of
/// [`SHORT_TICK`] are half round.
const SWEEP_INTERVAL: Duration = Duration::from_millis(50);
const SWEEP_PARTS: usize = 1024;
/// After a longer pause of these looks the ages of what lives for seconds say nothing.
const SWEEP_PAUSE_MAX: Duration = Duration::from_secs(60);

/// How much a proxy holds. Memory is taken when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Claimed flows; 16 octets each. There are places for twice as many, so that nearly every claim finds one.
    pub flows_max: usize,
    /// Half-open flows; 8 octets each.
    pub half_open_max: usize,
    /// Packets whose fragments are told apart; 8 octets each.
    pub fragmented_max: usize,
    /// Segments that servers have been given to pass on; 16 octets each.
    pub passed_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { flows_max: 1 << 20, half_open_max: 65_536, fragmented_max: 8192, passed_max: 16_384 }
    }
}

/// What a proxy has done: every packet is forwarded, asked about, answered or dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterCounters {
    /// Packets that came, also those that servers have given back.
    pub packets: FrameCount,
    /// Of these, segments that a server gave back since it does not own their flow.
    pub given_back: FrameCount,
    /// Packets that went to a server.
    pub forwarded: FrameCount,
    /// Of these, packets of claimed flows.
    pub of_claimed: u64,
    /// Packets that went to every server, for the owner of their flow.
    pub asked: FrameCount,
    /// Echo requests that were answered.
    pub answered: FrameCount,
    /// Packets that were dropped.
    pub drops: DropCounters,
    /// Servers that were chosen for new flows.
    pub chosen: u64,
    /// Choices that found no room to be remembered.
    pub not_remembered: u64,
    /// Claims of flows that had no owner.
    pub claims: u64,
    /// Claims of flows that another server owns.
    pub conflicts: u64,
    /// Claims that were refused for other reasons.
    pub refused: u64,
    /// Times that it was worked out which servers take new flows.
    pub judgements: u64,
}

/// The proxy of one cluster.
#[derive(Clone, Debug)]
pub struct ClusterProxy {
    tables: Arc<Tables>,
    services: Vec<Service>,
    servers: Servers,
    /// Claimed flows.
    flows: Lines,
    flows_max: usize,
    half_open: Lines,
    fragments: Lines,
    given: Given,
    /// Some server takes new flows.
    is_serving: bool,
    /// Another control node chooses.
    stands_by: bool,
    /// When the next draining server is to lose its flows.
    deadline: Option<Instant>,
    /// Some server may still have flows that it has not told, until then.
    telling_until: Option<Instant>,
    /// Segments of unknown flows go to every server, until then.
    asking_until: Option<Instant>,
    /// A server that tells its flows is believed, until then.
    believing_until: Option<Instant>,
    asks: Option<Meters>,
    passes: Option<Meters>,
    errors: Option<Meters>,
    echoes: Option<Meters>,
    due: VecDeque<CheckRequest>,
    /// When the next server is to be checked. Asked for with each batch of packets, so it is not looked for then.
    next_check: Option<Instant>,
    /// While several changes are made: one of them matters to who takes new flows.
    unjudged: Option<bool>,
    /// The last look for what is too old.
    swept_at: Instant,
    /// Looks until everything that is there now has been seen twice.
    sweeps_left: usize,
    /// The answer that was made last.
    answer: Vec<u8>,
    counters: ClusterCounters,
}

impl ClusterProxy {
    /// A proxy that knows no flow, and of no server that it can be reached. It stands by.
    //= spec/cluster.md#memory
    //# The proxy's memory MUST be fixed by its limits and its configuration, whatever packets and claims arrive.
    #[must_use]
    pub fn new(now: Instant, tables: Tables, limits: &Limits) -> Self {
        let mut proxy = Self {
            services: Vec::new(),
            servers: Servers::default(),
            flows: Lines::new(limits.flows_max.saturating_mul(2), true),
            flows_max: limits.flows_max,
            half_open: Lines::new(limits.half_open_max, false),
            fragments: Lines::new(limits.fragmented_max, false),
            given: Given::new(limits.passed_max),
            is_serving: false,
            stands_by: true,
            deadline: None,
            telling_until: None,
            asking_until: None,
            believing_until: None,
            asks: meters(ASKED_PER_SECOND_MAX),
            passes: meters_of(PASSED_PER_SECOND_MAX, Some(PASSED_BITS_PER_SECOND_MAX)),
            errors: meters(ERRORS_PER_SECOND_MAX),
            echoes: meters(ECHOES_PER_SECOND_MAX),
            due: VecDeque::new(),
            next_check: None,
            unjudged: None,
            swept_at: now,
            sweeps_left: 0,
            answer: Vec::with_capacity(echo::ANSWER_LEN_MAX),
            counters: ClusterCounters::default(),
            tables: Arc::new(tables),
        };
        proxy.use_tables(now);
        proxy
    }

    /// Another configuration is used from now on; what is known of servers and flows stays. Gives the former tables, so that the
    /// caller can drop them where that costs nothing.
    ///
    /// Of servers that are new in it the caller says next whether they can be reached, and whether they drain: nothing is known of
    /// others.
    pub fn apply(&mut self, now: Instant, tables: impl Into<Arc<Tables>>) -> Arc<Tables> {
        let former = core::mem::replace(&mut self.tables, tables.into());
        self.use_tables(now);
        former
    }

    fn use_tables(&mut self, now: Instant) {
        for index in self.servers.configure(&self.tables.servers, &self.tables.owners) {
            self.end_life(now, index);
            self.services.iter_mut().for_each(|service| service.forget_server(index));
        }
        let (tables, servers, before) = (&self.tables, &self.servers, &self.services);
        let service = |table: &crate::tables::ServiceTable| {
            let known = before.iter().find(|service| service.key() == table.config.key);
            Service::new(now, table, servers, known)
        };
        self.services = tables.services.iter().map(service).collect();
        self.due.clear();
        self.due.reserve(self.services.iter().map(|service| service.servers.len()).sum());
        self.judge();
    }

    /// Makes several changes, and works out once what follows from them.
    pub fn together(&mut self, changes: impl FnOnce(&mut Self)) {
        self.unjudged = Some(false);
        changes(self);
        if self.unjudged.take() == Some(true) {
            self.judge();
        }
    }

    /// A real server can be reached, or not any more. A process that is another one than before could not be reached in between.
    //= spec/cluster.md#servers-that-come-and-go
    //# When a real server can no longer be reached, its flows MUST have no owner at once.
    pub fn set_reachable(&mut self, now: Instant, slot: MemberSlot, is_reachable: bool) {
        let Some(index) = self.servers.find(slot) else { return };
        let Some(server) = self.servers.server_mut(index) else { return };
        if server.is_reachable == is_reachable {
            return;
        }
        server.is_reachable = is_reachable;
        if is_reachable {
            server.begin_telling(now);
        } else {
            server.end_telling(now);
            server.lost_in = server.lost_in.or(Some(server.life));
            self.end_life(now, index);
            self.services.iter_mut().for_each(|service| service.forget_state(index));
        }
        self.judge();
    }

    /// A real server is to get no new flow, and to lose its old ones at `deadline`.
    //= spec/cluster.md#draining
    //# A draining server MUST get no new flow, and keep the flows that it has claimed until its deadline.
    pub fn drain(&mut self, slot: MemberSlot, deadline: Option<Instant>) {
        self.set_drain(slot, Drain::Until(deadline));
    }

    /// A real server is to get new flows again.
    pub fn undrain(&mut self, slot: MemberSlot) {
        self.set_drain(slot, Drain::No);
    }

    fn set_drain(&mut self, slot: MemberSlot, drain: Drain) {
        let index = self.servers.find(slot);
        let server = index.and_then(|index| self.servers.server_mut(index));
        // Whose deadline is past has lost its flows, and is told so only once.
        let is_news = |server: &&mut Server| {
            let is_past =
                matches!((server.drain, drain), (Drain::Over(at), Drain::Until(Some(new))) if at == new);
            server.drain != drain && !is_past
        };
        if let Some(server) = server.filter(is_news) {
            server.drain = drain;
            self.judge();
        }
    }

    /// The node of a real server says whether something listens at the port of a service there.
    pub fn set_listens(&mut self, slot: MemberSlot, service: ServiceKey, listens: bool) {
        let found = self.servers.find(slot).zip(self.tables.find(service));
        let has_changed = found.is_some_and(|(index, at)| self.services[at].set_listens(index, listens));
        if has_changed {
            self.judge();
        }
    }

    /// The next server that is to be checked; `None` until the next timeout.
    pub fn poll_check(&mut self) -> Option<CheckRequest> {
        self.due.pop_front()
    }

    /// A server has been checked as [`Self::poll_check`] asked for.
    pub fn handle_checked(&mut self, request: &CheckRequest, is_well: bool) {
        let found = self.servers.find(request.server).zip(self.tables.find(request.service));
        let Some((index, at)) = found else { return };
        if self.services[at].checked(&self.tables.services[at].config, index, is_well) {
            self.judge();
        }
    }

    /// This control node has just taken the cluster over, or started: its servers are to tell all their flows.
    //= spec/cluster.md#takeover
    //# For 250 ms after a control node has taken a cluster over, a segment of an unknown flow MUST go to every real server, to be taken by its owner alone, unless all have told their flows before; no more than 50,000 a second.
    pub fn handle_takeover(&mut self, now: Instant) {
        self.stands_by = false;
        self.asking_until = Some(now + ASKING_TIME);
        self.believing_until = Some(now + TELLING_TIME_MAX);
        self.servers.all_tell(now);
        self.judge();
    }

    /// Another control node has the cluster now: this proxy believes what servers claim, for the next takeover.
    pub fn stand_by(&mut self) {
        self.stands_by = true;
    }

    /// When [`Self::handle_timeout`] is wanted next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sweep =
            (self.sweeps_left > 0 || self.servers.have_flows()).then(|| self.swept_at + SWEEP_INTERVAL);
        [sweep, self.next_check, self.deadline].into_iter().flatten().min()
    }

    /// Does what is due: checks, deadlines of draining servers, forgetting.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            while let Some(index) = self.servers.past_deadline(now) {
                self.end_life(now, index);
            }
            self.deadline = self.servers.next_deadline();
        }
        if self.next_check.is_some_and(|due| due <= now) {
            self.check(now);
        }
        if now >= self.swept_at + SWEEP_INTERVAL {
            self.sweep(now);
        }
    }

    /// Asks for the checks that are due.
    fn check(&mut self, now: Instant) {
        let mut has_changed = false;
        for (service, table) in self.services.iter_mut().zip(&self.tables.services) {
            has_changed |= service.check(now, &table.config, &self.servers, &mut self.due);
        }
        if has_changed {
            self.judge();
        } else {
            self.note_next_check();
        }
    }

    /// Who is checked, or when, has changed.
    fn note_next_check(&mut self) {
        let services = self.services.iter().zip(&self.tables.services);
        let due = services.filter_map(|(service, table)| service.next_check(&table.config, &self.servers));
        self.next_check = due.min();
    }

    /// Octets of memory that it has taken for what packets and claims change.
    //= spec/cluster.md#memory
    //# The proxy's memory MUST be fixed by its limits and its configuration, whatever packets and claims arrive.
    #[must_use]
    pub fn memory_len(&self) -> usize {
        let tables = [&self.flows, &self.half_open, &self.fragments].map(Lines::memory_len);
        let due = self.due.capacity() * size_of::<CheckRequest>();
        tables.iter().sum::<usize>()
            + self.given.memory_len()
            + self.answer.capacity()
            + due
            + self.servers.memory_len()
    }

    /// The configuration that it goes by.
    #[must_use]
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// What it has done.
    #[must_use]
    pub fn counters(&self) -> &ClusterCounters {
        &self.counters
    }

    /// The servers that can be reached: who gets what [`Verdict::Owners`] is said of.
    pub fn reachable(&self) -> impl Iterator<Item = MemberSlot> + '_ {
        self.servers.iter().filter(|(_, server)| server.may_own()).map(|(_, server)| server.slot)
    }

    /// The flows that a server owns.
    #[must_use]
    pub fn flows_of(&self, slot: MemberSlot) -> u32 {
        self.servers.find(slot).and_then(|index| self.servers.server(index)).map_or(0, |server| server.flows)
    }

    /// What a service has given a server.
    #[must_use]
    pub fn server_counters(&self, slot: MemberSlot, service: ServiceKey) -> ServerCounters {
        let found = self.servers.find(slot).zip(self.tables.find(service));
        found.map_or_else(Default::default, |(index, at)| self.services[at].counts.server(index))
    }

    /// What is counted of a service in all.
    #[must_use]
    pub fn service_counters(&self, service: ServiceKey) -> ServiceCounters {
        self.tables.find(service).map_or_else(Default::default, |at| self.services[at].counts.sum())
    }

    /// True when a server gets new flows of a service.
    #[must_use]
    pub fn takes_flows(&self, slot: MemberSlot, service: ServiceKey) -> bool {
        let found = self.servers.find(slot).zip(self.tables.find(service));
        found.is_some_and(|(index, at)| self.services[at].takes_at(index))
    }

    /// True when a server passes the check of a service; none when it has none.
    #[must_use]
    pub fn passes(&self, slot: MemberSlot, service: ServiceKey) -> Option<bool> {
        let (index, at) = self.servers.find(slot).zip(self.tables.find(service))?;
        self.tables.services[at].config.check?;
        self.services[at].passes(index)
    }

    /// Something has changed about a server.
    fn judge(&mut self) {
        if let Some(unjudged) = &mut self.unjudged {
            *unjudged = true;
            return;
        }
        self.counters.judgements += 1;
        for (service, table) in self.services.iter_mut().zip(&self.tables.services) {
            service.judge(&table.config, &self.servers);
        }
        self.is_serving = self.services.iter().any(|service| service.servers.iter().any(|s| s.takes));
        self.telling_until = self.servers.telling_until();
        self.deadline = self.servers.next_deadline();
        self.note_next_check();
    }

    /// Nobody owns the flows of a server any more.
    fn end_life(&mut self, now: Instant, index: Index) {
        self.note_entries(now);
        let Some(server) = self.servers.server_mut(index) else { return };
        server.life = server.life.wrapping_add(1);
        let is_round = server.life == 0;
        if is_round {
            server.lost_in = None;
        }
        self.servers.lose_all_flows(index);
        if is_round {
            // Entries of the lives that are about to be counted again must not come to life with them.
            for lines in [&mut self.flows, &mut self.half_open, &mut self.fragments] {
                lines.sweep(1, |entry| entry.server != index);
            }
        }
    }

    /// There are entries that will be too old one day. While there are none nothing is looked for.
    fn note_entries(&mut self, now: Instant) {
        if self.sweeps_left == 0 && !self.servers.have_flows() {
            self.swept_at = now;
        }
        self.sweeps_left = 2 * SWEEP_PARTS;
    }

    fn sweep(&mut self, now: Instant) {
        let is_late = now.since(self.swept_at) > SWEEP_PAUSE_MAX;
        self.swept_at = now;
        self.sweeps_left = self.sweeps_left.saturating_sub(1);
        let servers = &mut self.servers;
        let parts = if is_late { 1 } else { SWEEP_PARTS };
        self.flows.sweep(parts, |entry| {
            let keep = servers.keeps(now, entry) && !(is_late && entry.kind == Kind::Udp);
            if !keep && servers.worth(now, entry) != Worth::Orphaned {
                servers.lose_flow(entry);
            }
            keep
        });
        let servers = &self.servers;
        for (lines, time) in [(&mut self.half_open, HALF_OPEN_TIME), (&mut self.fragments, FRAGMENTS_TIME)] {
            lines.sweep(parts, |entry| !is_late && is_fresh(now, servers, entry, time));
        }
    }
}

/// An entry of what is remembered for `time` is as good as new.
fn is_fresh(now: Instant, servers: &Servers, entry: Entry, time: Duration) -> bool {
    let ticks = u64::from(short_tick(now).wrapping_sub(entry.tick));
    let is_young = ticks <= time.as_nanos().div_ceil(SHORT_TICK.as_nanos()) as u64;
    is_young && servers.server(entry.server).is_some_and(|s| s.life == entry.life && s.is_reachable)
}

fn short_tick(now: Instant) -> u8 {
    (now.as_nanos() / SHORT_TICK.as_nanos() as u64) as u8
}

/// So many packets a second.
fn meters(per_second: u64) -> Option<Meters> {
    meters_of(per_second, None)
}

fn meters_of(per_second: u64, bits: Option<u64>) -> Option<Meters> {
    let rate = Rate { frames: Some(per_second), bits };
    Meters::new(&RateLimits { total: rate, ..RateLimits::default() })
}

/// One more packet fits.
fn admits(meters: &mut Option<Meters>, now: Instant) -> bool {
    admits_len(meters, now, 0)
}

/// The same of one of so many octets.
fn admits_len(meters: &mut Option<Meters>, now: Instant, len: usize) -> bool {
    let cost = Cost::of(&Vnet::default(), len);
    meters.as_mut().is_some_and(|meters| meters.take(now, Rated::Unicast, cost).is_ok())
}
