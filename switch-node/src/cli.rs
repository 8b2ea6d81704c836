//! The command line of `switch-node`.

use std::ffi::OsString;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use platform::Platform;
use platform::failure::{Exit, Failure};
use rvi::host::{KeyError, PrivateKey, PublicKey};
use tracing::info;
use tracing_subscriber::EnvFilter;
use vlan_core::{FabricIndex, LegNumber};

use crate::agent::namespace::{Namespace, NamespaceError, close_on_exec};
use crate::agent::signals::Signals;
use crate::agent::{Agent, AgentConfig, AgentError, ControlNodeTarget, End, Readiness, WaitPolicy};
use crate::legs;

/// Serves one node of a Weft platform.
#[derive(Debug, Parser)]
#[command(name = "switch-node", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Give a node its virtual interfaces, and serve them until ended.
    ///
    /// Each LAN that the node is a member of appears as a network interface, with its MAC, MTU, addresses and
    /// gateways, as its control node says. A control node that is not there is waited for. SIGTERM and SIGINT end it
    /// in order: its peers lose nothing.
    #[command(after_help = EXIT_CODES)]
    Run(Run),
}

const EXIT_CODES: &str = "\
Exit codes: 0 when a signal asked it to end; 1 when it fails while running; 2 when the command line or the platform file is wrong, or when a newer
process serves this node.";

#[derive(Debug, Args)]
struct Run {
    /// The platform file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Which node of the platform file to serve.
    #[arg(long, value_name = "NODE")]
    name: String,
    /// Network namespace for the interfaces: a name that `ip netns` knows, or a path. Default: the own one.
    #[arg(long, value_name = "NAME|PATH")]
    netns: Option<OsString>,
    /// The same as an inherited descriptor.
    #[arg(long, value_name = "FD", conflicts_with = "netns", value_parser = clap::value_parser!(RawFd).range(3..))]
    netns_fd: Option<RawFd>,
    /// What to do when there is no work.
    #[arg(long, value_enum, default_value_t = Wait::Interrupt)]
    wait: Wait,
    /// Which events to log on standard error: a level (error, warn, info, debug), or a filter such as
    /// `info,switch_node=debug`.
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
    /// How to write them.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Write `ready` to this inherited descriptor when every interface is up and all its addresses are past
    /// duplicate-address detection and registered. A socket in `NOTIFY_SOCKET` is told too.
    #[arg(long, value_name = "FD", value_parser = clap::value_parser!(RawFd).range(3..))]
    ready_fd: Option<RawFd>,
    /// End when the process that started this one ends.
    #[arg(long)]
    die_with_parent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wait {
    /// Spin briefly, then sleep: idle costs nothing.
    Interrupt,
    /// Never sleep: takes a whole core.
    Poll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object on each line.
    Json,
}

/// Runs `switch-node` with these arguments, the program's name first; the result is the process's exit code.
///
/// Errors are printed on standard error as `error: what` and `hint: what to do`.
pub fn main_from(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            if let Some(failure) = Failure::from_command_line(&error.render().to_string()) {
                failure.print();
                return failure.exit.into();
            }
            // It goes to standard output for --help, to standard error otherwise; neither being there, nothing
            // is left to be done.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    let Command::Run(run) = cli.command;
    match run.execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            failure.exit.into()
        }
    }
}

impl Run {
    fn execute(self) -> Result<(), Failure> {
        if self.die_with_parent {
            die_with_parent()?;
        }
        self.start_log()?;
        let platform = Platform::load(&self.file).map_err(|error| Failure::from_report(&error.report()))?;
        refuse_not_built(&platform)?;
        let config = self.agent_config(&platform)?;
        raise_descriptor_limit();
        info!(node = self.name, number = %config.number, platform = platform.name, "starting");
        let hint = "look at the line above, and at the limits of this system";
        let mut agent = Agent::new(config).map_err(|error| {
            let hint = match &error {
                AgentError::PacketLeg(error) => error.hint(),
                _ => "run this as root or with CAP_NET_ADMIN in the namespace",
            };
            Failure::runtime(error).hint(hint)
        })?;
        match agent.run().map_err(|error| Failure::runtime(error).hint(hint))? {
            End::Left => Ok(()),
            End::Fenced => Err(Failure::usage(format_args!("a newer process serves node {}", self.name)).hint("run one switch-node for each node; this one has been replaced and must not be started again")),
        }
    }

