//! What stands for the machines of a platform and the switches between them: a network namespace for each process,
//! with one interface for each fabric that has a lab network, and a bridge for each such fabric.

use std::os::fd::AsFd;
use std::path::Path;

use switch_node::agent::netlink::{InterfaceIndex, Netlink, NetlinkError, VethPair};

use super::namespace::Namespace;
use super::plan::{FabricPlan, LabPlan};
use crate::failure::{Doing, Failure};

/// The underlays of a lab, which end when this is dropped and no process is left in them.
//= spec/lab.md#underlays-have-no-names
//# Underlays, bridges and what joins them MUST be held by descriptors of the lab's processes alone.
pub struct Underlays {
    /// One for each process: the control nodes, then the nodes.
    namespaces: Vec<Namespace>,
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
    /// Makes what the plan's lab networks ask for, every fabric up; none when there is no lab network.
    ///
    /// # Errors
    ///
    /// When the system refuses something. Nothing is left then.
    pub fn make(plan: &LabPlan) -> Result<Option<Self>, Failure> {
        if !plan.has_underlays() {
            return Ok(None);
        }
        let hub = open_netlink(&Namespace::anonymous()?)?;
        let namespaces = plan.processes().map(|_| Namespace::anonymous()).collect::<Result<_, _>>()?;
        let mut underlays = Self { namespaces, bridges: Vec::new(), hub };
        for fabric in plan.fabrics.iter().filter(|fabric| fabric.has_lab_network()) {
            underlays.add_fabric(fabric)?;
        }
        Ok(Some(underlays))
    }

    /// A path at which the underlay of a process can be entered while this lives; processes count from 0, control
    /// nodes first.
    #[must_use]
    pub fn path(&self, process: usize) -> Option<&Path> {
        self.namespaces.get(process).map(Namespace::path)
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
    //# loopback and for each such fabric one interface of the fabric's name, with the fabric's MTU and the process's
    //# address, and nothing else.
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
            let mut underlay = open_netlink(namespace)?;
            let interface = underlay.index_of(&fabric.name).map_err(refuse)?;
            underlay.set_up(interface).map_err(refuse)?;
            underlay.add_sole_address(interface, address).map_err(refuse)?;
        }
        self.bridges.push(Bridge { fabric: fabric.name.clone(), index, ports, is_up: false });
        self.set_fabric(&fabric.name, true).map_err(refuse)?;
        Ok(())
    }
}

/// Speaks route netlink in a namespace, which lives as long as what this gives.
fn open_netlink(namespace: &Namespace) -> Result<Netlink, Failure> {
    let opening = "cannot reach an underlay's network namespace";
    let descriptor = namespace.as_fd().try_clone_to_owned().doing(opening)?;
    let entered = switch_node::agent::namespace::Namespace::from_descriptor(descriptor, "of an underlay");
    Netlink::open(&entered.doing(opening)?).doing(opening)
}

fn refuse(fabric: &FabricPlan, error: &NetlinkError) -> Failure {
    let failure = Failure::runtime(format_args!("fabric {}: {error}", fabric.name));
    if error.is_unsupported() {
        return failure
            .hint("lab networks need the kernel's bridges and veth pairs: `modprobe -a bridge veth`");
    }
    failure
}
