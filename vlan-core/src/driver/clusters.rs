//! ARP and ND of cluster addresses: the stacks of their real servers have them and say nothing of them, and no other member is heard.

use core::net::IpAddr;

use super::{Driver, Egress};
use crate::drop_reason::DropReason;
use crate::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader};
use crate::security::claims::{self, PLAIN_LEN};

/// Where an ARP message has its operation, and that of a request.
const OPERATION: core::ops::Range<usize> = 20..22;
const REQUEST: [u8; 2] = [0, 1];

impl Driver {
    /// The way of an ARP or ND message in the name of a cluster address that is served here; none for any other.
    //= spec/cluster.md#who-speaks-for-the-address
    //# The driver of a member MUST NOT send an answer or an announcement of ARP or ND in the name of a cluster address, and give a request in its name to the control node alone.
    pub(super) fn classify_of_cluster(
        &self,
        ethernet: &EthernetHeader,
        head: &[u8],
        frame_len: usize,
    ) -> Option<Egress> {
        if self.config.cluster_addresses.is_empty() {
            return None;
        }
        // What is not sound is judged where all of it is seen.
        let claims = claims::read(head, frame_len).ok()?;
        if self.is_of_cluster(claims.states) {
            return Some(Egress::Drop(DropReason::ClusterAddress));
        }
        if !self.is_of_cluster(claims.source) {
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
    /// Lets a frame of another member through unless it speaks for a cluster address.
    //= spec/cluster.md#who-is-not-heard
    //# The driver of a member MUST drop an ARP or ND message of another member in the name of a cluster address of its LAN, and on a LAN with clusters any frame that hides whether it is one, whichever way it comes.
    #[inline]
    pub(super) fn check_cluster(&self, head: &[u8], frame_len: usize) -> Result<(), DropReason> {
        if self.config.cluster_addresses.is_empty() || is_plain(head) {
            return Ok(());
        }
        let claims = match claims::read(head, frame_len) {
            // One that answers for others, with their MAC: whom it speaks for is plain to see.
            Err(DropReason::SourceMac) if head.get(12..14) == Some(&ETHERTYPE_ARP.to_be_bytes()) => {
                let sender = head.get(28..32).and_then(<[u8]>::first_chunk::<4>).copied();
                let is_of_cluster = self.is_of_cluster(sender.map(IpAddr::from));
                return if is_of_cluster { Err(DropReason::ClusterAddress) } else { Ok(()) };
            }
            read => read?,
        };
        let is_of_cluster = self.is_of_cluster(claims.states) || self.is_of_cluster(claims.source);
        if claims.is_resolution && is_of_cluster { Err(DropReason::ClusterAddress) } else { Ok(()) }
    }

    /// True for an untagged IP packet to a cluster address of the LAN.
    #[must_use]
    pub fn is_for_cluster(&self, frame: &[u8]) -> bool {
        let destination = match EthernetHeader::parse(frame).map(|ethernet| ethernet.ethertype) {
            Some(ETHERTYPE_IPV4) => {
                frame.get(30..).and_then(<[u8]>::first_chunk::<4>).map(|&o| IpAddr::from(o))
            }
            Some(ETHERTYPE_IPV6) => {
                frame.get(38..).and_then(<[u8]>::first_chunk::<16>).map(|&o| IpAddr::from(o))
            }
            _ => None,
        };
        self.is_of_cluster(destination)
    }

    fn is_of_cluster(&self, address: Option<IpAddr>) -> bool {
        address.is_some_and(|address| self.config.cluster_addresses.contains(&address))
    }
}

/// True for a frame that is seen at a glance to be no ARP and no ND.
#[inline(always)]
pub(super) fn is_plain(frame: &[u8]) -> bool {
    frame.len() >= PLAIN_LEN && claims::is_plain(frame)
}
