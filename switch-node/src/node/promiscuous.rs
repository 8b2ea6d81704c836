//! Promiscuous listeners at a node: which interfaces listen is told to the control nodes, and each unicast frame of a stack is
//! copied to who listens. The rules are `vlan_core::driver::listeners`'s.

use alloc::vec::Vec;

use rvi::{Part, SendError};
use vlan_core::driver::{CopyWay, PeerSlot};
use vlan_core::ethernet::flow_hash;
use vlan_core::wire::control::ControlMessage;
use vlan_core::wire::frame::{PROMISCUOUS_HEADER_LEN, Vnet};
use vlan_core::{Channel, DropReason, Instant, Location, MacAddress, NodeNumber, VifNumber};

use crate::node::capture::tap_sent;
use crate::node::direct::DirectRvi;
use crate::node::{HELD_RETRY, Node, NodeEvent, PeerId};

/// What became of an attempt to send a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CopyAttempt {
    Sent,
    /// There is no room for it now.
    Full,
    /// Its way is not clear: it waits.
    NoWay,
    /// Its listener is none any more.
    Gone,
}

/// A copy that its listener did not take from a direct RVI which has ended; none of it when it is lost.
pub(super) type Returned = (DirectRvi, Option<(Vnet, Vec<u8>)>);

impl Node {
    // --- who listens ----------------------------------------------------------------------------------------

    /// The device of `vif` hears everything that it is given from now on, or its own frames only.
    //= spec/promiscuous.md#entering-and-leaving
    //# A node MUST tell each control node that accepts it which of its interfaces are promiscuous, and every change after
    //# that.
    pub fn handle_promiscuity(&mut self, now: Instant, vif: VifNumber, is_promiscuous: bool) {
        let Some(interface) = self.interface_mut(vif) else { return };
        if !interface.driver.set_promiscuous(is_promiscuous) {
            return;
        }
        let is_first = !core::mem::replace(&mut interface.was_promiscuous, true);
        if is_first && !interface.driver.config().may_listen {
            self.log(NodeEvent::MayNotListen { vif });
        }
        for index in 0..self.control.len() {
            if self.control[index].has_registered() {
                self.announce_listener(now, index, vif);
            }
        }
    }

    /// Tells a control node of every interface that listens or has listened, as it may remember it from before.
    pub(super) fn announce_listeners(&mut self, now: Instant, index: usize) {
        for place in 0..self.interfaces.len() {
            if self.interfaces[place].as_ref().is_some_and(|interface| interface.was_promiscuous) {
                self.announce_listener(now, index, VifNumber(place as u16));
            }
        }
    }

    /// Tells a control node of an interface that may listen by its word, perhaps only now, if it does.
    //= spec/promiscuous.md#changed-permission
    //# When a member loses its permission to listen, its control node MUST end it as a listener at once; when it gets one, its
    //# node MUST say at once that its interface is promiscuous, if it is.
    pub(super) fn announce_permitted(&mut self, now: Instant, index: usize, vif: VifNumber) {
        if self.interface(vif).is_some_and(|interface| interface.driver.listens()) {
            self.announce_listener(now, index, vif);
        }
    }

    fn announce_listener(&mut self, now: Instant, index: usize, vif: VifNumber) {
        let Some(interface) = self.interface(vif) else { return };
        let listener = Location {
            cabinet: self.config.cabinet,
            node: self.config.number,
            vif,
            lan: interface.driver.lan(),
            generation: self.config.process.0,
            ..Location::default()
        };
        let message = ControlMessage::Promiscuous { listener, listens: interface.driver.is_promiscuous() };
        self.send_control(now, index, &message);
    }

    /// A control node says that another member listens, or listens no more.
    pub(super) fn handle_listener(&mut self, index: usize, at: &Location, listens: bool) {
        for interface in self.interfaces.iter_mut().flatten() {
            // A LAN may have more listeners than a driver keeps only by a control node's mistake.
            let _ = interface.driver.handle_listener(index as u8, at, listens);
        }
    }

