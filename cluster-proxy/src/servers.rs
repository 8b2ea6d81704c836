//! The real servers of a cluster: who can be reached, who drains, and whether a flow's owner lives.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use vlan_core::Instant;
use vlan_core::server::MemberSlot;

use crate::config::SERVERS_MAX;
use crate::lines::{Entry, Kind, SERVERS};

/// How long a server may take to tell all its flows, in all of its lives since the takeover together.
pub(crate) const TELLING_TIME_MAX: Duration = Duration::from_secs(10);
/// A flow of TCP without a packet for so long is forgotten (RFC 5382, 5, as address translators do).
pub(crate) const TCP_IDLE: Duration = Duration::from_secs(7440);
/// The same of UDP.
pub(crate) const UDP_IDLE: Duration = Duration::from_secs(30);
/// What the ages of flows are counted in: eight bits of these reach beyond the idle times.
const TCP_TICK: Duration = Duration::from_secs(64);
const UDP_TICK: Duration = Duration::from_secs(1);

const _: () = assert!(SERVERS_MAX < SERVERS as usize);

/// The number of a server in entries.
pub(crate) type Index = u16;

/// Is a server being emptied?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Drain {
    /// No.
    #[default]
    No,
    /// It gets no new flows, until this moment, when it loses its old ones too.
    Until(Option<Instant>),
    /// That moment is past.
    Over(Instant),
}

/// One real server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Server {
    pub slot: MemberSlot,
    /// Some service has it, or it is a router.
    pub is_configured: bool,
    /// Some service has it: a router alone owns no flows.
    pub is_owner: bool,
    pub is_reachable: bool,
    pub drain: Drain,
    /// Which life: flows of an earlier one have no owner.
    pub life: u8,
    /// Flows that it has claimed.
    pub flows: u32,
    /// Those of UDP.
    pub udp_flows: u32,
    /// It may still have flows that it has not told, until then.
    pub telling_until: Option<Instant>,
    /// It has not come since the takeover: what it owns nobody here can know.
    pub is_awaited: bool,
    /// What is left of its time to tell once that is over.
    telling_left: Duration,
    /// The first life in which it was lost: it may claim again what it owned in that one and those after it.
    pub lost_in: Option<u8>,
}

impl Server {
    /// It may get new flows, for all that this side knows.
    pub fn is_open(&self) -> bool {
        self.is_configured && self.is_reachable && self.drain == Drain::No
    }

    /// It can be reached, and has flows or may get some.
    pub fn may_own(&self) -> bool {
        self.is_reachable && (self.is_owner || self.flows > 0)
    }

    /// When it is to lose the flows that it still has.
    fn deadline(&self) -> Option<Instant> {
        match self.drain {
            Drain::Until(deadline) => deadline,
            Drain::No | Drain::Over(_) => None,
        }
    }

    /// It can be reached from now on, and is to tell its flows.
    //= spec/cluster.md#time-to-tell
    //# A server MUST NOT have more than 10 s to tell its flows, in all of its lives since the takeover together.
    pub fn begin_telling(&mut self, now: Instant) {
        self.is_awaited = false;
        self.telling_until = (!self.telling_left.is_zero()).then(|| now + self.telling_left);
    }

    /// It has told all its flows, or cannot tell more.
    pub fn end_telling(&mut self, now: Instant) {
        if let Some(until) = self.telling_until.take() {
            self.telling_left = until.since(now);
        }
    }

    /// It may still have flows that it has not told.
    pub fn is_telling(&self, now: Instant) -> bool {
        self.is_reachable && self.telling_until.is_some_and(|until| now < until)
    }
}

/// All real servers; those that left the configuration too, while they have flows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Servers {
    servers: Vec<Server>,
    /// Which of them is a member's.
    by_slot: BTreeMap<MemberSlot, Index>,
    /// Flows of all of them.
    flows: u64,
}

/// What an entry of the table of flows is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worth {
    /// A claimed flow.
    Alive,
    /// Its owner is not, or not any more in that life.
    Orphaned,
    /// Nothing was heard of it for too long.
    Idle,
}

impl Servers {
    pub fn iter(&self) -> impl Iterator<Item = (Index, &Server)> {
        (0..).zip(&self.servers)
    }

    #[inline]
    pub fn server(&self, index: Index) -> Option<&Server> {
        self.servers.get(usize::from(index))
    }

    pub fn server_mut(&mut self, index: Index) -> Option<&mut Server> {
        self.servers.get_mut(usize::from(index))
    }

    /// The server of a member.
    pub fn find(&self, slot: MemberSlot) -> Option<Index> {
        self.by_slot.get(&slot).copied()
    }

    /// Octets of memory, of the configured ones and of those that have flows.
    pub fn memory_len(&self) -> usize {
        self.servers.len() * size_of::<Server>()
    }

    /// These are the configured ones now, as checked, and `owners` those of them that may own flows. Others keep their flows. Gives the
    /// numbers that stand for another server than before.
    pub fn configure(&mut self, slots: &[MemberSlot], owners: &[MemberSlot]) -> Vec<Index> {
        for server in &mut self.servers {
            server.is_configured = false;
        }
        for slot in slots {
            let known = self.find(*slot).and_then(|index| self.server_mut(index));
            known.into_iter().for_each(|server| server.is_configured = true);
        }
        let new: Vec<_> = slots.iter().filter(|slot| self.find(**slot).is_none()).collect();
        let replaced = new.into_iter().filter_map(|slot| self.add(*slot)).collect();
        for server in &mut self.servers {
            server.is_owner = owners.binary_search(&server.slot).is_ok();
        }
        replaced
    }

