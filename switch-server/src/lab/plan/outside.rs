//! The networks outside of the uplinks: who is joined with whom.

use platform::{Driver, InterfaceAddress, OutsideHost, Platform, Uplink, UplinkPort};

use super::{LabPlan, Sharing};
use crate::failure::Failure;

/// A network outside: what one bridge joins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkPlan {
    /// Devices of uplinks; one at least.
    pub devices: Vec<DevicePlan>,
    /// Its hosts.
    pub hosts: Vec<HostPlan>,
}

/// A device of a control node that leads to a network outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePlan {
    /// The control node, by its place in the plan.
    pub control_node: usize,
    /// The device's name there.
    pub name: String,
    /// It is to be a TAP device.
    pub is_tap: bool,
}

/// A host outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPlan {
    /// Its name.
    pub name: String,
    /// The addresses of its interface.
    pub addresses: Vec<InterfaceAddress>,
}

/// The networks outside of a platform, in any order.
///
/// # Errors
///
/// When a host is outside of a LAN whose uplink has a tag.
pub(super) fn networks_of(platform: &Platform) -> Result<Vec<NetworkPlan>, Failure> {
    let mut networks = Vec::new();
    for uplink in platform.lans.iter().filter_map(|lan| lan.uplink.as_ref()) {
        join(&mut networks, devices_of(uplink));
    }
    for host in &platform.outside {
        // A reader of the file has made sure that the LAN is there and has an uplink.
        let Some(lan) = platform.lans.iter().find(|lan| lan.id == host.lan) else { continue };
        let Some(uplink) = &lan.uplink else { continue };
        check_tag(host, &lan.name, uplink)?;
        let devices = devices_of(uplink);
        if let Some(network) = networks.iter_mut().find(|network| shares_device(network, &devices)) {
            let (name, addresses) = (host.name.clone(), host.addresses.clone());
            network.hosts.push(HostPlan { name, addresses });
        }
    }
    Ok(networks)
}

/// Adds the devices of one LAN: all networks that have any of them become one.
//= spec/lab.md#networks-outside
//# A lab MUST join the devices of the uplinks of one LAN, and those of LANs that share a device, with the hosts outside of
//# these LANs and with nothing else.
fn join(networks: &mut Vec<NetworkPlan>, devices: Vec<DevicePlan>) {
    let mut joined: Vec<NetworkPlan> =
        networks.extract_if(.., |network| shares_device(network, &devices)).collect();
    joined.push(NetworkPlan { devices, hosts: Vec::new() });
    let mut all = NetworkPlan::default();
    for device in joined.into_iter().flat_map(|network| network.devices) {
        if !all.devices.contains(&device) {
            all.devices.push(device);
        }
    }
    networks.push(all);
}

fn shares_device(network: &NetworkPlan, devices: &[DevicePlan]) -> bool {
    network.devices.iter().any(|device| devices.contains(device))
}

fn devices_of(uplink: &Uplink) -> Vec<DevicePlan> {
    let is_tap = uplink.driver == Driver::Tap;
    let device =
        |port: &UplinkPort| DevicePlan { control_node: port.control_node, name: port.device.clone(), is_tap };
    uplink.ports.iter().map(device).collect()
}

//= spec/lab.md#hosts-of-tagged-networks
//# A lab MUST refuse a host outside of a LAN whose uplink has an 802.1Q tag.
fn check_tag(host: &OutsideHost, lan: &str, uplink: &Uplink) -> Result<(), Failure> {
    let Some(vid) = uplink.vid else { return Ok(()) };
    let error = format!("the host {} outside of LAN {lan:?} would need the 802.1Q tag {vid}", host.name);
    Err(Failure::usage(error).hint(
        "hosts of a lab speak no tags: leave `vid` out, or have a host of an untagged LAN on the same device send tagged \
         frames by a packet socket",
    ))
}

