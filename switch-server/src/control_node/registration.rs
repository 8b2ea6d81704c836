//! Who is attached: registration of nodes, their interfaces, their addresses, and the notices to the others.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use arp_server::{BindError, Owner};
use rvi::{LegEnd, SessionTag};
use vlan_core::server::MemberSlot;
use vlan_core::wire::Reference;
use vlan_core::wire::control::{
    ControlMessage, HeldInterface, InterfaceAddress, InterfaceConfig, MemberNotice, OfferedLeg, TLV_VERSION,
};
use vlan_core::wire::frame::{FrameHeader, FrameKind};
use vlan_core::{Channel, DropReason, Instant, LegNumber, NodeNumber, ProcessId, VifNumber};

use crate::control_node::pairs::Held;
use crate::control_node::session::{Session, Stage, is_nobodys};
use crate::control_node::{ControlNode, ControlNodeEvent, Output, waits};

/// What a node says when it registers.
struct Registration<'a> {
    version: u16,
    /// Who it claims to be.
    claimed: (NodeNumber, ProcessId),
    interfaces: &'a [HeldInterface],
    held: Held<'a>,
    legs: &'a [OfferedLeg],
}

impl ControlNode {
    /// Begins a session with a node's process, which numbers it `number`.
    pub(super) fn open_session(
        &mut self,
        now: Instant,
        node: NodeNumber,
        process: ProcessId,
        number: u32,
    ) -> usize {
        let tag = SessionTag { node: number, control_node: self.next_number };
        self.next_number = self.next_number.wrapping_add(1).max(1);
        let place = self.sessions.iter().position(Option::is_none).unwrap_or(self.sessions.len());
        if place == self.sessions.len() {
            self.sessions.push(None);
        }
        let seed = self.random.next_u64();
        self.sessions[place] = Some(Box::new(Session::new(now, (node, process), place, tag, seed)));
        place
    }

    // --- control messages -----------------------------------------------------------------------------------

    /// A message on channel 0 of the session, which is out of its place.
    pub(super) fn handle_control(&mut self, now: Instant, session: &mut Session, message: ControlMessage) {
        if let ControlMessage::Register { version, node, process, interfaces, direct, associations, legs } =
            &message
        {
            let (version, claimed, held) = (*version, (*node, *process), Held { direct, associations });
            self.register(now, session, &Registration { version, claimed, interfaces, held, legs });
            return;
        }
        if !session.is_registered() {
            self.log(ControlNodeEvent::BadControlMessage { node: session.node });
            return;
        }
        match message {
            ControlMessage::Heartbeat { number } => {
                session.send_control(now, &ControlMessage::HeartbeatReply { number });
            }
            ControlMessage::HeartbeatReply { .. } | ControlMessage::Revoked { .. } => {}
            ControlMessage::Bind { vif, address } => self.bind(now, session, vif, address),
            ControlMessage::Unbind { vif, address } => {
                if let Some((lan, slot)) = self.membership(session, vif) {
                    self.lans[lan].arp.unbind(address, Owner(slot.0));
                    self.lans[lan].server.unbound(slot, address);
                    self.note_changed_senders(lan);
                }
            }
            ControlMessage::ArenaReady { lan, arena } => self.arena_ready(session, lan, arena),
            ControlMessage::Groups(notice) => self.handle_groups(now, session, &notice),
            ControlMessage::Promiscuous { listener, listens } => {
                self.handle_promiscuous(now, session, &listener, listens);
            }
            ControlMessage::Claims(notice) => self.handle_flows(now, session, &notice, true),
            ControlMessage::FlowsGone(notice) => self.handle_flows(now, session, &notice, false),
            ControlMessage::FlowsTold { vif } => self.handle_flows_told(now, session, vif),
            ControlMessage::Listening(notice) => self.handle_listening(session, &notice),
            ControlMessage::Checked(checked) => self.handle_checked(session, &checked),
            ControlMessage::LegAddresses { legs } => self.take_leg_addresses(session, &legs),
            ControlMessage::DirectIdle { rvi } => self.direct_idle(now, session.node, rvi),
            ControlMessage::DirectLost { peer, process } => {
                self.direct_lost(now, (session.node, session.process), (peer, process));
            }
            ControlMessage::LegMissing { peer, process, leg } => {
                let (own, other) = ((session.node, session.process), (peer, process));
                self.handle_missing_leg(now, own, other, LegNumber(leg));
            }
            ControlMessage::Traced(traced) => {
                self.outputs.push_back(Output::Traced { node: session.node, traced });
            }
            // One message holds all that a node keeps.
            ControlMessage::ReportDrops { drops, .. } => session.reported_drops = drops,
            ControlMessage::Report { id, last, items } => {
                if !session.add_report(items) {
                    self.log(ControlNodeEvent::BadControlMessage { node: session.node });
                } else if last {
                    let items = core::mem::take(&mut session.report);
                    let drops = core::mem::take(&mut session.reported_drops);
                    self.outputs.push_back(Output::Report { node: session.node, id, items, drops });
                }
            }
            _ => self.log(ControlNodeEvent::BadControlMessage { node: session.node }),
        }
    }

