//! Real sockets over loopback.

use super::*;
use core::time::Duration;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::vec::Vec;

use rustix::event::{PollFd, PollFlags, Timespec};
use vlan_core::Instant;

use crate::host::fault::{Direction, Faults};
use crate::host::packets::FabricSocket;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn socket(ip: IpAddr) -> UdpSocket {
    UdpSocket::bind(SocketAddr::new(ip, 0)).unwrap()
}

/// Waits until something has arrived, ten seconds at most: loopback may deliver behind the sender's back.
fn is_readable(socket: &impl AsFd) -> bool {
    let mut source = [PollFd::new(socket, PollFlags::IN)];
    let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
    rustix::event::poll(&mut source, Some(&patience)).unwrap() == 1
}

/// Receives `count` datagrams and asserts that no more have come.
fn receive(socket: &UdpSocket, pool: &mut ReceivePool, from: SocketAddr, count: usize) -> Vec<Vec<u8>> {
    let mut received = Vec::new();
    while received.len() < count {
        assert!(is_readable(socket), "{} of {count} datagrams came", received.len());
        socket.for_each_datagram(pool, |source, datagram| {
            assert_eq!(source, from);
            received.push(datagram.to_vec());
        });
    }
    assert_eq!(socket.for_each_datagram(pool, |_, _| {}), Taken::default());
    received
}

/// Octets that differ from datagram to datagram and inside of each.
fn octets(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ (at >> 8) ^ (at >> 13)) as u8).collect()
}

/// Sends runs of `segment_len` octets of every length around what the kernel cuts, and compares what arrives.
fn runs_arrive(ip: IpAddr, segment_len: usize) {
    let (a, b, mut pool) = (socket(ip), socket(ip), ReceivePool::new());
    let most = a.segments_max(segment_len);
    for count in [1, 2, 3, most - 1, most, most + 1, 2 * most + 1] {
        for last in [1, segment_len / 2, segment_len - 1, segment_len] {
            if count == 0 || last == 0 {
                continue;
            }
            let run = octets((count - 1) * segment_len + last);
            assert_eq!(a.send(b.local_address(), &run, segment_len), SendResult::Sent);
            let received = receive(&b, &mut pool, a.local_address(), count);
            let sent: Vec<_> = run.chunks(segment_len).collect();
            assert!(received == sent, "{count} datagrams of {segment_len} octets, the last of {last}");
        }
    }
    assert_eq!(a.counters().sent_datagrams, b.counters().received_datagrams);
    assert_eq!(a.counters().sent_octets, b.counters().received_octets);
    assert_eq!((a.counters().cutting_refused, b.counters().received_damaged, b.kernel_drops()), (0, 0, 0));
}

#[test]
fn runs_of_every_length_arrive_as_they_were_sent() {
    //= spec/leg-udp.md#runs
    //= type=test
    //# A host MUST take each datagram of a run that it received as a packet of its own.
    for segment_len in [1, 2, 63, 64, 65, 511, 512, 1200, 1452, 8952, 16_376, 32_753, 32_754, 65_487] {
        runs_arrive(V4, segment_len);
        runs_arrive(V6, segment_len);
    }
    runs_arrive(V4, UDP_PAYLOAD_LEN_MAX);
}

#[test]
fn a_run_costs_one_call_each_way() {
    let (a, b, mut pool) = (socket(V4), socket(V4), ReceivePool::new());
    let count = a.segments_max(1400);
    assert!((2..=46).contains(&count), "this kernel cuts runs: {count}");
    assert_eq!(a.send(b.local_address(), &octets(count * 1400), 1400), SendResult::Sent);
    receive(&b, &mut pool, a.local_address(), count);
    assert_eq!((a.counters().sent_calls, b.counters().received_calls), (1, 1));
}

