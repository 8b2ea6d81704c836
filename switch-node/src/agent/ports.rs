//! The virtual interfaces of this node as the kernel has them: one TAP each, with the frame that waits for its way.
//!
//! Steps 1 and 8 of the walk begin and end here: frames of the stacks go to `Node::send_frame` in batches, and
//! what comes out of the fabric is written to the TAP of its interface.

use rvi::SharedOctets;
use tracing::{debug, error, info, warn};
use vlan_core::wire::control::{InterfaceAddress, InterfaceConfig};
use vlan_core::wire::frame::Vnet;
use vlan_core::{Instant, VifNumber};

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use crate::agent::closing::Closing;
use crate::agent::cut::Cutter;
use crate::agent::give_way::GiveWay;
use crate::agent::intake::Intake;
use crate::agent::namespace::Namespace;
use crate::agent::netlink::{InterfaceIndex, Memberships, Netlink, NetlinkError, StackAddress};
use crate::agent::poller::{Poller, Source};
use crate::agent::pump::clock;
use crate::agent::tap::{self, Tap, TapError, Written};
use crate::node::{Accept, Delivery, FrameSink, Node};

/// Frames of one interface that go into one batch.
const BATCH_FRAMES_MAX: usize = 64;
/// Octets of one interface that go into one batch: two super-frames, so that the receiver starts on the first
/// while the third is being read.
const BATCH_OCTETS_MAX: usize = 128 * 1024;
/// How long an interface waits that could not be made, or whose device was taken away.
const RETRY: Duration = Duration::from_millis(500);
/// How soon it is tried again while a former device of its name is being closed.
const CLOSING_PAUSE: Duration = Duration::from_millis(1);

/// An interface that the control node wants here.
struct Wanted {
    config: InterfaceConfig,
    port: Option<Port>,
    /// When to try again to make it.
    retry_at: Option<Instant>,
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
    intake: Intake,
    cutter: Cutter,
    give_way: GiveWay,
    /// The stack gives this interface a link-local address by itself.
    expects_link_local: bool,
    addresses: Vec<StackAddress>,
    /// Frames that the kernel refused.
    refused: u64,
}

/// All interfaces of the node.
pub(super) struct Ports {
    namespace: Namespace,
    netlink: Netlink,
    /// None where the kernel does not say when memberships change.
    memberships: Option<Memberships>,
    wanted: BTreeMap<VifNumber, Wanted>,
    closing: Closing,
}

impl Ports {
    pub fn new(namespace: Namespace, follows_memberships: bool) -> Result<Self, NetlinkError> {
        let mut netlink = Netlink::open(&namespace)?;
        // A namespace is born with loopback down; without it a tenant cannot even reach itself.
        if let Err(error) = netlink.index_of("lo").and_then(|lo| netlink.set_up(lo)) {
            warn!(%error, "loopback stays down");
        }
        let memberships = match follows_memberships.then(|| Memberships::open(&namespace)).transpose() {
            Ok(memberships) => memberships,
            Err(error) => {
                warn!(%error, "multicast groups are known by IGMP and MLD alone");
                None
            }
        };
        Ok(Self { namespace, netlink, memberships, wanted: BTreeMap::new(), closing: Closing::default() })
    }

    // --- frames ---------------------------------------------------------------------------------------------

    /// Gives the next batch of every stack's frames to `node`; returns how many it took.
    #[inline]
    pub fn send_frames(&mut self, now: Instant, node: &mut Node) -> usize {
        self.ports_mut().map(|port| port.send_frames(now, node)).sum()
    }

    /// The TAP of `vif` has a frame, or (`has_ended`) is broken.
    pub fn handle_ready(&mut self, now: Instant, vif: VifNumber, has_ended: bool, poller: &Poller) {
        let Some(wanted) = self.wanted.get_mut(&vif) else { return };
        if has_ended {
            warn!(interface = wanted.config.name, "the device was taken away; making it again");
            wanted.drop_port(poller, &mut self.closing);
            wanted.retry_at = Some(now + RETRY);
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
        for port in self.ports_mut().filter(|port| port.intake.is_waiting()) {
            if let Err(error) = poller.listen(port.tap.as_fd(), Source::Tap(port.vif), listen) {
                warn!(interface = port.config.name, %error, "the device cannot be watched");
            }
        }
    }

    /// Takes nothing more from any device.
    pub fn rest(&mut self, poller: &Poller) {
        for port in self.ports_mut() {
            if let Err(error) = poller.listen(port.tap.as_fd(), Source::Tap(port.vif), false) {
                warn!(interface = port.config.name, %error, "the device cannot be watched");
            }
        }
    }

    fn ports_mut(&mut self) -> impl Iterator<Item = &mut Port> {
        self.wanted.values_mut().filter_map(|wanted| wanted.port.as_mut())
    }

    // --- configuration --------------------------------------------------------------------------------------

    /// Makes an interface, or changes it to `config`. What is there already stays: a control node that comes back
    /// disturbs nobody.
    pub fn handle_interface(&mut self, now: Instant, config: InterfaceConfig, poller: &Poller) {
        let vif = config.vif;
        let wanted = self.wanted.entry(vif).or_insert_with(|| Wanted::new(config.clone()));
        wanted.config = config;
        wanted.apply(now, &self.namespace, &mut self.netlink, poller, &mut self.closing);
    }

    /// Takes an interface away.
    pub fn handle_removed(&mut self, vif: VifNumber, poller: &Poller) {
        if let Some(mut wanted) = self.wanted.remove(&vif) {
            info!(interface = wanted.config.name, lan = wanted.config.lan_name, "interface removed");
            wanted.drop_port(poller, &mut self.closing);
        }
    }

    /// Tries again what could not be made.
    pub fn handle_timeout(&mut self, now: Instant, poller: &Poller) -> bool {
        let mut tried = false;
        for wanted in self.wanted.values_mut() {
            if wanted.retry_at.is_some_and(|at| at <= now) {
                wanted.apply(now, &self.namespace, &mut self.netlink, poller, &mut self.closing);
                tried = true;
            }
        }
        tried
    }

    /// When [`Self::handle_timeout`] is wanted next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wanted.values().filter_map(|wanted| wanted.retry_at).min()
    }

