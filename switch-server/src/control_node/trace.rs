//! Traces: what this control node would do with a message of a node, said by copies of the servers that would do it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use arp_server::{ArpVerdict, Owner};
use vlan_core::ethernet::EthernetHeader;
use vlan_core::limits::PRIVATE_HEAD_LEN;
use vlan_core::server::{CLUSTER, LanServer, MemberSlot, PortSecurity, Verdict};
use vlan_core::wire::control::{ControlMessage, TraceOrder, TraceStep};
use vlan_core::wire::frame::{ARP_HEADER_LEN, FrameHeader, FrameKind};
use vlan_core::{DropReason, Instant, NodeNumber, VifNumber};

use crate::control_node::clusters::Chosen;
use crate::control_node::{ClusterRole, ControlNode};

/// What a control node would do with a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Its decisions, in their order.
    pub steps: Vec<TraceStep>,
    /// Who would be given what.
    pub receivers: Vec<Receiver>,
}

/// A member that would be given a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// Its node.
    pub node: NodeNumber,
    /// Its interface.
    pub vif: VifNumber,
    /// The message.
    pub message: Vec<u8>,
}

impl ControlNode {
    /// Asks the node what it would do with a frame; [`super::Output::Traced`] brings the answer. False when it is not
    /// attached.
    pub fn trace(&mut self, now: Instant, node: NodeNumber, order: TraceOrder) -> bool {
        let is_sent = self.send_to_node(now, node, &ControlMessage::Trace(order));
        self.publish(now);
        is_sent
    }

    /// What would become of a message of the member `vif` of `node`.
    //= spec/trace.md#no-trace-is-left
    //# A trace MUST change nothing: no counter, no number, no binding and no frame of anybody.
    #[must_use]
    pub fn judge(&self, now: Instant, node: NodeNumber, vif: VifNumber, message: &[u8]) -> Judgement {
        let mut judgement = Judgement::default();
        let private = &message[..message.len().min(PRIVATE_HEAD_LEN)];
        let Ok(header) = FrameHeader::parse(private, message.len()) else {
            judgement.drop("the control node", DropReason::Malformed);
            return judgement;
        };
        let is_member = |lan: &super::Lan| {
            let place = lan.routes.iter().position(|route| (route.node, route.vif) == (node, vif));
            place.map(|place| MemberSlot(place as u16))
        };
        let found = self.lans.iter().enumerate().find_map(|(place, lan)| Some((place, is_member(lan)?)));
        let Some((lan, from)) = found else {
            judgement.drop("the control node", DropReason::NotMember);
            return judgement;
        };
        let (head, frame) = (&private[header.kind.header_len()..], &message[header.kind.header_len()..]);
        let mut server = self.lans[lan].server.clone();
        match server.handle_frame(now, from, &header, head, frame.len()) {
            Verdict::Drop(reason) => judgement.drop(&server_of(&server), reason),
            Verdict::Unicast { to, worth_direct } => {
                let what = format!("{} finds the member with that address", server_of(&server));
                judgement.step(what, "spec/server.md#admission");
                if worth_direct {
                    judgement.step("the pair is worth a direct RVI".into(), "spec/server.md#direct-rvis");
                }
                self.give(&mut judgement, lan, to, &header, frame);
            }
            Verdict::Group => {
                let what =
                    format!("{} gives a group frame to every other attached member", server_of(&server));
                judgement.step(what, "spec/server.md#group-frames");
                self.give_all(&mut judgement, lan, from, &header, frame);
                self.judge_outside(&mut judgement, now, lan, &header, frame);
            }
            Verdict::Joined(row) => {
                let what = format!("{} gives it to the members that want this group", server_of(&server));
                judgement.step(what, "spec/multicast.md#joined-members");
                let wants = |slot| server.wants(row, slot);
                self.give_wanted(&mut judgement, (lan, from), (&header, frame), wants);
                if judgement.receivers.is_empty() {
                    let what = "no other member has joined it".into();
                    judgement.step(what, "spec/multicast.md#joined-members");
                }
                self.judge_outside(&mut judgement, now, lan, &header, frame);
            }
            Verdict::Outside => self.judge_outside(&mut judgement, now, lan, &header, frame),
            Verdict::Cluster(number) => {
                self.judge_cluster(&mut judgement, now, (lan, number), (&header, frame));
            }
            Verdict::Copy => {
                let what = format!("{} gives a copy to its listener, if it is one", server_of(&server));
                judgement.step(what, "spec/promiscuous.md#relayed-copies");
            }
            Verdict::Arp => self.judge_arp(&mut judgement, now, (lan, from), (&header, frame), &mut server),
        }
        judgement
    }

