//! ARP and ND of clusters: what a real server asks in the name of a cluster address, and who asks for one from outside.

use core::net::{IpAddr, Ipv4Addr};

use vlan_core::Instant;
use vlan_core::ethernet::{ETHERTYPE_ARP, EthernetHeader};
use vlan_core::server::MemberSlot;

use super::{ClusterRole, server_name};
use crate::control_node::{ControlNode, Lan};

/// Where ARP over Ethernet for IPv4 has its operation, its sender's address and its target's.
const OPERATION: core::ops::Range<usize> = 20..22;
const SENDER: core::ops::Range<usize> = 28..32;
const TARGET: core::ops::Range<usize> = 38..42;
const REQUEST: [u8; 2] = [0, 1];

impl Lan {
    /// Makes of a request that a real server sends in the name of a cluster address one in its own name: who is asked learns
    /// nothing of the cluster from it, and the answer goes to the asker.
    //= spec/cluster.md#requests-of-servers
    //# A control node MUST pass an ARP request that a real server sends in the name of a cluster address on in the name of the server's own address, or of none if it has none.
    pub(in crate::control_node) fn ask_in_own_name(&self, from: MemberSlot, frame: &mut [u8]) {
        if EthernetHeader::parse(frame).is_none_or(|ethernet| ethernet.ethertype != ETHERTYPE_ARP) {
            return;
        }
        let (Some(operation), Some(sender), Some(target)) =
            (frame.get(OPERATION), ipv4(frame, SENDER), ipv4(frame, TARGET))
        else {
            return;
        };
        let member = self.member_config(from);
        let cluster =
            self.cluster_of(IpAddr::V4(sender)).and_then(|number| self.clusters.get(usize::from(number)));
        let is_server = cluster.is_some_and(|cluster| cluster.server(server_name(member.node)).is_some());
        if operation != REQUEST || sender == target || !is_server {
            return;
        }
        let own = member.addresses.iter().filter_map(|own| match own.address {
            IpAddr::V4(address) => Some((address, own.prefix)),
            IpAddr::V6(_) => None,
        });
        // The stack would choose the one of the target's subnet.
        let best = own.max_by_key(|&(address, prefix)| common_bits(address, target) >= u32::from(prefix));
        let own = best.map_or(Ipv4Addr::UNSPECIFIED, |(address, _)| address);
        frame[SENDER].copy_from_slice(&own.octets());
    }
}

impl ControlNode {
    /// Answers an ARP or ND request from outside for a cluster address. False: it is none.
    //= spec/cluster.md#who-speaks-for-the-address
    //# A control node MUST answer every ARP and ND request for a cluster address itself, inside with the MAC of that address, and let nobody else speak for it.
    pub(in crate::control_node) fn answer_resolution_outside(
        &mut self,
        now: Instant,
        lan: usize,
        frame: &[u8],
    ) -> bool {
        if self.cluster_role == ClusterRole::StandsBy {
            return false;
        }
        let answer = self.lans[lan].arp.answer_outside(frame);
        if let Some(answer) = &answer {
            self.answer_outside(now, lan, answer);
        }
        answer.is_some()
    }
}

fn ipv4(frame: &[u8], at: core::ops::Range<usize>) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = frame.get(at)?.try_into().ok()?;
    Some(Ipv4Addr::from(octets))
}

fn common_bits(a: Ipv4Addr, b: Ipv4Addr) -> u32 {
    (a.to_bits() ^ b.to_bits()).leading_zeros()
}
