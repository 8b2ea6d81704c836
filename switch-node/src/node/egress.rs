//! Frames from the stacks: step 2 of the walk. The driver says which way; the frame goes into the association
//! that leads there, or is held for the moment that its way is not clear.

use rvi::{Part, SendError};
use vlan_core::driver::{Egress, PeerSlot};
use vlan_core::ethernet::flow_hash;
use vlan_core::wire::frame::{FRAME_HEADER_LEN, FrameHeader, FrameKind, Vnet};
use vlan_core::{Channel, DropReason, Instant, Location, NodeNumber, VifNumber};

use crate::node::held::{Held, HeldKey};
use crate::node::{Accept, HELD_RETRY, Node};

/// What became of an attempt to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    Sent,
    /// The ring is full and its consumer alive: backpressure.
    Full,
    /// No way there now, or its consumer does not move: hold the frame.
    NoWay,
    Drop(DropReason),
}

impl Node {
    /// Takes a frame from the stack behind `vif`. Its checksum and segmentation state travels with it.
    #[inline]
    pub fn send_frame(&mut self, now: Instant, vif: VifNumber, vnet: &Vnet, frame: &[u8]) -> Accept {
        if self.leaving.is_some() {
            return Accept::Busy;
        }
        self.hear_outgoing(now, vif, frame);
        let Some(interface) = self.interface(vif) else { return Accept::Taken };
        let egress = interface.driver.classify(vnet, frame, frame.len());
        if !interface.held.is_empty() && interface.held.holds(key_of(&egress)) {
            return self.hold(now, vif, &egress, vnet, frame);
        }
        match self.attempt(now, vif, &egress, vnet, frame, false) {
            Attempt::Sent => Accept::Taken,
            Attempt::Full => Accept::Busy,
            Attempt::NoWay => self.hold(now, vif, &egress, vnet, frame),
            Attempt::Drop(reason) => {
                self.count_drop(vif, reason);
                Accept::Taken
            }
        }
    }

    /// Sends a frame the way that the driver chose. `returned`: it was counted when it was first sent.
    #[inline]
    fn attempt(
        &mut self,
        now: Instant,
        vif: VifNumber,
        egress: &Egress,
        vnet: &Vnet,
        frame: &[u8],
        returned: bool,
    ) -> Attempt {
        match *egress {
            Egress::Direct { node, channel, ref header, copy_to_server, .. } => {
                let attempt = self.send_direct(now, node, channel, header, frame);
                if attempt == Attempt::Sent {
                    if !returned && let Some(interface) = self.interface_mut(vif) {
                        interface.driver.sent_direct(frame.len());
                    }
                    if copy_to_server {
                        self.send_copy(now, vif, vnet, frame);
                    }
                }
                attempt
            }
            Egress::Relay { ref header, .. } | Egress::Arp { ref header } => {
                let attempt = self.send_relay(now, vif, header, frame);
                if attempt == Attempt::Sent {
                    self.count_sent(vif, header, frame.len(), returned);
                }
                attempt
            }
            Egress::Hold { .. } => Attempt::NoWay,
            Egress::Drop(reason) => Attempt::Drop(reason),
        }
    }

    #[inline]
    fn send_direct(
        &mut self,
        now: Instant,
        node: NodeNumber,
        channel: Channel,
        header: &[u8; FRAME_HEADER_LEN],
        frame: &[u8],
    ) -> Attempt {
        let seed = self.config.seed;
        let place = self.direct_to(node);
        let Some(link) = place.and_then(|place| self.direct[place].as_mut()) else { return Attempt::NoWay };
        let parts = [Part::Private(header), Part::Private(frame)];
        match link.association.send(now, channel, flow_hash(seed, frame), 0, &parts) {
            Ok(_) => {
                link.sent.add(frame.len());
                Attempt::Sent
            }
            Err(SendError::Full) if link.association.is_stalled() => Attempt::NoWay,
            Err(SendError::Full) => Attempt::Full,
            Err(SendError::TooLong { .. }) => Attempt::Drop(DropReason::TooLong),
            Err(_) => Attempt::NoWay,
        }
    }

    fn send_relay(&mut self, now: Instant, vif: VifNumber, header: &FrameHeader, frame: &[u8]) -> Attempt {
        let Some(channels) = self.relay_channels(vif) else { return Attempt::NoWay };
        let Some(index) = self.attached() else { return Attempt::NoWay };
        let link = &mut self.control[index];
        if !link.resend.is_empty() {
            return Attempt::NoWay;
        }
        let sent = match header.kind {
            FrameKind::Arp => {
                let nowhere = Location::default();
                let octets = header.emit_arp(&nowhere, &nowhere, frame.len());
                let parts = [Part::Private(&octets), Part::Private(frame)];
                link.association.send(now, channels.1, 0, 0, &parts)
            }
            _ => {
                let octets = header.emit(frame.len());
                let parts = [Part::Private(&octets), Part::Private(frame)];
                link.association.send(now, channels.0, 0, 0, &parts)
            }
        };
        match sent {
            Ok(_) => Attempt::Sent,
            Err(SendError::Full) if !link.association.is_stalled() => Attempt::Full,
            Err(SendError::TooLong { .. }) => Attempt::Drop(DropReason::TooLong),
            Err(_) => Attempt::NoWay,
        }
    }

