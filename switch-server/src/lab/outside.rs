//! The networks outside of a lab's uplinks: for each a bridge, which joins the devices of uplinks in the underlays with the
//! hosts outside.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use switch_node::agent::namespace::Namespace as Inside;
use switch_node::agent::netlink::{AddressMonitor, InterfaceIndex, Netlink, NetlinkError, VethPair};
use switch_node::agent::tap;

use super::namespace::Namespace;
use super::plan::{DevicePlan, HostPlan, LabPlan, NetworkPlan};
use super::underlay::Underlays;
use crate::failure::{Doing, Failure};

/// What Ethernet carries (IEEE 802.3-2018, 3.2.7), in octets.
const MTU: u16 = 1500;
/// The interface of a host outside.
const INTERFACE: &str = "eth0";

/// The networks outside, which end when this is dropped.
pub struct Outside {
    hosts: Vec<Host>,
    /// Keeps the namespace alive that holds the bridges.
    _switches: Option<Netlink>,
}

impl Outside {
    /// Makes the plan's networks: the devices in the underlays of their control nodes, and the interfaces of the hosts in
    /// `hosts`, their namespaces in the order of the plan.
    ///
    /// # Errors
    ///
    /// When the system refuses something. What was made ends with the underlays and the namespaces.
    pub fn make(plan: &LabPlan, underlays: Option<&Underlays>, hosts: &[Namespace]) -> Result<Self, Failure> {
        let Some(underlays) = underlays.filter(|_| !plan.networks.is_empty()) else {
            return Ok(Self { hosts: Vec::new(), _switches: None });
        };
        let namespace = Namespace::anonymous()?;
        // Bridges and ports that speak IPv6 would be stations outside.
        set(&namespace.as_agents()?, "ipv6/conf/default/disable_ipv6", "1")?;
        // A switch does not look into packets; netfilter would drop what is odd, and put fragments together.
        for family in ["ip", "ip6", "arp"] {
            set(&namespace.as_agents()?, &format!("bridge/bridge-nf-call-{family}tables"), "0")?;
        }
        let mut maker = Maker { switches: namespace.netlink()?, ports: 0 };
        let mut namespaces = hosts.iter();
        let mut hosts = Vec::with_capacity(plan.hosts().count());
        for (number, network) in plan.networks.iter().enumerate() {
            let bridge = maker.add_bridge(number)?;
            maker.add_devices(network, bridge, plan, underlays)?;
            for (host, namespace) in network.hosts.iter().zip(namespaces.by_ref()) {
                hosts.push(maker.add_host(host, bridge, namespace)?);
            }
        }
        Ok(Self { hosts, _switches: Some(maker.switches) })
    }

    /// True when every host has all of its addresses.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.hosts.iter().all(|host| host.monitor.is_none())
    }

    /// What becomes readable when a host may have become ready.
    pub fn watched(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.hosts.iter().filter_map(|host| host.monitor.as_ref()).map(|monitor| {
            // SAFETY: the monitor, borrowed for as long, keeps its descriptor open.
            unsafe { BorrowedFd::borrow_raw(monitor.as_raw_fd()) }
        })
    }

    /// The next host of which there is news.
    ///
    /// # Errors
    ///
    /// When the kernel does not say which addresses a host has.
    pub fn poll(&mut self) -> Result<Option<(&str, HostNews)>, NetlinkError> {
        for host in &mut self.hosts {
            if let Some(news) = host.poll()? {
                return Ok(Some((&host.name, news)));
            }
        }
        Ok(None)
    }
}

/// What has become of the addresses of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostNews {
    /// It has all of them.
    Ready,
    /// Another station has this one, so the host does not.
    Taken(IpAddr),
}

/// A host outside that has its interface.
struct Host {
    name: String,
    index: InterfaceIndex,
    addresses: Vec<IpAddr>,
    /// Whether its kernel makes a link-local address too.
    has_link_local: bool,
    netlink: Netlink,
    /// None once it is ready.
    monitor: Option<AddressMonitor>,
    taken: Vec<IpAddr>,
}

