//! Traces: what this node would do with a frame, said by copies of the drivers that would do it.
//!
//! Nothing happens to any frame here: a copy of the interface's driver decides, and is thrown away with its counters and
//! numbers. Rules: `spec/trace.md`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use vlan_core::driver::{Driver, Egress, Ingress, Path};
use vlan_core::limits::{PRIVATE_HEAD_LEN, TRACED_OCTETS_MAX};
use vlan_core::wire::control::{ControlMessage, TraceEnd, TraceOrder, TraceStep, TraceWay, Traced};
use vlan_core::wire::frame::{FrameHeader, FrameKind, Vnet};
use vlan_core::{DropReason, Instant, Location, NodeNumber, VifNumber};

use crate::node::Node;
use crate::node::interface::Interface;

/// A trace under way.
struct Trace(Traced);

impl Node {
    /// Answers what would become of a frame.
    //= spec/trace.md#no-trace-is-left
    //# A trace MUST change nothing: no counter, no number, no binding and no frame of anybody.
    pub(super) fn handle_trace(&mut self, now: Instant, index: usize, order: &TraceOrder) {
        let traced = self.trace(now, order);
        self.send_control(now, index, &ControlMessage::Traced(traced));
    }

    pub(super) fn trace(&self, now: Instant, order: &TraceOrder) -> Traced {
        let (peer, peer_vif) = (NodeNumber(0), VifNumber(0));
        let (steps, message) = (Vec::new(), Vec::new());
        let mut trace =
            Trace(Traced { id: order.id, steps, end: TraceEnd::Dropped, peer, peer_vif, message });
        let interface = self.interface(order.vif).filter(|_| order.octets.len() <= TRACED_OCTETS_MAX);
        match (interface, order.way) {
            (None, _) => trace.drop("the node", DropReason::InterfaceDown),
            (Some(interface), TraceWay::FromStack) => {
                self.trace_egress(&mut trace, &interface.driver, &order.octets);
            }
            (Some(interface), way) => {
                trace.ingress(now, interface, way, order.peer, &order.octets);
            }
        }
        trace.0
    }

    fn trace_egress(&self, trace: &mut Trace, driver: &Driver, frame: &[u8]) {
        let head = &frame[..frame.len().min(PRIVATE_HEAD_LEN)];
        let vnet = Vnet::default();
        let egress = driver.classify(&vnet, head, frame.len());
        match egress {
            Egress::Drop(reason) => trace.drop("the driver", reason),
            Egress::Hold { peer } => {
                let node = driver.peer(peer).map_or(NodeNumber(0), |peer| peer.node);
                trace.step(
                    format!("frames to node {node} are moving to another way"),
                    "spec/driver.md#barrier",
                );
                trace.hold();
            }
            Egress::Direct { peer, node, channel, copy_to_server } => {
                let what = format!(
                    "the destination is bound to node {node}, which has a direct RVI: channel {channel}"
                );
                trace.step(what, "spec/driver.md#barrier");
                if copy_to_server {
                    let what = "the control node gets a copy of a neighbour's probe".into();
                    trace.step(what, "spec/driver.md#neighbour-probes-of-bound-neighbours");
                }
                let link = self.direct_to(node).and_then(|place| self.direct[place].as_ref());
                match (link, driver.direct_header(peer, &vnet, frame.len())) {
                    (Some(link), Some(header))
                        if link.association.is_up() && !link.association.is_stalled() =>
                    {
                        let peer_vif = driver.peer(peer).map_or(VifNumber(0), |peer| peer.vif);
                        trace.go_on(TraceEnd::Direct, node, peer_vif, &[&header, frame]);
                    }
                    _ => {
                        trace.step(
                            "no leg of that RVI is up, or its peer stands still".into(),
                            "spec/rvi.md#legs",
                        );
                        trace.hold();
                    }
                }
            }
            Egress::Relay { .. } | Egress::Group | Egress::Arp => {
                if let Some(header) = driver.server_header(egress, &vnet) {
                    self.trace_to_server(trace, driver, egress, &header, frame);
                }
            }
        }
    }

    fn trace_to_server(
        &self,
        trace: &mut Trace,
        driver: &Driver,
        egress: Egress,
        header: &FrameHeader,
        frame: &[u8],
    ) {
        if egress == Egress::Arp {
            trace.step("ARP and ND go to the control node".into(), "spec/arp.md#who-gets-a-message");
            let nowhere = Location::default();
            let octets = header.emit_arp(&nowhere, &nowhere, frame.len());
            self.trace_relay(trace, self.control_node_for(header, frame), &octets, frame);
        } else {
            let is_bound = matches!(egress, Egress::Relay { peer: Some(_) });
            let (what, rule) = relay_step(driver, is_bound, header);
            trace.step(what, rule);
            self.trace_relay(trace, self.control_node_for(header, frame), &header.emit(frame.len()), frame);
        }
    }

