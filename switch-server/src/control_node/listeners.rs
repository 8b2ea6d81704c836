//! Promiscuous listeners at the control node: who may listen, who is told of it, and the copies that come by relay (S130
//! to S133).

use rvi::{Part, Sent};
use vlan_core::server::{MemberSlot, Verdict};
use vlan_core::wire::control::ControlMessage;
use vlan_core::wire::frame::{FrameHeader, FrameKind, Vnet};
use vlan_core::{DropReason, Instant, Location};

use crate::control_node::relay::Inbound;
use crate::control_node::session::{Account, Session};
use crate::control_node::{ControlNode, ControlNodeEvent};

/// Why a member that listens is not taken for a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenRefusal {
    /// The platform file does not permit it.
    NotPermitted,
    /// The LAN has as many listeners as it may have.
    NoRoom,
}

impl ControlNode {
    /// A node says that an interface of it listens, or listens no more. One that it has no more is passed over.
    pub(super) fn handle_promiscuous(
        &mut self,
        now: Instant,
        session: &Session,
        listener: &Location,
        listens: bool,
    ) {
        let Some((lan, slot)) = self.membership(session, listener.vif) else { return };
        if (listener.node, listener.lan) != (session.node, self.lans[lan].config.id) {
            self.log(ControlNodeEvent::BadControlMessage { node: session.node });
            return;
        }
        //= spec/promiscuous.md#permission
        //# A control node MUST refuse a member that listens promiscuously without permission of the platform file, count it,
        //# and tell the operator the first time.
        let entry = &mut self.lans[lan];
        let refusal = match entry.member_config(slot).may_listen {
            false => Some(ListenRefusal::NotPermitted),
            true => (!entry.server.set_listens(slot, listens)).then_some(ListenRefusal::NoRoom),
        };
        let is_first = !core::mem::replace(&mut entry.has_said_listening[usize::from(slot.0)], true);
        let Some(why) = refusal else { return self.announce_listener(now, lan, slot, listens) };
        if listens {
            self.refuse_listener(lan, slot, why);
        }
        if is_first {
            self.announce_listener(now, lan, slot, false);
        }
    }

    /// The member may not listen any more.
    //= spec/promiscuous.md#changed-permission
    //# When a member loses its permission to listen, its control node MUST end it as a listener at once; when it gets one, its
    //# node MUST say at once that its interface is promiscuous, if it is.
    pub(super) fn end_listening(&mut self, now: Instant, lan: usize, slot: MemberSlot) {
        if self.lans[lan].server.listens(slot) && self.lans[lan].server.set_listens(slot, false) {
            self.announce_listener(now, lan, slot, false);
        }
    }

    fn refuse_listener(&mut self, lan: usize, slot: MemberSlot, why: ListenRefusal) {
        let entry = &mut self.lans[lan];
        let refused = &mut entry.refused_listeners[usize::from(slot.0)];
        *refused += 1;
        if *refused == 1 {
            let (lan, node) = (entry.config.id, entry.member_config(slot).node);
            self.log(ControlNodeEvent::ListenerRefused { lan, node, why });
        }
    }

    //= spec/promiscuous.md#announcements
    //# A control node MUST tell every other attached member of a LAN where a listener is when it begins to listen and in
    //# each session that it says so again, and when it ends; and a member that attaches where all listeners are.
    fn announce_listener(&mut self, now: Instant, lan: usize, slot: MemberSlot, listens: bool) {
        let message = ControlMessage::Promiscuous { listener: self.location(lan, slot), listens };
        for other in (0..self.lans[lan].routes.len()).filter(|other| *other != usize::from(slot.0)) {
            let place = self.lans[lan].routes[other].session;
            if let Some(session) = place.and_then(|place| self.sessions[place].as_mut()) {
                session.send_control(now, &message);
            }
        }
    }

    /// Tells a node that attaches who listens on a LAN of it, and who may have listened when it last heard of them.
    //= spec/promiscuous.md#former-listeners
    //# Of a member that has said in its session that it listens or does not, and is no listener, a control node MUST say so once
    //# to the attached members, and to each that attaches.
    pub(super) fn tell_listeners(&self, now: Instant, session: &mut Session, lan: usize) {
        let entry = &self.lans[lan];
        for slot in entry.slots() {
            if !entry.has_said_listening[usize::from(slot.0)] {
                continue;
            }
            let (listener, listens) = (self.location(lan, slot), entry.server.listens(slot));
            session.send_control(now, &ControlMessage::Promiscuous { listener, listens });
        }
    }

