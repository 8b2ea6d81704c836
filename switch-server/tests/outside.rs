//! The networks outside of a lab against the kernel's own stacks, in namespaces made for each test; no root is needed.

#![cfg(feature = "std")]

#[path = "../../switch-node/tests/sandbox/namespace.rs"]
#[allow(dead_code, reason = "what stands for a tenant is not needed here")]
mod sandbox;

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use platform::Platform;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sandbox::in_own_namespace;
use switch_node::agent::namespace::Namespace as Inside;
use switch_server::lab::namespace::{Namespace, Privilege};
use switch_server::lab::outside::{HostNews, Outside};
use switch_server::lab::underlay::Underlays;
use switch_server::lab::{LabPlan, plan_of};

/// Waiting longer than this for the kernel is a failure; nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(20);

const PLATFORM: &str = r#"
[platform]
name = "lab"
[[fabric]]
name = "a"
[[control-node]]
name = "cn-a"
serial = 1
legs = { a = "unix:run/a.sock" }
[[node]]
name = "web1"
number = 1
legs = { a = "unix" }
[[lan]]
name = "red"
id = 10
[[lan.member]]
node = "web1"
address = "10.1.0.1/24"
[lan.uplink]
mode = "filtered"
ports = [{ control-node = "cn-a", device = "eth1" }]
[[lan]]
name = "blue"
id = 20
[[lan.member]]
node = "web1"
address = "10.2.0.1/24"
[lan.uplink]
mode = "unfiltered"
ports = [{ control-node = "cn-a", device = "eth2" }]
[[lab.outside]]
name = "client"
lan = "red"
address = ["10.1.0.200/24", "fd00:1::200/64"]
[[lab.outside]]
name = "other"
lan = "blue"
address = ["10.1.0.202/24", "fd00:1::202/64"]
[[lab.outside]]
name = "server"
lan = "red"
address = ["10.1.0.201/24", "fd00:1::201/64"]
"#;

/// The hosts, network by network.
const HOSTS: [&str; 3] = ["client", "server", "other"];
/// The number of processes, one behind the last.
const PROCESSES: usize = 2;

fn plan() -> LabPlan {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.toml");
    fs::write(&file, PLATFORM).unwrap();
    let plan = plan_of(&Platform::load(&file).unwrap(), true, Privilege::None).unwrap();
    assert_eq!(plan.hosts().map(|host| host.name.as_str()).collect::<Vec<_>>(), HOSTS);
    plan
}

struct Site {
    underlays: Underlays,
    outside: Outside,
    hosts: Vec<Namespace>,
}

impl Site {
    fn new(plan: &LabPlan) -> Self {
        let underlays = Underlays::make(plan).unwrap().unwrap();
        let hosts: Vec<_> = HOSTS.iter().map(|_| Namespace::anonymous().unwrap()).collect();
        let outside = Outside::make(plan, Some(&underlays), &hosts).unwrap();
        Self { underlays, outside, hosts }
    }

    /// Waits until there has been news of so many hosts, and gives it.
    fn news(&mut self, count: usize) -> Vec<(String, HostNews)> {
        let until = Instant::now() + PATIENCE;
        let mut all = Vec::new();
        while all.len() < count {
            let timeout = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            let watched = self.outside.watched();
            let mut watched: Vec<_> = watched.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
            poll(&mut watched, Some(&timeout)).unwrap();
            while let Some((name, news)) = self.outside.poll().unwrap() {
                all.push((name.to_owned(), news));
            }
            assert!(Instant::now() < until, "no more news than {all:?}");
        }
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        all
    }

    fn in_underlay<T: Send>(&self, process: usize, work: impl FnOnce() -> io::Result<T> + Send) -> T {
        inside(self.underlays.path(process).unwrap(), work)
    }

    fn socket(&self, host: usize, address: &str) -> UdpSocket {
        let address: SocketAddr = format!("{address}:7000").parse().unwrap();
        let socket = inside(self.hosts[host].path(), || UdpSocket::bind(address));
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }
}

fn inside<T: Send>(path: &Path, work: impl FnOnce() -> io::Result<T> + Send) -> T {
    Inside::from_descriptor(File::open(path).unwrap().into(), "the test's").unwrap().run(work).unwrap()
}

/// The interfaces of the namespace that the calling thread is in, with the IPv6 addresses that they have: interface, address,
/// flags.
fn interfaces() -> io::Result<(Vec<String>, Vec<[String; 3]>)> {
    let names = fs::read_to_string("/proc/thread-self/net/dev")?;
    // Two lines of titles, then a line for each interface: its name, a colon, counters.
    let names = names.lines().skip(2).filter_map(|line| Some(line.trim().split(':').next()?.to_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    let v6 = fs::read_to_string("/proc/thread-self/net/if_inet6")?;
    let v6 = v6.lines().map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        [fields[5], fields[0], fields[4]].map(str::to_owned)
    });
    Ok((names, v6.collect()))
}

fn setting(path: &str) -> io::Result<String> {
    Ok(fs::read_to_string(format!("/proc/sys/net/{path}"))?.trim().to_owned())
}

