//! Direct RVIs: which pairs of nodes have one, which have been cut, and how each begins. Only a control node makes
//! them (S16, S97); a node can make none.
//!
//! What is said to the nodes of a pair waits until every session is in its place ([`ControlNode::settle_pairs`]):
//! most of it becomes due while a message of one of them is being handled.

mod adoption;
mod drills;
mod ending;
mod legs;
mod relay_legs;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use vlan_core::server::MemberSlot;
use vlan_core::wire::control::{ControlMessage, LegAddress, LegKind};
use vlan_core::{Channel, Instant, LegNumber, NodeNumber, PairEpoch, ProcessId, RviNumber};

use crate::control_node::ControlNode;
use crate::control_node::session::Session;

pub(super) use adoption::Held;
#[cfg(test)]
pub(super) use ending::END_WAIT;
pub use relay_legs::RelayCounters;

/// Direct associations of one node at most: each costs it some 5 MiB of rings with two legs (spec/timers.md).
const PAIRS_PER_NODE_MAX: usize = 128;
/// Direct RVIs of one pair at most: the seed supports 14 (S78).
const RVIS_PER_PAIR_MAX: usize = 14;

/// A direct RVI of a pair.
#[derive(Clone, Copy, Debug)]
pub(super) struct PairRvi {
    pub number: RviNumber,
    /// Place of the LAN.
    pub lan: usize,
    pub channel: Channel,
    /// Slots of the ends, the lower node's first.
    pub slots: [MemberSlot; 2],
    /// Both ends have it.
    is_granted: bool,
    /// Both ends have been told what the other one may send now.
    is_told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PairState {
    /// Both ends are attached and have their grants.
    Granted,
    /// Held by these ends, as far as they are attached: the others have lost this control node, or have not
    /// registered since it started, and have to claim it when they come.
    Adopting { claimed: [bool; 2] },
    /// Ending: these ends have said that it is over.
    Ending { done: [bool; 2], until: Instant },
}

/// A leg of a pair, as this control node gave it to the ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PairLeg {
    /// Shared memory: the ends have been introduced.
    Unix,
    /// Packets between these addresses, the lower node's first; none when the ends hold the leg from an earlier
    /// control node and may have other addresses than they offer now.
    Packet(LegKind, Option<[LegAddress; 2]>),
}

impl PairLeg {
    pub const fn kind(self) -> LegKind {
        match self {
            Self::Unix => LegKind::Unix,
            Self::Packet(kind, _) => kind,
        }
    }
}

/// The direct association of two nodes.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    /// The ends' processes, the lower node's first.
    pub processes: [ProcessId; 2],
    pub epoch: PairEpoch,
    pub rvis: Vec<PairRvi>,
    pub state: PairState,
    pub legs: BTreeMap<LegNumber, PairLeg>,
    /// When its ends were introduced last.
    introduced_at: Option<Instant>,
}

impl Pair {
    /// One without RVIs and legs.
    fn new(processes: [ProcessId; 2], epoch: PairEpoch) -> Self {
        let (rvis, legs) = (Vec::new(), BTreeMap::new());
        Self { processes, epoch, rvis, state: PairState::Granted, legs, introduced_at: None }
    }

    /// The lowest channel that it does not use.
    fn free_channel(&self) -> Option<Channel> {
        (1..=255).map(Channel).find(|channel| self.rvis.iter().all(|rvi| rvi.channel != *channel))
    }

    /// An RVI by which it can be named to its ends.
    fn first_rvi(&self) -> RviNumber {
        self.rvis.first().map_or(RviNumber(0), |rvi| rvi.number)
    }
}

pub(super) type PairKey = (NodeNumber, NodeNumber);

pub(super) struct Pairs {
    pub pairs: BTreeMap<PairKey, Pair>,
    /// Pairs, and legs of pairs, that stay cut until healed.
    pub cuts: BTreeSet<(PairKey, Option<LegNumber>)>,
    /// Pairs whose ends may lack something.
    stale: BTreeSet<PairKey>,
    /// What nodes are to be told of the ends of their pairs.
    notices: Vec<(NodeNumber, ControlMessage)>,
    last_rvi: u32,
    last_epoch: u32,
}

/// The key of a pair, and which end `a` is.
fn key(a: NodeNumber, b: NodeNumber) -> (PairKey, usize) {
    if a < b { ((a, b), 0) } else { ((b, a), 1) }
}

/// Puts the things of two ends in the order of their nodes: `own` belongs to end `end`.
fn order<T>(end: usize, own: T, other: T) -> [T; 2] {
    if end == 0 { [own, other] } else { [other, own] }
}

