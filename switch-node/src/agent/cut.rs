//! The last step of the walk where a kernel takes no super-frames of UDP, before Linux 6.2: they are cut here, and each
//! datagram is written by itself.

use rvi::SharedOctets;
use vlan_core::super_frame::{GSO_UDP, Segments};
use vlan_core::wire::frame::Vnet;

use crate::agent::tap::{Tap, Written};

/// Room for a super-frame and one frame cut out of it, used again for each.
#[derive(Debug, Default)]
pub struct Cutter {
    whole: Vec<u8>,
    segment: Vec<u8>,
}

impl Cutter {
    /// True for a frame in a state that only a kernel with UDP segmentation takes.
    #[inline]
    #[must_use]
    pub fn is_for(vnet: &Vnet) -> bool {
        vnet.gso_type & 0x7f == GSO_UDP
    }

    /// Writes the frames that a super-frame stands for, up to the first that the kernel does not take.
    pub fn write(&mut self, tap: &Tap, vnet: &Vnet, head: &[u8], rest: SharedOctets<'_>) -> Written {
        // What is looked at must not change under us.
        self.whole.clear();
        self.whole.extend_from_slice(head);
        self.whole.resize(head.len() + rest.len(), 0);
        rest.copy_to(&mut self.whole[head.len()..]);
        let Some(mut segments) = Segments::of(vnet, &self.whole) else {
            return Written::Refused(rustix::io::Errno::INVAL);
        };
        while let Some(vnet) = segments.next_into(&mut self.segment) {
            match tap.write(&vnet, &self.segment, SharedOctets::empty()) {
                Written::Taken => {}
                other => return other,
            }
        }
        Written::Taken
    }
}
