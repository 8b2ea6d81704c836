//! Ethernet sockets on devices in a network namespace of their own, whose other ends the test holds: it is the wire.
//!
//! The test runs itself again inside the namespace: entering one without being root needs a process with one
//! thread, which a test is not.
#![cfg(not(loom))]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketType};
use rustix::thread::UnshareFlags;
use rvi::host::ether::{DeviceChange, EtherDriver, EtherPlace, EtherSocket, OpenError, Way, Why};
use rvi::host::packet_socket;
use rvi::host::packets::{PacketSocket, SendResult};
use rvi::host::udp::ReceivePool;
use rvi::host::xdp_socket::XdpOpenError;
use rvi::packet::ether_frame::{self as frame, HEADER_LEN};
use vlan_core::{ControlNodeSerial, EtherAddress, EtherPort, Instant, MacAddress, NodeNumber};

/// A test that waits longer than this for the kernel has failed; nothing is measured by it.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
/// Says that the process is inside.
const INSIDE: &str = "RVI_ETHER_SOCKET";
const NODE: EtherPort = EtherPort::of_node(NodeNumber(7));
const CONTROL_NODE: EtherPort = EtherPort::of_control_node(ControlNodeSerial(1));
/// A station on the wire, and a process there.
const FAR: EtherAddress = EtherAddress { mac: MacAddress([2, 0, 0, 0, 0, 9]), port: NODE };

#[test]
fn devices_that_the_test_holds_the_other_end_of() {
    if std::env::var_os(INSIDE).is_some() {
        for &driver in drivers() {
            runs_go_out_as_frames_and_come_in_as_packets(driver);
            only_what_is_for_the_process_is_heard(driver);
            garbage_changes_counters_alone(driver);
            one_call_takes_a_bounded_number_of_frames(driver);
            a_device_that_is_made_again_is_followed(driver);
        }
        the_devices_mtu_bounds_packets();
        full_devices_do_not_wait();
        what_is_no_ethernet_device_is_refused();
        auto_is_a_packet_socket();
        if drivers().contains(&EtherDriver::AfXdp) {
            a_leg_leaves_what_is_not_its_own_to_the_host();
            of_two_legs_on_a_device_one_has_it_by_af_xdp_and_none_is_lost();
            a_device_with_another_address_has_another_program();
            a_device_that_was_down_is_had_by_af_xdp_again();
            long_packets_are_whole_by_af_xdp_and_too_long_ones_are_refused();
        } else {
            who_may_not_have_af_xdp_has_a_packet_socket();
        }
        return;
    }
    let mut inside = Command::new(std::env::current_exe().unwrap());
    inside.args(["--exact", "devices_that_the_test_holds_the_other_end_of", "--nocapture"]).env(INSIDE, "1");
    // SAFETY: between fork and exec the closure makes system calls only.
    unsafe { inside.pre_exec(enter_namespace) };
    let done = inside.output().expect("a network namespace");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    assert!(said.contains("1 passed"), "{said}");
}

/// A device, and the test's end of it.
struct Wire(OwnedFd);

impl Wire {
    fn new(device: &str) -> Self {
        let tap = rustix::fs::open("/dev/net/tun", OFlags::RDWR | OFlags::NONBLOCK, Mode::empty()).unwrap();
        let flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
        configure(&tap, device, libc::TUNSETIFF as _, |to| to.ifru_flags = flags).unwrap();
        let wire = Self(tap);
        configure_device(device, libc::SIOCSIFFLAGS as _, |to| to.ifru_flags = libc::IFF_UP as _);
        wire
    }

    fn put(&self, frame: &[u8]) {
        assert_eq!(rustix::io::write(&self.0, frame), Ok(frame.len()));
    }

    /// The next frame of our type that the device sends.
    fn take(&self) -> Vec<u8> {
        let mut octets = vec![0; 70_000];
        loop {
            wait_for(&self.0);
            let len = rustix::io::read(&self.0, &mut octets).unwrap();
            if octets[12..14] == frame::ETHER_TYPE.to_be_bytes() {
                return octets[..len].to_vec();
            }
        }
    }
}

/// Bpf is for those who administer the machine, not for root of a user namespace.
fn drivers() -> &'static [EtherDriver] {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    let all = &[EtherDriver::AfPacket, EtherDriver::AfXdp];
    if map.split_whitespace().eq(["0", "0", "4294967295"]) { all } else { &all[..1] }
}

