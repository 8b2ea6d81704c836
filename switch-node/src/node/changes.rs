//! The interfaces of this node as its control nodes name them: made, changed and taken away, while frames flow on others.

use alloc::vec::Vec;

use vlan_core::driver::DriverCounters;
use vlan_core::limits::VIFS_PER_NODE_MAX;
use vlan_core::wire::control::{ControlMessage, InterfaceConfig};
use vlan_core::wire::frame::FrameHeader;
use vlan_core::{DropReason, Instant, NodeNumber, VifNumber};

use crate::node::interface::Interface;
use crate::node::{Node, NodeEvent, Output, PeerId};

impl Node {
    /// What was counted at interfaces that have been taken away.
    #[must_use]
    pub fn former_counters(&self) -> &DriverCounters {
        &self.former
    }

    /// A control node names an interface of this node.
    pub(super) fn handle_interface(&mut self, now: Instant, index: usize, config: InterfaceConfig) {
        let vif = config.vif;
        if vif.0 == 0 || usize::from(vif.0) > VIFS_PER_NODE_MAX {
            self.log(NodeEvent::BadControlMessage { peer: PeerId::ControlNode(index as u8) });
            return;
        }
        for former in self.former_interfaces(&config) {
            self.remove_interface(now, former);
        }
        self.control[index].assign(vif, [config.relay_channel, config.arp_channel]);
        let place = usize::from(vif.0);
        if self.interfaces.len() <= place {
            self.interfaces.resize_with(place + 1, || None);
        }
        let seed = self.random.next_u64();
        match &mut self.interfaces[place] {
            Some(interface) => {
                interface.driver.handle_configuration(config.clone());
                interface.confirmed = true;
            }
            interface => {
                *interface =
                    Some(Interface::new(self.config.number, self.config.process, config.clone(), seed));
            }
        }
        if let Some(interface) = &mut self.interfaces[place] {
            interface.serve();
            self.has_flow_news = true;
        }
        self.outputs.push_back(Output::Interface(config));
        if self.control[index].is_attached() {
            // Else all interfaces say it together, when all of them are named.
            self.announce_groups(now, index);
            self.announce_permitted(now, index, vif);
            self.announce_flows(now, index, vif);
        }
    }

    /// The interfaces in whose place this one comes: of its number, or on its LAN, and not the same.
    fn former_interfaces(&self, config: &InterfaceConfig) -> Vec<VifNumber> {
        let of = |config: &InterfaceConfig| (config.lan, config.vif, config.mac);
        let others = self.interfaces.iter().flatten().map(|interface| interface.driver.config());
        let others = others.filter(|other| other.vif == config.vif || other.lan == config.lan);
        others.filter(|other| of(other) != of(config)).map(|other| other.vif).collect()
    }

    /// Takes an interface away, with everything that is only there for it.
    //= spec/driver.md#interfaces-that-are-taken-away
    //# When a node takes an interface away, it MUST end the direct associations that carry an RVI of it, and count the frames
    //# that the interface held as not-member.
    pub(super) fn remove_interface(&mut self, now: Instant, vif: VifNumber) {
        if self.interface(vif).is_none() {
            return;
        }
        for peer in self.direct_peers_of(vif) {
            self.close_direct(now, peer);
        }
        for link in &mut self.control {
            link.close_all_of(vif);
        }
        let Some(interface) = self.interfaces.get_mut(usize::from(vif.0)).and_then(Option::take) else {
            return;
        };
        self.former.add_all(interface.driver.counters());
        self.former.drops.add_many(DropReason::NotMember, interface.held.len() as u64);
        self.former.drops.add_many(DropReason::ListenerGone, interface.copies.len() as u64);
        self.forget_resends_of(vif);
        self.keep_arenas(now, interface.driver.lan());
        self.outputs.push_back(Output::InterfaceRemoved { vif });
    }

    /// The nodes to which an interface has a direct RVI.
    fn direct_peers_of(&self, vif: VifNumber) -> Vec<NodeNumber> {
        let links = self.direct.iter().flatten();
        links.filter(|link| link.rvis().any(|rvi| rvi.vif == vif)).map(|link| link.node).collect()
    }

    /// What a lost control node had not settled of an interface goes to no other one.
    fn forget_resends_of(&mut self, vif: VifNumber) {
        for link in &mut self.control {
            let before = link.resend.len();
            link.resend.retain(|octets| {
                FrameHeader::parse(octets, octets.len()).is_ok_and(|header| header.origin_vif != vif)
            });
            let gone = before - link.resend.len();
            self.former.drops.add_many(DropReason::NotMember, gone as u64);
        }
    }

    /// Everything is named: what was not is taken away, and what this node has to say of the rest is said.
    pub(super) fn handle_configuration_end(&mut self, now: Instant, index: usize) {
        let unnamed = self.interfaces.iter().flatten().filter(|interface| !interface.confirmed);
        for vif in unnamed.map(|interface| interface.driver.vif()).collect::<Vec<_>>() {
            self.remove_interface(now, vif);
        }
        self.control[index].set_attached();
        self.control[index].open_assigned();
        self.control[index].packets_accepted();
        self.set_relay(now, index, true);
        for interface in self.interfaces.iter_mut().flatten() {
            interface.driver.forget_unvouched();
        }
        let mut binds = Vec::new();
        for interface in self.interfaces.iter().flatten() {
            let vif = interface.driver.vif();
            binds.extend(interface.addresses.iter().map(|&address| ControlMessage::Bind { vif, address }));
        }
        for bind in &binds {
            self.send_control(now, index, bind);
        }
        self.announce_groups(now, index);
        self.announce_listeners(now, index);
        self.announce_arenas(now, index);
        self.announce_all_flows(now, index);
        self.flush_held(now);
    }
}
