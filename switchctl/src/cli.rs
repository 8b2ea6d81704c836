//! The command line of `switchctl`, and what each command does.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hyper::Method;
use platform::failure::Failure;
use platform::management::{
    ApplyAnswer, ApplyRequest, Binding, Cluster, Counter, Drain, Drop, Fault, FaultDirection, Group,
    LabAnswer, Lan, Node, Rvi, RviDrill, Status, TraceAnswer, TraceRequest, Uplink,
};
use platform::{Management, Platform};
use serde::de::DeserializeOwned;

use crate::capture::{self, CaptureArguments};
use crate::client;
use crate::clusters;
use crate::lab;
use crate::rates;
use crate::show::{self, Show};

const LONG_ABOUT: &str = "\
Reads everything back from a running Weft fabric, and acts on it.

It asks a control node over its management socket, which the platform file names:
  switchctl -f lab.toml status           is it well?
  switchctl -f lab.toml nodes            who is attached, with which addresses?
  switchctl -f lab.toml rvis             which pairs of nodes have a direct way?
  switchctl -f lab.toml drops            what was dropped, where, and why?
  switchctl -f lab.toml trace --lan red --from web1 icmp 10.1.0.2
  switchctl -f lab.toml capture --lan red | tshark -r -
  switchctl apply lab.toml --dry-run     what would a changed file change?

In a lab, three commands need no control node:
  switchctl -f lab.toml exec web1 -- ping -c 3 10.1.0.2
  switchctl -f lab.toml restart cn-a
  switchctl -f lab.toml fabric a down    and up again";

const AFTER_HELP: &str = "\
RVI: reliable virtual interface, the connection over which two nodes, or a node and a control node, exchange
the frames of one virtual LAN.

Exit codes: 0 it worked; 1 it failed while running; 2 the command line or the platform file is wrong.
`exec` ends with the exit code of the command.";

const DROPS_HELP: &str = "\
Four reasons are permitted losses: `expired` (50 ms without any way to go), `egress-full` and `device-full` (a bounded queue or the
receiving device had no room), `peer-gone` (the receiving process died). All others are refusals by a rule.

Examples:
  switchctl -f lab.toml drops --rates
  switchctl -f lab.toml trace --lan red --from web1 FRAME    says why a frame would be dropped";

const TRACE_HELP: &str = "\
FRAME is one of these:
  arp 10.1.0.2          the question who has this address
  icmp 10.1.0.2         a ping to this address, IPv4 or IPv6
  udp 10.1.0.2:53       a datagram to this address and port; `[fd00::2]:53` for IPv6
  tcp 10.1.0.2:80       the first segment of a connection to it
  0200...               the octets of a whole frame in hexadecimal digits, with spaces and colons between them or not
The first four come from the node's own interface and address, and go to the MAC that the address is bound to.

Examples:
  switchctl -f lab.toml trace --lan red --from web1 icmp 10.1.0.2
  switchctl -f lab.toml trace --lan red --from web1 ff:ff:ff:ff:ff:ff 02:00:01:00:00:01 88b6 0000

Exit code 0 says that there is an answer, whether the frame would arrive or not; --json has `delivered`.";

const DRAIN_HELP: &str = "\
Examples:
  switchctl -f lab.toml drain web1              no new connections; the others end by themselves
  switchctl -f lab.toml drain web1 --within 60  after a minute they are given up
  switchctl -f lab.toml clusters                how many are left?
  switchctl -f lab.toml undrain web1";

const FAULT_HELP: &str = "\
SPEC is a list of these, with commas between them:
  loss=5%              so many packets are lost
  burst=0.1%/10%/90%   so many begin a burst, so many in a burst end it, so many in a burst are lost (default: all)
  corrupt=1%           so many have one bit turned over
  duplicate=1%         so many come twice
  reorder=2%/3         so many are overtaken by three others (default: 3)
  delay=2ms            each comes so much later, in order
  jitter=500us         each comes up to so much later than that, in any order

A fault ends with the node's control session, so one that cuts a node off is over after a second.

