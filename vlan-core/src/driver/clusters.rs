//! ARP and ND of a real server: its stack has the cluster addresses, and says nothing of them.

use core::net::IpAddr;

use super::{Driver, Egress};
use crate::drop_reason::DropReason;
use crate::ethernet::{ETHERTYPE_ARP, EthernetHeader};
use crate::security::claims;

/// Where an ARP message has its operation, and that of a request.
const OPERATION: core::ops::Range<usize> = 20..22;
const REQUEST: [u8; 2] = [0, 1];

impl Driver {
    /// The way of an ARP or ND message in the name of a cluster address that is served here; none for any other.
    //= spec/cluster.md#who-speaks-for-the-address
    //# The driver of a real server MUST NOT send an answer or an announcement of ARP or ND in the name of a cluster address, and give a request in its name to the control node alone.
    pub(super) fn classify_of_cluster(
        &self,
        ethernet: &EthernetHeader,
        head: &[u8],
        frame_len: usize,
    ) -> Option<Egress> {
        if self.config.clusters.is_empty() {
            return None;
        }
        // What is not sound is judged where all of it is seen.
        let claims = claims::read(head, frame_len).ok()?;
        let is_of_cluster = |address: Option<IpAddr>| {
            address.is_some_and(|address| self.config.clusters.iter().any(|c| c.addresses.contains(&address)))
        };
        if is_of_cluster(claims.states) {
            return Some(Egress::Drop(DropReason::ClusterAddress));
        }
        if !is_of_cluster(claims.source) {
            return None;
        }
        if ethernet.ethertype != ETHERTYPE_ARP {
            return Some(Egress::Arp);
        }
        let is_request = head.get(OPERATION) == Some(&REQUEST[..]);
        let is_announcement = head.get(28..32) == head.get(38..42);
        let is_question = is_request && !is_announcement;
        Some(if is_question { Egress::Arp } else { Egress::Drop(DropReason::ClusterAddress) })
    }
}
