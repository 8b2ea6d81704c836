//! The lab's own socket, `run/lab.sock`: orders that need no control node, one JSON line each.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use platform::management::{LabAnswer, LabRequest, Refusal};

use crate::socket_path::bind_stream;

/// Longest request that is read, in octets.
const REQUEST_LEN_MAX: usize = 4096;
/// How long one who has connected may take to say what he wants. The lab does nothing else meanwhile.
const REQUEST_TIME: Duration = Duration::from_millis(200);

/// The listening socket.
pub struct ControlSocket {
    listener: UnixListener,
}

impl ControlSocket {
    /// Listens on `path`, for the owner alone.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let listener = bind_stream(path, 0o600)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener })
    }

    /// Whoever has connected, if anybody has.
    #[must_use]
    pub fn accept(&self) -> Option<Caller> {
        self.listener.accept().ok().map(|(stream, _)| Caller { stream })
    }
}

/// Somebody who has connected, with one request.
pub struct Caller {
    stream: UnixStream,
}

impl Caller {
    /// Reads the request.
    ///
    /// # Errors
    ///
    /// When it does not come at once, is too long, or is none.
    pub fn read_request(&mut self) -> io::Result<LabRequest> {
        self.stream.set_nonblocking(false)?;
        self.stream.set_read_timeout(Some(REQUEST_TIME))?;
        let mut line = Vec::new();
        let mut chunk = [0; 512];
        while !line.contains(&b'\n') && line.len() < REQUEST_LEN_MAX {
            match self.stream.read(&mut chunk)? {
                0 => break,
                n => line.extend_from_slice(&chunk[..n]),
            }
        }
        Ok(serde_json::from_slice(&line)?)
    }

    /// Answers. Whoever asked may have gone; then nobody wants the answer.
    pub fn answer(mut self, answer: &LabAnswer) {
        let mut line = serde_json::to_vec(answer).unwrap_or_default();
        line.push(b'\n');
        let _ = self.stream.set_write_timeout(Some(REQUEST_TIME));
        let _ = self.stream.write_all(&line);
    }
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// An answer that says no.
pub fn refuse(error: impl std::fmt::Display, hint: &str) -> LabAnswer {
    LabAnswer::Refused(Refusal { error: error.to_string(), hint: hint.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};

    fn connected() -> (tempfile::TempDir, ControlSocket, UnixStream) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lab.sock");
        let socket = ControlSocket::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        (dir, socket, client)
    }

    #[test]
    fn a_request_is_read_and_its_answer_comes_back() {
        let (_dir, socket, mut client) = connected();
        client.write_all(b"{\"request\":\"restart\",\"name\":\"cn-a\"}\n").unwrap();
        let mut caller = socket.accept().unwrap();
        assert_eq!(caller.read_request().unwrap(), LabRequest::Restart { name: "cn-a".into() });
        caller.answer(&LabAnswer::Started { pid: 9 });
        let mut answer = String::new();
        BufReader::new(client).read_line(&mut answer).unwrap();
        assert_eq!(serde_json::from_str::<LabAnswer>(&answer).unwrap(), LabAnswer::Started { pid: 9 });
    }

    #[test]
    fn nonsense_is_no_request() {
        let (_dir, socket, mut client) = connected();
        client.write_all(b"restart everything\n").unwrap();
        assert!(socket.accept().unwrap().read_request().is_err());
        assert!(socket.accept().is_none());
    }
}