    fn judge_arp(
        &self,
        judgement: &mut Judgement,
        now: Instant,
        (lan, from): (usize, MemberSlot),
        (header, frame): (&FrameHeader, &[u8]),
        server: &mut LanServer,
    ) {
        if let Err(reason) = server.check_resolution(from, frame) {
            judgement.drop(&server_of(server), reason);
            return;
        }
        let own = self.lans[lan].member_config(from).mac;
        let source = EthernetHeader::parse(frame).map_or(own, |ethernet| ethernet.source);
        let is_any = server.port_security() == PortSecurity::Off || server.learns(from);
        let mac = if is_any { source } else { own };
        match self.lans[lan].arp.clone().handle_frame(frame, Owner(from.0), mac) {
            ArpVerdict::Drop(reason) => judgement.drop("the ARP server", reason),
            ArpVerdict::Flood { message } => {
                judgement.learned(&message);
                let what = "the ARP server: to every other member".into();
                judgement.step(what, "spec/arp.md#who-gets-a-message");
                self.give_all(judgement, lan, from, header, frame);
                self.judge_outside(judgement, now, lan, header, frame);
            }
            ArpVerdict::Answer { message, holder, .. } => {
                judgement.learned(&message);
                let (name, rule) = if holder == CLUSTER {
                    ("a cluster".into(), "spec/arp.md#reserved-addresses")
                } else {
                    (self.lans[lan].member_config(holder).mac.to_string(), "spec/arp.md#suppression")
                };
                let what = format!("the ARP server answers in the name of {name}; nobody gets it");
                judgement.step(what, rule);
            }
            ArpVerdict::Unicast { to, message } => {
                judgement.learned(&message);
                let what = format!("the ARP server: to the member with {to}");
                judgement.step(what, "spec/arp.md#who-gets-a-message");
                match server.decide_station(now, from, to) {
                    Verdict::Unicast { to, .. } => self.give(judgement, lan, to, header, frame),
                    Verdict::Drop(reason) => judgement.drop(&server_of(server), reason),
                    Verdict::Outside => self.judge_outside(judgement, now, lan, header, frame),
                    Verdict::Group
                    | Verdict::Joined(_)
                    | Verdict::Arp
                    | Verdict::Copy
                    | Verdict::Cluster(_) => {}
                }
            }
        }
    }

    fn judge_cluster(
        &self,
        judgement: &mut Judgement,
        now: Instant,
        (lan, number): (usize, u16),
        (header, frame): (&FrameHeader, &[u8]),
    ) {
        let chosen = match self.cluster_role {
            ClusterRole::Has => self.lans[lan].choose(now, number, &header.vnet, frame),
            ClusterRole::StandsBy => Err(DropReason::StandsBy),
        };
        match chosen {
            Err(reason) => judgement.drop("the cluster's proxy", reason),
            Ok(Chosen { servers, .. }) if servers.is_empty() => {
                judgement.step("the cluster's proxy answers it".into(), "spec/cluster.md#echo");
            }
            Ok(Chosen { servers, are_asked }) => {
                let (what, rule, flags) = if are_asked {
                    let what = "the cluster's proxy asks these servers for the owner of its flow";
                    (what, "spec/cluster.md#segments-of-unknown-flows", FrameHeader::OWNER_ONLY)
                } else {
                    ("the cluster's proxy names who gets it", "spec/cluster.md#new-flows", 0)
                };
                judgement.step(what.into(), rule);
                for to in servers {
                    self.give_with(judgement, (lan, to), flags, header, frame);
                }
            }
        }
    }

