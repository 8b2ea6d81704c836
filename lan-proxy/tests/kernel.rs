//! An uplink between two stacks of the kernel: a member's, with a large MTU, and one of a host outside, with 1500 octets.
//!
//! ```text
//! member's TAP <-> LanProxy <-> AfPacket on `up0`, a TAP whose other end is the wire <-> TAP of the host outside
//! ```
//!
//! Every frame on the wire is looked at.

#![cfg(feature = "std")]

#[path = "../../switch-node/tests/sandbox/namespace.rs"]
mod sandbox;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant as Clock};

use lan_proxy::nic::Sent;
use lan_proxy::nic::af_packet::{AfPacket, FrameBuffer};
use lan_proxy::{Device, Holder, Inside, Inward, LanProxy, Mode, Outward, Trunk, UplinkConfig, Vid, audit};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rvi::SharedOctets;
use sandbox::in_own_namespace;
use switch_node::agent::namespace::Namespace;
use switch_node::agent::netlink::Netlink;
use switch_node::agent::tap::{self, Tap, TapBuffer, Written};
use vlan_core::security::Limits;
use vlan_core::server::MemberSlot;
use vlan_core::wire::Vnet;
use vlan_core::wire::control::InterfaceAddress;
use vlan_core::{Instant, MacAddress};

/// A test that waits longer than this for the kernel has failed; nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(30);
const SYSTEM: MacAddress = MacAddress([2, 0, 1, 0, 0xff, 1]);
const MEMBER: MacAddress = MacAddress([2, 0, 1, 0, 0, 1]);
const HOST: MacAddress = MacAddress([0x52, 0x54, 0, 0, 0, 200]);
const MEMBER_V4: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const MEMBER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1);
const HOST_V4: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 200);
const HOST_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 200);
const MTU: u16 = 1500;
const LAN_MTU: u16 = 16_896;

/// A LAN of one member.
struct OneMember;

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

/// A stack with one interface, `eth0`.
struct Stack {
    namespace: Namespace,
    tap: Tap,
}

fn stack(mac: MacAddress, mtu: u16, addresses: [(IpAddr, u8); 2]) -> Stack {
    let namespace = Namespace::from_descriptor(sandbox::tenant(), "the test's").unwrap();
    let tap = tap::create(&namespace, "eth0").unwrap_or_else(|e| panic!("this test needs TAP devices: {e}"));
    let mut netlink = Netlink::open(&namespace).unwrap();
    let index = netlink.index_of("eth0").unwrap();
    netlink.set_mac(index, mac).unwrap();
    netlink.set_mtu(index, mtu).unwrap();
    netlink.set_up(index).unwrap();
    for (address, prefix) in addresses {
        netlink.add_address(index, InterfaceAddress { address, prefix }).unwrap();
    }
    Stack { namespace, tap }
}

