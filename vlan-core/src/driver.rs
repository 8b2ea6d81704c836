//! The virtual Ethernet driver of one interface: decides how each outgoing frame travels and whether each
//! incoming one may pass.
//!
//! On the walk: a frame from the interface's stack is classified here and leaves with its header on a direct
//! RVI, or on the relay or ARP channel to a control node; a frame from the fabric is checked here against the
//! grant it came by and goes up to the stack. Frames stay in the host's memory; the driver sees their heads.

mod barrier;
mod clusters;
mod ingress;
mod listeners;
mod lives;
mod peer;
mod run;
mod stations;

use alloc::vec::Vec;

use crate::address::{BootTag, Channel, LanId, MacAddress, NodeNumber, ProcessId, VifNumber};
use crate::counters::{DropCounters, FrameCount};
use crate::drop_reason::DropReason;
use crate::ethernet::{EthernetHeader, is_neighbour_resolution};
use crate::limits::ADDRESSES_PER_VIF_MAX;
use crate::location::Location;
use crate::mac_table::MacTable;
use crate::security::own_addresses::LINK_LOCALS_MAX;
use crate::security::rate::Meters;
use crate::security::{Limits, OwnAddresses, Roles, Sender};
use crate::wire::control::{ControlMessage, Grant, InterfaceConfig, MemberNotice, SenderNotice};
use crate::wire::frame::{FRAME_HEADER_LEN, FrameHeader, FrameKind, Vnet};

use listeners::Listener;
use stations::Stations;

pub use listeners::CopyWay;
pub use peer::{BARRIER_RETRY, BARRIER_WAIT, Path, Peer};
pub use run::{IncomingRun, OutgoingRun, RelayedRun, Way};

/// Addresses of a peer that are kept: those that the platform file may give it, and its link-local ones.
const SENDER_ADDRESSES_MAX: usize = 72;
const _: () = assert!(SENDER_ADDRESSES_MAX == ADDRESSES_PER_VIF_MAX + LINK_LOCALS_MAX);

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
        /// A copy goes to the control node on the ARP channel, when one is up (amendment 24).
        copy_to_server: bool,
    },
    /// On the interface's relay channel, to one member.
    Relay {
        /// The peer, when the destination is bound.
        peer: Option<PeerSlot>,
    },
    /// On the interface's relay channel, to all other members.
    Group,
    /// On the interface's ARP channel; the locations in its header are the control node's to fill.
    Arp,
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriverCounters {
    /// Frames from the stack that were sent on direct RVIs.
    pub sent_direct: FrameCount,
    /// Frames from the stack that were sent to a control node: relayed, group and ARP.
    pub sent_relay: FrameCount,
    /// Frames to the stack that came on direct RVIs.
    pub received_direct: FrameCount,
    /// Frames to the stack that came from a control node.
    pub received_relay: FrameCount,
    /// Frames that were given back to a control node, since the stack does not own their flows.
    pub given_back: FrameCount,
    /// Copies sent to promiscuous listeners, beside the frames themselves.
    pub sent_copies: FrameCount,
    /// Copies that this interface was given as a promiscuous listener; they are among the received frames.
    pub received_copies: FrameCount,
    /// Frames dropped, by reason.
    pub drops: DropCounters,
}

