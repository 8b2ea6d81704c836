//! What the server knows of its members as senders: their roles and addresses, and whether they may have another one.

use alloc::boxed::Box;
use core::net::IpAddr;

use super::{LanServer, MemberSlot};
use crate::address::MacAddress;
use crate::drop_reason::DropReason;
use crate::ethernet::EthernetHeader;
use crate::security::own_addresses::is_link_local;
use crate::security::rate::{Cost, Kind, Limits, Meters};
use crate::security::{PortSecurity, Sender};
use crate::time::Instant;
use crate::wire::frame::FrameHeader;

impl LanServer {
    /// Says what the member at `slot` may be, and which addresses it has by the platform file.
    pub fn set_sender(&mut self, slot: MemberSlot, sender: Sender) {
        self.members[usize::from(slot.0)].sender = sender;
    }

    /// Changes what the member at `slot` may be, and which addresses it has by the platform file. Those that its stack has
    /// made itself stay.
    pub fn change_sender(&mut self, slot: MemberSlot, sender: Sender) {
        let before = core::mem::replace(&mut self.members[usize::from(slot.0)].sender, sender);
        self.members[usize::from(slot.0)].sender.own.take_link_local(before.own);
    }

    /// What the frames of the member at `slot` are judged by.
    #[must_use]
    pub fn sender(&self, slot: MemberSlot) -> &Sender {
        &self.members[usize::from(slot.0)].sender
    }

    /// Says how much the member at `slot` may send.
    pub fn set_limits(&mut self, slot: MemberSlot, limits: &Limits) {
        self.members[usize::from(slot.0)].meters = Meters::new(limits).map(Box::new);
    }

    /// Holds a frame of the member at `from` against its limits.
    #[inline]
    pub(super) fn limit(
        &mut self,
        now: Instant,
        from: MemberSlot,
        ethernet: &EthernetHeader,
        header: &FrameHeader,
        frame_len: usize,
    ) -> Result<(), DropReason> {
        if self.members[usize::from(from.0)].meters.is_none() {
            return Ok(());
        }
        let kind = match ethernet.destination {
            MacAddress::BROADCAST => Kind::Broadcast,
            group if group.is_group() => Kind::Multicast,
            // With an uplink, nobody's station is one outside.
            station if !self.has_uplink && self.slot_of(station).is_none() => Kind::Unknown,
            _ => Kind::Unicast,
        };
        let Some(meters) = &mut self.members[usize::from(from.0)].meters else { return Ok(()) };
        meters.take(now, kind, Cost::of(&header.vnet, frame_len))
    }

    /// Members whose addresses have changed since the last call.
    pub fn take_changed_senders(&mut self) -> alloc::vec::Vec<MemberSlot> {
        core::mem::take(&mut self.changed_senders)
    }

    /// Judges what a whole ARP or ND message says of its sender, the member at `from`. A link-local address that it asks
    /// for is its own from then on.
    ///
    /// # Errors
    /// With the reason why it is to be dropped; not counted yet.
    //= spec/port-security.md#probes
    //# Under port security `address` a probe MUST be discarded that asks for an address of another member.
    pub fn check_resolution(&mut self, from: MemberSlot, frame: &[u8]) -> Result<(), DropReason> {
        let sender = &self.members[usize::from(from.0)].sender;
        let Some(wanted) = sender.check(self.config.port_security, frame, frame.len())? else {
            return Ok(());
        };
        if self.owner_of(wanted).is_some() {
            return Err(DropReason::SourceAddress);
        }
        if is_link_local(wanted) {
            self.add_link_local(from, wanted);
        }
        Ok(())
    }

    /// Whether the node of the member at `slot` may register an address. False: under port security it may not have it.
    //= spec/port-security.md#registered-addresses
    //# Under port security `address` a control node MUST NOT bind an address for a node that is neither one of the
    //# interface's in the platform file nor link-local.
    #[must_use]
    pub fn may_bind(&self, slot: MemberSlot, address: IpAddr) -> bool {
        if self.config.port_security != PortSecurity::Address
            || self.members[usize::from(slot.0)].sender.own.contains(address)
        {
            return true;
        }
        is_link_local(address)
    }

    /// The address is bound to the member at `slot` now. One that another has only asked for is not the other's.
    //= spec/port-security.md#link-local-addresses
    //# Under port security `address` a link-local address MUST count as an interface's own when its node has registered
    //# it, or when its probe was the first for it; no address MUST be the own one of two interfaces.
    pub fn bound(&mut self, slot: MemberSlot, address: IpAddr) {
        // Also where no addresses are checked: they may be later, and then they are known.
        if !is_link_local(address) {
            return;
        }
        for other in (0..self.members.len() as u16).map(MemberSlot).filter(|other| *other != slot) {
            self.unbound(other, address);
        }
        self.add_link_local(slot, address);
    }

    /// The address is not bound to the member at `slot` any more.
    pub fn unbound(&mut self, slot: MemberSlot, address: IpAddr) {
        if self.members[usize::from(slot.0)].sender.own.remove_link_local(address) {
            self.note_changed_sender(slot);
        }
    }

    /// Whose address it is.
    fn owner_of(&self, address: IpAddr) -> Option<MemberSlot> {
        let place = self.members.iter().position(|member| member.sender.own.contains(address))?;
        Some(MemberSlot(place as u16))
    }

    fn add_link_local(&mut self, slot: MemberSlot, address: IpAddr) {
        if self.members[usize::from(slot.0)].sender.own.add_link_local(address) {
            self.note_changed_sender(slot);
        }
    }

    pub(super) fn forget_link_local(&mut self, slot: MemberSlot) {
        if self.members[usize::from(slot.0)].sender.own.forget_link_local() {
            self.note_changed_sender(slot);
        }
    }

    /// One entry for each member at most.
    fn note_changed_sender(&mut self, slot: MemberSlot) {
        if !self.changed_senders.contains(&slot) {
            self.changed_senders.push(slot);
        }
    }
}
