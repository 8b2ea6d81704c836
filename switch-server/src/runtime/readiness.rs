//! Telling whoever started this process that it serves: systemd, or a lab by an inherited descriptor.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{SocketAddr, UnixDatagram};

use tracing::warn;

/// Says that the process is ready, once.
#[derive(Debug)]
pub struct Readiness {
    descriptor: Option<OwnedFd>,
}

impl Readiness {
    /// Takes the inherited descriptor, if there is one.
    #[must_use]
    pub fn new(ready_fd: Option<RawFd>) -> Self {
        let open = ready_fd.filter(|&fd| {
            // SAFETY: F_GETFD reads a flag of a descriptor number, and fails for one that is not open.
            fd > 2 && unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0
        });
        if let (Some(descriptor), None) = (ready_fd, open) {
            warn!(descriptor, "the descriptor of --ready-fd is not open");
        }
        // SAFETY: the descriptor was inherited for this purpose alone, and checked to be open; nothing else in
        // this process knows it.
        let descriptor = open.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        Self { descriptor }
    }

    /// Says READY=1.
    pub fn say_ready(&mut self) {
        if let Some(descriptor) = self.descriptor.take()
            && let Err(error) = rustix::io::write(&descriptor, b"READY=1\n")
        {
            warn!(%error, "cannot say that this process is ready");
        }
        notify_systemd("READY=1");
    }

    /// Says STOPPING=1.
    pub fn say_stopping(&self) {
        notify_systemd("STOPPING=1");
    }
}

fn notify_systemd(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = notify(&path, state) {
        warn!(%error, "cannot notify systemd");
    }
}

/// Sends `state` to the datagram socket at `path`; a leading `@` is an abstract name (sd_notify(3)).
fn notify(path: &std::ffi::OsStr, state: &str) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::IntoRawFd;

    #[test]
    fn the_inherited_descriptor_is_told_once_and_closed() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut readiness = Readiness::new(Some(OwnedFd::from(writer).into_raw_fd()));
        readiness.say_ready();
        readiness.say_ready();
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        assert_eq!(said, "READY=1\n");
    }

    #[test]
    fn systemd_is_told_on_its_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        notify(path.as_os_str(), "READY=1").unwrap();
        let mut octets = [0; 16];
        let len = socket.recv(&mut octets).unwrap();
        assert_eq!(&octets[..len], b"READY=1");
    }
}