/// Makes sure that each device can have its name where it is to be.
//= spec/lab.md#names-of-devices
//# A lab MUST refuse a file that puts two devices, or a device and a lab network's interface, of one name into one
//# underlay.
pub(super) fn check_names(plan: &LabPlan) -> Result<(), Failure> {
    let devices: Vec<&DevicePlan> = plan.networks.iter().flat_map(|network| &network.devices).collect();
    for (place, device) in devices.iter().enumerate() {
        let other = devices[..place].iter().find(|other| other.name == device.name);
        if let Some(other) = other.filter(|_| plan.sharing() == Sharing::Lab) {
            let names = [other.control_node, device.control_node].map(|place| &plan.control_nodes[place]);
            let error = format!(
                "{} and {} both have an uplink by {:?}, and share their devices in this lab",
                names[0], names[1], device.name
            );
            return Err(Failure::usage(error)
                .hint("give the fabrics lab-networks: each control node is then a machine of its own"));
        }
        let mut fabrics = plan.fabrics.iter().filter(|fabric| fabric.has_lab_network());
        if fabrics.any(|fabric| fabric.name == device.name) {
            let error = format!(
                "{} has an uplink by {:?}, which is its interface in the lab network of that fabric",
                plan.control_nodes[device.control_node], device.name
            );
            return Err(Failure::usage(error).hint("give the device or the fabric another name"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan;
    use super::*;

    const HEAD: &str = r#"
        [platform]
        name = "lab"
        [[fabric]]
        name = "a"
        [[control-node]]
        name = "cn-a"
        serial = 1
        legs = { a = ["unix:run/a.sock", "udp:127.0.0.1:7401"] }
        [[control-node]]
        name = "cn-b"
        serial = 2
        legs = { a = "unix:run/b.sock" }
        [[node]]
        name = "web1"
        number = 1
        legs = { a = "unix" }
    "#;

    /// A LAN with a tag, 0 for none, and an uplink by these devices, each a control node and a name.
    fn lan(id: u8, vid: u16, ports: &[(&str, &str)]) -> String {
        let ports: Vec<_> = ports
            .iter()
            .map(|(control_node, device)| {
                format!("{{ control-node = \"{control_node}\", device = \"{device}\" }}")
            })
            .collect();
        let vid = if vid == 0 { String::new() } else { format!("vid = {vid}") };
        format!(
            "[[lan]]\nname = \"lan{id}\"\nid = {id}\n[[lan.member]]\nnode = \"web1\"\naddress = \"10.{id}.0.1/24\"\n\
             [lan.uplink]\nmode = \"filtered\"\n{vid}\nports = [{}]\n",
            ports.join(", ")
        )
    }

    fn host(name: &str, lan: u8, last: u8) -> String {
        format!(
            "[[lab.outside]]\nname = \"{name}\"\nlan = \"lan{lan}\"\naddress = \"10.{lan}.0.{last}/24\"\n"
        )
    }

    fn device(control_node: usize, name: &str) -> DevicePlan {
        DevicePlan { control_node, name: name.to_owned(), is_tap: false }
    }

    #[test]
    fn a_network_joins_the_devices_of_a_lan_and_the_lans_of_a_device() {
        //= spec/lab.md#networks-outside
        //= type=test
        //# A lab MUST join the devices of the uplinks of one LAN, and those of LANs that share a device, with the hosts
        //# outside of these LANs and with nothing else.
        let lans = [
            lan(1, 0, &[("cn-a", "eth1")]),
            lan(2, 0, &[("cn-a", "eth2"), ("cn-b", "eth3")]),
            lan(3, 7, &[("cn-a", "eth1")]),
        ];
        let hosts = [host("client", 1, 200), host("printer", 2, 200), host("phone", 2, 201)];
        let plan = plan(&(HEAD.to_owned() + &lans.concat() + &hosts.concat())).unwrap();
        let named: Vec<(Vec<DevicePlan>, Vec<&str>)> = plan
            .networks
            .iter()
            .map(|network| (network.devices.clone(), network.hosts.iter().map(|h| h.name.as_str()).collect()))
            .collect();
        let expected = [
            (vec![device(0, "eth2"), device(1, "eth3")], vec!["printer", "phone"]),
            (vec![device(0, "eth1")], vec!["client"]),
        ];
        assert_eq!(named, expected);
        assert_eq!(plan.sharing(), Sharing::Lab);
        assert_eq!(plan.stations().collect::<Vec<_>>(), ["web1", "printer", "phone", "client"]);
    }

    #[test]
    fn networks_that_a_later_lan_connects_become_one() {
        let lans = [
            lan(1, 0, &[("cn-a", "eth1")]),
            lan(2, 0, &[("cn-b", "eth2")]),
            lan(3, 7, &[("cn-a", "eth1"), ("cn-b", "eth2")]),
        ];
        let plan = plan(&(HEAD.to_owned() + &lans.concat() + &host("client", 2, 200))).unwrap();
        assert_eq!(plan.networks.len(), 1);
        assert_eq!(plan.networks[0].devices, [device(0, "eth1"), device(1, "eth2")]);
        assert_eq!(plan.networks[0].hosts.len(), 1);
    }

    #[test]
    fn a_host_outside_speaks_no_tags() {
        //= spec/lab.md#hosts-of-tagged-networks
        //= type=test
        //# A lab MUST refuse a host outside of a LAN whose uplink has an 802.1Q tag.
        let text = HEAD.to_owned() + &lan(1, 7, &[("cn-a", "eth1")]);
        assert!(plan(&text).is_ok());
        let refused = plan(&(text + &host("client", 1, 200))).unwrap_err().to_string();
        assert!(refused.contains("client") && refused.contains("tag 7"), "{refused}");
        assert!(refused.contains("hint: "), "{refused}");
    }

    #[test]
    fn devices_of_one_name_need_underlays_of_their_own() {
        //= spec/lab.md#names-of-devices
        //= type=test
        //# A lab MUST refuse a file that puts two devices, or a device and a lab network's interface, of one name into one
        //# underlay.
        let text = HEAD.to_owned() + &lan(1, 0, &[("cn-a", "eth1"), ("cn-b", "eth1")]);
        let refused = plan(&text).unwrap_err().to_string();
        assert!(refused.contains("cn-a and cn-b") && refused.contains("lab-network"), "{refused}");
        let apart = text.replace("name = \"a\"", "name = \"a\"\nlab-network = \"172.31.1.0/24\"");
        let apart = apart.replace("udp:127.0.0.1:7401", "udp");
        assert_eq!(plan(&apart).unwrap().networks[0].devices.len(), 2);
        let taken = apart.replacen("device = \"eth1\"", "device = \"a\"", 1);
        let refused = plan(&taken).unwrap_err().to_string();
        assert!(refused.contains("\"a\"") && refused.contains("lab network"), "{refused}");
    }

    #[test]
    fn in_the_shared_underlay_there_is_loopback_alone() {
        //= spec/lab.md#legs-in-the-shared-underlay
        //= type=test
        //# A lab whose processes share a namespace of the lab's own MUST refuse a udp leg whose written address is not one of
        //# loopback, and every ether leg.
        let text = HEAD.to_owned() + &lan(1, 0, &[("cn-a", "eth1")]);
        assert!(plan(&text).is_ok());
        for (leg, named) in [("udp:192.0.2.1:7401", "192.0.2.1"), ("ether:eth9", "eth9")] {
            let refused = plan(&text.replace("udp:127.0.0.1:7401", leg)).unwrap_err().to_string();
            assert!(refused.contains("cn-a") && refused.contains(named), "{refused}");
            assert!(plan(&HEAD.replace("udp:127.0.0.1:7401", leg)).is_ok(), "in the machine's own namespace");
        }
    }
}
