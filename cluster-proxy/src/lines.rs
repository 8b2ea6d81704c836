//! Tables whose places are cache lines of eight entries of eight octets: a lookup costs a line or two.

use alloc::boxed::Box;
use alloc::vec;

/// Entries of a line.
const WAYS: usize = 8;
/// The largest server that an entry has room for, exclusive.
pub(crate) const SERVERS: u16 = 1 << 12;

/// What an entry is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A flow of TCP.
    Tcp = 1,
    /// A flow of UDP.
    Udp = 2,
    /// The fragments of a packet.
    Fragments = 3,
}

/// Where packets with some hash go. The hash itself is not kept: that of another flow has the same tag and line once in 2^32
/// entries that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub kind: Kind,
    /// Below [`SERVERS`].
    pub server: u16,
    /// Which life of the server.
    pub life: u8,
    /// The last tick in which it was used; what a tick is depends on the table and the kind.
    pub tick: u8,
}

impl Entry {
    fn pack(self) -> u32 {
        debug_assert!(self.server < SERVERS, "no room for server {}", self.server);
        u32::from(self.server & (SERVERS - 1))
            | (self.kind as u32) << 12
            | u32::from(self.tick) << 16
            | u32::from(self.life) << 24
    }

    /// `None` for an empty place, which is all zeros.
    #[inline]
    fn unpack(word: u32) -> Option<Self> {
        let kind = match (word >> 12) & 15 {
            1 => Kind::Tcp,
            2 => Kind::Udp,
            3 => Kind::Fragments,
            _ => return None,
        };
        let server = word as u16 & (SERVERS - 1);
        Some(Self { kind, server, life: (word >> 24) as u8, tick: (word >> 16) as u8 })
    }
}

/// Eight entries, the tags apart so that they are compared at once.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Line {
    tags: [u32; WAYS],
    entries: [u32; WAYS],
}

const _: () = assert!(size_of::<Line>() == 64, "a line is one of the cache");

impl Line {
    /// The way of the entry with `tag`.
    #[inline]
    fn find(&self, tag: u32) -> Option<usize> {
        let equal: [u8; WAYS] = core::array::from_fn(|way| u8::from(self.tags[way] == tag));
        let equal = u64::from_le_bytes(equal);
        (equal != 0).then(|| equal.trailing_zeros() as usize / 8)
    }

    #[inline]
    fn entry(&self, way: usize) -> Option<Entry> {
        Entry::unpack(self.entries[way % WAYS])
    }

    #[inline]
    fn set(&mut self, way: usize, tag: u32, entry: u32) {
        (self.tags[way % WAYS], self.entries[way % WAYS]) = (tag, entry);
    }
}

/// Where an entry is or may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    line: usize,
    way: usize,
}

/// A table of lines, with two places for each hash: flows find room until it is nearly full (Azar, Broder, Karlin, Upfal, 1994).
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    lines: Box<[Line]>,
    /// One line for each hash, or two.
    has_two: bool,
    /// Where the next sweep goes on.
    swept: usize,
}

impl Lines {
    /// A table with room for `entries` at least; each hash has its place in one line, or in two of them.
    pub fn new(entries: usize, has_two: bool) -> Self {
        let lines = entries.div_ceil(WAYS).max(1).next_power_of_two();
        Self { lines: vec![Line::default(); lines].into_boxed_slice(), has_two, swept: 0 }
    }

    /// A table that says of `hash` what this one says, and holds no more: of several lines only the entry itself.
    pub fn only(&self, hash: u64) -> Self {
        let [first, _] = self.lines_of(hash);
        let mut line = self.lines[first];
        if self.has_two {
            line = Line::default();
            if let Some((_, entry)) = self.find(hash) {
                line.set(0, tag(hash), entry.pack());
            }
        }
        Self { lines: vec![line].into_boxed_slice(), has_two: self.has_two, swept: 0 }
    }

    /// Octets of memory.
    pub fn memory_len(&self) -> usize {
        size_of_val(&*self.lines)
    }

    /// Asks memory for the lines that a lookup of `hash` reads.
    #[inline]
    pub fn touch(&self, hash: u64) {
        for line in self.lines_of(hash) {
            core::hint::black_box(self.lines[line].tags[0]);
        }
    }

    /// The entry of `hash`.
    #[inline]
    pub fn find(&self, hash: u64) -> Option<(Place, Entry)> {
        let [first, second] = self.lines_of(hash);
        let place = self.find_in(first, hash).or_else(|| self.find_in(second, hash))?;
        Some((place, self.lines[place.line].entry(place.way)?))
    }

    #[inline]
    fn find_in(&self, line: usize, hash: u64) -> Option<Place> {
        self.lines[line].find(tag(hash)).map(|way| Place { line, way })
    }

    /// A place for a new entry of `hash`: an empty one, else one whose entry `is_free`, with that entry.
    pub fn room(&self, hash: u64, is_free: impl Fn(Entry) -> bool) -> Option<(Place, Option<Entry>)> {
        let [first, second] = self.lines_of(hash);
        let empty = |line: usize| self.lines[line].entries.iter().filter(|entry| **entry == 0).count();
        // The emptier of the two, so that both fill up together.
        let order = if empty(second) > empty(first) { [second, first] } else { [first, second] };
        let places = order.into_iter().flat_map(|line| (0..WAYS).map(move |way| Place { line, way }));
        let entry = |place: Place| self.lines[place.line].entry(place.way);
        let is_empty = |place: &Place| entry(*place).is_none();
        let place = places.clone().find(is_empty).map(|place| (place, None));
        place.or_else(|| places.map(|p| (p, entry(p))).find(|(_, entry)| entry.is_some_and(&is_free)))
    }

