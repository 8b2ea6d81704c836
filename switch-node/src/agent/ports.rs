//! The virtual interfaces of this node as the kernel has them: one TAP each, with the frame that waits for its way.
//!
//! Steps 1 and 8 of the walk begin and end here: frames of the stacks go to `Node::send_frame` in batches, and
//! what comes out of the fabric is written to the TAP of its interface.

use rvi::SharedOctets;
use tracing::{debug, error, info, warn};
use vlan_core::super_frame::Intake;
use vlan_core::wire::control::{InterfaceAddress, InterfaceConfig, ServedCluster};
use vlan_core::wire::frame::Vnet;
use vlan_core::{Instant, VifNumber};

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use crate::agent::checks::Checks;
use crate::agent::closing::Closing;
use crate::agent::cut::Cutter;
use crate::agent::devices::{DeviceError, Devices, Done, Made, Order, Stacks};
use crate::agent::give_way::GiveWay;
use crate::agent::netlink::{InterfaceIndex, Listener, StackAddress, listening};
use crate::agent::pause::Pause;
use crate::agent::poller::{Poller, Source};
use crate::agent::pump::clock;
use crate::agent::tap::{Tap, TapBuffer, Written};
use crate::node::{Accept, AskedCheck, Delivery, FrameSink, Node};

/// Octets of one interface that go into one batch: two super-frames, so that the receiver starts on the first
/// while the third is being read.
const BATCH_OCTETS_MAX: usize = 128 * 1024;
/// How long an interface waits that could not be made, or whose device was taken away.
const RETRY: Duration = Duration::from_millis(500);
/// Before an address of a cluster that the kernel has refused is tried again.
const SERVE_RETRY: Duration = Duration::from_secs(5);
/// Between two looks at what listens, while a cluster is served.
const LISTEN_INTERVAL: Duration = Duration::from_millis(200);
/// How soon it is tried again while a former device of its name is being closed.
const CLOSING_PAUSE: Duration = Duration::from_millis(1);

/// An interface that the control node wants here.
struct Wanted {
    /// Of this one among all that were ever wanted.
    number: u64,
    config: InterfaceConfig,
    port: Option<Port>,
    /// When there is something to be done for it, or tried again.
    due: Option<Instant>,
    /// The last failure told, so that it is told once.
    told: Option<String>,
}

/// An interface that is there.
struct Port {
    vif: VifNumber,
    tap: Tap,
    index: InterfaceIndex,
    /// What its device is configured to.
    config: InterfaceConfig,
    intake: Intake<TapBuffer>,
    cutter: Cutter,
    give_way: GiveWay,
    pause: Pause,
    /// The stack gives this interface a link-local address by itself.
    expects_link_local: bool,
    addresses: Vec<StackAddress>,
    /// Frames that the kernel refused.
    refused: u64,
}

/// All interfaces of the node.
pub(super) struct Ports {
    devices: Devices,
    wanted: BTreeMap<VifNumber, Wanted>,
    /// How many have been wanted so far.
    numbers: u64,
    closing: Closing,
    /// What the stacks have may have changed.
    look_is_due: bool,
    /// When the addresses of clusters are to be put where they belong: others are served, or the kernel has refused some.
    serve_at: Option<Instant>,
    /// The addresses of clusters that are wanted on the loopback, and whether they are there.
    served: BTreeSet<IpAddr>,
    is_serving: bool,
    /// When is looked at what listens; none while nothing is served.
    listen_at: Option<Instant>,
    checks: Checks,
}

impl Ports {
    pub fn new(devices: Devices) -> Self {
        let (wanted, closing) = (BTreeMap::new(), Closing::default());
        Self {
            devices,
            wanted,
            numbers: 0,
            closing,
            look_is_due: false,
            serve_at: None,
            served: BTreeSet::new(),
            is_serving: true,
            listen_at: None,
            checks: Checks::default(),
        }
    }

    // --- frames ---------------------------------------------------------------------------------------------

    /// Gives the next batch of every stack's frames to `node`; returns how many it took.
    #[inline]
    pub fn send_frames(&mut self, now: Instant, node: &mut Node, poller: &Poller, most: usize) -> usize {
        self.ports_mut().map(|port| port.send_frames(now, node, poller, most)).sum()
    }