#[test]
fn the_devices_of_uplinks_are_in_the_underlay_and_the_kernel_says_nothing_there() {
    //= spec/lab.md#the-shared-underlay
    //= type=test
    //# Without lab networks, the processes of a lab whose LANs have uplinks MUST share one network namespace of the lab's
    //# own, which holds loopback and the devices of the uplinks, what joins these, and nothing else.
    //= spec/lab.md#devices-of-uplinks
    //= type=test
    //# For each device that an uplink names, a lab MUST make an interface of that name in the underlay of its control node,
    //# which is up, has an MTU of 1500 octets, and on which the kernel itself says nothing.
    in_own_namespace("the_devices_of_uplinks_are_in_the_underlay_and_the_kernel_says_nothing_there", || {
        let site = Site::new(&plan());
        assert_eq!(interfaces().unwrap().0, ["lo"], "something was made where the supervisor is");
        let paths = [0, PROCESSES - 1].map(|process| site.underlays.path(process).unwrap());
        assert_eq!(paths[0], paths[1]);
        let (names, v6) = site.in_underlay(0, interfaces);
        assert_eq!(names, ["eth1", "eth2", "lo"]);
        assert!(v6.iter().all(|[interface, ..]| interface == "lo"), "{v6:?}");
        for device in ["eth1", "eth2"] {
            let read = |path: String| site.in_underlay(0, || setting(&path));
            assert_eq!(read(format!("ipv6/conf/{device}/mtu")), "1500");
            assert_eq!(read(format!("ipv6/conf/{device}/disable_ipv6")), "1");
            assert_eq!(read(format!("ipv4/conf/{device}/arp_ignore")), "8");
        }
    });
}

#[test]
fn hosts_outside_are_ready_when_their_addresses_are_and_reach_who_is_on_their_network() {
    //= spec/lab.md#hosts-outside
    //= type=test
    //# A lab MUST make for each host outside a network namespace with loopback and an interface `eth0`, which has the host's
    //# addresses and an MTU of 1500 octets, and MUST NOT be ready before these are past duplicate-address detection.
    in_own_namespace(
        "hosts_outside_are_ready_when_their_addresses_are_and_reach_who_is_on_their_network",
        || {
            let mut site = Site::new(&plan());
            assert!(!site.outside.is_ready(), "no address can be past duplicate-address detection yet");
            let expected = ["client", "other", "server"].map(|name| (name.to_owned(), HostNews::Ready));
            assert_eq!(site.news(HOSTS.len()), expected);
            assert!(site.outside.is_ready());
            for host in &site.hosts {
                let (names, v6) = inside(host.path(), interfaces);
                assert_eq!(names, ["eth0", "lo"]);
                let own: Vec<_> = v6.iter().filter(|[interface, ..]| interface == "eth0").collect();
                assert_eq!(own.len(), 2, "{v6:?}");
                assert!(own.iter().any(|[_, address, _]| address.starts_with("fe80")), "{own:?}");
                // 0x40 is the flag of an address that is still being tried.
                assert!(own.iter().all(|[_, _, flags]| flags == "80"), "{own:?}");
                assert_eq!(inside(host.path(), || setting("ipv6/conf/eth0/mtu")), "1500");
            }
            for addresses in [
                ["10.1.0.200", "10.1.0.201", "10.1.0.202"],
                ["[fd00:1::200]", "[fd00:1::201]", "[fd00:1::202]"],
            ] {
                let sockets = [0, 1, 2].map(|host| site.socket(host, addresses[host]));
                // The other network's host has an address of the same subnet, but nobody there hears it.
                sockets[2].send_to(b"stray", sockets[1].local_addr().unwrap()).unwrap();
                sockets[0].send_to(b"hello", sockets[1].local_addr().unwrap()).unwrap();
                let mut octets = [0; 16];
                let (len, from) = sockets[1].recv_from(&mut octets).unwrap();
                assert_eq!((&octets[..len], from), (&b"hello"[..], sockets[0].local_addr().unwrap()));
            }
        },
    );
}

#[test]
fn an_address_that_another_host_has_is_told() {
    in_own_namespace("an_address_that_another_host_has_is_told", || {
        let mut plan = plan();
        let hosts = &mut plan.networks[0].hosts;
        hosts[1].addresses = hosts[0].addresses.clone();
        let mut site = Site::new(&plan);
        let news = site.news(2);
        let taken = HostNews::Taken("fd00:1::200".parse().unwrap());
        assert!(news.iter().any(|(name, news)| *news == taken && name != "other"), "{news:?}");
        assert!(!site.outside.is_ready());
    });
}

#[test]
fn the_networks_end_with_the_last_descriptor_of_them() {
    in_own_namespace("the_networks_end_with_the_last_descriptor_of_them", || {
        let Site { underlays, outside, hosts } = Site::new(&plan());
        drop(outside);
        // The kernel takes a namespace apart some time after its last user.
        let until = Instant::now() + PATIENCE;
        let left = |path: &Path| inside(path, interfaces).0;
        while hosts.iter().any(|host| left(host.path()) != ["lo"])
            || left(underlays.path(0).unwrap()) != ["lo"]
        {
            assert!(Instant::now() < until, "interfaces are left");
            std::thread::yield_now();
        }
    });
}