    /// The place of the entry of the line of `hash` that was used longest ago, seen from tick `now`.
    pub fn oldest(&self, hash: u64, now: u8) -> Place {
        let line = self.lines_of(hash)[0];
        let age = |way: &usize| self.lines[line].entry(*way).map(|entry| now.wrapping_sub(entry.tick));
        let way = (0..WAYS).max_by_key(age).unwrap_or_default();
        Place { line, way }
    }

    /// Writes an entry.
    #[inline]
    pub fn set(&mut self, place: Place, hash: u64, entry: Entry) {
        self.lines[place.line].set(place.way, tag(hash), entry.pack());
    }

    /// Empties a place.
    pub fn clear(&mut self, place: Place) {
        self.lines[place.line].set(place.way, 0, 0);
    }

    /// Looks at the next part of the table, one of `parts`, or at all of it if that is 1, and forgets the entries for which `keep`
    /// does not hold.
    pub fn sweep(&mut self, parts: usize, mut keep: impl FnMut(Entry) -> bool) {
        self.swept = if parts == 1 { 0 } else { self.swept };
        let count = self.lines.len().div_ceil(parts);
        for line in self.lines.iter_mut().skip(self.swept).take(count) {
            for way in 0..WAYS {
                if line.entry(way).is_some_and(|entry| !keep(entry)) {
                    line.set(way, 0, 0);
                }
            }
        }
        self.swept = if self.swept + count < self.lines.len() { self.swept + count } else { 0 };
    }

    #[inline]
    fn lines_of(&self, hash: u64) -> [usize; 2] {
        let mask = self.lines.len() - 1;
        let first = hash as usize & mask;
        // The same pair from either of the two, so that flows with one tag share both lines or none.
        let other = (tag(hash) | 1).wrapping_mul(0x9e37_79b1) as usize;
        let second = if self.has_two { (first ^ other) & mask } else { first };
        [first, second]
    }
}

/// What is kept of a hash; never 0, which is that of an empty place.
#[inline]
fn tag(hash: u64) -> u32 {
    ((hash >> 32) as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vlan_core::random::Random;

    fn entry(server: u16) -> Entry {
        Entry { kind: Kind::Udp, server, life: 0xa5, tick: 0x5a }
    }

    #[test]
    fn entries_come_back_as_they_were_written() {
        for kind in [Kind::Tcp, Kind::Udp, Kind::Fragments] {
            for server in [0, 1, SERVERS - 1] {
                let entry = Entry { kind, ..entry(server) };
                assert_eq!(Entry::unpack(entry.pack()), Some(entry));
            }
        }
        assert_eq!(Entry::unpack(0), None);
        let mut lines = Lines::new(8, false);
        assert_eq!(lines.find(0), None, "an empty place is not an entry of tag 0");
        let (place, _) = lines.room(0, |_| false).unwrap();
        lines.set(place, 0, Entry { life: 0, tick: 0, ..entry(0) });
        assert!(lines.find(0).is_some());
        lines.clear(place);
        assert_eq!(lines.find(0), None);
    }

    #[test]
    fn a_table_with_two_lines_for_each_hash_fills_up() {
        let mut lines = Lines::new(2 * 65_536, true);
        let mut random = Random::new(5);
        let mut refused = 0;
        let hashes = [(); 65_536].map(|()| random.next_u64());
        for (n, hash) in hashes.iter().enumerate() {
            match lines.room(*hash, |_| false) {
                Some((place, _)) => lines.set(place, *hash, entry(n as u16 & (SERVERS - 1))),
                None => refused += 1,
            }
        }
        assert!(refused < 20, "{refused} of 65536 find no room in a half full table");
        let found = |(n, hash): &(usize, &u64)| {
            lines.find(**hash).is_some_and(|(_, entry)| entry.server == *n as u16 & (SERVERS - 1))
        };
        let found = hashes.iter().enumerate().filter(found).count();
        assert_eq!(found + refused, 65_536);
        assert_eq!((0..65_536).filter(|_| lines.find(random.next_u64()).is_some()).count(), 0);
    }

    #[test]
    fn a_full_line_has_room_only_in_the_place_of_what_may_go() {
        let mut lines = Lines::new(WAYS, false);
        for n in 1..=WAYS as u64 {
            let (place, old) = lines.room(n << 32, |_| false).unwrap();
            assert_eq!(old, None);
            lines.set(place, n << 32, Entry { tick: 9 + n as u8, ..entry(n as u16) });
        }
        assert_eq!(lines.room(99 << 32, |_| false), None);
        let (place, old) = lines.room(99 << 32, |entry| entry.server == 3).unwrap();
        assert_eq!((Some(place), old.map(|e| e.server)), (lines.find(3 << 32).map(|(p, _)| p), Some(3)));
        assert_eq!(Some(lines.oldest(99 << 32, 40)), lines.find(1 << 32).map(|(p, _)| p));
        assert_eq!(Some(lines.oldest(99 << 32, 12)), lines.find(4 << 32).map(|(p, _)| p));
    }

    #[test]
    fn a_sweep_sees_every_entry_once_a_round() {
        let mut lines = Lines::new(1024, false);
        let mut random = Random::new(6);
        let mut held = 0;
        for _ in 0..500 {
            let hash = random.next_u64();
            if let Some((place, None)) = lines.room(hash, |_| false) {
                lines.set(place, hash, entry(held & 1));
                held += 1;
            }
        }
        for keep in [2, 1] {
            let mut seen = 0;
            for _ in 0..10 {
                lines.sweep(10, |entry| {
                    seen += 1;
                    entry.server < keep
                });
            }
            assert_eq!(seen, held);
        }
        let mut left = 0;
        lines.sweep(1, |_| {
            left += 1;
            true
        });
        assert_eq!(left, held.div_ceil(2));
    }
}
