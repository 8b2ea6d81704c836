//! Messages that came in pieces, until the last piece is there.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use vlan_core::Channel;
use vlan_core::limits::MESSAGE_LEN_MAX;

use super::pool::{Pool, PooledBuf};
use super::types::{Key, MessageMeta, WholeMessage};
use crate::packet::wire::{FRAGMENT_GRID, PacketError, PacketLeg, Record};

/// Words of a map with a bit for each piece of the grid.
const WORDS: usize = MESSAGE_LEN_MAX.div_ceil(FRAGMENT_GRID * 64);

/// Which pieces of the grid are there.
#[derive(Clone, Copy, Debug, Default)]
struct GridMap([u64; WORDS]);

impl GridMap {
    /// Sets `count` bits from `first` on and gives how many were not set.
    #[inline]
    fn set(&mut self, first: u32, count: u32) -> u32 {
        let (mut at, end, mut fresh) = (first, first + count, 0);
        while at < end {
            let bits = (64 - at % 64).min(end - at);
            let mask = (u64::MAX >> (64 - bits)) << (at % 64);
            let word = &mut self.0[at as usize / 64];
            fresh += (mask & !*word).count_ones();
            *word |= mask;
            at += bits;
        }
        fresh
    }
}

/// A message of which pieces are missing.
#[derive(Debug)]
struct Partial {
    meta: MessageMeta,
    len: u32,
    /// Pieces of the grid that are not there.
    missing: u32,
    map: GridMap,
    octets: PooledBuf,
}

/// What became of a fragment.
#[derive(Debug)]
pub(super) enum Piece {
    /// It was not there before.
    Fresh,
    /// All of it was there before.
    Duplicate,
    /// It was the last one.
    Completed(WholeMessage),
}

/// Messages that are being put together.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// Places in `partials`.
    index: BTreeMap<Key, u32>,
    partials: Vec<Option<Partial>>,
    free: Vec<u32>,
    /// The message that the latest fragment belonged to: most likely that of the next one.
    latest: Option<(Key, u32)>,
}

impl Assembly {
    /// True when nothing is being put together.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    #[inline]
    fn find(&self, key: Key) -> Option<u32> {
        match self.latest {
            Some((latest, place)) if latest == key => Some(place),
            _ => self.index.get(&key).copied(),
        }
    }

    /// True when some piece of the message is there.
    #[inline]
    pub fn contains(&self, key: Key) -> bool {
        self.find(key).is_some()
    }

    /// Begins a message of `len` octets.
    pub fn begin(&mut self, meta: MessageMeta, len: u32, octets: PooledBuf) {
        let missing = len.div_ceil(FRAGMENT_GRID as u32);
        let partial = Some(Partial { meta, len, missing, map: GridMap::default(), octets });
        let place = self.free.pop().unwrap_or(self.partials.len() as u32);
        match self.partials.get_mut(place as usize) {
            Some(room) => *room = partial,
            None => self.partials.push(partial),
        }
        self.index.insert(meta.key, place);
        self.latest = Some((meta.key, place));
    }

    /// Adds a fragment to its message, which was begun.
    ///
    /// # Errors
    /// When it says another length than the fragments before it.
    #[inline]
    pub fn add(&mut self, key: Key, leg: PacketLeg, record: &Record<'_>) -> Result<Piece, PacketError> {
        let header = &record.header;
        let Some(place) = self.find(key) else { return Ok(Piece::Duplicate) };
        self.latest = Some((key, place));
        let Some(partial) = &mut self.partials[place as usize] else { return Ok(Piece::Duplicate) };
        //= spec/packet.md#fragment-length
        //# When a fragment tells another length of its message than those before it, the session MUST end, and nothing more
        //# of it MUST be delivered or acknowledged.
        if header.msg_len != partial.len {
            return Err(PacketError::MessageLenChanged { known: partial.len, told: header.msg_len });
        }
        let grid = FRAGMENT_GRID as u32;
        let pieces = u32::from(header.frag_len).div_ceil(grid);
        let fresh = partial.map.set(header.frag_off / grid, pieces);
        if fresh == 0 {
            return Ok(Piece::Duplicate);
        }
        partial.octets.put(header.frag_off as usize, record.body);
        partial.missing -= fresh;
        partial.meta.leg = leg;
        if partial.missing > 0 {
            return Ok(Piece::Fresh);
        }
        Ok(self.take(key, place).map_or(Piece::Duplicate, Piece::Completed))
    }

    /// Takes a message out, whole or not.
    fn take(&mut self, key: Key, place: u32) -> Option<WholeMessage> {
        let partial = self.partials.get_mut(place as usize)?.take()?;
        self.index.remove(&key);
        self.free.push(place);
        self.latest = None;
        Some(WholeMessage { meta: partial.meta, octets: partial.octets })
    }

    /// Gives a message up, and the octets it was charged.
    pub fn give_up(&mut self, key: Key, pool: &mut Pool) -> Option<usize> {
        let place = self.find(key)?;
        let len = self.partials.get(place as usize)?.as_ref()?.len;
        let partial = self.take(key, place)?;
        pool.give_back(partial.octets);
        Some(len as usize)
    }

    /// Any message of `channel`.
    pub fn any_of(&self, channel: Channel) -> Option<Key> {
        let of_channel = Key { channel, mseq: 0 }..=Key { channel, mseq: u32::MAX };
        self.index.range(of_channel).next().map(|(&key, _)| key)
    }

    /// Gives memory back that nothing needs now.
    pub fn trim(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }
}
