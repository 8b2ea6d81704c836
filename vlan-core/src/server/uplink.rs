//! A LAN with an uplink: what nobody of it has goes outside, and what comes from there is nobody's of it.

use super::{LanServer, MemberSlot, Verdict};
use crate::drop_reason::DropReason;
use crate::ethernet::{EthernetHeader, is_neighbour_resolution};

impl LanServer {
    /// Says whether the LAN has an uplink.
    //= spec/uplink.md#outward
    //# The server of a LAN with an uplink MUST give the uplink every group frame of a member and every unicast frame of one for whose
    //# destination it has no member, once, and nothing that came from outside.
    pub fn set_uplink(&mut self, has_uplink: bool) {
        self.has_uplink = has_uplink;
    }

    /// True for a LAN that has an uplink.
    #[inline]
    #[must_use]
    pub fn has_uplink(&self) -> bool {
        self.has_uplink
    }

    /// Counts a frame that was given to the uplink.
    #[inline]
    pub fn given_outside(&mut self) {
        self.ledger.outside += 1;
    }

    /// Counts a frame that is made for one member beyond what has come in: a copy for a listener of a frame from outside, or an
    /// announcement.
    pub fn copy_made(&mut self) {
        self.ledger.clones += 1;
    }

    /// Counts a frame from outside that is for nobody of the LAN: its listeners' copies are all that becomes of it.
    pub fn from_outside_for_listeners(&mut self) {
        self.ledger.ingress += 1;
        self.ledger.no_receiver += 1;
    }

    /// Decides about a frame from outside to a group that its uplink has let in; `head` holds its first octets.
    #[inline]
    pub fn decide_group_from_outside(&mut self, head: &[u8]) -> Verdict {
        self.ledger.ingress += 1;
        match EthernetHeader::parse(head) {
            None => self.drop(DropReason::TooShort),
            Some(ethernet) if is_neighbour_resolution(ethernet.ethertype, head) => Verdict::Arp,
            Some(ethernet) => self.decide_group(&ethernet, head),
        }
    }

    /// Decides about a frame from outside that its uplink has let in for the member at `to`.
    #[inline]
    pub fn decide_from_outside(&mut self, to: MemberSlot) -> Verdict {
        self.ledger.ingress += 1;
        match self.member(to) {
            Some(member) if member.process.is_some() => Verdict::Unicast { to, worth_direct: false },
            _ => self.drop(DropReason::NotAttached),
        }
    }
}
