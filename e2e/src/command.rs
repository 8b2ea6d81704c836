//! Commands with a bound in time and their output kept.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// How a command ended.
#[derive(Debug)]
pub struct Done {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub out: String,
    /// What it wrote to standard error.
    pub err: String,
}

impl Done {
    /// The output of a command that must have worked.
    ///
    /// # Errors
    /// When its exit code is not 0, with everything it said.
    pub fn ok(self) -> Result<String> {
        ensure!(self.code == Some(0), "exit {:?}\n{}\n{}", self.code, self.out, self.err);
        Ok(self.out)
    }
}

/// Runs a command line under `timeout`, so that no test can wait for ever.
///
/// # Errors
/// When the program cannot be started.
pub fn run(seconds: u32, words: &[&str]) -> Result<Done> {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=2", &seconds.to_string()]).args(words).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("starting {words:?}"))?;
    Ok(Done {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
