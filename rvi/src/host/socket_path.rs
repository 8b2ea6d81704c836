//! Leg sockets at paths of the file system: a control node listens, a node connects.
//!
//! The kernel takes 107 octets of path. Longer ones go through the open parent directory.

use core::fmt;
use std::ffi::{OsStr, OsString};
use std::format;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::leg_socket::LegSocket;

/// Octets of path that fit in a socket address with the closing zero (unix(7): `sun_path` has 108).
const SOCKET_PATH_LEN_MAX: usize = 107;
/// Connections that may wait for `accept`: more nodes than one host is meant to have.
const BACKLOG: i32 = 128;

/// A socket could not be put at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenError {
    /// Another process listens there.
    InUse(PathBuf),
    /// Something that is not a socket is there.
    NotSocket(PathBuf),
    /// The kernel refused.
    Os {
        /// Where.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path) => write!(f, "another process listens on {}", path.display()),
            Self::NotSocket(path) => write!(f, "{} exists and is not a socket", path.display()),
            Self::Os { path, errno } => write!(f, "listening on {}: {errno}", path.display()),
        }
    }
}

impl core::error::Error for ListenError {}

/// The place of a socket: its directory, held open, and its name there.
#[derive(Debug)]
struct Place {
    directory: OwnedFd,
    name: OsString,
    address: SocketAddrUnix,
}

impl Place {
    fn open(path: &Path) -> Result<Self, Errno> {
        let name = OsString::from(path.file_name().ok_or(Errno::INVAL)?);
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(parent, flags, Mode::empty())?;
        let address = socket_address(path, directory.as_fd(), &name)?;
        Ok(Self { directory, name, address })
    }

    /// The file at this place, if there is one.
    fn stat(&self) -> Option<rustix::fs::Stat> {
        rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW).ok()
    }

    fn remove(&self) {
        // Whether it is gone shows at the next bind.
        let _ = rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty());
    }
}

//= spec/leg-setup.md#socket-paths
//# A leg's socket MUST be reachable at a path of any length whose last component has at most 80 octets.
fn socket_address(path: &Path, directory: BorrowedFd<'_>, name: &OsStr) -> Result<SocketAddrUnix, Errno> {
    if path.as_os_str().as_bytes().len() <= SOCKET_PATH_LEN_MAX {
        return SocketAddrUnix::new(path);
    }
    let mut short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    short.push(name);
    SocketAddrUnix::new(short)
}

fn new_socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

impl LegSocket {
    /// Connects to the process that listens at `path`, without waiting for it.
    ///
    /// # Errors
    ///
    /// `NOENT` or `CONNREFUSED` when nobody listens there, `AGAIN` when too many others wait, `NAMETOOLONG` when
    /// the last component is too long.
    pub fn connect(path: &Path) -> Result<Self, Errno> {
        let place = Place::open(path)?;
        let socket = new_socket()?;
        rustix::net::connect(&socket, &place.address)?;
        Ok(Self::from_own(socket))
    }
}

/// A socket at a path, at which nodes set up legs; its file is removed when this is dropped.
#[derive(Debug)]
pub struct LegListener {
    socket: OwnedFd,
    place: Place,
    /// Device and inode of the file, so that nobody else's is removed.
    file: Option<(u64, u64)>,
}

impl LegListener {
    /// Listens at `path`, in place of what a process that died left there.
    ///
    /// # Errors
    ///
    /// Somebody listens there, something else is there, or the kernel refuses.
    pub fn bind(path: &Path) -> Result<Self, ListenError> {
        let os = |errno| ListenError::Os { path: path.to_path_buf(), errno };
        let place = Place::open(path).map_err(os)?;
        let socket = new_socket().map_err(os)?;
        match rustix::net::bind(&socket, &place.address) {
            Err(Errno::ADDRINUSE) => {
                remove_stale(path, &place)?;
                rustix::net::bind(&socket, &place.address).map_err(os)?;
            }
            bound => bound.map_err(os)?,
        }
        let file = place.stat().map(|stat| (stat.st_dev, stat.st_ino));
        rustix::net::listen(&socket, BACKLOG).map_err(os)?;
        Ok(Self { socket, place, file })
    }