    /// The members that get copies of the frames of `vif` now: their nodes and interfaces.
    pub fn listeners(&self, vif: VifNumber) -> impl Iterator<Item = (NodeNumber, VifNumber)> + '_ {
        let driver = self.interface(vif).map(|interface| &interface.driver);
        let slots = driver.into_iter().flat_map(|d| (0..).map_while(|place| d.peer(d.listener(place)?)));
        slots.map(|peer| (peer.node, peer.vif))
    }

    // --- copies ---------------------------------------------------------------------------------------------

    /// Sends the copies of a frame that the stack behind `vif` has got rid of.
    //= spec/promiscuous.md#copies
    //# The driver MUST send one copy of each unicast frame that it accepts from its stack to each listener of the LAN but
    //# the frame's destination, under a header of its own of type promiscuous that names the listener's interface.
    #[cold]
    #[inline(never)]
    pub(super) fn copy_to_listeners(&mut self, now: Instant, vif: VifNumber, vnet: &Vnet, frame: &[u8]) {
        let Some(destination) = MacAddress::from_octets(frame) else { return };
        if destination.is_group() {
            // It comes to listeners as it does to others.
            return;
        }
        let mut place = 0;
        while let Some(interface) = self.interface(vif)
            && let Some(slot) = interface.driver.listener(place)
        {
            place += 1;
            if interface.driver.is_destination(slot, destination) {
                continue;
            }
            let waits = interface.copies.holds(Some(slot));
            let attempt =
                if waits { CopyAttempt::NoWay } else { self.attempt_copy(now, vif, slot, vnet, frame) };
            match attempt {
                CopyAttempt::Sent => {}
                CopyAttempt::Full => self.drop_copy(now, vif, DropReason::ListenerFull, frame),
                CopyAttempt::NoWay => self.hold_copy(now, vif, slot, vnet, frame),
                CopyAttempt::Gone => self.drop_copy(now, vif, DropReason::ListenerGone, frame),
            }
        }
    }

    fn attempt_copy(
        &mut self,
        now: Instant,
        vif: VifNumber,
        slot: PeerSlot,
        vnet: &Vnet,
        frame: &[u8],
    ) -> CopyAttempt {
        let Some(driver) = self.interface(vif).map(|interface| &interface.driver) else {
            return CopyAttempt::Gone;
        };
        let (Some(way), Some((header, listener))) =
            (driver.copy_way(slot), driver.listener_header(slot, vnet))
        else {
            return CopyAttempt::Gone;
        };
        let octets = header.emit_promiscuous(listener, frame.len());
        let attempt = match way {
            CopyWay::Direct { node, channel } => self.send_copy_direct(now, node, channel, &octets, frame),
            CopyWay::Relay => self.send_copy_by_relay(now, vif, &octets, frame),
            CopyWay::Hold => CopyAttempt::NoWay,
        };
        if let (CopyAttempt::Sent, Some(interface)) = (attempt, self.interface_mut(vif)) {
            interface.driver.sent_copy(way, frame.len());
        }
        attempt
    }

    fn send_copy_direct(
        &mut self,
        now: Instant,
        node: NodeNumber,
        channel: Channel,
        header: &[u8; PROMISCUOUS_HEADER_LEN],
        frame: &[u8],
    ) -> CopyAttempt {
        let place = self.direct_to(node);
        let Some(link) = place.and_then(|place| self.direct[place].as_mut()) else {
            return CopyAttempt::NoWay;
        };
        // The lane that the flow's frames would take.
        let flow = flow_hash(self.config.seed, frame);
        let parts = [Part::Private(header), Part::Private(frame)];
        let sent = link.association.send_parts(now, channel, flow, 0, &parts);
        let is_stalled = link.association.is_stalled();
        if sent.is_ok() {
            link.sent.add(frame.len());
            tap_sent(&mut self.captures, PeerId::Node(node), channel, [header, frame]);
        }
        outcome(sent.map(|_| ()), is_stalled)
    }

    fn send_copy_by_relay(
        &mut self,
        now: Instant,
        vif: VifNumber,
        header: &[u8; PROMISCUOUS_HEADER_LEN],
        frame: &[u8],
    ) -> CopyAttempt {
        let relay = self.interface(vif).map(|interface| interface.driver.config().relay_channel);
        let (Some(relay), Some(index)) = (relay, self.attached()) else { return CopyAttempt::NoWay };
        let link = &mut self.control[index];
        if !link.resend.is_empty() {
            return CopyAttempt::NoWay;
        }
        let parts = [Part::Private(header), Part::Private(frame)];
        let sent = link.association.send_parts(now, relay, 0, 0, &parts);
        let is_stalled = link.association.is_stalled();
        if sent.is_ok() {
            tap_sent(&mut self.captures, PeerId::ControlNode(index as u8), relay, [header, frame]);
        }
        outcome(sent.map(|_| ()), is_stalled)
    }

    // --- copies that wait -----------------------------------------------------------------------------------

    //= spec/promiscuous.md#no-room
    //# A copy for which there is no room at once MUST be dropped and counted as listener-full: it MUST NOT delay or displace
    //# a frame of the interface.
    fn hold_copy(&mut self, now: Instant, vif: VifNumber, slot: PeerSlot, vnet: &Vnet, frame: &[u8]) {
        let Some(interface) = self.interface_mut(vif) else { return };
        if !interface.copies.push(now, Some(slot), vnet, frame) {
            self.drop_copy(now, vif, DropReason::ListenerFull, frame);
        }
    }

    /// Tries every copy that waits at an interface again, in the order of each listener's.
    pub(super) fn flush_copies(&mut self, now: Instant, vif: VifNumber) {
        let Some(interface) = self.interface_mut(vif).filter(|interface| !interface.copies.is_empty()) else {
            return;
        };
        let waiting = interface.copies.take();
        let mut blocked = Vec::new();
        for held in waiting {
            let Some(slot) = held.key else { continue };
            let attempt = match blocked.contains(&slot) {
                true => CopyAttempt::NoWay,
                false => self.attempt_copy(now, vif, slot, &held.vnet, &held.frame),
            };
            match attempt {
                CopyAttempt::Sent => {}
                CopyAttempt::Gone => self.drop_copy(now, vif, DropReason::ListenerGone, &held.frame),
                CopyAttempt::Full | CopyAttempt::NoWay => {
                    blocked.push(slot);
                    if let Some(interface) = self.interface_mut(vif) {
                        interface.copies.put_back(held, now + HELD_RETRY);
                    }
                }
            }
        }
    }

    /// Holds the copies that came back from a direct RVI which has ended, before all others, and counts those that are lost
    /// with it.
    //= spec/promiscuous.md#lost-listeners
    //# A copy that its listener's process had not taken when it died MUST be counted as listener-gone.
    pub(super) fn take_back_copies(&mut self, now: Instant, copies: Vec<Returned>) {
        // From the last one on, so that the first one comes to stand first.
        for (rvi, copy) in copies.into_iter().rev() {
            let Some(interface) = self.interface_mut(rvi.vif) else {
                self.former.drops.add(DropReason::ListenerGone);
                continue;
            };
            let is_same = interface.driver.peer(rvi.slot).is_some_and(|peer| peer.vif == rvi.peer_vif);
            match copy {
                Some((vnet, frame)) if is_same => {
                    interface.copies.push_returned(now, alloc::vec![(Some(rvi.slot), vnet, frame)]);
                }
                _ => interface.driver.count_drop(DropReason::ListenerGone, 1),
            }
        }
    }

    /// Gives up what has waited too long.
    pub(super) fn expire_copies(&mut self, now: Instant) {
        for interface in self.interfaces.iter_mut().flatten().filter(|i| !i.copies.is_empty()) {
            let expired = interface.copies.expire(now, &mut |_| {});
            interface.driver.count_drop(DropReason::ListenerFull, expired);
        }
    }

    fn drop_copy(&mut self, now: Instant, vif: VifNumber, reason: DropReason, frame: &[u8]) {
        self.count_drop(vif, reason);
        self.drop_examples.note(now, vif.0, reason, frame, frame.len());
    }
}

fn outcome(sent: Result<(), SendError>, is_stalled: bool) -> CopyAttempt {
    match sent {
        Ok(()) => CopyAttempt::Sent,
        Err(SendError::Full) if !is_stalled => CopyAttempt::Full,
        Err(_) => CopyAttempt::NoWay,
    }
}
