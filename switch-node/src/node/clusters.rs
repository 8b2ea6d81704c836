//! Clusters at a node: which flows its stacks own is told to the control nodes, and whether something listens there; checks that they
//! ask for are made. The rules about flows are `vlan_core::cluster::Served`'s.

use alloc::vec::Vec;

use vlan_core::cluster::{CheckResult, FLOWS_MAX, Flow, News, Protocol, ServiceKey};
use vlan_core::wire::control::{
    CheckOrder, Checked, ControlMessage, FlowNotice, Listening, ListeningNotice, ServedCluster,
};
use vlan_core::wire::frame::{FrameHeader, FrameKind};
use vlan_core::{Instant, ProcessId, VifNumber};

use crate::node::control::ControlLink;
use crate::node::interface::Interface;
use crate::node::{Node, NodeEvent, Output, PeerId};

/// A check of a service that a control node asks for: the host makes it, and says what came of it to [`Node::handle_checked`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedCheck {
    /// What is to be checked: a connection of TCP from the cluster's address to itself, in the interface's namespace.
    pub order: CheckOrder,
    /// Who asked.
    control_node: u8,
    /// Its process.
    process: Option<ProcessId>,
}

#[cfg(test)]
impl AskedCheck {
    /// One that nobody has asked for.
    pub(crate) fn of_test(order: CheckOrder) -> Self {
        Self { order, control_node: 0, process: None }
    }
}

/// Flows in one message: of IPv6 they take 10 KiB.
const FLOWS_PER_MESSAGE: usize = 256;
/// Services in one message: of IPv6 they take 10.5 KiB. A node may serve 1,024 on one LAN.
const SERVICES_PER_MESSAGE: usize = 512;
/// Octets of control messages that wait for room: while there are more no flows are told.
const WAITING_OCTETS_MAX: usize = 64 * 1024;
/// News of flows that wait for a control node which has no room. With more of them it is told everything later, and the others go on.
const NEWS_HELD_MAX: usize = 4096;

impl Node {
    /// Hears what a stack sends that serves a cluster.
    #[cold]
    pub(super) fn hear_flow(&mut self, now: Instant, vif: VifNumber, frame: &[u8]) {
        if let Some(served) = self.interface_mut(vif).and_then(|interface| interface.served.as_mut()) {
            served.handle_outgoing(now, frame);
            let has_news = served.news_len() > 0;
            self.has_flow_news |= has_news;
        }
    }

    /// True while the interface serves a cluster.
    #[inline]
    pub(super) fn serves(&self, vif: VifNumber) -> bool {
        self.interface(vif).is_some_and(|interface| interface.served.is_some())
    }

    /// Takes whether something listens at each service that the interface serves; changes are told to the control nodes.
    //= spec/cluster.md#listening
    //# A node MUST tell its control nodes of each service that it serves whether something listens there, when it registers and when that changes.
    pub fn handle_listening(&mut self, now: Instant, vif: VifNumber, services: &[Listening]) {
        let Some(interface) = self.interface_mut(vif) else { return };
        let changed: Vec<Listening> =
            services.iter().filter(|service| !interface.listening.contains(service)).copied().collect();
        interface.listening = services.to_vec();
        for message in listening_messages(vif, &changed) {
            self.tell_all_attached(now, &message);
        }
    }

    /// A control node asks for a check.
    //= spec/cluster.md#checks
    //# A node MUST check a service only where its interface serves it, from inside the interface's namespace, with the cluster's address at both ends.
    pub(super) fn handle_check(&mut self, index: usize, order: CheckOrder) {
        let key = ServiceKey { protocol: Protocol::Tcp, port: order.port };
        let is_it = |cluster: &ServedCluster| {
            cluster.addresses.contains(&order.address) && cluster.services.iter().any(|s| s.key() == key)
        };
        let serves = |interface: &Interface| interface.driver.config().clusters.iter().any(is_it);
        let control_node = index as u8;
        if !self.interface(order.vif).is_some_and(serves) {
            return self.log(NodeEvent::BadControlMessage { peer: PeerId::ControlNode(control_node) });
        }
        let process = self.control[index].process;
        self.outputs.push_back(Output::Check(AskedCheck { order, control_node, process }));
    }