    /// The TAP of `vif` has a frame, or (`has_ended`) is broken.
    pub fn handle_ready(&mut self, now: Instant, vif: VifNumber, has_ended: bool, poller: &Poller) {
        let Some(wanted) = self.wanted.get_mut(&vif) else { return };
        if has_ended {
            warn!(interface = wanted.config.name, "the device was taken away; making it again");
            wanted.drop_port(poller, &mut self.closing);
            wanted.due = Some(now + RETRY);
        } else if let Some(port) = &mut wanted.port {
            port.intake.handle_readable();
        }
    }

    /// Looks at every TAP at the next batch: when frames flow, reading finds out cheaper than asking first.
    pub fn assume_readable(&mut self) {
        self.ports_mut().for_each(|port| port.intake.handle_readable());
    }

    /// True when a frame waits for room in a ring. Nobody rings when there is some.
    pub fn is_any_waiting(&self) -> bool {
        self.wanted.values().filter_map(|wanted| wanted.port.as_ref()).any(|port| port.intake.is_waiting())
    }

    /// How many interfaces there are.
    pub fn len(&self) -> usize {
        self.wanted.len()
    }

    /// Watches those TAPs whose next frame could be taken, before the pump sleeps.
    pub fn listen(&mut self, poller: &Poller, listen: bool) {
        self.ports_mut().filter(|port| port.intake.is_waiting()).for_each(|port| port.listen(poller, listen));
    }

    /// Takes nothing more from any device.
    pub fn rest(&mut self, poller: &Poller) {
        for port in self.ports_mut() {
            port.pause.end();
            port.listen(poller, false);
        }
    }

    fn ports_mut(&mut self) -> impl Iterator<Item = &mut Port> {
        self.wanted.values_mut().filter_map(|wanted| wanted.port.as_mut())
    }

    // --- configuration --------------------------------------------------------------------------------------

    /// Wants an interface to be as `config` says. What is there already stays: a control node that comes back
    /// disturbs nobody.
    pub fn handle_interface(&mut self, now: Instant, config: InterfaceConfig, poller: &Poller) {
        let wanted = self.wanted.entry(config.vif).or_insert_with(|| {
            self.numbers += 1;
            Wanted { number: self.numbers, config: config.clone(), port: None, due: None, told: None }
        });
        (wanted.config, wanted.due) = (config, Some(now));
        self.serve(now);
        self.proceed(now, poller);
    }

    /// Takes an interface away.
    pub fn handle_removed(&mut self, now: Instant, vif: VifNumber, poller: &Poller) {
        if let Some(mut wanted) = self.wanted.remove(&vif) {
            info!(interface = wanted.config.name, lan = wanted.config.lan_name, "interface removed");
            wanted.drop_port(poller, &mut self.closing);
        }
        self.serve(now);
        self.proceed(now, poller);
    }

    /// Other clusters may be served.
    fn serve(&mut self, now: Instant) {
        let served: BTreeSet<IpAddr> =
            self.clusters().flat_map(|cluster| &cluster.addresses).copied().collect();
        if served != self.served {
            (self.served, self.serve_at, self.is_serving) = (served, Some(now), false);
        }
        self.listen_at = (!self.served.is_empty()).then_some(now);
    }

    /// What the interfaces serve.
    fn clusters(&self) -> impl Iterator<Item = &ServedCluster> {
        self.wanted.values().flat_map(|wanted| &wanted.config.clusters)
    }

    /// What the stacks have may have changed.
    pub fn look(&mut self, now: Instant, poller: &Poller) {
        self.look_is_due = true;
        self.proceed(now, poller);
    }

    /// Gives the next order that is due, unless one is being carried out.
    pub fn proceed(&mut self, now: Instant, poller: &Poller) {
        if self.devices.is_busy() {
            return;
        }
        if std::mem::take(&mut self.look_is_due) {
            let indices = self.ports_mut().map(|port| port.index).collect();
            return self.devices.order(Order::Look(indices));
        }
        if self.serve_at.take_if(|at| *at <= now).is_some() {
            return self.devices.order(Order::Serve(self.served.clone()));
        }
        if self.listen_at.is_some_and(|at| at <= now) {
            self.listen_at = Some(now + LISTEN_INTERVAL);
            return self.devices.order(Order::Listen(self.clusters().cloned().collect()));
        }
        let due = self.wanted.values_mut().filter(|wanted| wanted.due.is_some_and(|at| at <= now));
        for wanted in due {
            if let Some(order) = wanted.order(now, poller, &mut self.closing) {
                return self.devices.order(order);
            }
        }
        // Last: there may be more of these at any time, and a late one is only a failed check.
        let checks = self.checks.take_waiting();
        if !checks.is_empty() {
            self.devices.order(Order::Connect(checks));
        }
    }