    //= spec/server.md#registration
    //# A control node MUST accept a registration only for the node and the process that the handshake proved, in the
    //# same version of the TLV layer, and only from a node that is a member of a virtual LAN.
    fn register(&mut self, now: Instant, session: &mut Session, registration: &Registration<'_>) {
        if session.is_registered() {
            // Once a session; a second one could only confuse the members' routes.
            self.log(ControlNodeEvent::BadControlMessage { node: session.node });
            return;
        }
        if let Some(reason) = self.objection(session, registration) {
            if registration.claimed == (session.node, session.process) {
                // One that is a member of nothing any more has interfaces of the time when it was.
                self.take_former_away(now, session, registration.interfaces);
            }
            session.send_control(now, &ControlMessage::Refused { reason: reason.clone() });
            (session.stage, session.was_refused) = (Stage::Ended, true);
            let name = self.node_name(session.node);
            self.log(ControlNodeEvent::Refused { node: session.node, name, reason });
            return;
        }
        self.fence_others(now, session.node);
        self.pairs_of_replaced(now, session);
        session.stage = Stage::Registered;
        session.association.open_channel(Channel::RELAYED_PACKETS);
        session.send_control(now, &ControlMessage::Registered { epoch: self.config.epoch });
        self.take_former_away(now, session, registration.interfaces);
        for lan in 0..self.lans.len() {
            for slot in 0..self.lans[lan].routes.len() {
                if self.lans[lan].routes[slot].node == session.node {
                    self.attach(now, session, lan, MemberSlot(slot as u16));
                }
            }
        }
        self.tell_cluster_role(now, session);
        session.send_control(now, &ControlMessage::ConfigurationEnd { epoch: self.config.epoch });
        let name = self.node_name(session.node);
        self.log(ControlNodeEvent::Attached {
            node: session.node,
            name,
            interfaces: session.memberships.len(),
        });
        self.take_leg_addresses(session, registration.legs);
        self.adopt(now, session, registration.held);
        self.resume_captures(now, session);
    }

    fn objection(&self, session: &Session, registration: &Registration<'_>) -> Option<String> {
        let Registration { version, claimed, .. } = *registration;
        if version != TLV_VERSION {
            return Some(alloc::format!("it speaks version {version}, this control node {TLV_VERSION}"));
        }
        if claimed != (session.node, session.process) {
            return Some(alloc::format!("its key is that of node {}, it claims {}", session.node, claimed.0));
        }
        let member = self.lans.iter().any(|lan| lan.routes.iter().any(|route| route.node == session.node));
        (!member).then(|| "it is a member of no virtual LAN".to_string())
    }

