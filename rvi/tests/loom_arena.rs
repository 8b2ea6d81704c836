//! Every interleaving of a member that reads a message with a control node that writes over it, with the code that ships.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p rvi --release --test loom_arena --no-default-features`
#![cfg(loom)]

use std::collections::BTreeMap;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::thread;
use rvi::arena::layout::{DATA, SEGMENTS};
use rvi::ring::{RingMemory, SLOT_LEN};
use rvi::{ArenaConfig, ArenaFault, ArenaReader, ArenaWriter, Part};
use vlan_core::wire::reference::Place;

const CONFIG: ArenaConfig = ArenaConfig { number: 7, segment_len: 1 << 17 };
/// Octets of each message: two words.
const LEN: usize = 8;
/// The word of a ring that says that there is a second message.
const TOLD: usize = 0x800;

/// The words of an arena that these tests reach. Octets are words without an order here: what is read while it is written may be
/// half of each.
#[derive(Clone)]
struct Model(Arc<BTreeMap<usize, AtomicU32>>);

impl Model {
    fn new() -> Self {
        let header = [0, 4, 8, TOLD];
        let sequences = (0..SEGMENTS as usize).map(|i| 0x1000 + 128 * i);
        let offsets = header.into_iter().chain(sequences).chain([DATA, DATA + 4]);
        Self(Arc::new(offsets.map(|offset| (offset, AtomicU32::new(0))).collect()))
    }
}

impl RingMemory for Model {
    fn load_relaxed(&self, offset: usize) -> u32 {
        // ORDERING: as in `Region`.
        self.0[&offset].load(Ordering::Relaxed)
    }
    fn load_acquire(&self, offset: usize) -> u32 {
        // ORDERING: as in `Region`.
        self.0[&offset].load(Ordering::Acquire)
    }
    fn store_relaxed(&self, offset: usize, value: u32) {
        // ORDERING: as in `Region`.
        self.0[&offset].store(value, Ordering::Relaxed);
    }
    fn store_release(&self, offset: usize, value: u32) {
        // ORDERING: as in `Region`.
        self.0[&offset].store(value, Ordering::Release);
    }
    fn fence(&self) {
        // ORDERING: as in `Region`.
        fence(Ordering::SeqCst);
    }
    fn fence_acquire(&self) {
        // ORDERING: as in `Region`.
        fence(Ordering::Acquire);
    }
    unsafe fn copy_in(&self, offset: usize, from: *const u8, len: usize) {
        // SAFETY: the caller says that `from` is readable for `len` octets.
        let octets = unsafe { std::slice::from_raw_parts(from, len) };
        for (i, word) in octets.as_chunks().0.iter().enumerate() {
            self.store_relaxed(offset + 4 * i, u32::from_le_bytes(*word));
        }
    }
    fn copy_out(&self, offset: usize, out: &mut [u8]) {
        for (i, word) in out.as_chunks_mut().0.iter_mut().enumerate() {
            *word = self.load_relaxed(offset + 4 * i).to_le_bytes();
        }
    }
    fn copy_slot(&self, _offset: usize, _out: &mut [u8; SLOT_LEN]) {}
}

/// An arena in which the next segment to begin is the one of a message of ones.
fn about_to_lap() -> (ArenaWriter<Model>, ArenaReader<Model>, Model, Place) {
    let memory = Model::new();
    let mut writer = ArenaWriter::new(memory.clone(), &CONFIG);
    let place = writer.put(&[Part::Private(&[1; LEN])]).expect("room");
    for _ in 1..SEGMENTS {
        writer.begin_segment();
    }
    let reader = ArenaReader::new(memory.clone(), CONFIG.region_len()).expect("a header");
    (writer, reader, memory, place)
}

//= spec/arena.md#lives
//= type=test
//# The sequence of a segment MUST name its present life before anything of that life is written, behind a fence.
//= spec/arena.md#reading
//= type=test
//# A member MUST copy a message out, and MUST then find the segment's sequence still to name the life in its reference,
//# before it looks at what it has copied.
#[test]
fn what_is_accepted_was_not_written_over_while_it_was_read() {
    loom::model(|| {
        let (mut writer, reader, _, place) = about_to_lap();
        let writing = thread::spawn(move || {
            writer.begin_segment();
            writer.put(&[Part::Private(&[2; LEN])]).expect("room");
        });
        match reader.read(&place, &mut Vec::new()) {
            Ok(octets) => assert_eq!(octets, [1; LEN]),
            Err(fault) => assert_eq!(fault, ArenaFault::Lapped),
        }
        writing.join().expect("the writer ends");
        assert_eq!(reader.read(&place, &mut Vec::new()), Err(ArenaFault::Lapped));
    });
}

#[test]
fn what_was_told_of_is_there() {
    loom::model(|| {
        let (mut writer, reader, memory, place) = about_to_lap();
        let told = Place { segment: place.segment + SEGMENTS, ..place };
        let writing = thread::spawn({
            let memory = memory.clone();
            move || {
                writer.begin_segment();
                assert_eq!(writer.put(&[Part::Private(&[2; LEN])]), Some(told));
                memory.store_release(TOLD, 1);
            }
        });
        if memory.load_acquire(TOLD) == 1 {
            assert_eq!(reader.read(&told, &mut Vec::new()).as_deref(), Ok(&[2; LEN][..]));
        }
        writing.join().expect("the writer ends");
    });
}
