//! A member's stack, one outside, and an uplink between them.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant as Clock};

use lan_proxy::nic::{Driver, FrameBuffer, Nic, Sent};
use lan_proxy::{Device, Holder, Inside, Inward, LanProxy, Mode, Outward, Trunk, UplinkConfig, Vid};
use rvi::SharedOctets;
use switch_node::agent::namespace::Namespace;
use switch_node::agent::netlink::Netlink;
use switch_node::agent::tap::{self, Tap, TapBuffer, Written};
use vlan_core::security::Limits;
use vlan_core::server::MemberSlot;
use vlan_core::super_frame::FrameRoom;
use vlan_core::wire::Vnet;
use vlan_core::wire::control::InterfaceAddress;
use vlan_core::{Instant, MacAddress};

use crate::sandbox;

/// A test that waits longer than this for the kernel has failed; nothing is measured by it.
pub const PATIENCE: Duration = Duration::from_secs(30);
pub const SYSTEM: MacAddress = MacAddress([2, 0, 1, 0, 0xff, 1]);
pub const MEMBER: MacAddress = MacAddress([2, 0, 1, 0, 0, 1]);
pub const HOST: MacAddress = MacAddress([0x52, 0x54, 0, 0, 0, 200]);
pub const MEMBER_V4: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
pub const MEMBER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1);
pub const HOST_V4: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 200);
pub const HOST_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 200);
/// What the host has.
pub const HOST_ADDRESSES: [(IpAddr, u8); 2] = [(IpAddr::V4(HOST_V4), 24), (IpAddr::V6(HOST_V6), 64)];
pub const MTU: u16 = 1500;
pub const LAN_MTU: u16 = 16_896;

/// A LAN of one member.
pub struct OneMember;

impl Inside for OneMember {
    fn owner_of(&self, mac: MacAddress) -> Option<MemberSlot> {
        (mac == MEMBER).then_some(MemberSlot(0))
    }

    fn holder_of(&self, address: IpAddr) -> Option<Holder> {
        let is_held = address == IpAddr::from(MEMBER_V4) || address == IpAddr::from(MEMBER_V6);
        is_held.then_some(Holder { slot: MemberSlot(0), mac: MEMBER })
    }

    fn is_own(&self, mac: MacAddress) -> bool {
        mac == MEMBER || mac == SYSTEM
    }
}

/// A stack with one interface.
pub struct Stack {
    pub namespace: Namespace,
}

/// The member's stack and its end of it.
pub fn member() -> (Stack, Tap) {
    tap_stack(MEMBER, LAN_MTU, [(MEMBER_V4.into(), 24), (MEMBER_V6.into(), 64)])
}

/// The stack of a host outside and its end of it.
pub fn host() -> (Stack, Tap) {
    tap_stack(HOST, MTU, HOST_ADDRESSES)
}

fn tap_stack(mac: MacAddress, mtu: u16, addresses: [(IpAddr, u8); 2]) -> (Stack, Tap) {
    let stack = Stack::new();
    let tap = tap::create(&stack.namespace, "eth0");
    let tap = tap.unwrap_or_else(|e| panic!("this test needs TAP devices: {e}"));
    stack.configure("eth0", mac, mtu, addresses);
    (stack, tap)
}

/// The namespace that the test is in.
pub fn here() -> Namespace {
    let here = File::open("/proc/thread-self/ns/net").unwrap();
    Namespace::from_descriptor(here.into(), "this one").unwrap()
}

/// How uplinks' devices can be driven: bpf is for those who administer the machine, not for root of a user namespace.
pub fn drivers() -> Vec<Driver> {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    let is_root = map.split_whitespace().eq(["0", "0", "4294967295"]);
    [Driver::AfPacket, Driver::AfXdp].into_iter().take(1 + usize::from(is_root)).collect()
}

impl Stack {
    pub fn new() -> Self {
        Self { namespace: Namespace::from_descriptor(sandbox::tenant(), "the test's").unwrap() }
    }

    /// Gives an interface what it needs, and sets it up.
    pub fn configure(&self, interface: &str, mac: MacAddress, mtu: u16, addresses: [(IpAddr, u8); 2]) {
        let mut netlink = Netlink::open(&self.namespace).unwrap();
        let index = netlink.index_of(interface).unwrap();
        netlink.set_mac(index, mac).unwrap();
        netlink.set_mtu(index, mtu).unwrap();
        netlink.set_up(index).unwrap();
        for (address, prefix) in addresses {
            netlink.add_address(index, InterfaceAddress { address, prefix }).unwrap();
        }
    }

    pub fn bind_udp(&self, address: IpAddr) -> UdpSocket {
        let deadline = Clock::now() + PATIENCE;
        loop {
            // An IPv6 address can be bound only once it has been probed for.
            match self.namespace.run(|| UdpSocket::bind(SocketAddr::from((address, 0)))) {
                Ok(socket) => {
                    socket.set_read_timeout(Some(PATIENCE)).unwrap();
                    return socket;
                }
                Err(error) => assert!(Clock::now() < deadline, "{address}: {error}"),
            }
        }
    }
}

/// An uplink of the member's LAN.
pub struct Uplink {
    pub proxy: LanProxy,
    pub trunk: Trunk,
    pub nic: Nic,
    start: Clock,
    tap_buffer: TapBuffer,
    frame_buffer: FrameBuffer,
}

