//! XDP sockets on a TAP device in a network namespace of its own: the test holds the other end, which is the wire.
#![cfg(not(loom))]

#[path = "../../switch-node/tests/sandbox/namespace.rs"]
#[expect(dead_code, reason = "no test here has a tenant")]
mod sandbox;

use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};
use rvi::SharedOctets;
use rvi::host::packet_socket;
use rvi::host::tap::{Tap, TapBuffer, Written};
use rvi::host::xdp_socket::{Frames, Queued, XdpError, XdpOpenError, XdpSockets};
use sandbox::in_own_namespace;
use vlan_core::super_frame::FrameRoom;
use vlan_core::wire::Vnet;

const DEVICE: &str = "up0";
/// A test that waits longer than this for the kernel has failed; nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(30);
/// In the environment of a process that is to hold the device until it is killed.
const HOLD: &str = "XDP_SOCKET_HOLD";

/// The device, and the test's end of it.
struct Wire(Tap);

impl Wire {
    fn new(mtu: i32) -> Self {
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        let wire = Self(Tap::create(DEVICE).unwrap_or_else(|e| panic!("this test needs TAP devices: {e}")));
        set_mtu(mtu);
        packet_socket::set_up(&any_socket(), DEVICE).unwrap();
        wire
    }

    fn put(&self, frame: &[u8]) {
        assert_eq!(self.0.write(&Vnet::default(), frame, SharedOctets::empty()), Written::Taken);
    }

    /// The next frame that the device sends.
    fn take(&self) -> Vec<u8> {
        let mut buffer = TapBuffer::default();
        wait_for(&self.0);
        let (_, len) = self.0.read(&mut buffer).unwrap().expect("it is readable");
        buffer.octets(len).to_vec()
    }
}

fn any_socket() -> OwnedFd {
    rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap()
}

fn set_mtu(mtu: i32) {
    configure(&any_socket(), libc::SIOCSIFMTU as libc::Ioctl, |to| to.ifru_mtu = mtu);
}

/// Makes one request about the device.
fn configure(
    descriptor: &OwnedFd,
    request: libc::Ioctl,
    fill: impl FnOnce(&mut libc::__c_anonymous_ifr_ifru),
) {
    // SAFETY: integers and octets, for which zeroes are a valid value.
    let mut ifreq: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in ifreq.ifr_name.iter_mut().zip(DEVICE.bytes()) {
        *to = from as libc::c_char;
    }
    fill(&mut ifreq.ifr_ifru);
    // SAFETY: each of these requests reads an ifreq, which this is, and writes nothing beyond it.
    let done = unsafe { libc::ioctl(descriptor.as_raw_fd(), request, &raw mut ifreq) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// A device of several queues, and the test's end of each.
fn queues_of_a_device<const N: usize>() -> [OwnedFd; N] {
    std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
    let queues = [(); N].map(|()| {
        let tap = rustix::fs::open("/dev/net/tun", OFlags::RDWR | OFlags::NONBLOCK, Mode::empty()).unwrap();
        let flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_MULTI_QUEUE) as libc::c_short;
        configure(&tap, libc::TUNSETIFF as libc::Ioctl, |to| to.ifru_flags = flags);
        tap
    });
    packet_socket::set_up(&any_socket(), DEVICE).unwrap();
    queues
}

fn wait_for(descriptor: &impl AsFd) {
    let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(descriptor, PollFlags::IN)], Some(&patience)).unwrap();
    assert_eq!(ready, 1, "nothing comes");
}

fn open() -> XdpSockets {
    try_open().unwrap_or_else(|error| panic!("this test needs AF_XDP: {error} (hint: {})", error.hint()))
}

fn try_open() -> Result<XdpSockets, XdpOpenError> {
    let index = packet_socket::device(&any_socket(), DEVICE).unwrap().expect("an Ethernet device").index;
    XdpSockets::open(index as u32, Frames::All)
}