Examples:
  switchctl -f lab.toml fault all loss=5%,corrupt=1%
  switchctl -f lab.toml fault web1 --fabric a --direction in delay=2ms,jitter=1ms
  switchctl -f lab.toml fault all off";

/// The administrator's tool of Weft, a virtual Ethernet fabric
#[derive(Parser, Debug)]
#[command(name = "switchctl", version, long_about = LONG_ABOUT, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Debug)]
struct Target {
    /// The platform file, which names the management sockets of the control nodes
    #[arg(short = 'f', long = "file", value_name = "FILE", global = true)]
    file: Option<PathBuf>,
    /// The management socket of a control node, in place of a platform file
    #[arg(long, value_name = "PATH", global = true, conflicts_with = "file")]
    socket: Option<PathBuf>,
    /// The control node to ask; default: the first of the platform file that answers
    #[arg(long, value_name = "NAME", global = true, conflicts_with = "socket")]
    control_node: Option<String>,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// The control node at a glance
    Status,
    /// Nodes, whether they are attached, their interfaces and addresses
    Nodes,
    /// Virtual LANs and their members
    Lans,
    /// Direct RVIs between nodes, their legs and counters
    Rvis {
        /// Show what each leg carries a second instead: asks twice, a second apart
        #[arg(long)]
        rates: bool,
    },
    /// IP addresses, the MAC that each is bound to, and where it is
    Bindings,
    /// The LANs' ways outside: what outside sees, the device, what went each way
    Uplinks,
    /// Cluster addresses, their services and servers, health, connections and counters
    Clusters {
        /// Show how many packets and new connections a second there are, too: asks twice, a second apart
        #[arg(long)]
        rates: bool,
    },
    /// Give the cluster servers on a node no new connections; those that there are stay until they end
    ///
    /// A server that drains can be taken away once `switchctl clusters` shows no flows of it. New weights come with `switchctl apply`.
    #[command(after_help = DRAIN_HELP)]
    Drain {
        /// Name of the node
        node: String,
        /// Seconds after which it loses the connections that it still has; never when left out
        #[arg(long, value_name = "SECONDS")]
        within: Option<u32>,
    },
    /// Give the cluster servers on a node new connections again
    Undrain {
        /// Name of the node
        node: String,
    },
    /// Multicast groups, who gets their frames, and how that is known
    Groups,
    /// Frames dropped, by place and reason, with the last example of each
    ///
    /// The example is the last frame that was dropped there for that reason: who sent what to whom, and when. Its headers are
    /// kept, nothing of what they carry; --json has their octets. Reasons for which a message is dropped, not a frame, have none.
    #[command(after_help = DROPS_HELP)]
    Drops {
        /// Show how many frames a second are dropped, too: asks twice, a second apart
        #[arg(long)]
        rates: bool,
    },
    /// Every counter of the control node and of its nodes
    Counters,
    /// Cut or heal the direct RVIs of a pair of nodes, for drills
    #[command(subcommand)]
    Rvi(RviCommand),
    /// Spoil what crosses a node's packet legs, for drills: loss, corruption, delay and the like
    ///
    /// Packet legs are those that go over a network (udp and ether); shared memory has none. What is asked for replaces
    /// what was asked for the same legs and direction before; it ends with `off`, or with the node's control session.
    #[command(after_help = FAULT_HELP)]
    Fault(FaultArguments),
    /// Capture frames of a LAN, a node or an RVI as pcapng, to a file or live to a pipe
    ///
    /// Ends after --count frames, after --seconds, with the signals INT and TERM, or when nobody reads on. Then it prints on
    /// standard error how many frames passed and how many were lost for want of room; the pcapng says so too.
    #[command(after_help = capture::HELP)]
    Capture(CaptureArguments),
    /// Say what would become of a frame and why, decision by decision, without sending it
    ///
    /// Copies of the machines that would carry the frame decide: the sender's driver, the LAN's server and its ARP server, the
    /// receivers' drivers. Each decision is printed with the rule that it follows, a heading in spec/.
    #[command(after_help = TRACE_HELP)]
    Trace {
        /// Name of the LAN
        #[arg(long, value_name = "LAN")]
        lan: String,
        /// Name of the node whose stack sends the frame
        #[arg(long, value_name = "NODE")]
        from: String,
        /// The frame: see below
        #[arg(required = true, value_name = "FRAME")]
        frame: Vec<String>,
    },
    /// Apply a changed platform file while the platform runs
    ///
    /// LANs and members may differ from what is in use, mtu, arp, port-security and multicast of a LAN, and all options of a
    /// member but interface, mac and attach; traffic of others goes on. Anything else is refused by name, and nothing is changed then. Without -f the file itself names the management sockets.
    #[command(after_help = "Example: switchctl apply lab.toml --dry-run")]
    Apply {
        /// The platform file to apply
        #[arg(value_name = "FILE")]
        path: PathBuf,
        /// Only print what would change
        #[arg(long)]
        dry_run: bool,
    },
    /// Take a switch fabric of a running lab down or up: one that has a lab-network
    ///
    /// Down is as if the fabric's switches had lost power: nothing crosses it, and every process's interface on it
    /// loses its carrier. Works while no control node lives.
    #[command(after_help = "Example: switchctl -f lab.toml fabric a down")]
    Fabric {
        /// Name of the fabric
        name: String,
        /// What it is to be
        #[arg(value_enum)]
        state: FabricState,
    },
    /// Run a command in a node's network namespace; the node belongs to a running lab
    ///
    /// Enters the namespace as root of the lab's user namespace when the lab runs without root. Works while no
    /// control node lives, and while the node itself is dead. Ends with the exit code of the command.
    #[command(after_help = "Example: switchctl -f lab.toml exec web1 -- ping -c 3 10.1.0.2")]
    Exec {
        /// Name of the node
        node: String,
        /// The command and its arguments
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Start a dead node or control node of a running lab again, in its place
    ///
    /// For labs that run with --no-restart, and for processes that were fenced.
    Restart {
        /// Name of the node or control node
        name: String,
    },
}

#[derive(Args, Debug)]
struct FaultArguments {
    /// Name of the node, or `all`
    #[arg(value_name = "NODE|all")]
    node: String,
    /// Only the leg through this fabric; all legs that packets cross when left out
    #[arg(long, value_name = "FABRIC")]
    fabric: Option<String>,
    /// Which packets, as the node sees them
    #[arg(long, value_enum, default_value_t = Direction::Both)]
    direction: Direction,
    /// A list such as `loss=5%,delay=2ms`, or `off`
    #[arg(value_name = "SPEC|off")]
    spec: String,
}

/// The word that stands for every node.
const ALL_NODES: &str = "all";

impl FaultArguments {
    fn order(self) -> Fault {
        let node = Some(self.node).filter(|node| node != ALL_NODES);
        Fault { node, fabric: self.fabric, direction: self.direction.into(), spec: self.spec }
    }
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    /// Those that come
    In,
    /// Those that go
    Out,
    /// Either
    Both,
}

impl From<Direction> for FaultDirection {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::In => Self::In,
            Direction::Out => Self::Out,
            Direction::Both => Self::Both,
        }
    }
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum FabricState {
    /// As if its switches had lost power
    Down,
    /// Working
    Up,
}

