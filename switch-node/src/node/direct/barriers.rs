//! Barriers: before an interface's frames for a peer go by a direct RVI, those that it sent by relay must have arrived.

use alloc::vec::Vec;

use rvi::{Part, SendError, Sent};
use vlan_core::driver::{InBand, PeerSlot};
use vlan_core::wire::control::ControlMessage;
use vlan_core::{Channel, Instant, NodeNumber, VifNumber};

use crate::node::capture::tap_sent;
use crate::node::{Node, PeerId};

impl Node {
    pub(in crate::node) fn start_barrier(&mut self, now: Instant, vif: VifNumber, slot: PeerSlot) {
        let relay_up = self.attached().is_some();
        if let Some(interface) = self.interface_mut(vif) {
            interface.driver.handle_direct_up(now, slot, relay_up);
        }
        if !relay_up {
            self.tell_relay_drained(now, vif, slot, true);
        }
        self.send_in_band(now);
    }

    pub(in crate::node) fn barrier_timeouts(&mut self, now: Instant) {
        for place in 0..self.interfaces.len() {
            let Some(interface) = &mut self.interfaces[place] else { continue };
            interface.driver.handle_timeout(now);
            let mut retries = Vec::new();
            while let Some(slot) = interface.driver.poll_barrier_retry(now) {
                retries.push(slot);
            }
            for slot in retries {
                if self.direct_is_up(place, slot) {
                    self.start_barrier(now, VifNumber(place as u16), slot);
                }
            }
        }
        self.send_in_band(now);
    }

    fn direct_is_up(&self, interface: usize, slot: PeerSlot) -> bool {
        let peer = self.interfaces[interface].as_ref().and_then(|i| i.driver.peer(slot));
        let place = peer.and_then(|peer| self.direct_to(peer.node));
        place.and_then(|place| self.direct[place].as_ref()).is_some_and(|link| link.association.is_up())
    }

    fn send_direct_in_band(
        &mut self,
        now: Instant,
        node: NodeNumber,
        channel: Channel,
        message: &ControlMessage,
    ) -> Result<Sent, SendError> {
        let link = self.direct_to(node).and_then(|place| self.direct[place].as_mut());
        let link = link.ok_or(SendError::NoLeg)?;
        let octets = message.emit();
        let sent = link.association.send_parts(now, channel, 0, 0, &[Part::Private(&octets)])?;
        tap_sent(&mut self.captures, PeerId::Node(node), channel, [&octets[..], &[]]);
        Ok(sent)
    }

    /// Sends the barriers and echoes that drivers want sent. One that finds no room is lost: the barrier is
    /// given up and tried again. An echo that finds no leg goes when there is one.
    pub(in crate::node) fn send_in_band(&mut self, now: Instant) {
        let attached = self.attached();
        for place in 0..self.interfaces.len() {
            while let Some(interface) = &mut self.interfaces[place] {
                let relay = interface.driver.config().relay_channel;
                let Some(in_band) = interface.driver.poll_in_band() else { break };
                match in_band {
                    InBand::Relay(message) => {
                        if let Some(index) = attached {
                            let octets = message.emit();
                            let association = &mut self.control[index].association;
                            let _ = association.send_parts(now, relay, 0, 0, &[Part::Private(&octets)]);
                            let peer = PeerId::ControlNode(index as u8);
                            tap_sent(&mut self.captures, peer, relay, [&octets[..], &[]]);
                        }
                    }
                    InBand::Direct(node, channel, message) => {
                        let sent = self.send_direct_in_band(now, node, channel, &message);
                        if let (Err(SendError::NoLeg), ControlMessage::BarrierEcho { id }) = (sent, message)
                            && let Some(interface) = &mut self.interfaces[place]
                        {
                            interface.driver.handle_echo_unsent(node, channel, id);
                        }
                    }
                }
            }
        }
    }
}
