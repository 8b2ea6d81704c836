//! tcpdump at a node's interface.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ChildStdout};

use anyhow::{Context, Result, ensure};

use crate::{Done, Lab, run};

/// A capture that has begun: every packet after [`Tcpdump::start`] is in it.
pub struct Tcpdump {
    child: Child,
    out: BufReader<ChildStdout>,
    err: BufReader<ChildStderr>,
}

impl Tcpdump {
    /// Starts tcpdump with `options` in a node's namespace, for `seconds` at the most, and waits until it listens.
    ///
    /// It says so when its filter is in place. Its socket is there some milliseconds before that, and what comes in
    /// between is not captured.
    ///
    /// # Errors
    /// When it ends before it listens, with what it said.
    pub fn start(lab: &Lab, node: &str, seconds: u32, options: &[&str]) -> Result<Self> {
        let mut child = lab.spawn(node, seconds, &[&["tcpdump", "-n"], options].concat())?;
        let out = BufReader::new(child.stdout.take().context("no output")?);
        let mut err = BufReader::new(child.stderr.take().context("no error output")?);
        let mut said = String::new();
        while !said.contains("listening on") {
            ensure!(err.read_line(&mut said)? > 0, "tcpdump at {node} ended: {said}");
        }
        Ok(Self { child, out, err })
    }

    /// The next line that it prints; none when it has ended. Needs `-l` and, for each packet at once, `--immediate-mode`.
    ///
    /// # Errors
    /// When its output cannot be read.
    pub fn line(&mut self) -> Result<Option<String>> {
        let mut line = String::new();
        let octets = self.out.read_line(&mut line)?;
        Ok((octets > 0).then(|| line.trim_end().to_owned()))
    }

    /// Ends it, and gives what it printed since the last line and what it says of its packets.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub fn end(mut self) -> Result<Done> {
        run(5, &["kill", "-INT", &self.child.id().to_string()])?.ok()?;
        let (mut out, mut err) = (String::new(), String::new());
        self.out.read_to_string(&mut out)?;
        self.err.read_to_string(&mut err)?;
        Ok(Done { code: self.child.wait()?.code(), out, err })
    }
}
