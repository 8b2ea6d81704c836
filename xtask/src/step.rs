//! Running commands: with a heading, a time, and the command to repeat when one fails.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// The caller has to do something first: exit status 2 and a hint.
#[derive(Debug)]
pub struct UsageError {
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub hint: String,
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for UsageError {}

/// A command in the project's top folder, shown as one would type it.
pub struct Invocation {
    environment: Vec<(String, OsString)>,
    words: Vec<String>,
}

impl Invocation {
    /// `cargo` with `words`, split at spaces.
    pub fn cargo(words: &str) -> Self {
        Self::program("cargo").args(words.split_whitespace().map(String::from))
    }

    /// A program without arguments.
    pub fn program(name: &str) -> Self {
        Self { environment: Vec::new(), words: vec![name.into()] }
    }

    /// Adds arguments.
    pub fn args(mut self, arguments: impl IntoIterator<Item = String>) -> Self {
        self.words.extend(arguments);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Sets the target folder, shown relative to the project's top folder.
    pub fn target_dir(self, folder: &Path) -> Self {
        let shown = folder.strip_prefix(workspace::root()).unwrap_or(folder);
        self.env("CARGO_TARGET_DIR", shown)
    }

    /// Runs the command with our own input and output.
    ///
    /// # Errors
    /// When it cannot be started or fails.
    pub fn run(&self) -> Result<()> {
        let status = self.command().status().with_context(|| format!("cannot start {}", self.words[0]))?;
        if !status.success() {
            bail!("failed ({status}); to repeat it: {self}");
        }
        Ok(())
    }

    /// Runs the command and returns what it wrote to standard output.
    ///
    /// # Errors
    /// When it cannot be started or fails.
    pub fn output(&self) -> Result<String> {
        let output = self
            .command()
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot start {}", self.words[0]))?;
        if !output.status.success() {
            bail!("failed ({}); to repeat it: {self}", output.status);
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).current_dir(workspace::root());
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        command
    }
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.environment {
            write!(f, "{name}={} ", quoted(&value.to_string_lossy()))?;
        }
        let words: Vec<_> = self.words.iter().map(|w| quoted(w)).collect();
        f.write_str(&words.join(" "))
    }
}

/// A word as a shell would take it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:+@,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Steps that were run, with the time that each took.
#[derive(Default)]
pub struct Steps {
    done: Vec<(String, Duration)>,
}

impl Steps {
    /// Runs a command as a step.
    ///
    /// # Errors
    /// When the command fails: the message names the step and the command to repeat it.
    pub fn command(&mut self, heading: &str, invocation: &Invocation) -> Result<()> {
        self.step(heading, &invocation.to_string(), || invocation.run())
    }

    /// Runs one of our own jobs as a step; `repeat` is what one types for it alone.
    ///
    /// # Errors
    /// When the job fails.
    pub fn step(&mut self, heading: &str, repeat: &str, job: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("\n== {heading}\n   {repeat}");
        let start = Instant::now();
        job().with_context(|| format!("step \"{heading}\" failed; to repeat it: {repeat}"))?;
        let time = start.elapsed();
        println!("   {heading}: ok, {:.1} s", time.as_secs_f64());
        self.done.push((heading.into(), time));
        Ok(())
    }

    /// Prints the time of each step.
    pub fn print_times(&self) {
        println!("\n== times");
        for (heading, time) in &self.done {
            println!("   {:7.1} s  {heading}", time.as_secs_f64());
        }
        let total: Duration = self.done.iter().map(|(_, time)| *time).sum();
        println!("   {:7.1} s  all {} steps passed", total.as_secs_f64(), self.done.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_a_shell_takes_it() {
        let invocation = Invocation::cargo("test -p rvi").env("RUSTFLAGS", "--cfg loom");
        assert_eq!(invocation.to_string(), "RUSTFLAGS='--cfg loom' cargo test -p rvi");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
