//! Direct RVIs: which pairs of nodes have one, which have been cut, and how each begins and ends. Only a
//! control node makes them (S16, S97); a node can make none.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use vlan_core::server::MemberSlot;
use vlan_core::wire::control::{ControlMessage, Grant, HeldDirect, RevokeReason};
use vlan_core::{Channel, Instant, LegNumber, NodeNumber, ProcessId, RviNumber, VifNumber};

use crate::control_node::session::Session;
use crate::control_node::{ControlNode, ControlNodeEvent, Output};

/// Direct associations of one node at most: each costs it some 5 MiB of rings with two legs (spec/timers.md).
const PAIRS_PER_NODE_MAX: usize = 128;
/// Direct RVIs of one pair at most: the seed supports 14 (S78).
const RVIS_PER_PAIR_MAX: usize = 14;
/// How long both ends have to say that a revoked or lost association is over, or to claim a held one, before
/// the control node goes on without (amendment 5 has the honest end do it within 10 ms).
pub(super) const END_WAIT: Duration = Duration::from_secs(2);

/// A direct RVI of a pair.
#[derive(Clone, Copy, Debug)]
pub(super) struct PairRvi {
    pub number: RviNumber,
    /// Place of the LAN.
    pub lan: usize,
    pub channel: Channel,
    /// Slots of the ends, the lower node's first.
    pub slots: [MemberSlot; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PairState {
    /// Both ends have their grants.
    Granted,
    /// Adopted from ends that had it before this control node started: these ends have claimed it so far.
    Adopting { claimed: [bool; 2], until: Instant },
    /// Ending: these ends have said that it is over.
    Ending { done: [bool; 2], until: Instant },
}

/// The direct association of two nodes.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    /// The ends' processes, the lower node's first.
    pub processes: [ProcessId; 2],
    pub rvis: Vec<PairRvi>,
    pub state: PairState,
    /// The legs on which the ends have been introduced to each other; none of an adopted pair is known, and the
    /// ends may have all of them.
    introduced: Option<BTreeSet<LegNumber>>,
}

type PairKey = (NodeNumber, NodeNumber);

#[derive(Default)]
pub(super) struct Pairs {
    pub pairs: BTreeMap<PairKey, Pair>,
    /// Pairs, and legs of pairs, that stay cut until healed.
    pub cuts: BTreeSet<(PairKey, Option<LegNumber>)>,
    last_rvi: u32,
}

/// The key of a pair, and which end `a` is.
fn key(a: NodeNumber, b: NodeNumber) -> (PairKey, usize) {
    if a < b { ((a, b), 0) } else { ((b, a), 1) }
}

impl Pairs {
    pub fn poll_timeout(&self) -> Option<Instant> {
        let until = self.pairs.values().filter_map(|pair| match pair.state {
            PairState::Adopting { until, .. } | PairState::Ending { until, .. } => Some(until),
            PairState::Granted => None,
        });
        until.min()
    }

    fn next_rvi(&mut self) -> RviNumber {
        self.last_rvi = self.last_rvi.wrapping_add(1).max(1);
        RviNumber(self.last_rvi)
    }

    fn of_node(&self, node: NodeNumber) -> usize {
        self.pairs.keys().filter(|key| key.0 == node || key.1 == node).count()
    }

    fn is_cut(&self, key: PairKey, leg: Option<LegNumber>) -> bool {
        self.cuts.contains(&(key, None)) || leg.is_some() && self.cuts.contains(&(key, leg))
    }
}

impl ControlNode {
    // --- making ---------------------------------------------------------------------------------------------