    /// The copy of a direct ARP or ND frame for the control node. Without one, or with its ring full, there is
    /// no copy: the frame itself has gone.
    fn send_copy(&mut self, now: Instant, vif: VifNumber, vnet: &Vnet, frame: &[u8]) {
        let Some(interface) = self.interface(vif) else { return };
        let header = interface.driver.copy_header(vnet);
        if self.send_relay(now, vif, &header, frame) == Attempt::Sent {
            self.count_sent(vif, &header, frame.len(), true);
        }
    }

    #[inline]
    fn count_sent(&mut self, vif: VifNumber, header: &FrameHeader, frame_len: usize, returned: bool) {
        let Some(interface) = self.interface_mut(vif) else { return };
        if returned {
            interface.driver.resent();
        } else {
            interface.driver.sent(header, frame_len);
        }
    }

    pub(super) fn count_drop(&mut self, vif: VifNumber, reason: DropReason) {
        if let Some(interface) = self.interface_mut(vif) {
            interface.driver.count_drop(reason, 1);
        }
    }

    //= spec/driver.md#held-frames
    //# The driver MUST hold an accepted frame that has no way to go for at most 50 ms, in a bounded queue, and then
    //# count it as expired.
    fn hold(&mut self, now: Instant, vif: VifNumber, egress: &Egress, vnet: &Vnet, frame: &[u8]) -> Accept {
        let Some(interface) = self.interface_mut(vif) else { return Accept::Taken };
        if interface.held.push(now, key_of(egress), vnet, frame) {
            return Accept::Taken;
        }
        if matches!(egress, Egress::Hold { .. }) {
            // The echo of a barrier is on its way: the stack waits rather than loses.
            return Accept::Busy;
        }
        interface.driver.count_drop(DropReason::EgressFull, 1);
        Accept::Taken
    }

    /// Tries every held frame again, in order.
    pub(super) fn flush_held(&mut self, now: Instant) {
        self.flush_resend(now);
        for place in 0..self.interfaces.len() {
            let vif = VifNumber(place as u16);
            let Some(interface) = self.interface_mut(vif) else { continue };
            while interface.driver.poll_released().is_some() {}
            if interface.held.is_empty() {
                continue;
            }
            self.flush_interface(now, vif);
        }
    }

    fn flush_interface(&mut self, now: Instant, vif: VifNumber) {
        let Some(interface) = self.interface_mut(vif) else { return };
        let mut waiting = interface.held.take();
        let mut blocked: alloc::vec::Vec<HeldKey> = alloc::vec::Vec::new();
        while let Some(held) = waiting.pop_front() {
            let Some(interface) = self.interface(vif) else { return };
            let egress = interface.driver.classify(&held.vnet, &held.frame, held.frame.len());
            let attempt = if blocked.contains(&held.key) {
                Attempt::NoWay
            } else {
                self.attempt(now, vif, &egress, &held.vnet, &held.frame, held.returned)
            };
            match attempt {
                Attempt::Sent => {}
                Attempt::Drop(reason) => self.count_drop(vif, reason),
                Attempt::Full | Attempt::NoWay => {
                    blocked.push(held.key);
                    self.put_back(vif, held, now);
                }
            }
        }
    }

    fn put_back(&mut self, vif: VifNumber, held: Held, now: Instant) {
        if let Some(interface) = self.interface_mut(vif) {
            interface.held.put_back(held, now + HELD_RETRY);
        }
    }

    pub(super) fn expire_held(&mut self, now: Instant) {
        for interface in self.interfaces.iter_mut().flatten() {
            let expired = interface.held.expire(now);
            interface.driver.count_drop(DropReason::Expired, expired);
        }
    }

    /// Holds the frames that a closed direct RVI did not deliver, before all others of their peer.
    pub(super) fn hold_returned(
        &mut self,
        now: Instant,
        vif: VifNumber,
        frames: alloc::vec::Vec<(PeerSlot, Vnet, alloc::vec::Vec<u8>)>,
    ) {
        let Some(interface) = self.interface_mut(vif) else { return };
        let frames = frames.into_iter().map(|(slot, vnet, frame)| (Some(slot), vnet, frame)).collect();
        interface.held.push_returned(now, frames);
    }
}

/// Frames with the same key keep their order while they are held.
fn key_of(egress: &Egress) -> HeldKey {
    match egress {
        Egress::Direct { peer, .. } | Egress::Hold { peer } => Some(*peer),
        Egress::Relay { peer, .. } => *peer,
        Egress::Arp { .. } | Egress::Drop(_) => None,
    }
}