    /// When [`Self::proceed`] or [`Self::send_frames`] is wanted next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let is_busy = self.devices.is_busy();
        let due =
            self.wanted.values().filter_map(|wanted| wanted.due).chain(self.listen_at).chain(self.serve_at);
        let ports = self.wanted.values().filter_map(|wanted| wanted.port.as_ref());
        let checks = self.checks.poll_timeout();
        due.filter(|_| !is_busy).chain(ports.filter_map(|port| port.pause.until())).chain(checks).min()
    }

    /// Takes what has been done for the interfaces; tells `node` what their stacks have.
    pub fn handle_done(&mut self, now: Instant, node: &mut Node, poller: &Poller) {
        match self.devices.take() {
            Some(Done::Made(number, result)) => self.handle_made(now, number, result, poller),
            Some(Done::Changed(number, result)) => {
                if let Some(wanted) = self.numbered(number) {
                    match result {
                        Ok(config) => wanted.handle_changed(config),
                        Err(error) => wanted.handle_failure(now, &error, error.hint()),
                    }
                }
                self.look_is_due = true;
            }
            Some(Done::Looked(stacks)) => self.handle_stacks(now, node, &stacks),
            Some(Done::Served(is_done)) => self.handle_served(now, is_done),
            Some(Done::Listened(listeners)) => self.handle_listeners(now, node, listeners.as_ref()),
            Some(Done::Connecting(connections)) => self.checks.handle_connecting(connections, poller),
            None => {}
        }
        self.proceed(now, poller);
    }

    /// What the kernel refuses is tried again; the node is ready without it.
    fn handle_served(&mut self, now: Instant, is_done: bool) {
        self.is_serving = true;
        if !is_done {
            self.serve_at = self.serve_at.or(Some(now + SERVE_RETRY));
        }
    }

    fn handle_made(&mut self, now: Instant, number: u64, result: Result<Made, DeviceError>, poller: &Poller) {
        match (result, self.numbered(number)) {
            (Ok(made), Some(wanted)) => {
                if let Err(error) = poller.add(made.tap.as_fd(), Source::Tap(made.config.vif)) {
                    let hint = "raise the limit of watched descriptors (sysctl fs.epoll.max_user_watches)";
                    wanted.handle_failure(now, &format_args!("cannot watch the device: {error}"), hint);
                    return self.closing.close(&made.config.name, made.tap);
                }
                wanted.told = None;
                wanted.port = Some(Port::new(made));
                self.look_is_due = true;
            }
            // It was taken away meanwhile.
            (Ok(made), None) => self.closing.close(&made.config.name, made.tap),
            (Err(error), Some(wanted)) => wanted.handle_failure(now, &error, error.hint()),
            (Err(_), None) => {}
        }
    }

    fn numbered(&mut self, number: u64) -> Option<&mut Wanted> {
        self.wanted.values_mut().find(|wanted| wanted.number == number)
    }

    /// Tells `node` which usable addresses the stack has on each interface, which multicast groups it has joined there, and
    /// who wants all frames.
    fn handle_stacks(&mut self, now: Instant, node: &mut Node, stacks: &Stacks) {
        for port in self.ports_mut() {
            if let Some(all) = &stacks.addresses {
                port.take_addresses(of(all, port.index).collect());
                let usable = port.addresses.iter().filter(|address| address.is_usable);
                let usable: Vec<InterfaceAddress> = usable.map(|address| address.address).collect();
                node.handle_addresses(now, port.vif, &usable);
            }
            if let Some(all) = &stacks.memberships {
                node.handle_memberships(now, port.vif, &of(all, port.index).collect::<Vec<IpAddr>>());
            }
            if let Some(is_promiscuous) = of(&stacks.promiscuous, port.index).next() {
                node.handle_promiscuity(now, port.vif, is_promiscuous);
            }
        }
    }

    /// Tells `node` where something listens. What could not be read is as it was.
    fn handle_listeners(&mut self, now: Instant, node: &mut Node, listeners: Option<&BTreeSet<Listener>>) {
        let Some(listeners) = listeners else { return };
        for (vif, wanted) in self.wanted.iter().filter(|(_, wanted)| !wanted.config.clusters.is_empty()) {
            node.handle_listening(now, *vif, &listening(&wanted.config.clusters, listeners));
        }
    }

    // --- checks ---------------------------------------------------------------------------------------------

    /// Makes a check.
    pub fn handle_check(&mut self, now: Instant, asked: AskedCheck, poller: &Poller) {
        self.checks.begin(now, asked);
        self.proceed(now, poller);
    }

    /// The connection of a check has room, or an answer, or has ended.
    pub fn handle_check_ready(&mut self, number: u32, poller: &Poller) {
        self.checks.handle_ready(number, poller);
    }

    /// Tells `node` of checks that are done, also of those that have taken too long.
    pub fn finish_checks(&mut self, now: Instant, node: &mut Node, poller: &Poller) {
        self.checks.handle_timeout(now, poller);
        while let Some((asked, result)) = self.checks.poll_done() {
            node.handle_checked(now, &asked, result);
        }
    }

    /// True when every interface is there with all its addresses, link-local ones too, past duplicate-address
    /// detection.
    pub fn are_ready(&self) -> bool {
        self.is_serving
            && self.wanted.values().all(|wanted| {
                let current = wanted.port.as_ref().filter(|port| port.config == wanted.config);
                current.is_some_and(Port::is_ready)
            })
    }
}

