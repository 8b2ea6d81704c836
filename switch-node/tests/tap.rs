//! TAP devices and route netlink against the kernel's own stack, in namespaces made for each test.

#![cfg(feature = "std")]

#[path = "sandbox/namespace.rs"]
mod sandbox;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::net::{AddressFamily, SocketType};
use rvi::SharedOctets;
use sandbox::in_own_namespace;
use switch_node::agent::cut::Cutter;
use switch_node::agent::namespace::Namespace;
use switch_node::agent::netlink::{AddressMonitor, InterfaceIndex, Netlink, StackAddress};
use switch_node::agent::tap::{self, Tap, TapBuffer, Written};
use vlan_core::super_frame::{FrameRoom, UdpCoalescer};
use vlan_core::wire::control::InterfaceAddress;
use vlan_core::wire::frame::Vnet;
use vlan_core::{MacAddress, limits};

/// A test that waits longer than this for the kernel has failed; nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(20);
const MAC: MacAddress = MacAddress([2, 0, 1, 0, 0, 0x2a]);
const PEER_MAC: MacAddress = MacAddress([2, 0, 1, 0, 0, 0x2b]);
const OWN: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);

struct Interface {
    namespace: Namespace,
    tap: Tap,
    netlink: Netlink,
    index: InterfaceIndex,
    buffer: TapBuffer,
}

/// An interface that is up, with an IPv4 address, in a tenant's namespace.
fn interface() -> Interface {
    let namespace = tenant();
    let tap = match tap::create(&namespace, "red0") {
        Ok(tap) => tap,
        Err(error) => panic!("this test needs TAP devices: {error} (hint: {})", error.hint()),
    };
    let mut netlink = Netlink::open(&namespace).unwrap();
    let index = netlink.index_of("red0").unwrap();
    netlink.set_mac(index, MAC).unwrap();
    netlink.set_mtu(index, limits::LAN_MTU).unwrap();
    netlink.set_up(index).unwrap();
    netlink.add_address(index, at("10.9.0.1", 24)).unwrap();
    Interface { namespace, tap, netlink, index, buffer: TapBuffer::default() }
}

fn tenant() -> Namespace {
    Namespace::from_descriptor(sandbox::tenant(), "the test's").unwrap()
}

fn at(address: &str, prefix: u8) -> InterfaceAddress {
    InterfaceAddress { address: address.parse().unwrap(), prefix }
}

fn wait_readable(descriptor: &impl AsFd) {
    let mut fds = [PollFd::new(descriptor, PollFlags::IN)];
    let patience = PATIENCE.try_into().unwrap();
    assert_ne!(rustix::event::poll(&mut fds, Some(&patience)).unwrap(), 0, "nothing came in {PATIENCE:?}");
}

impl Interface {
    /// The next frame that `wanted` accepts; others (neighbour discovery, multicast listeners) are passed over.
    fn read(&mut self, wanted: impl Fn(&[u8]) -> bool) -> (Vnet, Vec<u8>) {
        loop {
            wait_readable(&self.tap);
            while let Some((vnet, len)) = self.tap.read(&mut self.buffer).unwrap() {
                let frame = self.buffer.octets(len);
                if wanted(frame) {
                    return (vnet, frame.to_vec());
                }
            }
        }
    }