    /// In the place of one that has gone, if there is one: of all places, of one with the fewest flows.
    fn add(&mut self, slot: MemberSlot) -> Option<Index> {
        let telling_left = TELLING_TIME_MAX;
        let server = Server { slot, is_configured: true, telling_left, ..Server::default() };
        let is_full = self.servers.len() >= usize::from(SERVERS);
        let left = self.servers.iter_mut().zip(0..).filter(|(server, _)| !server.is_configured);
        let (place, index) = match left.min_by_key(|(server, _)| server.flows) {
            Some(left) if left.0.flows == 0 || is_full => left,
            _ => {
                self.by_slot.insert(slot, self.servers.len() as Index);
                self.servers.push(server);
                return None;
            }
        };
        let former = core::mem::replace(place, Server { life: place.life, ..server });
        self.flows -= u64::from(former.flows);
        self.by_slot.remove(&former.slot);
        self.by_slot.insert(slot, index);
        Some(index)
    }

    /// What is known of its owner's life, and of its age, says what an entry is worth.
    #[inline]
    pub fn worth(&self, now: Instant, entry: Entry) -> Worth {
        let lives = |server: &Server| server.life == entry.life && server.is_reachable;
        if !self.server(entry.server).is_some_and(lives) {
            return Worth::Orphaned;
        }
        if is_idle(now, entry) { Worth::Idle } else { Worth::Alive }
    }

    /// The flow of an entry that has no owner was the server's when that was lost, and nobody else's since.
    pub fn was_of(&self, index: Index, entry: Entry) -> bool {
        let Some(server) = self.server(index).filter(|_| entry.server == index) else { return false };
        server.lost_in.is_some_and(|lost| entry.life.wrapping_sub(lost) < server.life.wrapping_sub(lost))
    }

    /// An entry is to be kept: its flow is alive, or its owner may come back and claim it.
    pub fn keeps(&self, now: Instant, entry: Entry) -> bool {
        match self.worth(now, entry) {
            Worth::Alive => true,
            Worth::Idle => false,
            Worth::Orphaned => self.was_of(entry.server, entry) && !is_idle(now, entry),
        }
    }

    /// Its server has this flow from now on.
    pub fn gain_flow(&mut self, entry: Entry) {
        if let Some(server) = self.servers.get_mut(usize::from(entry.server)) {
            server.flows += 1;
            server.udp_flows += u32::from(entry.kind == Kind::Udp);
            self.flows += 1;
        }
    }

    /// Its server has this flow no more.
    pub fn lose_flow(&mut self, entry: Entry) {
        if let Some(server) = self.servers.get_mut(usize::from(entry.server)) {
            debug_assert!(server.flows > 0 && self.flows > 0, "a flow that nobody has");
            server.flows = server.flows.saturating_sub(1);
            server.udp_flows = server.udp_flows.saturating_sub(u32::from(entry.kind == Kind::Udp));
            self.flows = self.flows.saturating_sub(1);
        }
    }

    /// The server has no flow any more.
    pub fn lose_all_flows(&mut self, index: Index) {
        if let Some(server) = self.servers.get_mut(usize::from(index)) {
            self.flows -= u64::from(server.flows);
            (server.flows, server.udp_flows) = (0, 0);
        }
    }

    /// Some server has flows.
    pub fn have_flows(&self) -> bool {
        self.flows > 0
    }

    /// All have their time to tell before them, also those that have yet to come.
    pub fn all_tell(&mut self, now: Instant) {
        for server in &mut self.servers {
            server.telling_left = TELLING_TIME_MAX;
            server.begin_telling(now);
            server.is_awaited = server.is_owner && !server.is_reachable;
        }
    }

    /// When the last of those that can be reached, or have yet to come, is to have told its flows; `None` when all have.
    pub fn telling_until(&self) -> Option<Instant> {
        let may_own = self.servers.iter().filter(|server| server.may_own() || server.is_awaited);
        may_own.filter_map(|server| server.telling_until).max()
    }

    /// The next deadline of a draining server.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.servers.iter().filter_map(Server::deadline).min()
    }

    /// A draining server whose deadline is past; it is over for that one.
    pub fn past_deadline(&mut self, now: Instant) -> Option<Index> {
        let is_past = |server: &Server| server.deadline().is_some_and(|deadline| deadline <= now);
        let index = self.servers.iter().position(is_past)?;
        self.servers[index].drain = Drain::Over(self.servers[index].deadline()?);
        Some(index as Index)
    }
}

/// The tick of `now` for an entry of this kind.
#[inline]
pub(crate) fn tick(now: Instant, kind: Kind) -> u8 {
    let tick = if kind == Kind::Tcp { TCP_TICK } else { UDP_TICK };
    (now.as_nanos() / tick.as_nanos() as u64) as u8
}

//= spec/cluster.md#owners
//# A claimed flow MUST lose its owner only when the owner gives it up, can no longer be reached, has drained past its deadline, or the flow has been idle: TCP for 2 h 4 min, UDP for 30 s.
#[inline]
fn is_idle(now: Instant, entry: Entry) -> bool {
    let ticks = tick(now, entry.kind).wrapping_sub(entry.tick);
    ticks > if entry.kind == Kind::Tcp { TCP_IDLE_TICKS } else { UDP_IDLE_TICKS }
}

/// Ticks after which a flow is idle: one more than fit, since the first may have been used at its end.
const TCP_IDLE_TICKS: u8 = TCP_IDLE.as_secs().div_ceil(TCP_TICK.as_secs()) as u8;
const UDP_IDLE_TICKS: u8 = UDP_IDLE.as_secs().div_ceil(UDP_TICK.as_secs()) as u8;
