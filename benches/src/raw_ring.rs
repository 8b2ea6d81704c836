//! The raw limit: a ring of fixed cells in shared memory, each message copied in and copied out, indices
//! published once in 32 messages. No header, no check, no number.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::process::{self, Figure, Meeting, Run, SENT, STOP};

/// Cells of the ring, as many as a leg has slots.
const CELLS: usize = 4096;
const BATCH: u64 = 32;
/// Places of the meeting page that hold the indices, each on a line of its own.
const TAIL: usize = 0;
const HEAD: usize = 8;

pub fn measure(run: &Run) -> anyhow::Result<Figure> {
    let cell = run.size.next_multiple_of(64);
    // At most 8 MiB, so that large frames measure the ring and not the memory behind the caches.
    let cells = CELLS.min((8 << 20) / cell).next_power_of_two() / if cell > 2048 { 2 } else { 1 };
    let cells = cells.max(64);
    // SAFETY: a new anonymous mapping.
    let data = unsafe {
        rustix::mm::mmap_anonymous(
            std::ptr::null_mut(),
            cells * cell,
            rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE,
            rustix::mm::MapFlags::SHARED | rustix::mm::MapFlags::POPULATE,
        )
    }?
    .cast::<u8>();
    let indices = Meeting::new()?;
    let ring = Ring { data, cell, mask: cells as u64 - 1, size: run.size };
    process::pair(
        run,
        |meeting| ring.consume(meeting, &indices),
        |meeting| {
            let mut frame = vec![0x5a_u8; ring.size];
            let mut tail = 0_u64;
            let mut head = 0;
            let mut number = 0_u32;
            let figure = process::count(run, meeting, || {
                while tail + BATCH > head + ring.mask + 1 {
                    head = indices.load(HEAD);
                    std::hint::spin_loop();
                }
                for _ in 0..BATCH {
                    number = number.wrapping_add(1);
                    frame[..4].copy_from_slice(&number.to_le_bytes());
                    ring.put(tail, &frame);
                    tail += 1;
                }
                indices.store(TAIL, tail);
                head
            });
            meeting.store(SENT, tail);
            figure
        },
    )
}

#[derive(Clone, Copy)]
struct Ring {
    data: *mut u8,
    cell: usize,
    mask: u64,
    size: usize,
}

impl Ring {
    #[inline]
    fn put(&self, index: u64, frame: &[u8]) {
        let at = (index & self.mask) as usize * self.cell;
        // SAFETY: `at` lies inside the mapping by the mask.
        let to = unsafe { self.data.add(at) };
        // SAFETY: the cell has room for a frame, and its consumer has released it.
        unsafe { std::ptr::copy_nonoverlapping(frame.as_ptr(), to, self.size) };
    }

    fn consume(&self, meeting: &Meeting, indices: &Meeting) {
        let mut out = vec![0_u8; self.size];
        let (mut head, mut sum) = (0_u64, 0_u64);
        while meeting.load(STOP) == 0 {
            let tail = indices.load(TAIL);
            while head < tail {
                for _ in 0..BATCH.min(tail - head) {
                    let at = (head & self.mask) as usize * self.cell;
                    // SAFETY: `at` lies inside the mapping by the mask.
                    let from = unsafe { self.data.add(at) };
                    // SAFETY: the cell has been published and is not written before it is released.
                    unsafe { std::ptr::copy_nonoverlapping(from, out.as_mut_ptr(), self.size) };
                    sum = sum.wrapping_add(u64::from(out[0]));
                    head += 1;
                }
                indices.store(HEAD, head);
            }
        }
        // Keeps the copies from being optimised away.
        static SUM: AtomicU64 = AtomicU64::new(0);
        // ORDERING: nothing else is published with this value.
        SUM.store(sum, Ordering::Relaxed);
    }
}