impl FrameSink for Ports {
    #[inline]
    fn deliver(&mut self, vif: VifNumber, vnet: &Vnet, head: &[u8], rest: SharedOctets<'_>) -> Delivery {
        match self.wanted.get_mut(&vif).and_then(|wanted| wanted.port.as_mut()) {
            Some(port) => port.deliver(vnet, head, rest),
            None => Delivery::DeviceFull,
        }
    }
}

impl AsFd for Ports {
    /// Readable when [`Ports::handle_done`] is wanted.
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.devices.as_fd()
    }
}

/// What the kernel has listed for one interface.
fn of<T: Copy>(all: &[(InterfaceIndex, T)], index: InterfaceIndex) -> impl Iterator<Item = T> {
    all.iter().filter(move |(of, _)| *of == index).map(|(_, item)| *item)
}

impl Wanted {
    /// What is to be done so that the device is what it is wanted to be.
    fn order(&mut self, now: Instant, poller: &Poller, closing: &mut Closing) -> Option<Order> {
        self.due = None;
        if self.port.as_ref().is_some_and(|port| port.config.name != self.config.name) {
            self.drop_port(poller, closing);
        }
        match &self.port {
            Some(port) if port.config == self.config => None,
            Some(port) => {
                let configs = Box::new((port.config.clone(), self.config.clone()));
                Some(Order::Change(self.number, port.index, configs))
            }
            None if closing.is_closing(&self.config.name) => {
                self.due = Some(now + CLOSING_PAUSE);
                None
            }
            None => Some(Order::Make(self.number, self.config.clone())),
        }
    }

    fn handle_changed(&mut self, config: InterfaceConfig) {
        self.told = None;
        if let Some(port) = &mut self.port {
            info!(interface = config.name, lan = config.lan_name, "interface changed");
            port.config = config;
        }
    }

    fn handle_failure(&mut self, now: Instant, error: &dyn std::fmt::Display, hint: &str) {
        self.due = Some(now + RETRY);
        let text = error.to_string();
        if self.told.as_ref() != Some(&text) {
            error!(interface = self.config.name, error = text, hint, "no interface");
            self.told = Some(text);
        }
    }

    fn drop_port(&mut self, poller: &Poller, closing: &mut Closing) {
        if let Some(port) = self.port.take() {
            poller.remove(port.tap.as_fd());
            if port.refused > 0 {
                debug!(interface = port.config.name, frames = port.refused, "frames that the kernel refused");
            }
            closing.close(&port.config.name, port.tap);
        }
    }
}

