//! LANs and members that come and go while frames flow.
//!
//! A place of a LAN and a slot of a member are taken again by a later one, but only when nothing is left that knows the former one
//! by it.

use alloc::string::String;
use alloc::vec::Vec;

use arp_server::Owner;
use rvi::LegEnd;
use vlan_core::limits::ADDRESSES_PER_VIF_MAX;
use vlan_core::server::MemberSlot;
use vlan_core::wire::control::{ControlMessage, HeldInterface, RevokeReason};
use vlan_core::{Channel, Instant, LanId, MacAddress, NodeNumber, VifNumber};

use super::registration::channels;
use super::session::{ChannelUse, Session, Stage};
use super::{ControlNode, Lan, LanConfig, MemberConfig, Route};

/// A member that a LAN is to have from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedMember {
    /// Its LAN.
    pub lan: LanId,
    /// What it is to be; its interface number and its MAC are no former member's.
    pub config: MemberConfig,
    /// It gets every group.
    pub gets_every_group: bool,
}

/// No LAN has this number, and no node this one: what has been removed.
const NO_LAN: LanId = LanId(0);
const NO_NODE: NodeNumber = NodeNumber(0);

impl ControlNode {
    pub(super) fn remove_lan(&mut self, now: Instant, id: LanId) {
        let Some(lan) = self.lan_place(id) else { return };
        for slot in 0..self.lans[lan].routes.len() {
            self.remove_slot(now, lan, MemberSlot(slot as u16));
        }
        let entry = &mut self.lans[lan];
        entry.arena.end(now, &self.arena_policy);
        entry.clusters.clear();
        entry.name_clusters();
        (entry.config.id, entry.config.name) = (NO_LAN, String::new());
        entry.config.uplink = None;
        self.lan_changed(now, lan);
    }

    pub(super) fn add_lan(&mut self, now: Instant, config: &LanConfig) {
        if self.lan_place(config.id).is_some() {
            return;
        }
        let lan = Lan::new(now, config, self.random.next_u64());
        let vacant = (0..self.lans.len()).find(|&place| self.is_lan_free(place));
        let place = vacant.unwrap_or(self.lans.len());
        match vacant {
            Some(place) => self.lans[place] = lan,
            None => self.lans.push(lan),
        }
        self.begin_clusters(now, place);
        self.lan_changed(now, place);
        for slot in 0..config.members.len() {
            self.serve_member(now, place, MemberSlot(slot as u16));
        }
    }

    pub(super) fn remove_member(&mut self, now: Instant, id: LanId, node: NodeNumber) {
        let Some(lan) = self.lan_place(id) else { return };
        if let Some(slot) = self.lans[lan].slot_of_node(node) {
            self.remove_slot(now, lan, slot);
            self.tell_group_policies(now, lan);
        }
    }

    pub(super) fn add_member(&mut self, now: Instant, added: AddedMember) {
        let Some(lan) = self.lan_place(added.lan) else { return };
        if self.lans[lan].slot_of_node(added.config.node).is_some() {
            return;
        }
        let slots = (0..self.lans[lan].routes.len() as u16).map(MemberSlot);
        let vacant = slots.into_iter().find(|&slot| self.is_slot_free(lan, slot));
        let entry = &mut self.lans[lan];
        let slot = vacant.unwrap_or(MemberSlot(entry.routes.len() as u16));
        entry.take_in(slot, added.config, added.gets_every_group);
        // A new place is one more for everybody who has a table of them.
        entry.arena.end(now, &self.arena_policy);
        // Named before its first frame can come, as to a node that is accepted.
        self.notify_members(now, lan, slot, false);
        self.serve_member(now, lan, slot);
        self.tell_group_policies(now, lan);
    }

    /// Where queries come from may be an address of a member now.
    pub(super) fn tell_group_policies(&mut self, now: Instant, lan: usize) {
        for slot in self.lans[lan].slots() {
            let policy = self.group_policy(lan, slot);
            self.send_to_node(now, self.lans[lan].member_config(slot).node, &policy);
        }
    }

    /// Attaches a new member whose node is there already.
    fn serve_member(&mut self, now: Instant, lan: usize, slot: MemberSlot) {
        let node = self.lans[lan].member_config(slot).node;
        // Also beside a registered process, which may be dead: the refused one has begun since.
        self.ask_refused_again(now, node);
        if let Some(place) = self.registered(node)
            && let Some(mut session) = self.sessions[place].take()
        {
            self.attach(now, &mut session, lan, slot);
            self.sessions[place] = Some(session);
        }
    }

    /// A process that was refused because its node was a member of no LAN may ask again: its session is over.
    fn ask_refused_again(&mut self, now: Instant, node: NodeNumber) {
        let is_refused = |s: &Session| s.node == node && s.stage == Stage::Ended && s.was_refused;
        while let Some(place) =
            self.sessions.iter().position(|session| session.as_deref().is_some_and(is_refused))
        {
            self.session_over(now, place, LegEnd::Closed);
        }
    }

