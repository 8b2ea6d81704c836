//! Frames from the stacks: step 2 of the walk. The driver says which way; the frame goes into the association
//! that leads there, or is held for the moment that its way is not clear.

mod batch;

use rvi::{Framed, Part, SendError};
use vlan_core::driver::{Egress, PeerSlot};
use vlan_core::ethernet::flow_hash;
use vlan_core::wire::control::MemberNotice;
use vlan_core::wire::frame::{FrameHeader, FrameKind, Vnet};
use vlan_core::{DropReason, Instant, Location, MacAddress, VifNumber};

use crate::node::held::{Held, HeldKey};
use crate::node::interface::Interface;
use crate::node::{Accept, HELD_RETRY, Node, direct_place};

pub use batch::Batch;

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
    /// Of many frames, [`Node::batch`] costs less.
    #[inline]
    pub fn send_frame(&mut self, now: Instant, vif: VifNumber, vnet: &Vnet, frame: &[u8]) -> Accept {
        self.batch(now, vif).send(vnet, frame)
    }

    /// Takes a frame of any kind.
    fn send_any(&mut self, now: Instant, vif: VifNumber, vnet: &Vnet, frame: &[u8]) -> Accept {
        let accept = self.take_frame(now, vif, vnet, frame);
        if self.captures.is_some() {
            self.tap_sent_frame(now, vif, frame, accept);
        }
        accept
    }

    #[inline]
    fn take_frame(&mut self, now: Instant, vif: VifNumber, vnet: &Vnet, frame: &[u8]) -> Accept {
        if self.leaving.is_some() {
            return Accept::Busy;
        }
        self.hear_outgoing(now, vif, frame);
        let Some(interface) = self.interface(vif) else {
            // Its host has not taken the device away yet.
            self.former.drops.add(DropReason::NotMember);
            return Accept::Taken;
        };
        //= spec/port-security.md#limits-where-a-storm-begins
        //# A control node MUST tell a node how much each interface of it may send to groups, and the node MUST discard what is beyond that
        //# before it goes anywhere.
        if let Err(reason) = interface.group_meters.admits(now, frame) {
            self.count_drop(vif, reason);
            self.drop_examples.note(now, vif.0, reason, frame, frame.len());
            return Accept::Limited;
        }
        let accept = self.take_admitted(now, vif, vnet, frame);
        if accept == Accept::Taken
            && let Some(interface) = self.interface_mut(vif)
        {
            interface.group_meters.note(now, vnet, frame);
        }
        accept
    }

    #[inline]
    fn take_admitted(&mut self, now: Instant, vif: VifNumber, vnet: &Vnet, frame: &[u8]) -> Accept {
        let Some(interface) = self.interface(vif) else { return Accept::Taken };
        let is_copied = interface.driver.has_listeners();
        if !interface.held.is_empty() && interface.holds_before(vnet, frame) {
            return self.hold(now, vif, vnet, frame);
        }
        match self.attempt(now, vif, vnet, frame, false) {
            Attempt::Sent => {
                if is_copied {
                    self.copy_to_listeners(now, vif, vnet, frame);
                }
                Accept::Taken
            }
            Attempt::Full => Accept::Busy,
            Attempt::NoWay => self.hold(now, vif, vnet, frame),
            Attempt::Drop(reason) => {
                self.count_drop(vif, reason);
                self.drop_examples.note(now, vif.0, reason, frame, frame.len());
                Accept::Taken
            }
        }
    }

    /// Sends a frame the way that its driver chooses. `returned`: it was counted when it was first sent.
    fn attempt(
        &mut self,
        now: Instant,
        vif: VifNumber,
        vnet: &Vnet,
        frame: &[u8],
        returned: bool,
    ) -> Attempt {
        let Some(interface) = self.interfaces.get_mut(usize::from(vif.0)).and_then(Option::as_mut) else {
            return Attempt::NoWay;
        };
        let egress = interface.driver.classify(vnet, frame, frame.len());
        let Egress::Direct { peer, node, channel, copy_to_server } = egress else {
            return self.attempt_relay(now, vif, egress, vnet, frame, returned);
        };
        let Some(header) = interface.driver.direct_header(peer, vnet, frame.len()) else {
            return Attempt::NoWay;
        };
        let place = direct_place(&self.direct_places, node);
        let link = place.and_then(|place| self.direct.get_mut(place)).and_then(Option::as_mut);
        let Some(link) = link else { return Attempt::NoWay };
        let flow = flow_hash(self.config.seed, frame);
        match link.association.send(now, channel, flow, 0, Framed { header, frame }) {
            Ok(_) => {
                link.sent.add(frame.len());
                if !returned {
                    interface.driver.sent_direct(frame.len());
                }
                if self.captures.is_some() {
                    self.tap_sent_direct(vif, peer, vnet, frame);
                }
                if copy_to_server {
                    self.send_copy(now, vif, vnet, frame);
                }
                Attempt::Sent
            }
            Err(SendError::Full) if link.association.is_stalled() => Attempt::NoWay,
            Err(SendError::Full) => Attempt::Full,
            Err(SendError::TooLong { .. }) => Attempt::Drop(DropReason::TooLong),
            Err(_) => Attempt::NoWay,
        }
    }

    /// The same for a frame that does not go by a direct RVI.
    #[inline(never)]
    fn attempt_relay(
        &mut self,
        now: Instant,
        vif: VifNumber,
        egress: Egress,
        vnet: &Vnet,
        frame: &[u8],
        returned: bool,
    ) -> Attempt {
        if let Egress::Drop(reason) = egress {
            return Attempt::Drop(reason);
        }
        let header = self.interface(vif).and_then(|interface| interface.driver.server_header(egress, vnet));
        let Some(header) = header else { return Attempt::NoWay };
        self.send_to_server(now, vif, &header, frame, returned)
    }

    /// Sends a frame to the control node and counts it; `returned` as above.
    #[inline(always)]
    fn send_to_server(
        &mut self,
        now: Instant,
        vif: VifNumber,
        header: &FrameHeader,
        frame: &[u8],
        returned: bool,
    ) -> Attempt {
        let Some(index) = self.control_node_for(header, frame) else { return Attempt::NoWay };
        let Some(interface) = self.interfaces.get_mut(usize::from(vif.0)).and_then(Option::as_mut) else {
            return Attempt::NoWay;
        };
        let link = &mut self.control[index];
        if !link.resend.is_empty() {
            return Attempt::NoWay;
        }
        let config = interface.driver.config();
        let channels = (config.relay_channel, config.arp_channel);
        let sent = if header.kind == FrameKind::Arp {
            let nowhere = Location::default();
            let octets = header.emit_arp(&nowhere, &nowhere, frame.len());
            let parts = [Part::Private(&octets), Part::Private(frame)];
            link.association.send_parts(now, channels.1, 0, 0, &parts)
        } else {
            let framed = Framed { header: header.emit(frame.len()), frame };
            link.association.send(now, channels.0, 0, 0, framed)
        };
        match sent {
            Ok(_) if returned => interface.driver.resent(),
            Ok(_) => interface.driver.sent(header, frame.len()),
            Err(SendError::Full) if !link.association.is_stalled() => return Attempt::Full,
            Err(SendError::TooLong { .. }) => return Attempt::Drop(DropReason::TooLong),
            Err(_) => return Attempt::NoWay,
        }
        if self.captures.is_some() {
            self.tap_sent_relay(index, channels, header, frame);
        }
        Attempt::Sent
    }

    /// The copy of a direct ARP or ND frame for the control node. Without one, or with its ring full, there is
    /// no copy: the frame itself has gone.
    #[cold]
    fn send_copy(&mut self, now: Instant, vif: VifNumber, vnet: &Vnet, frame: &[u8]) {
        let Some(interface) = self.interface(vif) else { return };
        let header = interface.driver.copy_header(vnet);
        let _ = self.send_to_server(now, vif, &header, frame, true);
    }

    pub(super) fn count_drop(&mut self, vif: VifNumber, reason: DropReason) {
        if let Some(interface) = self.interface_mut(vif) {
            interface.driver.count_drop(reason, 1);
        }
    }

    //= spec/driver.md#held-frames
    //# The driver MUST hold an accepted frame that has no way to go for at most 50 ms, in a bounded queue, and then
    //# count it as expired.
    #[cold]
    fn hold(&mut self, now: Instant, vif: VifNumber, vnet: &Vnet, frame: &[u8]) -> Accept {
        let Some(interface) = self.interface_mut(vif) else { return Accept::Taken };
        let egress = interface.driver.classify(vnet, frame, frame.len());
        if interface.held.push(now, key_of(egress), vnet, frame) {
            if interface.driver.has_listeners() {
                self.copy_to_listeners(now, vif, vnet, frame);
            }
            return Accept::Taken;
        }
        if matches!(egress, Egress::Hold { .. }) {
            // The echo of a barrier is on its way: the stack waits rather than loses.
            return Accept::Busy;
        }
        interface.driver.count_drop(DropReason::EgressFull, 1);
        self.drop_examples.note(now, vif.0, DropReason::EgressFull, frame, frame.len());
        Accept::Taken
    }

    /// Tries every held frame again, in order.
    pub(super) fn flush_held(&mut self, now: Instant) {
        self.flush_resend(now);
        for place in 0..self.interfaces.len() {
            let vif = VifNumber(place as u16);
            let Some(interface) = self.interface_mut(vif) else { continue };
            while interface.driver.poll_released().is_some() {}
            if !interface.held.is_empty() {
                self.flush_interface(now, vif);
            }
            self.flush_copies(now, vif);
        }
    }

    fn flush_interface(&mut self, now: Instant, vif: VifNumber) {
        let Some(interface) = self.interface_mut(vif) else { return };
        let mut waiting = interface.held.take();
        let mut blocked: alloc::vec::Vec<HeldKey> = alloc::vec::Vec::new();
        while let Some(held) = waiting.pop_front() {
            let attempt = if blocked.contains(&held.key) {
                Attempt::NoWay
            } else {
                self.attempt(now, vif, &held.vnet, &held.frame, held.returned)
            };
            match attempt {
                Attempt::Sent => {}
                Attempt::Drop(reason) => {
                    self.count_drop(vif, reason);
                    self.drop_examples.note(now, vif.0, reason, &held.frame, held.frame.len());
                }
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
            let vif = interface.driver.vif().0;
            let mut last = |frame: &[u8]| {
                self.drop_examples.note(now, vif, DropReason::Expired, frame, frame.len());
            };
            let expired = interface.held.expire(now, &mut last);
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
        let Some(interface) = self.interface_mut(vif) else {
            self.former.drops.add_many(DropReason::NotMember, frames.len() as u64);
            return;
        };
        let frames = frames.into_iter().map(|(slot, vnet, frame)| (Some(slot), vnet, frame)).collect();
        interface.held.push_returned(now, frames);
    }
}

impl Interface {
    /// Takes a connectivity notice. Copies for a listener whose place another member has now are for nobody.
    pub fn handle_member(&mut self, notice: &MemberNotice) {
        self.driver.handle_member(notice);
        while let Some(slot) = self.driver.poll_replaced() {
            let gone = self.copies.drop_of(Some(slot));
            self.driver.count_drop(DropReason::ListenerGone, gone);
        }
        self.rekey_held();
    }

    /// Takes a binding.
    pub fn handle_binding(&mut self, mac: MacAddress, location: &Location) {
        self.driver.handle_binding(mac, location);
        self.rekey_held();
    }

    /// What waits for one receiver is one queue, also when it has become known only since who that is.
    //= spec/driver.md#held-frames-of-a-receiver
    //# A frame MUST NOT overtake a held one to the same receiver, also when the receiver's binding was learned in between.
    fn rekey_held(&mut self) {
        let Self { driver, held, .. } = self;
        held.rekey(|vnet, frame| key_of(driver.classify(vnet, frame, frame.len())));
    }

    /// True when a frame would overtake one that is held.
    #[cold]
    fn holds_before(&self, vnet: &Vnet, frame: &[u8]) -> bool {
        self.held.holds(key_of(self.driver.classify(vnet, frame, frame.len())))
    }
}

/// Frames with the same key keep their order while they are held.
fn key_of(egress: Egress) -> HeldKey {
    match egress {
        Egress::Direct { peer, .. } | Egress::Hold { peer } => Some(peer),
        Egress::Relay { peer } => peer,
        Egress::Group | Egress::Arp | Egress::Drop(_) => None,
    }
}