#[derive(Subcommand, Debug)]
enum RviCommand {
    /// Cut: the pair's traffic goes by the control node until it is healed
    ///
    /// With --fabric only the leg through that fabric is cut; the others go on.
    Cut(Pair),
    /// Heal what was cut: the pair may have direct RVIs again
    Heal(Pair),
}

#[derive(Args, Debug)]
struct Pair {
    /// Name of one node
    a: String,
    /// Name of the other
    b: String,
    /// Only the leg through this fabric
    #[arg(long, value_name = "FABRIC")]
    fabric: Option<String>,
}

/// Reads the command line and does what it says.
///
/// # Errors
///
/// With what is to be printed on standard error, and the exit code.
pub fn run() -> Result<(), Failure> {
    let Cli { target, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => match Failure::from_command_line(&error.render().to_string()) {
            Some(failure) => return Err(failure),
            None => error.exit(),
        },
    };
    match command {
        Command::Status => target.show::<Status>("/v1/status"),
        Command::Nodes => target.show::<Vec<Node>>("/v1/nodes"),
        Command::Lans => target.show::<Vec<Lan>>("/v1/lans"),
        Command::Rvis { rates: false } => target.show::<Vec<Rvi>>("/v1/rvis"),
        Command::Rvis { rates: true } => target.rates(),
        Command::Bindings => target.show::<Vec<Binding>>("/v1/bindings"),
        Command::Uplinks => target.show::<Vec<Uplink>>("/v1/uplinks"),
        Command::Clusters { rates: false } => target.show::<Vec<Cluster>>("/v1/clusters"),
        Command::Clusters { rates: true } => target.cluster_rates(),
        Command::Drain { node, within } => {
            let within_ms = within.map(|seconds| u64::from(seconds) * 1000);
            target.drain(&Drain { node, drains: true, within_ms })
        }
        Command::Undrain { node } => target.drain(&Drain { node, drains: false, within_ms: None }),
        Command::Groups => target.show::<Vec<Group>>("/v1/groups"),
        Command::Drops { rates: false } => target.show::<Vec<Drop>>("/v1/drops"),
        Command::Drops { rates: true } => target.drop_rates(),
        Command::Counters => target.show::<Vec<Counter>>("/v1/counters"),
        Command::Rvi(RviCommand::Cut(pair)) => target.drill("/v1/rvi/cut", "cut", pair),
        Command::Rvi(RviCommand::Heal(pair)) => target.drill("/v1/rvi/heal", "healed", pair),
        Command::Fault(arguments) => target.fault(&arguments.order()),
        Command::Capture(arguments) => arguments.run(&target.sockets()?, target.json),
        Command::Trace { lan, from, frame } => {
            target.trace(&TraceRequest { lan, from, frame: frame.join(" ") })
        }
        Command::Apply { path, dry_run } => target.apply(path, dry_run),
        Command::Fabric { name, state } => target.fabric(&name, state == FabricState::Up),
        Command::Exec { node, command } => Err(lab::exec(target.lab_file("exec")?, &node, &command)),
        Command::Restart { name } => target.restart(&name),
    }
}

