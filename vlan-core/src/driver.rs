//! The virtual Ethernet driver of one interface: decides how each outgoing frame travels and whether each
//! incoming one may pass.
//!
//! On the walk: a frame from the interface's stack is classified here and leaves with its header on a direct
//! RVI, or on the relay or ARP channel to a control node; a frame from the fabric is checked here against the
//! grant it came by and goes up to the stack. Frames stay in the host's memory; the driver sees their heads.

mod peer;

use alloc::vec::Vec;

use crate::address::{BootTag, Channel, LanId, MacAddress, NodeNumber, ProcessId, VifNumber};
use crate::counters::{DropCounters, FrameCount};
use crate::drop_reason::DropReason;
use crate::ethernet::{EthernetHeader, is_neighbour_resolution};
use crate::limits::{ETHERNET_HEADER_LEN, FRAME_LEN_MAX};
use crate::location::Location;
use crate::mac_table::MacTable;
use crate::time::Instant;
use crate::window::WindowVerdict;
use crate::wire::control::{ControlMessage, Grant, InterfaceConfig, MemberNotice};
use crate::wire::frame::{FrameHeader, FrameKind, Vnet};

pub use peer::{BARRIER_RETRY, BARRIER_WAIT, Path, Peer};

/// A peer of the interface, by its place in the driver's table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerSlot(pub u16);

/// How an outgoing frame travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// On the direct RVI to this node, on this channel.
    Direct {
        /// The peer.
        peer: PeerSlot,
        /// The node at the other end of the association.
        node: NodeNumber,
        /// The RVI's channel.
        channel: Channel,
        /// The header to put in front.
        header: FrameHeader,
        /// A copy goes to the control node on the ARP channel, when one is up (amendment 24).
        copy_to_server: bool,
    },
    /// On the interface's relay channel.
    Relay {
        /// The peer, when the destination is bound.
        peer: Option<PeerSlot>,
        /// The header to put in front.
        header: FrameHeader,
    },
    /// On the interface's ARP channel.
    Arp {
        /// The header to put in front; its locations are the control node's to fill.
        header: FrameHeader,
    },
    /// Nowhere yet: the peer's traffic is moving between relay and direct. Hold the frame and classify it
    /// again when [`Driver::poll_released`] names the peer.
    Hold {
        /// The peer.
        peer: PeerSlot,
    },
    /// Discard it. Not counted yet: [`Driver::count_drop`].
    Drop(DropReason),
}

/// What becomes of an incoming frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ingress {
    /// Give it to the stack with this offload state.
    Deliver(Vnet),
    /// Discard it; counted already.
    Drop(DropReason),
}

/// A control message that the driver wants sent in band.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InBand {
    /// On the interface's relay channel.
    Relay(ControlMessage),
    /// On the direct RVI to this node, on this channel.
    Direct(NodeNumber, Channel, ControlMessage),
}

/// Frames counted at one interface.
#[derive(Clone, Debug, Default)]
pub struct DriverCounters {
    /// Frames from the stack that were sent on direct RVIs.
    pub sent_direct: FrameCount,
    /// Frames from the stack that were sent to a control node: relayed, group and ARP.
    pub sent_relay: FrameCount,
    /// Frames to the stack that came on direct RVIs.
    pub received_direct: FrameCount,
    /// Frames to the stack that came from a control node.
    pub received_relay: FrameCount,
    /// Frames dropped, by reason.
    pub drops: DropCounters,
}

/// The driver of one virtual interface.
#[derive(Clone, Debug)]
pub struct Driver {
    node: NodeNumber,
    boot: BootTag,
    config: InterfaceConfig,
    peers: Vec<Peer>,
    peers_max: usize,
    by_mac: MacTable<PeerSlot>,
    /// The next number of a relayed, group or ARP frame (amendment 22).
    next_bseq: u32,
    next_barrier: u32,
    in_band: Vec<InBand>,
    released: Vec<PeerSlot>,
    counters: DriverCounters,
}

