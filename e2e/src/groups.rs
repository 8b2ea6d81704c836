//! Multicast groups, joined with a stock program.

use std::fs;
use std::path::PathBuf;
use std::process::Child;

use anyhow::Result;

use crate::{Lab, run};

/// The port that listeners listen on.
pub const PORT: u16 = 5004;

/// A socat that has joined a group in a namespace and writes what it gets to a file.
pub struct Listener {
    socat: Child,
    file: PathBuf,
}

impl Listener {
    /// Joins a group on an interface.
    ///
    /// # Errors
    /// When socat cannot be started.
    pub fn join(lab: &Lab, namespace: &str, interface: &str, group: &str) -> Result<Self> {
        let file = lab.file().with_file_name(format!("{namespace}-{}.txt", group.replace(':', "-")));
        let receive = match group.contains(':') {
            true => format!("UDP6-RECV:{PORT},ipv6only,ipv6-join-group=[{group}]:{interface}"),
            false => format!("UDP4-RECV:{PORT},ip-add-membership={group}:0.0.0.0:{interface}"),
        };
        let to = format!("OPEN:{},creat,append", file.display());
        let socat = lab.spawn(namespace, 60, &["socat", "-u", &receive, &to])?;
        Ok(Self { socat, file })
    }

    /// The lines that have come.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        fs::read_to_string(&self.file).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Leaves the group, and gives the lines that have come.
    ///
    /// # Errors
    /// When socat cannot be ended.
    pub fn leave(mut self) -> Result<Vec<String>> {
        run(5, &["kill", "-TERM", &self.socat.id().to_string()])?.ok()?;
        self.socat.wait()?;
        Ok(self.lines())
    }
}