impl Target {
    fn show<T: Show + DeserializeOwned>(&self, path: &str) -> Result<(), Failure> {
        let body = client::ask(&self.sockets()?, &Method::GET, path, None)?;
        if self.json {
            return print_json(&body);
        }
        print(&read::<T>(&body)?.show())
    }

    fn rates(&self) -> Result<(), Failure> {
        let sockets = self.sockets()?;
        let ask = || -> Result<(Instant, Vec<Rvi>), Failure> {
            let answer = read(&client::ask(&sockets, &Method::GET, "/v1/rvis", None)?)?;
            Ok((Instant::now(), answer))
        };
        let (first, before) = ask()?;
        thread::sleep(rates::APART);
        let (second, after) = ask()?;
        let rates = rates::rates(&before, &after, second - first);
        if self.json {
            return print_json(&serde_json::to_vec(&rates).map_err(|error| unreadable(&error))?);
        }
        print(&rates.show())
    }

    fn drop_rates(&self) -> Result<(), Failure> {
        let sockets = self.sockets()?;
        let ask = || -> Result<(Instant, Vec<Drop>), Failure> {
            let answer = read(&client::ask(&sockets, &Method::GET, "/v1/drops", None)?)?;
            Ok((Instant::now(), answer))
        };
        let (first, before) = ask()?;
        thread::sleep(rates::APART);
        let (second, mut after) = ask()?;
        rates::add_drop_rates(&before, &mut after, second - first);
        if self.json {
            return print_json(&serde_json::to_vec(&after).map_err(|error| unreadable(&error))?);
        }
        print(&after.show())
    }

    fn cluster_rates(&self) -> Result<(), Failure> {
        let sockets = self.sockets()?;
        let ask = || -> Result<(Instant, Vec<Cluster>), Failure> {
            let answer = read(&client::ask(&sockets, &Method::GET, "/v1/clusters", None)?)?;
            Ok((Instant::now(), answer))
        };
        let (first, before) = ask()?;
        thread::sleep(rates::APART);
        let (second, mut after) = ask()?;
        rates::add_cluster_rates(&before, &mut after, second - first);
        if self.json {
            return print_json(&serde_json::to_vec(&after).map_err(|error| unreadable(&error))?);
        }
        print(&after.show())
    }

