//! What stands for the machines of a platform and the switches between them: a network namespace for each process,
//! with one interface for each fabric that has a lab network, and a bridge for each such fabric. Without lab networks, one
//! namespace for all processes, where there are uplinks.

use std::os::fd::AsFd;
use std::path::Path;

use switch_node::agent::netlink::{InterfaceIndex, Netlink, NetlinkError, VethPair};

use super::namespace::Namespace;
use super::plan::{FabricPlan, LabPlan, Sharing};
use crate::failure::Failure;

/// The underlays of a lab, which end when this is dropped and no process is left in them.
//= spec/lab.md#underlays-have-no-names
//# Underlays, bridges and what joins them MUST be held by descriptors of the lab's processes alone.
pub struct Underlays {
    /// One for each process: the control nodes, then the nodes; or one for all.
    namespaces: Vec<Namespace>,
    is_shared: bool,
    bridges: Vec<Bridge>,
    /// Speaks for the namespace that holds the bridges, and keeps it alive with them.
    hub: Netlink,
}

/// One fabric: a bridge with a port for each process.
struct Bridge {
    fabric: String,
    index: InterfaceIndex,
    ports: Vec<InterfaceIndex>,
    is_up: bool,
}

impl Underlays {
    /// Makes what the plan's lab networks and uplinks ask for, every fabric up; none when there are neither.
    ///
    /// # Errors
    ///
    /// When the system refuses something. Nothing is left then.
    pub fn make(plan: &LabPlan) -> Result<Option<Self>, Failure> {
        let count = match plan.sharing() {
            Sharing::Own => plan.processes().count(),
            Sharing::Lab => 1,
            Sharing::Supervisor => return Ok(None),
        };
        let hub = Namespace::anonymous()?.netlink()?;
        let namespaces = (0..count).map(|_| Namespace::anonymous()).collect::<Result<_, _>>()?;
        let is_shared = plan.sharing() == Sharing::Lab;
        let mut underlays = Self { namespaces, is_shared, bridges: Vec::new(), hub };
        for fabric in plan.fabrics.iter().filter(|fabric| fabric.has_lab_network()) {
            underlays.add_fabric(fabric)?;
        }
        Ok(Some(underlays))
    }

    /// The underlay of a process; processes count from 0, control nodes first.
    //= spec/lab.md#the-shared-underlay
    //# Without lab networks, the processes of a lab whose LANs have uplinks MUST share one network namespace of the lab's
    //# own, which holds loopback and the devices of the uplinks, what joins these, and nothing else.
    #[must_use]
    pub fn namespace(&self, process: usize) -> Option<&Namespace> {
        self.namespaces.get(if self.is_shared { 0 } else { process })
    }

    /// A path at which the underlay of a process can be entered while this lives.
    #[must_use]
    pub fn path(&self, process: usize) -> Option<&Path> {
        self.namespace(process).map(Namespace::path)
    }

    /// The fabrics that can be taken down and up, and whether they are up.
    pub fn fabrics(&self) -> impl Iterator<Item = (&str, bool)> {
        self.bridges.iter().map(|bridge| (bridge.fabric.as_str(), bridge.is_up))
    }

    /// Takes a fabric down or up; gives the number of processes that it joins, or nothing when it is none of these.
    ///
    /// # Errors
    ///
    /// What the kernel says; the fabric may then be partly down.
    //= spec/lab.md#fabrics-down-and-up
    //# A fabric of a lab that is taken down MUST carry no packet until it is taken up again, and each interface on it MUST
    //# lose its carrier and keep its addresses.
    pub fn set_fabric(&mut self, name: &str, up: bool) -> Result<Option<usize>, NetlinkError> {
        let Some(bridge) = self.bridges.iter_mut().find(|bridge| bridge.fabric == name) else {
            return Ok(None);
        };
        bridge.is_up = up;
        if up {
            bridge.ports.iter().try_for_each(|&port| self.hub.set_up(port))?;
            self.hub.set_up(bridge.index)?;
        } else {
            self.hub.set_down(bridge.index)?;
            bridge.ports.iter().try_for_each(|&port| self.hub.set_down(port))?;
        }
        Ok(Some(bridge.ports.len()))
    }

    //= spec/lab.md#underlays
    //# When a fabric has a lab network, each process of the lab MUST run in a network namespace of its own, which holds
    //# loopback, for each such fabric one interface of the fabric's name, with the fabric's MTU and the process's
    //# address, the devices of its uplinks, and nothing else.
    fn add_fabric(&mut self, fabric: &FabricPlan) -> Result<(), Failure> {
        let refuse = |error| refuse(fabric, &error);
        let number = self.bridges.len();
        let index = self.hub.add_bridge(&format!("bridge{number}")).map_err(refuse)?;
        let mut ports = Vec::with_capacity(self.namespaces.len());
        for (process, (namespace, &address)) in self.namespaces.iter().zip(&fabric.addresses).enumerate() {
            let pair = VethPair {
                port: &format!("port{number}-{process}"),
                bridge: index,
                interface: &fabric.name,
                namespace: namespace.as_fd(),
                mtu: fabric.mtu,
            };
            ports.push(self.hub.add_veth_pair(&pair).map_err(refuse)?);
            let mut underlay = namespace.netlink()?;
            let interface = underlay.index_of(&fabric.name).map_err(refuse)?;
            underlay.set_up(interface).map_err(refuse)?;
            underlay.add_sole_address(interface, address).map_err(refuse)?;
        }
        self.bridges.push(Bridge { fabric: fabric.name.clone(), index, ports, is_up: false });
        self.set_fabric(&fabric.name, true).map_err(refuse)?;
        Ok(())
    }
}

fn refuse(fabric: &FabricPlan, error: &NetlinkError) -> Failure {
    let failure = Failure::runtime(format_args!("fabric {}: {error}", fabric.name));
    if error.is_unsupported() {
        return failure
            .hint("lab networks need the kernel's bridges and veth pairs: `modprobe -a bridge veth`");
    }
    failure
}
