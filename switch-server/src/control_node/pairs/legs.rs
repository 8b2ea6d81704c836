//! The legs of a pair: which kind each fabric gives it, and giving the ends what they lack.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use rvi::packet::session;
use vlan_core::wire::control::{ControlMessage, Grant, GrantedAssociation, GrantedLeg, LegAddress, LegKind};
use vlan_core::{Instant, LegNumber, NodeNumber, ProcessId, PublicKey, SecretKey};

use super::{PairKey, PairLeg, PairRvi, PairState, key, order};
use crate::control_node::session::Session;
use crate::control_node::{ControlNode, ControlNodeEvent, NodeEntry, Output};

type Legs = BTreeMap<LegNumber, PairLeg>;

/// Between two introductions of a pair because a leg is missing.
const INTRODUCTION_PAUSE: Duration = Duration::from_secs(1);

impl ControlNode {
    /// A leg of a node has come up, or it has said where its packet legs end: its pairs may gain legs.
    pub(in crate::control_node) fn legs_changed(&mut self, node: NodeNumber) {
        self.pairs.stale.extend(self.pairs.keys_of(node));
    }

    /// An end of a pair lacks a leg of shared memory for which both were introduced.
    //= spec/server.md#missing-legs
    //# When an end of a direct association says that a leg of shared memory is missing, a control node MUST introduce both ends
    //# again, once a second at most.
    pub(in crate::control_node) fn handle_missing_leg(
        &mut self,
        now: Instant,
        (node, process): (NodeNumber, ProcessId),
        (peer, peer_process): (NodeNumber, ProcessId),
        leg: LegNumber,
    ) {
        let (key, end) = key(node, peer);
        let Some(pair) = self.pairs.pairs.get_mut(&key) else { return };
        let is_ours = pair.state == PairState::Granted && pair.processes == order(end, process, peer_process);
        let is_early = pair.introduced_at.is_some_and(|at| now.since(at) < INTRODUCTION_PAUSE);
        if !is_ours || is_early || pair.legs.get(&leg) != Some(&PairLeg::Unix) {
            return;
        }
        pair.legs.remove(&leg);
        self.pairs.stale.insert(key);
        self.log(ControlNodeEvent::LegMissing { node, peer, leg });
    }

    /// Gives the ends of a pair the grants and the legs that they lack.
    pub(super) fn complete_pair(&mut self, now: Instant, key: PairKey) {
        let Some(pair) = self.pairs.pairs.get(&key).filter(|pair| pair.state == PairState::Granted) else {
            return;
        };
        let (processes, epoch, before) = (pair.processes, pair.epoch, &pair.legs);
        let Some(legs) = self.wanted_legs(key, processes, before) else { return };
        let gained = |leg: &LegNumber| legs[leg] == PairLeg::Unix && before.get(leg) != Some(&PairLeg::Unix);
        let [a, b] = [(key.0, processes[0]), (key.1, processes[1])];
        //= spec/rvi.md#epochs-of-a-pair
        //# A leg between two nodes MUST carry the epoch of the association that it was made for, and an end MUST take a leg or
        //# a grant only into the association of that epoch: it ends one of another epoch first.
        let introduce = |&leg: &LegNumber| Output::Introduce { a, b, epoch, leg };
        let introduced: Vec<LegNumber> = legs.keys().copied().filter(gained).collect();
        let is_new = pair.rvis.iter().all(|rvi| !rvi.is_granted);
        let mut due: Vec<PairRvi> = pair.rvis.iter().filter(|rvi| !rvi.is_granted).copied().collect();
        if due.is_empty() && packets(before).ne(packets(&legs)) {
            // One that the ends have already tells them of the legs as well.
            due.extend(pair.rvis.first());
        }
        let untold: Vec<PairRvi> = pair.rvis.iter().filter(|rvi| !rvi.is_told).copied().collect();
        if let Some(pair) = self.pairs.pairs.get_mut(&key) {
            pair.legs = legs;
            if !introduced.is_empty() {
                pair.introduced_at = Some(now);
            }
            pair.rvis.iter_mut().for_each(|rvi| (rvi.is_granted, rvi.is_told) = (true, true));
        }
        for rvi in &untold {
            self.tell_senders(now, rvi);
        }
        for rvi in &due {
            self.send_grants(now, key, rvi);
        }
        if let (true, Some(rvi)) = (is_new, due.first()) {
            self.log(ControlNodeEvent::Granted { a: key.0, b: key.1, rvi: rvi.number });
        }
        //= spec/server.md#introduced-legs
        //# A control node that introduces both ends of a pair for a leg MUST tell them so.
        for leg in &introduced {
            self.send_to_node(now, key.0, &ControlMessage::LegIntroduced { peer: key.1, leg: leg.0 });
            self.send_to_node(now, key.1, &ControlMessage::LegIntroduced { peer: key.0, leg: leg.0 });
        }
        self.outputs.extend(introduced.iter().map(introduce));
    }

