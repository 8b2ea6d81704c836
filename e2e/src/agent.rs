//! A node agent that a test starts itself, in a namespace of its own: a lab starts only the nodes that it began with.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::{Lab, program, run};

/// The agent and its namespace; both go with this value.
pub struct Agent {
    child: Child,
    namespace: String,
    log: PathBuf,
}

impl Agent {
    /// Starts the agent of `node` with a platform file, in the namespace that [`Lab::exec`] and [`Lab::namespace`] know by the node's
    /// name.
    ///
    /// # Errors
    /// When the namespace cannot be made or the program cannot be started.
    pub fn start(lab: &Lab, file: &str, node: &str) -> Result<Self> {
        let namespace = lab.namespace(node);
        run(5, &["ip", "netns", "add", &namespace])?.ok()?;
        let log = lab.file().with_file_name(format!("{node}.log"));
        let child = Command::new(program("switch-node")?)
            .args(["run", file, "--name", node, "--netns", &namespace, "--die-with-parent"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .context("starting switch-node")?;
        Ok(Self { child, namespace, log })
    }

    /// What it has logged.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.log)?)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = run(5, &["ip", "netns", "del", &self.namespace]);
    }
}
