//! Flows with what is known of each: found by their hash, and gone through in parts while they come and go.

use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::ops::Range;

use super::Flow;
use crate::siphash::siphash;

/// Places of a set that is new.
const PLACES: usize = 16;

#[derive(Clone, Debug)]
struct Slot<T> {
    flow: Flow,
    hash: u64,
    value: T,
}

/// A table with linear probing, at most half full, of the slots where the flows lie one behind the other.
#[derive(Clone, Debug)]
pub(super) struct FlowSet<T> {
    slots: Vec<Slot<T>>,
    /// A slot's number plus one; 0 is an empty place.
    places: Vec<u32>,
    key: [u64; 2],
}

impl<T> FlowSet<T> {
    /// An empty set, whose hashes nobody knows who does not know the seed.
    pub fn new(seed: u64) -> Self {
        Self { slots: Vec::new(), places: vec![0; PLACES], key: [seed, !seed] }
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn known(&self, flow: &Flow) -> Option<&T> {
        let slot = self.places[self.find(self.hash(flow), flow)];
        self.slots.get((slot as usize).wrapping_sub(1)).map(|slot| &slot.value)
    }

    pub fn known_mut(&mut self, flow: &Flow) -> Option<&mut T> {
        let slot = self.places[self.find(self.hash(flow), flow)];
        self.slots.get_mut((slot as usize).wrapping_sub(1)).map(|slot| &mut slot.value)
    }

    /// Sets what is known of a flow, new or not. A new one comes behind all others.
    pub fn insert(&mut self, flow: Flow, value: T) {
        let hash = self.hash(&flow);
        let place = self.find(hash, &flow);
        if let Some(slot) = self.slots.get_mut((self.places[place] as usize).wrapping_sub(1)) {
            slot.value = value;
            return;
        }
        self.slots.push(Slot { flow, hash, value });
        self.places[place] = self.slots.len() as u32;
        if self.slots.len() * 2 > self.places.len() {
            self.grow();
        }
    }

    /// Takes a flow out. The last one comes to lie where it was.
    pub fn remove(&mut self, flow: &Flow) -> Option<T> {
        let place = self.find(self.hash(flow), flow);
        let number = (self.places[place] as usize).checked_sub(1)?;
        self.empty(place);
        let last = self.slots.len() - 1;
        if number != last {
            let moved = self.place_of(last);
            self.places[moved] = number as u32 + 1;
        }
        Some(self.slots.swap_remove(number).value)
    }

    /// The flows at these places, of those that there are, with what is known of them.
    ///
    /// Who goes through them from the last to the first sees each that is there all the time, whatever comes and goes meanwhile.
    pub fn part(&self, range: Range<usize>) -> impl Iterator<Item = (&Flow, &T)> + '_ {
        let end = range.end.min(self.slots.len());
        let slots = self.slots.get(range.start.min(end)..end).unwrap_or_default();
        slots.iter().map(|slot| (&slot.flow, &slot.value))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&Flow, &T)> + '_ {
        self.part(0..self.slots.len())
    }

    fn hash(&self, flow: &Flow) -> u64 {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
            IpAddr::V6(address) => address.to_bits(),
        };
        let (client, address) = (bits(flow.client), bits(flow.address));
        let rest = (flow.protocol as u64) << 32 | u64::from(flow.client_port) << 16 | u64::from(flow.port);
        let words = [(client >> 64) as u64, client as u64, (address >> 64) as u64, address as u64, rest];
        siphash::<1, 3, 5>(self.key, words)
    }

    /// The place of a flow, or the empty one where it would go.
    fn find(&self, hash: u64, flow: &Flow) -> usize {
        self.look(hash, |slot| self.slots[slot].hash == hash && self.slots[slot].flow == *flow)
    }

    /// The place of the slot with this number.
    fn place_of(&self, number: usize) -> usize {
        self.look(self.slots[number].hash, |slot| slot == number)
    }

    fn look(&self, hash: u64, is_it: impl Fn(usize) -> bool) -> usize {
        let mask = self.places.len() - 1;
        let mut place = hash as usize & mask;
        // Ends: at most half of the places are taken.
        while self.places[place] != 0 && !is_it(self.places[place] as usize - 1) {
            place = (place + 1) & mask;
        }
        place
    }

    /// Empties a place and closes the gap: each follower moves back whose home does not lie behind it.
    fn empty(&mut self, mut hole: usize) {
        let mask = self.places.len() - 1;
        let mut next = (hole + 1) & mask;
        while self.places[next] != 0 {
            let home = self.slots[self.places[next] as usize - 1].hash as usize & mask;
            if next.wrapping_sub(home) & mask >= next.wrapping_sub(hole) & mask {
                self.places[hole] = self.places[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.places[hole] = 0;
    }

    fn grow(&mut self) {
        self.places = vec![0; self.places.len() * 2];
        for number in 0..self.slots.len() {
            let place = self.look(self.slots[number].hash, |_| false);
            self.places[place] = number as u32 + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use super::super::Protocol;
    use super::*;
    use crate::random::Random;

    fn flow(number: u16) -> Flow {
        let [a, b] = number.to_be_bytes();
        let (client, address) = ([10, 1, a, b].into(), [10, 1, 0, 100].into());
        Flow { protocol: Protocol::Udp, client, client_port: number % 7, address, port: 53 }
    }

    #[test]
    fn a_set_holds_what_a_map_holds() {
        let (mut set, mut map, mut random) = (FlowSet::new(5), BTreeMap::new(), Random::new(9));
        for step in 0..20_000_u64 {
            let flow = flow(random.next_u64() as u16 % 500);
            match random.next_u64() % 5 {
                0 | 1 => assert_eq!(set.remove(&flow), map.remove(&flow)),
                2 => assert_eq!(set.known(&flow), map.get(&flow)),
                _ => {
                    set.insert(flow, step);
                    map.insert(flow, step);
                }
            }
            assert_eq!(set.len(), map.len());
        }
        assert!(map.len() > 200);
        let all: BTreeMap<_, _> = set.iter().map(|(flow, value)| (*flow, *value)).collect();
        assert!(all == map);
        map.keys().for_each(|flow| assert_eq!(set.known_mut(flow).copied(), map.get(flow).copied()));
    }

    #[test]
    fn who_goes_through_it_backwards_misses_none_that_stays() {
        let mut set = FlowSet::new(1);
        (0..1000).for_each(|number| set.insert(flow(number), ()));
        let (mut seen, mut at, mut gone) = (Vec::new(), set.len(), 0);
        while at > 0 {
            let from = at.min(set.len()).saturating_sub(16);
            seen.extend(set.part(from..at).map(|(flow, ())| *flow));
            at = from;
            // Some that were seen and some that were not go, and others come.
            for number in [gone, 999 - gone] {
                set.remove(&flow(number));
            }
            set.insert(flow(2000 + gone), ());
            gone += 2;
        }
        let stayed = (0..1000).filter(|number| set.known(&flow(*number)).is_some());
        assert!(stayed.clone().count() > 700);
        stayed.for_each(|number| assert!(seen.contains(&flow(number)), "{number}"));
    }
}