    fn socket(&self, port: u16) -> UdpSocket {
        let socket = self.namespace.run(|| UdpSocket::bind(SocketAddr::from((OWN, port)))).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    fn addresses(&mut self) -> Vec<StackAddress> {
        let all = self.netlink.addresses().unwrap();
        all.into_iter().filter(|(index, _)| *index == self.index).map(|(_, address)| address).collect()
    }

    /// Tells the stack where `PEER` is, as its answer to an ARP request would.
    fn introduce_peer(&mut self) {
        self.socket(4000).send_to(b"who is there?", (PEER, 4000)).unwrap();
        let (_, request) = self.read(|frame| frame[12..14] == [0x08, 0x06]);
        let mut reply = request.clone();
        reply[0..6].copy_from_slice(&MAC.0);
        reply[6..12].copy_from_slice(&PEER_MAC.0);
        reply[20..22].copy_from_slice(&[0, 2]);
        reply[22..28].copy_from_slice(&PEER_MAC.0);
        reply[28..32].copy_from_slice(&PEER.octets());
        reply[32..38].copy_from_slice(&MAC.0);
        reply[38..42].copy_from_slice(&OWN.octets());
        assert_eq!(self.tap.write(&Vnet::default(), &reply, SharedOctets::empty()), Written::Taken);
        self.read(is_udp);
    }
}

fn is_udp(frame: &[u8]) -> bool {
    frame[12..14] == [0x08, 0x00] && frame[23] == 17
}

/// Makes a frame from the stack one of the peer's. The sum over the addresses does not change when they are exchanged.
fn turn_round(frame: &mut [u8]) {
    frame[0..6].copy_from_slice(&MAC.0);
    frame[6..12].copy_from_slice(&PEER_MAC.0);
    frame[26..30].copy_from_slice(&PEER.octets());
    frame[30..34].copy_from_slice(&OWN.octets());
}

/// Octets that a peer could still write, for as long as `octets` lives.
fn shared(octets: &[u8]) -> SharedOctets<'_> {
    // SAFETY: the result borrows `octets`.
    unsafe { SharedOctets::from_raw(octets.as_ptr(), octets.len()) }
}

/// A UDP datagram from `PEER` to port 4000 of `OWN`, with no sum (allowed in IPv4, RFC 768).
fn datagram(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend_from_slice(&MAC.0);
    frame.extend_from_slice(&PEER_MAC.0);
    frame.extend_from_slice(&[0x08, 0x00]);
    let total = (20 + 8 + payload.len()) as u16;
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0];
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    ip.extend_from_slice(&PEER.octets());
    ip.extend_from_slice(&OWN.octets());
    let sum = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>();
    let sum = !(((sum >> 16) + (sum & 0xffff)) as u16);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend_from_slice(&ip);
    frame.extend_from_slice(&4000u16.to_be_bytes());
    frame.extend_from_slice(&4000u16.to_be_bytes());
    frame.extend_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
    frame.extend_from_slice(&[0, 0]);
    frame.extend_from_slice(payload);
    frame
}

#[test]
fn an_interface_gets_its_addresses_and_the_monitor_sees_duplicate_address_detection_end() {
    in_own_namespace(
        "an_interface_gets_its_addresses_and_the_monitor_sees_duplicate_address_detection_end",
        || {
            let mut it = interface();
            let mut monitor = AddressMonitor::open(&it.namespace).unwrap();
            it.netlink.add_address(it.index, at("fd00:9::1", 64)).unwrap();
            // A second time changes nothing and fails nothing.
            it.netlink.add_address(it.index, at("fd00:9::1", 64)).unwrap();
            let first = it.addresses();
            let own = first.iter().find(|a| a.address == at("10.9.0.1", 24)).unwrap();
            assert!(own.is_usable, "IPv4 addresses are usable at once");
            let v6 = first.iter().find(|a| a.address == at("fd00:9::1", 64)).unwrap();
            assert!(!v6.is_usable, "an IPv6 address is looked for on the link first");
            loop {
                let addresses = it.addresses();
                let link_local = addresses.iter().any(|a| a.is_link_local() && a.is_usable);
                if link_local && addresses.len() == 3 && addresses.iter().all(|a| a.is_usable) {
                    break;
                }
                // SAFETY: the monitor outlives the call.
                wait_readable(&unsafe { std::os::fd::BorrowedFd::borrow_raw(monitor.as_raw_fd()) });
                assert!(monitor.has_changed());
                assert!(!monitor.has_changed(), "all notices were taken");
            }
            it.netlink.remove_address(it.index, at("fd00:9::1", 64)).unwrap();
            it.netlink.remove_address(it.index, at("fd00:9::1", 64)).unwrap();
            assert!(monitor.has_changed());
            assert_eq!(it.addresses().len(), 2);
        },
    );
}

