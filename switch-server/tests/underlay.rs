//! Underlays of a lab against the kernel's own stacks, in namespaces made for each test; no root is needed.

#![cfg(feature = "std")]

#[path = "../../switch-node/tests/sandbox/namespace.rs"]
#[allow(dead_code, reason = "what stands for a tenant is not needed here")]
mod sandbox;

use std::fs::File;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use platform::Platform;
use sandbox::in_own_namespace;
use switch_node::agent::namespace::Namespace;
use switch_server::lab::namespace::Privilege;
use switch_server::lab::plan_of;
use switch_server::lab::underlay::Underlays;

/// Waiting longer than this for the kernel is a failure; nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(20);

const PLATFORM: &str = r#"
[platform]
name = "lab"
[[fabric]]
name = "a"
lab-network = "172.31.1.0/24"
[[fabric]]
name = "b"
mtu = 9000
lab-network = "fd31:2::/64"
[[fabric]]
name = "c"
[[control-node]]
name = "cn-a"
serial = 1
legs = { a = "unix:run/a.sock" }
[[node]]
name = "web1"
number = 1
legs = { a = "unix" }
[[node]]
name = "web2"
number = 2
legs = { a = "unix" }
"#;

const PROCESSES: usize = 3;

fn underlays(text: &str) -> Option<Underlays> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.toml");
    std::fs::write(&file, text).unwrap();
    let platform = Platform::load(&file).unwrap();
    Underlays::make(&plan_of(&platform, true, Privilege::None).unwrap()).unwrap()
}

/// Runs `work` in the underlay of a process.
fn inside<T: Send>(underlays: &Underlays, process: usize, work: impl FnOnce() -> io::Result<T> + Send) -> T {
    let underlay = File::open(underlays.path(process).unwrap()).unwrap();
    Namespace::from_descriptor(underlay.into(), "the test's").unwrap().run(work).unwrap()
}

