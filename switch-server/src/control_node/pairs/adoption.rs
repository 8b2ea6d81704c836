//! Adoption: direct RVIs that nodes had before they registered here stay as they are, where both ends hold them.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use vlan_core::server::MemberSlot;
use vlan_core::wire::control::{ControlMessage, HeldAssociation, HeldDirect, LegKind, RevokeReason};
use vlan_core::{Channel, Instant, LegNumber, NodeNumber, RviNumber, VifNumber};

use super::{Pair, PairKey, PairLeg, PairRvi, PairState, RVIS_PER_PAIR_MAX, key, order};
use crate::control_node::ControlNode;
use crate::control_node::session::Session;

/// What a node says it has when it registers.
#[derive(Clone, Copy, Debug)]
pub(in crate::control_node) struct Held<'a> {
    /// Its direct RVIs.
    pub direct: &'a [HeldDirect],
    /// The associations that carry them.
    pub associations: &'a [HeldAssociation],
}

impl Held<'_> {
    fn association(&self, peer: NodeNumber) -> Option<&HeldAssociation> {
        self.associations.iter().find(|held| held.peer == peer)
    }

    fn has(&self, peer: NodeNumber, rvi: RviNumber) -> bool {
        self.direct.iter().any(|direct| direct.peer == peer && direct.rvi == rvi)
    }
}

impl ControlNode {
    /// Takes over what a node had before it registered here, where its configuration still allows it; the other
    /// end has to hold the same, or is awaited. `session` is out of its place.
    //= spec/server.md#adoption
    //# A control node MUST leave direct RVIs untouched that both ends hold in the same epoch and the configuration allows
    //# when they register, and revoke the others.
    pub(in crate::control_node) fn adopt(&mut self, now: Instant, session: &mut Session, held: Held<'_>) {
        for direct in held.direct {
            if !self.adopt_rvi(session, direct, held) {
                let (rvi, peer, reason) = (direct.rvi, direct.peer, RevokeReason::Mismatch);
                session.send_control(now, &ControlMessage::Revoke { rvi, peer, reason });
            }
        }
        for key in self.pairs.keys_of(session.node) {
            self.settle_claim(now, session, held, key);
        }
    }

    /// Takes one RVI over; false when it does not fit to what is known.
    fn adopt_rvi(&mut self, session: &Session, direct: &HeldDirect, held: Held<'_>) -> bool {
        let (key, end) = key(session.node, direct.peer);
        let Some((lan, own, other)) = self.slots_of(session.node, direct) else { return false };
        let Some(association) = held.association(direct.peer) else { return false };
        if self.pairs.is_cut(key, None) || direct.rvi.0 == 0 || direct.channel == Channel::CONTROL {
            return false;
        }
        if !self.claim(session, key, end, association) {
            return false;
        }
        let Some(pair) = self.pairs.pairs.get_mut(&key) else { return false };
        let (number, channel) = (direct.rvi, direct.channel);
        let rvi =
            PairRvi { number, lan, channel, slots: order(end, own, other), is_granted: true, is_told: false };
        let is_alike = |known: &&PairRvi| known.number == number || known.channel == channel;
        match pair.rvis.iter().find(is_alike) {
            Some(known) => {
                let of = |rvi: &PairRvi| (rvi.number, rvi.channel, rvi.slots, rvi.lan);
                if of(known) != of(&rvi) {
                    return false;
                }
            }
            None if pair.rvis.len() < RVIS_PER_PAIR_MAX => pair.rvis.push(rvi),
            None => return false,
        }
        self.pairs.last_rvi = self.pairs.last_rvi.max(number.0);
        true
    }

    /// The place of the LAN of a held RVI, and the slots of the node's and of the peer's end on it.
    fn slots_of(&self, node: NodeNumber, direct: &HeldDirect) -> Option<(usize, MemberSlot, MemberSlot)> {
        let lan = self.lan_place(direct.lan)?;
        let slot_of = |node: NodeNumber, vif: VifNumber| {
            let slot = self.lans[lan].routes.iter().position(|r| r.node == node && r.vif == vif)?;
            Some(MemberSlot(slot as u16))
        };
        let slots = (lan, slot_of(node, direct.own_vif)?, slot_of(direct.peer, direct.peer_vif)?);
        (node != direct.peer).then_some(slots)
    }

    /// True when the association that a node holds is the one that is known of its pair, or the first that is heard
    /// of it while the peer has not registered.
    fn claim(&mut self, session: &Session, key: PairKey, end: usize, held: &HeldAssociation) -> bool {
        let processes = order(end, session.process, held.process);
        if let Some(pair) = self.pairs.pairs.get(&key) {
            let is_ending = matches!(pair.state, PairState::Ending { .. });
            return pair.processes == processes && pair.epoch == held.epoch && !is_ending;
        }
        // A peer that is attached has said what it holds, and this was not among it.
        if self.registered_process(held.peer).is_some() || self.pairs.is_crowded(session.node) {
            return false;
        }
        let state = PairState::Adopting { claimed: [false; 2] };
        let (epoch, rvis, legs) = (held.epoch, Vec::new(), held_legs(held).collect());
        self.pairs.pairs.insert(key, Pair { rvis, state, legs, ..Pair::new(processes, epoch) });
        true
    }

    /// Everything that the node holds of a pair is known: the pair goes on, waits for its other end, or is over.
    fn settle_claim(&mut self, now: Instant, session: &mut Session, held: Held<'_>, key: PairKey) {
        let end = usize::from(key.1 == session.node);
        let peer = if end == 0 { key.1 } else { key.0 };
        let cuts = self.pairs.cuts.iter().filter(|cut| cut.0 == key);
        let cuts: Vec<LegNumber> = cuts.filter_map(|cut| cut.1).collect();
        let Some(pair) = self.pairs.pairs.get_mut(&key) else { return };
        let PairState::Adopting { mut claimed } = pair.state else { return };
        let is_held = |rvi: &PairRvi| held.has(peer, rvi.number);
        let fits = |of: &&HeldAssociation| {
            of.process == pair.processes[1 - end] && of.epoch == pair.epoch && pair.rvis.iter().any(is_held)
        };
        let Some(association) = held.association(peer).filter(fits) else {
            self.revoke(now, key, RevokeReason::Mismatch, order(end, true, false));
            return;
        };
        // What only one end holds, both are given again.
        pair.rvis.iter_mut().for_each(|rvi| rvi.is_granted &= is_held(rvi));
        let has: BTreeMap<LegNumber, LegKind> =
            association.legs.iter().map(|leg| (leg.leg, leg.kind)).collect();
        pair.legs.retain(|leg, known| has.get(leg) == Some(&known.kind()) && !cuts.contains(leg));
        claimed[end] = true;
        let is_whole = claimed == [true; 2];
        pair.state = if is_whole { PairState::Granted } else { PairState::Adopting { claimed } };
        self.pairs.stale.insert(key);
        // Legs that the administrator cut before the node registered.
        for leg in cuts {
            session.send_control(now, &ControlMessage::LegCut { peer, leg: leg.0 });
        }
    }
}

fn held_legs(held: &HeldAssociation) -> impl Iterator<Item = (LegNumber, PairLeg)> {
    held.legs.iter().map(|leg| match leg.kind {
        LegKind::Unix => (leg.leg, PairLeg::Unix),
        kind => (leg.leg, PairLeg::Packet(kind, None)),
    })
}
