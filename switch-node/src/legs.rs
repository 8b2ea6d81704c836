//! The packet legs of a process as the platform file has them: where its own end, and where those of a control node do.

use platform::model::Fabric;
use platform::{ControlNode, Leg, Node, Platform};
use rvi::host::ether::{EtherDriver, EtherPlace};
use rvi::host::packets::{LegPlace, LegWay, PacketSockets};
use tracing::{info, warn};
use vlan_core::wire::control::{GrantedLeg, LegAddress, LegKind};
use vlan_core::{EtherAddress, FabricIndex, LegNumber};

/// Where the packet legs of a process end, a control node or node by name: of each kind one at most on each fabric.
#[must_use]
pub fn places(platform: &Platform, process: &str) -> Vec<(LegNumber, LegPlace)> {
    let mut places = Vec::new();
    for fabric in &platform.fabrics {
        let leg = LegNumber(fabric.index.0);
        let udp = platform.udp_address(process, fabric.index).map(LegPlace::Udp);
        let ether = platform.ether_device(process, fabric.index).zip(platform.ether_port(process));
        let ether = ether.map(|((device, driver), port)| {
            LegPlace::Ether(EtherPlace { device: device.to_owned(), port, driver: driver_of(driver) })
        });
        places.extend([udp, ether].into_iter().flatten().map(|place| (leg, place)));
    }
    places
}

fn driver_of(driver: platform::EtherDriver) -> EtherDriver {
    match driver {
        platform::EtherDriver::Auto => EtherDriver::Auto,
        platform::EtherDriver::AfXdp => EtherDriver::AfXdp,
        platform::EtherDriver::AfPacket => EtherDriver::AfPacket,
    }
}

/// Where a control node receives what a node sends by packets: on each fabric by the first kind in the node's list that
/// both have there.
#[must_use]
pub fn towards(platform: &Platform, control_node: &ControlNode, node: &Node) -> Vec<GrantedLeg> {
    let leg = |fabric: &Fabric| {
        let legs = |legs: &[Vec<Leg>]| legs.get(usize::from(fabric.index.0)).cloned().unwrap_or_default();
        let theirs: Vec<LegKind> = legs(&control_node.legs).iter().map(Leg::kind).collect();
        let own = legs(&node.legs);
        let kinds = own.iter().map(Leg::kind).filter(|kind| theirs.contains(kind));
        let address = kinds.filter_map(|kind| address(platform, control_node, fabric.index, kind)).next()?;
        Some(GrantedLeg {
            leg: LegNumber(fabric.index.0),
            address,
            is_trusted: fabric.trusted,
            fabric_key: platform.fabric_key(fabric.index),
        })
    };
    platform.fabrics.iter().filter_map(leg).collect()
}

/// Says how the devices of ether legs are driven, where that is not as it was said before; gives each such leg, and whether it goes
/// by AF_XDP, to `tell`.
pub fn log_ways(sockets: &mut PacketSockets, mut tell: impl FnMut(LegNumber, bool)) {
    while let Some(LegWay { leg, place, way }) = sockets.poll_way() {
        tell(leg, way.driver() == EtherDriver::AfXdp);
        let (device, driver, asked) = (place.device, way.driver(), place.driver);
        if asked == EtherDriver::Auto || asked == driver {
            info!(%leg, device, %driver, %asked, %way, "the device of an ether leg");
        } else {
            warn!(%leg, device, %driver, %asked, %way, "the device of an ether leg is not driven as asked");
        }
    }
}

fn address(
    platform: &Platform,
    control_node: &ControlNode,
    fabric: FabricIndex,
    kind: LegKind,
) -> Option<LegAddress> {
    match kind {
        LegKind::Unix => None,
        LegKind::Udp => platform.udp_address(&control_node.name, fabric).map(LegAddress::Udp),
        LegKind::Ether => Some(LegAddress::Ether(EtherAddress::of_control_node(control_node.serial))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

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
        serial = 5
        legs = { a = ["udp", "ether::af-xdp"], b = "ether:eth7:af-packet" }
        [[node]]
        name = "web1"
        number = 3
        legs = { a = ["ether", "udp"], b = "ether:eth1" }
        [[node]]
        name = "web2"
        number = 4
        legs = { a = ["udp", "ether"] }
    "#;

    #[test]
    fn a_process_has_its_devices_and_its_port() {
        let platform = Platform::parse(PLATFORM, Path::new("p.toml")).unwrap();
        let told = |process: &str| -> Vec<String> {
            let place = |(leg, place): &(LegNumber, LegPlace)| match place {
                LegPlace::Udp(address) => format!("{leg} {address}"),
                LegPlace::Ether(place) => format!("{leg} {}/{} {}", place.device, place.port, place.driver),
            };
            places(&platform, process).iter().map(place).collect()
        };
        assert_eq!(told("web1"), ["0 172.31.1.2:0", "0 a/3 auto", "1 eth1/3 auto"]);
        assert_eq!(told("cn-a"), ["0 172.31.1.1:7401", "0 a/65541 af-xdp", "1 eth7/65541 af-packet"]);
    }

    #[test]
    fn a_control_node_is_reached_by_the_kind_that_the_node_names_first() {
        let platform = Platform::parse(PLATFORM, Path::new("p.toml")).unwrap();
        let told = |node: &str| -> Vec<String> {
            let legs = towards(&platform, &platform.control_nodes[0], platform.node(node).unwrap());
            legs.iter().map(|leg| format!("{} {}", leg.leg, leg.address)).collect()
        };
        let group = "03:57:65:66:74:01/65541";
        assert_eq!(told("web1"), [format!("0 {group}"), format!("1 {group}")]);
        assert_eq!(told("web2"), ["0 172.31.1.1:7401"]);
    }
}