    fn start_log(&self) -> Result<(), Failure> {
        let filter = EnvFilter::try_new(&self.log).map_err(|error| {
            Failure::usage(format_args!("--log {}: {error}", self.log)).hint("give a level such as `info`")
        })?;
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        let log = log.with_target(false);
        let started = match self.log_format {
            LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
            LogFormat::Json => log.json().try_init(),
        };
        // A program that hosts this one may have its own log; events then go there.
        drop(started);
        Ok(())
    }

    fn agent_config(&self, platform: &Platform) -> Result<AgentConfig, Failure> {
        let node = platform.node(&self.name).ok_or_else(|| {
            let names: Vec<&str> = platform.nodes.iter().map(|node| node.name.as_str()).collect();
            Failure::usage(format_args!("{} has no node {}", self.file.display(), self.name))
                .hint(format_args!("its nodes are: {}", names.join(", ")))
        })?;
        let key = PrivateKey::load(&node.key_file).map_err(|error| self.key_failure(&error))?;
        let control_nodes = platform.control_nodes.iter().map(|control_node| {
            let public_key = rvi::host::load_public(&control_node.public_key_file());
            let public_key = public_key.map_err(|error| self.key_failure(&error))?;
            Ok(target(platform, control_node, public_key, node))
        });
        let control_nodes = control_nodes.collect::<Result<Vec<_>, Failure>>()?;
        Ok(AgentConfig {
            number: node.number,
            cabinet: platform.cabinet,
            key,
            control_nodes,
            packet_legs: legs::places(platform, &self.name),
            namespace: self.namespace()?,
            wait: match self.wait {
                Wait::Interrupt => WaitPolicy::Interrupt,
                Wait::Poll => WaitPolicy::Poll,
            },
            readiness: self.readiness()?,
            signals: Some(signals()?),
        })
    }

    fn key_failure(&self, error: &KeyError) -> Failure {
        let hint = format!("make missing keys with `switch-server keys {}`", self.file.display());
        Failure::usage(error).hint(hint)
    }

    fn namespace(&self) -> Result<Namespace, Failure> {
        let opened = match (&self.netns, self.netns_fd) {
            (Some(name), _) => Namespace::open(name),
            (None, Some(number)) => {
                let what = format!("of descriptor {number}");
                Namespace::from_descriptor(inherited("--netns-fd", number)?, &what)
            }
            (None, None) => return Ok(Namespace::own()),
        };
        opened.map_err(|error| {
            let (exit, hint) = match &error {
                NamespaceError::Open { .. } => {
                    (Exit::Usage, "make it with `ip netns add NAME`, or correct --netns")
                }
                NamespaceError::Enter { .. } => {
                    (Exit::Runtime, "run this as root or with CAP_SYS_ADMIN there")
                }
            };
            Failure { exit, ..Failure::usage(error).hint(hint) }
        })
    }

    fn readiness(&self) -> Result<Readiness, Failure> {
        let readiness = Readiness::new().with_notify_socket(std::env::var_os("NOTIFY_SOCKET"));
        match self.ready_fd {
            Some(number) => Ok(readiness.with_descriptor(inherited("--ready-fd", number)?)),
            None => Ok(readiness),
        }
    }
}

/// How a node reaches a control node.
//= spec/control-packets.md#kinds-of-legs
//# A node MUST reach a control node by packets only when they share no leg of shared memory.
fn target(
    platform: &Platform,
    control_node: &platform::ControlNode,
    public_key: PublicKey,
    node: &platform::Node,
) -> ControlNodeTarget {
    let unix = unix_legs(platform, control_node, node);
    let packet_legs = if unix.is_empty() { legs::towards(platform, control_node, node) } else { Vec::new() };
    ControlNodeTarget { name: control_node.name.clone(), public_key, legs: unix, packet_legs }
}

