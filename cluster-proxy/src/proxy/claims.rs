//! What real servers tell: which flows they own.

use core::fmt;

use vlan_core::Instant;
use vlan_core::server::MemberSlot;

use crate::config::{Balance, Protocol, is_host};
use crate::hash::{self, Flow};
use crate::lines::{Entry, Place};
use crate::proxy::ClusterProxy;
use crate::proxy::packets::kind_of;
use crate::servers::{Drain, Index, Worth, tick};

/// What a claim that was accepted did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The flow has an owner now.
    New,
    /// It had the same one.
    Known,
}

/// Why a claim was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The sender is no real server of this service, or cannot be reached.
    NotAServer,
    /// No service of the cluster keeps such flows.
    NoService,
    /// Another server owns the flow.
    Conflict {
        /// That server.
        owner: MemberSlot,
    },
    /// This proxy would not have given the flow to the sender.
    NotChosen,
    /// The sender owns as many flows as it may.
    ShareFull {
        /// How many that is.
        share: u32,
    },
    /// There is no place for the flow.
    TableFull,
    /// The sender has drained past its deadline.
    Drained,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAServer => f.write_str("the sender is no server of this service"),
            Self::NoService => f.write_str("the cluster has no service that keeps such flows"),
            Self::Conflict { owner } => write!(f, "member {} owns the flow", owner.0),
            Self::NotChosen => f.write_str("the flow was not given to the sender"),
            Self::ShareFull { share } => write!(f, "the sender owns {share} flows, which is all that it may"),
            Self::TableFull => f.write_str("there is no place for the flow"),
            Self::Drained => f.write_str("the sender has drained past its deadline"),
        }
    }
}

impl core::error::Error for Refusal {}

impl ClusterProxy {
    /// The server `from` says that it owns a flow.
    ///
    /// # Errors
    /// Why that does not count; the flow then is found by its row.
    pub fn handle_claim(&mut self, now: Instant, from: MemberSlot, flow: &Flow) -> Result<Claimed, Refusal> {
        let outcome = self.claim(now, from, flow);
        if let Some(at) = self.tables.find(flow.service()).filter(|_| outcome.is_err()) {
            self.services[at].counts.of_all.refused += 1;
        }
        match outcome {
            Ok(Claimed::New) => self.counters.claims += 1,
            Ok(Claimed::Known) => {}
            Err(Refusal::Conflict { .. }) => self.counters.conflicts += 1,
            Err(_) => self.counters.refused += 1,
        }
        outcome
    }

    fn claim(&mut self, now: Instant, from: MemberSlot, flow: &Flow) -> Result<Claimed, Refusal> {
        let index = self.servers.find(from).ok_or(Refusal::NotAServer)?;
        let server = self.servers.server(index).copied().ok_or(Refusal::NotAServer)?;
        if !server.is_reachable {
            return Err(Refusal::NotAServer);
        }
        if matches!(server.drain, Drain::Over(_)) {
            return Err(Refusal::Drained);
        }
        let hash = hash::of_flow(&self.tables.key, flow);
        let tick = tick(now, kind_of(flow.protocol));
        let place = match self.flows.find(hash) {
            Some((place, entry)) if self.servers.worth(now, entry) == Worth::Alive => {
                if entry.server != index {
                    return Err(Refusal::Conflict { owner: self.slot(entry.server) });
                }
                self.flows.set(place, hash, Entry { tick, ..entry });
                return Ok(Claimed::Known);
            }
            Some((place, entry)) => Some((place, Some(entry))),
            None => None,
        };
        let former = place.and_then(|(_, former)| former);
        self.check_claim(now, index, (flow, hash), former)?;
        let share = self.share();
        if server.flows >= share {
            return Err(Refusal::ShareFull { share });
        }
        if flow.protocol == Protocol::Udp && server.udp_flows >= share / 2 {
            return Err(Refusal::ShareFull { share: share / 2 });
        }
        let is_free = |entry| self.servers.worth(now, entry) != Worth::Alive;
        let (place, former) = place.or_else(|| self.flows.room(hash, is_free)).ok_or(Refusal::TableFull)?;
        let entry = Entry { kind: kind_of(flow.protocol), server: index, life: server.life, tick };
        self.own(now, hash, place, former, entry);
        Ok(Claimed::New)
    }

    /// A server may own a flow that nobody owns.
    //= spec/cluster.md#claims
    //# A claim MUST be accepted only from a real server of the flow's service, for a flow that has no other owner, and that it owned when it was lost, or that this proxy has given it, would give it now or would have given it before it drained; or while this proxy stands by, or the server tells its flows within 10 s of a takeover.
    fn check_claim(
        &self,
        now: Instant,
        index: Index,
        (flow, hash): (&Flow, u64),
        former: Option<Entry>,
    ) -> Result<(), Refusal> {
        let at = self.tables.find(flow.service()).ok_or(Refusal::NoService)?;
        let is_kept = self.tables.services[at].config.balance != Balance::PerPacket;
        if !is_kept || !self.tables.has_address(flow.address) || !is_host(flow.client) {
            return Err(Refusal::NoService);
        }
        if !self.services[at].servers.iter().any(|serving| serving.server == index) {
            return Err(Refusal::NotAServer);
        }
        let is_right = match self.remembered(now, hash) {
            Some(chosen) => chosen == index,
            None => {
                let was_its = former.is_some_and(|former| self.servers.was_of(index, former));
                was_its || self.believes(now, index) || self.may_have_chosen(at, flow, hash, index)
            }
        };
        if is_right { Ok(()) } else { Err(Refusal::NotChosen) }
    }

    /// The server may have flows that this proxy cannot know of.
    fn believes(&self, now: Instant, index: Index) -> bool {
        let is_new = self.believing_until.is_some_and(|until| now < until);
        let is_telling = self.servers.server(index).is_some_and(|server| server.is_telling(now));
        self.stands_by || is_new && is_telling
    }

    fn own(&mut self, now: Instant, hash: u64, place: Place, former: Option<Entry>, entry: Entry) {
        // What is idle still counts as its owner's, until it is forgotten here.
        if let Some(former) = former.filter(|former| self.servers.worth(now, *former) == Worth::Idle) {
            self.servers.lose_flow(former);
        }
        self.note_entries(now);
        self.flows.set(place, hash, entry);
        self.servers.gain_flow(entry);
        if let Some((place, _)) = self.half_open.find(hash) {
            self.half_open.clear(place);
        }
    }

    /// The server `from` says that a flow has ended; false when it did not own it.
    pub fn handle_gone(&mut self, now: Instant, from: MemberSlot, flow: &Flow) -> bool {
        let hash = hash::of_flow(&self.tables.key, flow);
        let Some((place, entry)) = self.flows.find(hash) else { return false };
        if self.servers.worth(now, entry) == Worth::Orphaned || self.slot(entry.server) != from {
            return false;
        }
        self.flows.clear(place);
        self.servers.lose_flow(entry);
        true
    }

    /// The server `from` has told all its flows.
    pub fn handle_told(&mut self, now: Instant, from: MemberSlot) {
        let index = self.servers.find(from);
        if let Some(server) = index.and_then(|index| self.servers.server_mut(index)) {
            server.end_telling(now);
            self.telling_until = self.servers.telling_until();
        }
    }

    /// The flows that one server may own.
    //= spec/cluster.md#shares
    //# A real server MUST NOT own more than twice its equal share of the table of flows, and half of that of flows of UDP.
    fn share(&self) -> u32 {
        let share = (2 * self.flows_max).div_ceil(self.tables.owners.len().max(1));
        u32::try_from(share).unwrap_or(u32::MAX)
    }
}