#[test]
fn gateways_are_set_and_taken_away_for_both_families() {
    in_own_namespace("gateways_are_set_and_taken_away_for_both_families", || {
        let mut it = interface();
        it.netlink.add_address(it.index, at("fd00:9::1", 64)).unwrap();
        let lo = it.netlink.index_of("lo").unwrap();
        it.netlink.set_up(lo).unwrap();
        for gateway in ["10.9.0.254", "fd00:9::fe"].map(|text| text.parse::<IpAddr>().unwrap()) {
            it.netlink.set_gateway(it.index, gateway).unwrap();
            it.netlink.set_gateway(it.index, gateway).unwrap();
            let routes = || {
                let path = if gateway.is_ipv4() {
                    "/proc/thread-self/net/route"
                } else {
                    "/proc/thread-self/net/ipv6_route"
                };
                it.namespace.run(|| std::fs::read_to_string(path)).unwrap()
            };
            let wanted = if gateway.is_ipv4() { "FE00090A" } else { "fd0000090000000000000000000000fe" };
            assert!(routes().contains(wanted), "{}", routes());
        }
        let far = it.netlink.set_gateway(it.index, "192.0.2.1".parse().unwrap()).unwrap_err();
        assert!(far.to_string().contains("default gateway"), "{far}");
        let v4 = "10.9.0.254".parse().unwrap();
        it.netlink.remove_gateway(it.index, v4).unwrap();
        it.netlink.remove_gateway(it.index, v4).unwrap();
    });
}

#[test]
fn a_frame_crosses_the_tap_both_ways_with_its_checksum_state() {
    in_own_namespace("a_frame_crosses_the_tap_both_ways_with_its_checksum_state", || {
        let mut it = interface();
        it.introduce_peer();
        assert!(it.tap.has_tcp_segmentation(), "every kernel since 2.6.27 has it");
        let socket = it.socket(4000);
        socket.send_to(b"to the fabric", (PEER, 4000)).unwrap();
        let (vnet, frame) = it.read(is_udp);
        assert_eq!(&frame[42..], b"to the fabric");
        assert_eq!((vnet.flags, vnet.csum_start, vnet.csum_offset), (Vnet::NEEDS_CSUM, 34, 6));
        assert!(vnet.is_valid_for(frame.len()));

        let frame = datagram(b"from the fabric");
        let (head, rest) = frame.split_at(50);
        assert_eq!(it.tap.write(&Vnet::default(), head, shared(rest)), Written::Taken);
        let mut octets = [0; 64];
        let (len, from) = socket.recv_from(&mut octets).unwrap();
        assert_eq!((&octets[..len], from.ip()), (&b"from the fabric"[..], IpAddr::V4(PEER)));
    });
}

#[test]
fn a_datagram_as_long_as_the_mtu_is_one_frame() {
    in_own_namespace("a_datagram_as_long_as_the_mtu_is_one_frame", || {
        let mut it = interface();
        it.introduce_peer();
        let payload = vec![7; usize::from(limits::LAN_MTU) - 28];
        it.socket(4000).send_to(&payload, (PEER, 4000)).unwrap();
        let (_, frame) = it.read(|frame| is_udp(frame) && frame.len() > 1000);
        assert_eq!(frame.len(), usize::from(limits::LAN_MTU) + limits::ETHERNET_HEADER_LEN);
    });
}

#[test]
fn a_super_frame_is_read_whole_and_is_cut_up_where_it_is_written() {
    in_own_namespace("a_super_frame_is_read_whole_and_is_cut_up_where_it_is_written", || {
        let mut it = interface();
        it.introduce_peer();
        assert!(it.tap.has_udp_segmentation(), "this test needs a kernel from 6.2 on");
        let socket = it.socket(4000);
        let segment: libc::c_int = 1400;
        // SAFETY: UDP_SEGMENT reads one int.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_UDP,
                libc::UDP_SEGMENT,
                (&raw const segment).cast(),
                size_of_val(&segment) as libc::socklen_t,
            )
        };
        assert_eq!(set, 0);
        let payload: Vec<u8> = (0..40 * 1400).map(|i| (i / 1400) as u8).collect();
        socket.send_to(&payload, (PEER, 4000)).unwrap();
        let (vnet, mut frame) = it.read(|frame| is_udp(frame) && frame.len() > 50_000);
        assert_eq!((vnet.gso_type, vnet.gso_size, frame.len()), (5, 1400, 42 + 40 * 1400));
        assert!(vnet.is_valid_for(frame.len()));

        // The same frame back: the stack cuts it into its 40 datagrams.
        turn_round(&mut frame);
        let (head, rest) = frame.split_at(224);
        assert_eq!(it.tap.write(&vnet, head, shared(rest)), Written::Taken);
        let mut octets = [0; 2000];
        for number in 0..40 {
            assert_eq!(socket.recv(&mut octets).unwrap(), 1400);
            assert_eq!(octets[..1400], [number; 1400]);
        }
    });
}

