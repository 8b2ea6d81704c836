//! One process of a lab: started from this very binary, told apart by its arguments, and started again when it
//! dies.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal};

use super::messages::Messages;
use super::namespace;
use crate::failure::Exit;
use crate::runtime::WaitPolicy;
use crate::signals;

/// Starts within [`CRASH_LOOP_WINDOW`] after which a process is started again only once a second.
const CRASH_LOOP_STARTS: usize = 5;
/// The span in which starts are counted.
const CRASH_LOOP_WINDOW: Duration = Duration::from_secs(10);
/// How long a process waits that dies again and again.
const CRASH_LOOP_PAUSE: Duration = Duration::from_secs(1);

/// What a process of a lab is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `switch-server run FILE --name NAME`.
    ControlNode,
    /// `switch-node run FILE --name NAME`.
    Node,
}

/// What to start.
#[derive(Clone, Debug)]
pub struct ProcessSpec {
    /// Its name in the platform file.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// The platform file.
    pub file: PathBuf,
    /// The namespace that a node's interfaces go to.
    pub netns: Option<PathBuf>,
    /// The network namespace that the process itself runs in; the supervisor's own when absent.
    pub underlay: Option<PathBuf>,
    /// Where its messages go; line by line to the lab's own standard error when absent.
    pub log: Option<PathBuf>,
    /// What it does when it has nothing to do.
    pub wait: WaitPolicy,
}

impl ProcessSpec {
    fn arguments(&self, ready_fd: i32) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            vec!["run".into(), self.file.clone().into(), "--name".into(), self.name.clone().into()];
        if let Some(netns) = &self.netns {
            arguments.push("--netns".into());
            arguments.push(netns.into());
        }
        if self.wait == WaitPolicy::Poll {
            arguments.extend(["--wait".into(), "poll".into()]);
        }
        arguments.push("--ready-fd".into());
        arguments.push(ready_fd.to_string().into());
        arguments
    }

    fn program_name(&self) -> &'static str {
        match self.role {
            Role::ControlNode => "switch-server",
            Role::Node => "switch-node",
        }
    }
}

/// How a process ended, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// True when it will be started again by itself.
    pub restarts: bool,
}

/// A process of a lab.
pub struct Process {
    spec: ProcessSpec,
    child: Option<Child>,
    ready_pipe: Option<OwnedFd>,
    messages: Option<Messages>,
    is_ready: bool,
    start_at: Option<Instant>,
    starts: VecDeque<Instant>,
}

impl Process {
    /// A process that has not been started.
    #[must_use]
    pub fn new(spec: ProcessSpec) -> Self {
        let starts = VecDeque::with_capacity(CRASH_LOOP_STARTS + 1);
        Self { spec, child: None, ready_pipe: None, messages: None, is_ready: false, start_at: None, starts }
    }

