//! Captures under way, and what tshark reads in them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::command::{Done, run};
use crate::lab::{Lab, program};

/// `switchctl capture` as a child.
pub struct Capture(Child);

impl Capture {
    /// Starts it; it ends within 60 s whatever happens. Standard output goes where `out` says.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(lab: &Lab, words: &[&str], out: Stdio) -> Result<Self> {
        let mut command = Command::new("timeout");
        command.args(["--foreground", "--kill-after=2", "60"]).arg(program("switchctl")?);
        command.arg("-f").arg(lab.file()).arg("capture").args(words);
        Ok(Self(command.stdin(Stdio::null()).stdout(out).stderr(Stdio::piped()).spawn()?))
    }

    /// True when it has ended by itself.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }

    /// Asks it to end.
    ///
    /// # Errors
    /// When it is not there any more.
    pub fn interrupt(&self) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.0.id())?).context("pid 0")?;
        Ok(kill_process(pid, Signal::INT)?)
    }

    /// What it wrote and how it ended, which must be well.
    ///
    /// # Errors
    /// When it did not end well.
    pub fn finish(self) -> Result<(Vec<u8>, String)> {
        let output = self.0.wait_with_output()?;
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{}: {err}", output.status);
        Ok((output.stdout, err))
    }
}

/// The dissector.
#[must_use]
pub fn dissector() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/wireshark/weft.lua")
}

/// Runs tshark with the dissector on a file.
///
/// # Errors
/// When it cannot be started.
pub fn tshark(file: &Path, words: &[&str]) -> Result<Done> {
    let script = format!("lua_script:{}", dissector().display());
    let file = file.to_string_lossy();
    run(30, &[&["tshark", "-n", "-X", &script, "-r", &*file], words].concat())
}

/// The values of these fields in each packet that `filter` shows.
///
/// # Errors
/// When tshark fails.
pub fn fields(file: &Path, filter: &str, names: &[&str]) -> Result<Vec<Vec<String>>> {
    let names: Vec<&str> = names.iter().flat_map(|name| ["-e", name]).collect();
    let words = [&["-Y", filter, "-T", "fields", "-E", "occurrence=f"], &names[..]].concat();
    let text = tshark(file, &words)?.ok()?;
    Ok(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
}