    //= spec/server.md#fencing
    //# When a newer process of a node registers, the control node MUST tell the older one that it is fenced and take
    //# nothing more from it.
    fn fence_others(&mut self, now: Instant, node: NodeNumber) {
        for place in 0..self.sessions.len() {
            let Some(other) = &mut self.sessions[place] else { continue };
            // One that has proven nothing is nobody yet: the process may be the same.
            if other.node != node || other.stage == Stage::Ended || other.is_unproven() {
                continue;
            }
            other.send_control(now, &ControlMessage::Fenced);
            let process = other.process;
            self.detach_all(now, place);
            if let Some(other) = &mut self.sessions[place] {
                other.stage = Stage::Ended;
            }
            self.log(ControlNodeEvent::Fenced { node, process });
        }
    }

    /// Brings one membership of the session up and tells it and the other members about each other.
    pub(super) fn attach(&mut self, now: Instant, session: &mut Session, lan: usize, slot: MemberSlot) {
        let channels = channels(self.lans[lan].member_config(slot).vif);
        session.open(lan, slot, channels.0, channels.1);
        let entry = &mut self.lans[lan];
        entry.server.attach(slot, session.process);
        entry.has_said_listening[usize::from(slot.0)] = false;
        entry.arena.end(now, &self.arena_policy);
        self.note_changed_senders(lan);
        let entry = &mut self.lans[lan];
        let route = &mut entry.routes[usize::from(slot.0)];
        (route.session, route.relay, route.arp) = (Some(session.place), channels.0, channels.1);
        self.server_changed(now, lan, session.node);
        session.send_control(now, &ControlMessage::Interface(self.interface_config(lan, slot)));
        session.send_control(now, &self.group_policy(lan, slot));
        session.send_control(now, &self.group_limits(lan, slot));
        //= spec/server.md#members-that-are-named
        //# A control node MUST name every other member of its LANs to a node that it accepts, also those that are not attached.
        for (other, member) in self.lans[lan].server.members() {
            if other != slot {
                let notice = self.member_notice(lan, other, member.process.is_some());
                session.send_control(now, &ControlMessage::Member(notice));
            }
        }
        self.tell_listeners(now, session, lan);
        self.notify_members(now, lan, slot, true);
    }

    pub(super) fn interface_config(&self, lan: usize, slot: MemberSlot) -> InterfaceConfig {
        let (config, member) = (&self.lans[lan].config, self.lans[lan].member_config(slot));
        let (relay_channel, arp_channel) = channels(member.vif);
        InterfaceConfig {
            lan: config.id,
            vif: member.vif,
            mac: member.mac,
            mtu: config.mtu,
            relay_channel,
            arp_channel,
            port_security: config.port_security,
            may_listen: member.may_listen,
            has_carrier: self.has_carrier(lan),
            name: member.interface.clone(),
            lan_name: config.name.clone(),
            addresses: member.addresses.clone(),
            gateways: member.gateways.clone(),
            clusters: self.lans[lan].clusters_served_by(member.node),
            cluster_addresses: self.lans[lan].cluster_addresses.keys().copied().collect(),
        }
    }

    fn member_notice(&self, lan: usize, slot: MemberSlot, attached: bool) -> MemberNotice {
        let (config, member) = (&self.lans[lan].config, self.lans[lan].member_config(slot));
        let process = self.lans[lan].server.member(slot).and_then(|member| member.process);
        MemberNotice {
            lan: config.id,
            node: member.node,
            vif: member.vif,
            mac: member.mac,
            process: process.unwrap_or_default(),
            attached,
        }
    }

