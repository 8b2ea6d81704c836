//! A bounded table from MAC address to a small value, on the path of every frame.

use alloc::boxed::Box;
use alloc::vec;

use crate::address::MacAddress;

/// The table had no room for a new address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFull {
    /// How many addresses it holds at most.
    pub capacity: usize,
}

/// An open-addressed table with linear probing, at most half full, its hash keyed by a seed so that nobody
/// can choose addresses that collide. It never grows: an insertion past its capacity is refused.
#[derive(Clone, Debug)]
pub struct MacTable<T> {
    /// Key: the address in the low 48 bits plus one; 0 is an empty place.
    places: Box<[(u64, T)]>,
    len: usize,
    seed: u64,
}

impl<T: Copy + Default> MacTable<T> {
    /// Makes a table for at most `capacity` addresses.
    ///
    /// # Panics
    /// When `capacity` is zero.
    #[must_use]
    pub fn new(capacity: usize, seed: u64) -> Self {
        assert!(capacity > 0, "a table needs a capacity");
        let places = (capacity * 2).next_power_of_two();
        Self { places: vec![(0, T::default()); places].into_boxed_slice(), len: 0, seed: seed | 1 }
    }

    /// Addresses in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when no address is in the table.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of `mac`.
    #[inline]
    #[must_use]
    pub fn lookup(&self, mac: MacAddress) -> Option<T> {
        let (key, value) = self.places[self.find(mac)];
        (key != 0).then_some(value)
    }

    /// A place to change the value of `mac`.
    pub fn lookup_mut(&mut self, mac: MacAddress) -> Option<&mut T> {
        let place = self.find(mac);
        let place = &mut self.places[place];
        (place.0 != 0).then_some(&mut place.1)
    }

    /// Sets the value of `mac`, new or not.
    ///
    /// # Errors
    /// [`TableFull`] when `mac` is new and the table is at its capacity.
    pub fn insert(&mut self, mac: MacAddress, value: T) -> Result<(), TableFull> {
        let place = self.find(mac);
        if self.places[place].0 == 0 {
            let capacity = self.places.len() / 2;
            if self.len >= capacity {
                return Err(TableFull { capacity });
            }
            self.len += 1;
        }
        self.places[place] = (mac.to_bits() + 1, value);
        Ok(())
    }

    /// Takes `mac` out and returns its value.
    pub fn remove(&mut self, mac: MacAddress) -> Option<T> {
        let mut hole = self.find(mac);
        if self.places[hole].0 == 0 {
            return None;
        }
        let value = self.places[hole].1;
        self.len -= 1;
        // Close the gap: move back each follower whose home does not lie behind the hole.
        let mask = self.places.len() - 1;
        let mut next = (hole + 1) & mask;
        while self.places[next].0 != 0 {
            let home = self.home(self.places[next].0);
            if next.wrapping_sub(home) & mask >= next.wrapping_sub(hole) & mask {
                self.places[hole] = self.places[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.places[hole] = (0, T::default());
        Some(value)
    }

    /// Every address with its value, in no stated order but the same for the same seed and history.
    pub fn iter(&self) -> impl Iterator<Item = (MacAddress, T)> + '_ {
        self.places.iter().filter(|p| p.0 != 0).map(|p| {
            let o = (p.0 - 1).to_be_bytes();
            (MacAddress([o[2], o[3], o[4], o[5], o[6], o[7]]), p.1)
        })
    }

    #[inline]
    fn find(&self, mac: MacAddress) -> usize {
        let key = mac.to_bits() + 1;
        let mask = self.places.len() - 1;
        let mut place = self.home(key);
        // Ends: at most half of the places are taken.
        loop {
            let taken = self.places[place].0;
            if taken == key || taken == 0 {
                return place;
            }
            place = (place + 1) & mask;
        }
    }

    #[inline]
    fn home(&self, key: u64) -> usize {
        let product = u128::from(key ^ self.seed) * u128::from(0x9e37_79b9_7f4a_7c15 ^ (self.seed << 1));
        ((product >> 64) as usize ^ product as usize) & (self.places.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use alloc::collections::BTreeMap;

    #[test]
    fn the_table_agrees_with_a_map_under_random_changes() {
        let mut random = Random::new(7);
        let mut table = MacTable::new(32, random.next_u64());
        let mut model = BTreeMap::new();
        for _ in 0..20_000 {
            let mac = MacAddress([2, 0, 0, 0, 0, random.below(96) as u8]);
            if random.below(2) == 0 {
                let value = random.next_u64() as u32;
                let expected = if model.len() < 32 || model.contains_key(&mac) {
                    model.insert(mac, value);
                    Ok(())
                } else {
                    Err(TableFull { capacity: 32 })
                };
                assert_eq!(table.insert(mac, value), expected);
            } else {
                assert_eq!(table.remove(mac), model.remove(&mac));
            }
            assert_eq!(table.len(), model.len());
            for tail in 0..96 {
                let mac = MacAddress([2, 0, 0, 0, 0, tail]);
                assert_eq!(table.lookup(mac), model.get(&mac).copied());
            }
        }
    }
}
