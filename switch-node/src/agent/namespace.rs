//! The network namespace of a tenant: where the node's interfaces are, while the agent itself stays outside.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::thread::LinkNameSpaceType;

/// Where `ip netns` keeps named namespaces.
const NAMED_DIR: &str = "/run/netns";

/// A network namespace that devices and sockets are made in.
#[derive(Debug)]
pub struct Namespace {
    /// None: the one the process is in.
    descriptor: Option<OwnedFd>,
}

/// A namespace could not be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum NamespaceError {
    /// The path could not be opened.
    Open {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was opened is not a network namespace, or may not be entered.
    Enter {
        /// What was named, in words.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

impl fmt::Display for NamespaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { path, source } => {
                write!(f, "cannot open the namespace {}: {source}", path.display())
            }
            Self::Enter { what, source } => write!(f, "cannot enter the network namespace {what}: {source}"),
        }
    }
}

impl std::error::Error for NamespaceError {}

impl Namespace {
    /// The namespace that the process is in.
    #[must_use]
    pub const fn own() -> Self {
        Self { descriptor: None }
    }

    /// Opens a namespace by the name that `ip netns` knows, or by a path when `name` has a slash.
    ///
    /// # Errors
    /// When it does not exist, is something else, or may not be entered.
    pub fn open(name: &OsStr) -> Result<Self, NamespaceError> {
        let path = path_of(name);
        let file = File::open(&path).map_err(|source| NamespaceError::Open { path: path.clone(), source })?;
        Self::from_descriptor(file.into(), &path.display().to_string())
    }

    /// Takes a descriptor of a namespace; `what` names it in messages.
    ///
    /// # Errors
    /// When it is not one of a network namespace, or may not be entered.
    pub fn from_descriptor(descriptor: OwnedFd, what: &str) -> Result<Self, NamespaceError> {
        let namespace = Self { descriptor: Some(descriptor) };
        match namespace.run(|| Ok(())) {
            Ok(()) => Ok(namespace),
            Err(source) => Err(NamespaceError::Enter { what: what.to_owned(), source }),
        }
    }

    /// Takes the calling thread, and those that it starts, into the namespace for good.
    ///
    /// # Errors
    /// What the system says to entering.
    pub fn enter(&self) -> io::Result<()> {
        let Some(descriptor) = &self.descriptor else { return Ok(()) };
        Ok(rustix::thread::move_into_link_name_space(descriptor.as_fd(), Some(LinkNameSpaceType::Network))?)
    }

    /// Runs `work` inside the namespace and gives its result. Descriptors made there stay bound to it.
    ///
    /// Entering is per thread, so this starts a thread that ends with the work.
    ///
    /// # Errors
    /// What the system says to entering, or what `work` returns.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        if self.descriptor.is_none() {
            return work();
        }
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter()?;
                work()
            });
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
        })
    }
}

/// Keeps an inherited descriptor from reaching programs that this process might start.
///
/// # Errors
/// When the number is not an open descriptor.
pub fn close_on_exec(descriptor: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: F_SETFD takes a number and flags; it changes nothing but the flag.
    let result = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn path_of(name: &OsStr) -> PathBuf {
    let path = Path::new(name);
    if path.components().count() > 1 { path.to_path_buf() } else { Path::new(NAMED_DIR).join(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_where_ip_netns_keeps_them_and_a_path_is_taken_as_it_is() {
        assert_eq!(path_of(OsStr::new("lab-web1")), Path::new("/run/netns/lab-web1"));
        assert_eq!(path_of(OsStr::new("/proc/7/fd/9")), Path::new("/proc/7/fd/9"));
    }

    #[test]
    fn a_missing_namespace_and_an_ordinary_file_are_refused_with_their_path() {
        let missing = Namespace::open(OsStr::new("/no/such/namespace")).unwrap_err();
        assert!(matches!(missing, NamespaceError::Open { .. }), "{missing}");
        let file = Namespace::open(OsStr::new("/proc/self/exe")).unwrap_err();
        assert!(file.to_string().contains("/proc/self/exe"), "{file}");
        assert!(matches!(file, NamespaceError::Enter { .. }), "{file}");
    }
}
