//! Namespaces of a lab: network namespaces for the tenants and for the underlay, and without root a user namespace
//! around them.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::thread::{CapabilitySet, LinkNameSpaceType, UnshareFlags};
use switch_node::agent::netlink::Netlink;

use super::files::NameList;
use super::plan::LabPlan;
use crate::failure::{Doing, Failure};

/// Where `ip netns` looks for named namespaces.
const NAMED_DIR: &str = "/run/netns";

/// What to do where the system lets nobody make namespaces.
const USER_NAMESPACE_HINT: &str = "allow them with `sysctl kernel.unprivileged_userns_clone=1`, \
    `sysctl kernel.apparmor_restrict_unprivileged_userns=0` or `sysctl user.max_user_namespaces=10000`, \
    or run this as root";

/// What this process may do with namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// Make them, and give them names that `ip netns` knows.
    Root,
    /// Make them, but not name them: root of a container's user namespace.
    Container,
    /// Neither, unless in a user namespace of its own.
    None,
}

impl Privilege {
    /// Looks at what this process is.
    #[must_use]
    pub fn of_this_process() -> Self {
        let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN;
        let is_root = rustix::process::geteuid().is_root()
            && rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed));
        match (is_root, is_initial_user_namespace()) {
            (true, true) => Self::Root,
            (true, false) => Self::Container,
            (false, _) => Self::None,
        }
    }
}

/// True when this process is in the user namespace that the machine began with.
fn is_initial_user_namespace() -> bool {
    // There every user maps to itself (user_namespaces(7)).
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Moves this process into a user namespace of its own, as root there, with an underlay network namespace that
/// has nothing but loopback. To be called while the process has one thread.
///
/// # Errors
///
/// When the system refuses user namespaces, with the hint that fits.
pub fn enter_own_user_namespace() -> Result<(), Failure> {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    unshare(UnshareFlags::NEWUSER).map_err(|error| {
        Failure::runtime(format_args!("the system refuses a user namespace: {error}"))
            .hint(USER_NAMESPACE_HINT)
    })?;
    // Without this line an unprivileged process may not map its group (user_namespaces(7)).
    fs::write("/proc/self/setgroups", "deny").doing("cannot give up setgroups")?;
    let refused = |error: io::Error| {
        Failure::runtime(format_args!("the system refuses to map a user into a namespace: {error}"))
            .hint(USER_NAMESPACE_HINT)
    };
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).map_err(refused)?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).map_err(refused)?;
    unshare(UnshareFlags::NEWNET).map_err(|error| {
        Failure::runtime(format_args!("the system refuses a network namespace: {error}"))
            .hint(USER_NAMESPACE_HINT)
    })?;
    raise_loopback().doing("cannot raise loopback in the lab's namespace")
}

/// Makes sure that TAP devices can be made, before a child finds out for itself.
///
/// # Errors
///
/// When `/dev/net/tun` is missing or closed to this user.
pub fn check_tun() -> Result<(), Failure> {
    let opened = File::options().read(true).write(true).open("/dev/net/tun");
    let Err(error) = opened else { return Ok(()) };
    let hint = match error.kind() {
        io::ErrorKind::NotFound => {
            "load it with `modprobe tun`, or give the container the device `/dev/net/tun`"
        }
        _ => "let users open it with `chmod 0666 /dev/net/tun`, as most systems do, or run this as root",
    };
    Err(Failure::runtime(format_args!("cannot open /dev/net/tun: {error}")).hint(hint))
}

/// A network namespace. It lives until this is dropped; a named one until [`Namespace::remove`].
pub struct Namespace {
    descriptor: OwnedFd,
    path: PathBuf,
    named: bool,
}

