//! An ether leg by AF_XDP on a device that takes nothing for a while: a bridge in a network namespace of its own, whose one port is a TAP
//! behind a token bucket (tc-tbf(8)). The test holds the other end of the TAP, which is the wire.
#![cfg(not(loom))]

#[path = "../../switch-node/tests/sandbox/namespace.rs"]
#[expect(dead_code, reason = "no test here has a tenant")]
mod sandbox;

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType};
use rvi::host::ether::{EtherDriver, EtherPlace};
use rvi::host::packet_socket;
use rvi::host::packets::{LegPlace, PacketSockets};
use rvi::host::tap::{Tap, TapBuffer};
use rvi::packet::ether_frame::{ETHER_TYPE, HEADER_LEN};
use rvi::packet::port::{PacketBatch, PacketMachine};
use rvi::packet::transport::TransmitBuffer;
use sandbox::in_own_namespace;
use vlan_core::super_frame::FrameRoom;
use vlan_core::wire::control::LegAddress;
use vlan_core::{EtherAddress, EtherPort, Instant, LegNumber, MacAddress, NodeNumber};

const BRIDGE: &str = "br0";
const PORT: &str = "up0";
const MTU: i32 = 4100;
const LEG: LegNumber = LegNumber(0);
const OWN: EtherPort = EtherPort::of_node(NodeNumber(7));
const FAR: EtherAddress = EtherAddress { mac: MacAddress([2, 0, 0, 0, 0, 9]), port: OWN };
/// Together more than a socket may have under way: the kernel counts some 8 KiB for each.
const PACKETS: u32 = 505;
const PACKET_LEN: usize = 4000;

/// Has so many packets to send, which are numbered.
struct Sender {
    next: u32,
}

impl PacketMachine for Sender {
    fn handle_packet(&mut self, _: Instant, _: LegNumber, _: LegAddress, _: &mut [u8]) {}

    fn poll_transmit(&mut self, _: Instant, out: &mut TransmitBuffer) -> Option<PacketBatch> {
        let mut packet = [0; PACKET_LEN];
        packet[..4].copy_from_slice(&self.next.to_be_bytes());
        out.fill(&packet);
        let batch = PacketBatch { leg: LEG, to: LegAddress::Ether(FAR), segment_len: PACKET_LEN };
        self.next += 1;
        (self.next <= PACKETS).then_some(batch)
    }

    fn set_packet_len_max(&mut self, _: LegNumber, _: usize) {}
}

#[test]
fn packets_that_a_device_had_no_room_for_go_when_it_has() {
    //= spec/leg-ether.md#packets-that-wait-for-a-device
    //= type=test
    //# A packet that was taken and waits for room at the device MUST be tried again within 1 ms, whether others follow it or not.
    in_own_namespace("packets_that_a_device_had_no_room_for_go_when_it_has", || {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
        if !map.split_whitespace().eq(["0", "0", "4294967295"]) {
            // Bpf is for those who administer the machine, not for root of a user namespace.
            return;
        }
        let wire = Tap::create(PORT).unwrap_or_else(|e| panic!("this test needs TAP devices: {e}"));
        make_bridge();
        let place = EtherPlace { device: BRIDGE.to_owned(), port: OWN, driver: EtherDriver::AfXdp };
        let mut sockets = PacketSockets::open(&[(LEG, LegPlace::Ether(place))]).unwrap().unwrap();
        let way = sockets.poll_way().unwrap().way;
        assert_eq!(way.driver(), EtherDriver::AfXdp, "{way}");
        let mut sender = Sender { next: 0 };
        sockets.handle_timeout(Instant::ZERO, &mut sender);
        hold();
        let ms = |ms| Instant::ZERO + Duration::from_millis(ms);
        while !sockets.transmit(ms(1), &mut sender).is_all {}
        assert_eq!(sockets.poll_timeout(), Some(ms(2)));
        // Still no room: in a millisecond again.
        sockets.handle_timeout(ms(2), &mut sender);
        assert_eq!(sockets.poll_timeout(), Some(ms(3)));
        let last = || std::iter::from_fn(|| numbered(&wire)).last();
        assert!(last().is_some_and(|last| last < 5), "the bucket has room for few frames");
        // What the bucket has is lost, and it has no room any more for anybody.
        let_go();
        sockets.handle_timeout(ms(3), &mut sender);
        assert_eq!((last(), sockets.poll_timeout()), (Some(PACKETS - 1), Some(ms(1000))));
    });
}

