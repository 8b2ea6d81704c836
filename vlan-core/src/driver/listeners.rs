//! Promiscuous listeners: which members get a copy of each unicast frame from the interface's stack, by which way and
//! under which header; and the copies that come to the interface itself (S50 to S53).

use super::{Driver, Ingress, Path, PeerSlot};
use crate::address::{Channel, MacAddress, NodeNumber, ProcessId};
use crate::drop_reason::DropReason;
use crate::limits::LISTENERS_PER_LAN_MAX;
use crate::location::Location;
use crate::wire::control::MemberNotice;
use crate::wire::frame::{FrameHeader, FrameKind, Vnet};

/// A member that listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listener {
    pub(super) slot: PeerSlot,
    /// The process that does.
    process: ProcessId,
    /// A bit for each control node whose present session with this node has named it.
    vouching: u8,
}

/// How a copy travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyWay {
    /// On the direct RVI to this node, on this channel.
    Direct {
        /// The listener's node.
        node: NodeNumber,
        /// The RVI's channel.
        channel: Channel,
    },
    /// On the interface's relay channel.
    Relay,
    /// Nowhere yet: the listener's traffic is moving between relay and direct.
    Hold,
}

impl Driver {
    // --- what is known of listeners -------------------------------------------------------------------------

    /// A control node says where a listener is, or that it listens no more. False: there are as many as a LAN may have,
    /// or it is no other member that this interface knows.
    //= spec/promiscuous.md#known-listeners
    //# The driver MUST keep each listener of its LAN that a control node names, at most 8, until a control node says that
    //# it listens no more, another process serves it, or neither a control node nor a direct RVI vouches for it.
    pub fn handle_listener(&mut self, control_node: u8, at: &Location, listens: bool) -> bool {
        let Some(slot) = self.find_peer(at.node, at.vif).filter(|_| at.lan == self.config.lan) else {
            return false;
        };
        let known = self.listeners.iter().position(|listener| listener.slot == slot);
        let process = ProcessId(at.generation);
        let bit = bit_of(control_node);
        match (listens, known) {
            (true, Some(place)) if self.listeners[place].process == process => {
                self.listeners[place].vouching |= bit;
            }
            (true, Some(place)) => self.listeners[place] = Listener { slot, process, vouching: bit },
            (true, None) if self.listeners.len() < LISTENERS_PER_LAN_MAX => {
                self.listeners.push(Listener { slot, process, vouching: bit });
            }
            (true, None) => return false,
            (false, Some(place)) => {
                self.listeners.remove(place);
            }
            (false, None) => {}
        }
        true
    }

    /// A control node says that a member came, changed its process or went: a listener of before has ended, unless its
    /// direct RVI says otherwise.
    pub fn review_listener(&mut self, control_node: u8, notice: &MemberNotice) {
        let Some(slot) = self.find_peer(notice.node, notice.vif) else { return };
        self.listeners.retain(|l| l.slot != slot || !notice.attached || l.process == notice.process);
        if !notice.attached {
            let of_member = self.listeners.iter_mut().filter(|listener| listener.slot == slot);
            of_member.for_each(|listener| listener.vouching &= !bit_of(control_node));
            // The others may not have been named yet in this session.
            self.forget_unvouched_if(|listener| listener.slot == slot);
        }
    }

    /// Another member has the place of this peer, and has not said that it listens.
    pub(super) fn forget_listener(&mut self, slot: PeerSlot) {
        self.listeners.retain(|listener| listener.slot != slot);
    }

    /// The session with a control node is over: what it said of listeners holds until the next one has said all it knows.
    pub fn end_vouching(&mut self, control_node: u8) {
        for listener in &mut self.listeners {
            listener.vouching &= !bit_of(control_node);
        }
    }

    /// Forgets the listeners that nobody vouches for: a control node has said all it knows.
    pub fn forget_unvouched(&mut self) {
        self.forget_unvouched_if(|_| true);
    }

    /// Forgets those of them that have lost a word for themselves: what was said of the others holds.
    pub(super) fn forget_unvouched_if(&mut self, is_asked_about: impl Fn(&Listener) -> bool) {
        let Self { listeners, peers, .. } = self;
        let is_direct = |slot: PeerSlot| {
            peers.get(usize::from(slot.0)).is_some_and(|p| matches!(p.path, Path::Direct | Path::Closing))
        };
        listeners.retain(|l| !is_asked_about(l) || l.vouching != 0 || is_direct(l.slot));
    }