impl DriverCounters {
    /// Adds what another interface has counted.
    pub fn add_all(&mut self, other: &Self) {
        for (own, more) in [
            (&mut self.sent_direct, other.sent_direct),
            (&mut self.sent_relay, other.sent_relay),
            (&mut self.received_direct, other.received_direct),
            (&mut self.received_relay, other.received_relay),
            (&mut self.given_back, other.given_back),
            (&mut self.sent_copies, other.sent_copies),
            (&mut self.received_copies, other.received_copies),
        ] {
            own.add_all(more);
        }
        for (reason, frames) in other.drops.iter() {
            self.drops.add_many(reason, frames);
        }
    }
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
    stations: Stations,
    /// The next number of a relayed, group or ARP frame (amendment 22).
    next_bseq: u32,
    next_barrier: u16,
    in_band: Vec<InBand>,
    released: Vec<PeerSlot>,
    /// Peers whose places other members have now.
    replaced: Vec<PeerSlot>,
    /// Members that get a copy of each unicast frame.
    listeners: Vec<Listener>,
    /// The interface's own device hears everything that it is given.
    is_promiscuous: bool,
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
            stations: Stations::new(seed),
            // Anywhere: a number says nothing but its distance to its neighbours.
            next_bseq: seed as u32,
            next_barrier: 1,
            in_band: Vec::new(),
            released: Vec::new(),
            replaced: Vec::new(),
            listeners: Vec::new(),
            is_promiscuous: false,
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
        for peer in &mut self.peers {
            (peer.outgoing, peer.incoming) = peer.templates(self.node, &self.config);
            peer.settle(self.config.port_security);
        }
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
        if let Err(reason) = vnet.check(self.config.mtu, frame_len) {
            return Egress::Drop(reason);
        }
        let neighbour = is_neighbour_resolution(ethernet.ethertype, head);
        if neighbour && let Some(egress) = self.classify_of_cluster(&ethernet, head, frame_len) {
            return egress;
        }
        if ethernet.destination.is_group() {
            return if neighbour { Egress::Arp } else { Egress::Group };
        }
        match self.bound(ethernet.destination) {
            Some(peer) => self.classify_bound(peer, neighbour),
            None if neighbour => Egress::Arp,
            //= spec/driver.md#unbound-destinations
            //# The driver MUST send a unicast frame whose destination has no binding to the control node.
            None => Egress::Relay { peer: None },
        }
    }

    #[inline]
    fn classify_bound(&self, slot: PeerSlot, neighbour: bool) -> Egress {
        let Some(peer) = self.peers.get(usize::from(slot.0)) else { return Egress::Relay { peer: None } };
        match (&peer.path, peer.direct) {
            //= spec/driver.md#neighbour-probes-of-bound-neighbours
            //# The driver MUST send unicast ARP and ND for a neighbour with a direct RVI over that RVI, with a copy
            //# to the control node.
            (Path::Direct, Some(direct)) => Egress::Direct {
                peer: slot,
                node: peer.node,
                channel: direct.channel,
                copy_to_server: neighbour,
            },
            (Path::Relay, _) if neighbour => Egress::Arp,
            (Path::Relay, _) => Egress::Relay { peer: Some(slot) },
            (Path::Barrier { .. } | Path::Closing | Path::Direct, _) => Egress::Hold { peer: slot },
        }
    }

    /// The header to put in front of a frame that goes to the control node; `None` for one that does not.
    #[inline]
    #[must_use]
    pub fn server_header(&self, egress: Egress, vnet: &Vnet) -> Option<FrameHeader> {
        Some(match egress {
            Egress::Relay { peer: Some(_) } => self.header(FrameKind::Relay, vnet),
            Egress::Relay { peer: None } => {
                FrameHeader { flags: FrameHeader::UNBOUND, ..self.header(FrameKind::Relay, vnet) }
            }
            Egress::Group => self.header(FrameKind::Group, vnet),
            Egress::Arp => self.header(FrameKind::Arp, vnet),
            Egress::Direct { .. } | Egress::Hold { .. } | Egress::Drop(_) => return None,
        })
    }

    /// The octets of the header in front of a unicast frame to `peer` on its direct RVI; `None` for no peer.
    #[inline]
    #[must_use]
    pub fn direct_header(
        &self,
        peer: PeerSlot,
        vnet: &Vnet,
        frame_len: usize,
    ) -> Option<[u8; FRAME_HEADER_LEN]> {
        Some(self.peers.get(usize::from(peer.0))?.outgoing.emit(vnet, frame_len, 0))
    }

    /// The header of the copy that goes to the control node beside a direct ARP or ND frame.
    #[must_use]
    pub fn copy_header(&self, vnet: &Vnet) -> FrameHeader {
        FrameHeader { flags: FrameHeader::ARP_COPY, ..self.header(FrameKind::Arp, vnet) }
    }

    /// Counts a frame that has gone by a direct RVI.
    #[inline]
    pub fn sent_direct(&mut self, frame_len: usize) {
        self.counters.sent_direct.add(frame_len);
    }

    /// Counts a frame that has gone to the control node with `header`, and uses its number up.
    #[inline]
    pub fn sent(&mut self, header: &FrameHeader, frame_len: usize) {
        self.next_bseq = self.next_bseq.wrapping_add(1);
        if header.flags & FrameHeader::ARP_COPY == 0 {
            self.counters.sent_relay.add(frame_len);
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

    // --- members, bindings and grants -----------------------------------------------------------------------

    /// Takes a connectivity notice: another member of the LAN came, changed its process, or went.
    ///
    /// Returns false when the table is full and the member stays unknown: its frames then go by relay.
    pub fn handle_member(&mut self, notice: &MemberNotice) -> bool {
        if notice.node == self.node {
            return true;
        }
        let slot = match self.find_member(notice) {
            Some(slot) => slot,
            None => match self.add_peer(notice) {
                Some(slot) => slot,
                None => return false,
            },
        };
        let peer = &self.peers[usize::from(slot.0)];
        if (peer.vif, peer.mac) != (notice.vif, notice.mac) {
            if !notice.attached && peer.attached {
                // What is said of a former member comes late: another one has its place.
                return true;
            }
            self.replace_peer(slot, notice);
        }
        // A full table leaves the address unbound: its frames go by relay.
        let _ = self.by_mac.insert(notice.mac, slot);
        self.peers[usize::from(slot.0)].handle_process(notice.process, notice.attached);
        true
    }

    /// The peer that a notice is of, or the one of its node whose place it takes.
    fn find_member(&self, notice: &MemberNotice) -> Option<PeerSlot> {
        let of_node = || self.peers.iter().position(|peer| peer.node == notice.node);
        self.find_peer(notice.node, notice.vif).or_else(|| of_node().map(|slot| PeerSlot(slot as u16)))
    }

    //= spec/driver.md#members-that-come-again
    //# The driver MUST begin anew with a member that has another interface or another MAC than its node had on this LAN
    //# before: nothing that it knew of the former one holds for it.
    fn replace_peer(&mut self, slot: PeerSlot, notice: &MemberNotice) {
        let former = self.peers[usize::from(slot.0)].mac;
        // Its former address may belong to another member by now.
        if self.by_mac.lookup(former) == Some(slot) {
            self.by_mac.remove(former);
        }
        self.stations.forget_peer(slot);
        self.forget_listener(slot);
        self.peers[usize::from(slot.0)] = Peer::new(notice, self.node, &self.config);
        // What was held for the former one is judged anew.
        self.released.push(slot);
        self.replaced.push(slot);
    }

    /// The next peer whose place another member has taken: what waits for the former one is for nobody.
    pub fn poll_replaced(&mut self) -> Option<PeerSlot> {
        self.replaced.pop()
    }

    fn add_peer(&mut self, notice: &MemberNotice) -> Option<PeerSlot> {
        if self.peers.len() >= self.peers_max {
            return None;
        }
        let slot = PeerSlot(u16::try_from(self.peers.len()).ok()?);
        self.by_mac.insert(notice.mac, slot).ok()?;
        self.peers.push(Peer::new(notice, self.node, &self.config));
        Some(slot)
    }

    /// Takes a binding notice (D2): frames for `mac` go where `location` says.
    pub fn handle_binding(&mut self, mac: MacAddress, location: &Location) {
        if location.lan != self.config.lan || !mac.is_station() {
            return;
        }
        self.bind(mac, (location.node, location.vif));
    }

    /// Takes a grant: from now on this interface has an RVI to the peer, used once its legs are up and a
    /// barrier has passed. Returns the peer, or none when the grant is for nobody this interface knows.
    pub fn handle_grant(&mut self, grant: &Grant) -> Option<PeerSlot> {
        let slot = self.find_peer(grant.peer, grant.peer_vif)?;
        let peer = &mut self.peers[usize::from(slot.0)];
        peer.handle_grant(grant);
        peer.settle(self.config.port_security);
        Some(slot)
    }

    /// Takes what the peer at the other end of a direct RVI may send, in place of what was said before.
    pub fn handle_sender(&mut self, notice: &SenderNotice) {
        let Some(slot) = self.find_peer(notice.node, notice.vif) else { return };
        let roles = Roles { dhcp_server: notice.dhcp_server, router: notice.router };
        let addresses = notice.addresses.iter().take(SENDER_ADDRESSES_MAX).copied().collect();
        let own = OwnAddresses::new(addresses);
        let meters = Meters::new(&Limits { total: notice.total, ..Limits::default() });
        let peer = &mut self.peers[usize::from(slot.0)];
        peer.set_sender(Sender { roles, own }, meters);
        peer.settle(self.config.port_security);
        self.stations.set_room(slot, notice.learn);
    }

    /// The slot of the peer with this node and interface.
    #[must_use]
    pub fn find_peer(&self, node: NodeNumber, vif: VifNumber) -> Option<PeerSlot> {
        self.peers.iter().position(|p| p.node == node && p.vif == vif).map(|slot| PeerSlot(slot as u16))
    }
}

#[cfg(test)]
mod tests;
