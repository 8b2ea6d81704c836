//! Uplinks by AF_XDP on a veth pair, and as TAP devices, against stacks of the kernel.

#![cfg(feature = "std")]

#[path = "../../switch-node/tests/sandbox/namespace.rs"]
mod sandbox;
#[path = "kernel/world.rs"]
#[expect(dead_code, reason = "of the world of tests/kernel.rs, some is not needed here")]
mod world;

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::mpsc;
use std::thread;
use std::time::Instant as Clock;

use lan_proxy::nic::{Driver, FrameBuffer, Nic, NicError, Sent};
use lan_proxy::{Device, Mode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};
use rvi::host::packet_socket;
use rvi::host::xdp_socket::{Frames, XdpSockets};
use sandbox::in_own_namespace;
use switch_node::agent::netlink::{Netlink, VethPair};
use switch_node::agent::tap::{Tap, TapBuffer};
use vlan_core::Instant;
use vlan_core::super_frame::FrameRoom;
use vlan_core::wire::Vnet;
use world::{
    HOST, HOST_ADDRESSES, MTU, PATIENCE, SYSTEM, Stack, Uplink, drivers, here, look_until_carrier, member,
    talk, wire_end,
};

/// Carries frames between the member and the device while both talk. The device is given back, so that it is closed when the caller
/// says so: the host may still send.
fn carry(nic: Nic, mode: Mode, host: &Stack) -> Nic {
    let (member, end) = member();
    let offloads = nic.device().offloads;
    let mut uplink = Uplink::new(nic, mode, None, offloads);
    let (stop, stopped) = mpsc::channel();
    thread::scope(|scope| {
        let (uplink, end) = (&mut uplink, &end);
        let carrier = scope.spawn(move || run(uplink, end, &stopped));
        // Also when `talk` panics.
        let _stop = stop;
        talk(&member, host);
        drop(_stop);
        carrier.join().unwrap();
    });
    uplink.nic
}

fn run(uplink: &mut Uplink, member: &Tap, stop: &mpsc::Receiver<()>) {
    while matches!(stop.try_recv(), Err(mpsc::TryRecvError::Empty)) {
        let mut fds = [PollFd::new(member, PollFlags::IN), PollFd::new(&uplink.nic, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 20_000_000 })).unwrap();
        uplink.take_from_member(member);
        uplink.take_from_outside(member);
    }
}

/// A host outside whose interface is a bridge, which a veth pair joins with `up0` here.
fn host_by_veth() -> Stack {
    let (host, here) = (Stack::new(), here());
    let mut netlink = Netlink::open(&host.namespace).unwrap();
    let bridge = netlink.add_bridge("br0").unwrap();
    let namespace = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
    let pair = VethPair { port: "port0", bridge, interface: "up0", namespace: namespace.as_fd(), mtu: MTU };
    let port = netlink.add_veth_pair(&pair).unwrap();
    netlink.set_up(port).unwrap();
    host.configure("br0", HOST, MTU, HOST_ADDRESSES);
    std::fs::write("/proc/sys/net/ipv6/conf/up0/disable_ipv6", "1").unwrap();
    let mut netlink = Netlink::open(&here).unwrap();
    let index = netlink.index_of("up0").unwrap();
    netlink.set_up(index).unwrap();
    host
}

#[test]
fn a_lan_talks_over_a_veth_pair_past_this_hosts_stack() {
    //= spec/uplink.md#drivers
    //= type=test
    //# A device MUST be driven as the platform file says, and not be used when it cannot be.
    in_own_namespace("a_lan_talks_over_a_veth_pair_past_this_hosts_stack", || {
        let host = host_by_veth();
        for driver in drivers() {
            for mode in [Mode::Filtered { system: SYSTEM }, Mode::Unfiltered] {
                let listener = packet_socket::open_for("up0").unwrap();
                packet_socket::bind(listener.0.as_fd(), libc::ETH_P_ALL as u16, listener.1.index).unwrap();
                let nic = Nic::open("up0", driver, &[mode]).unwrap();
                // What came before.
                while rustix::io::read(&listener.0, &mut [0; 64]).is_ok() {}
                packet_socket::set_number(listener.0.as_fd(), libc::PACKET_IGNORE_OUTGOING, 1).unwrap();
                let _nic = carry(nic, mode, &host);
                let mut frame = [0; 64];
                let heard = rustix::io::read(&listener.0, &mut frame);
                assert_eq!(heard == Err(Errno::AGAIN), driver == Driver::AfXdp, "{heard:?} {frame:02x?}");
            }
        }
    });
}