impl Driver {
    /// Makes the driver of the interface that `config` describes, for a node's process.
    ///
    /// `peers_max` bounds how many members of the LAN it can know.
    #[must_use]
    pub fn new(
        node: NodeNumber,
        process: ProcessId,
        config: InterfaceConfig,
        peers_max: usize,
        seed: u64,
    ) -> Self {
        Self {
            node,
            boot: process.boot_tag(),
            config,
            peers: Vec::new(),
            peers_max,
            by_mac: MacTable::new(peers_max, seed),
            // Anywhere: a number says nothing but its distance to its neighbours.
            next_bseq: seed as u32,
            next_barrier: 1,
            in_band: Vec::new(),
            released: Vec::new(),
            counters: DriverCounters::default(),
        }
    }

    /// The interface's configuration.
    #[must_use]
    pub fn config(&self) -> &InterfaceConfig {
        &self.config
    }

    /// Takes a changed configuration of the same interface. Peers and numbering stay.
    pub fn handle_configuration(&mut self, config: InterfaceConfig) {
        self.config = config;
    }

    /// The LAN.
    #[must_use]
    pub fn lan(&self) -> LanId {
        self.config.lan
    }

    /// The interface's number.
    #[must_use]
    pub fn vif(&self) -> VifNumber {
        self.config.vif
    }

    /// Frames counted so far.
    #[must_use]
    pub fn counters(&self) -> &DriverCounters {
        &self.counters
    }

    /// The peers known, in the order of their slots.
    #[must_use]
    pub fn peers(&self) -> &[Peer] {
        &self.peers
    }

    /// The peer at `slot`.
    #[must_use]
    pub fn peer(&self, slot: PeerSlot) -> Option<&Peer> {
        self.peers.get(usize::from(slot.0))
    }

    // --- from the stack -------------------------------------------------------------------------------------

    /// Decides how a frame of `frame_len` octets from the stack travels; `head` holds its first octets.
    ///
    /// Nothing is counted or numbered yet: when the frame has gone, call [`Self::sent`].
    #[inline]
    #[must_use]
    pub fn classify(&self, vnet: &Vnet, head: &[u8], frame_len: usize) -> Egress {
        let Some(ethernet) = EthernetHeader::parse(head) else { return Egress::Drop(DropReason::TooShort) };
        if let Err(reason) = self.check_length(vnet, frame_len) {
            return Egress::Drop(reason);
        }
        let neighbour = is_neighbour_resolution(ethernet.ethertype, head);
        if ethernet.destination.is_group() {
            return if neighbour {
                Egress::Arp { header: self.header(FrameKind::Arp, vnet) }
            } else {
                Egress::Relay { peer: None, header: self.header(FrameKind::Group, vnet) }
            };
        }
        match self.by_mac.lookup(ethernet.destination) {
            Some(peer) => self.classify_bound(vnet, peer, neighbour),
            None if neighbour => Egress::Arp { header: self.header(FrameKind::Arp, vnet) },
            //= spec/driver.md#unbound-destinations
            //# The driver MUST send a unicast frame whose destination has no binding to the control node.
            None => {
                let header = self.header(FrameKind::Relay, vnet);
                Egress::Relay { peer: None, header: FrameHeader { flags: FrameHeader::UNBOUND, ..header } }
            }
        }
    }

    #[inline]
    fn classify_bound(&self, vnet: &Vnet, slot: PeerSlot, neighbour: bool) -> Egress {
        let peer = &self.peers[usize::from(slot.0)];
        match (peer.path, peer.direct) {
            (Path::Direct, Some(direct)) => {
                let header = FrameHeader {
                    destination_vif: peer.vif,
                    bseq: 0,
                    ..self.header(FrameKind::Unicast, vnet)
                };
                //= spec/driver.md#neighbour-probes-of-bound-neighbours
                //# The driver MUST send unicast ARP and ND for a neighbour with a direct RVI over that RVI, with a copy
                //# to the control node.
                Egress::Direct {
                    peer: slot,
                    node: peer.node,
                    channel: direct.channel,
                    header,
                    copy_to_server: neighbour,
                }
            }
            (Path::Relay, _) if neighbour => Egress::Arp { header: self.header(FrameKind::Arp, vnet) },
            (Path::Relay, _) => {
                Egress::Relay { peer: Some(slot), header: self.header(FrameKind::Relay, vnet) }
            }
            (Path::Barrier { .. } | Path::Closing | Path::Direct, _) => Egress::Hold { peer: slot },
        }
    }