    /// Its name in the platform file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What it is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.spec.role
    }

    /// Its process id while it lives.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// True when this life has said that it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// The descriptor that becomes readable when the process is ready or gives up; none once it has.
    #[must_use]
    pub fn ready_fd(&self) -> Option<BorrowedFd<'_>> {
        self.ready_pipe.as_ref().map(AsFd::as_fd)
    }

    /// When it is to be started again, if it waits for that.
    #[must_use]
    pub fn start_at(&self) -> Option<Instant> {
        self.start_at
    }

    /// Starts it and gives its process id. Only to be called from the thread that will go on living: the child
    /// gets SIGKILL when that thread ends.
    ///
    /// # Errors
    ///
    /// What the system says.
    ///
    /// # Panics
    ///
    /// When it lives already.
    pub fn start(&mut self, now: Instant) -> io::Result<u32> {
        assert!(self.child.is_none(), "a living process is not started again");
        let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0(self.spec.program_name()).args(self.spec.arguments(theirs.as_raw_fd()));
        command.stdin(Stdio::null());
        let messages = self.direct_messages(&mut command)?;
        // A group of its own: a terminal's interrupt reaches the lab alone, which then ends its children in order.
        command.process_group(0);
        tie_to_parent(&mut command, theirs.as_raw_fd());
        if let Some(underlay) = &self.spec.underlay {
            enter_before_exec(&mut command, File::open(underlay)?);
        }
        let child = command.spawn()?;
        let pid = child.id();
        self.child = Some(child);
        self.ready_pipe = Some(ours);
        self.messages = messages;
        self.is_ready = false;
        self.start_at = None;
        self.starts.push_back(now);
        if self.starts.len() > CRASH_LOOP_STARTS {
            self.starts.pop_front();
        }
        Ok(pid)
    }

    /// Sends what the process will say to its log, or to a pipe whose other end is returned.
    fn direct_messages(&self, command: &mut Command) -> io::Result<Option<Messages>> {
        if let Some(log) = &self.spec.log {
            let log = File::options().create(true).append(true).open(log)?;
            command.stdout(log.try_clone()?).stderr(log);
            return Ok(None);
        }
        // The reading end alone does not block: a process that says much waits until it has been read.
        let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        command.stdout(theirs.try_clone()?).stderr(theirs);
        Ok(Some(Messages::new(ours)))
    }

    /// The descriptor that becomes readable when the process has said something.
    #[must_use]
    pub fn messages_fd(&self) -> Option<BorrowedFd<'_>> {
        self.messages.as_ref().map(AsFd::as_fd)
    }

    /// Hands on what the process has said.
    pub fn relay_messages(&mut self, out: &mut dyn Write) {
        if let Some(messages) = &mut self.messages
            && !messages.relay(&self.spec.name, out)
        {
            self.messages = None;
        }
    }

    /// Reads the ready pipe; true when the process has just become ready.
    pub fn handle_ready_fd(&mut self) -> bool {
        let Some(pipe) = &self.ready_pipe else { return false };
        let mut octets = [0; 64];
        match rustix::io::read(pipe, &mut octets[..]) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => false,
            Ok(1..) => {
                self.ready_pipe = None;
                self.is_ready = true;
                true
            }
            Ok(_) | Err(_) => {
                self.ready_pipe = None;
                false
            }
        }
    }

    /// Looks whether the process has ended, and decides whether it is started again.
    pub fn poll_ended(&mut self, now: Instant, restart: bool) -> Option<Ended> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        // What it wrote on the pipe last is read before the pipe is forgotten.
        self.handle_ready_fd();
        self.child = None;
        self.ready_pipe = None;
        self.is_ready = false;
        let restarts = restart && may_help(status);
        if restarts {
            self.start_at = Some(self.earliest_start(now));
        }
        Some(Ended { status, restarts })
    }

    /// After a start that the system refused: it is tried again in a second.
    pub fn retry_later(&mut self, now: Instant) {
        self.start_at = Some(now + CRASH_LOOP_PAUSE);
    }

    fn earliest_start(&self, now: Instant) -> Instant {
        let recent = self.starts.iter().filter(|&&start| now.duration_since(start) < CRASH_LOOP_WINDOW);
        if recent.count() < CRASH_LOOP_STARTS { now } else { now + CRASH_LOOP_PAUSE }
    }

    /// Sends it a signal, if it lives. Until it is waited for, its process id cannot become another's.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.as_ref().map(Pid::from_child) {
            // It may have ended a moment ago, which the next look finds out.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
        self.relay_messages(&mut io::stderr());
        self.is_ready = false;
        self.ready_pipe = None;
        self.start_at = None;
    }
}