#[test]
fn a_device_by_af_xdp_leaves_tags_in_frames() {
    //= spec/uplink.md#tags-by-af_xdp
    //= type=test
    //# A device that is driven by AF_XDP MUST be told to leave tags in frames, and MUST be refused when it does not.
    in_own_namespace("a_device_by_af_xdp_leaves_tags_in_frames", || {
        let _host = host_by_veth();
        assert!(takes_tags_off("up0"), "a veth pair does unless it is told otherwise");
        if drivers().contains(&Driver::AfXdp) {
            let _nic = Nic::open("up0", Driver::AfXdp, &[Mode::Unfiltered]).unwrap();
            assert!(!takes_tags_off("up0"));
        }
    });
}

/// `rxvlan` of ethtool(8), by `ETHTOOL_GFLAGS`.
fn takes_tags_off(name: &str) -> bool {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
    let mut value = [0x25_u32, 0];
    // SAFETY: integers and octets, for which zeroes are a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from as libc::c_char);
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    let call = libc::SIOCETHTOOL as libc::Ioctl;
    // SAFETY: the request reads the name in an ifreq, which `request` is, and reads and writes the two numbers that it points at.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), call, &raw mut request) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
    value[1] & 1 << 8 != 0
}

#[test]
fn a_lan_talks_with_a_stack_that_has_a_tap_device() {
    in_own_namespace("a_lan_talks_with_a_stack_that_has_a_tap_device", || {
        let host = Stack::new();
        let mode = Mode::Filtered { system: SYSTEM };
        let nic = host.namespace.run(|| Ok(Nic::open("up0", Driver::Tap, &[mode]))).unwrap();
        let nic = nic.unwrap_or_else(|error| panic!("this test needs TAP devices: {error}"));
        assert_eq!((nic.driver(), nic.device()), (Driver::Tap, Device { mtu: MTU, offloads: true }));
        host.configure("up0", HOST, MTU, HOST_ADDRESSES);
        carry(nic, mode, &host);
    });
}

#[test]
fn a_tap_device_is_taken_or_made_and_made_again() {
    //= spec/uplink.md#tap-devices
    //= type=test
    //# An uplink by a TAP device MUST take the device that is there, or make one that goes with the process, and set it up.
    in_own_namespace("a_tap_device_is_taken_or_made_and_made_again", || {
        let open = || Nic::open("up0", Driver::Tap, &[Mode::Unfiltered]);
        let is_there = || std::fs::exists("/sys/class/net/up0").unwrap_or(false) || index_of("up0").is_ok();
        let mut nic = open().unwrap();
        assert!(nic.has_carrier() && is_there() && !nic.look(Instant::ZERO));
        let busy = open().unwrap_err();
        assert!(busy.hint().contains("another program"), "{busy} {}", busy.hint());
        // Its name is free, and the device is made again.
        rename("up0", "up9");
        assert!(nic.look(Instant::ZERO) && nic.has_carrier() && is_there());
        assert_eq!(nic.send(&Vnet::default(), &[0; 60]), Sent::Taken);
        drop(nic);
        assert!(!is_there());
        // One that stays is taken as it is.
        let kept = Tap::create("up0").unwrap();
        kept.keep().unwrap();
        drop(kept);
        let index = index_of("up0").unwrap();
        let taken = open().unwrap();
        assert!(taken.has_carrier(), "it has one from the start");
        drop(taken);
        assert_eq!(index_of("up0"), Ok(index));
        let wrong = Nic::open("lo", Driver::Tap, &[Mode::Unfiltered]).unwrap_err();
        assert!(wrong.hint().contains("another kind of device"), "{wrong} {}", wrong.hint());
    });
}

#[test]
fn a_device_that_cannot_be_driven_so_is_refused_with_what_to_do() {
    in_own_namespace("a_device_that_cannot_be_driven_so_is_refused_with_what_to_do", || {
        let _host = host_by_veth();
        for driver in [Driver::AfXdp, Driver::AfPacket] {
            let error = Nic::open("no-such-dev", driver, &[Mode::Unfiltered]).unwrap_err();
            assert!(error.hint().contains("platform file"), "{error}");
        }
        if drivers().contains(&Driver::AfXdp) {
            let _first = Nic::open("up0", Driver::AfXdp, &[Mode::Unfiltered]).unwrap();
        }
        let error = Nic::open("up0", Driver::AfXdp, &[Mode::Unfiltered]);
        if !drivers().contains(&Driver::AfXdp) {
            let error = error.unwrap_err();
            assert!(matches!(error, NicError::Xdp { .. }) && error.hint().contains("root"), "{error}");
        }
    });
}