    /// The legs that a pair is to have; none when an end is not there.
    //= spec/server.md#legs-of-a-pair
    //# On each fabric a control node MUST give a pair that is not cut there one leg: of shared memory when both nodes
    //# list it, share a host and are attached by it there; else of the first kind in the list of the node with the lower
    //# number that both list and have said an address of; else none.
    fn wanted_legs(&self, key: PairKey, processes: [ProcessId; 2], before: &Legs) -> Option<Legs> {
        let sessions = [self.session(key.0, processes[0])?, self.session(key.1, processes[1])?];
        let entries = [self.entry_of_node(key.0)?, self.entry_of_node(key.1)?];
        let fabrics = (0..self.config.fabrics.len()).map(|fabric| LegNumber(fabric as u8));
        let open = fabrics.filter(|&leg| !self.pairs.is_cut(key, Some(leg)));
        let wanted = open.filter_map(|leg| {
            // Introduced once: the ends know better than this control node whether they still have it.
            let kept = before.get(&leg).copied().filter(|known| *known == PairLeg::Unix);
            Some((leg, kept.or_else(|| leg_between(leg, sessions, entries))?))
        });
        Some(wanted.collect())
    }

    fn session(&self, node: NodeNumber, process: ProcessId) -> Option<&Session> {
        let session = self.session_of(node, process).and_then(|place| self.sessions[place].as_deref());
        session.filter(|session| session.is_registered())
    }

    fn public_key(&self, node: NodeNumber) -> PublicKey {
        self.entry_of_node(node).map_or_else(PublicKey::default, |entry| entry.public_key)
    }

    /// Sends both ends their grant of one RVI, with everything about their association.
    fn send_grants(&mut self, now: Instant, key: PairKey, rvi: &PairRvi) {
        let Some(pair) = self.pairs.pairs.get(&key) else { return };
        let (processes, epoch) = (pair.processes, pair.epoch);
        let nodes = [key.0, key.1];
        let keys = nodes.map(|node| self.public_key(node));
        let secret = session::PairKey::derive(self.config.grant_key.octets(), &keys[0], &keys[1], epoch.0);
        let secret = SecretKey::filled(|octets| octets.copy_from_slice(secret.octets()));
        let lan = self.lans[rvi.lan].server.id();
        let member = |end: usize| self.lans[rvi.lan].member_config(rvi.slots[end]);
        let grant = |own: usize, peer: usize| Grant {
            rvi: rvi.number,
            lan,
            peer: nodes[peer],
            peer_process: processes[peer],
            channel: rvi.channel,
            own_vif: member(own).vif,
            peer_vif: member(peer).vif,
            peer_mac: member(peer).mac,
            association: GrantedAssociation {
                epoch,
                pair_key: secret.clone(),
                peer_key: keys[peer],
                legs: self.granted_legs(&pair.legs, peer),
            },
        };
        let grants = [grant(0, 1), grant(1, 0)].map(ControlMessage::Grant);
        for (node, grant) in nodes.into_iter().zip(&grants) {
            self.send_to_node(now, node, grant);
        }
    }

    /// The packet legs of a pair as one end is told of them, whose peer is the end `peer`.
    fn granted_legs(&self, legs: &Legs, peer: usize) -> Vec<GrantedLeg> {
        let granted = legs.iter().filter_map(|(&leg, kind)| {
            let PairLeg::Packet(_, Some(addresses)) = kind else { return None };
            let fabric = self.config.fabrics.get(usize::from(leg.0))?;
            let (is_trusted, fabric_key) = (fabric.is_trusted, fabric.key);
            Some(GrantedLeg { leg, address: addresses[peer], is_trusted, fabric_key })
        });
        granted.collect()
    }
}

/// The leg that one fabric gives to a pair, the lower node's things first.
fn leg_between(leg: LegNumber, sessions: [&Session; 2], entries: [&NodeEntry; 2]) -> Option<PairLeg> {
    let [own, other] = entries.map(|entry| entry.legs.get(usize::from(leg.0)).map_or(&[][..], Vec::as_slice));
    let lists_unix = own.contains(&LegKind::Unix) && other.contains(&LegKind::Unix);
    let is_one_host = entries[0].host == entries[1].host;
    if lists_unix && is_one_host && sessions.iter().all(|session| session.has_unix_leg(leg)) {
        return Some(PairLeg::Unix);
    }
    let mut common = own.iter().filter(|kind| **kind != LegKind::Unix && other.contains(kind));
    common.find_map(|&kind| {
        let addresses = [sessions[0].offered_address(leg, kind)?, sessions[1].offered_address(leg, kind)?];
        Some(PairLeg::Packet(kind, Some(addresses)))
    })
}

/// The packet legs among the legs of a pair.
fn packets(legs: &Legs) -> impl Iterator<Item = (LegNumber, Option<[LegAddress; 2]>)> {
    legs.iter().filter_map(|(&leg, kind)| match kind {
        PairLeg::Unix => None,
        PairLeg::Packet(_, addresses) => Some((leg, *addresses)),
    })
}
