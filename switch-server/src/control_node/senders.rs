//! Who may send what: what the control node knows of its members as senders, and tells those who judge their direct frames.

use core::net::IpAddr;

use vlan_core::Instant;
use vlan_core::security::{Limits, OwnAddresses, Roles, Sender};
use vlan_core::server::MemberSlot;
use vlan_core::wire::control::{ControlMessage, GroupLimits, InterfaceAddress, SenderNotice};

use super::pairs::PairRvi;
use super::{ControlNode, Lan, MemberConfig};

/// What a member may send, beside what every member may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SenderConfig {
    /// What it may be.
    pub roles: Roles,
    /// Addresses that it may have beside those that are configured on it.
    pub aliases: alloc::vec::Vec<IpAddr>,
    /// How much it may send.
    pub limits: Limits,
    /// How many further stations may be behind it.
    pub learn: u16,
}

impl MemberConfig {
    /// What the member's frames are judged by.
    pub(super) fn sender(&self) -> Sender {
        let configured = self.addresses.iter().map(|&InterfaceAddress { address, .. }| address);
        let own = OwnAddresses::new(configured.chain(self.sender.aliases.iter().copied()).collect());
        Sender { roles: self.sender.roles, own }
    }
}

impl Lan {
    /// What a peer of the member at `slot` is to know of it: its addresses too where they are not checked, as they may be later.
    fn sender_notice(&self, slot: MemberSlot) -> SenderNotice {
        let (member, sender) = (self.member_config(slot), self.server.sender(slot));
        SenderNotice {
            lan: self.config.id,
            node: member.node,
            vif: member.vif,
            dhcp_server: sender.roles.dhcp_server,
            router: sender.roles.router,
            learn: member.sender.learn,
            total: member.sender.limits.total,
            addresses: sender.own.iter().collect(),
        }
    }
}

impl ControlNode {
    /// How much a member may send to groups, for its own node.
    //= spec/port-security.md#limits-where-a-storm-begins
    //# A control node MUST tell a node how much each interface of it may send to groups, and the node MUST discard what is beyond that
    //# before it goes anywhere.
    pub(super) fn group_limits(&self, lan: usize, slot: MemberSlot) -> ControlMessage {
        let member = self.lans[lan].member_config(slot);
        let Limits { broadcast, multicast, .. } = member.sender.limits;
        ControlMessage::GroupLimits(GroupLimits { vif: member.vif, broadcast, multicast })
    }

    /// Tells each end of a direct RVI what the other one may send.
    //= spec/port-security.md#senders
    //# A control node MUST tell each end of a direct RVI what the other one may send before it grants the RVI, and again
    //# when that changes.
    pub(super) fn tell_senders(&mut self, now: Instant, rvi: &PairRvi) {
        let lan = &self.lans[rvi.lan];
        let notices = rvi.slots.map(|slot| lan.sender_notice(slot));
        let nodes = rvi.slots.map(|slot| lan.member_config(slot).node);
        for (node, notice) in nodes.into_iter().rev().zip(notices) {
            self.send_to_node(now, node, &ControlMessage::Sender(notice));
        }
    }

    /// The peers of members whose addresses have changed are told when every session is in its place.
    pub(super) fn note_changed_senders(&mut self, lan: usize) {
        let changed = self.lans[lan].server.take_changed_senders();
        if changed.is_empty() {
            return;
        }
        self.pairs.senders_changed(lan, &changed);
    }
}
