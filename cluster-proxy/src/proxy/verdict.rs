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
        Self::of(&[slot])
    }

    fn of(slots: &[MemberSlot]) -> Self {
        let mut hops = Self::default();
        slots.iter().for_each(|slot| hops.push(*slot));
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
    /// Who may own its flow: one, where the proxy knows its server, or has just chosen it. Each that does not own it gives it back.
    pub hops: Hops,
    /// The place of the one that is asked now.
    pub hop: u8,
    /// When nobody owns its flow, one may leave it to its stack, which refuses what it does not know. Always so where the proxy knows
    /// the server of the flow, or has just chosen it.
    pub may_refuse: bool,
    /// By which version of the configuration.
    pub epoch: u32,
}

impl Forward {
    /// The servers that have not been asked.
    pub(crate) fn left(&self) -> Hops {
        Hops::of(self.hops.as_slice().get(usize::from(self.hop)..).unwrap_or_default())
    }
}

/// How a packet is given to servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// This one has it, whatever its stack makes of it.
    Plain(MemberSlot),
    /// This one gives it back unless it owns its flow: so many were asked before.
    PassOn(MemberSlot, u8),
    /// Each of these has it, and drops it in silence unless it owns its flow.
    OwnerOnly(Hops),
}

/// What becomes of a packet. `'a` is the proxy's, for what it answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It goes to a server, unchanged: how says [`ClusterProxy::manner`](super::ClusterProxy::manner).
    Forward(Forward),
    /// It goes to every server that can be reached; who does not own its flow drops it in silence.
    Owners,
    /// This frame goes to its sender in the cluster's name.
    Answer(&'a [u8]),
    /// It goes nowhere.
    Dropped(DropReason),
}
