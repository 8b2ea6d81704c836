//! From outside: a frame that a proxy has let in goes to the members that are to have it, from nobody of the LAN.

use lan_proxy::Inward;
use rvi::{Message, Part, SharedOctets};
use vlan_core::ethernet::{EthernetHeader, is_neighbour_resolution};
use vlan_core::limits::PRIVATE_HEAD_LEN;
use vlan_core::server::{CLUSTER, MemberSlot, Verdict};
use vlan_core::wire::frame::{FRAME_HEADER_LEN, FrameHeader, FrameKind, Vnet};
use vlan_core::{Channel, DropReason, Instant, LegNumber};

use super::{DeviceNumber, InsideOf, OUTSIDE, Uplinks};
use crate::control_node::ControlNode;
use crate::control_node::relay::Inbound;
use crate::control_node::session::Account;

impl ControlNode {
    /// Takes a frame that has come in by a device, as it was on the wire, and changes it in place. [`Self::pump`] makes visible what has
    /// become of it.
    pub fn handle_outside(&mut self, now: Instant, device: DeviceNumber, vnet: &Vnet, frame: &mut [u8]) {
        if self.leaving.is_some() {
            return;
        }
        let Uplinks { ports, links, own, .. } = &mut self.uplinks;
        let Some(port) = ports.get_mut(usize::from(device.0)) else { return };
        // What is no LAN's is counted there.
        let Ok((link, vnet, frame)) = port.trunk.untag(vnet, frame) else { return };
        let Some(link) = links.get_mut(usize::from(link)) else { return };
        let lan = link.lan;
        let inside = InsideOf { lans: &self.lans, lan, own, serial: self.config.serial };
        let account = &mut Account::outside();
        let verdict = link.proxy.inward(now, &vnet, frame, &inside);
        let is_for_listeners = verdict == Inward::Dropped(DropReason::UnknownDestination)
            && self.lans[lan].server.has_listeners();
        if !matches!(verdict, Inward::Dropped(_)) || is_for_listeners {
            self.uplinks.taps.take(now, self.lans[lan].config.id, false, frame);
        }
        match verdict {
            Inward::Member(CLUSTER) => self.cluster_from_outside(now, account, lan, &vnet, frame),
            Inward::Member(to) => {
                self.give_member(now, account, lan, to, &vnet, frame);
                self.copy_from_outside(now, account, (lan, Some(to)), &vnet, frame);
            }
            Inward::Group => self.give_group(now, account, lan, &vnet, frame),
            Inward::Dropped(_) if is_for_listeners => {
                self.lans[lan].server.from_outside_for_listeners();
                self.copy_from_outside(now, account, (lan, None), &vnet, frame);
            }
            Inward::Dropped(reason) => {
                let lan = self.lans[lan].config.id.0;
                self.drop_examples.note(now, lan, reason, frame, frame.len());
            }
        }
    }

    /// Gives a member a frame that nobody of its LAN has sent.
    //= spec/uplink.md#frames-of-no-member
    //# A control node MUST give members what comes from outside, or is made by an uplink, with node 0 as its origin and, in ARP and
    //# ND, with the location of nobody.
    pub(super) fn give_member(
        &mut self,
        now: Instant,
        account: &mut Account<'_>,
        lan: usize,
        to: MemberSlot,
        vnet: &Vnet,
        frame: &[u8],
    ) {
        self.as_inbound(lan, OUTSIDE, FrameKind::Relay, vnet, frame, |control, inbound| {
            match control.lans[lan].server.decide_from_outside(to) {
                Verdict::Unicast { to, .. } if is_resolution(frame) => {
                    control.forward_arp(now, account, inbound, to, frame);
                }
                Verdict::Unicast { to, .. } => control.forward(now, account, inbound, to),
                _ => control.note_drop(now, inbound, DropReason::NotAttached),
            }
        });
    }

    fn give_group(&mut self, now: Instant, account: &mut Account<'_>, lan: usize, vnet: &Vnet, frame: &[u8]) {
        self.as_inbound(lan, OUTSIDE, FrameKind::Group, vnet, frame, |control, inbound| {
            match control.lans[lan].server.decide_group_from_outside(frame) {
                Verdict::Group => control.give_everybody(now, account, inbound),
                Verdict::Joined(row) => control.give_joined(now, account, inbound, row),
                Verdict::Arp if control.answer_resolution_outside(now, lan, frame) => {}
                Verdict::Arp => control.flood_arp(now, account, inbound, frame),
                Verdict::Drop(reason) => control.note_drop(now, inbound, reason),
                Verdict::Unicast { .. } | Verdict::Outside | Verdict::Copy | Verdict::Cluster(_) => {}
            }
        });
    }

    /// Gives each listener of the LAN but the receiver, if there is one, a copy.
    //= spec/uplink.md#copies-for-listeners
    //# A control node MUST give each promiscuous listener of a LAN a copy of every unicast frame from outside that goes to another
    //# member.
    fn copy_from_outside(
        &mut self,
        now: Instant,
        account: &mut Account<'_>,
        (lan, receiver): (usize, Option<MemberSlot>),
        vnet: &Vnet,
        frame: &[u8],
    ) {
        if !self.lans[lan].server.has_listeners() {
            return;
        }
        let listeners = self.lans[lan].server.listeners().to_vec();
        for to in listeners.into_iter().filter(|to| Some(*to) != receiver) {
            let route = self.lans[lan].routes[usize::from(to.0)];
            let header = FrameHeader {
                destination_vif: route.vif,
                ..self.header_of_nobody(lan, FrameKind::Promiscuous, vnet)
            };
            let octets = header.emit_promiscuous(route.node, frame.len());
            let parts = [Part::Private(&octets), Part::Private(frame)];
            self.lans[lan].server.copy_made();
            self.offer_copy(now, account, (lan, to), frame.len(), &parts);
        }
    }

    /// Does something with a frame as if it had come in a message of a member, with a header of its own.
    pub(in crate::control_node) fn as_inbound(
        &mut self,
        lan: usize,
        from: MemberSlot,
        kind: FrameKind,
        vnet: &Vnet,
        frame: &[u8],
        act: impl FnOnce(&mut Self, &Inbound<'_>),
    ) {
        let header = self.header_of_nobody(lan, kind, vnet);
        let header_len = kind.header_len();
        let mut head = [0; PRIVATE_HEAD_LEN];
        let (front, rest) = frame.split_at(frame.len().min(PRIVATE_HEAD_LEN - header_len));
        head[..FRAME_HEADER_LEN].copy_from_slice(&header.emit(frame.len()));
        head[header_len..][..front.len()].copy_from_slice(front);
        let message = Message {
            channel: Channel(0),
            leg: LegNumber(0),
            len: header_len + frame.len(),
            head: &head[..header_len + front.len()],
            rest: SharedOctets::private(rest),
        };
        act(self, &Inbound { lan, from, header, message: &message });
    }
}

fn is_resolution(frame: &[u8]) -> bool {
    EthernetHeader::parse(frame).is_some_and(|ethernet| is_neighbour_resolution(ethernet.ethertype, frame))
}
