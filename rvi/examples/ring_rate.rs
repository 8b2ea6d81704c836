//! How many messages a second go through an association from one core to another.
//!
//! `cargo run --release -p rvi --example ring_rate [SECONDS]` prints millions of messages a second for frames of 64 and
//! 1500 octets, each behind a 32-octet header. Full rings count as a wait, never as a loss.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant as Clock};

use rvi::{Association, AssociationConfig, Part, Region, Scratch, SendError, ShmConfig, ShmLeg};
use vlan_core::{Channel, Instant, LegNumber};

const CHANNEL: Channel = Channel(1);
const BATCH: usize = 32;

fn main() {
    let seconds = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(1.0);
    for legs in [1, 2] {
        for len in [64, 512, 1500] {
            let [mean, decile] = measure(len, legs, Duration::from_secs_f64(seconds));
            println!("{legs} leg(s), {len:5} octets: {mean:6.2} Mpps, ninth decile {decile:6.2}");
        }
    }
    for legs in [1, 2] {
        for len in [64, 1500] {
            println!("{legs} leg(s), {len:5} octets: {:6.1} ns on one core", cost(len, legs));
        }
    }
}

/// Nanoseconds of processor time for sending, receiving and copying out one frame on one core.
fn cost(len: usize, legs: u8) -> f64 {
    const BATCHES: u32 = 60_000;
    let [mut sender, mut receiver] = pair(legs);
    let (header, frame) = ([1; 32], vec![2; len]);
    let parts = [Part::Private(&header), Part::Private(&frame)];
    let (mut scratch, mut out, mut flow) = (Scratch::default(), vec![0; 2048], 0);
    let start = processor_time();
    for _ in 0..BATCHES {
        for _ in 0..BATCH {
            flow += 1;
            sender.send(Instant::ZERO, CHANNEL, flow, 0, &parts).expect("there is room");
        }
        sender.publish();
        while let Some(message) = receiver.receive(&mut scratch) {
            out[..message.head.len()].copy_from_slice(message.head);
            message.rest.copy_to(&mut out[message.head.len()..]);
        }
        receiver.release();
    }
    (processor_time() - start) / f64::from(BATCHES) / BATCH as f64
}

#[cfg(feature = "std")]
fn processor_time() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

#[cfg(not(feature = "std"))]
fn processor_time() -> f64 {
    0.0
}

/// Millions of frames a second that the consumer took and copied out: mean and ninth decile.
fn measure(len: usize, legs: u8, time: Duration) -> [f64; 2] {
    let [mut sender, mut receiver] = pair(legs);
    let stop = Arc::new(AtomicBool::new(false));
    let received = Arc::new(AtomicU64::new(0));
    let producing = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            pin(0);
            produce(&mut sender, len, &stop);
        }
    });
    let consuming = std::thread::spawn({
        let (stop, received) = (Arc::clone(&stop), Arc::clone(&received));
        move || {
            pin(1);
            consume(&mut receiver, &stop, &received);
        }
    });
    std::thread::sleep(Duration::from_millis(20));
    let rates = windows(time, &received);
    stop.store(true, Ordering::Relaxed);
    producing.join().expect("the producer ends");
    consuming.join().expect("the consumer ends");
    rates
}

/// Mean over the whole time, and what nine of ten windows of 2 ms stay below: on a machine with other work, the
/// second is nearer to what two idle cores do.
fn windows(time: Duration, received: &AtomicU64) -> [f64; 2] {
    let sample = || (Clock::now(), received.load(Ordering::Relaxed));
    let rate = |from: (Clock, u64), to: (Clock, u64)| {
        (to.1 - from.1) as f64 / to.0.duration_since(from.0).as_secs_f64() / 1e6
    };
    let first = sample();
    let (mut last, mut rates) = (first, Vec::new());
    while last.0 - first.0 < time {
        std::thread::sleep(Duration::from_millis(2));
        let now = sample();
        rates.push(rate(last, now));
        last = now;
    }
    rates.sort_by(f64::total_cmp);
    [rate(first, last), rates[rates.len() * 9 / 10]]
}

fn pair(legs: u8) -> [Association; 2] {
    let config = ShmConfig::default();
    let mut ends = [0, 1].map(|_| {
        let mut end =
            Association::new(&AssociationConfig { park_messages_max: 0, ..AssociationConfig::default() });
        end.open_channel(CHANNEL);
        end
    });
    for leg in 0..legs {
        let regions = [(); 2].map(|()| Region::heap(config.region_len()));
        for region in &regions {
            ShmLeg::format(region, &config);
        }
        for (i, end) in ends.iter_mut().enumerate() {
            let shm = ShmLeg::new(regions[i].clone(), regions[1 - i].clone()).expect("formatted regions");
            end.handle_leg_up(Instant::ZERO, LegNumber(leg), shm);
        }
    }
    ends
}

fn produce(sender: &mut Association, len: usize, stop: &AtomicBool) {
    let header = [1; 32];
    let frame = vec![2; len];
    let parts = [Part::Private(&header), Part::Private(&frame)];
    let mut flow = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..BATCH {
            flow += 1;
            match sender.send(Instant::ZERO, CHANNEL, flow, 0, &parts) {
                Ok(_) => {}
                Err(SendError::Full) => break,
                Err(error) => panic!("{error}"),
            }
        }
        sender.publish();
    }
}

fn consume(receiver: &mut Association, stop: &AtomicBool, received: &AtomicU64) {
    let mut scratch = Scratch::default();
    let mut out = vec![0; 2048];
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..BATCH {
            let Some(message) = receiver.receive(&mut scratch) else { break };
            out[..message.head.len()].copy_from_slice(message.head);
            message.rest.copy_to(&mut out[message.head.len()..]);
            count += 1;
        }
        receiver.release();
        received.store(count, Ordering::Relaxed);
    }
}

#[cfg(feature = "std")]
fn pin(core: usize) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut set = rustix::thread::CpuSet::new();
    set.set(core % cores);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        eprintln!("not pinned: {error}");
    }
}

#[cfg(not(feature = "std"))]
fn pin(_core: usize) {}
