//! Segments that a control node asks this server about: those of flows that its stack does not own go back to it, and on to the next server.

use rvi::{Body, Message};
use vlan_core::wire::frame::{FRAME_HEADER_LEN, FrameHeader};
use vlan_core::{DropReason, Instant, VifNumber};

use crate::node::capture::tap_sent;
use crate::node::ingress::whole;
use crate::node::interface::Interface;
use crate::node::{Node, PeerId};

impl Node {
    /// True for a frame that is to be passed on by who does not own its flow, where the stack behind `vif` does not.
    //= spec/cluster.md#segments-of-unknown-flows
    //# A driver that is given such a segment to pass on MUST give it back to the control node that it came from, as it came, unless its stack owns the flow.
    #[inline]
    pub(super) fn is_to_be_given_back(
        &self,
        vif: VifNumber,
        header: &FrameHeader,
        message: &Message<'_>,
    ) -> bool {
        let frame = &message.head[header.kind.header_len()..];
        header.hop().is_some() && self.interface(vif).is_some_and(|interface| !interface.may_have(frame))
    }

    /// Gives a message back to the control node that it came from, by the same channel.
    #[cold]
    pub(super) fn return_segment(
        &mut self,
        now: Instant,
        index: usize,
        vif: VifNumber,
        message: &Message<'_>,
    ) {
        let body = Body { head: message.head, rest: message.rest };
        let sent = self.control[index].association.send(now, message.channel, 0, 0, body);
        let (head, frame_len) = (&message.head[FRAME_HEADER_LEN..], message.len - FRAME_HEADER_LEN);
        if let Some(interface) = self.interface_mut(vif) {
            interface.driver.given_back(frame_len, sent.is_ok());
        }
        if sent.is_err() {
            self.drop_examples.note(now, vif.0, DropReason::EgressFull, head, frame_len);
        } else if self.captures.is_some() {
            let peer = PeerId::ControlNode(index as u8);
            tap_sent(&mut self.captures, peer, message.channel, [&[], &whole(message)]);
        }
    }
}

impl Interface {
    /// The stack may have a frame that only the owner of its flow may.
    #[cold]
    pub(in crate::node) fn may_have(&self, head: &[u8]) -> bool {
        self.served.as_ref().is_some_and(|served| served.may_have(head))
    }
}