    fn drain(&self, order: &Drain) -> Result<(), Failure> {
        let body = serde_json::to_string(order).map_err(|error| unreadable(&error))?;
        let answer = client::ask(&self.sockets()?, &Method::POST, "/v1/drain", Some(body))?;
        if self.json {
            return print_json(&answer);
        }
        print(&clusters::drained(order, &read(&answer)?))
    }

    fn drill(&self, path: &str, verb: &str, pair: Pair) -> Result<(), Failure> {
        let drill = RviDrill { a: pair.a, b: pair.b, fabric: pair.fabric };
        let body = serde_json::to_string(&drill).map_err(|error| unreadable(&error))?;
        let answer = client::ask(&self.sockets()?, &Method::POST, path, Some(body))?;
        if self.json {
            return print_json(&answer);
        }
        print(&show::drill(verb, &drill, &read(&answer)?))
    }

    fn trace(&self, request: &TraceRequest) -> Result<(), Failure> {
        let body = serde_json::to_string(request).map_err(|error| unreadable(&error))?;
        let answer = client::ask(&self.sockets()?, &Method::POST, "/v1/trace", Some(body))?;
        if self.json {
            return print_json(&answer);
        }
        print(&read::<TraceAnswer>(&answer)?.show())
    }

    fn apply(mut self, path: PathBuf, dry_run: bool) -> Result<(), Failure> {
        let wanted = Platform::load(&path).map_err(|error| Failure::from_report(&error.report()))?;
        if self.file.is_none() && self.socket.is_none() {
            self.file = Some(path);
        }
        let request = ApplyRequest { text: wanted.text, dry_run };
        let body = serde_json::to_string(&request).map_err(|error| unreadable(&error))?;
        let answer = client::ask(&self.sockets()?, &Method::POST, "/v1/apply", Some(body))?;
        if self.json {
            return print_json(&answer);
        }
        print(&read::<ApplyAnswer>(&answer)?.show())
    }

    fn fault(&self, fault: &Fault) -> Result<(), Failure> {
        let body = serde_json::to_string(fault).map_err(|error| unreadable(&error))?;
        let answer = client::ask(&self.sockets()?, &Method::POST, "/v1/fault", Some(body))?;
        if self.json {
            return print_json(&answer);
        }
        print(&show::fault(fault, &read(&answer)?))
    }

    fn restart(&self, name: &str) -> Result<(), Failure> {
        let pid = lab::restart(self.lab_file("restart")?, name)?;
        self.print_answer(&LabAnswer::Started { pid }, &format!("{name} runs as process {pid}\n"))
    }

    fn fabric(&self, name: &str, up: bool) -> Result<(), Failure> {
        let processes = lab::set_fabric(self.lab_file("fabric")?, name, up)?;
        let answer = LabAnswer::Fabric { name: name.to_owned(), up, processes };
        let state = if up { "up" } else { "down" };
        self.print_answer(&answer, &format!("fabric {name} is {state}, with {processes} processes on it\n"))
    }

    /// Prints what a lab's supervisor did, for programs or for people.
    fn print_answer(&self, answer: &LabAnswer, text: &str) -> Result<(), Failure> {
        if self.json {
            return print_json(&serde_json::to_vec(answer).map_err(|error| unreadable(&error))?);
        }
        print(text)
    }

