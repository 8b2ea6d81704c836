//! The rings of an XDP socket, whose other end is the kernel's: free-running indices of 32 bits, entries of `N` octets.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::mm::ProtFlags;
use rustix::net::xdp::XdpRingOffset;

use super::RingFault;
use crate::Region;
use crate::host::mapping;
use crate::ring::RingMemory;

/// `XDP_RING_NEED_WAKEUP` of `linux/if_xdp.h`.
const NEED_WAKEUP: u32 = 1;

/// A ring and where its parts lie, which was checked.
#[derive(Debug)]
pub(super) struct Ring<const N: usize> {
    region: Region,
    producer: usize,
    consumer: usize,
    flags: usize,
    entries: usize,
    /// A power of two.
    capacity: u32,
}

impl<const N: usize> Ring<N> {
    /// Maps the ring of a socket that begins at `page` and has `capacity` entries, a power of two.
    pub fn map(
        socket: BorrowedFd<'_>,
        page: u64,
        offsets: &XdpRingOffset,
        capacity: u32,
    ) -> Result<Self, Errno> {
        let entries = usize::try_from(offsets.desc).map_err(|_| Errno::INVAL)?;
        let len = entries.checked_add(capacity as usize * N).ok_or(Errno::INVAL)?;
        let region = mapping::map(socket, page, len, ProtFlags::READ | ProtFlags::WRITE)?;
        Self::new(region, offsets, capacity).ok_or(Errno::INVAL)
    }

    /// The ring that lies in `region`; `None` where the kernel's offsets would lead out of it.
    pub fn new(region: Region, offsets: &XdpRingOffset, capacity: u32) -> Option<Self> {
        let flags = offsets.flags?;
        let is_word = |offset: u64| offset.is_multiple_of(4) && offset.saturating_add(4) <= offsets.desc;
        let len = region.len() as u64;
        let fits = offsets.desc.checked_add(u64::from(capacity) * N as u64).is_some_and(|end| end <= len);
        let is_sound = fits && [offsets.producer, offsets.consumer, flags].into_iter().all(is_word);
        let place = |offset: u64| offset as usize;
        (is_sound && capacity.is_power_of_two()).then(|| Self {
            producer: place(offsets.producer),
            consumer: place(offsets.consumer),
            flags: place(flags),
            entries: place(offsets.desc),
            region,
            capacity,
        })
    }

    /// Where the entry of an index lies: inside the region, whatever the index.
    fn place(&self, index: u32) -> usize {
        self.entries + (index & (self.capacity - 1)) as usize * N
    }

    /// How many entries lie between two indices.
    //= spec/xdp.md#what-the-kernel-says-of-rings-and-chunks
    //# An index or an address that comes out of a ring MUST be checked before anything is read or written by it, and an
    //# impossible one MUST end the use of the sockets.
    fn distance(&self, producer: u32, consumer: u32) -> Result<u32, RingFault> {
        let distance = producer.wrapping_sub(consumer);
        if distance > self.capacity { Err(RingFault::Index) } else { Ok(distance) }
    }
}

/// The end of a ring that this process fills.
#[derive(Debug)]
pub(super) struct Producer<const N: usize> {
    ring: Ring<N>,
    next: u32,
}

impl<const N: usize> Producer<N> {
    pub fn new(ring: Ring<N>) -> Self {
        Self { ring, next: 0 }
    }

    /// Entries that the kernel has not taken yet, those that it has not been shown among them.
    pub fn waiting(&self) -> Result<u32, RingFault> {
        self.ring.distance(self.next, self.ring.region.load_acquire(self.ring.consumer))
    }

    /// How many more entries there is room for.
    pub fn room(&self) -> Result<u32, RingFault> {
        self.waiting().map(|waiting| self.ring.capacity - waiting)
    }

    /// Writes the next entry, for which there is room. The kernel sees it after [`Self::publish`].
    pub fn push(&mut self, entry: &[u8; N]) {
        self.ring.region.write(self.ring.place(self.next), entry);
        self.next = self.next.wrapping_add(1);
    }

    /// Shows the kernel what was pushed.
    pub fn publish(&self) {
        self.ring.region.store_release(self.ring.producer, self.next);
    }

    /// The kernel goes on only when it is called.
    pub fn wants_call(&self) -> bool {
        self.ring.region.load_relaxed(self.ring.flags) & NEED_WAKEUP != 0
    }
}

