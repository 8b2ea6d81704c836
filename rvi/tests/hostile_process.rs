//! A peer that rewrites its own memory and misuses its sockets at random, while an honest process goes on
//! working: the first hostile peer is a thread (many lives of a leg, whose acts follow from a seed), the second a
//! process of its own. Over real sealed memfds and sockets, by the calls that a host makes.
//!
//! `RVI_HOSTILE_SEED=N` repeats a run; how the threads interleave is not repeated with it.
#![cfg(not(loom))]

#[path = "hostile_process/honest.rs"]
mod honest;
#[path = "hostile_process/scribbler.rs"]
mod scribbler;
#[path = "hostile_process/sockets.rs"]
mod sockets;

use std::fs::{File, OpenOptions};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown};
use rvi::host::{
    ControlNodeLeg, Datagram, EstablishedLeg, LegListener, LegSocket, NodeControlLeg, NodeHello, OwnMemory,
    PairLeg, PeerEnd, PrivateKey, PublicKey, SetupError, SetupProgress, accept_peer_memory, random_u64,
};
use rvi::ring::slot::{SlotFields, granules_for, slots_for};
use rvi::ring::{Layout, RingLayout, SLOT_LEN, SlotMeta};
use rvi::{
    Association, AssociationConfig, AssociationEvent, LegDownReason, LegEnd, Part, Region, Scratch,
    ShmConfig, ShmLeg,
};
use vlan_core::limits::MESSAGE_LEN_MAX;
use vlan_core::{Channel, Instant, LegNumber, NodeNumber, PairEpoch, ProcessId};

use honest::{Honest, Seen, Victim};
use scribbler::{Job, Random, Scribbler, scribble_jobs};
use sockets::socket_episode;

/// Writes of the hostile thread in all.
const MUTATIONS: u64 = 2_000_000;
/// Writes of the hostile thread in the life of one leg.
const MUTATIONS_PER_LEG: u64 = 400;
/// One in so many lives also plays an episode on a socket.
const EPISODE_EVERY: u64 = 5;
/// Lives of the hostile process's leg.
const CHILD_LEGS: usize = 40;
/// How bold the hostile peer is in one life: timid ones are listened to for long.
const BOLDNESS: [usize; 8] = [0, 0, 1, 1, 2, 4, 16, 64];
/// How often the hostile peer waits for room in one life of a leg.
const PATIENCE: usize = 40;
/// What one leg and the queues in front of it hold: slots of both rings, parked messages, the control queue.
const UNSENT_MAX: usize = 128 + 64 + 256 + 16_384;
/// What a run may leave behind in the allocator.
const GROWTH_MAX: usize = 16 << 20;
/// Tells the test program that it is the hostile process, and where to connect.
const CHILD_ENV: &str = "RVI_HOSTILE_CHILD";

const LEG: LegNumber = LegNumber(0);
const DATA: Channel = Channel(1);
const SESSION: u16 = 0x1234;
const NODE: NodeNumber = NodeNumber(7);
const HELLO: NodeHello = NodeHello { node: NODE, process: ProcessId(70), leg: LEG, session: 1 };
const END: PeerEnd =
    PeerEnd { peer: NodeNumber(8), peer_process: ProcessId(80), leg: LEG, epoch: PairEpoch(6) };

/// The tests of this file count the process's descriptors and mappings, so one runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn shm_config() -> ShmConfig {
    ShmConfig { slots_log2: 7, arena_len: 1 << 18 }
}

fn association() -> Association {
    let config = AssociationConfig { session: SESSION, ..AssociationConfig::default() };
    let mut association = Association::new(&config);
    association.open_channel(DATA);
    association
}

fn seed() -> u64 {
    let seed =
        std::env::var("RVI_HOSTILE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x5eed_0001);
    eprintln!("RVI_HOSTILE_SEED={seed}");
    seed
}

/// What must come back when a peer is gone.
#[derive(Debug, PartialEq, Eq)]
struct Resources {
    descriptors: usize,
    leg_mappings: usize,
}

impl Resources {
    fn now() -> Self {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        Self {
            descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
            leg_mappings: maps.lines().filter(|line| line.contains("memfd:weft-leg")).count(),
        }
    }

    /// Foreign descriptors are closed by threads of their own, which may need a moment: longer where many programs run.
    fn expect_back(&self) {
        let until = std::time::Instant::now() + BUSY_FOR;
        loop {
            let now = Self::now();
            if now == *self {
                return;
            }
            assert!(
                std::time::Instant::now() < until,
                "descriptors and mappings come back: {now:?} of {self:?}"
            );
            thread::yield_now();
        }
    }
}

fn resident_octets() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap() * 4096
}

/// Memory of the leg towards the hostile thread, made once and formatted anew for each life.
struct SharedMemory {
    own: Region,
    hostile: Region,
    hostile_as_seen: Region,
}