impl Pairs {
    /// None yet. Epochs begin at random, so that another life of this control node does not repeat them.
    pub fn new(first_epoch: u32) -> Self {
        Self {
            pairs: BTreeMap::new(),
            cuts: BTreeSet::new(),
            stale: BTreeSet::new(),
            notices: Vec::new(),
            last_rvi: 0,
            last_epoch: first_epoch,
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let until = self.pairs.values().filter_map(|pair| match pair.state {
            PairState::Ending { until, .. } => Some(until),
            PairState::Granted | PairState::Adopting { .. } => None,
        });
        until.min()
    }

    fn next_rvi(&mut self) -> RviNumber {
        self.last_rvi = self.last_rvi.wrapping_add(1).max(1);
        RviNumber(self.last_rvi)
    }

    fn next_epoch(&mut self) -> PairEpoch {
        self.last_epoch = self.last_epoch.wrapping_add(1).max(1);
        PairEpoch(self.last_epoch)
    }

    /// What these members of a LAN may send has changed: their peers are to be told.
    pub fn senders_changed(&mut self, lan: usize, members: &[MemberSlot]) {
        for (&key, pair) in &mut self.pairs {
            for rvi in &mut pair.rvis {
                if rvi.lan == lan && rvi.slots.iter().any(|slot| members.contains(slot)) {
                    rvi.is_told = false;
                    self.stale.insert(key);
                }
            }
        }
    }

    pub fn keys_of(&self, node: NodeNumber) -> Vec<PairKey> {
        self.pairs.keys().filter(|key| key.0 == node || key.1 == node).copied().collect()
    }

    /// The pairs that have an RVI of this member, one that is ending too.
    pub fn keys_with(&self, lan: usize, slot: MemberSlot) -> Vec<PairKey> {
        let has = |pair: &Pair| pair.rvis.iter().any(|rvi| rvi.lan == lan && rvi.slots.contains(&slot));
        self.pairs.iter().filter(|(_, pair)| has(pair)).map(|(key, _)| *key).collect()
    }

    /// True while a pair has an RVI on the LAN.
    pub fn know_lan(&self, lan: usize) -> bool {
        self.pairs.values().any(|pair| pair.rvis.iter().any(|rvi| rvi.lan == lan))
    }

    fn is_crowded(&self, node: NodeNumber) -> bool {
        self.pairs.keys().filter(|key| key.0 == node || key.1 == node).count() >= PAIRS_PER_NODE_MAX
    }

    fn is_cut(&self, key: PairKey, leg: Option<LegNumber>) -> bool {
        self.cuts.contains(&(key, None)) || leg.is_some() && self.cuts.contains(&(key, leg))
    }
}

impl ControlNode {
    /// A pair has traffic worth a direct RVI. `session` is the sender's, out of its place.
    //= spec/server.md#grants
    //# A control node MUST grant a direct RVI only to two attached members of one LAN on different nodes whose pair is
    //# not cut, within its bounds for each node and each pair.
    pub(super) fn consider_direct(
        &mut self,
        session: &Session,
        lan: usize,
        from: MemberSlot,
        to: MemberSlot,
    ) {
        let route = &self.lans[lan].routes[usize::from(to.0)];
        let peer_node = route.node;
        let Some(peer) = route.session.and_then(|place| self.sessions[place].as_ref()) else { return };
        let (key, end) = key(session.node, peer_node);
        let processes = order(end, session.process, peer.process);
        let slots = order(end, from, to);
        if session.node == peer_node || self.pairs.is_cut(key, None) {
            return;
        }
        if !self.pairs.pairs.contains_key(&key) {
            if self.pairs.is_crowded(key.0) || self.pairs.is_crowded(key.1) {
                return;
            }
            let epoch = self.pairs.next_epoch();
            self.pairs.pairs.insert(key, Pair::new(processes, epoch));
        }
        let Some(pair) = self.pairs.pairs.get(&key) else { return };
        let is_known = pair.rvis.iter().any(|rvi| rvi.lan == lan && rvi.slots == slots);
        let is_full = pair.rvis.len() >= RVIS_PER_PAIR_MAX;
        if pair.processes != processes || pair.state != PairState::Granted || is_known || is_full {
            return;
        }
        let Some(channel) = pair.free_channel() else { return };
        let number = self.pairs.next_rvi();
        if let Some(pair) = self.pairs.pairs.get_mut(&key) {
            let (is_granted, is_told) = (false, false);
            pair.rvis.push(PairRvi { number, lan, channel, slots, is_granted, is_told });
        }
        self.pairs.stale.insert(key);
    }

    /// Tells the ends of pairs what they have not been told yet. Every session is in its place.
    pub(super) fn settle_pairs(&mut self, now: Instant) {
        for (node, notice) in core::mem::take(&mut self.pairs.notices) {
            self.send_to_node(now, node, &notice);
        }
        while let Some(key) = self.pairs.stale.pop_first() {
            self.complete_pair(now, key);
        }
    }
}
