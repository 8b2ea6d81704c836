//! What a lab runs, from the platform file.

mod outside;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use platform::{Fabric, InterfaceAddress, Leg, Management, Platform};

pub use self::outside::{DevicePlan, HostPlan, NetworkPlan};
use super::namespace::Privilege;
use crate::failure::{Doing, Failure};
use crate::runtime::WaitPolicy;

/// What a lab runs.
#[derive(Clone, Debug)]
pub struct LabPlan {
    /// The platform's name: prefix of the namespaces.
    pub name: String,
    /// The platform file, absolute.
    pub file: PathBuf,
    /// The folder it is in.
    pub folder: PathBuf,
    /// Names of the control nodes.
    pub control_nodes: Vec<String>,
    /// Names of the nodes.
    pub nodes: Vec<String>,
    /// The fabrics.
    pub fabrics: Vec<FabricPlan>,
    /// The networks outside.
    pub networks: Vec<NetworkPlan>,
    /// Every unix socket that a control node listens on, absolute: what a killed one leaves behind.
    pub sockets: Vec<PathBuf>,
    /// Whether a process that dies is started again.
    pub restart: bool,
    /// Whether namespaces get names that `ip netns` knows; needs root.
    pub named_namespaces: bool,
    /// Whether the lab made a user namespace for itself, which others must enter first.
    pub own_user_namespace: bool,
    /// What every process does when it has nothing to do.
    pub wait: WaitPolicy,
    /// Where each process writes its messages, as `NAME.log`; to the lab's own standard error when absent.
    pub logs: Option<PathBuf>,
}

/// Who is with whom in a network namespace, of the processes of a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Each is in one of its own.
    Own,
    /// All are in one that the lab makes.
    Lab,
    /// All are where the supervisor is.
    Supervisor,
}

/// A fabric of a lab.
#[derive(Clone, Debug)]
pub struct FabricPlan {
    /// Its name.
    pub name: String,
    /// Its MTU in octets.
    pub mtu: u16,
    /// The address of each process in its lab network: the control nodes, then the nodes, as in the plan. Empty when
    /// it has no lab network.
    pub addresses: Vec<InterfaceAddress>,
}

impl FabricPlan {
    /// True when the lab stands for the fabric with a bridge.
    #[must_use]
    pub fn has_lab_network(&self) -> bool {
        !self.addresses.is_empty()
    }
}

impl LabPlan {
    /// The names of all processes: the control nodes, then the nodes.
    pub fn processes(&self) -> impl Iterator<Item = &str> {
        self.control_nodes.iter().chain(&self.nodes).map(String::as_str)
    }

    /// What the underlays of the processes are.
    #[must_use]
    pub fn sharing(&self) -> Sharing {
        if self.fabrics.iter().any(FabricPlan::has_lab_network) {
            Sharing::Own
        } else if self.networks.is_empty() {
            Sharing::Supervisor
        } else {
            Sharing::Lab
        }
    }

    /// The hosts outside, network by network.
    pub fn hosts(&self) -> impl Iterator<Item = &HostPlan> {
        self.networks.iter().flat_map(|network| &network.hosts)
    }

    /// What has a namespace for its interfaces: the nodes, then the hosts outside.
    pub fn stations(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(String::as_str).chain(self.hosts().map(|host| host.name.as_str()))
    }

    /// The name of the namespace of a node or host outside, when namespaces have names.
    #[must_use]
    pub fn namespace_name(&self, station: &str) -> String {
        format!("{}-{station}", self.name)
    }
}

/// What a lab of `platform` runs.
///
/// # Errors
///
/// When the platform file has been moved away, or a leg, an uplink or a host outside asks for what it cannot have in a lab.
pub fn plan_of(platform: &Platform, restart: bool, privilege: Privilege) -> Result<LabPlan, Failure> {
    let file = platform.path.canonicalize().doing(format_args!("cannot find {}", platform.path.display()))?;
    let folder = file.parent().unwrap_or(Path::new("/")).to_owned();
    let sockets = platform.control_nodes.iter().flat_map(|control_node| {
        let legs = control_node.legs.iter().flatten().filter_map(|leg| match leg {
            Leg::Unix { path } => path.clone(),
            Leg::Udp { .. } | Leg::Ether { .. } => None,
        });
        let management = match &control_node.management {
            Management::Unix(path) => Some(path.clone()),
            Management::Tcp(_) => None,
        };
        legs.chain(management)
    });
    let plan = LabPlan {
        name: platform.name.clone(),
        sockets: sockets.collect(),
        control_nodes: platform.control_nodes.iter().map(|control_node| control_node.name.clone()).collect(),
        nodes: platform.nodes.iter().map(|node| node.name.clone()).collect(),
        fabrics: platform.fabrics.iter().map(|fabric| fabric_plan(platform, fabric)).collect(),
        networks: outside::networks_of(platform)?,
        folder,
        file,
        restart,
        named_namespaces: privilege == Privilege::Root,
        own_user_namespace: privilege == Privilege::None,
        wait: WaitPolicy::Interrupt,
        logs: None,
    };
    outside::check_names(&plan)?;
    check_legs(platform, plan.sharing())?;
    Ok(plan)
}

fn fabric_plan(platform: &Platform, fabric: &Fabric) -> FabricPlan {
    let addresses = processes(platform).filter_map(|name| platform.lab_address(name, fabric.index));
    FabricPlan { name: fabric.name.clone(), mtu: fabric.mtu, addresses: addresses.collect() }
}

fn processes(platform: &Platform) -> impl Iterator<Item = &str> {
    let control_nodes = platform.control_nodes.iter().map(|control_node| control_node.name.as_str());
    control_nodes.chain(platform.nodes.iter().map(|node| node.name.as_str()))
}