    /// What came of a check. It is told to who asked, unless that process has ended.
    pub fn handle_checked(&mut self, now: Instant, asked: &AskedCheck, result: CheckResult) {
        let index = usize::from(asked.control_node);
        let link = self.control.get(index);
        if link.is_some_and(|link| link.is_attached() && link.process == asked.process) {
            let CheckOrder { vif, id, address, port, .. } = asked.order;
            let checked = Checked { vif, id, address, port, result };
            self.send_control(now, index, &ControlMessage::Checked(checked));
        }
    }

    /// The control node that gets a frame.
    //= spec/cluster.md#which-control-node
    //# A node MUST give packets for cluster addresses, and ARP and ND, to the first control node that has accepted it and does not stand by, and everything else to the first that has accepted it.
    #[inline]
    pub(super) fn control_node_for(&self, header: &FrameHeader, frame: &[u8]) -> Option<usize> {
        let first = self.attached()?;
        if self.control[first].has_clusters {
            return Some(first);
        }
        let has_them = |link: &ControlLink| link.is_attached() && link.has_clusters;
        let is_for_them = header.kind == FrameKind::Arp
            || self.interface(header.origin_vif).is_some_and(|i| i.driver.is_for_cluster(frame));
        self.control.iter().position(has_them).filter(|_| is_for_them).or(Some(first))
    }

    /// A control node has its clusters from now on, or it stands by.
    //= spec/cluster.md#asked-again
    //# A node MUST claim every flow that its stacks own once more at a control node that has just taken its clusters over, and then say that this was all.
    pub(super) fn handle_cluster_role(&mut self, now: Instant, index: usize, has: bool) {
        let link = &mut self.control[index];
        let had = core::mem::replace(&mut link.has_clusters, has);
        if has && !had && link.is_attached() {
            self.announce_all_flows(now, index);
        }
    }

    /// Tells the control nodes of flows that have come or gone.
    #[inline]
    pub(super) fn tell_flows(&mut self, now: Instant) {
        if core::mem::take(&mut self.has_flow_news) {
            self.tell_flow_news(now);
        }
        for index in 0..self.control.len() {
            if !self.control[index].telling.is_empty() {
                self.go_on_telling(now, index);
            }
        }
    }

    #[cold]
    fn tell_flow_news(&mut self, now: Instant) {
        let is_full = |link: &ControlLink| link.is_attached() && !has_room(link);
        let is_any_full = self.control.iter().any(is_full);
        for place in 0..self.interfaces.len() {
            let served = self.interfaces[place].as_ref().and_then(|interface| interface.served.as_ref());
            if is_any_full && served.is_some_and(|served| served.news_len() < NEWS_HELD_MAX) {
                self.has_flow_news = true;
                continue;
            }
            while let Some((vif, message)) = self.next_flow_notice(place) {
                self.tell_flow_notice(now, vif, &message);
            }
        }
    }

    /// A control node without room for it is told everything when it has room; what has gone it forgets when that is idle.
    fn tell_flow_notice(&mut self, now: Instant, vif: VifNumber, message: &ControlMessage) {
        for index in 0..self.control.len() {
            let link = &mut self.control[index];
            if !link.is_attached() {
                continue;
            }
            if has_room(link) {
                self.send_control(now, index, message);
            } else {
                link.telling.insert(vif, FLOWS_MAX);
            }
        }
    }