impl Namespace {
    /// Makes a namespace with loopback up that only this process's descriptor keeps alive.
    ///
    /// # Errors
    ///
    /// When the system refuses it.
    pub fn anonymous() -> Result<Self, Failure> {
        let descriptor = OwnedFd::from(new_network_namespace().doing("cannot make a network namespace")?);
        let path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), descriptor.as_raw_fd()));
        Ok(Self { descriptor, path, named: false })
    }

    /// Makes a namespace with loopback up that `ip netns exec NAME` enters.
    ///
    /// # Errors
    ///
    /// When the name is taken or the system refuses it.
    pub fn named(name: &str) -> Result<Self, Failure> {
        share_named_dir().doing(format_args!("cannot prepare {NAMED_DIR}"))?;
        let path = Path::new(NAMED_DIR).join(name);
        let place = File::options().write(true).create_new(true).open(&path);
        if place.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
            return Err(Failure::runtime(format_args!("the namespace {name} exists already"))
                .hint(format_args!("give the platform another name, or remove it: `ip netns del {name}`")));
        }
        place.doing(format_args!("cannot make {}", path.display()))?;
        let made = new_network_namespace().and_then(|made| {
            let source = format!("/proc/self/fd/{}", made.as_raw_fd());
            rustix::mount::mount_bind(source, &path)?;
            Ok(made)
        });
        match made {
            Ok(made) => Ok(Self { descriptor: OwnedFd::from(made), path, named: true }),
            Err(error) => {
                let _ = fs::remove_file(&path);
                Err(Failure::runtime(format_args!("cannot make the namespace {name}: {error}")))
            }
        }
    }

    /// A path that `setns` can be done with while this lives: under `/run/netns`, or a descriptor of this process.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same namespace as agents know it, to run things in.
    ///
    /// # Errors
    ///
    /// When the system has no descriptor left.
    pub fn as_agents(&self) -> Result<switch_node::agent::namespace::Namespace, Failure> {
        let opening = "cannot enter a network namespace of the lab";
        let descriptor = self.descriptor.try_clone().doing(opening)?;
        switch_node::agent::namespace::Namespace::from_descriptor(descriptor, "of the lab").doing(opening)
    }

    /// Speaks route netlink in it. What this gives keeps the namespace alive.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn netlink(&self) -> Result<Netlink, Failure> {
        Netlink::open(&self.as_agents()?).doing("cannot reach a network namespace of the lab")
    }

    /// Removes the name, if it has one. Processes inside keep the namespace until they end.
    pub fn remove(self) {
        if self.named {
            remove_path(&self.path);
        }
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// The namespaces of a lab's stations: its nodes, then the hosts outside, in the order of the plan.
pub struct Namespaces {
    /// The namespaces.
    pub all: Vec<Namespace>,
    names: Option<NameList>,
}

impl Namespaces {
    /// Makes one for each node and host; when one cannot be made, none is left.
    ///
    /// # Errors
    ///
    /// When the system refuses one, or a lab of the same name is running.
    pub fn make(plan: &LabPlan) -> Result<Self, Failure> {
        let names = if plan.named_namespaces { Some(own_names(plan)?) } else { None };
        let mut made = Self { all: Vec::new(), names };
        for station in plan.stations() {
            let namespace = match plan.named_namespaces {
                true => Namespace::named(&plan.namespace_name(station)),
                false => Namespace::anonymous(),
            };
            match namespace {
                Ok(namespace) => made.all.push(namespace),
                Err(failure) => {
                    made.remove();
                    return Err(failure);
                }
            }
        }
        Ok(made)
    }

    /// Removes all of them.
    pub fn remove(self) {
        self.all.into_iter().for_each(Namespace::remove);
        if let Some(names) = self.names {
            names.remove();
        }
    }
}

/// Claims the platform's name on this machine, and removes what a dead lab of that name left behind.
//= spec/lab.md#leftovers
//# A lab MUST remove the namespaces that a dead lab of the same platform name has left behind.
fn own_names(plan: &LabPlan) -> Result<NameList, Failure> {
    let (mut names, stale) = NameList::lock(&plan.name)?;
    for name in &stale {
        remove_named(name);
    }
    let wanted: Vec<String> = plan.stations().map(|station| plan.namespace_name(station)).collect();
    names.write(&wanted)?;
    Ok(names)
}

/// Removes a named namespace that a dead lab left behind; nothing happens when it does not exist.
fn remove_named(name: &str) {
    remove_path(&Path::new(NAMED_DIR).join(name));
}

fn remove_path(path: &Path) {
    // Either call fails when there is nothing to undo, and then there is nothing to do.
    let _ = rustix::mount::unmount(path, UnmountFlags::DETACH);
    let _ = fs::remove_file(path);
}

/// Moves the calling thread, for good, into the network namespace.
///
/// # Errors
///
/// What the system says.
pub fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?)
}

/// Makes the namespace in a thread of its own: the thread that unshares stays inside, so it must end.
fn new_network_namespace() -> io::Result<File> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(UnshareFlags::NEWNET)?;
            raise_loopback()?;
            File::open("/proc/thread-self/ns/net")
        });
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that makes a namespace panicked")))
    })
}

fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: only namespaces are unshared. Descriptors, which other code of this process might count on
    // sharing, stay shared.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// Makes mounts under `/run/netns` appear in other mount namespaces too, as `ip netns add` does.
fn share_named_dir() -> io::Result<()> {
    fs::create_dir_all(NAMED_DIR)?;
    let share =
        || rustix::mount::mount_change(NAMED_DIR, MountPropagationFlags::SHARED | MountPropagationFlags::REC);
    if share().is_err() {
        // Only a mount point has a propagation type: make it one.
        rustix::mount::mount_bind_recursive(NAMED_DIR, NAMED_DIR)?;
        share()?;
    }
    Ok(())
}

/// Sets the flag UP on `lo` in the calling thread's network namespace.
fn raise_loopback() -> io::Result<()> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    // SAFETY: the request is plain data, for which zeroes are a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which `request` is, and writes nothing beyond it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