//= spec/lab.md#written-addresses
//# A lab with lab networks MUST refuse a udp leg whose written address is not that of its process on the leg's fabric, and
//# an ether leg whose written device is not the fabric's.
//= spec/lab.md#legs-in-the-shared-underlay
//# A lab whose processes share a namespace of the lab's own MUST refuse a udp leg whose written address is not one of
//# loopback, and every ether leg.
fn check_legs(platform: &Platform, sharing: Sharing) -> Result<(), Failure> {
    for fabric in &platform.fabrics {
        for name in processes(platform) {
            let own = platform.lab_address(name, fabric.index);
            if let Some(written) = platform.udp_address(name, fabric.index)
                && !has_address(sharing, own, written.ip())
            {
                return Err(refuse_address(name, fabric, written.ip(), own));
            }
            if let Some((device, _)) = platform.ether_device(name, fabric.index)
                && sharing != Sharing::Supervisor
                && (own.is_none() || device != fabric.name)
            {
                return Err(refuse_device(name, fabric, device));
            }
        }
    }
    Ok(())
}

/// True when a process has the address, whose own one in the fabric's lab network is `own`.
fn has_address(sharing: Sharing, own: Option<InterfaceAddress>, address: IpAddr) -> bool {
    match sharing {
        Sharing::Own => own.is_some_and(|own| own.address == address),
        Sharing::Lab => address.is_loopback(),
        // What the machine has, nobody knows here.
        Sharing::Supervisor => true,
    }
}

fn refuse_device(name: &str, fabric: &Fabric, device: &str) -> Failure {
    let error = format!("the ether leg of {name} on fabric {:?} finds no {device} in this lab", fabric.name);
    Failure::usage(error).hint(match fabric.lab_network {
        Some(_) => "write \"ether\": it then has the lab network's interface",
        None => {
            "give the fabric a lab-network, and write \"ether\": no process of this lab is in the machine's \
                 network namespace"
        }
    })
}

fn refuse_address(name: &str, fabric: &Fabric, written: IpAddr, own: Option<InterfaceAddress>) -> Failure {
    let error =
        format!("the udp leg of {name} on fabric {:?} cannot have {written} in this lab", fabric.name);
    Failure::usage(error).hint(match own {
        Some(own) => format!("write \"udp\": it then has the lab network's {}", own.address),
        None => {
            "give the fabric a lab-network, and write \"udp\": no process of this lab is in the machine's \
                 network namespace"
                .to_owned()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLATFORM: &str = r#"
        [platform]
        name = "lab"
        [[fabric]]
        name = "a"
        lab-network = "172.31.1.0/24"
        [[fabric]]
        name = "b"
        [[control-node]]
        name = "cn-a"
        serial = 1
        legs = { a = ["unix:run/a.sock", "udp"], b = "unix:run/b.sock" }
        [[node]]
        name = "web2"
        number = 2
        legs = { a = ["unix", "udp"] }
        [[node]]
        name = "web1"
        number = 1
        legs = { a = "udp", b = "unix" }
    "#;

    pub(super) fn plan(text: &str) -> Result<LabPlan, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        std::fs::write(&file, text).unwrap();
        plan_of(&Platform::load(&file).unwrap(), true, Privilege::None)
    }

    #[test]
    fn each_process_has_an_address_on_each_fabric_with_a_lab_network() {
        let plan = plan(PLATFORM).unwrap();
        assert_eq!(plan.sharing(), Sharing::Own);
        let addresses = plan.fabrics[0].addresses.iter().map(|own| own.address.to_string());
        let named: Vec<_> = plan.processes().map(str::to_owned).zip(addresses).collect();
        let expected = [("cn-a", "172.31.1.1"), ("web2", "172.31.1.3"), ("web1", "172.31.1.2")];
        assert_eq!(named, expected.map(|(name, address)| (name.to_owned(), address.to_owned())));
        assert!(!plan.fabrics[1].has_lab_network());
    }

    #[test]
    fn without_lab_networks_there_are_no_underlays_and_addresses_are_as_written() {
        let text = PLATFORM.replace("lab-network = \"172.31.1.0/24\"", "");
        let text = text.replace("\"udp\"", "\"udp:127.0.0.1:7401\"");
        // Each port stands once.
        let text = text.replacen(":7401", ":7402", 1).replacen(":7401", ":7403", 1);
        assert_eq!(plan(&text).unwrap().sharing(), Sharing::Supervisor);
    }

    #[test]
    fn a_written_address_that_the_process_does_not_have_is_refused() {
        //= spec/lab.md#written-addresses
        //= type=test
        //# A lab with lab networks MUST refuse a udp leg whose written address is not that of its process on the leg's
        //# fabric, and an ether leg whose written device is not the fabric's.
        let node = "legs = { a = [\"unix\", \"udp\"] }";
        let with =
            |leg: &str| plan(&PLATFORM.replace(node, &format!("legs = {{ a = [\"unix\", \"{leg}\"] }}")));
        assert!(with("udp:172.31.1.3").is_ok());
        assert!(with("udp:172.31.1.3:80").is_ok());
        let refused = with("udp:127.0.0.1").unwrap_err().to_string();
        assert!(refused.contains("web2") && refused.contains("172.31.1.3"), "{refused}");
        assert!(with("ether").is_ok() && with("ether:a").is_ok());
        let refused = with("ether:eth1").unwrap_err().to_string();
        assert!(refused.contains("web2") && refused.contains("eth1"), "{refused}");
        let elsewhere = node.replace("] }", "], b = \"udp:127.0.0.1\" }");
        let refused = plan(&PLATFORM.replace(node, &elsewhere)).unwrap_err().to_string();
        assert!(refused.contains("\"b\"") && refused.contains("lab-network"), "{refused}");
    }
}