    /// A pair has traffic worth a direct RVI. `session` is the sender's, out of its place.
    //= spec/server.md#grants
    //# A control node MUST grant a direct RVI only to two attached members of one LAN on different nodes whose pair is
    //# not cut, within its bounds for each node and each pair.
    pub(super) fn consider_direct(
        &mut self,
        now: Instant,
        session: &mut Session,
        lan: usize,
        from: MemberSlot,
        to: MemberSlot,
    ) {
        let peer_node = self.lans[lan].routes[usize::from(to.0)].node;
        let Some(peer) = self.lans[lan].routes[usize::from(to.0)].session else { return };
        let Some(peer_process) = self.sessions[peer].as_ref().map(|peer| peer.process) else { return };
        let (key, end) = key(session.node, peer_node);
        let processes = order(end, session.process, peer_process);
        let slots = order(end, from, to);
        if session.node == peer_node || self.pairs.is_cut(key, None) {
            return;
        }
        let new = match self.pairs.pairs.get(&key) {
            None => true,
            Some(pair) => {
                let same = pair.rvis.iter().any(|rvi| rvi.lan == lan && rvi.slots == slots);
                if pair.processes != processes
                    || pair.state != PairState::Granted
                    || same
                    || pair.rvis.len() >= RVIS_PER_PAIR_MAX
                {
                    return;
                }
                false
            }
        };
        let crowded = |node| self.pairs.of_node(node) >= PAIRS_PER_NODE_MAX;
        if new && (crowded(key.0) || crowded(key.1)) {
            return;
        }
        let number = self.pairs.next_rvi();
        let legs = self.common_legs(session, peer).into_iter();
        let legs: BTreeSet<LegNumber> = legs.filter(|&leg| !self.pairs.is_cut(key, Some(leg))).collect();
        let introduced = Some(legs.clone());
        let fresh = Pair { processes, rvis: Vec::new(), state: PairState::Granted, introduced };
        let pair = self.pairs.pairs.entry(key).or_insert(fresh);
        let Some(channel) = free_channel(pair) else { return };
        let rvi = PairRvi { number, lan, channel, slots };
        pair.rvis.push(rvi);
        self.send_grants(now, session, peer, &rvi, key, processes);
        if new {
            self.outputs.extend(legs.into_iter().map(|leg| introduce(key, processes, leg)));
            self.log(ControlNodeEvent::Granted { a: key.0, b: key.1, rvi: number });
        }
    }

    /// A leg to a node has come up: its direct associations get theirs, which could not be introduced without.
    pub(super) fn introduce_late(&mut self, node: NodeNumber, leg: LegNumber) {
        let mut late = Vec::new();
        for (&key, pair) in &self.pairs.pairs {
            let is_missing = pair.introduced.as_ref().is_some_and(|legs| !legs.contains(&leg));
            let is_ours = key.0 == node || key.1 == node;
            if is_ours
                && is_missing
                && pair.state == PairState::Granted
                && !self.pairs.is_cut(key, Some(leg))
                && self.has_leg(key.0, pair.processes[0], leg)
                && self.has_leg(key.1, pair.processes[1], leg)
            {
                late.push(key);
            }
        }
        for key in late {
            self.introduce_on(key, leg);
        }
    }

    fn introduce_on(&mut self, key: PairKey, leg: LegNumber) {
        let Some(pair) = self.pairs.pairs.get_mut(&key) else { return };
        if let Some(introduced) = &mut pair.introduced {
            introduced.insert(leg);
        }
        self.outputs.push_back(introduce(key, pair.processes, leg));
    }

    fn has_leg(&self, node: NodeNumber, process: ProcessId, leg: LegNumber) -> bool {
        let session = self.session_of(node, process).and_then(|place| self.sessions[place].as_ref());
        session.is_some_and(|session| session.association.legs().any(|status| status.number == leg))
    }

    fn send_grants(
        &mut self,
        now: Instant,
        session: &mut Session,
        peer: usize,
        rvi: &PairRvi,
        key: PairKey,
        processes: [ProcessId; 2],
    ) {
        let member = |end: usize| self.lans[rvi.lan].member_config(rvi.slots[end]).clone();
        let (members, nodes) = ([member(0), member(1)], [key.0, key.1]);
        let lan = self.lans[rvi.lan].server.id();
        for end in 0..2 {
            let grant = ControlMessage::Grant(Grant {
                rvi: rvi.number,
                lan,
                peer: nodes[1 - end],
                peer_process: processes[1 - end],
                channel: rvi.channel,
                own_vif: members[end].vif,
                peer_vif: members[1 - end].vif,
                peer_mac: members[1 - end].mac,
            });
            if session.node == nodes[end] {
                session.send_control(now, &grant);
            } else if let Some(other) = &mut self.sessions[peer] {
                other.send_control(now, &grant);
            }
        }
    }

    /// The legs that both nodes have to this control node: the fabrics they share.
    fn common_legs(&self, session: &Session, peer: usize) -> Vec<LegNumber> {
        let Some(peer) = &self.sessions[peer] else { return Vec::new() };
        let theirs: Vec<LegNumber> = peer.association.legs().map(|leg| leg.number).collect();
        session.association.legs().map(|leg| leg.number).filter(|leg| theirs.contains(leg)).collect()
    }

    // --- ending ---------------------------------------------------------------------------------------------

