//! Frames on their way through the control node: taken from one member's ring, judged by the LAN's server and
//! the ARP server, copied once into each receiver's ring.

mod resolution;
mod run;

use alloc::vec;
use alloc::vec::Vec;

use rvi::{AssociationEvent, Body, Framed, Gather, Message, Part, Scratch, SendError, Sent};
use vlan_core::server::{MemberSlot, Verdict};
use vlan_core::wire::captured::CAPTURED;
use vlan_core::wire::control::ControlMessage;
use vlan_core::wire::frame::{FrameHeader, FrameKind, Vnet};
use vlan_core::wire::tlv::TlvError;
use vlan_core::{BootTag, Channel, DropReason, Instant, MacAddress, NodeNumber, VifNumber};

use crate::control_node::session::{Account, Session, Stage, is_nobodys};
use crate::control_node::uplink::OUTSIDE;
use crate::control_node::waits::Held;
use crate::control_node::{ControlNode, ControlNodeEvent, MESSAGE_OCTETS_MIN, Output, TURN_OCTETS};

/// A LAN by its place, and the members that a frame went from and to.
type Pair = (usize, MemberSlot, MemberSlot);

/// A frame on its way in.
pub(super) struct Inbound<'m> {
    /// Place of its LAN.
    pub lan: usize,
    /// The member whose channel it came by.
    pub from: MemberSlot,
    pub header: FrameHeader,
    pub message: &'m Message<'m>,
}

impl Inbound<'_> {
    /// The frame's first octets, in private memory.
    #[inline]
    pub fn head(&self) -> &[u8] {
        &self.message.head[self.header.kind.header_len()..]
    }

    #[inline]
    pub fn frame_len(&self) -> usize {
        self.message.len - self.header.kind.header_len()
    }
}

impl ControlNode {
    /// Gives one node its turn: up to `batch` messages, as many octets as it has coming. Returns how many it took,
    /// and whether nothing more was there.
    //= spec/server.md#turns
    //# A control node MUST take messages from its nodes in turns of as many octets each.
    pub(super) fn pump_session(
        &mut self,
        now: Instant,
        place: usize,
        batch: usize,
        scratch: &mut Scratch,
    ) -> (usize, bool) {
        let Some(mut session) = self.sessions[place].take() else { return (0, true) };
        session.turn = (session.turn + TURN_OCTETS).min(TURN_OCTETS);
        let (mut taken, mut is_empty) = (0, false);
        let (mut run, mut last) = (None, None);
        loop {
            let other = loop {
                if taken == batch || session.turn <= 0 {
                    break None;
                }
                let Some(message) = session.association.receive(scratch) else {
                    is_empty = true;
                    break None;
                };
                taken += 1;
                // A message has 65,809 octets at most.
                session.turn -= message.len.max(MESSAGE_OCTETS_MIN) as i32;
                let is_passed_on = match &mut run {
                    Some(run) => self.pass_on(now, &mut session, run, &message),
                    None => false,
                };
                if !is_passed_on {
                    break Some(message);
                }
            };
            self.end_run(now, &session, run.take());
            let Some(message) = other else { break };
            let pair = self.handle_message(now, &mut session, &message);
            if pair.is_some() && pair == last {
                run = self.begin_run(&session, &message);
            }
            last = pair;
        }
        if taken > 0 {
            session.heard = now;
        }
        self.sessions[place] = Some(session);
        (taken, is_empty)
    }