#[test]
fn the_kernel_says_how_many_datagrams_it_cuts() {
    let socket = socket(V4);
    let most = socket.segments_max(1);
    assert!([64, 128].contains(&most), "{most}");
    assert_eq!(socket.segments_max(UDP_PAYLOAD_LEN_MAX / 2), 2);
    assert_eq!(socket.segments_max(UDP_PAYLOAD_LEN_MAX / 2 + 1), 1);
    assert_eq!(socket.segments_max(usize::MAX), 1);
}

/// Makes the kernel refuse to cut runs of this socket: without sums it cannot.
#[allow(unsafe_code, reason = "a socket option that rustix does not know")]
fn give_up_sums(socket: &UdpSocket) {
    use std::os::fd::AsRawFd;
    let (value, len) = (1_i32, 4);
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the option is an integer of the given length.
    let done = unsafe {
        libc::setsockopt(socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, (&raw const value).cast(), len)
    };
    assert_eq!(done, 0);
}

#[test]
fn a_run_that_the_kernel_refuses_to_cut_goes_one_by_one() {
    //= spec/leg-udp.md#refused-runs
    //= type=test
    //# Packets of a run that the kernel refuses to cut MUST be sent one by one.
    let (a, b, mut pool) = (socket(V4), socket(V4), ReceivePool::new());
    give_up_sums(&a);
    let run = octets(200 * 100 + 7);
    assert_eq!(a.send(b.local_address(), &run, 100), SendResult::Sent);
    assert_eq!(receive(&b, &mut pool, a.local_address(), 201), run.chunks(100).collect::<Vec<_>>());
    assert_eq!((a.counters().cutting_refused, a.segments_max(100)), (1, 1));
    assert_eq!(a.counters().sent_calls, 4, "64 datagrams in each call");
    assert_eq!(a.send(b.local_address(), &run, 100), SendResult::Sent);
    receive(&b, &mut pool, a.local_address(), 201);
    assert_eq!(a.counters().cutting_refused, 1, "the kernel is not asked again");
}

#[test]
fn a_datagram_that_is_too_long_is_reported_with_what_the_route_takes() {
    //= spec/leg-udp.md#too-long-packets
    //= type=test
    //# A packet that is longer than the route takes MUST be reported to the sender of the leg, with the length that the
    //# kernel's route takes when it is known.
    for ip in [V4, V6] {
        let (a, b, mut pool) = (socket(ip), socket(ip), ReceivePool::new());
        // Loopback's MTU is 65,536.
        let most = if ip == V4 { UDP_PAYLOAD_LEN_MAX } else { 65_536 - 48 };
        assert_eq!(a.payload_len_max(b.local_address()), Ok(most));
        let too_big = SendResult::TooBig { payload_len_max: Some(most) };
        assert_eq!(a.send(b.local_address(), &octets(most + 1), most + 1), too_big);
        assert_eq!(a.counters().dropped_too_big, 1);
        assert_eq!(a.send(b.local_address(), &octets(most), most), SendResult::Sent);
        assert_eq!(receive(&b, &mut pool, a.local_address(), 1), [octets(most)]);
    }
}

#[test]
fn a_refused_destination_costs_its_own_packets_only() {
    let a = socket(V4);
    let other_family = SocketAddr::new(V6, 9);
    assert!(matches!(a.send(other_family, &octets(3000), 1000), SendResult::Failed(_)));
    assert_eq!(a.counters().dropped_failed, 3);
    assert!(a.payload_len_max(other_family).is_ok(), "a route can be asked about all the same");
    // Nobody listens there; the answer of the kernel there must not fail the next call.
    let nobody = socket(V4).local_address();
    for _ in 0..3 {
        assert_eq!(a.send(nobody, &octets(10), 10), SendResult::Sent);
    }
    assert_eq!(a.for_each_datagram(&mut ReceivePool::new(), |_, _| {}), Taken::default());
    assert_eq!(a.counters().receive_failures, 0);
}

