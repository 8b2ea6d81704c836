//! Every interleaving of the smallest ring, with the code that ships.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p rvi --release --test loom_ring --no-default-features`
#![cfg(loom)]

use std::collections::BTreeMap;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::sync::{Arc, Notify};
use loom::thread;
use rvi::Part;
use rvi::ring::consumer::PRIVATE_LEN;
use rvi::ring::layout::ASLEEP;
use rvi::ring::{Bell, Consumer, Polled, Producer, PushError, RingLayout, RingMemory, SLOT_LEN, SlotMeta};
use vlan_core::Channel;

const SLOTS: usize = 4;
const GRANULES: usize = 8;
const TAIL: usize = 0x1000;
const HEAD: usize = 0x1100;

const RING: RingLayout = RingLayout {
    slots: 0,
    mask: SLOTS as u32 - 1,
    arena: SLOTS * SLOT_LEN,
    arena_granules: GRANULES as u32,
    tail: TAIL,
    head: HEAD,
};

/// A region in which the checker sees every access: words are atomics, the rest are cells that must never be
/// written and read at the same time.
struct Cells {
    words: BTreeMap<usize, AtomicU32>,
    blocks: Vec<UnsafeCell<[u8; 64]>>,
}

#[derive(Clone)]
struct Model(Arc<Cells>);

impl Model {
    fn new() -> Self {
        let offsets = (0..SLOTS).map(|i| i * SLOT_LEN).chain([TAIL, HEAD, HEAD + 4, ASLEEP]);
        let words = offsets.map(|offset| (offset, AtomicU32::new(0))).collect();
        let blocks = (0..SLOTS + GRANULES).map(|_| UnsafeCell::new([0; 64])).collect();
        Self(Arc::new(Cells { words, blocks }))
    }

    /// The pieces of `[offset, offset + len)` by block; panics outside the memory.
    fn pieces(offset: usize, len: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        assert!(offset + len <= (SLOTS + GRANULES) * 64, "outside the region");
        let mut at = offset;
        std::iter::from_fn(move || {
            let left = offset + len - at;
            if left == 0 {
                return None;
            }
            let piece = (at / 64, at % 64, left.min(64 - at % 64));
            at += piece.2;
            Some(piece)
        })
    }
}

impl RingMemory for Model {
    fn load_relaxed(&self, offset: usize) -> u32 {
        // ORDERING: as in `Region`.
        self.0.words[&offset].load(Ordering::Relaxed)
    }
    fn load_acquire(&self, offset: usize) -> u32 {
        // ORDERING: as in `Region`.
        self.0.words[&offset].load(Ordering::Acquire)
    }
    fn store_relaxed(&self, offset: usize, value: u32) {
        // ORDERING: as in `Region`.
        self.0.words[&offset].store(value, Ordering::Relaxed);
    }
    fn store_release(&self, offset: usize, value: u32) {
        // ORDERING: as in `Region`.
        self.0.words[&offset].store(value, Ordering::Release);
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
        let mut done = 0;
        for (block, start, count) in Self::pieces(offset, len) {
            self.0.blocks[block].with_mut(|p| {
                // SAFETY: the checker has just seen that nobody else reaches the cell.
                let cell = unsafe { &mut *p };
                cell[start..start + count].copy_from_slice(&octets[done..done + count]);
            });
            done += count;
        }
    }
    fn copy_out(&self, offset: usize, out: &mut [u8]) {
        let mut done = 0;
        for (block, start, count) in Self::pieces(offset, out.len()) {
            self.0.blocks[block].with(|p| {
                // SAFETY: the checker has just seen that nobody writes the cell.
                let cell = unsafe { &*p };
                out[done..done + count].copy_from_slice(&cell[start..start + count]);
            });
            done += count;
        }
    }
    fn copy_slot(&self, offset: usize, out: &mut [u8; SLOT_LEN]) {
        self.copy_out(offset + 4, &mut out[4..]);
    }
}

fn meta(mseq: u32) -> SlotMeta {
    SlotMeta { mseq, channel: Channel(1), ..SlotMeta::default() }
}

fn ends() -> (Producer<Model>, Consumer<Model>, Model, Model) {
    let (source, sink) = (Model::new(), Model::new());
    let producer = Producer::new(source.clone(), sink.clone(), RING);
    let consumer = Consumer::new(sink.clone(), source.clone(), RING);
    (producer, consumer, source, sink)
}

fn push(producer: &mut Producer<Model>, mseq: u32, len: usize) -> bool {
    let octets = vec![mseq as u8 + 1; len];
    match producer.push(meta(mseq), &[Part::Private(&octets)]) {
        Ok(()) => true,
        Err(PushError::Full) => false,
        Err(PushError::Fault(fault)) => panic!("{fault:?}"),
    }
}

/// Takes one message if there is one, and checks all its octets.
fn take(consumer: &mut Consumer<Model>, peer: &Model, mseq: u32, len: usize) -> bool {
    let mut private = [0; PRIVATE_LEN];
    match consumer.poll(0, &mut private) {
        Polled::Empty => false,
        Polled::Fault(fault) => panic!("{fault:?}"),
        Polled::Message(received) => {
            assert_eq!(received.fields.meta, meta(mseq));
            assert_eq!(received.fields.len as usize, len);
            let mut rest = vec![0; received.rest.1];
            peer.copy_out(received.rest.0, &mut rest);
            let head = &private[24..24 + len.min(256)];
            assert!(head.iter().chain(&rest).all(|o| *o == mseq as u8 + 1), "octets of another message");
            true
        }
    }
}