    /// Handles a message of whatever kind. Gives the members that it went from and to, if it was a unicast frame.
    #[inline]
    fn handle_message(&mut self, now: Instant, session: &mut Session, message: &Message<'_>) -> Option<Pair> {
        if session.stage == Stage::Ended {
            self.drop_of_ended(session, message);
            return None;
        }
        if message.channel == Channel::CONTROL {
            match ControlMessage::parse(&whole(message)) {
                Ok(control) => self.handle_control(now, session, control),
                Err(_) => self.log(ControlNodeEvent::BadControlMessage { node: session.node }),
            }
            return None;
        }
        if message.channel == Channel::RELAYED_PACKETS {
            if message.head.starts_with(&CAPTURED.to_le_bytes()) {
                self.take_captured(session, message);
            } else {
                self.carry(now, session, message);
            }
            return None;
        }
        let channel = session.by_channel[usize::from(message.channel.0)];
        let Some(lan) = channel.lan() else {
            self.drops.add(DropReason::NoChannel);
            return None;
        };
        match FrameHeader::parse(message.head, message.len) {
            Ok(header) if header.hop().is_some() => {
                let inbound = Inbound { lan, from: channel.slot, header, message };
                self.take_given_back(now, session, &inbound);
            }
            Ok(header) => {
                let inbound = Inbound { lan, from: channel.slot, header, message };
                return self.handle_frame(now, session, &inbound).map(|to| (lan, channel.slot, to));
            }
            Err(TlvError::UnknownKind { .. }) => {
                self.handle_in_band(now, session, lan, channel.slot, message)
            }
            Err(_) => {
                self.lans[lan].server.drop_unread(DropReason::Malformed);
            }
        }
        None
    }

    /// Counts what still comes from a process that another has replaced.
    #[cold]
    fn drop_of_ended(&mut self, session: &Session, message: &Message<'_>) {
        let channel = session.by_channel[usize::from(message.channel.0)];
        if let Some(lan) = channel.lan() {
            self.lans[lan].server.drop_unread(DropReason::StaleBoot);
        }
    }

    /// Gives a frame to whom the LAN's server says: a unicast frame to the member that is returned.
    #[inline]
    fn handle_frame(
        &mut self,
        now: Instant,
        session: &mut Session,
        inbound: &Inbound<'_>,
    ) -> Option<MemberSlot> {
        let Inbound { lan, from, ref header, .. } = *inbound;
        let frame_len = inbound.frame_len();
        let verdict = self.lans[lan].server.handle_frame(now, from, header, inbound.head(), frame_len);
        if let Some((station, to)) = self.lans[lan].server.take_moved() {
            self.station_moved(now, session, (lan, to), station);
        }
        match verdict {
            Verdict::Unicast { to, worth_direct } => {
                self.forward(now, &mut Account::of(session), inbound, to);
                if header.flags & FrameHeader::UNBOUND != 0 {
                    self.answer_unbound(now, session, inbound, to);
                }
                if worth_direct {
                    self.consider_direct(session, lan, from, to);
                }
                return Some(to);
            }
            Verdict::Group => self.give_everybody(now, &mut Account::of(session), inbound),
            Verdict::Joined(row) => self.give_joined(now, &mut Account::of(session), inbound, row),
            Verdict::Arp => self.handle_arp(now, session, inbound),
            Verdict::Outside => self.send_outside(now, &mut Account::of(session), inbound),
            Verdict::Cluster(number) => {
                self.give_cluster(now, &mut Account::of(session), inbound, number);
            }
            Verdict::Copy => self.handle_copy(now, session, inbound),
            Verdict::Drop(reason) => self.note_drop(now, inbound, reason),
        }
        None
    }

    /// The header of a frame that no member has sent: it was made here, or came from outside, and has no number.
    pub(super) fn header_of_nobody(&self, lan: usize, kind: FrameKind, vnet: &Vnet) -> FrameHeader {
        FrameHeader {
            kind,
            flags: 0,
            lan: self.lans[lan].config.id,
            origin: NodeNumber(0),
            origin_vif: VifNumber(0),
            destination_vif: VifNumber(0),
            vnet: *vnet,
            boot: BootTag(0),
            bseq: 0,
        }
    }

    /// Remembers a frame that was dropped.
    #[cold]
    pub(super) fn note_drop(&mut self, now: Instant, inbound: &Inbound<'_>, reason: DropReason) {
        let lan = self.lans[inbound.lan].config.id.0;
        self.drop_examples.note(now, lan, reason, inbound.head(), inbound.frame_len());
    }