    /// The next news of an interface of one kind, as many as one message holds.
    fn next_flow_notice(&mut self, place: usize) -> Option<(VifNumber, ControlMessage)> {
        let interface = self.interfaces[place].as_mut()?;
        let vif = interface.driver.vif();
        let served = interface.served.as_mut()?;
        let first = served.poll_news()?;
        let (mut flows, is_claim) = match first {
            News::Claimed(flow) => (alloc::vec![flow], true),
            News::Gone(flow) => (alloc::vec![flow], false),
        };
        while flows.len() < FLOWS_PER_MESSAGE
            && let Some(flow) = served.poll_news_of(is_claim)
        {
            flows.push(flow);
        }
        let notice = FlowNotice { vif, flows };
        let message =
            if is_claim { ControlMessage::Claims(notice) } else { ControlMessage::FlowsGone(notice) };
        Some((vif, message))
    }

    /// Tells a control node everything of all interfaces.
    pub(super) fn announce_all_flows(&mut self, now: Instant, index: usize) {
        let vifs: Vec<_> = self.interfaces.iter().flatten().map(|interface| interface.driver.vif()).collect();
        vifs.into_iter().for_each(|vif| self.announce_flows(now, index, vif));
    }

    /// Tells a control node everything of one interface: its flows as far as there is room for them, and what listens.
    pub(super) fn announce_flows(&mut self, now: Instant, index: usize, vif: VifNumber) {
        let Some(interface) = self.interface(vif).filter(|interface| interface.served.is_some()) else {
            return;
        };
        let listening: Vec<_> = listening_messages(vif, &interface.listening).collect();
        self.control[index].telling.insert(vif, FLOWS_MAX);
        self.go_on_telling(now, index);
        listening.iter().for_each(|message| self.send_control(now, index, message));
    }

    /// Tells a control node more of what it is to know, while it takes it.
    //= spec/cluster.md#told-flows
    //# A node MUST claim every flow that its stacks own at each control node that accepts it, and then say that this was all.
    //= spec/cluster.md#room-for-claims
    //# A node MUST NOT tell a control node of more flows while 64 KiB of control messages wait for room there, and go on when there is room.
    fn go_on_telling(&mut self, now: Instant, index: usize) {
        while has_room(&self.control[index])
            && let Some((&vif, &left)) = self.control[index].telling.first_key_value()
        {
            // From the last to the first: so none is missed that stays.
            let served = self.interface(vif).and_then(|interface| interface.served.as_ref());
            let left = left.min(served.map_or(0, |served| served.len()));
            let next = left.saturating_sub(FLOWS_PER_MESSAGE);
            let flows: Vec<Flow> = served.into_iter().flat_map(|served| served.flows(next..left)).collect();
            if !flows.is_empty() {
                self.send_control(now, index, &ControlMessage::Claims(FlowNotice { vif, flows }));
            }
            self.control[index].telling.insert(vif, next);
            if next == 0 {
                self.control[index].telling.remove(&vif);
                self.send_control(now, index, &ControlMessage::FlowsTold { vif });
            }
        }
    }

    /// Forgets flows that are too old.
    pub(super) fn flow_timeouts(&mut self, now: Instant) {
        for served in self.interfaces.iter_mut().flatten().filter_map(|i| i.served.as_mut()) {
            served.handle_timeout(now);
            self.has_flow_news |= served.news_len() > 0;
        }
        self.tell_flows(now);
    }

    pub(super) fn tell_all_attached(&mut self, now: Instant, message: &ControlMessage) {
        for index in 0..self.control.len() {
            if self.control[index].is_attached() {
                self.send_control(now, index, message);
            }
        }
    }
}

/// A control node has taken so much of what it was told that it can be told of flows.
fn has_room(link: &ControlLink) -> bool {
    link.association.waiting().control_octets <= WAITING_OCTETS_MAX
}

/// What says whether something listens at these services.
fn listening_messages(vif: VifNumber, services: &[Listening]) -> impl Iterator<Item = ControlMessage> {
    let notice = move |services: &[Listening]| ListeningNotice { vif, services: services.to_vec() };
    services.chunks(SERVICES_PER_MESSAGE).map(move |services| ControlMessage::Listening(notice(services)))
}
