//! What comes from the fabric: checked against the configuration and the grant that it came by before it goes up to the stack.

use super::lives::CameBy;
use super::{Driver, Ingress, Peer, PeerSlot};
use crate::address::NodeNumber;
use crate::counters::FrameCount;
use crate::drop_reason::DropReason;
use crate::ethernet::EthernetHeader;
use crate::limits::ETHERNET_HEADER_LEN;
use crate::security::PortSecurity;
use crate::security::rate::{Cost, Kind};
use crate::time::Instant;
use crate::wire::frame::{FRAME_HEADER_LEN, FrameHeader, FrameKind, Vnet};

impl Driver {
    /// Checks a frame that came on one of this interface's channels to a control node.
    ///
    /// The control node is trusted: it has checked the origin. A frame seen before (sent again after the loss
    /// of a control node) is dropped here.
    #[inline]
    pub fn admit_relayed(&mut self, header: &FrameHeader, head: &[u8], frame_len: usize) -> Ingress {
        if header.lan != self.config.lan || header.kind == FrameKind::Unicast {
            return self.refuse(DropReason::WrongGrant);
        }
        if let Err(reason) = self.check_ingress(header, head, frame_len) {
            return self.refuse(reason);
        }
        if header.kind == FrameKind::Promiscuous
            && let Err(reason) = self.check_copy(header)
        {
            return self.refuse(reason);
        }
        //= spec/driver.md#numbered-frames
        //# The driver MUST deliver each numbered frame of an origin at most once, whichever way it comes.
        if header.origin != NodeNumber(0) {
            let Some(slot) = self.find_peer(header.origin, header.origin_vif) else {
                return self.refuse(DropReason::NotMember);
            };
            if let Err(reason) = self.peers[usize::from(slot.0)].numbers.take(header, CameBy::ControlNode) {
                return self.refuse(reason);
            }
        }
        Ingress::Deliver(header.vnet)
    }

    /// Checks a frame that came on `channel` of the direct association with `node`.
    //= spec/driver.md#direct-frames
    //# The driver MUST discard a frame from a direct RVI whose LAN, origin or interface is not that of the grant,
    //# or whose source MAC is under port security neither the granted peer's nor that of a station learned behind it.
    #[inline]
    pub fn admit_direct(
        &mut self,
        now: Instant,
        slot: PeerSlot,
        header: &FrameHeader,
        head: &[u8],
        frame_len: usize,
    ) -> Ingress {
        let Some(peer) = self.peers.get(usize::from(slot.0)) else {
            return self.refuse(DropReason::NoChannel);
        };
        if peer.direct.is_none() {
            return self.refuse(DropReason::NoChannel);
        }
        if header.lan != self.config.lan || header.origin != peer.node || header.origin_vif != peer.vif {
            return self.refuse(DropReason::WrongGrant);
        }
        let checked = self
            .check_ingress(header, head, frame_len)
            .and_then(|()| EthernetHeader::parse(head).ok_or(DropReason::TooShort))
            .and_then(|ethernet| self.check_station(now, slot, ethernet.source))
            .and_then(|()| {
                check_source(self.config.port_security, &self.peers[usize::from(slot.0)], head, frame_len)
            });
        if let Err(reason) = checked {
            return self.refuse(reason);
        }
        match header.kind {
            FrameKind::Unicast if header.destination_vif == self.config.vif => {
                self.deliver_within_limits(now, slot, &header.vnet, frame_len)
            }
            // A relayed frame that its sender sends again here because its control node has gone.
            FrameKind::Relay if header.boot != self.peers[usize::from(slot.0)].process.boot_tag() => {
                self.refuse(DropReason::StaleBoot)
            }
            FrameKind::Relay => match self.admit_numbered(slot, header) {
                Ingress::Deliver(vnet) => self.deliver_within_limits(now, slot, &vnet, frame_len),
                refused => refused,
            },
            FrameKind::Promiscuous => self.admit_direct_copy(slot, header),
            _ => self.refuse(DropReason::WrongGrant),
        }
    }