impl Host {
    //= spec/lab.md#hosts-outside
    //# A lab MUST make for each host outside a network namespace with loopback and an interface `eth0`, which has the host's
    //# addresses and an MTU of 1500 octets, and MUST NOT be ready before these are past duplicate-address detection.
    fn poll(&mut self) -> Result<Option<HostNews>, NetlinkError> {
        if !self.monitor.as_mut().is_some_and(AddressMonitor::has_changed) {
            return Ok(None);
        }
        let all = self.netlink.addresses()?;
        let own: Vec<_> = all.iter().filter(|(index, _)| *index == self.index).map(|(_, own)| own).collect();
        let usable =
            |address: &IpAddr| own.iter().any(|own| own.is_usable && own.address.address == *address);
        let link_local = own.iter().any(|own| own.is_usable && own.is_link_local());
        if self.addresses.iter().all(usable) && (link_local || !self.has_link_local) {
            self.monitor = None;
            return Ok(Some(HostNews::Ready));
        }
        let mut duplicates = own.iter().filter(|own| own.is_duplicate).map(|own| own.address.address);
        let news = duplicates.find(|address| !self.taken.contains(address));
        self.taken.extend(news);
        Ok(news.map(HostNews::Taken))
    }
}

/// Makes bridges and what is joined to them.
struct Maker {
    /// Speaks for the namespace of the bridges.
    switches: Netlink,
    /// How many ports there are.
    ports: usize,
}

impl Maker {
    fn add_bridge(&mut self, number: usize) -> Result<InterfaceIndex, Failure> {
        let made = self.switches.add_bridge(&format!("outside{number}"));
        let raised = made.and_then(|index| self.switches.set_up(index).map(|()| index));
        raised.map_err(|error| refuse("a network outside", &error))
    }

    fn add_devices(
        &mut self,
        network: &NetworkPlan,
        bridge: InterfaceIndex,
        plan: &LabPlan,
        underlays: &Underlays,
    ) -> Result<(), Failure> {
        for device in &network.devices {
            if let Some(underlay) = underlays.namespace(device.control_node) {
                let of =
                    format!("the uplink of {} by {}", plan.control_nodes[device.control_node], device.name);
                self.add_device(device, bridge, underlay, &of)?;
            }
        }
        Ok(())
    }

    //= spec/lab.md#devices-of-uplinks
    //# For each device that an uplink names, a lab MUST make an interface of that name in the underlay of its control node,
    //# which is up, has an MTU of 1500 octets, and on which the kernel itself says nothing.
    fn add_device(
        &mut self,
        device: &DevicePlan,
        bridge: InterfaceIndex,
        underlay: &Namespace,
        of: &str,
    ) -> Result<(), Failure> {
        if device.is_tap {
            return self.add_tap(device, bridge, underlay, of);
        }
        self.add_pair(bridge, &device.name, underlay).map_err(|error| refuse(of, &error))?;
        let mut netlink = underlay.netlink()?;
        let index = netlink.index_of(&device.name).map_err(|error| refuse(of, &error))?;
        raise_silent(underlay, &mut netlink, (&device.name, index), of)
    }

    /// Makes a TAP device that stays, and a bridge beside it that leads to the other end.
    fn add_tap(
        &mut self,
        device: &DevicePlan,
        bridge: InterfaceIndex,
        underlay: &Namespace,
        of: &str,
    ) -> Result<(), Failure> {
        let refuse = |error: NetlinkError| refuse(of, &error);
        let tap = tap::create(&underlay.as_agents()?, &device.name);
        let kept = tap.map_err(|error| {
            let hint = error.hint();
            Failure::runtime(format_args!("{of}: {error}")).hint(hint)
        })?;
        kept.keep().doing(format_args!("{of}: cannot keep the TAP device"))?;
        let mut netlink = underlay.netlink()?;
        let (joint, way) = (format!("joint{}", self.ports), format!("way{}", self.ports));
        let inner = netlink.add_bridge(&joint).map_err(refuse)?;
        self.add_pair(bridge, &way, underlay).map_err(refuse)?;
        for name in [&device.name, &way] {
            let index = netlink.index_of(name).map_err(refuse)?;
            netlink.set_bridge(index, inner).map_err(refuse)?;
            raise_silent(underlay, &mut netlink, (name, index), of)?;
        }
        raise_silent(underlay, &mut netlink, (&joint, inner), of)
    }