/// The legs of shared memory that both ends list, where both are on one host.
fn unix_legs(
    platform: &Platform,
    control_node: &platform::ControlNode,
    node: &platform::Node,
) -> Vec<(LegNumber, PathBuf)> {
    if control_node.host != node.host {
        return Vec::new();
    }
    let shared = |fabric: FabricIndex| -> Option<&Path> {
        control_node.unix_leg(fabric).filter(|_| node.has_unix_leg(fabric))
    };
    let leg = |fabric: FabricIndex| Some((LegNumber(fabric.0), shared(fabric)?.to_path_buf()));
    platform.fabrics.iter().filter_map(|fabric| leg(fabric.index)).collect()
}

fn refuse_not_built(platform: &Platform) -> Result<(), Failure> {
    let text: String = platform
        .not_built_yet()
        .iter()
        .map(|part| {
            let place = format_args!("{}:{}", platform.path.display(), part.position);
            let hint = "take it out: `switch-server check` accepts it, running it does not";
            format!("error: {place}: {} is not built yet\nhint: {hint}\n", part.what)
        })
        .collect();
    if text.is_empty() { Ok(()) } else { Err(Failure::from_report(&text)) }
}

/// Takes a descriptor that the starting process left open for this one.
fn inherited(option: &str, number: RawFd) -> Result<OwnedFd, Failure> {
    close_on_exec(&number).map_err(|error| {
        Failure::usage(format_args!("{option} {number}: {error}"))
            .hint("give the number of a descriptor that is open when switch-node starts")
    })?;
    // SAFETY: it is open, as just seen, and above the standard three; each number is given on the command line for
    // this one purpose, and nothing in this process has opened descriptors that it could be.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn signals() -> Result<Signals, Failure> {
    Signals::block(&[libc::SIGINT, libc::SIGTERM]).map_err(|error| {
        let what = format_args!("cannot wait for signals: {error}");
        Failure::runtime(what).hint("look at the limits of this system")
    })
}

fn die_with_parent() -> Result<(), Failure> {
    let parent = rustix::process::getppid();
    let asked = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let hint = "start it without --die-with-parent";
    asked.map_err(|error| Failure::runtime(format_args!("--die-with-parent: {error}")).hint(hint))?;
    if rustix::process::getppid() != parent {
        let error = "the process that started this one has ended already";
        return Err(Failure::runtime(error).hint("nothing is left to serve for"));
    }
    Ok(())
}

/// Each leg takes a descriptor, each interface one: the soft limit is lower than a node may need.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Refused, the limit stays as it is and a leg too many fails by itself.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_control_node_is_reached_by_memory_on_its_host_and_by_packets_from_others() {
        //= spec/control-packets.md#kinds-of-legs
        //= type=test
        //# A node MUST reach a control node by packets only when they share no leg of shared memory.
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/two-hosts.toml");
        let platform = Platform::load(&file).unwrap_or_else(|error| panic!("{}", error.report()));
        let reach = |name: &str| {
            let node = platform.node(name).unwrap();
            target(&platform, &platform.control_nodes[0], PublicKey::default(), node)
        };
        let near = reach("web1");
        assert_eq!((near.legs.len(), near.packet_legs.len()), (2, 0));
        let far = reach("web2");
        assert!(far.legs.is_empty());
        let addresses = far.packet_legs.iter().map(|leg| leg.address.to_string());
        assert_eq!(addresses.collect::<Vec<_>>(), ["172.31.1.1:7401", "[fd31:2::1]:7401"]);
        let keys = far.packet_legs.iter().map(|leg| leg.fabric_key);
        assert!(keys.eq(platform.fabrics.iter().map(|fabric| platform.fabric_key(fabric.index))));
    }

    #[test]
    fn a_wrong_command_line_is_refused_with_exit_code_2() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        for wrong in [
            "switch-node",
            "switch-node run",
            "switch-node run lab.toml",
            "switch-node run lab.toml --name web1 --wait never",
            "switch-node run lab.toml --name web1 --netns a --netns-fd 5",
            "switch-node run lab.toml --name web1 --ready-fd 1",
        ] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
        parse("switch-node run lab.toml --name web1 --netns lab-web1 --ready-fd 7 --die-with-parent")
            .unwrap();
    }
}