    /// Takes the next connection, if one waits.
    ///
    /// # Errors
    ///
    /// `MFILE`, `NFILE`, `NOMEM`: no descriptors or memory. The connection still waits and the listener stays
    /// readable, so the host must stop listening for readiness until something was closed.
    pub fn accept(&self) -> Result<Option<LegSocket>, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match rustix::net::accept_with(&self.socket, flags) {
            Ok(socket) => Ok(Some(LegSocket::from_own(socket))),
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

//= spec/leg-setup.md#socket-paths
//# A listener MUST replace a socket file that nobody listens on, and MUST NOT replace one that is in use or a
//# file of another kind.
fn remove_stale(path: &Path, place: &Place) -> Result<(), ListenError> {
    let is_socket =
        place.stat().is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket);
    if !is_socket {
        return Err(ListenError::NotSocket(path.to_path_buf()));
    }
    let os = |errno| ListenError::Os { path: path.to_path_buf(), errno };
    let probe = new_socket().map_err(os)?;
    match rustix::net::connect(&probe, &place.address) {
        Err(Errno::CONNREFUSED) => {
            place.remove();
            Ok(())
        }
        Err(Errno::NOENT) => Ok(()),
        // Connected, too many waiting, or a socket of another type: somebody is there.
        _ => Err(ListenError::InUse(path.to_path_buf())),
    }
}

impl Drop for LegListener {
    fn drop(&mut self) {
        if self.file.is_some() && self.place.stat().map(|stat| (stat.st_dev, stat.st_ino)) == self.file {
            self.place.remove();
        }
    }
}

impl AsFd for LegListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::leg_socket::{Received, Room};
    use crate::host::random_u64;

    /// A fresh directory, removed at the end.
    struct Directory(PathBuf);

    impl Directory {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("weft-{:016x}", random_u64()));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn talk(path: &Path) {
        let listener = LegListener::bind(path).unwrap();
        assert!(listener.accept().unwrap().is_none());
        let node = LegSocket::connect(path).unwrap();
        let mut control_node = listener.accept().unwrap().expect("one connection waits");
        node.send(b"hello", None).unwrap();
        let received = control_node.receive(&mut [0; 8], Room::Octets).unwrap();
        assert!(matches!(received, Received::Datagram { len: 5, descriptor: None }));
        drop(listener);
        assert!(!path.exists(), "the file goes with the listener");
    }

    #[test]
    fn a_leg_is_reached_at_short_and_at_very_long_paths() {
        //= spec/leg-setup.md#socket-paths
        //= type=test
        //# A leg's socket MUST be reachable at a path of any length whose last component has at most 80 octets.
        let directory = Directory::new();
        talk(&directory.0.join("short.sock"));
        let mut long = directory.0.clone();
        while long.as_os_str().len() < 600 {
            long.push("a-directory-with-a-name-that-takes-some-room");
        }
        std::fs::create_dir_all(&long).unwrap();
        talk(&long.join("n".repeat(80)));
    }

    #[test]
    fn a_stale_socket_file_is_replaced_and_a_living_one_is_not() {
        //= spec/leg-setup.md#socket-paths
        //= type=test
        //# A listener MUST replace a socket file that nobody listens on, and MUST NOT replace one that is in use or a
        //# file of another kind.
        let directory = Directory::new();
        let path = directory.0.join("leg.sock");
        let mut died = LegListener::bind(&path).unwrap();
        assert_eq!(LegListener::bind(&path).unwrap_err(), ListenError::InUse(path.clone()));
        died.file = None; // as a killed process leaves it
        drop(died);
        assert_eq!(LegSocket::connect(&path).unwrap_err(), Errno::CONNREFUSED);
        talk(&path);
        std::fs::write(&path, "not a socket").unwrap();
        assert_eq!(LegListener::bind(&path).unwrap_err(), ListenError::NotSocket(path.clone()));
    }

    #[test]
    fn a_listener_leaves_the_file_of_its_successor_alone() {
        let directory = Directory::new();
        let path = directory.0.join("leg.sock");
        let first = LegListener::bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let second = LegListener::bind(&path).unwrap();
        drop(first);
        LegSocket::connect(&path).unwrap();
        assert!(second.accept().unwrap().is_some());
    }

    #[test]
    fn a_flood_of_connections_meets_a_bounded_queue() {
        let directory = Directory::new();
        let path = directory.0.join("leg.sock");
        let listener = LegListener::bind(&path).unwrap();
        let mut sockets = std::vec::Vec::new();
        let refused = loop {
            match LegSocket::connect(&path) {
                Ok(socket) => sockets.push(socket),
                Err(errno) => break errno,
            }
        };
        assert_eq!(refused, Errno::AGAIN);
        assert!(listener.accept().unwrap().is_some());
    }
}