    /// The header of the copy that goes to the control node beside a direct ARP or ND frame.
    #[must_use]
    pub fn copy_header(&self, vnet: &Vnet) -> FrameHeader {
        FrameHeader { flags: FrameHeader::ARP_COPY, ..self.header(FrameKind::Arp, vnet) }
    }

    /// Counts a frame that has gone with `header`, and uses its number up.
    #[inline]
    pub fn sent(&mut self, header: &FrameHeader, frame_len: usize) {
        if header.kind == FrameKind::Unicast {
            self.counters.sent_direct.add(frame_len);
        } else {
            self.next_bseq = self.next_bseq.wrapping_add(1);
            if header.flags & FrameHeader::ARP_COPY == 0 {
                self.counters.sent_relay.add(frame_len);
            }
        }
    }

    /// The header for a frame that could not go by its direct RVI any more and goes by relay instead.
    #[must_use]
    pub fn relay_header(&self, vnet: &Vnet) -> FrameHeader {
        self.header(FrameKind::Relay, vnet)
    }

    /// Uses up the number of a header made by [`Self::relay_header`] for a frame that was counted before.
    pub fn resent(&mut self) {
        self.next_bseq = self.next_bseq.wrapping_add(1);
    }

    /// Counts `frames` dropped for `reason` at this interface.
    #[inline]
    pub fn count_drop(&mut self, reason: DropReason, frames: u64) {
        self.counters.drops.add_many(reason, frames);
    }

    #[inline]
    fn header(&self, kind: FrameKind, vnet: &Vnet) -> FrameHeader {
        FrameHeader {
            kind,
            flags: 0,
            lan: self.config.lan,
            origin: self.node,
            origin_vif: self.config.vif,
            destination_vif: VifNumber(0),
            vnet: *vnet,
            boot: self.boot,
            bseq: self.next_bseq,
        }
    }

    #[inline]
    fn check_length(&self, vnet: &Vnet, frame_len: usize) -> Result<(), DropReason> {
        let plain_max = usize::from(self.config.mtu) + ETHERNET_HEADER_LEN + 4;
        let len_max = if vnet.gso_type == 0 { plain_max } else { FRAME_LEN_MAX };
        if frame_len > len_max {
            return Err(DropReason::TooLong);
        }
        if !vnet.is_valid_for(frame_len) {
            return Err(DropReason::Malformed);
        }
        Ok(())
    }