    /// Tells the other attached members of a LAN that one came or went (connectivity notices).
    pub(super) fn notify_members(&mut self, now: Instant, lan: usize, slot: MemberSlot, attached: bool) {
        let notice = ControlMessage::Member(self.member_notice(lan, slot, attached));
        for other in 0..self.lans[lan].routes.len() {
            if other == usize::from(slot.0) {
                continue;
            }
            let session =
                self.lans[lan].routes[other].session.and_then(|place| self.sessions[place].as_mut());
            if let Some(session) = session {
                session.send_control(now, &notice);
            }
        }
    }

    // --- addresses ------------------------------------------------------------------------------------------

    pub(super) fn membership(&self, session: &Session, vif: VifNumber) -> Option<(usize, MemberSlot)> {
        let mut memberships = session.memberships.iter();
        memberships.find(|&&(lan, slot)| self.lans[lan].member_config(slot).vif == vif).copied()
    }

    //= spec/server.md#address-registration
    //# A control node MUST bind an address that a node registers to the interface that it was registered for, unless
    //# another interface of the LAN holds it: the first holder keeps it.
    fn bind(&mut self, now: Instant, session: &Session, vif: VifNumber, address: InterfaceAddress) {
        let Some((lan, slot)) = self.membership(session, vif) else {
            self.log(ControlNodeEvent::BadControlMessage { node: session.node });
            return;
        };
        let (mac, lan_id) = (self.lans[lan].member_config(slot).mac, self.lans[lan].server.id());
        if !self.lans[lan].server.may_bind(slot, address.address) {
            let (address, node) = (address.address, session.node);
            self.log(ControlNodeEvent::AddressRefused { lan: lan_id, address, node });
            return;
        }
        let last_mac = self.lans[lan].arp.last_mac(address.address);
        match self.lans[lan].arp.bind(address.address, mac, Owner(slot.0)) {
            Ok(()) => {
                if last_mac.is_some_and(|last| last != mac) {
                    self.note_moved(now, lan, address.address);
                }
                self.lans[lan].server.bound(slot, address.address);
                self.note_changed_senders(lan);
                self.announce(now, lan, address.address);
            }
            Err(BindError::Conflict { holder }) => self.log(ControlNodeEvent::AddressConflict {
                lan: lan_id,
                address: address.address,
                holder,
                node: session.node,
            }),
            Err(_) => self.log(ControlNodeEvent::AddressRefused {
                lan: lan_id,
                address: address.address,
                node: session.node,
            }),
        }
    }

    // --- the end of sessions --------------------------------------------------------------------------------

    /// Takes the interfaces of the session at `place` off their LANs.
    pub(super) fn detach_all(&mut self, now: Instant, place: usize) {
        let Some(session) = &mut self.sessions[place] else { return };
        let node = session.node;
        let process = session.process;
        let memberships = core::mem::take(&mut session.memberships);
        for (lan, slot) in memberships {
            let route = &mut self.lans[lan].routes[usize::from(slot.0)];
            if route.session == Some(place) {
                route.session = None;
                self.lans[lan].server.detach(slot);
                self.lans[lan].arena.end(now, &self.arena_policy);
                self.lans[lan].arp.forget(Owner(slot.0));
                self.server_changed(now, lan, node);
                self.notify_members(now, lan, slot, false);
            }
        }
        self.pairs_of_ended(node, process);
    }

    pub(super) fn finish_gone_legs(&mut self, now: Instant) {
        for place in 0..self.sessions.len() {
            let Some(session) = &mut self.sessions[place] else { continue };
            if session.gone.is_empty() {
                continue;
            }
            let gone: Vec<LegNumber> = core::mem::take(&mut session.gone);
            let (node, process) = (session.node, session.process);
            let mut end = LegEnd::Died;
            for leg in gone {
                end = session.association.handle_leg_gone(now, leg);
                self.outputs.push_back(Output::CloseLeg { node, process, leg });
            }
            if !session.association.is_up() {
                self.session_over(now, place, end);
            }
        }
    }