    /// The management sockets to try, in order.
    fn sockets(&self) -> Result<Vec<PathBuf>, Failure> {
        if let Some(socket) = &self.socket {
            return Ok(vec![socket.clone()]);
        }
        let Some(file) = &self.file else {
            return Err(Failure::usage("neither a platform file nor a socket is given")
                .hint("add `-f FILE` or `--socket PATH`"));
        };
        let platform = Platform::load(file).map_err(|error| Failure::from_report(&error.report()))?;
        let wanted = |name: &str| self.control_node.as_ref().is_none_or(|wanted| wanted == name);
        let chosen: Vec<_> = platform.control_nodes.iter().filter(|c| wanted(&c.name)).collect();
        if chosen.is_empty() {
            let names: Vec<_> = platform.control_nodes.iter().map(|c| c.name.as_str()).collect();
            let name = self.control_node.as_deref().unwrap_or_default();
            let hint = format!("it has {}", names.join(", "));
            return Err(Failure::usage(format!("{} has no control node {name}", file.display())).hint(hint));
        }
        let sockets: Vec<_> = chosen
            .iter()
            .filter_map(|c| match &c.management {
                Management::Unix(path) => Some(path.clone()),
                Management::Tcp(_) => None,
            })
            .collect();
        if sockets.is_empty() {
            let hint = "give the control node a management socket: management = \"unix:PATH\"";
            return Err(Failure::usage("management over TCP is not built yet").hint(hint));
        }
        Ok(sockets)
    }

    /// The platform file, which a lab's own files are beside. It is not read: a lab goes on when it is being edited.
    fn lab_file(&self, command: &str) -> Result<&PathBuf, Failure> {
        self.file.as_ref().ok_or_else(|| {
            let error = format!("`{command}` needs the platform file of a running lab");
            Failure::usage(error).hint(format!("write `switchctl -f FILE {command} ...`"))
        })
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| unreadable(&error))
}

fn unreadable(error: &serde_json::Error) -> Failure {
    Failure::runtime(format!("cannot read the control node's answer: {error}"))
        .hint("use a switchctl of the same version as the control node")
}

/// Prints what the control node said as it said it, also fields that this program does not know.
fn print_json(body: &[u8]) -> Result<(), Failure> {
    let value: serde_json::Value = read(body)?;
    let text = serde_json::to_string_pretty(&value).map_err(|error| unreadable(&error))?;
    print(&format!("{text}\n"))
}

/// Writes to standard output. That nobody reads on, as after `| head`, is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::runtime(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_may_stand_before_and_behind_the_command() {
        for line in ["switchctl -f p.toml status --json", "switchctl --json status -f p.toml"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert!(cli.target.json && cli.target.file.is_some(), "{line}");
        }
        let both = "switchctl -f p.toml --socket s status";
        assert!(Cli::try_parse_from(both.split(' ')).is_err());
    }

    #[test]
    fn a_fault_is_for_one_node_or_all_and_for_both_directions_unless_said() {
        let order = |line: &str| {
            let cli = Cli::try_parse_from(format!("switchctl -f p.toml fault {line}").split(' ')).unwrap();
            let Command::Fault(arguments) = cli.command else { panic!("not fault") };
            arguments.order()
        };
        let expected = Fault { spec: "loss=5%,delay=2ms".into(), ..Fault::default() };
        assert_eq!(order("all loss=5%,delay=2ms"), expected);
        let expected = Fault {
            node: Some("web1".into()),
            fabric: Some("a".into()),
            direction: FaultDirection::In,
            spec: "off".into(),
        };
        assert_eq!(order("web1 --fabric a --direction in off"), expected);
        for wrong in ["fault", "fault all", "fault all --direction up off", "fabric a", "fabric a off"] {
            assert!(Cli::try_parse_from(format!("switchctl {wrong}").split(' ')).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_fabric_goes_down_and_up() {
        for (word, expected) in [("down", FabricState::Down), ("up", FabricState::Up)] {
            let cli = Cli::try_parse_from(["switchctl", "-f", "p.toml", "fabric", "a", word]).unwrap();
            let Command::Fabric { name, state } = cli.command else { panic!("not fabric") };
            assert_eq!((name.as_str(), state), ("a", expected));
        }
    }

    #[test]
    fn what_follows_the_dashes_belongs_to_the_command() {
        let line = "switchctl -f p.toml exec web1 -- ping --json -f 10.1.0.2";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        assert!(!cli.target.json);
        let Command::Exec { node, command } = cli.command else { panic!("not exec") };
        assert_eq!((node.as_str(), command.len()), ("web1", 4));
        assert!(Cli::try_parse_from("switchctl -f p.toml exec web1".split(' ')).is_err());
    }
}