/// A socket that is driven so, or not at all.
fn driven(device: &str, port: EtherPort, driver: EtherDriver) -> EtherSocket {
    let socket = asked(device, port, driver);
    assert_eq!(socket.way().driver(), driver, "{}", socket.way());
    socket
}

fn asked(device: &str, port: EtherPort, driver: EtherDriver) -> EtherSocket {
    EtherSocket::open(EtherPlace { device: device.to_owned(), port, driver }).unwrap()
}

fn socket(device: &str, port: EtherPort) -> EtherSocket {
    driven(device, port, EtherDriver::AfPacket)
}

/// Looks at the device until it is driven by AF_XDP: each look begins ten seconds after the one before.
fn look_until_by_xdp(socket: &EtherSocket) -> DeviceChange {
    let mut changes = DeviceChange::default();
    let deadline = std::time::Instant::now() + PATIENCE;
    for seconds in (0..).step_by(10) {
        let change = socket.look();
        changes.address |= change.address;
        socket.look_at_driver(Instant::from_nanos(seconds * 1_000_000_000));
        if socket.way().driver() == EtherDriver::AfXdp {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{}", socket.way());
        std::thread::yield_now();
    }
    changes
}

fn framed(to: EtherAddress, packet: &[u8]) -> Vec<u8> {
    [&frame::write_header(to, FAR, packet.len() as u16)[..], packet].concat()
}

/// Receives until the packet `last` has come; gives all that came before, and their sources.
fn receive_until(socket: &EtherSocket, last: &[u8]) -> Vec<(EtherAddress, Vec<u8>)> {
    let (mut pool, mut received) = (ReceivePool::new(), Vec::new());
    loop {
        wait_for(socket);
        socket.for_each_datagram(&mut pool, |from, packet| received.push((from, packet.to_vec())));
        if received.last().is_some_and(|(_, packet)| packet == last) {
            received.pop();
            return received;
        }
    }
}

fn runs_go_out_as_frames_and_come_in_as_packets(driver: EtherDriver) {
    //= spec/leg-ether.md#frames
    //= type=test
    //# A receiver MUST take the packet's length from the header, drop and count a frame that is shorter, and ignore what lies
    //# behind the packet.
    let wires = ["one", "two"].map(Wire::new);
    let (a, b) = (driven("one", NODE, driver), driven("two", CONTROL_NODE, driver));
    let run: Vec<u8> = (0..2 * 1400 + 3).map(|octet: usize| (octet ^ (octet >> 8)) as u8).collect();
    for to in [b.local_address(), EtherAddress::of_control_node(ControlNodeSerial(1))] {
        assert_eq!(a.send(to, &run, 1400), SendResult::Sent);
        for packet in run.chunks(1400) {
            let mut sent = wires[0].take();
            let header = frame::write_header(to, a.local_address(), packet.len() as u16);
            assert_eq!(sent, [&header[..], packet].concat());
            // As a device pads it.
            sent.resize(sent.len().max(60), 0xaa);
            wires[1].put(&sent);
        }
        wires[1].put(&framed(b.local_address(), b"last"));
        let received = receive_until(&b, b"last");
        let expected: Vec<_> = run.chunks(1400).map(|packet| (a.local_address(), packet.to_vec())).collect();
        assert!(received == expected, "{} packets", received.len());
    }
    assert_eq!((a.counters().sent_calls, a.counters().sent_frames), (2, 6), "a run costs one call");
    assert_eq!(b.counters().received_damaged + b.counters().received_elsewhere, 0);
}

fn only_what_is_for_the_process_is_heard(driver: EtherDriver) {
    //= spec/leg-ether.md#who-is-heard
    //= type=test
    //# A process MUST take only frames of our type for its device's MAC address and its port, a control node besides those
    //# for the group of control nodes and its port; it MUST drop others and never send to the broadcast address.
    let wire = Wire::new("heard");
    // One program has the device, and the other socket hears what that leaves.
    let (node, control_node) = (driven("heard", NODE, driver), asked("heard", CONTROL_NODE, driver));
    let own = node.local_address();
    let at = |mac, port| EtherAddress { mac, port };
    let elsewhere = [
        at(own.mac, EtherPort(8)),
        at(FAR.mac, NODE),
        at(MacAddress::BROADCAST, NODE),
        at(EtherAddress::CONTROL_NODES, NODE),
        at(FAR.mac, CONTROL_NODE),
        at(MacAddress::BROADCAST, CONTROL_NODE),
        at(EtherAddress::CONTROL_NODES, EtherPort::of_control_node(ControlNodeSerial(2))),
    ];
    for to in elsewhere {
        wire.put(&framed(to, b"for somebody else"));
    }
    let mut foreign = framed(own, b"of another type");
    foreign[13] = 0xb6;
    wire.put(&foreign);
    wire.put(&framed(EtherAddress::of_control_node(ControlNodeSerial(1)), b"for the group"));
    for socket in [&node, &control_node] {
        wire.put(&framed(socket.local_address(), b"last"));
        let received = receive_until(socket, b"last");
        let expected: &[_] = if socket.local_address().port == NODE { &[] } else { &[b"for the group"] };
        assert!(
            received.iter().map(|(_, packet)| &packet[..]).eq(expected.iter().map(|e| &e[..])),
            "{received:?}"
        );
        assert!(received.iter().all(|(from, _)| *from == FAR));
        assert_eq!(socket.counters().received_elsewhere, 0, "the kernel drops them");
    }
}

fn garbage_changes_counters_alone(driver: EtherDriver) {
    let wire = Wire::new("garbage");
    let node = driven("garbage", NODE, driver);
    let whole = framed(node.local_address(), &[7; 100]);
    let mut damaged = 0;
    for at in 12..HEADER_LEN {
        for bit in 0..8 {
            let mut octets = whole.clone();
            octets[at] ^= 1 << bit;
            wire.put(&octets);
            // Another type or port does not come so far, a shorter packet and another source are none of our business.
            let is_shorter = at == 17 && octets[17] < 100 && octets[17] > 0;
            damaged += u64::from((14..18).contains(&at) && !is_shorter);
        }
    }
    for len in 14..HEADER_LEN {
        wire.put(&whole[..len]);
        damaged += u64::from(len >= 22);
    }
    wire.put(&framed(node.local_address(), b"last"));
    let received = receive_until(&node, b"last");
    assert!(received.iter().all(|(_, packet)| packet.len() <= 100), "{received:?}");
    let counters = node.counters();
    assert_eq!((counters.received_damaged, counters.received_elsewhere), (damaged, 0), "{counters:?}");
}

fn one_call_takes_a_bounded_number_of_frames(driver: EtherDriver) {
    //= spec/leg-ether.md#turns
    //= type=test
    //# A host MUST take a bounded number of frames from one socket before the others get their turn.
    let wire = Wire::new("turns");
    let node = driven("turns", NODE, driver);
    for number in 0..100 {
        wire.put(&framed(node.local_address(), &[number; 20]));
    }
    let (mut pool, mut numbers, mut calls) = (ReceivePool::new(), Vec::new(), 0);
    while numbers.len() < 100 {
        wait_for(&node);
        let taken = node.for_each_datagram(&mut pool, |_, packet| numbers.push(packet[0]));
        let is_full = taken.datagrams == 64;
        assert!(taken.datagrams <= 64 && taken.has_more >= is_full, "{taken:?}");
        calls += 1;
    }
    assert!(calls >= 2 && numbers.iter().copied().eq(0..100));
}

fn the_devices_mtu_bounds_packets() {
    //= spec/leg-ether.md#length
    //= type=test
    //# A packet MUST NOT be longer than the device's MTU less 12 octets; the MTU MUST be read again when the device refuses a
    //# frame as too long, and once a second.
    let wire = Wire::new("mtu");
    let node = socket("mtu", NODE);
    assert_eq!(node.payload_len_max(), 1488);
    let too_big = |most| SendResult::TooBig { payload_len_max: Some(most) };
    assert_eq!(node.send(FAR, &[7; 1489], 1489), too_big(1488));
    assert_eq!(node.send(FAR, &[7; 2 * 1488], 1488), SendResult::Sent);
    assert_eq!([wire.take().len(), wire.take().len()], [1514; 2]);
    set_mtu("mtu", 1300);
    assert_eq!(node.send(FAR, &[7; 2 * 1488], 1488), too_big(1288));
    assert_eq!(node.counters().dropped_too_big, 3);
    set_mtu("mtu", 65_521);
    assert_eq!(node.look(), DeviceChange { address: false, len: true });
    assert_eq!(node.look(), DeviceChange::default());
    assert_eq!(node.payload_len_max(), 65_509);
    assert_eq!(node.send(FAR, &[7; 65_509], 65_509), SendResult::Sent);
    assert_eq!(wire.take().len(), 65_535);
    wire.put(&framed(node.local_address(), &[8; 65_509]));
    wire.put(&framed(node.local_address(), b"last"));
    assert!(receive_until(&node, b"last")[0].1 == [8; 65_509]);
    assert_eq!(node.counters().received_cut, 0);
}

fn full_devices_do_not_wait() {
    //= spec/leg-ether.md#dropped-packets
    //= type=test
    //# A packet that the kernel or the device refuses MUST be counted and dropped; sending MUST NOT wait for room.
    let wire = Wire::new("full");
    let node = socket("full", NODE);
    let refused = (0..3000).filter(|_| node.send(FAR, &[7; 100], 100) == SendResult::WouldBlock).count();
    let counters = node.counters();
    assert!(refused > 0, "{counters:?}");
    assert_eq!((counters.dropped_full, counters.sent_frames), (refused as u64, 3000 - refused as u64));
    drop(wire);
    assert!(matches!(node.send(FAR, &[7; 100], 100), SendResult::Failed(_)));
    assert_eq!(node.counters().dropped_failed, 1);
}

fn a_device_that_is_made_again_is_followed(driver: EtherDriver) {
    //= spec/leg-ether.md#devices-that-change
    //= type=test
    //# A socket MUST follow its device's name to another device, MTU or MAC address within a second, and a node MUST then
    //# offer the address again.
    let wire = Wire::new("again");
    let node = driven("again", CONTROL_NODE, driver);
    let before = node.local_address();
    drop(wire);
    assert_eq!(node.look(), DeviceChange::default());
    let wire = Wire::new("again");
    if driver == EtherDriver::AfXdp {
        assert!(look_until_by_xdp(&node).address);
    } else {
        assert_eq!(node.look(), DeviceChange { address: true, len: false });
    }
    assert_ne!(node.local_address(), before);
    assert_eq!(node.send(FAR, b"out", 3), SendResult::Sent);
    assert_eq!(wire.take().len(), HEADER_LEN + 3);
    wire.put(&framed(EtherAddress::of_control_node(ControlNodeSerial(1)), b"for the group"));
    wire.put(&framed(node.local_address(), b"last"));
    assert_eq!(receive_until(&node, b"last").len(), 1);
}

fn a_leg_leaves_what_is_not_its_own_to_the_host() {
    //= spec/leg-ether.md#frames-by-af_xdp
    //= type=test
    //# The program of an ether leg MUST give its sockets the frames of our type for its port that are for its device's MAC
    //# address, or of a control node for the group of control nodes, and leave all others to this host's stack.
    for (device, port, group_is_own) in [("shared", NODE, false), ("shared-too", CONTROL_NODE, true)] {
        let wire = Wire::new(device);
        let (host, found) = packet_socket::open_for(device).unwrap();
        packet_socket::bind(host.as_fd(), libc::ETH_P_ALL as u16, found.index).unwrap();
        let leg = driven(device, port, EtherDriver::AfXdp);
        let own = leg.local_address();
        let group = EtherAddress { mac: EtherAddress::CONTROL_NODES, port };
        wire.put(&framed(own, b"own"));
        wire.put(&framed(group, b"group"));
        let mut others = vec![
            framed(EtherAddress { mac: own.mac, port: EtherPort(8) }, b"another port"),
            framed(EtherAddress { mac: FAR.mac, port }, b"another station"),
            framed(EtherAddress { mac: MacAddress::BROADCAST, port }, b"broadcast"),
            [&own.mac.0[..], &FAR.mac.0, &[8, 6], &[7; 40]].concat(),
            // The least that a device carries, shorter than a header of ours.
            framed(own, b"short")[..21].to_vec(),
        ];
        others.iter().for_each(|frame| wire.put(frame));
        if !group_is_own {
            others.insert(0, framed(group, b"group"));
        }
        wire.put(&framed(own, b"last"));
        let expected: &[&[u8]] = if group_is_own { &[b"own", b"group"] } else { &[b"own"] };
        assert!(
            receive_until(&leg, b"last").iter().map(|(_, packet)| &packet[..]).eq(expected.iter().copied())
        );
        let counters = leg.counters();
        assert_eq!(counters.received_elsewhere + counters.received_damaged, 0, "{counters:?}");
        for other in others {
            assert_eq!(hear(&host), other);
        }
    }
}

/// The next frame from the wire that comes in to this host's stack, which sends some itself.
fn hear(host: &OwnedFd) -> Vec<u8> {
    let mut frame = vec![0; 2000];
    loop {
        wait_for(host);
        let len = rustix::io::read(host, &mut frame).unwrap();
        if frame[6..12] == FAR.mac.0 {
            frame.truncate(len);
            return frame;
        }
    }
}

fn of_two_legs_on_a_device_one_has_it_by_af_xdp_and_none_is_lost() {
    //= spec/leg-ether.md#drivers
    //= type=test
    //# An ether leg for which AF_XDP was asked MUST go by a packet socket while its device cannot be had by AF_XDP, say why, and
    //# try again when the device is another, has another MAC address or comes up, and every 10 s while another program has it.
    let wire = Wire::new("two-legs");
    assert_eq!(asked("two-legs", NODE, EtherDriver::AfPacket).way(), Way::PacketSocket(Why::Asked));
    let first = driven("two-legs", NODE, EtherDriver::AfXdp);
    let second = asked("two-legs", CONTROL_NODE, EtherDriver::AfXdp);
    let in_use = Way::PacketSocket(Why::Refused(XdpOpenError::InUse));
    assert_eq!(second.way(), in_use);
    assert!(second.way().to_string().contains("another program has the device by XDP"), "{}", second.way());
    for leg in [&first, &second] {
        wire.put(&framed(leg.local_address(), b"in"));
        wire.put(&framed(leg.local_address(), b"last"));
        assert_eq!(receive_until(leg, b"last").len(), 1);
        assert_eq!(leg.send(FAR, b"out", 3), SendResult::Sent);
        assert_eq!(wire.take().len(), HEADER_LEN + 3);
    }
    drop(first);
    look_until_by_xdp(&second);
    wire.put(&framed(second.local_address(), b"last"));
    assert_eq!(receive_until(&second, b"last"), []);
}

fn a_device_with_another_address_has_another_program() {
    let wire = Wire::new("moved");
    let leg = driven("moved", NODE, EtherDriver::AfXdp);
    let moved = MacAddress([2, 0, 0, 0, 0, 0x77]);
    configure_device("moved", libc::SIOCSIFHWADDR as _, |to| {
        // SAFETY: octets and integers, for which zeroes are a valid value.
        to.ifru_hwaddr = unsafe { std::mem::zeroed() };
        // SAFETY: it was written above.
        let address = unsafe { &mut to.ifru_hwaddr };
        address.sa_family = libc::ARPHRD_ETHER;
        for (to, from) in address.sa_data.iter_mut().zip(moved.0) {
            *to = from as libc::c_char;
        }
    });
    // Before anybody has looked it is for another station, and so for the host.
    assert!(leg.look().address && leg.local_address().mac == moved);
    wire.put(&framed(leg.local_address(), b"last"));
    assert_eq!(receive_until(&leg, b"last"), []);
    leg.look_at_driver(Instant::ZERO);
    assert_eq!(leg.way(), Way::PacketSocket(Why::Lost));
    look_until_by_xdp(&leg);
    wire.put(&framed(leg.local_address(), b"last"));
    assert_eq!(receive_until(&leg, b"last"), []);
}

fn a_device_that_was_down_is_had_by_af_xdp_again() {
    let wire = Wire::new("down");
    let leg = driven("down", NODE, EtherDriver::AfXdp);
    configure_device("down", libc::SIOCSIFFLAGS as _, |to| to.ifru_flags = 0);
    assert!(matches!(leg.send(FAR, b"out", 3), SendResult::Failed(_)));
    assert_eq!((leg.way(), leg.counters().dropped_failed), (Way::PacketSocket(Why::Lost), 1));
    leg.look();
    leg.look_at_driver(Instant::ZERO);
    assert_eq!(leg.way(), Way::PacketSocket(Why::Lost), "nothing is tried while it is down");
    configure_device("down", libc::SIOCSIFFLAGS as _, |to| to.ifru_flags = libc::IFF_UP as _);
    // By the packet socket, until somebody has looked for a while.
    leg.look_at_driver(Instant::ZERO);
    assert_eq!(leg.send(FAR, b"out", 3), SendResult::Sent);
    look_until_by_xdp(&leg);
    assert_eq!(leg.send(FAR, b"out", 3), SendResult::Sent);
    assert_eq!([wire.take().len(), wire.take().len()], [HEADER_LEN + 3; 2]);
    wire.put(&framed(leg.local_address(), b"last"));
    assert_eq!(receive_until(&leg, b"last"), []);
}

fn long_packets_are_whole_by_af_xdp_and_too_long_ones_are_refused() {
    let wire = Wire::new("long");
    set_mtu("long", 9000);
    let leg = driven("long", NODE, EtherDriver::AfXdp);
    for len in [4069, 4070, 4071, 8988] {
        let packet: Vec<u8> = (0..len).map(|at: usize| (at ^ (at >> 8)) as u8).collect();
        assert_eq!(leg.send(FAR, &packet, len), SendResult::Sent);
        assert_eq!(wire.take()[HEADER_LEN..], packet);
        wire.put(&framed(leg.local_address(), &packet));
        wire.put(&framed(leg.local_address(), b"last"));
        assert!(receive_until(&leg, b"last")[0].1 == packet, "{len}");
    }
    assert_eq!(leg.send(FAR, &[7; 8989], 8989), SendResult::TooBig { payload_len_max: Some(8988) });
    let counters = leg.counters();
    assert_eq!((counters.dropped_too_big, counters.received_cut), (1, 0), "{counters:?}");
}

fn auto_is_a_packet_socket() {
    //= spec/leg-ether.md#auto
    //= type=test
    //# `auto` MUST be a packet socket.
    let _wire = Wire::new("auto");
    let leg = asked("auto", NODE, EtherDriver::Auto);
    assert_eq!(leg.way(), Way::PacketSocket(Why::Auto));
    assert!(leg.way().to_string().contains("measured"));
}

fn who_may_not_have_af_xdp_has_a_packet_socket() {
    let wire = Wire::new("refused");
    let leg = asked("refused", NODE, EtherDriver::AfXdp);
    assert_eq!(leg.way(), Way::PacketSocket(Why::Refused(XdpOpenError::Refused)));
    wire.put(&framed(leg.local_address(), b"last"));
    assert_eq!(receive_until(&leg, b"last"), []);
}

fn what_is_no_ethernet_device_is_refused() {
    let open = |device: &str| {
        EtherSocket::open(EtherPlace { device: device.to_owned(), port: NODE, driver: EtherDriver::Auto })
    };
    for device in ["nothing", "", "a-name-that-is-too-long"] {
        let error = open(device).unwrap_err();
        assert_eq!(error, OpenError::NoDevice(device.to_owned()));
        assert!(error.to_string().contains(device) && error.hint().contains("ip link"));
    }
    assert_eq!(open("lo").unwrap_err(), OpenError::NotEthernet("lo".to_owned()));
}

/// Waits until something has arrived.
fn wait_for(source: &impl AsFd) {
    let mut source = [PollFd::new(source, PollFlags::IN)];
    let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut source, Some(&patience)), Ok(1));
}

