//! Which devices of this host lead outside: their numbers, and how they change with the platform file.

use lan_proxy::Mode;
use lan_proxy::nic::{Driver, Nic};
use platform::{ControlNode as Entry, Platform, Uplink, UplinkPort};
use tracing::info;

use crate::control_node::{DeviceNumber, LanConfig};
use crate::failure::Failure;

/// The devices of a control node that lead outside, each at the place that is its number. A number is a device's for as long as an
/// uplink goes by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    /// The control node, by its place in the file.
    control_node: usize,
    ports: Vec<Option<DevicePort>>,
}

/// A device as the platform file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePort {
    /// Its name.
    pub name: String,
    /// How it is to be driven.
    pub driver: Driver,
}

/// The modes of the uplinks of each device.
pub type Modes = Vec<(DeviceNumber, Vec<Mode>)>;

/// What becomes of the devices with another platform file.
#[derive(Debug, Default)]
pub struct DeviceChanges {
    /// Nothing leaves by these any more.
    pub closed: Vec<DeviceNumber>,
    /// They are new, and open.
    pub opened: Vec<(DeviceNumber, Nic)>,
    /// The modes of the uplinks of each device.
    pub modes: Modes,
}

impl Devices {
    /// Those of the control node `entry`, each once.
    #[must_use]
    pub fn of(platform: &Platform, entry: &Entry) -> Self {
        let place = platform.control_nodes.iter().position(|other| other.name == entry.name);
        Self { control_node: place.unwrap_or(0), ports: Vec::new() }.with(platform)
    }

    /// Those of the same control node by another platform file. One that stays as it is keeps its number, and none gets that of one that
    /// goes.
    #[must_use]
    pub fn with(&self, platform: &Platform) -> Self {
        let uplinks = platform.lans.iter().filter_map(|lan| lan.uplink.as_ref());
        let named = uplinks.filter_map(|uplink| {
            let port = port_at(self.control_node, uplink)?;
            Some(DevicePort { name: port.device.clone(), driver: driver_of(uplink) })
        });
        let named: Vec<DevicePort> = named.collect();
        let stays = |port: &Option<DevicePort>| port.clone().filter(|port| named.contains(port));
        let mut ports: Vec<Option<DevicePort>> = self.ports.iter().map(stays).collect();
        for port in named {
            if ports.iter().flatten().any(|other| *other == port) {
                continue;
            }
            let is_vacant =
                |&place: &usize| ports[place].is_none() && self.ports.get(place).is_none_or(Option::is_none);
            let vacant = (0..ports.len()).find(is_vacant).unwrap_or(ports.len());
            if vacant == ports.len() {
                ports.push(None);
            }
            ports[vacant] = Some(port);
        }
        Self { control_node: self.control_node, ports }
    }

    /// How many numbers there are, those of no device included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.ports.len()
    }

    /// Each device and its number.
    pub fn iter(&self) -> impl Iterator<Item = (DeviceNumber, &DevicePort)> {
        (0..).map(DeviceNumber).zip(&self.ports).filter_map(|(number, port)| Some((number, port.as_ref()?)))
    }

    /// The device by which an uplink leaves here.
    #[must_use]
    pub fn number_of(&self, uplink: &Uplink) -> Option<DeviceNumber> {
        let port = port_at(self.control_node, uplink)?;
        self.iter().find(|(_, own)| own.name == port.device).map(|(number, _)| number)
    }

    /// True for an uplink that leaves here.
    #[must_use]
    pub fn are_of(&self, uplink: &Uplink) -> bool {
        port_at(self.control_node, uplink).is_some()
    }

    /// Opens those that `former` does not have, and closes none.
    ///
    /// # Errors
    ///
    /// When one cannot be opened.
    //= spec/control-node.md#devices-of-an-applied-file
    //# A control node MUST open the devices that come with a file before anything of it is in use, and refuse the file when one
    //# cannot be opened.
    pub fn open_after(&self, former: &Self) -> Result<DeviceChanges, Failure> {
        let has = |devices: &Self, number: DeviceNumber| devices.iter().any(|(own, _)| own == number);
        let closed = former.iter().map(|(number, _)| number).filter(|number| !has(self, *number));
        let added = self.iter().filter(|(number, _)| !has(former, *number));
        let opened = added.map(|(number, port)| Ok((number, port.open()?)));
        Ok(DeviceChanges {
            closed: closed.collect(),
            opened: opened.collect::<Result<_, _>>()?,
            modes: Vec::new(),
        })
    }

    /// The modes of the uplinks of each device.
    pub fn modes<'l>(&self, lans: impl Iterator<Item = &'l LanConfig> + Clone) -> Modes {
        let of = |number: DeviceNumber| {
            let uplinks = lans.clone().filter_map(|lan| lan.uplink.as_ref());
            uplinks.filter(|uplink| uplink.device == number).map(|uplink| uplink.mode).collect()
        };
        self.iter().map(|(number, _)| (number, of(number))).collect()
    }
}

