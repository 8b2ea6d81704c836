//! Promiscuous listeners of the LAN: who they are, and whether a copy that a driver sent by relay may go to one.

use super::{LanServer, MemberSlot, Verdict};
use crate::address::{NodeNumber, VifNumber};
use crate::drop_reason::DropReason;
use crate::limits::LISTENERS_PER_LAN_MAX;
use crate::time::Instant;

impl LanServer {
    /// The member at `slot`, which may, listens promiscuously from now on, or no more. False: there are as many as a LAN
    /// may have.
    pub fn set_listens(&mut self, slot: MemberSlot, listens: bool) -> bool {
        match (listens, self.listens(slot)) {
            (true, false) if self.listeners.len() >= LISTENERS_PER_LAN_MAX => return false,
            (true, false) => self.listeners.push(slot),
            (false, _) => self.listeners.retain(|listener| *listener != slot),
            (true, true) => {}
        }
        self.groups.set_listens(slot, listens);
        true
    }

    /// The members that listen promiscuously.
    #[must_use]
    pub fn listeners(&self) -> &[MemberSlot] {
        &self.listeners
    }

    /// True while a member listens promiscuously.
    #[inline]
    #[must_use]
    pub fn has_listeners(&self) -> bool {
        !self.listeners.is_empty()
    }

    /// True while the member at `slot` listens promiscuously.
    #[must_use]
    pub fn listens(&self, slot: MemberSlot) -> bool {
        self.listeners.contains(&slot)
    }

    /// The verdict for a copy from the member at `from` for the listener at this interface, metered for their pair.
    //= spec/promiscuous.md#relayed-copies
    //# The server MUST give a copy to the listener that its header names and to nobody else, and drop it when that member
    //# does not listen.
    pub fn decide_copy(
        &mut self,
        now: Instant,
        from: MemberSlot,
        (node, vif): (NodeNumber, VifNumber),
    ) -> Verdict {
        let is_it = |slot: &&MemberSlot| {
            self.member(**slot).is_some_and(|member| (member.node, member.vif) == (node, vif))
        };
        match self.listeners.iter().find(is_it).copied() {
            Some(slot) => self.decide_unicast(now, from, slot),
            None => self.drop(DropReason::NotListening),
        }
    }
}
