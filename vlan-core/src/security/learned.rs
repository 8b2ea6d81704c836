//! Further stations behind interfaces, such as virtual machines behind a bridge: learned from their frames, so many behind
//! each interface, forgotten when they are silent (IEEE 802.1Q-2018, 8.7 and 8.8).

use alloc::vec::Vec;
use core::time::Duration;

use crate::address::MacAddress;
use crate::mac_table::MacTable;
use crate::time::Instant;

/// How long a station is remembered that says nothing (IEEE 802.1Q-2018, table 8-6).
pub const AGEING: Duration = Duration::from_secs(300);
/// How long a station stays where it is after it has come: two interfaces that both claim it do not make it fly.
pub const STAY: Duration = Duration::from_secs(1);
/// Stations behind the interfaces of one LAN.
pub const LEARNED_MAX: usize = 16_384;

/// Where a frame's source is, after it was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It was there before.
    Known,
    /// It is there now.
    Learned,
    /// It was behind another interface before.
    Moved,
    /// There is no room for it, or it has come elsewhere just now.
    Refused,
}

#[derive(Clone, Copy, Debug, Default)]
struct Station {
    /// Place of the interface that it is behind.
    behind: u16,
    heard: Instant,
    came: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Share {
    room: u16,
    taken: u16,
}

/// The stations behind the interfaces of a LAN, by the places of the interfaces.
#[derive(Clone, Debug)]
pub struct Learned {
    stations: MacTable<Station>,
    shares: Vec<Share>,
    seed: u64,
    /// No station is to be forgotten before; none when there are no stations.
    due: Option<Instant>,
}

impl Learned {
    /// No interface has room yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { stations: MacTable::new(1, seed), shares: Vec::new(), seed, due: None }
    }

    /// So many stations may be behind the interface at `place`. What was behind it is forgotten when that changes.
    pub fn set_room(&mut self, place: u16, room: u16) {
        if room == self.room(place) {
            return;
        }
        self.forget(place);
        if self.shares.len() <= usize::from(place) {
            self.shares.resize(usize::from(place) + 1, Share::default());
        }
        self.shares[usize::from(place)].room = room;
        let wanted = self.shares.iter().map(|share| usize::from(share.room)).sum::<usize>();
        let mut stations = MacTable::new(wanted.clamp(1, LEARNED_MAX), self.seed);
        for (mac, station) in self.stations.iter() {
            // There is room: no interface has more stations than before.
            if stations.insert(mac, station).is_err() {
                self.shares[usize::from(station.behind)].taken -= 1;
            }
        }
        self.stations = stations;
    }

    /// How many may be behind the interface at `place`.
    #[inline]
    #[must_use]
    pub fn room(&self, place: u16) -> u16 {
        self.shares.get(usize::from(place)).map_or(0, |share| share.room)
    }

    /// A frame of the station `mac` came from the interface at `place`.
    //= spec/port-security.md#learned-stations
    //# Behind an interface with `learn = N` up to N further stations MUST be learned from the frames that come from it; a
    //# station that has been silent for 300 s MUST be forgotten, and one that is heard behind another interface with room
    //# MUST be there from then on.
    pub fn hear(&mut self, now: Instant, mac: MacAddress, place: u16) -> Heard {
        let known = self.stations.lookup(mac);
        if let Some(station) = self.stations.lookup_mut(mac).filter(|station| station.behind == place) {
            station.heard = now;
            return Heard::Known;
        }
        let is_full = self.shares.get(usize::from(place)).is_none_or(|share| share.taken >= share.room);
        if is_full || known.is_some_and(|station| now.since(station.came) < STAY) {
            return Heard::Refused;
        }
        if let Some(station) = known {
            self.take_away(mac, station.behind);
        }
        if self.stations.insert(mac, Station { behind: place, heard: now, came: now }).is_err() {
            return Heard::Refused;
        }
        self.shares[usize::from(place)].taken += 1;
        self.due = self.due.or(Some(now + AGEING));
        if known.is_some() { Heard::Moved } else { Heard::Learned }
    }

    /// The place of the interface that a station is behind.
    #[inline]
    #[must_use]
    pub fn lookup(&self, mac: MacAddress) -> Option<u16> {
        self.stations.lookup(mac).map(|station| station.behind)
    }