impl DevicePort {
    /// What it is to hear is known when its uplinks have their MACs.
    fn open(&self) -> Result<Nic, Failure> {
        let nic = Nic::open(&self.name, self.driver, &[]).map_err(|error| {
            let hint = error.hint();
            Failure::runtime(error).hint(hint)
        })?;
        let way = match (&nic, self.driver) {
            (Nic::AfXdp(nic), _) => nic.way(),
            // `benches/README.md`.
            (_, Driver::Auto) => {
                "by the kernel, which leaves super-frames whole: TCP comes in twice as fast as by AF_XDP"
            }
            _ => "by the kernel",
        };
        info!(device = self.name, driver = %nic.driver(), asked = %self.driver, way, "a device for uplinks");
        Ok(nic)
    }
}

/// Where an uplink leaves by a device of the control node at a place of the file.
fn port_at(control_node: usize, uplink: &Uplink) -> Option<&UplinkPort> {
    uplink.ports.iter().find(|port| port.control_node == control_node)
}

fn driver_of(uplink: &Uplink) -> Driver {
    match uplink.driver {
        platform::Driver::Auto => Driver::Auto,
        platform::Driver::AfXdp => Driver::AfXdp,
        platform::Driver::AfPacket => Driver::AfPacket,
        platform::Driver::Tap => Driver::Tap,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// The demo's platform with a LAN for each device, driven so.
    fn platform(devices: &[(&str, &str)]) -> Platform {
        let mut text = crate::demo::PLATFORM.to_owned();
        for (id, (device, driver)) in (100..).zip(devices) {
            text += &format!(
                "[[lan]]\nname = \"l{id}\"\nid = {id}\n[[lan.member]]\nnode = \"web1\"\n[lan.uplink]\nmode = \"unfiltered\"\n\
                 vid = {id}\ndriver = \"{driver}\"\nports = [{{ control-node = \"cn-a\", device = \"{device}\" }}]\n"
            );
        }
        Platform::parse(&text, Path::new("/tmp/demo.toml")).unwrap()
    }

    fn numbered(devices: &Devices) -> Vec<(u16, &str)> {
        devices.iter().map(|(number, port)| (number.0, port.name.as_str())).collect()
    }

    #[test]
    fn a_device_keeps_its_number_and_none_gets_that_of_one_that_goes() {
        let first = platform(&[("eth1", "auto"), ("eth2", "auto"), ("eth1", "auto")]);
        let first = Devices::of(&first, &first.control_nodes[0]);
        assert_eq!(numbered(&first), [(0, "eth1"), (1, "eth2")]);
        let second = first.with(&platform(&[("eth3", "auto"), ("eth2", "auto")]));
        assert_eq!(numbered(&second), [(1, "eth2"), (2, "eth3")]);
        let third = second.with(&platform(&[("eth4", "auto"), ("eth3", "auto")]));
        assert_eq!((numbered(&third), third.count()), (vec![(0, "eth4"), (2, "eth3")], 3));
        // Driven otherwise it is opened anew.
        let fourth = third.with(&platform(&[("eth4", "af-packet"), ("eth3", "auto")]));
        assert_eq!(numbered(&fourth), [(1, "eth4"), (2, "eth3")]);
    }

    #[test]
    fn a_file_with_a_device_that_is_not_there_is_refused() {
        //= spec/control-node.md#devices-of-an-applied-file
        //= type=test
        //# A control node MUST open the devices that come with a file before anything of it is in use, and refuse the file when one
        //# cannot be opened.
        let none = platform(&[]);
        let none = Devices::of(&none, &none.control_nodes[0]);
        let refused = none.with(&platform(&[("no-such-dev", "auto")])).open_after(&none).unwrap_err();
        assert!(refused.to_string().contains("no-such-dev"), "{refused}");
        let former = none.with(&platform(&[("no-such-dev", "auto")]));
        let changes = former.with(&platform(&[])).open_after(&former).unwrap();
        assert_eq!((changes.closed, changes.opened.len()), (vec![DeviceNumber(0)], 0));
    }
}
