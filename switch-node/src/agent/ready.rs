//! Telling a supervisor that the node is ready: a line on a descriptor, and systemd's notification socket.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Who is told, once.
#[derive(Debug, Default)]
pub struct Readiness {
    descriptor: Option<OwnedFd>,
    notify_socket: Option<OsString>,
}

impl Readiness {
    /// Tells nobody, until told otherwise.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes `ready` and an end of line to `descriptor`, and closes it.
    #[must_use]
    pub fn with_descriptor(mut self, descriptor: OwnedFd) -> Self {
        self.descriptor = Some(descriptor);
        self
    }

    /// Sends `READY=1` to the socket that the environment's `NOTIFY_SOCKET` names (sd_notify(3)), if any.
    #[must_use]
    pub fn with_notify_socket(mut self, socket: Option<OsString>) -> Self {
        self.notify_socket = socket.filter(|socket| !socket.is_empty());
        self
    }

    /// Tells them; a second call tells nobody.
    ///
    /// # Errors
    /// When one of them could not be told; the other has been.
    pub fn announce(&mut self) -> io::Result<()> {
        let line = self.descriptor.take().map_or(Ok(()), |fd| File::from(fd).write_all(b"ready\n"));
        let notice = self.notify_socket.take().map_or(Ok(()), |socket| notify(&socket));
        line.and(notice)
    }
}

fn notify(socket: &OsStr) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    sender.send_to_addr(b"READY=1\n", &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn readiness_is_told_once_to_both() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let name = format!("weft-ready-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let mut readiness = Readiness::new()
            .with_descriptor(writer.into())
            .with_notify_socket(Some(format!("@{name}").into()));
        readiness.announce().unwrap();
        readiness.announce().unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "ready\n");
        let mut octets = [0; 32];
        assert_eq!(socket.recv(&mut octets).unwrap(), 8);
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut octets).is_err(), "one notice only");
    }

    #[test]
    fn a_supervisor_that_is_gone_is_an_error_and_not_a_signal() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert!(Readiness::new().with_descriptor(writer.into()).announce().is_err());
    }
}
