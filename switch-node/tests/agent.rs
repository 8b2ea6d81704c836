//! The `switch-node` program against a control node that this test plays, and its command line.

#![cfg(feature = "std")]

#[path = "sandbox/namespace.rs"]
mod sandbox;

use std::fs;
use std::io::Read;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rvi::host::{ControlNodeLeg, Datagram, EstablishedLeg, LegListener, PrivateKey, SetupProgress};
use rvi::{Association, AssociationConfig, LegEnd, Scheduler, Scratch, ShmConfig};
use sandbox::{in_own_namespace, tenant};
use switch_node::agent::namespace::Namespace;
use vlan_core::wire::control::{ControlMessage, InterfaceAddress, InterfaceConfig};
use vlan_core::{Channel, Instant, LanId, LegNumber, MacAddress, NodeNumber, ProcessId, VifNumber};

/// A test that waits longer than this has failed; nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(30);
const RELAY: Channel = Channel(1);
const ARP: Channel = Channel(2);

const PLATFORM: &str = r#"
[platform]
name = "test"
cabinet = 1
grant-key-file = "grant"

[[fabric]]
name = "a"

[[control-node]]
name = "cn-a"
serial = 1
key-file = "cn-a"
state-dir = "state"
management = "unix:management.sock"
legs = { a = "unix:leg.sock" }

[[node]]
name = "web1"
number = 1
key-file = "web1"
legs = { a = "unix" }

[[lan]]
name = "red"
id = 10
[[lan.member]]
node = "web1"
address = ["10.9.0.1/24", "fd00:9::1/64"]
interface = "red0"
"#;

