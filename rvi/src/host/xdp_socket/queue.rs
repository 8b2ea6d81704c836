//! The socket of one queue of a device: its rings and the chunks that it lends to the kernel.

use std::boxed::Box;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::vec::Vec;

use rustix::io::Errno;
use rustix::net::xdp::{
    SocketAddrXdp, SocketAddrXdpFlags, XDP_PGOFF_RX_RING, XDP_PGOFF_TX_RING, XDP_UMEM_PGOFF_COMPLETION_RING,
    XDP_UMEM_PGOFF_FILL_RING, XdpOptionsFlags, XdpUmemReg, XdpUmemRegFlags,
};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use super::ring::{Consumer, Producer, Ring};
use super::{Queued, RingFault, XdpError};
use crate::Region;
use crate::host::mapping;

/// Octets of a chunk: a page, the most that the kernel takes.
pub(super) const CHUNK_LEN: usize = 4096;
/// Octets that the kernel leaves free in a chunk in front of a frame that arrives (`XDP_PACKET_HEADROOM`).
pub(super) const HEADROOM_LEN: usize = 256;
/// Chunks for what arrives, and entries of the rings for it: 8 MiB, the receive buffer of packet sockets.
const ARRIVING_CHUNKS: u32 = 2048;
/// Chunks for what is to go, and entries of the rings for it.
const LEAVING_CHUNKS: u32 = 512;
/// Entries after which the kernel gets chunks back, or is told of frames to send. It sends 32 in one call.
const BATCH: u32 = 32;
/// `XDP_PKT_CONTD` of `linux/if_xdp.h`: the frame goes on in the next entry.
const CONTINUES: u32 = 1;

/// A socket and its memory.
#[derive(Debug)]
pub(super) struct Queue {
    // The kernel gives the queue back only when its rings are unmapped: they stand before the socket.
    rx: Consumer<16>,
    fill: Producer<8>,
    tx: Producer<16>,
    completion: Consumer<8>,
    chunks: Region,
    socket: OwnedFd,
    leaving: Leaving,
    has_frags: bool,
    /// Entries of `rx` gone past since the kernel was told.
    taken: u32,
    /// Frames in `tx` that the kernel was not told of.
    unsent: u32,
    /// Frames that were longer than the room for them.
    pub too_long: u64,
}

/// Part of a frame: where it is and whether another part follows. `struct xdp_desc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    address: u64,
    len: u32,
    continues: bool,
}

impl Piece {
    fn parse(entry: [u8; 16]) -> Self {
        let word = |at: usize| u32::from_ne_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
        let (first, _) = entry.split_first_chunk().expect("an entry has more than an address");
        Self { address: u64::from_ne_bytes(*first), len: word(8), continues: word(12) & CONTINUES != 0 }
    }

    fn emit(&self) -> [u8; 16] {
        let mut entry = [0; 16];
        entry[..8].copy_from_slice(&self.address.to_ne_bytes());
        entry[8..12].copy_from_slice(&self.len.to_ne_bytes());
        entry[12..].copy_from_slice(&u32::from(self.continues).to_ne_bytes());
        entry
    }

    /// Where it lies in the chunks for what arrives.
    //= spec/xdp.md#what-the-kernel-says-of-rings-and-chunks
    //# An index or an address that comes out of a ring MUST be checked before anything is read or written by it, and an
    //# impossible one MUST end the use of the sockets.
    fn place(&self) -> Result<(usize, usize), RingFault> {
        let (address, len) = (self.address as usize, self.len as usize);
        let is_ours = self.address < u64::from(ARRIVING_CHUNKS) * CHUNK_LEN as u64;
        if is_ours && len <= CHUNK_LEN && address % CHUNK_LEN <= CHUNK_LEN - len {
            Ok((address, len))
        } else {
            Err(RingFault::Address)
        }
    }
}

/// The chunks for what is to go: those that are free, and which the kernel has.
#[derive(Debug)]
struct Leaving {
    free: Vec<u32>,
    is_lent: Box<[bool]>,
}

impl Leaving {
    fn new() -> Self {
        let numbers = ARRIVING_CHUNKS..ARRIVING_CHUNKS + LEAVING_CHUNKS;
        Self { free: numbers.collect(), is_lent: std::vec![false; LEAVING_CHUNKS as usize].into() }
    }