impl Port {
    fn new(made: Made) -> Self {
        let Made { tap, index, config, expects_link_local } = made;
        info!(
            interface = config.name,
            lan = config.lan_name,
            mac = %config.mac,
            mtu = config.mtu,
            tcp_segmentation = tap.has_tcp_segmentation(),
            udp_segmentation = tap.has_udp_segmentation(),
            "interface up"
        );
        Self {
            vif: config.vif,
            tap,
            index,
            config,
            intake: Intake::default(),
            cutter: Cutter::default(),
            give_way: GiveWay::default(),
            pause: Pause::default(),
            expects_link_local,
            addresses: Vec::new(),
            refused: 0,
        }
    }

    #[inline]
    fn send_frames(&mut self, now: Instant, node: &mut Node, poller: &Poller, most: usize) -> usize {
        if self.pause.until().is_some_and(|until| until > now) {
            return 0;
        }
        if self.pause.end() {
            self.listen(poller, true);
        }
        let (mut frames, mut octets) = (0, 0);
        let mut batch = node.batch(now, self.vif);
        while frames < most && octets < BATCH_OCTETS_MAX {
            if let Err(error) = self.intake.fill(|buffer| self.tap.read(buffer), most - frames) {
                // The device is down or gone; the poller says which.
                debug!(interface = self.config.name, %error, "nothing read from the device");
            }
            let Some((vnet, frame)) = self.intake.frame() else { break };
            octets += frame.len();
            let accept = batch.send(&vnet, frame);
            if accept == Accept::Busy {
                break;
            }
            let taken = self.intake.take();
            frames += taken;
            self.pause.note(taken, accept == Accept::Limited);
            if self.pause.is_due() && !self.intake.is_waiting() {
                drop(batch);
                self.pause.begin(now);
                self.listen(poller, false);
                break;
            }
        }
        frames
    }

    /// Watches the TAP for frames, or no more.
    fn listen(&self, poller: &Poller, listen: bool) {
        if let Err(error) = poller.listen(self.tap.as_fd(), Source::Tap(self.vif), listen) {
            warn!(interface = self.config.name, %error, "the device cannot be watched");
        }
    }

    #[inline]
    fn deliver(&mut self, vnet: &Vnet, head: &[u8], rest: SharedOctets<'_>) -> Delivery {
        let written = if Cutter::is_for(vnet) && !self.tap.has_udp_segmentation() {
            self.cutter.write(&self.tap, vnet, head, rest)
        } else {
            self.tap.write(vnet, head, rest)
        };
        match written {
            Written::Taken => {
                self.give_way(vnet, head.len() + rest.len());
                Delivery::Taken
            }
            Written::Full => Delivery::DeviceFull,
            Written::Refused(error) => {
                self.refused += 1;
                if self.refused.is_power_of_two() {
                    debug!(interface = self.config.name, %error, frames = self.refused, "frame refused");
                }
                Delivery::DeviceFull
            }
        }
    }

    /// After many datagrams whoever is to receive them gets the core.
    #[inline]
    fn give_way(&mut self, vnet: &Vnet, len: usize) {
        if !Cutter::is_for(vnet) || !self.give_way.is_due(len.div_ceil(usize::from(vnet.gso_size).max(1))) {
            return;
        }
        let from = clock();
        std::thread::yield_now();
        self.give_way.handle_return(from, clock());
    }

    fn take_addresses(&mut self, addresses: Vec<StackAddress>) {
        for address in addresses.iter().filter(|new| new.is_duplicate && !self.addresses.contains(new)) {
            let InterfaceAddress { address, .. } = address.address;
            error!(interface = self.config.name, %address, "another station of the LAN has this address");
        }
        self.addresses = addresses;
    }

    fn is_ready(&self) -> bool {
        if !self.config.has_carrier {
            // Its stack does not look for duplicates of its addresses before it has one.
            return true;
        }
        let has = |wanted: &InterfaceAddress| {
            self.addresses.iter().any(|address| address.is_usable && address.address == *wanted)
        };
        let link_local = self.addresses.iter().any(|address| address.is_link_local() && address.is_usable);
        self.config.addresses.iter().all(has) && (link_local || !self.expects_link_local)
    }
}
