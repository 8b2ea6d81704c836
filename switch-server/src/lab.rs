//! A whole platform on one machine: a process for every control node and node, a network namespace for every
//! node's interfaces, an underlay for each process where fabrics have lab networks, networks outside where LANs have
//! uplinks, and this supervisor, which starts them, starts them again, and cleans up.
//!
//! The processes are this very binary, told apart by their arguments. They are children of the thread that owns
//! the [`Lab`] and die with it, however it ends.

pub mod control;
pub mod files;
mod messages;
pub mod namespace;
pub mod outside;
pub mod plan;
pub mod process;
mod requests;
pub mod underlay;

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use platform::Platform;
use platform::management::{LabFabric, LabFile, LabHost, LabNode, LabProcess};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;

use self::control::ControlSocket;
use self::files::RunDirectory;
use self::namespace::{Namespace, Namespaces, Privilege};
use self::outside::{HostNews, Outside};
pub use self::plan::{LabPlan, plan_of};
use self::process::{Ended, Process, ProcessSpec, Role, describe};
use self::underlay::Underlays;
use crate::cli::say;
use crate::failure::{Doing, Failure};
use crate::keys;
use crate::runtime::WaitPolicy;
use crate::signals::Signals;
use crate::socket_path::remove_socket;

/// How long processes have to end in order before they are killed.
const STOP_TIME: Duration = Duration::from_secs(2);

/// How long a lab waits when nothing is due. Everything that can happen to it wakes it.
const IDLE: Duration = Duration::from_secs(3600);

/// Something that happened in a lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabEvent {
    /// A process was started.
    Started {
        /// Its name.
        name: String,
        /// Its process id.
        pid: u32,
    },
    /// A process says that it is ready.
    Ready {
        /// Its name.
        name: String,
        /// What it is.
        role: Role,
    },
    /// A process ended.
    Ended {
        /// Its name.
        name: String,
        /// How, and whether it is started again.
        ended: Ended,
    },
    /// A process could not be started; it is tried again in a second.
    NotStarted {
        /// Its name.
        name: String,
        /// What the system said.
        error: String,
    },
    /// A host outside has its addresses.
    HostReady {
        /// Its name.
        name: String,
    },
    /// Another station has an address of a host outside, so the host does not.
    AddressTaken {
        /// The host's name.
        name: String,
        /// The address.
        address: IpAddr,
    },
    /// Every node and host outside is ready, for the first time.
    AllReady,
    /// A fabric was taken down or up.
    Fabric {
        /// Its name.
        name: String,
        /// Whether it is up.
        up: bool,
    },
    /// Somebody asked the lab to end.
    Interrupted,
}

/// A running lab, ended by [`Lab::stop`]. However this process ends, the kernel ends its children with it.
pub struct Lab {
    plan: LabPlan,
    processes: Vec<Process>,
    namespaces: Namespaces,
    underlays: Option<Underlays>,
    outside: Outside,
    run: RunDirectory,
    control: ControlSocket,
    signals: Signals,
    events: VecDeque<LabEvent>,
    all_ready: bool,
    changed: bool,
}

impl Lab {
    /// Makes the namespaces and starts every process, control nodes first. To be called from the thread that
    /// will own the lab, while the process has no other.
    ///
    /// # Errors
    ///
    /// When another lab runs in its place, or the system refuses something. Nothing is left behind then.
    pub fn start(plan: LabPlan) -> Result<Self, Failure> {
        namespace::check_tun()?;
        let signals = Signals::block(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGCHLD])
            .doing("cannot wait for signals")?;
        let run = RunDirectory::lock(&plan.folder)?;
        let made = ControlSocket::bind(&run.join("lab.sock"))
            .doing("cannot listen on run/lab.sock")
            .and_then(|control| Ok((control, Surroundings::make(&plan)?)));
        let (control, Surroundings { underlays, namespaces, outside }) = match made {
            Ok(made) => made,
            Err(failure) => {
                run.remove();
                return Err(failure);
            }
        };
        let processes = processes_of(&plan, &namespaces.all, underlays.as_ref());
        let mut lab = Self {
            plan,
            processes,
            namespaces,
            underlays,
            outside,
            run,
            control,
            signals,
            events: VecDeque::new(),
            all_ready: false,
            changed: true,
        };
        let now = Instant::now();
        for index in 0..lab.processes.len() {
            lab.start_process(index, now);
        }
        match lab.write_file() {
            Ok(()) => Ok(lab),
            Err(failure) => {
                lab.stop();
                Err(failure)
            }
        }
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<LabEvent> {
        self.events.pop_front()
    }

