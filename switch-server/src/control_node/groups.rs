//! Multicast at the control node: what nodes say of groups, what they are told, and frames for those who have joined.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;

use vlan_core::group::members::{EveryGroup, GroupRow};
use vlan_core::group::query::QUERIER_IPV4;
use vlan_core::server::MemberSlot;
use vlan_core::wire::control::{ControlMessage, GroupCause, GroupNotice, GroupPolicy, InterfaceAddress};
use vlan_core::{Instant, LanId, NodeNumber, VifNumber};

use crate::control_node::relay::Inbound;
use crate::control_node::session::{Account, Session};
use crate::control_node::{ControlNode, ControlNodeEvent, Lan, LanConfig};

/// Addresses of a subnet that are tried for queries: more than members usually have at its end.
const QUERIER_TRIES: u32 = 64;

/// Why a member gets a group's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupSource {
    /// It has joined the group.
    Joined(GroupCause),
    /// It gets every group.
    Every(EveryGroup),
}

/// A member that gets a group's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupMemberStatus {
    /// Its node.
    pub node: NodeNumber,
    /// Its interface.
    pub vif: VifNumber,
    /// Why it does.
    pub source: GroupSource,
    /// How long it has been a member, as this control node knows; none for one that gets every group.
    pub age: Option<Duration>,
}

/// A group of a LAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// The LAN.
    pub lan: LanId,
    /// The group; none stands for every group.
    pub group: Option<IpAddr>,
    /// Who gets its frames.
    pub members: Vec<GroupMemberStatus>,
}

impl ControlNode {
    /// The groups of all LANs, those who get every group first.
    #[must_use]
    pub fn groups(&self, now: Instant) -> Vec<GroupStatus> {
        self.lans.iter().flat_map(|lan| lan.every_group().into_iter().chain(lan.groups(now))).collect()
    }

    /// A node says what has been joined behind an interface. One that it has no more is passed over.
    pub(super) fn handle_groups(&mut self, now: Instant, session: &Session, notice: &GroupNotice) {
        let Some((lan, slot)) = self.membership(session, notice.vif) else { return };
        if !self.lans[lan].server.handle_groups(now, slot, notice) {
            self.log(ControlNodeEvent::BadControlMessage { node: session.node });
        }
    }

    //= spec/multicast.md#group-policies
    //# A control node MUST tell a node what a LAN does with multicast with each interface of it.
    pub(super) fn group_policy(&self, lan: usize, slot: MemberSlot) -> ControlMessage {
        let config = &self.lans[lan].config;
        let vif = self.lans[lan].member_config(slot).vif;
        let querier = IpAddr::V4(querier_address(config));
        let snoops = !config.multicast.floods && !config.multicast.every_group.contains(&slot);
        ControlMessage::GroupPolicy(GroupPolicy { vif, snoops, querier })
    }

    //= spec/multicast.md#joined-members
    //# The server MUST give a frame of a snooped group to the members that have joined it and to those that get every
    //# group, once to each and never to its sender, and to nobody else.
    pub(super) fn give_joined(
        &mut self,
        now: Instant,
        account: &mut Account<'_>,
        inbound: &Inbound<'_>,
        row: Option<GroupRow>,
    ) {
        let Inbound { lan, from, .. } = *inbound;
        let mut receivers = 0;
        for slot in 0..self.lans[lan].routes.len() {
            let to = MemberSlot(slot as u16);
            let entry = &self.lans[lan];
            if to != from && entry.server.wants(row, to) && entry.routes[slot].session.is_some() {
                receivers += 1;
                self.forward(now, account, inbound, to);
            }
        }
        self.group_given(now, account, inbound, receivers);
    }
}

impl Lan {
    fn every_group(&self) -> Option<GroupStatus> {
        let attached = self.server.members().filter(|(_, member)| member.process.is_some());
        let members: Vec<_> = attached
            .filter_map(|(slot, member)| {
                let source = GroupSource::Every(self.server.groups().every_group(slot)?);
                Some(GroupMemberStatus { node: member.node, vif: member.vif, source, age: None })
            })
            .collect();
        (!members.is_empty()).then_some(GroupStatus { lan: self.config.id, group: None, members })
    }

    fn groups(&self, now: Instant) -> Vec<GroupStatus> {
        let mut groups: Vec<GroupStatus> = Vec::with_capacity(self.server.groups().len());
        for (group, joined) in self.server.groups().groups() {
            let members = joined.iter().filter_map(|joined| {
                let member = self.server.member(joined.slot)?;
                let (source, age) = (GroupSource::Joined(joined.cause), Some(now.since(joined.since)));
                Some(GroupMemberStatus { node: member.node, vif: member.vif, source, age })
            });
            let members = members.collect();
            groups.push(GroupStatus { lan: self.config.id, group: Some(group.address()), members });
        }
        groups.sort_by_key(|group| group.group);
        groups
    }
}

/// The address that queries of IGMP come from on a LAN: the highest of its first IPv4 subnet that no member has, so that
/// stacks which check where a packet can come from take it.
fn querier_address(config: &LanConfig) -> Ipv4Addr {
    let addresses = || config.members.iter().flat_map(|member| &member.addresses);
    let gateways = || config.members.iter().flat_map(|member| &member.gateways);
    let is_taken = |address: Ipv4Addr| {
        let address = IpAddr::V4(address);
        addresses().any(|taken| taken.address == address) || gateways().any(|gateway| *gateway == address)
    };
    let subnet = addresses().find_map(|&InterfaceAddress { address, prefix }| match address {
        IpAddr::V4(address) if (8..=30).contains(&prefix) => Some((address.to_bits(), u32::MAX >> prefix)),
        _ => None,
    });
    let Some((address, hosts)) = subnet else { return QUERIER_IPV4 };
    let last = address | hosts;
    let candidates = (1..hosts.min(QUERIER_TRIES)).map(|back| Ipv4Addr::from_bits(last - back));
    candidates.into_iter().find(|&candidate| !is_taken(candidate)).unwrap_or(QUERIER_IPV4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_node::tests::config;
    use alloc::vec;

    #[test]
    fn queries_come_from_the_highest_address_that_nobody_has() {
        let lan = |addresses: [&str; 3], prefix| {
            let mut lan = config().lans.remove(0);
            for (member, address) in lan.members.iter_mut().zip(addresses) {
                member.addresses = vec![InterfaceAddress { address: address.parse().unwrap(), prefix }];
            }
            lan
        };
        let of = |addresses, prefix| querier_address(&lan(addresses, prefix)).octets();
        assert_eq!(of(["fd00::1", "10.1.0.2", "10.1.0.3"], 24), [10, 1, 0, 254]);
        assert_eq!(of(["10.1.0.2", "10.1.0.254", "10.1.0.253"], 24), [10, 1, 0, 252]);
        assert_eq!(of(["10.1.0.1", "10.1.0.2", "10.1.0.3"], 30), QUERIER_IPV4.octets());
        assert_eq!(of(["10.1.0.1", "10.1.0.2", "10.1.0.3"], 31), QUERIER_IPV4.octets());
        assert_eq!(of(["10.1.0.1", "10.1.0.2", "10.1.0.3"], 8), [10, 255, 255, 254]);
    }
}