    fn add_host(
        &mut self,
        plan: &HostPlan,
        bridge: InterfaceIndex,
        namespace: &Namespace,
    ) -> Result<Host, Failure> {
        let refuse = |error| refuse(&plan.name, &error);
        self.add_pair(bridge, INTERFACE, namespace).map_err(refuse)?;
        let (inside, mut netlink) = (namespace.as_agents()?, namespace.netlink()?);
        // Listens first: that the addresses come is news.
        let monitor = AddressMonitor::open(&inside).map_err(refuse)?;
        let index = netlink.index_of(INTERFACE).map_err(refuse)?;
        netlink.set_up(index).map_err(refuse)?;
        plan.addresses.iter().try_for_each(|address| netlink.add_address(index, *address)).map_err(refuse)?;
        Ok(Host {
            name: plan.name.clone(),
            index,
            addresses: plan.addresses.iter().map(|own| own.address).collect(),
            has_link_local: makes_link_local(&inside),
            netlink,
            monitor: Some(monitor),
            taken: Vec::new(),
        })
    }

    /// Joins a new interface elsewhere, which is down, to a bridge.
    fn add_pair(
        &mut self,
        bridge: InterfaceIndex,
        interface: &str,
        namespace: &Namespace,
    ) -> Result<(), NetlinkError> {
        let port = format!("port{}", self.ports);
        self.ports += 1;
        let namespace = namespace.as_fd();
        let pair = VethPair { port: &port, bridge, interface, namespace, mtu: MTU };
        let index = self.switches.add_veth_pair(&pair)?;
        self.switches.set_up(index)
    }
}

/// Sets an interface up on which the kernel itself says nothing.
fn raise_silent(
    underlay: &Namespace,
    netlink: &mut Netlink,
    (name, index): (&str, InterfaceIndex),
    of: &str,
) -> Result<(), Failure> {
    let inside = underlay.as_agents()?;
    set(&inside, &format!("ipv6/conf/{name}/disable_ipv6"), "1")?;
    // 8: no reply for any local address (Documentation/networking/ip-sysctl.rst).
    set(&inside, &format!("ipv4/conf/{name}/arp_ignore"), "8")?;
    netlink.set_up(index).map_err(|error| refuse(of, &error))
}

/// True when the kernel gives a host's interface a link-local IPv6 address.
fn makes_link_local(namespace: &Inside) -> bool {
    let setting = |key: &str| {
        let path = format!("/proc/sys/net/ipv6/conf/{INTERFACE}/{key}");
        namespace.run(|| fs::read_to_string(path)).ok()
    };
    // addr_gen_mode 1: none (Documentation/networking/ip-sysctl.rst).
    setting("disable_ipv6").is_some_and(|value| value.trim() == "0")
        && setting("addr_gen_mode").is_none_or(|value| value.trim() != "1")
}

/// Changes a setting of a namespace under `/proc/sys/net`; nothing happens when the kernel does not have what it is about.
fn set(namespace: &Inside, setting: &str, value: &str) -> Result<(), Failure> {
    let path = format!("/proc/sys/net/{setting}");
    match namespace.run(|| fs::write(&path, value)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let failure = Failure::runtime(format_args!("cannot write {path}: {error}"));
            Err(failure
                .hint("uplinks of a lab need /proc/sys/net to be writable: `mount -o remount,rw /proc/sys`"))
        }
        _ => Ok(()),
    }
}

fn refuse(what: &str, error: &NetlinkError) -> Failure {
    let failure = Failure::runtime(format_args!("{what}: {error}"));
    if error.is_unsupported() {
        return failure
            .hint("networks outside need the kernel's bridges and veth pairs: `modprobe -a bridge veth`");
    }
    failure
}
