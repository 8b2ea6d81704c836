use alloc::vec;

use super::*;
use crate::wire::control::ServedService;

const CLIENT: [u8; 4] = [10, 1, 0, 9];
const CLUSTER: [u8; 4] = [10, 1, 0, 100];
const ACK: u8 = 16;

fn served() -> Served {
    let mut served = Served::new(1);
    let service = |protocol, port, is_kept| ServedService { protocol, port, is_kept };
    served.set_clusters(&[ServedCluster {
        addresses: vec![CLUSTER.into()],
        services: vec![
            service(Protocol::Tcp, 80, true),
            service(Protocol::Udp, 53, true),
            service(Protocol::Udp, 54, false),
        ],
    }]);
    served
}

/// A packet between two addresses and ports.
fn packet(from: ([u8; 4], u16), to: ([u8; 4], u16), protocol: Protocol, flags: u8) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol as u8, 0, 0]);
    frame.extend(from.0.iter().chain(&to.0));
    frame.extend(from.1.to_be_bytes().iter().chain(&to.1.to_be_bytes()));
    frame.extend([0; 16]);
    frame[34 + FLAGS_AT] = flags;
    frame
}

fn out(client_port: u16, flags: u8) -> Vec<u8> {
    packet((CLUSTER, 80), (CLIENT, client_port), Protocol::Tcp, flags)
}

fn back(client_port: u16, flags: u8) -> Vec<u8> {
    packet((CLIENT, client_port), (CLUSTER, 80), Protocol::Tcp, flags)
}

fn flow(client_port: u16) -> Flow {
    Flow { protocol: Protocol::Tcp, client: CLIENT.into(), client_port, address: CLUSTER.into(), port: 80 }
}

fn news(served: &mut Served) -> Vec<News> {
    core::iter::from_fn(|| served.poll_news()).collect()
}

fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * 1_000_000_000)
}

#[test]
fn a_flow_is_claimed_by_what_follows_its_beginning_and_given_up_at_its_end() {
    //= spec/cluster.md#whose-flow-it-is
    //= type=test
    //# The driver of a real server MUST claim a flow when its stack sends a segment of it that is neither SYN nor RST, or a datagram, and give it up when its stack resets it, 60 s after its end, or when it is idle.
    let mut served = served();
    // Nothing that a client sends makes one, nor the answer to a SYN, nor a refusal.
    for frame in [back(1000, ACK), back(1000, SYN), out(1000, SYN | ACK), out(1000, RST | ACK)] {
        served.handle_outgoing(at(1), &frame);
        served.handle_incoming(at(1), &frame);
    }
    assert!(news(&mut served).is_empty() && served.is_empty());
    // Both kinds of answers to a request, once.
    for _ in 0..2 {
        served.handle_outgoing(at(1), &out(1000, ACK));
    }
    assert_eq!(news(&mut served), [News::Claimed(flow(1000))]);
    // Reset by the server.
    served.handle_outgoing(at(1), &out(1002, ACK));
    served.handle_outgoing(at(1), &out(1002, RST));
    assert_eq!(news(&mut served), [News::Claimed(flow(1002)), News::Gone(flow(1002))]);
    // Ended: it stays as long as segments of it may come.
    served.handle_outgoing(at(2), &out(1000, FIN | ACK));
    served.handle_timeout(at(30));
    assert_eq!(served.len(), 1);
    served.handle_timeout(at(63));
    assert_eq!(news(&mut served), [News::Gone(flow(1000))]);
    assert_eq!(served.poll_timeout(), None);
}