    fn revoke(&mut self, now: Instant, key: PairKey, reason: RevokeReason, mut taken: Option<&mut Session>) {
        let Some(pair) = self.pairs.pairs.get_mut(&key) else { return };
        if matches!(pair.state, PairState::Ending { .. }) {
            return;
        }
        pair.state = PairState::Ending { done: [false; 2], until: now + END_WAIT };
        let rvi = pair.rvis.first().map_or(RviNumber(0), |rvi| rvi.number);
        for (node, peer) in [(key.0, key.1), (key.1, key.0)] {
            let message = ControlMessage::Revoke { rvi, peer, reason };
            match &mut taken {
                Some(session) if session.node == node => session.send_control(now, &message),
                _ => {
                    self.send_to_node(now, node, &message);
                }
            }
        }
        self.log(ControlNodeEvent::Revoked { a: key.0, b: key.1, reason });
    }

    /// A node has nothing to send on a direct RVI for 60 s (amendment 19).
    pub(super) fn direct_idle(&mut self, now: Instant, session: &mut Session, rvi: RviNumber) {
        let found = self.pairs.pairs.iter().find(|(key, pair)| {
            (key.0 == session.node || key.1 == session.node) && pair.rvis.iter().any(|r| r.number == rvi)
        });
        if let Some((&key, _)) = found {
            self.revoke(now, key, RevokeReason::Idle, Some(session));
        }
    }

    /// A node says that its direct association with a process of `peer` is over. When both ends have, the pair
    /// may have another; an end that still believes in it is told.
    pub(super) fn direct_lost(
        &mut self,
        now: Instant,
        (node, process): (NodeNumber, ProcessId),
        (peer, peer_process): (NodeNumber, ProcessId),
    ) {
        let (key, end) = key(node, peer);
        let Some(pair) = self.pairs.pairs.get_mut(&key) else { return };
        if pair.processes != order(end, process, peer_process) {
            return;
        }
        let (mut done, until, told) = match pair.state {
            PairState::Ending { done, until } => (done, until, true),
            _ => ([false; 2], now + END_WAIT, false),
        };
        done[end] = true;
        let rvi = pair.rvis.first().map_or(RviNumber(0), |rvi| rvi.number);
        pair.state = PairState::Ending { done, until };
        if done == [true; 2] {
            self.pairs.pairs.remove(&key);
        } else if !told {
            let reason = RevokeReason::Mismatch;
            self.send_to_node(now, peer, &ControlMessage::Revoke { rvi, peer: node, reason });
        }
    }

    /// A process has ended, or its session has: nothing is known of its direct RVIs until it says so again.
    pub(super) fn pairs_of_ended(&mut self, node: NodeNumber, process: ProcessId) {
        self.pairs.pairs.retain(|key, pair| {
            !(key.0 == node && pair.processes[0] == process || key.1 == node && pair.processes[1] == process)
        });
    }

    pub(super) fn pair_timeouts(&mut self, now: Instant) {
        let overdue = |pair: &Pair| match pair.state {
            PairState::Adopting { until, .. } | PairState::Ending { until, .. } => until <= now,
            PairState::Granted => false,
        };
        let keys: Vec<PairKey> =
            self.pairs.pairs.iter().filter(|(_, pair)| overdue(pair)).map(|(&key, _)| key).collect();
        for key in keys {
            match self.pairs.pairs.get(&key).map(|pair| pair.state) {
                // One end claims what the other does not have.
                Some(PairState::Adopting { .. }) => self.revoke(now, key, RevokeReason::Mismatch, None),
                _ => {
                    self.pairs.pairs.remove(&key);
                }
            }
        }
    }

    // --- after a restart of this control node ---------------------------------------------------------------

    /// Takes over the direct RVIs that a node had before it registered here, where its configuration still
    /// allows them; the other end has to claim the same.
    //= spec/server.md#adoption
    //# A control node MUST leave direct RVIs untouched that both ends hold and the configuration allows when they
    //# register, and revoke the others.
    pub(super) fn adopt(&mut self, now: Instant, session: &mut Session, held: &[HeldDirect]) {
        for direct in held {
            let (key, end) = key(session.node, direct.peer);
            if !self.adopt_one(now, session, direct, key, end) {
                let message = ControlMessage::Revoke {
                    rvi: direct.rvi,
                    peer: direct.peer,
                    reason: RevokeReason::Mismatch,
                };
                session.send_control(now, &message);
            }
        }
    }