/// A platform with keys in a folder of its own, which goes with this value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("weft-test-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("platform.toml"), PLATFORM).unwrap();
        Self(folder)
    }

    fn with_keys(self) -> Self {
        for name in ["cn-a", "web1"] {
            PrivateKey::create(&self.0.join(name)).unwrap();
        }
        self
    }

    fn file(&self) -> PathBuf {
        self.0.join("platform.toml")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn switch_node(file: &Path, name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switch-node"));
    command.arg("run").arg(file).args(["--name", name, "--die-with-parent"]).stdin(Stdio::null());
    command
}

fn wait_readable(descriptor: &impl AsFd) {
    let mut fds = [PollFd::new(descriptor, PollFlags::IN)];
    let patience = PATIENCE.try_into().unwrap();
    assert_ne!(rustix::event::poll(&mut fds, Some(&patience)).unwrap(), 0, "nothing came in {PATIENCE:?}");
}

fn now() -> Instant {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Instant::from_nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// A control node that does what a test tells it.
struct ControlNode {
    leg: EstablishedLeg,
    association: Association,
    scratch: Scratch,
}

impl ControlNode {
    /// Waits for the node and sets the leg up.
    fn accept(folder: &Folder, listener: &LegListener) -> Self {
        let key = PrivateKey::load(&folder.0.join("cn-a")).unwrap();
        wait_readable(listener);
        let socket = listener.accept().unwrap().unwrap();
        let mut setup = ControlNodeLeg::new(socket, ProcessId(77), &ShmConfig::default());
        loop {
            wait_readable(&setup.as_fd().unwrap());
            match setup.advance(&key, &mut |_| Some(NodeNumber(1)), &mut |_| Some(1)).unwrap() {
                SetupProgress::Pending => {}
                SetupProgress::Up { leg, shm } => {
                    let config = AssociationConfig {
                        scheduler: Scheduler::Failover,
                        seed: 1,
                        park_messages_max: 16,
                        park_octets_max: 1 << 20,
                        session: 0,
                    };
                    let mut association = Association::new(&config);
                    association.open_channel(RELAY);
                    association.open_channel(ARP);
                    association.handle_leg_up(now(), LegNumber(0), shm);
                    return Self { leg, association, scratch: Scratch::default() };
                }
            }
        }
    }

    fn send(&mut self, message: &ControlMessage) {
        self.association.send_control(now(), &message.emit()).unwrap();
        self.publish();
    }

    fn publish(&mut self) {
        self.association.publish();
        self.association.release();
        while self.association.poll_doorbell().is_some() {
            self.leg.ring_doorbell().unwrap();
        }
    }

    /// The next message, with its channel.
    fn receive(&mut self) -> (Channel, Vec<u8>) {
        loop {
            if let Some(message) = self.association.receive(&mut self.scratch) {
                let mut octets = message.head.to_vec();
                octets.resize(message.len, 0);
                message.rest.copy_to(&mut octets[message.head.len()..]);
                let channel = message.channel;
                self.association.release();
                return (channel, octets);
            }
            self.publish();
            if self.association.prepare_sleep() {
                wait_readable(&self.leg);
                self.association.wake();
            }
            self.leg.receive();
        }
    }

    fn receive_control(&mut self) -> ControlMessage {
        loop {
            let (channel, octets) = self.receive();
            if channel == Channel::CONTROL {
                return ControlMessage::parse(&octets).unwrap();
            }
        }
    }
}

fn interface() -> InterfaceConfig {
    let at = |address: &str, prefix| InterfaceAddress { address: address.parse().unwrap(), prefix };
    InterfaceConfig {
        lan: LanId(10),
        vif: VifNumber(1),
        mac: MacAddress([2, 0, 1, 0, 0, 1]),
        mtu: 16_896,
        relay_channel: RELAY,
        arp_channel: ARP,
        port_security: vlan_core::security::PortSecurity::Mac,
        may_listen: false,
        has_carrier: true,
        name: "red0".into(),
        lan_name: "red".into(),
        addresses: vec![at("10.9.0.1", 24), at("fd00:9::1", 64)],
        gateways: Vec::new(),
        clusters: Vec::new(),
        cluster_addresses: Vec::new(),
    }
}

fn start_in(tenant: &OwnedFd, folder: &Folder, ready: OwnedFd) -> Child {
    // The child inherits this one descriptor, under the same number.
    rustix::io::fcntl_setfd(&ready, rustix::io::FdFlags::empty()).unwrap();
    let netns = format!("/proc/{}/fd/{}", std::process::id(), tenant.as_raw_fd());
    let mut command = switch_node(&folder.file(), "web1");
    command.args(["--netns", &netns, "--ready-fd", &ready.as_raw_fd().to_string()]);
    command.stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_node_registers_its_addresses_says_that_it_is_ready_and_ends_when_it_is_fenced() {
    in_own_namespace(
        "a_node_registers_its_addresses_says_that_it_is_ready_and_ends_when_it_is_fenced",
        register_and_fence,
    );
}

fn register_and_fence() {
    let folder = Folder::new("ready").with_keys();
    let listener = LegListener::bind(&folder.0.join("leg.sock")).unwrap();
    let tenant = tenant();
    let (mut ready, write_end) = std::io::pipe().unwrap();
    let child = start_in(&tenant, &folder, write_end.into());
    let mut control_node = ControlNode::accept(&folder, &listener);
    let register = control_node.receive_control();
    assert!(matches!(register, ControlMessage::Register { node: NodeNumber(1), .. }), "{register:?}");
    control_node.send(&ControlMessage::Registered { epoch: 5 });
    control_node.send(&ControlMessage::Interface(interface()));
    control_node.send(&ControlMessage::ConfigurationEnd { epoch: 5 });

    let mut bound = Vec::new();
    while bound.len() < 3 {
        if let ControlMessage::Bind { vif, address } = control_node.receive_control() {
            assert_eq!(vif, VifNumber(1));
            bound.push(address);
        }
    }
    assert!(interface().addresses.iter().all(|wanted| bound.contains(wanted)), "{bound:?}");
    assert!(bound.iter().any(|a| a.address == "fe80::1ff:fe00:1".parse::<std::net::IpAddr>().unwrap()));
    wait_readable(&ready);
    let mut line = [0; 6];
    ready.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"ready\n");

    // What the tenant's stack sends comes out of the fabric's side: it asks who has the address.
    let inside = Namespace::from_descriptor(tenant.try_clone().unwrap(), "the tenant's").unwrap();
    let socket = inside.run(|| UdpSocket::bind("10.9.0.1:0")).unwrap();
    socket.send_to(b"hello", "10.9.0.2:9").unwrap();
    loop {
        let (channel, message) = control_node.receive();
        if channel == ARP && message.ends_with(&[0, 0, 0, 0, 0, 0, 10, 9, 0, 2]) {
            break;
        }
    }

    control_node.send(&ControlMessage::Fenced);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("error: a newer process serves node web1\nhint: "), "{text}");
}

#[test]
fn a_node_that_is_asked_to_end_leaves_its_legs_in_order_and_ends_with_0() {
    in_own_namespace(
        "a_node_that_is_asked_to_end_leaves_its_legs_in_order_and_ends_with_0",
        register_and_stop,
    );
}

fn register_and_stop() {
    let folder = Folder::new("stop").with_keys();
    let listener = LegListener::bind(&folder.0.join("leg.sock")).unwrap();
    let tenant = tenant();
    let (_ready, write_end) = std::io::pipe().unwrap();
    let child = start_in(&tenant, &folder, write_end.into());
    let mut control_node = ControlNode::accept(&folder, &listener);
    let register = control_node.receive_control();
    assert!(matches!(register, ControlMessage::Register { .. }), "{register:?}");
    control_node.send(&ControlMessage::Registered { epoch: 5 });
    control_node.send(&ControlMessage::Interface(interface()));
    control_node.send(&ControlMessage::ConfigurationEnd { epoch: 5 });
    while !matches!(control_node.receive_control(), ControlMessage::Bind { .. }) {}

    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    loop {
        wait_readable(&control_node.leg);
        if matches!(control_node.leg.receive(), Datagram::Closed) {
            break;
        }
    }
    let end = control_node.association.handle_leg_gone(now(), LegNumber(0));
    assert_eq!(end, LegEnd::Closed, "its final heads are there");
    drop(control_node);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

fn run(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_platform_file_that_is_wrong_ends_it_with_2_and_names_the_place() {
    let folder = Folder::new("wrong");
    fs::write(folder.file(), PLATFORM.replace("number = 1", "nummer = 1")).unwrap();
    let (code, text) = run(&mut switch_node(&folder.file(), "web1"));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("platform.toml:20:1") && text.contains("hint: "), "{text}");
}

#[test]
fn an_unknown_node_and_a_missing_key_end_it_with_2_and_a_hint() {
    let folder = Folder::new("unknown");
    let (code, text) = run(&mut switch_node(&folder.file(), "web9"));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("no node web9") && text.contains("hint: its nodes are: web1"), "{text}");
    let (code, text) = run(&mut switch_node(&folder.file(), "web1"));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("hint: make missing keys with `switch-server keys "), "{text}");
}