    /// Everything of a member ends: what its node has of it, what its peers have, and what is known of it here.
    //= spec/control-node.md#removed-members
    //# When a member is removed, a control node MUST tell its node to take the interface away, tell the others that it has
    //# gone, revoke its direct RVIs, drop its bindings, and count every later frame for it as dropped.
    fn remove_slot(&mut self, now: Instant, lan: usize, slot: MemberSlot) {
        let Route { session, node, vif, .. } = self.lans[lan].routes[usize::from(slot.0)];
        if node == NO_NODE {
            return;
        }
        for key in self.pairs.keys_with(lan, slot) {
            self.revoke(now, key, RevokeReason::Membership, [false; 2]);
        }
        if let Some(session) = session.and_then(|place| self.sessions[place].as_mut()) {
            session.close(lan, slot, channels(vif));
            session.send_control(now, &ControlMessage::InterfaceRemoved { vif });
        }
        self.lans[lan].server.detach(slot);
        self.notify_members(now, lan, slot, false);
        let entry = &mut self.lans[lan];
        entry.arena.end(now, &self.arena_policy);
        entry.arp.forget(Owner(slot.0));
        entry.drop_out(slot);
        self.server_changed(now, lan, node);
    }

    /// Tells a node that registers what it has no more.
    //= spec/control-node.md#interfaces-of-former-memberships
    //# A control node MUST tell a node that registers to take away each interface that it has and the configuration does not
    //# name with the same number, MAC and LAN, before it names any.
    pub(super) fn take_former_away(&self, now: Instant, session: &mut Session, held: &[HeldInterface]) {
        let is_member = |held: &HeldInterface| {
            let lan = self.lan_place(held.lan).map(|lan| &self.lans[lan]);
            let slot = lan.and_then(|lan| Some((lan, lan.slot_of_node(session.node)?)));
            let config = slot.map(|(lan, slot)| lan.member_config(slot));
            config.is_some_and(|config| (config.vif, config.mac) == (held.vif, held.mac))
        };
        let former: Vec<VifNumber> =
            held.iter().filter(|held| !is_member(held)).map(|held| held.vif).collect();
        for vif in former {
            session.send_control(now, &ControlMessage::InterfaceRemoved { vif });
        }
    }

    pub(super) fn lan_place(&self, id: LanId) -> Option<usize> {
        self.lans.iter().position(|lan| lan.config.id == id && id != NO_LAN)
    }

    /// True for the place of a removed LAN that no pair of nodes has an RVI on any more.
    fn is_lan_free(&self, place: usize) -> bool {
        self.lans[place].is_vacant() && !self.pairs.know_lan(place)
    }

    fn is_slot_free(&self, lan: usize, slot: MemberSlot) -> bool {
        self.lans[lan].routes[usize::from(slot.0)].node == NO_NODE
            && self.pairs.keys_with(lan, slot).is_empty()
    }
}

impl Lan {
    /// True for the place of a LAN that has been removed.
    pub(super) fn is_vacant(&self) -> bool {
        self.config.id == NO_LAN
    }

    pub(super) fn slot_of_node(&self, node: NodeNumber) -> Option<MemberSlot> {
        let place = self.routes.iter().position(|route| route.node == node && node != NO_NODE)?;
        Some(MemberSlot(place as u16))
    }

    /// The member at `slot` is none any more.
    fn drop_out(&mut self, slot: MemberSlot) {
        let place = usize::from(slot.0);
        self.server.remove_member(slot);
        self.config.multicast.every_group.retain(|of| *of != slot);
        self.config.members[place] = MemberConfig::vacant();
        self.routes[place] = Route::to(&self.config.members[place]);
        self.refused_listeners[place] = 0;
        self.has_said_listening[place] = false;
    }

    /// Takes a member in at a slot that is vacant, or the first beyond the others.
    fn take_in(&mut self, slot: MemberSlot, member: MemberConfig, gets_every_group: bool) {
        let place = usize::from(slot.0);
        if place == self.routes.len() {
            self.config.members.push(MemberConfig::vacant());
            self.routes.push(Route::to(&self.config.members[place]));
            self.refused_listeners.push(0);
            self.has_said_listening.push(false);
            self.arp.set_capacity(self.routes.len() * ADDRESSES_PER_VIF_MAX);
        }
        self.server.add_member(slot, (member.node, member.vif, member.mac), gets_every_group);
        if gets_every_group {
            self.config.multicast.every_group.push(slot);
        }
        self.set_judgement(slot, &member);
        self.routes[place] = Route::to(&member);
        self.config.members[place] = member;
    }

    /// What the server judges the member's frames by.
    pub(super) fn set_judgement(&mut self, slot: MemberSlot, member: &MemberConfig) {
        self.server.set_sender(slot, member.sender());
        self.server.set_limits(slot, &member.sender.limits);
        self.server.set_room(slot, member.sender.learn);
    }
}

impl MemberConfig {
    fn vacant() -> Self {
        Self {
            node: NO_NODE,
            vif: VifNumber(0),
            mac: MacAddress::NULL,
            interface: String::new(),
            addresses: Vec::new(),
            gateways: Vec::new(),
            may_listen: false,
            sender: Default::default(),
        }
    }
}

impl Route {
    /// The way to a member whose node is not attached.
    pub(super) fn to(member: &MemberConfig) -> Self {
        Self { session: None, node: member.node, vif: member.vif, relay: Channel(0), arp: Channel(0) }
    }
}

impl Session {
    /// Closes the two channels of a membership: what comes by them is dropped and counted.
    fn close(&mut self, lan: usize, slot: MemberSlot, (relay, arp): (Channel, Channel)) {
        for channel in [relay, arp] {
            self.by_channel[usize::from(channel.0)] = ChannelUse::default();
            self.association.close_channel(channel);
        }
        self.memberships.retain(|membership| *membership != (lan, slot));
        // Whoever has not answered for the last arena of the LAN is none of its members now.
        self.arenas_unanswered.retain(|of| *of != lan);
    }
}
