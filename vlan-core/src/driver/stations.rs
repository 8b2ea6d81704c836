//! Stations behind peers: where their frames go, and how many of them a peer may speak for.

use alloc::vec::Vec;

use super::{Driver, PeerSlot};
use crate::address::{MacAddress, NodeNumber, VifNumber};
use crate::drop_reason::DropReason;
use crate::mac_table::MacTable;
use crate::security::PortSecurity;
use crate::security::learned::{Heard, LEARNED_MAX, Learned};
use crate::time::Instant;

/// What a driver knows of stations that are no members.
#[derive(Clone, Debug)]
pub(super) struct Stations {
    /// The way to each; what no control node limits is not always right, and never checked against.
    bound: MacTable<PeerSlot>,
    /// Those that spoke on direct RVIs, by the slots of their peers.
    learned: Learned,
    seed: u64,
}

impl Stations {
    pub fn new(seed: u64) -> Self {
        Self { bound: MacTable::new(1, seed), learned: Learned::new(seed), seed }
    }

    pub fn lookup(&self, mac: MacAddress) -> Option<PeerSlot> {
        self.bound.lookup(mac)
    }

    pub fn set_room(&mut self, slot: PeerSlot, room: u16) {
        self.learned.set_room(slot.0, room);
    }

    /// Another member has the place of this peer: nothing is behind it.
    pub fn forget_peer(&mut self, slot: PeerSlot) {
        self.learned.set_room(slot.0, 0);
        let behind: Vec<_> = self.bound.iter().filter(|(_, of)| *of == slot).map(|(mac, _)| mac).collect();
        for mac in behind {
            self.bound.remove(mac);
        }
    }

    //= spec/driver.md#bindings-of-stations
    //# The driver MUST forget all bindings of stations rather than keep more than 16384.
    fn bind(&mut self, mac: MacAddress, slot: PeerSlot) {
        if let Err(full) = self.bound.insert(mac, slot) {
            let is_last = full.capacity >= LEARNED_MAX;
            let mut bound = MacTable::new((full.capacity * 2).min(LEARNED_MAX), self.seed);
            for (mac, slot) in self.bound.iter().filter(|_| !is_last).chain([(mac, slot)]) {
                // There is room for all of them.
                let _ = bound.insert(mac, slot);
            }
            self.bound = bound;
        }
    }
}

impl Driver {
    /// The peer that frames for this address go to.
    #[inline]
    pub(super) fn bound(&self, mac: MacAddress) -> Option<PeerSlot> {
        self.by_mac.lookup(mac).or_else(|| self.stations.lookup(mac))
    }

    /// Frames for `mac` go to this member from now on.
    pub(super) fn bind(&mut self, mac: MacAddress, (node, vif): (NodeNumber, VifNumber)) {
        match self.find_peer(node, vif) {
            Some(slot) => match self.by_mac.lookup_mut(mac) {
                Some(of_member) => *of_member = slot,
                None => self.stations.bind(mac, slot),
            },
            // Behind this interface itself: the stack or its bridge knows the way, and asks here no more.
            None if (node, vif) == (self.node, self.config.vif) => {
                self.stations.bound.remove(mac);
            }
            None => {}
        }
    }

    /// Whether the source of a frame of a direct RVI is its sender's own MAC, or a station's behind it.
    pub(super) fn check_station(
        &mut self,
        now: Instant,
        slot: PeerSlot,
        source: MacAddress,
    ) -> Result<(), DropReason> {
        let is_own = self.peers.get(usize::from(slot.0)).is_some_and(|peer| peer.mac == source);
        if is_own || self.config.port_security == PortSecurity::Off {
            return Ok(());
        }
        let is_members = source == self.config.mac || self.by_mac.lookup(source).is_some();
        if self.stations.learned.room(slot.0) == 0 || is_members || !source.is_station() {
            return Err(DropReason::SourceMac);
        }
        self.stations.learned.forget_silent(now);
        match self.stations.learned.hear(now, source, slot.0) {
            Heard::Known => Ok(()),
            //= spec/driver.md#stations-of-direct-rvis
            //# The driver MUST bind a station that it hears on a direct RVI for the first time, or behind another peer than
            //# before, to that peer.
            Heard::Learned | Heard::Moved => {
                self.stations.bind(source, slot);
                Ok(())
            }
            Heard::Refused => Err(DropReason::StationsFull),
        }
    }
}
