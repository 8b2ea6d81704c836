//! Frames from one stack, one behind the other: where those to one station go is looked up once, and they are counted at
//! the end.

use rvi::Framed;
use vlan_core::counters::FrameCount;
use vlan_core::driver::UnicastRun;
use vlan_core::ethernet::flow_hash;
use vlan_core::wire::frame::{FRAME_HEADER_LEN, Vnet};
use vlan_core::{Instant, VifNumber};

use crate::node::{Accept, Node, direct_place};

/// Frames that one stack sends. Nothing else happens to the node meanwhile, so what was found out for one frame holds for the next.
pub struct Batch<'n> {
    node: &'n mut Node,
    now: Instant,
    vif: VifNumber,
    /// The way of the last frame, if it went by a direct RVI, and the place of the association there.
    run: Option<(UnicastRun, usize)>,
    /// Frames of the run that are not in the counters yet.
    sent: FrameCount,
}

impl Node {
    /// Begins to take frames from the stack behind `vif`.
    #[inline]
    pub fn batch(&mut self, now: Instant, vif: VifNumber) -> Batch<'_> {
        Batch { node: self, now, vif, run: None, sent: FrameCount::default() }
    }
}

impl Batch<'_> {
    /// Takes a frame. Its checksum and segmentation state travels with it.
    #[inline]
    pub fn send(&mut self, vnet: &Vnet, frame: &[u8]) -> Accept {
        let of_run = self.run.as_ref().and_then(|(run, _)| run.header(vnet, frame));
        let Some(header) = of_run.or_else(|| self.turn_to(vnet, frame)) else {
            return self.send_alone(vnet, frame);
        };
        if self.push(header, frame) { Accept::Taken } else { self.send_alone(vnet, frame) }
    }

    /// Sends a frame of the run. False: it did not go, and nothing has changed.
    #[inline(always)]
    fn push(&mut self, header: [u8; FRAME_HEADER_LEN], frame: &[u8]) -> bool {
        let Some((run, place)) = &self.run else { return false };
        let Some(Some(link)) = self.node.direct.get_mut(*place) else { return false };
        let flow = flow_hash(self.node.config.seed, frame);
        let sent = link.association.send(self.now, run.channel, flow, 0, Framed { header, frame }).is_ok();
        if sent {
            self.sent.add(frame.len());
        }
        sent
    }

    /// Goes on with the frames to another station. `None` when they do not go by a direct RVI, or not by that alone.
    #[inline(never)]
    fn turn_to(&mut self, vnet: &Vnet, frame: &[u8]) -> Option<[u8; FRAME_HEADER_LEN]> {
        self.count();
        let node = &*self.node;
        let interface = node.interface(self.vif)?;
        let is_simple = node.leaving.is_none()
            && node.captures.is_none()
            && interface.held.is_empty()
            && !interface.driver.has_listeners();
        let run = interface.driver.unicast_run(vnet, frame).filter(|_| is_simple)?;
        let place = direct_place(&node.direct_places, run.node)?;
        let header = run.header(vnet, frame);
        self.run = Some((run, place));
        header
    }

    /// Sends a frame that is of no run, or did not go as one.
    #[inline(never)]
    fn send_alone(&mut self, vnet: &Vnet, frame: &[u8]) -> Accept {
        self.count();
        self.node.send_any(self.now, self.vif, vnet, frame)
    }

    /// Ends the run, and brings the counters up to date.
    #[inline]
    fn count(&mut self) {
        let Some((_, place)) = self.run.take() else { return };
        let sent = core::mem::take(&mut self.sent);
        if let Some(Some(link)) = self.node.direct.get_mut(place) {
            link.sent.add_all(sent);
        }
        if let Some(interface) = self.node.interface_mut(self.vif) {
            interface.driver.sent_direct(sent);
        }
    }
}

impl Drop for Batch<'_> {
    #[inline]
    fn drop(&mut self) {
        self.count();
    }
}