#[test]
fn a_device_that_was_down_hears_and_carries_what_it_did() {
    in_own_namespace("a_device_that_was_down_hears_and_carries_what_it_did", || {
        for driver in drivers() {
            let wire = wire_end(MTU);
            let mut nic = Nic::open("up0", driver, &[Mode::Unfiltered]).unwrap();
            let mut netlink = Netlink::open(&here()).unwrap();
            let index = netlink.index_of("up0").unwrap();
            end_by_down(&mut nic, &mut netlink);
            look_until_carrier(&mut nic, Instant::ZERO);
            assert!(netlink.is_promiscuous(index).unwrap());
            // For a station beside its own the device has to hear everything, too: all that is left is groups.
            nic.set_modes(&[]).unwrap();
            assert!(!netlink.is_promiscuous(index).unwrap(), "{driver}: it was asked more than once");
            nic.set_promiscuous(true).unwrap();
            assert!(netlink.is_promiscuous(index).unwrap());
            nic.set_promiscuous(false).unwrap();
            assert!(!netlink.is_promiscuous(index).unwrap());
            assert_eq!(nic.send(&Vnet::default(), &FRAME), Sent::Taken);
            assert!(nic.flush());
            let mut buffer = TapBuffer::default();
            let (_, len) = wire.read(&mut buffer).unwrap().expect("it is on the wire");
            assert_eq!(buffer.octets(len), FRAME);
        }
    });
}

/// A frame of no protocol.
const FRAME: [u8; 60] = [0x52; 60];

/// Sends while the device is down, and sets it up again.
fn end_by_down(nic: &mut Nic, netlink: &mut Netlink) {
    let index = netlink.index_of("up0").unwrap();
    netlink.set_down(index).unwrap();
    let _ = nic.send(&Vnet::default(), &FRAME);
    nic.flush();
    // Whoever sends or receives next is told.
    let _ = nic.receive(&mut FrameBuffer::default());
    assert!(nic.look(Instant::ZERO) && !nic.has_carrier());
    netlink.set_up(index).unwrap();
}

#[test]
fn a_device_that_another_program_has_is_tried_again_in_ten_seconds() {
    //= spec/uplink.md#devices-by-af_xdp-that-come-back
    //= type=test
    //# A device by AF_XDP whose sockets have ended MUST be opened again when it is another one or comes up, and while it cannot be had
    //# every 10 s.
    //= spec/xdp.md#sockets-that-come-and-go
    //= type=test
    //# Sockets MUST be opened and closed without a wait of whoever carries frames, but for the first ones at the start.
    in_own_namespace("a_device_that_another_program_has_is_tried_again_in_ten_seconds", || {
        if !drivers().contains(&Driver::AfXdp) {
            return;
        }
        let _wire = wire_end(MTU);
        let mut nic = Nic::open("up0", Driver::AfXdp, &[Mode::Unfiltered]).unwrap();
        end_by_down(&mut nic, &mut Netlink::open(&here()).unwrap());
        let device = index_of("up0").unwrap().cast_unsigned();
        let other = XdpSockets::open_after_others(device, Frames::All).unwrap();
        let seconds = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        // Nobody waits for it here, whatever comes of it.
        assert!(!nic.look(seconds(1)) && nic.is_opening());
        let deadline = Clock::now() + PATIENCE;
        while nic.is_opening() {
            assert!(!nic.look(seconds(1)) && Clock::now() < deadline);
            thread::yield_now();
        }
        drop(other);
        assert!(!nic.look(seconds(2)) && !nic.is_opening());
        assert!(!nic.look(seconds(10)) && !nic.is_opening());
        assert!(!nic.look(seconds(11)) && nic.is_opening());
        look_until_carrier(&mut nic, seconds(11));
    });
}

fn index_of(name: &str) -> Result<i32, Errno> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    packet_socket::device(&socket, name).map(|found| found.map_or(0, |found| found.index))
}

/// Gives a device another name, for which it has to be down.
fn rename(from: &str, to: &str) {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
    // SAFETY: integers and octets, for which zeroes are a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = |text: &str| {
        let mut octets = [0; libc::IFNAMSIZ];
        octets.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from as libc::c_char);
        octets
    };
    request.ifr_name = name(from);
    for (call, newname) in [(libc::SIOCSIFFLAGS, None), (libc::SIOCSIFNAME, Some(name(to)))] {
        match newname {
            None => request.ifr_ifru.ifru_flags = 0,
            Some(newname) => request.ifr_ifru.ifru_newname = newname,
        }
        // SAFETY: the requests read the name, and the flags or the new name, in an ifreq, which `request` is.
        let done = unsafe { libc::ioctl(socket.as_raw_fd(), call as libc::Ioctl, &raw const request) };
        assert_eq!(done, 0, "{}", io::Error::last_os_error());
    }
}