#[test]
fn full_sockets_are_told_apart_from_broken_ones() {
    //= spec/leg-udp.md#full-sockets
    //= type=test
    //# A packet that the kernel has no room for MUST be counted and dropped; sending MUST NOT wait for room.
    let a = socket(V4);
    for errno in [Errno::AGAIN, Errno::NOBUFS] {
        assert_eq!(a.drop_rest(a.local_address(), 3, errno), SendResult::WouldBlock);
    }
    assert_eq!(a.drop_rest(a.local_address(), 2, Errno::NETUNREACH), SendResult::Failed(Errno::NETUNREACH));
    assert_eq!((a.counters().dropped_full, a.counters().dropped_failed), (6, 2));
}

#[test]
fn one_turn_takes_a_bounded_number_of_runs() {
    //= spec/leg-udp.md#turns
    //= type=test
    //# A host MUST take a bounded number of runs from one socket before the others get their turn.
    let (a, b, mut pool) = (socket(V4), socket(V4), ReceivePool::new());
    let count = 3 * call::RUNS_MAX + 1;
    for number in 0..count {
        assert_eq!(a.send(b.local_address(), &[number as u8], 1), SendResult::Sent);
    }
    let mut seen = Vec::new();
    while seen.len() < count {
        assert!(is_readable(&b));
        let taken = b.for_each_datagram(&mut pool, |_, datagram| seen.push(datagram[0]));
        assert!(taken.datagrams <= call::RUNS_MAX);
        assert_eq!(taken.has_more, taken.datagrams == call::RUNS_MAX);
    }
    assert!(seen.iter().copied().eq(0..count as u8), "in the order in which they were sent");
}

#[test]
fn what_a_full_buffer_lost_is_known() {
    let (a, b, mut pool) = (socket(V4), socket(V4), ReceivePool::new());
    rustix::net::sockopt::set_socket_recv_buffer_size(&b, 4096).unwrap();
    for _ in 0..100 {
        assert_eq!(a.send(b.local_address(), &octets(1000), 1000), SendResult::Sent);
    }
    while b.counters().received_datagrams + u64::from(b.kernel_drops()) < 100 {
        assert!(is_readable(&b));
        b.for_each_datagram(&mut pool, |_, _| {});
    }
    assert!(b.kernel_drops() > 0 && b.counters().received_datagrams > 0);
    assert_eq!(b.counters().received_datagrams + u64::from(b.kernel_drops()), 100);
}

#[test]
fn an_address_that_is_taken_or_foreign_is_refused() {
    let a = socket(V4);
    let taken = UdpSocket::bind(a.local_address()).unwrap_err();
    assert_eq!(taken, BindError::Address { address: a.local_address(), errno: Errno::ADDRINUSE });
    let address = SocketAddr::from(([192, 0, 2, 1], 0));
    let foreign = UdpSocket::bind(address).unwrap_err();
    assert_eq!(foreign, BindError::Address { address, errno: Errno::ADDRNOTAVAIL });
}

#[test]
fn both_families_can_have_one_port() {
    let all = UdpSocket::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))).unwrap();
    UdpSocket::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, all.local_address().port()))).unwrap();
}

/// Two sockets with their fault stages, and what has arrived at the second.
struct Pair {
    a: FabricSocket<UdpSocket>,
    b: FabricSocket<UdpSocket>,
    pool: ReceivePool,
    arrived: VecDeque<Vec<u8>>,
}

impl Pair {
    fn new() -> Self {
        let [a, b] = [V4, V4].map(|ip| FabricSocket::new(socket(ip)));
        Self { a, b, pool: ReceivePool::new(), arrived: VecDeque::new() }
    }

    fn send(&mut self, now: Instant, run: &[u8], segment_len: usize) -> SendResult {
        let to = self.b.socket().local_address();
        self.a.send(now, to, &mut run.to_vec(), segment_len)
    }

    /// Takes `count` datagrams from the second socket.
    fn take(&mut self, now: Instant, count: usize) {
        let mut taken = 0;
        while taken < count {
            assert!(is_readable(&self.b), "{taken} of {count} datagrams came");
            let arrived = &mut self.arrived;
            let mut deliver = |_: SocketAddr, datagram: &mut [u8]| arrived.push_back(datagram.to_vec());
            taken += self.b.for_each_datagram(now, &mut self.pool, &mut deliver).datagrams;
        }
        assert_eq!(self.b.for_each_datagram(now, &mut self.pool, |_, _| {}), Taken::default());
    }
}