impl Stack {
    fn bind_udp(&self, address: IpAddr) -> UdpSocket {
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

/// A device of this namespace that nothing else uses, and the wire at its other end.
fn device(mode: Mode) -> (AfPacket, Tap) {
    let up = wire_end(MTU);
    let nic = AfPacket::open("up0", &[mode]).unwrap_or_else(|e| panic!("{e} (hint: {})", e.hint()));
    assert_eq!((nic.name(), nic.device()), ("up0", Device { mtu: MTU, offloads: true }));
    assert!(nic.has_carrier());
    (nic, up)
}

/// Makes a device of this namespace that is up.
fn wire_end(mtu: u16) -> Tap {
    let here = File::open("/proc/thread-self/ns/net").unwrap();
    let here = Namespace::from_descriptor(here.into(), "this one").unwrap();
    let up = tap::create(&here, "up0").unwrap();
    let mut netlink = Netlink::open(&here).unwrap();
    let index = netlink.index_of("up0").unwrap();
    // This namespace's own stack has nothing to do with the device.
    std::fs::write("/proc/sys/net/ipv6/conf/up0/disable_ipv6", "1").unwrap();
    netlink.set_mtu(index, mtu).unwrap();
    netlink.set_up(index).unwrap();
    up
}

/// What went by on the wire.
#[derive(Default)]
struct Seen {
    /// Sources of frames from the uplink.
    sources: BTreeSet<MacAddress>,
    /// What the frames from the uplink state of them.
    stated: BTreeSet<MacAddress>,
    frames: u64,
    faults: Vec<(audit::Fault, Vec<u8>)>,
}

/// Everything between the two stacks.
struct Wire {
    proxy: LanProxy,
    trunk: Trunk,
    nic: AfPacket,
    up: Tap,
    vid: Option<Vid>,
    offloads: bool,
    start: Clock,
    seen: Seen,
    tap_buffer: TapBuffer,
    frame_buffer: FrameBuffer,
}

impl Wire {
    fn new(mode: Mode, vid: Option<Vid>, offloads: bool) -> Self {
        let (nic, up) = device(mode);
        let device = Device { offloads, ..nic.device() };
        let config = UplinkConfig { mode, vid, device, lan_mtu: LAN_MTU, limits: Limits::default(), seed: 3 };
        let mut trunk = Trunk::default();
        trunk.add(vid, 0).unwrap();
        Self {
            proxy: LanProxy::new(&config).unwrap(),
            trunk,
            nic,
            up,
            vid,
            offloads,
            start: Clock::now(),
            seen: Seen::default(),
            tap_buffer: TapBuffer::default(),
            frame_buffer: FrameBuffer::default(),
        }
    }

    /// Carries frames until `stop` says so.
    fn run(&mut self, member: &Tap, host: &Tap, stop: &mpsc::Receiver<()>) {
        while matches!(stop.try_recv(), Err(mpsc::TryRecvError::Empty)) {
            let mut fds = [
                PollFd::new(member, PollFlags::IN),
                PollFd::new(host, PollFlags::IN),
                PollFd::new(&self.up, PollFlags::IN),
                PollFd::new(&self.nic, PollFlags::IN),
            ];
            let tick = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            poll(&mut fds, Some(&tick)).unwrap();
            self.take_from_member(member);
            self.take_from_uplink(host);
            self.take_from_host(host);
            self.take_from_outside(member);
        }
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.start.elapsed().as_nanos() as u64)
    }

    fn take_from_member(&mut self, member: &Tap) {
        while let Some(len) = member.read(&mut self.tap_buffer).unwrap() {
            let now = self.now();
            let (vnet, frame) = self.tap_buffer.frame(len);
            let nic = &self.nic;
            let verdict = self.proxy.outward(now, &vnet, frame, &OneMember, |vnet, frame| {
                assert_eq!(nic.send(vnet, frame), Sent::Taken);
            });
            if let Outward::TooBig(error) = verdict {
                write(member, &Vnet::default(), error);
            }
        }
    }

    /// A frame that the device puts on the wire.
    fn take_from_uplink(&mut self, host: &Tap) {
        while let Some(len) = self.up.read(&mut self.tap_buffer).unwrap() {
            let (vnet, frame) = self.tap_buffer.frame(len);
            self.seen.frames += 1;
            let macs = audit::stated_macs(frame);
            self.seen.sources.insert(macs[1]);
            self.seen.stated.extend(&macs[1..]);
            // What is left to the device is not done yet here.
            let is_done = vnet.flags & Vnet::NEEDS_CSUM == 0;
            assert!(is_done || self.offloads);
            if let Some(fault) = audit::check(frame, self.vid, MTU).err().filter(|_| is_done) {
                self.seen.faults.push((fault, frame.to_vec()));
            }
            // The host has no tags: its switch port takes them off.
            let mut octets = frame.to_vec();
            let (_, vnet, frame) = self.trunk.untag(&vnet, &mut octets).unwrap();
            write(host, &vnet, frame);
        }
    }

    fn take_from_host(&mut self, host: &Tap) {
        while let Some(len) = host.read(&mut self.tap_buffer).unwrap() {
            let (vnet, frame) = self.tap_buffer.frame(len);
            let Some(vid) = self.vid else {
                write(&self.up, &vnet, frame);
                continue;
            };
            let [high, low] = vid.number().to_be_bytes();
            let tagged = [&frame[..12], &[0x81, 0, high, low], &frame[12..]].concat();
            let moved = |at: u16| if at == 0 { 0 } else { at + 4 };
            let vnet = Vnet { csum_start: moved(vnet.csum_start), hdr_len: moved(vnet.hdr_len), ..vnet };
            write(&self.up, &vnet, &tagged);
        }
    }

    fn take_from_outside(&mut self, member: &Tap) {
        while let Some((vnet, frame)) = self.nic.receive(&mut self.frame_buffer).unwrap() {
            let Ok((_, vnet, frame)) = self.trunk.untag(&vnet, frame) else { continue };
            let now = Instant::from_nanos(self.start.elapsed().as_nanos() as u64);
            match self.proxy.inward(now, &vnet, frame, &OneMember) {
                Inward::Member(_) | Inward::Group => write(member, &vnet, frame),
                Inward::Dropped(_) => {}
            }
        }
    }
}

fn write(tap: &Tap, vnet: &Vnet, frame: &[u8]) {
    let written = tap.write(vnet, frame, SharedOctets::empty());
    assert!(matches!(written, Written::Taken), "{written:?}: {vnet:?}, {} octets", frame.len());
}

/// Runs `talk` between the member's stack and the host's, and says what was on the wire.
fn between(
    mode: Mode,
    vid: Option<u16>,
    offloads: bool,
    talk: impl FnOnce(&Stack, &Stack),
) -> (LanProxy, Seen) {
    let member = stack(MEMBER, LAN_MTU, [(MEMBER_V4.into(), 24), (MEMBER_V6.into(), 64)]);
    let host = stack(HOST, MTU, [(HOST_V4.into(), 24), (HOST_V6.into(), 64)]);
    let mut wire = Wire::new(mode, vid.and_then(Vid::new), offloads);
    let (stop, stopped) = mpsc::channel();
    thread::scope(|scope| {
        let (wire, taps) = (&mut wire, (&member.tap, &host.tap));
        let carrier = scope.spawn(move || wire.run(taps.0, taps.1, &stopped));
        // Also when `talk` panics.
        let _stop = stop;
        talk(&member, &host);
        drop(_stop);
        carrier.join().unwrap();
    });
    let Seen { faults, .. } = &wire.seen;
    assert!(faults.is_empty(), "{:?} in {:02x?}", faults[0].0, faults[0].1);
    (wire.proxy, wire.seen)
}

/// A datagram there and one back.
fn echo(from: &UdpSocket, to: &UdpSocket, payload: &[u8]) {
    from.send_to(payload, to.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 65_536];
    let (len, source) = to.recv_from(&mut buffer).expect("a datagram arrives");
    assert!(buffer[..len] == *payload && source == from.local_addr().unwrap());
    to.send_to(&buffer[..len], source).unwrap();
    assert_eq!(from.recv_from(&mut buffer).expect("an answer arrives").0, len);
}

/// A stream of `len` octets from one to the other.
fn stream(from: &Stack, to: &Stack, address: IpAddr, len: usize) {
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
fn talk(member: &Stack, host: &Stack) {
    for (own, far) in [(MEMBER_V4.into(), HOST_V4.into()), (IpAddr::from(MEMBER_V6), IpAddr::from(HOST_V6))] {
        let (inner, outer) = (member.bind_udp(own), host.bind_udp(far));
        echo(&inner, &outer, b"from inside");
        echo(&outer, &inner, b"from outside");
        echo(&inner, &outer, &[7; 1400]);
        stream(member, host, far, 1 << 20);
        stream(host, member, own, 1 << 20);
    }
}

#[test]
fn a_filtered_lan_talks_to_outside_as_one_station() {
    //= spec/uplink.md#what-a-device-hears
    //= type=test
    //# The device of an uplink MUST be made to hear the uplink's system MAC and every group in filtered mode, and everything in
    //# unfiltered mode.
    in_own_namespace("a_filtered_lan_talks_to_outside_as_one_station", || {
        for (vid, offloads) in [(None, false), (None, true), (Some(100), false)] {
            let (proxy, seen) = between(Mode::Filtered { system: SYSTEM }, vid, offloads, talk);
            assert_eq!(seen.sources, BTreeSet::from([SYSTEM]));
            assert!(!seen.stated.contains(&MEMBER), "{:?}", seen.stated);
            assert!(proxy.is_outside(HOST) && seen.frames > 0);
        }
    });
}

#[test]
fn an_unfiltered_lan_talks_to_outside_with_its_own_macs() {
    in_own_namespace("an_unfiltered_lan_talks_to_outside_with_its_own_macs", || {
        for (vid, offloads) in [(None, false), (None, true), (Some(7), true)] {
            let (_, seen) = between(Mode::Unfiltered, vid, offloads, talk);
            assert_eq!(seen.sources, BTreeSet::from([MEMBER]));
        }
    });
}

#[test]
fn a_sender_of_long_datagrams_learns_what_outside_takes() {
    in_own_namespace("a_sender_of_long_datagrams_learns_what_outside_takes", || {
        let (proxy, _) = between(Mode::Filtered { system: SYSTEM }, None, false, |member, host| {
            for (own, far) in
                [(MEMBER_V4.into(), HOST_V4.into()), (IpAddr::from(MEMBER_V6), IpAddr::from(HOST_V6))]
            {
                let (inner, outer) = (member.bind_udp(own), host.bind_udp(far));
                let payload = [9; 8000];
                let mut buffer = [0; 65_536];
                outer.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
                // The first is refused, and its sender's stack cuts the next to the size that it was told.
                let deadline = Clock::now() + PATIENCE;
                loop {
                    assert!(Clock::now() < deadline, "no datagram arrives from {own}");
                    // The error may be told at the next call.
                    let _ = inner.send_to(&payload, outer.local_addr().unwrap());
                    if let Ok((len, _)) = outer.recv_from(&mut buffer) {
                        assert_eq!(buffer[..len], payload);
                        break;
                    }
                }
            }
        });
        assert!(proxy.counters().errors >= 2);
        assert_eq!(proxy.counters().errors, proxy.counters().drops.of(vlan_core::DropReason::TooBigOutside));
    });
}

#[test]
fn what_this_host_sends_does_not_come_from_outside() {
    in_own_namespace("what_this_host_sends_does_not_come_from_outside", || {
        //= spec/uplink.md#frames-of-this-host
        //= type=test
        //# What this host sends by the device MUST NOT be taken for a frame from outside.
        let (nic, up) = device(Mode::Unfiltered);
        let another = AfPacket::open("up0", &[Mode::Unfiltered]).unwrap();
        let mut buffer = FrameBuffer::default();
        let frame = [&HOST.0[..], &MEMBER.0, &[0x88, 0xb5], &[5; 60]].concat();
        assert_eq!(another.send(&Vnet::default(), &frame), Sent::Taken);
        assert_eq!(nic.receive(&mut buffer), Ok(None));
        let mut seen = TapBuffer::default();
        let len = up.read(&mut seen).unwrap().expect("it is on the wire");
        assert_eq!(seen.frame(len).1, frame);
        write(&up, &Vnet::default(), &frame);
        assert_eq!(nic.receive(&mut buffer).unwrap().expect("it comes from outside").1, frame);
        // Longer than the device takes.
        let long = [&frame[..], &[0; 1500]].concat();
        assert!(matches!(nic.send(&Vnet::default(), &long), Sent::Refused(_)));
    });
}

#[test]
fn a_tag_on_the_wire_is_there_when_its_frame_is_taken() {
    in_own_namespace("a_tag_on_the_wire_is_there_when_its_frame_is_taken", || {
        //= spec/uplink.md#tags-that-the-kernel-takes-off
        //= type=test
        //# A tag that the kernel has taken off a frame MUST be put back before the frame is given to its LAN.
        let (nic, up) = device(Mode::Unfiltered);
        let mut buffer = FrameBuffer::default();
        let addresses = [HOST.0, MEMBER.0].concat();
        let rest = [&[0x88, 0xb5][..], &[5; 60]].concat();
        for tags in [&[][..], &[0x81, 0, 0x60, 100], &[0x88, 0xa8, 0, 1], &[0x81, 0, 0, 1, 0x81, 0, 0, 2]] {
            let frame = [&addresses, tags, &rest].concat();
            write(&up, &Vnet::default(), &frame);
            let (vnet, taken) = nic.receive(&mut buffer).unwrap().expect("it comes from outside");
            assert_eq!((vnet.flags & Vnet::NEEDS_CSUM, &*taken), (0, &frame[..]));
        }
    });
}

#[test]
fn another_device_of_the_name_is_used_with_its_mtu() {
    in_own_namespace("another_device_of_the_name_is_used_with_its_mtu", || {
        //= spec/uplink.md#devices-that-change
        //= type=test
        //# A look at a device MUST find its MTU, whether it has a carrier, and another device that has taken its place under its name,
        //# which the uplink then uses; frames MUST be judged by that MTU from then on.
        let mode = Mode::Filtered { system: SYSTEM };
        let (mut nic, up) = device(mode);
        assert!(!nic.look());
        drop(up);
        assert!(nic.look() && !nic.has_carrier());
        let config = UplinkConfig {
            mode,
            vid: None,
            device: nic.device(),
            lan_mtu: LAN_MTU,
            limits: Limits::default(),
            seed: 3,
        };
        let mut proxy = LanProxy::new(&config).unwrap();
        let up = wire_end(4000);
        assert!(nic.look() && nic.has_carrier() && !nic.look());
        proxy.set_device(nic.device()).unwrap();
        let mut frame =
            [&HOST.0[..], &MEMBER.0, &[8, 0, 0x45, 0, 0x0f, 0xa0, 0, 0, 0x40, 0, 64, 1, 0, 0]].concat();
        frame.extend([MEMBER_V4.octets(), HOST_V4.octets()].concat());
        frame.resize(14 + 4000, 0);
        let out = |vnet: &Vnet, frame: &[u8]| assert_eq!(nic.send(vnet, frame), Sent::Taken);
        let verdict = proxy.outward(Instant::ZERO, &Vnet::default(), &frame, &OneMember, out);
        assert_eq!(verdict, Outward::Sent);
        let mut seen = TapBuffer::default();
        let len = up.read(&mut seen).unwrap().expect("it is on the wire");
        assert_eq!(seen.frame(len).1[6..], [&SYSTEM.0[..], &frame[12..]].concat());
        write(&up, &Vnet::default(), &frame);
        assert!(nic.receive(&mut FrameBuffer::default()).is_ok_and(|taken| taken.is_some()));
        assert!(proxy.set_device(Device { mtu: 1279, offloads: true }).is_err());
    });
}
