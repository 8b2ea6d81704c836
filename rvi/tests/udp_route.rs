//! A UDP socket in a network namespace of its own, where loopback takes little and a neighbour never answers.
//!
//! The test runs itself again inside the namespace: entering one without being root needs a process with one
//! thread, which a test is not.
#![cfg(not(loom))]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto};
use rustix::thread::UnshareFlags;
use rvi::host::packets::{LegPlace, PacketSockets, SendResult};
use rvi::host::udp::{ReceivePool, UdpSocket};
use rvi::packet::port::{PacketBatch, PacketMachine};
use rvi::packet::transport::TransmitBuffer;
use vlan_core::wire::control::LegAddress;
use vlan_core::{Instant, LegNumber};

/// Says that the process is inside.
const INSIDE: &str = "RVI_UDP_ROUTE";
/// MTU of loopback inside, and payloads that fit.
const MTU: i32 = 1500;
const V4_PAYLOAD_LEN: usize = 1500 - 28;
const V6_PAYLOAD_LEN: usize = 1500 - 48;
/// A device whose neighbours never answer, and one of them.
const SILENT: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);

#[test]
fn routes_that_take_little_or_nothing() {
    if std::env::var_os(INSIDE).is_some() {
        too_long_packets_are_reported();
        routers_are_not_believed();
        an_interface_that_takes_more_is_noticed();
        full_sockets_do_not_wait();
        return;
    }
    let mut inside = Command::new(std::env::current_exe().unwrap());
    inside.args(["--exact", "routes_that_take_little_or_nothing", "--nocapture"]).env(INSIDE, "1");
    // SAFETY: between fork and exec the closure makes system calls only.
    unsafe { inside.pre_exec(enter_namespace) };
    let done = inside.output().expect("a network namespace");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    assert!(said.contains("1 passed"), "{said}");
}

fn too_long_packets_are_reported() {
    //= spec/leg-udp.md#too-long-packets
    //= type=test
    //# A packet that is longer than the route takes MUST be reported to the sender of the leg, with the length that the
    //# kernel's route takes when it is known.
    //= spec/leg-udp.md#fragments
    //= type=test
    //# A packet MUST be sent with DF set, or over IPv6 unfragmented, and what routers say about the path's MTU MUST NOT
    //# change what is sent.
    let families: [(IpAddr, usize); 2] =
        [(Ipv4Addr::LOCALHOST.into(), V4_PAYLOAD_LEN), (Ipv6Addr::LOCALHOST.into(), V6_PAYLOAD_LEN)];
    for (ip, most) in families {
        let [a, b] = [ip, ip].map(|ip| UdpSocket::bind(SocketAddr::new(ip, 0)).unwrap());
        let to = b.local_address();
        assert_eq!(a.payload_len_max(to), Ok(most));
        let too_big = SendResult::TooBig { payload_len_max: Some(most) };
        let long = vec![7; 10 * (most + 1)];
        assert_eq!(a.send(to, &long[..=most], most + 1), too_big);
        assert_eq!(a.send(to, &long, most + 1), too_big);
        assert_eq!(a.counters().dropped_too_big, 11);
        assert_eq!(a.counters().sent_datagrams, 0, "nothing went out in fragments");
        assert_eq!(a.send(to, &long[..10 * most], most), SendResult::Sent);
        assert_eq!((a.counters().sent_calls, a.counters().cutting_refused), (1, 0), "and runs are still cut");
        let (mut pool, mut received) = (ReceivePool::new(), 0);
        while received < 10 {
            wait_for(&b);
            received +=
                b.for_each_datagram(&mut pool, |_, datagram| assert_eq!(datagram.len(), most)).datagrams;
        }
        let prohibits = match ip {
            IpAddr::V4(_) => sockopt::ip_mtu_discover(&a) == Ok(Ipv4PathMtuDiscovery::PROBE),
            IpAddr::V6(_) => sockopt::ipv6_mtu_discover(&a) == Ok(Ipv6PathMtuDiscovery::PROBE),
        };
        assert!(prohibits, "fragments are forbidden and routers are not believed");
    }
}

