//! Checks of services that this node serves at cluster addresses: one connection each, in the pump's own loop.
//!
//! The thread of the devices begins connections, since it is in the namespace; they go on and end here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use vlan_core::cluster::{CheckKind, CheckResult};
use vlan_core::{Instant, VifNumber};

use crate::agent::poller::{Poller, Source};
use crate::node::AskedCheck;

/// Checks at once.
const CHECKS_MAX: usize = 256;
/// Of these, checks of services that were silent when they were checked last.
const SILENT_CHECKS_MAX: usize = 128;
/// Services that are known to have been silent: more than a node has in 64 LANs of 16 clusters. Beyond that all are forgotten.
const SILENT_SERVICES_MAX: usize = 65_536;
/// Octets of an answer that are looked at.
const STATUS_LINE_MAX: usize = 16;

/// What is checked: an interface, and an address and a port there.
type Service = (VifNumber, IpAddr, u16);

/// One check.
struct Check {
    asked: AskedCheck,
    until: Instant,
    /// Its service was silent when it was checked last.
    was_silent: bool,
    /// None until it has begun.
    connection: Option<OwnedFd>,
    /// It is connected, and the request has been sent.
    has_asked: bool,
    /// What has been answered so far.
    answer: Vec<u8>,
}

/// The checks that are being made.
#[derive(Default)]
pub(super) struct Checks {
    by_number: BTreeMap<u32, Check>,
    last: u32,
    /// Those that have no connection yet.
    waiting: Vec<(u32, SocketAddr)>,
    done: VecDeque<(AskedCheck, CheckResult)>,
    /// Services that were silent when they were checked last.
    silent: BTreeSet<Service>,
}

impl Checks {
    /// Makes a check.
    //= spec/cluster.md#checks
    //# A node MUST make no more than 256 checks at once, of these no more than 128 of services that were silent when they were checked last, and say of others that they were not tried.
    pub fn begin(&mut self, now: Instant, asked: AskedCheck) {
        let was_silent = self.silent.contains(&service_of(&asked));
        let of_silent = || self.by_number.values().filter(|check| check.was_silent).count();
        if self.by_number.len() >= CHECKS_MAX || was_silent && of_silent() >= SILENT_CHECKS_MAX {
            return self.done.push_back((asked, CheckResult::NotTried));
        }
        self.last = self.last.wrapping_add(1);
        let order = &asked.order;
        self.waiting.push((self.last, (order.address, order.port).into()));
        let until = now + Duration::from_millis(order.within_ms.into());
        let (connection, has_asked, answer) = (None, false, Vec::new());
        let check = Check { asked, until, was_silent, connection, has_asked, answer };
        self.by_number.insert(self.last, check);
    }

    /// The checks that wait for a connection.
    pub fn take_waiting(&mut self) -> Vec<(u32, SocketAddr)> {
        std::mem::take(&mut self.waiting)
    }

    /// Connections have begun. Those of checks that are over are closed.
    pub fn handle_connecting(&mut self, connections: Vec<(u32, io::Result<OwnedFd>)>, poller: &Poller) {
        for (number, connection) in connections {
            let Some(check) = self.by_number.get_mut(&number) else { continue };
            let watched = connection.and_then(|connection| {
                poller.add_for_room(connection.as_fd(), Source::Check(number))?;
                Ok(connection)
            });
            match watched {
                Ok(connection) => check.connection = Some(connection),
                Err(error) => self.end(number, of_error(&error), poller),
            }
        }
    }

    /// The connection of a check has room, or an answer, or has ended.
    pub fn handle_ready(&mut self, number: u32, poller: &Poller) {
        let Some(check) = self.by_number.get_mut(&number) else { return };
        match check.proceed(number, poller) {
            Ok(None) => {}
            Ok(Some(result)) => self.end(number, result, poller),
            Err(error) => self.end(number, of_error(&error), poller),
        }
    }

    /// When [`Self::handle_timeout`] is wanted next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.by_number.values().map(|check| check.until).min()
    }

    /// Ends what has taken too long.
    pub fn handle_timeout(&mut self, now: Instant, poller: &Poller) {
        while let Some((&number, _)) = self.by_number.iter().find(|(_, check)| check.until <= now) {
            self.end(number, CheckResult::Silent, poller);
        }
    }

    /// The next check that is done.
    pub fn poll_done(&mut self) -> Option<(AskedCheck, CheckResult)> {
        self.done.pop_front()
    }

    fn note_silence(&mut self, service: Service, is_silent: bool) {
        if !is_silent {
            self.silent.remove(&service);
            return;
        }
        if self.silent.len() >= SILENT_SERVICES_MAX {
            self.silent.clear();
        }
        self.silent.insert(service);
    }

    fn end(&mut self, number: u32, result: CheckResult, poller: &Poller) {
        let Some(check) = self.by_number.remove(&number) else { return };
        if let Some(connection) = &check.connection {
            poller.remove(connection.as_fd());
        }
        self.note_silence(service_of(&check.asked), result == CheckResult::Silent);
        self.done.push_back((check.asked, result));
    }
}

