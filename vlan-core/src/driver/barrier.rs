//! The way to a peer moves between relay and its direct RVI: a barrier goes by the old way behind everything that was sent
//! there, and nothing goes by the new one before it has come back.

use super::{BARRIER_RETRY, BARRIER_WAIT, Driver, InBand, Path, Peer, PeerSlot};
use crate::address::{BootTag, Channel, MacAddress, NodeNumber, VifNumber};
use crate::time::Instant;
use crate::wire::control::ControlMessage;
use crate::wire::frame::{FrameHeader, FrameKind};

impl Driver {
    /// The grant of the peer at `slot` has ended and nothing is on its way any more: relay from here on.
    pub fn handle_direct_gone(&mut self, slot: PeerSlot) {
        let peer = &mut self.peers[usize::from(slot.0)];
        peer.direct = None;
        peer.settle(self.config.port_security);
        peer.unechoed = None;
        if peer.path != Path::Relay {
            peer.path = Path::Relay;
            self.released.push(slot);
        }
        self.forget_unvouched_if(|listener| listener.slot == slot);
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
        let id = self.barrier_id();
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

    /// The number of the next barrier.
    //= spec/driver.md#numbers-of-barriers
    //# A barrier MUST have a number that no other interface of the node gives to any.
    fn barrier_id(&self) -> u32 {
        u32::from(self.config.vif.0) << 16 | u32::from(self.next_barrier)
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
            peer.relay_ended_at = Some(self.next_bseq);
            self.released.push(slot);
        }
    }

    /// True when a barrier has ended that was behind this relayed frame, or copy for a listener: its receiver has it, or a
    /// control node has dropped and counted it, whether or not that has settled it. `message` is the frame with its header.
    //= spec/driver.md#before-an-echoed-barrier
    //# A node MUST NOT send a relayed frame or a copy again behind which a barrier to the same peer has ended.
    #[must_use]
    pub fn has_ended(&self, message: &[u8]) -> bool {
        let Ok(header) = FrameHeader::parse(message, message.len()) else { return false };
        let receiver = match header.kind {
            FrameKind::Relay => {
                let destination = message.get(header.kind.header_len()..).and_then(MacAddress::from_octets);
                destination.and_then(|destination| self.bound(destination))
            }
            FrameKind::Promiscuous => {
                let node = FrameHeader::parse_listener(message).ok();
                node.and_then(|node| self.find_peer(node, header.destination_vif))
            }
            FrameKind::Group | FrameKind::Arp | FrameKind::Unicast => None,
        };
        let age = |number: u32| self.next_bseq.wrapping_sub(number);
        let is_before = |at: u32| age(header.bseq) > age(at);
        receiver.and_then(|slot| self.peer(slot)?.relay_ended_at).is_some_and(is_before)
    }

    /// The frame with this number, which was relayed before a barrier to the peer at `slot` ended, has not come to its end,
    /// and none behind it: they go by relay again.
    pub fn relay_goes_on_from(&mut self, slot: PeerSlot, bseq: u32) {
        let age = self.next_bseq.wrapping_sub(bseq);
        let peer = &mut self.peers[usize::from(slot.0)];
        peer.relay_ended_at =
            peer.relay_ended_at.map(|at| if self.next_bseq.wrapping_sub(at) < age { bseq } else { at });
    }

    /// The peer's control node has gone and the peer has taken all it had: relayed frames that are not settled
    /// are sent again on the direct RVI by the caller, before this call, which ends the barrier.
    pub fn handle_relay_drained(&mut self, slot: PeerSlot) -> bool {
        let peer = &mut self.peers[usize::from(slot.0)];
        if !matches!(peer.path, Path::Barrier { .. }) {
            return false;
        }
        peer.path = Path::Direct;
        peer.relay_ended_at = Some(self.next_bseq);
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
}