    /// The last leg of a session has gone, or the node's process has begun another: it has ended, or lost this
    /// control node. Legs that are left go with it. `end` is how the last leg ended.
    pub(super) fn session_over(&mut self, now: Instant, place: usize, end: LegEnd) {
        self.detach_all(now, place);
        let Some(mut session) = self.sessions[place].take() else { return };
        let (node, process) = (session.node, session.process);
        let legs = session.association.legs();
        self.outputs.extend(legs.map(|leg| Output::CloseLeg { node, process, leg: leg.number }));
        self.drops.add_many(DropReason::NoChannel, session.association.take_refused());
        let freed = self.return_unsent(&mut session, end);
        for held in freed.into_iter().chain(session.waits.drain()) {
            self.unhold(now, held);
        }
        if session.is_registered() {
            self.pause_captures(session.node);
            let name = self.node_name(session.node);
            self.log(ControlNodeEvent::Detached { node: session.node, name });
        }
    }

    /// What a member had not taken is lost with it, and no longer on its senders' accounts. One that left in order
    /// was not there any more to take it. Gives the holds on what had waited too long for room.
    //= spec/server.md#members-that-leave
    //# A control node MUST count what a node that left in order had not taken as not-attached; only what a dead process
    //# had not taken is peer-gone.
    fn return_unsent(&mut self, session: &mut Session, end: LegEnd) -> Vec<waits::Held> {
        let (mut lost, mut freed) = (Vec::new(), Vec::new());
        let untaken = match end {
            LegEnd::Closed => DropReason::NotAttached,
            LegEnd::Died => DropReason::PeerGone,
        };
        let by_channel = session.by_channel;
        // What its association has still to tell goes with it, but the losses must not.
        while let Some(event) = session.association.poll_event() {
            if let rvi::AssociationEvent::ParkedExpired { charge, channel, .. } = event {
                let held = session.waits.unpark(charge);
                let is_frame = is_nobodys(charge) || held.as_ref().is_some_and(|held| held.is_frame);
                let lan = by_channel[usize::from(channel.0)].lan().filter(|_| is_frame);
                lost.extend(lan.map(|lan| (lan, DropReason::Expired)));
                freed.extend(held);
            }
        }
        session.association.drain_unsent(&mut |channel, octets, unsent| {
            let reason = match unsent {
                rvi::Unsent::Ring { maybe_taken: true } => DropReason::PeerGone,
                rvi::Unsent::Ring { maybe_taken: false } => untaken,
                rvi::Unsent::Parked { .. } => untaken,
            };
            let frame = FrameHeader::parse(octets, octets.len());
            if let (Ok(header), Some(lan)) = (frame, by_channel[usize::from(channel.0)].lan()) {
                //= spec/promiscuous.md#lost-listeners
                //# A copy that its listener's process had not taken when it died MUST be counted as listener-gone.
                let is_copy = header.kind == FrameKind::Promiscuous;
                lost.push((lan, if is_copy { DropReason::ListenerGone } else { reason }));
            } else if Reference::parse(octets, octets.len()).is_ok()
                && let Some(lan) = by_channel[usize::from(channel.0)].lan()
            {
                lost.push((lan, reason));
            }
        });
        for (lan, reason) in lost {
            self.lans[lan].server.lost_after_delivery(reason, 1);
        }
        freed
    }

    pub(super) fn session_timeouts(&mut self, now: Instant) {
        for place in 0..self.sessions.len() {
            self.packet_timeouts(now, place);
            self.collect_acknowledged(now, place);
            let Some(session) = &mut self.sessions[place] else { continue };
            if session.check_silence(now) {
                let node = session.node;
                self.log(ControlNodeEvent::Silent { node });
            }
        }
    }
}

/// The relay and the ARP channel of an interface: two for each, from 1 on (amendments, Words).
pub(super) const fn channels(vif: VifNumber) -> (Channel, Channel) {
    let base = (vif.0 as u8).wrapping_mul(2);
    (Channel(base - 1), Channel(base))
}
