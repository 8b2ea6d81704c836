//! The thread that asks the kernel for devices, and about them.
//!
//! All of it takes a lock that the kernel holds for tens of ms while any device of the machine is made or taken away (`rtnl_lock`),
//! and the pump carries frames: it gives an order here, and goes on. One order is carried out at a time.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use rustix::event::{EventfdFlags, eventfd};
use tracing::{error, warn};
use vlan_core::wire::control::{InterfaceAddress, InterfaceConfig, ServedCluster};

use crate::agent::checks;
use crate::agent::namespace::Namespace;
use crate::agent::netlink::{
    InterfaceIndex, Listener, Listeners, Memberships, Netlink, NetlinkError, StackAddress,
};
use crate::agent::tap::{self, Tap, TapError};

/// What the thread is to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Make a device, and configure it. The number comes back with it.
    Make(u64, InterfaceConfig),
    /// Change a device from the one configuration to the other.
    Change(u64, InterfaceIndex, Box<(InterfaceConfig, InterfaceConfig)>),
    /// Have these addresses on the loopback, and no others of clusters.
    Serve(BTreeSet<IpAddr>),
    /// Read what listens at the services of these.
    Listen(Vec<ServedCluster>),
    /// Read what the stacks of these have.
    Look(Vec<InterfaceIndex>),
    /// Begin connections for these checks.
    Connect(Vec<(u32, SocketAddr)>),
}

/// What it has done.
#[derive(Debug)]
pub(super) enum Done {
    Made(u64, Result<Made, DeviceError>),
    Changed(u64, Result<InterfaceConfig, DeviceError>),
    Looked(Stacks),
    /// True when all of them are as they are to be.
    Served(bool),
    /// What listens; none when it could not be read.
    Listened(Option<BTreeSet<Listener>>),
    /// Connections that have begun.
    Connecting(Vec<(u32, io::Result<OwnedFd>)>),
}

/// A device that was made, as it is configured.
#[derive(Debug)]
pub(super) struct Made {
    pub tap: Tap,
    pub index: InterfaceIndex,
    pub config: InterfaceConfig,
    /// The stack gives this interface a link-local address by itself.
    pub expects_link_local: bool,
}

/// What the stacks of a namespace have. What could not be read is none.
#[derive(Debug, Default)]
pub(super) struct Stacks {
    pub addresses: Option<Vec<(InterfaceIndex, StackAddress)>>,
    /// The multicast groups that they have joined.
    pub memberships: Option<Vec<(InterfaceIndex, IpAddr)>>,
    /// Whether somebody wants all frames of an interface.
    pub promiscuous: Vec<(InterfaceIndex, bool)>,
}

/// Why an interface is not what it is wanted to be.
#[derive(Debug)]
pub(super) enum DeviceError {
    Tap(TapError),
    Netlink(NetlinkError),
}

impl DeviceError {
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Tap(error) => error.hint(),
            Self::Netlink(_) => "look at the interface in its namespace: something else may have changed it",
        }
    }
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tap(error) => error.fmt(f),
            Self::Netlink(error) => error.fmt(f),
        }
    }
}

impl From<NetlinkError> for DeviceError {
    fn from(error: NetlinkError) -> Self {
        Self::Netlink(error)
    }
}

/// The pump's end of the thread. Dropping it waits for the order that is being carried out.
#[derive(Debug)]
pub(super) struct Devices {
    /// None once there are no more orders.
    orders: Option<Sender<Order>>,
    done: Receiver<Done>,
    /// Rings when something has been done.
    bell: Arc<OwnedFd>,
    is_busy: bool,
    thread: Option<JoinHandle<()>>,
}

