//! A packet for a cluster: its proxy says to which real server it goes.

use alloc::vec::Vec;

use cluster_proxy::{Forward, Verdict};
use rvi::Part;
use vlan_core::server::MemberSlot;
use vlan_core::wire::frame::{FrameHeader, FrameKind, Vnet};
use vlan_core::{DropReason, Instant, MacAddress};

use crate::control_node::relay::Inbound;
use crate::control_node::session::Account;
use crate::control_node::uplink::OUTSIDE;
use crate::control_node::{ControlNode, Lan};

/// What is done with a packet.
enum To {
    /// This one gets it.
    Server(MemberSlot),
    /// All of these do, and the one that owns its flow takes it.
    Owners(Vec<MemberSlot>),
    /// Its sender gets this.
    Sender(Vec<u8>),
    Nobody(DropReason),
}

impl ControlNode {
    /// Gives a frame to the proxy of a cluster, and to whom that says.
    #[inline(never)]
    pub(in crate::control_node) fn give_cluster(
        &mut self,
        now: Instant,
        account: &mut Account<'_>,
        inbound: &Inbound<'_>,
        number: u16,
    ) {
        let mut frame = core::mem::take(&mut self.cluster_frame);
        frame.clear();
        frame.extend_from_slice(inbound.head());
        let head_len = frame.len();
        frame.resize(inbound.frame_len(), 0);
        inbound.message.rest.copy_to(&mut frame[head_len..]);
        match self.ask_proxy(now, inbound, number, &frame) {
            To::Server(to) => self.give_server(now, account, inbound, (to, 0), &mut frame),
            To::Owners(servers) => {
                self.lans[inbound.lan].server.cloned(servers.len());
                for to in servers {
                    self.give_server(now, account, inbound, (to, FrameHeader::OWNER_ONLY), &mut frame);
                }
            }
            To::Sender(answer) => self.give_sender(now, account, inbound, &answer),
            To::Nobody(reason) => {
                self.lans[inbound.lan].server.drop(reason);
                self.note_drop(now, inbound, reason);
            }
        }
        self.cluster_frame = frame;
    }

    fn ask_proxy(&mut self, now: Instant, inbound: &Inbound<'_>, number: u16, frame: &[u8]) -> To {
        let Some(cluster) = self.lans[inbound.lan].clusters.get_mut(usize::from(number)) else {
            return To::Nobody(DropReason::UnknownDestination);
        };
        //= spec/cluster.md#asked-servers
        //# While some server may not have told all its flows, a control node MUST give a segment of an unknown flow to every server of its row that the proxy names, for the flow's owner alone.
        let verdict = match inbound.header.flags & FrameHeader::RESENT {
            0 => cluster.proxy.handle(now, &inbound.header.vnet, frame),
            _ => cluster.proxy.handle_resent(now, &inbound.header.vnet, frame),
        };
        let names: Vec<MemberSlot> = match verdict {
            Verdict::Forward(Forward { hops, may_refuse, .. }) => match *hops.as_slice() {
                [first, ..] if may_refuse => {
                    return cluster.slot_of(first).map_or(To::Nobody(DropReason::NoServer), To::Server);
                }
                ref hops => hops.to_vec(),
            },
            Verdict::Owners => cluster.proxy.reachable().collect(),
            Verdict::Answer(answer) => return To::Sender(answer.to_vec()),
            Verdict::Dropped(reason) => return To::Nobody(reason),
        };
        let slots: Vec<_> = names.into_iter().filter_map(|name| cluster.slot_of(name)).collect();
        if slots.is_empty() { To::Nobody(DropReason::NoServer) } else { To::Owners(slots) }
    }

