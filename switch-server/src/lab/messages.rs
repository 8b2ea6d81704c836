//! What the processes of a lab say on standard error, line by line and under their names.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Longest line that is kept together, in octets; a longer one is cut.
const LINE_LEN_MAX: usize = 4096;
/// Octets taken from one process before the others have their turn.
const TAKE_MAX: usize = 16_384;

/// The reading end of one process's standard error.
#[derive(Debug)]
pub struct Messages {
    pipe: OwnedFd,
    line: Vec<u8>,
}

impl Messages {
    /// Reads from `pipe`, which does not block.
    #[must_use]
    pub fn new(pipe: OwnedFd) -> Self {
        Self { pipe, line: Vec::new() }
    }

    /// Hands on what has been said since, in whole lines that begin with `name`. False when nothing more can come.
    pub fn relay(&mut self, name: &str, out: &mut dyn Write) -> bool {
        let mut chunk = [0; LINE_LEN_MAX];
        for _ in 0..TAKE_MAX / LINE_LEN_MAX {
            match rustix::io::read(&self.pipe, &mut chunk[..]) {
                Ok(0) => {
                    self.finish_line(name, out);
                    return false;
                }
                Ok(len) => self.take(&chunk[..len], name, out),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    fn take(&mut self, octets: &[u8], name: &str, out: &mut dyn Write) {
        for &octet in octets {
            match octet {
                b'\n' => self.finish_line(name, out),
                octet => {
                    if self.line.len() >= LINE_LEN_MAX {
                        self.finish_line(name, out);
                    }
                    self.line.push(octet);
                }
            }
        }
    }

    fn finish_line(&mut self, name: &str, out: &mut dyn Write) {
        if !self.line.is_empty() {
            // Whoever read this lab's messages may have gone; it goes on without.
            let _ = writeln!(out, "{name}: {}", String::from_utf8_lossy(&self.line));
            self.line.clear();
        }
    }
}

impl AsFd for Messages {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::PipeFlags;

    #[test]
    fn each_line_is_handed_on_whole_and_under_the_name_of_who_said_it() {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
        let mut messages = Messages::new(reader);
        let mut out = Vec::new();
        rustix::io::write(&writer, b"one\nha").unwrap();
        assert!(messages.relay("web1", &mut out));
        assert_eq!(out, b"web1: one\n");
        rustix::io::write(&writer, b"lf\n\nlast").unwrap();
        drop(writer);
        assert!(!messages.relay("web1", &mut out));
        assert_eq!(String::from_utf8(out).unwrap(), "web1: one\nweb1: half\nweb1: last\n");
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
        let mut messages = Messages::new(reader);
        let mut out = Vec::new();
        rustix::io::write(&writer, &[b'x'; LINE_LEN_MAX + 1]).unwrap();
        assert!(messages.relay("web1", &mut out));
        assert_eq!(out.len(), "web1: \n".len() + LINE_LEN_MAX);
    }
}
