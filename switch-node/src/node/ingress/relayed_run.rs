//! Relayed unicast frames of one origin, one behind the other: what they have in common is looked up once, and counted at the
//! end.

use rvi::Message;
use vlan_core::driver::RelayedRun;
use vlan_core::wire::frame::{FRAME_HEADER_LEN, FrameHeader, FrameKind};
use vlan_core::{Channel, DropReason, Instant, NodeNumber, VifNumber};

use crate::node::capture::is_tapped;
use crate::node::{Delivery, FrameSink, Node, PeerId};

/// Where a relayed unicast frame came by, and from whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin(Channel, NodeNumber, VifNumber);

impl Origin {
    /// That of a frame with this header.
    pub(super) fn of(channel: Channel, header: &FrameHeader) -> Option<Self> {
        (header.kind == FrameKind::Relay).then_some(Self(channel, header.origin, header.origin_vif))
    }
}

/// Frames that came behind one another by one channel of a control node.
pub(super) struct Run {
    channel: Channel,
    /// The interface that they are for.
    vif: VifNumber,
    frames: RelayedRun,
}

impl Node {
    /// The run of the frames that follow the one in `message`, which has just been delivered to `vif`.
    pub(super) fn begin_run(&self, index: usize, vif: VifNumber, message: &Message<'_>) -> Option<Run> {
        // Every message of a capture is looked at.
        let is_captured = is_tapped(self.captures.as_deref(), vif, PeerId::ControlNode(index as u8));
        let interface = self.interface(vif).filter(|_| !is_captured)?;
        let header = FrameHeader::parse(message.head, message.len).ok()?;
        Some(Run { channel: message.channel, vif, frames: interface.driver.relayed_run(&header)? })
    }

    /// Takes a message if it is the next one of the run. False: it is not one, and nothing has been done with it.
    #[inline(always)]
    pub(super) fn deliver_next(
        &mut self,
        now: Instant,
        run: &mut Run,
        message: &Message<'_>,
        sink: &mut dyn FrameSink,
    ) -> bool {
        let interface = self.interfaces.get_mut(usize::from(run.vif.0)).and_then(Option::as_mut);
        let Some(interface) = interface.filter(|_| message.channel == run.channel) else { return false };
        let vnet = interface.driver.take(&run.frames, message.head, message.len);
        let (Some(vnet), Some(head)) = (vnet, message.head.get(FRAME_HEADER_LEN..)) else { return false };
        let frame_len = message.len - FRAME_HEADER_LEN;
        if let Some(served) = &mut interface.served {
            served.handle_incoming(now, head);
        }
        if sink.deliver(run.vif, &vnet, head, message.rest) == Delivery::Taken {
            run.frames.delivered(frame_len);
        } else {
            interface.driver.count_drop(DropReason::DeviceFull, 1);
            self.drop_examples.note(now, run.vif.0, DropReason::DeviceFull, head, frame_len);
        }
        true
    }

    /// Brings the counters up to date.
    pub(super) fn end_run(&mut self, run: Option<Run>) {
        let Some(run) = run else { return };
        if let Some(interface) = self.interface_mut(run.vif) {
            interface.driver.end_relayed_run(&run.frames);
        }
    }
}
