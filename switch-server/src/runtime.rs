//! One control node as a process: the machine [`ControlNode`](crate::control_node::ControlNode) on sockets,
//! shared memory and a clock.
//!
//! Two threads. The pump owns the machine and everything that carries frames; the control thread (this one)
//! serves management and metrics, handles signals, and talks to the pump by bounded queues only, so that nothing
//! an administrator does can stall data.

mod arenas;
mod captures;
mod config;
mod devices;
mod legs;
mod link;
mod outside;
mod pump;
mod readiness;
mod refusals;
mod traces;

use std::os::fd::{AsFd, RawFd};
use std::sync::Arc;

use platform::{ControlNode as Entry, Management, Platform};
use rvi::host::packets::PacketSockets;
use rvi::host::{LegListener, random_u64};
use tokio::io::unix::AsyncFd;
use tracing::{error, info, warn};
use vlan_core::{LegNumber, ProcessId};

pub use self::config::{PlatformKeys, apply_changes, node_entries};
pub use self::devices::{DeviceChanges, Devices};
pub use self::link::{
    ApplyOrder, CaptureEvent, CaptureStart, FaultOrder, JudgeOrder, NodeReport, Order, PumpGone, PumpLink,
    TraceStart,
};
pub use self::pump::WaitPolicy;
pub(crate) use self::pump::now;

use self::pump::{Pump, PumpParts};
use self::readiness::Readiness;
use crate::failure::{Doing, Failure};
use crate::management::{self, Applied};
use crate::signals::Signals;
use crate::socket_path::{bind_stream, remove_socket};
use crate::store::{Store, StoreError};

/// How a control node runs, beside what its platform file says.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// An inherited descriptor that is told when it serves.
    pub ready_fd: Option<RawFd>,
    /// What the pump does when nothing is to be done.
    pub wait: WaitPolicy,
}

/// Runs the control node `name` of `platform` until SIGTERM or SIGINT; what `switch-server run` does. SIGHUP applies the
/// platform file again.
///
/// # Errors
///
/// When the name is not in the file, a key or the state directory cannot be used, an address is taken, or the
/// pump ends by itself.
pub fn run(platform: &Platform, name: &str, options: &RunOptions) -> Result<(), Failure> {
    let entry = platform.control_node(name).ok_or_else(|| no_such_control_node(platform, name))?;
    let signals =
        Signals::block(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP]).doing("cannot wait for signals")?;
    raise_descriptor_limit();
    let store = Arc::new(Store::open(&entry.state_dir).map_err(refuse_store)?);
    let process = ProcessId(random_u64());
    let platform = &in_use(platform, &store)?;
    let keys = config::PlatformKeys::load(platform)?;
    let devices = Devices::of(platform, entry);
    let config = config::control_node_config(platform, entry, &store, process, &keys, &devices)?;
    let (epoch, nodes) = (config.epoch, config.nodes.clone());
    let mut opened = devices.open_after(&Devices::default())?;
    opened.modes = devices.modes(config.lans.iter());
    let applied = Applied::new(nodes, devices, &opened);
    let (link, pump_end) = link::pump_link().doing("cannot make an eventfd")?;
    let pump = Pump::new(PumpParts {
        config,
        key: crate::keys::private(&entry.key_file)?,
        listeners: listen(platform, entry)?,
        packets: open_packets(platform, entry)?,
        devices: opened,
        link: pump_end,
        wait: options.wait,
    });
    let pump = pump.doing("cannot start the pump")?;
    let pump = std::thread::Builder::new().name("pump".to_owned()).spawn(move || pump.run());
    let pump = pump.doing("cannot start the pump's thread")?;
    info!(name, epoch, process = %format_args!("{:016x}", process.0), "control node starts");
    let (name_here, store_here) = (entry.name.clone(), Arc::clone(&store));
    let view = management::View::new(platform.clone(), name_here, applied, link, store_here);
    let served = serve(entry, view, &signals, options.ready_fd);
    // The link has gone with `serve`, which is what ends the pump.
    let ended = pump.join().map_err(|_| Failure::runtime("the pump has ended by a fault of its own"));
    drop(store);
    served.and(ended)?;
    info!(name, "control node has ended");
    Ok(())
}

/// The platform as it was applied last, or as the file says.
fn in_use(platform: &Platform, store: &Store) -> Result<Platform, Failure> {
    let text = store.configuration_at_start(&platform.text).map_err(refuse_store)?;
    if text == platform.text {
        return Ok(platform.clone());
    }
    info!(file = %platform.path.display(), "the configuration that was applied last is used, not the file");
    Platform::parse(&text, &platform.path).map_err(|error| {
        Failure::from_report(&error.report()).hint(
            "what was applied last is in the state directory; change the platform file, and it is used again",
        )
    })
}