/// What a router says of the path to `to`: no packet of `from` to it is to be longer than `mtu`.
fn tell_path_mtu(from: SocketAddrV4, to: SocketAddrV4, mtu: u16) {
    let quoted = |len: u16| {
        let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 17, 0, 0];
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        packet.extend(from.ip().octets().iter().chain(&to.ip().octets()));
        for field in [from.port(), to.port(), len - 20, 0] {
            packet.extend(field.to_be_bytes());
        }
        packet
    };
    let mut message = vec![3, 4, 0, 0, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.extend(quoted(1400));
    let sum: u32 = message.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let check = !((folded & 0xffff) + (folded >> 16)) as u16;
    message[2..4].copy_from_slice(&check.to_be_bytes());
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP)).unwrap();
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    rustix::net::sendto(&socket, &message, SendFlags::empty(), &here).unwrap();
}

fn routers_are_not_believed() {
    //= spec/leg-udp.md#fragments
    //= type=test
    //# A packet MUST be sent with DF set, or over IPv6 unfragmented, and what routers say about the path's MTU MUST NOT
    //# change what is sent.
    // 127.0.0.3 for no other test: the kernel keeps what it hears for ten minutes.
    let [a, b] = [1, 3].map(|last| SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, last), 0));
    let [a, b] = [a, b].map(|address| UdpSocket::bind(address.into()).unwrap());
    let v4 = |socket: &UdpSocket| match socket.local_address() {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(_) => panic!("an IPv4 socket"),
    };
    tell_path_mtu(v4(&a), v4(&b), 1300);
    assert_eq!(a.payload_len_max(b.local_address()), Ok(1300 - 28), "the kernel has heard of it");
    assert_eq!(a.send(b.local_address(), &[7; 3 * 1400], 1400), SendResult::Sent);
    let (mut pool, mut received) = (ReceivePool::new(), 0);
    while received < 3 {
        wait_for(&b);
        received += b.for_each_datagram(&mut pool, |_, datagram| assert_eq!(datagram.len(), 1400)).datagrams;
    }
}

/// A machine that is told how long packets may be.
#[derive(Default)]
struct Told(Vec<usize>);

impl PacketMachine for Told {
    fn handle_packet(&mut self, _: Instant, _: LegNumber, _: LegAddress, _: &mut [u8]) {}
    fn poll_transmit(&mut self, _: Instant, _: &mut TransmitBuffer) -> Option<PacketBatch> {
        None
    }
    fn set_packet_len_max(&mut self, leg: LegNumber, octets: usize) {
        assert_eq!(leg, LegNumber(1));
        self.0.push(octets);
    }
}

fn an_interface_that_takes_more_is_noticed() {
    //= spec/leg-udp.md#wider-routes
    //= type=test
    //# While packets come, a host MUST ask every 10 s what its routes take, and tell the senders of the legs when that changed.
    let address = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 5), 0));
    let mut sockets =
        PacketSockets::open(&[(LegNumber(1), LegPlace::Udp(address))]).unwrap().expect("one leg");
    let mut machine = Told::default();
    let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
    sockets.start(&mut machine);
    sockets.receive(at(1), &mut machine);
    assert_eq!(machine.0, [V4_PAYLOAD_LEN]);
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
    let set_mtu = |mtu| configure(&socket, b"lo", libc::SIOCSIFMTU as _, |to| to.ifru_mtu = mtu).unwrap();
    set_mtu(9000);
    sockets.receive(at(10), &mut machine);
    assert_eq!(machine.0.len(), 1, "not yet");
    sockets.receive(at(11), &mut machine);
    assert_eq!(machine.0[1..], [9000 - 28]);
    set_mtu(MTU);
    sockets.receive(at(30), &mut machine);
    assert_eq!(machine.0[2..], [V4_PAYLOAD_LEN]);
}