    /// Moves a copy that came by relay on to its listener, if it is one.
    #[cold]
    pub(super) fn handle_copy(&mut self, now: Instant, session: &mut Session, inbound: &Inbound<'_>) {
        let Inbound { lan, from, ref header, message } = *inbound;
        let Ok(node) = FrameHeader::parse_listener(message.head) else {
            self.lans[lan].server.drop(DropReason::Malformed);
            return;
        };
        match self.lans[lan].server.decide_copy(now, from, (node, header.destination_vif)) {
            Verdict::Unicast { to, worth_direct } => {
                self.forward_copy(now, &mut Account::of(session), inbound, to);
                if worth_direct {
                    self.consider_direct(session, lan, from, to);
                }
            }
            _ => self.note_drop(now, inbound, DropReason::NotListening),
        }
    }

    //= spec/promiscuous.md#no-room
    //# A copy for which there is no room at once MUST be dropped and counted as listener-full: it MUST NOT delay or displace
    //# a frame of the interface.
    fn forward_copy(
        &mut self,
        now: Instant,
        account: &mut Account<'_>,
        inbound: &Inbound<'_>,
        to: MemberSlot,
    ) {
        let route = self.lans[inbound.lan].routes[usize::from(to.0)];
        let flags = inbound.header.flags & FrameHeader::RESENT;
        let header = FrameHeader { flags, ..inbound.header };
        let octets = header.emit_promiscuous(route.node, inbound.frame_len());
        let parts =
            [Part::Private(&octets), Part::Private(inbound.head()), Part::Shared(inbound.message.rest)];
        if !self.offer_copy(now, account, (inbound.lan, to), inbound.frame_len(), &parts) {
            self.note_drop(now, inbound, DropReason::ListenerFull);
        }
    }

    /// Puts a copy into the ring of a listener if there is room at once, and counts it.
    pub(super) fn offer_copy(
        &mut self,
        now: Instant,
        account: &mut Account<'_>,
        (lan, to): (usize, MemberSlot),
        frame_len: usize,
        parts: &[Part<'_>],
    ) -> bool {
        let route = self.lans[lan].routes[usize::from(to.0)];
        let listener = route.session.and_then(|place| account.session_at(&mut self.sessions, place));
        let offered = listener.is_some_and(|other| other.association.offer(now, route.relay, 0, parts));
        let Some(place) = route.session.filter(|_| offered) else {
            self.lans[lan].server.drop(DropReason::ListenerFull);
            return false;
        };
        self.lans[lan].server.delivered(to, frame_len);
        self.hold_for(now, account, place, route.relay, Sent::Ring, true);
        true
    }

    /// Gives listeners a request that goes to nobody else, as the ARP server answers it for `holder`, and the answer.
    //= spec/promiscuous.md#answered-requests
    //# A control node that answers a request of ARP or ND MUST give each listener but the asker a copy of the answer, and
    //# the request unless the listener is the holder.
    pub(super) fn copy_answered(
        &mut self,
        now: Instant,
        account: &mut Account<'_>,
        inbound: &Inbound<'_>,
        holder: MemberSlot,
        (request, answer): (&[u8], &[u8]),
    ) {
        let Inbound { lan, from, .. } = *inbound;
        let mut copies = 0;
        for to in self.lans[lan].server.listeners().to_vec().into_iter().filter(|to| *to != from) {
            if to != holder {
                copies += 1;
                self.forward_arp(now, account, inbound, to, request);
            }
            copies += 1;
            let route = self.lans[lan].routes[usize::from(to.0)];
            let header = FrameHeader {
                destination_vif: route.vif,
                ..self.header_of_nobody(lan, FrameKind::Promiscuous, &Vnet::default())
            };
            let octets = header.emit_promiscuous(route.node, answer.len());
            let parts = [Part::Private(&octets), Part::Private(answer)];
            self.offer_copy(now, account, (lan, to), answer.len(), &parts);
        }
        // The answer to the asker is one of as many.
        self.lans[lan].server.cloned(copies + 1);
    }
}