fn socket(underlays: &Underlays, process: usize, address: &str) -> UdpSocket {
    let address: SocketAddr = format!("{address}:7000").parse().unwrap();
    let socket = inside(underlays, process, || UdpSocket::bind(address));
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> String {
    let mut octets = [0; 64];
    let len = socket.recv(&mut octets).unwrap();
    String::from_utf8_lossy(&octets[..len]).into_owned()
}

/// What has arrived and waits.
fn waiting(socket: &UdpSocket) -> Vec<String> {
    socket.set_nonblocking(true).unwrap();
    let mut octets = [0; 64];
    let mut texts = Vec::new();
    while let Ok(len) = socket.recv(&mut octets) {
        texts.push(String::from_utf8_lossy(&octets[..len]).into_owned());
    }
    socket.set_nonblocking(false).unwrap();
    texts
}

/// Sends until something arrives: a fabric that has just come up has its neighbours to find again.
fn send_until_received(from: &UdpSocket, to: &UdpSocket, text: &str) {
    to.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let until = Instant::now() + PATIENCE;
    let mut octets = [0; 64];
    loop {
        from.send_to(text.as_bytes(), to.local_addr().unwrap()).unwrap();
        if to.recv(&mut octets).is_ok_and(|len| &octets[..len] == text.as_bytes()) {
            break;
        }
        assert!(Instant::now() < until, "{text} did not arrive");
    }
    to.set_read_timeout(Some(PATIENCE)).unwrap();
}

#[test]
fn each_underlay_holds_loopback_and_an_interface_for_each_lab_network() {
    //= spec/lab.md#underlays
    //= type=test
    //# When a fabric has a lab network, each process of the lab MUST run in a network namespace of its own, which holds
    //# loopback, for each such fabric one interface of the fabric's name, with the fabric's MTU and the process's
    //# address, the devices of its uplinks, and nothing else.
    in_own_namespace("each_underlay_holds_loopback_and_an_interface_for_each_lab_network", || {
        let underlays = underlays(PLATFORM).unwrap();
        assert!(underlays.path(PROCESSES).is_none());
        for process in 0..PROCESSES {
            let (names, v6) = inside(&underlays, process, || {
                let names = std::fs::read_to_string("/proc/thread-self/net/dev")?;
                Ok((names, std::fs::read_to_string("/proc/thread-self/net/if_inet6")?))
            });
            // Two lines of titles, then a line for each interface: its name, a colon, counters.
            let mut names: Vec<_> =
                names.lines().skip(2).filter_map(|line| line.trim().split(':').next()).collect();
            names.sort_unstable();
            assert_eq!(names, ["a", "b", "lo"]);
            // Flags 0x82: permanent, and without the 0x40 of an address that is still being tried.
            let own = format!("fd310002{:024x}", process + 1);
            let line = v6.lines().find(|line| line.starts_with(&own)).expect("an address on fabric b");
            let fields: Vec<_> = line.split_whitespace().collect();
            assert_eq!((fields[2], fields[4], fields[5]), ("40", "82", "b"), "{line}");
            let mtu = |name| {
                let path = format!("/proc/sys/net/ipv6/conf/{name}/mtu");
                inside(&underlays, process, || std::fs::read_to_string(path)).trim().to_owned()
            };
            assert_eq!((mtu("a").as_str(), mtu("b").as_str()), ("1500", "9000"));
        }
    });
}

#[test]
fn any_process_reaches_any_other_on_each_fabric() {
    in_own_namespace("any_process_reaches_any_other_on_each_fabric", || {
        let underlays = underlays(PLATFORM).unwrap();
        let a = [0, 1, 2].map(|process| socket(&underlays, process, &format!("172.31.1.{}", process + 1)));
        let b = [0, 1, 2].map(|process| socket(&underlays, process, &format!("[fd31:2::{}]", process + 1)));
        for sockets in [&a, &b] {
            for (from, to) in [(0, 1), (1, 2), (2, 0), (1, 0)] {
                let text = format!("from {from} to {to}");
                sockets[from].send_to(text.as_bytes(), sockets[to].local_addr().unwrap()).unwrap();
                assert_eq!(receive(&sockets[to]), text);
            }
        }
    });
}

#[test]
fn a_fabric_that_is_down_carries_nothing_and_the_other_goes_on() {
    //= spec/lab.md#fabrics-down-and-up
    //= type=test
    //# A fabric of a lab that is taken down MUST carry no packet until it is taken up again, and each interface on it MUST
    //# lose its carrier and keep its addresses.
    in_own_namespace("a_fabric_that_is_down_carries_nothing_and_the_other_goes_on", || {
        let mut underlays = underlays(PLATFORM).unwrap();
        let pair = |process: usize| {
            let a = socket(&underlays, process, &format!("172.31.1.{}", process + 1));
            (a, socket(&underlays, process, &format!("[fd31:2::{}]", process + 1)))
        };
        let ((from_a, from_b), (to_a, to_b)) = (pair(1), pair(2));
        for round in 0..3 {
            send_until_received(&from_a, &to_a, &format!("a before {round}"));
            assert_eq!(underlays.set_fabric("a", false).unwrap(), Some(PROCESSES));
            assert_eq!(underlays.fabrics().collect::<Vec<_>>(), [("a", false), ("b", true)]);
            // Whoever sends may be told that there is no carrier, or may not.
            let _ = from_a.send_to(b"lost", to_a.local_addr().unwrap());
            // What is sent after it arrives first, so what was sent before it will not.
            send_until_received(&from_b, &to_b, &format!("b meanwhile {round}"));
            assert!(!waiting(&to_a).contains(&"lost".to_owned()));
            assert_eq!(underlays.set_fabric("a", true).unwrap(), Some(PROCESSES));
            send_until_received(&from_a, &to_a, &format!("a again {round}"));
        }
        // The IPv6 addresses of the other fabric outlive it too.
        assert_eq!(underlays.set_fabric("b", false).unwrap(), Some(PROCESSES));
        assert_eq!(underlays.set_fabric("b", true).unwrap(), Some(PROCESSES));
        send_until_received(&from_b, &to_b, "b again");
        assert_eq!(underlays.set_fabric("c", false).unwrap(), None);
        assert_eq!(underlays.set_fabric("nowhere", false).unwrap(), None);
    });
}

#[test]
fn a_platform_without_lab_networks_has_no_underlays() {
    let text = PLATFORM.lines().filter(|line| !line.starts_with("lab-network"));
    assert!(underlays(&text.collect::<Vec<_>>().join("\n")).is_none());
}

#[test]
fn underlays_end_with_the_last_descriptor_of_them() {
    //= spec/lab.md#underlays-have-no-names
    //= type=test
    //# Underlays, bridges and what joins them MUST be held by descriptors of the lab's processes alone.
    in_own_namespace("underlays_end_with_the_last_descriptor_of_them", || {
        let underlays = underlays(PLATFORM).unwrap();
        let here = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        assert_eq!(
            here.lines().skip(2).count(),
            1,
            "something was made in the supervisor's own namespace: {here}"
        );
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let paths: Vec<_> =
            (0..PROCESSES).map(|process| underlays.path(process).unwrap().to_owned()).collect();
        for path in &paths {
            let name = std::fs::read_link(path).unwrap();
            let name = name.to_string_lossy().into_owned();
            assert!(name.starts_with("net:["), "{name}");
            assert!(!mounts.contains(&name), "{name} is mounted somewhere");
        }
        drop(underlays);
        let is_left = |path: &Path| std::fs::read_link(path).is_ok_and(|name| name.starts_with("net:"));
        assert!(!paths.iter().any(|path| is_left(path)));
    });
}