#[test]
fn a_missing_namespace_and_a_closed_descriptor_end_it_with_2() {
    let folder = Folder::new("namespace").with_keys();
    let (code, text) = run(switch_node(&folder.file(), "web1").args(["--netns", "/no/such/place"]));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("error: cannot open the namespace /no/such/place"), "{text}");
    let (code, text) = run(switch_node(&folder.file(), "web1").args(["--ready-fd", "999"]));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("--ready-fd 999"), "{text}");
}

#[test]
fn what_is_not_built_yet_is_refused() {
    let folder = Folder::new("later");
    let text = format!("{PLATFORM}attach = \"vhost-user:vm.sock\"\n");
    fs::write(folder.file(), text).unwrap();
    let (code, text) = run(&mut switch_node(&folder.file(), "web1"));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("not built yet"), "{text}");
}

#[test]
fn an_ether_leg_without_its_device_ends_it_with_what_to_do() {
    let folder = Folder::new("device").with_keys();
    let text = PLATFORM.replace(r#"legs = { a = "unix" }"#, r#"legs = { a = ["unix", "ether:nowhere0"] }"#);
    fs::write(folder.file(), text).unwrap();
    let (code, text) = run(&mut switch_node(&folder.file(), "web1"));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("there is no network device \"nowhere0\"") && text.contains("ip link"), "{text}");
}