/// The number of the next packet of the leg on the wire, if there is one now.
fn numbered(wire: &Tap) -> Option<u32> {
    let mut buffer = TapBuffer::default();
    loop {
        let (_, len) = wire.read(&mut buffer).unwrap()?;
        let frame = buffer.octets(len);
        if frame[12..14] == ETHER_TYPE.to_be_bytes() {
            let (number, _) = frame[HEADER_LEN..].split_first_chunk()?;
            return Some(u32::from_be_bytes(*number));
        }
    }
}

fn any_socket() -> OwnedFd {
    rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap()
}

fn index_of(device: &str) -> i32 {
    packet_socket::device(&any_socket(), device).unwrap().expect("an Ethernet device").index
}

/// A bridge whose one port is the TAP device.
fn make_bridge() {
    std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
    // `linux/sockios.h`.
    const ADD_BRIDGE: libc::Ioctl = 0x89a0;
    const ADD_PORT: libc::Ioctl = 0x89a2;
    let name = c"br0";
    // SAFETY: the request reads a name that ends with a zero.
    let done = unsafe { libc::ioctl(any_socket().as_raw_fd(), ADD_BRIDGE, name.as_ptr()) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    let index = index_of(PORT);
    for (device, request, value) in [(PORT, libc::SIOCSIFMTU as libc::Ioctl, MTU), (BRIDGE, ADD_PORT, index)]
    {
        // SAFETY: integers and octets, for which zeroes are a valid value.
        let mut question: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in question.ifr_name.iter_mut().zip(device.bytes()) {
            *to = from as libc::c_char;
        }
        // The MTU and the number of an interface lie at the same place.
        question.ifr_ifru.ifru_ifindex = value;
        // SAFETY: the requests read a name and a number in an ifreq, which `question` is.
        let done = unsafe { libc::ioctl(any_socket().as_raw_fd(), request, &raw const question) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }
    for device in [PORT, BRIDGE] {
        packet_socket::set_up(&any_socket(), device).unwrap();
    }
}

// Of `linux/rtnetlink.h` and `linux/pkt_sched.h`.
const NEW_QDISC: u16 = 36;
const DELETE_QDISC: u16 = 37;
/// `NLM_F_REQUEST | NLM_F_ACK`.
const REQUEST: u16 = 1 | 4;
/// `NLM_F_CREATE | NLM_F_REPLACE`.
const CREATE: u16 = 0x400 | 0x100;
const ROOT: u32 = u32::MAX;
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const PARAMETERS: u16 = 1;
const BURST: u16 = 6;

/// Puts a token bucket before the port that lets two frames past, and then an octet a second.
fn hold() {
    // Link layer Ethernet; an octet a second; no second rate; 100 MB may wait.
    let rate = [&[0, 1][..], &[0; 6], &1_u32.to_ne_bytes(), &[0; 12]].concat();
    let parameters = [&rate[..], &100_000_000_u32.to_ne_bytes(), &[0; 8]].concat();
    let options = [attribute(PARAMETERS, &parameters), attribute(BURST, &10_000_u32.to_ne_bytes())].concat();
    let attributes = [attribute(KIND, b"tbf\0"), attribute(OPTIONS, &options)].concat();
    change_qdisc(NEW_QDISC, REQUEST | CREATE, &attributes);
}

fn let_go() {
    change_qdisc(DELETE_QDISC, REQUEST, &[]);
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = (4 + value.len()) as u16;
    [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat()
}

fn change_qdisc(kind: u16, flags: u16, attributes: &[u8]) {
    let index = index_of(PORT).to_ne_bytes();
    let body = [&[0; 4][..], &index, &[0; 4], &ROOT.to_ne_bytes(), &[0; 4], attributes].concat();
    let len = (16 + body.len()) as u32;
    let head = [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8]].concat();
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None).unwrap();
    rustix::net::send(&socket, &[head, body].concat(), SendFlags::empty()).unwrap();
    let mut answer = [0; 1024];
    rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty()).unwrap();
    let (error, _) = answer[16..].split_first_chunk().unwrap();
    assert_eq!(i32::from_ne_bytes(*error), 0, "the kernel refuses the token bucket");
}