    // --- addresses ------------------------------------------------------------------------------------------

    /// Reads which addresses the stack has on each interface, and tells `node`.
    pub fn read_addresses(&mut self, now: Instant, node: &mut Node) {
        let all = match self.netlink.addresses() {
            Ok(all) => all,
            Err(error) => return warn!(%error, "addresses not read"),
        };
        for port in self.ports_mut() {
            let own = all.iter().filter(|(index, _)| *index == port.index).map(|(_, address)| *address);
            port.take_addresses(own.collect());
            let usable = port.addresses.iter().filter(|address| address.is_usable);
            let usable: Vec<InterfaceAddress> = usable.map(|address| address.address).collect();
            node.handle_addresses(now, port.vif, &usable);
        }
    }

    /// Reads which multicast groups the stack has joined on each interface, and tells `node`.
    pub fn read_memberships(&mut self, now: Instant, node: &mut Node) {
        let Some(memberships) = &mut self.memberships else { return };
        let all = match memberships.read() {
            Ok(all) => all,
            Err(error) => return warn!(%error, "memberships of multicast groups not read"),
        };
        for port in self.ports_mut() {
            let own = all.iter().filter(|(index, _)| *index == port.index).map(|(_, group)| *group);
            node.handle_memberships(now, port.vif, &own.collect::<Vec<IpAddr>>());
        }
    }

    /// Reads which interfaces somebody wants all frames of, and tells `node`.
    pub fn read_promiscuity(&mut self, now: Instant, node: &mut Node) {
        for port in self.wanted.values_mut().filter_map(|wanted| wanted.port.as_mut()) {
            match self.netlink.is_promiscuous(port.index) {
                Ok(is_promiscuous) => node.handle_promiscuity(now, port.vif, is_promiscuous),
                Err(error) => warn!(interface = port.config.name, %error, "not known who listens"),
            }
        }
    }