/// The end of a ring that the kernel fills.
#[derive(Debug)]
pub(super) struct Consumer<const N: usize> {
    ring: Ring<N>,
    next: u32,
    /// Up to where the kernel has filled it, when it was looked at last.
    filled: u32,
}

impl<const N: usize> Consumer<N> {
    pub fn new(ring: Ring<N>) -> Self {
        Self { ring, next: 0, filled: 0 }
    }

    /// Entries that are there.
    pub fn ready(&mut self) -> Result<u32, RingFault> {
        if self.filled == self.next { self.look() } else { self.ring.distance(self.filled, self.next) }
    }

    /// The same, with what has come since.
    pub fn look(&mut self) -> Result<u32, RingFault> {
        let filled = self.ring.region.load_acquire(self.ring.producer);
        let ready = self.ring.distance(filled, self.next)?;
        self.filled = filled;
        Ok(ready)
    }

    /// Entries that the ring has.
    pub fn capacity(&self) -> u32 {
        self.ring.capacity
    }

    /// The entry that is `ahead` of the next one: below what [`Self::ready`] said.
    pub fn peek(&self, ahead: u32) -> [u8; N] {
        let mut entry = [0; N];
        self.ring.region.read(self.ring.place(self.next.wrapping_add(ahead)), &mut entry);
        entry
    }

    /// Goes past `count` entries, as many as are ready at most.
    pub fn skip(&mut self, count: u32) {
        self.next = self.next.wrapping_add(count);
    }

    /// Gives the room of the entries that were gone past back to the kernel.
    pub fn release(&self) {
        self.ring.region.store_release(self.ring.consumer, self.next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFSETS: XdpRingOffset = XdpRingOffset { producer: 0, consumer: 64, desc: 128, flags: Some(68) };

    fn ring(region: &Region) -> Ring<8> {
        Ring::new(region.clone(), &OFFSETS, 4).expect("it fits")
    }

    #[test]
    fn a_ring_carries_entries_round_and_round_in_order() {
        let region = Region::heap(128 + 4 * 8);
        let (mut producer, mut consumer) = (Producer::new(ring(&region)), Consumer::new(ring(&region)));
        for round in 0..10_u64 {
            assert_eq!(producer.room(), Ok(4));
            for n in 0..3 {
                producer.push(&(3 * round + n).to_ne_bytes());
            }
            assert_eq!(consumer.ready(), Ok(0), "it was not published");
            producer.publish();
            assert_eq!((producer.waiting(), consumer.ready()), (Ok(3), Ok(3)));
            for n in 0..3 {
                assert_eq!(consumer.peek(0), (3 * round + n).to_ne_bytes());
                consumer.skip(1);
            }
            consumer.release();
        }
    }

    #[test]
    fn an_impossible_index_is_a_fault() {
        //= spec/xdp.md#what-the-kernel-says-of-rings-and-chunks
        //= type=test
        //# An index or an address that comes out of a ring MUST be checked before anything is read or written by it, and an
        //# impossible one MUST end the use of the sockets.
        let region = Region::heap(128 + 4 * 8);
        let (producer, mut consumer) = (Producer::new(ring(&region)), Consumer::new(ring(&region)));
        for impossible in [5, u32::MAX] {
            region.store_release(0, impossible);
            assert_eq!(consumer.ready(), Err(RingFault::Index));
        }
        for impossible in [1, u32::MAX - 4] {
            region.store_release(64, impossible);
            assert_eq!(producer.room(), Err(RingFault::Index));
        }
    }

    #[test]
    fn a_ring_that_would_lead_out_of_its_mapping_is_refused() {
        let region = Region::heap(128 + 4 * 8);
        let far = u64::MAX - 3;
        for offsets in [
            XdpRingOffset { desc: 129, ..OFFSETS },
            XdpRingOffset { desc: far, ..OFFSETS },
            XdpRingOffset { producer: 126, ..OFFSETS },
            XdpRingOffset { consumer: far, ..OFFSETS },
            XdpRingOffset { flags: Some(128), ..OFFSETS },
            XdpRingOffset { flags: None, ..OFFSETS },
        ] {
            assert!(Ring::<8>::new(region.clone(), &offsets, 4).is_none(), "{offsets:?}");
        }
    }
}
