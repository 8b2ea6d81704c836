//! Two processes on two cores, a page of memory in which they meet, and what they have used of their cores.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One measurement to make.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Core of the producer, core of the consumer or switch.
    pub cores: [usize; 2],
    pub seconds: u64,
    pub size: usize,
    pub legs: u8,
}

/// What a measurement found.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    pub frames: u64,
    pub elapsed: Duration,
    /// Frames that were sent and did not arrive.
    pub lost: u64,
    /// CPU time that this process and the second one used meanwhile.
    pub cpu: [Duration; 2],
}

impl Figure {
    /// Frames a second.
    pub fn rate(&self) -> f64 {
        self.frames as f64 / self.elapsed.as_secs_f64()
    }
}

/// Reads `0,1`.
pub fn cores(text: &str) -> anyhow::Result<[usize; 2]> {
    let cores: Vec<usize> = text.split(',').map(str::parse).collect::<Result<_, _>>()?;
    <[usize; 2]>::try_from(cores).map_err(|_| anyhow::anyhow!("--cores takes two numbers, as in 0,1"))
}

/// Keeps this process on one core.
pub fn pin(core: usize) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// Counters that both processes see: a shared anonymous page.
pub struct Meeting(&'static [AtomicU64; 16]);

/// Places in the meeting page.
pub const STOP: usize = 1;
pub const COUNT: usize = 2;
pub const READY: usize = 3;
pub const SENT: usize = 8;
/// The second process's id.
const PEER: usize = 4;

impl Meeting {
    pub fn new() -> io::Result<Self> {
        // SAFETY: a new anonymous mapping, nothing else is at that address.
        let page = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                4096,
                rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE,
                rustix::mm::MapFlags::SHARED,
            )
        }?;
        // SAFETY: page-aligned, zeroed, and never unmapped, so valid as atomics for ever.
        Ok(Self(unsafe { &*page.cast::<[AtomicU64; 16]>() }))
    }

    pub fn load(&self, place: usize) -> u64 {
        // ORDERING: pairs with the Release in `store`: what was done before it is seen.
        self.0[place].load(Ordering::Acquire)
    }

    pub fn store(&self, place: usize, value: u64) {
        // ORDERING: pairs with the Acquire in `load`.
        self.0[place].store(value, Ordering::Release);
    }
}

/// Runs `child` in a second process on the second core, and `parent` here on the first. Both get the meeting
/// page; the child must end when it finds STOP set.
pub fn pair<T>(
    run: &Run,
    child: impl FnOnce(&Meeting),
    parent: impl FnOnce(&Meeting) -> T,
) -> anyhow::Result<T> {
    let meeting = Meeting::new()?;
    // SAFETY: this program has one thread, so the child may go on as an ordinary process.
    let pid = unsafe { libc::fork() };
    anyhow::ensure!(pid >= 0, "fork: {}", io::Error::last_os_error());
    if pid == 0 {
        let code = match pin(run.cores[1]) {
            Ok(()) => {
                child(&meeting);
                0
            }
            Err(_) => 1,
        };
        // SAFETY: ends the child without running the parent's destructors.
        unsafe { libc::_exit(code) };
    }
    meeting.store(PEER, pid as u64);
    pin(run.cores[0])?;
    let result = parent(&meeting);
    meeting.store(STOP, 1);
    let mut status = 0;
    // SAFETY: waits for our own child; `status` outlives the call.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    anyhow::ensure!(waited == pid && status == 0, "the second process failed (status {status})");
    Ok(result)
}

/// Measures how a counter grows: waits a quarter of a second, then counts for the run's time while `work` is
/// called over and over. `work` returns the counter.
pub fn count(run: &Run, meeting: &Meeting, mut work: impl FnMut() -> u64) -> Figure {
    let warm = Instant::now() + Duration::from_millis(250);
    while Instant::now() < warm {
        for _ in 0..64 {
            work();
        }
    }
    let cpu = || [std::process::id(), meeting.load(PEER) as u32].map(cpu_time);
    let (cpu_before, before, start) = (cpu(), work(), Instant::now());
    let end = start + Duration::from_secs(run.seconds);
    loop {
        let mut after = 0;
        for _ in 0..64 {
            after = work();
        }
        if Instant::now() >= end {
            let (elapsed, cpu_after) = (start.elapsed(), cpu());
            let cpu = std::array::from_fn(|of| cpu_after[of].saturating_sub(cpu_before[of]));
            return Figure { frames: after - before, elapsed, lost: 0, cpu };
        }
    }
}

/// CPU time that this process has used: what others do on its core does not count.
pub fn own_cpu_time() -> Duration {
    cpu_time(std::process::id())
}

/// CPU time that a process has used, in user mode and in the kernel; zero if there is no such process.
fn cpu_time(process: u32) -> Duration {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `clock` outlives the call.
    let found = unsafe { libc::clock_getcpuclockid(process as libc::pid_t, &raw mut clock) };
    // SAFETY: `time` outlives the call.
    if found != 0 || unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Duration::ZERO;
    }
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
