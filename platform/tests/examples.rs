//! The platform files that the project ships are read, and say what they seem to say.

use std::path::{Path, PathBuf};
use std::time::Duration;

use platform::{
    Attach, CheckKind, DefaultRouter, LanMulticast, Leg, Limits, Management, Platform, PortSecurity, Rate,
    Roles, Sticky, Subnet, UplinkMode,
};
use vlan_core::{CabinetNumber, ControlNodeSerial, FabricIndex, LanId, NodeNumber};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

fn load(name: &str) -> Platform {
    match Platform::load(&example(name)) {
        Ok(platform) => platform,
        Err(error) => panic!("{}", error.report()),
    }
}

#[test]
fn every_example_is_accepted() {
    let mut count = 0;
    for entry in std::fs::read_dir(example("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".toml") && name != "Cargo.toml" {
            load(&name);
            count += 1;
        }
    }
    assert!(count >= 4);
}

#[test]
fn the_examples_of_what_is_built_ask_for_nothing_else() {
    for name in ["two-lans.toml", "ten-nodes.toml", "mesh24.toml", "uplink.toml"] {
        assert_eq!(load(name).not_built_yet(), [], "{name}");
    }
    assert_eq!(load("mesh24.toml").nodes.len(), 24);
    assert_eq!(load("ten-nodes.toml").lans[0].members.len(), 10);
}

#[test]
fn interfaces_have_the_names_of_their_lans() {
    let platform = load("two-lans.toml");
    let of = |name| {
        let node = platform.node(name).unwrap().number;
        let interfaces = platform.memberships(node).map(|(lan, m)| (lan.id, m.interface.as_str()));
        interfaces.collect::<Vec<_>>()
    };
    assert_eq!(of("web1"), [(LanId(10), "red"), (LanId(20), "blue")]);
    assert_eq!(of("guest"), [(LanId(20), "blue")]);
}

#[test]
fn every_key_arrives_in_the_model() {
    let platform = load("everything.toml");
    assert_eq!((platform.name.as_str(), platform.cabinet), ("lab", CabinetNumber(1)));
    assert!(platform.fabrics[1].trusted && !platform.fabrics[0].trusted);
    let lab_network = Subnet { address: "172.31.1.0".parse().unwrap(), prefix: 24 };
    assert_eq!(platform.fabrics[1].lab_network, Some(lab_network));
    assert_eq!(platform.fabrics.iter().map(|fabric| fabric.mtu).collect::<Vec<_>>(), [1500, 9000]);

    let control_node = platform.control_node("cn-a").unwrap();
    assert_eq!(control_node.serial, ControlNodeSerial(1));
    assert_eq!(control_node.metrics, Some("127.0.0.1:9101".parse().unwrap()));
    assert_eq!(control_node.workers, 1);
    assert!(control_node.unix_leg(FabricIndex(0)).unwrap().ends_with("examples/run/cn-a-a.sock"));
    assert_eq!(control_node.unix_leg(FabricIndex(1)), None);

    let [web1, web2] = ["web1", "web2"].map(|name| platform.node(name).unwrap());
    assert_eq!(web1.host.as_deref(), Some("h1"));
    let loopback = Leg::Udp { address: Some("127.0.0.1".parse().unwrap()), port: None };
    assert_eq!(web1.legs, [vec![Leg::Unix { path: None }], vec![Leg::Unix { path: None }, loopback]]);
    assert!(!web2.has_unix_leg(FabricIndex(0)) && web1.has_unix_leg(FabricIndex(1)));

    let lan = platform.lan("red").unwrap();
    assert_eq!((lan.mtu, lan.port_security), (16_896, PortSecurity::Mac));
    assert_eq!(lan.multicast, LanMulticast::Snoop);
    assert_eq!(lan.members.iter().map(|m| m.every_group).collect::<Vec<_>>(), [false, true, false]);
    let member = &lan.members[0];
    assert_eq!(member.interface, "red0");
    assert_eq!(member.mac.unwrap().to_string(), "52:54:00:00:00:01");
    assert_eq!(member.gateways.len(), 2);
    assert_eq!(member.attach, Attach::Tap);
    let frames = |frames| Rate { frames: Some(frames), bits: None };
    let limits = Limits {
        broadcast: frames(1000),
        multicast: Rate { frames: Some(1000), bits: Some(50_000_000) },
        unknown: frames(100),
        total: Rate { frames: Some(1_000_000), bits: Some(10_000_000_000) },
    };
    assert_eq!(member.limits, limits);
    assert_eq!(lan.members[1].addresses.len(), 1, "one string where a list may stand");
    assert_eq!(lan.members[1].roles, Roles { dhcp_server: true, router: false });
    assert_eq!(lan.members[2].roles, Roles { dhcp_server: true, router: true });
    assert_eq!(lan.members[2].aliases, ["10.1.0.103".parse::<std::net::IpAddr>().unwrap()]);

    let uplink = lan.uplink.as_ref().unwrap();
    assert_eq!((uplink.mode, uplink.vid), (UplinkMode::Filtered, Some(100)));
    assert_eq!(uplink.default_router, Some(DefaultRouter::Node(NodeNumber(3))));
    assert_eq!(uplink.ports[0].control_node, 0);
    let service = &lan.clusters[0].services[0];
    assert_eq!((service.port, service.sticky), (80, Sticky::None));
    assert_eq!(service.servers.iter().map(|s| s.weight).collect::<Vec<_>>(), [1, 2]);
    let check = service.check.as_ref().unwrap();
    assert_eq!(check.kind, CheckKind::Http { path: "/health".into() });
    assert_eq!((check.interval, check.fall, check.rise), (Duration::from_secs(1), 3, 2));
    assert_eq!(platform.outside[0].lan, LanId(10));
}

