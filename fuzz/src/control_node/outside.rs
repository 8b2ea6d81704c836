//! The network outside the LANs' uplinks: what comes in, and what may go out.

use lan_proxy::{Device, Mode, Vid, audit};
use switch_server::control_node::{DeviceNumber, DeviceState, UplinkConfig};
use vlan_core::cluster::DefaultRouter;
use vlan_core::wire::Vnet;
use vlan_core::{MacAddress, NodeNumber};

use super::Run;
use super::platform::interface;
use crate::script::Script;

const DEVICE: DeviceNumber = DeviceNumber(0);
/// What outside sees of the first LAN.
const SYSTEM: MacAddress = MacAddress([2, 0x77, 0, 0, 0, 1]);
/// The tag of the second.
const TAG: u16 = 7;

/// The first LAN shows one MAC, the second those of its members behind a tag, by the same device.
pub(super) fn uplink(is_first: bool) -> UplinkConfig {
    let (mode, vid) =
        if is_first { (Mode::Filtered { system: SYSTEM }, None) } else { (Mode::Unfiltered, Vid::new(TAG)) };
    let (default_router, link_dependency) =
        (is_first.then_some(DefaultRouter::Node(NodeNumber(1))), is_first);
    UplinkConfig { mode, vid, device: DEVICE, default_router, link_dependency }
}

impl Run {
    /// The device is found like this.
    pub(super) fn device(&mut self, script: &mut Script<'_>) -> Option<()> {
        let (mtu, flags) = ([1500, 1280, 9000, 600][usize::from(script.below(4)?)], script.octet()?);
        let device = Device { mtu, offloads: flags & 1 != 0 };
        self.control_node.handle_device(
            self.now,
            DEVICE,
            DeviceState { device, has_carrier: flags & 2 == 0 },
        );
        Some(())
    }

    /// A frame from outside, right but for what the script changes.
    pub(super) fn comes_in(&mut self, script: &mut Script<'_>) -> Option<()> {
        let source = MacAddress([0x52, 0, 0, 0, 0, script.below(4)?]);
        let destination = match script.below(6)? {
            0 => MacAddress::BROADCAST,
            1 => SYSTEM,
            node => interface(NodeNumber(node.into()), script.below(2)? + 1).1,
        };
        let (kind, from, to) = (script.below(3)?, script.octet()?, script.octet()?);
        let mut frame = match kind {
            0 => {
                let addresses = [from, to].map(|tail| std::net::Ipv4Addr::new(10, 1, 0, tail));
                let operation = arp_server::build::Operation::Request;
                arp_server::build::arp(operation, destination, (source, addresses[0]), addresses[1]).to_vec()
            }
            1 => {
                let header = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, from, 10, 1, 0, to];
                [&destination.0[..], &source.0, &[8, 0], &header, &[0, 9, 0, 9, 0, 8, 0, 0]].concat()
            }
            _ => [&destination.0[..], &source.0, script.block()?].concat(),
        };
        let mut vnet = Vnet::default();
        match script.below(8)? {
            0 => drop(frame.splice(12..12, [0x81, 0, 0, TAG as u8])),
            1 => drop(frame.splice(12..12, [0x81, 0, script.octet()?, script.octet()?])),
            2 => frame[usize::from(script.below(60)?) % 12] = script.octet()?,
            3 => frame.truncate(script.octet()?.into()),
            4 => vnet = script.octets(10)?.first_chunk().map(Vnet::parse)?,
            _ => {}
        }
        self.control_node.handle_outside(self.now, DEVICE, &vnet, &mut frame);
        Some(())
    }

    /// The device takes what waits for it, and outside looks at it.
    pub(super) fn goes_out(&mut self) {
        while let Some((_, frame)) = self.control_node.poll_outside(DEVICE) {
            let is_tagged = frame.len() > 14 && frame[12..14] == [0x81, 0];
            if !is_tagged {
                // I-40: it is the first LAN's.
                let members = (1..=3).flat_map(|node| [1, 2].map(|vif| interface(NodeNumber(node), vif).1));
                let stated = audit::stated_macs(frame);
                assert!(members.into_iter().all(|mac| !stated.contains(&mac)), "{stated:?}");
            }
            self.control_node.outside_taken(DEVICE, true);
        }
    }
}