    /// Gives a real server a frame, which becomes one for its MAC.
    //= spec/cluster.md#frames-for-servers
    //# A control node MUST give a real server the packets of its flows as they are, with the MAC of its interface as their destination and their sender as their origin.
    fn give_server(
        &mut self,
        now: Instant,
        account: &mut Account<'_>,
        inbound: &Inbound<'_>,
        (to, owner_only): (MemberSlot, u8),
        frame: &mut [u8],
    ) {
        let (route, mac) = {
            let lan = &self.lans[inbound.lan];
            (lan.routes[usize::from(to.0)], lan.member_config(to).mac)
        };
        set_destination(frame, mac);
        let flags = inbound.header.flags & FrameHeader::RESENT | owner_only;
        let header = FrameHeader { flags, destination_vif: route.vif, ..inbound.header };
        let octets = header.emit(frame.len());
        let parts = [Part::Private(&octets), Part::Private(frame)];
        let lost = self.send(now, account, (inbound.lan, to), route.relay, frame.len(), &parts);
        if let Some(reason) = lost {
            self.note_drop(now, inbound, reason);
        }
    }

    /// Gives the sender of a packet an answer that a proxy or the ARP server has made.
    pub(super) fn give_sender(
        &mut self,
        now: Instant,
        account: &mut Account<'_>,
        inbound: &Inbound<'_>,
        answer: &[u8],
    ) {
        let Inbound { lan, from, .. } = *inbound;
        if from == OUTSIDE {
            return self.answer_outside(now, lan, answer);
        }
        let route = self.lans[lan].routes[usize::from(from.0)];
        let header = FrameHeader {
            destination_vif: route.vif,
            ..self.header_of_nobody(lan, FrameKind::Relay, &Vnet::default())
        };
        let octets = header.emit(answer.len());
        let parts = [Part::Private(&octets), Part::Private(answer)];
        if let Some(reason) = self.send(now, account, (lan, from), route.relay, answer.len(), &parts) {
            self.note_drop(now, inbound, reason);
        }
    }

    /// Takes a frame from outside for a cluster, by the MAC that its uplink has given it.
    pub(in crate::control_node) fn cluster_from_outside(
        &mut self,
        now: Instant,
        account: &mut Account<'_>,
        lan: usize,
        vnet: &Vnet,
        frame: &[u8],
    ) {
        self.lans[lan].server.from_outside_for_cluster();
        if self.answer_resolution_outside(now, lan, frame) {
            return;
        }
        let number = MacAddress::from_octets(frame).and_then(|mac| self.lans[lan].server.cluster_of(mac));
        self.as_inbound(lan, OUTSIDE, FrameKind::Relay, vnet, frame, |control, inbound| match number {
            Some(number) => control.give_cluster(now, account, inbound, number),
            None => {
                control.lans[lan].server.drop(DropReason::UnknownDestination);
                control.note_drop(now, inbound, DropReason::UnknownDestination);
            }
        });
    }
}

impl Lan {
    /// Who would get a packet for a cluster: nobody, where the proxy answers it itself. Nothing is changed.
    ///
    /// # Errors
    /// Why it would go nowhere.
    pub(in crate::control_node) fn choose(
        &self,
        now: Instant,
        number: u16,
        vnet: &Vnet,
        frame: &[u8],
    ) -> Result<Vec<MemberSlot>, DropReason> {
        let cluster = self.clusters.get(usize::from(number)).ok_or(DropReason::UnknownDestination)?;
        let mut proxy = cluster.proxy.for_one(vnet, frame);
        let names: Vec<MemberSlot> = match proxy.handle(now, vnet, frame) {
            Verdict::Forward(forward) => forward.hops.as_slice().iter().take(1).copied().collect(),
            Verdict::Owners => proxy.reachable().collect(),
            Verdict::Answer(_) => return Ok(Vec::new()),
            Verdict::Dropped(reason) => return Err(reason),
        };
        let slots: Vec<_> = names.into_iter().filter_map(|name| cluster.slot_of(name)).collect();
        if slots.is_empty() { Err(DropReason::NoServer) } else { Ok(slots) }
    }
}

fn set_destination(frame: &mut [u8], mac: MacAddress) {
    if let Some(octets) = frame.get_mut(..6) {
        octets.copy_from_slice(&mac.0);
    }
}
