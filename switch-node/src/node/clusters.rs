//! Clusters at a node: which flows its stacks own is told to the control nodes, and whether something listens there. The rules are
//! `vlan_core::cluster::Served`'s.

use alloc::vec::Vec;

use vlan_core::cluster::{Flow, News};
use vlan_core::wire::control::{ControlMessage, FlowNotice, Listening, ListeningNotice};
use vlan_core::{Instant, VifNumber};

use crate::node::Node;

/// Flows in one message: of IPv6 they take 10 KiB.
const FLOWS_PER_MESSAGE: usize = 256;
/// Services in one message: of IPv6 they take 10.5 KiB. A node may serve 1,024 on one LAN.
const SERVICES_PER_MESSAGE: usize = 512;

impl Node {
    /// Hears what a stack sends that serves a cluster.
    #[cold]
    pub(super) fn hear_flow(&mut self, now: Instant, vif: VifNumber, frame: &[u8]) {
        if let Some(served) = self.interface_mut(vif).and_then(|interface| interface.served.as_mut()) {
            served.handle_outgoing(now, frame);
            self.has_flow_news = true;
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

    /// Tells the control nodes of flows that have come or gone.
    #[inline]
    pub(super) fn tell_flows(&mut self, now: Instant) {
        if core::mem::take(&mut self.has_flow_news) {
            self.tell_flow_news(now);
        }
    }

    #[cold]
    fn tell_flow_news(&mut self, now: Instant) {
        for place in 0..self.interfaces.len() {
            while let Some(message) = self.next_flow_notice(place) {
                self.tell_all_attached(now, &message);
            }
        }
    }

    /// The next news of an interface of one kind, as many as one message holds.
    fn next_flow_notice(&mut self, place: usize) -> Option<ControlMessage> {
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
        Some(if is_claim { ControlMessage::Claims(notice) } else { ControlMessage::FlowsGone(notice) })
    }

    /// Tells a control node everything.
    //= spec/cluster.md#told-flows
    //# A node MUST claim every flow that its stacks own at each control node that accepts it, and then say that this was all.
    pub(super) fn announce_flows(&mut self, now: Instant, index: usize) {
        let mut messages = Vec::new();
        for interface in self.interfaces.iter_mut().flatten() {
            let vif = interface.driver.vif();
            let Some(served) = &mut interface.served else { continue };
            let flows: Vec<Flow> = served.flows().collect();
            let chunks = flows.chunks(FLOWS_PER_MESSAGE);
            messages.extend(
                chunks.map(|flows| ControlMessage::Claims(FlowNotice { vif, flows: flows.to_vec() })),
            );
            messages.push(ControlMessage::FlowsTold { vif });
            messages.extend(listening_messages(vif, &interface.listening));
        }
        for message in &messages {
            self.send_control(now, index, message);
        }
    }

    /// Forgets flows that are too old.
    pub(super) fn flow_timeouts(&mut self, now: Instant) {
        for served in self.interfaces.iter_mut().flatten().filter_map(|i| i.served.as_mut()) {
            served.handle_timeout(now);
            self.has_flow_news = true;
        }
        self.tell_flows(now);
    }

    fn tell_all_attached(&mut self, now: Instant, message: &ControlMessage) {
        for index in 0..self.control.len() {
            if self.control[index].is_attached() {
                self.send_control(now, index, message);
            }
        }
    }
}

/// What says whether something listens at these services.
fn listening_messages(vif: VifNumber, services: &[Listening]) -> impl Iterator<Item = ControlMessage> {
    let notice = move |services: &[Listening]| ListeningNotice { vif, services: services.to_vec() };
    services.chunks(SERVICES_PER_MESSAGE).map(move |services| ControlMessage::Listening(notice(services)))
}
