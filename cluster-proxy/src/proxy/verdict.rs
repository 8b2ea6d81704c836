//! What becomes of a packet.

use vlan_core::DropReason;
use vlan_core::server::MemberSlot;

/// Servers that a segment of an unknown flow goes to in turn.
pub const HOPS_MAX: usize = 4;

/// Servers in the order in which a packet goes to them, each once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hops {
    slots: [MemberSlot; HOPS_MAX],
    len: u8,
}

impl Hops {
    pub(crate) fn one(slot: MemberSlot) -> Self {
        let mut hops = Self::default();
        hops.push(slot);
        hops
    }

    /// At the end, unless it is there already or there is no room.
    //= spec/cluster.md#segments-of-unknown-flows
    //# A TCP segment of a flow that is neither claimed nor remembered, and begins none, MUST go to the servers of its row in turn, until one owns it; there MUST NOT be more than 4.
    pub(crate) fn push(&mut self, slot: MemberSlot) {
        let len = usize::from(self.len);
        if len < HOPS_MAX && !self.as_slice().contains(&slot) {
            self.slots[len] = slot;
            self.len += 1;
        }
    }

    /// All of them; the first gets the packet.
    #[must_use]
    pub fn as_slice(&self) -> &[MemberSlot] {
        &self.slots[..usize::from(self.len)]
    }
}

/// To whom a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The first server gets it; each that does not own its flow passes it on to the next.
    pub hops: Hops,
    /// The last may leave it to its stack, which refuses what it does not know; else it drops it in silence. Always so where the proxy
    /// knows the server of the flow, or has just chosen it.
    pub may_refuse: bool,
    /// By which version of the configuration.
    pub epoch: u32,
}

/// What becomes of a packet. `'a` is the proxy's, for what it answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It goes to a server, unchanged.
    Forward(Forward),
    /// It goes to every server that can be reached; who does not own its flow drops it in silence.
    Owners,
    /// This frame goes to its sender in the cluster's name.
    Answer(&'a [u8]),
    /// It goes nowhere.
    Dropped(DropReason),
}
