//! An uplink between two stacks of the kernel: a member's, with a large MTU, and one of a host outside, with 1500 octets.
//!
//! ```text
//! member's TAP <-> LanProxy <-> Nic on `up0`, a TAP whose other end is the wire <-> TAP of the host outside
//! ```
//!
//! Every frame on the wire is looked at.

#![cfg(feature = "std")]

#[path = "../../switch-node/tests/sandbox/namespace.rs"]
mod sandbox;
#[path = "kernel/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant as Clock};

use lan_proxy::nic::{Driver, FrameBuffer, Nic, Sent};
use lan_proxy::{Device, LanProxy, Mode, Outward, UplinkConfig, Vid, audit};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sandbox::in_own_namespace;
use switch_node::agent::tap::{Tap, TapBuffer};
use vlan_core::security::Limits;
use vlan_core::super_frame::FrameRoom;
use vlan_core::wire::Vnet;
use vlan_core::{Instant, MacAddress};
use world::{
    HOST, HOST_V4, HOST_V6, LAN_MTU, MEMBER, MEMBER_V4, MEMBER_V6, MTU, OneMember, PATIENCE, SYSTEM, Stack,
    Uplink, drivers, host, look_until_carrier, member, talk, wire_end, write,
};

/// A device of this namespace that nothing else uses, and the wire at its other end.
fn device(driver: Driver, mode: Mode) -> (Nic, Tap) {
    let up = wire_end(MTU);
    let nic = Nic::open("up0", driver, &[mode]).unwrap_or_else(|e| panic!("{e} (hint: {})", e.hint()));
    let offloads = driver == Driver::AfPacket;
    assert_eq!((nic.name(), nic.driver(), nic.device()), ("up0", driver, Device { mtu: MTU, offloads }));
    assert!(nic.has_carrier());
    (nic, up)
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
    uplink: Uplink,
    up: Tap,
    vid: Option<Vid>,
    offloads: bool,
    seen: Seen,
    tap_buffer: TapBuffer,
}

impl Wire {
    fn new(driver: Driver, mode: Mode, vid: Option<Vid>, offloads: bool) -> Self {
        let (nic, up) = device(driver, mode);
        Self {
            uplink: Uplink::new(nic, mode, vid, offloads),
            up,
            vid,
            offloads,
            seen: Seen::default(),
            tap_buffer: TapBuffer::default(),
        }
    }

    /// Carries frames until `stop` says so.
    fn run(&mut self, member: &Tap, host: &Tap, stop: &mpsc::Receiver<()>) {
        while matches!(stop.try_recv(), Err(mpsc::TryRecvError::Empty)) {
            let mut fds = [
                PollFd::new(member, PollFlags::IN),
                PollFd::new(host, PollFlags::IN),
                PollFd::new(&self.up, PollFlags::IN),
                PollFd::new(&self.uplink.nic, PollFlags::IN),
            ];
            let tick = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            poll(&mut fds, Some(&tick)).unwrap();
            self.uplink.take_from_member(member);
            self.take_from_uplink(host);
            self.take_from_host(host);
            self.uplink.take_from_outside(member);
        }
    }

    /// A frame that the device puts on the wire.
    fn take_from_uplink(&mut self, host: &Tap) {
        while let Some((vnet, len)) = self.up.read(&mut self.tap_buffer).unwrap() {
            let frame = self.tap_buffer.octets(len);
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
            let (_, vnet, frame) = self.uplink.trunk.untag(&vnet, &mut octets).unwrap();
            write(host, &vnet, frame);
        }
    }

