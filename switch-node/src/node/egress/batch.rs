//! Frames from one stack, one behind the other: where those to one station go is looked up once, and they are counted at
//! the end.

use rvi::Framed;
use vlan_core::driver::{OutgoingRun, Way};
use vlan_core::ethernet::flow_hash;
use vlan_core::wire::frame::{FRAME_HEADER_LEN, Vnet};
use vlan_core::{Instant, VifNumber};

use crate::node::capture::is_tapped;
use crate::node::{Accept, Node, PeerId, direct_place};

/// Frames that one stack sends. Nothing else happens to the node meanwhile, so what was found out for one frame holds for
/// the next. They are in the node's counters when it is dropped.
pub struct Batch<'n> {
    node: &'n mut Node,
    now: Instant,
    vif: VifNumber,
    /// The run that the last frame was of, and the place of the association that it goes by.
    run: Option<(OutgoingRun, usize)>,
    /// The interface serves a cluster: what its stack sends says which flows it owns.
    serves: bool,
}

impl Node {
    /// Begins to take frames from the stack behind `vif`.
    #[inline]
    pub fn batch(&mut self, now: Instant, vif: VifNumber) -> Batch<'_> {
        let serves = self.serves(vif);
        Batch { node: self, now, vif, run: None, serves }
    }
}

impl Batch<'_> {
    /// Takes a frame. Its checksum and segmentation state travels with it.
    #[inline]
    pub fn send(&mut self, vnet: &Vnet, frame: &[u8]) -> Accept {
        if self.serves {
            self.node.hear_flow(self.now, self.vif, frame);
        }
        let of_run = self.run.as_ref().and_then(|(run, _)| run.header(vnet, frame));
        let Some(header) = of_run.or_else(|| self.turn_to(vnet, frame)) else {
            return self.send_alone(vnet, frame);
        };
        if self.push(header, frame) { Accept::Taken } else { self.send_alone(vnet, frame) }
    }

    /// Sends a frame of the run. False: it did not go, and nothing has changed.
    #[inline(always)]
    fn push(&mut self, header: [u8; FRAME_HEADER_LEN], frame: &[u8]) -> bool {
        let Some((run, place)) = &mut self.run else { return false };
        let (association, flow) = match run.way {
            Way::Direct(_) => {
                let Some(Some(link)) = self.node.direct.get_mut(*place) else { return false };
                (&mut link.association, flow_hash(self.node.config.seed, frame))
            }
            Way::Relay => (&mut self.node.control[*place].association, 0),
        };
        let is_sent = association.send(self.now, run.channel, flow, 0, Framed { header, frame }).is_ok();
        if is_sent {
            run.sent(frame.len());
        }
        is_sent
    }

    /// Goes on with the frames to another station. `None`: this frame is to be looked at alone.
    #[inline(never)]
    fn turn_to(&mut self, vnet: &Vnet, frame: &[u8]) -> Option<[u8; FRAME_HEADER_LEN]> {
        self.end_run();
        let node = &*self.node;
        let interface = node.interface(self.vif)?;
        let is_alone =
            node.leaving.is_some() || !interface.held.is_empty() || interface.driver.has_listeners();
        let run = interface.driver.outgoing_run(vnet, frame).filter(|_| !is_alone)?;
        let (place, peer) = match run.way {
            Way::Direct(peer) => (direct_place(&node.direct_places, peer)?, PeerId::Node(peer)),
            Way::Relay => {
                let place = node.attached().filter(|&index| node.control[index].resend.is_empty())?;
                (place, PeerId::ControlNode(place as u8))
            }
        };
        if is_tapped(node.captures.as_deref(), self.vif, peer) {
            return None;
        }
        let header = run.header(vnet, frame);
        self.run = Some((run, place));
        header
    }

    /// Sends a frame that is of no run, or did not go as one.
    #[inline(never)]
    fn send_alone(&mut self, vnet: &Vnet, frame: &[u8]) -> Accept {
        self.end_run();
        self.node.send_any(self.now, self.vif, vnet, frame)
    }

    /// Brings the counters up to date.
    #[inline]
    fn end_run(&mut self) {
        let Some((run, place)) = self.run.take() else { return };
        if let Some(interface) = self.node.interface_mut(self.vif) {
            interface.driver.end_run(&run);
        }
        if let Way::Direct(_) = run.way
            && let Some(Some(link)) = self.node.direct.get_mut(place)
        {
            link.sent.add_all(run.count());
        }
    }
}

impl Drop for Batch<'_> {
    #[inline]
    fn drop(&mut self) {
        self.end_run();
    }
}