fn faults(text: &str) -> Faults {
    text.parse().unwrap()
}

#[test]
fn a_socket_has_no_stage_until_a_fault_is_asked_for() {
    //= spec/leg-udp.md#faults-by-seed
    //= type=test
    //# A socket MUST have no fault stage unless an operator or a test asked for a fault.
    let mut pair = Pair::new();
    pair.a.set_faults(7, Direction::Egress, Faults::NONE);
    assert_eq!(pair.a.faults(Direction::Egress), None);
    pair.a.set_faults(7, Direction::Egress, faults("loss=100%"));
    assert_eq!(pair.a.faults(Direction::Egress).unwrap().0, faults("loss=100%"));
    assert_eq!(pair.send(Instant::ZERO, &octets(40), 10), SendResult::Sent);
    assert_eq!(pair.a.faults(Direction::Egress).unwrap().1.lost, 4);
    pair.a.set_faults(7, Direction::Egress, Faults::NONE);
    assert_eq!(pair.a.faults(Direction::Egress), None);
    assert_eq!(pair.send(Instant::ZERO, &octets(20), 10), SendResult::Sent);
    pair.take(Instant::ZERO, 2);
    assert_eq!(pair.a.socket().counters().sent_calls, 1, "the four were lost before the socket");
}

#[test]
fn faults_on_the_way_out_and_in_meet_each_datagram_of_a_run() {
    let mut pair = Pair::new();
    let (now, later) = (Instant::ZERO, Instant::from_nanos(3_000_000));
    pair.a.set_faults(1, Direction::Egress, faults("delay=2ms"));
    pair.b.set_faults(2, Direction::Ingress, faults("duplicate=100%,delay=1ms"));
    let run = octets(25);
    assert_eq!(pair.send(now, &run, 10), SendResult::Sent);
    assert_eq!(pair.a.poll_timeout(), Some(now + Duration::from_millis(2)));
    pair.a.handle_timeout(now, |_, _| panic!("nothing comes in there"));
    assert_eq!(pair.a.socket().counters().sent_datagrams, 0);
    pair.a.handle_timeout(now + Duration::from_millis(2), |_, _| panic!("nothing comes in there"));
    assert_eq!((pair.a.socket().counters().sent_datagrams, pair.a.poll_timeout()), (3, None));
    pair.take(now + Duration::from_millis(2), 3);
    assert_eq!((pair.arrived.len(), pair.b.poll_timeout()), (0, Some(later)));
    let from = pair.a.socket().local_address();
    let arrived = &mut pair.arrived;
    pair.b.handle_timeout(later, |source, datagram| {
        assert_eq!(source, from);
        arrived.push_back(datagram.to_vec());
    });
    let twice: Vec<_> = run.chunks(10).flat_map(|datagram| [datagram, datagram]).collect();
    assert_eq!(pair.arrived, twice);
    pair.b.set_faults(2, Direction::Ingress, Faults::NONE);
    assert_eq!(pair.b.poll_timeout(), None);
}

#[test]
fn a_stage_goes_when_what_it_held_has_left() {
    let mut pair = Pair::new();
    pair.a.set_faults(1, Direction::Egress, faults("delay=1ms"));
    assert_eq!(pair.send(Instant::ZERO, &[1; 5], 5), SendResult::Sent);
    pair.a.set_faults(1, Direction::Egress, Faults::NONE);
    assert!(pair.a.faults(Direction::Egress).is_some(), "a datagram is held");
    pair.a.handle_timeout(Instant::from_nanos(1_000_000), |_, _| {});
    assert_eq!(pair.a.faults(Direction::Egress), None);
    pair.take(Instant::ZERO, 1);
}