impl Devices {
    /// Starts the thread for the devices of `namespace`. It reads memberships of multicast groups if it is to follow them.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(namespace: Namespace, netlink: Netlink, follows_memberships: bool) -> io::Result<Self> {
        let memberships = match follows_memberships.then(|| Memberships::open(&namespace)).transpose() {
            Ok(memberships) => memberships,
            Err(error) => {
                warn!(%error, "multicast groups are known by IGMP and MLD alone");
                None
            }
        };
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (orders, to_do) = channel();
        let (tell, done) = channel();
        let (served, listeners) = (BTreeSet::new(), None);
        let is_inside = false;
        let mut worker = Worker { namespace, netlink, memberships, served, listeners, is_inside };
        let ring = Arc::clone(&bell);
        let thread = Builder::new().name("devices".to_owned()).spawn(move || {
            worker.enter();
            for order in to_do {
                if tell.send(worker.carry_out(order)).is_err() {
                    break;
                }
                // Full is rung.
                let _ = rustix::io::write(&*ring, &1u64.to_ne_bytes());
            }
            worker.serve(&BTreeSet::new());
        })?;
        Ok(Self { orders: Some(orders), done, bell, is_busy: false, thread: Some(thread) })
    }

    /// True while an order is carried out. Another one waits for its end.
    pub fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Gives an order.
    pub fn order(&mut self, order: Order) {
        self.is_busy = true;
        if self.orders.as_ref().is_some_and(|orders| orders.send(order).is_err()) {
            error!("interfaces stay as they are: the thread that makes them has ended");
        }
    }

    /// What has been done since.
    pub fn take(&mut self) -> Option<Done> {
        // Silenced before the look: it rings behind what has been done.
        let _ = rustix::io::read(&*self.bell, &mut [0; 8]);
        let done = self.done.try_recv().ok()?;
        self.is_busy = false;
        Some(done)
    }
}

impl AsFd for Devices {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl Drop for Devices {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // What it panicked with has been printed.
            let _ = thread.join();
        }
    }
}

/// What the thread has.
struct Worker {
    namespace: Namespace,
    netlink: Netlink,
    /// None where the kernel does not say when memberships change.
    memberships: Option<Memberships>,
    /// The addresses of clusters on the loopback.
    served: BTreeSet<IpAddr>,
    /// None before they are first wanted.
    listeners: Option<Listeners>,
    /// The thread is in the namespace: sockets that it makes are of that one.
    is_inside: bool,
}

impl Worker {
    /// Goes into the namespace for good.
    fn enter(&mut self) {
        match self.namespace.enter() {
            Ok(()) => self.is_inside = true,
            Err(error) => warn!(%error, "services of clusters cannot be checked"),
        }
    }

    fn carry_out(&mut self, order: Order) -> Done {
        match order {
            Order::Make(number, config) => Done::Made(number, self.make(config)),
            Order::Change(number, index, configs) => {
                let (from, to) = *configs;
                Done::Changed(number, self.change(index, &from, &to).map(|()| to).map_err(DeviceError::from))
            }
            Order::Look(indices) => Done::Looked(self.look(&indices)),
            Order::Serve(addresses) => Done::Served(self.serve(&addresses)),
            Order::Listen(clusters) => Done::Listened(self.listen(&clusters)),
            Order::Connect(checks) => {
                let begin = |(check, to)| (check, self.connect(to));
                Done::Connecting(checks.into_iter().map(begin).collect())
            }
        }
    }

    fn make(&mut self, config: InterfaceConfig) -> Result<Made, DeviceError> {
        let tap = tap::create(&self.namespace, &config.name).map_err(DeviceError::Tap)?;
        let index = self.netlink.index_of(&config.name)?;
        self.netlink.set_mac(index, config.mac)?;
        self.netlink.set_mtu(index, config.mtu)?;
        let expects_link_local = expects_link_local(&self.namespace, &config.name);
        self.netlink.set_up(index)?;
        if !config.has_carrier {
            self.netlink.set_carrier(index, false)?;
        }
        self.add_addresses(index, &config, &config.addresses);
        self.set_gateways(index, &config);
        Ok(Made { tap, index, config, expects_link_local })
    }

