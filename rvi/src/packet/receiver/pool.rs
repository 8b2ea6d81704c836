//! Buffers for messages: taken, filled once, given back, used again.

use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

use vlan_core::limits::MESSAGE_LEN_MAX;

/// Octets of the smallest buffers.
const SMALLEST: usize = 128;
/// Sizes of buffers: powers of two from 128 octets to 64 KiB, and the longest message.
const SIZES: usize = 11;
/// Octets of buffers that are kept for later.
const SPARE_OCTETS_MAX: usize = 512 << 10;

const _: () =
    assert!(SMALLEST << (SIZES - 1) >= MESSAGE_LEN_MAX && SMALLEST << (SIZES - 2) < MESSAGE_LEN_MAX);

/// A message in a buffer of the receiver's pool.
///
/// Whoever got it gives it back by [`super::Receiver::recycle`]: until then its octets count as held, and its sender
/// gets no credit for more.
#[derive(Debug)]
pub struct PooledBuf {
    octets: Vec<u8>,
}

impl Deref for PooledBuf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.octets
    }
}

impl DerefMut for PooledBuf {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.octets
    }
}

impl PooledBuf {
    /// Puts `octets` at `offset`; what lies between the end so far and `offset` is zero until it is put, too.
    #[inline]
    pub(super) fn put(&mut self, offset: usize, octets: &[u8]) {
        let len = self.octets.len();
        if offset > len {
            self.octets.resize(offset, 0);
        }
        let inside = self.octets.len() - offset;
        if inside == 0 {
            self.octets.extend_from_slice(octets);
            return;
        }
        let (over, beyond) = octets.split_at(inside.min(octets.len()));
        self.octets[offset..offset + over.len()].copy_from_slice(over);
        self.octets.extend_from_slice(beyond);
    }
}

/// Empty buffers by size.
#[derive(Debug, Default)]
pub(super) struct Pool {
    spares: [Vec<Vec<u8>>; SIZES],
    octets: usize,
}

impl Pool {
    /// An empty buffer with room for `len` octets.
    #[inline]
    pub fn take(&mut self, len: usize) -> PooledBuf {
        let size = size_for(len);
        match self.spares[size].pop() {
            Some(octets) => {
                self.octets -= octets.capacity();
                PooledBuf { octets }
            }
            None => PooledBuf { octets: Vec::with_capacity(room_of(size)) },
        }
    }

    /// Takes a buffer back; keeps it when there are not too many.
    #[inline]
    pub fn give_back(&mut self, buf: PooledBuf) {
        let mut octets = buf.octets;
        let size = size_for(octets.capacity().min(MESSAGE_LEN_MAX));
        // A buffer of another pool may have any capacity: it serves where every message fits into it.
        if octets.capacity() < room_of(size) || self.octets + octets.capacity() > SPARE_OCTETS_MAX {
            return;
        }
        octets.clear();
        self.octets += octets.capacity();
        self.spares[size].push(octets);
    }

    /// Gives the kept buffers back to the allocator.
    pub fn trim(&mut self) {
        *self = Self::default();
    }

    /// Octets of the buffers that are kept.
    #[cfg(test)]
    pub fn spare_octets(&self) -> usize {
        self.octets
    }
}

#[inline]
fn size_for(len: usize) -> usize {
    (len.max(SMALLEST).next_power_of_two() / SMALLEST).trailing_zeros() as usize
}

#[inline]
fn room_of(size: usize) -> usize {
    (SMALLEST << size).min(MESSAGE_LEN_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_has_room_for_its_message_and_is_used_again() {
        let mut pool = Pool::default();
        for len in [0, 1, 128, 129, 4096, 65_536, 65_537, MESSAGE_LEN_MAX] {
            let mut buf = pool.take(len);
            assert!(buf.octets.capacity() >= len, "{len}");
            buf.put(0, &std::vec![7; len]);
            let place = buf.octets.as_ptr();
            pool.give_back(buf);
            let again = pool.take(len);
            assert_eq!((again.octets.as_ptr(), again.len()), (place, 0), "{len}");
        }
    }

    #[test]
    fn no_more_is_kept_than_the_bound() {
        let mut pool = Pool::default();
        let bufs: Vec<_> = (0..20).map(|_| pool.take(MESSAGE_LEN_MAX)).collect();
        bufs.into_iter().for_each(|buf| pool.give_back(buf));
        assert!(pool.spare_octets() <= SPARE_OCTETS_MAX && pool.spare_octets() > SPARE_OCTETS_MAX / 2);
        pool.trim();
        assert_eq!(pool.spare_octets(), 0);
    }

    #[test]
    fn pieces_may_come_in_any_order() {
        let whole: Vec<u8> = (0..200).collect();
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
            let mut buf = Pool::default().take(200);
            for piece in order {
                buf.put(piece * 64, &whole[piece * 64..200.min(piece * 64 + 64)]);
            }
            buf.put(32, &whole[32..160]);
            assert_eq!(&buf[..], &whole[..], "{order:?}");
        }
    }
}
