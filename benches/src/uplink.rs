//! From inside to outside: a node's frames by its control RVI to the control node, through the LAN's uplink to a device. One core
//! runs the node, the other the control node. Counted are the frames that the kernel has received at the other end of the device.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use lan_proxy::Mode;
use lan_proxy::nic::{Driver, Nic, Sent};
use switch_node::Accept;
use switch_server::control_node::{DeviceNumber, DeviceState, UplinkConfig};
use vlan_core::wire::frame::Vnet;
use vlan_core::{Instant, MacAddress};

use crate::frames::{Sink, Source};
use crate::process::{self, Figure, Run, STOP};
use crate::world::{VIF, World, mac};

const BATCH: usize = 32;
const DEVICE: DeviceNumber = DeviceNumber(0);
/// The MAC that outside sees.
const SYSTEM: MacAddress = MacAddress([2, 0, 1, 0, 0, 0x77]);
/// A station outside, which need not be there.
const OUTSIDER: MacAddress = MacAddress([0x52, 0, 0, 0, 0, 1]);
/// Rounds between two looks at the kernel's counter.
const ROUNDS_PER_LOOK: u32 = 64;

/// The two ends of a veth pair in this network namespace.
pub struct Devices<'a> {
    pub uplink: &'a str,
    pub peer: &'a str,
    /// How the first is driven.
    pub driver: Driver,
}

impl Devices<'_> {
    fn open(&self, mode: Mode) -> anyhow::Result<Nic> {
        Nic::open(self.uplink, self.driver, &[mode])
            .map_err(|error| anyhow::anyhow!("{error}; {}", error.hint()))
    }
}

/// The driver of this name.
pub fn driver(name: &str) -> Result<Driver, String> {
    let mut all = [Driver::Auto, Driver::AfPacket, Driver::AfXdp].into_iter();
    all.find(|driver| driver.to_string() == name)
        .ok_or_else(|| "the drivers are auto, af-packet and af-xdp".to_owned())
}

/// Frames that the kernel has received at a device from now on.
fn counter_of(device: &str) -> anyhow::Result<impl Fn() -> u64> {
    let path: PathBuf = ["/sys/class/net", device, "statistics/rx_packets"].iter().collect();
    let read = move || -> anyhow::Result<u64> { Ok(std::fs::read_to_string(&path)?.trim().parse()?) };
    let first = read().with_context(|| format!("the counters of {device}"))?;
    // It was there when the run began.
    Ok(move || read().map_or(0, |now| now - first))
}

/// Frames by a packet socket into one device, counted at another: what forwards them in between is somebody else's.
pub fn measure_frames(run: &Run, devices: &Devices<'_>, to: MacAddress) -> anyhow::Result<Figure> {
    let mut nic = devices.open(Mode::Unfiltered)?;
    let received = counter_of(devices.peer)?;
    process::pair(
        run,
        |meeting| {
            while meeting.load(STOP) == 0 {
                std::thread::park_timeout(Duration::from_millis(1));
            }
        },
        |meeting| {
            let mut source = Source::new(run.size, to, mac(1));
            let (mut rounds, mut arrived) = (0_u32, 0);
            process::count(run, meeting, || {
                for _ in 0..BATCH {
                    // What the device has no room for is the loss of who sends too much; only arrivals count.
                    let _ = nic.send(&Vnet::default(), source.next());
                }
                nic.flush();
                rounds = rounds.wrapping_add(1);
                if rounds % ROUNDS_PER_LOOK == 0 {
                    arrived = received();
                }
                arrived
            })
        },
    )
}

pub fn measure(run: &Run, devices: &Devices<'_>) -> anyhow::Result<Figure> {
    let mode = Mode::Filtered { system: SYSTEM };
    let mut nic = devices.open(mode)?;
    let uplink =
        UplinkConfig { mode, vid: None, device: DEVICE, default_router: None, link_dependency: false };
    let world = World::bridged(run.legs, uplink)?;
    let received = counter_of(devices.peer)?;
    let now = Instant::from_nanos(world.clock);
    let mut control = world.control;
    let state = DeviceState { device: nic.device(), has_carrier: nic.has_carrier() };
    anyhow::ensure!(state.has_carrier, "{} has no carrier: set both ends up", devices.uplink);
    control.handle_device(now, DEVICE, state);
    let Some(mut sender) = world.nodes.into_iter().next() else { unreachable!("a world of two nodes") };
    process::pair(
        run,
        |meeting| {
            while meeting.load(STOP) == 0 {
                control.pump(now, 4 * BATCH);
                while let Some((vnet, frame)) = control.poll_outside(DEVICE) {
                    let sent = nic.send(&vnet, frame);
                    if sent == Sent::Full {
                        break;
                    }
                    control.outside_taken(DEVICE, sent == Sent::Taken);
                }
                nic.flush();
            }
        },
        |meeting| {
            let mut source = Source::new(run.size, OUTSIDER, mac(1));
            let mut to_sender = Sink::new(mac(1));
            let (mut sent, mut again, mut rounds, mut arrived) = (0_u64, false, 0_u32, 0);
            let mut round = |more: bool| {
                let mut batch = sender.batch(now, VIF);
                for _ in 0..if more { BATCH } else { 0 } {
                    let frame = if again { source.same() } else { source.next() };
                    again = batch.send(&Vnet::default(), frame) == Accept::Busy;
                    if again {
                        break;
                    }
                    sent += 1;
                }
                drop(batch);
                sender.receive(now, BATCH, &mut to_sender);
                sender.publish(now);
                rounds = rounds.wrapping_add(1);
                if rounds % ROUNDS_PER_LOOK == 0 || !more {
                    arrived = received();
                }
                (sent, arrived)
            };
            let figure = process::count(run, meeting, || round(true).1);
            let until = std::time::Instant::now() + Duration::from_secs(1);
            let (sent, arrived) = loop {
                let state = round(false);
                if state.1 >= state.0 || std::time::Instant::now() > until {
                    break state;
                }
            };
            Figure { lost: sent.saturating_sub(arrived), ..figure }
        },
    )
}