fn model(run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

fn pass(count: u32, len: usize) {
    let (mut producer, mut consumer, source, _) = ends();
    let producing = thread::spawn(move || {
        for mseq in 0..count {
            while !push(&mut producer, mseq, len) {
                thread::yield_now();
            }
            producer.publish();
        }
    });
    for mseq in 0..count {
        while !take(&mut consumer, &source, mseq, len) {
            thread::yield_now();
        }
        consumer.release(false);
    }
    producing.join().expect("the producer ends");
}

//= spec/ring.md#publication
//= type=test
//# The first word of a message's first slot MUST be stored with release order, as its position plus one, after
//# every other octet of the message.
//= spec/ring.md#reuse
//= type=test
//# A producer MUST NOT write to a slot or to arena octets before the peer's `settled` has passed them.
#[test]
fn inline_messages_pass_whole_and_slots_are_not_reused_early() {
    model(|| pass(3, 90));
}

#[test]
fn arena_octets_are_not_reused_before_they_are_settled() {
    model(|| pass(4, 230));
}

#[test]
fn octets_held_by_the_consumer_stay_until_they_are_settled() {
    model(|| {
        let (mut producer, mut consumer, source, _) = ends();
        let producing = thread::spawn(move || {
            let mut pushed = 0;
            for _ in 0..3 {
                if push(&mut producer, pushed, 230) {
                    pushed += 1;
                    producer.publish();
                }
            }
        });
        let mut private = [0; PRIVATE_LEN];
        while !matches!(consumer.poll(0, &mut private), Polled::Message(_)) {
            thread::yield_now();
        }
        consumer.release(true);
        let mut arena = [0; 60];
        source.copy_out(RING.arena, &mut arena);
        assert!(arena.iter().all(|o| *o == 1), "held octets were written over");
        producing.join().expect("the producer ends");
    });
}

//= spec/ring.md#announcement
//= type=test
//# A producer MUST store its position as `tail`, with release order, after the first words of what it publishes.
//= spec/ring.md#looking
//= type=test
//# A consumer MUST NOT look at a slot before `tail` has moved from its own position.
#[test]
fn what_is_not_announced_is_not_looked_at() {
    model(|| {
        let (mut producer, mut consumer, source, _) = ends();
        assert!(push(&mut producer, 0, 90));
        assert!(!consumer.is_ready() && !take(&mut consumer, &source, 0, 90), "nothing was announced");
        producer.publish();
        assert!(consumer.is_ready() && take(&mut consumer, &source, 0, 90));
        // A word that announces more than there is: no message, and nothing to stay awake for.
        source.store_release(TAIL, 3);
        assert!(!consumer.is_ready() && !take(&mut consumer, &source, 1, 90));
        assert!(push(&mut producer, 1, 90));
        producer.publish();
        assert!(consumer.is_ready() && take(&mut consumer, &source, 1, 90));
    });
}

//= spec/ring.md#wake-up
//= type=test
//# An end MUST store its `asleep` word, then pass a sequentially consistent fence, then look at its rings once
//# more before it sleeps.
//= spec/ring.md#ringing
//= type=test
//# An end that published, or settled what a peer waits for, MUST pass a sequentially consistent fence and then
//# ring the doorbell if the peer's `asleep` word says that it sleeps.
#[test]
fn a_sleeping_consumer_is_always_woken() {
    model(|| {
        let (mut producer, mut consumer, source, sink) = ends();
        let (mut ringer, mut sleeper) =
            (Bell::new(source.clone(), sink.clone()), Bell::new(sink, source.clone()));
        let doorbell = Arc::new(Notify::new());
        let producing = thread::spawn({
            let doorbell = Arc::clone(&doorbell);
            move || {
                for mseq in 0..2 {
                    assert!(push(&mut producer, mseq, 90));
                    producer.publish();
                    ringer.fence();
                    if ringer.must_ring_for_data() {
                        doorbell.notify();
                    }
                }
            }
        });
        for mseq in 0..2 {
            while !take(&mut consumer, &source, mseq, 90) {
                sleeper.fall_asleep(false);
                if !consumer.is_ready() {
                    doorbell.wait();
                }
                sleeper.wake();
            }
        }
        producing.join().expect("the producer ends");
    });
}

#[test]
fn a_producer_that_sleeps_for_room_is_always_woken() {
    model(|| {
        let (mut producer, mut consumer, source, sink) = ends();
        let (mut sleeper, mut ringer) =
            (Bell::new(source.clone(), sink.clone()), Bell::new(sink, source.clone()));
        let doorbell = Arc::new(Notify::new());
        assert!(push(&mut producer, 0, 90) && push(&mut producer, 1, 90));
        producer.publish();
        let consuming = thread::spawn({
            let doorbell = Arc::clone(&doorbell);
            move || {
                for mseq in 0..2 {
                    assert!(take(&mut consumer, &source, mseq, 90));
                    assert!(consumer.release(false));
                    ringer.fence();
                    if ringer.must_ring_for_room() {
                        doorbell.notify();
                    }
                }
            }
        });
        while !push(&mut producer, 2, 90) {
            sleeper.fall_asleep(true);
            if !producer.has_moved() {
                doorbell.wait();
            }
            sleeper.wake();
        }
        consuming.join().expect("the consumer ends");
    });
}
