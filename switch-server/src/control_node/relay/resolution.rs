//! ARP and ND on their way through the control node: judged whole, shown to the ARP server, and given to whom it says.

use arp_server::{ArpVerdict, Owner};
use rvi::{Message, Part, SharedOctets};
use vlan_core::ethernet::EthernetHeader;
use vlan_core::limits::PRIVATE_HEAD_LEN;
use vlan_core::server::{CLUSTER, MemberSlot, PortSecurity, Verdict};
use vlan_core::wire::frame::{FrameHeader, FrameKind, Vnet};
use vlan_core::{DropReason, Instant, Location};

use super::{Inbound, whole};
use crate::control_node::session::{Account, Session};
use crate::control_node::uplink::OUTSIDE;
use crate::control_node::{ClusterRole, ControlNode, ControlNodeEvent};

impl ControlNode {
    pub(super) fn handle_arp(&mut self, now: Instant, session: &mut Session, inbound: &Inbound<'_>) {
        let Inbound { lan, from, ref header, message } = *inbound;
        // Copied whole: every octet of it is looked at (amendment 8).
        let mut octets = whole(message);
        let frame = &mut octets[header.kind.header_len()..];
        let account = &mut Account::of(session);
        let judged = self.lans[lan].server.check_resolution(from, frame);
        self.note_changed_senders(lan);
        if let Err(reason) = judged {
            self.lans[lan].server.drop(reason);
            self.note_drop(now, inbound, reason);
            return;
        }
        if !self.lans[lan].clusters.is_empty() {
            self.lans[lan].ask_in_own_name(from, frame);
        }
        // What goes on is what was judged.
        let (head, rest) = octets.split_at(octets.len().min(PRIVATE_HEAD_LEN));
        let message = &Message { head, rest: SharedOctets::private(rest), ..*message };
        let (inbound, frame) = (&Inbound { message, ..*inbound }, &octets[header.kind.header_len()..]);
        // Without port security a member may speak for stations behind it, and with it for those that were learned.
        let server = &self.lans[lan].server;
        let checked = server.port_security() != PortSecurity::Off && !server.learns(from);
        let source =
            if checked { None } else { EthernetHeader::parse(frame).map(|ethernet| ethernet.source) };
        let sender_mac = source.unwrap_or(self.lans[lan].member_config(from).mac);
        let verdict = self.lans[lan].arp.handle_frame(frame, Owner(from.0), sender_mac);
        let arp = match &verdict {
            ArpVerdict::Flood { message }
            | ArpVerdict::Unicast { message, .. }
            | ArpVerdict::Answer { message, .. } => *message,
            &ArpVerdict::Drop(reason) => {
                self.lans[lan].server.drop(reason);
                self.note_drop(now, inbound, reason);
                return;
            }
        };
        if let (Some((address, _)), Some(holder)) = (arp.sender, arp.conflict) {
            let lan_id = self.lans[lan].server.id();
            let node = self.lans[lan].member_config(from).node;
            self.log(ControlNodeEvent::AddressConflict { lan: lan_id, address, holder, node });
        }
        if header.flags & FrameHeader::ARP_COPY != 0 {
            // Its original has gone over the direct RVI; this one was for the bindings only.
            self.lans[lan].server.copy_taken();
            return;
        }
        let to = match verdict {
            ArpVerdict::Unicast { to, .. } => to,
            ArpVerdict::Answer { holder: CLUSTER, .. } if self.cluster_role == ClusterRole::StandsBy => {
                self.lans[lan].server.drop(DropReason::StandsBy);
                return self.note_drop(now, inbound, DropReason::StandsBy);
            }
            ArpVerdict::Answer { frame: answer, holder, .. } => {
                self.answer_arp(now, account, inbound, holder, &answer);
                return self.copy_answered(now, account, inbound, holder, (frame, &answer));
            }
            _ => return self.flood_arp(now, account, inbound, frame),
        };
        match self.lans[lan].server.decide_station(now, from, to) {
            Verdict::Unicast { to, .. } => self.forward_arp(now, account, inbound, to, frame),
            Verdict::Outside => self.send_outside(now, account, inbound),
            Verdict::Drop(reason) => self.note_drop(now, inbound, reason),
            Verdict::Group | Verdict::Joined(_) | Verdict::Arp | Verdict::Copy | Verdict::Cluster(_) => {}
        }
    }

    /// Gives an ARP or ND message to every other member, and outside.
    pub(in crate::control_node) fn flood_arp(
        &mut self,
        now: Instant,
        account: &mut Account<'_>,
        inbound: &Inbound<'_>,
        frame: &[u8],
    ) {
        self.give_others(now, account, inbound, |control, account, to| {
            control.forward_arp(now, account, inbound, to, frame);
        });
    }

    //= spec/arp.md#locations
    //# The control node MUST write the sender's location, as it knows it, into the header of every ARP and ND message
    //# that it passes on.
    pub(in crate::control_node) fn forward_arp(
        &mut self,
        now: Instant,
        account: &mut Account<'_>,
        inbound: &Inbound<'_>,
        to: MemberSlot,
        frame: &[u8],
    ) {
        let is_local = inbound.from != OUTSIDE;
        let source = if is_local { self.location(inbound.lan, inbound.from) } else { Location::default() };
        let target = self.location(inbound.lan, to);
        let route = self.lans[inbound.lan].routes[usize::from(to.0)];
        let local = if is_local { FrameHeader::ARP_LOCAL } else { 0 };
        let header = FrameHeader {
            kind: FrameKind::Arp,
            flags: inbound.header.flags | local,
            destination_vif: route.vif,
            ..inbound.header
        };
        let octets = header.emit_arp(&source, &target, frame.len());
        let parts = [Part::Private(&octets), Part::Private(frame)];
        let lost = self.send(now, account, (inbound.lan, to), route.arp, frame.len(), &parts);
        if let Some(reason) = lost {
            self.note_drop(now, inbound, reason);
        }
    }

    /// Gives the sender of a request the answer that the ARP server made in the name of `holder`.
    fn answer_arp(
        &mut self,
        now: Instant,
        account: &mut Account<'_>,
        inbound: &Inbound<'_>,
        holder: MemberSlot,
        frame: &[u8],
    ) {
        let Inbound { lan, from, .. } = *inbound;
        let (source, target) = (self.location(lan, holder), self.location(lan, from));
        let route = self.lans[lan].routes[usize::from(from.0)];
        let header = FrameHeader {
            flags: FrameHeader::ARP_LOCAL,
            destination_vif: route.vif,
            ..self.header_of_nobody(lan, FrameKind::Arp, &Vnet::default())
        };
        let octets = header.emit_arp(&source, &target, frame.len());
        let parts = [Part::Private(&octets), Part::Private(frame)];
        let lost = self.send(now, account, (lan, from), route.arp, frame.len(), &parts);
        if let Some(reason) = lost {
            self.note_drop(now, inbound, reason);
        }
    }

    /// Where a member is. Its direct RVI is not told here: grants are.
    pub(in crate::control_node) fn location(&self, lan: usize, slot: MemberSlot) -> Location {
        if slot == CLUSTER {
            // By way of the control node, and never direct (S147).
            let lan = self.lans[lan].server.id();
            return Location { cabinet: self.config.cabinet, lan, ..Location::default() };
        }
        let member = self.lans[lan].member_config(slot);
        let process = self.lans[lan].server.member(slot).and_then(|member| member.process);
        Location {
            cabinet: self.config.cabinet,
            node: member.node,
            vif: member.vif,
            lan: self.lans[lan].server.id(),
            generation: process.unwrap_or_default().0,
            ..Location::default()
        }
    }
}