#[test]
fn what_is_not_built_yet_is_named_with_its_place() {
    //= spec/platform-file.md#not-built-yet
    //= type=test
    //# A key or value whose part is not built yet MUST be accepted by `check` and refused, by name and place, by `run` and
    //# `lab`.
    let text = std::fs::read_to_string(example("everything.toml")).unwrap();
    let text = text.replace("attach = \"tap\"", "attach = \"vhost-user:run/vm.sock\"");
    let platform = Platform::parse(&text, Path::new("p.toml")).unwrap();
    let named: Vec<_> = platform.not_built_yet().iter().map(|n| n.what.as_str()).collect();
    assert!(named.contains(&"a vhost-user attachment"), "{named:?}");
    let attach = platform.not_built_yet().iter().find(|n| n.what == "a vhost-user attachment").unwrap();
    let line = platform.text.lines().nth(attach.position.line as usize - 1).unwrap();
    assert!(line[attach.position.column as usize - 1..].starts_with("\"vhost-user:"), "{line}");
    let mut sorted = platform.not_built_yet().to_vec();
    sorted.sort();
    assert_eq!(sorted, platform.not_built_yet());
}

#[test]
fn two_hosts_have_udp_legs_whose_addresses_come_from_the_lab_networks() {
    let platform = load("two-hosts.toml");
    assert_eq!((platform.nodes.len(), platform.fabrics.len()), (3, 2));
    for fabric in &platform.fabrics {
        assert!(fabric.lab_network.is_some());
        for process in ["cn-a", "web1", "web2", "web3"] {
            let own = platform.lab_address(process, fabric.index).unwrap();
            assert_eq!(platform.udp_address(process, fabric.index).unwrap().ip(), own.address);
        }
    }
}

#[test]
fn two_hosts_may_have_fabrics_of_two_kinds() {
    let platform = load("two-hosts-ether.toml");
    assert_eq!(platform.not_built_yet(), []);
    let [a, b] = [0, 1].map(|fabric: usize| platform.fabrics[fabric].index);
    for process in ["cn-a", "web1", "web2", "web3"] {
        assert!(platform.udp_address(process, a).is_some() && platform.udp_address(process, b).is_none());
        assert_eq!(
            [a, b].map(|fabric| platform.ether_device(process, fabric).map(|(device, _)| device)),
            [None, Some("b")]
        );
    }
}

#[test]
fn paths_are_relative_to_the_file() {
    //= spec/platform-file.md#paths
    //= type=test
    //# A relative path MUST be taken from the folder of the platform file.
    let text = std::fs::read_to_string(example("two-lans.toml")).unwrap();
    let platform = Platform::parse(&text, Path::new("/etc/weft/p.toml")).unwrap();
    let control_node = &platform.control_nodes[0];
    assert_eq!(control_node.management, Management::Unix("/etc/weft/run/cn-a.sock".into()));
    assert_eq!(control_node.public_key_file(), Path::new("/etc/weft/keys/cn-a.pub"));
    assert_eq!(platform.nodes[0].key_file, Path::new("/etc/weft/keys/web1"));
    assert_eq!(platform.grant_key_file, Path::new("/etc/weft/keys/grant"));
    assert_eq!(platform.lab_file(), Path::new("/etc/weft/run/lab.json"));
    let here = Platform::parse(&text, Path::new("p.toml")).unwrap();
    assert_eq!(here.lab_socket(), Path::new("./run/lab.sock"));
    let absolute = text.replace("\"keys/web1\"", "\"/var/keys/web1\"");
    let platform = Platform::parse(&absolute, Path::new("/etc/weft/p.toml")).unwrap();
    assert_eq!(platform.nodes[0].key_file, Path::new("/var/keys/web1"));
}