    /// Every station with the place of its interface.
    pub fn iter(&self) -> impl Iterator<Item = (MacAddress, u16)> + '_ {
        self.stations.iter().map(|(mac, station)| (mac, station.behind))
    }

    /// Forgets what is behind the interface at `place`.
    pub fn forget(&mut self, place: u16) {
        self.forget_where(|station| station.behind == place);
    }

    /// Forgets one station.
    pub fn remove(&mut self, mac: MacAddress) {
        if let Some(station) = self.stations.remove(mac) {
            self.shares[usize::from(station.behind)].taken -= 1;
        }
    }

    /// Forgets the stations that have been silent for too long, and says which.
    pub fn forget_silent(&mut self, now: Instant) -> Vec<MacAddress> {
        if self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        let silent = self.forget_where(|station| now.since(station.heard) >= AGEING);
        self.due = self.stations.iter().map(|(_, station)| station.heard + AGEING).min();
        silent
    }

    /// When [`Self::forget_silent`] is wanted next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    fn forget_where(&mut self, is_gone: impl Fn(&Station) -> bool) -> Vec<MacAddress> {
        let gone: Vec<_> = self.stations.iter().filter(|(_, station)| is_gone(station)).collect();
        for &(mac, station) in &gone {
            self.take_away(mac, station.behind);
        }
        gone.into_iter().map(|(mac, _)| mac).collect()
    }

    fn take_away(&mut self, mac: MacAddress, behind: u16) {
        self.stations.remove(mac);
        self.shares[usize::from(behind)].taken -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn mac(n: u8) -> MacAddress {
        MacAddress([2, 7, 7, 7, 7, n])
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    /// Room for two behind the interfaces 0 and 2, none behind the interface 1.
    fn learned() -> Learned {
        let mut learned = Learned::new(5);
        learned.set_room(0, 2);
        learned.set_room(2, 2);
        learned
    }

    #[test]
    fn as_many_as_there_is_room_for_are_learned_aged_and_moved() {
        //= spec/port-security.md#learned-stations
        //= type=test
        //# Behind an interface with `learn = N` up to N further stations MUST be learned from the frames that come from it; a
        //# station that has been silent for 300 s MUST be forgotten, and one that is heard behind another interface with room
        //# MUST be there from then on.
        let mut learned = learned();
        assert_eq!(learned.hear(at(0), mac(1), 0), Heard::Learned);
        assert_eq!(learned.hear(at(0), mac(2), 0), Heard::Learned);
        assert_eq!(learned.hear(at(1), mac(3), 0), Heard::Refused);
        assert_eq!(learned.hear(at(1), mac(3), 1), Heard::Refused, "no room at all");
        assert_eq!(learned.hear(at(200), mac(1), 0), Heard::Known);
        assert_eq!(learned.poll_timeout(), Some(at(300)));
        assert_eq!((learned.forget_silent(at(299)), learned.lookup(mac(2))), (Vec::new(), Some(0)));
        assert_eq!((learned.forget_silent(at(300)), learned.lookup(mac(2))), (vec![mac(2)], None));
        assert_eq!(learned.poll_timeout(), Some(at(500)), "the other one has spoken since");
        assert_eq!(learned.hear(at(300), mac(3), 0), Heard::Learned, "in the place of the silent one");
        assert_eq!(learned.iter().count(), 2);
        assert_eq!(learned.hear(at(310), mac(1), 2), Heard::Moved);
        assert_eq!(learned.lookup(mac(1)), Some(2));
        assert_eq!(learned.hear(at(310), mac(1), 0), Heard::Refused, "it has just come there");
        assert_eq!(learned.hear(at(311), mac(1), 0), Heard::Moved);
        assert_eq!(learned.hear(at(311), mac(4), 0), Heard::Refused);
        learned.forget(0);
        assert_eq!(learned.iter().count(), 0);
        assert_eq!(learned.hear(at(311), mac(4), 0), Heard::Learned);
    }

    #[test]
    fn more_room_keeps_what_is_known() {
        let mut learned = learned();
        assert_eq!(learned.hear(at(0), mac(1), 0), Heard::Learned);
        learned.set_room(1, 4000);
        assert_eq!(learned.hear(at(1), mac(1), 0), Heard::Known);
        for n in 0..100 {
            assert_eq!(learned.hear(at(1), MacAddress([2, 8, 8, 8, 8, n]), 1), Heard::Learned);
        }
        learned.set_room(0, 0);
        assert_eq!((learned.lookup(mac(1)), learned.iter().count()), (None, 100));
    }
}
