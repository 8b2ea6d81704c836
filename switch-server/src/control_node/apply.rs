//! Another configuration while frames flow: nodes, LANs and members that come and go, and their options.

use alloc::vec::Vec;
use core::net::IpAddr;

use arp_server::Owner;
use vlan_core::server::{MemberSlot, PortSecurity};
use vlan_core::wire::control::{ControlMessage, InterfaceAddress};
use vlan_core::{Instant, LanId, NodeNumber};

use super::{
    AddedMember, ArpMode, ClusterEntry, ControlNode, Lan, LanConfig, NodeEntry, SenderConfig, UplinkChange,
};

/// What a LAN is to do in place of what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LanOptions {
    /// Which it is.
    pub lan: LanId,
    /// Its MTU in octets.
    pub mtu: u16,
    /// How ARP and ND are handled.
    pub arp: ArpMode,
    /// Which sources are checked.
    pub port_security: PortSecurity,
    /// Group frames go to every member.
    pub floods: bool,
}

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
    /// It may listen promiscuously.
    pub may_listen: bool,
    /// It gets every group.
    pub gets_every_group: bool,
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
    /// All nodes, if they are others or have changed; none of a LAN that stays is missing.
    pub nodes: Option<Vec<NodeEntry>>,
    /// LANs with other options.
    pub lans: Vec<LanOptions>,
    /// LANs that stay, with other uplinks.
    pub uplinks: Vec<UplinkChange>,
    /// LANs that are new, with their members and uplinks.
    pub added_lans: Vec<LanConfig>,
    /// Members that are new, on LANs that stay.
    pub added_members: Vec<AddedMember>,
    /// The clusters that LANs are to have in place of those that they have; of LANs that are not named they stay.
    pub clusters: Vec<(LanId, Vec<ClusterEntry>)>,
    /// Members with other options, or that serve other clusters.
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
        if let Some(nodes) = changes.nodes {
            self.change_nodes(now, nodes);
        }
        for options in &changes.lans {
            self.change_lan(now, options);
        }
        // Those that stay first: a LAN that comes may have a tag that one of them had.
        self.change_uplinks(now, changes.uplinks);
        for lan in &changes.added_lans {
            self.add_lan(now, lan);
        }
        for added in changes.added_members {
            self.add_member(now, added);
        }
        for (lan, clusters) in changes.clusters {
            self.change_clusters(now, lan, clusters);
        }
        for options in changes.options {
            let Some(lan) = self.lan_place(options.lan) else { continue };
            let Some(slot) = self.lans[lan].slot_of_node(options.node) else { continue };
            self.change_member(now, lan, slot, options);
        }
        self.uplinks.close_unused();
        self.uplinks.members_changed(&self.lans);
    }

    //= spec/control-node.md#changed-options-of-a-lan
    //# When the options of a LAN change, its control node MUST judge by them from then on and tell each node of it; what is
    //# bound, registered or joined MUST stay known, and direct RVIs MUST stay.
    fn change_lan(&mut self, now: Instant, options: &LanOptions) {
        let Some(lan) = self.lan_place(options.lan) else { return };
        self.lans[lan].change(options);
        for slot in self.lans[lan].slots() {
            self.unbind_others(lan, slot);
        }
        // Drivers know whose addresses are whose before they check them.
        self.note_changed_senders(lan);
        self.settle_pairs(now);
        for slot in self.lans[lan].slots() {
            self.tell_interface(now, lan, slot);
        }
        self.tell_group_policies(now, lan);
    }

    pub(super) fn tell_interface(&mut self, now: Instant, lan: usize, slot: MemberSlot) {
        let node = self.lans[lan].member_config(slot).node;
        let interface = ControlMessage::Interface(self.interface_config(lan, slot));
        self.send_to_node(now, node, &interface);
    }

    fn change_member(&mut self, now: Instant, lan: usize, slot: MemberSlot, options: MemberOptions) {
        if !options.may_listen {
            self.end_listening(now, lan, slot);
        }
        let entry = &mut self.lans[lan];
        entry.set_gets_every_group(slot, options.gets_every_group);
        let member = &mut entry.config.members[usize::from(slot.0)];
        let has_other_limits = member.sender.limits != options.sender.limits;
        if has_other_limits {
            entry.server.set_limits(slot, &options.sender.limits);
        }
        (member.addresses, member.gateways) = (options.addresses, options.gateways);
        (member.may_listen, member.sender) = (options.may_listen, options.sender);
        let (sender, learn) = (member.sender(), member.sender.learn);
        entry.server.change_sender(slot, sender);
        entry.server.set_room(slot, learn);
        self.unbind_others(lan, slot);
        self.pairs.senders_changed(lan, &[slot]);
        self.tell_interface(now, lan, slot);
        self.tell_group_policies(now, lan);
        if has_other_limits {
            let node = self.lans[lan].member_config(slot).node;
            self.send_to_node(now, node, &self.group_limits(lan, slot));
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

impl Lan {
    fn change(&mut self, options: &LanOptions) {
        let LanOptions { mtu, arp, port_security, floods, .. } = *options;
        (self.config.mtu, self.config.arp, self.config.port_security) = (mtu, arp, port_security);
        self.config.multicast.floods = floods;
        self.arp.set_suppression(arp == ArpMode::Suppress);
        self.server.set_mtu(mtu);
        self.server.set_floods(floods);
        let bound = self.arp.bindings().map(|binding| (MemberSlot(binding.owner.0), binding.address));
        self.server.set_port_security(port_security, bound);
    }

    fn set_gets_every_group(&mut self, slot: MemberSlot, gets_every_group: bool) {
        let every_group = &mut self.config.multicast.every_group;
        every_group.retain(|of| *of != slot);
        every_group.extend(gets_every_group.then_some(slot));
        self.server.set_gets_every_group(slot, gets_every_group);
    }

    /// The slots that have a member now.
    pub(super) fn slots(&self) -> Vec<MemberSlot> {
        self.server.members().map(|(slot, _)| slot).collect()
    }
}