#[test]
fn datagrams_joined_into_one_frame_reach_the_stack_as_they_left_it_whole_or_cut() {
    //= spec/super-frames.md#cutting
    //= type=test
    //# A node whose stack takes no super-frames of UDP MUST cut them into the datagrams that they stand for, with the state of a frame
    //# whose sum is to be completed.
    in_own_namespace("datagrams_joined_into_one_frame_reach_the_stack_as_they_left_it_whole_or_cut", || {
        let mut it = interface();
        it.introduce_peer();
        let socket = it.socket(4000);
        let sent: Vec<Vec<u8>> = [64, 64, 64, 64, 13].iter().map(|len| vec![*len as u8; *len]).collect();
        for datagram in &sent {
            socket.send_to(datagram, (PEER, 4000)).unwrap();
        }
        let (vnet, mut frame) = it.read(is_udp);
        let mut coalescer = UdpCoalescer::begin(&vnet, &frame).unwrap();
        while coalescer.count() < sent.len() {
            let (vnet, next) = it.read(is_udp);
            let payload = coalescer.admit(&frame, &vnet, &next).unwrap();
            frame.extend_from_slice(payload);
        }
        let vnet = coalescer.finish(&mut frame);
        assert_eq!((vnet.gso_type, vnet.gso_size, frame.len()), (5, 64, 42 + 4 * 64 + 13));

        turn_round(&mut frame);
        let (head, rest) = frame.split_at(200);
        for is_cut in [false, true] {
            let written = if is_cut {
                Cutter::default().write(&it.tap, &vnet, head, shared(rest))
            } else {
                it.tap.write(&vnet, head, shared(rest))
            };
            assert_eq!(written, Written::Taken);
            let mut octets = [0; 100];
            for datagram in &sent {
                let len = socket.recv(&mut octets).unwrap();
                assert_eq!(octets[..len], datagram[..], "cut: {is_cut}");
            }
        }
        let nonsense = Vnet { gso_size: 0, ..vnet };
        assert!(matches!(
            Cutter::default().write(&it.tap, &nonsense, &frame, SharedOctets::empty()),
            Written::Refused(_)
        ));
    });
}

#[test]
fn a_broken_frame_and_one_above_the_limit_are_refused_and_the_device_goes_on() {
    in_own_namespace("a_broken_frame_and_one_above_the_limit_are_refused_and_the_device_goes_on", || {
        let mut it = interface();
        it.introduce_peer();
        let nonsense = Vnet { gso_type: 99, gso_size: 1, flags: 1, ..Vnet::default() };
        assert!(matches!(
            it.tap.write(&nonsense, &datagram(b"x"), SharedOctets::empty()),
            Written::Refused(_)
        ));
        assert!(matches!(
            it.tap.write(&Vnet::default(), &[1, 2, 3], SharedOctets::empty()),
            Written::Refused(_)
        ));
        let long = vec![0; limits::FRAME_LEN_MAX];
        let refused = it.tap.write(&Vnet::default(), &datagram(b"x"), shared(&long));
        assert_eq!(refused, Written::Refused(rustix::io::Errno::MSGSIZE));
        let socket = it.socket(4000);
        assert_eq!(
            it.tap.write(&Vnet::default(), &datagram(b"still here"), SharedOctets::empty()),
            Written::Taken
        );
        let mut octets = [0; 64];
        assert_eq!(socket.recv(&mut octets).unwrap(), 10);
    });
}

#[test]
fn a_tap_of_a_name_that_is_taken_is_refused_and_a_dropped_one_gives_its_name_back() {
    in_own_namespace(
        "a_tap_of_a_name_that_is_taken_is_refused_and_a_dropped_one_gives_its_name_back",
        || {
            let namespace = tenant();
            let first = tap::create(&namespace, "red0").unwrap();
            let second = tap::create(&namespace, "red0").unwrap_err();
            assert!(second.to_string().contains("red0"), "{second}");
            assert!(rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).is_ok());
            drop(first);
            tap::create(&namespace, "red0").unwrap();
        },
    );
}