/// Bpf is for those who administer the machine, not for root of a user namespace.
fn as_root(name: &str, body: impl FnOnce()) {
    in_own_namespace(name, || {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
        if map.split_whitespace().eq(["0", "0", "4294967295"]) {
            body();
        } else {
            drop(Wire::new(1500));
            let _wire = Wire::new(1500);
            let error = try_open().unwrap_err();
            assert_eq!(error, XdpOpenError::Refused);
            assert!(error.hint().contains("root"));
        }
    });
}

/// Some frame of this length, of no protocol.
fn frame(number: usize, len: usize) -> Vec<u8> {
    let mut frame = [&[0x52, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0x88, 0xb5][..], &[0; 46]].concat();
    frame.extend((60..len).map(|at| (at ^ at >> 8 ^ number) as u8));
    frame[14..22].copy_from_slice(&number.to_be_bytes());
    frame.truncate(len);
    frame
}

fn receive(sockets: &mut XdpSockets) -> Vec<u8> {
    let mut room = vec![0; 70_000];
    loop {
        if let Some(len) = sockets.receive(&mut room).unwrap() {
            room.truncate(len);
            return room;
        }
        wait_for(sockets);
    }
}

#[test]
fn frames_arrive_and_go_whole_and_in_order_round_the_rings() {
    //= spec/xdp.md#frames-that-are-to-go
    //= type=test
    //# A frame that was taken MUST go in the order in which it was taken, at the next call that finds room at the device.
    as_root("frames_arrive_and_go_whole_and_in_order_round_the_rings", || {
        let wire = Wire::new(1500);
        let mut sockets = open();
        assert_eq!(sockets.receive(&mut [0; 2000]), Ok(None));
        // More than the rings have entries, some at a time.
        for round in 0..600 {
            let sent: Vec<_> =
                (0..10).map(|n| frame(10 * round + n, 60 + (311 * round + n) % 1455)).collect();
            sent.iter().for_each(|frame| wire.put(frame));
            sent.iter().for_each(|frame| assert_eq!(receive(&mut sockets), *frame));
            sent.iter().for_each(|frame| assert_eq!(sockets.send(frame), Ok(Queued::Taken)));
            assert_eq!(sockets.flush(), Ok(true));
            sent.iter().for_each(|frame| assert_eq!(wire.take(), *frame));
        }
        assert_eq!(sockets.receive(&mut [0; 2000]), Ok(None));
    });
}

#[test]
fn frames_longer_than_a_chunk_are_whole_too() {
    //= spec/xdp.md#frames-in-several-chunks
    //= type=test
    //# A frame that arrives in several chunks MUST be given as one, and one that is longer than the room for it MUST be
    //# dropped and counted.
    as_root("frames_longer_than_a_chunk_are_whole_too", || {
        let wire = Wire::new(16_896);
        let mut sockets = open();
        for (number, len) in
            [3840, 3841, 4096, 4097, 8192, 9014, 16_910].into_iter().cycle().take(2000).enumerate()
        {
            let frame = frame(number, len);
            wire.put(&frame);
            assert!(receive(&mut sockets) == frame, "{len} octets");
            assert_eq!(sockets.send(&frame), Ok(Queued::Taken));
            assert_eq!(sockets.flush(), Ok(true));
            assert!(wire.take() == frame, "{len} octets");
        }
        let (long, short) = (frame(1, 9014), frame(2, 60));
        wire.put(&long);
        wire.put(&short);
        let mut room = [0; 5000];
        wait_for(&sockets);
        assert_eq!(sockets.receive(&mut room), Ok(Some(short.len())));
        assert_eq!((&room[..short.len()], sockets.too_long()), (&short[..], 1));
        assert_eq!(sockets.send(&[]), Ok(Queued::TooLong));
    });
}