    fn lend(&mut self) -> Option<u64> {
        let number = self.free.pop()?;
        self.is_lent[(number - ARRIVING_CHUNKS) as usize] = true;
        Some(u64::from(number) * CHUNK_LEN as u64)
    }

    /// Takes back what the kernel says it is done with.
    fn take_back(&mut self, address: u64) -> Result<(), RingFault> {
        let number = u32::try_from(address / CHUNK_LEN as u64).map_err(|_| RingFault::Address)?;
        let place = number.checked_sub(ARRIVING_CHUNKS).ok_or(RingFault::Address)? as usize;
        let is_lent = self.is_lent.get_mut(place).filter(|is_lent| **is_lent).ok_or(RingFault::Address)?;
        *is_lent = false;
        self.free.push(number);
        Ok(())
    }
}

impl Queue {
    /// Makes a socket for a queue of a device: without copies between it and the device where that can be, with frames in several
    /// chunks if told.
    pub fn open(device: u32, queue: u32, has_frags: bool) -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::XDP, SocketType::RAW, flags, None)?;
        let chunks = mapping::map_private((ARRIVING_CHUNKS + LEAVING_CHUNKS) as usize * CHUNK_LEN)?;
        let memory = XdpUmemReg {
            addr: chunks.as_ptr().expose_provenance() as u64,
            len: chunks.len() as u64,
            chunk_size: CHUNK_LEN as u32,
            headroom: 0,
            flags: XdpUmemRegFlags::empty(),
            tx_metadata_len: 0,
        };
        sockopt::set_xdp_umem_reg(&socket, memory)?;
        // What the kernel has copied and not sent yet may count for as much as the chunks. As much as it gets: where the kernel refuses,
        // its default is there.
        let len = LEAVING_CHUNKS as usize * CHUNK_LEN;
        if sockopt::set_socket_send_buffer_size_force(&socket, len).is_err() {
            let _ = sockopt::set_socket_send_buffer_size(&socket, len);
        }
        sockopt::set_xdp_umem_fill_ring_size(&socket, ARRIVING_CHUNKS)?;
        sockopt::set_xdp_umem_completion_ring_size(&socket, LEAVING_CHUNKS)?;
        sockopt::set_xdp_rx_ring_size(&socket, ARRIVING_CHUNKS)?;
        sockopt::set_xdp_tx_ring_size(&socket, LEAVING_CHUNKS)?;
        let offsets = sockopt::xdp_mmap_offsets(&socket)?;
        let (fd, arriving, leaving) = (socket.as_fd(), ARRIVING_CHUNKS, LEAVING_CHUNKS);
        let mut opened = Self {
            rx: Consumer::new(Ring::map(fd, XDP_PGOFF_RX_RING, &offsets.rx, arriving)?),
            fill: Producer::new(Ring::map(fd, XDP_UMEM_PGOFF_FILL_RING, &offsets.fr, arriving)?),
            tx: Producer::new(Ring::map(fd, XDP_PGOFF_TX_RING, &offsets.tx, leaving)?),
            completion: Consumer::new(Ring::map(fd, XDP_UMEM_PGOFF_COMPLETION_RING, &offsets.cr, leaving)?),
            chunks,
            socket,
            leaving: Leaving::new(),
            has_frags,
            taken: 0,
            unsent: 0,
            too_long: 0,
        };
        for number in 0..u64::from(ARRIVING_CHUNKS) {
            opened.fill.push(&(number * CHUNK_LEN as u64).to_ne_bytes());
        }
        opened.fill.publish();
        let mut flags = SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP;
        flags.set(SocketAddrXdpFlags::XDP_USE_SG, has_frags);
        rustix::net::bind(&opened.socket, &SocketAddrXdp::new(flags, device, queue))?;
        Ok(opened)
    }

    /// The device reads and writes the chunks itself.
    pub fn is_zero_copy(&self) -> bool {
        let options = sockopt::xdp_options(&self.socket);
        options.is_ok_and(|options| options.contains(XdpOptionsFlags::XDP_OPTIONS_ZEROCOPY))
    }

    /// Frames that found no room in the socket.
    pub fn kernel_drops(&self) -> u64 {
        sockopt::xdp_statistics(&self.socket)
            .map_or(0, |told| told.rx_dropped + told.rx_ring_full.unwrap_or(0))
    }

    /// Copies the next frame to `out` and says how long it is; `None` when there is none now.
    //= spec/xdp.md#frames-in-several-chunks
    //# A frame that arrives in several chunks MUST be given as one, and one that is longer than the room for it MUST be
    //# dropped and counted.
    pub fn receive(&mut self, out: &mut [u8]) -> Result<Option<usize>, XdpError> {
        while let Some(count) = self.next_frame()? {
            let len = self.copy(count, out)?;
            self.taken += count;
            if self.taken >= BATCH {
                self.give_back();
            }
            match len {
                Some(len) => return Ok(Some(len)),
                None => self.too_long += 1,
            }
        }
        if self.taken > 0 {
            self.give_back();
        }
        if self.fill.wants_call() {
            let mut nothing = [0; 0];
            let _ = rustix::net::recv(&self.socket, &mut nothing, RecvFlags::DONTWAIT);
        }
        Ok(None)
    }

    /// How many entries the next frame has, when it is there whole.
    fn next_frame(&mut self) -> Result<Option<u32>, RingFault> {
        let ready = self.rx.ready()?;
        match end_of_frame(&self.rx, ready)? {
            None if ready > 0 => {
                let ready = self.rx.look()?;
                end_of_frame(&self.rx, ready)
            }
            found => Ok(found),
        }
    }

    /// Copies a frame of `count` entries and goes past them; `None` where it does not fit.
    fn copy(&mut self, count: u32, out: &mut [u8]) -> Result<Option<usize>, RingFault> {
        let mut end = Some(0);
        for _ in 0..count {
            let (address, len) = Piece::parse(self.rx.peek(0)).place()?;
            if self.fill.room()? == 0 {
                // More chunks come back than were lent.
                return Err(RingFault::Index);
            }
            let room = end.and_then(|start| out.get_mut(start..)?.get_mut(..len));
            end = room.zip(end).map(|(room, start)| {
                self.chunks.read(address, room);
                start + len
            });
            self.fill.push(&((address - address % CHUNK_LEN) as u64).to_ne_bytes());
            self.rx.skip(1);
        }
        Ok(end)
    }

    /// Tells the kernel of the chunks and entries that are its own again.
    fn give_back(&mut self) {
        self.taken = 0;
        self.fill.publish();
        self.rx.release();
    }

    /// Takes a frame that is to go, of a header, shorter than a chunk, and what follows it. What has been taken goes at the next
    /// [`Self::flush`] at the latest.
    pub fn send(&mut self, header: &[u8], rest: &[u8]) -> Result<Queued, XdpError> {
        let len = header.len() + rest.len();
        let count = len.div_ceil(CHUNK_LEN) as u32;
        if len == 0 || count > LEAVING_CHUNKS || count > 1 && !self.has_frags {
            return Ok(Queued::TooLong);
        }
        if !self.has_room(count)? {
            self.flush()?;
            if !self.has_room(count)? {
                return Ok(Queued::Full);
            }
        }
        let (first, others) = rest.split_at(rest.len().min(CHUNK_LEN - header.len()));
        self.push([header, first], !others.is_empty());
        let mut parts = others.chunks(CHUNK_LEN).peekable();
        while let Some(part) = parts.next() {
            self.push([&[], part], parts.peek().is_some());
        }
        self.unsent += 1;
        if self.unsent >= BATCH {
            self.flush()?;
        }
        Ok(Queued::Taken)
    }

    /// Has a chunk of a frame go, of these octets; there is one.
    fn push(&mut self, [front, back]: [&[u8]; 2], continues: bool) {
        let Some(address) = self.leaving.lend() else { return };
        self.chunks.write(address as usize, front);
        self.chunks.write(address as usize + front.len(), back);
        let piece = Piece { address, len: (front.len() + back.len()) as u32, continues };
        self.tx.push(&piece.emit());
    }

    fn has_room(&mut self, count: u32) -> Result<bool, RingFault> {
        if self.leaving.free.len() < count as usize {
            let done = self.completion.look()?;
            for _ in 0..done {
                self.leaving.take_back(u64::from_ne_bytes(self.completion.peek(0)))?;
                self.completion.skip(1);
            }
            self.completion.release();
        }
        Ok(self.leaving.free.len() >= count as usize && self.tx.room()? >= count)
    }

    /// Has the kernel send what was taken; false when the device does not take all of it now.
    //= spec/xdp.md#frames-that-are-to-go
    //# A frame that was taken MUST go in the order in which it was taken, at the next call that finds room at the device.
    pub fn flush(&mut self) -> Result<bool, XdpError> {
        self.unsent = 0;
        self.tx.publish();
        let mut waiting = self.tx.waiting()?;
        while waiting > 0 && self.tx.wants_call() {
            match rustix::net::send(&self.socket, &[], SendFlags::DONTWAIT) {
                Ok(_) | Err(Errno::AGAIN | Errno::BUSY | Errno::NOBUFS | Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let left = self.tx.waiting()?;
            if left >= waiting {
                return Ok(false);
            }
            waiting = left;
        }
        Ok(true)
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// How many of the entries that are ready the next frame has, when its last one is among them.
fn end_of_frame(rx: &Consumer<16>, ready: u32) -> Result<Option<u32>, RingFault> {
    let last = (0..ready).find(|&ahead| !Piece::parse(rx.peek(ahead)).continues);
    if last.is_none() && ready == rx.capacity() {
        // It would never end.
        return Err(RingFault::Index);
    }
    Ok(last.map(|ahead| ahead + 1))
}

#[cfg(test)]
mod tests {
    use rustix::net::xdp::XdpRingOffset;

    use super::*;
    use crate::ring::RingMemory;

    #[test]
    fn a_frame_ends_with_the_entry_that_says_so_and_has_to_end() {
        let region = Region::heap(128 + 4 * 16);
        let offsets = XdpRingOffset { producer: 0, consumer: 64, desc: 128, flags: Some(68) };
        let mut rx = Consumer::new(Ring::new(region.clone(), &offsets, 4).expect("it fits"));
        let mut put = |pieces: &[bool]| {
            for (place, &continues) in pieces.iter().enumerate() {
                region.write(128 + place * 16, &Piece { address: 0, len: 60, continues }.emit());
            }
            region.store_release(0, pieces.len() as u32);
            let ready = rx.look().unwrap();
            end_of_frame(&rx, ready)
        };
        assert_eq!(put(&[]), Ok(None));
        assert_eq!(put(&[true, true]), Ok(None));
        assert_eq!(put(&[true, true, false, false]), Ok(Some(3)));
        assert_eq!(put(&[true; 4]), Err(RingFault::Index));
    }

    #[test]
    fn a_piece_outside_of_the_chunks_that_were_lent_is_a_fault() {
        let end = u64::from(ARRIVING_CHUNKS) * CHUNK_LEN as u64;
        let piece = |address, len| Piece { address, len, continues: false };
        for (address, len) in [(0, 0), (256, 3840), (end - 4096, 4096), (end - 1, 1)] {
            let sound = piece(address, len);
            assert_eq!(Piece::parse(sound.emit()), sound);
            assert_eq!(sound.place(), Ok((address as usize, len as usize)));
        }
        for (address, len) in [
            (257, 3840),
            (0, 4097),
            (end, 0),
            (end - 1, 2),
            (u64::MAX, 1),
            (u64::MAX - 4095, 4096),
            (0, u32::MAX),
        ] {
            assert_eq!(piece(address, len).place(), Err(RingFault::Address), "{address} {len}");
        }
    }

    #[test]
    fn a_chunk_comes_back_once_and_only_if_it_was_lent() {
        let mut leaving = Leaving::new();
        let address = leaving.lend().unwrap();
        for impossible in [0, u64::MAX, address - 4096, address + 4096] {
            assert_eq!(leaving.take_back(impossible), Err(RingFault::Address), "{impossible}");
        }
        assert_eq!(leaving.take_back(address + 7), Ok(()));
        assert_eq!(leaving.take_back(address), Err(RingFault::Address));
        assert_eq!(core::iter::from_fn(|| leaving.lend()).count(), LEAVING_CHUNKS as usize);
    }
}