//= spec/lab.md#processes
//# A process of a lab MUST be killed by the kernel when the supervisor ends, however that ends.
/// Makes the child die with this thread, forget this process's signal mask, and inherit `inherited`.
fn tie_to_parent(command: &mut Command, inherited: i32) {
    let parent = rustix::process::getpid();
    let before_exec = move || {
        signals::unblock_all();
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() != Some(parent) {
            // The parent died between the fork and the line above.
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        // SAFETY: fcntl takes a descriptor number and flags; the number is the pipe end that the parent keeps open
        // until after the spawn.
        if unsafe { libc::fcntl(inherited, libc::F_SETFD, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls only; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(before_exec) };
}

/// Makes the child begin in this network namespace.
fn enter_before_exec(command: &mut Command, namespace: File) {
    let before_exec = move || namespace::enter(namespace.as_fd());
    // SAFETY: between fork and exec the closure makes one system call; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(before_exec) };
}

/// True when starting a process again that ended like this can help.
//= spec/lab.md#restarts
//# A lab MUST start a process again that dies, unless it was told not to or the process ended with exit code 2.
fn may_help(status: ExitStatus) -> bool {
    status.code() != Some(Exit::Usage as i32)
}

/// Says how a process ended, for people.
#[must_use]
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(libc::SIGKILL)) => "was killed (SIGKILL)".to_owned(),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ProcessSpec {
        ProcessSpec {
            name: "web1".into(),
            role: Role::Node,
            file: "/etc/weft.toml".into(),
            netns: Some("/run/netns/lab-web1".into()),
            underlay: None,
            log: None,
            wait: WaitPolicy::Interrupt,
        }
    }

    #[test]
    fn a_node_is_told_its_file_name_namespace_and_ready_descriptor() {
        let words = |wait: WaitPolicy| {
            let arguments = ProcessSpec { wait, ..spec() }.arguments(7);
            arguments.join(std::ffi::OsStr::new(" ")).into_string().unwrap()
        };
        let expected = "run /etc/weft.toml --name web1 --netns /run/netns/lab-web1 --ready-fd 7";
        assert_eq!(words(WaitPolicy::Interrupt), expected);
        assert_eq!(words(WaitPolicy::Poll), expected.replace("--ready-fd", "--wait poll --ready-fd"));
    }

    #[test]
    fn a_process_that_dies_again_and_again_is_started_once_a_second() {
        let mut process = Process::new(spec());
        let now = Instant::now();
        assert_eq!(process.earliest_start(now), now);
        process.starts.extend(std::iter::repeat_n(now, CRASH_LOOP_STARTS));
        assert_eq!(process.earliest_start(now), now + CRASH_LOOP_PAUSE);
        assert_eq!(process.earliest_start(now + CRASH_LOOP_WINDOW), now + CRASH_LOOP_WINDOW);
    }

    #[test]
    fn a_process_is_started_again_unless_it_ended_with_exit_code_2() {
        //= spec/lab.md#restarts
        //= type=test
        //# A lab MUST start a process again that dies, unless it was told not to or the process ended with exit
        //# code 2.
        assert!(may_help(ExitStatus::from_raw(libc::SIGKILL)));
        assert!(may_help(ExitStatus::from_raw(1 << 8)));
        assert!(may_help(ExitStatus::from_raw(0)));
        assert!(!may_help(ExitStatus::from_raw(2 << 8)));
    }

    #[test]
    fn a_process_dies_with_its_supervisor() {
        //= spec/lab.md#processes
        //= type=test
        //# A process of a lab MUST be killed by the kernel when the supervisor ends, however that ends.
        const PART: &str = "WEFT_LAB_TEST_SUPERVISOR";
        if std::env::var_os(PART).is_some() {
            play_supervisor();
        }
        let mut supervisor = Command::new("/proc/self/exe")
            .args(["--exact", "lab::process::tests::a_process_dies_with_its_supervisor", "--nocapture"])
            .env(PART, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = std::io::BufReader::new(supervisor.stdout.take().unwrap());
        let mut lines = std::io::BufRead::lines(output).map(Result::unwrap);
        let said = lines.find_map(|line| line.split_once("child ").map(|(_, pid)| pid.to_owned())).unwrap();
        let child = Pid::from_raw(said.trim().parse().unwrap()).unwrap();
        let watched = rustix::process::pidfd_open(child, rustix::process::PidfdFlags::empty()).unwrap();
        supervisor.kill().unwrap();
        supervisor.wait().unwrap();
        // Readable when the process has ended; a process that lives on makes this test wait for ever.
        let mut ended = [rustix::event::PollFd::new(&watched, rustix::event::PollFlags::IN)];
        assert_eq!(rustix::event::poll(&mut ended, None).unwrap(), 1);
    }

    /// Starts a sleeper tied to this process, says its process id, and waits to be killed.
    fn play_supervisor() -> ! {
        let mut command = Command::new("/bin/sleep");
        command.arg("600");
        let inherited = std::fs::File::open("/dev/null").unwrap();
        tie_to_parent(&mut command, inherited.as_raw_fd());
        println!("child {}", command.spawn().unwrap().id());
        loop {
            std::thread::park();
        }
    }

    #[test]
    fn the_end_of_a_process_is_said_in_words() {
        assert_eq!(describe(ExitStatus::from_raw(2 << 8)), "ended with exit code 2");
        assert_eq!(describe(ExitStatus::from_raw(libc::SIGKILL)), "was killed (SIGKILL)");
    }
}