    /// Waits until something happens, at most for `timeout`, and deals with it.
    ///
    /// # Errors
    ///
    /// When `run/lab.json` cannot be written, or the kernel does not say which addresses a host outside has.
    pub fn turn(&mut self, timeout: Duration) -> Result<(), Failure> {
        self.wait(timeout);
        let now = Instant::now();
        self.handle_signals();
        self.relay_messages();
        self.handle_ready();
        self.handle_ends(now);
        self.start_due(now);
        self.handle_control(now);
        self.handle_hosts()?;
        self.notice_all_ready();
        if std::mem::take(&mut self.changed) {
            self.write_file()?;
        }
        Ok(())
    }

    /// Kills a process at once, as a crash would. False when there is none of that name alive.
    pub fn kill(&self, name: &str) -> bool {
        let process = self.processes.iter().find(|process| process.name() == name);
        process
            .filter(|process| process.pid().is_some())
            .inspect(|process| process.signal(Signal::KILL))
            .is_some()
    }

    /// True when the process of that name lives and has said that it is ready.
    #[must_use]
    pub fn is_ready(&self, name: &str) -> bool {
        self.processes.iter().any(|process| process.name() == name && process.is_ready())
    }

    /// Starts a dead process again in its place, and gives its process id.
    ///
    /// # Errors
    ///
    /// When there is none of that name, it lives, or it cannot be started.
    pub fn start_again(&mut self, name: &str, now: Instant) -> Result<u32, Failure> {
        let Some(index) = self.processes.iter().position(|process| process.name() == name) else {
            return Err(Failure::runtime(format_args!("the lab has no node or control node {name}")));
        };
        if let Some(pid) = self.processes[index].pid() {
            return Err(Failure::runtime(format_args!("{name} runs already, as process {pid}"))
                .hint(format_args!("kill it first: `kill -9 {pid}`")));
        }
        self.start_process(index, now).ok_or_else(|| {
            Failure::runtime(format_args!("{name} could not be started"))
                .hint("the lab says why where it runs")
        })
    }