impl Uplink {
    pub fn new(nic: Nic, mode: Mode, vid: Option<Vid>, offloads: bool) -> Self {
        let device = Device { offloads, ..nic.device() };
        let config = UplinkConfig { mode, vid, device, lan_mtu: LAN_MTU, limits: Limits::default(), seed: 3 };
        let mut trunk = Trunk::default();
        trunk.add(vid, 0).unwrap();
        Self {
            proxy: LanProxy::new(&config).unwrap(),
            trunk,
            nic,
            start: Clock::now(),
            tap_buffer: TapBuffer::default(),
            frame_buffer: FrameBuffer::default(),
        }
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.start.elapsed().as_nanos() as u64)
    }

    pub fn take_from_member(&mut self, member: &Tap) {
        while let Some((vnet, len)) = member.read(&mut self.tap_buffer).unwrap() {
            let now = self.now();
            let frame = self.tap_buffer.octets(len);
            let nic = &mut self.nic;
            let verdict = self.proxy.outward(now, &vnet, frame, &OneMember, |vnet, frame| {
                assert_eq!(nic.send(vnet, frame), Sent::Taken);
            });
            if let Outward::TooBig(error) = verdict {
                write(member, &Vnet::default(), error);
            }
        }
        assert!(self.nic.flush(), "a veth or TAP device always has room");
    }

    pub fn take_from_outside(&mut self, member: &Tap) {
        while let Some((vnet, len)) = self.nic.receive(&mut self.frame_buffer).unwrap() {
            let frame = self.frame_buffer.octets_mut(len);
            let Ok((_, vnet, frame)) = self.trunk.untag(&vnet, frame) else { continue };
            let now = Instant::from_nanos(self.start.elapsed().as_nanos() as u64);
            match self.proxy.inward(now, &vnet, frame, &OneMember) {
                Inward::Member(_) | Inward::Group => write(member, &vnet, frame),
                Inward::Dropped(_) => {}
            }
        }
    }
}

/// Makes a device of this namespace that is up.
pub fn wire_end(mtu: u16) -> Tap {
    let here = here();
    let up = tap::create(&here, "up0").unwrap();
    let mut netlink = Netlink::open(&here).unwrap();
    let index = netlink.index_of("up0").unwrap();
    // This namespace's own stack has nothing to do with the device.
    std::fs::write("/proc/sys/net/ipv6/conf/up0/disable_ipv6", "1").unwrap();
    netlink.set_mtu(index, mtu).unwrap();
    netlink.set_up(index).unwrap();
    up
}

/// Looks until the device has a carrier: by AF_XDP it is opened beside, which takes a moment.
pub fn look_until_carrier(nic: &mut Nic, now: Instant) {
    let deadline = Clock::now() + PATIENCE;
    while !(nic.look(now) && nic.has_carrier()) {
        assert!(Clock::now() < deadline, "{} gets no carrier", nic.name());
        thread::yield_now();
    }
}

pub fn write(tap: &Tap, vnet: &Vnet, frame: &[u8]) {
    let written = tap.write(vnet, frame, SharedOctets::empty());
    assert!(matches!(written, Written::Taken), "{written:?}: {vnet:?}, {} octets", frame.len());
}

/// A datagram there and one back.
pub fn echo(from: &UdpSocket, to: &UdpSocket, payload: &[u8]) {
    from.send_to(payload, to.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 65_536];
    let (len, source) = to.recv_from(&mut buffer).expect("a datagram arrives");
    assert!(buffer[..len] == *payload && source == from.local_addr().unwrap());
    to.send_to(&buffer[..len], source).unwrap();
    assert_eq!(from.recv_from(&mut buffer).expect("an answer arrives").0, len);
}

/// A stream of `len` octets from one to the other.
pub fn stream(from: &Stack, to: &Stack, address: IpAddr, len: usize) {
    let listener = to.namespace.run(|| TcpListener::bind(SocketAddr::from((address, 0)))).unwrap();
    let place = listener.local_addr().unwrap();
    thread::scope(|scope| {
        let taker = scope.spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            connection.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut all = Vec::new();
            connection.read_to_end(&mut all).unwrap();
            all
        });
        let octets: Vec<u8> = (0..len).map(|n| (n / 7) as u8).collect();
        let mut connection = from.namespace.run(|| TcpStream::connect(place)).unwrap();
        connection.set_write_timeout(Some(PATIENCE)).unwrap();
        connection.write_all(&octets).unwrap();
        drop(connection);
        assert!(taker.join().unwrap() == octets, "{len} octets arrive as they were");
    });
}

/// Datagrams and streams of both families, begun from both sides.
pub fn talk(member: &Stack, host: &Stack) {
    for (own, far) in [(MEMBER_V4.into(), HOST_V4.into()), (IpAddr::from(MEMBER_V6), IpAddr::from(HOST_V6))] {
        let (inner, outer) = (member.bind_udp(own), host.bind_udp(far));
        echo(&inner, &outer, b"from inside");
        echo(&outer, &inner, b"from outside");
        echo(&inner, &outer, &[7; 1400]);
        stream(member, host, far, 1 << 20);
        stream(host, member, own, 1 << 20);
    }
}