#[test]
fn a_reset_that_anybody_may_have_sent_ends_no_flow_that_goes_on() {
    //= spec/cluster.md#resets-that-come
    //= type=test
    //# The driver of a real server MUST keep a flow for which a RST comes for 60 s where its sequence number is what the stack expects next, else for 15 min, and as ever when its stack sends a segment of it meanwhile.
    let mut served = served();
    (1000..1003).for_each(|port| served.handle_outgoing(at(1), &out(port, ACK)));
    served.handle_outgoing(at(1), &out(1002, FIN | ACK));
    news(&mut served);
    (1000..1003).for_each(|port| served.handle_incoming(at(2), &back(port, RST)));
    assert!(news(&mut served).is_empty());
    // One goes on, and one has ended before; who says it again does not make it last.
    served.handle_outgoing(at(3), &out(1000, ACK));
    served.handle_outgoing(at(3), &out(1002, ACK));
    served.handle_incoming(at(50), &back(1001, RST));
    served.handle_timeout(at(64));
    assert_eq!(news(&mut served), [News::Gone(flow(1001)), News::Gone(flow(1002))]);
    served.handle_timeout(at(4000));
    assert_eq!(served.flows(0..FLOWS_MAX).collect::<Vec<_>>(), [flow(1000)]);
    // One that does not know what the stack expects next may be a guess, until one comes that does.
    let mut guess = back(1000, RST);
    guess[14 + 20 + SEQUENCE_AT] = 1;
    served.handle_incoming(at(4001), &guess);
    served.handle_timeout(at(4900));
    assert!(news(&mut served).is_empty());
    served.handle_incoming(at(4900), &back(1000, RST));
    served.handle_incoming(at(4901), &guess);
    served.handle_timeout(at(4961));
    assert_eq!(news(&mut served), [News::Gone(flow(1000))]);
}

#[test]
fn only_flows_of_services_that_keep_them_are_claimed() {
    let mut served = served();
    let udp = |port| packet((CLUSTER, port), (CLIENT, 7), Protocol::Udp, 0);
    let other = packet(([10, 1, 0, 1], 80), (CLIENT, 7), Protocol::Tcp, ACK);
    for frame in [udp(53), udp(54), udp(55), other, vec![0; 20], vec![]] {
        served.handle_outgoing(at(1), &frame);
    }
    let told = news(&mut served);
    assert!(matches!(&told[..], [News::Claimed(Flow { port: 53, .. })]), "{told:?}");
    // A datagram is idle sooner than a connection.
    served.handle_outgoing(at(1), &out(1, ACK));
    served.handle_timeout(at(32));
    assert_eq!(served.flows(0..FLOWS_MAX).collect::<Vec<_>>(), [flow(1)]);
    // One that is served no more is given up.
    served.set_clusters(&[]);
    assert!(served.is_empty() && !served.is_any());
    assert_eq!(news(&mut served).last(), Some(&News::Gone(flow(1))));
}

#[test]
fn a_segment_for_the_owner_alone_is_for_the_owner() {
    //= spec/cluster.md#asked-servers
    //= type=test
    //# The driver of a real server MUST drop a segment that is for the owner of its flow alone, as `not-owner`, unless its stack owns the flow.
    let mut served = served();
    served.handle_outgoing(at(1), &out(7, ACK));
    assert!(served.may_have(&back(7, ACK)) && !served.may_have(&back(8, ACK)));
    // An error about a packet is for whoever sent that, and its stack knows.
    let mut error = back(8, ACK);
    error[23] = 1;
    assert!(served.may_have(&error));
}

#[test]
fn what_finds_no_room_is_counted_and_claimed_by_nobody() {
    let mut served = served();
    for client in 0..=FLOWS_MAX as u32 {
        let [_, a, b, c] = client.to_be_bytes();
        let frame = packet((CLUSTER, 80), ([11, a, b, c], 5), Protocol::Tcp, ACK);
        served.handle_outgoing(at(1), &frame);
    }
    assert_eq!((served.len(), served.unclaimed()), (FLOWS_MAX, 1));
}

#[test]
fn datagrams_leave_half_of_the_room_to_connections() {
    let mut served = served();
    let udp = |client: u32| {
        let [_, a, b, c] = client.to_be_bytes();
        packet((CLUSTER, 53), ([11, a, b, c], 5), Protocol::Udp, 0)
    };
    (0..FLOWS_MAX as u32).for_each(|client| served.handle_outgoing(at(1), &udp(client)));
    assert_eq!((served.len(), served.unclaimed()), (FLOWS_MAX / 2, FLOWS_MAX as u64 / 2));
    (0..100).for_each(|port| served.handle_outgoing(at(1), &out(port, ACK)));
    assert_eq!(served.len(), FLOWS_MAX / 2 + 100);
    // What goes makes room again.
    served.handle_timeout(at(32));
    served.handle_outgoing(at(33), &udp(7));
    assert_eq!(served.len(), 101);
}
