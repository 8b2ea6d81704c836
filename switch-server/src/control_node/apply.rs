//! Another configuration while frames flow: LANs and members that come and go, and options of members: addresses, gateways,
//! aliases, roles, limits and learned stations.

use alloc::vec::Vec;
use core::net::IpAddr;

use arp_server::Owner;
use vlan_core::server::{MemberSlot, PortSecurity};
use vlan_core::wire::control::{ControlMessage, InterfaceAddress};
use vlan_core::{Instant, LanId, NodeNumber};

use super::{AddedMember, ControlNode, LanConfig, SenderConfig};

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

/// How a configuration differs from the one in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// LANs that are no more.
    pub removed_lans: Vec<LanId>,
    /// Members that are no more, on LANs that stay.
    pub removed_members: Vec<(LanId, NodeNumber)>,
    /// LANs that are new, with their members.
    pub added_lans: Vec<LanConfig>,
    /// Members that are new, on LANs that stay.
    pub added_members: Vec<AddedMember>,
    /// Members with other options.
    pub options: Vec<MemberOptions>,
}

impl ControlNode {
    /// Puts a configuration into use.
    ///
    /// Those are told whom a change concerns; nobody else notices.
    //= spec/control-node.md#what-an-applied-file-changes
    //# When a configuration is applied, a control node MUST tell the nodes and everybody who judges direct frames what has
    //# changed for them, and judge by it itself from then on; it MUST NOT end a session or a binding of anybody else.
    pub(super) fn apply(&mut self, now: Instant, epoch: u64, changes: Changes) {
        self.config.epoch = epoch;
        // What goes first makes room for what comes.
        for lan in changes.removed_lans {
            self.remove_lan(now, lan);
        }
        for (lan, node) in changes.removed_members {
            self.remove_member(now, lan, node);
        }
        for lan in &changes.added_lans {
            self.add_lan(now, lan);
        }
        for added in changes.added_members {
            self.add_member(now, added);
        }
        for options in changes.options {
            let Some(lan) = self.lan_place(options.lan) else { continue };
            let Some(slot) = self.lans[lan].slot_of_node(options.node) else { continue };
            self.change_member(now, lan, slot, options);
        }
        self.uplinks.members_changed(&self.lans);
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
        self.tell_group_policies(now, lan);
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