    /// True when every interface is there with all its addresses, link-local ones too, past duplicate-address
    /// detection.
    pub fn are_ready(&self) -> bool {
        self.wanted.values().all(|wanted| {
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

impl Wanted {
    fn new(config: InterfaceConfig) -> Self {
        Self { config, port: None, retry_at: None, told: None }
    }

    /// Makes the device what it is wanted to be, as far as the system allows.
    fn apply(
        &mut self,
        now: Instant,
        namespace: &Namespace,
        netlink: &mut Netlink,
        poller: &Poller,
        closing: &mut Closing,
    ) {
        self.retry_at = None;
        if self.port.as_ref().is_some_and(|port| port.config.name != self.config.name) {
            self.drop_port(poller, closing);
        }
        let result = match &mut self.port {
            Some(port) => port.change(&self.config, netlink),
            None if closing.is_closing(&self.config.name) => {
                // The other interfaces' frames do not wait for that.
                self.retry_at = Some(now + CLOSING_PAUSE);
                return;
            }
            None => Port::create(&self.config, namespace, netlink, poller).map(|port| self.port = Some(port)),
        };
        match result {
            Ok(()) => self.told = None,
            Err(failure) => {
                self.retry_at = Some(now + RETRY);
                let text = failure.to_string();
                if self.told.as_ref() != Some(&text) {
                    error!(interface = self.config.name, error = text, hint = failure.hint(), "no interface");
                    self.told = Some(text);
                }
            }
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

/// Why an interface is not what it is wanted to be.
enum Failure {
    Tap(TapError),
    Netlink(NetlinkError),
    Poll(std::io::Error),
}

impl Failure {
    fn hint(&self) -> &'static str {
        match self {
            Self::Tap(error) => error.hint(),
            Self::Netlink(_) => "look at the interface in its namespace: something else may have changed it",
            Self::Poll(_) => "raise the limit of watched descriptors (sysctl fs.epoll.max_user_watches)",
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tap(error) => error.fmt(f),
            Self::Netlink(error) => error.fmt(f),
            Self::Poll(error) => write!(f, "cannot watch the device: {error}"),
        }
    }
}

impl From<NetlinkError> for Failure {
    fn from(error: NetlinkError) -> Self {
        Self::Netlink(error)
    }
}

impl Port {
    fn create(
        config: &InterfaceConfig,
        namespace: &Namespace,
        netlink: &mut Netlink,
        poller: &Poller,
    ) -> Result<Self, Failure> {
        let tap = tap::create(namespace, &config.name).map_err(Failure::Tap)?;
        let index = netlink.index_of(&config.name)?;
        netlink.set_mac(index, config.mac)?;
        netlink.set_mtu(index, config.mtu)?;
        let expects_link_local = expects_link_local(namespace, &config.name);
        netlink.set_up(index)?;
        add_addresses(netlink, index, config, &config.addresses);
        set_gateways(netlink, index, config);
        poller.add(tap.as_fd(), Source::Tap(config.vif)).map_err(Failure::Poll)?;
        info!(
            interface = config.name,
            lan = config.lan_name,
            mac = %config.mac,
            mtu = config.mtu,
            tcp_segmentation = tap.has_tcp_segmentation(),
            udp_segmentation = tap.has_udp_segmentation(),
            "interface up"
        );
        Ok(Self {
            vif: config.vif,
            tap,
            index,
            config: config.clone(),
            intake: Intake::default(),
            cutter: Cutter::default(),
            give_way: GiveWay::default(),
            expects_link_local,
            addresses: Vec::new(),
            refused: 0,
        })
    }

    /// Changes what differs from the present configuration; what a tenant added by hand stays.
    fn change(&mut self, config: &InterfaceConfig, netlink: &mut Netlink) -> Result<(), Failure> {
        if self.config == *config {
            return Ok(());
        }
        if self.config.mac != config.mac {
            netlink.set_mac(self.index, config.mac)?;
        }
        if self.config.mtu != config.mtu {
            netlink.set_mtu(self.index, config.mtu)?;
        }
        for gateway in self.config.gateways.iter().filter(|old| !config.gateways.contains(old)) {
            netlink.remove_gateway(self.index, *gateway)?;
        }
        let gone = || self.config.addresses.iter().filter(|old| !config.addresses.contains(old));
        for address in gone() {
            netlink.remove_address(self.index, *address)?;
        }
        // With the first address of a subnet the kernel takes the others of it away.
        let has_lost = gone().next().is_some();
        let new = config.addresses.iter().filter(|new| has_lost || !self.config.addresses.contains(new));
        add_addresses(netlink, self.index, config, &new.copied().collect::<Vec<_>>());
        set_gateways(netlink, self.index, config);
        self.config = config.clone();
        info!(interface = config.name, lan = config.lan_name, "interface changed");
        Ok(())
    }

    #[inline]
    fn send_frames(&mut self, now: Instant, node: &mut Node) -> usize {
        let (mut frames, mut octets) = (0, 0);
        let mut batch = node.batch(now, self.vif);
        while frames < BATCH_FRAMES_MAX && octets < BATCH_OCTETS_MAX {
            if let Err(error) = self.intake.fill(|buffer| self.tap.read(buffer), BATCH_FRAMES_MAX - frames) {
                // The device is down or gone; the poller says which.
                debug!(interface = self.config.name, %error, "nothing read from the device");
            }
            let Some((vnet, frame)) = self.intake.frame() else { break };
            octets += frame.len();
            match batch.send(&vnet, frame) {
                Accept::Taken => frames += self.intake.take(),
                Accept::Busy => break,
            }
        }
        frames
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
        let has = |wanted: &InterfaceAddress| {
            self.addresses.iter().any(|address| address.is_usable && address.address == *wanted)
        };
        let link_local = self.addresses.iter().any(|address| address.is_link_local() && address.is_usable);
        self.config.addresses.iter().all(has) && (link_local || !self.expects_link_local)
    }
}

/// An address that the kernel refuses does not keep the others from being set: it is reported.
fn add_addresses(
    netlink: &mut Netlink,
    index: InterfaceIndex,
    config: &InterfaceConfig,
    addresses: &[InterfaceAddress],
) {
    for address in addresses {
        if let Err(error) = netlink.add_address(index, *address) {
            error!(interface = config.name, address = %address.address, %error, "address not set");
        }
    }
}

fn set_gateways(netlink: &mut Netlink, index: InterfaceIndex, config: &InterfaceConfig) {
    for gateway in &config.gateways {
        if let Err(error) = netlink.set_gateway(index, *gateway) {
            error!(interface = config.name, %gateway, %error, "default gateway not set");
        }
    }
}

/// True when the kernel will give the interface a link-local IPv6 address: IPv6 is on, and addresses are made.
fn expects_link_local(namespace: &Namespace, name: &str) -> bool {
    let setting = |key: &str| {
        let path = format!("/proc/sys/net/ipv6/conf/{name}/{key}");
        namespace.run(|| std::fs::read_to_string(path)).ok()
    };
    // addr_gen_mode 1: none (Documentation/networking/ip-sysctl.rst).
    setting("disable_ipv6").is_some_and(|value| value.trim() == "0")
        && setting("addr_gen_mode").is_none_or(|value| value.trim() != "1")
}
