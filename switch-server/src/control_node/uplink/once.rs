//! Which frames of a LAN's members have been outside: what a node sends again in its next session goes there once.

use alloc::vec::Vec;

use vlan_core::limits::BSEQ_WINDOW;
use vlan_core::server::MemberSlot;
use vlan_core::window::{Window, WindowVerdict};
use vlan_core::wire::frame::FrameHeader;
use vlan_core::{BootTag, NodeNumber, VifNumber};

/// Whose frames a window counts: a life of an interface.
type Life = (NodeNumber, VifNumber, BootTag);

/// By member slot.
#[derive(Default)]
pub(in crate::control_node) struct Once(Vec<Option<(Life, Window)>>);

impl Once {
    /// True for a frame of the member at `from` that has not been outside; it has from now on.
    //= spec/uplink.md#outward-once
    //# A control node MUST give an uplink each numbered frame of a process of a member once, also when its session has ended in
    //# between and it sends the frame again.
    pub fn take(&mut self, from: MemberSlot, header: &FrameHeader) -> bool {
        let place = usize::from(from.0);
        if self.0.len() <= place {
            self.0.resize_with(place + 1, || None);
        }
        let life = (header.origin, header.origin_vif, header.boot);
        let known = self.0[place].take().filter(|(of, _)| *of == life);
        let (_, window) =
            self.0[place].insert(known.unwrap_or_else(|| (life, Window::around(BSEQ_WINDOW, header.bseq))));
        window.insert(header.bseq) == WindowVerdict::New
    }
}