    fn give_all(
        &self,
        judgement: &mut Judgement,
        lan: usize,
        from: MemberSlot,
        header: &FrameHeader,
        frame: &[u8],
    ) {
        self.give_wanted(judgement, (lan, from), (header, frame), |_| true);
        if judgement.receivers.is_empty() {
            judgement.step("no other member is attached".into(), "spec/server.md#group-frames");
        }
    }

    /// What the LAN's uplink, if it has one, makes of a frame of a member.
    fn judge_outside(
        &self,
        judgement: &mut Judgement,
        now: Instant,
        lan: usize,
        header: &FrameHeader,
        frame: &[u8],
    ) {
        match self.outside_of(now, lan, &header.vnet, frame) {
            None => {}
            Some(Err(reason)) => judgement.drop("the uplink", reason),
            Some(Ok(frames)) => {
                let what = format!("the uplink sends it outside, in frames: {frames}");
                judgement.step(what, "spec/uplink.md#outward");
            }
        }
    }

    /// To each attached member but the sender that `wants` it.
    fn give_wanted(
        &self,
        judgement: &mut Judgement,
        (lan, from): (usize, MemberSlot),
        (header, frame): (&FrameHeader, &[u8]),
        wants: impl Fn(MemberSlot) -> bool,
    ) {
        for slot in (0..self.lans[lan].routes.len()).map(|slot| MemberSlot(slot as u16)) {
            let is_attached = self.lans[lan].routes[usize::from(slot.0)].session.is_some();
            if slot != from && is_attached && wants(slot) {
                self.give(judgement, lan, slot, header, frame);
            }
        }
    }

    fn give(
        &self,
        judgement: &mut Judgement,
        lan: usize,
        to: MemberSlot,
        header: &FrameHeader,
        frame: &[u8],
    ) {
        self.give_with(judgement, (lan, to), 0, header, frame);
    }

    /// The same with flags in its header.
    fn give_with(
        &self,
        judgement: &mut Judgement,
        (lan, to): (usize, MemberSlot),
        flags: u8,
        header: &FrameHeader,
        frame: &[u8],
    ) {
        let route = self.lans[lan].routes[usize::from(to.0)];
        let header = FrameHeader { destination_vif: route.vif, flags, ..*header };
        let octets = match header.kind {
            FrameKind::Arp => {
                let nowhere = vlan_core::Location::default();
                let octets: [u8; ARP_HEADER_LEN] = header.emit_arp(&nowhere, &nowhere, frame.len());
                octets.to_vec()
            }
            _ => header.emit(frame.len()).to_vec(),
        };
        let message = [&octets[..], frame].concat();
        judgement.receivers.push(Receiver { node: route.node, vif: route.vif, message });
    }
}

fn server_of(server: &LanServer) -> String {
    format!("the server of {}", server.name())
}

impl Judgement {
    fn step(&mut self, what: String, rule: &str) {
        self.steps.push(TraceStep { what, rule: rule.into() });
    }

    fn drop(&mut self, who: &str, reason: DropReason) {
        self.step(format!("{who} drops it: {reason}"), reason.rule());
    }

    fn learned(&mut self, message: &arp_server::ArpMessage) {
        if let (Some((address, mac)), true) = (message.sender, message.learned) {
            self.step(format!("the ARP server learns that {address} is at {mac}"), "spec/arp.md#learning");
        }
        if let (Some((address, _)), Some(holder)) = (message.sender, message.conflict) {
            let what = format!("another member holds {address}: {holder}");
            self.step(what, "spec/arp.md#conflicts-stay-visible");
        }
    }
}
