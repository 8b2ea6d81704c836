//! Options of members that change while frames flow: addresses, gateways, aliases, roles, limits and learned stations.

use alloc::vec::Vec;
use core::net::IpAddr;

use arp_server::Owner;
use vlan_core::server::{MemberSlot, PortSecurity};
use vlan_core::wire::control::{ControlMessage, InterfaceAddress};
use vlan_core::{Instant, LanId, NodeNumber};

use super::{ControlNode, SenderConfig};

/// What a member is to have in place of what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberOptions {
    /// Its LAN.
    pub lan: LanId,
    /// Its node.
    pub node: NodeNumber,
    /// Addresses to configure.
    pub addresses: Vec<InterfaceAddress>,
    /// Default gateways to configure.
    pub gateways: Vec<IpAddr>,
    /// What it may send.
    pub sender: SenderConfig,
}

impl ControlNode {
    /// Puts a configuration into use that differs in the options of these members.
    ///
    /// The node of such a member is told, and those that judge its direct frames; nobody else notices.
    //= spec/control-node.md#what-an-applied-file-changes
    //# When the options of a member change, a control node MUST tell its node and everybody who judges its direct frames, and
    //# judge by them itself from then on; it MUST NOT end a session, a direct RVI or a binding of anybody else.
    pub(super) fn apply(&mut self, now: Instant, epoch: u64, members: Vec<MemberOptions>) {
        self.config.epoch = epoch;
        for options in members {
            let Some(lan) = self.lans.iter().position(|lan| lan.config.id == options.lan) else { continue };
            let routes = &self.lans[lan].routes;
            let Some(slot) = routes.iter().position(|route| route.node == options.node) else { continue };
            self.change_member(now, lan, MemberSlot(slot as u16), options);
        }
    }

    fn change_member(&mut self, now: Instant, lan: usize, slot: MemberSlot, options: MemberOptions) {
        let entry = &mut self.lans[lan];
        let member = &mut entry.config.members[usize::from(slot.0)];
        if member.sender.limits != options.sender.limits {
            entry.server.set_limits(slot, &options.sender.limits);
        }
        (member.addresses, member.gateways) = (options.addresses, options.gateways);
        member.sender = options.sender;
        let (sender, learn) = (member.sender(), member.sender.learn);
        entry.server.change_sender(slot, sender);
        entry.server.set_room(slot, learn);
        entry.has_changed = true;
        self.unbind_others(lan, slot);
        self.pairs.senders_changed(lan, &[slot]);
        let node = self.lans[lan].member_config(slot).node;
        let interface = ControlMessage::Interface(self.interface_config(lan, slot));
        self.send_to_node(now, node, &interface);
        // An address that queries came from may be a member's now.
        for other in (0..self.lans[lan].routes.len()).map(|place| MemberSlot(place as u16)) {
            let policy = self.group_policy(lan, other);
            self.send_to_node(now, self.lans[lan].member_config(other).node, &policy);
        }
    }

    /// Where addresses are checked, nothing stays bound to a member that is not its own.
    fn unbind_others(&mut self, lan: usize, slot: MemberSlot) {
        let entry = &mut self.lans[lan];
        if entry.config.port_security != PortSecurity::Address {
            return;
        }
        let (owner, own) = (Owner(slot.0), &entry.server.sender(slot).own);
        let foreign = entry.arp.bindings().filter(|b| b.owner == owner && !own.contains(b.address));
        for address in foreign.map(|binding| binding.address).collect::<Vec<_>>() {
            entry.arp.unbind(address, owner);
        }
    }
}
