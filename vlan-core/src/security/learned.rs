//! Further stations behind interfaces, such as virtual machines behind a bridge: learned from their frames, so many behind
//! each interface, forgotten when they are silent (IEEE 802.1Q-2018, 8.7 and 8.8).

use alloc::vec::Vec;
use core::time::Duration;

use crate::address::MacAddress;
use crate::mac_table::MacTable;
use crate::time::Instant;

/// How long a station is remembered that says nothing (IEEE 802.1Q-2018, table 8-6).
pub const AGEING: Duration = Duration::from_secs(300);
/// How long a station stays where it is after it has moved: two interfaces that both claim it do not make it fly.
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
    /// There is no room for it, or it has moved just now.
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
    /// When silent stations were last looked for.
    swept: Instant,
}

/// The stations behind the interfaces of a LAN, by the places of the interfaces.
#[derive(Clone, Debug)]
pub struct Learned {
    stations: MacTable<Station>,
    shares: Vec<Share>,
    seed: u64,
    /// When a station was last heard.
    heard: Instant,
}

impl Learned {
    /// No interface has room yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { stations: MacTable::new(1, seed), shares: Vec::new(), seed, heard: Instant::ZERO }
    }

    /// So many stations may be behind the interface at `place`. What was behind it is forgotten.
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
            // As many as before fit into as much room or more; with less the last ones have none.
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
        self.heard = now;
        let known = self.stations.lookup(mac);
        match known {
            Some(station) if station.behind == place => {
                if let Some(station) = self.stations.lookup_mut(mac) {
                    station.heard = now;
                }
                return Heard::Known;
            }
            Some(station) if is_there(now, &station) && now.since(station.came) < STAY => {
                return Heard::Refused;
            }
            _ => {}
        }
        if !self.has_room(now, place) {
            return Heard::Refused;
        }
        if let Some(station) = known {
            self.take_away(mac, station.behind);
        }
        if self.stations.insert(mac, Station { behind: place, heard: now, came: now }).is_err() {
            return Heard::Refused;
        }
        self.shares[usize::from(place)].taken += 1;
        if known.is_some_and(|station| is_there(now, &station)) { Heard::Moved } else { Heard::Learned }
    }

    /// The place of the interface that a station is behind.
    #[inline]
    #[must_use]
    pub fn lookup(&self, now: Instant, mac: MacAddress) -> Option<u16> {
        self.stations.lookup(mac).filter(|station| is_there(now, station)).map(|station| station.behind)
    }

    /// Every station with the place of its interface, as things were when one was last heard.
    pub fn iter(&self) -> impl Iterator<Item = (MacAddress, u16)> + '_ {
        let there = self.stations.iter().filter(|(_, station)| is_there(self.heard, station));
        there.map(|(mac, station)| (mac, station.behind))
    }

    /// Forgets what is behind the interface at `place`.
    pub fn forget(&mut self, place: u16) {
        let gone = self.stations.iter().filter(|(_, station)| station.behind == place);
        for mac in gone.map(|(mac, _)| mac).collect::<Vec<_>>() {
            self.take_away(mac, place);
        }
    }

    /// True when one more can be behind the interface; who has been silent for long makes room.
    fn has_room(&mut self, now: Instant, place: u16) -> bool {
        let is_full = |share: Option<&Share>| share.is_none_or(|share| share.taken >= share.room);
        if let Some(share) = self.shares.get_mut(usize::from(place))
            && share.room > 0
            && is_full(Some(share))
            && now.since(share.swept) >= STAY
        {
            share.swept = now;
            let silent = |(mac, station): (MacAddress, Station)| {
                (station.behind == place && !is_there(now, &station)).then_some(mac)
            };
            for mac in self.stations.iter().filter_map(silent).collect::<Vec<_>>() {
                self.take_away(mac, place);
            }
        }
        !is_full(self.shares.get(usize::from(place)))
    }

    fn take_away(&mut self, mac: MacAddress, behind: u16) {
        self.stations.remove(mac);
        self.shares[usize::from(behind)].taken -= 1;
    }
}

fn is_there(now: Instant, station: &Station) -> bool {
    now.since(station.heard) < AGEING
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(learned.lookup(at(299), mac(2)), Some(0));
        assert_eq!(learned.lookup(at(300), mac(2)), None);
        assert_eq!(learned.hear(at(300), mac(3), 0), Heard::Learned, "in the place of the silent one");
        assert_eq!(learned.iter().count(), 2);
        assert_eq!(learned.hear(at(310), mac(1), 2), Heard::Moved);
        assert_eq!(learned.lookup(at(310), mac(1)), Some(2));
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
        assert_eq!((learned.lookup(at(1), mac(1)), learned.iter().count()), (None, 100));
    }
}