fn full_sockets_do_not_wait() {
    //= spec/leg-udp.md#full-sockets
    //= type=test
    //# A packet that the kernel has no room for MUST be counted and dropped; sending MUST NOT wait for room.
    let socket = UdpSocket::bind(SocketAddr::from((SILENT, 0))).unwrap();
    sockopt::set_socket_send_buffer_size(&socket, 4096).unwrap();
    // Packets wait in the kernel for the neighbour's address, and are charged to the socket until then.
    let mut full = 0;
    for _ in 0..100 {
        match socket.send(SocketAddr::from((NOBODY, 9)), &[7; 3000], 1000) {
            SendResult::Sent => {}
            SendResult::WouldBlock => full += 1,
            other => panic!("{other:?}"),
        }
    }
    let counters = socket.counters();
    assert!(full > 0, "{counters:?}");
    assert_eq!(counters.dropped_full, 3 * full);
    assert_eq!(counters.sent_datagrams + counters.dropped_full, 300);
}

/// Waits until something has arrived, ten seconds at most.
fn wait_for(socket: &UdpSocket) {
    let mut source = [PollFd::new(socket, PollFlags::IN)];
    let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut source, Some(&patience)), Ok(1));
}

/// Moves the process into a network namespace of its own, with loopback of a small MTU and a device where nobody
/// answers.
fn enter_namespace() -> io::Result<()> {
    let is_root = rustix::process::geteuid().is_root();
    let own_user = if is_root { UnshareFlags::empty() } else { UnshareFlags::NEWUSER };
    // SAFETY: only namespaces are unshared, and this process has one thread.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET | own_user) }?;
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    configure(&socket, b"lo", libc::SIOCSIFMTU as _, |to| to.ifru_mtu = MTU)?;
    raise(&socket, b"lo")?;
    // The device lives as long as this descriptor, so the program that follows inherits it.
    let tap = rustix::fs::open("/dev/net/tun", OFlags::RDWR, Mode::empty())?.into_raw_fd();
    // SAFETY: the descriptor was just opened and is never closed.
    let tap = unsafe { BorrowedFd::borrow_raw(tap) };
    let flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    configure(tap, b"silent", libc::TUNSETIFF as _, |to| to.ifru_flags = flags)?;
    configure(&socket, b"silent", libc::SIOCSIFADDR as _, |to| to.ifru_addr = address_of(SILENT))?;
    raise(&socket, b"silent")
}

fn raise(socket: &OwnedFd, device: &[u8]) -> io::Result<()> {
    configure(socket, device, libc::SIOCSIFFLAGS as _, |to| to.ifru_flags = libc::IFF_UP as libc::c_short)
}

fn address_of(ip: Ipv4Addr) -> libc::sockaddr {
    let mut address = libc::sockaddr { sa_family: libc::AF_INET as _, sa_data: [0; 14] };
    for (to, octet) in address.sa_data[2..6].iter_mut().zip(ip.octets()) {
        *to = octet as libc::c_char;
    }
    address
}

/// Makes one request about the device of that name.
fn configure(
    descriptor: impl AsFd,
    device: &[u8],
    request: libc::Ioctl,
    fill: impl FnOnce(&mut libc::__c_anonymous_ifr_ifru),
) -> io::Result<()> {
    // SAFETY: the request is plain data, for which zeroes are a valid value.
    let mut ifreq: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, octet) in ifreq.ifr_name.iter_mut().zip(device) {
        *to = *octet as libc::c_char;
    }
    fill(&mut ifreq.ifr_ifru);
    // SAFETY: each of these requests reads an ifreq, which this is, and writes nothing beyond it.
    let done = unsafe { libc::ioctl(descriptor.as_fd().as_raw_fd(), request, &raw mut ifreq) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