/// Moves the process into a network namespace of its own.
fn enter_namespace() -> io::Result<()> {
    let is_root = rustix::process::geteuid().is_root();
    let own_user = if is_root { UnshareFlags::empty() } else { UnshareFlags::NEWUSER };
    // SAFETY: only namespaces are unshared, and this process has one thread.
    Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET | own_user) }?)
}

fn set_mtu(device: &str, mtu: i32) {
    configure_device(device, libc::SIOCSIFMTU as _, |to| to.ifru_mtu = mtu);
}

fn configure_device(
    device: &str,
    request: libc::Ioctl,
    fill: impl FnOnce(&mut libc::__c_anonymous_ifr_ifru),
) {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
    configure(&socket, device, request, fill).unwrap();
}

/// Makes one request about the device of that name.
fn configure(
    descriptor: impl AsFd,
    device: &str,
    request: libc::Ioctl,
    fill: impl FnOnce(&mut libc::__c_anonymous_ifr_ifru),
) -> io::Result<()> {
    // SAFETY: the request is plain data, for which zeroes are a valid value.
    let mut ifreq: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, octet) in ifreq.ifr_name.iter_mut().zip(device.bytes()) {
        *to = octet as libc::c_char;
    }
    fill(&mut ifreq.ifr_ifru);
    // SAFETY: each of these requests reads an ifreq, which this is, and writes nothing beyond it.
    let done = unsafe { libc::ioctl(descriptor.as_fd().as_raw_fd(), request, &raw mut ifreq) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