    fn trace_relay(&self, trace: &mut Trace, control_node: Option<usize>, header: &[u8], frame: &[u8]) {
        match control_node {
            Some(index) => {
                trace.step(
                    format!("control node {index} has this node attached"),
                    "spec/server.md#registration",
                );
                trace.go_on(TraceEnd::Relay, NodeNumber(0), VifNumber(0), &[header, frame]);
            }
            None => {
                trace.step("no control node has this node attached".into(), "spec/server.md#registration");
                trace.hold();
            }
        }
    }
}

/// Why a frame goes by the control node.
fn relay_step(driver: &Driver, is_bound: bool, header: &FrameHeader) -> (String, &'static str) {
    let bseq = header.bseq;
    match header.kind {
        FrameKind::Group => {
            let what = format!(
                "a group frame of {} goes to the control node as number {bseq}",
                driver.config().name
            );
            (what, "spec/server.md#group-frames")
        }
        _ if is_bound => {
            let what =
                format!("the destination is bound, and its node has no direct RVI: relay, number {bseq}");
            (what, "spec/server.md#direct-rvis")
        }
        _ => {
            let what = format!("the destination has no binding here: relay, number {bseq}");
            (what, "spec/driver.md#unbound-destinations")
        }
    }
}

impl Trace {
    fn step(&mut self, what: String, rule: &str) {
        self.0.steps.push(TraceStep { what, rule: rule.into() });
    }

    fn drop(&mut self, who: &str, reason: DropReason) {
        self.step(format!("{who} drops it: {reason}"), reason.rule());
        self.0.end = TraceEnd::Dropped;
    }

    fn hold(&mut self) {
        let what = "it is held for 50 ms at most, and sent when a way is there".into();
        self.step(what, "spec/driver.md#held-frames");
        self.0.end = TraceEnd::Held;
    }

    fn go_on(&mut self, end: TraceEnd, peer: NodeNumber, peer_vif: VifNumber, parts: &[&[u8]]) {
        (self.0.end, self.0.peer, self.0.peer_vif) = (end, peer, peer_vif);
        self.0.message = parts.concat();
    }

    /// What the driver does with a message; a copy of it does, whose counters and windows nobody sees.
    fn ingress(
        &mut self,
        now: Instant,
        interface: &Interface,
        way: TraceWay,
        peer: NodeNumber,
        message: &[u8],
    ) {
        let mut driver = interface.driver.clone();
        let private = &message[..message.len().min(PRIVATE_HEAD_LEN)];
        let Ok(header) = FrameHeader::parse(private, message.len()) else {
            return self.drop("the driver", DropReason::Malformed);
        };
        let header_len = header.kind.header_len();
        let (head, frame_len) = (&private[header_len..], message.len() - header_len);
        let (ingress, rule) = match way {
            TraceWay::Relay => {
                (driver.admit_relayed(&header, head, frame_len), "spec/driver.md#numbered-frames")
            }
            _ => {
                let Some(slot) = driver.find_peer(peer, header.origin_vif) else {
                    return self.drop("the node", DropReason::NoChannel);
                };
                if let Some(Path::Relay) = driver.peer(slot).map(|peer| peer.path) {
                    let what = format!("this end still sends to node {peer} by the control node");
                    self.step(what, "spec/driver.md#barrier");
                }
                (driver.admit_direct(now, slot, &header, head, frame_len), "spec/driver.md#direct-frames")
            }
        };
        let is_wanted =
            header.kind != FrameKind::Group || interface.listener.admits(head) || driver.listens();
        let is_for_owner = header.flags & FrameHeader::OWNER_ONLY != 0;
        match ingress {
            Ingress::Deliver(_) if is_for_owner && !interface.may_have(head) => {
                self.drop("the driver", DropReason::NotOwner);
            }
            Ingress::Deliver(_) if !is_wanted => self.drop("the driver", DropReason::NotJoined),
            Ingress::Deliver(_) => {
                let what = format!("the driver of {} lets it through to the stack", driver.config().name);
                self.step(what, rule);
                self.0.end = TraceEnd::Delivered;
            }
            Ingress::Drop(reason) => self.drop("the driver", reason),
        }
    }
}