fn service_of(asked: &AskedCheck) -> Service {
    (asked.order.vif, asked.order.address, asked.order.port)
}

impl Check {
    /// Does the next step; gives what came of the check once that is known.
    //= spec/cluster.md#checks
    //# A check of kind `tcp` MUST be passed by a connection, and one of kind `http` by a status from 200 to 399 in answer to a GET of its path.
    fn proceed(&mut self, number: u32, poller: &Poller) -> io::Result<Option<CheckResult>> {
        let Some(connection) = &self.connection else { return Ok(None) };
        if self.has_asked {
            return read_status(connection, &mut self.answer);
        }
        sockopt::socket_error(connection)??;
        let CheckKind::Http { path } = &self.asked.order.kind else { return Ok(Some(CheckResult::Passed)) };
        let host: SocketAddr = (self.asked.order.address, self.asked.order.port).into();
        let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
        // A new connection has room for some hundred octets.
        let sent = rustix::net::send(connection, request.as_bytes(), SendFlags::NOSIGNAL)?;
        if sent < request.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        poller.listen(connection.as_fd(), Source::Check(number), true)?;
        self.has_asked = true;
        Ok(None)
    }
}

/// Reads what there is of a status line into `answer`; what it says, once that is known.
fn read_status(connection: &OwnedFd, answer: &mut Vec<u8>) -> io::Result<Option<CheckResult>> {
    let mut octets = [0; STATUS_LINE_MAX];
    loop {
        let room = STATUS_LINE_MAX - answer.len();
        let (read, _) = match rustix::net::recv(connection, &mut octets[..room], RecvFlags::empty()) {
            Err(Errno::AGAIN) => return Ok(None),
            read => read?,
        };
        answer.extend(&octets[..read]);
        if let Some(result) = of_answer(answer) {
            return Ok(Some(result));
        }
        if read == 0 {
            return Ok(Some(CheckResult::NotHttp));
        }
    }
}

/// What the beginning of an answer says; none as long as it may become a status line (RFC 9112, 4).
fn of_answer(answer: &[u8]) -> Option<CheckResult> {
    const PATTERN: &[u8; 12] = b"HTTP/1.d ddd";
    let fits = |(octet, wanted): (&u8, &u8)| match wanted {
        b'd' => octet.is_ascii_digit(),
        _ => octet == wanted,
    };
    if !answer.iter().zip(PATTERN).all(fits) {
        return Some(CheckResult::NotHttp);
    }
    let digits = answer.get(9..12)?;
    let status = digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    Some(if (200..400).contains(&status) { CheckResult::Passed } else { CheckResult::Status(status) })
}

fn of_error(error: &io::Error) -> CheckResult {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            CheckResult::Refused
        }
        io::ErrorKind::TimedOut => CheckResult::Silent,
        _ => CheckResult::NotTried,
    }
}

/// Begins a connection from an address to itself, in the namespace of the calling thread.
///
/// # Errors
/// What the system says: the address is not there, or nothing listens.
//= spec/cluster.md#checks
//# A node MUST check a service only where its interface serves it, from inside the interface's namespace, with the cluster's address at both ends.
pub(super) fn connect(to: SocketAddr) -> io::Result<OwnedFd> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // It ends by a reset: a port of this address would else be taken for a minute after each check.
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    rustix::net::bind(&socket, &SocketAddr::new(to.ip(), 0))?;
    match rustix::net::connect(&socket, &to) {
        // The port that the kernel gave may be the service's own, where nothing listens: that is a connection with itself.
        Ok(()) | Err(Errno::INPROGRESS) if own_port(&socket)? == to.port() => Err(Errno::CONNREFUSED.into()),
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

fn own_port(socket: &OwnedFd) -> io::Result<u16> {
    let address = SocketAddr::try_from(rustix::net::getsockname(socket)?)?;
    Ok(address.port())
}

#[cfg(test)]
mod tests;
