//! Frames on their way through the control node: taken from one member's ring, judged by the LAN's server and
//! the ARP server, copied once into each receiver's ring.

use alloc::vec;
use alloc::vec::Vec;

use arp_server::{ArpVerdict, Owner};
use rvi::{AssociationEvent, Message, Part, Scratch, SendError, Sent};
use vlan_core::ethernet::EthernetHeader;
use vlan_core::server::{MemberSlot, PortSecurity, Verdict};
use vlan_core::wire::control::ControlMessage;
use vlan_core::wire::frame::{FrameHeader, FrameKind};
use vlan_core::wire::tlv::TlvError;
use vlan_core::{Channel, DropReason, Instant, Location, NodeNumber, VifNumber};

use crate::control_node::session::{Session, Stage};
use crate::control_node::{ControlNode, ControlNodeEvent, Output};

impl ControlNode {
    /// Takes up to `batch` messages from one node.
    pub(super) fn pump_session(
        &mut self,
        now: Instant,
        place: usize,
        batch: usize,
        scratch: &mut Scratch,
    ) -> usize {
        let Some(mut session) = self.sessions[place].take() else { return 0 };
        let mut taken = 0;
        while taken < batch
            && let Some(message) = session.association.receive(scratch)
        {
            taken += 1;
            self.handle_message(now, place, &mut session, &message);
        }
        if taken > 0 {
            session.heard = now;
        }
        self.sessions[place] = Some(session);
        taken
    }

    #[inline]
    fn handle_message(&mut self, now: Instant, place: usize, session: &mut Session, message: &Message<'_>) {
        if session.stage == Stage::Ended {
            return;
        }
        if message.channel == Channel::CONTROL {
            match ControlMessage::parse(&whole(message)) {
                Ok(control) => self.handle_control(now, place, session, control),
                Err(_) => self.log(ControlNodeEvent::BadControlMessage { node: session.node }),
            }
            return;
        }
        let channel = session.by_channel[usize::from(message.channel.0)];
        let Some(lan) = channel.lan() else { return };
        match FrameHeader::parse(message.head, message.len) {
            Ok(header) => self.handle_frame(now, place, session, lan, channel.slot, &header, message),
            Err(TlvError::UnknownKind { .. }) => {
                self.handle_in_band(now, session, lan, channel.slot, message)
            }
            Err(_) => {
                self.lans[lan].server.drop_unread(DropReason::Malformed);
            }
        }
    }