impl SharedMemory {
    fn new() -> Self {
        let hostile = OwnMemory::new(&shm_config()).unwrap();
        let descriptor: OwnedFd = hostile.descriptor().try_clone_to_owned().unwrap();
        let hostile_as_seen = accept_peer_memory(descriptor, shm_config().region_len()).unwrap();
        let own = OwnMemory::new(&shm_config()).unwrap().into_region();
        Self { own, hostile: hostile.into_region(), hostile_as_seen }
    }

    fn new_life(&self) -> ShmLeg {
        let layout = Layout::new(shm_config().slots_log2, shm_config().arena_len).unwrap();
        for region in [&self.own, &self.hostile] {
            region.write(0, &vec![0; layout.control.arena]);
            ShmLeg::format(region, &shm_config());
        }
        ShmLeg::new(self.own.clone(), self.hostile_as_seen.clone()).expect("a fresh leg")
    }
}

#[test]
fn a_hostile_thread_harms_nobody() {
    //= spec/ring.md#impossible-values
    //= type=test
    //# An impossible value in a peer's memory MUST end that leg as a value of the machine, never the process.
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut seen = Seen::default();
    let before = Resources::now();
    let resident_early = live_with_hostile_thread(&mut seen);
    eprintln!("{seen:?}");
    before.expect_back();
    let grown = resident_octets().saturating_sub(resident_early);
    assert!(grown < GROWTH_MAX, "memory grew by {grown} octets");
    assert!(seen.messages > MUTATIONS / 50, "the hostile peer was listened to: {seen:?}");
    assert!(seen.faults.iter().all(|count| *count > 0), "each kind of fault was met: {seen:?}");
    assert!(seen.episodes_up > 0 && seen.violations > 0 && seen.refused_setups > 0, "{seen:?}");
}

/// Runs all lives of the leg; returns the resident memory of the process after the first few.
fn live_with_hostile_thread(seen: &mut Seen) -> usize {
    let mut random = Random(seed());
    let keys = [PrivateKey::generate(), PrivateKey::generate()];
    let (jobs, jobs_taken) = mpsc::channel();
    let (report, done) = mpsc::channel();
    let hostile = thread::spawn(move || scribble_jobs(&jobs_taken, &report));
    let memory = SharedMemory::new();
    let offered = OwnMemory::new(&shm_config()).unwrap();
    let mut honest = Honest::new();
    let mut resident_early = 0;
    for life in 0..MUTATIONS / MUTATIONS_PER_LEG {
        let mut victim = Victim::new();
        victim.association.handle_leg_up(victim.now, LEG, memory.new_life());
        let boldness = BOLDNESS[random.below(BOLDNESS.len())];
        let (region, honest_memory) = (memory.hostile.clone(), memory.own.clone());
        jobs.send(Job { region, honest: honest_memory, seed: random.next(), boldness })
            .expect("the hostile thread lives");
        while matches!(done.try_recv(), Err(TryRecvError::Empty)) {
            victim.step(&mut random, seen);
            if random.one_in(8) {
                honest.step(&mut random);
            }
        }
        while victim.step(&mut random, seen) {}
        victim.end(&mut random, seen);
        if life % EPISODE_EVERY == 0 {
            socket_episode(&mut random, &keys, &offered, seen);
        }
        if life == 200 {
            resident_early = resident_octets();
        }
    }
    drop(jobs);
    hostile.join().expect("the hostile thread only writes to its own memory");
    honest.finish(&mut random);
    resident_early
}

/// The hostile process: a node with a valid key that comes back again and again. It does nothing in an ordinary
/// run of the tests.
#[test]
fn the_hostile_process() {
    let Some(directory) = std::env::var_os(CHILD_ENV).map(PathBuf::from) else { return };
    let key = PrivateKey::load(&directory.join("node")).unwrap();
    let control_node = rvi::host::load_public(&directory.join("cn.pub")).unwrap();
    let path = directory.join("leg");
    let mut random = Random(seed());
    loop {
        // Nobody listens any more once the test is over, however it ended.
        let connected = NodeControlLeg::connect(&path, &key, &control_node, &HELLO, &shm_config());
        let Ok(mut setup) = connected else { return };
        let up = loop {
            match setup.advance() {
                Ok(SetupProgress::Pending) => thread::yield_now(),
                Ok(SetupProgress::Up { leg, shm }) => break Some((leg, shm)),
                Err(_) => break None,
            }
        };
        if let Some((leg, shm)) = up {
            scribble_own_mapping(&mut random, &leg, &shm);
        }
    }
}