fn no_such_control_node(platform: &Platform, name: &str) -> Failure {
    let names: Vec<&str> = platform.control_nodes.iter().map(|entry| entry.name.as_str()).collect();
    Failure::usage(format_args!("{} has no control node {name}", platform.path.display()))
        .hint(format_args!("it has: {}", names.join(", ")))
}

fn refuse_store(error: StoreError) -> Failure {
    match &error {
        StoreError::InUse { .. } => {
            Failure::runtime(&error).hint("this control node runs already; end that one first")
        }
        StoreError::NoInterfaceLeft { .. } => Failure::usage(&error).hint("remove memberships of that node"),
        StoreError::MacTaken { .. } => Failure::usage(&error).hint("give the other interface another `mac`"),
        StoreError::CounterExhausted { .. } => {
            Failure::usage(&error).hint("give the control node another `serial`")
        }
        _ => Failure::runtime(&error),
    }
}

/// Listens for legs: one unix socket for each fabric on which the control node offers shared memory.
fn listen(platform: &Platform, entry: &Entry) -> Result<Vec<(LegNumber, LegListener)>, Failure> {
    let mut listeners = Vec::new();
    for fabric in &platform.fabrics {
        let Some(path) = entry.unix_leg(fabric.index) else { continue };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).doing(format_args!("cannot make {}", folder.display()))?;
        }
        let listener = LegListener::bind(path).map_err(|error| {
            Failure::runtime(error)
                .hint("is this control node running already? Change `legs` if another program has the path")
        })?;
        listeners.push((LegNumber(fabric.index.0), listener));
    }
    Ok(listeners)
}

/// Opens the sockets of the control node's packet legs.
fn open_packets(platform: &Platform, entry: &Entry) -> Result<Option<PacketSockets>, Failure> {
    PacketSockets::open(&switch_node::legs::places(platform, &entry.name)).map_err(|error| {
        let hint = error.hint();
        Failure::runtime(error).hint(hint)
    })
}

/// The control thread: management, metrics and signals, until one of them ends it.
fn serve(
    entry: &Entry,
    view: management::View,
    signals: &Signals,
    ready_fd: Option<RawFd>,
) -> Result<(), Failure> {
    let tokio =
        tokio::runtime::Builder::new_current_thread().enable_all().build().doing("cannot start tokio")?;
    let _entered = tokio.enter();
    let view = Arc::new(view);
    let Management::Unix(socket) = &entry.management else {
        return Err(
            Failure::usage("management over TCP is not built yet").hint("use `management = \"unix:PATH\"`")
        );
    };
    let listener = bind_stream(socket, 0o600).doing(format_args!("cannot listen on {}", socket.display()))?;
    let metrics = match entry.metrics {
        Some(address) => Some(
            management::listen_metrics(address).doing(format_args!("cannot serve metrics on {address}"))?,
        ),
        None => None,
    };
    let mut ready = Readiness::new(ready_fd);
    let ended = tokio.block_on(async {
        let api = management::serve(listener, Arc::clone(&view));
        let metrics = management::serve_metrics(metrics, Arc::clone(&view));
        ready.say_ready();
        info!(socket = %socket.display(), "serving");
        tokio::select! {
            result = api => result.doing("the management interface has ended"),
            result = metrics => result.doing("the metrics interface has ended"),
            ended = until_asked_to_end(signals, &view) => ended,
            () = view.pump_gone() => Err(Failure::runtime("the pump has ended by itself")),
        }
    });
    ready.say_stopping();
    if let Err(error) = remove_socket(socket) {
        warn!(%error, "cannot remove the management socket");
    }
    ended
}

/// Reads the platform file again at every SIGHUP, until another signal comes.
async fn until_asked_to_end(signals: &Signals, view: &management::View) -> Result<(), Failure> {
    loop {
        match next_signal(signals).await? {
            libc::SIGHUP => match view.reload().await {
                Ok(answer) => {
                    info!(
                        epoch = answer.epoch,
                        changes = answer.changes.len(),
                        "the platform file is in use"
                    );
                }
                Err(refused) => error!(error = %refused, "the platform file is not in use"),
            },
            signal => {
                info!(signal, "asked to end");
                return Ok(());
            }
        }
    }
}

async fn next_signal(signals: &Signals) -> Result<i32, Failure> {
    // SAFETY: a borrowed descriptor names the same open file for as long as the borrow lasts, and the borrow
    // outlives the registration.
    let readable = unsafe { AsyncFd::register(signals.as_fd()) };
    let readable = readable.doing("cannot wait for signals")?;
    loop {
        let mut guard = readable.readable().await.doing("cannot wait for signals")?;
        match signals.next() {
            Some(signal) => return Ok(signal),
            None => guard.clear_ready(),
        }
    }
}

/// Every leg takes a descriptor: the soft limit of 1024 that shells give is meant for `select`.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "cannot raise the limit of open files");
    }
}