    /// Takes a frame that its sender sends again here, because its control node has gone, if it has not come before.
    pub(super) fn admit_numbered(&mut self, slot: PeerSlot, header: &FrameHeader) -> Ingress {
        match self.peers[usize::from(slot.0)].numbers.take(header, CameBy::DirectRvi) {
            Ok(()) => Ingress::Deliver(header.vnet),
            Err(reason) => self.refuse(reason),
        }
    }

    /// [`IncomingRun::admit`] of the frames of `slot` where addresses are checked: asked for what no run says anything of, so that
    /// other LANs' frames need not pay for it.
    ///
    /// [`IncomingRun::admit`]: super::IncomingRun::admit
    #[cold]
    #[inline(never)]
    #[must_use]
    pub fn admit_by_address(&self, slot: PeerSlot, head: &[u8], message_len: usize) -> Option<Vnet> {
        let is_checked = self.config.port_security == PortSecurity::Address;
        let peer = self.peers.get(usize::from(slot.0)).filter(|peer| is_checked && peer.direct.is_some())?;
        let frame = head.get(FRAME_HEADER_LEN..)?;
        if peer.meters.is_some() || !peer.sender.is_own_source(frame) {
            return None;
        }
        self.run_from(peer).admit(head, message_len)
    }

    fn deliver_within_limits(
        &mut self,
        now: Instant,
        slot: PeerSlot,
        vnet: &Vnet,
        frame_len: usize,
    ) -> Ingress {
        let meters = self.peers[usize::from(slot.0)].meters.as_mut();
        let taken = meters.map_or(Ok(()), |m| m.take(now, Kind::Unicast, Cost::of(vnet, frame_len)));
        match taken {
            Ok(()) => Ingress::Deliver(*vnet),
            Err(reason) => self.refuse(reason),
        }
    }

    /// Counts a frame that the stack has taken, or that its device refused.
    #[inline]
    pub fn delivered(&mut self, direct: bool, frame_len: usize, taken: bool) {
        if !taken {
            self.counters.drops.add(DropReason::DeviceFull);
        } else if direct {
            self.counters.received_direct.add(frame_len);
        } else {
            self.counters.received_relay.add(frame_len);
        }
    }

    /// Counts a frame that was given back to the control node that it came from, or found no room there.
    pub fn given_back(&mut self, frame_len: usize, taken: bool) {
        if taken {
            self.counters.given_back.add(frame_len);
        } else {
            self.counters.drops.add(DropReason::EgressFull);
        }
    }

    /// Counts frames of direct RVIs that the stack has taken.
    pub fn delivered_direct(&mut self, frames: FrameCount) {
        self.counters.received_direct.add_all(frames);
    }

    #[inline]
    fn check_ingress(&self, header: &FrameHeader, head: &[u8], frame_len: usize) -> Result<(), DropReason> {
        if head.len() < ETHERNET_HEADER_LEN {
            return Err(DropReason::TooShort);
        }
        header.vnet.check(self.config.mtu, frame_len)?;
        // What a control node has made itself, or let in from outside, it has judged.
        if header.origin == NodeNumber(0) { Ok(()) } else { self.check_cluster(head, frame_len) }
    }

    pub(super) fn refuse(&mut self, reason: DropReason) -> Ingress {
        self.counters.drops.add(reason);
        Ingress::Drop(reason)
    }
}

/// Judges a frame of a direct RVI by what is known of its sender.
//= spec/port-security.md#direct-frames
//# The driver MUST judge a frame of a direct RVI by what its control node has said of the sender; under port security, or
//# of a sender with a limit, it MUST discard one with a group destination.
fn check_source(
    security: PortSecurity,
    peer: &Peer,
    head: &[u8],
    frame_len: usize,
) -> Result<(), DropReason> {
    if security == PortSecurity::Off && peer.meters.is_none() {
        return Ok(());
    }
    if head[0] & 1 != 0 {
        return Err(DropReason::WrongGrant);
    }
    if security == PortSecurity::Off {
        return Ok(());
    }
    // Who asks for an address asks everybody, by way of the control node.
    match peer.sender.check(security, head, frame_len)? {
        Some(_) => Err(DropReason::SourceAddress),
        None => Ok(()),
    }
}
