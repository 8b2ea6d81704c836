//! Multicast at a node: what the interfaces have joined is told to the control nodes, and queries go to the
//! interfaces. The rules are `vlan_core::group::listener`'s.

use core::net::IpAddr;

use rvi::SharedOctets;
use vlan_core::wire::control::{ControlMessage, GroupPolicy};
use vlan_core::wire::frame::Vnet;
use vlan_core::{Instant, VifNumber};

use crate::node::{Delivery, FrameSink, Node};

impl Node {
    /// Takes the complete list of groups that the stack behind `vif` has joined now; changes are told to the control
    /// nodes (S111).
    pub fn handle_memberships(&mut self, now: Instant, vif: VifNumber, groups: &[IpAddr]) {
        let Some(interface) = self.interface_mut(vif) else { return };
        interface.listener.handle_own(now, groups);
        self.tell_groups(now);
    }

    /// Hears what a stack, or a host behind it, sends to a group.
    #[inline]
    pub(super) fn hear_outgoing(&mut self, now: Instant, vif: VifNumber, frame: &[u8]) {
        // The group bit of the destination (IEEE 802-2014, 8.2.2): nearly every frame ends here.
        if frame.first().is_none_or(|octet| octet & 1 == 0) {
            return;
        }
        let Some(interface) = self.interface_mut(vif) else { return };
        interface.listener.handle_outgoing(now, frame);
        let (has_query, has_news) = (interface.listener.has_query(), interface.listener.has_news());
        self.queries_wait |= has_query;
        if has_news {
            self.tell_groups(now);
        }
    }

    pub(super) fn handle_group_policy(&mut self, now: Instant, policy: GroupPolicy) {
        if let Some(interface) = self.interface_mut(policy.vif) {
            interface.listener.handle_policy(now, policy);
        }
    }

    /// Tells a control node everything. It comes right behind the registration, so that no frame of the session that
    /// begins finds a member which has not said what it wants; what has come up since comes with the configuration's end.
    pub(super) fn announce_groups(&mut self, now: Instant, index: usize) {
        for place in 0..self.interfaces.len() {
            let Some(interface) = &mut self.interfaces[place] else { continue };
            interface.listener.announce();
            while let Some(interface) = &mut self.interfaces[place]
                && let Some(notice) = interface.listener.poll_notice()
            {
                self.send_control(now, index, &ControlMessage::Groups(notice));
            }
        }
    }

    /// Tells every control node what has changed.
    fn tell_groups(&mut self, now: Instant) {
        for place in 0..self.interfaces.len() {
            while let Some(interface) = &mut self.interfaces[place]
                && let Some(notice) = interface.listener.poll_notice()
            {
                let message = ControlMessage::Groups(notice);
                for index in 0..self.control.len() {
                    if self.control[index].has_registered() {
                        self.send_control(now, index, &message);
                    }
                }
            }
        }
    }

    pub(super) fn group_timeouts(&mut self, now: Instant) {
        for interface in self.interfaces.iter_mut().flatten() {
            interface.listener.handle_timeout(now);
            self.queries_wait |= interface.listener.has_query();
        }
        self.tell_groups(now);
    }

    /// Gives the interfaces the queries that their drivers have for them.
    #[inline]
    pub(super) fn deliver_queries(&mut self, sink: &mut dyn FrameSink) {
        if !core::mem::take(&mut self.queries_wait) {
            return;
        }
        for place in 0..self.interfaces.len() {
            while let Some(interface) = &mut self.interfaces[place]
                && let Some(query) = interface.listener.poll_query()
            {
                let vif = interface.driver.vif();
                let taken =
                    sink.deliver(vif, &Vnet::default(), &query, SharedOctets::empty()) == Delivery::Taken;
                interface.driver.delivered(false, query.len(), taken);
                self.note_delivery(vif, taken, &query, SharedOctets::empty());
            }
        }
    }
}