    fn adopt_one(
        &mut self,
        now: Instant,
        session: &mut Session,
        direct: &HeldDirect,
        key: PairKey,
        end: usize,
    ) -> bool {
        let Some(lan) = self.lans.iter().position(|lan| lan.server.id() == direct.lan) else { return false };
        let slot_of = |node: NodeNumber, vif: VifNumber| {
            let route = self.lans[lan].routes.iter().position(|r| r.node == node && r.vif == vif);
            route.map(|slot| MemberSlot(slot as u16))
        };
        let own = slot_of(session.node, direct.own_vif);
        let other = slot_of(direct.peer, direct.peer_vif);
        let (Some(own), Some(other)) = (own, other) else { return false };
        if self.pairs.is_cut(key, None) || direct.rvi.0 == 0 || direct.channel == Channel::CONTROL {
            return false;
        }
        self.pairs.last_rvi = self.pairs.last_rvi.max(direct.rvi.0);
        let rvi = PairRvi { number: direct.rvi, lan, channel: direct.channel, slots: order(end, own, other) };
        // The peer's process is what it registers with; until then only this end is known.
        let peer_process =
            self.registered(direct.peer).and_then(|p| self.sessions[p].as_ref()).map(|s| s.process);
        let fresh = Pair {
            processes: order(end, session.process, peer_process.unwrap_or_default()),
            rvis: Vec::new(),
            state: PairState::Adopting { claimed: [false; 2], until: now + END_WAIT },
            introduced: None,
        };
        let pair = self.pairs.pairs.entry(key).or_insert(fresh);
        pair.processes[end] = session.process;
        let conflicting = |known: &&PairRvi| known.number == rvi.number || known.channel == rvi.channel;
        match pair.rvis.iter().find(conflicting) {
            Some(known) => {
                if (known.number, known.channel, known.slots, known.lan)
                    != (rvi.number, rvi.channel, rvi.slots, rvi.lan)
                {
                    return false;
                }
            }
            None if pair.rvis.len() < RVIS_PER_PAIR_MAX => pair.rvis.push(rvi),
            None => return false,
        }
        if let PairState::Adopting { claimed, until } = &mut pair.state {
            claimed[end] = true;
            *until = now + END_WAIT;
            if *claimed == [true; 2] {
                pair.state = PairState::Granted;
            }
        }
        self.cut_adopted_legs(now, session, direct.peer, key);
        true
    }

    /// Legs of an adopted pair that the administrator cut before its ends registered.
    fn cut_adopted_legs(&mut self, now: Instant, session: &mut Session, peer: NodeNumber, key: PairKey) {
        let legs: Vec<LegNumber> =
            self.pairs.cuts.iter().filter(|cut| cut.0 == key).filter_map(|cut| cut.1).collect();
        for leg in legs {
            session.send_control(now, &ControlMessage::LegCut { peer, leg: leg.0 });
        }
    }

    // --- drills ---------------------------------------------------------------------------------------------

    pub(super) fn cut(&mut self, now: Instant, a: NodeNumber, b: NodeNumber, leg: Option<LegNumber>) {
        let (key, _) = key(a, b);
        self.pairs.cuts.insert((key, leg));
        match leg {
            None => self.revoke(now, key, RevokeReason::Cut, None),
            Some(leg) if self.pairs.pairs.contains_key(&key) => {
                self.send_to_node(now, key.0, &ControlMessage::LegCut { peer: key.1, leg: leg.0 });
                self.send_to_node(now, key.1, &ControlMessage::LegCut { peer: key.0, leg: leg.0 });
            }
            Some(_) => {}
        }
    }

    pub(super) fn heal(&mut self, _now: Instant, a: NodeNumber, b: NodeNumber, leg: Option<LegNumber>) {
        let (key, _) = key(a, b);
        let cut = |of: &(PairKey, Option<LegNumber>)| of.0 == key && (leg.is_none() || of.1 == leg);
        let healed: Vec<_> = self.pairs.cuts.iter().filter(|of| cut(of)).copied().collect();
        for of in healed {
            self.pairs.cuts.remove(&of);
            // A whole association comes back with traffic; a leg is introduced again at once.
            if let (Some(leg), Some(pair)) = (of.1, self.pairs.pairs.get(&key))
                && pair.state == PairState::Granted
            {
                self.introduce_on(key, leg);
            }
        }
    }
}

fn introduce(key: PairKey, processes: [ProcessId; 2], leg: LegNumber) -> Output {
    Output::Introduce { a: (key.0, processes[0]), b: (key.1, processes[1]), leg }
}

/// Puts the things of two ends in the order of their nodes: `own` belongs to end `end`.
fn order<T>(end: usize, own: T, other: T) -> [T; 2] {
    if end == 0 { [own, other] } else { [other, own] }
}

/// The lowest channel that the pair does not use.
fn free_channel(pair: &Pair) -> Option<Channel> {
    (1..=255).map(Channel).find(|channel| pair.rvis.iter().all(|rvi| rvi.channel != *channel))
}