    fn take_from_host(&mut self, host: &Tap) {
        while let Some((vnet, len)) = host.read(&mut self.tap_buffer).unwrap() {
            let frame = self.tap_buffer.octets(len);
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
}

/// Runs `talk` between the member's stack and the host's, and says what was on the wire.
fn between(
    driver: Driver,
    mode: Mode,
    vid: Option<u16>,
    offloads: bool,
    talk: impl FnOnce(&Stack, &Stack),
) -> (LanProxy, Seen) {
    let ((member, member_end), (host, host_end)) = (member(), host());
    let mut wire = Wire::new(driver, mode, vid.and_then(Vid::new), offloads);
    let (stop, stopped) = mpsc::channel();
    thread::scope(|scope| {
        let (wire, taps) = (&mut wire, (&member_end, &host_end));
        let carrier = scope.spawn(move || wire.run(taps.0, taps.1, &stopped));
        // Also when `talk` panics.
        let _stop = stop;
        talk(&member, &host);
        drop(_stop);
        carrier.join().unwrap();
    });
    let Seen { faults, .. } = &wire.seen;
    assert!(faults.is_empty(), "{:?} in {:02x?}", faults[0].0, faults[0].1);
    (wire.uplink.proxy, wire.seen)
}

/// Drivers, tags and whether sums are left to the device: those of packet sockets, and AF_XDP with and without the tag.
fn ways(vid: Option<u16>, tagged_offloads: bool) -> Vec<(Driver, Option<u16>, bool)> {
    let own = [(None, false), (None, true), (vid, tagged_offloads)];
    let own = own.map(|(vid, offloads)| (Driver::AfPacket, vid, offloads));
    let others = drivers().into_iter().filter(|driver| *driver != Driver::AfPacket);
    own.into_iter().chain(others.flat_map(|driver| [(driver, None, false), (driver, vid, false)])).collect()
}

#[test]
fn a_filtered_lan_talks_to_outside_as_one_station() {
    //= spec/uplink.md#what-a-device-hears
    //= type=test
    //# The device of an uplink MUST be made to hear the uplink's system MAC and every group in filtered mode, and everything in
    //# unfiltered mode.
    in_own_namespace("a_filtered_lan_talks_to_outside_as_one_station", || {
        for (driver, vid, offloads) in ways(Some(100), false) {
            let (proxy, seen) = between(driver, Mode::Filtered { system: SYSTEM }, vid, offloads, talk);
            assert_eq!(seen.sources, BTreeSet::from([SYSTEM]));
            assert!(!seen.stated.contains(&MEMBER), "{:?}", seen.stated);
            assert!(proxy.is_outside(HOST) && seen.frames > 0);
        }
    });
}

#[test]
fn an_unfiltered_lan_talks_to_outside_with_its_own_macs() {
    in_own_namespace("an_unfiltered_lan_talks_to_outside_with_its_own_macs", || {
        for (driver, vid, offloads) in ways(Some(7), true) {
            let (_, seen) = between(driver, Mode::Unfiltered, vid, offloads, talk);
            assert_eq!(seen.sources, BTreeSet::from([MEMBER]));
        }
    });
}

#[test]
fn a_sender_of_long_datagrams_learns_what_outside_takes() {
    in_own_namespace("a_sender_of_long_datagrams_learns_what_outside_takes", || {
        let (proxy, _) =
            between(Driver::AfPacket, Mode::Filtered { system: SYSTEM }, None, false, |member, host| {
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
        for driver in drivers() {
            //= spec/uplink.md#frames-of-this-host
            //= type=test
            //# What this host sends by the device MUST NOT be taken for a frame from outside.
            let (mut nic, up) = device(driver, Mode::Unfiltered);
            let mut another = Nic::open("up0", Driver::AfPacket, &[Mode::Unfiltered]).unwrap();
            let mut buffer = FrameBuffer::default();
            let frame = [&HOST.0[..], &MEMBER.0, &[0x88, 0xb5], &[5; 60]].concat();
            assert_eq!(another.send(&Vnet::default(), &frame), Sent::Taken);
            assert_eq!(nic.receive(&mut buffer), Ok(None));
            let mut seen = TapBuffer::default();
            let (_, len) = up.read(&mut seen).unwrap().expect("it is on the wire");
            assert_eq!(seen.octets(len), frame);
            write(&up, &Vnet::default(), &frame);
            let (_, len) = nic.receive(&mut buffer).unwrap().expect("it comes from outside");
            assert_eq!(buffer.octets(len), frame);
            // Longer than the device takes.
            let long = [&frame[..], &[0; 1500]].concat();
            assert!(matches!(nic.send(&Vnet::default(), &long), Sent::Refused(_)));
        }
    });
}

#[test]
fn a_tag_on_the_wire_is_there_when_its_frame_is_taken() {
    in_own_namespace("a_tag_on_the_wire_is_there_when_its_frame_is_taken", || {
        for driver in drivers() {
            //= spec/uplink.md#tags-that-the-kernel-takes-off
            //= type=test
            //# A tag that the kernel has taken off a frame MUST be put back before the frame is given to its LAN.
            let (mut nic, up) = device(driver, Mode::Unfiltered);
            let mut buffer = FrameBuffer::default();
            let addresses = [HOST.0, MEMBER.0].concat();
            let rest = [&[0x88, 0xb5][..], &[5; 60]].concat();
            for tags in [&[][..], &[0x81, 0, 0x60, 100], &[0x88, 0xa8, 0, 1], &[0x81, 0, 0, 1, 0x81, 0, 0, 2]]
            {
                let frame = [&addresses, tags, &rest].concat();
                write(&up, &Vnet::default(), &frame);
                let (vnet, len) = nic.receive(&mut buffer).unwrap().expect("it comes from outside");
                assert_eq!((vnet.flags & Vnet::NEEDS_CSUM, buffer.octets(len)), (0, &frame[..]));
            }
        }
    });
}

#[test]
fn another_device_of_the_name_is_used_with_its_mtu() {
    in_own_namespace("another_device_of_the_name_is_used_with_its_mtu", || {
        for driver in drivers() {
            //= spec/uplink.md#devices-that-change
            //= type=test
            //# A look at a device MUST find its MTU, whether it has a carrier, and another device that has taken its place under its name,
            //# which the uplink then uses; frames MUST be judged by that MTU from then on.
            let mode = Mode::Filtered { system: SYSTEM };
            let (mut nic, up) = device(driver, mode);
            assert!(!nic.look(Instant::ZERO));
            drop(up);
            assert!(nic.look(Instant::ZERO) && !nic.has_carrier());
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
            look_until_carrier(&mut nic, Instant::ZERO);
            assert!(!nic.look(Instant::ZERO));
            proxy.set_device(nic.device()).unwrap();
            let mut frame =
                [&HOST.0[..], &MEMBER.0, &[8, 0, 0x45, 0, 0x0f, 0xa0, 0, 0, 0x40, 0, 64, 1, 0, 0]].concat();
            frame.extend([MEMBER_V4.octets(), HOST_V4.octets()].concat());
            frame.resize(14 + 4000, 0);
            let out = |vnet: &Vnet, frame: &[u8]| {
                assert_eq!(nic.send(vnet, frame), Sent::Taken);
                nic.flush();
            };
            let verdict = proxy.outward(Instant::ZERO, &Vnet::default(), &frame, &OneMember, out);
            assert_eq!(verdict, Outward::Sent);
            let mut seen = TapBuffer::default();
            let (_, len) = up.read(&mut seen).unwrap().expect("it is on the wire");
            assert_eq!(seen.octets(len)[6..], [&SYSTEM.0[..], &frame[12..]].concat());
            write(&up, &Vnet::default(), &frame);
            assert!(nic.receive(&mut FrameBuffer::default()).is_ok_and(|taken| taken.is_some()));
            assert!(proxy.set_device(Device { mtu: 1279, offloads: true }).is_err());
        }
    });
}