/// Finds the writable mapping of this process's leg and scribbles on it through `/proc/self/mem`.
fn scribble_own_mapping(random: &mut Random, leg: &EstablishedLeg, _keep: &ShmLeg) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mapping = |mode: &str| {
        let line = maps.lines().find(|line| line.contains("memfd:weft-leg") && line.contains(mode)).unwrap();
        u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap()
    };
    let (start, honest) = (mapping(" rw-s "), mapping(" r--s "));
    let own = OpenOptions::new().read(true).write(true).open("/proc/self/mem").unwrap();
    let read = |place: usize| {
        let mut word = [0; 4];
        own.read_exact_at(&mut word, honest + place as u64).unwrap();
        u32::from_le_bytes(word)
    };
    let mut write = |place: usize, octets: &[u8]| own.write_all_at(octets, start + place as u64).unwrap();
    let layout = Layout::new(shm_config().slots_log2, shm_config().arena_len).unwrap();
    let mut scribbler = Scribbler {
        boldness: BOLDNESS[random.below(BOLDNESS.len())],
        random: Random(random.next()),
        layout,
        next: [(0, 0); 2],
        patience: PATIENCE,
        write: &mut write,
        read: &read,
    };
    while !leg.is_hung_up() {
        for _ in 0..64 {
            scribbler.mutate();
        }
        let _ = leg.ring_doorbell();
    }
}

/// Waits for the hostile process to connect, and for its leg to come up.
fn take_leg(listener: &LegListener, key: &PrivateKey, known: &PublicKey) -> (EstablishedLeg, ShmLeg) {
    let socket = loop {
        match listener.accept().unwrap() {
            Some(socket) => break socket,
            None => thread::yield_now(),
        }
    };
    let mut setup = ControlNodeLeg::new(socket, ProcessId(1), &shm_config());
    loop {
        match setup.advance(key, &mut |proven| (proven == known).then_some(NODE), &mut |_| Some(1)) {
            Ok(SetupProgress::Pending) => thread::yield_now(),
            Ok(SetupProgress::Up { leg, shm }) => return (leg, shm),
            Err(error) => panic!("the hostile process knows how to set up a leg: {error}"),
        }
    }
}

/// How long a busy machine has in each life of the hostile process to run it at all. A cautious life never does what is found
/// impossible, so this is short; there are lives enough.
const BUSY_FOR: std::time::Duration = std::time::Duration::from_secs(2);

/// Receives from the hostile process until its memory is found impossible, or for `steps` rounds; longer as long as no life
/// has done everything yet.
fn serve(victim: &mut Victim, leg: &mut EstablishedLeg, random: &mut Random, seen: &mut Seen, steps: usize) {
    let faults = seen.faults.iter().sum::<u64>();
    let (start, mut step) = (std::time::Instant::now(), 0);
    while step < steps || !seen.has_everything() && start.elapsed() < BUSY_FOR {
        victim.step(random, seen);
        assert!(matches!(leg.receive(), Datagram::Doorbell | Datagram::Nothing));
        if seen.faults.iter().sum::<u64>() > faults {
            return;
        }
        step += 1;
    }
}

#[test]
fn a_hostile_process_is_survived_and_when_killed_gives_everything_back() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let before = Resources::now();
    let directory = std::env::temp_dir().join(format!("weft-hostile-{:016x}", random_u64()));
    std::fs::create_dir(&directory).unwrap();
    survive_process(&directory);
    std::fs::remove_dir_all(&directory).unwrap();
    before.expect_back();
}

fn survive_process(directory: &Path) {
    let mut random = Random(seed());
    let key = PrivateKey::create(&directory.join("cn")).unwrap();
    let known = PrivateKey::create(&directory.join("node")).unwrap().public();
    let listener = LegListener::bind(&directory.join("leg")).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_hostile_process", "--nocapture"])
        .env(CHILD_ENV, directory)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut honest = Honest::new();
    let mut seen = Seen::default();
    for life in 0..=CHILD_LEGS {
        let (mut leg, shm) = take_leg(&listener, &key, &known);
        assert_eq!((leg.peer, leg.peer_process), (NODE, HELLO.process));
        let mut victim = Victim::new();
        victim.association.handle_leg_up(victim.now, LEG, shm);
        serve(&mut victim, &mut leg, &mut random, &mut seen, 2000);
        (0..100).for_each(|_| honest.step(&mut random));
        if life < CHILD_LEGS {
            victim.end(&mut random, &mut seen);
            continue;
        }
        child.kill().unwrap();
        while !matches!(leg.receive(), Datagram::Closed) {}
        let end = victim.association.handle_leg_gone(victim.now, LEG);
        assert!(matches!(end, LegEnd::Died | LegEnd::Closed), "its state word may say anything");
    }
    child.wait().unwrap();
    eprintln!("{seen:?}");
    assert!(seen.has_everything(), "{seen:?}");
    honest.finish(&mut random);
}
