//! Asks the demo's control node what it sees: one HTTP request a connection over its management socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use platform::management::{Rvi, RviDrill, Status};
use serde::de::DeserializeOwned;

use crate::socket_path::with_short_path;

/// How long an answer may take. The control node answers in milliseconds or is dead.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// Longest answer that is read, in octets.
const ANSWER_LEN_MAX: u64 = 1 << 20;

/// The management interface of one control node.
#[derive(Debug)]
pub struct ManagementClient {
    socket: PathBuf,
}

impl ManagementClient {
    /// One that asks at the unix socket at `socket`.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// The control node at a glance.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn status(&self) -> io::Result<Status> {
        self.ask("GET /v1/status", "")
    }

    /// Every direct RVI.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn rvis(&self) -> io::Result<Vec<Rvi>> {
        self.ask("GET /v1/rvis", "")
    }

    /// Cuts the direct RVIs of a pair, or its leg through one fabric.
    ///
    /// # Errors
    ///
    /// When it does not answer or refuses.
    pub fn cut(&self, drill: &RviDrill) -> io::Result<()> {
        self.order("POST /v1/rvi/cut", drill)
    }

    /// Lets what was cut come back.
    ///
    /// # Errors
    ///
    /// When it does not answer or refuses.
    pub fn heal(&self, drill: &RviDrill) -> io::Result<()> {
        self.order("POST /v1/rvi/heal", drill)
    }

    fn order(&self, what: &str, drill: &RviDrill) -> io::Result<()> {
        self.ask::<serde_json::Value>(what, &serde_json::to_string(drill)?).map(drop)
    }

    fn ask<T: DeserializeOwned>(&self, what: &str, body: &str) -> io::Result<T> {
        let mut stream = with_short_path(&self.socket, |path| UnixStream::connect(path))?;
        stream.set_read_timeout(Some(ANSWER_TIME))?;
        stream.set_write_timeout(Some(ANSWER_TIME))?;
        write!(
            stream,
            "{what} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = Vec::new();
        stream.take(ANSWER_LEN_MAX).read_to_end(&mut answer)?;
        let body = body_of(&answer)?;
        Ok(serde_json::from_slice(body)?)
    }
}

/// The body of an answer whose status is 200. The server states its length and closes, so what follows the
/// headers is all of it.
fn body_of(answer: &[u8]) -> io::Result<&[u8]> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.ok_or_else(|| io::Error::other("the control node closed without an answer"))?;
    let body = &answer[end + 4..];
    if answer.starts_with(b"HTTP/1.1 200 ") {
        return Ok(body);
    }
    Err(io::Error::other(format!("the control node refused: {}", String::from_utf8_lossy(body))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_of_a_good_answer_is_found_and_a_refusal_is_an_error() {
        assert_eq!(body_of(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]").unwrap(), b"[]");
        let refused = body_of(b"HTTP/1.1 404 Not Found\r\n\r\nno such node").unwrap_err();
        assert!(refused.to_string().contains("no such node"));
        assert!(body_of(b"HTTP/1.1 200 OK\r\n").is_err());
    }
}