    // --- copies of the stack's frames -----------------------------------------------------------------------

    /// True when somebody listens.
    #[inline]
    #[must_use]
    pub fn has_listeners(&self) -> bool {
        !self.listeners.is_empty()
    }

    /// The listener at a place of the list.
    #[must_use]
    pub fn listener(&self, place: usize) -> Option<PeerSlot> {
        self.listeners.get(place).map(|listener| listener.slot)
    }

    /// True when a frame to `destination` comes to the peer at `slot` anyway.
    #[must_use]
    pub fn is_destination(&self, slot: PeerSlot, destination: MacAddress) -> bool {
        self.peer(slot).is_some_and(|peer| peer.mac == destination) || self.bound(destination) == Some(slot)
    }

    /// The way of a copy to the listener at `slot`; none when it listens no more.
    //= spec/promiscuous.md#the-way-of-copies
    //# A copy MUST go by the direct RVI to its listener where frames to that member do, else by the control node, and wait
    //# while their way changes.
    #[must_use]
    pub fn copy_way(&self, slot: PeerSlot) -> Option<CopyWay> {
        self.listeners.iter().find(|listener| listener.slot == slot)?;
        let peer = self.peer(slot)?;
        Some(match (peer.path, peer.direct) {
            (Path::Direct, Some(direct)) => CopyWay::Direct { node: peer.node, channel: direct.channel },
            (Path::Relay, _) => CopyWay::Relay,
            _ => CopyWay::Hold,
        })
    }

    /// The header of a copy for the peer at `slot`, and the node that goes into it.
    #[must_use]
    pub fn listener_header(&self, slot: PeerSlot, vnet: &Vnet) -> Option<(FrameHeader, NodeNumber)> {
        let peer = self.peer(slot)?;
        let header = self.header(FrameKind::Promiscuous, vnet);
        Some((FrameHeader { destination_vif: peer.vif, ..header }, peer.node))
    }

    /// Counts a copy that has gone, and uses its number up where it has gone by relay.
    pub fn sent_copy(&mut self, way: CopyWay, frame_len: usize) {
        if way == CopyWay::Relay {
            self.next_bseq = self.next_bseq.wrapping_add(1);
        }
        self.counters.sent_copies.add(frame_len);
    }

    // --- copies for this interface --------------------------------------------------------------------------

    /// The interface's device hears everything that it is given from now on, or its own frames only. True when that has
    /// changed.
    pub fn set_promiscuous(&mut self, is_promiscuous: bool) -> bool {
        core::mem::replace(&mut self.is_promiscuous, is_promiscuous) != is_promiscuous
    }

    /// True while the interface's device hears everything that it is given.
    #[must_use]
    pub fn is_promiscuous(&self) -> bool {
        self.is_promiscuous
    }

    /// True while the interface listens: its device does, and it may.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.is_promiscuous && self.config.may_listen
    }

    //= spec/promiscuous.md#receiving
    //# The driver MUST discard a copy for another interface, and every copy while its own interface does not listen
    //# promiscuously or may not.
    pub(super) fn check_copy(&self, header: &FrameHeader) -> Result<(), DropReason> {
        if header.destination_vif != self.config.vif {
            return Err(DropReason::WrongGrant);
        }
        if self.listens() { Ok(()) } else { Err(DropReason::NotListening) }
    }

    /// A copy from the direct RVI of `slot`. One that was sent before, by relay, has the number that it had there.
    pub(super) fn admit_direct_copy(&mut self, slot: PeerSlot, header: &FrameHeader) -> Ingress {
        if let Err(reason) = self.check_copy(header) {
            return self.refuse(reason);
        }
        if header.flags & FrameHeader::RESENT == 0 {
            return Ingress::Deliver(header.vnet);
        }
        if header.boot != self.peers[usize::from(slot.0)].process.boot_tag() {
            return self.refuse(DropReason::StaleBoot);
        }
        self.admit_numbered(slot, header)
    }

    /// Counts a copy that the stack has taken; [`Driver::delivered`] counts it as a frame.
    pub fn copy_delivered(&mut self, frame_len: usize) {
        self.counters.received_copies.add(frame_len);
    }
}

const fn bit_of(control_node: u8) -> u8 {
    1 << (control_node & 7)
}

#[cfg(test)]
mod tests;