#[test]
fn nobody_else_hears_what_arrives_until_the_sockets_are_closed() {
    //= spec/xdp.md#whose-frames
    //= type=test
    //# Where sockets take all frames of a device, every queue MUST have one, and a frame that finds none MUST be dropped rather than
    //# left to this host's own stack.
    as_root("nobody_else_hears_what_arrives_until_the_sockets_are_closed", || {
        let wire = Wire::new(1500);
        let (listener, device) = packet_socket::open_for(DEVICE).unwrap();
        packet_socket::bind(listener.as_fd(), libc::ETH_P_ALL as u16, device.index).unwrap();
        let mut sockets = open();
        assert_eq!(try_open().unwrap_err(), XdpOpenError::InUse);
        // More than the sockets have room for: the rest is lost, not left to others.
        for number in 0..5000 {
            wire.put(&frame(number, 60));
        }
        for number in 0..100 {
            assert_eq!(receive(&mut sockets), frame(number, 60));
        }
        let mut heard = [0; 100];
        assert_eq!(rustix::io::read(&listener, &mut heard), Err(Errno::AGAIN));
        drop(sockets);
        wire.put(&frame(7, 60));
        wait_for(&listener);
        assert_eq!(rustix::io::read(&listener, &mut heard), Ok(60));
        assert_eq!(heard[..60], frame(7, 60));
    });
}

#[test]
fn every_queue_has_a_socket_and_one_sends_in_order() {
    //= spec/xdp.md#whose-frames
    //= type=test
    //# Where sockets take all frames of a device, every queue MUST have one, and a frame that finds none MUST be dropped rather than
    //# left to this host's own stack.
    //= spec/xdp.md#turns
    //= type=test
    //# After 64 frames of one queue the next one that has any MUST have its turn.
    as_root("every_queue_has_a_socket_and_one_sends_in_order", || {
        let queues = queues_of_a_device::<4>();
        let mut sockets = open();
        let of_queue = |queue: usize, turns: usize| queue * 1000..queue * 1000 + 64 * turns;
        // A flood on the first, a turn's worth on the others.
        for number in of_queue(0, 4).chain((1..4).flat_map(|queue| of_queue(queue, 1))) {
            let frame = frame(number, 60);
            assert_eq!(rustix::io::write(&queues[number / 1000], &frame), Ok(frame.len()));
        }
        let in_turn = of_queue(0, 1).chain((1..4).flat_map(|queue| of_queue(queue, 1))).chain(64..256);
        in_turn.for_each(|number| assert_eq!(receive(&mut sockets), frame(number, 60)));
        for number in 0..400 {
            assert_eq!(sockets.send(&frame(number, 60)), Ok(Queued::Taken));
            assert_eq!(sockets.flush(), Ok(true));
            let mut sent = [0; 100];
            wait_for(&queues[0]);
            assert_eq!(rustix::io::read(&queues[0], &mut sent), Ok(60));
            assert_eq!(sent[..60], frame(number, 60));
        }
    });
}

#[test]
fn a_killed_process_leaves_the_device_to_the_next_one() {
    //= spec/xdp.md#the-end-of-the-process
    //= type=test
    //# The program MUST leave the device when the process that attached it ends, however it ends.
    const NAME: &str = "a_killed_process_leaves_the_device_to_the_next_one";
    as_root(NAME, || {
        if std::env::var_os(HOLD).is_some() {
            let _sockets = open();
            println!("it is held");
            loop {
                std::thread::park();
            }
        }
        let wire = Wire::new(1500);
        let mut holder = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(HOLD, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(holder.stdout.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap().contains("it is held")), "it could not hold the device");
        assert_eq!(try_open().unwrap_err(), XdpOpenError::InUse);
        holder.kill().unwrap();
        holder.wait().unwrap();
        // The kernel takes a link and a socket down behind the process's back.
        let deadline = Instant::now() + PATIENCE;
        let mut sockets = loop {
            match try_open() {
                Err(XdpOpenError::InUse) if Instant::now() < deadline => std::thread::yield_now(),
                opened => break opened.unwrap(),
            }
        };
        wire.put(&frame(1, 60));
        assert_eq!(receive(&mut sockets), frame(1, 60));
    });
}

#[test]
fn a_device_that_goes_is_told_to_who_sends() {
    as_root("a_device_that_goes_is_told_to_who_sends", || {
        let wire = Wire::new(1500);
        let mut sockets = open();
        drop(wire);
        assert_eq!(sockets.send(&frame(1, 60)), Ok(Queued::Taken));
        assert!(matches!(sockets.flush(), Err(XdpError::System(Errno::NXIO | Errno::NETDOWN))));
        assert_eq!(sockets.receive(&mut [0; 100]), Ok(None));
    });
}
