//! The command line of `switch-server`.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use platform::Platform;
use tracing_subscriber::EnvFilter;

use crate::failure::{Exit, Failure};
use crate::runtime::{self, RunOptions, WaitPolicy};
use crate::{demo, keys, lab};

const ABOUT: &str = "The control node of Weft, a virtual Ethernet fabric";

const LONG_ABOUT: &str = "\
The control node of Weft, a virtual Ethernet fabric in user space.

Nodes get virtual Ethernet interfaces on virtual LANs; control nodes admit them, resolve addresses, copy
broadcasts and grant pairs of nodes a direct way. Everything is described in one platform file.

First steps:
  switch-server demo               see it work, without root and without any file
  switch-server keys lab.toml      make the keys that a platform file names
  switch-server lab lab.toml       run a whole platform on this machine
  switch-server run lab.toml --name cn-a    run one control node of it";

const AFTER_HELP: &str = "\
Exit codes: 0 it worked; 1 it failed while running; 2 the command line or the platform file is wrong.
Messages go to standard error as `error: what` and `hint: what to do`.";

#[derive(Parser, Debug)]
#[command(name = "switch-server", version, about = ABOUT, long_about = LONG_ABOUT, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Show the main job: a built-in platform, numbered traffic, and everything killed that can be killed
    ///
    /// Starts one control node and three nodes as real processes, with real IP stacks in network namespaces,
    /// sends numbered datagrams between all pairs over IPv4 and IPv6, and under that load kills the control
    /// node, a leg, a direct connection and a node. Takes about half a minute, needs no root and leaves nothing
    /// behind. Exits with 0 only if no direct frame between nodes that lived was lost, duplicated or reordered.
    Demo,
    /// Run a whole platform on this machine, each node's interfaces in a namespace of their own
    ///
    /// Prints `ready` alone on a line when every node is up, stays until interrupted, and then leaves nothing
    /// behind. As root the namespaces are called PLATFORM-NODE, so `ip netns exec lab-web1 ping 10.1.0.2`
    /// works; without root `switchctl -f FILE exec web1 -- ping 10.1.0.2` does.
    Lab(LabArguments),
    /// Run one control node
    ///
    /// Says READY=1 to systemd when it serves. SIGTERM and SIGINT end it in order. State is kept in the state
    /// directory of the platform file.
    Run(RunArguments),
    /// Check a platform file: every mistake with line, column and what to do
    Check(FileArgument),
    /// Make the keys that a platform file names and that are missing
    ///
    /// A private key is made readable to its owner alone, its public half stands beside it as FILE.pub. A key
    /// that exists is never changed.
    Keys(FileArgument),
}

#[derive(Args, Debug)]
struct FileArgument {
    /// The platform file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Args, Debug)]
struct LabArguments {
    /// The platform file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Leave processes dead that die; `switchctl restart NAME` starts one again
    #[arg(long)]
    no_restart: bool,
    /// What the processes do when there is nothing to do
    #[arg(long, value_enum, default_value_t = Wait::Interrupt)]
    wait: Wait,
}

#[derive(Args, Debug)]
struct RunArguments {
    /// The platform file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The control node's name in it
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Write `READY=1` to this inherited descriptor when it serves
    #[arg(long, value_name = "FD")]
    ready_fd: Option<RawFd>,
    /// What to do when there is nothing to do
    #[arg(long, value_enum, default_value_t = Wait::Interrupt)]
    wait: Wait,
    /// Which events to log on standard error: a level (error, warn, info, debug), or a filter such as
    /// `info,switch_server=debug`
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
    /// How to write them
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Wait {
    /// Look again for a moment, then sleep until a doorbell rings
    Interrupt,
    /// Never sleep: takes a whole core
    Poll,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum LogFormat {
    /// A line for people
    Text,
    /// A JSON object on each line
    Json,
}

impl From<Wait> for WaitPolicy {
    fn from(wait: Wait) -> Self {
        match wait {
            Wait::Interrupt => Self::Interrupt,
            Wait::Poll => Self::Poll,
        }
    }
}

/// Runs the command line `arguments`, program name first, and gives the exit code.
pub fn main_from(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return refuse_command_line(&error),
    };
    match run(cli.command) {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            failure.print();
            failure.exit.into()
        }
    }
}

/// Help and version go to standard output and are no failure; anything else is wrong usage.
fn refuse_command_line(error: &clap::Error) -> ExitCode {
    if let Some(failure) = Failure::from_command_line(&error.render().to_string()) {
        failure.print();
        return failure.exit.into();
    }
    // Standard output may be closed, which is no reason to say more.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Demo => demo::run(),
        Command::Lab(arguments) => {
            lab::run(&load_built(&arguments.file)?, !arguments.no_restart, arguments.wait.into())
        }
        Command::Run(arguments) => {
            start_log(&arguments.log, arguments.log_format)?;
            let platform = load_built(&arguments.file)?;
            let options = RunOptions { ready_fd: arguments.ready_fd, wait: arguments.wait.into() };
            runtime::run(&platform, &arguments.name, &options)
        }
        Command::Check(arguments) => check(&load(&arguments.file)?),
        Command::Keys(arguments) => make_keys(&load(&arguments.file)?),
    }
}

