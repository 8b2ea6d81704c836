//! Checks of real services on the loopback.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};

use vlan_core::wire::control::CheckOrder;

use super::*;
use crate::agent::pump::clock;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn asked(address: IpAddr, port: u16, within_ms: u32, kind: CheckKind) -> AskedCheck {
    AskedCheck::of_test(CheckOrder { vif: VifNumber(1), id: 1, address, port, within_ms, kind })
}

fn http() -> CheckKind {
    CheckKind::Http { path: "/health".into() }
}

/// Makes a check as the pump does.
fn make(asked: AskedCheck) -> CheckResult {
    let (mut checks, mut poller) = (Checks::default(), Poller::new().unwrap());
    checks.begin(clock(), asked);
    let begin = |(number, to)| (number, connect(to));
    let connections = checks.take_waiting().into_iter().map(begin).collect();
    checks.handle_connecting(connections, &poller);
    loop {
        if let Some((_, result)) = checks.poll_done() {
            assert!(checks.poll_timeout().is_none());
            return result;
        }
        poller.wait(checks.poll_timeout()).unwrap();
        for index in 0..poller.ready_len() {
            let Some(Source::Check(number)) = poller.ready(index).map(|ready| ready.source) else { continue };
            checks.handle_ready(number, &poller);
        }
        checks.handle_timeout(clock(), &poller);
    }
}

/// A service that treats one connection so, and its port.
fn served(serve: impl FnOnce(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || serve(listener.accept().unwrap().0));
    port
}

fn answers(answer: &'static [u8]) -> u16 {
    served(move |mut connection| {
        let mut request = [0; 1024];
        let len = connection.read(&mut request).unwrap();
        assert!(request[..len].starts_with(b"GET /health HTTP/1.0\r\nHost: 127.0.0.1:"));
        connection.write_all(answer).unwrap();
    })
}

#[test]
fn a_connection_passes_a_tcp_check_and_a_good_status_an_http_check() {
    //= spec/cluster.md#checks
    //= type=test
    //# A check of kind `tcp` MUST be passed by a connection, and one of kind `http` by a status from 200 to 399 in answer to a GET of its path.
    let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(make(asked(LOOPBACK, port, 10_000, CheckKind::Tcp)), CheckResult::Passed);
    drop(listener);
    assert_eq!(make(asked(LOOPBACK, port, 10_000, CheckKind::Tcp)), CheckResult::Refused);
    assert_eq!(make(asked(LOOPBACK, port, 10_000, http())), CheckResult::Refused);
    let of = |answer| make(asked(LOOPBACK, answers(answer), 10_000, http()));
    assert_eq!(of(b"HTTP/1.0 200 OK\r\n\r\n"), CheckResult::Passed);
    assert_eq!(of(b"HTTP/1.1 399"), CheckResult::Passed);
    assert_eq!(
        of(b"HTTP/1.1 503 Service Unavailable\r\n\r\nmore than anybody looks at"),
        CheckResult::Status(503)
    );
    assert_eq!(of(b"HTTP/1.1 199 x"), CheckResult::Status(199));
    for bad in [&b""[..], b"HTTP/1.1 20", b"HTTP/1.1 2x0 OK", b"HTTP/2.0 200 OK", b"SSH-2.0-x\r\n"] {
        assert_eq!(of(bad), CheckResult::NotHttp, "{bad:?}");
    }
}

#[test]
fn who_says_nothing_in_time_fails_and_an_answer_may_come_in_parts() {
    let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(make(asked(LOOPBACK, port, 50, http())), CheckResult::Silent);
    let port = served(|mut connection| {
        let _ = connection.set_nodelay(true);
        b"HTTP/1.1 204 No".iter().for_each(|octet| connection.write_all(&[*octet]).unwrap());
        let _ = connection.read(&mut [0; 1024]);
    });
    assert_eq!(make(asked(LOOPBACK, port, 10_000, http())), CheckResult::Passed);
}

#[test]
fn an_address_that_is_not_here_is_not_asked_elsewhere() {
    //= spec/cluster.md#checks
    //= type=test
    //# A node MUST check a service only where its interface serves it, from inside the interface's namespace, with the cluster's address at both ends.
    let elsewhere = [192, 0, 2, 1].into();
    assert_eq!(make(asked(elsewhere, 80, 10_000, CheckKind::Tcp)), CheckResult::NotTried);
}

#[test]
fn too_many_checks_at_once_are_not_tried() {
    //= spec/cluster.md#checks
    //= type=test
    //# A node MUST make no more than 256 checks at once, of these no more than 128 of services that were silent when they were checked last, and say of others that they were not tried.
    let (mut checks, poller) = (Checks::default(), Poller::new().unwrap());
    for _ in 0..CHECKS_MAX + 3 {
        checks.begin(Instant::ZERO, asked(LOOPBACK, 80, 1000, CheckKind::Tcp));
    }
    let done =
        |checks: &mut Checks| std::iter::from_fn(|| checks.poll_done()).map(|(_, result)| result).collect();
    let refused: Vec<_> = done(&mut checks);
    assert_eq!(refused, [CheckResult::NotTried; 3]);
    checks.handle_timeout(Instant::ZERO + Duration::from_secs(1), &poller);
    let late: Vec<_> = done(&mut checks);
    assert_eq!(late, [CheckResult::Silent; CHECKS_MAX]);
    checks.begin(Instant::ZERO, asked(LOOPBACK, 80, 1000, CheckKind::Tcp));
    assert!(checks.poll_done().is_none());
}

#[test]
fn services_that_hang_leave_room_for_those_that_answer() {
    let (mut checks, poller) = (Checks::default(), Poller::new().unwrap());
    let hanging = 1000..1000 + CHECKS_MAX as u16;
    let begin = |checks: &mut Checks, now: Instant, port: u16| {
        checks.begin(now, asked(LOOPBACK, port, 1000, CheckKind::Tcp));
        checks.poll_done().is_none()
    };
    // The first time nobody knows.
    assert!(hanging.clone().all(|port| begin(&mut checks, Instant::ZERO, port)));
    assert!(!begin(&mut checks, Instant::ZERO, 80));
    let later = Instant::ZERO + Duration::from_secs(1);
    checks.handle_timeout(later, &poller);
    while checks.poll_done().is_some() {}
    let begun = hanging.clone().filter(|port| begin(&mut checks, later, *port)).count();
    assert_eq!(begun, SILENT_CHECKS_MAX);
    assert!((80..80 + (CHECKS_MAX - SILENT_CHECKS_MAX) as u16).all(|port| begin(&mut checks, later, port)));
    // One that answers again counts among those that do.
    checks.handle_timeout(later + Duration::from_secs(1), &poller);
    while checks.poll_done().is_some() {}
    let refused = (1, Err(io::Error::from(io::ErrorKind::ConnectionRefused)));
    let answered = hanging.start;
    assert!(
        begin(&mut checks, later, answered) && checks.silent.contains(&(VifNumber(1), LOOPBACK, answered))
    );
    checks.handle_connecting(vec![(checks.last, refused.1)], &poller);
    assert!(!checks.silent.contains(&(VifNumber(1), LOOPBACK, answered)));
}