    /// Does something for each attached member of a frame's LAN but its sender, gives it outside, and counts the copies.
    #[inline]
    pub(super) fn give_others(
        &mut self,
        now: Instant,
        account: &mut Account<'_>,
        inbound: &Inbound<'_>,
        mut give: impl FnMut(&mut Self, &mut Account<'_>, MemberSlot),
    ) {
        let Inbound { lan, from, .. } = *inbound;
        let mut receivers = 0;
        for slot in 0..self.lans[lan].routes.len() {
            let to = MemberSlot(slot as u16);
            if to != from && self.lans[lan].routes[slot].session.is_some() {
                receivers += 1;
                give(self, account, to);
            }
        }
        self.group_given(now, account, inbound, receivers);
    }

    /// A group frame has gone to `receivers` members: it goes outside too, and the copies are counted.
    #[inline]
    pub(super) fn group_given(
        &mut self,
        now: Instant,
        account: &mut Account<'_>,
        inbound: &Inbound<'_>,
        receivers: usize,
    ) {
        let goes_outside = inbound.from != OUTSIDE && self.lans[inbound.lan].server.has_uplink();
        self.lans[inbound.lan].server.cloned(receivers + usize::from(goes_outside));
        if goes_outside {
            self.send_outside(now, account, inbound);
        }
    }

    //= spec/server.md#binding-notices
    //# A control node MUST answer a relayed frame whose sender has no binding for its destination with a binding
    //# notice.
    fn answer_unbound(&mut self, now: Instant, session: &mut Session, inbound: &Inbound<'_>, to: MemberSlot) {
        let Some(mac) = MacAddress::from_octets(inbound.head()) else { return };
        let location = self.location(inbound.lan, to);
        session.send_control(now, &ControlMessage::Binding { mac, location });
    }

    /// Copies a frame into the ring of the member at `to`: what was checked (the private head) and the shared
    /// rest behind it (amendment 8).
    #[inline]
    pub(super) fn forward(
        &mut self,
        now: Instant,
        account: &mut Account<'_>,
        inbound: &Inbound<'_>,
        to: MemberSlot,
    ) {
        let route = self.lans[inbound.lan].routes[usize::from(to.0)];
        let frame_len = inbound.frame_len();
        let flags = inbound.header.flags & FrameHeader::RESENT;
        let Some(octets) = FrameHeader::readdressed(inbound.message.head, flags, route.vif) else { return };
        let frame = Body { head: inbound.head(), rest: inbound.message.rest };
        let message = Framed { header: octets, frame };
        let lost = self.send(now, account, (inbound.lan, to), route.relay, frame_len, message);
        if let Some(reason) = lost {
            self.note_drop(now, inbound, reason);
        }
    }

    /// Puts a message into the ring of a member of a LAN. While it waits there for room, or for the acknowledgement of
    /// packets, its sender's slot is not settled (amendment 22). Returns why it was dropped, if it was.
    #[inline]
    pub(super) fn send(
        &mut self,
        now: Instant,
        account: &mut Account<'_>,
        (lan, to): (usize, MemberSlot),
        channel: Channel,
        frame_len: usize,
        message: impl Gather,
    ) -> Option<DropReason> {
        let charge = account.charge();
        let place = self.lans[lan].routes[usize::from(to.0)].session;
        let receiver = place.and_then(|place| account.session_at(&mut self.sessions, place));
        let sent = match receiver {
            None => Err(SendError::NoLeg),
            Some(receiver) => receiver.association.send(now, channel, 0, charge, message),
        };
        self.note_sent(now, account, (lan, to), channel, frame_len, sent)
    }

    /// Counts what became of a frame for a member of a LAN; returns why it was dropped, if it was.
    #[inline]
    fn note_sent(
        &mut self,
        now: Instant,
        account: &mut Account<'_>,
        (lan, to): (usize, MemberSlot),
        channel: Channel,
        frame_len: usize,
        sent: Result<Sent, SendError>,
    ) -> Option<DropReason> {
        let place = self.lans[lan].routes[usize::from(to.0)].session;
        let server = &mut self.lans[lan].server;
        match sent {
            Ok(sent) => {
                server.delivered(to, frame_len);
                if let Some(place) = place {
                    self.hold_for(now, account, place, channel, sent, true);
                }
                None
            }
            //= spec/server.md#full-outputs
            //# When a receiver's queue is full the server MUST drop the frame as egress-full and go on.
            Err(error) => {
                let reason = match error {
                    SendError::Full => DropReason::EgressFull,
                    SendError::TooLong { .. } => DropReason::TooLong,
                    _ => DropReason::NotAttached,
                };
                server.drop(reason);
                Some(reason)
            }
        }
    }

    /// The sender keeps what it sent until the receiver, the session at `place`, has it for good.
    #[inline]
    pub(super) fn hold_for(
        &mut self,
        now: Instant,
        account: &mut Account<'_>,
        place: usize,
        channel: Channel,
        sent: Sent,
        is_frame: bool,
    ) {
        let receiver = account.session_at(&mut self.sessions, place);
        let has_packets = receiver.is_some_and(|receiver| receiver.packets.is_some());
        if sent == Sent::Ring && !has_packets {
            return;
        }
        // Nobody keeps what is on nobody's account.
        let Some(held) = account.hold(is_frame) else { return };
        let Some(receiver) = account.session_at(&mut self.sessions, place) else { return };
        if sent == Sent::Parked {
            receiver.waits.park(held);
        } else {
            let number = receiver.association.last_number(channel);
            receiver.waits.send(now, channel, number, held);
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
        let account = &mut Account::of(session);
        let charge = account.charge();
        let Some(place) = route.session else { return };
        let Some(receiver) = account.session_at(&mut self.sessions, place) else { return };
        let sent = receiver.association.send_parts(now, route.relay, 0, charge, &[Part::Private(octets)]);
        // A barrier that finds no room is lost, and tried again by its sender.
        if let Ok(sent) = sent {
            self.hold_for(now, account, place, route.relay, sent, false);
        }
    }

    // --- what associations report ---------------------------------------------------------------------------

    pub(super) fn drain_association_events(&mut self, now: Instant) {
        for place in 0..self.sessions.len() {
            if let Some(session) = &mut self.sessions[place] {
                self.drops.add_many(DropReason::NoChannel, session.association.take_refused());
            }
            self.drain_session_events(now, place);
        }
    }

    pub(super) fn drain_session_events(&mut self, now: Instant, place: usize) {
        while let Some(session) = &mut self.sessions[place]
            && let Some(event) = session.association.poll_event()
        {
            let (node, process) = (session.node, session.process);
            match event {
                AssociationEvent::ParkedSent { charge, channel, number } => {
                    let held = session.waits.unpark(charge);
                    match held {
                        Some(held) if session.packets.is_some() => {
                            session.waits.send(now, channel, number, held);
                        }
                        held => held.into_iter().for_each(|held| self.unhold(now, held)),
                    }
                }
                AssociationEvent::ParkedExpired { charge, channel, .. } => {
                    let held = session.waits.unpark(charge);
                    if is_nobodys(charge) || held.as_ref().is_some_and(|held| held.is_frame) {
                        self.parked_expired(place, channel);
                    }
                    held.into_iter().for_each(|held| self.unhold(now, held));
                }
                AssociationEvent::LegDown(leg, rvi::LegDownReason::Protocol(error)) => {
                    self.log(ControlNodeEvent::LegBroken { node, leg, error });
                    self.outputs.push_back(Output::CloseLeg { node, process, leg });
                    self.handle_leg_gone(now, node, process, leg);
                }
                event => self.packet_event(now, place, event),
            }
        }
    }

    fn parked_expired(&mut self, place: usize, channel: Channel) {
        let Some(session) = &self.sessions[place] else { return };
        if let Some(lan) = session.by_channel[usize::from(channel.0)].lan() {
            self.lans[lan].server.lost_after_delivery(DropReason::Expired, 1);
        }
    }

    /// Lets the senders go whose frames a node has acknowledged.
    pub(super) fn collect_acknowledged(&mut self, now: Instant, place: usize) {
        let Some(session) = &mut self.sessions[place] else { return };
        for held in session.waits.collect(now, &session.association) {
            self.unhold(now, held);
        }
    }

    /// A frame of a session is its receiver's, or lost and counted.
    pub(super) fn unhold(&mut self, now: Instant, held: Held) {
        let owner = self.sessions[held.place].as_mut().filter(|session| session.charge() == held.charge);
        if let Some(owner) = owner {
            owner.association.unhold(now, held.hold);
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