/// Reads and checks a platform file.
fn load(file: &Path) -> Result<Platform, Failure> {
    Platform::load(file).map_err(|error| Failure::from_report(&error.report()))
}

/// The same, and refuses what is not built yet.
fn load_built(file: &Path) -> Result<Platform, Failure> {
    let platform = load(file)?;
    let not_built = platform.not_built_yet();
    if not_built.is_empty() {
        return Ok(platform);
    }
    let lines = not_built.iter().map(|missing| {
        format!("error: {}:{}: {}: not built yet", file.display(), missing.position, missing.what)
    });
    let report = lines.collect::<Vec<_>>().join("\n");
    Err(Failure::from_report(&report).hint("leave it out; `switch-server check` accepts it already"))
}

fn check(platform: &Platform) -> Result<(), Failure> {
    for missing in platform.not_built_yet() {
        eprintln!(
            "warning: {}:{}: {}: not built yet",
            platform.path.display(),
            missing.position,
            missing.what
        );
    }
    say(format_args!(
        "{}: ok: {} control node(s), {} node(s), {} LAN(s), {} fabric(s)",
        platform.path.display(),
        platform.control_nodes.len(),
        platform.nodes.len(),
        platform.lans.len(),
        platform.fabrics.len()
    ));
    Ok(())
}

fn make_keys(platform: &Platform) -> Result<(), Failure> {
    let made = keys::make_missing(platform)?;
    for path in &made {
        say(format_args!("made {}", path.display()));
    }
    if made.is_empty() {
        say("nothing to do: every key exists");
    }
    Ok(())
}

/// Prints a line on standard output; a reader that has gone is nobody's failure.
pub(crate) fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Starts the log on standard error.
fn start_log(filter: &str, format: LogFormat) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::usage(format_args!("--log {filter}: {error}"))
            .hint("give a level: error, warn, info or debug")
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false);
    // A second log in one process, as in tests, leaves the first in place.
    let _ = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn exit_of(arguments: &[&str]) -> ExitCode {
        main_from(std::iter::once("switch-server").chain(arguments.iter().copied()).map(OsString::from))
    }

    fn is(code: ExitCode, exit: Exit) -> bool {
        // An ExitCode has no comparison of its own.
        format!("{code:?}") == format!("{:?}", ExitCode::from(exit))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_usage_ends_with_2_and_help_with_0() {
        assert!(is(exit_of(&["fly"]), Exit::Usage));
        assert!(is(exit_of(&["run", "lab.toml"]), Exit::Usage));
        assert!(is(exit_of(&["--help"]), Exit::Ok));
    }

    #[test]
    fn a_platform_file_that_is_not_there_ends_with_2() {
        assert!(is(exit_of(&["check", "/nonexistent/lab.toml"]), Exit::Usage));
    }
}