    /// Changes what differs; what a tenant added by hand stays.
    fn change(
        &mut self,
        index: InterfaceIndex,
        from: &InterfaceConfig,
        to: &InterfaceConfig,
    ) -> Result<(), NetlinkError> {
        if from.mac != to.mac {
            self.netlink.set_mac(index, to.mac)?;
        }
        if from.mtu != to.mtu {
            self.netlink.set_mtu(index, to.mtu)?;
        }
        if from.has_carrier != to.has_carrier {
            self.netlink.set_carrier(index, to.has_carrier)?;
        }
        for gateway in from.gateways.iter().filter(|old| !to.gateways.contains(old)) {
            self.netlink.remove_gateway(index, *gateway)?;
        }
        let gone = || from.addresses.iter().filter(|old| !to.addresses.contains(old));
        for address in gone() {
            self.netlink.remove_address(index, *address)?;
        }
        // With the first address of a subnet the kernel takes the others of it away.
        let has_lost = gone().next().is_some();
        let new = to.addresses.iter().filter(|new| has_lost || !from.addresses.contains(new));
        self.add_addresses(index, to, &new.copied().collect::<Vec<_>>());
        self.set_gateways(index, to);
        Ok(())
    }

    /// An address that the kernel refuses does not keep the others from being set: it is reported.
    fn add_addresses(
        &mut self,
        index: InterfaceIndex,
        config: &InterfaceConfig,
        addresses: &[InterfaceAddress],
    ) {
        for address in addresses {
            if let Err(error) = self.netlink.add_address(index, *address) {
                error!(interface = config.name, address = %address.address, %error, "address not set");
            }
        }
    }

    fn set_gateways(&mut self, index: InterfaceIndex, config: &InterfaceConfig) {
        for gateway in &config.gateways {
            if let Err(error) = self.netlink.set_gateway(index, *gateway) {
                error!(interface = config.name, %gateway, %error, "default gateway not set");
            }
        }
    }

    /// Puts the addresses of clusters on the loopback, where no station is asked for them and none is told of them.
    //= spec/cluster.md#the-loopback
    //# A host MUST put the addresses of the clusters that its node serves on the loopback of the node's namespace, whole and without a subnet, take them away when it serves them no more or ends, and write no sysctl.
    ///
    /// True when they all are as they are to be: what the kernel refuses may do later.
    fn serve(&mut self, addresses: &BTreeSet<IpAddr>) -> bool {
        let loopback = match self.netlink.index_of("lo") {
            Ok(loopback) => loopback,
            Err(error) => {
                error!(%error, "cluster addresses not set");
                return false;
            }
        };
        let whole =
            |address: IpAddr| InterfaceAddress { address, prefix: if address.is_ipv4() { 32 } else { 128 } };
        for address in self.served.difference(addresses).copied().collect::<Vec<_>>() {
            match self.netlink.remove_address(loopback, whole(address)) {
                Ok(()) => _ = self.served.remove(&address),
                Err(error) => error!(%address, %error, "cluster address not taken away"),
            }
        }
        for address in addresses.difference(&self.served).copied().collect::<Vec<_>>() {
            match self.netlink.add_address(loopback, whole(address)) {
                Ok(()) => _ = self.served.insert(address),
                Err(error) => error!(%address, %error, "cluster address not set"),
            }
        }
        self.served == *addresses
    }

    fn listen(&mut self, clusters: &[ServedCluster]) -> Option<BTreeSet<Listener>> {
        let mut read = || {
            let listeners = match &mut self.listeners {
                Some(listeners) => listeners,
                none => none.insert(Listeners::open(&self.namespace)?),
            };
            listeners.read(clusters)
        };
        read().inspect_err(|error: &io::Error| warn!(%error, "not known what listens")).ok()
    }

    fn connect(&self, to: SocketAddr) -> io::Result<OwnedFd> {
        if self.is_inside { checks::connect(to) } else { Err(io::ErrorKind::Unsupported.into()) }
    }

    fn look(&mut self, indices: &[InterfaceIndex]) -> Stacks {
        let addresses = self.netlink.addresses();
        let memberships = self.memberships.as_mut().map(Memberships::read).transpose();
        let mut promiscuous = Vec::with_capacity(indices.len());
        for &index in indices {
            match self.netlink.is_promiscuous(index) {
                Ok(is_promiscuous) => promiscuous.push((index, is_promiscuous)),
                Err(error) => warn!(%error, "not known who listens"),
            }
        }
        Stacks {
            addresses: addresses.inspect_err(|error| warn!(%error, "addresses not read")).ok(),
            memberships: memberships
                .inspect_err(|error| warn!(%error, "memberships of multicast groups not read"))
                .unwrap_or_default(),
            promiscuous,
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