    #[inline]
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one frame on its way; a struct would only name them again"
    )]
    fn handle_frame(
        &mut self,
        now: Instant,
        place: usize,
        session: &mut Session,
        lan: usize,
        from: MemberSlot,
        header: &FrameHeader,
        message: &Message<'_>,
    ) {
        let header_len = header.kind.header_len();
        let (head, frame_len) = (&message.head[header_len..], message.len - header_len);
        match self.lans[lan].server.handle_frame(now, from, header, head, frame_len) {
            Verdict::Unicast { to, worth_direct } => {
                self.forward(now, session, lan, to, header, head, message);
                if header.flags & FrameHeader::UNBOUND != 0 {
                    self.answer_unbound(now, session, lan, to);
                }
                if worth_direct {
                    self.consider_direct(now, session, lan, from, to);
                }
            }
            Verdict::Group => self.flood(now, session, lan, from, header, head, message),
            Verdict::Arp => self.handle_arp(now, place, session, lan, from, header, message),
            Verdict::Drop(_) => {}
        }
    }

    //= spec/server.md#binding-notices
    //# A control node MUST answer a relayed frame whose sender has no binding for its destination with a binding
    //# notice.
    fn answer_unbound(&mut self, now: Instant, session: &mut Session, lan: usize, to: MemberSlot) {
        let member = self.lans[lan].member_config(to);
        let (mac, node, vif) = (member.mac, member.node, member.vif);
        let process = self.lans[lan].server.member(to).and_then(|member| member.process);
        let location = Location {
            cabinet: self.config.cabinet,
            node,
            vif,
            lan: self.lans[lan].server.id(),
            generation: process.unwrap_or_default().0,
            ..Location::default()
        };
        session.send_control(now, &ControlMessage::Binding { mac, location });
    }

    /// Copies a frame into the ring of the member at `to`: what was checked (`head`, private) and the shared
    /// rest behind it (amendment 8).
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "as above")]
    fn forward(
        &mut self,
        now: Instant,
        session: &mut Session,
        lan: usize,
        to: MemberSlot,
        header: &FrameHeader,
        head: &[u8],
        message: &Message<'_>,
    ) {
        let route = self.lans[lan].routes[usize::from(to.0)];
        let frame_len = head.len() + message.rest.len();
        let flags = header.flags & FrameHeader::RESENT;
        let octets = FrameHeader { flags, destination_vif: route.vif, ..*header }.emit(frame_len);
        let parts = [Part::Private(&octets), Part::Private(head), Part::Shared(message.rest)];
        self.send(now, session, lan, to, route.relay, frame_len, &parts);
    }

    //= spec/server.md#group-frames
    //# The server MUST give a group frame once to every attached member of the LAN but its sender.
    #[expect(clippy::too_many_arguments, reason = "as above")]
    fn flood(
        &mut self,
        now: Instant,
        session: &mut Session,
        lan: usize,
        from: MemberSlot,
        header: &FrameHeader,
        head: &[u8],
        message: &Message<'_>,
    ) {
        let mut receivers = 0;
        for slot in 0..self.lans[lan].routes.len() {
            let to = MemberSlot(slot as u16);
            if to != from && self.lans[lan].routes[slot].session.is_some() {
                receivers += 1;
                self.forward(now, session, lan, to, header, head, message);
            }
        }
        self.lans[lan].server.cloned(receivers);
    }

    /// Puts a message into the ring of the member at `to`. While it waits there for room, its sender's slot is
    /// not settled (amendment 22).
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "as above")]
    fn send(
        &mut self,
        now: Instant,
        session: &mut Session,
        lan: usize,
        to: MemberSlot,
        channel: Channel,
        frame_len: usize,
        parts: &[Part<'_>],
    ) {
        let charge = session.charge;
        let sent = match self.lans[lan].routes[usize::from(to.0)].session {
            None => Err(SendError::NoLeg),
            Some(place) => match &mut self.sessions[place] {
                Some(other) => other.association.send(now, channel, 0, charge, parts),
                // The receiver is the sender's own node, which is taken out.
                None => session.association.send(now, channel, 0, charge, parts),
            },
        };
        let server = &mut self.lans[lan].server;
        match sent {
            Ok(Sent::Ring) => server.delivered(to, frame_len),
            Ok(Sent::Parked) => {
                server.delivered(to, frame_len);
                session.association.hold();
            }
            //= spec/server.md#full-outputs
            //# When a receiver's queue is full the server MUST drop the frame as egress-full and go on.
            Err(SendError::Full) => {
                server.drop(DropReason::EgressFull);
            }
            Err(SendError::TooLong { .. }) => {
                server.drop(DropReason::TooLong);
            }
            Err(_) => {
                server.drop(DropReason::NotAttached);
            }
        }
    }

    // --- ARP and ND -----------------------------------------------------------------------------------------

    #[expect(clippy::too_many_arguments, reason = "as above")]
    fn handle_arp(
        &mut self,
        now: Instant,
        place: usize,
        session: &mut Session,
        lan: usize,
        from: MemberSlot,
        header: &FrameHeader,
        message: &Message<'_>,
    ) {
        // Copied whole: every octet of it is looked at (amendment 8).
        let octets = whole(message);
        let frame = &octets[header.kind.header_len()..];
        // Without port security a member may speak for stations behind it.
        let checked = self.lans[lan].server.port_security() != PortSecurity::Off;
        let source =
            if checked { None } else { EthernetHeader::parse(frame).map(|ethernet| ethernet.source) };
        let sender_mac = source.unwrap_or(self.lans[lan].member_config(from).mac);
        let verdict = self.lans[lan].arp.handle_frame(frame, Owner(from.0), sender_mac);
        let arp = match verdict {
            ArpVerdict::Flood { message } | ArpVerdict::Unicast { message, .. } => message,
            ArpVerdict::Drop(reason) => {
                self.lans[lan].server.drop(reason);
                return;
            }
        };
        if let (Some((address, _)), Some(holder)) = (arp.sender, arp.conflict) {
            let lan_id = self.lans[lan].server.id();
            self.log(ControlNodeEvent::AddressConflict { lan: lan_id, address, holder, node: session.node });
        }
        if header.flags & FrameHeader::ARP_COPY != 0 {
            // Its original has gone over the direct RVI; this one was for the bindings only.
            self.lans[lan].server.copy_taken();
            return;
        }
        let source = self.location(place, session, lan, from);
        match verdict {
            ArpVerdict::Unicast { to, .. } => {
                let slot = self.lans[lan].server.slot_of(to);
                match slot.map(|slot| self.lans[lan].server.decide_unicast(now, from, slot)) {
                    Some(Verdict::Unicast { to, .. }) => {
                        self.forward_arp(now, session, lan, to, header, &source, frame);
                    }
                    Some(_) => {}
                    None => {
                        self.lans[lan].server.drop(DropReason::UnknownDestination);
                    }
                }
            }
            _ => {
                let mut receivers = 0;
                for slot in 0..self.lans[lan].routes.len() {
                    let to = MemberSlot(slot as u16);
                    if to != from && self.lans[lan].routes[slot].session.is_some() {
                        receivers += 1;
                        self.forward_arp(now, session, lan, to, header, &source, frame);
                    }
                }
                self.lans[lan].server.cloned(receivers);
            }
        }
    }

    //= spec/arp.md#locations
    //# The control node MUST write the sender's location, as it knows it, into the header of every ARP and ND message
    //# that it passes on.
    #[expect(clippy::too_many_arguments, reason = "as above")]
    fn forward_arp(
        &mut self,
        now: Instant,
        session: &mut Session,
        lan: usize,
        to: MemberSlot,
        header: &FrameHeader,
        source: &Location,
        frame: &[u8],
    ) {
        let route = self.lans[lan].routes[usize::from(to.0)];
        let target = Location {
            cabinet: self.config.cabinet,
            node: route.node,
            vif: route.vif,
            lan: self.lans[lan].server.id(),
            ..Location::default()
        };
        let header = FrameHeader {
            kind: FrameKind::Arp,
            flags: header.flags | FrameHeader::ARP_LOCAL,
            destination_vif: route.vif,
            ..*header
        };
        let octets = header.emit_arp(source, &target, frame.len());
        let parts = [Part::Private(&octets), Part::Private(frame)];
        self.send(now, session, lan, to, route.arp, frame.len(), &parts);
    }

    pub(super) fn location(
        &self,
        _place: usize,
        session: &Session,
        lan: usize,
        slot: MemberSlot,
    ) -> Location {
        Location {
            cabinet: self.config.cabinet,
            node: session.node,
            vif: self.lans[lan].member_config(slot).vif,
            lan: self.lans[lan].server.id(),
            generation: session.process.0,
            ..Location::default()
        }
    }

    // --- in-band messages -----------------------------------------------------------------------------------

    /// A barrier goes the way of the frames before it, so it arrives behind them (amendment 20).
    fn handle_in_band(
        &mut self,
        now: Instant,
        session: &mut Session,
        lan: usize,
        from: MemberSlot,
        message: &Message<'_>,
    ) {
        let octets = whole(message);
        let member = self.lans[lan].member_config(from);
        let (node, vif) = (member.node, member.vif);
        match ControlMessage::parse(&octets) {
            Ok(ControlMessage::Barrier {
                lan: of, origin, origin_vif, destination, destination_vif, ..
            }) if of == self.lans[lan].server.id() && origin == node && origin_vif == vif => {
                self.forward_barrier(now, session, lan, destination, destination_vif, &octets);
            }
            _ => {
                self.lans[lan].server.drop_unread(DropReason::Malformed);
            }
        }
    }

    fn forward_barrier(
        &mut self,
        now: Instant,
        session: &mut Session,
        lan: usize,
        destination: NodeNumber,
        vif: VifNumber,
        octets: &[u8],
    ) {
        let routes = &self.lans[lan].routes;
        let Some(route) = routes.iter().find(|r| r.node == destination && r.vif == vif).copied() else {
            return;
        };
        let charge = session.charge;
        let sent = match route.session.map(|place| &mut self.sessions[place]) {
            Some(Some(other)) => {
                other.association.send(now, route.relay, 0, charge, &[Part::Private(octets)])
            }
            Some(None) => session.association.send(now, route.relay, 0, charge, &[Part::Private(octets)]),
            None => return,
        };
        // A barrier that finds no room is lost, and tried again by its sender.
        if let Ok(Sent::Parked) = sent {
            session.association.hold();
        }
    }

    // --- what associations report ---------------------------------------------------------------------------

    pub(super) fn drain_association_events(&mut self, now: Instant) {
        for place in 0..self.sessions.len() {
            while let Some(session) = &mut self.sessions[place]
                && let Some(event) = session.association.poll_event()
            {
                let (node, process) = (session.node, session.process);
                match event {
                    AssociationEvent::ParkedSent { charge } => self.unhold(charge),
                    AssociationEvent::ParkedExpired { charge, channel, .. } => {
                        self.parked_expired(place, channel);
                        self.unhold(charge);
                    }
                    AssociationEvent::LegDown(leg, rvi::LegDownReason::Protocol(error)) => {
                        self.log(ControlNodeEvent::LegBroken { node, leg, error });
                        self.outputs.push_back(Output::CloseLeg { node, process, leg });
                        self.handle_leg_gone(now, node, process, leg);
                    }
                    _ => {}
                }
            }
        }
    }

    fn parked_expired(&mut self, place: usize, channel: Channel) {
        let Some(session) = &self.sessions[place] else { return };
        if let Some(lan) = session.by_channel[usize::from(channel.0)].lan() {
            self.lans[lan].server.lost_after_delivery(DropReason::Expired, 1);
        }
    }

    /// A frame that waited on the account of a session has gone or expired.
    pub(super) fn unhold(&mut self, charge: u32) {
        let owner = self.sessions.iter_mut().flatten().find(|session| session.charge == charge);
        if let Some(owner) = owner {
            owner.association.unhold();
        }
    }
}

/// A whole private copy of a message.
pub(super) fn whole(message: &Message<'_>) -> Vec<u8> {
    let mut octets = vec![0; message.head.len() + message.rest.len()];
    octets[..message.head.len()].copy_from_slice(message.head);
    message.rest.copy_to(&mut octets[message.head.len()..]);
    octets
}
