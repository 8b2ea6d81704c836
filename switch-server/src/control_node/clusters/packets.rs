//! A packet for a cluster: its proxy says to which real server it goes.

use alloc::vec::Vec;

use cluster_proxy::{Manner, Verdict};
use rvi::Part;
use vlan_core::ethernet::EthernetHeader;
use vlan_core::ip::Packet;
use vlan_core::server::MemberSlot;
use vlan_core::wire::frame::{FrameHeader, FrameKind, Vnet};
use vlan_core::{DropReason, Instant, MacAddress};

use super::{Cluster, ClusterRole, server_name};
use crate::control_node::relay::Inbound;
use crate::control_node::session::{Account, Session};
use crate::control_node::uplink::OUTSIDE;
use crate::control_node::{ControlNode, Lan};

/// What is done with a packet.
enum To {
    /// This one gets it, with these flags.
    Server(MemberSlot, u8),
    /// All of these do, and the one that owns its flow takes it.
    Owners(Vec<MemberSlot>),
    /// Its sender gets this.
    Sender(Vec<u8>),
    Nobody(DropReason),
}

impl Cluster {
    /// Where a server is that is asked whether it owns a flow.
    fn ask(&mut self, name: MemberSlot) -> Option<MemberSlot> {
        let server = self.server_mut(name)?;
        server.asked += 1;
        server.slot
    }

    /// These servers have a frame, and the one that owns its flow takes it.
    fn ask_all(&mut self, names: &[MemberSlot]) -> To {
        let slots: Vec<_> = names.iter().filter_map(|name| self.ask(*name)).collect();
        if slots.is_empty() { To::Nobody(DropReason::NoServer) } else { To::Owners(slots) }
    }
}

impl ControlNode {
    /// A real server gives back what it was given to pass on.
    #[cold]
    pub(in crate::control_node) fn take_given_back(
        &mut self,
        now: Instant,
        session: &mut Session,
        inbound: &Inbound<'_>,
    ) {
        let lan = &mut self.lans[inbound.lan];
        lan.server.from_server();
        // Its destination is the server's own now.
        let ethertype = EthernetHeader::parse(inbound.head()).map(|ethernet| ethernet.ethertype);
        let packet = ethertype.and_then(|kind| Packet::read(inbound.head(), kind, true).ok().flatten());
        match packet.and_then(|packet| lan.cluster_of(packet.destination)) {
            Some(number) => self.give_cluster(now, &mut Account::of(session), inbound, number),
            None => {
                lan.server.drop(DropReason::NotGiven);
                self.note_drop(now, inbound, DropReason::NotGiven);
            }
        }
    }

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
            To::Server(to, flags) => self.give_server(now, account, inbound, (to, flags), &mut frame),
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
        //= spec/cluster.md#standing-by
        //# A control node that stands by MUST give no server a packet for a cluster address, answer no ARP or ND request for one, and not announce it; what it is given it MUST drop as `stands-by`.
        if self.cluster_role == ClusterRole::StandsBy {
            return To::Nobody(DropReason::StandsBy);
        }
        let Lan { clusters, routes, .. } = &mut self.lans[inbound.lan];
        let Some(cluster) = clusters.get_mut(usize::from(number)) else {
            return To::Nobody(DropReason::UnknownDestination);
        };
        let header = &inbound.header;
        let verdict = match header.hop().zip(routes.get(usize::from(inbound.from.0))) {
            Some((_, from)) => cluster.proxy.handle_given_back(now, server_name(from.node), header, frame),
            None if header.flags & FrameHeader::RESENT != 0 => {
                cluster.proxy.handle_resent(now, &header.vnet, frame)
            }
            None => cluster.proxy.handle(now, &header.vnet, frame),
        };
        let forward = match verdict {
            Verdict::Forward(forward) => forward,
            Verdict::Owners => {
                let names: Vec<_> = cluster.proxy.reachable().collect();
                return cluster.ask_all(&names);
            }
            Verdict::Answer(answer) => return To::Sender(answer.to_vec()),
            Verdict::Dropped(reason) => return To::Nobody(reason),
        };
        //= spec/cluster.md#asked-servers
        //# While some server may not have told all its flows, a control node MUST give a segment of an unknown flow to every server of its row that the proxy names, for the flow's owner alone.
        let (to, flags) = match cluster.proxy.manner(now, &forward, header, frame) {
            Manner::Plain(to) => (cluster.slot_of(to), 0),
            Manner::PassOn(to, hop) => (cluster.ask(to), FrameHeader::flags_of_hop(hop)),
            Manner::OwnerOnly(servers) => return cluster.ask_all(servers.as_slice()),
        };
        to.map_or(To::Nobody(DropReason::NoServer), |slot| To::Server(slot, flags))
    }

    /// Gives a real server a frame, which becomes one for its MAC.
    //= spec/cluster.md#frames-for-servers
    //# A control node MUST give a real server the packets of its flows as they are, with the MAC of its interface as their destination and their sender as their origin.
    fn give_server(
        &mut self,
        now: Instant,
        account: &mut Account<'_>,
        inbound: &Inbound<'_>,
        (to, flags): (MemberSlot, u8),
        frame: &mut [u8],
    ) {
        let (route, mac) = {
            let lan = &self.lans[inbound.lan];
            (lan.routes[usize::from(to.0)], lan.member_config(to).mac)
        };
        set_destination(frame, mac);
        let (kind, flags) = (FrameKind::Relay, inbound.header.flags & FrameHeader::RESENT | flags);
        let header = FrameHeader { kind, flags, destination_vif: route.vif, ..inbound.header };
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

/// Who would get a packet for a cluster.
pub(in crate::control_node) struct Chosen {
    /// Nobody, where the proxy answers it itself.
    pub servers: Vec<MemberSlot>,
    /// They are asked for the owner of its flow.
    pub are_asked: bool,
}

impl Lan {
    /// Who would get a packet for a cluster. Nothing is changed.
    ///
    /// # Errors
    /// Why it would go nowhere.
    pub(in crate::control_node) fn choose(
        &self,
        now: Instant,
        number: u16,
        vnet: &Vnet,
        frame: &[u8],
    ) -> Result<Chosen, DropReason> {
        let cluster = self.clusters.get(usize::from(number)).ok_or(DropReason::UnknownDestination)?;
        let mut proxy = cluster.proxy.for_one(vnet, frame);
        let (names, are_asked): (Vec<MemberSlot>, _) = match proxy.handle(now, vnet, frame) {
            Verdict::Forward(forward) => {
                let hops = forward.hops.as_slice();
                (hops.to_vec(), hops.len() > 1 || !forward.may_refuse)
            }
            Verdict::Owners => (proxy.reachable().collect(), true),
            Verdict::Answer(_) => return Ok(Chosen { servers: Vec::new(), are_asked: false }),
            Verdict::Dropped(reason) => return Err(reason),
        };
        let servers: Vec<_> = names.into_iter().filter_map(|name| cluster.slot_of(name)).collect();
        if servers.is_empty() { Err(DropReason::NoServer) } else { Ok(Chosen { servers, are_asked }) }
    }
}

fn set_destination(frame: &mut [u8], mac: MacAddress) {
    if let Some(octets) = frame.get_mut(..6) {
        octets.copy_from_slice(&mac.0);
    }
}
