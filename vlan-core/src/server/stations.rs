//! Whom a source or destination address belongs to: a member, or a station that was learned behind a member's interface.

use alloc::vec::Vec;

use super::{LanServer, MemberSlot};
use crate::address::MacAddress;
use crate::drop_reason::DropReason;
use crate::mac_table::MacTable;
use crate::security::learned::{Heard, Learned};
use crate::time::Instant;

/// The addresses of a LAN.
#[derive(Clone, Debug)]
pub(super) struct Stations {
    members: MacTable<MemberSlot>,
    /// Stations behind members, by their slots.
    learned: Learned,
    /// The station that has moved with the last frame, and to whom.
    moved: Option<(MacAddress, MemberSlot)>,
    seed: u64,
}

impl Stations {
    pub fn new(members: MacTable<MemberSlot>, seed: u64) -> Self {
        Self { members, learned: Learned::new(seed), moved: None, seed }
    }

    #[inline]
    pub fn slot_of(&self, mac: MacAddress) -> Option<MemberSlot> {
        self.members.lookup(mac).or_else(|| self.learned.lookup(mac).map(MemberSlot))
    }

    pub fn forget(&mut self, slot: MemberSlot) {
        self.learned.forget(slot.0);
    }

    /// A member has come; a station of its MAC is none any more.
    pub fn add_member(&mut self, mac: MacAddress, slot: MemberSlot) {
        self.learned.remove(mac);
        if let Err(full) = self.members.insert(mac, slot) {
            let mut members = MacTable::new(full.capacity * 2, self.seed);
            for (mac, slot) in self.members.iter().chain([(mac, slot)]) {
                // There is room for all of them.
                let _ = members.insert(mac, slot);
            }
            self.members = members;
        }
    }

    /// A member has gone for good.
    pub fn remove_member(&mut self, mac: MacAddress, slot: MemberSlot) {
        self.members.remove(mac);
        self.learned.set_room(slot.0, 0);
        self.moved = self.moved.filter(|(_, to)| *to != slot);
    }

    /// A source that is not its member's own.
    //= spec/port-security.md#no-members-station
    //# The MAC of a member MUST NOT be learned as a station behind an interface.
    pub fn hear(&mut self, now: Instant, from: MemberSlot, source: MacAddress) -> Result<(), DropReason> {
        let is_members = self.members.lookup(source).is_some();
        if self.learned.room(from.0) == 0 || !source.is_station() || is_members {
            return Err(DropReason::SourceMac);
        }
        match self.learned.hear(now, source, from.0) {
            Heard::Known | Heard::Learned => Ok(()),
            Heard::Moved => {
                self.moved = Some((source, from));
                Ok(())
            }
            Heard::Refused => Err(DropReason::StationsFull),
        }
    }
}

impl LanServer {
    /// Says how many further stations may be behind the interface of the member at `slot`.
    pub fn set_room(&mut self, slot: MemberSlot, room: u16) {
        self.stations.learned.set_room(slot.0, room);
    }

    /// True when there may be further stations behind the interface of the member at `slot`.
    #[must_use]
    pub fn learns(&self, slot: MemberSlot) -> bool {
        self.stations.learned.room(slot.0) > 0
    }

    /// The slot of the member with this address, or that has a station with it behind its interface.
    #[inline]
    #[must_use]
    pub fn slot_of(&self, mac: MacAddress) -> Option<MemberSlot> {
        self.stations.slot_of(mac)
    }

    /// The stations behind interfaces.
    pub fn stations(&self) -> impl Iterator<Item = (MacAddress, MemberSlot)> + '_ {
        self.stations.learned.iter().map(|(mac, place)| (mac, MemberSlot(place)))
    }

    /// The station that has moved with the last frame, and where it is now. To be asked after each frame.
    #[inline]
    pub fn take_moved(&mut self) -> Option<(MacAddress, MemberSlot)> {
        self.stations.moved.take()
    }

    /// Forgets the stations that have been silent for too long, and says which.
    pub fn forget_silent(&mut self, now: Instant) -> Vec<MacAddress> {
        self.stations.learned.forget_silent(now)
    }

    /// When [`Self::forget_silent`] is wanted next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.stations.learned.poll_timeout()
    }
}