    // --- from the fabric ------------------------------------------------------------------------------------

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
        //= spec/driver.md#numbered-frames
        //# The driver MUST deliver each numbered frame of an origin at most once, whichever way it comes.
        if header.origin != NodeNumber(0) {
            let Some(slot) = self.find_peer(header.origin, header.origin_vif) else {
                return self.refuse(DropReason::NotMember);
            };
            match self.peers[usize::from(slot.0)].take_numbered(header) {
                WindowVerdict::New => {}
                WindowVerdict::Duplicate => return self.refuse(DropReason::Duplicate),
                WindowVerdict::TooOld => return self.refuse(DropReason::OutOfWindow),
            }
        }
        Ingress::Deliver(header.vnet)
    }

    /// Checks a frame that came on `channel` of the direct association with `node`.
    //= spec/driver.md#direct-frames
    //# The driver MUST discard a frame from a direct RVI whose LAN, origin or interface is not that of the grant,
    //# or whose source MAC is not the granted peer's under port security.
    #[inline]
    pub fn admit_direct(
        &mut self,
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
        let peer_mac = peer.mac;
        if let Err(reason) = self.check_ingress(header, head, frame_len) {
            return self.refuse(reason);
        }
        if self.config.check_source && MacAddress::from_octets(&head[6..]) != Some(peer_mac) {
            return self.refuse(DropReason::SourceMac);
        }
        match header.kind {
            FrameKind::Unicast if header.destination_vif == self.config.vif => Ingress::Deliver(header.vnet),
            // A relayed frame that its sender sends again here because its control node has gone.
            FrameKind::Relay if header.boot != self.peers[usize::from(slot.0)].process.boot_tag() => {
                self.refuse(DropReason::StaleBoot)
            }
            FrameKind::Relay => match self.peers[usize::from(slot.0)].take_numbered(header) {
                WindowVerdict::New => Ingress::Deliver(header.vnet),
                WindowVerdict::Duplicate => self.refuse(DropReason::Duplicate),
                WindowVerdict::TooOld => self.refuse(DropReason::OutOfWindow),
            },
            _ => self.refuse(DropReason::WrongGrant),
        }
    }

    /// Counts a frame that the stack has taken, or that its device refused.
    #[inline]
    pub fn delivered(&mut self, header: &FrameHeader, direct: bool, frame_len: usize, taken: bool) {
        if !taken {
            self.counters.drops.add(DropReason::DeviceFull);
        } else if direct {
            self.counters.received_direct.add(frame_len);
        } else {
            debug_assert!(header.kind != FrameKind::Unicast);
            self.counters.received_relay.add(frame_len);
        }
    }

    #[inline]
    fn check_ingress(&self, header: &FrameHeader, head: &[u8], frame_len: usize) -> Result<(), DropReason> {
        if head.len() < ETHERNET_HEADER_LEN {
            return Err(DropReason::TooShort);
        }
        self.check_length(&header.vnet, frame_len)
    }

    fn refuse(&mut self, reason: DropReason) -> Ingress {
        self.counters.drops.add(reason);
        Ingress::Drop(reason)
    }

    // --- members, bindings and grants -----------------------------------------------------------------------

    /// Takes a connectivity notice: another member of the LAN came, changed its process, or went.
    ///
    /// Returns false when the table is full and the member stays unknown: its frames then go by relay.
    pub fn handle_member(&mut self, notice: &MemberNotice) -> bool {
        if notice.node == self.node && notice.vif == self.config.vif {
            return true;
        }
        let slot = match self.find_peer(notice.node, notice.vif) {
            Some(slot) => slot,
            None => match self.add_peer(notice) {
                Some(slot) => slot,
                None => return false,
            },
        };
        let peer = &mut self.peers[usize::from(slot.0)];
        if peer.mac != notice.mac {
            // Its former address may belong to another member by now.
            if self.by_mac.lookup(peer.mac) == Some(slot) {
                self.by_mac.remove(peer.mac);
            }
            peer.mac = notice.mac;
        }
        // A full table leaves the address unbound: its frames go by relay.
        let _ = self.by_mac.insert(notice.mac, slot);
        peer.handle_process(notice.process, notice.attached);
        true
    }

    fn add_peer(&mut self, notice: &MemberNotice) -> Option<PeerSlot> {
        if self.peers.len() >= self.peers_max {
            return None;
        }
        let slot = PeerSlot(u16::try_from(self.peers.len()).ok()?);
        self.by_mac.insert(notice.mac, slot).ok()?;
        self.peers.push(Peer::new(notice));
        Some(slot)
    }

    /// Takes a binding notice (D2): frames for `mac` go where `location` says.
    pub fn handle_binding(&mut self, mac: MacAddress, location: &Location) {
        if location.lan != self.config.lan || !mac.is_station() {
            return;
        }
        if let Some(slot) = self.find_peer(location.node, location.vif) {
            // A full table leaves the address unbound: its frames go by relay.
            let _ = self.by_mac.insert(mac, slot);
        }
    }

    /// Takes a grant: from now on this interface has an RVI to the peer, used once its legs are up and a
    /// barrier has passed. Returns the peer, or none when the grant is for nobody this interface knows.
    pub fn handle_grant(&mut self, grant: &Grant) -> Option<PeerSlot> {
        let slot = self.find_peer(grant.peer, grant.peer_vif)?;
        let peer = &mut self.peers[usize::from(slot.0)];
        peer.handle_grant(grant);
        Some(slot)
    }

    /// The grant of the peer at `slot` has ended and nothing is on its way any more: relay from here on.
    pub fn handle_direct_gone(&mut self, slot: PeerSlot) {
        let peer = &mut self.peers[usize::from(slot.0)];
        peer.direct = None;
        peer.unechoed = None;
        if peer.path != Path::Relay {
            peer.path = Path::Relay;
            self.released.push(slot);
        }
    }

    /// The direct association is closing: hold frames for the peer until it has.
    pub fn handle_direct_closing(&mut self, slot: PeerSlot) {
        let peer = &mut self.peers[usize::from(slot.0)];
        match peer.path {
            Path::Direct => peer.path = Path::Closing,
            // Nothing has gone by the direct RVI yet.
            Path::Barrier { .. } => {
                peer.path = Path::Relay;
                self.released.push(slot);
            }
            Path::Relay | Path::Closing => {}
        }
    }

    /// The legs of the direct RVI to the peer at `slot` are up: a barrier goes out by relay, and what follows
    /// is held until it comes back on the direct RVI (amendment 20).
    //= spec/driver.md#barrier
    //# The driver MUST NOT send a frame on a direct RVI before the peer has echoed a barrier that was sent by relay
    //# behind every earlier frame to that peer.
    pub fn handle_direct_up(&mut self, now: Instant, slot: PeerSlot, relay_up: bool) {
        self.echo_late(slot);
        let id = self.next_barrier;
        let peer = &mut self.peers[usize::from(slot.0)];
        if peer.direct.is_none() || peer.path == Path::Direct {
            return;
        }
        if peer.path == Path::Closing {
            // A leg came back before the association ended: it still holds frames for the peer, and goes on
            // with them first. By relay, newer ones would overtake them.
            peer.path = Path::Direct;
            self.released.push(slot);
            return;
        }
        peer.relay_idle_since = None;
        if !relay_up {
            // Nothing can be on its way by relay that a barrier could wait for; the peer says when it has
            // taken what its control node had for it.
            peer.path = Path::Barrier { id: 0, until: now + BARRIER_WAIT };
            return;
        }
        self.next_barrier = self.next_barrier.wrapping_add(1).max(1);
        peer.path = Path::Barrier { id, until: now + BARRIER_WAIT };
        let barrier = ControlMessage::Barrier {
            lan: self.config.lan,
            origin: self.node,
            origin_vif: self.config.vif,
            destination: peer.node,
            destination_vif: peer.vif,
            boot: self.boot,
            id,
        };
        self.in_band.push(InBand::Relay(barrier));
    }

    /// A barrier for this interface came by relay: it is echoed on the direct RVI of its origin, when that is there.
    /// `boot` is the life of its origin that sent it; one of another life is of no use to anybody.
    pub fn handle_barrier(&mut self, origin: NodeNumber, origin_vif: VifNumber, boot: BootTag, id: u32) {
        let Some(slot) = self.find_peer(origin, origin_vif) else { return };
        let peer = &mut self.peers[usize::from(slot.0)];
        if boot == peer.process.boot_tag() {
            peer.unechoed = Some(id);
            self.echo_late(slot);
        }
    }

    /// The echo of barrier `id` for the peer with this direct RVI found no leg: it goes when one is up.
    //= spec/driver.md#late-echoes
    //# An echo that finds no leg to go by MUST be sent when one is up.
    pub fn handle_echo_unsent(&mut self, node: NodeNumber, channel: Channel, id: u32) {
        let is_it = |peer: &&mut Peer| peer.node == node && peer.direct.is_some_and(|d| d.channel == channel);
        if let Some(peer) = self.peers.iter_mut().find(is_it) {
            peer.unechoed = Some(id);
        }
    }

    /// Echoes the barrier that waits for the peer's direct RVI.
    fn echo_late(&mut self, slot: PeerSlot) {
        let peer = &mut self.peers[usize::from(slot.0)];
        let Some(direct) = peer.direct else { return };
        if let Some(id) = peer.unechoed.take() {
            let echo = ControlMessage::BarrierEcho { id };
            self.in_band.push(InBand::Direct(peer.node, direct.channel, echo));
        }
    }

    /// The peer at `slot` has echoed barrier `id` on the direct RVI.
    pub fn handle_barrier_echo(&mut self, slot: PeerSlot, id: u32) {
        let peer = &mut self.peers[usize::from(slot.0)];
        if matches!(peer.path, Path::Barrier { id: sent, .. } if sent == id) {
            peer.path = Path::Direct;
            self.released.push(slot);
        }
    }

    /// The peer's control node has gone and the peer has taken all it had: relayed frames that are not settled
    /// are sent again on the direct RVI by the caller, before this call, which ends the barrier.
    pub fn handle_relay_drained(&mut self, slot: PeerSlot) -> bool {
        let peer = &mut self.peers[usize::from(slot.0)];
        if !matches!(peer.path, Path::Barrier { .. }) {
            return false;
        }
        peer.path = Path::Direct;
        self.released.push(slot);
        true
    }

    /// Gives up barriers that were not echoed in time: their frames go by relay, and the barrier is tried
    /// again later by the caller (`handle_direct_up`).
    pub fn handle_timeout(&mut self, now: Instant) {
        for (slot, peer) in self.peers.iter_mut().enumerate() {
            if let Path::Barrier { until, .. } = peer.path
                && until <= now
            {
                peer.path = Path::Relay;
                peer.relay_idle_since = Some(now);
                self.released.push(PeerSlot(slot as u16));
            }
        }
    }

    /// When [`Self::handle_timeout`] is wanted next, and for what.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let barriers = self.peers.iter().filter_map(|peer| match peer.path {
            Path::Barrier { until, .. } => Some(until),
            _ => None,
        });
        barriers.min()
    }

    /// Peers with a live grant whose barrier was given up long enough ago to try another.
    pub fn poll_barrier_retry(&mut self, now: Instant) -> Option<PeerSlot> {
        let due = |peer: &Peer| {
            peer.path == Path::Relay
                && peer.direct.is_some()
                && peer.relay_idle_since.is_some_and(|since| now.since(since) >= BARRIER_RETRY)
        };
        let slot = self.peers.iter().position(due)?;
        self.peers[slot].relay_idle_since = None;
        Some(PeerSlot(slot as u16))
    }

    /// True while a barrier waits to be tried again.
    #[must_use]
    pub fn retries_barrier(&self) -> bool {
        self.peers.iter().any(|peer| peer.path == Path::Relay && peer.relay_idle_since.is_some())
    }

    /// The next control message to send in band.
    pub fn poll_in_band(&mut self) -> Option<InBand> {
        (!self.in_band.is_empty()).then(|| self.in_band.remove(0))
    }

    /// A peer whose held frames may be classified again.
    pub fn poll_released(&mut self) -> Option<PeerSlot> {
        (!self.released.is_empty()).then(|| self.released.remove(0))
    }

    /// The slot of the peer with this node and interface.
    #[must_use]
    pub fn find_peer(&self, node: NodeNumber, vif: VifNumber) -> Option<PeerSlot> {
        self.peers.iter().position(|p| p.node == node && p.vif == vif).map(|slot| PeerSlot(slot as u16))
    }
}

#[cfg(test)]
mod tests;
