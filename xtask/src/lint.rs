//! `cargo xtask lint`: format, clippy and the house rules that a tool can check (STYLE.md).

mod licences;
mod machines;
mod rules;

use std::fmt;
use std::path::PathBuf;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::source::Source;
use crate::step::{Invocation, Steps};
use crate::{timers, wire_table, workspace};

/// One thing that a rule objects to.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, relative to the project's top folder.
    pub path: PathBuf,
    /// The line, from 0.
    pub line: usize,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line + 1, self.message)
    }
}

/// Runs every check; with `own_only` the project's own alone.
///
/// # Errors
/// When a check objects to something.
pub fn run(own_only: bool) -> Result<()> {
    let mut steps = Steps::default();
    steps.step("house rules", "cargo xtask lint --own", own_rules)?;
    if !own_only {
        steps.command("format", &Invocation::cargo("fmt --all --check"))?;
        if workspace::root().join("fuzz/Cargo.toml").exists() {
            steps.command(
                "format of fuzz",
                &Invocation::cargo("fmt --manifest-path fuzz/Cargo.toml --check"),
            )?;
        }
        steps.command(
            "clippy",
            &Invocation::cargo("clippy --quiet --workspace --all-targets -- -D warnings"),
        )?;
        steps.command(
            "clippy of the end-to-end tests",
            &Invocation::cargo("clippy --quiet -p e2e --test e2e -- -D warnings"),
        )?;
        steps.command(
            "clippy without std",
            &Invocation::cargo("clippy --quiet -p rvi -p lan-proxy -p switch-node -p switch-server --no-default-features --lib -- -D warnings"),
        )?;
    }
    steps.print_times();
    Ok(())
}

fn own_rules() -> Result<()> {
    let sources = Source::all()?;
    let mut findings = Vec::new();
    for source in &sources {
        rules::check(source, &mut findings);
        machines::check_source(source, &mut findings);
    }
    findings.extend(rules::check_manifests(workspace::root())?);
    findings.extend(timers::check(workspace::root(), &sources)?);
    findings.extend(wire_table::check(workspace::root(), &sources)?);
    let metadata = metadata("Cargo.toml")?;
    findings.extend(licences::check(&metadata));
    findings.extend(machines::check_dependencies(&metadata));
    if workspace::root().join("fuzz/Cargo.lock").exists() {
        findings.extend(licences::check(&self::metadata("fuzz/Cargo.toml")?));
    }
    rules::print_lengths(&sources);
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings in {} files", findings.len(), sources.len());
    }
    println!("{} files, no finding", sources.len());
    Ok(())
}

/// What cargo says of all packages; fails when the lock file is not up to date.
fn metadata(manifest: &str) -> Result<Value> {
    let text = Invocation::cargo(&format!("metadata --format-version 1 --locked --manifest-path {manifest}"))
        .output()?;
    Ok(serde_json::from_str(&text)?)
}