    /// The namespace of a node.
    #[must_use]
    pub fn namespace(&self, node: &str) -> Option<BorrowedFd<'_>> {
        let index = self.plan.nodes.iter().position(|name| name == node)?;
        self.namespaces.all.get(index).map(AsFd::as_fd)
    }

    /// Ends every process, in order if they heed it, and removes namespaces, sockets and files.
    pub fn stop(mut self) {
        self.end_processes();
        self.namespaces.remove();
        for socket in &self.plan.sockets {
            let _ = remove_socket(socket);
        }
        self.run.remove();
    }

    fn end_processes(&mut self) {
        // Nodes first: a control node that outlives them sees each one leave.
        for role in [Role::Node, Role::ControlNode] {
            let deadline = Instant::now() + STOP_TIME;
            self.processes.iter().filter(|process| process.role() == role).for_each(|process| {
                process.signal(Signal::TERM);
            });
            while self.any_alive(role) && Instant::now() < deadline {
                self.wait(deadline.saturating_duration_since(Instant::now()));
                self.relay_messages();
                while self.signals.next().is_some() {}
            }
            for process in self.processes.iter_mut().filter(|process| process.role() == role) {
                process.signal(Signal::KILL);
                process.wait();
            }
        }
    }

    fn any_alive(&mut self, role: Role) -> bool {
        let now = Instant::now();
        let mut alive = false;
        for process in self.processes.iter_mut().filter(|process| process.role() == role) {
            process.poll_ended(now, false);
            alive |= process.pid().is_some();
        }
        alive
    }

    fn wait(&self, timeout: Duration) {
        let timeout = self
            .next_start()
            .map_or(timeout, |start| timeout.min(start.saturating_duration_since(Instant::now())));
        let ready = self.processes.iter().filter_map(Process::ready_fd);
        let messages = self.processes.iter().filter_map(Process::messages_fd);
        let mut descriptors: Vec<PollFd<'_>> = [self.signals.as_fd(), self.control.as_fd()]
            .into_iter()
            .chain(ready)
            .chain(messages)
            .chain(self.outside.watched())
            .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN))
            .collect();
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // Woken by whatever it is: the calls after this one look at everything.
        let _ = rustix::event::poll(&mut descriptors, Some(&timeout));
    }

    fn next_start(&self) -> Option<Instant> {
        self.processes.iter().filter_map(Process::start_at).min()
    }

    fn handle_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            if signal != libc::SIGCHLD {
                self.events.push_back(LabEvent::Interrupted);
            }
        }
    }

    fn relay_messages(&mut self) {
        let mut out = io::stderr();
        self.processes.iter_mut().for_each(|process| process.relay_messages(&mut out));
    }

    fn handle_ready(&mut self) {
        for process in &mut self.processes {
            if process.handle_ready_fd() {
                self.events
                    .push_back(LabEvent::Ready { name: process.name().to_owned(), role: process.role() });
            }
        }
    }

    fn handle_hosts(&mut self) -> Result<(), Failure> {
        while let Some((name, news)) = self.outside.poll().doing("cannot look at the hosts outside")? {
            let name = name.to_owned();
            self.events.push_back(match news {
                HostNews::Ready => LabEvent::HostReady { name },
                HostNews::Taken(address) => LabEvent::AddressTaken { name, address },
            });
        }
        Ok(())
    }

    fn handle_ends(&mut self, now: Instant) {
        for process in &mut self.processes {
            if let Some(ended) = process.poll_ended(now, self.plan.restart) {
                self.events.push_back(LabEvent::Ended { name: process.name().to_owned(), ended });
                self.changed = true;
            }
        }
    }

    fn start_due(&mut self, now: Instant) {
        for index in 0..self.processes.len() {
            if self.processes[index].start_at().is_some_and(|start| start <= now) {
                self.start_process(index, now);
            }
        }
    }

    fn start_process(&mut self, index: usize, now: Instant) -> Option<u32> {
        let process = &mut self.processes[index];
        let name = process.name().to_owned();
        self.changed = true;
        match process.start(now) {
            Ok(pid) => {
                self.events.push_back(LabEvent::Started { name, pid });
                Some(pid)
            }
            Err(error) => {
                process.retry_later(now);
                self.events.push_back(LabEvent::NotStarted { name, error: error.to_string() });
                None
            }
        }
    }

    fn notice_all_ready(&mut self) {
        let mut nodes = self.processes.iter().filter(|process| process.role() == Role::Node);
        if !self.all_ready && nodes.all(Process::is_ready) && self.outside.is_ready() {
            self.all_ready = true;
            self.events.push_back(LabEvent::AllReady);
        }
    }
}

impl Lab {
    fn write_file(&self) -> Result<(), Failure> {
        let user_ns = || PathBuf::from(format!("/proc/{}/ns/user", std::process::id()));
        let user_ns = self.plan.own_user_namespace.then(user_ns);
        let pid_of = |name: &str| self.processes.iter().find(|p| p.name() == name).and_then(Process::pid);
        let nodes = self.plan.nodes.iter().zip(&self.namespaces.all).map(|(name, namespace)| LabNode {
            name: name.clone(),
            pid: pid_of(name),
            netns: namespace.path().to_owned(),
        });
        let control_nodes =
            self.plan.control_nodes.iter().map(|name| LabProcess { name: name.clone(), pid: pid_of(name) });
        let fabrics = self.underlays.iter().flat_map(Underlays::fabrics);
        let hosts = self.plan.hosts().zip(&self.namespaces.all[self.plan.nodes.len()..]);
        let hosts = hosts.map(|(host, at)| LabHost { name: host.name.clone(), netns: at.path().to_owned() });
        self.run.write_lab(&LabFile {
            name: self.plan.name.clone(),
            supervisor: std::process::id(),
            user_ns,
            nodes: nodes.collect(),
            control_nodes: control_nodes.collect(),
            fabrics: fabrics.map(|(name, up)| LabFabric { name: name.to_owned(), up }).collect(),
            outside: hosts.collect(),
        })
    }
}

