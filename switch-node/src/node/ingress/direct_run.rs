//! Plain unicast frames of a direct association, one behind the other: what they have in common is looked up once, and
//! counted at the end.

use rvi::Message;
use vlan_core::counters::FrameCount;
use vlan_core::driver::IncomingRun;
use vlan_core::drop_example::DropExamples;
use vlan_core::wire::frame::FRAME_HEADER_LEN;
use vlan_core::{Channel, DropReason, Instant, VifNumber};

use crate::node::direct::DirectLink;
use crate::node::interface::Interface;
use crate::node::{Delivery, FrameSink};

/// Frames that came behind one another by one RVI.
pub(super) struct DirectRun<'n> {
    now: Instant,
    interfaces: &'n mut [Option<Interface>],
    drop_examples: &'n mut DropExamples,
    /// The RVI's channel, the interface that it leads to, and what its frames are like.
    channel: Channel,
    vif: VifNumber,
    frames: Option<IncomingRun>,
    /// Those that were delivered.
    delivered: FrameCount,
}

impl<'n> DirectRun<'n> {
    /// A run of no frames yet.
    pub(super) fn new(
        now: Instant,
        interfaces: &'n mut [Option<Interface>],
        drop_examples: &'n mut DropExamples,
    ) -> Self {
        // No frame comes by the control channel, so the first one finds out where its own leads to.
        let (channel, vif, frames) = (Channel::CONTROL, VifNumber(0), None);
        Self { now, interfaces, drop_examples, channel, vif, frames, delivered: FrameCount::default() }
    }

    /// Takes a message of `link` if it is a plain unicast frame. False: it is not one, and nothing has been done with it.
    #[inline(always)]
    pub(super) fn take(
        &mut self,
        link: &mut DirectLink,
        message: &Message<'_>,
        sink: &mut dyn FrameSink,
    ) -> bool {
        if message.channel != self.channel {
            self.turn_to(link, message.channel);
        }
        let Some(frames) = &self.frames else { return false };
        let Some(vnet) = frames.admit(message.head, message.len) else { return false };
        let head = &message.head[FRAME_HEADER_LEN..];
        if sink.deliver(self.vif, &vnet, head, message.rest) == Delivery::Taken {
            self.delivered.add(message.len - FRAME_HEADER_LEN);
        } else {
            self.refused(link, head, message.len - FRAME_HEADER_LEN);
        }
        true
    }

    /// Goes on with the frames of another channel.
    #[cold]
    #[inline(never)]
    fn turn_to(&mut self, link: &mut DirectLink, channel: Channel) {
        self.count(link);
        (self.channel, self.frames) = (channel, None);
        let Some(rvi) = link.rvi_of(channel) else { return };
        let Some(Some(interface)) = self.interfaces.get(usize::from(rvi.vif.0)) else { return };
        (self.vif, self.frames) = (rvi.vif, interface.driver.incoming_run(rvi.slot));
    }

    /// The device has no room for a frame.
    #[cold]
    #[inline(never)]
    fn refused(&mut self, link: &mut DirectLink, head: &[u8], frame_len: usize) {
        link.received.add(frame_len);
        if let Some(Some(interface)) = self.interfaces.get_mut(usize::from(self.vif.0)) {
            interface.driver.count_drop(DropReason::DeviceFull, 1);
        }
        self.drop_examples.note(self.now, self.vif.0, DropReason::DeviceFull, head, frame_len);
    }

    /// Brings the counters up to date. To be called when the run ends.
    pub(super) fn count(&mut self, link: &mut DirectLink) {
        let delivered = core::mem::take(&mut self.delivered);
        link.received.add_all(delivered);
        if let Some(Some(interface)) = self.interfaces.get_mut(usize::from(self.vif.0)) {
            interface.driver.delivered_direct(delivered);
        }
    }
}