/// The namespaces of a lab, and what is in them before any process is.
struct Surroundings {
    underlays: Option<Underlays>,
    namespaces: Namespaces,
    outside: Outside,
}

impl Surroundings {
    /// Makes them; when something cannot be made, nothing is left.
    fn make(plan: &LabPlan) -> Result<Self, Failure> {
        let underlays = Underlays::make(plan)?;
        let namespaces = Namespaces::make(plan)?;
        let hosts = &namespaces.all[plan.nodes.len()..];
        match Outside::make(plan, underlays.as_ref(), hosts) {
            Ok(outside) => Ok(Self { underlays, namespaces, outside }),
            Err(failure) => {
                namespaces.remove();
                Err(failure)
            }
        }
    }
}

fn processes_of(plan: &LabPlan, namespaces: &[Namespace], underlays: Option<&Underlays>) -> Vec<Process> {
    let process = |(place, name): (usize, &str)| {
        // Control nodes come first, and have no interfaces on the LANs.
        let node = place.checked_sub(plan.control_nodes.len());
        Process::new(ProcessSpec {
            name: name.to_owned(),
            role: if node.is_some() { Role::Node } else { Role::ControlNode },
            file: plan.file.clone(),
            netns: node.and_then(|node| namespaces.get(node)).map(|namespace| namespace.path().to_owned()),
            underlay: underlays.and_then(|underlays| underlays.path(place)).map(Path::to_owned),
            log: plan.logs.as_ref().map(|logs| logs.join(format!("{name}.log"))),
            wait: plan.wait,
        })
    };
    plan.processes().enumerate().map(process).collect()
}

/// Runs a lab of `platform` until it is interrupted; what `switch-server lab` does.
///
/// # Errors
///
/// When keys are missing, or the system refuses something that a lab needs.
pub fn run(platform: &Platform, restart: bool, wait: WaitPolicy) -> Result<(), Failure> {
    keys::check_present(platform)?;
    let privilege = Privilege::of_this_process();
    let plan = LabPlan { wait, ..plan_of(platform, restart, privilege)? };
    if privilege == Privilege::None {
        namespace::enter_own_user_namespace()?;
    }
    let mut lab = Lab::start(plan)?;
    let ended = supervise(&mut lab);
    lab.stop();
    ended
}

/// Says what happens until somebody interrupts.
fn supervise(lab: &mut Lab) -> Result<(), Failure> {
    loop {
        while let Some(event) = lab.poll_event() {
            match event {
                LabEvent::Started { name, pid } => say(format_args!("{name}: started, process {pid}")),
                LabEvent::Ready { name, .. } => say(format_args!("{name}: ready")),
                LabEvent::Ended { name, ended } => {
                    let next = if ended.restarts { "starting it again" } else { "not started again" };
                    say(format_args!("{name}: {}; {next}", describe(ended.status)));
                }
                LabEvent::NotStarted { name, error } => {
                    say(format_args!("{name}: cannot be started: {error}"))
                }
                LabEvent::HostReady { name } => say(format_args!("{name}: ready")),
                LabEvent::AddressTaken { name, address } => {
                    say(format_args!("{name}: {address} is another station's, so the host does not have it"));
                }
                LabEvent::AllReady => say("ready"),
                LabEvent::Fabric { name, up } => {
                    say(format_args!("fabric {name}: {}", if up { "up" } else { "down" }))
                }
                LabEvent::Interrupted => return Ok(()),
            }
        }
        lab.turn(IDLE)?;
    }
}
